//! Everything about LLM traffic that needs no I/O, for the filter (wasm32) and the sidecar (native) alike.
//!
//! | module | what it knows |
//! |---|---|
//! | [`contract`] | what filter and sidecar say to each other: header names, question, decision, key and usage records |
//! | [`path`] | which endpoint a request path means, and the model some paths carry |
//! | [`scan`] | one pass over a JSON request body, in slices: model, stream, limits, text length, edit points |
//! | [`dialect`] | what clients and providers speak, and the translation between them |
//! | [`edit`] | splicing a request body in place, slice by slice, without holding it |
//! | [`sse`] | server-sent events split at any byte |
//! | [`eventstream`] | AWS event streams split at any byte |
//! | [`websocket`] | frames of a realtime session: what its answers used |
//! | [`response`] | what an upstream answer says: usage, errors, and the model name put back |
//! | [`usage`] | token counts, verbatim from the provider or estimated and marked so |
//! | [`price`] | integer money: femto-dollars per token, nano-dollars per request |
//! | [`provider`] | one table of providers: base URL, auth header, quirks |
//! | [`class`] | what a failed attempt means: error classes |
//! | [`wildcard`] | model patterns such as `openai/*` |
//! | [`words`] | prompts and answers as text, within bounds, where they are to be kept |
//! | [`wishes`] | what a caller asks of the gateway by headers, and the bounds of it |
//! | [`error`] | errors with blame, retry flag and two messages, rendered in the caller's dialect |
//!
//! Code here runs inside Envoy on data from strangers: nothing may panic, and every buffer is bounded.
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

pub mod class;
pub mod contract;
pub mod dialect;
pub mod edit;
pub mod error;
pub mod eventstream;
pub mod identity;
mod json;
pub mod path;
pub mod price;
pub mod provider;
pub mod response;
pub mod scan;
pub mod sse;
pub mod usage;
pub mod websocket;
pub mod wildcard;
pub mod wishes;
pub mod words;
pub mod xfcc;
