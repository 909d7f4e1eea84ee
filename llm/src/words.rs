//! What was asked and answered, for those who want it kept (`store_prompts_in_spend_logs`): always within a bound, with
//! a mark where something is missing.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::sse::{Event, Piece, Splitter};

/// Longest event of a stream that is read for its text.
const MAX_EVENT: usize = 64 * 1024;

/// Text up to a bound.
#[derive(Debug, Clone, Default)]
pub struct Words {
    kept: Vec<u8>,
    max: usize,
    cut: bool,
}

impl Words {
    /// Keeps so many bytes.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self { kept: Vec::new(), max, cut: false }
    }

    /// How much of a piece of this length will be kept.
    #[must_use]
    pub fn wants(&self, len: usize) -> usize {
        if self.cut { 0 } else { len.min(self.max.saturating_sub(self.kept.len())) }
    }

    /// Appends what fits. `missing`: something came after it that is not given.
    pub fn push(&mut self, piece: &[u8], missing: bool) {
        let fits = self.wants(piece.len());
        self.kept.extend_from_slice(piece.get(..fits).unwrap_or_default());
        self.cut |= missing || fits < piece.len();
    }

    /// Keeps nothing more.
    pub fn cut(&mut self) {
        self.cut = true;
    }

    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.cut
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// The text, and a mark if it is not all. `None` when nothing was said. What is no text is replaced, and so is NUL,
    /// which no database takes.
    #[must_use]
    pub fn finish(self) -> Option<String> {
        if self.kept.is_empty() && !self.cut {
            return None;
        }
        let end = if self.cut { whole_characters(&self.kept) } else { self.kept.len() };
        let mut text = String::from_utf8_lossy(self.kept.get(..end).unwrap_or_default()).into_owned();
        if text.contains('\0') {
            text = text.replace('\0', "\u{fffd}");
        }
        if self.cut {
            text.push_str(" ... (truncated)");
        }
        Some(text)
    }
}

/// Length without a character that the bound has cut.
fn whole_characters(bytes: &[u8]) -> usize {
    match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        _ => bytes.len(),
    }
}

/// The text of a stream of events: what its first choice says, put together.
#[derive(Debug)]
pub struct StreamWords {
    events: Splitter,
    words: Words,
}

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow, default)]
    choices: Vec<Choice<'a>>,
    /// Of messages and responses.
    #[serde(borrow, default, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    delta: Option<&'a RawValue>,
    /// Of messages: the name of a tool that is called.
    #[serde(borrow, default)]
    content_block: Option<Function<'a>>,
    /// Of responses.
    #[serde(borrow, default)]
    item: Option<Function<'a>>,
}

/// A piece of a block of messages.
#[derive(Deserialize)]
struct Block<'a> {
    #[serde(borrow, default)]
    text: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    partial_json: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(default)]
    index: u64,
    #[serde(borrow, default)]
    delta: Option<Delta<'a>>,
    /// Of completions.
    #[serde(borrow, default)]
    text: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Delta<'a> {
    #[serde(borrow, default)]
    content: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    refusal: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    tool_calls: Option<Vec<Call<'a>>>,
}

#[derive(Deserialize)]
struct Call<'a> {
    #[serde(borrow, default)]
    function: Option<Function<'a>>,
}

#[derive(Deserialize)]
struct Function<'a> {
    #[serde(borrow, default)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    arguments: Option<Cow<'a, str>>,
}

impl StreamWords {
    /// Keeps so many bytes of text.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self { events: Splitter::with_max(MAX_EVENT), words: Words::new(max) }
    }

    /// Reads the next piece of the stream, cut anywhere.
    pub fn push(&mut self, piece: &[u8]) {
        if self.words.is_cut() {
            return;
        }
        let Self { events, words } = self;
        events.push(piece, &mut |piece| match piece {
            Piece::Event(raw) | Piece::Rest(raw) => read(raw, words),
            Piece::Oversized(_) => words.cut(),
            Piece::Tail(_) => {}
        });
    }

    /// The text so far.
    #[must_use]
    pub fn words(&self) -> &Words {
        &self.words
    }

    /// Keeps nothing more.
    pub fn cut(&mut self) {
        self.words.cut();
    }

    /// The text, as [`Words::finish`].
    #[must_use]
    pub fn finish(self) -> Option<String> {
        self.words.finish()
    }
}

/// Adds what one event says.
fn read(raw: &[u8], words: &mut Words) {
    let event = Event::parse(raw);
    let Some(data) = event.data.as_deref() else { return };
    let Ok(chunk) = serde_json::from_slice::<Chunk<'_>>(data) else { return };
    let mut say = |text: &Option<Cow<'_, str>>| {
        if let Some(text) = text {
            words.push(text.as_bytes(), false);
        }
    };
    let delta = chunk.delta.map(RawValue::get).unwrap_or_default();
    match &*chunk.kind {
        "content_block_start" => say(&chunk.content_block.and_then(|block| block.name)),
        "content_block_delta" => {
            let Ok(block) = serde_json::from_str::<Block<'_>>(delta) else { return };
            say(&block.text);
            say(&block.partial_json);
        }
        "response.output_item.added" => say(&chunk.item.and_then(|item| item.name)),
        "response.output_text.delta"
        | "response.refusal.delta"
        | "response.function_call_arguments.delta" => {
            say(&serde_json::from_str(delta).ok());
        }
        _ => {}
    }
    for choice in chunk.choices.iter().filter(|choice| choice.index == 0) {
        say(&choice.text);
        let Some(delta) = &choice.delta else { continue };
        say(&delta.content);
        say(&delta.refusal);
        for function in delta.tool_calls.iter().flatten().filter_map(|call| call.function.as_ref()) {
            say(&function.name);
            say(&function.arguments);
        }
    }
}

#[cfg(test)]
#[path = "words_tests.rs"]
mod tests;
