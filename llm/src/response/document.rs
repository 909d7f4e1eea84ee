use super::{Answer, RewriteOptions, UpstreamError, mask_into, splice, tokens};
use crate::json;
use crate::usage::Usage;

/// Largest JSON answer that is rewritten, bytes. Larger ones pass untouched.
pub const MAX_JSON_BYTES: usize = 8 * 1024 * 1024;

/// Bytes at the end of a larger answer that are searched for usage.
const TAIL_BYTES: usize = 4 * 1024;

/// Rewrites an answer that is one JSON document: holds it until its end, or until it is larger than
/// [`MAX_JSON_BYTES`]; then it passes untouched and usage is looked for in its last bytes.
#[derive(Debug)]
pub struct JsonRewriter {
    /// The client's model name as a JSON string.
    model: Vec<u8>,
    input_estimate: u64,
    max: usize,
    /// The document so far; when it is too large, its last bytes.
    held: Vec<u8>,
    oversized: bool,
    any: bool,
    usage: Option<Usage>,
    text_bytes: u64,
    finish_reason: Option<String>,
    error: Option<UpstreamError>,
}

impl JsonRewriter {
    #[must_use]
    pub fn new(options: RewriteOptions) -> Self {
        Self::with_max(options, MAX_JSON_BYTES)
    }

    /// A rewriter with a bound of its own, bytes.
    #[must_use]
    pub fn with_max(options: RewriteOptions, max: usize) -> Self {
        Self {
            model: serde_json::to_vec(&options.client_model).unwrap_or_default(),
            input_estimate: options.input_estimate,
            max,
            held: Vec::new(),
            oversized: false,
            any: false,
            usage: None,
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
        if answer.error.is_some() {
            self.usage = answer.usage;
            self.error = answer.error;
            return mask_into(document, out);
        }
        let stale =
            |range: &&std::ops::Range<usize>| document.get((*range).clone()) != Some(self.model.as_slice());
        let ranges: Vec<_> = answer.models.iter().filter(stale).cloned().collect();
        splice(document, &ranges, &self.model, out);
        self.usage = answer.usage;
        self.text_bytes = answer.text_bytes;
        self.finish_reason = answer.finish_reason;
        !ranges.is_empty()
    }

    /// A piece of a document too large to be held: only its last bytes are kept.
    fn pass(&mut self, chunk: &[u8], end: bool, out: &mut Vec<u8>) {
        out.extend_from_slice(chunk);
        let last = chunk.get(chunk.len().saturating_sub(TAIL_BYTES)..).unwrap_or_default();
        let keep = TAIL_BYTES.saturating_sub(last.len());
        let stale = self.held.len().saturating_sub(keep);
        self.held.drain(..stale);
        self.held.extend_from_slice(last);
        if end {
            self.usage = usage_in_tail(&self.held);
            self.held = Vec::new();
        }
    }

    /// The provider's usage, or an estimate marked as one; `None` when nothing was produced.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        match self.usage {
            Some(usage) => Some(usage),
            None if !self.any || self.error.is_some() => None,
            None => Some(Usage::estimate(self.input_estimate, tokens(self.text_bytes))),
        }
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

/// Usage is the last member of most answers. Text cannot fool this: inside a string the quotes would be escaped.
fn usage_in_tail(tail: &[u8]) -> Option<Usage> {
    const NAME: &[u8] = b"\"usage\"";
    let at = memchr::memmem::rfind(tail, NAME)?.checked_add(NAME.len())?;
    let rest = tail.get(at..)?.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
    Usage::parse(rest.get(..json::skip_value(rest, 0)?)?)
}
