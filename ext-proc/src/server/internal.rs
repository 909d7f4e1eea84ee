//! Endpoints for the gate. Bodies are the contract's; another version is refused by name.

use std::sync::Arc;

use attache_llm::contract::{
    self, DECIDE_PATH, DecideAsk, KEY_CHANGES_PATH, KEY_LOOKUP_PATH, KeyAnswer, KeyChangesAsk, KeyLookup,
    REPLAN_PATH, USAGE_PATH, UsageAck, UsageBatch,
};
use attache_llm::error::ApiError;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, post};
use axum::{Json, Router};
use http_body_util::BodyExt;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::app::App;
use super::decide;

/// Largest body: 500 records of a batch are about 1 MB.
const MAX_BODY: usize = 32 * 1024 * 1024;

pub(super) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route(KEY_LOOKUP_PATH, post(lookup))
        .route(KEY_CHANGES_PATH, post(changes))
        .route(DECIDE_PATH, post(decisions))
        .route(USAGE_PATH, post(usage))
        .route(REPLAN_PATH, any(replan))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(app)
}

/// Renders an error as the whole response.
pub(super) fn render(error: &ApiError) -> Response {
    let status = http::StatusCode::from_u16(error.status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, error.to_json()).into_response();
    for (name, value) in error.headers() {
        if let Ok(value) = http::HeaderValue::try_from(value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

async fn lookup(State(app): State<Arc<App>>, body: Bytes) -> Response {
    let _working = app.work.token();
    let ask = match read::<KeyLookup>(&body, |ask| ask.contract) {
        Ok(ask) => ask,
        Err(error) => return refuse(KEY_LOOKUP_PATH, &error),
    };
    match app.keys.record(&ask.hash).await {
        Ok(key) => Json(KeyAnswer { contract: contract::VERSION, key }).into_response(),
        Err(error) => refuse(KEY_LOOKUP_PATH, &ApiError::auth_unavailable().with_internal(error.to_string())),
    }
}

async fn changes(State(app): State<Arc<App>>, body: Bytes) -> Response {
    match read::<KeyChangesAsk>(&body, |ask| ask.contract) {
        Ok(ask) => Json(app.keys.changes(&ask)).into_response(),
        Err(error) => refuse(KEY_CHANGES_PATH, &error),
    }
}

async fn decisions(State(app): State<Arc<App>>, body: Bytes) -> Response {
    let _working = app.work.token();
    match read::<DecideAsk>(&body, |ask| ask.contract) {
        Ok(ask) => {
            let json = [(http::header::CONTENT_TYPE, "application/json")];
            (json, Body::new(decide::decide(app.clone(), ask).await)).into_response()
        }
        Err(error) => refuse(DECIDE_PATH, &error),
    }
}

/// Answers 200 only when every record is durable: Envoy keeps and repeats what is not.
async fn usage(State(app): State<Arc<App>>, body: Bytes) -> Response {
    let batch = match read::<UsageBatch>(&body, |batch| batch.contract) {
        Ok(batch) => batch,
        Err(error) => return refuse(USAGE_PATH, &error),
    };
    match app.usage(batch).await {
        Ok(accepted) => Json(UsageAck { contract: contract::VERSION, accepted }).into_response(),
        Err(error) => {
            let message = "Usage cannot be kept right now. Send it again.";
            let error =
                ApiError { status: 503, message: message.into(), ..ApiError::internal(error.to_string()) };
            refuse(USAGE_PATH, &error)
        }
    }
}

/// The last step of a plan that wants another one. The adapter adds the `location`, and Envoy's internal redirect then
/// asks for the next plan with the body that it holds.
///
/// Envoy sends that body here as to any upstream, up to the gate's limit. Nobody wants it: over HTTP/2 the answer does
/// not wait for it, and its stream alone ends. An HTTP/1.1 connection would have to be closed with it, which can lose
/// the answer, so that there the body is read and dropped.
async fn replan(request: Request) -> Response {
    if request.version() < http::Version::HTTP_2 {
        let mut body = request.into_body();
        while let Some(Ok(_)) = body.frame().await {}
    }
    (http::StatusCode::TEMPORARY_REDIRECT, Body::empty()).into_response()
}

fn refuse(path: &str, error: &ApiError) -> Response {
    tracing::warn!(path, %error, "internal request refused");
    render(error)
}

/// Only the version, readable whatever else has changed.
#[derive(Deserialize)]
struct Versioned {
    contract: u32,
}

fn read<T: DeserializeOwned>(body: &[u8], version: impl FnOnce(&T) -> u32) -> Result<T, ApiError> {
    // Once for the whole body, not for every text in it.
    let text = std::str::from_utf8(body)
        .map_err(|error| ApiError::invalid_request(format!("Invalid JSON payload: {error}"), None))?;
    let parsed = serde_json::from_str::<T>(text);
    let theirs = match &parsed {
        Ok(message) => Some(version(message)),
        Err(_) => serde_json::from_str::<Versioned>(text).ok().map(|v| v.contract),
    };
    if let Some(theirs) = theirs.filter(|&theirs| theirs != contract::VERSION) {
        return Err(ApiError { status: 409, ..ApiError::version_mismatch(contract::VERSION, theirs) });
    }
    parsed.map_err(|error| ApiError::invalid_request(format!("Invalid JSON payload: {error}"), None))
}
