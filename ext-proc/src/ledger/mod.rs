//! The books: every finished request becomes one row in the database, exactly once.
//!
//! ```text
//! accept -> priced -> buffer: spool (fsync) or stream in Redis (AOF) -> acknowledged to Envoy
//!                       \-> writer: batches into the database -> segment or entries deleted
//! ```
//!
//! Rows are priced when they are accepted, with the configuration in force; they may be written much later. The
//! buffer makes the acknowledgement true, the database makes it once: its rows are unique by call id, so that a
//! record sent twice, or a segment written twice after a crash, counts once.
//!
//! The spool is always there. With `use_redis_transaction_buffer` rows go to a [`stream`] in Redis instead for as long
//! as that can be trusted.

mod figures;
mod line;
mod row;
mod segment;
mod spool;
mod stream;
mod writer;

#[cfg(test)]
mod buffer_tests;
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

pub use figures::Figures;
use line::Lines;
pub use row::row;
use spool::Spool;
pub use stream::NoStream;
use stream::Stream;
use writer::{Flush, Writer};

use crate::routing::SnapshotHandle;
use crate::store::{Ledger, PromptRow, RedisServers, SpendRow};

/// Rows per database transaction, and the number that wakes the writer early.
const BATCH: usize = 1_000;
/// The same in bytes, about.
const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// Where the books are kept.
pub struct BooksOptions {
    /// Directory of the spool, made if missing.
    pub dir: PathBuf,
    pub database: Arc<dyn Ledger>,
    /// For deployments and their prices.
    pub snapshot: SnapshotHandle,
    /// Longest time a row waits before it is written (`proxy_batch_write_at`).
    pub interval: Duration,
    /// Where rows wait instead of in the spool (`use_redis_transaction_buffer`).
    pub redis: Option<RedisServers>,
    /// How long prompts and answers are kept.
    pub keep_prompts: Duration,
}

/// Bounds of the spool.
#[derive(Debug, Clone, Copy)]
pub struct SpoolLimits {
    /// Disk that the spool may take; beyond it [`Books::accept`] fails and Envoy keeps the records.
    pub max_bytes: u64,
    /// A segment is closed beyond this size.
    pub segment_bytes: u64,
    /// Rows kept in memory until they are written, by their size on disk; others are read again.
    pub kept_bytes: u64,
}

impl Default for SpoolLimits {
    fn default() -> Self {
        Self {
            max_bytes: 2 * 1024 * 1024 * 1024,
            segment_bytes: 8 * 1024 * 1024,
            kept_bytes: 16 * 1024 * 1024,
        }
    }
}

/// Bounds of the stream in Redis.
#[derive(Debug, Clone, Copy)]
pub struct StreamLimits {
    /// Entries that may wait; beyond it rows go to the spool. Nothing is ever cut off the stream.
    pub max_rows: u64,
    /// Memory for the rows of the last seconds, which are added again to a Redis that may have lost them.
    pub recent_bytes: usize,
    /// What a replica has read and not finished for so long is another one's.
    pub take_over: Duration,
    /// Between two looks at Redis.
    pub probe: Duration,
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
    #[error("the ledger cannot be written, its rows are safe in the buffer: {0}")]
    Database(String),
    #[error("rows in Redis cannot be reached now: {0}")]
    Stream(String),
    #[error("the books are closed")]
    Closed,
}

/// For health and metrics.
#[derive(Debug, Clone, Default)]
pub struct BooksStatus {
    /// Rows accepted and not in the database yet; those in Redis are of all replicas.
    pub pending: u64,
    /// How long the oldest of them waits.
    pub oldest_age: Option<Duration>,
    /// Why the last write failed; `None` while all is well.
    pub last_error: Option<String>,
    /// Where rows go now.
    pub buffer: Buffer,
}

/// Where rows wait for the database.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Buffer {
    /// Local files, as configured.
    #[default]
    Spool,
    /// The stream in Redis.
    Redis,
    /// Local files although the stream is configured.
    Instead(NoStream),
}

/// The buffer and its writer.
pub struct Books {
    spool: Spool,
    stream: Option<Arc<Stream>>,
    snapshot: SnapshotHandle,
    flushes: mpsc::Sender<Flush>,
    bell: Arc<Notify>,
    last_error: Arc<Mutex<Option<String>>>,
    figures: Arc<Figures>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Books {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Books {
    /// Opens the buffer and starts its writer, which begins with what a former process left. Blocks on file I/O;
    /// call it within a Tokio runtime.
    ///
    /// # Errors
    /// [`BooksError::Spool`] when the directory cannot be made or read, [`BooksError::Stream`] when the address of Redis
    /// cannot be one. A Redis that is away is none.
    pub fn open(options: BooksOptions) -> Result<Arc<Self>, BooksError> {
        Self::open_with(options, SpoolLimits::default(), StreamLimits::default())
    }

    /// As [`Self::open`], with bounds of one's own.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with(
        options: BooksOptions,
        limits: SpoolLimits,
        stream_limits: StreamLimits,
    ) -> Result<Arc<Self>, BooksError> {
        let BooksOptions { dir, database, snapshot, interval, redis, keep_prompts } = options;
        let spool = Spool::open(&dir, limits)
            .map_err(|error| BooksError::Spool(format!("{}: {error}", dir.display())))?;
        let stream = redis.map(|servers| Stream::new(&servers, stream_limits).map(Arc::new)).transpose()?;
        let (flushes, receiver) = mpsc::channel(64);
        let (bell, last_error) = (Arc::new(Notify::new()), Arc::new(Mutex::new(None)));
        let figures = Arc::new(Figures::default());
        let writer = Writer {
            dir,
            spool: spool.clone(),
            stream: stream.clone(),
            database,
            interval,
            keep_prompts,
            forgot: None,
            take_over: stream_limits.take_over,
            bell: bell.clone(),
            last_error: last_error.clone(),
            figures: figures.clone(),
            broken: 0,
            unfinished: false,
            looked: None,
        };
        let watch = stream.clone().map(|stream| tokio::spawn(stream.watch()));
        let tasks = std::iter::once(tokio::spawn(writer.run(receiver))).chain(watch).collect();
        Ok(Arc::new(Self { spool, stream, snapshot, flushes, bell, last_error, figures, tasks }))
    }

    /// Returns when the whole batch is durable: the rows of the records, in their order, which is what everything else
    /// that counts them has to go by. Records may come twice.
    ///
    /// # Errors
    /// [`BooksError`] when the batch is not durable: do not acknowledge it, so that Envoy sends it again.
    pub async fn accept(&self, records: &[UsageRecord]) -> Result<Arc<Vec<SpendRow>>, BooksError> {
        let snapshot = self.snapshot.load_full();
        let rows: Arc<Vec<_>> = Arc::new(records.iter().map(|record| row(record, &snapshot)).collect());
        if rows.is_empty() {
            return Ok(rows);
        }
        let prompts: Vec<_> =
            records.iter().zip(&*rows).filter_map(|(record, row)| said(record, row)).collect();
        let lines = Lines::of(&rows, &prompts).map_err(|error| BooksError::Spool(error.to_string()))?;
        match &self.stream {
            Some(stream) => {
                let lines = Arc::new(lines);
                if stream.append(&lines).await.is_err() {
                    let lines = Arc::try_unwrap(lines).unwrap_or_else(|shared| Lines::clone(&shared));
                    self.spool.append(lines, Arc::clone(&rows)).await?;
                }
            }
            None => self.spool.append(lines, Arc::clone(&rows)).await?,
        }
        if self.is_batch() {
            self.bell.notify_one();
        }
        Ok(rows)
    }

    /// Does enough wait for a transaction?
    fn is_batch(&self) -> bool {
        if self.stream.as_ref().is_some_and(|stream| stream.length() >= BATCH as u64) {
            return true;
        }
        let inventory = self.spool.inventory().lock();
        inventory.rows() >= BATCH as u64 || inventory.bytes() >= BATCH_BYTES as u64
    }

    /// Writes everything accepted so far into the database, now: by this replica, and with the stream by all.
    ///
    /// # Errors
    /// [`BooksError::Database`] when the database does not take the rows, [`BooksError::Stream`] when Redis does not
    /// answer or another replica does not finish; they stay in the buffer.
    pub async fn flush(&self) -> Result<(), BooksError> {
        let mark = match &self.stream {
            Some(stream) => stream.redis.newest().await.map_err(|error| stream.lost(&error))?,
            None => None,
        };
        if mark.is_none() && self.spool.inventory().lock().rows() == 0 {
            return Ok(());
        }
        let (done, outcome) = oneshot::channel();
        self.flushes.send(done).await.map_err(|_| BooksError::Closed)?;
        outcome.await.map_err(|_| BooksError::Closed)??;
        match (&self.stream, mark) {
            (Some(stream), Some(mark)) => stream.passed(&mark).await,
            _ => Ok(()),
        }
    }

    /// Flushes for the last time: this replica's name is forgotten in Redis.
    ///
    /// # Errors
    /// As [`Self::flush`].
    pub async fn close(&self) -> Result<(), BooksError> {
        let flushed = self.flush().await;
        if let Some(stream) = &self.stream {
            stream.leave().await;
        }
        flushed
    }

    /// How the books stand.
    #[must_use]
    pub fn status(&self) -> BooksStatus {
        let (pending, oldest) = {
            let inventory = self.spool.inventory().lock();
            (inventory.rows(), inventory.oldest())
        };
        let stream = self.stream.as_deref();
        let oldest = [oldest, stream.and_then(Stream::oldest)].into_iter().flatten().min();
        BooksStatus {
            pending: pending + stream.map_or(0, Stream::length),
            oldest_age: oldest.map(|since| SystemTime::now().duration_since(since).unwrap_or_default()),
            last_error: self.last_error.lock().clone(),
            buffer: stream
                .map_or(Buffer::Spool, |stream| stream.reason().map_or(Buffer::Redis, Buffer::Instead)),
        }
    }

    /// What was counted since the start.
    #[must_use]
    pub fn figures(&self) -> &Figures {
        &self.figures
    }
}

/// What was said in a request, where it is to be kept.
fn said(record: &UsageRecord, row: &SpendRow) -> Option<PromptRow> {
    (record.prompt.is_some() || record.answer.is_some()).then(|| PromptRow {
        call_id: row.call_id.clone(),
        start_us: row.start_us,
        request: record.prompt.clone(),
        response: record.answer.clone(),
    })
}
