//! Databases of the older shape.

use super::*;

/// The migrations that a database of the older shape has had.
fn first(migrations: &sqlx::migrate::Migrator) -> sqlx::migrate::Migrator {
    let only = migrations.migrations.iter().filter(|one| one.version == 1).cloned().collect();
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
    first(&migrations).run_direct(None, &mut raw, false).await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(old_rows())).execute(&mut raw).await.unwrap();
    raw.close().await.unwrap();
    let backend = DatabaseBackend::Sqlite { path };
    the_old_rows_are_there(&*open_database(&backend).await.unwrap()).await;
    assert!(key(&*open_database(&backend).await.unwrap(), "full").await.is_some(), "once only");
}

pub(super) async fn an_older_postgres_is_brought_up_to_date(server: &Postgres) {
    let backend = postgres(server.database("older").await);
    let mut raw = server.connect("older").await.unwrap();
    let migrations = sqlx::migrate!("migrations/postgres");
    first(&migrations).run_direct(None, &mut raw, false).await.unwrap();
    server.execute("older", &old_rows()).await;
    let (one, two) = tokio::join!(open_database(&backend), open_database(&backend));
    the_old_rows_are_there(&*one.unwrap()).await;
    assert!(key(&*two.unwrap(), "full").await.is_some());
}
