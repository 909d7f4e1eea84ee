use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::super::{Circuit, FORGET_CIRCUIT, Failure, MAX_COOLDOWN, Observation, Transition, Trip};
use super::{Map, Now};

/// Circuit breakers and what is counted to open them.
#[derive(Debug, Default)]
pub(crate) struct Breakers {
    circuits: Map<String, Open>,
    outcomes: Map<String, Outcomes>,
    /// Deployment -> kind -> times of the newest failures.
    failures: Map<String, Map<String, VecDeque<Instant>>>,
    /// Minute in which stale entries were last removed.
    pruned: u64,
}

#[derive(Debug)]
struct Open {
    until: Instant,
    until_ms: u64,
    reason: String,
    /// The shared backend does not know it.
    local: bool,
}

/// Outcomes of one minute.
#[derive(Debug, Clone, Copy, Default)]
struct Outcomes {
    minute: u64,
    successes: u64,
    failures: u64,
}

impl Breakers {
    /// Counts the outcomes of a deployment. `local`: the shared backend does not hear of it.
    pub(crate) fn observe(&mut self, now: Now, seen: &Observation, local: bool) -> Option<Transition> {
        self.prune(now);
        let half_open = self.circuits.get(&seen.deployment).is_some_and(|open| open.until <= now.at);
        let outcomes = self.count(now, seen);
        let mut worst: Option<(Duration, &str)> = None;
        for failure in &seen.failures {
            let trips = self.trips(now, &seen.deployment, failure, outcomes) || half_open;
            let cooldown = failure.cooldown.min(MAX_COOLDOWN);
            if trips && !cooldown.is_zero() && worst.is_none_or(|(longest, _)| cooldown > longest) {
                worst = Some((cooldown, &failure.reason));
            }
        }
        if let Some((cooldown, reason)) = worst {
            return self.open(now, &seen.deployment, cooldown, reason, local);
        }
        if half_open && seen.failures.is_empty() && seen.successes > 0 {
            self.close(&seen.deployment);
            return Some(Transition::Closed(seen.deployment.clone()));
        }
        None
    }

    pub(crate) fn is_open(&self, now: Instant, deployment: &str) -> bool {
        self.circuits.get(deployment).is_some_and(|open| open.until > now)
    }

    pub(crate) fn list(&mut self, now: Now) -> Vec<Circuit> {
        self.prune(now);
        self.circuits.iter().map(|(deployment, open)| open.circuit(deployment)).collect()
    }

    /// Those that the shared backend may not know: opened without it, or open still (it may have lost its data).
    pub(crate) fn untold(&mut self, now: Now) -> Vec<Circuit> {
        self.prune(now);
        let untold = self.circuits.iter().filter(|(_, open)| open.local || open.until > now.at);
        untold.map(|(deployment, open)| open.circuit(deployment)).collect()
    }

    /// Follows the shared backend.
    pub(crate) fn replace(&mut self, now: Now, shared: &[Circuit]) {
        self.circuits.clear();
        for circuit in shared {
            self.follow(now, &Transition::Opened(circuit.clone()));
        }
    }

    pub(crate) fn follow(&mut self, now: Now, transition: &Transition) {
        match transition {
            Transition::Opened(circuit) => {
                let until = now.instant(circuit.until_ms);
                let open =
                    Open { until, until_ms: circuit.until_ms, reason: circuit.reason.clone(), local: false };
                self.circuits.insert(circuit.deployment.clone(), open);
            }
            Transition::Closed(deployment) => self.close(deployment),
        }
    }

    fn count(&mut self, now: Now, seen: &Observation) -> Outcomes {
        if seen.successes == 0 && seen.failures.is_empty() {
            return Outcomes::default();
        }
        let outcomes = self.outcomes.entry(seen.deployment.clone()).or_default();
        if outcomes.minute != now.minute() {
            *outcomes = Outcomes { minute: now.minute(), ..Outcomes::default() };
        }
        outcomes.successes += u64::from(seen.successes);
        outcomes.failures += seen.failures.len() as u64;
        *outcomes
    }

    fn trips(&mut self, now: Now, deployment: &str, failure: &Failure, outcomes: Outcomes) -> bool {
        match &failure.trip {
            Trip::Never => false,
            Trip::Now => true,
            Trip::Count { kind, allowed, window } => {
                self.too_many(now.at, deployment, kind, *allowed, *window)
            }
            Trip::Share { percent, min } => {
                let total = outcomes.successes + outcomes.failures;
                total >= u64::from(*min) && outcomes.failures * 100 > u64::from(*percent) * total
            }
        }
    }

    fn too_many(
        &mut self,
        now: Instant,
        deployment: &str,
        kind: &str,
        allowed: u32,
        window: Duration,
    ) -> bool {
        let limit = allowed as usize + 1;
        let times =
            self.failures.entry(deployment.to_owned()).or_default().entry(kind.to_owned()).or_default();
        times.push_back(now);
        while times.len() > limit || times.front().is_some_and(|first| now.duration_since(*first) >= window) {
            times.pop_front();
        }
        times.len() >= limit
    }

    /// Opens for at least `cooldown`. The later deadline wins; `None` if that is the standing one.
    fn open(
        &mut self,
        now: Now,
        deployment: &str,
        cooldown: Duration,
        reason: &str,
        local: bool,
    ) -> Option<Transition> {
        let until = now.at + cooldown;
        if self.circuits.get(deployment).is_some_and(|standing| standing.until >= until) {
            return None;
        }
        let until_ms = now.wall_ms.saturating_add(u64::try_from(cooldown.as_millis()).unwrap_or(u64::MAX));
        let open = Open { until, until_ms, reason: reason.to_owned(), local };
        let circuit = open.circuit(deployment);
        self.circuits.insert(deployment.to_owned(), open);
        Some(Transition::Opened(circuit))
    }

    /// Starts afresh: what made it open does not open it again.
    fn close(&mut self, deployment: &str) {
        self.circuits.remove(deployment);
        self.outcomes.remove(deployment);
        self.failures.remove(deployment);
    }

    fn prune(&mut self, now: Now) {
        self.circuits.retain(|_, open| open.until + FORGET_CIRCUIT > now.at);
        if self.pruned == now.minute() {
            return;
        }
        self.pruned = now.minute();
        self.outcomes.retain(|_, outcomes| outcomes.minute == now.minute());
        self.failures.retain(|_, kinds| {
            kinds.retain(|_, times| {
                times.back().is_some_and(|last| now.at.duration_since(*last) < MAX_COOLDOWN)
            });
            !kinds.is_empty()
        });
    }
}

impl Open {
    fn circuit(&self, deployment: &str) -> Circuit {
        Circuit { deployment: deployment.to_owned(), until_ms: self.until_ms, reason: self.reason.clone() }
    }
}
