//! OpenAI responses (OpenAI API reference, "Responses"), for providers that do not have them: stateless, so that every
//! request holds the whole conversation.

mod items;
mod object;
mod open;
mod parts;
mod read;
mod sealed;
mod tools;
mod writer;

pub use read::read_request;
pub use writer::Writer;
