//! Which dialect a provider is spoken to in, for each endpoint.

use super::Dialect;
use crate::contract::DeploymentMeta;
use crate::path::Endpoint;
use crate::provider::Provider;

/// How a request reaches a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// In the words the client used: body and answer pass, spliced where they must differ.
    Same,
    /// Translated.
    Translate(Dialect),
    /// Embeddings in the provider's own form.
    Embeddings,
    /// The provider cannot count tokens: the gateway answers with an estimate.
    Estimate,
}

/// The way from an endpoint to a deployment; `None` when there is none.
#[must_use]
pub fn route(meta: &DeploymentMeta, endpoint: Endpoint) -> Option<Route> {
    use Provider::{Anthropic, Azure, Bedrock, Gemini, Openai, Vertex, VertexAnthropic};
    let native = match meta.provider {
        Openai | Azure => Dialect::Chat,
        Anthropic | VertexAnthropic => Dialect::Messages,
        Bedrock => Dialect::Converse,
        Gemini | Vertex => Dialect::Gemini,
    };
    let openai = native == Dialect::Chat;
    Some(match endpoint {
        Endpoint::ChatCompletions | Endpoint::Completions if openai => Route::Same,
        Endpoint::Responses if openai && meta.responses => Route::Same,
        // The body of Claude on Vertex differs by two members only, but its translation is where they are made.
        Endpoint::Messages if meta.provider == Anthropic => Route::Same,
        Endpoint::ChatCompletions | Endpoint::Completions | Endpoint::Responses | Endpoint::Messages => {
            Route::Translate(native)
        }
        Endpoint::CountTokens if meta.provider == Anthropic => Route::Same,
        Endpoint::CountTokens => Route::Estimate,
        Endpoint::Embeddings if openai => Route::Same,
        Endpoint::Embeddings if matches!(meta.provider, Bedrock | Gemini | Vertex) => Route::Embeddings,
        Endpoint::Embeddings => return None,
        Endpoint::StoredResponses if meta.responses => Route::Same,
        // Azure has neither.
        Endpoint::Moderations | Endpoint::Rerank if meta.provider == Openai => Route::Same,
        Endpoint::StoredResponses | Endpoint::Moderations | Endpoint::Rerank => return None,
        Endpoint::ImagesGenerations
        | Endpoint::ImagesEdits
        | Endpoint::ImagesVariations
        | Endpoint::AudioSpeech
        | Endpoint::AudioTranscriptions
        | Endpoint::AudioTranslations
        | Endpoint::Files
        | Endpoint::Batches
        | Endpoint::Realtime => {
            if !openai {
                return None;
            }
            Route::Same
        }
    })
}
