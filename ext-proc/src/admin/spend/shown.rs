//! A row of the ledger in LiteLLM's names, and what Attaché knows beyond.

use serde::Serialize;
use serde_json::{Map, Value};

use super::cost;
use super::figures::Names;
use crate::admin::Admin;
use crate::admin::money::Dollars;
use crate::admin::reply::Failure;
use crate::admin::shown::Shown;
use crate::admin::when;
use crate::entity::EntityKind;
use crate::store::SpendRow;

#[derive(Serialize)]
pub(super) struct ShownRow<'a> {
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
    cache_write_tokens: u64,
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
    /// Owner of the key.
    user: Option<&'a str>,
    team_id: Option<&'a str>,
    organization_id: Option<&'a str>,
    end_user: Option<&'a str>,
    request_tags: &'a [String],
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
    metadata: Shown,
}

impl<'a> ShownRow<'a> {
    fn new(row: &'a SpendRow, names: &Names) -> Self {
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
            cache_write_tokens: row.cache_write_tokens,
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
            user: row.user_id.as_deref(),
            team_id: row.team_id.as_deref(),
            organization_id: row.organization_id.as_deref(),
            end_user: row.user.as_deref(),
            request_tags: &row.tags,
            stream: row.stream,
            cache_hit: "False",
            status: if row.outcome == "success" { "success" } else { "failure" },
            outcome: &row.outcome,
            status_code: row.status,
            attempts: row.attempts,
            fallbacks: row.fallbacks,
            x_request_id: &row.request_id,
            metadata: metadata(row, names),
        }
    }
}

/// LiteLLM's `metadata`, as far as it is known.
fn metadata(row: &SpendRow, names: &Names) -> Shown {
    let of = |kind, id: &Option<String>| id.as_ref().and_then(|id| names.alias(kind, id));
    let mut shown = Shown::default();
    shown
        .put("user_api_key", &row.key)
        .put("user_api_key_alias", &names.alias(EntityKind::Key, &row.key))
        .put("user_api_key_user_id", &row.user_id)
        .put("user_api_key_team_id", &row.team_id)
        .put("user_api_key_team_alias", &of(EntityKind::Team, &row.team_id))
        .put("user_api_key_org_id", &row.organization_id)
        .put("attempted_retries", &row.attempts.saturating_sub(1).saturating_sub(row.fallbacks))
        .put("attempted_fallbacks", &row.fallbacks)
        .put("cost_breakdown", &cost::breakdown(&row.lines, row.cost_nanos));
    shown
}

/// Names of the keys and teams of rows, in one read.
pub(super) async fn names(admin: &Admin, rows: &[SpendRow]) -> Result<Names, Failure> {
    let keys = rows.iter().map(|row| (EntityKind::Key, row.key.clone()));
    let teams = rows.iter().filter_map(|row| Some((EntityKind::Team, row.team_id.clone()?)));
    Names::of(admin, keys.chain(teams)).await
}

/// Rows for a list.
pub(super) fn rows<'a>(rows: &'a [SpendRow], names: &Names) -> Vec<ShownRow<'a>> {
    rows.iter().map(|row| ShownRow::new(row, names)).collect()
}

/// A row with all that is known of it.
#[derive(Serialize)]
pub(super) struct Detail<'a> {
    #[serde(flatten)]
    row: ShownRow<'a>,
    /// What the cost is made of: the attempts that cost money.
    lines: Vec<cost::ShownLine<'a>>,
    /// What was said; `{}` where it is not stored, as in LiteLLM.
    messages: Value,
    response: Value,
}

/// What is said in a request is only in its own view.
pub(super) async fn detail<'a>(
    admin: &Admin,
    row: &'a SpendRow,
    names: &Names,
) -> Result<Detail<'a>, Failure> {
    let said = admin.state.database.prompt(&row.call_id).await?.unwrap_or_default();
    Ok(Detail {
        row: ShownRow::new(row, names),
        lines: cost::lines(&row.lines),
        messages: words(said.request),
        response: words(said.response),
    })
}

/// JSON as such; text, and what was cut, as text.
fn words(text: Option<String>) -> Value {
    let Some(text) = text else { return Value::Object(Map::new()) };
    let json = text.trim_start().starts_with(['{', '[', '"']).then(|| serde_json::from_str(&text).ok());
    json.flatten().unwrap_or(Value::String(text))
}
