//! Circuit breakers and samples over every backend.

use super::*;

pub(super) fn failure(cooldown_ms: u64, trip: Trip) -> Failure {
    Failure { reason: "server_error 500".into(), cooldown: Duration::from_millis(cooldown_ms), trip }
}

pub(super) fn observation(deployment: &str, successes: u32, failures: Vec<Failure>) -> Observation {
    Observation { deployment: deployment.into(), successes, failures }
}

/// Opens at once.
pub(super) fn tripped(deployment: &str, cooldown: Duration) -> Observation {
    observation(deployment, 0, vec![Failure { cooldown, ..failure(0, Trip::Now) }])
}

fn name() -> String {
    format!("dep:{}", rand::random::<u64>())
}

async fn circuit(counters: &dyn Counters, deployment: &str) -> Option<Circuit> {
    counters.circuits().await.unwrap().into_iter().find(|circuit| circuit.deployment == deployment)
}

/// Observes, and returns the transition if there is one.
async fn see(
    counters: &dyn Counters,
    deployment: &str,
    successes: u32,
    failures: Vec<Failure>,
) -> Option<Transition> {
    let mut transitions = counters.observe(&[observation(deployment, successes, failures)]).await.unwrap();
    assert!(transitions.len() < 2);
    transitions.pop()
}

fn opened(transition: Option<Transition>) -> Circuit {
    let Some(Transition::Opened(circuit)) = transition else { panic!("{transition:?}") };
    circuit
}

#[tokio::test]
async fn now_opens_at_once_and_the_later_deadline_wins() {
    over_all(async |counters| {
        let name = name();
        let now = wall_ms();
        let first = opened(see(&*counters, &name, 0, vec![failure(60_000, Trip::Now)]).await);
        assert!(first.until_ms.abs_diff(now + 60_000) < 5_000, "{first:?}");
        assert_eq!(first.reason, "server_error 500");
        assert_eq!(circuit(&*counters, &name).await.as_ref(), Some(&first));

        assert_eq!(see(&*counters, &name, 0, vec![failure(1_000, Trip::Now)]).await, None, "earlier");
        assert_eq!(see(&*counters, &name, 3, Vec::new()).await, None, "late answers close nothing");
        assert_eq!(circuit(&*counters, &name).await.as_ref(), Some(&first));

        let wait = Failure { reason: "rate_limit 429".into(), ..failure(600_000, Trip::Now) };
        let later = opened(see(&*counters, &name, 0, vec![wait, failure(9_000, Trip::Now)]).await);
        assert!(later.until_ms.abs_diff(now + 600_000) < 5_000, "{later:?}");
        assert_eq!(later.reason, "rate_limit 429");
        let ages = Failure { cooldown: Duration::MAX, ..failure(0, Trip::Now) };
        let bounded = opened(see(&*counters, &name, 0, vec![ages]).await);
        assert!(bounded.until_ms.abs_diff(now + 86_400_000) < 5_000, "no upstream goes away for ever");
    })
    .await;
}

#[tokio::test]
async fn never_and_a_cooldown_of_zero_do_not_open() {
    over_all(async |counters| {
        let name = name();
        let count = Trip::Count { kind: "x".into(), allowed: 0, window: Duration::from_secs(60) };
        for trip in [Trip::Now, count, Trip::Share { percent: 0, min: 1 }] {
            assert_eq!(see(&*counters, &name, 0, vec![failure(0, trip)]).await, None);
        }
        assert_eq!(see(&*counters, &name, 0, vec![failure(60_000, Trip::Never); 50]).await, None);
        assert_eq!(circuit(&*counters, &name).await, None);
    })
    .await;
}

#[tokio::test]
async fn more_than_the_allowed_failures_of_one_kind_open() {
    over_all(async |counters| {
        let name = name();
        let fail = |kind: &str, window_ms| {
            let window = Duration::from_millis(window_ms);
            failure(60_000, Trip::Count { kind: kind.into(), allowed: 2, window })
        };
        for kind in ["timeout", "timeout", "server_error", "server_error"] {
            assert_eq!(see(&*counters, &name, 1, vec![fail(kind, 60_000)]).await, None, "{kind}");
        }
        opened(see(&*counters, &name, 0, vec![fail("timeout", 60_000)]).await);

        let batch = format!("{name}:batch");
        opened(see(&*counters, &batch, 9, vec![fail("timeout", 60_000); 3]).await);

        let slow = format!("{name}:slow");
        assert_eq!(see(&*counters, &slow, 0, vec![fail("timeout", 100); 2]).await, None);
        tokio::time::sleep(Duration::from_millis(150)).await;
        assert_eq!(see(&*counters, &slow, 0, vec![fail("timeout", 100)]).await, None, "the others are old");
    })
    .await;
}

/// The minute may turn between two observations: then less is counted than expected.
async fn within_a_minute() {
    let left = 60_000 - wall_ms() % 60_000;
    if left < 3_000 {
        tokio::time::sleep(Duration::from_millis(left)).await;
    }
}

#[tokio::test]
async fn a_share_of_the_minutes_outcomes_opens() {
    over_all(async |counters| {
        within_a_minute().await;
        let name = name();
        let half = || failure(60_000, Trip::Share { percent: 50, min: 6 });
        assert_eq!(see(&*counters, &name, 0, vec![half(); 2]).await, None, "too few to tell");
        assert_eq!(see(&*counters, &name, 3, vec![half()]).await, None, "half is not more than half");
        let never = failure(60_000, Trip::Never);
        assert_eq!(see(&*counters, &name, 0, vec![never]).await, None, "counts, but does not trip");
        opened(see(&*counters, &name, 1, vec![half()]).await);

        let all = || failure(60_000, Trip::Share { percent: 99, min: 10 });
        let lone = format!("{name}:lone");
        assert_eq!(see(&*counters, &lone, 1, vec![all(); 99]).await, None, "99 % are not all");
        opened(see(&*counters, &format!("{lone}:all"), 0, vec![all(); 10]).await);
    })
    .await;
}

#[tokio::test]
async fn a_half_open_breaker_closes_with_a_success_and_opens_again_with_any_failure() {
    over_all(async |counters| {
        within_a_minute().await;
        let name = name();
        let half_open = async || {
            let open = circuit(&*counters, &name).await.expect("half-open ones are told");
            tokio::time::sleep(Duration::from_millis((open.until_ms + 20).saturating_sub(wall_ms()))).await;
        };
        let count = Trip::Count { kind: "x".into(), allowed: 4, window: Duration::from_secs(60) };
        let share = Trip::Share { percent: 10, min: 6 };
        assert_eq!(see(&*counters, &name, 0, vec![failure(50, count.clone()); 4]).await, None);
        opened(see(&*counters, &name, 0, vec![failure(50, count.clone())]).await);
        half_open().await;
        for trip in [Trip::Never, Trip::Share { percent: 100, min: 9_999 }] {
            opened(see(&*counters, &name, 1, vec![failure(50, trip)]).await);
            half_open().await;
        }
        let closed = see(&*counters, &name, 1, Vec::new()).await;
        assert_eq!(closed, Some(Transition::Closed(name.clone())));
        assert_eq!(circuit(&*counters, &name).await, None);
        assert_eq!(see(&*counters, &name, 1, Vec::new()).await, None, "closed already");
        let afresh = see(&*counters, &name, 0, vec![failure(50, count), failure(50, share)]).await;
        assert_eq!(afresh, None, "counts start afresh");
    })
    .await;
}

#[tokio::test]
async fn one_call_observes_many() {
    over_all(async |counters| {
        let names: Vec<String> = (0..600).map(|_| name()).collect();
        let all: Vec<Observation> = names.iter().map(|name| tripped(name, LEASE)).collect();
        assert_eq!(counters.observe(&all).await.unwrap().len(), 600);
        assert!(counters.circuits().await.unwrap().len() >= 600);
    })
    .await;
}

#[tokio::test]
async fn the_newest_samples_are_kept_per_deployment_and_speed() {
    over_all(async |counters| {
        let name = name();
        let sample = |speed, micros| Sample { deployment: name.clone(), speed, micros };
        let of = async |speed| -> Vec<u64> {
            let all = counters.samples().await.unwrap();
            all.iter().filter(|s| s.deployment == name && s.speed == speed).map(|s| s.micros).collect()
        };
        let batch: Vec<Sample> = (1..=7).map(|n| sample(Speed::FirstEvent, n)).collect();
        counters.add_samples(&batch, 5, LEASE).await.unwrap();
        counters.add_samples(&[sample(Speed::PerToken, 70)], 5, LEASE).await.unwrap();
        counters.add_samples(&[sample(Speed::FirstEvent, 8)], 5, LEASE).await.unwrap();
        assert_eq!(of(Speed::FirstEvent).await, [4, 5, 6, 7, 8]);
        assert_eq!(of(Speed::PerToken).await, [70]);
        counters.add_samples(&[sample(Speed::FirstEvent, 9)], 0, Duration::from_millis(50)).await.unwrap();
        eventually("samples end", async || of(Speed::FirstEvent).await.is_empty()).await;
        counters.add_samples(&[sample(Speed::FirstEvent, 10)], 5, LEASE).await.unwrap();
        assert_eq!(of(Speed::FirstEvent).await, [10], "old ones do not come back");
        assert_eq!(of(Speed::PerToken).await, [70]);
    })
    .await;
}
