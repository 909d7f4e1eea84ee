//! What the routing keys of the file come to: names and their targets, strategies, policies, budgets.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use attache_llm::class::ErrorClass;
use attache_llm::provider;
use attache_llm::wildcard;

use super::choices::{self, ALLOWED_FAILS, RETRIES};
use super::limits::nanos;
use super::types::{Alias, Fallbacks, Policy, ProviderBudget, StrategyArgs};
use super::{Config, seconds};
use crate::routing::{Affinity, Budget, Deployment, Group, LatencyArgs, RetryPolicy, Strategy, TagRules};

/// The name behind a name, through any number of aliases. `None` for a loop.
pub(super) fn unalias<'a>(name: &'a str, aliases: &'a BTreeMap<String, Alias>) -> Option<&'a str> {
    let mut at = name;
    for _ in 0..=aliases.len() {
        match aliases.get(at) {
            Some(next) => at = &next.model,
            None => return Some(at),
        }
    }
    None
}

/// What is served: what a name can lead to.
pub(super) struct Served<'a> {
    aliases: &'a BTreeMap<String, Alias>,
    groups: &'a HashMap<String, Arc<Group>>,
    deployments: &'a HashMap<String, Arc<Deployment>>,
    patterns: Vec<&'a str>,
}

impl<'a> Served<'a> {
    pub(super) fn new(
        config: &'a Config,
        groups: &'a HashMap<String, Arc<Group>>,
        deployments: &'a HashMap<String, Arc<Deployment>>,
    ) -> Self {
        let patterns = groups.keys().map(String::as_str).filter(|name| wildcard::is_pattern(name)).collect();
        Self { aliases: &config.router_settings.model_group_alias, groups, deployments, patterns }
    }

    /// Does a group of this name exist, or a pattern that matches it?
    fn group(&self, name: &str) -> bool {
        self.groups.contains_key(name) || self.patterns.iter().any(|pattern| wildcard::matches(pattern, name))
    }

    /// Alias -> group (or a name that a pattern serves), chains followed to their end.
    pub(super) fn aliases(&self) -> BTreeMap<String, String> {
        let pairs =
            self.aliases.keys().filter_map(|alias| Some((alias.clone(), unalias(alias, self.aliases)?)));
        pairs.filter(|(_, name)| self.group(name)).map(|(alias, name)| (alias, name.to_owned())).collect()
    }

    /// A name, if something serves it.
    pub(super) fn named(&self, name: Option<&str>) -> Option<String> {
        let name = unalias(name?, self.aliases)?;
        (self.group(name) || self.deployments.contains_key(name)).then(|| name.to_owned())
    }

    /// Group -> groups. What the later lists say of a group replaces what the earlier ones say. Targets that nothing
    /// serves (providers not implemented yet) drop out; those that only a pattern serves stay as written.
    pub(super) fn fallbacks(
        &self,
        lists: [&Fallbacks; 2],
        defaults: &[String],
    ) -> BTreeMap<String, Vec<String>> {
        let mut out: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (group, targets) in lists.into_iter().flatten().flatten() {
            let Some(group) = unalias(group, self.aliases) else { continue };
            out.insert(group.to_owned(), targets.clone());
        }
        if !defaults.is_empty() {
            out.entry("*".to_owned()).or_default().extend(defaults.iter().cloned());
        }
        for (group, targets) in &mut out {
            let mut kept: Vec<String> = Vec::with_capacity(targets.len());
            for target in targets.iter().filter_map(|target| unalias(target, self.aliases)) {
                let served = self.group(target) || self.deployments.contains_key(target);
                if served && target != group && !kept.iter().any(|have| have == target) {
                    kept.push(target.to_owned());
                }
            }
            *targets = kept;
        }
        out.retain(|_, targets| !targets.is_empty());
        out
    }

    /// A list for one kind of error. LiteLLM takes an empty list for none.
    pub(super) fn special(&self, lists: [&Fallbacks; 2]) -> Option<BTreeMap<String, Vec<String>>> {
        lists.iter().any(|list| !list.is_empty()).then(|| self.fallbacks(lists, &[]))
    }

    pub(super) fn group_retry_policy(&self, config: &Config) -> BTreeMap<String, RetryPolicy> {
        let policies = &config.router_settings.model_group_retry_policy;
        let named = policies.iter().filter_map(|(name, policy)| Some((unalias(name, self.aliases)?, policy)));
        named.map(|(name, policy)| (name.to_owned(), retry_policy(policy))).collect()
    }
}

/// Groups whose name is a pattern, the most specific first.
pub(super) fn wildcards(groups: &HashMap<String, Arc<Group>>) -> Vec<Arc<Group>> {
    let mut out: Vec<_> =
        groups.values().filter(|group| wildcard::is_pattern(&group.name)).map(Arc::clone).collect();
    // By name at last, so that equal patterns have an order of their own.
    out.sort_by(|a, b| {
        let specificity = |group: &Group| wildcard::specificity(&group.name);
        specificity(b).cmp(&specificity(a)).then_with(|| a.name.cmp(&b.name))
    });
    out
}

/// The strategy of every group that has one of its own, and the router's.
pub(super) struct Strategies {
    own: BTreeMap<String, Strategy>,
    router: Strategy,
}

impl Strategies {
    pub(super) fn of(config: &Config) -> Self {
        let router = &config.router_settings;
        let mut own = BTreeMap::new();
        for entry in &router.routing_groups {
            let strategy = choices::strategy(&entry.routing_strategy, latency(entry.routing_strategy_args));
            let names = entry.models.iter().filter_map(|name| unalias(name, &router.model_group_alias));
            own.extend(names.map(|name| (name.to_owned(), strategy.clone())));
        }
        let name = router.routing_strategy.as_deref().unwrap_or_default();
        Self { own, router: choices::strategy(name, latency(router.routing_strategy_args)) }
    }

    pub(super) fn group(&self, name: &str) -> Strategy {
        self.own.get(name).unwrap_or(&self.router).clone()
    }
}

fn latency(args: StrategyArgs) -> LatencyArgs {
    let default = LatencyArgs::default();
    LatencyArgs {
        ttl: args.ttl.map_or(default.ttl, seconds),
        buffer: args.lowest_latency_buffer.unwrap_or(default.buffer),
        samples: args
            .max_latency_list_size
            .map_or(default.samples, |size| usize::try_from(size).unwrap_or(usize::MAX)),
    }
}

pub(super) fn retry_policy(policy: &Policy) -> RetryPolicy {
    RetryPolicy { classes: classes(policy, RETRIES), default: policy.get("DefaultRetries").copied() }
}

pub(super) fn allowed_fails(policy: &Policy) -> BTreeMap<ErrorClass, u32> {
    classes(policy, ALLOWED_FAILS)
}

fn classes(policy: &Policy, ending: &str) -> BTreeMap<ErrorClass, u32> {
    policy.iter().filter_map(|(key, count)| Some((choices::class_of(key, ending)?, *count))).collect()
}

/// Dollars per seconds; both or none ([`super::routes_rules`]).
pub(super) fn budget(dollars: Option<f64>, period: Option<u64>) -> Option<Budget> {
    let (dollars, period) = (dollars?, period?);
    Some(Budget { limit: nanos(dollars), period: Duration::from_secs(period) })
}

impl ProviderBudget {
    pub(super) fn budget(self) -> Option<Budget> {
        budget(self.budget_limit.or(self.max_budget), self.time_period.or(self.budget_duration))
    }
}

/// By the provider's name in the provider table.
pub(super) fn provider_budgets(config: &Config) -> BTreeMap<String, Budget> {
    let budgets = &config.router_settings.provider_budget_config;
    let named = budgets.iter().filter_map(|(name, budget)| {
        let row = provider::lookup(name)?;
        Some((row.name.to_owned(), budget.budget()?))
    });
    named.collect()
}

pub(super) fn tags(config: &Config) -> TagRules {
    let router = &config.router_settings;
    TagRules {
        enabled: router.enable_tag_filtering,
        match_all: !router.tag_filtering_match_any.unwrap_or(true),
    }
}

pub(super) fn affinity(config: &Config) -> Option<Affinity> {
    if has_check(config, choices::DEPLOYMENT_AFFINITY) {
        return Some(Affinity::Caller);
    }
    let session = [choices::SESSION_AFFINITY, choices::PROMPT_CACHING];
    session.into_iter().any(|name| has_check(config, name)).then_some(Affinity::Session)
}

pub(super) fn has_check(config: &Config, name: &str) -> bool {
    config.router_settings.optional_pre_call_checks.iter().any(|check| check == name)
}
