use serde::{Deserialize, Serialize};

use crate::path::Endpoint;
use crate::usage::Usage;

/// Batch of usage records from one Envoy worker. Anything but HTTP 200 means: not durable, send it again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UsageBatch {
    pub contract: u32,
    pub records: Vec<UsageRecord>,
}

/// Acknowledgement: every record of the batch is durable (duplicates included).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageAck {
    pub contract: u32,
    pub accepted: usize,
}

/// One finished request, written by the gate's `on_log`: exactly one for each request that named a known key
/// and reached the sidecar's decision or an upstream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UsageRecord {
    /// Unique: the ledger's key. The sidecar deduplicates by it.
    pub call_id: String,
    /// [`super::KeyRecord::id`].
    pub key: String,
    pub endpoint: Endpoint,
    /// Model as asked.
    pub model: String,
    /// Model group planned for; empty when there was no decision.
    #[serde(default)]
    pub group: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reservation: Option<String>,
    #[serde(default)]
    pub stream: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Unix microseconds at which the request began.
    pub start_us: u64,
    /// Microseconds from the first request byte to the last response byte.
    pub duration_us: u64,
    /// Microseconds to the first response event (streams) or to the answer's headers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_event_us: Option<u64>,
    /// Status that the client saw; 0 when it left before any.
    pub status: u16,
    /// Envoy's response code details (`via_upstream`, `downstream_remote_disconnect`, ...).
    #[serde(default)]
    pub details: String,
    /// Client left before the answer was whole.
    #[serde(default)]
    pub aborted: bool,
    /// Estimated prompt tokens, for answers without usage.
    #[serde(default)]
    pub input_estimate: u64,
    /// `x-request-id`.
    #[serde(default)]
    pub request_id: String,
    /// Upstream attempts in order; empty when the request was refused before any.
    #[serde(default)]
    pub attempts: Vec<AttemptRecord>,
}

/// One upstream attempt, kept current by the adapter on every event (a client abort logs before the adapter ends).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttemptRecord {
    /// [`super::DeploymentMeta::id`].
    pub deployment: String,
    /// Envoy cluster.
    pub cluster: String,
    /// Model group of the deployment.
    pub group: String,
    pub outcome: AttemptOutcome,
    /// Status of the upstream; 0 when none came.
    pub status: u16,
    /// `retry-after` of the upstream, seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_s: Option<u64>,
    /// Tokens: the provider's own, or an estimate marked as one. `None` when nothing was produced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
}

/// How an attempt ended, as far as the adapter saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttemptOutcome {
    /// Sent; no answer seen (yet): refused, reset or timed out unless the request ended with the client's abort.
    NoAnswer,
    /// A good answer began; it may have been cut later.
    Answered,
    /// The answer is whole.
    Complete,
    /// The upstream answered with an error status.
    ErrorStatus,
    /// HTTP 200 whose first event was an error, or whose body was empty: turned into a retriable status.
    FailedFirstEvent,
    /// An error event after the first good one.
    ErrorInStream,
}

impl AttemptOutcome {
    /// Does the attempt count against the deployment's health (before looking at the status)?
    #[must_use]
    pub fn is_failure(self) -> bool {
        !matches!(self, Self::Answered | Self::Complete)
    }
}
