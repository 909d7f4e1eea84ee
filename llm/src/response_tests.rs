use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn options(injected_usage: bool) -> RewriteOptions {
    RewriteOptions {
        client_model: "al\"ias".into(),
        injected_usage,
        input_estimate: 9,
        ..RewriteOptions::default()
    }
}

/// Output of a stream given in pieces; what is in flight is checked to be bounded and truthful on the way.
fn rewritten(stream: &[u8], cuts: &[usize], injected: bool) -> (Vec<u8>, StreamRewriter) {
    let mut rewriter = StreamRewriter::new(options(injected));
    let mut out = Vec::new();
    let mut rest = stream;
    for cut in cuts {
        let (head, tail) = rest.split_at(cut % (rest.len() + 1));
        let before = out.len();
        if !rewriter.push(head, false, &mut out) {
            assert_eq!(&out[before..], head);
        }
        rest = tail;
    }
    rewriter.push(rest, true, &mut out);
    (out, rewriter)
}

const CHUNK: &str = r#"{"id":"1","model":"gpt","choices":[{"delta":{"content":"abcdefgh"}}]}"#;

#[test]
fn untouched_chunks_are_reported_as_such() {
    let mut rewriter = StreamRewriter::new(RewriteOptions { client_model: "gpt".into(), ..options(true) });
    let mut out = Vec::new();
    assert!(!rewriter.push(format!("data: {CHUNK}\n\n").as_bytes(), false, &mut out));
    assert!(!rewriter.push(b": ping\n\n", false, &mut out));
    assert!(rewriter.push(b"data: {\"mod", false, &mut out));
    assert!(rewriter.push(b"el\":\"gpt\"}\n\n", false, &mut out));
    assert!(!rewriter.push(b"data: [DONE]\n\n", true, &mut out));
    assert!(rewriter.done());
    let usage = rewriter.usage().unwrap();
    assert_eq!((usage.prompt, usage.completion, usage.estimated), (9, 2, true));
}

#[test]
fn nothing_produced_is_no_usage() {
    let (_, rewriter) = rewritten(b": ping\n\ndata: [DONE]\n\n", &[], true);
    assert_eq!((rewriter.usage(), rewriter.events()), (None, 0));
    let mut json = JsonRewriter::new(options(true));
    json.push(b"", true, &mut Vec::new());
    assert_eq!(json.usage(), None);
}

#[test]
fn first_events() {
    let first = |text: &str, end| StreamRewriter::first_event(text.as_bytes(), end);
    assert_eq!(first("", false), FirstEvent::Incomplete);
    assert_eq!(first("", true), FirstEvent::Empty);
    assert_eq!(first(": ping\n\n", false), FirstEvent::Incomplete);
    assert_eq!(first("data: {\"err", false), FirstEvent::Incomplete);
    assert_eq!(first(": ping\n\ndata: {\"choices\":[]}\n\n", false), FirstEvent::Incomplete);
    assert_eq!(first(&format!(": ping\n\ndata: {CHUNK}\n\n"), false), FirstEvent::Good);
    assert_eq!(first(&format!("data: {CHUNK}\n\ndata: {{\"error\":1}}\n\n"), false), FirstEvent::Good);
    assert_eq!(first("data: [DONE]\n\n", false), FirstEvent::Empty);
    assert_eq!(first(&format!("data: {}", "x".repeat(2_000_000)), false), FirstEvent::Good);
    let error =
        first("data: {\"error\":{\"message\":\"slow down\",\"code\":\"rate_limit_exceeded\"}}\n\n", false);
    let FirstEvent::Error(error) = error else { panic!("{error:?}") };
    assert_eq!((error.status, error.message.as_str()), (429, "slow down"));
    assert_eq!(error.code.as_deref(), Some("rate_limit_exceeded"));
    assert!(matches!(first("data: {\"error\":\"x\"}", true), FirstEvent::Error(_)));
    assert!(matches!(first("{\"error\":{\"message\":\"x\"}}", true), FirstEvent::Error(_)));
    assert_eq!(first("data: {\"error\":null,\"choices\":[{}]}\n\n", false), FirstEvent::Good);
}

#[test]
fn the_usage_event_is_dropped_only_when_injected() {
    let stream = format!(
        "data: {CHUNK}\r\n\r\ndata: {{\"choices\":[],\"usage\":{{\"prompt_tokens\":3,\"completion_tokens\":2}}}}\r\n\r\ndata: [DONE]\r\n\r\n"
    );
    for cut in 0..stream.len() {
        let (out, rewriter) = rewritten(stream.as_bytes(), &[cut], true);
        let text = String::from_utf8(out).unwrap();
        assert!(
            !text.contains("usage") && text.ends_with("}\r\n\r\ndata: [DONE]\r\n\r\n"),
            "{cut}: {text:?}"
        );
        assert_eq!(rewriter.usage().map(|usage| usage.total), Some(5));
    }
    let (out, _) = rewritten(stream.as_bytes(), &[], false);
    assert!(String::from_utf8(out).unwrap().contains("usage"));
}

#[test]
fn large_documents_pass_with_the_usage_of_their_end() {
    let document = json!({"model": "gpt", "data": "\"usage\":{\"prompt_tokens\":1}".repeat(100),
        "usage": {"prompt_tokens": 70, "total_tokens": 70}});
    let body = serde_json::to_vec(&document).unwrap();
    for piece in [1, 5, 1_000] {
        let mut rewriter = JsonRewriter::with_max(options(false), 64);
        let mut out = Vec::new();
        for chunk in body.chunks(piece) {
            rewriter.push(chunk, false, &mut out);
        }
        rewriter.push(b"", true, &mut out);
        assert_eq!(out, body);
        assert_eq!(rewriter.usage().map(|usage| (usage.prompt, usage.estimated)), Some((70, false)));
    }
    let mut rewriter = JsonRewriter::with_max(options(false), 4);
    rewriter.push(b"{\"model\":\"x\"}", true, &mut Vec::new());
    assert_eq!(rewriter.usage(), Some(Usage::estimate(9, 0)));
}

#[test]
fn error_bodies_are_bounded_and_masked() {
    let body = error_body(500, format!("sk-abcdefghijkl1234 {}", "é".repeat(100_000)).as_bytes());
    assert!(body.len() < 10_000);
    assert!(!String::from_utf8(body).unwrap().contains("abcdefgh"));
    let text = String::from_utf8(error_body(503, b" \n")).unwrap();
    assert!(text.contains("503"), "{text}");
}

fn event() -> impl Strategy<Value = String> {
    let data = prop_oneof![
        Just(CHUNK.to_owned()),
        Just("[DONE]".to_owned()),
        Just(r#"{"choices":[],"usage":{"prompt_tokens":1},"model":"m"}"#.to_owned()),
        Just(r#"{"error":{"message":"x"}}"#.to_owned()),
        Just(
            r#"{"model":"a","x":{"model":"b"},"choices":[{"delta":{"content":"\"model\":\"c\""}}]}"#
                .to_owned()
        ),
        "[{}\\[\\]\",:a-c\\\\]{0,20}",
    ];
    (data, "\n|\r|\r\n", "(: c|event: x|id: 1)?").prop_map(|(data, end, other)| {
        if other.is_empty() {
            format!("data: {data}{end}{end}")
        } else {
            format!("{other}{end}data: {data}{end}{end}")
        }
    })
}

proptest! {
    #[test]
    fn splits_do_not_matter(events in proptest::collection::vec(event(), 0..8), cuts in proptest::collection::vec(0usize..60, 0..20), injected in any::<bool>()) {
        let stream = events.concat();
        let (whole, seen) = rewritten(stream.as_bytes(), &[], injected);
        let (pieces, seen_pieces) = rewritten(stream.as_bytes(), &cuts, injected);
        prop_assert_eq!(String::from_utf8(whole).unwrap(), String::from_utf8(pieces).unwrap());
        prop_assert_eq!(seen.usage(), seen_pieces.usage());
        prop_assert_eq!(seen.done(), seen_pieces.done());
        prop_assert_eq!(seen.error_in_stream(), seen_pieces.error_in_stream());
    }

    #[test]
    fn any_stream(bytes in proptest::collection::vec(any::<u8>(), 0..300), cuts in proptest::collection::vec(any::<usize>(), 0..6)) {
        let _ = StreamRewriter::first_event(&bytes, false);
        let _ = StreamRewriter::first_event(&bytes, true);
        // Random bytes hold no event to rewrite: everything must come out as it went in.
        let (out, _) = rewritten(&bytes, &cuts, true);
        prop_assert_eq!(out, bytes);
    }

    #[test]
    fn any_document(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in r#"[{}\[\]",:\\u0-9a-e \n]{0,80}"#, end in 0usize..100) {
        for body in [bytes.as_slice(), text.as_bytes()] {
            let mut rewriter = JsonRewriter::with_max(options(true), 100);
            let mut out = Vec::new();
            let (head, tail) = body.split_at(end.min(body.len()));
            rewriter.push(head, false, &mut out);
            rewriter.push(tail, true, &mut out);
            prop_assert_eq!(out.as_slice(), body);
            let error = error_body(500, body);
            prop_assert!(serde_json::from_slice::<Value>(&error).is_ok());
        }
    }

    #[test]
    fn only_the_top_level_model_changes(other in "\\PC{0,20}", model in "\\PC{0,20}", nested in "\\PC{0,20}", pretty in any::<bool>()) {
        let document = json!({"a": other, "model": model, "choices": [{"message": {"content": nested, "model": model}}], "z": {"model": nested}});
        let body = if pretty { serde_json::to_vec_pretty(&document) } else { serde_json::to_vec(&document) }.unwrap();
        let mut rewriter = JsonRewriter::new(options(false));
        let mut out = Vec::new();
        rewriter.push(&body, true, &mut out);
        let mut expected = document;
        expected["model"] = json!("al\"ias");
        prop_assert_eq!(serde_json::from_slice::<Value>(&out).unwrap(), expected);
    }
}

#[test]
fn the_tier_that_was_given_is_part_of_the_usage() {
    const USAGE: &str = r#""usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}"#;
    let document = |text: &str, max: usize| {
        let mut rewriter = JsonRewriter::with_max(RewriteOptions::default(), max);
        rewriter.push(text.as_bytes(), true, &mut Vec::new());
        rewriter.usage().map(|usage| usage.class)
    };
    for (tier, class) in [
        ("\"flex\"", Class::Flex),
        ("\"priority\"", Class::Priority),
        ("\"batch\"", Class::Batch),
        ("\"default\"", Class::Standard),
        ("\"new\"", Class::Standard),
        ("null", Class::Standard),
        ("7", Class::Standard),
    ] {
        let text = format!(r#"{{"choices":[],{USAGE},"service_tier":{tier}}}"#);
        assert_eq!(document(&text, 1_000), Some(class), "{tier}");
        assert_eq!(document(&text, 10), Some(class), "{tier}, too large to be held");
        let events = format!(
            "data: {{\"choices\":[{{\"delta\":{{\"content\":\"a\"}}}}],\"service_tier\":{tier}}}\n\n\
             data: {{\"choices\":[],{USAGE}}}\n\ndata: [DONE]\n\n"
        );
        let mut rewriter = StreamRewriter::new(RewriteOptions::default());
        rewriter.push(events.as_bytes(), true, &mut Vec::new());
        assert_eq!(rewriter.usage().map(|usage| (usage.class, usage.total)), Some((class, 5)), "{tier}");
    }
}

/// The stream as the client sees it, in one piece and cut at every byte.
fn streamed(body: &[u8], options: &RewriteOptions) -> (String, StreamRewriter) {
    let run = |cut: usize| {
        let mut rewriter = StreamRewriter::new(options.clone());
        let mut out = Vec::new();
        let (first, rest) = body.split_at(cut);
        rewriter.push(first, false, &mut out);
        rewriter.push(rest, true, &mut out);
        (String::from_utf8(out).unwrap(), rewriter)
    };
    let whole = run(body.len());
    for cut in 0..body.len() {
        let (out, rewriter) = run(cut);
        assert_eq!((out, rewriter.usage()), (whole.0.clone(), whole.1.usage()), "cut at {cut}");
    }
    whole
}

#[test]
fn messages_pass_with_the_clients_model_and_both_counts() {
    let body = concat!(
        "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"model\":\"claude-x\",",
        "\"usage\":{\"input_tokens\":25,\"cache_read_input_tokens\":5,\"output_tokens\":1}}}\n\n",
        "event: ping\ndata: {\"type\":\"ping\"}\n\n",
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":",
        "{\"type\":\"text_delta\",\"text\":\"Hi\"}}\n\n",
        "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},",
        "\"usage\":{\"output_tokens\":15}}\n\n",
        "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
    );
    let (out, rewriter) = streamed(body.as_bytes(), &options(false));
    assert_eq!(out, body.replace("claude-x", "al\\\"ias"));
    let usage = rewriter.usage().unwrap();
    assert_eq!((usage.prompt, usage.cached, usage.completion, usage.total), (30, 5, 15, 45));
    assert!(rewriter.done());
    assert_eq!(rewriter.finish_reason(), Some("end_turn"));
}

#[test]
fn an_announced_answer_is_not_begun() {
    let opening =
        "data: {\"type\":\"message_start\",\"message\":{\"model\":\"m\"}}\n\ndata: {\"type\":\"ping\"}\n\n";
    assert_eq!(StreamRewriter::first_event(opening.as_bytes(), false), FirstEvent::Incomplete);
    let error = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n";
    let FirstEvent::Error(error) =
        StreamRewriter::first_event((opening.to_owned() + error).as_bytes(), false)
    else {
        panic!("no error");
    };
    assert_eq!(error.status, 503);
    let created = "data: {\"type\":\"response.created\",\"response\":{\"model\":\"m\",\"error\":null}}\n\n";
    assert_eq!(StreamRewriter::first_event(created.as_bytes(), false), FirstEvent::Incomplete);
    let delta = "data: {\"type\":\"response.output_text.delta\",\"delta\":\"Hi\"}\n\n";
    assert_eq!(StreamRewriter::first_event((created.to_owned() + delta).as_bytes(), false), FirstEvent::Good);
}

#[test]
fn responses_pass_with_the_clients_model() {
    let body = concat!(
        "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"model\":\"gpt-x\",\"error\":null}}\n\n",
        "data: {\"type\":\"response.output_text.delta\",\"delta\":\"Hi\"}\n\n",
        "data: {\"type\":\"response.completed\",\"response\":{\"model\":\"gpt-x\",\"usage\":{\"input_tokens\":3,",
        "\"input_tokens_details\":{\"cached_tokens\":1},\"output_tokens\":2,\"total_tokens\":5}}}\n\n",
    );
    let (out, rewriter) = streamed(body.as_bytes(), &options(false));
    assert_eq!(out, body.replace("gpt-x", "al\\\"ias"));
    let usage = rewriter.usage().unwrap();
    assert_eq!((usage.prompt, usage.cached, usage.completion), (3, 1, 2));
    assert!(rewriter.done());
}

#[test]
fn an_error_in_a_chat_stream_is_followed_by_its_end() {
    let body = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\ndata: {\"error\":{\"message\":\"broke\"}}\n\n";
    let asked = RewriteOptions { done_mark: true, ..options(false) };
    let (out, rewriter) = streamed(body.as_bytes(), &asked);
    assert_eq!(out, format!("{body}data: [DONE]\n\n"));
    assert!(rewriter.error_in_stream().is_some());
}

proptest! {
    /// Events that are alike but for their text take a short way: what comes of them must be what the long way makes.
    #[test]
    fn events_alike_are_rewritten_as_any(
        events in proptest::collection::vec((r#"[a-c"\\/{}:,é\n ]{0,6}"#, 0u8..6, any::<bool>(), r#"[x-z]{0,3}"#), 0..12),
        ours in any::<bool>(),
    ) {
        let model = if ours { "al\"ias" } else { "gpt" };
        let event = |(text, kind, padded, padding): &(String, u8, bool, String)| {
            let mut choice = json!({"index": 0, "delta": {"content": text}, "finish_reason": null});
            let mut more = json!({});
            match kind {
                0 => choice["finish_reason"] = json!("stop"),
                1 => choice["delta"] = json!({"content": text, "refusal": text}),
                2 => more["usage"] = json!({"prompt_tokens": 1, "completion_tokens": 2}),
                _ => {}
            }
            let mut whole = json!({"id": "1", "model": model, "choices": [choice]});
            if *padded {
                whole["obfuscation"] = json!(padding);
            }
            whole.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            format!("data: {whole}\n\n")
        };
        let (mut stream, mut expected, mut together) = (String::new(), String::new(), 0);
        let mut alone = Vec::new();
        for raw in events.iter().map(event) {
            let (out, rewriter) = streamed(raw.as_bytes(), &options(false));
            expected.push_str(&out);
            together += rewriter.events();
            alone.push(rewriter.finish_reason().map(str::to_owned));
            stream.push_str(&raw);
        }
        let text_bytes: usize =
            events.iter().map(|(text, kind, ..)| text.len() * if *kind == 1 { 2 } else { 1 }).sum();
        let (out, rewriter) = streamed(stream.as_bytes(), &options(false));
        prop_assert_eq!(out, expected);
        prop_assert_eq!(rewriter.events(), together);
        prop_assert_eq!(rewriter.finish_reason().map(str::to_owned), alone.into_iter().flatten().last());
        if events.iter().all(|(_, kind, ..)| *kind != 2) && !events.is_empty() {
            let usage = rewriter.usage().unwrap();
            prop_assert_eq!(usage.completion, u64::try_from(text_bytes).unwrap().div_ceil(4));
        }
    }
}
