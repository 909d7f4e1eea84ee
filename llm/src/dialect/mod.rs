//! Dialects: what clients and providers speak, and the translation between them.
//!
//! | module | |
//! |---|---|
//! | [`request`] | the neutral form of a request |
//! | [`answer`] | the neutral form of an answer: events |
//! | [`route`] | which dialect a provider is spoken to in, for each endpoint |
//! | [`support`] | what a provider cannot do, and what is done about it |
//! | [`attempt`] | one attempt: what goes out, and how its answer is read |
//! | [`chat`] | OpenAI chat completions |
//! | [`completions`] | OpenAI legacy completions |
//! | [`responses`] | OpenAI responses |
//! | [`translate`] | the parts of the dialects by name |
//!
//! Each dialect has up to four parts: `read_request` (a client's body), `write_request` (a provider's body), `Reader`
//! (a provider's answer) and `Writer` (a client's answer). Client and provider meet in the neutral forms only, so that
//! n + m parts serve n × m pairs. Where both speak the same dialect nothing is translated: the body is spliced
//! ([`crate::edit`]) and the answer rewritten as it passes ([`crate::response`]).

pub mod answer;
pub mod attempt;
pub mod chat;
pub mod completions;
pub mod converse;
pub mod embeddings;
mod fields;
pub mod gemini;
pub mod messages;
pub mod names;
pub mod request;
pub mod responses;
pub mod route;
pub mod support;
pub mod thought;
pub mod translate;
mod translator;

pub use route::{Route, route};
pub use translator::{Translator, empty};

/// What is shown to work, as Markdown tables: made by the matrix of golden tests (`llm/tests/matrix.rs`) from what its cases show.
pub const MATRIX: &str = include_str!("matrix.md");

/// A way to ask for answers and to give them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dialect {
    /// OpenAI chat completions.
    Chat,
    /// OpenAI legacy completions.
    Completions,
    /// OpenAI responses.
    Responses,
    /// Anthropic messages.
    Messages,
    /// Bedrock Converse.
    Converse,
    /// Google generateContent.
    Gemini,
}

impl Dialect {
    /// As docs and tests name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Completions => "completions",
            Self::Responses => "responses",
            Self::Messages => "messages",
            Self::Converse => "converse",
            Self::Gemini => "gemini",
        }
    }
}
