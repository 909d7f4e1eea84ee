use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;

use super::memory::Memory;
use super::{Charge, Cooldown, Counters, StoreError};

/// Settlements kept for the backend while it is away. Beyond it the oldest are given up: their leases end by
/// themselves, and the backend counts too little instead of this process growing without bound.
const MAX_MISSED: usize = 10_000;
/// Lease of an amount that is posted after the fact, between its two calls.
const POSTING: Duration = Duration::from_secs(5);

/// Counters that go on in process while their shared backend is away.
///
/// The in-process twin follows along while all is well (own reservations, values read, cooldowns), so that it
/// goes on from the last known numbers. When the backend is back it is told what was settled meanwhile.
pub struct Resilient {
    inner: Arc<Inner>,
}

struct Inner {
    primary: Arc<dyn Counters>,
    twin: Memory,
    degraded: AtomicBool,
    missed: Mutex<VecDeque<Missed>>,
    probe: Duration,
}

#[derive(Debug, Clone)]
struct Missed {
    id: String,
    actual: Vec<Charge>,
    /// Reserved in the twin only, so the backend has no lease to settle.
    local: bool,
}

impl Resilient {
    /// Probes a lost `primary` every `probe`. Needs a Tokio runtime once it is used.
    pub fn new(primary: Arc<dyn Counters>, probe: Duration) -> Self {
        let inner = Inner {
            primary,
            twin: Memory::default(),
            degraded: AtomicBool::new(false),
            missed: Mutex::default(),
            probe,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Starts degraded: the backend could not be reached at start.
    pub fn lost(&self, error: &StoreError) {
        self.inner.degrade(error);
    }
}

impl Inner {
    fn degrade(self: &Arc<Self>, error: &StoreError) {
        if self.degraded.swap(true, Ordering::AcqRel) {
            return;
        }
        tracing::warn!(%error, "shared counters lost: limits and cooldowns go on in this process alone");
        tokio::spawn(probe(Arc::downgrade(self), self.probe));
    }

    /// The answer of the backend, or `None` when it is away (and this process degraded).
    fn answered<T>(self: &Arc<Self>, answer: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
        match answer {
            Ok(value) => Ok(Some(value)),
            Err(error @ StoreError::Unavailable { .. }) => {
                self.degrade(&error);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn is_degraded(&self) -> bool {
        self.degraded.load(Ordering::Acquire)
    }

    fn miss(&self, missed: Missed) {
        let mut queue = self.missed.lock();
        if queue.len() >= MAX_MISSED {
            queue.pop_front();
        }
        queue.push_back(missed);
    }

    /// Tells the backend of settlements that it missed.
    async fn catch_up(&self) -> Result<usize, StoreError> {
        let mut told = 0;
        loop {
            let Some(missed) = self.missed.lock().pop_front() else { return Ok(told) };
            if let Err(error) = self.tell(&missed).await {
                // Back in front: nothing is lost, and what was told already is not told twice.
                self.missed.lock().push_front(missed);
                return Err(error);
            }
            told += 1;
        }
    }

    async fn tell(&self, missed: &Missed) -> Result<(), StoreError> {
        let known = self.primary.settle(&missed.id, &missed.actual).await?;
        if !known && missed.local {
            self.post(&missed.id, &missed.actual).await?;
        }
        Ok(())
    }

    /// Counts amounts that the backend holds no reservation for.
    async fn post(&self, id: &str, actual: &[Charge]) -> Result<(), StoreError> {
        self.primary.reserve(id, actual, POSTING).await?;
        self.primary.settle(id, actual).await?;
        Ok(())
    }
}

async fn probe(inner: Weak<Inner>, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        let Some(inner) = inner.upgrade() else { return };
        if inner.primary.ping().await.is_err() {
            continue;
        }
        let Ok(told) = inner.catch_up().await else { continue };
        inner.degraded.store(false, Ordering::Release);
        tracing::info!(settlements = told, "shared counters are back");
        // A settlement may have been queued between the last look and the change.
        if let Err(error) = inner.catch_up().await {
            inner.degrade(&error);
        }
        return;
    }
}

#[async_trait]
impl Counters for Resilient {
    async fn reserve(&self, id: &str, charges: &[Charge], lease: Duration) -> Result<(), StoreError> {
        let inner = &self.inner;
        let shared = !inner.is_degraded()
            && inner.answered(inner.primary.reserve(id, charges, lease).await)?.is_some();
        inner.twin.reserve_entry(id, charges, lease, !shared);
        Ok(())
    }

    async fn settle(&self, id: &str, actual: &[Charge]) -> Result<bool, StoreError> {
        let inner = &self.inner;
        let known = match inner.is_degraded() {
            true => None,
            false => inner.answered(inner.primary.settle(id, actual).await)?,
        };
        let entry = inner.twin.settle_entry(id, actual);
        let missed = Missed { id: id.to_owned(), actual: actual.to_vec(), local: entry == Some(true) };
        match known {
            Some(true) => Ok(true),
            Some(false) if missed.local => {
                // Reserved while the backend was away, settled after its return.
                if inner.answered(inner.post(id, actual).await)?.is_none() {
                    inner.miss(missed);
                }
                Ok(true)
            }
            Some(false) => Ok(false),
            None => {
                inner.miss(missed);
                Ok(entry.is_some())
            }
        }
    }

    async fn read(&self, counters: &[String]) -> Result<Vec<u64>, StoreError> {
        let inner = &self.inner;
        if !inner.is_degraded()
            && let Some(values) = inner.answered(inner.primary.read(counters).await)?
        {
            inner.twin.observe(counters, &values);
            return Ok(values);
        }
        inner.twin.read(counters).await
    }

    async fn record_failure(&self, failure: &Cooldown) -> Result<Option<u64>, StoreError> {
        let inner = &self.inner;
        if !inner.is_degraded()
            && let Some(until) = inner.answered(inner.primary.record_failure(failure).await)?
        {
            return Ok(until);
        }
        inner.twin.record_failure(failure).await
    }

    async fn cooling(&self) -> Result<Vec<(String, u64)>, StoreError> {
        let inner = &self.inner;
        if !inner.is_degraded()
            && let Some(shared) = inner.answered(inner.primary.cooling().await)?
        {
            return Ok(inner.twin.merge_cooling(shared));
        }
        inner.twin.cooling().await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.inner.primary.ping().await
    }

    fn degraded(&self) -> bool {
        self.inner.is_degraded()
    }
}
