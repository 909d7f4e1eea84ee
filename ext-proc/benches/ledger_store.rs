//! How fast the ledger is written, and what a row costs this process: into SQLite (whose engine runs in this process) and
//! into a private Postgres without fsync (or the empty one that `ATTACHE_BENCH_DATABASE_URL` names), in batches as the
//! writer makes them.
//!
//! `cargo bench -p attache --bench ledger_store`

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use attache::config::Secret;
use attache::entity::{Entity, EntityKind, EntityRef, member_id};
use attache::store::testing::{Postgres, TempDir};
use attache::store::{Author, Database, DatabaseBackend, SpendLine, SpendRow, Write, open_database};

/// As `ledger::BATCH`.
const BATCH: usize = 1_000;
const KEYS: usize = 1_000;
const TEAMS: usize = 100;
const USERS: usize = 300;

/// CPU seconds of all threads of this process so far.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("/proc");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
    let ticks: f64 = fields[11..13].iter().map(|ticks| ticks.parse::<f64>().expect("ticks")).sum();
    ticks / 100.0
}

/// Row `n` of a busy day: skewed keys, each with a team, a user and one or two models.
fn row(n: usize, now_us: u64) -> SpendRow {
    let skewed = (n.wrapping_mul(2_654_435_761) >> 7) % KEYS;
    let key = skewed * skewed / KEYS;
    let (hash, team, user) =
        (format!("{key:064x}"), format!("team-{}", key % TEAMS), format!("user-{}", key % USERS));
    let model = format!("gpt-4o-{}", key % 25 + (n % 2) * 25);
    let cost_nanos = Some(1_200 * 2_500 + 250 * 10_000);
    let of = EntityRef::new;
    SpendRow {
        call_id: format!("0199b2c4-5d6e-7f80-9a1b-{n:012x}"),
        request_id: format!("5f0c9a52-7a1e-4c38-8d1b-{n:012x}"),
        endpoint: "v1/chat/completions".into(),
        model: model.clone(),
        group: model.clone(),
        deployment: format!("{model}-0a1b2c3d4e5f"),
        provider: "openai".into(),
        provider_model: model,
        stream: n.is_multiple_of(2),
        status: 200,
        outcome: "success".into(),
        attempts: 1,
        prompt_tokens: 1_200,
        completion_tokens: 250,
        total_tokens: 1_450,
        cached_tokens: 300,
        cost_nanos,
        lines: vec![SpendLine {
            outcome: "complete".into(),
            status: 200,
            prompt: 1_200,
            completion: 250,
            cached: 300,
            cost_nanos,
            factors: "in 900*2500000000;cached 300*2500000000;out 250*10000000000".into(),
            ..SpendLine::default()
        }],
        start_us: now_us + n as u64 * 1_000,
        duration_us: 812_345,
        first_event_us: Some(212_345),
        charged: vec![
            of(EntityKind::Key, hash.as_str()),
            of(EntityKind::Team, team.as_str()),
            of(EntityKind::User, user.as_str()),
            of(EntityKind::Member, member_id(&team, &user).as_str()),
            of(EntityKind::Proxy, "proxy"),
        ],
        key: hash,
        team_id: Some(team),
        user_id: Some(user),
        ..SpendRow::default()
    }
}

async fn entities(database: &dyn Database) {
    let key = |n| Entity::new(EntityKind::Key, format!("{n:064x}"));
    let team = |n| Entity::new(EntityKind::Team, format!("team-{n}"));
    let user = |n| Entity::new(EntityKind::User, format!("user-{n}"));
    let all = (0..KEYS).map(key).chain((0..TEAMS).map(team)).chain((0..USERS).map(user));
    let writes: Vec<Write> = all.map(Write::Insert).collect();
    database.apply(&writes, &Author::default()).await.expect("entities");
}

async fn bench(name: &str, backend: &DatabaseBackend, rows: usize) {
    let database = open_database(backend).await.expect("database");
    let started = Instant::now();
    while let Err(error) = database.ping().await {
        assert!(started.elapsed() < Duration::from_secs(60), "{error}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    entities(&*database).await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("clock").as_micros();
    let now_us = u64::try_from(now).expect("clock");
    let rows: Vec<SpendRow> = (0..rows).map(|n| row(n, now_us)).collect();
    database.write(&rows[..BATCH]).await.expect("warm");
    let rows = &rows[BATCH..];
    let (begun, before) = (Instant::now(), cpu());
    for batch in rows.chunks(BATCH) {
        database.write(batch).await.expect("written");
    }
    let (wall, used) = (begun.elapsed().as_secs_f64(), cpu() - before);
    let count = rows.len() as f64;
    println!(
        "{name:10} {:8.0} rows/s, {:6.2} us CPU of this process per row",
        count / wall,
        used / count * 1e6
    );
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("runtime").block_on(async {
        let directory = TempDir::new();
        let sqlite = DatabaseBackend::Sqlite { path: directory.path().join("attache.db") };
        bench("sqlite", &sqlite, 51_000).await;
        let url = std::env::var("ATTACHE_BENCH_DATABASE_URL").ok().map(Secret::new);
        let server = if url.is_none() { Some(Postgres::start().await) } else { None };
        let url = url.or(server.as_ref().map(|server| server.url("postgres"))).expect("one of both");
        let connect_timeout = Duration::from_secs(5);
        bench("postgres", &DatabaseBackend::Postgres { url, max_connections: 4, connect_timeout }, 201_000)
            .await;
    });
}
