use std::sync::Arc;

use rand::Rng;
use rand::seq::SliceRandom;

use super::Deployment;

/// Orders candidates by weighted random without replacement: by `weight`, else by `rpm`, else by `tpm`, else
/// evenly. Those without a weight beside weighted ones come last, in random order.
pub(super) fn order<'a>(candidates: &[&'a Arc<Deployment>], rng: &mut impl Rng) -> Vec<&'a Arc<Deployment>> {
    let weight = dimension(candidates);
    let mut keyed: Vec<(f64, &Arc<Deployment>)> = Vec::with_capacity(candidates.len());
    let mut last = Vec::new();
    for &candidate in candidates {
        match weight(candidate) {
            0 => last.push(candidate),
            w => keyed.push((arrival(w, rng), candidate)),
        }
    }
    keyed.sort_by(|a, b| a.0.total_cmp(&b.0));
    last.shuffle(rng);
    keyed.into_iter().map(|(_, c)| c).chain(last).collect()
}

type Weight = fn(&Deployment) -> u64;

/// The first dimension in which anyone has a weight.
fn dimension(candidates: &[&Arc<Deployment>]) -> Weight {
    const DIMENSIONS: [Weight; 3] =
        [|d| d.weight.unwrap_or(0), |d| d.rpm.unwrap_or(0), |d| d.tpm.unwrap_or(0)];
    DIMENSIONS.into_iter().find(|weight| candidates.iter().any(|c| weight(c) > 0)).unwrap_or(|_| 1)
}

/// Exponential arrival time with rate `weight`: the order of arrival is weighted sampling without replacement.
fn arrival(weight: u64, rng: &mut impl Rng) -> f64 {
    let uniform: f64 = 1.0 - rng.random::<f64>();
    #[expect(clippy::cast_precision_loss, reason = "a weight beyond 2^53 need not be exact")]
    let rate = weight as f64;
    -uniform.ln() / rate
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;
    use crate::routing::tests::deployment;

    fn firsts(deployments: &[Arc<Deployment>], rounds: u32) -> HashMap<String, f64> {
        let mut rng = StdRng::seed_from_u64(7);
        let refs: Vec<&Arc<Deployment>> = deployments.iter().collect();
        let mut counts: HashMap<String, f64> = HashMap::new();
        for _ in 0..rounds {
            let first = order(&refs, &mut rng)[0].meta.id.clone();
            *counts.entry(first).or_default() += 1.0 / f64::from(rounds);
        }
        counts
    }

    fn with(id: &str, weight: Option<u64>, rpm: Option<u64>, tpm: Option<u64>) -> Arc<Deployment> {
        let mut d = deployment(id, "g");
        (d.weight, d.rpm, d.tpm) = (weight, rpm, tpm);
        Arc::new(d)
    }

    #[track_caller]
    fn near(counts: &HashMap<String, f64>, id: &str, share: f64) {
        let got = counts.get(id).copied().unwrap_or(0.0);
        assert!((got - share).abs() < 0.02, "{id}: {got} instead of {share}");
    }

    #[test]
    fn weight_wins_over_rpm_and_tpm() {
        let all = [with("a", Some(3), Some(1), None), with("b", Some(1), Some(1_000), Some(1_000))];
        let counts = firsts(&all, 20_000);
        near(&counts, "a", 0.75);
        near(&counts, "b", 0.25);
    }

    #[test]
    fn rpm_then_tpm_then_even() {
        near(
            &firsts(&[with("a", None, Some(9), None), with("b", None, Some(1), Some(50))], 20_000),
            "a",
            0.9,
        );
        near(&firsts(&[with("a", None, None, Some(4)), with("b", None, None, Some(1))], 20_000), "a", 0.8);
        near(&firsts(&[with("a", None, None, None), with("b", None, None, None)], 20_000), "a", 0.5);
        near(&firsts(&[with("a", Some(0), None, None), with("b", Some(0), None, None)], 20_000), "a", 0.5);
    }

    #[test]
    fn weightless_beside_weighted_comes_last() {
        let all = [
            with("none", None, Some(100), None),
            with("a", Some(1), None, None),
            with("zero", Some(0), None, None),
        ];
        let refs: Vec<&Arc<Deployment>> = all.iter().collect();
        let mut rng = StdRng::seed_from_u64(1);
        let mut seconds = std::collections::HashSet::new();
        for _ in 0..50 {
            let ordered = order(&refs, &mut rng);
            assert_eq!(ordered[0].meta.id, "a");
            assert_eq!(ordered.len(), 3);
            seconds.insert(ordered[1].meta.id.clone());
        }
        assert_eq!(seconds.len(), 2, "last resorts are shuffled");
    }

    #[test]
    fn second_place_follows_the_weights_of_those_left() {
        let all =
            [with("a", Some(1), None, None), with("b", Some(2), None, None), with("c", Some(6), None, None)];
        let refs: Vec<&Arc<Deployment>> = all.iter().collect();
        let mut rng = StdRng::seed_from_u64(3);
        let (mut after_c, mut b_after_c) = (0.0, 0.0);
        for _ in 0..20_000 {
            let ordered = order(&refs, &mut rng);
            if ordered[0].meta.id == "c" {
                after_c += 1.0;
                b_after_c += f64::from(u8::from(ordered[1].meta.id == "b"));
            }
        }
        let share: f64 = b_after_c / after_c;
        assert!((share - 2.0 / 3.0).abs() < 0.02, "{share}");
    }
}
