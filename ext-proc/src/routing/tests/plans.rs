//! What every plan keeps, whatever the configuration and the health of deployments.

use proptest::prelude::*;

use super::*;
use crate::routing::plan::{Health, plan};

prop_compose! {
    /// Groups `g0..`, deployments `g{i}d{j}`, any fallbacks among them, any retries.
    fn worlds()(
        sizes in prop::collection::vec(1_usize..4, 1..6),
        weights in prop::collection::vec(prop::option::of(0_u64..5), 20),
        fallbacks in prop::collection::vec((0_usize..6, 0_usize..6), 0..12),
        defaults in prop::collection::vec(0_usize..6, 0..4),
        (retries, max_fallbacks) in (0_u32..40, 0_u32..8),
    ) -> Snapshot {
        let mut weights = weights.into_iter().cycle();
        let groups = sizes.iter().enumerate().map(|(i, &size)| {
            let name = format!("g{i}");
            let deployments = (0..size).map(|j| {
                let mut d = deployment(&format!("g{i}d{j}"), &name);
                d.weight = weights.next().flatten();
                d
            }).collect();
            group(&name, deployments)
        }).collect();
        let mut s = snapshot(groups);
        for (from, to) in fallbacks {
            s.fallbacks.entry(format!("g{from}")).or_default().push(format!("g{to}"));
        }
        s.fallbacks.insert("*".into(), defaults.iter().map(|d| format!("g{d}")).collect());
        (s.num_retries, s.max_fallbacks) = (retries, max_fallbacks);
        s
    }
}

proptest! {
    #[test]
    fn plans_keep_their_promises(
        s in worlds(),
        dead in prop::collection::hash_set((0_usize..5, 0_usize..3), 0..6),
        cooling in prop::collection::hash_set((0_usize..5, 0_usize..3), 0..6),
        allowed in prop::collection::vec(0_usize..6, 0..5),
    ) {
        let now = 1_000_000_000_000_000;
        let live = Live { dead: dead.iter().map(|(i, j)| format!("g{i}/openai/g{i}d{j}")).collect() };
        let cooldowns = Cooldowns::default();
        cooldowns.enter(&cooling.iter().map(|(i, j)| (format!("g{i}d{j}"), now + 5_000)).collect::<Vec<_>>());
        let models: Vec<String> = allowed.iter().map(|g| format!("g{g}")).collect();
        let health = Health { live: &live, cooldowns: &cooldowns, now_ms: now };
        let access = Access::of(&models);
        let Ok(planned) = plan(&s, &access, &health, "g0", &mut rand::rng()) else {
            let usable = s.groups["g0"].deployments.iter().any(|d| {
                live.is_live(&d.cluster) && cooldowns.until(&d.meta.id, now).is_none()
            });
            prop_assert!(!usable || !access.allows("g0", None), "refused although a deployment was usable");
            return Ok(());
        };
        let steps = planned.to_steps();
        prop_assert!(!steps.is_empty() && steps.len() <= MAX_STEPS);
        let mut order: Vec<&str> = steps.iter().map(|p| p.group.as_str()).collect();
        order.dedup();
        prop_assert_eq!(order.len(), order.iter().collect::<HashSet<_>>().len(), "a group comes twice");
        let hops = order.iter().filter(|g| **g != "g0").count();
        prop_assert!(hops <= s.max_fallbacks as usize);
        for step in &steps {
            prop_assert!(access.allows(&step.group, None), "denied model");
            prop_assert!(live.is_live(&step.cluster), "not live");
            prop_assert!(cooldowns.until(&step.deployment, now).is_none(), "cooling");
        }
        for pair in steps.windows(2).filter(|p| p[0] == p[1]) {
            let usable = s.groups[&pair[0].group].deployments.iter().filter(|d| {
                live.is_live(&d.cluster) && cooldowns.until(&d.meta.id, now).is_none()
            });
            prop_assert_eq!(usable.count(), 1, "the same deployment twice running beside another");
        }
    }
}
