use super::*;

fn read(headers: &[(&str, &str)], mut wishes: Wishes) -> Result<Wishes, ApiError> {
    let find = |name: &str| headers.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
    from_headers(find, &mut wishes).map(|()| wishes)
}

#[test]
fn headers_win_and_tags_are_joined() {
    let body = Wishes {
        num_retries: Some(1),
        timeout_ms: Some(9),
        tags: vec!["a".into(), "b".into()],
        session: Some("old".into()),
        disable_fallbacks: true,
        ..Wishes::default()
    };
    let headers = [
        ("x-litellm-timeout", " 2.5 "),
        ("x-litellm-stream-timeout", "0.0001"),
        ("x-litellm-num-retries", "3"),
        ("x-litellm-tags", "b, c ,,c"),
        ("x-litellm-session-id", "s-1"),
        ("x-litellm-disable-fallbacks", "False"),
    ];
    assert_eq!(headers.map(|(name, _)| name), HEADERS);
    let wishes = read(&headers, body.clone()).unwrap();
    let expected = Wishes {
        num_retries: Some(3),
        timeout_ms: Some(2_500),
        stream_timeout_ms: Some(1),
        tags: vec!["a".into(), "b".into(), "c".into()],
        session: Some("s-1".into()),
        ..Wishes::default()
    };
    assert_eq!(wishes, expected);
    assert_eq!(read(&[], body.clone()).unwrap(), body);
    assert_eq!(read(&[("x-litellm-timeout", ""), ("x-litellm-tags", " ")], body.clone()).unwrap(), body);
}

#[test]
fn bad_headers_are_named() {
    let long = "x".repeat(MAX_TEXT + 1);
    let many = (0..=MAX_TAGS).map(|number| number.to_string()).collect::<Vec<_>>().join(",");
    for (name, value, part) in [
        (TIMEOUT, "soon", "number of seconds"),
        (TIMEOUT, "inf", "number of seconds"),
        (TIMEOUT, "NaN", "number of seconds"),
        (TIMEOUT, "0", "more than 0"),
        (TIMEOUT, "-1", "more than 0"),
        (TIMEOUT, "600000", "more than a day"),
        (STREAM_TIMEOUT, "1e400", "more than a day"),
        (STREAM_TIMEOUT, "1s", "number of seconds"),
        (NUM_RETRIES, "-1", "whole number"),
        (NUM_RETRIES, "+1", "whole number"),
        (NUM_RETRIES, "1.0", "whole number"),
        (NUM_RETRIES, "4294967296", "whole number"),
        (TAGS, &long, "256 bytes"),
        (TAGS, &many, "32 tags"),
        (SESSION, &long, "256 bytes"),
        (DISABLE_FALLBACKS, "yes", "true or false"),
    ] {
        let error = read(&[(name, value)], Wishes::default()).unwrap_err();
        assert_eq!((error.status, error.param.as_deref()), (400, Some(name)), "{value}");
        assert!(error.message.contains(name) && error.message.contains(part), "{}", error.message);
    }
}
