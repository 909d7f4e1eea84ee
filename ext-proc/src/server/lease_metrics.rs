//! How many requests were decided ahead.

use std::sync::atomic::{AtomicU64, Ordering};

use super::metrics::{counter, head, line};

#[derive(Debug, Default)]
pub(super) struct LeaseMetrics {
    granted: AtomicU64,
    refused: AtomicU64,
    uses: AtomicU64,
    returned: AtomicU64,
}

impl LeaseMetrics {
    pub(super) fn granted(&self, uses: usize) {
        self.granted.fetch_add(1, Ordering::Relaxed);
        self.uses.fetch_add(uses as u64, Ordering::Relaxed);
    }

    pub(super) fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn returned(&self, uses: usize) {
        self.returned.fetch_add(uses as u64, Ordering::Relaxed);
    }

    pub(super) fn render(&self, out: &mut String) {
        head(out, "leases_total", "counter", "Decisions ahead that a gate asked for, by result.");
        for (result, count) in [("granted", &self.granted), ("refused", &self.refused)] {
            line(out, &format!("leases_total{{result=\"{result}\"}}"), count.load(Ordering::Relaxed));
        }
        let help = "Requests that were decided ahead.";
        counter(out, "lease_uses_total", help, self.uses.load(Ordering::Relaxed));
        let help = "Of these, requests that did not come: what was reserved for them is given back.";
        counter(out, "lease_uses_returned_total", help, self.returned.load(Ordering::Relaxed));
    }
}
