//! The gate: the downstream half of the filter. Who are you, what do you ask for?
//!
//! ```text
//! headers   strip x-attache-*, find the key, hash it, look it up        401 404 405 413
//! body      wait for its end, scan it once in slices                    400 413
//! both      the question to the sidecar, facts for the adapter          -> deciding (or ext_proc), router
//! response  x-litellm-* headers, the last error of a provider where nobody has a better answer
//! log       one usage record, statistics
//! ```
//!
//! A request that is planned anew comes here again, by Envoy's internal redirect: a new stream with a new context and
//! the same body. Everything of the first pass is in the shared record then, so such a pass only asks the sidecar.

mod forward;
mod passes;
mod reading;
mod response;

use std::rc::Rc;

use attache_llm::contract::{ATTEMPT_HEADER, GateConfig, HEADER_PREFIX, Note, PER_TRY_HEADER, ROUTE_HEADER};
use attache_llm::error::{ApiError, ErrorShape};
use attache_llm::path::{self, Endpoint, ParsedPath};
use attache_llm::scan::Scanned;
use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::{Action, BufferType, MapType};

use crate::auth::{self, Presented};
use crate::headers::Headers;
use crate::host;
use crate::identity;
use crate::intake::{self, Asked, Intake, Key};
use crate::outgoing::BETA_HEADER;
use crate::peer::Peer;
use crate::redirect;
use crate::requests::Origin;
use crate::said::{self, Answered};
use crate::vm;

pub use self::forward::key_decided;
use self::forward::{advance, put};
use self::reading::{Reading, declared_length, end_user, wished};

/// Property by which the adapter finds the request. Not `x-request-id`: a client may choose that.
pub const CALL_PROPERTY: &str = "attache_ctx";
/// Request header with the same id. A mirrored request is another stream and does not have the property.
pub const CALL_HEADER: &str = "x-attache-call";
/// Requests watched between two passes. None is there for longer than a moment.
const MAX_BETWEEN: usize = 10_000;

/// Context of one downstream request.
pub struct Gate {
    context: u32,
    queue: u32,
    config: Rc<GateConfig>,
    /// Whose shape errors have.
    shape: ErrorShape,
    /// Is this ours to judge? Admin requests pass untouched.
    ours: bool,
    /// What its body is.
    reading: Reading,
    call_id: String,
    request_id: String,
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
    /// The answer's body is an error with this status, which still has to get the caller's shape.
    reshaping: Option<u16>,
    /// What is answered, where it is to be kept.
    words: Option<Answered>,
}

/// What may happen after a step forward.
#[derive(Debug)]
enum Next {
    /// For the key or the body.
    Wait,
    /// For a decision; is this the first question, so that the root must be woken?
    Ask(bool),
    Refuse(ApiError),
    Go,
    /// As [`Self::Go`], under this call id: it was decided before it came. Must the root be woken?
    Leased(String, bool),
}

impl Next {
    /// Does the request wait for a decision?
    const fn waits(&self) -> bool {
        matches!(self, Self::Ask(_))
    }
}

impl Gate {
    #[must_use]
    pub fn new(context: u32, queue: u32, config: Rc<GateConfig>) -> Self {
        Self {
            context,
            queue,
            config,
            shape: ErrorShape::Openai,
            ours: false,
            reading: Reading::default(),
            call_id: String::new(),
            request_id: String::new(),
            note: None,
            body_given: false,
            pass: 0,
            answered: false,
            swapping: false,
            swap: None,
            reshaping: None,
            words: None,
        }
    }

    fn refuse(&self, error: &ApiError) -> Action {
        if let Some(internal) = &error.internal {
            host::warn(&format!(
                "attache: request {} refused with {}: {internal}",
                self.call_id, error.status
            ));
        }
        host::send_error(error, &self.call_id, self.shape);
        Action::Pause
    }

    /// Judges the headers: what is asked for, and by whom.
    fn judge(&mut self, headers: &Headers, path: &str, parsed: Option<&ParsedPath>) -> Result<Key, ApiError> {
        let method = headers.find(":method").unwrap_or_default();
        let Some(parsed) = parsed else { return Err(ApiError::unknown_route(method, path)) };
        if !parsed.methods().contains(&method) {
            return Err(ApiError::method_not_allowed(method, parsed.methods()));
        }
        if declared_length(headers) > self.config.max_body_bytes {
            return Err(ApiError::body_too_large(self.config.max_body_bytes));
        }
        self.reading = Reading::of(headers, parsed)?;
        self.authenticate(headers)
    }

    /// May a refusal wait until the client has sent its body? Not when the client asked before sending it, and not
    /// when it is far too large.
    fn can_wait(&self, headers: &Headers) -> bool {
        headers.find("expect").is_none() && declared_length(headers) <= self.drop_limit()
    }

    /// Body bytes of a refused request that are read and thrown away, so that the client gets to see the reply.
    fn drop_limit(&self) -> u64 {
        self.config.max_body_bytes.saturating_mul(2)
    }

    /// Finds the key, or who the caller is without one, and what is known of it. A miss joins the queue of lookups and
    /// wakes the root. A key that was sent wins, a bad one too.
    fn authenticate(&mut self, headers: &Headers) -> Result<Key, ApiError> {
        let asked = match auth::presented(headers, self.config.key_header.as_deref()) {
            Presented::Key(hash) => Ok(Asked::key(hash)),
            Presented::Missing => Asked::identities(identity::candidates(&self.config, &Peer { headers }))
                .ok_or_else(|| (ApiError::missing_key(), "missing")),
            Presented::Malformed => Err((ApiError::malformed_key(), "malformed")),
        };
        let now_ms = host::now_ms();
        let found = asked.and_then(|asked| {
            vm::with(|vm| asked.look(&mut vm.keys, self.context, now_ms))
                .unwrap_or_else(|| Err((intake::away("state is busy"), "unavailable")))
        });
        if let Ok(Key::Asked(_)) = found {
            self.wake_root();
        } else {
            vm::with(|vm| vm.stats.auth(found.as_ref().err().map_or("ok", |(_, result)| *result)));
        }
        found.map_err(|(error, _)| error)
    }

    /// Neither waits for a decision nor was refused (then there is no request).
    fn went_on(&self) -> bool {
        vm::with(|vm| vm.requests.get(&self.call_id).is_some_and(|request| !request.passes.undecided))
            .unwrap_or(false)
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
        let scanned = refused.flatten().map_or_else(|| self.reading.scan(len), Err);
        let said = if self.config.prompt_bytes > 0 { self.said(&scanned) } else { None };
        vm::with(|vm| {
            if let Some(intake) = vm.intakes.get_mut(&self.context) {
                intake.body = Some(scanned);
                intake.said = said;
            }
        });
        self.follow(advance(self.context, true))
    }

    fn follow(&mut self, next: Next) -> Action {
        match next {
            Next::Wait | Next::Ask(false) => Action::Pause,
            Next::Ask(true) => {
                self.wake_root();
                Action::Pause
            }
            Next::Refuse(error) => self.refuse(&error),
            Next::Go => Action::Continue,
            Next::Leased(call_id, wake) => {
                self.call_id = call_id;
                if wake {
                    self.wake_root();
                }
                Action::Continue
            }
        }
    }

    /// What is asked, of the body that is still there.
    fn said(&self, scanned: &Result<Scanned, ApiError>) -> Option<said::Asked> {
        let scan = scanned.as_ref().ok().filter(|scan| !scan.no_log)?;
        let place = scan.prompt_range.clone().unwrap_or_default();
        let (max, length) = (self.config.prompt_bytes, place.len());
        let piece = host::body(BufferType::HttpRequestBody, place.start, length.min(max));
        vm::with(|vm| {
            let asked = said::Asked::new(&vm.room, max, &piece, length);
            vm.stats.count("prompts_left_out", u64::from(asked.is_none()));
            asked
        })
        .flatten()
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

impl Context for Gate {
    /// Over HTTP/3 Envoy tells its own access logs when the client has acknowledged the answer, and filters never: what
    /// `on_log` does must be done here. Over the others it was.
    fn on_done(&mut self) -> bool {
        self.over();
        true
    }
}

impl HttpContext for Gate {
    fn on_http_request_headers(&mut self, _count: usize, end_of_stream: bool) -> Action {
        const MAP: MapType = MapType::HttpRequestHeaders;
        let headers = host::headers(MAP);
        // Only the gate and the sidecar may say these; a client that does is not told, just not heard.
        let ours = |name: &[u8]| {
            name.starts_with(HEADER_PREFIX.as_bytes())
                || [PER_TRY_HEADER, ATTEMPT_HEADER].iter().any(|ours| ours.as_bytes() == name)
        };
        for name in headers.names().filter(|name| ours(name)) {
            host::remove_named(MAP, name);
        }
        let sent = headers.find(":path").unwrap_or_default();
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
        self.shape = path::error_shape(path_asked);
        self.request_id = headers.find("x-request-id").unwrap_or_default().to_owned();
        let now_us = host::now_us();
        self.call_id = vm::with(|vm| vm.ids.next(now_us, self.request_id.as_bytes())).unwrap_or_default();
        let judged = self.judge(&headers, path_asked, parsed.as_ref());
        let end = end_of_stream || self.reading == Reading::Session;
        let key = match judged {
            Err(error) if end || !self.can_wait(&headers) => return self.refuse(&error),
            Err(error) => Key::Refused(error),
            Ok(key) => key,
        };
        auth::strip_subprotocols(&headers, |name, value| match value {
            Some(value) => host::set_header(MAP, name, value),
            None => host::remove_header(MAP, name),
        });
        let own = self.config.user_headers.iter().map(String::as_str).chain(["cookie"]);
        for name in auth::key_headers(self.config.key_header.as_deref()).chain(own) {
            if headers.has(name) {
                host::remove_header(MAP, name);
            }
        }
        let text = |name: &str| headers.find(name).unwrap_or_default().to_owned();
        let intake = Intake {
            call_id: self.call_id.clone(),
            request_id: self.request_id.clone(),
            endpoint: parsed.as_ref().map_or(Endpoint::ChatCompletions, |parsed| parsed.endpoint),
            path_model: parsed
                .as_ref()
                .and_then(|parsed| reading::model_beside_body(&headers, path_asked, parsed)),
            origin: Origin {
                path: path_asked.to_owned(),
                authority: text(":authority"),
                scheme: text(":scheme"),
                beta: headers.find(BETA_HEADER).map(str::to_owned),
            },
            wishes: wished(&headers),
            end_user: end_user(&headers, &self.config.user_headers),
            explain: text(ROUTE_HEADER).trim().eq_ignore_ascii_case("explain"),
            start_us: now_us,
            key,
            buffered: 0,
            dropped: 0,
            body: None,
            said: None,
        };
        vm::with(|vm| vm.intakes.insert(self.context, intake));
        if end { self.body_complete(0) } else { Action::Pause }
    }

    fn on_http_request_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        if !self.ours {
            return Action::Continue;
        }
        let waits =
            vm::with(|vm| vm.intakes.get_mut(&self.context).map(|intake| intake.buffered = size)).flatten();
        if waits.is_none() {
            return if self.went_on() { Action::Continue } else { Action::Pause };
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
            None if self.ours && !self.went_on() => Action::Pause,
            None => Action::Continue,
        }
    }

    fn on_http_response_headers(&mut self, _count: usize, end_of_stream: bool) -> Action {
        if !self.ours {
            return Action::Continue;
        }
        self.answered = true;
        // Read once: each call of the host costs about a microsecond.
        let mut headers = host::headers(MapType::HttpResponseHeaders);
        if self.last_error(&headers) {
            headers = host::headers(MapType::HttpResponseHeaders);
        }
        self.answer_headers(&headers);
        if self.config.prompt_bytes > 0 {
            self.words = self.answer_words(&headers);
        }
        if end_of_stream && self.give_body() {
            return Action::Pause;
        }
        self.reshaping = self.must_reshape();
        Action::Continue
    }

    fn on_http_response_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        if let Some(status) = self.reshaping {
            return self.reshape(status, size, end_of_stream);
        }
        if self.swapping {
            let body = self.swap.take().unwrap_or_default();
            host::replace_front(BufferType::HttpResponseBody, size, &body);
            if let Some(answered) = &mut self.words {
                answered.push(&body, body.len());
            }
        } else if let Some(answered) = &mut self.words {
            let wanted = answered.wants(size);
            if wanted > 0 {
                answered.push(&host::body(BufferType::HttpResponseBody, 0, wanted), size);
            }
        }
        Action::Continue
    }

    fn on_log(&mut self) {
        self.over();
    }
}
