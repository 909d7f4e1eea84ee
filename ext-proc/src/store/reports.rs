//! What reports ask of the ledger: sums per day and group (table `attache_daily`), and rows part by part
//! (`attache_spend`).

use async_trait::async_trait;

use super::{SpendRow, StoreError};

/// Microseconds of a day.
pub const DAY_US: u64 = 86_400_000_000;

/// Sums and rows of the ledger. A call may take long (up to half a minute): it is no request's business.
#[async_trait]
pub trait Reports: Send + Sync {
    /// Sums of the days, group by group. Without a limit in order of the groups, else the largest spend first. Never
    /// looks at rows.
    async fn sums(&self, query: &SumQuery) -> Result<Vec<SumGroup>, StoreError>;
    /// Rows in order, from `offset` or after a row, at most `limit`.
    async fn page(&self, query: &RowQuery) -> Result<Vec<SpendRow>, StoreError>;
    /// How many rows match, counted up to `most`.
    async fn count(&self, filter: &RowFilter, most: u32) -> Result<u64, StoreError>;
}

/// Whose sums are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DailyKind {
    /// Every request, once.
    #[default]
    All,
    User,
    Team,
    Organization,
    /// End user.
    Customer,
    /// A request counts once for each of its tags.
    Tag,
}

impl DailyKind {
    /// As the table writes it. `All` is there as `total` (without keys) and as `key`.
    #[must_use]
    pub const fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::All => return None,
            Self::User => "user",
            Self::Team => "team",
            Self::Organization => "organization",
            Self::Customer => "customer",
            Self::Tag => "tag",
        })
    }
}

/// Unix days, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Days {
    pub first: i64,
    pub last: i64,
}

impl Days {
    /// All there are.
    pub const ALL: Self = Self { first: 0, last: 3_000_000 };
}

impl Default for Days {
    fn default() -> Self {
        Self::ALL
    }
}

/// What sums are grouped by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// Id of the user, team, ... ([`SumFilter::kind`]).
    Id,
    Day,
    /// Key (hash).
    Key,
    /// Model at the provider.
    Model,
    ModelGroup,
    Provider,
    Endpoint,
}

/// Which sums. Everything given must match.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SumFilter {
    pub kind: DailyKind,
    /// Of users, teams, ...; `None`: of all of the kind.
    pub ids: Option<Vec<String>>,
    pub days: Days,
    /// Hashes.
    pub keys: Option<Vec<String>>,
    pub model: Option<String>,
    pub model_group: Option<String>,
    pub provider: Option<String>,
    pub endpoint: Option<String>,
}

/// A question about sums.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SumQuery {
    pub filter: SumFilter,
    /// Each at most once; none: one group of everything.
    pub by: Vec<By>,
    /// Groups at most, those with the largest spend.
    pub limit: Option<u32>,
    /// Only which groups, in their order: of their sums, requests and nano-dollars alone are told. A fraction of the work.
    pub rank_only: bool,
}

/// Sums of a group; what it is not grouped by is empty (0).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SumGroup {
    pub id: String,
    /// Unix days.
    pub day: i64,
    pub key: String,
    pub model: String,
    pub model_group: String,
    pub provider: String,
    pub endpoint: String,
    pub sums: DailySums,
}

/// Sums over requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DailySums {
    pub requests: u64,
    pub successes: u64,
    /// The rest of the requests were aborted by the client.
    pub failures: u64,
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
    pub cached_tokens: u64,
    pub cache_write_tokens: u64,
    /// Nano-dollars of those with a known price.
    pub nanos: u64,
    /// Requests without a known price.
    pub unpriced: u64,
    /// Requests whose tokens are an estimate.
    pub estimated: u64,
    pub duration_us: u64,
}

impl DailySums {
    /// Adds others, saturating.
    pub fn add(&mut self, other: &Self) {
        let add = |sum: &mut u64, more: u64| *sum = sum.saturating_add(more);
        add(&mut self.requests, other.requests);
        add(&mut self.successes, other.successes);
        add(&mut self.failures, other.failures);
        add(&mut self.prompt_tokens, other.prompt_tokens);
        add(&mut self.completion_tokens, other.completion_tokens);
        add(&mut self.cached_tokens, other.cached_tokens);
        add(&mut self.cache_write_tokens, other.cache_write_tokens);
        add(&mut self.nanos, other.nanos);
        add(&mut self.unpriced, other.unpriced);
        add(&mut self.estimated, other.estimated);
        add(&mut self.duration_us, other.duration_us);
    }
}

/// Which rows. Everything given must match.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RowFilter {
    /// Unix microseconds of the start, from this one on...
    pub from_us: u64,
    /// ...to before this one; `None`: no end.
    pub until_us: Option<u64>,
    /// Hashes.
    pub keys: Option<Vec<String>>,
    pub user_id: Option<String>,
    pub team_ids: Option<Vec<String>>,
    pub organization_ids: Option<Vec<String>>,
    pub end_user: Option<String>,
    pub tag: Option<String>,
    /// Model at the provider.
    pub model: Option<String>,
    pub model_group: Option<String>,
    pub provider: Option<String>,
    /// Succeeded, or did not.
    pub success: Option<bool>,
    /// Nano-dollars, both included; a row without a price has no spend to compare.
    pub min_nanos: Option<i64>,
    pub max_nanos: Option<i64>,
}

/// Order of rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RowSort {
    /// When the request began, then its id.
    #[default]
    Start,
    Spend,
    Tokens,
    Duration,
}

/// A question about rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RowQuery {
    pub filter: RowFilter,
    pub sort: RowSort,
    pub ascending: bool,
    /// Only with [`RowSort::Start`]: goes on behind the row with this start and call id.
    pub after: Option<(u64, String)>,
    pub offset: u64,
    pub limit: u32,
}
