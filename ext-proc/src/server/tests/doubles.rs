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
    Admission, Admitted, Charge, Circuit, Cooldown, Counter, Counters, KeyRow, KeyStore, Ledger,
    LedgerTotals, NewKey, Observation, Sample, Settlement, SpendRow, StoreError, Transition,
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

#[derive(Default)]
pub(super) struct FakeCounters {
    pub(super) reserved: Mutex<HashMap<String, Vec<Charge>>>,
    pub(super) settled: AtomicU64,
    pub(super) failures: AtomicU64,
}

#[async_trait]
impl Counters for FakeCounters {
    async fn reserve(&self, id: &str, charges: &[Charge], _: Duration) -> Result<(), StoreError> {
        self.reserved.lock().insert(id.to_owned(), charges.to_vec());
        Ok(())
    }

    async fn settle(&self, id: &str, _: &[Charge]) -> Result<bool, StoreError> {
        let known = self.reserved.lock().remove(id).is_some();
        self.settled.fetch_add(u64::from(known), Ordering::Relaxed);
        Ok(known)
    }

    async fn admit(&self, admission: &Admission) -> Result<Admitted, StoreError> {
        self.reserved.lock().insert(admission.id.clone(), Vec::new());
        Ok(Admitted::Candidate(0))
    }

    async fn settle_all(&self, settlements: &[Settlement]) -> Result<Vec<bool>, StoreError> {
        let mut known = Vec::new();
        for settlement in settlements {
            known.push(self.settle(&settlement.id, &settlement.actual).await?);
        }
        Ok(known)
    }

    async fn observe(&self, outcomes: &[Observation]) -> Result<Vec<Transition>, StoreError> {
        let failures = outcomes.iter().map(|o| o.failures.len() as u64).sum();
        self.failures.fetch_add(failures, Ordering::Relaxed);
        Ok(Vec::new())
    }

    async fn circuits(&self) -> Result<Vec<Circuit>, StoreError> {
        Ok(Vec::new())
    }

    async fn samples(&self) -> Result<Vec<Sample>, StoreError> {
        Ok(Vec::new())
    }

    async fn values(&self, counters: &[Counter]) -> Result<Vec<u64>, StoreError> {
        Ok(vec![0; counters.len()])
    }

    async fn read(&self, counters: &[String]) -> Result<Vec<u64>, StoreError> {
        Ok(vec![0; counters.len()])
    }

    async fn record_failure(&self, _: &Cooldown) -> Result<Option<u64>, StoreError> {
        Ok(None)
    }

    async fn cooling(&self) -> Result<Vec<(String, u64)>, StoreError> {
        Ok(Vec::new())
    }

    async fn ping(&self) -> Result<(), StoreError> {
        Ok(())
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
