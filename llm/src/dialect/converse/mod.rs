//! Bedrock Converse and ConverseStream (Amazon Bedrock API reference: `Converse`, `ConverseStream`, and the data types
//! they name).
//!
//! | module | |
//! |---|---|
//! | `write` | the body of a request |
//! | `content` | its messages |
//! | `media` | images, documents, sound and video in them |
//! | `tools` | its tools, and the way to structured output |
//! | `extras` | what only some models take: thinking, `top_k` |
//! | `read` | answers |

mod content;
mod extras;
mod media;
mod read;
mod tools;
mod write;

pub use read::Reader;
pub use write::write_request;

/// What a model is, by its id: an inference profile's name and an ARN hold it too. Application profiles do not; then the
/// price table tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Claude,
    Nova2,
    Nova,
    /// GPT-5 and newer.
    Gpt,
    Other,
}

impl Family {
    fn of(meta: &crate::contract::DeploymentMeta) -> Self {
        let model = meta.model.to_ascii_lowercase();
        let claude = || ["adaptive_thinking", "legacy_thinking"].iter().any(|what| meta.caps.has(what));
        match model.as_str() {
            model if model.contains("claude") || model.contains("anthropic.") => Self::Claude,
            model if model.contains("nova-2") => Self::Nova2,
            model if model.contains("nova") => Self::Nova,
            model if model.contains("openai.gpt-") && !model.contains("gpt-oss") => Self::Gpt,
            _ if claude() => Self::Claude,
            _ => Self::Other,
        }
    }
}
