//! What gate and adapter know together of one request, and the usage record it ends in.

use std::rc::Rc;

use attache_llm::class::ErrorClass;
use attache_llm::contract::{
    Ask, AttemptOutcome, AttemptRecord, AttemptReport, KeyRecord, Note, Replan, Tried, UsageRecord, VERSION,
    Walk,
};
use attache_llm::error::{envelope, kind_of_status};
use attache_llm::path::Endpoint;
use attache_llm::price::Price;
use attache_llm::scan::Scanned;
use attache_llm::usage::Usage;

use crate::said::Asked;
use crate::shown::Shown;
use crate::walk;

/// Attempts recorded per request: most have one, and a plan has twelve.
const MAX_ATTEMPTS: usize = 64;
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
    /// What the scan of the body found, with the places to edit and the wishes of body and headers.
    pub scan: Scanned,
    pub origin: Origin,
    /// The caller asked for the decision, not for an answer.
    pub explain: bool,
    pub start_us: u64,
    pub request_id: String,
    pub first_event_us: Option<u64>,
    pub attempts: Vec<Attempt>,
    /// Headers that the last attempt set for its deployment alone.
    pub headers_set: Vec<String>,
    pub passes: Passes,
    /// What is asked, where it is to be kept.
    pub asked: Option<Asked>,
    /// Answer of the last attempt, if it was an error: what the client gets when no other attempt follows.
    pub kept: Option<Kept>,
}

/// Request headers as the client sent them. Attempts and redirects overwrite them in place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    pub path: String,
    pub authority: String,
    pub scheme: String,
    /// `anthropic-beta`.
    pub beta: Option<String>,
}

/// How far a request is in its plans. A pass is one run of it through gate, sidecar and plan.
#[derive(Debug, Default)]
pub struct Passes {
    /// Number of the current one, from 0.
    pub number: u32,
    /// Steps of the current plan that were begun.
    pub steps: usize,
    /// Unix microseconds at which Envoy was asked to redirect: only then may another pass begin.
    pub asked_us: Option<u64>,
    /// The last answer of an attempt is not what Envoy sends on: a step or pass without an attempt came after it.
    pub detached: bool,
    /// Note of the decision that was last asked to be replaced.
    pub note: Option<Note>,
    /// Group that the first pass planned for.
    pub group: Option<String>,
    /// What the first pass tells the client of its limits; later passes reserve nothing of them. Here from the beginning where
    /// it was decided ahead, else in the pass's note until another one begins.
    pub headers: Shown,
    /// The gate waits for the sidecar's decision about this pass.
    pub undecided: bool,
    /// Note of this pass's decision, where the gate asked for it. The gate takes it out when it answers.
    pub decided: Option<Note>,
    /// Walk of the current plan, read when it is first needed.
    pub walk: WalkState,
}

/// The walk in the dynamic metadata.
#[derive(Debug, Clone, Default)]
pub enum WalkState {
    #[default]
    Unread,
    Read(Option<Rc<Walk>>),
}

/// An error answer kept for the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    pub status: u16,
    /// JSON, at most 64 KiB.
    pub body: Vec<u8>,
    pub retry_after_s: Option<u64>,
}

/// An attempt with what is needed beside the record.
#[derive(Debug)]
pub struct Attempt {
    pub record: AttemptRecord,
    pub price: Option<Price>,
    /// Unix microseconds.
    pub start_us: u64,
}

/// Where an attempt goes.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    pub deployment: &'a str,
    pub group: &'a str,
    pub cluster: &'a str,
    /// Provider's model name, where the deployment's own is a pattern.
    pub model: Option<&'a str>,
    pub price: Option<&'a Price>,
}

/// How Envoy says the request ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ending {
    /// Status that the client saw; 0 for none.
    pub status: u16,
    pub details: String,
    pub flags: i64,
    pub now_us: u64,
    /// The client left, and the last attempt had a connection: its request was on the way.
    pub sent: bool,
}

impl Ending {
    /// Did the client leave before the answer was whole?
    #[must_use]
    pub fn aborted(&self) -> bool {
        self.flags & FLAG_DOWNSTREAM_GONE != 0 || self.details.starts_with("downstream_")
    }
}

impl Attempt {
    /// Notes why it failed.
    pub fn fail(&mut self, class: ErrorClass, now_us: u64) {
        self.record.class = Some(class);
        self.ended(now_us);
    }

    fn ended(&mut self, now_us: u64) {
        if self.record.duration_us == 0 {
            self.record.duration_us = now_us.saturating_sub(self.start_us);
        }
    }

    /// Takes over how the attempt stands.
    pub fn update(&mut self, outcome: AttemptOutcome, now_us: u64) {
        let record = &mut self.record;
        let worse = outcome == AttemptOutcome::ErrorInStream && record.outcome != outcome;
        record.outcome = outcome;
        if worse {
            // What was told of a good first event no longer holds.
            record.reported = false;
        }
        if outcome == AttemptOutcome::Complete {
            self.ended(now_us);
            self.first_event(now_us);
        }
    }

    /// The first good event, or for an answer in one piece its end.
    pub fn first_event(&mut self, now_us: u64) {
        self.record.first_event_us.get_or_insert(now_us.saturating_sub(self.start_us));
    }

    /// What to tell the circuit breakers before the request's record; once only.
    pub fn report(&mut self) -> Option<AttemptReport> {
        let record = &mut self.record;
        if std::mem::replace(&mut record.reported, true) {
            return None;
        }
        Some(AttemptReport {
            deployment: record.deployment.clone(),
            outcome: record.outcome,
            status: record.status,
            class: record.class,
            retry_after_s: record.retry_after_s,
        })
    }
}

impl Kept {
    /// For the client of an attempt that never answered.
    fn silent(class: Option<ErrorClass>) -> Self {
        let (status, message) = match class {
            Some(ErrorClass::Timeout) => (504, "The request timed out before an answer came."),
            _ => (503, "The model's provider could not be reached. Try again shortly."),
        };
        let body = envelope(message, kind_of_status(status), None, Some(&status.to_string()));
        Self { status, body, retry_after_s: (status == 503).then_some(1) }
    }
}

impl Request {
    /// The question to the sidecar, `replan` on every pass but the first.
    #[must_use]
    pub fn ask(&self, replan: Option<Replan>) -> Ask {
        Ask {
            contract: VERSION,
            call_id: self.call_id.clone(),
            key: self.key.id.clone(),
            endpoint: self.endpoint,
            model: self.model.clone(),
            stream: self.scan.stream,
            input_tokens: self.scan.input_tokens(),
            max_tokens: self.scan.max_tokens,
            n: self.scan.n,
            needs: self.scan.needs.iter().map(|need| (*need).to_owned()).collect(),
            user: self.scan.user.clone(),
            wishes: self.scan.wishes.clone(),
            replan,
            explain: self.explain,
            again: 0,
        }
    }

    /// Notes an attempt that was just sent, and what became of the one before. Returns its place. The walk must be read
    /// if there was one.
    pub fn begin_attempt(&mut self, target: &Target<'_>, now_us: u64) -> usize {
        self.begin_step(now_us);
        (self.kept, self.passes.detached) = (None, false);
        let record = AttemptRecord {
            deployment: target.deployment.to_owned(),
            cluster: target.cluster.to_owned(),
            group: target.group.to_owned(),
            model: target.model.map(str::to_owned),
            pass: self.passes.number,
            ..AttemptRecord::default()
        };
        if self.attempts.len() < MAX_ATTEMPTS {
            self.attempts.push(Attempt { record, price: target.price.cloned(), start_us: now_us });
        }
        self.attempts.len().saturating_sub(1)
    }

    /// The step that asks for another plan began: it is no attempt.
    pub fn begin_replan(&mut self, now_us: u64) {
        self.begin_step(now_us);
        self.passes.detached = true;
    }

    fn begin_step(&mut self, now_us: u64) {
        let per_try_ms = self.walk().map_or(0, |walk| walk.per_try_ms);
        self.judge_last(now_us, |took_us| walk::silent_class(took_us, per_try_ms));
        self.passes.steps = self.passes.steps.saturating_add(1);
    }

    /// Finds a class for the last attempt if it failed without one: it had no answer, or not all of one.
    fn judge_last(&mut self, now_us: u64, silent: impl FnOnce(u64) -> ErrorClass) {
        let Some(last) = self.attempts.last_mut() else { return };
        if !last.record.outcome.is_failure() || last.record.class.is_some() {
            return;
        }
        let class = match last.record.status {
            status @ 400.. => ErrorClass::of_status(status),
            _ => silent(now_us.saturating_sub(last.start_us)),
        };
        last.fail(class, now_us);
    }

    /// Failures that nobody told of yet: the request goes on elsewhere.
    pub fn report_failures(&mut self) -> Vec<AttemptReport> {
        let failed = self.attempts.iter_mut().filter(|attempt| attempt.record.class.is_some());
        failed.filter_map(Attempt::report).collect()
    }

    /// Walk of the current plan, if it was read and there is one.
    #[must_use]
    pub fn walk(&self) -> Option<&Walk> {
        match &self.passes.walk {
            WalkState::Read(walk) => walk.as_deref(),
            WalkState::Unread => None,
        }
    }

    /// The sidecar decided about this pass. (Where ext_proc asked, note and walk are in the dynamic metadata.)
    pub fn decided(&mut self, note: Note, walk: Option<Rc<Walk>>) {
        self.passes.decided = Some(note).filter(|note| note.contract == VERSION);
        let walk = walk.filter(|walk| walk.contract == VERSION);
        self.passes.walk = WalkState::Read(walk);
    }

    /// Envoy is asked to redirect: another pass may begin. `note` is the decision's that is to be replaced.
    pub fn ask_again(&mut self, mut note: Option<Note>, now_us: u64) {
        self.passes.asked_us = Some(now_us);
        if let Some(note) = note.as_mut().filter(|note| !note.response_headers.is_empty()) {
            self.passes.headers = std::mem::take(&mut note.response_headers).into();
        }
        if self.passes.group.is_none() {
            self.passes.group = note.as_ref().map(|note| note.group.clone());
        }
        self.passes.note = note;
    }

    /// Begins the next pass, if Envoy was asked for it: the question to the sidecar.
    pub fn begin_pass(&mut self) -> Option<Ask> {
        self.passes.asked_us.take()?;
        let passes = &mut self.passes;
        passes.number = passes.number.saturating_add(1);
        (passes.steps, passes.detached, passes.walk) = (0, true, WalkState::Unread);
        passes.decided = None;
        let replan = Replan {
            pass: passes.number,
            reservation: passes.note.as_ref().and_then(|note| note.reservation.clone()),
            owner: passes.note.as_ref().and_then(|note| note.owner.clone()),
            tried: self.tried(),
        };
        Some(self.ask(Some(replan)))
    }

    fn tried(&self) -> Vec<Tried> {
        let tried = |attempt: &Attempt| {
            let record = &attempt.record;
            Some(Tried {
                deployment: record.deployment.clone(),
                group: record.group.clone(),
                class: record.class?,
                pass: record.pass,
            })
        };
        self.attempts.iter().filter_map(tried).collect()
    }

    /// Group and class of the last failure: what the next pass is for.
    #[must_use]
    pub fn last_failure(&self) -> Option<(&str, ErrorClass)> {
        let record = &self.attempts.last()?.record;
        Some((record.group.as_str(), record.class?))
    }

    /// The pass `number` is over. Does the request go on in another one? `answered`: Envoy sent an answer on.
    #[must_use]
    pub fn lives_on(&self, number: u32, answered: bool, ending: &Ending) -> bool {
        // Nothing depends on which comes first, the end of one pass or the beginning of the next.
        let asked = self.passes.asked_us.is_some() && !answered && !ending.aborted();
        self.passes.number > number || asked
    }

    /// What the client gets in place of an answer that is not the last attempt's: where Envoy made it (not
    /// `from_upstream`), or where a step or pass without an attempt came after it.
    #[must_use]
    pub fn in_place_of(&self, status: u16, from_upstream: bool) -> Option<Kept> {
        if !self.passes.detached && from_upstream {
            return None;
        }
        // A redirect that was not followed is no answer at all, the sidecar's own error is one.
        let silent = (status == 307).then(|| Kept::silent(self.last_failure().map(|(_, class)| class)));
        self.kept.clone().or(silent)
    }

    /// The request is over: judges the last attempt and gives it its end.
    pub fn close(&mut self, ending: &Ending) {
        let per_try_ms = self.walk().map_or(0, |walk| walk.per_try_ms);
        if !ending.aborted() {
            self.judge_last(ending.now_us, |took_us| {
                walk::silent_class_at_end(&ending.details, took_us, per_try_ms)
            });
        }
        if let Some(last) = self.attempts.last_mut() {
            last.ended(ending.now_us);
            // A provider charges for what it began, whether or not anyone waits for it.
            if ending.sent && last.record.outcome == AttemptOutcome::NoAnswer && last.record.usage.is_none() {
                last.record.usage = Some(Usage::estimate(self.scan.input_tokens(), 0));
            }
        }
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
        let decided = note.is_some() || ending.details.starts_with("attache_");
        (decided && !self.explain) || !self.attempts.is_empty()
    }

    /// Group that was planned for: the first plan's, `note` being the last one's.
    #[must_use]
    pub fn planned<'a>(&'a self, note: Option<&'a Note>) -> Option<&'a str> {
        self.passes.group.as_deref().or_else(|| note.map(|note| note.group.as_str()))
    }

    /// The usage record.
    #[must_use]
    pub fn record(&self, note: Option<&Note>, ending: &Ending) -> UsageRecord {
        // A pass that the sidecar never heard of left the reservation of the pass before as it was.
        let heard = note.is_some() || ending.details.starts_with("attache_");
        // What is reserved for the caller is held over all passes, also where the last one was refused.
        let owner = note.or(self.passes.note.as_ref()).and_then(|note| note.owner.clone());
        let (number, note) = match self.passes.number {
            number @ 1.. if !heard => (number.saturating_sub(1), self.passes.note.as_ref()),
            number => (number, note),
        };
        UsageRecord {
            call_id: self.call_id.clone(),
            key: self.key.id.clone(),
            endpoint: self.endpoint,
            model: self.model.clone(),
            group: self.planned(note).unwrap_or_default().to_owned(),
            reservation: note.and_then(|note| note.reservation.clone()),
            owner,
            replans: number,
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
            prompt: None,
            answer: None,
        }
    }

    /// Label `outcome` of `attache.requests`.
    #[must_use]
    pub fn outcome(&self, note: Option<&Note>, ending: &Ending) -> &'static str {
        if ending.aborted() {
            return "aborted";
        }
        if self.explain && ending.status < 400 {
            return "explained";
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

#[cfg(test)]
#[path = "requests_tests.rs"]
pub(crate) mod tests;
