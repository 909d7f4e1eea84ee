//! A database in memory that fails on demand, for tests of what the real ones cannot be made to do.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;

use crate::store::{KeyRow, KeyStore, Ledger, LedgerTotals, NewKey, SpendRow, StoreError};

/// What the next writes do; an empty script succeeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Fails before anything is written.
    Before,
    /// Commits, and then the answer is lost.
    After,
    Fine,
}

#[derive(Default)]
pub(crate) struct Double {
    pub keys: Mutex<HashMap<String, KeyRow>>,
    pub rows: Mutex<BTreeMap<String, SpendRow>>,
    /// Every call is `Unavailable`.
    pub away: AtomicBool,
    pub faults: Mutex<Vec<Fault>>,
    /// Rows with this call id are called broken.
    pub poison: Mutex<Option<String>>,
    pub key_reads: AtomicUsize,
    pub delay: Mutex<Duration>,
}

impl Double {
    fn check(&self) -> Result<(), StoreError> {
        if self.away.load(Ordering::SeqCst) { Err(gone()) } else { Ok(()) }
    }

    pub(crate) fn put_key(&self, key: NewKey) -> KeyRow {
        let row = KeyRow { key, blocked: false, spend_nanos: 0, created_ms: 1_000, updated_ms: 1_000 };
        self.keys.lock().insert(row.key.hash.clone(), row.clone());
        row
    }
}

fn gone() -> StoreError {
    StoreError::Unavailable { backend: "double", reason: "away".to_owned() }
}

#[async_trait]
impl KeyStore for Double {
    async fn key(&self, hash: &str) -> Result<Option<KeyRow>, StoreError> {
        self.key_reads.fetch_add(1, Ordering::SeqCst);
        self.check()?;
        let row = self.keys.lock().get(hash).cloned();
        let delay = *self.delay.lock();
        // The row is read before the wait: a change meanwhile makes it stale.
        tokio::time::sleep(delay).await;
        Ok(row)
    }

    async fn insert_key(&self, key: NewKey) -> Result<KeyRow, StoreError> {
        self.check()?;
        if self.keys.lock().contains_key(&key.hash) {
            return Err(StoreError::Conflict("key"));
        }
        if key.alias.is_some() && self.keys.lock().values().any(|row| row.key.alias == key.alias) {
            return Err(StoreError::Conflict("key_alias"));
        }
        Ok(self.put_key(key))
    }

    async fn delete_keys(&self, hashes: &[String]) -> Result<Vec<String>, StoreError> {
        self.check()?;
        let mut keys = self.keys.lock();
        Ok(hashes.iter().filter(|hash| keys.remove(*hash).is_some()).cloned().collect())
    }

    async fn hashes_of_aliases(&self, aliases: &[String]) -> Result<Vec<(String, String)>, StoreError> {
        self.check()?;
        let keys = self.keys.lock();
        let pairs = keys.values().filter_map(|row| Some((row.key.alias.clone()?, row.key.hash.clone())));
        Ok(pairs.filter(|(alias, _)| aliases.contains(alias)).collect())
    }

    async fn set_blocked(&self, hash: &str, blocked: bool) -> Result<Option<KeyRow>, StoreError> {
        self.check()?;
        let mut keys = self.keys.lock();
        let Some(row) = keys.get_mut(hash) else { return Ok(None) };
        row.blocked = blocked;
        Ok(Some(row.clone()))
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.check()
    }
}

#[async_trait]
impl Ledger for Double {
    async fn write(&self, rows: &[SpendRow]) -> Result<u64, StoreError> {
        self.check()?;
        let fault = self.faults.lock().pop().unwrap_or(Fault::Fine);
        if fault == Fault::Before {
            return Err(gone());
        }
        if let Some(poison) = &*self.poison.lock()
            && rows.iter().any(|row| row.call_id == *poison)
        {
            return Err(StoreError::Broken { backend: "double", reason: "poison".to_owned() });
        }
        let mut new = 0;
        for row in rows {
            let fresh = self.rows.lock().insert(row.call_id.clone(), row.clone()).is_none();
            new += u64::from(fresh);
            if fresh && let Some(key) = self.keys.lock().get_mut(&row.key) {
                key.spend_nanos += row.cost_nanos.unwrap_or(0);
            }
        }
        if fault == Fault::After { Err(gone()) } else { Ok(new) }
    }

    async fn rows(&self, key: Option<&str>, limit: u32) -> Result<Vec<SpendRow>, StoreError> {
        self.check()?;
        let mut rows: Vec<_> =
            self.rows.lock().values().filter(|r| key.is_none_or(|k| k == r.key)).cloned().collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.start_us));
        rows.truncate(limit as usize);
        Ok(rows)
    }

    async fn row(&self, call_id: &str) -> Result<Option<SpendRow>, StoreError> {
        self.check()?;
        Ok(self.rows.lock().get(call_id).cloned())
    }

    async fn totals(&self) -> Result<LedgerTotals, StoreError> {
        self.check()?;
        let rows = self.rows.lock();
        Ok(LedgerTotals {
            rows: rows.len() as u64,
            prompt_tokens: rows.values().map(|row| row.prompt_tokens).sum(),
            completion_tokens: rows.values().map(|row| row.completion_tokens).sum(),
            cost_nanos: rows.values().filter_map(|row| row.cost_nanos).sum(),
            unpriced_rows: rows.values().filter(|row| row.cost_nanos.is_none()).count() as u64,
        })
    }
}
