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
    /// A known key is asked again after this long: the bound for a change made by another sidecar.
    pub positive_ttl: Duration,
    /// An unknown key is asked again after this long.
    pub negative_ttl: Duration,
    pub max_known: u64,
    pub max_unknown: u64,
    /// Reads of the database in progress at once.
    pub max_reads: usize,
    /// Longest wait for the database.
    pub deadline: Duration,
    /// After a failed refresh a known key is served without asking for this long.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            positive_ttl: Duration::from_secs(60),
            negative_ttl: Duration::from_secs(5),
            max_known: 100_000,
            max_unknown: 50_000,
            max_reads: 1_024,
            deadline: Duration::from_millis(800),
            grace: Duration::from_secs(2),
        }
    }
}

#[derive(Clone)]
struct Known {
    row: Arc<KeyRow>,
    ask_again: Instant,
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
        })
    }

    /// The key behind `hash`, `None` if nobody knows it.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the database is away and the key is not known here.
    pub(super) async fn row(self: &Arc<Self>, hash: &str) -> Result<Option<Arc<KeyRow>>, StoreError> {
        let known = self.known.get(hash);
        if let Some(known) = &known
            && Instant::now() < known.ask_again
        {
            return Ok(Some(known.row.clone()));
        }
        if self.unknown.contains_key(hash) {
            return Ok(None);
        }
        let read = match self.read(hash) {
            Some(read) => read.await,
            None => Err(Away { backend: "key store", reason: "too many lookups in progress".into() }),
        };
        match (read, known) {
            (Ok(row), _) => Ok(row),
            (Err(_), Some(known)) => Ok(Some(known.row)),
            (Err(away), None) => Err(away.into()),
        }
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
            let changes = self.changes.lock();
            if changes.generation() == before {
                match &answer {
                    Some(row) => self.keep(hash, row.clone(), self.limits.positive_ttl),
                    None => {
                        self.known.invalidate(hash);
                        self.unknown.insert(hash.to_owned(), ());
                    }
                }
                break;
            }
        }
        Ok(answer)
    }

    /// A known key goes on for a while without asking, so that a dead database is not asked by every request.
    fn away(&self, hash: &str, backend: &'static str, reason: &str) -> Away {
        let changes = self.changes.lock();
        if let Some(known) = self.known.get(hash) {
            self.keep(hash, known.row, self.limits.grace);
        }
        drop(changes);
        tracing::warn!(reason, "key store is away; keys known here go on");
        Away { backend, reason: reason.into() }
    }

    fn keep(&self, hash: &str, row: Arc<KeyRow>, ttl: Duration) {
        self.known.insert(hash.to_owned(), Known { row, ask_again: Instant::now() + ttl });
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
