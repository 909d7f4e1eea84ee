//! What the counters promise, said naively: everything is looked up and summed up anew.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// A counter is what began it and what was settled on it (the ledger), and what running leases hold.
#[derive(Debug, Clone, Default)]
pub(super) struct Model {
    /// Milliseconds.
    pub(super) now: u64,
    pub(super) ledger: BTreeMap<Counter, u64>,
    pub(super) leases: BTreeMap<String, Held>,
    /// Per counter, by how much settlements and begins exceeded what limits are kept by.
    pub(super) errors: BTreeMap<Counter, u64>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Held {
    candidate: usize,
    probe: Option<String>,
    /// Counter, amount, and by how much the amount alone exceeds the limit.
    charges: Vec<(Counter, u64, u64)>,
    settled: BTreeSet<Counter>,
    deadline: u64,
}

impl Model {
    pub(super) fn wait(&mut self, ms: u64) {
        self.now += ms;
        self.leases.retain(|_, lease| lease.deadline > self.now);
    }

    pub(super) fn value(&self, counter: &Counter) -> u64 {
        let held = self.leases.values().flat_map(|lease| &lease.charges);
        let held: u64 = held.filter(|(c, ..)| c == counter).map(|(_, amount, _)| amount).sum();
        self.ledger.get(counter).copied().unwrap_or_default() + held
    }

    /// The highest that a counter may be if its limit holds: only what was estimated too low, and requests that are
    /// larger than the limit, may be above it.
    pub(super) fn most(&self, counter: &Counter, limit: u64) -> u64 {
        let held = self.leases.values().flat_map(|lease| &lease.charges);
        let oversize: u64 = held.filter(|(c, ..)| c == counter).map(|(.., over)| over).sum();
        limit + self.errors.get(counter).copied().unwrap_or_default() + oversize
    }

    /// The counter, or where it begins.
    fn look(&self, limited: &Limited) -> u64 {
        match limited.seed {
            Seed::Known(begin) if !self.ledger.contains_key(&limited.counter) => begin,
            _ => self.value(&limited.counter),
        }
    }

    fn has_room(&self, limited: &Limited) -> bool {
        let value = self.look(limited);
        match limited.limit {
            None => true,
            Some(limit) if limited.shrink => value < limit,
            Some(0) => limited.amount == 0,
            Some(limit) => value + limited.amount.min(limit) <= limit,
        }
    }

    fn begin(&mut self, limited: &Limited) {
        if let Seed::Known(begin) = limited.seed
            && !self.ledger.contains_key(&limited.counter)
        {
            self.ledger.insert(limited.counter.clone(), begin);
            let over = begin.saturating_sub(limited.limit.unwrap_or(u64::MAX));
            *self.errors.entry(limited.counter.clone()).or_default() += over;
        }
    }

    pub(super) fn place(&mut self, ask: &Admission) -> Place {
        if let Some(lease) = self.leases.get(&ask.id) {
            let candidate = lease.candidate;
            let charges = ask.required.iter().chain(&ask.candidates[candidate].charges);
            let values = charges.map(|limited| self.value(&limited.counter)).collect();
            self.prolong(ask);
            return Place { admitted: Admitted::Candidate(candidate), values };
        }
        let refused = |admitted| Place { admitted, values: Vec::new() };
        let mut unseeded = Vec::new();
        for (required, limited) in ask.required.iter().enumerate() {
            if limited.seed == Seed::Ask && !self.ledger.contains_key(&limited.counter) {
                unseeded.push(required);
            }
            self.begin(limited);
            if !self.has_room(limited) {
                return refused(Admitted::Refused { required, value: self.value(&limited.counter) });
            }
        }
        if !unseeded.is_empty() {
            return refused(Admitted::Unseeded(unseeded));
        }
        match self.choose(ask) {
            Ok(index) => self.charge(ask, index),
            Err(reasons) => refused(Admitted::Full(reasons)),
        }
    }

    /// Several at once, ahead of their use.
    pub(super) fn place_all(&mut self, ask: &Admission, more: &[String]) -> Place {
        let times = (more.len() as u64 + 1) * MORE_ROOM;
        let refused = |admitted| Place { admitted, values: Vec::new() };
        let mut unseeded = Vec::new();
        for (required, limited) in ask.required.iter().enumerate() {
            if limited.seed == Seed::Ask && !self.ledger.contains_key(&limited.counter) {
                unseeded.push(required);
            }
            self.begin(limited);
            if !self.has_room_ahead(limited, times) {
                return refused(Admitted::Refused { required, value: self.value(&limited.counter) });
            }
        }
        if !unseeded.is_empty() {
            return refused(Admitted::Unseeded(unseeded));
        }
        let obstacle = |candidate: &Candidate| {
            let full = candidate.charges.iter().position(|limited| !self.has_room_ahead(limited, times));
            full.map(Some).or_else(|| candidate.probe.is_some().then_some(None))
        };
        let index = match self.choose_by(ask, obstacle) {
            Ok(index) => index,
            Err(reasons) => return refused(Admitted::Full(reasons)),
        };
        let ids = [&ask.id].into_iter().chain(more).cloned();
        let places = ids.map(|id| self.charge(&Admission { id, ..ask.clone() }, index));
        places.last().unwrap()
    }

    fn has_room_ahead(&self, limited: &Limited, times: u64) -> bool {
        let Some(limit) = limited.limit else { return true };
        let amount = limited.amount * times;
        // A budget that is used up is used up for what is free, too.
        let amount = if limited.shrink { amount.max(1) } else { amount };
        amount <= limit && self.look(limited) + amount <= limit
    }

    fn choose(&self, ask: &Admission) -> Result<usize, Vec<Option<usize>>> {
        let obstacle = |candidate: &Candidate| {
            let full = candidate.charges.iter().position(|limited| !self.has_room(limited));
            let probed =
                self.leases.values().any(|lease| lease.probe.is_some() && lease.probe == candidate.probe);
            full.map(Some).or_else(|| probed.then_some(None))
        };
        self.choose_by(ask, obstacle)
    }

    fn choose_by(
        &self,
        ask: &Admission,
        obstacle: impl Fn(&Candidate) -> Option<Option<usize>>,
    ) -> Result<usize, Vec<Option<usize>>> {
        let obstacles: Vec<_> = ask.candidates.iter().map(obstacle).collect();
        let open = ask.candidates.iter().enumerate().filter(|(index, _)| obstacles[*index].is_none());
        let Some(tier) = open.clone().map(|(_, candidate)| candidate.tier).min() else {
            return Err(obstacles.into_iter().flatten().collect());
        };
        let mut open = open.filter(|(_, candidate)| candidate.tier == tier);
        let chosen = match ask.pick {
            Pick::First => open.next(),
            Pick::Lowest(charge) => open.min_by_key(|(_, candidate)| {
                candidate.charges.get(charge).map_or(0, |limited| self.look(limited))
            }),
        };
        Ok(chosen.unwrap().0)
    }

    fn charge(&mut self, ask: &Admission, index: usize) -> Place {
        let candidate = &ask.candidates[index];
        let deadline = self.now + u64::try_from(ask.lease.as_millis()).unwrap();
        let lease = Held { candidate: index, probe: candidate.probe.clone(), deadline, ..Held::default() };
        self.leases.insert(ask.id.clone(), lease);
        let mut values = Vec::new();
        for limited in ask.required.iter().chain(&candidate.charges) {
            self.begin(limited);
            self.ledger.entry(limited.counter.clone()).or_default();
            let limit = limited.limit.unwrap_or(u64::MAX);
            let amount = match limited.shrink {
                true => limited.amount.min(limit.saturating_sub(self.value(&limited.counter))),
                false => limited.amount,
            };
            let charge = (limited.counter.clone(), amount, amount.saturating_sub(limit));
            self.leases.get_mut(&ask.id).unwrap().charges.push(charge);
            values.push(self.value(&limited.counter));
        }
        self.prolong(ask);
        Place { admitted: Admitted::Candidate(index), values }
    }

    fn prolong(&mut self, ask: &Admission) {
        let deadline = self.now + u64::try_from(ask.lease.as_millis()).unwrap();
        if let Some(other) = ask.renew.as_ref().and_then(|id| self.leases.get_mut(id)) {
            other.deadline = other.deadline.max(deadline);
        }
    }

    pub(super) fn settle(&mut self, settlement: &Settlement) -> bool {
        let Some(lease) = self.leases.get_mut(&settlement.id) else { return false };
        let mut ended = Vec::new();
        let mut actual: Vec<&Charge> = settlement.actual.iter().collect();
        if settlement.stays {
            actual.retain(|charge| lease.settled.insert(charge.counter.clone()));
            let named =
                |(counter, ..): &mut (Counter, u64, u64)| actual.iter().any(|c| c.counter == *counter);
            ended.extend(lease.charges.extract_if(.., named));
        } else {
            ended.append(&mut lease.charges);
            self.leases.remove(&settlement.id);
        }
        for charge in actual {
            *self.ledger.entry(charge.counter.clone()).or_default() += charge.amount;
            // What was held is given back, except what was above the limit and no error yet.
            let held = ended.iter().filter(|(counter, ..)| *counter == charge.counter);
            let estimate: u64 = held.map(|(_, amount, over)| amount - over).sum();
            *self.errors.entry(charge.counter.clone()).or_default() += charge.amount.saturating_sub(estimate);
        }
        true
    }
}
