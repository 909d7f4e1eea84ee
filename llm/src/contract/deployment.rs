use serde::{Deserialize, Serialize};

use crate::dialect::support::{Capabilities, ParamRules};
use crate::price::Price;
use crate::provider::Provider;

/// One deployment as the adapter sees it: the JSON string in its cluster's metadata ([`super::DEPLOYMENT_KEY`]).
///
/// The credential is not here: Envoy injects it from SDS after the adapter.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DeploymentMeta {
    pub contract: u32,
    /// Deployment id: `model_info.id`, or the hash of group and parameters. Shown as `x-litellm-model-id`.
    pub id: String,
    /// Model group (`model_name`) it belongs to.
    pub group: String,
    pub provider: Provider,
    /// Model name as the provider knows it (for Azure: the deployment name).
    pub model: String,
    /// `:authority` of the upstream, with a port only if not the scheme's own.
    pub authority: String,
    /// Path prefix without a trailing slash, e.g. `/v1`; the adapter appends the endpoint.
    pub base_path: String,
    /// Azure's `api-version` query parameter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_version: Option<String>,
    /// Does the upstream understand `stream_options.include_usage`? Then usage of streams is asked for even when
    /// the client did not.
    #[serde(default = "yes")]
    pub stream_options: bool,
    /// Has OpenAI's responses endpoint of its own: requests to it pass untranslated.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub responses: bool,
    #[serde(default, skip_serializing_if = "ParamRules::is_default")]
    pub params: ParamRules,
    #[serde(default, skip_serializing_if = "Capabilities::is_default")]
    pub caps: Capabilities,
    /// Headers to set on every request (`extra_headers`, `organization`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    /// Price for the spend statistics; `None` when unknown (the ledger then has null). Its name is not `price`, which
    /// held four numbers once: an older filter must still read the rest.
    #[serde(default, rename = "rates", skip_serializing_if = "Option::is_none")]
    pub price: Option<Price>,
}

fn yes() -> bool {
    true
}
