//! Everyone who has limits or a budget beside keys: teams, users, members, organisations, end users, tags, budgets.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::merge::Wanted;
use super::row::{Found, Row, budget_of, error, moment, unwrapped};
use crate::entity::{Entity, EntityKind, ModelBudget, Settings, member_id};

/// What a page of rows refers to, read with it.
#[derive(Debug, Default)]
pub(super) struct Around {
    /// Rows of `LiteLLM_BudgetTable` by `budget_id`.
    pub(super) budgets: BTreeMap<String, Row>,
    /// Rows of `LiteLLM_ModelTable` (aliases of teams) by `id`.
    pub(super) renames: BTreeMap<String, Row>,
    pub(super) now_ms: u64,
}

impl Around {
    /// Spend of the window that is open now: LiteLLM resets minutes after a window's end, and with it off never.
    fn spend(&self, row: &Row) -> Found<i64> {
        let own = row.time("budget_reset_at")?;
        let shared = row.text("budget_id")?.and_then(|id| self.budgets.get(&id));
        let reset = match (own, shared) {
            (None, Some(budget)) => budget.time("budget_reset_at")?,
            (own, _) => own,
        };
        match reset.is_some_and(|at| at <= self.now_ms) {
            true => Ok(0),
            false => Ok(row.money("spend")?.unwrap_or(0)),
        }
    }
}

pub(super) fn wanted(mut entity: Entity, row: &Row, around: &Around) -> Found<Wanted> {
    entity.budget_id = row.name("budget_id")?;
    entity.created_by = row.text("created_by")?;
    let spend = around.spend(row)?;
    Ok(Wanted::new(entity, spend))
}

pub(super) fn budget(row: &Row, _around: &Around) -> Found<Wanted> {
    let mut entity = Entity::new(EntityKind::Budget, row.id("budget_id")?);
    settings(row, &mut entity.settings)?;
    entity.settings.models = row.texts("allowed_models")?;
    entity.settings.temp_budget_increase_nanos = row.budget("temp_budget_increase")?;
    entity.settings.temp_budget_expiry_ms = row.time("temp_budget_expiry")?;
    entity.created_by = row.text("created_by")?;
    Ok(Wanted::new(entity, 0))
}

pub(super) fn organization(row: &Row, around: &Around) -> Found<Wanted> {
    let mut entity = Entity::new(EntityKind::Organization, row.id("organization_id")?);
    entity.alias = row.name("organization_alias")?;
    settings(row, &mut entity.settings)?;
    rest(row, &mut entity.settings, &["object_permission_id"])?;
    wanted(entity, row, around)
}

pub(super) fn team(row: &Row, around: &Around) -> Found<Wanted> {
    let mut entity = Entity::new(EntityKind::Team, row.id("team_id")?);
    entity.alias = row.name("team_alias")?;
    entity.organization_id = row.name("organization_id")?;
    entity.blocked = row.flag("blocked")?;
    settings(row, &mut entity.settings)?;
    if let Some(renames) = row.count("model_id")?.and_then(|id| around.renames.get(&id.to_string())) {
        entity.settings.aliases = renames_of(renames.json("model_aliases")?);
    }
    member_defaults(&mut entity.settings, around)?;
    rest(
        row,
        &mut entity.settings,
        &[
            "object_permission_id",
            "router_settings",
            "team_member_permissions",
            "access_group_ids",
            "policies",
            "default_team_member_models",
            "budget_limits",
        ],
    )?;
    wanted(entity, row, around)
}

/// LiteLLM keeps what every member gets in a budget that the team's metadata names.
fn member_defaults(settings: &mut Settings, around: &Around) -> Found<()> {
    let Some(id) = settings.metadata.get("team_member_budget_id").and_then(Value::as_str) else {
        return Ok(());
    };
    let Some(budget) = around.budgets.get(id) else { return Ok(()) };
    settings.team_member_budget_nanos = budget.budget("max_budget")?;
    settings.team_member_budget_duration = budget.text("budget_duration")?;
    settings.team_member_rpm_limit = budget.count("rpm_limit")?;
    settings.team_member_tpm_limit = budget.count("tpm_limit")?;
    Ok(())
}

pub(super) fn user(row: &Row, around: &Around) -> Found<Wanted> {
    let mut entity = Entity::new(EntityKind::User, row.id("user_id")?);
    entity.alias = row.name("user_alias")?;
    entity.organization_id = row.name("organization_id")?;
    settings(row, &mut entity.settings)?;
    entity.settings.role = row.name("user_role")?;
    entity.settings.email = row.name("user_email")?;
    rest(
        row,
        &mut entity.settings,
        &["sso_user_id", "object_permission_id", "allowed_cache_controls", "policies"],
    )?;
    wanted(entity, row, around)
}

pub(super) fn end_user(row: &Row, around: &Around) -> Found<Wanted> {
    let mut entity = Entity::new(EntityKind::EndUser, row.id("user_id")?);
    entity.alias = row.name("alias")?;
    entity.blocked = row.flag("blocked")?;
    settings(row, &mut entity.settings)?;
    entity.settings.allowed_model_region = row.text("allowed_model_region")?;
    entity.settings.default_model = row.text("default_model")?;
    rest(row, &mut entity.settings, &["object_permission_id"])?;
    wanted(entity, row, around)
}

pub(super) fn tag(row: &Row, around: &Around) -> Found<Wanted> {
    let mut entity = Entity::new(EntityKind::Tag, row.id("tag_name")?);
    settings(row, &mut entity.settings)?;
    rest(row, &mut entity.settings, &["description", "model_info"])?;
    wanted(entity, row, around)
}

pub(super) fn organization_member(row: &Row, around: &Around) -> Found<Wanted> {
    let (organization, user) = (row.id("organization_id")?, row.id("user_id")?);
    let mut entity = Entity::new(EntityKind::OrganizationMember, member_id(&organization, &user));
    entity.organization_id = Some(organization);
    entity.user_id = Some(user);
    entity.settings.role = row.name("user_role")?;
    wanted(entity, row, around)
}

/// The members of one team: those that its row lists, with the budget and the spend of their memberships.
pub(super) fn members(team: &Row, memberships: &[Row], around: &Around) -> Found<Vec<Wanted>> {
    let team_id = team.id("team_id")?;
    let mut roles = BTreeMap::new();
    for user in team.texts("members")? {
        roles.insert(user, "user".to_owned());
    }
    for user in team.texts("admins")? {
        roles.insert(user, "admin".to_owned());
    }
    if let Value::Array(list) = team.json("members_with_roles")? {
        for member in list {
            let text = |name: &str| member.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
            if let Some(user) = text("user_id") {
                roles.insert(user.to_owned(), text("role").unwrap_or("user").to_owned());
            }
        }
    }
    let mut rows = BTreeMap::new();
    for membership in memberships {
        let user = membership.id("user_id")?;
        roles.entry(user.clone()).or_insert_with(|| "user".to_owned());
        rows.insert(user, membership);
    }
    let none = Row::default();
    let member = |(user, role): (String, String)| {
        if user.chars().any(char::is_control) {
            return Err(error("members_with_roles", "a user id has control characters"));
        }
        let mut entity = Entity::new(EntityKind::Member, member_id(&team_id, &user));
        entity.team_id = Some(team_id.clone());
        entity.settings.role = Some(role);
        let mut wanted = wanted(entity, rows.get(&user).copied().unwrap_or(&none), around)?;
        wanted.shown = format!("{user} in {team_id}");
        wanted.entity.user_id = Some(user);
        Ok(Wanted { fingerprint: Wanted::new(wanted.entity.clone(), 0).fingerprint, ..wanted })
    };
    roles.into_iter().map(member).collect()
}

/// What all of LiteLLM's tables call the same. A column that a table does not have is absent.
pub(super) fn settings(row: &Row, settings: &mut Settings) -> Found<()> {
    settings.models = row.texts("models")?;
    settings.max_budget_nanos = row.budget("max_budget")?;
    settings.soft_budget_nanos = row.budget("soft_budget")?;
    settings.budget_duration = row.name("budget_duration")?;
    settings.model_max_budget = model_budgets(&row.object("model_max_budget")?)?;
    settings.rpm_limit = row.count("rpm_limit")?;
    settings.tpm_limit = row.count("tpm_limit")?;
    settings.tpd_limit = row.count("tpd_limit")?;
    settings.max_parallel_requests = row.count("max_parallel_requests")?;
    settings.metadata = row.object("metadata")?;
    lift(settings);
    Ok(())
}

/// LiteLLM keeps some settings in the metadata. They work from there too, and stay there.
fn lift(settings: &mut Settings) {
    let metadata = &settings.metadata;
    let counts = |name: &str| -> BTreeMap<String, u64> {
        let map = metadata.get(name).cloned().map(unwrapped);
        let map = map.as_ref().and_then(Value::as_object).into_iter().flatten();
        map.filter_map(|(model, limit)| Some((model.clone(), count_of(limit)?))).collect()
    };
    let (rpm, tpm) = (counts("model_rpm_limit"), counts("model_tpm_limit"));
    let tags = metadata.get("tags").and_then(Value::as_array).into_iter().flatten();
    let tags = tags.filter_map(Value::as_str).filter(|tag| !tag.is_empty()).map(str::to_owned).collect();
    let increase = metadata.get("temp_budget_increase").and_then(budget_of);
    let expiry = metadata.get("temp_budget_expiry").and_then(Value::as_str).and_then(moment);
    let soft = metadata.get("soft_budget").and_then(budget_of);
    (settings.model_rpm_limit, settings.model_tpm_limit, settings.tags) = (rpm, tpm, tags);
    (settings.temp_budget_increase_nanos, settings.temp_budget_expiry_ms) = (increase, expiry);
    settings.soft_budget_nanos = settings.soft_budget_nanos.or(soft);
}

fn count_of(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_i64().map(|_| 0))
}

/// `{model: {budget_limit, time_period}}`, or with `max_budget` and `budget_duration`.
pub(super) fn model_budgets(map: &Map<String, Value>) -> Found<BTreeMap<String, ModelBudget>> {
    let budget = |(model, value): (&String, &Value)| {
        let first =
            |names: [&str; 2]| names.into_iter().find_map(|name| value.get(name).filter(|v| !v.is_null()));
        let limit = match value {
            Value::Object(_) => first(["budget_limit", "max_budget"]).map(budget_of),
            other => Some(budget_of(other)),
        };
        // No limit is no budget; a limit that cannot be read is no reason to give none.
        let limit_nanos = match limit {
            None => return Ok(None),
            Some(limit) => limit.ok_or_else(|| error("model_max_budget", "a limit is no amount"))?,
        };
        let duration = first(["budget_duration", "time_period"]).and_then(Value::as_str).map(str::to_owned);
        Ok(Some((model.clone(), ModelBudget { limit_nanos, duration })))
    };
    map.iter().map(budget).filter_map(Result::transpose).collect()
}

pub(super) fn renames_of(value: Value) -> BTreeMap<String, String> {
    let Value::Object(map) = value else { return BTreeMap::new() };
    let text = |(name, value): (String, Value)| match value {
        Value::String(text) => Some((name, text)),
        _ => None,
    };
    map.into_iter().filter_map(text).collect()
}

/// Keeps columns under their own names, where they hold anything.
pub(super) fn rest(row: &Row, settings: &mut Settings, columns: &[&'static str]) -> Found<()> {
    for column in columns {
        let value = row.json(column)?;
        let empty = match &value {
            Value::Null => true,
            Value::String(text) => text.is_empty(),
            Value::Array(list) => list.is_empty(),
            Value::Object(map) => map.is_empty(),
            Value::Bool(flag) => !flag,
            Value::Number(_) => false,
        };
        if !empty {
            settings.rest.insert((*column).to_owned(), value);
        }
    }
    Ok(())
}
