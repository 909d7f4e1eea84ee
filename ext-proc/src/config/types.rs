use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Secret;
use crate::store::{CounterBackend, DatabaseBackend, REDIS_DEADLINE};

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
    /// Tier; lower ones first.
    pub order: Option<u32>,
    pub max_parallel_requests: Option<u64>,
    /// Dollars per `budget_duration`.
    pub max_budget: Option<f64>,
    /// Seconds.
    pub budget_duration: Option<u64>,
    pub tags: Vec<String>,
    pub region_name: Option<String>,
    pub num_retries: Option<u32>,
    /// As `num_retries`, which wins.
    pub max_retries: Option<u32>,
    /// Model group that gets a copy of the traffic.
    pub mirror: Option<String>,
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
    pub allowed_fails_policy: Policy,
    pub cooldown_time: Option<f64>,
    pub access_groups: Vec<String>,
    /// As `litellm_params.region_name`, which wins.
    pub region: Option<String>,
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
    pub background_health_checks: bool,
    /// Seconds between two rounds of background probes.
    pub health_check_interval: f64,
    /// What `/health/readiness` waits for.
    pub readiness_requires: Vec<Requirement>,
    /// Seconds between two looks at the configuration's files; 0: none.
    pub proxy_config_reload_interval_seconds: f64,
}

/// Something that must be there before the gateway is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Requirement {
    /// Envoy has acknowledged the configuration.
    Envoy,
    Database,
    Redis,
    /// At least one deployment can be used.
    Deployments,
}

impl Requirement {
    /// As the file writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Envoy => "envoy",
            Self::Database => "database",
            Self::Redis => "redis",
            Self::Deployments => "deployments",
        }
    }
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
            background_health_checks: false,
            health_check_interval: 300.0,
            readiness_requires: vec![Requirement::Envoy],
            proxy_config_reload_interval_seconds: 2.0,
        }
    }
}

/// `router_settings`. Counters live in Redis if a host or URL is given, else in process.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct RouterSettings {
    /// One of LiteLLM's names.
    pub routing_strategy: Option<String>,
    pub routing_strategy_args: StrategyArgs,
    pub routing_groups: Vec<RoutingGroup>,
    pub redis_url: Option<Secret>,
    pub redis_host: Option<String>,
    pub redis_port: Option<u16>,
    pub redis_username: Option<String>,
    pub redis_password: Option<Secret>,
    pub redis_db: Option<u32>,
    /// Milliseconds that a request waits for Redis.
    pub redis_deadline_ms: Option<u32>,
    pub num_retries: Option<u32>,
    pub max_fallbacks: Option<u32>,
    /// Seconds.
    pub timeout: Option<f64>,
    pub stream_timeout: Option<f64>,
    pub fallbacks: Fallbacks,
    pub default_fallbacks: Vec<String>,
    pub context_window_fallbacks: Fallbacks,
    pub content_policy_fallbacks: Fallbacks,
    pub model_group_alias: BTreeMap<String, Alias>,
    pub retry_policy: Policy,
    pub model_group_retry_policy: BTreeMap<String, Policy>,
    /// Seconds.
    pub retry_after: f64,
    pub allowed_fails: Option<u32>,
    pub allowed_fails_policy: Policy,
    pub enable_pre_call_checks: bool,
    pub optional_pre_call_checks: Vec<String>,
    pub enable_tag_filtering: bool,
    /// Unset: true.
    pub tag_filtering_match_any: Option<bool>,
    pub provider_budget_config: BTreeMap<String, ProviderBudget>,
    pub default_max_parallel_requests: Option<u64>,
    /// Seconds.
    pub cooldown_time: Option<f64>,
    pub disable_cooldowns: bool,
}

/// `[{"group": ["fallback", ...]}]`.
pub type Fallbacks = Vec<BTreeMap<String, Vec<String>>>;

/// A retry or allowed-fails policy as written: `RateLimitErrorRetries` -> 2.
pub type Policy = BTreeMap<String, u32>;

/// `model_group_alias.<alias>`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Alias {
    /// A group, or another alias.
    pub model: String,
    /// Left out of `/v1/models`.
    pub hidden: bool,
}

/// `routing_strategy_args`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct StrategyArgs {
    /// Seconds.
    pub ttl: Option<f64>,
    pub lowest_latency_buffer: Option<f64>,
    pub max_latency_list_size: Option<u32>,
}

/// Model groups with a strategy of their own.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct RoutingGroup {
    pub group_name: String,
    pub models: Vec<String>,
    pub routing_strategy: String,
    pub routing_strategy_args: StrategyArgs,
}

/// `provider_budget_config.<provider>`: one name of each pair is set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ProviderBudget {
    /// Dollars.
    pub budget_limit: Option<f64>,
    pub max_budget: Option<f64>,
    /// Seconds.
    pub time_period: Option<u64>,
    pub budget_duration: Option<u64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct LitellmSettings {
    pub num_retries: Option<u32>,
    /// Seconds.
    pub request_timeout: Option<f64>,
    pub fallbacks: Fallbacks,
    pub default_fallbacks: Vec<String>,
    pub context_window_fallbacks: Fallbacks,
    pub content_policy_fallbacks: Fallbacks,
    pub allowed_fails: Option<u32>,
}

/// Top-level `features`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Features {
    pub separate_health_app: bool,
    /// Leave out deployments whose last background probe failed.
    pub pre_call_health_checks: bool,
}

impl Config {
    /// Where counters, reservations and cooldowns live: Redis if `router_settings` names one, else this process.
    #[must_use]
    pub fn counters(&self) -> CounterBackend {
        let router = &self.router_settings;
        let deadline = router.redis_deadline_ms.map_or(REDIS_DEADLINE, |ms| Duration::from_millis(ms.into()));
        if let Some(url) = &router.redis_url {
            return CounterBackend::Redis { url: url.clone(), deadline };
        }
        let Some(host) = &router.redis_host else { return CounterBackend::Memory };
        let user = router.redis_username.as_deref().map(percent_encode).unwrap_or_default();
        let password = router.redis_password.as_ref().map(|secret| percent_encode(secret.expose()));
        let login = match password {
            Some(password) => format!("{user}:{password}@"),
            None if user.is_empty() => String::new(),
            None => format!("{user}@"),
        };
        // An IPv6 address needs brackets in a URL.
        let host =
            if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.clone() };
        let port = router.redis_port.unwrap_or(6379);
        let db = router.redis_db.map(|db| db.to_string()).unwrap_or_default();
        let url = Secret::new(format!("redis://{login}{host}:{port}/{db}"));
        CounterBackend::Redis { url, deadline }
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
