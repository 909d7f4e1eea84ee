use serde::{Deserialize, Serialize};

use super::Decisions;

/// Configuration of the gate and adapter plugins, written into the bootstrap by `attache envoy`.
///
/// Business configuration never travels here: a listener update cuts long streams.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GateConfig {
    /// [`super::VERSION`] of the sidecar that wrote this.
    pub contract: u32,
    /// How decisions are asked for. The bootstrap's filters must be those for it.
    #[serde(skip_serializing_if = "Decisions::is_default")]
    pub decisions: Decisions,
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
    /// Whether there are usage records at all. Only `make bench` says no, to measure what they cost.
    pub usage: bool,
    /// An additional header to read the key from (`general_settings.litellm_key_header_name`).
    pub key_header: Option<String>,
    /// Headers that name the end user, after LiteLLM's own (`general_settings.user_header_name`, `user_header_mappings`).
    pub user_headers: Vec<String>,
    /// Envoy lets `x-forwarded-client-cert` in, because only a proxy that may be believed can reach it.
    pub trust_xfcc: bool,
    /// Claims by which callers without a key are known, in the order in which they are asked for.
    pub jwt_claims: Vec<String>,
    /// Bytes kept of what a request says, and of its answer, for the ledger (`general_settings.store_prompts_in_spend_logs`);
    /// 0: nothing is.
    #[serde(skip_serializing_if = "is_zero")]
    pub prompt_bytes: usize,
    /// Key under which Envoy's `jwt_authn` leaves a token's claims in its dynamic metadata.
    pub jwt_metadata: String,
}

impl Default for GateConfig {
    fn default() -> Self {
        Self {
            contract: super::VERSION,
            decisions: Decisions::default(),
            max_body_bytes: 32 * 1024 * 1024,
            lookup_timeout_ms: 1_000,
            key_ttl_ms: 60_000,
            negative_ttl_ms: 5_000,
            max_keys: 100_000,
            max_negative: 50_000,
            max_pending_usage: 100_000,
            usage_batch: 500,
            usage: true,
            key_header: None,
            user_headers: Vec::new(),
            trust_xfcc: false,
            jwt_claims: Vec::new(),
            prompt_bytes: 0,
            jwt_metadata: "jwt".to_owned(),
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}
