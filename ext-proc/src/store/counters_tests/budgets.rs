//! Limits that shrink, counters that must be seeded, leases that stay, over every backend.

use super::admission::{Names, candidate, end};
use super::*;

fn budget(limited: Limited, seed: Seed) -> Limited {
    Limited { shrink: true, seed, ..limited }
}

fn required(id: &str, required: Vec<Limited>) -> Admission {
    Admission { required, ..ask(id, vec![candidate(0, Vec::new())]) }
}

#[tokio::test]
async fn a_charge_shrinks_to_what_is_left_and_only_that_is_given_back() {
    over_all(async |counters| {
        let names = Names::new();
        let place = async |id: &str, amount| {
            let limit = budget(names.limited("budget", amount, 100), Seed::Zero);
            counters.place(&required(&names.id(id), vec![limit])).await.unwrap()
        };
        let admitted = |value| Place { admitted: Admitted::Candidate(0), values: vec![value] };
        assert_eq!(place("1", 70).await, admitted(70));
        assert_eq!(place("2", 70).await, admitted(100), "30 are left");
        let refused = Place { admitted: Admitted::Refused { required: 0, value: 100 }, values: Vec::new() };
        assert_eq!(place("3", 0).await, refused, "at the limit there is no room, even for nothing");
        assert!(end(&*counters, &names.id("2"), Vec::new()).await);
        assert_eq!(names.value(&*counters, "budget").await, 70, "30 were charged, 30 are given back");
        let costly = Charge { counter: names.counter("budget"), amount: 500, ttl: LEASE };
        assert!(end(&*counters, &names.id("1"), vec![costly]).await);
        assert_eq!(place("4", 1).await.admitted, Admitted::Refused { required: 0, value: 500 });

        let nothing = budget(names.limited("none", 0, 0), Seed::Zero);
        let answer = counters.admit(&required(&names.id("5"), vec![nothing])).await.unwrap();
        assert_eq!(answer, Admitted::Refused { required: 0, value: 0 }, "a budget of 0 is none");
    })
    .await;
}

#[tokio::test]
async fn candidates_have_budgets_too() {
    over_all(async |counters| {
        let names = Names::new();
        let place = async |id: &str| {
            let of = |name, seed| vec![budget(names.limited(name, 80, 100), seed)];
            let places = vec![candidate(0, of("a", Seed::Known(50))), candidate(0, of("b", Seed::Ask))];
            counters.place(&ask(&names.id(id), places)).await.unwrap()
        };
        let admitted = |index, value| Place { admitted: Admitted::Candidate(index), values: vec![value] };
        assert_eq!(place("1").await, admitted(0, 100), "it began at 50");
        assert_eq!(place("2").await, admitted(1, 80), "nobody is asked for candidates");
        assert_eq!(place("3").await, admitted(1, 100));
        assert_eq!(place("4").await.admitted, Admitted::Full(vec![Some(0), Some(0)]));
        assert!(end(&*counters, &names.id("1"), Vec::new()).await);
        assert!(end(&*counters, &names.id("3"), Vec::new()).await);
        assert_eq!(names.value(&*counters, "a").await, 50);
        assert_eq!(names.value(&*counters, "b").await, 80);
    })
    .await;
}

#[tokio::test]
async fn a_counter_that_nobody_knows_is_asked_for_and_nothing_is_charged() {
    over_all(async |counters| {
        let names = Names::new();
        let place = async |id: &str, seed, other| {
            let limits = vec![
                names.limited("rpm", 1, 10),
                budget(names.limited("money", 60, 100), seed),
                Limited { seed: other, ..limited(&names.counter("counted"), 5, LEASE, None) },
            ];
            counters.place(&required(&names.id(id), limits)).await.unwrap()
        };
        assert_eq!(place("1", Seed::Ask, Seed::Ask).await.admitted, Admitted::Unseeded(vec![1, 2]));
        assert_eq!(place("1", Seed::Known(30), Seed::Ask).await.admitted, Admitted::Unseeded(vec![2]));
        assert_eq!(names.value(&*counters, "rpm").await, 0);
        let placed = place("1", Seed::Ask, Seed::Known(0)).await;
        assert_eq!(placed, Place { admitted: Admitted::Candidate(0), values: vec![1, 90, 5] });
        let placed = place("2", Seed::Known(0), Seed::Ask).await;
        assert_eq!(placed.values, [2, 100, 10], "it is known: no second seed counts");
    })
    .await;
}

#[tokio::test]
async fn a_seed_that_leaves_no_room_is_kept() {
    over_all(async |counters| {
        let names = Names::new();
        let admit = async |seed| {
            let limits = vec![budget(names.limited("money", 1, 100), seed)];
            counters.admit(&required(&names.id("1"), limits)).await.unwrap()
        };
        assert_eq!(admit(Seed::Known(120)).await, Admitted::Refused { required: 0, value: 120 });
        assert_eq!(admit(Seed::Ask).await, Admitted::Refused { required: 0, value: 120 }, "asked for once");
    })
    .await;
}

#[tokio::test]
async fn asking_again_tells_the_counters_as_they_are_now() {
    over_all(async |counters| {
        let names = Names::new();
        let place = async |id: &str| {
            let places = vec![
                candidate(0, vec![names.limited("a", 1, 0)]),
                candidate(0, vec![names.limited("b", 1, 9)]),
            ];
            let question =
                Admission { required: vec![names.limited("key", 1, 9)], ..ask(&names.id(id), places) };
            counters.place(&question).await.unwrap()
        };
        let placed = |values: [u64; 2]| Place { admitted: Admitted::Candidate(1), values: values.to_vec() };
        assert_eq!(place("1").await, placed([1, 1]));
        assert_eq!(place("2").await, placed([2, 2]));
        assert_eq!(place("1").await, placed([2, 2]));
    })
    .await;
}

#[tokio::test]
async fn a_part_is_settled_once_and_the_rest_stays() {
    over_all(async |counters| {
        let names = Names::new();
        let places =
            vec![candidate(0, vec![names.limited("dep:rpm", 1, 9), names.limited("dep:tpm", 100, 900)])];
        let question =
            Admission { required: vec![names.limited("key", 50, 90)], ..ask(&names.id("1"), places) };
        assert_eq!(counters.admit(&question).await.unwrap(), Admitted::Candidate(0));
        let charge = |name, amount| Charge { counter: names.counter(name), amount, ttl: LEASE };
        let part = Settlement {
            id: names.id("1"),
            actual: vec![charge("dep:rpm", 1), charge("dep:tpm", 7), charge("other", 3)],
            stays: true,
        };
        for _ in 0..2 {
            assert_eq!(
                counters.settle_all(std::slice::from_ref(&part)).await.unwrap(),
                [true],
                "the lease runs"
            );
            for (name, value) in [("dep:rpm", 1), ("dep:tpm", 7), ("other", 3), ("key", 50)] {
                assert_eq!(names.value(&*counters, name).await, value, "{name}");
            }
        }
        assert!(end(&*counters, &names.id("1"), vec![charge("key", 20)]).await);
        for (name, value) in [("dep:rpm", 1), ("dep:tpm", 7), ("other", 3), ("key", 20)] {
            assert_eq!(names.value(&*counters, name).await, value, "{name}");
        }
        assert_eq!(counters.settle_all(&[part]).await.unwrap(), [false], "no lease, no part of it");
        assert_eq!(names.value(&*counters, "other").await, 3);
    })
    .await;
}

#[tokio::test]
async fn a_lease_is_prolonged_with_its_counters_by_a_later_pass() {
    over_all(async |counters| {
        let names = Names::new();
        let brief = Duration::from_millis(150);
        let parallel = Counter::new(names.id("parallel"), 0);
        let probe = || Candidate { probe: Some(names.id("d")), ..candidate(0, Vec::new()) };
        let first = Admission {
            lease: brief,
            required: vec![limited(&parallel, 1, brief, Some(5))],
            ..ask(&names.id("0"), vec![probe()])
        };
        assert_eq!(counters.admit(&first).await.unwrap(), Admitted::Candidate(0));
        let second =
            Admission { renew: Some(names.id("0")), ..ask(&names.id("1"), vec![candidate(0, Vec::new())]) };
        assert_eq!(counters.admit(&second).await.unwrap(), Admitted::Candidate(0));
        let third = Admission {
            lease: brief,
            renew: Some(names.id("0")),
            ..ask(&names.id("2"), vec![candidate(0, Vec::new())])
        };
        assert_eq!(counters.admit(&third).await.unwrap(), Admitted::Candidate(0));
        let lost =
            Admission { renew: Some("never".into()), ..ask(&names.id("3"), second.candidates.clone()) };
        assert_eq!(counters.admit(&lost).await.unwrap(), Admitted::Candidate(0));
        tokio::time::sleep(Duration::from_millis(400)).await;
        assert_eq!(counters.values(std::slice::from_ref(&parallel)).await.unwrap(), [1], "never shortened");
        let other = ask(&names.id("4"), vec![probe()]);
        assert_eq!(counters.admit(&other).await.unwrap(), Admitted::Full(vec![None]), "it still probes");
        assert!(end(&*counters, &names.id("0"), Vec::new()).await, "the lease runs");
        assert_eq!(counters.values(&[parallel]).await.unwrap(), [0]);
        assert!(!end(&*counters, &names.id("2"), Vec::new()).await, "its own was brief");
    })
    .await;
}

#[tokio::test]
async fn a_counter_is_told_with_what_is_only_reserved_and_can_be_moved() {
    over_all(async |counters| {
        let names = Names::new();
        let turn = Duration::from_secs(60);
        let standing = async |all: &[&str]| {
            let all: Vec<Counter> = all.iter().map(|name| names.counter(name)).collect();
            counters.standing(&all, turn).await.unwrap().expect("nobody else asks")
        };
        let told = |value, held| Some(Standing { value, held: Some(held) });
        assert_eq!(standing(&["budget"]).await, [None]);
        for (id, amount) in [("1", 30), ("2", 12)] {
            let limit = budget(names.limited("budget", amount, 100), Seed::Known(7));
            counters.place(&required(&names.id(id), vec![limit])).await.unwrap();
        }
        assert_eq!(standing(&["budget", "other"]).await, [told(49, 42), None]);
        let cost = Charge { counter: names.counter("budget"), amount: 25, ttl: LEASE };
        assert!(end(&*counters, &names.id("1"), vec![cost]).await);
        assert_eq!(standing(&["other", "budget"]).await, [None, told(44, 12)]);

        let by = |name: &str, by| Correction { counter: names.counter(name), by };
        assert!(counters.correct(&[by("budget", 5), by("other", 5)]).await.unwrap());
        assert_eq!(standing(&["budget", "other"]).await, [told(49, 12), None], "what is gone stays gone");
        assert!(counters.correct(&[by("budget", -9)]).await.unwrap());
        assert_eq!(standing(&["budget"]).await, [told(40, 12)]);
        assert!(end(&*counters, &names.id("2"), Vec::new()).await);
        assert_eq!(standing(&["budget"]).await, [told(28, 0)]);
    })
    .await;
}
