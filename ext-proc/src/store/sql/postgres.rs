use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions, Connection as _};
use tokio::sync::watch;

use super::errors::{broken, is_refusal, migration_error, store_error, unavailable};
use super::lease::Lease;
use crate::config::Secret;
use crate::store::StoreError;

#[path = "shared.rs"]
#[expect(clippy::duplicate_mod, reason = "one text of the statements, compiled for each driver")]
mod shared;

use PostgresStore as Store;
type Db = sqlx::Postgres;
type Connection = sqlx::PgConnection;

const BACKEND: &str = "postgres";
const BEGIN: &str = "BEGIN";
/// What a call is for: how long it may take, waiting for a connection included. The gate waits a second for a key.
const READ: Duration = Duration::from_millis(900);
const MUTATION: Duration = Duration::from_secs(5);
const WRITE: Duration = Duration::from_secs(20);
/// Longest wait for Postgres at start, and for one attempt to connect and migrate.
const FIRST: Duration = Duration::from_secs(3);
const ATTEMPT: Duration = Duration::from_secs(60);
/// Between attempts to connect and migrate.
const RETRY: Duration = Duration::from_millis(500);
/// Locks the keys in order, so that the update below, whose own order nobody promises, never deadlocks.
const LOCK_KEYS: &str = "SELECT hash FROM attache_keys WHERE hash = ANY($1) ORDER BY hash FOR UPDATE";
const ADD_SPEND: &str = "UPDATE attache_keys SET spend_nanos = spend_nanos + new.cost \
     FROM UNNEST($1::text[], $2::bigint[]) AS new (hash, cost) WHERE attache_keys.hash = new.hash";

/// Keys and ledger in Postgres, shared by replicas.
#[derive(Debug)]
pub struct PostgresStore {
    pool: PgPool,
    state: watch::Receiver<State>,
    migration: tokio::task::JoinHandle<()>,
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
            .connect_lazy_with(options.clone());
        let (sender, mut state) = watch::channel(State::Starting);
        let migration = tokio::spawn(keep_migrating(options, connect_timeout.clamp(READ, ATTEMPT), sender));
        let first = state.wait_for(|state| !matches!(state, State::Starting));
        if let Ok(Ok(state)) = tokio::time::timeout(FIRST, first).await
            && let State::Refused(reason) = &*state
        {
            return Err(broken(BACKEND, reason));
        }
        Ok(Self { pool, state, migration })
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
        let outcome = match tokio::time::timeout(ATTEMPT, migrate(&options, connect_timeout)).await {
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
fn options(url: &Secret) -> Result<PgConnectOptions, StoreError> {
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

async fn add_spend(connection: &mut Connection, spent: BTreeMap<String, i64>) -> sqlx::Result<()> {
    if spent.is_empty() {
        return Ok(());
    }
    let (hashes, costs): (Vec<String>, Vec<i64>) = spent.into_iter().unzip();
    sqlx::query(LOCK_KEYS).bind(&hashes).execute(&mut *connection).await?;
    sqlx::query(ADD_SPEND).bind(&hashes).bind(&costs).execute(&mut *connection).await?;
    Ok(())
}
