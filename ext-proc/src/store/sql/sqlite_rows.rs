//! New rows of the ledger in SQLite: one table, no partitions.
//!
//! The statements of a batch are the same ones every time, for a few numbers of rows each: they are compiled once per
//! connection, which would cost more than all else. What is summed up per day is added up here, rather than by SQLite,
//! which would read the rows back and sort them.

use std::collections::HashSet;
use std::sync::{Arc, LazyLock};

use sqlx::error::BoxDynError;
use sqlx::sqlite::SqliteArguments;
use sqlx::{Arguments as _, AssertSqlSafe};

use super::super::daily::{self, Key, Sums};
use super::super::errors::broken;
use super::super::lease::Failure;
use super::super::stored::Stored;
use super::{BACKEND, Connection, Db, Store};

/// Rows per INSERT when some are there already: 32 parameters each, of 32,766.
const CHUNK: usize = 400;
/// Columns of `spend_columns!`, and of `daily_key!` with `daily_sums!`.
const SPEND_COLUMNS: usize = 32;
const DAILY_COLUMNS: usize = 19;
const INSERT: &str = concat!("INSERT INTO attache_spend (", spend_columns!(), ") ");
const NEW_ONLY: &str = " ON CONFLICT (call_id, start_us) DO NOTHING";
const NAME_NEW: &str = " ON CONFLICT (call_id, start_us) DO NOTHING RETURNING call_id, start_us";

static INSERT_NEW: LazyLock<Statements> = LazyLock::new(|| Statements::new(INSERT, SPEND_COLUMNS, NEW_ONLY));
static ADD_DAILY: LazyLock<Statements> =
    LazyLock::new(|| Statements::new(into_daily!(), DAILY_COLUMNS, onto_daily!()));

/// One statement for each of a few numbers of rows.
struct Statements([Arc<str>; Self::ROWS.len()]);

impl Statements {
    /// Most first: any number of rows takes some of these.
    const ROWS: [usize; 3] = [64, 8, 1];

    fn new(head: &str, columns: usize, tail: &str) -> Self {
        Self(Self::ROWS.map(|rows| values(head, columns, rows, tail).into()))
    }

    /// Runs them for all rows. The number of rows that were written.
    async fn run<T>(
        &self,
        connection: &mut Connection,
        mut rows: &[T],
        bind: impl Fn(&mut SqliteArguments, &T) -> Result<(), BoxDynError>,
    ) -> Result<u64, Failure> {
        let mut written = 0;
        for (size, text) in Self::ROWS.into_iter().zip(&self.0) {
            while let Some((chunk, rest)) = rows.split_at_checked(size) {
                let query = sqlx::query_with(AssertSqlSafe(Arc::clone(text)), bound(chunk, &bind)?);
                written += query.execute(&mut *connection).await?.rows_affected();
                rows = rest;
            }
        }
        Ok(written)
    }
}

fn values(head: &str, columns: usize, rows: usize, tail: &str) -> String {
    let row = format!("({})", vec!["?"; columns].join(","));
    format!("{head}VALUES {}{tail}", vec![row; rows].join(","))
}

fn bound<T>(
    rows: &[T],
    bind: impl Fn(&mut SqliteArguments, &T) -> Result<(), BoxDynError>,
) -> Result<SqliteArguments, Failure> {
    let mut arguments = SqliteArguments::default();
    arguments.reserve(rows.len() * SPEND_COLUMNS, 0);
    for row in rows {
        bind(&mut arguments, row).map_err(|error| broken(BACKEND, error))?;
    }
    Ok(arguments)
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

/// Inserts rows, each of them once, and adds those that are new to the sums per day. Returns the new ones; `None` when
/// some were there before: the transaction has to begin again, with `some_known`.
pub(super) async fn insert<'a, 'b>(
    connection: &mut Connection,
    rows: &'a [Stored<'b>],
    some_known: bool,
) -> Result<Option<Vec<&'a Stored<'b>>>, Failure> {
    let new = if some_known {
        insert_unknown(connection, rows).await?
    } else {
        // Nearly always all of them are new: then nobody need say which.
        let written = INSERT_NEW.run(connection, rows, bind_row).await?;
        if written < rows.len() as u64 {
            return Ok(None);
        }
        rows.iter().collect()
    };
    ADD_DAILY.run(connection, &daily::sums(&new), bind_daily).await?;
    Ok(Some(new))
}

/// Inserts rows of which some may be there, and returns the others.
async fn insert_unknown<'a, 'b>(
    connection: &mut Connection,
    rows: &'a [Stored<'b>],
) -> Result<Vec<&'a Stored<'b>>, Failure> {
    let mut new = Vec::with_capacity(rows.len());
    for chunk in rows.chunks(CHUNK) {
        let text = AssertSqlSafe(values(INSERT, SPEND_COLUMNS, chunk.len(), NAME_NEW));
        let query = sqlx::query_as_with::<Db, (String, i64), _>(text, bound(chunk, bind_row)?);
        // The text differs with the number of rows: caching it would push out the statements that recur.
        let written = query.persistent(false).fetch_all(&mut *connection).await?;
        let written: HashSet<(&str, i64)> = written.iter().map(|(id, start)| (id.as_str(), *start)).collect();
        new.extend(chunk.iter().filter(|row| written.contains(&row.identity())));
    }
    Ok(new)
}

/// In the order of `spend_columns!`.
fn bind_row(arguments: &mut SqliteArguments, row: &Stored<'_>) -> Result<(), BoxDynError> {
    arguments.add(row.start_us)?;
    arguments.add(row.duration_us)?;
    arguments.add(row.first_event_us)?;
    arguments.add(row.cost_nanos)?;
    arguments.add(row.prompt_tokens)?;
    arguments.add(row.completion_tokens)?;
    arguments.add(row.total_tokens)?;
    arguments.add(row.cached_tokens)?;
    arguments.add(row.cache_write_tokens)?;
    arguments.add(row.reasoning_tokens)?;
    arguments.add(row.status)?;
    arguments.add(row.attempts)?;
    arguments.add(row.fallbacks)?;
    arguments.add(row.stream)?;
    arguments.add(row.estimated)?;
    arguments.add(&*row.call_id)?;
    arguments.add(&*row.request_id)?;
    arguments.add(&*row.key)?;
    arguments.add(row.user_id.as_deref())?;
    arguments.add(row.team_id.as_deref())?;
    arguments.add(row.organization_id.as_deref())?;
    arguments.add(row.end_user.as_deref())?;
    arguments.add(row.tags.as_deref())?;
    arguments.add(&*row.charged)?;
    arguments.add(&*row.endpoint)?;
    arguments.add(&*row.model)?;
    arguments.add(&*row.group)?;
    arguments.add(&*row.deployment)?;
    arguments.add(&*row.provider)?;
    arguments.add(&*row.provider_model)?;
    arguments.add(&*row.outcome)?;
    arguments.add(row.lines.as_deref())
}

/// In the order of `daily_key!` and `daily_sums!`.
fn bind_daily(arguments: &mut SqliteArguments, (key, sums): &(Key<'_>, Sums)) -> Result<(), BoxDynError> {
    arguments.add(key.kind)?;
    arguments.add(key.id)?;
    arguments.add(key.day)?;
    arguments.add(key.key_hash)?;
    arguments.add(key.model)?;
    arguments.add(key.group)?;
    arguments.add(key.provider)?;
    arguments.add(key.endpoint)?;
    arguments.add(sums.requests)?;
    arguments.add(sums.successes)?;
    arguments.add(sums.failures)?;
    arguments.add(sums.prompt_tokens)?;
    arguments.add(sums.completion_tokens)?;
    arguments.add(sums.cached_tokens)?;
    arguments.add(sums.cache_write_tokens)?;
    arguments.add(sums.nanos)?;
    arguments.add(sums.unpriced)?;
    arguments.add(sums.estimated)?;
    arguments.add(sums.duration_us)
}
