//! Token usage, verbatim from the provider or estimated and marked so.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Tokens of one attempt. `prompt` includes cached and audio parts, `completion` includes reasoning (OpenAI's
/// own counting), so that nothing is counted twice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    pub prompt: u64,
    pub completion: u64,
    /// Provider's own total; may differ from the sum.
    pub total: u64,
    #[serde(default)]
    pub cached: u64,
    #[serde(default)]
    pub cache_creation: u64,
    #[serde(default)]
    pub reasoning: u64,
    #[serde(default)]
    pub audio_in: u64,
    #[serde(default)]
    pub audio_out: u64,
    /// Counted by us, not by the provider (no usage sent, or the client left early).
    #[serde(default)]
    pub estimated: bool,
}

impl Usage {
    /// Reads OpenAI's `usage` object. `None` when it is not an object or says nothing of tokens.
    ///
    /// Tolerant, because a bill must not depend on a provider's taste: null, missing, float and string numbers are
    /// taken for what they mean, negative ones for 0.
    #[must_use]
    pub fn parse(json: &[u8]) -> Option<Self> {
        Self::from_value(&serde_json::from_slice(json).ok()?)
    }

    /// As [`Usage::parse`], from a value already parsed.
    #[must_use]
    pub fn from_value(value: &Value) -> Option<Self> {
        let object = value.as_object()?;
        let names = ["prompt_tokens", "completion_tokens", "total_tokens", "input_tokens", "output_tokens"];
        if !names.iter().any(|name| object.get(*name).is_some_and(|value| !value.is_null())) {
            return None;
        }
        let first = |names: [&str; 2]| names.iter().find_map(|name| count(object.get(*name)));
        let prompt_details = details(object, ["prompt_tokens_details", "input_tokens_details"]);
        let completion_details = details(object, ["completion_tokens_details", "output_tokens_details"]);
        let detail = |details: Option<&Value>, name: &str| count(details.and_then(|value| value.get(name)));

        let total = count(object.get("total_tokens"));
        let completion = first(["completion_tokens", "output_tokens"]);
        // Embeddings have no completion; some servers send the total alone.
        let prompt = first(["prompt_tokens", "input_tokens"])
            .unwrap_or_else(|| total.unwrap_or(0).saturating_sub(completion.unwrap_or(0)));
        let completion = completion.unwrap_or(0);
        Some(Self {
            prompt,
            completion,
            total: total.unwrap_or_else(|| prompt.saturating_add(completion)),
            cached: detail(prompt_details, "cached_tokens")
                .or_else(|| count(object.get("prompt_cache_hit_tokens")))
                .unwrap_or(0),
            cache_creation: detail(prompt_details, "cache_write_tokens")
                .or_else(|| detail(prompt_details, "cache_creation_tokens"))
                .unwrap_or(0),
            reasoning: detail(completion_details, "reasoning_tokens").unwrap_or(0),
            audio_in: detail(prompt_details, "audio_tokens").unwrap_or(0),
            audio_out: detail(completion_details, "audio_tokens").unwrap_or(0),
            estimated: false,
        })
    }

    /// An estimate, marked as one.
    #[must_use]
    pub fn estimate(prompt: u64, completion: u64) -> Self {
        Self {
            prompt,
            completion,
            total: prompt.saturating_add(completion),
            estimated: true,
            ..Self::default()
        }
    }
}

fn details<'a>(object: &'a serde_json::Map<String, Value>, names: [&str; 2]) -> Option<&'a Value> {
    names.iter().find_map(|name| object.get(*name).filter(|value| value.is_object()))
}

/// A count of tokens in whatever form; `None` for null, missing and what is no number.
fn count(value: Option<&Value>) -> Option<u64> {
    match value? {
        Value::Number(number) => number.as_u64().or_else(|| number.as_f64().map(whole)),
        Value::String(text) => {
            let text = text.trim();
            text.parse::<u64>().ok().or_else(|| text.parse::<f64>().ok().map(whole))
        }
        _ => None,
    }
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

#[cfg(test)]
#[path = "usage_tests.rs"]
mod tests;
