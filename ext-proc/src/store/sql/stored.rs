//! A row of the ledger as it is stored: every text and number within its bounds. Whatever is summed up beside the row is
//! made from these values, so that the sums are those of the rows.

use std::borrow::Cow;

use super::charged::{Charged, Whom, encode};
use super::checked::{DAY_US, Sums};
use super::entities::MAX_NAME;
use super::lines;
use super::records::{MAX_ID, bounded, signed};
use crate::entity::EntityKind;
use crate::store::SpendRow;

/// Bounds of names that are in the key of `attache_daily`, bytes: all of them with an id fit into one entry of an index,
/// of which Postgres takes 2,700 bytes.
const MAX_MODEL: usize = 384;
const MAX_ENDPOINT: usize = 128;
const MAX_WORD: usize = 64;
/// Bound of token counts and costs: sums over millions of rows stay within 63 bits, whatever an upstream claims.
pub(super) const MAX_NUMBER: i64 = 1_000_000_000_000_000;
/// The end of the year 9999: clocks beyond are no clocks, and no partition's name.
const MAX_START_US: u64 = 253_402_300_799_999_999;
pub(super) const QUARTER_US: i64 = 900_000_000;
const MAX_TAGS: usize = 100;

/// Borrows from the row whatever is within bounds.
#[derive(Debug)]
pub(super) struct Stored<'a> {
    pub(super) start_us: i64,
    pub(super) duration_us: i64,
    pub(super) first_event_us: Option<i64>,
    pub(super) cost_nanos: Option<i64>,
    pub(super) prompt_tokens: i64,
    pub(super) completion_tokens: i64,
    pub(super) total_tokens: i64,
    pub(super) cached_tokens: i64,
    pub(super) cache_write_tokens: i64,
    pub(super) reasoning_tokens: i64,
    pub(super) status: i64,
    pub(super) attempts: i64,
    pub(super) fallbacks: i64,
    pub(super) stream: bool,
    pub(super) estimated: bool,
    pub(super) call_id: Cow<'a, str>,
    pub(super) request_id: Cow<'a, str>,
    pub(super) key: Cow<'a, str>,
    pub(super) user_id: Option<Cow<'a, str>>,
    pub(super) team_id: Option<Cow<'a, str>>,
    pub(super) organization_id: Option<Cow<'a, str>>,
    pub(super) end_user: Option<Cow<'a, str>>,
    /// JSON array; `None` when there are none.
    pub(super) tags: Option<String>,
    /// The tags themselves, each once.
    pub(super) tag_names: Vec<Cow<'a, str>>,
    /// Whom it is charged to, each once.
    pub(super) to: Vec<Charged<'a>>,
    /// The text of that.
    pub(super) charged: String,
    pub(super) endpoint: Cow<'a, str>,
    pub(super) model: Cow<'a, str>,
    pub(super) group: Cow<'a, str>,
    pub(super) deployment: Cow<'a, str>,
    pub(super) provider: Cow<'a, str>,
    pub(super) provider_model: Cow<'a, str>,
    pub(super) outcome: Cow<'a, str>,
    /// The text of what each attempt cost; `None` when none did.
    pub(super) lines: Option<String>,
}

impl<'a> Stored<'a> {
    /// `account` tells the account of a key, for a row that does not say whom it is charged to.
    pub(super) fn new(row: &'a SpendRow, account: impl Fn(&str) -> Option<String>) -> Self {
        let key = bounded(&row.key, MAX_ID);
        let name = |text: &'a Option<String>| text.as_deref().map(|text| bounded(text, MAX_NAME));
        let (user_id, team_id, organization_id) =
            (name(&row.user_id), name(&row.team_id), name(&row.organization_id));
        let end_user = name(&row.user);
        let tags = tags(&row.tags);
        let to = charged_to(row, &key, account);
        let whom = Whom {
            key: &key,
            user_id: user_id.as_deref(),
            team_id: team_id.as_deref(),
            organization_id: organization_id.as_deref(),
            end_user: end_user.as_deref(),
            tags: &tags,
        };
        let charged = encode(&whom, &to);
        let mut stored = Self {
            start_us: signed(row.start_us.min(MAX_START_US)),
            duration_us: count(row.duration_us),
            first_event_us: row.first_event_us.map(count),
            cost_nanos: row.cost_nanos.map(|nanos| nanos.clamp(0, MAX_NUMBER)),
            prompt_tokens: count(row.prompt_tokens),
            completion_tokens: count(row.completion_tokens),
            total_tokens: count(row.total_tokens),
            cached_tokens: count(row.cached_tokens),
            cache_write_tokens: count(row.cache_write_tokens),
            reasoning_tokens: count(row.reasoning_tokens),
            status: i64::from(row.status),
            attempts: i64::from(row.attempts),
            fallbacks: i64::from(row.fallbacks),
            stream: row.stream,
            estimated: row.estimated,
            call_id: bounded(&row.call_id, MAX_ID),
            request_id: bounded(&row.request_id, MAX_ID),
            tags: (!tags.is_empty()).then(|| serde_json::Value::from(tags.as_slice()).to_string()),
            tag_names: tags,
            to,
            charged,
            key,
            user_id,
            team_id,
            organization_id,
            end_user,
            endpoint: bounded(&row.endpoint, MAX_ENDPOINT),
            model: bounded(&row.model, MAX_ID),
            group: bounded(&row.group, MAX_MODEL),
            deployment: bounded(&row.deployment, MAX_ID),
            provider: bounded(&row.provider, MAX_WORD),
            provider_model: bounded(&row.provider_model, MAX_MODEL),
            outcome: bounded(&row.outcome, MAX_WORD),
            lines: None,
        };
        stored.lines = lines::encode(&stored.own(), &row.lines);
        stored
    }

    /// What its lines may share.
    fn own(&self) -> lines::Own<'_> {
        lines::Own {
            attempts: self.attempts,
            deployment: &self.deployment,
            group: &self.group,
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

    /// Unix day on which it began.
    pub(super) fn day(&self) -> i64 {
        self.start_us / DAY_US
    }

    /// Quarter of an hour in which it began.
    pub(super) fn quarter(&self) -> i64 {
        self.start_us / QUARTER_US
    }

    /// What it adds to the use of whom it is charged to.
    pub(super) fn sums(&self) -> Sums {
        Sums {
            requests: 1,
            prompt_tokens: self.prompt_tokens,
            completion_tokens: self.completion_tokens,
            nanos: self.cost_nanos.unwrap_or_default(),
        }
    }

    /// What makes it one row, however often it comes.
    pub(super) fn identity(&self) -> (&str, i64) {
        (&self.call_id, self.start_us)
    }
}

/// Whom a row is charged to: whom it says, else its key's account.
fn charged_to<'a>(
    row: &'a SpendRow,
    key: &str,
    account: impl Fn(&str) -> Option<String>,
) -> Vec<Charged<'a>> {
    if row.charged.is_empty() {
        let key = (!key.is_empty()).then(|| account(key).unwrap_or_else(|| key.to_owned()));
        return key.into_iter().map(|id| Charged { kind: EntityKind::Key, id: Cow::Owned(id) }).collect();
    }
    let mut to: Vec<Charged<'a>> = Vec::with_capacity(row.charged.len());
    for of in &row.charged {
        let of = Charged { kind: of.kind, id: bounded(&of.id, MAX_NAME) };
        // Few: a set would cost more.
        if !to.contains(&of) {
            to.push(of);
        }
    }
    to
}

fn tags(tags: &[String]) -> Vec<Cow<'_, str>> {
    let mut all: Vec<Cow<'_, str>> = Vec::new();
    for tag in tags.iter().take(MAX_TAGS) {
        let tag = bounded(tag, MAX_NAME);
        if !all.contains(&tag) {
            all.push(tag);
        }
    }
    all
}

fn count(value: u64) -> i64 {
    signed(value).min(MAX_NUMBER)
}
