use serde_json::{Value, json};

use super::*;
use crate::dialect::Dialect;
use crate::dialect::request::{Body, Cache, Format, Part, Role, Source, Tool, ToolCall, ToolChoice, Turn};

fn read(body: &Value) -> Request {
    read_request(body.to_string().as_bytes()).unwrap()
}

/// Reads a request of one user's message with these members beside it.
fn with(members: Value) -> Request {
    let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
    body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    read(&body)
}

fn messages(messages: Value) -> Request {
    read(&json!({"model": "m", "messages": messages}))
}

#[test]
fn plain() {
    let request = messages(json!([
        {"role": "system", "content": "Be brief."},
        {"role": "developer", "content": [{"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral"}}]},
        {"role": "user", "content": "Hi", "name": "ann"},
        {"role": "system", "content": "Now in French."},
        {"role": "assistant", "content": ""}
    ]));
    let kind = Part { cache: Some(Cache { hour: false }), ..Part::text("Be kind.") };
    assert_eq!(request.model, "m");
    assert_eq!(request.system, [Part::text("Be brief."), kind]);
    let turns = [
        Turn { name: Some("ann".to_owned()), ..Turn::new(Role::User, vec![Part::text("Hi")]) },
        Turn::new(Role::System, vec![Part::text("Now in French.")]),
        Turn::new(Role::Assistant, vec![Part::text("")]),
    ];
    assert_eq!(request.turns, turns);
}

#[test]
fn parts_of_every_kind() {
    let request =
        messages(json!([{"role": "user", "cache_control": {"type": "ephemeral", "ttl": "1h"}, "content": [
            {"type": "text", "text": "Look"},
            {"type": "image_url", "image_url": {"url": "https://x.test/a.png", "detail": "low"}},
            {"type": "image_url", "image_url": "data:image/jpg;base64,AAAA"},
            {"type": "input_audio", "input_audio": {"data": "BBBB", "format": "wav"}},
            {"type": "file", "file": {"file_data": "data:application/pdf;base64,CCCC", "filename": "a.pdf"}},
            {"type": "file", "file": {"file_data": "DDDD", "filename": "notes.md"}},
            {"type": "file", "file": {"file_id": "file-1"}},
            {"type": "file", "file": {"file_id": "https://x.test/b.pdf", "format": "application/pdf"}},
            {"type": "video_url", "video_url": {"url": "gs://bucket/c.mp4"}}
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
    let url = |url: &str| Source::Url(url.to_owned());
    assert_eq!(
        bodies,
        [
            Body::Text("Look".to_owned()),
            Body::Image { source: url("https://x.test/a.png"), detail: Some("low".to_owned()) },
            Body::Image { source: base64("image/jpeg", "AAAA"), detail: None },
            Body::Audio { data: "BBBB".to_owned(), format: "wav".to_owned() },
            document(base64("application/pdf", "CCCC"), Some("a.pdf")),
            document(base64("text/markdown", "DDDD"), Some("notes.md")),
            document(Source::File("file-1".to_owned()), None),
            document(url("https://x.test/b.pdf"), None),
            Body::Video { source: url("gs://bucket/c.mp4") },
        ]
    );
    // A mark on the message is one on its last part.
    let marked: Vec<bool> = request.turns[0].parts.iter().map(|part| part.cache.is_some()).collect();
    assert_eq!(marked, [false, false, false, false, false, false, false, false, true]);
    assert_eq!(request.turns[0].parts[8].cache, Some(Cache { hour: true }));
}

fn call(id: &str, name: &str, arguments: &str) -> Part {
    let (id, name, arguments) = (id.to_owned(), name.to_owned(), arguments.to_owned());
    Body::ToolCall(ToolCall { id, name, arguments, signature: None }).into()
}

fn result(id: &str, text: &str) -> Part {
    Body::ToolResult { id: id.to_owned(), content: vec![Part::text(text)], is_error: false }.into()
}

#[test]
fn calls_and_their_results() {
    let request = messages(json!([
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": "", "refusal": null, "reasoning_content": "Paris, then.", "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{\"city\":\"Paris\"}"}},
            {"id": "c2", "type": "function", "function": {"name": "now", "arguments": ""}}
        ]},
        {"role": "tool", "tool_call_id": "c1", "content": "Sunny"},
        {"role": "tool", "tool_call_id": "c2", "content": [{"type": "text", "text": "Noon"}], "cache_control": {"type": "ephemeral"}},
        {"role": "assistant", "content": "Sunny.", "refusal": "No more."}
    ]));
    let thinking = Body::Thinking { text: "Paris, then.".to_owned(), signature: None }.into();
    let noon = Part { cache: Some(Cache::default()), ..result("c2", "Noon") };
    assert_eq!(
        request.turns,
        [
            Turn::new(Role::User, vec![Part::text("Weather?")]),
            Turn::new(
                Role::Assistant,
                vec![thinking, call("c1", "weather", "{\"city\":\"Paris\"}"), call("c2", "now", "{}")]
            ),
            Turn::new(Role::User, vec![result("c1", "Sunny")]),
            Turn::new(Role::User, vec![noon]),
            Turn::new(
                Role::Assistant,
                vec![Body::Refusal("No more.".to_owned()).into(), Part::text("Sunny.")]
            ),
        ]
    );
}

#[test]
fn reasoning_is_replayed_with_its_proof() {
    let request = messages(json!([
        {"role": "assistant", "content": "4", "reasoning_content": "2+2", "thinking_blocks": [
            {"type": "thinking", "thinking": "2+2", "signature": "SIG"},
            {"type": "redacted_thinking", "data": "XYZ"}
        ], "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"},
            "extra_content": {"google": {"thought_signature": "GS"}}}]}
    ]));
    let parts = &request.turns[0].parts;
    let signed = Body::Thinking { text: "2+2".to_owned(), signature: Some("SIG".to_owned()) };
    assert_eq!(parts[0].body, signed);
    assert_eq!(parts[1].body, Body::RedactedThinking { data: "XYZ".to_owned() });
    let Body::ToolCall(call) = &parts[3].body else { panic!("{parts:?}") };
    assert_eq!(call.signature.as_deref(), Some("GS"));
    let request = messages(
        json!([{"role": "assistant", "content": "4", "reasoning_content": "2+2", "reasoning_signature": "S"}]),
    );
    let signed = Body::Thinking { text: "2+2".to_owned(), signature: Some("S".to_owned()) };
    assert_eq!(request.turns[0].parts[0].body, signed);
}

#[test]
fn functions_of_the_first_form() {
    let request = read(&json!({
        "model": "m",
        "functions": [{"name": "f", "parameters": {"type": "object"}}],
        "function_call": {"name": "f"},
        "messages": [
            {"role": "user", "content": "go"},
            {"role": "assistant", "content": null, "function_call": {"name": "f", "arguments": "{\"a\":1}"}},
            {"role": "function", "name": "f", "content": "one"},
            {"role": "assistant", "content": null, "function_call": {"name": "f", "arguments": "{}"}},
            {"role": "function", "name": "f", "content": "two"}
        ]
    }));
    let parts: Vec<Part> = request.turns.iter().flat_map(|turn| turn.parts.clone()).collect();
    assert_eq!(parts[1], call("call_function_1", "f", "{\"a\":1}"));
    assert_eq!(parts[2], result("call_function_1", "one"));
    assert_eq!(parts[4], result("call_function_2", "two"));
    assert_eq!(request.tool_choice, Some(ToolChoice::Function("f".to_owned())));
    assert!(request.echo.contains_key(LEGACY_FUNCTIONS));
}

#[test]
fn tools_of_every_kind() {
    let request = with(json!({"tools": [
        {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}, "strict": true},
         "cache_control": {"type": "ephemeral"}},
        {"type": "custom", "custom": {"name": "shell", "description": "Runs.", "format":
            {"type": "grammar", "grammar": {"syntax": "regex", "definition": "[a-z]+"}}}},
        {"name": "anthropic_form", "input_schema": {"type": "object"}},
        {"type": "web_search_20250305", "name": "web_search"},
        {"googleSearch": {}},
        {"type": "unheard_of", "x": 1}
    ]}));
    let Tool::Function { name, strict, cache, .. } = &request.tools[0] else { panic!() };
    assert_eq!((name.as_str(), *strict, *cache), ("f", Some(true), Some(Cache::default())));
    let Tool::Function { name, description, parameters, .. } = &request.tools[1] else { panic!() };
    assert_eq!(name, "shell");
    assert!(description.as_ref().unwrap().ends_with("`input` follows this regex grammar:\n[a-z]+"));
    assert_eq!(parameters.as_ref().unwrap()["required"], json!(["input"]));
    assert_eq!(request.echo[CUSTOM_TOOLS], json!(["shell"]));
    assert!(matches!(&request.tools[2], Tool::Function { name, .. } if name == "anthropic_form"));
    let hosted: Vec<Dialect> = request.tools[3..]
        .iter()
        .map(|tool| match tool {
            Tool::Hosted { dialect, .. } => *dialect,
            Tool::Function { .. } => panic!("{tool:?}"),
        })
        .collect();
    assert_eq!(hosted, [Dialect::Messages, Dialect::Gemini, Dialect::Chat]);
}

#[test]
fn choices_of_tools() {
    let choice = |choice: Value| with(json!({"tool_choice": choice})).tool_choice;
    assert_eq!(choice(json!("auto")), Some(ToolChoice::Auto));
    assert_eq!(choice(json!("none")), Some(ToolChoice::None));
    assert_eq!(choice(json!("required")), Some(ToolChoice::Required));
    assert_eq!(choice(json!("any")), Some(ToolChoice::Required));
    let named = Some(ToolChoice::Function("f".to_owned()));
    assert_eq!(choice(json!({"type": "function", "function": {"name": "f"}})), named);
    assert_eq!(choice(json!({"type": "custom", "custom": {"name": "f"}})), named);
    assert_eq!(choice(json!({"type": "tool", "name": "f"})), named);
    assert_eq!(
        choice(json!({"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [
            {"type": "function", "function": {"name": "f"}}, {"type": "function", "name": "g"}
        ]}})),
        Some(ToolChoice::Allowed { names: vec!["f".to_owned(), "g".to_owned()], required: true })
    );
}

#[test]
fn forms_of_the_answer() {
    let format = |format: Value| with(json!({"response_format": format})).format;
    assert_eq!(format(json!({"type": "text"})), None);
    assert_eq!(format(json!({"type": "json_object"})), Some(Format::Json));
    let schema = json!({"type": "object"});
    assert_eq!(
        format(
            json!({"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": true}})
        ),
        Some(Format::Schema { name: "n".to_owned(), description: None, schema, strict: Some(true) })
    );
}

#[test]
fn reasoning_in_every_form() {
    let reasoning = |members: Value| with(members).reasoning;
    let effort = |effort| Some(Reasoning { effort: Some(effort), ..Reasoning::default() });
    assert_eq!(reasoning(json!({"reasoning_effort": "high"})), effort(Effort::High));
    assert_eq!(reasoning(json!({"reasoning_effort": "auto"})), None);
    assert_eq!(reasoning(json!({"thinking": {"type": "disabled"}})), effort(Effort::None));
    assert_eq!(reasoning(json!({"thinking": {"type": "enabled"}})), effort(Effort::Medium));
    assert_eq!(
        reasoning(json!({"reasoning_effort": {"effort": "low", "summary": "detailed"}})),
        Some(Reasoning { summary: Some("detailed".to_owned()), ..effort(Effort::Low).unwrap() })
    );
    assert_eq!(
        reasoning(json!({"thinking": {"type": "enabled", "budget_tokens": 2000}})),
        Some(Reasoning { budget: Some(2000), ..Reasoning::default() })
    );
    assert_eq!(
        reasoning(json!({"reasoning": {"effort": "low", "max_tokens": 900, "enabled": true}})),
        Some(Reasoning { budget: Some(900), ..effort(Effort::Low).unwrap() })
    );
    assert_eq!(
        reasoning(json!({"thinking": {"type": "adaptive"}})),
        Some(Reasoning { adaptive: true, ..Reasoning::default() })
    );
}

#[test]
fn parameters() {
    let request = with(json!({
        "stream": true, "stream_options": {"include_usage": true}, "temperature": 0.5, "top_p": 1, "top_k": 40, "n": 2,
        "frequency_penalty": 0.1, "presence_penalty": -0.1, "seed": -7, "logprobs": true, "top_logprobs": 3,
        "logit_bias": {"1": -100}, "max_tokens": 5, "max_completion_tokens": 10, "stop": "END", "service_tier": "flex",
        "safety_identifier": "ann", "verbosity": "low", "parallel_tool_calls": false,
        "metadata": {"tags": ["t"], "team": "x", "session_id": "s"}
    }));
    assert!(request.stream && request.want_usage);
    let sampling = Sampling {
        temperature: Some(0.5),
        top_p: Some(1.0),
        top_k: Some(40),
        frequency_penalty: Some(0.1),
        presence_penalty: Some(-0.1),
        seed: Some(-7),
        n: Some(2),
        logprobs: Some(true),
        top_logprobs: Some(3),
        logit_bias: Some(json!({"1": -100})),
    };
    assert_eq!(request.sampling, sampling);
    assert_eq!((request.max_tokens, request.stop), (Some(10), vec!["END".to_owned()]));
    assert_eq!((request.service_tier.as_deref(), request.user.as_deref()), (Some("flex"), Some("ann")));
    assert_eq!((request.verbosity.as_deref(), request.parallel_tool_calls), (Some("low"), Some(false)));
    assert_eq!(request.metadata, Some(json!({"team": "x"})));
    assert!(request.extra.is_empty(), "{:?}", request.extra);
}

#[test]
fn what_is_not_known_is_kept_and_what_is_the_gateways_is_not() {
    let own = json!({"fallbacks": ["a"], "num_retries": 1, "timeout": 3, "tags": ["x"], "litellm_metadata": {},
        "litellm_call_id": "x", "cache": {}, "no-log": true, "mock_testing_fallbacks": true});
    let known = json!({"modalities": ["text"], "prediction": {"type": "content", "content": "x"}, "store": false,
        "web_search_options": {}, "prompt_cache_key": "k", "unheard_of": [1]});
    let mut members = own.as_object().unwrap().clone();
    members.extend(known.as_object().unwrap().clone());
    assert_eq!(Value::Object(with(Value::Object(members)).extra), known);
}

#[test]
fn malformed() {
    let cases = [
        (json!({"model": "m"}), "messages"),
        (json!({"messages": "hi"}), "messages"),
        (json!({"messages": []}), "messages"),
        (json!({"messages": ["hi"]}), "messages[0]"),
        (json!({"messages": [{"content": "x"}]}), "messages[0].role"),
        (json!({"messages": [{"role": "king", "content": "x"}]}), "messages[0].role"),
        (json!({"messages": [{"role": "user"}]}), "messages[0].content"),
        (json!({"messages": [{"role": "user", "content": 1}]}), "messages[0].content"),
        (json!({"messages": [{"role": "user", "content": [{"text": "x"}]}]}), "messages[0].content[0].type"),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}),
            "messages[0].content[0].image_url",
        ),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png,xx"}}]}]}),
            "messages[0].content[0].image_url.url",
        ),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "input_image"}]}]}),
            "messages[0].content[0].type",
        ),
        (
            json!({"messages": [{"role": "system", "content": [{"type": "image_url", "image_url": "https://x.test"}]}]}),
            "messages[0].content[0]",
        ),
        (json!({"messages": [{"role": "tool", "content": "x"}]}), "messages[0].tool_call_id"),
        (
            json!({"messages": [{"role": "assistant", "tool_calls": [{"id": "x", "function": {}}]}]}),
            "messages[0].tool_calls[0].function.name",
        ),
        (
            json!({"messages": [{"role": "user", "content": "x"}], "tools": [{"type": "function"}]}),
            "tools[0].function",
        ),
        (
            json!({"messages": [{"role": "user", "content": "x"}], "tools": [{"type": "function", "function": {}}]}),
            "tools[0].function.name",
        ),
        (json!({"messages": [{"role": "user", "content": "x"}], "tool_choice": "perhaps"}), "tool_choice"),
        (
            json!({"messages": [{"role": "user", "content": "x"}], "tool_choice": {"type": "function"}}),
            "tool_choice.function",
        ),
        (
            json!({"messages": [{"role": "user", "content": "x"}], "response_format": {"type": "xml"}}),
            "response_format.type",
        ),
        (json!({"messages": [{"role": "user", "content": "x"}], "max_tokens": "many"}), "max_tokens"),
        (json!({"messages": [{"role": "user", "content": "x"}], "max_tokens": -1}), "max_tokens"),
        (json!({"messages": [{"role": "user", "content": "x"}], "stop": [1]}), "stop[0]"),
        (json!({"messages": [{"role": "user", "content": "x"}], "temperature": "hot"}), "temperature"),
        (
            json!({"messages": [{"role": "user", "content": "x"}], "reasoning_effort": "utmost"}),
            "reasoning_effort",
        ),
        (
            json!({"messages": [{"role": "user", "content": "x"}], "reasoning_effort": {"effort": "utmost"}}),
            "reasoning_effort.effort",
        ),
        (json!({"messages": [{"role": "user", "content": "x"}], "thinking": {"type": "x"}}), "thinking.type"),
        (
            json!({"messages": [{"role": "user", "content": "x"}], "reasoning": {"effort": "x"}}),
            "reasoning.effort",
        ),
        (
            json!({"messages": [{"role": "user", "content": "x"}], "stream_options": {"include_usage": "yes"}}),
            "stream_options.include_usage",
        ),
    ];
    for (body, field) in cases {
        let error = read_request(body.to_string().as_bytes()).unwrap_err();
        assert_eq!((error.status, error.param.as_deref()), (400, Some(field)), "{body}");
        assert!(error.message.contains(&format!("'{field}'")), "{}", error.message);
    }
}
