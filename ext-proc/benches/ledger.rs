//! What a spend row costs this process on its way from Envoy to the database: CPU of all threads, per row.
//!
//! The database is one that takes everything. `ATTACHE_BENCH_DIR` names the directory of the spool (in memory, to leave the
//! disk out), `ATTACHE_BENCH_REDIS` the URL of a Redis with an append-only file, to measure the stream, too.
//!
//! `cargo bench -p attache --bench ledger`

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use attache::config::Secret;
use attache::ledger::{Books, BooksOptions, Buffer, row};
use attache::routing::{Deployment, Snapshot};
use attache::store::{Ledger, LedgerTotals, PromptRow, Prompts, RedisServers, SpendRow, StoreError};
use attache_llm::contract::{DeploymentMeta, UsageBatch, VERSION};

/// Records of a batch: what a busy worker sends at once.
const BATCH: usize = 200;
const ROWS: usize = 400_000;

/// Takes everything.
struct Nothing;

#[async_trait]
impl Prompts for Nothing {
    async fn write_prompts(&self, _: &[PromptRow]) -> Result<(), StoreError> {
        Ok(())
    }

    async fn prompt(&self, _: &str) -> Result<Option<PromptRow>, StoreError> {
        Ok(None)
    }

    async fn forget_prompts(&self, _: u64) -> Result<u64, StoreError> {
        Ok(0)
    }
}

#[async_trait]
impl Ledger for Nothing {
    async fn write(&self, rows: &[SpendRow]) -> Result<u64, StoreError> {
        Ok(rows.len() as u64)
    }

    async fn rows(&self, _: Option<&str>, _: u32) -> Result<Vec<SpendRow>, StoreError> {
        Ok(Vec::new())
    }

    async fn row(&self, _: &str) -> Result<Option<SpendRow>, StoreError> {
        Ok(None)
    }

    async fn totals(&self) -> Result<LedgerTotals, StoreError> {
        Ok(LedgerTotals::default())
    }
}

/// CPU seconds of all threads of this process so far.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("/proc");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
    let ticks: f64 = fields[11..13].iter().map(|ticks| ticks.parse::<f64>().expect("ticks")).sum();
    ticks / 100.0
}

fn report(what: &str, rows: usize, begun: Instant, cpu_before: f64) {
    let (wall, used) = (begun.elapsed().as_secs_f64(), cpu() - cpu_before);
    let per_row = |seconds: f64| seconds / rows as f64 * 1e6;
    println!("{what:32} {:6.2} us CPU per row, {:6.2} us wall", per_row(used), per_row(wall));
}

/// A batch as the gate sends it.
fn batch(number: usize) -> String {
    let record = |n: usize| {
        let (n, start) = (number * BATCH + n, 1_769_860_800_000_000_u64 + n as u64);
        serde_json::json!({
            "call_id": format!("0199b2c4-5d6e-7f80-9a1b-{n:012x}"),
            "key": "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9",
            "endpoint": "chat_completions", "model": "gpt-4o", "group": "gpt-4o",
            "reservation": format!("0199b2c4-5d6e-7f80-9a1b-{n:012x}:0:29497680"), "stream": n % 2 == 0,
            "user": format!("user-{}", n % 500), "start_us": start, "duration_us": 812_345, "first_event_us": 212_345,
            "status": 200, "details": "via_upstream", "input_estimate": 1_200,
            "request_id": format!("5f0c9a52-7a1e-4c38-8d1b-{n:012x}"),
            "attempts": [{
                "deployment": "gpt-4o-0", "cluster": "gpt-4o/openai/gpt-4o-0", "group": "gpt-4o",
                "outcome": "complete", "status": 200, "first_event_us": 212_345, "duration_us": 812_300,
                "usage": {"prompt": 1_200, "completion": 250, "total": 1_450, "cached": 300},
            }],
        })
    };
    let records: Vec<_> = (0..BATCH).map(record).collect();
    serde_json::json!({"contract": VERSION, "records": records}).to_string()
}

fn snapshot() -> Snapshot {
    let meta = serde_json::json!({
        "contract": VERSION, "id": "gpt-4o-0", "group": "gpt-4o", "provider": "openai", "model": "gpt-4o",
        "authority": "api.openai.com", "base_path": "/v1",
    });
    let meta: DeploymentMeta = serde_json::from_value(meta).expect("a deployment");
    let deployment = Arc::new(Deployment::new(meta));
    let mut snapshot = Snapshot::default();
    snapshot.deployments.insert("gpt-4o-0".into(), deployment);
    snapshot
}

fn parse(text: &str) -> UsageBatch {
    serde_json::from_str(text).expect("a batch")
}

/// Accepts all batches, then waits for the database.
async fn through(what: &str, redis: Option<RedisServers>, batches: &[UsageBatch]) {
    let dir = std::env::var_os("ATTACHE_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = dir.join(format!("attache-bench-{}", std::process::id()));
    let streams = redis.is_some();
    let books = Books::open(BooksOptions {
        dir: dir.clone(),
        database: Arc::new(Nothing),
        snapshot: Arc::new(ArcSwap::from_pointee(snapshot())),
        interval: Duration::from_secs(10),
        redis,
        keep_prompts: Duration::from_secs(3_600),
    })
    .expect("books");
    while streams && books.status().buffer != Buffer::Redis {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (begun, before) = (Instant::now(), cpu());
    let mut rows = 0;
    for batch in batches.iter().cycle().take(ROWS / BATCH) {
        rows += books.accept(&batch.records).await.expect("accepted").len();
    }
    books.flush().await.expect("flushed");
    report(what, rows, begun, before);
    drop(books);
    let _ = std::fs::remove_dir_all(dir);
}

fn main() {
    let texts: Vec<String> = (0..20).map(batch).collect();
    let (begun, before) = (Instant::now(), cpu());
    for text in texts.iter().cycle().take(ROWS / BATCH) {
        std::hint::black_box(parse(text));
    }
    report("read of Envoy's batch", ROWS, begun, before);

    let batches: Vec<UsageBatch> = texts.iter().map(|text| parse(text)).collect();
    let snapshot = snapshot();
    let (begun, before) = (Instant::now(), cpu());
    for record in batches.iter().flat_map(|batch| &batch.records).cycle().take(ROWS) {
        std::hint::black_box(row(record, &snapshot));
    }
    report("row", ROWS, begun, before);

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("runtime");
    runtime.block_on(through("row, spool, database", None, &batches));
    if let Ok(url) = std::env::var("ATTACHE_BENCH_REDIS") {
        let servers = RedisServers::one(Secret::new(url));
        runtime.block_on(through("row, stream, database", Some(servers), &batches));
    }
}
