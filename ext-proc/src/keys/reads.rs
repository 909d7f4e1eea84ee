//! Reads of the database: everything that is asked for at about the same time goes in one query.
//!
//! The first miss is read at once. Misses that come while queries are under way, or faster than queries are allowed
//! to follow each other, wait together for the next one. A flood of made-up keys therefore costs the database a few
//! hundred queries a second at most, of a few hundred index lookups each, however many keys there are, and never one
//! query per key. A good key that nobody has used yet waits in the same line as the bad ones: it is read by one of the
//! next queries, some milliseconds later, and needs no right of way. The line holds 16,384 entities and moves by up to
//! 128,000 a second, so that nobody waits in it for long; what does not fit any more is refused with 503 rather than
//! with a false 401. The gates see to it that it does fit: each worker asks for 48 strangers at a time.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::Shared;
use tokio::sync::oneshot;

use super::cache::{Cache, Limits};
use crate::entity::{Entity, EntityKind, EntityRef};
use crate::store::StoreError;

/// What a read gave; cloned to everyone who waited for it.
pub(super) type Read = Result<Option<Arc<Entity>>, Arc<str>>;

/// Times that a read is repeated because its entity changed meanwhile.
const REPEATS: u8 = 4;

struct Waiting {
    answer: Shared<oneshot::Receiver<Read>>,
    sender: oneshot::Sender<Read>,
    /// The entity changed while it was read.
    overtaken: bool,
    repeats: u8,
}

/// Who waits for what.
pub(super) struct Reads {
    waiting: HashMap<EntityRef, Waiting>,
    queue: VecDeque<EntityRef>,
    running: usize,
    max_waiting: usize,
    pace: Pace,
}

impl Reads {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            waiting: HashMap::new(),
            queue: VecDeque::new(),
            running: 0,
            max_waiting: limits.max_waiting,
            pace: Pace::new(limits.reads_per_second, limits.burst),
        }
    }

    /// Joins a read or queues one; `None` when too many wait.
    pub(super) fn join(&mut self, of: &EntityRef) -> Option<Shared<oneshot::Receiver<Read>>> {
        if let Some(waiting) = self.waiting.get(of) {
            return Some(waiting.answer.clone());
        }
        if self.waiting.len() >= self.max_waiting {
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        let answer = receiver.shared();
        let waiting = Waiting { answer: answer.clone(), sender, overtaken: false, repeats: 0 };
        self.waiting.insert(of.clone(), waiting);
        self.queue.push_back(of.clone());
        Some(answer)
    }

    pub(super) fn waiting(&self) -> u64 {
        self.waiting.len() as u64
    }

    /// The entity changed: what is being read of it may be from before.
    pub(super) fn overtake(&mut self, kind: EntityKind, id: &str) {
        if self.waiting.is_empty() {
            return;
        }
        if let Some(waiting) = self.waiting.get_mut(&EntityRef::new(kind, id)) {
            waiting.overtaken = true;
        }
    }

    pub(super) fn overtake_all(&mut self) {
        for waiting in self.waiting.values_mut() {
            waiting.overtaken = true;
        }
    }

    /// The next query's entities. What changed while it waited is read after the change.
    fn batch(&mut self, most: usize) -> Vec<EntityRef> {
        let batch: Vec<EntityRef> = self.queue.drain(..self.queue.len().min(most)).collect();
        for of in &batch {
            if let Some(waiting) = self.waiting.get_mut(of) {
                waiting.overtaken = false;
            }
        }
        batch
    }
}

/// Tokens for queries.
struct Pace {
    tokens: f64,
    per_second: f64,
    burst: f64,
    at: Instant,
}

impl Pace {
    fn new(per_second: u32, burst: u32) -> Self {
        let burst = f64::from(burst.max(1));
        Self { tokens: burst, per_second: f64::from(per_second.max(1)), burst, at: Instant::now() }
    }

    /// Takes a token, or says how long there is none.
    fn take(&mut self, now: Instant) -> Option<Duration> {
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now;
        self.tokens = (self.tokens + since * self.per_second).min(self.burst);
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return None;
        }
        Some(Duration::from_secs_f64((1.0 - self.tokens) / self.per_second))
    }
}

impl Cache {
    /// Sees to it that somebody reads what is queued. A task of its own: a caller that goes away must not leave a read
    /// that nobody drives.
    pub(super) fn read_on(self: &Arc<Self>) {
        {
            let reads = &mut self.state.lock().reads;
            if reads.queue.is_empty() || reads.running >= self.limits.readers {
                return;
            }
            reads.running += 1;
        }
        let mut reader = Reader { cache: Arc::clone(self), batch: Vec::new(), over: false };
        tokio::spawn(async move { reader.run().await });
    }

    async fn read(&self, batch: &[EntityRef]) -> Result<HashMap<EntityRef, Arc<Entity>>, Arc<str>> {
        let mut asked = Vec::with_capacity(batch.len() * 2);
        for of in batch {
            asked.push(of.clone());
            if of.kind == EntityKind::Key {
                asked.push(EntityRef::new(EntityKind::RotatedKey, of.id.as_str()));
            }
        }
        self.queries.fetch_add(1, Ordering::Relaxed);
        self.asked.fetch_add(batch.len() as u64, Ordering::Relaxed);
        let answer = tokio::time::timeout(self.limits.deadline, self.query(batch, &asked)).await;
        let entities = match answer {
            Ok(Ok(entities)) => entities,
            Ok(Err(error)) => return Err(error.to_string().into()),
            Err(_) => return Err("no answer in time".into()),
        };
        let mut found = HashMap::with_capacity(entities.len());
        for entity in entities {
            let of = match entity.kind {
                EntityKind::RotatedKey => EntityRef::new(EntityKind::Key, entity.id.as_str()),
                _ => entity.reference(),
            };
            // A key wins over what is left of a rotation under the same hash.
            if entity.kind != EntityKind::RotatedKey || !found.contains_key(&of) {
                found.insert(of, Arc::new(entity));
            }
        }
        Ok(found)
    }

    async fn query(&self, batch: &[EntityRef], asked: &[EntityRef]) -> Result<Vec<Entity>, StoreError> {
        match batch {
            [EntityRef { kind: EntityKind::Key, id }] => Ok(self.store.key(id).await?.into_iter().collect()),
            _ => self.store.entities(asked).await,
        }
    }

    fn settle(&self, batch: &mut Vec<EntityRef>, answer: Result<HashMap<EntityRef, Arc<Entity>>, Arc<str>>) {
        let mut found = match answer {
            Ok(found) => {
                self.came_back();
                Ok(found)
            }
            Err(reason) => {
                self.went_away();
                tracing::debug!(reason = &*reason, "key store is away; what is known here goes on");
                Err(reason)
            }
        };
        let mut state = self.state.lock();
        let reads = &mut state.reads;
        for of in batch.drain(..) {
            let Some(waiting) = reads.waiting.get_mut(&of) else { continue };
            let entity = match &mut found {
                Ok(found) => Ok(found.remove(&of)),
                Err(reason) => Err(Arc::clone(reason)),
            };
            if waiting.overtaken && waiting.repeats < REPEATS && entity.is_ok() {
                waiting.repeats += 1;
                reads.queue.push_back(of);
                continue;
            }
            if !waiting.overtaken
                && let Ok(entity) = &entity
            {
                self.keep(&of, entity.as_ref());
            }
            if let Some(waiting) = reads.waiting.remove(&of) {
                // Nobody may be waiting any more.
                let _ = waiting.sender.send(entity);
            }
        }
    }
}

/// Reads until nothing is queued.
struct Reader {
    cache: Arc<Cache>,
    /// What is being read.
    batch: Vec<EntityRef>,
    over: bool,
}

impl Reader {
    async fn run(&mut self) {
        while let Some(pause) = self.next() {
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
                continue;
            }
            let answer = self.cache.read(&self.batch).await;
            self.cache.settle(&mut self.batch, answer);
        }
    }

    /// Takes a batch, or says how long to wait for the right to; `None`: there is nothing to do.
    fn next(&mut self) -> Option<Duration> {
        let reads = &mut self.cache.state.lock().reads;
        if reads.queue.is_empty() {
            // Under the same lock as the look at the queue: whoever queues next starts another reader.
            reads.running -= 1;
            self.over = true;
            return None;
        }
        if let Some(pause) = reads.pace.take(Instant::now()) {
            return Some(pause.max(Duration::from_micros(100)));
        }
        self.batch = reads.batch(self.cache.limits.batch);
        Some(Duration::ZERO)
    }
}

impl Drop for Reader {
    /// A read that broke off leaves nobody waiting for ever.
    fn drop(&mut self) {
        if !self.over {
            self.cache.settle(&mut self.batch, Err("the read broke off".into()));
            self.cache.state.lock().reads.running -= 1;
        }
    }
}
