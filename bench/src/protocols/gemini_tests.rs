use super::super::testing::{Sent, changed, city};
use super::*;

const VERTEX: &str = "/one/v1/projects/p/locations/us-central1/publishers/google/models/gemini-2.5-pro:";

fn base() -> Value {
    json!({"contents": [{"role": "user", "parts": [{"text": "12345678"}]}]})
}

fn send(extra: Value) -> Sent {
    Sent::json("/one/v1beta/models/gemini-2.5-flash:generateContent", &changed(&base(), extra))
}

fn stream(extra: Value) -> Sent {
    let path = "/one/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse";
    Sent::json(path, &changed(&base(), extra))
}

fn tools() -> Value {
    json!([{"functionDeclarations": [{"name": "get_weather", "parameters": city()}]}])
}

#[test]
fn credentials() {
    let status = |sent: Sent| sent.authenticate().map_err(|refused| refused.status);
    assert_eq!(status(send(json!({}))), Err(403));
    assert_eq!(status(send(json!({})).header("x-goog-api-key", "k")), Ok(()));
    assert_eq!(
        status(send(json!({})).header("x-goog-api-key", "k").header("authorization", "Bearer x")),
        Err(401)
    );
    let vertex = || Sent::json(&format!("{VERTEX}generateContent"), &base());
    assert_eq!(status(vertex()), Err(401));
    assert_eq!(status(vertex().header("authorization", "Bearer fake-token.1.99999999999")), Ok(()));
    assert_eq!(status(vertex().header("authorization", "Bearer fake-token.1.1000")), Err(401));
}

#[test]
fn an_answer_whole_and_streamed() {
    let answer = send(json!({})).answer("usage:50/9,cached:20,reasoning:4");
    let usage = &answer["usageMetadata"];
    assert_eq!((&usage["candidatesTokenCount"], &usage["thoughtsTokenCount"]), (&json!(5), &json!(4)));
    assert_eq!((&usage["totalTokenCount"], &usage["cachedContentTokenCount"]), (&json!(59), &json!(20)));
    let chunks = stream(json!({})).events("text:a b");
    assert_eq!(chunks.len(), 3);
    assert_eq!(chunks[2]["candidates"][0]["finishReason"], "STOP");
    assert!(chunks[0].get("usageMetadata").is_some());
    let vertex = Sent::json(&format!("{VERTEX}streamGenerateContent?alt=sse"), &base()).events("text:a b");
    assert!(vertex[0].get("usageMetadata").is_none() && vertex[2].get("usageMetadata").is_some());
    assert_eq!(send(json!({})).answer("refuse")["candidates"][0]["finishReason"], "SAFETY");
}

#[test]
fn tools_over_two_turns() {
    let weather = json!({"role": "user", "parts": [{"text": "weather?"}]});
    let ask = json!({"contents": [weather], "tools": tools()});
    let first = send(ask.clone()).answer("thinking,parallel");
    let content = first["candidates"][0]["content"].clone();
    assert_eq!(content["parts"][1]["functionCall"]["args"], json!({"city": "Genève"}));
    assert!(content["parts"][1]["thoughtSignature"].is_string());
    assert_eq!(stream(ask.clone()).events("").last().unwrap()["candidates"][0]["finishReason"], "STOP");
    let answer = |at: usize, text: &str| {
        json!({"functionResponse": {"name": "get_weather",
        "id": content["parts"][at]["functionCall"]["id"], "response": {"result": text}}})
    };
    let turns = |parts: Value| {
        let contents = json!([weather, content, {"role": "user", "parts": parts}]);
        send(changed(&ask, json!({"contents": contents})))
    };
    let second = turns(json!([answer(1, "18 degrees"), answer(2, "19 degrees")])).answer("");
    assert_eq!(
        second["candidates"][0]["content"]["parts"][0]["text"],
        "The tool said: 18 degrees 19 degrees"
    );
    assert!(turns(json!([answer(1, "18")])).refusal().contains("number of function response parts"));
    assert!(turns(json!([answer(1, "18"), answer(1, "18")])).refusal().contains("no function response"));
}

#[test]
fn what_google_would_refuse() {
    let part = |part: Value| json!({"contents": [{"role": "user", "parts": [part]}]});
    let mut schema = city();
    schema["additionalProperties"] = json!(false);
    for (change, word) in [
        (json!({"model": "x"}), "Unknown name \"model\""),
        (json!({"contents": []}), "contents is not specified"),
        (json!({"contents": [{"role": "assistant", "parts": [{"text": "x"}]}]}), "valid role"),
        (json!({"contents": [{"role": "user", "parts": []}]}), "parts"),
        (part(json!({"type": "text", "text": "x"})), "Unknown name \"type\""),
        (part(json!({"thought": true})), "oneof field"),
        (part(json!({"inlineData": {"mimeType": "image/png", "data": "%"}})), "inlineData"),
        (part(json!({"text": "x", "thoughtSignature": "Zm9yZ2Vk"})), "signature"),
        (json!({"generationConfig": {"maxTokens": 5}}), "Unknown name \"maxTokens\""),
        (json!({"generationConfig": {"temperature": 3.0}}), "temperature"),
        (json!({"generationConfig": {"responseSchema": city()}}), "response_mime_type"),
        (
            json!({"tools": [{"functionDeclarations": [{"name": "f", "parameters": schema}]}]}),
            "additionalProperties",
        ),
        (json!({"tools": [{"functionDeclarations": [{"name": "1f"}]}]}), "Invalid function name"),
        (json!({"toolConfig": {"functionCallingConfig": {"mode": "auto"}}}), "mode"),
    ] {
        let text = send(change.clone()).refusal();
        assert!(text.contains(word), "{change}: {text}");
    }
    let path = "/one/v1beta/models/gemini-2.5-flash:streamGenerateContent";
    assert!(Sent::json(path, &base()).refusal().contains("alt=sse"));
}

#[test]
fn schemas_and_embeddings() {
    let config = json!({"responseMimeType": "application/json", "responseSchema": city()});
    let answer = send(json!({"generationConfig": config})).answer("json");
    assert_eq!(answer["candidates"][0]["content"]["parts"][0]["text"], r#"{"city":"Genève"}"#);
    let request =
        |text: &str| json!({"model": "models/text-embedding-004", "content": {"parts": [{"text": text}]}});
    let path = "/one/v1beta/models/text-embedding-004:batchEmbedContents";
    let answer = Sent::json(path, &json!({"requests": [request("a"), request("b")]})).answer("");
    assert_eq!(answer["embeddings"].as_array().unwrap().len(), 2);
    assert!(Sent::json(path, &json!({"requests": [{"content": {}}]})).refusal().contains("must be models/"));
    let predict = |body: Value| Sent::json(&format!("{VERTEX}predict"), &body);
    let answer = predict(json!({"instances": [{"content": "12345678"}]})).answer("");
    assert_eq!(answer["predictions"][0]["embeddings"]["statistics"]["token_count"], 2);
    assert!(predict(json!({"instances": [{"text": "x"}]})).refusal().contains("Unknown name"));
    assert_eq!(error(429, None, None)["error"]["status"], "RESOURCE_EXHAUSTED");
}
