//! What a deployment says: `litellm_params` and `model_info`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{CloudParams, Policy, Secret};

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
    /// Over `litellm_settings`.
    pub drop_params: Option<bool>,
    pub additional_drop_params: Vec<String>,
    pub allowed_openai_params: Vec<String>,
    /// Over `litellm_settings`.
    pub modify_params: Option<bool>,
    pub extra_body: Map<String, Value>,
    #[serde(flatten)]
    pub cloud: CloudParams,
    /// What else there is: prices by LiteLLM's names, over the price table.
    #[serde(flatten)]
    pub prices: BTreeMap<String, Value>,
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
    /// What else there is: prices by LiteLLM's names, of which those of `litellm_params` win, and `supports_*`.
    #[serde(flatten)]
    pub prices: BTreeMap<String, Value>,
}
