use super::super::testing::{Sent, changed, city};
use super::*;

fn base() -> Value {
    json!({"model": "claude-sonnet-4-5", "max_tokens": 100, "messages": [{"role": "user", "content": "12345678"}]})
}

fn send(extra: Value) -> Sent {
    Sent::json("/one/v1/messages", &changed(&base(), extra))
        .header("x-api-key", "k")
        .header("anthropic-version", "2023-06-01")
}

fn tools() -> Value {
    json!([{"name": "get_weather", "input_schema": city()}])
}

#[test]
fn credentials() {
    assert!(send(json!({})).authenticate().is_ok());
    let status = |sent: Sent| sent.authenticate().unwrap_err().status;
    assert_eq!(status(send(json!({})).header("x-api-key", "")), 401);
    assert_eq!(status(send(json!({})).header("authorization", "Bearer sk-of-the-client")), 401);
    assert_eq!(status(send(json!({})).header("anthropic-version", "1")), 400);
}

#[test]
fn an_answer_whole_and_streamed() {
    let answer = send(json!({})).answer("text:a b,");
    assert_eq!(answer["content"], json!([{"type": "text", "text": "a b,"}]));
    assert_eq!((&answer["stop_reason"], &answer["usage"]["input_tokens"]), (&json!("end_turn"), &json!(6)));
    let events = send(json!({"stream": true})).events("usage:50/9,cached:20,written:10");
    let kinds: Vec<_> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(kinds[..4], ["message_start", "content_block_start", "ping", "content_block_delta"]);
    assert_eq!(kinds[kinds.len() - 3..], ["content_block_stop", "message_delta", "message_stop"]);
    let usage = &events[events.len() - 2]["usage"];
    assert_eq!((&usage["input_tokens"], &usage["output_tokens"]), (&json!(20), &json!(9)));
    assert_eq!(events[0]["message"]["usage"]["cache_read_input_tokens"], 20);
}

#[test]
fn thinking_and_tools_over_two_turns() {
    let ask = json!({"max_tokens": 2000, "thinking": {"type": "enabled", "budget_tokens": 1024}, "tools": tools(),
        "messages": [{"role": "user", "content": "weather?"}]});
    let first = send(ask.clone()).answer("");
    assert_eq!(first["content"][0]["type"], "thinking");
    assert_eq!(first["content"][1]["input"], json!({"city": "Genève"}));
    let streamed = send(changed(&ask, json!({"stream": true}))).events("");
    let input =
        streamed.iter().filter_map(|event| event["delta"]["partial_json"].as_str()).collect::<String>();
    assert_eq!(input, r#"{"city":"Genève"}"#);
    let result = |id: &Value| {
        json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": id,
        "content": [{"type": "text", "text": "18 degrees"}]}]})
    };
    let id = &first["content"][1]["id"];
    let turns = |content: &Value| {
        let messages = json!([{"role": "user", "content": "weather?"}, {"role": "assistant", "content": content}, result(id)]);
        send(changed(&ask, json!({"messages": messages})))
    };
    let second = turns(&first["content"]).answer("");
    assert_eq!(second["content"][1]["text"], "The tool said: 18 degrees");
    let unthought = json!([first["content"][1]]);
    assert!(turns(&unthought).refusal().contains("Expected `thinking`"));
    let mut forged = first["content"].clone();
    forged[0]["signature"] = json!("Zm9yZ2Vk");
    assert!(turns(&forged).refusal().contains("Invalid `signature`"));
}

#[test]
fn what_anthropic_would_refuse() {
    let call =
        json!({"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "f", "input": {}}]});
    let user = json!({"role": "user", "content": "x"});
    let part = |part: Value| json!({"messages": [{"role": "user", "content": [part]}]});
    for (change, word) in [
        (json!({"n": 2}), "n: Extra inputs"),
        (json!({"max_tokens": null}), "max_tokens: Field required"),
        (json!({"messages": []}), "at least one message"),
        (json!({"messages": [{"role": "system", "content": "x"}]}), "first message"),
        (json!({"messages": [user, {"role": "tool", "content": "x"}]}), "'user' or 'assistant'"),
        (json!({"messages": [user, call]}), ""),
        (json!({"messages": [user, call, user]}), "without `tool_result`"),
        (
            part(json!({"type": "tool_result", "tool_use_id": "t9", "content": "x"})),
            "unexpected `tool_use_id`",
        ),
        (part(json!({"type": "image_url", "image_url": {}})), "Input tag 'image_url'"),
        (part(json!({"type": "text", "text": ""})), "non-empty"),
        (part(json!({"type": "text", "text": "x", "index": 1})), "text.index: Extra"),
        (
            part(
                json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "%"}}),
            ),
            "source",
        ),
        (json!({"temperature": 1.5}), "temperature"),
        (json!({"tools": [{"name": "f", "input_schema": {}}]}), "input_schema.type"),
        (json!({"tool_choice": "auto"}), "tool_choice"),
        (json!({"tools": tools(), "tool_choice": {"type": "tool", "name": "g"}}), "not found"),
        (json!({"thinking": {"type": "enabled", "budget_tokens": 5}}), "1024"),
        (json!({"thinking": {"type": "enabled", "budget_tokens": 2048}}), "max_tokens"),
        (json!({"system": [{"type": "image"}]}), "system"),
        (json!({"stop_sequences": [" "]}), "stop sequence"),
        (json!({"metadata": {"user": "x"}}), "metadata.user"),
    ] {
        if word.is_empty() {
            // A call that is open at the end is not refused: the model may go on from it.
            assert!(send(change).plan("").is_ok());
            continue;
        }
        let text = send(change.clone()).refusal();
        assert!(text.contains(word), "{change}: {text}");
    }
}

#[test]
fn counting_and_vertex() {
    let mut models = Sent::json("/one/v1/models", &json!({})).header("anthropic-version", "2023-06-01");
    models.method = http::Method::GET;
    assert_eq!(models.authenticate().unwrap_err().status, 401);
    assert_eq!(models.header("x-api-key", "k").answer("")["data"][0]["type"], "model");
    let body = changed(&base(), json!({"max_tokens": null}));
    let counted = Sent::json("/one/v1/messages/count_tokens", &body).answer("");
    assert_eq!(counted, json!({"input_tokens": 6}));
    let path = "/one/v1/projects/p/locations/l/publishers/anthropic/models/claude-sonnet-4@20250514:";
    let body = changed(&base(), json!({"model": null, "anthropic_version": VERTEX_VERSION}));
    let answer = Sent::json(&format!("{path}rawPredict"), &body).answer("");
    assert_eq!(answer["model"], "claude-sonnet-4@20250514");
    assert_eq!(Sent::json(&format!("{path}streamRawPredict"), &body).events("")[0]["type"], "message_start");
    assert!(Sent::json(&format!("{path}rawPredict"), &base()).refusal().contains("anthropic_version"));
    assert_eq!(error(529, None, None)["error"]["type"], "overloaded_error");
}
