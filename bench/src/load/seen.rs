//! What one thread saw; threads are added up at the end.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::pace::Clock;
use super::watch::{Failure, Watch};

/// Longest time that is told apart, microseconds: an hour.
const LONGEST: u64 = 3_600_000_000;
/// Significant digits.
const DIGITS: u8 = 3;
/// Sent later than this after it was due, a request is counted as late.
const LATE: Duration = Duration::from_millis(1);

/// Microseconds by how often they were seen.
#[derive(Debug)]
pub(super) struct Times(pub Histogram<u64>);

impl Default for Times {
    fn default() -> Self {
        Self(Histogram::new_with_max(LONGEST, DIGITS).expect("the bounds are constants that it accepts"))
    }
}

impl Times {
    fn record(&mut self, time: Duration) {
        self.0.saturating_record(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }

    fn add(&mut self, other: &Self) {
        // Both have the same bounds.
        self.0.add(&other.0).expect("histograms of the same bounds");
    }
}

/// Requests that were due before the window.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct WarmUp {
    pub requests: u64,
    pub errors: u64,
    /// Open loop: not sent before it ended.
    pub dropped: u64,
}

/// Counts and times of the requests that were due within the window, unless said otherwise.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub good: u64,
    pub errors: u64,
    /// Good answers that ended within the window, whenever they were due: the throughput.
    pub good_ended: u64,
    /// All answers and failures that ended within the window: what the processes worked for.
    pub ended: u64,
    /// Of good answers: due to whole.
    pub total: Times,
    /// Due to the first byte of the body.
    pub first_byte: Times,
    /// Of good streams: due to the first event, and from one event to the next.
    pub first_event: Times,
    pub gap: Times,
    pub events: u64,
    /// Due to sent, of all requests.
    pub delay: Times,
    pub late: u64,
    /// Of answers' bodies.
    pub bytes: u64,
    pub statuses: BTreeMap<u16, u64>,
    /// Statuses of what was no good answer; 0: none came.
    pub bad: BTreeMap<u16, u64>,
    pub failures: BTreeMap<&'static str, u64>,
    pub limited: u64,
    pub limited_with_retry_after: u64,
    pub warm_up: WarmUp,
    /// Open loop: how many were due, and how many of them were not sent before the window ended.
    pub due: u64,
    pub dropped: u64,
}

impl Seen {
    /// A request has ended.
    pub(super) fn record(&mut self, watch: &Watch, result: Result<(), Failure>, clock: &Clock) {
        let now = Instant::now();
        let ended_inside = now >= clock.begin && now < clock.end;
        self.ended += u64::from(ended_inside);
        self.good_ended += u64::from(ended_inside && result.is_ok());
        if watch.due < clock.begin {
            self.warm_up.requests += u64::from(result.is_ok());
            self.warm_up.errors += u64::from(result.is_err());
            return;
        }
        let delay = watch.sent.saturating_duration_since(watch.due);
        self.delay.record(delay);
        self.late += u64::from(delay > LATE);
        self.bytes += watch.bytes;
        if watch.status != 0 {
            *self.statuses.entry(watch.status).or_default() += 1;
        }
        if watch.status == 429 {
            self.limited += 1;
            self.limited_with_retry_after += u64::from(watch.retry_after);
        }
        match result {
            Ok(()) => self.good(watch, now),
            Err(failure) => {
                self.errors += 1;
                *self.bad.entry(watch.status).or_default() += 1;
                *self.failures.entry(failure.name()).or_default() += 1;
            }
        }
    }

    fn good(&mut self, watch: &Watch, now: Instant) {
        self.good += 1;
        self.total.record(now - watch.due);
        if let Some(first) = watch.first_byte {
            self.first_byte.record(first - watch.due);
        }
        if let Some(first) = watch.first_event {
            self.first_event.record(first - watch.due);
        }
        self.events += watch.events();
        watch.gaps.iter().for_each(|gap| self.gap.record(*gap));
    }

    /// Takes in what another thread saw.
    pub(super) fn add(&mut self, other: &Self) {
        self.good += other.good;
        self.errors += other.errors;
        self.good_ended += other.good_ended;
        self.ended += other.ended;
        self.total.add(&other.total);
        self.first_byte.add(&other.first_byte);
        self.first_event.add(&other.first_event);
        self.gap.add(&other.gap);
        self.events += other.events;
        self.delay.add(&other.delay);
        self.late += other.late;
        self.bytes += other.bytes;
        sum(&mut self.statuses, &other.statuses);
        sum(&mut self.bad, &other.bad);
        sum(&mut self.failures, &other.failures);
        self.limited += other.limited;
        self.limited_with_retry_after += other.limited_with_retry_after;
        self.warm_up.requests += other.warm_up.requests;
        self.warm_up.errors += other.warm_up.errors;
        self.warm_up.dropped += other.warm_up.dropped;
        self.due += other.due;
        self.dropped += other.dropped;
    }
}

fn sum<K: Ord + Copy>(all: &mut BTreeMap<K, u64>, more: &BTreeMap<K, u64>) {
    for (key, count) in more {
        *all.entry(*key).or_default() += count;
    }
}
