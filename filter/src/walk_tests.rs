use super::*;

fn step(deployment: &str, after: &[(ErrorClass, After)]) -> Step {
    Step { deployment: deployment.into(), model: None, after: after.to_vec() }
}

fn walk(deployments: &[&str]) -> Walk {
    let steps = deployments.iter().map(|deployment| step(deployment, &[])).collect();
    Walk { contract: 1, steps, ..Walk::default() }
}

fn failed(class: ErrorClass, status: u16, step: usize) -> Failed {
    Failed { class, status, retry_after_s: None, step, pass: 0 }
}

const GO_ON: Move = Move::Next { status: None, wait_s: None };

#[test]
fn a_plain_plan_follows_the_classes() {
    use ErrorClass::*;
    for (class, status, expected) in [
        (Authentication, 401, GO_ON),
        (Authentication, 403, GO_ON),
        (NotFound, 404, GO_ON),
        (Timeout, 408, GO_ON),
        (Timeout, 504, GO_ON),
        (RateLimit, 425, GO_ON),
        (RateLimit, 429, GO_ON),
        (InternalServer, 500, GO_ON),
        (ServiceUnavailable, 529, GO_ON),
        (BadRequest, 400, Move::Stop),
        (BadRequest, 409, Move::Stop),
        (ContextWindow, 400, Move::Stop),
        (ContentPolicy, 400, Move::Stop),
        // Envoy would go on after this status by itself: the class vetoes it.
        (ContentPolicy, 500, Move::Stop),
    ] {
        assert_eq!(next(None, &failed(class, status, 0)), expected, "{class:?} {status}");
        assert_eq!(next(Some(&walk(&["a", "b"])), &failed(class, status, 0)), expected, "{class:?} {status}");
    }
}

#[test]
fn a_step_has_the_last_word_on_its_classes() {
    use ErrorClass::{BadRequest, ContextWindow, RateLimit, ServiceUnavailable};
    let mut walk = walk(&["a", "b", "c"]);
    walk.steps[0].after =
        vec![(ContextWindow, After::Replan), (RateLimit, After::Stop), (BadRequest, After::Next)];
    let at = |class, status| next(Some(&walk), &failed(class, status, 0));
    assert_eq!(at(ContextWindow, 400), Move::Replan);
    assert_eq!(at(RateLimit, 429), Move::Stop);
    assert_eq!(at(BadRequest, 422), Move::Next { status: Some(503), wait_s: None }, "Envoy would not");
    assert_eq!(at(ServiceUnavailable, 503), GO_ON, "a class without a rule");
    assert_eq!(next(Some(&walk), &failed(ContextWindow, 400, 1)), Move::Stop, "another step, other rules");
}

#[test]
fn the_last_pass_asks_for_no_other() {
    let mut walk = walk(&["a", ""]);
    walk.steps[0].after = vec![(ErrorClass::ContextWindow, After::Replan)];
    for (pass, expected) in [(0, Move::Replan), (MAX_PASSES - 2, Move::Replan), (MAX_PASSES - 1, Move::Stop)]
    {
        for class in [ErrorClass::ContextWindow, ErrorClass::InternalServer] {
            let failed = Failed { pass, ..failed(class, 500, 0) };
            assert_eq!(next(Some(&walk), &failed), expected, "{pass} {class:?}");
        }
    }
}

#[test]
fn a_step_that_would_ask_for_a_plan_is_taken_at_once() {
    let walk = walk(&["a", "b", ""]);
    assert_eq!(next(Some(&walk), &failed(ErrorClass::RateLimit, 429, 0)), GO_ON);
    assert_eq!(next(Some(&walk), &failed(ErrorClass::RateLimit, 429, 1)), Move::Replan);
    assert_eq!(next(Some(&walk), &failed(ErrorClass::BadRequest, 400, 1)), Move::Stop);
}

#[test]
fn at_the_end_of_the_plan_the_error_stays_what_it_is() {
    let mut walk = walk(&["a"]);
    walk.steps[0].after = vec![(ErrorClass::BadRequest, After::Next)];
    assert_eq!(next(Some(&walk), &failed(ErrorClass::BadRequest, 400, 0)), Move::Stop);
    assert_eq!(next(Some(&walk), &failed(ErrorClass::InternalServer, 500, 0)), Move::Stop);
}

#[test]
fn the_same_deployment_is_given_time() {
    use ErrorClass::{InternalServer, RateLimit, ServiceUnavailable};
    let walk = walk(&["a", "a", "a", "a", "a", "a", "b"]);
    let at = |class, status, retry_after_s, step| {
        next(Some(&walk), &Failed { retry_after_s, ..failed(class, status, step) })
    };
    let after = |seconds| Move::Next { status: None, wait_s: Some(seconds) };
    for (step, seconds) in [(0, 1), (1, 1), (2, 2), (3, 4), (4, 4)] {
        assert_eq!(at(RateLimit, 429, None, step), after(seconds), "step {step}");
        assert_eq!(at(ServiceUnavailable, 529, Some(0), step), after(seconds), "step {step}");
    }
    assert_eq!(at(RateLimit, 429, Some(7), 0), after(7));
    assert_eq!(at(InternalServer, 500, Some(60), 0), after(60));
    assert_eq!(at(InternalServer, 500, None, 0), GO_ON, "not overloaded");
    assert_eq!(at(RateLimit, 429, Some(61), 0), Move::Stop, "nobody waits that long");
    assert_eq!(at(RateLimit, 429, Some(61), 5), GO_ON, "another deployment need not wait");
    assert_eq!(at(RateLimit, 429, Some(7), 5), GO_ON);
}

#[test]
fn the_configuration_may_ask_for_more_time() {
    let walk = Walk { min_wait_s: 3, ..walk(&["a", "a", "b"]) };
    let at = |status, retry_after_s, step| {
        next(Some(&walk), &Failed { retry_after_s, ..failed(ErrorClass::of_status(status), status, step) })
    };
    let after = |seconds| Move::Next { status: None, wait_s: Some(seconds) };
    assert_eq!(at(500, None, 0), after(3));
    assert_eq!(at(429, None, 0), after(3));
    assert_eq!(at(429, Some(7), 0), after(7));
    assert_eq!(at(500, None, 1), GO_ON, "another deployment need not wait");
}

#[test]
fn silence_is_a_timeout_when_it_took_as_long() {
    use ErrorClass::{ServiceUnavailable, Timeout};
    assert_eq!(silent_class(400_000, 400), Timeout);
    assert_eq!(silent_class(399_999, 400), ServiceUnavailable);
    assert_eq!(silent_class(u64::MAX, 0), ServiceUnavailable, "no limit");
    let end = |details| silent_class_at_end(details, 1, 400);
    assert_eq!(end("upstream_per_try_timeout"), Timeout);
    assert_eq!(end("response_timeout"), Timeout);
    assert_eq!(end("upstream_reset_before_response_started{connection_termination}"), ServiceUnavailable);
    assert_eq!(silent_class_at_end("", 400_000, 400), Timeout);
}
