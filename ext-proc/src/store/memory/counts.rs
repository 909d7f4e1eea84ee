use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::{Admission, Admitted, Candidate, Charge, Counter, Limited, MAX_AMOUNT, Pick};
use super::Map;

/// Expired leases and counters removed per call: an idle hour is not paid for by one request.
const SWEEP: usize = 256;
/// How long a value that was only read, never charged here, is kept. Longer than the longest common window.
const LEARNT_TTL: Duration = Duration::from_secs(120);

/// Counters, leases and probes, with the time given by the caller: tests run it on a clock of their own.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    counters: Map<Counter, Value>,
    /// Counters by the moment at which they may be forgotten; re-queued when that has moved.
    expiries: BTreeSet<(Instant, Counter)>,
    leases: Map<Arc<str>, Lease>,
    /// Leases by deadline.
    deadlines: BTreeSet<(Instant, Arc<str>)>,
    /// Deployment on probation -> the lease that probes it.
    probes: Map<Arc<str>, Arc<str>>,
}

#[derive(Debug)]
struct Value {
    value: u64,
    expires: Instant,
}

#[derive(Debug)]
struct Lease {
    charges: Vec<(Counter, u64)>,
    candidate: usize,
    probe: Option<Arc<str>>,
    deadline: Instant,
    /// Unknown to the shared backend.
    local: bool,
}

impl Counts {
    /// As [`super::super::Counters::admit`]. `is_open` tells breakers that are open (again), whatever the caller
    /// has heard.
    pub(crate) fn admit(
        &mut self,
        now: Instant,
        ask: &Admission,
        is_open: impl Fn(&str) -> bool,
        local: bool,
    ) -> Admitted {
        self.sweep(now);
        self.expire(now, &ask.id);
        if let Some(lease) = self.leases.get(ask.id.as_str()) {
            return Admitted::Candidate(lease.candidate);
        }
        for (required, limited) in ask.required.iter().enumerate() {
            let value = self.value(now, &limited.counter);
            if !has_room(limited, value) {
                return Admitted::Refused { required, value };
            }
        }
        match self.choose(now, ask, is_open) {
            Ok(index) => {
                self.charge(now, ask, index, local);
                Admitted::Candidate(index)
            }
            Err(reasons) => Admitted::Full(reasons),
        }
    }

    /// Enters what the shared backend admitted, without asking again, and the values that it tells: of the required
    /// counters, then of the candidate's.
    pub(crate) fn enter(&mut self, now: Instant, ask: &Admission, index: usize, values: &[u64]) {
        self.sweep(now);
        self.expire(now, &ask.id);
        if !self.leases.contains_key(ask.id.as_str()) {
            self.charge(now, ask, index, false);
        }
        let charges = ask.candidates.get(index).map_or(&[][..], |candidate| &candidate.charges);
        for (limited, value) in ask.required.iter().chain(charges).zip(values) {
            self.learn(now, &limited.counter, *value);
        }
    }

    /// Enters what the shared backend refused. What is in flight is left out: it changes too fast to be remembered.
    pub(crate) fn enter_refusal(&mut self, now: Instant, ask: &Admission, admitted: &Admitted) {
        match admitted {
            Admitted::Candidate(_) => {}
            Admitted::Refused { required, value } => {
                if let Some(limited) = ask.required.get(*required) {
                    self.learn(now, &limited.counter, *value);
                }
            }
            Admitted::Full(reasons) => {
                for (candidate, reason) in ask.candidates.iter().zip(reasons) {
                    let Some(limited) = reason.and_then(|charge| candidate.charges.get(charge)) else {
                        continue;
                    };
                    let Some(limit) = limited.limit.filter(|_| limited.counter.window > 0) else { continue };
                    // The least that leaves no room for this amount.
                    let least = limit.saturating_sub(limited.amount).saturating_add(1).min(limit);
                    if self.value(now, &limited.counter) < least {
                        self.learn(now, &limited.counter, least);
                    }
                }
            }
        }
    }

    /// Ends a lease. Returns its `local` mark; `None` when the id is unknown, settled or over.
    pub(crate) fn settle(&mut self, now: Instant, id: &str, actual: &[Charge]) -> Option<bool> {
        self.sweep(now);
        self.expire(now, id);
        let local = self.take_back(id)?;
        for charge in actual {
            self.add(now, &charge.counter, charge.amount.min(MAX_AMOUNT), charge.ttl);
        }
        Some(local)
    }

    pub(crate) fn value(&self, now: Instant, counter: &Counter) -> u64 {
        self.counters.get(counter).filter(|c| c.expires > now).map_or(0, |c| c.value)
    }

    /// Takes over what the shared backend says, so that counting goes on from there when it goes away.
    pub(crate) fn learn(&mut self, now: Instant, counter: &Counter, value: u64) {
        match self.counters.get_mut(counter) {
            Some(known) => known.value = value,
            None if value > 0 => self.add(now, counter, value, LEARNT_TTL),
            None => {}
        }
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
    ) -> Result<usize, Vec<Option<usize>>> {
        let mut lowest: Option<(usize, u64)> = None;
        let mut tier = 0;
        let mut reasons = Vec::new();
        for (index, candidate) in ask.candidates.iter().enumerate() {
            if lowest.is_some() && candidate.tier != tier {
                break;
            }
            let beaten = lowest.map(|(_, known)| known);
            let weight = match self.weigh(now, candidate, ask.pick, beaten, &is_open) {
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
        pick: Pick,
        beaten: Option<u64>,
        is_open: impl Fn(&str) -> bool,
    ) -> Result<u64, Option<usize>> {
        let mut weight = 0;
        for (index, limited) in candidate.charges.iter().enumerate() {
            let weighed = pick == Pick::Lowest(index);
            if limited.limit.is_none() && !weighed {
                continue;
            }
            // Each is looked up once: this is what a decision spends its time on.
            let value = self.value(now, &limited.counter);
            if !has_room(limited, value) {
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

    fn charge(&mut self, now: Instant, ask: &Admission, index: usize, local: bool) {
        let id: Arc<str> = ask.id.as_str().into();
        let candidate = ask.candidates.get(index);
        let charges = candidate.map_or(&[][..], |candidate| &candidate.charges);
        let mut held = Vec::with_capacity(ask.required.len() + charges.len());
        for limited in ask.required.iter().chain(charges) {
            let amount = limited.amount.min(MAX_AMOUNT);
            self.add(now, &limited.counter, amount, limited.ttl);
            held.push((limited.counter.clone(), amount));
        }
        let probe: Option<Arc<str>> = candidate.and_then(|c| c.probe.as_deref()).map(Into::into);
        if let Some(probe) = &probe {
            self.probes.insert(Arc::clone(probe), Arc::clone(&id));
        }
        let deadline = later(now, ask.lease);
        self.deadlines.insert((deadline, Arc::clone(&id)));
        self.leases.insert(id, Lease { charges: held, candidate: index, probe, deadline, local });
    }

    fn add(&mut self, now: Instant, counter: &Counter, amount: u64, ttl: Duration) {
        let expires = later(now, ttl);
        if let Some(known) = self.counters.get_mut(counter).filter(|c| c.expires > now) {
            known.value = known.value.saturating_add(amount);
            known.expires = known.expires.max(expires);
            return;
        }
        // Absent, or expired and not swept yet; a queue entry that is left over is harmless.
        self.counters.insert(counter.clone(), Value { value: amount, expires });
        self.expiries.insert((expires, counter.clone()));
    }

    /// Ends this lease if it is due, whether or not the bounded sweep came to it.
    fn expire(&mut self, now: Instant, id: &str) {
        if self.leases.get(id).is_some_and(|lease| lease.deadline <= now) {
            self.take_back(id);
        }
    }

    fn take_back(&mut self, id: &str) -> Option<bool> {
        let (id, lease) = self.leases.remove_entry(id)?;
        for (counter, amount) in &lease.charges {
            if let Some(known) = self.counters.get_mut(counter) {
                known.value = known.value.saturating_sub(*amount);
            }
        }
        if let Some(probe) = &lease.probe
            && self.probes.get(probe) == Some(&id)
        {
            self.probes.remove(probe);
        }
        self.deadlines.remove(&(lease.deadline, id));
        Some(lease.local)
    }
}

fn has_room(limited: &Limited, value: u64) -> bool {
    let amount = limited.amount.min(MAX_AMOUNT);
    match limited.limit {
        None => true,
        Some(0) => amount == 0,
        Some(limit) => value.saturating_add(amount.min(limit)) <= limit,
    }
}

/// Bounded: an absurd duration must not overflow the clock.
fn later(now: Instant, by: Duration) -> Instant {
    now + by.min(Duration::from_secs(10 * 366 * 86_400))
}
