use axum::Router;

use super::Admin;

pub(super) fn routes() -> Router<Admin> {
    Router::new()
}
