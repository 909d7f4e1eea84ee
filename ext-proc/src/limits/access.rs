//! Who may come in, and which models everyone's lists allow.

use attache_llm::error::ApiError;

use super::Rules;
use crate::entity::{Entity, EntityKind, Principal};

/// A list that must allow a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct List<'a> {
    pub kind: EntityKind,
    /// Whose it is.
    pub id: &'a str,
    /// As [`crate::routing::Access`] reads them; never empty.
    pub models: &'a [String],
}

/// Every `models` list that must allow what is asked for: of the key, its team, the member of the team, the owner (for
/// keys without a team), the organisation and the end user. Empty ones allow everything and are left out. None for the
/// master key.
#[must_use]
pub fn lists(principal: &Principal) -> Vec<List<'_>> {
    let Some(key) = &principal.key else { return Vec::new() };
    let personal = principal.team.is_none() && key.entity.team_id.is_none();
    let end_user = principal.end_user.as_ref().and_then(|(_, holder)| holder.as_ref());
    let holders = [
        Some(key),
        principal.team.as_ref(),
        principal.member.as_ref(),
        principal.user.as_ref().filter(|_| personal),
        principal.organization.as_ref(),
        end_user,
    ];
    let lists = holders.into_iter().flatten().map(|holder| &*holder.entity);
    lists
        .filter(|entity| !entity.settings.models.is_empty())
        .map(|entity| List { kind: entity.kind, id: &entity.id, models: &entity.settings.models })
        .collect()
}

/// The name to use instead of `model`, by the aliases of the key, else of its team.
#[must_use]
pub fn rename<'a>(principal: &'a Principal, model: &str) -> Option<&'a str> {
    let holders = [&principal.key, &principal.team].into_iter().flatten();
    holders
        .map(|holder| &holder.entity.settings.aliases)
        .find_map(|aliases| aliases.get(model))
        .map(String::as_str)
}

/// May everyone of the principal make requests at all (`now_ms`: Unix milliseconds)?
///
/// # Errors
/// 401 naming who is blocked, or that the key is expired.
pub fn check(principal: &Principal, now_ms: u64) -> Result<(), ApiError> {
    let Some(key) = &principal.key else { return Ok(()) };
    if key.entity.blocked {
        return Err(ApiError::blocked_key());
    }
    let end_user = principal.end_user.as_ref().and_then(|(_, holder)| holder.as_ref());
    let others = [
        ("Team", principal.team.as_ref()),
        ("User", principal.user.as_ref()),
        ("TeamMember", principal.member.as_ref()),
        ("Organization", principal.organization.as_ref()),
        ("End User", end_user),
    ];
    for (what, holder) in others {
        if let Some(holder) = holder.filter(|holder| holder.entity.blocked) {
            return Err(ApiError::blocked_entity(what, &name(&holder.entity)));
        }
    }
    if key.entity.expires_ms.is_some_and(|expires| expires <= now_ms) {
        return Err(ApiError::expired_key(&key.entity.name));
    }
    Ok(())
}

fn name(entity: &Entity) -> String {
    entity.id.replace(crate::entity::SEPARATOR, ":")
}

/// Does the request name its end user, if it has to?
///
/// # Errors
/// 400 naming the body's `user`.
pub fn require_user(rules: &Rules, principal: &Principal) -> Result<(), ApiError> {
    if rules.require_user && principal.key.is_some() && principal.end_user.is_none() {
        return Err(ApiError::user_required());
    }
    Ok(())
}

#[cfg(test)]
#[path = "access_tests.rs"]
mod tests;
