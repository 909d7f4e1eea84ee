use serde_json::json;

use super::*;
use crate::dialect::Dialect;
use crate::dialect::request::{
    Body, Effort, Format, Reasoning, Sampling, Source, Tool, ToolCall, ToolChoice,
};
use crate::dialect::thought;

fn meta(model: &str) -> DeploymentMeta {
    DeploymentMeta { provider: Provider::Gemini, model: model.into(), ..DeploymentMeta::default() }
}

fn user(text: &str) -> Turn {
    Turn::new(Role::User, vec![Part::text(text)])
}

fn model(parts: Vec<Part>) -> Turn {
    Turn::new(Role::Assistant, parts)
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

fn result(id: &str, content: Vec<Part>, is_error: bool) -> Part {
    Body::ToolResult { id: id.into(), content, is_error }.into()
}

fn function(name: &str) -> Tool {
    let parameters =
        Some(json!({"$schema": "s", "type": "object", "properties": {"a": {"$ref": "#/$defs/x"}}}));
    Tool::Function { name: name.into(), description: Some("d".into()), parameters, strict: None, cache: None }
}

#[test]
fn a_plain_request() {
    let mut request =
        ask(vec![user("a"), Turn::new(Role::System, vec![Part::text("rule")]), user("b"), user("")]);
    request.system = vec![Part::text("be brief")];
    request.max_tokens = Some(100);
    request.stop = vec!["END".into()];
    request.sampling = Sampling {
        temperature: Some(0.5),
        top_p: Some(0.75),
        top_k: Some(7),
        n: Some(2),
        seed: Some(-1),
        frequency_penalty: Some(0.25),
        presence_penalty: Some(1.0),
        logprobs: Some(true),
        top_logprobs: Some(3),
        logit_bias: None,
    };
    request.service_tier = Some("default".into());
    let expected = json!({
        "contents": [{"role": "user", "parts": [{"text": "a"}, {"text": "b"}]}],
        "systemInstruction": {"parts": [{"text": "be brief"}, {"text": "rule"}]},
        "generationConfig": {"temperature": 0.5, "topP": 0.75, "topK": 7, "maxOutputTokens": 100,
            "candidateCount": 2, "stopSequences": ["END"], "seed": -1, "frequencyPenalty": 0.25,
            "presencePenalty": 1.0, "responseLogprobs": true, "logprobs": 3},
        "serviceTier": "standard",
    });
    assert_eq!(written(request, &meta("gemini-2.5-flash")), expected);
}

#[test]
fn a_conversation_has_something_in_it() {
    let mut request = ask(vec![]);
    request.system = vec![Part::text("x")];
    let error = write_request(request.clone(), &meta("gemini-2.5-pro")).unwrap_err();
    assert_eq!((error.status, error.param.as_deref()), (400, Some("messages")));
    let mut mending = meta("gemini-2.5-pro");
    mending.params.modify = true;
    let contents = json!([{"role": "user", "parts": [{"text": "."}]}]);
    assert_eq!(written(request.clone(), &mending)["contents"], contents);
    let mut gemma = meta("gemma-3-27b-it");
    gemma.caps.supports.insert("system_messages".into(), false);
    assert_eq!(written(request, &gemma)["contents"], json!([{"role": "user", "parts": [{"text": "x"}]}]));
}

fn tool_turns(id: &str) -> Vec<Turn> {
    vec![
        user("weather?"),
        model(vec![call(id, "get weather", "{\"a\":\"b\"}"), call("c2", "now", "")]),
        Turn::new(
            Role::User,
            vec![
                result(id, vec![Part::text("{\"t\":1}")], false),
                result("c2", vec![Part::text("late")], true),
                Part::text("and?"),
            ],
        ),
        Turn::new(Role::User, vec![result("gone", vec![Part::text("x")], false)]),
    ]
}

#[test]
fn calls_keep_their_signatures_through_ids() {
    let id = thought::join("c1", Some("Cg=="));
    let body = written(ask(tool_turns(&id)), &meta("gemini-3-pro-preview"));
    let expected = json!([
        {"role": "user", "parts": [{"text": "weather?"}]},
        {"role": "model", "parts": [
            {"functionCall": {"name": "get_weather", "args": {"a": "b"}, "id": "c1"}, "thoughtSignature": "Cg=="},
            {"functionCall": {"name": "now", "args": {}, "id": "c2"}},
        ]},
        {"role": "user", "parts": [
            {"functionResponse": {"name": "get_weather", "response": {"t": 1}, "id": "c1"}},
            {"functionResponse": {"name": "now", "response": {"error": "late"}, "id": "c2"}},
            {"functionResponse": {"name": "gone", "response": {"output": "x"}, "id": "gone"}},
        ]},
        {"role": "user", "parts": [{"text": "and?"}]},
    ]);
    assert_eq!(body["contents"], expected);
}

#[test]
fn calls_of_other_models_are_taken_without_signature() {
    let body = written(ask(tool_turns("toolu_1")), &meta("gemini-3-pro-preview"));
    let calls = &body["contents"][1]["parts"];
    assert_eq!(calls[0]["thoughtSignature"], "skip_thought_signature_validator");
    assert_eq!(calls[1].get("thoughtSignature"), None);
    let body = written(ask(tool_turns("toolu_1")), &meta("gemini-2.5-pro"));
    let calls = &body["contents"][1]["parts"];
    assert_eq!(calls[0], json!({"functionCall": {"name": "get_weather", "args": {"a": "b"}}}));
}

#[test]
fn signatures_of_thoughts_go_to_the_part_after_them() {
    let thinking = |signature: &str| -> Part {
        Body::Thinking { text: "hm".into(), signature: Some(signature.into()) }.into()
    };
    let turns = vec![
        user("x"),
        model(vec![thinking(&thought::mark("Cg==")), Part::text("y")]),
        user("z"),
        model(vec![thinking(&thought::mark("Ch=="))]),
        user("z"),
        model(vec![thinking("claude's"), Part::text("y")]),
        user("z"),
    ];
    let contents = written(ask(turns), &meta("gemini-3-pro-preview"))["contents"].clone();
    assert_eq!(contents[1]["parts"], json!([{"text": "y", "thoughtSignature": "Cg=="}]));
    assert_eq!(contents[3]["parts"], json!([{"text": "", "thoughtSignature": "Ch=="}]));
    assert_eq!(contents[5]["parts"], json!([{"text": "y"}]));
}

#[test]
fn media_by_data_and_by_place() {
    let data = |media_type: &str| Source::Base64 { media_type: media_type.into(), data: "AAAA".into() };
    let place = |url: &str| Source::Url(url.into());
    let image = |source| Body::Image { source, detail: Some("low".into()) };
    let document = |source| Body::Document { source, name: None, citations: false, context: None };
    let parts: Vec<Part> = vec![
        image(data("image/png")).into(),
        document(data("application/pdf")).into(),
        document(Source::Text("plain".into())).into(),
        Body::Audio { data: "AAAA".into(), format: "wav".into() }.into(),
        Body::Video { source: place("https://youtu.be/x") }.into(),
        Body::Video { source: place("gs://bucket/a.MOV?x=1.y") }.into(),
        document(place("https://generativelanguage.googleapis.com/v1beta/files/a")).into(),
        document(Source::File("https://generativelanguage.googleapis.com/v1beta/files/b".into())).into(),
    ];
    let expected = json!([
        {"inlineData": {"mimeType": "image/png", "data": "AAAA"}},
        {"inlineData": {"mimeType": "application/pdf", "data": "AAAA"}},
        {"text": "plain"},
        {"inlineData": {"mimeType": "audio/wav", "data": "AAAA"}},
        {"fileData": {"mimeType": "video/mp4", "fileUri": "https://youtu.be/x"}},
        {"fileData": {"mimeType": "video/quicktime", "fileUri": "gs://bucket/a.MOV?x=1.y"}},
        {"fileData": {"fileUri": "https://generativelanguage.googleapis.com/v1beta/files/a"}},
        {"fileData": {"fileUri": "https://generativelanguage.googleapis.com/v1beta/files/b"}},
    ]);
    let request = ask(vec![Turn::new(Role::User, parts)]);
    let body = written(request.clone(), &meta("gemini-2.5-pro"));
    assert_eq!(body["contents"][0]["parts"], expected);
    let body = written(request, &meta("gemini-3-pro"));
    let first = &body["contents"][0]["parts"][0];
    assert_eq!(first["mediaResolution"], json!({"level": "MEDIA_RESOLUTION_LOW"}));
    let file = image(Source::File("file-1".into()));
    let error = write_request(ask(vec![Turn::new(Role::User, vec![file.into()])]), &meta("gemini-3-pro"));
    assert_eq!(error.unwrap_err().param.as_deref(), Some("messages"));
}

#[test]
fn media_of_results() {
    let image = Body::Image {
        source: Source::Base64 { media_type: "image/png".into(), data: "AAAA".into() },
        detail: None,
    };
    let turns = || {
        vec![
            user("x"),
            model(vec![call("c", "shot", "{}")]),
            Turn::new(Role::User, vec![result("c", vec![image.clone().into()], false)]),
        ]
    };
    let blob = json!({"inlineData": {"mimeType": "image/png", "data": "AAAA"}});
    let new = written(ask(turns()), &meta("gemini-3-pro"))["contents"].clone();
    assert_eq!(new[2]["parts"][0]["functionResponse"]["parts"], json!([blob]));
    let old = written(ask(turns()), &meta("gemini-2.5-pro"))["contents"].clone();
    assert_eq!(old[3], json!({"role": "user", "parts": [blob]}));
}

#[test]
fn tools_and_choices() {
    let choose = |choice: ToolChoice| {
        let mut request = ask(vec![user("x")]);
        request.tools = vec![function("a b"), function("c")];
        request.tool_choice = Some(choice);
        written(request, &meta("gemini-2.5-pro"))
    };
    let body = choose(ToolChoice::Function("a b".into()));
    let declaration = json!({"name": "a_b", "description": "d", "parametersJsonSchema":
        {"type": "object", "properties": {"a": {"$ref": "#/$defs/x"}}}});
    assert_eq!(body["tools"][0]["functionDeclarations"][0], declaration);
    assert_eq!(
        body["toolConfig"],
        json!({"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["a_b"]}})
    );
    let mode = |choice| choose(choice)["toolConfig"]["functionCallingConfig"].clone();
    assert_eq!(mode(ToolChoice::Auto), json!({"mode": "AUTO"}));
    assert_eq!(mode(ToolChoice::None), json!({"mode": "NONE"}));
    assert_eq!(mode(ToolChoice::Required), json!({"mode": "ANY"}));
    let some = choose(ToolChoice::Allowed { names: vec!["c".into()], required: false });
    assert_eq!(some["tools"][0]["functionDeclarations"].as_array().unwrap().len(), 1);
    let mut request = ask(vec![user("x")]);
    let parameters = Some(json!({"type": "object", "properties": {}}));
    request.tools =
        vec![Tool::Function { name: "f".into(), description: None, parameters, strict: None, cache: None }];
    let body = written(request, &meta("gemini-2.5-pro"));
    assert_eq!(body["tools"], json!([{"functionDeclarations": [{"name": "f"}]}]));
}

#[test]
fn googles_own_tools() {
    let hosted = |dialect, value| Tool::Hosted { dialect, value };
    let mut request = ask(vec![user("x")]);
    request.tools = vec![
        hosted(Dialect::Gemini, json!({"google_search": {"excludeDomains": ["a"]}})),
        hosted(Dialect::Responses, json!({"type": "code_interpreter", "container": {"type": "auto"}})),
        hosted(Dialect::Messages, json!({"type": "web_fetch_20250910", "name": "web_fetch"})),
    ];
    request.extra.insert("web_search_options".into(), json!({}));
    let own = json!([{"googleSearch": {"excludeDomains": ["a"]}}, {"codeExecution": {}}, {"urlContext": {}}]);
    assert_eq!(written(request.clone(), &meta("gemini-2.5-pro"))["tools"], own);
    request.tools.push(function("f"));
    let body = written(request.clone(), &meta("gemini-3-pro"));
    assert_eq!(body["tools"].as_array().unwrap().len(), 4);
    assert_eq!(body["toolConfig"], json!({"includeServerSideToolInvocations": true}));
    let mut dropping = meta("gemini-2.5-pro");
    dropping.params.drop = true;
    assert_eq!(written(request.clone(), &dropping)["tools"].as_array().unwrap().len(), 1);
    request.tools = vec![hosted(Dialect::Responses, json!({"type": "image_generation"}))];
    let error = write_request(request.clone(), &meta("gemini-3-pro")).unwrap_err();
    assert_eq!(error.param.as_deref(), Some("tools"));
    assert_eq!(written(request, &dropping)["tools"], json!([{"googleSearch": {}}]));
}

#[test]
fn schemas_beside_functions() {
    let schema = json!({"type": "object", "properties": {"a": {"type": "string"}}});
    let request = |tools: Vec<Tool>| {
        let mut request = ask(vec![user("x")]);
        request.tools = tools;
        request.format = Some(Format::Schema {
            name: "n".into(),
            description: None,
            schema: schema.clone(),
            strict: Some(true),
        });
        request
    };
    let expected = json!({"responseMimeType": "application/json", "responseJsonSchema": schema});
    assert_eq!(written(request(vec![]), &meta("gemini-2.5-pro"))["generationConfig"], expected);
    let with_tools = request(vec![function("f")]);
    assert_eq!(written(with_tools.clone(), &meta("gemini-3-pro"))["generationConfig"], expected);
    let sent = write_request(with_tools, &meta("gemini-2.5-pro")).unwrap();
    assert_eq!(sent.reading.json_tool.as_deref(), Some("json_tool_call"));
    let body: Value = serde_json::from_slice(&sent.body).unwrap();
    assert_eq!(body["toolConfig"]["functionCallingConfig"], json!({"mode": "ANY"}));
    assert_eq!(body.get("generationConfig"), None);
    let mut any = ask(vec![user("x")]);
    any.format = Some(Format::Json);
    let body = written(any, &meta("gemini-2.5-pro"));
    assert_eq!(body["generationConfig"], json!({"responseMimeType": "application/json"}));
}

#[test]
fn thinking_by_generation() {
    let effort = |effort| Reasoning { effort: Some(effort), ..Reasoning::default() };
    let tokens = |budget| Reasoning { budget: Some(budget), ..Reasoning::default() };
    let adaptive = Reasoning { adaptive: true, ..Reasoning::default() };
    let hidden = Reasoning { summary: Some("none".into()), ..effort(Effort::Low) };
    for (model, reasoning, expected) in [
        (
            "gemini-2.5-flash",
            effort(Effort::Medium),
            json!({"includeThoughts": true, "thinkingBudget": 2048}),
        ),
        ("gemini-2.5-flash", effort(Effort::None), json!({"includeThoughts": false, "thinkingBudget": 0})),
        ("gemini-2.5-pro", effort(Effort::None), json!({"includeThoughts": false, "thinkingBudget": 128})),
        ("gemini-2.5-pro", effort(Effort::Minimal), json!({"includeThoughts": true, "thinkingBudget": 128})),
        (
            "gemini-2.5-flash-lite",
            effort(Effort::Minimal),
            json!({"includeThoughts": true, "thinkingBudget": 512}),
        ),
        ("gemini-2.5-flash", tokens(99_999), json!({"includeThoughts": true, "thinkingBudget": 24_576})),
        ("gemini-2.5-pro", adaptive.clone(), json!({"includeThoughts": true, "thinkingBudget": -1})),
        (
            "gemini-3-pro-preview",
            effort(Effort::Medium),
            json!({"includeThoughts": true, "thinkingLevel": "HIGH"}),
        ),
        (
            "gemini-3.1-pro",
            effort(Effort::Medium),
            json!({"includeThoughts": true, "thinkingLevel": "MEDIUM"}),
        ),
        (
            "gemini-3-pro-preview",
            effort(Effort::None),
            json!({"includeThoughts": false, "thinkingLevel": "LOW"}),
        ),
        (
            "gemini-3-flash",
            effort(Effort::Minimal),
            json!({"includeThoughts": true, "thinkingLevel": "MINIMAL"}),
        ),
        ("gemini-3-flash", tokens(5_000), json!({"includeThoughts": true, "thinkingBudget": 5_000})),
        ("gemini-3-flash", adaptive, json!({"includeThoughts": true})),
        ("gemini-3-flash", hidden, json!({"includeThoughts": false, "thinkingLevel": "LOW"})),
        ("gemini-2.0-flash", effort(Effort::High), Value::Null),
        ("gemma-3-27b-it", effort(Effort::High), Value::Null),
    ] {
        let mut request = ask(vec![user("x")]);
        request.reasoning = Some(reasoning.clone());
        let body = written(request, &meta(model));
        assert_eq!(body["generationConfig"]["thinkingConfig"], expected, "{model} {reasoning:?}");
    }
}

#[test]
fn what_only_google_has() {
    let mut request = ask(vec![user("x")]);
    let extra = json!({
        "safety_settings": [{"category": "c", "threshold": "OFF"}],
        "cachedContent": "cachedContents/1",
        "labels": {"team": "a"},
        "modalities": ["text", "audio"],
        "audio": {"voice": "Kore", "format": "wav"},
        "media_resolution": "MEDIA_RESOLUTION_LOW",
        "generationConfig": {"topK": 9},
        "toolConfig": {"retrievalConfig": {"languageCode": "de"}},
        "unknown": 1,
    });
    request.extra = extra.as_object().unwrap().clone();
    let body = written(request.clone(), &meta("gemini-2.5-pro"));
    let expected = json!({
        "contents": [{"role": "user", "parts": [{"text": "x"}]}],
        "toolConfig": {"retrievalConfig": {"languageCode": "de"}},
        "generationConfig": {
            "responseModalities": ["TEXT", "AUDIO"],
            "speechConfig": {"voiceConfig": {"prebuiltVoiceConfig": {"voiceName": "Kore"}}},
            "mediaResolution": "MEDIA_RESOLUTION_LOW",
            "topK": 9,
        },
        "safetySettings": [{"category": "c", "threshold": "OFF"}],
        "cachedContent": "cachedContents/1",
    });
    assert_eq!(body, expected);
    let vertex = DeploymentMeta { provider: Provider::Vertex, ..meta("gemini-2.5-pro") };
    assert_eq!(written(request, &vertex)["labels"], json!({"team": "a"}));
}

#[test]
fn rules_of_the_deployment() {
    let mut own = meta("gemini-2.5-flash");
    own.params.also_drop = vec!["temperature".into(), "stop".into(), "labels".into(), "unheard_of".into()];
    own.params.extra_body = json!({"x": 1}).as_object().unwrap().clone();
    let mut request = ask(vec![user("x")]);
    request.sampling.temperature = Some(0.5);
    request.stop = vec!["END".into()];
    request.max_tokens = Some(9);
    let body = written(request, &own);
    assert_eq!((&body["generationConfig"], &body["x"]), (&json!({"maxOutputTokens": 9}), &json!(1)));
}
