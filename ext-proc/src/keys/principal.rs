//! From a key's id to everyone in whose name a request is made.

use std::sync::Arc;

use attache_llm::contract::MASTER_KEY_HASH;

use super::cache::{Answer, Ask, Cache, Found};
use crate::entity::{Entity, EntityKind, EntityRef, Holder, Principal, member_id};
use crate::store::StoreError;

/// Round trips of one resolution at most: a key, keys that it was rotated to, their team and user, what those refer to.
const ROUNDS: usize = 12;
/// Rotations followed from an old hash to the key that is in force.
const ROTATIONS: usize = 8;

/// Whom else a request concerns, as the request says.
#[derive(Debug, Clone, Copy, Default)]
pub struct Who<'a> {
    /// Whom the request is made for.
    pub end_user: Option<&'a str>,
    /// Id of the budget of end users without one of their own (`max_end_user_budget_id`).
    pub end_user_budget: Option<&'a str>,
    /// Tags of the request.
    pub tags: &'a [String],
}

/// One resolution: what it fetched itself, and what it still lacks.
pub(super) struct Look<'a> {
    cache: &'a Arc<Cache>,
    fetched: Vec<Answer>,
    lacking: Vec<Ask>,
}

impl<'a> Look<'a> {
    pub(super) fn new(cache: &'a Arc<Cache>) -> Self {
        Self { cache, fetched: Vec::new(), lacking: Vec::new() }
    }

    /// Calls `resolve` until it lacks nothing.
    async fn until_whole<T>(&mut self, mut resolve: impl FnMut(&mut Self) -> T) -> Result<T, StoreError> {
        for _ in 0..ROUNDS {
            let outcome = resolve(self);
            if self.lacking.is_empty() {
                return Ok(outcome);
            }
            let lacking = std::mem::take(&mut self.lacking);
            self.fetched.extend(self.cache.fetch(lacking).await?);
        }
        Err(StoreError::Broken { backend: "key store", reason: "references without an end".to_owned() })
    }

    /// The entity as far as it is known; what is not known is put on the list.
    fn find(&mut self, kind: EntityKind, id: &str) -> Option<Arc<Entity>> {
        // What was fetched for this very request may have been changed and forgotten since: it is still an answer.
        if let Some((_, entity)) = self.fetched.iter().find(|(of, _)| of.kind == kind && of.id == id) {
            return entity.clone();
        }
        match self.cache.find(kind, id) {
            Found::Entity(entity) => Some(entity),
            Found::Nobody => None,
            Found::Ask(stale) => {
                if !self.lacking.iter().any(|ask| ask.of.kind == kind && ask.of.id == id) {
                    self.lacking.push(Ask { of: EntityRef::new(kind, id), stale });
                }
                None
            }
        }
    }

    fn holder(&mut self, kind: EntityKind, id: &str) -> Option<Holder> {
        let entity = self.find(kind, id)?;
        Some(self.with_budget(entity))
    }

    fn with_budget(&mut self, entity: Arc<Entity>) -> Holder {
        let budget = entity.budget_id.as_deref().and_then(|id| self.find(EntityKind::Budget, id));
        Holder { entity, budget }
    }

    /// The key behind a hash: of a rotated one, the key that it stands for, until the end of its grace period.
    fn key(&mut self, hash: &str) -> Option<Arc<Entity>> {
        let mut found = self.find(EntityKind::Key, hash)?;
        let mut until: Option<u64> = None;
        for _ in 0..ROTATIONS {
            if found.kind == EntityKind::Key {
                return Some(match until {
                    Some(until) if found.expires_ms.is_none_or(|own| until < own) => {
                        Arc::new(Entity { expires_ms: Some(until), ..(*found).clone() })
                    }
                    _ => found,
                });
            }
            // Without an end it would be a key beside the key.
            let end = found.expires_ms.unwrap_or(0);
            until = Some(until.map_or(end, |until| until.min(end)));
            let successor = found.settings.successor.clone()?;
            found = self.find(EntityKind::Key, &successor)?;
        }
        None
    }

    fn principal(&mut self, key: Option<Arc<Entity>>, who: &Who<'_>) -> Principal {
        let mut principal = Principal::default();
        if let Some(name) = who.end_user.filter(|name| !name.is_empty()) {
            let holder = self.holder(EntityKind::EndUser, name);
            let id = who.end_user_budget.filter(|_| !holder.as_ref().is_some_and(has_budget));
            principal.end_user_budget = id.and_then(|id| self.find(EntityKind::Budget, id));
            principal.end_user = Some((name.to_owned(), holder));
        }
        for tag in who.tags {
            self.tag(&mut principal, tag);
        }
        let Some(key) = key else { return principal };
        if let Some(team) = key.team_id.as_deref() {
            principal.team = self.holder(EntityKind::Team, team);
            if let Some(user) = key.user_id.as_deref() {
                principal.member = self.holder(EntityKind::Member, &member_id(team, user));
            }
        }
        if let Some(user) = key.user_id.as_deref() {
            principal.user = self.holder(EntityKind::User, user);
        }
        let team = principal.team.as_ref().map(|team| Arc::clone(&team.entity));
        let organization = key.organization_id.as_deref();
        let organization = organization.or_else(|| team.as_ref()?.organization_id.as_deref());
        principal.organization = organization.and_then(|id| self.holder(EntityKind::Organization, id));
        let tags = key.settings.tags.iter().chain(team.iter().flat_map(|team| &team.settings.tags));
        for tag in tags {
            self.tag(&mut principal, tag);
        }
        principal.key = Some(self.with_budget(key));
        principal
    }

    fn tag(&mut self, principal: &mut Principal, tag: &str) {
        if !principal.tags.iter().any(|(known, _)| known == tag) {
            principal.tags.push((tag.to_owned(), self.holder(EntityKind::Tag, tag)));
        }
    }
}

/// Does it have a budget of its own, shared or not? As in LiteLLM, any limit is one.
fn has_budget(holder: &Holder) -> bool {
    let own = &holder.entity.settings;
    let limits = [
        own.max_budget_nanos,
        own.soft_budget_nanos,
        own.rpm_limit,
        own.tpm_limit,
        own.input_tpm_limit,
        own.output_tpm_limit,
        own.rpd_limit,
        own.tpd_limit,
        own.max_parallel_requests,
    ];
    holder.entity.budget_id.is_some() || limits.iter().any(Option::is_some)
}

/// Everyone behind a request made with the key `id`; `None` when nobody knows the key.
pub(super) async fn principal(
    cache: &Arc<Cache>,
    id: &str,
    who: &Who<'_>,
    workload: Option<Arc<Entity>>,
) -> Result<Option<Principal>, StoreError> {
    let look = |look: &mut Look<'_>| {
        let key = match &workload {
            Some(key) => Some(Arc::clone(key)),
            None if id == MASTER_KEY_HASH => None,
            None => look.key(id),
        };
        let unknown = key.is_none() && id != MASTER_KEY_HASH;
        // What the request names is fetched along with the key: one round trip less.
        let principal = look.principal(key, who);
        (!unknown).then_some(principal)
    };
    Look::new(cache).until_whole(look).await
}

/// The key alone.
pub(super) async fn key(cache: &Arc<Cache>, hash: &str) -> Result<Option<Arc<Entity>>, StoreError> {
    Look::new(cache).until_whole(|look| look.key(hash)).await
}

/// One entity with its budget.
pub(super) async fn holder(cache: &Arc<Cache>, of: &EntityRef) -> Result<Option<Holder>, StoreError> {
    Look::new(cache).until_whole(|look| look.holder(of.kind, &of.id)).await
}
