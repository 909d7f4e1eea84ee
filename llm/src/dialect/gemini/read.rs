//! Answers: a whole one is one event of a stream.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::Model;
use super::sources::{grounding, logprobs, recitation, searches};
use super::usage::usage;
use crate::dialect::Dialect;
use crate::dialect::answer::{Event, Finish};
use crate::dialect::names::{fit_id, hash};
use crate::dialect::thought;
use crate::dialect::translate::{Frame, Read, Reading};
use crate::response::UpstreamError;
use crate::usage::Usage;

/// Longest id of a call, what it carries not counted: OpenAI's own bound for all of it is 64.
const MAX_ID: usize = 40;

/// Reads what generateContent and streamGenerateContent answer.
#[derive(Debug, Default)]
pub struct Reader {
    reading: Reading,
    choices: BTreeMap<u32, Choice>,
    /// The provider's id of the answer.
    id: String,
    third: bool,
    started: bool,
    finished: bool,
    ended: bool,
    searches: u64,
    usage: Option<Usage>,
    /// Hashes of the citations that were told.
    cited: BTreeSet<u64>,
}

/// One candidate.
#[derive(Debug, Default)]
struct Choice {
    calls: u32,
    /// Thoughts are in progress: a signature belongs to them.
    thinking: bool,
    /// Its answer came as a call of the function that stands for a schema.
    json: bool,
    finished: bool,
    text: String,
}

impl Read for Reader {
    fn document(&mut self, body: &[u8], out: &mut Vec<Event>) {
        match serde_json::from_slice::<Value>(body) {
            // A stream that was not asked for as events is an array of them.
            Ok(Value::Array(chunks)) if !chunks.is_empty() => {
                chunks.iter().for_each(|chunk| self.chunk(chunk, out));
            }
            Ok(answer) => self.chunk(&answer, out),
            Err(_) => self.fail(unreadable("answer"), out),
        }
        // What is whole and says no reason to end has none to tell.
        let open: Vec<u32> =
            self.choices.iter().filter(|(_, choice)| !choice.finished).map(|(index, _)| *index).collect();
        if !self.ended {
            open.into_iter().for_each(|choice| self.finish(choice, "", out));
        }
        self.end(out);
    }

    fn frame(&mut self, frame: Frame<'_>, out: &mut Vec<Event>) {
        match serde_json::from_slice::<Value>(frame.data) {
            Ok(Value::Array(chunks)) => chunks.iter().for_each(|chunk| self.chunk(chunk, out)),
            Ok(chunk) => self.chunk(&chunk, out),
            Err(_) => self.fail(unreadable("event stream"), out),
        }
    }

    fn end(&mut self, out: &mut Vec<Event>) {
        if self.ended {
            return;
        }
        if !self.finished {
            let message = "The upstream's answer ended before it was complete.";
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

    fn chunk(&mut self, chunk: &Value, out: &mut Vec<Event>) {
        if self.ended {
            return;
        }
        if chunk.get("error").is_some() {
            let error = UpstreamError::of_provider(None, chunk.to_string().as_bytes());
            return self.fail(error, out);
        }
        if !chunk.is_object() {
            return self.fail(unreadable("answer"), out);
        }
        self.start(chunk, out);
        for candidate in chunk.get("candidates").and_then(Value::as_array).into_iter().flatten() {
            self.candidate(candidate, out);
        }
        if let Some(reason) = chunk.pointer("/promptFeedback/blockReason").and_then(Value::as_str)
            && !self.finished
        {
            self.blocked(reason, out);
        }
        let usage = chunk.get("usageMetadata").and_then(|value| usage(value, self.searches));
        if usage.is_some() && usage != self.usage {
            self.usage = usage;
            out.extend(usage.map(Event::Usage));
        }
    }

    fn start(&mut self, chunk: &Value, out: &mut Vec<Event>) {
        if std::mem::replace(&mut self.started, true) {
            return;
        }
        let word = |name: &str| chunk.get(name).and_then(Value::as_str);
        self.id = word("responseId").unwrap_or_default().to_owned();
        self.third = word("modelVersion").is_some_and(|name| Model::of(name).is_third());
        let id = Some(self.id.clone()).filter(|id| !id.is_empty());
        out.push(Event::Start { id, created: None });
    }

    /// The prompt was refused: there is no candidate.
    fn blocked(&mut self, reason: &str, out: &mut Vec<Event>) {
        self.choices.entry(0).or_default().finished = true;
        self.finished = true;
        out.push(Event::Finish { choice: 0, reason: Finish::ContentFilter, stop: None });
        let mut also = Map::new();
        also.insert("block_reason".into(), reason.into());
        out.push(Event::Also(also));
    }

    fn candidate(&mut self, candidate: &Value, out: &mut Vec<Event>) {
        let index = candidate.get("index").and_then(Value::as_u64).unwrap_or(0);
        let choice = u32::try_from(index).unwrap_or(0);
        self.choices.entry(choice).or_default();
        let parts = candidate.pointer("/content/parts").and_then(Value::as_array);
        for part in parts.into_iter().flatten() {
            self.part(choice, part, out);
        }
        if let Some(content) = candidate.get("logprobsResult").map(logprobs).filter(|list| !list.is_empty()) {
            out.push(Event::Logprobs { choice, content });
        }
        let text = self.choices.get(&choice).map_or("", |choice| choice.text.as_str());
        let mut citations = Vec::new();
        if let Some(metadata) = candidate.get("citationMetadata") {
            recitation(choice, metadata, text, &mut citations);
        }
        if let Some(metadata) = candidate.get("groundingMetadata").filter(|value| has_members(value)) {
            self.searches = self.searches.max(searches(metadata, self.third));
            grounding(choice, metadata, text, &mut citations);
            let mut also = Map::new();
            // LiteLLM's name for it. What it holds must be shown beside the answer.
            also.insert("vertex_ai_grounding_metadata".into(), Value::Array(vec![metadata.clone()]));
            out.push(Event::Also(also));
        }
        // Later events repeat what earlier ones said.
        citations.retain(|citation| self.cited.insert(hash(&format!("{citation:?}"))));
        out.append(&mut citations);
        if let Some(reason) = candidate.get("finishReason").and_then(Value::as_str) {
            self.finish(choice, reason, out);
        }
    }

    fn part(&mut self, index: u32, part: &Value, out: &mut Vec<Event>) {
        let thought = part.get("thought").and_then(Value::as_bool) == Some(true);
        let signature = part.get("thoughtSignature").and_then(Value::as_str);
        let text = part.get("text").and_then(Value::as_str);
        let Some(choice) = self.choices.get_mut(&index) else { return };
        if let (true, Some(text)) = (thought, text) {
            choice.thinking = true;
            out.push(Event::Thinking { choice: index, text: text.to_owned() });
        }
        // The first signature after thoughts is the proof of them, wherever it stands.
        if let Some(signature) = signature.filter(|_| choice.thinking) {
            choice.thinking = false;
            out.push(Event::Signature { choice: index, signature: thought::mark(signature) });
        }
        if let Some(text) = text {
            if !thought && !text.is_empty() {
                choice.text.push_str(text);
                out.push(Event::Text { choice: index, text: text.to_owned() });
            }
        } else if let Some(call) = part.get("functionCall") {
            self.call(index, call, signature, out);
        } else if let Some((media_type, data)) = blob(part).filter(|_| !thought) {
            out.push(Event::Media { choice: index, media_type, data });
        } else if has_members(part) && !only_signature(part) {
            out.push(Event::Other { choice: index, dialect: Dialect::Gemini, value: part.clone() });
        }
    }

    fn call(&mut self, index: u32, call: &Value, signature: Option<&str>, out: &mut Vec<Event>) {
        let name = call.get("name").and_then(Value::as_str).unwrap_or_default();
        let args = call.get("args").filter(|args| args.is_object());
        let json = args.map_or_else(|| "{}".to_owned(), Value::to_string);
        let Some(choice) = self.choices.get_mut(&index) else { return };
        choice.thinking = false;
        if self.reading.json_tool.as_deref() == Some(name) {
            choice.json = true;
            choice.text.push_str(&json);
            return out.push(Event::Text { choice: index, text: json });
        }
        let number = choice.calls;
        choice.calls = choice.calls.saturating_add(1);
        let id = match call.get("id").and_then(Value::as_str).filter(|id| !id.is_empty()) {
            Some(id) => fit_id(id, MAX_ID, |c| c.is_ascii_alphanumeric() || c == '_' || c == '-'),
            None => format!("call_{:016x}", hash(&format!("{}/{index}/{number}/{name}/{json}", self.id))),
        };
        out.push(Event::ToolCall {
            choice: index,
            index: number,
            id: thought::join(&id, signature),
            name: self.reading.tool_name(name).to_owned(),
            signature: signature.map(str::to_owned),
        });
        out.push(Event::ToolArguments { choice: index, index: number, json });
    }

    fn finish(&mut self, index: u32, reason: &str, out: &mut Vec<Event>) {
        let Some(choice) = self.choices.get_mut(&index) else { return };
        if std::mem::replace(&mut choice.finished, true) {
            return;
        }
        self.finished = true;
        let reason = match reason {
            "MAX_TOKENS" => Finish::Length,
            "SAFETY"
            | "RECITATION"
            | "LANGUAGE"
            | "OTHER"
            | "BLOCKLIST"
            | "PROHIBITED_CONTENT"
            | "SPII"
            | "IMAGE_SAFETY"
            | "IMAGE_PROHIBITED_CONTENT"
            | "IMAGE_RECITATION"
            | "IMAGE_OTHER"
            | "MODEL_ARMOR" => Finish::ContentFilter,
            _ if choice.calls > 0 => Finish::ToolCalls,
            _ => Finish::Stop,
        };
        out.push(Event::Finish { choice: index, reason, stop: None });
    }
}

fn blob(part: &Value) -> Option<(String, String)> {
    let word = |name: &str| part.pointer(name).and_then(Value::as_str).map(str::to_owned);
    Some((word("/inlineData/mimeType")?, word("/inlineData/data")?))
}

fn has_members(value: &Value) -> bool {
    value.as_object().is_some_and(|members| !members.is_empty())
}

fn only_signature(part: &Value) -> bool {
    let mark = |name: &String| matches!(name.as_str(), "thought" | "thoughtSignature");
    part.as_object().is_some_and(|members| members.keys().all(mark))
}

fn unreadable(what: &str) -> UpstreamError {
    let message = format!("The upstream's {what} cannot be read.");
    UpstreamError::new(&message, None, Some("502"))
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
