use AttemptOutcome::*;

use super::*;
use crate::routing::Deployment;
use crate::routing::tests::{deployment, group, snapshot};

fn pair() -> Snapshot {
    snapshot(vec![
        group("pair", vec![deployment("a", "pair"), deployment("b", "pair")]),
        group("lone", vec![deployment("l", "lone")]),
    ])
}

fn attempt(deployment: &str, outcome: AttemptOutcome, status: u16) -> AttemptRecord {
    AttemptRecord { deployment: deployment.into(), outcome, status, ..AttemptRecord::default() }
}

fn record(attempts: Vec<AttemptRecord>) -> UsageRecord {
    let text = r#"{"call_id":"c","key":"k","endpoint":"chat_completions","model":"m","start_us":0,"duration_us":0,"status":200}"#;
    UsageRecord { attempts, ..serde_json::from_str(text).unwrap() }
}

fn outcome(attempt: AttemptRecord) -> Outcome {
    let (snapshot, record) = (pair(), record(vec![attempt]));
    outcomes(&snapshot, &record).map(|(_, outcome)| outcome).collect::<Vec<_>>()[0]
}

fn rule(snapshot: &Snapshot, deployment: &str, class: ErrorClass, retry_after: Option<u64>) -> Trip {
    failure(snapshot, &snapshot.deployments[deployment], class, 0, retry_after).trip
}

fn changed(change: impl FnOnce(&mut Deployment)) -> Snapshot {
    let mut own = deployment("a", "g");
    change(&mut own);
    snapshot(vec![group("g", vec![own])])
}

#[test]
fn what_the_client_broke_is_an_answer_and_the_rest_a_failure() {
    for status in [401, 403, 404, 408, 429, 500, 503, 529] {
        assert!(matches!(outcome(attempt("a", ErrorStatus, status)), Outcome::Failure(..)), "{status}");
    }
    for status in [400, 409, 413, 422] {
        assert_eq!(outcome(attempt("a", ErrorStatus, status)), Outcome::Success, "{status}");
    }
    let refused = AttemptRecord { class: Some(ErrorClass::ContentPolicy), ..attempt("a", ErrorStatus, 500) };
    assert_eq!(outcome(refused), Outcome::Success, "the body says more than the status");
    assert_eq!(outcome(attempt("a", Complete, 200)), Outcome::Success);
    assert_eq!(outcome(attempt("a", Answered, 200)), Outcome::Success);
    let empty = Outcome::Failure(ErrorClass::ServiceUnavailable, 200, None);
    assert_eq!(outcome(attempt("a", FailedFirstEvent, 200)), empty);
}

#[test]
fn whom_the_client_left_is_not_judged_and_what_was_told_is_not_told_again() {
    let snapshot = pair();
    let told = AttemptRecord { reported: true, ..attempt("a", NoAnswer, 0) };
    let left = UsageRecord {
        aborted: true,
        ..record(vec![told, attempt("a", NoAnswer, 0), attempt("b", NoAnswer, 0)])
    };
    let found: Vec<_> = outcomes(&snapshot, &left).collect();
    let silent = Outcome::Failure(ErrorClass::ServiceUnavailable, 0, None);
    assert_eq!(found, [("a", silent), ("b", Outcome::Left)]);
    assert!(observations(&snapshot, &Breakers::default(), [("b", Outcome::Left)].into_iter()).is_empty());
}

#[test]
fn silence_as_long_as_the_limit_is_a_timeout() {
    let silent = |duration_us| AttemptRecord { duration_us, ..attempt("a", NoAnswer, 0) };
    assert!(matches!(outcome(silent(600_000_000)), Outcome::Failure(ErrorClass::Timeout, ..)));
    assert!(matches!(outcome(silent(599_000_000)), Outcome::Failure(ErrorClass::ServiceUnavailable, ..)));
}

#[test]
fn the_default_rules() {
    use ErrorClass::*;
    let s = pair();
    for class in [RateLimit, Authentication, NotFound] {
        assert_eq!(rule(&s, "a", class, None), Trip::Now, "{class:?}");
    }
    for class in [InternalServer, ServiceUnavailable, Timeout] {
        assert_eq!(rule(&s, "a", class, None), Trip::Share { percent: 50, min: 5 }, "{class:?}");
    }
    for class in [RateLimit, Authentication, InternalServer] {
        assert_eq!(
            rule(&s, "l", class, Some(30)),
            Trip::Share { percent: 99, min: 1_000 },
            "alone: {class:?}"
        );
    }
}

#[test]
fn a_retry_after_is_the_time_out_and_bounded() {
    let s = pair();
    let told =
        |class, seconds| failure(&s, &s.deployments["a"], class, 429, Some(seconds)).cooldown.as_secs();
    assert_eq!(told(ErrorClass::RateLimit, 7), 7);
    assert_eq!(told(ErrorClass::RateLimit, 0), 5, "the configured one");
    assert_eq!(told(ErrorClass::RateLimit, u64::MAX), 3_600);
    assert_eq!(told(ErrorClass::ServiceUnavailable, 7), 5);
}

#[test]
fn allowed_fails_count_together_and_named_classes_apart() {
    let window = Duration::from_secs(9);
    let s = changed(|d| {
        (d.allowed_fails, d.cooldown) = (Some(2), Some(window));
        d.allowed_fails_policy.insert(ErrorClass::RateLimit, 1);
    });
    let count = |kind: &str, allowed| Trip::Count { kind: kind.into(), allowed, window };
    assert_eq!(rule(&s, "a", ErrorClass::InternalServer, None), count("any", 2), "alone, but it is set");
    assert_eq!(rule(&s, "a", ErrorClass::RateLimit, Some(9)), count("rate_limit", 1));
    let mut router = pair();
    (router.breaker_allowed_fails, router.cooldown) = (Some(4), window);
    router.allowed_fails_policy.insert(ErrorClass::Timeout, 7);
    assert_eq!(rule(&router, "l", ErrorClass::InternalServer, None), count("any", 4));
    assert_eq!(rule(&router, "l", ErrorClass::Timeout, None), count("timeout", 7));
    assert_eq!(rule(&router, "a", ErrorClass::RateLimit, None), count("any", 4));
    assert_eq!(
        rule(&router, "a", ErrorClass::RateLimit, Some(3)),
        Trip::Now,
        "it said itself when it serves again"
    );
}

#[test]
fn cooldown_zero_and_disabled_are_never() {
    let failed = || [("a", Outcome::Failure(ErrorClass::InternalServer, 500, None))].into_iter();
    let breakers = Breakers::default();
    assert!(observations(&changed(|d| d.cooldown = Some(Duration::ZERO)), &breakers, failed()).is_empty());
    let mut off = pair();
    off.disable_cooldowns = true;
    assert!(observations(&off, &breakers, failed()).is_empty());
    assert!(observations(&snapshot(vec![]), &breakers, failed()).is_empty(), "left the configuration");
    // A refused credential is told all the same.
    let refused = [("a", Outcome::Failure(ErrorClass::Authentication, 401, None))];
    observations(&off, &breakers, refused.into_iter());
    assert_eq!(breakers.credential_failures(), [("a".to_owned(), 1)]);
}

#[test]
fn outcomes_of_a_deployment_are_one_observation_in_order() {
    let s = pair();
    let failure = |class, status| ("a", Outcome::Failure(class, status, None));
    let all = [
        failure(ErrorClass::InternalServer, 500),
        ("b", Outcome::Success),
        ("a", Outcome::Success),
        failure(ErrorClass::Authentication, 401),
        failure(ErrorClass::Timeout, 0),
    ];
    let found = observations(&s, &Breakers::default(), all.into_iter());
    assert_eq!(found.len(), 2);
    assert_eq!((found[0].deployment.as_str(), found[0].successes), ("a", 1));
    let reasons: Vec<&str> = found[0].failures.iter().map(|f| f.reason.as_str()).collect();
    assert_eq!(reasons, ["internal_server 500", "credential failure 401", "timeout"]);
}
