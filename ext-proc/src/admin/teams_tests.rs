use axum::http::Method;
use serde_json::{Value, json};

use super::super::tests::{Answer, MASTER, World};
use crate::config::Config;
use crate::entity::{Entity, EntityKind, EntityRef, member_id};
use crate::ledger::row_tests::config;

async fn ok(answer: Answer) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

/// A team `search` with an admin `boss`, a member `ann`, and a key of `ann`'s in it.
async fn team(world: &World) -> Value {
    let made = world.post(
        "/team/new",
        json!({"team_id": "search", "team_alias": "Search", "models": ["chat"],
        "max_budget": 0.1, "rpm_limit": 7, "model_aliases": {"fast": "chat"}, "team_member_budget": 2,
        "members_with_roles": [{"user_id": "boss", "role": "admin"},
            {"user_email": "Ann@Example.org", "role": "user"}]}),
    );
    ok(made.await).await
}

fn ann(made: &Value) -> String {
    let members = made["members_with_roles"].as_array().unwrap();
    let ann = members.iter().find(|member| member["user_email"] == "ann@example.org").unwrap();
    ann["user_id"].as_str().unwrap().to_owned()
}

fn key(world: &World, id: &str, team: Option<&str>, user: Option<&str>) -> EntityRef {
    let mut key = Entity::new(EntityKind::Key, id);
    (key.team_id, key.user_id) = (team.map(str::to_owned), user.map(str::to_owned));
    world.directory.put(key).reference()
}

fn exists(world: &World, of: &EntityRef) -> bool {
    world.directory.all.lock().contains_key(of)
}

#[tokio::test]
async fn a_team_begins_with_its_members_and_is_described() {
    let world = World::new();
    let made = team(&world).await;
    assert_eq!((&made["team_id"], &made["team_alias"]), (&json!("search"), &json!("Search")));
    assert_eq!(made["members_with_roles"].as_array().unwrap().len(), 2);
    assert_eq!(made["admins"], json!(["boss"]), "the master key is no member");
    let ann = ann(&made);
    let user = world.directory.all.lock()[&EntityRef::new(EntityKind::User, ann.as_str())].clone();
    assert_eq!(user.settings.role.as_deref(), Some("internal_user_viewer"), "unknown people may only look");

    key(&world, "k1", Some("search"), Some(&ann));
    let answer = world.get("/team/info?team_id=search", MASTER).await;
    assert!(answer.text.contains(r#""max_budget":0.1,"#), "{}", answer.text);
    let info = answer.json();
    assert_eq!(info["team_info"]["models"], json!(["chat"]));
    assert_eq!(info["team_info"]["litellm_model_table"]["model_aliases"], json!({"fast": "chat"}));
    assert_eq!((&info["team_info"]["rpm_limit"], &info["keys_total"]), (&json!(7), &json!(1)));
    assert_eq!((&info["keys"][0]["token"], &info["keys"][0]["user_id"]), (&json!("k1"), &json!(ann)));
    assert_eq!(info["team_memberships"].as_array().unwrap().len(), 2);

    let again = world.post("/team/new", json!({"team_id": "search"})).await;
    assert_eq!(again.error(), (400, "invalid_request_error".to_owned(), Some("team_id".to_owned())));
    for (path, body, param) in [
        ("/team/new", json!({"organization_id": "nowhere"}), "organization_id"),
        ("/team/new", json!({"budget_id": "nothing"}), "budget_id"),
        ("/team/update", json!({"team_id": "nobody", "tpm_limit": 1}), "team_id"),
        ("/team/block", json!({"team_id": "nobody"}), "team_id"),
        ("/team/delete", json!({"team_ids": ["search", "nobody"]}), "team_ids"),
        ("/team/member_add", json!({"team_id": "nobody", "member": {"user_id": "x"}}), "team_id"),
        ("/team/member_delete", json!({"team_id": "search", "user_id": "nobody"}), "user_id"),
        ("/team/member_update", json!({"team_id": "search", "user_email": "no@b.dy"}), "user_email"),
    ] {
        let answer = world.post(path, body).await;
        assert_eq!((answer.error().0, answer.error().2.as_deref()), (404, Some(param)), "{path}");
        assert!(answer.text.contains("nowhere") || answer.text.contains("no"), "{}", answer.text);
    }
    assert_eq!(world.get("/team/info?team_id=nobody", MASTER).await.error().0, 404);
    assert!(exists(&world, &EntityRef::new(EntityKind::Team, "search")), "nothing was deleted");
}

#[tokio::test]
async fn a_team_changes_field_by_field() {
    let world = World::new();
    team(&world).await;
    let body = json!({"team_id": "search", "rpm_limit": null, "tpm_limit": 9, "max_budget": 1.5});
    let changed = ok(world.post("/team/update", body).await).await;
    assert_eq!(changed["team_id"], "search");
    assert_eq!((&changed["data"]["rpm_limit"], &changed["data"]["tpm_limit"]), (&Value::Null, &json!(9)));
    assert_eq!(
        (&changed["data"]["team_alias"], &changed["data"]["max_budget"]),
        (&json!("Search"), &json!(1.5))
    );
    let patched = world.call(Method::PATCH, "/team/search", MASTER, r#"{"team_alias":"Find"}"#).await;
    assert_eq!(ok(patched).await["team_alias"], "Find");
    let other = world.call(Method::PATCH, "/team/search", MASTER, r#"{"team_id":"x"}"#).await;
    assert_eq!(other.error().2.as_deref(), Some("team_id"));

    let blocked = ok(world.post("/team/block", json!({"team_id": "search"})).await).await;
    assert_eq!(blocked["blocked"], true);
    assert_eq!(ok(world.post("/team/unblock", json!({"team_id": "search"})).await).await["blocked"], false);

    let models = |path: &'static str, list: Value| {
        let world = &world;
        async move {
            ok(world.post(path, json!({"team_id": "search", "models": list})).await).await["models"].clone()
        }
    };
    assert_eq!(models("/team/model/add", json!(["fast", "chat"])).await, json!(["chat", "fast"]));
    assert_eq!(models("/team/model/delete", json!(["chat", "fast"])).await, json!(["no-default-models"]));
    assert_eq!(models("/team/model/add", json!(["fast"])).await, json!(["fast"]));

    let body = json!({"team_id": "search", "team_member_permissions": ["/key/info"]});
    let kept = ok(world.post("/team/permissions_update", body).await).await;
    assert_eq!(kept["team_member_permissions"], json!(["/key/info"]));
    let shown = ok(world.get("/team/permissions_list?team_id=search", MASTER).await).await;
    assert_eq!(shown["team_member_permissions"], json!(["/key/info"]));
    let wrong = world.post("/team/update", json!({"team_id": "search", "max_budget": "much"})).await;
    assert_eq!((wrong.error().0, wrong.error().2.as_deref()), (422, Some("max_budget")));
    let reset = ok(world.post("/team/search/reset_spend", json!({"reset_to": 0.25})).await).await;
    assert_eq!(reset["spend_nanos"], 250_000_000);
}

#[tokio::test]
async fn keys_and_memberships_go_with_their_team_in_one_transaction() {
    let world = World::new();
    let ann = ann(&team(&world).await);
    let (mine, other) = (key(&world, "k1", Some("search"), None), key(&world, "k2", None, Some(&ann)));
    let rows = world.directory.audit.lock().len();
    let gone = ok(world.post("/team/delete", json!({"team_ids": ["search"]})).await).await;
    assert_eq!(gone, json!({"deleted_teams": ["search"], "deleted_keys": 1, "deleted_memberships": 2}));
    assert!(!exists(&world, &mine) && exists(&world, &other));
    assert!(!exists(&world, &EntityRef::new(EntityKind::Member, member_id("search", &ann))));
    assert!(exists(&world, &EntityRef::new(EntityKind::User, ann)), "people stay");
    let audit = world.directory.audit.lock();
    let new: Vec<_> = audit[..audit.len() - rows].iter().map(|row| row.author.action.as_str()).collect();
    assert_eq!(new, ["/team/delete"; 4], "a key, two members and the team");
}

#[tokio::test]
async fn members_come_change_and_go() {
    let world = World::new();
    let first = ann(&team(&world).await);
    let body = json!({"team_id": "search", "member": [{"user_email": "ANN@example.org", "role": "user"}]});
    let twice = world.post("/team/member_add", body).await;
    assert_eq!((twice.error().0, twice.error().1.as_str()), (400, "team_member_already_in_team"));
    let body = json!({"team_id": "search", "member": {"user_id": "carl", "role": "user"}, "max_budget_in_team": 0.5,
        "budget_duration": "1d", "allowed_models": ["chat"]});
    let added = ok(world.post("/team/member_add", body).await).await;
    assert_eq!(added["updated_users"][0]["user_id"], "carl");
    assert_eq!(added["updated_team_memberships"][0]["litellm_budget_table"]["max_budget"], 0.5);
    assert_eq!(added["members_with_roles"].as_array().unwrap().len(), 3);

    let of = EntityRef::new(EntityKind::Member, member_id("search", "carl"));
    let stored = world.directory.all.lock()[&of].clone();
    assert_eq!(stored.settings.models, ["chat"]);
    assert_eq!(stored.settings.budget_duration.as_deref(), Some("1d"));

    let body = json!({"team_id": "search", "user_id": "carl", "role": "admin", "max_budget_in_team": 2, "rpm_limit": 3});
    let changed = ok(world.post("/team/member_update", body).await).await;
    assert_eq!((&changed["max_budget_in_team"], &changed["rpm_limit"]), (&json!(2.0), &json!(3)));
    assert_eq!((&changed["role"], &changed["allowed_models"]), (&json!("admin"), &json!(["chat"])));

    let reset = ok(world.post("/team/search/member/carl/reset_spend", json!({})).await).await;
    assert_eq!(reset["spend"], 0.0);
    let (in_team, elsewhere) =
        (key(&world, "k1", Some("search"), Some("carl")), key(&world, "k2", None, Some("carl")));
    let gone = world.post("/team/member_delete", json!({"team_id": "search", "user_id": "carl"})).await;
    assert_eq!(ok(gone).await["deleted_keys"], json!(["k1"]));
    assert!(!exists(&world, &of) && !exists(&world, &in_team) && exists(&world, &elsewhere));

    let body = json!({"team_id": "search", "members": [{"user_id": "dora"}, {"user_id": first}]});
    let bulk = ok(world.post("/team/bulk_member_add", body).await).await;
    assert_eq!((&bulk["successful_additions"], &bulk["failed_additions"]), (&json!(1), &json!(1)));
    let bulk =
        ok(world.post("/team/bulk_member_add", json!({"team_id": "search", "all_users": true})).await).await;
    assert_eq!(bulk["successful_additions"], 1, "carl is a user still");
    for (body, param) in [
        (json!({"team_id": "search"}), "member"),
        (json!({"team_id": "search", "member": {"role": "user"}}), "user_id"),
        (json!({"team_id": "search", "member": {"user_id": "x", "role": "king"}}), "role"),
        (json!({"team_id": "search", "member": {"user_id": "a\u{1f}b"}}), "user_id"),
        (json!({"member": {"user_id": "x"}}), "team_id"),
    ] {
        assert_eq!(world.post("/team/member_add", body).await.error().2.as_deref(), Some(param));
    }
}

#[tokio::test]
async fn lists_have_pages_totals_and_members() {
    let world = World::new();
    for number in 0..5 {
        let body = json!({"team_id": format!("t{number}"), "team_alias": format!("Team {number}")});
        ok(world.post("/team/new", body).await).await;
    }
    let body = json!({"team_id": "t3", "member": {"user_id": "ann"}});
    ok(world.post("/team/member_add", body).await).await;
    let page =
        ok(world.get("/v2/team/list?page=2&page_size=2&sort_by=team_id&sort_order=asc", MASTER).await).await;
    let ids: Vec<_> = page["teams"].as_array().unwrap().iter().map(|team| team["team_id"].clone()).collect();
    assert_eq!(ids, ["t2", "t3"]);
    assert_eq!(page["teams"][1]["members"], json!(["ann"]));
    assert_eq!((&page["total"], &page["total_pages"], &page["page"]), (&json!(5), &json!(3), &json!(2)));
    let of_ann = ok(world.get("/team/list?user_id=ann", MASTER).await).await;
    assert_eq!((of_ann.as_array().unwrap().len(), &of_ann[0]["team_id"]), (1, &json!("t3")));
    let named = ok(world.get("/v2/team/list?team_alias=Team%204", MASTER).await).await;
    assert_eq!(named["total"], 1);
    for query in ["page=0", "page_size=101", "sort_by=x", "nonsense=1"] {
        assert_eq!(world.get(&format!("/v2/team/list?{query}"), MASTER).await.error().0, 400, "{query}");
    }
}

#[tokio::test]
async fn a_teams_admin_manages_it_but_lifts_no_limit() {
    let world = World::new();
    let boss = world.user("boss", "internal_user");
    let stranger = world.user("stranger", "internal_user");
    team(&world).await;
    ok(world.post("/team/new", json!({"team_id": "other"})).await).await;
    let call = async |key: &str, path: &str, body: Value| {
        world.call(Method::POST, path, key, body.to_string()).await
    };
    let add = |user: &str| json!({"team_id": "search", "member": {"user_id": user, "role": "user"}});
    ok(call(&boss, "/team/member_add", add("dora")).await).await;
    assert_eq!(call(&stranger, "/team/member_add", add("eve")).await.error().0, 403);
    let elsewhere = json!({"team_id": "other", "member": {"user_id": "eve"}});
    assert_eq!(call(&boss, "/team/member_add", elsewhere).await.error().0, 403);

    let name = json!({"team_id": "search", "team_alias": "Seekers", "team_member_budget": 1});
    ok(call(&boss, "/team/update", name).await).await;
    for body in [
        json!({"max_budget": 100}),
        json!({"rpm_limit": null}),
        json!({"models": []}),
        json!({"metadata": {"model_rpm_limit": {"chat": 1_000}}}),
        json!({"metadata": {"temp_budget_increase": 1_000, "temp_budget_expiry": "2030-01-01"}}),
        json!({"blocked": true}),
        json!({"budget_id": null, "tags": ["x"]}),
    ] {
        let mut body = body;
        body["team_id"] = json!("search");
        assert_eq!(call(&boss, "/team/update", body.clone()).await.error().0, 403, "{body}");
    }
    let stored = world.directory.all.lock()[&EntityRef::new(EntityKind::Team, "search")].clone();
    assert_eq!((stored.settings.rpm_limit, stored.alias.as_deref()), (Some(7), Some("Seekers")));
    for (path, body) in [
        ("/team/delete", json!({"team_ids": ["search"]})),
        ("/team/block", json!({"team_id": "search"})),
        ("/team/model/add", json!({"team_id": "search", "models": ["backup"]})),
        ("/team/new", json!({"team_id": "mine"})),
        ("/team/search/member/boss/reset_spend", json!({})),
        ("/user/delete", json!({"user_ids": ["stranger"]})),
    ] {
        assert_eq!(call(&boss, path, body).await.error().0, 403, "{path}");
    }

    assert_eq!(world.get("/team/info?team_id=search", &boss).await.status, 200);
    assert_eq!(world.get("/team/info?team_id=other", &boss).await.error().0, 403);
    assert_eq!(world.get("/team/info?team_id=nowhere", &boss).await.error().0, 403, "nothing is told");
    let mine = ok(world.get("/team/list", &boss).await).await;
    assert_eq!((mine.as_array().unwrap().len(), &mine[0]["team_id"]), (1, &json!("search")));
    assert_eq!(ok(world.get("/v2/team/list", &stranger).await).await["total"], 0);
    let viewer = world.user("watch", "proxy_admin_viewer");
    assert_eq!(ok(world.get("/v2/team/list", &viewer).await).await["total"], 2);
    assert_eq!(call(&viewer, "/team/member_add", add("x")).await.error().0, 403);
}

#[tokio::test]
async fn who_makes_a_team_administers_it() {
    let world = World::new();
    let root = world.user("root", "proxy_admin");
    let made = world.call(Method::POST, "/team/new", &root, r#"{"team_id":"mine"}"#).await;
    assert_eq!(ok(made).await["admins"], json!(["root"]));
}

#[tokio::test]
async fn a_database_that_is_away_is_a_503() {
    let world = World::new();
    team(&world).await;
    world.directory.away.store(true, std::sync::atomic::Ordering::SeqCst);
    let answer = world.post("/team/update", json!({"team_id": "search", "rpm_limit": 1})).await;
    assert_eq!(answer.error().0, 503);
    assert!(!answer.text.contains("double"), "{}", answer.text);
}

#[tokio::test]
async fn the_configuration_says_what_a_new_team_is_and_who_administers_it() {
    let with = |disabled| {
        let mut settings = Config::default();
        let params = json!({"max_budget": 7, "budget_duration": "1mo", "models": ["chat"]});
        settings.litellm_settings.default_team_params = params.as_object().unwrap().clone();
        settings.general_settings.disable_auto_add_proxy_admin_to_teams = disabled;
        World::with(config(), settings)
    };
    for (disabled, admins) in [(false, json!(["root"])), (true, json!([]))] {
        let world = with(disabled);
        let root = world.user("root", "proxy_admin");
        let body = json!({"team_id": "t", "max_budget": 9}).to_string();
        let made = ok(world.call(Method::POST, "/team/new", &root, body).await).await;
        assert_eq!((&made["max_budget"], &made["budget_duration"]), (&json!(9.0), &json!("1mo")));
        assert_eq!((&made["models"], &made["admins"]), (&json!(["chat"]), &admins));
    }
}

#[tokio::test]
async fn a_team_that_is_open_can_be_joined_by_oneself_as_a_user() {
    let mut settings = Config::default();
    let params = json!({"available_teams": ["open", "gone"]});
    settings.litellm_settings.default_internal_user_params = params.as_object().unwrap().clone();
    let world = World::with(config(), settings);
    let ann = world.user("ann", "internal_user");
    world.user("bob", "internal_user");
    for team in ["open", "closed"] {
        world.post("/team/new", json!({"team_id": team, "team_alias": team, "max_budget": 5})).await;
    }
    let available = ok(world.get("/team/available", &ann).await).await;
    assert_eq!(
        available,
        json!([{"team_id": "open", "team_alias": "open", "description": null, "models": []}])
    );
    for body in [
        json!({"team_id": "closed", "member": {"user_id": "ann"}}),
        json!({"team_id": "open", "member": {"user_id": "bob"}}),
        json!({"team_id": "open", "member": [{"user_id": "ann"}, {"user_id": "bob"}]}),
        json!({"team_id": "open", "member": {"user_id": "ann", "role": "admin"}}),
        json!({"team_id": "open", "member": {"user_email": "ann@example.org"}}),
        json!({"team_id": "open", "member": {"user_id": "ann"}, "max_budget_in_team": 1000}),
    ] {
        let refused = world.call(Method::POST, "/team/member_add", &ann, body.to_string()).await;
        assert_eq!(refused.error().0, 403, "{body}");
    }
    let join = json!({"team_id": "open", "member": {"user_id": "ann", "role": "user"}}).to_string();
    ok(world.call(Method::POST, "/team/member_add", &ann, join).await).await;
    assert_eq!(ok(world.get("/team/available", &ann).await).await, json!([]), "she is in it");
}
