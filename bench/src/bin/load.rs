//! Closed-loop load: so many connections, each with one request at a time. Prints one line of JSON.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Parser;
use http::{Request, StatusCode};
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
}

/// What one connection saw.
#[derive(Debug, Default)]
struct Seen {
    /// Microseconds per request.
    total: Vec<u32>,
    /// Microseconds to the first byte of the body.
    first: Vec<u32>,
    errors: u64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let args = Arc::new(Args::parse());
    let body = Bytes::from(body(&args).to_string());
    let begin = Instant::now() + Duration::from_secs_f64(args.warm_up);
    let end = begin + Duration::from_secs_f64(args.seconds);
    let tasks: Vec<_> =
        (0..args.concurrency).map(|_| tokio::spawn(run(args.clone(), body.clone(), begin, end))).collect();
    let mut all = Seen::default();
    for task in tasks {
        let seen = task.await?;
        all.total.extend(seen.total);
        all.first.extend(seen.first);
        all.errors += seen.errors;
    }
    println!("{}", report(&args, all));
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

async fn run(args: Arc<Args>, body: Bytes, begin: Instant, end: Instant) -> Seen {
    let mut seen = Seen::default();
    let mut sender = None;
    while Instant::now() < end {
        let connection = match sender.take() {
            Some(connection) => Some(connection),
            None => connect(args.target).await,
        };
        let Some(mut connection) = connection else {
            seen.errors += 1;
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let started = Instant::now();
        let result = once(&mut connection, &args, body.clone(), started).await;
        let counted = started >= begin;
        match result {
            Some(first) if counted => {
                seen.first.push(first);
                seen.total.push(micros(started));
            }
            Some(_) => {}
            None => seen.errors += 1,
        }
        if result.is_some() {
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

/// Microseconds to the first byte of the body; `None` if the answer is bad.
async fn once(
    sender: &mut SendRequest<Full<Bytes>>,
    args: &Args,
    body: Bytes,
    started: Instant,
) -> Option<u32> {
    let mut request = Request::post(&args.path)
        .header("host", args.target.to_string())
        .header("content-type", "application/json")
        .header("authorization", format!("Bearer {}", args.key));
    if !args.script.is_empty() {
        request = request.header("x-fake-script", &args.script);
    }
    sender.ready().await.ok()?;
    let reply = sender.send_request(request.body(Full::new(body)).ok()?).await.ok()?;
    if reply.status() != StatusCode::OK {
        let _ = reply.into_body().collect().await;
        return None;
    }
    let mut body = reply.into_body();
    body.frame().await?.ok()?;
    let first = micros(started);
    body.collect().await.ok()?;
    Some(first)
}

fn micros(started: Instant) -> u32 {
    u32::try_from(started.elapsed().as_micros()).unwrap_or(u32::MAX)
}

fn report(args: &Args, mut seen: Seen) -> Value {
    seen.total.sort_unstable();
    seen.first.sort_unstable();
    let requests = u32::try_from(seen.total.len()).unwrap_or(u32::MAX);
    json!({
        "requests": requests, "errors": seen.errors, "rps": (f64::from(requests) / args.seconds).round(),
        "p50_ms": percentile(&seen.total, 50), "p99_ms": percentile(&seen.total, 99),
        "first_byte_p50_ms": percentile(&seen.first, 50), "first_byte_p99_ms": percentile(&seen.first, 99),
    })
}

fn percentile(sorted: &[u32], percent: usize) -> Option<f64> {
    let index = (sorted.len() * percent / 100).min(sorted.len().checked_sub(1)?);
    Some(f64::from(sorted[index]) / 1000.0)
}
