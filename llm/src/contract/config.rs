use serde::{Deserialize, Serialize};

/// Configuration of the gate and adapter plugins, written into the bootstrap by `attache envoy`.
///
/// Business configuration never travels here: a listener update cuts long streams.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GateConfig {
    /// [`super::VERSION`] of the sidecar that wrote this.
    pub contract: u32,
    /// Largest request body accepted, bytes. One byte more is a 413.
    pub max_body_bytes: u64,
    /// Longest time to wait for a key lookup, milliseconds.
    pub lookup_timeout_ms: u64,
    /// How long a known key may be used without asking again, milliseconds (longer while the sidecar is away).
    pub key_ttl_ms: u64,
    /// How long an unknown key is refused without asking again, milliseconds.
    pub negative_ttl_ms: u64,
    /// Bound of the table of known keys, per worker.
    pub max_keys: usize,
    /// Bound of the table of unknown keys, per worker.
    pub max_negative: usize,
    /// Bound of unacknowledged usage records, per worker. Beyond it the oldest are written to Envoy's log.
    pub max_pending_usage: usize,
    /// Records per usage batch.
    pub usage_batch: usize,
    /// An additional header to read the key from (`general_settings.litellm_key_header_name`).
    pub key_header: Option<String>,
}

impl Default for GateConfig {
    fn default() -> Self {
        Self {
            contract: super::VERSION,
            max_body_bytes: 32 * 1024 * 1024,
            lookup_timeout_ms: 1_000,
            key_ttl_ms: 60_000,
            negative_ttl_ms: 5_000,
            max_keys: 100_000,
            max_negative: 50_000,
            max_pending_usage: 100_000,
            usage_batch: 500,
            key_header: None,
        }
    }
}
