//! Anthropic messages, on both sides. Source: Anthropic's API reference, "Messages" and "Streaming messages".
//!
//! The client's `max_tokens` is required by Anthropic and by nobody else: without one, the model's longest answer is
//! sent, or [`MAX_TOKENS`] where that is not known.

mod content;
mod read;
mod read_content;
mod reader;
mod settings;
mod thinking;
mod write;
mod writer;

pub use read::read_request;
pub use reader::Reader;
pub use write::write_request;
pub use writer::Writer;

/// Sent where neither the client nor the price table says how long an answer may be.
pub const MAX_TOKENS: u64 = 4_096;
/// Tool that stands for a schema where the model has no other way (LiteLLM's name).
const JSON_TOOL: &str = "json_tool_call";
