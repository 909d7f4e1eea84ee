//! Answers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{Asked, Form};
use crate::response::UpstreamError;
use crate::usage::Usage;

/// Reads an answer, and writes the client's.
///
/// # Errors
/// It is an error, or has not a vector for every input.
pub fn read(answer: &[u8], asked: &Asked) -> Result<(Vec<u8>, Usage), UpstreamError> {
    let value: Value = serde_json::from_slice(answer).map_err(|_| unreadable())?;
    let vectors = vectors(&value, asked.form);
    if vectors.is_empty() && is_error(&value) {
        return Err(UpstreamError::of_provider(None, answer));
    }
    if vectors.len() != asked.inputs {
        let (got, wanted) = (vectors.len(), asked.inputs);
        let message = format!("The upstream answered with {got} embeddings for {wanted} inputs.");
        return Err(failed(&message));
    }
    let mut data = Vec::with_capacity(vectors.len());
    for (index, vector) in vectors.into_iter().enumerate() {
        let embedding = if asked.base64 { base64_of(vector).ok_or_else(unreadable)? } else { vector.clone() };
        data.push(json!({ "object": "embedding", "index": index, "embedding": embedding }));
    }
    let usage = usage(&value, asked);
    let body = json!({
        "object": "list",
        "data": data,
        "model": asked.model,
        "usage": { "prompt_tokens": usage.prompt, "total_tokens": usage.total },
    });
    Ok((body.to_string().into_bytes(), usage))
}

/// The vectors, in the order of the inputs.
fn vectors(value: &Value, form: Form) -> Vec<&Value> {
    let each = |outer: &str, inner: &str| -> Vec<&Value> {
        let items = value.get(outer).and_then(Value::as_array).into_iter().flatten();
        items.filter_map(|item| item.pointer(inner)).collect()
    };
    let found = match form {
        Form::Gemini => each("embeddings", "/values"),
        Form::Predict => each("predictions", "/embeddings/values"),
        Form::EmbedContent => value.pointer("/embedding/values").into_iter().collect(),
        Form::Titan | Form::TitanImage => {
            value.get("embedding").or_else(|| value.pointer("/embeddingsByType/float")).into_iter().collect()
        }
        Form::Nova => each("embeddings", "/embedding"),
        // By type where a type was asked for; a plain list from what does not know types.
        Form::Cohere => {
            let embeddings = value.pointer("/embeddings/float").or_else(|| value.get("embeddings"));
            embeddings.and_then(Value::as_array).into_iter().flatten().collect()
        }
    };
    found.into_iter().filter(|vector| vector.is_array()).collect()
}

/// Little-endian floats of 32 bits, as OpenAI's.
fn base64_of(vector: &Value) -> Option<Value> {
    let numbers = vector.as_array()?;
    let mut bytes = Vec::with_capacity(numbers.len().saturating_mul(4));
    for number in numbers {
        #[expect(clippy::cast_possible_truncation, reason = "the precision that was asked for")]
        bytes.extend_from_slice(&(number.as_f64()? as f32).to_le_bytes());
    }
    Some(STANDARD.encode(bytes).into())
}

/// Tokens of the inputs as the provider counts them, or an estimate marked as one.
fn usage(value: &Value, asked: &Asked) -> Usage {
    let count = |pointer: &str| value.pointer(pointer).and_then(Value::as_u64);
    let predictions = value.get("predictions").and_then(Value::as_array).into_iter().flatten();
    let counts: Option<Vec<u64>> = predictions
        .map(|item| item.pointer("/embeddings/statistics/token_count").and_then(token_count))
        .collect();
    let summed = counts.filter(|counts| !counts.is_empty());
    let said = count("/inputTextTokenCount")
        .or_else(|| count("/usageMetadata/promptTokenCount"))
        .or_else(|| count("/meta/billed_units/input_tokens"))
        .or_else(|| summed.map(|counts| counts.into_iter().fold(0, u64::saturating_add)));
    match said {
        Some(prompt) => Usage { prompt, total: prompt, ..Usage::default() },
        None => Usage::estimate(asked.estimate, 0),
    }
}

/// Vertex writes counts as floats here and there.
fn token_count(value: &Value) -> Option<u64> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "float to integer casts saturate, which is what is wanted"
    )]
    value.as_u64().or_else(|| value.as_f64().map(|number| number.round() as u64))
}

fn is_error(value: &Value) -> bool {
    let value = value.get(0).unwrap_or(value);
    ["error", "message", "Message", "__type"].iter().any(|name| value.get(name).is_some())
}

fn unreadable() -> UpstreamError {
    failed("The upstream's answer cannot be read.")
}

fn failed(message: &str) -> UpstreamError {
    UpstreamError::new(message, None, Some("502"))
}
