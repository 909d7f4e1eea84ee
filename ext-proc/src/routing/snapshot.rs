use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use attache_llm::class::ErrorClass;
use attache_llm::contract::DeploymentMeta;
use attache_llm::price::{Adjust, Price};

use crate::credentials::Credential;
use crate::limits::Rules;
use crate::prices::{ModelPrice, PriceTable};

/// Configuration as the request path reads it: built once, never changed, swapped whole.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Rises with each snapshot; shown to clients and in stats.
    pub generation: u64,
    pub groups: HashMap<String, Arc<Group>>,
    pub deployments: HashMap<String, Arc<Deployment>>,
    /// Groups whose name is a pattern (`openai/*`), the most specific first. Also in `groups`.
    pub wildcards: Vec<Arc<Group>>,
    /// Group -> groups to fall back to, in order. `*` holds the default fallbacks.
    pub fallbacks: BTreeMap<String, Vec<String>>,
    /// As `fallbacks`, for prompts that are too long. `None`: not configured, so that `fallbacks` serves these too;
    /// configured without an entry for the group: the client sees the error.
    pub context_window_fallbacks: Option<BTreeMap<String, Vec<String>>>,
    /// The same for answers refused by the provider's content policy.
    pub content_policy_fallbacks: Option<BTreeMap<String, Vec<String>>>,
    /// Alias -> group.
    pub aliases: BTreeMap<String, String>,
    /// Aliases and groups that `/v1/models` does not list.
    pub hidden: Vec<String>,
    /// Retries in the group after the first attempt.
    pub num_retries: u32,
    pub retry_policy: RetryPolicy,
    /// Per group, over `retry_policy`.
    pub group_retry_policy: BTreeMap<String, RetryPolicy>,
    /// Shortest wait before the same deployment is asked again (`retry_after`).
    pub retry_after: Duration,
    pub max_fallbacks: u32,
    /// `None`: the default rules (docs/routing.md, "Cooldowns"); else failures tolerated within `cooldown`.
    pub breaker_allowed_fails: Option<u32>,
    pub allowed_fails_policy: BTreeMap<ErrorClass, u32>,
    pub cooldown: Duration,
    pub disable_cooldowns: bool,
    /// Whole request, and time to the first event of a stream, when the deployment says nothing.
    pub timeout: Duration,
    pub stream_timeout: Option<Duration>,
    /// Are rpm and tpm limits under `simple-shuffle` too, where they are weights otherwise
    /// (`optional_pre_call_checks: [enforce_model_rate_limits]`)?
    pub enforce_limits: bool,
    /// `enable_pre_call_checks`: leave out deployments that are too small for the prompt or in another region.
    pub pre_call_checks: bool,
    pub tags: TagRules,
    /// Provider (its name in the provider table) -> budget.
    pub provider_budgets: BTreeMap<String, Budget>,
    /// Limits and budgets of callers.
    pub limits: Arc<Rules>,
    /// Session affinity, if it is switched on.
    pub affinity: Option<Affinity>,
    /// Leave out deployments that failed their last background probe.
    pub pre_call_health_checks: bool,
    /// Group for moderations that name no model.
    pub moderation_model: Option<String>,
    /// Group for files, batches and stored responses that name no model.
    pub files_model: Option<String>,
    /// May requests of a busy key be decided ahead (`decision_leases`)?
    pub leases: bool,
    /// Deployments without a price serve nobody (`block_requests_for_models_without_pricing`).
    pub block_unpriced: bool,
    /// The price table, if a deployment's model is a pattern: what it costs depends on the name asked for.
    pub prices: Option<Arc<PriceTable>>,
}

impl Snapshot {
    /// What a deployment costs; cheap, the rates are shared. `model` is the provider's model name where the deployment's own is a pattern.
    #[must_use]
    pub fn price(&self, deployment: &Deployment, model: Option<&str>) -> Option<Price> {
        let listed = || self.row(deployment, model?)?.price.clone();
        deployment.meta.price.clone().or_else(|| Some(listed()?.adjusted(deployment.adjust)))
    }

    /// Longest prompt of a deployment, tokens; `model` as for [`Self::price`].
    #[must_use]
    pub fn max_input_tokens(&self, deployment: &Deployment, model: Option<&str>) -> Option<u64> {
        deployment.max_input_tokens.or_else(|| self.row(deployment, model?)?.max_input_tokens)
    }

    fn row(&self, deployment: &Deployment, model: &str) -> Option<&ModelPrice> {
        self.prices.as_ref()?.lookup_for(deployment.provider_name, model)
    }
}

/// A model group: the deployments behind one `model_name`.
#[derive(Debug, Default)]
pub struct Group {
    pub name: String,
    pub deployments: Vec<Arc<Deployment>>,
    pub strategy: Strategy,
}

/// How one of a group's deployments is chosen (`routing_strategy`, `routing_strategy_args`).
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Strategy {
    /// Weighted random: by `weight`, else `rpm`, else `tpm`, else evenly.
    #[default]
    SimpleShuffle,
    /// Lowest token use of the minute among those with room in tpm and rpm.
    UsageBased,
    /// Fewest requests in flight.
    LeastBusy,
    Latency(LatencyArgs),
    /// Lowest price of input and output together.
    Cost,
}

impl Strategy {
    /// LiteLLM's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::SimpleShuffle => "simple-shuffle",
            Self::UsageBased => "usage-based-routing-v2",
            Self::LeastBusy => "least-busy",
            Self::Latency(_) => "latency-based-routing",
            Self::Cost => "cost-based-routing",
        }
    }
}

/// `routing_strategy_args` of latency-based routing.
#[derive(Debug, Clone, PartialEq)]
pub struct LatencyArgs {
    /// How long samples count after the last one.
    pub ttl: Duration,
    /// Choose evenly among those within `lowest * (1 + buffer)`.
    pub buffer: f64,
    /// Samples kept per deployment (`max_latency_list_size`).
    pub samples: usize,
}

impl Default for LatencyArgs {
    fn default() -> Self {
        Self { ttl: Duration::from_secs(3_600), buffer: 0.0, samples: 10 }
    }
}

/// Retries per error class; a class that is not named has `default`, and without that the router's `num_retries`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RetryPolicy {
    pub classes: BTreeMap<ErrorClass, u32>,
    pub default: Option<u32>,
}

/// Money per window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Nano-dollars.
    pub limit: u64,
    /// Length of the window.
    pub period: Duration,
}

/// Tag routing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TagRules {
    /// `enable_tag_filtering`.
    pub enabled: bool,
    /// A deployment needs all tags of the request, not any (`tag_filtering_match_any: false`).
    pub match_all: bool,
}

/// What keeps requests on one deployment, so that the provider's prompt cache stays warm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Affinity {
    /// The session of the request (`session_affinity`, `prompt_caching`); without one none.
    Session,
    /// The session, or else the key and the end user (`deployment_affinity`).
    Caller,
}

/// One deployment, resolved: where it is, with which credential, at which price.
#[derive(Debug)]
pub struct Deployment {
    /// What the adapter needs; goes to Envoy in the cluster's metadata. `meta.id` is the deployment's id.
    pub meta: DeploymentMeta,
    /// Envoy cluster name, `{group}/{provider}/{id8}` with dots replaced, so that stats read well.
    pub cluster: String,
    /// Name in the provider table: what `provider_budget_config` speaks of.
    pub provider_name: &'static str,
    /// Discount and margin, for prices that are looked up (`meta.price` has them already).
    pub adjust: Adjust,
    /// Host and port to connect to.
    pub host: String,
    pub port: u16,
    pub tls: bool,
    /// What it is called with.
    pub credential: Option<Credential>,
    pub weight: Option<u64>,
    pub rpm: Option<u64>,
    pub tpm: Option<u64>,
    /// Requests in flight at most (`max_parallel_requests`).
    pub max_parallel: Option<u64>,
    /// Lower orders are tried first; none counts as the last.
    pub order: Option<u32>,
    pub tags: Vec<String>,
    pub access_groups: Vec<String>,
    /// Longest prompt, tokens.
    pub max_input_tokens: Option<u64>,
    pub region: Option<String>,
    pub budget: Option<Budget>,
    /// Over the group's and the router's, when the request says nothing.
    pub num_retries: Option<u32>,
    pub timeout: Option<Duration>,
    pub stream_timeout: Option<Duration>,
    pub allowed_fails: Option<u32>,
    pub allowed_fails_policy: BTreeMap<ErrorClass, u32>,
    pub cooldown: Option<Duration>,
    /// `chat`, `embedding`, ... from `model_info.mode` or the price table.
    pub mode: Option<String>,
    /// Group that gets a copy of every request sent here, its answers thrown away (`mirror`).
    pub mirror: Option<String>,
    /// Names of this deployment's counters, made once.
    pub counters: CounterNames,
}

impl Deployment {
    /// A deployment with no limits and no settings of its own, at `https://{authority}`.
    #[must_use]
    pub fn new(meta: DeploymentMeta) -> Self {
        Self {
            cluster: format!("{}/openai/{}", meta.group, meta.id),
            provider_name: "openai",
            adjust: Adjust::default(),
            host: meta.authority.clone(),
            port: 443,
            tls: true,
            credential: None,
            weight: None,
            rpm: None,
            tpm: None,
            max_parallel: None,
            order: None,
            tags: Vec::new(),
            access_groups: Vec::new(),
            max_input_tokens: None,
            region: None,
            budget: None,
            num_retries: None,
            timeout: None,
            stream_timeout: None,
            allowed_fails: None,
            allowed_fails_policy: BTreeMap::new(),
            cooldown: None,
            mode: None,
            mirror: None,
            counters: CounterNames::of(&meta.id),
            meta,
        }
    }
}

/// Bases of a deployment's counters ([`crate::store::Counter`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CounterNames {
    pub rpm: Arc<str>,
    pub tpm: Arc<str>,
    pub in_flight: Arc<str>,
    pub budget: Arc<str>,
}

impl CounterNames {
    /// The counters of a deployment with this id.
    #[must_use]
    pub fn of(deployment: &str) -> Self {
        let name = |what: &str| Arc::from(format!("dep:{deployment}:{what}"));
        Self { rpm: name("rpm"), tpm: name("tpm"), in_flight: name("in_flight"), budget: name("budget") }
    }
}
