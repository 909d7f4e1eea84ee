//! Reservations, true tokens, failures.

use attache_llm::usage::Usage;

use super::*;
use crate::routing::settle::failures;

#[tokio::test]
async fn the_first_deployment_is_reserved_and_settled_with_true_tokens() {
    let world = World::new(snapshot(vec![group("gpt", vec![deployment("a", "gpt")])]));
    let decision = world.decide(&ask(MASTER_KEY_HASH, "gpt")).await.unwrap();
    let lease = decision.timeouts.total;
    let id = decision.reservation.hand_over();
    let reserved = world.fake.reserved.lock().clone();
    assert_eq!(reserved[0].0, id);
    assert_eq!(reserved[0].1.iter().map(|c| c.amount).collect::<Vec<_>>(), [1, 100]);
    assert!(reserved[0].2 > lease);

    let mut good = attempt("a", AttemptOutcome::Complete, 200);
    good.usage = Some(Usage { prompt: 11, completion: 22, total: 33, ..Usage::default() });
    let record = record(Some(id.clone()), vec![good]);
    assert_eq!(world.settle(&record).await, Settled::Done);
    assert_eq!(world.settle(&record).await, Settled::Before);
    let settled = world.fake.settled.lock().clone();
    assert_eq!(settled.len(), 1);
    let counters: Vec<String> = settled[0].1.iter().map(|c| c.counter.to_string()).collect();
    assert_eq!(counters, reserved[0].1.iter().map(|c| c.counter.to_string()).collect::<Vec<_>>());
    assert_eq!(settled[0].1.iter().map(|c| c.amount).collect::<Vec<_>>(), [1, 33]);
}

#[tokio::test]
async fn a_fallback_is_charged_and_the_first_deployment_gets_its_tokens_back() {
    let world =
        World::new(snapshot(vec![group("gpt", vec![deployment("a", "gpt"), deployment("b", "gpt")])]));
    let decision = world.decide(&ask(MASTER_KEY_HASH, "gpt")).await.unwrap();
    let (first, second) = (decision.plan[0].deployment.clone(), decision.plan[1].deployment.clone());
    let mut good = attempt(&second, AttemptOutcome::Complete, 200);
    good.usage = Some(Usage { prompt: 5, completion: 5, ..Usage::default() });
    let attempts = vec![attempt(&first, AttemptOutcome::ErrorStatus, 500), good];
    let record = record(Some(decision.reservation.hand_over()), attempts);
    assert_eq!(world.settle(&record).await, Settled::Done);
    let settled = world.fake.settled.lock().clone();
    assert_eq!(settled[0].1.iter().map(|c| c.amount).collect::<Vec<_>>(), [1, 0]);
    assert!(settled[1].1[0].counter.to_string().contains(&format!(":{second}:")));
    assert_eq!(settled[1].1.iter().map(|c| c.amount).collect::<Vec<_>>(), [1, 10]);
    assert_eq!(world.fake.failures.lock().len(), 1);
}

#[tokio::test]
async fn a_decision_that_is_dropped_refunds_and_counters_away_still_decide() {
    let mut world = World::new(two_groups());
    drop(world.decide(&ask(MASTER_KEY_HASH, "gpt")).await.unwrap());
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(world.fake.settled.lock()[0].1.iter().map(|c| c.amount).collect::<Vec<_>>(), [0, 0]);
    world.fake = Arc::new(FakeCounters { away: true, ..FakeCounters::default() });
    let decision = world.decide(&ask(MASTER_KEY_HASH, "gpt")).await.unwrap();
    assert_eq!(decision.reservation.hand_over(), "", "nothing to settle");
}

#[tokio::test]
async fn a_failure_that_cools_is_seen_by_the_next_decision() {
    let mut world =
        World::new(snapshot(vec![group("gpt", vec![deployment("a", "gpt"), deployment("b", "gpt")])]));
    world.fake = Arc::new(FakeCounters { cool_until: Some(now_ms() + 5_000), ..FakeCounters::default() });
    world.settle(&record(None, vec![attempt("a", AttemptOutcome::ErrorStatus, 503)])).await;
    let decision = world.decide(&ask(MASTER_KEY_HASH, "gpt")).await.unwrap();
    assert_eq!(deployments(&decision), ["b", "b", "b"]);
}

#[test]
fn what_counts_as_a_failure() {
    use AttemptOutcome::*;
    let s = two_groups();
    let count = |attempts: Vec<AttemptRecord>, aborted| {
        failures(&s, &UsageRecord { aborted, ..record(None, attempts) }).len()
    };
    for status in [401, 404, 408, 429, 500, 503, 529] {
        assert_eq!(count(vec![attempt("a", ErrorStatus, status)], false), 1, "{status}");
    }
    for status in [400, 403, 409, 413, 422] {
        assert_eq!(count(vec![attempt("a", ErrorStatus, status)], false), 0, "{status}");
    }
    assert_eq!(count(vec![attempt("a", FailedFirstEvent, 200)], false), 1);
    assert_eq!(count(vec![attempt("a", Complete, 200), attempt("a", Answered, 200)], false), 0);
    assert_eq!(count(vec![attempt("a", NoAnswer, 0)], false), 1);
    assert_eq!(count(vec![attempt("a", NoAnswer, 0)], true), 0, "the client hung up");
    assert_eq!(
        count(vec![attempt("a", NoAnswer, 0), attempt("b", NoAnswer, 0)], true),
        1,
        "only the last was left"
    );
    assert_eq!(count(vec![attempt("gone", ErrorStatus, 500)], false), 0, "left the configuration");
}

#[test]
fn retry_after_counts_only_for_429_and_only_beside_others() {
    let s = two_groups();
    let retry_after = |deployment: &str, status, seconds| {
        let failed = AttemptRecord {
            retry_after_s: Some(seconds),
            ..attempt(deployment, AttemptOutcome::ErrorStatus, status)
        };
        failures(&s, &record(None, vec![failed]))[0].retry_after
    };
    assert_eq!(retry_after("a", 429, 7), Some(Duration::from_secs(7)));
    assert_eq!(retry_after("a", 503, 7), None);
    assert_eq!(retry_after("c", 429, 7), None, "alone in its group");
    assert_eq!(retry_after("a", 429, u64::MAX), Some(Duration::from_secs(3_600)));
}

#[test]
fn deployments_may_have_their_own_rule() {
    let mut own = deployment("a", "gpt");
    (own.allowed_fails, own.cooldown) = (Some(0), Some(Duration::from_secs(60)));
    let mut never = deployment("b", "gpt");
    never.cooldown = Some(Duration::ZERO);
    let mut s = snapshot(vec![group("gpt", vec![own, never])]);
    let failed = record(
        None,
        vec![attempt("a", AttemptOutcome::ErrorStatus, 500), attempt("b", AttemptOutcome::ErrorStatus, 500)],
    );
    let rules = failures(&s, &failed);
    assert_eq!(rules.len(), 1);
    assert_eq!((rules[0].allowed_fails, rules[0].cooldown), (0, Duration::from_secs(60)));
    s.disable_cooldowns = true;
    assert!(failures(&s, &failed).is_empty());
}
