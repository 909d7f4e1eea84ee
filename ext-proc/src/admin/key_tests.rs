//! What becomes of keys: rotation, lists, spend, expiry, and what the audit log says of it.

use std::time::Duration;

use axum::http::Method;
use serde_json::{Value, json};

use super::tests::{Answer, MASTER, World};
use crate::keys::hash;
use crate::ledger::row_tests::record;

fn param(answer: &Answer) -> (u16, Option<String>) {
    let (status, _, param) = answer.error();
    (status, param)
}

async fn ok(answer: Answer) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

#[tokio::test]
async fn keys_and_aliases_are_unique() {
    let world = World::sqlite().await;
    let own = json!({"key": "sk-my-own-key-0001", "key_alias": "mine"});
    assert_eq!(world.key(own).await, "sk-my-own-key-0001");
    let again = json!({"key": "sk-my-own-key-0001"});
    assert_eq!(world.post("/key/generate", again).await.error().2.as_deref(), Some("key"));
    let alias = world.post("/key/generate", json!({"key_alias": "mine"})).await;
    assert_eq!(alias.error(), (400, "invalid_request_error".to_owned(), Some("key_alias".to_owned())));
}

#[tokio::test]
async fn an_unknown_key_works_as_soon_as_it_is_generated() {
    let world = World::sqlite().await;
    let plain = "sk-my-own-key-0001";
    assert_eq!(world.get("/v1/models", plain).await.error().1, "token_not_found_in_db");
    world.key(json!({"key": plain})).await;
    assert_eq!(world.get("/v1/models", plain).await.status, 200, "the negative entry is gone");
}

#[tokio::test]
async fn a_key_is_rotated_and_the_old_one_has_its_grace() {
    let world = World::sqlite().await;
    let old = world.key(json!({"key_alias": "ci", "models": ["chat"], "rpm_limit": 7})).await;
    let body = json!({"key": old, "grace_period": "1s", "tpm_limit": 9});
    let made = ok(world.post("/key/regenerate", body).await).await;
    let new = made["key"].as_str().unwrap().to_owned();
    assert!(new != old && new.starts_with("sk-"));
    assert_eq!(
        (&made["token"], &made["key_name"]),
        (&json!(hash(&new)), &json!(format!("sk-...{}", &new[21..])))
    );
    assert_eq!(
        (&made["key_alias"], &made["models"], &made["rpm_limit"], &made["tpm_limit"]),
        (&json!("ci"), &json!(["chat"]), &json!(7), &json!(9)),
        "the same key, changed on the way"
    );
    for key in [&old, &new] {
        assert_eq!(world.get("/v1/models", key).await.status, 200);
        let info = ok(world.get(&format!("/key/info?key={key}"), MASTER).await).await;
        assert_eq!(info["key"], hash(&new), "an old hash stands for the new one");
    }
    assert_eq!(ok(world.get("/key/list", MASTER).await).await["total_count"], 1);
    // The old hash may not be taken while it stands for the key.
    let replayed = world.post("/key/generate", json!({"key": old})).await;
    assert_eq!(param(&replayed), (400, Some("key".to_owned())));
    // What is done to one is done to both.
    ok(world.post("/key/block", json!({"key": old})).await).await;
    for key in [&old, &new] {
        assert_eq!(world.get("/v1/models", key).await.error().0, 401);
    }
    ok(world.post("/key/unblock", json!({"key": new})).await).await;
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert_eq!(world.get("/v1/models", &old).await.error().0, 401, "the grace period is over");
    assert_eq!(world.get("/v1/models", &new).await.status, 200);

    let named = format!("/key/{}/regenerate", hash(&new));
    let third = ok(world.post(&named, json!({"new_key": "sk-chosen-by-hand-1"})).await).await;
    assert_eq!(third["key"], "sk-chosen-by-hand-1");
    assert_eq!(world.get("/v1/models", &new).await.error().0, 401, "without grace at once");
    for (body, field) in [
        (json!({"key": "sk-chosen-by-hand-1", "grace_period": "soon"}), "grace_period"),
        (json!({"key": "sk-chosen-by-hand-1", "new_key": MASTER}), "new_key"),
        (json!({"key": "sk-chosen-by-hand-1", "new_key": "sk-chosen-by-hand-1"}), "new_key"),
        (json!({"key": "sk-chosen-by-hand-1", "new_key": "short"}), "new_key"),
        (json!({"key": MASTER, "new_master_key": "sk-another-0123456789"}), "new_master_key"),
        (json!({"key": MASTER}), "key"),
        (json!({}), "key"),
    ] {
        let refused = world.post("/key/regenerate", body.clone()).await;
        assert_eq!(param(&refused), (400, Some(field.to_owned())), "{body} {}", refused.text);
    }
    let unknown = world.post("/key/regenerate", json!({"key": "sk-nobody-knows-me-1"})).await;
    assert_eq!(unknown.error().0, 404);
}

#[tokio::test]
async fn a_rotated_key_goes_on_with_its_spend() {
    let world = World::sqlite().await;
    let old = world.key(json!({})).await;
    let mut row = record("call-1");
    row.key = hash(&old);
    world.books.accept(&[row]).await.unwrap();
    assert_eq!(ok(world.get("/key/info", &old).await).await["info"]["spend_nanos"], 20);
    let made = ok(world.post("/key/regenerate", json!({"key": old, "grace_period": "1h"})).await).await;
    let new = made["key"].as_str().unwrap();
    assert_eq!(made["spend_nanos"], 20);
    let mut row = record("call-2");
    row.key = hash(&old);
    world.books.accept(&[row]).await.unwrap();
    world.books.flush().await.unwrap();
    assert_eq!(
        ok(world.get("/key/info", new).await).await["info"]["spend_nanos"],
        40,
        "also what the old one spends"
    );
}

#[tokio::test]
async fn spend_is_set_back_but_never_up() {
    let world = World::sqlite().await;
    let key = world.key(json!({"max_budget": 1})).await;
    let mut row = record("call-1");
    row.key = hash(&key);
    world.books.accept(&[row]).await.unwrap();
    let path = format!("/key/{}/reset_spend", hash(&key));
    let above = world.post(&path, json!({"reset_to": 0.000_000_021})).await;
    assert_eq!(param(&above), (400, Some("reset_to".to_owned())));
    assert!(above.text.contains("0.00000002 at most"), "{}", above.text);
    let set = world.post(&path, json!({"reset_to": 0.000_000_005})).await;
    assert!(
        set.text.contains(r#""spend":0.000000005,"previous_spend":0.00000002,"max_budget":1.0"#),
        "{}",
        set.text
    );
    assert_eq!(ok(world.get("/key/info", &key).await).await["info"]["spend_nanos"], 5);
    for (body, status) in [(json!({}), 400), (json!({"reset_to": "0"}), 422), (json!({"reset_to": -1}), 400)]
    {
        assert_eq!(param(&world.post(&path, body).await), (status, Some("reset_to".to_owned())));
    }
    // An admin says what was spent elsewhere.
    ok(world.post("/key/update", json!({"key": key, "spend": 0.5})).await).await;
    assert_eq!(ok(world.get("/key/info", &key).await).await["info"]["spend"], 0.5);
    let brought = world.key(json!({"spend": 0.25})).await;
    assert_eq!(ok(world.get("/key/info", &brought).await).await["info"]["spend_nanos"], 250_000_000);
    assert_eq!(world.post("/key/nobody/reset_spend", json!({"reset_to": 0})).await.error().0, 404);
}

#[tokio::test]
async fn keys_are_listed_by_pages_and_filters() {
    let world = World::sqlite().await;
    world.post("/team/new", json!({"team_id": "t"})).await;
    let mut hashes = Vec::new();
    for n in 0..7 {
        let body = json!({"key_alias": format!("key-{n}"), "user_id": if n < 3 { "ann" } else { "bob" },
            "team_id": if n % 2 == 0 { json!("t") } else { Value::Null }});
        hashes.push(hash(&world.key(body).await));
    }
    let list = async |query: &str| ok(world.get(&format!("/key/list?{query}"), MASTER).await).await;
    let aliases = |answer: &Value| -> Vec<String> {
        let keys = answer["keys"].as_array().unwrap();
        keys.iter().map(|key| key["key_alias"].as_str().unwrap().to_owned()).collect()
    };
    let first = list("size=3&sort_by=key_alias&sort_order=asc").await;
    assert_eq!(first["keys"], json!(hashes[..3]), "hashes alone");
    assert_eq!(
        (&first["total_count"], &first["current_page"], &first["total_pages"]),
        (&json!(7), &json!(1), &json!(3))
    );
    let last = list("size=3&page=3&sort_by=key_alias&sort_order=asc").await;
    assert_eq!(last["keys"], json!(hashes[6..]));
    assert_eq!(list("size=3&page=4").await["keys"], json!([]));
    let full = list("return_full_object=true&sort_by=key_alias&user_id=ann").await;
    assert_eq!(aliases(&full), ["key-2", "key-1", "key-0"], "the other way round by default");
    assert_eq!(full["keys"][0]["token"], hashes[2]);
    let named = async |query: &str| {
        aliases(&list(&format!("return_full_object=True&sort_by=key_alias&sort_order=asc&{query}")).await)
    };
    assert_eq!(named("team_id=t").await, ["key-0", "key-2", "key-4", "key-6"]);
    assert_eq!(named("team_id=t&user_id=bob").await, ["key-4", "key-6"]);
    assert_eq!(named("key_alias=key-3").await, ["key-3"]);
    assert!(named("key_alias=key").await.is_empty());
    assert_eq!(named("key_alias=key&substring_matching=true").await.len(), 7);
    assert_eq!(named("search=y-5").await, ["key-5"]);
    assert_eq!(named(&format!("key_hash={}", hashes[1])).await, ["key-1"]);
    ok(world.post("/key/block", json!({"key": hashes[0]})).await).await;
    ok(world.post("/key/update", json!({"key": hashes[1], "duration": "1s"})).await).await;
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert_eq!(named("status=revoked").await, ["key-0"]);
    assert_eq!(named("status=expired").await, ["key-1"]);
    assert_eq!(named("status=active").await.len(), 5);
    assert!(named("status=deleted").await.is_empty());
    for query in [
        "size=0",
        "size=101",
        "page=0",
        "page=x",
        "status=odd",
        "sort_by=color",
        "sort_order=up",
        "expand=team",
        "return_full_object=maybe",
        "colour=red",
    ] {
        let refused = world.get(&format!("/key/list?{query}"), MASTER).await;
        let name = query.split('=').next().unwrap();
        assert_eq!(param(&refused), (400, Some(name.to_owned())), "{query}");
    }
    let names = ok(world.get("/key/aliases?search=key&size=2&page=2", MASTER).await).await;
    assert_eq!((&names["aliases"], &names["total_count"]), (&json!(["key-2", "key-3"]), &json!(7)));
}

#[tokio::test]
async fn a_list_can_have_the_keys_of_ones_teams_and_those_one_made() {
    let world = World::new();
    let boss = world.user("boss", "internal_user");
    for team in ["mine", "other"] {
        world.post("/team/new", json!({"team_id": team})).await;
        world.key(json!({"team_id": team, "key_alias": team})).await;
    }
    let member = json!({"team_id": "mine", "member": {"user_id": "boss", "role": "admin"}});
    ok(world.post("/team/member_add", member).await).await;
    let made = world.call(
        Method::POST,
        "/key/service-account/generate",
        &boss,
        r#"{"team_id":"mine","key_alias":"robot"}"#,
    );
    ok(made.await).await;
    let list = async |query: &str| {
        let answer = ok(world.get(&format!("/key/list?return_full_object=true&{query}"), &boss).await).await;
        let keys = answer["keys"].as_array().unwrap().clone();
        assert_eq!(answer["total_count"], keys.len());
        let mut names: Vec<String> =
            keys.iter().map(|key| key["key_alias"].as_str().unwrap_or("own").to_owned()).collect();
        names.sort();
        names
    };
    assert_eq!(list("").await, ["own"]);
    assert_eq!(list("include_team_keys=true").await, ["mine", "own", "robot"]);
    assert_eq!(list("include_created_by_keys=true").await, ["own", "robot"]);
    assert_eq!(
        list("include_team_keys=true&include_created_by_keys=true&expand=user").await,
        ["mine", "own", "robot"]
    );
}

#[tokio::test]
async fn every_change_is_in_the_audit_log_and_no_secret_is() {
    let world = World::sqlite().await;
    let key = world.key(json!({"key_alias": "ci", "rpm_limit": 1})).await;
    let id = hash(&key);
    world.post("/key/update", json!({"key": key, "rpm_limit": 2})).await;
    world.post("/key/block", json!({"key": key})).await;
    world.post(&format!("/key/{id}/reset_spend"), json!({"reset_to": 0})).await;
    let made = ok(world.post("/key/regenerate", json!({"key": key})).await).await;
    let new = made["key"].as_str().unwrap().to_owned();
    let deleted =
        axum::http::Request::post("/key/delete").header("authorization", format!("Bearer {MASTER}"));
    let deleted =
        deleted.header("litellm-changed-by", "alice").body(json!({"keys": [new]}).to_string().into());
    assert_eq!(world.send(deleted.unwrap()).await.status, 200);

    let answer = world.get("/audit?page_size=100", MASTER).await;
    for secret in [&key, &new, &MASTER.to_owned()] {
        assert!(!answer.text.contains(secret.as_str()), "a plain key is in the audit log");
    }
    let audit = answer.json();
    let rows = audit["audit_logs"].as_array().unwrap();
    let of =
        |row: &Value| (row["action"].as_str().unwrap().to_owned(), row["route"].as_str().unwrap().to_owned());
    let wanted = [
        ("deleted", "/key/delete"),
        ("rotated", "/key/regenerate"),
        ("updated", "/key/regenerate"),
        ("spend_reset", "/key/{key}/reset_spend"),
        ("updated", "/key/block"),
        ("updated", "/key/update"),
        ("created", "/key/generate"),
    ];
    let wanted = wanted.map(|(action, route)| (action.to_owned(), route.to_owned()));
    assert_eq!(rows.iter().map(of).collect::<Vec<_>>(), wanted, "newest first");
    let changed = rows.iter().find(|row| row["route"] == "/key/update").unwrap();
    assert_eq!(
        (
            &changed["changed_by"],
            &changed["changed_by_api_key"],
            &changed["table_name"],
            &changed["object_id"]
        ),
        (
            &json!("default_user_id"),
            &json!("litellm_proxy_master_key"),
            &json!("LiteLLM_VerificationToken"),
            &json!(id)
        )
    );
    assert_eq!(changed["before_value"]["settings"]["rpm_limit"], 1, "{changed}");
    assert_eq!(changed["updated_values"]["settings"]["rpm_limit"], 2);
    let created = rows.last().unwrap();
    assert_eq!((&created["before_value"], &created["updated_values"]["alias"]), (&Value::Null, &json!("ci")));
    assert_eq!((&rows[0]["changed_by"], &rows[0]["updated_values"]), (&json!("alice"), &Value::Null));

    let count =
        async |query: &str| ok(world.get(&format!("/audit?{query}"), MASTER).await).await["total"].clone();
    assert_eq!(count("action=deleted").await, 1);
    assert_eq!(count("action=/key/block").await, 1);
    assert_eq!(count("changed_by=alice").await, 1);
    assert_eq!(
        count(&format!("table_name=key&object_id={key}&action=created")).await,
        1,
        "also by the plain key"
    );
    assert_eq!(count("table_name=team").await, 0);
    assert_eq!(count("changed_by_api_key=litellm_proxy_master_key").await, rows.len());
    let one = ok(world.get(&format!("/audit/{}", created["id"].as_str().unwrap()), MASTER).await).await;
    assert_eq!(&one, created);
    let pages = ok(world.get("/audit?page=2&page_size=2", MASTER).await).await;
    assert_eq!((&pages["audit_logs"][0], &pages["page"]), (&rows[2], &json!(2)));
    for (query, name) in [
        ("table_name=nothing", "table_name"),
        ("object_id=x", "object_id"),
        ("page_size=101", "page_size"),
        ("odd=1", "odd"),
    ] {
        assert_eq!(param(&world.get(&format!("/audit?{query}"), MASTER).await), (400, Some(name.to_owned())));
    }
    assert_eq!(world.get("/audit/nothing", MASTER).await.error().0, 404);
}

#[tokio::test]
async fn only_admins_say_that_somebody_else_did_it() {
    let world = World::new();
    let ann = world.user("ann", "internal_user");
    let request = axum::http::Request::post("/key/generate").header("authorization", format!("Bearer {ann}"));
    let request = request.header("litellm-changed-by", "the boss").body("{}".into()).unwrap();
    assert_eq!(world.send(request).await.status, 200);
    assert_eq!(world.directory.audit.lock()[0].author.user, "ann");
}

#[tokio::test]
async fn keys_expire_to_the_second_and_can_be_prolonged() {
    let world = World::sqlite().await;
    let key = world.key(json!({"duration": "1s"})).await;
    assert_eq!(world.get("/v1/models", &key).await.status, 200);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let expired = world.get("/v1/models", &key).await;
    assert_eq!((expired.error().0, expired.error().1.as_str()), (401, "expired_key"));
    assert!(!expired.text.contains(&key), "{}", expired.text);
    ok(world.post("/key/update", json!({"key": key, "duration": "1h"})).await).await;
    assert_eq!(world.get("/v1/models", &key).await.status, 200);
    let forever = ok(world.post("/key/update", json!({"key": key, "duration": "-1"})).await).await;
    assert_eq!(forever["expires"], Value::Null);
}

#[tokio::test]
async fn aliases_stay_unique_however_they_change() {
    let world = World::sqlite().await;
    let one = world.key(json!({"key_alias": "one"})).await;
    let two = world.key(json!({"key_alias": "two"})).await;
    for (path, body) in [
        ("/key/generate", json!({"key_alias": "one"})),
        ("/key/update", json!({"key": two, "key_alias": "one"})),
        ("/key/regenerate", json!({"key": two, "key_alias": "one"})),
    ] {
        assert_eq!(param(&world.post(path, body).await), (400, Some("key_alias".to_owned())), "{path}");
    }
    assert_eq!(world.get("/v1/models", &two).await.status, 200, "not rotated");
    ok(world.post("/key/update", json!({"key": one, "key_alias": null})).await).await;
    ok(world.post("/key/update", json!({"key": two, "key_alias": "one"})).await).await;
    let bulk = json!({"keys": [{"key": one, "key_alias": "one"}, {"key": one, "rpm_limit": 3}, {"key": "sk-nobody-knows-me-1"}]});
    let bulk = ok(world.post("/key/bulk_update", bulk).await).await;
    assert_eq!(
        (&bulk["total_requested"], bulk["successful_updates"].as_array().unwrap().len()),
        (&json!(3), 1)
    );
    assert_eq!(bulk["successful_updates"][0]["key_info"]["rpm_limit"], 3);
    assert!(bulk["failed_updates"][0]["failed_reason"].as_str().unwrap().contains("key_alias"));
}

#[tokio::test]
async fn no_key_joins_a_team_that_is_being_deleted() {
    let world = World::sqlite().await;
    for round in 0..8 {
        let team = format!("team-{round}");
        world.post("/team/new", json!({"team_id": team})).await;
        let keys = (0..6).map(|_| world.post("/key/generate", json!({"team_id": team})));
        let gone = world.post("/team/delete", json!({"team_ids": [team]}));
        let (made, gone) = tokio::join!(futures_util::future::join_all(keys), gone);
        assert_eq!(gone.status, 200, "{}", gone.text);
        for made in made {
            assert!([200, 400, 409].contains(&made.status), "{}", made.text);
        }
        let left = ok(world.get(&format!("/key/list?team_id={team}"), MASTER).await).await;
        assert_eq!(left["total_count"], 0, "a key outlived its team");
    }
}
