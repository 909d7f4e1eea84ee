//! The command line, and what it comes to.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clap::Parser;
use http::header::{HeaderName, HeaderValue};

use super::connect::Connector;
use super::procs::Process;
use super::request::{self, Keys, Template};
use super::target::Target;

/// Sends chat completions to an OpenAI-compatible server and prints what it measured as one line of JSON.
///
/// Without --rate a closed loop: so many requests at a time, each followed by the next. With --rate an open loop: requests
/// are due at a constant rate whatever becomes of those before, and time counts from the moment that each was due.
/// bench/README.md explains the keys of the JSON.
#[derive(Debug, Parser)]
#[command(name = "load", version)]
pub struct Args {
    /// Base URL of the server, such as https://host:port/v1.
    #[arg(long, required_unless_present = "target", conflicts_with = "target")]
    url: Option<String>,
    /// Address of the server, host:port.
    #[arg(long)]
    target: Option<String>,
    /// Path of the request: below --url [default: /chat/completions], or at --target [default: /v1/chat/completions].
    #[arg(long)]
    path: Option<String>,
    /// TLS to --target (--url says it by https).
    #[arg(long)]
    tls: bool,
    /// File of certificates (PEM) to trust instead of the system's.
    #[arg(long)]
    cacert: Option<PathBuf>,
    /// HTTP version, 1 or 2 (without TLS with prior knowledge).
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=2))]
    http: u8,
    /// Requests in progress at a time: always so many, or with --rate at most [default: 32, with --rate 256].
    #[arg(long)]
    concurrency: Option<usize>,
    /// HTTP/2 connections that share them; HTTP/1.1 has one per request in progress [default: one per 64, at least one per
    /// thread].
    #[arg(long)]
    connections: Option<usize>,
    /// Requests due per second; 0: closed loop.
    #[arg(long, default_value_t = 0.0)]
    rate: f64,
    /// Time to measure, seconds [default: 5, with --requests 3600].
    #[arg(long)]
    seconds: Option<f64>,
    /// Time before the measurement, seconds.
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,
    /// End after so many requests, those of the warm-up included.
    #[arg(long)]
    requests: Option<usize>,
    /// Longest time for one request, from when it is sent, seconds.
    #[arg(long, default_value_t = 60.0)]
    timeout: f64,
    /// Threads of the generator.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Key sent as `Authorization: Bearer`; empty: none.
    #[arg(long, env = "LOAD_KEY", hide_env_values = true, default_value = "sk-load")]
    key: String,
    /// File with keys, one a line, each used for one request, in order; the run ends after the last.
    #[arg(long, conflicts_with_all = ["key", "random_keys"])]
    keys: Option<PathBuf>,
    /// A made-up key per request.
    #[arg(long, conflicts_with = "key")]
    random_keys: bool,
    /// Model asked for.
    #[arg(long, default_value = "gpt-4o")]
    model: String,
    /// Length of the request body, bytes (about).
    #[arg(long, default_value_t = 1024)]
    body_bytes: usize,
    /// File with the request body, sent as it is; say --stream when it asks for one.
    #[arg(long, conflicts_with_all = ["model", "body_bytes"])]
    body_file: Option<PathBuf>,
    /// Ask for a stream: the answer must be one, and end as it should.
    #[arg(long)]
    stream: bool,
    /// Data, or name, of the event that ends a stream.
    #[arg(long, default_value = "[DONE]")]
    done: String,
    /// Value of `x-fake-script`.
    #[arg(long, default_value = "")]
    script: String,
    /// A further header, `name: value`; may be given several times.
    #[arg(long = "header", value_parser = request::header)]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// Status of a good answer.
    #[arg(long, default_value_t = 200)]
    expect: u16,
    /// Process whose CPU time per request and memory to report, NAME=PID; may be given several times.
    #[arg(long = "pid", value_parser = Process::parse)]
    processes: Vec<Process>,
    /// Show a line on standard error every second, also when it is not a terminal.
    #[arg(long)]
    progress: bool,
}

/// A run, checked.
#[derive(Debug)]
pub struct Plan {
    pub(super) target: Arc<Target>,
    pub(super) connector: Connector,
    pub(super) template: Template,
    pub(super) keys: Keys,
    pub(super) http: u8,
    pub(super) concurrency: usize,
    pub(super) connections: usize,
    pub(super) threads: usize,
    /// Open loop.
    pub(super) rate: Option<f64>,
    pub(super) warm_up: Duration,
    pub(super) window: Duration,
    pub(super) limit: usize,
    pub(super) timeout: Duration,
    pub(super) expect: u16,
    /// Of a stream, if one is asked for.
    pub(super) end_mark: Option<String>,
    pub(super) processes: Vec<Process>,
    pub(super) progress: bool,
}

/// Requests per HTTP/2 connection, unless said otherwise.
const STREAMS: usize = 64;
/// Far beyond every run, and small enough to be added to a moment.
const LONGEST_SECONDS: f64 = 1e7;

impl Args {
    /// Checks what the parser cannot.
    ///
    /// # Errors
    /// A message for a person.
    pub fn plan(self) -> Result<Plan, String> {
        let target = Arc::new(self.target()?);
        if self.cacert.is_some() && !target.tls {
            return Err("--cacert needs TLS: --url https://... or --tls".into());
        }
        if self.rate < 0.0 || !self.rate.is_finite() {
            return Err(format!("--rate {}: want requests per second, or 0 for a closed loop", self.rate));
        }
        let rate = (self.rate > 0.0).then_some(self.rate);
        let concurrency =
            positive("--concurrency", self.concurrency.unwrap_or(if rate.is_some() { 256 } else { 32 }))?;
        let threads = positive("--threads", self.threads)?;
        if threads > concurrency {
            return Err(format!(
                "--threads {threads}: more than requests at a time (--concurrency {concurrency})"
            ));
        }
        let keys = self.keys()?;
        let limit = self.requests.map_or(Ok(usize::MAX), |requests| positive("--requests", requests))?;
        let seconds = self.seconds.unwrap_or(if self.requests.is_some() { 3600.0 } else { 5.0 });
        let mut headers = self.headers.clone();
        if !self.script.is_empty() {
            let value = HeaderValue::from_str(&self.script).map_err(|error| format!("--script: {error}"))?;
            headers.push((HeaderName::from_static("x-fake-script"), value));
        }
        Ok(Plan {
            connector: Connector::new(target.clone(), self.http == 2, self.cacert.as_deref())?,
            template: Template::new(&target, &headers, self.body()?)?,
            limit: keys.count().map_or(limit, |count| count.min(limit)),
            keys,
            http: self.http,
            connections: self.connections(concurrency, threads)?,
            concurrency,
            threads,
            rate,
            warm_up: duration("--warm-up", self.warm_up, 0.0)?,
            window: duration("--seconds", seconds, f64::MIN_POSITIVE)?,
            timeout: duration("--timeout", self.timeout, f64::MIN_POSITIVE)?,
            expect: self.expect,
            end_mark: self.stream.then(|| self.done.clone()),
            progress: self.progress || std::io::stderr().is_terminal(),
            processes: self.processes,
            target,
        })
    }

    fn target(&self) -> Result<Target, String> {
        match (&self.url, &self.target) {
            (Some(_), _) if self.tls => Err("--tls is for --target; --url says it by https://".into()),
            (Some(url), _) => Target::of_url(url, self.path.as_deref()),
            (None, Some(address)) => Target::of_address(address, self.tls, self.path.as_deref()),
            (None, None) => Err("--url or --target is needed".into()),
        }
    }

    fn keys(&self) -> Result<Keys, String> {
        match &self.keys {
            Some(path) => Keys::file(path),
            None if self.random_keys => Ok(Keys::random()),
            None => Keys::one(&self.key),
        }
    }

    fn body(&self) -> Result<Bytes, String> {
        match &self.body_file {
            Some(path) => std::fs::read(path)
                .map(Bytes::from)
                .map_err(|error| format!("--body-file {}: {error}", path.display())),
            None => Ok(request::chat(&self.model, self.body_bytes, self.stream)),
        }
    }

    fn connections(&self, concurrency: usize, threads: usize) -> Result<usize, String> {
        match self.connections {
            None if self.http == 1 => Ok(concurrency),
            None => Ok(concurrency.div_ceil(STREAMS).max(threads)),
            Some(_) if self.http == 1 => Err(
                "--connections is for --http 2; HTTP/1.1 has one per request in progress, see --concurrency"
                    .into(),
            ),
            Some(wanted) if wanted < threads => {
                Err(format!("--connections {wanted}: each of {threads} threads needs one"))
            }
            Some(wanted) if wanted > concurrency => Err(format!(
                "--connections {wanted}: more than requests at a time (--concurrency {concurrency})"
            )),
            Some(wanted) => Ok(wanted),
        }
    }
}

fn positive(name: &str, value: usize) -> Result<usize, String> {
    if value == 0 { Err(format!("{name} 0: want at least 1")) } else { Ok(value) }
}

fn duration(name: &str, seconds: f64, least: f64) -> Result<Duration, String> {
    if (least..=LONGEST_SECONDS).contains(&seconds) {
        return Ok(Duration::from_secs_f64(seconds));
    }
    Err(format!("{name} {seconds}: want {}seconds", if least > 0.0 { "positive " } else { "" }))
}
