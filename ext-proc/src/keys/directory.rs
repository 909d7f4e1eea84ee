use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use attache_llm::contract::{KeyChanges, KeyChangesAsk, KeyRecord, MASTER_KEY_HASH};
use attache_llm::error::ApiError;
use http::HeaderMap;
use subtle::ConstantTimeEq;

use super::cache::{Cache, Figures, Limits};
use super::caller::{Caller, usable};
use super::intake::key_of;
use super::principal::{self, Who};
use super::workloads::{Aliases, Stand, Workloads};
use super::{feed, hash, mask};
use crate::config::{IdentityRule, Secret};
use crate::entity::{Entity, EntityKind, EntityRef, Holder, Principal, member_id};
use crate::limits::{Question, Since, Tally};
use crate::routing::{self, now_ms};
use crate::store::{Directory, StoreError, UsageSum};

/// Everyone who may call, by the hash of the key, and everyone behind them.
pub struct KeyDirectory {
    pub(super) cache: Arc<Cache>,
    master: Option<Master>,
    workloads: ArcSwap<Workloads>,
    aliases: Aliases,
}

struct Master {
    hash: String,
    name: String,
}

impl KeyDirectory {
    /// A directory over `store`; without a master key only virtual keys get in. Changes made elsewhere are noticed while
    /// [`Self::follow`] runs.
    #[must_use]
    pub fn new(store: Arc<dyn Directory>, master_key: Option<Secret>) -> Arc<Self> {
        Self::with_limits(store, master_key, Limits::default())
    }

    pub(super) fn with_limits(
        store: Arc<dyn Directory>,
        master_key: Option<Secret>,
        limits: Limits,
    ) -> Arc<Self> {
        let master = master_key.map(|key| Master { hash: hash(key.expose()), name: mask(key.expose()) });
        let cache = Cache::new(store, limits);
        Arc::new(Self { cache, master, workloads: ArcSwap::default(), aliases: Aliases::default() })
    }

    /// Callers without a key, from now on. Call it with every configuration: gates ask again when it differs.
    pub fn identify(&self, rules: &[IdentityRule]) {
        if !self.workloads.load().same(rules) {
            self.workloads.store(Arc::new(Workloads::new(rules)));
            self.aliases.clear();
            self.cache.flush_gates();
        }
    }

    /// Notices what others change, for as long as it is polled: one task per process.
    pub async fn follow(self: Arc<Self>) {
        feed::follow(Arc::clone(&self.cache)).await;
    }

    /// Is this the hash of the master key? Compared in constant time.
    #[must_use]
    pub fn is_master(&self, hash: &str) -> bool {
        self.master.as_ref().is_some_and(|master| master.hash.as_bytes().ct_eq(hash.as_bytes()).into())
    }

    /// What the gate must know of the key behind `lookup`: a hash, or an identity (`spiffe:...`, `jwt:...`); `None` when
    /// nobody knows it. Whether its team or its owner are blocked is the decision's to say.
    ///
    /// # Errors
    /// [`StoreError`] when the database is away and the key is not known here.
    pub async fn record(&self, lookup: &str) -> Result<Option<KeyRecord>, StoreError> {
        if let Some(master) = self.master.as_ref().filter(|_| self.is_master(lookup)) {
            let (id, name) = (MASTER_KEY_HASH.to_owned(), master.name.clone());
            return Ok(Some(KeyRecord { id, name, expires_ms: None, blocked: false }));
        }
        let key = if is_hash(lookup) { self.key(lookup).await? } else { self.workload(lookup).await? };
        Ok(key.map(|key| KeyRecord {
            id: key.id.clone(),
            name: key.name.clone(),
            expires_ms: key.expires_ms,
            blocked: key.blocked,
        }))
    }

    /// The key in whose name a caller without one comes.
    async fn workload(&self, lookup: &str) -> Result<Option<Arc<Entity>>, StoreError> {
        let stand = self.workloads.load().find(lookup);
        match stand {
            None => Ok(None),
            Some(Stand::MadeUp(key)) => Ok(Some(key)),
            Some(Stand::Alias(alias)) => match self.alias(&alias).await? {
                Some(hash) => self.key(&hash).await,
                None => Ok(None),
            },
        }
    }

    async fn alias(&self, alias: &str) -> Result<Option<String>, StoreError> {
        self.aliases.hash(&*self.cache.store, alias, self.cache.key_changes()).await
    }

    /// The key behind a hash. A rotated key is the one that it stands for, expiring when its grace period ends.
    async fn key(&self, hash: &str) -> Result<Option<Arc<Entity>>, StoreError> {
        if is_hash(hash) { principal::key(&self.cache, hash).await } else { Ok(None) }
    }

    /// Everyone in whose name a request with this key (its id: [`KeyRecord::id`]) is made, blocked and expired ones
    /// included; `None` when nobody knows the key. The master key's principal has no key. From the cache, unless
    /// somebody is met for the first time or changed.
    ///
    /// # Errors
    /// [`StoreError`] when the database is away and the key, or what it refers to, is not known here.
    pub async fn principal(&self, key_id: &str, who: &Who<'_>) -> Result<Option<Principal>, StoreError> {
        if key_id == MASTER_KEY_HASH || is_hash(key_id) {
            return principal::principal(&self.cache, key_id, who, None).await;
        }
        let Some(key) = self.workloads.load().key(key_id).cloned() else { return Ok(None) };
        principal::principal(&self.cache, key_id, who, Some(key)).await
    }

    /// An entity with the budget that it shares; `None` when there is none. From the cache.
    ///
    /// # Errors
    /// [`StoreError`] when the database is away and it is not known here.
    pub async fn holder(&self, of: &EntityRef) -> Result<Option<Holder>, StoreError> {
        principal::holder(&self.cache, of).await
    }

    /// Role (`admin` or `user`) of the caller's user in a team; `None` for those who are not in it.
    ///
    /// # Errors
    /// As [`Self::holder`].
    pub async fn team_role(&self, caller: &Caller, team: &str) -> Result<Option<String>, StoreError> {
        let Some(user) = caller.user_id() else { return Ok(None) };
        let member = self.holder(&EntityRef::new(EntityKind::Member, member_id(team, user))).await?;
        Ok(member.map(|member| member.entity.settings.role.clone().unwrap_or_else(|| "user".to_owned())))
    }

    /// Counts for metrics.
    #[must_use]
    pub fn figures(&self) -> Figures {
        self.cache.figures()
    }

    /// Keys that changed since the gate asked last.
    #[must_use]
    pub fn changes(&self, ask: &KeyChangesAsk) -> KeyChanges {
        self.cache.changes(ask)
    }

    /// Call it after every change of entities in the database (also when it is unsure whether the change happened):
    /// they are forgotten here at once, and keys among them are announced to the gates. Of a rotation name both hashes.
    pub fn changed<'a, T>(&self, of: &'a [T])
    where
        EntityRef: From<&'a T>,
    {
        let of: Vec<EntityRef> = of.iter().map(EntityRef::from).collect();
        self.cache.changed(of.iter().map(|of| (of, u64::MAX)));
    }

    /// The caller of an admin route, from the headers.
    ///
    /// # Errors
    /// 401 for a missing, malformed, unknown, expired or blocked key; 503 when the database is away and the key
    /// is not known here.
    pub async fn authenticate(&self, headers: &HeaderMap) -> Result<Caller, ApiError> {
        self.authenticate_with(headers, None).await
    }

    /// As [`Self::authenticate`], with the name of a further header that may carry the key
    /// (`general_settings.litellm_key_header_name`).
    ///
    /// # Errors
    /// As [`Self::authenticate`].
    pub async fn authenticate_with(
        &self,
        headers: &HeaderMap,
        extra: Option<&str>,
    ) -> Result<Caller, ApiError> {
        let key = key_of(headers, extra)?;
        let hash = hash(key);
        if self.is_master(&hash) {
            return Ok(Caller::Master);
        }
        let principal =
            self.principal(&hash, &Who::default()).await.map_err(|error| database_away(&error))?;
        let principal = principal.ok_or_else(ApiError::unknown_key)?;
        usable(&principal, now_ms())?;
        Ok(Caller::Key(Box::new(principal)))
    }
}

/// Anything but a hash cannot be a key: no need to ask, or to remember it.
fn is_hash(id: &str) -> bool {
    id.len() == 64 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

impl From<&Self> for EntityRef {
    fn from(of: &Self) -> Self {
        of.clone()
    }
}

/// A key's hash.
impl From<&String> for EntityRef {
    fn from(hash: &String) -> Self {
        Self::new(EntityKind::Key, hash.as_str())
    }
}

/// 503: the database is away and the answer is not known here.
#[must_use]
pub fn database_away(error: &StoreError) -> ApiError {
    ApiError::auth_unavailable().with_internal(error.to_string())
}

impl KeyDirectory {
    /// What the ledger says of these counters, nano-dollars. `None`: the entity is not stored, or its spend was set since,
    /// so that another counter stands for it.
    pub(crate) async fn spent(&self, tallies: &[Tally]) -> Result<Vec<Option<u64>>, StoreError> {
        let store = &self.cache.store;
        let resets = tallies.iter().filter(|tally| matches!(tally.since, Since::Reset(_)));
        let stored: Vec<EntityRef> = resets.map(|tally| tally.of.clone()).collect();
        let seconds = tallies.iter().filter_map(|tally| match tally.since {
            Since::Second(second) => Some((tally.of.clone(), second)),
            Since::Reset(_) => None,
        });
        let seconds: Vec<(EntityRef, u64)> = seconds.collect();
        let entities = if stored.is_empty() { Vec::new() } else { store.entities(&stored).await? };
        let used = if seconds.is_empty() { Vec::new() } else { store.usage(&seconds).await? };
        let mut used = used.into_iter();
        let answer = |tally: &Tally| match tally.since {
            Since::Second(_) => used.next().map(|sum| sum.nanos),
            Since::Reset(at) => {
                let entity = entities.iter().find(|entity| entity.reference() == tally.of)?;
                (entity.spend_reset_ms == at).then(|| u64::try_from(entity.spend_nanos).unwrap_or(0))
            }
        };
        Ok(tallies.iter().map(answer).collect())
    }
}

#[async_trait]
impl routing::Keys for KeyDirectory {
    async fn principal(&self, id: &str, who: &Who<'_>) -> Result<Option<Principal>, StoreError> {
        Self::principal(self, id, who).await
    }

    async fn used(&self, questions: &[Question]) -> Result<Vec<UsageSum>, StoreError> {
        let store = &self.cache.store;
        let stored: Vec<EntityRef> =
            questions.iter().filter(|q| q.since_s.is_none()).map(|q| q.of.clone()).collect();
        let used: Vec<(EntityRef, u64)> =
            questions.iter().filter_map(|q| Some((q.of.clone(), q.since_s?))).collect();
        let entities = if stored.is_empty() { Vec::new() } else { store.entities(&stored).await? };
        let mut sums = if used.is_empty() { Vec::new() } else { store.usage(&used).await? }.into_iter();
        let answer = |question: &Question| match question.since_s {
            Some(_) => sums.next().unwrap_or_default(),
            None => {
                let entity = entities.iter().find(|entity| entity.reference() == question.of);
                let nanos = entity.map_or(0, |entity| u64::try_from(entity.spend_nanos).unwrap_or(0));
                UsageSum { nanos, ..UsageSum::default() }
            }
        };
        Ok(questions.iter().map(answer).collect())
    }
}
