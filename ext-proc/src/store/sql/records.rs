//! Rows as the tables have them, and values as they accept them.

use std::borrow::Cow;

use sqlx::FromRow;

use super::charged::{self, Charged, Whom};
use super::checked::{Sums, check_cost, difference};
use super::lines;
use super::stored::QUARTER_US;
use crate::entity::EntityRef;
use crate::store::{LedgerTotals, Scope, SpendRow, Verified};

/// Bounds of text in ledger rows, bytes. The ids are indexed, and Postgres refuses index entries beyond 2,700.
pub(super) const MAX_ID: usize = 512;
pub(super) const MAX_TEXT: usize = 4_096;

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
    user_id: Option<String>,
    team_id: Option<String>,
    organization_id: Option<String>,
    tags: Option<String>,
    charged: Option<String>,
    cache_write_tokens: i64,
    lines: Option<String>,
}

impl SpendRecord {
    fn tags(&self) -> Vec<String> {
        self.tags.as_deref().and_then(|tags| serde_json::from_str(tags).ok()).unwrap_or_default()
    }

    /// Whom it is charged to. `None`: nobody knows, of rows that are older than the column; or it cannot be read.
    pub(super) fn charged(&self) -> Option<Vec<Charged<'_>>> {
        let tags: Vec<Cow<'_, str>> = self.tags().into_iter().map(Cow::Owned).collect();
        let whom = Whom {
            key: &self.key_hash,
            user_id: self.user_id.as_deref(),
            team_id: self.team_id.as_deref(),
            organization_id: self.organization_id.as_deref(),
            end_user: self.end_user.as_deref(),
            tags: &tags,
        };
        charged::decode(&whom, self.charged.as_deref()?)
    }

    pub(super) fn charged_text(&self) -> Option<&str> {
        self.charged.as_deref()
    }

    pub(super) fn call_id(&self) -> &str {
        &self.call_id
    }

    /// Quarter of an hour in which it began, and what it adds to the use of whom it is charged to.
    pub(super) fn use_of(&self) -> (i64, Sums) {
        let sums = Sums {
            requests: 1,
            prompt_tokens: self.prompt_tokens,
            completion_tokens: self.completion_tokens,
            nanos: self.cost_nanos.unwrap_or_default(),
        };
        (self.start_us / QUARTER_US, sums)
    }

    /// Its costs computed again. Rows that are older than the column have no lines to compute them from.
    pub(super) fn check(&self, scope: &Scope, verified: &mut Verified) {
        verified.rows += 1;
        verified.unpriced += u64::from(self.cost_nanos.is_none());
        verified.nanos = verified.nanos.saturating_add(unsigned(self.cost_nanos.unwrap_or_default()));
        let lines = match &self.lines {
            None if self.charged.is_none() => return,
            None => Vec::new(),
            Some(text) => match lines::decode(&self.own(), text) {
                Some(lines) => lines,
                None => {
                    let told =
                        || (format!("call {}", self.call_id), text.clone(), "readable lines".to_owned());
                    return difference(scope, verified, "attache_spend.lines", told);
                }
            },
        };
        check_cost(scope, verified, &self.call_id, self.cost_nanos, &lines);
    }

    /// What its lines may share.
    fn own(&self) -> lines::Own<'_> {
        lines::Own {
            attempts: self.attempts,
            deployment: &self.deployment,
            group: &self.model_group,
            provider: &self.provider,
            model: &self.provider_model,
            status: self.status,
            prompt: self.prompt_tokens,
            completion: self.completion_tokens,
            cached: self.cached_tokens,
            cache_write: self.cache_write_tokens,
            reasoning: self.reasoning_tokens,
            estimated: self.estimated,
            cost_nanos: self.cost_nanos,
        }
    }
}

impl From<SpendRecord> for SpendRow {
    fn from(record: SpendRecord) -> Self {
        let tags = record.tags();
        let charged = record.charged().unwrap_or_default().into_iter();
        let charged = charged.map(|of| EntityRef { kind: of.kind, id: of.id.into_owned() }).collect();
        let lines = record.lines.as_deref().and_then(|text| lines::decode(&record.own(), text));
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
            cache_write_tokens: unsigned(record.cache_write_tokens),
            lines: lines.unwrap_or_default(),
            reasoning_tokens: unsigned(record.reasoning_tokens),
            estimated: record.estimated,
            cost_nanos: record.cost_nanos,
            start_us: unsigned(record.start_us),
            duration_us: unsigned(record.duration_us),
            first_event_us: record.first_event_us.map(unsigned),
            user_id: record.user_id,
            team_id: record.team_id,
            organization_id: record.organization_id,
            tags,
            charged,
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

pub(super) fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or_default()
}

/// For a BIGINT column, saturating.
pub(super) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Text that every database takes, cut to `limit` bytes at a character: Postgres refuses NUL.
pub(super) fn bounded(text: &str, limit: usize) -> Cow<'_, str> {
    if text.contains('\0') {
        let mut text = text.replace('\0', "");
        text.truncate(text.floor_char_boundary(limit));
        return Cow::Owned(text);
    }
    Cow::Borrowed(text.get(..text.floor_char_boundary(limit)).unwrap_or(text))
}
