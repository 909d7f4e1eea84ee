//! Calls of tools, put together from what providers send of them.

use serde_json::Value;

use super::messages::signature;
use super::tools::custom_arguments;
use crate::dialect::answer::Event;
use crate::dialect::fields::Object;
use crate::dialect::translate::Reading;

/// The calls of one choice.
///
/// OpenAI gives every piece an `index`, and the first one `id` and `name`. Others leave the index out, give every call
/// the same, repeat id and name with each piece, or send whole calls. A piece opens a new call when it has a name and
/// an id of its own, or a name and an index of its own; else it goes on with the call of its id, of its index, or the
/// last.
#[derive(Debug, Default)]
pub(super) struct Calls(Vec<Call>);

#[derive(Debug)]
struct Call {
    /// As the provider sent them.
    id: String,
    index: Option<u64>,
    name: String,
    custom: bool,
    signature: Option<String>,
    /// The call itself was told.
    told: bool,
    /// Arguments that wait: for the name, or for the end (custom tools).
    waiting: String,
    any: bool,
    closed: bool,
}

/// A piece of a call.
struct Piece {
    index: Option<u64>,
    id: String,
    name: String,
    arguments: String,
    custom: bool,
    signature: Option<String>,
}

impl Calls {
    pub(super) fn any(&self) -> bool {
        !self.0.is_empty()
    }

    /// The next piece. `answer`: id of the answer, for calls without an id of their own.
    pub(super) fn piece(
        &mut self,
        piece: Value,
        choice: u32,
        answer: &str,
        reading: &Reading,
        out: &mut Vec<Event>,
    ) {
        let Some(piece) = Piece::read(piece) else { return };
        let at = match self.find(&piece) {
            Some(at) => at,
            None => {
                self.close(choice, answer, reading, out);
                self.0.push(Call {
                    id: piece.id.clone(),
                    index: piece.index,
                    name: String::new(),
                    custom: piece.custom,
                    signature: None,
                    told: false,
                    waiting: String::new(),
                    any: false,
                    closed: false,
                });
                self.0.len().saturating_sub(1)
            }
        };
        let Some(call) = self.0.get_mut(at) else { return };
        call.signature = piece.signature.or(call.signature.take());
        if call.name.is_empty() {
            call.name = piece.name;
        }
        if call.id.is_empty() {
            call.id = piece.id;
        }
        call.waiting.push_str(&piece.arguments);
        if !call.name.is_empty() && !call.custom {
            call.tell(at, choice, answer, reading, out);
            call.flush(at, choice, out);
        }
    }

    /// The call that a piece goes on with; `None` for a new one.
    fn find(&self, piece: &Piece) -> Option<usize> {
        let by_id = self.0.iter().rposition(|call| !piece.id.is_empty() && call.id == piece.id);
        let by_index = self.0.iter().rposition(|call| piece.index.is_some() && call.index == piece.index);
        let last = self.0.len().checked_sub(1);
        let at = |at: usize| self.0.get(at);
        match (by_id, piece.name.is_empty()) {
            (Some(known), _) => Some(known),
            (None, true) => by_index.or(last.filter(|_| piece.index.is_none())),
            // A name and an id of its own: a new call, whatever its index, unless the open one still lacks them.
            (None, false) if !piece.id.is_empty() => by_index
                .filter(|known| at(*known).is_some_and(|call| call.id.is_empty() && call.name.is_empty())),
            // Without an id a name may be said again; arguments that begin again may not (Gemini sends whole calls
            // under one index).
            (None, false) => by_index.filter(|known| {
                let again = piece.arguments.trim_start().starts_with('{');
                !(again && at(*known).is_some_and(|call| call.any))
            }),
        }
    }

    /// Ends the last call: what waited is told, and no arguments at all are an empty object.
    pub(super) fn close(&mut self, choice: u32, answer: &str, reading: &Reading, out: &mut Vec<Event>) {
        let at = self.0.len().saturating_sub(1);
        let Some(call) = self.0.last_mut().filter(|call| !call.closed) else { return };
        call.closed = true;
        call.tell(at, choice, answer, reading, out);
        if call.custom {
            let input = std::mem::take(&mut call.waiting);
            call.waiting = custom_arguments(input);
        }
        call.flush(at, choice, out);
        if !call.any {
            call.waiting.push_str("{}");
            call.flush(at, choice, out);
        }
    }
}

impl Call {
    fn tell(&mut self, at: usize, choice: u32, answer: &str, reading: &Reading, out: &mut Vec<Event>) {
        if std::mem::replace(&mut self.told, true) {
            return;
        }
        let id = match self.id.as_str() {
            "" => format!("call_{}_{choice}_{at}", answer.strip_prefix("chatcmpl-").unwrap_or(answer)),
            id => id.to_owned(),
        };
        let name = reading.tool_name(&self.name).to_owned();
        let signature = self.signature.take();
        out.push(Event::ToolCall { choice, index: index(at), id, name, signature });
    }

    /// Blanks in front are not arguments: some send a space first, others nothing but one.
    fn flush(&mut self, at: usize, choice: u32, out: &mut Vec<Event>) {
        if self.waiting.is_empty() || (!self.any && self.waiting.trim().is_empty()) {
            return;
        }
        self.any = true;
        out.push(Event::ToolArguments { choice, index: index(at), json: std::mem::take(&mut self.waiting) });
    }
}

fn index(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

impl Piece {
    fn read(value: Value) -> Option<Self> {
        let mut call = Object::of(value).ok()?;
        let signature = signature(&mut call);
        let custom = call.has("custom");
        let mut inner = call.take(if custom { "custom" } else { "function" }).unwrap_or(Value::Null);
        let mut word = |name: &str| match inner.get_mut(name).map(Value::take) {
            Some(Value::String(text)) => text,
            Some(value @ Value::Object(_)) => value.to_string(),
            _ => String::new(),
        };
        let (name, arguments) = (word("name"), word(if custom { "input" } else { "arguments" }));
        let id = match call.take("id") {
            Some(Value::String(id)) => id,
            Some(Value::Number(id)) => id.to_string(),
            _ => String::new(),
        };
        let index = call.take("index").and_then(|index| index.as_u64());
        Some(Self { index, id, name, arguments, custom, signature })
    }
}
