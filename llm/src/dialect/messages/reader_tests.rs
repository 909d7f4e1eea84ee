use proptest::prelude::{Just, Strategy, any, prop_oneof};
use serde_json::json;

use super::*;
use crate::contract::DeploymentMeta;
use crate::dialect::messages::{read_request, write_request};

fn whole(body: &Value, reading: Reading) -> Vec<Event> {
    let mut out = Vec::new();
    Reader::new(reading).document(body.to_string().as_bytes(), &mut out);
    out
}

fn streamed(events: &[Value], reading: Reading) -> Vec<Event> {
    let (mut reader, mut out) = (Reader::new(reading), Vec::new());
    for event in events {
        let data = event.to_string();
        reader.frame(Frame { name: b"", data: data.as_bytes(), exception: false }, &mut out);
    }
    reader.end(&mut out);
    out
}

fn text_of(events: &[Event]) -> String {
    events
        .iter()
        .filter_map(|event| if let Event::Text { text, .. } = event { Some(text.as_str()) } else { None })
        .collect()
}

fn arguments(events: &[Event]) -> String {
    let of =
        |event: &Event| if let Event::ToolArguments { json, .. } = event { Some(json.clone()) } else { None };
    events.iter().filter_map(of).collect()
}

#[test]
fn a_whole_answer() {
    let body = json!({"id": "msg_1", "type": "message", "content": [
        {"type": "thinking", "thinking": "Hm.", "signature": "s"},
        {"type": "text", "text": "Hi", "citations": [{"type": "char_location", "cited_text": "c", "document_title": "t"}]},
        {"type": "tool_use", "id": "toolu_1", "name": "sent_name", "input": {"a": 1}}],
        "stop_reason": "tool_use", "stop_sequence": null,
        "usage": {"input_tokens": 3, "cache_read_input_tokens": 4, "output_tokens": 5}});
    let reading = Reading { tool_names: vec![("sent_name".into(), "own.name".into())], ..Reading::default() };
    let events = whole(&body, reading);
    assert!(events.contains(&Event::Signature { choice: 0, signature: "s".into() }));
    assert!(events.iter().any(|event| matches!(event, Event::ToolCall { name, .. } if name == "own.name")));
    assert!(events.iter().any(
        |event| matches!(event, Event::Citation { citation, .. } if citation.title.as_deref() == Some("t"))
    ));
    assert_eq!(arguments(&events), "{\"a\":1}");
    let usage = events
        .iter()
        .find_map(|event| if let Event::Usage(usage) = event { Some(*usage) } else { None })
        .unwrap();
    assert_eq!((usage.prompt, usage.cached, usage.completion), (7, 4, 5));
    assert_eq!(events.last(), Some(&Event::End));
}

#[test]
fn calls_without_arguments_have_an_object() {
    let events = streamed(
        &[
            json!({"type": "message_start", "message": {"id": "msg_1", "usage": {"input_tokens": 3, "output_tokens": 1}}}),
            json!({"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use", "id": "t", "name": "now", "input": {}}}),
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": ""}}),
            json!({"type": "content_block_stop", "index": 0}),
            json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 9}}),
            json!({"type": "message_stop"}),
        ],
        Reading::default(),
    );
    assert_eq!(arguments(&events), "{}");
    let last = events
        .iter()
        .rev()
        .find_map(|event| if let Event::Usage(usage) = event { Some(*usage) } else { None });
    assert_eq!(last.map(|usage| (usage.prompt, usage.completion)), Some((3, 9)));
    assert_eq!(events.iter().filter(|event| **event == Event::End).count(), 1);
}

#[test]
fn arguments_may_stand_in_the_beginning_of_a_call() {
    let call =
        |name: &str, input: Value| json!({"type": "tool_use", "id": "t", "name": name, "input": input});
    let events = |name: &str, input: Value| {
        let start = json!({"type": "content_block_start", "index": 0, "content_block": call(name, input)});
        let stop = json!({"type": "content_block_stop", "index": 0});
        let reading = Reading { json_tool: Some("json_tool_call".into()), ..Reading::default() };
        streamed(&[start, stop], reading)
    };
    assert_eq!(arguments(&events("look", json!({"a": 1}))), "{\"a\":1}");
    assert_eq!(text_of(&events("json_tool_call", json!({"a": 1}))), "{\"a\":1}");
    // Arguments are an object, whatever came.
    assert_eq!(arguments(&events("look", Value::Null)), "{}");
    let body = json!({"content": [call("look", Value::Null)], "stop_reason": "tool_use"});
    assert_eq!(arguments(&whole(&body, Reading::default())), "{}");
}

#[test]
fn the_schemas_tool_is_the_answer() {
    let reading = Reading { json_tool: Some("json_tool_call".into()), ..Reading::default() };
    let call = json!({"type": "tool_use", "id": "t", "name": "json_tool_call", "input": {"a": 1}});
    let events = whole(&json!({"id": "m", "content": [call], "stop_reason": "tool_use"}), reading.clone());
    assert_eq!(text_of(&events), "{\"a\":1}");
    assert!(events.contains(&Event::Finish { choice: 0, reason: Finish::Stop, stop: None }));
    let events = streamed(
        &[
            json!({"type": "content_block_start", "index": 0, "content_block": call}),
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": "{\"a\":"}}),
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": "1}"}}),
            json!({"type": "content_block_stop", "index": 0}),
            json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}}),
        ],
        reading,
    );
    assert_eq!(text_of(&events), "{\"a\":1}");
    assert!(!events.iter().any(|event| matches!(event, Event::ToolCall { .. })));
}

#[test]
fn every_stop_reason() {
    for (word, reason) in [
        ("end_turn", Finish::Stop),
        ("max_tokens", Finish::Length),
        ("model_context_window_exceeded", Finish::Length),
        ("stop_sequence", Finish::StopSequence),
        ("tool_use", Finish::ToolCalls),
        ("refusal", Finish::Refusal),
        ("pause_turn", Finish::Pause),
        ("something_new", Finish::Stop),
    ] {
        let events =
            whole(&json!({"content": [], "stop_reason": word, "stop_sequence": "S"}), Reading::default());
        assert!(events.contains(&Event::Finish { choice: 0, reason, stop: Some("S".into()) }), "{word}");
    }
}

#[test]
fn errors_have_their_status() {
    let error = |events: &[Event]| {
        events
            .iter()
            .find_map(|event| if let Event::Error(error) = event { Some(error.clone()) } else { None })
    };
    let overloaded = json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}});
    assert_eq!(error(&streamed(std::slice::from_ref(&overloaded), Reading::default())).unwrap().status, 503);
    assert_eq!(error(&whole(&overloaded, Reading::default())).unwrap().message, "Overloaded");
    let cut = streamed(&[json!({"type": "message_start", "message": {}})], Reading::default());
    assert!(error(&cut).unwrap().message.contains("ended before"));
    let mut out = Vec::new();
    Reader::default().document(b"<html>", &mut out);
    assert!(error(&out).is_some() && out.last() == Some(&Event::End));
}

#[test]
fn blocks_of_anthropic_alone_are_kept_whole() {
    let block = json!({"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}});
    let events = streamed(
        &[
            json!({"type": "content_block_start", "index": 0, "content_block": block}),
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": "{\"query\":\"q\"}"}}),
            json!({"type": "content_block_stop", "index": 0}),
            json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}}),
        ],
        Reading::default(),
    );
    let kept = json!({"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "q"}});
    assert!(events.contains(&Event::Other { choice: 0, dialect: Dialect::Messages, value: kept }));
}

#[test]
fn a_stream_that_cannot_be_read_ends_once() {
    let (mut reader, mut out) = (Reader::default(), Vec::new());
    for data in [&b"<html>"[..], b"{\"type\":\"message_stop\"}", b"<html>"] {
        reader.frame(Frame { name: b"", data, exception: false }, &mut out);
    }
    reader.end(&mut out);
    assert!(matches!(out.as_slice(), [Event::Error(_), Event::End]), "{out:?}");
}

/// JSON of any shape under names and words of the dialect.
fn anything() -> impl Strategy<Value = Value> {
    let words = [
        "text",
        "tool_use",
        "thinking",
        "server_tool_use",
        "message_start",
        "content_block_start",
        "message_delta",
        "content_block_delta",
        "content_block_stop",
        "input_json_delta",
        "text_delta",
        "citations_delta",
        "error",
    ];
    let names = [
        "type",
        "index",
        "message",
        "content_block",
        "delta",
        "content",
        "input",
        "text",
        "usage",
        "stop_reason",
        "partial_json",
        "citation",
        "citations",
        "error",
        "input_tokens",
        "system",
        "messages",
        "role",
        "source",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        proptest::sample::select(words.to_vec()).prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 48, 6, move |inner| {
        let member = (proptest::sample::select(names.to_vec()).prop_map(str::to_owned), inner.clone());
        prop_oneof![
            proptest::collection::vec(inner, 0..4).prop_map(Value::from),
            proptest::collection::vec(member, 0..6).prop_map(|all| Value::Object(all.into_iter().collect())),
        ]
    })
}

proptest::proptest! {
    #[test]
    fn any_json_is_read_and_answered(frames in proptest::collection::vec(anything(), 1..8)) {
        let events = streamed(&frames, Reading { json_tool: Some("text".into()), ..Reading::default() });
        proptest::prop_assert_eq!(events.last(), Some(&Event::End));
        proptest::prop_assert_eq!(events.iter().filter(|event| **event == Event::End).count(), 1);
        for frame in frames {
            let events = whole(&frame, Reading::default());
            proptest::prop_assert_eq!(events.last(), Some(&Event::End));
            let turn = json!({"role": "assistant", "content": [frame]});
            let body = json!({"max_tokens": 9, "messages": [turn], "output_config": frame, "system": frame});
            let only = json!({"max_tokens": 9, "messages": [turn]});
            for body in [body, only] {
                if let Ok(request) = read_request(body.to_string().as_bytes()) {
                    let _ = write_request(request, &DeploymentMeta::default());
                }
            }
        }
    }
}

proptest::proptest! {
    #[test]
    fn nothing_panics(data in "[\\[\\]{}\":,a-z0-9_ ]{0,80}") {
        let (mut reader, mut out) = (Reader::default(), Vec::new());
        reader.frame(Frame { name: b"content_block_delta", data: data.as_bytes(), exception: false }, &mut out);
        reader.document(data.as_bytes(), &mut out);
        reader.end(&mut out);
    }
}
