//! Content blocks of a request, and the order in which Anthropic wants them.

use serde_json::{Value, json};

use crate::contract::DeploymentMeta;
use crate::dialect::fields::{file_text, set};
use crate::dialect::names::{Names, fit_id};
use crate::dialect::request::{Body, Cache, Part, Role, Source, ToolCall, Turn};
use crate::dialect::{Dialect, thought};
use crate::error::ApiError;

/// Cache marks in one request; more are refused.
const MAX_MARKS: usize = 4;
/// Ids of tool calls: `^[a-zA-Z0-9_-]+$`.
const MAX_ID: usize = 256;

pub(super) fn name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '-'
}

/// Writer of blocks. Counts cache marks on the way.
pub(super) struct Content<'a> {
    pub(super) meta: &'a DeploymentMeta,
    pub(super) names: &'a mut Names,
    pub(super) marks: usize,
}

impl Content<'_> {
    /// `cache_control`, as long as there is room.
    pub(super) fn mark(&mut self, block: &mut Value, cache: Option<Cache>) {
        let Some(cache) = cache.filter(|_| self.marks < MAX_MARKS) else { return };
        self.marks = self.marks.saturating_add(1);
        let control = match cache.hour {
            true => json!({"type": "ephemeral", "ttl": "1h"}),
            false => json!({"type": "ephemeral"}),
        };
        set(block, "cache_control", control);
    }

    /// A mark in a block that goes out as it came is counted like the others, and taken out where there is no room.
    pub(super) fn count_mark(&mut self, block: &mut Value) {
        let Some(members) = block.as_object_mut() else { return };
        if members.get("cache_control").is_none_or(Value::is_null) {
            return;
        }
        if self.marks < MAX_MARKS {
            self.marks = self.marks.saturating_add(1);
        } else {
            members.shift_remove("cache_control");
        }
    }

    /// `system`: text only; a mark keeps it apart.
    pub(super) fn system(&mut self, parts: &[Part]) -> Option<Value> {
        let mut blocks = Vec::with_capacity(parts.len());
        for part in parts {
            let Body::Text(text) = &part.body else { continue };
            if text.trim().is_empty() {
                continue;
            }
            let mut block = json!({"type": "text", "text": text});
            self.mark(&mut block, part.cache);
            blocks.push(block);
        }
        (!blocks.is_empty()).then(|| blocks.into())
    }

    /// `messages`: roles take turns, and the first is the user.
    pub(super) fn messages(&mut self, turns: Vec<Turn>) -> Result<Vec<Value>, ApiError> {
        let mut messages: Vec<(Role, Vec<Value>)> = Vec::with_capacity(turns.len());
        for turn in turns {
            // The middle has no instructions of its own in older models: they are said as the user.
            let role = if turn.role == Role::Assistant { Role::Assistant } else { Role::User };
            let mut blocks = Vec::with_capacity(turn.parts.len());
            for part in turn.parts {
                self.block(part, role, &mut blocks)?;
            }
            match messages.last_mut() {
                Some((last, all)) if *last == role => all.append(&mut blocks),
                _ => messages.push((role, blocks)),
            }
        }
        messages.retain(|(_, blocks)| !blocks.is_empty());
        if self.meta.params.modify && messages.first().is_none_or(|(role, _)| *role == Role::Assistant) {
            messages.insert(0, (Role::User, vec![json!({"type": "text", "text": "."})]));
        }
        let last = messages.len();
        let written = messages.into_iter().enumerate().map(|(index, (role, mut blocks))| {
            order(role, &mut blocks);
            if role == Role::Assistant && index.saturating_add(1) == last {
                trim_end(&mut blocks);
            }
            json!({"role": if role == Role::Assistant { "assistant" } else { "user" }, "content": blocks})
        });
        Ok(written.collect())
    }

    fn block(&mut self, part: Part, role: Role, out: &mut Vec<Value>) -> Result<(), ApiError> {
        let Part { body, cache } = part;
        let mut block = match body {
            Body::Text(text) | Body::Refusal(text) if text.trim().is_empty() => return Ok(()),
            Body::Text(text) | Body::Refusal(text) => json!({"type": "text", "text": text}),
            Body::Image { source, .. } => json!({"type": "image", "source": image_source(source)?}),
            Body::Document { source, name, citations, context } => {
                let mut block = json!({"type": "document", "source": document_source(source)?});
                for (member, value) in [("title", name), ("context", context)] {
                    if let Some(value) = value {
                        set(&mut block, member, value);
                    }
                }
                if citations {
                    set(&mut block, "citations", json!({"enabled": true}));
                }
                block
            }
            Body::Audio { .. } => return Err(no_words("input_audio")),
            Body::Video { .. } => return Err(no_words("video")),
            // Only the model's own reasoning with its proof is taken back.
            Body::Thinking { text, signature } => match signature.filter(|own| thought::own(own).is_none()) {
                Some(signature) if role == Role::Assistant => {
                    json!({"type": "thinking", "thinking": text, "signature": signature})
                }
                _ => return Ok(()),
            },
            Body::RedactedThinking { data } => json!({"type": "redacted_thinking", "data": data}),
            Body::ToolCall(call) => self.call(call),
            Body::ToolResult { id, content, is_error } => self.result(&id, content, is_error)?,
            Body::Other { dialect: Dialect::Messages, mut value } => {
                self.count_mark(&mut value);
                value
            }
            Body::Other { .. } => return Ok(()),
        };
        self.mark(&mut block, cache);
        out.push(block);
        Ok(())
    }

    fn call(&mut self, call: ToolCall) -> Value {
        let input = match serde_json::from_str::<Value>(&call.arguments) {
            Ok(Value::Object(input)) => Value::Object(input),
            // A model may have written no JSON; Anthropic takes objects only.
            _ if call.arguments.trim().is_empty() => json!({}),
            _ => json!({"arguments": call.arguments}),
        };
        let id = fit_id(&call.id, MAX_ID, name_char);
        json!({"type": "tool_use", "id": id, "name": self.names.sent(&call.name), "input": input})
    }

    fn result(&mut self, id: &str, content: Vec<Part>, is_error: bool) -> Result<Value, ApiError> {
        let mut blocks = Vec::with_capacity(content.len());
        for part in content {
            self.block(part, Role::User, &mut blocks)?;
        }
        let mut block = json!({"type": "tool_result", "tool_use_id": fit_id(id, MAX_ID, name_char)});
        match blocks.as_slice() {
            [] => {}
            [only] if only.as_object().is_some_and(|only| only.len() == 2 && only.contains_key("text")) => {
                set(&mut block, "content", only.get("text").cloned().unwrap_or_default());
            }
            _ => set(&mut block, "content", blocks),
        }
        if is_error {
            set(&mut block, "is_error", true);
        }
        Ok(block)
    }
}

/// Results come first in a user's turn, reasoning first in the model's.
fn order(role: Role, blocks: &mut [Value]) {
    let first: &[&str] = match role {
        Role::Assistant => &["thinking", "redacted_thinking"],
        _ => &["tool_result"],
    };
    // What is not to be moved keeps its order: reasoning may stand between calls where the provider put it.
    if role == Role::Assistant && first_of(blocks, first) == Some(0) {
        return;
    }
    blocks.sort_by_key(|block| !first.contains(&kind(block)));
}

fn kind(block: &Value) -> &str {
    block.get("type").and_then(Value::as_str).unwrap_or_default()
}

fn first_of(blocks: &[Value], kinds: &[&str]) -> Option<usize> {
    blocks.iter().position(|block| kinds.contains(&kind(block)))
}

/// A last turn of the model's is the beginning of its answer: it may not end in white space.
fn trim_end(blocks: &mut [Value]) {
    let Some(block) = blocks.last_mut().filter(|block| kind(block) == "text") else { return };
    let text = block.get("text").and_then(Value::as_str).unwrap_or_default().trim_end().to_owned();
    set(block, "text", text);
}

fn image_source(source: Source) -> Result<Value, ApiError> {
    Ok(match source {
        Source::Base64 { media_type, data } => {
            json!({"type": "base64", "media_type": media_type, "data": data})
        }
        Source::Url(url) => json!({"type": "url", "url": url}),
        Source::File(id) => json!({"type": "file", "file_id": id}),
        Source::Text(_) => return Err(no_words("image as text")),
    })
}

/// As data Claude takes PDFs only; text goes as text.
fn document_source(source: Source) -> Result<Value, ApiError> {
    let text = |words: String| json!({"type": "text", "media_type": "text/plain", "data": words});
    Ok(match source {
        Source::Base64 { media_type, data } => match file_text(&media_type, &data)? {
            Some(words) => text(words),
            None => json!({"type": "base64", "media_type": media_type, "data": data}),
        },
        Source::Url(url) => json!({"type": "url", "url": url}),
        Source::File(id) => json!({"type": "file", "file_id": id}),
        Source::Text(words) => text(words),
    })
}

fn no_words(what: &str) -> ApiError {
    ApiError::invalid_request(format!("Claude does not take {what} content."), Some("messages"))
}
