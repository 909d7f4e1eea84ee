//! Stores: one trait per concern, each with an embedded default (in process, SQLite) and a production backend
//! (Redis, Postgres), chosen by configuration. One test suite runs over all of them.

mod memory;
mod redis;
mod reservation;
mod resilient;
mod sql;
#[doc(hidden)]
pub mod testing;
mod types;

#[cfg(test)]
mod counters_tests;
#[cfg(test)]
mod database_tests;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::config::Secret;

pub use memory::Memory;
pub use redis::RedisCounters;
pub use reservation::Reservation;
pub use resilient::Resilient;
pub use sql::{PostgresStore, SqliteStore};
pub use types::{
    Admission, Admitted, Candidate, Charge, Circuit, Counter, CounterBackend, DatabaseBackend, Failure,
    KeyRow, LedgerTotals, Limited, NewKey, Observation, Pick, Sample, Settlement, Speed, SpendRow,
    StoreError, Transition, Trip,
};

/// Virtual keys (table `attache_keys`).
#[async_trait]
pub trait KeyStore: Send + Sync {
    /// One key by its hash, blocked and expired ones included.
    async fn key(&self, hash: &str) -> Result<Option<KeyRow>, StoreError>;
    /// Inserts; a hash or alias that exists is [`StoreError::Conflict`] naming which.
    async fn insert_key(&self, key: NewKey) -> Result<KeyRow, StoreError>;
    /// Deletes by hash, returning the hashes that existed. The spend rows stay.
    async fn delete_keys(&self, hashes: &[String]) -> Result<Vec<String>, StoreError>;
    /// `(alias, hash)` of those of these aliases that exist.
    async fn hashes_of_aliases(&self, aliases: &[String]) -> Result<Vec<(String, String)>, StoreError>;
    /// Blocks or unblocks; `None` when unknown.
    async fn set_blocked(&self, hash: &str, blocked: bool) -> Result<Option<KeyRow>, StoreError>;
    /// Is the store reachable?
    async fn ping(&self) -> Result<(), StoreError>;
}

/// Spend rows (table `attache_spend`), unique by `call_id`.
#[async_trait]
pub trait Ledger: Send + Sync {
    /// Writes rows in one transaction, ignoring those whose `call_id` is there already, and adds the cost of
    /// the new ones to `attache_keys.spend_nanos`. Returns how many were new.
    async fn write(&self, rows: &[SpendRow]) -> Result<u64, StoreError>;
    /// Newest first, at most `limit`; of one key if `key` is given.
    async fn rows(&self, key: Option<&str>, limit: u32) -> Result<Vec<SpendRow>, StoreError>;
    /// One row.
    async fn row(&self, call_id: &str) -> Result<Option<SpendRow>, StoreError>;
    /// Sums over everything (tests, `/global/spend`).
    async fn totals(&self) -> Result<LedgerTotals, StoreError>;
}

/// Counters, reservations and circuit breakers, shared by replicas when the backend is Redis.
///
/// Every call has a deadline of its own (20 ms over Redis); on [`StoreError::Unavailable`] the caller goes on
/// with the in-process twin and says so.
#[async_trait]
pub trait Counters: Send + Sync {
    /// Picks a candidate with room and charges it, atomically, under a lease. Asking again with an id that holds a
    /// lease already answers with what it holds, and charges nothing. No counter is to be charged twice.
    async fn admit(&self, admission: &Admission) -> Result<Admitted, StoreError>;
    /// Settles many in one round trip. Per settlement: false when its id is unknown, settled already or over.
    async fn settle_all(&self, settlements: &[Settlement]) -> Result<Vec<bool>, StoreError>;
    /// Counts outcomes, in one round trip, and opens or closes circuit breakers. The later deadline of an open one
    /// wins. Of one observation the failures come first: a success beside them closes nothing.
    async fn observe(&self, outcomes: &[Observation]) -> Result<Vec<Transition>, StoreError>;
    /// Every circuit breaker that is not closed, half-open ones included. One that nobody probes is forgotten an hour
    /// after its deadline.
    async fn circuits(&self) -> Result<Vec<Circuit>, StoreError>;
    /// Current values, 0 where there is none.
    async fn values(&self, counters: &[Counter]) -> Result<Vec<u64>, StoreError>;
    /// Keeps the newest `keep` samples per deployment and kind, for `ttl` after the last.
    async fn add_samples(&self, samples: &[Sample], keep: usize, ttl: Duration) -> Result<(), StoreError>;
    /// All samples of all replicas, oldest first per deployment and kind.
    async fn samples(&self) -> Result<Vec<Sample>, StoreError>;
    /// Is the backend reachable?
    async fn ping(&self) -> Result<(), StoreError>;
    /// Does this process count alone, because the shared backend is away?
    fn degraded(&self) -> bool {
        false
    }
}

/// Keys and ledger live in one database.
pub trait Database: KeyStore + Ledger {}

impl<T: KeyStore + Ledger> Database for T {}

/// Deadline of every call to Redis: a request waits no longer for its counters.
pub const REDIS_DEADLINE: Duration = Duration::from_millis(20);
/// How often a lost Redis is asked whether it is back.
const PROBE: Duration = Duration::from_millis(500);
/// Largest amount of one charge (a million dollars in nano-dollars): no upstream's numbers overflow a counter.
const MAX_AMOUNT: u64 = 1_000_000_000_000_000;
/// Longest cooldown, whatever an upstream's `retry-after` says.
const MAX_COOLDOWN: Duration = Duration::from_secs(86_400);
/// How long after its deadline a breaker that nobody probes stays half-open.
const FORGET_CIRCUIT: Duration = Duration::from_secs(3_600);
/// Samples kept per deployment and speed, whatever the configuration says.
const MAX_SAMPLES: usize = 1_000;
/// Deployments and speeds that samples are kept of.
const MAX_SAMPLE_NAMES: usize = 40_000;

/// Opens the database and brings its tables up to date.
///
/// SQLite is ready when this returns. Postgres may be away: then this returns all the same, every call is
/// [`StoreError::Unavailable`] until it answers, and the migrations run as soon as it does. A database that
/// refuses us (credentials, no such database, foreign tables) is [`StoreError::Broken`].
pub async fn open_database(backend: &DatabaseBackend) -> Result<Arc<dyn Database>, StoreError> {
    Ok(match backend {
        DatabaseBackend::Sqlite { path } => Arc::new(SqliteStore::open(path).await?),
        DatabaseBackend::Postgres { url, max_connections, connect_timeout } => {
            Arc::new(PostgresStore::open(url, *max_connections, *connect_timeout).await?)
        }
    })
}

/// Opens the counters. Redis may be away: the in-process twin counts until it answers.
pub async fn open_counters(backend: &CounterBackend) -> Result<Arc<dyn Counters>, StoreError> {
    match backend {
        CounterBackend::Memory => Ok(Arc::new(Memory::default())),
        CounterBackend::Redis { url, deadline } => open_redis(url, *deadline, PROBE).await,
    }
}

async fn open_redis(
    url: &Secret,
    deadline: Duration,
    probe: Duration,
) -> Result<Arc<dyn Counters>, StoreError> {
    let redis = Arc::new(RedisCounters::new(url, deadline)?);
    let connected = redis.connect().await;
    let counters = Resilient::new(redis, probe);
    if let Err(error) = connected {
        counters.lost(&error);
    }
    Ok(Arc::new(counters))
}
