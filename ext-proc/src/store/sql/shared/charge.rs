//! What new rows of the ledger add to spend and use. Compiled once per driver, as `ledger.rs`.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Serialize;

use super::super::checked::{MAX_SUM, Sums, Use};
use super::super::entities::Named;
use super::super::lease::Failure;
use super::super::records::{MAX_ID, bounded};
use super::super::stored::Stored;
use super::Connection;
use super::directory::given;
use crate::entity::EntityKind;
use crate::store::SpendRow;

/// Accounts of keys that go by another hash than their first.
const ACCOUNTS: &str = concat!(
    "SELECT e.id, e.account FROM ",
    given!(kind text, id text),
    " JOIN attache_entities AS e ON e.kind = given.kind AND e.id = given.id WHERE e.account <> e.id"
);
/// Locks in the order in which changes of entities lock, so that the update below, whose own order nobody promises,
/// never deadlocks.
const LOCK: &str = concat!(
    "SELECT COUNT(*) FROM (SELECT e.id FROM ",
    given_columns!(1 kind text, 2 id text),
    " JOIN attache_entities AS e ON e.kind = given.kind AND e.account = given.id ORDER BY e.kind, e.id",
    lock!(),
    ") AS locked"
);
const ADD_SPEND: &str = concat!(
    "UPDATE attache_entities SET spend_nanos = ",
    least!(),
    "(spend_nanos + given.nanos, 4000000000000000000) FROM ",
    given_columns!(1 kind text, 2 id text, 3 nanos bigint),
    " WHERE attache_entities.kind = given.kind AND attache_entities.account = given.id"
);
/// Bounded (by ten million dollars in a quarter of an hour) so that the sum over any time fits.
const ADD_USAGE: &str = concat!(
    "INSERT INTO attache_usage (kind, id, quarter, requests, prompt_tokens, completion_tokens, nanos) \
     SELECT kind, id, quarter, requests, prompt_tokens, completion_tokens, nanos FROM ",
    given_columns!(1 kind text, 2 id text, 3 quarter bigint, 4 requests bigint, 5 prompt_tokens bigint,
        6 completion_tokens bigint, 7 nanos bigint),
    " WHERE TRUE ORDER BY kind, id, quarter \
     ON CONFLICT (kind, id, quarter) DO UPDATE SET requests = attache_usage.requests + excluded.requests, \
     prompt_tokens = ",
    least!(),
    "(attache_usage.prompt_tokens + excluded.prompt_tokens, 10000000000000000), \
     completion_tokens = ",
    least!(),
    "(attache_usage.completion_tokens + excluded.completion_tokens, 10000000000000000), \
     nanos = ",
    least!(),
    "(attache_usage.nanos + excluded.nanos, 10000000000000000)"
);
/// Sums of one statement at most.
const MOST: usize = 5_000;

/// Who it is, by kind and id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Who<'a> {
    kind: &'static str,
    id: &'a str,
}

#[derive(Serialize)]
struct Spent<'a> {
    kind: &'static str,
    id: &'a str,
    nanos: i64,
}

#[derive(Serialize)]
struct Used<'a> {
    kind: &'static str,
    id: &'a str,
    quarter: i64,
    requests: i64,
    prompt_tokens: i64,
    completion_tokens: i64,
    nanos: i64,
}

impl<'a> Used<'a> {
    fn new(of: Who<'a>, quarter: i64, sums: Sums) -> Self {
        let Who { kind, id } = of;
        let Sums { requests, prompt_tokens, completion_tokens, nanos } = sums;
        Self { kind, id, quarter, requests, prompt_tokens, completion_tokens, nanos }
    }
}

/// Adds rows to the spend and use of whom they are charged to.
pub(super) async fn charge(connection: &mut Connection, rows: &[&Stored<'_>]) -> Result<(), Failure> {
    let mut spent: BTreeMap<Who<'_>, i64> = BTreeMap::new();
    let mut used: BTreeMap<(Who<'_>, i64), Sums> = BTreeMap::new();
    for row in rows {
        let (quarter, nanos) = (row.quarter(), row.cost_nanos.unwrap_or_default());
        for to in &row.to {
            let of = Who { kind: to.kind.name(), id: &to.id };
            if nanos != 0 && is_stored(to.kind) {
                let sum = spent.entry(of).or_default();
                *sum = sum.saturating_add(nanos).min(MAX_SUM);
            }
            used.entry((of, quarter)).or_default().add(&row.sums());
        }
    }
    let spent: Vec<Spent<'_>> =
        spent.iter().map(|(of, nanos)| Spent { kind: of.kind, id: of.id, nanos: *nanos }).collect();
    if !spent.is_empty() {
        bind_columns!(sqlx::query(LOCK), spent, kind, id).execute(&mut *connection).await?;
        bind_columns!(sqlx::query(ADD_SPEND), spent, kind, id, nanos).execute(&mut *connection).await?;
    }
    let used: Vec<Used<'_>> =
        used.into_iter().map(|((of, quarter), sums)| Used::new(of, quarter, sums)).collect();
    add_usage(connection, &used).await
}

async fn add_usage(connection: &mut Connection, used: &[Used<'_>]) -> Result<(), Failure> {
    for chunk in used.chunks(MOST) {
        let query = sqlx::query(ADD_USAGE);
        let query =
            bind_columns!(query, chunk, kind, id, quarter, requests, prompt_tokens, completion_tokens, nanos);
        query.execute(&mut *connection).await?;
    }
    Ok(())
}

/// Puts sums in place that are not there.
pub(super) async fn set_usage(connection: &mut Connection, used: &[(Use, Sums)]) -> Result<(), Failure> {
    let used: Vec<Used<'_>> = used
        .iter()
        .map(|(of, sums)| Used::new(Who { kind: of.kind.name(), id: &of.id }, of.quarter, *sums))
        .collect();
    add_usage(connection, &used).await
}

/// Accounts of the keys of rows that do not say whom they are charged to, where they are not the keys themselves.
pub(super) async fn accounts(
    connection: &mut Connection,
    rows: &[SpendRow],
) -> Result<HashMap<String, String>, Failure> {
    let keys = rows.iter().filter(|row| row.charged.is_empty() && !row.key.is_empty());
    let keys: BTreeSet<_> = keys.map(|row| bounded(&row.key, MAX_ID)).collect();
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    let keys: Vec<Named> =
        keys.into_iter().map(|id| Named { kind: EntityKind::Key.name(), id: id.into_owned() }).collect();
    let query = sqlx::query_as::<_, (String, String)>(ACCOUNTS).bind(given(&keys)?);
    Ok(query.fetch_all(connection).await?.into_iter().collect())
}

/// Are there entities of this kind in the table, with a spend?
fn is_stored(kind: EntityKind) -> bool {
    !matches!(kind, EntityKind::KeyModel | EntityKind::TeamModel | EntityKind::UserModel | EntityKind::Proxy)
}
