//! The ledger's stream, over one server and over a cluster.

use super::*;

fn stream(servers: &RedisServers, consumer: &str) -> RedisStream {
    RedisStream::new(servers, consumer.to_owned()).unwrap()
}

async fn over_both(check: impl AsyncFn(RedisServers)) {
    let mut redis = Redis::durable();
    redis.launch().await;
    check(redis.servers()).await;
    let cluster = servers::cluster().await;
    check(cluster.as_ref().unwrap().servers()).await;
}

#[tokio::test]
async fn entries_are_read_by_one_replica_and_taken_over_by_another() {
    over_both(async |servers| {
        let (one, other) = (stream(&servers, "one"), stream(&servers, "other"));
        for stream in [&one, &other] {
            eventually("connected", async || {
                stream.reconnect();
                stream.inspect().await.is_ok()
            })
            .await;
        }
        let first = one.inspect().await.unwrap();
        assert!(
            (first.is_new, first.length, first.oldest_ms) == (false, 0, None) && first.is_recent(),
            "{first:?}"
        );
        assert!(!first.run_id.is_empty() && !first.evicts);
        let lines: Vec<String> = (0..1_200).map(|n| format!("line {n}")).collect();
        assert_eq!(one.append(lines.iter().map(String::as_bytes)).await.unwrap(), 1_200);
        let newest = one.newest().await.unwrap().unwrap();
        let read = one.read(700).await.unwrap();
        assert_eq!((read.len(), read[699].line.as_deref()), (700, Some(&b"line 699"[..])));
        let rest = other.read(1_000).await.unwrap();
        assert_eq!(rest.len(), 500, "nobody reads what another one has");
        let ids: Vec<String> = rest.into_iter().map(|entry| entry.id).collect();
        assert_eq!(other.done(&ids).await.unwrap(), 700);
        assert!(other.take_over(LEASE, 1_000).await.unwrap().is_empty(), "not yet");
        let ids: Vec<String> = read[..100].iter().map(|entry| entry.id.clone()).collect();
        assert_eq!(one.done(&ids).await.unwrap(), 600);
        assert_eq!(one.unfinished(1_000).await.unwrap().len(), 600);
        tokio::time::sleep(Duration::from_millis(50)).await;
        let taken = other.take_over(Duration::from_millis(40), 1_000).await.unwrap();
        assert_eq!((taken.len(), taken[0].line.as_deref()), (600, Some(&b"line 100"[..])));
        assert!(one.unfinished(1_000).await.unwrap().is_empty());
        let all = other.unfinished(2_000).await.unwrap();
        assert!(other.waits_until(&newest).await.unwrap());
        let ids: Vec<String> = all.into_iter().map(|entry| entry.id).collect();
        assert_eq!(other.done(&ids).await.unwrap(), 0);
        assert!(!other.waits_until(&newest).await.unwrap());
    })
    .await;
}

#[test]
fn the_first_version_that_has_all_commands_is_told() {
    for (version, recent) in
        [("5.0.3", false), ("6.0.16", false), ("6.2.0", true), ("7.0.15", true), ("", false)]
    {
        let server = StreamServer {
            run_id: String::new(),
            version: version.to_owned(),
            aof: true,
            evicts: false,
            is_new: false,
            length: 0,
            oldest_ms: None,
        };
        assert_eq!(server.is_recent(), recent, "{version}");
    }
}
