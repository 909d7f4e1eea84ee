//! An answer as no provider writes it: a sequence of events, for whole answers and for streams alike.
//!
//! ```text
//! Start (Text | Thinking | ... | ToolCall ToolArguments*)* Finish Usage? End
//! ```
//! Several choices may be interleaved; a tool's arguments follow its call before the next call of that choice begins.
//! `Usage` may come more than once: the last one counts. `Error` may come at any place and is the last but `End`.

use serde_json::{Map, Value};

use crate::response::UpstreamError;
use crate::usage::Usage;

#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    Start {
        /// The provider's id of the answer.
        id: Option<String>,
        /// Unix seconds, where the provider says so.
        created: Option<u64>,
    },
    Text {
        choice: u32,
        text: String,
    },
    /// A block of text ends, and another follows at once: Anthropic's citations speak for their own block. Dialects
    /// without blocks let the text go on.
    Break {
        choice: u32,
    },
    /// The model refuses, in these words.
    Refusal {
        choice: u32,
        text: String,
    },
    Thinking {
        choice: u32,
        text: String,
    },
    /// Ends the thinking in progress, with the provider's proof.
    Signature {
        choice: u32,
        signature: String,
    },
    RedactedThinking {
        choice: u32,
        data: String,
    },
    /// A call begins.
    ToolCall {
        choice: u32,
        /// From 0, in each choice.
        index: u32,
        id: String,
        name: String,
        /// Gemini's `thoughtSignature`.
        signature: Option<String>,
    },
    /// A piece of the JSON text of its arguments. All pieces together are one JSON object.
    ToolArguments {
        choice: u32,
        index: u32,
        json: String,
    },
    Citation {
        choice: u32,
        citation: Citation,
    },
    /// OpenAI's `logprobs.content` entries for the text just sent.
    Logprobs {
        choice: u32,
        content: Vec<Value>,
    },
    /// An image or sound that the model made.
    Media {
        choice: u32,
        media_type: String,
        /// Base64.
        data: String,
    },
    Finish {
        choice: u32,
        reason: Finish,
        /// The stop sequence that was met.
        stop: Option<String>,
    },
    Usage(Usage),
    /// Members for the top level of the answer: `system_fingerprint`, `service_tier`, ...
    Also(Map<String, Value>),
    /// A block of the dialect that is named, which no other has.
    Other {
        choice: u32,
        dialect: super::Dialect,
        value: Value,
    },
    /// It went wrong.
    Error(UpstreamError),
    End,
}

/// A source that the answer names.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Citation {
    pub url: Option<String>,
    pub title: Option<String>,
    /// The words of the source.
    pub cited: Option<String>,
    /// Characters of the answer's text that it speaks for.
    pub start: Option<u64>,
    pub end: Option<u64>,
    /// As the provider wrote it.
    pub raw: Value,
}

/// Why the model stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// It had said everything.
    Stop,
    /// It met a stop sequence.
    StopSequence,
    /// Out of tokens: `max_tokens`, or the context window.
    Length,
    ToolCalls,
    /// The provider's filter.
    ContentFilter,
    /// The model refused.
    Refusal,
    /// A turn of a server tool was cut; send it back to go on.
    Pause,
}
