use std::future::Future;
use std::time::Duration;

use ::redis::aio::{ConnectionManager, ConnectionManagerConfig};
use ::redis::{Client, RedisError, RedisResult, Script, ScriptInvocation};
use arc_swap::ArcSwap;
use async_trait::async_trait;

use super::{Charge, Cooldown, Counters, MAX_AMOUNT, MAX_COOLDOWN, StoreError};
use crate::config::Secret;

const BACKEND: &str = "redis";
/// One hash tag for all keys: a script's keys must share a slot in Cluster.
const PREFIX: &str = "attache:{counters}:";
/// Limit of one connection attempt, DNS included. Attempts run beside the requests, which wait for none.
const CONNECT: Duration = Duration::from_secs(1);
/// Keys per script call.
const READ_CHUNK: usize = 1_000;

/// Counters shared by replicas. Every operation is one script, hence atomic.
pub struct RedisCounters {
    client: Client,
    connection: ArcSwap<ConnectionManager>,
    deadline: Duration,
    scripts: Scripts,
}

struct Scripts {
    reserve: Script,
    settle: Script,
    read: Script,
    failure: Script,
    cooling: Script,
}

impl RedisCounters {
    /// Does not connect. `deadline` limits every call.
    pub fn new(url: &Secret, deadline: Duration) -> Result<Self, StoreError> {
        let client = Client::open(url.expose()).map_err(|error| broken(&error))?;
        let connection = ArcSwap::from_pointee(manager(&client).map_err(|error| broken(&error))?);
        let leased = |body: &str| Script::new(&format!("{}{body}", include_str!("lua/common.lua")));
        let scripts = Scripts {
            reserve: leased(include_str!("lua/reserve.lua")),
            settle: leased(include_str!("lua/settle.lua")),
            read: leased(include_str!("lua/read.lua")),
            failure: Script::new(include_str!("lua/failure.lua")),
            cooling: Script::new(include_str!("lua/cooling.lua")),
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
            Err(_) => Err(unavailable(format!("no answer within {} ms", limit.as_millis()))),
        }
    }

    async fn run<T: ::redis::FromRedisValue>(&self, call: &ScriptInvocation<'_>) -> Result<T, StoreError> {
        // EVALSHA, and SCRIPT LOAD when the server does not know the script (restart, failover, flush).
        let once = async || call.invoke_async(&mut self.connection()).await;
        let twice = async {
            match once().await {
                // Redis closed an idle connection: no reason to degrade. Twice is once for reservations and
                // settlements; a failure may be counted twice.
                Err(error) if error.is_connection_dropped() => once().await,
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
}

fn manager(client: &Client) -> RedisResult<ConnectionManager> {
    let config = ConnectionManagerConfig::new()
        // The next call tries again; waiting callers are not held up by a backoff.
        .set_number_of_retries(0)
        .set_connection_timeout(Some(CONNECT))
        .set_response_timeout(Some(CONNECT));
    ConnectionManager::new_lazy_with_config(client.clone(), config)
}

fn counter_key(counter: &str) -> String {
    format!("{PREFIX}value:{counter}")
}

fn leases_key() -> String {
    format!("{PREFIX}leases")
}

fn lease_prefix() -> String {
    format!("{PREFIX}lease:")
}

fn cooling_key() -> String {
    format!("{PREFIX}cooling")
}

/// At least 1: a TTL of 0 would mean "delete" to Redis.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).clamp(1, 10 * 366 * 86_400_000)
}

fn leased<'a>(script: &'a Script, id: &str, lease: Duration, charges: &[Charge]) -> ScriptInvocation<'a> {
    let mut call = script.key(leases_key());
    call.key(format!("{}{id}", lease_prefix())).arg(lease_prefix()).arg(id).arg(millis(lease));
    for charge in charges {
        // A number that Redis cannot add would stop the script halfway.
        call.key(counter_key(&charge.counter.to_string()))
            .arg(charge.amount.min(MAX_AMOUNT))
            .arg(millis(charge.ttl));
    }
    call
}

#[async_trait]
impl Counters for RedisCounters {
    async fn reserve(&self, id: &str, charges: &[Charge], lease: Duration) -> Result<(), StoreError> {
        let _: u8 = self.run(&leased(&self.scripts.reserve, id, lease, charges)).await?;
        Ok(())
    }

    async fn settle(&self, id: &str, actual: &[Charge]) -> Result<bool, StoreError> {
        self.run(&leased(&self.scripts.settle, id, Duration::ZERO, actual)).await
    }

    async fn read(&self, counters: &[String]) -> Result<Vec<u64>, StoreError> {
        let mut values = Vec::with_capacity(counters.len());
        for chunk in counters.chunks(READ_CHUNK) {
            let mut call = self.scripts.read.key(leases_key());
            call.arg(lease_prefix());
            for counter in chunk {
                call.key(counter_key(counter));
            }
            let found: Vec<Option<u64>> = self.run(&call).await?;
            values.extend(found.into_iter().map(Option::unwrap_or_default));
        }
        Ok(values)
    }

    async fn record_failure(&self, failure: &Cooldown) -> Result<Option<u64>, StoreError> {
        let mut call = self.scripts.failure.key(format!("{PREFIX}failures:{}", failure.deployment));
        call.key(cooling_key()).arg(&failure.deployment).arg(u64::from(failure.allowed_fails) + 1);
        call.arg(short_millis(failure.cooldown));
        match failure.retry_after {
            Some(wait) => call.arg(short_millis(wait)),
            None => call.arg(""),
        };
        self.run(&call).await
    }

    async fn cooling(&self) -> Result<Vec<(String, u64)>, StoreError> {
        self.run(&self.scripts.cooling.key(cooling_key())).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        let answer = self.limited(self.deadline, self.send_ping()).await;
        if answer.is_err() {
            self.replace_connection();
        }
        answer
    }
}

fn short_millis(duration: Duration) -> u64 {
    u64::try_from(duration.min(MAX_COOLDOWN).as_millis()).unwrap_or(u64::MAX)
}

fn unavailable(reason: String) -> StoreError {
    StoreError::Unavailable { backend: BACKEND, reason }
}

fn broken(error: &RedisError) -> StoreError {
    StoreError::Broken { backend: BACKEND, reason: error.to_string() }
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
