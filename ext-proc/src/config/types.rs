use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::rates::Margin;
use super::redis::Node;
use super::{IdentityRule, LitellmParams, ModelInfo, RedisSettings, Secret};
use crate::store::{CounterBackend, DatabaseBackend, REDIS_DEADLINE, RedisServers};

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
    /// Where the counters live, by all of this and the environment; `None`: in this process.
    #[serde(skip)]
    pub redis: Option<RedisServers>,
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

#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct GeneralSettings {
    /// Must start with `sk-`.
    pub master_key: Option<Secret>,
    /// `postgres://...`; without one, SQLite in the data directory.
    pub database_url: Option<Secret>,
    /// Before every other Redis that is named.
    pub coordination_redis: RedisSettings,
    pub database_connection_pool_limit: u32,
    /// Seconds.
    pub database_connection_timeout: u64,
    /// Seconds between ledger writes.
    pub proxy_batch_write_at: u64,
    /// Rows wait for the database in Redis.
    pub use_redis_transaction_buffer: bool,
    /// Seconds that rows of the ledger are kept; 0: for ever.
    pub maximum_spend_logs_retention_period: u64,
    /// Seconds between two looks at that.
    pub maximum_spend_logs_retention_interval: u64,
    pub store_prompts_in_spend_logs: bool,
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
    pub token_rate_limit_type: TokenRateLimitType,
    /// Of keys without one of their own.
    pub max_parallel_requests: Option<u64>,
    pub global_max_parallel_requests: Option<u64>,
    pub fail_closed_rate_limit_enforcement: bool,
    pub fail_closed_budget_enforcement: bool,
    pub disable_budget_reservation: bool,
    pub apply_user_budget_to_team_keys: bool,
    pub enforce_user_param: bool,
    /// Group for moderations that name no model.
    pub moderation_model: Option<String>,
    /// Group whose account serves files, batches and stored responses that name no model.
    pub files_model: Option<String>,
    /// Requests of a busy key may be decided ahead.
    pub decision_leases: bool,
    pub user_header_name: Option<String>,
    pub user_header_mappings: Vec<UserHeader>,
    pub disable_custom_api_keys: bool,
    pub disable_auto_add_proxy_admin_to_teams: bool,
    pub store_model_in_db: bool,
    /// Changes of the admin API are recorded in any case.
    pub store_audit_logs: Option<bool>,
    /// No effect: nothing makes an unknown key pass.
    pub allow_requests_on_db_unavailable: bool,
}

/// `token_rate_limit_type`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenRateLimitType {
    #[default]
    Total,
    Input,
    Output,
}

/// `user_header_mappings[]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct UserHeader {
    pub header_name: String,
    /// `customer` or `internal_user`.
    pub litellm_user_role: String,
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
            coordination_redis: RedisSettings::default(),
            database_connection_pool_limit: 10,
            database_connection_timeout: 60,
            proxy_batch_write_at: 10,
            use_redis_transaction_buffer: false,
            maximum_spend_logs_retention_period: 90 * 86_400,
            maximum_spend_logs_retention_interval: 86_400,
            store_prompts_in_spend_logs: false,
            litellm_key_header_name: None,
            max_request_size_mb: None,
            dangerously_permit_weak_or_unset_master_key: false,
            background_health_checks: false,
            health_check_interval: 300.0,
            readiness_requires: vec![Requirement::Envoy],
            proxy_config_reload_interval_seconds: 2.0,
            token_rate_limit_type: TokenRateLimitType::Total,
            max_parallel_requests: None,
            global_max_parallel_requests: None,
            fail_closed_rate_limit_enforcement: false,
            fail_closed_budget_enforcement: false,
            disable_budget_reservation: false,
            apply_user_budget_to_team_keys: false,
            enforce_user_param: false,
            moderation_model: None,
            files_model: None,
            decision_leases: true,
            user_header_name: None,
            user_header_mappings: Vec::new(),
            disable_custom_api_keys: false,
            disable_auto_add_proxy_admin_to_teams: false,
            store_model_in_db: false,
            store_audit_logs: None,
            allow_requests_on_db_unavailable: false,
        }
    }
}

/// `router_settings`.
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
    /// TLS.
    pub redis_ssl: Option<bool>,
    /// PEM file.
    pub redis_ssl_ca_certs: Option<String>,
    pub redis_startup_nodes: Vec<Node>,
    pub redis_sentinel_nodes: Vec<Node>,
    /// As the sentinels call the primary.
    pub redis_service_name: Option<String>,
    pub redis_sentinel_password: Option<Secret>,
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
    pub drop_params: bool,
    pub modify_params: bool,
    pub num_retries: Option<u32>,
    /// Seconds.
    pub request_timeout: Option<f64>,
    pub fallbacks: Fallbacks,
    pub default_fallbacks: Vec<String>,
    pub context_window_fallbacks: Fallbacks,
    pub content_policy_fallbacks: Fallbacks,
    pub allowed_fails: Option<u32>,
    /// Provider to share.
    pub cost_discount_config: BTreeMap<String, f64>,
    /// Provider, or `global`, to margin.
    pub cost_margin_config: BTreeMap<String, Margin>,
    pub block_requests_for_models_without_pricing: bool,
    /// Dollars, of the whole gateway; 0: no limit.
    pub max_budget: f64,
    /// As written.
    pub budget_duration: Option<String>,
    pub budget_exceeded_status_code: Option<u16>,
    /// IANA name.
    pub timezone: Option<String>,
    /// `HH:MM`.
    pub budget_reset_time: Option<String>,
    /// Dollars.
    pub max_end_user_budget: Option<f64>,
    pub max_end_user_budget_id: Option<String>,
    /// Dollars.
    pub max_internal_user_budget: Option<f64>,
    /// As written.
    pub internal_user_budget_duration: Option<String>,
    pub tag_budget_config: BTreeMap<String, TagBudget>,
    /// LiteLLM's cache: its Redis has the counters when no other is named.
    pub cache_params: RedisSettings,
    /// Dollars.
    pub default_soft_budget: Option<f64>,
    /// Parameters of `/key/generate`, as LiteLLM writes them.
    pub default_key_generate_params: Map<String, Value>,
    pub upperbound_key_generate_params: Map<String, Value>,
    /// `team_key_generation` and `personal_key_generation`, as LiteLLM writes them.
    pub key_generation_settings: Map<String, Value>,
    /// Parameters of `/user/new`.
    pub default_internal_user_params: Map<String, Value>,
    /// Parameters of `/team/new`.
    pub default_team_params: Map<String, Value>,
    /// Regular expression; see [`super::alias_pattern`].
    pub key_alias_pattern: Option<String>,
    /// Changes of the admin API are recorded in any case.
    pub store_audit_logs: Option<bool>,
    /// Over `store_prompts_in_spend_logs`.
    pub turn_off_message_logging: bool,
}

/// `tag_budget_config.<tag>`: one name of each pair is set.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct TagBudget {
    /// Dollars.
    pub max_budget: Option<f64>,
    pub budget_limit: Option<f64>,
    /// As written.
    pub budget_duration: Option<String>,
    pub time_period: Option<String>,
}

/// Top-level `features`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Features {
    pub separate_health_app: bool,
    /// Leave out deployments whose last background probe failed.
    pub pre_call_health_checks: bool,
    pub budget_mode: BudgetMode,
    /// Workloads without keys.
    pub identities: Vec<IdentityRule>,
}

/// `features.budget_mode`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BudgetMode {
    #[default]
    Enforce,
    /// Counts what budgets would have refused.
    Audit,
}

impl GeneralSettings {
    /// Headers that name the end user, beside LiteLLM's own.
    pub fn end_user_headers(&self) -> impl Iterator<Item = &str> {
        let mapped = self.user_header_mappings.iter().filter(|map| map.litellm_user_role == "customer");
        mapped.map(|map| map.header_name.as_str()).chain(self.user_header_name.as_deref())
    }
}

impl Config {
    /// Where counters, reservations and cooldowns live: Redis if one is named, else this process.
    #[must_use]
    pub fn counters(&self) -> CounterBackend {
        let Some(servers) = self.redis.clone() else { return CounterBackend::Memory };
        let deadline = self.router_settings.redis_deadline_ms;
        let deadline = deadline.map_or(REDIS_DEADLINE, |ms| Duration::from_millis(ms.into()));
        let general = &self.general_settings;
        let fail_closed =
            general.fail_closed_rate_limit_enforcement || general.fail_closed_budget_enforcement;
        CounterBackend::Redis { servers, deadline, fail_closed }
    }

    /// How long prompts and answers are kept: as long as the rows that they belong to.
    #[must_use]
    pub fn prompts_kept(&self) -> Duration {
        match self.general_settings.maximum_spend_logs_retention_period {
            0 => Duration::MAX,
            seconds => Duration::from_secs(seconds),
        }
    }

    /// Are prompts and answers kept?
    #[must_use]
    pub fn stores_prompts(&self) -> bool {
        self.general_settings.store_prompts_in_spend_logs && !self.litellm_settings.turn_off_message_logging
    }

    /// Where rows of the ledger wait for the database, if not in the local spool.
    #[must_use]
    pub fn ledger_buffer(&self) -> Option<RedisServers> {
        self.redis.clone().filter(|_| self.general_settings.use_redis_transaction_buffer)
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

/// Seconds of the file as a duration; negative and non-finite values are config errors caught by the loader.
#[must_use]
pub fn seconds(value: f64) -> Duration {
    Duration::try_from_secs_f64(value).unwrap_or_default()
}
