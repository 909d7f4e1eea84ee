//! From the file to what the request path reads.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::issue::{Findings, Issue};
use super::rules::unalias;
use super::{Config, ConfigErrors, Env, resolve, seconds};
use crate::prices::PriceTable;
use crate::routing::{Deployment, Group, Snapshot};

/// OpenAI's SDKs retry twice, and so does LiteLLM's router.
const NUM_RETRIES: u32 = 2;
const MAX_FALLBACKS: u32 = 5;
const ALLOWED_FAILS: u32 = 3;
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
    Ok(assemble(config, deployments, generation))
}

fn assemble(config: &Config, deployments: Vec<Deployment>, generation: u64) -> Snapshot {
    let (router, litellm) = (&config.router_settings, &config.litellm_settings);
    let mut by_id = HashMap::with_capacity(deployments.len());
    let mut by_group: HashMap<String, Vec<Arc<Deployment>>> = HashMap::new();
    for deployment in deployments.into_iter().map(Arc::new) {
        by_group.entry(deployment.meta.group.clone()).or_default().push(Arc::clone(&deployment));
        by_id.insert(deployment.meta.id.clone(), deployment);
    }
    let groups: HashMap<_, _> = by_group
        .into_iter()
        .map(|(name, deployments)| (name.clone(), Arc::new(Group { name, deployments, ..Group::default() })))
        .collect();
    let cooldown = router.cooldown_time.map_or(COOLDOWN, seconds);
    Snapshot {
        generation,
        fallbacks: fallbacks(config, &groups),
        aliases: aliases(config, &groups),
        groups,
        deployments: by_id,
        num_retries: router.num_retries.or(litellm.num_retries).unwrap_or(NUM_RETRIES),
        max_fallbacks: router.max_fallbacks.unwrap_or(MAX_FALLBACKS),
        allowed_fails: router.allowed_fails.or(litellm.allowed_fails).unwrap_or(ALLOWED_FAILS),
        cooldown,
        disable_cooldowns: router.disable_cooldowns || cooldown.is_zero(),
        timeout: router.timeout.or(litellm.request_timeout).map_or(TIMEOUT, seconds),
        stream_timeout: router.stream_timeout.map(seconds),
        ..Snapshot::default()
    }
}

/// Alias -> group, chains followed to their end.
fn aliases(config: &Config, groups: &HashMap<String, Arc<Group>>) -> BTreeMap<String, String> {
    let aliases = &config.router_settings.model_group_alias;
    aliases
        .keys()
        .filter_map(|alias| Some((alias.clone(), unalias(alias, aliases)?.to_owned())))
        .filter(|(_, group)| groups.contains_key(group))
        .collect()
}

/// Group -> groups. What the router says of a group replaces what `litellm_settings` says of it. Targets that
/// are left without deployments (providers not implemented yet) drop out.
fn fallbacks(config: &Config, groups: &HashMap<String, Arc<Group>>) -> BTreeMap<String, Vec<String>> {
    let (router, litellm) = (&config.router_settings, &config.litellm_settings);
    let aliases = &router.model_group_alias;
    let mut out: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for entries in [&litellm.fallbacks, &router.fallbacks] {
        for (group, targets) in entries.iter().flatten() {
            let Some(group) = unalias(group, aliases) else { continue };
            out.insert(group.to_owned(), targets.clone());
        }
    }
    let defaults = if router.default_fallbacks.is_empty() {
        &litellm.default_fallbacks
    } else {
        &router.default_fallbacks
    };
    if !defaults.is_empty() {
        out.entry("*".to_owned()).or_default().extend(defaults.iter().cloned());
    }
    for (group, targets) in &mut out {
        let mut kept: Vec<String> = Vec::with_capacity(targets.len());
        for target in targets.iter().filter_map(|target| unalias(target, aliases)) {
            if target != group && groups.contains_key(target) && !kept.iter().any(|have| have == target) {
                kept.push(target.to_owned());
            }
        }
        *targets = kept;
    }
    out.retain(|_, targets| !targets.is_empty());
    out
}
