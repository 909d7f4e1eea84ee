//! One table of providers: base URL, credential header, quirks.

use serde::{Deserialize, Serialize};

/// How a provider is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Provider {
    /// OpenAI itself, and anything that speaks its dialect at an `api_base` of its own.
    Openai,
    /// Azure OpenAI: deployment in the path, `api-version`, `api-key` header.
    Azure,
}
