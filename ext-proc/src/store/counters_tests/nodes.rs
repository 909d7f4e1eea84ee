//! Clusters, sentinels and TLS.

use super::super::testing::TempDir;
use super::admission::candidate;
use super::servers::{Certificates, Cluster, Tls, Watched, cluster};
use super::*;

const LIMIT: u64 = 100;

fn rpm() -> Counter {
    Counter::new("key:k:rpm", 29_384_756)
}

/// A request of a key that may have [`LIMIT`].
fn request(id: &str) -> Admission {
    let required = vec![limited(&rpm(), 1, LEASE * 2, Some(LIMIT))];
    Admission { required, ..ask(id, vec![candidate(0, Vec::new())]) }
}

/// Asks until it is refused, or `most` are admitted. Returns how many were.
async fn admit(counters: &dyn Counters, name: &str, most: u64) -> u64 {
    for admitted in 0..most {
        match counters.admit(&request(&format!("{name}/{admitted}"))).await.unwrap() {
            Admitted::Candidate(0) => {}
            Admitted::Refused { required: 0, .. } => return admitted,
            other => panic!("{other:?}"),
        }
    }
    most
}

async fn used(counters: &dyn Counters) -> u64 {
    counters.values(&[rpm()]).await.unwrap()[0]
}

/// Longer than a busy machine is, shorter than a server that hangs.
const DEADLINE: Duration = Duration::from_secs(2);

async fn sidecar(servers: &RedisServers) -> Arc<dyn Counters> {
    open_redis(servers, DEADLINE, QUICK, false).await.unwrap()
}

/// Two sidecars lose their primary, of which another server has all data, and go on with that one.
async fn failover(servers: &RedisServers, lose: impl AsyncFnOnce()) {
    let replicas = [sidecar(servers).await, sidecar(servers).await];
    assert!(replicas.iter().all(|counters| !counters.degraded()));
    // Both are told of both by the next heartbeats.
    tokio::time::sleep(QUICK * 4).await;
    for (index, counters) in replicas.iter().enumerate() {
        assert_eq!(admit(&**counters, &format!("before/{index}"), 20).await, 20);
    }
    for counters in &replicas {
        assert_eq!(used(&**counters).await, 40);
    }
    lose().await;
    let started = Instant::now();
    // Each may have half of the 60 that were left.
    for (index, counters) in replicas.iter().enumerate() {
        assert_eq!(admit(&**counters, &format!("alone/{index}"), 10).await, 10);
        assert!(counters.degraded());
    }
    eventually("both go on with the other server", async || replicas.iter().all(|one| !one.degraded())).await;
    let away = started.elapsed();
    assert!(away < Duration::from_secs(15), "{away:?}");
    let after = admit(&*replicas[0], "after", LIMIT).await;
    assert_eq!(40 + 20 + after, LIMIT, "exactly: there was nothing that the new primary did not hear of");
    assert_eq!(admit(&*replicas[1], "too many", LIMIT).await, 0);
    assert_eq!(used(&*replicas[1]).await, LIMIT);

    // Whoever was admitted, by whichever server, is settled there.
    for id in ["before/0/0", "alone/1/0", "after/0"] {
        let actual = Charge { counter: rpm(), amount: 0, ttl: LEASE * 2 };
        let settlement = Settlement::end(id.into(), vec![actual]);
        assert_eq!(replicas[1].settle_all(std::slice::from_ref(&settlement)).await.unwrap(), [true], "{id}");
        assert_eq!(replicas[0].settle_all(&[settlement]).await.unwrap(), [false], "{id}");
    }
    assert_eq!(used(&*replicas[0]).await, LIMIT - 3);
}

#[tokio::test]
async fn a_cluster_has_all_counters_in_one_slot_and_is_followed_when_that_moves() {
    let guard = cluster().await;
    let cluster = guard.as_ref().unwrap();
    let lost = RedisCounters::new(&cluster.stranger().await, PATIENT).unwrap();
    let error = lost.admit(&request("nowhere")).await.unwrap_err();
    assert!(error.to_string().contains("`redis_startup_nodes`"), "{error}");
    let counters = sidecar(&cluster.servers()).await;
    assert!(!counters.degraded());
    assert_eq!(admit(&*counters, "before", 40).await, 40);
    let sizes = cluster.sizes().await;
    assert_eq!(sizes.iter().filter(|size| **size > 0).count(), 1, "{sizes:?}");
    cluster.move_counters().await;
    assert_eq!(admit(&*counters, "after", LIMIT).await, LIMIT - 40);
    eventually("it counts there", async || !counters.degraded()).await;
    assert_eq!(used(&*counters).await, LIMIT);
    let moved = cluster.sizes().await;
    assert_eq!(moved.iter().filter(|size| **size > 0).count(), 1, "{moved:?}");
    assert_ne!(
        sizes.iter().position(|size| *size > 0),
        moved.iter().position(|size| *size > 0),
        "{sizes:?} {moved:?}"
    );
}

#[tokio::test]
async fn counters_go_on_with_the_primary_that_the_sentinels_name() {
    let mut watched = Watched::start(false).await;
    let servers = watched.servers();
    failover(&servers, async || {
        watched.replicated().await;
        watched.kill_primary();
    })
    .await;
}

#[tokio::test]
async fn a_primary_that_hangs_is_left() {
    let watched = Watched::start(false).await;
    failover(&watched.servers(), async || {
        watched.replicated().await;
        watched.freeze_primary().await;
    })
    .await;
}

#[tokio::test]
async fn counters_go_on_with_the_replica_that_a_cluster_promotes() {
    let mut cluster = Cluster::start().await;
    cluster.add_replica().await;
    let servers = cluster.servers();
    failover(&servers, async || {
        cluster.replicated().await;
        cluster.kill_counters().await;
    })
    .await;
}

#[tokio::test]
async fn a_primary_that_was_demoted_is_left_with_tls_as_well() {
    let watched = Watched::start(true).await;
    let counters = sidecar(&watched.servers()).await;
    assert!(!counters.degraded());
    assert_eq!(admit(&*counters, "before", 30).await, 30);
    watched.replicated().await;
    watched.switch().await;
    let started = Instant::now();
    let mut after = 0;
    // Nobody knows when the sentinel does it: requests go on all the while.
    while after < LIMIT - 30 {
        assert_eq!(admit(&*counters, &format!("during/{after}"), 1).await, 1, "after {after}");
        after += 1;
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    eventually("it goes on with the other server", async || !counters.degraded()).await;
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    assert_eq!(admit(&*counters, "too many", 1).await, 0);
    assert_eq!(used(&*counters).await, LIMIT);
}

#[tokio::test]
async fn a_name_that_stands_for_another_server_is_looked_up_again() {
    let (old, new) = (Redis::start().await, Redis::start().await);
    let directory = TempDir::new();
    let name = directory.path().join("name.sock");
    std::os::unix::fs::symlink(old.socket(), &name).unwrap();
    let url = crate::config::Secret::new(format!("redis+unix://{}", name.display()));
    let counters = sidecar(&RedisServers::one(url)).await;
    assert_eq!(admit(&*counters, "before", 30).await, 30);
    std::fs::remove_file(&name).unwrap();
    std::os::unix::fs::symlink(new.socket(), &name).unwrap();
    // Its connections stay, and what only reads goes on.
    let mut demote = ::redis::cmd("REPLICAOF");
    let () = demote.arg("127.0.0.1").arg(1).query_async(&mut raw(&old).await).await.unwrap();
    assert_eq!(admit(&*counters, "after", 10).await, 10);
    eventually("it goes on there", async || !counters.degraded()).await;
    // The new one had no data: it was brought back.
    let there = RedisCounters::new(&new.servers(), PATIENT).unwrap();
    assert_eq!(used(&there).await, 40);
    assert_eq!(admit(&*counters, "rest", LIMIT).await, LIMIT - 40);
}

#[tokio::test]
async fn certificates_are_checked() {
    for cluster in [false, true] {
        let tls = Tls::start(cluster).await;
        let servers = tls.servers(cluster);
        let counters = RedisCounters::new(&servers, PATIENT).unwrap();
        counters.connect().await.unwrap();
        assert_eq!(admit(&counters, "one", 3).await, 3);
        let stranger = Certificates::new();
        let wrong = RedisServers { ca_certs: Some(stranger.authority()), ..servers.clone() };
        let refused = RedisCounters::new(&wrong, PATIENT).unwrap().connect().await;
        assert!(matches!(refused, Err(StoreError::Unavailable { .. })), "{refused:?}");
        let system = RedisServers { ca_certs: None, ..servers.clone() };
        let refused = RedisCounters::new(&system, PATIENT).unwrap().connect().await;
        assert!(matches!(refused, Err(StoreError::Unavailable { .. })), "{refused:?}");
        let missing = RedisServers { ca_certs: Some("/nowhere.pem".into()), ..servers };
        let Err(error) = RedisCounters::new(&missing, PATIENT) else { panic!("no such file") };
        assert!(error.to_string().contains("/nowhere.pem"), "{error}");
    }
}

#[tokio::test]
async fn scripts_are_sent_whole_where_hashes_are_refused() {
    let redis = Redis::start().await;
    let mut raw = raw(&redis).await;
    let () = ::redis::cmd("ACL")
        .arg(&["SETUSER", "plain", "on", ">word", "~attache:{counters}:*", "+@read", "+@write"])
        .arg(&["+@connection", "+time", "+eval"])
        .query_async(&mut raw)
        .await
        .unwrap();
    let url = format!(
        "redis+unix://{}?user=plain&pass=word",
        redis.url().expose().trim_start_matches("redis+unix://")
    );
    let counters = RedisCounters::new(&RedisServers::one(crate::config::Secret::new(url)), PATIENT).unwrap();
    assert_eq!(admit(&counters, "one", 3).await, 3);
    assert_eq!(used(&counters).await, 3);
    let stats: String = ::redis::cmd("INFO").arg("commandstats").query_async(&mut raw).await.unwrap();
    let of = |name: &str| {
        stats.lines().find(|line| line.starts_with(&format!("cmdstat_{name}:"))).map(str::to_owned)
    };
    let evalsha = of("evalsha").unwrap();
    // Once per script, not once per call.
    assert!(evalsha.contains("rejected_calls=2"), "{evalsha}");
    assert!(of("eval").unwrap().contains("calls=4,"), "{:?}", of("eval"));
}
