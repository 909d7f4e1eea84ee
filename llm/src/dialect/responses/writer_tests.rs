use serde_json::json;

use super::*;
use crate::dialect::Dialect;
use crate::dialect::answer::Citation;
use crate::dialect::request::{Body, Role, ToolCall};
use crate::dialect::responses::read_request;

fn caller(custom: &[&str]) -> Caller {
    let request = read_request(br#"{"model": "m", "input": "hi", "temperature": 0.5}"#).unwrap();
    let mut echo = request.echo;
    if !custom.is_empty() {
        echo.insert(CUSTOM_TOOLS.to_owned(), json!(custom));
    }
    Caller {
        dialect: Dialect::Responses,
        model: "mine".to_owned(),
        stream: true,
        want_usage: true,
        call_id: "call-1".to_owned(),
        now_s: 7,
        echo,
    }
}

fn text(text: &str) -> Event {
    Event::Text { choice: 0, text: text.to_owned() }
}

fn call(index: u32, id: &str, name: &str) -> Event {
    let (id, name) = (id.to_owned(), name.to_owned());
    Event::ToolCall { choice: 0, index, id, name, signature: None }
}

fn arguments(index: u32, json: &str) -> Event {
    Event::ToolArguments { choice: 0, index, json: json.to_owned() }
}

fn finish(reason: Finish) -> Event {
    Event::Finish { choice: 0, reason, stop: None }
}

fn answer() -> Vec<Event> {
    let thinking = |text: &str| Event::Thinking { choice: 0, text: text.to_owned() };
    let citation = Citation { url: Some("https://x.test".to_owned()), end: Some(3), ..Citation::default() };
    vec![
        Event::Start { id: Some("msg_1".to_owned()), created: None },
        Event::Also(json!({"service_tier": "flex"}).as_object().cloned().unwrap()),
        thinking("Let me "),
        thinking("see."),
        Event::Signature { choice: 0, signature: "SIG".to_owned() },
        Event::RedactedThinking { choice: 0, data: "RED".to_owned() },
        text("Look"),
        text(" \"here\"\n"),
        Event::Logprobs {
            choice: 0,
            content: vec![json!({"token": "Look", "logprob": -0.5, "bytes": null})],
        },
        Event::Citation { choice: 0, citation },
        call(0, "a", "f"),
        arguments(0, "{\"x\":"),
        arguments(0, "1}"),
        call(1, "b", "sh"),
        arguments(1, "{\"input\":\"l"),
        arguments(1, "s\"}"),
        Event::Media { choice: 0, media_type: "image/png".to_owned(), data: "AAAA".to_owned() },
        Event::Refusal { choice: 0, text: "No more.".to_owned() },
        finish(Finish::ToolCalls),
        Event::Usage(Usage {
            prompt: 5,
            completion: 4,
            total: 9,
            cached: 2,
            cache_creation: 1,
            reasoning: 3,
            ..Usage::default()
        }),
        Event::End,
    ]
}

fn events(answer: Vec<Event>, custom: &[&str]) -> Vec<Value> {
    let mut writer = Writer::new(caller(custom));
    let mut out = Vec::new();
    for event in answer {
        writer.event(event, &mut out);
    }
    let stream = String::from_utf8(out).unwrap();
    stream
        .split_terminator("\n\n")
        .enumerate()
        .map(|(number, event)| {
            let (name, data) = event.split_once('\n').unwrap();
            let value: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
            assert_eq!(name.strip_prefix("event: "), value["type"].as_str());
            assert_eq!(value["sequence_number"], number, "{value}");
            value
        })
        .collect()
}

fn document(answer: Vec<Event>, custom: &[&str]) -> Value {
    serde_json::from_slice(&Writer::new(caller(custom)).document(answer)).unwrap()
}

/// Puts a stream together as OpenAI's libraries do, and checks that every event fits what came before.
#[derive(Default)]
struct Client {
    output: Vec<Value>,
    done: Vec<Value>,
}

impl Client {
    fn item(&mut self, event: &Value) -> &mut Value {
        let at = usize::try_from(event["output_index"].as_u64().unwrap()).unwrap();
        assert_eq!(at, self.output.len() - 1, "only the last item grows: {event}");
        let item = &mut self.output[at];
        assert_eq!(item["id"], event["item_id"]);
        item
    }

    fn part<'a>(&'a mut self, event: &Value, list: &str, index: &str) -> &'a mut Value {
        let at = event[index].clone();
        let item = self.item(event);
        let parts = item[list].as_array_mut().unwrap();
        assert_eq!(at, parts.len() - 1, "{event}");
        parts.last_mut().unwrap()
    }

    fn take(&mut self, event: &Value) {
        let kind = event["type"].as_str().unwrap();
        let grow = |slot: &mut Value| {
            let text = format!("{}{}", slot.as_str().unwrap(), event["delta"].as_str().unwrap());
            *slot = text.into();
        };
        match kind {
            "response.output_item.added" => {
                assert_eq!(
                    (event["output_index"].clone(), self.done.len()),
                    (self.output.len().into(), self.output.len())
                );
                self.output.push(event["item"].clone());
            }
            "response.output_item.done" => {
                assert_eq!(self.output.last().unwrap()["id"], event["item"]["id"]);
                self.done.push(event["item"].clone());
            }
            "response.content_part.added" => {
                self.item(event)["content"].as_array_mut().unwrap().push(event["part"].clone());
            }
            "response.reasoning_summary_part.added" => {
                self.item(event)["summary"].as_array_mut().unwrap().push(event["part"].clone());
            }
            "response.output_text.delta" => {
                assert!(event["logprobs"].is_array());
                grow(&mut self.part(event, "content", "content_index")["text"]);
            }
            "response.refusal.delta" => grow(&mut self.part(event, "content", "content_index")["refusal"]),
            "response.reasoning_summary_text.delta" => {
                grow(&mut self.part(event, "summary", "summary_index")["text"])
            }
            "response.function_call_arguments.delta" => grow(&mut self.item(event)["arguments"]),
            "response.custom_tool_call_input.delta" => grow(&mut self.item(event)["input"]),
            "response.output_text.annotation.added" => {
                let annotations = &mut self.part(event, "content", "content_index")["annotations"];
                annotations.as_array_mut().unwrap().push(event["annotation"].clone());
            }
            "response.output_text.done" => {
                assert_eq!(self.part(event, "content", "content_index")["text"], event["text"])
            }
            "response.refusal.done" => {
                assert_eq!(self.part(event, "content", "content_index")["refusal"], event["refusal"])
            }
            "response.function_call_arguments.done" => {
                assert_eq!(self.item(event)["arguments"], event["arguments"])
            }
            "response.custom_tool_call_input.done" => assert_eq!(self.item(event)["input"], event["input"]),
            "response.content_part.done"
            | "response.reasoning_summary_text.done"
            | "response.reasoning_summary_part.done" => {
                self.item(event);
            }
            other => panic!("{other}"),
        }
    }
}

#[test]
fn a_stream_says_what_the_whole_answer_says() {
    let events = events(answer(), &["sh"]);
    let whole = document(answer(), &["sh"]);
    let (first, rest) = events.split_at(2);
    let (last, middle) = rest.split_last().unwrap();
    assert_eq!([&first[0]["type"], &first[1]["type"]], ["response.created", "response.in_progress"]);
    assert_eq!(
        (&first[0]["response"]["status"], &first[0]["response"]["output"]),
        (&json!("in_progress"), &json!([]))
    );
    assert_eq!((&last["type"], &last["response"]), (&json!("response.completed"), &whole));
    assert_eq!(first[0]["response"]["id"], last["response"]["id"]);
    let mut client = Client::default();
    middle.iter().for_each(|event| client.take(event));
    assert_eq!(whole["output"], json!(client.done));
    for (grown, done) in client.output.iter().zip(&client.done) {
        for member in ["summary", "arguments", "input"] {
            assert_eq!(grown.get(member), done.get(member));
        }
        assert_eq!(grown.pointer("/content/0/text"), done.pointer("/content/0/text"));
        assert_eq!(grown.pointer("/content/0/annotations"), done.pointer("/content/0/annotations"));
    }
}

#[test]
fn the_response_object() {
    let whole = document(answer(), &["sh"]);
    assert_eq!(
        (&whole["id"], &whole["object"], &whole["created_at"]),
        (&json!("resp_msg_1"), &json!("response"), &json!(7))
    );
    assert_eq!((&whole["model"], &whole["status"]), (&json!("mine"), &json!("completed")));
    assert_eq!((&whole["temperature"], &whole["store"]), (&json!(0.5), &json!(false)));
    assert_eq!((&whole["service_tier"], whole.get(CUSTOM_TOOLS)), (&json!("flex"), None));
    let expected = json!([
        {"id": "rs_msg_1_0", "type": "reasoning", "summary": [{"type": "summary_text", "text": "Let me see."}],
            "encrypted_content": "attache:signature:SIG"},
        {"id": "rs_msg_1_1", "type": "reasoning", "summary": [], "encrypted_content": "attache:redacted:RED"},
        {"id": "msg_msg_1_2", "type": "message", "status": "completed", "role": "assistant", "content": [
            {"type": "output_text", "text": "Look \"here\"\n", "annotations": [
                {"type": "url_citation", "start_index": 0, "end_index": 3, "url": "https://x.test", "title": ""}],
                "logprobs": [{"token": "Look", "logprob": -0.5, "bytes": [], "top_logprobs": []}]}]},
        {"id": "fc_msg_1_3", "type": "function_call", "status": "completed", "arguments": "{\"x\":1}", "call_id": "a", "name": "f"},
        {"id": "ctc_msg_1_4", "type": "custom_tool_call", "status": "completed", "input": "ls", "call_id": "b", "name": "sh"},
        {"id": "ig_msg_1_5", "type": "image_generation_call", "status": "completed", "output_format": "png", "result": "AAAA"},
        {"id": "msg_msg_1_6", "type": "message", "status": "completed", "role": "assistant", "content": [
            {"type": "refusal", "refusal": "No more."}]}
    ]);
    assert_eq!(whole["output"], expected);
    assert_eq!(
        whole["usage"],
        json!({"input_tokens": 5, "input_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 1},
            "output_tokens": 4, "output_tokens_details": {"reasoning_tokens": 3}, "total_tokens": 9})
    );
    assert_eq!(Usage::from_value(&whole["usage"]).unwrap().cache_creation, 1);
}

#[test]
fn what_was_answered_can_be_sent_back() {
    let output = document(answer(), &["sh"])["output"].clone();
    let request = read_request(json!({"model": "m", "input": output}).to_string().as_bytes()).unwrap();
    let call = |id: &str, name: &str, arguments: &str| {
        let (id, name, arguments) = (id.to_owned(), name.to_owned(), arguments.to_owned());
        Body::ToolCall(ToolCall { id, name, arguments, signature: None })
    };
    let bodies: Vec<Body> = request.turns[0].parts.iter().map(|part| part.body.clone()).collect();
    assert_eq!((request.turns.len(), request.turns[0].role), (1, Role::Assistant));
    assert_eq!(
        bodies,
        [
            Body::Thinking { text: "Let me see.".to_owned(), signature: Some("SIG".to_owned()) },
            Body::RedactedThinking { data: "RED".to_owned() },
            Body::Text("Look \"here\"\n".to_owned()),
            call("a", "f", "{\"x\":1}"),
            call("b", "sh", "{\"input\":\"ls\"}"),
            Body::Refusal("No more.".to_owned()),
        ]
    );
}

#[test]
fn answers_that_were_cut() {
    for (reason, refusal, kind, why) in [
        (Finish::Length, false, "response.incomplete", json!({"reason": "max_output_tokens"})),
        (Finish::ContentFilter, false, "response.incomplete", json!({"reason": "content_filter"})),
        (Finish::Refusal, false, "response.incomplete", json!({"reason": "content_filter"})),
        (Finish::Refusal, true, "response.completed", Value::Null),
        (Finish::StopSequence, false, "response.completed", Value::Null),
    ] {
        let mut answer = vec![text("x")];
        if refusal {
            answer = vec![Event::Refusal { choice: 0, text: "No".to_owned() }];
        }
        answer.extend([finish(reason), Event::End]);
        let last = events(answer.clone(), &[]).pop().unwrap();
        assert_eq!((last["type"].as_str(), &last["response"]["incomplete_details"]), (Some(kind), &why));
        let cut = kind == "response.incomplete";
        assert_eq!(last["response"]["output"][0]["status"] == "incomplete", cut);
        assert_eq!(document(answer, &[]), last["response"]);
    }
}

#[test]
fn an_error_ends_the_stream_as_a_failed_answer() {
    let error = UpstreamError::new("slow down", Some("rate_limit_error"), Some("rate_limit_exceeded"));
    let events = events(vec![text("x"), Event::Error(error), Event::End], &[]);
    let [.., error, failed] = events.as_slice() else { panic!() };
    assert_eq!(
        (&error["type"], &error["message"], &error["code"]),
        (&json!("error"), &json!("slow down"), &json!("rate_limit_exceeded"))
    );
    assert_eq!(failed["type"], "response.failed");
    assert_eq!(failed["response"]["status"], "failed");
    assert_eq!(failed["response"]["error"], json!({"code": "rate_limit_exceeded", "message": "slow down"}));
    assert_eq!(failed["response"]["output"][0]["status"], "incomplete");
}

#[test]
fn nothing_said_is_an_answer_too() {
    let events = events(vec![finish(Finish::Stop), Event::End], &[]);
    let kinds: Vec<&str> = events.iter().filter_map(|event| event["type"].as_str()).collect();
    assert_eq!(kinds, ["response.created", "response.in_progress", "response.completed"]);
    assert_eq!(events[2]["response"]["id"], "resp_call-1");
}
