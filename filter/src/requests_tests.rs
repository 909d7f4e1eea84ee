use super::*;

pub(crate) fn request() -> Request {
    Request {
        call_id: "call".into(),
        key: Rc::new(KeyRecord {
            id: "hash".into(),
            name: "sk-...abcd".into(),
            expires_ms: None,
            blocked: false,
        }),
        endpoint: Endpoint::ChatCompletions,
        model: "gpt-4o".into(),
        scan: Scanned { stream: true, user: Some("u".into()), text_bytes: 8, ..Scanned::default() },
        start_us: 1_000,
        request_id: "rid".into(),
        first_event_us: Some(50),
        attempts: Vec::new(),
        headers_set: Vec::new(),
        origin: Origin::default(),
        explain: false,
        passes: Passes::default(),
        asked: None,
        kept: None,
    }
}

fn to<'a>(deployment: &'a str, group: &'a str) -> Target<'a> {
    Target { deployment, group, cluster: "c", model: None, price: None }
}

/// Begins an attempt at 2 ms that fails at once.
fn fail(request: &mut Request, deployment: &str, group: &str, status: u16) {
    let place = request.begin_attempt(&to(deployment, group), 2_000);
    let attempt = &mut request.attempts[place];
    (attempt.record.status, attempt.record.outcome) = (status, AttemptOutcome::ErrorStatus);
    attempt.fail(ErrorClass::of_status(status), 2_500);
    request.kept = Some(Kept { status, body: b"theirs".to_vec(), retry_after_s: None });
}

fn walk(per_try_ms: u64) -> WalkState {
    WalkState::Read(Some(Rc::new(Walk { contract: 1, per_try_ms, ..Walk::default() })))
}

fn note() -> Note {
    Note { contract: 1, group: "gpt-4o".into(), reservation: Some("r1".into()), ..Note::default() }
}

fn ending(status: u16, details: &str) -> Ending {
    Ending { status, details: details.into(), now_us: 3_000, ..Ending::default() }
}

#[test]
fn retries_stay_in_a_group_and_fallbacks_leave_it() {
    let mut request = request();
    assert_eq!(request.retries_and_fallbacks(Some("a")), (0, 0));
    for (deployment, group) in [("d1", "a"), ("d2", "a"), ("d3", "b"), ("d4", "c")] {
        request.begin_attempt(&to(deployment, group), 2_000);
    }
    assert_eq!(request.retries_and_fallbacks(Some("a")), (1, 2));
    assert_eq!(request.retries_and_fallbacks(None), (1, 2));
    assert_eq!(request.retries_and_fallbacks(Some("cooling")), (1, 3), "the group asked for was passed over");
    assert_eq!(request.last_deployment(), Some("d4"));
}

#[test]
fn the_record_says_what_the_ledger_needs() {
    let mut request = request();
    let attempt = request.begin_attempt(&to("d1", "gpt-4o"), 2_000);
    request.attempts[attempt].record.outcome = AttemptOutcome::Complete;
    let record = request.record(Some(&note()), &ending(200, "via_upstream"));
    assert_eq!(
        (record.call_id.as_str(), record.key.as_str(), record.group.as_str()),
        ("call", "hash", "gpt-4o")
    );
    assert_eq!(record.reservation.as_deref(), Some("r1"));
    assert_eq!((record.duration_us, record.first_event_us), (2_000, Some(50)));
    assert_eq!((record.input_estimate, record.stream, record.aborted), (2, true, false));
    assert_eq!(record.attempts.len(), 1);
}

#[test]
fn a_client_that_left_is_an_abort() {
    for ending in [
        Ending { flags: FLAG_DOWNSTREAM_GONE, ..ending(200, "") },
        ending(200, "downstream_remote_disconnect"),
        ending(0, "downstream_remote_disconnect"),
    ] {
        assert!(request().record(Some(&note()), &ending).aborted, "{ending:?}");
        assert_eq!(request().outcome(Some(&note()), &ending), "aborted");
    }
}

#[test]
fn a_client_that_left_before_any_answer_pays_for_its_prompt() {
    let usage = |sent: bool, outcome: AttemptOutcome| {
        let mut request = request();
        let attempt = request.begin_attempt(&to("d1", "gpt-4o"), 2_000);
        request.attempts[attempt].record.outcome = outcome;
        let ending = Ending { sent, ..ending(0, "downstream_remote_disconnect") };
        request.close(&ending);
        request.record(Some(&note()), &ending).attempts[0].usage
    };
    assert_eq!(usage(true, AttemptOutcome::NoAnswer), Some(Usage::estimate(2, 0)));
    assert_eq!(usage(false, AttemptOutcome::NoAnswer), None, "it never had a connection");
    assert_eq!(usage(true, AttemptOutcome::ErrorStatus), None, "the provider refused it");
}

#[test]
fn only_what_was_decided_or_sent_is_recorded() {
    let mut request = request();
    assert!(!request.is_recorded(None, &ending(503, "ext_proc_error_gRPC_error_14")));
    assert!(request.is_recorded(Some(&note()), &ending(503, "no_healthy_upstream")));
    assert!(request.is_recorded(None, &ending(403, "attache_model_access_denied")));
    request.begin_attempt(&to("d1", "g"), 2_000);
    assert!(request.is_recorded(None, &ending(200, "via_upstream")));
}

#[test]
fn outcomes_tell_whose_fault_it_was() {
    let with = |status, details, outcome: Option<AttemptOutcome>, noted: bool| {
        let mut request = request();
        if let Some(outcome) = outcome {
            let attempt = request.begin_attempt(&to("d1", "g"), 2_000);
            request.attempts[attempt].record.outcome = outcome;
        }
        request.outcome(noted.then(note).as_ref(), &ending(status, details))
    };
    use AttemptOutcome::{Answered, Complete, ErrorInStream, ErrorStatus, FailedFirstEvent, NoAnswer};
    for (status, details, outcome, noted, expected) in [
        (200, "via_upstream", Some(Complete), true, "success"),
        (200, "via_upstream", Some(ErrorInStream), true, "upstream_error"),
        (200, "upstream_reset_after_response_started{x}", Some(Answered), true, "upstream_error"),
        (400, "via_upstream", Some(ErrorStatus), true, "client_error"),
        (401, "via_upstream", Some(ErrorStatus), true, "upstream_error"),
        (429, "via_upstream", Some(ErrorStatus), true, "upstream_error"),
        (529, "via_upstream", Some(FailedFirstEvent), true, "upstream_error"),
        (503, "upstream_reset", Some(NoAnswer), true, "upstream_error"),
        (503, "no_healthy_upstream", None, true, "upstream_error"),
        (403, "attache_denied", None, false, "refused"),
        (503, "ext_proc_error", None, false, "refused"),
    ] {
        assert_eq!(with(status, details, outcome, noted), expected, "{status} {details} {outcome:?}");
    }
}

#[test]
fn attempts_are_bounded() {
    let mut request = request();
    for _ in 0..MAX_ATTEMPTS + 9 {
        request.begin_attempt(&to("d", "g"), 2_000);
    }
    assert_eq!(request.attempts.len(), MAX_ATTEMPTS);
}

#[test]
fn another_pass_begins_only_when_it_was_asked_for() {
    let mut request = request();
    fail(&mut request, "d1", "a", 429);
    assert!(request.begin_pass().is_none(), "a call id that a client learnt is worth nothing");
    request.ask_again(Some(note()), 2_600);
    let ask = request.begin_pass().unwrap();
    let replan = ask.replan.unwrap();
    assert_eq!((replan.pass, replan.reservation.as_deref()), (1, Some("r1")));
    let tried = Tried { deployment: "d1".into(), group: "a".into(), class: ErrorClass::RateLimit, pass: 0 };
    assert_eq!(replan.tried, [tried]);
    assert_eq!((ask.call_id.as_str(), ask.key.as_str(), ask.model.as_str()), ("call", "hash", "gpt-4o"));
    assert!(request.begin_pass().is_none(), "once");
}

#[test]
fn every_pass_has_its_attempts_and_the_record_has_all() {
    let mut request = request();
    fail(&mut request, "d1", "gpt-4o", 500);
    request.ask_again(Some(note()), 2_600);
    request.begin_pass().unwrap();
    fail(&mut request, "d2", "other", 503);
    let second = Note { reservation: Some("r2".into()), group: "other".into(), ..note() };
    request.ask_again(Some(second.clone()), 2_700);
    assert_eq!(request.begin_pass().unwrap().replan.unwrap().reservation.as_deref(), Some("r2"));
    request.begin_attempt(&to("d3", "other"), 2_800);
    let third = Note { reservation: Some("r3".into()), ..second };
    let record = request.record(Some(&third), &ending(200, "via_upstream"));
    assert_eq!((record.replans, record.reservation.as_deref()), (2, Some("r3")));
    assert_eq!(record.group, "gpt-4o", "the group that was asked for");
    let passes: Vec<_> = record.attempts.iter().map(|attempt| attempt.pass).collect();
    assert_eq!(passes, [0, 1, 2]);
    assert_eq!(request.retries_and_fallbacks(request.planned(Some(&third))), (1, 1));
}

#[test]
fn a_pass_that_the_sidecar_never_heard_of_leaves_the_reservation() {
    let mut request = request();
    fail(&mut request, "d1", "gpt-4o", 500);
    request.ask_again(Some(note()), 2_600);
    request.begin_pass().unwrap();
    let unheard = request.record(None, &ending(500, "ext_proc_error_gRPC_error_14"));
    assert_eq!((unheard.replans, unheard.reservation.as_deref()), (0, Some("r1")));
    let refused = request.record(None, &ending(500, "attache_rate_limit_exceeded"));
    assert_eq!(
        (refused.replans, refused.reservation),
        (1, None),
        "settled when it was asked for another plan"
    );
}

#[test]
fn a_pass_ends_the_request_unless_another_follows() {
    let mut request = request();
    fail(&mut request, "d1", "a", 500);
    assert!(!request.lives_on(0, true, &ending(500, "via_upstream")));
    request.ask_again(None, 2_600);
    let redirected = ending(307, "internal_redirect");
    assert!(request.lives_on(0, false, &redirected), "the end of the old pass comes first");
    assert!(!request.lives_on(0, true, &ending(500, "via_upstream")), "Envoy did not follow");
    let gone = ending(0, "downstream_remote_disconnect");
    assert!(!request.lives_on(0, false, &gone), "the client left");
    request.begin_pass().unwrap();
    assert!(request.lives_on(0, false, &redirected), "the next pass began first");
    assert!(!request.lives_on(1, true, &ending(200, "via_upstream")));
}

#[test]
fn the_last_error_stands_in_for_an_answer_that_no_attempt_gave() {
    let mut request = request();
    fail(&mut request, "d1", "a", 400);
    assert_eq!(request.in_place_of(400, true), None, "its own answer");
    assert!(request.in_place_of(503, false).is_some(), "the next step could not even begin");
    request.begin_replan(2_600);
    assert_eq!(request.in_place_of(503, true).map(|kept| kept.status), Some(400), "the sidecar is away");
    request.ask_again(None, 2_700);
    request.begin_pass().unwrap();
    assert_eq!(request.in_place_of(429, true).map(|kept| kept.body), Some(b"theirs".to_vec()), "refused");
    request.begin_attempt(&to("d2", "b"), 2_800);
    assert_eq!(request.in_place_of(200, true), None);
    request.begin_replan(2_900);
    assert_eq!(request.in_place_of(429, true), None, "silence is no better than the sidecar's words");
    let silent = request.in_place_of(307, true).unwrap();
    assert_eq!((silent.status, silent.retry_after_s), (503, Some(1)), "a redirect is nothing for a client");
}

#[test]
fn silence_is_judged_when_the_next_attempt_begins() {
    let mut request = request();
    request.passes.walk = walk(400);
    request.begin_attempt(&to("d1", "a"), 1_000);
    assert!(request.report_failures().is_empty(), "it may still answer");
    request.begin_attempt(&to("d2", "a"), 402_000);
    request.begin_attempt(&to("d3", "a"), 403_000);
    let classes: Vec<_> = request.attempts.iter().map(|attempt| attempt.record.class).collect();
    assert_eq!(classes, [Some(ErrorClass::Timeout), Some(ErrorClass::ServiceUnavailable), None]);
    assert_eq!(request.attempts[0].record.duration_us, 401_000);
    let told: Vec<_> = request.report_failures().into_iter().map(|report| report.deployment).collect();
    assert_eq!(told, ["d1", "d2"]);
    assert!(request.report_failures().is_empty(), "once");
    assert!(request.attempts[0].record.reported && !request.attempts[2].record.reported);
}

#[test]
fn the_last_attempt_is_judged_at_the_end_unless_the_client_left() {
    for (details, expected) in [
        ("upstream_per_try_timeout", Some(ErrorClass::Timeout)),
        (
            "upstream_reset_before_response_started{connection_termination}",
            Some(ErrorClass::ServiceUnavailable),
        ),
        ("downstream_remote_disconnect", None),
    ] {
        let mut request = request();
        request.begin_attempt(&to("d1", "a"), 2_000);
        request.close(&ending(0, details));
        let record = &request.attempts[0].record;
        assert_eq!((record.class, record.duration_us), (expected, 1_000), "{details}");
    }
    let mut good = request();
    let place = good.begin_attempt(&to("d1", "a"), 2_000);
    good.attempts[place].update(AttemptOutcome::Complete, 2_400);
    good.close(&ending(200, "via_upstream"));
    let record = &good.attempts[place].record;
    assert_eq!((record.class, record.duration_us, record.first_event_us), (None, 400, Some(400)));
}

#[test]
fn a_good_report_is_taken_back_by_an_error_in_the_stream() {
    let mut request = request();
    let place = request.begin_attempt(&to("d1", "a"), 2_000);
    let attempt = &mut request.attempts[place];
    attempt.update(AttemptOutcome::Answered, 2_100);
    attempt.first_event(2_100);
    assert_eq!(attempt.report().map(|report| report.outcome), Some(AttemptOutcome::Answered));
    attempt.update(AttemptOutcome::ErrorInStream, 2_200);
    assert!(!attempt.record.reported);
    assert_eq!(attempt.record.first_event_us, Some(100));
}

#[test]
fn an_explained_request_costs_nothing() {
    let mut request = request();
    request.explain = true;
    assert!(request.ask(None).explain);
    let ending = ending(200, "attache_explain");
    assert!(!request.is_recorded(None, &ending));
    assert_eq!(request.outcome(None, &ending), "explained");
}
