//! From the loss of Redis until it counts again, its data included.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::super::memory::{Entry, Share};
use super::super::redis::Joined;
use super::super::{Counters, Settlement, StoreError};
use super::Inner;
use super::missed::Missed;

/// Probes after which everyone who lives has seen that the data is gone, and told what was known: until then nobody
/// counts from it alone.
const GRACE: u32 = 4;
/// Probes after which a silent replica is gone.
const GONE: u32 = 12;
/// A lease that ended while Redis was away lives for so long there, until its end is told.
const BRIEFLY: Duration = Duration::from_secs(10);

impl Inner {
    /// Makes itself known, and brings back what the server lost. Returns how long not to count from it yet.
    pub(super) async fn rejoin(&self) -> Result<Duration, StoreError> {
        let joined = self.primary.join(&self.replica, self.probe.saturating_mul(GONE)).await?;
        let known = self.primary.epoch();
        if known != joined.epoch {
            let lost = !known.is_empty() && !joined.kept;
            if lost {
                self.restore(&joined.epoch).await?;
            }
            self.primary.set_epoch(Arc::clone(&joined.epoch));
            if lost {
                self.twin.forget_moments();
                self.primary.enter(&self.twin.all_circuits()).await?;
            }
        }
        let wait = self.grace(&joined);
        self.count(&joined, wait);
        Ok(wait)
    }

    fn grace(&self, joined: &Joined) -> Duration {
        if joined.kept {
            return Duration::ZERO;
        }
        let grace = self.probe.saturating_mul(GRACE);
        match grace.saturating_sub(joined.age) {
            Duration::ZERO if joined.age < grace.saturating_mul(GRACE) => joined.restoring,
            left => left,
        }
    }

    /// Remembers how many replicas there are. While the data is fresh, not all have said so.
    fn count(&self, joined: &Joined, wait: Duration) {
        let told = Share { replicas: joined.replicas, rank: joined.rank };
        let mut share = self.share.lock();
        if wait.is_zero() || told.replicas >= share.replicas {
            *share = told;
        }
    }

    async fn restore(&self, epoch: &str) -> Result<(), StoreError> {
        let mut leases: HashMap<Arc<str>, Entry> =
            self.twin.entries(false).into_iter().map(|entry| (Arc::clone(&entry.id), entry)).collect();
        let ended = self.missed.lock().known_leases();
        for entry in self.twin.ended_entries(ended.iter().map(|(id, lease)| (id.as_str(), lease))) {
            merge(&mut leases, entry);
        }
        let leases: Vec<Entry> = leases.into_values().collect();
        let (counters, others) = (self.twin.views(), self.others.lock().ids());
        let wait = self.probe.saturating_mul(2);
        self.primary.restore(epoch, &counters, &leases, &others, wait).await?;
        *self.restored.lock() = counters.iter().map(|learnt| learnt.counter.clone()).collect();
        tracing::warn!(
            counters = counters.len(),
            leases = leases.len(),
            "the shared counters had lost their data, which this replica brought back as far as it knew"
        );
        Ok(())
    }

    /// Tells the backend of leases, settlements and circuit breakers that it missed.
    pub(super) async fn catch_up(&self) -> Result<usize, StoreError> {
        let leases = self.twin.entries(true);
        self.primary.enter_leases(&leases, false).await?;
        self.twin.entered(&leases);
        let mut told = 0;
        loop {
            let batch = self.missed.lock().take();
            if batch.is_empty() {
                break;
            }
            if let Err(error) = self.tell(&batch).await {
                // Nothing is lost, and what was told already is not counted twice.
                self.missed.lock().put_back(batch);
                return Err(error);
            }
            told += batch.len();
        }
        self.primary.enter(&self.twin.untold_circuits()).await?;
        Ok(told)
    }

    async fn tell(&self, batch: &[Missed]) -> Result<(), StoreError> {
        let mut leases = HashMap::new();
        let ended = batch.iter().filter(|missed| missed.local);
        let ended = ended.filter_map(|missed| Some((missed.settlement.id.as_str(), missed.lease.as_ref()?)));
        for entry in self.twin.ended_entries(ended) {
            merge(&mut leases, entry);
        }
        let leases: Vec<Entry> = leases.into_values().collect();
        self.primary.enter_leases(&leases, false).await?;
        let settlements: Vec<Settlement> = batch.iter().map(|missed| missed.settlement.clone()).collect();
        let local = |index: usize| batch.get(index).is_some_and(|missed| missed.local);
        let settled = self.primary.settle_told(&settlements, local).await?;
        self.twin.told(settlements.iter());
        self.twin.learn(settled.counters);
        Ok(())
    }
}

/// Parts of one lease may have ended one by one.
fn merge(leases: &mut HashMap<Arc<str>, Entry>, mut ended: Entry) {
    ended.left = ended.left.max(BRIEFLY);
    match leases.get_mut(&ended.id) {
        Some(entry) => {
            entry.charges.append(&mut ended.charges);
            entry.settled.append(&mut ended.settled);
            entry.left = entry.left.max(ended.left);
        }
        None => {
            leases.insert(Arc::clone(&ended.id), ended);
        }
    }
}

/// Until Redis counts again.
pub(super) async fn probe(inner: Weak<Inner>, every: Duration) {
    let mut pause = every;
    loop {
        tokio::time::sleep(pause).await;
        pause = every;
        let Some(inner) = inner.upgrade() else { return };
        if inner.primary.ping().await.is_err() {
            continue;
        }
        match inner.rejoin().await {
            Ok(Duration::ZERO) => {}
            Ok(wait) => {
                pause = wait.min(every);
                continue;
            }
            Err(error) => {
                tracing::debug!(%error, "shared counters answer, but not yet to scripts");
                continue;
            }
        }
        let told = match inner.catch_up().await {
            Ok(told) => told,
            Err(error) => {
                tracing::debug!(%error, "shared counters answer, but not yet to scripts");
                continue;
            }
        };
        *inner.late.lock() = None;
        inner.degraded.store(false, Ordering::Release);
        tracing::info!(settlements = told, "shared counters are back");
        // A settlement may have been queued between the last look and the change.
        if let Err(error) = inner.catch_up().await {
            inner.degrade(&error);
        }
        return;
    }
}

/// Says that this replica lives, and finds out about lost data when there are no requests.
pub(super) async fn heartbeat(inner: Weak<Inner>, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        let Some(inner) = inner.upgrade() else { return };
        if inner.is_degraded() {
            continue;
        }
        match inner.primary.join(&inner.replica, every.saturating_mul(GONE)).await {
            Ok(joined) if joined.epoch == inner.primary.epoch() => inner.count(&joined, Duration::ZERO),
            Ok(_) => inner.degrade(&super::lost("another epoch")),
            Err(error) => tracing::debug!(%error, "the shared counters did not hear that this replica lives"),
        }
    }
}
