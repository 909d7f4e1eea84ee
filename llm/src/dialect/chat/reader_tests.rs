use serde_json::json;

use super::*;
use crate::dialect::answer::Citation;

pub(super) fn stream(frames: &[&str]) -> Vec<Event> {
    let mut reader = Reader::new(Reading::default());
    let mut out = Vec::new();
    for data in frames {
        reader.frame(Frame { name: b"", data: data.as_bytes(), exception: false }, &mut out);
    }
    reader.end(&mut out);
    out
}

fn chunks(choices: &[Value], usage: Value) -> Vec<Event> {
    let mut frames: Vec<String> = choices
        .iter()
        .map(|choice| {
            json!({"id": "chatcmpl-1", "created": 5, "model": "x", "choices": [choice]}).to_string()
        })
        .collect();
    frames.push(json!({"id": "chatcmpl-1", "choices": [], "usage": usage}).to_string());
    frames.push("[DONE]".to_owned());
    stream(&frames.iter().map(String::as_str).collect::<Vec<_>>())
}

fn deltas(deltas: &[Value], reason: &str) -> Vec<Event> {
    let mut choices: Vec<Value> =
        deltas.iter().map(|delta| json!({"index": 0, "delta": delta, "finish_reason": null})).collect();
    choices.push(json!({"index": 0, "delta": {}, "finish_reason": reason}));
    chunks(&choices, Value::Null)
}

fn whole(message: Value, reason: &str) -> Vec<Event> {
    let body = json!({"id": "chatcmpl-1", "created": 5, "choices": [{"index": 0, "message": message, "finish_reason": reason}]});
    let mut out = Vec::new();
    Reader::new(Reading::default()).document(body.to_string().as_bytes(), &mut out);
    out
}

/// Neighbouring pieces joined, so that a stream's events are those of the whole answer.
fn joined(events: Vec<Event>) -> Vec<Event> {
    let mut out: Vec<Event> = Vec::new();
    for event in events {
        match (out.last_mut(), event) {
            (Some(Event::Text { text, .. }), Event::Text { text: more, .. })
            | (Some(Event::Thinking { text, .. }), Event::Thinking { text: more, .. })
            | (Some(Event::ToolArguments { json: text, .. }), Event::ToolArguments { json: more, .. }) => {
                text.push_str(&more);
            }
            (_, event) => out.push(event),
        }
    }
    out
}

fn start() -> Event {
    Event::Start { id: Some("chatcmpl-1".to_owned()), created: Some(5) }
}

fn text(text: &str) -> Event {
    Event::Text { choice: 0, text: text.to_owned() }
}

fn thinking(text: &str) -> Event {
    Event::Thinking { choice: 0, text: text.to_owned() }
}

fn call(index: u32, id: &str, name: &str) -> Event {
    Event::ToolCall { choice: 0, index, id: id.to_owned(), name: name.to_owned(), signature: None }
}

fn arguments(index: u32, json: &str) -> Event {
    Event::ToolArguments { choice: 0, index, json: json.to_owned() }
}

fn finished(reason: Finish) -> Event {
    Event::Finish { choice: 0, reason, stop: None }
}

#[test]
fn words_and_usage() {
    let choices = [
        json!({"index": 0, "delta": {"role": "assistant", "content": "", "refusal": null}, "finish_reason": null}),
        json!({"index": 0, "delta": {"content": "Hel"}, "finish_reason": null}),
        json!({"index": 0, "delta": {"content": "lo"}, "logprobs": null, "finish_reason": null}),
        json!({"index": 0, "delta": {}, "finish_reason": "stop"}),
    ];
    let usage = json!({"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5});
    let used = Event::Usage(Usage::from_value(&usage).unwrap());
    assert_eq!(
        chunks(&choices, usage),
        [start(), text("Hel"), text("lo"), finished(Finish::Stop), used, Event::End]
    );
}

#[test]
fn parallel_calls_whole_and_in_pieces() {
    let pieces = deltas(
        &[
            json!({"content": null, "tool_calls": [{"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}]}),
            json!({"tool_calls": [{"index": 0, "function": {"arguments": "{\"x\""}}]}),
            json!({"tool_calls": [{"index": 0, "function": {"arguments": ":1}"}}]}),
            json!({"tool_calls": [{"index": 1, "id": "b", "type": "function", "function": {"name": "g", "arguments": ""}}]}),
        ],
        "tool_calls",
    );
    let at_once = whole(
        json!({"content": "", "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{\"x\":1}"}},
            {"id": "b", "type": "function", "function": {"name": "g", "arguments": {}}}
        ]}),
        "tool_calls",
    );
    let expected = [
        start(),
        call(0, "a", "f"),
        arguments(0, "{\"x\":1}"),
        call(1, "b", "g"),
        arguments(1, "{}"),
        finished(Finish::ToolCalls),
        Event::End,
    ];
    assert_eq!(joined(pieces), expected);
    assert_eq!(at_once, expected);
}

#[test]
fn liberties_with_calls() {
    let expected = [
        start(),
        call(0, "a", "f"),
        arguments(0, "{\"x\":1}"),
        call(1, "b", "f"),
        arguments(1, "{\"x\":2}"),
        finished(Finish::ToolCalls),
        Event::End,
    ];
    let f = |id: &str, arguments: &str| json!({"id": id, "function": {"name": "f", "arguments": arguments}});
    let with_index = |index: u64, mut call: Value| {
        call["index"] = index.into();
        call
    };
    let go_on = |arguments: &str| json!({"function": {"arguments": arguments}});
    let cases: [(&str, Vec<Value>); 5] = [
        ("whole, no index", vec![f("a", "{\"x\":1}"), f("b", "{\"x\":2}")]),
        ("whole, one index", vec![with_index(0, f("a", "{\"x\":1}")), with_index(0, f("b", "{\"x\":2}"))]),
        ("no index in pieces", vec![f("a", "{\"x\""), go_on(":1}"), f("b", "{\"x\""), go_on(":2}")]),
        (
            "id and name repeated",
            vec![
                with_index(0, f("a", "{\"x\"")),
                with_index(0, f("a", ":1}")),
                with_index(1, f("b", "{\"x\":2}")),
            ],
        ),
        (
            "an id of its own for every piece",
            vec![
                with_index(0, f("a", "")),
                with_index(0, json!({"id": "r1", "function": {"arguments": "{\"x\":1}"}})),
                with_index(1, f("b", "")),
                with_index(1, json!({"id": "r2", "function": {"name": null, "arguments": "{\"x\":2}"}})),
            ],
        ),
    ];
    for (name, calls) in cases {
        let one_by_one: Vec<Value> = calls.iter().map(|call| json!({"tool_calls": [call]})).collect();
        // `stop` beside calls is a liberty too.
        assert_eq!(joined(deltas(&one_by_one, "stop")), expected, "{name}");
        assert_eq!(
            joined(deltas(&[json!({"tool_calls": calls})], "tool_calls")),
            expected,
            "{name}, at once"
        );
    }
}

#[test]
fn whole_calls_without_ids_under_one_index() {
    let one =
        |arguments: &str| json!({"index": 0, "id": "", "function": {"name": "f", "arguments": arguments}});
    let events = deltas(&[json!({"tool_calls": [one("{\"x\":1}"), one("{\"x\":2}")]})], "stop");
    let expected = [
        start(),
        call(0, "call_1_0_0", "f"),
        arguments(0, "{\"x\":1}"),
        call(1, "call_1_0_1", "f"),
        arguments(1, "{\"x\":2}"),
        finished(Finish::ToolCalls),
        Event::End,
    ];
    assert_eq!(events, expected);
}

#[test]
fn messages_in_a_stream() {
    let beside = |delta: &str, all: &str| {
        json!({"object": "chat.completion", "id": "chatcmpl-1", "created": 5, "choices": [
            {"index": 0, "delta": {"content": delta}, "message": {"content": all}}]})
        .to_string()
    };
    let events = stream(&[&beside("a", "a"), &beside("b", "ab"), "[DONE]"]);
    assert_eq!(joined(events), [start(), text("ab"), finished(Finish::Stop), Event::End]);
    let whole = json!({"id": "chatcmpl-1", "created": 5, "choices": [
        {"index": 0, "message": {"content": "ab"}, "finish_reason": "stop"}]});
    assert_eq!(stream(&[&whole.to_string()]), [start(), text("ab"), finished(Finish::Stop), Event::End]);
}

#[test]
fn calls_without_ids_are_named_and_the_first_form_is_read() {
    let events = deltas(
        &[
            json!({"function_call": {"name": "f", "arguments": ""}}),
            json!({"function_call": {"arguments": "{}"}}),
        ],
        "function_call",
    );
    let expected =
        [start(), call(0, "call_1_0_0", "f"), arguments(0, "{}"), finished(Finish::ToolCalls), Event::End];
    assert_eq!(events, expected);
}

#[test]
fn custom_calls_are_those_of_a_function_of_one_string() {
    let events = whole(
        json!({"content": null, "tool_calls": [{"id": "a", "type": "custom", "custom": {"name": "sh", "input": "ls \"x\""}}]}),
        "tool_calls",
    );
    assert_eq!(events[1..3], [call(0, "a", "sh"), arguments(0, r#"{"input":"ls \"x\""}"#)]);
}

#[test]
fn reasoning_under_its_names() {
    let expected = [start(), thinking("Hmm."), text("Yes"), finished(Finish::Stop), Event::End];
    let messages = [
        json!({"reasoning_content": "Hmm.", "content": "Yes"}),
        json!({"reasoning": "Hmm.", "content": "Yes", "reasoning_details": [{"type": "reasoning.text"}]}),
        json!({"reasoning": "Hmm.", "reasoning_content": "Hmm.", "content": "Yes"}),
        json!({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "Hmm."}]}, {"type": "text", "text": "Yes"}]}),
    ];
    for message in messages {
        assert_eq!(whole(message.clone(), "stop"), expected, "{message}");
        assert_eq!(deltas(std::slice::from_ref(&message), "stop"), expected, "{message}");
    }
    let blocks = json!({"reasoning_content": "Hmm.", "content": "Yes", "thinking_blocks": [
        {"type": "thinking", "thinking": "Hmm.", "signature": "S"}, {"type": "redacted_thinking", "data": "D"}]});
    let signed = Event::Signature { choice: 0, signature: "S".to_owned() };
    let redacted = Event::RedactedThinking { choice: 0, data: "D".to_owned() };
    assert_eq!(whole(blocks, "stop")[1..4], [thinking("Hmm."), signed, redacted]);
}

#[test]
fn refusals_citations_logprobs_and_sources() {
    let annotation = json!({"type": "url_citation", "url_citation": {"url": "https://x.test", "title": "X", "start_index": 1, "end_index": 4}});
    let events = whole(json!({"content": "See X", "annotations": [annotation], "refusal": "No."}), "stop");
    let citation = Citation {
        url: Some("https://x.test".to_owned()),
        title: Some("X".to_owned()),
        cited: None,
        start: Some(1),
        end: Some(4),
        raw: annotation,
    };
    let refusal = Event::Refusal { choice: 0, text: "No.".to_owned() };
    let expected = [
        start(),
        text("See X"),
        Event::Citation { choice: 0, citation },
        refusal,
        finished(Finish::Refusal),
        Event::End,
    ];
    assert_eq!(events, expected);

    let entry = json!({"token": "Hi", "logprob": -0.1, "bytes": null, "top_logprobs": []});
    let choice = json!({"index": 0, "delta": {"content": "Hi"}, "logprobs": {"content": [entry], "refusal": null}, "finish_reason": "stop"});
    let events = chunks(&[choice], Value::Null);
    assert_eq!(events[1..3], [text("Hi"), Event::Logprobs { choice: 0, content: vec![entry] }]);

    let frames = ["a", "b"].map(|word| {
        let reason = if word == "b" { json!("stop") } else { Value::Null };
        json!({"citations": ["https://p.test"], "choices": [{"index": 0, "delta": {"content": word}, "finish_reason": reason}]})
            .to_string()
    });
    let events = stream(&[&frames[0], &frames[1], "[DONE]"]);
    let cited = events.iter().filter(|event| matches!(event, Event::Citation { .. })).count();
    assert_eq!(cited, 1, "{events:?}");
}

#[test]
fn reasons_to_stop() {
    let reasons = [
        ("stop", Finish::Stop),
        ("eos", Finish::Stop),
        ("COMPLETE", Finish::Stop),
        ("length", Finish::Length),
        ("MAX_TOKENS", Finish::Length),
        ("model_length", Finish::Length),
        ("content_filter", Finish::ContentFilter),
        ("SAFETY", Finish::ContentFilter),
        ("tool_calls", Finish::Stop),
        ("whatever", Finish::Stop),
    ];
    for (word, reason) in reasons {
        assert_eq!(whole(json!({"content": "x"}), word)[2], finished(reason), "{word}");
    }
    let choice =
        json!({"index": 0, "delta": {"content": "x"}, "finish_reason": "stop", "stop_reason": "END"});
    let met = Event::Finish { choice: 0, reason: Finish::StopSequence, stop: Some("END".to_owned()) };
    assert!(chunks(&[choice], Value::Null).contains(&met));
}

fn error(events: &[Event]) -> &UpstreamError {
    match events {
        [.., Event::Error(error), Event::End] => error,
        _ => panic!("{events:?}"),
    }
}

#[test]
fn errors() {
    let began = json!({"choices": [{"index": 0, "delta": {"content": "x"}}]}).to_string();
    let began = began.as_str();
    let limited =
        r#"{"error":{"message":"slow down","type":"rate_limit_error","code":"rate_limit_exceeded"}}"#;
    assert_eq!(error(&stream(&[began, limited, began])).status, 429);
    assert_eq!(error(&stream(&[began])).status, 502);
    assert_eq!(error(&stream(&[began, "not JSON"])).status, 502);
    assert_eq!(error(&stream(&[])).status, 502);
    assert_eq!(error(&stream(&["[DONE]"])).status, 502);
    let failed = r#"{"choices":[{"index":0,"delta":{},"finish_reason":"error","error":{"code":503,"message":"gone"}}]}"#;
    assert_eq!(error(&stream(&[began, failed])).status, 503);
    let busy = r#"{"choices":[{"index":0,"delta":{},"finish_reason":"insufficient_system_resource"}]}"#;
    assert_eq!(error(&stream(&[began, busy, began])).status, 503);
    for body in ["", "[]", "{}", r#"{"choices":[]}"#, limited, r#"{"error":"no"}"#] {
        let mut out = Vec::new();
        Reader::new(Reading::default()).document(body.as_bytes(), &mut out);
        error(&out);
    }
}

#[test]
fn an_end_without_a_reason_is_one_when_the_provider_says_done() {
    let began =
        json!({"id": "chatcmpl-1", "created": 5, "choices": [{"index": 0, "delta": {"content": "x"}}]});
    let events = stream(&[&began.to_string(), "[DONE]"]);
    assert_eq!(events, [start(), text("x"), finished(Finish::Stop), Event::End]);
}

#[test]
fn two_choices() {
    let choice = |index: u64, word: &str| json!({"index": index, "delta": {"content": word}});
    let end = |index: u64| json!({"index": index, "delta": {}, "finish_reason": "stop"});
    let events = chunks(&[choice(1, "b"), choice(0, "a"), end(0), end(1)], Value::Null);
    let of = |choice: u32, text: &str| Event::Text { choice, text: text.to_owned() };
    assert_eq!(events[1..3], [of(1, "b"), of(0, "a")]);
    assert!(events.contains(&Event::Finish { choice: 1, reason: Finish::Stop, stop: None }));
}

#[test]
fn what_stands_at_the_top_is_told_once() {
    let chunk = |word: &str| {
        json!({"service_tier": "flex", "system_fingerprint": null, "choices": [{"index": 0, "delta": {"content": word}}]})
            .to_string()
    };
    let events = stream(&[&chunk("a"), &chunk("b"), "[DONE]"]);
    let also: Vec<&Event> = events.iter().filter(|event| matches!(event, Event::Also(_))).collect();
    let Event::Also(members) = also[0] else { unreachable!() };
    assert_eq!((also.len(), Value::Object(members.clone())), (1, json!({"service_tier": "flex"})));
}
