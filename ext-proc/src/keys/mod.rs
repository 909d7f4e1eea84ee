//! Virtual keys and everyone behind them: who they are by a key's hash, kept fresh and kept usable while the database
//! is away.
//!
//! The plain key is hashed at the door and never stored. [`KeyDirectory`] answers the gate (`record`), decisions
//! (`principal`) and the admin API (`authenticate`), and tells the gates which keys changed (`changes`).

mod cache;
mod caller;
mod changes;
mod directory;
mod feed;
mod intake;
mod principal;
mod reads;
mod routes;
#[cfg(test)]
mod tests;
mod weight;
mod workloads;

pub use cache::Figures;
pub use caller::{Caller, PROXY_ADMIN, usable};
pub use directory::{KeyDirectory, database_away};
pub use intake::key_of;
pub use principal::Who;
pub use routes::{RouteGroup, route_allowed};

use sha2::{Digest, Sha256};

/// Lower-case hex SHA-256 of the whole key, `sk-` included: LiteLLM's own hash, so its keys keep working.
#[must_use]
pub fn hash(key: &str) -> String {
    hex::encode(Sha256::digest(key.as_bytes()))
}

/// Shown form of a key, `sk-...last4`. A key too short to hide behind four characters shows none of itself.
#[must_use]
pub fn mask(key: &str) -> String {
    let length = key.chars().count();
    if length < 12 {
        return "sk-...".to_owned();
    }
    let last: String = key.chars().skip(length - 4).collect();
    format!("sk-...{last}")
}
