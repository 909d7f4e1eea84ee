use super::*;
use crate::response::UpstreamError;

fn caller() -> Caller {
    Caller {
        dialect: Dialect::Messages,
        model: "asked".into(),
        stream: true,
        want_usage: true,
        call_id: "c1".into(),
        now_s: 1,
        echo: Map::new(),
    }
}

fn events() -> Vec<Event> {
    let usage = Usage { prompt: 30, completion: 12, cached: 10, cache_creation: 5, ..Usage::default() };
    vec![
        Event::Start { id: Some("chatcmpl-1".into()), created: None },
        Event::Thinking { choice: 0, text: "Think ".into() },
        Event::Thinking { choice: 0, text: "hard.".into() },
        Event::Signature { choice: 0, signature: "sig".into() },
        Event::RedactedThinking { choice: 0, data: "xx".into() },
        Event::Text { choice: 0, text: "He".into() },
        Event::Text { choice: 1, text: "another choice".into() },
        Event::Text { choice: 0, text: "llo".into() },
        Event::ToolCall {
            choice: 0,
            index: 0,
            id: "call_1".into(),
            name: "look".into(),
            signature: Some("Cg==".into()),
        },
        Event::ToolArguments { choice: 0, index: 0, json: "{\"a\":".into() },
        Event::ToolArguments { choice: 0, index: 0, json: "1}".into() },
        Event::ToolCall { choice: 0, index: 1, id: String::new(), name: "now".into(), signature: None },
        Event::ToolArguments { choice: 0, index: 1, json: "{}".into() },
        Event::Finish { choice: 0, reason: Finish::ToolCalls, stop: None },
        Event::Usage(usage),
        Event::End,
    ]
}

fn stream(events: Vec<Event>) -> Vec<(String, Value)> {
    let (mut writer, mut out) = (Writer::new(caller()), Vec::new());
    for event in events {
        writer.event(event, &mut out);
    }
    parsed(&out)
}

fn parsed(out: &[u8]) -> Vec<(String, Value)> {
    let text = std::str::from_utf8(out).unwrap();
    let one = |event: &str| {
        let (name, data) = event.split_once('\n').unwrap();
        (name["event: ".len()..].to_owned(), serde_json::from_str(&data["data: ".len()..]).unwrap())
    };
    text.split_terminator("\n\n").map(one).collect()
}

/// What an SDK gathers from a stream.
fn gathered(events: &[(String, Value)]) -> Value {
    let mut message = Value::Null;
    for (name, data) in events {
        assert_eq!(data["type"], **name);
        match name.as_str() {
            "message_start" => message = data["message"].clone(),
            "content_block_start" => {
                let content = message["content"].as_array_mut().unwrap();
                assert_eq!(data["index"], content.len());
                content.push(data["content_block"].clone());
            }
            "content_block_delta" => {
                let block = message["content"].as_array_mut().unwrap().last_mut().unwrap();
                let delta = &data["delta"];
                let append = |block: &mut Value, name: &str, from: &str| {
                    let text = format!(
                        "{}{}",
                        block[name].as_str().unwrap_or_default(),
                        delta[from].as_str().unwrap()
                    );
                    block[name] = text.into();
                };
                match delta["type"].as_str().unwrap() {
                    "text_delta" => append(block, "text", "text"),
                    "thinking_delta" => append(block, "thinking", "thinking"),
                    "signature_delta" => append(block, "signature", "signature"),
                    "input_json_delta" => append(block, "json", "partial_json"),
                    "citations_delta" => {
                        let all = block.as_object_mut().unwrap().entry("citations").or_insert(json!([]));
                        all.as_array_mut().unwrap().push(delta["citation"].clone());
                    }
                    other => panic!("{other}"),
                }
            }
            "content_block_stop" => {
                let block =
                    message["content"].as_array_mut().unwrap().last_mut().unwrap().as_object_mut().unwrap();
                if let Some(json) = block.remove("json") {
                    block.insert("input".into(), serde_json::from_str(json.as_str().unwrap()).unwrap());
                }
            }
            "message_delta" => {
                message["stop_reason"] = data["delta"]["stop_reason"].clone();
                message["usage"] = data["usage"].clone();
            }
            _ => {}
        }
    }
    message
}

#[test]
fn whole_and_streamed_are_the_same() {
    let document: Value = serde_json::from_slice(&Writer::new(caller()).document(events())).unwrap();
    let streamed = stream(events());
    assert_eq!(gathered(&streamed), document);
    assert_eq!(streamed.last().unwrap().0, "message_stop");
    assert_eq!(
        document,
        json!({"id": "msg_chatcmpl-1", "type": "message", "role": "assistant", "model": "asked", "content": [
            {"type": "thinking", "thinking": "Think hard.", "signature": "sig"},
            {"type": "redacted_thinking", "data": "xx"},
            {"type": "text", "text": "Hello"},
            {"type": "tool_use", "id": "call_1__thought__Cg", "name": "look", "input": {"a": 1}},
            {"type": "tool_use", "id": "toolu_c1_1", "name": "now", "input": {}}],
            "stop_reason": "tool_use", "stop_sequence": null,
            "usage": {"input_tokens": 15, "cache_creation_input_tokens": 5, "cache_read_input_tokens": 10, "output_tokens": 12}})
    );
}

#[test]
fn an_empty_object_within_arguments_is_a_piece_of_them() {
    let call = Event::ToolCall { choice: 0, index: 0, id: "t".into(), name: "n".into(), signature: None };
    let piece = |json: &str| Event::ToolArguments { choice: 0, index: 0, json: json.into() };
    let all = vec![call, piece("{\"a\":"), piece("{}"), piece("}"), Event::End];
    assert_eq!(gathered(&stream(all.clone()))["content"][0]["input"], json!({"a": {}}));
    let document: Value = serde_json::from_slice(&Writer::new(caller()).document(all)).unwrap();
    assert_eq!(document["content"][0]["input"], json!({"a": {}}));
}

#[test]
fn nothing_follows_an_error() {
    let error = UpstreamError::new("Overloaded", Some("overloaded_error"), None);
    let seen = stream(vec![Event::Text { choice: 0, text: "He".into() }, Event::Error(error), Event::End]);
    let (name, data) = seen.last().unwrap();
    assert_eq!((name.as_str(), &data["error"]["type"]), ("error", &json!("overloaded_error")));
    assert!(!seen.iter().any(|(name, _)| name == "message_stop"));
}

#[test]
fn an_empty_answer_is_an_answer() {
    let finish = Event::Finish { choice: 0, reason: Finish::ContentFilter, stop: None };
    let names: Vec<String> = stream(vec![finish, Event::End]).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["message_start", "message_delta", "message_stop"]);
    let document: Value = serde_json::from_slice(&Writer::new(caller()).document(vec![Event::End])).unwrap();
    assert_eq!((&document["content"], &document["stop_reason"]), (&json!([]), &json!("end_turn")));
}

/// Each citation speaks for the text of its own block, whole and streamed, wherever the stream is cut.
#[test]
fn cited_blocks_stay_apart() {
    use crate::dialect::Translator;
    use crate::dialect::translate::Reading;
    let cited = |words: &str| json!({"type": "char_location", "cited_text": words});
    let content = json!([
        {"type": "text", "text": "A ", "citations": [cited("a")]},
        {"type": "text", "text": "and "},
        {"type": "text", "text": "B", "citations": [cited("b")]}]);
    let answer = json!({"id": "msg_1", "content": content, "stop_reason": "end_turn",
        "usage": {"input_tokens": 1, "output_tokens": 2}});
    let translator =
        || Translator::new(Dialect::Messages, Reading::default(), caller(), 1).expect("both are spoken");
    let document = translator().document(answer.to_string().as_bytes()).unwrap();
    let document: Value = serde_json::from_slice(&document).unwrap();
    assert_eq!(document["content"], content);

    let mut sent = Vec::new();
    let mut frame = |data: Value| emit(data["type"].as_str().unwrap(), &data, &mut sent);
    frame(json!({"type": "message_start", "message": {"id": "msg_1", "usage": {"input_tokens": 1}}}));
    for (index, block) in content.as_array().unwrap().iter().enumerate() {
        let delta = |delta: Value| json!({"type": "content_block_delta", "index": index, "delta": delta});
        frame(
            json!({"type": "content_block_start", "index": index, "content_block": {"type": "text", "text": ""}}),
        );
        for citation in block["citations"].as_array().into_iter().flatten() {
            frame(delta(json!({"type": "citations_delta", "citation": citation})));
        }
        frame(delta(json!({"type": "text_delta", "text": block["text"]})));
        frame(json!({"type": "content_block_stop", "index": index}));
    }
    frame(
        json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}}),
    );
    frame(json!({"type": "message_stop"}));
    let run = |cut: usize| {
        let (mut translator, mut out) = (translator(), Vec::new());
        let (first, rest) = sent.split_at(cut);
        translator.push(first, false, &mut out);
        translator.push(rest, true, &mut out);
        out
    };
    let whole = run(0);
    assert_eq!(gathered(&parsed(&whole)), document);
    assert!((1..sent.len()).all(|cut| run(cut) == whole));
}

#[test]
fn citations_stay_or_become_web_results() {
    let own = json!({"type": "char_location", "cited_text": "c"});
    let web = Citation { url: Some("https://a".into()), title: Some("t".into()), ..Citation::default() };
    let all = vec![
        Event::Text { choice: 0, text: "x".into() },
        Event::Citation { choice: 0, citation: Citation { raw: own.clone(), ..Citation::default() } },
        Event::Citation { choice: 0, citation: web },
        Event::End,
    ];
    let document: Value = serde_json::from_slice(&Writer::new(caller()).document(all.clone())).unwrap();
    let citations = &document["content"][0]["citations"];
    assert_eq!((&citations[0], &citations[1]["url"]), (&own, &json!("https://a")));
    let deltas =
        stream(all).into_iter().filter(|(_, data)| data["delta"]["type"] == "citations_delta").count();
    assert_eq!(deltas, 2);
}
