//! What operators see: health, readiness, metrics, explanations.

use attache_llm::class::ErrorClass;
use attache_llm::contract::{AttemptReport, Replan, Tried};

use super::*;
use crate::config::Requirement;

impl Server {
    async fn start_requiring(what: &[Requirement]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::start_with(dir, |config| config.general_settings.readiness_requires = what.to_vec()).await
    }

    /// The value of a metric, with its labels as in the text.
    async fn metric(&self, name: &str) -> Option<u64> {
        let (_, text) = self.health("/metrics").await;
        let prefix = format!("attache_{name} ");
        text.as_str().unwrap().lines().find_map(|line| line.strip_prefix(&prefix)?.parse().ok())
    }

    /// GET of the admin API with the master key.
    async fn admin(&self, path: &str) -> Json {
        let stream = TokioIo::new(UnixStream::connect(&self.socket).await.unwrap());
        let (status, body) = request(stream, "GET", path, Bytes::new()).await;
        assert_eq!(status, 200, "{body}");
        body
    }

    async fn until(&self, what: &str, condition: impl AsyncFn() -> bool) {
        for _ in 0..300 {
            if condition().await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("waited in vain for {what}");
    }
}

/// A failure with 429 that says when to come back: takes the deployment of a larger group out of service at once.
fn report(deployment: &str, status: u16) -> AttemptReport {
    AttemptReport {
        deployment: deployment.into(),
        outcome: AttemptOutcome::ErrorStatus,
        status,
        class: Some(ErrorClass::of_status(status)),
        retry_after_s: Some(30),
    }
}

fn reports(attempts: Vec<AttemptReport>) -> Bytes {
    serde_json::to_vec(&UsageBatch { contract: VERSION, records: Vec::new(), attempts, returned: Vec::new() })
        .unwrap()
        .into()
}

#[tokio::test]
async fn attempts_told_early_reach_the_circuit_breakers() {
    let server = Server::start().await;
    let (status, ack) = server.post(USAGE_PATH, reports(vec![report("p", 429), report("a", 500)])).await;
    assert_eq!((status, ack["accepted"].as_u64()), (200, Some(0)));
    let state = "deployment_state{deployment=\"p\",model_group=\"pair\"}";
    server.until("an open circuit", async || server.metric(state).await == Some(2)).await;
    assert_eq!(server.metric("deployment_cooling{deployment=\"p\"}").await, Some(1));
    assert_eq!(server.metric("cooldowns_total").await, Some(1));
    let (status, body) = server.health("/health").await;
    assert_eq!((status, body), (200, json!({"healthy_count": 3, "unhealthy_count": 1})));
    let listed = server.admin("/health").await;
    assert!(listed["unhealthy_endpoints"][0]["error"].as_str().unwrap().contains("429"), "{listed}");
}

#[tokio::test]
async fn a_refused_credential_is_listed_and_counted() {
    let server = Server::start().await;
    server.post(USAGE_PATH, reports(vec![report("p", 401)])).await;
    let name = "credential_failures_total{deployment=\"p\"}";
    server.until("the failure", async || server.metric(name).await == Some(1)).await;
    assert_eq!(
        server.admin("/health").await["credential_failures"],
        json!([{"model_id": "p", "failures": 1}])
    );
}

#[tokio::test]
async fn an_admin_is_told_the_plan_instead_of_getting_it() {
    let server = Server::start().await;
    let question = |key: &str, model: &str| question(&Ask { explain: true, ..ask(key, model) });
    let told = immediate(server.process(question(MASTER_KEY_HASH, "gpt")).await.unwrap());
    assert_eq!((told.status.unwrap().code, told.details.as_str()), (200, "attache_explain"));
    let body = String::from_utf8(told.body).unwrap();
    let explained: Json = serde_json::from_str(&body).unwrap();
    assert_eq!(explained["group"], "gpt", "{body}");
    assert!(server.counters.admitted.lock().is_empty(), "nothing is reserved");
    let refused = immediate(server.process(question("somebody", "gpt")).await.unwrap());
    assert_eq!(refused.status.unwrap().code, 403);
    let unknown = immediate(server.process(question(MASTER_KEY_HASH, "nonsense")).await.unwrap());
    assert_eq!((unknown.status.unwrap().code, unknown.details.as_str()), (404, "attache_model_not_found"));
    assert_eq!(server.metric("decisions_total{result=\"allowed\"}").await, Some(0), "no decision is counted");
}

#[tokio::test]
async fn further_plans_are_counted_by_the_error_that_asked_for_them() {
    let server = Server::start().await;
    let tried = |class| Tried { deployment: "a".into(), group: "gpt".into(), class, pass: 0 };
    let tried = vec![tried(ErrorClass::Timeout), tried(ErrorClass::ContextWindow)];
    let replan = Replan { pass: 1, reservation: None, owner: None, tried };
    let ask = Ask { replan: Some(replan), ..ask(MASTER_KEY_HASH, "gpt") };
    server.process(question(&ask)).await.unwrap();
    assert_eq!(server.metric("replans_total{class=\"context_window\"}").await, Some(1));
    assert_eq!(server.metric("replans_total{class=\"timeout\"}").await, Some(0));
}

#[tokio::test]
async fn readiness_waits_for_what_is_required_and_for_nothing_else() {
    use Requirement::{Database, Deployments, Redis};
    let server = Server::start_requiring(&[Redis, Database, Deployments]).await;
    let readiness = async || {
        let (status, body) = server.health("/health/readiness").await;
        (status, body["reasons"].to_string())
    };
    server.envoy.0.store(false, Ordering::Relaxed);
    assert_eq!(readiness().await, (200, "[]".to_owned()), "Envoy is not required here");
    server.counters.away.store(true, Ordering::Relaxed);
    let (status, reasons) = readiness().await;
    assert!(status == 503 && reasons.contains("Redis"), "{reasons}");
    server.counters.away.store(false, Ordering::Relaxed);
    server.database.away.store(true, Ordering::Relaxed);
    server.until("the database", async || readiness().await.1.contains("database")).await;
}
