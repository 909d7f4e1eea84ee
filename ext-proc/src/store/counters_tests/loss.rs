//! Redis goes, and comes back without its data.

use super::admission::{candidate, end};
use super::*;

const MINUTE: Duration = Duration::from_secs(120);

async fn flush(redis: &Redis) {
    let () = ::redis::cmd("FLUSHALL").query_async(&mut raw(redis).await).await.unwrap();
}

fn rpm() -> Counter {
    Counter::new("key:k:rpm", 29_384_756)
}

fn tpm() -> Counter {
    Counter::new("key:k:tpm", 29_384_756)
}

fn parallel() -> Counter {
    Counter::new("key:k:parallel", 0)
}

/// Of a key with limits of 100 requests and 100,000 tokens a minute, and 50 requests at once.
fn request(id: &str, tokens: u64) -> Admission {
    let required = vec![
        limited(&rpm(), 1, MINUTE, Some(100)),
        limited(&tpm(), tokens, MINUTE, Some(100_000)),
        limited(&parallel(), 1, MINUTE, Some(50)),
    ];
    Admission { required, ..ask(id, vec![candidate(0, Vec::new())]) }
}

fn used(tokens: u64) -> Vec<Charge> {
    vec![
        Charge { counter: rpm(), amount: 1, ttl: MINUTE },
        Charge { counter: tpm(), amount: tokens, ttl: MINUTE },
    ]
}

async fn read(counters: &dyn Counters) -> Vec<u64> {
    counters.values(&[rpm(), tpm(), parallel()]).await.unwrap()
}

async fn closed(redis: &Redis) -> Arc<dyn Counters> {
    open_redis(&redis.servers(), PATIENT, QUICK, true).await.unwrap()
}

async fn back(replicas: &[&Arc<dyn Counters>]) {
    eventually("all are back", async || replicas.iter().all(|replica| !replica.degraded())).await;
}

/// Waits until the loss is noticed and repaired, without a request.
async fn noticed(redis: &Redis, replicas: &[&Arc<dyn Counters>]) {
    eventually("an epoch", async || {
        let exists: bool = ::redis::cmd("EXISTS")
            .arg("attache:{counters}:epoch")
            .query_async(&mut raw(redis).await)
            .await
            .unwrap();
        exists
    })
    .await;
    tokio::time::sleep(QUICK * 6).await;
    back(replicas).await;
}

#[tokio::test]
async fn counters_and_leases_are_brought_back_after_a_flush() {
    let redis = Redis::start().await;
    let (a, b) = (resilient(&redis, PATIENT).await, resilient(&redis, PATIENT).await);
    for (replica, id, tokens) in [(&a, "a1", 10), (&b, "b1", 100), (&a, "a2", 1_000), (&b, "b2", 10_000)] {
        assert_eq!(replica.admit(&request(id, tokens)).await.unwrap(), Admitted::Candidate(0));
    }
    assert!(end(&*a, "a1", used(7)).await);
    assert!(end(&*b, "a2", used(2_000)).await, "usage arrives at the other one");
    assert_eq!(read(&*a).await, [4, 12_107, 2]);
    flush(&redis).await;
    noticed(&redis, &[&a, &b]).await;
    assert_eq!(read(&*a).await, [4, 12_107, 2]);
    assert!(!end(&*a, "a2", used(9)).await, "settled before");
    assert!(!end(&*a, "a1", used(9)).await, "settled before");
    assert!(end(&*a, "b2", used(20_000)).await, "the lease is known again, wherever its usage arrives");
    assert!(end(&*b, "b1", Vec::new()).await);
    assert_eq!(read(&*b).await, [3, 22_007, 0]);
    assert!(!end(&*b, "b2", used(20_000)).await);
    assert_eq!(read(&*b).await, [3, 22_007, 0]);
}

#[tokio::test]
async fn what_ends_while_redis_is_away_is_settled_once_on_an_empty_one() {
    let mut redis = Redis::start().await;
    let (a, b) = (resilient(&redis, PATIENT).await, resilient(&redis, PATIENT).await);
    tokio::time::sleep(QUICK * 3).await;
    for (replica, id) in [(&a, "a1"), (&a, "a2"), (&b, "b1"), (&b, "b2")] {
        assert_eq!(replica.admit(&request(id, 100)).await.unwrap(), Admitted::Candidate(0));
    }
    let part = Settlement { id: "a2".into(), actual: vec![used(30).remove(1)], stays: true };
    redis.kill();
    assert!(end(&*a, "a1", used(7)).await);
    assert_eq!(a.settle_all(std::slice::from_ref(&part)).await.unwrap(), [true]);
    assert_eq!(a.settle_all(&[part]).await.unwrap(), [true]);
    assert!(end(&*b, "b1", Vec::new()).await);
    assert_eq!(b.admit(&request("b3", 5)).await.unwrap(), Admitted::Candidate(0), "alone");
    assert_eq!(b.admit(&request("b4", 6)).await.unwrap(), Admitted::Candidate(0), "alone");
    assert!(end(&*b, "b4", used(60)).await);
    redis.launch().await;
    back(&[&a, &b]).await;
    // a1 7, a2 30 so far, b2 100, b3 5, b4 60.
    assert_eq!(read(&*a).await, [5, 202, 3]);
    assert!(end(&*b, "a2", used(1)).await);
    assert!(end(&*b, "b2", used(1)).await);
    assert!(end(&*a, "b3", used(1)).await);
    assert_eq!(read(&*a).await, [5, 100, 0]);
}

#[tokio::test]
async fn with_its_data_nothing_is_counted_twice() {
    let redis = Redis::start().await;
    let a = resilient(&redis, Duration::from_millis(100)).await;
    assert_eq!(a.admit(&request("a1", 100)).await.unwrap(), Admitted::Candidate(0));
    assert_eq!(a.admit(&request("a2", 100)).await.unwrap(), Admitted::Candidate(0));
    redis.freeze(true);
    eventually("it is lost", async || {
        a.circuits().await.unwrap();
        a.degraded()
    })
    .await;
    assert!(end(&*a, "a1", used(7)).await);
    assert_eq!(a.admit(&request("a3", 1_000)).await.unwrap(), Admitted::Candidate(0));
    redis.freeze(false);
    back(&[&a]).await;
    assert_eq!(read(&*a).await, [3, 1_107, 2], "what was admitted alone is known at once");
    assert!(end(&*a, "a3", used(3)).await);
    assert!(end(&*a, "a2", used(2)).await);
    assert_eq!(read(&*a).await, [3, 12, 0]);
}

#[tokio::test]
async fn a_budget_goes_on_where_it_was() {
    let mut redis = Redis::start().await;
    let a = resilient(&redis, PATIENT).await;
    let money = Counter::new("key:k:budget", 0);
    let place = async |id: &str, seed| {
        let limit = Limited { shrink: true, seed, ..limited(&money, 60, MINUTE, Some(1_000)) };
        let ask = Admission { required: vec![limit], ..ask(id, vec![candidate(0, Vec::new())]) };
        a.place(&ask).await.unwrap()
    };
    assert_eq!(place("1", Seed::Ask).await.admitted, Admitted::Unseeded(vec![0]));
    assert_eq!(place("1", Seed::Known(800)).await.values, [860]);
    redis.kill();
    assert_eq!(place("2", Seed::Ask).await.values, [920]);
    redis.launch().await;
    back(&[&a]).await;
    assert_eq!(place("3", Seed::Ask).await.values, [980]);
    assert_eq!(place("4", Seed::Ask).await.values, [1_000], "20 are left");
    let spent = Charge { counter: money.clone(), amount: 5, ttl: MINUTE };
    for id in ["1", "2", "3", "4"] {
        assert!(end(&*a, id, vec![spent.clone()]).await);
    }
    assert_eq!(a.values(&[money]).await.unwrap(), [820]);
}

#[tokio::test]
async fn a_budget_that_was_first_used_without_redis_begins_where_the_ledger_says() {
    let mut redis = Redis::stopped();
    let a = resilient(&redis, PATIENT).await;
    let money = Counter::new("key:k:budget", 0);
    let limit = Limited { shrink: true, seed: Seed::Known(800), ..limited(&money, 60, MINUTE, Some(1_000)) };
    for id in ["1", "2"] {
        let ask = Admission { required: vec![limit.clone()], ..ask(id, vec![candidate(0, Vec::new())]) };
        assert_eq!(a.admit(&ask).await.unwrap(), Admitted::Candidate(0));
    }
    assert!(end(&*a, "1", vec![Charge { counter: money.clone(), amount: 5, ttl: MINUTE }]).await);
    redis.launch().await;
    back(&[&a]).await;
    assert_eq!(a.values(&[money]).await.unwrap(), [865]);
}

#[tokio::test]
async fn fail_closed_admits_nothing_that_has_a_limit() {
    let mut redis = Redis::start().await;
    let a = closed(&redis).await;
    assert_eq!(a.admit(&request("1", 1)).await.unwrap(), Admitted::Candidate(0));
    redis.kill();
    let error = a.admit(&request("2", 1)).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
    let place = vec![candidate(0, vec![limited(&rpm(), 1, MINUTE, Some(5))])];
    assert!(a.admit(&ask("3", place)).await.is_err(), "a candidate's limit is one");
    let place = vec![candidate(0, vec![limited(&rpm(), 1, MINUTE, None)])];
    assert_eq!(a.admit(&ask("4", place)).await.unwrap(), Admitted::Candidate(0), "counting is no limit");
    assert!(end(&*a, "1", used(1)).await, "settling goes on");
    redis.launch().await;
    back(&[&a]).await;
    assert_eq!(read(&*a).await, [2, 1, 0]);
}

#[tokio::test]
async fn replicas_that_count_alone_share_what_was_left() {
    let mut redis = Redis::start().await;
    let replicas = [
        resilient(&redis, PATIENT).await,
        resilient(&redis, PATIENT).await,
        resilient(&redis, PATIENT).await,
    ];
    // Two more heartbeats: all know of all.
    tokio::time::sleep(QUICK * 4).await;
    let minute = |window| Counter::new("rpm", window);
    let one = |id: String, window| Admission {
        required: vec![limited(&minute(window), 1, MINUTE, Some(20))],
        ..ask(&id, vec![candidate(0, Vec::new())])
    };
    for (at, replica) in replicas.iter().enumerate() {
        assert_eq!(replica.admit(&one(format!("before{at}"), 7)).await.unwrap(), Admitted::Candidate(0));
    }
    redis.kill();
    // Known were 1, 2 and 3 of 20: thirds of 19, 18 and 17, rounded by rank. In the next window, thirds of 20.
    for (window, least, most) in [(7, 17, 19), (8, 20, 20)] {
        let mut admitted = 0;
        for (at, replica) in replicas.iter().enumerate() {
            for n in 0..20 {
                let answer = replica.admit(&one(format!("{window}/{at}/{n}"), window)).await.unwrap();
                admitted += u32::from(answer == Admitted::Candidate(0));
            }
        }
        assert!((least..=most).contains(&admitted), "{admitted} in {window}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_limit_of_100_holds_exactly_while_redis_is_restarted_empty() {
    let mut redis = Redis::start().await;
    let replicas = [closed(&redis).await, closed(&redis).await, closed(&redis).await];
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..1_000 {
        let counters = Arc::clone(&replicas[n % 3]);
        tasks.spawn(async move {
            tokio::time::sleep(Duration::from_millis(n as u64)).await;
            let mut ask = request(&format!("r{n}"), 10);
            // In flight at most 5.
            ask.required[2].limit = Some(5);
            let started = Instant::now();
            while started.elapsed() < Duration::from_secs(15) {
                match counters.admit(&ask).await {
                    Ok(Admitted::Candidate(_)) => {
                        tokio::time::sleep(Duration::from_millis(30)).await;
                        assert!(end(&*counters, &ask.id, used(10)).await, "{n} was not settled");
                        return true;
                    }
                    Ok(Admitted::Refused { required: 0, .. }) => return false,
                    // Asked again: too many at once, or Redis is away.
                    Ok(Admitted::Refused { .. }) | Err(StoreError::Unavailable { .. }) => {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    other => panic!("{other:?}"),
                }
            }
            false
        });
    }
    tokio::time::sleep(Duration::from_millis(250)).await;
    redis.kill();
    redis.launch().await;
    let mut admitted = 0;
    while let Some(ended) = tasks.join_next().await {
        admitted += usize::from(ended.unwrap());
    }
    assert_eq!(admitted, 100);
    assert_eq!(read(&*replicas[0]).await, [100, 1_000, 0]);
}
