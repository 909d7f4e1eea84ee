//! `Reports`. Compiled once per driver, as `ledger.rs`.

use async_trait::async_trait;
use sqlx::{FromRow, QueryBuilder};

use super::super::lease::within;
use super::super::records::{MAX_ID, SpendRecord, bounded, signed, unsigned};
use super::{Db, REPORT, Store};
use crate::store::{
    By, DailyKind, DailySums, Reports, RowFilter, RowQuery, RowSort, SpendRow, StoreError, SumFilter,
    SumGroup, SumQuery,
};

/// After the text that it follows and the JSON array in its place: any of these.
const ANY: (&str, &str) = any_of!();
/// After the tag in its place: the row has it.
const HAS_TAG: (&str, &str) = has_tag!();
/// So many values are parameters of their own, by which the database chooses its way.
const FEW: usize = 16;
const SELECT_ROWS: &str = concat!("SELECT ", spend_columns!(), " FROM attache_spend WHERE TRUE");

#[derive(Debug, FromRow)]
struct GroupRecord {
    id: String,
    day: i64,
    key_hash: String,
    model: String,
    model_group: String,
    provider: String,
    endpoint: String,
    requests: i64,
    successes: i64,
    failures: i64,
    prompt_tokens: i64,
    completion_tokens: i64,
    cached_tokens: i64,
    cache_write_tokens: i64,
    nanos: i64,
    unpriced: i64,
    estimated: i64,
    duration_us: i64,
}

impl From<GroupRecord> for SumGroup {
    fn from(record: GroupRecord) -> Self {
        Self {
            id: record.id,
            day: record.day,
            key: record.key_hash,
            model: record.model,
            model_group: record.model_group,
            provider: record.provider,
            endpoint: record.endpoint,
            sums: DailySums {
                requests: unsigned(record.requests),
                successes: unsigned(record.successes),
                failures: unsigned(record.failures),
                prompt_tokens: unsigned(record.prompt_tokens),
                completion_tokens: unsigned(record.completion_tokens),
                cached_tokens: unsigned(record.cached_tokens),
                cache_write_tokens: unsigned(record.cache_write_tokens),
                nanos: unsigned(record.nanos),
                unpriced: unsigned(record.unpriced),
                estimated: unsigned(record.estimated),
                duration_us: unsigned(record.duration_us),
            },
        }
    }
}

#[async_trait]
impl Reports for Store {
    async fn sums(&self, query: &SumQuery) -> Result<Vec<SumGroup>, StoreError> {
        let none = |list: &Option<Vec<String>>| list.as_ref().is_some_and(Vec::is_empty);
        if none(&query.filter.ids) || none(&query.filter.keys) {
            return Ok(Vec::new());
        }
        let mut lease = self.lease(REPORT).await?;
        let mut statement = sums_statement(query);
        let found = statement.build_query_as::<GroupRecord>().persistent(false);
        let answer = within(lease.deadline, found.fetch_all(&mut *lease.connection)).await;
        Ok(lease.end(answer)?.into_iter().map(SumGroup::from).collect())
    }

    async fn page(&self, query: &RowQuery) -> Result<Vec<SpendRow>, StoreError> {
        if is_empty(&query.filter) || query.limit == 0 {
            return Ok(Vec::new());
        }
        let mut lease = self.lease(REPORT).await?;
        let mut statement = page_statement(query);
        // Planned for these values: a rare key and a frequent one are found in different ways.
        let found = statement.build_query_as::<SpendRecord>().persistent(false);
        let answer = within(lease.deadline, found.fetch_all(&mut *lease.connection)).await;
        Ok(lease.end(answer)?.into_iter().map(SpendRow::from).collect())
    }

    async fn count(&self, filter: &RowFilter, most: u32) -> Result<u64, StoreError> {
        if is_empty(filter) {
            return Ok(0);
        }
        let mut lease = self.lease(REPORT).await?;
        let mut statement =
            QueryBuilder::<Db>::new("SELECT COUNT(*) FROM (SELECT 1 FROM attache_spend WHERE TRUE");
        conditions(&mut statement, filter);
        statement.push(" LIMIT ").push_bind(i64::from(most)).push(") AS counted");
        let found = statement.build_query_scalar::<i64>().persistent(false);
        let answer = within(lease.deadline, found.fetch_one(&mut *lease.connection)).await;
        Ok(unsigned(lease.end(answer)?))
    }
}

fn is_empty(filter: &RowFilter) -> bool {
    let none = |list: &Option<Vec<String>>| list.as_ref().is_some_and(Vec::is_empty);
    none(&filter.keys) || none(&filter.team_ids) || none(&filter.organization_ids)
}

/// Every column that is not grouped by is there too, empty.
fn sums_statement(query: &SumQuery) -> QueryBuilder<Db> {
    const COLUMNS: [(By, &str, &str); 7] = [
        (By::Id, "id", "''"),
        (By::Day, "day", "CAST(0 AS BIGINT)"),
        (By::Key, "key_hash", "''"),
        (By::Model, "model", "''"),
        (By::ModelGroup, "model_group", "''"),
        (By::Provider, "provider", "''"),
        (By::Endpoint, "endpoint", "''"),
    ];
    const SUMS: [&str; 11] = [
        "requests",
        "successes",
        "failures",
        "prompt_tokens",
        "completion_tokens",
        "cached_tokens",
        "cache_write_tokens",
        "nanos",
        "unpriced",
        "estimated",
        "duration_us",
    ];
    let mut statement = QueryBuilder::<Db>::new("SELECT ");
    for (by, column, empty) in COLUMNS {
        let known = query.by.contains(&by) && !(by == By::Id && query.filter.kind == DailyKind::All);
        let value = if known { column } else { empty };
        statement.push(value).push(" AS ").push(column).push(", ");
    }
    for (at, sum) in SUMS.iter().enumerate() {
        let comma = if at == 0 { "" } else { ", " };
        statement.push(comma);
        if query.rank_only && !matches!(*sum, "requests" | "nanos") {
            statement.push("CAST(0 AS BIGINT) AS ").push(*sum);
        } else {
            statement.push("CAST(COALESCE(SUM(").push(*sum).push("), 0) AS BIGINT) AS ").push(*sum);
        }
    }
    statement.push(" FROM attache_daily WHERE TRUE");
    sum_conditions(&mut statement, &query.filter, query.by.contains(&By::Key));
    // By its place: by its name it would be the column of the table.
    let mut groups: Vec<&str> = Vec::new();
    for (place, (by, ..)) in ["1", "2", "3", "4", "5", "6", "7"].into_iter().zip(COLUMNS) {
        if query.by.contains(&by) {
            groups.push(place);
        }
    }
    let groups = groups.join(", ");
    if !groups.is_empty() {
        statement.push(" GROUP BY ").push(&groups);
    }
    match query.limit {
        Some(limit) => {
            statement.push(" ORDER BY SUM(nanos) DESC, SUM(requests) DESC");
            if !groups.is_empty() {
                statement.push(", ").push(&groups);
            }
            statement.push(" LIMIT ").push_bind(i64::from(limit));
        }
        None if groups.is_empty() => {}
        None => {
            statement.push(" ORDER BY ").push(&groups);
        }
    }
    statement
}

/// Everything is there twice: by key, and without keys, which is a small part of it. With ids the days are a range of the
/// primary key.
fn sum_conditions(statement: &mut QueryBuilder<Db>, filter: &SumFilter, by_key: bool) {
    match filter.kind.name() {
        Some(kind) => {
            statement.push(" AND kind = ").push_bind(kind);
            any(statement, " AND id ", filter.ids.as_deref());
        }
        None if filter.keys.is_some() => {
            statement.push(" AND kind = 'key'");
            any(statement, " AND id ", filter.keys.as_deref());
        }
        None if by_key => {
            statement.push(" AND kind = 'key'");
        }
        None => {
            statement.push(" AND kind = 'total' AND id = ''");
        }
    }
    statement.push(" AND day >= ").push_bind(filter.days.first);
    statement.push(" AND day <= ").push_bind(filter.days.last);
    if filter.kind != DailyKind::All {
        any(statement, " AND key_hash ", filter.keys.as_deref());
    }
    same(statement, " AND model = ", filter.model.as_deref());
    same(statement, " AND model_group = ", filter.model_group.as_deref());
    same(statement, " AND provider = ", filter.provider.as_deref());
    same(statement, " AND endpoint = ", filter.endpoint.as_deref());
}

fn page_statement(query: &RowQuery) -> QueryBuilder<Db> {
    let mut statement = QueryBuilder::<Db>::new(SELECT_ROWS);
    conditions(&mut statement, &query.filter);
    if let Some((start, call)) = &query.after {
        let beyond =
            if query.ascending { " AND (start_us, call_id) > (" } else { " AND (start_us, call_id) < (" };
        statement.push(beyond).push_bind(signed(*start)).push(", ");
        statement.push_bind(bounded(call, MAX_ID).into_owned()).push(")");
    }
    statement.push(match (query.sort, query.ascending) {
        (RowSort::Start, true) => " ORDER BY start_us, call_id",
        (RowSort::Start, false) => " ORDER BY start_us DESC, call_id DESC",
        (RowSort::Spend, true) => " ORDER BY cost_nanos NULLS FIRST, start_us, call_id",
        (RowSort::Spend, false) => " ORDER BY cost_nanos DESC NULLS LAST, start_us DESC, call_id DESC",
        (RowSort::Tokens, true) => " ORDER BY total_tokens, start_us, call_id",
        (RowSort::Tokens, false) => " ORDER BY total_tokens DESC, start_us DESC, call_id DESC",
        (RowSort::Duration, true) => " ORDER BY duration_us, start_us, call_id",
        (RowSort::Duration, false) => " ORDER BY duration_us DESC, start_us DESC, call_id DESC",
    });
    statement.push(" LIMIT ").push_bind(i64::from(query.limit));
    statement.push(" OFFSET ").push_bind(signed(query.offset));
    statement
}

fn conditions(statement: &mut QueryBuilder<Db>, filter: &RowFilter) {
    statement.push(" AND start_us >= ").push_bind(signed(filter.from_us));
    if let Some(until) = filter.until_us {
        statement.push(" AND start_us < ").push_bind(signed(until));
    }
    any(statement, " AND key_hash ", filter.keys.as_deref());
    same(statement, " AND user_id = ", filter.user_id.as_deref());
    any(statement, " AND team_id ", filter.team_ids.as_deref());
    any(statement, " AND organization_id ", filter.organization_ids.as_deref());
    same(statement, " AND end_user = ", filter.end_user.as_deref());
    same(statement, " AND provider_model = ", filter.model.as_deref());
    same(statement, " AND model_group = ", filter.model_group.as_deref());
    same(statement, " AND provider = ", filter.provider.as_deref());
    if let Some(tag) = &filter.tag {
        statement.push(" AND ").push(HAS_TAG.0).push_bind(bounded(tag, MAX_ID).into_owned()).push(HAS_TAG.1);
    }
    match filter.success {
        Some(true) => statement.push(" AND outcome = 'success'"),
        Some(false) => statement.push(" AND outcome <> 'success'"),
        None => statement,
    };
    if let Some(least) = filter.min_nanos {
        statement.push(" AND cost_nanos >= ").push_bind(least);
    }
    if let Some(most) = filter.max_nanos {
        statement.push(" AND cost_nanos <= ").push_bind(most);
    }
}

fn same(statement: &mut QueryBuilder<Db>, condition: &'static str, value: Option<&str>) {
    if let Some(value) = value {
        statement.push(condition).push_bind(bounded(value, MAX_ID).into_owned());
    }
}

fn any(statement: &mut QueryBuilder<Db>, column: &'static str, values: Option<&[String]>) {
    let Some(values) = values else { return };
    let values: Vec<String> = values.iter().map(|value| bounded(value, MAX_ID).into_owned()).collect();
    statement.push(column);
    if values.len() > FEW {
        let values = serde_json::Value::from(values).to_string();
        statement.push(ANY.0).push_bind(values).push(ANY.1);
        return;
    }
    statement.push("IN (");
    let mut list = statement.separated(", ");
    for value in values {
        list.push_bind(value);
    }
    statement.push(")");
}
