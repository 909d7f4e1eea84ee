//! Messages of a chat.

use serde_json::Value;

use super::parts::{own, read_cache, read_content, read_thinking_block, shown};
use super::tools::custom_arguments;
use crate::dialect::fields::{Fault, Object, each};
use crate::dialect::request::{Body, Part, Request, Role, ToolCall, Turn};

/// Reads all messages into the request: instructions before the conversation, and the conversation.
pub(super) fn read_messages(items: Vec<Value>, request: &mut Request) -> Result<(), Fault> {
    if items.is_empty() {
        return Err(Fault::expected("at least one message"));
    }
    let mut reading = Reading { request, functions: 0, unanswered: None };
    for (index, item) in items.into_iter().enumerate() {
        let read = || reading.message(Object::of(item)?);
        read().map_err(|fault| fault.item(index))?;
    }
    Ok(())
}

struct Reading<'a> {
    request: &'a mut Request,
    /// Calls in the first form, which have no id: they are numbered.
    functions: u32,
    /// Id of the last of them.
    unanswered: Option<String>,
}

impl Reading<'_> {
    fn message(&mut self, mut message: Object) -> Result<(), Fault> {
        let role = message.need_text("role")?;
        let cache = read_cache(&mut message)?;
        let name = message.text("name")?;
        let mut parts = match role.as_str() {
            "system" | "developer" => system(&mut message)?,
            "user" => content(&mut message)?.ok_or_else(|| Fault::missing("content"))?,
            "assistant" => self.assistant(&mut message)?,
            "tool" => {
                let id = message.need_text("tool_call_id")?;
                vec![result(id, &mut message)?]
            }
            "function" => {
                let id = self.unanswered.take().or_else(|| name.clone());
                vec![result(id.ok_or_else(|| Fault::missing("name"))?, &mut message)?]
            }
            other => {
                let fault = Fault::says(format!("'{}' is no role", shown(other)));
                return Err(fault.within("role"));
            }
        };
        if let Some(last) = parts.last_mut() {
            last.cache = last.cache.or(cache);
        }
        let role = match role.as_str() {
            "system" | "developer" if self.request.turns.is_empty() => {
                self.request.system.append(&mut parts);
                return Ok(());
            }
            "system" | "developer" => Role::System,
            "assistant" => Role::Assistant,
            _ => Role::User,
        };
        self.request.turns.push(Turn { role, parts, name });
        Ok(())
    }

    /// Reasoning first, then words, then calls: the order in which they were made.
    fn assistant(&mut self, message: &mut Object) -> Result<Vec<Part>, Fault> {
        let mut parts = read_thinking(message)?;
        let said = content(message)?.unwrap_or_default();
        if let Some(refusal) = message.text("refusal")?.filter(|refusal| !refusal.is_empty()) {
            parts.push(Body::Refusal(refusal).into());
        }
        let calls = match message.list("tool_calls")? {
            Some(calls) => each("tool_calls", calls, read_call)?,
            None => Vec::new(),
        };
        let function = match message.object("function_call")? {
            Some(call) => Some(self.function_call(call).map_err(|fault| fault.within("function_call"))?),
            None => None,
        };
        let audio = message.take("audio").map(|audio| own("audio", audio));
        let alone = parts.is_empty() && calls.is_empty() && function.is_none() && audio.is_none();
        // Clients fill `content` with "" beside calls: no provider wants to read it.
        parts.extend(said.into_iter().filter(|part| alone || !is_empty(part)));
        parts.extend(audio);
        parts.extend(calls);
        parts.extend(function);
        Ok(parts)
    }

    fn function_call(&mut self, mut call: Object) -> Result<Part, Fault> {
        self.functions = self.functions.saturating_add(1);
        let id = format!("call_function_{}", self.functions);
        self.unanswered = Some(id.clone());
        let name = call.need_text("name")?;
        Ok(Body::ToolCall(ToolCall { id, name, arguments: arguments(&mut call)?, signature: None }).into())
    }
}

fn is_empty(part: &Part) -> bool {
    matches!(&part.body, Body::Text(text) if text.is_empty())
}

fn content(message: &mut Object) -> Result<Option<Vec<Part>>, Fault> {
    match message.take("content") {
        Some(value) => read_content(value).map(Some).map_err(|fault| fault.within("content")),
        None => Ok(None),
    }
}

fn system(message: &mut Object) -> Result<Vec<Part>, Fault> {
    let parts = content(message)?.ok_or_else(|| Fault::missing("content"))?;
    let other = parts.iter().position(|part| !matches!(part.body, Body::Text(_)));
    match other {
        Some(index) => Err(Fault::expected("text").item(index).within("content")),
        None => Ok(parts),
    }
}

/// What a tool gave back; nothing is the empty text.
fn result(id: String, message: &mut Object) -> Result<Part, Fault> {
    let content = content(message)?.unwrap_or_default();
    Ok(Body::ToolResult { id, content, is_error: false }.into())
}

/// `thinking_blocks` have what `reasoning_content` has, and the proof of it.
fn read_thinking(message: &mut Object) -> Result<Vec<Part>, Fault> {
    let mut plain = None;
    for name in ["reasoning", "reasoning_content"] {
        // OpenRouter's `reasoning` is text; what else it may be is not for other providers.
        plain = message.take(name).and_then(crate::dialect::fields::text).or(plain);
    }
    let signature = message.text("reasoning_signature")?;
    if let Some(blocks) = message.list("thinking_blocks")?.filter(|blocks| !blocks.is_empty()) {
        return each("thinking_blocks", blocks, |block| {
            let mut block = Object::of(block)?;
            let cache = read_cache(&mut block)?;
            let kind = block.need_text("type")?;
            Ok(Part { body: read_thinking_block(block, &kind)?, cache })
        });
    }
    let thinking = |text| Body::Thinking { text, signature }.into();
    Ok(plain.filter(|text| !text.is_empty()).map(thinking).into_iter().collect())
}

/// A call: of a function, or of a custom tool. Where its Gemini signature is, Google's and LiteLLM's clients say
/// differently.
fn read_call(value: Value) -> Result<Part, Fault> {
    let mut call = Object::of(value)?;
    let id = call.need_text("id")?;
    let cache = read_cache(&mut call)?;
    let signature = signature(&mut call);
    let (name, arguments) = if call.peek("type") == "custom" {
        let mut custom = call.need_object("custom")?;
        let mut read = || Ok((custom.need_text("name")?, custom_arguments(custom.need_text("input")?)));
        read().map_err(|fault: Fault| fault.within("custom"))?
    } else {
        let mut function = call.need_object("function")?;
        let mut read = || Ok((function.need_text("name")?, arguments(&mut function)?));
        read().map_err(|fault: Fault| fault.within("function"))?
    };
    Ok(Part { body: Body::ToolCall(ToolCall { id, name, arguments, signature }), cache })
}

pub(in crate::dialect) fn signature(call: &mut Object) -> Option<String> {
    let extra = call.take("extra_content");
    let found = extra.as_ref().and_then(|extra| extra.pointer("/google/thought_signature"));
    let fields = call.take("provider_specific_fields");
    let found = found.or_else(|| fields.as_ref().and_then(|fields| fields.get("thought_signature")));
    found.and_then(Value::as_str).filter(|signature| !signature.is_empty()).map(str::to_owned)
}

/// JSON text; an object is taken for what it means.
pub(in crate::dialect) fn arguments(function: &mut Object) -> Result<String, Fault> {
    match function.take("arguments") {
        None => Ok("{}".to_owned()),
        Some(Value::String(text)) if text.trim().is_empty() => Ok("{}".to_owned()),
        Some(Value::String(text)) => Ok(text),
        Some(value @ Value::Object(_)) => Ok(value.to_string()),
        Some(_) => Err(Fault::expected("a string").within("arguments")),
    }
}
