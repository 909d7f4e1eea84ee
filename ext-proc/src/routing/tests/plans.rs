//! What every plan keeps, whatever the configuration, the health of deployments, and what was tried before.

use proptest::prelude::*;

use super::*;
use crate::routing::Strategy;
use crate::routing::breakers::state_in;

prop_compose! {
    /// Groups `g0..`, deployments `g{i}d{j}` with any limits and tiers, any fallbacks among them, any retries.
    fn worlds()(
        sizes in prop::collection::vec(1_usize..4, 1..6),
        limits in prop::collection::vec((prop::option::of(0_u64..5), prop::option::of(1_u64..3), prop::option::of(0_u64..3), prop::option::of(1_u32..3)), 20),
        strategies in prop::collection::vec(0_u8..5, 6),
        fallbacks in prop::collection::vec((0_usize..6, 0_usize..6), 0..12),
        context in prop::option::of(prop::collection::vec((0_usize..6, 0_usize..6), 0..6)),
        defaults in prop::collection::vec(0_usize..6, 0..4),
        (retries, max_fallbacks, timeouts) in (0_u32..40, 0_u32..8, prop::option::of(0_u32..4)),
    ) -> Snapshot {
        let mut limits = limits.into_iter().cycle();
        let groups = sizes.iter().enumerate().map(|(i, &size)| {
            let name = format!("g{i}");
            let deployments = (0..size).map(|j| {
                let mut d = deployment(&format!("g{i}d{j}"), &name);
                (d.weight, d.rpm, d.max_parallel, d.order) = limits.next().unwrap();
                d
            }).collect();
            let strategy = match strategies[i] {
                0 => Strategy::SimpleShuffle,
                1 => Strategy::UsageBased,
                2 => Strategy::LeastBusy,
                3 => Strategy::Cost,
                _ => Strategy::Latency(LatencyArgs::default()),
            };
            with_strategy(strategy, &name, deployments)
        }).collect();
        let mut s = snapshot(groups);
        for (from, to) in fallbacks {
            s.fallbacks.entry(format!("g{from}")).or_default().push(format!("g{to}"));
        }
        s.context_window_fallbacks = context.map(|pairs| {
            pairs.into_iter().map(|(from, to)| (format!("g{from}"), vec![format!("g{to}")])).collect()
        });
        s.fallbacks.insert("*".into(), defaults.iter().map(|d| format!("g{d}")).collect());
        (s.num_retries, s.max_fallbacks) = (retries, max_fallbacks);
        if let Some(own) = timeouts {
            s.retry_policy.classes.insert(ErrorClass::Timeout, own);
        }
        s
    }
}

fn id((i, j): &(usize, usize)) -> String {
    format!("g{i}d{j}")
}

proptest! {
    #[test]
    fn plans_keep_their_promises(
        s in worlds(),
        dead in prop::collection::hash_set((0_usize..5, 0_usize..3), 0..6),
        open in prop::collection::hash_set((0_usize..5, 0_usize..3), 0..6),
        half_open in prop::collection::hash_set((0_usize..5, 0_usize..3), 0..4),
        allowed in prop::collection::vec(0_usize..6, 0..5),
        classes in prop::collection::vec(0_usize..9, 8),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let models: Vec<String> = allowed.iter().map(|g| format!("g{g}")).collect();
        let mut world = World::new(s).with_key("k", |k| k.settings.models.clone_from(&models));
        world.live.dead = dead.iter().map(|(i, j)| format!("g{i}/openai/g{i}d{j}")).collect();
        half_open.iter().for_each(|d| world.open(&id(d), -1));
        open.iter().for_each(|d| world.open(&id(d), 60_000));
        let access = Access::of(&models);
        let circuits = world.breakers.view();
        let mut asked = ask("k", "g0");
        let mut hops: HashSet<String> = HashSet::new();
        let mut passes = 0;
        loop {
            world.fake.admitted.lock().clear();
            let mut decision = match runtime.block_on(world.decide(&asked)) {
                Ok(decision) => decision,
                Err(error) => {
                    let group = &world.snapshot.groups["g0"];
                    let usable = group.deployments.iter().any(|d| {
                        world.live.is_live(&d.cluster) && state_in(&circuits, &d.meta.id, now_ms()) == Breaker::Closed
                            && d.rpm.is_none() && d.max_parallel.is_none()
                    });
                    let denied = !access.allows("g0", None);
                    prop_assert!(passes > 0 || !usable || denied, "refused although somebody was free: {error}");
                    break;
                }
            };
            passes += 1;
            let held = std::mem::replace(&mut decision.reservation, crate::store::Reservation::none(String::new()));
            let id = held.hand_over();
            let steps = &decision.plan;
            prop_assert!(!steps.is_empty() && steps.len() <= MAX_STEPS);
            let attempts: Vec<&PlanStep> = steps.iter().filter(|step| !step.deployment.is_empty()).collect();
            prop_assert!(!attempts.is_empty(), "nothing but another plan");
            prop_assert!(steps[..steps.len() - 1].iter().all(|step| !step.deployment.is_empty()));
            if let Some(walk) = &decision.walk {
                prop_assert_eq!(walk.steps.len(), steps.len());
                for (walked, step) in walk.steps.iter().zip(steps) {
                    prop_assert_eq!(&walked.deployment, &step.deployment);
                }
            } else {
                prop_assert!(attempts.windows(2).all(|pair| pair[0].deployment != pair[1].deployment));
                prop_assert!(attempts.len() == steps.len());
            }
            for (index, step) in attempts.iter().enumerate() {
                prop_assert!(access.allows(&step.group, None), "denied model");
                prop_assert!(world.live.is_live(&step.cluster), "not live");
                let state = state_in(&circuits, &step.deployment, now_ms());
                prop_assert!(!matches!(state, Breaker::Open { .. }), "open");
                prop_assert!(index == 0 || state == Breaker::Closed, "a probe that nobody asked for");
                let d = &world.snapshot.deployments[&step.deployment];
                let group = &world.snapshot.groups[&step.group];
                let enforced = group.strategy != Strategy::SimpleShuffle && d.rpm.is_some();
                prop_assert!(index == 0 || !(enforced || d.max_parallel.is_some()), "limits passed by");
                if step.group != "g0" {
                    hops.insert(step.group.clone());
                }
            }
            prop_assert!(hops.len() <= world.snapshot.max_fallbacks as usize, "{:?}", hops);
            let first = attempts[0];
            if let Some(admission) = world.fake.admitted.lock().first() {
                prop_assert_eq!(&id, &admission.id);
                prop_assert!(admission.lease >= decision.timeouts.total, "{:?}", decision.timeouts);
                // Who is charged is who is tried first.
                let held = runtime.block_on(world.fake.inner.admit(admission)).unwrap();
                let Admitted::Candidate(at) = held else { panic!("{held:?}") };
                let charges = &admission.candidates[at].charges;
                let own = format!("dep:{}:", first.deployment);
                prop_assert!(charges.iter().all(|c| c.counter.base.starts_with(&own) || &*c.counter.base == "level"));
                prop_assert!(admission.candidates[at].probe.iter().all(|probe| *probe == first.deployment));
            }
            // Every attempt fails with one class: does the request end?
            let class = ErrorClass::ALL[classes[passes as usize % classes.len()]];
            let replan = asked.replan.get_or_insert_with(|| Replan { pass: 0, reservation: None, owner: None, tried: vec![] });
            replan.tried.extend(attempts.iter().map(|step| Tried {
                deployment: step.deployment.clone(),
                group: step.group.clone(),
                class,
                pass: replan.pass,
            }));
            replan.pass += 1;
            let last = after(&decision, attempts.len() - 1, class);
            if last == After::Stop || (last == After::Next && attempts.len() == steps.len()) {
                break;
            }
        }
        prop_assert!(passes <= attache_llm::contract::MAX_PASSES);
    }
}
