//! The admin API: LiteLLM's management calls, as far as they exist yet.

use std::sync::Arc;

use axum::Router;

use crate::config::Config;
use crate::keys::KeyDirectory;
use crate::ledger::Books;
use crate::routing::SnapshotHandle;
use crate::store::Database;

/// What the admin API works on.
#[derive(Clone)]
pub struct AdminState {
    pub keys: Arc<KeyDirectory>,
    pub database: Arc<dyn Database>,
    pub snapshot: SnapshotHandle,
    pub books: Arc<Books>,
    pub config: Arc<Config>,
    /// Version of the binary, for `/health/readiness`.
    pub version: &'static str,
}

/// The routes. It has a fallback (404 in OpenAI's shape): merge it with routers that have none.
pub fn router(state: AdminState) -> Router {
    Router::new().with_state(state)
}
