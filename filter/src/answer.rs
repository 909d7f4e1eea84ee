//! An upstream's answer on its way back, as values: what to hold, what to change, how the attempt ended.
//!
//! ```text
//! error status        held until its end or a bound: the body says of which class it is, and gets OpenAI's shape
//! 3xx                 502: a provider's redirect is never followed
//! 200, event stream   held until the first event; error or nothing: a retriable status instead
//! 200, JSON           held until its end or a bound; model name put back, usage read
//! 200, to translate   a stream is held until something of the answer is there, a document until its end
//! 200, anything else  passes; so does all that a provider keeps (files, batches)
//! 101                 a WebSocket: frames pass, and are read for what answers used
//! ```
//! No host calls here; the adapter drives it.

mod foreign;

use attache_llm::class::ErrorClass;
use attache_llm::contract::AttemptOutcome;
use attache_llm::dialect::Translator;
use attache_llm::dialect::attempt::Back;
use attache_llm::error::{ErrorShape, envelope, kind_of_status};
use attache_llm::response::{
    FirstEvent, JsonRewriter, RewriteOptions, StreamRewriter, classify, error_body, with_error_type,
};
use attache_llm::usage::{Counting, Usage};
use attache_llm::websocket::Frames;

use foreign::Begun;

/// A JSON answer up to this size is held whole and keeps a true `content-length`; a larger one is rewritten as it
/// passes. Well below Envoy's default buffer limit of 1 MiB, beyond which holding would turn into a 500.
const MAX_HELD_JSON: usize = 512 * 1024;
/// A first event larger than this is taken for a good one.
const MAX_HELD_EVENT: usize = 256 * 1024;
/// Error bodies are looked at as far as this.
const MAX_ERROR: usize = 64 * 1024;

const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream";

/// Facts of the response headers.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    pub status: u16,
    pub content_type: &'a str,
    /// A content encoding other than identity: unreadable.
    pub encoded: bool,
    /// There is no body.
    pub end: bool,
}

/// What to do with the response headers.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Opening {
    /// Keep them back until [`Flow::Send`].
    pub hold: bool,
    pub status: Option<u16>,
    /// Content type of what the client gets, where it differs.
    pub kind: Option<&'static str>,
    /// The length of the body will differ, or is not known yet.
    pub drop_length: bool,
    /// The attempt failed, whatever the body holds.
    pub failed: bool,
}

/// What to do with a piece of the body.
#[derive(Debug, PartialEq, Eq)]
pub enum Flow {
    /// Keep it; more is needed.
    Hold,
    /// It was taken in here; headers stay held.
    Taken,
    /// Let it pass as it is.
    Pass,
    /// Let this pass in its place.
    Send(Vec<u8>),
    /// Release held headers with these changes, and this in place of all that was held.
    Release(Release),
}

/// Changes to held headers.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Release {
    pub body: Vec<u8>,
    pub status: Option<u16>,
    /// Content type, where it differs.
    pub kind: Option<&'static str>,
    /// `content-length`, when all of the body is here.
    pub length: Option<usize>,
    /// The attempt failed.
    pub failed: bool,
}

#[derive(Debug)]
enum Mode {
    Pass,
    Error {
        status: u16,
    },
    Redirect,
    Swallow,
    HeldStream,
    Stream(Box<StreamRewriter>),
    HeldJson,
    Json(Box<JsonRewriter>),
    /// A stream to translate, of which nothing is there.
    HeldTranslation(Option<Box<Begun>>),
    Translation(Box<Translator>),
    /// A document to translate, as far as it came.
    Document(Vec<u8>),
    /// A WebSocket.
    Session(Box<Frames>),
}

/// The answer of one attempt.
#[derive(Debug)]
pub struct Answer {
    mode: Mode,
    options: RewriteOptions,
    back: Back,
    outcome: AttemptOutcome,
    class: Option<ErrorClass>,
    usage: Option<Usage>,
    /// `x-amzn-errortype`: AWS names its errors there, not in their bodies.
    error_type: Option<String>,
}

/// Error for the client where the upstream gave none that could be passed on.
#[must_use]
pub fn unusable(status: u16, shape: ErrorShape) -> Vec<u8> {
    own_error(status, "The upstream sent no usable answer.", shape)
}

fn own_error(status: u16, message: &str, shape: ErrorShape) -> Vec<u8> {
    shape.render(status, envelope(message, kind_of_status(status), None, Some(&status.to_string())))
}

impl Answer {
    /// Judges the headers.
    #[must_use]
    pub fn open(head: &Head<'_>, options: RewriteOptions, back: Back) -> (Self, Opening) {
        let (mode, outcome) = (Mode::Pass, AttemptOutcome::Answered);
        let mut answer = Self { mode, options, back, outcome, class: None, usage: None, error_type: None };
        let opening = answer.judge(head);
        (answer, opening)
    }

    /// Notes the value of `x-amzn-errortype`.
    pub fn set_error_type(&mut self, name: Option<&str>) {
        self.error_type = name.filter(|name| !name.is_empty()).map(str::to_owned);
    }

    fn judge(&mut self, head: &Head<'_>) -> Opening {
        if (300..=399).contains(&head.status) {
            self.outcome = AttemptOutcome::ErrorStatus;
            self.class = Some(ErrorClass::ServiceUnavailable);
            self.mode = Mode::Redirect;
            return Opening {
                status: Some(502),
                kind: Some(JSON),
                drop_length: true,
                failed: true,
                hold: false,
            };
        }
        if head.status >= 400 {
            self.outcome = AttemptOutcome::ErrorStatus;
            if head.encoded || head.end {
                self.class = Some(classify(head.status, &[]));
                return Opening { failed: true, ..Opening::default() };
            }
            self.mode = Mode::Error { status: head.status };
            return Opening { hold: true, drop_length: true, ..Opening::default() };
        }
        match self.options.counting {
            Counting::Session if head.status == 101 => {
                self.mode = Mode::Session(Box::default());
                self.usage = Counting::Session.unread();
                return Opening::default();
            }
            Counting::Stored => {
                // Also a file without content.
                self.usage = Counting::Stored.unread();
                if head.end {
                    self.outcome = AttemptOutcome::Complete;
                }
                return Opening::default();
            }
            _ => {}
        }
        if head.end {
            self.outcome = AttemptOutcome::FailedFirstEvent;
            self.class = Some(ErrorClass::ServiceUnavailable);
            return Opening { status: Some(502), kind: Some(JSON), failed: true, ..Opening::default() };
        }
        let kind = head.content_type.trim_start().to_ascii_lowercase();
        if !matches!(self.back, Back::Same) {
            return self.judge_foreign(head, &kind);
        }
        // For what passes unread. Whoever reads it knows better.
        self.usage = self.options.counting.unread();
        if head.encoded {
            return Opening::default();
        }
        if kind.starts_with("text/event-stream") {
            self.mode = Mode::HeldStream;
            self.usage = None;
            // Cut or stalled while held is no answer: it must count against the deployment.
            self.outcome = AttemptOutcome::NoAnswer;
            return Opening { hold: true, drop_length: true, ..Opening::default() };
        }
        if kind.starts_with("application/json") || kind.is_empty() {
            self.mode = Mode::HeldJson;
            self.usage = None;
            self.outcome = AttemptOutcome::NoAnswer;
            return Opening { hold: true, drop_length: true, ..Opening::default() };
        }
        Opening::default()
    }

    /// Must [`Self::body`] be given the bytes now? While a body is held it grows, and copying it each time would cost
    /// the square of its size.
    #[must_use]
    pub fn wants(&self, size: usize, end: bool) -> bool {
        match self.mode {
            Mode::Pass => false,
            Mode::HeldJson => end || size > MAX_HELD_JSON,
            Mode::Error { .. } => end || size > MAX_ERROR,
            Mode::Redirect
            | Mode::Swallow
            | Mode::HeldStream
            | Mode::Stream(_)
            | Mode::Json(_)
            | Mode::HeldTranslation(_)
            | Mode::Translation(_)
            | Mode::Document(_)
            | Mode::Session(_) => true,
        }
    }

    /// What to do with `data`: all that is held so far, or the next piece. Without wanting it (see [`Self::wants`])
    /// `data` is empty and only `end` counts.
    pub fn body(&mut self, data: &[u8], end: bool) -> Flow {
        let wanted = self.wants(data.len(), end);
        let shape = self.options.shape;
        match &mut self.mode {
            Mode::Pass => {
                if end && self.outcome == AttemptOutcome::Answered {
                    self.outcome = AttemptOutcome::Complete;
                }
                Flow::Pass
            }
            Mode::Session(frames) => {
                frames.push(data);
                self.usage = Some(frames.usage());
                if end {
                    self.outcome = AttemptOutcome::Complete;
                }
                Flow::Pass
            }
            Mode::Redirect => {
                self.mode = Mode::Swallow;
                let message = match self.outcome {
                    AttemptOutcome::ErrorStatus => {
                        "The upstream answered with a redirect, which is not followed."
                    }
                    _ => "The upstream sent an encoded answer, which cannot be read.",
                };
                Flow::Send(own_error(502, message, shape))
            }
            Mode::Swallow => Flow::Send(Vec::new()),
            Mode::HeldJson | Mode::Error { .. } if !wanted => Flow::Hold,
            Mode::Error { status } => {
                let named = self.error_type.as_deref().map(|name| with_error_type(data, name));
                let data = named.as_deref().unwrap_or(data);
                let class = classify(*status, data);
                self.class = Some(class);
                let body = match *status {
                    // The provider speaks of the gateway's credential. Its words would send the caller looking for
                    // a fault in a key that is good. Google and Anthropic do it with 400, too.
                    400 | 401 | 403 if class == ErrorClass::Authentication => own_error(
                        *status,
                        "The upstream refused the gateway's own credential or access.",
                        shape,
                    ),
                    // An error of Anthropic's to a client of Anthropic's has its shape already.
                    status => shape.pass(status, data.get(..MAX_ERROR).unwrap_or(data), error_body),
                };
                self.mode = Mode::Swallow;
                let length = Some(body.len());
                Flow::Release(Release { body, length, kind: Some(JSON), failed: true, status: None })
            }
            Mode::HeldStream => self.first_event(data, end),
            Mode::Stream(_) => self.stream(data, end),
            Mode::HeldJson => self.document(data, end),
            Mode::Json(_) => self.json(data, end),
            Mode::HeldTranslation(held) => {
                let held = held.take();
                self.begin_translation(held, data, end)
            }
            Mode::Translation(_) => self.translate(data, end),
            Mode::Document(_) => self.foreign_document(data, end),
        }
    }

    /// How the attempt stands now.
    #[must_use]
    pub fn outcome(&self) -> AttemptOutcome {
        self.outcome
    }

    /// Why it failed.
    #[must_use]
    pub fn class(&self) -> Option<ErrorClass> {
        self.class
    }

    /// Is it a stream of events, beyond its first?
    #[must_use]
    pub fn is_stream(&self) -> bool {
        matches!(self.mode, Mode::Stream(_) | Mode::Translation(_))
    }

    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        self.usage
    }

    fn first_event(&mut self, data: &[u8], end: bool) -> Flow {
        match StreamRewriter::first_event(data, end) {
            FirstEvent::Incomplete if data.len() <= MAX_HELD_EVENT && !end => Flow::Hold,
            FirstEvent::Error(error) => self.fail(error.status, error.body),
            FirstEvent::Empty => self.fail_empty(),
            FirstEvent::Good | FirstEvent::Incomplete => {
                self.mode = Mode::Stream(Box::new(StreamRewriter::new(self.options.clone())));
                let body = match self.stream(data, end) {
                    Flow::Send(body) => body,
                    _ => data.to_vec(),
                };
                Flow::Release(Release { body, ..Release::default() })
            }
        }
    }

    /// HTTP 200 with an error inside: the status says so now, and the router may go on to the next deployment.
    fn fail(&mut self, status: u16, body: Vec<u8>) -> Flow {
        self.outcome = AttemptOutcome::FailedFirstEvent;
        self.mode = Mode::Swallow;
        let status = if (400..=599).contains(&status) { status } else { 502 };
        self.class = Some(classify(status, &body));
        let body = self.options.shape.render(status, body);
        let length = Some(body.len());
        Flow::Release(Release { length, body, status: Some(status), kind: Some(JSON), failed: true })
    }

    fn fail_empty(&mut self) -> Flow {
        let error = attache_llm::dialect::empty();
        self.fail(error.status, error.body)
    }

    fn stream(&mut self, data: &[u8], end: bool) -> Flow {
        let Mode::Stream(rewriter) = &mut self.mode else { return Flow::Pass };
        let mut out = Vec::with_capacity(data.len());
        let changed = rewriter.push(data, end, &mut out);
        self.usage = rewriter.usage();
        self.outcome = if let Some(error) = rewriter.error_in_stream() {
            self.class = Some(classify(error.status, &error.body));
            AttemptOutcome::ErrorInStream
        } else if end || rewriter.done() {
            AttemptOutcome::Complete
        } else {
            AttemptOutcome::Answered
        };
        if changed { Flow::Send(out) } else { Flow::Pass }
    }

    fn document(&mut self, data: &[u8], end: bool) -> Flow {
        if data.is_empty() {
            return self.fail_empty();
        }
        let mut rewriter = JsonRewriter::new(self.options.clone());
        let mut body = Vec::with_capacity(data.len());
        rewriter.push(data, end, &mut body);
        if let Some(error) = rewriter.error() {
            return self.fail(error.status, error.body.clone());
        }
        self.settle(&rewriter, end);
        self.mode = Mode::Json(Box::new(rewriter));
        Flow::Release(Release { length: end.then_some(body.len()), body, ..Release::default() })
    }

    fn json(&mut self, data: &[u8], end: bool) -> Flow {
        let Mode::Json(rewriter) = &mut self.mode else { return Flow::Pass };
        let mut out = Vec::with_capacity(data.len());
        let changed = rewriter.push(data, end, &mut out);
        let usage = rewriter.usage();
        self.usage = usage;
        if end {
            self.outcome = AttemptOutcome::Complete;
        }
        if changed { Flow::Send(out) } else { Flow::Pass }
    }

    fn settle(&mut self, rewriter: &JsonRewriter, end: bool) {
        self.usage = rewriter.usage();
        self.outcome = if end { AttemptOutcome::Complete } else { AttemptOutcome::Answered };
    }
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
