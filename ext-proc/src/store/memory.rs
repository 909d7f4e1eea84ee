use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use parking_lot::Mutex;

use super::{
    Admission, Admitted, Charge, Circuit, Counter, Counters, Observation, Sample, Settlement, StoreError,
    Transition,
};

mod breakers;
mod counts;
mod samples;

use breakers::Breakers;
pub(super) use counts::Counts;
use samples::Samples;

/// Seeded per process, and several times faster than the standard library's for names of this length.
pub(super) type Map<K, V> = std::collections::HashMap<K, V, foldhash::fast::RandomState>;

/// Counters of this process alone: the embedded default, and the twin that steps in for Redis.
#[derive(Debug, Default)]
pub struct Memory {
    state: Mutex<State>,
    samples: Mutex<Samples>,
}

#[derive(Debug, Default)]
struct State {
    counts: Counts,
    breakers: Breakers,
}

impl State {
    fn admit(&mut self, now: Instant, admission: &Admission, local: bool) -> Admitted {
        let breakers = &self.breakers;
        self.counts.admit(now, admission, |deployment| breakers.is_open(now, deployment), local)
    }
}

impl Memory {
    /// Admits without the shared backend, which is told when it is settled.
    pub(super) fn admit_alone(&self, admission: &Admission) -> Admitted {
        self.state.lock().admit(Instant::now(), admission, true)
    }

    /// Enters what the shared backend admitted.
    pub(super) fn enter(&self, admission: &Admission, candidate: usize, values: &[u64]) {
        self.state.lock().counts.enter(Instant::now(), admission, candidate, values);
    }

    /// Enters what the shared backend refused: the counters without room are at their limits.
    pub(super) fn enter_refusal(&self, admission: &Admission, admitted: &Admitted) {
        self.state.lock().counts.enter_refusal(Instant::now(), admission, admitted);
    }

    /// Settles, returning whether the reservation was made by [`Self::admit_alone`]; `None` when unknown.
    pub(super) fn settle_entry(&self, id: &str, actual: &[Charge]) -> Option<bool> {
        self.state.lock().counts.settle(Instant::now(), id, actual)
    }

    /// Takes over what the shared backend says, so that counting goes on from there when it goes away.
    pub(super) fn learn(&self, counters: &[Counter], values: &[u64]) {
        let now = Instant::now();
        let mut state = self.state.lock();
        for (counter, value) in counters.iter().zip(values) {
            state.counts.learn(now, counter, *value);
        }
    }

    /// Counts outcomes of which the shared backend does not hear.
    pub(super) fn observe_alone(&self, outcomes: &[Observation]) -> Vec<Transition> {
        self.observe_as(outcomes, true)
    }

    fn observe_as(&self, outcomes: &[Observation], local: bool) -> Vec<Transition> {
        let now = Now::read();
        let mut state = self.state.lock();
        let observe = |outcome: &Observation| {
            if outcome.successes > 0 || !outcome.failures.is_empty() {
                state.counts.free_probe(&outcome.deployment);
            }
            state.breakers.observe(now, outcome, local)
        };
        outcomes.iter().filter_map(observe).collect()
    }

    /// Follows what the shared backend made of outcomes.
    pub(super) fn follow(&self, outcomes: &[Observation], transitions: &[Transition]) {
        let now = Now::read();
        let mut state = self.state.lock();
        for outcome in outcomes {
            state.counts.free_probe(&outcome.deployment);
        }
        for transition in transitions {
            state.breakers.follow(now, transition);
        }
    }

    /// Circuit breakers that the shared backend may not know.
    pub(super) fn untold_circuits(&self) -> Vec<Circuit> {
        self.state.lock().breakers.untold(Now::read())
    }

    pub(super) fn replace_circuits(&self, shared: &[Circuit]) {
        self.state.lock().breakers.replace(Now::read(), shared);
    }

    pub(super) fn replace_samples(&self, shared: &[Sample]) {
        self.samples.lock().replace(Instant::now(), shared);
    }
}

#[async_trait]
impl Counters for Memory {
    async fn admit(&self, admission: &Admission) -> Result<Admitted, StoreError> {
        Ok(self.state.lock().admit(Instant::now(), admission, false))
    }

    async fn settle_all(&self, settlements: &[Settlement]) -> Result<Vec<bool>, StoreError> {
        let now = Instant::now();
        let counts = &mut self.state.lock().counts;
        Ok(settlements.iter().map(|s| counts.settle(now, &s.id, &s.actual).is_some()).collect())
    }

    async fn observe(&self, outcomes: &[Observation]) -> Result<Vec<Transition>, StoreError> {
        Ok(self.observe_as(outcomes, false))
    }

    async fn circuits(&self) -> Result<Vec<Circuit>, StoreError> {
        Ok(self.state.lock().breakers.list(Now::read()))
    }

    async fn values(&self, counters: &[Counter]) -> Result<Vec<u64>, StoreError> {
        let now = Instant::now();
        let counts = &mut self.state.lock().counts;
        counts.sweep(now);
        Ok(counters.iter().map(|counter| counts.value(now, counter)).collect())
    }

    async fn add_samples(&self, samples: &[Sample], keep: usize, ttl: Duration) -> Result<(), StoreError> {
        self.samples.lock().add(Instant::now(), samples, keep, ttl);
        Ok(())
    }

    async fn samples(&self) -> Result<Vec<Sample>, StoreError> {
        Ok(self.samples.lock().list(Instant::now()))
    }

    async fn ping(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

/// One moment on both clocks: durations run on the monotonic one, people and minutes on the other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    pub(super) at: Instant,
    pub(super) wall_ms: u64,
}

impl Now {
    fn read() -> Self {
        Self { at: Instant::now(), wall_ms: wall_ms() }
    }

    fn minute(self) -> u64 {
        self.wall_ms / 60_000
    }

    /// The moment at which the wall clock shows (or showed) `ms`.
    fn instant(self, ms: u64) -> Instant {
        let past = Duration::from_millis(self.wall_ms.saturating_sub(ms));
        let left = Duration::from_millis(ms.saturating_sub(self.wall_ms));
        self.at.checked_sub(past).and_then(|at| at.checked_add(left)).unwrap_or(self.at)
    }
}

/// Unix milliseconds.
pub(super) fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
