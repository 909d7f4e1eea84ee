//! The fake provider of Attaché's demo, tests and benchmarks: an OpenAI-compatible upstream that misbehaves on
//! request, and as many of them as the caller likes in one process (told apart by the first path segment).
//!
//! - [`script`] is what a caller may ask for,
//! - [`answer`] makes the answers: deterministic from the request, in OpenAI's shapes,
//! - [`play`] sends an answer as the script says (pauses, splits, errors, cuts),
//! - [`journal`] remembers what arrived, for assertions,
//! - [`standing`] holds scripts for requests that bring none,
//! - [`server`] ties them together.

pub mod answer;
pub mod journal;
pub mod play;
pub mod script;
pub mod server;
pub mod standing;
