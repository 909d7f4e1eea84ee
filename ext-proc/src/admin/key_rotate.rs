//! `/key/regenerate`: the same key under another secret.

use axum::extract::{Path, State};
use axum::response::Response;

use super::access::Actor;
use super::body::{Fields, refused};
use super::edit::{TRIES, busy, replace};
use super::keys::{Body, LONGEST_KEY, unknown_key};
use super::reply::Failure;
use super::{Admin, entity_fields, key_change, key_new, key_rules, when};
use crate::entity::Entity;
use crate::keys;
use crate::routing::now_ms;
use crate::store::Write;

pub(super) async fn regenerate(
    State(admin): State<Admin>,
    actor: Actor,
    body: Body,
) -> Result<Response, Failure> {
    let mut fields = Fields::parse(body)?;
    let sent = match (fields.text("key", LONGEST_KEY)?, actor.key_id()) {
        (Some(key), _) => key,
        (None, Some(own)) => own.to_owned(),
        (None, None) => return Err(refused("key", "must name the key").into()),
    };
    rotate(&admin, &actor, &sent, fields).await
}

pub(super) async fn regenerate_named(
    State(admin): State<Admin>,
    actor: Actor,
    Path(sent): Path<String>,
    body: Body,
) -> Result<Response, Failure> {
    let mut fields = Fields::parse(body)?;
    fields.take("key");
    rotate(&admin, &actor, &sent, fields).await
}

async fn rotate(admin: &Admin, actor: &Actor, sent: &str, mut fields: Fields) -> Result<Response, Failure> {
    if fields.take("new_master_key").is_some() {
        let why = "cannot be set here: change `general_settings.master_key` and restart";
        return Err(refused("new_master_key", why).into());
    }
    let policy = admin.key_policy();
    if policy.no_custom && fields.get("new_key").is_some() {
        return Err(refused("new_key", "may not be chosen here (`disable_custom_api_keys`)").into());
    }
    let grace = fields.text("grace_period", entity_fields::LONGEST_DURATION)?;
    let now = now_ms();
    let grace_until_ms = match grace.as_deref() {
        None | Some("0" | "0s") => None,
        Some(text) => Some(when::expiry(text, now).ok_or_else(|| {
            refused("grace_period", "must be a number and a unit, like 30s, 30m, 12h or 7d")
        })?),
    };
    key_rules::bound(&mut fields, policy.bounds, false)?;
    let plain = key_new::plain_key(&mut fields, "new_key")?;
    let hash = keys::hash(plain.expose());
    if admin.is_master(&hash) || admin.state.database.key(&hash).await?.is_some() {
        return Err(refused("new_key", "is taken").into());
    }
    let author = actor.author();
    for _ in 0..TRIES {
        let before = admin.named_key(sent).await?;
        admin.require_key(actor, &before).await?;
        let mut changed = before.clone();
        let warnings = key_change::apply(fields.clone(), &mut changed, now)?;
        admin.check_key(actor, Some(&before), &changed).await?;
        if !key_rules::safe_to_hold(actor, &changed) {
            return Err(actor.refusal("whoever holds the new key could act as its user"));
        }
        let from = before.id.clone();
        let to = renamed(changed.clone(), &hash, keys::mask(plain.expose()));
        // The replacement sees to it that nothing that was changed meanwhile, a block for one, is lost.
        let to = Box::new(Entity { updated_by: Some(author.user.clone()), ..to });
        let mut writes = match key_change::moved(&before, &changed) {
            true => admin.anchors(&changed).await?,
            false => Vec::new(),
        };
        writes.extend([replace(before, changed, &author), Write::Rotate { from, to, grace_until_ms }]);
        if let Some(done) = admin.try_apply(&writes, &author).await? {
            let key = done.into_iter().next_back().flatten().ok_or_else(unknown_key)?;
            tracing::info!(key = key.name, "key regenerated");
            return admin.answer(&key, Some(plain.expose()), &warnings).await;
        }
    }
    Err(busy())
}

/// The key under its new hash; it goes on with the counters of the first one.
fn renamed(mut key: Entity, hash: &str, name: String) -> Entity {
    key.settings.account = Some(key.account().to_owned());
    hash.clone_into(&mut key.id);
    key.name = name;
    key
}
