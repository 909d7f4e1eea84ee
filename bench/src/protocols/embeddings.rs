//! OpenAI's embeddings.

use base64::Engine as _;
use serde_json::{Value, json};

use super::{Checked, Planned, Refused, Wire, chat::dated, vector};
use crate::said::{Usage, content_tokens};
use crate::script::Script;

/// The answer of `embeddings`.
///
/// # Errors
/// What OpenAI would refuse.
pub fn plan(wire: &Wire<'_>, model: &str, script: &Script) -> Checked<Planned> {
    let body = wire.json;
    let input = &body["input"];
    let count = match input {
        Value::String(_) => 1,
        Value::Array(parts) if parts.iter().all(Value::is_number) && !parts.is_empty() => 1,
        Value::Array(parts) if !parts.is_empty() => parts.len(),
        _ => return Err(Refused::field("input", "must be a string or an array that is not empty")),
    };
    let dimensions = usize::try_from(body["dimensions"].as_u64().unwrap_or(8)).unwrap_or(8).min(4096);
    let numbers = vector(dimensions);
    let embedding = if body["encoding_format"] == "base64" {
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        json!(base64::engine::general_purpose::STANDARD.encode(bytes))
    } else {
        json!(numbers)
    };
    let data: Vec<_> =
        (0..count).map(|i| json!({"object": "embedding", "index": i, "embedding": embedding})).collect();
    let prompt = script.usage.map_or_else(|| content_tokens(input), |(prompt, _)| prompt);
    let usage = json!({"prompt_tokens": prompt, "total_tokens": prompt});
    let mut answer = json!({"object": "list", "data": data, "model": dated(model)});
    if !script.no_usage {
        answer["usage"] = usage.clone();
    }
    Ok(Planned::json(&answer).costs(Usage { prompt, ..Usage::default() }, usage))
}
