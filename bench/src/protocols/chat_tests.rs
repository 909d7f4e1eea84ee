use super::super::testing::{Sent, changed, city};
use super::*;

fn send(extra: Value) -> Sent {
    let base = json!({"model": "gpt-4o", "messages": [{"role": "user", "content": "12345"}, {"role": "user",
        "content": [{"type": "text", "text": "1234"}, {"type": "image_url", "image_url": {"url": "x"}}]}]});
    Sent::json("/one/v1/chat/completions", &changed(&base, extra))
}

fn tool() -> Value {
    json!([{"type": "function", "function": {"name": "get_weather", "parameters": city()}}])
}

#[test]
fn usage_is_what_the_documentation_says() {
    let planned = send(json!({"n": 2})).plan("chunks:7").unwrap();
    assert_eq!((planned.prompt, planned.completion), (4 + 2 + 4 + 1, 14));
    let answer = send(json!({"n": 2})).answer("chunks:7");
    assert_eq!(answer["usage"]["total_tokens"], 25);
    assert_eq!(answer["choices"].as_array().unwrap().len(), 2);
    assert_eq!(send(json!({})).answer("usage:1000/500")["usage"]["total_tokens"], 1500);
}

#[test]
fn max_tokens_cuts_the_answer_short() {
    let answer = send(json!({"max_completion_tokens": 3})).answer("");
    assert_eq!(answer["usage"]["completion_tokens"], 3);
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    assert_eq!(answer["model"], "gpt-4o-2024-08-06");
    assert!(answer["choices"][0]["logprobs"].is_null());
    assert_eq!(send(json!({})).answer(""), send(json!({})).answer(""));
}

#[test]
fn a_stream_has_usage_only_when_asked() {
    let plain = send(json!({"stream": true})).events("text:one two");
    assert_eq!(plain.len(), 1 + 2 + 1);
    assert!(plain.iter().all(|event| event.get("usage").is_none()));
    let asking = send(json!({"stream": true, "stream_options": {"include_usage": true}}));
    let asked_for = asking.events("text:one two");
    assert_eq!(asked_for.len(), 5);
    assert!(asked_for[..4].iter().all(|event| event["usage"].is_null() && event.get("usage").is_some()));
    assert_eq!(asked_for[4]["choices"], json!([]));
    assert_eq!(asked_for[4]["usage"]["completion_tokens"], 2);
    assert!(asking.events("no-usage").iter().all(|event| event.get("usage").is_none()));
}

#[test]
fn azure_streams_begin_without_choices_and_need_a_version() {
    let body = json!({"stream": true, "messages": [{"role": "user", "content": "x"}]});
    let path = "/a/openai/deployments/gpt-4o/chat/completions";
    let events = Sent::json(&format!("{path}?api-version=2024-10-21"), &body).events("");
    assert_eq!(events[0]["choices"], json!([]));
    assert!(events[0]["prompt_filter_results"].is_array());
    assert_eq!(events[1]["choices"][0]["delta"]["role"], "assistant");
    assert_eq!(Sent::json(path, &body).plan("").unwrap_err().status, 404);
}

#[test]
fn tools_are_called_and_their_results_quoted() {
    let asking = send(json!({"tools": tool()}));
    let message = asking.answer("tools")["choices"][0]["message"].clone();
    assert_eq!(message["tool_calls"][0]["function"]["arguments"], r#"{"city":"Genève"}"#);
    let streaming = send(json!({"tools": tool(), "stream": true})).events("parallel");
    let arguments: String = streaming
        .iter()
        .filter(|event| event["choices"][0]["delta"]["tool_calls"][0]["index"] == 1)
        .filter_map(|event| event["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"].as_str())
        .collect();
    assert_eq!(arguments, r#"{"city":"Genève"}"#);
    assert_eq!(streaming.last().unwrap()["choices"][0]["finish_reason"], "tool_calls");
    let id = message["tool_calls"][0]["id"].clone();
    let answered = json!([{"role": "user", "content": "weather?"}, message,
        {"role": "tool", "tool_call_id": id, "content": "18 degrees"}]);
    let second = send(json!({"tools": tool(), "messages": answered})).answer("");
    assert_eq!(second["choices"][0]["message"]["content"], "The tool said: 18 degrees");
}

#[test]
fn refusals_thinking_and_schemas() {
    let refused = send(json!({})).answer("refuse");
    assert!(refused["choices"][0]["message"]["refusal"].as_str().unwrap().contains("can't"));
    let thought = send(json!({})).answer("thinking");
    assert!(thought["choices"][0]["message"]["reasoning_content"].is_string());
    let mut schema = city();
    schema["additionalProperties"] = json!(false);
    let format =
        json!({"type": "json_schema", "json_schema": {"name": "c", "strict": true, "schema": schema}});
    let answer = send(json!({"response_format": format})).answer("json");
    assert_eq!(answer["choices"][0]["message"]["content"], r#"{"city":"Genève"}"#);
}

#[test]
fn what_openai_would_refuse() {
    let call = json!({"role": "assistant", "tool_calls": [{"id": "c1", "type": "function",
        "function": {"name": "f", "arguments": "{}"}}]});
    let user = json!({"role": "user", "content": "x"});
    for (messages, word) in [
        (json!([{"role": "robot", "content": "x"}]), "role"),
        (json!([{"role": "user"}]), "content"),
        (json!([{"role": "user", "content": [{"type": "tool_use"}]}]), "content part"),
        (json!([user, {"role": "tool", "tool_call_id": "c1", "content": "x"}]), "preceeding"),
        (json!([user, call, user]), "did not have response messages: c1"),
        (json!([user, call]), "did not have response messages: c1"),
    ] {
        let text = send(json!({"messages": messages})).refusal();
        assert!(text.contains(word), "{text}");
    }
    let open = json!({"type": "json_schema", "json_schema": {"name": "c", "strict": true, "schema": city()}});
    assert!(send(json!({"response_format": open})).refusal().contains("additionalProperties"));
    assert!(send(json!({"messages": null})).refusal().contains("messages"));
}

#[test]
fn completions_and_embeddings() {
    let body = json!({"model": "m", "prompt": "1234", "stream": true});
    let events = Sent::json("/one/v1/completions", &body).events("text:a b");
    let text: String = events.iter().filter_map(|e| e["choices"][0]["text"].as_str()).collect();
    assert_eq!((text.as_str(), &events[0]["object"]), ("a b", &json!("text_completion")));
    let embed = |input: Value, format: &str| {
        let body = json!({"model": "m", "input": input, "dimensions": 3, "encoding_format": format});
        Sent::json("/one/v1/embeddings", &body).answer("")
    };
    let two = embed(json!(["12345678", "1"]), "float");
    assert_eq!(two["data"][1]["embedding"].as_array().unwrap().len(), 3);
    assert_eq!(two["usage"], json!({"prompt_tokens": 3, "total_tokens": 3}));
    let tokens = embed(json!([1, 2, 3]), "base64");
    assert_eq!(tokens["data"].as_array().unwrap().len(), 1);
    assert_eq!(tokens["data"][0]["embedding"].as_str().unwrap().len(), 16);
    assert_eq!(tokens["usage"]["prompt_tokens"], 3);
}

#[test]
fn errors_by_kind() {
    use super::super::openai::error;
    use crate::script::Refusal;
    assert_eq!(error(400, Some(Refusal::Context), None, false)["error"]["code"], "context_length_exceeded");
    assert_eq!(error(400, Some(Refusal::Content), None, true)["error"]["code"], "content_filter");
    assert_eq!(error(400, Some(Refusal::Content), None, false)["error"]["code"], "content_policy_violation");
    assert_eq!(error(429, Some(Refusal::Quota), None, false)["error"]["type"], "insufficient_quota");
    assert_eq!(error(404, None, None, false)["error"]["code"], "model_not_found");
}
