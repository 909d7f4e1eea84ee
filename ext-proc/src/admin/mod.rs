//! The admin API: LiteLLM's management calls, as far as they exist yet. Paths, field names and shapes are
//! LiteLLM's; errors have OpenAI's envelope.

mod body;
mod explain;
pub(crate) mod health;
mod keys;
mod models;
mod money;
mod new_key;
mod reply;
mod spend;
mod when;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use attache_llm::error::ApiError;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

use crate::config::Config;
use crate::keys::{Caller, KeyDirectory};
use crate::ledger::Books;
use crate::routing::SnapshotHandle;
use crate::server::RouterState;
use crate::store::Database;
use reply::{Failure, json};

/// Largest body of an admin call, bytes.
pub const MAX_BODY: usize = 1024 * 1024;

/// What the admin API works on.
#[derive(Clone)]
pub struct AdminState {
    pub keys: Arc<KeyDirectory>,
    pub database: Arc<dyn Database>,
    pub snapshot: SnapshotHandle,
    pub books: Arc<Books>,
    pub config: Arc<Config>,
    /// What routing knows of the deployments.
    pub routing: RouterState,
    /// Version of the binary. Not shown to strangers.
    pub version: &'static str,
}

/// What handlers share.
#[derive(Clone)]
struct Admin {
    state: AdminState,
    flushed: Arc<spend::FlushLimit>,
}

/// The routes. The router has a fallback (404 in OpenAI's shape): merge it with routers that have none.
pub fn router(state: AdminState) -> Router {
    let admin = Admin { state, flushed: Arc::default() };
    Router::new()
        .route("/key/generate", post(keys::generate))
        .route("/key/info", get(keys::info))
        .route("/key/delete", post(keys::delete))
        .route("/key/block", post(keys::block))
        .route("/key/unblock", post(keys::unblock))
        .route("/v1/models", get(models::list))
        .route("/models", get(models::list))
        .route("/v1/models/{*id}", get(models::one))
        .route("/models/{*id}", get(models::one))
        .route("/model/info", get(models::info))
        .route("/v1/model/info", get(models::info))
        .route("/spend/logs", get(spend::logs))
        .route("/global/spend", get(spend::total))
        .route("/router/explain", get(explain::get))
        .route("/health", get(health::health))
        .route("/health/liveliness", get(alive))
        .route("/health/liveness", get(alive))
        .route("/health/readiness", get(ready))
        .fallback(unknown_route)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(admin)
}

impl Admin {
    async fn caller(&self, headers: &HeaderMap) -> Result<Caller, Failure> {
        let extra = self.state.config.general_settings.litellm_key_header_name.as_deref();
        let extra = extra.map(str::to_ascii_lowercase);
        Ok(self.state.keys.authenticate_with(headers, extra.as_deref()).await?)
    }

    /// Only the master key may pass.
    async fn master(&self, headers: &HeaderMap, route: &str) -> Result<(), Failure> {
        match self.caller(headers).await? {
            Caller::Master => Ok(()),
            Caller::Key(_) => Err(ApiError::admin_only(route).into()),
        }
    }
}

/// For load balancers on the public side: says nothing about the inside. The health listener says more.
async fn alive() -> Response {
    json(StatusCode::OK, &"I'm alive!")
}

async fn ready() -> Response {
    json(StatusCode::OK, &serde_json::json!({"status": "healthy"}))
}

async fn unknown_route(method: Method, uri: Uri) -> Response {
    Failure::from(ApiError::unknown_route(method.as_str(), uri.path())).into_response()
}

async fn wrong_method(method: Method, uri: Uri) -> Response {
    let mut error = ApiError::method_not_allowed(method.as_str());
    error.message = format!("{} may not be called with {method}.", uri.path());
    Failure::from(error).into_response()
}
