//! What an upstream's error means for fallbacks: is the prompt too long, or not wanted?
//!
//! Providers agree on neither status nor code. A code decides where there is one; else the words of the message do,
//! and only those: error bodies of validators quote the prompt, which may say anything.

use serde_json::{Map, Value};

use crate::class::ErrorClass;

/// Largest body read, bytes. Error bodies are short.
const MAX_BODY: usize = 64 * 1024;
/// Longest message searched, bytes. The reason stands at its beginning.
const MAX_MESSAGE: usize = 4 * 1024;

/// Members that hold an error or its text.
const PARTS: [&str; 10] = [
    "error",
    "errors",
    "innererror",
    "inner_error",
    "message",
    "Message",
    "msg",
    "detail",
    "metadata",
    "raw",
];

/// Codes that mean one thing, in lower case, compared whole.
const CODES: [(&str, ErrorClass); 21] = [
    // OpenAI, Azure, Groq, Cerebras.
    ("context_length_exceeded", ErrorClass::ContextWindow),
    // llama.cpp.
    ("exceed_context_size_error", ErrorClass::ContextWindow),
    // OpenAI.
    ("content_policy_violation", ErrorClass::ContentPolicy),
    ("moderation_blocked", ErrorClass::ContentPolicy),
    ("image_content_policy_violation", ErrorClass::ContentPolicy),
    // Azure; the filter's own failure is `content_filter_error`.
    ("content_filter", ErrorClass::ContentPolicy),
    ("responsibleaipolicyviolation", ErrorClass::ContentPolicy),
    // Alibaba.
    ("data_inspection_failed", ErrorClass::ContentPolicy),
    ("datainspectionfailed", ErrorClass::ContentPolicy),
    // LiteLLM.
    ("contextwindowexceedederror", ErrorClass::ContextWindow),
    ("contentpolicyviolationerror", ErrorClass::ContentPolicy),
    // AWS, whose statuses are not always those of the fault.
    ("throttlingexception", ErrorClass::RateLimit),
    ("servicequotaexceededexception", ErrorClass::RateLimit),
    ("resourcenotfoundexception", ErrorClass::NotFound),
    ("accessdeniedexception", ErrorClass::Authentication),
    ("unrecognizedclientexception", ErrorClass::Authentication),
    ("expiredtokenexception", ErrorClass::Authentication),
    ("modeltimeoutexception", ErrorClass::Timeout),
    // Google (`ErrorInfo.reason`), with 400.
    ("api_key_invalid", ErrorClass::Authentication),
    ("api_key_expired", ErrorClass::Authentication),
    // Anthropic.
    ("billing_error", ErrorClass::Authentication),
];

/// Words of messages, in lower case.
const WORDS: [(&str, ErrorClass); 42] = [
    // OpenAI, Azure, vLLM, DeepSeek, Mistral, OpenRouter, Fireworks.
    ("maximum context length", ErrorClass::ContextWindow),
    ("exceeds the context window", ErrorClass::ContextWindow),
    ("context_length_exceeded", ErrorClass::ContextWindow),
    ("input tokens exceed the configured limit", ErrorClass::ContextWindow),
    // vLLM.
    ("longer than the maximum model length", ErrorClass::ContextWindow),
    ("reduce the length of the input", ErrorClass::ContextWindow),
    // Groq, Cerebras.
    ("reduce the length of the messages", ErrorClass::ContextWindow),
    // Anthropic.
    ("prompt is too long", ErrorClass::ContextWindow),
    ("exceed context limit", ErrorClass::ContextWindow),
    // Bedrock.
    ("input is too long for requested model", ErrorClass::ContextWindow),
    ("too many input tokens", ErrorClass::ContextWindow),
    ("number of input tokens exceeds", ErrorClass::ContextWindow),
    ("expected maxlength:", ErrorClass::ContextWindow),
    // Gemini and Vertex.
    ("exceeds the maximum number of tokens allowed", ErrorClass::ContextWindow),
    ("but model only supports up to", ErrorClass::ContextWindow),
    ("request payload size exceeds the limit", ErrorClass::ContextWindow),
    // Together and text-generation-inference.
    ("longer than the model's context length", ErrorClass::ContextWindow),
    ("`inputs` tokens + `max_new_tokens` must be", ErrorClass::ContextWindow),
    // Cohere.
    ("too many tokens: total number of tokens", ErrorClass::ContextWindow),
    // xAI.
    ("maximum prompt length", ErrorClass::ContextWindow),
    // llama.cpp.
    ("exceeds the available context size", ErrorClass::ContextWindow),
    // Cloudflare.
    ("context window limit", ErrorClass::ContextWindow),
    ("contextwindowexceedederror", ErrorClass::ContextWindow),
    // Azure.
    ("content management policy", ErrorClass::ContentPolicy),
    ("responsibleaipolicyviolation", ErrorClass::ContentPolicy),
    // OpenAI.
    ("content_policy_violation", ErrorClass::ContentPolicy),
    ("rejected as a result of our safety system", ErrorClass::ContentPolicy),
    ("violating our usage policy", ErrorClass::ContentPolicy),
    // Anthropic.
    ("blocked by content filtering policy", ErrorClass::ContentPolicy),
    // Bedrock.
    ("blocked by our content filters", ErrorClass::ContentPolicy),
    // Vertex.
    ("responsible ai practices", ErrorClass::ContentPolicy),
    ("prompt was blocked", ErrorClass::ContentPolicy),
    // xAI, with 403.
    ("content violates usage guidelines", ErrorClass::ContentPolicy),
    // OpenRouter, with 403.
    ("requires moderation and your input was flagged", ErrorClass::ContentPolicy),
    // DeepSeek.
    ("content exists risk", ErrorClass::ContentPolicy),
    // Alibaba.
    ("data may contain inappropriate content", ErrorClass::ContentPolicy),
    ("contentpolicyviolationerror", ErrorClass::ContentPolicy),
    // Gemini, with 400.
    ("api key not valid", ErrorClass::Authentication),
    ("api key expired", ErrorClass::Authentication),
    // Anthropic, with 400: the gateway's account.
    ("credit balance is too low", ErrorClass::Authentication),
    // Bedrock, with 400.
    ("provided model identifier is invalid", ErrorClass::NotFound),
    ("with on-demand throughput isn", ErrorClass::NotFound),
];

/// Class of an upstream's error answer: by its status, and for a refused request by what the body says. `body` may be
/// cut, or be the JSON of an error event.
#[must_use]
pub fn classify(status: u16, body: &[u8]) -> ErrorClass {
    let by_status = ErrorClass::of_status(status);
    let found = match status {
        400 | 403 | 413 | 422 | 424 | 500 => read(body.get(..body.len().min(MAX_BODY)).unwrap_or_default()),
        _ => return by_status,
    };
    let class = match status {
        // The provider's own fault, whatever its words, unless a code tells.
        500 => found.code,
        _ => found.code.or(found.words),
    };
    // A 403 may refuse what was asked and not the gateway's credential: it must not count against the deployment.
    class.filter(|class| status != 403 || *class == ErrorClass::ContentPolicy).unwrap_or(by_status)
}

/// Does the text of an error without status or code say that the request is at fault?
pub(super) fn is_refusal(message: &str) -> bool {
    let mut reading = Reading::default();
    reading.message(message);
    matches!(reading.words, Some(ErrorClass::ContextWindow | ErrorClass::ContentPolicy))
}

#[derive(Debug, Default)]
struct Reading {
    code: Option<ErrorClass>,
    words: Option<ErrorClass>,
}

fn read(body: &[u8]) -> Reading {
    let mut reading = Reading::default();
    match serde_json::from_slice::<Value>(body) {
        Ok(value) => reading.value(&value, 0),
        Err(_) => reading
            .message(&String::from_utf8_lossy(body.get(..body.len().min(MAX_MESSAGE)).unwrap_or_default())),
    }
    reading
}

impl Reading {
    /// An error object, or what wraps one: `error`, an array (Gemini), `errors` (Cloudflare), `detail` (FastAPI),
    /// `innererror` (Azure), `metadata.raw` (OpenRouter: the provider's own body as a string).
    fn value(&mut self, value: &Value, depth: u8) {
        /// Wrappings deep enough for every provider.
        const MAX_DEPTH: u8 = 4;
        if depth > MAX_DEPTH {
            return;
        }
        let depth = depth.saturating_add(1);
        match value {
            Value::String(text) => self.message(text),
            Value::Array(items) => items.iter().take(4).for_each(|item| self.value(item, depth)),
            Value::Object(members) => {
                for name in ["code", "type", "status", "__type"] {
                    if let Some(Value::String(word)) = members.get(name) {
                        self.code(word);
                    }
                }
                // Google.
                for detail in members.get("details").and_then(Value::as_array).into_iter().flatten() {
                    self.code(detail.get("reason").and_then(Value::as_str).unwrap_or_default());
                }
                self.long_string(members);
                for part in PARTS.into_iter().filter_map(|name| members.get(name)) {
                    self.value(part, depth);
                }
            }
            _ => {}
        }
    }

    /// OpenAI has one code for every string that is too long; only that of a prompt needs another model.
    fn long_string(&mut self, members: &Map<String, Value>) {
        let text = |name: &str| members.get(name).and_then(Value::as_str).unwrap_or_default();
        let prompt = ["messages", "input", "prompt"].iter().any(|name| text("param").starts_with(name));
        if text("code") == "string_above_max_length" && prompt {
            self.code = self.code.or(Some(ErrorClass::ContextWindow));
        }
    }

    fn code(&mut self, word: &str) {
        // AWS: `com.amazon.coral.service#ThrottlingException:http://...`.
        let word = word.rsplit('#').next().unwrap_or_default();
        let word = word.split_once(":http").map_or(word, |(word, _)| word);
        let known = CODES.iter().find(|(code, _)| word.eq_ignore_ascii_case(code));
        self.code = self.code.or(known.map(|(_, class)| *class));
    }

    fn message(&mut self, text: &str) {
        if self.words.is_none() {
            let end = text.floor_char_boundary(MAX_MESSAGE);
            let text = text.get(..end).unwrap_or_default().to_ascii_lowercase();
            let known = WORDS.iter().find(|(words, _)| text.contains(words));
            self.words = known.map(|(_, class)| *class);
        }
    }
}

#[cfg(test)]
#[path = "classify_tests.rs"]
mod tests;
