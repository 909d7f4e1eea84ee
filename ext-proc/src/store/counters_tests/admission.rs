//! Admission and settlement over every backend.

use super::*;

const MINUTE: Duration = Duration::from_secs(120);

/// Names of this test alone: three backends share the suite, and two of them one Redis.
pub(super) struct Names(u64);

impl Names {
    pub(super) fn new() -> Self {
        Self(rand::random())
    }

    pub(super) fn counter(&self, name: &str) -> Counter {
        Counter::new(format!("{}:{name}", self.0), 29_384_756)
    }

    pub(super) fn id(&self, name: impl std::fmt::Display) -> String {
        format!("{}/{name}", self.0)
    }

    pub(super) fn limited(&self, name: &str, amount: u64, limit: u64) -> Limited {
        limited(&self.counter(name), amount, MINUTE, Some(limit))
    }

    pub(super) async fn value(&self, counters: &dyn Counters, name: &str) -> u64 {
        counters.values(&[self.counter(name)]).await.unwrap()[0]
    }
}

pub(super) fn candidate(tier: u32, charges: Vec<Limited>) -> Candidate {
    Candidate { tier, charges, probe: None }
}

pub(super) async fn end(counters: &dyn Counters, id: &str, actual: Vec<Charge>) -> bool {
    counters.settle_all(&[Settlement::end(id.into(), actual)]).await.unwrap() == [true]
}

#[tokio::test]
async fn the_first_with_room_is_charged_and_reasons_are_told_when_none_has() {
    over_all(async |counters| {
        let names = Names::new();
        let places = |amount| {
            let rpm = |name: &str| names.limited(name, 1, 2);
            let a = vec![rpm("a:rpm"), names.limited("a:tpm", amount, 100)];
            let b = vec![rpm("b:rpm"), names.limited("b:tpm", amount, 100)];
            vec![candidate(0, a), candidate(0, b)]
        };
        let admit =
            async |id: &str, amount| counters.admit(&ask(&names.id(id), places(amount))).await.unwrap();
        assert_eq!(admit("1", 60).await, Admitted::Candidate(0));
        assert_eq!(admit("2", 41).await, Admitted::Candidate(1), "101 tokens are too many for a");
        assert_eq!(admit("3", 40).await, Admitted::Candidate(0), "100 are not");
        assert_eq!(admit("4", 59).await, Admitted::Candidate(1), "a has had its requests");
        assert_eq!(admit("5", 60).await, Admitted::Full(vec![Some(0), Some(0)]));
        assert!(end(&*counters, &names.id("3"), Vec::new()).await);
        assert_eq!(admit("6", 50).await, Admitted::Full(vec![Some(1), Some(0)]));
        assert_eq!(names.value(&*counters, "a:tpm").await, 60);
        assert_eq!(names.value(&*counters, "b:tpm").await, 100);
        assert_eq!(counters.admit(&ask("nowhere", Vec::new())).await.unwrap(), Admitted::Full(Vec::new()));
    })
    .await;
}

#[tokio::test]
async fn a_request_of_any_size_may_have_an_empty_window_and_a_limit_of_zero_has_room_for_none() {
    over_all(async |counters| {
        let names = Names::new();
        let admit = async |id: &str, amount, limit| {
            let places = vec![candidate(0, vec![names.limited("tpm", amount, limit)])];
            counters.admit(&ask(&names.id(id), places)).await.unwrap()
        };
        assert_eq!(admit("none", 1, 0).await, Admitted::Full(vec![Some(0)]));
        assert_eq!(admit("nothing", 0, 0).await, Admitted::Candidate(0));
        assert_eq!(admit("huge", u64::MAX, 100).await, Admitted::Candidate(0));
        assert_eq!(admit("next", 1, 100).await, Admitted::Full(vec![Some(0)]));
        assert_eq!(names.value(&*counters, "tpm").await, MAX_AMOUNT, "it is charged in full");
        assert!(end(&*counters, &names.id("huge"), Vec::new()).await);
        assert_eq!(admit("next", 1, u64::MAX).await, Admitted::Candidate(0));
    })
    .await;
}

#[tokio::test]
async fn asking_again_answers_with_what_is_held() {
    over_all(async |counters| {
        let names = Names::new();
        let places =
            vec![candidate(0, vec![names.limited("a", 1, 0)]), candidate(0, vec![names.limited("b", 1, 1)])];
        let question = ask(&names.id("x"), places);
        assert_eq!(counters.admit(&question).await.unwrap(), Admitted::Candidate(1));
        assert_eq!(counters.admit(&question).await.unwrap(), Admitted::Candidate(1));
        assert_eq!(names.value(&*counters, "b").await, 1);
        let charge = || Charge { counter: names.counter("b"), amount: 1, ttl: MINUTE };
        assert!(end(&*counters, &question.id, vec![charge()]).await);
        assert!(!end(&*counters, &question.id, vec![charge()]).await);
        assert_eq!(names.value(&*counters, "b").await, 1);
    })
    .await;
}

#[tokio::test]
async fn a_lease_that_is_over_makes_room() {
    over_all(async |counters| {
        let names = Names::new();
        let place = || vec![candidate(0, vec![names.limited("slot", 1, 1)])];
        let brief = Admission { lease: Duration::from_millis(50), ..ask(&names.id("brief"), place()) };
        assert_eq!(counters.admit(&brief).await.unwrap(), Admitted::Candidate(0));
        let next = ask(&names.id("next"), place());
        eventually("the lease ends", async || counters.admit(&next).await.unwrap() == Admitted::Candidate(0))
            .await;
        assert!(!end(&*counters, &brief.id, Vec::new()).await, "too late");
        assert_eq!(names.value(&*counters, "slot").await, 1);
    })
    .await;
}

#[tokio::test]
async fn a_required_limit_without_room_leaves_nothing_charged() {
    over_all(async |counters| {
        let names = Names::new();
        let required = || vec![names.limited("team", 5, 100), names.limited("key", 2, 3)];
        let admit = async |id: &str| {
            let places = vec![candidate(0, vec![names.limited("a", 1, 10)])];
            let question = Admission { required: required(), ..ask(&names.id(id), places) };
            counters.admit(&question).await.unwrap()
        };
        assert_eq!(admit("1").await, Admitted::Candidate(0));
        assert_eq!(admit("2").await, Admitted::Refused { required: 1, value: 2 });
        for (name, value) in [("team", 5), ("key", 2), ("a", 1)] {
            assert_eq!(names.value(&*counters, name).await, value, "{name}");
        }
        let full = vec![candidate(0, vec![names.limited("a", 10, 10)])];
        let question =
            Admission { required: vec![names.limited("team", 5, 100)], ..ask(&names.id("3"), full) };
        assert_eq!(counters.admit(&question).await.unwrap(), Admitted::Full(vec![Some(0)]));
        assert_eq!(names.value(&*counters, "team").await, 5, "no candidate: the required ones are free too");
        assert!(end(&*counters, &names.id("1"), Vec::new()).await);
        assert_eq!(names.value(&*counters, "team").await + names.value(&*counters, "key").await, 0);
    })
    .await;
}

#[tokio::test]
async fn a_later_tier_is_for_when_an_earlier_one_is_full() {
    over_all(async |counters| {
        let names = Names::new();
        for pick in [Pick::First, Pick::Lowest(0)] {
            let limits = [(0, "a", 1), (0, "b", 1), (1, "c", 2), (5, "d", 9)];
            let places = || {
                let place = |(tier, name, limit)| {
                    let name = format!("{name}{pick:?}");
                    candidate(tier, vec![names.limited(&name, 1, limit)])
                };
                limits.map(place).to_vec()
            };
            let mut taken = Vec::new();
            for id in 0..5 {
                let question = Admission { pick, ..ask(&names.id(format!("{pick:?}{id}")), places()) };
                taken.push(counters.admit(&question).await.unwrap());
            }
            assert_eq!(taken, [0, 1, 2, 2, 3].map(Admitted::Candidate), "{pick:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn the_lowest_of_a_tier_is_taken_and_of_equals_the_first() {
    over_all(async |counters| {
        let names = Names::new();
        let question = |id: usize, order: &[&str]| {
            let place = |name: &&str| {
                let counted = limited(&names.counter(name), 10, MINUTE, None);
                candidate(0, vec![names.limited(&format!("{name}:rpm"), 1, 3), counted])
            };
            Admission { pick: Pick::Lowest(1), ..ask(&names.id(id), order.iter().map(place).collect()) }
        };
        let mut taken = Vec::new();
        for (id, order) in
            [["a", "b", "c"], ["a", "b", "c"], ["a", "b", "c"], ["c", "b", "a"], ["b", "a", "c"]]
                .iter()
                .enumerate()
        {
            let Admitted::Candidate(index) = counters.admit(&question(id, order)).await.unwrap() else {
                panic!("full");
            };
            taken.push(order[index]);
        }
        assert_eq!(taken, ["a", "b", "c", "c", "b"]);
        // One without such a charge counts as 0, one that is full does not count.
        let mut places = question(9, &["a", "b"]).candidates;
        places.insert(1, candidate(0, vec![names.limited("free", 1, 9)]));
        places.insert(0, candidate(0, vec![names.limited("full", 1, 0)]));
        let last = Admission { pick: Pick::Lowest(1), ..ask(&names.id(9), places) };
        assert_eq!(counters.admit(&last).await.unwrap(), Admitted::Candidate(2));
    })
    .await;
}

#[tokio::test]
async fn many_candidates_are_looked_at_whatever_the_pick() {
    over_all(async |counters| {
        let names = Names::new();
        for (pick, free) in [(Pick::First, 2_345), (Pick::Lowest(0), 1_234)] {
            let places: Vec<Candidate> = (0..3_000)
                .map(|index| {
                    let limit = if index == free { 5 } else { 0 };
                    let first = names.limited(&format!("{pick:?}{index}"), 1, limit);
                    candidate(
                        u32::from(index > 2_000),
                        vec![first, names.limited(&format!("t{index}"), 1, 9)],
                    )
                })
                .collect();
            let question = Admission { pick, ..ask(&names.id(format!("{pick:?}")), places.clone()) };
            assert_eq!(counters.admit(&question).await.unwrap(), Admitted::Candidate(free));
            let nowhere = places.into_iter().take(free.min(1_000)).collect();
            let question = Admission { pick, ..ask(&names.id(format!("full{pick:?}")), nowhere) };
            let Admitted::Full(reasons) = counters.admit(&question).await.unwrap() else { panic!("room") };
            assert_eq!(reasons, vec![Some(0); 1_000]);
        }
    })
    .await;
}

#[tokio::test]
async fn a_batch_settles_each_by_itself() {
    over_all(async |counters| {
        let names = Names::new();
        for id in 0..1_200 {
            let place = vec![candidate(0, vec![names.limited("tpm", 10, u64::MAX)])];
            counters.admit(&ask(&names.id(id), place)).await.unwrap();
        }
        let charge = Charge { counter: names.counter("tpm"), amount: 3, ttl: MINUTE };
        let settle = |id: u32| Settlement::end(names.id(id), vec![charge.clone()]);
        let batch: Vec<Settlement> = (0..1_100).chain([7, 5_000]).map(settle).collect();
        let settled = counters.settle_all(&batch).await.unwrap();
        assert_eq!(settled.len(), 1_102);
        assert!(settled[..1_100].iter().all(|known| *known));
        assert_eq!(settled[1_100..], [false, false], "twice in one batch, and unknown");
        assert_eq!(names.value(&*counters, "tpm").await, 1_100 * 3 + 100 * 10);
        assert_eq!(counters.settle_all(&[]).await.unwrap(), [] as [bool; 0]);
    })
    .await;
}

fn probing(names: &Names, id: &str, lease: Duration) -> Admission {
    let probe = Some(names.id("dep"));
    let place = Candidate { tier: 0, charges: vec![names.limited("rpm", 1, 100)], probe };
    Admission { lease, ..ask(&names.id(id), vec![place]) }
}

#[tokio::test]
async fn one_request_probes_until_it_is_settled_or_an_outcome_is_seen_or_its_lease_is_over() {
    over_all(async |counters| {
        let names = Names::new();
        let admit = async |id: &str, lease| counters.admit(&probing(&names, id, lease)).await.unwrap();
        assert_eq!(admit("1", LEASE).await, Admitted::Candidate(0));
        assert_eq!(admit("2", LEASE).await, Admitted::Full(vec![None]));
        assert_eq!(names.value(&*counters, "rpm").await, 1);
        assert!(end(&*counters, &names.id("1"), Vec::new()).await);
        assert_eq!(admit("3", LEASE).await, Admitted::Candidate(0), "free when settled");
        let seen = |successes, failures| Observation { deployment: names.id("dep"), successes, failures };
        counters.observe(&[seen(1, Vec::new())]).await.unwrap();
        assert_eq!(admit("4", Duration::from_millis(60)).await, Admitted::Candidate(0), "free by a success");
        assert!(end(&*counters, &names.id("3"), Vec::new()).await);
        assert_eq!(admit("5", LEASE).await, Admitted::Full(vec![None]), "3 gave back what 4 holds not");
        eventually("the lease ends", async || admit("6", LEASE).await == Admitted::Candidate(0)).await;
        let failure =
            Failure { reason: "timeout".into(), cooldown: Duration::from_millis(40), trip: Trip::Now };
        counters.observe(&[seen(0, vec![failure])]).await.unwrap();
        assert_eq!(admit("7", LEASE).await, Admitted::Full(vec![None]), "open again: nobody probes");
        eventually("half-open", async || admit("8", LEASE).await == Admitted::Candidate(0)).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn three_sidecars_under_64_tasks_admit_exactly_the_limits() {
    let redis = Redis::start().await;
    let clients: Vec<Arc<dyn Counters>> = (0..3)
        .map(|_| Arc::new(RedisCounters::new(&redis.servers(), PATIENT).unwrap()) as Arc<dyn Counters>)
        .collect();
    exact(clients).await;
    exact(vec![Arc::new(Memory::default())]).await;
}

/// Two deployments of 100 and 37 requests, 300 requests that want one; one of them probed at a time.
async fn exact(clients: Vec<Arc<dyn Counters>>) {
    let names = Arc::new(Names::new());
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..64 {
        let (counters, names) = (Arc::clone(&clients[task % clients.len()]), Arc::clone(&names));
        tasks.spawn(async move {
            let mut admitted = [0_u64; 3];
            for turn in 0..5 {
                let places = vec![
                    candidate(0, vec![names.limited("a", 1, 100)]),
                    candidate(1, vec![names.limited("b", 1, 37)]),
                ];
                let pick = if turn % 2 == 0 { Pick::First } else { Pick::Lowest(0) };
                let id = names.id(format!("{task}/{turn}"));
                match counters.admit(&Admission { pick, ..ask(&id, places) }).await.unwrap() {
                    Admitted::Candidate(index) => admitted[index] += 1,
                    Admitted::Full(reasons) => assert_eq!(reasons, [Some(0), Some(0)]),
                    Admitted::Refused { .. } | Admitted::Unseeded(_) => panic!("nothing was required"),
                }
            }
            let probe = probing(&names, &format!("probe{task}"), LEASE);
            admitted[2] += u64::from(counters.admit(&probe).await.unwrap() == Admitted::Candidate(0));
            admitted
        });
    }
    let mut sums = [0; 3];
    while let Some(admitted) = tasks.join_next().await {
        for (sum, n) in sums.iter_mut().zip(admitted.unwrap()) {
            *sum += n;
        }
    }
    assert_eq!(sums, [100, 37, 1]);
    assert_eq!(names.value(&*clients[0], "a").await, 100);
    assert_eq!(names.value(&*clients[0], "b").await, 37);
}

#[tokio::test]
async fn what_is_reserved_ahead_is_all_or_nothing_and_leaves_room_for_the_others() {
    over_all(async |counters| {
        let names = Names::new();
        let ids = |from: &str| (0..4).map(|n| names.id(format!("{from}{n}"))).collect::<Vec<_>>();
        let asked = |id: &str, amount, limit| Admission {
            required: vec![names.limited("key:tpm", amount, limit)],
            ..ask(id, vec![candidate(0, vec![names.limited("a:rpm", 1, 10_000)])])
        };
        let first = ids("a");
        // Four of ten tokens.
        let room = 40 * MORE_ROOM;
        let refused = counters.place_all(&asked(&first[0], 10, room - 1), &first[1..]).await.unwrap();
        assert_eq!(refused.admitted, Admitted::Refused { required: 0, value: 0 });
        assert_eq!(names.value(&*counters, "key:tpm").await, 0, "nothing");
        let place = counters.place_all(&asked(&first[0], 10, room + 40), &first[1..]).await.unwrap();
        assert_eq!(place, Place { admitted: Admitted::Candidate(0), values: vec![40, 4] });
        let second = ids("b");
        let place = counters.place_all(&asked(&second[0], 10, room + 40), &second[1..]).await.unwrap();
        assert_eq!(place.admitted, Admitted::Candidate(0), "40 and the rest");
        let third = ids("c");
        let place = counters.place_all(&asked(&third[0], 10, room + 40), &third[1..]).await.unwrap();
        assert_eq!(place.admitted, Admitted::Refused { required: 0, value: 80 });
        assert_eq!(
            counters.admit(&asked("one", room - 40, room + 40)).await.unwrap(),
            Admitted::Candidate(0),
            "a request may"
        );
        // Each is settled by itself.
        let used = charge_of(&names, "key:tpm", 7);
        assert!(end(&*counters, &first[0], vec![used.clone()]).await);
        assert!(end(&*counters, &first[3], Vec::new()).await, "not used");
        assert!(!end(&*counters, &first[0], vec![used]).await, "once");
        assert_eq!(names.value(&*counters, "key:tpm").await, 10 + 10 + 7 + 40 + room - 40);
        assert_eq!(names.value(&*counters, "a:rpm").await, 2 + 4 + 1);
    })
    .await;
}

fn charge_of(names: &Names, name: &str, amount: u64) -> Charge {
    Charge { counter: names.counter(name), amount, ttl: MINUTE }
}

#[tokio::test]
async fn nobody_is_probed_ahead_and_what_is_not_used_ends_with_its_lease() {
    over_all(async |counters| {
        let names = Names::new();
        let free = || vec![names.limited("a:rpm", 1, 1_000)];
        let probed = Candidate { probe: Some(names.id("a")), ..candidate(0, free()) };
        let more = [names.id("p1")];
        let place = counters.place_all(&ask(&names.id("p0"), vec![probed.clone()]), &more).await.unwrap();
        assert_eq!(place.admitted, Admitted::Full(vec![None]));
        let other = candidate(1, vec![names.limited("b:rpm", 1, 1_000)]);
        let brief =
            Admission { lease: Duration::from_millis(80), ..ask(&names.id("q0"), vec![probed, other]) };
        let more = [names.id("q1"), names.id("q2")];
        let place = counters.place_all(&brief, &more).await.unwrap();
        assert_eq!(place, Place { admitted: Admitted::Candidate(1), values: vec![3] });
        eventually("what nobody uses goes back", async || {
            // Leases are swept by whoever comes.
            let _ = counters.admit(&ask(&names.id("sweep"), vec![candidate(0, Vec::new())])).await;
            names.value(&*counters, "b:rpm").await == 0
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn nothing_is_reserved_ahead_while_redis_is_away() {
    let redis = Redis::start().await;
    let counters = resilient(&redis, PATIENT).await;
    let names = Names::new();
    let asked = |id: &str| ask(&names.id(id), vec![candidate(0, vec![names.limited("a:rpm", 1, 1_000)])]);
    let place = counters.place_all(&asked("a0"), &[names.id("a1")]).await.unwrap();
    assert_eq!(place.admitted, Admitted::Candidate(0));
    drop(redis);
    eventually("degraded", async || {
        let _ = counters.admit(&asked("x")).await;
        counters.degraded()
    })
    .await;
    let before = names.value(&*counters, "a:rpm").await;
    let place = counters.place_all(&asked("b0"), &[names.id("b1")]).await.unwrap();
    assert_eq!(place.admitted, Admitted::Full(Vec::new()));
    assert_eq!(names.value(&*counters, "a:rpm").await, before);
    // What was reserved before is settled in process.
    assert!(end(&*counters, &names.id("a1"), Vec::new()).await);
    assert_eq!(names.value(&*counters, "a:rpm").await, before - 1);
}
