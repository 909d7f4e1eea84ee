use attache_llm::contract::MASTER_KEY_HASH;
use attache_llm::error::ApiError;

use crate::entity::{Entity, Principal, member_parts};

/// Role of the master key.
pub const PROXY_ADMIN: &str = "proxy_admin";

/// Who calls the admin API.
#[derive(Debug, Clone, PartialEq)]
pub enum Caller {
    /// The master key: may do everything.
    Master,
    /// A virtual key that is neither blocked nor expired, and everyone behind it.
    Key(Box<Principal>),
}

impl Caller {
    /// Id in records: the key's hash, or [`MASTER_KEY_HASH`].
    #[must_use]
    pub fn id(&self) -> &str {
        self.key().map_or(MASTER_KEY_HASH, |key| &key.id)
    }

    /// The key; `None` for the master key.
    #[must_use]
    pub fn key(&self) -> Option<&Entity> {
        match self {
            Self::Master => None,
            Self::Key(principal) => principal.key.as_ref().map(|key| &*key.entity),
        }
    }

    /// Owner of the key.
    #[must_use]
    pub fn user_id(&self) -> Option<&str> {
        self.key()?.user_id.as_deref()
    }

    /// Team of the key.
    #[must_use]
    pub fn team_id(&self) -> Option<&str> {
        self.key()?.team_id.as_deref()
    }

    /// Role of the owner (`proxy_admin`, `internal_user`, ...); the master key is a `proxy_admin`.
    #[must_use]
    pub fn role(&self) -> Option<&str> {
        match self {
            Self::Master => Some(PROXY_ADMIN),
            Self::Key(principal) => principal.user.as_ref()?.entity.settings.role.as_deref(),
        }
    }

    /// Role (`admin` or `user`) of the owner in the key's own team; `None` for other teams: ask
    /// [`super::KeyDirectory::team_role`].
    #[must_use]
    pub fn team_role(&self, team: &str) -> Option<&str> {
        let Self::Key(principal) = self else { return None };
        let member = &principal.member.as_ref()?.entity;
        let of = member_parts(&member.id).map(|(of, _)| of);
        if of == Some(team) { member.settings.role.as_deref() } else { None }
    }
}

/// May somebody with this key come in at all?
///
/// # Errors
/// 401 when the key is blocked or expired, or when its team, its owner or its organisation is blocked.
pub fn usable(principal: &Principal, now_ms: u64) -> Result<(), ApiError> {
    let Some(key) = &principal.key else { return Ok(()) };
    let holders = [&principal.team, &principal.user, &principal.organization];
    if key.entity.blocked || holders.into_iter().flatten().any(|holder| holder.entity.blocked) {
        return Err(ApiError::blocked_key());
    }
    if key.entity.expires_ms.is_some_and(|expires| expires <= now_ms) {
        return Err(ApiError::expired_key(&key.entity.name));
    }
    Ok(())
}
