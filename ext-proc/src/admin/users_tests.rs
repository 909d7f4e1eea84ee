use axum::http::Method;
use serde_json::{Value, json};

use super::super::tests::{Answer, MASTER, World};
use crate::config::Config;
use crate::entity::{Entity, EntityKind, EntityRef, member_id};
use crate::keys::hash;
use crate::ledger::row_tests::config;

async fn ok(answer: Answer) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

fn stored(world: &World, id: &str) -> Entity {
    world.directory.all.lock()[&EntityRef::new(EntityKind::User, id)].clone()
}

#[tokio::test]
async fn a_user_comes_with_a_key_and_teams() {
    let world = World::new();
    for team in ["a", "b"] {
        ok(world.post("/team/new", json!({"team_id": team})).await).await;
    }
    let body = json!({"user_id": "ann", "user_email": "Ann@Example.org", "user_alias": "Ann", "max_budget": 0.3,
        "teams": ["a", {"team_id": "b", "user_role": "admin", "max_budget_in_team": 1}], "duration": "30d",
        "key_alias": "ann-first"});
    let answer = world.post("/user/new", body).await;
    let made = ok(answer).await;
    let key = made["key"].as_str().unwrap();
    assert_eq!((&made["token"], &made["key_alias"]), (&json!(hash(key)), &json!("ann-first")));
    assert_eq!(
        (&made["user_role"], &made["user_email"]),
        (&json!("internal_user"), &json!("ann@example.org"))
    );
    assert_eq!((&made["teams"], &made["max_budget"]), (&json!(["a", "b"]), &json!(0.3)));
    assert!(made["expires"].is_string());

    let own = world.get("/user/info", key).await;
    assert!(!own.text.contains(key), "the plain key is shown once");
    let own = ok(own).await;
    assert_eq!((&own["user_id"], &own["user_info"]["teams"]), (&json!("ann"), &json!(["a", "b"])));
    assert_eq!((&own["keys_total"], &own["keys"][0]["key_alias"]), (&json!(1), &json!("ann-first")));
    assert_eq!(own["teams"].as_array().unwrap().len(), 2);
    assert_eq!(ok(world.get("/v2/user/info?user_id=ann", MASTER).await).await["user_alias"], "Ann");
    let team = ok(world.get("/team/info?team_id=b", MASTER).await).await;
    assert_eq!(team["team_memberships"][0]["litellm_budget_table"]["max_budget"], 1.0);

    let bare = ok(world.post("/user/new", json!({"auto_create_key": false})).await).await;
    assert!(bare.get("key").is_none() && bare["user_id"].as_str().unwrap().len() == 36, "{bare}");
    for (body, status, param) in [
        (json!({"user_id": "ann"}), 400, "user_id"),
        (json!({"user_email": "ANN@example.org"}), 400, "user_email"),
        (json!({"user_role": "king"}), 400, "user_role"),
        (json!({"teams": ["nowhere"]}), 404, "teams"),
        (json!({"organizations": ["nowhere"]}), 404, "organizations"),
        (json!({"budget_id": "nothing"}), 404, "budget_id"),
        (json!({"key_alias": "ann-first"}), 400, "key_alias"),
    ] {
        let count = world.directory.all.lock().len();
        let answer = world.post("/user/new", body.clone()).await;
        assert_eq!((answer.error().0, answer.error().2.as_deref()), (status, Some(param)), "{body}");
        assert_eq!(world.directory.all.lock().len(), count, "nothing is half done");
    }
}

#[tokio::test]
async fn users_are_changed_by_id_or_address() {
    let world = World::new();
    ok(world.post("/user/new", json!({"user_id": "ann", "user_email": "ann@x.org"})).await).await;
    ok(world.post("/user/new", json!({"user_id": "ben", "user_email": "ben@x.org"})).await).await;
    let body =
        json!({"user_email": "Ann@x.org", "rpm_limit": 5, "user_role": "internal_user_viewer", "spend": 1.5});
    let changed = ok(world.post("/user/update", body).await).await;
    assert_eq!((&changed["user_id"], &changed["data"]["rpm_limit"]), (&json!("ann"), &json!(5)));
    assert_eq!(changed["data"]["spend_nanos"], 1_500_000_000_i64);
    assert_eq!(stored(&world, "ann").settings.role.as_deref(), Some("internal_user_viewer"));
    for (body, status, param) in [
        (json!({"user_id": "nobody", "rpm_limit": 1}), 404, "user_id"),
        (json!({"user_email": "no@body", "rpm_limit": 1}), 404, "user_email"),
        (json!({"rpm_limit": 1}), 400, "user_id"),
        (json!({"user_id": "ann", "user_email": "BEN@x.org"}), 400, "user_email"),
        (json!({"user_id": "ann", "rpm_limit": -1}), 400, "rpm_limit"),
    ] {
        let answer = world.post("/user/update", body.clone()).await;
        assert_eq!((answer.error().0, answer.error().2.as_deref()), (status, Some(param)), "{body}");
    }

    let body = json!({"users": [{"user_id": "ann", "tpm_limit": 7}, {"user_id": "nobody", "tpm_limit": 7},
        {"user_email": "ben@x.org", "tpm_limit": "x"}]});
    let bulk = ok(world.post("/user/bulk_update", body).await).await;
    assert_eq!((&bulk["successful_updates"], &bulk["failed_updates"]), (&json!(1), &json!(2)));
    assert!(bulk["results"][1]["error"].as_str().unwrap().contains("nobody"), "{bulk}");
    assert_eq!(stored(&world, "ann").settings.tpm_limit, Some(7));
    let body = json!({"all_users": true, "user_updates": {"rpd_limit": 9}});
    assert_eq!(ok(world.post("/user/bulk_update", body).await).await["successful_updates"], 2);
    assert_eq!(stored(&world, "ben").settings.rpd_limit, Some(9));
}

#[tokio::test]
async fn keys_and_memberships_go_with_their_user() {
    let world = World::new();
    ok(world.post("/team/new", json!({"team_id": "a"})).await).await;
    let made = ok(world.post("/user/new", json!({"user_id": "ann", "teams": ["a"]})).await).await;
    let key = made["key"].as_str().unwrap().to_owned();
    assert_eq!(world.get("/user/info", &key).await.status, 200);
    assert_eq!(ok(world.post("/user/delete", json!({"user_ids": ["ann"]})).await).await, json!(1));
    assert_eq!(world.get("/user/info", &key).await.error().0, 401);
    let kinds: Vec<EntityKind> = world.directory.all.lock().keys().map(|of| of.kind).collect();
    assert_eq!(kinds, [EntityKind::Team]);
    let missing = world.post("/user/delete", json!({"user_ids": ["ann"]})).await;
    assert_eq!((missing.error().0, missing.error().2.as_deref()), (404, Some("user_ids")));
}

#[tokio::test]
async fn users_see_themselves_and_rename_themselves_and_no_more() {
    let world = World::new();
    let ann = world.user("ann", "internal_user");
    world.user("ben", "internal_user");
    let update = async |body: Value| world.call(Method::POST, "/user/update", &ann, body.to_string()).await;
    assert_eq!(
        ok(update(json!({"user_id": "ann", "user_alias": "A"})).await).await["data"]["user_alias"],
        "A"
    );
    for body in [
        json!({"user_id": "ann", "user_role": "proxy_admin"}),
        json!({"user_id": "ann", "max_budget": 1e6}),
        json!({"user_id": "ann", "metadata": {"tags": ["x"]}}),
        json!({"user_id": "ann", "spend": 0}),
        json!({"user_id": "ben", "user_alias": "B"}),
    ] {
        assert_eq!(update(body.clone()).await.error().0, 403, "{body}");
    }
    assert_eq!(stored(&world, "ann").settings.role.as_deref(), Some("internal_user"));
    assert_eq!(world.get("/user/info?user_id=ben", &ann).await.error().0, 403);
    assert_eq!(world.get("/user/list", &ann).await.error().0, 403);
    let master = ok(world.get("/user/info", MASTER).await).await;
    assert_eq!(
        (&master["user_id"], &master["user_info"]["user_role"]),
        (&json!("default_user_id"), &json!("proxy_admin"))
    );
    assert_eq!(world.get("/user/info?user_id=nobody", MASTER).await.error().0, 404);
}

#[tokio::test]
async fn users_are_listed_in_pages() {
    let world = World::new();
    for number in 0..5 {
        let role = if number == 0 { "proxy_admin" } else { "internal_user" };
        let body = json!({"user_id": format!("u{number}"), "user_role": role, "user_alias": format!("User {number}"),
            "user_email": format!("u{number}@x.org")});
        ok(world.post("/user/new", body).await).await;
    }
    let page =
        ok(world.get("/user/list?page=1&page_size=2&sort_by=user_id&sort_order=asc", MASTER).await).await;
    assert_eq!((&page["total"], &page["total_pages"], &page["page_size"]), (&json!(5), &json!(3), &json!(2)));
    assert_eq!((&page["users"][1]["user_id"], &page["users"][1]["key_count"]), (&json!("u1"), &json!(1)));
    for (query, total) in [
        ("role=proxy_admin", 1),
        ("user_ids=u1,u2,nobody", 2),
        ("user_email=U3@x.org", 1),
        ("search=User", 5),
        ("search=User%204", 1),
    ] {
        let page = ok(world.get(&format!("/user/list?{query}"), MASTER).await).await;
        assert_eq!(page["total"], total, "{query}");
    }
}

#[tokio::test]
async fn the_configuration_says_what_a_new_user_is() {
    let mut settings = Config::default();
    let params = json!({"user_role": "internal_user_viewer", "max_budget": 5, "models": ["chat"],
        "teams": [{"team_id": "start", "user_role": "user", "max_budget_in_team": 2}], "available_teams": ["open"]});
    settings.litellm_settings.default_internal_user_params = params.as_object().unwrap().clone();
    let world = World::with(config(), settings);
    let early = world.post("/user/new", json!({"user_id": "early"})).await;
    assert_eq!((early.error().0, early.error().2.as_deref()), (404, Some("teams")), "its team must exist");
    for team in ["start", "other", "open"] {
        world.post("/team/new", json!({"team_id": team})).await;
    }
    let ann = world.post("/user/new", json!({"user_id": "ann", "models": []})).await.json();
    assert_eq!((&ann["user_role"], &ann["max_budget"]), (&json!("internal_user_viewer"), &json!(5.0)));
    assert_eq!((&ann["models"], &ann["teams"]), (&json!(["chat"]), &json!(["start"])));
    let member = EntityRef::new(EntityKind::Member, member_id("start", "ann"));
    let member = world.directory.all.lock()[&member].clone();
    assert_eq!(
        (member.settings.role.as_deref(), member.settings.max_budget_nanos),
        (Some("user"), Some(2_000_000_000))
    );
    let bob = json!({"user_id": "bob", "max_budget": 1, "teams": ["other"], "user_role": "internal_user"});
    let bob = world.post("/user/new", bob).await.json();
    assert_eq!(
        (&bob["max_budget"], &bob["teams"], &bob["user_role"]),
        (&json!(1.0), &json!(["other"]), &json!("internal_user"))
    );
    let root = world.post("/user/new", json!({"user_id": "root", "user_role": "proxy_admin"})).await.json();
    assert_eq!((&root["max_budget"], &root["teams"]), (&Value::Null, &json!([])), "not for a proxy admin");
    assert!(root.get("available_teams").is_none());
}
