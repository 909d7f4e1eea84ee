//! What an upstream answer says: usage, errors, and the model name put back.
//!
//! Bytes that nobody needs to change pass as they came: an answer is never parsed into values and written again.

mod classify;
mod document;
mod stream;
mod upstream_error;

pub use classify::classify;
pub use document::{JsonRewriter, MAX_JSON_BYTES};
pub use stream::{FirstEvent, StreamRewriter};
pub use upstream_error::{UpstreamError, error_body};

use std::ops::Range;

use crate::error::mask_secrets;
use crate::json::{self, Member};
use crate::usage::Usage;

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

/// What one JSON document of an answer (a whole one, or the data of an event) holds at its top level.
#[derive(Debug, Default)]
struct Answer {
    /// Every top-level `model` that is a string: duplicates too, for whichever a client reads.
    models: Vec<Range<usize>>,
    usage: Option<Usage>,
    error: Option<UpstreamError>,
    /// Elements of `choices`; `None` when there is no such array.
    choices: Option<usize>,
    /// Bytes of completion text.
    text_bytes: u64,
    finish_reason: Option<String>,
}

impl Answer {
    /// `None` when the data is not a JSON object.
    fn read(data: &[u8]) -> Option<Self> {
        let members = json::members(data)?;
        let mut answer = Self { error: UpstreamError::of_members(data, &members), ..Self::default() };
        for Member { key, value } in members {
            let Some(raw) = data.get(value.clone()) else { continue };
            match &*key {
                "model" if raw.starts_with(b"\"") => answer.models.push(value),
                "usage" if raw.starts_with(b"{") => answer.usage = Usage::parse(raw).or(answer.usage),
                "choices" => answer.read_choices(raw),
                _ => {}
            }
        }
        Some(answer)
    }

    fn read_choices(&mut self, raw: &[u8]) {
        let Some(choices) = json::elements(raw) else { return };
        self.choices = Some(choices.len());
        for choice in choices.into_iter().filter_map(|range| raw.get(range)) {
            for Member { key, value } in json::members(choice).unwrap_or_default() {
                let Some(value) = choice.get(value) else { continue };
                match &*key {
                    "finish_reason" => {
                        let reason = json::text(value).map(|text| text.chars().take(64).collect());
                        self.finish_reason = reason.or(self.finish_reason.take());
                    }
                    "text" => self.add_text(json::text_len(value)),
                    "delta" | "message" => self.read_message(value),
                    _ => {}
                }
            }
        }
    }

    fn read_message(&mut self, raw: &[u8]) {
        for Member { key, value } in json::members(raw).unwrap_or_default() {
            let Some(value) = raw.get(value) else { continue };
            match &*key {
                "content" | "reasoning_content" | "reasoning" | "refusal" => {
                    self.add_text(json::text_len(value))
                }
                // Names and arguments, with their frame: near enough for an estimate.
                "tool_calls" | "function_call" if value != b"null" => {
                    self.add_text(u64::try_from(value.len()).unwrap_or(0));
                }
                _ => {}
            }
        }
    }

    fn add_text(&mut self, bytes: u64) {
        self.text_bytes = self.text_bytes.saturating_add(bytes);
    }

    /// The extra event of `stream_options.include_usage`: no choices, only usage.
    fn is_usage_only(&self) -> bool {
        self.choices == Some(0) && self.usage.is_some()
    }
}

/// Tokens of so many bytes of text, about.
fn tokens(text_bytes: u64) -> u64 {
    text_bytes.div_ceil(4)
}

/// Appends the bytes of an error with what looks like a key masked (providers quote the key they were given). True
/// when something was.
fn mask_into(raw: &[u8], out: &mut Vec<u8>) -> bool {
    let masked = std::str::from_utf8(raw).map(mask_secrets).ok().filter(|masked| masked.as_bytes() != raw);
    out.extend_from_slice(masked.as_deref().map_or(raw, str::as_bytes));
    masked.is_some()
}

/// Appends `raw` with each range replaced; ranges are in order.
fn splice(raw: &[u8], ranges: &[Range<usize>], replacement: &[u8], out: &mut Vec<u8>) {
    let mut at = 0;
    for range in ranges {
        out.extend_from_slice(raw.get(at..range.start).unwrap_or_default());
        out.extend_from_slice(replacement);
        at = range.end;
    }
    out.extend_from_slice(raw.get(at..).unwrap_or_default());
}

#[cfg(test)]
#[path = "response_tests.rs"]
mod tests;
