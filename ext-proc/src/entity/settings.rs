use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What is settable of an entity beside its identity. Stored as one JSON document; names are LiteLLM's, money is
/// nano-dollars (`_nanos`), times are Unix milliseconds (`_ms`). What Attaché does not act on stays in `rest`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Model groups, wildcards or access groups; empty: all. Of a member: of the team's models.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<String>,
    /// Name asked for -> name used (`aliases` of keys, `model_aliases` of teams).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub aliases: BTreeMap<String, String>,
    /// Routes or groups of routes (`llm_api_routes`, `management_routes`, `info_routes`) that a key may call; empty: all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allowed_routes: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// The client's own data, returned as it came.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub metadata: Map<String, Value>,

    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_budget_nanos: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub soft_budget_nanos: Option<u64>,
    /// As written (`30d`, `1mo`, `12h`); none: the budget is for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget_duration: Option<String>,
    /// Added to `max_budget_nanos` until `temp_budget_expiry_ms`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temp_budget_increase_nanos: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temp_budget_expiry_ms: Option<u64>,
    /// Counts what the budget would have refused instead of refusing it (`budget_mode: audit`).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub budget_audit: bool,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub model_max_budget: BTreeMap<String, ModelBudget>,
    /// Model -> cheaper models to use instead when its budget, or one that it shares, is used up.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub budget_fallbacks: BTreeMap<String, Vec<String>>,
    /// Percent of a budget from which `budget_fallbacks` are used; none: 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget_fallback_percent: Option<u32>,

    #[serde(skip_serializing_if = "Option::is_none")]
    pub rpm_limit: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tpm_limit: Option<u64>,
    /// Prompt tokens per minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_tpm_limit: Option<u64>,
    /// Completion tokens per minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_tpm_limit: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rpd_limit: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tpd_limit: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_parallel_requests: Option<u64>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub model_rpm_limit: BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub model_tpm_limit: BTreeMap<String, u64>,

    /// Of a team: limits of every member that has none of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub team_member_budget_nanos: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub team_member_budget_duration: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub team_member_rpm_limit: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub team_member_tpm_limit: Option<u64>,

    /// Of a user: `proxy_admin`, `proxy_admin_viewer`, `internal_user`, `internal_user_viewer`, ...; of a member: `admin`
    /// or `user`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Of an end user: `eu` or `us`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_model_region: Option<String>,
    /// Of an end user: the model used whatever is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_model: Option<String>,

    /// See [`super::Entity::account`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// See [`super::EntityKind::RotatedKey`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub successor: Option<String>,

    /// Known to LiteLLM, without effect here.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// Budget of one model.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ModelBudget {
    pub limit_nanos: u64,
    /// As written; none: for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration: Option<String>,
}
