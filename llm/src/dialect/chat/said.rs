//! What a message, or a piece of one, says.

use serde_json::{Map, Value};

use crate::dialect::Dialect;
use crate::dialect::answer::{Citation, Event};
use crate::dialect::fields::text;
use crate::dialect::request::Source;

/// The calls of a message or delta; the first form of them is one call.
pub(super) fn take_calls(message: &mut Map<String, Value>) -> Vec<Value> {
    if let Some(Value::Array(calls)) = message.remove("tool_calls") {
        return calls;
    }
    match message.remove("function_call") {
        Some(function @ Value::Object(_)) => {
            let members = [("index".to_owned(), 0.into()), ("function".to_owned(), function)];
            vec![Value::Object(members.into_iter().collect())]
        }
        _ => Vec::new(),
    }
}

/// Everything but calls: reasoning, then words, then what belongs to them. True when the model refused.
///
/// `told`: the choice's reasoning comes as `reasoning_content`, so that the same in `thinking_blocks` is not new.
pub(super) fn read(
    mut message: Map<String, Value>,
    choice: u32,
    told: &mut bool,
    out: &mut Vec<Event>,
) -> bool {
    let reasoning = ["reasoning_content", "reasoning"]
        .into_iter()
        .find_map(|name| message.remove(name).and_then(text).filter(|text| !text.is_empty()));
    let blocks = array(message.remove("thinking_blocks"));
    let has_text = |block: &Value| {
        block.get("thinking").and_then(Value::as_str).is_some_and(|thinking| !thinking.is_empty())
    };
    if *told || !blocks.iter().any(has_text) {
        *told |= reasoning.is_some();
        out.extend(reasoning.map(|text| Event::Thinking { choice, text }));
    }
    for block in blocks {
        thinking_block(&block, *told, choice, out);
    }
    let content = message.remove("content");
    let silent = match &content {
        Some(Value::String(text)) => text.is_empty(),
        other => other.as_ref().is_none_or(Value::is_null),
    };
    read_content(content, choice, out);
    if let Some(audio @ Value::Object(_)) = message.remove("audio") {
        read_audio(audio, silent, choice, out);
    }
    for image in array(message.remove("images")) {
        read_image(&image, choice, out);
    }
    let citations = array(message.remove("annotations")).into_iter();
    out.extend(citations.map(|raw| Event::Citation { choice, citation: citation(raw) }));
    let refusal = message.remove("refusal").and_then(text).filter(|text| !text.is_empty());
    let refused = refusal.is_some();
    out.extend(refusal.map(|text| Event::Refusal { choice, text }));
    refused
}

fn array(value: Option<Value>) -> Vec<Value> {
    match value {
        Some(Value::Array(items)) => items,
        _ => Vec::new(),
    }
}

/// A block of LiteLLM's `thinking_blocks`.
fn thinking_block(block: &Value, told: bool, choice: u32, out: &mut Vec<Event>) {
    let word = |name: &str| block.get(name).and_then(Value::as_str).filter(|word| !word.is_empty());
    if let Some(data) = word("data") {
        out.push(Event::RedactedThinking { choice, data: data.to_owned() });
        return;
    }
    if let Some(text) = word("thinking").filter(|_| !told) {
        out.push(Event::Thinking { choice, text: text.to_owned() });
    }
    if let Some(signature) = word("signature") {
        out.push(Event::Signature { choice, signature: signature.to_owned() });
    }
}

/// Text, or parts (Mistral's reasoning models).
fn read_content(content: Option<Value>, choice: u32, out: &mut Vec<Event>) {
    match content {
        Some(Value::String(text)) if !text.is_empty() => out.push(Event::Text { choice, text }),
        Some(Value::Array(parts)) => {
            for part in parts {
                read_part(part, choice, out);
            }
        }
        _ => {}
    }
}

fn read_part(part: Value, choice: u32, out: &mut Vec<Event>) {
    let Value::Object(mut part) = part else {
        return read_content(Some(part), choice, out);
    };
    if part.contains_key("image_url") {
        return read_image(&Value::Object(part), choice, out);
    }
    match part.remove("thinking") {
        Some(Value::String(text)) => out.push(Event::Thinking { choice, text }),
        Some(Value::Array(pieces)) => {
            let texts = pieces.into_iter().filter_map(|mut piece| text(piece.get_mut("text")?.take()));
            out.extend(texts.map(|text| Event::Thinking { choice, text }));
        }
        _ => {}
    }
    match part.remove("text") {
        Some(Value::String(text)) if !text.is_empty() => out.push(Event::Text { choice, text }),
        _ => {}
    }
    if let Some(text) = part.remove("refusal").and_then(text) {
        out.push(Event::Refusal { choice, text });
    }
}

/// Sound: its bytes and id only chat knows, its words are everybody's.
fn read_audio(audio: Value, silent: bool, choice: u32, out: &mut Vec<Event>) {
    let transcript = audio.get("transcript").and_then(Value::as_str).filter(|words| !words.is_empty());
    if let Some(words) = transcript.filter(|_| silent) {
        out.push(Event::Text { choice, text: words.to_owned() });
    }
    let value = Value::Object([("audio".to_owned(), audio)].into_iter().collect());
    out.push(Event::Other { choice, dialect: Dialect::Chat, value });
}

/// An image in a data URI; one behind a URL cannot be shown in other dialects, so its address is told.
fn read_image(image: &Value, choice: u32, out: &mut Vec<Event>) {
    let url = image.get("image_url");
    let Some(url) = url.and_then(|url| url.get("url").unwrap_or(url).as_str()) else { return };
    match super::parts::read_source(url.to_owned(), None) {
        Ok(Source::Base64 { media_type, data }) => out.push(Event::Media { choice, media_type, data }),
        _ if url.starts_with("http") => out.push(Event::Text { choice, text: format!("![image]({url})") }),
        _ => {}
    }
}

/// An annotation: `{"type": "url_citation", "url_citation": {...}}`, or without the level in between.
pub(super) fn citation(raw: Value) -> Citation {
    let inner = raw.get("url_citation").unwrap_or(&raw);
    let word = |name: &str| inner.get(name).and_then(Value::as_str).map(str::to_owned);
    let place = |name: &str| inner.get(name).and_then(Value::as_u64);
    Citation {
        url: word("url"),
        title: word("title"),
        cited: word("content").or_else(|| word("cited_text")),
        start: place("start_index"),
        end: place("end_index"),
        raw,
    }
}

/// A source of the whole answer: its URL, or an object with one.
pub(super) fn source(raw: Value, choice: u32) -> Event {
    let citation = match raw {
        Value::String(url) => Citation { url: Some(url.clone()), raw: url.into(), ..Citation::default() },
        raw => citation(raw),
    };
    Event::Citation { choice, citation }
}

pub(super) fn read_logprobs(logprobs: Option<&Value>, choice: u32, out: &mut Vec<Event>) {
    let entries = ["content", "refusal"].into_iter().filter_map(|name| logprobs?.get(name)?.as_array());
    let content: Vec<Value> = entries.flatten().cloned().collect();
    if !content.is_empty() {
        out.push(Event::Logprobs { choice, content });
    }
}
