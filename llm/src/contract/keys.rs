use serde::{Deserialize, Serialize};

/// Question of the gate: who is behind this hash?
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyLookup {
    pub contract: u32,
    /// Lower-case hex SHA-256 of the whole key (LiteLLM's own hash); for a caller without a key, what Envoy verified
    /// of it ([`crate::identity::Identity`] as text).
    pub hash: String,
}

/// Answer: the key's record, or `None` for a key that nobody knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyAnswer {
    pub contract: u32,
    pub key: Option<KeyRecord>,
}

/// What the gate must know of a key to let a request in. Model access and limits are the sidecar's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRecord {
    /// Identity in records and reservations: the hash, or [`super::MASTER_KEY_HASH`].
    pub id: String,
    /// Shown form, `sk-...abcd`.
    pub name: String,
    /// Unix milliseconds after which the key is refused.
    #[serde(default)]
    pub expires_ms: Option<u64>,
    #[serde(default)]
    pub blocked: bool,
}

/// Poll of the gate (every 500 ms): what changed since `generation` of sidecar `epoch`?
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyChangesAsk {
    pub contract: u32,
    /// Echo of the last answer; empty at first.
    #[serde(default)]
    pub epoch: String,
    #[serde(default)]
    pub generation: u64,
}

/// Keys to forget (positive and negative entries alike). `flush` when the sidecar cannot tell, e.g. after its
/// restart: entries then are revalidated on next use, not refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyChanges {
    pub contract: u32,
    pub epoch: String,
    pub generation: u64,
    /// As in [`KeyLookup::hash`]: identities too.
    #[serde(default)]
    pub hashes: Vec<String>,
    #[serde(default)]
    pub flush: bool,
}
