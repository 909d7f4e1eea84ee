//! One suite over every backend of the counters, then what is particular to each.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::memory::{State, wall_ms};
use super::testing::Redis;
use super::*;

const LEASE: Duration = Duration::from_secs(60);
/// Generous: the test machine is busy. The deadline itself has a test of its own.
const PATIENT: Duration = Duration::from_secs(20);

fn charge(counter: &str, amount: u64) -> Charge {
    Charge { counter: Counter::new(counter, 0), amount, ttl: Duration::from_secs(120) }
}

async fn value(counters: &dyn Counters, counter: &str) -> u64 {
    counters.read(&[format!("{counter}:0")]).await.unwrap()[0]
}

/// Waits until `condition` holds.
async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !condition().await {
        assert!(started.elapsed() < Duration::from_secs(20), "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Runs `check` over the in-process counters, over a private Redis, and over that with its twin.
async fn over_all(check: impl AsyncFn(Arc<dyn Counters>)) {
    check(Arc::new(Memory::default())).await;
    let redis = Redis::start().await;
    check(Arc::new(RedisCounters::new(&redis.url(), PATIENT).unwrap())).await;
    let () = ::redis::cmd("FLUSHALL").query_async(&mut raw(&redis).await).await.unwrap();
    check(open_redis(&redis.url(), PATIENT, PROBE).await.unwrap()).await;
}

#[tokio::test]
async fn settling_replaces_what_was_reserved_once() {
    over_all(async |counters| {
        let reserved = [charge("a:rpm", 1), charge("a:tpm", 1_000)];
        counters.reserve("r1", &reserved, LEASE).await.unwrap();
        counters.reserve("r1", &reserved, LEASE).await.unwrap();
        counters.reserve("r2", &[charge("a:tpm", 5), charge("a:tpm", 6)], LEASE).await.unwrap();
        let read = counters.read(&["a:rpm:0".into(), "none".into(), "a:tpm:0".into()]).await.unwrap();
        assert_eq!(
            read,
            [1, 0, 1_011],
            "reserving twice is reserving once; one counter may be charged twice"
        );

        assert!(
            counters.settle("r1", &[charge("a:rpm", 1), charge("a:tpm", 40), charge("b", 7)]).await.unwrap()
        );
        assert!(!counters.settle("r1", &[charge("a:tpm", 40)]).await.unwrap(), "settled already");
        assert!(!counters.settle("never", &[charge("a:tpm", 40)]).await.unwrap());
        let read = counters.read(&["a:rpm:0".into(), "a:tpm:0".into(), "b:0".into()]).await.unwrap();
        assert_eq!(read, [1, 51, 7]);
        assert!(counters.settle("r2", &[]).await.unwrap());
        assert_eq!(value(&*counters, "a:tpm").await, 40);

        counters.reserve("empty", &[], LEASE).await.unwrap();
        assert!(
            counters.settle("empty", &[charge("b", 1)]).await.unwrap(),
            "a reservation of nothing is one"
        );
    })
    .await;
}

#[tokio::test]
async fn an_unsettled_lease_is_taken_back() {
    over_all(async |counters| {
        let counter = format!("lease:{}", rand::random::<u64>());
        let short = Duration::from_millis(80);
        for id in 0..100 {
            counters.reserve(&format!("{counter}:{id}"), &[charge(&counter, 3)], short).await.unwrap();
        }
        counters.reserve("long", &[charge(&counter, 4)], LEASE).await.unwrap();
        eventually("leases end", async || value(&*counters, &counter).await == 4).await;
        assert!(!counters.settle(&format!("{counter}:0"), &[charge(&counter, 9)]).await.unwrap(), "too late");
        assert_eq!(value(&*counters, &counter).await, 4);
        assert!(counters.settle("long", &[]).await.unwrap());
    })
    .await;
}

#[tokio::test]
async fn a_late_settlement_counts_nothing_before_any_sweep() {
    over_all(async |counters| {
        let counter = format!("late:{}", rand::random::<u64>());
        counters.reserve(&counter, &[charge(&counter, 3)], Duration::from_millis(20)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(60)).await;
        assert!(!counters.settle(&counter, &[charge(&counter, 9)]).await.unwrap());
        assert_eq!(value(&*counters, &counter).await, 0);
    })
    .await;
}

#[tokio::test]
async fn counters_end_with_their_window_and_are_not_brought_back_by_a_refund() {
    over_all(async |counters| {
        let counter = format!("window:{}", rand::random::<u64>());
        let brief = Charge { ttl: Duration::from_millis(60), ..charge(&counter, 5) };
        counters.reserve(&counter, &[brief], LEASE).await.unwrap();
        assert_eq!(value(&*counters, &counter).await, 5);
        eventually("the window ends", async || value(&*counters, &counter).await == 0).await;
        assert!(counters.settle(&counter, &[]).await.unwrap());
        assert_eq!(value(&*counters, &counter).await, 0);
        counters.reserve("next", &[charge(&counter, 2)], LEASE).await.unwrap();
        assert_eq!(value(&*counters, &counter).await, 2);
        counters.settle("next", &[]).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn absurd_numbers_neither_overflow_nor_stop_a_script_halfway() {
    over_all(async |counters| {
        let counter = format!("absurd:{}", rand::random::<u64>());
        let huge =
            Charge { counter: Counter::new(counter.as_str(), 0), amount: u64::MAX, ttl: Duration::MAX };
        counters.reserve(&counter, &[huge.clone(), charge("beside", 1)], Duration::MAX).await.unwrap();
        assert_eq!(value(&*counters, &counter).await, MAX_AMOUNT);
        assert!(counters.settle(&counter, &[huge]).await.unwrap());
        assert_eq!(
            counters.read(&[format!("{counter}:0"), "beside:0".into()]).await.unwrap(),
            [MAX_AMOUNT, 0]
        );
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
                counters.reserve(&id, &[charge(&counter, 10)], LEASE).await.unwrap();
                // Half of them settle, and all of those twice at once.
                if id.ends_with(['0', '2', '4', '6', '8']) {
                    let actual = [charge(&counter, 3)];
                    let (first, second) =
                        tokio::join!(counters.settle(&id, &actual), counters.settle(&id, &actual));
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

fn failure(
    deployment: &str,
    allowed_fails: u32,
    cooldown_ms: u64,
    retry_after: Option<Duration>,
) -> Cooldown {
    let cooldown = Duration::from_millis(cooldown_ms);
    Cooldown { deployment: deployment.into(), allowed_fails, cooldown, retry_after }
}

#[tokio::test]
async fn a_deployment_cools_down_after_more_than_the_allowed_failures() {
    over_all(async |counters| {
        let name = format!("dep:{}", rand::random::<u64>());
        let fail = async |retry| counters.record_failure(&failure(&name, 2, 60_000, retry)).await.unwrap();
        let is_cooling = async || counters.cooling().await.unwrap().into_iter().find(|(d, _)| *d == name);
        assert_eq!(fail(None).await, None);
        assert_eq!(fail(None).await, None);
        assert_eq!(is_cooling().await, None);
        let until = fail(None).await.expect("the third is one too many");
        let expected = wall_ms() + 60_000;
        assert!(until.abs_diff(expected) < 5_000, "{until} is not about {expected}");
        assert!(is_cooling().await.expect("cooling").1.abs_diff(until) < 50);

        let later = fail(Some(Duration::from_secs(600))).await.expect("cooling");
        assert!(later.abs_diff(wall_ms() + 600_000) < 5_000);
        let still = fail(Some(Duration::from_secs(1))).await.expect("cooling");
        assert!(still.abs_diff(later) < 50, "the later deadline wins");
        let bounded = fail(Some(Duration::MAX)).await.expect("cooling");
        assert!(bounded.abs_diff(wall_ms() + 86_400_000) < 5_000, "no upstream takes itself away for ever");
    })
    .await;
}

#[tokio::test]
async fn retry_after_cools_at_once_and_cooling_ends() {
    over_all(async |counters| {
        let name = format!("dep:{}", rand::random::<u64>());
        let brief = failure(&name, 100, 60_000, Some(Duration::from_millis(100)));
        assert!(counters.record_failure(&brief).await.unwrap().is_some());
        assert!(counters.cooling().await.unwrap().iter().any(|(d, _)| *d == name));
        eventually("it ends", async || !counters.cooling().await.unwrap().iter().any(|(d, _)| *d == name))
            .await;
        let none = failure(&name, 100, 60_000, Some(Duration::ZERO));
        assert_eq!(counters.record_failure(&none).await.unwrap(), None);
        assert_eq!(
            counters.record_failure(&failure(&name, 0, 0, None)).await.unwrap(),
            None,
            "cooldowns off"
        );
    })
    .await;
}

#[tokio::test]
async fn failures_outside_the_window_do_not_count() {
    over_all(async |counters| {
        let name = format!("dep:{}", rand::random::<u64>());
        assert_eq!(counters.record_failure(&failure(&name, 1, 100, None)).await.unwrap(), None);
        tokio::time::sleep(Duration::from_millis(150)).await;
        assert_eq!(counters.record_failure(&failure(&name, 1, 100, None)).await.unwrap(), None);
        assert!(
            counters.record_failure(&failure(&name, 0, 100, None)).await.unwrap().is_some(),
            "none allowed"
        );
    })
    .await;
}

#[tokio::test]
async fn two_sidecars_share_one_redis() {
    let redis = Redis::start().await;
    let first = open_redis(&redis.url(), PATIENT, PROBE).await.unwrap();
    let second = open_redis(&redis.url(), PATIENT, PROBE).await.unwrap();
    first.reserve("one", &[charge("shared", 10)], LEASE).await.unwrap();
    second.reserve("two", &[charge("shared", 5)], LEASE).await.unwrap();
    assert_eq!(value(&*first, "shared").await, 15);
    assert!(second.settle("one", &[charge("shared", 1)]).await.unwrap(), "usage may arrive at the other one");
    assert!(!first.settle("one", &[charge("shared", 1)]).await.unwrap());
    assert_eq!(value(&*first, "shared").await, 6);
    first.record_failure(&failure("d", 0, 60_000, None)).await.unwrap();
    assert_eq!(second.cooling().await.unwrap()[0].0, "d");
}

#[tokio::test]
async fn every_key_in_redis_has_the_prefix_and_a_ttl_and_one_hash_tag() {
    let redis = Redis::start().await;
    let counters = RedisCounters::new(&redis.url(), PATIENT).unwrap();
    counters.reserve("one", &[charge("{x}:rpm", 10)], LEASE).await.unwrap();
    counters.reserve("two", &[charge("y", 10)], LEASE).await.unwrap();
    counters.settle("two", &[charge("y", 10)]).await.unwrap();
    counters.record_failure(&failure("d", 0, 60_000, None)).await.unwrap();
    let mut raw = raw(&redis).await;
    let keys: Vec<String> = ::redis::cmd("KEYS").arg("*").query_async(&mut raw).await.unwrap();
    assert!(keys.len() >= 6, "{keys:?}");
    for key in keys {
        let ttl: i64 = ::redis::cmd("PTTL").arg(&key).query_async(&mut raw).await.unwrap();
        assert!(ttl > 0, "{key} stays for ever");
        assert!(key.starts_with("attache:{counters}:"), "{key}");
    }
}

async fn raw(redis: &Redis) -> ::redis::aio::MultiplexedConnection {
    let client = ::redis::Client::open(redis.url().expose()).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

#[tokio::test]
async fn scripts_are_loaded_again_when_redis_forgot_them() {
    let redis = Redis::start().await;
    let counters = RedisCounters::new(&redis.url(), PATIENT).unwrap();
    counters.reserve("one", &[charge("c", 10)], LEASE).await.unwrap();
    let () = ::redis::cmd("SCRIPT").arg("FLUSH").query_async(&mut raw(&redis).await).await.unwrap();
    counters.reserve("two", &[charge("c", 10)], LEASE).await.unwrap();
    assert_eq!(value(&counters, "c").await, 20);
}

#[tokio::test]
async fn a_connection_that_redis_closed_does_not_degrade() {
    let redis = Redis::start().await;
    let counters = open_redis(&redis.url(), PATIENT, PROBE).await.unwrap();
    counters.reserve("one", &[charge("c", 10)], LEASE).await.unwrap();
    let () = ::redis::cmd("CLIENT")
        .arg(&["KILL", "TYPE", "normal", "SKIPME", "yes"])
        .query_async(&mut raw(&redis).await)
        .await
        .unwrap();
    assert_eq!(value(&*counters, "c").await, 10);
    assert!(!counters.degraded());
}

#[tokio::test]
async fn a_killed_redis_is_unavailable_and_comes_back() {
    let mut redis = Redis::start().await;
    let counters = RedisCounters::new(&redis.url(), PATIENT).unwrap();
    counters.reserve("one", &[charge("c", 10)], LEASE).await.unwrap();
    redis.kill();
    let error = counters.reserve("two", &[charge("c", 10)], LEASE).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { backend: "redis", .. }), "{error}");
    redis.launch().await;
    eventually("redis is back", async || counters.ping().await.is_ok()).await;
    counters.reserve("three", &[charge("c", 10)], LEASE).await.unwrap();
    assert_eq!(value(&counters, "c").await, 10, "it restarted empty");
}

#[tokio::test]
async fn a_hanging_redis_costs_the_deadline_and_no_more() {
    let redis = Redis::start().await;
    let counters = RedisCounters::new(&redis.url(), Duration::from_millis(50)).unwrap();
    counters.connect().await.unwrap();
    redis.freeze(true);
    let started = Instant::now();
    let error = counters.reserve("one", &[charge("c", 10)], LEASE).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
    assert!(started.elapsed() < Duration::from_millis(500), "{:?}", started.elapsed());
    redis.freeze(false);
    eventually("redis answers again", async || counters.ping().await.is_ok()).await;
}

/// Short probes; the deadline is short too where a test waits for it.
async fn resilient(redis: &Redis, deadline: Duration) -> Arc<dyn Counters> {
    open_redis(&redis.url(), deadline, Duration::from_millis(30)).await.unwrap()
}

#[tokio::test]
async fn counting_goes_on_in_process_while_redis_is_away_and_redis_hears_of_it() {
    let mut redis = Redis::start().await;
    let counters = resilient(&redis, PATIENT).await;
    let other = RedisCounters::new(&redis.url(), PATIENT).unwrap();
    other.reserve("other", &[charge("c", 100)], LEASE).await.unwrap();
    counters.reserve("before", &[charge("c", 10)], LEASE).await.unwrap();
    assert_eq!(value(&*counters, "c").await, 110);
    assert!(!counters.degraded());

    redis.kill();
    counters.reserve("during", &[charge("c", 5)], LEASE).await.unwrap();
    assert!(counters.degraded());
    assert_eq!(value(&*counters, "c").await, 115, "goes on from the last known value");
    counters.reserve("across", &[charge("c", 7)], LEASE).await.unwrap();
    assert!(counters.settle("before", &[charge("c", 1)]).await.unwrap());
    assert!(counters.settle("during", &[charge("c", 2)]).await.unwrap());
    assert!(!counters.settle("during", &[charge("c", 2)]).await.unwrap(), "once, while away as well");
    let down = counters.record_failure(&failure("d", 0, 60_000, None)).await.unwrap();
    assert!(down.is_some());
    assert!(counters.ping().await.is_err(), "ping tells the truth");

    redis.launch().await;
    eventually("it recovers by itself", async || !counters.degraded()).await;
    assert_eq!(value(&*counters, "c").await, 2, "Redis restarted empty and was told of what it never knew");
    assert!(counters.settle("across", &[charge("c", 3)]).await.unwrap(), "reserved away, settled at home");
    assert!(!counters.settle("across", &[charge("c", 3)]).await.unwrap());
    assert_eq!(value(&other, "c").await, 5, "the other sidecar sees it");
    assert_eq!(counters.cooling().await.unwrap()[0].0, "d", "cooldowns outlive the change");
}

#[tokio::test]
async fn settlements_of_a_frozen_redis_are_neither_lost_nor_doubled() {
    let redis = Redis::start().await;
    let counters = resilient(&redis, Duration::from_millis(300)).await;
    counters.reserve("one", &[charge("c", 100)], LEASE).await.unwrap();
    counters.reserve("two", &[charge("c", 100)], LEASE).await.unwrap();
    redis.freeze(true);
    // This one is in the socket: Redis executes it when it wakes, though the caller was told otherwise.
    assert!(counters.settle("one", &[charge("c", 1)]).await.unwrap());
    assert!(counters.degraded());
    assert!(counters.settle("two", &[charge("c", 2)]).await.unwrap());
    redis.freeze(false);
    eventually("it recovers", async || !counters.degraded()).await;
    assert_eq!(value(&*counters, "c").await, 3);
}

#[tokio::test]
async fn the_sidecar_starts_while_redis_is_away() {
    let mut redis = Redis::stopped();
    let started = Instant::now();
    let counters = open_counters(&CounterBackend::Redis { url: redis.url() }).await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(3));
    assert!(counters.degraded());
    counters.reserve("one", &[charge("c", 10)], LEASE).await.unwrap();
    assert_eq!(value(&*counters, "c").await, 10);
    redis.launch().await;
    eventually("it finds Redis", async || !counters.degraded()).await;
}

#[tokio::test]
async fn a_reservation_that_is_dropped_is_refunded() {
    let counters: Arc<dyn Counters> = Arc::new(Memory::default());
    let take = async |id: &str| {
        let charges = vec![charge("c", 10)];
        Reservation::take(Arc::clone(&counters), id.into(), charges, LEASE).await.unwrap()
    };
    drop(take("dropped").await);
    eventually("refund", async || value(&*counters, "c").await == 0).await;
    assert_eq!(take("kept").await.hand_over(), "kept");
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(value(&*counters, "c").await, 10);
}

#[derive(Debug, Clone)]
enum Step {
    Reserve { id: u8, counter: u8, amount: u64, lease_s: u64 },
    Settle { id: u8, counter: u8, amount: u64 },
    Wait { seconds: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..6_u8, 0..3_u8, 0..1_000_u64, 1..20_u64)
            .prop_map(|(id, counter, amount, lease_s)| Step::Reserve { id, counter, amount, lease_s }),
        (0..6_u8, 0..3_u8, 0..1_000_u64).prop_map(|(id, counter, amount)| Step::Settle {
            id,
            counter,
            amount
        }),
        (0..8_u64).prop_map(|seconds| Step::Wait { seconds }),
    ]
}

proptest! {
    /// Model: a counter is the sum of what was settled on it and of the leases that run.
    #[test]
    fn memory_agrees_with_a_simple_model(steps in prop::collection::vec(step(), 1..60)) {
        let start = Instant::now();
        let (mut state, mut now_s) = (State::default(), 0);
        let mut settled: HashMap<u8, u64> = HashMap::new();
        let mut leases: HashMap<u8, (u8, u64, u64)> = HashMap::new();
        let long = |counter: u8, amount| Charge { counter: Counter::new(counter.to_string(), 0), amount, ttl: Duration::from_secs(86_400) };
        for step in steps {
            let now = start + Duration::from_secs(now_s);
            leases.retain(|_, (_, _, end)| *end > now_s);
            match step {
                Step::Reserve { id, counter, amount, lease_s } => {
                    state.reserve(now, &id.to_string(), &[long(counter, amount)], Duration::from_secs(lease_s), false);
                    leases.entry(id).or_insert((counter, amount, now_s + lease_s));
                }
                Step::Settle { id, counter, amount } => {
                    let known = state.settle(now, &id.to_string(), &[long(counter, amount)]).is_some();
                    prop_assert_eq!(known, leases.remove(&id).is_some());
                    if known {
                        *settled.entry(counter).or_default() += amount;
                    }
                }
                Step::Wait { seconds } => now_s += seconds,
            }
            let now = start + Duration::from_secs(now_s);
            leases.retain(|_, (_, _, end)| *end > now_s);
            state.sweep(now);
            for counter in 0..3_u8 {
                let held: u64 = leases.values().filter(|lease| lease.0 == counter).map(|lease| lease.1).sum();
                let expected = held + settled.get(&counter).copied().unwrap_or_default();
                prop_assert_eq!(state.value(now, &format!("{counter}:0")), expected);
            }
        }
    }
}
