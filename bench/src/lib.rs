//! The fake provider of Attaché's demo, tests and benchmarks: an upstream that speaks every provider's own protocol
//! strictly and misbehaves on request, and as many of them as the caller likes in one process (told apart by the first
//! path segment).
//!
//! - [`script`] is what a caller may ask for,
//! - [`said`] is what it says: deterministic from the request, [`schema`] makes arguments and structured answers,
//! - [`protocols`] are who it says that as: they check the request and write the answer in a provider's shapes,
//! - [`play`] sends an answer as the script says (pauses, splits, errors, cuts),
//! - [`journal`] remembers what arrived, for assertions,
//! - [`served`] writes down what was served, and what it costs,
//! - [`standing`] holds scripts for requests that bring none,
//! - [`server`] ties them together.
//!
//! [`load`] is the load generator.

pub mod journal;
pub mod load;
pub mod play;
pub mod protocols;
pub mod said;
pub mod schema;
pub mod script;
pub mod served;
pub mod server;
pub mod standing;
