//! `/key/*`: the routes, who may touch which key, and how a key is shown.

use attache_llm::contract::MASTER_KEY_HASH;
use attache_llm::error::ApiError;
use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use axum::routing::{get, post};
use serde_json::{Value, json as object};

use super::access::{Actor, Admins, Reach, Role};
use super::body::{Fields, refused};
use super::query::Query;
use super::reply::{Failure, not_found, private_json};
use super::shown::Shown;
use super::teams::list::{PERMISSIONS, key_route};
use super::{Admin, entity_fields, key_change, key_list, key_new, key_rotate, when};
use crate::entity::{Entity, EntityKind};
use crate::keys;

pub(super) type Body = Result<Bytes, BytesRejection>;

/// Keys of one call that names several.
pub(super) const MOST_KEYS: usize = 1_000;
/// Longest key, alias or hash that is looked for, bytes.
pub(super) const LONGEST_KEY: usize = 512;

pub(super) fn routes() -> Router<Admin> {
    Router::new()
        .route("/key/generate", post(key_new::generate))
        .route("/key/service-account/generate", post(key_new::generate_service_account))
        .route("/key/update", post(key_change::update))
        .route("/key/bulk_update", post(key_change::bulk_update))
        .route("/key/delete", post(key_change::delete))
        .route("/key/block", post(key_change::block))
        .route("/key/unblock", post(key_change::unblock))
        .route("/key/{key}/reset_spend", post(key_change::reset_spend))
        .route("/key/regenerate", post(key_rotate::regenerate))
        .route("/key/{key}/regenerate", post(key_rotate::regenerate_named))
        .route("/key/info", get(info))
        .route("/v2/key/info", post(infos))
        .route("/key/health", post(health))
        .route("/key/list", get(key_list::list))
        .route("/key/aliases", get(key_list::aliases))
}

/// Hash of a key that a client names: plain, or as its hash.
pub(super) fn hash_of(key: &str) -> String {
    if key.starts_with("sk-") { keys::hash(key) } else { key.to_ascii_lowercase() }
}

pub(super) fn unknown_key() -> Failure {
    not_found("Key not found in the database.".to_owned(), "key")
}

impl Admin {
    pub(super) fn is_master(&self, hash: &str) -> bool {
        hash == MASTER_KEY_HASH || self.state.keys.is_master(hash)
    }

    /// The stored key that a client names.
    ///
    /// # Errors
    /// 400 for the master key, 404 for an unknown one.
    pub(super) async fn named_key(&self, named: &str) -> Result<Entity, Failure> {
        let hash = hash_of(named);
        if self.is_master(&hash) {
            return Err(refused("key", "may not be the master key").into());
        }
        self.resolve(&hash).await?.ok_or_else(unknown_key)
    }

    /// May the caller use its route on this key?
    pub(super) async fn may_touch(&self, actor: &Actor, key: &Entity) -> Result<bool, Failure> {
        if actor.all() {
            return Ok(true);
        }
        let itself = actor.key_id() == Some(key.id.as_str());
        if actor.role == Role::Key {
            return Ok(actor.reach == Reach::Own && itself);
        }
        let own = itself || (key.user_id.is_some() && key.user_id.as_deref() == actor.user_id());
        // What a member may do with a key of the team is the team's to say, be it the member's own.
        if own && actor.reach == Reach::Own && (key.team_id.is_none() || actor.reads()) {
            return Ok(true);
        }
        let Some(team) = &key.team_id else { return Ok(false) };
        if actor.admins == Admins::Team && self.is_team_admin(actor, team).await? {
            return Ok(true);
        }
        self.team_permits(actor, team).await
    }

    /// 403 unless [`Self::may_touch`].
    pub(super) async fn require_key(&self, actor: &Actor, key: &Entity) -> Result<(), Failure> {
        match self.may_touch(actor, key).await? {
            true => Ok(()),
            false => Err(actor.refusal("the key belongs to somebody else")),
        }
    }

    /// Does the team let its members use this route (`team_member_permissions`)? By default they may look.
    pub(super) async fn team_permits(&self, actor: &Actor, team_id: &str) -> Result<bool, Failure> {
        let writes = !actor.reads();
        if (writes && actor.role != Role::Internal) || self.membership(actor, team_id).await?.is_none() {
            return Ok(false);
        }
        let Some(team) = self.find(EntityKind::Team, team_id).await? else { return Ok(false) };
        let asked = key_route(actor.route());
        Ok(match team.settings.rest.get(PERMISSIONS) {
            Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).any(|r| key_route(r) == asked),
            _ => asked == "/key/info",
        })
    }

    /// Keys with their spend, ready to be shown.
    pub(super) async fn describe_keys(&self, keys: &[Entity]) -> Result<Vec<Shown>, Failure> {
        let spend = self.spend_of(keys).await?;
        Ok(keys.iter().zip(spend).map(|(key, nanos)| describe(key, nanos)).collect())
    }

    pub(super) async fn describe_key(&self, key: &Entity) -> Result<Shown, Failure> {
        let shown = self.describe_keys(std::slice::from_ref(key)).await?;
        shown.into_iter().next().ok_or_else(|| ApiError::internal("a key without a description").into())
    }

    /// `key`, `token` and `token_id` before the description: LiteLLM's answer to a change.
    pub(super) async fn answer(
        &self,
        key: &Entity,
        sent: Option<&str>,
        warnings: &[String],
    ) -> Result<Response, Failure> {
        Ok(private_json(&self.flat(key, sent, warnings).await?))
    }

    pub(super) async fn flat(
        &self,
        key: &Entity,
        sent: Option<&str>,
        warnings: &[String],
    ) -> Result<Shown, Failure> {
        let mut shown = Shown::default();
        if let Some(sent) = sent {
            shown.put("key", sent);
        }
        shown.put("token", &key.id).put("token_id", &key.id);
        if !warnings.is_empty() {
            shown.put("warnings", warnings);
        }
        shown.append(self.describe_key(key).await?);
        Ok(shown)
    }
}

/// A key as LiteLLM describes one. The plain key is in none of it.
fn describe(key: &Entity, spend_nanos: i64) -> Shown {
    let mut shown = Shown::default();
    shown
        .put("key_name", &key.name)
        .put("key_alias", &key.alias)
        .put("user_id", &key.user_id)
        .put("team_id", &key.team_id)
        .put("organization_id", &key.organization_id)
        .put("expires", &key.expires_ms.map(when::rfc3339_ms))
        .put("config", &object!({}))
        .put("permissions", &object!({}));
    entity_fields::describe_spent(key, spend_nanos, &mut shown);
    shown
}

/// `/key/info`: without `key`, the caller's own.
async fn info(
    State(admin): State<Admin>,
    actor: Actor,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let asked = Query::parse(query.as_deref()).take("key");
    let hash = match (&asked, actor.key_id()) {
        (Some(key), _) => hash_of(key),
        (None, Some(own)) => own.to_owned(),
        (None, None) => return Ok(private_json(&master_info())),
    };
    if admin.is_master(&hash) {
        return match actor.all() {
            true => Ok(private_json(&master_info())),
            false => Err(unknown_key()),
        };
    }
    // Spend is current to the last request.
    admin.flush_soon().await;
    let key = admin.resolve(&hash).await?.ok_or_else(unknown_key)?;
    admin.require_key(&actor, &key).await?;
    let mut shown = Shown::default();
    shown.put("key", &key.id).put("info", &admin.describe_key(&key).await?);
    Ok(private_json(&shown))
}

fn master_info() -> Value {
    object!({"key": MASTER_KEY_HASH, "info": {"key_name": "sk-...", "key_alias": null, "models": [],
        "user_id": "default_user_id", "user_role": "proxy_admin", "blocked": false, "expires": null}})
}

/// `/v2/key/info`: several at once; those that are unknown, or somebody else's, are left out.
async fn infos(State(admin): State<Admin>, actor: Actor, body: Body) -> Result<Response, Failure> {
    let sent = Fields::parse(body)?.texts("keys", MOST_KEYS)?.unwrap_or_default();
    if sent.is_empty() {
        return Err(refused("keys", "must name the keys").into());
    }
    admin.flush_soon().await;
    let mut found: Vec<Entity> = Vec::new();
    for named in &sent {
        let hash = hash_of(named);
        if admin.is_master(&hash) || found.iter().any(|key| key.id == hash) {
            continue;
        }
        if let Some(key) = admin.resolve(&hash).await?
            && admin.may_touch(&actor, &key).await?
        {
            found.push(key);
        }
    }
    let described = admin.describe_keys(&found).await?;
    let infos: Vec<Shown> = found
        .iter()
        .zip(described)
        .map(|(key, described)| {
            let mut shown = Shown::default();
            shown.put("token", &key.id).append(described);
            shown
        })
        .collect();
    let mut shown = Shown::default();
    shown.put("key", &sent).put("info", &infos);
    Ok(private_json(&shown))
}

/// `/key/health`: a key that gets here is a good one.
async fn health(_: Actor) -> Response {
    private_json(&object!({"key": "healthy", "logging_callbacks": null}))
}
