//! Whatever Bedrock and Google send, a client gets a whole answer or an error; whatever a client sends, they get JSON.
//! Documents are made of the members that the readers know, in the wrong places and of the wrong types.

use attache_llm::contract::DeploymentMeta;
use attache_llm::dialect::answer::Event;
use attache_llm::dialect::translate::{Caller, Frame, Reading, read_request, reader, write_request};
use attache_llm::dialect::{Dialect, Translator, embeddings};
use attache_llm::provider::Provider;
use attache_llm::response::{UpstreamError, classify, error_body};
use proptest::prelude::*;
use serde_json::{Map, Value};

const NAMES: [&str; 56] = [
    "output",
    "message",
    "content",
    "text",
    "toolUse",
    "toolUseId",
    "name",
    "input",
    "reasoningContent",
    "reasoningText",
    "signature",
    "redactedContent",
    "citationsContent",
    "citations",
    "image",
    "source",
    "bytes",
    "format",
    "stopReason",
    "usage",
    "inputTokens",
    "outputTokens",
    "cacheDetails",
    "contentBlockIndex",
    "delta",
    "start",
    "citation",
    "location",
    "web",
    "url",
    "error",
    "code",
    "status",
    "details",
    "__type",
    "originalMessage",
    "candidates",
    "parts",
    "thought",
    "thoughtSignature",
    "functionCall",
    "args",
    "inlineData",
    "mimeType",
    "data",
    "finishReason",
    "index",
    "promptFeedback",
    "blockReason",
    "usageMetadata",
    "promptTokenCount",
    "groundingMetadata",
    "groundingChunks",
    "groundingSupports",
    "groundingChunkIndices",
    "logprobsResult",
];
const REQUEST: [&str; 34] = [
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
    "tool_call_id",
    "tools",
    "parameters",
    "tool_choice",
    "response_format",
    "json_schema",
    "schema",
    "stop",
    "reasoning_effort",
    "max_tokens",
    "input",
    "system",
    "source",
    "media_type",
    "data",
    "tool_use_id",
    "thinking",
    "signature",
    "cache_control",
    "file",
    "file_data",
    "id",
    "generationConfig",
];
const WORDS: [&str; 16] = [
    "user",
    "assistant",
    "tool",
    "function",
    "text",
    "image_url",
    "STOP",
    "end_turn",
    "tool_use",
    "tool_result",
    "json_schema",
    "data:image/png;base64,AAAA",
    "call_1__thought__Cg",
    "{\"a\":1}",
    "h\u{e9}",
    "",
];

/// Any JSON made of these names.
fn json(names: &'static [&'static str]) -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0_u64..4).prop_map(Value::from),
        any::<f64>().prop_map(|number| serde_json::Number::from_f64(number).map_or(Value::Null, Value::from)),
        prop::sample::select(&WORDS[..]).prop_map(Value::from),
    ];
    leaf.prop_recursive(7, 80, 6, move |inner| {
        let member =
            (prop::sample::select(names), inner.clone()).prop_map(|(name, value)| (name.to_owned(), value));
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(Value::from),
            prop::collection::vec(member, 0..6).prop_map(|members| Value::from(Map::from_iter(members))),
        ]
    })
}

fn caller(dialect: Dialect) -> Caller {
    Caller {
        dialect,
        model: "asked".into(),
        stream: true,
        want_usage: true,
        call_id: "call".into(),
        now_s: 1,
        echo: Map::new(),
    }
}

fn ends(events: &[Event]) -> bool {
    let ends = events.iter().filter(|event| **event == Event::End).count();
    let last = events.last() == Some(&Event::End);
    let errors: Vec<_> = events.iter().positions_of_errors();
    ends == 1 && last && errors.len() <= 1 && errors.iter().all(|at| at + 2 == events.len())
}

trait Errors {
    fn positions_of_errors(self) -> Vec<usize>;
}

impl<'a, T: Iterator<Item = &'a Event>> Errors for T {
    fn positions_of_errors(self) -> Vec<usize> {
        let error = |(at, event): (usize, &Event)| matches!(event, Event::Error(_)).then_some(at);
        self.enumerate().filter_map(error).collect()
    }
}

const EVENTS: [&str; 9] = [
    "messageStart",
    "contentBlockStart",
    "contentBlockDelta",
    "contentBlockStop",
    "messageStop",
    "metadata",
    "chunk",
    "throttlingException",
    "",
];

proptest! {
    #[test]
    fn answers_end_once(chunks in prop::collection::vec((json(&NAMES), prop::sample::select(&EVENTS[..])), 0..5)) {
        for upstream in [Dialect::Converse, Dialect::Gemini] {
            let reading = Reading { json_tool: Some("tool".into()), tool_names: Vec::new() };
            let mut read = reader(upstream, reading.clone()).unwrap();
            let mut events = Vec::new();
            for (chunk, name) in &chunks {
                let data = chunk.to_string();
                let exception = name.ends_with("Exception");
                read.frame(Frame { name: name.as_bytes(), data: data.as_bytes(), exception }, &mut events);
            }
            read.end(&mut events);
            prop_assert!(ends(&events), "{events:?}");
            for (chunk, _) in &chunks {
                let mut events = Vec::new();
                reader(upstream, reading.clone()).unwrap().document(chunk.to_string().as_bytes(), &mut events);
                prop_assert!(ends(&events), "{events:?}");
            }
        }
    }

    #[test]
    fn clients_get_json(document in json(&NAMES)) {
        let bytes = document.to_string();
        for upstream in [Dialect::Converse, Dialect::Gemini] {
            for client in [Dialect::Chat, Dialect::Messages, Dialect::Responses, Dialect::Completions] {
                let mut translator = Translator::new(upstream, Reading::default(), caller(client), 1).unwrap();
                match translator.document(bytes.as_bytes()) {
                    Ok(body) => prop_assert!(serde_json::from_slice::<Value>(&body).is_ok()),
                    Err(error) => prop_assert!((400..600).contains(&error.status)),
                }
            }
        }
        for status in [400, 429, 500] {
            let shown: Value = serde_json::from_slice(&error_body(status, bytes.as_bytes())).unwrap();
            prop_assert!(shown.get("error").is_some());
            let _ = classify(status, bytes.as_bytes());
        }
        let error = UpstreamError::of_provider(None, bytes.as_bytes());
        prop_assert!((400..600).contains(&error.status));
    }

    #[test]
    fn providers_get_json(body in json(&REQUEST), messages in json(&REQUEST), flags in any::<u8>()) {
        let mut body = body.as_object().cloned().unwrap_or_default();
        let turn = serde_json::json!({"role": "user", "content": messages});
        for (name, value) in [
            ("model", Value::from("m")),
            ("max_tokens", 9.into()),
            ("messages", if flags & 1 == 0 { Value::from(vec![turn]) } else { messages }),
        ] {
            body.insert(name.into(), value);
        }
        let bytes = Value::from(body).to_string();
        for client in [Dialect::Chat, Dialect::Messages] {
            let Ok(request) = read_request(client, bytes.as_bytes()) else { continue };
            for (upstream, provider) in
                [(Dialect::Converse, Provider::Bedrock), (Dialect::Gemini, Provider::Gemini)]
            {
                let model = if flags & 2 == 0 { "anthropic.claude-gemini-3" } else { "gemini-2.5-pro" };
                let mut meta = DeploymentMeta { provider, model: model.into(), ..DeploymentMeta::default() };
                meta.params.modify = flags & 4 != 0;
                meta.params.drop = flags & 8 != 0;
                match write_request(upstream, request.clone(), &meta) {
                    Ok(sent) => prop_assert!(serde_json::from_slice::<Value>(&sent.body).is_ok()),
                    Err(error) => prop_assert_eq!(error.status, 400),
                }
            }
        }
    }

    #[test]
    fn embeddings_end_well(request in json(&REQUEST), answer in json(&NAMES), texts in 1_usize..3) {
        let mut body = request.as_object().cloned().unwrap_or_default();
        body.insert("input".into(), vec!["a"; texts].into());
        for (provider, model) in [
            (Provider::Gemini, "e"),
            (Provider::Vertex, "e"),
            (Provider::Bedrock, "amazon.titan-embed-text-v2:0"),
            (Provider::Bedrock, "cohere.embed-v4"),
        ] {
            let meta = DeploymentMeta { provider, model: model.into(), ..DeploymentMeta::default() };
            let bytes = Value::from(body.clone()).to_string();
            let Ok((sent, asked)) = embeddings::write(bytes.as_bytes(), &meta, "asked") else { continue };
            prop_assert!(serde_json::from_slice::<Value>(&sent.body).is_ok());
            match embeddings::read(answer.to_string().as_bytes(), &asked) {
                Ok((body, _)) => prop_assert!(serde_json::from_slice::<Value>(&body).is_ok()),
                Err(error) => prop_assert!((400..600).contains(&error.status)),
            }
        }
    }
}
