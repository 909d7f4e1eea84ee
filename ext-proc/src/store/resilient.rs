use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use parking_lot::Mutex;

use super::memory::{LEARNT_TTL, Learnt, Lease, Memory, Share};
use super::redis::{RedisCounters, Settled, Told, is_late};
use super::{
    Admission, Admitted, Circuit, Correction, Counter, Counters, Observation, Place, Sample, Settlement,
    Standing, StoreError, Transition,
};

mod missed;
mod recovery;

use missed::{Missed, Others, Queue};

/// How long Redis may answer late, and nothing in time, before it counts as lost: a machine that is busy for a moment
/// is not a reason to stop sharing.
const LATE: Duration = Duration::from_millis(200);

/// Redis counters that go on in process while Redis is away.
///
/// The in-process twin follows along while all is well (own reservations with the values that Redis tells, circuit
/// breakers, samples), so that it goes on from the last known numbers. When Redis is back it is told what was
/// reserved and settled meanwhile, and which breakers opened.
///
/// **How far a limit holds while Redis is away.** With `fail_closed` nothing that has a limit is admitted, so it holds
/// exactly. Without, each of the `n` replicas that lived when Redis went may use its share of the room that was left
/// (`limit - counter`, divided without a rest: the shares add up to it). If all of them lose Redis at once, a limit is
/// exceeded by no more than the mean, over the replicas, of what the others were admitted since this one's last
/// answer about that counter, and by `(n - 1) / 2` where shares of unequal rooms are rounded apart; not at all in a
/// window that begins while Redis is away. If only `k` of them lose it, by `k/n` of the room that was left, besides.
///
/// **When Redis comes back without its data**, an epoch that is missing or another says so: no script does anything for a
/// caller who knows another epoch. Every replica brings back what it was told of the counters (of several the newest,
/// which is exact: every answer carries the moment at which it was true) and the leases that it was given, before
/// anybody counts from Redis again, which is four probes (a second) after the epoch was made. Lost is what only a replica knew
/// that died at the same time, and what was written to a primary that failed before its replica (of Redis) heard it.
/// A settlement whose answer was lost with the data counts as not executed.
pub struct Resilient {
    inner: Arc<Inner>,
}

struct Inner {
    primary: Arc<RedisCounters>,
    twin: Memory,
    /// Name of this process among the replicas.
    replica: String,
    fail_closed: bool,
    degraded: AtomicBool,
    /// Begin of the first late call since an answer came in time.
    late: Mutex<Option<Instant>>,
    missed: Mutex<Queue>,
    others: Mutex<Others>,
    /// What this process may use of the room left while it counts alone.
    share: Mutex<Share>,
    /// Counters that were brought back since somebody asked for them.
    restored: Mutex<Vec<Counter>>,
    /// Somebody will tell what was missed, though this process is not degraded.
    telling: AtomicBool,
    probe: Duration,
}

impl Resilient {
    /// Connects, and tells that this replica lives. Redis may be away: then it is probed every `probe`. Four probes
    /// after the first replica met a server without data it counts; this waits for that. Needs a Tokio runtime.
    pub async fn open(primary: Arc<RedisCounters>, probe: Duration, fail_closed: bool) -> Self {
        let inner = Inner {
            primary,
            twin: Memory::default(),
            replica: format!("{:032x}", rand::random::<u128>()),
            fail_closed,
            degraded: AtomicBool::new(false),
            late: Mutex::default(),
            missed: Mutex::default(),
            others: Mutex::default(),
            share: Mutex::new(Share { replicas: 1, rank: 0 }),
            restored: Mutex::default(),
            telling: AtomicBool::new(false),
            probe,
        };
        let inner = Arc::new(inner);
        if let Err(error) = inner.start().await {
            inner.degrade(&error);
        }
        tokio::spawn(recovery::heartbeat(Arc::downgrade(&inner), probe));
        Self { inner }
    }
}

fn lost(why: &str) -> StoreError {
    StoreError::Unavailable { backend: "redis", reason: why.to_owned() }
}

impl Inner {
    async fn start(&self) -> Result<(), StoreError> {
        self.primary.connect().await?;
        for _ in 0..8 {
            match self.rejoin().await? {
                Duration::ZERO => return Ok(()),
                wait => tokio::time::sleep(wait).await,
            }
        }
        Err(lost("others go on restoring its data"))
    }

    fn degrade(self: &Arc<Self>, error: &StoreError) {
        if self.degraded.swap(true, Ordering::AcqRel) {
            return;
        }
        tracing::warn!(%error, "shared counters lost: limits and cooldowns go on in this process alone");
        tokio::spawn(recovery::probe(Arc::downgrade(self), self.probe));
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

    /// Settles. A lease that Redis does not know is entered first: its counters may have to begin somewhere.
    async fn end(
        &self,
        settlements: &[Settlement],
        entries: &[Option<Lease>],
    ) -> Result<Settled, StoreError> {
        let local = |index: usize| matches!(entries.get(index), Some(Some(lease)) if lease.local);
        let pairs = settlements.iter().zip(entries).filter_map(|(settlement, lease)| {
            let lease = lease.as_ref().filter(|lease| lease.local)?;
            Some((settlement.id.as_str(), lease))
        });
        let mut unknown = self.twin.ended_entries(pairs);
        // A part would be taken for the whole lease.
        unknown.iter_mut().for_each(|entry| self.twin.complete(entry));
        self.primary.enter_leases(&unknown, true).await?;
        self.primary.settle_told(settlements, local).await
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
}

/// A question to Redis that nobody waits for any more (the client left) may be answered all the same: what it was
/// granted is given back.
struct Asked<'a> {
    inner: &'a Arc<Inner>,
    id: &'a str,
    more: &'a [String],
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let counters = Resilient { inner: Arc::clone(self.inner) };
        let ids = [self.id].into_iter().chain(self.more.iter().map(String::as_str));
        let nothing: Vec<_> = ids.map(|id| Settlement::end(id.to_owned(), Vec::new())).collect();
        runtime.spawn(async move {
            if let Err(error) = counters.settle_all(&nothing).await {
                tracing::debug!(%error, "a place that nobody wants any more is left to its lease");
            }
        });
    }
}

#[async_trait]
impl Counters for Resilient {
    async fn place(&self, admission: &Admission) -> Result<Place, StoreError> {
        self.place_all(admission, &[]).await
    }

    async fn place_all(&self, admission: &Admission, more: &[String]) -> Result<Place, StoreError> {
        let inner = &self.inner;
        let was_degraded = inner.is_degraded();
        let asked = Asked { inner, id: &admission.id, more };
        let answer = inner.ask(inner.primary.ask_place(admission, more)).await;
        std::mem::forget(asked);
        if let Some(Told { place, moment, shrunk }) = answer? {
            inner.twin.enter(admission, more, &place, moment, &shrunk);
            return Ok(place);
        }
        let place = if !more.is_empty() {
            // What is reserved ahead is not worth counting alone for.
            Ok(Place { admitted: Admitted::Full(Vec::new()), values: Vec::new() })
        } else if inner.fail_closed && has_limits(admission) {
            Err(lost("limits are not counted alone"))
        } else {
            let share = *inner.share.lock();
            Ok(inner.twin.admit_alone(admission, share))
        };
        let is_admitted = place.as_ref().is_ok_and(|p| matches!(p.admitted, Admitted::Candidate(_)));
        if is_admitted {
            inner.tell_later();
        } else if !was_degraded {
            // Redis may have admitted it all the same, only too late: nobody will settle that.
            for id in [&admission.id].into_iter().chain(more) {
                let settlement = Settlement::end(id.clone(), Vec::new());
                inner.miss(Missed { settlement, lease: None, local: false });
            }
        }
        place
    }

    async fn settle_all(&self, settlements: &[Settlement]) -> Result<Vec<bool>, StoreError> {
        let inner = &self.inner;
        let entries: Vec<Option<Lease>> =
            settlements.iter().map(|settlement| inner.twin.settle_entry(settlement)).collect();
        // Reserved while the backend was away, perhaps settled after its return.
        if let Some(settled) = inner.ask(inner.end(settlements, &entries)).await? {
            for ((settlement, entry), ended) in settlements.iter().zip(&entries).zip(&settled.ended) {
                if *ended && entry.is_none() && !settlement.stays {
                    inner.others.lock().push(settlement.id.clone());
                }
            }
            inner.twin.told(settlements.iter());
            inner.twin.given_back(entries.iter().flatten(), settled.moment);
            inner.twin.learn(settled.counters);
            return Ok(settled.ended);
        }
        let ended = entries.iter().map(Option::is_some).collect();
        for (settlement, lease) in settlements.iter().zip(entries) {
            let local = lease.as_ref().is_some_and(|lease| lease.local);
            inner.miss(Missed { settlement: settlement.clone(), lease, local });
        }
        Ok(ended)
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
        if let Some(values) = inner.ask(inner.primary.read(counters)).await? {
            let told = counters.iter().zip(&values).map(|(counter, &(value, moment))| Learnt {
                counter: counter.clone(),
                value,
                moment,
                ttl: LEARNT_TTL,
            });
            inner.twin.learn(told);
            return Ok(values.into_iter().map(|(value, _)| value).collect());
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

    async fn standing(
        &self,
        counters: &[Counter],
        turn: Duration,
    ) -> Result<Option<Vec<Option<Standing>>>, StoreError> {
        let inner = &self.inner;
        Ok(inner.ask(inner.primary.stand(&inner.replica, counters, turn)).await?.flatten())
    }

    async fn correct(&self, corrections: &[Correction]) -> Result<bool, StoreError> {
        let inner = &self.inner;
        Ok(inner.ask(inner.primary.mend(&inner.replica, corrections)).await?.unwrap_or(false))
    }

    fn restored(&self) -> Vec<Counter> {
        std::mem::take(&mut self.inner.restored.lock())
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.inner.primary.ping().await
    }

    fn degraded(&self) -> bool {
        self.inner.is_degraded()
    }
}

fn has_limits(admission: &Admission) -> bool {
    let candidates = admission.candidates.iter().flat_map(|candidate| &candidate.charges);
    admission.required.iter().chain(candidates).any(|limited| limited.limit.is_some())
}
