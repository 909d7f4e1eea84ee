//! Health and metrics on a listener of their own, which no load on the request path can starve of connections.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::{StatusCode, header};
use serde_json::json;

use super::app::App;
use super::metrics;
use crate::admin::{self, health::Known};
use crate::config::Requirement;
use crate::ledger::Buffer;

pub(super) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/health", get(deployments))
        .route("/health/liveliness", get(alive))
        .route("/health/liveness", get(alive))
        .route("/health/readiness", get(ready))
        .route("/metrics", get(prometheus))
        .with_state(app)
}

async fn alive() -> Response {
    Json("I'm alive!").into_response()
}

/// How many deployments are in service. Which ones is told by the admin API, to those who hold the master key.
async fn deployments(State(app): State<Arc<App>>) -> Response {
    let snapshot = app.snapshot.load_full();
    admin::health::counts(Known::of(&snapshot, &app.routing))
}

/// 200 once everything that the operator requires is there (`readiness_requires`), and until the drain.
///
/// By default that is an Envoy with the clusters: a store that is away is shown and does not make the replica unready,
/// since it works in a degraded mode, and so would every other replica.
async fn ready(State(app): State<Arc<App>>) -> Response {
    let mut reasons: Vec<String> = app
        .config
        .general_settings
        .readiness_requires
        .iter()
        .filter_map(|wanted| lacks(&app, *wanted))
        .collect();
    if app.is_draining() {
        reasons.push("draining".to_owned());
    }
    let ready = reasons.is_empty();
    let books = app.books.status();
    let generation = app.snapshot.load().generation;
    let body = json!({
        "status": if ready { "healthy" } else { "unhealthy" },
        "reasons": reasons,
        "db": if app.stores.database_away() { "away" } else { "connected" },
        "counters": if app.routing.counters.degraded() { "degraded" } else { "connected" },
        "ledger": {
            "pending": books.pending,
            "oldest_seconds": books.oldest_age.map(|age| age.as_secs()),
            "buffer": if books.buffer == Buffer::Redis { "redis" } else { "spool" },
            "reason": if let Buffer::Instead(reason) = books.buffer { Some(reason.label()) } else { None },
            "last_error": books.last_error,
        },
        "envoy": app.envoy.status(),
        "generation": generation,
        "config": {"generation": generation, "last_error": app.reloads.last_error()},
        "attache_version": env!("CARGO_PKG_VERSION"),
    });
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(body)).into_response()
}

/// Why a requirement is not met.
fn lacks(app: &App, wanted: Requirement) -> Option<String> {
    match wanted {
        Requirement::Envoy => {
            (!app.envoy.ready()).then(|| "no Envoy has acknowledged the clusters yet".to_owned())
        }
        Requirement::Database => app.stores.database_away().then(|| "the database is away".to_owned()),
        Requirement::Redis => {
            app.routing.counters.degraded().then(|| "Redis is away: this process counts alone".to_owned())
        }
        Requirement::Deployments => {
            let snapshot = app.snapshot.load_full();
            let healthy = Known::of(&snapshot, &app.routing).healthy();
            (healthy == 0).then(|| "no deployment is in service".to_owned())
        }
    }
}

async fn prometheus(State(app): State<Arc<App>>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], metrics::render(&app)).into_response()
}
