use super::{Answer, RewriteOptions, UpstreamError, class_of, in_class, mask_into, splice, tokens};
use crate::json;
use crate::price::Class;
use crate::usage::{Counting, Usage};

/// Largest JSON answer that is rewritten, bytes. Larger ones pass untouched.
pub const MAX_JSON_BYTES: usize = 8 * 1024 * 1024;

/// The same for pictures, which need no rewriting but are large.
const MAX_PICTURE_BYTES: usize = 256 * 1024;

/// Bytes at the end of a larger answer that are searched for usage.
const TAIL_BYTES: usize = 4 * 1024;

/// Rewrites an answer that is one JSON document: holds it until its end, or until it is larger than
/// [`MAX_JSON_BYTES`]; then it passes untouched and usage is looked for in its last bytes.
#[derive(Debug)]
pub struct JsonRewriter {
    /// The client's model name as a JSON string.
    model: Vec<u8>,
    input_estimate: u64,
    counting: Counting,
    max: usize,
    /// The document so far; when it is too large, its last bytes.
    held: Vec<u8>,
    oversized: bool,
    any: bool,
    usage: Option<Usage>,
    class: Class,
    text_bytes: u64,
    finish_reason: Option<String>,
    error: Option<UpstreamError>,
}

impl JsonRewriter {
    #[must_use]
    pub fn new(options: RewriteOptions) -> Self {
        let pictures = matches!(options.counting, Counting::Images(_));
        Self::with_max(options, if pictures { MAX_PICTURE_BYTES } else { MAX_JSON_BYTES })
    }

    /// A rewriter with a bound of its own, bytes.
    #[must_use]
    pub fn with_max(options: RewriteOptions, max: usize) -> Self {
        Self {
            model: options.shown_model(),
            input_estimate: options.input_estimate,
            counting: options.counting,
            max,
            held: Vec::new(),
            oversized: false,
            any: false,
            usage: None,
            class: Class::Standard,
            text_bytes: 0,
            finish_reason: None,
            error: None,
        }
    }

    /// Appends to `out` what can go out now. True when that differs from `chunk`.
    pub fn push(&mut self, chunk: &[u8], end: bool, out: &mut Vec<u8>) -> bool {
        self.any |= !chunk.is_empty();
        if self.oversized {
            self.pass(chunk, end, out);
            return false;
        }
        let held_before = self.held.len();
        if held_before.saturating_add(chunk.len()) > self.max {
            self.oversized = true;
            out.extend_from_slice(&self.held);
            self.pass(chunk, end, out);
            return held_before != 0;
        }
        if end && self.held.is_empty() {
            return self.rewrite(chunk, out);
        }
        self.held.extend_from_slice(chunk);
        if !end {
            return !chunk.is_empty();
        }
        let document = std::mem::take(&mut self.held);
        self.rewrite(&document, out);
        true
    }

    fn rewrite(&mut self, document: &[u8], out: &mut Vec<u8>) -> bool {
        let Some(answer) = Answer::read(document) else {
            out.extend_from_slice(document);
            return false;
        };
        self.class = answer.class;
        if answer.error.is_some() {
            self.usage = answer.usage.map(|usage| *usage);
            self.error = answer.error;
            return mask_into(document, out);
        }
        let usage = answer.usage.map(|usage| *usage);
        self.usage = self.counting.document(document, usage);
        let stale =
            |range: &&std::ops::Range<usize>| document.get((*range).clone()) != Some(self.model.as_slice());
        let shown = if self.model.is_empty() { &[][..] } else { answer.models.as_slice() };
        let ranges: Vec<_> = shown.iter().filter(stale).cloned().collect();
        splice(document, &ranges, &self.model, out);
        self.text_bytes = answer.text_bytes;
        self.finish_reason = answer.finish_reason;
        !ranges.is_empty()
    }

    /// A piece of a document too large to be held: only its last bytes are kept.
    fn pass(&mut self, chunk: &[u8], end: bool, out: &mut Vec<u8>) {
        out.extend_from_slice(chunk);
        keep_tail(&mut self.held, chunk);
        if end {
            self.usage = value_in_tail(&self.held, b"\"usage\"").and_then(Usage::parse);
            self.class = value_in_tail(&self.held, b"\"service_tier\"").map_or(Class::Standard, class_of);
            self.held = Vec::new();
        }
    }

    /// The provider's usage, or an estimate marked as one; `None` when nothing was produced.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        if self.usage.is_none() && (!self.any || self.error.is_some()) {
            return None;
        }
        let estimate = || Usage::estimate(self.input_estimate, tokens(self.text_bytes));
        self.counting.settle(self.usage, estimate).map(|usage| in_class(usage, self.class))
    }

    /// The document was an error in spite of its status.
    #[must_use]
    pub fn error(&self) -> Option<&UpstreamError> {
        self.error.as_ref()
    }

    /// `finish_reason` of the last choice.
    #[must_use]
    pub fn finish_reason(&self) -> Option<&str> {
        self.finish_reason.as_deref()
    }
}

/// Keeps the last bytes of what passes.
pub(super) fn keep_tail(held: &mut Vec<u8>, chunk: &[u8]) {
    let last = chunk.get(chunk.len().saturating_sub(TAIL_BYTES)..).unwrap_or_default();
    let keep = TAIL_BYTES.saturating_sub(last.len());
    let stale = held.len().saturating_sub(keep);
    held.drain(..stale);
    held.extend_from_slice(last);
}

/// The last value of this name. Usage and tier are the last members of most answers. Text cannot fool this: inside a
/// string the quotes would be escaped.
pub(super) fn value_in_tail<'a>(tail: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let at = memchr::memmem::rfind(tail, name)?.checked_add(name.len())?;
    let rest = tail.get(at..)?.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
    rest.get(..json::skip_value(rest, 0)?)
}
