//! Listeners: one stack for Envoy and the admin API, one apart for health and metrics.
//!
//! ```text
//! <data_dir>/attache.sock   HTTP/2 or HTTP/1.1, optionally also TCP with mutual TLS
//!   /internal/v1/decide      one call for many requests                 decide, told
//!   ext_proc                 or one message each way per request        ext_proc, answer, told
//!   ADS                      clusters and secrets                       crate::envoy
//!   /internal/v1/...         key lookups, usage                         internal
//!   /key/..., /v1/models ... the admin API, authenticated by key        crate::admin
//! 127.0.0.1:4001            /health, /health/liveliness, /health/readiness, /metrics    health
//! ```
//!
//! The internal endpoints carry no credential of their own: whoever may open the socket (mode 0600) or holds a
//! client certificate is Envoy. Envoy's public listener does not route to them, and the gate answers 404 to every
//! path that it does not know.

mod answer;
mod app;
pub(crate) mod client;
mod connections;
mod credential_metrics;
mod credentials;
mod decide;
mod ext_proc;
mod health;
mod internal;
mod lease_metrics;
mod ledger_metrics;
mod limit_metrics;
mod listen;
mod metrics;
mod price_metrics;
mod probe;
mod recent;
mod reconcile;
mod reload;
mod router_state;
mod serve;
mod stored;
mod stores;
mod tls;
mod told;
mod upkeep;
mod watch;

#[cfg(test)]
mod tests;

/// Envoy's message read and the answer to it made, for benchmarks: all of ext_proc beside the decision and gRPC.
pub use answer::decided;
pub(crate) use client::{Asked, Client, Target};
pub use ext_proc::read_ask;
pub use reload::{Fresh, Reload};
pub use router_state::RouterState;
pub use serve::{ServeOptions, TlsOptions, serve, serve_until};
pub use stored::{Stored, stored_models};
