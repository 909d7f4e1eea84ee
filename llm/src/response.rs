//! What an upstream answer says: usage, errors, and the model name put back.

use crate::usage::Usage;

/// Largest JSON answer that is rewritten, bytes. Larger ones pass untouched, with an estimate.
pub const MAX_JSON_BYTES: usize = 8 * 1024 * 1024;

/// What the rewriter of an answer must know of the request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RewriteOptions {
    /// Model as the client asked for it: what the answer shall say.
    pub client_model: String,
    /// The client asked for usage in its stream.
    pub want_usage: bool,
    /// The gateway asked for usage on its own account ([`crate::edit::BodyEdits::injected_usage`]).
    pub injected_usage: bool,
    /// Estimated prompt tokens, for answers without usage.
    pub input_estimate: u64,
}

/// An error that an upstream reported in its body.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UpstreamError {
    /// Masked and bounded.
    pub message: String,
    pub kind: Option<String>,
    pub code: Option<String>,
    /// HTTP status that fits the error (from its code or kind); 502 when nothing tells.
    pub status: u16,
    /// OpenAI-shaped JSON body for the client.
    pub body: Vec<u8>,
}

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

/// Rewrites a stream of server-sent events as it passes.
#[derive(Debug)]
pub struct StreamRewriter {
    options: RewriteOptions,
}

impl StreamRewriter {
    #[must_use]
    pub fn new(options: RewriteOptions) -> Self {
        Self { options }
    }

    /// Looks at all that has come so far (`end`: and nothing more will come). Stateless: call it again with more.
    #[must_use]
    pub fn first_event(buffered: &[u8], end: bool) -> FirstEvent {
        if buffered.is_empty() && end { FirstEvent::Empty } else { FirstEvent::Good }
    }

    /// Appends to `out` what the client shall see of `chunk`. True when that differs from the chunk itself.
    pub fn push(&mut self, chunk: &[u8], end: bool, out: &mut Vec<u8>) -> bool {
        let _ = (end, &self.options);
        out.extend_from_slice(chunk);
        false
    }

    /// The provider's usage, or an estimate marked as one; `None` when nothing was produced.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        None
    }

    /// An error event that came after the first good one.
    #[must_use]
    pub fn error_in_stream(&self) -> Option<&UpstreamError> {
        None
    }

    /// Was `[DONE]` seen?
    #[must_use]
    pub fn done(&self) -> bool {
        false
    }

    /// Data events seen, `[DONE]` not counted.
    #[must_use]
    pub fn events(&self) -> u64 {
        0
    }

    /// Last `finish_reason` seen.
    #[must_use]
    pub fn finish_reason(&self) -> Option<&str> {
        None
    }
}

/// Rewrites an answer that is one JSON document. Holds it until its end (bounded).
#[derive(Debug)]
pub struct JsonRewriter {
    options: RewriteOptions,
}

impl JsonRewriter {
    #[must_use]
    pub fn new(options: RewriteOptions) -> Self {
        Self { options }
    }

    /// Appends to `out` what can go out now. True when that differs from `chunk`.
    pub fn push(&mut self, chunk: &[u8], end: bool, out: &mut Vec<u8>) -> bool {
        let _ = (end, &self.options);
        out.extend_from_slice(chunk);
        false
    }

    /// The provider's usage, or an estimate marked as one; `None` when nothing was produced.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        None
    }

    /// The document was an error in spite of its status.
    #[must_use]
    pub fn error(&self) -> Option<&UpstreamError> {
        None
    }
}

/// The body of an upstream's error answer, fit for the client: verbatim when it already has OpenAI's shape (secrets
/// masked), else its text in OpenAI's envelope, bounded.
#[must_use]
pub fn error_body(status: u16, body: &[u8]) -> Vec<u8> {
    let _ = status;
    body.to_vec()
}
