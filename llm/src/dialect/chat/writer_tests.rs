use serde_json::json;

use super::*;
use crate::dialect::answer::Citation;
use crate::dialect::chat::Reader;
use crate::dialect::translate::{Frame, Read, Reading};
use crate::response::UpstreamError;

fn caller(want_usage: bool, echo: Value) -> Caller {
    Caller {
        dialect: Dialect::Chat,
        model: "mine".to_owned(),
        stream: true,
        want_usage,
        call_id: "call-1".to_owned(),
        now_s: 1_700_000_000,
        echo: echo.as_object().cloned().unwrap_or_default(),
    }
}

/// Everything that an answer may hold.
fn answer() -> Vec<Event> {
    let text = |text: &str| Event::Text { choice: 0, text: text.to_owned() };
    let thinking = |text: &str| Event::Thinking { choice: 0, text: text.to_owned() };
    let call = |index, id: &str, signature: Option<&str>| Event::ToolCall {
        choice: 0,
        index,
        id: id.to_owned(),
        name: "f".to_owned(),
        signature: signature.map(str::to_owned),
    };
    let arguments = |index, json: &str| Event::ToolArguments { choice: 0, index, json: json.to_owned() };
    let citation = Citation {
        url: Some("https://x.test".to_owned()),
        title: Some("X".to_owned()),
        end: Some(3),
        ..Citation::default()
    };
    vec![
        Event::Start { id: Some("msg_1".to_owned()), created: None },
        Event::Also(json!({"service_tier": "default"}).as_object().cloned().unwrap()),
        thinking("Let me "),
        thinking("see."),
        Event::Signature { choice: 0, signature: "SIG".to_owned() },
        Event::RedactedThinking { choice: 0, data: "RED".to_owned() },
        text("Look \"here\"\n"),
        text("ünd dört"),
        Event::Logprobs { choice: 0, content: vec![json!({"token": "Look", "logprob": -0.5})] },
        Event::Citation { choice: 0, citation },
        call(0, "a", Some("GS")),
        arguments(0, "{\"x\":"),
        arguments(0, "1}"),
        call(1, "b", None),
        arguments(1, "{}"),
        Event::Media { choice: 0, media_type: "image/png".to_owned(), data: "AAAA".to_owned() },
        Event::Finish { choice: 0, reason: Finish::ToolCalls, stop: None },
        Event::Usage(Usage {
            prompt: 5,
            completion: 4,
            total: 9,
            cached: 2,
            reasoning: 1,
            ..Usage::default()
        }),
        Event::End,
    ]
}

fn streamed(events: Vec<Event>, caller: Caller) -> Vec<String> {
    let mut writer = Writer::new(caller);
    let mut out = Vec::new();
    for event in events {
        writer.event(event, &mut out);
    }
    let text = String::from_utf8(out).unwrap();
    let frames: Vec<String> = text
        .split_terminator("\n\n")
        .map(|event| event.strip_prefix("data: ").expect("one line of data").to_owned())
        .collect();
    assert!(frames.iter().all(|frame| !frame.contains('\n')));
    frames
}

fn chunks(events: Vec<Event>, caller: Caller) -> Vec<Value> {
    let mut frames = streamed(events, caller);
    assert_eq!(frames.pop().as_deref(), Some("[DONE]"));
    frames.iter().map(|frame| serde_json::from_str(frame).unwrap()).collect()
}

fn document(events: Vec<Event>, caller: Caller) -> Value {
    serde_json::from_slice(&Writer::new(caller).document(events)).unwrap()
}

/// Adds up the deltas of the first choice as OpenAI's libraries do.
fn accumulate(chunks: &[Value]) -> Value {
    let mut message = json!({});
    for delta in chunks.iter().filter_map(|chunk| chunk.pointer("/choices/0/delta")) {
        add(&mut message, delta);
    }
    message
}

fn add(known: &mut Value, more: &Value) {
    match (known, more) {
        (Value::Object(known), Value::Object(more)) => {
            for (name, value) in more {
                match known.get_mut(name) {
                    Some(slot) if !slot.is_null() && name != "index" && name != "type" => add(slot, value),
                    _ => {
                        known.insert(name.clone(), value.clone());
                    }
                }
            }
        }
        (Value::Array(known), Value::Array(more)) => {
            for item in more {
                let same = |other: &&mut Value| {
                    item.get("index").is_some() && other.get("index") == item.get("index")
                };
                match known.iter_mut().find(same) {
                    Some(slot) => add(slot, item),
                    None => known.push(item.clone()),
                }
            }
        }
        (Value::String(known), Value::String(more)) => known.push_str(more),
        (_, Value::Null) => {}
        (slot, more) => *slot = more.clone(),
    }
}

#[test]
fn a_stream_says_what_the_whole_answer_says() {
    let chunks = chunks(answer(), caller(true, json!({})));
    let whole = document(answer(), caller(true, json!({})));
    let mut message = accumulate(&chunks);
    for call in message["tool_calls"].as_array_mut().unwrap() {
        call.as_object_mut().unwrap().remove("index");
    }
    let mut expected = whole["choices"][0]["message"].clone();
    expected.as_object_mut().unwrap().remove("refusal");
    let sorted = |value: &Value| {
        let members: BTreeMap<String, Value> =
            value.as_object().unwrap().iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        members
    };
    assert_eq!(sorted(&message), sorted(&expected));
    assert_eq!(expected["content"], "Look \"here\"\nünd dört");
    assert_eq!(expected["reasoning_content"], "Let me see.");
    assert_eq!(
        expected["thinking_blocks"],
        json!([{"type": "thinking", "thinking": "Let me see.", "signature": "SIG"},
            {"type": "redacted_thinking", "data": "RED"}])
    );
    assert_eq!(expected["tool_calls"][0]["extra_content"]["google"]["thought_signature"], "GS");
    assert_eq!(expected["tool_calls"][0]["function"], json!({"name": "f", "arguments": "{\"x\":1}"}));
    assert_eq!(expected["annotations"][0]["url_citation"]["url"], "https://x.test");
    assert_eq!(whole["choices"][0]["finish_reason"], "tool_calls");
    assert_eq!(whole["choices"][0]["logprobs"]["content"][0]["token"], "Look");
    let usage = &chunks.last().unwrap()["usage"];
    assert_eq!(usage, &whole["usage"]);
    assert_eq!(usage["prompt_tokens_details"]["cached_tokens"], 2);
    assert_eq!(usage["completion_tokens_details"]["reasoning_tokens"], 1);
}

#[test]
fn chunks_have_the_form_of_openais() {
    let chunks = chunks(answer(), caller(true, json!({})));
    let (last, others) = chunks.split_last().unwrap();
    for chunk in others {
        assert_eq!(chunk["id"], "chatcmpl-msg_1");
        assert_eq!(chunk["object"], "chat.completion.chunk");
        assert_eq!(chunk["created"], 1_700_000_000);
        assert_eq!((&chunk["model"], &chunk["service_tier"]), (&json!("mine"), &json!("default")));
        assert!(chunk.get("usage").is_some_and(Value::is_null));
        assert_eq!(chunk["choices"][0]["index"], 0);
    }
    assert_eq!(others[0]["choices"][0]["delta"]["role"], "assistant");
    assert!(others[1..].iter().all(|chunk| chunk["choices"][0]["delta"].get("role").is_none()));
    let reasons = others.iter().filter(|chunk| !chunk["choices"][0]["finish_reason"].is_null()).count();
    assert_eq!((reasons, &last["choices"]), (1, &json!([])));
    let plain = super::tests::chunks(answer(), caller(false, json!({})));
    assert!(plain.iter().all(|chunk| chunk.get("usage").is_none()));
    assert_eq!(plain.len(), chunks.len() - 1);
}

/// What our own reader makes of our own answers.
fn read_back(events: Vec<Event>) -> (Vec<Event>, Vec<Event>) {
    let mut of_stream = Vec::new();
    let mut reader = Reader::new(Reading::default());
    for data in streamed(events.clone(), caller(true, json!({}))) {
        reader.frame(Frame { name: b"", data: data.as_bytes(), exception: false }, &mut of_stream);
    }
    let mut of_document = Vec::new();
    let document = Writer::new(caller(true, json!({}))).document(events);
    Reader::new(Reading::default()).document(&document, &mut of_document);
    (of_stream, of_document)
}

fn words(events: &[Event]) -> (String, String, Vec<(String, String)>) {
    let (mut text, mut thinking, mut calls) = (String::new(), String::new(), Vec::<(String, String)>::new());
    for event in events {
        match event {
            Event::Text { text: more, .. } => text.push_str(more),
            Event::Thinking { text: more, .. } => thinking.push_str(more),
            Event::ToolCall { id, .. } => calls.push((id.clone(), String::new())),
            Event::ToolArguments { json, .. } => calls.last_mut().unwrap().1.push_str(json),
            _ => {}
        }
    }
    (text, thinking, calls)
}

#[test]
fn the_reader_reads_what_the_writer_wrote() {
    let (of_stream, of_document) = read_back(answer());
    let expected = words(&answer());
    assert_eq!(words(&of_stream), expected);
    assert_eq!(words(&of_document), expected);
    for events in [of_stream, of_document] {
        let signed =
            |event: &Event| matches!(event, Event::Signature { signature, .. } if signature == "SIG");
        assert!(events.iter().any(signed));
        let used =
            |event: &Event| matches!(event, Event::Usage(usage) if usage.prompt == 5 && usage.cached == 2);
        assert!(events.iter().any(used));
    }
}

#[test]
fn clients_that_know_functions_or_custom_tools() {
    let legacy = caller(false, json!({LEGACY_FUNCTIONS: true}));
    let expected = json!({"name": "f", "arguments": "{\"x\":1}"});
    assert_eq!(accumulate(&chunks(answer(), legacy.clone()))["function_call"], expected);
    let whole = document(answer(), legacy);
    assert_eq!(whole["choices"][0]["message"]["function_call"], expected);
    assert_eq!(whole["choices"][0]["finish_reason"], "function_call");
    assert!(whole["choices"][0]["message"].get("tool_calls").is_none());

    let call =
        Event::ToolCall { choice: 0, index: 0, id: "a".to_owned(), name: "sh".to_owned(), signature: None };
    let arguments = |json: &str| Event::ToolArguments { choice: 0, index: 0, json: json.to_owned() };
    let finish = Event::Finish { choice: 0, reason: Finish::ToolCalls, stop: None };
    let events = vec![call, arguments("{\"input\":"), arguments("\"ls\"}"), finish, Event::End];
    let custom = caller(false, json!({CUSTOM_TOOLS: ["sh"]}));
    let mut expected = json!({"id": "a", "type": "custom", "custom": {"name": "sh", "input": "ls"}});
    let whole = document(events.clone(), custom.clone());
    assert_eq!(whole["choices"][0]["message"]["tool_calls"], json!([expected]));
    expected["index"] = 0.into();
    assert_eq!(accumulate(&chunks(events, custom))["tool_calls"], json!([expected]));
}

#[test]
fn an_error_is_an_event_and_then_the_end() {
    let error = UpstreamError::new("gone", Some("overloaded_error"), None);
    let text = Event::Text { choice: 0, text: "x".to_owned() };
    let frames = streamed(vec![text, Event::Error(error), Event::End], caller(true, json!({})));
    let error: Value = serde_json::from_str(&frames[1]).unwrap();
    assert_eq!((error["error"]["message"].as_str(), frames[2].as_str()), (Some("gone"), "[DONE]"));
    let mut out = Vec::new();
    write_error(b"{\n\"error\": {\r\n}}", &mut out);
    assert_eq!(out, b"data: { \"error\": {  }}\n\n");
}

#[test]
fn reasons() {
    let reasons = [
        (Finish::StopSequence, "stop"),
        (Finish::Length, "length"),
        (Finish::ContentFilter, "content_filter"),
        (Finish::Refusal, "content_filter"),
        (Finish::Pause, "stop"),
    ];
    for (reason, word) in reasons {
        let finish = Event::Finish { choice: 0, reason, stop: Some("END".to_owned()) };
        let choice = document(vec![finish, Event::End], caller(false, json!({})))["choices"][0].clone();
        assert_eq!((choice["finish_reason"].as_str(), &choice["stop_reason"]), (Some(word), &json!("END")));
    }
}
