//! Virtual keys: who is behind a hash, kept fresh and kept usable while the database is away.
//!
//! The plain key is hashed at the door and never stored. [`KeyDirectory`] answers the gate (`record`), decisions
//! (`row`) and the admin API (`authenticate`), and tells the gate which keys changed (`changes`).

mod cache;
mod changes;
mod directory;
#[cfg(test)]
pub(crate) mod double;
mod intake;
#[cfg(test)]
mod tests;

pub use directory::{Caller, KeyDirectory, database_away};
pub use intake::key_of;

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
