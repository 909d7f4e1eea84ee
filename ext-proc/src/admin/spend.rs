//! `/spend/logs` and `/global/spend`.

use std::time::{Duration, Instant};

use attache_llm::error::ApiError;
use attache_llm::path::percent_decode;
use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;
use parking_lot::Mutex;
use serde::Serialize;

use super::money::Dollars;
use super::reply::{Failure, private_json};
use super::{Admin, when};
use crate::keys::{self, Caller};
use crate::store::SpendRow;

const DEFAULT_ROWS: u32 = 100;
/// LiteLLM's own cap.
const MOST_ROWS: u32 = 10_000;
/// Reading spend writes the ledger first, at most this often...
const FLUSH_EVERY: Duration = Duration::from_secs(1);
/// ...and without waiting longer for it than this.
const FLUSH_WAIT: Duration = Duration::from_secs(2);

/// When the last flush on behalf of a reader began.
#[derive(Default)]
pub(super) struct FlushLimit(Mutex<Option<Instant>>);

impl FlushLimit {
    fn due(&self) -> bool {
        let mut last = self.0.lock();
        let due = last.is_none_or(|last| last.elapsed() >= FLUSH_EVERY);
        if due {
            *last = Some(Instant::now());
        }
        due
    }
}

impl Admin {
    /// Brings accepted records into the database, so that a reader sees the request it just made. A database that
    /// is away fails the read itself, with a better message.
    pub(super) async fn flush_soon(&self) {
        if self.flushed.due()
            && let Ok(Err(error)) = tokio::time::timeout(FLUSH_WAIT, self.state.books.flush()).await
        {
            tracing::debug!(%error, "reading spend without the newest rows");
        }
    }
}

/// Parameters of a query string; each is taken once.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn parse(query: Option<&str>) -> Self {
        let decode = |text: &str| percent_decode(&text.replace('+', " ")).unwrap_or_default();
        let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        Self(
            pairs
                .map(|pair| {
                    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                    (decode(name), decode(value))
                })
                .collect(),
        )
    }

    /// A parameter; empty is absent.
    pub(super) fn take(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(key, _)| key == name)?;
        Some(self.0.remove(at).1).filter(|value| !value.is_empty())
    }

    /// A filter that is not understood must not look as if it had worked.
    fn finish(self) -> Result<(), ApiError> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => {
                let name: String = name.chars().take(64).collect();
                let message = format!("The query parameter `{name}` is not supported here.");
                Err(ApiError::invalid_request(message, None).with_param(name))
            }
        }
    }
}

/// A row in LiteLLM's names, and what Attaché knows beyond.
#[derive(Serialize)]
struct Shown<'a> {
    /// The call id (`x-litellm-call-id`).
    request_id: &'a str,
    litellm_call_id: &'a str,
    call_type: &'a str,
    api_key: &'a str,
    /// Exact dollars; null when the price is unknown.
    spend: Option<Dollars>,
    spend_nanos: Option<i64>,
    total_tokens: u64,
    prompt_tokens: u64,
    completion_tokens: u64,
    cached_tokens: u64,
    reasoning_tokens: u64,
    /// Tokens are an estimate.
    estimated: bool,
    #[serde(rename = "startTime")]
    start_time: String,
    #[serde(rename = "endTime")]
    end_time: String,
    #[serde(rename = "completionStartTime")]
    completion_start_time: Option<String>,
    request_duration_ms: u64,
    ttft_ms: Option<u64>,
    /// Model at the provider; as asked where none was tried.
    model: &'a str,
    requested_model: &'a str,
    model_id: &'a str,
    model_group: &'a str,
    custom_llm_provider: &'a str,
    end_user: Option<&'a str>,
    stream: bool,
    cache_hit: &'static str,
    /// `success` or `failure`, as LiteLLM has it.
    status: &'static str,
    /// `success`, `failure` or `aborted`.
    outcome: &'a str,
    status_code: u16,
    attempts: u32,
    fallbacks: u32,
    x_request_id: &'a str,
}

impl<'a> Shown<'a> {
    fn new(row: &'a SpendRow) -> Self {
        Self {
            request_id: &row.call_id,
            litellm_call_id: &row.call_id,
            call_type: &row.endpoint,
            api_key: &row.key,
            spend: row.cost_nanos.map(Dollars),
            spend_nanos: row.cost_nanos,
            total_tokens: row.total_tokens,
            prompt_tokens: row.prompt_tokens,
            completion_tokens: row.completion_tokens,
            cached_tokens: row.cached_tokens,
            reasoning_tokens: row.reasoning_tokens,
            estimated: row.estimated,
            start_time: when::rfc3339_us(row.start_us),
            end_time: when::rfc3339_us(row.start_us.saturating_add(row.duration_us)),
            completion_start_time: row
                .first_event_us
                .map(|us| when::rfc3339_us(row.start_us.saturating_add(us))),
            request_duration_ms: row.duration_us / 1_000,
            ttft_ms: row.first_event_us.map(|us| us / 1_000),
            model: if row.provider_model.is_empty() { &row.model } else { &row.provider_model },
            requested_model: &row.model,
            model_id: &row.deployment,
            model_group: &row.group,
            custom_llm_provider: &row.provider,
            end_user: row.user.as_deref(),
            stream: row.stream,
            cache_hit: "False",
            status: if row.outcome == "success" { "success" } else { "failure" },
            outcome: &row.outcome,
            status_code: row.status,
            attempts: row.attempts,
            fallbacks: row.fallbacks,
            x_request_id: &row.request_id,
        }
    }
}

/// Newest rows first. The master key sees all, a virtual key its own.
pub(super) async fn logs(
    State(admin): State<Admin>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let caller = admin.caller(&headers).await?;
    let mut query = Query::parse(query.as_deref());
    let limit = limit(query.take("limit"))?;
    let call_id = query.take("request_id");
    let asked = query.take("api_key").map(|key| if key.starts_with("sk-") { keys::hash(&key) } else { key });
    // LiteLLM's clients send it; rows are never summarised here.
    if query.take("summarize").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return Err(ApiError::invalid_request("`summarize=true` is not supported.", Some("summarize")).into());
    }
    query.finish()?;
    let key = match (&caller, asked) {
        (Caller::Master, Some(hash)) if admin.state.keys.is_master(&hash) => {
            Some(Caller::Master.id().to_owned())
        }
        (Caller::Master, asked) => asked,
        (Caller::Key(row), Some(asked)) if asked != row.key.hash => {
            return Err(ApiError::admin_only("/spend/logs of other keys").into());
        }
        (Caller::Key(row), _) => Some(row.key.hash.clone()),
    };
    admin.flush_soon().await;
    let rows = match call_id {
        Some(call_id) => {
            let mine = |row: &SpendRow| key.as_ref().is_none_or(|key| *key == row.key);
            admin.state.database.row(&call_id).await?.filter(mine).into_iter().collect()
        }
        None => admin.state.database.rows(key.as_deref(), limit).await?,
    };
    let shown: Vec<_> = rows.iter().map(Shown::new).collect();
    Ok(private_json(&shown))
}

fn limit(text: Option<String>) -> Result<u32, ApiError> {
    let Some(text) = text else { return Ok(DEFAULT_ROWS) };
    let limit = text.parse().ok().filter(|limit| (1..=MOST_ROWS).contains(limit));
    limit.ok_or_else(|| ApiError::invalid_request("`limit` must be 1 to 10000.", Some("limit")))
}

#[derive(Serialize)]
struct Total {
    spend: Dollars,
    max_budget: Dollars,
    spend_nanos: i64,
    requests: u64,
    prompt_tokens: u64,
    completion_tokens: u64,
    /// Rows whose price is unknown: their cost is missing from `spend`.
    unpriced_requests: u64,
}

/// Sums over the whole ledger.
pub(super) async fn total(State(admin): State<Admin>, headers: HeaderMap) -> Result<Response, Failure> {
    admin.master(&headers, "/global/spend").await?;
    admin.flush_soon().await;
    let totals = admin.state.database.totals().await?;
    Ok(private_json(&Total {
        spend: Dollars(totals.cost_nanos),
        max_budget: Dollars(0),
        spend_nanos: totals.cost_nanos,
        requests: totals.rows,
        prompt_tokens: totals.prompt_tokens,
        completion_tokens: totals.completion_tokens,
        unpriced_requests: totals.unpriced_rows,
    }))
}
