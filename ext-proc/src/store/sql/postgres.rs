use std::collections::HashSet;
use std::str::FromStr;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use parking_lot::Mutex;
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions, Connection as _};
use tokio::sync::watch;

use super::errors::{broken, is_refusal, migration_error, store_error, unavailable};
use super::lease::Lease;
use crate::config::Secret;
use crate::store::StoreError;

/// Parameter 1, a JSON array of objects, as the table `given` with these columns.
macro_rules! given {
    ($first:ident $type:ident $(, $name:ident $other:ident)*) => {
        concat!(
            "JSON_TO_RECORDSET($1::json) AS given (", stringify!($first), " ", stringify!($type)
            $(, ", ", stringify!($name), " ", stringify!($other))*, ")"
        )
    };
}

/// Parameters by number, one array per column, as the table `given`: for many rows, of which the ledger writes thousands a
/// second.
macro_rules! given_columns {
    ($number:literal $first:ident $type:ident $(, $numbers:literal $name:ident $types:ident)*) => {
        concat!(
            "UNNEST($", stringify!($number), "::", stringify!($type), "[]"
            $(, ", $", stringify!($numbers), "::", stringify!($types), "[]")*,
            ") AS given (", stringify!($first) $(, ", ", stringify!($name))*, ")"
        )
    };
}

/// Binds these fields of rows to the parameters of `given_columns!`, in order.
macro_rules! bind_columns {
    ($query:expr, $rows:expr, $($name:ident),+) => {
        $query$(.bind($rows.iter().map(|row| row.$name).collect::<Vec<_>>()))+
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
        ("= ANY(ARRAY(SELECT JSON_ARRAY_ELEMENTS_TEXT(", "::json)))")
    };
}

/// Before and after a parameter that is a tag: the row of `attache_spend` has it.
macro_rules! has_tag {
    () => {
        ("tags::jsonb ? ", "")
    };
}

/// Name of the least of several values.
macro_rules! least {
    () => {
        "LEAST"
    };
}

/// At the end of a SELECT of `attache_entities AS e`: nobody else changes these rows until the transaction ends.
macro_rules! lock {
    () => {
        " FOR UPDATE OF e"
    };
}

/// The tags of a row of `new`, as the table `tag`.
macro_rules! each_tag {
    () => {
        "LATERAL JSON_ARRAY_ELEMENTS_TEXT(new.tags::json) AS tag (value)"
    };
}

#[path = "shared/apply.rs"]
#[expect(clippy::duplicate_mod, reason = "one text of the statements, compiled for each driver")]
mod apply;
#[path = "shared/charge.rs"]
#[expect(clippy::duplicate_mod, reason = "one text of the statements, compiled for each driver")]
mod charge;
#[path = "shared/directory.rs"]
#[expect(clippy::duplicate_mod, reason = "one text of the statements, compiled for each driver")]
mod directory;
#[path = "postgres_feed.rs"]
mod feed;
#[path = "shared/ledger.rs"]
#[expect(clippy::duplicate_mod, reason = "one text of the statements, compiled for each driver")]
mod ledger;
#[path = "shared/list.rs"]
#[expect(clippy::duplicate_mod, reason = "one text of the statements, compiled for each driver")]
mod list;
#[path = "shared/prompts.rs"]
#[expect(clippy::duplicate_mod, reason = "one text of the statements, compiled for each driver")]
mod prompts;
#[path = "shared/rebuild.rs"]
#[expect(clippy::duplicate_mod, reason = "one text of the statements, compiled for each driver")]
mod rebuild;
#[path = "shared/reports.rs"]
#[expect(clippy::duplicate_mod, reason = "one text of the statements, compiled for each driver")]
mod reports;
#[path = "postgres_retain.rs"]
mod retain;
#[path = "postgres_rows.rs"]
mod rows;
#[path = "shared/upkeep.rs"]
#[expect(clippy::duplicate_mod, reason = "one text of the statements, compiled for each driver")]
mod upkeep;
#[path = "shared/verify.rs"]
#[expect(clippy::duplicate_mod, reason = "one text of the statements, compiled for each driver")]
mod verify;

use PostgresStore as Store;
type Db = sqlx::Postgres;
type Connection = sqlx::PgConnection;

const BACKEND: &str = "postgres";
const BEGIN: &str = "BEGIN";
/// One view of everything, however long it takes.
const SNAPSHOT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
/// What a call is for: how long it may take, waiting for a connection included. The gate waits a second for a key.
const READ: Duration = Duration::from_millis(900);
const MUTATION: Duration = Duration::from_secs(5);
/// A report.
const REPORT: Duration = Duration::from_secs(20);
const WRITE: Duration = Duration::from_secs(20);
/// What people wait for who check or mend the ledger.
const CHECK: Duration = Duration::from_secs(24 * 3_600);
const REBUILD: Duration = CHECK;
/// Longest wait for Postgres at start, and for one attempt to connect.
const FIRST: Duration = Duration::from_secs(3);
const ATTEMPT: Duration = Duration::from_secs(60);
/// Longest time for bringing the tables up to date: one migration copies the ledger.
const MIGRATION: Duration = Duration::from_secs(600);
/// Between attempts to connect and migrate.
const RETRY: Duration = Duration::from_millis(500);

/// Entities and ledger in Postgres, shared by replicas.
#[derive(Debug)]
pub struct PostgresStore {
    pool: PgPool,
    state: watch::Receiver<State>,
    migration: tokio::task::JoinHandle<()>,
    /// When the feed of changes was last pruned, Unix milliseconds.
    pruned_ms: AtomicU64,
    /// Unix days that have a partition, as far as it was seen.
    days: Mutex<HashSet<i64>>,
}

/// Are the tables there?
#[derive(Debug, Clone)]
enum State {
    /// No attempt has ended yet.
    Starting,
    /// The last attempt failed; the next one comes.
    Waiting(String),
    /// As `Waiting`, but time alone will not mend it.
    Refused(String),
    Ready,
}

impl PostgresStore {
    /// Waits a little for the first connection, then returns in any case but a refusal (see [`is_refusal`]); the
    /// attempts go on behind.
    pub async fn open(url: &Secret, connections: u32, connect_timeout: Duration) -> Result<Self, StoreError> {
        let options = options(url)?;
        let pool = PgPoolOptions::new()
            .max_connections(connections.max(1))
            .acquire_timeout(connect_timeout.clamp(READ, ATTEMPT))
            // A connection keeps the room that its largest batch of rows took, some 700 KB each.
            .after_release(|connection, _| {
                connection.shrink_buffers();
                Box::pin(async { Ok(true) })
            })
            .connect_lazy_with(options.clone());
        let (sender, mut state) = watch::channel(State::Starting);
        let migration = tokio::spawn(keep_migrating(options, connect_timeout.clamp(READ, ATTEMPT), sender));
        let first = state.wait_for(|state| !matches!(state, State::Starting));
        if let Ok(Ok(state)) = tokio::time::timeout(FIRST, first).await
            && let State::Refused(reason) = &*state
        {
            return Err(broken(BACKEND, reason));
        }
        Ok(Self { pool, state, migration, pruned_ms: AtomicU64::new(0), days: Mutex::default() })
    }

    async fn lease(&self, limit: Duration) -> Result<Lease<Db>, StoreError> {
        match &*self.state.borrow() {
            State::Ready => {}
            State::Starting => return Err(unavailable(BACKEND, "not connected yet")),
            State::Waiting(reason) | State::Refused(reason) => return Err(unavailable(BACKEND, reason)),
        }
        Lease::take(BACKEND, &self.pool, limit).await
    }
}

impl Drop for PostgresStore {
    fn drop(&mut self) {
        self.migration.abort();
    }
}

/// Tries until the tables are up to date, telling of every change once.
async fn keep_migrating(options: PgConnectOptions, connect_timeout: Duration, state: watch::Sender<State>) {
    let mut told = String::new();
    loop {
        let outcome = match tokio::time::timeout(MIGRATION, migrate(&options, connect_timeout)).await {
            Ok(outcome) => outcome,
            Err(_) => State::Waiting("migrations did not end in time".into()),
        };
        match &outcome {
            State::Ready => {
                if !told.is_empty() {
                    tracing::info!("postgres is back, its tables are up to date");
                }
                state.send_replace(outcome);
                return;
            }
            State::Waiting(reason) | State::Refused(reason) if *reason != told => {
                tracing::warn!(reason, "postgres is not usable yet; trying again");
                told.clone_from(reason);
            }
            _ => {}
        }
        state.send_replace(outcome);
        tokio::time::sleep(RETRY).await;
    }
}

/// One attempt, on a connection of its own: the pool would hide why it cannot connect.
async fn migrate(options: &PgConnectOptions, connect_timeout: Duration) -> State {
    let mut connection = match tokio::time::timeout(connect_timeout, options.connect()).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) if is_refusal(&error) => return State::Refused(error.to_string()),
        Ok(Err(error)) => return State::Waiting(store_error(BACKEND, &error).to_string()),
        Err(_) => return State::Waiting("no connection in time".into()),
    };
    // Holds an advisory lock meanwhile: sidecars that start together take turns.
    let outcome = migrator().run_direct(None, &mut connection, false).await;
    let state = match outcome.map_err(|error| migration_error(BACKEND, &error)) {
        Ok(()) => State::Ready,
        Err(StoreError::Unavailable { reason, .. }) => State::Waiting(reason),
        Err(error) => State::Refused(error.to_string()),
    };
    let _ = connection.close().await;
    state
}

fn migrator() -> Migrator {
    let mut migrator = sqlx::migrate!("migrations/postgres");
    migrator.dangerous_set_table_name("attache_migrations");
    migrator
}

/// Parameters of the URL that the driver knows, or that are translated here. LiteLLM's URLs carry Prisma's own
/// parameters; the driver would log those, with their values.
pub(crate) fn options(url: &Secret) -> Result<PgConnectOptions, StoreError> {
    const KNOWN: [&str; 9] = [
        "sslmode",
        "sslrootcert",
        "sslcert",
        "sslkey",
        "host",
        "port",
        "application_name",
        "options",
        "statement-cache-capacity",
    ];
    let (base, query) = url.expose().split_once('?').unwrap_or((url.expose(), ""));
    let pairs: Vec<(&str, &str)> = query.split('&').filter_map(|pair| pair.split_once('=')).collect();
    let known: Vec<String> = pairs
        .iter()
        .filter(|(key, _)| KNOWN.contains(key))
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let mut options = PgConnectOptions::from_str(&format!("{base}?{}", known.join("&")))
        // Not the URL itself: it has the password.
        .map_err(|_| broken(BACKEND, "database_url is not a valid postgres:// URL"))?
        .disable_statement_logging();
    if !known.iter().any(|pair| pair.starts_with("application_name=")) {
        options = options.application_name("attache");
    }
    for (key, value) in pairs {
        match key {
            "schema" => options = options.options([("search_path", value)]),
            // A transaction pooler: prepared statements do not survive on it.
            "pgbouncer" if value == "true" => options = options.statement_cache_capacity(0),
            _ => {}
        }
    }
    Ok(options)
}
