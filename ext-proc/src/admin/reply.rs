//! Answers and errors, rendered once.

use attache_llm::error::{ApiError, Blame};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::store::StoreError;

/// An [`ApiError`] on its way out of a handler.
#[derive(Debug)]
pub(super) struct Failure(ApiError);

impl Failure {
    /// What the caller is told.
    pub(super) fn message(&self) -> String {
        self.0.message.clone()
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let mut api = match &error {
            StoreError::Unavailable { .. } => ApiError::auth_unavailable(),
            StoreError::Conflict(_) => ApiError::invalid_request(error.to_string(), None),
            StoreError::Broken { .. } => ApiError::internal(error.to_string()),
        };
        if matches!(error, StoreError::Unavailable { .. }) {
            api.kind = "no_db_connection".into();
            api.message = "The database is not reachable right now. Try again shortly.".to_owned();
            api.internal = Some(error.to_string());
        }
        Self(api)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let error = self.0;
        if error.blame == Blame::Client {
            tracing::debug!(%error, "admin call refused");
        } else {
            tracing::error!(%error, "admin call failed");
        }
        let status = StatusCode::from_u16(error.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, error.to_json()).into_response();
        for (name, value) in error.headers() {
            if let Ok(value) = HeaderValue::from_str(&value) {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }
}

/// A JSON answer.
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(bytes) => (status, [(header::CONTENT_TYPE, "application/json")], bytes).into_response(),
        Err(error) => Failure(ApiError::internal(error.to_string())).into_response(),
    }
}

/// A JSON answer that no cache may keep: it holds a key or says something about one.
pub(super) fn private_json(body: &impl Serialize) -> Response {
    let mut response = json(StatusCode::OK, body);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// 404 for a thing that the caller named.
pub(super) fn not_found(message: String, param: &'static str) -> Failure {
    let mut error = ApiError::invalid_request(message, Some(param));
    error.status = 404;
    error.kind = "not_found_error".into();
    Failure(error)
}
