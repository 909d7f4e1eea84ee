//! Pieces of a message in the words of chat, for whole answers and chunks alike.

use serde_json::{Map, Value, json};

use crate::dialect::answer::{Citation, Finish};

pub(super) fn thinking(text: &str, signature: &str) -> Value {
    json!({"type": "thinking", "thinking": text, "signature": signature})
}

pub(super) fn redacted(data: &str) -> Value {
    json!({"type": "redacted_thinking", "data": data})
}

/// A call without its arguments.
pub(super) fn call(id: String, name: String, signature: Option<String>) -> Map<String, Value> {
    let mut members = Map::new();
    members.insert("id".to_owned(), id.into());
    members.insert("type".to_owned(), "function".into());
    members.insert("function".to_owned(), json!({"name": name, "arguments": ""}));
    if let Some(signature) = signature {
        members.insert("extra_content".to_owned(), json!({"google": {"thought_signature": signature}}));
    }
    members
}

/// A citation as a member of a message. Chat knows sources on the web only; others stand where LiteLLM has them.
pub(super) fn annotation(citation: Citation) -> (&'static str, Value) {
    let own = citation.raw.get("type").and_then(Value::as_str) == Some("url_citation");
    if own && citation.raw.get("url_citation").is_some() {
        return ("annotations", Value::Array(vec![citation.raw]));
    }
    let Some(url) = citation.url else {
        return ("provider_specific_fields", json!({"citations": [[citation.raw]]}));
    };
    let annotation = json!({"type": "url_citation", "url_citation": {
        "url": url,
        "title": citation.title.unwrap_or_default(),
        "start_index": citation.start.unwrap_or(0),
        "end_index": citation.end.unwrap_or(0),
    }});
    ("annotations", Value::Array(vec![annotation]))
}

/// As OpenRouter and LiteLLM have it: OpenAI's chat makes no images.
pub(super) fn image(index: u64, media_type: &str, data: &str) -> Value {
    let url = format!("data:{media_type};base64,{data}");
    json!({"type": "image_url", "index": index, "image_url": {"url": url}})
}

/// Sound of a provider that has no ids for it: it can be replayed by its bytes only, so that it expires at once.
pub(super) fn audio(answer: &str, created: u64, data: &str) -> Value {
    json!({"id": format!("audio_{answer}"), "data": data, "transcript": "", "expires_at": created})
}

/// `refused`: the refusal's words are in the message, where OpenAI has them beside `stop`.
pub(in crate::dialect) fn finish_reason(reason: Finish, refused: bool, legacy: bool) -> &'static str {
    match reason {
        Finish::Stop | Finish::StopSequence | Finish::Pause => "stop",
        Finish::Length => "length",
        Finish::ToolCalls if legacy => "function_call",
        Finish::ToolCalls => "tool_calls",
        Finish::Refusal if refused => "stop",
        Finish::ContentFilter | Finish::Refusal => "content_filter",
    }
}
