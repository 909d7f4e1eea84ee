use std::collections::HashMap;
use std::sync::Arc;

use attache_llm::price::Price;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;
use crate::routing::tests::deployment;
use crate::store::Sample;

fn member(deployment: &Arc<Deployment>) -> Member<'_> {
    Member { deployment, half_open: false, failed: 0 }
}

fn firsts(deployments: &[Arc<Deployment>], rounds: u32) -> HashMap<String, f64> {
    let mut rng = StdRng::seed_from_u64(7);
    let mut counts: HashMap<String, f64> = HashMap::new();
    for _ in 0..rounds {
        let mut members: Vec<Member<'_>> = deployments.iter().map(member).collect();
        by_weight(&mut members, |_| rng.random());
        *counts.entry(members[0].deployment.meta.id.clone()).or_default() += 1.0 / f64::from(rounds);
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
    near(&firsts(&[with("a", None, Some(9), None), with("b", None, Some(1), Some(50))], 20_000), "a", 0.9);
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
    let mut rng = StdRng::seed_from_u64(1);
    let mut seconds = std::collections::HashSet::new();
    for _ in 0..50 {
        let mut members: Vec<Member<'_>> = all.iter().map(member).collect();
        by_weight(&mut members, |_| rng.random());
        assert_eq!(members[0].deployment.meta.id, "a");
        assert_eq!(members.len(), 3);
        seconds.insert(members[1].deployment.meta.id.clone());
    }
    assert_eq!(seconds.len(), 2, "last resorts are shuffled");
}

#[test]
fn preferences_are_even_stable_and_move_only_with_their_deployment() {
    assert!((preference(["s", ""], "a") - preference(["s", ""], "a")).abs() < f64::EPSILON);
    assert!(
        (preference(["sa", ""], "b") - preference(["s", "a"], "b")).abs() > f64::EPSILON,
        "parts are kept apart"
    );
    let best = |session: usize, ids: &[&'static str]| {
        let of = |id: &str| preference([&format!("session-{session}"), ""], id);
        *ids.iter().max_by(|a, b| of(a).total_cmp(&of(b))).unwrap()
    };
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for session in 0..4_000 {
        let all = best(session, &["d1", "d2", "d3", "d4"]);
        *counts.entry(all).or_default() += 1;
        if all != "d4" {
            assert_eq!(best(session, &["d1", "d2", "d3"]), all);
        }
    }
    assert!(counts.values().all(|&count| (900..1_100).contains(&count)), "{counts:?}");
}

/// A question with these speeds, and what of it is borrowed.
fn ordered(
    strategy: &Strategy,
    deployments: Vec<Deployment>,
    samples: &[(&str, u64)],
    rounds: u32,
) -> HashMap<String, u32> {
    use crate::routing::tests::{group, snapshot};
    use crate::routing::{Access, Breakers, Group, LiveView, Probes, Speeds};
    struct All;
    impl LiveView for All {
        fn is_live(&self, _: &str) -> bool {
            true
        }
    }
    let snapshot = snapshot(vec![Group { strategy: strategy.clone(), ..group("g", deployments) }]);
    let text = r#"{"contract":1,"call_id":"c","key":"k","endpoint":"chat_completions","model":"g"}"#;
    let (ask, speeds, probes) = (serde_json::from_str(text).unwrap(), Speeds::default(), Probes::default());
    let sample =
        |&(id, micros): &(&str, u64)| Sample { deployment: id.into(), speed: Speed::PerToken, micros };
    speeds.add(&samples.iter().map(sample).collect::<Vec<_>>());
    let request = Request {
        snapshot: &snapshot,
        ask: &ask,
        access: Access::everything(),
        live: std::sync::Arc::new(All),
        circuits: Breakers::default().view(),
        speeds: &speeds,
        probes: &probes,
        now_ms: 0,
        estimate: crate::routing::admission::Estimate::default(),
    };
    let target = Target::group(&snapshot.groups["g"]);
    let mut rng = StdRng::seed_from_u64(5);
    let mut counts = HashMap::new();
    for _ in 0..rounds {
        let mut members: Vec<Member<'_>> = target.group.deployments.iter().map(member).collect();
        order(&request, &target, &mut members, &mut rng);
        *counts.entry(members[0].deployment.meta.id.clone()).or_default() += 1;
    }
    counts
}

#[test]
fn the_fastest_is_first_and_the_unknown_takes_part_without_a_stampede() {
    let all = || ["a", "b", "c"].map(|id| deployment(id, "g")).into();
    let latency = |buffer| Strategy::Latency(LatencyArgs { buffer, ..LatencyArgs::default() });
    let counts = ordered(&latency(0.0), all(), &[("a", 10), ("b", 20), ("c", 30)], 100);
    assert_eq!(counts, HashMap::from([("a".into(), 100)]));
    let counts = ordered(&latency(1.0), all(), &[("a", 10), ("b", 20), ("c", 30)], 1_000);
    assert!(!counts.contains_key("c") && counts["a"].abs_diff(500) < 100, "{counts:?}");
    let counts = ordered(&latency(0.0), all(), &[("a", 10), ("b", 20)], 1_000);
    assert!(counts["c"].abs_diff(500) < 100 && counts["a"].abs_diff(500) < 100, "{counts:?}");
    assert_eq!(ordered(&latency(0.0), all(), &[], 1_000).len(), 3);
}

#[test]
fn the_cheapest_is_first_equal_ones_are_drawn_and_no_price_is_the_dearest() {
    let priced = |id: &str, output| {
        let mut d = deployment(id, "g");
        d.meta.price = Some(Price::per_token(5, output));
        d
    };
    let counts = ordered(
        &Strategy::Cost,
        vec![deployment("?", "g"), priced("dear", 9), priced("x", 1), priced("y", 1)],
        &[],
        1_000,
    );
    assert_eq!(counts.len(), 2);
    assert!(counts["x"].abs_diff(500) < 100, "{counts:?}");
}
