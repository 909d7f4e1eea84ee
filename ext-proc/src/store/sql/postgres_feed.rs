//! The feed of changes in Postgres. Its cursor is a number of transactions: below it all have ended.

use super::Connection;

/// Changes read at once; who is further behind is told to forget everything.
const MOST: i64 = 10_000;

/// The row 0 that is always there says up to where the feed was pruned. A cursor above every transaction is from
/// before the database was restored elsewhere.
const CHANGES: &str = "SELECT txid_snapshot_xmin(s.now), txid_snapshot_xmax(s.now), c.seq, c.position, c.kind, c.id, c.version \
     FROM (SELECT txid_current_snapshot() AS now) AS s, attache_changes AS c \
     WHERE c.seq = 0 OR c.position >= $1 ORDER BY c.seq LIMIT $2";
/// Rows of transactions that may not have been seen by everyone stay.
const PRUNE: &str = "WITH s AS (SELECT txid_current_snapshot() AS now), \
     gone AS (DELETE FROM attache_changes USING s WHERE seq <> 0 AND at_ms < $1 \
         AND (position < txid_snapshot_xmin(s.now) OR position > txid_snapshot_xmax(s.now)) \
         RETURNING position, position < txid_snapshot_xmin(s.now) AS ours) \
     UPDATE attache_changes SET position = GREATEST(position, \
         COALESCE((SELECT MAX(gone.position) FROM gone WHERE gone.ours), 0)) WHERE seq = 0";
const PRUNE_ROTATED: &str = "DELETE FROM attache_entities WHERE kind = 'rotated_key' AND expires_ms < $1";

/// The next cursor, whether changes are missing, and the kinds, ids and versions of what changed.
pub(super) async fn read(
    connection: &mut Connection,
    cursor: i64,
) -> sqlx::Result<(i64, bool, Vec<(String, String, i64)>)> {
    // Cursor 0 asks for the next one only.
    let from = if cursor == 0 { i64::MAX } else { cursor };
    let query = sqlx::query_as::<_, (i64, i64, i64, i64, String, String, i64)>(CHANGES);
    let rows = query.bind(from).bind(MOST + 2).fetch_all(connection).await?;
    let Some((next, newest, 0, floor, ..)) = rows.first() else { return Ok((1, true, Vec::new())) };
    let pruned = *floor >= cursor && floor < newest;
    let lost = pruned || cursor > *newest || rows.len() as i64 > MOST + 1;
    let (next, changed) = (*next, rows.into_iter().skip(1).map(|row| (row.4, row.5, row.6)).collect());
    Ok((next, lost, changed))
}

/// Forgets changes before `before_ms`, and rotated keys whose time was over long ago.
pub(super) async fn prune(connection: &mut Connection, before_ms: i64) -> sqlx::Result<()> {
    sqlx::query(PRUNE).bind(before_ms).execute(&mut *connection).await?;
    sqlx::query(PRUNE_ROTATED).bind(before_ms).execute(&mut *connection).await?;
    Ok(())
}
