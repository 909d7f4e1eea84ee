//! Counters held against the ledger.

use std::time::Instant;

use super::super::{Correction, Counter, Standing};
use super::{Counts, Map};

impl Counts {
    /// What is on these counters, and what leases hold of it.
    pub(crate) fn standing(&mut self, now: Instant, counters: &[Counter]) -> Vec<Option<Standing>> {
        self.sweep(now);
        let mut held: Map<&Counter, u64> = counters.iter().map(|counter| (counter, 0)).collect();
        for charge in self.leases.values().flat_map(|lease| &lease.charges) {
            if let Some(sum) = held.get_mut(&charge.counter) {
                *sum = sum.saturating_add(charge.amount);
            }
        }
        let standing = |counter: &Counter| {
            let value = self.known(now, counter)?.value;
            Some(Standing { value, held: held.get(counter).copied() })
        };
        counters.iter().map(standing).collect()
    }

    /// Moves counters that are there.
    pub(crate) fn correct(&mut self, now: Instant, corrections: &[Correction]) {
        for Correction { counter, by } in corrections {
            if let Some(known) = self.counters.get_mut(counter).filter(|known| known.expires > now) {
                known.value = known.value.saturating_add_signed(*by);
            }
        }
    }
}
