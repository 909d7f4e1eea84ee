//! What an export has of a row, in one order for all formats. Times are Unix microseconds, money nano-dollars.

use crate::store::SpendRow;

/// A value; `None` is unknown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cell<'a> {
    Text(Option<&'a str>),
    Owned(String),
    Number(Option<i64>),
    Flag(bool),
}

/// What kind of values a column has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Number,
    Flag,
}

pub(super) struct Column {
    pub name: &'static str,
    pub kind: Kind,
    pub of: fn(&SpendRow) -> Cell<'_>,
}

fn number(value: u64) -> Cell<'static> {
    Cell::Number(Some(i64::try_from(value).unwrap_or(i64::MAX)))
}

const fn text(name: &'static str, of: fn(&SpendRow) -> Cell<'_>) -> Column {
    Column { name, kind: Kind::Text, of }
}

const fn count(name: &'static str, of: fn(&SpendRow) -> Cell<'_>) -> Column {
    Column { name, kind: Kind::Number, of }
}

const fn flag(name: &'static str, of: fn(&SpendRow) -> Cell<'_>) -> Column {
    Column { name, kind: Kind::Flag, of }
}

/// Every column. `spend_nanos` is empty where the price is unknown.
pub(super) const COLUMNS: [Column; 29] = [
    text("request_id", |row| Cell::Text(Some(&row.call_id))),
    count("start_us", |row| number(row.start_us)),
    count("duration_us", |row| number(row.duration_us)),
    count("ttft_us", |row| Cell::Number(row.first_event_us.map(|us| i64::try_from(us).unwrap_or(i64::MAX)))),
    count("spend_nanos", |row| Cell::Number(row.cost_nanos)),
    count("prompt_tokens", |row| number(row.prompt_tokens)),
    count("completion_tokens", |row| number(row.completion_tokens)),
    count("total_tokens", |row| number(row.total_tokens)),
    count("cached_tokens", |row| number(row.cached_tokens)),
    count("cache_write_tokens", |row| number(row.cache_write_tokens)),
    count("reasoning_tokens", |row| number(row.reasoning_tokens)),
    flag("estimated", |row| Cell::Flag(row.estimated)),
    text("outcome", |row| Cell::Text(Some(&row.outcome))),
    count("status_code", |row| number(u64::from(row.status))),
    count("attempts", |row| number(u64::from(row.attempts))),
    count("fallbacks", |row| number(u64::from(row.fallbacks))),
    flag("stream", |row| Cell::Flag(row.stream)),
    text("call_type", |row| Cell::Text(Some(&row.endpoint))),
    text("requested_model", |row| Cell::Text(Some(&row.model))),
    text("model_group", |row| Cell::Text(Some(&row.group))),
    text("model_id", |row| Cell::Text(Some(&row.deployment))),
    text("custom_llm_provider", |row| Cell::Text(Some(&row.provider))),
    text("model", |row| Cell::Text(Some(&row.provider_model))),
    text("api_key", |row| Cell::Text(Some(&row.key))),
    text("user", |row| Cell::Text(row.user_id.as_deref())),
    text("team_id", |row| Cell::Text(row.team_id.as_deref())),
    text("organization_id", |row| Cell::Text(row.organization_id.as_deref())),
    text("end_user", |row| Cell::Text(row.user.as_deref())),
    text("request_tags", |row| match row.tags.is_empty() {
        true => Cell::Text(None),
        false => Cell::Owned(serde_json::Value::from(row.tags.clone()).to_string()),
    }),
];
