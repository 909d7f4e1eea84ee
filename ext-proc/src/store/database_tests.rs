//! One suite over both databases, then what is particular to each.

use std::collections::HashSet;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use sqlx::Connection as _;

use super::testing::{Postgres, TempDir};
use super::*;

fn sqlite(directory: &TempDir, name: &str) -> DatabaseBackend {
    DatabaseBackend::Sqlite { path: directory.path().join(name).join("attache.db") }
}

fn postgres(url: Secret) -> DatabaseBackend {
    DatabaseBackend::Postgres { url, max_connections: 8, connect_timeout: Duration::from_secs(5) }
}

/// Every check on an empty database of its own, through two handles as two sidecars have them.
async fn run_suite(make: impl AsyncFn(&'static str) -> DatabaseBackend) {
    macro_rules! suite {
        ($($check:ident),* $(,)?) => {
            $({
                let backend = make(stringify!($check)).await;
                // Both at once: their migrations must not get in each other's way.
                let (one, two) = tokio::join!(open_database(&backend), open_database(&backend));
                eprintln!("{}", stringify!($check));
                $check(one.unwrap(), two.unwrap()).await;
            })*
        };
    }
    suite!(
        keys_are_kept_whole,
        hash_and_alias_are_unique,
        keys_are_found_blocked_and_deleted,
        rows_are_kept_whole_and_newest_first,
        a_call_is_counted_once,
        concurrent_batches_count_a_call_once,
        big_batches_are_one_transaction,
        hostile_values_are_tamed,
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sqlite_keeps_keys_and_ledger() {
    let directory = TempDir::new();
    run_suite(async |name| sqlite(&directory, name)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn postgres_keeps_keys_and_ledger() {
    let server = Postgres::start().await;
    run_suite(async |name| postgres(server.database(name).await)).await;
    sidecars_share_a_database_and_readable_tables(&server).await;
    prisma_urls_work(&server).await;
    a_statement_that_hangs_is_given_up(&server).await;
    a_foreign_or_missing_database_is_refused_at_start(&server).await;
}

fn new_key(n: u32) -> NewKey {
    NewKey {
        hash: format!("hash{n}"),
        name: format!("sk-...{n}"),
        alias: Some(format!("alias{n}")),
        models: vec!["gpt-4o".into(), "openai/*".into()],
        user_id: Some("ü".into()),
        team_id: None,
        expires_ms: Some(1_999_999_999_999),
        metadata: json!({"a": [1, {"b": "\u{0}c"}], "big": 12_345_678_901_234_567_u64}),
        max_budget_nanos: Some(9_007_199_254_740_993),
        rpm_limit: Some(0),
        tpm_limit: None,
        created_by: Some("admin".into()),
    }
}

fn spend(call_id: &str, key: &str, cost_nanos: Option<i64>) -> SpendRow {
    SpendRow {
        call_id: call_id.into(),
        request_id: "request".into(),
        key: key.into(),
        endpoint: "chat".into(),
        model: "gpt-4o".into(),
        group: "gpt-4o-azure".into(),
        deployment: "d1".into(),
        provider: "azure".into(),
        provider_model: "my-deployment".into(),
        user: Some("end user".into()),
        stream: true,
        status: 200,
        outcome: "success".into(),
        attempts: 3,
        fallbacks: 1,
        prompt_tokens: 11,
        completion_tokens: 22,
        total_tokens: 33,
        cached_tokens: 4,
        reasoning_tokens: 5,
        estimated: true,
        cost_nanos,
        start_us: 1_700_000_000_000_001,
        duration_us: 1_234,
        first_event_us: Some(17),
    }
}

async fn keys_are_kept_whole(one: Arc<dyn Database>, two: Arc<dyn Database>) {
    one.ping().await.unwrap();
    let inserted = one.insert_key(new_key(1)).await.unwrap();
    assert_eq!(inserted.key, new_key(1));
    assert!(!inserted.blocked);
    assert_eq!(inserted.spend_nanos, 0);
    assert!(inserted.created_ms.abs_diff(memory::wall_ms()) < 60_000);
    assert_eq!(two.key("hash1").await.unwrap(), Some(inserted));
    assert_eq!(two.key("hash2").await.unwrap(), None);
    let plain = NewKey { hash: "plain".into(), ..NewKey::default() };
    assert_eq!(one.insert_key(plain.clone()).await.unwrap().key, plain);
    let another = NewKey { hash: "another".into(), ..NewKey::default() };
    one.insert_key(another).await.expect("keys without an alias are not in each other's way");
}

async fn hash_and_alias_are_unique(one: Arc<dyn Database>, two: Arc<dyn Database>) {
    one.insert_key(new_key(1)).await.unwrap();
    let same_hash = NewKey { alias: None, ..new_key(1) };
    assert!(matches!(two.insert_key(same_hash).await, Err(StoreError::Conflict("key"))));
    let same_alias = NewKey { hash: "other".into(), ..new_key(1) };
    assert!(matches!(two.insert_key(same_alias).await, Err(StoreError::Conflict("key alias"))));
    assert_eq!(one.key("other").await.unwrap(), None);
}

async fn keys_are_found_blocked_and_deleted(one: Arc<dyn Database>, two: Arc<dyn Database>) {
    for n in 1..=3 {
        one.insert_key(new_key(n)).await.unwrap();
    }
    one.write(&[spend("c", "hash1", Some(5))]).await.unwrap();
    let mut found =
        two.hashes_of_aliases(&["alias2".into(), "nobody".into(), "alias1".into()]).await.unwrap();
    found.sort();
    assert_eq!(found, [("alias1".into(), "hash1".into()), ("alias2".into(), "hash2".into())]);

    let blocked = one.set_blocked("hash1", true).await.unwrap().unwrap();
    assert!(blocked.blocked && blocked.updated_ms >= blocked.created_ms);
    assert_eq!(two.key("hash1").await.unwrap(), Some(blocked));
    assert!(!two.set_blocked("hash1", false).await.unwrap().unwrap().blocked);
    assert_eq!(one.set_blocked("nobody", true).await.unwrap(), None);

    let deleted =
        one.delete_keys(&["hash3".into(), "nobody".into(), "hash1".into(), "hash1".into()]).await.unwrap();
    assert_eq!(HashSet::from_iter(deleted), HashSet::from(["hash1".to_owned(), "hash3".to_owned()]));
    assert_eq!(two.key("hash1").await.unwrap(), None);
    assert!(two.key("hash2").await.unwrap().is_some());
    assert!(two.row("c").await.unwrap().is_some(), "spend outlives its key");
    assert!(one.delete_keys(&[]).await.unwrap().is_empty());
}

async fn rows_are_kept_whole_and_newest_first(one: Arc<dyn Database>, two: Arc<dyn Database>) {
    assert_eq!(one.totals().await.unwrap(), LedgerTotals::default());
    assert_eq!(one.write(&[]).await.unwrap(), 0);
    let bare = SpendRow { call_id: "bare".into(), ..SpendRow::default() };
    let rows: Vec<SpendRow> = (0..5_u64)
        .map(|n| SpendRow {
            start_us: 100 + n % 3,
            ..spend(&format!("c{n}"), if n == 1 { "k2" } else { "k1" }, Some(7))
        })
        .chain([bare.clone(), spend("unpriced", "k1", None)])
        .collect();
    assert_eq!(one.write(&rows).await.unwrap(), 7);
    assert_eq!(two.row("bare").await.unwrap(), Some(bare));
    assert_eq!(two.row("c3").await.unwrap().as_ref(), Some(&rows[3]));
    assert_eq!(two.row("nothing").await.unwrap(), None);
    let ids = |rows: Vec<SpendRow>| rows.into_iter().map(|row| row.call_id).collect::<Vec<_>>();
    assert_eq!(ids(two.rows(None, 4).await.unwrap()), ["unpriced", "c2", "c4", "c1"]);
    assert_eq!(ids(two.rows(Some("k1"), 10).await.unwrap()), ["unpriced", "c2", "c4", "c3", "c0"]);
    assert_eq!(ids(two.rows(Some("k2"), 10).await.unwrap()), ["c1"]);
    let totals = two.totals().await.unwrap();
    let expected =
        LedgerTotals { rows: 7, prompt_tokens: 66, completion_tokens: 132, cost_nanos: 35, unpriced_rows: 2 };
    assert_eq!(totals, expected);
}

async fn a_call_is_counted_once(one: Arc<dyn Database>, two: Arc<dyn Database>) {
    one.insert_key(new_key(1)).await.unwrap();
    let batch = [
        spend("a", "hash1", Some(100)),
        spend("a", "hash1", Some(100)),
        spend("b", "hash1", None),
        spend("c", "unknown key", Some(9)),
    ];
    assert_eq!(one.write(&batch).await.unwrap(), 3, "a call may be in one batch twice");
    assert_eq!(two.write(&batch).await.unwrap(), 0);
    assert_eq!(two.write(&[spend("a", "hash1", Some(777)), spend("d", "hash1", Some(1))]).await.unwrap(), 1);
    assert_eq!(one.key("hash1").await.unwrap().unwrap().spend_nanos, 101);
    assert_eq!(one.totals().await.unwrap().cost_nanos, 110);
}

async fn concurrent_batches_count_a_call_once(one: Arc<dyn Database>, two: Arc<dyn Database>) {
    for n in 0..10 {
        one.insert_key(new_key(n)).await.unwrap();
    }
    // Ten writers, every call in several of their batches, each in an order of its own.
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..10_u32 {
        let database = Arc::clone(if writer % 2 == 0 { &one } else { &two });
        tasks.spawn(async move {
            let mut rows: Vec<SpendRow> = (0..200_u32)
                .filter(|n| (n + writer) % 3 != 0)
                .map(|n| spend(&format!("call{n}"), &format!("hash{}", n % 10), Some(i64::from(n))))
                .collect();
            let by = (writer as usize * 17) % rows.len();
            rows.rotate_left(by);
            if writer % 3 == 0 {
                rows.reverse();
            }
            database.write(&rows).await.unwrap()
        });
    }
    let mut new = 0;
    while let Some(written) = tasks.join_next().await {
        new += written.unwrap();
    }
    assert_eq!(new, 200);
    assert_eq!(one.totals().await.unwrap().cost_nanos, (0..200).sum::<i64>());
    for n in 0..10_i64 {
        let expected: i64 = (0..20).map(|i| i * 10 + n).sum();
        assert_eq!(two.key(&format!("hash{n}")).await.unwrap().unwrap().spend_nanos, expected);
    }
}

async fn big_batches_are_one_transaction(one: Arc<dyn Database>, two: Arc<dyn Database>) {
    one.insert_key(new_key(1)).await.unwrap();
    let rows: Vec<SpendRow> = (0..3_001).map(|n| spend(&format!("call{n}"), "hash1", Some(2))).collect();
    let writing = tokio::spawn(async move { one.write(&rows).await.unwrap() });
    while !writing.is_finished() {
        let (rows, spent) =
            (two.totals().await.unwrap().rows, two.key("hash1").await.unwrap().unwrap().spend_nanos);
        assert!(rows == 0 || rows == 3_001, "{rows} rows seen");
        assert!(spent == 0 || spent == 6_002, "{spent} seen");
    }
    assert_eq!(writing.await.unwrap(), 3_001);
    assert_eq!(two.key("hash1").await.unwrap().unwrap().spend_nanos, 6_002);
}

async fn hostile_values_are_tamed(one: Arc<dyn Database>, two: Arc<dyn Database>) {
    let hostile = SpendRow {
        model: "gpt\0-4o'; DROP TABLE attache_spend; --".into(),
        user: Some("\0é".repeat(100_000)),
        prompt_tokens: u64::MAX,
        duration_us: u64::MAX,
        ..spend("call\0id", &"k".repeat(10_000), Some(i64::MAX))
    };
    let second = SpendRow { call_id: "second".into(), ..hostile.clone() };
    assert_eq!(one.write(&[hostile, second]).await.unwrap(), 2);
    let row = two.row("call\0id").await.unwrap().unwrap();
    assert_eq!(
        (row.call_id.as_str(), row.model.as_str()),
        ("callid", "gpt-4o'; DROP TABLE attache_spend; --")
    );
    let user = row.user.unwrap();
    assert!(user.len() <= 4_096 && user.starts_with("éé") && !user.contains('\0'));
    let totals = two.totals().await.unwrap();
    assert_eq!((totals.prompt_tokens, totals.cost_nanos), (2_000_000_000_000_000, 2_000_000_000_000_000));
    assert_eq!(two.rows(Some(&"k".repeat(10_000)), 9).await.unwrap().len(), 2);

    let key = NewKey { alias: Some("a\0b".into()), user_id: Some("\0".into()), ..new_key(1) };
    let stored = one.insert_key(key).await.unwrap().key;
    assert_eq!((stored.alias.as_deref(), stored.user_id.as_deref()), (Some("ab"), Some("")));
    assert_eq!(two.hashes_of_aliases(&["a\0b".into()]).await.unwrap().len(), 1);
    assert_eq!(two.key("hash\u{0}1").await.unwrap().map(|row| row.key.hash), Some("hash1".into()));
}

#[tokio::test]
async fn the_sqlite_files_are_private_and_durable() {
    let directory = TempDir::new();
    let backend = sqlite(&directory, "private");
    let database = open_database(&backend).await.unwrap();
    database.insert_key(new_key(1)).await.unwrap();
    let files: Vec<_> = std::fs::read_dir(directory.path().join("private")).unwrap().flatten().collect();
    assert!(files.len() >= 2, "{files:?}");
    for file in files {
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{file:?}");
    }
    drop(database);
    let again = open_database(&backend).await.unwrap();
    assert!(again.key("hash1").await.unwrap().is_some());
}

#[tokio::test]
async fn a_sqlite_file_that_is_none_is_refused_by_name() {
    let directory = TempDir::new();
    let path = directory.path().join("attache.db");
    std::fs::write(&path, "this is not a database, and it is long enough to be looked at".repeat(100))
        .unwrap();
    let Err(error) = open_database(&DatabaseBackend::Sqlite { path }).await else { panic!("opened") };
    assert!(matches!(error, StoreError::Broken { backend: "sqlite", .. }), "{error}");
    let path = directory.path().join("attache.db/below/a/file.db");
    let Err(error) = open_database(&DatabaseBackend::Sqlite { path }).await else { panic!("opened") };
    assert!(error.to_string().contains("below/a/file.db"), "{error}");
}

async fn sidecars_share_a_database_and_readable_tables(server: &Postgres) {
    let backend = postgres(server.database("crowd").await);
    let opened = futures_util::future::join_all((0..6).map(|_| open_database(&backend))).await;
    for database in &opened {
        database.as_ref().unwrap().ping().await.unwrap();
    }
    let mut raw = server.connect("crowd").await.unwrap();
    let tables: Vec<String> =
        sqlx::query_scalar("SELECT tablename::text FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
            .fetch_all(&mut raw)
            .await
            .unwrap();
    assert_eq!(tables, ["attache_keys", "attache_migrations", "attache_spend"]);
}

/// LiteLLM's users bring URLs made for Prisma.
async fn prisma_urls_work(server: &Postgres) {
    server.database("prisma").await;
    server.execute("prisma", "CREATE SCHEMA mine").await;
    let url = format!("{}&schema=mine&pgbouncer=true&connection_limit=5", server.url("prisma").expose());
    let database = open_database(&postgres(Secret::new(url))).await.unwrap();
    database.insert_key(new_key(1)).await.unwrap();
    let mut raw = server.connect("prisma").await.unwrap();
    let keys: i64 =
        sqlx::query_scalar("SELECT COUNT(*) FROM mine.attache_keys").fetch_one(&mut raw).await.unwrap();
    assert_eq!(keys, 1);
}

async fn a_statement_that_hangs_is_given_up(server: &Postgres) {
    let database = open_database(&postgres(server.database("hangs").await)).await.unwrap();
    database.insert_key(new_key(1)).await.unwrap();
    let mut blocker = server.connect("hangs").await.unwrap();
    let mut lock = blocker.begin().await.unwrap();
    sqlx::query("LOCK TABLE attache_keys IN ACCESS EXCLUSIVE MODE").execute(&mut *lock).await.unwrap();
    let started = Instant::now();
    // More callers than connections: those who never get one are told in time as well.
    let answers = futures_util::future::join_all((0..20).map(|_| database.key("hash1"))).await;
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    assert!(answers.iter().all(|answer| matches!(answer, Err(StoreError::Unavailable { .. }))));
    lock.rollback().await.unwrap();
    assert!(database.key("hash1").await.unwrap().is_some(), "the pool is whole");
}

async fn a_foreign_or_missing_database_is_refused_at_start(server: &Postgres) {
    let Err(error) = open_database(&postgres(server.url("nowhere"))).await else { panic!("opened") };
    assert!(matches!(error, StoreError::Broken { .. }) && error.to_string().contains("nowhere"), "{error}");
    let foreign = server.database("foreign_tables").await;
    server.execute("foreign_tables", "CREATE TABLE attache_keys (mine int)").await;
    let Err(error) = open_database(&postgres(foreign)).await else { panic!("opened") };
    assert!(error.to_string().contains("attache_keys"), "{error}");
    let secret = Secret::new("postgres://user:hunter2@[::bad/db");
    let Err(error) = open_database(&postgres(secret)).await else { panic!("opened") };
    assert!(!error.to_string().contains("hunter2"), "{error}");
}

#[tokio::test]
async fn postgres_may_be_away_at_start_and_come_and_go() {
    let mut server = Postgres::stopped();
    let database = open_database(&postgres(server.url("postgres"))).await.expect("starts all the same");
    let error = database.key("hash1").await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { backend: "postgres", .. }), "{error}");

    server.launch().await;
    eventually_up(&*database).await;
    database.insert_key(new_key(1)).await.unwrap();
    let rows = [spend("a", "hash1", Some(3)), spend("b", "hash1", Some(4))];
    database.write(&rows).await.unwrap();

    server.kill();
    let started = Instant::now();
    let error = database.key("hash1").await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());

    server.launch().await;
    eventually_up(&*database).await;
    assert_eq!(database.write(&rows).await.unwrap(), 0, "written before, and durable");
    assert_eq!(database.key("hash1").await.unwrap().unwrap().spend_nanos, 7);
}

async fn eventually_up(database: &dyn Database) {
    let started = Instant::now();
    while let Err(error) = database.ping().await {
        assert!(started.elapsed() < Duration::from_secs(30), "{error}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_cut_by_the_death_of_postgres_is_whole_or_nothing() {
    let mut server = Postgres::start().await;
    let database = open_database(&postgres(server.url("postgres"))).await.unwrap();
    database.insert_key(new_key(1)).await.unwrap();
    let rows: Vec<SpendRow> = (0..8_000).map(|n| spend(&format!("call{n}"), "hash1", Some(1))).collect();
    let (writer, batch) = (Arc::clone(&database), rows.clone());
    let writing = tokio::spawn(async move { writer.write(&batch).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    server.kill();
    if let Err(error) = writing.await.unwrap() {
        assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
    }
    server.launch().await;
    eventually_up(&*database).await;
    let seen = database.totals().await.unwrap().rows;
    assert!(seen == 0 || seen == 8_000, "{seen} of 8000");
    assert_eq!(database.write(&rows).await.unwrap(), 8_000 - seen, "sent again, as the spool does");
    assert_eq!(database.key("hash1").await.unwrap().unwrap().spend_nanos, 8_000);
}
