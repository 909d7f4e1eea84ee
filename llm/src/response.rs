//! What an upstream answer says: usage, errors, and the model name put back.
//!
//! Bytes that nobody needs to change pass as they came: an answer is never parsed into values and written again.

mod classify;
mod document;
mod said;
mod stream;
mod template;
mod upstream_error;

pub use classify::classify;
pub use document::{JsonRewriter, MAX_JSON_BYTES};
pub use said::{error_body, with_error_type};
pub use stream::{FirstEvent, StreamRewriter};
pub use upstream_error::UpstreamError;

use std::ops::Range;

use crate::error::{ErrorShape, mask_secrets};
use crate::json::{self, Member};
use crate::price::Class;
use crate::usage::{Counting, Usage};

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
    /// Whose shape errors have.
    pub shape: ErrorShape,
    /// How its usage is found.
    pub counting: Counting,
    /// A stream ends with `data: [DONE]`, after an error too.
    pub done_mark: bool,
}

impl RewriteOptions {
    /// The model's name as a JSON string; empty where the client named none: then the provider's stays.
    fn shown_model(&self) -> Vec<u8> {
        if self.client_model.is_empty() {
            return Vec::new();
        }
        serde_json::to_vec(&self.client_model).unwrap_or_default()
    }
}

/// What one JSON document of an answer (a whole one, or the data of an event) holds at its top level.
#[derive(Debug, Default)]
struct Answer {
    /// Every top-level `model` that is a string: duplicates too, for whichever a client reads.
    models: Vec<Range<usize>>,
    /// Boxed: one event of a stream has it.
    usage: Option<Box<Usage>>,
    /// `service_tier`, as far as it is priced apart.
    class: Class,
    error: Option<UpstreamError>,
    /// Elements of `choices`; `None` when there is no such array.
    choices: Option<usize>,
    /// Bytes of completion text.
    text_bytes: u64,
    finish_reason: Option<String>,
    /// What an event of the messages or responses dialect is.
    step: Step,
}

/// Where in its stream an event of the messages or responses dialect stands, by its `type`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Step {
    /// Another dialect, or an event of no consequence.
    #[default]
    Plain,
    /// The answer is announced; nothing of it is there.
    Opening,
    /// A keep-alive.
    Ping,
    /// The last event.
    Last,
}

impl Step {
    fn of(kind: &str) -> Self {
        match kind {
            "message_start" | "response.created" | "response.in_progress" | "response.queued" => {
                Self::Opening
            }
            "ping" => Self::Ping,
            "message_stop" | "response.completed" | "response.incomplete" | "response.failed" => Self::Last,
            _ => Self::Plain,
        }
    }
}

impl Answer {
    /// `None` when the data is not a JSON object.
    fn read(data: &[u8]) -> Option<Self> {
        let members = json::members(data)?;
        let mut answer = Self { error: UpstreamError::of_members(data, &members), ..Self::default() };
        for Member { key, value } in members {
            let Some(raw) = data.get(value.clone()) else { continue };
            match &*key {
                "type" => answer.step = json::text(raw).map_or(Step::Plain, |kind| Step::of(&kind)),
                // Anthropic's and the responses dialect's events carry the answer one level down.
                "message" | "response" if raw.starts_with(b"{") => answer.read_nested(raw, value.start),
                "delta" if raw.starts_with(b"{") => answer.read_message(raw),
                "delta" => answer.add_text(json::text_len(raw)),
                "content" | "output" if raw.starts_with(b"[") => answer.read_blocks(raw),
                "model" if raw.starts_with(b"\"") => answer.models.push(value),
                "usage" if raw.starts_with(b"{") => {
                    answer.usage = Usage::parse(raw).map(Box::new).or(answer.usage)
                }
                "service_tier" => answer.class = class_of(raw),
                "choices" => answer.read_choices(raw),
                _ => {}
            }
        }
        Some(answer)
    }

    /// The answer inside an event, which begins at `start` of the data.
    fn read_nested(&mut self, raw: &[u8], start: usize) {
        for Member { key, value } in json::members(raw).unwrap_or_default() {
            let Some(inner) = raw.get(value.clone()) else { continue };
            match &*key {
                "model" if inner.starts_with(b"\"") => {
                    let place = |at: usize| at.saturating_add(start);
                    self.models.push(place(value.start)..place(value.end));
                }
                "usage" if inner.starts_with(b"{") => {
                    self.usage = Usage::parse(inner).map(Box::new).or(self.usage.take());
                }
                "service_tier" => self.class = class_of(inner),
                "error" if inner.starts_with(b"{") && self.error.is_none() => {
                    self.error = UpstreamError::of_members(raw, &json::members(raw).unwrap_or_default());
                }
                _ => {}
            }
        }
    }

    /// Blocks of a whole answer (`content` of messages, `output` of responses): their text, one or two levels down.
    fn read_blocks(&mut self, raw: &[u8]) {
        for block in json::elements(raw).unwrap_or_default().into_iter().filter_map(|range| raw.get(range)) {
            for Member { key, value } in json::members(block).unwrap_or_default() {
                let Some(value) = block.get(value) else { continue };
                match &*key {
                    "text" | "thinking" | "arguments" => self.add_text(json::text_len(value)),
                    "input" => self.add_text(u64::try_from(value.len()).unwrap_or(0)),
                    "content" if value.starts_with(b"[") => {
                        for part in json::elements(value).unwrap_or_default() {
                            self.read_message(value.get(part).unwrap_or_default());
                        }
                    }
                    _ => {}
                }
            }
        }
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
                "content" | "reasoning_content" | "reasoning" | "refusal" | "text" | "partial_json"
                | "thinking" => {
                    self.add_text(json::text_len(value));
                }
                "stop_reason" => {
                    let reason = json::text(value).map(|text| text.chars().take(64).collect());
                    self.finish_reason = reason.or(self.finish_reason.take());
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

    /// It brings text for one choice and says nothing else.
    fn is_text_only(&self) -> bool {
        self.text_bytes > 0
            && self.choices == Some(1)
            && self.finish_reason.is_none()
            && self.usage.is_none()
            && self.class == Class::Standard
            && self.step == Step::Plain
    }

    /// The extra event of `stream_options.include_usage`: no choices, only usage.
    fn is_usage_only(&self) -> bool {
        self.choices == Some(0) && self.usage.is_some()
    }
}

/// What a `service_tier` in JSON means for the price.
fn class_of(raw: &[u8]) -> Class {
    json::text(raw).map_or(Class::Standard, |tier| Class::of_tier(&tier))
}

/// The usage of an answer whose `service_tier` is this one: it is said beside the usage, or in it.
fn in_class(usage: Usage, class: Class) -> Usage {
    if usage.class == Class::Standard { Usage { class, ..usage } } else { usage }
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
