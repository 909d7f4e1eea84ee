//! Rows as the tables have them, and values as they accept them.

use sqlx::FromRow;

use crate::store::{KeyRow, LedgerTotals, NewKey, SpendRow};

/// Bounds of text in ledger rows, bytes. The ids are indexed, and Postgres refuses index entries beyond 2,700.
pub(super) const MAX_ID: usize = 512;
pub(super) const MAX_TEXT: usize = 4_096;
/// Bound of token counts and costs in ledger rows: sums over millions of rows stay within 63 bits, whatever an
/// upstream claims.
const MAX_NUMBER: i64 = 1_000_000_000_000_000;

#[derive(Debug, FromRow)]
pub(super) struct KeyRecord {
    hash: String,
    name: String,
    alias: Option<String>,
    models: String,
    user_id: Option<String>,
    team_id: Option<String>,
    expires_ms: Option<i64>,
    metadata: String,
    max_budget_nanos: Option<i64>,
    rpm_limit: Option<i64>,
    tpm_limit: Option<i64>,
    created_by: Option<String>,
    blocked: bool,
    spend_nanos: i64,
    created_ms: i64,
    updated_ms: i64,
}

impl TryFrom<KeyRecord> for KeyRow {
    type Error = serde_json::Error;

    fn try_from(record: KeyRecord) -> Result<Self, Self::Error> {
        Ok(Self {
            key: NewKey {
                models: serde_json::from_str(&record.models)?,
                metadata: serde_json::from_str(&record.metadata)?,
                hash: record.hash,
                name: record.name,
                alias: record.alias,
                user_id: record.user_id,
                team_id: record.team_id,
                expires_ms: record.expires_ms.map(unsigned),
                max_budget_nanos: record.max_budget_nanos,
                rpm_limit: record.rpm_limit,
                tpm_limit: record.tpm_limit,
                created_by: record.created_by,
            },
            blocked: record.blocked,
            spend_nanos: record.spend_nanos,
            created_ms: unsigned(record.created_ms),
            updated_ms: unsigned(record.updated_ms),
        })
    }
}

#[derive(Debug, FromRow)]
pub(super) struct SpendRecord {
    call_id: String,
    request_id: String,
    key_hash: String,
    endpoint: String,
    model: String,
    model_group: String,
    deployment: String,
    provider: String,
    provider_model: String,
    end_user: Option<String>,
    stream: bool,
    status: i64,
    outcome: String,
    attempts: i64,
    fallbacks: i64,
    prompt_tokens: i64,
    completion_tokens: i64,
    total_tokens: i64,
    cached_tokens: i64,
    reasoning_tokens: i64,
    estimated: bool,
    cost_nanos: Option<i64>,
    start_us: i64,
    duration_us: i64,
    first_event_us: Option<i64>,
}

impl From<SpendRecord> for SpendRow {
    fn from(record: SpendRecord) -> Self {
        Self {
            call_id: record.call_id,
            request_id: record.request_id,
            key: record.key_hash,
            endpoint: record.endpoint,
            model: record.model,
            group: record.model_group,
            deployment: record.deployment,
            provider: record.provider,
            provider_model: record.provider_model,
            user: record.end_user,
            stream: record.stream,
            status: u16::try_from(record.status).unwrap_or_default(),
            outcome: record.outcome,
            attempts: u32::try_from(record.attempts).unwrap_or_default(),
            fallbacks: u32::try_from(record.fallbacks).unwrap_or_default(),
            prompt_tokens: unsigned(record.prompt_tokens),
            completion_tokens: unsigned(record.completion_tokens),
            total_tokens: unsigned(record.total_tokens),
            cached_tokens: unsigned(record.cached_tokens),
            reasoning_tokens: unsigned(record.reasoning_tokens),
            estimated: record.estimated,
            cost_nanos: record.cost_nanos,
            start_us: unsigned(record.start_us),
            duration_us: unsigned(record.duration_us),
            first_event_us: record.first_event_us.map(unsigned),
        }
    }
}

#[derive(Debug, FromRow)]
pub(super) struct TotalsRecord {
    row_count: i64,
    prompt_tokens: i64,
    completion_tokens: i64,
    cost_nanos: i64,
    unpriced_rows: i64,
}

impl From<TotalsRecord> for LedgerTotals {
    fn from(record: TotalsRecord) -> Self {
        Self {
            rows: unsigned(record.row_count),
            prompt_tokens: unsigned(record.prompt_tokens),
            completion_tokens: unsigned(record.completion_tokens),
            cost_nanos: record.cost_nanos,
            unpriced_rows: unsigned(record.unpriced_rows),
        }
    }
}

fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or_default()
}

/// For a BIGINT column, saturating.
pub(super) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A token count for the ledger.
pub(super) fn count(value: u64) -> i64 {
    signed(value).min(MAX_NUMBER)
}

/// A cost for the ledger.
pub(super) fn cost(value: i64) -> i64 {
    value.clamp(-MAX_NUMBER, MAX_NUMBER)
}

/// Text that every database takes: Postgres refuses NUL.
pub(super) fn clean(text: &str) -> String {
    text.replace('\0', "")
}

/// [`clean`], cut to `limit` bytes at a character.
pub(super) fn bounded(text: &str, limit: usize) -> String {
    let mut text = clean(text);
    text.truncate(text.floor_char_boundary(limit));
    text
}
