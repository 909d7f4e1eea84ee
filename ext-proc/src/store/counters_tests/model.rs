//! The in-process counters against a naive model, on a clock of its own.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::store::memory::Counts;

const DAY: Duration = Duration::from_secs(86_400);
/// Candidate -> its counter's limit.
const LIMITS: [Option<u64>; 3] = [Some(1_000), Some(1_500), None];

#[derive(Debug, Clone)]
enum Step {
    Admit { id: u8, from: u8, amount: u64, lease_s: u64, lowest: bool },
    Settle { id: u8, counter: u8, amount: u64 },
    Wait { seconds: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..6_u8, 0..3_u8, 0..1_000_u64, 1..20_u64, any::<bool>()).prop_map(
            |(id, from, amount, lease_s, lowest)| Step::Admit { id, from, amount, lease_s, lowest }
        ),
        (0..6_u8, 0..3_u8, 0..1_000_u64).prop_map(|(id, counter, amount)| Step::Settle {
            id,
            counter,
            amount
        }),
        (0..8_u64).prop_map(|seconds| Step::Wait { seconds }),
    ]
}

fn counter(index: usize) -> Counter {
    Counter::new(index.to_string(), 1)
}

/// A counter is the sum of what was settled on it and of the leases that run.
#[derive(Default)]
struct Model {
    settled: [u64; 3],
    /// Id -> candidate, counter, amount, end.
    leases: HashMap<u8, (usize, usize, u64, u64)>,
}

impl Model {
    fn values(&self) -> [u64; 3] {
        let mut values = self.settled;
        for (_, counter, amount, _) in self.leases.values() {
            values[*counter] += amount;
        }
        values
    }

    /// Counters to choose from, in order.
    fn choose(&self, order: &[usize], amount: u64, lowest: bool) -> Option<usize> {
        let values = self.values();
        let fits = |counter: &usize| {
            LIMITS[*counter].is_none_or(|limit| values[*counter] + amount.min(limit) <= limit)
        };
        let mut open = order.iter().copied().filter(fits);
        if lowest { open.min_by_key(|counter| values[*counter]) } else { open.next() }
    }
}

proptest! {
    #[test]
    fn memory_agrees_with_a_simple_model(steps in prop::collection::vec(step(), 1..60)) {
        let start = Instant::now();
        let (mut counts, mut model, mut now_s) = (Counts::default(), Model::default(), 0);
        for step in steps {
            let now = start + Duration::from_secs(now_s);
            model.leases.retain(|_, lease| lease.3 > now_s);
            match step {
                Step::Admit { id, from, amount, lease_s, lowest } => {
                    let order: Vec<usize> = (0..3).map(|n| (usize::from(from) + n) % 3).collect();
                    let place = |n: &usize| {
                        let charges = vec![limited(&counter(*n), amount, DAY, LIMITS[*n])];
                        Candidate { tier: 0, charges, probe: None }
                    };
                    let question = Admission {
                        lease: Duration::from_secs(lease_s),
                        pick: if lowest { Pick::Lowest(0) } else { Pick::First },
                        ..ask(&id.to_string(), order.iter().map(place).collect())
                    };
                    let expected = match model.leases.get(&id) {
                        Some((candidate, ..)) => Some(*candidate),
                        None => model.choose(&order, amount, lowest).map(|chosen| {
                            let candidate = order.iter().position(|n| *n == chosen).unwrap();
                            model.leases.insert(id, (candidate, chosen, amount, now_s + lease_s));
                            candidate
                        }),
                    };
                    let admitted = counts.admit(now, &question, |_| false, false);
                    match expected {
                        Some(candidate) => prop_assert_eq!(admitted, Admitted::Candidate(candidate)),
                        None => prop_assert_eq!(admitted, Admitted::Full(vec![Some(0); 3])),
                    }
                }
                Step::Settle { id, counter: index, amount } => {
                    let actual = Charge { counter: counter(index.into()), amount, ttl: DAY };
                    let known = counts.settle(now, &id.to_string(), &[actual]).is_some();
                    prop_assert_eq!(known, model.leases.remove(&id).is_some());
                    if known {
                        model.settled[usize::from(index)] += amount;
                    }
                }
                Step::Wait { seconds } => now_s += seconds,
            }
            let now = start + Duration::from_secs(now_s);
            model.leases.retain(|_, lease| lease.3 > now_s);
            counts.sweep(now);
            let values: Vec<u64> = (0..3).map(|n| counts.value(now, &counter(n))).collect();
            prop_assert_eq!(values, model.values().to_vec());
        }
    }
}
