use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use super::line;
use super::row_tests::{config, record};
use super::segment::{self, Segment};
use super::{Books, BooksError, BooksOptions, SpoolLimits, StreamLimits};
use crate::entity::double::{Entities, Fault};
use crate::store::{Ledger, SpendRow};
use arc_swap::ArcSwap;
use proptest::prelude::*;
use sha2::Digest as _;

const HOUR: Duration = Duration::from_secs(3_600);

fn open_with(dir: &Path, database: Arc<dyn Ledger>, interval: Duration, limits: SpoolLimits) -> Arc<Books> {
    let snapshot = Arc::new(ArcSwap::from_pointee(config()));
    let dir = dir.join("spool");
    let options = BooksOptions { dir, database, snapshot, interval, redis: None, keep_prompts: HOUR };
    Books::open_with(options, limits, StreamLimits::default()).unwrap()
}

fn open(dir: &Path, database: &Arc<Entities>) -> Arc<Books> {
    open_with(dir, database.clone(), HOUR, SpoolLimits::default())
}

fn files(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(dir.join("spool"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn accepted_records_reach_the_database_once_and_leave_the_spool() {
    let (dir, database) = (tempfile::tempdir().unwrap(), Arc::new(Entities::default()));
    let books = open(dir.path(), &database);
    assert!(books.accept(&[]).await.unwrap().is_empty());
    assert_eq!(books.accept(&[record("1"), record("2")]).await.unwrap().len(), 2);
    assert_eq!(books.accept(&[record("2")]).await.unwrap().len(), 1, "a record may come twice");
    assert_eq!(books.status().pending, 3);
    books.flush().await.unwrap();
    assert_eq!(database.rows.lock().keys().cloned().collect::<Vec<_>>(), ["1", "2"]);
    assert_eq!(database.rows.lock()["1"].cost_nanos, Some(20), "priced");
    let status = books.status();
    assert_eq!((status.pending, status.oldest_age, status.last_error), (0, None, None));
    assert_eq!(files(dir.path()), Vec::<String>::new());
}

#[tokio::test]
async fn a_full_spool_refuses_and_recovers() {
    let (dir, database) = (tempfile::tempdir().unwrap(), Arc::new(Entities::default()));
    database.away.store(true, SeqCst);
    let limits = SpoolLimits { max_bytes: 4_000, segment_bytes: 1_000, ..SpoolLimits::default() };
    let books = open_with(dir.path(), database.clone(), HOUR, limits);
    let mut accepted = BTreeSet::new();
    let error = loop {
        let id = accepted.len().to_string();
        match books.accept(&[record(&id)]).await {
            Ok(_) => accepted.insert(id),
            Err(error) => break error,
        };
        assert!(accepted.len() < 100);
    };
    assert!(matches!(error, BooksError::Full { limit: 4_000, .. }), "{error}");
    assert!(files(dir.path()).len() > 1, "segments are closed by size");
    database.away.store(false, SeqCst);
    books.flush().await.unwrap();
    assert_eq!(database.rows.lock().keys().cloned().collect::<BTreeSet<_>>(), accepted);
    books.accept(&[record("after")]).await.unwrap();
}

#[tokio::test]
async fn a_segment_that_another_process_writes_is_left_alone() {
    let (dir, database) = (tempfile::tempdir().unwrap(), Arc::new(Entities::default()));
    let spool = dir.path().join("spool");
    std::fs::create_dir_all(&spool).unwrap();
    let mut foreign = Segment::create(&spool).unwrap();
    let mut line = Vec::new();
    line::encode(&SpendRow { call_id: "theirs".to_owned(), ..SpendRow::default() }, &mut line).unwrap();
    foreign.append(&line).unwrap();
    let books = open(dir.path(), &database);
    books.flush().await.unwrap();
    assert!(database.rows.lock().is_empty(), "its writer may still append");
    drop(foreign);
    drain(&books, dir.path()).await;
    assert_eq!(database.rows.lock().len(), 1, "its writer is dead");
}

#[test]
fn a_segment_is_locked_from_the_moment_it_is_seen() {
    let dir = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        let writer =
            scope.spawn(|| (0..300).map(|_| Segment::create(dir.path()).unwrap()).collect::<Vec<_>>());
        // The newest one only: the race is lost within microseconds, or never.
        while !writer.is_finished() {
            if let Some(path) = segment::list(dir.path()).unwrap().last() {
                assert!(segment::read(path).unwrap().is_none(), "{} was readable", path.display());
            }
        }
        assert_eq!(writer.join().unwrap().len(), 300);
    });
}

#[test]
fn torn_ends_are_skipped_and_damage_is_counted() {
    let line = |id: &str| {
        let mut line = Vec::new();
        line::encode(&SpendRow { call_id: id.to_owned(), ..SpendRow::default() }, &mut line).unwrap();
        line
    };
    let whole = [line("1"), line("2")].concat();
    let ids =
        |bytes: &[u8]| segment::decode(bytes).rows.into_iter().map(|row| row.call_id).collect::<Vec<_>>();
    for cut in 0..line("3").len() - 1 {
        let torn = [&whole[..], &line("3")[..cut]].concat();
        assert_eq!(ids(&torn), ["1", "2"], "cut at {cut}");
        assert_eq!(segment::decode(&torn).damaged, 0);
    }
    let mut flipped = [line("1"), line("2"), line("3")].concat();
    let at = line("1").len() + 40;
    flipped[at] ^= 1;
    let contents = segment::decode(&flipped);
    assert_eq!((contents.rows.len(), contents.damaged, contents.torn), (2, 1, false));
    let json = br#"{"version":9}"#;
    let sum = format!("{:08x} ", crc32fast::hash(json));
    let foreign = [&whole[..], sum.as_bytes(), json, b"\n"].concat();
    let contents = segment::decode(&foreign);
    assert_eq!(
        (contents.rows.len(), contents.damaged, contents.torn),
        (2, 1, false),
        "kept for the other version"
    );
    let zeros = [whole, vec![0; 300]].concat();
    assert_eq!((ids(&zeros).len(), segment::decode(&zeros).torn), (2, true), "a file system may leave zeros");
}

/// As versions before 0.2 wrote them.
fn old_line(id: &str) -> Vec<u8> {
    let row = SpendRow { call_id: id.to_owned(), ..SpendRow::default() };
    let json = serde_json::to_vec(&row).unwrap();
    let sum = hex::encode(&sha2::Sha256::digest(&json)[..8]);
    [sum.as_bytes(), b" ", &json, b"\n"].concat()
}

#[tokio::test]
async fn a_spool_that_an_older_version_left_is_written() {
    let (dir, database) = (tempfile::tempdir().unwrap(), Arc::new(Entities::default()));
    let spool = dir.path().join("spool");
    std::fs::create_dir_all(&spool).unwrap();
    let torn = old_line("never acknowledged");
    let lines = [old_line("1"), old_line("2"), torn[..torn.len() - 30].to_vec()].concat();
    std::fs::write(spool.join("0001764012345678-1f3a9c02.jsonl"), lines).unwrap();
    let books = open(dir.path(), &database);
    books.accept(&[record("3")]).await.unwrap();
    drain(&books, dir.path()).await;
    assert_eq!(database.rows.lock().keys().cloned().collect::<Vec<_>>(), ["1", "2", "3"]);
    let mut flipped = old_line("4");
    flipped[40] ^= 1;
    assert!(segment::decode(&flipped).torn, "its checksum is looked at");
}

#[tokio::test]
async fn rows_are_written_from_memory_and_read_again_when_there_are_too_many() {
    for kept_bytes in [0, 2_500, u64::MAX] {
        let (dir, database) = (tempfile::tempdir().unwrap(), Arc::new(Entities::default()));
        let limits = SpoolLimits { kept_bytes, segment_bytes: 1_500, ..SpoolLimits::default() };
        let books = open_with(dir.path(), database.clone(), HOUR, limits);
        // The first pass is over before the rows come.
        tokio::time::sleep(Duration::from_millis(50)).await;
        for n in 0..9 {
            books.accept(&[record(&n.to_string())]).await.unwrap();
        }
        // A file without its rows tells where they were written from.
        for name in files(dir.path()) {
            let path = dir.path().join("spool").join(name);
            std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(0).unwrap();
        }
        books.flush().await.unwrap();
        let written = database.rows.lock().len();
        match kept_bytes {
            0 => assert_eq!(written, 0),
            u64::MAX => assert_eq!(written, 9),
            _ => assert!((1..9).contains(&written), "{written}"),
        }
        assert_eq!(books.status().pending, 0);
    }
}

/// What happens between two restarts.
#[derive(Debug, Clone)]
enum Step {
    /// Accept this many new records.
    Accept(usize),
    /// Send the last batch again, as Envoy does when an acknowledgement is lost.
    Again,
    /// Write to the database, which behaves like this.
    Flush(Fault),
    /// The process dies; the segment it wrote ends in this much of a line that was never acknowledged.
    Crash(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (1_usize..40).prop_map(Step::Accept),
        Just(Step::Again),
        prop_oneof![Just(Fault::Before), Just(Fault::After), Just(Fault::Fine)].prop_map(Step::Flush),
        (0_usize..400).prop_map(Step::Crash),
    ]
}

async fn replay(steps: Vec<Step>) {
    let (dir, database) = (tempfile::tempdir().unwrap(), Arc::new(Entities::default()));
    let limits = SpoolLimits { max_bytes: u64::MAX, segment_bytes: 6_000, kept_bytes: 9_000 };
    let start = || open_with(dir.path(), database.clone(), HOUR, limits);
    let (mut books, mut sent, mut last) = (start(), 0, Vec::new());
    for step in steps {
        match step {
            Step::Accept(count) => {
                last = (sent..sent + count).map(|n| record(&n.to_string())).collect();
                sent += count;
                books.accept(&last).await.unwrap();
            }
            Step::Again => drop(books.accept(&last).await.unwrap()),
            Step::Flush(fault) => {
                database.faults.lock().push(fault);
                let _ = books.flush().await;
                database.faults.lock().clear();
            }
            Step::Crash(torn) => {
                drop(books);
                tear(&dir.path().join("spool"), torn);
                books = start();
            }
        }
    }
    drop(books);
    drain(&start(), dir.path()).await;
    let expected: BTreeSet<String> = (0..sent).map(|n| n.to_string()).collect();
    let found: BTreeSet<String> = database.rows.lock().keys().cloned().collect();
    assert_eq!(found, expected);
}

/// Flushes until the spool is empty: the thread of a dropped `Books` holds its lock a moment longer.
async fn drain(books: &Books, dir: &Path) {
    for _ in 0..500 {
        books.flush().await.unwrap();
        if files(dir).is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("left in the spool: {:?}", files(dir));
}

/// Leaves a piece of an unacknowledged line at the end of the newest segment.
fn tear(spool: &Path, length: usize) {
    let mut line = Vec::new();
    line::encode(&SpendRow { call_id: "never-acknowledged".to_owned(), ..SpendRow::default() }, &mut line)
        .unwrap();
    line.truncate(length.min(line.len() - 2));
    if let Some(path) = segment::list(spool).unwrap().last() {
        let whole = std::fs::read(path).unwrap();
        std::fs::write(path, [whole, line].concat()).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_accepted_record_ends_in_the_database_exactly_once(steps in prop::collection::vec(step(), 1..25)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(replay(steps));
    }
}
