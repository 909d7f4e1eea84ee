//! The admin API: LiteLLM's management calls, as far as they exist yet. Paths, field names and shapes are
//! LiteLLM's; errors have OpenAI's envelope.

mod access;
mod audit;
mod body;
mod budgets;
mod customers;
mod edit;
mod entity_fields;
mod explain;
pub(crate) mod health;
mod key_change;
mod key_list;
mod key_new;
mod key_rotate;
mod key_rules;
mod keys;
mod members;
mod model_info;
mod models;
mod money;
mod organizations;
mod people;
mod provider_budgets;
mod query;
mod removal;
mod reply;
mod routes_allowed;
mod shown;
mod spend;
mod spent;
mod tags;
mod teams;
mod users;
mod when;

#[cfg(test)]
mod access_cases;
#[cfg(test)]
mod key_tests;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use attache_llm::error::ApiError;
use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use serde_json::{Map, Value};

use crate::config::Config;
use crate::entity::EntityRef;
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
    /// Keys, teams, users and whoever else has rights, limits or a budget; and the ledger.
    pub database: Arc<dyn Database>,
    pub snapshot: SnapshotHandle,
    pub books: Arc<Books>,
    pub config: Arc<Config>,
    /// What routing knows of the deployments.
    pub routing: RouterState,
    /// Version of the binary. Not shown to strangers.
    pub version: &'static str,
}

/// Rules of the configuration about new keys.
struct KeyPolicy<'a> {
    /// `default_key_generate_params`.
    defaults: &'a Map<String, Value>,
    /// `upperbound_key_generate_params`.
    bounds: &'a Map<String, Value>,
    /// `key_generation_settings`.
    generation: &'a Map<String, Value>,
    /// `disable_custom_api_keys`.
    no_custom: bool,
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
        .route("/v1/models", get(models::list))
        .route("/models", get(models::list))
        .route("/v1/models/{*id}", get(models::one))
        .route("/models/{*id}", get(models::one))
        .route("/router/explain", get(explain::get))
        .route("/health", get(health::health))
        .route("/health/liveliness", get(alive))
        .route("/health/liveness", get(alive))
        .route("/health/readiness", get(ready))
        .merge(model_info::routes())
        .merge(provider_budgets::routes())
        .merge(audit::routes())
        .merge(keys::routes())
        .merge(teams::routes())
        .merge(members::routes())
        .merge(users::routes())
        .merge(customers::routes())
        .merge(organizations::routes())
        .merge(budgets::routes())
        .merge(tags::routes())
        .merge(spend::routes())
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

    /// What the configuration says of new keys.
    fn key_policy(&self) -> KeyPolicy<'_> {
        let litellm = &self.state.config.litellm_settings;
        KeyPolicy {
            defaults: &litellm.default_key_generate_params,
            bounds: &litellm.upperbound_key_generate_params,
            generation: &litellm.key_generation_settings,
            no_custom: self.state.config.general_settings.disable_custom_api_keys,
        }
    }

    /// Tells caches and gates that these entities changed, or may have changed.
    fn changed(&self, changed: &[EntityRef]) {
        self.state.keys.changed(changed);
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

async fn wrong_method(matched: Option<MatchedPath>, method: Method, uri: Uri) -> Response {
    // A name at the end, as in `PATCH /team/{team_id}`, fits everything: to other methods it is no route.
    if matched.is_some_and(|route| route.as_str().ends_with('}')) {
        return unknown_route(method, uri).await;
    }
    let mut error = ApiError::method_not_allowed(method.as_str(), &["POST"]);
    error.message = format!("{} may not be called with {method}.", uri.path());
    Failure::from(error).into_response()
}
