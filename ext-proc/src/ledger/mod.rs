//! The books: every finished request becomes one row in the database, exactly once.
//!
//! ```text
//! accept -> priced -> spool (fsync) -> acknowledged to Envoy
//!                       \-> writer: batches into the database -> segment deleted
//! ```
//!
//! Rows are priced when they are accepted, with the configuration in force; they may be written much later. The
//! spool makes the acknowledgement true, the database makes it once: its rows are unique by call id, so that a
//! record sent twice, or a segment written twice after a crash, counts once.

mod row;
mod segment;
mod spool;
mod writer;

#[cfg(test)]
pub(crate) mod row_tests;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use attache_llm::contract::UsageRecord;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;

pub use row::row;
use spool::Spool;
use writer::{Flush, Writer};

use crate::routing::SnapshotHandle;
use crate::store::Database;

/// Rows per database transaction, and the number that wakes the writer early.
const BATCH: usize = 1_000;

/// Where the books are kept.
pub struct BooksOptions {
    /// Directory of the spool, made if missing.
    pub dir: PathBuf,
    pub database: Arc<dyn Database>,
    /// For deployments and their prices.
    pub snapshot: SnapshotHandle,
    /// Longest time a row waits before it is written (`proxy_batch_write_at`).
    pub interval: Duration,
}

/// Bounds of the spool.
#[derive(Debug, Clone, Copy)]
pub struct SpoolLimits {
    /// Disk that the spool may take; beyond it [`Books::accept`] fails and Envoy keeps the records.
    pub max_bytes: u64,
    /// A segment is closed beyond this size.
    pub segment_bytes: u64,
}

impl Default for SpoolLimits {
    fn default() -> Self {
        Self { max_bytes: 2 * 1024 * 1024 * 1024, segment_bytes: 8 * 1024 * 1024 }
    }
}

/// Why records are not durable, or not in the database yet.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BooksError {
    /// The database has been away for long: the spool may not grow further.
    #[error(
        "the usage spool is full ({bytes} bytes of {limit}); records stay with Envoy until the database takes rows"
    )]
    Full { bytes: u64, limit: u64 },
    #[error("the usage spool cannot be written: {0}")]
    Spool(String),
    #[error("the ledger cannot be written, its rows are safe in the spool: {0}")]
    Database(String),
    #[error("the books are closed")]
    Closed,
}

/// For health and `/stats`.
#[derive(Debug, Clone, Default)]
pub struct BooksStatus {
    /// Rows accepted and not in the database yet.
    pub pending: u64,
    /// How long the oldest of them waits.
    pub oldest_age: Option<Duration>,
    /// Why the last write failed; `None` while all is well.
    pub last_error: Option<String>,
}

/// The usage spool and its writer.
pub struct Books {
    spool: Spool,
    snapshot: SnapshotHandle,
    flushes: mpsc::Sender<Flush>,
    bell: Arc<Notify>,
    last_error: Arc<Mutex<Option<String>>>,
    writer: JoinHandle<()>,
}

impl Drop for Books {
    fn drop(&mut self) {
        self.writer.abort();
    }
}

impl Books {
    /// Opens the spool and starts its writer, which begins with what a former process left. Blocks on file I/O;
    /// call it within a Tokio runtime.
    ///
    /// # Errors
    /// [`BooksError::Spool`] when the directory cannot be made or read.
    pub fn open(options: BooksOptions) -> Result<Arc<Self>, BooksError> {
        Self::open_with(options, SpoolLimits::default())
    }

    /// As [`Self::open`], with bounds of one's own.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with(options: BooksOptions, limits: SpoolLimits) -> Result<Arc<Self>, BooksError> {
        let BooksOptions { dir, database, snapshot, interval } = options;
        let spool = Spool::open(&dir, limits)
            .map_err(|error| BooksError::Spool(format!("{}: {error}", dir.display())))?;
        let (flushes, receiver) = mpsc::channel(64);
        let (bell, last_error) = (Arc::new(Notify::new()), Arc::new(Mutex::new(None)));
        let writer = Writer {
            dir,
            spool: spool.clone(),
            database,
            interval,
            bell: bell.clone(),
            last_error: last_error.clone(),
            broken: 0,
        };
        let writer = tokio::spawn(writer.run(receiver));
        Ok(Arc::new(Self { spool, snapshot, flushes, bell, last_error, writer }))
    }

    /// Returns when the whole batch is on disk; the number of records. Records may come twice.
    ///
    /// # Errors
    /// [`BooksError`] when the batch is not durable: do not acknowledge it, so that Envoy sends it again.
    pub async fn accept(&self, records: Vec<UsageRecord>) -> Result<usize, BooksError> {
        if records.is_empty() {
            return Ok(0);
        }
        let snapshot = self.snapshot.load_full();
        let rows: Vec<_> = records.iter().map(|record| row(record, &snapshot)).collect();
        self.spool.append(&rows).await?;
        if self.spool.inventory().lock().rows() >= BATCH as u64 {
            self.bell.notify_one();
        }
        Ok(rows.len())
    }

    /// Writes everything accepted so far into the database, now.
    ///
    /// # Errors
    /// [`BooksError::Database`] when the database does not take the rows; they stay in the spool.
    pub async fn flush(&self) -> Result<(), BooksError> {
        let (done, outcome) = oneshot::channel();
        self.flushes.send(done).await.map_err(|_| BooksError::Closed)?;
        outcome.await.map_err(|_| BooksError::Closed)?
    }

    /// How the books stand.
    #[must_use]
    pub fn status(&self) -> BooksStatus {
        let (pending, oldest) = {
            let inventory = self.spool.inventory().lock();
            (inventory.rows(), inventory.oldest())
        };
        BooksStatus {
            pending,
            oldest_age: oldest.map(|since| SystemTime::now().duration_since(since).unwrap_or_default()),
            last_error: self.last_error.lock().clone(),
        }
    }
}
