//! AWS event streams (`application/vnd.amazon.eventstream`) split at any byte.
//!
//! A message: total length, length of the headers, CRC of these two; headers; payload; CRC of all before it. Numbers are
//! big-endian. Source: "Event stream encoding" of the AWS documentation (Transcribe, Smithy `eventStreamEncoding`).

use std::borrow::Cow;

use serde_json::json;

/// Largest message that is read, bytes. Amazon's own bound is 16 MiB of payload; Converse sends pieces of a few KB, but a
/// made image comes in one.
pub const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;
/// Bytes before the headers.
const PRELUDE: usize = 12;
/// The CRC of a message.
const TRAILER: usize = 4;

/// One message of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message<'a> {
    /// `:event-type`, or for an exception `:exception-type` or `:error-code`; empty for none.
    pub name: &'a str,
    pub exception: bool,
    /// The payload. For an error without one its `:error-message`, as `{"message": ...}`.
    pub data: Cow<'a, [u8]>,
}

/// The stream cannot be read any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// A length that no message has, or more than [`MAX_MESSAGE_BYTES`].
    Length,
    /// A CRC that is not that of the bytes.
    Checksum,
    /// Headers that cannot be told apart.
    Headers,
    /// The stream ended within a message.
    Truncated,
}

impl Malformed {
    /// For people.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Length => "a message of impossible length",
            Self::Checksum => "a wrong checksum",
            Self::Headers => "malformed headers",
            Self::Truncated => "the end within a message",
        }
    }
}

/// Cuts a stream into messages. Holds at most one that is not whole, of [`MAX_MESSAGE_BYTES`]; after the first fault it
/// takes nothing more.
#[derive(Debug, Default)]
pub struct Decoder {
    held: Vec<u8>,
    failed: bool,
}

impl Decoder {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes held back because their message is not whole.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Hands every message that `chunk` completes to `take`, in order.
    pub fn push(&mut self, chunk: &[u8], take: &mut impl FnMut(Result<Message<'_>, Malformed>)) {
        if self.failed || chunk.is_empty() {
            return;
        }
        // Most chunks hold whole messages: those are read where they are.
        let mut held = std::mem::take(&mut self.held);
        let mut rest = chunk;
        while !held.is_empty() && !rest.is_empty() {
            let wanted = match total_length(&held) {
                Ok(length) => length.unwrap_or(PRELUDE),
                Err(fault) => return self.fail(fault, take),
            };
            let missing = wanted.saturating_sub(held.len());
            let (part, tail) = rest.split_at_checked(missing).unwrap_or((rest, &[]));
            held.extend_from_slice(part);
            rest = tail;
            match next(&held) {
                Ok(Some((message, _))) => take(Ok(message)),
                Ok(None) => continue,
                Err(fault) => return self.fail(fault, take),
            }
            held.clear();
        }
        loop {
            match next(rest) {
                Ok(Some((message, tail))) => {
                    take(Ok(message));
                    rest = tail;
                }
                Ok(None) => break,
                Err(fault) => return self.fail(fault, take),
            }
        }
        held.extend_from_slice(rest);
        self.held = held;
    }

    /// The stream is over: nothing may be held.
    pub fn finish(&mut self, take: &mut impl FnMut(Result<Message<'_>, Malformed>)) {
        if !std::mem::take(&mut self.held).is_empty() && !self.failed {
            self.fail(Malformed::Truncated, take);
        }
    }

    fn fail(&mut self, fault: Malformed, take: &mut impl FnMut(Result<Message<'_>, Malformed>)) {
        self.failed = true;
        take(Err(fault));
    }
}

/// Length of the message that begins `data`; `None` when its prelude is not whole.
fn total_length(data: &[u8]) -> Result<Option<usize>, Malformed> {
    let Some(prelude) = data.get(..PRELUDE) else { return Ok(None) };
    let total = number(prelude, 0).ok_or(Malformed::Length)?;
    let headers = number(prelude, 4).ok_or(Malformed::Length)?;
    let frame = headers.saturating_add(PRELUDE).saturating_add(TRAILER);
    if total > MAX_MESSAGE_BYTES || total < frame {
        return Err(Malformed::Length);
    }
    if checksum(prelude.get(..8)) != number(prelude, 8) {
        return Err(Malformed::Checksum);
    }
    Ok(Some(total))
}

/// The first message of `data` and what follows it; `None` when it is not whole.
fn next(data: &[u8]) -> Result<Option<(Message<'_>, &[u8])>, Malformed> {
    let Some(total) = total_length(data)? else { return Ok(None) };
    let Some((message, rest)) = data.split_at_checked(total) else { return Ok(None) };
    let end = total.saturating_sub(TRAILER);
    if checksum(message.get(..end)) != number(message, end) {
        return Err(Malformed::Checksum);
    }
    let headers_end = number(message, 4).unwrap_or(0).saturating_add(PRELUDE);
    let headers = message.get(PRELUDE..headers_end).ok_or(Malformed::Length)?;
    let payload = message.get(headers_end..end).ok_or(Malformed::Length)?;
    let headers = Headers::read(headers).ok_or(Malformed::Headers)?;
    Ok(Some((headers.message(payload), rest)))
}

/// Big-endian, four bytes.
fn number(data: &[u8], at: usize) -> Option<usize> {
    let bytes = data.get(at..)?.first_chunk::<4>()?;
    usize::try_from(u32::from_be_bytes(*bytes)).ok()
}

fn checksum(data: Option<&[u8]>) -> Option<usize> {
    usize::try_from(crc32fast::hash(data?)).ok()
}

/// The headers that say what a message is.
#[derive(Debug, Default)]
struct Headers<'a> {
    message_type: &'a str,
    event_type: &'a str,
    exception_type: &'a str,
    error_code: &'a str,
    error_message: &'a str,
}

impl<'a> Headers<'a> {
    fn read(mut data: &'a [u8]) -> Option<Self> {
        let mut headers = Self::default();
        while let Some((&length, rest)) = data.split_first() {
            let (name, rest) = rest.split_at_checked(usize::from(length))?;
            let (&kind, rest) = rest.split_first()?;
            let (value, rest) = value(kind, rest)?;
            data = rest;
            if kind != 7 {
                continue;
            }
            let value = std::str::from_utf8(value).ok()?;
            match name {
                b":message-type" => headers.message_type = value,
                b":event-type" => headers.event_type = value,
                b":exception-type" => headers.exception_type = value,
                b":error-code" => headers.error_code = value,
                b":error-message" => headers.error_message = value,
                _ => {}
            }
        }
        Some(headers)
    }

    fn message(self, payload: &'a [u8]) -> Message<'a> {
        let event = match self.message_type {
            // What says no type is what its other headers say it is.
            "" => self.exception_type.is_empty() && self.error_code.is_empty(),
            kind => kind == "event",
        };
        if event {
            return Message { name: self.event_type, exception: false, data: Cow::Borrowed(payload) };
        }
        let name = if self.exception_type.is_empty() { self.error_code } else { self.exception_type };
        let data = if payload.is_empty() && !self.error_message.is_empty() {
            Cow::Owned(json!({ "message": self.error_message }).to_string().into_bytes())
        } else {
            Cow::Borrowed(payload)
        };
        Message { name, exception: true, data }
    }
}

/// Value of a header of this type, and what follows it.
fn value(kind: u8, data: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = match kind {
        // True and false.
        0 | 1 => 0,
        2 => 1,
        3 => 2,
        4 => 4,
        // A long integer, a timestamp.
        5 | 8 => 8,
        // A UUID.
        9 => 16,
        // Bytes, text.
        6 | 7 => {
            let (length, rest) = data.split_first_chunk::<2>()?;
            return rest.split_at_checked(usize::from(u16::from_be_bytes(*length)));
        }
        _ => return None,
    };
    data.split_at_checked(length)
}

#[cfg(test)]
#[path = "eventstream_tests.rs"]
pub(crate) mod tests;
