use std::ops::Range;

use super::document::{keep_tail, value_in_tail};
use super::template::Template;
use super::{Answer, RewriteOptions, Step, UpstreamError, in_class, mask_into, splice, tokens};
use crate::json;
use crate::price::Class;
use crate::sse::{Event, MAX_EVENT_BYTES, Piece, Splitter};
use crate::usage::{Counting, Usage};

/// Verdict on the beginning of a stream, while the adapter still holds the headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FirstEvent {
    /// Nothing to decide on yet.
    Incomplete,
    /// A good answer begins: release it.
    Good,
    /// The first event is an error: try elsewhere.
    Error(UpstreamError),
    /// The stream ended without an event: try elsewhere.
    Empty,
}

/// What the data of one event is.
enum Data {
    /// `[DONE]`.
    Done,
    Error(UpstreamError),
    Answer(Answer),
    /// Not a JSON object.
    Unknown,
}

impl Data {
    fn of(event: &Event<'_>) -> Option<Self> {
        let data = event.data.as_deref()?;
        if data.trim_ascii() == b"[DONE]" {
            return Some(Self::Done);
        }
        Some(match Answer::read(data) {
            Some(mut answer) => match answer.error.take() {
                Some(error) => Self::Error(error),
                None if event.name == b"error" => Self::Error(UpstreamError::of_text(data)),
                None => Self::Answer(answer),
            },
            None if event.name == b"error" => Self::Error(UpstreamError::of_text(data)),
            None => Self::Unknown,
        })
    }
}

/// Rewrites a stream of server-sent events as it passes.
///
/// Whole events go through untouched except that the top-level `model` becomes the client's word for it, and that the
/// usage event is dropped when only the gateway had asked for it. An incomplete event waits for its rest.
#[derive(Debug)]
pub struct StreamRewriter {
    splitter: Splitter,
    seen: Seen,
}

/// Everything but the splitter, so that both can be borrowed at once.
#[derive(Debug)]
struct Seen {
    drop_usage: bool,
    done_mark: bool,
    input_estimate: u64,
    counting: Counting,
    /// End of an event that was too large.
    tail: Vec<u8>,
    /// The client's model name as a JSON string.
    model: Vec<u8>,
    usage: Option<Usage>,
    /// The last class that was no standard one.
    class: Class,
    events: u64,
    text_bytes: u64,
    finish_reason: Option<String>,
    error: Option<UpstreamError>,
    done: bool,
    dropped_last: bool,
    changed: bool,
    template: Template,
}

impl StreamRewriter {
    #[must_use]
    pub fn new(options: RewriteOptions) -> Self {
        let seen = Seen {
            drop_usage: options.injected_usage && !options.want_usage,
            done_mark: options.done_mark,
            input_estimate: options.input_estimate,
            counting: options.counting,
            tail: Vec::new(),
            model: options.shown_model(),
            usage: None,
            class: Class::Standard,
            events: 0,
            text_bytes: 0,
            finish_reason: None,
            error: None,
            done: false,
            dropped_last: false,
            changed: false,
            template: Template::default(),
        };
        Self { splitter: Splitter::new(), seen }
    }

    /// Looks at all that has come so far (`end`: nothing more will come). Stateless: call it again with more.
    ///
    /// Comments, and events without a choice (Azure's prompt filter results), decide nothing. `[DONE]` before any
    /// choice is an empty stream, and data that is no JSON object is an error: no SDK could read it.
    #[must_use]
    pub fn first_event(buffered: &[u8], end: bool) -> FirstEvent {
        let mut verdict = None;
        let mut take = |piece: Piece<'_>| {
            if verdict.is_none() {
                verdict = match piece {
                    Piece::Event(raw) | Piece::Rest(raw) => judge(raw),
                    Piece::Tail(_) => None,
                    Piece::Oversized(_) => Some(FirstEvent::Good),
                };
            }
        };
        let mut splitter = Splitter::new();
        splitter.push(buffered, &mut take);
        if end {
            splitter.finish(&mut take);
        }
        match verdict {
            Some(verdict) => verdict,
            None if buffered.len() > MAX_EVENT_BYTES => FirstEvent::Good,
            None if !end => FirstEvent::Incomplete,
            // Some servers announce a stream and then send a plain JSON error.
            None => match Answer::read(buffered) {
                Some(Answer { error: Some(error), .. }) => FirstEvent::Error(error),
                _ => FirstEvent::Empty,
            },
        }
    }

    /// Appends to `out` what the client shall see of `chunk`. True when that differs from the chunk itself.
    pub fn push(&mut self, chunk: &[u8], end: bool, out: &mut Vec<u8>) -> bool {
        let held = self.splitter.held();
        self.seen.changed = held != 0;
        let Self { splitter, seen } = self;
        let mut take = |piece: Piece<'_>| seen.piece(piece, out);
        splitter.push(chunk, &mut take);
        if end {
            splitter.finish(&mut take);
            self.seen.close(out);
        }
        self.seen.changed || self.splitter.held() != 0
    }

    /// The provider's usage, or an estimate marked as one; `None` when nothing was produced.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        let seen = &self.seen;
        if seen.usage.is_none() && seen.events == 0 {
            return None;
        }
        let estimate = || Usage::estimate(seen.input_estimate, tokens(seen.text_bytes));
        seen.counting.settle(seen.usage, estimate).map(|usage| in_class(usage, seen.class))
    }

    /// An error event that came after the first good one.
    #[must_use]
    pub fn error_in_stream(&self) -> Option<&UpstreamError> {
        self.seen.error.as_ref()
    }

    /// Was `[DONE]` seen, or the dialect's last event?
    #[must_use]
    pub fn done(&self) -> bool {
        self.seen.done
    }

    /// Data events seen; `[DONE]` and errors not counted.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.seen.events
    }

    /// Last `finish_reason` seen.
    #[must_use]
    pub fn finish_reason(&self) -> Option<&str> {
        self.seen.finish_reason.as_deref()
    }
}

/// What one event says about the stream it begins; `None` when it decides nothing.
fn judge(raw: &[u8]) -> Option<FirstEvent> {
    let event = Event::parse(raw);
    match Data::of(&event)? {
        Data::Done => Some(FirstEvent::Empty),
        Data::Error(error) => Some(FirstEvent::Error(error)),
        Data::Answer(answer) if answer.choices == Some(0) => None,
        // Announced, but nothing of it is there: Anthropic says "overloaded" after this.
        Data::Answer(answer) if matches!(answer.step, Step::Opening | Step::Ping) => None,
        Data::Answer(_) => Some(FirstEvent::Good),
        Data::Unknown if event.data.as_deref().is_none_or(|data| data.trim_ascii().is_empty()) => None,
        Data::Unknown => {
            Some(FirstEvent::Error(UpstreamError::of_text(event.data.as_deref().unwrap_or_default())))
        }
    }
}

impl Seen {
    fn piece(&mut self, piece: Piece<'_>, out: &mut Vec<u8>) {
        match piece {
            Piece::Event(raw) => self.event(raw, out),
            Piece::Rest(raw) => self.rest(raw, out),
            Piece::Tail(raw) if self.dropped_last => self.changed |= !raw.is_empty(),
            Piece::Tail(raw) => out.extend_from_slice(raw),
            Piece::Oversized(raw) => {
                self.dropped_last = false;
                // It holds output that cannot be looked into; count it once it has any size.
                self.events = self.events.max(1);
                // A picture ends with its usage.
                keep_tail(&mut self.tail, raw);
                self.usage = value_in_tail(&self.tail, b"\"usage\"").and_then(Usage::parse).or(self.usage);
                out.extend_from_slice(raw);
            }
        }
    }

    fn event(&mut self, raw: &[u8], out: &mut Vec<u8>) {
        self.dropped_last = false;
        self.tail.clear();
        if let Some(matched) = self.template.matches(raw) {
            self.text_bytes = self.text_bytes.saturating_add(json::text_len(matched.text));
            self.events = self.events.saturating_add(1);
            self.changed |= self.template.changes();
            out.extend_from_slice(self.template.shown());
            out.extend_from_slice(matched.rest);
            return;
        }
        let event = Event::parse(raw);
        match Data::of(&event) {
            Some(Data::Done) => self.done = true,
            Some(Data::Error(error)) => {
                self.error = Some(error);
                self.changed |= mask_into(raw, out);
                return;
            }
            Some(Data::Answer(answer)) => {
                if self.drop_usage && answer.is_usage_only() {
                    self.note(answer);
                    self.dropped_last = true;
                    self.changed = true;
                    return;
                }
                let ranges = self.models(&event, raw, &answer);
                if answer.is_text_only() {
                    self.template.learn(raw, answer.text_bytes, &ranges, &self.model);
                }
                self.note(answer);
                if !ranges.is_empty() {
                    self.changed = true;
                    splice(raw, &ranges, &self.model, out);
                    return;
                }
            }
            Some(Data::Unknown) => self.events = self.events.saturating_add(1),
            None => {}
        }
        out.extend_from_slice(raw);
    }

    /// An event without its blank line at the end of the stream: whole data is treated as an event, cut data passes.
    fn rest(&mut self, raw: &[u8], out: &mut Vec<u8>) {
        if matches!(Data::of(&Event::parse(raw)), Some(Data::Unknown)) {
            out.extend_from_slice(raw);
        } else {
            self.event(raw, out);
        }
    }

    /// After an error the provider may leave out the end that clients wait for.
    fn close(&mut self, out: &mut Vec<u8>) {
        if self.done_mark && self.error.is_some() && !self.done {
            out.extend_from_slice(b"data: [DONE]\n\n");
            self.changed = true;
            self.done = true;
        }
    }

    fn note(&mut self, answer: Answer) {
        self.usage = match (answer.usage, self.usage) {
            (Some(usage), Some(before)) => Some(usage.over(&before)),
            (usage, before) => usage.map(|usage| *usage).or(before),
        };
        self.done |= answer.step == Step::Last;
        if matches!(answer.step, Step::Opening | Step::Ping) {
            return;
        }
        if answer.class != Class::Standard {
            self.class = answer.class;
        }
        self.text_bytes = self.text_bytes.saturating_add(answer.text_bytes);
        self.finish_reason = answer.finish_reason.or(self.finish_reason.take());
        self.events = self.events.saturating_add(1);
    }

    /// Where in the raw event the model's name must be replaced.
    fn models(&self, event: &Event<'_>, raw: &[u8], answer: &Answer) -> Vec<Range<usize>> {
        let place = |range: &Range<usize>| {
            let start = event.raw_at(range.start)?;
            let end = start.checked_add(range.len())?;
            let value = raw.get(start..end)?;
            (value != self.model && !self.model.is_empty()).then_some(start..end)
        };
        answer.models.iter().filter_map(place).collect()
    }
}
