use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::provider::Provider;
use crate::scan::{BodyScan, ScanLimits};

pub(crate) fn meta(stream_options: bool) -> DeploymentMeta {
    DeploymentMeta {
        contract: crate::contract::VERSION,
        id: "d".into(),
        group: "g".into(),
        provider: Provider::Openai,
        model: "the \"provider's\" model".into(),
        authority: "example.com".into(),
        base_path: "/v1".into(),
        api_version: None,
        stream_options,
        ..DeploymentMeta::default()
    }
}

pub(crate) fn plan(body: &[u8], meta: &DeploymentMeta) -> BodyEdits {
    let mut scan = BodyScan::new(ScanLimits::default());
    scan.feed(body).unwrap();
    BodyEdits::plan(&scan.finish().unwrap(), meta, &meta.model, Endpoint::ChatCompletions)
}

pub(crate) fn edited(body: &[u8], edits: &BodyEdits) -> String {
    let mut out = Vec::new();
    edits.apply(0, body, &mut out);
    assert_eq!(out.len(), edits.new_len());
    String::from_utf8(out).unwrap()
}

#[test]
fn known_edits() {
    let mut meta = meta(true);
    meta.model = "m".into();
    for (body, expected) in [
        (r#"{}"#, r#"{"model":"m"}"#),
        (r#"{ "a":1}"#, r#"{"model":"m", "a":1}"#),
        (r#"{"model":"m"}"#, r#"{"model":"m"}"#),
        (r#"{"model":null}"#, r#"{"model":"m"}"#),
        (r#"{"a":"x","model":"group" }"#, r#"{"a":"x","model":"m" }"#),
        (
            r#"{"model":"g","stream":true}"#,
            r#"{"stream_options":{"include_usage":true},"model":"m","stream":true}"#,
        ),
        (r#"{"stream":true}"#, r#"{"model":"m","stream_options":{"include_usage":true},"stream":true}"#),
        (
            r#"{"model":"m","stream":true,"stream_options":null}"#,
            r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#,
        ),
        (
            r#"{"model":"m","stream":true,"stream_options":{}}"#,
            r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#,
        ),
        (
            r#"{"model":"m","stream":true,"stream_options":{"x":1}}"#,
            r#"{"model":"m","stream":true,"stream_options":{"include_usage":true,"x":1}}"#,
        ),
        (
            r#"{"model":"m","stream":true,"stream_options":{"include_usage":false}}"#,
            r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#,
        ),
        (
            r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#,
            r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#,
        ),
    ] {
        let edits = plan(body.as_bytes(), &meta);
        assert_eq!(edited(body.as_bytes(), &edits), expected, "{body}");
        assert_eq!(edits.is_empty(), body == expected, "{body}");
        assert_eq!(
            edits.injected_usage(),
            body.contains("stream\":true") && !body.contains("usage\":true"),
            "{body}"
        );
    }
}

#[test]
fn upstreams_without_stream_options_are_not_asked() {
    let edits = plan(br#"{"model":"g","stream":true}"#, &meta(false));
    assert!(!edits.injected_usage());
    assert_eq!(edits.edits().len(), 1);
}

#[test]
fn the_model_of_a_wildcard_is_what_the_plan_says() {
    let mut meta = meta(true);
    meta.model = "openai/*".into();
    let found = crate::scan::tests::scan(br#"{"model":"gpt-x"}"#).unwrap();
    assert!(BodyEdits::plan(&found, &meta, "gpt-x", Endpoint::ChatCompletions).is_empty());
    let edits = BodyEdits::plan(&found, &meta, "other", Endpoint::ChatCompletions);
    assert_eq!(edited(br#"{"model":"gpt-x"}"#, &edits), r#"{"model":"other"}"#);
}

#[test]
fn only_the_prefix_need_be_touched() {
    let body = format!(r#"{{"model":"group","stream":true,"messages":"{}"}}"#, "x".repeat(1_000));
    let edits = plan(body.as_bytes(), &meta(true));
    assert_eq!(edits.prefix_len(), r#"{"model":"group""#.len());
    let (prefix, rest) = body.as_bytes().split_at(edits.prefix_len());
    let mut out = Vec::new();
    edits.apply(0, prefix, &mut out);
    out.extend_from_slice(rest);
    assert_eq!(out, edited(body.as_bytes(), &edits).into_bytes());
    assert_eq!(plan(br#"{"model":"the \"provider's\" model"}"#, &meta(true)).prefix_len(), 0);
}

proptest! {
    #[test]
    fn edits_do_what_a_rewrite_would(
        request in crate::scan::tests::request(),
        stream_options in any::<bool>(),
        cuts in proptest::collection::vec(any::<usize>(), 0..8),
    ) {
        let body = serde_json::to_vec(&request).unwrap();
        let meta = meta(stream_options);
        let edits = plan(&body, &meta);
        let whole = edited(&body, &edits);

        let mut expected: Value = serde_json::from_slice(&body).unwrap();
        expected["model"] = json!(meta.model);
        if request["stream"] == json!(true) && stream_options {
            if !expected["stream_options"].is_object() {
                expected["stream_options"] = json!({});
            }
            expected["stream_options"]["include_usage"] = json!(true);
        }
        prop_assert_eq!(serde_json::from_str::<Value>(&whole).unwrap(), expected);

        let mut out = Vec::new();
        let (mut rest, mut offset) = (body.as_slice(), 0);
        for cut in cuts {
            let (head, tail) = rest.split_at(cut % (rest.len() + 1));
            edits.apply(offset, head, &mut out);
            offset += head.len();
            rest = tail;
        }
        edits.apply(offset, rest, &mut out);
        prop_assert_eq!(String::from_utf8(out).unwrap(), whole);
    }
}

#[test]
fn newer_models_get_the_name_they_insist_on() {
    let body = br#"{"model":"x", "max_tokens" : 5}"#;
    let deployment = |model: &str, responses| DeploymentMeta { model: model.into(), responses, ..meta(true) };
    let edited_for = |meta: &DeploymentMeta| edited(body, &plan(body, meta));
    assert_eq!(
        edited_for(&deployment("gpt-5-mini", true)),
        r#"{"model":"gpt-5-mini", "max_completion_tokens":5}"#
    );
    assert_eq!(edited_for(&deployment("gpt-4o", true)), r#"{"model":"gpt-4o", "max_tokens" : 5}"#);
    assert_eq!(edited_for(&deployment("gpt-5-mini", false)), r#"{"model":"gpt-5-mini", "max_tokens" : 5}"#);
    assert_eq!(edited_for(&deployment("gpt-50", true)), r#"{"model":"gpt-50", "max_tokens" : 5}"#);
}

#[test]
fn usage_is_asked_for_where_streams_have_such_an_option() {
    let body = br#"{"model":"x","stream":true}"#;
    let mut scan = BodyScan::new(ScanLimits::default());
    scan.feed(body).unwrap();
    let scanned = scan.finish().unwrap();
    for (endpoint, asked) in
        [(Endpoint::Completions, true), (Endpoint::Responses, false), (Endpoint::Messages, false)]
    {
        assert_eq!(BodyEdits::plan(&scanned, &meta(true), "m", endpoint).injected_usage(), asked);
    }
}

#[test]
fn parameters_are_left_out_and_added() {
    let rules: ParamRules =
        serde_json::from_value(json!({"also_drop": ["b"], "extra_body": {"c": {"x": 1}, "d": null}}))
            .unwrap();
    let body = br#"{ "a": 1.00, "b": [2], "c" :3,"e":{"b":4} }"#;
    assert_eq!(
        String::from_utf8(with_params(body, &rules)).unwrap(),
        r#"{"a":1.00,"e":{"b":4},"c":{"x":1},"d":null}"#
    );
    assert_eq!(with_params(b"{}", &rules), br#"{"c":{"x":1},"d":null}"#);
    assert_eq!(with_params(b"[1]", &rules), b"[1]");
}
