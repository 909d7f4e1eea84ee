//! A provider's `usage` object, whichever dialect it speaks.

use std::borrow::Cow;

use serde_json::Value;

use super::{SearchSize, Usage};
use crate::json::{self, Member};
use crate::price::Class;

/// An object as its members' places: usage is read in every answer, and building values for it took about a tenth of
/// the filter's time.
struct Object<'a> {
    raw: &'a [u8],
    members: Vec<Member<'a>>,
}

impl<'a> Object<'a> {
    fn of(raw: &'a [u8]) -> Option<Self> {
        json::members(raw).map(|members| Self { raw, members })
    }

    /// The JSON of a member; of the last one where a name comes twice.
    fn get(&self, name: &str) -> Option<&'a [u8]> {
        let member = self.members.iter().rev().find(|member| member.key == name)?;
        self.raw.get(member.value.clone())
    }

    fn contains_key(&self, name: &str) -> bool {
        self.members.iter().any(|member| member.key == name)
    }

    /// The first of these members that is an object.
    fn inner(&self, names: &[&str]) -> Option<Self> {
        names.iter().find_map(|name| Self::of(self.get(name)?))
    }

    fn text(&self, name: &str) -> Option<Cow<'a, str>> {
        json::text(self.get(name)?)
    }
}

/// One of these says that something was counted.
const COUNTED: [&str; 7] = [
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "input_tokens",
    "output_tokens",
    // Transcriptions that are billed by duration.
    "seconds",
    "prompt_audio_seconds",
];

impl Usage {
    /// Reads a `usage` object: OpenAI's (chat, responses, transcriptions), and Anthropic's, whose `input_tokens` do not
    /// include what was read from or written to the cache. `None` when it is not an object or counts nothing.
    ///
    /// Tolerant, because a bill must not depend on a provider's taste: null, missing, float and string numbers are
    /// taken for what they mean, negative ones for 0. A count of 0 is a count.
    #[must_use]
    pub fn parse(json: &[u8]) -> Option<Self> {
        let object = &Object::of(json)?;
        if !COUNTED.iter().any(|name| object.get(name).is_some_and(|value| value != b"null")) {
            return None;
        }
        let mut usage = Self::default();
        usage.read_prompt(object);
        usage.read_completion(object);
        usage.read_total(object);
        usage.read_extras(object);
        Some(usage)
    }

    /// As [`Usage::parse`], from a value already parsed.
    #[must_use]
    pub fn from_value(value: &Value) -> Option<Self> {
        Self::parse(&serde_json::to_vec(value).ok()?)
    }

    fn read_prompt(&mut self, object: &Object<'_>) {
        let details = object.inner(&["prompt_tokens_details", "input_tokens_details", "input_token_details"]);
        let detail = |name: &str| count(details.as_ref().and_then(|details| details.get(name)));
        let cached_parts = details.as_ref().and_then(|details| details.inner(&["cached_tokens_details"]));
        let cached_part =
            |name: &str| count(cached_parts.as_ref().and_then(|parts| parts.get(name))).unwrap_or(0);
        let first = |names: &[&str]| names.iter().find_map(|name| count(object.get(name)));

        // Anthropic's count of both is apart from its `input_tokens`; in OpenAI's shape both are parts.
        let read = first(&["cache_read_input_tokens"]);
        let (written, hour) = writes(object);
        let apart = !object.contains_key("prompt_tokens") && !object.contains_key("input_tokens_details");
        self.cached =
            detail("cached_tokens").or(read).or_else(|| first(&["prompt_cache_hit_tokens"])).unwrap_or(0);
        self.cache_creation =
            detail("cache_write_tokens").or_else(|| detail("cache_creation_tokens")).or(written).unwrap_or(0);
        self.cache_creation_1h = hour.min(self.cache_creation);
        let input = first(&["prompt_tokens", "input_tokens"]);
        self.prompt = match input {
            Some(input) if apart => {
                input.saturating_add(read.unwrap_or(0)).saturating_add(written.unwrap_or(0))
            }
            Some(input) => input,
            None => 0,
        };
        self.audio_in = detail("audio_tokens").unwrap_or(0);
        self.image_in = detail("image_tokens").unwrap_or(0);
        self.video_in = detail("video_tokens").unwrap_or(0);
        self.audio_cached = cached_part("audio_tokens");
        self.image_cached = cached_part("image_tokens");
    }

    fn read_completion(&mut self, object: &Object<'_>) {
        let details =
            object.inner(&["completion_tokens_details", "output_tokens_details", "output_token_details"]);
        let detail = |name: &str| count(details.as_ref().and_then(|details| details.get(name)));
        let first = |names: [&str; 2]| names.iter().find_map(|name| count(object.get(name)));
        self.completion = first(["completion_tokens", "output_tokens"]).unwrap_or(0);
        self.audio_out = detail("audio_tokens").unwrap_or(0);
        self.image_out = detail("image_tokens").unwrap_or(0);
        self.video_out = detail("video_tokens").unwrap_or(0);
        self.reasoning = detail("reasoning_tokens").unwrap_or(0);
        // Perplexity counts them beside the completion, and so does xAI, as its total tells.
        let aside = count(object.get("reasoning_tokens")).filter(|_| details.is_none());
        self.reasoning = aside.unwrap_or(self.reasoning);
        let with_prompt = self.prompt.saturating_add(self.completion);
        let summed = count(object.get("total_tokens")) == Some(with_prompt.saturating_add(self.reasoning));
        if aside.is_some() || (summed && self.reasoning > 0) {
            self.completion = self.completion.saturating_add(self.reasoning);
        }
    }

    /// Embeddings have no completion; some servers send the total alone.
    fn read_total(&mut self, object: &Object<'_>) {
        let total = count(object.get("total_tokens"));
        let counted = ["prompt_tokens", "input_tokens"].iter().any(|name| count(object.get(name)).is_some());
        if let Some(total) = total.filter(|_| !counted) {
            self.prompt = total.saturating_sub(self.completion);
        }
        let sum = self.prompt.saturating_add(self.completion);
        self.total = total.unwrap_or(sum);
        // Gemini's OpenAI dialect tells of its reasoning by the total alone.
        let both =
            counted && ["completion_tokens", "output_tokens"].iter().any(|name| object.contains_key(name));
        let detailed = object.members.iter().any(|member| member.key.ends_with("_details"));
        if both && !detailed && self.cached == 0 && self.cache_creation == 0 && self.reasoning == 0 {
            self.reasoning = self.total.saturating_sub(sum);
            self.completion = self.completion.saturating_add(self.reasoning);
        }
    }

    fn read_extras(&mut self, object: &Object<'_>) {
        let inner = |outer: &str, name: &str| count(object.inner(&[outer]).and_then(|inner| inner.get(name)));
        self.citations = count(object.get("citation_tokens")).unwrap_or(0);
        self.audio_ms = ["seconds", "prompt_audio_seconds"]
            .iter()
            .find_map(|name| milliseconds(object.get(name)))
            .unwrap_or(0);
        let size = object.text("search_context_size");
        self.search_size = match size.as_deref() {
            Some("low") => SearchSize::Low,
            Some("high") => SearchSize::High,
            _ => SearchSize::Medium,
        };
        // A size without a number is one search per request.
        self.searches = inner("server_tool_use", "web_search_requests")
            .or_else(|| inner("prompt_tokens_details", "web_search_requests"))
            .or_else(|| count(object.get("num_search_queries")))
            .unwrap_or(u64::from(size.is_some()));
        self.class = object.text("service_tier").map_or(Class::Standard, |tier| Class::of_tier(&tier));
    }
}

/// Tokens written to Anthropic's cache: all, and those that stay for an hour.
fn writes(object: &Object<'_>) -> (Option<u64>, u64) {
    let parts = object.inner(&["cache_creation"]);
    let term = |name: &str| count(parts.as_ref().and_then(|parts| parts.get(name)));
    let (short, hour) = (term("ephemeral_5m_input_tokens"), term("ephemeral_1h_input_tokens"));
    let sum = match (short, hour) {
        (None, None) => None,
        (short, hour) => Some(short.unwrap_or(0).saturating_add(hour.unwrap_or(0))),
    };
    (count(object.get("cache_creation_input_tokens")).or(sum), hour.unwrap_or(0))
}

/// The digits of a number, written as one or as text.
fn digits(json: &[u8]) -> Option<Cow<'_, str>> {
    match json.first()? {
        b'-' | b'0'..=b'9' => std::str::from_utf8(json).ok().map(Cow::Borrowed),
        _ => json::text(json),
    }
}

/// A count in whatever form; `None` for null, missing and what is no number.
pub(super) fn count(json: Option<&[u8]>) -> Option<u64> {
    let digits = digits(json?)?;
    let digits = digits.trim();
    digits.parse::<u64>().ok().or_else(|| digits.parse::<f64>().ok().map(whole))
}

/// Seconds, with a fraction or without.
pub(super) fn milliseconds(json: Option<&[u8]>) -> Option<u64> {
    digits(json?)?.trim().parse::<f64>().ok().map(|seconds| whole(seconds * 1_000.0))
}

/// Rounded; NaN and negative numbers are 0, what is too large is the largest.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "float to integer casts saturate, which is what is wanted"
)]
fn whole(number: f64) -> u64 {
    number.round() as u64
}
