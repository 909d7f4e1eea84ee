//! Golden matrix: every fixture (shaped like what providers send) through the rewriter as the client sees it.

use std::path::PathBuf;

use attache_llm::response::{
    FirstEvent, JsonRewriter, RewriteOptions, StreamRewriter, UpstreamError, error_body,
};
use serde_json::{Value, json};

fn fixtures(kind: &str) -> Vec<(String, Vec<u8>)> {
    let folder: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests", "fixtures", kind].iter().collect();
    let mut found: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            (path.file_stem().unwrap().to_string_lossy().into_owned(), std::fs::read(&path).unwrap())
        })
        .collect();
    found.sort();
    assert!(!found.is_empty());
    found
}

fn options(injected_usage: bool) -> RewriteOptions {
    RewriteOptions {
        client_model: "my-alias".into(),
        want_usage: !injected_usage,
        injected_usage,
        input_estimate: 40,
        ..RewriteOptions::default()
    }
}

fn shown(error: Option<&UpstreamError>) -> Value {
    error.map_or(Value::Null, |error| {
        json!({"status": error.status, "message": error.message, "kind": error.kind, "code": error.code,
            "body": String::from_utf8_lossy(&error.body)})
    })
}

fn lines(bytes: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(bytes).split_inclusive('\n').map(str::to_owned).collect()
}

fn stream(body: &[u8], injected: bool, piece: usize) -> Value {
    let mut rewriter = StreamRewriter::new(options(injected));
    let mut out = Vec::new();
    for chunk in body.chunks(piece) {
        rewriter.push(chunk, false, &mut out);
    }
    rewriter.push(b"", true, &mut out);
    json!({"out": lines(&out), "usage": rewriter.usage(), "events": rewriter.events(), "done": rewriter.done(),
        "finish_reason": rewriter.finish_reason(), "error": shown(rewriter.error_in_stream())})
}

#[test]
fn streams() {
    for (name, body) in fixtures("stream") {
        let first = match StreamRewriter::first_event(&body, true) {
            FirstEvent::Error(error) => json!({"error": shown(Some(&error))}),
            other => json!(format!("{other:?}")),
        };
        let asked = stream(&body, false, body.len());
        let injected = stream(&body, true, body.len());
        for piece in [1, 2, 7, 100] {
            assert_eq!(stream(&body, false, piece), asked, "{name} in pieces of {piece}");
            assert_eq!(stream(&body, true, piece), injected, "{name} in pieces of {piece}");
        }
        let injected = if injected == asked { json!("the same") } else { injected };
        insta::assert_json_snapshot!(
            format!("stream-{name}"),
            json!({"first": first, "asked": asked, "injected": injected})
        );
    }
}

fn document(body: &[u8], piece: usize) -> Value {
    let mut rewriter = JsonRewriter::new(options(false));
    let mut out = Vec::new();
    for chunk in body.chunks(piece) {
        rewriter.push(chunk, false, &mut out);
    }
    rewriter.push(b"", true, &mut out);
    json!({"out": lines(&out), "usage": rewriter.usage(), "finish_reason": rewriter.finish_reason(),
        "error": shown(rewriter.error())})
}

#[test]
fn documents() {
    for (name, body) in fixtures("json") {
        let whole = document(&body, body.len());
        for piece in [1, 7, 100] {
            assert_eq!(document(&body, piece), whole, "{name} in pieces of {piece}");
        }
        insta::assert_json_snapshot!(format!("json-{name}"), whole);
    }
}

#[test]
fn errors() {
    for (name, body) in fixtures("error") {
        let status = name.split('-').next().unwrap().parse().unwrap();
        let out = error_body(status, &body);
        assert!(serde_json::from_slice::<Value>(&out).unwrap()["error"]["message"].is_string(), "{name}");
        insta::assert_json_snapshot!(format!("error-{name}"), json!(lines(&out)));
    }
}
