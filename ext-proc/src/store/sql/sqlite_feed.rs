//! The feed of changes in SQLite. Its cursor is the next row.

use super::Connection;

/// Changes read at once; who is further behind is told to forget everything.
const MOST: i64 = 10_000;

const CHANGES: &str = "SELECT b.oldest, b.newest, c.kind, c.id, c.version FROM \
     (SELECT COALESCE((SELECT MIN(seq) FROM attache_changes), 0) AS oldest, \
         COALESCE((SELECT MAX(seq) FROM attache_changes), 0) AS newest) AS b \
     LEFT JOIN attache_changes AS c ON c.seq >= $1 ORDER BY c.seq LIMIT $2";
/// The newest stays: it tells the next reader where the feed is.
const PRUNE: &str =
    "DELETE FROM attache_changes WHERE at_ms < $1 AND seq < (SELECT MAX(seq) FROM attache_changes)";
const PRUNE_ROTATED: &str = "DELETE FROM attache_entities WHERE kind = 'rotated_key' AND expires_ms < $1";

/// The next cursor, whether changes are missing, and the kinds, ids and versions of what changed.
pub(super) async fn read(
    connection: &mut Connection,
    cursor: i64,
) -> sqlx::Result<(i64, bool, Vec<(String, String, i64)>)> {
    // Cursor 0 asks for the next one only.
    let from = if cursor == 0 { i64::MAX } else { cursor };
    let query = sqlx::query_as::<_, (i64, i64, Option<String>, Option<String>, Option<i64>)>(CHANGES);
    let rows = query.bind(from).bind(MOST + 1).fetch_all(connection).await?;
    let (oldest, newest) = rows.first().map_or((0, 0), |row| (row.0, row.1));
    let lost = oldest > cursor || cursor > newest + 1 || rows.len() as i64 > MOST;
    let changed = rows.into_iter().filter_map(|row| Some((row.2?, row.3?, row.4?))).collect();
    Ok((newest + 1, lost, changed))
}

/// Forgets changes before `before_ms`, and rotated keys whose time was over long ago.
pub(super) async fn prune(connection: &mut Connection, before_ms: i64) -> sqlx::Result<()> {
    sqlx::query(PRUNE).bind(before_ms).execute(&mut *connection).await?;
    sqlx::query(PRUNE_ROTATED).bind(before_ms).execute(&mut *connection).await?;
    Ok(())
}
