use super::*;

fn record(blocked: bool, expires_ms: Option<u64>) -> KeyRecord {
    KeyRecord { id: "hash".into(), name: "sk-...abcd".into(), expires_ms, blocked }
}

fn intake(key: Key) -> Intake {
    Intake {
        call_id: "call".into(),
        request_id: "request".into(),
        endpoint: Endpoint::ChatCompletions,
        path_model: None,
        origin: Origin::default(),
        wishes: Vec::new(),
        end_user: None,
        explain: false,
        start_us: 7,
        key,
        buffered: 0,
        dropped: 0,
        body: None,
        said: None,
    }
}

fn scanned(model: Option<&str>) -> Scanned {
    Scanned { model: model.map(str::to_owned), stream: true, text_bytes: 40, ..Scanned::default() }
}

fn known() -> Key {
    Key::Known(Rc::new(record(false, None)))
}

#[test]
fn a_request_goes_on_when_key_and_body_are_there_in_either_order() {
    let mut key_last = intake(Key::Asked(Asked::key([0; 32])));
    assert!(matches!(key_last.step(), Step::Wait));
    key_last.body = Some(Ok(scanned(Some("gpt-4o"))));
    assert!(matches!(key_last.step(), Step::Wait), "the body alone is not enough");
    key_last.key = known();
    assert!(matches!(key_last.step(), Step::Forward(..)));

    let mut body_last = intake(known());
    assert!(matches!(body_last.step(), Step::Wait), "the key alone is not enough");
    body_last.body = Some(Ok(scanned(Some("gpt-4o"))));
    let Step::Forward(request, ask) = body_last.step() else { panic!("it should go on") };
    assert_eq!((ask.call_id.as_str(), ask.key.as_str(), ask.model.as_str()), ("call", "hash", "gpt-4o"));
    assert_eq!((ask.input_tokens, ask.stream), (10, true));
    assert_eq!((request.call_id.as_str(), request.start_us), ("call", 7));
}

#[test]
fn a_bad_body_is_refused_only_after_the_key_is_known() {
    let mut intake = intake(Key::Asked(Asked::key([0; 32])));
    intake.body = Some(Err(ApiError::invalid_request("not JSON", None)));
    assert!(matches!(intake.step(), Step::Wait), "a stranger learns nothing about bodies");
    intake.key = known();
    assert!(matches!(intake.step(), Step::Refuse(error) if error.status == 400));
}

#[test]
fn the_model_of_the_path_wins_and_one_of_the_two_is_needed() {
    let mut azure = intake(known());
    azure.path_model = Some("by-path".into());
    azure.body = Some(Ok(scanned(Some("by-body"))));
    assert!(
        matches!(azure.step(), Step::Forward(request, ask) if ask.model == "by-path" && request.model == "by-path")
    );
    let mut none = intake(known());
    none.body = Some(Ok(scanned(None)));
    assert!(matches!(none.step(), Step::Refuse(error) if error.status == 400));
}

#[test]
fn blocked_and_expired_keys_are_told_apart() {
    assert!(admit(&record(false, None), 5).is_ok());
    assert!(admit(&record(false, Some(6)), 5).is_ok());
    assert_eq!(admit(&record(false, Some(5)), 5).unwrap_err().1, "expired");
    let (error, label) = admit(&record(true, None), 5).unwrap_err();
    assert_eq!((error.status, label), (401, "blocked"));
}

#[test]
fn the_question_is_plain_ascii_and_reads_back() {
    let mut intake = intake(known());
    let mut scan = scanned(Some("模型-😀"));
    scan.user = Some("Zoë\n\u{7f}".into());
    intake.body = Some(Ok(scan));
    let Step::Forward(_, ask) = intake.step() else { panic!("it should go on") };
    let header = ask_header(&ask).unwrap();
    assert!(header.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{header}");
    assert_eq!(serde_json::from_str::<Ask>(&header).unwrap(), *ask);
    let question = question(&ask).unwrap();
    assert_eq!(serde_json::from_str::<Ask>(question.get()).unwrap(), *ask);
}

#[test]
fn a_refusal_waits_for_the_end_of_the_body() {
    let mut intake = intake(Key::Refused(ApiError::unknown_key()));
    assert!(matches!(intake.step(), Step::Wait));
    intake.body = Some(Err(ApiError::invalid_request("not read", None)));
    assert!(matches!(intake.step(), Step::Refuse(error) if error.status == 401));
}

#[test]
fn wishes_of_headers_join_those_of_the_body() {
    let mut intake = intake(known());
    intake.wishes = vec![("x-litellm-num-retries".into(), "3".into()), ("x-litellm-tags".into(), "b".into())];
    intake.explain = true;
    let mut scanned = scanned(Some("gpt-4o"));
    scanned.wishes.tags = vec!["a".into()];
    scanned.wishes.disable_fallbacks = true;
    intake.body = Some(Ok(scanned));
    let Step::Forward(_, ask) = intake.step() else { panic!("it should go on") };
    assert_eq!((ask.wishes.num_retries, ask.wishes.disable_fallbacks, ask.explain), (Some(3), true, true));
    assert_eq!(ask.wishes.tags, ["a", "b"]);
}

#[test]
fn a_wish_that_makes_no_sense_is_refused() {
    let mut intake = intake(known());
    intake.wishes = vec![("x-litellm-timeout".into(), "soon".into())];
    intake.body = Some(Ok(scanned(Some("gpt-4o"))));
    let Step::Refuse(error) = intake.step() else { panic!("it should be refused") };
    assert_eq!(error.status, 400);
}

#[test]
fn a_question_is_bounded() {
    let mut intake = intake(known());
    intake.body = Some(Ok(scanned(Some(&"m".repeat(1_024)))));
    let Step::Forward(_, mut ask) = intake.step() else { panic!("it should go on") };
    ask.wishes.tags = vec!["\u{1f4ee}".repeat(64); wishes::MAX_TAGS];
    assert!(ask_header(&ask).unwrap().len() < MAX_ASK, "every tag that is allowed fits");
    ask.wishes.tags = vec!["\u{1f4ee}".repeat(64); 200];
    assert_eq!(ask_header(&ask).unwrap_err().status, 400);
    // Nothing is escaped there.
    assert!(question(&ask).unwrap().get().len() < MAX_ASK);
    ask.wishes.tags = vec!["\u{1f4ee}".repeat(64); 400];
    assert_eq!(question(&ask).unwrap_err().status, 400);
}

fn table() -> KeyTable {
    KeyTable::new(&attache_llm::contract::GateConfig::default())
}

fn identities() -> Asked {
    let all = ["spiffe:spiffe://a/ingress", "spiffe:spiffe://a/client", "jwt:azp=batch"];
    Asked::identities(all.map(str::to_owned).to_vec()).unwrap()
}

#[test]
fn identities_are_asked_for_one_after_the_other_until_one_is_known() {
    let mut keys = table();
    let Ok(Key::Asked(first)) = identities().look(&mut keys, 1, 0) else { panic!("nobody is known") };
    assert_eq!(keys.next_lookup().unwrap().wire(), "spiffe:spiffe://a/ingress");
    keys.answered(&first.caller.hash, None, 1);
    let Ok(Key::Asked(second)) = first.looked(&Looked::Nobody, &mut keys, 1, 1) else {
        panic!("two are left")
    };
    assert_eq!(keys.next_lookup().unwrap().wire(), "spiffe:spiffe://a/client");
    keys.answered(&second.caller.hash, Some(record(false, None)), 2);
    let up = Looked::Up(Rc::new(record(false, None)));
    assert!(matches!(second.looked(&up, &mut keys, 1, 2), Ok(Key::Known(_))));
    // The next request finds both answers in the tables.
    assert!(matches!(identities().look(&mut keys, 2, 3), Ok(Key::Known(_))));
    assert_eq!(keys.next_lookup(), None);
}

#[test]
fn an_identity_that_nobody_knows_is_named_in_the_refusal() {
    let mut keys = table();
    for text in ["spiffe:spiffe://a/ingress", "spiffe:spiffe://a/client", "jwt:azp=batch"] {
        keys.answered(&Caller::identity(text).hash, None, 0);
    }
    let (error, result) = identities().look(&mut keys, 1, 1).unwrap_err();
    assert_eq!((error.status, result), (401, "unknown_identity"));
    assert!(error.message.contains("spiffe://a/ingress"), "{}", error.message);
    assert!(Asked::identities(Vec::new()).is_none());
}

#[test]
fn a_sidecar_that_is_away_is_not_an_unknown_identity() {
    let mut keys = table();
    let Ok(Key::Asked(first)) = identities().look(&mut keys, 1, 0) else { panic!("nobody is known") };
    let (error, result) = first.looked(&Looked::Failed("no answer".into()), &mut keys, 1, 1).unwrap_err();
    assert_eq!((error.status, result), (503, "unavailable"));
}

#[test]
fn a_header_names_the_end_user_before_the_body() {
    let step = |header: Option<(&str, &str)>| {
        let mut intake = intake(known());
        intake.end_user = header.map(|(name, value)| (name.to_owned(), value.to_owned()));
        intake.body = Some(Ok(Scanned { user: Some("body".into()), ..scanned(Some("m")) }));
        intake.step()
    };
    assert!(matches!(step(None), Step::Forward(_, ask) if ask.user.as_deref() == Some("body")));
    assert!(
        matches!(step(Some(("x-litellm-customer-id", "head"))), Step::Forward(_, ask) if ask.user.as_deref() == Some("head"))
    );
    let long = "u".repeat(wishes::MAX_USER + 1);
    assert!(matches!(step(Some(("x-user", &long))), Step::Refuse(error) if error.status == 400));
}

#[test]
fn some_endpoints_may_leave_the_model_to_the_sidecar() {
    for (endpoint, named) in
        [(Endpoint::Moderations, Some("")), (Endpoint::Files, Some("")), (Endpoint::Rerank, None)]
    {
        let mut intake = Intake { endpoint, ..intake(known()) };
        intake.body = Some(Ok(scanned(None)));
        match (intake.step(), named) {
            (Step::Forward(_, ask), Some(model)) => assert_eq!(ask.model, model),
            (Step::Refuse(error), None) => assert_eq!(error.param.as_deref(), Some("model")),
            other => panic!("{endpoint:?}: {other:?}"),
        }
    }
}
