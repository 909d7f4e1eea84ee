//! The sidecar of Attaché. Envoy carries every byte; this process decides once per request and keeps the books.
//!
//! # The life of a request, as the sidecar sees it
//!
//! ```text
//! 1 key     gate asks /internal/v1/keys/lookup on a miss      server::internal   -> keys::KeyDirectory, store::Directory
//! 2 ask     gate asks /internal/v1/decide for many requests   server::decide (or server::ext_proc: one stream each)
//! 3 decide  key, model access, candidates, fallbacks          routing::decide    -> Decision (a value)
//!           reservation of requests and tokens                store::Counters
//!           the same ahead, for callers who are busy          routing::lease
//! 4 answer  plan, note, retry headers; or a refusal           server::told
//! 5 settle  usage batch to /internal/v1/usage                 server::internal   -> ledger::Spool (durable) -> ack
//!           reservation settled, failures -> cooldowns        store::Counters
//!           priced, written in batches                        ledger::Writer     -> store::Ledger
//! ```
//!
//! Beside it: [`config`] (LiteLLM's YAML, strict, an immutable [`routing::Snapshot`] at the end), [`envoy`]
//! (bootstrap text and xDS: one cluster per deployment, secrets), [`server`] (listeners, admin API, health).

pub mod admin;
pub mod cli;
pub mod config;
pub mod credentials;
pub mod entity;
pub mod envoy;
pub mod import;
pub mod keys;
pub mod ledger;
pub mod limits;
pub mod prices;
pub mod routing;
pub mod secrets;
pub mod server;
pub mod store;
