use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, timeout};

use super::app::App;
use crate::routing::{REFRESH_INTERVAL, SPEEDS_INTERVAL, Strategy};
use crate::secrets::{self, CheckError, Salt};
use crate::store::{Database, StoreError};

const DATABASE_EVERY: Duration = Duration::from_secs(2);
const DATABASE_PATIENCE: Duration = Duration::from_secs(2);

/// Whether the database answered last time; the counters tell for themselves.
#[derive(Debug, Default)]
pub(super) struct StoreHealth {
    database_away: AtomicBool,
}

impl StoreHealth {
    pub(super) fn database_away(&self) -> bool {
        self.database_away.load(Ordering::Relaxed)
    }

    fn database(&self, outcome: Result<(), String>) {
        let away = outcome.is_err();
        let was = self.database_away.swap(away, Ordering::Relaxed);
        match outcome {
            Err(error) if !was => tracing::error!(
                error,
                "database away: cached keys and the master key work, other keys are refused with 503, spend is spooled"
            ),
            Ok(()) if was => tracing::info!("database back"),
            _ => {}
        }
    }
}

/// Pings the database for as long as the process runs.
pub(super) async fn watch_database(app: Arc<App>, database: Arc<dyn Database>) {
    let mut ticks = interval(DATABASE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let outcome = match timeout(DATABASE_PATIENCE, database.ping()).await {
            Ok(answer) => answer.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no answer within {} s", DATABASE_PATIENCE.as_secs())),
        };
        app.stores.database(outcome);
    }
}

/// Refuses a salt key that is not the one of the stored credentials. A database that is away is asked by what is
/// returned, as soon as it answers: then the wrong key is told in the log, and traffic to the models of the file goes
/// on. The credentials are safe either way: whatever reads or stores one checks the key first.
///
/// # Errors
/// [`CheckError`], unless the database is away.
pub(super) async fn check_salt(
    database: Arc<dyn Database>,
    salt: Option<Salt>,
) -> Result<Option<impl Future<Output = ()> + Send + 'static>, CheckError> {
    match secrets::check(&*database, salt.as_ref()).await {
        Ok(()) => Ok(None),
        Err(CheckError::Store(StoreError::Unavailable { .. })) => Ok(Some(check_salt_later(database, salt))),
        Err(error) => Err(error),
    }
}

async fn check_salt_later(database: Arc<dyn Database>, salt: Option<Salt>) {
    loop {
        tokio::time::sleep(DATABASE_EVERY).await;
        match secrets::check(&*database, salt.as_ref()).await {
            Err(CheckError::Store(StoreError::Unavailable { .. })) => {}
            Ok(()) => return,
            Err(error) => {
                tracing::error!(%error, "stored credentials cannot be read");
                return;
            }
        }
    }
}

/// Keeps the circuit breakers fresh for as long as the process runs: what another replica has seen counts here too.
pub(super) async fn watch_breakers(app: Arc<App>) {
    let mut ticks = interval(REFRESH_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut state = Freshness::new("circuit breakers");
    loop {
        ticks.tick().await;
        state.ended(app.routing.breakers.refresh(&*app.routing.counters).await);
    }
}

/// The same for the speeds of deployments, while a group is routed by them.
pub(super) async fn watch_speeds(app: Arc<App>) {
    let mut ticks = interval(SPEEDS_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut state = Freshness::new("speeds of deployments");
    loop {
        ticks.tick().await;
        let snapshot = app.snapshot.load_full();
        if snapshot.groups.values().any(|group| matches!(group.strategy, Strategy::Latency(_))) {
            state.ended(app.routing.speeds.refresh(&*app.routing.counters).await);
        }
    }
}

/// Says once that something is not fresh any more, and once that it is again.
struct Freshness {
    what: &'static str,
    stale: bool,
}

impl Freshness {
    fn new(what: &'static str) -> Self {
        Self { what, stale: false }
    }

    fn ended(&mut self, outcome: Result<(), StoreError>) {
        match outcome {
            Err(error) if !self.stale => {
                tracing::warn!(%error, "{} are this process's own until the counters are back", self.what);
                self.stale = true;
            }
            Ok(()) if self.stale => {
                tracing::info!("{} are shared again", self.what);
                self.stale = false;
            }
            _ => {}
        }
    }
}
