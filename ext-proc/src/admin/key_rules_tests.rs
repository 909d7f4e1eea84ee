use axum::http::Method;
use serde_json::json;

use super::super::tests::{Answer, MASTER, World};
use super::*;
use crate::config::Config;
use crate::entity::member_id;
use crate::keys::hash;
use crate::ledger::row_tests::config;

/// A configuration with these `litellm_settings`.
fn configured(set: impl FnOnce(&mut crate::config::LitellmSettings)) -> World {
    let mut settings = Config::default();
    set(&mut settings.litellm_settings);
    World::with(config(), settings)
}

fn object(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn param(answer: &Answer) -> (u16, Option<String>) {
    let (status, _, param) = answer.error();
    (status, param)
}

async fn post(world: &World, path: &str, key: &str, body: Value) -> Answer {
    world.call(Method::POST, path, key, body.to_string()).await
}

/// A member of a team.
fn member(world: &World, team: &str, user: &str, role: &str) {
    let mut member = Entity::new(EntityKind::Member, member_id(team, user));
    (member.team_id, member.user_id) = (Some(team.into()), Some(user.into()));
    member.settings.role = Some(role.into());
    world.directory.put(member);
}

#[tokio::test]
async fn a_key_does_not_loosen_itself() {
    let world = World::new();
    let ann = world.user("ann", "internal_user");
    let strict = json!({"user_id": "ann", "max_budget": 1, "rpm_limit": 1, "tpm_limit": 1, "input_tpm_limit": 1,
        "output_tpm_limit": 1, "rpd_limit": 1, "tpd_limit": 1, "max_parallel_requests": 1, "duration": "1d",
        "models": ["chat"], "allowed_routes": ["llm_api_routes", "management_routes"], "budget_duration": "1d",
        "aliases": {"quick": "chat"}, "model_max_budget": {"chat": {"budget_limit": 1, "time_period": "1d"}},
        "model_rpm_limit": {"chat": 1}, "model_tpm_limit": {"chat": 1}, "tag_rpm_limit": {"batch": 1},
        "metadata": {"tag_rpm_limit": {"nightly": 1}}});
    let key = world.key(strict).await;
    world.post("/budget/new", json!({"budget_id": "b"})).await;
    for (field, value) in [
        ("max_budget", json!(2)),
        ("max_budget", Value::Null),
        ("rpm_limit", json!(2)),
        ("rpm_limit", Value::Null),
        ("tpm_limit", json!(2)),
        ("input_tpm_limit", json!(2)),
        ("output_tpm_limit", json!(2)),
        ("rpd_limit", json!(2)),
        ("tpd_limit", json!(2)),
        ("max_parallel_requests", json!(2)),
        ("duration", json!("2d")),
        ("duration", json!("-1")),
        ("models", json!(["chat", "backup"])),
        ("models", json!([])),
        ("allowed_routes", json!([])),
        ("aliases", json!({"quick": "backup"})),
        ("budget_duration", json!("1h")),
        ("budget_mode", json!("audit")),
        ("model_max_budget", json!({})),
        ("model_rpm_limit", json!({"chat": 2})),
        ("model_tpm_limit", json!({})),
        ("temp_budget_increase", json!(5)),
        ("user_id", json!("bob")),
        ("metadata", json!({"model_rpm_limit": {"chat": 9}})),
        ("metadata", json!({})),
        ("tag_rpm_limit", json!({"batch": 2})),
        ("tag_rpm_limit", Value::Null),
    ] {
        // By itself, and by another key of its owner.
        for by in [&key, &ann] {
            let mut body = object(json!({"key": key}));
            body.insert(field.to_owned(), value.clone());
            let refused = post(&world, "/key/update", by, body.clone().into()).await;
            assert_eq!(refused.error().0, 403, "{field}: {}", refused.text);
            let rotated = post(&world, "/key/regenerate", by, body.into()).await;
            assert_eq!(rotated.error().0, 403, "{field} at rotation: {}", rotated.text);
        }
    }
    for stricter in [json!({"rpm_limit": 0}), json!({"duration": "1h"}), json!({"key_alias": "mine"})] {
        let mut body = object(json!({"key": key}));
        body.extend(object(stricter));
        let allowed = post(&world, "/key/update", &key, body.into()).await;
        assert_eq!(allowed.status, 200, "{}", allowed.text);
    }
    let (spend, blocked) = (json!({"key": key, "spend": 0}), json!({"key": key}));
    assert_eq!(post(&world, "/key/update", &key, spend).await.error().0, 403);
    world.post("/key/block", blocked.clone()).await;
    let unblock = json!({"key": key, "blocked": false});
    assert_eq!(post(&world, "/key/update", &ann, unblock).await.error().0, 403);
    assert_eq!(post(&world, "/key/unblock", &ann, blocked).await.error().0, 403);
}

#[tokio::test]
async fn a_key_of_ones_own_stays_within_ones_limits() {
    let world = World::new();
    let ann = world.user("ann", "internal_user");
    world.post("/budget/new", json!({"budget_id": "large", "rpm_limit": 100})).await;
    world
        .post("/user/update", json!({"user_id": "ann", "rpm_limit": 10, "max_budget": 5, "models": ["chat"]}))
        .await;
    for (field, value) in [
        ("rpm_limit", json!(11)),
        ("max_budget", json!(5.1)),
        ("models", json!(["backup"])),
        ("budget_id", json!("large")),
    ] {
        let body: Map<String, Value> = [(field.to_owned(), value)].into_iter().collect();
        let refused = post(&world, "/key/generate", &ann, body.into()).await;
        let named = if field == "budget_id" { "rpm_limit" } else { field };
        assert_eq!(param(&refused), (400, Some(named.to_owned())), "{}", refused.text);
    }
    let within = json!({"rpm_limit": 10, "max_budget": 5, "models": ["chat"]});
    let made = post(&world, "/key/generate", &ann, within).await;
    assert_eq!(made.status, 200, "{}", made.text);
    assert_eq!(made.json()["user_id"], "ann", "it is hers");
    let key = made.json()["key"].clone();
    let (more, less) = (json!({"key": key, "rpm_limit": 11}), json!({"key": key, "rpm_limit": 4}));
    assert_eq!(param(&post(&world, "/key/update", &ann, more).await), (400, Some("rpm_limit".to_owned())));
    assert_eq!(post(&world, "/key/update", &ann, less).await.status, 200);
    let back = json!({"key": key, "rpm_limit": 10});
    assert_eq!(post(&world, "/key/update", &ann, back).await.status, 200, "what she made she may change");
    for theirs in [json!({"user_id": "bob"}), json!({"organization_id": "acme"}), json!({"spend": 1})] {
        world.post("/organization/new", json!({"organization_id": "acme", "organization_alias": "a"})).await;
        assert_eq!(post(&world, "/key/generate", &ann, theirs).await.error().0, 403);
    }
}

#[tokio::test]
async fn a_teams_admin_makes_keys_for_others_that_cannot_act_as_them() {
    let world = World::new();
    let boss = world.user("boss", "internal_user");
    world.user("root", "proxy_admin");
    for (team, role) in [("search", "admin"), ("other", "user")] {
        world.post("/team/new", json!({"team_id": team, "rpm_limit": 10})).await;
        member(&world, team, "boss", role);
    }
    let for_root = json!({"team_id": "search", "user_id": "root"});
    let made = post(&world, "/key/generate", &boss, for_root).await;
    assert_eq!(made.status, 200, "{}", made.text);
    assert_eq!(made.json()["allowed_routes"], json!(FOR_OTHERS));
    let plain = made.json()["key"].as_str().unwrap().to_owned();
    assert_eq!(world.get("/v1/models", &plain).await.status, 200);
    assert_eq!(world.get("/key/info", &plain).await.status, 200);
    for (method, path) in
        [(Method::GET, "/audit"), (Method::POST, "/key/generate"), (Method::GET, "/key/list")]
    {
        assert_eq!(world.call(method, path, &plain, "{}").await.error().0, 403, "{path} as the admin");
    }
    for routes in [json!([]), json!(["management_routes"]), json!(["llm_api_routes", "/key/*"])] {
        let asks = json!({"team_id": "search", "user_id": "root", "allowed_routes": routes});
        // An empty list is no wish.
        let status = if asks["allowed_routes"] == json!([]) { 200 } else { 403 };
        assert_eq!(post(&world, "/key/generate", &boss, asks).await.status, status, "{routes}");
        let widens = json!({"key": plain, "allowed_routes": routes});
        assert_eq!(post(&world, "/key/update", &boss, widens).await.error().0, 403, "{routes}");
    }
    let service = json!({"team_id": "search", "key_alias": "robot"});
    let service = post(&world, "/key/service-account/generate", &boss, service).await.json()["key"].clone();
    let taken = json!({"key": service, "user_id": "root"});
    assert_eq!(
        post(&world, "/key/update", &boss, taken).await.error().0,
        403,
        "it would become an admin's key"
    );
    let moved = json!({"key": service, "team_id": "other"});
    assert_eq!(post(&world, "/key/update", &boss, moved).await.error().0, 403);
    let above = json!({"team_id": "search", "rpm_limit": 11});
    assert_eq!(
        param(&post(&world, "/key/generate", &boss, above).await),
        (400, Some("rpm_limit".to_owned()))
    );
    assert_eq!(post(&world, "/key/generate", &boss, json!({"team_id": "other"})).await.error().0, 403);
    for (body, field) in
        [(json!({}), "team_id"), (json!({"team_id": "search", "user_id": "boss"}), "user_id")]
    {
        let refused = post(&world, "/key/service-account/generate", MASTER, body).await;
        assert_eq!(param(&refused), (400, Some(field.to_owned())));
    }
}

#[tokio::test]
async fn a_key_has_models_of_its_team_only() {
    let world = World::new();
    let team = json!({"team_id": "t", "models": ["chat"], "model_aliases": {"quick": "backup"}});
    world.post("/team/new", team).await;
    let body = |models: Value| json!({"team_id": "t", "models": models});
    for models in [json!([]), json!(["chat"]), json!(["quick"]), json!(["all-team-models"])] {
        let made = world.post("/key/generate", body(models)).await;
        assert_eq!(made.status, 200, "{}", made.text);
    }
    let refused = world.post("/key/generate", body(json!(["chat", "backup"]))).await;
    assert_eq!(param(&refused), (400, Some("models".to_owned())));
    assert!(refused.text.contains("backup") && !refused.text.contains("chat"), "{}", refused.text);
    let free = world.key(json!({"models": ["backup"]})).await;
    let joins = world.post("/key/update", json!({"key": free, "team_id": "t"})).await;
    assert_eq!(param(&joins), (400, Some("models".to_owned())));
}

#[tokio::test]
async fn defaults_fill_and_bounds_hold() {
    let world = configured(|settings| {
        settings.default_key_generate_params = object(json!({"rpm_limit": 5, "models": ["chat"]}));
        settings.upperbound_key_generate_params =
            object(json!({"max_budget": 10, "duration": "30d", "tpm_limit": 100, "rpm_limit": null}));
        settings.default_soft_budget = Some(2.5);
        settings.key_alias_pattern = Some("[a-z]+-[0-9]+".to_owned());
    });
    let made = world.post("/key/generate", json!({})).await.json();
    assert_eq!((&made["rpm_limit"], &made["models"]), (&json!(5), &json!(["chat"])), "by default");
    assert_eq!(
        (&made["max_budget"], &made["tpm_limit"]),
        (&json!(10.0), &json!(100)),
        "the bound where none is asked"
    );
    assert!(made["expires"].is_string());
    assert_eq!(made["soft_budget"], 2.5);
    let asked =
        world.post("/key/generate", json!({"rpm_limit": 9, "models": [], "max_budget": 1})).await.json();
    assert_eq!((&asked["rpm_limit"], &asked["max_budget"]), (&json!(9), &json!(1.0)), "what is asked wins");
    let key = made["key"].clone();
    for (field, value) in [
        ("max_budget", json!(10.01)),
        ("duration", json!("31d")),
        ("duration", json!("-1")),
        ("tpm_limit", json!(101)),
    ] {
        for (path, mut body) in [
            ("/key/generate", Map::new()),
            ("/key/update", object(json!({"key": key}))),
            ("/key/regenerate", object(json!({"key": key}))),
        ] {
            body.insert(field.to_owned(), value.clone());
            let refused = world.post(path, body.into()).await;
            assert_eq!(param(&refused), (400, Some(field.to_owned())), "{path} {}", refused.text);
            assert!(refused.text.contains("upperbound_key_generate_params"), "{}", refused.text);
        }
    }
    let lifted = world.post("/key/update", json!({"key": key, "max_budget": null})).await;
    assert_eq!(param(&lifted), (400, Some("max_budget".to_owned())), "none is more than any bound");
    let alias = world.post("/key/generate", json!({"key_alias": "CI-1"})).await;
    assert_eq!(param(&alias), (400, Some("key_alias".to_owned())));
    let alias =
        world.post("/key/generate", json!({"key_alias": "ci-1", "max_budget": 1, "duration": "1d"})).await;
    assert_eq!(alias.status, 200, "{}", alias.text);
}

#[tokio::test]
async fn key_generation_is_for_the_roles_that_the_configuration_names() {
    let world = configured(|settings| {
        settings.key_generation_settings = object(json!({
            "personal_key_generation": {"allowed_user_roles": ["proxy_admin"]},
            "team_key_generation": {"allowed_team_member_roles": ["admin"], "required_params": ["tags"]}}));
    });
    let ann = world.user("ann", "internal_user");
    world.post("/team/new", json!({"team_id": "t"})).await;
    member(&world, "t", "ann", "admin");
    let personal = post(&world, "/key/generate", &ann, json!({})).await;
    assert_eq!(personal.error().0, 403);
    assert!(personal.text.contains("personal_key_generation.allowed_user_roles"), "{}", personal.text);
    let untagged = post(&world, "/key/generate", &ann, json!({"team_id": "t"})).await;
    assert_eq!(param(&untagged), (400, Some("tags".to_owned())));
    let tagged = json!({"team_id": "t", "tags": ["x"]});
    assert_eq!(post(&world, "/key/generate", &ann, tagged.clone()).await.status, 200);
    member(&world, "t", "ann", "user");
    let permit = json!({"team_id": "t", "team_member_permissions": ["/key/generate"]});
    world.post("/team/permissions_update", permit).await;
    assert_eq!(post(&world, "/key/generate", &ann, tagged).await.error().0, 403, "not for plain members");
    assert_eq!(world.post("/key/generate", json!({})).await.status, 200, "the master key may");
}

#[tokio::test]
async fn keys_that_callers_choose_can_be_forbidden() {
    let mut settings = Config::default();
    settings.general_settings.disable_custom_api_keys = true;
    let world = World::with(config(), settings);
    let chosen = json!({"key": "sk-my-own-key-0001"});
    assert_eq!(param(&world.post("/key/generate", chosen).await), (400, Some("key".to_owned())));
    let key = world.key(json!({})).await;
    let chosen = json!({"key": key, "new_key": "sk-my-own-key-0001"});
    assert_eq!(param(&world.post("/key/regenerate", chosen).await), (400, Some("new_key".to_owned())));
}

#[tokio::test]
async fn a_hash_is_no_key() {
    let world = World::sqlite().await;
    let key = world.key(json!({})).await;
    let stolen = hash(&key);
    for replayed in [stolen.clone(), format!("sk-{stolen}"), hash(MASTER), format!("sk-{}", hash(MASTER))] {
        for path in ["/v1/models", "/key/info"] {
            assert_eq!(world.get(path, &replayed).await.error().0, 401, "{path}");
        }
    }
    let taken = world.post("/key/generate", json!({"key": stolen})).await;
    assert_eq!(param(&taken), (400, Some("key".to_owned())), "a key starts with sk-");
    assert_eq!(world.get("/v1/models", &key).await.status, 200);
}

#[test]
fn no_limit_is_above_every_limit() {
    let with = |limit| {
        let mut key = Entity::new(EntityKind::Key, "k");
        key.settings.rpm_limit = limit;
        key
    };
    assert_eq!(loosened(&with(Some(5)), &with(None)), Some("rpm_limit"));
    assert_eq!(loosened(&with(Some(5)), &with(Some(6))), Some("rpm_limit"));
    assert_eq!(loosened(&with(Some(5)), &with(Some(5))), None);
    assert_eq!(loosened(&with(Some(5)), &with(Some(0))), None);
    assert_eq!(loosened(&with(None), &with(Some(5))), None);
    assert_eq!(
        above(&with(None).settings, &with(Some(5)).settings),
        None,
        "the holder's own limit holds anyway"
    );
}
