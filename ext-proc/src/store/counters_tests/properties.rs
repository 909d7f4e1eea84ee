//! Any interleaving of what requests do, on clocks of our own: in process and in Redis everything is as the model says,
//! limits hold, nothing leaks, and at the end the counters are what was settled.

use proptest::prelude::*;

use super::admission::candidate;
use super::model::Model;
use super::*;
use crate::store::memory::Counts;

/// No counter ends with its window here: Redis's own clock does that.
pub(super) const DAY: Duration = Duration::from_secs(86_400);
/// Requests in flight, budget, tokens of the key; tokens at the deployments `a`, `b` and `c`, money at `c`.
pub(super) const LIMITS: [(&str, Option<u64>); 7] = [
    ("parallel", Some(3)),
    ("budget", Some(2_000)),
    ("tpm", Some(2_500)),
    ("a", Some(1_000)),
    ("b", Some(1_500)),
    ("c", None),
    ("c:money", Some(900)),
];
const MAX_LEASE: u64 = 60;

#[derive(Debug, Clone)]
enum Step {
    Place(Ask),
    /// Places for so many requests that are still to come.
    Ahead(Ask, usize),
    /// One of these came, or did not.
    Came(usize, Vec<(usize, u64)>),
    /// The end of a request, or of a part of it, with what it really used of these counters.
    Settle {
        id: u8,
        actual: Vec<(usize, u64)>,
        stays: bool,
    },
    /// The last settlement is told again.
    Again,
    Cancel {
        id: u8,
    },
    Wait {
        seconds: u64,
    },
    /// A sidecar dies, and with it what only its memory knew.
    Kill {
        sidecar: usize,
    },
}

#[derive(Debug, Clone)]
pub(super) struct Ask {
    pub(super) id: u8,
    pub(super) from: usize,
    pub(super) amount: u64,
    pub(super) lease_s: u64,
    pub(super) lowest: bool,
    pub(super) tiers: bool,
    pub(super) probe: bool,
    pub(super) seeds: [u8; 2],
    pub(super) renew: Option<u8>,
}

pub(super) fn ask_step() -> impl Strategy<Value = Ask> {
    let first = (0..6_u8, 0..3_usize, 0..1_300_u64, 1..=MAX_LEASE, any::<bool>());
    let second = (any::<bool>(), any::<bool>(), any::<[u8; 2]>(), prop::option::of(0..6_u8));
    (first, second).prop_map(|((id, from, amount, lease_s, lowest), (tiers, probe, seeds, renew))| Ask {
        id,
        from,
        amount,
        lease_s,
        lowest,
        tiers,
        probe,
        seeds,
        renew,
    })
}

fn step() -> impl Strategy<Value = Step> {
    // Requests in flight are never settled, only given back.
    let actual = prop::collection::btree_map(1..LIMITS.len(), 0..1_300_u64, 0..4);
    let settle = (0..6_u8, actual, prop::bool::weighted(0.3)).prop_map(|(id, actual, stays)| Step::Settle {
        id,
        actual: actual.into_iter().collect(),
        stays,
    });
    let used = prop::collection::btree_map(1..LIMITS.len(), 0..100_u64, 0..4);
    prop_oneof![
        5 => ask_step().prop_map(Step::Place),
        3 => (ask_step(), 2..5_usize).prop_map(|(ask, count)| Step::Ahead(ask, count)),
        2 => (any::<usize>(), used).prop_map(|(which, used)| Step::Came(which, used.into_iter().collect())),
        4 => settle,
        1 => Just(Step::Again),
        1 => (0..6_u8).prop_map(|id| Step::Cancel { id }),
        2 => (0..25_u64).prop_map(|seconds| Step::Wait { seconds }),
        1 => (0..2_usize).prop_map(|sidecar| Step::Kill { sidecar }),
    ]
}

pub(super) fn counter(index: usize) -> Counter {
    Counter::new(LIMITS[index].0, u64::from(index > 0))
}

fn of(index: usize, amount: u64) -> Limited {
    Limited::new(counter(index), amount, DAY, LIMITS[index].1)
}

fn budget(index: usize, amount: u64, seed: u8) -> Limited {
    let seed = match seed {
        0..60 => Seed::Zero,
        60..120 => Seed::Ask,
        // Sometimes more than there is.
        _ => Seed::Known(u64::from(seed - 120) * 18),
    };
    Limited { shrink: true, seed, ..of(index, amount) }
}

pub(super) fn admission(ask: &Ask) -> Admission {
    let place = |n: usize| {
        let index = (ask.from + n) % 3;
        let mut charges = vec![of(3 + index, ask.amount)];
        if index == 2 {
            charges.push(budget(6, ask.amount, ask.seeds[1]));
        }
        let tier = if ask.tiers { u32::try_from(n).unwrap() } else { 0 };
        let probe = (ask.probe && index == 1).then(|| "b".to_owned());
        Candidate { probe, ..candidate(tier, charges) }
    };
    Admission {
        id: ask.id.to_string(),
        lease: Duration::from_secs(ask.lease_s),
        required: vec![of(0, 1), budget(1, ask.amount, ask.seeds[0]), of(2, ask.amount)],
        candidates: (0..3).map(place).collect(),
        pick: if ask.lowest { Pick::Lowest(0) } else { Pick::First },
        renew: ask.renew.map(|id| id.to_string()),
    }
}

/// A small one, which may leave [`MORE_ROOM`] times as much.
fn few(ask: &Ask, id: &str) -> Admission {
    let small = Ask { amount: ask.amount % 3, renew: None, ..ask.clone() };
    let mut admission = Admission { id: id.to_owned(), ..admission(&small) };
    // Three requests in flight are not many enough.
    admission.required.remove(0);
    admission
}

fn charge((index, amount): &(usize, u64)) -> Charge {
    Charge { counter: counter(*index), amount: *amount, ttl: DAY }
}

/// What keeps the counters, at a moment in milliseconds.
trait Backend {
    async fn place(&mut self, now: u64, ask: &Admission) -> Place;
    async fn place_all(&mut self, now: u64, ask: &Admission, more: &[String]) -> Place;
    async fn settle(&mut self, now: u64, settlement: &Settlement) -> bool;
    async fn values(&mut self, now: u64, counters: &[Counter]) -> Vec<u64>;
    /// Returns whether the counters are gone too.
    async fn kill(&mut self, sidecar: usize) -> bool;
}

struct InProcess {
    start: Instant,
    counts: Counts,
}

impl InProcess {
    fn at(&self, now: u64) -> Instant {
        self.start + Duration::from_millis(now)
    }
}

impl Backend for InProcess {
    async fn place(&mut self, now: u64, ask: &Admission) -> Place {
        self.counts.admit(self.at(now), ask, |_| false, None)
    }

    async fn place_all(&mut self, now: u64, ask: &Admission, more: &[String]) -> Place {
        self.counts.admit_all(self.at(now), ask, more)
    }

    async fn settle(&mut self, now: u64, settlement: &Settlement) -> bool {
        self.counts.settle(self.at(now), settlement).is_some()
    }

    async fn values(&mut self, now: u64, counters: &[Counter]) -> Vec<u64> {
        let now = self.at(now);
        self.counts.sweep(now);
        counters.iter().map(|counter| self.counts.value(now, counter)).collect()
    }

    async fn kill(&mut self, _: usize) -> bool {
        self.counts = Counts::default();
        true
    }
}

/// Two sidecars take turns.
struct Shared<'a> {
    redis: &'a Redis,
    raw: ::redis::aio::MultiplexedConnection,
    sidecars: Vec<RedisCounters>,
    now: Option<u64>,
    turn: usize,
}

impl<'a> Shared<'a> {
    async fn new(redis: &'a Redis) -> Self {
        let mut raw = raw(redis).await;
        let () = ::redis::cmd("FLUSHALL").query_async(&mut raw).await.unwrap();
        let sidecars = vec![Self::sidecar(redis), Self::sidecar(redis)];
        Self { redis, raw, sidecars, now: None, turn: 0 }
    }

    fn sidecar(redis: &Redis) -> RedisCounters {
        RedisCounters::simulated(&redis.servers(), PATIENT)
    }

    async fn at(&mut self, now: u64) -> &RedisCounters {
        if self.now.replace(now) != Some(now) {
            let clock = format!("{}", 1_900_000_000_000 + now);
            let () = ::redis::cmd("SET")
                .arg("attache:{counters}:clock")
                .arg(clock)
                .query_async(&mut self.raw)
                .await
                .unwrap();
        }
        self.turn += 1;
        &self.sidecars[self.turn % 2]
    }
}

impl Backend for Shared<'_> {
    async fn place(&mut self, now: u64, ask: &Admission) -> Place {
        self.at(now).await.place(ask).await.unwrap()
    }

    async fn place_all(&mut self, now: u64, ask: &Admission, more: &[String]) -> Place {
        self.at(now).await.place_all(ask, more).await.unwrap()
    }

    async fn settle(&mut self, now: u64, settlement: &Settlement) -> bool {
        self.at(now).await.settle_all(std::slice::from_ref(settlement)).await.unwrap() == [true]
    }

    async fn values(&mut self, now: u64, counters: &[Counter]) -> Vec<u64> {
        self.at(now).await.values(counters).await.unwrap()
    }

    async fn kill(&mut self, sidecar: usize) -> bool {
        self.sidecars[sidecar] = Self::sidecar(self.redis);
        false
    }
}

async fn check(backend: &mut impl Backend, steps: &[Step]) -> Result<(), TestCaseError> {
    let mut model = Model::default();
    let (mut last, mut ahead) = (None, Vec::new());
    for (number, step) in steps.iter().enumerate() {
        let settlement = match step {
            Step::Place(ask) => {
                let ask = admission(ask);
                let placed = backend.place(model.now, &ask).await;
                prop_assert_eq!(placed, model.place(&ask), "{:?}", ask);
                None
            }
            Step::Ahead(ask, count) => {
                let ids: Vec<String> = (0..*count).map(|use_| format!("{number}.{use_}")).collect();
                let ask = few(ask, &ids[0]);
                let placed = backend.place_all(model.now, &ask, &ids[1..]).await;
                prop_assert_eq!(placed, model.place_all(&ask, &ids[1..]), "{:?}", ask);
                ahead.extend(ids);
                None
            }
            Step::Came(which, used) => {
                let id = (!ahead.is_empty()).then(|| ahead.swap_remove(which % ahead.len()));
                id.map(|id| Settlement::end(id, used.iter().map(charge).collect()))
            }
            Step::Settle { id, actual, stays } => {
                let actual = actual.iter().map(charge).collect();
                Some(Settlement { id: id.to_string(), actual, stays: *stays })
            }
            Step::Again => {
                let before = model.clone();
                if let Some(again) = &last {
                    let settled = backend.settle(model.now, again).await;
                    prop_assert_eq!(settled, model.settle(again));
                    prop_assert_eq!(&before.ledger, &model.ledger, "settled twice");
                }
                None
            }
            Step::Cancel { id } => Some(Settlement::end(id.to_string(), Vec::new())),
            Step::Wait { seconds } => {
                model.wait(seconds * 1_000);
                last = None;
                None
            }
            Step::Kill { sidecar } => {
                if backend.kill(*sidecar).await {
                    model = Model { now: model.now, ..Model::default() };
                    last = None;
                }
                None
            }
        };
        if let Some(settlement) = settlement {
            let settled = backend.settle(model.now, &settlement).await;
            prop_assert_eq!(settled, model.settle(&settlement), "{:?}", settlement);
            last = Some(settlement);
        } else if matches!(step, Step::Place(_)) {
            // The id may be another request's now.
            last = None;
        }
        compare(backend, &model).await?;
    }
    quiet(backend, model).await
}

async fn compare(backend: &mut impl Backend, model: &Model) -> Result<(), TestCaseError> {
    let all: Vec<Counter> = (0..LIMITS.len()).map(counter).collect();
    let values = backend.values(model.now, &all).await;
    let expected: Vec<u64> = all.iter().map(|counter| model.value(counter)).collect();
    prop_assert_eq!(&values, &expected);
    for (index, value) in values.iter().enumerate() {
        if let Some(limit) = LIMITS[index].1 {
            let most = model.most(&all[index], limit);
            prop_assert!(*value <= most, "{}: {} of {}", all[index], value, most);
        }
    }
    Ok(())
}

/// All leases end by themselves: what is left is what was settled, and nothing is in flight.
async fn quiet(backend: &mut impl Backend, mut model: Model) -> Result<(), TestCaseError> {
    model.wait(2 * MAX_LEASE * 1_000);
    prop_assert!(model.leases.is_empty());
    let all: Vec<Counter> = (0..LIMITS.len()).map(counter).collect();
    let values = backend.values(model.now, &all).await;
    let ledger: Vec<u64> =
        all.iter().map(|counter| model.ledger.get(counter).copied().unwrap_or_default()).collect();
    prop_assert_eq!(&values, &ledger);
    prop_assert_eq!(values[0], 0, "in flight");
    Ok(())
}

pub(super) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

proptest! {
    // A case that failed is in the message.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn memory_agrees_with_a_simple_model(steps in prop::collection::vec(step(), 1..60)) {
        let mut backend = InProcess { start: Instant::now(), counts: Counts::default() };
        runtime().block_on(check(&mut backend, &steps))?;
    }
}

#[test]
fn redis_agrees_with_a_simple_model() {
    let runtime = runtime();
    let redis = runtime.block_on(Redis::start());
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let outcome = runner.run(&prop::collection::vec(step(), 1..60), |steps| {
        runtime.block_on(async { check(&mut Shared::new(&redis).await, &steps).await })
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}
