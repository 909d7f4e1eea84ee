//! What a snapshot does, in words: the middle of `attache check`.

use std::collections::BTreeMap;
use std::fmt::{self, Formatter};
use std::time::Duration;

use attache_llm::class::ErrorClass;
use attache_llm::price::Item;
use attache_llm::wildcard;

use crate::prices::per_million;
use crate::routing::{Affinity, Budget, Deployment, Group, RetryPolicy, Snapshot, Strategy};

/// A group: strategy, deployments in the order of their tiers, retries, fallbacks.
pub(super) fn group(f: &mut Formatter<'_>, snapshot: &Snapshot, group: &Group) -> fmt::Result {
    writeln!(f, "  {}  {}", group.name, strategy(&group.strategy))?;
    let mut deployments: Vec<_> = group.deployments.iter().collect();
    // Stable: within a tier as in the file.
    deployments.sort_by_key(|deployment| deployment.order.unwrap_or(u32::MAX));
    for deployment in deployments {
        writeln!(f, "    {}", line(deployment))?;
        let settings = settings(deployment, snapshot);
        if !settings.is_empty() {
            writeln!(f, "      {}", settings.join(", "))?;
        }
    }
    if let Some(policy) = snapshot.group_retry_policy.get(&group.name) {
        writeln!(f, "    retries: {}", retries(policy))?;
    }
    for (what, lists) in lists(snapshot) {
        if let Some(targets) = lists.get(&group.name) {
            writeln!(f, "    {what} {}", targets.join(", "))?;
        }
    }
    Ok(())
}

/// The fallback lists with what each is for.
fn lists(snapshot: &Snapshot) -> impl Iterator<Item = (&'static str, &BTreeMap<String, Vec<String>>)> {
    let special = [
        ("prompt too long: then", snapshot.context_window_fallbacks.as_ref()),
        ("refused by content policy: then", snapshot.content_policy_fallbacks.as_ref()),
    ];
    let special = special.into_iter().filter_map(|(what, lists)| Some((what, lists?)));
    std::iter::once(("then", &snapshot.fallbacks)).chain(special)
}

/// Fallbacks of names that are no group: those that a pattern serves, and of every group.
pub(super) fn fallbacks(f: &mut Formatter<'_>, snapshot: &Snapshot) -> fmt::Result {
    for (what, lists) in lists(snapshot) {
        for (name, targets) in lists.iter().filter(|(name, _)| !snapshot.groups.contains_key(*name)) {
            let targets = targets.join(", ");
            match name.as_str() {
                "*" if what == "then" => writeln!(f, "  every group, at last: {targets}")?,
                "*" => writeln!(f, "  every group, {what} {targets}")?,
                name => writeln!(f, "  {name}, {what} {targets}")?,
            }
        }
    }
    Ok(())
}

/// What holds for every group.
pub(super) fn router(f: &mut Formatter<'_>, snapshot: &Snapshot) -> fmt::Result {
    for (provider, limit) in &snapshot.provider_budgets {
        writeln!(f, "budget of {provider}: {}", budget(*limit))?;
    }
    let checks = checks(snapshot);
    if !checks.is_empty() {
        writeln!(f, "before a call: {}", checks.join(", "))?;
    }
    if snapshot.retry_policy != RetryPolicy::default() {
        writeln!(f, "retries by class: {}", retries(&snapshot.retry_policy))?;
    }
    writeln!(
        f,
        "retries {}, fallbacks {}, timeout {:?}, cooldown {}",
        snapshot.num_retries,
        snapshot.max_fallbacks,
        snapshot.timeout,
        cooldown(snapshot)
    )
}

fn checks(snapshot: &Snapshot) -> Vec<&'static str> {
    let affinity = match snapshot.affinity {
        Some(Affinity::Session) => "a session stays on its deployment",
        Some(Affinity::Caller) => "a session, else a caller, stays on its deployment",
        None => "",
    };
    let tags = if snapshot.tags.match_all { "tags (all must match)" } else { "tags (one must match)" };
    let all = [
        (snapshot.enforce_limits, "rpm and tpm under every strategy"),
        (snapshot.pre_call_checks, "prompt length and region"),
        (snapshot.tags.enabled, tags),
        (snapshot.affinity.is_some(), affinity),
    ];
    all.into_iter().filter(|(on, _)| *on).map(|(_, text)| text).collect()
}

fn cooldown(snapshot: &Snapshot) -> String {
    if snapshot.disable_cooldowns {
        return "off".to_owned();
    }
    let length = snapshot.cooldown;
    let policy = &snapshot.allowed_fails_policy;
    let classes = if policy.is_empty() { String::new() } else { format!(" ({})", classes(policy)) };
    match snapshot.breaker_allowed_fails {
        Some(fails) => format!("{length:?} after more than {fails} failures{classes}"),
        None => format!("{length:?} by the default rules{classes}"),
    }
}

fn strategy(strategy: &Strategy) -> String {
    let name = strategy.name();
    match strategy {
        Strategy::Latency(args) => {
            format!("{name} (buffer {}, {} samples, kept {})", args.buffer, args.samples, period(args.ttl))
        }
        _ => name.to_owned(),
    }
}

fn retries(policy: &RetryPolicy) -> String {
    let mut parts = Vec::new();
    if !policy.classes.is_empty() {
        parts.push(classes(&policy.classes));
    }
    if let Some(default) = policy.default {
        parts.push(format!("others {default}"));
    }
    parts.join(", ")
}

fn classes(counts: &BTreeMap<ErrorClass, u32>) -> String {
    let parts: Vec<_> = counts.iter().map(|(class, count)| format!("{} {count}", class.name())).collect();
    parts.join(", ")
}

/// `$12.50 per 1d`.
fn budget(budget: Budget) -> String {
    // A nano-dollar here is a femto-dollar per token there: both have nine digits after the point.
    format!("${} per {}", per_million(budget.limit), period(budget.period))
}

/// As the file writes durations.
fn period(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if duration.subsec_nanos() > 0 || seconds == 0 {
        return format!("{duration:?}");
    }
    let units = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
    let fits = units.into_iter().find(|(length, _)| seconds.is_multiple_of(*length));
    fits.map_or_else(String::new, |(length, unit)| format!("{}{unit}", seconds / length))
}

/// One deployment: which, where, at which price.
fn line(deployment: &Deployment) -> String {
    let meta = &deployment.meta;
    let scheme = if deployment.tls { "https" } else { "http" };
    let price = match &meta.price {
        Some(price) => {
            let rate = |item| per_million(price.base(item).unwrap_or(0));
            format!("${} in, ${} out per million", rate(Item::Input), rate(Item::Output))
        }
        None if wildcard::is_pattern(&meta.model) => "priced by the name asked for".to_owned(),
        None => "price unknown".to_owned(),
    };
    let credential = if deployment.credential.is_none() { ", no credential" } else { "" };
    format!(
        "{}  {} at {scheme}://{}{}, {price}{credential}",
        meta.id, meta.model, meta.authority, meta.base_path
    )
}

/// What the file says of a deployment.
fn settings(deployment: &Deployment, snapshot: &Snapshot) -> Vec<String> {
    let numbers = [
        ("order", deployment.order.map(u64::from)),
        ("weight", deployment.weight),
        ("rpm", deployment.rpm),
        ("tpm", deployment.tpm),
        ("in flight at most", deployment.max_parallel),
        ("prompt at most", deployment.max_input_tokens.filter(|_| snapshot.pre_call_checks)),
        ("retries", deployment.num_retries.map(u64::from)),
        ("allowed fails", deployment.allowed_fails.map(u64::from)),
    ];
    let numbers = numbers.into_iter().filter_map(|(name, value)| Some(format!("{name} {}", value?)));
    let mut parts: Vec<_> = numbers.collect();
    if !deployment.allowed_fails_policy.is_empty() {
        parts.push(format!("allowed fails by class: {}", classes(&deployment.allowed_fails_policy)));
    }
    parts.extend(deployment.cooldown.map(|length| format!("cooldown {length:?}")));
    parts.extend(deployment.timeout.map(|limit| format!("timeout {limit:?}")));
    parts.extend(deployment.stream_timeout.map(|limit| format!("first event within {limit:?}")));
    parts.extend(deployment.budget.map(|limit| format!("budget {}", budget(limit))));
    parts.extend(deployment.region.as_ref().map(|region| format!("region {region}")));
    for (name, names) in [("tags", &deployment.tags), ("access groups", &deployment.access_groups)] {
        if !names.is_empty() {
            parts.push(format!("{name} {}", names.join(" ")));
        }
    }
    parts.extend(deployment.mirror.as_ref().map(|mirror| format!("mirrored to {mirror}")));
    parts
}
