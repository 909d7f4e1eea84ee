//! `/key/update`, `/key/bulk_update`, `/key/delete`, `/key/block`, `/key/unblock` and `/key/{key}/reset_spend`.

use attache_llm::error::ApiError;
use axum::extract::{Path, State};
use axum::response::Response;
use serde_json::{Value, json as object};

use super::access::Actor;
use super::body::{Fields, refused};
use super::edit::{TRIES, busy, replace};
use super::keys::{Body, LONGEST_KEY, MOST_KEYS, unknown_key};
use super::money::Dollars;
use super::reply::{Failure, not_found, private_json};
use super::shown::Shown;
use super::{Admin, entity_fields, key_new, key_rules};
use crate::entity::{Entity, EntityKind, EntityRef};
use crate::routing::now_ms;
use crate::store::{Filter, Write};

/// Keys of one `/key/bulk_update`.
const MOST_UPDATED: usize = 500;

/// Applies the fields of a change to a key. Returns warnings.
///
/// # Errors
/// 400 or 422 naming the field.
pub(super) fn apply(mut fields: Fields, key: &mut Entity, now_ms: u64) -> Result<Vec<String>, ApiError> {
    if fields.has("duration") {
        key.expires_ms = entity_fields::expiry(&mut fields, now_ms)?;
    }
    let key_type = fields.text("key_type", 32)?;
    key_new::identity(&mut fields, key)?;
    entity_fields::read(&mut fields, &mut key.settings)?;
    key_new::routes_of_type(key_type.as_deref(), key)?;
    entity_fields::keep_rest(fields, &mut key.settings)
}

pub(super) async fn update(
    State(admin): State<Admin>,
    actor: Actor,
    body: Body,
) -> Result<Response, Failure> {
    let mut fields = Fields::parse(body)?;
    let sent = named(&mut fields)?;
    let (key, warnings) = change(&admin, &actor, &sent, fields).await?;
    admin.answer(&key, Some(&sent), &warnings).await
}

fn named(fields: &mut Fields) -> Result<String, ApiError> {
    fields.text("key", LONGEST_KEY)?.ok_or_else(|| refused("key", "must name the key"))
}

/// Changes one key by the fields of a request.
async fn change(
    admin: &Admin,
    actor: &Actor,
    sent: &str,
    mut fields: Fields,
) -> Result<(Entity, Vec<String>), Failure> {
    key_rules::bound(&mut fields, admin.key_policy().bounds, false)?;
    let spend = fields.dollars("spend")?;
    if spend.is_some() && !actor.is_admin() {
        return Err(actor.refusal("only an admin may set `spend`"));
    }
    let author = actor.author();
    for _ in 0..TRIES {
        let before = admin.named_key(sent).await?;
        admin.require_key(actor, &before).await?;
        let mut after = before.clone();
        let warnings = apply(fields.clone(), &mut after, now_ms())?;
        admin.check_key(actor, Some(&before), &after).await?;
        let of = before.reference();
        let mut writes = match moved(&before, &after) {
            true => admin.anchors(&after).await?,
            false => Vec::new(),
        };
        writes.push(replace(before, after, &author));
        writes.extend(spend.map(|to_nanos| Write::ResetSpend { of, to_nanos }));
        if let Some(done) = admin.try_apply(&writes, &author).await? {
            let key = done.into_iter().next_back().flatten().ok_or_else(unknown_key)?;
            tracing::info!(key = key.name, "key changed");
            return Ok((key, warnings));
        }
    }
    Err(busy())
}

/// Does the key belong to somebody else now?
pub(super) fn moved(before: &Entity, after: &Entity) -> bool {
    let of =
        |key: &Entity| [&key.team_id, &key.user_id, &key.organization_id, &key.budget_id].map(Clone::clone);
    of(before) != of(after)
}

/// Many changes, each for itself.
pub(super) async fn bulk_update(
    State(admin): State<Admin>,
    actor: Actor,
    body: Body,
) -> Result<Response, Failure> {
    let list = Fields::parse(body)?.objects("keys", MOST_UPDATED)?.unwrap_or_default();
    if list.is_empty() {
        return Err(refused("keys", "must list the changes").into());
    }
    let total = list.len();
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for mut fields in list {
        let sent = named(&mut fields)?;
        let mut shown = Shown::default();
        shown.put("key", &sent);
        match change(&admin, &actor, &sent, fields).await {
            Ok((key, _)) => {
                shown.put("key_info", &admin.describe_key(&key).await?);
                good.push(shown);
            }
            Err(failure) => {
                shown.put("failed_reason", &failure.message());
                bad.push(shown);
            }
        }
    }
    let mut shown = Shown::default();
    shown.put("total_requested", &total).put("successful_updates", &good).put("failed_updates", &bad);
    Ok(private_json(&shown))
}

pub(super) async fn delete(
    State(admin): State<Admin>,
    actor: Actor,
    body: Body,
) -> Result<Response, Failure> {
    let mut fields = Fields::parse(body)?;
    let sent = fields.texts("keys", MOST_KEYS)?.unwrap_or_default();
    let aliases = fields.texts("key_aliases", MOST_KEYS)?.unwrap_or_default();
    if sent.is_empty() && aliases.is_empty() {
        return Err(refused("keys", "or `key_aliases` must name what to delete").into());
    }
    // (as sent, key)
    let mut targets: Vec<(String, Entity)> = Vec::new();
    for sent in sent {
        let hash = super::keys::hash_of(&sent);
        if admin.is_master(&hash) {
            return Err(refused("keys", "may not name the master key").into());
        }
        targets.extend(admin.resolve(&hash).await?.map(|key| (sent, key)));
    }
    for alias in aliases {
        targets.extend(with_alias(&admin, &alias).await?.map(|key| (alias, key)));
    }
    for (_, key) in &targets {
        admin.require_key(&actor, key).await?;
    }
    let mut writes: Vec<EntityRef> = targets.iter().map(|(_, key)| key.reference()).collect();
    writes.sort();
    writes.dedup();
    if writes.is_empty() {
        return Err(not_found("None of these keys is in the database.".to_owned(), "keys"));
    }
    let writes: Vec<Write> = writes.into_iter().map(Write::Delete).collect();
    let gone = admin.apply(&writes, &actor.author()).await?;
    let gone: Vec<&str> = gone.iter().flatten().map(|key| key.id.as_str()).collect();
    let deleted = targets.iter().filter(|(_, key)| gone.contains(&key.id.as_str()));
    let deleted: Vec<&str> = deleted.map(|(sent, _)| sent.as_str()).collect();
    tracing::info!(keys = gone.len(), "keys deleted");
    Ok(private_json(&object!({"deleted_keys": deleted})))
}

pub(super) async fn with_alias(admin: &Admin, alias: &str) -> Result<Option<Entity>, Failure> {
    let filter =
        Filter { kind: Some(EntityKind::Key), alias: Some(alias.to_owned()), limit: 1, ..Filter::default() };
    Ok(admin.state.database.list(&filter).await?.entities.into_iter().next())
}

pub(super) async fn block(State(admin): State<Admin>, actor: Actor, body: Body) -> Result<Response, Failure> {
    set_blocked(&admin, &actor, body, true).await
}

pub(super) async fn unblock(
    State(admin): State<Admin>,
    actor: Actor,
    body: Body,
) -> Result<Response, Failure> {
    set_blocked(&admin, &actor, body, false).await
}

async fn set_blocked(admin: &Admin, actor: &Actor, body: Body, blocked: bool) -> Result<Response, Failure> {
    let sent = named(&mut Fields::parse(body)?)?;
    let flag = Value::Bool(blocked);
    let fields = Fields::of([("blocked".to_owned(), flag)].into_iter().collect());
    let (key, _) = change(admin, actor, &sent, fields).await?;
    admin.answer(&key, None, &[]).await
}

/// `{"reset_to": dollars}`, at most what is spent.
pub(super) async fn reset_spend(
    State(admin): State<Admin>,
    actor: Actor,
    Path(sent): Path<String>,
    body: Body,
) -> Result<Response, Failure> {
    let to = Fields::parse(body)?.dollars("reset_to")?;
    let to_nanos = to.ok_or_else(|| refused("reset_to", "must be the spend in dollars to go on from"))?;
    admin.flush_soon().await;
    let key = admin.named_key(&sent).await?;
    admin.require_key(&actor, &key).await?;
    let spent = admin.spend_of(std::slice::from_ref(&key)).await?.into_iter().next().unwrap_or(0);
    if to_nanos > spent.max(0) {
        let why = format!("may be {} at most, which is what the key has spent", Dollars(spent));
        return Err(refused("reset_to", &why).into());
    }
    let write = Write::ResetSpend { of: key.reference(), to_nanos };
    let done = admin.apply(&[write], &actor.author()).await?;
    let after = done.into_iter().next().flatten().ok_or_else(unknown_key)?;
    tracing::info!(key = after.name, "spend of a key set");
    let mut shown = Shown::default();
    shown
        .put("key_hash", &after.id)
        .put("spend", &Dollars(to_nanos))
        .put("previous_spend", &Dollars(spent))
        .money("max_budget", after.settings.max_budget_nanos);
    Ok(private_json(&shown))
}
