use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use attache_llm::path::percent_encode;
use clap::{Args, Subcommand};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};

use crate::server::client::{Client, Target};

/// Longest answer, bytes: an explanation has a line per deployment of a group.
const MAX_ANSWER: usize = 16 * 1024 * 1024;
const PATIENCE: Duration = Duration::from_secs(30);

/// `attache route`.
#[derive(Debug, Subcommand)]
pub(super) enum Route {
    /// Show where a request for a model would go now, and why. Nothing is sent or counted.
    Explain(Explain),
}

#[derive(Debug, Args)]
pub(super) struct Explain {
    /// Model as a client would name it.
    model: String,
    /// The gateway.
    #[arg(long, env = "ATTACHE_URL", default_value = "http://localhost:4000", value_name = "URL")]
    url: String,
    /// The master key; without it that of the configuration.
    #[arg(long, env = "LITELLM_MASTER_KEY", hide_env_values = true, value_name = "KEY")]
    key: Option<String>,
    /// The gateway's configuration, for its master key.
    #[arg(long, short, env = "ATTACHE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Tags of the request, comma separated.
    #[arg(long, value_name = "TAGS")]
    tags: Option<String>,
    /// A streaming request.
    #[arg(long)]
    stream: bool,
    /// Length of its prompt, tokens.
    #[arg(long, value_name = "N")]
    input_tokens: Option<u64>,
    /// Its session, for session affinity.
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// The virtual key that would ask, by hash or alias.
    #[arg(long = "as", value_name = "HASH_OR_ALIAS")]
    caller: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// CA bundle for an `https://` gateway.
    #[arg(
        long,
        env = "ATTACHE_CA_FILE",
        default_value = "/etc/ssl/certs/ca-certificates.crt",
        value_name = "FILE"
    )]
    ca_file: PathBuf,
}

impl Route {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let Self::Explain(explain) = self;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        print!("{}", runtime.block_on(explain.ask())?);
        Ok(())
    }
}

impl Explain {
    async fn ask(&self) -> anyhow::Result<String> {
        let target = Target::below(&self.url, &self.path());
        let target = target.with_context(|| format!("{} is not an http:// or https:// URL", self.url))?;
        let client = if target.tls { Client::new(&self.ca_file)? } else { Client::without_tls() };
        let mut headers = HeaderMap::new();
        let key =
            HeaderValue::try_from(format!("Bearer {}", self.master_key()?)).context("the key is not one")?;
        headers.insert(AUTHORIZATION, key);
        let asked = client.get(&target, headers, MAX_ANSWER, PATIENCE).await;
        let (status, body) = asked.with_context(|| format!("cannot ask {}", self.url))?;
        let body = body.context("the answer is too long")?;
        let mut text = String::from_utf8(body.to_vec()).context("the answer is not text")?;
        if !status.is_success() {
            bail!("{} answers {status}: {}", self.url, message(&text));
        }
        if !text.ends_with('\n') {
            text.push('\n');
        }
        Ok(text)
    }

    fn master_key(&self) -> anyhow::Result<String> {
        if let Some(key) = self.key.as_deref().filter(|key| !key.is_empty()) {
            return Ok(key.to_owned());
        }
        super::master_key(
            self.config.as_deref(),
            "give the master key: --key, LITELLM_MASTER_KEY or --config",
        )
    }

    fn path(&self) -> String {
        let mut path = format!("/router/explain?model={}", percent_encode(&self.model));
        let tokens = self.input_tokens.map(|tokens| tokens.to_string());
        let given = [
            ("tags", self.tags.as_deref()),
            ("input_tokens", tokens.as_deref()),
            ("session", self.session.as_deref()),
            ("key", self.caller.as_deref()),
            ("stream", self.stream.then_some("true")),
            ("format", (!self.json).then_some("text")),
        ];
        for (name, value) in given {
            if let Some(value) = value {
                path.push_str(&format!("&{name}={}", percent_encode(value)));
            }
        }
        path
    }
}

/// The message of an error in OpenAI's shape, else the text.
fn message(text: &str) -> String {
    let error = serde_json::from_str::<serde_json::Value>(text).ok();
    let message = error.as_ref().and_then(|error| error["error"]["message"].as_str());
    message.unwrap_or(text).to_owned()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(subcommand)]
        route: Route,
    }

    fn parsed(arguments: &[&str]) -> Result<Explain, clap::Error> {
        let line = ["attache", "explain"].iter().chain(arguments);
        Line::try_parse_from(line).map(|Line { route: Route::Explain(explain) }| explain)
    }

    #[test]
    fn flags_become_the_question() {
        let plain = parsed(&["openai/gpt-4o", "--key", "sk-x"]).unwrap();
        assert_eq!(plain.path(), "/router/explain?model=openai%2Fgpt-4o&format=text");
        let all = [
            "m",
            "--tags",
            "a,b c",
            "--stream",
            "--input-tokens",
            "7",
            "--session",
            "s",
            "--as",
            "ci",
            "--json",
        ];
        let path = parsed(&all).unwrap().path();
        assert_eq!(
            path,
            "/router/explain?model=m&tags=a%2Cb%20c&input_tokens=7&session=s&key=ci&stream=true"
        );
        assert!(parsed(&[]).is_err());
    }

    #[test]
    fn the_key_is_given_or_the_configurations() {
        assert_eq!(parsed(&["m", "--key", "sk-given"]).unwrap().master_key().unwrap(), "sk-given");
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.yaml");
        let key = "sk-of-the-configuration";
        std::fs::write(&file, format!("model_list: []\ngeneral_settings: {{master_key: {key}}}\n")).unwrap();
        let explain = Explain { key: None, config: Some(file), ..parsed(&["m"]).unwrap() };
        assert_eq!(explain.master_key().unwrap(), key);
        let neither = Explain { key: None, config: None, ..parsed(&["m"]).unwrap() };
        assert!(neither.master_key().is_err());
    }

    #[tokio::test]
    async fn an_error_of_the_gateway_is_told_with_its_message() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let refuse = || async {
            let body = r#"{"error": {"message": "Only the master key may call it."}}"#;
            (http::StatusCode::FORBIDDEN, body)
        };
        let router = axum::Router::new().fallback(refuse);
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let service = hyper_util::service::TowerToHyperService::new(router);
            let stream = hyper_util::rt::TokioIo::new(stream);
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(stream, service).await;
        });
        let explain = parsed(&["m", "--key", "sk-secret-key", "--url", &url]).unwrap();
        let error = format!("{:#}", explain.ask().await.unwrap_err());
        assert!(error.contains("403") && error.contains("Only the master key"), "{error}");
        assert!(!error.contains("sk-secret-key"), "{error}");
    }
}
