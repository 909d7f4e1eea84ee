use super::*;

/// Joins what came in pieces, so that a stream and a whole answer can be compared.
fn joined(events: Vec<Event>) -> Vec<Event> {
    let mut out: Vec<Event> = Vec::new();
    for event in events {
        match (out.last_mut(), event) {
            (Some(Event::Text { text, .. }), Event::Text { text: more, .. })
            | (Some(Event::Thinking { text, .. }), Event::Thinking { text: more, .. }) => {
                text.push_str(&more)
            }
            (Some(Event::ToolArguments { json, .. }), Event::ToolArguments { json: more, .. }) => {
                json.push_str(&more);
            }
            (_, event) => out.push(event),
        }
    }
    out
}

fn whole(reading: Reading, answer: &Value) -> Vec<Event> {
    let mut out = Vec::new();
    Reader::new(reading).document(answer.to_string().as_bytes(), &mut out);
    joined(out)
}

fn streamed(reading: Reading, frames: &[(&str, Value)]) -> Vec<Event> {
    let (mut reader, mut out) = (Reader::new(reading), Vec::new());
    for (name, data) in frames {
        let data = data.to_string();
        let exception = name.ends_with("Exception");
        reader.frame(Frame { name: name.as_bytes(), data: data.as_bytes(), exception }, &mut out);
    }
    reader.end(&mut out);
    joined(out)
}

fn delta(index: u64, delta: Value) -> (&'static str, Value) {
    ("contentBlockDelta", json!({"contentBlockIndex": index, "delta": delta}))
}

fn start(index: u64, start: Value) -> (&'static str, Value) {
    ("contentBlockStart", json!({"contentBlockIndex": index, "start": start}))
}

fn stop(index: u64) -> (&'static str, Value) {
    ("contentBlockStop", json!({ "contentBlockIndex": index }))
}

fn text(text: &str) -> Event {
    Event::Text { choice: 0, text: text.into() }
}

fn call(index: u32, id: &str, name: &str) -> Event {
    Event::ToolCall { choice: 0, index, id: id.into(), name: name.into(), signature: None }
}

fn arguments(index: u32, json: &str) -> Event {
    Event::ToolArguments { choice: 0, index, json: json.into() }
}

fn finish(reason: Finish) -> Event {
    Event::Finish { choice: 0, reason, stop: None }
}

const START: Event = Event::Start { id: None, created: None };

#[test]
fn thinking_text_and_calls_whole_and_streamed() {
    let usage = json!({"inputTokens": 10, "outputTokens": 5, "totalTokens": 22, "cacheReadInputTokens": 4,
        "cacheWriteInputTokens": 3, "cacheDetails": [{"ttl": "1h", "inputTokens": 2}, {"ttl": "5m", "inputTokens": 1}]});
    let answer = json!({
        "output": {"message": {"role": "assistant", "content": [
            {"reasoningContent": {"reasoningText": {"text": "hm, well", "signature": "SIG"}}},
            {"reasoningContent": {"redactedContent": "AAAA"}},
            {"text": "Two calls."},
            {"toolUse": {"toolUseId": "t1", "name": "get_weather", "input": {"a": 1}}},
            {"toolUse": {"toolUseId": "t2", "name": "now", "input": {}}},
        ]}},
        "stopReason": "tool_use", "usage": usage, "metrics": {"latencyMs": 1}, "serviceTier": {"type": "priority"},
    });
    let frames = [
        ("messageStart", json!({"role": "assistant", "p": "abc"})),
        delta(0, json!({"reasoningContent": {"text": "hm, "}})),
        delta(0, json!({"reasoningContent": {"text": "well"}})),
        delta(0, json!({"reasoningContent": {"signature": "SIG"}})),
        stop(0),
        delta(1, json!({"reasoningContent": {"redactedContent": "AAAA"}})),
        stop(1),
        delta(2, json!({"text": "Two "})),
        delta(2, json!({"text": "calls."})),
        stop(2),
        start(3, json!({"toolUse": {"toolUseId": "t1", "name": "get_weather"}})),
        delta(3, json!({"toolUse": {"input": ""}})),
        delta(3, json!({"toolUse": {"input": "{\"a\""}})),
        delta(3, json!({"toolUse": {"input": ":1}"}})),
        stop(3),
        start(4, json!({"toolUse": {"toolUseId": "t2", "name": "now"}})),
        stop(4),
        ("messageStop", json!({"stopReason": "tool_use"})),
        (
            "metadata",
            json!({"usage": usage, "metrics": {"latencyMs": 1}, "serviceTier": {"type": "priority"}}),
        ),
    ];
    let reading = Reading { tool_names: vec![("get_weather".into(), "get.weather".into())], json_tool: None };
    let mut also = Map::new();
    also.insert("service_tier".into(), "priority".into());
    let expected = [
        START,
        Event::Thinking { choice: 0, text: "hm, well".into() },
        Event::Signature { choice: 0, signature: "SIG".into() },
        Event::RedactedThinking { choice: 0, data: "AAAA".into() },
        text("Two calls."),
        call(0, "t1", "get.weather"),
        arguments(0, "{\"a\":1}"),
        call(1, "t2", "now"),
        arguments(1, "{}"),
        finish(Finish::ToolCalls),
        Event::Usage(Usage {
            prompt: 17,
            completion: 5,
            total: 22,
            cached: 4,
            cache_creation: 3,
            cache_creation_1h: 2,
            class: Class::of_tier("priority"),
            ..Usage::default()
        }),
        Event::Also(also),
        Event::End,
    ];
    assert_eq!(whole(reading.clone(), &answer), expected);
    assert_eq!(streamed(reading, &frames), expected);
}

#[test]
fn an_answer_in_a_schema_is_text() {
    let reading = Reading { json_tool: Some("json_tool_call".into()), tool_names: Vec::new() };
    let answer = json!({
        "output": {"message": {"content": [
            {"toolUse": {"toolUseId": "t", "name": "json_tool_call", "input": {"a": 1}}},
        ]}},
        "stopReason": "tool_use",
    });
    let frames = [
        ("messageStart", json!({"role": "assistant"})),
        start(0, json!({"toolUse": {"toolUseId": "t", "name": "json_tool_call"}})),
        delta(0, json!({"toolUse": {"input": "{\"a\":"}})),
        delta(0, json!({"toolUse": {"input": "1}"}})),
        stop(0),
        ("messageStop", json!({"stopReason": "tool_use"})),
    ];
    let expected = [START, text("{\"a\":1}"), finish(Finish::Stop), Event::End];
    assert_eq!(whole(reading.clone(), &answer), expected);
    assert_eq!(streamed(reading, &frames), expected);
}

#[test]
fn citations_images_and_blocks_of_its_own() {
    let source = json!({"title": "T", "source": "https://s", "sourceContent": [{"text": "a"}, {"text": "b"}],
        "location": {"documentChar": {"documentIndex": 0, "start": 1, "end": 2}}});
    let server = json!({"toolUse": {"toolUseId": "s", "name": "nova_grounding", "type": "server_tool_use"}});
    let answer = json!({
        "output": {"message": {"content": [
            {"citationsContent": {"content": [{"text": "so"}], "citations": [source]}},
            {"image": {"format": "png", "source": {"bytes": "AAAA"}}},
        ]}},
        "stopReason": "end_turn", "trace": {"guardrail": {}},
    });
    let frames = [
        delta(0, json!({"text": "so"})),
        delta(0, json!({"citation": source})),
        stop(0),
        start(1, json!({"image": {"format": "png"}})),
        delta(1, json!({"image": {"source": {"bytes": "AAAA"}}})),
        stop(1),
        ("messageStop", json!({"stopReason": "end_turn"})),
        ("metadata", json!({"trace": {"guardrail": {}}})),
    ];
    let citation = Citation {
        url: Some("https://s".into()),
        title: Some("T".into()),
        cited: Some("ab".into()),
        raw: source,
        ..Citation::default()
    };
    let mut also = Map::new();
    also.insert("trace".into(), json!({"guardrail": {}}));
    let expected = [
        START,
        text("so"),
        Event::Citation { choice: 0, citation },
        Event::Media { choice: 0, media_type: "image/png".into(), data: "AAAA".into() },
        finish(Finish::Stop),
        Event::Also(also),
        Event::End,
    ];
    assert_eq!(whole(Reading::default(), &answer), expected);
    assert_eq!(streamed(Reading::default(), &frames), expected);
    let frames = [start(0, server.clone()), stop(0), ("messageStop", json!({"stopReason": "end_turn"}))];
    assert_eq!(
        streamed(Reading::default(), &frames),
        [START, other(server), finish(Finish::Stop), Event::End]
    );
}

#[test]
fn reasons_to_stop() {
    for (reason, expected) in [
        ("end_turn", Finish::Stop),
        ("max_tokens", Finish::Length),
        ("model_context_window_exceeded", Finish::Length),
        ("guardrail_intervened", Finish::ContentFilter),
        ("content_filtered", Finish::ContentFilter),
        ("tool_use", Finish::ToolCalls),
        ("new_one", Finish::Stop),
    ] {
        let answer = json!({"output": {"message": {"content": []}}, "stopReason": reason});
        assert_eq!(whole(Reading::default(), &answer)[1], finish(expected), "{reason}");
    }
    let answer = json!({"output": {"message": {"content": []}}, "stopReason": "stop_sequence",
        "additionalModelResponseFields": {"stop_sequence": "END"}});
    let met = Event::Finish { choice: 0, reason: Finish::StopSequence, stop: Some("END".into()) };
    assert_eq!(whole(Reading::default(), &answer)[1], met);
}

fn error(events: &[Event]) -> &UpstreamError {
    let [.., Event::Error(error), Event::End] = events else { panic!("{events:?}") };
    error
}

#[test]
fn exceptions_end_the_stream() {
    for (name, data, status) in [
        ("throttlingException", json!({"message": "m"}), 429),
        ("modelStreamErrorException", json!({"message": "m"}), 502),
        (
            "modelStreamErrorException",
            json!({"message": "m", "originalStatusCode": 400, "originalMessage": "o"}),
            400,
        ),
        ("validationException", json!({"message": "m"}), 400),
        ("internalServerException", json!({}), 500),
        ("serviceUnavailableException", json!({"message": "m"}), 503),
    ] {
        let events = streamed(
            Reading::default(),
            &[delta(0, json!({"text": "a"})), (name, data), delta(0, json!({"text": "b"}))],
        );
        assert_eq!(events[..2], [START, text("a")]);
        let error = error(&events);
        assert_eq!(error.status, status, "{name}");
        let body: Value = serde_json::from_slice(&error.body).unwrap();
        assert_eq!(body["error"]["code"], name);
    }
}

#[test]
fn what_is_no_answer_is_an_error() {
    for (document, status) in [
        ("{\"message\":\"Input is too long for requested model.\"}", 400),
        ("{\"__type\":\"a#ThrottlingException\"}", 429),
        ("{}", 502),
        ("[]", 502),
        ("<html>", 502),
        ("", 502),
        ("{\"output\":7}", 502),
    ] {
        let mut out = Vec::new();
        Reader::new(Reading::default()).document(document.as_bytes(), &mut out);
        assert_eq!(error(&out).status, status, "{document}");
    }
    let cut = streamed(Reading::default(), &[delta(0, json!({"text": "a"})), stop(0)]);
    assert_eq!(error(&cut).status, 502);
    assert_eq!(error(&streamed(Reading::default(), &[])).status, 502);
    let (mut reader, mut out) = (Reader::default(), Vec::new());
    reader.frame(Frame { name: b"messageStart", data: b"{", exception: false }, &mut out);
    assert_eq!(error(&out).status, 502);
}

#[test]
fn odd_frames_are_passed_over() {
    let events = streamed(
        Reading::default(),
        &[
            ("messageStart", json!(7)),
            ("chunk", json!({"bytes": "AA"})),
            delta(9, json!({"toolUse": {"input": "{}"}})),
            delta(9, json!({"image": {"source": {"bytes": "AA"}}})),
            ("contentBlockDelta", json!({})),
            ("contentBlockStart", json!({"start": {}})),
            stop(9),
            ("messageStop", json!({})),
        ],
    );
    assert_eq!(events, [START, finish(Finish::Stop), Event::End]);
}

/// A whole chain: frames, reader, and the chat client's stream, however the bytes arrive.
#[test]
fn a_stream_split_at_every_byte_is_the_same_to_the_client() {
    use crate::dialect::Translator;
    use crate::dialect::translate::Caller;
    use crate::eventstream::tests::{event, exception};
    let caller = || Caller {
        dialect: Dialect::Chat,
        model: "m".into(),
        stream: true,
        want_usage: true,
        call_id: "c".into(),
        now_s: 1,
        echo: Map::new(),
    };
    let good = [
        event("messageStart", "{\"role\":\"assistant\"}"),
        event("contentBlockDelta", "{\"contentBlockIndex\":0,\"delta\":{\"text\":\"h\u{e9}\"}}"),
        event("messageStop", "{\"stopReason\":\"end_turn\"}"),
        event("metadata", "{\"usage\":{\"inputTokens\":3,\"outputTokens\":2,\"totalTokens\":5}}"),
    ]
    .concat();
    let bad = [
        event("contentBlockDelta", "{\"contentBlockIndex\":0,\"delta\":{\"text\":\"a\"}}"),
        exception("throttlingException", "{\"message\":\"slow down\"}"),
    ]
    .concat();
    let mut broken = good.clone();
    let middle = broken.len() / 2;
    broken[middle] ^= 1;
    for stream in [good, bad, broken] {
        let run = |chunks: &[&[u8]]| {
            let mut translator = Translator::new(Dialect::Converse, Reading::default(), caller(), 1).unwrap();
            let mut out = Vec::new();
            for chunk in chunks {
                translator.push(chunk, false, &mut out);
            }
            translator.push(&[], true, &mut out);
            (String::from_utf8(out).unwrap(), translator.usage(), translator.error().cloned())
        };
        let expected = run(&[&stream]);
        assert!(expected.0.contains("data: "), "{expected:?}");
        assert_eq!(run(&stream.chunks(1).collect::<Vec<_>>()), expected);
        for at in 0..stream.len() {
            assert_eq!(run(&[&stream[..at], &stream[at..]]), expected, "{at}");
        }
    }
}
