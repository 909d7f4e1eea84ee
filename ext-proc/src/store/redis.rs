use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use ::redis::{RedisError, RedisResult, RedisWrite};
use arc_swap::ArcSwap;
use async_trait::async_trait;

use super::memory::wall_ms;
use super::{
    Admission, Circuit, Correction, Counter, Counters, MAX_COOLDOWN, MAX_SAMPLE_NAMES, MAX_SAMPLES,
    Observation, Place, RedisServers, Sample, Settlement, Standing, StoreError, Transition,
};

mod connect;
mod encode;
mod restore;
mod script;
mod standing;
mod stream;

use connect::{Connection, Link};
pub(super) use encode::{Settled, Told};
pub(super) use restore::Joined;
use script::{Call, Script};
pub use stream::{RedisStream, StreamEntry, StreamServer};

const BACKEND: &str = "redis";
/// Begin of what is said of a call that took too long.
const LATE: &str = "no answer within";
/// One hash tag for all keys: a script's keys must share a slot in Cluster, and one script looks at all limits of a
/// request, whatever key, team and deployment they are of.
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
    link: Arc<Link>,
    deadline: Duration,
    scripts: Scripts,
    /// What the server's data is known by; empty before it was asked.
    epoch: ArcSwap<Arc<str>>,
}

struct Scripts {
    admit: Script,
    settle: Script,
    values: Script,
    standing: Script,
    correct: Script,
    observe: Script,
    circuits: Script,
    samples: Script,
    join: Script,
    restore: Script,
}

impl RedisCounters {
    /// Does not connect. `deadline` limits every call.
    ///
    /// # Errors
    /// Servers that cannot be connected to, whatever they do: a URL or certificates that cannot be read.
    pub fn new(servers: &RedisServers, deadline: Duration) -> Result<Self, StoreError> {
        let link = Arc::new(Link::new(servers)?);
        let scripts = Scripts {
            admit: Script::new(include_str!("lua/admit.lua")),
            settle: Script::new(include_str!("lua/settle.lua")),
            values: Script::new(include_str!("lua/values.lua")),
            standing: Script::new(include_str!("lua/standing.lua")),
            correct: Script::new(include_str!("lua/correct.lua")),
            observe: Script::new(include_str!("lua/observe.lua")),
            circuits: Script::new(include_str!("lua/circuits.lua")),
            samples: Script::new(include_str!("lua/samples.lua")),
            join: Script::new(include_str!("lua/join.lua")),
            restore: Script::new(include_str!("lua/restore.lua")),
        };
        Ok(Self { link, deadline, scripts, epoch: ArcSwap::from_pointee("".into()) })
    }

    /// Whose clock is a key.
    #[cfg(test)]
    pub(super) fn simulated(servers: &RedisServers, deadline: Duration) -> Self {
        let mut counters = Self::new(servers, deadline).expect("servers");
        let Scripts { admit, settle, values, .. } = &mut counters.scripts;
        for script in [admit, settle, values] {
            *script = script.simulated();
        }
        counters
    }

    /// Waits for the first connection, at most as long as one attempt takes.
    pub async fn connect(&self) -> Result<(), StoreError> {
        self.link.connect().await.map_err(|error| store_error(&error))
    }

    async fn send_ping(&self) -> RedisResult<()> {
        self.connection()?.ping().await
    }

    fn connection(&self) -> RedisResult<Connection> {
        self.link.connection()
    }

    async fn limited<T>(
        &self,
        limit: Duration,
        call: impl Future<Output = RedisResult<T>>,
    ) -> Result<T, StoreError> {
        match tokio::time::timeout(limit, call).await {
            Ok(answer) => answer.map_err(|error| {
                if self.link.leads_nowhere(&error) {
                    self.link.replace();
                }
                store_error(&error)
            }),
            Err(_) => Err(unavailable(format!("{LATE} {} ms", limit.as_millis()))),
        }
    }

    async fn run<T: ::redis::FromRedisValue>(&self, call: &Call<'_>) -> Result<T, StoreError> {
        self.run_within(call, self.deadline).await
    }

    async fn run_within<T: ::redis::FromRedisValue>(
        &self,
        call: &Call<'_>,
        limit: Duration,
    ) -> Result<T, StoreError> {
        let twice = async {
            match call.run(&mut self.connection()?).await {
                // Redis closed an idle connection: no reason to degrade. Twice is once for reservations and
                // settlements; an outcome or a sample may be counted twice.
                Err(error) if error.is_connection_dropped() => call.run(&mut self.connection()?).await,
                answer => answer,
            }
        };
        self.limited(limit, twice).await
    }

    /// As [`Counters::place`], with what its twin needs to know.
    pub(super) async fn ask_place(&self, admission: &Admission, more: &[String]) -> Result<Told, StoreError> {
        let mut call = self.scripts.admit.call(&self.epoch.load());
        encode::admission(&mut call.command, admission, more);
        let answer: Vec<i64> = self.run(&call).await?;
        encode::place(&answer, admission)
    }

    /// As [`Counters::settle_all`]. `unknown` says which of them the server may never have heard of: they were
    /// admitted while it was away, and are counted all the same, though only once.
    pub(super) async fn settle_told(
        &self,
        settlements: &[Settlement],
        unknown: impl Fn(usize) -> bool,
    ) -> Result<encode::Settled, StoreError> {
        let mut settled = encode::Settled::default();
        for chunk in settlements.chunks(BATCH) {
            let mut call = self.scripts.settle.call(&self.epoch.load());
            call.command.arg(chunk.len());
            for (index, settlement) in (settled.ended.len()..).zip(chunk) {
                encode::settlement(&mut call.command, settlement, unknown(index));
            }
            let answer = self.run::<Vec<i64>>(&call).await?;
            encode::settled(&answer, chunk, &mut settled)?;
        }
        Ok(settled)
    }

    /// As [`Counters::values`], with the moment of each.
    pub(super) async fn read(&self, counters: &[Counter]) -> Result<Vec<(u64, u64)>, StoreError> {
        let mut values = Vec::with_capacity(counters.len());
        for chunk in counters.chunks(READ_CHUNK) {
            let mut call = self.scripts.values.call(&self.epoch.load());
            for counter in chunk {
                call.command.write_arg_fmt(format_args!("{counter}"));
            }
            let answer = self.run::<Vec<u64>>(&call).await?;
            let (moment, answer) = answer.split_first().ok_or_else(|| broken_answer("values"))?;
            values.extend(answer.iter().map(|value| (*value, *moment)));
        }
        Ok(values)
    }

    /// Takes over circuit breakers that opened while the server was away. The later deadline wins.
    pub(super) async fn enter(&self, circuits: &[Circuit]) -> Result<(), StoreError> {
        let now = wall_ms();
        for chunk in circuits.chunks(BATCH) {
            let mut call = self.scripts.observe.call(&self.epoch.load());
            call.command.arg(chunk.len());
            for circuit in chunk {
                encode::entry(&mut call.command, circuit, now);
            }
            let _: Vec<encode::CircuitAnswer> = self.run(&call).await?;
        }
        Ok(())
    }
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
    async fn place(&self, admission: &Admission) -> Result<Place, StoreError> {
        Ok(self.ask_place(admission, &[]).await?.place)
    }

    async fn place_all(&self, admission: &Admission, more: &[String]) -> Result<Place, StoreError> {
        Ok(self.ask_place(admission, more).await?.place)
    }

    async fn settle_all(&self, settlements: &[Settlement]) -> Result<Vec<bool>, StoreError> {
        Ok(self.settle_told(settlements, |_| false).await?.ended)
    }

    async fn observe(&self, outcomes: &[Observation]) -> Result<Vec<Transition>, StoreError> {
        let mut transitions = Vec::new();
        for chunk in outcomes.chunks(BATCH) {
            let mut call = self.scripts.observe.call(&self.epoch.load());
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
        let answer: Vec<encode::CircuitAnswer> =
            self.run(&self.scripts.circuits.call(&self.epoch.load())).await?;
        Ok(answer.into_iter().map(encode::circuit).collect())
    }

    async fn values(&self, counters: &[Counter]) -> Result<Vec<u64>, StoreError> {
        Ok(self.read(counters).await?.into_iter().map(|(value, _)| value).collect())
    }

    async fn add_samples(&self, samples: &[Sample], keep: usize, ttl: Duration) -> Result<(), StoreError> {
        for chunk in samples.chunks(BATCH) {
            let mut call = self.scripts.samples.call(&self.epoch.load());
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
                match read.query_async(&mut self.connection()?).await {
                    Err(error) if error.is_connection_dropped() => {
                        read.query_async(&mut self.connection()?).await
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
            let forget = async { forget.query_async(&mut self.connection()?).await };
            let _: i64 = self.limited(limit, forget).await?;
        }
        Ok(samples)
    }

    async fn standing(
        &self,
        counters: &[Counter],
        turn: Duration,
    ) -> Result<Option<Vec<Option<Standing>>>, StoreError> {
        self.stand("", counters, turn).await
    }

    async fn correct(&self, corrections: &[Correction]) -> Result<bool, StoreError> {
        self.mend("", corrections).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        let answer = self.limited(self.deadline, self.send_ping()).await;
        if answer.is_err() {
            self.link.replace();
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
    use ::redis::{ErrorKind, ServerErrorKind};
    let mut text = error.to_string();
    if error.kind() == ErrorKind::Server(ServerErrorKind::Moved) {
        text.push_str("; this server is part of a cluster: name it in `redis_startup_nodes`");
    }
    let own = matches!(error.kind(), ErrorKind::UnexpectedReturnType | ErrorKind::InvalidClientConfig)
        || text.contains("WRONGTYPE")
        || text.contains("not an integer");
    if own { broken(error) } else { unavailable(text) }
}
