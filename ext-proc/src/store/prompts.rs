use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::StoreError;

/// What was said in one request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromptRow {
    pub call_id: String,
    /// Unix microseconds, as the spend row has it.
    pub start_us: u64,
    /// Messages, JSON as the body had it; cut, with a mark, where it was too long.
    #[serde(default)]
    pub request: Option<String>,
    /// The answer's body, or the text of its stream; cut as well.
    #[serde(default)]
    pub response: Option<String>,
}

/// Prompts and answers (table `attache_prompts`), unique by `call_id`. Empty unless the configuration has them stored.
#[async_trait]
pub trait Prompts: Send + Sync {
    /// Writes those that are not there yet.
    async fn write_prompts(&self, prompts: &[PromptRow]) -> Result<(), StoreError>;
    /// What was said in a request.
    async fn prompt(&self, call_id: &str) -> Result<Option<PromptRow>, StoreError>;
    /// Deletes some of those of before this moment (Unix microseconds). Returns how many: 0 when none is left.
    async fn forget_prompts(&self, before_us: u64) -> Result<u64, StoreError>;
}
