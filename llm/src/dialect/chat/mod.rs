//! OpenAI chat completions (OpenAI API reference, "Chat completions"), with what LiteLLM's clients add to them:
//! `reasoning_content`, `thinking_blocks`, `cache_control`.

mod calls;
mod host;
mod messages;
pub(super) mod parts;
mod read;
mod reader;
mod said;
mod said_json;
pub(super) mod tools;
mod usage;
mod whole;
mod write;
mod write_messages;
mod write_parts;
mod writer;

pub use read::read_request;
pub use reader::Reader;
pub use write::write_request;
pub use writer::Writer;

pub(super) use host::takes_top_k;
pub(super) use messages::{arguments, signature};
pub(super) use read::{read_common, read_effort, read_labels, rest};
pub(super) use said_json::finish_reason;
pub(super) use usage::{total, write_usage};
pub(super) use writer::{answer_id, append, write_error};

/// [`super::request::Request::echo`]: names of the tools that came as `custom` ones.
pub(super) const CUSTOM_TOOLS: &str = "custom_tools";
/// [`super::request::Request::echo`]: the client spoke of `functions`, and knows no `tool_calls`.
pub(super) const LEGACY_FUNCTIONS: &str = "legacy_functions";
