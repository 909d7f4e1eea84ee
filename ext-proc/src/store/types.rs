use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::Secret;

/// A key to insert.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NewKey {
    /// Lower-case hex SHA-256 of the plain key.
    pub hash: String,
    /// `sk-...last4`.
    pub name: String,
    pub alias: Option<String>,
    /// Empty: all models. Entries may be model groups or wildcards (`openai/*`).
    pub models: Vec<String>,
    pub user_id: Option<String>,
    pub team_id: Option<String>,
    /// Unix milliseconds.
    pub expires_ms: Option<u64>,
    /// Everything else that the caller sent, kept for later features.
    pub metadata: serde_json::Value,
    pub max_budget_nanos: Option<i64>,
    pub rpm_limit: Option<i64>,
    pub tpm_limit: Option<i64>,
    pub created_by: Option<String>,
}

/// A stored key.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyRow {
    pub key: NewKey,
    pub blocked: bool,
    /// Sum of the ledger's rows of this key, nano-dollars.
    pub spend_nanos: i64,
    /// Unix milliseconds.
    pub created_ms: u64,
    pub updated_ms: u64,
}

/// One request in the ledger.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SpendRow {
    pub call_id: String,
    pub request_id: String,
    /// Key id: hash, or the master key's name.
    pub key: String,
    pub endpoint: String,
    /// Model as asked.
    pub model: String,
    /// Group that answered (last attempt).
    pub group: String,
    /// Deployment that answered; empty when none was tried.
    pub deployment: String,
    pub provider: String,
    /// Model name at the provider.
    pub provider_model: String,
    pub user: Option<String>,
    pub stream: bool,
    pub status: u16,
    /// `success`, `failure` or `aborted`.
    pub outcome: String,
    pub attempts: u32,
    pub fallbacks: u32,
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
    pub total_tokens: u64,
    pub cached_tokens: u64,
    pub reasoning_tokens: u64,
    /// Tokens are an estimate.
    pub estimated: bool,
    /// Nano-dollars; `None` when the price is unknown.
    pub cost_nanos: Option<i64>,
    /// Unix microseconds.
    pub start_us: u64,
    pub duration_us: u64,
    pub first_event_us: Option<u64>,
}

/// Sums over the ledger.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LedgerTotals {
    pub rows: u64,
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
    pub cost_nanos: i64,
    pub unpriced_rows: u64,
}

/// An amount on a counter. `counter` includes its window, e.g. `dep:{id}:tpm:29384756`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charge {
    pub counter: String,
    pub amount: u64,
    /// When the counter may be forgotten.
    pub ttl: Duration,
}

/// A failure of a deployment, and the rule that may cool it down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cooldown {
    pub deployment: String,
    pub allowed_fails: u32,
    pub cooldown: Duration,
    /// The upstream said when to come back (429): cool at once for this long.
    pub retry_after: Option<Duration>,
}

/// Where keys and ledger live; chosen by `general_settings.database_url`.
#[derive(Debug, Clone)]
pub enum DatabaseBackend {
    /// The embedded default: a file in the data directory.
    Sqlite {
        path: PathBuf,
    },
    Postgres {
        url: Secret,
        max_connections: u32,
        connect_timeout: Duration,
    },
}

/// Where counters and cooldowns live; chosen by `router_settings.redis_*`.
#[derive(Debug, Clone)]
pub enum CounterBackend {
    /// The embedded default: this process.
    Memory,
    Redis {
        url: Secret,
    },
}

/// What a store can answer instead of a value.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Backend away, slow or broken: the caller degrades.
    #[error("{backend} is unavailable: {reason}")]
    Unavailable { backend: &'static str, reason: String },
    /// A unique value exists already; names the field.
    #[error("{0} exists already")]
    Conflict(&'static str),
    /// A row that cannot be read, or a statement that the database refuses: a bug or a foreign schema.
    #[error("{backend}: {reason}")]
    Broken { backend: &'static str, reason: String },
}
