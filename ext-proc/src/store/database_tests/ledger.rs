//! The ledger by days: sums, retention, proof.

use super::*;

const DAY_US: u64 = 86_400_000_000;
const DAY: Duration = Duration::from_secs(86_400);
const KEEP: Retention = Retention { rows: Some(Duration::from_secs(90 * 86_400)), usage: Duration::MAX };
const ALL: Scope = Scope { since: None, shown: 100 };

fn today() -> u64 {
    memory::wall_ms() / 86_400_000
}

/// Runs a statement beside the store.
pub(super) async fn execute(backend: &DatabaseBackend, sql: &str) -> u64 {
    let sql = sqlx::AssertSqlSafe(sql.to_owned());
    match backend {
        DatabaseBackend::Sqlite { path } => {
            let options = sqlx::sqlite::SqliteConnectOptions::new()
                .filename(path)
                .busy_timeout(Duration::from_secs(10));
            let mut raw = sqlx::ConnectOptions::connect(&options).await.unwrap();
            let done = sqlx::raw_sql(sql).execute(&mut raw).await.unwrap().rows_affected();
            raw.close().await.unwrap();
            done
        }
        DatabaseBackend::Postgres { url, .. } => {
            let mut raw = sqlx::PgConnection::connect(url.expose()).await.unwrap();
            sqlx::raw_sql(sql).execute(&mut raw).await.unwrap().rows_affected()
        }
    }
}

/// One number.
async fn number(backend: &DatabaseBackend, sql: &str) -> i64 {
    let sql = sqlx::AssertSqlSafe(format!("SELECT CAST(({sql}) AS BIGINT)"));
    match backend {
        DatabaseBackend::Sqlite { path } => {
            let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
            let mut raw: sqlx::SqliteConnection = sqlx::ConnectOptions::connect(&options).await.unwrap();
            sqlx::query_scalar(sql).fetch_one(&mut raw).await.unwrap()
        }
        DatabaseBackend::Postgres { url, .. } => {
            let mut raw = sqlx::PgConnection::connect(url.expose()).await.unwrap();
            sqlx::query_scalar(sql).fetch_one(&mut raw).await.unwrap()
        }
    }
}

/// A row charged to everyone, `days` days ago, that costs 7 nano-dollars a token of 11.
pub(super) fn row(call_id: &str, days: u64) -> SpendRow {
    let of = |kind, id: &str| EntityRef::new(kind, id);
    let line = SpendLine {
        cost_nanos: Some(77),
        factors: "in 11*7000000".into(),
        prompt: 11,
        outcome: "complete".into(),
        ..SpendLine::default()
    };
    SpendRow {
        start_us: (today() - days) * DAY_US + 3 * 3_600_000_000,
        lines: vec![line],
        charged: vec![
            of(EntityKind::Key, "hash1"),
            of(EntityKind::User, "u"),
            of(EntityKind::Team, "t"),
            of(EntityKind::Member, &member_id("t", "u")),
            of(EntityKind::Organization, "o"),
            of(EntityKind::EndUser, "end user"),
            of(EntityKind::Tag, "prod"),
            of(EntityKind::Tag, "ü"),
            of(EntityKind::KeyModel, &member_id("hash1", "gpt-4o")),
            of(EntityKind::Proxy, "proxy"),
        ],
        ..spend(call_id, "hash1", Some(77))
    }
}

async fn seeded(backend: &DatabaseBackend) -> Arc<dyn Database> {
    let database = opened(backend).await;
    put(&*database, new_key(1)).await;
    for (kind, id) in [(EntityKind::Team, "t"), (EntityKind::User, "u"), (EntityKind::Tag, "prod")] {
        put(&*database, Entity::new(kind, id)).await;
    }
    database
}

async fn verified(database: &dyn Database) -> Verified {
    database.verify(&ALL).await.unwrap()
}

async fn balances(database: &dyn Database) -> Verified {
    let verified = verified(database).await;
    assert_eq!(verified.shown, [], "{verified:?}");
    assert_eq!(verified.differences, 0);
    verified
}

/// Tables of the differences, each once.
fn tables(verified: &Verified) -> Vec<&'static str> {
    let mut tables: Vec<_> = verified.shown.iter().map(|difference| difference.of).collect();
    tables.sort_unstable();
    tables.dedup();
    tables
}

pub(super) async fn run(make: impl AsyncFn(&'static str) -> DatabaseBackend) {
    days_are_summed(&make("days_are_summed").await).await;
    batches_of_any_size_are_written_once(&make("any_size").await).await;
    old_days_go_and_their_sums_stay(&make("old_days_go").await).await;
    tampering_is_found_and_mended(&make("tampering").await).await;
    spend_is_tied_to_use(&make("spend_tied").await).await;
    it_balances_while_others_write(&make("while_others_write").await).await;
    rows_that_cost_wrong_are_found(&make("costs_wrong").await).await;
}

async fn days_are_summed(backend: &DatabaseBackend) {
    let (one, two) = (seeded(backend).await, opened(backend).await);
    // Late ones, of days long ago, in one batch with those of today, and again by another process.
    let rows: Vec<SpendRow> = (0..12).map(|n| row(&format!("c{n}"), [0, 1, 40][n % 3])).collect();
    assert_eq!(one.write(&rows).await.unwrap(), 12);
    assert_eq!(two.write(&rows).await.unwrap(), 0);
    let failed = SpendRow { outcome: "failure".into(), cost_nanos: None, lines: vec![], ..row("failed", 0) };
    let failed = SpendRow { user: None, tags: vec![], lines: vec![SpendLine::default()], ..failed };
    assert_eq!(two.write(&[failed.clone(), rows[0].clone(), failed]).await.unwrap(), 1);
    let sum = async |what: &str, of: &str| {
        number(backend, &format!("SELECT SUM({what}) FROM attache_daily WHERE {of}")).await
    };
    assert_eq!(sum("requests", "kind = 'total' AND id = ''").await, 13);
    let today = format!("day = {} AND kind = 'team' AND id = 't'", today());
    assert_eq!((sum("requests", &today).await, sum("nanos", &today).await), (5, 4 * 77));
    assert_eq!((sum("failures", &today).await, sum("unpriced", &today).await), (1, 1));
    assert_eq!(sum("successes", "kind = 'tag' AND id = 'ü'").await, 12);
    assert_eq!(sum("requests", "kind = 'customer' AND id = 'end user'").await, 12);
    assert_eq!(sum("cache_write_tokens", "kind = 'user' AND id = 'u'").await, 3 * 13);
    let totals = one.totals().await.unwrap();
    assert_eq!((totals.rows, totals.cost_nanos, totals.unpriced_rows), (13, 12 * 77, 1));
    let verified = balances(&*two).await;
    assert_eq!((verified.days, verified.rows, verified.lines, verified.unpriced), (3, 13, 13, 1));
    assert_eq!(verified.nanos, 12 * 77);
    let since = Scope { since: Some(i64::try_from(super::ledger::today()).unwrap()), ..ALL };
    assert_eq!(one.verify(&since).await.unwrap().rows, 5);
}

/// Statements are for a few numbers of rows, and say which rows are new only where some are not.
async fn batches_of_any_size_are_written_once(backend: &DatabaseBackend) {
    let database = seeded(backend).await;
    let rows: Vec<SpendRow> = (0..200).map(|n| row(&format!("c{n}"), n % 3)).collect();
    for (first, last, new) in [(0, 1, 1), (1, 10, 9), (5, 80, 70), (80, 160, 80), (0, 160, 0), (100, 200, 40)]
    {
        assert_eq!(database.write(&rows[first..last]).await.unwrap(), new, "{first}..{last}");
        let totals = database.totals().await.unwrap();
        assert_eq!(totals.rows, number(backend, "SELECT COUNT(*) FROM attache_spend").await as u64);
    }
    let verified = balances(&*database).await;
    assert_eq!((verified.rows, verified.nanos), (200, 200 * 77));
}

async fn old_days_go_and_their_sums_stay(backend: &DatabaseBackend) {
    let database = seeded(backend).await;
    let all = [row("a", 200), row("b", 100), row("c", 89), row("d", 0), row("e", 100)];
    database.write(&all).await.unwrap();
    let ever = Retention { rows: None, ..KEEP };
    assert_eq!(database.tend(&ever).await.unwrap(), Tended::default(), "kept for ever");
    assert_eq!(database.rows(None, 10).await.unwrap().len(), 5);
    let day = |ago: u64| i64::try_from(today() - ago).unwrap();
    let tended = database.tend(&KEEP).await.unwrap();
    assert_eq!((tended.dropped, tended.busy), (vec![day(200), day(100)], false));
    let ids: Vec<_> = database.rows(None, 10).await.unwrap().into_iter().map(|row| row.call_id).collect();
    assert_eq!(ids, ["d", "c"]);
    assert_eq!(database.row("a").await.unwrap(), None);
    let totals = database.totals().await.unwrap();
    assert_eq!((totals.rows, totals.cost_nanos), (5, 5 * 77), "the sums stay");
    let key = EntityRef::new(EntityKind::Key, "hash1");
    assert_eq!(database.usage(&[(key.clone(), 0)]).await.unwrap()[0].requests, 5, "use stays");
    let verified = balances(&*database).await;
    assert_eq!((verified.days, verified.days_without_rows, verified.rows), (2, 2, 2));
    // A row of a day that was dropped while this process knew it.
    assert_eq!(database.write(&[row("late", 100), row("f", 0)]).await.unwrap(), 2);
    assert_eq!(balances(&*database).await.rows, 3);
    assert!(database.rebuild(Some(&[day(100)])).await.is_err(), "its rows are not all there");
    assert_eq!(database.rebuild(None).await.unwrap().days, 2);
    assert_eq!(database.totals().await.unwrap().rows, 7);
    assert_eq!(database.tend(&KEEP).await.unwrap().dropped, [day(100)]);
    // Use older than its own retention goes, and spend stays.
    let forget = Retention { usage: 150 * DAY, ..KEEP };
    assert!(!database.tend(&forget).await.unwrap().busy);
    assert_eq!(database.usage(&[(key.clone(), 0)]).await.unwrap()[0].requests, 6);
    assert_eq!(spent(&*database, key).await, 7 * 77);
    balances(&*database).await;
    assert_eq!(database.rebuild(None).await.unwrap().entities, 0);
}

async fn tampering_is_found_and_mended(backend: &DatabaseBackend) {
    let database = seeded(backend).await;
    let rows: Vec<SpendRow> = (0..30).map(|n| row(&format!("c{n}"), n % 3)).collect();
    database.write(&rows).await.unwrap();
    balances(&*database).await;
    let sums = ["attache_daily", "attache_usage"];
    let all = ["attache_daily", "attache_spend.cost_nanos", "attache_usage"];
    let cases: [(&str, &[&str], &str); 6] = [
        (
            "UPDATE attache_spend SET cost_nanos = cost_nanos + 1 WHERE call_id = 'c7'",
            &all,
            "UPDATE attache_spend SET cost_nanos = cost_nanos - 1 WHERE call_id = 'c7'",
        ),
        ("UPDATE attache_daily SET nanos = nanos + 5 WHERE kind = 'team'", &sums[..1], ""),
        ("DELETE FROM attache_daily WHERE kind = 'tag' AND id = 'prod'", &sums[..1], ""),
        ("UPDATE attache_usage SET prompt_tokens = 1 WHERE kind = 'end_user'", &sums[1..], ""),
        ("DELETE FROM attache_usage WHERE kind = 'member'", &sums[1..], ""),
        ("DELETE FROM attache_spend WHERE call_id = 'c8'", &sums, ""),
    ];
    for (tamper, found, undo) in cases {
        assert_ne!(execute(backend, tamper).await, 0, "{tamper}");
        let told = verified(&*database).await;
        assert_eq!(tables(&told), found, "{tamper}: {told:?}");
        assert_eq!(told.differences, told.shown.len() as u64);
        if !undo.is_empty() {
            execute(backend, undo).await;
        }
        database.rebuild(None).await.unwrap();
        balances(&*database).await;
    }
    // What was deleted is gone from everything that is summed up, entities included.
    assert_eq!(spent(&*database, EntityRef::new(EntityKind::Team, "t")).await, 29 * 77);
    let rest = Scope { shown: 1, ..ALL };
    execute(backend, "UPDATE attache_daily SET requests = requests + 1").await;
    let told = database.verify(&rest).await.unwrap();
    assert_eq!(told.shown.len(), 1);
    assert!(told.differences > 10, "all are counted: {told:?}");
    let first = i64::try_from(today() - 2).unwrap();
    database.rebuild(Some(&[first, first + 1])).await.unwrap();
    let told = verified(&*database).await;
    assert!(told.shown.iter().all(|one| one.of == "attache_daily"), "{told:?}");
    let name = &told.shown[0].at;
    assert!(told.shown.iter().all(|one| one.at[..10] == name[..10]), "one day is left: {told:?}");
}

async fn spend_is_tied_to_use(backend: &DatabaseBackend) {
    let database = seeded(backend).await;
    let (team, tag) = (EntityRef::new(EntityKind::Team, "t"), EntityRef::new(EntityKind::Tag, "ü"));
    database.write(&[row("a", 0), row("b", 300)]).await.unwrap();
    // Entities that had use before they were there, with and without a spend of their own.
    put(&*database, Entity { spend_nanos: 5, ..Entity::new(EntityKind::Organization, "o") }).await;
    put(&*database, Entity::new(tag.kind, &*tag.id)).await;
    apply(&*database, &[Write::ResetSpend { of: team.clone(), to_nanos: 1_000 }]).await.unwrap();
    let first = key(&*database, "hash1").await.unwrap();
    let to = Entity { id: "second".into(), ..first };
    apply(&*database, &[Write::Rotate { from: "hash1".into(), to: Box::new(to), grace_until_ms: None }])
        .await
        .unwrap();
    let second = SpendRow { key: "second".into(), ..row("c", 0) };
    database.write(&[second, row("d", 1)]).await.unwrap();
    assert_eq!(spent(&*database, team.clone()).await, 1_000 + 2 * 77);
    assert_eq!(spent(&*database, tag).await, 2 * 77);
    assert_eq!(spent(&*database, EntityRef::new(EntityKind::Organization, "o")).await, 5 + 2 * 77);
    assert_eq!(key(&*database, "second").await.unwrap().spend_nanos, 4 * 77);
    let before = database.entities(std::slice::from_ref(&team)).await.unwrap().remove(0);
    apply(&*database, &[replace(&before, |team| team.blocked = true)]).await.unwrap();
    balances(&*database).await;
    assert_eq!(execute(backend, "UPDATE attache_entities SET spend_nanos = 3 WHERE kind = 'team'").await, 1);
    let told = verified(&*database).await;
    assert_eq!(tables(&told), ["attache_entities.spend_nanos"]);
    assert_eq!((&*told.shown[0].stored, &*told.shown[0].computed), ("3", "1154"));
    assert_eq!(database.rebuild(Some(&[])).await.unwrap(), Rebuilt { entities: 1, ..Rebuilt::default() });
    assert_eq!(spent(&*database, team).await, 1_154);
    balances(&*database).await;
}

async fn it_balances_while_others_write(backend: &DatabaseBackend) {
    let (one, two) = (seeded(backend).await, opened(backend).await);
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..4_u64 {
        let database = Arc::clone(if writer % 2 == 0 { &one } else { &two });
        writers.spawn(async move {
            for batch in 0..10_u64 {
                // Every call is written by two of them, in days of its own choice.
                let rows: Vec<SpendRow> =
                    (0..40).map(|n| row(&format!("{}/{batch}/{n}", writer / 2), n % 4)).collect();
                database.write(&rows).await.unwrap();
            }
        });
    }
    let mut rounds = 0;
    while !writers.is_empty() {
        balances(&*two).await;
        one.rebuild(None).await.unwrap();
        rounds += 1;
        while writers.try_join_next().is_some_and(|ended| ended.is_ok()) {}
    }
    assert!(rounds > 1, "it was checked meanwhile");
    assert_eq!(balances(&*one).await.rows, 800);
    assert_eq!(key(&*one, "hash1").await.unwrap().spend_nanos, 800 * 77);
}

async fn rows_that_cost_wrong_are_found(backend: &DatabaseBackend) {
    let database = seeded(backend).await;
    let line = row("a", 0).lines.remove(0);
    let unknown = SpendLine { cost_nanos: None, factors: String::new(), ..line.clone() };
    let rows = [
        // A second attempt that cost too, and one whose price nobody knows.
        SpendRow { cost_nanos: Some(154), lines: vec![line.clone(), line.clone()], ..row("two", 0) },
        SpendRow { cost_nanos: None, lines: vec![line.clone(), unknown], ..row("unknown", 0) },
        SpendRow { cost_nanos: Some(0), lines: vec![], ..row("free", 0) },
    ];
    database.write(&rows).await.unwrap();
    assert_eq!(balances(&*database).await.lines, 4);
    let wrong = [
        SpendRow { cost_nanos: Some(78), ..row("sum", 0) },
        SpendRow { cost_nanos: Some(1), lines: vec![], ..row("without lines", 0) },
        SpendRow {
            cost_nanos: Some(78),
            lines: vec![SpendLine { cost_nanos: Some(78), ..line.clone() }],
            ..row("factors", 0)
        },
        SpendRow {
            cost_nanos: Some(154),
            lines: vec![SpendLine { factors: "in 11*8000000".into(), ..line.clone() }, line.clone()],
            ..row("two", 1)
        },
        SpendRow { lines: vec![SpendLine { factors: "nonsense".into(), ..line }], ..row("no bill", 0) },
    ];
    database.write(&wrong).await.unwrap();
    let told = verified(&*database).await;
    let mut at: Vec<_> = told.shown.iter().map(|one| (one.of, one.at.as_str())).collect();
    at.sort_unstable();
    assert_eq!(
        at,
        [
            ("attache_spend.cost_nanos", "call factors, attempt 0: in 11*7000000"),
            ("attache_spend.cost_nanos", "call no bill, attempt 0: nonsense"),
            ("attache_spend.cost_nanos", "call sum"),
            ("attache_spend.cost_nanos", "call without lines"),
            ("attache_spend.lines", "call two, attempt 0: in 11*8000000"),
        ]
    );
}
