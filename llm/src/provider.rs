//! One table of providers: base URL, credential header, quirks.

mod own_path;

use serde::{Deserialize, Serialize};

pub use own_path::path_of;

use crate::contract::DeploymentMeta;
use crate::path::{Endpoint, percent_encode};

/// How a provider is spoken to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Provider {
    /// OpenAI itself, and anything that speaks its dialect at an `api_base` of its own.
    #[default]
    Openai,
    /// Azure OpenAI: deployment in the path, `api-version`, `api-key` header.
    Azure,
    Anthropic,
    /// Amazon Bedrock: Converse, signed by Envoy or with a bearer key.
    Bedrock,
    /// Google AI Studio.
    Gemini,
    /// Google's models on Vertex AI.
    Vertex,
    /// Claude on Vertex AI.
    VertexAnthropic,
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
    /// Has `/responses`.
    pub responses: bool,
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
            responses: false,
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
        row.responses = true;
        row
    }

    /// A provider with a dialect of its own.
    const fn own(
        name: &'static str,
        provider: Provider,
        base_url: Option<&'static str>,
        key_env: &'static [&'static str],
        header: &'static str,
    ) -> Self {
        let mut row = Self::new(name, base_url, key_env);
        row.provider = provider;
        row.stream_options = false;
        if !header.is_empty() {
            row.credential_header = header;
            row.credential_prefix = "";
        }
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

const OPENAI: ProviderInfo = ProviderInfo {
    responses: true,
    ..ProviderInfo::new("openai", Some("https://api.openai.com/v1"), OPENAI_KEY).base_env(OPENAI_BASE)
};

/// Every known prefix. Mistral and Perplexity send usage unasked and do not document `stream_options`.
pub const PROVIDERS: &[ProviderInfo] = &[
    OPENAI,
    ProviderInfo { name: "text-completion-openai", ..OPENAI },
    ProviderInfo::azure("azure"),
    ProviderInfo::azure("azure_text"),
    ProviderInfo::own(
        "anthropic",
        Provider::Anthropic,
        Some("https://api.anthropic.com"),
        &["ANTHROPIC_API_KEY"],
        "x-api-key",
    )
    .base_env(&["ANTHROPIC_API_BASE", "ANTHROPIC_BASE_URL"]),
    // The host has the region in it; the key is a bearer key, or Envoy signs.
    ProviderInfo::own("bedrock", Provider::Bedrock, None, &["AWS_BEARER_TOKEN_BEDROCK"], "")
        .base_env(&["AWS_BEDROCK_RUNTIME_ENDPOINT"])
        .local(),
    ProviderInfo::own(
        "gemini",
        Provider::Gemini,
        Some("https://generativelanguage.googleapis.com/v1beta"),
        &["GOOGLE_API_KEY", "GEMINI_API_KEY"],
        "x-goog-api-key",
    )
    .base_env(&["GEMINI_API_BASE"])
    .default_path("/v1beta"),
    // Host and path have location and project in them; the token is made from a service account.
    ProviderInfo::own("vertex_ai", Provider::Vertex, None, &[], "").base_env(&["VERTEXAI_API_BASE"]),
    ProviderInfo::new(
        "cohere",
        Some("https://api.cohere.ai/compatibility/v1"),
        &["COHERE_API_KEY", "CO_API_KEY"],
    )
    .base_env(&["COHERE_API_BASE"]),
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

/// Does the model refuse `max_tokens` and take `max_completion_tokens` in its place? OpenAI's reasoning models do, at
/// OpenAI and Azure (whose deployments are told by their names only).
#[must_use]
pub fn wants_max_completion_tokens(meta: &DeploymentMeta) -> bool {
    let model = meta.model.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
    let families = ["o1", "o3", "o4", "gpt-5", "gpt-6"];
    let of = |family: &str| {
        model.strip_prefix(family).is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '.', '_']))
    };
    meta.responses && families.into_iter().any(of)
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
pub fn request_path(meta: &DeploymentMeta, endpoint: Endpoint, stream: bool) -> String {
    let base = meta.base_path.trim_end_matches('/');
    match (meta.provider, endpoint) {
        // What is translated to chat goes where chat goes.
        (Provider::Openai | Provider::Azure, Endpoint::Messages | Endpoint::CountTokens) => {
            request_path(meta, Endpoint::ChatCompletions, stream)
        }
        (Provider::Openai | Provider::Azure, Endpoint::Responses) if !meta.responses => {
            request_path(meta, Endpoint::ChatCompletions, stream)
        }
        (Provider::Openai, _) => join(base, endpoint.path()),
        // Beside the deployments, not below one.
        (Provider::Azure, Endpoint::Responses) => own_path::azure_responses(meta),
        (Provider::Azure, _) => azure_path(meta, base, endpoint),
        (Provider::Anthropic, _) => anthropic_path(base, endpoint),
        (Provider::Bedrock, _) => bedrock_path(meta, base, endpoint, stream),
        (Provider::Gemini | Provider::Vertex, _) => google_path(meta, base, endpoint, stream),
        (Provider::VertexAnthropic, _) => {
            let call = if stream { "streamRawPredict" } else { "rawPredict" };
            format!("{base}/models/{}:{call}", model_segment(&meta.model))
        }
    }
}

fn anthropic_path(base: &str, endpoint: Endpoint) -> String {
    let messages = match base {
        base if base.ends_with("/messages") => base.to_owned(),
        base if base.ends_with("/v1") => format!("{base}/messages"),
        base => format!("{base}/v1/messages"),
    };
    if endpoint == Endpoint::CountTokens { format!("{messages}/count_tokens") } else { messages }
}

/// A model id may be an ARN: one path segment whatever it holds.
fn bedrock_path(meta: &DeploymentMeta, base: &str, endpoint: Endpoint, stream: bool) -> String {
    let call = match (endpoint, stream) {
        (Endpoint::Embeddings, _) => "invoke",
        (_, true) => "converse-stream",
        (_, false) => "converse",
    };
    format!("{base}/model/{}/{call}", percent_encode(&meta.model))
}

fn google_path(meta: &DeploymentMeta, base: &str, endpoint: Endpoint, stream: bool) -> String {
    let call = match (endpoint, meta.provider, stream) {
        (Endpoint::Embeddings, Provider::Gemini, _) => "batchEmbedContents",
        (Endpoint::Embeddings, _, _) if embeds_content(&meta.model) => "embedContent",
        (Endpoint::Embeddings, _, _) => "predict",
        (_, _, true) => "streamGenerateContent?alt=sse",
        (_, _, false) => "generateContent",
    };
    // An endpoint of the customer's own is known by its number.
    let number = meta.provider == Provider::Vertex && meta.model.bytes().all(|byte| byte.is_ascii_digit());
    let kind = if number { "endpoints" } else { "models" };
    format!("{base}/{kind}/{}:{call}", model_segment(&meta.model))
}

/// Does Vertex serve this embedding model by `embedContent`? The first Gemini embeddings and the text models before them
/// are asked by `predict`.
#[must_use]
pub fn embeds_content(model: &str) -> bool {
    let name = model.rsplit('/').next().unwrap_or_default();
    name.contains("gemini")
        && !name.starts_with("gemini-embedding-001")
        && !name.starts_with("gemini-embedding-exp")
}

/// A model's name in a path; version marks (`claude-sonnet-4@20250514`) stay as they are.
fn model_segment(model: &str) -> String {
    percent_encode(model).replace("%40", "@")
}

/// The base with the endpoint after it, unless somebody configured the whole path already.
fn join(base: &str, path: &str) -> String {
    if base.ends_with(path) { base.to_owned() } else { format!("{base}{path}") }
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
        let path = join(&root, endpoint.path());
        return if version == Some("preview") { format!("{path}?api-version=preview") } else { path };
    }
    let path = if base.contains("/openai/deployments/") {
        join(base, endpoint.path())
    } else {
        let root = if base.ends_with("/openai") { base.to_owned() } else { format!("{base}/openai") };
        format!("{root}/deployments/{}{}", percent_encode(&meta.model), endpoint.path())
    };
    format!("{path}?api-version={}", percent_encode(version.unwrap_or(AZURE_API_VERSION)))
}

#[cfg(test)]
#[path = "provider_tests.rs"]
mod tests;
