//! The key cache: known keys stay (and are served stale while the database is away), unknown ones are remembered
//! for a short while in a bounded table of their own, so that a flood of bad keys cannot push known keys out.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use attache_llm::contract::{KeyChanges, KeyChangesAsk};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use parking_lot::Mutex;

use super::changes::ChangeLog;
use crate::store::{Database, KeyRow, StoreError};

/// Times and bounds of the cache.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// A known key is not used beyond this age without asking, unless the database is away.
    pub positive_ttl: Duration,
    /// A known key in use is asked again behind the request after this long, so that a change made by another
    /// sidecar is noticed within about a second...
    pub refresh_after: Duration,
    /// ...as long as there are no more such reads per second than this. Beyond it `positive_ttl` is the bound.
    pub refreshes_per_second: u32,
    /// An unknown key is asked again after this long.
    pub negative_ttl: Duration,
    pub max_known: u64,
    pub max_unknown: u64,
    /// Reads of the database in progress at once.
    pub max_reads: usize,
    /// Longest wait for the database.
    pub deadline: Duration,
    /// Longest wait for the database when the key is known, though old.
    pub patience: Duration,
    /// After a failed refresh a known key is served without asking for this long.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            positive_ttl: Duration::from_secs(60),
            refresh_after: Duration::from_millis(700),
            refreshes_per_second: 1_000,
            negative_ttl: Duration::from_secs(5),
            max_known: 100_000,
            max_unknown: 50_000,
            max_reads: 1_024,
            deadline: Duration::from_millis(800),
            patience: Duration::from_millis(100),
            grace: Duration::from_secs(2),
        }
    }
}

#[derive(Clone)]
struct Known {
    row: Arc<KeyRow>,
    /// From here a request that uses the key has it read again behind it.
    refresh_at: Instant,
    /// From here a request waits for the answer.
    ask_again: Instant,
}

/// Reads behind requests in the current second.
struct Budget {
    since: Instant,
    used: u32,
}

/// What a read of the database gave; cloned to everyone who waited for it.
type Read = Result<Option<Arc<KeyRow>>, Away>;

/// [`StoreError`] in a form that can be handed to several waiters.
#[derive(Debug, Clone)]
struct Away {
    backend: &'static str,
    reason: Arc<str>,
}

impl From<Away> for StoreError {
    fn from(away: Away) -> Self {
        Self::Unavailable { backend: away.backend, reason: away.reason.to_string() }
    }
}

pub(super) struct KeyCache {
    store: Arc<dyn Database>,
    limits: Limits,
    known: moka::sync::Cache<String, Known>,
    unknown: moka::sync::Cache<String, ()>,
    reads: Mutex<HashMap<String, Shared<BoxFuture<'static, Read>>>>,
    changes: Mutex<ChangeLog>,
    budget: Mutex<Budget>,
}

impl KeyCache {
    pub(super) fn new(store: Arc<dyn Database>, limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            store,
            limits,
            known: moka::sync::Cache::new(limits.max_known),
            unknown: moka::sync::Cache::builder()
                .max_capacity(limits.max_unknown)
                .time_to_live(limits.negative_ttl)
                .build(),
            reads: Mutex::new(HashMap::new()),
            changes: Mutex::new(ChangeLog::new()),
            budget: Mutex::new(Budget { since: Instant::now(), used: 0 }),
        })
    }

    /// The key behind `hash`, `None` if nobody knows it.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the database is away and the key is not known here.
    pub(super) async fn row(self: &Arc<Self>, hash: &str) -> Result<Option<Arc<KeyRow>>, StoreError> {
        let known = self.known.get(hash);
        let now = Instant::now();
        if let Some(known) = &known
            && now < known.ask_again
        {
            if now >= known.refresh_at && self.may_refresh(now) {
                // Runs by itself; a read in progress is joined.
                drop(self.read(hash));
            }
            return Ok(Some(known.row.clone()));
        }
        if self.unknown.contains_key(hash) {
            return Ok(None);
        }
        let away = |reason: &str| Err(Away { backend: "key store", reason: reason.into() });
        let read = match (self.read(hash), &known) {
            (None, _) => away("too many lookups in progress"),
            (Some(read), None) => read.await,
            // The read goes on behind and ends in the cache.
            (Some(read), Some(_)) => {
                tokio::time::timeout(self.limits.patience, read).await.unwrap_or_else(|_| away("slow"))
            }
        };
        match (read, known) {
            (Ok(row), _) => Ok(row),
            (Err(_), Some(known)) => Ok(Some(known.row)),
            (Err(away), None) => Err(away.into()),
        }
    }

    fn may_refresh(&self, now: Instant) -> bool {
        let mut budget = self.budget.lock();
        if now.duration_since(budget.since) >= Duration::from_secs(1) {
            *budget = Budget { since: now, used: 0 };
        }
        budget.used += 1;
        budget.used <= self.limits.refreshes_per_second
    }

    /// Joins a read in progress or starts one; `None` when too many are in progress.
    fn read(self: &Arc<Self>, hash: &str) -> Option<Shared<BoxFuture<'static, Read>>> {
        let mut reads = self.reads.lock();
        if let Some(read) = reads.get(hash) {
            return Some(read.clone());
        }
        if reads.len() >= self.limits.max_reads {
            return None;
        }
        let (cache, key) = (self.clone(), hash.to_owned());
        // A task of its own: a caller that goes away must not leave a read that nobody drives.
        let task = tokio::spawn(async move {
            let outcome = cache.fetch(&key).await;
            cache.reads.lock().remove(&key);
            outcome
        });
        let joined = task.map(|joined| {
            joined
                .unwrap_or_else(|error| Err(Away { backend: "key store", reason: error.to_string().into() }))
        });
        let read = joined.boxed().shared();
        reads.insert(hash.to_owned(), read.clone());
        Some(read)
    }

    async fn fetch(&self, hash: &str) -> Read {
        let mut answer = None;
        for _ in 0..4 {
            let before = self.changes.lock().generation();
            answer = match tokio::time::timeout(self.limits.deadline, self.store.key(hash)).await {
                Ok(Ok(row)) => row.map(Arc::new),
                Ok(Err(error)) => return Err(self.away(hash, "key store", &error.to_string())),
                Err(_) => return Err(self.away(hash, "key store", "no answer in time")),
            };
            // The row may have been read just before a change that is announced already: caching it would undo
            // a revocation. Checked and stored under the lock that announces changes.
            let mut changes = self.changes.lock();
            if changes.generation() == before {
                if let Some(known) = self.known.get(hash)
                    && answer.as_ref().is_none_or(|row| differs(row, &known.row))
                {
                    // Changed by another sidecar: this one's gates must hear of it too.
                    changes.push(hash);
                }
                self.store_answer(hash, answer.as_ref());
                break;
            }
        }
        Ok(answer)
    }

    fn store_answer(&self, hash: &str, answer: Option<&Arc<KeyRow>>) {
        if let Some(row) = answer {
            self.keep(hash, row.clone(), self.limits.refresh_after, self.limits.positive_ttl);
        } else {
            self.known.invalidate(hash);
            self.unknown.insert(hash.to_owned(), ());
        }
    }

    /// A known key goes on for a while without asking, so that a dead database is not asked by every request.
    fn away(&self, hash: &str, backend: &'static str, reason: &str) -> Away {
        let changes = self.changes.lock();
        if let Some(known) = self.known.get(hash) {
            let rest = known.ask_again.saturating_duration_since(Instant::now());
            self.keep(hash, known.row, self.limits.grace, rest.max(self.limits.grace));
        }
        drop(changes);
        tracing::debug!(reason, "key store is away; keys known here go on");
        Away { backend, reason: reason.into() }
    }

    fn keep(&self, hash: &str, row: Arc<KeyRow>, refresh: Duration, ttl: Duration) {
        let now = Instant::now();
        self.known.insert(hash.to_owned(), Known { row, refresh_at: now + refresh, ask_again: now + ttl });
    }

    /// Forgets these keys here and announces them to the gates.
    pub(super) fn changed(&self, hashes: &[String]) {
        let mut changes = self.changes.lock();
        for hash in hashes {
            changes.push(hash);
            self.known.invalidate(hash);
            self.unknown.invalidate(hash);
        }
    }

    pub(super) fn changes(&self, ask: &KeyChangesAsk) -> KeyChanges {
        self.changes.lock().since(ask)
    }
}

/// Do the rows differ in more than what was spent?
fn differs(a: &KeyRow, b: &KeyRow) -> bool {
    a.blocked != b.blocked || a.key != b.key
}
