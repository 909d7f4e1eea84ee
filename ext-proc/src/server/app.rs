use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use attache_llm::contract::{Ask, AttemptReport, MASTER_KEY_HASH, UsageBatch, UsageRecord};
use attache_llm::error::ApiError;
use tokio_util::task::TaskTracker;

use super::metrics::Metrics;
use super::recent::Recent;
use super::reconcile::Doubts;
use super::reload::ReloadState;
use super::router_state::RouterState;
use super::serve::Envoy;
use super::stores::StoreHealth;
use crate::config::Config;
use crate::credentials::Keyring;
use crate::entity::Principal;
use crate::keys::{KeyDirectory, Who};
use crate::ledger::{Books, BooksError};
use crate::limits::{Question, Tally};
use crate::routing::{
    Decision, Explanation, Keys, Settled, SnapshotHandle, Verdict, decide, explain, lease, observe, settle,
};
use crate::store::{Counters, Settlement, SpendRow, StoreError, UsageSum};

/// How long an acknowledgement waits for the counters: the batch is durable already.
const SETTLE_PATIENCE: Duration = Duration::from_millis(500);
/// How long a request whose budget has no counter waits for the spool. Rare: a counter lives as long as its window.
const SEED_PATIENCE: Duration = Duration::from_millis(500);

/// What every handler works on.
pub(super) struct App {
    pub(super) keys: Arc<KeyDirectory>,
    pub(super) books: Arc<Books>,
    pub(super) snapshot: SnapshotHandle,
    pub(super) envoy: Arc<dyn Envoy>,
    pub(super) keyring: Arc<Keyring>,
    pub(super) reloads: Arc<ReloadState>,
    /// As it was at the start.
    pub(super) config: Arc<Config>,
    pub(super) routing: RouterState,
    pub(super) stores: StoreHealth,
    pub(super) metrics: Metrics,
    pub(super) draining: AtomicBool,
    /// Requests in progress (long-lived ADS streams are not): a drain waits for them.
    pub(super) work: TaskTracker,
    /// Counters of budgets that may not be what the ledger says.
    pub(super) doubts: Doubts,
    /// Tells a batch that Envoy sends again.
    recent: Recent,
}

impl App {
    pub(super) fn new(
        keys: Arc<KeyDirectory>,
        counters: Arc<dyn Counters>,
        books: Arc<Books>,
        snapshot: SnapshotHandle,
        envoy: Arc<dyn Envoy>,
        (keyring, reloads): (Arc<Keyring>, Arc<ReloadState>),
        config: Arc<Config>,
    ) -> Arc<Self> {
        let live: Arc<dyn Envoy> = Arc::clone(&envoy);
        let routing = RouterState::new(counters, live);
        Arc::new(Self {
            keys,
            books,
            snapshot,
            envoy,
            keyring,
            reloads,
            config,
            routing,
            stores: StoreHealth::default(),
            metrics: Metrics::default(),
            draining: AtomicBool::new(false),
            work: TaskTracker::new(),
            doubts: Doubts::default(),
            recent: Recent::default(),
        })
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Decides, and counts what it decided and how long it took.
    pub(super) async fn decide(&self, ask: &Ask) -> Verdict {
        let begun = Instant::now();
        let context = self.routing.context(self.snapshot.load_full(), self);
        let verdict = decide(&context, ask).await;
        self.metrics.decided(ask, &verdict, begun.elapsed());
        verdict
    }

    /// Decides ahead, and says for how many milliseconds.
    pub(super) async fn lease(&self, ask: &Ask, calls: &[String]) -> Option<(Decision, u64)> {
        if self.is_draining() {
            return None;
        }
        let context = self.routing.context(self.snapshot.load_full(), self);
        lease(&context, ask, calls).await
    }

    /// What it would decide, for those who may know everything. Nothing is reserved or counted.
    pub(super) async fn explain(&self, ask: &Ask) -> Result<Explanation, ApiError> {
        if ask.key != MASTER_KEY_HASH {
            return Err(ApiError::admin_only("x-attache-route: explain"));
        }
        explain(&self.routing.context(self.snapshot.load_full(), self), ask).await
    }

    /// Takes a batch: durable in the spool first, then settled. Runs on when the caller goes away, since Envoy
    /// may give up waiting after the batch became durable.
    pub(super) async fn usage(self: Arc<Self>, batch: UsageBatch) -> Result<usize, BooksError> {
        let UsageBatch { records, attempts, returned, .. } = batch;
        let count = records.len();
        let app = Arc::clone(&self);
        let taken = self.work.spawn(async move {
            app.give_back(returned);
            let taken = Arc::clone(&app).take(records).await;
            // A batch that is not taken comes again: its attempts are counted then.
            if taken.is_ok() && !attempts.is_empty() {
                let observing = Arc::clone(&app);
                app.work.spawn(async move { observing.observe(&attempts).await });
            }
            taken
        });
        match taken.await {
            Ok(outcome) => outcome.map(|()| count),
            Err(_) => Err(BooksError::Closed),
        }
    }

    /// Takes back what was reserved ahead and nobody used.
    fn give_back(self: &Arc<Self>, returned: Vec<String>) {
        if returned.is_empty() {
            return;
        }
        self.metrics.leases.returned(returned.len());
        let unused: Vec<_> = returned.into_iter().map(|id| Settlement::end(id, Vec::new())).collect();
        let app = Arc::clone(self);
        self.work.spawn(async move {
            if let Err(error) = app.routing.counters.settle_all(&unused).await {
                tracing::debug!(%error, "not given back; their leases will end them");
            }
        });
    }

    async fn take(self: Arc<Self>, records: Vec<UsageRecord>) -> Result<(), BooksError> {
        let all = records.len();
        let mut new = records;
        self.recent.retain_new(&mut new, |record| &record.call_id);
        self.metrics.usage(all, all - new.len());
        if new.is_empty() {
            return Ok(());
        }
        let rows = self.books.accept(&new).await?;
        self.metrics.prices.rows(&rows);
        // Those without an id are told by their content, which the ledger has.
        self.recent.remember(new.iter().map(|record| &*record.call_id).filter(|id| !id.is_empty()));
        let app = Arc::clone(&self);
        let settling = self.work.spawn(async move { app.settle(&new, &rows).await });
        // Slow counters must not keep Envoy from its acknowledgement: the rest settles behind it.
        let _ = tokio::time::timeout(SETTLE_PATIENCE, settling).await;
        Ok(())
    }

    async fn settle(&self, records: &[UsageRecord], rows: &[SpendRow]) {
        let snapshot = self.snapshot.load_full();
        let RouterState { counters, breakers, speeds, .. } = &self.routing;
        let settled = settle(&snapshot, counters, breakers, speeds, records, rows).await;
        for (record, settled) in records.iter().zip(settled) {
            if settled == Settled::Away {
                self.metrics.unsettled();
            }
            self.doubts.settled(record, settled, counters.degraded());
        }
    }

    /// Tells the circuit breakers of attempts whose requests go on.
    async fn observe(&self, attempts: &[AttemptReport]) {
        let snapshot = self.snapshot.load_full();
        observe(&snapshot, &self.routing.counters, &self.routing.breakers, attempts).await;
    }
}

#[async_trait]
impl Keys for App {
    async fn principal(&self, id: &str, who: &Who<'_>) -> Result<Option<Principal>, StoreError> {
        self.keys.principal(id, who).await
    }

    /// With what waits in the buffer: a counter that is lost begins where the ledger will be, not where it was before
    /// the last rows. A ledger that does not take them does not answer either.
    async fn used(&self, questions: &[Question]) -> Result<Vec<UsageSum>, StoreError> {
        let flush = tokio::time::timeout(SEED_PATIENCE, self.books.flush()).await;
        let flushed = matches!(flush, Ok(Ok(())));
        let used = self.keys.used(questions).await;
        if !flushed || used.is_err() {
            tracing::debug!(flushed, "counters begin without the last rows, or with nothing");
            self.doubts.add(questions.iter().filter_map(|question| Tally::read(&question.counter)));
        }
        used
    }
}
