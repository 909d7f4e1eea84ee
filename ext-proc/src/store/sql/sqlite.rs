use std::collections::BTreeMap;
use std::fs::{self, OpenOptions, Permissions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::migrate::Migrator;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};

use super::errors::{broken, migration_error};
use super::lease::Lease;
use crate::store::StoreError;

#[path = "shared.rs"]
mod shared;

use SqliteStore as Store;
type Db = sqlx::Sqlite;
type Connection = sqlx::SqliteConnection;

pub(super) const BACKEND: &str = "sqlite";
/// Takes the write lock at once; a transaction that first reads could not wait for it later.
const BEGIN: &str = "BEGIN IMMEDIATE";
/// What a call is for: which pool, and how long it may take.
const READ: Purpose = Purpose { writes: false, limit: Duration::from_secs(5) };
const MUTATION: Purpose = Purpose { writes: true, limit: Duration::from_secs(10) };
const WRITE: Purpose = Purpose { writes: true, limit: Duration::from_secs(30) };
/// How long SQLite itself waits for another process's lock.
const BUSY: Duration = Duration::from_secs(4);
const READERS: u32 = 4;
const ADD_SPEND: &str = "UPDATE attache_keys SET spend_nanos = spend_nanos + $2 WHERE hash = $1";

#[derive(Clone, Copy)]
struct Purpose {
    writes: bool,
    limit: Duration,
}

/// Keys and ledger in one file: the embedded default. WAL, one writer, every commit synced to disk.
#[derive(Debug)]
pub struct SqliteStore {
    readers: SqlitePool,
    writer: SqlitePool,
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
        let store = Self { readers: pool(READERS), writer: pool(1) };
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

async fn add_spend(connection: &mut Connection, spent: BTreeMap<String, i64>) -> sqlx::Result<()> {
    for (key, cost) in spent {
        sqlx::query(ADD_SPEND).bind(key).bind(cost).execute(&mut *connection).await?;
    }
    Ok(())
}
