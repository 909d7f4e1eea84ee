//! Stores: one trait per concern, each with an embedded default (in process, SQLite) and a production backend
//! (Redis, Postgres), chosen by configuration. One test suite runs over all of them.

mod directory;
mod memory;
mod prompts;
mod redis;
mod reports;
mod reservation;
mod resilient;
mod sql;
#[doc(hidden)]
pub mod testing;
mod types;
mod upkeep;

#[cfg(test)]
mod counters_tests;
#[cfg(test)]
mod database_tests;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

pub use directory::{
    AuditFilter, AuditRow, Author, Change, Changes, Directory, Filter, Page, Sort, UsageSum, Write,
};
pub use memory::Memory;
pub use prompts::{PromptRow, Prompts};
pub use redis::{RedisCounters, RedisStream, StreamEntry, StreamServer};
pub use reports::{
    By, DAY_US, DailyKind, DailySums, Days, Reports, RowFilter, RowQuery, RowSort, SumFilter, SumGroup,
    SumQuery,
};
pub use reservation::Reservation;
pub use resilient::Resilient;
pub(crate) use sql::postgres_options;
pub use sql::{PostgresStore, SqliteStore};
pub use types::{
    Admission, Admitted, Candidate, Charge, Circuit, Correction, Counter, CounterBackend, DatabaseBackend,
    Failure, LedgerTotals, Limited, Observation, Pick, Place, RedisNodes, RedisServers, Sample, Seed,
    Settlement, Speed, SpendLine, SpendRow, Standing, StoreError, Transition, Trip,
};

pub use upkeep::{Difference, Rebuilt, Retention, Scope, Tended, Upkeep, Verified};

/// Spend rows (table `attache_spend`), unique by `call_id`.
#[async_trait]
pub trait Ledger: Prompts {
    /// Writes rows in one transaction, ignoring those whose `call_id` is there already, and adds the new ones to the
    /// spend and use (tables `attache_entities`, `attache_usage`) of whom they are charged to. Returns how many were
    /// new.
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
    async fn place(&self, admission: &Admission) -> Result<Place, StoreError>;
    /// As [`Self::place`], with reservations of the same charges under these ids, too: all or none of them. They wait for their
    /// use, and must keep nobody out meanwhile: they are made only where [`MORE_ROOM`] times as much is left as they charge
    /// together, never of a deployment that is probed, and never while this process counts alone ([`Admitted::Full`]). The
    /// values are those after all of them.
    async fn place_all(&self, admission: &Admission, more: &[String]) -> Result<Place, StoreError> {
        if more.is_empty() {
            return self.place(admission).await;
        }
        Ok(Place { admitted: Admitted::Full(Vec::new()), values: Vec::new() })
    }
    /// As [`Self::place`], without the values.
    async fn admit(&self, admission: &Admission) -> Result<Admitted, StoreError> {
        Ok(self.place(admission).await?.admitted)
    }
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
    /// What is on these counters (a few dozen at most), `None` for those that are not there; takes a turn of that length
    /// for comparing them with the ledger. `None` altogether: it is another replica's turn, or nobody can say now.
    async fn standing(
        &self,
        counters: &[Counter],
        turn: Duration,
    ) -> Result<Option<Vec<Option<Standing>>>, StoreError>;
    /// Moves counters that are there; false when it is not this replica's turn any more.
    async fn correct(&self, corrections: &[Correction]) -> Result<bool, StoreError>;
    /// Counters that were brought back, since the last question, to a backend that had lost them.
    fn restored(&self) -> Vec<Counter> {
        Vec::new()
    }
    /// Does this process count alone, because the shared backend is away?
    fn degraded(&self) -> bool {
        false
    }
}

/// Entities and ledger live in one database.
pub trait Database: Directory + Ledger + Reports + Upkeep {}

impl<T: Directory + Ledger + Reports + Upkeep> Database for T {}

/// Deadline of every call to Redis: a request waits no longer for its counters.
pub const REDIS_DEADLINE: Duration = Duration::from_millis(20);
/// How many times what is reserved ahead must be left of a limit ([`Counters::place_all`]). A gate asks for a sixteenth
/// of what it sees in a tenth of a second, or less: so what is left is enough for what ten workers as busy see until what is
/// not used is back, 0.15 s later, and nobody is refused for it.
pub(crate) const MORE_ROOM: u64 = 256;
/// How often a lost Redis is asked whether it is back, and a present one whether it still has its data.
const PROBE: Duration = Duration::from_millis(250);
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
        CounterBackend::Redis { servers, deadline, fail_closed } => {
            open_redis(servers, *deadline, PROBE, *fail_closed).await
        }
    }
}

async fn open_redis(
    servers: &RedisServers,
    deadline: Duration,
    probe: Duration,
    fail_closed: bool,
) -> Result<Arc<dyn Counters>, StoreError> {
    let redis = Arc::new(RedisCounters::new(servers, deadline)?);
    Ok(Arc::new(Resilient::open(redis, probe, fail_closed).await))
}
