//! One pass over a JSON request body, in slices of any size: what the gate and the sidecar must know of it, and where
//! the adapter may edit. Nothing of the body is kept beyond short strings.

use std::ops::Range;

use crate::contract::Wishes;
use crate::error::ApiError;

use self::found::Found;
use self::lexer::Lexer;

mod cuts;
mod found;
mod gateway;
mod lexer;

/// Bounds of a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScanLimits {
    /// Deepest nesting accepted.
    pub max_depth: usize,
    /// Longest `model`, bytes as written in the body.
    pub max_model_bytes: usize,
    /// Longest `user`, bytes as written in the body.
    pub max_user_bytes: usize,
}

impl Default for ScanLimits {
    fn default() -> Self {
        Self { max_depth: 128, max_model_bytes: 1024, max_user_bytes: 1024 }
    }
}

/// Why a body is refused. Always the client's fault: HTTP 400.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanError {
    /// Field at fault, if there is one.
    pub param: Option<&'static str>,
    /// Byte at which the scan stopped.
    pub offset: usize,
    pub message: String,
}

/// What one pass has found. Ranges are of *values*, in bytes of the body.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scanned {
    /// Decoded `model`; `None` when missing or null (it may come by path).
    pub model: Option<String>,
    pub stream: bool,
    /// `stream_options.include_usage`.
    pub include_usage: bool,
    /// `max_completion_tokens`, else `max_tokens`.
    pub max_tokens: Option<u64>,
    pub n: Option<u64>,
    pub user: Option<String>,
    /// Bytes (decoded, UTF-8) of text in messages, prompt, input and tool declarations.
    pub text_bytes: u64,
    /// Token ids given as numbers (`prompt: [1, 2, 3]`).
    pub token_ids: u64,
    /// Images, audio and files; each counts a constant.
    pub media: u64,
    pub model_range: Option<Range<usize>>,
    pub stream_range: Option<Range<usize>>,
    pub stream_options: Option<StreamOptionsAt>,
    /// Offset after the opening brace.
    pub object_start: usize,
    /// The object has no members beside those to cut.
    pub empty: bool,
    /// What the body asks of the gateway.
    pub wishes: Wishes,
    /// Members that only the gateway understands, each with its comma, in order and apart: what is left without them
    /// is the same object. `metadata` goes as a whole when nothing of it is left.
    pub cuts: Vec<Range<usize>>,
    /// Length of the body, bytes.
    pub len: usize,
}

/// Where `stream_options` stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamOptionsAt {
    pub range: Range<usize>,
    /// Offset after the opening brace; `None` when the value is null.
    pub object_start: Option<usize>,
    pub empty: bool,
    /// Value of `include_usage`.
    pub include_usage: Option<Range<usize>>,
}

impl Scanned {
    /// Estimate of the prompt in tokens, at least 1.
    #[must_use]
    pub fn input_tokens(&self) -> u64 {
        let text = self.text_bytes.div_ceil(4);
        text.saturating_add(self.token_ids).saturating_add(self.media.saturating_mul(85)).max(1)
    }

    /// The model asked for: a model in the path wins over the body, as in LiteLLM.
    ///
    /// # Errors
    /// 400 when neither names one.
    pub fn model_or(&self, by_path: Option<&str>) -> Result<String, ApiError> {
        match by_path.or(self.model.as_deref()).filter(|model| !model.is_empty()) {
            Some(model) => Ok(model.to_owned()),
            None => Err(ApiError::invalid_request("Missing required parameter: 'model'.", Some("model"))),
        }
    }
}

/// The scan in progress.
#[derive(Debug)]
pub struct BodyScan {
    lexer: Lexer,
    found: Found,
    len: usize,
}

impl BodyScan {
    #[must_use]
    pub fn new(limits: ScanLimits) -> Self {
        Self { lexer: Lexer::new(limits.max_depth), found: Found::new(limits), len: 0 }
    }

    /// Reads the next slice.
    ///
    /// # Errors
    /// The body is not what an LLM endpoint takes. The scan is over then.
    pub fn feed(&mut self, slice: &[u8]) -> Result<(), ScanError> {
        self.len = self.len.saturating_add(slice.len());
        self.lexer.feed(slice, &mut self.found)
    }

    /// The body is whole.
    ///
    /// # Errors
    /// It is cut, or was never an object.
    pub fn finish(self) -> Result<Scanned, ScanError> {
        self.lexer.finish()?;
        Ok(self.found.finish(self.len))
    }
}

impl From<ScanError> for ApiError {
    fn from(error: ScanError) -> Self {
        ApiError::invalid_request(error.message, error.param)
    }
}

impl std::fmt::Display for ScanError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ScanError {}

#[cfg(test)]
#[path = "scan_tests.rs"]
pub(crate) mod tests;
