use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, timeout};

use super::app::App;
use crate::routing::{REFRESH_INTERVAL, SPEEDS_INTERVAL};
use crate::store::Database;

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

/// Keeps the cache of circuit breakers fresh for as long as the process runs.
pub(super) async fn watch_breakers(app: Arc<App>) {
    let mut ticks = interval(REFRESH_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = app.breakers.refresh(&*app.counters).await {
            // The counters log their outage themselves; own failures still count.
            tracing::debug!(%error, "circuit breakers not refreshed");
        }
    }
}

/// Keeps the measured speeds fresh for as long as the process runs.
pub(super) async fn watch_speeds(app: Arc<App>) {
    let mut ticks = interval(SPEEDS_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = app.speeds.refresh(&*app.counters).await {
            tracing::debug!(%error, "speeds not refreshed");
        }
    }
}
