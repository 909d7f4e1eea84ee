//! Messages of a chat, from a conversation of any dialect.
//!
//! OpenAI wants the results of tools right after the message that called them, one message each, and text in them.
//! So neighbouring turns of the assistant become one message, results come before whatever else the caller says in
//! the same place, and what is no text in them follows in a message of the user's.

use serde_json::{Map, Value, json};

use super::host::Host;
use super::write_parts::write_part;
use crate::dialect::Dialect;
use crate::dialect::names::Names;
use crate::dialect::request::{Body, Part, Role, ToolCall, Turn};
use crate::dialect::thought;
use crate::error::ApiError;

/// All messages, instructions first.
pub(super) fn write_messages(
    system: Vec<Part>,
    turns: Vec<Turn>,
    host: &Host<'_>,
    names: &mut Names,
) -> Result<Vec<Value>, ApiError> {
    let mut writing = Writing { host, names, messages: Vec::with_capacity(turns.len().saturating_add(1)) };
    if !system.is_empty() {
        let content = writing.content(system)?;
        writing.message(host.system(), None, content);
    }
    let mut turns = turns.into_iter().peekable();
    while let Some(turn) = turns.next() {
        let mut run = vec![turn];
        while let Some(next) = turns.next_if(|next| run.last().is_some_and(|last| joins(last, next))) {
            run.push(next);
        }
        writing.run(run)?;
    }
    Ok(writing.messages)
}

/// Do two neighbours speak in one place?
fn joins(first: &Turn, second: &Turn) -> bool {
    first.role == second.role && first.role != Role::System
}

struct Writing<'a> {
    host: &'a Host<'a>,
    names: &'a mut Names,
    messages: Vec<Value>,
}

impl Writing<'_> {
    /// Neighbouring turns of one role.
    fn run(&mut self, run: Vec<Turn>) -> Result<(), ApiError> {
        match run.first().map(|turn| turn.role) {
            Some(Role::Assistant) => {
                let name = run.iter().find_map(|turn| turn.name.clone());
                let parts = run.into_iter().flat_map(|turn| turn.parts).collect();
                self.assistant(parts, name)
            }
            Some(Role::User) => self.user(run),
            _ => {
                for turn in run {
                    let content = self.content(turn.parts)?;
                    self.message(self.host.system(), turn.name, content);
                }
                Ok(())
            }
        }
    }

    fn user(&mut self, run: Vec<Turn>) -> Result<(), ApiError> {
        let mut moved = Vec::new();
        let mut said = Vec::with_capacity(run.len());
        for turn in run {
            let (results, others): (Vec<Part>, Vec<Part>) =
                turn.parts.into_iter().partition(|part| matches!(part.body, Body::ToolResult { .. }));
            let answered = !results.is_empty();
            for result in results {
                if let Body::ToolResult { id, content, is_error } = result.body {
                    self.result(id, content, is_error, &mut moved);
                }
            }
            if !others.is_empty() || !answered {
                said.push((turn.name, others));
            }
        }
        if !moved.is_empty() {
            let content = self.content(moved)?;
            self.message("user", None, content);
        }
        for (name, parts) in said {
            let content = self.content(parts)?;
            self.message("user", name, content);
        }
        Ok(())
    }

    /// One result. Chat cannot mark it as an error, so that its text must say it.
    fn result(&mut self, id: String, content: Vec<Part>, is_error: bool, moved: &mut Vec<Part>) {
        let id = self.host.call_id(&id);
        let mut texts = Vec::new();
        let mut others = Vec::new();
        for part in content {
            match part.body {
                Body::Text(text) => texts.push(text),
                body => others.push(Part { body, cache: part.cache }),
            }
        }
        let mut text = texts.join("\n");
        if !others.is_empty() {
            if text.is_empty() {
                text.push_str("The result follows in the next message.");
            }
            moved.push(Part::text(format!("Result of the call {id}:")));
            moved.append(&mut others);
        }
        if is_error && !text.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("error")) {
            text.insert_str(0, "Error: ");
        }
        self.messages.push(json!({"role": "tool", "tool_call_id": id, "content": text}));
    }

    fn assistant(&mut self, parts: Vec<Part>, name: Option<String>) -> Result<(), ApiError> {
        let (mut calls, mut said) = (Vec::new(), Vec::new());
        let (mut reasoning, mut refusal) = (String::new(), String::new());
        let mut own = Map::new();
        for part in parts {
            match part.body {
                Body::ToolCall(call) => calls.push(self.call(call)),
                Body::Thinking { text, .. } => reasoning.push_str(&text),
                Body::Refusal(text) if self.host.openai => refusal.push_str(&text),
                Body::Refusal(text) => said.push(Part::text(text)),
                Body::Other { dialect: Dialect::Chat, value: Value::Object(members) } => own.extend(members),
                // What the model drew or was shown cannot be said in its name.
                Body::RedactedThinking { .. } | Body::Other { .. } => {}
                Body::Image { .. } | Body::Document { .. } | Body::Audio { .. } | Body::Video { .. } => {}
                body => said.push(Part { body, cache: part.cache }),
            }
        }
        let content = if said.is_empty() { None } else { Some(self.content(said)?) };
        let silent = content.is_none() && calls.is_empty() && refusal.is_empty() && own.is_empty();
        if silent {
            return Ok(());
        }
        let mut message = Map::new();
        message.insert("role".to_owned(), "assistant".into());
        message.insert("content".to_owned(), content.unwrap_or_default());
        if let Some(name) = name {
            message.insert("name".to_owned(), name.into());
        }
        if !refusal.is_empty() {
            message.insert("refusal".to_owned(), refusal.into());
        }
        let told = self.host.deepseek || !reasoning.is_empty();
        if self.host.replays_reasoning() && told && !calls.is_empty() {
            message.insert("reasoning_content".to_owned(), reasoning.into());
        }
        if !calls.is_empty() {
            message.insert("tool_calls".to_owned(), calls.into());
        }
        message.extend(own);
        self.messages.push(message.into());
        Ok(())
    }

    fn call(&mut self, call: ToolCall) -> Value {
        let name = self.names.sent(&call.name);
        let function = json!({"name": name, "arguments": call.arguments});
        let mut members = Map::new();
        members.insert("id".to_owned(), self.host.call_id(&call.id).into());
        members.insert("type".to_owned(), "function".into());
        members.insert("function".to_owned(), function);
        let signature = call.signature.or_else(|| thought::split(&call.id).1);
        if let Some(signature) = signature.filter(|_| self.host.google) {
            members.insert("extra_content".to_owned(), json!({"google": {"thought_signature": signature}}));
        }
        members.into()
    }

    /// Text alone is written as text: some servers know no parts. Where marks for a cache count, parts have them.
    fn content(&self, parts: Vec<Part>) -> Result<Value, ApiError> {
        let marked = self.host.openrouter && parts.iter().any(|part| part.cache.is_some());
        let all_text = parts.iter().all(|part| matches!(part.body, Body::Text(_)));
        if all_text && !marked {
            let texts: Vec<String> = parts
                .into_iter()
                .filter_map(|part| match part.body {
                    Body::Text(text) => Some(text),
                    _ => None,
                })
                .collect();
            return Ok(texts.join("\n\n").into());
        }
        let written = parts.into_iter().filter_map(|part| write_part(part, self.host.openrouter).transpose());
        written.collect()
    }

    fn message(&mut self, role: &str, name: Option<String>, content: Value) {
        let mut message = Map::new();
        message.insert("role".to_owned(), role.into());
        message.insert("content".to_owned(), content);
        if let Some(name) = name {
            message.insert("name".to_owned(), name.into());
        }
        self.messages.push(message.into());
    }
}
