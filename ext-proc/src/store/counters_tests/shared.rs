//! What is particular to Redis, and to going on without it.

use super::breakers::{failure, observation, tripped};
use super::*;

#[tokio::test]
async fn two_sidecars_share_one_redis() {
    let redis = Redis::start().await;
    let first = resilient(&redis, PATIENT).await;
    let second = resilient(&redis, PATIENT).await;
    first.hold("one", &[charge("shared", 10)], LEASE).await.unwrap();
    second.hold("two", &[charge("shared", 5)], LEASE).await.unwrap();
    assert_eq!(value(&*first, "shared").await, 15);
    assert!(second.end("one", &[charge("shared", 1)]).await.unwrap(), "usage may arrive at the other one");
    assert!(!first.end("one", &[charge("shared", 1)]).await.unwrap());
    assert_eq!(value(&*first, "shared").await, 6);
    first.observe(&[tripped("d", Duration::from_secs(60))]).await.unwrap();
    assert_eq!(second.circuits().await.unwrap()[0].deployment, "d");
}

#[tokio::test]
async fn every_key_in_redis_has_the_prefix_and_a_ttl_and_one_hash_tag() {
    let redis = Redis::start().await;
    let counters = RedisCounters::new(&redis.servers(), PATIENT).unwrap();
    counters.hold("one", &[charge("{x}:rpm", 10)], LEASE).await.unwrap();
    counters.hold("two", &[charge("y", 10)], LEASE).await.unwrap();
    counters.end("two", &[charge("y", 10)]).await.unwrap();
    let count = Trip::Count { kind: "timeout".into(), allowed: 3, window: LEASE };
    let share = Trip::Share { percent: 50, min: 5 };
    for trip in [Trip::Now, count, share] {
        counters.observe(&[observation("d", 1, vec![failure(60_000, trip)])]).await.unwrap();
    }
    let probe = Candidate { tier: 0, charges: Vec::new(), probe: Some("e".into()) };
    counters.admit(&ask("three", vec![probe])).await.unwrap();
    counters.settle_told(&[Settlement::end("unknown".into(), Vec::new())], |_| true).await.unwrap();
    let sample = Sample { deployment: "d".into(), speed: Speed::FirstEvent, micros: 1 };
    counters.add_samples(&[sample], 10, LEASE).await.unwrap();
    let mut raw = raw(&redis).await;
    let keys: Vec<String> = ::redis::cmd("KEYS").arg("*").query_async(&mut raw).await.unwrap();
    assert!(keys.len() >= 12, "{keys:?}");
    for key in keys {
        let ttl: i64 = ::redis::cmd("PTTL").arg(&key).query_async(&mut raw).await.unwrap();
        assert!(ttl > 0, "{key} stays for ever");
        assert!(key.starts_with("attache:{counters}:"), "{key}");
    }
}

#[tokio::test]
async fn scripts_are_loaded_again_when_redis_forgot_them() {
    let redis = Redis::start().await;
    let counters = RedisCounters::new(&redis.servers(), PATIENT).unwrap();
    counters.hold("one", &[charge("c", 10)], LEASE).await.unwrap();
    let () = ::redis::cmd("SCRIPT").arg("FLUSH").query_async(&mut raw(&redis).await).await.unwrap();
    counters.hold("two", &[charge("c", 10)], LEASE).await.unwrap();
    assert_eq!(value(&counters, "c").await, 20);
}

#[tokio::test]
async fn a_connection_that_redis_closed_does_not_degrade() {
    let redis = Redis::start().await;
    let counters = resilient(&redis, PATIENT).await;
    counters.hold("one", &[charge("c", 10)], LEASE).await.unwrap();
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
    let counters = RedisCounters::new(&redis.servers(), PATIENT).unwrap();
    counters.hold("one", &[charge("c", 10)], LEASE).await.unwrap();
    redis.kill();
    let error = counters.hold("two", &[charge("c", 10)], LEASE).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { backend: "redis", .. }), "{error}");
    redis.launch().await;
    eventually("redis is back", async || counters.ping().await.is_ok()).await;
    counters.hold("three", &[charge("c", 10)], LEASE).await.unwrap();
    assert_eq!(value(&counters, "c").await, 10, "it restarted empty");
}

#[tokio::test]
async fn a_hanging_redis_costs_the_deadline_and_no_more() {
    let redis = Redis::start().await;
    let counters = RedisCounters::new(&redis.servers(), Duration::from_millis(50)).unwrap();
    counters.connect().await.unwrap();
    redis.freeze(true);
    let started = Instant::now();
    let error = counters.hold("one", &[charge("c", 10)], LEASE).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
    assert!(started.elapsed() < Duration::from_millis(500), "{:?}", started.elapsed());
    redis.freeze(false);
    eventually("redis answers again", async || counters.ping().await.is_ok()).await;
}

#[tokio::test]
async fn counting_goes_on_in_process_while_redis_is_away_and_redis_hears_of_it() {
    let mut redis = Redis::start().await;
    let counters = resilient(&redis, PATIENT).await;
    let other = RedisCounters::new(&redis.servers(), PATIENT).unwrap();
    other.hold("other", &[charge("c", 100)], LEASE).await.unwrap();
    counters.hold("before", &[charge("c", 10)], LEASE).await.unwrap();
    assert_eq!(value(&*counters, "c").await, 110);
    assert!(!counters.degraded());

    redis.kill();
    counters.hold("during", &[charge("c", 5)], LEASE).await.unwrap();
    assert!(counters.degraded());
    assert_eq!(value(&*counters, "c").await, 115, "goes on from the last known value");
    counters.hold("across", &[charge("c", 7)], LEASE).await.unwrap();
    assert!(counters.end("before", &[charge("c", 1)]).await.unwrap());
    assert!(counters.end("during", &[charge("c", 2)]).await.unwrap());
    assert!(!counters.end("during", &[charge("c", 2)]).await.unwrap(), "once, while away as well");
    assert_eq!(counters.observe(&[tripped("d", Duration::from_secs(60))]).await.unwrap().len(), 1);
    assert!(counters.ping().await.is_err(), "ping tells the truth");

    redis.launch().await;
    eventually("it recovers by itself", async || !counters.degraded()).await;
    assert_eq!(value(&*counters, "c").await, 10, "Redis restarted empty and was told of what it never knew");
    assert!(counters.end("across", &[charge("c", 3)]).await.unwrap(), "reserved away, settled at home");
    assert!(!counters.end("across", &[charge("c", 3)]).await.unwrap());
    assert_eq!(value(&other, "c").await, 6, "the other sidecar sees it");
    assert_eq!(counters.circuits().await.unwrap()[0].deployment, "d", "cooldowns outlive the change");
}

#[tokio::test]
async fn settlements_of_a_frozen_redis_are_neither_lost_nor_doubled() {
    let redis = Redis::start().await;
    let counters = resilient(&redis, Duration::from_millis(300)).await;
    counters.hold("one", &[charge("c", 100)], LEASE).await.unwrap();
    counters.hold("two", &[charge("c", 100)], LEASE).await.unwrap();
    redis.freeze(true);
    // This one is in the socket: Redis executes it when it wakes, though the caller was told otherwise.
    assert!(counters.end("one", &[charge("c", 1)]).await.unwrap());
    assert!(counters.degraded());
    assert!(counters.end("two", &[charge("c", 2)]).await.unwrap());
    redis.freeze(false);
    eventually("it recovers", async || !counters.degraded()).await;
    assert_eq!(value(&*counters, "c").await, 3);
}

#[tokio::test]
async fn the_sidecar_starts_while_redis_is_away() {
    let mut redis = Redis::stopped();
    let started = Instant::now();
    let counters = open_counters(&CounterBackend::Redis {
        servers: redis.servers(),
        deadline: REDIS_DEADLINE,
        fail_closed: false,
    })
    .await
    .unwrap();
    assert!(started.elapsed() < Duration::from_secs(3));
    assert!(counters.degraded());
    counters.hold("one", &[charge("c", 10)], LEASE).await.unwrap();
    assert_eq!(value(&*counters, "c").await, 10);
    redis.launch().await;
    eventually("it finds Redis", async || !counters.degraded()).await;
}

#[tokio::test]
async fn a_reservation_that_is_dropped_is_refunded() {
    over_all(async |counters| {
        let counter = format!("dropped:{}", rand::random::<u64>());
        for id in ["dropped", "kept"] {
            counters.hold(id, &[charge(&counter, 10)], LEASE).await.unwrap();
        }
        drop(Reservation::held(Arc::clone(&counters), "dropped".into()));
        assert_eq!(Reservation::held(Arc::clone(&counters), "kept".into()).hand_over(), "kept");
        eventually("refund", async || value(&*counters, &counter).await == 10).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(value(&*counters, &counter).await, 10);
    })
    .await;
}

/// Refuses what managed services refuse: the script commands but `EVAL`.
#[tokio::test]
async fn a_server_without_evalsha_gets_whole_scripts() {
    let redis = Redis::start().await;
    let () = ::redis::cmd("ACL")
        .arg(&["SETUSER", "default", "-script", "-evalsha"])
        .query_async(&mut raw(&redis).await)
        .await
        .unwrap();
    let counters = RedisCounters::new(&redis.servers(), PATIENT).unwrap();
    counters.hold("one", &[charge("c", 10)], LEASE).await.unwrap();
    assert!(counters.end("one", &[charge("c", 3)]).await.unwrap());
    assert_eq!(value(&counters, "c").await, 3);
}

#[tokio::test]
async fn a_stalled_redis_admits_within_the_deadline_and_what_it_admitted_too_late_is_refunded() {
    let redis = Redis::start().await;
    let counters = resilient(&redis, Duration::from_millis(100)).await;
    let other = RedisCounters::new(&redis.servers(), PATIENT).unwrap();
    let lone = |id: &str| {
        let charges = vec![limited(&Counter::new("slot", 0), 1, LEASE, Some(1))];
        ask(id, vec![Candidate { tier: 0, charges, probe: None }])
    };
    assert_eq!(counters.admit(&lone("first")).await.unwrap(), Admitted::Candidate(0));
    // The other replica frees the place, of which the twin does not hear.
    assert!(other.end("first", &[]).await.unwrap());
    redis.freeze(true);
    let started = Instant::now();
    assert_eq!(counters.admit(&lone("second")).await.unwrap(), Admitted::Full(vec![Some(0)]));
    assert!(started.elapsed() < Duration::from_millis(600), "{:?}", started.elapsed());
    assert!(!counters.degraded(), "one late answer is no outage");
    redis.freeze(false);
    eventually("the late admission is taken back", async || value(&other, "slot").await == 0).await;
}

#[tokio::test]
async fn the_twin_goes_on_from_what_redis_told_with_the_admissions() {
    let mut redis = Redis::start().await;
    let counters = resilient(&redis, PATIENT).await;
    let other = RedisCounters::new(&redis.servers(), PATIENT).unwrap();
    let one_of_ten = |id: &str| {
        let charges = vec![limited(&Counter::new("rpm", 7), 1, LEASE, Some(10))];
        ask(id, vec![Candidate { tier: 0, charges, probe: None }])
    };
    for id in 0..7 {
        assert_eq!(other.admit(&one_of_ten(&format!("o{id}"))).await.unwrap(), Admitted::Candidate(0));
    }
    assert_eq!(counters.admit(&one_of_ten("a")).await.unwrap(), Admitted::Candidate(0));
    redis.kill();
    for (id, admitted) in [("b", true), ("c", true), ("d", false)] {
        let answer = counters.admit(&one_of_ten(id)).await.unwrap();
        assert_eq!(matches!(answer, Admitted::Candidate(0)), admitted, "{id}: {answer:?}");
    }
    assert!(counters.degraded());
}

#[tokio::test]
async fn breakers_and_samples_go_on_while_redis_is_away_and_closing_is_heard_afterwards() {
    let mut redis = Redis::start().await;
    let counters = resilient(&redis, PATIENT).await;
    let other = RedisCounters::new(&redis.servers(), PATIENT).unwrap();
    let sample = |micros| Sample { deployment: "d".into(), speed: Speed::PerToken, micros };
    other.add_samples(&[sample(1)], 10, LEASE).await.unwrap();
    other.observe(&[tripped("shared", Duration::from_secs(60))]).await.unwrap();
    assert_eq!(counters.circuits().await.unwrap().len(), 1);
    assert_eq!(counters.samples().await.unwrap(), [sample(1)]);

    redis.kill();
    counters.add_samples(&[sample(2)], 10, LEASE).await.unwrap();
    assert!(counters.degraded());
    assert_eq!(counters.samples().await.unwrap(), [sample(1), sample(2)]);
    counters.observe(&[tripped("own", Duration::from_millis(1))]).await.unwrap();
    let mut known: Vec<String> =
        counters.circuits().await.unwrap().into_iter().map(|circuit| circuit.deployment).collect();
    known.sort();
    assert_eq!(known, ["own", "shared"]);

    redis.launch().await;
    eventually("it recovers", async || !counters.degraded()).await;
    eventually("redis knows both", async || other.circuits().await.is_ok_and(|all| all.len() == 2)).await;
    other.observe(&[observation("own", 1, Vec::new())]).await.unwrap();
    let left = counters.circuits().await.unwrap();
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(left[0].deployment, "shared");
}

#[tokio::test]
async fn a_settlement_told_twice_after_a_lost_answer_is_counted_once() {
    let redis = Redis::start().await;
    let counters = RedisCounters::new(&redis.servers(), PATIENT).unwrap();
    let told = [Settlement::end("local".into(), vec![charge("c", 4)])];
    assert_eq!(counters.settle_told(&told, |_| true).await.unwrap().ended, [true]);
    assert_eq!(counters.settle_told(&told, |_| true).await.unwrap().ended, [false]);
    assert_eq!(value(&counters, "c").await, 4);
}

#[tokio::test]
async fn a_place_that_nobody_waits_for_any_more_is_given_back() {
    let redis = Redis::start().await;
    let counters = resilient(&redis, PATIENT).await;
    let other = RedisCounters::new(&redis.servers(), PATIENT).unwrap();
    redis.freeze(true);
    let charges = [charge("c", 1)];
    let asking = counters.hold("left", &charges, LEASE);
    assert!(tokio::time::timeout(Duration::from_millis(100), asking).await.is_err());
    redis.freeze(false);
    // Long enough for the question to be answered, and nobody but the counters knows its id.
    tokio::time::sleep(Duration::from_millis(200)).await;
    eventually("the place is free", async || value(&other, "c").await == 0).await;
    assert!(!counters.degraded());
}

#[tokio::test]
async fn a_place_that_redis_gave_too_late_is_settled_once() {
    let redis = Redis::start().await;
    let counters = RedisCounters::new(&redis.servers(), PATIENT).unwrap();
    counters.hold("late", &[charge("c", 100)], LEASE).await.unwrap();
    let told = [Settlement::end("late".into(), vec![charge("c", 4)])];
    assert_eq!(counters.settle_told(&told, |_| true).await.unwrap().ended, [true]);
    assert_eq!(counters.settle_told(&told, |_| true).await.unwrap().ended, [false]);
    assert_eq!(value(&counters, "c").await, 4);
}

#[tokio::test]
async fn a_long_outage_forgets_no_amounts() {
    let mut redis = Redis::start().await;
    let counters = resilient(&redis, PATIENT).await;
    redis.kill();
    for id in 0..10_500 {
        let id = id.to_string();
        counters.hold(&id, &[charge("money", 100)], LEASE).await.unwrap();
        assert!(counters.end(&id, &[charge("money", 7)]).await.unwrap());
    }
    assert!(counters.degraded());
    redis.launch().await;
    eventually("it recovers", async || !counters.degraded()).await;
    assert_eq!(value(&*counters, "money").await, 10_500 * 7);
}

#[tokio::test]
async fn a_late_answer_is_no_outage() {
    let redis = Redis::start().await;
    let counters = resilient(&redis, Duration::from_millis(30)).await;
    let other = RedisCounters::new(&redis.servers(), PATIENT).unwrap();
    eventually("it answers in time", async || counters.ping().await.is_ok()).await;
    redis.freeze(true);
    counters.hold("late", &[charge("c", 10)], LEASE).await.unwrap();
    assert!(counters.end("late", &[charge("c", 3)]).await.unwrap());
    redis.freeze(false);
    assert!(!counters.degraded());
    eventually("Redis hears of it, once", async || value(&other, "c").await == 3).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(value(&other, "c").await, 3);

    redis.freeze(true);
    eventually("late for long is an outage", async || {
        counters.circuits().await.unwrap();
        counters.degraded()
    })
    .await;
    redis.freeze(false);
    eventually("it recovers", async || !counters.degraded()).await;
}

#[tokio::test]
async fn the_twin_knows_what_redis_refused() {
    let mut redis = Redis::start().await;
    let counters = resilient(&redis, PATIENT).await;
    let other = RedisCounters::new(&redis.servers(), PATIENT).unwrap();
    let one_of_two = |id: &str| {
        let charges = vec![limited(&Counter::new("rpm", 7), 1, LEASE, Some(2))];
        ask(id, vec![Candidate { tier: 0, charges, probe: None }])
    };
    for id in ["o1", "o2"] {
        assert_eq!(other.admit(&one_of_two(id)).await.unwrap(), Admitted::Candidate(0));
    }
    assert_eq!(counters.admit(&one_of_two("a")).await.unwrap(), Admitted::Full(vec![Some(0)]));
    redis.kill();
    assert_eq!(counters.admit(&one_of_two("b")).await.unwrap(), Admitted::Full(vec![Some(0)]));
}

#[tokio::test]
async fn one_replica_at_a_time_compares_counters_with_the_ledger() {
    let redis = Redis::start().await;
    let (one, two) = (resilient(&redis, PATIENT).await, resilient(&redis, PATIENT).await);
    let budget = Counter::new("team:a:budget", 0);
    let turn = Duration::from_millis(400);
    assert_eq!(one.standing(std::slice::from_ref(&budget), turn).await.unwrap(), Some(vec![None]));
    assert_eq!(two.standing(std::slice::from_ref(&budget), turn).await.unwrap(), None);
    let by = [Correction { counter: budget.clone(), by: 1 }];
    assert!(!two.correct(&by).await.unwrap());
    assert!(one.correct(&by).await.unwrap());
    eventually("the other's turn", async || {
        two.standing(std::slice::from_ref(&budget), turn).await.unwrap().is_some()
    })
    .await;
    assert!(!one.correct(&by).await.unwrap());
}
