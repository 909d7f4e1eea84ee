//! Server-sent events split at any byte (HTML Living Standard, "Interpreting an event stream").

use std::borrow::Cow;

use memchr::memchr2;

/// Largest event that is looked into, bytes. Larger ones pass through unparsed.
pub const MAX_EVENT_BYTES: usize = 1024 * 1024;

/// A piece of the stream. All pieces together are the stream, byte for byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    /// One whole event with its blank line.
    Event(&'a [u8]),
    /// The LF of a CRLF that ended the last event, when it came in a chunk of its own. Belongs to that event.
    Tail(&'a [u8]),
    /// Part of an event that is too large to be held.
    Oversized(&'a [u8]),
    /// What was held when the stream ended: an event without its blank line.
    Rest(&'a [u8]),
}

/// Cuts a stream into events. Holds at most one incomplete event of [`MAX_EVENT_BYTES`].
#[derive(Debug, Default)]
pub struct Splitter {
    held: Vec<u8>,
    cut: Cutter,
    oversized: bool,
    max: usize,
}

/// Where the end of an event is, byte by byte.
#[derive(Debug, Default, Clone, Copy)]
struct Cutter {
    /// The current line has bytes.
    in_line: bool,
    /// The last byte was a CR that ended a line within an event.
    after_cr: bool,
    /// The last byte was a CR that ended an event.
    ended_by_cr: bool,
}

impl Cutter {
    /// Length of `data` up to the end of the event in progress, or `None` when it goes on.
    fn find(&mut self, data: &[u8]) -> Option<usize> {
        let mut at: usize = 0;
        loop {
            let rest = data.get(at..)?;
            let (&first, _) = rest.split_first()?;
            if std::mem::take(&mut self.after_cr) && first == b'\n' {
                at = at.saturating_add(1);
                continue;
            }
            let Some(length) = memchr2(b'\n', b'\r', rest) else {
                self.in_line = true;
                return None;
            };
            let blank = length == 0 && !self.in_line;
            self.in_line = false;
            at = at.saturating_add(length);
            let cr = data.get(at) == Some(&b'\r');
            at = at.saturating_add(1);
            if !blank {
                self.after_cr = cr;
                continue;
            }
            if cr && data.get(at) == Some(&b'\n') {
                at = at.saturating_add(1);
            } else {
                self.ended_by_cr = cr;
            }
            return Some(at);
        }
    }
}

impl Splitter {
    #[must_use]
    pub fn new() -> Self {
        Self::with_max(MAX_EVENT_BYTES)
    }

    /// A splitter with a bound of its own, bytes.
    #[must_use]
    pub fn with_max(max: usize) -> Self {
        Self { max, ..Self::default() }
    }

    /// Bytes held back because their event is not whole.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Hands every piece that `chunk` completes to `take`, in order.
    pub fn push(&mut self, chunk: &[u8], take: &mut impl FnMut(Piece<'_>)) {
        let mut rest = chunk;
        if std::mem::take(&mut self.cut.ended_by_cr) {
            if let Some((b"\n", tail)) = rest.split_at_checked(1) {
                take(Piece::Tail(b"\n"));
                rest = tail;
            } else if rest.is_empty() {
                self.cut.ended_by_cr = true;
            }
        }
        while !rest.is_empty() {
            let Some(length) = self.cut.find(rest) else {
                self.hold(rest, take);
                return;
            };
            let (event, tail) = rest.split_at_checked(length).unwrap_or((rest, &[]));
            self.complete(event, take);
            rest = tail;
            if !rest.is_empty() {
                self.cut.ended_by_cr = false;
            }
        }
    }

    /// The stream is over: hands out what is held.
    pub fn finish(&mut self, take: &mut impl FnMut(Piece<'_>)) {
        let held = std::mem::take(&mut self.held);
        if !held.is_empty() {
            take(Piece::Rest(&held));
        }
    }

    fn complete(&mut self, event: &[u8], take: &mut impl FnMut(Piece<'_>)) {
        if std::mem::take(&mut self.oversized) {
            take(Piece::Oversized(event));
            return;
        }
        let whole = self.held.len().saturating_add(event.len());
        if self.held.is_empty() {
            take(if whole > self.max { Piece::Oversized(event) } else { Piece::Event(event) });
            return;
        }
        self.held.extend_from_slice(event);
        take(if whole > self.max { Piece::Oversized(&self.held) } else { Piece::Event(&self.held) });
        self.held.clear();
    }

    fn hold(&mut self, part: &[u8], take: &mut impl FnMut(Piece<'_>)) {
        if !self.oversized && self.held.len().saturating_add(part.len()) <= self.max {
            self.held.extend_from_slice(part);
            return;
        }
        self.oversized = true;
        let held = std::mem::take(&mut self.held);
        if !held.is_empty() {
            take(Piece::Oversized(&held));
        }
        take(Piece::Oversized(part));
    }
}

/// One event taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event<'a> {
    /// `event:` field, empty when there is none.
    pub name: &'a [u8],
    /// `data:` fields joined by LF; `None` without any (comments, keep-alives).
    pub data: Option<Cow<'a, [u8]>>,
    /// Where each data line begins: in the joined data, and in the raw event.
    lines: Vec<(usize, usize)>,
}

impl<'a> Event<'a> {
    /// Takes the raw bytes of one event apart.
    #[must_use]
    pub fn parse(raw: &'a [u8]) -> Self {
        let mut event = Self { name: &[], data: None, lines: Vec::with_capacity(1) };
        let mut at = if raw.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
        while let Some(rest) = raw.get(at..).filter(|rest| !rest.is_empty()) {
            let length = memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
            let line = rest.get(..length).unwrap_or_default();
            event.field(line, at);
            at = at.saturating_add(length).saturating_add(1);
        }
        event
    }

    /// Takes in one line that begins at `at` of the raw event.
    fn field(&mut self, line: &'a [u8], at: usize) {
        let (name, value) = match memchr::memchr(b':', line) {
            Some(colon) => (
                line.get(..colon).unwrap_or_default(),
                line.get(colon.saturating_add(1)..).unwrap_or_default(),
            ),
            None => (line, line.get(line.len()..).unwrap_or_default()),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        let raw = at.saturating_add(line.len()).saturating_sub(value.len());
        match (name, &mut self.data) {
            (b"event", _) => self.name = value,
            (b"data", None) => {
                self.lines.push((0, raw));
                self.data = Some(Cow::Borrowed(value));
            }
            (b"data", Some(data)) => {
                let data = data.to_mut();
                data.push(b'\n');
                self.lines.push((data.len(), raw));
                data.extend_from_slice(value);
            }
            _ => {}
        }
    }

    /// Place in the raw event of a place in the data.
    #[must_use]
    pub fn raw_at(&self, data_at: usize) -> Option<usize> {
        let (joined, raw) = self.lines.iter().rev().find(|(joined, _)| *joined <= data_at)?;
        raw.checked_add(data_at.checked_sub(*joined)?)
    }
}

#[cfg(test)]
#[path = "sse_tests.rs"]
mod tests;
