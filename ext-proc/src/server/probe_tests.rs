use std::collections::HashMap as Map;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use tokio::net::TcpListener;

use super::*;
use crate::config::Secret;

/// A provider that lists models for a bearer token whose text is the status to answer with.
async fn provider() -> (u16, Arc<AtomicUsize>) {
    let asked = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&asked);
    let answer = move |request: Request| {
        counted.fetch_add(1, Ordering::Relaxed);
        async move { reply(&request) }
    };
    let router = Router::new().fallback(answer);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(super::super::connections::Connections::new().serve_tcp(listener, None, router));
    (port, asked)
}

fn reply(request: &Request) -> Response {
    let token = request.headers()["authorization"].to_str().unwrap();
    let status: u16 = token.strip_prefix("Bearer ").unwrap().parse().unwrap();
    if request.uri().path() != "/v1/models" || request.method() != "GET" {
        return StatusCode::IM_A_TEAPOT.into_response();
    }
    StatusCode::from_u16(status).unwrap().into_response()
}

fn meta(provider: &str, base_path: &str) -> DeploymentMeta {
    serde_json::from_value(serde_json::json!({
        "contract": 1, "id": "a", "group": "g", "provider": provider, "model": "m",
        "authority": "upstream.test", "base_path": base_path,
    }))
    .unwrap()
}

fn snapshot(deployments: &[(&str, u16, &str)]) -> Snapshot {
    let deployment = |&(id, port, token): &(&str, u16, &str)| {
        let meta =
            DeploymentMeta { id: id.into(), authority: format!("127.0.0.1:{port}"), ..meta("openai", "/v1") };
        let deployment = Deployment {
            host: "127.0.0.1".into(),
            port,
            tls: false,
            credential: Some(Credential::Header(
                "authorization".into(),
                Secret::new(format!("Bearer {token}")),
            )),
            ..Deployment::new(meta)
        };
        (id.to_owned(), Arc::new(deployment))
    };
    Snapshot { deployments: deployments.iter().map(deployment).collect::<Map<_, _>>(), ..Snapshot::default() }
}

#[tokio::test]
async fn answers_are_told_apart_and_shared() {
    let (port, asked) = provider().await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let snapshot = snapshot(&[
        ("good", port, "200"),
        ("same", port, "200"),
        ("no-list", port, "404"),
        ("no-get", port, "405"),
        ("busy", port, "429"),
        ("revoked", port, "401"),
        ("forbidden", port, "403"),
        ("broken", port, "503"),
        ("gone", free, "200"),
    ]);
    let probes = Probes::new();
    round(&Client::without_tls(), &snapshot, &probes).await;
    for healthy in ["good", "same", "no-list", "no-get", "busy"] {
        let health = probes.get(healthy).unwrap();
        assert!(health.healthy && health.checked_ms > 0, "{healthy}: {health:?}");
    }
    for (unhealthy, why) in [
        ("revoked", "credential refused (401)"),
        ("forbidden", "credential refused (403)"),
        ("broken", "HTTP 503"),
        ("gone", "cannot connect"),
    ] {
        let health = probes.get(unhealthy).unwrap();
        assert!(!health.healthy && health.detail.contains(why), "{unhealthy}: {health:?}");
    }
    assert_eq!(
        asked.load(Ordering::Relaxed),
        7,
        "two deployments of one address and credential share a probe"
    );
}

#[tokio::test]
async fn a_deployment_that_cannot_be_asked_has_no_result() {
    let mut snapshot = snapshot(&[("tls", 443, "200")]);
    let plain = snapshot.deployments.remove("tls").unwrap();
    let tls = Deployment { tls: true, ..Arc::into_inner(plain).unwrap() };
    snapshot.deployments.insert("tls".into(), Arc::new(tls));
    let probes = Probes::new();
    round(&Client::without_tls(), &snapshot, &probes).await;
    assert!(probes.get("tls").is_none());
}

#[test]
fn the_list_of_models_is_beside_the_chat_endpoint() {
    let models_path = |meta: &DeploymentMeta| models_path(meta).unwrap_or_default();
    assert_eq!(models_path(&meta("openai", "/v1")), "/v1/models");
    assert_eq!(models_path(&meta("openai", "/v1/chat/completions")), "/v1/models");
    assert_eq!(models_path(&meta("openai", "")), "/models");
    let azure = |version: &str, base: &str| {
        models_path(&DeploymentMeta { api_version: Some(version.into()), ..meta("azure", base) })
    };
    assert_eq!(azure("2024-10-21", ""), "/openai/models?api-version=2024-10-21");
    assert_eq!(azure("2024-10-21", "/openai/deployments/x"), "/openai/models?api-version=2024-10-21");
    assert_eq!(azure("preview", ""), "/openai/v1/models?api-version=preview");
    assert_eq!(azure("v1", ""), "/openai/v1/models");
    assert_eq!(models_path(&meta("anthropic", "")), "/v1/models");
    assert_eq!(models_path(&meta("gemini", "/v1beta")), "/v1beta/models");
    assert_eq!(models_path(&meta("bedrock", "")), "", "the runtime has no list");
}
