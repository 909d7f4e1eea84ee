//! `/team/*`: teams, their limits and what they may use. Members are in `members.rs`.

pub(super) mod list;

use attache_llm::error::ApiError;
use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::{get, patch, post};
use serde_json::{Map, Value};

use super::access::Actor;
use super::body::{Fields, refused};
use super::edit::{edit, insert};
use super::entity_fields::{describe, describe_member_defaults, keep_rest, name, names, read};
use super::members::{Members, ROLES, membership};
use super::people::{Named, every, fresh_id, id, ids, missing, resolve};
use super::removal::Going;
use super::reply::{Failure, private_json};
use super::shown::Shown;
use super::{Admin, key_rules};
use crate::entity::{Entity, EntityKind, Settings};
use crate::store::Write;

type Body = Result<Bytes, BytesRejection>;

/// Grants nothing: what is left of a list of models when the last one is taken away, since an empty list grants all.
const NO_MODELS: &str = "no-default-models";

pub(super) fn routes() -> Router<Admin> {
    Router::new()
        .route("/team/new", post(new))
        .route("/team/update", post(update))
        .route("/team/{team_id}", patch(update_one))
        .route("/team/delete", post(delete))
        .route("/team/block", post(block))
        .route("/team/unblock", post(unblock))
        .route("/team/model/add", post(add_models))
        .route("/team/model/delete", post(delete_models))
        .route("/team/permissions_update", post(set_permissions))
        .route("/team/permissions_list", get(list::permissions))
        .route("/team/{team_id}/reset_spend", post(reset_spend))
        .route("/team/info", get(list::info))
        .route("/team/list", get(list::all_teams))
        .route("/v2/team/list", get(list::pages))
        .route("/team/available", get(list::available))
}

/// A team as LiteLLM describes one.
pub(super) fn described(team: &Entity, members: &Members) -> Shown {
    let of_role = |role: Option<&str>| -> Vec<&str> {
        let wanted = members.in_team(&team.id).iter();
        wanted
            .filter(|member| role.is_none_or(|role| member.settings.role.as_deref() == Some(role)))
            .filter_map(|member| member.user_id.as_deref())
            .collect()
    };
    let mut model_table = Shown::default();
    model_table.put("model_aliases", &team.settings.aliases);
    let mut shown = Shown::default();
    shown
        .put("team_id", &team.id)
        .put("team_alias", &team.alias)
        .put("organization_id", &team.organization_id)
        .put("members_with_roles", &members.with_roles(&team.id))
        .put("members", &of_role(None))
        .put("admins", &of_role(Some(ROLES[1])));
    describe(team, &mut shown);
    describe_member_defaults(&team.settings, &mut shown);
    shown.put("model_aliases", &team.settings.aliases).put("litellm_model_table", &model_table);
    shown
}

/// As [`described`], with the members read for it.
pub(super) async fn row(admin: &Admin, team: &Entity) -> Result<Shown, Failure> {
    let members = Members::of(&*admin.state.database, std::slice::from_ref(&team.id)).await?;
    Ok(described(team, &members))
}

/// Says what of a call was kept without effect.
pub(super) fn warn(shown: &mut Shown, warnings: &[String]) {
    if !warnings.is_empty() {
        shown.put("warnings", warnings);
    }
}

/// 403 unless the caller stands above the team: an admin of everything or of its organisation. A team's own admin may
/// not lift what limits the team.
pub(super) async fn require_above(admin: &Admin, actor: &Actor, team_id: &str) -> Result<(), Failure> {
    match is_above(admin, actor, team_id).await? {
        true => Ok(()),
        false => Err(actor.refusal("only an admin of the team's organization, or of everything, may do it")),
    }
}

async fn is_above(admin: &Admin, actor: &Actor, team_id: &str) -> Result<bool, Failure> {
    if actor.is_admin() {
        return Ok(true);
    }
    let team = admin.find(EntityKind::Team, team_id).await?;
    match team.and_then(|team| team.organization_id) {
        Some(organization) => admin.is_organization_admin(actor, &organization).await,
        None => Ok(false),
    }
}

/// Reads everything about a team but its id and its members; returns warnings.
fn change(team: &mut Entity, mut fields: Fields) -> Result<Vec<String>, ApiError> {
    if fields.has("team_alias") {
        team.alias = name(&mut fields, "team_alias")?;
    }
    if fields.has("organization_id") {
        team.organization_id = name(&mut fields, "organization_id")?;
    }
    if fields.has("budget_id") {
        team.budget_id = name(&mut fields, "budget_id")?;
    }
    if let Some(blocked) = fields.flag("blocked")? {
        team.blocked = blocked;
    }
    read(&mut fields, &mut team.settings)?;
    keep_rest(fields, &mut team.settings)
}

/// May somebody below the organisation make this change? Names, defaults of members and the client's own data are
/// theirs to set, limits and models are not.
fn is_harmless(before: &Entity, after: &Entity) -> bool {
    let settings = Settings {
        metadata: before.settings.metadata.clone(),
        team_member_budget_nanos: before.settings.team_member_budget_nanos,
        team_member_budget_duration: before.settings.team_member_budget_duration.clone(),
        team_member_rpm_limit: before.settings.team_member_rpm_limit,
        team_member_tpm_limit: before.settings.team_member_tpm_limit,
        rest: before.settings.rest.clone(),
        ..after.settings.clone()
    };
    let lasting = Entity { alias: before.alias.clone(), settings, ..after.clone() };
    lasting == *before
}

async fn new(State(admin): State<Admin>, actor: Actor, body: Body) -> Result<Response, Failure> {
    let mut fields = Fields::parse(body)?;
    key_rules::fill(&mut fields, &admin.state.config.litellm_settings.default_team_params);
    let organization = fields.get("organization_id").and_then(Value::as_str).map(str::to_owned);
    match &organization {
        Some(organization) => {
            admin.need(EntityKind::Organization, organization, "organization_id").await?;
            admin.require_organization_admin(&actor, organization).await?;
        }
        None if actor.is_admin() => {}
        None => return Err(actor.refusal("name an `organization_id` that you are an admin of")),
    }
    let team_id = name(&mut fields, "team_id")?.unwrap_or_else(fresh_id);
    admin.is_free(EntityKind::Team, &team_id, "team_id").await?;
    let disabled = admin.state.config.general_settings.disable_auto_add_proxy_admin_to_teams;
    let named = first_members(&mut fields, &actor, disabled)?;
    let mut team = Entity::new(EntityKind::Team, team_id.as_str());
    let warnings = change(&mut team, fields)?;
    admin.need_if(EntityKind::Budget, team.budget_id.as_deref(), "budget_id").await?;

    let author = actor.author();
    let mut writes = admin.anchors(&team).await?;
    writes.push(insert(team, &author));
    for found in resolve(&*admin.state.database, &named).await? {
        let member = membership(&team_id, &found.user.id, found.role.as_deref());
        writes.push(match found.new {
            true => insert(found.user, &author),
            false => Write::Expect(found.user.reference()),
        });
        writes.push(insert(member, &author));
    }
    let mut done = admin.apply(&writes, &author).await?.into_iter().flatten();
    let team = done.find(|entity| entity.kind == EntityKind::Team);
    let team = team.ok_or_else(|| missing(EntityKind::Team, &team_id, "team_id"))?;
    tracing::info!(team = team_id, "team made");
    let mut shown = row(&admin, &team).await?;
    warn(&mut shown, &warnings);
    Ok(private_json(&shown))
}

/// Members that a new team begins with. Who makes a team administers it, unless that is the master key, or an admin of
/// everything and the configuration says no.
fn first_members(fields: &mut Fields, actor: &Actor, disabled: bool) -> Result<Vec<Named>, ApiError> {
    let mut named = Named::list(fields, "members_with_roles", &ROLES)?;
    let plain = |ids: Vec<String>, role: &str| {
        let role = role.to_owned();
        ids.into_iter().map(move |id| Named { role: Some(role.clone()), ..Named::user(&id) })
    };
    named.extend(plain(names(fields, "admins")?, ROLES[1]));
    named.extend(plain(names(fields, "members")?, ROLES[0]));
    let creator = actor.user_id().filter(|_| !(actor.is_admin() && disabled));
    if let Some(user) = creator
        && named.iter().all(|named| named.user_id.as_deref() != Some(user))
    {
        named.push(Named { role: Some(ROLES[1].to_owned()), ..Named::user(user) });
    }
    Ok(named)
}

async fn update(State(admin): State<Admin>, actor: Actor, body: Body) -> Result<Response, Failure> {
    let mut fields = Fields::parse(body)?;
    let team_id = id(&mut fields, "team_id")?;
    let (team, warnings) = changed(&admin, &actor, &team_id, fields).await?;
    let mut data = row(&admin, &team).await?;
    warn(&mut data, &warnings);
    let mut shown = Shown::default();
    shown.put("team_id", &team.id).put("data", &data);
    Ok(private_json(&shown))
}

async fn update_one(
    State(admin): State<Admin>,
    Path(team_id): Path<String>,
    actor: Actor,
    body: Body,
) -> Result<Response, Failure> {
    let mut fields = Fields::parse(body)?;
    if name(&mut fields, "team_id")?.is_some_and(|named| named != team_id) {
        return Err(refused("team_id", "is not the one of the path").into());
    }
    let (team, warnings) = changed(&admin, &actor, &team_id, fields).await?;
    let mut shown = row(&admin, &team).await?;
    warn(&mut shown, &warnings);
    Ok(private_json(&shown))
}

/// Changes a team as far as the caller may.
async fn changed(
    admin: &Admin,
    actor: &Actor,
    team_id: &str,
    fields: Fields,
) -> Result<(Entity, Vec<String>), Failure> {
    admin.need(EntityKind::Team, team_id, "team_id").await?;
    admin.require_team_admin(actor, team_id).await?;
    let above = is_above(admin, actor, team_id).await?;
    let text = |name: &str| fields.get(name).and_then(Value::as_str);
    if let Some(organization) = text("organization_id") {
        admin.need(EntityKind::Organization, organization, "organization_id").await?;
        admin.require_organization_admin(actor, organization).await?;
    }
    admin.need_if(EntityKind::Budget, text("budget_id"), "budget_id").await?;
    let map: Map<String, Value> = fields.rest().collect();
    let mut warnings = Vec::new();
    let team = edit(admin, EntityKind::Team, team_id, &actor.author(), |team| {
        let before = team.clone();
        warnings = change(team, Fields::of(map.clone()))?;
        if !above && !is_harmless(&before, team) {
            return Err(super::access::forbidden(
                "Admins of a team may not change its limits, budgets, models or organization.",
            ));
        }
        Ok(())
    })
    .await?;
    Ok((team.ok_or_else(|| missing(EntityKind::Team, team_id, "team_id"))?, warnings))
}

async fn delete(State(admin): State<Admin>, actor: Actor, body: Body) -> Result<Response, Failure> {
    let mut fields = Fields::parse(body)?;
    let team_ids = ids(&mut fields, "team_ids")?;
    let directory = &*admin.state.database;
    for team in every(directory, EntityKind::Team, &team_ids, "team_ids").await? {
        require_above(&admin, &actor, &team.id).await?;
    }
    let removal = admin.remove(&actor, Going::Teams(&team_ids)).await?;
    tracing::info!(teams = team_ids.len(), "teams deleted");
    let mut shown = Shown::default();
    shown
        .put("deleted_teams", &team_ids)
        .put("deleted_keys", &removal.ids(EntityKind::Key).count())
        .put("deleted_memberships", &removal.ids(EntityKind::Member).count());
    Ok(private_json(&shown))
}

async fn block(State(admin): State<Admin>, actor: Actor, body: Body) -> Result<Response, Failure> {
    set_blocked(&admin, &actor, body, true).await
}

async fn unblock(State(admin): State<Admin>, actor: Actor, body: Body) -> Result<Response, Failure> {
    set_blocked(&admin, &actor, body, false).await
}

async fn set_blocked(admin: &Admin, actor: &Actor, body: Body, blocked: bool) -> Result<Response, Failure> {
    let team_id = id(&mut Fields::parse(body)?, "team_id")?;
    admin.need(EntityKind::Team, &team_id, "team_id").await?;
    require_above(admin, actor, &team_id).await?;
    above_edit(admin, actor, &team_id, |team| team.blocked = blocked).await
}

async fn add_models(State(admin): State<Admin>, actor: Actor, body: Body) -> Result<Response, Failure> {
    let (team_id, models) = models(body)?;
    admin.need(EntityKind::Team, &team_id, "team_id").await?;
    require_above(&admin, &actor, &team_id).await?;
    above_edit(&admin, &actor, &team_id, |team| {
        let known = &mut team.settings.models;
        known.retain(|model| model != NO_MODELS);
        for model in &models {
            if !known.contains(model) {
                known.push(model.clone());
            }
        }
    })
    .await
}

async fn delete_models(State(admin): State<Admin>, actor: Actor, body: Body) -> Result<Response, Failure> {
    let (team_id, models) = models(body)?;
    admin.need(EntityKind::Team, &team_id, "team_id").await?;
    require_above(&admin, &actor, &team_id).await?;
    above_edit(&admin, &actor, &team_id, |team| {
        let known = &mut team.settings.models;
        let had_some = !known.is_empty();
        known.retain(|model| !models.contains(model));
        if had_some && known.is_empty() {
            known.push(NO_MODELS.to_owned());
        }
    })
    .await
}

fn models(body: Body) -> Result<(String, Vec<String>), ApiError> {
    let mut fields = Fields::parse(body)?;
    let team_id = id(&mut fields, "team_id")?;
    Ok((team_id, ids(&mut fields, "models")?))
}

async fn set_permissions(State(admin): State<Admin>, actor: Actor, body: Body) -> Result<Response, Failure> {
    let mut fields = Fields::parse(body)?;
    let team_id = id(&mut fields, "team_id")?;
    admin.need(EntityKind::Team, &team_id, "team_id").await?;
    admin.require_team_admin(&actor, &team_id).await?;
    let permissions = names(&mut fields, list::PERMISSIONS)?;
    list::check_permissions(&permissions)?;
    above_edit(&admin, &actor, &team_id, |team| {
        team.settings.rest.insert(list::PERMISSIONS.to_owned(), permissions.clone().into());
    })
    .await
}

/// Makes a change that the caller was found to be allowed.
async fn above_edit(
    admin: &Admin,
    actor: &Actor,
    team_id: &str,
    mut change: impl FnMut(&mut Entity) + Send,
) -> Result<Response, Failure> {
    let team = edit(admin, EntityKind::Team, team_id, &actor.author(), |team| {
        change(team);
        Ok(())
    })
    .await?;
    let team = team.ok_or_else(|| missing(EntityKind::Team, team_id, "team_id"))?;
    Ok(private_json(&row(admin, &team).await?))
}

async fn reset_spend(
    State(admin): State<Admin>,
    Path(team_id): Path<String>,
    actor: Actor,
    body: Body,
) -> Result<Response, Failure> {
    let team = admin.need(EntityKind::Team, &team_id, "team_id").await?;
    require_above(&admin, &actor, &team_id).await?;
    let to_nanos = Fields::parse(body)?.dollars("reset_to")?.unwrap_or(0);
    let write = Write::ResetSpend { of: team.reference(), to_nanos };
    let done = admin.apply(&[write], &actor.author()).await?.into_iter().flatten().next();
    let team = done.ok_or_else(|| missing(EntityKind::Team, &team_id, "team_id"))?;
    Ok(private_json(&row(&admin, &team).await?))
}

#[cfg(test)]
#[path = "teams_tests.rs"]
mod tests;
