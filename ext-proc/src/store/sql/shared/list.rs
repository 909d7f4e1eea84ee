//! Lists of entities. Compiled once per driver, as `ledger.rs`.

use sqlx::QueryBuilder;

use super::super::entities::{EntityRecord, name};
use super::super::records::{signed, unsigned};
use super::{Connection, Db};
use crate::store::{Filter, Sort};

const SELECT: &str = concat!("SELECT ", entity_columns!(), " FROM attache_entities AS e WHERE TRUE");
const COUNT: &str = "SELECT COUNT(*) FROM attache_entities AS e WHERE TRUE";
/// After the text that it follows and the JSON array in its place: any of these.
const ANY: (&str, &str) = any_of!();

/// One page, and the count of all.
pub(super) async fn list(
    connection: &mut Connection,
    filter: &Filter,
) -> sqlx::Result<(Vec<EntityRecord>, u64)> {
    let none = |ids: &Option<Vec<String>>| ids.as_ref().is_some_and(Vec::is_empty);
    if none(&filter.ids) || none(&filter.team_ids) {
        return Ok((Vec::new(), 0));
    }
    let mut records = Vec::new();
    if filter.limit > 0 {
        records = page(filter).build_query_as().fetch_all(&mut *connection).await?;
        // The last page knows how many there are; nobody need count them.
        let found = records.len() as u64;
        if found < u64::from(filter.limit) && (found > 0 || filter.offset == 0) {
            return Ok((records, filter.offset + found));
        }
    }
    let mut count = QueryBuilder::<Db>::new(COUNT);
    conditions(&mut count, filter);
    let total: i64 = count.build_query_scalar().fetch_one(connection).await?;
    Ok((records, unsigned(total)))
}

fn page(filter: &Filter) -> QueryBuilder<Db> {
    let mut query = QueryBuilder::<Db>::new(SELECT);
    conditions(&mut query, filter);
    query.push(match (filter.sort, filter.ascending) {
        (Sort::Created, true) => " ORDER BY e.created_ms, e.id, e.kind",
        (Sort::Created, false) => " ORDER BY e.created_ms DESC, e.id DESC, e.kind DESC",
        (Sort::Updated, true) => " ORDER BY e.updated_ms, e.id, e.kind",
        (Sort::Updated, false) => " ORDER BY e.updated_ms DESC, e.id DESC, e.kind DESC",
        (Sort::Alias, true) => " ORDER BY e.alias NULLS FIRST, e.id, e.kind",
        (Sort::Alias, false) => " ORDER BY e.alias DESC NULLS LAST, e.id DESC, e.kind DESC",
        (Sort::Id, true) => " ORDER BY e.id, e.kind",
        (Sort::Id, false) => " ORDER BY e.id DESC, e.kind DESC",
        (Sort::Spend, true) => " ORDER BY e.spend_nanos, e.id, e.kind",
        (Sort::Spend, false) => " ORDER BY e.spend_nanos DESC, e.id DESC, e.kind DESC",
        (Sort::Expires, true) => " ORDER BY e.expires_ms NULLS FIRST, e.id, e.kind",
        (Sort::Expires, false) => " ORDER BY e.expires_ms DESC NULLS LAST, e.id DESC, e.kind DESC",
    });
    query.push(" LIMIT ").push_bind(i64::from(filter.limit));
    query.push(" OFFSET ").push_bind(signed(filter.offset));
    query
}

fn conditions(query: &mut QueryBuilder<Db>, filter: &Filter) {
    if let Some(kind) = filter.kind {
        query.push(" AND e.kind = ").push_bind(kind.name());
    }
    any(query, " AND e.id ", filter.ids.as_deref());
    match (&filter.alias, filter.substring) {
        (Some(part), true) => {
            query.push(" AND LOWER(e.alias) LIKE ").push_bind(pattern(part)).push(" ESCAPE '!'");
        }
        (alias, _) => same(query, " AND e.alias = ", alias.as_deref()),
    }
    same(query, " AND e.team_id = ", filter.team_id.as_deref());
    any(query, " AND e.team_id ", filter.team_ids.as_deref());
    same(query, " AND e.user_id = ", filter.user_id.as_deref());
    same(query, " AND e.organization_id = ", filter.organization_id.as_deref());
    same(query, " AND e.budget_id = ", filter.budget_id.as_deref());
    same(query, " AND e.created_by = ", filter.created_by.as_deref());
    same(query, " AND e.role = ", filter.role.as_deref());
    same(query, " AND e.email = ", filter.email.as_deref());
    if let Some(blocked) = filter.blocked {
        query.push(" AND e.blocked = ").push_bind(blocked);
    }
    match filter.expired {
        Some((now, true)) => {
            query.push(" AND e.expires_ms <= ").push_bind(signed(now));
        }
        Some((now, false)) => {
            query.push(" AND (e.expires_ms IS NULL OR e.expires_ms > ").push_bind(signed(now)).push(")");
        }
        None => {}
    }
}

fn same(query: &mut QueryBuilder<Db>, condition: &'static str, value: Option<&str>) {
    if let Some(value) = value {
        query.push(condition).push_bind(name(value));
    }
}

fn any(query: &mut QueryBuilder<Db>, column: &'static str, values: Option<&[String]>) {
    if let Some(values) = values {
        let values: Vec<String> = values.iter().map(|value| name(value)).collect();
        let values = serde_json::Value::from(values).to_string();
        query.push(column).push(ANY.0).push_bind(values).push(ANY.1);
    }
}

/// For LIKE: the text itself, anywhere, in any case of ASCII letters.
fn pattern(part: &str) -> String {
    let mut pattern = String::from("%");
    for character in name(part).to_ascii_lowercase().chars() {
        if matches!(character, '%' | '_' | '!') {
            pattern.push('!');
        }
        pattern.push(character);
    }
    pattern.push('%');
    pattern
}
