use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use attache_llm::contract::DeploymentMeta;

use crate::config::Secret;

/// Configuration as the request path reads it: built once, never changed, swapped whole.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Rises with each snapshot; shown to clients and in stats.
    pub generation: u64,
    pub groups: HashMap<String, Arc<Group>>,
    pub deployments: HashMap<String, Arc<Deployment>>,
    /// Group -> groups to fall back to, in order. `*` holds the default fallbacks.
    pub fallbacks: BTreeMap<String, Vec<String>>,
    /// Alias -> group.
    pub aliases: BTreeMap<String, String>,
    pub num_retries: u32,
    pub max_fallbacks: u32,
    pub allowed_fails: u32,
    pub cooldown: Duration,
    pub disable_cooldowns: bool,
    /// Whole request, and time to the first event of a stream, when the deployment says nothing.
    pub timeout: Duration,
    pub stream_timeout: Option<Duration>,
}

/// A model group: the deployments behind one `model_name`.
#[derive(Debug)]
pub struct Group {
    pub name: String,
    pub deployments: Vec<Arc<Deployment>>,
}

/// One deployment, resolved: where it is, with which credential, at which price.
#[derive(Debug)]
pub struct Deployment {
    /// What the adapter needs; goes to Envoy in the cluster's metadata. `meta.id` is the deployment's id.
    pub meta: DeploymentMeta,
    /// Envoy cluster name, `{group}/{provider}/{id8}` with dots replaced, so that stats read well.
    pub cluster: String,
    /// Host and port to connect to.
    pub host: String,
    pub port: u16,
    pub tls: bool,
    /// Header that carries the credential (`authorization` or `api-key`) and its whole value.
    pub credential: Option<(String, Secret)>,
    pub weight: Option<u64>,
    pub rpm: Option<u64>,
    pub tpm: Option<u64>,
    pub timeout: Option<Duration>,
    pub stream_timeout: Option<Duration>,
    pub allowed_fails: Option<u32>,
    pub cooldown: Option<Duration>,
    /// `chat`, `embedding`, ... from `model_info.mode` or the price table.
    pub mode: Option<String>,
}
