//! Entities by reference: known ones stay until they change (and are served stale while the database is away); what
//! nobody stored is remembered for a short while in a bounded table of its own, so that a flood of made-up keys or end
//! users cannot push known ones out.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use attache_llm::contract::{KeyChanges, KeyChangesAsk};
use parking_lot::Mutex;

use super::changes::ChangeLog;
use super::reads::Reads;
use super::weight::weight;
use crate::entity::{Entity, EntityKind, EntityRef};
use crate::store::{Directory, StoreError};

/// Times and bounds of the cache.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// What nobody stored is asked for again after this long.
    pub negative_ttl: Duration,
    /// Memory of known entities, bytes (estimated).
    pub max_known: u64,
    /// Entries about entities that nobody stored, some 100 bytes each.
    pub max_unknown: u64,
    /// Entities that wait to be read, or are being read; beyond it a lookup fails at once.
    pub max_waiting: usize,
    /// Longest wait for the database.
    pub deadline: Duration,
    /// Longest wait for the database where there is an answer without it.
    pub patience: Duration,
    /// After a failed read, what can be answered without the database is, for this long.
    pub grace: Duration,
    /// Entities per query.
    pub batch: usize,
    /// Queries at once.
    pub readers: usize,
    /// Queries per second, sustained...
    pub reads_per_second: u32,
    /// ...and in a burst.
    pub burst: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            negative_ttl: Duration::from_secs(5),
            max_known: 192 << 20,
            max_unknown: 50_000,
            max_waiting: 16_384,
            deadline: Duration::from_millis(800),
            patience: Duration::from_millis(100),
            grace: Duration::from_secs(1),
            batch: 256,
            readers: 4,
            reads_per_second: 500,
            burst: 100,
        }
    }
}

/// Longest id that is looked up, bytes. Longer ones come from clients and name nobody.
const MAX_ID: usize = 512;

#[derive(Clone)]
struct Known {
    entity: Arc<Entity>,
    /// Kind asked for: a rotated key answers for a key.
    asked: EntityKind,
    /// Round in which it was read; one of an earlier round is asked again before use.
    round: u64,
}

/// What the cache says without asking.
pub(super) enum Found {
    Entity(Arc<Entity>),
    Nobody,
    /// The database must be asked; the entity is what it was before, good while the database is away.
    Ask(Option<Arc<Entity>>),
}

/// A question for the database.
pub(super) struct Ask {
    pub of: EntityRef,
    pub stale: Option<Arc<Entity>>,
}

impl Ask {
    /// Is there an answer while the database is away? End users and tags come from the request: those that were not
    /// known before it went away count as not stored, or else an outage would stop every request that names one.
    fn dispensable(&self) -> bool {
        self.stale.is_some() || matches!(self.of.kind, EntityKind::EndUser | EntityKind::Tag)
    }
}

/// Answer to an [`Ask`].
pub(super) type Answer = (EntityRef, Option<Arc<Entity>>);

pub(super) struct Cache {
    pub(super) store: Arc<dyn Directory>,
    pub(super) limits: Limits,
    /// By [`Self::print`], whose entity is compared: a collision is a miss.
    known: moka::sync::Cache<u64, Known, foldhash::fast::RandomState>,
    unknown: moka::sync::Cache<u64, (), foldhash::fast::RandomState>,
    /// Keyed at random: nobody can aim at somebody's entry.
    hasher: RandomState,
    round: AtomicU64,
    /// Milliseconds since `born` until which the database counts as away.
    away_until: AtomicU64,
    born: Instant,
    key_changes: AtomicU64,
    pub(super) queries: AtomicU64,
    pub(super) asked: AtomicU64,
    /// Entries are stored, forgotten and announced under this lock, so that a row that was read just before an
    /// announced change is not stored after it: that would undo a revocation.
    pub(super) state: Mutex<State>,
}

/// Counts of a [`super::KeyDirectory`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Queries of the database, and entities asked for in them.
    pub queries: u64,
    pub asked: u64,
    /// Entities in the cache.
    pub known: u64,
    /// Their memory, an estimate.
    pub known_bytes: u64,
    /// Entries about entities that nobody stored.
    pub unknown: u64,
    /// Entities that lookups wait for.
    pub waiting: u64,
}

pub(super) struct State {
    pub reads: Reads,
    log: ChangeLog,
}

impl Cache {
    pub(super) fn new(store: Arc<dyn Directory>, limits: Limits) -> Arc<Self> {
        let known = moka::sync::Cache::builder()
            .max_capacity(limits.max_known)
            .weigher(|_, known: &Known| weight(&known.entity))
            .build_with_hasher(foldhash::fast::RandomState::default());
        let unknown = moka::sync::Cache::builder()
            .max_capacity(limits.max_unknown)
            .time_to_live(limits.negative_ttl)
            .build_with_hasher(foldhash::fast::RandomState::default());
        Arc::new(Self {
            store,
            limits,
            known,
            unknown,
            hasher: RandomState::new(),
            round: AtomicU64::new(0),
            away_until: AtomicU64::new(0),
            born: Instant::now(),
            key_changes: AtomicU64::new(0),
            queries: AtomicU64::new(0),
            asked: AtomicU64::new(0),
            state: Mutex::new(State { reads: Reads::new(&limits), log: ChangeLog::new() }),
        })
    }

    fn print(&self, kind: EntityKind, id: &str) -> u64 {
        self.hasher.hash_one((kind, id))
    }

    /// What is known without asking. A [`EntityKind::Key`] may be answered by a rotated key.
    pub(super) fn find(&self, kind: EntityKind, id: &str) -> Found {
        let print = self.print(kind, id);
        let known = self.known.get(&print).filter(|known| known.asked == kind && known.entity.id == id);
        if let Some(known) = known {
            if known.round == self.round.load(Ordering::Acquire) || self.is_away() {
                return Found::Entity(known.entity);
            }
            return Found::Ask(Some(known.entity));
        }
        // Postgres stores no NUL, and a query with one fails for everybody in it.
        if id.is_empty() || id.len() > MAX_ID || id.contains('\0') || self.unknown.contains_key(&print) {
            return Found::Nobody;
        }
        Found::Ask(None)
    }

    /// Asks the database, for everything in one query, together with what others ask for. Answers are in order.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the database is away and there is no answer without it.
    pub(super) async fn fetch(self: &Arc<Self>, asks: Vec<Ask>) -> Result<Vec<Answer>, StoreError> {
        let away = self.is_away();
        let reads: Vec<_> = {
            let mut state = self.state.lock();
            asks.iter()
                .map(|ask| if away && ask.dispensable() { None } else { state.reads.join(&ask.of) })
                .collect()
        };
        self.read_on();
        let mut answers = Vec::with_capacity(asks.len());
        let limit = |ask: &Ask| match ask.dispensable() {
            true => self.limits.patience,
            false => self.limits.deadline,
        };
        let begun = Instant::now();
        for (ask, read) in asks.into_iter().zip(reads) {
            let left = limit(&ask).saturating_sub(begun.elapsed());
            let read = match read {
                None => Err("too many lookups wait".into()),
                Some(read) => match tokio::time::timeout(left, read).await {
                    Ok(Ok(read)) => read,
                    Ok(Err(_)) => Err("the read was lost".into()),
                    Err(_) => Err("no answer in time".into()),
                },
            };
            match read {
                Ok(entity) => answers.push((ask.of, entity)),
                Err(_) if ask.dispensable() => answers.push((ask.of, ask.stale)),
                Err(reason) => {
                    return Err(StoreError::Unavailable { backend: "key store", reason: reason.to_string() });
                }
            }
        }
        Ok(answers)
    }

    /// Keeps what was read. To be called with the lock on `state` held.
    pub(super) fn keep(&self, of: &EntityRef, entity: Option<&Arc<Entity>>) {
        let print = self.print(of.kind, &of.id);
        if let Some(entity) = entity {
            let round = self.round.load(Ordering::Acquire);
            self.unknown.invalidate(&print);
            self.known.insert(print, Known { entity: Arc::clone(entity), asked: of.kind, round });
        } else {
            self.known.invalidate(&print);
            self.unknown.insert(print, ());
        }
    }

    /// Forgets these entities, unless they were read with this version or a later one, and announces keys among them to
    /// the gates. Without the exception a key would be forgotten twice, here and by the feed: one that was made a moment
    /// before the database went away would not be known after it.
    pub(super) fn changed<'a>(&self, changed: impl IntoIterator<Item = (&'a EntityRef, u64)>) {
        let mut state = self.state.lock();
        for (of, version) in changed {
            let kind = match of.kind {
                EntityKind::RotatedKey => EntityKind::Key,
                kind => kind,
            };
            if kind == EntityKind::Key {
                state.log.push(&of.id);
                self.key_changes.fetch_add(1, Ordering::Relaxed);
            }
            let print = self.print(kind, &of.id);
            let known =
                self.known.get(&print).filter(|known| known.asked == kind && known.entity.id == of.id);
            if known.is_none_or(|known| known.entity.updated_ms < version) {
                self.known.invalidate(&print);
            }
            self.unknown.invalidate(&print);
            state.reads.overtake(kind, &of.id);
        }
    }

    /// Nobody can tell what changed: everything is asked again before its next use, here and at the gates.
    pub(super) fn doubt_all(&self) {
        let mut state = self.state.lock();
        self.round.fetch_add(1, Ordering::AcqRel);
        self.unknown.invalidate_all();
        state.reads.overtake_all();
        state.log.flush();
        self.key_changes.fetch_add(1, Ordering::Relaxed);
    }

    /// Rises with each change of a key.
    pub(super) fn key_changes(&self) -> u64 {
        self.key_changes.load(Ordering::Relaxed)
    }

    /// The gates ask for every key again.
    pub(super) fn flush_gates(&self) {
        self.state.lock().log.flush();
    }

    pub(super) fn changes(&self, ask: &KeyChangesAsk) -> KeyChanges {
        self.state.lock().log.since(ask)
    }

    fn age(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn is_away(&self) -> bool {
        // The clock is looked at only after a failure.
        match self.away_until.load(Ordering::Relaxed) {
            0 => false,
            until => self.age() < until,
        }
    }

    pub(super) fn went_away(&self) {
        let grace = u64::try_from(self.limits.grace.as_millis()).unwrap_or(u64::MAX);
        self.away_until.store(self.age().saturating_add(grace), Ordering::Relaxed);
    }

    pub(super) fn came_back(&self) {
        if self.away_until.load(Ordering::Relaxed) != 0 {
            self.away_until.store(0, Ordering::Relaxed);
        }
    }

    /// Counts, up to date within the cache's own housekeeping.
    pub(super) fn figures(&self) -> Figures {
        Figures {
            queries: self.queries.load(Ordering::Relaxed),
            asked: self.asked.load(Ordering::Relaxed),
            known: self.known.entry_count(),
            known_bytes: self.known.weighted_size(),
            unknown: self.unknown.entry_count(),
            waiting: self.state.lock().reads.waiting(),
        }
    }

    /// Entries known and unknown, exactly.
    #[cfg(test)]
    pub(super) fn sizes(&self) -> (u64, u64) {
        self.known.run_pending_tasks();
        self.unknown.run_pending_tasks();
        (self.known.entry_count(), self.unknown.entry_count())
    }
}
