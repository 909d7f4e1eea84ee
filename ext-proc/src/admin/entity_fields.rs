//! LiteLLM's settings fields, read from a request into [`Settings`] and shown again.
//!
//! Reading serves new and changed entities alike: what is not in the request stays as it is, `null` clears it.

use std::collections::BTreeMap;

use attache_llm::error::ApiError;
use serde_json::{Map, Value};

use super::body::{Fields, refused, wrong_type};
use super::shown::Shown;
use super::{money, when};
use crate::entity::{Entity, EntityKind, ModelBudget, Settings};
use crate::limits::parse_duration;

/// Bound of ids and aliases, bytes.
pub(super) const LONGEST_NAME: usize = 256;
/// Bound of a duration as written, bytes.
pub(super) const LONGEST_DURATION: usize = 32;
const MOST_NAMES: usize = 1_000;
/// Bound of all that is kept as it came, bytes of JSON.
const LONGEST_REST: usize = 64 * 1024;

/// LiteLLM's fields that are kept and shown, but change nothing here yet.
const IDLE: [&str; 49] = [
    "agent_id",
    "allowed_cache_controls",
    "config",
    "permissions",
    "mcp_rpm_limit",
    "tag_rpm_limit",
    "guardrails",
    "policies",
    "prompts",
    "object_permission",
    "end_user_budget_id",
    "enforced_params",
    "allowed_passthrough_routes",
    "disable_global_guardrails",
    "rpm_limit_type",
    "tpm_limit_type",
    "throttle_on_budget_exceeded",
    "default_estimated_output_tokens",
    "default_estimated_output_tokens_per_model",
    "router_settings",
    "access_group_ids",
    "send_invite_email",
    "auto_rotate",
    "rotation_interval",
    "project_id",
    "budget_limits",
    "team_member_permissions",
    "team_member_key_duration",
    "sso_user_id",
    "password",
    "object_permission_id",
    "tpm_limit_per_model",
    "rpm_limit_per_model",
    "allowed_vector_store_indexes",
    "secret_manager_settings",
    "logging",
    "model_tpd_limit",
    "model_rpd_limit",
    "team_member_budget_id",
    "allow_team_guardrail_config",
    "disabled_callbacks",
    "enable_prompt_compression",
    "mcp_tool_permissions",
    "description",
    "user_aliases",
    "organizations",
    "budget_rollover",
    "allowed_ips",
    "blocked_ips",
];

/// Kept fields of [`IDLE`] that do have an effect (roles, limits), so that nobody is warned of them.
const WORKING: [&str; 4] = ["team_member_permissions", "description", "send_invite_email", "tag_rpm_limit"];

/// Reads limits, budgets, models and the like; identity (aliases, ids, `blocked`, `duration`) is the caller's to read,
/// before or after. What is left then goes to [`keep_rest`].
///
/// # Errors
/// 400 or 422 naming the field.
pub(super) fn read(fields: &mut Fields, settings: &mut Settings) -> Result<(), ApiError> {
    access(fields, settings)?;
    budgets(fields, settings)?;
    limits(fields, settings)?;
    members(fields, settings)
}

/// Models, renames, routes, tags, metadata.
fn access(fields: &mut Fields, settings: &mut Settings) -> Result<(), ApiError> {
    if fields.has("models") {
        settings.models = names(fields, "models")?;
    }
    for name in ["model_aliases", "aliases"] {
        if fields.has(name) {
            settings.aliases = renames(fields, name)?;
        }
    }
    if fields.has("allowed_routes") {
        settings.allowed_routes = names(fields, "allowed_routes")?;
    }
    if fields.has("tags") {
        settings.tags = names(fields, "tags")?;
    }
    if fields.has("metadata") {
        settings.metadata = fields.object("metadata")?.unwrap_or_default();
        within_bound("metadata", &settings.metadata)?;
        lift(fields, settings)?;
    }
    Ok(())
}

/// LiteLLM's clients write some settings into the metadata. They work from there too, and stay there.
fn lift(fields: &mut Fields, settings: &mut Settings) -> Result<(), ApiError> {
    for name in ["tags", "model_rpm_limit", "model_tpm_limit", "temp_budget_increase", "temp_budget_expiry"] {
        if let Some(value) = settings.metadata.get(name).filter(|value| !value.is_null()) {
            fields.default(name, value);
        }
    }
    if fields.has("tags") {
        settings.tags = names(fields, "tags")?;
    }
    Ok(())
}

fn budgets(fields: &mut Fields, settings: &mut Settings) -> Result<(), ApiError> {
    dollars(fields, "max_budget", &mut settings.max_budget_nanos)?;
    dollars(fields, "soft_budget", &mut settings.soft_budget_nanos)?;
    duration(fields, "budget_duration", &mut settings.budget_duration)?;
    dollars(fields, "temp_budget_increase", &mut settings.temp_budget_increase_nanos)?;
    if fields.has("temp_budget_expiry") {
        settings.temp_budget_expiry_ms = moment(fields, "temp_budget_expiry")?;
    }
    if fields.has("budget_mode") {
        settings.budget_audit = match fields.text("budget_mode", 16)?.as_deref() {
            None | Some("enforce") => false,
            Some("audit") => true,
            Some(_) => return Err(refused("budget_mode", "must be enforce or audit")),
        };
    }
    if fields.has("model_max_budget") {
        settings.model_max_budget = model_budgets(fields)?;
    }
    if fields.has("budget_fallbacks") {
        settings.budget_fallbacks = fallbacks(fields)?;
    }
    if fields.has("budget_fallback_percent") {
        let percent = fields.count("budget_fallback_percent")?;
        let within = |percent| u32::try_from(percent).ok().filter(|percent| (1..=100).contains(percent));
        settings.budget_fallback_percent = match percent {
            None => None,
            Some(percent) => Some(
                within(percent)
                    .ok_or_else(|| refused("budget_fallback_percent", "must be between 1 and 100"))?,
            ),
        };
    }
    Ok(())
}

fn limits(fields: &mut Fields, settings: &mut Settings) -> Result<(), ApiError> {
    count(fields, "rpm_limit", &mut settings.rpm_limit)?;
    count(fields, "tpm_limit", &mut settings.tpm_limit)?;
    count(fields, "input_tpm_limit", &mut settings.input_tpm_limit)?;
    count(fields, "output_tpm_limit", &mut settings.output_tpm_limit)?;
    count(fields, "rpd_limit", &mut settings.rpd_limit)?;
    count(fields, "tpd_limit", &mut settings.tpd_limit)?;
    count(fields, "max_parallel_requests", &mut settings.max_parallel_requests)?;
    if fields.has("model_rpm_limit") {
        settings.model_rpm_limit = counts(fields, "model_rpm_limit")?;
    }
    if fields.has("model_tpm_limit") {
        settings.model_tpm_limit = counts(fields, "model_tpm_limit")?;
    }
    Ok(())
}

/// What only teams and end users have; of anybody else it is kept, and harmless.
fn members(fields: &mut Fields, settings: &mut Settings) -> Result<(), ApiError> {
    dollars(fields, "team_member_budget", &mut settings.team_member_budget_nanos)?;
    duration(fields, "team_member_budget_duration", &mut settings.team_member_budget_duration)?;
    count(fields, "team_member_rpm_limit", &mut settings.team_member_rpm_limit)?;
    count(fields, "team_member_tpm_limit", &mut settings.team_member_tpm_limit)
}

/// Keeps the other fields of LiteLLM under their own names; null forgets one. Returns warnings about fields that
/// are kept without effect, and about fields that nobody knows.
///
/// # Errors
/// 400 when they are more than 64 KiB.
pub(super) fn keep_rest(fields: Fields, settings: &mut Settings) -> Result<Vec<String>, ApiError> {
    let (mut idle, mut unknown) = (Vec::new(), Vec::new());
    for (name, value) in fields.rest() {
        if !IDLE.contains(&name.as_str()) {
            if !value.is_null() {
                unknown.push(name.chars().take(64).collect::<String>());
            }
        } else if value.is_null() {
            settings.rest.remove(&name);
        } else {
            if !asks_nothing(&value) && !WORKING.contains(&name.as_str()) {
                idle.push(name.clone());
            }
            settings.rest.insert(name, value);
        }
    }
    // A password is a secret, and nothing here asks for one.
    settings.rest.remove("password");
    within_bound("request_body", &settings.rest)?;
    unknown.truncate(32);
    let warning = |what: &str, names: &[String]| format!("{what}: {}", names.join(", "));
    let mut warnings = Vec::new();
    if !idle.is_empty() {
        warnings.push(warning("kept, without effect yet", &idle));
    }
    if !unknown.is_empty() {
        warnings.push(warning("unknown, ignored", &unknown));
    }
    Ok(warnings)
}

fn asks_nothing(value: &Value) -> bool {
    match value {
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(flag) => !flag,
        Value::String(text) => text.is_empty(),
        Value::Null | Value::Number(_) => false,
    }
}

fn within_bound(name: &'static str, map: &Map<String, Value>) -> Result<(), ApiError> {
    let length = serde_json::to_string(map).map_or(usize::MAX, |text| text.len());
    match length > LONGEST_REST {
        true => Err(refused(name, "may have 64 KiB of JSON at most")),
        false => Ok(()),
    }
}

/// An id or an alias: bounded, without control characters (which also keeps it out of the way of composed ids).
///
/// # Errors
/// 400 or 422 naming the field.
pub(super) fn name(fields: &mut Fields, field: &'static str) -> Result<Option<String>, ApiError> {
    let name = fields.text(field, LONGEST_NAME)?;
    match name.as_ref().is_some_and(|name| name.chars().any(char::is_control)) {
        true => Err(refused(field, "may not contain control characters")),
        false => Ok(name),
    }
}

/// A list of names, none of them empty or over-long; null is an empty list.
///
/// # Errors
/// 400 or 422 naming the field.
pub(super) fn names(fields: &mut Fields, field: &'static str) -> Result<Vec<String>, ApiError> {
    let names = fields.texts(field, MOST_NAMES)?.unwrap_or_default();
    match names.iter().all(|name| is_name(name)) {
        true => Ok(names),
        false => Err(refused(field, "may not hold an empty or over-long name, or control characters")),
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= LONGEST_NAME && !name.chars().any(char::is_control)
}

fn map(fields: &mut Fields, field: &'static str) -> Result<Map<String, Value>, ApiError> {
    let map = fields.object(field)?.unwrap_or_default();
    if map.len() > MOST_NAMES {
        return Err(refused(field, &format!("may have {MOST_NAMES} entries at most")));
    }
    match map.keys().all(|name| is_name(name)) {
        true => Ok(map),
        false => Err(refused(field, "may not hold an empty or over-long name, or control characters")),
    }
}

fn renames(fields: &mut Fields, field: &'static str) -> Result<BTreeMap<String, String>, ApiError> {
    let rename = |(name, value): (String, Value)| match value {
        Value::String(text) if is_name(&text) => Ok((name, text)),
        other => Err(wrong_type(field, "an object of names", &other)),
    };
    map(fields, field)?.into_iter().map(rename).collect()
}

fn counts(fields: &mut Fields, field: &'static str) -> Result<BTreeMap<String, u64>, ApiError> {
    let count = |(name, value): (String, Value)| match value.as_u64() {
        Some(count) => Ok((name, count)),
        None => Err(wrong_type(field, "an object of whole numbers", &value)),
    };
    map(fields, field)?.into_iter().filter(|(_, value)| !value.is_null()).map(count).collect()
}

fn fallbacks(fields: &mut Fields) -> Result<BTreeMap<String, Vec<String>>, ApiError> {
    const NAME: &str = "budget_fallbacks";
    let entry = |(model, value): (String, Value)| {
        let mut list = Fields::of([(NAME.to_owned(), value)].into_iter().collect());
        names(&mut list, NAME).map(|models| (model, models))
    };
    map(fields, NAME)?.into_iter().map(entry).collect()
}

/// `{model: {budget_limit, time_period}}`, or with `max_budget` and `budget_duration`.
fn model_budgets(fields: &mut Fields) -> Result<BTreeMap<String, ModelBudget>, ApiError> {
    const NAME: &str = "model_max_budget";
    let entry = |(model, value): (String, Value)| {
        let mut budget = match value {
            Value::Object(map) => Fields::of(map),
            Value::Number(_) => Fields::of([("budget_limit".to_owned(), value)].into_iter().collect()),
            other => return Err(wrong_type(NAME, "an object of budgets", &other)),
        };
        let limit = [budget.dollars("budget_limit")?, budget.dollars("max_budget")?];
        let limit = limit.into_iter().flatten().next();
        let limit = limit.ok_or_else(|| refused(NAME, "needs a budget_limit for every model"))?;
        let mut period = None;
        for name in ["budget_duration", "time_period"] {
            duration(&mut budget, name, &mut period)?;
        }
        Ok((model, ModelBudget { limit_nanos: limit.unsigned_abs(), duration: period }))
    };
    map(fields, NAME)?.into_iter().map(entry).collect()
}

fn dollars(fields: &mut Fields, field: &'static str, into: &mut Option<u64>) -> Result<(), ApiError> {
    if fields.has(field) {
        *into = fields.dollars(field)?.map(i64::unsigned_abs);
    }
    Ok(())
}

fn count(fields: &mut Fields, field: &'static str, into: &mut Option<u64>) -> Result<(), ApiError> {
    if fields.has(field) {
        *into = fields.count(field)?.map(i64::unsigned_abs);
    }
    Ok(())
}

fn duration(fields: &mut Fields, field: &'static str, into: &mut Option<String>) -> Result<(), ApiError> {
    if !fields.has(field) {
        return Ok(());
    }
    let text = fields.text(field, LONGEST_DURATION)?;
    if text.as_ref().is_some_and(|text| parse_duration(text).is_err()) {
        return Err(refused(field, "must be a number and a unit, like 30s, 30m, 12h, 30d, 1w or 1mo"));
    }
    *into = text;
    Ok(())
}

/// A time of day and date, Unix milliseconds.
///
/// # Errors
/// 400 or 422 naming the field.
pub(super) fn moment(fields: &mut Fields, field: &'static str) -> Result<Option<u64>, ApiError> {
    let Some(text) = fields.text(field, 64)? else { return Ok(None) };
    when::moment(&text).map(Some).ok_or_else(|| refused(field, "must be a time like 2026-01-31T12:00:00Z"))
}

/// When an entity with a `duration` from now ends, Unix milliseconds. `-1` and null: never.
///
/// # Errors
/// 400 or 422 naming the field.
pub(super) fn expiry(fields: &mut Fields, now_ms: u64) -> Result<Option<u64>, ApiError> {
    match fields.text("duration", LONGEST_DURATION)?.as_deref() {
        None | Some("-1") => Ok(None),
        Some(text) => when::expiry(text, now_ms).map(Some).ok_or_else(|| {
            refused("duration", "must be a number and a unit, like 30s, 30m, 12h, 30d, 2w or 1mo")
        }),
    }
}

/// Shows an entity's settings, spend and times under LiteLLM's names. Identity is the caller's to show.
pub(super) fn describe(entity: &Entity, shown: &mut Shown) {
    describe_spent(entity, entity.spend_nanos, shown);
}

/// As [`describe`], with the spend of the current window instead of the total (see [`super::Admin::spend_of`]).
pub(super) fn describe_spent(entity: &Entity, spend_nanos: i64, shown: &mut Shown) {
    let settings = &entity.settings;
    shown
        .put("spend", &money::Dollars(spend_nanos))
        .put("spend_nanos", &spend_nanos)
        .put("models", &settings.models);
    describe_budgets(settings, shown);
    shown
        .put("budget_id", &entity.budget_id)
        .put("rpm_limit", &settings.rpm_limit)
        .put("tpm_limit", &settings.tpm_limit)
        .put("input_tpm_limit", &settings.input_tpm_limit)
        .put("output_tpm_limit", &settings.output_tpm_limit)
        .put("rpd_limit", &settings.rpd_limit)
        .put("tpd_limit", &settings.tpd_limit)
        .put("max_parallel_requests", &settings.max_parallel_requests)
        .put("model_rpm_limit", &settings.model_rpm_limit)
        .put("model_tpm_limit", &settings.model_tpm_limit)
        .put("tags", &settings.tags);
    let aliases = if entity.kind == EntityKind::Team { "model_aliases" } else { "aliases" };
    shown.put(aliases, &settings.aliases);
    if entity.kind == EntityKind::Key {
        shown.put("allowed_routes", &settings.allowed_routes);
    }
    shown
        .put("metadata", &settings.metadata)
        .put("blocked", &entity.blocked)
        .put("created_at", &when::rfc3339_ms(entity.created_ms))
        .put("created_by", &entity.created_by)
        .put("updated_at", &when::rfc3339_ms(entity.updated_ms))
        .put("updated_by", &entity.updated_by)
        .fill(&settings.rest);
}

/// Only the budget's and the limits' fields, as in `litellm_budget_table`.
pub(super) fn describe_budgets(settings: &Settings, shown: &mut Shown) {
    let per_model: BTreeMap<_, _> = settings
        .model_max_budget
        .iter()
        .map(|(model, budget)| {
            let mut shown = Shown::default();
            shown.money("budget_limit", Some(budget.limit_nanos)).put("time_period", &budget.duration);
            (model, shown)
        })
        .collect();
    shown
        .money("max_budget", settings.max_budget_nanos)
        .money("soft_budget", settings.soft_budget_nanos)
        .put("budget_duration", &settings.budget_duration)
        .put("model_max_budget", &per_model)
        .put("budget_fallbacks", &settings.budget_fallbacks);
    if let Some(increase) = settings.temp_budget_increase_nanos {
        let expiry = settings.temp_budget_expiry_ms.map(when::rfc3339_ms);
        shown.money("temp_budget_increase", Some(increase)).put("temp_budget_expiry", &expiry);
    }
    if settings.budget_audit {
        shown.put("budget_mode", "audit");
    }
    if let Some(percent) = settings.budget_fallback_percent {
        shown.put("budget_fallback_percent", &percent);
    }
}

/// The settings that a team gives each of its members.
pub(super) fn describe_member_defaults(settings: &Settings, shown: &mut Shown) {
    shown
        .money("team_member_budget", settings.team_member_budget_nanos)
        .put("team_member_budget_duration", &settings.team_member_budget_duration)
        .put("team_member_rpm_limit", &settings.team_member_rpm_limit)
        .put("team_member_tpm_limit", &settings.team_member_tpm_limit);
}

#[cfg(test)]
#[path = "entity_fields_tests.rs"]
mod tests;
