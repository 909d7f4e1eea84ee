use proptest::prelude::*;

use super::tests::{edited, meta, plan};
use super::*;
use crate::json::members;

/// One member as text: key, value, and does it stay?
type Part = (String, String, bool);

fn own(key: &str, value: &str) -> Part {
    (key.to_owned(), value.to_owned(), false)
}

fn gateway_members() -> Vec<Part> {
    vec![
        own("fallbacks", r#"[ "a" ,{"model" : "b"}]"#),
        own("disable_fallbacks", "false"),
        own("num_retries", "2"),
        own("max_retries", "1"),
        own("timeout", "1.5"),
        own("stream_timeout", "3"),
        own("tags", r#"["x", "y,}"]"#),
        own("litellm_session_id", r#""s\"}""#),
        own("litellm_trace_id", "null"),
        own("litellm_metadata", r#"{"tags": [{}]}"#),
        own("allowed_model_region", r#""eu""#),
        own("mock_testing_fallbacks", "true"),
        own("context_window_fallback_dict", r#"{"a":"b"}"#),
        own("cooldown_time", "1"),
        own("model_info", "{}"),
        own("caching", "true"),
        own("cache", r#"{"no-cache": true}"#),
    ]
}

fn kept_members() -> Vec<Part> {
    [
        ("messages", r#"[{"role":"user", "content":"tags, \"timeout\": 1"}]"#),
        ("temperature", "0.50"),
        ("x", r#"{ "tags" : [1] , "cache" : {} }"#),
        ("stream", "true"),
        ("model", r#""g""#),
        ("stream_options", r#"{"include_usage" : true}"#),
        ("prompt_cache_key", r#""key""#),
        ("priority", "3"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned(), true))
    .into()
}

fn metadata_members() -> Vec<Part> {
    vec![
        own("tags", r#"["z"]"#),
        own("session_id", r#""m""#),
        own("spend_logs_metadata", r#"{"a":[1,{}]}"#),
        ("user".into(), r#""u""#.into(), true),
        ("deep".into(), r#"{"tags" :[ ]}"#.into(), true),
    ]
}

/// An object of these members with spaces everywhere.
fn object(parts: &[Part], spaces: &mut impl Iterator<Item = String>) -> String {
    let mut space = || spaces.next().unwrap_or_default();
    let mut out = format!("{{{}", space());
    for (at, (key, value, _)) in parts.iter().enumerate() {
        let comma = if at == 0 { String::new() } else { format!(",{}", space()) };
        out += &format!("{comma}\"{key}\"{}:{}{value}{}", space(), space(), space());
    }
    out + "}"
}

/// Some of these members, in any order.
fn some(parts: Vec<Part>) -> impl Strategy<Value = Vec<Part>> {
    let most = parts.len();
    proptest::sample::subsequence(parts, 0..=most).prop_shuffle()
}

fn texts(object: &[u8]) -> Vec<(String, String)> {
    let text = |range: Range<usize>| String::from_utf8(object[range].to_vec()).unwrap();
    members(object).unwrap().into_iter().map(|member| (member.key.into_owned(), text(member.value))).collect()
}

fn staying(parts: &[Part]) -> Vec<(String, String)> {
    parts.iter().filter(|part| part.2).map(|(key, value, _)| (key.clone(), value.clone())).collect()
}

#[test]
fn known_cuts() {
    let mut meta = meta(true);
    meta.model = "m".into();
    for (body, expected) in [
        (r#"{"tags":[],"model":"m"}"#, r#"{"model":"m"}"#),
        (r#"{"model":"m","tags":[]}"#, r#"{"model":"m"}"#),
        (r#"{ "model":"m" , "tags":[] , "n":1 }"#, r#"{ "model":"m" , "n":1 }"#),
        (r#"{ "tags":[] , "timeout":1 , "model":"m" }"#, r#"{ "model":"m" }"#),
        (r#"{"tags":[]}"#, r#"{"model":"m"}"#),
        (r#"{ "tags":[] , "cache":1 }"#, r#"{"model":"m"  }"#),
        (r#"{"tags":[],"n":1,"timeout":2}"#, r#"{"model":"m","n":1}"#),
        (r#"{"model":"g","metadata":{"tags":["a"],"x":"y"}}"#, r#"{"model":"m","metadata":{"x":"y"}}"#),
        (r#"{"model":"g","metadata":{"tags":["a"]}}"#, r#"{"model":"m"}"#),
        (r#"{"metadata":{"tags":["a"]},"model":"g"}"#, r#"{"model":"m"}"#),
        (r#"{"model":"m","metadata":{}}"#, r#"{"model":"m","metadata":{}}"#),
        (r#"{"tags":[],"metadata":{"tags":[]},"cache":1}"#, r#"{"model":"m"}"#),
        (
            r#"{"tags":[],"stream":true}"#,
            r#"{"model":"m","stream_options":{"include_usage":true},"stream":true}"#,
        ),
    ] {
        assert_eq!(edited(body.as_bytes(), &plan(body.as_bytes(), &meta)), expected, "{body}");
    }
}

proptest! {
    #[test]
    fn what_stays_is_as_it_was(
        top in some([gateway_members(), kept_members()].concat()),
        metadata in proptest::option::of(some(metadata_members())),
        at in any::<prop::sample::Index>(),
        spaces in proptest::collection::vec("[ \t\r\n]{0,2}", 0..120),
        slices in proptest::collection::vec(any::<usize>(), 0..12),
    ) {
        let mut spaces = spaces.into_iter();
        let mut top = top;
        if let Some(parts) = &metadata {
            let stays = parts.is_empty() || parts.iter().any(|part| part.2);
            let value = object(parts, &mut spaces);
            top.insert(at.index(top.len() + 1), ("metadata".into(), value, stays));
        }
        let body = object(&top, &mut spaces).into_bytes();
        let mut meta = meta(true);
        meta.model = "m".into();
        let edits = plan(&body, &meta);
        let whole = edited(&body, &edits).into_bytes();
        prop_assert!(serde_json::from_slice::<serde::de::IgnoredAny>(&whole).is_ok());

        let has = |name: &str| top.iter().any(|part| part.0 == name);
        let mut expected = staying(&top);
        if has("stream") && !has("stream_options") {
            expected.insert(0, ("stream_options".into(), r#"{"include_usage":true}"#.into()));
        }
        if !has("model") {
            expected.insert(0, ("model".into(), String::new()));
        }
        let mut found = texts(&whole);
        for (key, value) in found.iter_mut().chain(&mut expected) {
            match key.as_str() {
                "model" => *value = "\"m\"".into(),
                "metadata" => *value = String::new(),
                _ => {}
            }
        }
        prop_assert_eq!(found, expected);
        if let Some(parts) = metadata
            && let Some((_, value)) = texts(&whole).into_iter().find(|(key, _)| key == "metadata")
        {
            prop_assert_eq!(texts(value.as_bytes()), staying(&parts));
        }

        // In slices, and as a prefix with the rest as it is.
        let mut out = Vec::new();
        let (mut rest, mut offset) = (body.as_slice(), 0);
        for cut in slices {
            let (head, tail) = rest.split_at(cut % (rest.len() + 1));
            edits.apply(offset, head, &mut out);
            offset += head.len();
            rest = tail;
        }
        edits.apply(offset, rest, &mut out);
        prop_assert_eq!(&out, &whole);
        let (prefix, rest) = body.split_at(edits.prefix_len());
        let mut out = Vec::new();
        edits.apply(0, prefix, &mut out);
        out.extend_from_slice(rest);
        prop_assert_eq!(&out, &whole);
    }

    #[test]
    fn without_such_members_nothing_is_cut(top in some(kept_members()), spaces in proptest::collection::vec("[ \t]{0,2}", 0..40)) {
        let body = object(&top, &mut spaces.into_iter());
        let found = crate::scan::tests::scan(body.as_bytes()).unwrap();
        prop_assert!(found.cuts.is_empty());
        prop_assert_eq!(found.empty, top.is_empty());
    }
}
