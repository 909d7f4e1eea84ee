use std::future::Future;
use std::time::Duration;

use ::redis::aio::{ConnectionManager, ConnectionManagerConfig};
use ::redis::{Client, RedisError, RedisResult, RedisWrite};
use arc_swap::ArcSwap;
use async_trait::async_trait;

use super::memory::wall_ms;
use super::{
    Admission, Admitted, Circuit, Counter, Counters, MAX_COOLDOWN, MAX_SAMPLE_NAMES, MAX_SAMPLES,
    Observation, Sample, Settlement, StoreError, Transition,
};
use crate::config::Secret;

mod encode;
mod script;

pub(super) use encode::Place;
use script::{Call, Script};

const BACKEND: &str = "redis";
/// Begin of what is said of a call that took too long.
const LATE: &str = "no answer within";
/// One hash tag for all keys: a script's keys must share a slot in Cluster.
const PREFIX: &str = "attache:{counters}:";
/// Limit of one connection attempt, DNS included. Attempts run beside the requests, which wait for none.
const CONNECT: Duration = Duration::from_secs(1);
/// Settlements, observations, samples per script call: no call holds up the requests of others for long.
const BATCH: usize = 500;
/// Counters read per script call.
const READ_CHUNK: usize = 10_000;
/// All samples of all deployments are a large answer that no request waits for.
const SAMPLES_PATIENCE: u32 = 10;

/// Counters shared by replicas. Every operation is one script, hence atomic.
pub struct RedisCounters {
    client: Client,
    connection: ArcSwap<ConnectionManager>,
    deadline: Duration,
    scripts: Scripts,
}

struct Scripts {
    admit: Script,
    settle: Script,
    values: Script,
    observe: Script,
    circuits: Script,
    samples: Script,
}

impl RedisCounters {
    /// Does not connect. `deadline` limits every call.
    pub fn new(url: &Secret, deadline: Duration) -> Result<Self, StoreError> {
        let client = Client::open(url.expose()).map_err(|error| broken(&error))?;
        let connection = ArcSwap::from_pointee(manager(&client).map_err(|error| broken(&error))?);
        let scripts = Scripts {
            admit: Script::new(include_str!("lua/admit.lua")),
            settle: Script::new(include_str!("lua/settle.lua")),
            values: Script::new(include_str!("lua/values.lua")),
            observe: Script::new(include_str!("lua/observe.lua")),
            circuits: Script::new(include_str!("lua/circuits.lua")),
            samples: Script::new(include_str!("lua/samples.lua")),
        };
        Ok(Self { client, connection, deadline, scripts })
    }

    /// Waits for the first connection, at most as long as one attempt takes.
    pub async fn connect(&self) -> Result<(), StoreError> {
        self.limited(CONNECT, self.send_ping()).await
    }

    async fn send_ping(&self) -> RedisResult<()> {
        let mut connection = self.connection();
        ::redis::cmd("PING").query_async(&mut connection).await
    }

    fn connection(&self) -> ConnectionManager {
        ConnectionManager::clone(&self.connection.load())
    }

    async fn limited<T>(
        &self,
        limit: Duration,
        call: impl Future<Output = RedisResult<T>>,
    ) -> Result<T, StoreError> {
        match tokio::time::timeout(limit, call).await {
            Ok(answer) => answer.map_err(|error| store_error(&error)),
            Err(_) => Err(unavailable(format!("{LATE} {} ms", limit.as_millis()))),
        }
    }

    async fn run<T: ::redis::FromRedisValue>(&self, call: &Call<'_>) -> Result<T, StoreError> {
        let twice = async {
            match call.run(&mut self.connection()).await {
                // Redis closed an idle connection: no reason to degrade. Twice is once for reservations and
                // settlements; an outcome or a sample may be counted twice.
                Err(error) if error.is_connection_dropped() => call.run(&mut self.connection()).await,
                answer => answer,
            }
        };
        self.limited(self.deadline, twice).await
    }

    /// A connection whose peer vanished without a word never fails by itself: take a new one.
    fn replace_connection(&self) {
        let Ok(fresh) = manager(&self.client) else { return };
        let mut first = fresh.clone();
        self.connection.store(fresh.into());
        // The manager connects on first use; callers' deadlines are shorter than that takes.
        tokio::spawn(async move {
            let _: RedisResult<()> = ::redis::cmd("PING").query_async(&mut first).await;
        });
    }

    /// As [`Counters::admit`], with the values that the charged counters have now.
    pub(super) async fn place(&self, admission: &Admission) -> Result<Place, StoreError> {
        let mut call = self.scripts.admit.call();
        encode::admission(&mut call.command, admission);
        let answer: Vec<i64> = self.run(&call).await?;
        encode::place(&answer)
    }

    /// As [`Counters::settle_all`]. `unknown` says which of them the server may never have heard of: they were
    /// admitted while it was away, and are counted all the same, though only once.
    pub(super) async fn settle_told(
        &self,
        settlements: &[Settlement],
        unknown: impl Fn(usize) -> bool,
    ) -> Result<Vec<bool>, StoreError> {
        let mut settled = Vec::with_capacity(settlements.len());
        for chunk in settlements.chunks(BATCH) {
            let mut call = self.scripts.settle.call();
            call.command.arg(chunk.len());
            for (index, Settlement { id, actual }) in (settled.len()..).zip(chunk) {
                encode::settlement(&mut call.command, id, unknown(index), actual);
            }
            settled.extend(self.run::<Vec<bool>>(&call).await?);
        }
        Ok(settled)
    }

    /// Takes over circuit breakers that opened while the server was away. The later deadline wins.
    pub(super) async fn enter(&self, circuits: &[Circuit]) -> Result<(), StoreError> {
        let now = wall_ms();
        for chunk in circuits.chunks(BATCH) {
            let mut call = self.scripts.observe.call();
            call.command.arg(chunk.len());
            for circuit in chunk {
                encode::entry(&mut call.command, circuit, now);
            }
            let _: Vec<encode::CircuitAnswer> = self.run(&call).await?;
        }
        Ok(())
    }
}

fn manager(client: &Client) -> RedisResult<ConnectionManager> {
    let config = ConnectionManagerConfig::new()
        // The next call tries again; waiting callers are not held up by a backoff.
        .set_number_of_retries(0)
        .set_connection_timeout(Some(CONNECT))
        .set_response_timeout(Some(CONNECT));
    ConnectionManager::new_lazy_with_config(client.clone(), config)
}

fn leases_key() -> String {
    format!("{PREFIX}leases")
}

fn samples_key() -> String {
    format!("{PREFIX}samples")
}

/// At least 1: a TTL of 0 would mean "delete" to Redis.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).clamp(1, 10 * 366 * 86_400_000)
}

/// At most [`MAX_COOLDOWN`].
fn short_millis(duration: Duration) -> u64 {
    u64::try_from(duration.min(MAX_COOLDOWN).as_millis()).unwrap_or(u64::MAX)
}

#[async_trait]
impl Counters for RedisCounters {
    async fn admit(&self, admission: &Admission) -> Result<Admitted, StoreError> {
        Ok(self.place(admission).await?.admitted)
    }

    async fn settle_all(&self, settlements: &[Settlement]) -> Result<Vec<bool>, StoreError> {
        self.settle_told(settlements, |_| false).await
    }

    async fn observe(&self, outcomes: &[Observation]) -> Result<Vec<Transition>, StoreError> {
        let mut transitions = Vec::new();
        for chunk in outcomes.chunks(BATCH) {
            let mut call = self.scripts.observe.call();
            call.command.arg(chunk.len());
            for outcome in chunk {
                encode::observation(&mut call.command, outcome);
            }
            let answer: Vec<encode::CircuitAnswer> = self.run(&call).await?;
            transitions.extend(answer.into_iter().map(encode::transition));
        }
        Ok(transitions)
    }

    async fn circuits(&self) -> Result<Vec<Circuit>, StoreError> {
        let answer: Vec<encode::CircuitAnswer> = self.run(&self.scripts.circuits.call()).await?;
        Ok(answer.into_iter().map(encode::circuit).collect())
    }

    async fn values(&self, counters: &[Counter]) -> Result<Vec<u64>, StoreError> {
        let mut values = Vec::with_capacity(counters.len());
        for chunk in counters.chunks(READ_CHUNK) {
            let mut call = self.scripts.values.call();
            for counter in chunk {
                call.command.write_arg_fmt(format_args!("{counter}"));
            }
            values.extend(self.run::<Vec<u64>>(&call).await?);
        }
        Ok(values)
    }

    async fn add_samples(&self, samples: &[Sample], keep: usize, ttl: Duration) -> Result<(), StoreError> {
        for chunk in samples.chunks(BATCH) {
            let mut call = self.scripts.samples.call();
            call.command.arg(keep.clamp(1, MAX_SAMPLES)).arg(short_millis(ttl).max(1)).arg(MAX_SAMPLE_NAMES);
            encode::samples(&mut call.command, chunk);
            let _: i64 = self.run(&call).await?;
        }
        Ok(())
    }

    async fn samples(&self) -> Result<Vec<Sample>, StoreError> {
        let mut read = ::redis::cmd("HGETALL");
        read.arg(samples_key());
        let limit = self.deadline.saturating_mul(SAMPLES_PATIENCE);
        let fields: Vec<(String, String)> = self
            .limited(limit, async {
                match read.query_async(&mut self.connection()).await {
                    Err(error) if error.is_connection_dropped() => {
                        read.query_async(&mut self.connection()).await
                    }
                    answer => answer,
                }
            })
            .await?;
        let (mut samples, mut over) = (Vec::new(), Vec::new());
        let now = wall_ms();
        for (name, value) in &fields {
            let Some((speed, deployment, numbers)) = encode::kept(name, value, now) else {
                over.push(name);
                continue;
            };
            samples.extend(numbers.map(|micros| Sample { deployment: deployment.to_owned(), speed, micros }));
        }
        if !over.is_empty() {
            // Deployments that were removed, or had no request for long.
            let mut forget = ::redis::cmd("HDEL");
            forget.arg(samples_key()).arg(over);
            let _: i64 = self.limited(limit, forget.query_async(&mut self.connection())).await?;
        }
        Ok(samples)
    }

    async fn ping(&self) -> Result<(), StoreError> {
        let answer = self.limited(self.deadline, self.send_ping()).await;
        if answer.is_err() {
            self.replace_connection();
        }
        answer
    }
}

/// Did the call take too long, rather than fail?
pub(super) fn is_late(error: &StoreError) -> bool {
    matches!(error, StoreError::Unavailable { reason, .. } if reason.starts_with(LATE))
}

fn unavailable(reason: String) -> StoreError {
    StoreError::Unavailable { backend: BACKEND, reason }
}

fn broken(error: &RedisError) -> StoreError {
    StoreError::Broken { backend: BACKEND, reason: error.to_string() }
}

fn broken_answer(script: &str) -> StoreError {
    StoreError::Broken { backend: BACKEND, reason: format!("unreadable answer of {script}") }
}

/// What a script says of its own data is a bug; everything else (connection, loading, read-only replica, out of
/// memory, wrong password) may pass and degrades.
fn store_error(error: &RedisError) -> StoreError {
    use ::redis::ErrorKind;
    let text = error.to_string();
    let own = matches!(error.kind(), ErrorKind::UnexpectedReturnType | ErrorKind::InvalidClientConfig)
        || text.contains("WRONGTYPE")
        || text.contains("not an integer");
    if own { broken(error) } else { unavailable(text) }
}
