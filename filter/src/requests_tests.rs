use super::*;

fn request() -> Request {
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
    }
}

fn note() -> Note {
    Note { contract: 1, group: "gpt-4o".into(), reservation: Some("r1".into()), ..Note::default() }
}

fn ending(status: u16, details: &str) -> Ending {
    Ending { status, details: details.into(), flags: 0, now_us: 3_000 }
}

#[test]
fn retries_stay_in_a_group_and_fallbacks_leave_it() {
    let mut request = request();
    assert_eq!(request.retries_and_fallbacks(Some("a")), (0, 0));
    for (deployment, group) in [("d1", "a"), ("d2", "a"), ("d3", "b"), ("d4", "c")] {
        request.begin_attempt(deployment, group, "cluster", None);
    }
    assert_eq!(request.retries_and_fallbacks(Some("a")), (1, 2));
    assert_eq!(request.retries_and_fallbacks(None), (1, 2));
    assert_eq!(request.retries_and_fallbacks(Some("cooling")), (1, 3), "the group asked for was passed over");
    assert_eq!(request.last_deployment(), Some("d4"));
}

#[test]
fn the_record_says_what_the_ledger_needs() {
    let mut request = request();
    let attempt = request.begin_attempt("d1", "gpt-4o", "c1", None);
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
fn only_what_was_decided_or_sent_is_recorded() {
    let mut request = request();
    assert!(!request.is_recorded(None, &ending(503, "ext_proc_error_gRPC_error_14")));
    assert!(request.is_recorded(Some(&note()), &ending(503, "no_healthy_upstream")));
    assert!(request.is_recorded(None, &ending(403, "attache_model_access_denied")));
    request.begin_attempt("d1", "g", "c", None);
    assert!(request.is_recorded(None, &ending(200, "via_upstream")));
}

#[test]
fn outcomes_tell_whose_fault_it_was() {
    let with = |status, details, outcome: Option<AttemptOutcome>, noted: bool| {
        let mut request = request();
        if let Some(outcome) = outcome {
            let attempt = request.begin_attempt("d1", "g", "c", None);
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
        request.begin_attempt("d", "g", "c", None);
    }
    assert_eq!(request.attempts.len(), MAX_ATTEMPTS);
}
