use aws_smithy_eventstream::frame::{DecodedFrame, MessageFrameDecoder};

use super::super::testing::{Sent, changed, city};
use super::*;

fn send(action: &str, extra: Value) -> Sent {
    let base = json!({"messages": [{"role": "user", "content": [{"text": "12345678"}]}]});
    Sent::json(&format!("/one/model/anthropic.claude-v1%3A0/{action}"), &changed(&base, extra))
}

fn tools() -> Value {
    json!({"tools": [{"toolSpec": {"name": "get_weather", "inputSchema": {"json": city()}}}]})
}

/// Type and payload of every message.
fn decoded(frames: &[Bytes]) -> Vec<(String, Value)> {
    let mut decoder = MessageFrameDecoder::new();
    let mut messages = Vec::new();
    for frame in frames {
        let DecodedFrame::Complete(message) = decoder.decode_frame(&mut frame.clone()).unwrap() else {
            panic!("a frame is a message");
        };
        let kind = message.headers()[0].value().as_string().unwrap().as_str().to_owned();
        messages.push((kind, serde_json::from_slice(message.payload()).unwrap()));
    }
    messages
}

#[test]
fn an_answer_whole_and_in_frames() {
    let answer = send("converse", json!({})).answer("usage:50/9,cached:20");
    assert_eq!(answer["output"]["message"]["content"].as_array().unwrap().len(), 1);
    assert_eq!(answer["usage"]["inputTokens"], 30);
    let messages = decoded(&send("converse-stream", json!({})).frames("text:a b"));
    let kinds: Vec<_> = messages.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(
        kinds,
        [
            "messageStart",
            "contentBlockDelta",
            "contentBlockDelta",
            "contentBlockStop",
            "messageStop",
            "metadata",
        ]
    );
    assert_eq!(messages[5].1["usage"]["outputTokens"], 2);
    let Planned { answer: super::super::Answer::Stream(flow), .. } =
        send("converse-stream", json!({})).plan("").unwrap()
    else {
        panic!("no stream");
    };
    assert_eq!(decoded(&[flow.error])[0].0, "modelStreamErrorException");
}

#[test]
fn tools_over_two_turns() {
    let weather = json!({"role": "user", "content": [{"text": "weather?"}]});
    let ask = json!({"messages": [weather], "toolConfig": tools(),
        "additionalModelRequestFields": {"thinking": {"type": "enabled", "budget_tokens": 1024}}});
    let message = send("converse", ask.clone()).answer("")["output"]["message"].clone();
    assert_eq!(message["content"][1]["toolUse"]["input"], json!({"city": "Genève"}));
    let streamed = decoded(&send("converse-stream", ask.clone()).frames(""));
    let input: String =
        streamed.iter().filter_map(|(_, e)| e["delta"]["toolUse"]["input"].as_str()).collect();
    assert_eq!(input, r#"{"city":"Genève"}"#);
    let result = json!({"role": "user", "content": [{"toolResult": {
        "toolUseId": message["content"][1]["toolUse"]["toolUseId"], "content": [{"text": "18 degrees"}]}}]});
    let turns = json!([weather, message, result]);
    let second = send("converse", changed(&ask, json!({"messages": turns}))).answer("");
    assert_eq!(second["output"]["message"]["content"][1]["text"], "The tool said: 18 degrees");
    assert!(
        send("converse", json!({"messages": turns})).refusal().contains("toolConfig field must be defined")
    );
}

#[test]
fn what_bedrock_would_refuse() {
    let user = json!({"role": "user", "content": [{"text": "x"}]});
    let part = |part: Value| json!({"messages": [{"role": "user", "content": [part]}]});
    for (change, word) in [
        (json!({"max_tokens": 5}), "max_tokens: extraneous"),
        (json!({"messages": [user, user]}), "alternate"),
        (json!({"messages": [{"role": "assistant", "content": [{"text": "x"}]}]}), "start with a user"),
        (json!({"messages": [{"role": "user", "content": "x"}]}), "content field is empty"),
        (part(json!({"type": "text", "text": "x"})), "exactly one"),
        (part(json!({"text": ""})), "blank"),
        (part(json!({"image": {"format": "jpg", "source": {"bytes": "aGk="}}})), "image.format"),
        (
            part(json!({"document": {"format": "pdf", "name": "a.pdf", "source": {"bytes": "aGk="}}})),
            "document.name",
        ),
        (part(json!({"toolResult": {"toolUseId": "t", "content": [{"text": "x"}]}})), "number of toolResult"),
        (json!({"inferenceConfig": {"topK": 5}}), "topK"),
        (json!({"inferenceConfig": {"temperature": 1.5}}), "temperature"),
        (json!({"system": "be kind"}), "system"),
        (json!({"toolConfig": {"tools": []}}), "toolConfig.tools"),
        (json!({"toolConfig": {"tools": tools()["tools"], "toolChoice": {"auto": null}}}), "toolChoice"),
    ] {
        let text = send("converse", change.clone()).refusal();
        assert!(text.contains(word), "{change}: {text}");
    }
}

#[test]
fn embeddings() {
    let titan = |body: Value| Sent::json("/one/model/amazon.titan-embed-text-v2%3A0/invoke", &body);
    let answer = titan(json!({"inputText": "12345678", "dimensions": 256})).answer("");
    assert_eq!(
        (answer["embedding"].as_array().unwrap().len(), &answer["inputTextTokenCount"]),
        (256, &json!(2))
    );
    assert!(titan(json!({"input": "x"})).refusal().contains("extraneous key [input]"));
    let cohere = |body: Value| Sent::json("/one/model/cohere.embed-multilingual-v3/invoke", &body);
    let answer = cohere(json!({"texts": ["a", "b"], "input_type": "search_query"})).answer("");
    assert_eq!(answer["embeddings"].as_array().unwrap().len(), 2);
    assert!(cohere(json!({"texts": ["a"]})).refusal().contains("input_type"));
    assert_eq!(exception(429, None), "ThrottlingException");
}
