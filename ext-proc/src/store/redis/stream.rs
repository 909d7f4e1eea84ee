//! Rows that wait for the database, in a stream that replicas share.
//!
//! ```text
//! append      XADD ... XADD, XLEN            one round trip for a batch
//! read        XREADGROUP, consumer = replica an entry is one replica's from now on
//! done        MULTI XACK, XDEL               after the commit
//! take_over   XAUTOCLAIM                     what a replica read and never finished
//! ```

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use ::redis::cluster_routing::{Route, RoutingInfo, SingleNodeRoutingInfo, SlotAddr};
use ::redis::{Cmd, FromRedisValue, Pipeline, RedisError, RedisResult, Value};

use super::connect::{Connection, Link};
use super::{BACKEND, LATE, RedisServers, StoreError, millis, store_error, unavailable};

/// One hash tag: the stream is in one slot of a cluster, and not in that of the counters.
const KEY: &str = "attache:{ledger}:rows";
const GROUP: &str = "writers";
/// Name of the one field of an entry.
const FIELD: &str = "line";
/// Limit of every call: Envoy waits for the batch, not a client for its answer.
const DEADLINE: Duration = Duration::from_secs(1);
/// Entries added per round trip at most, and their bytes.
const PART: usize = 500;
const PART_BYTES: usize = 1024 * 1024;

/// A stream of lines in Redis, and this replica's part in the group that reads it.
pub struct RedisStream {
    link: Arc<Link>,
    consumer: String,
}

/// One entry, read by this replica and nobody else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamEntry {
    pub id: String,
    /// `None` when somebody has deleted what it said.
    pub line: Option<Vec<u8>>,
}

/// What a Redis is like that is asked to keep rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamServer {
    /// Another one after every start, and on every other server.
    pub run_id: String,
    pub version: String,
    /// Writes go to the append-only file before they are answered.
    pub aof: bool,
    /// It may delete keys that have no expiry when memory is short.
    pub evicts: bool,
    /// There was no stream, or one without its group.
    pub is_new: bool,
    /// Entries that wait.
    pub length: u64,
    /// When the first of them was added, Unix milliseconds.
    pub oldest_ms: Option<u64>,
}

impl StreamServer {
    /// Does it know all commands that are needed (6.2)?
    #[must_use]
    pub fn is_recent(&self) -> bool {
        let mut numbers = self.version.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (6, 2)
    }
}

impl RedisStream {
    /// Does not connect. `consumer` is this replica's name, unlike all others.
    ///
    /// # Errors
    /// As [`super::RedisCounters::new`].
    pub fn new(servers: &RedisServers, consumer: String) -> Result<Self, StoreError> {
        Ok(Self { link: Arc::new(Link::new(servers)?), consumer })
    }

    /// Adds lines at the end. Returns how many entries wait then.
    pub async fn append<'a>(&self, lines: impl Iterator<Item = &'a [u8]>) -> Result<u64, StoreError> {
        let mut lines = lines.peekable();
        let mut length = 0;
        while lines.peek().is_some() {
            let mut part = ::redis::pipe();
            let (mut count, mut bytes) = (0, 0);
            while count < PART
                && bytes < PART_BYTES
                && let Some(line) = lines.next()
            {
                part.cmd("XADD").arg(KEY).arg("*").arg(FIELD).arg(line).ignore();
                (count, bytes) = (count + 1, bytes + line.len());
            }
            part.cmd("XLEN").arg(KEY);
            (length,) = self.pipeline(&part).await?;
        }
        Ok(length)
    }

    /// The next entries that no replica has read.
    pub async fn read(&self, count: usize) -> Result<Vec<StreamEntry>, StoreError> {
        self.read_from(">", count).await
    }

    /// The first entries that this replica has read and not finished.
    pub async fn unfinished(&self, count: usize) -> Result<Vec<StreamEntry>, StoreError> {
        self.read_from("0", count).await
    }

    async fn read_from(&self, id: &str, count: usize) -> Result<Vec<StreamEntry>, StoreError> {
        let mut read = ::redis::cmd("XREADGROUP");
        read.arg("GROUP").arg(GROUP).arg(&self.consumer).arg("COUNT").arg(count).arg("STREAMS");
        let answer: Value = self.command(read.arg(KEY).arg(id)).await?;
        // One stream was asked for: [[key, entries]].
        let Value::Array(streams) = answer else { return Ok(Vec::new()) };
        let Some(Value::Array(stream)) = streams.into_iter().next() else { return Ok(Vec::new()) };
        Ok(stream.into_iter().nth(1).map(entries).unwrap_or_default())
    }

    /// Takes entries that another replica read and did not finish for so long.
    pub async fn take_over(&self, idle: Duration, count: usize) -> Result<Vec<StreamEntry>, StoreError> {
        let mut claim = ::redis::cmd("XAUTOCLAIM");
        claim.arg(KEY).arg(GROUP).arg(&self.consumer).arg(millis(idle)).arg("0-0").arg("COUNT").arg(count);
        let answer: Value = self.command(&claim).await?;
        // [where to go on, entries, ids of deleted ones]
        let Value::Array(parts) = answer else { return Ok(Vec::new()) };
        let mut parts = parts.into_iter().skip(1);
        let mut taken = parts.next().map(entries).unwrap_or_default();
        if let Some(Value::Array(deleted)) = parts.next() {
            // The server has forgotten that they were read.
            taken.extend(deleted.into_iter().filter_map(text).map(|id| StreamEntry { id, line: None }));
        }
        Ok(taken)
    }

    /// What these entries said is in the database. Returns how many entries wait.
    pub async fn done(&self, ids: &[String]) -> Result<u64, StoreError> {
        let mut both = ::redis::pipe();
        both.atomic().cmd("XACK").arg(KEY).arg(GROUP).arg(ids).ignore();
        both.cmd("XDEL").arg(KEY).arg(ids).ignore();
        both.cmd("XLEN").arg(KEY);
        let (length,) = self.pipeline(&both).await?;
        Ok(length)
    }

    /// Id of the newest entry that waits.
    pub async fn newest(&self) -> Result<Option<String>, StoreError> {
        let mut range = ::redis::cmd("XREVRANGE");
        let answer: Value = self.command(range.arg(KEY).arg("+").arg("-").arg("COUNT").arg(1)).await?;
        Ok(entries(answer).pop().map(|entry| entry.id))
    }

    /// Does an entry wait that is not newer than this one?
    pub async fn waits_until(&self, id: &str) -> Result<bool, StoreError> {
        let mut range = ::redis::cmd("XRANGE");
        let answer: Value = self.command(range.arg(KEY).arg("-").arg(id).arg("COUNT").arg(1)).await?;
        Ok(!entries(answer).is_empty())
    }

    /// Makes the group if it is missing, and looks at the server.
    pub async fn inspect(&self) -> Result<StreamServer, StoreError> {
        let is_new = self.make_group().await?;
        let mut text = String::new();
        for section in ["server", "persistence", "memory"] {
            text.push_str(&self.info(section).await?);
        }
        let field = |name: &str| {
            let mut lines = text.lines();
            lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap_or_default().trim()
        };
        let mut both = ::redis::pipe();
        both.cmd("XLEN").arg(KEY).cmd("XRANGE").arg(KEY).arg("-").arg("+").arg("COUNT").arg(1);
        let (length, oldest): (u64, Value) = self.pipeline(&both).await?;
        let oldest = entries(oldest).pop().and_then(|entry| entry.id.split('-').next()?.parse().ok());
        Ok(StreamServer {
            run_id: field("run_id").to_owned(),
            version: field("redis_version").to_owned(),
            aof: field("aof_enabled") == "1",
            evicts: !matches!(field("maxmemory"), "" | "0")
                && field("maxmemory_policy").starts_with("allkeys"),
            is_new,
            length,
            oldest_ms: oldest,
        })
    }

    async fn make_group(&self) -> Result<bool, StoreError> {
        let mut make = ::redis::cmd("XGROUP");
        make.arg("CREATE").arg(KEY).arg(GROUP).arg("0").arg("MKSTREAM");
        let made = self.limited(async {
            match make.query_async::<Value>(&mut self.link.connection()?).await {
                Ok(_) => Ok(true),
                Err(error) if error.code() == Some("BUSYGROUP") => Ok(false),
                Err(error) => Err(error),
            }
        });
        made.await
    }

    /// Of the server that has the stream.
    async fn info(&self, section: &str) -> Result<String, StoreError> {
        let mut info = ::redis::cmd("INFO");
        info.arg(section);
        self.limited(async {
            match self.link.connection()? {
                Connection::Cluster(mut cluster) => {
                    let route = Route::with_key(KEY, SlotAddr::Master);
                    let one = RoutingInfo::SingleNode(SingleNodeRoutingInfo::SpecificNode(route));
                    Ok(String::from_redis_value(cluster.route_command(info, one).await?)?)
                }
                mut connection => info.query_async(&mut connection).await,
            }
        })
        .await
    }

    /// Forgets replicas that have nothing to finish and were not heard of for so long, and this one if it has
    /// nothing to finish either and `leave`s.
    pub async fn tidy(&self, silent: Duration, leave: bool) -> Result<(), StoreError> {
        let mut ask = ::redis::cmd("XINFO");
        let answer: Value = self.command(ask.arg("CONSUMERS").arg(KEY).arg(GROUP)).await?;
        let Value::Array(consumers) = answer else { return Ok(()) };
        for consumer in consumers {
            let (name, pending, idle_ms) = consumer_of(consumer);
            let own = name == self.consumer;
            if pending == 0 && (if own { leave } else { idle_ms > millis(silent) }) {
                let mut forget = ::redis::cmd("XGROUP");
                forget.arg("DELCONSUMER").arg(KEY).arg(GROUP).arg(name);
                let _: Value = self.command(&forget).await?;
            }
        }
        Ok(())
    }

    /// Finds the way anew, beside the calls.
    pub fn reconnect(&self) {
        self.link.replace();
    }

    async fn command<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, StoreError> {
        self.limited(async { command.query_async(&mut self.link.connection()?).await }).await
    }

    async fn pipeline<T: FromRedisValue>(&self, pipeline: &Pipeline) -> Result<T, StoreError> {
        self.limited(async { pipeline.query_async(&mut self.link.connection()?).await }).await
    }

    async fn limited<T>(&self, call: impl Future<Output = RedisResult<T>>) -> Result<T, StoreError> {
        match tokio::time::timeout(DEADLINE, call).await {
            Ok(answer) => answer.map_err(|error| {
                if self.link.leads_nowhere(&error) {
                    self.link.replace();
                }
                stream_error(&error)
            }),
            Err(_) => Err(unavailable(format!("{LATE} {} ms", DEADLINE.as_millis()))),
        }
    }
}

/// A command that the server does not know or does not allow will not be allowed by waiting.
fn stream_error(error: &RedisError) -> StoreError {
    let text = error.to_string();
    let refused = error.code() == Some("NOPERM") || text.to_ascii_lowercase().contains("unknown command");
    if refused { StoreError::Broken { backend: BACKEND, reason: text } } else { store_error(error) }
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

/// `[[id, [field, value]], ...]`; the second is nil where the entry was deleted, and old versions give nil for the whole.
fn entries(answer: Value) -> Vec<StreamEntry> {
    let Value::Array(all) = answer else { return Vec::new() };
    let entry = |value: Value| {
        let Value::Array(parts) = value else { return None };
        let mut parts = parts.into_iter();
        let id = text(parts.next()?)?;
        let line = match parts.next() {
            Some(Value::Array(fields)) => fields.into_iter().nth(1),
            _ => None,
        };
        let line = line.and_then(|line| if let Value::BulkString(bytes) = line { Some(bytes) } else { None });
        Some(StreamEntry { id, line })
    };
    all.into_iter().filter_map(entry).collect()
}

/// Name, entries to finish, and milliseconds since it was heard of, out of `[name, x, pending, n, idle, n, ...]`.
fn consumer_of(answer: Value) -> (String, u64, u64) {
    let (mut name, mut pending, mut idle) = (String::new(), u64::MAX, 0);
    let Value::Array(fields) = answer else { return (name, pending, idle) };
    let mut fields = fields.into_iter();
    while let (Some(field), Some(value)) = (fields.next().and_then(text), fields.next()) {
        let number = if let Value::Int(number) = &value { u64::try_from(*number).ok() } else { None };
        match field.as_str() {
            "name" => name = text(value).unwrap_or_default(),
            "pending" => pending = number.unwrap_or(u64::MAX),
            "idle" => idle = number.unwrap_or(0),
            _ => {}
        }
    }
    (name, pending, idle)
}
