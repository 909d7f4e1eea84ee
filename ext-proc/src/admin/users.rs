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
use serde_json::{Map, Value};

use super::Admin;
use super::access::Actor;
use super::body::{Fields, refused};
use super::edit::insert;
use super::entity_fields::{describe, expiry, keep_rest, name, read};
use super::members::{self, membership};
use super::people::{MOST, by_email, every, fresh_id, ids, missing};
use super::removal::Going;
use super::reply::{Failure, private_json};
use super::shown::Shown;
use super::{organizations, teams, when};
use crate::config::Secret;
use crate::entity::{Entity, EntityKind, EntityRef};
use crate::keys;
use crate::store::{Author, Write};

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
    match by_email(&*admin.state.database, email).await? {
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

/// A `/user/new` as it was read.
struct Wanted {
    user: Entity,
    teams: Vec<Joined>,
    organizations: Vec<String>,
    /// The key that is made along with the user, with its plain text.
    key: Option<(Secret, Entity)>,
    /// Teams that the caller names, not the configuration.
    asked_teams: Vec<String>,
    warnings: Vec<String>,
}

impl Wanted {
    fn read(mut fields: Fields, defaults: &Map<String, Value>) -> Result<Self, ApiError> {
        let user_id = name(&mut fields, "user_id")?.unwrap_or_else(fresh_id);
        let asked = joined(&mut fields)?;
        let mut asked_teams: Vec<String> = asked.iter().map(|team| team.team_id.clone()).collect();
        let given = defaults_of(&mut fields, defaults);
        let teams = if asked.is_empty() { joined(&mut Fields::of(given))? } else { asked };
        let organizations = super::entity_fields::names(&mut fields, "organizations")?;
        let with_key = fields.flag("auto_create_key")?.unwrap_or(true);
        let alias = name(&mut fields, "key_alias")?;
        let team_id = name(&mut fields, "team_id")?;
        let expires_ms = expiry(&mut fields, crate::routing::now_ms())?;
        asked_teams.extend(team_id.clone());
        let key = with_key.then(|| {
            let (plain, mut key) = fresh_key();
            key.user_id = Some(user_id.clone());
            (key.alias, key.team_id, key.expires_ms) = (alias, team_id, expires_ms);
            (plain, key)
        });
        let mut user = Entity::new(EntityKind::User, user_id);
        user.settings.role = Some(DEFAULT_ROLE.to_owned());
        let warnings = change(&mut user, fields)?;
        Ok(Self { user, teams, organizations, key, asked_teams, warnings })
    }

    fn team_ids(&self) -> Vec<String> {
        let ids = self.teams.iter().map(|team| &team.team_id).chain(&self.asked_teams);
        ids.collect::<std::collections::BTreeSet<_>>().into_iter().cloned().collect()
    }

    fn writes(&self, author: &Author) -> Vec<Write> {
        let expected = |kind, id: &String| Write::Expect(EntityRef::new(kind, id));
        let mut writes: Vec<Write> =
            self.team_ids().iter().map(|id| expected(EntityKind::Team, id)).collect();
        writes.extend(self.organizations.iter().map(|id| expected(EntityKind::Organization, id)));
        writes.extend(self.user.budget_id.iter().map(|id| expected(EntityKind::Budget, id)));
        writes.push(insert(self.user.clone(), author));
        for team in &self.teams {
            let mut member = membership(&team.team_id, &self.user.id, team.role.as_deref());
            member.settings.max_budget_nanos = team.max_budget_nanos;
            writes.push(insert(member, author));
        }
        for organization in &self.organizations {
            let member = organizations::membership(organization, &self.user.id, None);
            writes.push(insert(member, author));
        }
        writes.extend(self.key.iter().map(|(_, key)| insert(key.clone(), author)));
        writes
    }
}

/// `default_internal_user_params` for what the request leaves out; not for a proxy admin. Returns the default teams,
/// which are the configuration's to give.
fn defaults_of(fields: &mut Fields, defaults: &Map<String, Value>) -> Map<String, Value> {
    if fields.get("user_role").and_then(Value::as_str) == Some("proxy_admin") {
        return Map::new();
    }
    let mut teams = Map::new();
    for (name, value) in defaults {
        match name.as_str() {
            "available_teams" => {}
            "teams" => drop(teams.insert(name.clone(), value.clone())),
            _ => {
                if fields.get(name).and_then(Value::as_array).is_some_and(Vec::is_empty) {
                    fields.take(name);
                }
                fields.default(name, value);
            }
        }
    }
    teams
}

async fn new(State(admin): State<Admin>, actor: Actor, body: Body) -> Result<Response, Failure> {
    let defaults = &admin.state.config.litellm_settings.default_internal_user_params;
    let wanted = Wanted::read(Fields::parse(body)?, defaults)?;
    let Wanted { user, organizations, .. } = &wanted;
    every(&*admin.state.database, EntityKind::Team, &wanted.team_ids(), "teams").await?;
    every(&*admin.state.database, EntityKind::Organization, organizations, "organizations").await?;
    allowed(&admin, &actor, &wanted).await?;
    admin.is_free(EntityKind::User, &user.id, "user_id").await?;
    address_is_free(&admin, user.settings.email.as_deref(), &user.id).await?;
    admin.need_if(EntityKind::Budget, user.budget_id.as_deref(), "budget_id").await?;

    let author = actor.author();
    let mut done = admin.apply(&wanted.writes(&author), &author).await?.into_iter().flatten();
    let made = done.find(|entity| entity.kind == EntityKind::User);
    let made = made.ok_or_else(|| missing(EntityKind::User, &user.id, "user_id"))?;
    tracing::info!(user = made.id, "user made");
    let teams: Vec<&str> = wanted.teams.iter().map(|team| team.team_id.as_str()).collect();
    let mut shown = described(&made);
    shown.put("teams", &teams).put("organizations", organizations);
    if let Some((plain, key)) = &wanted.key {
        shown
            .put("key", plain.expose())
            .put("token", &key.id)
            .put("token_id", &key.id)
            .put("key_name", &key.name)
            .put("key_alias", &key.alias)
            .put("expires", &key.expires_ms.map(when::rfc3339_ms));
    }
    teams::warn(&mut shown, &wanted.warnings);
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
async fn allowed(admin: &Admin, actor: &Actor, wanted: &Wanted) -> Result<(), Failure> {
    if actor.is_admin() {
        return Ok(());
    }
    if wanted.organizations.is_empty() {
        return Err(actor.refusal("name `organizations` that you are an admin of"));
    }
    for organization in &wanted.organizations {
        admin.require_organization_admin(actor, organization).await?;
    }
    for team in &wanted.asked_teams {
        teams::require_above(admin, actor, team).await?;
    }
    match wanted.user.settings.role.as_deref() {
        Some("internal_user" | "internal_user_viewer") => Ok(()),
        _ => Err(actor.refusal("an organization's admin may only make internal users")),
    }
}

async fn delete(State(admin): State<Admin>, actor: Actor, body: Body) -> Result<Response, Failure> {
    let user_ids = ids(&mut Fields::parse(body)?, "user_ids")?;
    every(&*admin.state.database, EntityKind::User, &user_ids, "user_ids").await?;
    admin.remove(&actor, Going::Users(&user_ids)).await?;
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
