//! From a question to a decision. [`Snapshot`] is the immutable configuration that decides, [`Decision`] the
//! answer as a value.

mod decision;
mod snapshot;

pub use decision::{Decision, PlanStep, Timeouts, Verdict};
pub use snapshot::{Deployment, Group, Snapshot};
