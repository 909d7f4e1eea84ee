//! One suite over every backend of the counters, then what is particular to each.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;

use super::memory::wall_ms;
use super::testing::Redis;
use super::*;

mod admission;
mod breakers;
mod budgets;
mod loss;
mod model;
mod nodes;
mod outages;
mod properties;
mod servers;
mod shared;
mod streams;

const LEASE: Duration = Duration::from_secs(60);
/// Generous: the test machine is busy. The deadline itself has a test of its own.
const PATIENT: Duration = Duration::from_secs(20);
/// Between probes.
const QUICK: Duration = Duration::from_millis(30);

fn charge(counter: &str, amount: u64) -> Charge {
    Charge { counter: Counter::new(counter, 0), amount, ttl: Duration::from_secs(120) }
}

async fn value(counters: &dyn Counters, counter: &str) -> u64 {
    counters.all(&[counter]).await.unwrap()[0]
}

/// Short forms of what the suite does most.
#[async_trait]
trait Short: Counters {
    /// Takes a reservation without limits.
    async fn hold(&self, id: &str, charges: &[Charge], lease: Duration) -> Result<(), StoreError> {
        let charges = charges.iter().map(|c| limited(&c.counter, c.amount, c.ttl, None)).collect();
        let ask = Admission { lease, ..ask(id, vec![Candidate { tier: 0, charges, probe: None }]) };
        assert_eq!(self.admit(&ask).await?, Admitted::Candidate(0));
        Ok(())
    }

    async fn end(&self, id: &str, actual: &[Charge]) -> Result<bool, StoreError> {
        let settlement = Settlement::end(id.into(), actual.to_vec());
        Ok(self.settle_all(&[settlement]).await?[0])
    }

    async fn all(&self, counters: &[&str]) -> Result<Vec<u64>, StoreError> {
        self.values(&counters.iter().map(|name| Counter::new(*name, 0)).collect::<Vec<_>>()).await
    }
}

impl<T: Counters + ?Sized> Short for T {}

fn limited(counter: &Counter, amount: u64, ttl: Duration, limit: Option<u64>) -> Limited {
    Limited::new(counter.clone(), amount, ttl, limit)
}

/// Asks for the first with room.
fn ask(id: &str, candidates: Vec<Candidate>) -> Admission {
    Admission {
        id: id.into(),
        lease: LEASE,
        required: Vec::new(),
        candidates,
        pick: Pick::First,
        renew: None,
    }
}

/// With its twin. Short probes; the deadline is short too where a test waits for it.
async fn resilient(redis: &Redis, deadline: Duration) -> Arc<dyn Counters> {
    open_redis(&redis.servers(), deadline, QUICK, false).await.unwrap()
}

/// Waits until `condition` holds.
async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !condition().await {
        assert!(started.elapsed() < Duration::from_secs(20), "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A connection beside the store's.
async fn raw(redis: &Redis) -> ::redis::aio::MultiplexedConnection {
    let client = ::redis::Client::open(redis.url().expose()).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

/// Runs `check` over the in-process counters, over a private Redis, over that with its twin, and over a cluster.
async fn over_all(check: impl AsyncFn(Arc<dyn Counters>)) {
    check(Arc::new(Memory::default())).await;
    let redis = Redis::start().await;
    check(Arc::new(RedisCounters::new(&redis.servers(), PATIENT).unwrap())).await;
    let () = ::redis::cmd("FLUSHALL").query_async(&mut raw(&redis).await).await.unwrap();
    check(resilient(&redis, PATIENT).await).await;
    let cluster = servers::cluster().await;
    let counters = RedisCounters::new(&cluster.as_ref().unwrap().servers(), PATIENT).unwrap();
    counters.connect().await.unwrap();
    check(Arc::new(counters)).await;
}

#[tokio::test]
async fn settling_replaces_what_was_reserved_once() {
    over_all(async |counters| {
        let reserved = [charge("a:rpm", 1), charge("a:tpm", 1_000)];
        counters.hold("r1", &reserved, LEASE).await.unwrap();
        counters.hold("r1", &reserved, LEASE).await.unwrap();
        counters.hold("r2", &[charge("a:tpm", 5), charge("a:tpm", 6)], LEASE).await.unwrap();
        let read = counters.all(&["a:rpm", "none", "a:tpm"]).await.unwrap();
        assert_eq!(
            read,
            [1, 0, 1_011],
            "reserving twice is reserving once; one counter may be charged twice"
        );

        assert!(
            counters.end("r1", &[charge("a:rpm", 1), charge("a:tpm", 40), charge("b", 7)]).await.unwrap()
        );
        assert!(!counters.end("r1", &[charge("a:tpm", 40)]).await.unwrap(), "settled already");
        assert!(!counters.end("never", &[charge("a:tpm", 40)]).await.unwrap());
        let read = counters.all(&["a:rpm", "a:tpm", "b"]).await.unwrap();
        assert_eq!(read, [1, 51, 7]);
        assert!(counters.end("r2", &[]).await.unwrap());
        assert_eq!(value(&*counters, "a:tpm").await, 40);

        counters.hold("empty", &[], LEASE).await.unwrap();
        assert!(counters.end("empty", &[charge("b", 1)]).await.unwrap(), "a reservation of nothing is one");
    })
    .await;
}

#[tokio::test]
async fn an_unsettled_lease_is_taken_back() {
    over_all(async |counters| {
        let counter = format!("lease:{}", rand::random::<u64>());
        let short = Duration::from_millis(80);
        for id in 0..100 {
            counters.hold(&format!("{counter}:{id}"), &[charge(&counter, 3)], short).await.unwrap();
        }
        counters.hold("long", &[charge(&counter, 4)], LEASE).await.unwrap();
        eventually("leases end", async || value(&*counters, &counter).await == 4).await;
        assert!(!counters.end(&format!("{counter}:0"), &[charge(&counter, 9)]).await.unwrap(), "too late");
        assert_eq!(value(&*counters, &counter).await, 4);
        assert!(counters.end("long", &[]).await.unwrap());
    })
    .await;
}

#[tokio::test]
async fn a_late_settlement_counts_nothing_before_any_sweep() {
    over_all(async |counters| {
        let counter = format!("late:{}", rand::random::<u64>());
        counters.hold(&counter, &[charge(&counter, 3)], Duration::from_millis(20)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(60)).await;
        assert!(!counters.end(&counter, &[charge(&counter, 9)]).await.unwrap());
        assert_eq!(value(&*counters, &counter).await, 0);
    })
    .await;
}

#[tokio::test]
async fn counters_end_with_their_window_and_are_not_brought_back_by_a_refund() {
    over_all(async |counters| {
        let counter = format!("window:{}", rand::random::<u64>());
        let brief = Charge { ttl: Duration::from_millis(60), ..charge(&counter, 5) };
        counters.hold(&counter, &[brief], LEASE).await.unwrap();
        assert_eq!(value(&*counters, &counter).await, 5);
        eventually("the window ends", async || value(&*counters, &counter).await == 0).await;
        assert!(counters.end(&counter, &[]).await.unwrap());
        assert_eq!(value(&*counters, &counter).await, 0);
        counters.hold("next", &[charge(&counter, 2)], LEASE).await.unwrap();
        assert_eq!(value(&*counters, &counter).await, 2);
        counters.end("next", &[]).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn absurd_numbers_neither_overflow_nor_stop_a_script_halfway() {
    over_all(async |counters| {
        let counter = format!("absurd:{}", rand::random::<u64>());
        let huge =
            Charge { counter: Counter::new(counter.as_str(), 0), amount: u64::MAX, ttl: Duration::MAX };
        counters.hold(&counter, &[huge.clone(), charge("beside", 1)], Duration::MAX).await.unwrap();
        assert_eq!(value(&*counters, &counter).await, MAX_AMOUNT);
        assert!(counters.end(&counter, &[huge]).await.unwrap());
        assert_eq!(counters.all(&[&counter, "beside"]).await.unwrap(), [MAX_AMOUNT, 0]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_concurrent_reservations_are_exact() {
    over_all(async |counters| {
        let counter = format!("many:{}", rand::random::<u64>());
        let mut tasks = tokio::task::JoinSet::new();
        for id in 0..1_000 {
            let (counters, counter) = (Arc::clone(&counters), counter.clone());
            tasks.spawn(async move {
                let id = format!("{counter}:{id}");
                counters.hold(&id, &[charge(&counter, 10)], LEASE).await.unwrap();
                // Half of them settle, and all of those twice at once.
                if id.ends_with(['0', '2', '4', '6', '8']) {
                    let actual = [charge(&counter, 3)];
                    let (first, second) =
                        tokio::join!(counters.end(&id, &actual), counters.end(&id, &actual));
                    assert!(first.unwrap() ^ second.unwrap());
                }
            });
        }
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
        assert_eq!(value(&*counters, &counter).await, 500 * 10 + 500 * 3);
    })
    .await;
}
