//! What Anthropic refuses in a message.

use serde_json::Value;

use super::chat_check::is_name;
use super::{Checked, Refused, is_base64, only};
use crate::said::is_signature;

const MEMBERS: &[&str] = &[
    "model",
    "messages",
    "max_tokens",
    "system",
    "stream",
    "temperature",
    "top_p",
    "top_k",
    "stop_sequences",
    "metadata",
    "tools",
    "tool_choice",
    "thinking",
    "service_tier",
    "container",
    "mcp_servers",
    "context_management",
    "output_config",
    "output_format",
    "cache_control",
    "inference_geo",
    "speed",
];
/// `count_tokens` takes these alone.
const COUNTED: &[&str] = &[
    "model",
    "messages",
    "system",
    "tools",
    "tool_choice",
    "thinking",
    "mcp_servers",
    "context_management",
    "output_config",
    "output_format",
    "cache_control",
];

/// Members of each kind of content block, but `type` and `cache_control`.
const BLOCKS: &[(&str, &[&str])] = &[
    ("text", &["text", "citations"]),
    ("image", &["source"]),
    ("document", &["source", "title", "context", "citations"]),
    ("tool_use", &["id", "name", "input", "caller"]),
    ("tool_result", &["tool_use_id", "content", "is_error"]),
    ("thinking", &["thinking", "signature"]),
    ("redacted_thinking", &["data"]),
    ("search_result", &["source", "title", "content", "citations"]),
];

fn extra(at: &str) -> impl Fn(&str) -> Refused + '_ {
    let dot = if at.is_empty() { "" } else { "." };
    move |key| Refused::field(&format!("{at}{dot}{key}"), "Extra inputs are not permitted")
}

/// Checks the whole body.
pub(super) fn check(body: &Value, vertex: bool, counting: bool) -> Checked {
    members(body, vertex, counting)?;
    let Some(messages) = body["messages"].as_array().filter(|messages| !messages.is_empty()) else {
        return Err(Refused::field("messages", "at least one message is required"));
    };
    if messages[0]["role"] != "user" {
        return Err(Refused::field("messages", "first message must use the \"user\" role"));
    }
    let mut open: Vec<String> = Vec::new();
    for (at, message) in messages.iter().enumerate() {
        open = turn(message, &open, at, at + 1 == messages.len())?;
    }
    system(&body["system"])?;
    tools(body)?;
    thinking(body, messages)?;
    sampling(body)
}

fn members(body: &Value, vertex: bool, counting: bool) -> Checked {
    let own = if counting { COUNTED } else { MEMBERS };
    let vertex_own: &[&str] = if vertex { &["anthropic_version", "anthropic_beta"] } else { &[] };
    let known: Vec<_> = own.iter().chain(vertex_own).copied().collect();
    only(body, &known, extra(""))?;
    if vertex {
        if body["anthropic_version"] != super::anthropic::VERTEX_VERSION {
            return Err(Refused::field("anthropic_version", "Field required: vertex-2023-10-16"));
        }
        if body.get("model").is_some() {
            return Err(extra("")("model"));
        }
    } else if body["model"].as_str().is_none_or(str::is_empty) {
        return Err(Refused::field("model", "Field required"));
    }
    match body["max_tokens"].as_u64() {
        _ if counting => Ok(()),
        Some(1..) => Ok(()),
        Some(0) => Err(Refused::field("max_tokens", "Input should be greater than or equal to 1")),
        None => Err(Refused::field("max_tokens", "Field required")),
    }
}

/// One message; the tool calls it leaves open.
fn turn(message: &Value, open: &[String], at: usize, last: bool) -> Checked<Vec<String>> {
    let place = format!("messages.{at}");
    only(message, &["role", "content"], extra(&place))?;
    let role = message["role"].as_str().unwrap_or_default();
    if role != "user" && role != "assistant" {
        return Err(Refused::field(&format!("{place}.role"), "Input should be 'user' or 'assistant'"));
    }
    let none = Vec::new();
    let blocks = match &message["content"] {
        Value::String(text) if text.is_empty() && !(last && role == "assistant") => {
            return Err(Refused::field(&place, "all messages must have non-empty content"));
        }
        Value::String(text) if last && role == "assistant" && text.ends_with(char::is_whitespace) => {
            let text = "final assistant content cannot end with trailing whitespace";
            return Err(Refused::field("messages", text));
        }
        Value::String(_) => &none,
        Value::Array(blocks) if !blocks.is_empty() => blocks,
        _ => return Err(Refused::field(&place, "all messages must have non-empty content")),
    };
    let mut calls = Vec::new();
    let mut answered: Vec<&str> = Vec::new();
    for (number, block) in blocks.iter().enumerate() {
        let field = format!("{place}.content.{number}");
        check_block(block, role, &field)?;
        if block["type"] == "tool_use" {
            calls.push(block["id"].as_str().unwrap_or_default().to_owned());
        }
        if block["type"] == "tool_result" {
            let id = block["tool_use_id"].as_str().unwrap_or_default();
            if !open.iter().any(|call| call == id) || answered.contains(&id) {
                let text = format!(
                    "unexpected `tool_use_id` found in `tool_result` blocks: {id}. Each `tool_result` \
                    block must have a corresponding `tool_use` block in the previous message."
                );
                return Err(Refused::field(&field, text));
            }
            if answered.len() != number {
                return Err(Refused::field(&field, "`tool_result` blocks must come first in their message"));
            }
            answered.push(id);
        }
    }
    if let Some(missing) = open.iter().find(|id| !answered.contains(&id.as_str())) {
        let text = format!(
            "`tool_use` ids were found without `tool_result` blocks immediately after: {missing}. \
            Each `tool_use` block must have a corresponding `tool_result` block in the next message."
        );
        return Err(Refused::field(&place, text));
    }
    Ok(calls)
}

fn check_block(block: &Value, role: &str, field: &str) -> Checked {
    let kind = block["type"].as_str().unwrap_or_default();
    let Some((_, known)) = BLOCKS.iter().find(|(name, _)| *name == kind) else {
        return Err(Refused::field(
            field,
            format!("Input tag '{kind}' does not match any of the expected tags"),
        ));
    };
    let known: Vec<_> = known.iter().copied().chain(["type", "cache_control"]).collect();
    let place = format!("{field}.{kind}");
    only(block, &known, extra(&place))?;
    cache_control(&block["cache_control"], &place)?;
    let wrong = |what: &str| Err(Refused::field(&place, what));
    match kind {
        "text" if block["text"].as_str().is_none_or(str::is_empty) => {
            wrong("text content blocks must be non-empty")
        }
        "image" | "document" => source(&block["source"], kind, &place),
        "tool_use" if role != "assistant" => wrong("`tool_use` blocks can only be in `assistant` messages"),
        "tool_use" => {
            let id = block["id"].as_str().unwrap_or_default();
            let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
            if id.is_empty() || !id.chars().all(good) {
                return wrong("id: String should match pattern '^[a-zA-Z0-9_-]+$'");
            }
            if !block["input"].is_object() || !block["name"].is_string() {
                return wrong("input: Input should be a valid dictionary");
            }
            Ok(())
        }
        "tool_result" if role != "user" => wrong("`tool_result` blocks can only be in `user` messages"),
        "tool_result" => result(&block["content"], &place),
        "thinking" if !block["signature"].as_str().is_some_and(is_signature) => {
            wrong("Invalid `signature` in `thinking` block")
        }
        "thinking" | "redacted_thinking" if role != "assistant" => wrong("thinking in a `user` message"),
        _ => Ok(()),
    }
}

fn result(content: &Value, place: &str) -> Checked {
    for (at, block) in content.as_array().into_iter().flatten().enumerate() {
        let kind = block["type"].as_str().unwrap_or_default();
        let field = format!("{place}.content.{at}");
        if !["text", "image", "document", "search_result"].contains(&kind) {
            return Err(Refused::field(&field, format!("Input tag '{kind}' is not for a tool result")));
        }
        check_block(block, "user", &field)?;
    }
    if content.is_object() || content.is_number() {
        return Err(Refused::field(place, "content: Input should be a valid string or list"));
    }
    Ok(())
}

fn source(source: &Value, kind: &str, place: &str) -> Checked {
    let media = source["media_type"].as_str().unwrap_or_default();
    let known = match kind {
        "image" => ["image/jpeg", "image/png", "image/gif", "image/webp"].contains(&media),
        _ => media == "application/pdf",
    };
    let good = match source["type"].as_str() {
        Some("base64") => known && is_base64(&source["data"]),
        Some("url") => source["url"].as_str().is_some_and(|url| url.starts_with("https://")),
        Some("file") => source["file_id"].is_string(),
        Some("text") => kind == "document" && media == "text/plain" && source["data"].is_string(),
        Some("content") => kind == "document",
        _ => false,
    };
    if good {
        Ok(())
    } else {
        Err(Refused::field(&format!("{place}.source"), "Input should be a valid source"))
    }
}

fn cache_control(mark: &Value, place: &str) -> Checked {
    let good = mark.is_null()
        || (mark["type"] == "ephemeral"
            && (mark["ttl"].is_null() || mark["ttl"] == "5m" || mark["ttl"] == "1h"));
    if good {
        Ok(())
    } else {
        Err(Refused::field(&format!("{place}.cache_control"), "type: Input should be 'ephemeral'"))
    }
}

fn system(system: &Value) -> Checked {
    match system {
        Value::Null | Value::String(_) => Ok(()),
        Value::Array(blocks) => blocks.iter().enumerate().try_for_each(|(at, block)| {
            let field = format!("system.{at}");
            if block["type"] == "text" {
                check_block(block, "user", &field)
            } else {
                Err(Refused::field(&field, "type: Input should be 'text'"))
            }
        }),
        _ => Err(Refused::field("system", "Input should be a valid string or list")),
    }
}

fn tools(body: &Value) -> Checked {
    let tools = body["tools"].as_array().map(Vec::as_slice).unwrap_or_default();
    for (at, tool) in tools.iter().enumerate() {
        let field = format!("tools.{at}");
        let hosted = tool["type"].as_str().is_some_and(|kind| kind != "custom");
        if !hosted {
            let known = [
                "type",
                "name",
                "description",
                "input_schema",
                "cache_control",
                "strict",
                "input_examples",
                "defer_loading",
                "allowed_callers",
                "eager_input_streaming",
            ];
            only(tool, &known, extra(&format!("{field}.custom")))?;
            if tool["input_schema"]["type"] != "object" {
                return Err(Refused::field(
                    &format!("{field}.custom.input_schema.type"),
                    "Field required: object",
                ));
            }
        }
        if !is_name(&tool["name"]) || tools[..at].iter().any(|other| other["name"] == tool["name"]) {
            return Err(Refused::field(&format!("{field}.name"), "Tool names must be valid and unique."));
        }
        cache_control(&tool["cache_control"], &field)?;
    }
    let choice = &body["tool_choice"];
    let kind = choice["type"].as_str();
    let known: &[&str] = match kind {
        Some("tool") => &["type", "name", "disable_parallel_tool_use"],
        Some("auto" | "any") => &["type", "disable_parallel_tool_use"],
        Some("none") => &["type"],
        _ if choice.is_null() => return Ok(()),
        _ => {
            return Err(Refused::field(
                "tool_choice",
                "type: Input should be 'auto', 'any', 'tool' or 'none'",
            ));
        }
    };
    only(choice, known, extra("tool_choice"))?;
    if tools.is_empty() {
        return Err(Refused::field("tool_choice", "tool_choice may only be specified while providing tools"));
    }
    if kind == Some("tool") && !tools.iter().any(|tool| tool["name"] == choice["name"]) {
        return Err(Refused::field(
            "tool_choice",
            format!("Tool '{}' not found in provided tools", choice["name"]),
        ));
    }
    Ok(())
}

fn thinking(body: &Value, messages: &[Value]) -> Checked {
    let thinking = &body["thinking"];
    match thinking["type"].as_str() {
        Some("enabled") => only(thinking, &["type", "budget_tokens", "display"], extra("thinking.enabled"))?,
        Some("adaptive") => return only(thinking, &["type", "display"], extra("thinking.adaptive")),
        Some("disabled") => return only(thinking, &["type"], extra("thinking.disabled")),
        _ if thinking.is_null() => return Ok(()),
        _ => {
            return Err(Refused::field(
                "thinking",
                "type: Input should be 'enabled', 'adaptive' or 'disabled'",
            ));
        }
    }
    let budget = thinking["budget_tokens"].as_u64().unwrap_or(0);
    if budget < 1024 {
        let text = "Input should be greater than or equal to 1024";
        return Err(Refused::field("thinking.enabled.budget_tokens", text));
    }
    if body["max_tokens"].as_u64().is_some_and(|most| most <= budget) {
        return Err(Refused::field(
            "max_tokens",
            "`max_tokens` must be greater than `thinking.budget_tokens`",
        ));
    }
    if body["temperature"].as_f64().is_some_and(|t| (t - 1.0).abs() > f64::EPSILON) {
        return Err(Refused::field(
            "temperature",
            "`temperature` may only be set to 1 when thinking is enabled",
        ));
    }
    if !body["top_k"].is_null() {
        return Err(Refused::field("top_k", "`top_k` must be unset when thinking is enabled"));
    }
    if matches!(body["tool_choice"]["type"].as_str(), Some("any" | "tool")) {
        return Err(Refused::field(
            "tool_choice",
            "Thinking may not be enabled when tool_choice forces tool use.",
        ));
    }
    replayed(messages)
}

/// An assistant turn that the tools just answered begins with what was thought.
fn replayed(messages: &[Value]) -> Checked {
    let answering = messages
        .last()
        .and_then(|last| last["content"].as_array())
        .is_some_and(|blocks| blocks.iter().any(|block| block["type"] == "tool_result"));
    let before = messages.iter().rposition(|message| message["role"] == "assistant");
    let Some(at) = before.filter(|_| answering) else { return Ok(()) };
    let first = messages[at]["content"][0]["type"].as_str().unwrap_or("text");
    if first.ends_with("thinking") {
        return Ok(());
    }
    let text = format!(
        "Expected `thinking` or `redacted_thinking`, but found `{first}`. When `thinking` is enabled, \
        a final `assistant` message must start with a thinking block."
    );
    Err(Refused::field(&format!("messages.{at}.content.0.type"), text))
}

fn sampling(body: &Value) -> Checked {
    for (field, most) in [("temperature", 1.0), ("top_p", 1.0)] {
        if body[field].as_f64().is_some_and(|value| !(0.0..=most).contains(&value)) {
            return Err(Refused::field(field, "range: 0..1"));
        }
    }
    let stops = &body["stop_sequences"];
    let good = |stop: &Value| stop.as_str().is_some_and(|stop| !stop.trim().is_empty());
    if !stops.is_null() && !stops.as_array().is_some_and(|stops| stops.iter().all(good)) {
        return Err(Refused::field("stop_sequences", "each stop sequence must contain non-whitespace"));
    }
    only(&body["metadata"], &["user_id"], extra("metadata"))?;
    if !body["service_tier"].is_null()
        && body["service_tier"] != "auto"
        && body["service_tier"] != "standard_only"
    {
        return Err(Refused::field("service_tier", "Input should be 'auto' or 'standard_only'"));
    }
    let format = &body["output_config"]["format"];
    if !format.is_null() && (format["type"] != "json_schema" || !format["schema"].is_object()) {
        return Err(Refused::field("output_config.format", "Input should be a json_schema with a schema"));
    }
    Ok(())
}
