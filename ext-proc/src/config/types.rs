use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Secret;
use crate::store::{CounterBackend, DatabaseBackend};

/// The whole file after placeholders and includes. Only what Attaché acts on is typed here; the keys that are
/// known but not acted on are listed in the key table (`keys.rs`).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Config {
    pub model_list: Vec<ModelEntry>,
    pub general_settings: GeneralSettings,
    pub router_settings: RouterSettings,
    pub litellm_settings: LitellmSettings,
    pub features: Features,
    /// Variables for placeholders and provider keys, over the process's own.
    pub environment_variables: BTreeMap<String, Secret>,
}

/// One deployment. Several entries with the same `model_name` form a model group.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct ModelEntry {
    pub model_name: String,
    pub litellm_params: LitellmParams,
    #[serde(default)]
    pub model_info: ModelInfo,
    /// LiteLLM takes these here too, before those of `litellm_params`.
    #[serde(default)]
    pub rpm: Option<u64>,
    #[serde(default)]
    pub tpm: Option<u64>,
    /// Not served.
    #[serde(default)]
    pub blocked: bool,
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
    /// Name in the price table.
    pub base_model: Option<String>,
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
    pub blocked: bool,
    /// Dollars per token; those of `litellm_params` win.
    pub input_cost_per_token: Option<f64>,
    pub output_cost_per_token: Option<f64>,
    pub cache_read_input_token_cost: Option<f64>,
    pub cache_creation_input_token_cost: Option<f64>,
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
    /// Accepts a missing or publicly known master key. For local development.
    pub dangerously_permit_weak_or_unset_master_key: bool,
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
            dangerously_permit_weak_or_unset_master_key: false,
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

impl Config {
    /// Where counters, reservations and cooldowns live: Redis if `router_settings` names one, else this process.
    #[must_use]
    pub fn counters(&self) -> CounterBackend {
        let router = &self.router_settings;
        if let Some(url) = &router.redis_url {
            return CounterBackend::Redis { url: url.clone() };
        }
        let Some(host) = &router.redis_host else { return CounterBackend::Memory };
        let login = router.redis_password.as_ref();
        let login =
            login.map(|password| format!(":{}@", percent_encode(password.expose()))).unwrap_or_default();
        // An IPv6 address needs brackets in a URL.
        let host =
            if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.clone() };
        let port = router.redis_port.unwrap_or(6379);
        CounterBackend::Redis { url: Secret::new(format!("redis://{login}{host}:{port}/")) }
    }

    /// Where keys and ledger live: Postgres if `database_url` is given, else SQLite in `data_dir`.
    #[must_use]
    pub fn database(&self, data_dir: &Path) -> DatabaseBackend {
        let general = &self.general_settings;
        match &general.database_url {
            Some(url) => DatabaseBackend::Postgres {
                url: url.clone(),
                max_connections: general.database_connection_pool_limit,
                connect_timeout: Duration::from_secs(general.database_connection_timeout),
            },
            None => DatabaseBackend::Sqlite { path: data_dir.join("attache.db") },
        }
    }
}

/// Everything but unreserved characters, so that any password survives the URL.
fn percent_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Seconds of the file as a duration; negative and non-finite values are config errors caught by the loader.
#[must_use]
pub fn seconds(value: f64) -> Duration {
    Duration::try_from_secs_f64(value).unwrap_or_default()
}
