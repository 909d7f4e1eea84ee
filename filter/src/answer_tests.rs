use super::*;

fn options() -> RewriteOptions {
    RewriteOptions { client_model: "asked".into(), ..RewriteOptions::default() }
}

fn open(status: u16, content_type: &str) -> (Answer, Opening) {
    Answer::open(&Head { status, content_type, encoded: false, end: false }, options(), Back::Same)
}

#[test]
fn a_stream_is_held_until_its_first_event() {
    let (mut answer, opening) = open(200, "text/event-stream; charset=utf-8");
    assert!(opening.hold && opening.status.is_none());
    assert_eq!(answer.body(b"data: {\"mo", false), Flow::Hold);
    let first = b"data: {\"model\":\"theirs\",\"choices\":[{\"delta\":{\"content\":\"hi\"}}]}\n\n";
    let Flow::Release(release) = answer.body(first, false) else { panic!("the first event is whole") };
    assert_eq!((release.status, release.kind, release.length), (None, None, None));
    assert!(String::from_utf8_lossy(&release.body).contains("asked"), "{release:?}");
    assert_eq!(answer.outcome(), AttemptOutcome::Answered);
    answer.body(b"data: [DONE]\n\n", true);
    assert_eq!(answer.outcome(), AttemptOutcome::Complete);
}

#[test]
fn an_error_as_first_event_becomes_a_status_and_a_json_body() {
    let (mut answer, _) = open(200, "text/event-stream");
    let event = b"data: {\"error\":{\"message\":\"overloaded\",\"type\":\"server_error\",\"code\":null}}\n\n";
    let Flow::Release(release) = answer.body(event, false) else { panic!("an error is a verdict") };
    assert!(release.status.is_some_and(|status| status >= 500), "{release:?}");
    assert!(release.kind == Some(JSON));
    assert_eq!(release.length, Some(release.body.len()));
    serde_json::from_slice::<serde_json::Value>(&release.body).unwrap()["error"]["message"].as_str().unwrap();
    assert_eq!(answer.outcome(), AttemptOutcome::FailedFirstEvent);
    assert_eq!(
        answer.body(b"data: more\n\n", true),
        Flow::Send(Vec::new()),
        "nothing may follow the error body"
    );
    assert_eq!(answer.outcome(), AttemptOutcome::FailedFirstEvent);
}

#[test]
fn an_empty_answer_is_a_502() {
    for content_type in ["text/event-stream", "application/json"] {
        let (mut answer, _) = open(200, content_type);
        let Flow::Release(release) = answer.body(b"", true) else { panic!("{content_type}") };
        assert_eq!((release.status, answer.outcome()), (Some(502), AttemptOutcome::FailedFirstEvent));
        let head = Head { status: 200, content_type, encoded: false, end: true };
        let (answer, opening) = Answer::open(&head, options(), Back::Same);
        assert_eq!((opening.status, opening.hold), (Some(502), false), "headers alone, {content_type}");
        assert_eq!(answer.outcome(), AttemptOutcome::FailedFirstEvent);
    }
}

#[test]
fn a_json_answer_is_held_whole_with_its_true_length() {
    let (mut answer, opening) = open(200, "application/json");
    assert!(opening.hold);
    assert!(!answer.wants(100, false), "a growing body is not copied again and again");
    assert_eq!(answer.body(&[], false), Flow::Hold);
    let body = br#"{"model":"theirs","usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}"#;
    let Flow::Release(release) = answer.body(body, true) else { panic!("it is whole") };
    assert_eq!(release.length, Some(release.body.len()));
    let json: serde_json::Value = serde_json::from_slice(&release.body).unwrap();
    assert_eq!(json["model"], "asked");
    assert_eq!(answer.usage().map(|usage| (usage.prompt, usage.completion)), Some((3, 4)));
    assert_eq!(answer.outcome(), AttemptOutcome::Complete);
}

#[test]
fn a_large_json_answer_goes_on_piece_by_piece() {
    let (mut answer, _) = open(200, "application/json");
    let body = format!(r#"{{"model":"theirs","data":"{}"}}"#, "x".repeat(2 * MAX_HELD_JSON));
    let (head, tail) = body.as_bytes().split_at(MAX_HELD_JSON + 1);
    let Flow::Release(release) = answer.body(head, false) else { panic!("beyond the bound") };
    assert_eq!(release.length, None, "its length is not known yet");
    assert_eq!(answer.outcome(), AttemptOutcome::Answered);
    let rest = match answer.body(tail, true) {
        Flow::Send(rest) => rest,
        Flow::Pass => tail.to_vec(),
        other => panic!("{other:?}"),
    };
    let whole = [release.body, rest].concat();
    let json: serde_json::Value = serde_json::from_slice(&whole).unwrap();
    assert_eq!(json["model"], "asked");
    assert_eq!(answer.outcome(), AttemptOutcome::Complete);
}

#[test]
fn an_error_answer_is_held_for_its_class_and_its_body_is_shaped() {
    let (mut answer, opening) = open(500, "text/html");
    assert!(opening.hold && opening.drop_length && !opening.failed, "{opening:?}");
    assert_eq!(answer.body(&[], false), Flow::Hold);
    assert_eq!(answer.class(), None);
    let Flow::Release(release) = answer.body(b"<h1>oops</h1>", true) else { panic!("the body is whole") };
    let json: serde_json::Value = serde_json::from_slice(&release.body).unwrap();
    json["error"]["message"].as_str().unwrap();
    assert!(release.failed && release.kind == Some(JSON) && release.status.is_none(), "{release:?}");
    assert_eq!(release.length, Some(release.body.len()));
    assert_eq!(answer.outcome(), AttemptOutcome::ErrorStatus);
    assert_eq!(answer.class(), Some(ErrorClass::InternalServer));
}

#[test]
fn an_error_body_without_end_is_held_to_a_bound_only() {
    let (mut answer, _) = open(429, "application/json");
    let body = vec![b'x'; MAX_ERROR + 1];
    assert!(!answer.wants(MAX_ERROR, false) && answer.wants(body.len(), false));
    let Flow::Release(release) = answer.body(&body, false) else { panic!("beyond the bound") };
    assert!(release.body.len() <= MAX_ERROR, "{}", release.body.len());
    assert_eq!(answer.body(b"more", true), Flow::Send(Vec::new()), "the length is said already");
}

#[test]
fn the_body_says_why_a_request_was_refused() {
    let too_long = br#"{"error":{"message":"This model's maximum context length is 8192 tokens.","type":"invalid_request_error","code":"context_length_exceeded"}}"#;
    let filtered = br#"{"error":{"message":"filtered","code":"content_filter"}}"#;
    for (status, body, class) in [
        (400, &too_long[..], ErrorClass::ContextWindow),
        (400, filtered, ErrorClass::ContentPolicy),
        (400, br#"{"error":{"message":"temperature is too hot"}}"#, ErrorClass::BadRequest),
        (429, br#"{"error":{"message":"slow down"}}"#, ErrorClass::RateLimit),
    ] {
        let (mut answer, _) = open(status, "application/json");
        answer.body(body, true);
        assert_eq!(answer.class(), Some(class), "{}", String::from_utf8_lossy(body));
    }
}

#[test]
fn an_error_without_a_readable_body_is_judged_at_once() {
    for (encoded, end) in [(true, false), (false, true)] {
        let head = Head { status: 503, content_type: "", encoded, end };
        let (answer, opening) = Answer::open(&head, options(), Back::Same);
        assert!(opening.failed && !opening.hold, "{opening:?}");
        assert_eq!(answer.class(), Some(ErrorClass::ServiceUnavailable));
    }
}

#[test]
fn a_redirect_is_not_followed() {
    let (mut answer, opening) = open(307, "text/html");
    assert_eq!((opening.status, opening.failed), (Some(502), true));
    assert_eq!(answer.class(), Some(ErrorClass::ServiceUnavailable));
    let Flow::Send(body) = answer.body(b"moved", false) else { panic!("its body is replaced") };
    assert!(String::from_utf8_lossy(&body).contains("redirect"));
    assert_eq!(answer.body(b"more", true), Flow::Send(Vec::new()));
}

#[test]
fn what_cannot_be_read_passes() {
    let head = Head { status: 200, content_type: "application/json", encoded: true, end: false };
    let (mut answer, opening) = Answer::open(&head, options(), Back::Same);
    assert_eq!(opening, Opening::default());
    assert_eq!(answer.body(&[], false), Flow::Pass);
    assert_eq!(answer.outcome(), AttemptOutcome::Answered);
    answer.body(&[], true);
    assert_eq!(answer.outcome(), AttemptOutcome::Complete);
}

#[test]
fn an_answer_that_is_cut_while_held_is_no_answer() {
    for (content_type, part) in [("text/event-stream", &b"data: {\"a"[..]), ("application/json", b"{\"a")] {
        let (mut answer, opening) = open(200, content_type);
        assert!(opening.hold, "{content_type}");
        assert_eq!(answer.outcome(), AttemptOutcome::NoAnswer, "headers alone, {content_type}");
        assert_eq!(answer.body(part, false), Flow::Hold);
        assert_eq!(answer.outcome(), AttemptOutcome::NoAnswer, "part of the first event, {content_type}");
    }
}

#[test]
fn a_refused_gateway_credential_does_not_look_like_the_callers() {
    for status in [401, 403] {
        let (mut answer, opening) = open(status, "application/json");
        assert_eq!(opening.status, None, "the status stays");
        let theirs = br#"{"error":{"message":"Incorrect API key provided: sk-x","code":"invalid_api_key"}}"#;
        let Flow::Release(release) = answer.body(theirs, true) else { panic!("the body is whole") };
        let text = String::from_utf8(release.body).unwrap();
        assert!(text.contains("upstream") && !text.contains("invalid_api_key"), "{text}");
    }
}

fn counted(counting: Counting, head: &Head<'_>) -> (Answer, Opening) {
    Answer::open(head, RewriteOptions { counting, ..options() }, Back::Same)
}

#[test]
fn speech_and_text_pass_and_are_counted_by_the_request() {
    let head = Head { status: 200, content_type: "audio/mpeg", encoded: false, end: false };
    let (mut answer, opening) = counted(Counting::Speech(12), &head);
    assert_eq!(opening, Opening::default());
    assert_eq!(answer.usage().map(|usage| usage.chars_in), Some(12), "also when the client leaves");
    assert_eq!(answer.body(&[], true), Flow::Pass);
    assert_eq!(answer.outcome(), AttemptOutcome::Complete);
    let text = Head { content_type: "text/plain; charset=utf-8", ..head };
    let (answer, _) = counted(Counting::Transcription(Some(1_500)), &text);
    assert_eq!(answer.usage().map(|usage| usage.audio_ms), Some(1_500));
    assert_eq!(counted(Counting::Transcription(None), &text).0.usage(), None);
    assert_eq!(open(200, "text/plain").0.usage(), None);
}

#[test]
fn what_a_provider_keeps_passes_untouched_whatever_it_is() {
    let head = Head { status: 200, content_type: "application/json", encoded: false, end: false };
    let (mut answer, opening) = counted(Counting::Stored, &head);
    assert_eq!(opening, Opening::default());
    assert_eq!(answer.body(&[], true), Flow::Pass);
    assert_eq!(answer.usage(), Some(Usage::default()));
    let (answer, opening) = counted(Counting::Stored, &Head { end: true, ..head });
    assert_eq!((opening, answer.outcome()), (Opening::default(), AttemptOutcome::Complete));
    let (_, opening) = counted(Counting::Stored, &Head { status: 404, ..head });
    assert!(opening.hold, "an error is read all the same");
}

#[test]
fn a_session_is_counted_as_it_passes() {
    let head = Head { status: 101, content_type: "", encoded: false, end: false };
    let (mut answer, opening) = counted(Counting::Session, &head);
    assert_eq!(opening, Opening::default());
    assert_eq!(answer.usage(), Some(Usage::default()));
    let event = br#"{"type":"response.done","response":{"usage":{"input_tokens":3,"output_tokens":4}}}"#;
    let frame = [&[0x81, u8::try_from(event.len()).unwrap()], &event[..]].concat();
    let (one, two) = frame.split_at(20);
    assert!(answer.wants(one.len(), false));
    assert_eq!((answer.body(one, false), answer.body(two, false)), (Flow::Pass, Flow::Pass));
    assert_eq!(answer.usage().map(|usage| (usage.prompt, usage.completion)), Some((3, 4)));
    assert_eq!(answer.outcome(), AttemptOutcome::Answered);
    answer.body(b"", true);
    assert_eq!(answer.outcome(), AttemptOutcome::Complete);
}

#[test]
fn embeddings_of_a_form_of_its_own_become_openais() {
    use attache_llm::contract::DeploymentMeta;
    use attache_llm::dialect::embeddings;
    use attache_llm::provider::Provider;
    let meta = DeploymentMeta { provider: Provider::Gemini, model: "e".into(), ..DeploymentMeta::default() };
    let (_, asked) = embeddings::write(b"{\"input\":\"abcd\"}", &meta, "asked").unwrap();
    let head = Head { status: 200, content_type: "application/json", encoded: false, end: false };
    for (document, status) in [
        (&b"{\"embeddings\":[{\"values\":[1.5]}]}"[..], None),
        (b"{\"error\":{\"code\":429,\"message\":\"q\",\"status\":\"RESOURCE_EXHAUSTED\"}}", Some(429)),
        (b"{}", Some(502)),
    ] {
        let back = Back::Embeddings(Box::new(asked.clone()));
        let (mut answer, opening) = Answer::open(&head, options(), back);
        assert!(opening.hold);
        let Flow::Release(release) = answer.body(document, true) else { panic!("{document:?}") };
        assert_eq!(release.status, status);
        let body: serde_json::Value = serde_json::from_slice(&release.body).unwrap();
        assert_eq!(body.get("data").is_some(), status.is_none());
        assert_eq!(answer.usage().is_some_and(|usage| usage.prompt == 1), status.is_none());
    }
}

#[test]
fn awss_errors_have_their_name() {
    let (mut answer, _) = open(400, "application/json");
    answer.set_error_type(Some("ServiceQuotaExceededException:http://internal.amazon.com/"));
    let Flow::Release(release) = answer.body(b"{\"message\":\"no more\"}", true) else { panic!("held") };
    let body: serde_json::Value = serde_json::from_slice(&release.body).unwrap();
    assert_eq!(body["error"]["code"], "ServiceQuotaExceededException");
    assert_eq!(answer.class(), Some(ErrorClass::RateLimit));
}

#[test]
fn a_key_refused_with_400_is_the_gateways() {
    let (mut answer, _) = open(400, "application/json");
    let said =
        b"{\"error\":{\"code\":400,\"message\":\"API key not valid. k\",\"status\":\"INVALID_ARGUMENT\"}}";
    let Flow::Release(release) = answer.body(said, true) else { panic!("held") };
    assert!(!String::from_utf8_lossy(&release.body).contains("not valid"), "{release:?}");
    assert_eq!(answer.class(), Some(ErrorClass::Authentication));
}

#[test]
fn a_translated_stream_may_begin_with_a_picture() {
    use attache_llm::dialect::Dialect;
    use attache_llm::dialect::attempt::Translation;
    use attache_llm::dialect::translate::{Caller, Reading};
    let caller = Caller {
        dialect: Dialect::Chat,
        model: "asked".into(),
        stream: true,
        want_usage: false,
        call_id: "c".into(),
        now_s: 1,
        echo: serde_json::Map::new(),
    };
    let back = || {
        let (upstream, reading, caller) = (Dialect::Gemini, Reading::default(), caller.clone());
        Back::Translate(Box::new(Translation { upstream, reading, caller }))
    };
    let head = Head { status: 200, content_type: "text/event-stream", encoded: false, end: false };
    let picture = "A".repeat(3 * 1024 * 1024);
    let event = format!(
        "data: {{\"candidates\":[{{\"content\":{{\"parts\":[{{\"inlineData\":{{\"mimeType\":\"image/png\",\"data\":\"{picture}\"}}}}]}},\"finishReason\":\"STOP\"}}]}}\n\n"
    );
    let (mut answer, opening) = Answer::open(&head, options(), back());
    assert!(opening.hold);
    let (first, last) = event.as_bytes().split_at(event.len() - 5);
    for piece in first.chunks(64 * 1024) {
        assert_eq!(answer.body(piece, false), Flow::Taken);
    }
    let Flow::Release(release) = answer.body(last, false) else { panic!("the event is whole") };
    assert!(release.status.is_none() && release.body.len() > picture.len());
    answer.body(b"", true);
    assert_eq!(answer.outcome(), AttemptOutcome::Complete);

    let (mut answer, _) = Answer::open(&head, options(), back());
    assert_eq!(answer.body(b"data: {\"candi", false), Flow::Taken);
    let Flow::Release(release) = answer.body(b"", true) else { panic!("it is over") };
    assert_eq!((release.status, answer.outcome()), (Some(502), AttemptOutcome::FailedFirstEvent));
    let (mut answer, _) = Answer::open(&head, options(), back());
    let error = b"data: {\"error\":{\"code\":429,\"message\":\"q\",\"status\":\"RESOURCE_EXHAUSTED\"}}\n\n";
    let Flow::Release(release) = answer.body(error, false) else { panic!("an error is a verdict") };
    assert_eq!(release.status, Some(429));
}
