//! Reservations, true tokens, speeds.

use attache_llm::usage::Usage;

use super::*;

fn counted(deployments: Vec<Deployment>) -> Snapshot {
    snapshot(vec![with_strategy(Strategy::UsageBased, "gpt", deployments)])
}

fn used(prompt: u64, completion: u64) -> Option<Usage> {
    Some(Usage { prompt, completion, total: prompt + completion, ..Usage::default() })
}

#[tokio::test]
async fn what_was_reserved_becomes_what_was_used_once() {
    let world = World::new(counted(vec![change(deployment("a", "gpt"), |d| d.rpm = Some(9))]));
    let decision = world.decide(&ask(MASTER_KEY_HASH, "gpt")).await.unwrap();
    let lease = decision.timeouts.total;
    let id = decision.reservation.hand_over();
    let admission = world.fake.admitted.lock()[0].clone();
    assert_eq!(admission.id, id);
    assert_eq!(admission.candidates[0].charges.iter().map(|c| c.amount).collect::<Vec<_>>(), [100, 1]);
    assert!(admission.lease > lease);

    let good = AttemptRecord { usage: used(11, 22), ..attempt("a", AttemptOutcome::Complete, 200) };
    let record = record(Some(id), vec![good]);
    assert_eq!(world.settle(&record).await, Settled::Done);
    assert_eq!(world.settle(&record).await, Settled::Before);
    let names: Vec<Counter> = admission.candidates[0].charges.iter().map(|c| c.counter.clone()).collect();
    assert_eq!(world.fake.values(&names).await.unwrap(), [33, 1]);
    assert_eq!(world.fake.observed.lock().len(), 1, "a duplicate is no second outcome");
}

#[tokio::test]
async fn a_batch_is_one_call_of_each_kind_and_answers_in_order() {
    let world = World::new(counted(vec![deployment("a", "gpt")]));
    let mut records = Vec::new();
    for call in 0..3 {
        let ask = Ask { call_id: format!("c{call}"), ..ask(MASTER_KEY_HASH, "gpt") };
        let id = world.decide(&ask).await.unwrap().reservation.hand_over();
        let attempts = vec![attempt("a", AttemptOutcome::ErrorStatus, 500)];
        records.push(UsageRecord { call_id: ask.call_id, ..record(Some(id), attempts) });
    }
    records.push(record(Some("1/call-1/0".into()), vec![]));
    records.push(record(None, vec![]));
    let settled = world.settle_all(&records).await;
    assert_eq!(settled, [Settled::Done, Settled::Done, Settled::Done, Settled::Before, Settled::Done]);
    let observed = world.fake.observed.lock();
    assert_eq!((observed.len(), observed[0].failures.len()), (1, 3));
}

#[tokio::test]
async fn only_the_reserved_pass_is_charged_and_only_where_it_was_reserved() {
    let world = World::new(counted(vec![deployment("a", "gpt"), deployment("b", "gpt")]));
    let decision = world.decide(&again("gpt", &[("a", "gpt", ErrorClass::InternalServer)])).await.unwrap();
    assert_eq!(decision.plan[0].deployment, "b", "who failed comes last");
    let id = decision.reservation.hand_over();
    let of_pass = |deployment: &str, pass, usage| AttemptRecord {
        pass,
        usage,
        ..attempt(deployment, AttemptOutcome::Complete, 200)
    };
    let attempts =
        vec![of_pass("a", 0, used(1, 1)), of_pass("b", 1, used(2, 2)), of_pass("a", 1, used(4, 4))];
    assert_eq!(world.settle(&record(Some(id), attempts)).await, Settled::Done);
    let minute = now_ms() / 60_000;
    let values = ["dep:a:tpm", "dep:b:tpm"].map(|name| Counter::new(name, minute));
    assert_eq!(world.fake.values(&values).await.unwrap(), [0, 4]);
}

#[tokio::test]
async fn a_decision_that_is_dropped_refunds() {
    let world = World::new(counted(vec![deployment("a", "gpt")]));
    drop(world.decide(&ask(MASTER_KEY_HASH, "gpt")).await.unwrap());
    tokio::time::sleep(Duration::from_millis(20)).await;
    let counter = world.fake.admitted.lock()[0].candidates[0].charges[0].counter.clone();
    assert_eq!(world.fake.values(&[counter]).await.unwrap(), [0]);
}

#[tokio::test]
async fn counters_away_leave_it_to_the_lease() {
    let mut world = World::new(counted(vec![deployment("a", "gpt")]));
    world.fake = Arc::new(FakeCounters { away: true, ..FakeCounters::default() });
    assert_eq!(world.settle(&record(Some("1/call-1/0".into()), vec![])).await, Settled::Away);
}

#[tokio::test]
async fn a_failure_that_opens_the_breaker_is_seen_by_the_next_decision() {
    let world =
        World::new(snapshot(vec![group("gpt", vec![deployment("a", "gpt"), deployment("b", "gpt")])]));
    world.settle(&record(None, vec![attempt("a", AttemptOutcome::ErrorStatus, 429)])).await;
    let decision = world.decide(&ask(MASTER_KEY_HASH, "gpt")).await.unwrap();
    assert_eq!(deployments(&decision), ["b", "b", "b"]);
}

#[tokio::test]
async fn speeds_are_measured_for_latency_groups_only_and_a_timeout_is_a_penalty() {
    let fast =
        with_strategy(Strategy::Latency(LatencyArgs::default()), "fast", vec![deployment("f", "fast")]);
    let world = World::new(snapshot(vec![fast, group("gpt", vec![deployment("a", "gpt")])]));
    let at = |deployment: &str, outcome, first_event_us, duration_us| AttemptRecord {
        first_event_us,
        duration_us,
        usage: used(10, 20),
        ..attempt(deployment, outcome, 200)
    };
    let stream = UsageRecord {
        stream: true,
        ..record(None, vec![at("f", AttemptOutcome::Complete, Some(700), 9_000)])
    };
    let whole = record(
        None,
        vec![at("f", AttemptOutcome::Complete, None, 9_000), at("a", AttemptOutcome::Complete, None, 5)],
    );
    let late = record(
        None,
        vec![AttemptRecord {
            class: Some(ErrorClass::Timeout),
            usage: None,
            ..at("f", AttemptOutcome::NoAnswer, None, 0)
        }],
    );
    let failed = record(None, vec![attempt("f", AttemptOutcome::ErrorStatus, 500)]);
    world.settle_all(&[stream, whole, late, failed]).await;
    let (samples, keep, _) = world.fake.samples.lock()[0].clone();
    let samples: Vec<_> = samples.iter().map(|s| (s.deployment.as_str(), s.speed, s.micros)).collect();
    use crate::store::Speed::{FirstEvent, PerToken};
    assert_eq!(samples, [("f", FirstEvent, 700), ("f", PerToken, 450), ("f", PerToken, 1_000_000_000)]);
    assert_eq!(keep, 10);
    assert_eq!(world.speeds.of("f", FirstEvent), Some(700));
    world.speeds.refresh(&*world.counters()).await.unwrap();
    assert_eq!(world.speeds.of("f", FirstEvent), Some(700));
}
