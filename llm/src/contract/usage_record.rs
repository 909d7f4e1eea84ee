use serde::{Deserialize, Serialize};

use crate::class::ErrorClass;
use crate::path::Endpoint;
use crate::usage::Usage;

/// Batch of usage records from one Envoy worker. Anything but HTTP 200 means: not durable, send it again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UsageBatch {
    pub contract: u32,
    pub records: Vec<UsageRecord>,
    /// Attempts whose outcome is known before their request's record: failures (the request goes on elsewhere) and
    /// answers of deployments on probation. For the circuit breakers only, so they may be lost.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<AttemptReport>,
    /// Reservations of a [`super::Lease`] that no request used. Told once: what is lost here ends with its own lease.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub returned: Vec<String>,
}

/// How one attempt went, told at once. The record of its request says `reported` for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptReport {
    pub deployment: String,
    pub outcome: AttemptOutcome,
    /// Status of the upstream; 0 when none came.
    pub status: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<ErrorClass>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_s: Option<u64>,
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
    /// [`super::Note::owner`] of the last pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Passes of the request beyond the first: how often it was planned anew.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub replans: u32,
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
    /// What was asked, JSON as the body has it, and what was answered (the body, or the text of a stream): where
    /// [`super::GateConfig::prompt_bytes`] says so. Cut where it is too long, with a mark. The gate adds both as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
}

/// One upstream attempt, kept current by the adapter on every event (a client abort logs before the adapter ends).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
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
    /// Why it failed; `None` for good answers and those that the client left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<ErrorClass>,
    /// Pass of the request in which it was made, from 0. Reservations of earlier passes are settled already.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub pass: u32,
    /// Microseconds from its start to its first good event (streams) or to its whole answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_event_us: Option<u64>,
    /// Microseconds from its start to its end; 0 when unknown.
    #[serde(default, skip_serializing_if = "is_zero_u64")]
    pub duration_us: u64,
    /// Provider's model name, where the deployment's own is a pattern.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Told in [`UsageBatch::attempts`] already: not to be counted for the circuit breaker again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reported: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero_u64(number: &u64) -> bool {
    *number == 0
}

/// How an attempt ended, as far as the adapter saw it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttemptOutcome {
    #[default]
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
    /// As it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NoAnswer => "no_answer",
            Self::Answered => "answered",
            Self::Complete => "complete",
            Self::ErrorStatus => "error_status",
            Self::FailedFirstEvent => "failed_first_event",
            Self::ErrorInStream => "error_in_stream",
        }
    }

    /// Does the attempt count against the deployment's health (before looking at the status)?
    #[must_use]
    pub fn is_failure(self) -> bool {
        !matches!(self, Self::Answered | Self::Complete)
    }
}
