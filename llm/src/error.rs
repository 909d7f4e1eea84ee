//! Errors with blame, retry flag, a client-safe message and an internal one.

use std::borrow::Cow;

/// Whose fault it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    Client,
    Gateway,
    Upstream,
}

/// An error on its way to a client. Made where the fault is found, rendered once at the edge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    pub status: u16,
    /// OpenAI's `error.type`.
    pub kind: Cow<'static, str>,
    /// OpenAI's `error.code`; LiteLLM always puts the status here, as a string: `None` renders that.
    pub code: Option<Cow<'static, str>>,
    pub param: Option<Cow<'static, str>>,
    /// Safe to show to the client: no secret, no upstream address, no other tenant.
    pub message: String,
    /// For the log only.
    pub internal: Option<String>,
    pub blame: Blame,
    /// May the client try the same request again?
    pub retriable: bool,
    /// Seconds for `retry-after`.
    pub retry_after_s: Option<u64>,
}
