use super::*;
use crate::dialect::Dialect;
use crate::dialect::request::{Body, Effort, Part, Reasoning, Role, Sampling, Source, Tool, ToolCall, Turn};

fn meta(supports: &[&str]) -> DeploymentMeta {
    let mut meta = DeploymentMeta {
        provider: Provider::Anthropic,
        model: "claude-x".into(),
        ..DeploymentMeta::default()
    };
    meta.caps.supports = supports.iter().map(|name| ((*name).to_owned(), true)).collect();
    meta
}

fn asked(text: &str) -> Request {
    Request { turns: vec![Turn::new(Role::User, vec![Part::text(text)])], ..Request::default() }
}

fn written(request: Request, meta: &DeploymentMeta) -> Value {
    serde_json::from_slice(&write_request(request, meta).unwrap().body).unwrap()
}

fn tool(name: &str) -> Tool {
    Tool::Function { name: name.into(), description: None, parameters: None, strict: None, cache: None }
}

#[test]
fn the_least_there_is() {
    let body = written(asked("Hi"), &meta(&[]));
    assert_eq!(
        body,
        json!({"model": "claude-x", "max_tokens": 4096,
            "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]})
    );
    let mut known = meta(&[]);
    known.caps.max_output = Some(64_000);
    assert_eq!(written(asked("Hi"), &known)["max_tokens"], 64_000);
}

#[test]
fn vertex_has_a_version_and_no_model() {
    let vertex = DeploymentMeta { provider: Provider::VertexAnthropic, ..meta(&[]) };
    let body = written(asked("Hi"), &vertex);
    assert_eq!(body["anthropic_version"], "vertex-2023-10-16");
    assert!(body.get("model").is_none());
}

#[test]
fn turns_are_joined_and_results_come_first() {
    let call = |id: &str| {
        Body::ToolCall(ToolCall {
            id: id.into(),
            name: "t".into(),
            arguments: "{\"a\":1}".into(),
            signature: None,
        })
    };
    let result =
        |id: &str| Body::ToolResult { id: id.into(), content: vec![Part::text("r")], is_error: false };
    let request = Request {
        system: vec![Part::text("A")],
        turns: vec![
            Turn::new(Role::System, vec![Part::text("B")]),
            Turn::new(Role::User, vec![Part::text("Hi")]),
            Turn::new(Role::Assistant, vec![call("c1").into()]),
            Turn::new(
                Role::Assistant,
                vec![
                    call("c2").into(),
                    Body::Thinking { text: "T".into(), signature: Some("s".into()) }.into(),
                ],
            ),
            Turn::new(Role::User, vec![Part::text("first words")]),
            Turn::new(Role::User, vec![result("c1").into()]),
            Turn::new(Role::User, vec![result("c2").into()]),
        ],
        ..Request::default()
    };
    let body = written(request, &meta(&[]));
    assert_eq!(body["system"], json!([{"type": "text", "text": "A"}, {"type": "text", "text": "B"}]));
    let kinds = |at: usize| -> Vec<String> {
        body["messages"][at]["content"]
            .as_array()
            .unwrap()
            .iter()
            .map(|block| block["type"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(body["messages"].as_array().unwrap().len(), 3);
    assert_eq!(kinds(1), ["thinking", "tool_use", "tool_use"]);
    assert_eq!(kinds(2), ["tool_result", "tool_result", "text"]);
    assert_eq!(
        body["messages"][2]["content"][0],
        json!({"type": "tool_result", "tool_use_id": "c1", "content": "r"})
    );
}

#[test]
fn what_claude_refuses_is_left_out() {
    let request = Request {
        turns: vec![
            Turn::new(Role::User, vec![Part::text(""), Part::text("Hi")]),
            Turn::new(
                Role::Assistant,
                vec![
                    Body::Thinking { text: "unsigned".into(), signature: None }.into(),
                    Body::Thinking {
                        text: "Gemini's".into(),
                        signature: Some(crate::dialect::thought::mark("x")),
                    }
                    .into(),
                    Part::text("I say: \n"),
                ],
            ),
        ],
        stop: vec![" ".into(), "END".into()],
        user: Some("a@b.c".into()),
        ..Request::default()
    };
    let body = written(request, &meta(&[]));
    assert_eq!(body["messages"][0]["content"], json!([{"type": "text", "text": "Hi"}]));
    assert_eq!(body["messages"][1]["content"], json!([{"type": "text", "text": "I say:"}]));
    assert_eq!(body["stop_sequences"], json!(["END"]));
    assert!(body.get("metadata").is_none());
}

#[test]
fn audio_has_no_words() {
    let mut request = asked("Hi");
    request.turns[0].parts.push(Body::Audio { data: "x".into(), format: "wav".into() }.into());
    let error = write_request(request, &meta(&[])).unwrap_err();
    assert_eq!((error.status, error.param.as_deref()), (400, Some("messages")));
}

#[test]
fn a_schema_goes_natively_or_as_a_tool() {
    let schema = json!({"type": "object", "properties": {"a": {"type": "string"}}});
    let format = Format::Schema { name: "n".into(), description: None, schema: schema.clone(), strict: None };
    let request = Request { format: Some(format), ..asked("Hi") };
    let native = written(request.clone(), &meta(&["native_structured_output"]));
    assert_eq!(native["output_config"], json!({"format": {"type": "json_schema", "schema": schema}}));
    assert!(native.get("tools").is_none());
    let sent = write_request(request.clone(), &meta(&[])).unwrap();
    let body: Value = serde_json::from_slice(&sent.body).unwrap();
    assert_eq!(sent.reading.json_tool.as_deref(), Some("json_tool_call"));
    assert_eq!(body["tools"][0]["input_schema"], schema);
    assert_eq!(body["tool_choice"], json!({"type": "tool", "name": "json_tool_call"}));
    let thinking = Request {
        reasoning: Some(Reasoning { effort: Some(Effort::Low), ..Reasoning::default() }),
        ..request
    };
    assert_eq!(written(thinking, &meta(&[]))["tool_choice"], json!({"type": "auto"}));
}

#[test]
fn a_schemas_tool_leaves_the_clients_choice() {
    let format = || Format::Schema {
        name: "n".into(),
        description: None,
        schema: json!({"type": "object"}),
        strict: None,
    };
    let said = |choice: Option<ToolChoice>| {
        let request =
            Request { tools: vec![tool("a")], format: Some(format()), tool_choice: choice, ..asked("Hi") };
        written(request, &meta(&[]))["tool_choice"].clone()
    };
    assert_eq!(said(None), json!({"type": "any"}));
    assert_eq!(said(Some(ToolChoice::Auto)), json!({"type": "any"}));
    assert_eq!(said(Some(ToolChoice::Function("a".into()))), json!({"type": "tool", "name": "a"}));
    assert_eq!(said(Some(ToolChoice::None)), json!({"type": "tool", "name": "json_tool_call"}));
}

/// A conversation that ends in the results of calls; `thought` stands before the first of them.
fn after_calls(thought: Option<Body>) -> Request {
    let call = Body::ToolCall(ToolCall { id: "c".into(), name: "a".into(), ..ToolCall::default() });
    let result = Body::ToolResult { id: "c".into(), content: vec![Part::text("r")], is_error: false };
    let first = thought.into_iter().chain([call.clone()]).map(Part::from).collect();
    let reasoning = Reasoning { effort: Some(Effort::Low), ..Reasoning::default() };
    Request {
        tools: vec![tool("a")],
        reasoning: Some(reasoning),
        turns: vec![
            Turn::new(Role::User, vec![Part::text("Hi")]),
            Turn::new(Role::Assistant, first),
            Turn::new(Role::User, vec![result.clone().into()]),
            Turn::new(Role::Assistant, vec![call.into()]),
            Turn::new(Role::User, vec![result.into()]),
        ],
        ..Request::default()
    }
}

#[test]
fn no_budget_after_calls_that_claude_did_not_think_about() {
    let signed = |signature: &str| Body::Thinking { text: "T".into(), signature: Some(signature.into()) };
    let budget = |request: Request, meta: &DeploymentMeta| {
        written(request, meta).pointer("/thinking/type").and_then(Value::as_str).map(str::to_owned)
    };
    let mut mending = meta(&[]);
    mending.params.modify = true;
    assert_eq!(budget(after_calls(None), &mending), None);
    let gemini = crate::dialect::thought::mark("x");
    assert_eq!(budget(after_calls(Some(signed(&gemini))), &mending), None);
    // Whose reasoning is there, whose loop is over, and whose model needs none keep it; so do those who forbid mending.
    assert_eq!(budget(after_calls(Some(signed("s"))), &mending).as_deref(), Some("enabled"));
    let mut over = after_calls(None);
    over.turns.push(Turn::new(Role::Assistant, vec![Part::text("Done.")]));
    over.turns.push(Turn::new(Role::User, vec![Part::text("Thanks.")]));
    assert_eq!(budget(over, &mending).as_deref(), Some("enabled"));
    let mut adaptive = meta(&["adaptive_thinking"]);
    adaptive.params.modify = true;
    assert_eq!(budget(after_calls(None), &adaptive).as_deref(), Some("adaptive"));
    assert_eq!(budget(after_calls(None), &meta(&[])).as_deref(), Some("enabled"));
}

#[test]
fn thinking_by_budget_or_effort() {
    let request = |effort: Effort, max| Request {
        reasoning: Some(Reasoning { effort: Some(effort), ..Reasoning::default() }),
        max_tokens: Some(max),
        sampling: Sampling { temperature: Some(0.2), top_p: Some(0.97), ..Sampling::default() },
        ..asked("Hi")
    };
    let old = written(request(Effort::Medium, 1_000), &meta(&["reasoning"]));
    assert_eq!(old["thinking"], json!({"type": "enabled", "budget_tokens": 2048}));
    assert_eq!(old["max_tokens"], 3_048, "room for the answer beside the thoughts");
    let new = written(request(Effort::Max, 1_000), &meta(&["reasoning", "adaptive_thinking"]));
    assert_eq!(new["thinking"]["type"], "adaptive");
    assert_eq!(new["output_config"], json!({"effort": "high"}));
    assert_eq!(new["max_tokens"], 1_000);
    let mut dropping = meta(&["reasoning"]);
    dropping.params.drop = true;
    let dropped = written(request(Effort::Low, 5_000), &dropping);
    assert_eq!((dropped.get("temperature"), &dropped["top_p"]), (None, &json!(0.97)));
    let off = written(request(Effort::None, 5), &meta(&["reasoning"]));
    assert_eq!(off["thinking"], json!({"type": "disabled"}));
}

#[test]
fn tool_names_are_made_fit_and_known_again() {
    let request = Request {
        tools: vec![tool("a.b")],
        tool_choice: Some(ToolChoice::Function("a.b".into())),
        ..asked("Hi")
    };
    let sent = write_request(request, &meta(&[])).unwrap();
    let body: Value = serde_json::from_slice(&sent.body).unwrap();
    assert_eq!(
        body["tools"][0],
        json!({"name": "a_b", "input_schema": {"type": "object", "properties": {}}})
    );
    assert_eq!(body["tool_choice"], json!({"type": "tool", "name": "a_b"}));
    assert_eq!(sent.reading.tool_name("a_b"), "a.b");
}

#[test]
fn choices_and_one_at_a_time() {
    let said = |choice: Option<ToolChoice>, parallel| {
        let request = Request {
            tools: vec![tool("a"), tool("b")],
            tool_choice: choice,
            parallel_tool_calls: parallel,
            ..asked("Hi")
        };
        written(request, &meta(&[]))
    };
    assert_eq!(said(None, None).get("tool_choice"), None);
    assert_eq!(
        said(None, Some(false))["tool_choice"],
        json!({"type": "auto", "disable_parallel_tool_use": true})
    );
    assert_eq!(
        said(Some(ToolChoice::Required), Some(true))["tool_choice"],
        json!({"type": "any", "disable_parallel_tool_use": false})
    );
    assert_eq!(said(Some(ToolChoice::None), Some(false))["tool_choice"], json!({"type": "none"}));
    let only = said(Some(ToolChoice::Allowed { names: vec!["b".into()], required: true }), None);
    assert_eq!((only["tools"].as_array().unwrap().len(), &only["tool_choice"]), (1, &json!({"type": "any"})));
}

#[test]
fn no_more_than_four_marks() {
    let cache = Some(crate::dialect::request::Cache { hour: false });
    let part = |text: &str| Part { body: Body::Text(text.into()), cache };
    let request = Request {
        system: vec![part("1"), part("2")],
        turns: vec![Turn::new(Role::User, vec![part("3"), part("4"), part("5")])],
        ..Request::default()
    };
    assert_eq!(written(request.clone(), &meta(&[])).to_string().matches("cache_control").count(), 4);
    // Blocks and tools that go out as they came are counted too.
    let mut request = request;
    let own = |value: Value| Body::Other { dialect: Dialect::Messages, value };
    let mark = json!({"type": "ephemeral"});
    let search = json!({"type": "web_search_20250305", "name": "web_search", "cache_control": mark});
    request.tools.push(Tool::Hosted { dialect: Dialect::Messages, value: search });
    request.turns[0].parts.push(own(json!({"type": "search_result", "cache_control": mark})).into());
    let body = written(request, &meta(&[]));
    assert_eq!(body.to_string().matches("cache_control").count(), 4);
    assert_eq!(body["tools"][0]["cache_control"], mark);
}

#[test]
fn servers_of_tools_name_their_beta() {
    let beta = |toolset: Option<Value>| {
        let mut request = asked("Hi");
        let servers = json!([{"type": "url", "url": "https://a", "name": "m"}]);
        request.extra.insert("mcp_servers".into(), servers);
        let hosted = |value| Tool::Hosted { dialect: Dialect::Messages, value };
        request.tools = toolset.map(hosted).into_iter().collect();
        write_request(request, &meta(&[])).unwrap().headers
    };
    let header = |beta: &str| vec![("anthropic-beta".to_owned(), beta.to_owned())];
    let toolset = json!({"type": "mcp_toolset", "mcp_server_name": "m"});
    assert_eq!(beta(Some(toolset)), header("mcp-client-2025-11-20"));
    assert_eq!(beta(None), header("mcp-client-2025-04-04"));
}

#[test]
fn text_files_go_as_text() {
    let sent = |media_type: &str, data: &str| {
        let mut request = asked("Hi");
        let source = Source::Base64 { media_type: media_type.into(), data: data.into() };
        let body = Body::Document { source, name: None, citations: false, context: None };
        request.turns[0].parts.push(body.into());
        write_request(request, &meta(&[]))
    };
    let body: Value = serde_json::from_slice(&sent("text/markdown", "SGVsbG8=").unwrap().body).unwrap();
    assert_eq!(
        body["messages"][0]["content"][1]["source"],
        json!({"type": "text", "media_type": "text/plain", "data": "Hello"})
    );
    let error = sent("text/plain", "/w==").unwrap_err();
    assert_eq!((error.status, error.param.as_deref()), (400, Some("messages")));
}

#[test]
fn openais_web_search_becomes_anthropics() {
    let mut request = asked("Hi");
    let options = json!({"user_location": {"type": "approximate", "approximate": {"city": "Bern"}}});
    request.extra.insert("web_search_options".into(), options);
    let body = written(request, &meta(&[]));
    let place = json!({"city": "Bern", "type": "approximate"});
    assert_eq!(
        body["tools"],
        json!([{"type": "web_search_20250305", "name": "web_search", "user_location": place}])
    );
}

#[test]
fn documents_and_the_operators_members() {
    let mut request = asked("Hi");
    let source = Source::Base64 { media_type: "application/pdf".into(), data: "aa".into() };
    request.turns[0]
        .parts
        .push(Body::Document { source, name: Some("n".into()), citations: false, context: None }.into());
    let mut with = meta(&[]);
    with.params.extra_body.insert("inference_geo".into(), "eu".into());
    let body = written(request, &with);
    assert_eq!(body["inference_geo"], "eu");
    assert_eq!(body["messages"][0]["content"][1]["title"], "n");
}
