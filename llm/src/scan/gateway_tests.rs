use proptest::prelude::*;
use serde_json::Value;

use crate::contract::Wishes;
use crate::edit::BodyEdits;
use crate::scan::tests::{scan, scan_pieces};

fn strings(items: &[&str]) -> Vec<String> {
    items.iter().map(|item| (*item).to_owned()).collect()
}

fn wishes(body: &str) -> Wishes {
    scan(body.as_bytes()).unwrap().wishes
}

#[test]
fn all_wishes_are_read() {
    let body = r#"{"fallbacks":["a",{"model":"b\u0021"}],"disable_fallbacks":true,"num_retries":2,"timeout":1.5,
        "stream_timeout":2,"metadata":{"tags":["x","y"],"session_id":"meta","own":"kept"},"tags":["y","z",""],
        "litellm_session_id":"s","prompt_cache_key":"p","allowed_model_region":"eu","model":"m"}"#;
    let expected = Wishes {
        fallbacks: Some(strings(&["a", "b!"])),
        disable_fallbacks: true,
        num_retries: Some(2),
        timeout_ms: Some(1_500),
        stream_timeout_ms: Some(2_000),
        tags: strings(&["x", "y", "z"]),
        session: Some("s".into()),
        region: Some("eu".into()),
    };
    assert_eq!(wishes(body), expected);
}

#[test]
fn no_log_is_heard_and_goes_no_further() {
    for (body, heard, sent) in [
        (r#"{"no-log":true,"model":"m"}"#, true, r#"{"model":"m"}"#),
        (r#"{"model":"m","no-log":false}"#, false, r#"{"model":"m"}"#),
        (r#"{"metadata":{"no-log":true,"own":1}}"#, true, r#"{"metadata":{"own":1}}"#),
        (r#"{"no-log":null,"metadata":{"no-log":true},"n":1}"#, true, r#"{"n":1}"#),
        (r#"{"messages":[{"no-log":true}]}"#, false, r#"{"messages":[{"no-log":true}]}"#),
    ] {
        let scanned = scan(body.as_bytes()).unwrap();
        assert_eq!(scanned.no_log, heard, "{body}");
        let mut left = body.to_owned();
        scanned.cuts.iter().rev().for_each(|cut| left.replace_range(cut.clone(), ""));
        assert_eq!(
            serde_json::from_str::<Value>(&left).unwrap(),
            serde_json::from_str::<Value>(sent).unwrap()
        );
    }
    assert_eq!(scan(br#"{"no-log":"yes"}"#).unwrap_err().param, Some("no-log"));
}

#[test]
fn the_place_of_what_is_asked_is_known() {
    for (body, place) in [
        (
            r#"{"model":"m","messages": [{"role":"user","content":"]"}] ,"n":1}"#,
            r#"[{"role":"user","content":"]"}]"#,
        ),
        (r#"{"input":"text","model":"m"}"#, r#""text""#),
        (r#"{"prompt":[1,2],"messages":[]}"#, "[]"),
        (r#"{"messages":[],"input":"x"}"#, "[]"),
    ] {
        for scanned in [scan(body.as_bytes()).unwrap(), scan_pieces(body.as_bytes(), &[3, 7, 5]).unwrap()] {
            assert_eq!(&body[scanned.prompt_range.unwrap()], place, "{body}");
        }
    }
    assert_eq!(scan(br#"{"model":"m"}"#).unwrap().prompt_range, None);
}

#[test]
fn which_one_wins() {
    assert_eq!(wishes(r#"{"max_retries":3}"#).num_retries, Some(3));
    assert_eq!(wishes(r#"{"num_retries":0,"max_retries":3}"#).num_retries, Some(0));
    assert_eq!(wishes(r#"{"max_retries":3,"num_retries":null}"#).num_retries, Some(3));
    assert_eq!(wishes(r#"{"prompt_cache_key":"p"}"#).session.as_deref(), Some("p"));
    let session = wishes(r#"{"prompt_cache_key":"p","metadata":{"session_id":"m"}}"#).session;
    assert_eq!(session.as_deref(), Some("m"));
    assert_eq!(wishes(r#"{"prompt_cache_key":"p","litellm_session_id":""}"#).session.as_deref(), Some("p"));
    assert_eq!(wishes(r#"{"fallbacks":[]}"#).fallbacks, Some(Vec::new()));
    assert_eq!(wishes(r#"{"disable_fallbacks":false}"#), Wishes::default());
}

#[test]
fn null_says_nothing_and_other_places_neither() {
    for body in [
        r#"{"fallbacks":null,"disable_fallbacks":null,"num_retries":null,"timeout":null,"tags":null}"#,
        r#"{"metadata":{"tags":null,"session_id":null},"allowed_model_region":null,"prompt_cache_key":null}"#,
        r#"{"messages":[{"fallbacks":7,"tags":"x"}],"extra":{"metadata":{"tags":1}},"metadata":null}"#,
        r#"{"metadata":{"deep":{"tags":1,"session_id":2},"fallbacks":3,"timeout":"x"}}"#,
        r#"{"metadata":[{"tags":1},"tags"]}"#,
        r#"{"cache":{"tags":1,"fallbacks":{}},"model_info":[{"model":7}],"metadata":"tags"}"#,
    ] {
        assert!(wishes(body).is_empty(), "{body}");
    }
}

#[test]
fn wrong_ones_are_named() {
    let long = "x".repeat(257);
    let many = |count: usize| (0..count).map(|at| format!("\"{at}\"")).collect::<Vec<_>>().join(",");
    for (body, param, part) in [
        (r#"{"fallbacks":"a"}"#, "fallbacks", "array of model names"),
        (r#"{"fallbacks":{"model":"a"}}"#, "fallbacks", "array"),
        (r#"{"fallbacks":[1]}"#, "fallbacks", "array"),
        (r#"{"fallbacks":[null]}"#, "fallbacks", "array"),
        (r#"{"fallbacks":[["a"]]}"#, "fallbacks", "array"),
        (r#"{"fallbacks":[{}]}"#, "fallbacks", "objects with a 'model'"),
        (r#"{"fallbacks":[{"model":"a"},{}]}"#, "fallbacks", "objects with a 'model'"),
        (r#"{"fallbacks":[{"model":7}]}"#, "fallbacks", "objects with a 'model'"),
        (r#"{"fallbacks":[{"model":"a","messages":[]}]}"#, "fallbacks", "nothing else"),
        (r#"{"fallbacks":[{"model":"a","model":"b"}]}"#, "fallbacks", "nothing else"),
        (r#"{"fallbacks":[""]}"#, "fallbacks", "empty"),
        (&format!(r#"{{"fallbacks":["{long}"]}}"#), "fallbacks", "256 bytes"),
        (&format!(r#"{{"fallbacks":[{}]}}"#, many(17)), "fallbacks", "16 models"),
        (r#"{"disable_fallbacks":"true"}"#, "disable_fallbacks", "boolean"),
        (r#"{"num_retries":"2"}"#, "num_retries", "integer"),
        (r#"{"num_retries":1.5}"#, "num_retries", "integer"),
        (r#"{"num_retries":-1}"#, "num_retries", "negative"),
        (r#"{"max_retries":4294967296}"#, "max_retries", "too large"),
        (r#"{"timeout":"5"}"#, "timeout", "number of seconds"),
        (r#"{"timeout":0}"#, "timeout", "more than 0"),
        (r#"{"stream_timeout":-0.5}"#, "stream_timeout", "more than 0"),
        (r#"{"stream_timeout":1e400}"#, "stream_timeout", "a day"),
        (r#"{"tags":"a"}"#, "tags", "array of strings"),
        (r#"{"tags":["a",1]}"#, "tags", "array of strings"),
        (&format!(r#"{{"tags":[{}]}}"#, many(33)), "tags", "32 tags"),
        (&format!(r#"{{"tags":["{long}"]}}"#), "tags", "256 bytes"),
        (&format!(r#"{{"metadata":{{"tags":["a"]}},"tags":[{}]}}"#, many(32)), "tags", "32 tags"),
        (r#"{"metadata":{"tags":"a"}}"#, "metadata.tags", "array of strings"),
        (r#"{"metadata":{"session_id":1}}"#, "metadata.session_id", "a string"),
        (&format!(r#"{{"litellm_session_id":"{long}"}}"#), "litellm_session_id", "256 bytes"),
        (r#"{"prompt_cache_key":{}}"#, "prompt_cache_key", "a string"),
        (r#"{"allowed_model_region":["eu"]}"#, "allowed_model_region", "a string"),
        (r#"{"tags":[],"tags":[]}"#, "tags", "Duplicate"),
        (r#"{"timeout":1,"t\u0069meout":2}"#, "timeout", "Duplicate"),
        (r#"{"cache":1,"cache":2}"#, "cache", "Duplicate"),
        (r#"{"metadata":{"tags":[]},"metadata":{"tags":[]}}"#, "metadata.tags", "Duplicate"),
    ] {
        let error = scan(body.as_bytes()).unwrap_err();
        assert_eq!(error.param, Some(param), "{body}");
        assert!(error.message.contains(part) && error.message.contains(param), "{body}: {}", error.message);
    }
    let full = format!(r#"{{"fallbacks":[{}],"tags":[{}]}}"#, many(16), many(32));
    assert_eq!((wishes(&full).fallbacks.unwrap().len(), wishes(&full).tags.len()), (16, 32));
}

#[test]
fn text_of_wishes_is_no_prompt() {
    let found = scan(br#"{"tags":["12345678"],"metadata":{"tags":["1"]},"messages":["1234"]}"#).unwrap();
    assert_eq!(found.text_bytes, 4);
}

/// Pieces of bodies that come near to what is read.
fn piece() -> impl Strategy<Value = String> {
    let known: Vec<String> = [
        "\"fallbacks\"",
        "\"tags\"",
        "\"metadata\"",
        "\"session_id\"",
        "\"timeout\"",
        "\"num_retries\"",
        "\"disable_fallbacks\"",
        "\"prompt_cache_key\"",
        "\"cache\"",
        "\"model\"",
        "\"stream\"",
        "\"a\"",
        "{",
        "}",
        "{",
        "}",
        "[",
        "]",
        ":",
        ":",
        ",",
        ",",
        "1",
        "0.5",
        "true",
        "null",
        " ",
    ]
    .map(String::from)
    .into();
    prop_oneof![
        3 => proptest::sample::select(known.clone()),
        3 => (proptest::sample::select(known.clone()), proptest::sample::select(known))
            .prop_map(|(key, value)| format!("{key}:{value}")),
        1 => "\\PC{0,3}",
    ]
}

proptest! {
    #[test]
    fn no_bytes_are_too_odd(pieces in proptest::collection::vec(piece(), 0..16), object in any::<bool>(), cuts in proptest::collection::vec(any::<usize>(), 0..6)) {
        let text = if object { format!("{{{}}}", pieces.join(",")) } else { pieces.concat() };
        let whole = scan(text.as_bytes());
        prop_assert_eq!(&scan_pieces(text.as_bytes(), &cuts), &whole);
        if let Ok(found) = whole {
            prop_assert!(found.cuts.is_sorted_by(|one, next| one.end < next.start), "{:?}", found.cuts);
            let edits = BodyEdits::plan(&found, &crate::edit::tests::meta(true), "m", crate::path::Endpoint::ChatCompletions);
            let mut out = Vec::new();
            edits.apply(0, text.as_bytes(), &mut out);
            prop_assert_eq!(out.len(), edits.new_len());
            prop_assert!(serde_json::from_slice::<Value>(&out).is_ok(), "{} -> {}", text, String::from_utf8_lossy(&out));
        }
    }
}

#[test]
fn the_end_user_has_three_names() {
    let user = |body: &str| scan(body.as_bytes()).unwrap().user;
    assert_eq!(
        user(r#"{"metadata":{"user_id":"m"},"safety_identifier":"s","user":"u"}"#).as_deref(),
        Some("u")
    );
    assert_eq!(
        user(r#"{"metadata":{"user_id":"m"},"safety_identifier":"s","user":""}"#).as_deref(),
        Some("s")
    );
    assert_eq!(user(r#"{"metadata":{"user_id":"m"},"user":null}"#).as_deref(), Some("m"));
    assert_eq!(user(r#"{"metadata":{"a":{"user_id":"m"}}}"#), None);
    // What is of another type is the provider's to judge.
    assert_eq!(user(r#"{"metadata":{"user_id":{"a":[1,"b"]},"x":1},"safety_identifier":7}"#), None);
}

#[test]
fn names_of_the_end_user_stay_in_the_body() {
    let found = scan(br#"{"metadata":{"user_id":"m"},"safety_identifier":"s"}"#).unwrap();
    assert!(found.cuts.is_empty() && !found.empty, "{found:?}");
}

#[test]
fn control_characters_are_refused_where_they_would_be_stored() {
    for body in [
        r#"{"user":"a\u0000"}"#,
        r#"{"model":"a\u001fb"}"#,
        r#"{"tags":["a\nb"]}"#,
        r#"{"safety_identifier":"a\u0000"}"#,
        r#"{"metadata":{"user_id":"\u0007"}}"#,
        r#"{"litellm_session_id":"a\u0000"}"#,
    ] {
        let error = scan(body.as_bytes()).unwrap_err();
        assert!(error.message.contains("control character"), "{body}: {error}");
    }
}
