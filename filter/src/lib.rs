//! The Envoy WASM filter of Attaché: one module, two plugins. The *gate* (root id `gate`) stands in the downstream
//! filter chain, the *adapter* (root id `adapter`) in the upstream chain of each deployment's cluster.
//!
//! # The life of a request inside Envoy
//!
//! ```text
//! gate     request headers   strip x-attache-*, hash the key, look it up          gate, auth, keys
//!                            a miss asks the sidecar once for all that wait        root
//! gate     request body      at its end: one scan, shared record, a question       intake, requests
//! root                       one call with the questions of all that are ready     questions, deciding
//!                            the plan goes into a header; or a refusal             deciding, local_reply
//!                            decisions ahead for callers who are busy: those       stock
//!                            requests go on without asking
//! Envoy                      header_to_metadata: the plan as metadata
//! router                     attempt n goes to the n-th group of the plan
//! adapter  request           path, host, model name, stream_options                adapter, outgoing
//! adapter  response          first-event check, usage, model name put back         answer
//!                            after a failure: next step, stop, or another plan     walk
//! gate     request headers   again for another plan, by internal redirect          redirect, requests
//! gate     response headers  x-litellm-* for the client                            gate
//! gate     log               one usage record, statistics                          finish, requests, stats
//! root     tick              batches of usage until they are acknowledged          usage, root
//!                            keys that changed are forgotten                       keys
//! ```
//!
//! With `attache envoy --decisions ext-proc` the question is a header (x-attache-ask) and Envoy's ext_proc asks; plan, note
//! and walk are dynamic metadata then.
//!
//! `bounded`, `keys`, `identity`, `said`, `usage`, `ids`, `auth`, `stats`, `intake`, `requests`, `redirect`, `questions`, `stock`, `shown`, `due`, `walk` and `answer` know nothing
//! of Envoy and are tested natively. `host`, `abi`, `peer`, `vm`, `root`, `deciding`, `gate`, `finish`, `adapter` and `outgoing` are thin hosts over
//! them.
//!
//! A panic costs the worker its key table and its unsent usage, so nothing here may panic; where the SDK would,
//! [`host`] goes around it.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

mod abi;
pub mod adapter;
pub mod answer;
pub mod auth;
pub mod bounded;
pub mod deciding;
pub mod due;
pub mod finish;
pub mod gate;
pub mod headers;
pub mod host;
pub mod identity;
pub mod ids;
pub mod intake;
pub mod keys;
pub mod outgoing;
pub mod peer;
pub mod questions;
pub mod redirect;
pub mod reply;
pub mod requests;
pub mod root;
pub mod said;
pub mod shown;
pub mod stats;
pub mod stock;
pub mod usage;
pub mod vm;
pub mod walk;

#[cfg(target_arch = "wasm32")]
mod entry {
    //! What Envoy calls first.

    use proxy_wasm::traits::RootContext;
    use proxy_wasm::types::LogLevel;

    use crate::host;
    use crate::root::{AdapterRoot, GateRoot};

    fn root(context: u32) -> Box<dyn RootContext> {
        if host::text(&["plugin_root_id"]).as_deref() == Some("adapter") {
            Box::new(AdapterRoot)
        } else {
            Box::new(GateRoot::new(context))
        }
    }

    proxy_wasm::main! {{
        proxy_wasm::set_log_level(LogLevel::Warn);
        proxy_wasm::set_root_context(root);
    }}
}
