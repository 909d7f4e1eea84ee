//! One attempt from its two ends: what goes to the deployment, and how its answer is to be read.

use std::borrow::Cow;

use super::translate::{Caller, Reading, read_request, write_request};
use super::{Dialect, Route, embeddings};
use crate::contract::DeploymentMeta;
use crate::edit::{self, BodyEdits};
use crate::error::ApiError;
use crate::path::Endpoint;
use crate::scan::Scanned;

/// What an attempt sends when its body cannot be spliced as it passes.
#[derive(Debug)]
pub struct Outward {
    pub body: Vec<u8>,
    /// Beside the deployment's own.
    pub headers: Vec<(String, String)>,
    pub back: Back,
}

/// How the answer is to be read.
#[derive(Debug, Clone, Default)]
pub enum Back {
    /// In the client's own dialect.
    #[default]
    Same,
    Translate(Box<Translation>),
    /// Vectors, in a form of the provider's own.
    Embeddings(Box<embeddings::Asked>),
}

/// The two dialects of an answer, and what their reader and writer must know.
#[derive(Debug, Clone)]
pub struct Translation {
    pub upstream: Dialect,
    pub reading: Reading,
    pub caller: Caller,
}

/// Facts of the request beside its body.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    pub endpoint: Endpoint,
    /// Model as the client named it.
    pub client_model: &'a str,
    pub call_id: &'a str,
    /// Unix seconds.
    pub now_s: u64,
    pub scan: &'a Scanned,
}

/// Must the body be whole before anything of it can go out?
#[must_use]
pub fn needs_whole_body(route: Route, meta: &DeploymentMeta) -> bool {
    route != Route::Same || meta.params.changes_bodies()
}

/// Writes what a deployment is sent, from the client's whole body.
///
/// # Errors
/// 400, naming the field, for what the client's dialect does not allow or the provider has no words for.
pub fn outward(
    route: Route,
    facts: &Facts<'_>,
    meta: &DeploymentMeta,
    body: &[u8],
) -> Result<Outward, ApiError> {
    match route {
        Route::Same => {
            let edits = BodyEdits::plan(facts.scan, meta, &meta.model, facts.endpoint);
            let mut spliced = Vec::with_capacity(edits.new_len());
            edits.apply(0, body, &mut spliced);
            let body = edit::with_params(&spliced, &meta.params);
            Ok(Outward { body, headers: Vec::new(), back: Back::Same })
        }
        Route::Translate(upstream) => translated(upstream, facts, meta, body),
        Route::Embeddings => {
            let (sent, asked) = embeddings::write(&own(facts, body), meta, facts.client_model)?;
            Ok(Outward { body: sent.body, headers: sent.headers, back: Back::Embeddings(Box::new(asked)) })
        }
        Route::Estimate => Err(ApiError::internal("an estimate has no body to translate")),
    }
}

/// The client's body without what was meant for the gateway.
fn own<'a>(facts: &Facts<'_>, body: &'a [u8]) -> Cow<'a, [u8]> {
    let cuts = BodyEdits::cuts(facts.scan);
    if cuts.is_empty() {
        return Cow::Borrowed(body);
    }
    let mut own = Vec::with_capacity(cuts.new_len());
    cuts.apply(0, body, &mut own);
    Cow::Owned(own)
}

fn translated(
    upstream: Dialect,
    facts: &Facts<'_>,
    meta: &DeploymentMeta,
    body: &[u8],
) -> Result<Outward, ApiError> {
    let dialect =
        facts.endpoint.dialect().ok_or_else(|| ApiError::internal("an endpoint without a dialect"))?;
    let mut request = read_request(dialect, &own(facts, body))?;
    let caller = Caller {
        dialect,
        model: facts.client_model.to_owned(),
        stream: request.stream,
        want_usage: request.want_usage,
        call_id: facts.call_id.to_owned(),
        now_s: facts.now_s,
        echo: std::mem::take(&mut request.echo),
    };
    let sent = write_request(upstream, request, meta)?;
    let back = Back::Translate(Box::new(Translation { upstream, reading: sent.reading, caller }));
    Ok(Outward { body: sent.body, headers: sent.headers, back })
}

/// Anthropic's `count_tokens` answer where the provider has none to give: the gateway's estimate.
#[must_use]
pub fn counted(scan: &Scanned) -> Vec<u8> {
    format!("{{\"input_tokens\":{}}}", scan.input_tokens()).into_bytes()
}
