//! From the file to what the request path reads.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use attache_llm::wildcard;

use super::issue::{Findings, Issue};
use super::routes::{self, Served, Strategies, unalias};
use super::{Config, ConfigErrors, Env, choices, limits, resolve, seconds};
use crate::prices::PriceTable;
use crate::routing::{Deployment, Group, Snapshot};

/// OpenAI's SDKs retry twice, and so does LiteLLM's router.
const NUM_RETRIES: u32 = 2;
const MAX_FALLBACKS: u32 = 5;
const COOLDOWN: Duration = Duration::from_secs(5);
/// LiteLLM's 6000 s are none at all; the OpenAI SDKs give up after 600 s.
const TIMEOUT: Duration = Duration::from_secs(600);

/// Builds the snapshot of a configuration.
///
/// # Errors
/// A deployment that cannot be resolved. [`super::load`] has found these already, with their lines.
pub fn snapshot(
    config: &Config,
    prices: &PriceTable,
    generation: u64,
    env: &Env,
) -> Result<Snapshot, ConfigErrors> {
    let env = super::load::overlay(config, env);
    let mut findings = Findings::default();
    let deployments = resolve::deployments(config, &env, prices, &mut findings);
    if !findings.errors.is_empty() {
        let issue = |(place, message): (super::issue::Place, String)| Issue {
            file: None,
            line: None,
            path: place.to_string(),
            message,
        };
        return Err(ConfigErrors(findings.errors.into_iter().map(issue).collect()));
    }
    let patterns = deployments.iter().any(|d| wildcard::is_pattern(&d.meta.model));
    let prices = patterns.then(|| Arc::new(prices.clone()));
    Ok(Snapshot { prices, ..assemble(config, deployments, generation) })
}

fn assemble(config: &Config, deployments: Vec<Deployment>, generation: u64) -> Snapshot {
    let (router, litellm) = (&config.router_settings, &config.litellm_settings);
    let mut by_id = HashMap::with_capacity(deployments.len());
    let mut by_group: HashMap<String, Vec<Arc<Deployment>>> = HashMap::new();
    for mut deployment in deployments {
        let mirror = deployment.mirror.take();
        deployment.mirror =
            mirror.and_then(|name| Some(unalias(&name, &router.model_group_alias)?.to_owned()));
        let deployment = Arc::new(deployment);
        by_group.entry(deployment.meta.group.clone()).or_default().push(Arc::clone(&deployment));
        by_id.insert(deployment.meta.id.clone(), deployment);
    }
    let strategies = Strategies::of(config);
    let group = |(name, deployments): (String, Vec<Arc<Deployment>>)| {
        let strategy = strategies.group(&name);
        (name.clone(), Arc::new(Group { name, deployments, strategy }))
    };
    let groups: HashMap<_, _> = by_group.into_iter().map(group).collect();
    let served = Served::new(config, &groups, &by_id);
    let defaults = [&router.default_fallbacks, &litellm.default_fallbacks];
    let defaults = defaults.into_iter().find(|list| !list.is_empty()).map_or(&[][..], Vec::as_slice);
    let context = [&litellm.context_window_fallbacks, &router.context_window_fallbacks];
    let policy = [&litellm.content_policy_fallbacks, &router.content_policy_fallbacks];
    let hidden = router.model_group_alias.iter().filter(|(_, alias)| alias.hidden);
    let allowed_fails = router.allowed_fails.or(litellm.allowed_fails);
    let cooldown = router.cooldown_time.map_or(COOLDOWN, seconds);
    Snapshot {
        generation,
        wildcards: routes::wildcards(&groups),
        fallbacks: served.fallbacks([&litellm.fallbacks, &router.fallbacks], defaults),
        context_window_fallbacks: served.special(context),
        content_policy_fallbacks: served.special(policy),
        aliases: served.aliases(),
        moderation_model: served.named(config.general_settings.moderation_model.as_deref()),
        files_model: served.named(config.general_settings.files_model.as_deref()),
        hidden: hidden.map(|(name, _)| name.clone()).collect(),
        num_retries: router.num_retries.or(litellm.num_retries).unwrap_or(NUM_RETRIES),
        retry_policy: routes::retry_policy(&router.retry_policy),
        group_retry_policy: served.group_retry_policy(config),
        retry_after: seconds(router.retry_after),
        max_fallbacks: router.max_fallbacks.unwrap_or(MAX_FALLBACKS),
        breaker_allowed_fails: allowed_fails,
        allowed_fails_policy: routes::allowed_fails(&router.allowed_fails_policy),
        cooldown,
        disable_cooldowns: router.disable_cooldowns || cooldown.is_zero(),
        timeout: router.timeout.or(litellm.request_timeout).map_or(TIMEOUT, seconds),
        stream_timeout: router.stream_timeout.map(seconds),
        enforce_limits: routes::has_check(config, choices::ENFORCE_LIMITS),
        pre_call_checks: router.enable_pre_call_checks,
        tags: routes::tags(config),
        provider_budgets: routes::provider_budgets(config),
        limits: Arc::new(limits::rules(config)),
        affinity: routes::affinity(config),
        pre_call_health_checks: config.features.pre_call_health_checks,
        groups,
        deployments: by_id,
        leases: config.general_settings.decision_leases,
        block_unpriced: litellm.block_requests_for_models_without_pricing,
        prices: None,
    }
}
