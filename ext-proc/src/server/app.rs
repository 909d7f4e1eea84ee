use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use attache_llm::contract::{Ask, AttemptReport, UsageRecord};
use moka::sync::Cache;
use tokio_util::task::TaskTracker;

use super::metrics::Metrics;
use super::reload::ReloadState;
use super::serve::Envoy;
use super::stores::StoreHealth;
use crate::keys::KeyDirectory;
use crate::ledger::{Books, BooksError};
use crate::routing::{
    Breakers, Context, Probes, Settled, SnapshotHandle, Speeds, Verdict, decide, observe, settle,
};
use crate::store::Counters;

/// Call ids remembered to tell a batch that Envoy sends again. A duplicate that is older is told by the database.
const RECENT_CALLS: u64 = 200_000;
const RECENT_FOR: Duration = Duration::from_secs(600);
/// How long an acknowledgement waits for the counters: the batch is durable already.
const SETTLE_PATIENCE: Duration = Duration::from_millis(500);

/// What every handler works on.
pub(super) struct App {
    pub(super) keys: Arc<KeyDirectory>,
    pub(super) counters: Arc<dyn Counters>,
    pub(super) books: Arc<Books>,
    pub(super) snapshot: SnapshotHandle,
    pub(super) envoy: Arc<dyn Envoy>,
    pub(super) reloads: Arc<ReloadState>,
    pub(super) breakers: Arc<Breakers>,
    pub(super) speeds: Arc<Speeds>,
    pub(super) probes: Arc<Probes>,
    pub(super) stores: StoreHealth,
    pub(super) metrics: Metrics,
    pub(super) draining: AtomicBool,
    /// Requests in progress (long-lived ADS streams are not): a drain waits for them.
    pub(super) work: TaskTracker,
    recent: Cache<String, ()>,
}

impl App {
    pub(super) fn new(
        keys: Arc<KeyDirectory>,
        counters: Arc<dyn Counters>,
        books: Arc<Books>,
        snapshot: SnapshotHandle,
        envoy: Arc<dyn Envoy>,
        reloads: Arc<ReloadState>,
    ) -> Arc<Self> {
        Arc::new(Self {
            keys,
            counters,
            books,
            snapshot,
            envoy,
            reloads,
            breakers: Breakers::new(),
            speeds: Speeds::new(),
            probes: Probes::new(),
            stores: StoreHealth::default(),
            metrics: Metrics::default(),
            draining: AtomicBool::new(false),
            work: TaskTracker::new(),
            recent: Cache::builder().max_capacity(RECENT_CALLS).time_to_live(RECENT_FOR).build(),
        })
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Decides, and counts what it decided and how long it took.
    pub(super) async fn decide(&self, ask: &Ask) -> Verdict {
        let begun = Instant::now();
        let context = Context {
            snapshot: self.snapshot.load_full(),
            keys: &*self.keys,
            counters: &self.counters,
            live: &*self.envoy,
            breakers: &self.breakers,
            speeds: &self.speeds,
            probes: &self.probes,
        };
        let verdict = decide(&context, ask).await;
        self.metrics.decided(&verdict, begun.elapsed());
        verdict
    }

    /// Takes a batch: durable in the spool first, then settled. Runs on when the caller goes away, since Envoy
    /// may give up waiting after the batch became durable.
    pub(super) async fn usage(self: Arc<Self>, records: Vec<UsageRecord>) -> Result<usize, BooksError> {
        let count = records.len();
        let app = Arc::clone(&self);
        let taken = self.work.spawn(async move { app.take(records).await });
        match taken.await {
            Ok(outcome) => outcome.map(|()| count),
            Err(_) => Err(BooksError::Closed),
        }
    }

    async fn take(self: Arc<Self>, records: Vec<UsageRecord>) -> Result<(), BooksError> {
        let all = records.len();
        let new: Vec<UsageRecord> =
            records.into_iter().filter(|r| !self.recent.contains_key(&r.call_id)).collect();
        self.metrics.usage(all, all - new.len());
        if new.is_empty() {
            return Ok(());
        }
        self.books.accept(new.clone()).await?;
        for record in &new {
            self.recent.insert(record.call_id.clone(), ());
        }
        let app = Arc::clone(&self);
        let settling = self.work.spawn(async move { app.settle(&new).await });
        // Slow counters must not keep Envoy from its acknowledgement: the rest settles behind it.
        let _ = tokio::time::timeout(SETTLE_PATIENCE, settling).await;
        Ok(())
    }

    async fn settle(&self, records: &[UsageRecord]) {
        let snapshot = self.snapshot.load_full();
        let settled = settle(&snapshot, &self.counters, &self.breakers, &self.speeds, records).await;
        for _ in settled.into_iter().filter(|settled| *settled == Settled::Away) {
            self.metrics.unsettled();
        }
    }

    /// Outcomes of attempts that are known before their request's record; never waited for.
    pub(super) fn observe(self: &Arc<Self>, attempts: Vec<AttemptReport>) {
        if attempts.is_empty() {
            return;
        }
        let app = Arc::clone(self);
        self.work.spawn(async move {
            observe(&app.snapshot.load_full(), &app.counters, &app.breakers, &attempts).await;
        });
    }
}
