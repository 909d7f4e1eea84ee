//! What is seen of one answer while it arrives.

use std::time::{Duration, Instant};

use super::sse::Scanner;

/// Why an answer is not a good one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// No connection, or TLS failed.
    Connect,
    /// The connection or the HTTP/2 stream broke before the answer was whole, or the request could not be written.
    Broken,
    /// What came is not HTTP.
    Protocol,
    /// Not whole within the time for a request.
    Timeout,
    /// Another status than the expected one.
    Status,
    /// A good status without any body.
    Empty,
    /// A stream was asked for, and something else came.
    NotAStream,
    /// A stream told of an error.
    ErrorEvent,
    /// A stream ended without its end mark.
    NoEndMark,
}

impl Failure {
    /// Its name in the report.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Broken => "broken",
            Self::Protocol => "protocol",
            Self::Timeout => "timeout",
            Self::Status => "status",
            Self::Empty => "empty",
            Self::NotAStream => "not_a_stream",
            Self::ErrorEvent => "error_event",
            Self::NoEndMark => "no_end_mark",
        }
    }
}

/// One answer; used again for the next.
#[derive(Debug)]
pub(super) struct Watch {
    scanner: Option<Scanner>,
    expect: u16,
    /// When the request should have been sent.
    pub due: Instant,
    pub sent: Instant,
    /// 0: none came.
    pub status: u16,
    pub retry_after: bool,
    event_stream: bool,
    pub bytes: u64,
    pub first_byte: Option<Instant>,
    pub first_event: Option<Instant>,
    last_event: Instant,
    /// Between one event and the next.
    pub gaps: Vec<Duration>,
}

impl Watch {
    /// `end_mark`: of a stream, if one is asked for.
    pub(super) fn new(expect: u16, end_mark: Option<&str>) -> Self {
        let now = Instant::now();
        Self {
            scanner: end_mark.map(Scanner::new),
            expect,
            due: now,
            sent: now,
            status: 0,
            retry_after: false,
            event_stream: false,
            bytes: 0,
            first_byte: None,
            first_event: None,
            last_event: now,
            gaps: Vec::new(),
        }
    }

    /// Begins with another request.
    pub(super) fn start(&mut self, due: Instant, sent: Instant) {
        (self.due, self.sent) = (due, sent);
        (self.status, self.retry_after, self.event_stream, self.bytes) = (0, false, false, 0);
        (self.first_byte, self.first_event) = (None, None);
        self.gaps.clear();
        if let Some(scanner) = &mut self.scanner {
            scanner.reset();
        }
    }

    /// The head of the answer is there.
    pub(super) fn head(&mut self, status: u16, content_type: &[u8], retry_after: bool) {
        self.status = status;
        self.retry_after = retry_after;
        self.event_stream = content_type.starts_with(b"text/event-stream");
    }

    /// A piece of the body is there.
    pub(super) fn data(&mut self, piece: &[u8]) {
        if piece.is_empty() {
            return;
        }
        let now = Instant::now();
        self.bytes += piece.len() as u64;
        self.first_byte.get_or_insert(now);
        let Some(scanner) = self.scanner.as_mut().filter(|_| self.event_stream) else { return };
        for _ in 0..scanner.feed(piece) {
            if self.first_event.is_none() {
                self.first_event = Some(now);
            } else {
                self.gaps.push(now - self.last_event);
            }
            self.last_event = now;
        }
    }

    /// The answer is whole: is it a good one?
    pub(super) fn judge(&self) -> Result<(), Failure> {
        if self.status != self.expect {
            return Err(Failure::Status);
        }
        if self.first_byte.is_none() && self.status != 204 {
            return Err(Failure::Empty);
        }
        let Some(scanner) = self.scanner.as_ref().filter(|_| (200..300).contains(&self.status)) else {
            return Ok(());
        };
        match () {
            () if !self.event_stream => Err(Failure::NotAStream),
            () if scanner.error() => Err(Failure::ErrorEvent),
            () if !scanner.ended() => Err(Failure::NoEndMark),
            () => Ok(()),
        }
    }

    /// Events of the stream.
    pub(super) fn events(&self) -> u64 {
        if self.first_event.is_some() { self.gaps.len() as u64 + 1 } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(content_type: &str, status: u16, pieces: &[&str]) -> Result<(), Failure> {
        let mut watch = Watch::new(200, Some("[DONE]"));
        watch.head(status, content_type.as_bytes(), false);
        pieces.iter().for_each(|piece| watch.data(piece.as_bytes()));
        watch.judge()
    }

    #[test]
    fn answers_are_judged() {
        let stream = "text/event-stream; charset=utf-8";
        assert_eq!(judged(stream, 200, &["data: 1\n\n", "data: [DONE]\n\n"]), Ok(()));
        assert_eq!(judged(stream, 200, &["data: 1\n\n"]), Err(Failure::NoEndMark));
        assert_eq!(judged(stream, 200, &[]), Err(Failure::Empty));
        assert_eq!(
            judged(stream, 200, &["data: {\"error\":1}\n\ndata: [DONE]\n\n"]),
            Err(Failure::ErrorEvent)
        );
        assert_eq!(judged("application/json", 200, &["{}"]), Err(Failure::NotAStream));
        assert_eq!(judged("application/json", 429, &["{}"]), Err(Failure::Status));
    }

    #[test]
    fn gaps_are_between_events() {
        let mut watch = Watch::new(200, Some("[DONE]"));
        watch.head(200, b"text/event-stream", false);
        watch.data(b"data: 1\n");
        assert!(watch.first_byte.is_some() && watch.first_event.is_none());
        watch.data(b"\ndata: 2\n\n");
        std::thread::sleep(Duration::from_millis(5));
        watch.data(b"data: [DONE]\n\n");
        assert_eq!((watch.events(), watch.gaps.len(), watch.gaps[0]), (3, 2, Duration::ZERO));
        assert!(watch.gaps[1] >= Duration::from_millis(5));
        watch.start(Instant::now(), Instant::now());
        assert_eq!((watch.events(), watch.bytes, watch.first_byte), (0, 0, None));
    }
}
