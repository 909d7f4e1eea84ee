//! Budgets read the ledger, however their counters were lost: those in doubt are compared with it and moved.
//!
//! A counter can miss what the ledger has: its reservation was lost with Redis or with the process, or outlived its lease.
//! It can have what the ledger misses, when it was brought back from a replica's memory. Such counters are known: the
//! settlement found nothing, or came at a time when data was lost. They alone are looked at, a few at a time, by one
//! replica at a time:
//!
//! ```text
//! A = settled part of the counter      L0 = ledger       (wait)       B = settled part      L1 = ledger
//! what was settled by A is in the ledger by L1: A > L1, the counter is too high by the difference
//! what was in the ledger by L0 is settled by B: L0 > B, it is too low by it
//! ```
//!
//! Traffic in between hides a part of a difference, and makes none. A counter is out of doubt when all four are equal.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use attache_llm::contract::UsageRecord;
use parking_lot::Mutex;

use super::app::App;
use crate::limits::{Owner, Tally};
use crate::routing::{Settled, now_ms};
use crate::store::{Correction, Counter, Standing, StoreError};

/// How often it is looked whether there is something to compare.
const EVERY: Duration = Duration::from_millis(500);
/// Counters compared at once, and in doubt at most; those beyond come again with their next doubtful settlement.
const AT_ONCE: usize = 20;
const MOST: usize = 20_000;
/// After data was lost, and after the start, every settlement is doubtful for so long.
const UNSURE_FOR_MS: u64 = 60_000;
/// A counter that is never quiet is let go after so long: by then no more of a difference is left than its traffic hides.
const GIVE_UP: Duration = Duration::from_secs(3_600);
/// Between the two looks, beside the time in which every replica writes its rows.
const MARGIN: Duration = Duration::from_secs(2);
/// Longest wait for the own rows.
const FLUSH_PATIENCE: Duration = Duration::from_secs(5);

/// Counters of budgets that may not be what the ledger says.
#[derive(Debug)]
pub(super) struct Doubts {
    /// Unix milliseconds.
    unsure_until: AtomicU64,
    corrections: AtomicU64,
    suspects: Mutex<HashMap<Counter, Suspect>>,
}

#[derive(Debug, Clone)]
struct Suspect {
    tally: Tally,
    since: Instant,
    /// Round of the last comparison: those that waited longest are next.
    round: u64,
    /// By how much it was too high then. Rows of another replica may be late: only what is so twice counts.
    high: u64,
}

impl Default for Doubts {
    /// What a former process left in flight is unknown here.
    fn default() -> Self {
        Self {
            unsure_until: AtomicU64::new(now_ms().saturating_add(UNSURE_FOR_MS)),
            corrections: AtomicU64::default(),
            suspects: Mutex::default(),
        }
    }
}

impl Doubts {
    /// Data was lost, or may be.
    fn unsure(&self) {
        self.unsure_until.store(now_ms().saturating_add(UNSURE_FOR_MS), Ordering::Relaxed);
    }

    /// What became of a settlement.
    pub(super) fn settled(&self, record: &UsageRecord, settled: Settled, degraded: bool) {
        if degraded {
            self.unsure();
        }
        if settled == Settled::Done && self.unsure_until.load(Ordering::Relaxed) < now_ms() {
            return;
        }
        let owner = record.owner.as_deref().and_then(|text| Owner::decode(text, &record.key));
        self.add(owner.iter().flat_map(Owner::tallies));
    }

    pub(super) fn add(&self, tallies: impl IntoIterator<Item = Tally>) {
        let mut suspects = self.suspects.lock();
        for tally in tallies {
            if suspects.len() >= MOST && !suspects.contains_key(&tally.counter) {
                return;
            }
            let fresh = || Suspect { tally: tally.clone(), since: Instant::now(), round: 0, high: 0 };
            suspects.entry(tally.counter.clone()).or_insert_with(fresh);
        }
    }

    pub(super) fn corrections(&self) -> u64 {
        self.corrections.load(Ordering::Relaxed)
    }

    pub(super) fn len(&self) -> u64 {
        self.suspects.lock().len() as u64
    }

    /// The next to compare.
    fn next(&self) -> Vec<Suspect> {
        let mut suspects = self.suspects.lock();
        suspects.retain(|_, suspect| suspect.since.elapsed() < GIVE_UP);
        let by_round: BTreeMap<(u64, &Counter), &Suspect> =
            suspects.iter().map(|(counter, suspect)| ((suspect.round, counter), suspect)).collect();
        by_round.into_values().take(AT_ONCE).cloned().collect()
    }

    /// What a comparison found: out of doubt, or the correction to make.
    fn compared(&self, suspect: &Suspect, found: &Found, round: u64) -> Option<Correction> {
        let counter = &suspect.tally.counter;
        let mut suspects = self.suspects.lock();
        let Verdict { low, high, quiet } = found.verdict();
        if quiet {
            suspects.remove(counter);
            return None;
        }
        let entry = suspects.get_mut(counter)?;
        let down = high.min(entry.high);
        entry.round = round;
        entry.high = high.saturating_sub(down);
        let by =
            i64::try_from(low).unwrap_or(i64::MAX).saturating_sub(i64::try_from(down).unwrap_or(i64::MAX));
        (by != 0).then(|| Correction { counter: counter.clone(), by })
    }
}

/// A counter and the ledger, twice each. `None`: not there.
#[derive(Debug, Clone, Copy)]
struct Found {
    counter: [Option<Standing>; 2],
    ledger: [Option<u64>; 2],
}

#[derive(Debug, PartialEq, Eq)]
struct Verdict {
    low: u64,
    high: u64,
    /// Nothing to compare any more, or all is equal and nothing moves.
    quiet: bool,
}

impl Found {
    fn verdict(&self) -> Verdict {
        let ([Some(before), Some(after)], [Some(first), Some(last)]) = (self.counter, self.ledger) else {
            // A counter that is gone begins with what the ledger says; one that began just now, with what it said a moment
            // ago. What the ledger does not know nobody can compare.
            let quiet = self.counter == [None, None] || self.ledger == [None, None];
            return Verdict { low: 0, high: 0, quiet };
        };
        let settled = |standing: Standing| Some(standing.value.saturating_sub(standing.held?));
        let high = settled(before).map_or(0, |settled| settled.saturating_sub(last));
        // With what is reserved on it, a counter is no lower than it looks.
        let low = first.saturating_sub(settled(after).unwrap_or(after.value));
        let all = [settled(before), settled(after), Some(first), Some(last)];
        let quiet = all.iter().all(|one| *one == Some(first));
        // Both at once: it was moved by somebody else in between.
        if low > 0 && high > 0 { Verdict { low: 0, high: 0, quiet } } else { Verdict { low, high, quiet } }
    }
}

/// Compares for as long as the process runs.
pub(super) async fn watch(app: Arc<App>) {
    let mut round = 0;
    loop {
        tokio::time::sleep(EVERY).await;
        let counters = &app.routing.counters;
        if counters.degraded() {
            app.doubts.unsure();
            continue;
        }
        let restored = counters.restored();
        if !restored.is_empty() {
            app.doubts.unsure();
            app.doubts.add(restored.iter().filter_map(Tally::read));
        }
        let suspects = app.doubts.next();
        if suspects.is_empty() || app.is_draining() {
            continue;
        }
        round += 1;
        if let Err(error) = compare(&app, &suspects, round).await {
            tracing::debug!(%error, "counters not compared with the ledger");
        }
    }
}

async fn compare(app: &App, suspects: &[Suspect], round: u64) -> Result<(), StoreError> {
    let counters: Vec<Counter> = suspects.iter().map(|suspect| suspect.tally.counter.clone()).collect();
    let tallies: Vec<Tally> = suspects.iter().map(|suspect| suspect.tally.clone()).collect();
    let interval = app.config.general_settings.proxy_batch_write_at.max(1);
    let wait = Duration::from_secs(interval).saturating_add(MARGIN);
    let turn = wait.saturating_mul(2).saturating_add(FLUSH_PATIENCE.saturating_mul(3));
    let Some(before) = app.routing.counters.standing(&counters, turn).await? else { return Ok(()) };
    let Some(first) = ledger(app, &tallies).await? else { return Ok(()) };
    tokio::time::sleep(wait).await;
    let Some(after) = app.routing.counters.standing(&counters, turn).await? else { return Ok(()) };
    let Some(last) = ledger(app, &tallies).await? else { return Ok(()) };
    let mut corrections = Vec::new();
    for (at, suspect) in suspects.iter().enumerate() {
        let standing = |all: &[Option<Standing>]| all.get(at).copied().flatten();
        let sum = |all: &[Option<u64>]| all.get(at).copied().flatten();
        let found =
            Found { counter: [standing(&before), standing(&after)], ledger: [sum(&first), sum(&last)] };
        corrections.extend(app.doubts.compared(suspect, &found, round));
    }
    if !corrections.is_empty() && app.routing.counters.correct(&corrections).await? {
        app.doubts.corrections.fetch_add(corrections.len() as u64, Ordering::Relaxed);
        for Correction { counter, by } in &corrections {
            tracing::info!(%counter, nanos = by, "a budget's counter was not what the ledger says, and is now");
        }
    }
    Ok(())
}

/// With the own rows. `None`: the database does not take them.
async fn ledger(app: &App, tallies: &[Tally]) -> Result<Option<Vec<Option<u64>>>, StoreError> {
    match tokio::time::timeout(FLUSH_PATIENCE, app.books.flush()).await {
        Ok(Ok(())) => Ok(Some(app.keys.spent(tallies).await?)),
        _ => Ok(None),
    }
}

#[cfg(test)]
#[path = "reconcile_tests.rs"]
mod tests;
