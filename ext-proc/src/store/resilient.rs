use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use parking_lot::Mutex;

use super::memory::Memory;
use super::redis::{Place, RedisCounters, is_late};
use super::{
    Admission, Admitted, Charge, Circuit, Counter, Counters, Observation, Sample, Settlement, StoreError,
    Transition,
};

/// Settlements kept for the backend while it is away, and counters that those beyond it are summed up in. Leases of
/// the latter end by themselves.
const MAX_MISSED: usize = 10_000;
/// Settlements told at once when the backend is back.
const TELL: usize = 500;

/// How long Redis may answer late, and nothing in time, before it counts as lost: a machine that is busy for a moment
/// is not a reason to stop sharing.
const LATE: Duration = Duration::from_millis(200);

/// Redis counters that go on in process while Redis is away.
///
/// The in-process twin follows along while all is well (own reservations with the values that Redis tells, circuit
/// breakers, samples), so that it goes on from the last known numbers. When Redis is back it is told what was
/// settled meanwhile, and which breakers opened.
pub struct Resilient {
    inner: Arc<Inner>,
}

struct Inner {
    primary: Arc<RedisCounters>,
    twin: Memory,
    degraded: AtomicBool,
    /// Begin of the first late call since an answer came in time.
    late: Mutex<Option<Instant>>,
    missed: Mutex<Queue>,
    /// Somebody will tell what was missed, though this process is not degraded.
    telling: AtomicBool,
    probe: Duration,
}

/// What Redis is to be told when it is back.
#[derive(Debug, Default)]
struct Queue {
    settlements: VecDeque<Missed>,
    /// Sums of the settlements that found no place: a long outage forgets no money.
    sums: HashMap<Counter, (u64, Duration)>,
}

impl Queue {
    fn push(&mut self, missed: Missed) {
        if self.settlements.len() >= MAX_MISSED
            && let Some(oldest) = self.settlements.pop_front()
        {
            self.sum(oldest.settlement.actual);
        }
        self.settlements.push_back(missed);
    }

    fn sum(&mut self, charges: Vec<Charge>) {
        for Charge { counter, amount, ttl } in charges {
            if self.sums.len() >= MAX_MISSED && !self.sums.contains_key(&counter) {
                continue;
            }
            let sum = self.sums.entry(counter).or_default();
            *sum = (sum.0.saturating_add(amount), sum.1.max(ttl));
        }
    }

    /// The next to tell; the sums come as settlements of their own.
    fn take(&mut self) -> Vec<Missed> {
        let batch = self.settlements.len().min(TELL);
        if batch > 0 {
            return self.settlements.drain(..batch).collect();
        }
        let charges = self.sums.drain().map(|(counter, (amount, ttl))| Charge { counter, amount, ttl });
        let charges: Vec<Charge> = charges.collect();
        let settlement = |chunk: &[Charge]| {
            let id = format!("sums/{:032x}", rand::random::<u128>());
            Missed { settlement: Settlement { id, actual: chunk.to_vec() }, local: true }
        };
        charges.chunks(TELL).map(settlement).collect()
    }
}

#[derive(Debug, Clone)]
struct Missed {
    settlement: Settlement,
    /// Reserved in the twin only, so the backend has no lease to settle.
    local: bool,
}

impl Resilient {
    /// Probes a lost `primary` every `probe`. Needs a Tokio runtime once it is used.
    pub fn new(primary: Arc<RedisCounters>, probe: Duration) -> Self {
        let inner = Inner {
            primary,
            twin: Memory::default(),
            degraded: AtomicBool::new(false),
            late: Mutex::default(),
            missed: Mutex::default(),
            telling: AtomicBool::new(false),
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

    /// The answer of the backend, or `None` when it is away (and this process degraded) or late.
    async fn ask<T>(
        self: &Arc<Self>,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<Option<T>, StoreError> {
        if self.is_degraded() {
            return Ok(None);
        }
        let began = Instant::now();
        match call.await {
            Ok(value) => {
                *self.late.lock() = None;
                Ok(Some(value))
            }
            Err(error @ StoreError::Unavailable { .. }) => {
                if !is_late(&error) || self.late.lock().get_or_insert(began).elapsed() >= LATE {
                    self.degrade(&error);
                }
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn is_degraded(&self) -> bool {
        self.degraded.load(Ordering::Acquire)
    }

    fn miss(self: &Arc<Self>, missed: Missed) {
        self.missed.lock().push(missed);
        self.tell_later();
    }

    /// Sees to it that the backend hears of what it was too late for. While degraded, the probe does.
    fn tell_later(self: &Arc<Self>) {
        if self.is_degraded() || self.telling.swap(true, Ordering::AcqRel) {
            return;
        }
        let (inner, pause) = (Arc::downgrade(self), self.probe);
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            let Some(inner) = inner.upgrade() else { return };
            inner.telling.store(false, Ordering::Release);
            if !inner.is_degraded()
                && let Err(error) = inner.catch_up().await
            {
                inner.degrade(&error);
            }
        });
    }

    /// Tells the backend of settlements and circuit breakers that it missed.
    async fn catch_up(&self) -> Result<usize, StoreError> {
        let mut told = 0;
        loop {
            let batch = self.missed.lock().take();
            if batch.is_empty() {
                break;
            }
            let settlements: Vec<Settlement> = batch.iter().map(|missed| missed.settlement.clone()).collect();
            let local = |index: usize| batch.get(index).is_some_and(|missed| missed.local);
            if let Err(error) = self.primary.settle_told(&settlements, local).await {
                // Back in front: nothing is lost, and what was told already is not counted twice.
                let mut queue = self.missed.lock();
                for missed in batch.into_iter().rev() {
                    queue.settlements.push_front(missed);
                }
                return Err(error);
            }
            told += batch.len();
        }
        self.primary.enter(&self.twin.untold_circuits()).await?;
        Ok(told)
    }
}

/// A question to Redis that nobody waits for any more (the client left) may be answered all the same: what it was
/// granted is given back.
struct Asked<'a> {
    inner: &'a Arc<Inner>,
    id: &'a str,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (counters, id) = (Resilient { inner: Arc::clone(self.inner) }, self.id.to_owned());
        runtime.spawn(async move {
            let nothing = Settlement { id, actual: Vec::new() };
            if let Err(error) = counters.settle_all(&[nothing]).await {
                tracing::debug!(%error, "a place that nobody wants any more is left to its lease");
            }
        });
    }
}

async fn probe(inner: Weak<Inner>, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        let Some(inner) = inner.upgrade() else { return };
        if inner.primary.ping().await.is_err() {
            continue;
        }
        let told = match inner.catch_up().await {
            Ok(told) => told,
            Err(error) => {
                tracing::debug!(%error, "shared counters answer, but not yet to scripts");
                continue;
            }
        };
        *inner.late.lock() = None;
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
    async fn admit(&self, admission: &Admission) -> Result<Admitted, StoreError> {
        let inner = &self.inner;
        let was_degraded = inner.is_degraded();
        let asked = Asked { inner, id: &admission.id };
        let answer = inner.ask(inner.primary.place(admission)).await;
        std::mem::forget(asked);
        if let Some(Place { admitted, values }) = answer? {
            match admitted {
                Admitted::Candidate(candidate) => inner.twin.enter(admission, candidate, &values),
                _ => inner.twin.enter_refusal(admission, &admitted),
            }
            return Ok(admitted);
        }
        let admitted = inner.twin.admit_alone(admission);
        if !was_degraded && !matches!(admitted, Admitted::Candidate(_)) {
            // Redis may have admitted it all the same, only too late: nobody will settle that.
            let settlement = Settlement { id: admission.id.clone(), actual: Vec::new() };
            inner.miss(Missed { settlement, local: false });
        }
        Ok(admitted)
    }

    async fn settle_all(&self, settlements: &[Settlement]) -> Result<Vec<bool>, StoreError> {
        let inner = &self.inner;
        let entries: Vec<Option<bool>> =
            settlements.iter().map(|s| inner.twin.settle_entry(&s.id, &s.actual)).collect();
        // Reserved while the backend was away, perhaps settled after its return.
        let local = |index: usize| entries.get(index) == Some(&Some(true));
        if let Some(settled) = inner.ask(inner.primary.settle_told(settlements, local)).await? {
            return Ok(settled);
        }
        for (index, settlement) in settlements.iter().enumerate() {
            inner.miss(Missed { settlement: settlement.clone(), local: local(index) });
        }
        Ok(entries.iter().map(Option::is_some).collect())
    }

    async fn observe(&self, outcomes: &[Observation]) -> Result<Vec<Transition>, StoreError> {
        let inner = &self.inner;
        if let Some(transitions) = inner.ask(inner.primary.observe(outcomes)).await? {
            inner.twin.follow(outcomes, &transitions);
            return Ok(transitions);
        }
        inner.tell_later();
        Ok(inner.twin.observe_alone(outcomes))
    }

    async fn circuits(&self) -> Result<Vec<Circuit>, StoreError> {
        let inner = &self.inner;
        if let Some(circuits) = inner.ask(inner.primary.circuits()).await? {
            inner.twin.replace_circuits(&circuits);
            return Ok(circuits);
        }
        inner.twin.circuits().await
    }

    async fn values(&self, counters: &[Counter]) -> Result<Vec<u64>, StoreError> {
        let inner = &self.inner;
        if let Some(values) = inner.ask(inner.primary.values(counters)).await? {
            inner.twin.learn(counters, &values);
            return Ok(values);
        }
        inner.twin.values(counters).await
    }

    async fn add_samples(&self, samples: &[Sample], keep: usize, ttl: Duration) -> Result<(), StoreError> {
        let inner = &self.inner;
        inner.twin.add_samples(samples, keep, ttl).await?;
        inner.ask(inner.primary.add_samples(samples, keep, ttl)).await?;
        Ok(())
    }

    async fn samples(&self) -> Result<Vec<Sample>, StoreError> {
        let inner = &self.inner;
        if let Some(samples) = inner.ask(inner.primary.samples()).await? {
            inner.twin.replace_samples(&samples);
            return Ok(samples);
        }
        inner.twin.samples().await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.inner.primary.ping().await
    }

    fn degraded(&self) -> bool {
        self.inner.is_degraded()
    }
}
