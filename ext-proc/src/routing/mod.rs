//! From a question to a decision. [`Snapshot`] is the immutable configuration that decides, [`Decision`] the
//! answer as a value.

use std::sync::Arc;

use arc_swap::ArcSwap;

mod decision;
mod snapshot;

pub use decision::{Decision, PlanStep, Timeouts, Verdict};
pub use snapshot::{Deployment, Group, Snapshot};

/// The snapshot in force: requests load it once, a reload swaps it whole.
pub type SnapshotHandle = Arc<ArcSwap<Snapshot>>;
