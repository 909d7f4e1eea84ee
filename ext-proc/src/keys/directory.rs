use std::sync::Arc;

use async_trait::async_trait;
use attache_llm::contract::{KeyChanges, KeyChangesAsk, KeyRecord, MASTER_KEY_HASH};
use attache_llm::error::ApiError;
use http::HeaderMap;
use subtle::ConstantTimeEq;

use super::cache::{KeyCache, Limits};
use super::intake::key_of;
use super::{hash, mask};
use crate::config::Secret;
use crate::routing::{self, now_ms};
use crate::store::{Database, KeyRow, StoreError};

/// Everyone who may call, by the hash of the key.
pub struct KeyDirectory {
    cache: Arc<KeyCache>,
    master: Option<Master>,
}

struct Master {
    hash: String,
    name: String,
}

/// Who calls the admin API.
#[derive(Debug, Clone, PartialEq)]
pub enum Caller {
    /// The master key: may do everything.
    Master,
    /// A virtual key that is neither blocked nor expired.
    Key(Arc<KeyRow>),
}

impl Caller {
    /// Id in records: the key's hash, or [`MASTER_KEY_HASH`].
    #[must_use]
    pub fn id(&self) -> &str {
        match self {
            Self::Master => MASTER_KEY_HASH,
            Self::Key(row) => &row.key.hash,
        }
    }
}

impl KeyDirectory {
    /// A directory over `store`; without a master key only virtual keys get in.
    #[must_use]
    pub fn new(store: Arc<dyn Database>, master_key: Option<Secret>) -> Arc<Self> {
        Self::with_limits(store, master_key, Limits::default())
    }

    pub(super) fn with_limits(
        store: Arc<dyn Database>,
        master_key: Option<Secret>,
        limits: Limits,
    ) -> Arc<Self> {
        let master = master_key.map(|key| Master { hash: hash(key.expose()), name: mask(key.expose()) });
        Arc::new(Self { cache: KeyCache::new(store, limits), master })
    }

    /// Is this the hash of the master key? Compared in constant time.
    #[must_use]
    pub fn is_master(&self, hash: &str) -> bool {
        self.master.as_ref().is_some_and(|master| master.hash.as_bytes().ct_eq(hash.as_bytes()).into())
    }

    /// What the gate must know of the key behind `hash`; `None` when nobody knows it.
    ///
    /// # Errors
    /// [`StoreError`] when the database is away and the key is not known here.
    pub async fn record(&self, hash: &str) -> Result<Option<KeyRecord>, StoreError> {
        if let Some(master) = self.master.as_ref().filter(|_| self.is_master(hash)) {
            let (id, name) = (MASTER_KEY_HASH.to_owned(), master.name.clone());
            return Ok(Some(KeyRecord { id, name, expires_ms: None, blocked: false }));
        }
        Ok(self.row(hash).await?.map(|row| KeyRecord {
            id: row.key.hash.clone(),
            name: row.key.name.clone(),
            expires_ms: row.key.expires_ms,
            blocked: row.blocked,
        }))
    }

    /// The stored key with this id (its hash), from the cache if it is fresh. Check for [`MASTER_KEY_HASH`] first:
    /// the master key has no row.
    ///
    /// # Errors
    /// [`StoreError`] when the database is away and the key is not known here.
    pub async fn row(&self, id: &str) -> Result<Option<Arc<KeyRow>>, StoreError> {
        // Anything but a hash cannot be a key: no need to ask, or to remember it.
        if id.len() != 64 || !id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Ok(None);
        }
        self.cache.row(id).await
    }

    /// Keys that changed since the gate asked last.
    #[must_use]
    pub fn changes(&self, ask: &KeyChangesAsk) -> KeyChanges {
        self.cache.changes(ask)
    }

    /// Call it after every change of keys in the database (also when it is unsure whether the change happened).
    pub fn changed(&self, hashes: &[String]) {
        self.cache.changed(hashes);
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
        let row = self.row(&hash).await.map_err(|error| database_away(&error))?;
        let row = row.ok_or_else(ApiError::unknown_key)?;
        usable(&row, now_ms())?;
        Ok(Caller::Key(row))
    }
}

/// Refuses a blocked or expired key.
fn usable(row: &KeyRow, now_ms: u64) -> Result<(), ApiError> {
    if row.blocked {
        return Err(ApiError::blocked_key());
    }
    if row.key.expires_ms.is_some_and(|expires| expires <= now_ms) {
        return Err(ApiError::expired_key(&row.key.name));
    }
    Ok(())
}

/// 503: the database is away and the answer is not known here.
#[must_use]
pub fn database_away(error: &StoreError) -> ApiError {
    ApiError::auth_unavailable().with_internal(error.to_string())
}

#[async_trait]
impl routing::Keys for KeyDirectory {
    async fn row(&self, id: &str) -> Result<Option<Arc<KeyRow>>, StoreError> {
        Self::row(self, id).await
    }
}
