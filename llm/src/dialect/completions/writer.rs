use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::ECHO;
use crate::dialect::answer::{Event, Finish};
use crate::dialect::chat::{answer_id, append, finish_reason, write_error, write_usage};
use crate::dialect::translate::{Caller, Write};
use crate::usage::Usage;

/// Writes text completions, whole and in pieces. Reasoning and calls have no place in them.
#[derive(Debug)]
pub struct Writer {
    caller: Caller,
    id: String,
    created: u64,
    also: Map<String, Value>,
    choices: BTreeMap<u32, Choice>,
    usage: Option<Usage>,
}

#[derive(Debug, Default)]
struct Choice {
    /// The prompt is out, where it was asked for.
    echoed: bool,
    refused: bool,
    /// Characters of the text whose tokens were told.
    offset: u64,
    /// What a whole answer says.
    text: String,
    logprobs: Logprobs,
    finish: Option<&'static str>,
}

/// Logprobs in the first form: lists side by side.
#[derive(Debug, Default)]
struct Logprobs {
    tokens: Vec<Value>,
    token_logprobs: Vec<Value>,
    top_logprobs: Vec<Value>,
    text_offset: Vec<Value>,
}

impl Logprobs {
    /// Adds entries of chat's form. `offset`: where the first token begins in the text, characters.
    fn extend(&mut self, entries: Vec<Value>, offset: &mut u64) {
        for entry in entries {
            let token = entry.get("token").and_then(Value::as_str).unwrap_or_default();
            let mut top = Map::new();
            for other in entry.get("top_logprobs").and_then(Value::as_array).into_iter().flatten() {
                let name = other.get("token").and_then(Value::as_str).unwrap_or_default();
                top.insert(name.to_owned(), other.get("logprob").cloned().unwrap_or_default());
            }
            self.tokens.push(token.into());
            self.token_logprobs.push(entry.get("logprob").cloned().unwrap_or_default());
            self.top_logprobs.push(top.into());
            self.text_offset.push((*offset).into());
            *offset = offset.saturating_add(u64::try_from(token.chars().count()).unwrap_or(0));
        }
    }

    fn into_value(self) -> Value {
        if self.tokens.is_empty() {
            return Value::Null;
        }
        json!({
            "tokens": self.tokens,
            "token_logprobs": self.token_logprobs,
            "top_logprobs": self.top_logprobs,
            "text_offset": self.text_offset,
        })
    }
}

impl Writer {
    #[must_use]
    pub fn new(caller: Caller) -> Self {
        let (id, created) = (answer_id("cmpl-", None, &caller), caller.now_s);
        Self { caller, id, created, also: Map::new(), choices: BTreeMap::new(), usage: None }
    }

    /// Takes an event: what there is to say at once, if anything.
    fn take(&mut self, event: Event) -> Option<(u32, Piece)> {
        match event {
            Event::Start { id, created } => {
                self.id = answer_id("cmpl-", id.as_deref(), &self.caller);
                self.created = created.unwrap_or(self.caller.now_s);
                None
            }
            Event::Also(members) => {
                self.also.extend(members);
                None
            }
            Event::Usage(usage) => {
                self.usage = Some(usage);
                None
            }
            Event::Text { choice, text } => {
                Some((choice, Piece { text: self.with_echo(choice, text), ..Piece::default() }))
            }
            Event::Refusal { choice, text } => {
                let text = self.with_echo(choice, text);
                self.choices.entry(choice).or_default().refused = true;
                Some((choice, Piece { text, ..Piece::default() }))
            }
            Event::Logprobs { choice, content } => {
                let state = self.choices.entry(choice).or_default();
                let mut logprobs = Logprobs::default();
                logprobs.extend(content, &mut state.offset);
                Some((choice, Piece { logprobs, ..Piece::default() }))
            }
            Event::Finish { choice, reason, .. } => {
                let text = self.with_echo(choice, String::new());
                let refused = self.choices.entry(choice).or_default().refused;
                // There are no calls to make here.
                let reason = if reason == Finish::ToolCalls { Finish::Stop } else { reason };
                let finish = Some(finish_reason(reason, refused, false));
                Some((choice, Piece { text, finish, ..Piece::default() }))
            }
            _ => None,
        }
    }

    /// The text, after the prompt if that is wanted and not out yet.
    fn with_echo(&mut self, choice: u32, text: String) -> String {
        let state = self.choices.entry(choice).or_default();
        let prompt = self.caller.echo.get(ECHO).and_then(Value::as_str);
        match prompt.filter(|_| !std::mem::replace(&mut state.echoed, true)) {
            Some(prompt) => {
                state.offset = u64::try_from(prompt.chars().count()).unwrap_or(0);
                format!("{prompt}{text}")
            }
            None => text,
        }
    }

    fn answer(&self, choices: Value) -> Map<String, Value> {
        let mut members = Map::new();
        members.insert("id".to_owned(), self.id.clone().into());
        members.insert("object".to_owned(), "text_completion".into());
        members.insert("created".to_owned(), self.created.into());
        members.insert("model".to_owned(), self.caller.model.clone().into());
        members.insert("choices".to_owned(), choices);
        members.extend(self.also.clone());
        members
    }

    fn chunk(&self, choices: Value, usage: Value, out: &mut Vec<u8>) {
        let mut members = self.answer(choices);
        if self.caller.want_usage {
            members.insert("usage".to_owned(), usage);
        }
        out.extend_from_slice(b"data: ");
        append(out, &members);
        out.extend_from_slice(b"\n\n");
    }
}

/// What an event adds to a choice.
#[derive(Debug, Default)]
struct Piece {
    text: String,
    logprobs: Logprobs,
    finish: Option<&'static str>,
}

impl Write for Writer {
    fn document(&mut self, events: Vec<Event>) -> Vec<u8> {
        for event in events {
            let Some((choice, piece)) = self.take(event) else { continue };
            let state = self.choices.entry(choice).or_default();
            state.text.push_str(&piece.text);
            state.finish = piece.finish.or(state.finish);
            let Logprobs { tokens, token_logprobs, top_logprobs, text_offset } = piece.logprobs;
            state.logprobs.tokens.extend(tokens);
            state.logprobs.token_logprobs.extend(token_logprobs);
            state.logprobs.top_logprobs.extend(top_logprobs);
            state.logprobs.text_offset.extend(text_offset);
        }
        let choice = |(index, state): (u32, Choice)| {
            json!({"text": state.text, "index": index, "logprobs": state.logprobs.into_value(),
                "finish_reason": state.finish.unwrap_or("stop")})
        };
        let choices = std::mem::take(&mut self.choices).into_iter().map(choice).collect();
        let mut members = self.answer(choices);
        if let Some(usage) = &self.usage {
            members.insert("usage".to_owned(), write_usage(usage));
        }
        let mut out = Vec::new();
        append(&mut out, &members);
        out
    }

    fn event(&mut self, event: Event, out: &mut Vec<u8>) {
        match event {
            Event::Error(error) => write_error(&error.body, out),
            Event::End => {
                if let Some(usage) = self.usage.filter(|_| self.caller.want_usage) {
                    self.chunk(json!([]), write_usage(&usage), out);
                }
                out.extend_from_slice(b"data: [DONE]\n\n");
            }
            event => {
                if let Some((index, Piece { text, logprobs, finish })) = self.take(event) {
                    let choice = json!([{"text": text, "index": index, "logprobs": logprobs.into_value(),
                        "finish_reason": finish}]);
                    self.chunk(choice, Value::Null, out);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::Dialect;
    use crate::response::UpstreamError;

    fn caller(want_usage: bool, echo: Value) -> Caller {
        Caller {
            dialect: Dialect::Completions,
            model: "mine".to_owned(),
            stream: true,
            want_usage,
            call_id: "call-1".to_owned(),
            now_s: 7,
            echo: echo.as_object().cloned().unwrap(),
        }
    }

    fn answer() -> Vec<Event> {
        let text = |text: &str| Event::Text { choice: 0, text: text.to_owned() };
        let entry = |token: &str| json!({"token": token, "logprob": -0.5, "top_logprobs": [{"token": "x", "logprob": -1.0}]});
        vec![
            Event::Start { id: Some("msg_1".to_owned()), created: None },
            Event::Thinking { choice: 0, text: "Hm".to_owned() },
            text("ünd"),
            Event::Logprobs { choice: 0, content: vec![entry("ü"), entry("nd")] },
            text(" so"),
            Event::Logprobs { choice: 0, content: vec![entry(" so")] },
            Event::Finish { choice: 0, reason: Finish::Length, stop: None },
            Event::Usage(Usage { prompt: 2, completion: 3, total: 5, ..Usage::default() }),
            Event::End,
        ]
    }

    fn chunks(events: Vec<Event>, caller: Caller) -> Vec<Value> {
        let mut writer = Writer::new(caller);
        let mut out = Vec::new();
        for event in events {
            writer.event(event, &mut out);
        }
        let text = String::from_utf8(out).unwrap();
        let mut frames: Vec<&str> = text.split_terminator("\n\n").map(|frame| &frame[6..]).collect();
        assert_eq!(frames.pop(), Some("[DONE]"));
        frames.into_iter().map(|frame| serde_json::from_str(frame).unwrap()).collect()
    }

    #[test]
    fn a_stream_says_what_the_whole_answer_says() {
        for echo in [json!({}), json!({ECHO: "Say: "})] {
            let whole: Value =
                serde_json::from_slice(&Writer::new(caller(true, echo.clone())).document(answer())).unwrap();
            let chunks = chunks(answer(), caller(true, echo.clone()));
            let said: String =
                chunks.iter().filter_map(|chunk| chunk.pointer("/choices/0/text")?.as_str()).collect();
            let offsets: Vec<&Value> = chunks
                .iter()
                .filter_map(|chunk| chunk.pointer("/choices/0/logprobs/text_offset")?.as_array())
                .flatten()
                .collect();
            let choice = &whole["choices"][0];
            assert_eq!(choice["text"], said);
            assert_eq!(json!(offsets), choice["logprobs"]["text_offset"]);
            assert_eq!(choice["finish_reason"], "length");
            assert_eq!(chunks.last().unwrap()["usage"], whole["usage"]);
            assert_eq!((&whole["id"], &whole["object"]), (&json!("cmpl-msg_1"), &json!("text_completion")));
            let start = if echo == json!({}) { 0 } else { 5 };
            assert_eq!(choice["logprobs"]["text_offset"], json!([start, start + 1, start + 3]));
            assert_eq!(choice["logprobs"]["top_logprobs"][0], json!({"x": -1.0}));
            assert_eq!(said.ends_with("ünd so") && said.starts_with("Say: "), start == 5);
        }
    }

    #[test]
    fn errors_and_usage_that_nobody_asked_for() {
        let error = UpstreamError::new("gone", None, Some("503"));
        let frames = chunks(vec![Event::Error(error), Event::End], caller(true, json!({})));
        assert_eq!(frames[0]["error"]["message"], "gone");
        let frames = chunks(answer(), caller(false, json!({})));
        assert!(frames.iter().all(|frame| frame.get("usage").is_none()));
    }
}
