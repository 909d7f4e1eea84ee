//! Items of the input.

use serde_json::Value;

use super::parts::read_content;
use super::sealed::{self, Sealed};
use crate::dialect::chat::parts::shown;
use crate::dialect::chat::tools::custom_arguments;
use crate::dialect::chat::{arguments, signature};
use crate::dialect::fields::{Fault, Object};
use crate::dialect::request::{Body, Part, Request, Role, ToolCall, Turn};

/// Reads an `input` into the request.
pub(super) fn read_input(input: Value, request: &mut Request) -> Result<(), Fault> {
    let items = match input {
        Value::String(text) => {
            request.turns.push(Turn::new(Role::User, vec![Part::text(text)]));
            return Ok(());
        }
        Value::Array(items) => items,
        _ => return Err(Fault::expected("a string or an array of items")),
    };
    for (index, item) in items.into_iter().enumerate() {
        let read = || read_item(Object::of(item)?, request);
        read().map_err(|fault: Fault| fault.item(index))?;
    }
    Ok(())
}

fn read_item(mut item: Object, request: &mut Request) -> Result<(), Fault> {
    let kind = item.text("type")?.unwrap_or_default();
    match kind.as_str() {
        "message" => return read_message(item, request),
        "" if item.has("role") => return read_message(item, request),
        "" if item.has("id") => return Err(reference()),
        "" => return Err(Fault::missing("type")),
        "item_reference" => return Err(reference()),
        "function_call" => {
            let signature = signature(&mut item);
            let id = item.need_text("call_id")?;
            let (name, arguments) = (item.need_text("name")?, arguments(&mut item)?);
            let call = ToolCall { id, name, arguments, signature };
            add(request, Role::Assistant, Body::ToolCall(call).into());
        }
        "custom_tool_call" => {
            let id = item.need_text("call_id")?;
            let (name, input) = (item.need_text("name")?, item.need_text("input")?);
            let call = ToolCall { id, name, arguments: custom_arguments(input), signature: None };
            add(request, Role::Assistant, Body::ToolCall(call).into());
        }
        "function_call_output" | "custom_tool_call_output" => {
            let id = item.need_text("call_id")?;
            let output = item.take("output").ok_or_else(|| Fault::missing("output"))?;
            let content = read_content(output).map_err(|fault| fault.within("output"))?;
            add(request, Role::User, Body::ToolResult { id, content, is_error: false }.into());
        }
        "reasoning" => {
            if let Some(part) = read_reasoning(item)? {
                add(request, Role::Assistant, part);
            }
        }
        // Calls of tools that ran at OpenAI, and what came of them: no other provider can read them, and their fruit is
        // in the words that follow.
        kind if kind.ends_with("_call") || kind.ends_with("_call_output") || kind.starts_with("mcp_") => {}
        "compaction" | "compaction_summary" | "compaction_trigger" => {
            let fault = Fault::says("holds a compacted conversation, which only OpenAI can read");
            return Err(fault.within("type"));
        }
        other => {
            let fault = Fault::says(format!("'{}' is no item that this model can be given", shown(other)));
            return Err(fault.within("type"));
        }
    }
    Ok(())
}

fn reference() -> Fault {
    Fault::says("refers to a stored item, and the gateway keeps none: send the item itself").within("type")
}

/// What the model did in one go is one turn, and so is what its tools gave back.
fn add(request: &mut Request, role: Role, part: Part) {
    let tool = |part: &Part| matches!(part.body, Body::ToolResult { .. });
    match request.turns.last_mut() {
        Some(last) if last.role == role && (role == Role::Assistant || last.parts.iter().all(tool)) => {
            last.parts.push(part);
        }
        _ => request.turns.push(Turn::new(role, vec![part])),
    }
}

fn read_message(mut item: Object, request: &mut Request) -> Result<(), Fault> {
    let role = item.need_text("role")?;
    let content = item.take("content").ok_or_else(|| Fault::missing("content"))?;
    let mut parts = read_content(content).map_err(|fault| fault.within("content"))?;
    match role.as_str() {
        "user" => request.turns.push(Turn::new(Role::User, parts)),
        "assistant" => parts.into_iter().for_each(|part| add(request, Role::Assistant, part)),
        "system" | "developer" => {
            let other = parts.iter().position(|part| !matches!(part.body, Body::Text(_)));
            if let Some(index) = other {
                return Err(Fault::expected("text").item(index).within("content"));
            }
            if request.turns.is_empty() {
                request.system.append(&mut parts);
            } else {
                request.turns.push(Turn::new(Role::System, parts));
            }
        }
        other => {
            let fault = Fault::says(format!("'{}' is no role", shown(other)));
            return Err(fault.within("role"));
        }
    }
    Ok(())
}

/// Reasoning in full where it is there, else its summary. `None`: nothing is left that somebody could read.
fn read_reasoning(mut item: Object) -> Result<Option<Part>, Fault> {
    let hidden = item.text("encrypted_content")?;
    let mut said = |name: &str| {
        let pieces = item.list(name)?.unwrap_or_default();
        let texts = pieces.iter().filter_map(|piece| piece.get("text").and_then(Value::as_str));
        Ok(texts.collect::<Vec<_>>().join("\n\n"))
    };
    let (full, summary) = (said("content")?, said("summary")?);
    let text = if full.is_empty() { summary } else { full };
    Ok(match hidden.as_deref().and_then(sealed::open) {
        Some(Sealed::Redacted(data)) => Some(Body::RedactedThinking { data: data.to_owned() }.into()),
        Some(Sealed::Signature(signature)) => {
            Some(Body::Thinking { text, signature: Some(signature.to_owned()) }.into())
        }
        None if text.is_empty() => None,
        None => Some(Body::Thinking { text, signature: None }.into()),
    })
}
