//! What the counters of this process follow of the shared ones, to go on from there when those go away.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::{Admission, Admitted, Counter, Settlement};
use super::counts::{Held, Lease};
use super::{Counts, Learnt};

/// How long a value that was only read, never charged here, is kept. Longer than the longest common window.
pub(in super::super) const LEARNT_TTL: Duration = Duration::from_secs(120);

/// A lease to be made known to the shared backend.
#[derive(Debug, Clone)]
pub(in super::super) struct Entry {
    pub(in super::super) id: Arc<str>,
    pub(in super::super) left: Duration,
    pub(in super::super) candidate: usize,
    pub(in super::super) probe: Option<Arc<str>>,
    /// With the value at which each counter begins that the backend does not have.
    pub(in super::super) charges: Vec<(Held, u64)>,
    /// Counters that the backend had settled already.
    pub(in super::super) settled: Vec<Counter>,
}

impl Counts {
    /// Leases that run, those that the shared backend does not know (`local`) or those that it knows.
    pub(crate) fn entries(&self, now: Instant, local: bool) -> Vec<Entry> {
        let wanted = self.leases.iter().filter(|(_, lease)| lease.local == local && lease.deadline > now);
        wanted.map(|(id, lease)| self.entry(now, id, lease)).collect()
    }

    pub(crate) fn entry(&self, now: Instant, id: &Arc<str>, lease: &Lease) -> Entry {
        let begin = |held: &Held| match self.counters.get(&held.counter) {
            Some(known) if !held.level && known.expires > now => known.shared,
            _ => 0,
        };
        Entry {
            id: Arc::clone(id),
            left: lease.deadline.saturating_duration_since(now),
            candidate: lease.candidate,
            probe: lease.probe.clone(),
            charges: lease.charges.iter().map(|held| (held.clone(), begin(held))).collect(),
            settled: lease.settled.iter().filter(|(_, told)| *told).map(|(c, _)| c.clone()).collect(),
        }
    }

    /// The shared backend has heard of this settlement.
    pub(crate) fn told(&mut self, settlement: &Settlement) {
        let Some(lease) = self.leases.get_mut(settlement.id.as_str()) else { return };
        for (counter, told) in &mut lease.settled {
            *told |= settlement.actual.iter().any(|charge| charge.counter == *counter);
        }
    }

    /// The shared backend knows these leases from now on.
    pub(crate) fn entered(&mut self, entries: &[Entry]) {
        for entry in entries {
            if let Some(lease) = self.leases.get_mut(&entry.id) {
                lease.local = false;
            }
        }
    }

    /// What the shared backend said of every counter that is more than what is in flight.
    pub(crate) fn views(&self, now: Instant) -> Vec<Learnt> {
        let told =
            self.counters.iter().filter(|(_, known)| known.moment > 0 && !known.level && known.expires > now);
        let view = |(counter, known): (&Counter, &super::counts::Value)| Learnt {
            counter: counter.clone(),
            value: known.shared,
            moment: known.moment,
            ttl: known.expires - now,
        };
        told.map(view).collect()
    }

    /// Whatever is told next is newer than what is known.
    pub(crate) fn forget_moments(&mut self) {
        for known in self.counters.values_mut() {
            known.moment = known.moment.min(1);
        }
    }

    /// The shared backend ended a lease at this moment, that held this: what is in flight is not told with the answer.
    pub(crate) fn given_back(&mut self, lease: &Lease, moment: u64) {
        for held in &lease.charges {
            if let Some(known) = self.counters.get_mut(&held.counter).filter(|known| known.moment < moment) {
                known.shared = known.shared.saturating_sub(held.amount);
            }
        }
    }

    /// Enters what the shared backend admitted (under these other ids, too), without asking again, and the values that it tells: of the required
    /// counters, then of the candidate's; and what it charged on the limits that shrink.
    pub(crate) fn enter(
        &mut self,
        now: Instant,
        (ask, more): (&Admission, &[String]),
        index: usize,
        (values, moment): (&[u64], u64),
        shrunk: &[u64],
    ) {
        self.sweep(now);
        for id in [&ask.id].into_iter().chain(more) {
            self.expire(now, id);
            if !self.leases.contains_key(id.as_str()) {
                self.charge(now, ask, id, index, None, Some(shrunk));
            }
        }
        self.prolong(now, ask);
        let charges = ask.candidates.get(index).map_or(&[][..], |candidate| &candidate.charges);
        for (limited, value) in ask.required.iter().chain(charges).zip(values) {
            self.learn(now, &limited.counter, *value, moment, LEARNT_TTL);
        }
    }

    /// Enters what the shared backend refused. What is in flight is left out: it changes too fast to be remembered.
    pub(crate) fn enter_refusal(&mut self, now: Instant, ask: &Admission, admitted: &Admitted, moment: u64) {
        match admitted {
            Admitted::Candidate(_) | Admitted::Unseeded(_) => {}
            Admitted::Refused { required, value } => {
                if let Some(limited) = ask.required.get(*required) {
                    self.learn(now, &limited.counter, *value, moment, LEARNT_TTL);
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
                        self.learn(now, &limited.counter, least, 0, LEARNT_TTL);
                    }
                }
            }
        }
    }

    /// Takes over what the shared backend said at this moment. Answers overtake each other: an earlier one only ever
    /// raises. `ttl` is for a counter that is new here.
    pub(crate) fn learn(&mut self, now: Instant, counter: &Counter, value: u64, moment: u64, ttl: Duration) {
        if !self.counters.contains_key(counter) {
            if value == 0 {
                return;
            }
            self.add(now, counter, 0, ttl);
        }
        let Some(known) = self.counters.get_mut(counter) else { return };
        if moment >= known.moment {
            (known.value, known.shared, known.moment) = (value, value, moment);
        } else {
            known.value = known.value.max(value);
            known.shared = known.shared.max(value);
        }
    }
}
