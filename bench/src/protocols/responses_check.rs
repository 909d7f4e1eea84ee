//! What OpenAI refuses in a request for a response.

use serde_json::Value;

use super::{Checked, Refused, chat_check::is_name};

const PARTS: &[&str] =
    &["input_text", "input_image", "input_file", "input_audio", "output_text", "refusal", "summary_text"];

/// Checks input items, their pairing, and tools.
pub(super) fn check(body: &Value) -> Checked {
    let items = match &body["input"] {
        Value::String(_) => Vec::new(),
        Value::Array(items) if !items.is_empty() => items.iter().collect(),
        Value::Null if body["prompt"].is_object() => Vec::new(),
        _ => return Err(Refused::field("input", "Missing required parameter: a string or a list of items")),
    };
    if !body["messages"].is_null() {
        return Err(Refused::field(
            "messages",
            "Unsupported parameter: in the Responses API, it is 'input'.",
        ));
    }
    let mut calls: Vec<&str> = Vec::new();
    for (at, item) in items.iter().enumerate() {
        let field = format!("input[{at}]");
        let id = item["call_id"].as_str().unwrap_or_default();
        match item["type"].as_str().unwrap_or("message") {
            "message" => message(item, &field)?,
            "function_call" => {
                let arguments = item["arguments"].as_str().unwrap_or_default();
                if id.is_empty()
                    || serde_json::from_str::<Value>(arguments).is_err()
                    || !is_name(&item["name"])
                {
                    return Err(Refused::field(&field, "a call has call_id, name and arguments in JSON"));
                }
                calls.push(id);
            }
            "function_call_output" => {
                let known = calls.contains(&id) || body["previous_response_id"].is_string();
                if !known || item["output"].is_null() {
                    let text = format!("No tool call found for function call output with call_id {id}.");
                    return Err(Refused::field(&field, text));
                }
            }
            "reasoning" if item["summary"].is_array() => {}
            "item_reference" if item["id"].is_string() => {}
            other => return Err(Refused::field(&field, format!("Invalid item: {other}"))),
        }
    }
    for (at, tool) in body["tools"].as_array().into_iter().flatten().enumerate() {
        if tool["type"] == "function" && !is_name(&tool["name"]) {
            return Err(Refused::field(&format!("tools[{at}].name"), "Missing required parameter."));
        }
    }
    Ok(())
}

fn message(item: &Value, field: &str) -> Checked {
    let role = item["role"].as_str().unwrap_or_default();
    if !["user", "assistant", "system", "developer"].contains(&role) {
        return Err(Refused::field(&format!("{field}.role"), format!("Invalid value: {role:?}")));
    }
    let parts = match &item["content"] {
        Value::String(_) => return Ok(()),
        Value::Array(parts) => parts,
        _ => return Err(Refused::field(&format!("{field}.content"), "Missing required parameter.")),
    };
    for part in parts {
        let kind = part["type"].as_str().unwrap_or_default();
        let mine = kind.starts_with("output") || kind == "refusal";
        if !PARTS.contains(&kind) || mine != (role == "assistant") {
            let text = format!("Invalid value: '{kind}' in a message of the {role}");
            return Err(Refused::field(&format!("{field}.content"), text));
        }
    }
    Ok(())
}
