use serde_json::{Value, json};

use super::super::tests::{Answer, MASTER, World};

async fn ok(answer: Answer) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

#[tokio::test]
async fn a_tag_has_limits_of_its_own() {
    let world = World::new();
    let body = json!({"name": "batch", "description": "Nightly jobs", "max_budget": 0.3, "budget_duration": "1d",
        "models": ["chat"]});
    let made = ok(world.post("/tag/new", body).await).await;
    assert_eq!(
        (&made["tag"]["name"], &made["tag"]["description"]),
        (&json!("batch"), &json!("Nightly jobs"))
    );
    assert_eq!(made["tag"]["litellm_budget_table"]["max_budget"], 0.3);
    let changed =
        ok(world.post("/tag/update", json!({"name": "batch", "rpm_limit": 2, "description": null})).await)
            .await;
    assert_eq!((&changed["tag"]["rpm_limit"], &changed["tag"]["description"]), (&json!(2), &Value::Null));
    let info = ok(world.post("/tag/info", json!({"names": ["batch"]})).await).await;
    assert_eq!(info["batch"]["models"], json!(["chat"]));
    assert_eq!(ok(world.get("/tag/list", MASTER).await).await.as_array().unwrap().len(), 1);
    for (path, body, status, param) in [
        ("/tag/new", json!({"name": "batch"}), 400, "name"),
        ("/tag/new", json!({}), 400, "name"),
        ("/tag/update", json!({"name": "none"}), 404, "name"),
        ("/tag/info", json!({"names": ["none"]}), 404, "names"),
        ("/tag/delete", json!({"name": "none"}), 404, "name"),
    ] {
        let answer = world.post(path, body).await;
        assert_eq!((answer.error().0, answer.error().2.as_deref()), (status, Some(param)), "{path}");
    }
    assert_eq!(world.post("/tag/delete", json!({"name": "batch"})).await.status, 200);
    assert_eq!(ok(world.get("/tag/list", MASTER).await).await, json!([]));
}
