use std::fs::{self, OpenOptions, Permissions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::migrate::Migrator;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};

use super::errors::{broken, migration_error};
use super::lease::Lease;
use crate::store::StoreError;

/// Parameter 1, a JSON array of objects, as the table `given` with these columns.
macro_rules! given {
    ($($name:ident $type:ident),+) => {
        concat!("(SELECT ", given!(@ $($name),+), " FROM JSON_EACH($1)) AS given")
    };
    (@ $first:ident $(, $name:ident)*) => {
        concat!(
            "JSON_EXTRACT(value, '$.", stringify!($first), "') AS ", stringify!($first)
            $(, ", JSON_EXTRACT(value, '$.", stringify!($name), "') AS ", stringify!($name))*
        )
    };
}

/// As `given!`; the columns are numbered for the other dialect.
macro_rules! given_columns {
    ($($number:literal $name:ident $type:ident),+) => {
        given!($($name $type),+)
    };
}

/// Binds rows to the parameter of `given_columns!`.
macro_rules! bind_columns {
    ($query:expr, $rows:expr, $($name:ident),+) => {
        $query.bind(given(&$rows[..])?)
    };
}

/// Rows of `attache_entities`, as `given!`.
macro_rules! given_entities {
    () => {
        given!(kind text, id text, account text, name text, alias text, team_id text, user_id text,
            organization_id text, budget_id text, role text, email text, successor text, blocked boolean,
            expires_ms bigint, settings text, spend_nanos bigint, spend_reset_ms bigint, created_ms bigint,
            updated_ms bigint, created_by text, updated_by text)
    };
}

/// Before and after a parameter that is a JSON array of texts: equal to any of these.
macro_rules! any_of {
    () => {
        ("IN (SELECT value FROM JSON_EACH(", "))")
    };
}

/// Before and after a parameter that is a tag: the row of `attache_spend` has it.
macro_rules! has_tag {
    () => {
        ("EXISTS (SELECT 1 FROM JSON_EACH(tags) WHERE value = ", ")")
    };
}

/// Name of the least of several values.
macro_rules! least {
    () => {
        "MIN"
    };
}

/// The writer has the whole file to itself.
macro_rules! lock {
    () => {
        ""
    };
}

/// The tags of a row of `new`, as the table `tag`.
macro_rules! each_tag {
    () => {
        "JSON_EACH(new.tags) AS tag"
    };
}

#[path = "shared/apply.rs"]
mod apply;
#[path = "shared/charge.rs"]
mod charge;
#[path = "shared/directory.rs"]
mod directory;
#[path = "sqlite_feed.rs"]
mod feed;
#[path = "shared/ledger.rs"]
mod ledger;
#[path = "shared/list.rs"]
mod list;
#[path = "shared/prompts.rs"]
mod prompts;
#[path = "shared/rebuild.rs"]
mod rebuild;
#[path = "shared/reports.rs"]
mod reports;
#[path = "sqlite_retain.rs"]
mod retain;
#[path = "sqlite_rows.rs"]
mod rows;
#[path = "shared/upkeep.rs"]
mod upkeep;
#[path = "shared/verify.rs"]
mod verify;

use SqliteStore as Store;
type Db = sqlx::Sqlite;
type Connection = sqlx::SqliteConnection;

pub(super) const BACKEND: &str = "sqlite";
/// Takes the write lock at once; a transaction that first reads could not wait for it later.
const BEGIN: &str = "BEGIN IMMEDIATE";
/// One view of everything, however long it takes.
const SNAPSHOT: &str = "BEGIN";
/// What a call is for: which pool, and how long it may take.
const READ: Purpose = Purpose { writes: false, limit: Duration::from_secs(5) };
const MUTATION: Purpose = Purpose { writes: true, limit: Duration::from_secs(10) };
/// A report reads as long as it takes, and keeps nobody from writing.
const REPORT: Purpose = Purpose { writes: false, limit: Duration::from_secs(30) };
const WRITE: Purpose = Purpose { writes: true, limit: Duration::from_secs(30) };
/// What people wait for who check or mend the ledger.
const CHECK: Purpose = Purpose { writes: false, limit: Duration::from_secs(24 * 3_600) };
const REBUILD: Purpose = Purpose { writes: true, limit: CHECK.limit };
/// How long SQLite itself waits for another process's lock.
const BUSY: Duration = Duration::from_secs(4);
const READERS: u32 = 4;

#[derive(Clone, Copy)]
struct Purpose {
    writes: bool,
    limit: Duration,
}

/// Entities and ledger in one file: the embedded default. WAL, one writer, every commit synced to disk.
#[derive(Debug)]
pub struct SqliteStore {
    readers: SqlitePool,
    writer: SqlitePool,
    /// When the feed of changes was last pruned, Unix milliseconds.
    pruned_ms: AtomicU64,
}

impl SqliteStore {
    /// Creates the file (mode 0600) and its directory as needed and brings the tables up to date.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        private_file(path).map_err(|error| broken(BACKEND, format!("{}: {error}", path.display())))?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY)
            .disable_statement_logging();
        let pool =
            |size: u32| SqlitePoolOptions::new().max_connections(size).connect_lazy_with(options.clone());
        let store = Self { readers: pool(READERS), writer: pool(1), pruned_ms: AtomicU64::new(0) };
        store.migrate().await?;
        Ok(store)
    }

    /// SQLite has no lock for migrations: when two processes start at once, the loser tries again.
    async fn migrate(&self) -> Result<(), StoreError> {
        let migrator = migrator();
        let mut tries = 0;
        loop {
            let Err(error) = migrator.run(&self.writer).await else { return Ok(()) };
            tries += 1;
            if tries == 5 {
                return Err(migration_error(BACKEND, &error));
            }
            tokio::time::sleep(Duration::from_millis(50 * tries)).await;
        }
    }

    async fn lease(&self, purpose: Purpose) -> Result<Lease<Db>, StoreError> {
        let pool = if purpose.writes { &self.writer } else { &self.readers };
        Lease::take(BACKEND, pool, purpose.limit).await
    }
}

fn migrator() -> Migrator {
    let mut migrator = sqlx::migrate!("migrations/sqlite");
    migrator.dangerous_set_table_name("attache_migrations");
    migrator
}

/// SQLite gives its -wal and -shm files the mode of the main file.
fn private_file(path: &Path) -> std::io::Result<()> {
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        fs::create_dir_all(directory)?;
    }
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))
}
