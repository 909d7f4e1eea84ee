//! New rows of the ledger in SQLite: one table, no partitions.

use std::collections::HashSet;

use serde::Serialize;
use sqlx::QueryBuilder;

use super::super::lease::Failure;
use super::super::stored::Stored;
use super::directory::given;
use super::{Connection, Db, Store};

/// Rows per INSERT: 32 parameters each, of 32,766.
const CHUNK: usize = 400;
const INSERT: &str = concat!("INSERT INTO attache_spend (", spend_columns!(), ") ");
const NEW_ONLY: &str = " ON CONFLICT (call_id, start_us) DO NOTHING RETURNING call_id, start_us";
const ADD_DAILY: &str = concat!(
    "WITH new AS (SELECT ",
    daily_source!(),
    " FROM ",
    given!(call_id text, start_us bigint),
    " JOIN attache_spend USING (call_id, start_us)) ",
    add_daily!()
);

#[derive(Serialize)]
struct Identity<'a> {
    call_id: &'a str,
    start_us: i64,
}

/// There is nothing to prepare.
#[expect(clippy::unused_async, reason = "as in the other dialect")]
pub(super) async fn prepare(_: &Store, _: &mut Connection, _: &[Stored<'_>]) -> Result<(), Failure> {
    Ok(())
}

/// There are no partitions.
pub(super) fn lost_a_day(_: &Store, _: &Failure) -> bool {
    false
}

/// Inserts rows, each of them once, and adds those that are new to the sums per day. Returns the new ones.
pub(super) async fn insert<'a, 'b>(
    connection: &mut Connection,
    rows: &'a [Stored<'b>],
) -> Result<Vec<&'a Stored<'b>>, Failure> {
    let mut new = Vec::with_capacity(rows.len());
    for chunk in rows.chunks(CHUNK) {
        let mut insert = statement(chunk);
        // The text differs with the number of rows: caching it would push out the statements that recur.
        let query = insert.build_query_as::<(String, i64)>().persistent(false);
        let written = query.fetch_all(&mut *connection).await?;
        if written.len() == chunk.len() {
            new.extend(chunk);
            continue;
        }
        let written: HashSet<(&str, i64)> = written.iter().map(|(id, start)| (id.as_str(), *start)).collect();
        new.extend(chunk.iter().filter(|row| written.contains(&row.identity())));
    }
    if !new.is_empty() {
        let identities: Vec<Identity<'_>> =
            new.iter().map(|row| Identity { call_id: &row.call_id, start_us: row.start_us }).collect();
        sqlx::query(ADD_DAILY).bind(given(&identities)?).execute(&mut *connection).await?;
    }
    Ok(new)
}

fn statement(rows: &[Stored<'_>]) -> QueryBuilder<Db> {
    let mut insert = QueryBuilder::<Db>::new(INSERT);
    insert.push_values(rows, |mut values, row| {
        values
            .push_bind(row.start_us)
            .push_bind(row.duration_us)
            .push_bind(row.first_event_us)
            .push_bind(row.cost_nanos)
            .push_bind(row.prompt_tokens)
            .push_bind(row.completion_tokens)
            .push_bind(row.total_tokens)
            .push_bind(row.cached_tokens)
            .push_bind(row.cache_write_tokens)
            .push_bind(row.reasoning_tokens)
            .push_bind(row.status)
            .push_bind(row.attempts)
            .push_bind(row.fallbacks)
            .push_bind(row.stream)
            .push_bind(row.estimated)
            .push_bind(&*row.call_id)
            .push_bind(&*row.request_id)
            .push_bind(&*row.key)
            .push_bind(row.user_id.as_deref())
            .push_bind(row.team_id.as_deref())
            .push_bind(row.organization_id.as_deref())
            .push_bind(row.end_user.as_deref())
            .push_bind(row.tags.as_deref())
            .push_bind(&*row.charged)
            .push_bind(&*row.endpoint)
            .push_bind(&*row.model)
            .push_bind(&*row.group)
            .push_bind(&*row.deployment)
            .push_bind(&*row.provider)
            .push_bind(&*row.provider_model)
            .push_bind(&*row.outcome)
            .push_bind(row.lines.as_deref());
    });
    insert.push(NEW_ONLY);
    insert
}
