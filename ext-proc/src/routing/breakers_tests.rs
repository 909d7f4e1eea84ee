use super::*;
use crate::routing::tests::FakeCounters;

fn circuit(deployment: &str, until_ms: u64) -> Circuit {
    Circuit { deployment: deployment.into(), until_ms, reason: "rate_limit 429".into() }
}

fn opened(deployment: &str, until_ms: u64) -> Transition {
    Transition::Opened(circuit(deployment, until_ms))
}

#[test]
fn open_until_its_time_then_half_open_until_an_answer() {
    let breakers = Breakers::new();
    let now = now_ms();
    assert_eq!(breakers.state("a", now), Breaker::Closed);
    breakers.apply(&[opened("a", now + 60_000)]);
    assert_eq!(breakers.state("a", now), Breaker::Open { until_ms: now + 60_000 });
    assert_eq!(breakers.state("a", now + 60_000), Breaker::HalfOpen);
    breakers.apply(&[Transition::Closed("a".into())]);
    assert_eq!(breakers.state("a", now), Breaker::Closed);
    assert_eq!((breakers.opened(), breakers.list()), (1, vec![]));
}

#[test]
fn the_later_deadline_wins_and_is_no_second_opening() {
    let breakers = Breakers::new();
    let now = now_ms();
    breakers.apply(&[opened("a", now + 60_000)]);
    breakers.apply(&[opened("a", now + 5_000)]);
    assert_eq!(breakers.list()[0].until_ms, now + 60_000);
    breakers.apply(&[opened("a", now + 90_000)]);
    assert_eq!(breakers.list()[0].until_ms, now + 90_000);
    assert_eq!(breakers.opened(), 1);
}

#[tokio::test]
async fn a_refresh_brings_what_others_know_and_forgets_what_they_closed() {
    let (breakers, now) = (Breakers::new(), now_ms());
    let counters = FakeCounters::default();
    counters.circuits.lock().push(circuit("theirs", now + 9_000));
    breakers.refresh(&counters).await.unwrap();
    assert!(matches!(breakers.state("theirs", now), Breaker::Open { .. }));
    assert_eq!(breakers.opened(), 1);
    counters.circuits.lock().clear();
    breakers.refresh(&counters).await.unwrap();
    assert_eq!(breakers.state("theirs", now), Breaker::Closed);
}

#[tokio::test]
async fn counters_away_leave_what_is_known() {
    let (breakers, now) = (Breakers::new(), now_ms());
    breakers.apply(&[opened("own", now + 9_000)]);
    let away = FakeCounters { away: true, ..FakeCounters::default() };
    assert!(breakers.refresh(&away).await.is_err());
    assert_ne!(breakers.state("own", now), Breaker::Closed);
}

#[test]
fn credential_failures_are_counted_per_deployment() {
    let breakers = Breakers::new();
    breakers.credential_failed("b", 401);
    breakers.credential_failed("a", 403);
    breakers.credential_failed("b", 401);
    assert_eq!(breakers.credential_failures(), [("a".to_owned(), 1), ("b".to_owned(), 2)]);
}
