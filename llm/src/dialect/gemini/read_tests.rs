use serde_json::json;

use super::*;
use crate::dialect::answer::Citation;

/// Text in one piece, and of usage the last, so that a stream and a whole answer can be compared.
fn joined(events: Vec<Event>) -> Vec<Event> {
    let usages = events.iter().filter(|event| matches!(event, Event::Usage(_))).count();
    let mut out: Vec<Event> = Vec::new();
    let mut seen = 0;
    for event in events {
        match (out.last_mut(), event) {
            (Some(Event::Text { text, .. }), Event::Text { text: more, .. })
            | (Some(Event::Thinking { text, .. }), Event::Thinking { text: more, .. }) => {
                text.push_str(&more)
            }
            (_, Event::Usage(usage)) => {
                seen += 1;
                if seen == usages {
                    out.push(Event::Usage(usage));
                }
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

fn streamed(reading: Reading, chunks: &[Value]) -> Vec<Event> {
    let (mut reader, mut out) = (Reader::new(reading), Vec::new());
    for chunk in chunks {
        let data = chunk.to_string();
        reader.frame(Frame { name: b"", data: data.as_bytes(), exception: false }, &mut out);
    }
    reader.end(&mut out);
    joined(out)
}

fn chunk(parts: Value) -> Value {
    json!({"candidates": [{"content": {"role": "model", "parts": parts}, "index": 0}], "responseId": "r1",
        "modelVersion": "gemini-3-pro"})
}

fn last(mut chunk: Value, reason: &str) -> Value {
    chunk["candidates"][0]["finishReason"] = reason.into();
    chunk["usageMetadata"] = json!({"promptTokenCount": 8, "candidatesTokenCount": 6, "totalTokenCount": 14});
    chunk
}

fn text(text: &str) -> Event {
    Event::Text { choice: 0, text: text.into() }
}

fn finish(reason: Finish) -> Event {
    Event::Finish { choice: 0, reason, stop: None }
}

fn start(id: Option<&str>) -> Event {
    Event::Start { id: id.map(str::to_owned), created: None }
}

fn used() -> Event {
    Event::Usage(Usage { prompt: 8, completion: 6, total: 14, ..Usage::default() })
}

#[test]
fn thoughts_text_and_calls_whole_and_streamed() {
    let mut usage = chunk(json!([{"text": "hm, ", "thought": true}]));
    usage["usageMetadata"] = json!({"promptTokenCount": 8});
    let call = |id: Value| {
        json!({"functionCall": {"name": "get_weather", "args": {"a": 1}, "id": id},
        "thoughtSignature": "Ch+/"})
    };
    let chunks = [
        usage,
        chunk(json!([{"text": "well", "thought": true}])),
        chunk(json!([{"text": "So", "thoughtSignature": "Cg=="}])),
        chunk(json!([{"text": "."}])),
        chunk(json!([call("fc_1".into())])),
        last(chunk(json!([{"functionCall": {"name": "now"}}])), "STOP"),
    ];
    let parts: Vec<Value> = chunks
        .iter()
        .flat_map(|chunk| chunk.pointer("/candidates/0/content/parts").unwrap().as_array().unwrap().clone())
        .collect();
    let answer = last(chunk(parts.into()), "STOP");
    let reading = Reading { tool_names: vec![("get_weather".into(), "get.weather".into())], json_tool: None };
    let events = streamed(reading.clone(), &chunks);
    assert_eq!(events, whole(reading, &answer));
    let arguments = |index, json: &str| Event::ToolArguments { choice: 0, index, json: json.into() };
    let Event::ToolCall { id: made, .. } = &events[6] else { panic!("{events:?}") };
    assert!(made.starts_with("call_") && made.len() <= MAX_ID);
    let expected = [
        start(Some("r1")),
        Event::Thinking { choice: 0, text: "hm, well".into() },
        Event::Signature { choice: 0, signature: "gemini#Cg==".into() },
        text("So."),
        Event::ToolCall {
            choice: 0,
            index: 0,
            id: "fc_1__thought__Ch-_".into(),
            name: "get.weather".into(),
            signature: Some("Ch+/".into()),
        },
        arguments(0, "{\"a\":1}"),
        Event::ToolCall { choice: 0, index: 1, id: made.clone(), name: "now".into(), signature: None },
        arguments(1, "{}"),
        finish(Finish::ToolCalls),
        used(),
        Event::End,
    ];
    assert_eq!(events, expected);
}

#[test]
fn ids_of_calls_are_each_their_own() {
    let call = json!({"functionCall": {"name": "f", "args": {}}});
    let ids = |answer: &Value| -> Vec<String> {
        let ids = |event| match event {
            Event::ToolCall { id, .. } => Some(id),
            _ => None,
        };
        whole(Reading::default(), answer).into_iter().filter_map(ids).collect()
    };
    let first = last(chunk(json!([call, call])), "STOP");
    let mut second = first.clone();
    second["responseId"] = "r2".into();
    let mut all = [ids(&first), ids(&second)].concat();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 4);
}

#[test]
fn several_candidates() {
    let candidate = |index: u64, text: &str| json!({"index": index, "content": {"parts": [{ "text": text }]}, "finishReason": "STOP"});
    let events = whole(Reading::default(), &json!({"candidates": [candidate(0, "a"), candidate(1, "b")]}));
    let expected = [
        start(None),
        text("a"),
        finish(Finish::Stop),
        Event::Text { choice: 1, text: "b".into() },
        Event::Finish { choice: 1, reason: Finish::Stop, stop: None },
        Event::End,
    ];
    assert_eq!(events, expected);
}

#[test]
fn an_answer_in_a_schema_is_text() {
    let reading = Reading { json_tool: Some("json_tool_call".into()), tool_names: Vec::new() };
    let answer = last(chunk(json!([{"functionCall": {"name": "json_tool_call", "args": {"a": 1}}}])), "STOP");
    let expected = [start(Some("r1")), text("{\"a\":1}"), finish(Finish::Stop), used(), Event::End];
    assert_eq!(whole(reading, &answer), expected);
}

#[test]
fn reasons_to_stop() {
    for (reason, expected) in [
        ("STOP", Finish::Stop),
        ("MAX_TOKENS", Finish::Length),
        ("SAFETY", Finish::ContentFilter),
        ("RECITATION", Finish::ContentFilter),
        ("PROHIBITED_CONTENT", Finish::ContentFilter),
        ("IMAGE_SAFETY", Finish::ContentFilter),
        ("MALFORMED_FUNCTION_CALL", Finish::Stop),
        ("NEW_ONE", Finish::Stop),
    ] {
        let answer = last(chunk(json!([{"text": "a"}])), reason);
        assert_eq!(whole(Reading::default(), &answer)[2], finish(expected), "{reason}");
    }
}

#[test]
fn a_refused_prompt() {
    let answer = json!({"candidates": [], "promptFeedback": {"blockReason": "SAFETY"},
        "usageMetadata": {"promptTokenCount": 12, "totalTokenCount": 12}});
    let events = whole(Reading::default(), &answer);
    assert_eq!(events[..2], [start(None), finish(Finish::ContentFilter)]);
    let [.., Event::Also(also), Event::Usage(usage), Event::End] = &events[..] else { panic!("{events:?}") };
    assert_eq!((&also["block_reason"], usage.prompt), (&json!("SAFETY"), 12));
    assert_eq!(streamed(Reading::default(), &[answer]), events);
}

#[test]
fn sources_of_an_answer() {
    let mut answer = last(chunk(json!([{"text": "h\u{e9} said. More."}])), "STOP");
    answer["candidates"][0]["groundingMetadata"] = json!({
        "webSearchQueries": ["a", "b"],
        "groundingChunks": [{"web": {"uri": "https://a", "title": "A"}}, {"web": {"uri": "https://b"}}],
        "groundingSupports": [{"segment": {"endIndex": 9, "text": "h\u{e9} said."},
            "groundingChunkIndices": [0, 1, 7]}],
    });
    answer["candidates"][0]["citationMetadata"] =
        json!({"citations": [{"startIndex": 10, "endIndex": 15, "uri": "https://c", "title": "C"}]});
    let events = whole(Reading::default(), &answer);
    let citations: Vec<&Citation> = events
        .iter()
        .filter_map(|event| match event {
            Event::Citation { citation, .. } => Some(citation),
            _ => None,
        })
        .collect();
    let seen: Vec<_> = citations.iter().map(|c| (c.url.as_deref().unwrap(), c.start, c.end)).collect();
    let expected =
        [("https://c", Some(9), Some(14)), ("https://a", Some(0), Some(8)), ("https://b", Some(0), Some(8))];
    assert_eq!(seen, expected);
    assert_eq!(citations[1].title.as_deref(), Some("A"));
    let usage = events.iter().find_map(|event| match event {
        Event::Usage(usage) => Some(usage.searches),
        _ => None,
    });
    assert_eq!(usage, Some(2));
    // What is said again is not told again.
    let twice = streamed(Reading::default(), &[answer.clone(), answer]);
    let told = twice.iter().filter(|event| matches!(event, Event::Citation { .. })).count();
    assert_eq!(told, 3);
}

#[test]
fn logprobs_media_and_code() {
    let code = json!({"executableCode": {"language": "PYTHON", "code": "1"}});
    let mut answer = last(
        chunk(json!([{"text": "a"}, {"inlineData": {"mimeType": "image/png", "data": "AAAA"}}, code,
            {"thoughtSignature": "x"}, {}, {"inlineData": {"mimeType": "image/png", "data": "B"}, "thought": true}])),
        "STOP",
    );
    answer["candidates"][0]["logprobsResult"] = json!({
        "chosenCandidates": [{"token": "a", "logProbability": -0.5, "tokenId": 1}],
        "topCandidates": [{"candidates": [{"token": "a", "logProbability": -0.5}, {"token": "b", "logProbability": -1}]}],
    });
    let events = whole(Reading::default(), &answer);
    let token =
        |token: &str, logprob: Value| json!({"token": token, "logprob": logprob, "bytes": token.as_bytes()});
    let mut entry = token("a", json!(-0.5));
    entry["top_logprobs"] = json!([token("a", json!(-0.5)), token("b", json!(-1))]);
    assert_eq!(
        events[1..3],
        [text("a"), Event::Media { choice: 0, media_type: "image/png".into(), data: "AAAA".into() },]
    );
    assert_eq!(events[3], Event::Other { choice: 0, dialect: Dialect::Gemini, value: code });
    assert!(matches!(&events[4], Event::Other { .. }));
    assert_eq!(events[5], Event::Logprobs { choice: 0, content: vec![entry] });
}

fn error(events: &[Event]) -> &UpstreamError {
    let [.., Event::Error(error), Event::End] = events else { panic!("{events:?}") };
    error
}

#[test]
fn errors_before_and_inside_the_stream() {
    let said = json!({"error": {"code": 503, "message": "overloaded", "status": "UNAVAILABLE"}});
    for document in [said.clone(), json!([said])] {
        let events = whole(Reading::default(), &document);
        assert_eq!((events.len(), error(&events).status), (2, 503));
    }
    let events =
        streamed(Reading::default(), &[chunk(json!([{"text": "a"}])), said, chunk(json!([{"text": "b"}]))]);
    assert_eq!(events[..2], [start(Some("r1")), text("a")]);
    assert_eq!((events.len(), error(&events).status), (4, 503));
    let body: Value = serde_json::from_slice(&error(&events).body).unwrap();
    assert_eq!(body["error"]["code"], "UNAVAILABLE");
}

#[test]
fn what_is_no_answer_is_an_error() {
    for document in ["", "<html>", "7", "{}", "[]", "[7]", "{\"candidates\":[]}", "{\"candidates\":7}"] {
        let mut out = Vec::new();
        Reader::default().document(document.as_bytes(), &mut out);
        assert_eq!(error(&out).status, 502, "{document}");
    }
    assert_eq!(error(&streamed(Reading::default(), &[chunk(json!([{"text": "a"}]))])).status, 502);
    let (mut reader, mut out) = (Reader::default(), Vec::new());
    reader.frame(Frame { name: b"", data: b"{", exception: false }, &mut out);
    assert_eq!(error(&out).status, 502);
    // Whole, and without a reason: it is all there.
    let events = whole(Reading::default(), &chunk(json!([{"text": "a"}])));
    assert_eq!(events[1..], [text("a"), finish(Finish::Stop), Event::End]);
}

/// A call through a client and back: what Google gets is what it sent.
#[test]
fn signatures_come_back_through_any_client() {
    use crate::contract::DeploymentMeta;
    use crate::dialect::request::{Body, Part, Request, Role, ToolCall, Turn};
    let answer = last(
        chunk(
            json!([{"functionCall": {"name": "f", "args": {"a": 1}, "id": "fc_1"}, "thoughtSignature": "Ch+/Cg=="}]),
        ),
        "STOP",
    );
    let events = whole(Reading::default(), &answer);
    let Event::ToolCall { id, name, .. } = &events[1] else { panic!("{events:?}") };
    // The client gives back nothing but id, name and arguments.
    let call =
        ToolCall { id: id.clone(), name: name.clone(), arguments: "{\"a\":1}".into(), signature: None };
    let result = Body::ToolResult { id: id.clone(), content: vec![Part::text("r")], is_error: false };
    let request = Request {
        turns: vec![
            Turn::new(Role::User, vec![Part::text("x")]),
            Turn::new(Role::Assistant, vec![Body::ToolCall(call).into()]),
            Turn::new(Role::User, vec![result.into()]),
        ],
        ..Request::default()
    };
    let meta = DeploymentMeta { model: "gemini-3-pro".into(), ..DeploymentMeta::default() };
    let sent = super::super::write_request(request, &meta).unwrap();
    let body: Value = serde_json::from_slice(&sent.body).unwrap();
    assert_eq!(body.pointer("/contents/1/parts/0"), answer.pointer("/candidates/0/content/parts/0"));
    assert_eq!(body.pointer("/contents/2/parts/0/functionResponse/id"), Some(&json!("fc_1")));
}
