//! LiteLLM's configuration file, strict: an unknown key is an error with its path and the nearest known one, a
//! key that LiteLLM knows and Attaché does not act on is a warning, and all problems are reported at once.
//!
//! ```text
//! files -> placeholders -> walk (key table) -> Config -> rules, resolve -> routing::Snapshot
//! ```

mod abilities;
mod access;
mod bucket;
mod check;
mod choices;
mod cloud;
mod credential_list;
mod describe;
mod env;
mod files;
mod identity;
mod identity_rules;
mod issue;
mod keys;
mod keys_general;
mod keys_litellm;
mod keys_router;
mod limits;
mod load;
mod locate;
mod origin;
mod params;
mod placeholders;
mod places;
mod providers;
mod rates;
mod redis;
mod reference;
mod resolve;
mod routes;
mod routes_rules;
mod rules;
mod schema;
mod secret;
mod snapshot;
mod stored;
mod types;
mod walk;

#[cfg(test)]
mod tests;

pub use bucket::Bucket;
pub use check::{CheckReport, check};
pub use cloud::CloudParams;
pub use env::Env;
pub use identity::{Claim, IdentityRule, find as find_identity};
pub use issue::{ConfigErrors, Issue};
pub use limits::alias_pattern;
pub use load::{Loaded, load, load_with};
pub use origin::Origin;
pub use params::{LitellmParams, ModelInfo};
pub(crate) use placeholders::file_references;
pub use rates::Margin;
#[cfg(test)]
pub(crate) use rates::overrides;
pub use redis::RedisSettings;
pub use reference::reference;
pub use secret::Secret;
pub use snapshot::snapshot;
pub use stored::StoredModel;
pub use types::{
    Alias, BudgetMode, Config, Fallbacks, Features, GeneralSettings, LitellmSettings, ModelEntry, Policy,
    ProviderBudget, Requirement, RouterSettings, RoutingGroup, StrategyArgs, TagBudget, TokenRateLimitType,
    UserHeader, seconds,
};
