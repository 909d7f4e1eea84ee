//! LiteLLM's configuration file, strict: an unknown key is an error with its path and the nearest known one, a
//! key that LiteLLM knows and Attaché does not implement (yet) is a warning.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The whole file after placeholders and includes. Only what Attaché acts on is typed here; the list of keys
/// that are known but not acted on lives in the key table of the loader.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Config {
    pub model_list: Vec<ModelEntry>,
    pub general_settings: GeneralSettings,
    pub router_settings: RouterSettings,
    pub litellm_settings: LitellmSettings,
    pub features: Features,
}

/// One deployment. Several entries with the same `model_name` form a model group.
#[derive(Debug, Clone, Deserialize)]
pub struct ModelEntry {
    pub model_name: String,
    pub litellm_params: LitellmParams,
    #[serde(default)]
    pub model_info: ModelInfo,
}

/// `litellm_params`: how the provider is called.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LitellmParams {
    /// `<provider>/<model>`; without a known prefix, OpenAI.
    pub model: String,
    pub custom_llm_provider: Option<String>,
    pub api_key: Option<Secret>,
    pub api_base: Option<String>,
    pub api_version: Option<String>,
    pub organization: Option<String>,
    pub rpm: Option<u64>,
    pub tpm: Option<u64>,
    pub weight: Option<u64>,
    /// Seconds.
    pub timeout: Option<f64>,
    /// Seconds to the first event of a stream.
    pub stream_timeout: Option<f64>,
    pub cooldown_time: Option<f64>,
    pub extra_headers: BTreeMap<String, String>,
    /// Dollars per token, over the price table.
    pub input_cost_per_token: Option<f64>,
    pub output_cost_per_token: Option<f64>,
    pub cache_read_input_token_cost: Option<f64>,
    pub cache_creation_input_token_cost: Option<f64>,
}

/// `model_info`: metadata, never sent upstream.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct ModelInfo {
    pub id: Option<String>,
    pub mode: Option<String>,
    pub base_model: Option<String>,
    pub allowed_fails: Option<u32>,
    pub cooldown_time: Option<f64>,
    pub max_input_tokens: Option<u64>,
    pub max_output_tokens: Option<u64>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct GeneralSettings {
    /// Must start with `sk-`.
    pub master_key: Option<Secret>,
    /// `postgres://...`; without one, SQLite in the data directory.
    pub database_url: Option<Secret>,
    pub database_connection_pool_limit: u32,
    /// Seconds.
    pub database_connection_timeout: u64,
    /// Seconds between ledger writes.
    pub proxy_batch_write_at: u64,
    pub litellm_key_header_name: Option<String>,
    pub max_request_size_mb: Option<f64>,
}

impl Default for GeneralSettings {
    fn default() -> Self {
        Self {
            master_key: None,
            database_url: None,
            database_connection_pool_limit: 10,
            database_connection_timeout: 60,
            proxy_batch_write_at: 10,
            litellm_key_header_name: None,
            max_request_size_mb: None,
        }
    }
}

/// `router_settings`. Counters live in Redis if a host or URL is given, else in process.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct RouterSettings {
    pub routing_strategy: Option<String>,
    pub redis_url: Option<Secret>,
    pub redis_host: Option<String>,
    pub redis_port: Option<u16>,
    pub redis_password: Option<Secret>,
    pub num_retries: Option<u32>,
    pub max_fallbacks: Option<u32>,
    /// Seconds.
    pub timeout: Option<f64>,
    pub stream_timeout: Option<f64>,
    /// `[{"group": ["fallback", ...]}]`.
    pub fallbacks: Vec<BTreeMap<String, Vec<String>>>,
    pub default_fallbacks: Vec<String>,
    pub model_group_alias: BTreeMap<String, String>,
    pub allowed_fails: Option<u32>,
    /// Seconds.
    pub cooldown_time: Option<f64>,
    pub disable_cooldowns: bool,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct LitellmSettings {
    pub num_retries: Option<u32>,
    /// Seconds.
    pub request_timeout: Option<f64>,
    pub fallbacks: Vec<BTreeMap<String, Vec<String>>>,
    pub default_fallbacks: Vec<String>,
    pub allowed_fails: Option<u32>,
}

/// Top-level `features`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Features {
    pub separate_health_app: bool,
    pub pre_call_health_checks: bool,
}

/// A string that never shows itself: `Debug` prints `sk-...last4` or `***`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a plain value.
    #[must_use]
    pub fn new(plain: impl Into<String>) -> Self {
        Self(plain.into())
    }

    /// The plain value. Call it only where the secret goes on the wire.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// Seconds of the file as a duration; negative and non-finite values are config errors caught by the loader.
#[must_use]
pub fn seconds(value: f64) -> Duration {
    Duration::try_from_secs_f64(value).unwrap_or_default()
}
