//! Closed-loop load: so many connections, each with one request at a time, with one key or with many. Prints one line of
//! JSON.

use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Parser;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

/// Sends chat completions in a closed loop and prints what it measured as JSON.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Address of the server.
    #[arg(long)]
    target: SocketAddr,
    /// Path of the request.
    #[arg(long, default_value = "/v1/chat/completions")]
    path: String,
    /// Connections, each with one request at a time.
    #[arg(long, default_value_t = 32)]
    concurrency: usize,
    /// Time to measure, seconds.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Time before the measurement, seconds.
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,
    /// Key sent as `Authorization: Bearer`.
    #[arg(long, default_value = "sk-load")]
    key: String,
    /// Model asked for.
    #[arg(long, default_value = "gpt-4o")]
    model: String,
    /// Length of the request body, bytes (about).
    #[arg(long, default_value_t = 1024)]
    body_bytes: usize,
    /// Ask for a stream.
    #[arg(long)]
    stream: bool,
    /// Value of `x-fake-script`.
    #[arg(long, default_value = "")]
    script: String,
    /// File with keys, one a line, each used for one request, in order; the run ends after the last.
    #[arg(long, conflicts_with_all = ["key", "random_keys"])]
    keys: Option<PathBuf>,
    /// A made-up key per request.
    #[arg(long, conflicts_with = "key")]
    random_keys: bool,
    /// Requests per second of all connections together, as far as they get answers; 0: as fast as they do.
    #[arg(long, default_value_t = 0.0)]
    rate: f64,
    /// Status of a good answer.
    #[arg(long, default_value_t = 200)]
    expect: u16,
}

/// Keys and moments of requests, handed out to all connections.
#[derive(Debug)]
struct Supply {
    keys: Option<Vec<String>>,
    next: AtomicUsize,
    start: Instant,
    salt: u64,
}

impl Supply {
    fn new(args: &Args) -> std::io::Result<Self> {
        let file = args.keys.as_ref().map(std::fs::read_to_string).transpose()?;
        let keys = file.map(|text| text.lines().map(str::to_owned).collect());
        let salt = std::hash::RandomState::new().hash_one(0);
        Ok(Self { keys, next: AtomicUsize::new(0), start: Instant::now(), salt })
    }

    /// The key of the next request, when its moment has come; `None` when there is no more.
    async fn next(&self, args: &Args) -> Option<String> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let key = match &self.keys {
            Some(keys) => keys.get(number)?.clone(),
            None if args.random_keys => format!("sk-{:016x}{number:016x}", self.salt),
            None => args.key.clone(),
        };
        if args.rate > 0.0 {
            #[expect(clippy::cast_precision_loss, reason = "numbers of requests are small")]
            let due = self.start + Duration::from_secs_f64(number as f64 / args.rate);
            tokio::time::sleep_until(due.into()).await;
        }
        Some(key)
    }
}

/// What one connection saw.
#[derive(Debug, Default)]
struct Seen {
    /// Microseconds per request.
    total: Vec<u32>,
    /// Microseconds to the first byte of the body.
    first: Vec<u32>,
    errors: u64,
    /// Statuses of bad answers; 0: none came.
    bad: BTreeMap<u16, u64>,
}

impl Seen {
    fn bad(&mut self, status: u16) {
        self.errors += 1;
        *self.bad.entry(status).or_default() += 1;
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let args = Arc::new(Args::parse());
    let supply = Arc::new(Supply::new(&args)?);
    let body = Bytes::from(body(&args).to_string());
    let begin = Instant::now() + Duration::from_secs_f64(args.warm_up);
    let end = begin + Duration::from_secs_f64(args.seconds);
    let tasks: Vec<_> = (0..args.concurrency)
        .map(|_| tokio::spawn(run(args.clone(), supply.clone(), body.clone(), begin, end)))
        .collect();
    let mut all = Seen::default();
    for task in tasks {
        let seen = task.await?;
        all.total.extend(seen.total);
        all.first.extend(seen.first);
        all.errors += seen.errors;
        for (status, count) in seen.bad {
            *all.bad.entry(status).or_default() += count;
        }
    }
    let seconds = begin.elapsed().as_secs_f64().min(args.seconds);
    println!("{}", report(seconds, all));
    Ok(())
}

fn body(args: &Args) -> Value {
    let mut body = json!({"model": args.model, "messages": [{"role": "user", "content": ""}]});
    if args.stream {
        body["stream"] = json!(true);
    }
    let padding = args.body_bytes.saturating_sub(body.to_string().len());
    body["messages"][0]["content"] = json!("lorem ipsum ".chars().cycle().take(padding).collect::<String>());
    body
}

async fn run(args: Arc<Args>, supply: Arc<Supply>, body: Bytes, begin: Instant, end: Instant) -> Seen {
    let mut seen = Seen::default();
    let mut sender = None;
    while Instant::now() < end {
        let connection = match sender.take() {
            Some(connection) => Some(connection),
            None => connect(args.target).await,
        };
        let Some(mut connection) = connection else {
            seen.bad(0);
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let Some(key) = supply.next(&args).await else { return seen };
        if Instant::now() >= end {
            return seen;
        }
        let started = Instant::now();
        let result = once(&mut connection, &args, &key, body.clone(), started).await;
        let counted = started >= begin;
        match result {
            Ok(first) if counted => {
                seen.first.push(first);
                seen.total.push(micros(started));
            }
            Ok(_) => {}
            Err(status) => seen.bad(status),
        }
        if result.is_ok() {
            sender = Some(connection);
        }
    }
    seen
}

async fn connect(target: SocketAddr) -> Option<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(target).await.ok()?;
    stream.set_nodelay(true).ok()?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await.ok()?;
    tokio::spawn(connection);
    Some(sender)
}

/// Microseconds to the first byte of the body, or the status of a bad answer (0: none came).
async fn once(
    sender: &mut SendRequest<Full<Bytes>>,
    args: &Args,
    key: &str,
    body: Bytes,
    started: Instant,
) -> Result<u32, u16> {
    let mut request = Request::post(&args.path)
        .header("host", args.target.to_string())
        .header("content-type", "application/json")
        .header("authorization", format!("Bearer {key}"));
    if !args.script.is_empty() {
        request = request.header("x-fake-script", &args.script);
    }
    sender.ready().await.map_err(|_| 0_u16)?;
    let request = request.body(Full::new(body)).map_err(|_| 0_u16)?;
    let reply = sender.send_request(request).await.map_err(|_| 0_u16)?;
    let status = reply.status().as_u16();
    if status != args.expect {
        let _ = reply.into_body().collect().await;
        return Err(status);
    }
    let mut body = reply.into_body();
    body.frame().await.ok_or(status)?.map_err(|_| status)?;
    let first = micros(started);
    body.collect().await.map_err(|_| status)?;
    Ok(first)
}

fn micros(started: Instant) -> u32 {
    u32::try_from(started.elapsed().as_micros()).unwrap_or(u32::MAX)
}

fn report(seconds: f64, mut seen: Seen) -> Value {
    seen.total.sort_unstable();
    seen.first.sort_unstable();
    let requests = u32::try_from(seen.total.len()).unwrap_or(u32::MAX);
    json!({
        "requests": requests, "errors": seen.errors, "rps": (f64::from(requests) / seconds).round(), "bad": seen.bad,
        "p50_ms": percentile(&seen.total, 50), "p99_ms": percentile(&seen.total, 99),
        "first_byte_p50_ms": percentile(&seen.first, 50), "first_byte_p99_ms": percentile(&seen.first, 99),
    })
}

fn percentile(sorted: &[u32], percent: usize) -> Option<f64> {
    let index = (sorted.len() * percent / 100).min(sorted.len().checked_sub(1)?);
    Some(f64::from(sorted[index]) / 1000.0)
}
