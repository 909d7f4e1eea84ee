//! Token usage, verbatim from the provider or estimated and marked so.

use serde::{Deserialize, Serialize};

/// Tokens of one attempt. `prompt` includes cached and audio parts, `completion` includes reasoning (OpenAI's
/// own counting), so that nothing is counted twice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    pub prompt: u64,
    pub completion: u64,
    /// Provider's own total; may differ from the sum.
    pub total: u64,
    #[serde(default)]
    pub cached: u64,
    #[serde(default)]
    pub cache_creation: u64,
    #[serde(default)]
    pub reasoning: u64,
    #[serde(default)]
    pub audio_in: u64,
    #[serde(default)]
    pub audio_out: u64,
    /// Counted by us, not by the provider (no usage sent, or the client left early).
    #[serde(default)]
    pub estimated: bool,
}
