use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use parking_lot::Mutex;

use super::{
    Admission, Admitted, Circuit, Correction, Counter, Counters, Observation, Place, Sample, Settlement,
    Standing, StoreError, Transition,
};

mod breakers;
mod counts;
mod samples;
mod standing;
mod twin;

use breakers::Breakers;
pub(super) use counts::{Counts, Lease, Share};
use samples::Samples;
pub(super) use twin::{Entry, LEARNT_TTL};

/// Seeded per process, and several times faster than the standard library's for names of this length.
pub(super) type Map<K, V> = std::collections::HashMap<K, V, foldhash::fast::RandomState>;

/// A counter as the shared backend told it.
#[derive(Debug, Clone)]
pub(super) struct Learnt {
    pub(super) counter: Counter,
    pub(super) value: u64,
    /// When, on the backend's clock (microseconds).
    pub(super) moment: u64,
    /// How long it is kept if it is new here.
    pub(super) ttl: Duration,
}

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
    fn admit(&mut self, now: Instant, admission: &Admission, alone: Option<Share>) -> Place {
        let breakers = &self.breakers;
        self.counts.admit(now, admission, |deployment| breakers.is_open(now, deployment), alone)
    }
}

impl Memory {
    /// Admits without the shared backend, which is told when it is settled.
    pub(super) fn admit_alone(&self, admission: &Admission, share: Share) -> Place {
        self.state.lock().admit(Instant::now(), admission, Some(share))
    }

    /// Enters what the shared backend answered: what it admitted under a lease of the same id; counters without room
    /// are at their limits.
    pub(super) fn enter(
        &self,
        admission: &Admission,
        more: &[String],
        place: &Place,
        moment: u64,
        shrunk: &[u64],
    ) {
        let (now, counts) = (Instant::now(), &mut self.state.lock().counts);
        match place.admitted {
            Admitted::Candidate(index) => {
                counts.enter(now, (admission, more), index, (&place.values, moment), shrunk);
            }
            _ => counts.enter_refusal(now, admission, &place.admitted, moment),
        }
    }

    /// Settles, returning what was held; `None` when unknown.
    pub(super) fn settle_entry(&self, settlement: &Settlement) -> Option<Lease> {
        self.state.lock().counts.settle(Instant::now(), settlement)
    }

    /// Leases that the shared backend does not know (`local`), or those that it knew.
    pub(super) fn entries(&self, local: bool) -> Vec<Entry> {
        self.state.lock().counts.entries(Instant::now(), local)
    }

    /// Leases that ended here, for a backend that does not know them.
    pub(super) fn ended_entries<'a>(&self, ended: impl Iterator<Item = (&'a str, &'a Lease)>) -> Vec<Entry> {
        let (now, counts) = (Instant::now(), &self.state.lock().counts);
        ended.map(|(id, lease)| counts.entry(now, &id.into(), lease)).collect()
    }

    /// Adds what the lease still holds here.
    pub(super) fn complete(&self, part: &mut Entry) {
        let (now, counts) = (Instant::now(), &self.state.lock().counts);
        if let Some(lease) = counts.leases.get(&part.id) {
            part.charges.append(&mut counts.entry(now, &part.id, lease).charges);
        }
    }

    /// The shared backend knows these leases from now on.
    pub(super) fn entered(&self, entries: &[Entry]) {
        self.state.lock().counts.entered(entries);
    }

    /// What the shared backend said last of the counters that leases alone do not make up.
    pub(super) fn views(&self) -> Vec<Learnt> {
        self.state.lock().counts.views(Instant::now())
    }

    /// Another server's clock may be behind.
    pub(super) fn forget_moments(&self) {
        self.state.lock().counts.forget_moments();
    }

    /// The shared backend has heard of these settlements. It matters for those whose lease stays: when it loses its
    /// data, they must not be counted again.
    pub(super) fn told<'a>(&self, settlements: impl Iterator<Item = &'a Settlement>) {
        let mut stays = settlements.filter(|settlement| settlement.stays).peekable();
        if stays.peek().is_some() {
            let counts = &mut self.state.lock().counts;
            stays.for_each(|settlement| counts.told(settlement));
        }
    }

    /// The shared backend ended these leases at this moment.
    pub(super) fn given_back<'a>(&self, leases: impl Iterator<Item = &'a Lease>, moment: u64) {
        let counts = &mut self.state.lock().counts;
        leases.for_each(|lease| counts.given_back(lease, moment));
    }

    /// Takes over what the shared backend says, so that counting goes on from there when it goes away.
    pub(super) fn learn(&self, told: impl IntoIterator<Item = Learnt>) {
        let now = Instant::now();
        let counts = &mut self.state.lock().counts;
        for Learnt { counter, value, moment, ttl } in told {
            counts.learn(now, &counter, value, moment, ttl);
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

    /// All of them, as they are known here.
    pub(super) fn all_circuits(&self) -> Vec<Circuit> {
        self.state.lock().breakers.list(Now::read())
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
    async fn place(&self, admission: &Admission) -> Result<Place, StoreError> {
        Ok(self.state.lock().admit(Instant::now(), admission, None))
    }

    async fn place_all(&self, admission: &Admission, more: &[String]) -> Result<Place, StoreError> {
        if more.is_empty() {
            return self.place(admission).await;
        }
        Ok(self.state.lock().counts.admit_all(Instant::now(), admission, more))
    }

    async fn settle_all(&self, settlements: &[Settlement]) -> Result<Vec<bool>, StoreError> {
        let now = Instant::now();
        let counts = &mut self.state.lock().counts;
        Ok(settlements.iter().map(|s| counts.settle(now, s).is_some()).collect())
    }

    async fn observe(&self, outcomes: &[Observation]) -> Result<Vec<Transition>, StoreError> {
        Ok(self.observe_as(outcomes, false))
    }

    async fn circuits(&self) -> Result<Vec<Circuit>, StoreError> {
        Ok(self.all_circuits())
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

    /// It is always this process's turn.
    async fn standing(
        &self,
        counters: &[Counter],
        _turn: Duration,
    ) -> Result<Option<Vec<Option<Standing>>>, StoreError> {
        Ok(Some(self.state.lock().counts.standing(Instant::now(), counters)))
    }

    async fn correct(&self, corrections: &[Correction]) -> Result<bool, StoreError> {
        self.state.lock().counts.correct(Instant::now(), corrections);
        Ok(true)
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
