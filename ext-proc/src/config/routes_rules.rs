//! Rules of the routing keys: names must lead somewhere, and values must agree with each other.

use std::collections::{BTreeMap, BTreeSet};

use attache_llm::{provider, wildcard};

use super::choices::LATENCY;
use super::issue::{Findings, Place, did_you_mean};
use super::providers::NOT_YET;
use super::routes::unalias;
use super::types::{Alias, ProviderBudget, Requirement, StrategyArgs};
use super::{Config, ModelEntry};
use crate::routing::Deployment;
use crate::store::CounterBackend;

/// `deployments` are those that could be resolved; the others still have their names in the file.
pub(super) fn check(config: &Config, deployments: &[Deployment], findings: &mut Findings) {
    let names = Names::of(config, deployments);
    aliases(config, &names, findings);
    fallbacks(config, &names, findings);
    defaults(config, &names, findings);
    mirrors(config, &names, findings);
    routing_groups(config, &names, findings);
    for name in config.router_settings.model_group_retry_policy.keys() {
        let place = Place::at("router_settings.model_group_retry_policy").key(name);
        names.must_be_group(name, &place, findings);
    }
    strategy_args(config, findings);
    budgets(config, findings);
    health(config, findings);
}

/// Names that the file gives.
struct Names<'a> {
    groups: BTreeSet<&'a str>,
    aliases: &'a BTreeMap<String, Alias>,
    ids: BTreeSet<&'a str>,
    /// The database may have more, or lose some: a name that nobody has is no reason to refuse the file.
    stored: bool,
}

impl<'a> Names<'a> {
    fn of(config: &'a Config, deployments: &'a [Deployment]) -> Self {
        let written = config.model_list.iter().filter_map(|entry| entry.model_info.id.as_deref());
        Self {
            groups: config.model_list.iter().map(|entry| entry.model_name.as_str()).collect(),
            aliases: &config.router_settings.model_group_alias,
            ids: written.chain(deployments.iter().map(|d| d.meta.id.as_str())).collect(),
            stored: config.general_settings.store_model_in_db,
        }
    }

    /// A group, or a name that a pattern serves.
    fn serves(&self, name: &str) -> bool {
        self.groups.contains(name)
            || self.groups.iter().any(|group| wildcard::is_pattern(group) && wildcard::matches(group, name))
    }

    /// Groups and aliases, for suggestions.
    fn known(&self) -> impl Iterator<Item = &'a str> {
        self.groups.iter().copied().chain(self.aliases.keys().map(String::as_str))
    }

    fn must_serve(&self, name: &str, place: &Place, findings: &mut Findings) {
        if !self.aliases.contains_key(name) && !self.serves(name) {
            self.no_group(name, place, findings);
        }
    }

    /// A group by its own name or an alias: a name that a pattern serves has no settings of its own.
    fn must_be_group(&self, name: &str, place: &Place, findings: &mut Findings) {
        // Aliases that lead nowhere are reported as such.
        if !self.aliases.contains_key(name) && !self.groups.contains(name) {
            self.no_group(name, place, findings);
        }
    }

    fn no_group(&self, name: &str, place: &Place, findings: &mut Findings) {
        let near = did_you_mean(name, self.known());
        if self.stored {
            findings.warn(place, format!("no model group `{name}` so far; the database may have it{near}"));
        } else {
            findings.error(place, format!("there is no model group `{name}`{near}"));
        }
    }
}

fn aliases(config: &Config, names: &Names<'_>, findings: &mut Findings) {
    let aliases = &config.router_settings.model_group_alias;
    for alias in aliases.keys() {
        let place = Place::at("router_settings.model_group_alias").key(alias);
        match unalias(alias, aliases) {
            None => findings.error(&place, "the aliases form a loop"),
            Some(group) if !names.serves(group) => {
                names.no_group(group, &place, findings);
            }
            Some(group) if names.groups.contains(alias.as_str()) => findings
                .warn(&place, format!("hides the model group of the same name: requests go to `{group}`")),
            Some(_) => {}
        }
    }
}

fn fallbacks(config: &Config, names: &Names<'_>, findings: &mut Findings) {
    let (router, litellm) = (&config.router_settings, &config.litellm_settings);
    let lists = [
        ("router_settings.fallbacks", &router.fallbacks),
        ("router_settings.context_window_fallbacks", &router.context_window_fallbacks),
        ("router_settings.content_policy_fallbacks", &router.content_policy_fallbacks),
        ("litellm_settings.fallbacks", &litellm.fallbacks),
        ("litellm_settings.context_window_fallbacks", &litellm.context_window_fallbacks),
        ("litellm_settings.content_policy_fallbacks", &litellm.content_policy_fallbacks),
    ];
    let target = |name: &String, place: &Place, findings: &mut Findings| {
        if !names.ids.contains(name.as_str()) {
            names.must_serve(name, place, findings);
        }
    };
    for (path, entries) in lists {
        for (at, entry) in entries.iter().enumerate() {
            let place = Place::at(path).index(at);
            for (group, targets) in entry {
                if group != "*" {
                    names.must_serve(group, &place.key(group), findings);
                }
                for (at, name) in targets.iter().enumerate() {
                    target(name, &place.key(group).index(at), findings);
                }
            }
        }
    }
    for (path, targets) in [
        ("router_settings.default_fallbacks", &router.default_fallbacks),
        ("litellm_settings.default_fallbacks", &litellm.default_fallbacks),
    ] {
        for (at, name) in targets.iter().enumerate() {
            target(name, &Place::at(path).index(at), findings);
        }
    }
}

fn defaults(config: &Config, names: &Names<'_>, findings: &mut Findings) {
    let general = &config.general_settings;
    for (key, name) in
        [("moderation_model", &general.moderation_model), ("files_model", &general.files_model)]
    {
        if let Some(name) = name {
            names.must_serve(name, &Place::at("general_settings").key(key), findings);
        }
    }
}

fn mirrors(config: &Config, names: &Names<'_>, findings: &mut Findings) {
    for (at, entry) in config.model_list.iter().enumerate() {
        let Some(mirror) = entry.litellm_params.mirror.as_deref() else { continue };
        let place = Place::at("model_list").index(at).key("litellm_params").key("mirror");
        if unalias(mirror, names.aliases) == Some(entry.model_name.as_str()) {
            findings.error(&place, "a group cannot be its own mirror");
        } else {
            names.must_serve(mirror, &place, findings);
        }
    }
}

fn routing_groups(config: &Config, names: &Names<'_>, findings: &mut Findings) {
    let mut seen_names = BTreeSet::new();
    let mut seen_models = BTreeMap::new();
    for (at, entry) in config.router_settings.routing_groups.iter().enumerate() {
        let place = Place::at("router_settings.routing_groups").index(at);
        if entry.group_name == "default" {
            findings.error(&place.key("group_name"), "the name is reserved");
        } else if !seen_names.insert(entry.group_name.as_str()) {
            findings.error(&place.key("group_name"), "another entry has the same name");
        }
        if entry.models.is_empty() {
            findings.warn(&place.key("models"), "names no model group");
        }
        for (at, model) in entry.models.iter().enumerate() {
            let here = place.key("models").index(at);
            names.must_be_group(model, &here, findings);
            let Some(model) = unalias(model, names.aliases) else { continue };
            if let Some(first) = seen_models.insert(model, here.clone()) {
                findings.error(&here, format!("`{model}` has a strategy already, by {first}"));
            }
        }
        unused_args(&entry.routing_strategy, &entry.routing_strategy_args, &place, findings);
    }
}

fn strategy_args(config: &Config, findings: &mut Findings) {
    let router = &config.router_settings;
    let place = Place::at("router_settings");
    let strategy = router.routing_strategy.as_deref().unwrap_or("simple-shuffle");
    unused_args(strategy, &router.routing_strategy_args, &place, findings);
}

fn unused_args(strategy: &str, args: &StrategyArgs, place: &Place, findings: &mut Findings) {
    if strategy != LATENCY && *args != StrategyArgs::default() {
        findings.warn(&place.key("routing_strategy_args"), format!("`{strategy}` takes no arguments"));
    }
}

fn budgets(config: &Config, findings: &mut Findings) {
    for (at, entry) in config.model_list.iter().enumerate() {
        deployment_budget(entry, &Place::at("model_list").index(at).key("litellm_params"), findings);
    }
    for (name, budget) in &config.router_settings.provider_budget_config {
        let place = Place::at("router_settings.provider_budget_config").key(name);
        if provider::lookup(name).is_none() {
            if NOT_YET.contains(&name.as_str()) {
                findings.warn(&place, format!("provider `{name}` is not implemented yet"));
            } else {
                let near = did_you_mean(name, provider::PROVIDERS.iter().map(|row| row.name));
                findings.error(&place, format!("no provider is called `{name}`{near}"));
            }
        }
        provider_budget(*budget, &place, findings);
    }
}

fn deployment_budget(entry: &ModelEntry, place: &Place, findings: &mut Findings) {
    let params = &entry.litellm_params;
    match (params.max_budget, params.budget_duration) {
        (Some(_), None) => findings.error(&place.key("max_budget"), "needs `budget_duration` beside it"),
        (None, Some(_)) => findings.warn(&place.key("budget_duration"), "no effect without `max_budget`"),
        _ => {}
    }
}

fn provider_budget(budget: ProviderBudget, place: &Place, findings: &mut Findings) {
    match (budget.budget_limit, budget.max_budget) {
        (None, None) => findings.error(place, "`budget_limit` is missing"),
        (Some(_), Some(_)) => findings.error(place, "`budget_limit` and `max_budget` are the same: give one"),
        _ => {}
    }
    match (budget.time_period, budget.budget_duration) {
        (None, None) => findings.error(place, "`time_period` is missing"),
        (Some(_), Some(_)) => {
            findings.error(place, "`time_period` and `budget_duration` are the same: give one");
        }
        _ => {}
    }
}

fn health(config: &Config, findings: &mut Findings) {
    let general = &config.general_settings;
    if general.health_check_interval < 1.0 {
        let message = "at least 1 second: every round asks every deployment";
        findings.error(&Place::at("general_settings.health_check_interval"), message);
    }
    if config.features.pre_call_health_checks && !general.background_health_checks {
        findings.warn(
            &Place::at("features.pre_call_health_checks"),
            "no deployment is ever probed without `general_settings.background_health_checks`",
        );
    }
    let wants_redis = general.readiness_requires.contains(&Requirement::Redis);
    if wants_redis && matches!(config.counters(), CounterBackend::Memory) {
        findings.error(
            &Place::at("general_settings.readiness_requires"),
            "`redis` is required, and `router_settings` names no Redis",
        );
    }
}
