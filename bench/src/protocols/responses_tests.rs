use super::super::testing::{Sent, changed, city};
use super::*;

fn send(extra: Value) -> Sent {
    let base = json!({"model": "gpt-4o", "input": "How is the weather?"});
    Sent::json("/one/v1/responses", &changed(&base, extra))
}

fn tools() -> Value {
    json!([{"type": "function", "name": "get_weather", "parameters": city(), "strict": true}])
}

#[test]
fn events_are_numbered_and_end_with_the_whole() {
    let events = send(json!({"stream": true})).events("text:a b");
    let kinds: Vec<_> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(
        kinds,
        [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added",
            "response.output_text.delta",
            "response.output_text.delta",
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.completed",
        ]
    );
    assert!(events.iter().enumerate().all(|(at, event)| event["sequence_number"] == at));
    let last = events.last().unwrap();
    assert_eq!(last["response"], send(json!({})).answer("text:a b"));
    assert_eq!(last["response"]["usage"]["output_tokens"], 2);
}

#[test]
fn tools_and_their_second_turn() {
    let first = send(json!({"tools": tools()})).answer("thinking");
    assert_eq!(first["output"][0]["type"], "reasoning");
    let call = first["output"][1].clone();
    assert_eq!(call["arguments"], r#"{"city":"Genève"}"#);
    let events = send(json!({"tools": tools(), "stream": true})).events("");
    let deltas = events.iter().filter(|event| event["type"] == "response.function_call_arguments.delta");
    assert_eq!(
        deltas.filter_map(|event| event["delta"].as_str()).collect::<String>(),
        r#"{"city":"Genève"}"#
    );
    let output = json!({"type": "function_call_output", "call_id": call["call_id"], "output": "18 degrees"});
    let input = json!([{"role": "user", "content": "weather?"}, call, output]);
    let second = send(json!({"tools": tools(), "input": input})).answer("");
    assert_eq!(second["output"][0]["content"][0]["text"], "The tool said: 18 degrees");
    assert!(send(json!({"input": [output]})).refusal().contains("No tool call found"));
}

#[test]
fn length_refusal_and_schema() {
    let cut = send(json!({"max_output_tokens": 2})).answer("");
    assert_eq!(
        (&cut["status"], &cut["incomplete_details"]["reason"]),
        (&json!("incomplete"), &json!("max_output_tokens"))
    );
    assert_eq!(send(json!({})).answer("refuse")["output"][0]["content"][0]["type"], "refusal");
    let text = json!({"format": {"type": "json_schema", "name": "c", "schema": city()}});
    assert_eq!(
        send(json!({"text": text})).answer("json")["output"][0]["content"][0]["text"],
        r#"{"city":"Genève"}"#
    );
    assert!(send(json!({"input": null})).refusal().contains("input"));
    let wrong = json!([{"role": "assistant", "content": [{"type": "input_text", "text": "x"}]}]);
    assert!(send(json!({"input": wrong})).refusal().contains("input_text"));
}
