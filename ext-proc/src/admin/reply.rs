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
