//! Databases of the older shape.

use super::*;

/// The migrations that a database of the older shape has had.
fn first(migrations: &sqlx::migrate::Migrator, count: i64) -> sqlx::migrate::Migrator {
    let only = migrations.migrations.iter().filter(|one| one.version <= count).cloned().collect();
    let mut first = sqlx::migrate::Migrator::with_migrations(only);
    first.dangerous_set_table_name("attache_migrations");
    first
}

/// Rows as the older version wrote them, and a call of today and one of long ago.
fn old_rows() -> String {
    let now_us = memory::wall_ms() * 1_000;
    let spend = |id: &str, start_us: u64| {
        format!(
            "INSERT INTO attache_spend (call_id, request_id, key_hash, endpoint, model, model_group, deployment, \
             provider, provider_model, end_user, stream, status, outcome, attempts, fallbacks, prompt_tokens, \
             completion_tokens, total_tokens, cached_tokens, reasoning_tokens, estimated, cost_nanos, start_us, \
             duration_us, first_event_us) VALUES ('{id}', 'r', 'full', 'chat', 'm', 'g', 'd', 'p', 'pm', NULL, \
             TRUE, 200, 'success', 1, 0, 11, 22, 33, 0, 0, FALSE, 5, {start_us}, 1, NULL);"
        )
    };
    format!(
        "INSERT INTO attache_keys VALUES ('full', 'sk-...full', 'an alias', '[\"gpt-4o\",\"it''s\"]', 'u', 't', \
         1999999999999, '{{\"budget_duration\":\"30d\",\"nul\":\"\\u0000\"}}', 9007199254740993, 0, NULL, 'admin', \
         TRUE, 10, 100, 200);
         INSERT INTO attache_keys VALUES ('bare', '', NULL, '[]', NULL, NULL, NULL, 'null', NULL, NULL, -1, NULL, \
         FALSE, 0, 300, 300);
         {}{}",
        spend("today", now_us),
        spend("long ago", 1_600_000_000_000_000)
    )
}

async fn the_old_rows_are_there(database: &dyn Database) {
    let mut full = Entity::new(EntityKind::Key, "full");
    full.name = "sk-...full".into();
    full.alias = Some("an alias".into());
    full.user_id = Some("u".into());
    full.team_id = Some("t".into());
    full.expires_ms = Some(1_999_999_999_999);
    full.created_by = Some("admin".into());
    full.blocked = true;
    (full.spend_nanos, full.created_ms, full.updated_ms) = (10, 100, 200);
    full.settings.models = vec!["gpt-4o".into(), "it's".into()];
    full.settings.metadata =
        serde_json::from_value(json!({"budget_duration": "30d", "nul": "\u{0}"})).unwrap();
    full.settings.max_budget_nanos = Some(9_007_199_254_740_993);
    full.settings.rpm_limit = Some(0);
    assert_eq!(key(database, "full").await, Some(full.clone()));
    let mut bare = Entity::new(EntityKind::Key, "bare");
    (bare.created_ms, bare.updated_ms) = (300, 300);
    assert_eq!(key(database, "bare").await, Some(bare));
    let used = database.usage(&[(full.reference(), 0)]).await.unwrap();
    assert_eq!(
        (used[0].requests, used[0].prompt_tokens, used[0].nanos),
        (1, 11, 5),
        "of the last weeks only"
    );
    let row = database.row("long ago").await.unwrap().unwrap();
    assert_eq!((row.team_id, row.tags, row.cost_nanos), (None, Vec::new(), Some(5)));
    database.write(&[spend("new", "full", Some(7))]).await.unwrap();
    assert_eq!(key(database, "full").await.unwrap().spend_nanos, 17);
    let changed = apply(database, &[replace(&full, |key| key.blocked = false)]).await.unwrap();
    assert!(!changed[0].as_ref().unwrap().blocked);
}

#[tokio::test]
async fn an_older_sqlite_file_is_brought_up_to_date() {
    let directory = TempDir::new();
    let path = directory.path().join("attache.db");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path).create_if_missing(true);
    let mut raw = sqlx::ConnectOptions::connect(&options).await.unwrap();
    let migrations = sqlx::migrate!("migrations/sqlite");
    first(&migrations, 1).run_direct(None, &mut raw, false).await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(old_rows())).execute(&mut raw).await.unwrap();
    raw.close().await.unwrap();
    let backend = DatabaseBackend::Sqlite { path };
    the_old_rows_are_there(&*opened(&backend).await).await;
    assert!(key(&*opened(&backend).await, "full").await.is_some(), "once only");
}

pub(super) async fn an_older_postgres_is_brought_up_to_date(server: &Postgres) {
    let backend = postgres(server.database("older").await);
    let mut raw = server.connect("older").await.unwrap();
    let migrations = sqlx::migrate!("migrations/postgres");
    first(&migrations, 1).run_direct(None, &mut raw, false).await.unwrap();
    server.execute("older", &old_rows()).await;
    let (one, two) = tokio::join!(opened(&backend), opened(&backend));
    the_old_rows_are_there(&*one).await;
    assert!(key(&*two, "full").await.is_some());
}

/// Rows and entities of the second shape: ledger in one table, without sums per day.
fn rows_of_the_second() -> String {
    let row = |id: &str, start_us: u64, cost: &str, tags: &str| {
        format!(
            "INSERT INTO attache_spend (call_id, request_id, key_hash, endpoint, model, model_group, deployment, \
             provider, provider_model, end_user, stream, status, outcome, attempts, fallbacks, prompt_tokens, \
             completion_tokens, total_tokens, cached_tokens, reasoning_tokens, estimated, cost_nanos, start_us, \
             duration_us, first_event_us, user_id, team_id, organization_id, tags) VALUES ('{id}', 'r', 'full', 'chat', \
             'm', 'g', 'd', 'p', '{id}{}', 'e', TRUE, 200, 'success', 1, 0, 11, 22, 33, 0, 0, FALSE, {cost}, \
             {start_us}, 1, NULL, 'u', 't', NULL, {tags});",
            // Longer than an index of Postgres takes.
            "x".repeat(4_000)
        )
    };
    let start_us = ledger::row("", 3).start_us;
    let mut sql = String::from(
        "INSERT INTO attache_entities (kind, id, account, name, blocked, settings, spend_nanos, spend_reset_ms, \
         created_ms, updated_ms) VALUES ('team', 't', 't', '', FALSE, '{}', 40, 0, 1, 1);
         INSERT INTO attache_usage VALUES ('team', 't', 7, 1, 11, 22, 30);",
    );
    for (n, day) in [0, 1, 1, 90].into_iter().enumerate() {
        let cost = if n == 0 { "NULL" } else { "5" };
        let tags = if n == 1 { "'[\"a\",\"b\"]'" } else { "NULL" };
        sql += &row(&format!("c{n}"), start_us - day * 86_400_000_000, cost, tags);
    }
    sql + &row("broken clock", u64::MAX / 2, "5", "NULL")
}

async fn the_ledger_is_by_days(database: &dyn Database) {
    let totals = database.totals().await.unwrap();
    assert_eq!((totals.rows, totals.cost_nanos, totals.unpriced_rows), (5, 20, 1));
    assert_eq!(database.row("c3").await.unwrap().unwrap().cost_nanos, Some(5));
    assert!(database.row("c3").await.unwrap().unwrap().charged.is_empty(), "nobody knows");
    let scope = Scope { since: None, shown: 10 };
    let verified = database.verify(&scope).await.unwrap();
    assert_eq!((verified.differences, &*verified.shown), (0, &[][..]), "{verified:?}");
    assert_eq!((verified.days, verified.rows, verified.rows_without_charge), (4, 5, 5));
    // New rows beside them, and everything made again: use of the old ones stays, nobody knows better.
    let new = SpendRow { charged: vec![EntityRef::new(EntityKind::Team, "t")], ..ledger::row("new", 3) };
    assert_eq!(database.write(&[new, ledger::row("today", 0)]).await.unwrap(), 2);
    database.rebuild(None).await.unwrap();
    assert_eq!(database.verify(&scope).await.unwrap().differences, 0);
    assert_eq!(spent(database, EntityRef::new(EntityKind::Team, "t")).await, 40 + 2 * 77);
    assert_eq!(database.totals().await.unwrap().rows, 7);
}

#[tokio::test]
async fn a_sqlite_ledger_becomes_one_by_days() {
    let directory = TempDir::new();
    let path = directory.path().join("attache.db");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path).create_if_missing(true);
    let mut raw = sqlx::ConnectOptions::connect(&options).await.unwrap();
    let migrations = sqlx::migrate!("migrations/sqlite");
    first(&migrations, 2).run_direct(None, &mut raw, false).await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(rows_of_the_second())).execute(&mut raw).await.unwrap();
    raw.close().await.unwrap();
    the_ledger_is_by_days(&*opened(&DatabaseBackend::Sqlite { path }).await).await;
}

pub(super) async fn a_postgres_ledger_becomes_one_by_days(server: &Postgres) {
    let backend = postgres(server.database("second").await);
    let mut raw = server.connect("second").await.unwrap();
    let migrations = sqlx::migrate!("migrations/postgres");
    first(&migrations, 2).run_direct(None, &mut raw, false).await.unwrap();
    server.execute("second", &rows_of_the_second()).await;
    the_ledger_is_by_days(&*opened(&backend).await).await;
}
