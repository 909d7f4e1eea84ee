use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::now_ms;
use crate::store::{Cooldown, Counters, StoreError};

/// How often [`Cooldowns::refresh`] is to be called: other replicas' cooldowns are seen within this time.
pub const REFRESH_INTERVAL: Duration = Duration::from_millis(500);

/// Deployments cooling now, cached in this process so that a decision never waits for the counters.
///
/// Own failures are entered at once, other replicas' by [`Self::refresh`]. A deadline only ever moves later.
#[derive(Debug, Default)]
pub struct Cooldowns {
    /// Deployment -> Unix milliseconds. Replaced whole: readers take no lock.
    cooling: ArcSwap<HashMap<String, u64>>,
    started: AtomicU64,
}

impl Cooldowns {
    /// Nothing cooling.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// Until when a deployment cools (Unix milliseconds), if it does at `now_ms`.
    #[must_use]
    pub fn until(&self, deployment: &str, now_ms: u64) -> Option<u64> {
        self.cooling.load().get(deployment).copied().filter(|&until| until > now_ms)
    }

    /// Cooldowns that began in this process or were first seen from another replica.
    #[must_use]
    pub fn started(&self) -> u64 {
        self.started.load(Ordering::Relaxed)
    }

    /// Enters deadlines (Unix milliseconds) and forgets those that have passed.
    pub fn enter(&self, deadlines: &[(String, u64)]) {
        let now = now_ms();
        let current = self.cooling.load();
        if deadlines.is_empty() && current.values().all(|&until| until > now) {
            return;
        }
        let is_new = |(name, until): &&(String, u64)| *until > now && self.until(name, now).is_none();
        let begun: Vec<&(String, u64)> = deadlines.iter().filter(is_new).collect();
        for (deployment, until) in &begun {
            tracing::warn!(deployment, for_ms = until.saturating_sub(now), "deployment cools down");
        }
        self.started.fetch_add(begun.len() as u64, Ordering::Relaxed);
        self.cooling.rcu(|cooling| {
            let mut next: HashMap<String, u64> =
                cooling.iter().filter(|(_, until)| **until > now).map(|(d, u)| (d.clone(), *u)).collect();
            for (deployment, until) in deadlines.iter().filter(|(_, until)| *until > now) {
                let entry = next.entry(deployment.clone()).or_default();
                *entry = (*entry).max(*until);
            }
            next
        });
    }

    /// Takes over what all replicas know.
    pub async fn refresh(&self, counters: &dyn Counters) -> Result<(), StoreError> {
        let cooling = counters.cooling().await?;
        self.enter(&cooling);
        Ok(())
    }

    /// Counts a failure and enters the cooldown that it may have begun.
    pub(super) async fn failed(&self, counters: &dyn Counters, failure: &Cooldown) -> Result<(), StoreError> {
        if let Some(until) = counters.record_failure(failure).await? {
            self.enter(&[(failure.deployment.clone(), until)]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_deadline_wins_and_an_earlier_one_does_not() {
        let cooldowns = Cooldowns::new();
        let now = now_ms();
        cooldowns.enter(&[("a".into(), now + 60_000)]);
        cooldowns.enter(&[("a".into(), now + 5_000)]);
        assert_eq!(cooldowns.until("a", now), Some(now + 60_000));
        cooldowns.enter(&[("a".into(), now + 90_000)]);
        assert_eq!(cooldowns.until("a", now), Some(now + 90_000));
        assert_eq!(cooldowns.started(), 1);
    }

    #[test]
    fn deadlines_end_by_themselves() {
        let cooldowns = Cooldowns::new();
        let now = now_ms();
        cooldowns.enter(&[("a".into(), now + 1_000), ("old".into(), now.saturating_sub(1))]);
        assert_eq!(cooldowns.until("a", now + 999), Some(now + 1_000));
        assert_eq!(cooldowns.until("a", now + 1_000), None);
        assert_eq!(cooldowns.until("old", 0), None, "a deadline that has passed is not entered");
    }

    #[test]
    fn a_refresh_does_not_forget_own_cooldowns() {
        let cooldowns = Cooldowns::new();
        let now = now_ms();
        cooldowns.enter(&[("own".into(), now + 10_000)]);
        cooldowns.enter(&[("other".into(), now + 10_000)]);
        assert!(cooldowns.until("own", now).is_some() && cooldowns.until("other", now).is_some());
    }
}
