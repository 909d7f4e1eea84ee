use serde_json::json;

use super::*;
use crate::contract::DeploymentMeta;
use crate::dialect::messages::write_request;
use crate::dialect::request::{Body, Cache, Source};
use crate::provider::Provider;

fn body(more: Value) -> Vec<u8> {
    let mut body =
        json!({"model": "claude", "max_tokens": 10, "messages": [{"role": "user", "content": "Hi"}]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body.to_string().into_bytes()
}

fn refused(more: Value) -> (String, String) {
    let error = read_request(&body(more)).unwrap_err();
    assert_eq!(error.status, 400);
    (error.param.unwrap_or_default().into_owned(), error.message)
}

/// Everything the dialect has, said and read and said again, is the same.
#[test]
fn a_request_comes_out_as_it_went_in() {
    let request = json!({
        "model": "claude", "max_tokens": 2000,
        "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
        "messages": [
            {"role": "user", "content": [
                {"type": "text", "text": "Look."},
                {"type": "image", "source": {"type": "url", "url": "https://a/b.png"}},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aaaa"}},
                {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "bbbb"},
                 "title": "t", "context": "c", "citations": {"enabled": true}}]},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"},
                {"type": "redacted_thinking", "data": "eHh4"},
                {"type": "text", "text": "I call."},
                {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"a": 1}},
                {"type": "server_tool_use", "id": "srv_1", "name": "web_search", "input": {"query": "q"}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": [
                    {"type": "text", "text": "seen"},
                    {"type": "image", "source": {"type": "file", "file_id": "file_1"}}], "is_error": true},
                {"type": "text", "text": "Go on.", "cache_control": {"type": "ephemeral"}}]}],
        "tools": [
            {"name": "look", "input_schema": {"type": "object", "properties": {"a": {"type": "integer"}}}, "description": "d"},
            {"type": "web_search_20250305", "name": "web_search", "max_uses": 2}],
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": true},
        "temperature": 0.5, "top_p": 0.9, "top_k": 5, "stop_sequences": ["END"],
        "thinking": {"type": "enabled", "budget_tokens": 1500},
        "output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}},
        "metadata": {"user_id": "u1"}, "service_tier": "auto", "stream": true,
        "container": "c_1", "context_management": {"edits": []},
    });
    let read = read_request(request.to_string().as_bytes()).unwrap();
    let mut meta =
        DeploymentMeta { provider: Provider::Anthropic, model: "claude".into(), ..DeploymentMeta::default() };
    meta.caps.supports.insert("native_structured_output".into(), true);
    let sent = write_request(read, &meta).unwrap();
    let written: Value = serde_json::from_slice(&sent.body).unwrap();
    assert_eq!(written, request);
    assert_eq!(sent.headers, [("anthropic-beta".to_owned(), "context-management-2025-06-27".to_owned())]);
}

#[test]
fn strings_are_blocks_too() {
    let request = read_request(&body(json!({"system": "Be brief."}))).unwrap();
    assert_eq!(request.system, [crate::dialect::request::Part::text("Be brief.")]);
    assert_eq!(request.turns[0].parts, [crate::dialect::request::Part::text("Hi")]);
    assert_eq!(request.max_tokens, Some(10));
}

#[test]
fn marks_and_sources_are_read() {
    let content = json!([{"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "x"},
        "cache_control": {"type": "ephemeral", "ttl": "1h"}}]);
    let request = read_request(&body(json!({"messages": [{"role": "user", "content": content}]}))).unwrap();
    let part = &request.turns[0].parts[0];
    assert_eq!(part.cache, Some(Cache { hour: true }));
    assert!(matches!(&part.body, Body::Document { source: Source::Text(text), .. } if text == "x"));
}

#[test]
fn effort_and_thinking() {
    let read = |more| read_request(&body(more)).unwrap();
    let adaptive = read(json!({"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}}));
    let reasoning = adaptive.reasoning.unwrap();
    assert!(reasoning.adaptive && reasoning.effort == Some(Effort::High));
    let off = read(json!({"thinking": {"type": "disabled"}})).reasoning.unwrap();
    assert_eq!(off.tokens(), Some(0));
    // For the answer alone: no thinking was asked for.
    let effort = read(json!({"output_config": {"effort": "low"}}));
    assert_eq!((effort.reasoning, &effort.extra["output_config"]), (None, &json!({"effort": "low"})));
}

#[test]
fn what_is_not_known_of_output_config_goes_on() {
    let config = json!({"effort": "low", "task_budget": {"type": "tokens", "total": 64_000}});
    let budget = json!({"type": "enabled", "budget_tokens": 2_000});
    let request = read_request(&body(json!({"thinking": budget, "output_config": config}))).unwrap();
    let meta = DeploymentMeta { provider: Provider::VertexAnthropic, ..DeploymentMeta::default() };
    let sent: Value = serde_json::from_slice(&write_request(request, &meta).unwrap().body).unwrap();
    assert_eq!((&sent["output_config"], &sent["thinking"]), (&config, &budget));
}

#[test]
fn faults_are_named() {
    let field = |more| refused(more).0;
    assert_eq!(field(json!({"max_tokens": null})), "max_tokens");
    assert_eq!(field(json!({"max_tokens": 0})), "max_tokens");
    assert_eq!(field(json!({"messages": []})), "messages");
    assert_eq!(field(json!({"messages": [{"role": "tool", "content": "x"}]})), "messages[0].role");
    assert_eq!(field(json!({"messages": [{"role": "user"}]})), "messages[0].content");
    let of = |block: Value| field(json!({"messages": [{"role": "user", "content": [block]}]}));
    assert_eq!(
        of(json!({"type": "image", "source": {"type": "base64"}})),
        "messages[0].content[0].source.media_type"
    );
    assert_eq!(of(json!({"text": "x"})), "messages[0].content[0].type");
    assert_eq!(
        of(json!({"type": "tool_result", "content": [5], "tool_use_id": "t"})),
        "messages[0].content[0].content[0]"
    );
    assert_eq!(field(json!({"tools": [{"name": "a"}]})), "tools[0].input_schema");
    assert_eq!(field(json!({"tool_choice": {"type": "some"}})), "tool_choice.type");
    assert_eq!(field(json!({"thinking": {"type": "enabled"}})), "thinking.budget_tokens");
    assert_eq!(
        field(json!({"system": [{"type": "image", "source": {"type": "url", "url": "u"}}]})),
        "system[0]"
    );
    assert_eq!(field(json!({"output_config": {"format": {"type": "json"}}})), "output_config.format.type");
    assert!(refused(json!({"stop_sequences": "END"})).1.contains("expected an array"));
}

proptest::proptest! {
    #[test]
    fn nothing_panics(text in "[\\[\\]{}\":,a-z0-9 ]{0,80}") {
        let _ = read_request(text.as_bytes());
        let _ = read_request(&body(json!({"messages": [{"role": "user", "content": [{"type": "text", "text": text}]}]})));
    }
}
