use std::path::PathBuf;
use std::sync::Arc;
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

/// An amount on a counter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charge {
    pub counter: Counter,
    pub amount: u64,
    /// When the counter may be forgotten.
    pub ttl: Duration,
}

/// Name of a counter: what is counted, and in which window. Cheap to copy, since a decision may look at hundreds.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Counter {
    /// E.g. `dep:{id}:rpm`; made once per deployment.
    pub base: Arc<str>,
    /// Number of the window (Unix minute, day, ...); 0 for counters without one.
    pub window: u64,
}

impl Counter {
    /// Counter `base` in its window; 0 for none.
    pub fn new(base: impl Into<Arc<str>>, window: u64) -> Self {
        Self { base: base.into(), window }
    }
}

/// `{base}:{window}`, as it is called in the shared backend.
impl std::fmt::Display for Counter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.base, self.window)
    }
}

/// An amount on a counter, and how high the counter may go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limited {
    pub counter: Counter,
    /// Added when it is admitted.
    pub amount: u64,
    /// When the counter may be forgotten.
    pub ttl: Duration,
    /// `None`: counted only. There is room if the counter and the amount do not exceed it; an amount above the limit
    /// counts as the limit for this question, so that a request of any size may have an empty window for itself. A
    /// limit of 0 has room for nothing.
    pub limit: Option<u64>,
}

/// Asks for a place on one of several candidates, all or nothing, atomically over all replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// Id of the reservation.
    pub id: String,
    /// After so long without settling, what was charged is taken back.
    pub lease: Duration,
    /// Limits that hold wherever the request goes (keys, teams, ...). Without room in one of them nothing is admitted.
    pub required: Vec<Limited>,
    /// Where it may go, in order of preference. Tiers rise; a later tier is for when no candidate of an earlier one
    /// has room.
    pub candidates: Vec<Candidate>,
    pub pick: Pick,
}

/// Which candidate of the first tier that has room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pick {
    /// The first in order.
    First,
    /// The one whose charge at this index (of [`Candidate::charges`]) has the lowest counter; the first in order of
    /// those that are equal. Candidates without such a charge count as 0.
    Lowest(usize),
}

/// One place to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub tier: u32,
    pub charges: Vec<Limited>,
    /// Half-open deployment: admitted only if no other request probes it. The place is free again when an outcome of
    /// the deployment is observed, when the reservation is settled, or with the lease. It is not given while the
    /// breaker is open again, of which the caller may not have heard yet.
    pub probe: Option<String>,
}

/// What became of an [`Admission`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admitted {
    /// All charges of this candidate (and the required ones) are on the counters, under the lease.
    Candidate(usize),
    /// No room in this one of the required limits; `value` is its counter.
    Refused { required: usize, value: u64 },
    /// No candidate has room. Why, per candidate: the first charge without room, `None` for a probe that is taken.
    Full(Vec<Option<usize>>),
}

/// Ends a reservation with what was really used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    pub id: String,
    /// In place of what was reserved. Usually the same counters; one that is missing here is only taken back.
    pub actual: Vec<Charge>,
}

/// Outcomes of a deployment since the last observation, and the rule that may open its circuit breaker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    pub deployment: String,
    pub successes: u32,
    /// Failures that count towards `trip`, oldest first.
    pub failures: Vec<Failure>,
}

/// One failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// For people: error class and status, e.g. `rate_limit 429`. No upstream text.
    pub reason: String,
    /// Shortest time out of service if the rule trips.
    pub cooldown: Duration,
    pub trip: Trip,
}

/// When a failure takes its deployment out of service. A failure of a half-open deployment always does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trip {
    /// Counted (for [`Trip::Share`] of others) but never trips.
    Never,
    /// At once (429 with a `retry-after`: `cooldown` is that).
    Now,
    /// When more than `allowed` failures of this `kind` fell within `window`. Kinds count apart.
    Count { kind: String, allowed: u32, window: Duration },
    /// When at least `min` outcomes fell into the current minute and more than `percent` of them are failures.
    Share { percent: u32, min: u32 },
}

/// A circuit breaker that is not closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Circuit {
    pub deployment: String,
    /// Out of service until then (Unix milliseconds). After it the breaker is half-open: one request at a time, until
    /// an outcome is observed.
    pub until_ms: u64,
    /// Why, as in [`Failure::reason`].
    pub reason: String,
}

/// What changed with observations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transition {
    /// Opened, or its deadline moved.
    Opened(Circuit),
    /// The deployment answered on probation.
    Closed(String),
}

/// Speed of a deployment, for latency-based routing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Speed {
    /// Microseconds to the first event of a stream.
    FirstEvent,
    /// Microseconds per completion token of a whole answer.
    PerToken,
}

/// One measurement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    pub deployment: String,
    pub speed: Speed,
    pub micros: u64,
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

/// Where counters and circuit breakers live; chosen by `router_settings.redis_*`.
#[derive(Debug, Clone)]
pub enum CounterBackend {
    /// The embedded default: this process.
    Memory,
    Redis {
        url: Secret,
        /// Limit of every call.
        deadline: Duration,
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
