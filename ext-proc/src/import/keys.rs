//! Virtual keys, and the hashes of rotated ones.

use super::merge::Wanted;
use super::people::{Around, renames_of, rest, settings, wanted};
use super::row::{Found, Row, error};
use crate::entity::{Entity, EntityKind};

/// Team of the keys that LiteLLM's user interface makes for its own sessions.
const SESSIONS: &str = "litellm-dashboard";

/// Why a row is left alone, or what it becomes.
pub(super) enum Key {
    Wanted(Box<Wanted>),
    Skipped(String, &'static str),
}

pub(super) fn key(row: &Row, around: &Around) -> Found<Key> {
    let hash = hash(row, "token")?;
    if row.text("team_id")?.as_deref() == Some(SESSIONS) {
        return Ok(Key::Skipped(hash.chars().take(12).collect(), "a session of LiteLLM's user interface"));
    }
    let mut entity = Entity::new(EntityKind::Key, hash);
    entity.name = row.name("key_name")?.filter(|name| masked(name)).unwrap_or_default();
    entity.alias = row.name("key_alias")?;
    entity.team_id = row.name("team_id")?;
    entity.user_id = row.name("user_id")?;
    entity.organization_id = row.name("organization_id")?;
    entity.blocked = row.flag("blocked")?;
    entity.expires_ms = row.time("expires")?;
    settings(row, &mut entity.settings)?;
    entity.settings.aliases = renames_of(row.json("aliases")?);
    entity.settings.allowed_routes = row.texts("allowed_routes")?;
    entity.settings.budget_fallbacks = row
        .object("budget_fallbacks")?
        .into_iter()
        .filter_map(|(model, list)| Some((model, serde_json::from_value(list).ok()?)))
        .collect();
    rest(
        row,
        &mut entity.settings,
        &[
            "config",
            "router_settings",
            "agent_id",
            "project_id",
            "permissions",
            "allowed_cache_controls",
            "key_type",
            "policies",
            "access_group_ids",
            "object_permission_id",
            "auto_rotate",
            "rotation_interval",
            "budget_limits",
        ],
    )?;
    wanted(entity, row, around).map(|wanted| Key::Wanted(Box::new(wanted)))
}

/// The old hash of a key, until its grace period ends.
pub(super) fn rotated(row: &Row, around: &Around) -> Found<Key> {
    let (old, new) = (hash(row, "token")?, hash(row, "active_token_id")?);
    let until = row.time("revoke_at")?.ok_or_else(|| error("revoke_at", "it is empty"))?;
    if until <= around.now_ms {
        return Ok(Key::Skipped(old.chars().take(12).collect(), "its grace period is over"));
    }
    let mut entity = Entity::new(EntityKind::RotatedKey, old);
    entity.expires_ms = Some(until);
    entity.settings.successor = Some(new);
    Ok(Key::Wanted(Box::new(Wanted::new(entity, 0))))
}

/// Never shows the value: an ancient LiteLLM stored the plain key.
fn hash(row: &Row, column: &str) -> Found<String> {
    let hash = row.id(column)?;
    let hex = hash.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    match hash.len() == 64 && hex {
        true => Ok(hash),
        false => Err(error(column, "it is no SHA-256 hash")),
    }
}

/// A name that shows no more than `sk-...1234`.
fn masked(name: &str) -> bool {
    name.contains("...") && name.chars().count() <= 16
}
