//! System blocks and messages: roles alternate, nothing is blank, tool results follow their calls.

use serde_json::{Value, json};

use super::Family;
use super::media::{Documents, audio, image, refused, video};
use crate::contract::DeploymentMeta;
use crate::dialect::fields::set;
use crate::dialect::names::{Names, fit_id};
use crate::dialect::request::{Body, Cache, Part, Role, ToolCall, Turn};
use crate::dialect::thought;
use crate::error::ApiError;

/// Longest `toolUseId`.
const MAX_ID: usize = 64;
/// Text for a message that Converse wants text in: beside documents, and where a conversation must begin.
const FILLER: &str = ".";

/// Content of a result that has none.
const NO_RESULT: &str = "(empty)";

/// May this stand in a `toolUseId`?
fn in_id(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_.:-".contains(c)
}

/// Writes the parts of a conversation.
#[derive(Debug)]
pub(super) struct Content<'a> {
    meta: &'a DeploymentMeta,
    family: Family,
    names: &'a mut Names,
    documents: Documents,
    /// Calls and results go out as text: the request has no tools, and Converse takes none of their blocks then.
    tools_as_text: bool,
}

impl<'a> Content<'a> {
    pub(super) fn new(
        meta: &'a DeploymentMeta,
        family: Family,
        names: &'a mut Names,
        tools_as_text: bool,
    ) -> Self {
        Self { meta, family, names, documents: Documents::default(), tools_as_text }
    }

    /// `system`. Only text is allowed there.
    pub(super) fn system(&self, parts: &[Part]) -> Vec<Value> {
        let mut blocks = Vec::with_capacity(parts.len());
        for part in parts {
            if let Body::Text(text) = &part.body
                && !is_blank(text)
            {
                blocks.push(json!({ "text": text }));
            }
            self.cache_point(part.cache, &mut blocks);
        }
        blocks
    }

    /// `messages`.
    pub(super) fn messages(&mut self, turns: Vec<Turn>) -> Result<Vec<Value>, ApiError> {
        let mut messages: Vec<Message> = Vec::with_capacity(turns.len());
        for turn in turns {
            let mut message = Message::new(match turn.role {
                Role::User => "user",
                Role::Assistant => "assistant",
                Role::System => "system",
            });
            for part in turn.parts {
                self.part(part, &mut message)?;
            }
            match messages.last_mut() {
                _ if message.is_empty() => {}
                Some(last) if last.role == message.role => last.append(message),
                _ => messages.push(message),
            }
        }
        self.begin(&mut messages)?;
        if let Some(last) = messages.last_mut() {
            last.trim_end();
        }
        Ok(messages.into_iter().map(Message::into_value).collect())
    }

    /// The first message is the user's.
    fn begin(&self, messages: &mut Vec<Message>) -> Result<(), ApiError> {
        if messages.first().is_some_and(|message| message.role == "user") {
            return Ok(());
        }
        if !self.meta.params.modify {
            let message = "The conversation must begin with a message of the user that is not empty.";
            return Err(refused(message));
        }
        let mut first = Message::new("user");
        first.rest.push(json!({ "text": FILLER }));
        messages.insert(0, first);
        Ok(())
    }

    fn part(&mut self, part: Part, message: &mut Message) -> Result<(), ApiError> {
        let mut blocks = Vec::new();
        let result = matches!(part.body, Body::ToolResult { .. }) && !self.tools_as_text;
        let out = &mut blocks;
        match part.body {
            Body::Text(text) | Body::Refusal(text) => push_text(text, out),
            Body::Image { source, .. } => out.push(image(source)?),
            Body::Document { source, name, citations, context } => {
                out.push(self.documents.block(source, name.as_deref(), citations, context)?);
            }
            Body::Audio { data, format } => out.push(audio(&format, &data)),
            Body::Video { source } => out.push(video(source)?),
            Body::Thinking { text, signature } => out.extend(thinking(&text, signature)),
            Body::RedactedThinking { data } if self.family == Family::Claude => {
                out.push(json!({ "reasoningContent": { "redactedContent": data } }));
            }
            Body::RedactedThinking { .. } | Body::Other { .. } => {}
            Body::ToolCall(call) => self.call(&call, out),
            Body::ToolResult { id, content, is_error } => self.result(&id, content, is_error, out)?,
        }
        self.cache_point(part.cache, out);
        if result {
            message.results.append(out)
        } else {
            message.rest.append(out)
        }
        Ok(())
    }

    fn call(&mut self, call: &ToolCall, out: &mut Vec<Value>) {
        if self.tools_as_text {
            let text = format!("[Called the tool {} with {}]", call.name, call.arguments);
            return out.push(json!({ "text": text }));
        }
        let input = match serde_json::from_str(&call.arguments) {
            Ok(Value::Object(members)) => Value::Object(members),
            _ if is_blank(&call.arguments) => json!({}),
            // A call that was cut off, or of a tool whose input is text: the model shall see what it wrote.
            Ok(value) => json!({ "input": value }),
            Err(_) => json!({ "input": call.arguments }),
        };
        let id = fit_id(&call.id, MAX_ID, in_id);
        let name = self.names.sent(&call.name);
        out.push(json!({ "toolUse": { "toolUseId": id, "name": name, "input": input } }));
    }

    fn result(
        &mut self,
        id: &str,
        content: Vec<Part>,
        is_error: bool,
        out: &mut Vec<Value>,
    ) -> Result<(), ApiError> {
        let mut blocks = Vec::with_capacity(content.len());
        for part in content {
            match part.body {
                Body::Text(text) | Body::Refusal(text) => push_text(text, &mut blocks),
                Body::Image { source, .. } => blocks.push(image(source)?),
                Body::Video { source } => blocks.push(video(source)?),
                Body::Document { source, name, citations, context } => {
                    blocks.push(self.documents.block(source, name.as_deref(), citations, context)?);
                }
                _ => {}
            }
        }
        if self.tools_as_text {
            let words = if is_error { "The tool failed with:" } else { "The tool returned:" };
            out.push(json!({ "text": words }));
            out.append(&mut blocks);
            return Ok(());
        }
        if blocks.is_empty() {
            blocks.push(json!({ "text": NO_RESULT }));
        }
        let mut result = json!({ "toolUseId": fit_id(id, MAX_ID, in_id), "content": blocks });
        if is_error {
            set(&mut result, "status", "error");
        }
        out.push(json!({ "toolResult": result }));
        Ok(())
    }

    /// Marks the prompt up to here for the cache, where the model has one.
    pub(super) fn cache_point(&self, cache: Option<Cache>, out: &mut Vec<Value>) {
        if let Some(cache) = cache
            && !out.is_empty()
            && caches(self.meta, self.family)
        {
            out.push(cache_point(cache));
        }
    }
}

/// One message on its way.
#[derive(Debug)]
struct Message {
    role: &'static str,
    /// Results come first, before what the user says to them.
    results: Vec<Value>,
    rest: Vec<Value>,
}

impl Message {
    fn new(role: &'static str) -> Self {
        Self { role, results: Vec::new(), rest: Vec::new() }
    }

    fn is_empty(&self) -> bool {
        self.results.is_empty() && self.rest.is_empty()
    }

    fn append(&mut self, mut other: Self) {
        self.results.append(&mut other.results);
        self.rest.append(&mut other.rest);
    }

    /// An answer that the model shall go on with must not end with a space.
    fn trim_end(&mut self) {
        if self.role == "assistant"
            && let Some(Value::String(text)) = self.rest.last_mut().and_then(|block| block.get_mut("text"))
        {
            text.truncate(text.trim_end().len());
        }
    }

    fn into_value(self) -> Value {
        let Self { role, mut results, mut rest } = self;
        let has = |name: &str| rest.iter().any(|block| block.get(name).is_some());
        if role == "user" && has("document") && !has("text") {
            rest.push(json!({ "text": FILLER }));
        }
        results.append(&mut rest);
        json!({ "role": role, "content": results })
    }
}

/// Has the model a prompt cache that is marked by hand?
pub(super) fn caches(meta: &DeploymentMeta, family: Family) -> bool {
    let by_family = matches!(family, Family::Claude | Family::Nova | Family::Nova2);
    meta.caps.supports("prompt_caching").unwrap_or(by_family)
}

pub(super) fn cache_point(cache: Cache) -> Value {
    match cache.hour {
        true => json!({ "cachePoint": { "type": "default", "ttl": "1h" } }),
        false => json!({ "cachePoint": { "type": "default" } }),
    }
}

/// Reasoning is taken back with the proof of this provider only.
fn thinking(text: &str, signature: Option<String>) -> Option<Value> {
    let signature = signature.filter(|signature| thought::own(signature).is_none())?;
    Some(json!({ "reasoningContent": { "reasoningText": { "text": text, "signature": signature } } }))
}

/// Converse refuses blank text.
fn push_text(text: String, out: &mut Vec<Value>) {
    if !is_blank(&text) {
        out.push(json!({ "text": text }));
    }
}

fn is_blank(text: &str) -> bool {
    text.trim().is_empty()
}
