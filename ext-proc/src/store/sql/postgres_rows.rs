//! New rows of the ledger in Postgres: partitions of their days, then one statement for any number of rows, which get
//! there as one array per column.

use std::collections::{BTreeSet, HashSet};

use super::super::lease::Failure;
use super::super::stored::Stored;
use super::{Connection, Store};

/// Rows and what they add to `attache_daily`. When rows were there before, the new ones are named.
const INSERT: &str = concat!(
    "WITH new AS (INSERT INTO attache_spend (",
    spend_columns!(),
    ") SELECT * FROM UNNEST($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], \
     $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[], \
     $14::boolean[], $15::boolean[], $16::text[], $17::text[], $18::text[], $19::text[], $20::text[], $21::text[], \
     $22::text[], $23::text[], $24::text[], $25::text[], $26::text[], $27::text[], $28::text[], $29::text[], \
     $30::text[], $31::text[], $32::text[]) AS given (",
    spend_columns!(),
    ") ORDER BY call_id COLLATE \"C\", start_us ON CONFLICT (call_id, start_us) DO NOTHING RETURNING call_id, ",
    daily_source!(),
    "), daily AS (",
    add_daily!(),
    ") SELECT COUNT(*), CASE WHEN COUNT(*) < $33 THEN ARRAY_AGG(call_id) END, \
     CASE WHEN COUNT(*) < $33 THEN ARRAY_AGG(start_us) END FROM new"
);
const MAKE_DAY: &str = "SELECT attache_spend_day($1)";
/// Days that are remembered to have a partition.
const MOST_DAYS: usize = 10_000;

/// Makes the partitions that the rows need, apart from their transaction: whoever makes one is waited for by others.
pub(super) async fn prepare(
    store: &Store,
    connection: &mut Connection,
    rows: &[Stored<'_>],
) -> Result<(), Failure> {
    let missing: BTreeSet<i64> = {
        let known = store.days.lock();
        rows.iter().map(Stored::day).filter(|day| !known.contains(day)).collect()
    };
    make_days(store, connection, missing).await
}

/// Makes the partitions of these Unix days.
pub(super) async fn make_days(
    store: &Store,
    connection: &mut Connection,
    days: impl IntoIterator<Item = i64>,
) -> Result<(), Failure> {
    for day in days {
        sqlx::query(MAKE_DAY).bind(day).execute(&mut *connection).await?;
        let mut known = store.days.lock();
        if known.len() >= MOST_DAYS {
            known.clear();
        }
        known.insert(day);
    }
    Ok(())
}

/// Was a partition dropped since it was seen? Then it is not known any more, and the write may be tried again.
pub(super) fn lost_a_day(store: &Store, failure: &Failure) -> bool {
    let Failure::Sql(sqlx::Error::Database(refusal)) = failure else { return false };
    // check_violation: "no partition of relation found for row".
    let lost = refusal.code().is_some_and(|code| code == "23514");
    if lost {
        store.days.lock().clear();
    }
    lost
}

/// Inserts rows, in order of their identity, each of them once, and adds those that are new to the sums per day. Returns
/// the new ones, which this dialect always names.
pub(super) async fn insert<'a, 'b>(
    connection: &mut Connection,
    rows: &'a [Stored<'b>],
    _some_known: bool,
) -> Result<Option<Vec<&'a Stored<'b>>>, Failure> {
    macro_rules! column {
        ($row:ident => $value:expr) => {
            rows.iter().map(|$row| $value).collect::<Vec<_>>()
        };
    }
    let query = sqlx::query_as::<_, (i64, Option<Vec<String>>, Option<Vec<i64>>)>(INSERT)
        .bind(column!(row => row.start_us))
        .bind(column!(row => row.duration_us))
        .bind(column!(row => row.first_event_us))
        .bind(column!(row => row.cost_nanos))
        .bind(column!(row => row.prompt_tokens))
        .bind(column!(row => row.completion_tokens))
        .bind(column!(row => row.total_tokens))
        .bind(column!(row => row.cached_tokens))
        .bind(column!(row => row.cache_write_tokens))
        .bind(column!(row => row.reasoning_tokens))
        .bind(column!(row => row.status))
        .bind(column!(row => row.attempts))
        .bind(column!(row => row.fallbacks))
        .bind(column!(row => row.stream))
        .bind(column!(row => row.estimated))
        .bind(column!(row => &*row.call_id))
        .bind(column!(row => &*row.request_id))
        .bind(column!(row => &*row.key))
        .bind(column!(row => row.user_id.as_deref()))
        .bind(column!(row => row.team_id.as_deref()))
        .bind(column!(row => row.organization_id.as_deref()))
        .bind(column!(row => row.end_user.as_deref()))
        .bind(column!(row => row.tags.as_deref()))
        .bind(column!(row => row.charged.as_str()))
        .bind(column!(row => &*row.endpoint))
        .bind(column!(row => &*row.model))
        .bind(column!(row => &*row.group))
        .bind(column!(row => &*row.deployment))
        .bind(column!(row => &*row.provider))
        .bind(column!(row => &*row.provider_model))
        .bind(column!(row => &*row.outcome))
        .bind(column!(row => row.lines.as_deref()))
        .bind(i64::try_from(rows.len()).unwrap_or(i64::MAX));
    let (count, ids, starts) = query.fetch_one(connection).await?;
    if count == 0 {
        return Ok(Some(Vec::new()));
    }
    let (Some(ids), Some(starts)) = (ids, starts) else {
        return Ok(Some(rows.iter().collect()));
    };
    let new: HashSet<(&str, i64)> = ids.iter().map(String::as_str).zip(starts).collect();
    Ok(Some(rows.iter().filter(|row| new.contains(&row.identity())).collect()))
}
