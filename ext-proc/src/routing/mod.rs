//! From a question to a decision. [`Snapshot`] is the immutable configuration that decides, [`Decision`] the
//! answer as a value.
//!
//! ```text
//! decide()   caller   everyone behind the key, blocked or not, what their settings make of the question
//!            names    model -> group (alias, id, wildcard), with the key's access
//!            legs     tiers of the group and of its fallbacks (chain), their candidates in the strategy's order
//!            bill     the caller's limits, beside those of the deployments
//!            choose   the first step: as it is, or by one atomic admission
//!            steps    the plan: what may follow without asking, and where each class of error goes (walk)
//! lease()    the same, ahead, for a few requests that are alike
//! explain()  the same, told instead of done
//! settle()   usage records -> what was really used, outcomes -> breakers, speeds -> samples
//! observe()  outcomes known before their record -> breakers
//! ```
//!
//! Everything but `decide`, `lease`, `explain`, `settle` and `observe` themselves is free of I/O.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;

mod access;
mod admission;
mod bill;
mod breakers;
mod budget;
mod caller;
mod candidates;
mod chain;
mod choose;
mod decide;
mod decision;
mod explain;
mod explain_limits;
mod explain_text;
mod lease;
mod legs;
mod names;
mod observe;
mod probes;
mod provider_budget;
mod refusal;
mod request;
mod settle;
mod snapshot;
mod speeds;
mod steps;
mod strategy;
mod timeouts;

#[cfg(test)]
pub(crate) mod tests;

pub use access::Access;
pub use breakers::{Breaker, Breakers, REFRESH_INTERVAL};
pub use decide::{Context, Keys, decide};
pub use decision::{Alert, Decision, PlanStep, Timeouts, Use, Verdict};
pub use explain::{Explanation, explain};
pub use explain_limits::ExplainedLimit;
pub use lease::lease;
pub use names::price_of;
pub use observe::observe;
pub use probes::{Health, Probes};
pub use provider_budget::{ProviderSpend, provider_budgets};
pub use settle::{Settled, settle};
pub use snapshot::{
    Affinity, Budget, CounterNames, Deployment, Group, LatencyArgs, RetryPolicy, Snapshot, Strategy, TagRules,
};
pub use speeds::{SPEEDS_INTERVAL, Speeds};
pub use steps::MAX_STEPS;

/// The snapshot in force: requests load it once, a reload swaps it whole.
pub type SnapshotHandle = Arc<ArcSwap<Snapshot>>;

/// Which clusters Envoy has acknowledged. Envoy ends a request whose plan names a cluster that it does not know,
/// without trying the rest of the plan: only live clusters may be named.
pub trait LiveClusters: Send + Sync {
    /// Those of this moment.
    fn view(&self) -> Arc<dyn LiveView>;
    /// Has an Envoy acknowledged the clusters of the snapshot in force?
    fn ready(&self) -> bool;
}

/// The live clusters of one moment. A decision is made from one view: an Envoy that joins or leaves meanwhile would
/// otherwise make a plan that begins with the fallback, because its group was asked about before and the fallback after.
pub trait LiveView: Send + Sync {
    /// Has every connected Envoy acknowledged this cluster?
    fn is_live(&self, cluster: &str) -> bool;
    /// Has every connected Envoy acknowledged all clusters of the snapshot of this generation? Then a decision need not
    /// ask for each; false where that is not known.
    fn all_live(&self, _generation: u64) -> bool {
        false
    }
    /// Why a cluster's credential is not there; `None`: it is, or none is needed.
    fn lacks(&self, _cluster: &str) -> Option<&str> {
        None
    }
}

/// Unix milliseconds now.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
