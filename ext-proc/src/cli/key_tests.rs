//! Against a small double of the admin API that notes what it is asked.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::response::IntoResponse;
use clap::Parser;
use http::StatusCode;
use http_body_util::BodyExt;
use parking_lot::Mutex;

use super::*;

const MASTER: &str = "sk-master-of-this-test";
const HASH: &str = "aa00000000000000000000000000000000000000000000000000000000000000";

#[derive(Parser)]
struct Line {
    #[command(subcommand)]
    key: Key,
}

type Calls = Arc<Mutex<Vec<(String, Value)>>>;

/// Answers as LiteLLM does; `/team/info` knows the team `t1`, whose alias is `search`.
async fn gateway() -> (String, Calls) {
    let calls = Calls::default();
    let seen = Arc::clone(&calls);
    let answer = move |request: Request| {
        let seen = Arc::clone(&seen);
        async move {
            let authorization =
                request.headers().get("authorization").map(|value| value.to_str().unwrap().to_owned());
            assert!(request.headers()["litellm-changed-by"].to_str().unwrap().starts_with("cli"));
            let called = format!("{} {}", request.method(), request.uri());
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
            seen.lock().push((called.clone(), body.clone()));
            if authorization.as_deref() != Some("Bearer sk-master-of-this-test") {
                let refusal = json!({"error": {"message": "Only the master key may do this."}});
                return (StatusCode::FORBIDDEN, axum::Json(refusal)).into_response();
            }
            let path = called.split([' ', '?']).nth(1).unwrap().to_owned();
            let key = json!({"key": "sk-brand-new-key", "token": HASH, "key_name": "sk-...-key", "key_alias": "ci",
                "spend": 1.5, "max_budget": 20.0, "budget_duration": "1mo", "models": [], "warnings": ["kept: x"],
                "blocked": false, "expires": null, "rpm_limit": 100});
            let answer = match path.as_str() {
                "/team/info" if called.ends_with("team_id=t1") => json!({"team_id": "t1"}),
                "/team/info" => {
                    let error = json!({"error": {"message": "no such team"}});
                    return (StatusCode::NOT_FOUND, axum::Json(error)).into_response();
                }
                "/team/list" => {
                    json!([{"team_id": "t1", "team_alias": "search"}, {"team_id": "t2", "team_alias": "searching"}])
                }
                "/key/list" => json!({"keys": [key], "total_count": 1, "total_pages": 1}),
                "/key/info" => json!({"key": HASH, "info": {"key_name": "sk-...-key", "spend": 0.25}}),
                "/key/delete" => json!({"deleted_keys": body["keys"]}),
                _ => key,
            };
            axum::Json(answer).into_response()
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum_serve(listener, Router::new().fallback(answer)).await });
    (url, calls)
}

async fn axum_serve(listener: tokio::net::TcpListener, router: Router) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let service = hyper_util::service::TowerToHyperService::new(router.clone());
        let stream = hyper_util::rt::TokioIo::new(stream);
        tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(stream, service));
    }
}

async fn run(url: &str, arguments: &[&str]) -> anyhow::Result<String> {
    run_as(url, MASTER, arguments).await
}

async fn run_as(url: &str, master: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let gateway = ["--url", url, "--master-key", master];
    let line = ["x"].iter().chain(arguments).chain(&gateway);
    match Line::try_parse_from(line)?.key {
        Key::Create(create) => create.run().await,
        Key::List(list) => list.run().await,
        Key::Info(one) => one.info().await,
        Key::Update(update) => update.run().await,
        Key::Block(one) => one.set_blocked(true).await,
        Key::Unblock(one) => one.set_blocked(false).await,
        Key::Delete(delete) => delete.run().await,
        Key::Rotate(rotate) => rotate.run().await,
    }
}

#[tokio::test]
async fn a_key_is_made_as_asked_and_shown_once() {
    let (url, calls) = gateway().await;
    let line = [
        "create",
        "--team",
        "search",
        "--budget",
        "20/month",
        "--models",
        "gpt-4o,gpt-4o-mini",
        "--alias",
        "ci",
        "--rpm",
        "100",
        "--tpm",
        "100000",
        "--duration",
        "30d",
    ];
    let text = run(&url, &line).await.unwrap();
    assert!(text.contains("sk-brand-new-key") && text.contains("not shown again"), "{text}");
    assert!(text.contains("$1.50 of $20 per 1mo"), "{text}");
    let (called, body) = calls.lock().last().unwrap().clone();
    assert_eq!(called, "POST /key/generate");
    assert_eq!(
        body,
        json!({"team_id": "t1", "max_budget": 20.0, "budget_duration": "1mo", "models": ["gpt-4o", "gpt-4o-mini"],
            "key_alias": "ci", "rpm_limit": 100, "tpm_limit": 100_000, "duration": "30d"})
    );
    let shown = run(&url, &["create", "--json"]).await.unwrap();
    assert_eq!(serde_json::from_str::<Value>(&shown).unwrap()["key"], "sk-brand-new-key");
}

#[tokio::test]
async fn keys_are_listed_and_shown_without_secrets() {
    let (url, calls) = gateway().await;
    let text = run(&url, &["list", "--team", "t1", "--user", "u1"]).await.unwrap();
    assert!(text.contains("sk-...-key") && text.contains("1 keys, page 1 of 1"), "{text}");
    assert!(!text.contains("sk-brand-new-key"), "{text}");
    let called = calls.lock().last().unwrap().0.clone();
    assert_eq!(called, "GET /key/list?return_full_object=true&page=1&size=50&team_id=t1&user_id=u1");
    let text = run(&url, &["info", "ci"]).await.unwrap();
    assert!(text.contains(HASH) && text.contains("$0.25"), "{text}");
}

#[tokio::test]
async fn a_key_is_named_by_itself_its_hash_or_its_alias() {
    let (url, calls) = gateway().await;
    let body = || calls.lock().last().unwrap().clone();
    let text = run(&url, &["block", "sk-some-plain-key-1234"]).await.unwrap();
    assert_eq!(text, "sk-...1234 is blocked");
    assert_eq!(body(), ("POST /key/block".to_owned(), json!({"key": "sk-some-plain-key-1234"})));
    run(&url, &["unblock", HASH]).await.unwrap();
    assert_eq!(body(), ("POST /key/unblock".to_owned(), json!({"key": HASH})));
    assert_eq!(run(&url, &["delete", "ci", "sk-other-key"]).await.unwrap(), "2 deleted");
    assert_eq!(body(), ("POST /key/delete".to_owned(), json!({"keys": [HASH, "sk-other-key"]})));
    let error = run(&url, &["block", "nobody"]).await.unwrap_err().to_string();
    assert_eq!(error, "there is no key with the alias \"nobody\"");
}

#[tokio::test]
async fn keys_are_changed_and_rotated() {
    let (url, calls) = gateway().await;
    let body = || calls.lock().last().unwrap().clone();
    run(&url, &["update", "ci", "--rpm", "7", "--duration", "-1"]).await.unwrap();
    assert_eq!(
        body(),
        ("POST /key/update".to_owned(), json!({"key": HASH, "rpm_limit": 7, "duration": "-1"}))
    );
    let error = run(&url, &["update", "ci"]).await.unwrap_err().to_string();
    assert_eq!(error, "nothing to change is given");
    let text = run(&url, &["rotate", "ci", "--grace", "24h"]).await.unwrap();
    assert!(text.contains("sk-brand-new-key") && text.contains("another 24h"), "{text}");
    assert_eq!(body(), ("POST /key/regenerate".to_owned(), json!({"key": HASH, "grace_period": "24h"})));
}

#[tokio::test]
async fn refusals_are_told_without_the_key() {
    let (url, _) = gateway().await;
    let error = format!("{:#}", run_as(&url, "sk-not-the-master-key", &["list"]).await.unwrap_err());
    assert_eq!(error, "Only the master key may do this. (status 403)");
    let error = format!("{:#}", run(&url, &["create", "--team", "nobody"]).await.unwrap_err());
    assert!(error.contains("no team with the id or the alias \"nobody\""), "{error}");
    let error = format!("{:#}", run("http://127.0.0.1:1", &["list"]).await.unwrap_err());
    assert!(
        error.starts_with("cannot ask http://127.0.0.1:1: cannot connect") && !error.contains(MASTER),
        "{error}"
    );
    let error = format!("{:#}", run("unix:/nowhere/attache.sock", &["list"]).await.unwrap_err());
    assert!(error.starts_with("cannot ask unix:/nowhere/attache.sock"), "{error}");
}
