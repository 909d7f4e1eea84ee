use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::super::{MAX_COOLDOWN, MAX_SAMPLE_NAMES, MAX_SAMPLES, Sample, Speed};
use super::Map;

/// How long samples of the shared backend are kept that were never measured here.
const LEARNT_TTL: Duration = Duration::from_secs(3_600);

/// The newest samples per deployment and speed.
#[derive(Debug, Default)]
pub(crate) struct Samples {
    kept: Map<(Speed, String), Kept>,
}

#[derive(Debug)]
struct Kept {
    micros: VecDeque<u64>,
    expires: Instant,
}

impl Samples {
    pub(crate) fn add(&mut self, now: Instant, samples: &[Sample], keep: usize, ttl: Duration) {
        let expires = now + ttl.min(MAX_COOLDOWN);
        for sample in samples {
            let name = (sample.speed, sample.deployment.clone());
            if self.kept.len() >= MAX_SAMPLE_NAMES && !self.kept.contains_key(&name) {
                self.kept.retain(|_, kept| kept.expires > now);
                if self.kept.len() >= MAX_SAMPLE_NAMES {
                    continue;
                }
            }
            let kept = self.kept.entry(name).or_insert_with(|| Kept { micros: VecDeque::new(), expires });
            if kept.expires <= now {
                kept.micros.clear();
            }
            kept.expires = expires;
            kept.micros.push_back(sample.micros);
            while kept.micros.len() > keep.clamp(1, MAX_SAMPLES) {
                kept.micros.pop_front();
            }
        }
    }

    pub(crate) fn list(&mut self, now: Instant) -> Vec<Sample> {
        self.kept.retain(|_, kept| kept.expires > now);
        let all = self.kept.iter().flat_map(|((speed, deployment), kept)| {
            let sample = |&micros| Sample { deployment: deployment.clone(), speed: *speed, micros };
            kept.micros.iter().map(sample)
        });
        all.collect()
    }

    /// Follows the shared backend.
    pub(crate) fn replace(&mut self, now: Instant, shared: &[Sample]) {
        let before = std::mem::take(&mut self.kept);
        for sample in shared {
            let name = (sample.speed, sample.deployment.clone());
            let expires = before.get(&name).map_or(now + LEARNT_TTL, |kept| kept.expires);
            let kept = self.kept.entry(name).or_insert_with(|| Kept { micros: VecDeque::new(), expires });
            kept.micros.push_back(sample.micros);
        }
    }
}
