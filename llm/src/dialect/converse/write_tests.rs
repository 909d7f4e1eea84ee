use serde_json::json;

use super::*;
use crate::dialect::Dialect;
use crate::dialect::request::{Body, Cache, Effort, Format, Reasoning, Source, Tool, ToolCall, ToolChoice};
use crate::provider::Provider;

fn meta(model: &str, supports: &[&str]) -> DeploymentMeta {
    let mut meta =
        DeploymentMeta { provider: Provider::Bedrock, model: model.into(), ..DeploymentMeta::default() };
    meta.caps.supports = supports.iter().map(|what| ((*what).to_owned(), true)).collect();
    meta
}

fn claude() -> DeploymentMeta {
    meta("anthropic.claude-3-7-sonnet-20250219-v1:0", &[])
}

fn user(text: &str) -> Turn {
    Turn::new(Role::User, vec![Part::text(text)])
}

fn ask(turns: Vec<Turn>) -> Request {
    Request { model: "m".into(), turns, ..Request::default() }
}

fn written(request: Request, meta: &DeploymentMeta) -> Value {
    serde_json::from_slice(&write_request(request, meta).unwrap().body).unwrap()
}

fn call(id: &str, name: &str, arguments: &str) -> Part {
    let call = ToolCall { id: id.into(), name: name.into(), arguments: arguments.into(), signature: None };
    Body::ToolCall(call).into()
}

fn result(id: &str, text: &str, is_error: bool) -> Part {
    Body::ToolResult { id: id.into(), content: vec![Part::text(text)], is_error }.into()
}

fn function(name: &str) -> Tool {
    let parameters = Some(json!({"type": "object", "properties": {"a": {"type": "string"}}}));
    Tool::Function { name: name.into(), description: Some("d".into()), parameters, strict: None, cache: None }
}

#[test]
fn a_plain_request() {
    let mut request = ask(vec![user("hi")]);
    request.system = vec![Part::text("be brief")];
    request.max_tokens = Some(100);
    request.sampling = Sampling { temperature: Some(0.5), top_p: Some(0.9), ..Sampling::default() };
    request.stop = vec!["END".into(), String::new()];
    request.service_tier = Some("flex".into());
    let expected = json!({
        "messages": [{"role": "user", "content": [{"text": "hi"}]}],
        "system": [{"text": "be brief"}],
        "inferenceConfig": {"maxTokens": 100, "temperature": 0.5, "topP": 0.9, "stopSequences": ["END"]},
        "serviceTier": {"type": "flex"},
    });
    assert_eq!(written(request, &meta("meta.llama3-70b-instruct-v1:0", &[])), expected);
}

#[test]
fn roles_alternate_and_nothing_is_blank() {
    let turns = vec![
        user("a"),
        user(" "),
        Turn::new(Role::System, vec![Part::text("rule")]),
        user("b"),
        Turn::new(Role::Assistant, vec![Part::text("")]),
        user("c"),
        Turn::new(Role::Assistant, vec![Part::text("so  ")]),
    ];
    let body = written(ask(turns.clone()), &claude());
    let expected = json!([
        {"role": "user", "content": [{"text": "a"}, {"text": "b"}, {"text": "c"}]},
        {"role": "assistant", "content": [{"text": "so"}]},
    ]);
    assert_eq!(body["messages"], expected);
    assert_eq!(body["system"], json!([{"text": "rule"}]));
    let body = written(ask(turns), &meta("anthropic.claude-x", &["mid_conversation_system"]));
    assert_eq!(body["messages"][1], json!({"role": "system", "content": [{"text": "rule"}]}));
}

#[test]
fn a_conversation_begins_with_the_user() {
    let turns = vec![Turn::new(Role::Assistant, vec![Part::text("hello")])];
    let error = write_request(ask(turns.clone()), &claude()).unwrap_err();
    assert_eq!((error.status, error.param.as_deref()), (400, Some("messages")));
    let mut mending = claude();
    mending.params.modify = true;
    assert_eq!(
        written(ask(turns), &mending)["messages"][0],
        json!({"role": "user", "content": [{"text": "."}]})
    );
}

#[test]
fn tools_calls_and_results() {
    let long = format!("call_{}__thought__Cg", "x".repeat(80));
    let mut request = ask(vec![
        user("weather?"),
        Turn::new(Role::Assistant, vec![call("c1", "get.weather", "{\"a\":\"b\"}"), call(&long, "now", "")]),
        Turn::new(
            Role::User,
            vec![Part::text("and?"), result("c1", "sunny", false), result(&long, " ", true)],
        ),
    ]);
    request.tools = vec![function("get.weather"), function("now")];
    request.tool_choice = Some(ToolChoice::Function("get.weather".into()));
    let sent = write_request(request, &claude()).unwrap();
    assert_eq!(sent.reading.tool_names, [("get_weather".to_owned(), "get.weather".to_owned())]);
    let body: Value = serde_json::from_slice(&sent.body).unwrap();
    let calls = body["messages"][1]["content"].as_array().unwrap();
    assert_eq!(calls[0], json!({"toolUse": {"toolUseId": "c1", "name": "get_weather", "input": {"a": "b"}}}));
    let id = calls[1]["toolUse"]["toolUseId"].as_str().unwrap();
    assert!(id.len() <= 64 && calls[1]["toolUse"]["input"] == json!({}));
    let expected = json!([
        {"toolResult": {"toolUseId": "c1", "content": [{"text": "sunny"}]}},
        {"toolResult": {"toolUseId": id, "content": [{"text": "(empty)"}], "status": "error"}},
        {"text": "and?"},
    ]);
    assert_eq!(body["messages"][2]["content"], expected);
    assert_eq!(body["toolConfig"]["toolChoice"], json!({"tool": {"name": "get_weather"}}));
    let spec = &body["toolConfig"]["tools"][0]["toolSpec"];
    assert_eq!((&spec["name"], &spec["description"]), (&json!("get_weather"), &json!("d")));
    assert_eq!(spec["inputSchema"]["json"]["type"], "object");
}

#[test]
fn choices_of_tools() {
    let choose = |choice: ToolChoice| {
        let mut request = ask(vec![user("x")]);
        request.tools = vec![function("a"), function("b")];
        request.tool_choice = Some(choice);
        written(request, &claude())["toolConfig"].clone()
    };
    assert_eq!(choose(ToolChoice::Auto)["toolChoice"], json!({"auto": {}}));
    assert_eq!(choose(ToolChoice::Required)["toolChoice"], json!({"any": {}}));
    assert_eq!(choose(ToolChoice::None), Value::Null);
    let one = choose(ToolChoice::Allowed { names: vec!["b".into()], required: true });
    assert_eq!(one["toolChoice"], json!({"any": {}}));
    assert_eq!(one["tools"].as_array().unwrap().len(), 1);
}

#[test]
fn history_of_tools_without_tools_is_text() {
    let request = ask(vec![
        user("x"),
        Turn::new(Role::Assistant, vec![call("c", "f", "{}")]),
        Turn::new(Role::User, vec![result("c", "r", false)]),
    ]);
    let body = written(request, &claude());
    assert_eq!(body.get("toolConfig"), None);
    assert_eq!(body["messages"][1]["content"], json!([{"text": "[Called the tool f with {}]"}]));
    assert_eq!(body["messages"][2]["content"], json!([{"text": "The tool returned:"}, {"text": "r"}]));
}

#[test]
fn cache_points_where_the_model_has_a_cache() {
    let marked = |hour| Part { body: Body::Text("x".into()), cache: Some(Cache { hour }) };
    let request = || {
        let mut request = ask(vec![Turn::new(Role::User, vec![marked(false), Part::text("y")])]);
        request.system = vec![marked(true)];
        let mut tool = function("f");
        if let Tool::Function { cache, .. } = &mut tool {
            *cache = Some(Cache::default());
        }
        request.tools = vec![tool];
        request
    };
    let body = written(request(), &claude());
    let point = json!({"cachePoint": {"type": "default"}});
    assert_eq!(body["messages"][0]["content"], json!([{"text": "x"}, point, {"text": "y"}]));
    assert_eq!(body["system"], json!([{"text": "x"}, {"cachePoint": {"type": "default", "ttl": "1h"}}]));
    assert_eq!(body["toolConfig"]["tools"][1], point);
    let body = written(request(), &meta("mistral.mistral-large-2407-v1:0", &[]));
    assert!(!body.to_string().contains("cachePoint"));
}

#[test]
fn media_and_documents() {
    let data = |media_type: &str| Source::Base64 { media_type: media_type.into(), data: "AAAA".into() };
    let image = Body::Image { source: data("image/png"), detail: None };
    let document =
        Body::Document { source: data("application/pdf"), name: None, citations: false, context: None };
    let request = ask(vec![Turn::new(Role::User, vec![image.into(), document.into()])]);
    let expected = json!([
        {"image": {"format": "png", "source": {"bytes": "AAAA"}}},
        {"document": {"format": "pdf", "name": "document", "source": {"bytes": "AAAA"}}},
        {"text": "."},
    ]);
    assert_eq!(written(request, &claude())["messages"][0]["content"], expected);
    let image = Body::Image { source: Source::Url("https://x/a.png".into()), detail: None };
    let error = write_request(ask(vec![Turn::new(Role::User, vec![image.into()])]), &claude()).unwrap_err();
    assert_eq!((error.status, error.param.as_deref()), (400, Some("messages")));
}

#[test]
fn replayed_thinking_needs_this_providers_proof() {
    let thinking = |signature: Option<&str>| -> Part {
        Body::Thinking { text: "hm".into(), signature: signature.map(str::to_owned) }.into()
    };
    let request = ask(vec![
        user("x"),
        Turn::new(
            Role::Assistant,
            vec![
                thinking(Some("SIG")),
                thinking(None),
                thinking(Some("gemini#a")),
                Body::RedactedThinking { data: "AA".into() }.into(),
                Part::text("y"),
            ],
        ),
        user("z"),
    ]);
    let expected = json!([
        {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "SIG"}}},
        {"reasoningContent": {"redactedContent": "AA"}},
        {"text": "y"},
    ]);
    assert_eq!(written(request, &claude())["messages"][1]["content"], expected);
}

fn thinking_fields(model: &str, supports: &[&str], reasoning: Reasoning) -> Value {
    let mut request = ask(vec![user("x")]);
    request.reasoning = Some(reasoning);
    written(request, &meta(model, supports))["additionalModelRequestFields"].clone()
}

#[test]
fn each_family_thinks_in_its_own_words() {
    let effort = |effort| Reasoning { effort: Some(effort), ..Reasoning::default() };
    let budget = Reasoning { budget: Some(2_000), ..Reasoning::default() };
    let adaptive = &["adaptive_thinking"][..];
    for (model, supports, reasoning, expected) in [
        (
            "anthropic.claude-x",
            &[][..],
            effort(Effort::Low),
            json!({"thinking": {"type": "enabled", "budget_tokens": 1024}}),
        ),
        ("anthropic.claude-x", &[], effort(Effort::None), Value::Null),
        (
            "anthropic.claude-x",
            adaptive,
            effort(Effort::Xhigh),
            json!({"thinking": {"type": "adaptive", "display": "summarized"}, "output_config": {"effort": "high"}}),
        ),
        (
            "anthropic.claude-x",
            adaptive,
            budget,
            json!({"thinking": {"type": "enabled", "budget_tokens": 2000}}),
        ),
        (
            "us.amazon.nova-2-lite-v1:0",
            &[],
            effort(Effort::Minimal),
            json!({"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "low"}}),
        ),
        (
            "us.amazon.nova-2-lite-v1:0",
            &[],
            effort(Effort::None),
            json!({"reasoningConfig": {"type": "disabled"}}),
        ),
        ("amazon.nova-pro-v1:0", &[], effort(Effort::High), Value::Null),
        ("openai.gpt-oss-120b-1:0", &[], effort(Effort::Max), json!({"reasoning_effort": "high"})),
        ("openai.gpt-5.6-luna", &[], effort(Effort::Max), json!({"reasoning": {"effort": "max"}})),
        ("deepseek.v3-v1:0", &[], effort(Effort::Medium), json!({"reasoning_effort": "medium"})),
    ] {
        assert_eq!(thinking_fields(model, supports, reasoning), expected, "{model}");
    }
}

#[test]
fn a_thinking_claude_is_not_forced_and_has_room_to_answer() {
    let mut request = ask(vec![user("x")]);
    request.reasoning = Some(Reasoning { effort: Some(Effort::Medium), ..Reasoning::default() });
    request.tools = vec![function("f")];
    request.tool_choice = Some(ToolChoice::Required);
    request.max_tokens = Some(1_000);
    request.sampling = Sampling { temperature: Some(0.2), top_k: Some(5), ..Sampling::default() };
    let mut dropping = claude();
    dropping.params.drop = true;
    let body = written(request, &dropping);
    assert_eq!(body["toolConfig"]["toolChoice"], json!({"auto": {}}));
    assert_eq!(body["inferenceConfig"], json!({"maxTokens": 3_048}));
    assert_eq!(body["additionalModelRequestFields"].get("top_k"), None);
}

#[test]
fn schemas_natively_or_as_a_tool() {
    let schema = json!({"type": "object", "properties": {"a": {"type": "object", "properties": {}}}});
    let request = |tools: Vec<Tool>| {
        let mut request = ask(vec![user("x")]);
        request.tools = tools;
        request.format = Some(Format::Schema {
            name: "answer".into(),
            description: None,
            schema: schema.clone(),
            strict: Some(true),
        });
        request
    };
    let native = meta("anthropic.claude-x", &["bedrock_native_structured_output"]);
    let body = written(request(vec![]), &native);
    let format = &body["outputConfig"]["textFormat"];
    assert_eq!(format["type"], "json_schema");
    let definition = &format["structure"]["jsonSchema"];
    let closed: Value = serde_json::from_str(definition["schema"].as_str().unwrap()).unwrap();
    assert_eq!(closed.pointer("/properties/a/additionalProperties"), Some(&json!(false)));
    assert_eq!(definition["name"], "answer");
    assert_eq!(body.get("toolConfig"), None);

    let sent = write_request(request(vec![]), &claude()).unwrap();
    assert_eq!(sent.reading.json_tool.as_deref(), Some("json_tool_call"));
    let body: Value = serde_json::from_slice(&sent.body).unwrap();
    assert_eq!(body["toolConfig"]["toolChoice"], json!({"tool": {"name": "json_tool_call"}}));
    assert_eq!(body["toolConfig"]["tools"][0]["toolSpec"]["inputSchema"]["json"], schema);
    let body = written(request(vec![function("f")]), &claude());
    assert_eq!(body["toolConfig"]["toolChoice"], json!({"any": {}}));
}

#[test]
fn what_only_converse_has() {
    let mut request = ask(vec![user("x")]);
    let extra = json!({
        "guardrailConfig": {"guardrailIdentifier": "g", "guardrailVersion": "1"},
        "performance_config": {"latency": "optimized"},
        "requestMetadata": {"team": "a"},
        "anthropic_beta": ["b1"],
        "additionalModelRequestFields": {"x": 1},
        "unknown": true,
    });
    request.extra = extra.as_object().unwrap().clone();
    request.sampling.top_k = Some(7);
    request.stop = vec!["S".into()];
    request.tools = vec![Tool::Hosted {
        dialect: Dialect::Messages,
        value: json!({"type": "computer_20250124", "name": "computer"}),
    }];
    let body = written(request, &claude());
    assert_eq!(body["guardrailConfig"]["guardrailIdentifier"], "g");
    assert_eq!(body["performanceConfig"], json!({"latency": "optimized"}));
    assert_eq!(body["requestMetadata"], json!({"team": "a"}));
    assert_eq!(body["additionalModelResponseFieldPaths"], json!(["/stop_sequence"]));
    let fields = json!({
        "tools": [{"type": "computer_20250124", "name": "computer"}],
        "anthropic_beta": ["computer-use-2025-01-24", "b1"],
        "top_k": 7,
        "x": 1,
    });
    assert_eq!(body["additionalModelRequestFields"], fields);
    assert_eq!(body.get("unknown"), None);
}

#[test]
fn tools_that_the_model_does_not_have() {
    let mut request = ask(vec![user("x")]);
    let value = json!({"type": "web_search_20250305", "name": "web_search"});
    request.tools = vec![Tool::Hosted { dialect: Dialect::Messages, value }];
    let error = write_request(request.clone(), &claude()).unwrap_err();
    assert_eq!((error.status, error.param.as_deref()), (400, Some("tools")));
    let mut dropping = claude();
    dropping.params.drop = true;
    assert_eq!(written(request, &dropping).get("toolConfig"), None);
}

#[test]
fn one_call_at_a_time() {
    let mut request = ask(vec![user("x")]);
    request.tools = vec![function("f")];
    request.parallel_tool_calls = Some(false);
    request.tool_choice = Some(ToolChoice::Required);
    let body = written(request, &meta("anthropic.claude-x", &["parallel_tool_use_config"]));
    assert_eq!(
        body["additionalModelRequestFields"]["tool_choice"],
        json!({"type": "any", "disable_parallel_tool_use": true})
    );
    assert_eq!(body["toolConfig"].get("toolChoice"), None);
}

#[test]
fn rules_of_the_deployment() {
    let mut own = claude();
    own.params.also_drop = vec!["temperature".into(), "stop".into(), "labels".into(), "unheard_of".into()];
    own.params.extra_body = json!({"x": 1}).as_object().unwrap().clone();
    let mut request = ask(vec![user("x")]);
    request.sampling.temperature = Some(0.5);
    request.stop = vec!["END".into()];
    request.max_tokens = Some(9);
    let body = written(request, &own);
    assert_eq!((&body["inferenceConfig"], &body["x"]), (&json!({"maxTokens": 9}), &json!(1)));
}
