//! Counters and Envoy that fail on demand.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::{Value as Json, json};

use crate::routing::{LiveClusters, LiveView};
use crate::server::serve::Envoy;
use crate::store::{
    Admission, Circuit, Correction, Counter, Counters, Memory, Observation, Place, Sample, Settlement,
    Standing, StoreError, Transition,
};

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
    /// So many places are given; the next one never is.
    enough: AtomicU64,
}

impl FakeCounters {
    /// The question for a place after `count` good ones is never answered.
    pub(super) fn slow_from(&self, count: u64) {
        self.enough.store(count + 1, Ordering::Relaxed);
    }

    fn check(&self) -> Result<(), StoreError> {
        match self.away.load(Ordering::Relaxed) {
            true => Err(StoreError::Unavailable { backend: "redis", reason: "gone".into() }),
            false => Ok(()),
        }
    }
}

#[async_trait]
impl Counters for FakeCounters {
    async fn place(&self, admission: &Admission) -> Result<Place, StoreError> {
        self.check()?;
        self.admitted.lock().push(admission.id.clone());
        let enough = self.enough.load(Ordering::Relaxed);
        if enough > 0 && self.admitted.lock().len() as u64 >= enough {
            std::future::pending::<()>().await;
        }
        self.inner.place(admission).await
    }

    async fn place_all(&self, admission: &Admission, more: &[String]) -> Result<Place, StoreError> {
        if more.is_empty() {
            return self.place(admission).await;
        }
        self.check()?;
        self.admitted.lock().extend([&admission.id].into_iter().chain(more).cloned());
        self.inner.place_all(admission, more).await
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

    async fn standing(
        &self,
        counters: &[Counter],
        turn: Duration,
    ) -> Result<Option<Vec<Option<Standing>>>, StoreError> {
        self.check()?;
        self.inner.standing(counters, turn).await
    }

    async fn correct(&self, corrections: &[Correction]) -> Result<bool, StoreError> {
        self.check()?;
        self.inner.correct(corrections).await
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

struct AllOrNone(bool);

impl LiveView for AllOrNone {
    fn is_live(&self, _: &str) -> bool {
        self.0
    }
}

impl LiveClusters for FakeEnvoy {
    fn view(&self) -> Arc<dyn LiveView> {
        Arc::new(AllOrNone(self.ready()))
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
