//! Integer money. Prices are femto-dollars (1e-15 $) per token, amounts nano-dollars (1e-9 $).

use serde::{Deserialize, Serialize};

/// Price of one model, femto-dollars per token.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Price {
    pub input: u64,
    pub output: u64,
    /// `None`: cached tokens cost as input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_read: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_creation: Option<u64>,
}
