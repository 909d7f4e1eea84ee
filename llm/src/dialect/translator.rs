//! The answer of one attempt on its way from the provider's dialect to the client's.

use super::Dialect;
use super::answer::Event;
use super::translate::{Caller, Frame, Read, Reading, Write, reader, writer};
use crate::error::{ApiError, kind_of_status};
use crate::eventstream::{Decoder, MAX_MESSAGE_BYTES, Malformed, Message};
use crate::price::Class;
use crate::response::UpstreamError;
use crate::sse::{Event as SseEvent, Piece, Splitter};
use crate::usage::Usage;

/// Reads what the provider sends and writes what the client shall see.
///
/// Nothing may go out before [`Self::began`]: until then another deployment can take the request.
#[derive(Debug)]
pub struct Translator {
    framing: Framing,
    reader: Box<dyn Read>,
    writer: Box<dyn Write>,
    seen: Seen,
    /// Events of the frame in progress; kept for its capacity.
    events: Vec<Event>,
}

/// How events are told apart in the provider's stream.
#[derive(Debug)]
enum Framing {
    Sse(Splitter),
    Aws(Decoder),
}

impl Framing {
    fn of(upstream: Dialect) -> Self {
        match upstream {
            Dialect::Converse => Self::Aws(Decoder::new()),
            // A made image comes in one event.
            Dialect::Gemini => Self::Sse(Splitter::with_max(MAX_MESSAGE_BYTES)),
            _ => Self::Sse(Splitter::new()),
        }
    }
}

/// What the gateway itself wants to know of the answer.
#[derive(Debug, Default)]
struct Seen {
    input_estimate: u64,
    usage: Option<Usage>,
    class: Class,
    /// Something of the answer itself was there.
    began: bool,
    done: bool,
    error: Option<UpstreamError>,
    text_bytes: u64,
}

impl Translator {
    /// `upstream`: what the provider speaks. `input_estimate`: tokens of the prompt, where the provider sends no usage.
    ///
    /// # Errors
    /// One of the two dialects is not spoken on that side.
    pub fn new(
        upstream: Dialect,
        reading: Reading,
        caller: Caller,
        input_estimate: u64,
    ) -> Result<Self, ApiError> {
        Ok(Self {
            framing: Framing::of(upstream),
            reader: reader(upstream, reading)?,
            writer: writer(caller)?,
            seen: Seen { input_estimate, ..Seen::default() },
            events: Vec::new(),
        })
    }

    /// A whole answer.
    ///
    /// # Errors
    /// It is an error, or nothing that could be read.
    pub fn document(&mut self, body: &[u8]) -> Result<Vec<u8>, UpstreamError> {
        let events = self.read_document(body)?;
        Ok(self.writer.document(events))
    }

    /// A whole answer to a client that waits for a stream.
    ///
    /// # Errors
    /// As [`Self::document`].
    pub fn document_as_stream(&mut self, body: &[u8]) -> Result<Vec<u8>, UpstreamError> {
        let mut out = Vec::with_capacity(body.len().saturating_mul(2));
        for event in self.read_document(body)? {
            self.writer.event(event, &mut out);
        }
        Ok(out)
    }

    fn read_document(&mut self, body: &[u8]) -> Result<Vec<Event>, UpstreamError> {
        let mut events = Vec::new();
        self.reader.document(body, &mut events);
        for event in &events {
            self.seen.note(event);
        }
        self.seen.done = true;
        match self.seen.error.clone() {
            Some(error) => Err(error),
            None => Ok(events),
        }
    }

    /// Appends to `out` what the client shall see of the next bytes of a stream (`end`: there will be no more).
    pub fn push(&mut self, chunk: &[u8], end: bool, out: &mut Vec<u8>) {
        let Self { framing, reader, writer, seen, events } = self;
        let mut take = |frame: Frame<'_>| {
            if seen.done {
                return;
            }
            reader.frame(frame, events);
            deliver(events, seen, writer.as_mut(), out);
        };
        match framing {
            Framing::Sse(splitter) => {
                let mut piece = |piece: Piece<'_>| sse_frame(piece, &mut take);
                splitter.push(chunk, &mut piece);
                if end {
                    splitter.finish(&mut piece);
                }
            }
            Framing::Aws(decoder) => {
                let mut message = |message: Result<Message<'_>, Malformed>| aws_frame(message, &mut take);
                decoder.push(chunk, &mut message);
                if end {
                    decoder.finish(&mut message);
                }
            }
        }
        if end && !seen.done {
            reader.end(events);
            deliver(events, seen, writer.as_mut(), out);
        }
    }

    /// Is something of the answer there, so that it may be given to the client?
    #[must_use]
    pub fn began(&self) -> bool {
        self.seen.began
    }

    /// The dialect's end was read, or an error.
    #[must_use]
    pub fn done(&self) -> bool {
        self.seen.done
    }

    #[must_use]
    pub fn error(&self) -> Option<&UpstreamError> {
        self.seen.error.as_ref()
    }

    /// The provider's usage, or an estimate marked as one; `None` when nothing was produced.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        let seen = &self.seen;
        let usage = match seen.usage {
            Some(usage) => usage,
            None if !seen.began => return None,
            None => Usage::estimate(seen.input_estimate, seen.text_bytes.div_ceil(4)),
        };
        Some(if usage.class == Class::Standard { Usage { class: seen.class, ..usage } } else { usage })
    }
}

/// Notes and writes events, in order.
fn deliver(events: &mut Vec<Event>, seen: &mut Seen, writer: &mut dyn Write, out: &mut Vec<u8>) {
    for event in events.drain(..) {
        if seen.done {
            continue;
        }
        seen.note(&event);
        let failed = matches!(event, Event::Error(_));
        // Before the beginning an error is for the router, not for the client.
        if failed && !seen.began {
            seen.done = true;
            continue;
        }
        writer.event(event, out);
        if failed {
            writer.event(Event::End, out);
            seen.done = true;
        }
    }
}

fn sse_frame(piece: Piece<'_>, take: &mut impl FnMut(Frame<'_>)) {
    let (Piece::Event(raw) | Piece::Rest(raw) | Piece::Oversized(raw)) = piece else { return };
    let event = SseEvent::parse(raw);
    if let Some(data) = event.data.as_deref().filter(|data| !data.trim_ascii().is_empty()) {
        take(Frame { name: event.name, data, exception: false });
    }
}

/// A stream that cannot be read on ends like one whose provider failed.
fn aws_frame(message: Result<Message<'_>, Malformed>, take: &mut impl FnMut(Frame<'_>)) {
    match message {
        Ok(Message { name, exception, data }) => {
            take(Frame { name: name.as_bytes(), data: &data, exception });
        }
        Err(fault) => {
            let message = format!("The upstream's event stream cannot be read: {}.", fault.reason());
            let data = serde_json::json!({ "message": message }).to_string();
            take(Frame { name: b"", data: data.as_bytes(), exception: true });
        }
    }
}

impl Seen {
    fn note(&mut self, event: &Event) {
        let bytes = |text: &str| u64::try_from(text.len()).unwrap_or(0);
        match event {
            Event::Text { text, .. } | Event::Refusal { text, .. } | Event::Thinking { text, .. } => {
                self.text_bytes = self.text_bytes.saturating_add(bytes(text));
                self.began = true;
            }
            Event::ToolArguments { json, .. } => {
                self.text_bytes = self.text_bytes.saturating_add(bytes(json));
                self.began = true;
            }
            Event::ToolCall { name, .. } => {
                self.text_bytes = self.text_bytes.saturating_add(bytes(name));
                self.began = true;
            }
            Event::Signature { .. }
            | Event::RedactedThinking { .. }
            | Event::Media { .. }
            | Event::Finish { .. }
            | Event::Citation { .. }
            | Event::Logprobs { .. }
            | Event::Other { .. } => self.began = true,
            Event::Usage(usage) => self.usage = Some(*usage),
            Event::Also(members) => {
                if let Some(tier) = members.get("service_tier").and_then(serde_json::Value::as_str) {
                    self.class = Class::of_tier(tier);
                }
            }
            Event::Error(error) => self.error = Some(error.clone()),
            Event::End => self.done = true,
            Event::Start { .. } | Event::Break { .. } => {}
        }
    }
}

/// The error for an answer that ended before it began.
#[must_use]
pub fn empty() -> UpstreamError {
    UpstreamError::new("The upstream sent an empty answer.", Some(kind_of_status(502)), Some("502"))
}
