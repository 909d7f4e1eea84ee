//! Answers to clients that speak chat.
//!
//! Reasoning goes out as `reasoning_content`; what proves it, as LiteLLM's `thinking_blocks`: one block for each piece
//! of reasoning, whole, in the chunk that has its signature. A Gemini signature of a call stands where Google's own
//! OpenAI dialect has it. A client that asked with `functions` gets its first call as `function_call`.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::said_json::{annotation, audio, call, finish_reason, image, redacted, thinking};
use super::tools::custom_input;
use super::usage::write_usage;
use super::whole::Whole;
use super::{CUSTOM_TOOLS, LEGACY_FUNCTIONS};
use crate::dialect::Dialect;
use crate::dialect::answer::{Event, Finish};
use crate::dialect::translate::{Caller, Write};
use crate::usage::Usage;

/// Writes chat completions and their chunks.
#[derive(Debug)]
pub struct Writer {
    caller: Caller,
    client: Client,
    id: String,
    created: u64,
    also: Map<String, Value>,
    /// Everything of a chunk before its choices; made anew when that changes.
    head: Vec<u8>,
    choices: BTreeMap<u32, Choice>,
    usage: Option<Usage>,
}

/// What the client knows.
#[derive(Debug, Clone, Default)]
pub(super) struct Client {
    /// `functions`, and no `tool_calls`.
    pub(super) legacy: bool,
    /// Tools that take any text.
    pub(super) custom: Vec<String>,
}

#[derive(Debug, Default)]
struct Choice {
    /// The first chunk, which names the role, is out.
    started: bool,
    /// Reasoning since the last signature.
    thinking: String,
    refused: bool,
    /// The call of a custom tool in progress: its arguments wait for the end.
    custom: Option<Custom>,
    images: u64,
}

#[derive(Debug)]
struct Custom {
    index: u32,
    call: Map<String, Value>,
    arguments: String,
}

impl Writer {
    #[must_use]
    pub fn new(caller: Caller) -> Self {
        let custom = caller.echo.get(CUSTOM_TOOLS).and_then(Value::as_array);
        let names = custom.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned);
        let client = Client { legacy: caller.echo.contains_key(LEGACY_FUNCTIONS), custom: names.collect() };
        let (id, created) = (answer_id("chatcmpl-", None, &caller), caller.now_s);
        Self {
            caller,
            client,
            id,
            created,
            also: Map::new(),
            head: Vec::new(),
            choices: BTreeMap::new(),
            usage: None,
        }
    }

    /// Takes what is about the whole answer; gives back what is not.
    fn note(&mut self, event: Event) -> Option<Event> {
        match event {
            Event::Start { id, created } => {
                self.id = answer_id("chatcmpl-", id.as_deref(), &self.caller);
                self.created = created.unwrap_or(self.caller.now_s);
            }
            Event::Also(members) => self.also.extend(members),
            Event::Usage(usage) => {
                self.usage = Some(usage);
                return None;
            }
            event => return Some(event),
        }
        self.head.clear();
        None
    }

    fn said(&mut self, event: Event, out: &mut Vec<u8>) {
        match event {
            Event::Text { choice, text } => self.text(choice, "content", &text, out),
            Event::Thinking { choice, text } => {
                self.text(choice, "reasoning_content", &text, out);
                self.choice(choice).thinking.push_str(&text);
            }
            Event::Refusal { choice, text } => {
                self.choice(choice).refused = true;
                self.text(choice, "refusal", &text, out);
            }
            Event::Signature { choice, signature } => {
                let text = std::mem::take(&mut self.choice(choice).thinking);
                self.member(choice, "thinking_blocks", json!([thinking(&text, &signature)]), out);
            }
            Event::RedactedThinking { choice, data } => {
                self.member(choice, "thinking_blocks", json!([redacted(&data)]), out);
            }
            Event::Citation { choice, citation } => {
                let (name, value) = annotation(citation);
                self.member(choice, name, value, out);
            }
            Event::Logprobs { choice, content } => {
                let logprobs = json!({"content": content, "refusal": null});
                self.chunk(choice, b"\"content\":\"\"", Some(&logprobs), None, out);
            }
            Event::Media { choice, media_type, data } if media_type.starts_with("image/") => {
                let state = self.choice(choice);
                let value = json!([image(state.images, &media_type, &data)]);
                state.images = state.images.saturating_add(1);
                self.member(choice, "images", value, out);
            }
            Event::Media { choice, data, .. } => {
                let value = audio(&self.id, self.created, &data);
                self.member(choice, "audio", value, out);
            }
            Event::Other { choice, dialect: Dialect::Chat, value: Value::Object(members) } => {
                for (name, value) in members {
                    self.member(choice, &name, value, out);
                }
            }
            _ => {}
        }
    }

    fn tool_call(&mut self, choice: u32, index: u32, mut members: Map<String, Value>, out: &mut Vec<u8>) {
        self.flush_custom(choice, out);
        let name = members.get("function").and_then(|function| function.get("name")).and_then(Value::as_str);
        if self.client.custom.iter().any(|custom| Some(custom.as_str()) == name) {
            let custom = Custom { index, call: members, arguments: String::new() };
            self.choice(choice).custom = Some(custom);
            return;
        }
        if self.client.legacy {
            // One is all that the first form can say.
            if let Some(function) = members.remove("function").filter(|_| index == 0) {
                self.member(choice, "function_call", function, out);
            }
            return;
        }
        members.insert("index".to_owned(), index.into());
        self.member(choice, "tool_calls", json!([members]), out);
    }

    fn tool_arguments(&mut self, choice: u32, index: u32, text: &str, out: &mut Vec<u8>) {
        if let Some(custom) = self.choice(choice).custom.as_mut().filter(|custom| custom.index == index) {
            custom.arguments.push_str(text);
        } else if !self.client.legacy {
            let call = json!([{"index": index, "function": {"arguments": text}}]);
            self.member(choice, "tool_calls", call, out);
        } else if index == 0 {
            self.member(choice, "function_call", json!({"arguments": text}), out);
        }
    }

    fn flush_custom(&mut self, choice: u32, out: &mut Vec<u8>) {
        let Some(Custom { index, call, arguments }) = self.choice(choice).custom.take() else { return };
        let mut call = as_custom(call, &arguments);
        call.insert("index".to_owned(), index.into());
        self.member(choice, "tool_calls", json!([call]), out);
    }

    fn finish(&mut self, choice: u32, reason: Finish, stop: Option<String>, out: &mut Vec<u8>) {
        self.flush_custom(choice, out);
        let reason = finish_reason(reason, self.choice(choice).refused, self.client.legacy);
        self.chunk(choice, b"", None, Some((reason, stop)), out);
    }

    fn choice(&mut self, index: u32) -> &mut Choice {
        self.choices.entry(index).or_default()
    }

    fn text(&mut self, choice: u32, name: &str, text: &str, out: &mut Vec<u8>) {
        let mut delta = format!("\"{name}\":").into_bytes();
        append(&mut delta, &text);
        self.chunk(choice, &delta, None, None, out);
    }

    fn member(&mut self, choice: u32, name: &str, value: Value, out: &mut Vec<u8>) {
        let mut delta = Vec::with_capacity(128);
        append(&mut delta, &name);
        delta.push(b':');
        append(&mut delta, &value);
        self.chunk(choice, &delta, None, None, out);
    }

    /// Appends one chunk; `delta`: its members, without braces.
    fn chunk(
        &mut self,
        choice: u32,
        delta: &[u8],
        logprobs: Option<&Value>,
        finish: Option<(&str, Option<String>)>,
        out: &mut Vec<u8>,
    ) {
        self.open(out);
        out.extend_from_slice(b",\"choices\":[{\"index\":");
        append(out, &choice);
        out.extend_from_slice(b",\"delta\":{");
        if !std::mem::replace(&mut self.choice(choice).started, true) {
            out.extend_from_slice(b"\"role\":\"assistant\"");
            if !delta.starts_with(b"\"content\"") {
                out.extend_from_slice(b",\"content\":null");
            }
            out.extend_from_slice(if delta.is_empty() { b"" } else { b"," });
        }
        out.extend_from_slice(delta);
        out.extend_from_slice(b"},\"logprobs\":");
        append(out, &logprobs);
        out.extend_from_slice(b",\"finish_reason\":");
        append(out, &finish.as_ref().map(|(reason, _)| reason));
        if let Some((_, Some(stop))) = finish {
            out.extend_from_slice(b",\"stop_reason\":");
            append(out, &stop);
        }
        out.extend_from_slice(b"}]");
        if self.caller.want_usage {
            out.extend_from_slice(b",\"usage\":null");
        }
        out.extend_from_slice(b"}\n\n");
    }

    /// The beginning of a chunk, up to its choices.
    fn open(&mut self, out: &mut Vec<u8>) {
        if self.head.is_empty() {
            let mut members = Map::new();
            members.insert("id".to_owned(), self.id.clone().into());
            members.insert("object".to_owned(), "chat.completion.chunk".into());
            members.insert("created".to_owned(), self.created.into());
            members.insert("model".to_owned(), self.caller.model.clone().into());
            members.extend(self.also.clone());
            self.head.extend_from_slice(b"data: ");
            append(&mut self.head, &members);
            self.head.pop();
        }
        out.extend_from_slice(&self.head);
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        if let Some(usage) = self.usage.filter(|_| self.caller.want_usage) {
            self.open(out);
            out.extend_from_slice(b",\"choices\":[],\"usage\":");
            append(out, &write_usage(&usage));
            out.extend_from_slice(b"}\n\n");
        }
        out.extend_from_slice(b"data: [DONE]\n\n");
    }
}

impl Write for Writer {
    fn document(&mut self, events: Vec<Event>) -> Vec<u8> {
        let mut whole = Whole::new(self.client.clone());
        for event in events {
            if let Some(event) = self.note(event) {
                whole.event(event, &self.id, self.created);
            }
        }
        let mut members = Map::new();
        members.insert("id".to_owned(), self.id.clone().into());
        members.insert("object".to_owned(), "chat.completion".into());
        members.insert("created".to_owned(), self.created.into());
        members.insert("model".to_owned(), self.caller.model.clone().into());
        members.insert("choices".to_owned(), whole.into_choices());
        if let Some(usage) = &self.usage {
            members.insert("usage".to_owned(), write_usage(usage));
        }
        members.extend(std::mem::take(&mut self.also));
        let mut out = Vec::with_capacity(1024);
        append(&mut out, &members);
        out
    }

    fn event(&mut self, event: Event, out: &mut Vec<u8>) {
        let Some(event) = self.note(event) else { return };
        match event {
            Event::ToolCall { choice, index, id, name, signature } => {
                self.tool_call(choice, index, call(id, name, signature), out);
            }
            Event::ToolArguments { choice, index, json } => self.tool_arguments(choice, index, &json, out),
            Event::Finish { choice, reason, stop } => self.finish(choice, reason, stop, out),
            Event::Error(error) => write_error(&error.body, out),
            Event::End => self.end(out),
            event => self.said(event, out),
        }
    }
}

/// The call of a custom tool, from that of the function that stands for it.
pub(super) fn as_custom(mut call: Map<String, Value>, arguments: &str) -> Map<String, Value> {
    let name = call.remove("function").and_then(|mut function| Some(function.get_mut("name")?.take()));
    call.insert("type".to_owned(), "custom".into());
    call.insert("custom".to_owned(), json!({"name": name, "input": custom_input(arguments)}));
    call
}

/// An error event. Line ends in JSON stand between its words only, and would end the event's line.
pub(in crate::dialect) fn write_error(body: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"data: ");
    out.extend(body.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }));
    out.extend_from_slice(b"\n\n");
}

/// The provider's id of the answer in the form of a client's dialect, or one made of the request's.
pub(in crate::dialect) fn answer_id(prefix: &str, id: Option<&str>, caller: &Caller) -> String {
    let id = id.filter(|id| !id.is_empty()).unwrap_or(&caller.call_id);
    if id.starts_with(prefix) { id.to_owned() } else { format!("{prefix}{id}") }
}

/// Appends JSON. What is written here cannot fail: keys are strings, and the sink is memory.
pub(in crate::dialect) fn append(out: &mut Vec<u8>, value: &impl serde::Serialize) {
    let written = serde_json::to_writer(out, value);
    debug_assert!(written.is_ok(), "values of this crate are JSON");
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
