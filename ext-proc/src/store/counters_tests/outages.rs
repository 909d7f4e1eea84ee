//! One sidecar and a Redis that goes, comes back without its data, and loses it between two requests: since this
//! sidecar knows everything, everything stays as the model says.

use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestRunner};

use super::model::Model;
use super::properties::{Ask, DAY, LIMITS, admission, ask_step, counter, runtime};
use super::*;

#[derive(Debug, Clone)]
enum Step {
    Place(Ask),
    Settle {
        id: u8,
        actual: Vec<(usize, u64)>,
        stays: bool,
    },
    Kill,
    Launch,
    Flush,
    /// Until it counts in Redis again, if that is there.
    Rest,
}

fn step() -> impl Strategy<Value = Step> {
    // Real time passes here: no lease ends. Who asks always knows what the ledger says, and it is the same.
    // Nobody probes: half-open breakers are not promised to survive the loss of data.
    let place = ask_step()
        .prop_map(|ask| Step::Place(Ask { lease_s: 3_600, seeds: [140, 150], probe: false, ..ask }));
    let actual = prop::collection::btree_map(1..LIMITS.len(), 0..1_300_u64, 0..4);
    let settle = (0..6_u8, actual, prop::bool::weighted(0.3)).prop_map(|(id, actual, stays)| Step::Settle {
        id,
        actual: actual.into_iter().collect(),
        stays,
    });
    prop_oneof![
        12 => place,
        12 => settle,
        1 => Just(Step::Kill),
        2 => Just(Step::Launch),
        1 => Just(Step::Flush),
        1 => Just(Step::Rest),
    ]
}

/// Redis, and whether it runs.
struct World {
    redis: Redis,
    up: bool,
}

impl World {
    async fn launch(&mut self) {
        if !self.up {
            self.redis.launch().await;
            self.up = true;
        }
    }

    async fn flush(&self) {
        if self.up {
            let () = ::redis::cmd("FLUSHALL").query_async(&mut raw(&self.redis).await).await.unwrap();
        }
    }
}

/// Names of requests: nobody asks with the name of one that ended, or was told to have ended.
#[derive(Default)]
struct Names([u32; 6]);

impl Names {
    fn of(&self, id: u8) -> String {
        format!("{id}.{}", self.0[usize::from(id)])
    }

    fn ended(&mut self, id: u8) {
        self.0[usize::from(id)] += 1;
    }
}

async fn compare(counters: &dyn Counters, model: &Model) -> Result<(), TestCaseError> {
    let all: Vec<Counter> = (0..LIMITS.len()).map(counter).collect();
    let expected: Vec<u64> = all.iter().map(|counter| model.value(counter)).collect();
    prop_assert_eq!(counters.values(&all).await.unwrap(), expected);
    Ok(())
}

async fn check(world: &mut World, steps: Vec<Step>) -> Result<(), TestCaseError> {
    world.launch().await;
    world.flush().await;
    let counters = resilient(&world.redis, PATIENT).await;
    let (mut model, mut names) = (Model::default(), Names::default());
    for step in steps {
        match step {
            Step::Place(ask) => {
                let (id, renew) = (names.of(ask.id), ask.renew.map(|id| names.of(id)));
                let ask = Admission { id, renew, ..admission(&ask) };
                let place = counters.place(&ask).await.unwrap();
                prop_assert_eq!(place, model.place(&ask), "{:?}", ask);
            }
            Step::Settle { id, actual, stays } => {
                let charge = |(index, amount)| Charge { counter: counter(index), amount, ttl: DAY };
                let actual = actual.into_iter().map(charge).collect();
                let settlement = Settlement { id: names.of(id), actual, stays };
                let settled = counters.settle_all(std::slice::from_ref(&settlement)).await.unwrap();
                let expected = model.settle(&settlement);
                prop_assert_eq!(settled, [expected], "{:?}", settlement);
                if !stays || !expected {
                    names.ended(id);
                }
            }
            Step::Kill => {
                world.redis.kill();
                world.up = false;
            }
            Step::Launch => world.launch().await,
            Step::Flush => world.flush().await,
            Step::Rest if world.up => back(&*counters).await,
            Step::Rest => {}
        }
        compare(&*counters, &model).await?;
    }
    quiet(world, &*counters, &mut model, &names).await
}

async fn back(counters: &dyn Counters) {
    // A loss that nobody has noticed is noticed by a question.
    counters.circuits().await.unwrap();
    eventually("it counts in Redis", async || !counters.degraded()).await;
}

/// Everything ends: what is left, in Redis itself, is the ledger.
async fn quiet(
    world: &mut World,
    counters: &dyn Counters,
    model: &mut Model,
    names: &Names,
) -> Result<(), TestCaseError> {
    for id in 0..6_u8 {
        let end = Settlement::end(names.of(id), Vec::new());
        let settled = counters.settle_all(std::slice::from_ref(&end)).await.unwrap();
        prop_assert_eq!(settled, [model.settle(&end)]);
    }
    world.launch().await;
    back(counters).await;
    prop_assert!(model.leases.is_empty());
    compare(&RedisCounters::new(&world.redis.servers(), PATIENT).unwrap(), model).await?;
    prop_assert_eq!(model.value(&counter(0)), 0);
    Ok(())
}

#[test]
fn a_sidecar_forgets_nothing_that_redis_loses() {
    let runtime = runtime();
    let world = std::cell::RefCell::new(World { redis: runtime.block_on(Redis::start()), up: true });
    let default = ProptestConfig::default();
    // Each takes a while: Redis starts anew, and the sidecar waits for others to bring their part back. These few are
    // always the same; whoever looks for more sets PROPTEST_CASES, and gets others every time.
    let rng_seed = match std::env::var_os("PROPTEST_CASES") {
        Some(_) => default.rng_seed,
        None => RngSeed::Fixed(4),
    };
    let cases = default.cases.div_ceil(16);
    let config = ProptestConfig { cases, rng_seed, failure_persistence: None, ..default };
    let outcome = TestRunner::new(config).run(&prop::collection::vec(step(), 1..50), |steps| {
        runtime.block_on(check(&mut world.borrow_mut(), steps))
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}
