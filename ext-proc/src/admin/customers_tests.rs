use serde_json::{Value, json};

use super::super::tests::{Answer, MASTER, World};

async fn ok(answer: Answer) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

#[tokio::test]
async fn customers_live_under_both_prefixes() {
    let world = World::new();
    ok(world.post("/budget/new", json!({"budget_id": "small", "max_budget": 0.7})).await).await;
    let body = json!({"user_id": "acme", "alias": "Acme", "budget_id": "small", "allowed_model_region": "eu",
        "default_model": "chat", "spend": 0.25});
    let made = ok(world.post("/customer/new", body).await).await;
    assert_eq!(
        (&made["user_id"], &made["spend"], &made["max_budget"]),
        (&json!("acme"), &json!(0.25), &Value::Null)
    );
    assert_eq!(made["litellm_budget_table"]["max_budget"], 0.7, "of the shared budget");
    let own = json!({"user_id": "acme", "budget_id": null, "max_budget": 0.4, "budget_duration": "1d"});
    let changed = ok(world.post("/end_user/update", own).await).await;
    assert_eq!(
        (&changed["alias"], &changed["litellm_budget_table"]["max_budget"]),
        (&json!("Acme"), &json!(0.4))
    );
    let info = ok(world.get("/customer/info?end_user_id=acme", MASTER).await).await;
    assert_eq!((&info["allowed_model_region"], &info["default_model"]), (&json!("eu"), &json!("chat")));

    let blocked = ok(world.post("/customer/block", json!({"user_ids": ["acme", "never-seen"]})).await).await;
    assert_eq!(blocked["blocked_users"].as_array().unwrap().len(), 2);
    assert_eq!(blocked["blocked_users"][1]["blocked"], true);
    let free = ok(world.post("/end_user/unblock", json!({"user_ids": ["acme"]})).await).await;
    assert_eq!(free["unblocked_users"][0]["blocked"], false);

    let list = ok(world.get("/end_user/list", MASTER).await).await;
    assert_eq!(list.as_array().unwrap().len(), 2);
    let page = ok(world.get("/customer/list?page=2&page_size=1", MASTER).await).await;
    assert_eq!((&page["total"], &page["total_pages"]), (&json!(2), &json!(2)));
    assert_eq!(ok(world.get("/customer/list?blocked=true", MASTER).await).await[0]["user_id"], "never-seen");
    let gone = ok(world.post("/customer/delete", json!({"user_ids": ["acme", "never-seen"]})).await).await;
    assert_eq!(gone["deleted_customers"], 2);
    assert_eq!(world.get("/customer/info?end_user_id=acme", MASTER).await.error().0, 404);

    for (path, body, status, param) in [
        ("/customer/new", json!({}), 400, "user_id"),
        (
            "/customer/new",
            json!({"user_id": "x", "allowed_model_region": "mars"}),
            400,
            "allowed_model_region",
        ),
        ("/customer/new", json!({"user_id": "x", "budget_id": "none"}), 404, "budget_id"),
        ("/customer/update", json!({"user_id": "x", "alias": "y"}), 404, "user_id"),
        ("/customer/delete", json!({"user_ids": ["x"]}), 404, "user_ids"),
        ("/customer/unblock", json!({"user_ids": ["x"]}), 404, "user_ids"),
        ("/customer/block", json!({"user_ids": []}), 400, "user_ids"),
    ] {
        let answer = world.post(path, body).await;
        assert_eq!((answer.error().0, answer.error().2.as_deref()), (status, Some(param)), "{path}");
    }
    let plain = world.user("ann", "internal_user");
    assert_eq!(world.get("/customer/list", &plain).await.error().0, 403);
    let viewer = world.user("eye", "proxy_admin_viewer");
    assert_eq!(world.get("/customer/list", &viewer).await.status, 200);
}
