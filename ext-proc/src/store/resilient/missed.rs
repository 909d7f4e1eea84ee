//! What Redis is to be told when it is back.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::super::memory::Lease;
use super::super::{Charge, Counter, Settlement};

/// Settlements kept for the backend while it is away, and counters that those beyond it are summed up in. Leases of
/// the latter end by themselves.
const MAX_MISSED: usize = 10_000;
/// Settlements told at once when the backend is back.
const TELL: usize = 500;
/// Settled leases of other replicas that are remembered, and for how long.
const MAX_OTHERS: usize = 50_000;
const REMEMBER: Duration = Duration::from_secs(900);

#[derive(Debug, Clone)]
pub(super) struct Missed {
    pub(super) settlement: Settlement,
    /// What was held of it, when this replica knew it.
    pub(super) lease: Option<Lease>,
    /// Reserved in the twin only, so the backend has no lease to settle.
    pub(super) local: bool,
}

/// What Redis is to be told when it is back.
#[derive(Debug, Default)]
pub(super) struct Queue {
    settlements: VecDeque<Missed>,
    /// Sums of the settlements that found no place: a long outage forgets no money.
    sums: HashMap<Counter, (u64, Duration)>,
}

impl Queue {
    pub(super) fn push(&mut self, missed: Missed) {
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
    pub(super) fn take(&mut self) -> Vec<Missed> {
        let batch = self.settlements.len().min(TELL);
        if batch > 0 {
            return self.settlements.drain(..batch).collect();
        }
        let charges = self.sums.drain().map(|(counter, (amount, ttl))| Charge { counter, amount, ttl });
        let charges: Vec<Charge> = charges.collect();
        let settlement = |chunk: &[Charge]| {
            let id = format!("sums/{:032x}", rand::random::<u128>());
            let lease = Some(Lease::of_nothing(chunk));
            Missed { settlement: Settlement::end(id, chunk.to_vec()), lease, local: true }
        };
        charges.chunks(TELL).map(settlement).collect()
    }

    /// Back in front.
    pub(super) fn put_back(&mut self, batch: Vec<Missed>) {
        for missed in batch.into_iter().rev() {
            self.settlements.push_front(missed);
        }
    }

    /// Leases that the backend knew before they ended here.
    pub(super) fn known_leases(&self) -> Vec<(String, Lease)> {
        let known = self.settlements.iter().filter(|missed| !missed.local);
        known.filter_map(|missed| Some((missed.settlement.id.clone(), missed.lease.clone()?))).collect()
    }
}

/// Leases of other replicas that ended here: if the backend loses its data, those must not bring them back.
#[derive(Debug, Default)]
pub(super) struct Others(VecDeque<(Instant, String)>);

impl Others {
    pub(super) fn push(&mut self, id: String) {
        let now = Instant::now();
        while self.0.len() >= MAX_OTHERS
            || self.0.front().is_some_and(|(at, _)| now.duration_since(*at) > REMEMBER)
        {
            self.0.pop_front();
        }
        self.0.push_back((now, id));
    }

    pub(super) fn ids(&self) -> Vec<String> {
        self.0.iter().map(|(_, id)| id.clone()).collect()
    }
}
