use serde::{Deserialize, Serialize};

use crate::class::ErrorClass;
use crate::path::Endpoint;

/// The gate's question to the sidecar, one per pass of a request: one of many in a call ([`super::DecideAsk`]), or the value
/// of [`super::ASK_HEADER`], where every non-ASCII character is escaped, so that the header is plain ASCII.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    pub contract: u32,
    /// Unique id of the request, made by the gate: `x-litellm-call-id`, key of the reservation and the spend row.
    pub call_id: String,
    /// [`super::KeyRecord::id`] of the caller.
    pub key: String,
    pub endpoint: Endpoint,
    /// Model as the client named it (body, path, query or header); empty where it named none and need not
    /// ([`Endpoint::may_omit_model`]).
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
    /// What not every provider can do, by name: parameters (`n`, `logprobs`, `response_format`), and kinds of content
    /// (`content.image_url`, `content.input_audio`). See [`crate::dialect::support`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<String>,
    /// End user: header `x-litellm-customer-id` or `x-litellm-end-user-id`, else the body's `user`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// What the caller asked of the router for this request.
    #[serde(default, skip_serializing_if = "Wishes::is_empty")]
    pub wishes: Wishes,
    /// Set on every pass but the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replan: Option<Replan>,
    /// The caller wants to know where the request would go and why (`x-attache-route: explain`); it is not sent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub explain: bool,
    /// How often this was asked before without an answer. Each question has a reservation of its own: what the one who was asked
    /// before took is that one's to give back. Told once for a whole call ([`super::DecideAsk`]).
    #[serde(skip)]
    pub again: u8,
}

/// Settings of one request: body members and `x-litellm-*` headers that speak to the gateway, not to the provider.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Wishes {
    /// Body `fallbacks`: groups to go on with, in place of the configured ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallbacks: Option<Vec<String>>,
    /// Body `disable_fallbacks`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub disable_fallbacks: bool,
    /// Body `num_retries` or `max_retries`, header `x-litellm-num-retries`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_retries: Option<u32>,
    /// Milliseconds; body `timeout` (seconds) or header `x-litellm-timeout` (seconds).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Milliseconds; body `stream_timeout` or header `x-litellm-stream-timeout` (seconds).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream_timeout_ms: Option<u64>,
    /// Body `metadata.tags` or `tags`, header `x-litellm-tags` (comma separated).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Header `x-litellm-session-id`, body `litellm_session_id`, `metadata.session_id` or `prompt_cache_key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Region that the answer must come from: body `allowed_model_region`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
}

impl Wishes {
    /// Nothing was asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What happened so far to a request that needs another plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replan {
    /// 1 for the second pass.
    pub pass: u32,
    /// Reservation of the pass before, to settle now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reservation: Option<String>,
    /// [`Note::owner`] of the pass before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Every attempt so far, in order; never empty. The class of the last one is why there is a new plan.
    pub tried: Vec<Tried>,
}

/// A failed attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tried {
    /// [`super::DeploymentMeta::id`].
    pub deployment: String,
    /// Model group under which it was tried.
    pub group: String,
    pub class: ErrorClass,
    /// Pass in which it was tried, from 0.
    #[serde(default)]
    pub pass: u32,
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
    /// In whose name the request is made and what is reserved for that, in the sidecar's own words. Echoed in
    /// [`Replan::owner`] and in the usage record, so that any replica can settle and attribute it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Model group that was planned for (after aliases).
    pub group: String,
    /// Headers for the client's answer (limits, group).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub response_headers: Vec<(String, String)>,
}

/// How to walk the plan: dynamic metadata [`super::WALK_KEY`], a JSON string beside the [`Note`]. Only the adapter reads
/// it, and only when an attempt failed or its deployment is a wildcard's: good answers do not pay for it.
///
/// Absent when the plan is plain: different deployments, no class with a rule of its own, no wildcard.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Walk {
    pub contract: u32,
    /// Limit of one attempt, milliseconds (0: none): an attempt without an answer that took as long timed out.
    #[serde(default)]
    pub per_try_ms: u64,
    /// Shortest wait before the same deployment is asked again, seconds (`retry_after`).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub min_wait_s: u64,
    /// Attempts in order, as in the plan. The last may be [`super::REPLAN_CLUSTER`], with an empty deployment.
    pub steps: Vec<Step>,
    /// A half-open deployment is being probed: report the first good event of the first step at once.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub probe: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// One step of a [`Walk`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// [`super::DeploymentMeta::id`]; empty for the step that asks for another plan.
    pub deployment: String,
    /// Provider's model name, where the deployment's own is a pattern.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Where to go when this step fails so, where that differs from [`After::default_for`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<(ErrorClass, After)>,
}

impl Step {
    /// Where to go when this step fails with `class`.
    #[must_use]
    pub fn after(&self, class: ErrorClass) -> After {
        let own = self.after.iter().find(|(of, _)| *of == class);
        own.map_or_else(|| After::default_for(class), |(_, after)| *after)
    }
}

/// What follows a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum After {
    /// The next step of the plan; at its end the client sees the error.
    Next,
    /// Another plan: the request goes through gate and sidecar again ([`Ask::replan`]).
    Replan,
    /// The client sees the error.
    Stop,
}

impl After {
    /// Without a rule: what another deployment could do better goes on, the rest stops.
    #[must_use]
    pub fn default_for(class: ErrorClass) -> Self {
        if class.is_retriable() { Self::Next } else { Self::Stop }
    }
}
