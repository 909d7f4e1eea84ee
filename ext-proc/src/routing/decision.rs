use std::time::Duration;

use attache_llm::contract::Walk;
use attache_llm::error::ApiError;

use crate::entity::EntityRef;
use crate::limits::Line;
use crate::store::Reservation;

/// What the sidecar decided about one request, or ahead about a few ([`super::lease`]).
#[derive(Debug)]
pub struct Decision {
    /// Attempts in order; never empty. Each names a cluster that Envoy has acknowledged.
    pub plan: Vec<PlanStep>,
    /// How to walk it; `None` when it is plain.
    pub walk: Option<Walk>,
    /// Cluster that gets a copy of the request, its answer thrown away.
    pub mirror: Option<String>,
    /// Group planned for, after aliases.
    pub group: String,
    /// What was reserved; settled by the usage record. Dropping it unsettled refunds it.
    pub reservation: Reservation,
    /// In whose name, for [`attache_llm::contract::Note::owner`].
    pub owner: Option<String>,
    /// Budgets that somebody should hear of.
    pub alerts: Vec<Alert>,
    pub timeouts: Timeouts,
    /// Headers for the client's answer.
    pub response_headers: Vec<(String, String)>,
    /// Further requests that may go the same way: each has a reservation of its own.
    pub more: Vec<Use>,
    /// Generation of the snapshot that decided.
    pub generation: u64,
}

/// One more use of a [`Decision`].
#[derive(Debug)]
pub struct Use {
    /// As [`Decision::reservation`].
    pub reservation: Reservation,
    /// As [`Decision::response_headers`].
    pub response_headers: Vec<(String, String)>,
}

/// A budget that is used up, and refuses nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    pub of: EntityRef,
    /// How it may be called before people.
    pub shown: String,
    /// The budget would have refused the request (audit mode); else its soft limit is passed.
    pub audit: bool,
    /// Nano-dollars.
    pub limit: u64,
    /// Begin of its window, Unix milliseconds: an alert of a soft budget is for once per window.
    pub window_ms: u64,
}

impl Alert {
    pub(super) fn of(line: &Line, audit: bool) -> Self {
        let limit = if audit { line.limit } else { line.soft_nanos };
        Self {
            of: line.of.clone(),
            shown: line.shown.clone(),
            audit,
            limit: limit.unwrap_or(0),
            window_ms: line.starts_ms,
        }
    }
}

/// One attempt of the plan. The last may be [`attache_llm::contract::REPLAN_CLUSTER`], with an empty deployment and
/// group: the rest is decided when the attempts before it have failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanStep {
    pub deployment: String,
    pub cluster: String,
    pub group: String,
}

/// Limits for Envoy, per request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Whole request (`x-envoy-upstream-rq-timeout-ms`).
    pub total: Duration,
    /// One attempt (`x-envoy-upstream-rq-per-try-timeout-ms`); for streams the time to the first event, since
    /// the adapter holds the headers until then.
    pub per_try: Option<Duration>,
}

/// Refusal or decision.
pub type Verdict = Result<Decision, ApiError>;
