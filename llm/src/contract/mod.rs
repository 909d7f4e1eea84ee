//! The contract between filter and sidecar. Both sides compile this module; nothing else crosses the wire.
//!
//! ```text
//! gate    -> sidecar   POST /internal/v1/keys/lookup      KeyLookup      -> KeyAnswer
//! gate    -> sidecar   POST /internal/v1/keys/changes     KeyChangesAsk  -> KeyChanges
//! gate    -> sidecar   POST /internal/v1/decide           DecideAsk      -> DecideAnswer (and leases: decisions ahead)
//! gate    -> Envoy     header of the request              x-attache-plan -> dynamic metadata "attache": PLAN_KEY
//! sidecar -> adapter   CDS cluster metadata               namespace "attache": DEPLOYMENT_KEY (DeploymentMeta, JSON)
//! gate    -> sidecar   POST /internal/v1/usage            UsageBatch     -> UsageAck
//! Envoy   -> sidecar   POST /internal/v1/replan           the last step of a plan that needs another one -> 307
//! ```
//!
//! Where decisions are asked for by ext_proc ([`Decisions::ExtProc`]), these stand in place of the `decide` endpoint:
//!
//! ```text
//! gate    -> sidecar   ext_proc request headers           x-attache-ask: Ask (JSON)
//! sidecar -> Envoy     ext_proc dynamic metadata          namespace "attache": PLAN_KEY, NOTE_KEY, WALK_KEY
//! ```
//!
//! Every message carries [`VERSION`]; a side that meets another version refuses it by name (HTTP 409 on the
//! internal endpoints, 503 to the client) instead of guessing. Within one version fields may be added, never
//! renamed: readers ignore what they do not know.

mod config;
mod decide;
mod deployment;
mod keys;
mod request;
mod usage_record;

pub use config::GateConfig;
pub use decide::{
    DecideAnswer, DecideAsk, Decided, Decisions, Go, Lease, LeaseAsk, LeaseUse, Leased, MAX_LEASE_CALLS,
    Refuse,
};
pub use deployment::DeploymentMeta;
pub use keys::{KeyAnswer, KeyChanges, KeyChangesAsk, KeyLookup, KeyRecord};
pub use request::{After, Ask, Note, Replan, Step, Tried, Walk, Wishes};
pub use usage_record::{AttemptOutcome, AttemptRecord, AttemptReport, UsageAck, UsageBatch, UsageRecord};

/// Version of the contract. Raise it when a field changes its meaning.
pub const VERSION: u32 = 1;

/// Prefix of every header that only the gate and the sidecar may set; the gate strips it from clients.
pub const HEADER_PREFIX: &str = "x-attache-";
/// Gate to sidecar: the [`Ask`] as one line of ASCII-safe JSON.
pub const ASK_HEADER: &str = "x-attache-ask";
/// Gate to Envoy's header_to_metadata: the plan ([`Go::plan`]).
pub const PLAN_HEADER: &str = "x-attache-plan";
/// header_to_metadata drops a value from this length on, in silence, and the request would have no plan.
pub const MAX_PLAN_HEADER: usize = 8 * 1024;
/// Clusters of the plan's steps, one each, for an Envoy whose router cannot read a plan from metadata (before 1.40): it
/// finds the cluster of an attempt by matching these ([`ATTEMPT_HEADER`]). Only told where clusters are fixed.
pub const STEP_HEADERS: [&str; 12] = [
    "x-attache-step-1",
    "x-attache-step-2",
    "x-attache-step-3",
    "x-attache-step-4",
    "x-attache-step-5",
    "x-attache-step-6",
    "x-attache-step-7",
    "x-attache-step-8",
    "x-attache-step-9",
    "x-attache-step-10",
    "x-attache-step-11",
    "x-attache-step-12",
];
/// Number of the attempt before, when Envoy's router chooses the cluster of the next one by matching. The adapter leaves
/// it where it is: all attempts share one map of headers.
pub const ATTEMPT_HEADER: &str = "x-envoy-attempt-count";
/// Request header that names the cluster of the route's mirror policy.
pub const MIRROR_HEADER: &str = "x-attache-mirror";
/// Request header with the limit of one attempt, for Envoy's router.
pub const PER_TRY_HEADER: &str = "x-envoy-upstream-rq-per-try-timeout-ms";
/// Filter-made replies carry this request header, so that Envoy's local_reply_config leaves their bodies alone.
pub const REPLY_HEADER: &str = "x-attache-reply";

/// Namespace of dynamic metadata and cluster metadata.
pub const METADATA_NAMESPACE: &str = "attache";
/// Dynamic metadata: the plan for Envoy's `priority_group` cluster specifier (its own schema).
pub const PLAN_KEY: &str = "priority_groups";
/// Dynamic metadata: the [`Note`] of the decision, a JSON string.
pub const NOTE_KEY: &str = "note";
/// Dynamic metadata: the [`Walk`] of the plan, a JSON string; absent when the plan is plain.
pub const WALK_KEY: &str = "walk";
/// Cluster metadata: the [`DeploymentMeta`], a JSON string.
pub const DEPLOYMENT_KEY: &str = "deployment";

/// Name of the static Envoy cluster through which the gate reaches the sidecar.
pub const CONTROL_CLUSTER: &str = "attache_sidecar";
/// Internal endpoint: one key by its hash.
pub const KEY_LOOKUP_PATH: &str = "/internal/v1/keys/lookup";
/// Internal endpoint: keys that changed since a generation.
pub const KEY_CHANGES_PATH: &str = "/internal/v1/keys/changes";
/// Internal endpoint: decisions for the requests that wait for one.
pub const DECIDE_PATH: &str = "/internal/v1/decide";
/// Internal endpoint: a batch of usage records.
pub const USAGE_PATH: &str = "/internal/v1/usage";

/// Static Envoy cluster for the step of a plan that asks for another plan: it leads to the sidecar, whose answer is a
/// 307 to the gateway itself. Envoy's internal redirect then runs gate and ext_proc again with the body it holds.
pub const REPLAN_CLUSTER: &str = "attache_replan";
/// Internal endpoint behind [`REPLAN_CLUSTER`]: answers 307; the adapter sets the `location`.
pub const REPLAN_PATH: &str = "/internal/v1/replan";
/// Query parameter of that location: the call id of a request on its second or later pass. The gate believes it only
/// for a request that is between two passes in its own VM.
pub const REPLAN_PARAM: &str = "attache-call";
/// Passes of one request at most: Envoy's `max_internal_redirects` is one less.
pub const MAX_PASSES: u32 = 8;
/// Response header of an attempt by which the adapter makes Envoy wait before the next one (seconds).
pub const WAIT_HEADER: &str = "x-attache-wait";
/// Request header of an admin that asks for the routing decision instead of an answer: `explain`.
pub const ROUTE_HEADER: &str = "x-attache-route";
/// Response header with the generation of the configuration that decided.
pub const GENERATION_HEADER: &str = "x-attache-generation";

/// Hash under which the master key's requests are recorded (LiteLLM's own name for it).
pub const MASTER_KEY_HASH: &str = "litellm_proxy_master_key";
