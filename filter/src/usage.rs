//! Usage records on their way to the sidecar: kept until it acknowledges them, re-sent until then.
//!
//! One batch is in flight at a time and stays the same batch while it is retried, so that the sidecar can tell a
//! repetition by its call ids. The queue is bounded; what does not fit is handed back for Envoy's log, the last place
//! where a record can survive.

use std::collections::VecDeque;

use attache_llm::contract::VERSION;

use crate::said::Said;

/// First pause after a failed batch, milliseconds.
const RETRY_FIRST_MS: u64 = 100;
/// Longest pause between retries, milliseconds.
const RETRY_MAX_MS: u64 = 2_000;

/// Reports of attempts kept between two batches; what is beyond is lost.
const MAX_REPORTS: usize = 1_000;

/// Bytes of a batch, about: the sidecar takes 32 MiB.
const MAX_BATCH: usize = 4 * 1024 * 1024;

/// A record, as its JSON, so that a retry costs no work, and what is kept of what was said.
#[derive(Debug)]
struct Queued {
    record: String,
    said: Option<Said>,
}

impl Queued {
    fn len(&self) -> usize {
        self.record.len().saturating_add(self.said.as_ref().map_or(0, Said::len))
    }

    fn write(&self, out: &mut String) {
        match (&self.said, self.record.strip_suffix('}')) {
            (Some(said), Some(open)) => {
                out.push_str(open);
                out.push(',');
                out.push_str(said.members());
                out.push('}');
            }
            _ => out.push_str(&self.record),
        }
    }
}

/// Queue of one worker.
#[derive(Debug)]
pub struct UsageQueue {
    pending: VecDeque<Queued>,
    batch: Vec<Queued>,
    sent: bool,
    retry_at_ms: u64,
    pause_ms: u64,
    max: usize,
    batch_size: usize,
    /// Reports of attempts, as JSON. They go with the next batch, once: losing them is better than counting twice.
    reports: Vec<String>,
    /// Reservations that nobody used: they go with the next batch, once.
    returned: Vec<String>,
}

impl UsageQueue {
    #[must_use]
    pub fn new(max: usize, batch_size: usize) -> Self {
        Self {
            pending: VecDeque::new(),
            batch: Vec::new(),
            sent: false,
            retry_at_ms: 0,
            pause_ms: RETRY_FIRST_MS,
            max: max.max(1),
            batch_size: batch_size.max(1),
            reports: Vec::new(),
            returned: Vec::new(),
        }
    }

    pub fn configure(&mut self, max: usize, batch_size: usize) {
        self.max = max.max(1);
        self.batch_size = batch_size.max(1);
    }

    /// Records that the sidecar has not acknowledged.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pending.len().saturating_add(self.batch.len())
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0 && self.returned.is_empty()
    }

    /// Is a whole batch waiting, with none in flight? Then it should go now and not at the next tick.
    #[must_use]
    pub fn is_full_batch(&self) -> bool {
        self.batch.is_empty() && self.pending.len() >= self.batch_size
    }

    /// Adds a record. Returns the record that had to give way, if any: the oldest one not in flight. What was said is not
    /// for the log.
    pub fn push(&mut self, record: String, said: Option<Said>) -> Option<String> {
        self.pending.push_back(Queued { record, said });
        if self.len() > self.max { self.pending.pop_front().map(|queued| queued.record) } else { None }
    }

    /// Adds a report of an attempt, for the circuit breakers.
    pub fn report(&mut self, report: String) {
        if self.reports.len() < MAX_REPORTS && !report.is_empty() {
            self.reports.push(report);
        }
    }

    /// Adds reservations that were made ahead and not used.
    pub fn give_back(&mut self, unused: Vec<String>) {
        let room = MAX_REPORTS.saturating_sub(self.returned.len());
        self.returned.extend(unused.into_iter().take(room));
    }

    /// Body of the request to send now, if one is due. It must end in [`Self::acknowledged`] or [`Self::failed`].
    pub fn next_batch(&mut self, now_ms: u64) -> Option<String> {
        if self.sent || now_ms < self.retry_at_ms {
            return None;
        }
        if self.batch.is_empty() {
            let mut bytes = 0_usize;
            let fits = self.pending.iter().take(self.batch_size).take_while(|queued| {
                let first = bytes == 0;
                bytes = bytes.saturating_add(queued.len().max(1));
                first || bytes <= MAX_BATCH
            });
            let count = fits.count();
            self.batch = self.pending.drain(..count).collect();
        }
        if self.batch.is_empty() && self.reports.is_empty() && self.returned.is_empty() {
            return None;
        }
        self.sent = true;
        let mut body = format!(r#"{{"contract":{VERSION},"records":["#);
        for (number, queued) in self.batch.iter().enumerate() {
            if number > 0 {
                body.push(',');
            }
            queued.write(&mut body);
        }
        body.push(']');
        if !self.reports.is_empty() {
            let attempts = std::mem::take(&mut self.reports).join(",");
            body.push_str(&format!(r#","attempts":[{attempts}]"#));
        }
        if !self.returned.is_empty() {
            // Texts: this does not fail.
            let returned = serde_json::to_string(&std::mem::take(&mut self.returned)).unwrap_or_default();
            body.push_str(&format!(r#","returned":{returned}"#));
        }
        body.push('}');
        Some(body)
    }

    /// The batch is durable. Returns how many records it had.
    pub fn acknowledged(&mut self) -> usize {
        self.sent = false;
        self.retry_at_ms = 0;
        self.pause_ms = RETRY_FIRST_MS;
        std::mem::take(&mut self.batch).len()
    }

    /// The batch may or may not be durable: it is sent again after a pause. Returns how many records it has.
    pub fn failed(&mut self, now_ms: u64) -> usize {
        self.sent = false;
        self.retry_at_ms = now_ms.saturating_add(self.pause_ms);
        self.pause_ms = self.pause_ms.saturating_mul(2).min(RETRY_MAX_MS);
        self.batch.len()
    }

    /// Takes everything unacknowledged out, oldest first: the worker is going away. What was said is not for the log.
    pub fn drain(&mut self) -> Vec<String> {
        let batch = std::mem::take(&mut self.batch);
        batch.into_iter().chain(self.pending.drain(..)).map(|queued| queued.record).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::said::{Asked, Room};

    fn queue(max: usize, batch: usize, records: usize) -> UsageQueue {
        let mut queue = UsageQueue::new(max, batch);
        for n in 1..=records {
            assert_eq!(queue.push(n.to_string(), None), None);
        }
        queue
    }

    #[test]
    fn batches_follow_one_another_in_order() {
        let mut queue = queue(10, 2, 3);
        assert!(queue.is_full_batch());
        assert_eq!(queue.next_batch(0).as_deref(), Some(r#"{"contract":1,"records":[1,2]}"#));
        assert_eq!(queue.next_batch(0), None, "one at a time");
        assert_eq!(queue.acknowledged(), 2);
        assert_eq!(queue.next_batch(0).as_deref(), Some(r#"{"contract":1,"records":[3]}"#));
        assert_eq!(queue.acknowledged(), 1);
        assert_eq!(queue.next_batch(0), None);
        assert!(queue.is_empty());
    }

    #[test]
    fn a_failed_batch_comes_again_unchanged_after_a_growing_pause() {
        let mut queue = queue(10, 2, 2);
        let first = queue.next_batch(0);
        queue.push("3".into(), None);
        assert_eq!(queue.failed(0), 2);
        assert_eq!(queue.next_batch(99), None);
        assert_eq!(queue.next_batch(100), first, "the same records, so that the sidecar sees a repetition");
        let mut pauses = Vec::new();
        for _ in 0..6 {
            queue.failed(0);
            pauses.push(queue.retry_at_ms);
            queue.next_batch(queue.retry_at_ms);
        }
        assert_eq!(pauses, [200, 400, 800, 1_600, 2_000, 2_000]);
        queue.acknowledged();
        assert_eq!(queue.len(), 1);
        queue.next_batch(0);
        queue.failed(0);
        assert_eq!(queue.retry_at_ms, 100, "a success resets the pause");
    }

    fn said(room: &Room, text: &str) -> Said {
        Said::new(Asked::new(room, text.len(), text.as_bytes(), text.len()).unwrap(), None).unwrap()
    }

    #[test]
    fn what_was_said_goes_with_the_record_and_never_to_the_log() {
        let room = Room::new(100);
        let mut queue = UsageQueue::new(2, 10);
        queue.push(r#"{"a":1}"#.into(), Some(said(&room, "hi")));
        queue.push(r#"{"a":2}"#.into(), None);
        let body = queue.next_batch(0).unwrap();
        assert_eq!(body, r#"{"contract":1,"records":[{"a":1,"prompt":"hi"},{"a":2}]}"#);
        queue.failed(0);
        assert_eq!(queue.next_batch(100).unwrap(), body, "again, unchanged");
        assert!(room.left() < 100);
        queue.acknowledged();
        assert_eq!(room.left(), 100, "the sidecar has it");
        for n in 3..6 {
            let gone = queue.push(format!(r#"{{"a":{n}}}"#), Some(said(&room, "secret")));
            assert_eq!(gone.as_deref(), (n == 5).then_some(r#"{"a":3}"#));
        }
        assert_eq!(queue.drain(), [r#"{"a":4}"#, r#"{"a":5}"#]);
        assert_eq!(room.left(), 100);
    }

    #[test]
    fn a_batch_has_a_bound_in_bytes() {
        let room = Room::new(usize::MAX);
        let mut queue = UsageQueue::new(100, 10);
        for length in [MAX_BATCH, 100, MAX_BATCH / 2, MAX_BATCH, MAX_BATCH * 2] {
            queue.push("{}".into(), Some(said(&room, &"x".repeat(length))));
        }
        let mut sizes = Vec::new();
        while queue.next_batch(0).is_some() {
            sizes.push(queue.acknowledged());
        }
        assert_eq!(sizes, [1, 2, 1, 1], "never none");
    }

    #[test]
    fn reports_go_once_with_or_without_records() {
        let mut queue = queue(10, 2, 0);
        queue.report(r#"{"a":1}"#.into());
        let first = r#"{"contract":1,"records":[],"attempts":[{"a":1}]}"#;
        assert_eq!(queue.next_batch(0).as_deref(), Some(first));
        queue.push("1".into(), None);
        queue.report(r#"{"a":2}"#.into());
        queue.failed(0);
        let second = r#"{"contract":1,"records":[1],"attempts":[{"a":2}]}"#;
        assert_eq!(
            queue.next_batch(100).as_deref(),
            Some(second),
            "the first report is lost, not told twice"
        );
        queue.acknowledged();
        assert_eq!(queue.next_batch(1_000), None);
        for _ in 0..MAX_REPORTS + 5 {
            queue.report("1".into());
        }
        assert_eq!(queue.reports.len(), MAX_REPORTS);
    }

    #[test]
    fn what_nobody_used_goes_back_once() {
        let mut queue = queue(10, 2, 1);
        queue.give_back(vec!["1/a/0".into(), "1/b/0".into()]);
        let first = r#"{"contract":1,"records":[1],"returned":["1/a/0","1/b/0"]}"#;
        assert_eq!(queue.next_batch(0).as_deref(), Some(first));
        queue.failed(0);
        assert_eq!(queue.next_batch(100).as_deref(), Some(r#"{"contract":1,"records":[1]}"#));
        queue.acknowledged();
        queue.give_back(vec!["1/c/0".into()]);
        assert!(!queue.is_empty(), "it is waited for");
        let alone = r#"{"contract":1,"records":[],"returned":["1/c/0"]}"#;
        assert_eq!(queue.next_batch(0).as_deref(), Some(alone));
    }

    #[test]
    fn beyond_the_bound_the_oldest_not_in_flight_gives_way() {
        let mut queue = queue(3, 1, 3);
        queue.next_batch(0);
        assert_eq!(queue.push("4".into(), None).as_deref(), Some("2"));
        assert_eq!(queue.drain(), ["1", "3", "4"]);
        assert!(queue.is_empty());
    }
}
