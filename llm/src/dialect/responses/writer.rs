//! Answers in the responses dialect, whole and streamed.
//!
//! A whole answer is what the stream's last event holds: both are made by the same steps. Reasoning is a summary, with
//! what proves it in `encrypted_content` ([`super::sealed`]). There is one choice.

use serde_json::{Map, Value, json};

use super::object::{Status, annotation, logprob, write_error, write_usage};
use super::open::{Call, Message, Open, Part, Reasoning};
use super::sealed;
use crate::dialect::answer::{Event, Finish};
use crate::dialect::chat::{CUSTOM_TOOLS, answer_id, append};
use crate::dialect::translate::{Caller, Write};
use crate::response::UpstreamError;
use crate::usage::Usage;

/// Writes responses and their streams.
#[derive(Debug)]
pub struct Writer {
    caller: Caller,
    /// Names of the client's custom tools.
    custom: Vec<String>,
    id: String,
    created: u64,
    /// The first events are out.
    started: bool,
    /// Events so far.
    sequence: u64,
    items: Vec<Value>,
    open: Option<Open>,
    refused: bool,
    failed: bool,
    finish: Option<Finish>,
    usage: Option<Usage>,
    service_tier: Option<Value>,
    /// Nobody reads the events.
    silent: bool,
    ended: bool,
}

/// A value of an event's member.
#[derive(Clone, Copy)]
enum Is<'a> {
    Text(&'a str),
    Number(usize),
    Value(&'a Value),
}

impl Writer {
    #[must_use]
    pub fn new(mut caller: Caller) -> Self {
        let custom = match caller.echo.shift_remove(CUSTOM_TOOLS) {
            Some(Value::Array(names)) => names.into_iter().filter_map(crate::dialect::fields::text).collect(),
            _ => Vec::new(),
        };
        Self {
            id: answer_id("resp_", None, &caller),
            created: caller.now_s,
            caller,
            custom,
            started: false,
            sequence: 0,
            items: Vec::new(),
            open: None,
            refused: false,
            failed: false,
            finish: None,
            usage: None,
            service_tier: None,
            silent: false,
            ended: false,
        }
    }

    fn step(&mut self, event: Event, out: &mut Vec<u8>) {
        match event {
            Event::Start { id, created } => {
                self.id = answer_id("resp_", id.as_deref(), &self.caller);
                self.created = created.unwrap_or(self.caller.now_s);
            }
            Event::Text { choice: 0, text } => self.say(false, &text, out),
            Event::Refusal { choice: 0, text } => self.say(true, &text, out),
            Event::Thinking { choice: 0, text } => self.think(&text, out),
            Event::Signature { choice: 0, signature } => {
                self.seal(sealed::signature(&signature), false, out);
            }
            Event::RedactedThinking { choice: 0, data } => self.seal(sealed::redacted(&data), true, out),
            Event::ToolCall { choice: 0, index, id, name, signature } => {
                let custom = self.custom.contains(&name);
                let call = Call { index, call_id: id, name, custom, signature, ..Call::default() };
                self.call(call, out);
            }
            Event::ToolArguments { choice: 0, index, json } => self.arguments(index, &json, out),
            Event::Citation { choice: 0, citation } => self.cite(annotation(citation), out),
            Event::Logprobs { choice: 0, content } => {
                if let Some(Open::Message(Message { part: Some(part), .. })) = &mut self.open {
                    part.logprobs.extend(content.into_iter().map(logprob));
                }
            }
            Event::Media { choice: 0, media_type, data } => self.picture(&media_type, data, out),
            Event::Finish { choice: 0, reason, .. } => {
                self.finish = Some(reason);
                self.close(out);
            }
            Event::Usage(usage) => self.usage = Some(usage),
            Event::Also(mut members) => {
                self.service_tier = members.remove("service_tier").or(self.service_tier.take());
            }
            Event::Error(error) => self.fail(&error, out),
            Event::End => self.end(out),
            _ => {}
        }
    }

    /// Words, or those of a refusal.
    fn say(&mut self, refusal: bool, text: &str, out: &mut Vec<u8>) {
        self.refused |= refusal;
        self.part(refusal, out);
        let Some(Open::Message(Message { id, content, part: Some(part) })) = &mut self.open else { return };
        part.text.push_str(text);
        let (id, at) = (id.clone(), content.len());
        let kind = if refusal { "response.refusal.delta" } else { "response.output_text.delta" };
        let none = json!([]);
        let mut members = [
            ("item_id", Is::Text(&id)),
            ("output_index", Is::Number(self.items.len())),
            ("content_index", Is::Number(at)),
            ("delta", Is::Text(text)),
            ("logprobs", Is::Value(&none)),
        ]
        .to_vec();
        if refusal {
            members.pop();
        }
        self.emit(kind, &members, out);
    }

    /// Makes sure that a part of this kind is in progress.
    fn part(&mut self, refusal: bool, out: &mut Vec<u8>) {
        match &self.open {
            Some(Open::Message(Message { part: Some(part), .. })) if part.refusal == refusal => return,
            Some(Open::Message(_)) => self.close_part(out),
            _ => {
                let message = Message { id: self.item_id("msg"), ..Message::default() };
                self.open(Open::Message(message), out);
            }
        }
        let Some(Open::Message(message)) = &mut self.open else { return };
        let part = Part { refusal, ..Part::default() };
        let (id, at, value) = (message.id.clone(), message.content.len(), part.value());
        message.part = Some(part);
        let members = [
            ("item_id", Is::Text(&id)),
            ("output_index", Is::Number(self.items.len())),
            ("content_index", Is::Number(at)),
            ("part", Is::Value(&value)),
        ];
        self.emit("response.content_part.added", &members, out);
    }

    fn close_part(&mut self, out: &mut Vec<u8>) {
        let Some(Open::Message(message)) = &mut self.open else { return };
        let Some(part) = message.part.take() else { return };
        let (id, at, value) = (message.id.clone(), message.content.len(), part.value());
        message.content.push(value.clone());
        let place = [
            ("item_id", Is::Text(&id)),
            ("output_index", Is::Number(self.items.len())),
            ("content_index", Is::Number(at)),
        ];
        let logprobs = Value::Array(part.logprobs);
        let mut said = place.to_vec();
        if part.refusal {
            said.push(("refusal", Is::Text(&part.text)));
            self.emit("response.refusal.done", &said, out);
        } else {
            said.extend([("text", Is::Text(&part.text)), ("logprobs", Is::Value(&logprobs))]);
            self.emit("response.output_text.done", &said, out);
        }
        let mut done = place.to_vec();
        done.push(("part", Is::Value(&value)));
        self.emit("response.content_part.done", &done, out);
    }

    fn cite(&mut self, annotation: Option<Value>, out: &mut Vec<u8>) {
        let Some(annotation) = annotation else { return };
        let Some(Open::Message(Message { id, content, part: Some(part) })) = &mut self.open else { return };
        let (id, at, number) = (id.clone(), content.len(), part.annotations.len());
        part.annotations.push(annotation.clone());
        let members = [
            ("item_id", Is::Text(&id)),
            ("output_index", Is::Number(self.items.len())),
            ("content_index", Is::Number(at)),
            ("annotation_index", Is::Number(number)),
            ("annotation", Is::Value(&annotation)),
        ];
        self.emit("response.output_text.annotation.added", &members, out);
    }

    fn reasoning(&mut self, out: &mut Vec<u8>) {
        if !matches!(self.open, Some(Open::Reasoning(_))) {
            let reasoning = Reasoning { id: self.item_id("rs"), ..Reasoning::default() };
            self.open(Open::Reasoning(reasoning), out);
        }
    }

    fn think(&mut self, text: &str, out: &mut Vec<u8>) {
        self.reasoning(out);
        let Some(Open::Reasoning(reasoning)) = &mut self.open else { return };
        let id = reasoning.id.clone();
        let (begun, part) = (std::mem::replace(&mut reasoning.begun, true), reasoning.part());
        reasoning.text.push_str(text);
        let place = [
            ("item_id", Is::Text(&id)),
            ("output_index", Is::Number(self.items.len())),
            ("summary_index", Is::Number(0)),
        ];
        if !begun {
            let mut members = place.to_vec();
            members.push(("part", Is::Value(&part)));
            self.emit("response.reasoning_summary_part.added", &members, out);
        }
        let mut members = place.to_vec();
        members.push(("delta", Is::Text(text)));
        self.emit("response.reasoning_summary_text.delta", &members, out);
    }

    /// Ends the reasoning in progress with this; `apart`: it belongs to none that was told.
    fn seal(&mut self, sealed: String, apart: bool, out: &mut Vec<u8>) {
        if apart {
            self.close(out);
        }
        self.reasoning(out);
        if let Some(Open::Reasoning(reasoning)) = &mut self.open {
            reasoning.sealed = Some(sealed);
        }
        self.close(out);
    }

    fn call(&mut self, mut call: Call, out: &mut Vec<u8>) {
        call.id = self.item_id(if call.custom { "ctc" } else { "fc" });
        self.open(Open::Call(call), out);
    }

    fn arguments(&mut self, index: u32, text: &str, out: &mut Vec<u8>) {
        let Some(Open::Call(call)) = &mut self.open else { return };
        if call.index != index {
            return;
        }
        call.arguments.push_str(text);
        if call.custom {
            return;
        }
        let id = call.id.clone();
        let members = [
            ("item_id", Is::Text(&id)),
            ("output_index", Is::Number(self.items.len())),
            ("delta", Is::Text(text)),
        ];
        self.emit("response.function_call_arguments.delta", &members, out);
    }

    /// A picture, as OpenAI's tool for them gives one. Sound has no place here.
    fn picture(&mut self, media_type: &str, data: String, out: &mut Vec<u8>) {
        let Some(format) = media_type.strip_prefix("image/") else { return };
        self.close(out);
        let id = self.item_id("ig");
        let item = |status: &str, result: Value| json!({"id": id, "type": "image_generation_call", "status": status, "output_format": format, "result": result});
        self.added(&item("in_progress", Value::Null), out);
        self.done(item("completed", data.into()), out);
    }

    /// Begins an item; the one before it is over.
    fn open(&mut self, open: Open, out: &mut Vec<u8>) {
        self.close(out);
        let item = open.item("in_progress");
        self.open = Some(open);
        self.added(&item, out);
    }

    fn added(&mut self, item: &Value, out: &mut Vec<u8>) {
        let members = [("output_index", Is::Number(self.items.len())), ("item", Is::Value(item))];
        self.emit("response.output_item.added", &members, out);
    }

    fn done(&mut self, item: Value, out: &mut Vec<u8>) {
        let members = [("output_index", Is::Number(self.items.len())), ("item", Is::Value(&item))];
        self.emit("response.output_item.done", &members, out);
        self.items.push(item);
    }

    /// Ends the item in progress.
    fn close(&mut self, out: &mut Vec<u8>) {
        self.close_part(out);
        let Some(open) = self.open.take() else { return };
        let place = [("item_id", Is::Text(open.id())), ("output_index", Is::Number(self.items.len()))];
        match &open {
            Open::Message(_) => {}
            Open::Reasoning(reasoning) if reasoning.begun => {
                let part = reasoning.part();
                let mut members = place.to_vec();
                members.extend([("summary_index", Is::Number(0)), ("text", Is::Text(&reasoning.text))]);
                self.emit("response.reasoning_summary_text.done", &members, out);
                members.pop();
                members.push(("part", Is::Value(&part)));
                self.emit("response.reasoning_summary_part.done", &members, out);
            }
            Open::Reasoning(_) => {}
            Open::Call(call) => self.close_call(call, &place, out),
        }
        let cut = self.failed || matches!(Status::of(self.finish, self.refused), Status::Incomplete(_));
        let item = open.item(if cut { "incomplete" } else { "completed" });
        self.done(item, out);
    }

    fn close_call(&mut self, call: &Call, place: &[(&str, Is<'_>)], out: &mut Vec<u8>) {
        let mut members = place.to_vec();
        if call.custom {
            let input = call.input();
            members.push(("delta", Is::Text(&input)));
            self.emit("response.custom_tool_call_input.delta", &members, out);
            members.pop();
            members.push(("input", Is::Text(&input)));
            self.emit("response.custom_tool_call_input.done", &members, out);
            return;
        }
        members.extend([("name", Is::Text(&call.name)), ("arguments", Is::Text(&call.arguments))]);
        self.emit("response.function_call_arguments.done", &members, out);
    }

    /// An error event, and the answer as a failed one.
    fn fail(&mut self, error: &UpstreamError, out: &mut Vec<u8>) {
        self.failed = true;
        self.close(out);
        let body = serde_json::from_slice(&error.body).unwrap_or(Value::Null);
        let param = body.pointer("/error/param").cloned().unwrap_or_default();
        let code = body.pointer("/error/code").cloned().unwrap_or_default();
        let members =
            [("code", Is::Value(&code)), ("message", Is::Text(&error.message)), ("param", Is::Value(&param))];
        self.emit("error", &members, out);
        let response = self.response(Status::Failed, Some(error));
        self.emit("response.failed", &[("response", Is::Value(&response))], out);
        self.ended = true;
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        self.close(out);
        let status = Status::of(self.finish, self.refused);
        let kind = match status {
            Status::Incomplete(_) => "response.incomplete",
            _ => "response.completed",
        };
        if !self.silent {
            let response = self.response(status, None);
            self.emit(kind, &[("response", Is::Value(&response))], out);
        }
    }

    fn item_id(&self, prefix: &str) -> String {
        let answer = self.id.strip_prefix("resp_").unwrap_or(&self.id);
        let number = self.items.len().saturating_add(usize::from(self.open.is_some()));
        format!("{prefix}_{answer}_{number}")
    }

    fn response(&mut self, status: Status, error: Option<&UpstreamError>) -> Value {
        let mut members = Map::new();
        members.insert("id".to_owned(), self.id.clone().into());
        members.insert("object".to_owned(), "response".into());
        members.insert("created_at".to_owned(), self.created.into());
        members.insert("status".to_owned(), status.name().into());
        members.insert("background".to_owned(), false.into());
        members.insert("error".to_owned(), error.map(write_error).unwrap_or_default());
        let incomplete = match status {
            Status::Incomplete(reason) => json!({"reason": reason}),
            _ => Value::Null,
        };
        members.insert("incomplete_details".to_owned(), incomplete);
        members.extend(self.caller.echo.clone());
        members.insert("model".to_owned(), self.caller.model.clone().into());
        let over = status != Status::InProgress;
        members.insert("output".to_owned(), if over { self.items.clone().into() } else { json!([]) });
        members.insert("previous_response_id".to_owned(), Value::Null);
        members.insert("store".to_owned(), false.into());
        let usage = self.usage.as_ref().filter(|_| over);
        members.insert("usage".to_owned(), usage.map(write_usage).unwrap_or_default());
        if let Some(tier) = &self.service_tier {
            members.insert("service_tier".to_owned(), tier.clone());
        }
        members.into()
    }

    /// Appends an event, after those that begin a stream.
    fn emit(&mut self, kind: &str, members: &[(&str, Is<'_>)], out: &mut Vec<u8>) {
        if self.silent {
            return;
        }
        if !std::mem::replace(&mut self.started, true) {
            let response = self.response(Status::InProgress, None);
            for kind in ["response.created", "response.in_progress"] {
                self.put(kind, &[("response", Is::Value(&response))], out);
            }
        }
        self.put(kind, members, out);
    }

    fn put(&mut self, kind: &str, members: &[(&str, Is<'_>)], out: &mut Vec<u8>) {
        out.extend_from_slice(b"event: ");
        out.extend_from_slice(kind.as_bytes());
        out.extend_from_slice(b"\ndata: {\"type\":\"");
        out.extend_from_slice(kind.as_bytes());
        out.extend_from_slice(b"\",\"sequence_number\":");
        append(out, &self.sequence);
        self.sequence = self.sequence.saturating_add(1);
        for (name, value) in members {
            out.extend_from_slice(b",\"");
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b"\":");
            match value {
                Is::Text(text) => append(out, text),
                Is::Number(number) => append(out, number),
                Is::Value(value) => append(out, value),
            }
        }
        out.extend_from_slice(b"}\n\n");
    }
}

impl Write for Writer {
    fn document(&mut self, events: Vec<Event>) -> Vec<u8> {
        self.silent = true;
        let mut nothing = Vec::new();
        for event in events {
            self.step(event, &mut nothing);
        }
        self.close(&mut nothing);
        let response = self.response(Status::of(self.finish, self.refused), None);
        let mut out = Vec::with_capacity(1024);
        append(&mut out, &response);
        out
    }

    fn event(&mut self, event: Event, out: &mut Vec<u8>) {
        self.step(event, out);
    }
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
