//! Answers to clients that speak messages.

use serde_json::{Map, Value, json};

use crate::dialect::answer::{Citation, Event, Finish};
use crate::dialect::translate::{Caller, Write};
use crate::dialect::{Dialect, thought};
use crate::error::ErrorShape;
use crate::usage::Usage;

/// Writes messages and their streams. Only the first choice is told: the dialect has one.
#[derive(Debug)]
pub struct Writer {
    caller: Caller,
    id: String,
    usage: Usage,
    /// `message_start` is out.
    started: bool,
    /// Number of the block in progress, and what it is; the number of the next one.
    open: Option<Open>,
    next: u64,
    finish: Option<(Finish, Option<String>)>,
    called: bool,
    /// Some of the arguments of the call in progress are out.
    arguments: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Open {
    Text,
    Thinking,
    Call(u32),
}

impl Writer {
    #[must_use]
    pub fn new(caller: Caller) -> Self {
        let id = format!("msg_{}", caller.call_id);
        Self {
            caller,
            id,
            usage: Usage::default(),
            started: false,
            open: None,
            next: 0,
            finish: None,
            called: false,
            arguments: false,
        }
    }

    fn begin(&mut self, id: Option<String>) {
        if let Some(id) = id.filter(|id| !id.is_empty()) {
            self.id = if id.starts_with("msg_") { id } else { format!("msg_{id}") };
        }
    }

    /// Begins the message, when the first of it is there.
    fn start(&mut self, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.started, true) {
            return;
        }
        let message = json!({
            "id": self.id, "type": "message", "role": "assistant", "model": self.caller.model, "content": [],
            "stop_reason": null, "stop_sequence": null, "usage": usage_json(&Usage { completion: 0, ..self.usage }),
        });
        emit("message_start", &json!({"type": "message_start", "message": message}), out);
    }

    /// Number of the block in progress.
    fn number(&self) -> u64 {
        self.next.saturating_sub(1)
    }

    fn open(&mut self, kind: Open, block: &Value, out: &mut Vec<u8>) {
        self.close(out);
        self.start(out);
        self.open = Some(kind);
        let index = self.next;
        self.next = self.next.saturating_add(1);
        let event = json!({"type": "content_block_start", "index": index, "content_block": block});
        emit("content_block_start", &event, out);
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        if self.open.take().is_some() {
            let event = json!({"type": "content_block_stop", "index": self.number()});
            emit("content_block_stop", &event, out);
        }
    }

    fn delta(&self, delta: &Value, out: &mut Vec<u8>) {
        let event = json!({"type": "content_block_delta", "index": self.number(), "delta": delta});
        emit("content_block_delta", &event, out);
    }

    /// A block that came whole.
    fn whole(&mut self, block: &Value, out: &mut Vec<u8>) {
        self.open(Open::Text, block, out);
        self.close(out);
    }

    fn text(&mut self, text: &str, out: &mut Vec<u8>) {
        if self.open != Some(Open::Text) {
            self.open(Open::Text, &json!({"type": "text", "text": ""}), out);
        }
        if !text.is_empty() {
            self.delta(&json!({"type": "text_delta", "text": text}), out);
        }
    }

    fn thinking(&mut self, out: &mut Vec<u8>) {
        if self.open != Some(Open::Thinking) {
            self.open(Open::Thinking, &json!({"type": "thinking", "thinking": "", "signature": ""}), out);
        }
    }

    fn said(&mut self, event: Event, out: &mut Vec<u8>) {
        match event {
            Event::Text { text, .. } | Event::Refusal { text, .. } => self.text(&text, out),
            Event::Break { .. } if self.open == Some(Open::Text) => self.close(out),
            Event::Thinking { text, .. } => {
                self.thinking(out);
                if !text.is_empty() {
                    self.delta(&json!({"type": "thinking_delta", "thinking": text}), out);
                }
            }
            Event::Signature { signature, .. } => {
                self.thinking(out);
                self.delta(&json!({"type": "signature_delta", "signature": signature}), out);
                self.close(out);
            }
            Event::RedactedThinking { data, .. } => {
                self.whole(&json!({"type": "redacted_thinking", "data": data}), out);
            }
            Event::ToolCall { index, id, name, signature, .. } => {
                (self.called, self.arguments) = (true, false);
                let id = call_id(&id, signature.as_deref(), &self.caller, index);
                let block = json!({"type": "tool_use", "id": id, "name": name, "input": {}});
                self.open(Open::Call(index), &block, out);
            }
            // An object without members is the block's own `input` already; within others it is a piece like any.
            Event::ToolArguments { index, json, .. }
                if self.open == Some(Open::Call(index)) && (self.arguments || json != "{}") =>
            {
                self.arguments = true;
                self.delta(&json!({"type": "input_json_delta", "partial_json": json}), out);
            }
            Event::Citation { citation, .. } => {
                if let Some(citation) = citation_json(citation) {
                    self.text("", out);
                    self.delta(&json!({"type": "citations_delta", "citation": citation}), out);
                }
            }
            Event::Other { dialect: Dialect::Messages, value, .. } => self.whole(&value, out),
            _ => {}
        }
    }

    fn stop_reason(&self) -> (&'static str, Option<String>) {
        let (reason, stop) = self.finish.clone().unwrap_or((Finish::Stop, None));
        let word = match reason {
            Finish::Stop if self.called => "tool_use",
            Finish::Stop => "end_turn",
            Finish::StopSequence => "stop_sequence",
            Finish::Length => "max_tokens",
            Finish::ToolCalls => "tool_use",
            Finish::ContentFilter | Finish::Refusal => "refusal",
            Finish::Pause => "pause_turn",
        };
        (word, stop)
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        self.start(out);
        self.close(out);
        let (reason, stop) = self.stop_reason();
        let delta = json!({"stop_reason": reason, "stop_sequence": stop});
        let event = json!({"type": "message_delta", "delta": delta, "usage": usage_json(&self.usage)});
        emit("message_delta", &event, out);
        emit("message_stop", &json!({"type": "message_stop"}), out);
    }
}

impl Write for Writer {
    fn document(&mut self, events: Vec<Event>) -> Vec<u8> {
        let mut content = Blocks::default();
        for event in events.into_iter().filter(|event| choice(event).is_none_or(|choice| choice == 0)) {
            match event {
                Event::Start { id, .. } => self.begin(id),
                Event::Usage(usage) => self.usage = usage,
                Event::Finish { reason, stop, .. } => self.finish = Some((reason, stop)),
                event => {
                    self.called |= matches!(event, Event::ToolCall { .. });
                    content.add(event, &self.caller);
                }
            }
        }
        let (reason, stop) = self.stop_reason();
        let document = json!({
            "id": self.id, "type": "message", "role": "assistant", "model": self.caller.model,
            "content": content.finish(), "stop_reason": reason, "stop_sequence": stop,
            "usage": usage_json(&self.usage),
        });
        document.to_string().into_bytes()
    }

    fn event(&mut self, event: Event, out: &mut Vec<u8>) {
        if choice(&event).is_some_and(|choice| choice != 0) {
            return;
        }
        match event {
            Event::Start { id, .. } => self.begin(id),
            Event::Usage(usage) => self.usage = usage,
            Event::Finish { reason, stop, .. } => self.finish = Some((reason, stop)),
            Event::Error(error) => {
                // Nothing of the message follows it.
                self.next = u64::MAX;
                let body = ErrorShape::Anthropic.render(error.status, error.body);
                out.extend_from_slice(b"event: error\ndata: ");
                out.extend_from_slice(&body);
                out.extend_from_slice(b"\n\n");
            }
            Event::End if self.next == u64::MAX => {}
            Event::End => self.end(out),
            event => self.said(event, out),
        }
    }
}

/// Blocks of a whole answer.
#[derive(Debug, Default)]
struct Blocks {
    done: Vec<Value>,
    /// Arguments of the last call.
    arguments: String,
    /// What follows is not of the last block.
    apart: bool,
}

impl Blocks {
    /// Text of the last block of this kind, or of a new one.
    fn append(&mut self, kind: &str, member: &str, text: &str) {
        let last = self.done.last_mut().filter(|block| block.get("type").is_some_and(|last| last == kind));
        let apart = std::mem::take(&mut self.apart);
        let last = last.filter(|_| !apart);
        let open = last.filter(|block| kind != "thinking" || block.get("signature").is_some_and(|s| s == ""));
        if let Some(Value::String(said)) = open.and_then(|block| block.get_mut(member)) {
            said.push_str(text);
            return;
        }
        let mut block =
            Map::from_iter([("type".to_owned(), Value::from(kind)), (member.to_owned(), text.into())]);
        if kind == "thinking" {
            block.insert("signature".to_owned(), "".into());
        }
        self.push(Value::Object(block));
    }

    fn push(&mut self, block: Value) {
        self.close();
        self.done.push(block);
    }

    /// Puts the arguments of the last call where they belong.
    fn close(&mut self) {
        let json = std::mem::take(&mut self.arguments);
        if json.is_empty() {
            return;
        }
        // A call that was cut has no whole object; its text is better than nothing.
        let input = match serde_json::from_str::<Value>(&json) {
            Ok(Value::Object(input)) => Value::Object(input),
            _ => json!({"arguments": json}),
        };
        if let Some(block) = self.done.last_mut().and_then(Value::as_object_mut) {
            block.insert("input".to_owned(), input);
        }
    }

    fn add(&mut self, event: Event, caller: &Caller) {
        match event {
            Event::Text { text, .. } | Event::Refusal { text, .. } if text.is_empty() => {}
            Event::Text { text, .. } | Event::Refusal { text, .. } => self.append("text", "text", &text),
            Event::Break { .. } => self.apart = true,
            Event::Thinking { text, .. } => self.append("thinking", "thinking", &text),
            Event::Signature { signature, .. } => {
                self.append("thinking", "thinking", "");
                if let Some(block) = self.done.last_mut().and_then(Value::as_object_mut) {
                    block.insert("signature".to_owned(), signature.into());
                }
            }
            Event::RedactedThinking { data, .. } => {
                self.push(json!({"type": "redacted_thinking", "data": data}))
            }
            Event::ToolCall { index, id, name, signature, .. } => {
                let id = call_id(&id, signature.as_deref(), caller, index);
                self.push(json!({"type": "tool_use", "id": id, "name": name, "input": {}}));
            }
            Event::ToolArguments { json, .. } => self.arguments.push_str(&json),
            Event::Citation { citation, .. } => {
                let Some(citation) = citation_json(citation) else { return };
                self.append("text", "text", "");
                if let Some(block) = self.done.last_mut().and_then(Value::as_object_mut) {
                    let all = block.entry("citations").or_insert_with(|| json!([]));
                    if let Some(all) = all.as_array_mut() {
                        all.push(citation);
                    }
                }
            }
            Event::Other { dialect: Dialect::Messages, value, .. } => self.push(value),
            _ => {}
        }
    }

    fn finish(mut self) -> Vec<Value> {
        self.close();
        self.done
    }
}

fn choice(event: &Event) -> Option<u32> {
    Some(match event {
        Event::Text { choice, .. }
        | Event::Break { choice }
        | Event::Refusal { choice, .. }
        | Event::Thinking { choice, .. }
        | Event::Signature { choice, .. }
        | Event::RedactedThinking { choice, .. }
        | Event::ToolCall { choice, .. }
        | Event::ToolArguments { choice, .. }
        | Event::Citation { choice, .. }
        | Event::Finish { choice, .. }
        | Event::Other { choice, .. } => *choice,
        _ => return None,
    })
}

/// The id of a call, with a signature of Gemini's in it; one of our own where the provider gave none.
fn call_id(id: &str, signature: Option<&str>, caller: &Caller, index: u32) -> String {
    let own = format!("toolu_{}_{index}", caller.call_id);
    thought::join(if id.is_empty() { &own } else { id }, signature)
}

/// Anthropic's citations pass; others become what Anthropic says of a web page.
fn citation_json(citation: Citation) -> Option<Value> {
    let own = ["char_location", "page_location", "content_block_location", "web_search_result_location"];
    let kind = citation.raw.get("type").and_then(Value::as_str).unwrap_or_default();
    if own.contains(&kind) || kind == "search_result_location" {
        return Some(citation.raw);
    }
    let url = citation.url?;
    Some(json!({
        "type": "web_search_result_location", "url": url, "title": citation.title,
        "cited_text": citation.cited.unwrap_or_default(), "encrypted_index": "",
    }))
}

/// Usage in Anthropic's counting: what was read from or written to the cache stands beside `input_tokens`.
fn usage_json(usage: &Usage) -> Value {
    let apart = usage.cached.saturating_add(usage.cache_creation);
    let mut written = json!({
        "input_tokens": usage.prompt.saturating_sub(apart),
        "cache_creation_input_tokens": usage.cache_creation,
        "cache_read_input_tokens": usage.cached,
        "output_tokens": usage.completion,
    });
    if usage.cache_creation_1h > 0 {
        let short = usage.cache_creation.saturating_sub(usage.cache_creation_1h);
        let parts =
            json!({"ephemeral_5m_input_tokens": short, "ephemeral_1h_input_tokens": usage.cache_creation_1h});
        crate::dialect::fields::set(&mut written, "cache_creation", parts);
    }
    if usage.searches > 0 {
        let searches = json!({"web_search_requests": usage.searches});
        crate::dialect::fields::set(&mut written, "server_tool_use", searches);
    }
    written
}

fn emit(name: &str, data: &Value, out: &mut Vec<u8>) {
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\ndata: ");
    // Writing to memory does not fail.
    let _ = serde_json::to_writer(&mut *out, data);
    out.extend_from_slice(b"\n\n");
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
