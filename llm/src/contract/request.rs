use serde::{Deserialize, Serialize};

use crate::path::Endpoint;

/// The gate's question to the sidecar, one per request, as the value of [`super::ASK_HEADER`].
///
/// The gate escapes every non-ASCII character as `\uXXXX`, so that the header is plain ASCII.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ask {
    pub contract: u32,
    /// Unique id of the request, made by the gate: `x-litellm-call-id`, key of the reservation and the spend row.
    pub call_id: String,
    /// [`super::KeyRecord::id`] of the caller.
    pub key: String,
    pub endpoint: Endpoint,
    /// Model as the client named it (body, or path).
    pub model: String,
    #[serde(default)]
    pub stream: bool,
    /// Estimate of the prompt, tokens.
    #[serde(default)]
    pub input_tokens: u64,
    /// `max_completion_tokens` or `max_tokens`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n: Option<u64>,
    /// End user as the body's `user` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

/// What the decision tells the gate beside the plan, in dynamic metadata ([`super::NOTE_KEY`]).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    pub contract: u32,
    /// Generation of the configuration snapshot that decided.
    #[serde(default)]
    pub generation: u64,
    /// Reservation to settle; echoed in the usage record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reservation: Option<String>,
    /// Model group that was planned for (after aliases).
    pub group: String,
    /// Headers for the client's answer (limits, group).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub response_headers: Vec<(String, String)>,
}
