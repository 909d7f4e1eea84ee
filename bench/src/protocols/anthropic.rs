//! Anthropic's messages, at home and on Vertex.

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};

use super::chat::halves;
use super::{Checked, Flow, Planned, Refused, Wire, anthropic_check, named_sse};
use crate::said::{
    Call, Choice, Finish, Said, Tool, Usage, Wanted, content_text, content_tokens, digest, signature,
};
use crate::script::{Refusal, Script};

/// `anthropic_version` of a body for Vertex.
pub const VERTEX_VERSION: &str = "vertex-2023-10-16";

pub(super) fn authenticate(wire: &Wire<'_>) -> Checked {
    if wire.header("x-api-key").is_none() {
        return Err(Refused::new(401, "x-api-key header is required"));
    }
    if wire.header("authorization").is_some() {
        return Err(Refused::new(401, "both x-api-key and authorization were sent: whose is the latter?"));
    }
    match wire.header("anthropic-version") {
        Some("2023-06-01" | "2023-01-01") => Ok(()),
        Some(other) => {
            Err(Refused::field("anthropic-version", format!("\"{other}\" is not a valid version")))
        }
        None => Err(Refused::field("anthropic-version", "header is required")),
    }
}

pub(super) fn plan(wire: &Wire<'_>, model: &str, script: &Script, vertex: bool) -> Checked<Planned> {
    if wire.rest == "v1/models" && wire.method == Method::GET {
        let id = "claude-sonnet-4-5-20250929";
        let model = json!({"type": "model", "id": id, "display_name": "Claude", "created_at": "2025-09-29T00:00:00Z"});
        return Ok(Planned::json(
            &json!({"data": [model], "has_more": false, "first_id": id, "last_id": id}),
        ));
    }
    if wire.method != Method::POST {
        return Err(Refused::new(405, "Method Not Allowed"));
    }
    let body = wire.json;
    if !body.is_object() {
        return Err(Refused::new(400, "The request body is not valid JSON"));
    }
    let counting = wire.rest.ends_with("/count_tokens");
    anthropic_check::check(body, vertex, counting)?;
    let mut wanted = wanted(body, model);
    if counting {
        return Ok(Planned::json(&json!({"input_tokens": wanted.prompt_tokens})));
    }
    if vertex {
        // Vertex says by the path whether it streams; the body must not contradict.
        let streams = wire.rest.ends_with(":streamRawPredict");
        if wanted.stream && !streams {
            return Err(Refused::field("stream", "rawPredict does not stream: use streamRawPredict"));
        }
        wanted.stream = streams;
    }
    let said = Said::new(&wanted, script).map_err(|e| Refused::new(400, e))?;
    let usage = told(said.usage, script);
    let shown = (!script.no_usage).then_some(&usage);
    let planned = if wanted.stream {
        let error = json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"},
            "request_id": "req_011CTfakeProvider"});
        Planned::stream(Flow {
            content_type: "text/event-stream; charset=utf-8",
            frames: events(&said, model, shown),
            error: named_sse(&error),
            end: None,
        })
    } else {
        Planned::json(&message(&said, model, shown))
    };
    Ok(planned.costs(said.usage, usage))
}

fn wanted(body: &Value, model: &str) -> Wanted {
    let messages = body["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let last = messages.last().and_then(|message| message["content"].as_array());
    let results = last.into_iter().flatten().filter(|block| block["type"] == "tool_result");
    let results: Vec<_> = results.map(|block| content_text(&block["content"])).collect();
    let asked =
        messages.iter().rev().find(|m| m["role"] == "user" && !content_text(&m["content"]).is_empty());
    let choice = &body["tool_choice"];
    let format = match &body["output_config"]["format"] {
        Value::Null => &body["output_format"],
        format => format,
    };
    Wanted {
        model: model.to_owned(),
        stream: body["stream"].as_bool().unwrap_or(false),
        text: asked.map(|message| content_text(&message["content"])).unwrap_or_default(),
        prompt_tokens: messages.iter().map(|message| 4 + content_tokens(&message["content"])).sum::<u64>()
            + content_tokens(&body["system"]),
        limit: body["max_tokens"].as_u64(),
        tools: tools(&body["tools"]),
        choice: match choice["type"].as_str() {
            Some("none") => Choice::None,
            Some("any") => Choice::Any,
            Some("tool") => Choice::Named(choice["name"].as_str().unwrap_or_default().to_owned()),
            _ => Choice::Auto,
        },
        parallel: choice["disable_parallel_tool_use"] != true,
        result: (!results.is_empty()).then(|| results.join(" ")),
        schema: (format["type"] == "json_schema").then(|| format["schema"].clone()),
        json: false,
        thinks: matches!(body["thinking"]["type"].as_str(), Some("enabled" | "adaptive")),
    }
}

fn tools(tools: &Value) -> Vec<Tool> {
    let own = tools.as_array().into_iter().flatten().filter(|tool| tool["input_schema"].is_object());
    own.map(|tool| Tool {
        name: tool["name"].as_str().unwrap_or_default().to_owned(),
        schema: tool["input_schema"].clone(),
    })
    .collect()
}

fn told(usage: Usage, script: &Script) -> Value {
    json!({"input_tokens": usage.fresh(), "cache_creation_input_tokens": usage.written,
        "cache_read_input_tokens": usage.cached,
        "cache_creation": {"ephemeral_5m_input_tokens": usage.written, "ephemeral_1h_input_tokens": 0},
        "output_tokens": usage.completion, "service_tier": script.tier.as_deref().unwrap_or("standard")})
}

fn stop_reason(said: &Said) -> &'static str {
    match said.finish {
        Finish::Stop => "end_turn",
        Finish::Length => "max_tokens",
        Finish::Tools => "tool_use",
        Finish::Refused => "refusal",
    }
}

fn call_id(call: &Call) -> String {
    format!("toolu_01{}", digest(&format!("{}/{}", call.index, call.name)))
}

/// Content blocks, whole.
fn blocks(said: &Said) -> Vec<Value> {
    let mut blocks = Vec::new();
    if let Some(thinking) = &said.thinking {
        blocks.push(json!({"type": "thinking", "thinking": thinking, "signature": signature(thinking)}));
    }
    if !said.pieces.is_empty() {
        blocks.push(json!({"type": "text", "text": said.text()}));
    }
    for call in &said.calls {
        blocks.push(
            json!({"type": "tool_use", "id": call_id(call), "name": call.name, "input": call.arguments}),
        );
    }
    blocks
}

fn message(said: &Said, model: &str, usage: Option<&Value>) -> Value {
    let id = format!("msg_01{}", digest(&format!("{model}/{}/{}", said.usage.prompt, said.pieces.len())));
    let mut message = json!({"id": id, "type": "message", "role": "assistant", "model": model,
        "content": blocks(said), "stop_reason": stop_reason(said), "stop_sequence": null});
    if let Some(usage) = usage {
        message["usage"] = usage.clone();
    }
    message
}

fn events(said: &Said, model: &str, usage: Option<&Value>) -> Vec<Bytes> {
    let mut start = message(said, model, usage);
    start["content"] = json!([]);
    start["stop_reason"] = Value::Null;
    if usage.is_some() {
        // What is known at the beginning: the first token of the answer is counted, no more.
        start["usage"]["output_tokens"] = json!(1);
    }
    let mut events = vec![json!({"type": "message_start", "message": start})];
    for (index, block) in blocks(said).iter().enumerate() {
        events.push(json!({"type": "content_block_start", "index": index, "content_block": emptied(block)}));
        if index == 0 {
            events.push(json!({"type": "ping"}));
        }
        let delta = |delta| json!({"type": "content_block_delta", "index": index, "delta": delta});
        events.extend(deltas(block, &said.pieces).into_iter().map(delta));
        events.push(json!({"type": "content_block_stop", "index": index}));
    }
    let mut last = json!({"type": "message_delta",
        "delta": {"stop_reason": stop_reason(said), "stop_sequence": null}});
    if let Some(usage) = usage {
        last["usage"] = usage.clone();
        if let Some(usage) = last["usage"].as_object_mut() {
            usage.remove("service_tier");
        }
    }
    events.push(last);
    events.push(json!({"type": "message_stop"}));
    events.iter().map(named_sse).collect()
}

fn emptied(block: &Value) -> Value {
    let mut block = block.clone();
    for key in ["text", "thinking", "signature"] {
        if block.get(key).is_some() {
            block[key] = json!("");
        }
    }
    if block["type"] == "tool_use" {
        block["input"] = json!({});
    }
    block
}

fn deltas(block: &Value, pieces: &[String]) -> Vec<Value> {
    match block["type"].as_str() {
        Some("thinking") => {
            let words = block["thinking"].as_str().unwrap_or_default().split_inclusive(' ');
            let mut deltas: Vec<_> =
                words.map(|word| json!({"type": "thinking_delta", "thinking": word})).collect();
            deltas.push(json!({"type": "signature_delta", "signature": block["signature"]}));
            deltas
        }
        Some("tool_use") => {
            let input = block["input"].to_string();
            let (one, two) = halves(&input);
            let pieces = ["", one, two].into_iter();
            pieces.map(|piece| json!({"type": "input_json_delta", "partial_json": piece})).collect()
        }
        _ => pieces.iter().map(|piece| json!({"type": "text_delta", "text": piece})).collect(),
    }
}

/// An error's body.
pub(super) fn error(status: u16, kind: Option<Refusal>, refused: Option<&Refused>) -> Value {
    let sort = match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        504 => "timeout_error",
        529 | 503 => "overloaded_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    };
    let scripted = match kind {
        Some(Refusal::Context) => "prompt is too long: 208310 tokens > 200000 maximum",
        Some(Refusal::Content) => "Output blocked by content filtering policy",
        Some(Refusal::BadRequest) => "temperature: range: 0..1",
        Some(Refusal::Quota) => "Your credit balance is too low to access the Anthropic API.",
        None if status == 401 => "invalid x-api-key",
        None if status == 429 => "This request would exceed your organization's rate limit.",
        None if sort == "overloaded_error" => "Overloaded",
        None => "The request was answered by its script.",
    };
    let message = refused.map_or(scripted, |refused| refused.message.as_str());
    json!({"type": "error", "error": {"type": sort, "message": message}, "request_id": "req_011CTfakeProvider"})
}

#[cfg(test)]
#[path = "anthropic_tests.rs"]
mod tests;
