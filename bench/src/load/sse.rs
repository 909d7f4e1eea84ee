//! Finds the events of a stream without keeping them.

/// So many bytes of a line are looked at: enough for the end mark and for the beginning of an error.
const LOOKED_AT: usize = 64;

/// Reads server-sent events piece by piece; a piece may end anywhere.
#[derive(Debug)]
pub(super) struct Scanner {
    /// The data, or the event's name, that ends a stream.
    end_mark: Vec<u8>,
    /// Beginning of the current line.
    line: Vec<u8>,
    /// Length of the current line so far.
    length: usize,
    /// The current event has data.
    data: bool,
    ended: bool,
    error: bool,
}

impl Scanner {
    pub(super) fn new(end_mark: &str) -> Self {
        let line = Vec::with_capacity(LOOKED_AT);
        Self { end_mark: end_mark.into(), line, length: 0, data: false, ended: false, error: false }
    }

    /// Begins another stream.
    pub(super) fn reset(&mut self) {
        self.line.clear();
        self.length = 0;
        (self.data, self.ended, self.error) = (false, false, false);
    }

    /// The end mark has been seen.
    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    /// An event told of an error.
    pub(super) fn error(&self) -> bool {
        self.error
    }

    /// How many events became complete with this piece.
    pub(super) fn feed(&mut self, mut piece: &[u8]) -> usize {
        let mut events = 0;
        while let Some(at) = memchr::memchr(b'\n', piece) {
            self.part(&piece[..at]);
            events += usize::from(self.end_line());
            piece = &piece[at + 1..];
        }
        self.part(piece);
        events
    }

    fn part(&mut self, part: &[u8]) {
        let room = LOOKED_AT.saturating_sub(self.line.len()).min(part.len());
        self.line.extend_from_slice(&part[..room]);
        self.length += part.len();
    }

    /// Whether an event ended here.
    fn end_line(&mut self) -> bool {
        let whole = self.length == self.line.len();
        if whole && self.line.last() == Some(&b'\r') {
            self.line.pop();
        }
        let mut ends_event = false;
        if self.line.is_empty() {
            ends_event = std::mem::take(&mut self.data);
        } else if let Some(value) = field(&self.line, b"data") {
            self.data = true;
            self.ended |= whole && value == self.end_mark;
            self.error |= value.starts_with(b"{\"error\"");
        } else if let Some(value) = field(&self.line, b"event") {
            self.ended |= whole && value == self.end_mark;
            self.error |= whole && value == b"error";
        }
        self.line.clear();
        self.length = 0;
        ends_event
    }
}

/// Value of a line of this field.
fn field<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let value = line.strip_prefix(name)?.strip_prefix(b":")?;
    Some(value.strip_prefix(b" ").unwrap_or(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &[u8] = b": hello\n\ndata: {\"a\":1}\n\ndata:{\"b\":\r\ndata: 2}\r\n\r\nevent: x\ndata: 3\n\ndata: [DONE]\n\n";

    #[test]
    fn events_are_found_however_the_stream_is_cut() {
        for size in 1..=STREAM.len() {
            let mut scanner = Scanner::new("[DONE]");
            let events: usize = STREAM.chunks(size).map(|piece| scanner.feed(piece)).sum();
            assert_eq!((events, scanner.ended(), scanner.error()), (4, true, false), "pieces of {size}");
        }
    }

    #[test]
    fn the_end_mark_is_a_whole_line() {
        let mut scanner = Scanner::new("[DONE]");
        scanner.feed(b"data: [DONE] not\n\ndata: a[DONE]\n\ndata: [DON");
        assert!(!scanner.ended());
        scanner.feed(b"E]\n");
        assert!(scanner.ended());
        scanner.reset();
        assert!(!scanner.ended());
        let mut scanner = Scanner::new("message_stop");
        scanner.feed(b"event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n");
        assert!(scanner.ended());
    }

    #[test]
    fn long_lines_are_not_kept() {
        let mut scanner = Scanner::new("[DONE]");
        scanner.feed(b"data: ");
        for _ in 0..1000 {
            scanner.feed(&[b'x'; 1000]);
        }
        assert_eq!(scanner.feed(b"\n\n"), 1);
        assert!(scanner.line.capacity() <= 2 * LOOKED_AT);
    }

    #[test]
    fn errors_are_seen() {
        for text in ["data: {\"error\": {\"message\": \"no\"}}\n\n", "event: error\ndata: {}\n\n"] {
            let mut scanner = Scanner::new("[DONE]");
            scanner.feed(text.as_bytes());
            assert!(scanner.error(), "{text}");
        }
    }
}
