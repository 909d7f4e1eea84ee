//! What new rows of the ledger add to spend and use. Compiled once per driver, as `ledger.rs`.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Serialize;

use super::super::entities::{Named, name};
use super::super::lease::Failure;
use super::super::records::{cost, count, signed};
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
    "SELECT e.id FROM ",
    given!(kind text, id text),
    " JOIN attache_entities AS e ON e.kind = given.kind AND e.account = given.id ORDER BY e.kind, e.id",
    lock!()
);
const ADD_SPEND: &str = concat!(
    "UPDATE attache_entities SET spend_nanos = ",
    least!(),
    "(spend_nanos + given.nanos, 4000000000000000000) FROM ",
    given!(kind text, id text, nanos bigint),
    " WHERE attache_entities.kind = given.kind AND attache_entities.account = given.id"
);
/// Bounded (by ten million dollars in a quarter of an hour) so that the sum over any time fits.
const ADD_USAGE: &str = concat!(
    "INSERT INTO attache_usage (kind, id, quarter, requests, prompt_tokens, completion_tokens, nanos) \
     SELECT kind, id, quarter, requests, prompt_tokens, completion_tokens, nanos FROM ",
    given!(kind text, id text, quarter bigint, requests bigint, prompt_tokens bigint, completion_tokens bigint,
        nanos bigint),
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
/// Bound of one batch's sums; the statements bound those of all.
const MAX_SUM: i64 = 10_000_000_000_000_000;
const QUARTER_US: u64 = 900_000_000;

#[derive(Debug, Clone, Copy, Default, Serialize)]
struct Sums {
    requests: i64,
    prompt_tokens: i64,
    completion_tokens: i64,
    nanos: i64,
}

impl Sums {
    fn add(&mut self, row: &SpendRow) {
        let add = |sum: &mut i64, more: i64| *sum = sum.saturating_add(more).clamp(-MAX_SUM, MAX_SUM);
        self.requests += 1;
        add(&mut self.prompt_tokens, count(row.prompt_tokens));
        add(&mut self.completion_tokens, count(row.completion_tokens));
        add(&mut self.nanos, cost(row.cost_nanos.unwrap_or_default()));
    }
}

#[derive(Serialize)]
struct Spent<'a> {
    #[serde(flatten)]
    of: &'a Named,
    nanos: i64,
}

#[derive(Serialize)]
struct Used<'a> {
    #[serde(flatten)]
    of: &'a Named,
    quarter: i64,
    #[serde(flatten)]
    sums: &'a Sums,
}

/// Adds rows to the spend and use of whom they are charged to, each once.
pub(super) async fn charge(connection: &mut Connection, rows: &[&SpendRow]) -> Result<(), Failure> {
    let accounts = accounts(connection, rows).await?;
    let mut spent: BTreeMap<Named, i64> = BTreeMap::new();
    let mut used: BTreeMap<(Named, i64), Sums> = BTreeMap::new();
    for row in rows {
        let quarter = signed(row.start_us / QUARTER_US);
        let nanos = cost(row.cost_nanos.unwrap_or_default());
        for of in charged(row, &accounts) {
            if nanos != 0 && is_stored(of.kind) {
                let sum = spent.entry(of.clone()).or_default();
                *sum = sum.saturating_add(nanos).clamp(-MAX_SUM, MAX_SUM);
            }
            used.entry((of, quarter)).or_default().add(row);
        }
    }
    if !spent.is_empty() {
        let names: Vec<&Named> = spent.keys().collect();
        sqlx::query(LOCK).bind(given(&names)?).execute(&mut *connection).await?;
        let spent: Vec<Spent> = spent.iter().map(|(of, nanos)| Spent { of, nanos: *nanos }).collect();
        sqlx::query(ADD_SPEND).bind(given(&spent)?).execute(&mut *connection).await?;
    }
    if !used.is_empty() {
        let used: Vec<Used> =
            used.iter().map(|((of, quarter), sums)| Used { of, quarter: *quarter, sums }).collect();
        sqlx::query(ADD_USAGE).bind(given(&used)?).execute(&mut *connection).await?;
    }
    Ok(())
}

/// Whom a row is charged to: whom it says, else its key.
fn charged(row: &SpendRow, accounts: &HashMap<String, String>) -> BTreeSet<Named> {
    if !row.charged.is_empty() {
        return row.charged.iter().map(Named::from).collect();
    }
    if row.key.is_empty() {
        return BTreeSet::new();
    }
    let hash = name(&row.key);
    let id = accounts.get(&hash).cloned().unwrap_or(hash);
    BTreeSet::from([Named { kind: EntityKind::Key.name(), id }])
}

/// Accounts of the keys of rows that do not say whom they are charged to.
async fn accounts(
    connection: &mut Connection,
    rows: &[&SpendRow],
) -> Result<HashMap<String, String>, Failure> {
    let keys = rows.iter().filter(|row| row.charged.is_empty() && !row.key.is_empty());
    let keys: BTreeSet<Named> =
        keys.map(|row| Named { kind: EntityKind::Key.name(), id: name(&row.key) }).collect();
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    let keys: Vec<Named> = keys.into_iter().collect();
    let query = sqlx::query_as::<_, (String, String)>(ACCOUNTS).bind(given(&keys)?);
    Ok(query.fetch_all(connection).await?.into_iter().collect())
}

/// Are there entities of this kind in the table, with a spend?
fn is_stored(kind: &str) -> bool {
    !matches!(
        EntityKind::of_name(kind),
        None | Some(EntityKind::KeyModel | EntityKind::TeamModel | EntityKind::UserModel | EntityKind::Proxy)
    )
}
