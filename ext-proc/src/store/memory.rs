use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use parking_lot::Mutex;

use super::{Charge, Cooldown, Counters, MAX_AMOUNT, MAX_COOLDOWN, StoreError};

/// Expired leases and counters removed per call: an idle hour is not paid for by one request.
const SWEEP: usize = 256;

/// Counters of this process alone: the embedded default, and the twin that steps in for Redis.
#[derive(Debug, Default)]
pub struct Memory {
    state: Mutex<State>,
}

impl Memory {
    /// As [`Counters::reserve`]; `local` is handed back by [`Memory::settle_entry`].
    pub(super) fn reserve_entry(&self, id: &str, charges: &[Charge], lease: Duration, local: bool) {
        self.state.lock().reserve(Instant::now(), id, charges, lease, local);
    }

    /// Settles, returning the reservation's `local` mark; `None` when unknown.
    pub(super) fn settle_entry(&self, id: &str, actual: &[Charge]) -> Option<bool> {
        self.state.lock().settle(Instant::now(), id, actual)
    }

    /// Takes over what the shared backend says, so that counting goes on from there when it goes away.
    pub(super) fn observe(&self, counters: &[String], values: &[u64]) {
        let mut state = self.state.lock();
        let now = Instant::now();
        for (counter, value) in counters.iter().zip(values) {
            if let Some(known) = state.counters.get_mut(counter) {
                known.value = *value;
            } else if *value > 0 {
                state.add(now, counter, *value, OBSERVED_TTL);
            }
        }
    }

    /// Takes over cooldowns of the shared backend (deadlines in Unix milliseconds) and returns the union.
    pub(super) fn merge_cooling(&self, shared: Vec<(String, u64)>) -> Vec<(String, u64)> {
        let (now, wall) = (Instant::now(), wall_ms());
        let mut state = self.state.lock();
        for (deployment, until) in shared {
            let left = Duration::from_millis(until.saturating_sub(wall)).min(MAX_COOLDOWN);
            state.cool(now, &deployment, left);
        }
        state.cooling(now, wall)
    }
}

/// How long a value that was only read, never charged here, is kept. Longer than the longest common window.
const OBSERVED_TTL: Duration = Duration::from_secs(120);

#[async_trait]
impl Counters for Memory {
    async fn reserve(&self, id: &str, charges: &[Charge], lease: Duration) -> Result<(), StoreError> {
        self.reserve_entry(id, charges, lease, true);
        Ok(())
    }

    async fn settle(&self, id: &str, actual: &[Charge]) -> Result<bool, StoreError> {
        Ok(self.settle_entry(id, actual).is_some())
    }

    async fn read(&self, counters: &[String]) -> Result<Vec<u64>, StoreError> {
        let now = Instant::now();
        let mut state = self.state.lock();
        state.sweep(now);
        Ok(counters.iter().map(|counter| state.value(now, counter)).collect())
    }

    async fn record_failure(&self, failure: &Cooldown) -> Result<Option<u64>, StoreError> {
        let now = Instant::now();
        let until = self.state.lock().fail(now, failure);
        Ok(until.map(|until| unix_ms(until, now, wall_ms())))
    }

    async fn cooling(&self) -> Result<Vec<(String, u64)>, StoreError> {
        Ok(self.state.lock().cooling(Instant::now(), wall_ms()))
    }

    async fn ping(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

/// All state, with the time given by the caller: tests run it on a clock of their own.
#[derive(Debug, Default)]
pub(super) struct State {
    counters: HashMap<String, Counter>,
    /// Counters by the moment at which they may be forgotten; re-queued when that has moved.
    expiries: BTreeSet<(Instant, String)>,
    leases: HashMap<String, Lease>,
    /// Leases by deadline.
    deadlines: BTreeSet<(Instant, String)>,
    failures: HashMap<String, VecDeque<Instant>>,
    cooling: HashMap<String, Instant>,
}

#[derive(Debug)]
struct Counter {
    value: u64,
    expires: Instant,
}

#[derive(Debug)]
struct Lease {
    charges: Vec<(String, u64)>,
    deadline: Instant,
    local: bool,
}

impl State {
    pub(super) fn reserve(
        &mut self,
        now: Instant,
        id: &str,
        charges: &[Charge],
        lease: Duration,
        local: bool,
    ) {
        self.sweep(now);
        self.expire(now, id);
        if self.leases.contains_key(id) {
            return;
        }
        let mut held = Vec::with_capacity(charges.len());
        for charge in charges {
            let amount = charge.amount.min(MAX_AMOUNT);
            let counter = charge.counter.to_string();
            self.add(now, &counter, amount, charge.ttl);
            held.push((counter, amount));
        }
        let deadline = later(now, lease);
        self.leases.insert(id.to_owned(), Lease { charges: held, deadline, local });
        self.deadlines.insert((deadline, id.to_owned()));
    }

    pub(super) fn settle(&mut self, now: Instant, id: &str, actual: &[Charge]) -> Option<bool> {
        self.sweep(now);
        self.expire(now, id);
        let local = self.take_back(id)?;
        for charge in actual {
            self.add(now, &charge.counter.to_string(), charge.amount.min(MAX_AMOUNT), charge.ttl);
        }
        Some(local)
    }

    pub(super) fn value(&self, now: Instant, counter: &str) -> u64 {
        self.counters.get(counter).filter(|c| c.expires > now).map_or(0, |c| c.value)
    }

    /// Ends what is due, at most [`SWEEP`] of each kind.
    pub(super) fn sweep(&mut self, now: Instant) {
        for _ in 0..SWEEP {
            let Some((deadline, id)) = self.deadlines.first() else { break };
            if *deadline > now {
                break;
            }
            let id = id.clone();
            self.take_back(&id);
        }
        for _ in 0..SWEEP {
            let Some((expiry, _)) = self.expiries.first() else { break };
            if *expiry > now {
                break;
            }
            let Some((_, counter)) = self.expiries.pop_first() else { break };
            match self.counters.get(&counter).map(|c| c.expires) {
                Some(later) if later > now => {
                    self.expiries.insert((later, counter));
                }
                _ => {
                    self.counters.remove(&counter);
                }
            }
        }
    }

    fn add(&mut self, now: Instant, counter: &str, amount: u64, ttl: Duration) {
        let expires = later(now, ttl);
        if let Some(known) = self.counters.get_mut(counter).filter(|c| c.expires > now) {
            known.value = known.value.saturating_add(amount);
            known.expires = known.expires.max(expires);
            return;
        }
        // Absent, or expired and not swept yet; a queue entry that is left over is harmless.
        self.counters.insert(counter.to_owned(), Counter { value: amount, expires });
        self.expiries.insert((expires, counter.to_owned()));
    }

    /// Ends this lease if it is due, whether or not the bounded sweep came to it.
    fn expire(&mut self, now: Instant, id: &str) {
        if self.leases.get(id).is_some_and(|lease| lease.deadline <= now) {
            self.take_back(id);
        }
    }

    fn take_back(&mut self, id: &str) -> Option<bool> {
        let lease = self.leases.remove(id)?;
        self.deadlines.remove(&(lease.deadline, id.to_owned()));
        for (counter, amount) in &lease.charges {
            if let Some(known) = self.counters.get_mut(counter) {
                known.value = known.value.saturating_sub(*amount);
            }
        }
        Some(lease.local)
    }

    pub(super) fn fail(&mut self, now: Instant, failure: &Cooldown) -> Option<Instant> {
        let limit = failure.allowed_fails as usize + 1;
        let window = failure.cooldown.min(MAX_COOLDOWN);
        let times = self.failures.entry(failure.deployment.clone()).or_default();
        times.push_back(now);
        while times.len() > limit || times.front().is_some_and(|first| now.duration_since(*first) >= window) {
            times.pop_front();
        }
        let mut left = if times.len() >= limit { window } else { Duration::ZERO };
        if times.is_empty() {
            self.failures.remove(&failure.deployment);
        }
        left = left.max(failure.retry_after.unwrap_or_default().min(MAX_COOLDOWN));
        (!left.is_zero()).then(|| self.cool(now, &failure.deployment, left))
    }

    /// Cools for at least `left`; the later deadline wins and is returned.
    fn cool(&mut self, now: Instant, deployment: &str, left: Duration) -> Instant {
        let deadline = now + left;
        let standing = self.cooling.entry(deployment.to_owned()).or_insert(deadline);
        *standing = deadline.max(*standing);
        *standing
    }

    fn cooling(&mut self, now: Instant, wall: u64) -> Vec<(String, u64)> {
        self.cooling.retain(|_, until| *until > now);
        self.cooling
            .iter()
            .map(|(deployment, until)| (deployment.clone(), unix_ms(*until, now, wall)))
            .collect()
    }
}

/// Bounded: an absurd duration must not overflow the clock.
fn later(now: Instant, by: Duration) -> Instant {
    now + by.min(Duration::from_secs(10 * 366 * 86_400))
}

fn unix_ms(until: Instant, now: Instant, wall: u64) -> u64 {
    let left = until.saturating_duration_since(now).as_millis();
    wall.saturating_add(u64::try_from(left).unwrap_or(u64::MAX))
}

/// Unix milliseconds.
pub(super) fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
