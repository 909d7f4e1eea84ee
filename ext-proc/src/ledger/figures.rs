//! What the books count, for `/metrics`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the histogram of writes, microseconds.
const WRITE_BUCKETS_US: [u64; 12] = [
    1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 10_000_000,
];

/// Counters since the start of the process.
#[derive(Debug, Default)]
pub struct Figures {
    written: AtomicU64,
    duplicates: AtomicU64,
    dropped: AtomicU64,
    set_aside: AtomicU64,
    pub writes: WriteTimes,
}

/// How long transactions of the ledger took.
#[derive(Debug, Default)]
pub struct WriteTimes {
    buckets: [AtomicU64; WRITE_BUCKETS_US.len()],
    count: AtomicU64,
    sum_us: AtomicU64,
}

fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}

fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

impl Figures {
    /// A transaction of `rows` rows is committed, `new` of which were not there before.
    pub(super) fn wrote(&self, rows: u64, new: u64, took: Duration) {
        add(&self.written, new);
        add(&self.duplicates, rows.saturating_sub(new));
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        if let Some(bucket) = WRITE_BUCKETS_US.iter().position(|&bound| micros <= bound) {
            add(&self.writes.buckets[bucket], 1);
        }
        add(&self.writes.count, 1);
        add(&self.writes.sum_us, micros);
    }

    pub(super) fn set_aside(&self, rows: u64) {
        add(&self.set_aside, rows);
    }

    pub(super) fn lost(&self, rows: u64) {
        add(&self.dropped, rows);
    }

    /// Rows that are in the database because this process put them there.
    #[must_use]
    pub fn rows_written(&self) -> u64 {
        get(&self.written)
    }

    /// Rows that were in the database already.
    #[must_use]
    pub fn duplicates(&self) -> u64 {
        get(&self.duplicates)
    }

    /// Rows that were acknowledged to Envoy and are gone. Must stay zero.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        get(&self.dropped)
    }

    /// Rows that the database refuses and lines that cannot be read, kept in files beside the spool.
    #[must_use]
    pub fn rows_set_aside(&self) -> u64 {
        get(&self.set_aside)
    }
}

impl WriteTimes {
    /// Per bound (microseconds), the writes that took no longer; then their number and their microseconds.
    #[must_use]
    pub fn read(&self) -> (Vec<(u64, u64)>, u64, u64) {
        let mut below = 0;
        let buckets = WRITE_BUCKETS_US.iter().zip(&self.buckets);
        let buckets = buckets.map(|(bound, bucket)| {
            below += get(bucket);
            (*bound, below)
        });
        (buckets.collect(), get(&self.count), get(&self.sum_us))
    }
}
