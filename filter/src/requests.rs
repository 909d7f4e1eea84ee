//! What gate and adapter know together of one request, and the usage record it ends in.

use std::rc::Rc;

use attache_llm::contract::{AttemptOutcome, AttemptRecord, KeyRecord, Note, UsageRecord};
use attache_llm::path::Endpoint;
use attache_llm::price::Price;
use attache_llm::scan::Scanned;

/// Attempts recorded per request; more than any plan has.
const MAX_ATTEMPTS: usize = 32;
/// Envoy's response flag "downstream connection termination".
const FLAG_DOWNSTREAM_GONE: i64 = 0x4000;

/// Facts of a request after its body was scanned. The adapter works from these on each attempt, because Envoy hands
/// the headers of one attempt, changed, to the next.
#[derive(Debug)]
pub struct Request {
    pub call_id: String,
    pub key: Rc<KeyRecord>,
    pub endpoint: Endpoint,
    /// Model as the client named it.
    pub model: String,
    /// What the scan of the body found, with the places to edit.
    pub scan: Scanned,
    pub start_us: u64,
    pub request_id: String,
    pub first_event_us: Option<u64>,
    pub attempts: Vec<Attempt>,
    /// Headers that the last attempt set for its deployment alone.
    pub headers_set: Vec<String>,
}

/// An attempt with what the statistics need beside the record.
#[derive(Debug)]
pub struct Attempt {
    pub record: AttemptRecord,
    pub price: Option<Price>,
}

/// How Envoy says the request ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ending {
    /// Status that the client saw; 0 for none.
    pub status: u16,
    pub details: String,
    pub flags: i64,
    pub now_us: u64,
}

impl Ending {
    /// Did the client leave before the answer was whole?
    #[must_use]
    pub fn aborted(&self) -> bool {
        self.flags & FLAG_DOWNSTREAM_GONE != 0 || self.details.starts_with("downstream_")
    }
}

impl Request {
    /// Notes an attempt that was just sent. Returns its place.
    pub fn begin_attempt(
        &mut self,
        deployment: &str,
        group: &str,
        cluster: &str,
        price: Option<Price>,
    ) -> usize {
        let record = AttemptRecord {
            deployment: deployment.to_owned(),
            cluster: cluster.to_owned(),
            group: group.to_owned(),
            outcome: AttemptOutcome::NoAnswer,
            status: 0,
            retry_after_s: None,
            ..AttemptRecord::default()
        };
        if self.attempts.len() < MAX_ATTEMPTS {
            self.attempts.push(Attempt { record, price });
        }
        self.attempts.len().saturating_sub(1)
    }

    /// Attempts beyond the first, apart by kind: in the same model group, and to another one. A first attempt
    /// outside the group `planned` for is a fallback too: all of that group was cooling.
    #[must_use]
    pub fn retries_and_fallbacks(&self, planned: Option<&str>) -> (u64, u64) {
        let first = self.attempts.first().map(|attempt| attempt.record.group.as_str());
        let passed_over = planned.zip(first).is_some_and(|(planned, first)| planned != first);
        let (mut retries, mut fallbacks) = (0_u64, u64::from(passed_over));
        for (before, after) in self.attempts.iter().zip(self.attempts.iter().skip(1)) {
            let count = if before.record.group == after.record.group { &mut retries } else { &mut fallbacks };
            *count = count.saturating_add(1);
        }
        (retries, fallbacks)
    }

    /// Deployment of the last attempt: the one whose answer the client got.
    #[must_use]
    pub fn last_deployment(&self) -> Option<&str> {
        self.attempts.last().map(|attempt| attempt.record.deployment.as_str())
    }

    /// Did the request get as far as a decision or an upstream? Only then is it recorded.
    #[must_use]
    pub fn is_recorded(&self, note: Option<&Note>, ending: &Ending) -> bool {
        note.is_some() || !self.attempts.is_empty() || ending.details.starts_with("attache_")
    }

    /// The usage record.
    #[must_use]
    pub fn record(&self, note: Option<&Note>, ending: &Ending) -> UsageRecord {
        UsageRecord {
            call_id: self.call_id.clone(),
            key: self.key.id.clone(),
            endpoint: self.endpoint,
            model: self.model.clone(),
            group: note.map(|note| note.group.clone()).unwrap_or_default(),
            reservation: note.and_then(|note| note.reservation.clone()),
            replans: 0,
            stream: self.scan.stream,
            user: self.scan.user.clone(),
            start_us: self.start_us,
            duration_us: ending.now_us.saturating_sub(self.start_us),
            first_event_us: self.first_event_us,
            status: ending.status,
            details: ending.details.clone(),
            aborted: ending.aborted(),
            input_estimate: self.scan.input_tokens(),
            request_id: self.request_id.clone(),
            attempts: self.attempts.iter().map(|attempt| attempt.record.clone()).collect(),
        }
    }

    /// Label `outcome` of `attache.requests`.
    #[must_use]
    pub fn outcome(&self, note: Option<&Note>, ending: &Ending) -> &'static str {
        if ending.aborted() {
            return "aborted";
        }
        let last = self.attempts.last().map(|attempt| attempt.record.outcome);
        let broken = matches!(last, Some(AttemptOutcome::ErrorInStream | AttemptOutcome::FailedFirstEvent))
            || ending.details.starts_with("upstream_reset_after_response_started");
        match (ending.status, last) {
            (200..=399, _) if !broken => "success",
            (0 | 500.., None) if note.is_some() => "upstream_error",
            (_, None) => "refused",
            // These speak of the gateway's credential, limits or configuration at the provider, not of the caller.
            (401 | 403 | 404 | 408 | 429, _) => "upstream_error",
            (400..=499, _) => "client_error",
            _ => "upstream_error",
        }
    }
}

/// Snake-case name of an outcome, for metrics.
#[must_use]
pub fn outcome_name(outcome: AttemptOutcome) -> &'static str {
    match outcome {
        AttemptOutcome::NoAnswer => "no_answer",
        AttemptOutcome::Answered => "answered",
        AttemptOutcome::Complete => "complete",
        AttemptOutcome::ErrorStatus => "error_status",
        AttemptOutcome::FailedFirstEvent => "failed_first_event",
        AttemptOutcome::ErrorInStream => "error_in_stream",
    }
}

#[cfg(test)]
#[path = "requests_tests.rs"]
mod tests;
