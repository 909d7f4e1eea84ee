//! What the fake provider remembers beside requests: files, batches, keys of service accounts, tokens given out.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde_json::Value;

/// Files, batches and keys kept at most.
const CAPACITY: usize = 1_000;

/// A stored file or batch.
#[derive(Debug, Clone)]
pub struct Stored {
    /// The upstream that has it.
    pub upstream: String,
    pub id: String,
    /// As the provider shows it.
    pub shown: Value,
    pub content: Bytes,
}

/// Shared by all connections.
#[derive(Debug, Default)]
pub struct State {
    stored: Mutex<Vec<Stored>>,
    keys: Mutex<HashMap<String, Vec<u8>>>,
    next: AtomicU64,
}

impl State {
    /// A number that was not given before.
    pub fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// All that is stored.
    pub fn stored(&self) -> MutexGuard<'_, Vec<Stored>> {
        self.stored.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores; the oldest goes when there is no room.
    pub fn store(&self, stored: Stored) {
        let mut all = self.stored();
        if all.len() >= CAPACITY {
            all.remove(0);
        }
        all.push(stored);
    }

    /// Lets a service account in: the public key (PKCS#1, DER) that its assertions are verified with.
    pub fn know(&self, issuer: String, key: Vec<u8>) {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.len() < CAPACITY {
            keys.insert(issuer, key);
        }
    }

    /// The public key of a service account.
    #[must_use]
    pub fn key(&self, issuer: &str) -> Option<Vec<u8>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).get(issuer).cloned()
    }
}

/// Seconds since 1970.
#[must_use]
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}
