//! Care for the ledger's tables beside requests.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::Config;
use crate::store::{Database, Retention, Tended};

/// After the start, so that replicas that start together are ready first.
const FIRST: Duration = Duration::from_secs(60);
/// The tables of the next days are looked at this often.
const OFTEN: Duration = Duration::from_secs(3_600);
/// After a failure, or when others held what is to go.
const AGAIN: Duration = Duration::from_secs(600);
/// Use is kept for longer than any budget's window but those for ever, which know their spend without it.
pub(super) const USAGE: Duration = Duration::from_secs(400 * 86_400);

/// Makes the ledger's tables ahead of time and deletes what is older than the configuration wants, for as long as the
/// process runs. Replicas may do it at once.
pub(super) async fn tend(config: Arc<Config>, database: Arc<dyn Database>) {
    let general = &config.general_settings;
    let every = Duration::from_secs(general.maximum_spend_logs_retention_interval.max(1));
    let rows = Some(general.maximum_spend_logs_retention_period).filter(|seconds| *seconds > 0);
    let rows = rows.map(Duration::from_secs);
    let mut wait = FIRST.min(every);
    let mut due = Instant::now();
    loop {
        tokio::time::sleep(wait).await;
        let retention = Retention { rows: rows.filter(|_| due <= Instant::now()), usage: USAGE };
        let tended = database.tend(&retention).await;
        wait = OFTEN.min(every);
        match tended {
            Ok(Tended { dropped, busy }) => {
                if !dropped.is_empty() {
                    tracing::info!(days = dropped.len(), "ledger: rows of old days deleted, their sums stay");
                }
                if busy {
                    tracing::debug!("ledger: old days are in use, trying again later");
                    wait = AGAIN.min(every);
                } else if retention.rows.is_some() {
                    due = Instant::now() + every;
                }
            }
            Err(error) => {
                tracing::warn!(%error, "ledger: no care taken of its tables, trying again later");
                wait = AGAIN.min(every);
            }
        }
    }
}
