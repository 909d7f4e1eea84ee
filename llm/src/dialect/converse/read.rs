//! Answers: a whole one is read as the events that it would have come in.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::dialect::Dialect;
use crate::dialect::answer::{Citation, Event, Finish};
use crate::dialect::fields::set;
use crate::dialect::translate::{Frame, Read, Reading};
use crate::price::Class;
use crate::response::UpstreamError;
use crate::usage::Usage;

/// Reads what Converse and ConverseStream answer.
#[derive(Debug, Default)]
pub struct Reader {
    reading: Reading,
    /// What the blocks in progress are, by their index.
    blocks: BTreeMap<u64, Block>,
    calls: u32,
    /// The answer is in a schema: it came as a call of the tool that stands for it.
    json: bool,
    started: bool,
    finished: bool,
    ended: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Block {
    /// A call, and whether any of its arguments was there.
    Call {
        index: u32,
        any: bool,
    },
    /// A call whose input is the answer's text.
    Json,
    /// A call that the provider itself answers.
    Server,
    Image {
        format: String,
    },
}

impl Read for Reader {
    fn document(&mut self, body: &[u8], out: &mut Vec<Event>) {
        match serde_json::from_slice::<Value>(body) {
            Ok(answer) if answer.pointer("/output/message").is_some() => self.whole(&answer, out),
            Ok(other) => self.fail(error_of(&other, ""), out),
            Err(_) => self.fail(unreadable("answer"), out),
        }
        self.end(out);
    }

    fn frame(&mut self, frame: Frame<'_>, out: &mut Vec<Event>) {
        let value = serde_json::from_slice::<Value>(frame.data);
        let name = std::str::from_utf8(frame.name).unwrap_or_default();
        if frame.exception {
            let text = || json!({ "message": String::from_utf8_lossy(frame.data) });
            return self.fail(error_of(&value.unwrap_or_else(|_| text()), name), out);
        }
        match value {
            Ok(value) => self.event(name, &value, out),
            Err(_) => self.fail(unreadable("event stream"), out),
        }
    }

    fn end(&mut self, out: &mut Vec<Event>) {
        if self.ended {
            return;
        }
        if !self.finished {
            let message = "The upstream's stream ended before the answer was complete.";
            out.push(Event::Error(UpstreamError::new(message, None, Some("502"))));
        }
        self.ended = true;
        out.push(Event::End);
    }
}

impl Reader {
    #[must_use]
    pub fn new(reading: Reading) -> Self {
        Self { reading, ..Self::default() }
    }

    fn fail(&mut self, error: UpstreamError, out: &mut Vec<Event>) {
        if !self.ended {
            self.ended = true;
            out.push(Event::Error(error));
            out.push(Event::End);
        }
    }

    fn event(&mut self, name: &str, value: &Value, out: &mut Vec<Event>) {
        if self.ended {
            return;
        }
        let index = value.get("contentBlockIndex").and_then(Value::as_u64).unwrap_or(0);
        match name {
            "messageStart" => self.start(out),
            "contentBlockStart" => self.block_start(index, value.get("start"), out),
            "contentBlockDelta" => self.delta(index, value.get("delta"), out),
            "contentBlockStop" => self.block_stop(index, out),
            "messageStop" => {
                let reason = value.get("stopReason").and_then(Value::as_str).unwrap_or_default();
                self.finish(reason, value.get("additionalModelResponseFields"), out);
            }
            "metadata" => {
                metadata(value, out);
                if self.finished {
                    self.end(out);
                }
            }
            _ => {}
        }
    }

    fn start(&mut self, out: &mut Vec<Event>) {
        if !std::mem::replace(&mut self.started, true) {
            out.push(Event::Start { id: None, created: None });
        }
    }

    fn whole(&mut self, answer: &Value, out: &mut Vec<Event>) {
        self.start(out);
        let blocks = answer.pointer("/output/message/content").and_then(Value::as_array);
        for (index, block) in (0_u64..).zip(blocks.into_iter().flatten()) {
            self.block(index, block, out);
            self.block_stop(index, out);
        }
        let reason = answer.get("stopReason").and_then(Value::as_str).unwrap_or_default();
        self.finish(reason, answer.get("additionalModelResponseFields"), out);
        metadata(answer, out);
    }

    /// A block of a whole answer.
    fn block(&mut self, index: u64, block: &Value, out: &mut Vec<Event>) {
        if let Some(call) = block.get("toolUse") {
            self.block_start(index, Some(block), out);
            let input = call.get("input").unwrap_or(&Value::Null);
            let input = if input.is_null() { "{}".to_owned() } else { input.to_string() };
            self.delta(index, Some(&json!({ "toolUse": { "input": input } })), out);
        } else if let Some(reasoning) = block.get("reasoningContent") {
            let inner = reasoning.get("reasoningText").unwrap_or(reasoning);
            for name in ["text", "signature", "redactedContent"] {
                if let Some(piece) = inner.get(name) {
                    self.delta(index, Some(&json!({ "reasoningContent": { name: piece } })), out);
                }
            }
        } else if let Some(cited) = block.get("citationsContent") {
            let list = |name: &str| cited.get(name).and_then(Value::as_array).into_iter().flatten();
            list("content").for_each(|piece| self.delta(index, Some(piece), out));
            list("citations").for_each(|source| out.push(citation(source)));
        } else if block.get("image").is_some() {
            self.block_start(index, Some(block), out);
            self.delta(index, Some(block), out);
        } else if block.get("text").is_some() {
            self.delta(index, Some(block), out);
        } else {
            out.push(other(block.clone()));
        }
    }

    fn block_start(&mut self, index: u64, start: Option<&Value>, out: &mut Vec<Event>) {
        self.start(out);
        let Some(start) = start else { return };
        let word = |value: &Value, name: &str| {
            value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let block = if let Some(call) = start.get("toolUse") {
            let name = word(call, "name");
            if call.get("type").and_then(Value::as_str) == Some("server_tool_use") {
                out.push(other(start.clone()));
                Block::Server
            } else if self.reading.json_tool.as_ref() == Some(&name) {
                self.json = true;
                Block::Json
            } else {
                let index = self.calls;
                self.calls = self.calls.saturating_add(1);
                let name = self.reading.tool_name(&name).to_owned();
                out.push(Event::ToolCall {
                    choice: 0,
                    index,
                    id: word(call, "toolUseId"),
                    name,
                    signature: None,
                });
                Block::Call { index, any: false }
            }
        } else if let Some(image) = start.get("image") {
            Block::Image { format: word(image, "format") }
        } else if start.get("toolResult").is_some() {
            out.push(other(start.clone()));
            Block::Server
        } else {
            return;
        };
        self.blocks.insert(index, block);
    }

    fn delta(&mut self, index: u64, delta: Option<&Value>, out: &mut Vec<Event>) {
        self.start(out);
        let Some(delta) = delta else { return };
        let word = |pointer: &str| delta.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        if let Some(text) = word("/text") {
            out.push(Event::Text { choice: 0, text });
        } else if let Some(json) = word("/toolUse/input") {
            self.input(index, json, delta, out);
        } else if let Some(text) = word("/reasoningContent/text") {
            out.push(Event::Thinking { choice: 0, text });
        } else if let Some(signature) = word("/reasoningContent/signature") {
            out.push(Event::Signature { choice: 0, signature });
        } else if let Some(data) = word("/reasoningContent/redactedContent") {
            out.push(Event::RedactedThinking { choice: 0, data });
        } else if let Some(source) = delta.get("citation") {
            out.push(citation(source));
        } else if let Some(data) = word("/image/source/bytes") {
            if let Some(Block::Image { format }) = self.blocks.get(&index) {
                out.push(Event::Media { choice: 0, media_type: format!("image/{format}"), data });
            }
        } else if delta.get("toolResult").is_some() {
            out.push(other(delta.clone()));
        }
    }

    fn input(&mut self, index: u64, json: String, delta: &Value, out: &mut Vec<Event>) {
        match self.blocks.get_mut(&index) {
            _ if json.is_empty() => {}
            Some(Block::Call { index, any }) => {
                *any = true;
                out.push(Event::ToolArguments { choice: 0, index: *index, json });
            }
            Some(Block::Json) => out.push(Event::Text { choice: 0, text: json }),
            Some(Block::Server) => out.push(other(delta.clone())),
            Some(Block::Image { .. }) | None => {}
        }
    }

    /// A call without arguments has an empty object of them.
    fn block_stop(&mut self, index: u64, out: &mut Vec<Event>) {
        if let Some(Block::Call { index, any: false }) = self.blocks.remove(&index) {
            out.push(Event::ToolArguments { choice: 0, index, json: "{}".to_owned() });
        }
    }

    fn finish(&mut self, reason: &str, fields: Option<&Value>, out: &mut Vec<Event>) {
        if std::mem::replace(&mut self.finished, true) {
            return;
        }
        let stop = fields.and_then(|fields| fields.get("stop_sequence")).and_then(Value::as_str);
        let reason = match reason {
            "tool_use" if self.json && self.calls == 0 => Finish::Stop,
            "tool_use" => Finish::ToolCalls,
            "max_tokens" | "model_context_window_exceeded" => Finish::Length,
            "stop_sequence" => Finish::StopSequence,
            "guardrail_intervened" | "content_filtered" => Finish::ContentFilter,
            "refusal" => Finish::Refusal,
            "pause_turn" => Finish::Pause,
            _ => Finish::Stop,
        };
        out.push(Event::Finish { choice: 0, reason, stop: stop.map(str::to_owned) });
    }
}

fn other(value: Value) -> Event {
    Event::Other { choice: 0, dialect: Dialect::Converse, value }
}

/// Usage, tier and the guardrail's report: of a `metadata` event, or of a whole answer.
fn metadata(value: &Value, out: &mut Vec<Event>) {
    let tier = value.pointer("/serviceTier/type").and_then(Value::as_str);
    if let Some(mut usage) = value.get("usage").and_then(usage) {
        usage.class = tier.map_or(Class::Standard, Class::of_tier);
        out.push(Event::Usage(usage));
    }
    let mut also = Map::new();
    if let Some(tier) = tier {
        also.insert("service_tier".into(), tier.into());
    }
    // Only a request that asked for it has it.
    if let Some(trace) = value.get("trace").filter(|trace| trace.is_object()) {
        also.insert("trace".into(), trace.clone());
    }
    if !also.is_empty() {
        out.push(Event::Also(also));
    }
}

/// `TokenUsage`: what was read from and written to the cache is apart from `inputTokens`.
fn usage(value: &Value) -> Option<Usage> {
    let count = |name: &str| value.get(name).and_then(Value::as_u64);
    let (input, output) = (count("inputTokens")?, count("outputTokens").unwrap_or(0));
    let cached = count("cacheReadInputTokens").unwrap_or(0);
    let cache_creation = count("cacheWriteInputTokens").unwrap_or(0);
    let details = value.get("cacheDetails").and_then(Value::as_array).into_iter().flatten();
    let hour = details.filter(|detail| detail.get("ttl").and_then(Value::as_str) == Some("1h"));
    let hour = hour.filter_map(|detail| detail.get("inputTokens")?.as_u64()).fold(0, u64::saturating_add);
    let prompt = input.saturating_add(cached).saturating_add(cache_creation);
    Some(Usage {
        prompt,
        completion: output,
        total: count("totalTokens").unwrap_or(0).max(prompt.saturating_add(output)),
        cached,
        cache_creation,
        cache_creation_1h: hour.min(cache_creation),
        ..Usage::default()
    })
}

fn citation(source: &Value) -> Event {
    let word = |pointer: &str| source.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let words = source.get("sourceContent").and_then(Value::as_array).into_iter().flatten();
    let cited: String = words.filter_map(|piece| piece.get("text")?.as_str()).collect();
    let url = word("/location/web/url").or_else(|| word("/source").filter(|source| source.contains("://")));
    let citation = Citation {
        url,
        title: word("/title"),
        cited: Some(cited).filter(|cited| !cited.is_empty()),
        start: None,
        end: None,
        raw: source.clone(),
    };
    Event::Citation { choice: 0, citation }
}

/// An exception of the stream, or what came in place of an answer.
fn error_of(value: &Value, name: &str) -> UpstreamError {
    let word = |name: &str| value.get(name).and_then(Value::as_str).filter(|word| !word.is_empty());
    let kind = if name.is_empty() { word("__type").unwrap_or_default() } else { name };
    // What the model itself said is worth more than that it failed.
    let message = match (word("message").or_else(|| word("Message")), word("originalMessage")) {
        (Some(message), Some(original)) if message != original => format!("{message} {original}"),
        (Some(message), _) | (None, Some(message)) => message.to_owned(),
        (None, None) if kind.is_empty() => return unreadable("answer"),
        (None, None) => format!("The upstream failed with {kind}."),
    };
    let mut document = json!({ "message": message });
    if !kind.is_empty() {
        set(&mut document, "__type", kind);
    }
    let original = value.get("originalStatusCode").and_then(Value::as_u64);
    let original = original.and_then(|status| u16::try_from(status).ok());
    let original = original.filter(|status| (400..600).contains(status));
    UpstreamError::of_provider(original, document.to_string().as_bytes())
}

fn unreadable(what: &str) -> UpstreamError {
    let message = format!("The upstream's {what} cannot be read.");
    UpstreamError::new(&message, None, Some("502"))
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
