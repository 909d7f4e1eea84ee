//! What this worker knows of virtual keys: a bounded table of known ones, a bounded table of unknown ones, and the
//! requests that wait for an answer of the sidecar.
//!
//! A key that changed at the sidecar is forgotten within one poll (500 ms). While the sidecar is away, known keys go
//! on working and unknown ones are refused with 503.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use attache_llm::contract::{GateConfig, KeyRecord};

use crate::bounded::Bounded;
pub use crate::bounded::Hash;

/// Lookups in flight at once per worker; more wait their turn, so that a flood of made-up keys cannot flood the
/// sidecar.
const MAX_LOOKUPS: usize = 64;
/// Distinct keys waiting for their turn; beyond it a request is refused with 503.
const MAX_QUEUED: usize = 4_096;
/// After a failed lookup, entries past their time are used this long before the sidecar is asked again.
const AWAY_MS: u64 = 1_000;

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
struct Waiting {
    contexts: Vec<u32>,
    since_ms: u64,
    /// The key changed while the lookup was under way: its answer may be from before, so it serves those who wait
    /// and is asked for again at the next use.
    overtaken: bool,
}

/// Key tables of one worker.
#[derive(Debug)]
pub struct KeyTable {
    known: Bounded<Entry>,
    unknown: Bounded<u64>,
    waiting: HashMap<Hash, Waiting>,
    queue: VecDeque<Hash>,
    in_flight: usize,
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
            waiting: HashMap::new(),
            queue: VecDeque::new(),
            in_flight: 0,
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

    /// Looks a key up without asking anyone.
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
            Some(since) if now_ms.saturating_sub(*since) < self.negative_ttl_ms => Known::Nobody,
            _ => Known::Ask,
        }
    }

    /// Lets `context` wait for the answer about `hash`.
    pub fn join(&mut self, hash: Hash, context: u32, now_ms: u64) -> Joined {
        if let Some(waiting) = self.waiting.get_mut(&hash) {
            waiting.contexts.push(context);
            return Joined::Shared;
        }
        if self.queue.len() >= MAX_QUEUED {
            return Joined::Full;
        }
        self.waiting.insert(hash, Waiting { contexts: vec![context], since_ms: now_ms, overtaken: false });
        self.queue.push_back(hash);
        Joined::First
    }

    /// A request that ended no longer waits. Its lookup goes on: others may share it, and the answer is worth keeping.
    pub fn leave(&mut self, hash: &Hash, context: u32) {
        if let Some(waiting) = self.waiting.get_mut(hash) {
            waiting.contexts.retain(|waiter| *waiter != context);
        }
    }

    /// The next lookup to send, if there is one and a slot is free. Each must end in [`Self::answered`] or
    /// [`Self::failed`].
    pub fn next_lookup(&mut self) -> Option<Hash> {
        if self.in_flight >= MAX_LOOKUPS {
            return None;
        }
        let hash = self.queue.pop_front()?;
        self.in_flight = self.in_flight.saturating_add(1);
        Some(hash)
    }

    /// The sidecar answered. Returns who waits for it.
    pub fn answered(&mut self, hash: &Hash, answer: Option<KeyRecord>, now_ms: u64) -> Vec<u32> {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.away_until_ms = 0;
        let doubtful = self.waiting.get(hash).is_some_and(|waiting| waiting.overtaken);
        if let Some(record) = answer {
            self.unknown.remove(hash);
            let record = Rc::new(record);
            self.known.insert(*hash, Entry { record, checked_ms: now_ms, doubtful });
        } else {
            self.known.remove(hash);
            if !doubtful {
                self.unknown.insert(*hash, now_ms);
            }
        }
        self.woken(hash)
    }

    /// The sidecar could not be asked. Entries past their time are used meanwhile. Returns who waits.
    pub fn failed(&mut self, hash: &Hash, now_ms: u64) -> Vec<u32> {
        self.in_flight = self.in_flight.saturating_sub(1);
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
        let queued = self.queue.len();
        self.queue.retain(|hash| !late.contains(hash));
        let never_sent = queued.saturating_sub(self.queue.len());
        let lost = late.len().saturating_sub(never_sent);
        self.in_flight = self.in_flight.saturating_sub(lost);
        late.iter().flat_map(|hash| self.woken(hash)).collect()
    }

    fn woken(&mut self, hash: &Hash) -> Vec<u32> {
        self.waiting.remove(hash).map(|waiting| waiting.contexts).unwrap_or_default()
    }

    /// Nothing is known or waited for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty() && self.unknown.is_empty()
    }

    /// Forgets a key, known or unknown: it changed.
    pub fn forget(&mut self, hash: &Hash) {
        self.known.remove(hash);
        self.unknown.remove(hash);
        if let Some(waiting) = self.waiting.get_mut(hash) {
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
