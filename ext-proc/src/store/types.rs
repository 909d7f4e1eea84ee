use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::Secret;
use crate::entity::EntityRef;

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
    /// End user.
    pub user: Option<String>,
    /// Owner of the key, its team, its organisation, and the tags, as the decision knew them.
    #[serde(default)]
    pub user_id: Option<String>,
    #[serde(default)]
    pub team_id: Option<String>,
    #[serde(default)]
    pub organization_id: Option<String>,
    #[serde(default)]
    pub tags: Vec<String>,
    /// To whose spend and usage the row is added; the key's hash alone when empty.
    #[serde(default)]
    pub charged: Vec<EntityRef>,
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
    /// Prompt tokens written to the provider's cache.
    #[serde(default)]
    pub cache_write_tokens: u64,
    pub reasoning_tokens: u64,
    /// Tokens are an estimate.
    pub estimated: bool,
    /// Nano-dollars: the sum of `lines`; `None` when the price of one is unknown.
    pub cost_nanos: Option<i64>,
    /// What the cost is made of: the attempts that cost money, in order.
    #[serde(default)]
    pub lines: Vec<SpendLine>,
    /// Unix microseconds.
    pub start_us: u64,
    pub duration_us: u64,
    pub first_event_us: Option<u64>,
}

/// One attempt that cost money, or may have.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SpendLine {
    /// Its place among the attempts of the request, from 0.
    pub attempt: u32,
    pub deployment: String,
    pub group: String,
    /// Empty when the configuration does not have the deployment any more.
    pub provider: String,
    /// Model name at the provider.
    pub model: String,
    /// How it ended: [`attache_llm::contract::AttemptOutcome`] as it is written (`complete`, `error_in_stream`).
    pub outcome: String,
    /// Status of the upstream; 0 when none came.
    pub status: u16,
    pub prompt: u64,
    pub completion: u64,
    pub cached: u64,
    pub cache_write: u64,
    pub reasoning: u64,
    /// Tokens are an estimate.
    pub estimated: bool,
    /// Nano-dollars; `None` when the price is unknown, or when nobody counted a whole answer.
    pub cost_nanos: Option<i64>,
    /// How the cost came about: [`attache_llm::price::Bill`] as text. Empty when the price is unknown.
    pub factors: String,
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
    /// Budgets: there is room as long as the counter is below the limit, and what is charged shrinks to what is left.
    pub shrink: bool,
    /// Where the counter begins when the backend does not have it.
    pub seed: Seed,
}

impl Limited {
    /// An amount and its limit, without the ways of budgets.
    #[must_use]
    pub fn new(counter: Counter, amount: u64, ttl: Duration, limit: Option<u64>) -> Self {
        Self { counter, amount, ttl, limit, shrink: false, seed: Seed::Zero }
    }
}

/// Where a counter begins that the backend does not have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Seed {
    #[default]
    Zero,
    /// Nobody knows yet: [`Admitted::Unseeded`], and nothing is charged.
    Ask,
    /// What the ledger says.
    Known(u64),
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
    /// A reservation of the same request, whose lease goes on until this one's ends.
    pub renew: Option<String>,
}

impl Admission {
    /// As if each charge were so many times as large, and had to fit as a whole: an amount above its limit has no room at all,
    /// and none shrinks. Who would be a probe is full.
    pub(crate) fn widened(&self, times: u64) -> Self {
        let wide = |limited: &Limited| {
            // A budget that is used up has no room for what is free either.
            let amount = limited.amount.saturating_mul(times).max(u64::from(limited.shrink));
            let limit = limited.limit.map(|limit| if amount > limit { 0 } else { limit });
            Limited { amount, limit, shrink: false, ..limited.clone() }
        };
        let all = |charges: &[Limited]| charges.iter().map(wide).collect();
        let candidates = self.candidates.iter();
        let candidates = candidates.map(|c| Candidate { charges: all(&c.charges), ..c.clone() });
        Self { required: all(&self.required), candidates: candidates.collect(), ..self.clone() }
    }
}

/// The answer to an [`Admission`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub admitted: Admitted,
    /// Counters after it was admitted: the required ones in order, then the candidate's. Asked again with an id that holds
    /// a lease: as they are now. Empty when nothing is held.
    pub values: Vec<u64>,
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
    /// These required limits have a counter that the backend does not have, and ask where it begins.
    Unseeded(Vec<usize>),
    /// No candidate has room. Why, per candidate: the first charge without room, `None` for a probe that is taken.
    Full(Vec<Option<usize>>),
}

/// What is on a counter, and how much of it is only reserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    pub value: u64,
    /// `None`: too many leases run to tell.
    pub held: Option<u64>,
}

/// Moves a counter to where the ledger says that it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Correction {
    pub counter: Counter,
    pub by: i64,
}

/// Ends a reservation with what was really used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    pub id: String,
    /// In place of what was reserved. Usually the same counters; one that is missing here is only taken back.
    pub actual: Vec<Charge>,
    /// Only the counters named in `actual` are settled (one that is not among the reserved ones is just charged); the rest
    /// stays reserved under its lease. In the life of a lease a counter is settled so once, however often it is told.
    pub stays: bool,
}

impl Settlement {
    /// The end of a reservation.
    #[must_use]
    pub fn end(id: String, actual: Vec<Charge>) -> Self {
        Self { id, actual, stays: false }
    }
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

/// Where counters and circuit breakers live; chosen by `router_settings.redis_*` and what else names a Redis.
#[derive(Debug, Clone)]
pub enum CounterBackend {
    /// The embedded default: this process.
    Memory,
    Redis {
        servers: RedisServers,
        /// Limit of every call.
        deadline: Duration,
        /// While Redis is away, what has a limit is refused ([`StoreError::Unavailable`]) rather than counted alone.
        fail_closed: bool,
    },
}

/// Ways to one Redis.
#[derive(Debug, Clone)]
pub struct RedisServers {
    /// Scheme (`redis`, `rediss`: TLS, `redis+unix`), login and database of every node; the host, if it is one server.
    pub url: Secret,
    pub nodes: RedisNodes,
    /// File (PEM) of the authorities that certificates are checked by; the system's when there is none.
    pub ca_certs: Option<PathBuf>,
}

impl RedisServers {
    /// The server of a URL.
    #[must_use]
    pub fn one(url: Secret) -> Self {
        Self { url, nodes: RedisNodes::One, ca_certs: None }
    }
}

/// For people: without the login.
impl std::fmt::Display for RedisServers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let list = |nodes: &[(String, u16)]| {
            nodes.iter().map(|(host, port)| format!("{host}:{port}")).collect::<Vec<_>>().join(", ")
        };
        match &self.nodes {
            RedisNodes::One => {
                let url = self.url.expose();
                let address = url.rsplit_once('@').map_or_else(
                    || url.split_once("://").map_or("", |(_, address)| address),
                    |(_, address)| address,
                );
                let address = address.split(['?', '#']).next().unwrap_or_default();
                write!(f, "Redis, {}", address.trim_end_matches('/'))?;
            }
            RedisNodes::Sentinels { nodes, service, .. } => {
                write!(f, "Redis, primary of {service}, by sentinels {}", list(nodes))?;
            }
            RedisNodes::Cluster(nodes) => write!(f, "Redis Cluster, by {}", list(nodes))?,
        }
        if self.url.expose().starts_with("rediss://") { f.write_str(", TLS") } else { Ok(()) }
    }
}

/// How to find the server that has the counters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedisNodes {
    /// The host of the URL.
    One,
    /// Sentinels name the primary of `service`.
    Sentinels {
        nodes: Vec<(String, u16)>,
        service: String,
        /// Of the sentinels themselves.
        password: Option<Secret>,
    },
    /// A cluster, found by these nodes.
    Cluster(Vec<(String, u16)>),
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
