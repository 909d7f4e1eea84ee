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

pub(super) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/health/liveliness", get(alive))
        .route("/health/liveness", get(alive))
        .route("/health/readiness", get(ready))
        .route("/metrics", get(prometheus))
        .with_state(app)
}

async fn alive() -> Response {
    Json("I'm alive!").into_response()
}

/// 200 once an Envoy has acknowledged the clusters, and until the drain. A store that is away is shown and does
/// not make the replica unready: it works in a degraded mode, and so would every other replica.
async fn ready(State(app): State<Arc<App>>) -> Response {
    let mut reasons = Vec::new();
    if !app.envoy.ready() {
        reasons.push("no Envoy has acknowledged the clusters yet");
    }
    if app.is_draining() {
        reasons.push("draining");
    }
    let ready = reasons.is_empty();
    let books = app.books.status();
    let generation = app.snapshot.load().generation;
    let body = json!({
        "status": if ready { "healthy" } else { "unhealthy" },
        "reasons": reasons,
        "db": if app.stores.database_away() { "away" } else { "connected" },
        "counters": if app.counters.degraded() { "degraded" } else { "connected" },
        "spool": {"pending": books.pending, "last_error": books.last_error},
        "envoy": app.envoy.status(),
        "generation": generation,
        "config": {"generation": generation, "last_error": app.reloads.last_error()},
        "attache_version": env!("CARGO_PKG_VERSION"),
    });
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(body)).into_response()
}

async fn prometheus(State(app): State<Arc<App>>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], metrics::render(&app)).into_response()
}
