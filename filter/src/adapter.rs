//! The adapter: the upstream half of the filter, once per attempt. It speaks the deployment's language on the way
//! out, and on the way back reads what the answer cost, whether it is one, and where to go if it is not.
//!
//! Envoy's ways that shape it: the body of each attempt is the original, but the headers are those that the attempt
//! before left behind, so every header is set absolutely. In the request phase nothing can be handed back to the
//! router (a local reply would end the request), so translation never fails. In the response phase `:status` decides
//! about another attempt. `on_log` is never called here, so the shared record is kept current on every event.

mod whole;

use std::rc::Rc;

use attache_llm::contract::{
    AttemptOutcome, DEPLOYMENT_KEY, HEADER_PREFIX, MAX_PASSES, METADATA_NAMESPACE, NOTE_KEY, Note, VERSION,
    WAIT_HEADER, WALK_KEY, Walk,
};
use attache_llm::dialect::attempt::Back;
use attache_llm::edit::BodyEdits;
use attache_llm::error::ApiError;
use attache_llm::response::RewriteOptions;
use attache_llm::wildcard;
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::{Action, BufferType, MapType};

use crate::answer::{self, Answer, Flow, Head, Release};
use crate::gate::{CALL_HEADER, CALL_PROPERTY};
use crate::headers::Headers;
use crate::host;
use crate::outgoing::{self, MIRROR_HEADER, Outgoing, Whole};
use crate::redirect::{self, STATUS_HEADER};
use crate::requests::{Attempt, Kept, Request, WalkState};
use crate::vm::{self, Upstream, Vm};
use crate::walk::{self, Failed, Move};

/// Edits within this many bytes are made in one piece; beyond it the body is turned over slice by slice.
const SLICE: usize = 64 * 1024;

/// Response headers that speak of the provider's account, or would move the client to another host.
const NOT_FOR_CLIENTS: [&str; 6] = [
    "openai-organization",
    "openai-project",
    "alt-svc",
    "strict-transport-security",
    "location",
    "www-authenticate",
];

/// Response headers that mean something to Envoy's router or to the gate. Ours to set, not a provider's.
const RESPONSE_PREFIXES: [&str; 2] = [HEADER_PREFIX, "x-envoy-"];

/// Context of one attempt.
#[derive(Default)]
pub struct Adapter {
    call_id: String,
    /// Not an attempt: the sidecar is asked for another plan.
    replan: bool,
    /// Not an attempt: a copy of the request, whose answer nobody reads.
    mirrored: bool,
    /// The router is about to copy this attempt's request: headers wait for the body.
    copied: bool,
    /// Place of this attempt in the record.
    attempt: usize,
    edits: BodyEdits,
    /// The body is rewritten whole; headers wait for it.
    whole: Option<Box<Whole>>,
    /// How the answer is to be read.
    back: Back,
    /// Bytes of the original body seen.
    offset: usize,
    options: RewriteOptions,
    answer: Option<Answer>,
    /// Status as the upstream sent it, and its `retry-after`.
    status: u16,
    retry_after_s: Option<u64>,
    /// Request bytes held, for an end that comes as trailers.
    request_held: usize,
    /// Response bytes held, for an end that comes as trailers.
    held: usize,
}

impl Adapter {
    /// Begins the step of the plan: an attempt, or (`None`) the question for another plan.
    fn begin(&self, mirrored: bool) -> Result<Option<Outgoing>, String> {
        let cluster = host::text(&["xds", "cluster_name"]).unwrap_or_default();
        let path = ["xds", "cluster_metadata", "filter_metadata", METADATA_NAMESPACE, DEPLOYMENT_KEY];
        let text =
            host::property(&path).ok_or_else(|| format!("cluster {cluster} has no deployment metadata"))?;
        let (upstream, steps) = vm::with(|vm| {
            let steps = vm.requests.get(&self.call_id).map(|request| request.passes.steps);
            Some((vm.upstream(&cluster, text), steps?))
        })
        .flatten()
        .ok_or("no record of the request")?;
        let upstream = upstream.map_err(|error| format!("cluster {cluster}: {error}"))?;
        if mirrored {
            return self.copy(&cluster, &upstream).map(Some);
        }
        // A plan of one good attempt does not pay for the walk.
        let pattern = matches!(&upstream, Upstream::Deployment(meta) if wildcard::is_pattern(&meta.model));
        if steps > 0 || pattern {
            self.read_walk();
        }
        vm::with(|vm| {
            let Vm { requests, usage, .. } = vm;
            let request = requests.get_mut(&self.call_id).ok_or("no record of the request")?;
            let outgoing = match upstream {
                Upstream::Replan => {
                    request.begin_replan(host::now_us());
                    None
                }
                Upstream::Deployment(meta) => Some(outgoing::outgoing(request, &cluster, &meta, steps)?),
            };
            for report in request.report_failures() {
                usage.report(serde_json::to_string(&report).unwrap_or_default());
            }
            Ok(outgoing)
        })
        .unwrap_or_else(|| Err("state is busy".into()))
    }

    /// A copy of the request: no attempt of it, and nothing of its answer is read.
    fn copy(&self, cluster: &str, upstream: &Upstream) -> Result<Outgoing, String> {
        let Upstream::Deployment(meta) = upstream else { return Err(format!("{cluster} is no deployment")) };
        vm::with(|vm| {
            vm.stats.count("mirrored", 1);
            vm.requests.get(&self.call_id).map(|request| outgoing::copy(request, cluster, meta))
        })
        .flatten()
        .unwrap_or_else(|| Err("no record of the request".into()))
    }

    /// Makes sure that the plan's walk is in the record.
    fn read_walk(&self) {
        let unread = vm::with(|vm| {
            let request = vm.requests.get(&self.call_id)?;
            Some(matches!(request.passes.walk, WalkState::Unread))
        });
        if unread.flatten() != Some(true) {
            return;
        }
        let text = host::property(&["metadata", "filter_metadata", METADATA_NAMESPACE, WALK_KEY]);
        let walk = text.and_then(|text| serde_json::from_slice::<Walk>(&text).ok());
        let walk = walk.filter(|walk| walk.contract == VERSION).map(Rc::new);
        self.request(|request| request.passes.walk = WalkState::Read(walk));
    }

    /// Runs `act` on the shared record. Not there when the client left already.
    fn request<R>(&self, act: impl FnOnce(&mut Request) -> R) -> Option<R> {
        vm::with(|vm| vm.requests.get_mut(&self.call_id).map(act)).flatten()
    }

    /// Runs `act` on this attempt's entry in the record. A copy of the request has none.
    fn record<R>(&self, act: impl FnOnce(&mut Attempt) -> R) -> Option<R> {
        if self.mirrored {
            return None;
        }
        self.request(|request| request.attempts.get_mut(self.attempt).map(act)).flatten()
    }

    fn first_event_seen(&self) {
        let now_us = host::now_us();
        self.request(|request| {
            request.first_event_us = Some(now_us.saturating_sub(request.start_us));
        });
    }

    /// A stream began well. A deployment on probation is told of at once: the stream may run for long.
    fn stream_began(&self) {
        self.read_walk();
        let now_us = host::now_us();
        vm::with(|vm| {
            let Vm { requests, usage, .. } = vm;
            let request = requests.get_mut(&self.call_id)?;
            let probe = request.passes.steps == 1 && request.walk().is_some_and(|walk| walk.probe);
            let attempt = request.attempts.get_mut(self.attempt)?;
            attempt.first_event(now_us);
            if probe && let Some(report) = attempt.report() {
                usage.report(serde_json::to_string(&report).unwrap_or_default());
            }
            Some(())
        });
    }

    /// The attempt failed and the client would see `status` with `body`. Makes Envoy do what the walk says.
    fn failed(&self, status: u16, body: Vec<u8>) {
        const MAP: MapType = MapType::HttpResponseHeaders;
        let Some(class) = self.answer.as_ref().and_then(Answer::class) else { return };
        self.read_walk();
        let (now_us, retry_after_s) = (host::now_us(), self.retry_after_s);
        self.record(|attempt| attempt.fail(class, now_us));
        let follows = self.request(|request| {
            let (step, pass) = (request.passes.steps.saturating_sub(1), request.passes.number);
            let follows = walk::next(request.walk(), &Failed { class, status, retry_after_s, step, pass });
            if follows != Move::Stop {
                request.kept = Some(Kept { status, body, retry_after_s });
            }
            follows
        });
        match follows {
            // The client has left.
            None => {}
            Some(Move::Stop) => host::set_header(MAP, "x-envoy-ratelimited", "true"),
            Some(Move::Next { status: other, wait_s }) => {
                if let Some(other) = other {
                    host::set_header(MAP, STATUS_HEADER, &status.to_string());
                    host::set_header(MAP, ":status", &other.to_string());
                }
                if let Some(seconds) = wait_s {
                    host::set_header(MAP, WAIT_HEADER, &seconds.to_string());
                }
            }
            Some(Move::Replan) => {
                host::set_header(MAP, STATUS_HEADER, &status.to_string());
                host::set_header(MAP, ":status", "307");
                self.ask_again();
            }
        }
    }

    /// Sets the location that brings the request back to the gate.
    fn ask_again(&self) {
        let own = self.request(|request| request.passes.decided.clone()).flatten();
        let note = own.or_else(|| {
            let text = host::property(&["metadata", "filter_metadata", METADATA_NAMESPACE, NOTE_KEY])?;
            serde_json::from_slice::<Note>(&text).ok()
        });
        let now_us = host::now_us();
        self.request(|request| request.ask_again(note, now_us));
        host::set_header(MapType::HttpResponseHeaders, "location", &redirect::location(&self.call_id));
    }

    /// The sidecar's answer to the question for another plan. Anything but a 307 it says to the client.
    fn replan_headers(&self) -> Action {
        let status = host::header(MapType::HttpResponseHeaders, ":status");
        let pass = self.request(|request| request.passes.number);
        let more = pass.is_some_and(|pass| pass.saturating_add(1) < MAX_PASSES);
        if more && status.as_deref() == Some("307") {
            self.ask_again();
        }
        Action::Continue
    }

    fn request_body(&mut self, size: usize) {
        const BODY: BufferType = BufferType::HttpRequestBody;
        if self.replan {
            // The sidecar has no use for it; Envoy keeps the original.
            return host::replace_front(BODY, size, &[]);
        }
        let left = self.edits.prefix_len().saturating_sub(self.offset);
        if !self.edits.is_empty() && size > 0 && left > 0 {
            let mut out = Vec::new();
            if left.min(size) <= SLICE {
                let prefix = host::body(BODY, 0, left.min(size));
                self.edits.apply(self.offset, &prefix, &mut out);
                host::replace_front(BODY, prefix.len(), &out);
            } else {
                self.turn_over(size, &mut out);
            }
        }
        self.offset = self.offset.saturating_add(size);
    }

    /// Takes slices off the front and puts their edited form at the back, until all of it went round: a body of any
    /// size is edited with two slices of memory.
    fn turn_over(&self, size: usize, out: &mut Vec<u8>) {
        const BODY: BufferType = BufferType::HttpRequestBody;
        let (mut seen, mut buffered) = (0_usize, size);
        while seen < size {
            let slice = host::body(BODY, 0, SLICE.min(size.saturating_sub(seen)));
            if slice.is_empty() {
                break;
            }
            out.clear();
            self.edits.apply(self.offset.saturating_add(seen), &slice, out);
            host::replace_front(BODY, slice.len(), &[]);
            buffered = buffered.saturating_sub(slice.len());
            host::append(BODY, buffered, out);
            buffered = buffered.saturating_add(out.len());
            seen = seen.saturating_add(slice.len());
        }
    }

    fn response_body(&mut self, size: usize, end: bool) -> Action {
        const BODY: BufferType = BufferType::HttpResponseBody;
        let Some(answer) = &mut self.answer else { return Action::Continue };
        let data = if answer.wants(size, end) { host::body(BODY, 0, size) } else { Vec::new() };
        let flow = answer.body(&data, end);
        let (outcome, usage, class) = (answer.outcome(), answer.usage(), answer.class());
        let now_us = if outcome == AttemptOutcome::Complete { host::now_us() } else { 0 };
        self.record(|attempt| {
            attempt.update(outcome, now_us);
            attempt.record.class = class;
            if usage.is_some() {
                attempt.record.usage = usage;
            }
        });
        match flow {
            Flow::Hold => {
                self.held = size;
                Action::Pause
            }
            Flow::Taken => {
                self.held = 0;
                host::replace_front(BODY, size, &[]);
                Action::Pause
            }
            Flow::Pass => Action::Continue,
            Flow::Send(body) => {
                host::replace_front(BODY, size, &body);
                Action::Continue
            }
            Flow::Release(release) => {
                host::replace_front(BODY, size, &release.body);
                self.release(release);
                Action::Continue
            }
        }
    }

    fn release(&self, release: Release) {
        const MAP: MapType = MapType::HttpResponseHeaders;
        let status = release.status.unwrap_or(self.status);
        if release.status.is_some() {
            host::set_header(MAP, ":status", &status.to_string());
        }
        if let Some(kind) = release.kind {
            host::set_header(MAP, "content-type", kind);
        }
        if let Some(length) = release.length {
            host::set_header(MAP, "content-length", &length.to_string());
        }
        if release.failed {
            self.failed(status, release.body);
        } else {
            self.first_event_seen();
            if self.answer.as_ref().is_some_and(Answer::is_stream) {
                self.stream_began();
            }
        }
    }
}

/// Seconds to wait as an upstream says it. A date is ignored: the two clocks may differ.
fn retry_after(headers: &Headers) -> Option<u64> {
    let number = |name: &str| headers.find(name).and_then(|value| value.trim().parse::<u64>().ok());
    number("retry-after").or_else(|| number("retry-after-ms").map(|ms| ms.div_ceil(1_000)))
}

impl Context for Adapter {}

impl HttpContext for Adapter {
    fn on_http_request_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
        let headers = host::headers(MapType::HttpRequestHeaders);
        // A copy is another stream and lacks the property, but has the name of its cluster; later attempts have only the
        // property. The first attempt of most requests needs neither question.
        let sent = headers.find(CALL_HEADER);
        let may_be_copy = headers.find(MIRROR_HEADER).is_some();
        let own = if may_be_copy || sent.is_none() { host::text(&[CALL_PROPERTY]) } else { None };
        self.mirrored = may_be_copy && own.is_none();
        self.call_id = own.or_else(|| sent.map(str::to_owned)).unwrap_or_default();
        match self.begin(self.mirrored) {
            Ok(Some(outgoing)) => {
                self.copied = outgoing.set_headers(&headers, self.mirrored);
                (self.attempt, self.edits, self.options) =
                    (outgoing.attempt, outgoing.edits, outgoing.options);
                self.whole = outgoing.whole;
            }
            Ok(None) => {
                self.replan = true;
                self.copied = outgoing::strip(&headers);
                outgoing::ask_for_plan();
            }
            Err(why) => {
                // The gateway itself is broken (or a copy cannot be made). Sending the request on as it is could leak it to the wrong place.
                host::error(&format!("attache: request {} cannot be sent: {why}", self.call_id));
                host::send_error(&ApiError::internal(why), &self.call_id, self.options.shape);
                return Action::Pause;
            }
        }
        if self.copied || self.whole.is_some() { Action::Pause } else { Action::Continue }
    }

    fn on_http_request_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        if std::mem::take(&mut self.copied) {
            host::remove_header(MapType::HttpRequestHeaders, MIRROR_HEADER);
        }
        if self.whole.is_some() {
            self.request_held = size;
            return if end_of_stream { self.whole_body(size) } else { Action::Pause };
        }
        self.request_body(size);
        Action::Continue
    }

    /// A body may end with trailers instead of an end of its own.
    fn on_http_request_trailers(&mut self, _count: usize) -> Action {
        if self.whole.is_some() { self.whole_body(self.request_held) } else { Action::Continue }
    }

    fn on_http_response_headers(&mut self, _count: usize, end_of_stream: bool) -> Action {
        const MAP: MapType = MapType::HttpResponseHeaders;
        if self.mirrored {
            return Action::Continue;
        }
        if self.replan {
            return self.replan_headers();
        }
        let headers = host::headers(MAP);
        self.status = headers.find(":status").and_then(|status| status.parse().ok()).unwrap_or(0);
        self.retry_after_s = retry_after(&headers);
        for name in headers.names() {
            if NOT_FOR_CLIENTS.iter().any(|private| private.as_bytes() == name)
                || RESPONSE_PREFIXES.iter().any(|prefix| name.starts_with(prefix.as_bytes()))
            {
                host::remove_named(MAP, name);
            }
        }
        let encoding = headers.find("content-encoding").unwrap_or_default();
        let head = Head {
            status: self.status,
            content_type: headers.find("content-type").unwrap_or_default(),
            encoded: !encoding.is_empty() && !encoding.eq_ignore_ascii_case("identity"),
            end: end_of_stream,
        };
        let (mut answer, opening) = Answer::open(&head, self.options.clone(), std::mem::take(&mut self.back));
        answer.set_error_type(headers.find("x-amzn-errortype"));
        let (outcome, status, retry_after_s) = (answer.outcome(), self.status, self.retry_after_s);
        let usage = answer.usage();
        self.answer = Some(answer);
        let now_us = if outcome == AttemptOutcome::Complete { host::now_us() } else { 0 };
        self.record(|attempt| {
            attempt.record.status = status;
            attempt.record.retry_after_s = retry_after_s;
            attempt.record.usage = usage;
            attempt.update(outcome, now_us);
        });
        if let Some(status) = opening.status {
            host::set_header(MAP, ":status", &status.to_string());
        }
        if let Some(kind) = opening.kind {
            host::set_header(MAP, "content-type", kind);
        }
        if opening.drop_length {
            host::remove_header(MAP, "content-length");
        }
        if opening.failed {
            let status = opening.status.unwrap_or(status);
            self.failed(status, answer::unusable(status, self.options.shape));
        } else if !opening.hold {
            self.first_event_seen();
        }
        if opening.hold { Action::Pause } else { Action::Continue }
    }

    fn on_http_response_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        self.response_body(size, end_of_stream)
    }

    /// A body may end with trailers instead of an end of its own.
    fn on_http_response_trailers(&mut self, _count: usize) -> Action {
        self.response_body(self.held, true);
        Action::Continue
    }
}
