//! Anthropic's answers, whole and as streams.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::dialect::Dialect;
use crate::dialect::answer::{Citation, Event, Finish};
use crate::dialect::translate::{Frame, Read, Reading};
use crate::response::UpstreamError;
use crate::usage::Usage;

/// Reads messages and their streams.
#[derive(Debug, Default)]
pub struct Reader {
    reading: Reading,
    /// What each block in progress is.
    blocks: BTreeMap<u64, Block>,
    /// The last block is text, so that another one must be told apart.
    after_text: bool,
    /// Calls begun.
    calls: u32,
    usage: Option<Usage>,
    /// The schema's tool was called: its arguments are the answer.
    json: bool,
    finished: bool,
    ended: bool,
}

#[derive(Debug, Clone, PartialEq)]
enum Block {
    Text,
    Thinking,
    /// A call of a tool of the client's. `input`: its arguments, as long as no piece of them came.
    Call {
        index: u32,
        input: Option<String>,
    },
    /// The call that is the answer.
    Json {
        input: Option<String>,
    },
    /// A block that only Anthropic has, put together until it is whole.
    Other {
        value: Value,
        json: String,
    },
}

impl Reader {
    #[must_use]
    pub fn new(reading: Reading) -> Self {
        Self { reading, ..Self::default() }
    }

    fn is_json_tool(&self, name: &str) -> bool {
        self.reading.json_tool.as_deref() == Some(name)
    }

    /// A block of a whole answer.
    fn block(&mut self, value: Value, out: &mut Vec<Event>) {
        let kind = text(&value, "type");
        self.apart(&kind, out);
        match kind.as_str() {
            "text" => {
                out.push(Event::Text { choice: 0, text: text(&value, "text") });
                for citation in value.get("citations").and_then(Value::as_array).into_iter().flatten() {
                    out.push(Event::Citation { choice: 0, citation: read_citation(citation) });
                }
            }
            "thinking" => {
                out.push(Event::Thinking { choice: 0, text: text(&value, "thinking") });
                signature(text(&value, "signature"), out);
            }
            "redacted_thinking" => {
                out.push(Event::RedactedThinking { choice: 0, data: text(&value, "data") });
            }
            "tool_use" => {
                let name = text(&value, "name");
                let input = arguments(&value);
                if self.is_json_tool(&name) {
                    self.json = true;
                    out.push(Event::Text { choice: 0, text: input });
                    return;
                }
                let index = self.call(&value, &name, out);
                out.push(Event::ToolArguments { choice: 0, index, json: input });
            }
            "" => {}
            _ => out.push(Event::Other { choice: 0, dialect: Dialect::Messages, value }),
        }
    }

    /// Tells a block of text apart from one just before it.
    fn apart(&mut self, kind: &str, out: &mut Vec<Event>) {
        let text = kind == "text";
        if std::mem::replace(&mut self.after_text, text) && text {
            out.push(Event::Break { choice: 0 });
        }
    }

    fn call(&mut self, value: &Value, name: &str, out: &mut Vec<Event>) -> u32 {
        let index = self.calls;
        self.calls = self.calls.saturating_add(1);
        let name = self.reading.tool_name(name).to_owned();
        out.push(Event::ToolCall { choice: 0, index, id: text(value, "id"), name, signature: None });
        index
    }

    fn begin(&mut self, number: u64, value: Value, out: &mut Vec<Event>) {
        let kind = text(&value, "type");
        self.apart(&kind, out);
        let block = match kind.as_str() {
            "text" => {
                said(text(&value, "text"), out, |text| Event::Text { choice: 0, text });
                Block::Text
            }
            "thinking" => {
                said(text(&value, "thinking"), out, |text| Event::Thinking { choice: 0, text });
                Block::Thinking
            }
            "redacted_thinking" => {
                out.push(Event::RedactedThinking { choice: 0, data: text(&value, "data") });
                return;
            }
            "tool_use" => {
                let (name, input) = (text(&value, "name"), Some(arguments(&value)));
                if self.is_json_tool(&name) {
                    self.json = true;
                    Block::Json { input }
                } else {
                    Block::Call { index: self.call(&value, &name, out), input }
                }
            }
            _ => Block::Other { value, json: String::new() },
        };
        self.blocks.insert(number, block);
    }

    fn delta(&mut self, number: u64, delta: &Value, out: &mut Vec<Event>) {
        match text(delta, "type").as_str() {
            "text_delta" => said(text(delta, "text"), out, |text| Event::Text { choice: 0, text }),
            "thinking_delta" => {
                said(text(delta, "thinking"), out, |text| Event::Thinking { choice: 0, text })
            }
            "signature_delta" => signature(text(delta, "signature"), out),
            "citations_delta" => {
                let citation = read_citation(delta.get("citation").unwrap_or(&Value::Null));
                out.push(Event::Citation { choice: 0, citation });
            }
            "input_json_delta" => {
                let json = text(delta, "partial_json");
                match self.blocks.get_mut(&number) {
                    _ if json.is_empty() => {}
                    Some(Block::Json { input }) => {
                        *input = None;
                        out.push(Event::Text { choice: 0, text: json });
                    }
                    Some(Block::Call { index, input }) => {
                        *input = None;
                        out.push(Event::ToolArguments { choice: 0, index: *index, json });
                    }
                    Some(Block::Other { json: all, .. }) => all.push_str(&json),
                    _ => {}
                }
            }
            _ => {}
        }
    }

    fn stop(&mut self, number: u64, out: &mut Vec<Event>) {
        match self.blocks.remove(&number) {
            // A call without arguments has no delta; its arguments are an object all the same.
            Some(Block::Call { index, input: Some(json) }) => {
                out.push(Event::ToolArguments { choice: 0, index, json });
            }
            Some(Block::Json { input: Some(text) }) => out.push(Event::Text { choice: 0, text }),
            Some(Block::Other { mut value, json }) => {
                if let (Some(members), Ok(input)) =
                    (value.as_object_mut(), serde_json::from_str::<Value>(&json))
                {
                    members.insert("input".to_owned(), input);
                }
                out.push(Event::Other { choice: 0, dialect: Dialect::Messages, value });
            }
            _ => {}
        }
    }

    fn count(&mut self, usage: Option<&Value>, out: &mut Vec<Event>) {
        let Some(value) = usage else { return };
        if let Some(usage) = Usage::from_value(value) {
            let usage = self.usage.map_or(usage, |before| usage.over(&before));
            self.usage = Some(usage);
            out.push(Event::Usage(usage));
        }
        if let Some(tier) = value.get("service_tier").and_then(Value::as_str) {
            let tier = if tier == "standard" { "default" } else { tier };
            out.push(Event::Also(Map::from_iter([("service_tier".to_owned(), tier.into())])));
        }
    }

    /// `stop_reason`, once it is there.
    fn finish(&mut self, of: &Value, out: &mut Vec<Event>) {
        let Some(reason) = of.get("stop_reason").and_then(Value::as_str) else { return };
        let reason = match reason {
            "end_turn" => Finish::Stop,
            "stop_sequence" => Finish::StopSequence,
            "max_tokens" | "model_context_window_exceeded" => Finish::Length,
            "tool_use" if self.json && self.calls == 0 => Finish::Stop,
            "tool_use" => Finish::ToolCalls,
            "refusal" => Finish::Refusal,
            "pause_turn" => Finish::Pause,
            _ => Finish::Stop,
        };
        let stop = of.get("stop_sequence").and_then(Value::as_str).map(str::to_owned);
        self.finished = true;
        out.push(Event::Finish { choice: 0, reason, stop });
    }

    fn over(&mut self, out: &mut Vec<Event>) {
        if !std::mem::replace(&mut self.ended, true) {
            out.push(Event::End);
        }
    }
}

impl Read for Reader {
    fn document(&mut self, body: &[u8], out: &mut Vec<Event>) {
        let mut value = match serde_json::from_slice::<Value>(body) {
            Ok(value) if value.is_object() => value,
            _ => return fail(UpstreamError::new("The upstream's answer is not JSON.", None, None), out),
        };
        if let Some(error) = value.get("error").filter(|error| !error.is_null()) {
            return fail(read_error(error), out);
        }
        out.push(Event::Start { id: id(&value), created: None });
        let Some(Value::Array(blocks)) = value.get_mut("content").map(Value::take) else {
            return fail(UpstreamError::new("The upstream's answer has no content.", None, None), out);
        };
        for block in blocks {
            self.block(block, out);
        }
        self.finish(&value, out);
        self.count(value.get("usage"), out);
        self.over(out);
    }

    fn frame(&mut self, frame: Frame<'_>, out: &mut Vec<Event>) {
        if self.ended {
            return;
        }
        let Ok(mut value) = serde_json::from_slice::<Value>(frame.data) else {
            if frame.data.trim_ascii() == b"[DONE]" {
                return;
            }
            self.ended = true;
            return fail(UpstreamError::new(&String::from_utf8_lossy(frame.data), None, None), out);
        };
        let number = value.get("index").and_then(Value::as_u64).unwrap_or(0);
        let mut kind = text(&value, "type");
        if kind.is_empty() {
            kind = String::from_utf8_lossy(frame.name).into_owned();
        }
        match kind.as_str() {
            "message_start" => {
                let message = value.get("message").unwrap_or(&Value::Null);
                out.push(Event::Start { id: id(message), created: None });
                self.count(message.get("usage"), out);
            }
            "content_block_start" => {
                let block = value.get_mut("content_block").map(Value::take).unwrap_or_default();
                self.begin(number, block, out);
            }
            "content_block_delta" => {
                self.delta(number, value.get("delta").unwrap_or(&Value::Null), out);
            }
            "content_block_stop" => self.stop(number, out),
            "message_delta" => {
                self.finish(value.get("delta").unwrap_or(&Value::Null), out);
                self.count(value.get("usage"), out);
            }
            "message_stop" => self.over(out),
            "error" => {
                self.ended = true;
                fail(read_error(value.get("error").unwrap_or(&value)), out);
            }
            // `ping`, and what is not known yet.
            _ => {}
        }
    }

    fn end(&mut self, out: &mut Vec<Event>) {
        if !self.ended && !self.finished {
            out.push(Event::Error(UpstreamError::new(
                "The upstream's stream ended before its answer did.",
                Some("api_error"),
                None,
            )));
        }
        self.over(out);
    }
}

fn fail(error: UpstreamError, out: &mut Vec<Event>) {
    out.push(Event::Error(error));
    out.push(Event::End);
}

fn text(value: &Value, name: &str) -> String {
    value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// Arguments of a call that is whole, as JSON text: an object, whatever came.
fn arguments(call: &Value) -> String {
    let input = call.get("input").filter(|input| input.is_object());
    input.map_or_else(|| "{}".to_owned(), Value::to_string)
}

fn id(value: &Value) -> Option<String> {
    Some(text(value, "id")).filter(|id| !id.is_empty())
}

fn said(text: String, out: &mut Vec<Event>, event: impl FnOnce(String) -> Event) {
    if !text.is_empty() {
        out.push(event(text));
    }
}

fn signature(signature: String, out: &mut Vec<Event>) {
    if !signature.is_empty() {
        out.push(Event::Signature { choice: 0, signature });
    }
}

/// Anthropic's error object.
fn read_error(error: &Value) -> UpstreamError {
    let kind = error.get("type").and_then(Value::as_str);
    let message = error.get("message").and_then(Value::as_str).or(error.as_str());
    UpstreamError::new(message.unwrap_or("The upstream failed without a word."), kind, None)
}

fn read_citation(raw: &Value) -> Citation {
    let word = |name: &str| raw.get(name).and_then(Value::as_str).map(str::to_owned);
    Citation {
        url: word("url"),
        title: word("title").or_else(|| word("document_title")),
        cited: word("cited_text"),
        start: None,
        end: None,
        raw: raw.clone(),
    }
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;
