use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::store::{Counters, Sample, Speed, StoreError};

/// How often [`Speeds::refresh`] is to be called.
pub const SPEEDS_INTERVAL: Duration = Duration::from_secs(1);

/// Means of the measured speeds of all replicas, cached in this process for latency-based routing.
#[derive(Debug, Default)]
pub struct Speeds {
    means: ArcSwap<HashMap<String, Means>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Means {
    first_event: Mean,
    per_token: Mean,
}

#[derive(Debug, Clone, Copy, Default)]
struct Mean {
    sum: u64,
    count: u64,
}

impl Mean {
    fn add(&mut self, micros: u64) {
        self.sum = self.sum.saturating_add(micros);
        self.count = self.count.saturating_add(1);
    }

    fn value(self) -> Option<u64> {
        self.sum.checked_div(self.count)
    }
}

impl Speeds {
    /// Nothing measured yet.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// Mean of a deployment's samples, microseconds.
    #[must_use]
    pub fn of(&self, deployment: &str, speed: Speed) -> Option<u64> {
        let means = self.means.load();
        let means = means.get(deployment)?;
        match speed {
            Speed::FirstEvent => means.first_event.value(),
            Speed::PerToken => means.per_token.value(),
        }
    }

    /// Takes own samples into account until the next refresh.
    pub(super) fn add(&self, samples: &[Sample]) {
        if !samples.is_empty() {
            self.means.rcu(|known| add(HashMap::clone(known), samples));
        }
    }

    /// Takes over the samples of all replicas.
    ///
    /// # Errors
    /// Counters away: what is known stays.
    pub async fn refresh(&self, counters: &dyn Counters) -> Result<(), StoreError> {
        let samples = counters.samples().await?;
        if !samples.is_empty() || !self.means.load().is_empty() {
            self.means.store(Arc::new(add(HashMap::new(), &samples)));
        }
        Ok(())
    }
}

fn add(mut out: HashMap<String, Means>, samples: &[Sample]) -> HashMap<String, Means> {
    for sample in samples {
        if !out.contains_key(&sample.deployment) {
            out.insert(sample.deployment.clone(), Means::default());
        }
        let Some(means) = out.get_mut(&sample.deployment) else { continue };
        match sample.speed {
            Speed::FirstEvent => means.first_event.add(sample.micros),
            Speed::PerToken => means.per_token.add(sample.micros),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_are_kept_per_deployment_and_kind() {
        let sample =
            |deployment: &str, speed, micros| Sample { deployment: deployment.into(), speed, micros };
        let speeds = Speeds::default();
        speeds.add(&[
            sample("a", Speed::FirstEvent, 100),
            sample("a", Speed::FirstEvent, 300),
            sample("a", Speed::PerToken, 7),
            sample("b", Speed::PerToken, 9),
        ]);
        assert_eq!(speeds.of("a", Speed::FirstEvent), Some(200));
        assert_eq!(speeds.of("a", Speed::PerToken), Some(7));
        assert_eq!(speeds.of("b", Speed::FirstEvent), None);
        assert_eq!(speeds.of("c", Speed::PerToken), None);
    }
}
