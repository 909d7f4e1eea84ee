use serde_json::json;

use super::*;

#[test]
fn an_answer_tells_its_usage() {
    let script = Script::default().with("text:a b").unwrap();
    let mut items = Vec::new();
    let item = json!({"type": "conversation.item.create", "item": {"type": "message", "role": "user",
        "content": [{"type": "input_text", "text": "12345678"}]}});
    assert_eq!(replies(&item, &mut items, "m", &script)[0]["type"], "conversation.item.created");
    let events = replies(&json!({"type": "response.create"}), &mut items, "m", &script);
    let kinds: Vec<_> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(
        kinds,
        ["response.created", "response.output_text.delta", "response.output_text.delta", "response.done",]
    );
    let usage = &events[3]["response"]["usage"];
    assert_eq!((&usage["input_tokens"], &usage["output_tokens"]), (&json!(6), &json!(2)));
    assert_eq!(replies(&json!({"type": "x"}), &mut items, "m", &script)[0]["type"], "error");
}
