//! OpenAI legacy completions (OpenAI API reference, "Completions"), for providers that have chat only.

mod read;
mod writer;

pub use read::read_request;
pub use writer::Writer;

/// [`super::request::Request::echo`]: the prompt, where the answer shall begin with it.
const ECHO: &str = "echo";
