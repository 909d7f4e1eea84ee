//! Whatever a client or a provider of OpenAI's dialects sends: nothing panics, what is read can be written, and what is
//! written is JSON.

use attache_llm::contract::DeploymentMeta;
use attache_llm::dialect::Dialect;
use attache_llm::dialect::answer::Event;
use attache_llm::dialect::translate::{Caller, Frame, Reading, read_request, reader, write_request, writer};
use proptest::prelude::*;
use serde_json::{Map, Value};

/// Names that mean something somewhere.
const NAMES: [&str; 52] = [
    "model",
    "messages",
    "role",
    "content",
    "type",
    "text",
    "image_url",
    "url",
    "tool_calls",
    "function",
    "name",
    "arguments",
    "id",
    "index",
    "custom",
    "input",
    "tool_call_id",
    "tools",
    "tool_choice",
    "response_format",
    "json_schema",
    "schema",
    "stop",
    "stream",
    "stream_options",
    "prompt",
    "reasoning",
    "reasoning_effort",
    "thinking",
    "thinking_blocks",
    "signature",
    "data",
    "summary",
    "encrypted_content",
    "call_id",
    "output",
    "choices",
    "delta",
    "message",
    "finish_reason",
    "usage",
    "prompt_tokens",
    "error",
    "logprobs",
    "annotations",
    "url_citation",
    "audio",
    "refusal",
    "reasoning_content",
    "citations",
    "cache_control",
    "file",
];

const WORDS: [&str; 36] = [
    "",
    "user",
    "assistant",
    "system",
    "tool",
    "function",
    "text",
    "image_url",
    "auto",
    "required",
    "json_schema",
    "json_object",
    "stop",
    "length",
    "error",
    "high",
    "enabled",
    "data:image/png;base64,AAAA",
    "data:,",
    "https://x.test",
    "{}",
    "{\"input\":\"x\"}",
    "call_1",
    "attache:signature:S",
    "message",
    "function_call",
    "function_call_output",
    "reasoning",
    "input_text",
    "output_text",
    "custom",
    "allowed_tools",
    "input_image",
    "input_file",
    "thinking",
    "é\n\"",
];

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        4 => proptest::sample::select(WORDS.to_vec()).prop_map(Value::from),
        1 => any::<i64>().prop_map(Value::from),
        1 => (0_u64..3).prop_map(Value::from),
        1 => any::<bool>().prop_map(Value::from),
        1 => Just(Value::Null),
    ];
    leaf.prop_recursive(6, 60, 6, |inner| {
        let name = proptest::sample::select(NAMES.to_vec());
        prop_oneof![
            1 => proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            3 => proptest::collection::vec((name, inner), 0..6).prop_map(|members| {
                let members = members.into_iter().map(|(name, value)| (name.to_owned(), value));
                Value::Object(members.collect::<Map<String, Value>>())
            }),
        ]
    })
}

/// Something in the place where it would be read.
fn placed() -> impl Strategy<Value = Value> {
    let places = [
        "/messages",
        "/messages/0",
        "/messages/0/content",
        "/messages/0/content/0",
        "/messages/0/tool_calls/0",
        "/tools/0",
        "/input",
        "/input/0",
        "/input/0/content/0",
        "/prompt",
        "/choices",
        "/choices/0",
        "/choices/0/message",
        "/choices/0/delta",
        "/choices/0/delta/tool_calls/0",
        "/usage",
        "",
    ];
    (value(), proptest::sample::select(places.to_vec())).prop_map(|(value, place)| {
        place.rsplit('/').filter(|step| !step.is_empty()).fold(value, |inner, step| match step {
            "0" => Value::Array(vec![inner]),
            name => Value::Object([(name.to_owned(), inner)].into_iter().collect()),
        })
    })
}

fn caller(dialect: Dialect, echo: Map<String, Value>) -> Caller {
    Caller {
        dialect,
        model: "mine".to_owned(),
        stream: true,
        want_usage: true,
        call_id: "call".to_owned(),
        now_s: 1,
        echo,
    }
}

/// Every frame of a stream holds JSON, but for the end.
fn check_stream(stream: &[u8]) {
    let stream = std::str::from_utf8(stream).expect("UTF-8");
    for event in stream.split_terminator("\n\n") {
        let data = event.lines().find_map(|line| line.strip_prefix("data: ")).expect("data");
        assert!(data == "[DONE]" || serde_json::from_str::<Value>(data).is_ok(), "{event}");
        assert!(event.lines().count() <= 2, "{event}");
    }
}

fn written(events: &[Event]) {
    for dialect in [Dialect::Chat, Dialect::Completions, Dialect::Responses] {
        let mut out = Vec::new();
        let mut streaming = writer(caller(dialect, Map::new())).expect("a client's dialect");
        events.iter().for_each(|event| streaming.event(event.clone(), &mut out));
        check_stream(&out);
        if !events.iter().any(|event| matches!(event, Event::Error(_))) {
            let document =
                writer(caller(dialect, Map::new())).expect("a client's dialect").document(events.to_vec());
            assert!(serde_json::from_slice::<Value>(&document).is_ok());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn requests(body in placed()) {
        let body = body.to_string();
        for dialect in [Dialect::Chat, Dialect::Completions, Dialect::Responses] {
            match read_request(dialect, body.as_bytes()) {
                Ok(request) => {
                    for authority in ["api.openai.com", "api.mistral.ai", "openrouter.ai", "vllm.test"] {
                        let meta = DeploymentMeta { authority: authority.to_owned(), ..DeploymentMeta::default() };
                        if let Ok(sent) = write_request(Dialect::Chat, request.clone(), &meta) {
                            prop_assert!(serde_json::from_slice::<Value>(&sent.body).is_ok());
                        }
                    }
                    let document = writer(caller(dialect, request.echo)).unwrap().document(vec![Event::End]);
                    prop_assert!(serde_json::from_slice::<Value>(&document).is_ok());
                }
                Err(error) => prop_assert_eq!(error.status, 400),
            }
        }
    }

    #[test]
    fn answers(frames in proptest::collection::vec(placed(), 1..5), done in any::<bool>()) {
        let mut frames: Vec<String> = frames.iter().map(Value::to_string).collect();
        let mut events = Vec::new();
        reader(Dialect::Chat, Reading::default()).unwrap().document(frames[0].as_bytes(), &mut events);
        prop_assert!(matches!(events.last(), Some(Event::End)));
        written(&events);
        if done {
            frames.push("[DONE]".to_owned());
        }
        events.clear();
        let mut reading = reader(Dialect::Chat, Reading::default()).unwrap();
        for data in &frames {
            reading.frame(Frame { name: b"", data: data.as_bytes(), exception: false }, &mut events);
        }
        reading.end(&mut events);
        let ends = events.iter().filter(|event| matches!(event, Event::End)).count();
        prop_assert!(ends == 1 && matches!(events.last(), Some(Event::End)), "{:?}", events);
        written(&events);
    }
}
