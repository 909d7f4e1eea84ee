//! Answers of OpenAI and of those who speak like it, with their liberties.

use serde_json::{Map, Value};

use super::calls::Calls;
use super::said;
use crate::dialect::answer::{Event, Finish};
use crate::dialect::empty;
use crate::dialect::translate::{Frame, Read, Reading};
use crate::response::UpstreamError;
use crate::usage::Usage;

/// Reads chat completions and their chunks.
#[derive(Debug, Default)]
pub struct Reader {
    reading: Reading,
    started: bool,
    /// Id of the answer: calls without an id are named after it.
    id: String,
    /// Members for the top level that were told already.
    told: Map<String, Value>,
    choices: Vec<Choice>,
    /// `citations` or `search_results` (Perplexity), which every chunk repeats.
    sources: Vec<Value>,
    ended: bool,
}

#[derive(Debug, Default)]
struct Choice {
    index: u32,
    calls: Calls,
    refused: bool,
    /// Its reasoning comes as `reasoning_content`.
    told: bool,
    finished: bool,
}

impl Reader {
    #[must_use]
    pub fn new(reading: Reading) -> Self {
        Self { reading, ..Self::default() }
    }

    /// What documents and chunks have in common: `of` is the member of a choice that holds the message.
    fn read(&mut self, mut document: Map<String, Value>, of: &str, out: &mut Vec<Event>) {
        self.start(&mut document, out);
        for name in ["search_results", "citations"] {
            if let Some(Value::Array(sources)) = document.get_mut(name) {
                self.sources = std::mem::take(sources);
                break;
            }
        }
        if let Some(Value::Array(choices)) = document.remove("choices") {
            for choice in choices {
                if let Value::Object(choice) = choice {
                    self.choice(choice, of, out);
                }
            }
        }
        let groq = document.get("x_groq").and_then(|own| own.get("usage"));
        let usage = document.get("usage").filter(|usage| usage.is_object()).or(groq);
        out.extend(usage.and_then(Usage::from_value).map(Event::Usage));
    }

    fn start(&mut self, document: &mut Map<String, Value>, out: &mut Vec<Event>) {
        if !self.started {
            self.started = true;
            let id = document.get("id").and_then(Value::as_str).filter(|id| !id.is_empty());
            self.id = id.unwrap_or_default().to_owned();
            let created = document.get("created").and_then(Value::as_u64).filter(|created| *created > 0);
            out.push(Event::Start { id: id.map(str::to_owned), created });
        }
        let mut also = Map::new();
        for name in ["system_fingerprint", "service_tier"] {
            let Some(value) = document.get(name).filter(|value| value.is_string()) else { continue };
            if self.told.get(name) != Some(value) {
                self.told.insert(name.to_owned(), value.clone());
                also.insert(name.to_owned(), value.clone());
            }
        }
        if !also.is_empty() {
            out.push(Event::Also(also));
        }
    }

    fn choice(&mut self, mut choice: Map<String, Value>, of: &str, out: &mut Vec<Event>) {
        let index = choice.get("index").and_then(Value::as_u64).and_then(|index| u32::try_from(index).ok());
        let index = index.unwrap_or(0);
        let at = match self.choices.iter().position(|known| known.index == index) {
            Some(at) => at,
            None => {
                self.choices.push(Choice { index, ..Choice::default() });
                self.choices.len().saturating_sub(1)
            }
        };
        let Self { reading, id, choices, sources, .. } = self;
        let Some(known) = choices.get_mut(at) else { return };
        // A few servers send the whole message in one event; Perplexity has all so far beside each piece.
        if let Some(Value::Object(mut message)) = choice.remove(of).or_else(|| choice.remove("message")) {
            let calls = said::take_calls(&mut message);
            known.refused |= said::read(message, index, &mut known.told, out);
            said::read_logprobs(choice.get("logprobs"), index, out);
            for call in calls {
                known.calls.piece(call, index, id, reading, out);
            }
        }
        let reason = choice.get("finish_reason").and_then(Value::as_str).filter(|reason| !reason.is_empty());
        let Some(reason) = reason.filter(|_| !known.finished) else { return };
        known.finished = true;
        known.calls.close(index, id, reading, out);
        if index == 0 {
            out.extend(sources.drain(..).map(|source| said::source(source, index)));
        }
        match finish(reason, known) {
            Some(reason) => {
                let stop = choice.get("stop_reason").and_then(Value::as_str).map(str::to_owned);
                let met = stop.is_some() && reason == Finish::Stop;
                let reason = if met { Finish::StopSequence } else { reason };
                let stop = stop.filter(|_| met);
                out.push(Event::Finish { choice: index, reason, stop });
            }
            None => out.push(Event::Error(failure(reason, &choice))),
        }
    }

    /// All that was begun is finished.
    fn complete(&self) -> bool {
        !self.choices.is_empty() && self.choices.iter().all(|choice| choice.finished)
    }

    /// Ends the choices that have no `finish_reason`, though the answer is over.
    fn finish_rest(&mut self, out: &mut Vec<Event>) {
        for choice in self.choices.iter_mut().filter(|choice| !choice.finished) {
            choice.finished = true;
            choice.calls.close(choice.index, &self.id, &self.reading, out);
            let reason = finish("stop", choice).unwrap_or(Finish::Stop);
            out.push(Event::Finish { choice: choice.index, reason, stop: None });
        }
    }

    fn fail(&mut self, error: UpstreamError, out: &mut Vec<Event>) {
        out.push(Event::Error(error));
        out.push(Event::End);
        self.ended = true;
    }
}

impl Read for Reader {
    fn document(&mut self, body: &[u8], out: &mut Vec<Event>) {
        if let Some(error) = UpstreamError::of_document(body) {
            return self.fail(error, out);
        }
        match serde_json::from_slice(body) {
            Ok(Value::Object(document)) => self.read(document, "message", out),
            _ => return self.fail(unreadable("The upstream's answer is not a JSON object."), out),
        }
        if out.iter().any(|event| matches!(event, Event::Error(_))) {
            out.push(Event::End);
            return;
        }
        if self.choices.is_empty() {
            return self.fail(unreadable("The upstream's answer holds no choice."), out);
        }
        self.finish_rest(out);
        out.push(Event::End);
        self.ended = true;
    }

    fn frame(&mut self, frame: Frame<'_>, out: &mut Vec<Event>) {
        if self.ended {
            return;
        }
        if frame.data.trim_ascii() == b"[DONE]" {
            if self.choices.is_empty() {
                return self.fail(empty(), out);
            }
            self.finish_rest(out);
            out.push(Event::End);
            self.ended = true;
            return;
        }
        // Most chunks are no errors, and need not be looked at twice.
        if memchr::memmem::find(frame.data, b"\"error\"").is_some()
            && let Some(error) = UpstreamError::of_document(frame.data)
        {
            return self.fail(error, out);
        }
        if frame.name == b"error" {
            return self.fail(UpstreamError::of_text(frame.data), out);
        }
        match serde_json::from_slice(frame.data) {
            Ok(Value::Object(chunk)) => {
                self.read(chunk, "delta", out);
            }
            _ => return self.fail(unreadable("The upstream sent an event that is not a JSON object."), out),
        }
        if matches!(out.last(), Some(Event::Error(_))) {
            out.push(Event::End);
            self.ended = true;
        }
    }

    fn end(&mut self, out: &mut Vec<Event>) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        if self.choices.is_empty() {
            out.push(Event::Error(empty()));
        } else if !self.complete() {
            out.push(Event::Error(unreadable("The upstream's stream ended before its answer was complete.")));
        }
        out.push(Event::End);
    }
}

fn unreadable(message: &str) -> UpstreamError {
    UpstreamError::new(message, Some("internal_server_error"), Some("502"))
}

/// The error of a choice that could not be finished: OpenRouter tells more beside it.
fn failure(reason: &str, choice: &Map<String, Value>) -> UpstreamError {
    match choice.get("error").map(|error| serde_json::json!({"error": error}).to_string()) {
        Some(error) => UpstreamError::of_document(error.as_bytes()),
        None => None,
    }
    .unwrap_or_else(|| {
        let busy = reason == "insufficient_system_resource";
        let code = if busy { "503" } else { "502" };
        let message = format!("The upstream did not finish its answer: {}.", super::parts::shown(reason));
        UpstreamError::new(&message, Some("internal_server_error"), Some(code))
    })
}

/// Why it stopped, in the words of OpenAI and of those who use their own; `None` when it failed.
fn finish(reason: &str, choice: &Choice) -> Option<Finish> {
    let said = match reason.to_ascii_lowercase().as_str() {
        "length" | "max_tokens" | "model_length" | "max_output_tokens" | "model_context_window_exceeded" => {
            return Some(Finish::Length);
        }
        "content_filter" | "safety" | "recitation" | "blocklist" | "prohibited_content" | "spii" => {
            return Some(Finish::ContentFilter);
        }
        // Mistral, OpenRouter; vLLM; DeepSeek.
        "error" | "abort" | "insufficient_system_resource" => return None,
        "refusal" => Finish::Refusal,
        "stop_sequence" => Finish::StopSequence,
        "pause_turn" => Finish::Pause,
        "tool_calls" | "function_call" | "tool_call" | "tool_use" => Finish::ToolCalls,
        _ => Finish::Stop,
    };
    Some(match said {
        // Some say `stop` beside their calls.
        Finish::Stop if choice.calls.any() => Finish::ToolCalls,
        Finish::ToolCalls if !choice.calls.any() => Finish::Stop,
        Finish::Stop if choice.refused => Finish::Refusal,
        said => said,
    })
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;
