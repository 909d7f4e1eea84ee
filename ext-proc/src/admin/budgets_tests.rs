use serde_json::{Value, json};

use super::super::tests::{Answer, MASTER, World};
use crate::entity::{EntityKind, EntityRef};

async fn ok(answer: Answer) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

#[tokio::test]
async fn a_budget_is_made_changed_shown_and_taken_from_its_holders() {
    let world = World::new();
    let body = json!({"budget_id": "b", "max_budget": 0.1, "soft_budget": 0.05, "budget_duration": "30d", "tpm_limit": 10,
        "model_max_budget": {"chat": {"budget_limit": 0.02, "time_period": "1d"}}});
    let made = ok(world.post("/budget/new", body).await).await;
    assert_eq!(
        (&made["budget_id"], &made["max_budget"], &made["tpm_limit"]),
        (&json!("b"), &json!(0.1), &json!(10))
    );
    assert_eq!(made["model_max_budget"]["chat"], json!({"budget_limit": 0.02, "time_period": "1d"}));
    let changed =
        ok(world.post("/budget/update", json!({"budget_id": "b", "max_budget": 2, "tpm_limit": null})).await)
            .await;
    assert_eq!(
        (&changed["max_budget"], &changed["tpm_limit"], &changed["soft_budget"]),
        (&json!(2.0), &Value::Null, &json!(0.05))
    );
    assert_eq!(
        ok(world.post("/budget/info", json!({"budgets": ["b"]})).await).await[0]["budget_duration"],
        "30d"
    );
    assert_eq!(ok(world.get("/budget/list", MASTER).await).await.as_array().unwrap().len(), 1);
    let settings = ok(world.get("/budget/settings?budget_id=b", MASTER).await).await;
    let max = settings.as_array().unwrap().iter().find(|field| field["field_name"] == "max_budget").unwrap();
    assert_eq!((&max["field_value"], &max["field_type"]), (&json!(2.0), &json!("Float")));

    ok(world.post("/customer/new", json!({"user_id": "acme", "budget_id": "b"})).await).await;
    ok(world.post("/team/new", json!({"team_id": "t", "budget_id": "b"})).await).await;
    let gone = ok(world.post("/budget/delete", json!({"id": "b"})).await).await;
    assert_eq!((&gone["budget_id"], &gone["detached"]), (&json!("b"), &json!(2)));
    for of in [EntityRef::new(EntityKind::EndUser, "acme"), EntityRef::new(EntityKind::Team, "t")] {
        assert_eq!(world.directory.all.lock()[&of].budget_id, None, "{of:?}");
    }
    for (path, body, status, param) in [
        ("/budget/delete", json!({"id": "b"}), 404, "id"),
        ("/budget/info", json!({"budgets": ["b"]}), 404, "budgets"),
        ("/budget/info", json!({}), 400, "budgets"),
        ("/budget/update", json!({"budget_id": "b"}), 404, "budget_id"),
        ("/budget/update", json!({}), 400, "budget_id"),
        ("/budget/new", json!({"max_budget": -1}), 400, "max_budget"),
        ("/budget/new", json!({"budget_duration": "soon"}), 400, "budget_duration"),
    ] {
        let answer = world.post(path, body).await;
        assert_eq!((answer.error().0, answer.error().2.as_deref()), (status, Some(param)), "{path}");
    }
    let twice = json!({"budget_id": "c"});
    ok(world.post("/budget/new", twice.clone()).await).await;
    assert_eq!(world.post("/budget/new", twice).await.error().2.as_deref(), Some("budget_id"));
}
