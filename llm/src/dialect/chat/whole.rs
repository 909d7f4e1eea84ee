//! A whole answer, put together from its events.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::said_json::{annotation, audio, call, finish_reason, image, redacted, thinking};
use super::writer::{Client, as_custom};
use crate::dialect::Dialect;
use crate::dialect::answer::{Event, Finish};

/// The choices of an answer.
#[derive(Debug)]
pub(super) struct Whole {
    client: Client,
    choices: BTreeMap<u32, Message>,
}

#[derive(Debug, Default)]
struct Message {
    content: Option<String>,
    refusal: Option<String>,
    reasoning: String,
    /// Reasoning since the last signature.
    unsigned: String,
    blocks: Vec<Value>,
    calls: Vec<(Map<String, Value>, String)>,
    annotations: Vec<Value>,
    logprobs: Vec<Value>,
    images: Vec<Value>,
    /// Members of no other kind.
    own: Map<String, Value>,
    finish: Option<(Finish, Option<String>)>,
}

impl Whole {
    pub(super) fn new(client: Client) -> Self {
        Self { client, choices: BTreeMap::new() }
    }

    /// `id` and `created` are the answer's.
    pub(super) fn event(&mut self, event: Event, id: &str, created: u64) {
        let Some(choice) = choice_of(&event) else { return };
        let message = self.choices.entry(choice).or_default();
        match event {
            Event::Media { media_type, data, .. } if media_type.starts_with("image/") => {
                let index = u64::try_from(message.images.len()).unwrap_or(0);
                message.images.push(image(index, &media_type, &data));
            }
            Event::Media { data, .. } => {
                message.own.insert("audio".to_owned(), audio(id, created, &data));
            }
            event => message.said(event),
        }
    }

    pub(super) fn into_choices(self) -> Value {
        let Self { client, choices } = self;
        choices.into_iter().map(|(index, message)| message.into_choice(index, &client)).collect()
    }
}

fn choice_of(event: &Event) -> Option<u32> {
    match event {
        Event::Text { choice, .. }
        | Event::Break { choice }
        | Event::Refusal { choice, .. }
        | Event::Thinking { choice, .. }
        | Event::Signature { choice, .. }
        | Event::RedactedThinking { choice, .. }
        | Event::ToolCall { choice, .. }
        | Event::ToolArguments { choice, .. }
        | Event::Citation { choice, .. }
        | Event::Logprobs { choice, .. }
        | Event::Media { choice, .. }
        | Event::Finish { choice, .. }
        | Event::Other { choice, .. } => Some(*choice),
        Event::Start { .. } | Event::Usage(_) | Event::Also(_) | Event::Error(_) | Event::End => None,
    }
}

impl Message {
    fn said(&mut self, event: Event) {
        match event {
            Event::Text { text, .. } => self.content.get_or_insert_default().push_str(&text),
            Event::Refusal { text, .. } => self.refusal.get_or_insert_default().push_str(&text),
            Event::Thinking { text, .. } => {
                self.reasoning.push_str(&text);
                self.unsigned.push_str(&text);
            }
            Event::Signature { signature, .. } => {
                let text = std::mem::take(&mut self.unsigned);
                self.blocks.push(thinking(&text, &signature));
            }
            Event::RedactedThinking { data, .. } => self.blocks.push(redacted(&data)),
            Event::ToolCall { id, name, signature, .. } => {
                self.calls.push((call(id, name, signature), String::new()));
            }
            Event::ToolArguments { index, json, .. } => {
                let at = usize::try_from(index).unwrap_or(usize::MAX);
                if let Some((_, arguments)) = self.calls.get_mut(at) {
                    arguments.push_str(&json);
                }
            }
            Event::Citation { citation, .. } => match annotation(citation) {
                ("annotations", Value::Array(items)) => self.annotations.extend(items),
                (name, value) => merge(&mut self.own, name, value),
            },
            Event::Logprobs { content, .. } => self.logprobs.extend(content),
            Event::Finish { reason, stop, .. } => self.finish = Some((reason, stop)),
            Event::Other { dialect: Dialect::Chat, value: Value::Object(members), .. } => {
                for (name, value) in members {
                    merge(&mut self.own, &name, value);
                }
            }
            _ => {}
        }
    }

    fn into_choice(self, index: u32, client: &Client) -> Value {
        let (reason, stop) = self.finish.clone().unwrap_or((Finish::Stop, None));
        let reason = finish_reason(reason, self.refusal.is_some(), client.legacy);
        let logprobs = match self.logprobs.is_empty() {
            true => Value::Null,
            false => json!({"content": self.logprobs, "refusal": null}),
        };
        let mut choice = Map::new();
        choice.insert("index".to_owned(), index.into());
        choice.insert("message".to_owned(), self.into_message(client).into());
        choice.insert("logprobs".to_owned(), logprobs);
        choice.insert("finish_reason".to_owned(), reason.into());
        if let Some(stop) = stop {
            choice.insert("stop_reason".to_owned(), stop.into());
        }
        choice.into()
    }

    fn into_message(self, client: &Client) -> Map<String, Value> {
        let mut message = Map::new();
        message.insert("role".to_owned(), "assistant".into());
        message.insert("content".to_owned(), self.content.into());
        message.insert("refusal".to_owned(), self.refusal.into());
        if !self.reasoning.is_empty() {
            message.insert("reasoning_content".to_owned(), self.reasoning.into());
        }
        let lists =
            [("thinking_blocks", self.blocks), ("annotations", self.annotations), ("images", self.images)];
        for (name, items) in lists {
            if !items.is_empty() {
                message.insert(name.to_owned(), items.into());
            }
        }
        let mut calls = self.calls.into_iter();
        if client.legacy {
            if let Some((mut call, arguments)) = calls.next() {
                let name =
                    call.get_mut("function").and_then(|function| Some(function.get_mut("name")?.take()));
                message.insert("function_call".to_owned(), json!({"name": name, "arguments": arguments}));
            }
        } else if calls.len() > 0 {
            let calls = calls.map(|(call, arguments)| Value::Object(with_arguments(call, arguments, client)));
            message.insert("tool_calls".to_owned(), calls.collect());
        }
        message.extend(self.own);
        message
    }
}

fn with_arguments(mut call: Map<String, Value>, arguments: String, client: &Client) -> Map<String, Value> {
    let name = call.get("function").and_then(|function| function.get("name")).and_then(Value::as_str);
    if client.custom.iter().any(|custom| Some(custom.as_str()) == name) {
        return as_custom(call, &arguments);
    }
    if let Some(slot) = call.get_mut("function").and_then(|function| function.get_mut("arguments")) {
        *slot = arguments.into();
    }
    call
}

/// Adds a member; what is there already grows: texts and arrays at their end, objects by theirs. So do clients put
/// the pieces of a stream together.
fn merge(members: &mut Map<String, Value>, name: &str, value: Value) {
    match (members.get_mut(name), value) {
        (Some(Value::Object(known)), Value::Object(more)) => {
            for (name, value) in more {
                merge(known, &name, value);
            }
        }
        (Some(Value::Array(known)), Value::Array(more)) => known.extend(more),
        (Some(Value::String(known)), Value::String(more)) if name == "data" || name == "transcript" => {
            known.push_str(&more);
        }
        (_, value) => {
            members.insert(name.to_owned(), value);
        }
    }
}
