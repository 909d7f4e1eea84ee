//! Who speaks with whom.

use attache_llm::contract::{DeploymentMeta, VERSION};
use attache_llm::dialect::{Dialect, Route, route};
use attache_llm::path::Endpoint;
use attache_llm::provider::Provider;

pub(crate) const CLIENTS: [Endpoint; 4] =
    [Endpoint::ChatCompletions, Endpoint::Messages, Endpoint::Responses, Endpoint::Completions];

/// A provider as the matrix names it, with a model of its own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Upstream {
    pub(crate) name: &'static str,
    pub(crate) provider: Provider,
    pub(crate) model: &'static str,
    base_path: &'static str,
    /// Has `/responses`.
    responses: bool,
    supports: &'static [&'static str],
}

pub(crate) const UPSTREAMS: [Upstream; 8] = [
    Upstream::new("openai", Provider::Openai, "gpt-4o", "/v1", true, &[]),
    Upstream::new("azure", Provider::Azure, "gpt-4o", "", true, &[]),
    Upstream::new("openai-compatible", Provider::Openai, "llama-3.3-70b", "/v1", false, &[]),
    Upstream::new(
        "anthropic",
        Provider::Anthropic,
        "claude-sonnet-4-5",
        "",
        false,
        &["reasoning", "native_structured_output"],
    ),
    Upstream::new(
        "vertex-claude",
        Provider::VertexAnthropic,
        "claude-sonnet-4-5@20250929",
        "/v1/projects/p/locations/l/publishers/anthropic",
        false,
        &["reasoning"],
    ),
    Upstream::new(
        "bedrock",
        Provider::Bedrock,
        "anthropic.claude-sonnet-4-5-20250929-v1:0",
        "",
        false,
        &["reasoning"],
    ),
    Upstream::new("gemini", Provider::Gemini, "gemini-2.5-flash", "/v1beta", false, &["reasoning"]),
    Upstream::new(
        "vertex",
        Provider::Vertex,
        "gemini-2.5-pro",
        "/v1/projects/p/locations/l/publishers/google",
        false,
        &["reasoning"],
    ),
];

impl Upstream {
    const fn new(
        name: &'static str,
        provider: Provider,
        model: &'static str,
        base_path: &'static str,
        responses: bool,
        supports: &'static [&'static str],
    ) -> Self {
        Self { name, provider, model, base_path, responses, supports }
    }

    pub(crate) fn meta(&self) -> DeploymentMeta {
        let mut meta = DeploymentMeta {
            contract: VERSION,
            id: "d".into(),
            group: "asked".into(),
            provider: self.provider,
            model: self.model.into(),
            authority: "provider.test".into(),
            base_path: self.base_path.into(),
            responses: self.responses,
            stream_options: matches!(self.provider, Provider::Openai | Provider::Azure),
            ..DeploymentMeta::default()
        };
        meta.caps.max_output = Some(8_192);
        meta.caps.supports = self.supports.iter().map(|name| ((*name).to_owned(), true)).collect();
        meta
    }

    /// The dialect of its answers to clients of this endpoint, and the way there.
    pub(crate) fn way(&self, client: Endpoint) -> (Route, Dialect) {
        let way = route(&self.meta(), client).expect("every chat endpoint has a way to every provider");
        match way {
            Route::Translate(dialect) => (way, dialect),
            _ => (way, client.dialect().expect("a chat endpoint has a dialect")),
        }
    }
}

pub(crate) fn client_name(client: Endpoint) -> &'static str {
    client.dialect().expect("a chat endpoint has a dialect").name()
}
