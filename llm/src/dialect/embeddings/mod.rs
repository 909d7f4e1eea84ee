//! OpenAI embeddings from providers that have a form of their own for them: whole documents both ways.
//!
//! | form | provider | source |
//! |---|---|---|
//! | batchEmbedContents | Gemini API | its REST reference, `models.batchEmbedContents` |
//! | predict | Vertex AI, text models | "Text embeddings API" |
//! | embedContent | Vertex AI, Gemini 2 embeddings | its REST reference, `models.embedContent` |
//! | Titan, Cohere, Nova | Bedrock InvokeModel | "Inference request parameters" of the Bedrock and Nova user guides |
//!
//! Forms that take one text a call are not called several times: more inputs are refused with 400.

mod read;
mod write;

pub use read::read;
pub use write::write;

use crate::contract::DeploymentMeta;
use crate::provider::Provider;

/// What the reader of an answer must know of the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    form: Form,
    /// Vectors are wanted as base64 of little-endian floats.
    base64: bool,
    /// Texts that were sent.
    inputs: usize,
    /// Their tokens, about, for answers that count none.
    estimate: u64,
    /// Model as the client named it.
    model: String,
}

/// How a model is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Gemini,
    Predict,
    EmbedContent,
    Titan,
    /// Titan Multimodal Embeddings G1.
    TitanImage,
    Cohere,
    Nova,
}

impl Form {
    /// `None`: nothing is known of the model.
    fn of(meta: &DeploymentMeta) -> Option<Self> {
        let model = meta.model.to_ascii_lowercase();
        Some(match meta.provider {
            Provider::Gemini => Self::Gemini,
            Provider::Vertex if crate::provider::embeds_content(&model) => Self::EmbedContent,
            Provider::Vertex => Self::Predict,
            Provider::Bedrock if model.contains("titan-embed-image") => Self::TitanImage,
            Provider::Bedrock if model.contains("titan-embed") => Self::Titan,
            Provider::Bedrock if model.contains("cohere.embed") => Self::Cohere,
            Provider::Bedrock if model.contains("nova") && model.contains("embeddings") => Self::Nova,
            _ => return None,
        })
    }

    /// Takes one text a call.
    fn is_single(self) -> bool {
        matches!(self, Self::EmbedContent | Self::Titan | Self::TitanImage | Self::Nova)
    }
}

#[cfg(test)]
mod tests;
