//! One table of providers: base URL, credential header, quirks.

use serde::{Deserialize, Serialize};

use crate::contract::DeploymentMeta;
use crate::path::{Endpoint, percent_encode};

/// How a provider is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Provider {
    /// OpenAI itself, and anything that speaks its dialect at an `api_base` of its own.
    Openai,
    /// Azure OpenAI: deployment in the path, `api-version`, `api-key` header.
    Azure,
}

/// One row of the table: how a `litellm_params.model` prefix is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProviderInfo {
    /// The prefix, e.g. `groq` in `groq/llama-3.3-70b`.
    pub name: &'static str,
    /// How it is spoken to.
    pub provider: Provider,
    /// Where it is when no `api_base` is given; `None`: `api_base` is required.
    pub base_url: Option<&'static str>,
    /// Environment variables that hold the key when `api_key` is not given, in order.
    pub key_env: &'static [&'static str],
    /// Environment variables that hold the base URL when `api_base` is not given, in order.
    pub base_env: &'static [&'static str],
    /// Header of the credential.
    pub credential_header: &'static str,
    /// What stands before the key in that header, with its space.
    pub credential_prefix: &'static str,
    /// Does it work without a key (local servers)?
    pub key_optional: bool,
    /// Understands `stream_options.include_usage`.
    pub stream_options: bool,
    /// Path to use when `api_base` has none (LiteLLM users write Ollama's without `/v1`).
    pub default_path: &'static str,
}

impl ProviderInfo {
    const fn new(
        name: &'static str,
        base_url: Option<&'static str>,
        key_env: &'static [&'static str],
    ) -> Self {
        Self {
            name,
            provider: Provider::Openai,
            base_url,
            key_env,
            base_env: &[],
            credential_header: "authorization",
            credential_prefix: "Bearer ",
            key_optional: false,
            stream_options: true,
            default_path: "",
        }
    }

    const fn base_env(mut self, names: &'static [&'static str]) -> Self {
        self.base_env = names;
        self
    }

    const fn local(mut self) -> Self {
        self.key_optional = true;
        self
    }

    const fn without_stream_options(mut self) -> Self {
        self.stream_options = false;
        self
    }

    const fn default_path(mut self, path: &'static str) -> Self {
        self.default_path = path;
        self
    }

    const fn azure(name: &'static str) -> Self {
        let mut row = Self::new(name, None, &["AZURE_API_KEY", "AZURE_OPENAI_API_KEY"]);
        row.provider = Provider::Azure;
        row.base_env = &["AZURE_API_BASE"];
        row.credential_header = "api-key";
        row.credential_prefix = "";
        row
    }
}

/// Azure's `api-version` when neither the deployment nor `AZURE_API_VERSION` gives one (LiteLLM's default).
pub const AZURE_API_VERSION: &str = "2025-02-01-preview";

const OPENAI_KEY: &[&str] = &["OPENAI_API_KEY"];
const OPENAI_BASE: &[&str] = &["OPENAI_BASE_URL", "OPENAI_API_BASE"];
const TOGETHER_KEYS: &[&str] = &["TOGETHERAI_API_KEY", "TOGETHER_AI_API_KEY", "TOGETHER_API_KEY"];
const FIREWORKS_KEYS: &[&str] = &["FIREWORKS_API_KEY", "FIREWORKS_AI_API_KEY"];
const PERPLEXITY_KEYS: &[&str] = &["PERPLEXITYAI_API_KEY", "PERPLEXITY_API_KEY"];

const OPENAI: ProviderInfo =
    ProviderInfo::new("openai", Some("https://api.openai.com/v1"), OPENAI_KEY).base_env(OPENAI_BASE);

/// Every known prefix. Mistral and Perplexity send usage unasked and do not document `stream_options`.
pub const PROVIDERS: &[ProviderInfo] = &[
    OPENAI,
    ProviderInfo { name: "text-completion-openai", ..OPENAI },
    ProviderInfo::azure("azure"),
    ProviderInfo::azure("azure_text"),
    ProviderInfo::new("groq", Some("https://api.groq.com/openai/v1"), &["GROQ_API_KEY"])
        .base_env(&["GROQ_API_BASE"]),
    ProviderInfo::new("mistral", Some("https://api.mistral.ai/v1"), &["MISTRAL_API_KEY"])
        .base_env(&["MISTRAL_API_BASE"])
        .without_stream_options(),
    ProviderInfo::new("deepseek", Some("https://api.deepseek.com/v1"), &["DEEPSEEK_API_KEY"])
        .base_env(&["DEEPSEEK_API_BASE"]),
    ProviderInfo::new("together_ai", Some("https://api.together.xyz/v1"), TOGETHER_KEYS),
    ProviderInfo::new("openrouter", Some("https://openrouter.ai/api/v1"), &["OPENROUTER_API_KEY"])
        .base_env(&["OPENROUTER_API_BASE"]),
    ProviderInfo::new("xai", Some("https://api.x.ai/v1"), &["XAI_API_KEY"]).base_env(&["XAI_API_BASE"]),
    ProviderInfo::new("fireworks_ai", Some("https://api.fireworks.ai/inference/v1"), FIREWORKS_KEYS)
        .base_env(&["FIREWORKS_API_BASE"]),
    ProviderInfo::new("perplexity", Some("https://api.perplexity.ai"), PERPLEXITY_KEYS)
        .without_stream_options(),
    ProviderInfo::new("nvidia_nim", Some("https://integrate.api.nvidia.com/v1"), &["NVIDIA_NIM_API_KEY"])
        .base_env(&["NVIDIA_NIM_API_BASE"]),
    ProviderInfo::new("ollama", Some("http://localhost:11434/v1"), &["OLLAMA_API_KEY"])
        .base_env(&["OLLAMA_API_BASE"])
        .default_path("/v1")
        .local(),
    ProviderInfo::new("ollama_chat", Some("http://localhost:11434/v1"), &["OLLAMA_API_KEY"])
        .base_env(&["OLLAMA_API_BASE"])
        .default_path("/v1")
        .local(),
    ProviderInfo::new("vllm", None, &["VLLM_API_KEY", "HOSTED_VLLM_API_KEY"])
        .base_env(&["VLLM_API_BASE", "HOSTED_VLLM_API_BASE"])
        .local(),
    ProviderInfo::new("hosted_vllm", None, &["HOSTED_VLLM_API_KEY"])
        .base_env(&["HOSTED_VLLM_API_BASE"])
        .local(),
    ProviderInfo::new("lm_studio", Some("http://localhost:1234/v1"), &["LM_STUDIO_API_KEY"])
        .base_env(&["LM_STUDIO_API_BASE"])
        .local(),
    ProviderInfo::new("openai_like", None, &["OPENAI_LIKE_API_KEY"])
        .base_env(&["OPENAI_LIKE_API_BASE"])
        .local(),
    ProviderInfo::new("custom_openai", None, &["OPENAI_LIKE_API_KEY"])
        .base_env(&["OPENAI_LIKE_API_BASE"])
        .local(),
];

/// The row of a prefix.
#[must_use]
pub fn lookup(prefix: &str) -> Option<&'static ProviderInfo> {
    PROVIDERS.iter().find(|row| row.name == prefix)
}

/// Splits `litellm_params.model` into its provider and the provider's own model name. Without a known prefix the
/// provider is OpenAI and the name is whole (`meta-llama/Llama-3` may be a name on an OpenAI-compatible server).
#[must_use]
pub fn split_model(model: &str) -> (&'static ProviderInfo, &str) {
    if let Some((prefix, name)) = model.split_once('/')
        && let Some(row) = lookup(prefix)
    {
        // LiteLLM's marks for custom-named Azure deployments are not part of the deployment's name.
        let marks = ["gpt5_series/", "o_series/"];
        let mark = marks.iter().find_map(|mark| name.strip_prefix(mark));
        return (row, mark.filter(|_| row.provider == Provider::Azure).unwrap_or(name));
    }
    (&OPENAI, model)
}

/// An `api_base` taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiBase {
    pub tls: bool,
    /// Host name or IP address, without brackets.
    pub host: String,
    pub port: u16,
    /// For `:authority`: the port only if not the scheme's own.
    pub authority: String,
    /// Without a trailing slash; empty for none.
    pub path: String,
    /// `api-version` of its query (people paste Azure's whole URL).
    pub api_version: Option<String>,
}

impl ApiBase {
    /// Parses `http(s)://host[:port][/path][?query]`. `None` for anything else (user info included: a credential in a
    /// URL ends up in logs).
    #[must_use]
    pub fn parse(url: &str) -> Option<Self> {
        let url = url.trim();
        let (scheme, rest) = url.split_once("://")?;
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at_checked(at)?,
            None => (rest, ""),
        };
        let clean = |c: char| c.is_ascii_graphic() && c != '@' && c != '#';
        if authority.is_empty()
            || !authority.chars().all(clean)
            || !path.chars().all(|c| c.is_ascii_graphic())
        {
            return None;
        }
        let standard = if tls { 443 } else { 80 };
        let (host, port) = split_port(authority)?;
        let port = port.unwrap_or(standard);
        let shown = if host.contains(':') { format!("[{host}]") } else { host.to_ascii_lowercase() };
        let authority = if port == standard { shown } else { format!("{shown}:{port}") };
        let api_version = query
            .split('&')
            .find_map(|pair| pair.strip_prefix("api-version="))
            .filter(|version| !version.is_empty())
            .map(str::to_owned);
        Some(Self {
            tls,
            host: host.to_ascii_lowercase(),
            port,
            authority,
            path: path.trim_end_matches('/').to_owned(),
            api_version,
        })
    }
}

/// Host and port of `host`, `host:port`, `[v6]` or `[v6]:port`.
fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
    } else {
        authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port)))
    };
    let port = match port {
        Some(port) => Some(port.parse::<u16>().ok().filter(|port| *port != 0)?),
        None => None,
    };
    if host.is_empty() { None } else { Some((host, port)) }
}

/// `:path` of a request to a deployment, query included.
#[must_use]
pub fn request_path(meta: &DeploymentMeta, endpoint: Endpoint) -> String {
    let base = meta.base_path.trim_end_matches('/');
    match meta.provider {
        Provider::Openai => join(base, endpoint),
        Provider::Azure => azure_path(meta, base, endpoint),
    }
}

/// The base with the endpoint after it, unless somebody configured the whole path already.
fn join(base: &str, endpoint: Endpoint) -> String {
    if base.ends_with(endpoint.path()) { base.to_owned() } else { format!("{base}{}", endpoint.path()) }
}

/// Azure's two surfaces: by deployment with a dated `api-version`, or `/openai/v1`, which is OpenAI's own.
fn azure_path(meta: &DeploymentMeta, base: &str, endpoint: Endpoint) -> String {
    let version = meta.api_version.as_deref().filter(|version| !version.is_empty());
    let dateless = matches!(version, Some("v1" | "latest" | "preview"));
    if base.ends_with("/openai/v1") || base.contains("/openai/v1/") || dateless {
        let root = match base.ends_with("/openai") {
            _ if base.contains("/openai/v1") => base.to_owned(),
            true => format!("{base}/v1"),
            false => format!("{base}/openai/v1"),
        };
        let path = join(&root, endpoint);
        return if version == Some("preview") { format!("{path}?api-version=preview") } else { path };
    }
    let path = if base.contains("/openai/deployments/") {
        join(base, endpoint)
    } else {
        let root = if base.ends_with("/openai") { base.to_owned() } else { format!("{base}/openai") };
        format!("{root}/deployments/{}{}", percent_encode(&meta.model), endpoint.path())
    };
    format!("{path}?api-version={}", percent_encode(version.unwrap_or(AZURE_API_VERSION)))
}

#[cfg(test)]
#[path = "provider_tests.rs"]
mod tests;
