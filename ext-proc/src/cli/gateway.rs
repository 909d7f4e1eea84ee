//! A running gateway's admin API, for the commands that are its twins: role checks, audit log and revocation are the
//! same as for HTTP.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use attache_llm::path::percent_encode;
use bytes::Bytes;
use clap::Args;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method};
use serde_json::Value;

use crate::config::Env;
use crate::server::client::{Asked, Client, Target};

/// Longest answer, bytes: a page of keys with their metadata.
const MAX_ANSWER: usize = 64 * 1024 * 1024;
const PATIENCE: Duration = Duration::from_secs(30);

/// Where the gateway is, and who asks.
#[derive(Debug, Clone, Args)]
pub(super) struct Gateway {
    /// The gateway, or its sidecar's socket as `unix:/path/attache.sock`.
    #[arg(long, env = "ATTACHE_URL", default_value = "http://127.0.0.1:4000", value_name = "URL")]
    url: String,
    /// The master key, or a key whose role may do this; without it that of the configuration.
    #[arg(long, env = "LITELLM_MASTER_KEY", hide_env_values = true, value_name = "KEY")]
    master_key: Option<String>,
    /// The gateway's configuration, for its master key.
    #[arg(long, short, env = "ATTACHE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// CA bundle for an `https://` gateway.
    #[arg(
        long,
        env = "ATTACHE_CA_FILE",
        default_value = "/etc/ssl/certs/ca-certificates.crt",
        value_name = "FILE"
    )]
    ca_file: PathBuf,
    /// Print the gateway's answer as JSON.
    #[arg(long)]
    pub(super) json: bool,
}

/// What the gateway answers when it refuses.
#[derive(Debug, thiserror::Error)]
#[error("{message} (status {status})")]
pub(super) struct Refused {
    pub(super) status: u16,
    pub(super) message: String,
}

impl Gateway {
    /// Runs a command's questions.
    pub(super) fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future)
    }

    pub(super) async fn get(&self, path: &str, query: &[(&str, &str)]) -> anyhow::Result<Value> {
        self.ask(Method::GET, &with_query(path, query), None).await
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.ask(Method::POST, path, Some(body)).await
    }

    /// # Errors
    /// [`Refused`] when there is an answer, else what kept it away.
    async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        let (client, target, asked) = self.question(method, path, body)?;
        let answer = client.send(&target, asked, MAX_ANSWER, PATIENCE).await;
        let (status, body) = answer.with_context(|| format!("cannot ask {}", self.url))?;
        let body = body.context("the answer is too long")?;
        if !status.is_success() {
            bail!(Refused { status: status.as_u16(), message: message(&body) });
        }
        serde_json::from_slice(&body)
            .with_context(|| format!("{} is no gateway: its answer is no JSON", self.url))
    }

    /// Writes an answer of any length to `sink` as it comes.
    ///
    /// # Errors
    /// As [`Self::get`], and when it ends before its end.
    pub(super) async fn download(
        &self,
        path: &str,
        query: &[(&str, &str)],
        sink: &mut (dyn std::io::Write + Send),
    ) -> anyhow::Result<()> {
        let (client, target, asked) = self.question(Method::GET, &with_query(path, query), None)?;
        let answer = client.download(&target, asked, MAX_ANSWER, sink).await;
        let (status, body) = answer.with_context(|| format!("cannot ask {}", self.url))?;
        if !status.is_success() {
            bail!(Refused { status: status.as_u16(), message: message(&body.unwrap_or_default()) });
        }
        Ok(())
    }

    fn question(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<(Client, Target, Asked)> {
        let target = self.target(path)?;
        let client = if target.tls { Client::new(&self.ca_file)? } else { Client::without_tls() };
        let mut headers = HeaderMap::new();
        let key =
            HeaderValue::try_from(format!("Bearer {}", self.key()?)).context("the key cannot be a header")?;
        headers.insert(AUTHORIZATION, key);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert("litellm-changed-by", changed_by());
        let body = body.map_or_else(Bytes::new, |body| Bytes::from(body.to_string()));
        Ok((client, target, Asked { method, headers, body }))
    }

    fn target(&self, path: &str) -> anyhow::Result<Target> {
        if let Some(socket) = self.url.strip_prefix("unix:") {
            let socket = socket.strip_prefix("//").unwrap_or(socket);
            return Ok(Target::behind(PathBuf::from(socket), path));
        }
        Target::below(&self.url, path)
            .with_context(|| format!("{} is not an http:// or https:// URL, or unix:/path", self.url))
    }

    fn key(&self) -> anyhow::Result<String> {
        if let Some(key) = self.master_key.as_deref().filter(|key| !key.is_empty()) {
            return Ok(key.to_owned());
        }
        let missing = "give the master key: --master-key, LITELLM_MASTER_KEY or --config";
        super::master_key(self.config.as_deref(), missing)
    }
}

fn with_query(path: &str, query: &[(&str, &str)]) -> String {
    let pairs: Vec<String> =
        query.iter().map(|(name, value)| format!("{name}={}", percent_encode(value))).collect();
    if pairs.is_empty() { path.to_owned() } else { format!("{path}?{}", pairs.join("&")) }
}

/// For the audit log: who sits at this terminal.
fn changed_by() -> HeaderValue {
    let env = Env::process();
    let user = env.first(&["SUDO_USER", "USER", "LOGNAME"]).map_or("cli", |(_, user)| user);
    HeaderValue::try_from(format!("cli:{user}")).unwrap_or(HeaderValue::from_static("cli"))
}

/// The message of an error in OpenAI's shape, else the text.
fn message(body: &[u8]) -> String {
    let error = serde_json::from_slice::<Value>(body).ok();
    let message = error.as_ref().and_then(|error| error["error"]["message"].as_str());
    let text = message.map_or_else(|| String::from_utf8_lossy(body).trim().to_owned(), str::to_owned);
    // A stranger's page is not printed whole.
    text.chars().filter(|c| !c.is_control()).take(500).collect()
}

/// Was it refused with this status?
pub(super) fn refused_with(error: &anyhow::Error, status: u16) -> bool {
    error.downcast_ref::<Refused>().is_some_and(|refused| refused.status == status)
}
