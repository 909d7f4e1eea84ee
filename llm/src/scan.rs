//! One pass over a JSON request body, in slices of any size: what the gate and the sidecar must know of it, and where
//! the adapter may edit. Nothing of the body is kept beyond short strings.

use std::ops::Range;

use crate::contract::Wishes;
use crate::error::ApiError;

use self::found::Found;
use self::lexer::Lexer;

mod cuts;
mod field;
mod found;
mod gateway;
mod lexer;
pub mod multipart;
mod needs;

pub(crate) use gateway::{is_for_gateway, is_metadata_for_gateway};
pub use multipart::{FormScan, Multipart};

/// Bounds of a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScanLimits {
    /// Deepest nesting accepted.
    pub max_depth: usize,
    /// Longest `model`, bytes as written in the body.
    pub max_model_bytes: usize,
    /// Longest `user` (and what stands for it), bytes as written in the body.
    pub max_user_bytes: usize,
    /// The model is for the gateway alone: its member is among the cuts.
    pub cut_model: bool,
}

impl Default for ScanLimits {
    fn default() -> Self {
        Self {
            max_depth: 128,
            max_model_bytes: 1024,
            max_user_bytes: crate::wishes::MAX_USER,
            cut_model: false,
        }
    }
}

/// What a body is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Form {
    /// A JSON object.
    #[default]
    Json,
    Multipart(Box<Multipart>),
    /// Nothing that is looked into, or none at all.
    Opaque,
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
    /// End user: `user`, else `safety_identifier`, else `metadata.user_id`.
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
    /// `messages`, else `prompt` or `input`.
    pub prompt_range: Option<Range<usize>>,
    /// `no-log`, of the body or its `metadata`: nothing said is to be kept.
    pub no_log: bool,
    /// Members that only the gateway understands, each with its comma, in order and apart: what is left without them
    /// is the same object. `metadata` goes as a whole when nothing of it is left.
    pub cuts: Vec<Range<usize>>,
    /// What not every provider can do ([`crate::contract::Ask::needs`]).
    pub needs: Vec<&'static str>,
    /// From the key of `max_tokens` to its value, where there is no `max_completion_tokens`.
    pub max_tokens_key: Option<Range<usize>>,
    /// Length of the body, bytes.
    pub len: usize,
    pub form: Form,
    /// Characters of `input` or `prompt`.
    pub prompt_chars: u64,
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
    /// What is known of a body that is not looked into: its length.
    #[must_use]
    pub fn opaque(len: usize) -> Self {
        Self { form: Form::Opaque, len, no_log: true, ..Self::default() }
    }

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
