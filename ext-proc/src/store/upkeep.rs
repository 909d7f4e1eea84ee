//! What keeps the ledger in order: partitions ahead of time, retention, and proof that its sums are those of its rows.

use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;

use super::StoreError;

/// Care for the ledger's tables. Unix days are meant by `day`: the UTC day on which a request began.
#[async_trait]
pub trait Upkeep: Send + Sync {
    /// Makes the tables of the next days, deletes rows of days that are wholly older than `retention.rows`, and use that is
    /// older than `retention.usage`. Sums per day stay. May be called by several processes at once.
    async fn tend(&self, retention: &Retention) -> Result<Tended, StoreError>;
    /// Computes everything again from the rows, on one consistent view of the database, while others write.
    async fn verify(&self, scope: &Scope) -> Result<Verified, StoreError>;
    /// Sets the sums of these days (all whose rows are there, if `None`) and then the spend of entities to what the rows
    /// say. Whoever writes rows of a day waits while it is done.
    async fn rebuild(&self, days: Option<&[i64]>) -> Result<Rebuilt, StoreError>;
}

/// How long what is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Rows of the ledger; `None`: for ever.
    pub rows: Option<Duration>,
    /// Use by quarters of an hour, which budgets begin with when their counter was lost.
    pub usage: Duration,
}

/// What [`Upkeep::tend`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tended {
    /// Days whose rows were deleted, oldest first.
    pub dropped: Vec<i64>,
    /// Something was in use by others: try again soon.
    pub busy: bool,
}

/// What [`Upkeep::verify`] looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scope {
    /// First day.
    pub since: Option<i64>,
    /// Differences that are told in full; the others are counted.
    pub shown: usize,
}

/// What was checked, and what does not balance.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// Days whose rows were read.
    pub days: u64,
    /// Days of `attache_daily` whose rows are not all there any more (retention): nothing to compare with.
    pub days_without_rows: u64,
    pub rows: u64,
    /// Lines of rows whose cost was computed again from their factors.
    pub lines: u64,
    /// Rows without a price.
    pub unpriced: u64,
    /// Rows older than the ledger's third migration, which do not say whom they are charged to. Use of their quarters of an
    /// hour is not compared.
    pub rows_without_charge: u64,
    /// Sums per day.
    pub daily: u64,
    /// Sums per quarter of an hour of whom rows are charged to.
    pub usage: u64,
    /// Entities with a spend.
    pub entities: u64,
    /// Sum of the costs of the rows, nano-dollars.
    pub nanos: u64,
    pub differences: u64,
    pub shown: Vec<Difference>,
}

/// Something that does not balance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Table and column, such as `attache_spend.cost_nanos`.
    pub of: &'static str,
    /// Which row of it.
    pub at: String,
    pub stored: String,
    /// By the rows below it.
    pub computed: String,
}

/// What [`Upkeep::rebuild`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Rebuilt {
    pub days: u64,
    pub rows: u64,
    /// Entities whose spend was changed.
    pub entities: u64,
}
