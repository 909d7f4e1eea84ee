use serde_json::json;

use super::*;
use crate::dialect::Dialect;
use crate::dialect::request::{Body, Effort, Role, Source, Tool, ToolCall, ToolChoice, Turn};

fn read(body: &Value) -> Request {
    read_request(body.to_string().as_bytes()).unwrap()
}

fn with(members: Value) -> Request {
    let mut body = json!({"model": "m", "input": "hi"});
    body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    read(&body)
}

fn input(input: Value) -> Request {
    read(&json!({"model": "m", "input": input}))
}

fn call(id: &str, name: &str, arguments: &str) -> Part {
    let (id, name, arguments) = (id.to_owned(), name.to_owned(), arguments.to_owned());
    Body::ToolCall(ToolCall { id, name, arguments, signature: None }).into()
}

fn result(id: &str, content: Vec<Part>) -> Part {
    Body::ToolResult { id: id.to_owned(), content, is_error: false }.into()
}

#[test]
fn a_conversation() {
    let request = read(&json!({"model": "m", "instructions": "Be brief.", "input": [
        {"role": "developer", "content": "Be kind."},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Go"}]},
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Hm"}],
            "encrypted_content": "attache:signature:SIG"},
        {"type": "reasoning", "id": "rs_2", "summary": [], "encrypted_content": "attache:redacted:RED"},
        {"type": "reasoning", "id": "rs_3", "summary": [], "encrypted_content": "gAAAA-of-openais"},
        {"type": "message", "role": "assistant", "content": [
            {"type": "output_text", "text": "Looking.", "annotations": []}, {"type": "refusal", "refusal": "Not there."}]},
        {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{\"x\":1}", "id": "fc_1"},
        {"type": "custom_tool_call", "call_id": "b", "name": "sh", "input": "ls"},
        {"type": "web_search_call", "id": "ws_1", "status": "completed"},
        {"type": "function_call_output", "call_id": "a", "output": "one"},
        {"type": "custom_tool_call_output", "call_id": "b", "output": [
            {"type": "input_text", "text": "two"}, {"type": "input_image", "image_url": "https://x.test/i.png"}]},
        {"role": "user", "content": "And?"}
    ]}));
    assert_eq!(request.system, [Part::text("Be brief."), Part::text("Be kind.")]);
    let image = Body::Image { source: Source::Url("https://x.test/i.png".to_owned()), detail: None };
    let signed = Body::Thinking { text: "Hm".to_owned(), signature: Some("SIG".to_owned()) };
    assert_eq!(
        request.turns,
        [
            Turn::new(Role::User, vec![Part::text("Go")]),
            Turn::new(
                Role::Assistant,
                vec![
                    signed.into(),
                    Body::RedactedThinking { data: "RED".to_owned() }.into(),
                    Part::text("Looking."),
                    Body::Refusal("Not there.".to_owned()).into(),
                    call("a", "f", "{\"x\":1}"),
                    call("b", "sh", "{\"input\":\"ls\"}"),
                ]
            ),
            Turn::new(
                Role::User,
                vec![
                    result("a", vec![Part::text("one")]),
                    result("b", vec![Part::text("two"), image.into()])
                ]
            ),
            Turn::new(Role::User, vec![Part::text("And?")]),
        ]
    );
}

#[test]
fn media() {
    let request = input(json!([{"role": "user", "content": [
        {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "high"},
        {"type": "input_image", "file_id": "file-1"},
        {"type": "input_file", "file_data": "data:application/pdf;base64,BBBB", "filename": "a.pdf"},
        {"type": "input_file", "file_data": "data:application/octet-stream;base64,CCCC", "filename": "b.md"},
        {"type": "input_file", "file_url": "https://x.test/c.pdf"},
        {"type": "input_file", "file_id": "file-2"},
        {"type": "input_audio", "input_audio": {"data": "DDDD", "format": "mp3"}}
    ]}]));
    let base64 = |media_type: &str, data: &str| Source::Base64 {
        media_type: media_type.to_owned(),
        data: data.to_owned(),
    };
    let document = |source, name: Option<&str>| Body::Document {
        source,
        name: name.map(str::to_owned),
        citations: false,
        context: None,
    };
    let bodies: Vec<Body> = request.turns[0].parts.iter().map(|part| part.body.clone()).collect();
    assert_eq!(
        bodies,
        [
            Body::Image { source: base64("image/png", "AAAA"), detail: Some("high".to_owned()) },
            Body::Image { source: Source::File("file-1".to_owned()), detail: None },
            document(base64("application/pdf", "BBBB"), Some("a.pdf")),
            document(base64("text/markdown", "CCCC"), Some("b.md")),
            document(Source::Url("https://x.test/c.pdf".to_owned()), None),
            document(Source::File("file-2".to_owned()), None),
            Body::Audio { data: "DDDD".to_owned(), format: "mp3".to_owned() },
        ]
    );
}

#[test]
fn tools_and_choices() {
    let request = with(json!({"tools": [
        {"type": "function", "name": "f", "description": "d", "parameters": {"type": "object"}, "strict": true},
        {"type": "custom", "name": "sh", "format": {"type": "grammar", "syntax": "lark", "definition": "start: /x/"}},
        {"type": "web_search", "search_context_size": "low", "user_location": {"type": "approximate", "country": "DE"}},
        {"type": "file_search", "vector_store_ids": ["v"]}
    ], "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]}}));
    assert!(matches!(&request.tools[0], Tool::Function { name, strict: Some(true), .. } if name == "f"));
    let Tool::Function { description: Some(told), .. } = &request.tools[1] else { panic!() };
    assert!(told.contains("lark grammar:\nstart: /x/"), "{told}");
    let hosted = json!({"vector_store_ids": ["v"], "type": "file_search"});
    assert_eq!(request.tools[2], Tool::Hosted { dialect: Dialect::Responses, value: hosted });
    assert_eq!(request.echo[CUSTOM_TOOLS], json!(["sh"]));
    assert_eq!(
        request.extra["web_search_options"],
        json!({"search_context_size": "low", "user_location": {"type": "approximate", "approximate": {"country": "DE"}}})
    );
    let allowed = ToolChoice::Allowed { names: vec!["f".to_owned()], required: false };
    assert_eq!(request.tool_choice, Some(allowed));
    let choice = |choice: Value| with(json!({"tool_choice": choice})).tool_choice;
    assert_eq!(choice(json!("required")), Some(ToolChoice::Required));
    let named = Some(ToolChoice::Function("f".to_owned()));
    assert_eq!(choice(json!({"type": "function", "name": "f"})), named);
    assert_eq!(choice(json!({"type": "custom", "name": "f"})), named);
    assert_eq!(choice(json!({"type": "web_search_preview"})), None);
}

#[test]
fn parameters() {
    let request = with(json!({
        "stream": true, "max_output_tokens": 9, "temperature": 0.5, "top_p": 0.9, "parallel_tool_calls": false,
        "reasoning": {"effort": "low", "summary": "auto"}, "top_logprobs": 2,
        "include": ["reasoning.encrypted_content", "message.output_text.logprobs"],
        "text": {"verbosity": "low", "format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": true}},
        "store": true, "truncation": "auto", "metadata": {"a": "b", "tags": ["t"]}, "service_tier": "flex",
        "prompt_cache_key": "k", "user": "ann", "background": false, "previous_response_id": null, "fallbacks": ["x"]
    }));
    assert!(request.stream && request.want_usage);
    assert_eq!((request.max_tokens, request.parallel_tool_calls), (Some(9), Some(false)));
    assert_eq!((request.sampling.temperature, request.sampling.top_p), (Some(0.5), Some(0.9)));
    assert_eq!((request.sampling.logprobs, request.sampling.top_logprobs), (Some(true), Some(2)));
    let reasoning = request.reasoning.unwrap();
    assert_eq!((reasoning.effort, reasoning.summary.as_deref()), (Some(Effort::Low), Some("auto")));
    let schema = json!({"type": "object"});
    let format = Format::Schema { name: "n".to_owned(), description: None, schema, strict: Some(true) };
    assert_eq!((request.format, request.verbosity.as_deref()), (Some(format), Some("low")));
    assert_eq!((request.user.as_deref(), request.service_tier.as_deref()), (Some("ann"), Some("flex")));
    assert_eq!(request.metadata, Some(json!({"a": "b"})));
    assert_eq!(Value::Object(request.extra), json!({"prompt_cache_key": "k"}));
    assert_eq!(request.echo["text"]["verbosity"], "low");
    assert_eq!((&request.echo["temperature"], &request.echo["truncation"]), (&json!(0.5), &json!("auto")));
    let plain = with(json!({}));
    assert_eq!((&plain.echo["tools"], &plain.echo["top_p"]), (&json!([]), &json!(1.0)));
    assert_eq!(plain.turns, [Turn::new(Role::User, vec![Part::text("hi")])]);
}

#[test]
fn malformed_or_in_need_of_a_memory() {
    let item = |item: Value| json!({"input": [item]});
    let cases = [
        (json!({}), "input"),
        (json!({"input": 5}), "input"),
        (json!({"input": "x", "previous_response_id": "resp_1"}), "previous_response_id"),
        (json!({"input": "x", "conversation": "conv_1"}), "conversation"),
        (json!({"input": "x", "prompt": {"id": "p"}}), "prompt"),
        (json!({"input": "x", "background": true}), "background"),
        (item(json!({"type": "item_reference", "id": "msg_1"})), "input[0].type"),
        (item(json!({"id": "msg_1"})), "input[0].type"),
        (item(json!({"type": "compaction", "encrypted_content": "x"})), "input[0].type"),
        (item(json!({"type": "riddle"})), "input[0].type"),
        (item(json!({"role": "king", "content": "x"})), "input[0].role"),
        (item(json!({"role": "user"})), "input[0].content"),
        (item(json!({"role": "user", "content": [{"type": "image_url"}]})), "input[0].content[0].type"),
        (
            item(json!({"role": "user", "content": [{"type": "input_image"}]})),
            "input[0].content[0].image_url",
        ),
        (item(json!({"role": "user", "content": [{"type": "input_file"}]})), "input[0].content[0].file_data"),
        (item(json!({"type": "function_call", "name": "f"})), "input[0].call_id"),
        (item(json!({"type": "function_call_output", "call_id": "a"})), "input[0].output"),
        (
            item(json!({"type": "function_call_output", "call_id": "a", "output": [{"type": "x"}]})),
            "input[0].output[0].type",
        ),
        (item(json!({"type": "reasoning", "summary": "x"})), "input[0].summary"),
        (json!({"input": "x", "tools": [{"name": "f"}]}), "tools[0].type"),
        (json!({"input": "x", "tools": [{"type": "function"}]}), "tools[0].name"),
        (json!({"input": "x", "tool_choice": {"type": "file_search"}}), "tool_choice.type"),
        (json!({"input": "x", "text": {"format": {"type": "xml"}}}), "text.format.type"),
        (json!({"input": "x", "reasoning": {"effort": "utmost"}}), "reasoning.effort"),
        (json!({"input": "x", "max_output_tokens": "many"}), "max_output_tokens"),
        (json!({"input": "x", "include": [5]}), "include[0]"),
    ];
    for (body, field) in cases {
        let error = read_request(body.to_string().as_bytes()).unwrap_err();
        assert_eq!((error.status, error.param.as_deref()), (400, Some(field)), "{body}");
    }
}
