use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

pub(crate) fn scan(body: &[u8]) -> Result<Scanned, ScanError> {
    let mut scan = BodyScan::new(ScanLimits::default());
    scan.feed(body)?;
    scan.finish()
}

pub(crate) fn scan_pieces(body: &[u8], cuts: &[usize]) -> Result<Scanned, ScanError> {
    let mut scan = BodyScan::new(ScanLimits::default());
    let mut rest = body;
    for cut in cuts {
        let (head, tail) = rest.split_at(cut % (rest.len() + 1));
        scan.feed(head)?;
        rest = tail;
    }
    scan.feed(rest)?;
    scan.finish()
}

#[test]
fn everything_is_found() {
    let body = br#" { "model" : "gpt-\u0034o", "messages":[{"role":"user","content":"12345678"}],
        "stream":true,"stream_options":{"x":1,"include_usage": true },"max_tokens":7,"n":2,"user":"u\u0031 1"} "#;
    let found = scan(body).unwrap();
    assert_eq!(found.model.as_deref(), Some("gpt-4o"));
    assert_eq!(&body[found.model_range.clone().unwrap()], br#""gpt-\u0034o""#);
    assert_eq!(&body[found.stream_range.clone().unwrap()], b"true");
    let options = found.stream_options.clone().unwrap();
    assert_eq!(&body[options.range.clone()], br#"{"x":1,"include_usage": true }"#);
    assert_eq!(&body[options.include_usage.clone().unwrap()], b"true");
    assert_eq!(body[options.object_start.unwrap() - 1], b'{');
    assert!(found.stream && found.include_usage && !found.empty && !options.empty);
    assert_eq!((found.max_tokens, found.n, found.user.as_deref()), (Some(7), Some(2), Some("u1 1")));
    assert_eq!((found.object_start, found.len), (2, body.len()));
    // "user" and "12345678".
    assert_eq!((found.text_bytes, found.input_tokens()), (12, 3));
}

#[test]
fn nested_members_mean_nothing() {
    let body =
        br#"{"messages":[{"model":"x","stream":true,"max_tokens":"z"}],"metadata":{"model":1,"n":-1}}"#;
    let found = scan(body).unwrap();
    assert_eq!((found.model.as_deref(), found.stream, found.max_tokens, found.n), (None, false, None, None));
    assert!(found.model_or(None).is_err());
    assert_eq!(found.model_or(Some("by-path")).unwrap(), "by-path");
}

#[test]
fn max_completion_tokens_wins_and_the_last_duplicate_counts() {
    let found = scan(br#"{"max_completion_tokens":5,"max_tokens":9}"#).unwrap();
    assert_eq!(found.max_tokens, Some(5));
    assert_eq!(scan(br#"{"max_tokens":5,"max_tokens":9}"#).unwrap().max_tokens, Some(9));
    assert_eq!(scan(br#"{"max_tokens":1e3,"n":-0}"#).unwrap().max_tokens, Some(1000));
    assert_eq!(
        scan(br#"{"max_tokens":null,"n":null,"stream":null,"model":null,"user":null}"#).unwrap().n,
        None
    );
}

#[test]
fn media_count_a_constant() {
    let image = "A".repeat(100_000);
    let body = json!({"messages": [{"role": "user", "content": [
        {"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": format!("data:image/png;base64,{image}"), "detail": "low"}},
        {"type": "input_audio", "input_audio": {"data": image, "format": "wav"}},
        {"type": "file", "file": {"file_data": image}},
        "plain",
    ]}]});
    let found = scan(body.to_string().as_bytes()).unwrap();
    assert_eq!((found.media, found.text_bytes), (3, 4 + 11 + 5));
    let found =
        scan(br#"{"tools":[{"function":{"parameters":{"properties":{"file":{"description":"1234"}}}}}]}"#);
    assert_eq!(found.map(|found| (found.media, found.text_bytes)), Ok((0, 4)));
}

#[test]
fn prompts_and_token_ids() {
    assert_eq!(scan(br#"{"prompt":"12345678"}"#).unwrap().input_tokens(), 2);
    assert_eq!(scan(br#"{"input":["1234","5678"]}"#).unwrap().input_tokens(), 2);
    assert_eq!(scan(br#"{"input":[[1,2,3],[4,5]]}"#).unwrap().token_ids, 5);
    assert_eq!(scan(br#"{}"#).unwrap().input_tokens(), 1);
    assert_eq!(scan("{\"prompt\":\"\\u00e9\u{e9}\\ud83d\\ude00\"}".as_bytes()).unwrap().text_bytes, 8);
}

#[test]
fn wrong_fields_are_named() {
    for (body, param, part) in [
        (r#"{"model":7}"#, "model", "expected a string"),
        (r#"{"model":["a"]}"#, "model", "expected a string"),
        (r#"{"stream":"yes"}"#, "stream", "expected a boolean"),
        (r#"{"stream":1}"#, "stream", "expected a boolean"),
        (r#"{"stream_options":true}"#, "stream_options", "expected an object"),
        (r#"{"stream_options":{"include_usage":1}}"#, "stream_options", "expected a boolean"),
        (r#"{"max_tokens":-1}"#, "max_tokens", "negative"),
        (r#"{"max_tokens":-1e400}"#, "max_tokens", "negative"),
        (r#"{"max_tokens":1.5}"#, "max_tokens", "integer"),
        (r#"{"max_completion_tokens":1e400}"#, "max_completion_tokens", "too large"),
        (r#"{"max_tokens":99999999999999999999999}"#, "max_tokens", "too large"),
        (r#"{"n":"2"}"#, "n", "expected an integer"),
        (r#"{"model":"a","model":"b"}"#, "model", "Duplicate"),
        (r#"{"model":"a","mod\u0065l":"b"}"#, "model", "Duplicate"),
        (r#"{"stream":true,"stream":false}"#, "stream", "Duplicate"),
        (r#"{"stream_options":{},"stream_options":{}}"#, "stream_options", "Duplicate"),
        (r#"{"stream_options":{"include_usage":true,"include_usage":false}}"#, "stream_options", "Duplicate"),
    ] {
        let error = scan(body.as_bytes()).unwrap_err();
        assert_eq!(error.param, Some(param), "{body}");
        assert!(error.message.contains(part), "{body}: {}", error.message);
    }
    let long = format!(r#"{{"model":"{}"}}"#, "m".repeat(2_000));
    assert_eq!(scan(long.as_bytes()).unwrap_err().param, Some("model"));
    let api: ApiError = scan(br#"{"n":-3}"#).unwrap_err().into();
    assert_eq!((api.status, api.param.as_deref()), (400, Some("n")));
}

#[test]
fn malformed_json_has_its_offset() {
    for (body, offset) in [
        (&b""[..], 0),
        (b"   ", 3),
        (b"[]", 0),
        (b"\"x\"", 0),
        (b"7 ", 0),
        (b"{", 1),
        (b"{} x", 3),
        (b"{\"a\":1,}", 7),
        (b"{\"a\" 1}", 5),
        (b"{\"a\":[1 2]}", 8),
        (b"{\"a\":[1}", 7),
        (b"{\"a\":01}", 6),
        (b"{\"a\":1.}", 7),
        (b"{\"a\":-}", 6),
        (b"{\"a\":.5}", 5),
        (b"{\"a\":tru}", 8),
        (b"{\"a\":nul", 8),
        (b"{'a':1}", 1),
        (b"{\"a\":\"\x01\"}", 6),
        (b"{\"a\":\"\\x\"}", 7),
        (b"{\"a\":\"\\u12g4\"}", 10),
        (b"{\"a\":\"\\ud800\"}", 12),
        (b"{\"a\":\"\\udc00\"}", 11),
        (b"{\"a\":\"\\ud800\\ud800\"}", 17),
        (b"{\"a\":\"\xff\"}", 6),
        (b"{\"a\":\"\xc3\"}", 6),
        (b"\xef\xbb\xbf{}", 0),
    ] {
        let error = scan(body).unwrap_err();
        assert_eq!(
            (error.param, error.offset),
            (Some("request_body"), offset),
            "{}",
            String::from_utf8_lossy(body)
        );
        assert!(serde_json::from_slice::<serde_json::Map<String, Value>>(body).is_err());
    }
    let deep = format!("{{\"a\":{}", "[".repeat(200_000));
    assert!(scan(deep.as_bytes()).unwrap_err().message.contains("nested too deeply"));
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        "[\\x00-\\x1f\"\\\\é😀]{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::vec(("[a-z]{0,8}|model|stream|url", inner), 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

pub(crate) fn request() -> impl Strategy<Value = Value> {
    (
        proptest::option::of("[a-z0-9/é\"-]{1,20}"),
        proptest::option::of(any::<bool>()),
        proptest::option::of(prop_oneof![
            Just(Value::Null),
            Just(json!({})),
            Just(json!({"include_usage": true})),
            Just(json!({"include_usage": false, "x": [1]})),
            Just(json!({"x": {"include_usage": 7}})),
        ]),
        proptest::option::of(any::<u64>()),
        json_value(),
        json_value(),
    )
        .prop_map(|(model, stream, options, max_tokens, messages, other)| {
            let mut body = serde_json::Map::new();
            body.insert("a_other".into(), other);
            body.extend(model.map(|model| ("model".to_owned(), json!(model))));
            body.insert("messages".into(), messages);
            body.extend(stream.map(|stream| ("stream".to_owned(), json!(stream))));
            body.extend(options.map(|options| ("stream_options".to_owned(), options)));
            body.extend(max_tokens.map(|number| ("max_tokens".to_owned(), json!(number))));
            Value::Object(body)
        })
}

proptest! {
    #[test]
    fn scan_agrees_with_a_parser(request in request(), pretty in any::<bool>(), cuts in proptest::collection::vec(any::<usize>(), 0..8)) {
        let body = if pretty { serde_json::to_vec_pretty(&request) } else { serde_json::to_vec(&request) }.unwrap();
        let found = scan(&body).unwrap();
        prop_assert_eq!(&scan_pieces(&body, &cuts).unwrap(), &found);
        prop_assert_eq!(found.model.as_deref(), request["model"].as_str());
        prop_assert_eq!(found.stream, request["stream"] == json!(true));
        prop_assert_eq!(found.include_usage, request["stream_options"]["include_usage"] == json!(true));
        prop_assert_eq!(found.max_tokens, request["max_tokens"].as_u64());
        if let Some(range) = found.model_range {
            prop_assert_eq!(serde_json::from_slice::<Value>(&body[range]).unwrap(), request["model"].clone());
        }
        if let Some(options) = found.stream_options {
            prop_assert_eq!(serde_json::from_slice::<Value>(&body[options.range]).unwrap(), request["stream_options"].clone());
        }
    }

    #[test]
    fn byte_by_byte_is_the_same(request in request()) {
        let body = serde_json::to_vec(&request).unwrap();
        let mut scan_bytes = BodyScan::new(ScanLimits::default());
        for byte in &body {
            scan_bytes.feed(&[*byte]).unwrap();
        }
        prop_assert_eq!(scan_bytes.finish(), scan(&body));
    }

    #[test]
    fn damaged_bodies_are_judged_as_a_parser_does(request in request(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cuts in proptest::collection::vec(any::<usize>(), 0..4)) {
        let mut body = serde_json::to_vec(&request).unwrap();
        let at = at.index(body.len());
        body[at] = byte;
        let whole = scan(&body);
        prop_assert_eq!(&scan_pieces(&body, &cuts), &whole);
        let parsed = serde_json::from_slice::<Value>(&body).is_ok_and(|value| value.is_object());
        match whole {
            Ok(_) => prop_assert!(parsed || String::from_utf8_lossy(&body).contains(['e', 'E'])),
            Err(error) => prop_assert!(!parsed || error.param != Some("request_body"), "{}", error),
        }
    }

    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..300), cuts in proptest::collection::vec(any::<usize>(), 0..4)) {
        prop_assert_eq!(scan_pieces(&bytes, &cuts), scan(&bytes));
    }

    #[test]
    fn any_json_like_bytes(text in r#"[{}\[\]",:\\u0-9a-e.+\- \n]{0,80}"#) {
        let ours = scan(text.as_bytes());
        if serde_json::from_str::<Value>(&text).is_ok_and(|value| value.is_object()) {
            prop_assert!(ours.is_ok());
        }
    }
}

#[test]
fn needs_are_what_differs_from_the_default() {
    let needs = |body: &str| {
        let mut scan = BodyScan::new(ScanLimits::default());
        for byte in body.as_bytes() {
            scan.feed(&[*byte]).unwrap();
        }
        scan.finish().unwrap().needs
    };
    let defaults = r#"{"n":1,"frequency_penalty":0,"presence_penalty":0.0,"logprobs":false,"top_logprobs":0,
        "parallel_tool_calls":true,"seed":null,"logit_bias":null,"messages":[]}"#;
    assert!(needs(defaults).is_empty());
    let all = r#"{"n":2,"frequency_penalty":0.5,"seed":0,"logprobs":true,"logit_bias":{"1":2},"tools":[{}],
        "parallel_tool_calls":false,"messages":[{"role":"user","content":[
        {"type":"image_url","image_url":{"url":"https://a/b.png"}},{"type":"file","file":{"file_id":"f"}},
        {"type":"input_audio","input_audio":{"data":"aa"}}]}]}"#;
    let expected = [
        "n",
        "frequency_penalty",
        "seed",
        "logprobs",
        "logit_bias",
        "tools",
        "parallel_tool_calls",
        "content.url",
        "content.file_id",
        "content.input_audio",
    ];
    assert_eq!(needs(all), expected);
    let inline = r#"{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,aa"}}]}],
        "tool_note":{"url":"https://not.content/"}}"#;
    assert!(needs(inline).is_empty());
    let responses = r#"{"input":[{"role":"user","content":[{"type":"input_image","image_url":"http://a/b"}]}],"background":true}"#;
    assert_eq!(needs(responses), ["content.url", "background"]);
}

#[test]
fn the_key_of_max_tokens_is_found_up_to_its_value() {
    let scanned = |body: &str| {
        let mut scan = BodyScan::new(ScanLimits::default());
        scan.feed(body.as_bytes()).unwrap();
        scan.finish().unwrap()
    };
    let body = r#"{"a":1, "max_tok\u0065ns" : 12,"metadata":{"max_tokens":3}}"#;
    let found = scanned(body);
    assert_eq!(found.max_tokens_key.map(|range| &body[range]), Some(r#""max_tok\u0065ns" : "#));
    assert_eq!(found.max_tokens, Some(12));
    assert_eq!(scanned(r#"{"max_tokens":1,"max_completion_tokens":2}"#).max_tokens_key, None);
    assert_eq!(scanned(r#"{"max_tokens":null}"#).max_tokens_key, None);
}
