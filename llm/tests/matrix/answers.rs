//! What a client sees of each answer of each provider: whole, as a stream, and as a stream cut anywhere.

use attache_llm::dialect::attempt::{Back, Translation};
use attache_llm::dialect::{Dialect, Route, Translator};
use attache_llm::error::ErrorShape;
use attache_llm::path::Endpoint;
use attache_llm::response::{JsonRewriter, RewriteOptions, StreamRewriter, classify, error_body};
use attache_llm::usage::Usage;
use serde_json::{Map, Value, json};

use crate::fixture;
use crate::pairs::{CLIENTS, UPSTREAMS, Upstream, client_name};
use crate::requests;

pub(crate) const CASES: [&str; 9] =
    ["plain", "tools", "parallel-tools", "reasoning", "length", "filter", "no-usage", "error-inside", "cut"];
const ERRORS: [&str; 4] = ["context", "rate-limit", "content-policy", "overloaded"];

/// What the client sees, and what the gateway noted.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Seen {
    pub(crate) text: String,
    pub(crate) usage: Option<Usage>,
    /// Message of the error inside.
    pub(crate) error: Option<String>,
}

fn options(client: Endpoint) -> RewriteOptions {
    RewriteOptions {
        client_model: "asked".into(),
        want_usage: true,
        input_estimate: 9,
        shape: client.errors(),
        done_mark: matches!(client, Endpoint::ChatCompletions | Endpoint::Completions),
        ..RewriteOptions::default()
    }
}

fn translation(client: Endpoint, upstream: &Upstream, stream: bool) -> Option<Translation> {
    let body = requests::body(client, "plain", stream).expect("every client has a plain request");
    let sent = requests::sent(client, upstream, &body).expect("a plain request is translated");
    match sent.back {
        Back::Same | Back::Embeddings(_) => None,
        Back::Translate(translation) => {
            let mut translation = *translation;
            translation.caller.want_usage = true;
            Some(translation)
        }
    }
}

fn translator(translation: &Translation) -> Translator {
    let Translation { upstream, reading, caller } = translation.clone();
    Translator::new(upstream, reading, caller, 9).expect("both dialects are spoken")
}

/// A whole answer.
pub(crate) fn whole(client: Endpoint, upstream: &Upstream, body: &[u8]) -> Seen {
    let Some(translation) = translation(client, upstream, false) else {
        let mut rewriter = JsonRewriter::new(options(client));
        let mut out = Vec::new();
        rewriter.push(body, true, &mut out);
        return seen(&out, rewriter.usage(), rewriter.error().map(|error| error.message.clone()));
    };
    let mut translator = translator(&translation);
    match translator.document(body) {
        Ok(out) => seen(&out, translator.usage(), None),
        Err(error) => seen(&error.body, translator.usage(), Some(error.message)),
    }
}

/// A stream, in the pieces that `cuts` make of it.
fn streamed(client: Endpoint, translation: Option<&Translation>, body: &[u8], cuts: &[usize]) -> Seen {
    let mut pieces = Vec::new();
    let mut at = 0;
    for cut in cuts {
        pieces.push(&body[at..*cut]);
        at = *cut;
    }
    pieces.push(&body[at..]);
    let (last, mut out) = (pieces.len() - 1, Vec::new());
    let Some(translation) = translation else {
        let mut rewriter = StreamRewriter::new(options(client));
        for (number, piece) in pieces.iter().enumerate() {
            rewriter.push(piece, number == last, &mut out);
        }
        return seen(&out, rewriter.usage(), rewriter.error_in_stream().map(|error| error.message.clone()));
    };
    let mut translator = translator(translation);
    for (number, piece) in pieces.iter().enumerate() {
        translator.push(piece, number == last, &mut out);
    }
    seen(&out, translator.usage(), translator.error().map(|error| error.message.clone()))
}

fn seen(out: &[u8], usage: Option<Usage>, error: Option<String>) -> Seen {
    Seen { text: String::from_utf8(out.to_vec()).expect("what clients see is text"), usage, error }
}

/// The stream of a case as the provider's bytes.
pub(crate) fn stream_fixture(dialect: Dialect, case: &str) -> Option<Vec<u8>> {
    if dialect != Dialect::Converse {
        return fixture(&format!("answers/{}/{case}.sse", dialect.name()));
    }
    let lines = fixture(&format!("answers/converse/{case}.frames"))?;
    let lines = String::from_utf8(lines).expect("fixtures are UTF-8");
    Some(lines.lines().flat_map(aws_message).collect())
}

/// One message of an AWS event stream, written here and not by the code under test.
fn aws_message(line: &str) -> Vec<u8> {
    let frame: Value = serde_json::from_str(line).expect("frames are JSON");
    let exception = frame.get("exception");
    let (kind, name, value) = match exception {
        Some(name) => ("exception", ":exception-type", name),
        None => ("event", ":event-type", &frame["event"]),
    };
    let mut headers = Vec::new();
    for (name, value) in [
        (name, value.as_str().expect("a name")),
        (":content-type", "application/json"),
        (":message-type", kind),
    ] {
        headers.push(u8::try_from(name.len()).expect("short"));
        headers.extend_from_slice(name.as_bytes());
        headers.push(7);
        headers.extend_from_slice(&u16::try_from(value.len()).expect("short").to_be_bytes());
        headers.extend_from_slice(value.as_bytes());
    }
    let payload = frame["data"].to_string();
    let length = |bytes: usize| u32::try_from(bytes).expect("short").to_be_bytes();
    let mut out = Vec::new();
    out.extend_from_slice(&length(16 + headers.len() + payload.len()));
    out.extend_from_slice(&length(headers.len()));
    out.extend_from_slice(&crc32fast::hash(&out).to_be_bytes());
    out.extend_from_slice(&headers);
    out.extend_from_slice(payload.as_bytes());
    let crc = crc32fast::hash(&out).to_be_bytes();
    out.extend_from_slice(&crc);
    out
}

/// A stream in one piece.
pub(crate) fn stream(client: Endpoint, upstream: &Upstream, case: &str) -> Option<Seen> {
    let body = stream_fixture(upstream.way(client).1, case)?;
    Some(streamed(client, translation(client, upstream, true).as_ref(), &body, &[]))
}

/// A stream that is the same wherever it is cut.
fn stream_cut_anywhere(client: Endpoint, upstream: &Upstream, case: &str) -> Option<Seen> {
    let body = stream_fixture(upstream.way(client).1, case)?;
    let translation = translation(client, upstream, true);
    let all = streamed(client, translation.as_ref(), &body, &[]);
    for cut in 1..body.len() {
        let parts = streamed(client, translation.as_ref(), &body, &[cut]);
        assert_eq!(parts, all, "{} to {}, {case}, cut at {cut}", upstream.name, client_name(client));
    }
    let every: Vec<usize> = (1..body.len()).collect();
    assert_eq!(streamed(client, translation.as_ref(), &body, &every), all, "byte by byte");
    Some(all)
}

pub(crate) fn document(client: Endpoint, upstream: &Upstream, case: &str) -> Option<Seen> {
    let body = fixture(&format!("answers/{}/{case}.json", upstream.way(client).1.name()))?;
    Some(whole(client, upstream, &body))
}

fn shown(seen: &Seen) -> Value {
    let out = match serde_json::from_str::<Value>(&seen.text) {
        Ok(json) => json,
        Err(_) => seen.text.lines().filter(|line| !line.is_empty()).collect(),
    };
    let mut shown = json!({"client": out, "usage": seen.usage});
    if let Some(error) = &seen.error {
        shown["error"] = json!(error);
    }
    shown
}

#[test]
fn clients_see_the_answer() {
    for client in CLIENTS {
        for upstream in UPSTREAMS {
            let mut all = Map::new();
            for case in CASES {
                if let Some(seen) = document(client, &upstream, case) {
                    all.insert(case.to_owned(), shown(&seen));
                }
                if let Some(seen) = stream_cut_anywhere(client, &upstream, case) {
                    all.insert(format!("{case}, stream"), shown(&seen));
                }
            }
            insta::assert_json_snapshot!(format!("answer-{}-{}", client_name(client), upstream.name), all);
        }
    }
}

#[test]
fn clients_see_errors_in_their_own_shape() {
    for shape in [ErrorShape::Openai, ErrorShape::Anthropic] {
        for dialect in [Dialect::Chat, Dialect::Messages, Dialect::Converse, Dialect::Gemini] {
            let mut all = Map::new();
            for case in ERRORS {
                let path = format!("errors/{}/{case}.json", dialect.name());
                let error: Value = serde_json::from_slice(&fixture(&path).expect(&path)).expect("JSON");
                let status = u16::try_from(error["status"].as_u64().expect("a status")).expect("a status");
                let body = error["body"].to_string();
                let seen = shape.pass(status, body.as_bytes(), error_body);
                let seen: Value = serde_json::from_slice(&seen).expect("JSON");
                let class = classify(status, body.as_bytes()).name();
                all.insert(case.to_owned(), json!({"status": status, "class": class, "client": seen}));
            }
            insta::assert_json_snapshot!(format!("error-{shape:?}-{}", dialect.name()), all);
        }
    }
}

/// Same content whole and streamed: what a client gathers from either.
#[test]
fn a_route_that_passes_is_not_translated() {
    let openai = &UPSTREAMS[0];
    assert_eq!(openai.way(Endpoint::ChatCompletions).0, Route::Same);
    assert_eq!(openai.way(Endpoint::Messages).0, Route::Translate(Dialect::Chat));
}
