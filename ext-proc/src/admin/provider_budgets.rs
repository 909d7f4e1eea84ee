//! `/provider/budgets`: what providers may cost, and do.

use std::collections::BTreeMap;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;

use super::access::Actor;
use super::reply::{Failure, private_json};
use super::shown::Shown;
use super::{Admin, when};
use crate::routing::{now_ms, provider_budgets};

pub(super) fn routes() -> Router<Admin> {
    Router::new().route("/provider/budgets", get(list))
}

async fn list(State(admin): State<Admin>, _: Actor) -> Result<Response, Failure> {
    let snapshot = admin.state.snapshot.load_full();
    let budgets = provider_budgets(&snapshot, &*admin.state.routing.counters, now_ms()).await?;
    let providers: BTreeMap<&str, Shown> = budgets
        .iter()
        .map(|row| {
            let mut shown = Shown::default();
            shown
                .money("budget_limit", Some(row.budget.limit))
                .put("time_period", &format!("{}s", row.budget.period.as_secs()))
                .money("spend", Some(row.spent))
                .put("budget_reset_at", &when::rfc3339_ms(row.reset_ms));
            (row.provider.as_str(), shown)
        })
        .collect();
    let mut shown = Shown::default();
    shown.put("providers", &providers);
    Ok(private_json(&shown))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::super::tests::{MASTER, World};
    use crate::config::Config;
    use crate::ledger::row_tests::config;
    use crate::routing::Budget;

    #[tokio::test]
    async fn providers_are_listed_with_their_window() {
        let none = World::new().get("/provider/budgets", MASTER).await;
        assert_eq!((none.status, none.json()), (200, json!({"providers": {}})));

        let mut snapshot = config();
        let budget = Budget { limit: 2_500_000_000, period: Duration::from_secs(86_400) };
        snapshot.provider_budgets.insert("openai".into(), budget);
        let world = World::with(snapshot, Config::default());
        let shown = world.get("/provider/budgets", MASTER).await;
        assert!(
            shown.text.contains(r#""budget_limit":2.5,"time_period":"86400s","spend":0.0"#),
            "{}",
            shown.text
        );
        let reset = shown.json()["providers"]["openai"]["budget_reset_at"].as_str().unwrap().to_owned();
        assert!(reset.ends_with("T00:00:00Z"), "{reset}");
    }
}
