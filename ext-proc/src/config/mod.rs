//! LiteLLM's configuration file, strict: an unknown key is an error with its path and the nearest known one, a
//! key that LiteLLM knows and Attaché does not act on is a warning, and all problems are reported at once.
//!
//! ```text
//! files -> placeholders -> walk (key table) -> Config -> rules, resolve -> routing::Snapshot
//! ```

mod check;
mod choices;
mod describe;
mod env;
mod files;
mod issue;
mod keys;
mod keys_router;
mod load;
mod locate;
mod placeholders;
mod providers;
mod reference;
mod resolve;
mod routes;
mod routes_rules;
mod rules;
mod schema;
mod secret;
mod snapshot;
mod types;
mod walk;

#[cfg(test)]
mod tests;

pub use check::{CheckReport, check};
pub use env::Env;
pub use issue::{ConfigErrors, Issue};
pub use load::{Loaded, load};
pub use reference::reference;
pub use secret::Secret;
pub use snapshot::snapshot;
pub use types::{
    Alias, Config, Fallbacks, Features, GeneralSettings, LitellmParams, LitellmSettings, ModelEntry,
    ModelInfo, Policy, ProviderBudget, Requirement, RouterSettings, RoutingGroup, StrategyArgs, seconds,
};
