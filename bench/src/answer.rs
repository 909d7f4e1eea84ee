//! Answers in OpenAI's shapes, deterministic from the request: the same request has the same text, ids and usage.
//!
//! Tokens are counted simply, so that a test can say what it expects: a prompt has one token per four characters of
//! text (rounded up, per message or input) and four more per message; a completion has one token per content chunk.

use serde_json::{Map, Value, json};

use crate::script::{Refusal, Script};

/// Which endpoint was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Chat,
    Completion,
    Embeddings,
}

/// A request, read as far as the answer depends on it.
#[derive(Debug)]
pub struct Asked {
    pub kind: Kind,
    /// Model name without directives.
    pub model: String,
    pub stream: bool,
    /// `stream_options.include_usage`.
    pub include_usage: bool,
    /// Azure's answers carry content filter results, and its streams begin with an event without choices.
    pub azure: bool,
    prompt_tokens: u64,
    choices: u64,
    /// Content pieces of a choice, one token each.
    pieces: Vec<String>,
    truncated: bool,
    inputs: u64,
    dimensions: usize,
    id: String,
    /// What the script says it costs.
    scripted: Option<Tokens>,
}

/// Usage of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tokens {
    pub prompt: u64,
    pub completion: u64,
}

const WORDS: [&str; 12] = [
    "Envoys",
    " carry",
    " letters",
    ",",
    " attachés",
    " know",
    " what",
    " is",
    " in",
    " them",
    ".",
    " \u{1f4ee}",
];
/// Begin of the creation times; fixed, so that answers can be compared.
const CREATED: u64 = 1_760_000_000;

impl Asked {
    /// Reads a request body.
    #[must_use]
    pub fn read(kind: Kind, model: &str, azure: bool, body: &Value, script: &Script) -> Self {
        let limit = ["max_completion_tokens", "max_tokens"].iter().find_map(|k| body[k].as_u64());
        let mut pieces = pieces(script);
        let truncated = limit.is_some_and(|limit| limit < pieces.len() as u64);
        if let Some(limit) = limit {
            pieces.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        }
        let prompt_tokens = prompt_tokens(kind, body);
        Self {
            kind,
            model: dated(model),
            stream: body["stream"].as_bool().unwrap_or(false) && kind != Kind::Embeddings,
            include_usage: body["stream_options"]["include_usage"].as_bool().unwrap_or(false),
            azure,
            prompt_tokens,
            choices: body["n"].as_u64().unwrap_or(1).clamp(1, 16),
            truncated,
            inputs: input_count(&body["input"]),
            dimensions: usize::try_from(body["dimensions"].as_u64().unwrap_or(8)).unwrap_or(8).min(4096),
            id: id(kind, model, prompt_tokens, pieces.len()),
            pieces,
            scripted: script.usage.map(|(prompt, completion)| Tokens { prompt, completion }),
        }
    }

    /// What the answer costs.
    #[must_use]
    pub fn tokens(&self) -> Tokens {
        if let Some(tokens) = self.scripted {
            return tokens;
        }
        let completion =
            if self.kind == Kind::Embeddings { 0 } else { self.choices * self.pieces.len() as u64 };
        Tokens { prompt: self.prompt_tokens, completion }
    }

    /// The usage object.
    #[must_use]
    pub fn usage(&self) -> Value {
        let Tokens { prompt, completion } = self.tokens();
        if self.kind == Kind::Embeddings {
            return json!({"prompt_tokens": prompt, "total_tokens": prompt});
        }
        json!({
            "prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0,
                "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0},
        })
    }

    /// The whole answer of a request that does not stream.
    #[must_use]
    pub fn json(&self, script: &Script) -> Value {
        let mut answer = match self.kind {
            Kind::Chat => self.chat(),
            Kind::Completion => self.completion(),
            Kind::Embeddings => return self.embeddings(script),
        };
        if !script.no_usage {
            answer["usage"] = self.usage();
        }
        answer
    }

    /// The events of a stream without `data: ` and without the final `[DONE]`.
    #[must_use]
    pub fn events(&self, script: &Script) -> Vec<Value> {
        let usage = self.include_usage && !script.no_usage;
        let mut events = Vec::new();
        if self.azure {
            let mut first = self.chunk(Vec::new());
            first["model"] = json!("");
            first["id"] = json!("");
            first["created"] = json!(0);
            first["prompt_filter_results"] =
                json!([{"prompt_index": 0, "content_filter_results": filter_results()}]);
            events.push(first);
        }
        for choice in 0..self.choices {
            if self.kind == Kind::Chat {
                let delta = json!({"role": "assistant", "content": "", "refusal": null});
                events.push(self.chunk(vec![self.stream_choice(choice, Some(delta), "", None)]));
            }
            for piece in &self.pieces {
                let delta = (self.kind == Kind::Chat).then(|| json!({"content": piece}));
                events.push(self.chunk(vec![self.stream_choice(choice, delta, piece, None)]));
            }
            let delta = (self.kind == Kind::Chat).then(|| json!({}));
            events.push(self.chunk(vec![self.stream_choice(choice, delta, "", Some(self.finish_reason()))]));
        }
        if usage {
            for event in &mut events {
                event["usage"] = Value::Null;
            }
            let mut last = self.chunk(Vec::new());
            last["usage"] = self.usage();
            events.push(last);
        }
        events
    }

    fn finish_reason(&self) -> &'static str {
        if self.truncated { "length" } else { "stop" }
    }

    fn chat(&self) -> Value {
        let content = self.pieces.concat();
        let choices = (0..self.choices).map(|index| {
            let mut choice = json!({
                "index": index,
                "message": {"role": "assistant", "content": content, "refusal": null, "annotations": []},
                "logprobs": null, "finish_reason": self.finish_reason(),
            });
            if self.azure {
                choice["content_filter_results"] = filter_results();
            }
            choice
        });
        let mut answer = json!({
            "id": self.id, "object": "chat.completion", "created": CREATED, "model": self.model,
            "choices": choices.collect::<Vec<_>>(), "service_tier": "default", "system_fingerprint": "fp_a7ac4e5f10",
        });
        if self.azure {
            answer["prompt_filter_results"] =
                json!([{"prompt_index": 0, "content_filter_results": filter_results()}]);
        }
        answer
    }

    fn completion(&self) -> Value {
        let text = self.pieces.concat();
        let choices = (0..self.choices).map(
            |index| json!({"text": text, "index": index, "logprobs": null, "finish_reason": self.finish_reason()}),
        );
        json!({"id": self.id, "object": "text_completion", "created": CREATED, "model": self.model,
            "choices": choices.collect::<Vec<_>>()})
    }

    fn embeddings(&self, script: &Script) -> Value {
        let vector: Vec<f64> =
            (0..self.dimensions).map(|i| f64::from(u32::try_from(i % 97).unwrap_or(0)) / 97.0).collect();
        let data: Vec<_> = (0..self.inputs)
            .map(|i| json!({"object": "embedding", "index": i, "embedding": vector}))
            .collect();
        let mut answer = json!({"object": "list", "data": data, "model": self.model});
        if !script.no_usage {
            answer["usage"] = self.usage();
        }
        answer
    }

    fn chunk(&self, choices: Vec<Value>) -> Value {
        let mut chunk = Map::new();
        let object = if self.kind == Kind::Chat { "chat.completion.chunk" } else { "text_completion" };
        chunk.insert("id".into(), json!(self.id));
        chunk.insert("object".into(), json!(object));
        chunk.insert("created".into(), json!(CREATED));
        chunk.insert("model".into(), json!(self.model));
        if self.kind == Kind::Chat {
            chunk.insert("service_tier".into(), json!("default"));
            chunk.insert("system_fingerprint".into(), json!("fp_a7ac4e5f10"));
        }
        chunk.insert("choices".into(), Value::Array(choices));
        Value::Object(chunk)
    }

    fn stream_choice(&self, index: u64, delta: Option<Value>, text: &str, finish: Option<&str>) -> Value {
        let mut choice = match delta {
            Some(delta) => json!({"index": index, "delta": delta, "logprobs": null, "finish_reason": finish}),
            None => json!({"text": text, "index": index, "logprobs": null, "finish_reason": finish}),
        };
        if self.azure {
            choice["content_filter_results"] = if finish.is_some() { json!({}) } else { filter_results() };
        }
        choice
    }
}

/// An error body as OpenAI sends it with a status.
#[must_use]
pub fn error(status: u16) -> Value {
    let (message, kind, code) = match status {
        400 => ("The request was refused by its script.", "invalid_request_error", Value::Null),
        401 => ("Incorrect API key provided.", "invalid_request_error", json!("invalid_api_key")),
        403 => ("You are not allowed to sample from this model.", "invalid_request_error", Value::Null),
        404 => ("The model does not exist.", "invalid_request_error", json!("model_not_found")),
        429 => ("Rate limit reached for requests.", "requests", json!("rate_limit_exceeded")),
        503 => ("The engine is currently overloaded.", "service_unavailable", Value::Null),
        500.. => ("The server had an error while processing your request.", "server_error", Value::Null),
        _ => ("The request was answered by its script.", "scripted", Value::Null),
    };
    json!({"error": {"message": message, "type": kind, "param": null, "code": code}})
}

/// An error body of a kind that its status does not tell, as OpenAI (for content: also Azure) sends it.
#[must_use]
pub fn refusal(kind: Refusal, azure: bool) -> Value {
    let (message, code, param) = match kind {
        Refusal::Context => (
            "This model's maximum context length is 128000 tokens. However, your messages resulted in 200000 tokens. \
             Please reduce the length of the messages.",
            json!("context_length_exceeded"),
            json!("messages"),
        ),
        Refusal::Content if azure => (
            "The response was filtered due to the prompt triggering Azure OpenAI's content management policy.",
            json!("content_filter"),
            json!("prompt"),
        ),
        Refusal::Content => (
            "Your request was rejected as a result of our safety system.",
            json!("content_policy_violation"),
            Value::Null,
        ),
        Refusal::BadRequest => (
            "Invalid value for 'temperature': too high.",
            json!("decimal_above_max_value"),
            json!("temperature"),
        ),
        Refusal::Quota => (
            "You exceeded your current quota, please check your plan and billing details.",
            json!("insufficient_quota"),
            Value::Null,
        ),
    };
    let sort = if kind == Refusal::Quota { "insufficient_quota" } else { "invalid_request_error" };
    json!({"error": {"message": message, "type": sort, "param": param, "code": code}})
}

fn filter_results() -> Value {
    let safe = json!({"filtered": false, "severity": "safe"});
    json!({"hate": safe, "self_harm": safe, "sexual": safe, "violence": safe})
}

/// OpenAI answers with the dated name of a model, not with the alias that was asked for.
fn dated(model: &str) -> String {
    match model {
        "gpt-4o" => "gpt-4o-2024-08-06".into(),
        "gpt-4o-mini" => "gpt-4o-mini-2024-07-18".into(),
        other => other.into(),
    }
}

fn id(kind: Kind, model: &str, prompt: u64, pieces: usize) -> String {
    // FNV-1a over what the answer depends on.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in format!("{kind:?}/{model}/{prompt}/{pieces}").bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    let prefix = if kind == Kind::Chat { "chatcmpl" } else { "cmpl" };
    format!("{prefix}-{hash:016x}")
}

fn pieces(script: &Script) -> Vec<String> {
    if let Some(text) = &script.text {
        return text.split_inclusive(' ').map(str::to_owned).collect();
    }
    let count =
        usize::try_from(script.chunks.unwrap_or(WORDS.len() as u64)).unwrap_or(usize::MAX).min(1_000_000);
    WORDS.iter().cycle().take(count).map(|word| (*word).to_owned()).collect()
}

fn text_tokens(text: &str) -> u64 {
    (text.chars().count() as u64).div_ceil(4)
}

fn prompt_tokens(kind: Kind, body: &Value) -> u64 {
    match kind {
        Kind::Chat => body["messages"].as_array().map_or(0, |messages| {
            messages.iter().map(|message| 4 + content_tokens(&message["content"])).sum()
        }),
        Kind::Completion => content_tokens(&body["prompt"]),
        Kind::Embeddings => content_tokens(&body["input"]),
    }
}

/// Tokens of a string, of a list of strings or content parts, or of a list of token numbers.
fn content_tokens(content: &Value) -> u64 {
    match content {
        Value::String(text) => text_tokens(text),
        Value::Array(parts) => parts.iter().map(content_tokens).sum(),
        Value::Object(part) => part.get("text").and_then(Value::as_str).map_or(0, text_tokens),
        Value::Number(_) => 1,
        _ => 0,
    }
}

fn input_count(input: &Value) -> u64 {
    match input {
        Value::Array(parts) if parts.iter().all(Value::is_number) => 1,
        Value::Array(parts) => parts.len() as u64,
        _ => 1,
    }
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
