use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::{
    Admission, Admitted, Candidate, Charge, Counter, Limited, MAX_AMOUNT, MORE_ROOM, Pick, Place, Seed,
    Settlement,
};
use super::Map;

/// Expired leases and counters removed per call: an idle hour is not paid for by one request.
const SWEEP: usize = 256;
/// Highest begin of a counter, as in the shared backend.
const MAX_SEED: u64 = 1 << 53;
/// An in-flight counter whose lease was prolonged is kept for so long after the lease.
const SLACK: Duration = Duration::from_secs(60);

/// Counters, leases and probes, with the time given by the caller: tests run it on a clock of their own.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(super) counters: Map<Counter, Value>,
    /// Counters by the moment at which they may be forgotten; re-queued when that has moved.
    expiries: BTreeSet<(Instant, Counter)>,
    pub(super) leases: Map<Arc<str>, Lease>,
    /// Leases by deadline.
    deadlines: BTreeSet<(Instant, Arc<str>)>,
    /// Deployment on probation -> the lease that probes it.
    probes: Map<Arc<str>, Arc<str>>,
}

#[derive(Debug)]
pub(super) struct Value {
    pub(super) value: u64,
    pub(super) expires: Instant,
    /// What the shared backend said last, and when. The room that it left is shared out when it goes away.
    pub(super) shared: u64,
    pub(super) moment: u64,
    /// Nothing but what leases hold is on it (requests in flight), as far as is known here.
    pub(super) level: bool,
}

/// What a lease holds of one counter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Held {
    pub(in super::super) counter: Counter,
    pub(in super::super) amount: u64,
    pub(in super::super) ttl: Duration,
    /// Nothing but what leases hold is on the counter (requests in flight).
    pub(in super::super) level: bool,
}

#[derive(Debug, Clone)]
pub(in super::super) struct Lease {
    pub(in super::super) charges: Vec<Held>,
    /// Counters that were settled while the lease stays, and whether the shared backend has heard of it.
    pub(super) settled: Vec<(Counter, bool)>,
    pub(in super::super) candidate: usize,
    pub(in super::super) probe: Option<Arc<str>>,
    pub(in super::super) deadline: Instant,
    /// Unknown to the shared backend.
    pub(in super::super) local: bool,
}

impl Lease {
    /// Holds nothing of these counters, but knows where they begin.
    pub(in super::super) fn of_nothing(counters: &[Charge]) -> Self {
        let held = |charge: &Charge| {
            let Charge { counter, ttl, .. } = charge.clone();
            Held { counter, amount: 0, ttl, level: false }
        };
        let charges = counters.iter().map(held).collect();
        let deadline = Instant::now();
        Self { charges, settled: Vec::new(), candidate: 0, probe: None, deadline, local: true }
    }
}

/// The part of the room left that a replica may use while it counts alone: a `replicas`-th, those of lower `rank` the
/// larger ones. The parts of all ranks add up to the room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Share {
    pub(in super::super) replicas: u64,
    pub(in super::super) rank: u64,
}

impl Share {
    fn of(self, left: u64) -> u64 {
        let replicas = self.replicas.max(1);
        left / replicas + u64::from(left % replicas > self.rank)
    }
}

impl Counts {
    /// As [`super::super::Counters::place`]. `is_open` tells breakers that are open (again), whatever the caller
    /// has heard. `alone`: the shared backend is away, and hears of it later.
    pub(crate) fn admit(
        &mut self,
        now: Instant,
        ask: &Admission,
        is_open: impl Fn(&str) -> bool,
        alone: Option<Share>,
    ) -> Place {
        self.sweep(now);
        self.expire(now, &ask.id);
        if let Some(lease) = self.leases.get(ask.id.as_str()) {
            let index = lease.candidate;
            let charges = ask.candidates.get(index).map_or(&[][..], |candidate| &candidate.charges);
            let values = ask.required.iter().chain(charges).map(|l| self.value(now, &l.counter)).collect();
            self.prolong(now, ask);
            return Place { admitted: Admitted::Candidate(index), values };
        }
        if let Some(admitted) = self.refuse(now, ask, alone) {
            return Place { admitted, values: Vec::new() };
        }
        match self.choose(now, ask, is_open, alone) {
            Ok(index) => {
                let values = self.charge(now, ask, &ask.id, index, alone, None);
                self.prolong(now, ask);
                Place { admitted: Admitted::Candidate(index), values }
            }
            Err(reasons) => Place { admitted: Admitted::Full(reasons), values: Vec::new() },
        }
    }

    /// As [`super::super::Counters::place_all`], with at least one id beside the admission's own.
    pub(crate) fn admit_all(&mut self, now: Instant, ask: &Admission, more: &[String]) -> Place {
        self.sweep(now);
        let count = u64::try_from(more.len()).unwrap_or(u64::MAX).saturating_add(1);
        let wide = ask.widened(count.saturating_mul(MORE_ROOM));
        let admitted = match self.refuse(now, &wide, None) {
            Some(admitted) => admitted,
            None => match self.choose(now, &wide, |_| true, None) {
                Ok(index) => Admitted::Candidate(index),
                Err(reasons) => Admitted::Full(reasons),
            },
        };
        let Admitted::Candidate(index) = admitted else { return Place { admitted, values: Vec::new() } };
        let mut values = Vec::new();
        for id in [&ask.id].into_iter().chain(more) {
            values = self.charge(now, ask, id, index, None, None);
        }
        Place { admitted, values }
    }

    /// The answer if a required limit has no room or does not know where its counter begins.
    fn refuse(&mut self, now: Instant, ask: &Admission, alone: Option<Share>) -> Option<Admitted> {
        let mut unseeded = Vec::new();
        for (required, limited) in ask.required.iter().enumerate() {
            if self.known(now, &limited.counter).is_none() {
                match limited.seed {
                    Seed::Zero => {}
                    Seed::Ask => unseeded.push(required),
                    // Also when it refuses: it is not asked for again.
                    Seed::Known(begin) => self.seed(now, &limited.counter, begin, limited.ttl),
                }
            }
            let (value, cap) = self.look(now, limited, alone);
            if !limited.has_room(value, cap) {
                return Some(Admitted::Refused { required, value });
            }
        }
        (!unseeded.is_empty()).then_some(Admitted::Unseeded(unseeded))
    }

    /// Ends a lease, or settles some of its counters. Returns what was held of those; `None` when the id is unknown,
    /// settled or over.
    pub(crate) fn settle(&mut self, now: Instant, settlement: &Settlement) -> Option<Lease> {
        self.sweep(now);
        self.expire(now, &settlement.id);
        if !settlement.stays {
            let lease = self.take_back(&settlement.id)?;
            for charge in &settlement.actual {
                self.add(now, &charge.counter, charge.amount.min(MAX_AMOUNT), charge.ttl);
            }
            return Some(lease);
        }
        let mut part = Vec::new();
        let lease = self.leases.get_mut(settlement.id.as_str())?;
        let mut actual: Vec<&Charge> = Vec::new();
        for charge in &settlement.actual {
            // Once in the life of a lease, however often it is told.
            if lease.settled.iter().any(|(counter, _)| *counter == charge.counter) {
                continue;
            }
            lease.settled.push((charge.counter.clone(), false));
            actual.push(charge);
            part.extend(lease.charges.extract_if(.., |held| held.counter == charge.counter));
        }
        let ended = Lease { charges: part, settled: Vec::new(), ..lease.clone() };
        for held in &ended.charges {
            self.subtract(&held.counter, held.amount);
        }
        for charge in actual {
            self.add(now, &charge.counter, charge.amount.min(MAX_AMOUNT), charge.ttl);
        }
        Some(ended)
    }

    pub(crate) fn value(&self, now: Instant, counter: &Counter) -> u64 {
        self.known(now, counter).map_or(0, |known| known.value)
    }

    pub(super) fn known(&self, now: Instant, counter: &Counter) -> Option<&Value> {
        self.counters.get(counter).filter(|known| known.expires > now)
    }

    /// The counter, and how far this process may let it go.
    fn look(&self, now: Instant, limited: &Limited, alone: Option<Share>) -> (u64, u64) {
        let (value, shared) = match self.known(now, &limited.counter) {
            Some(known) => (known.value, known.shared),
            None => (limited.begin(), limited.begin()),
        };
        let limit = limited.limit.unwrap_or(u64::MAX);
        let cap = match alone {
            Some(share) if shared < limit => shared + share.of(limit - shared),
            _ => limit,
        };
        (value, cap)
    }

    /// An outcome of the deployment was observed.
    pub(crate) fn free_probe(&mut self, deployment: &str) {
        self.probes.remove(deployment);
    }

    /// Ends what is due, at most [`SWEEP`] of each kind.
    pub(crate) fn sweep(&mut self, now: Instant) {
        for _ in 0..SWEEP {
            let Some((deadline, id)) = self.deadlines.first() else { break };
            if *deadline > now {
                break;
            }
            let id = Arc::clone(id);
            self.take_back(&id);
        }
        for _ in 0..SWEEP {
            if self.expiries.first().is_none_or(|(expiry, _)| *expiry > now) {
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

    /// Index of the candidate to take, or why there is none.
    fn choose(
        &self,
        now: Instant,
        ask: &Admission,
        is_open: impl Fn(&str) -> bool,
        alone: Option<Share>,
    ) -> Result<usize, Vec<Option<usize>>> {
        let mut lowest: Option<(usize, u64)> = None;
        let mut tier = 0;
        let mut reasons = Vec::new();
        for (index, candidate) in ask.candidates.iter().enumerate() {
            if lowest.is_some() && candidate.tier != tier {
                break;
            }
            let beaten = lowest.map(|(_, known)| known);
            let weight = match self.weigh(now, candidate, (ask.pick, beaten), &is_open, alone) {
                Ok(weight) => weight,
                Err(reason) => {
                    reasons.push(reason);
                    continue;
                }
            };
            if ask.pick == Pick::First {
                return Ok(index);
            }
            if lowest.is_none_or(|(_, known)| weight < known) {
                lowest = Some((index, weight));
            }
            tier = candidate.tier;
        }
        lowest.map(|(index, _)| index).ok_or(reasons)
    }

    /// The value that the pick goes by, or what keeps the candidate from being admitted, as in [`Admitted::Full`]. Of one
    /// that has been `beaten` already nothing more is asked.
    fn weigh(
        &self,
        now: Instant,
        candidate: &Candidate,
        (pick, beaten): (Pick, Option<u64>),
        is_open: impl Fn(&str) -> bool,
        alone: Option<Share>,
    ) -> Result<u64, Option<usize>> {
        let mut weight = 0;
        for (index, limited) in candidate.charges.iter().enumerate() {
            let weighed = pick == Pick::Lowest(index);
            if limited.limit.is_none() && !weighed {
                continue;
            }
            // Each is looked up once: this is what a decision spends its time on.
            let (value, cap) = self.look(now, limited, alone);
            if !limited.has_room(value, cap) {
                return Err(Some(index));
            }
            if weighed {
                weight = value;
                if beaten.is_some_and(|known| value >= known) {
                    return Ok(value);
                }
            }
        }
        match candidate.probe.as_deref() {
            Some(probe) if is_open(probe) || self.is_probed(now, probe) => Err(None),
            _ => Ok(weight),
        }
    }

    /// A probe ends with its lease, also where the bounded sweep has not come to it.
    fn is_probed(&self, now: Instant, deployment: &str) -> bool {
        let lease = self.probes.get(deployment).and_then(|id| self.leases.get(id));
        lease.is_some_and(|lease| lease.deadline > now)
    }

    /// Charges without asking, under this id. `told`: what the shared backend charged on the limits that shrink. Returns the counters
    /// afterwards.
    pub(super) fn charge(
        &mut self,
        now: Instant,
        ask: &Admission,
        id: &str,
        index: usize,
        alone: Option<Share>,
        told: Option<&[u64]>,
    ) -> Vec<u64> {
        let id: Arc<str> = id.into();
        let candidate = ask.candidates.get(index);
        let charges = candidate.map_or(&[][..], |candidate| &candidate.charges);
        let count = ask.required.len() + charges.len();
        let (mut held, mut values) = (Vec::with_capacity(count), Vec::with_capacity(count));
        let mut told = told.unwrap_or_default().iter();
        for limited in ask.required.iter().chain(charges) {
            if let Seed::Known(begin) = limited.seed
                && self.known(now, &limited.counter).is_none()
            {
                self.seed(now, &limited.counter, begin, limited.ttl);
            }
            let mut amount = limited.amount.min(MAX_AMOUNT);
            if limited.shrink && limited.limit.is_some() {
                let (value, cap) = self.look(now, limited, alone);
                amount = told.next().copied().unwrap_or(amount.min(cap.saturating_sub(value)));
            }
            values.push(self.add(now, &limited.counter, amount, limited.ttl));
            let level = limited.counter.window == 0 && !limited.shrink && limited.seed == Seed::Zero;
            if limited.counter.window == 0
                && let Some(known) = self.counters.get_mut(&limited.counter)
            {
                known.level = level;
            }
            held.push(Held { counter: limited.counter.clone(), amount, ttl: limited.ttl, level });
        }
        let probe: Option<Arc<str>> = candidate.and_then(|c| c.probe.as_deref()).map(Into::into);
        if let Some(probe) = &probe {
            self.probes.insert(Arc::clone(probe), Arc::clone(&id));
        }
        let deadline = later(now, ask.lease);
        self.deadlines.insert((deadline, Arc::clone(&id)));
        let lease = Lease {
            charges: held,
            settled: Vec::new(),
            candidate: index,
            probe,
            deadline,
            local: alone.is_some(),
        };
        self.leases.insert(id, lease);
        values
    }

    /// The other reservation of the same request goes on as long as this one.
    pub(super) fn prolong(&mut self, now: Instant, ask: &Admission) {
        let Some(other) = ask.renew.as_deref() else { return };
        let deadline = later(now, ask.lease);
        let Some((id, lease)) = self.leases.get_key_value(other) else { return };
        if lease.deadline <= now || lease.deadline >= deadline {
            return;
        }
        let id = Arc::clone(id);
        let Some(lease) = self.leases.get_mut(other) else { return };
        self.deadlines.remove(&(lease.deadline, Arc::clone(&id)));
        lease.deadline = deadline;
        self.deadlines.insert((deadline, id));
        let kept = later(deadline, SLACK);
        for held in lease.charges.iter().filter(|held| held.counter.window == 0) {
            if let Some(known) = self.counters.get_mut(&held.counter).filter(|known| known.expires > now) {
                known.expires = known.expires.max(kept);
            }
        }
    }

    fn seed(&mut self, now: Instant, counter: &Counter, begin: u64, ttl: Duration) {
        self.counters.remove(counter);
        let begin = begin.min(MAX_SEED);
        self.add(now, counter, begin, ttl);
        if let Some(known) = self.counters.get_mut(counter) {
            known.shared = begin;
        }
    }

    /// Returns the counter afterwards.
    pub(super) fn add(&mut self, now: Instant, counter: &Counter, amount: u64, ttl: Duration) -> u64 {
        let expires = later(now, ttl);
        if let Some(known) = self.counters.get_mut(counter).filter(|c| c.expires > now) {
            known.value = known.value.saturating_add(amount);
            known.expires = known.expires.max(expires);
            return known.value;
        }
        // Absent, or expired and not swept yet; a queue entry that is left over is harmless.
        let fresh = Value { value: amount, expires, shared: 0, moment: 0, level: counter.window == 0 };
        self.counters.insert(counter.clone(), fresh);
        self.expiries.insert((expires, counter.clone()));
        amount
    }

    fn subtract(&mut self, counter: &Counter, amount: u64) {
        if let Some(known) = self.counters.get_mut(counter) {
            known.value = known.value.saturating_sub(amount);
        }
    }

    /// Ends this lease if it is due, whether or not the bounded sweep came to it.
    pub(super) fn expire(&mut self, now: Instant, id: &str) {
        if self.leases.get(id).is_some_and(|lease| lease.deadline <= now) {
            self.take_back(id);
        }
    }

    fn take_back(&mut self, id: &str) -> Option<Lease> {
        let (id, lease) = self.leases.remove_entry(id)?;
        for held in &lease.charges {
            self.subtract(&held.counter, held.amount);
        }
        if let Some(probe) = &lease.probe
            && self.probes.get(probe) == Some(&id)
        {
            self.probes.remove(probe);
        }
        self.deadlines.remove(&(lease.deadline, id));
        Some(lease)
    }
}

impl Limited {
    /// Where the counter begins if it is missing and nobody is asked.
    fn begin(&self) -> u64 {
        match self.seed {
            Seed::Zero | Seed::Ask => 0,
            Seed::Known(begin) => begin.min(MAX_SEED),
        }
    }

    /// Is there room beside `value`? `cap`: the limit, or this replica's part of it.
    pub(crate) fn has_room(&self, value: u64, cap: u64) -> bool {
        let amount = self.amount.min(MAX_AMOUNT);
        match self.limit {
            None => true,
            Some(_) if self.shrink => value < cap,
            Some(0) => amount == 0,
            Some(limit) => value.saturating_add(amount.min(limit)) <= cap,
        }
    }
}

/// Bounded: an absurd duration must not overflow the clock.
fn later(now: Instant, by: Duration) -> Instant {
    now + by.min(Duration::from_secs(10 * 366 * 86_400))
}
