use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::now_ms;
use crate::store::{Circuit, Counters, StoreError, Transition};

/// How often [`Breakers::refresh`] is to be called: other replicas' breakers are seen within this time.
pub const REFRESH_INTERVAL: Duration = Duration::from_millis(500);
/// A deployment whose credential is refused is logged once in this time, not with every request.
const CREDENTIAL_LOG_EVERY: Duration = Duration::from_secs(60);

/// State of one deployment's circuit breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Breaker {
    Closed,
    /// Out of service until then, Unix milliseconds.
    Open {
        until_ms: u64,
    },
    /// Its time is over: one request at a time may try it.
    HalfOpen,
}

/// Circuit breakers that are not closed, cached in this process so that a decision never waits for the counters.
///
/// Own observations are entered at once ([`Self::apply`]), other replicas' by [`Self::refresh`].
#[derive(Debug, Default)]
pub struct Breakers {
    /// By deployment. Replaced whole: readers take no lock.
    circuits: ArcSwap<HashMap<String, Circuit>>,
    /// Rises with every own change, so that an older list of the shared backend does not undo it.
    changes: AtomicU64,
    opened: AtomicU64,
    credentials: Mutex<BTreeMap<String, Credential>>,
}

#[derive(Debug, Default)]
struct Credential {
    failures: u64,
    logged: Option<Instant>,
}

impl Breakers {
    /// All closed.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// State of a deployment's breaker at `now_ms` (Unix milliseconds).
    #[must_use]
    pub fn state(&self, deployment: &str, now_ms: u64) -> Breaker {
        state_in(&self.circuits.load(), deployment, now_ms)
    }

    /// All states at one moment, for a decision that looks at many.
    pub(super) fn view(&self) -> Arc<HashMap<String, Circuit>> {
        self.circuits.load_full()
    }

    /// Every breaker that is not closed, by deployment.
    #[must_use]
    pub fn list(&self) -> Vec<Circuit> {
        let mut list: Vec<Circuit> = self.circuits.load().values().cloned().collect();
        list.sort_by(|a, b| a.deployment.cmp(&b.deployment));
        list
    }

    /// How often a breaker opened, here or as first seen from another replica.
    #[must_use]
    pub fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    /// Deployments whose credential was refused by the provider (401, 403), with how often.
    #[must_use]
    pub fn credential_failures(&self) -> Vec<(String, u64)> {
        self.credentials.lock().iter().map(|(deployment, c)| (deployment.clone(), c.failures)).collect()
    }

    /// Takes over what all replicas know.
    ///
    /// # Errors
    /// Counters away: what is known stays.
    pub async fn refresh(&self, counters: &dyn Counters) -> Result<(), StoreError> {
        let before = self.changes.load(Ordering::Acquire);
        let circuits = counters.circuits().await?;
        if self.changes.load(Ordering::Acquire) != before {
            // Something was observed meanwhile: the answer may be older than that. The next one is in half a second.
            return Ok(());
        }
        let next: HashMap<String, Circuit> =
            circuits.into_iter().map(|circuit| (circuit.deployment.clone(), circuit)).collect();
        let current = self.circuits.load_full();
        if *current == next {
            return Ok(());
        }
        for circuit in next.values() {
            self.note_opened(&current, circuit);
        }
        for gone in current.keys().filter(|deployment| !next.contains_key(*deployment)) {
            note_closed(gone);
        }
        self.circuits.store(Arc::new(next));
        Ok(())
    }

    /// Enters what observations changed.
    pub fn apply(&self, transitions: &[Transition]) {
        if transitions.is_empty() {
            return;
        }
        self.changes.fetch_add(1, Ordering::AcqRel);
        let current = self.circuits.load_full();
        for transition in transitions {
            match transition {
                Transition::Opened(circuit) => self.note_opened(&current, circuit),
                Transition::Closed(deployment) if current.contains_key(deployment) => note_closed(deployment),
                Transition::Closed(_) => {}
            }
        }
        self.circuits.rcu(|circuits| {
            let mut next = HashMap::clone(circuits);
            for transition in transitions {
                match transition {
                    Transition::Opened(circuit) => {
                        let later =
                            next.get(&circuit.deployment).is_some_and(|c| c.until_ms > circuit.until_ms);
                        if !later {
                            next.insert(circuit.deployment.clone(), circuit.clone());
                        }
                    }
                    Transition::Closed(deployment) => {
                        next.remove(deployment);
                    }
                }
            }
            next
        });
    }

    /// Counts and logs a circuit that was not known to be open.
    fn note_opened(&self, known: &HashMap<String, Circuit>, circuit: &Circuit) {
        let now = now_ms();
        let was_open = matches!(state_in(known, &circuit.deployment, now), Breaker::Open { .. });
        if was_open || circuit.until_ms <= now {
            return;
        }
        self.opened.fetch_add(1, Ordering::Relaxed);
        let for_ms = circuit.until_ms.saturating_sub(now);
        tracing::warn!(
            deployment = circuit.deployment,
            reason = circuit.reason,
            for_ms,
            "deployment cools down"
        );
    }

    /// The provider refused the gateway's own credential: the operator must hear of it, since no other deployment
    /// and no waiting cures it.
    pub(super) fn credential_failed(&self, deployment: &str, status: u16) {
        let mut credentials = self.credentials.lock();
        let entry = credentials.entry(deployment.to_owned()).or_default();
        entry.failures = entry.failures.saturating_add(1);
        if entry.logged.is_none_or(|at| at.elapsed() >= CREDENTIAL_LOG_EVERY) {
            entry.logged = Some(Instant::now());
            tracing::error!(
                deployment,
                status,
                failures = entry.failures,
                "credential failure: the provider refuses this deployment's key"
            );
        }
    }
}

fn note_closed(deployment: &str) {
    tracing::info!(deployment, "deployment is back in service");
}

pub(super) fn state_in(circuits: &HashMap<String, Circuit>, deployment: &str, now_ms: u64) -> Breaker {
    match circuits.get(deployment) {
        None => Breaker::Closed,
        Some(circuit) if circuit.until_ms > now_ms => Breaker::Open { until_ms: circuit.until_ms },
        Some(_) => Breaker::HalfOpen,
    }
}

#[cfg(test)]
#[path = "breakers_tests.rs"]
mod tests;
