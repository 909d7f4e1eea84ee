//! `/user/*`: people with a role, limits of their own, and keys.

mod change;
mod list;

use attache_llm::error::ApiError;
use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::Admin;
use super::access::Actor;
use super::body::{Fields, refused};
use super::edit::insert;
use super::entity_fields::{describe, expiry, keep_rest, name, read};
use super::members::{self, membership};
use super::people::{MOST, by_email, every, fresh_id, ids, missing};
use super::removal::Removal;
use super::reply::{Failure, private_json};
use super::shown::Shown;
use super::{organizations, teams, when};
use crate::config::Secret;
use crate::entity::{Entity, EntityKind};
use crate::keys;
use crate::store::Write;

type Body = Result<Bytes, BytesRejection>;

/// What a user may be, as LiteLLM names it.
const ROLES: [&str; 7] = [
    "proxy_admin",
    "proxy_admin_viewer",
    "org_admin",
    "internal_user",
    "internal_user_viewer",
    "team",
    "customer",
];
/// Of a user whose role nobody named.
const DEFAULT_ROLE: &str = "internal_user";

pub(super) fn routes() -> Router<Admin> {
    Router::new()
        .route("/user/new", post(new))
        .route("/user/update", post(change::update))
        .route("/user/bulk_update", post(change::bulk))
        .route("/user/delete", post(delete))
        .route("/user/{user_id}/reset_spend", post(reset_spend))
        .route("/user/info", get(list::info))
        .route("/v2/user/info", get(list::flat_info))
        .route("/user/list", get(list::pages))
        .route("/user/get_users", get(list::pages))
}

/// A user as LiteLLM describes one, without teams.
pub(super) fn described(user: &Entity) -> Shown {
    let mut shown = Shown::default();
    shown
        .put("user_id", &user.id)
        .put("user_alias", &user.alias)
        .put("user_email", &user.settings.email)
        .put("user_role", &user.settings.role);
    describe(user, &mut shown);
    shown
}

/// Reads everything about a user but its id, its teams and its keys; returns warnings.
fn change(user: &mut Entity, mut fields: Fields) -> Result<Vec<String>, ApiError> {
    if fields.has("user_alias") {
        user.alias = name(&mut fields, "user_alias")?;
    }
    if fields.has("user_email") {
        user.settings.email = name(&mut fields, "user_email")?.map(|email| email.to_lowercase());
    }
    if fields.has("user_role") {
        user.settings.role = role(&mut fields)?;
    }
    if fields.has("budget_id") {
        user.budget_id = name(&mut fields, "budget_id")?;
    }
    if let Some(blocked) = fields.flag("blocked")? {
        user.blocked = blocked;
    }
    read(&mut fields, &mut user.settings)?;
    keep_rest(fields, &mut user.settings)
}

fn role(fields: &mut Fields) -> Result<Option<String>, ApiError> {
    match fields.text("user_role", 64)? {
        Some(role) if !ROLES.contains(&role.as_str()) => {
            Err(refused("user_role", &format!("must be one of: {}", ROLES.join(", "))))
        }
        role => Ok(role),
    }
}

/// Refuses an address that somebody else has.
async fn address_is_free(admin: &Admin, email: Option<&str>, user_id: &str) -> Result<(), Failure> {
    let Some(email) = email else { return Ok(()) };
    match by_email(&*admin.state.directory, email).await? {
        Some(other) if other.id != user_id => {
            Err(refused("user_email", "exists already: another user has it").into())
        }
        _ => Ok(()),
    }
}

/// Teams that a new user joins: ids, or `{team_id, user_role, max_budget_in_team}`.
fn joined(fields: &mut Fields) -> Result<Vec<Joined>, ApiError> {
    let list = match fields.take("teams") {
        None => return Ok(Vec::new()),
        Some(Value::Array(list)) if list.len() <= MOST => list,
        Some(_) => return Err(refused("teams", &format!("must be a list of {MOST} teams at most"))),
    };
    let one = |value: Value| match value {
        Value::String(team_id) if !team_id.is_empty() => {
            Ok(Joined { team_id, role: None, max_budget_nanos: None })
        }
        Value::Object(map) => {
            let mut part = Fields::of(map);
            let team_id = name(&mut part, "team_id")?.ok_or_else(|| refused("teams", "needs a team_id"))?;
            let role = part.text("user_role", 64)?;
            if role.as_ref().is_some_and(|role| !members::ROLES.contains(&role.as_str())) {
                return Err(refused("teams", "may give the roles user and admin only"));
            }
            let max_budget_nanos = part.dollars("max_budget_in_team")?.map(i64::unsigned_abs);
            Ok(Joined { team_id, role, max_budget_nanos })
        }
        _ => Err(refused("teams", "must hold ids of teams")),
    };
    list.into_iter().map(one).collect()
}

struct Joined {
    team_id: String,
    role: Option<String>,
    max_budget_nanos: Option<u64>,
}

async fn new(State(admin): State<Admin>, actor: Actor, body: Body) -> Result<Response, Failure> {
    let mut fields = Fields::parse(body)?;
    let user_id = name(&mut fields, "user_id")?.unwrap_or_else(fresh_id);
    let teams = joined(&mut fields)?;
    let organizations = super::entity_fields::names(&mut fields, "organizations")?;
    let with_key = fields.flag("auto_create_key")?.unwrap_or(true);
    let key_alias = name(&mut fields, "key_alias")?;
    let team_of_key = name(&mut fields, "team_id")?;
    let expires_ms = expiry(&mut fields, crate::routing::now_ms())?;
    let mut user = Entity::new(EntityKind::User, user_id.as_str());
    user.settings.role = Some(DEFAULT_ROLE.to_owned());
    let warnings = change(&mut user, fields)?;
    let team_ids: Vec<String> = teams.iter().map(|team| &team.team_id).chain(&team_of_key).cloned().collect();
    allowed(&admin, &actor, &user, &team_ids, &organizations).await?;
    admin.is_free(EntityKind::User, &user_id, "user_id").await?;
    address_is_free(&admin, user.settings.email.as_deref(), &user_id).await?;
    admin.need_if(EntityKind::Budget, user.budget_id.as_deref(), "budget_id").await?;

    let author = actor.author();
    let mut writes = vec![insert(user, &author)];
    for team in &teams {
        let mut member = membership(&team.team_id, &user_id, team.role.as_deref());
        member.settings.max_budget_nanos = team.max_budget_nanos;
        writes.push(insert(member, &author));
    }
    for organization in &organizations {
        writes.push(insert(organizations::membership(organization, &user_id, None), &author));
    }
    let mut made = None;
    if with_key {
        let (plain, mut key) = fresh_key();
        (key.user_id, key.alias, key.expires_ms) = (Some(user_id.clone()), key_alias, expires_ms);
        key.team_id = team_of_key;
        writes.push(insert(key.clone(), &author));
        made = Some((plain, key));
    }
    let user = admin.apply(&writes, &author).await?.into_iter().flatten().next();
    let user = user.ok_or_else(|| missing(EntityKind::User, &user_id, "user_id"))?;
    tracing::info!(user = user_id, "user made");
    let teams: Vec<&str> = teams.iter().map(|team| team.team_id.as_str()).collect();
    let mut shown = described(&user);
    shown.put("teams", &teams).put("organizations", &organizations);
    if let Some((plain, key)) = &made {
        shown
            .put("key", plain.expose())
            .put("token", &key.id)
            .put("token_id", &key.id)
            .put("key_name", &key.name)
            .put("key_alias", &key.alias)
            .put("expires", &key.expires_ms.map(when::rfc3339_ms));
    }
    teams::warn(&mut shown, &warnings);
    Ok(private_json(&shown))
}

/// 16 random bytes as LiteLLM writes them, and the key that is stored of them.
fn fresh_key() -> (Secret, Entity) {
    let plain = Secret::new(format!("sk-{}", URL_SAFE_NO_PAD.encode(rand::random::<[u8; 16]>())));
    let mut key = Entity::new(EntityKind::Key, keys::hash(plain.expose()));
    key.name = keys::mask(plain.expose());
    (plain, key)
}

/// May the caller make this user? An organisation's admin only in its organisations and teams, and nobody with rights
/// beyond them.
async fn allowed(
    admin: &Admin,
    actor: &Actor,
    user: &Entity,
    team_ids: &[String],
    organizations: &[String],
) -> Result<(), Failure> {
    let directory = &*admin.state.directory;
    every(directory, EntityKind::Team, team_ids, "teams").await?;
    every(directory, EntityKind::Organization, organizations, "organizations").await?;
    if actor.is_admin() {
        return Ok(());
    }
    if organizations.is_empty() {
        return Err(actor.refusal("name `organizations` that you are an admin of"));
    }
    for organization in organizations {
        admin.require_organization_admin(actor, organization).await?;
    }
    for team in team_ids {
        teams::require_above(admin, actor, team).await?;
    }
    match user.settings.role.as_deref() {
        Some("internal_user" | "internal_user_viewer") => Ok(()),
        _ => Err(actor.refusal("an organization's admin may only make internal users")),
    }
}

async fn delete(State(admin): State<Admin>, actor: Actor, body: Body) -> Result<Response, Failure> {
    let user_ids = ids(&mut Fields::parse(body)?, "user_ids")?;
    let directory = &*admin.state.directory;
    every(directory, EntityKind::User, &user_ids, "user_ids").await?;
    let removal = Removal::of_users(directory, &user_ids).await?;
    admin.apply(&removal.writes(), &actor.author()).await?;
    tracing::info!(users = user_ids.len(), "users deleted");
    Ok(private_json(&user_ids.len()))
}

async fn reset_spend(
    State(admin): State<Admin>,
    Path(user_id): Path<String>,
    actor: Actor,
    body: Body,
) -> Result<Response, Failure> {
    let user = admin.need(EntityKind::User, &user_id, "user_id").await?;
    let to_nanos = Fields::parse(body)?.dollars("reset_to")?.unwrap_or(0);
    let write = Write::ResetSpend { of: user.reference(), to_nanos };
    let done = admin.apply(&[write], &actor.author()).await?.into_iter().flatten().next();
    let user = done.ok_or_else(|| missing(EntityKind::User, &user_id, "user_id"))?;
    Ok(private_json(&described(&user)))
}

#[cfg(test)]
#[path = "users_tests.rs"]
mod tests;
