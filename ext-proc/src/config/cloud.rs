//! Parameters of providers with regions, projects and accounts.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Secret;

/// Where a provider's resource is, and whose account calls it. Part of `litellm_params`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CloudParams {
    /// `OpenAI-Project`.
    pub project: Option<String>,
    // Azure.
    pub azure_ad_token: Option<Secret>,
    pub tenant_id: Option<String>,
    pub client_id: Option<String>,
    pub client_secret: Option<Secret>,
    pub azure_scope: Option<String>,
    // Google.
    #[serde(alias = "vertex_ai_project")]
    pub vertex_project: Option<String>,
    #[serde(alias = "vertex_ai_location")]
    pub vertex_location: Option<String>,
    /// A path, JSON as text, or the JSON itself as a map.
    #[serde(alias = "vertex_ai_credentials")]
    pub vertex_credentials: Option<SecretValue>,
    // AWS.
    pub aws_region_name: Option<String>,
    pub aws_access_key_id: Option<Secret>,
    pub aws_secret_access_key: Option<Secret>,
    pub aws_session_token: Option<Secret>,
    pub aws_profile_name: Option<String>,
    pub aws_role_name: Option<String>,
    pub aws_session_name: Option<String>,
    pub aws_external_id: Option<String>,
    /// A token, or the path of a file with one.
    pub aws_web_identity_token: Option<Secret>,
    pub aws_sts_endpoint: Option<String>,
    pub aws_bedrock_runtime_endpoint: Option<String>,
}

/// Text or a map that is never shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretValue(Value);

impl SecretValue {
    /// Text as it is; a map as JSON.
    pub(super) fn text(&self) -> String {
        self.0.as_str().map_or_else(|| self.0.to_string(), str::to_owned)
    }
}

impl std::fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}
