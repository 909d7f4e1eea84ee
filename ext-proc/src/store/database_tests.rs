//! One suite over both databases, then what is particular to each.

use std::collections::HashSet;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use sqlx::Connection as _;

use super::testing::{Postgres, TempDir};
use super::*;
use crate::config::Secret;
use crate::entity::{Entity, EntityKind, EntityRef, member_id};

mod entities;
mod feed;
mod ledger;
mod lists;
mod migration;
mod prompts;
mod reports;
mod usage;

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
                let (one, two) = tokio::join!(opened(&backend), opened(&backend));
                eprintln!("{}", stringify!($check));
                $check(one, two).await;
            })*
        };
    }
    suite!(
        rows_are_kept_whole_and_newest_first,
        a_call_is_counted_once,
        concurrent_batches_count_a_call_once,
        big_batches_are_one_transaction,
        hostile_values_are_tamed,
    );
    use entities::*;
    suite!(
        entities_are_kept_whole,
        changes_are_all_or_nothing,
        hash_alias_and_account_are_unique,
        a_stale_change_is_refused,
        nothing_joins_what_is_gone,
        concurrent_edits_lose_nothing,
        spend_is_reset_and_goes_on,
        a_key_is_rotated,
        a_rotated_key_is_good_for_a_while,
        deleted_keys_leave_their_spend,
        the_audit_log_tells_before_and_after,
        many_are_inserted_at_once,
        changes_and_the_ledger_do_not_block_each_other,
    );
    use feed::*;
    suite!(
        changes_are_fed_to_others,
        changes_have_the_version_of_the_entity,
        concurrent_writers_are_never_missed,
        a_feed_that_was_pruned_says_so,
    );
    use lists::*;
    suite!(filters_choose, lists_are_sorted_and_paged, awkward_names_are_found);
    use prompts::*;
    suite!(prompts_are_kept_once_and_forgotten_by_age,);
    use reports::*;
    suite!(
        sums_are_those_of_the_rows,
        rows_are_filtered_sorted_and_paged,
        batches_go_on_where_the_last_one_ended,
    );
    use usage::*;
    suite!(
        usage_is_the_sum_of_the_ledger,
        a_rotated_keys_use_goes_on,
        overlapping_writers_do_not_deadlock,
        usage_stays_within_bounds,
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sqlite_keeps_keys_and_ledger() {
    let directory = TempDir::new();
    run_suite(async |name| sqlite(&directory, name)).await;
    ledger::run(async |name| sqlite(&directory, name)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn postgres_keeps_keys_and_ledger() {
    let server = Postgres::start().await;
    run_suite(async |name| postgres(server.database(name).await)).await;
    ledger::run(async |name| postgres(server.database(name).await)).await;
    sidecars_share_a_database_and_readable_tables(&server).await;
    prisma_urls_work(&server).await;
    migration::an_older_postgres_is_brought_up_to_date(&server).await;
    migration::a_postgres_ledger_becomes_one_by_days(&server).await;
    feed::a_transaction_that_takes_long_is_not_missed(&server).await;
    feed::old_changes_are_pruned(&server).await;
    a_statement_that_hangs_is_given_up(&server).await;
    a_foreign_or_missing_database_is_refused_at_start(&server).await;
}

/// A key with everything set that a store could lose.
fn new_key(n: u32) -> Entity {
    let mut key = Entity::new(EntityKind::Key, format!("hash{n}"));
    key.name = format!("sk-...{n}");
    key.alias = Some(format!("alias{n}"));
    key.user_id = Some("ü".into());
    key.expires_ms = Some(1_999_999_999_999);
    key.created_by = Some("admin".into());
    key.settings.models = vec!["gpt-4o".into(), "openai/*".into()];
    key.settings.metadata =
        serde_json::from_value(json!({"a": [1, {"b": "\u{0}c"}], "big": 12_345_678_901_234_567_u64}))
            .unwrap();
    key.settings.max_budget_nanos = Some(9_007_199_254_740_993);
    key.settings.rpm_limit = Some(0);
    key.settings.rest = serde_json::from_value(json!({"soft": {"x": null}})).unwrap();
    key
}

fn author() -> Author {
    Author { user: "alice".into(), key: "adminhash".into(), action: "/key/update".into() }
}

async fn apply(database: &dyn Database, writes: &[Write]) -> Result<Vec<Option<Entity>>, StoreError> {
    database.apply(writes, &author()).await
}

async fn put(database: &dyn Database, entity: Entity) -> Entity {
    let mut done = apply(database, &[Write::Insert(entity)]).await.unwrap();
    done.pop().unwrap().unwrap()
}

/// A change of an entity as it was read.
fn replace(before: &Entity, change: impl FnOnce(&mut Entity)) -> Write {
    let mut after = before.clone();
    change(&mut after);
    Write::Replace { before: Box::new(before.clone()), after: Box::new(after) }
}

async fn key(database: &dyn Database, hash: &str) -> Option<Entity> {
    database.key(hash).await.unwrap()
}

async fn spent(database: &dyn Database, of: EntityRef) -> i64 {
    database.entities(&[of]).await.unwrap()[0].spend_nanos
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
        cache_write_tokens: 3,
        reasoning_tokens: 5,
        estimated: true,
        cost_nanos,
        lines: Vec::new(),
        start_us: 1_700_000_000_000_001,
        duration_us: 1_234,
        first_event_us: Some(17),
        user_id: Some("u".into()),
        team_id: Some("t".into()),
        organization_id: Some("o".into()),
        tags: vec!["prod".into(), "ü".into()],
        charged: Vec::new(),
    }
}

async fn rows_are_kept_whole_and_newest_first(one: Arc<dyn Database>, two: Arc<dyn Database>) {
    assert_eq!(one.totals().await.unwrap(), LedgerTotals::default());
    assert_eq!(one.write(&[]).await.unwrap(), 0);
    let bare = SpendRow { call_id: "bare".into(), ..SpendRow::default() };
    let rows: Vec<SpendRow> = (0..5_u64)
        .map(|n| SpendRow {
            start_us: 100 + n % 3,
            lines: vec![
                SpendLine { attempt: 1, outcome: "error_in_stream".into(), ..SpendLine::default() },
                SpendLine { cost_nanos: Some(7), factors: "in 7*1000000".into(), ..SpendLine::default() },
            ],
            ..spend(&format!("c{n}"), if n == 1 { "k2" } else { "k1" }, Some(7))
        })
        .chain([bare.clone(), spend("unpriced", "k1", None)])
        .collect();
    assert_eq!(one.write(&rows).await.unwrap(), 7);
    assert_eq!(two.row("bare").await.unwrap(), Some(bare));
    // What does not say whom it is charged to is charged to its key.
    let charged = vec![EntityRef::new(EntityKind::Key, "k1")];
    assert_eq!(two.row("c3").await.unwrap(), Some(SpendRow { charged, ..rows[3].clone() }));
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
    put(&*one, new_key(1)).await;
    let batch = [
        spend("a", "hash1", Some(100)),
        spend("a", "hash1", Some(100)),
        spend("b", "hash1", None),
        spend("c", "unknown key", Some(9)),
    ];
    assert_eq!(one.write(&batch).await.unwrap(), 3, "a call may be in one batch twice");
    assert_eq!(two.write(&batch).await.unwrap(), 0);
    assert_eq!(two.write(&[spend("a", "hash1", Some(777)), spend("d", "hash1", Some(1))]).await.unwrap(), 1);
    assert_eq!(key(&*one, "hash1").await.unwrap().spend_nanos, 101);
    assert_eq!(one.totals().await.unwrap().cost_nanos, 110);
}

async fn concurrent_batches_count_a_call_once(one: Arc<dyn Database>, two: Arc<dyn Database>) {
    for n in 0..10 {
        put(&*one, new_key(n)).await;
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
        assert_eq!(key(&*two, &format!("hash{n}")).await.unwrap().spend_nanos, expected);
    }
}

async fn big_batches_are_one_transaction(one: Arc<dyn Database>, two: Arc<dyn Database>) {
    put(&*one, new_key(1)).await;
    let rows: Vec<SpendRow> = (0..3_001).map(|n| spend(&format!("call{n}"), "hash1", Some(2))).collect();
    let writing = tokio::spawn(async move { one.write(&rows).await.unwrap() });
    while !writing.is_finished() {
        let (rows, spent) =
            (two.totals().await.unwrap().rows, key(&*two, "hash1").await.unwrap().spend_nanos);
        assert!(rows == 0 || rows == 3_001, "{rows} rows seen");
        assert!(spent == 0 || spent == 6_002, "{spent} seen");
    }
    assert_eq!(writing.await.unwrap(), 3_001);
    assert_eq!(key(&*two, "hash1").await.unwrap().spend_nanos, 6_002);
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

    let stored =
        put(&*one, Entity { alias: Some("a\0b".into()), user_id: Some("\0".into()), ..new_key(1) }).await;
    assert_eq!((stored.alias.as_deref(), stored.user_id.as_deref()), (Some("ab"), Some("")));
    let filter = Filter { alias: Some("a\0b".into()), ..Filter::default() };
    assert_eq!(two.list(&filter).await.unwrap().total, 1);
    assert_eq!(key(&*two, "hash\u{0}1").await.map(|key| key.id), Some("hash1".into()));
    let long = put(&*one, Entity::new(EntityKind::EndUser, "é".repeat(10_000))).await;
    assert_eq!(
        two.entities(&[EntityRef::new(EntityKind::EndUser, "é".repeat(10_000))]).await.unwrap(),
        [long]
    );
}

#[tokio::test]
async fn the_sqlite_files_are_private_and_durable() {
    let directory = TempDir::new();
    let backend = sqlite(&directory, "private");
    let database = open_database(&backend).await.unwrap();
    put(&*database, new_key(1)).await;
    let files: Vec<_> = std::fs::read_dir(directory.path().join("private")).unwrap().flatten().collect();
    assert!(files.len() >= 2, "{files:?}");
    for file in files {
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{file:?}");
    }
    drop(database);
    let again = open_database(&backend).await.unwrap();
    assert!(key(&*again, "hash1").await.is_some());
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
    let opened = futures_util::future::join_all((0..6).map(|_| opened(&backend))).await;
    for database in &opened {
        database.ping().await.unwrap();
    }
    let mut raw = server.connect("crowd").await.unwrap();
    let tables: Vec<String> =
        sqlx::query_scalar("SELECT tablename::text FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
            .fetch_all(&mut raw)
            .await
            .unwrap();
    assert_eq!(
        tables,
        [
            "attache_audit",
            "attache_changes",
            "attache_daily",
            "attache_entities",
            "attache_ledger",
            "attache_migrations",
            "attache_prompts",
            "attache_spend",
            "attache_usage"
        ]
    );
}

/// LiteLLM's users bring URLs made for Prisma.
async fn prisma_urls_work(server: &Postgres) {
    server.database("prisma").await;
    server.execute("prisma", "CREATE SCHEMA mine").await;
    let url = format!("{}&schema=mine&pgbouncer=true&connection_limit=5", server.url("prisma").expose());
    let database = opened(&postgres(Secret::new(url))).await;
    put(&*database, new_key(1)).await;
    let mut raw = server.connect("prisma").await.unwrap();
    let keys: i64 =
        sqlx::query_scalar("SELECT COUNT(*) FROM mine.attache_entities").fetch_one(&mut raw).await.unwrap();
    assert_eq!(keys, 1);
}

async fn a_statement_that_hangs_is_given_up(server: &Postgres) {
    let database = opened(&postgres(server.database("hangs").await)).await;
    put(&*database, new_key(1)).await;
    let mut blocker = server.connect("hangs").await.unwrap();
    let mut lock = blocker.begin().await.unwrap();
    sqlx::query("LOCK TABLE attache_entities IN ACCESS EXCLUSIVE MODE").execute(&mut *lock).await.unwrap();
    let started = Instant::now();
    // More callers than connections: those who never get one are told in time as well.
    let answers = futures_util::future::join_all((0..20).map(|_| database.key("hash1"))).await;
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    assert!(answers.iter().all(|answer| matches!(answer, Err(StoreError::Unavailable { .. }))));
    lock.rollback().await.unwrap();
    assert!(key(&*database, "hash1").await.is_some(), "the pool is whole");
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
    put(&*database, new_key(1)).await;
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
    assert_eq!(key(&*database, "hash1").await.unwrap().spend_nanos, 7);
}

/// Open, with its tables up to date: on a busy machine that takes longer than a start waits for it.
async fn opened(backend: &DatabaseBackend) -> Arc<dyn Database> {
    let database = open_database(backend).await.unwrap();
    eventually_up(&*database).await;
    database
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
    let database = opened(&postgres(server.url("postgres"))).await;
    put(&*database, new_key(1)).await;
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
    assert_eq!(key(&*database, "hash1").await.unwrap().spend_nanos, 8_000);
}
