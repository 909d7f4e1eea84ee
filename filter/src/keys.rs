//! What this worker knows of virtual keys and of identities without one: a bounded table of known ones, a bounded table
//! of unknown ones, and the requests that wait for an answer of the sidecar.
//!
//! A key that changed at the sidecar is forgotten within one poll (500 ms). While the sidecar is away, known keys go
//! on working and unknown ones are refused with 503.

use std::collections::{HashMap, HashSet, VecDeque};
use std::rc::Rc;

use attache_llm::contract::{GateConfig, KeyRecord};
use attache_llm::identity::Identity;
use sha2::{Digest, Sha256};

use crate::bounded::Bounded;
pub use crate::bounded::Hash;

/// Lookups in flight at once per worker; more wait their turn, so that a flood of made-up keys cannot flood the
/// sidecar.
const MAX_LOOKUPS: usize = 64;
/// Of these, how many may be for callers that were not known before: those who were do not wait behind strangers.
const MAX_STRANGERS: usize = 48;
/// Distinct strangers waiting for their turn; beyond it a request is refused with 503.
const MAX_QUEUED: usize = 4_096;
/// After a failed lookup, entries past their time are used this long before the sidecar is asked again.
const AWAY_MS: u64 = 1_000;

/// Whom to ask the sidecar for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// SHA-256 of the key, or of the identity's text.
    pub hash: Hash,
    /// What Envoy verified of a caller without a key ([`attache_llm::identity::Identity`] as text).
    pub identity: Option<Box<str>>,
}

impl Caller {
    /// The caller with this key.
    #[must_use]
    pub const fn key(hash: Hash) -> Self {
        Self { hash, identity: None }
    }

    /// The caller with this identity.
    #[must_use]
    pub fn identity(text: impl Into<Box<str>>) -> Self {
        let text = text.into();
        Self { hash: Sha256::digest(text.as_bytes()).into(), identity: Some(text) }
    }

    /// Reads what [`Self::wire`] wrote. `None` for anything else.
    #[must_use]
    pub fn of_wire(text: &str) -> Option<Self> {
        let mut hash = Hash::default();
        if hex::decode_to_slice(text, &mut hash).is_ok() {
            return Some(Self::key(hash));
        }
        Identity::parse(text).map(|_| Self::identity(text))
    }

    /// As the sidecar knows it.
    #[must_use]
    pub fn wire(&self) -> String {
        self.identity.as_deref().map_or_else(|| hex::encode(self.hash), str::to_owned)
    }
}

/// What the tables say of a key.
#[derive(Debug, Clone)]
pub enum Known {
    /// In force (its own expiry and block are for the caller to see).
    Record(Rc<KeyRecord>),
    /// The sidecar said that nobody knows it.
    Nobody,
    /// The sidecar must be asked.
    Ask,
}

/// What became of a request that needs a lookup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Joined {
    /// The first for this key: a lookup was queued, the root must be woken.
    First,
    /// Another request asked already; this one shares the answer.
    Shared,
    /// Too many different keys are waiting.
    Full,
}

#[derive(Debug)]
struct Entry {
    record: Rc<KeyRecord>,
    checked_ms: u64,
    /// The sidecar could not say what changed: ask before the next use.
    doubtful: bool,
}

#[derive(Debug)]
struct Unknown {
    since_ms: u64,
    /// May be an identity: a key that is made can change what it stands for.
    identity: bool,
}

#[derive(Debug)]
struct Waiting {
    contexts: Vec<u32>,
    since_ms: u64,
    identity: Option<Box<str>>,
    /// Not known before.
    stranger: bool,
    /// The lookup was handed out.
    sent: bool,
    /// The key changed while the lookup was under way: its answer may be from before, so it serves those who wait
    /// and is asked for again at the next use.
    overtaken: bool,
}

/// Key tables of one worker.
#[derive(Debug)]
pub struct KeyTable {
    known: Bounded<Entry>,
    unknown: Bounded<Unknown>,
    /// Identities were asked for: their entries depend on keys under other hashes.
    identities: bool,
    waiting: HashMap<Hash, Waiting>,
    /// Known ones past their time, bounded by the table of known ones.
    again: VecDeque<Hash>,
    strangers: VecDeque<Hash>,
    in_flight: usize,
    /// Of these, strangers.
    strangers_in_flight: usize,
    away_until_ms: u64,
    ttl_ms: u64,
    negative_ttl_ms: u64,
}

impl KeyTable {
    #[must_use]
    pub fn new(config: &GateConfig) -> Self {
        Self {
            known: Bounded::new(config.max_keys),
            unknown: Bounded::new(config.max_negative),
            identities: false,
            waiting: HashMap::new(),
            again: VecDeque::new(),
            strangers: VecDeque::new(),
            in_flight: 0,
            strangers_in_flight: 0,
            away_until_ms: 0,
            ttl_ms: config.key_ttl_ms,
            negative_ttl_ms: config.negative_ttl_ms,
        }
    }

    /// Takes over new bounds and times and keeps the entries.
    pub fn configure(&mut self, config: &GateConfig) {
        self.known.set_max(config.max_keys);
        self.unknown.set_max(config.max_negative);
        self.ttl_ms = config.key_ttl_ms;
        self.negative_ttl_ms = config.negative_ttl_ms;
    }

    /// Looks a caller up without asking anyone.
    #[must_use]
    pub fn find(&self, hash: &Hash, now_ms: u64) -> Known {
        if let Some(entry) = self.known.get(hash) {
            let fresh = !entry.doubtful && now_ms.saturating_sub(entry.checked_ms) < self.ttl_ms;
            if fresh || now_ms < self.away_until_ms {
                return Known::Record(Rc::clone(&entry.record));
            }
            return Known::Ask;
        }
        match self.unknown.get(hash) {
            Some(unknown) if now_ms.saturating_sub(unknown.since_ms) < self.negative_ttl_ms => Known::Nobody,
            _ => Known::Ask,
        }
    }

    /// Lets `context` wait for the answer about `caller`.
    pub fn join(&mut self, caller: &Caller, context: u32, now_ms: u64) -> Joined {
        let hash = caller.hash;
        if let Some(waiting) = self.waiting.get_mut(&hash) {
            waiting.contexts.push(context);
            return Joined::Shared;
        }
        let stranger = self.known.get(&hash).is_none();
        if stranger && self.strangers.len() >= MAX_QUEUED {
            return Joined::Full;
        }
        let waiting = Waiting {
            contexts: vec![context],
            since_ms: now_ms,
            identity: caller.identity.clone(),
            stranger,
            sent: false,
            overtaken: false,
        };
        self.identities |= caller.identity.is_some();
        self.waiting.insert(hash, waiting);
        if stranger {
            self.strangers.push_back(hash)
        } else {
            self.again.push_back(hash)
        }
        Joined::First
    }

    /// A request that ended no longer waits. Its lookup goes on: others may share it, and the answer is worth keeping.
    pub fn leave(&mut self, hash: &Hash, context: u32) {
        if let Some(waiting) = self.waiting.get_mut(hash) {
            waiting.contexts.retain(|waiter| *waiter != context);
        }
    }

    /// The next lookup to send, if there is one and a slot is free: known callers first. Each must end in
    /// [`Self::answered`] or [`Self::failed`].
    pub fn next_lookup(&mut self) -> Option<Caller> {
        if self.in_flight >= MAX_LOOKUPS {
            return None;
        }
        let hash = match self.again.pop_front() {
            Some(hash) => hash,
            None if self.strangers_in_flight < MAX_STRANGERS => self.strangers.pop_front()?,
            None => return None,
        };
        let waiting = self.waiting.get_mut(&hash)?;
        waiting.sent = true;
        self.in_flight = self.in_flight.saturating_add(1);
        if waiting.stranger {
            self.strangers_in_flight = self.strangers_in_flight.saturating_add(1);
        }
        Some(Caller { hash, identity: waiting.identity.clone() })
    }

    /// The sidecar answered. Returns who waits for it.
    pub fn answered(&mut self, hash: &Hash, answer: Option<KeyRecord>, now_ms: u64) -> Vec<u32> {
        self.away_until_ms = 0;
        let waiting = self.waiting.get(hash);
        let doubtful = waiting.is_some_and(|waiting| waiting.overtaken);
        let identity = self.identities && waiting.is_none_or(|waiting| waiting.identity.is_some());
        if let Some(record) = answer {
            self.unknown.remove(hash);
            let record = Rc::new(record);
            self.known.insert(*hash, Entry { record, checked_ms: now_ms, doubtful });
        } else {
            self.known.remove(hash);
            if !doubtful {
                self.unknown.insert(*hash, Unknown { since_ms: now_ms, identity });
            }
        }
        self.woken(hash)
    }

    /// The sidecar could not be asked. Entries past their time are used meanwhile. Returns who waits.
    pub fn failed(&mut self, hash: &Hash, now_ms: u64) -> Vec<u32> {
        self.away_until_ms = now_ms.saturating_add(AWAY_MS);
        self.woken(hash)
    }

    /// Requests that waited longer than `limit_ms`: their lookup was lost (its root context ended with an older
    /// configuration) or never had its turn.
    pub fn overdue(&mut self, limit_ms: u64, now_ms: u64) -> Vec<u32> {
        let late: Vec<Hash> = self
            .waiting
            .iter()
            .filter(|(_, waiting)| now_ms.saturating_sub(waiting.since_ms) > limit_ms)
            .map(|(hash, _)| *hash)
            .collect();
        if late.is_empty() {
            return Vec::new();
        }
        let waiters = late.iter().flat_map(|hash| self.woken(hash)).collect();
        let waiting = &self.waiting;
        self.again.retain(|hash| waiting.contains_key(hash));
        self.strangers.retain(|hash| waiting.contains_key(hash));
        waiters
    }

    /// Ends the wait for a lookup and frees its slot.
    fn woken(&mut self, hash: &Hash) -> Vec<u32> {
        let Some(waiting) = self.waiting.remove(hash) else { return Vec::new() };
        if waiting.sent {
            self.in_flight = self.in_flight.saturating_sub(1);
            if waiting.stranger {
                self.strangers_in_flight = self.strangers_in_flight.saturating_sub(1);
            }
        }
        waiting.contexts
    }

    /// Nothing is known or waited for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty() && self.unknown.is_empty()
    }

    /// Forgets callers, known or unknown: they changed. With keys go the identities that stand for them, or may do so now.
    pub fn forget(&mut self, changed: &[Caller]) {
        for Caller { hash, .. } in changed {
            self.known.remove(hash);
            self.unknown.remove(hash);
            if let Some(waiting) = self.waiting.get_mut(hash) {
                waiting.overtaken = true;
            }
        }
        if changed.is_empty() || !self.identities {
            return;
        }
        let ids: HashSet<String> = changed.iter().map(Caller::wire).collect();
        self.known.retain(|entry| !ids.contains(&entry.record.id));
        self.unknown.retain(|unknown| !unknown.identity);
        for waiting in self.waiting.values_mut().filter(|waiting| waiting.identity.is_some()) {
            waiting.overtaken = true;
        }
    }

    /// The sidecar cannot say what changed: every entry is asked for again before its next use.
    pub fn doubt_all(&mut self) {
        for entry in self.known.values_mut() {
            entry.doubtful = true;
        }
        self.unknown.clear();
        for waiting in self.waiting.values_mut() {
            waiting.overtaken = true;
        }
    }
}

#[cfg(test)]
#[path = "keys_tests.rs"]
mod tests;
