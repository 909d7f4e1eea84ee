//! Limits and budgets of the whole gateway, from the file to [`Rules`], and what must agree in them.

use std::collections::BTreeMap;

use regex::Regex;

use super::issue::{Findings, Place};
use super::types::{BudgetMode, LitellmSettings, TagBudget, TokenRateLimitType};
use super::{Config, walk};
use crate::entity::ModelBudget;
use crate::limits::{Rules, TokenKind, time_zone};

const NANOS_PER_DOLLAR: f64 = 1e9;
/// Longest tag, as the gate takes them from requests.
const MAX_TAG: usize = attache_llm::wishes::MAX_TEXT;

/// Dollars of the file as nano-dollars.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "dollars are between 0 and a billion: below 2^63 nano-dollars"
)]
pub(super) fn nanos(dollars: f64) -> u64 {
    (dollars * NANOS_PER_DOLLAR).round() as u64
}

/// What of the file concerns limits and budgets of callers.
pub(super) fn rules(config: &Config) -> Rules {
    let (general, litellm) = (&config.general_settings, &config.litellm_settings);
    let default = Rules::default();
    let budget = |dollars: Option<f64>, duration: &Option<String>| {
        Some(ModelBudget { limit_nanos: nanos(dollars?), duration: duration.clone() })
    };
    Rules {
        timezone: litellm.timezone.clone().unwrap_or(default.timezone),
        reset_minute: litellm.budget_reset_time.as_deref().and_then(walk::minute_of_day).unwrap_or(0),
        budget_status: litellm.budget_exceeded_status_code.unwrap_or(default.budget_status),
        tokens: match general.token_rate_limit_type {
            TokenRateLimitType::Total => TokenKind::Total,
            TokenRateLimitType::Input => TokenKind::Input,
            TokenRateLimitType::Output => TokenKind::Output,
        },
        key_parallel: general.max_parallel_requests,
        parallel: general.global_max_parallel_requests,
        fail_closed_limits: general.fail_closed_rate_limit_enforcement,
        fail_closed_budgets: general.fail_closed_budget_enforcement,
        no_budget_reservation: general.disable_budget_reservation,
        user_budget_for_team_keys: general.apply_user_budget_to_team_keys,
        budget_audit: config.features.budget_mode == BudgetMode::Audit,
        budget: budget(Some(litellm.max_budget).filter(|dollars| *dollars > 0.0), &litellm.budget_duration),
        end_user_budget_nanos: litellm.max_end_user_budget.map(nanos),
        end_user_budget_id: litellm.max_end_user_budget_id.clone(),
        user_budget: budget(litellm.max_internal_user_budget, &litellm.internal_user_budget_duration),
        tag_budgets: tag_budgets(&litellm.tag_budget_config),
        require_user: general.enforce_user_param,
    }
}

fn tag_budgets(config: &BTreeMap<String, TagBudget>) -> BTreeMap<String, ModelBudget> {
    let budget = |(tag, budget): (&String, &TagBudget)| {
        let limit_nanos = nanos(budget.max_budget.or(budget.budget_limit)?);
        let duration = budget.budget_duration.clone().or_else(|| budget.time_period.clone());
        Some((tag.clone(), ModelBudget { limit_nanos, duration }))
    };
    config.iter().filter_map(budget).collect()
}

/// `key_alias_pattern`, for the whole of an alias. `None` when there is none.
#[must_use]
pub fn alias_pattern(settings: &LitellmSettings) -> Option<Regex> {
    let pattern = settings.key_alias_pattern.as_deref()?;
    // The loader has refused a pattern that does not compile.
    Regex::new(&format!("^(?:{pattern})$")).ok()
}

pub(super) fn check(config: &Config, findings: &mut Findings) {
    let litellm = &config.litellm_settings;
    let place = Place::at("litellm_settings");
    for (duration, set, budget, has) in [
        ("budget_duration", litellm.budget_duration.is_some(), "max_budget", litellm.max_budget > 0.0),
        (
            "internal_user_budget_duration",
            litellm.internal_user_budget_duration.is_some(),
            "max_internal_user_budget",
            litellm.max_internal_user_budget.is_some(),
        ),
    ] {
        if set && !has {
            findings.warn(&place.key(duration), format!("no effect without `{budget}`"));
        }
    }
    if litellm.max_end_user_budget.is_some() && litellm.max_end_user_budget_id.is_some() {
        findings.warn(&place.key("max_end_user_budget"), "`max_end_user_budget_id` is set too, and wins");
    }
    for (tag, budget) in &litellm.tag_budget_config {
        tag_budget(tag, budget, &place.key("tag_budget_config").key(tag), findings);
    }
    if litellm.key_alias_pattern.is_some() && alias_pattern(litellm).is_none() {
        findings.error(&place.key("key_alias_pattern"), "not a regular expression that can be read");
    }
    if let Some(Err(message)) = litellm.timezone.as_deref().map(time_zone) {
        findings.error(&place.key("timezone"), message);
    }
    if litellm.store_audit_logs == Some(false) {
        findings.warn(&place.key("store_audit_logs"), "changes of the admin API are recorded all the same");
    }
    general(config, findings);
}

fn tag_budget(tag: &str, budget: &TagBudget, place: &Place, findings: &mut Findings) {
    if tag.is_empty() || tag.len() > MAX_TAG {
        findings.error(place, format!("a tag has 1 to {MAX_TAG} bytes"));
    }
    match (budget.max_budget, budget.budget_limit) {
        (None, None) => findings.error(place, "`max_budget` is missing"),
        (Some(_), Some(_)) => findings.error(place, "`max_budget` and `budget_limit` are the same: give one"),
        _ => {}
    }
    if budget.budget_duration.is_some() && budget.time_period.is_some() {
        findings.error(place, "`budget_duration` and `time_period` are the same: give one");
    }
}

fn general(config: &Config, findings: &mut Findings) {
    let general = &config.general_settings;
    let place = Place::at("general_settings");
    if general.store_audit_logs == Some(false) {
        findings.warn(&place.key("store_audit_logs"), "changes of the admin API are recorded all the same");
    }
    if general.allow_requests_on_db_unavailable {
        findings.warn(
            &place.key("allow_requests_on_db_unavailable"),
            "no effect: known keys go on without the database, and unknown ones never pass",
        );
    }
    let place_of = |at: usize| place.key("user_header_mappings").index(at).key("header_name");
    let mapped =
        general.user_header_mappings.iter().enumerate().map(|(at, map)| (place_of(at), &map.header_name));
    let single = general.user_header_name.iter().map(|name| (place.key("user_header_name"), name));
    for (place, name) in mapped.chain(single) {
        if http::HeaderName::from_bytes(name.as_bytes()).is_err() {
            findings.error(&place, "not a header name");
        }
    }
}
