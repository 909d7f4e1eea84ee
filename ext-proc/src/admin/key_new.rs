//! `/key/generate` and `/key/service-account/generate`.

use attache_llm::error::ApiError;
use axum::extract::State;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::access::Actor;
use super::body::{Fields, refused};
use super::edit::insert;
use super::keys::Body;
use super::reply::Failure;
use super::routes_allowed::of_key_type;
use super::{Admin, entity_fields, key_rules};
use crate::config::Secret;
use crate::entity::{Entity, EntityKind, EntityRef, member_id};
use crate::keys;
use crate::store::Write;

/// LiteLLM's own minimum for keys that the caller chooses.
const SHORTEST_KEY: usize = 16;
const LONGEST_KEY: usize = 256;
/// Fewer different characters than this are no secret (`sk-aaaaaaaaaaaaaaaa`).
const FEWEST_CHARACTERS: usize = 6;

pub(super) async fn generate(
    State(admin): State<Admin>,
    actor: Actor,
    body: Body,
) -> Result<Response, Failure> {
    make(&admin, &actor, Fields::parse(body)?, false).await
}

/// A key of a team, for a program: it has no user.
pub(super) async fn generate_service_account(
    State(admin): State<Admin>,
    actor: Actor,
    body: Body,
) -> Result<Response, Failure> {
    let mut fields = Fields::parse(body)?;
    if fields.get("team_id").is_none() {
        return Err(refused("team_id", "must name the team of a service account").into());
    }
    if fields.take("user_id").is_some() {
        return Err(refused("user_id", "may not be given: a service account belongs to its team").into());
    }
    make(&admin, &actor, fields, true).await
}

async fn make(admin: &Admin, actor: &Actor, mut fields: Fields, service: bool) -> Result<Response, Failure> {
    let policy = admin.key_policy();
    key_rules::fill(&mut fields, policy.defaults);
    if let Some(dollars) = admin.state.config.litellm_settings.default_soft_budget {
        fields.default("soft_budget", &dollars.into());
    }
    if service {
        fields.take("user_id");
    }
    key_rules::bound(&mut fields, policy.bounds, true)?;
    allowed_to_make(admin, actor, &fields, policy.generation).await?;
    if policy.no_custom && fields.get("key").is_some() {
        return Err(refused("key", "may not be chosen here (`disable_custom_api_keys`)").into());
    }
    let key_type = fields.text("key_type", 32)?;
    let plain = plain_key(&mut fields, "key")?;
    let spend = fields.dollars("spend")?;
    let mut key = Entity::new(EntityKind::Key, keys::hash(plain.expose()));
    if admin.is_master(&key.id) {
        return Err(refused("key", "is taken").into());
    }
    key.name = keys::mask(plain.expose());
    key.expires_ms = entity_fields::expiry(&mut fields, crate::routing::now_ms())?;
    identity(&mut fields, &mut key)?;
    entity_fields::read(&mut fields, &mut key.settings)?;
    routes_of_type(key_type.as_deref(), &mut key)?;
    let warnings = entity_fields::keep_rest(fields, &mut key.settings)?;
    let member = match actor.is_admin() {
        true => None,
        false => owner(admin, actor, &mut key, service).await?,
    };
    admin.check_key(actor, None, &key).await?;
    let key = store(admin, actor, key, member, spend).await?;
    tracing::info!(key = key.name, alias = key.alias, "key generated");
    let mut shown = admin.flat(&key, Some(plain.expose()), &warnings).await?;
    shown.put("key_type", &key_type.as_deref().unwrap_or("default"));
    Ok(super::reply::private_json(&shown))
}

/// Stores a new key; `member` is the membership by which the caller may make it.
async fn store(
    admin: &Admin,
    actor: &Actor,
    key: Entity,
    member: Option<EntityRef>,
    spend: Option<i64>,
) -> Result<Entity, Failure> {
    let (author, id) = (actor.author(), key.id.clone());
    // A hash that is still good for a rotated key would never be looked up as the new one's.
    if admin.state.database.key(&id).await?.is_some() {
        return Err(refused("key", "exists already").into());
    }
    let mut writes = admin.anchors(&key).await?;
    writes.extend(member.map(Write::Expect));
    writes.push(insert(key, &author));
    if let Some(to_nanos) = spend.filter(|spend| *spend > 0) {
        if !actor.is_admin() {
            return Err(actor.refusal("only an admin may set `spend`"));
        }
        writes.push(Write::ResetSpend { of: EntityRef::new(EntityKind::Key, id), to_nanos });
    }
    let done = admin.apply(&writes, &author).await?;
    let key = done.into_iter().next_back().flatten();
    key.ok_or_else(|| ApiError::internal("a key was inserted and is not there").into())
}

/// `key_generation_settings`, and that a member of a team without the right to make keys makes none.
async fn allowed_to_make(
    admin: &Admin,
    actor: &Actor,
    fields: &Fields,
    settings: &serde_json::Map<String, serde_json::Value>,
) -> Result<(), Failure> {
    if actor.is_admin() || settings.is_empty() {
        return Ok(());
    }
    let team = fields.get("team_id").and_then(|team| team.as_str()).map(str::to_owned);
    let member = match &team {
        Some(team) => admin.membership(actor, team).await?,
        None => None,
    };
    let role = match &team {
        Some(_) => member.as_ref().map(|member| member.settings.role.as_deref().unwrap_or("user")),
        None => actor.user.as_ref().and_then(|user| user.settings.role.as_deref()),
    };
    Ok(key_rules::generation(settings, fields, team.is_some(), role)?)
}

/// Whom the key of a caller without the right to everything is for. Returns the caller's membership in the key's team if
/// it is that which lets it make the key.
async fn owner(
    admin: &Admin,
    actor: &Actor,
    key: &mut Entity,
    service: bool,
) -> Result<Option<EntityRef>, Failure> {
    let (team_admin, member) = match (&key.team_id, actor.user_id()) {
        (None, _) if actor.reach == super::access::Reach::No => {
            return Err(actor.refusal("`team_id` must name a team of which you are an admin"));
        }
        (None, _) => (false, None),
        (Some(team), _) if admin.is_team_admin(actor, team).await? => (true, None),
        (Some(team), Some(user)) if admin.team_permits(actor, team).await? => {
            (false, Some(EntityRef::new(EntityKind::Member, member_id(team, user))))
        }
        _ => return Err(actor.refusal("only an admin of the team may make its keys")),
    };
    if let Some(organization) = &key.organization_id
        && !admin.is_organization_admin(actor, organization).await?
    {
        return Err(actor.refusal("only an admin of the organization may make its keys"));
    }
    if service {
        return Ok(member);
    }
    let mine = actor.user_id().map(str::to_owned);
    if key.user_id.is_none() {
        key.user_id = mine;
    } else if key.user_id != mine {
        if !team_admin {
            return Err(actor.refusal("keys for other users are an admin's to make"));
        }
        if key.settings.allowed_routes.is_empty() {
            key.settings.allowed_routes = key_rules::FOR_OTHERS.map(str::to_owned).into();
        }
    }
    Ok(member)
}

/// Who a key is and whose, as far as the request says.
///
/// # Errors
/// 400 or 422 naming the field.
pub(super) fn identity(fields: &mut Fields, key: &mut Entity) -> Result<(), ApiError> {
    if fields.has("key_alias") {
        key.alias = entity_fields::name(fields, "key_alias")?;
    }
    if fields.has("team_id") {
        key.team_id = entity_fields::name(fields, "team_id")?;
    }
    if fields.has("user_id") {
        key.user_id = entity_fields::name(fields, "user_id")?;
    }
    if fields.has("organization_id") {
        key.organization_id = entity_fields::name(fields, "organization_id")?;
    }
    if fields.has("budget_id") {
        key.budget_id = entity_fields::name(fields, "budget_id")?;
    }
    if fields.has("blocked") {
        key.blocked = fields.flag("blocked")?.unwrap_or(false);
    }
    Ok(())
}

/// `key_type` stands for routes, which `allowed_routes` overrides.
///
/// # Errors
/// 400 for a type that nobody knows.
pub(super) fn routes_of_type(key_type: Option<&str>, key: &mut Entity) -> Result<(), ApiError> {
    let Some(key_type) = key_type else { return Ok(()) };
    let routes = of_key_type(key_type)
        .ok_or_else(|| refused("key_type", "must be llm_api, management, read_only or default"))?;
    if key.settings.allowed_routes.is_empty() {
        key.settings.allowed_routes = routes.iter().map(|route| (*route).to_owned()).collect();
    }
    Ok(())
}

/// The caller's own key, or 16 random bytes as LiteLLM writes them.
///
/// # Errors
/// 400 for a key that is short, easy to guess, or could not be sent.
pub(super) fn plain_key(fields: &mut Fields, field: &'static str) -> Result<Secret, ApiError> {
    let Some(key) = fields.text(field, LONGEST_KEY)? else {
        return Ok(Secret::new(format!("sk-{}", URL_SAFE_NO_PAD.encode(rand::random::<[u8; 16]>()))));
    };
    let Some(secret) = key.strip_prefix("sk-") else {
        return Err(refused(field, "must start with sk-"));
    };
    if key.len() < SHORTEST_KEY {
        return Err(refused(field, "must have 16 characters or more"));
    }
    if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(refused(field, "must be printable ASCII without spaces"));
    }
    let mut different: Vec<u8> = secret.bytes().collect();
    different.sort_unstable();
    different.dedup();
    if different.len() < FEWEST_CHARACTERS {
        return Err(refused(field, "is too easy to guess: it has fewer than 6 different characters"));
    }
    Ok(Secret::new(key))
}
