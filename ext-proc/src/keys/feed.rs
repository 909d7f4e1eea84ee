//! What others changed: the database's feed, polled.

use std::sync::Arc;
use std::time::Duration;

use super::cache::Cache;
use crate::store::Changes;

/// With the gates' own poll (500 ms) a change is in force everywhere within a second.
const EVERY: Duration = Duration::from_millis(300);
/// Longest pause while the database is away.
const SLOWEST: Duration = Duration::from_secs(2);

/// Follows the feed for as long as the process runs.
pub(super) async fn follow(cache: Arc<Cache>) {
    let mut feed = Feed::default();
    let mut pause = EVERY;
    loop {
        let asked = tokio::time::timeout(cache.limits.deadline, cache.store.changes(feed.cursor)).await;
        pause = match asked {
            Ok(Ok(changes)) => {
                feed.take(&cache, &changes);
                EVERY
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, "feed of changes not read");
                pause.saturating_mul(2).min(SLOWEST)
            }
            Err(_) => pause.saturating_mul(2).min(SLOWEST),
        };
        // Sidecars that were started together do not ask together.
        tokio::time::sleep(pause.mul_f64(rand::random_range(0.85..1.1))).await;
    }
}

/// Place in the feed.
#[derive(Default)]
pub(super) struct Feed {
    cursor: u64,
    begun: bool,
}

impl Feed {
    /// Applies a part of the feed.
    pub(super) fn take(&mut self, cache: &Cache, changes: &Changes) {
        cache.came_back();
        // Cursor 0 asks for the newest place only. If that is 0 as well nothing was ever changed, and what is changed
        // next comes as a new place without a name.
        let unnamed = self.cursor == 0 && changes.cursor != 0;
        if changes.lost || unnamed || !self.begun {
            cache.doubt_all();
        }
        cache.changed(changes.changed.iter().map(|change| (&change.of, change.version)));
        self.cursor = changes.cursor;
        self.begun = true;
    }
}
