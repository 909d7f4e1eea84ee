use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::dialect::chat::read_request;
use crate::dialect::request::{Body, Cache, Reasoning, Role, Source, ToolCall, Turn};
use crate::dialect::support::ParamRules;
use crate::provider::Provider;

fn meta(authority: &str, model: &str) -> DeploymentMeta {
    DeploymentMeta {
        authority: authority.to_owned(),
        model: model.to_owned(),
        stream_options: true,
        ..DeploymentMeta::default()
    }
}

fn openai() -> DeploymentMeta {
    meta("api.openai.com", "gpt-4o")
}

fn body(request: Request, meta: &DeploymentMeta) -> Value {
    serde_json::from_slice(&write_request(request, meta).unwrap().body).unwrap()
}

fn turns(turns: Vec<Turn>) -> Request {
    Request { turns, ..Request::default() }
}

fn user(text: &str) -> Turn {
    Turn::new(Role::User, vec![Part::text(text)])
}

fn call(id: &str, name: &str) -> Part {
    let (id, name) = (id.to_owned(), name.to_owned());
    Body::ToolCall(ToolCall { id, name, arguments: "{}".to_owned(), signature: None }).into()
}

fn result(id: &str, content: Vec<Part>, is_error: bool) -> Part {
    Body::ToolResult { id: id.to_owned(), content, is_error }.into()
}

fn image(url: &str) -> Part {
    Body::Image { source: Source::Url(url.to_owned()), detail: None }.into()
}

#[test]
fn results_follow_their_calls_and_images_of_theirs_come_after() {
    let thinking: Part = Body::Thinking { text: "Hm".to_owned(), signature: Some("S".to_owned()) }.into();
    let request = turns(vec![
        user("Go"),
        Turn::new(Role::Assistant, vec![thinking, Part::text("Looking.")]),
        Turn::new(Role::Assistant, vec![call("a", "f"), call("b", "g")]),
        Turn::new(
            Role::User,
            vec![
                Part::text("And hurry."),
                result("a", vec![Part::text("one"), image("https://x.test/i.png"), Part::text("two")], false),
            ],
        ),
        Turn::new(Role::User, vec![result("b", vec![Part::text("no such file")], true)]),
    ]);
    let expected = json!([
        {"role": "user", "content": "Go"},
        {"role": "assistant", "content": "Looking.", "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}},
            {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}}
        ]},
        {"role": "tool", "tool_call_id": "a", "content": "one\ntwo"},
        {"role": "tool", "tool_call_id": "b", "content": "Error: no such file"},
        {"role": "user", "content": [
            {"type": "text", "text": "Result of the call a:"},
            {"type": "image_url", "image_url": {"url": "https://x.test/i.png"}}
        ]},
        {"role": "user", "content": "And hurry."}
    ]);
    assert_eq!(body(request, &openai())["messages"], expected);
}

#[test]
fn reasoning_is_replayed_to_those_who_need_it() {
    let thinking: Part = Body::Thinking { text: "Hm".to_owned(), signature: None }.into();
    let request =
        || turns(vec![user("Go"), Turn::new(Role::Assistant, vec![thinking.clone(), call("a", "f")])]);
    let told = |meta: &DeploymentMeta| body(request(), meta)["messages"][1].get("reasoning_content").cloned();
    assert_eq!(told(&meta("api.deepseek.com", "deepseek-chat")), Some(json!("Hm")));
    assert_eq!(told(&meta("vllm.test", "moonshotai/Kimi-K2-Thinking")), Some(json!("Hm")));
    assert_eq!(told(&openai()), None);
    let alone = turns(vec![Turn::new(Role::Assistant, vec![thinking])]);
    assert_eq!(body(alone, &openai())["messages"], json!([]));
}

#[test]
fn system_and_tokens_have_the_name_that_the_model_knows() {
    let request = || Request {
        system: vec![Part::text("A"), Part::text("B")],
        max_tokens: Some(9),
        ..turns(vec![user("x")])
    };
    let azure =
        |model: &str| DeploymentMeta { provider: Provider::Azure, ..meta("x.openai.azure.com", model) };
    let mut thinking = azure("mine");
    thinking.caps.supports.insert("reasoning".to_owned(), true);
    let cases = [
        (openai(), "system", "max_completion_tokens"),
        (meta("api.openai.com", "o3-mini"), "developer", "max_completion_tokens"),
        (meta("api.openai.com", "gpt-5.1"), "developer", "max_completion_tokens"),
        (meta("api.openai.com", "gpt-5-chat-latest"), "system", "max_completion_tokens"),
        (azure("gpt-4o"), "system", "max_tokens"),
        (thinking, "developer", "max_completion_tokens"),
        (meta("openrouter.ai", "openai/gpt-5"), "system", "max_completion_tokens"),
        (meta("api.groq.com", "llama"), "system", "max_tokens"),
        (meta("vllm.test:8000", "openai/gpt-oss-20b"), "system", "max_tokens"),
    ];
    for (meta, role, tokens) in cases {
        let body = body(request(), &meta);
        assert_eq!(body["messages"][0], json!({"role": role, "content": "A\n\nB"}), "{meta:?}");
        assert_eq!(body[tokens], 9, "{meta:?}");
        assert_eq!(
            ["max_tokens", "max_completion_tokens"].iter().filter(|name| body.get(**name).is_some()).count(),
            1
        );
    }
}

#[test]
fn efforts() {
    let effort = |meta: &DeploymentMeta, reasoning: Reasoning| {
        let request = Request { reasoning: Some(reasoning), ..turns(vec![user("x")]) };
        body(request, meta).get("reasoning_effort").and_then(Value::as_str).map(str::to_owned)
    };
    let named = |effort| Reasoning { effort: Some(effort), ..Reasoning::default() };
    let budget = |budget| Reasoning { budget: Some(budget), ..Reasoning::default() };
    let gpt5 = meta("api.openai.com", "gpt-5-mini");
    let mut gpt52 = meta("api.openai.com", "gpt-5.2");
    for name in ["none_reasoning_effort", "xhigh_reasoning_effort"] {
        gpt52.caps.supports.insert(name.to_owned(), true);
    }
    let word = |word: &str| Some(word.to_owned());
    assert_eq!(effort(&gpt5, named(Effort::None)), word("minimal"));
    assert_eq!(effort(&gpt5, named(Effort::Minimal)), word("minimal"));
    assert_eq!(effort(&gpt5, named(Effort::Max)), word("high"));
    assert_eq!(effort(&gpt5, budget(1_024)), word("low"));
    assert_eq!(effort(&gpt5, budget(30_000)), word("high"));
    assert_eq!(effort(&gpt5, Reasoning { adaptive: true, ..Reasoning::default() }), None);
    assert_eq!(effort(&gpt52, named(Effort::None)), word("none"));
    assert_eq!(effort(&gpt52, named(Effort::Max)), word("xhigh"));
    assert_eq!(effort(&gpt52, named(Effort::Minimal)), word("low"));
    assert_eq!(effort(&meta("api.openai.com", "o3"), named(Effort::None)), None);
    assert_eq!(effort(&openai(), named(Effort::High)), None);
    assert_eq!(effort(&meta("vllm.test", "openai/gpt-oss-20b"), named(Effort::High)), word("high"));
    assert_eq!(effort(&meta("api.mistral.ai", "mistral-small"), named(Effort::High)), None);
    let params = ParamRules { drop: true, ..ParamRules::default() };
    let dropping = |model: &str| DeploymentMeta { params: params.clone(), ..meta("api.groq.com", model) };
    assert_eq!(effort(&dropping("llama-3.3"), named(Effort::High)), None);
    let mut known = dropping("gpt-oss");
    known.caps.supports.insert("reasoning".to_owned(), true);
    assert_eq!(effort(&known, named(Effort::High)), word("high"));
    let deepseek = meta("api.deepseek.com", "deepseek-chat");
    assert_eq!(effort(&deepseek, named(Effort::Max)), word("max"));
    let off = Request { reasoning: Some(named(Effort::None)), ..turns(vec![user("x")]) };
    assert_eq!(body(off, &deepseek)["thinking"], json!({"type": "disabled"}));
}

#[test]
fn forms_of_the_answer() {
    let schema = json!({"type": "object"});
    let request = || Request {
        format: Some(Format::Schema {
            name: "n".to_owned(),
            description: None,
            schema: schema.clone(),
            strict: Some(true),
        }),
        ..turns(vec![user("x")])
    };
    let native =
        json!({"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": true}});
    assert_eq!(body(request(), &openai())["response_format"], native);
    let told = body(request(), &meta("api.deepseek.com", "deepseek-chat"));
    assert_eq!(told["response_format"], json!({"type": "json_object"}));
    let words = told["messages"][0]["content"].as_str().unwrap();
    assert!(words.contains("JSON") && words.ends_with(r#"{"type":"object"}"#), "{words}");
}

fn function(name: &str) -> Tool {
    Tool::Function { name: name.to_owned(), description: None, parameters: None, strict: None, cache: None }
}

#[test]
fn tools_and_the_choice_among_them() {
    let allowed = ToolChoice::Allowed { names: vec!["f".to_owned()], required: true };
    let request = || Request {
        tools: vec![
            function("f"),
            function("g"),
            Tool::Hosted { dialect: Dialect::Messages, value: json!({"type": "web_search_20250305"}) },
            Tool::Hosted { dialect: Dialect::Chat, value: json!({"type": "own"}) },
        ],
        tool_choice: Some(allowed.clone()),
        parallel_tool_calls: Some(false),
        ..turns(vec![user("x")])
    };
    let of_openai = body(request(), &openai());
    assert_eq!(of_openai["tools"].as_array().unwrap().len(), 3);
    assert_eq!(
        of_openai["tool_choice"],
        json!({"type": "allowed_tools", "allowed_tools": {"mode": "required",
            "tools": [{"type": "function", "function": {"name": "f"}}]}})
    );
    assert_eq!(of_openai["parallel_tool_calls"], false);
    let groq = body(request(), &meta("api.groq.com", "llama"));
    let no_parameters = json!({"type": "object", "properties": {}});
    let f = json!({"type": "function", "function": {"name": "f", "parameters": no_parameters}});
    assert_eq!((&groq["tools"], &groq["tool_choice"]), (&json!([f, {"type": "own"}]), &json!("required")));
    assert_eq!(body(request(), &meta("api.mistral.ai", "m"))["tool_choice"], "any");
    let none = Request { tool_choice: Some(ToolChoice::Auto), ..turns(vec![user("x")]) };
    assert!(body(none, &openai()).get("tool_choice").is_none());
}

#[test]
fn long_names_and_ids_are_shortened_and_known_again() {
    let long = "mcp__a_server_with_a_long_name__and_a_tool_with_a_name_that_is_longer_still";
    let request = Request {
        tools: vec![function(long)],
        tool_choice: Some(ToolChoice::Function(long.to_owned())),
        ..turns(vec![
            Turn::new(Role::Assistant, vec![call(&"x".repeat(50), long)]),
            Turn::new(Role::User, vec![result(&"x".repeat(50), vec![Part::text("ok")], false)]),
        ])
    };
    let sent = write_request(request.clone(), &openai()).unwrap();
    let written: Value = serde_json::from_slice(&sent.body).unwrap();
    let name = written["tools"][0]["function"]["name"].as_str().unwrap();
    assert_eq!((name.len(), sent.reading.tool_name(name)), (64, long));
    assert_eq!(written["tool_choice"]["function"]["name"], name);
    assert_eq!(written["messages"][0]["tool_calls"][0]["function"]["name"], name);
    let ids = |written: &Value| {
        let messages = &written["messages"];
        (messages[0]["tool_calls"][0]["id"].clone(), messages[1]["tool_call_id"].clone())
    };
    let (called, answered) = ids(&written);
    assert_eq!(called, answered);
    assert!(called.as_str().unwrap().len() <= 40);
    let (called, answered) = ids(&body(request, &meta("api.mistral.ai", "m")));
    assert_eq!(called, answered);
    let id = called.as_str().unwrap();
    assert!(id.len() == 9 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{id}");
}

#[test]
fn documents() {
    let document = |source| -> Part {
        Body::Document { source, name: Some("a".to_owned()), citations: true, context: None }.into()
    };
    let base64 = |media_type: &str, data: &str| Source::Base64 {
        media_type: media_type.to_owned(),
        data: data.to_owned(),
    };
    let request = turns(vec![Turn::new(
        Role::User,
        vec![
            document(base64("application/pdf", "AAAA")),
            document(base64("text/plain", "aGk=")),
            document(Source::Text("ho".to_owned())),
            document(Source::File("file-1".to_owned())),
        ],
    )]);
    let expected = json!([
        {"type": "file", "file": {"filename": "a", "file_data": "data:application/pdf;base64,AAAA"}},
        {"type": "text", "text": "<document title=\"a\">\nhi\n</document>"},
        {"type": "text", "text": "<document title=\"a\">\nho\n</document>"},
        {"type": "file", "file": {"file_id": "file-1"}}
    ]);
    assert_eq!(body(request, &openai())["messages"][0]["content"], expected);
    let by_url =
        || turns(vec![Turn::new(Role::User, vec![document(Source::Url("https://x.test/a.pdf".to_owned()))])]);
    let error = write_request(by_url(), &openai()).unwrap_err();
    assert_eq!((error.status, error.param.as_deref()), (400, Some("messages")));
    let written = body(by_url(), &meta("openrouter.ai", "m"));
    assert_eq!(written["messages"][0]["content"][0]["file"]["file_data"], "https://x.test/a.pdf");
}

#[test]
fn rules_of_the_deployment() {
    let request = || {
        let mut request = Request { stream: true, user: Some("u".repeat(99)), ..turns(vec![user("x")]) };
        request.sampling.top_k = Some(5);
        request.sampling.temperature = Some(0.5);
        request
    };
    let error = write_request(request(), &openai()).unwrap_err();
    assert_eq!((error.status, error.param.as_deref()), (400, Some("top_k")));
    let extra_body = json!({"safe": true}).as_object().cloned().unwrap();
    let params =
        ParamRules { drop: true, also_drop: vec!["user".to_owned()], extra_body, ..ParamRules::default() };
    let dropping = DeploymentMeta { params, ..meta("api.openai.com", "gpt-5") };
    let written = body(request(), &dropping);
    assert_eq!(
        written,
        json!({"model": "gpt-5", "messages": [{"role": "user", "content": "x"}], "stream": true,
            "stream_options": {"include_usage": true}, "safe": true})
    );
    let quiet = DeploymentMeta { stream_options: false, ..meta("vllm.test", "m") };
    let written = body(request(), &quiet);
    assert!(written.get("stream_options").is_none());
    assert_eq!((&written["top_k"], &written["temperature"]), (&json!(5), &json!(0.5)));
}

#[test]
fn members_of_one_dialect_go_where_they_are_known() {
    let request = || {
        let extra = json!({"context_management": {}, "output_config": {"effort": "low"}, "prompt_cache_key": "k",
            "web_search_options": {}, "unheard_of": 1});
        let verbosity = Some("low".to_owned());
        Request { extra: extra.as_object().cloned().unwrap(), verbosity, ..turns(vec![user("x")]) }
    };
    let known = |meta: &DeploymentMeta| -> Vec<String> {
        let written = body(request(), meta);
        let extra = request().extra;
        extra.into_iter().map(|(name, _)| name).filter(|name| written.get(name).is_some()).collect()
    };
    assert_eq!(known(&openai()), ["prompt_cache_key", "unheard_of"]);
    let search = meta("api.openai.com", "gpt-4o-search-preview");
    assert_eq!(known(&search), ["prompt_cache_key", "web_search_options", "unheard_of"]);
    assert_eq!(known(&meta("api.groq.com", "llama")), ["unheard_of"]);
    assert!(body(request(), &meta("api.groq.com", "llama")).get("verbosity").is_none());
    assert_eq!(body(request(), &openai())["verbosity"], "low");
    let allowed = ParamRules { allowed: vec!["output_config".to_owned()], ..ParamRules::default() };
    let allowing = DeploymentMeta { params: allowed, ..meta("api.groq.com", "llama") };
    assert_eq!(known(&allowing), ["output_config", "unheard_of"]);
}

#[test]
fn marks_for_a_cache_go_where_they_are_known() {
    let mark = Some(Cache { hour: true });
    let part = Part { cache: mark, ..Part::text("x") };
    let request = || turns(vec![Turn::new(Role::User, vec![part.clone()])]);
    assert_eq!(body(request(), &openai())["messages"][0]["content"], "x");
    assert_eq!(
        body(request(), &meta("openrouter.ai", "m"))["messages"][0]["content"],
        json!([{"type": "text", "text": "x", "cache_control": {"type": "ephemeral", "ttl": "1h"}}])
    );
}

/// A user's message in one of its forms.
fn user_message() -> impl Strategy<Value = Value> {
    let text = "[ -~é]{1,12}";
    let part = prop_oneof![
        text.prop_map(|text| json!({"type": "text", "text": text, "cache_control": {"type": "ephemeral"}})),
        Just(
            json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}})
        ),
        Just(json!({"type": "image_url", "image_url": {"url": "https://x.test/a.png"}})),
        Just(json!({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}})),
        Just(
            json!({"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AAAA"}})
        ),
        Just(json!({"type": "file", "file": {"file_id": "file-1"}})),
    ];
    let parts = proptest::collection::vec(part, 1..4).prop_map(|mut parts| {
        // One mark, so that text alone is not joined.
        parts.insert(
            0,
            json!({"type": "text", "text": "see", "cache_control": {"type": "ephemeral", "ttl": "1h"}}),
        );
        json!(parts)
    });
    prop_oneof![text.prop_map(Value::from), parts]
        .prop_map(|content| json!({"role": "user", "content": content}))
}

/// A user's message, what the assistant says to it, and results of what it calls.
fn exchange() -> impl Strategy<Value = Vec<Value>> {
    (user_message(), "[ -~]{1,10}", 0_usize..3, any::<bool>()).prop_map(|(asked, said, calls, silent)| {
        let id = |n: usize| format!("call_{n}");
        let mut assistant = json!({"role": "assistant", "content": said});
        if calls > 0 {
            let one = |n| json!({"id": id(n), "type": "function", "function": {"name": "f", "arguments": "{\"n\":1}"}});
            assistant["tool_calls"] = (0..calls).map(one).collect();
            if silent {
                assistant["content"] = Value::Null;
            }
        }
        let result = |n| json!({"role": "tool", "tool_call_id": id(n), "content": said});
        [asked, assistant].into_iter().chain((0..calls).map(result)).collect()
    })
}

fn parameters() -> impl Strategy<Value = Map<String, Value>> {
    let values = [
        json!({"temperature": 0.25, "top_p": 0.5, "top_k": 3}),
        json!({"n": 2, "seed": -4, "logprobs": true, "top_logprobs": 2, "logit_bias": {"5": 1}}),
        json!({"max_tokens": 77, "stop": ["a", "b"]}),
        json!({"response_format": {"type": "json_object"}}),
        json!({"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": true}}}),
        json!({"tools": [{"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}],
            "tool_choice": "required", "parallel_tool_calls": false}),
        json!({"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}, "strict": true}}],
            "tool_choice": {"type": "function", "function": {"name": "f"}}}),
        json!({"reasoning_effort": "high", "verbosity": "low"}),
        json!({"user": "ann", "service_tier": "flex", "store": true, "metadata": {"a": "b"}}),
        json!({"web_search_options": {}, "unheard_of": [1, {"x": null}]}),
    ];
    proptest::sample::subsequence(values.to_vec(), 0..values.len()).prop_map(|chosen| {
        chosen.into_iter().flat_map(|members| members.as_object().cloned().unwrap_or_default()).collect()
    })
}

proptest! {
    /// Read, written for a provider that takes everything, and read again, a request means the same.
    #[test]
    fn a_request_keeps_its_meaning(
        exchanges in proptest::collection::vec(exchange(), 1..4),
        system in proptest::option::of("[ -~]{1,10}"),
        mut members in parameters(),
        stream in any::<bool>(),
    ) {
        let system = system.map(|text| json!({"role": "system", "content": text}));
        let messages: Vec<Value> = system.into_iter().chain(exchanges.into_iter().flatten()).collect();
        members.insert("model".to_owned(), "mine".into());
        members.insert("messages".to_owned(), messages.into());
        members.insert("stream".to_owned(), stream.into());
        let first = read_request(Value::from(members).to_string().as_bytes()).unwrap();
        let sent = write_request(first.clone(), &meta("openrouter.ai", "theirs")).unwrap();
        let second = read_request(&sent.body).unwrap();
        let expected = Request { model: "theirs".to_owned(), want_usage: stream, ..first };
        prop_assert_eq!(second, expected);
    }

    /// Whatever a client sends, it is refused or read, and what was read can be written for everybody.
    #[test]
    fn nothing_panics(text in "\\PC{0,60}", place in 0_usize..6) {
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}]}], "tools": [
            {"type": "function", "function": {"name": "f"}}], "stop": "x"});
        let paths = ["/messages/0/role", "/messages/0/content", "/messages/0/content/0/image_url/url",
            "/messages/0/content/0/type", "/tools/0/function/name", "/stop"];
        *body.pointer_mut(paths[place]).unwrap() = text.into();
        if let Ok(request) = read_request(body.to_string().as_bytes()) {
            for host in ["api.openai.com", "api.mistral.ai", "openrouter.ai", "api.deepseek.com"] {
                let _ = write_request(request.clone(), &meta(host, "m"));
            }
        }
    }
}
