use super::*;

fn asked(kind: Kind, body: &Value, script: &Script) -> Asked {
    Asked::read(kind, "gpt-4o", false, body, script)
}

fn chat(extra: &Value) -> Value {
    let mut body = json!({"messages": [{"role": "user", "content": "12345"}, {"role": "user", "content":
        [{"type": "text", "text": "1234"}, {"type": "image_url", "image_url": {"url": "x"}}]}]});
    for (k, v) in extra.as_object().unwrap() {
        body[k] = v.clone();
    }
    body
}

#[test]
fn usage_is_what_the_documentation_says() {
    let script = Script { chunks: Some(7), ..Script::default() };
    let asked = asked(Kind::Chat, &chat(&json!({"n": 2})), &script);
    assert_eq!(asked.tokens(), Tokens { prompt: 4 + 2 + 4 + 1, completion: 14 });
    assert_eq!(asked.json(&script)["usage"]["total_tokens"], 25);
    assert_eq!(asked.json(&script)["choices"].as_array().unwrap().len(), 2);
}

#[test]
fn max_tokens_cuts_the_answer_short() {
    let asked = asked(Kind::Chat, &chat(&json!({"max_completion_tokens": 3})), &Script::default());
    let answer = asked.json(&Script::default());
    assert_eq!(answer["usage"]["completion_tokens"], 3);
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    assert_eq!(answer["model"], "gpt-4o-2024-08-06");
    assert!(answer["choices"][0]["logprobs"].is_null());
}

#[test]
fn a_stream_has_usage_only_when_asked() {
    let script = Script { text: Some("one two".into()), ..Script::default() };
    let plain = asked(Kind::Chat, &chat(&json!({"stream": true})), &script).events(&script);
    assert_eq!(plain.len(), 1 + 2 + 1);
    assert!(plain.iter().all(|event| event.get("usage").is_none()));
    let body = chat(&json!({"stream": true, "stream_options": {"include_usage": true}}));
    let asked_for = asked(Kind::Chat, &body, &script).events(&script);
    assert_eq!(asked_for.len(), 5);
    assert!(asked_for[..4].iter().all(|event| event["usage"].is_null() && event.get("usage").is_some()));
    assert_eq!(asked_for[4]["choices"], json!([]));
    assert_eq!(asked_for[4]["usage"]["completion_tokens"], 2);
    let silent = Script { no_usage: true, ..script };
    let without = asked(Kind::Chat, &body, &silent).events(&silent);
    assert!(without.iter().all(|event| event.get("usage").is_none()));
}

#[test]
fn azure_streams_begin_without_choices() {
    let body = chat(&json!({"stream": true}));
    let asked = Asked::read(Kind::Chat, "gpt-4o", true, &body, &Script::default());
    let events = asked.events(&Script::default());
    assert_eq!(events[0]["choices"], json!([]));
    assert!(events[0]["prompt_filter_results"].is_array());
    assert_eq!(events[1]["choices"][0]["delta"]["role"], "assistant");
}

#[test]
fn embeddings_have_one_vector_per_input() {
    let body = json!({"input": ["12345678", "1"], "dimensions": 3});
    let answer = asked(Kind::Embeddings, &body, &Script::default()).json(&Script::default());
    assert_eq!(answer["data"].as_array().unwrap().len(), 2);
    assert_eq!(answer["data"][1]["embedding"].as_array().unwrap().len(), 3);
    assert_eq!(answer["usage"], json!({"prompt_tokens": 3, "total_tokens": 3}));
    let tokens = json!({"input": [1, 2, 3]});
    let answer = asked(Kind::Embeddings, &tokens, &Script::default()).json(&Script::default());
    assert_eq!(answer["data"].as_array().unwrap().len(), 1);
    assert_eq!(answer["usage"]["prompt_tokens"], 3);
}

#[test]
fn the_same_request_has_the_same_answer() {
    let body = chat(&json!({}));
    let one = asked(Kind::Chat, &body, &Script::default()).json(&Script::default());
    let two = asked(Kind::Chat, &body, &Script::default()).json(&Script::default());
    assert_eq!(one, two);
}

#[test]
fn completions_stream_text() {
    let script = Script { text: Some("a b".into()), ..Script::default() };
    let events = asked(Kind::Completion, &json!({"prompt": "1234", "stream": true}), &script).events(&script);
    let text: String = events.iter().filter_map(|e| e["choices"][0]["text"].as_str()).collect();
    assert_eq!(text, "a b");
    assert_eq!(events[0]["object"], "text_completion");
}

#[test]
fn usage_and_errors_as_scripted() {
    let script = Script { usage: Some((1000, 500)), ..Script::default() };
    let asked = asked(Kind::Chat, &chat(&json!({})), &script);
    assert_eq!(asked.json(&script)["usage"]["total_tokens"], 1500);
    assert_eq!(refusal(Refusal::Context, false)["error"]["code"], "context_length_exceeded");
    assert_eq!(refusal(Refusal::Content, true)["error"]["code"], "content_filter");
    assert_eq!(refusal(Refusal::Content, false)["error"]["code"], "content_policy_violation");
    assert_eq!(refusal(Refusal::Quota, false)["error"]["type"], "insufficient_quota");
}
