//! Redis as the durable buffer (`use_redis_transaction_buffer`): any replica may write what another one accepted.
//!
//! An acknowledgement must be true. So rows go there only while Redis is known to keep them: it writes an append-only
//! file, deletes no key for want of memory, and the stream is not too long. Whatever else is the case, rows go to the
//! local spool; the reason is in the log once, and in a metric.
//!
//! A Redis that is killed may lose what it had answered but not written yet (with `appendfsync everysec`, while its
//! disk is busy), and a failover what the new primary had not heard of. So a replica holds its last seconds of rows and
//! adds them again when it finds another server, or another start of one. The database counts a row once.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use super::line::Lines;
use super::{BooksError, StreamLimits};
use crate::store::{RedisServers, RedisStream, StoreError, StreamServer};

/// Longest time that a Redis may take to put on disk what it has answered: its fsync each second, and the two seconds
/// that it lets a busy disk delay writes. Rows younger than this are held.
const UNSURE: Duration = Duration::from_secs(6);
/// Between two looks at Redis.
const PROBE: Duration = Duration::from_secs(1);
/// A replica that was not heard of for so long, and has nothing to finish, is forgotten.
const SILENT: Duration = Duration::from_secs(86_400);
/// Between two looks at who is silent.
const TIDY: Duration = Duration::from_secs(600);
/// Between two looks whether rows are gone.
const WATCH: Duration = Duration::from_millis(10);
/// Longest time that others may take to write rows that a flush waits for.
const OTHERS: Duration = Duration::from_secs(5);

/// Why rows go to the spool although the configuration names the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoStream {
    /// Not reached, or not asked yet.
    Away,
    /// No append-only file: a restart would lose what was acknowledged.
    NoAof,
    /// `maxmemory-policy allkeys-*` may delete the stream.
    Evicts,
    /// Older than 6.2.
    TooOld,
    /// A command that is needed is not allowed.
    Forbidden,
    /// As many rows wait as may.
    Full,
}

impl NoStream {
    /// Label of the metric.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Away => "redis_away",
            Self::NoAof => "no_aof",
            Self::Evicts => "evicts_keys",
            Self::TooOld => "redis_too_old",
            Self::Forbidden => "forbidden",
            Self::Full => "full",
        }
    }

    fn of(server: &StreamServer, limit: u64) -> Option<Self> {
        match server {
            server if !server.is_recent() => Some(Self::TooOld),
            server if !server.aof => Some(Self::NoAof),
            server if server.evicts => Some(Self::Evicts),
            server if server.length >= limit => Some(Self::Full),
            _ => None,
        }
    }

    fn means(self) -> &'static str {
        match self {
            Self::Away => "Redis is away",
            Self::NoAof => "Redis writes no append-only file (`appendonly yes`): a restart would lose rows",
            Self::Evicts => "maxmemory-policy of Redis may delete the rows (`noeviction`)",
            Self::TooOld => "Redis is older than 6.2",
            Self::Forbidden => "Redis forbids INFO or a command for streams",
            Self::Full => "too many rows wait in Redis",
        }
    }
}

/// The stream as a buffer.
pub(super) struct Stream {
    pub redis: RedisStream,
    limits: StreamLimits,
    standing: Mutex<Standing>,
    /// Entries that wait, by the last word of Redis.
    length: AtomicU64,
    recent: Mutex<Recent>,
}

struct Standing {
    /// Why it is not used; `None` while it is.
    reason: Option<NoStream>,
    /// The reason that the log knows.
    said: Option<NoStream>,
    /// Of the server that has all recent rows.
    run_id: String,
    oldest_ms: Option<u64>,
}

/// Lines of the last seconds.
#[derive(Default)]
struct Recent {
    batches: VecDeque<(Instant, Arc<Lines>)>,
    bytes: usize,
}

impl Recent {
    fn push(&mut self, lines: Arc<Lines>, max: usize) {
        self.bytes += lines.bytes.len();
        self.batches.push_back((Instant::now(), lines));
        while self.bytes > max && self.pop() {}
    }

    fn forget_before(&mut self, moment: Instant) {
        while self.batches.front().is_some_and(|(added, _)| *added < moment) && self.pop() {}
    }

    fn pop(&mut self) -> bool {
        let Some((_, lines)) = self.batches.pop_front() else { return false };
        self.bytes -= lines.bytes.len();
        true
    }
}

impl Stream {
    /// Does not connect; [`Self::watch`] does.
    pub(super) fn new(servers: &RedisServers, limits: StreamLimits) -> Result<Self, BooksError> {
        let host = std::env::var("HOSTNAME").unwrap_or_default();
        let consumer = format!("{host}-{}-{:08x}", std::process::id(), rand::random::<u32>());
        let redis =
            RedisStream::new(servers, consumer).map_err(|error| BooksError::Stream(error.to_string()))?;
        let reason = Some(NoStream::Away);
        let standing = Standing { reason, said: None, run_id: String::new(), oldest_ms: None };
        Ok(Self {
            redis,
            limits,
            standing: Mutex::new(standing),
            length: AtomicU64::new(0),
            recent: Mutex::default(),
        })
    }

    /// Returns when Redis has the lines. `Err`: they are to go to the spool; they may be in Redis all the same.
    pub(super) async fn append(&self, lines: &Arc<Lines>) -> Result<(), NoStream> {
        if let Some(reason) = self.reason() {
            return Err(reason);
        }
        if self.length() + lines.len() as u64 > self.limits.max_rows {
            self.stands(Some(NoStream::Full), "");
            return Err(NoStream::Full);
        }
        // Before it is sent: whoever finds a new server must find these, too.
        self.recent.lock().push(Arc::clone(lines), self.limits.recent_bytes);
        match self.redis.append(lines.iter()).await {
            Ok(length) => {
                self.length.store(length, Ordering::Relaxed);
                Ok(())
            }
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// Entries that wait, of all replicas.
    pub(super) fn length(&self) -> u64 {
        self.length.load(Ordering::Relaxed)
    }

    /// Entries are done.
    pub(super) async fn done(&self, ids: &[String]) -> Result<(), BooksError> {
        let length = self.redis.done(ids).await.map_err(|error| self.lost(&error))?;
        self.length.store(length, Ordering::Relaxed);
        Ok(())
    }

    /// When the first entry that waits was added.
    pub(super) fn oldest(&self) -> Option<SystemTime> {
        let since = self.standing.lock().oldest_ms.filter(|_| self.length() > 0)?;
        Some(UNIX_EPOCH + Duration::from_millis(since))
    }

    /// Why rows go to the spool; `None` while they do not.
    pub(super) fn reason(&self) -> Option<NoStream> {
        self.standing.lock().reason
    }

    /// An error that ends what the writer does now.
    pub(super) fn lost(&self, error: &StoreError) -> BooksError {
        self.failed(error);
        BooksError::Stream(error.to_string())
    }

    fn failed(&self, error: &StoreError) -> NoStream {
        let reason = match error {
            StoreError::Unavailable { .. } => NoStream::Away,
            _ => NoStream::Forbidden,
        };
        self.stands(Some(reason), &error.to_string());
        reason
    }

    /// Notes whether it is used. One line in the log per change.
    fn stands(&self, reason: Option<NoStream>, error: &str) {
        let mut standing = self.standing.lock();
        standing.reason = reason;
        let before = std::mem::replace(&mut standing.said, reason);
        drop(standing);
        match (before, reason) {
            (before, now) if before == now => {}
            (_, Some(reason)) => {
                tracing::warn!(error, "ledger: rows are kept in the local spool: {}", reason.means());
            }
            (_, None) => tracing::info!("ledger: rows are kept in Redis again"),
        }
    }

    /// Looks at Redis for as long as the process runs.
    pub(super) async fn watch(self: Arc<Self>) {
        let mut tidied: Option<Instant> = None;
        loop {
            if let Err(error) = self.look().await {
                self.failed(&error);
                self.redis.reconnect();
            } else if tidied.is_none_or(|last| last.elapsed() >= TIDY) {
                tidied = Some(Instant::now());
                let _ = self.redis.tidy(SILENT, false).await;
            }
            tokio::time::sleep(self.limits.probe).await;
        }
    }

    async fn look(&self) -> Result<(), StoreError> {
        let begun = Instant::now();
        let server = self.redis.inspect().await?;
        self.length.store(server.length, Ordering::Relaxed);
        let known = {
            let mut standing = self.standing.lock();
            standing.oldest_ms = server.oldest_ms;
            std::mem::take(&mut standing.run_id)
        };
        if known != server.run_id || server.is_new {
            self.add_again().await?;
        } else if let Some(moment) = begun.checked_sub(UNSURE) {
            self.recent.lock().forget_before(moment);
        }
        self.standing.lock().run_id.clone_from(&server.run_id);
        self.stands(NoStream::of(&server, self.limits.max_rows), "");
        Ok(())
    }

    /// This server may have lost the last rows, or never had them.
    async fn add_again(&self) -> Result<(), StoreError> {
        let batches: Vec<_> = self.recent.lock().batches.iter().map(|(_, lines)| Arc::clone(lines)).collect();
        for lines in &batches {
            let length = self.redis.append(lines.iter()).await?;
            self.length.store(length, Ordering::Relaxed);
        }
        if !batches.is_empty() {
            let rows: usize = batches.iter().map(|lines| lines.len()).sum();
            tracing::warn!(rows, "ledger: Redis is another one or restarted; the last rows were added again");
        }
        Ok(())
    }

    /// This replica ends: it reads no more.
    pub(super) async fn leave(&self) {
        if let Err(error) = self.redis.tidy(SILENT, true).await {
            tracing::debug!(%error, "the name of this replica stays in Redis for a day");
        }
    }

    /// Returns when no entry waits that is not newer than `mark`: other replicas may be at work on some.
    pub(super) async fn passed(&self, mark: &str) -> Result<(), BooksError> {
        let begun = Instant::now();
        while self.redis.waits_until(mark).await.map_err(|error| self.lost(&error))? {
            if begun.elapsed() > OTHERS {
                let message = "another replica has read rows from Redis and not written them yet";
                return Err(BooksError::Stream(message.to_owned()));
            }
            tokio::time::sleep(WATCH).await;
        }
        Ok(())
    }
}

impl Default for StreamLimits {
    fn default() -> Self {
        Self {
            max_rows: 200_000,
            recent_bytes: 32 * 1024 * 1024,
            take_over: Duration::from_secs(30),
            probe: PROBE,
        }
    }
}
