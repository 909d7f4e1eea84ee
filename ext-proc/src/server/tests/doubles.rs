//! Stores and Envoy, in maps and flags.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::{Value as Json, json};

use crate::routing::LiveClusters;
use crate::server::serve::Envoy;
use crate::store::{
    Admission, Admitted, Circuit, Counter, Counters, KeyRow, KeyStore, Ledger, LedgerTotals, Memory, NewKey,
    Observation, Sample, Settlement, SpendRow, StoreError, Transition,
};

/// Keys and rows in maps.
#[derive(Default)]
pub(super) struct FakeDatabase {
    pub(super) keys: Mutex<HashMap<String, KeyRow>>,
    pub(super) rows: Mutex<HashMap<String, SpendRow>>,
    pub(super) away: AtomicBool,
}

impl FakeDatabase {
    fn check(&self) -> Result<(), StoreError> {
        match self.away.load(Ordering::Relaxed) {
            true => Err(StoreError::Unavailable { backend: "postgres", reason: "gone".into() }),
            false => Ok(()),
        }
    }
}

#[async_trait]
impl KeyStore for FakeDatabase {
    async fn key(&self, hash: &str) -> Result<Option<KeyRow>, StoreError> {
        self.check()?;
        Ok(self.keys.lock().get(hash).cloned())
    }

    async fn insert_key(&self, key: NewKey) -> Result<KeyRow, StoreError> {
        self.check()?;
        let row = KeyRow { key, blocked: false, spend_nanos: 0, created_ms: 0, updated_ms: 0 };
        self.keys.lock().insert(row.key.hash.clone(), row.clone());
        Ok(row)
    }

    async fn delete_keys(&self, hashes: &[String]) -> Result<Vec<String>, StoreError> {
        let mut keys = self.keys.lock();
        Ok(hashes.iter().filter(|h| keys.remove(*h).is_some()).cloned().collect())
    }

    async fn hashes_of_aliases(&self, _: &[String]) -> Result<Vec<(String, String)>, StoreError> {
        Ok(Vec::new())
    }

    async fn set_blocked(&self, hash: &str, blocked: bool) -> Result<Option<KeyRow>, StoreError> {
        let mut keys = self.keys.lock();
        Ok(keys.get_mut(hash).map(|row| {
            row.blocked = blocked;
            row.clone()
        }))
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.check()
    }
}

#[async_trait]
impl Ledger for FakeDatabase {
    async fn write(&self, rows: &[SpendRow]) -> Result<u64, StoreError> {
        self.check()?;
        let mut known = self.rows.lock();
        let new = rows.iter().filter(|row| known.insert(row.call_id.clone(), (*row).clone()).is_none());
        Ok(new.count() as u64)
    }

    async fn rows(&self, _: Option<&str>, _: u32) -> Result<Vec<SpendRow>, StoreError> {
        Ok(self.rows.lock().values().cloned().collect())
    }

    async fn row(&self, call_id: &str) -> Result<Option<SpendRow>, StoreError> {
        Ok(self.rows.lock().get(call_id).cloned())
    }

    async fn totals(&self) -> Result<LedgerTotals, StoreError> {
        Ok(LedgerTotals { rows: self.rows.lock().len() as u64, ..LedgerTotals::default() })
    }
}

/// The embedded counters, with what was asked of them; away if told so.
#[derive(Default)]
pub(super) struct FakeCounters {
    inner: Memory,
    pub(super) admitted: Mutex<Vec<String>>,
    /// Reservations that were known.
    pub(super) settled: AtomicU64,
    /// Deployments with a failure, one entry per failure.
    pub(super) failed: Mutex<Vec<String>>,
    pub(super) away: AtomicBool,
}

impl FakeCounters {
    fn check(&self) -> Result<(), StoreError> {
        match self.away.load(Ordering::Relaxed) {
            true => Err(StoreError::Unavailable { backend: "redis", reason: "gone".into() }),
            false => Ok(()),
        }
    }
}

#[async_trait]
impl Counters for FakeCounters {
    async fn admit(&self, admission: &Admission) -> Result<Admitted, StoreError> {
        self.check()?;
        self.admitted.lock().push(admission.id.clone());
        self.inner.admit(admission).await
    }

    async fn settle_all(&self, settlements: &[Settlement]) -> Result<Vec<bool>, StoreError> {
        self.check()?;
        let known = self.inner.settle_all(settlements).await?;
        let count = known.iter().filter(|known| **known).count();
        self.settled.fetch_add(count as u64, Ordering::Relaxed);
        Ok(known)
    }

    async fn observe(&self, outcomes: &[Observation]) -> Result<Vec<Transition>, StoreError> {
        self.check()?;
        for outcome in outcomes {
            self.failed.lock().extend(outcome.failures.iter().map(|_| outcome.deployment.clone()));
        }
        self.inner.observe(outcomes).await
    }

    async fn circuits(&self) -> Result<Vec<Circuit>, StoreError> {
        self.check()?;
        self.inner.circuits().await
    }

    async fn values(&self, counters: &[Counter]) -> Result<Vec<u64>, StoreError> {
        self.check()?;
        self.inner.values(counters).await
    }

    async fn add_samples(&self, samples: &[Sample], keep: usize, ttl: Duration) -> Result<(), StoreError> {
        self.check()?;
        self.inner.add_samples(samples, keep, ttl).await
    }

    async fn samples(&self) -> Result<Vec<Sample>, StoreError> {
        self.check()?;
        self.inner.samples().await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.check()
    }

    fn degraded(&self) -> bool {
        self.check().is_err()
    }
}

/// Every cluster is live once Envoy is there.
pub(super) struct FakeEnvoy(pub(super) AtomicBool);

impl LiveClusters for FakeEnvoy {
    fn is_live(&self, _: &str) -> bool {
        self.ready()
    }

    fn ready(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Envoy for FakeEnvoy {
    fn status(&self) -> Json {
        json!({"connected": u8::from(self.ready())})
    }

    fn close(&self) {}
}
