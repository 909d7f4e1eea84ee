//! `/router/explain`: where would a request go, and why?

use attache_llm::contract::{self, Ask, MASTER_KEY_HASH, Wishes};
use attache_llm::path::Endpoint;
use axum::extract::{Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::Admin;
use super::access::Actor;
use super::key_change::with_alias;
use super::keys::hash_of;
use super::reply::{Failure, not_found, private_json};
use crate::routing::explain;

/// The request to explain. Everything is optional, so that what is missing is told in our own shape.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Question {
    model: String,
    stream: String,
    /// Comma separated.
    tags: String,
    input_tokens: String,
    /// Hash or alias of the key that would ask; the master key otherwise.
    key: String,
    session: String,
    /// `text` for a table, else JSON.
    format: String,
}

pub(super) async fn get(
    State(admin): State<Admin>,
    Query(question): Query<Question>,
    _: Actor,
) -> Result<Response, Failure> {
    let ask = ask(&admin, &question).await?;
    let snapshot = admin.state.snapshot.load_full();
    let explanation = explain(&admin.state.routing.context(snapshot, &*admin.state.keys), &ask).await?;
    if question.format == "text" {
        return Ok(([(CONTENT_TYPE, "text/plain; charset=utf-8")], explanation.to_string()).into_response());
    }
    Ok(private_json(&explanation))
}

async fn ask(admin: &Admin, question: &Question) -> Result<Ask, Failure> {
    use attache_llm::error::ApiError;
    if question.model.is_empty() {
        return Err(ApiError::invalid_request("Name a model: ?model=...", Some("model")).into());
    }
    let input_tokens = match question.input_tokens.as_str() {
        "" => 0,
        text => text.parse().map_err(|_| {
            ApiError::invalid_request("input_tokens is not a whole number", Some("input_tokens"))
        })?,
    };
    let tags = question.tags.split(',').map(str::trim).filter(|tag| !tag.is_empty());
    Ok(Ask {
        contract: contract::VERSION,
        call_id: "explain".to_owned(),
        key: key(admin, &question.key).await?,
        endpoint: Endpoint::ChatCompletions,
        model: question.model.clone(),
        stream: super::models::yes(&question.stream),
        input_tokens,
        max_tokens: None,
        n: None,
        needs: Vec::new(),
        user: None,
        wishes: Wishes {
            tags: tags.map(str::to_owned).collect(),
            session: Some(question.session.clone()).filter(|session| !session.is_empty()),
            ..Wishes::default()
        },
        replan: None,
        explain: true,
        again: 0,
    })
}

/// Id of a key named by its hash or alias.
async fn key(admin: &Admin, named: &str) -> Result<String, Failure> {
    if named.is_empty() || named == MASTER_KEY_HASH {
        return Ok(MASTER_KEY_HASH.to_owned());
    }
    if let Some(key) = admin.resolve(&hash_of(named)).await? {
        return Ok(key.id);
    }
    let found = with_alias(admin, named).await?;
    found.map(|key| key.id).ok_or_else(|| not_found("No key has this hash or alias.".to_owned(), "key"))
}
