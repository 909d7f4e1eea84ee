//! Which endpoint a request path means. `/v1/chat/completions`, the same without `/v1`,
//! `/openai/deployments/{model}/chat/completions` and `/engines/{model}/chat/completions` are one endpoint.

use serde::{Deserialize, Serialize};

/// An LLM endpoint that the gateway forwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Endpoint {
    ChatCompletions,
    Completions,
    Embeddings,
}

impl Endpoint {
    /// Path below the provider's base path, e.g. `/chat/completions`.
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Self::ChatCompletions => "/chat/completions",
            Self::Completions => "/completions",
            Self::Embeddings => "/embeddings",
        }
    }
}
