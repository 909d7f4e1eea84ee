//! What OpenAI refuses in a chat request.

use serde_json::Value;

use super::{Checked, Refused};

const ROLES: &[&str] = &["system", "developer", "user", "assistant", "tool", "function"];

/// Checks messages, tools and the form of the answer. Members that are not known pass: compatible servers have theirs.
pub(super) fn check(body: &Value) -> Checked {
    let Some(messages) = body["messages"].as_array() else {
        return Err(Refused {
            param: Some("messages".into()),
            ..Refused::new(400, "Missing required parameter: 'messages'.")
        });
    };
    let mut open: Vec<&str> = Vec::new();
    for (at, message) in messages.iter().enumerate() {
        let field = |rest: &str| format!("messages.[{at}].{rest}");
        let Some(role) = message["role"].as_str().filter(|role| ROLES.contains(role)) else {
            return Err(Refused::field(&field("role"), format!("Invalid value: {}", message["role"])));
        };
        if role == "tool" {
            let id = message["tool_call_id"].as_str().unwrap_or_default();
            let Some(found) = open.iter().position(|call| *call == id) else {
                let text =
                    "messages with role 'tool' must be a response to a preceeding message with 'tool_calls'.";
                return Err(Refused::field(&field("tool_call_id"), format!("{text} ({id:?})")));
            };
            open.remove(found);
        } else if !open.is_empty() {
            break;
        }
        if role == "assistant" {
            open = calls(message, &field("tool_calls"))?;
        }
        content(role, message, &field("content"))?;
    }
    if !open.is_empty() {
        let text = "An assistant message with 'tool_calls' must be followed by tool messages responding to each \
                    'tool_call_id'. The following tool_call_ids did not have response messages:";
        return Err(Refused::field("messages", format!("{text} {}", open.join(", "))));
    }
    tools(&body["tools"])?;
    format(&body["response_format"])
}

fn calls<'a>(message: &'a Value, field: &str) -> Checked<Vec<&'a str>> {
    let mut ids = Vec::new();
    for call in message["tool_calls"].as_array().into_iter().flatten() {
        let Some(id) = call["id"].as_str().filter(|id| !id.is_empty() && id.len() <= 40) else {
            return Err(Refused::field(
                field,
                format!("a tool call's id has 1 to 40 characters, not {}", call["id"]),
            ));
        };
        let arguments = call["function"]["arguments"].as_str();
        let parsed = arguments.and_then(|text| serde_json::from_str::<Value>(text).ok());
        if call["type"] != "function" || !call["function"]["name"].is_string() || parsed.is_none() {
            return Err(Refused::field(field, format!("no call of a function: {call}")));
        }
        ids.push(id);
    }
    Ok(ids)
}

fn content(role: &str, message: &Value, field: &str) -> Checked {
    let parts = match &message["content"] {
        Value::String(_) => return Ok(()),
        Value::Null if role == "assistant" => return Ok(()),
        Value::Array(parts) if !parts.is_empty() => parts,
        other => {
            return Err(Refused::field(
                field,
                format!("expected a string or an array of objects, got {other}"),
            ));
        }
    };
    for part in parts {
        let text = part["text"].is_string();
        let good = match (part["type"].as_str().unwrap_or_default(), role) {
            ("text", _) => text,
            ("refusal", "assistant") => part["refusal"].is_string(),
            // Compatible servers and tests send what they like as a URL; OpenAI would fetch it.
            ("image_url", "user") => part["image_url"]["url"].is_string(),
            ("input_audio", "user") => super::is_base64(&part["input_audio"]["data"]),
            ("file", "user") => part["file"].is_object(),
            _ => false,
        };
        if !good {
            return Err(Refused::field(
                field,
                format!("Invalid content part of a {role} message: {}", part["type"]),
            ));
        }
    }
    Ok(())
}

fn tools(tools: &Value) -> Checked {
    for tool in tools.as_array().into_iter().flatten() {
        if tool["type"] == "function" && !is_name(&tool["function"]["name"]) {
            return Err(Refused::field(
                "tools",
                format!("Invalid function name: {}", tool["function"]["name"]),
            ));
        }
    }
    Ok(())
}

/// A name of a function, as OpenAI, Anthropic and Bedrock have them.
pub(super) fn is_name(name: &Value) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    name.as_str().is_some_and(|name| (1..=64).contains(&name.len()) && name.chars().all(good))
}

fn format(format: &Value) -> Checked {
    let strict = &format["json_schema"];
    if format["type"] != "json_schema" {
        return Ok(());
    }
    if !is_name(&strict["name"]) || !strict["schema"].is_object() {
        return Err(Refused::field("response_format.json_schema", "name and schema are required"));
    }
    if strict["strict"] == true && strict["schema"]["additionalProperties"] != false {
        let text = "Invalid schema: 'additionalProperties' is required to be supplied and to be false.";
        return Err(Refused::field("response_format.json_schema.schema", text));
    }
    Ok(())
}
