//! The gate: the downstream half of the filter, before ext_proc. Who are you, what do you ask for?
//!
//! ```text
//! headers   strip x-attache-*, find the key, hash it, look it up        401 404 405 413
//! body      wait for its end, scan it once in slices                    400 413
//! both      x-attache-ask for the sidecar, facts for the adapter        -> ext_proc, router
//! response  x-litellm-* headers, the last error of a provider where nobody has a better answer
//! log       one usage record, statistics
//! ```
//!
//! A request that is planned anew comes here again, by Envoy's internal redirect: a new stream with a new context and
//! the same body. Everything of the first pass is in the shared record then, so such a pass only asks the sidecar.

mod response;

use std::rc::Rc;

use attache_llm::contract::{ASK_HEADER, Ask, GateConfig, HEADER_PREFIX, KeyRecord, Note, ROUTE_HEADER};
use attache_llm::error::ApiError;
use attache_llm::path::{self, Endpoint, ParsedPath};
use attache_llm::scan::{BodyScan, ScanLimits, Scanned};
use attache_llm::wishes;
use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::{Action, BufferType, MapType};

use crate::auth::{self, Presented};
use crate::finish;
use crate::host;
use crate::intake::{self, Intake, Key, Step};
use crate::keys::{Hash, Joined, Known};
use crate::redirect;
use crate::requests::{Ending, Origin};
use crate::vm::{self, Vm};

/// Property by which the adapter finds the request. Not `x-request-id`: a client may choose that.
pub const CALL_PROPERTY: &str = "attache_ctx";
/// Request header with the same id. A mirrored request is another stream and does not have the property.
pub const CALL_HEADER: &str = "x-attache-call";
/// Bytes of a body looked at at once. WASM memory never shrinks, so a body is never copied whole.
const SLICE: usize = 64 * 1024;
/// Requests watched between two passes. None is there for longer than a moment.
const MAX_BETWEEN: usize = 10_000;

/// Context of one downstream request.
pub struct Gate {
    context: u32,
    queue: u32,
    config: Rc<GateConfig>,
    /// Is this ours to judge? Admin requests pass untouched.
    ours: bool,
    call_id: String,
    request_id: String,
    /// Hash that this request may be waiting for.
    hash: Hash,
    /// What the sidecar decided, once it is known.
    note: Option<Note>,
    /// A body was made for an answer that had none.
    body_given: bool,
    /// Pass of the request that this stream is, from 0.
    pass: u32,
    /// Envoy has an answer for the client: this stream is the request's last.
    answered: bool,
    /// The answer's body is replaced, by this.
    swapping: bool,
    swap: Option<Vec<u8>>,
}

/// What may happen after a step forward.
#[derive(Debug)]
enum Next {
    Wait,
    Refuse(ApiError),
    Go,
}

impl Gate {
    #[must_use]
    pub fn new(context: u32, queue: u32, config: Rc<GateConfig>) -> Self {
        Self {
            context,
            queue,
            config,
            ours: false,
            call_id: String::new(),
            request_id: String::new(),
            hash: Hash::default(),
            note: None,
            body_given: false,
            pass: 0,
            answered: false,
            swapping: false,
            swap: None,
        }
    }

    fn refuse(&self, error: &ApiError) -> Action {
        if let Some(internal) = &error.internal {
            host::warn(&format!(
                "attache: request {} refused with {}: {internal}",
                self.call_id, error.status
            ));
        }
        host::send_error(error, &self.call_id);
        Action::Pause
    }

    /// Judges the headers: what is asked for, and by whom.
    fn judge(
        &mut self,
        headers: &host::Headers,
        path: &str,
        parsed: Option<&ParsedPath>,
    ) -> Result<Key, ApiError> {
        let method = host::find(headers, ":method").unwrap_or_default();
        if parsed.is_none() {
            return Err(ApiError::unknown_route(method, path));
        }
        if method != "POST" {
            return Err(ApiError::method_not_allowed(method));
        }
        if declared_length(headers) > self.config.max_body_bytes {
            return Err(ApiError::body_too_large(self.config.max_body_bytes));
        }
        self.authenticate(headers)
    }

    /// May a refusal wait until the client has sent its body? Not when the client asked before sending it, and not
    /// when it is far too large.
    fn can_wait(&self, headers: &host::Headers) -> bool {
        host::find(headers, "expect").is_none() && declared_length(headers) <= self.drop_limit()
    }

    /// Body bytes of a refused request that are read and thrown away, so that the client gets to see the reply.
    fn drop_limit(&self) -> u64 {
        self.config.max_body_bytes.saturating_mul(2)
    }

    /// Finds the key and what is known of it. A miss joins the queue of lookups and wakes the root.
    fn authenticate(&mut self, headers: &host::Headers) -> Result<Key, ApiError> {
        let (error, result) = match auth::presented(headers, self.config.key_header.as_deref()) {
            Presented::Key(hash) => return self.look_up(hash),
            Presented::Missing => (ApiError::missing_key(), "missing"),
            Presented::Malformed => (ApiError::malformed_key(), "malformed"),
        };
        vm::with(|vm| vm.stats.auth(result));
        Err(error)
    }

    fn look_up(&mut self, hash: Hash) -> Result<Key, ApiError> {
        self.hash = hash;
        let now_ms = host::now_ms();
        let found = vm::with(|vm| match vm.keys.find(&hash, now_ms) {
            Known::Ask => match vm.keys.join(hash, self.context, now_ms) {
                Joined::Full => Err((away("too many lookups wait"), "unavailable")),
                _ => Ok(Key::Asked(hash)),
            },
            Known::Record(record) => intake::admit(&record, now_ms).map(|()| Key::Known(record)),
            Known::Nobody => Err((ApiError::unknown_key(), "unknown")),
        });
        match found.unwrap_or_else(|| Err((away("state is busy"), "unavailable"))) {
            Ok(key) => {
                if matches!(key, Key::Asked(_)) {
                    self.wake_root();
                } else {
                    vm::with(|vm| vm.stats.auth("ok"));
                }
                Ok(key)
            }
            Err((error, result)) => {
                vm::with(|vm| vm.stats.auth(result));
                Err(error)
            }
        }
    }

    fn wake_root(&self) {
        let _ = hostcalls::enqueue_shared_queue(self.queue, Some(b"1"));
    }

    /// The body is whole: scan it, and go on if the key is known.
    fn body_complete(&mut self, len: usize) -> Action {
        let refused = vm::with(|vm| {
            vm.intakes.get(&self.context).and_then(|intake| match &intake.key {
                Key::Refused(error) => Some(error.clone()),
                Key::Asked(_) | Key::Known(_) => None,
            })
        });
        let scanned = refused.flatten().map_or_else(|| scan(len), Err);
        vm::with(|vm| {
            if let Some(intake) = vm.intakes.get_mut(&self.context) {
                intake.body = Some(scanned);
            }
        });
        match advance(self.context) {
            Next::Wait => Action::Pause,
            Next::Refuse(error) => self.refuse(&error),
            Next::Go => Action::Continue,
        }
    }

    /// More of a body that is not whole. A refused one is thrown away as it comes.
    fn body_grows(&mut self, size: usize) -> Action {
        let (max, limit) = (self.config.max_body_bytes, self.drop_limit());
        let bytes = u64::try_from(size).unwrap_or(u64::MAX);
        let state = vm::with(|vm| {
            let intake = vm.intakes.get_mut(&self.context)?;
            if bytes > max {
                intake.key = Key::Refused(ApiError::body_too_large(max));
            }
            let Key::Refused(error) = &intake.key else { return Some((false, None)) };
            intake.dropped = intake.dropped.saturating_add(bytes);
            Some((true, (intake.dropped > limit).then(|| error.clone())))
        });
        match state.flatten() {
            Some((_, Some(error))) => {
                vm::with(|vm| vm.intakes.remove(&self.context));
                return self.refuse(&error);
            }
            Some((true, None)) => host::replace_front(BufferType::HttpRequestBody, size, &[]),
            _ => {}
        }
        Action::Pause
    }
}

/// `content-length`; 0 when the body is chunked.
fn declared_length(headers: &host::Headers) -> u64 {
    host::find(headers, "content-length").and_then(|value| value.parse().ok()).unwrap_or(0)
}

fn away(why: &str) -> ApiError {
    ApiError::auth_unavailable().with_internal(why)
}

fn scan(len: usize) -> Result<Scanned, ApiError> {
    let mut scan = BodyScan::new(ScanLimits::default());
    let mut start = 0_usize;
    while start < len {
        let slice = host::body(BufferType::HttpRequestBody, start, SLICE.min(len.saturating_sub(start)));
        if slice.is_empty() {
            break;
        }
        start = start.saturating_add(slice.len());
        scan.feed(&slice)?;
    }
    Ok(scan.finish()?)
}

/// Takes a request as far as it can go. On [`Next::Go`] the question is set and the facts are stored for the adapter.
fn advance(context: u32) -> Next {
    let step = vm::with(|vm| {
        let step = vm.intakes.get_mut(&context).map_or(Step::Wait, Intake::step);
        if !matches!(step, Step::Wait) {
            vm.intakes.remove(&context);
        }
        step
    });
    match step {
        None | Some(Step::Wait) => Next::Wait,
        Some(Step::Refuse(error)) => Next::Refuse(error),
        Some(Step::Forward(request, ask)) => {
            if let Err(error) = put(&ask) {
                return Next::Refuse(error);
            }
            host::set_header(MapType::HttpRequestHeaders, CALL_HEADER, &ask.call_id);
            vm::with(|vm| vm.requests.insert(request.call_id.clone(), *request));
            Next::Go
        }
    }
}

/// Sets the question for the sidecar, and the id by which the adapter finds the request.
fn put(ask: &Ask) -> Result<(), ApiError> {
    let text = intake::ask_header(ask).ok_or_else(|| ApiError::internal("the question has no JSON"))?;
    host::set_header(MapType::HttpRequestHeaders, ASK_HEADER, &text);
    host::set_property(CALL_PROPERTY, &ask.call_id);
    Ok(())
}

/// What became of a lookup.
#[derive(Debug, Clone)]
pub enum Looked {
    Up(Rc<KeyRecord>),
    Nobody,
    Failed(String),
}

/// Goes on with a request that waited for a lookup. Called by the root, with `context` as the effective one: this is
/// why a waiting request lives in [`Vm::intakes`] and not in its context, which the SDK does not let another reach.
pub fn key_decided(context: u32, looked: &Looked) {
    let now_ms = host::now_ms();
    let call_id = vm::with(|vm| {
        let intake = vm.intakes.get_mut(&context)?;
        let verdict = match looked {
            Looked::Up(record) => intake::admit(record, now_ms).map(|()| Rc::clone(record)),
            Looked::Nobody => Err((ApiError::unknown_key(), "unknown")),
            Looked::Failed(why) => Err((away(why), "unavailable")),
        };
        vm.stats.auth(verdict.as_ref().err().map_or("ok", |(_, result)| *result));
        intake.key = verdict.map_or_else(|(error, _)| Key::Refused(error), Key::Known);
        Some(intake.call_id.clone())
    });
    match advance(context) {
        Next::Wait => {}
        Next::Refuse(error) => host::send_error(&error, &call_id.flatten().unwrap_or_default()),
        Next::Go => {
            let _ = hostcalls::resume_http_request();
        }
    }
}

impl Context for Gate {}

impl HttpContext for Gate {
    fn on_http_request_headers(&mut self, _count: usize, end_of_stream: bool) -> Action {
        const MAP: MapType = MapType::HttpRequestHeaders;
        let headers = host::headers(MAP);
        // Only the gate and the sidecar may say these; a client that does is not told, just not heard.
        for (name, _) in headers.iter().filter(|(name, _)| name.starts_with(HEADER_PREFIX)) {
            host::remove_header(MAP, name);
        }
        let sent = host::find(&headers, ":path").unwrap_or_default();
        let redirected = redirect::split(sent);
        if let Some((path, call_id)) = &redirected {
            if let Some(action) = self.next_pass(call_id) {
                return action;
            }
            host::set_header(MAP, ":path", path);
        }
        let path_asked = redirected.as_ref().map_or(sent, |(path, _)| path);
        let parsed = Endpoint::parse(path_asked);
        if parsed.is_none() && path::is_admin(path_asked) {
            return Action::Continue;
        }
        self.ours = true;
        self.request_id = host::find(&headers, "x-request-id").unwrap_or_default().to_owned();
        let now_us = host::now_us();
        self.call_id = vm::with(|vm| vm.ids.next(now_us, self.request_id.as_bytes())).unwrap_or_default();
        let key = match self.judge(&headers, path_asked, parsed.as_ref()) {
            Err(error) if end_of_stream || !self.can_wait(&headers) => return self.refuse(&error),
            Err(error) => Key::Refused(error),
            Ok(key) => key,
        };
        for name in auth::key_headers(self.config.key_header.as_deref()).chain(["cookie"]) {
            if headers.iter().any(|(header, _)| header == name) {
                host::remove_header(MAP, name);
            }
        }
        let text = |name: &str| host::find(&headers, name).unwrap_or_default().to_owned();
        let intake = Intake {
            call_id: self.call_id.clone(),
            request_id: self.request_id.clone(),
            endpoint: parsed.as_ref().map_or(Endpoint::ChatCompletions, |parsed| parsed.endpoint),
            path_model: parsed.and_then(|parsed| parsed.model),
            origin: Origin {
                path: path_asked.to_owned(),
                authority: text(":authority"),
                scheme: text(":scheme"),
            },
            wishes: wished(&headers),
            explain: text(ROUTE_HEADER).trim().eq_ignore_ascii_case("explain"),
            start_us: now_us,
            key,
            buffered: 0,
            dropped: 0,
            body: None,
        };
        vm::with(|vm| vm.intakes.insert(self.context, intake));
        if end_of_stream { self.body_complete(0) } else { Action::Pause }
    }

    fn on_http_request_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        if !self.ours {
            return Action::Continue;
        }
        let waits =
            vm::with(|vm| vm.intakes.get_mut(&self.context).map(|intake| intake.buffered = size)).flatten();
        if waits.is_none() {
            // Either it went on already, or it was refused; a refused one has no request.
            let went_on = vm::with(|vm| vm.requests.contains_key(&self.call_id)).unwrap_or(false);
            return if went_on { Action::Continue } else { Action::Pause };
        }
        let paused = self.body_grows(size);
        // Refused for good meanwhile, or whole.
        let waits = vm::with(|vm| vm.intakes.contains_key(&self.context)).unwrap_or(false);
        if end_of_stream && waits { self.body_complete(size) } else { paused }
    }

    /// A body may end with trailers instead of an end of its own.
    fn on_http_request_trailers(&mut self, _count: usize) -> Action {
        let buffered = vm::with(|vm| vm.intakes.get(&self.context).map(|intake| intake.buffered)).flatten();
        match buffered {
            Some(size) => self.body_complete(size),
            None => Action::Continue,
        }
    }

    fn on_http_response_headers(&mut self, _count: usize, end_of_stream: bool) -> Action {
        if !self.ours {
            return Action::Continue;
        }
        self.answered = true;
        self.last_error();
        self.answer_headers();
        if end_of_stream && self.give_body() { Action::Pause } else { Action::Continue }
    }

    fn on_http_response_body(&mut self, size: usize, _end_of_stream: bool) -> Action {
        if self.swapping {
            let body = self.swap.take().unwrap_or_default();
            host::replace_front(BufferType::HttpResponseBody, size, &body);
        }
        Action::Continue
    }

    fn on_log(&mut self) {
        if self.ours {
            self.finish();
        }
    }
}

impl Gate {
    /// A later pass of the request `call_id`. `None` when there is none to begin: then a client made it up.
    fn next_pass(&mut self, call_id: &str) -> Option<Action> {
        const MAP: MapType = MapType::HttpRequestHeaders;
        let (ask, pass, origin, request_id, len) = vm::with(|vm| {
            let Vm { requests, stats, between, .. } = vm;
            let request = requests.get_mut(call_id)?;
            let ask = request.begin_pass()?;
            between.retain(|waiting| waiting != call_id);
            if let Some((group, class)) = request.last_failure() {
                stats.replan(group, class.name());
            }
            let (origin, request_id) = (request.origin.clone(), request.request_id.clone());
            Some((ask, request.passes.number, origin, request_id, request.scan.len))
        })
        .flatten()?;
        self.ours = true;
        self.pass = pass;
        self.call_id = call_id.to_owned();
        // Envoy made another one for the new stream.
        self.request_id = request_id;
        host::set_header(MAP, "x-request-id", &self.request_id);
        host::set_header(MAP, ":path", &origin.path);
        host::set_header(MAP, ":authority", &origin.authority);
        if !origin.scheme.is_empty() {
            host::set_header(MAP, ":scheme", &origin.scheme);
        }
        host::set_header(MAP, "content-length", &len.to_string());
        match put(&ask) {
            Ok(()) => Some(Action::Continue),
            Err(error) => Some(self.refuse(&error)),
        }
    }

    /// The stream is over. Envoy calls this exactly once in every case, also when the client left.
    fn finish(&mut self) {
        let ending = Ending {
            status: host::integer(&["response", "code"])
                .and_then(|code| u16::try_from(code).ok())
                .unwrap_or(0),
            details: host::text(&["response", "code_details"]).unwrap_or_default(),
            flags: host::integer(&["response", "flags"]).unwrap_or(0),
            now_us: host::now_us(),
        };
        let request = vm::with(|vm| {
            vm.keys.leave(&self.hash, self.context);
            vm.intakes.remove(&self.context);
            let Some(request) = vm.requests.get(&self.call_id) else { return Ok(None) };
            if request.lives_on(self.pass, self.answered, &ending) {
                if request.passes.number == self.pass && vm.between.len() < MAX_BETWEEN {
                    vm.between.push(self.call_id.clone());
                }
                return Err(());
            }
            Ok(vm.requests.remove(&self.call_id))
        });
        match request {
            Some(Ok(Some(request))) => {
                self.note();
                if finish::close(request, self.note.as_ref(), &ending) {
                    self.wake_root();
                }
            }
            Some(Ok(None)) => {
                vm::with(|vm| vm.stats.request("", if ending.aborted() { "aborted" } else { "refused" }));
            }
            // Another pass follows, or state is busy.
            Some(Err(())) | None => {}
        }
    }
}

/// Values of the headers that speak to the gateway.
fn wished(headers: &host::Headers) -> Vec<(String, String)> {
    let found = wishes::HEADERS.iter().filter_map(|name| Some((*name, host::find(headers, name)?)));
    found.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}
