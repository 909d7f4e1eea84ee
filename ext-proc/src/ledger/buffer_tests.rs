//! One suite over both buffers, then what is particular to the stream.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use arc_swap::ArcSwap;

use super::row_tests::{config, record};
use super::{Books, BooksError, BooksOptions, Buffer, NoStream, SpoolLimits, StreamLimits};
use crate::entity::double::Entities;
use crate::store::testing::Redis;

const HOUR: Duration = Duration::from_secs(3_600);
const SOON: Duration = Duration::from_millis(20);

/// A database, and where rows wait for it.
struct World {
    dir: tempfile::TempDir,
    redis: Option<Redis>,
    database: Arc<Entities>,
}

impl World {
    fn spool() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), redis: None, database: Arc::default() }
    }

    async fn stream() -> Self {
        let mut redis = Redis::durable();
        redis.launch().await;
        Self { redis: Some(redis), ..Self::spool() }
    }

    /// A replica, `name` being its directory.
    fn open_as(&self, name: &str, interval: Duration, limits: StreamLimits) -> Arc<Books> {
        let options = BooksOptions {
            dir: self.dir.path().join(name),
            database: self.database.clone(),
            snapshot: Arc::new(ArcSwap::from_pointee(config())),
            interval,
            redis: self.redis.as_ref().map(Redis::servers),
            keep_prompts: HOUR,
        };
        Books::open_with(options, SpoolLimits::default(), limits).unwrap()
    }

    /// A replica whose buffer is in use.
    async fn open(&self, name: &str, interval: Duration) -> Arc<Books> {
        let books = self.open_as(name, interval, limits());
        let wanted = if self.redis.is_some() { Buffer::Redis } else { Buffer::Spool };
        stands(&books, wanted).await;
        // The first pass is over before rows come.
        tokio::time::sleep(SOON).await;
        books
    }

    /// The name of another replica's directory: its own with a stream, the same without.
    fn other(&self) -> &'static str {
        if self.redis.is_some() { "other" } else { "spool" }
    }

    fn written(&self) -> Vec<String> {
        self.database.rows.lock().keys().cloned().collect()
    }

    async fn command(&self, words: &[&str]) -> ::redis::Value {
        let url = self.redis.as_ref().unwrap().url();
        let client = ::redis::Client::open(url.expose()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        ::redis::cmd(words[0]).arg(&words[1..]).query_async(&mut connection).await.unwrap()
    }

    /// Files of a replica.
    fn files(&self, name: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.dir.path().join(name)).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

fn limits() -> StreamLimits {
    let (take_over, probe) = (Duration::from_millis(300), Duration::from_millis(20));
    StreamLimits { take_over, probe, ..StreamLimits::default() }
}

fn ids(range: std::ops::Range<u32>) -> Vec<attache_llm::contract::UsageRecord> {
    range.map(|n| record(&n.to_string())).collect()
}

async fn eventually(what: &str, check: impl Fn() -> bool) {
    for _ in 0..1_000 {
        if check() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}

async fn stands(books: &Books, wanted: Buffer) {
    eventually(&format!("{wanted:?}"), || books.status().buffer == wanted).await;
}

async fn over_both(check: impl AsyncFn(World)) {
    check(World::spool()).await;
    check(World::stream().await).await;
}

#[tokio::test]
async fn rows_that_are_accepted_twice_are_written_once_and_leave_nothing_behind() {
    over_both(async |world| {
        let books = world.open("spool", HOUR).await;
        assert_eq!(books.accept(&[]).await.unwrap().len(), 0);
        assert_eq!(books.accept(&ids(0..2)).await.unwrap().len(), 2);
        assert_eq!(books.accept(&ids(1..2)).await.unwrap().len(), 1);
        assert_eq!(books.status().pending, 3);
        books.flush().await.unwrap();
        assert_eq!(world.written(), ["0", "1"]);
        let (status, figures) = (books.status(), books.figures());
        assert_eq!((status.pending, status.oldest_age, status.last_error), (0, None, None));
        assert_eq!((figures.rows_written(), figures.duplicates(), figures.dropped()), (2, 1, 0));
        assert!(world.files("spool").is_empty());
        let (buckets, count, _) = figures.writes.read();
        assert_eq!((count, buckets.last().unwrap().1), (1, 1));
    })
    .await;
}

#[tokio::test]
async fn what_a_dead_process_left_is_written_by_the_next() {
    over_both(async |world| {
        world.database.away.store(true, SeqCst);
        let books = world.open("spool", HOUR).await;
        books.accept(&ids(0..1_500)).await.unwrap();
        assert!(matches!(books.flush().await, Err(BooksError::Database(_))));
        assert!(books.status().last_error.unwrap().contains("away"));
        drop(books);
        assert!(world.written().is_empty());
        world.database.away.store(false, SeqCst);
        let books = world.open(world.other(), SOON).await;
        eventually("replayed", || world.written().len() == 1_500).await;
        eventually("nothing pending", || books.status().pending == 0).await;
        assert_eq!(books.figures().dropped(), 0);
    })
    .await;
}

#[tokio::test]
async fn a_replica_that_dies_between_reading_and_committing_is_replaced_by_a_running_one() {
    over_both(async |world| {
        let survivor = world.open(world.other(), Duration::from_millis(50)).await;
        world.database.away.store(true, SeqCst);
        let victim = world.open("spool", HOUR).await;
        victim.accept(&ids(0..50)).await.unwrap();
        assert!(victim.flush().await.is_err(), "read, not committed");
        drop(victim);
        world.database.away.store(false, SeqCst);
        eventually("taken over", || world.written().len() == 50).await;
        eventually("nothing pending", || survivor.status().pending == 0).await;
    })
    .await;
}

#[tokio::test]
async fn the_writer_comes_back_after_the_database_by_itself() {
    over_both(async |world| {
        let books = world.open("spool", SOON).await;
        world.database.away.store(true, SeqCst);
        books.accept(&ids(0..3)).await.unwrap();
        eventually("error noticed", || books.status().last_error.is_some()).await;
        eventually("its age is told", || books.status().oldest_age.is_some()).await;
        books.accept(&ids(3..5)).await.unwrap();
        world.database.away.store(false, SeqCst);
        eventually("written", || world.written().len() == 5).await;
        eventually("error gone", || books.status().last_error.is_none()).await;
    })
    .await;
}

#[tokio::test]
async fn many_rows_wake_the_writer() {
    over_both(async |world| {
        let books = world.open("spool", HOUR).await;
        books.accept(&ids(0..999)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(world.written().len(), 0, "not before there is enough");
        books.accept(&ids(999..1_100)).await.unwrap();
        eventually("written by number", || world.written().len() == 1_100).await;
    })
    .await;
}

#[tokio::test]
async fn many_concurrent_batches_are_all_durable() {
    over_both(async |world| {
        let books = world.open("spool", HOUR).await;
        let batches = (0..100).map(|n| {
            let books = books.clone();
            tokio::spawn(async move { books.accept(&ids(2 * n..2 * n + 2)).await })
        });
        for accepted in futures_util::future::join_all(batches).await {
            assert_eq!(accepted.unwrap().unwrap().len(), 2);
        }
        drop(books);
        let next = world.open(world.other(), SOON).await;
        eventually("all written", || world.written().len() == 200).await;
        eventually("nothing pending", || next.status().pending == 0).await;
    })
    .await;
}

#[tokio::test]
async fn one_bad_row_does_not_hold_up_the_rest() {
    over_both(async |world| {
        *world.database.poison.lock() = Some("2".to_owned());
        let books = world.open("spool", HOUR).await;
        books.accept(&ids(0..5)).await.unwrap();
        for _ in 0..10 {
            if books.flush().await.is_ok() {
                break;
            }
        }
        assert_eq!(world.written(), ["0", "1", "3", "4"]);
        assert_eq!((books.figures().rows_set_aside(), books.figures().dropped()), (1, 0));
        let left = world.files("spool");
        assert!(left.len() == 1 && left[0].ends_with(".refused"), "{left:?}");
        // As docs/operations.md says.
        *world.database.poison.lock() = None;
        let file = world.dir.path().join("spool").join(&left[0]);
        std::fs::rename(&file, file.with_extension("jsonl")).unwrap();
        let next = world.open("spool", SOON).await;
        eventually("tried again", || world.written().len() == 5).await;
        eventually("nothing pending", || next.status().pending == 0).await;
    })
    .await;
}

#[tokio::test]
async fn what_was_said_is_kept_apart_from_the_rows_and_forgotten_when_it_is_old() {
    over_both(async |world| {
        let books = world.open("spool", HOUR).await;
        let (mut said, mut old) = (record("said"), record("old"));
        let now_us = crate::routing::now_ms() * 1_000;
        (said.prompt, said.answer, said.start_us) =
            (Some("[\"asked\"]".into()), Some("answered".into()), now_us);
        (old.prompt, old.start_us) = (Some("[]".into()), now_us - 7_200_000_000);
        books.accept(&[said.clone(), record("silent"), old]).await.unwrap();
        books.accept(&[said]).await.unwrap();
        books.flush().await.unwrap();
        assert_eq!(world.written(), ["old", "said", "silent"]);
        assert_eq!(world.database.prompts.lock().len(), 2);
        // A process looks for old ones when it starts, and then every hour.
        let _next = world.open(world.other(), HOUR).await;
        eventually("the old one is forgotten", || world.database.prompts.lock().len() == 1).await;
        let kept = world.database.prompts.lock()["said"].clone();
        assert_eq!(
            (kept.request.as_deref(), kept.response.as_deref()),
            (Some("[\"asked\"]"), Some("answered"))
        );
        assert_eq!(kept.start_us, now_us);
        eventually("nothing left", || books.status().pending == 0 && world.files("spool").is_empty()).await;
        assert_eq!(books.figures().rows_set_aside(), 0);
    })
    .await;
}

#[tokio::test]
async fn a_reader_sees_what_another_replica_accepted() {
    let world = World::stream().await;
    let (writer, reader) = (world.open("spool", HOUR).await, world.open("other", HOUR).await);
    writer.accept(&ids(0..10)).await.unwrap();
    reader.flush().await.unwrap();
    assert_eq!(world.written().len(), 10);
    assert_eq!((reader.figures().rows_written(), writer.figures().rows_written()), (10, 0));
    // While the other one has read rows and cannot write them, a reader is not told that all is there.
    writer.accept(&ids(10..20)).await.unwrap();
    world.database.away.store(true, SeqCst);
    assert!(writer.flush().await.is_err());
    let flush = tokio::spawn(async move { (reader.flush().await, reader) });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!flush.is_finished(), "it waits");
    world.database.away.store(false, SeqCst);
    writer.flush().await.unwrap();
    let (flushed, _reader) = flush.await.unwrap();
    flushed.unwrap();
    assert_eq!(world.written().len(), 20);
}

#[tokio::test]
async fn a_redis_that_keeps_nothing_is_not_trusted() {
    let world = World { redis: Some(Redis::start().await), ..World::spool() };
    let books = world.open_as("spool", HOUR, limits());
    stands(&books, Buffer::Instead(NoStream::NoAof)).await;
    books.accept(&ids(0..1)).await.unwrap();
    assert_eq!(world.files("spool").len(), 1, "in the spool");
    world.command(&["CONFIG", "SET", "appendonly", "yes"]).await;
    stands(&books, Buffer::Redis).await;
    books.accept(&ids(1..2)).await.unwrap();
    assert_eq!(books.status().pending, 2, "one here, one there");
    world.command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru", "maxmemory", "100mb"]).await;
    stands(&books, Buffer::Instead(NoStream::Evicts)).await;
    world.command(&["CONFIG", "SET", "maxmemory-policy", "volatile-lru"]).await;
    stands(&books, Buffer::Redis).await;
    world.command(&["ACL", "SETUSER", "default", "-info"]).await;
    stands(&books, Buffer::Instead(NoStream::Forbidden)).await;
    books.accept(&ids(2..3)).await.unwrap();
    books.flush().await.unwrap();
    assert_eq!(world.written(), ["0", "1", "2"]);
}

#[tokio::test]
async fn redis_may_be_away_at_the_start_and_come_later() {
    let mut world = World { redis: Some(Redis::durable()), ..World::spool() };
    let books = world.open_as("spool", HOUR, limits());
    books.accept(&ids(0..2)).await.unwrap();
    assert_eq!(books.status().buffer, Buffer::Instead(NoStream::Away));
    world.redis.as_mut().unwrap().launch().await;
    stands(&books, Buffer::Redis).await;
    books.accept(&ids(2..4)).await.unwrap();
    books.flush().await.unwrap();
    assert_eq!(world.written(), ["0", "1", "2", "3"]);
}

#[tokio::test]
async fn a_killed_redis_loses_nothing_and_costs_no_acknowledgement() {
    let mut world = World::stream().await;
    let books = world.open("spool", HOUR).await;
    books.accept(&ids(0..100)).await.unwrap();
    world.redis.as_mut().unwrap().kill();
    books.accept(&ids(100..150)).await.unwrap();
    assert_eq!(books.status().buffer, Buffer::Instead(NoStream::Away));
    assert!(matches!(books.flush().await, Err(BooksError::Stream(_))), "rows are out of reach");
    assert_eq!(books.status().last_error, None, "the database is well");
    world.redis.as_mut().unwrap().launch().await;
    stands(&books, Buffer::Redis).await;
    books.accept(&ids(150..160)).await.unwrap();
    books.flush().await.unwrap();
    assert_eq!(world.written().len(), 160);
    assert_eq!(books.figures().dropped(), 0);
}

#[tokio::test]
async fn a_redis_that_lost_the_last_seconds_hears_of_them_again() {
    let mut world = World::stream().await;
    let books = world.open("spool", HOUR).await;
    books.accept(&ids(0..100)).await.unwrap();
    let redis = world.redis.as_mut().unwrap();
    redis.kill();
    redis.lose();
    redis.launch().await;
    stands(&books, Buffer::Redis).await;
    eventually("told again", || books.status().pending == 100).await;
    books.flush().await.unwrap();
    assert_eq!(world.written().len(), 100);
}

#[tokio::test]
async fn a_full_stream_is_never_cut_and_the_spool_takes_the_rest() {
    let world = World::stream().await;
    let books = world.open_as("spool", HOUR, StreamLimits { max_rows: 10, ..limits() });
    stands(&books, Buffer::Redis).await;
    world.database.away.store(true, SeqCst);
    books.accept(&ids(0..8)).await.unwrap();
    books.accept(&ids(8..16)).await.unwrap();
    assert_eq!(world.files("spool").len(), 1);
    assert_eq!(books.status().pending, 16);
    world.database.away.store(false, SeqCst);
    books.flush().await.unwrap();
    assert_eq!(world.written().len(), 16);
    stands(&books, Buffer::Redis).await;
}

#[tokio::test]
async fn entries_that_cannot_be_read_are_put_aside_and_deleted_ones_are_counted() {
    let world = World::stream().await;
    let books = world.open("spool", HOUR).await;
    world.command(&["XADD", "attache:{ledger}:rows", "*", "line", "nonsense"]).await;
    books.accept(&ids(0..2)).await.unwrap();
    books.flush().await.unwrap();
    assert_eq!(world.written(), ["0", "1"]);
    assert_eq!(books.figures().rows_set_aside(), 1);
    let left = world.files("spool");
    assert!(left.len() == 1 && left[0].ends_with(".damaged"), "{left:?}");
    // Read, not finished, and then deleted by someone.
    world.database.away.store(true, SeqCst);
    books.accept(&ids(2..3)).await.unwrap();
    assert!(books.flush().await.is_err());
    world.command(&["XTRIM", "attache:{ledger}:rows", "MAXLEN", "0"]).await;
    world.database.away.store(false, SeqCst);
    eventually("counted", || books.figures().dropped() == 1).await;
}

#[tokio::test]
async fn names_of_replicas_do_not_pile_up() {
    let world = World::stream().await;
    let (first, second) = (world.open("spool", HOUR).await, world.open("other", HOUR).await);
    for books in [&first, &second] {
        books.accept(&ids(0..1)).await.unwrap();
        books.flush().await.unwrap();
    }
    first.close().await.unwrap();
    let known = world.command(&["XINFO", "CONSUMERS", "attache:{ledger}:rows", "writers"]).await;
    let ::redis::Value::Array(known) = known else { panic!("{known:?}") };
    assert_eq!(known.len(), 1, "the second one's");
}
