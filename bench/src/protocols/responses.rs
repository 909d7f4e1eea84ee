//! OpenAI's responses, whole and with the events of a stream.

use serde_json::{Value, json};

use super::chat::{call_id, choice, dated, halves};
use super::{Checked, Flow, Planned, Refused, Wire, named_sse, responses_check};
use crate::said::{CREATED, Finish, Said, Tool, Usage, Wanted, content_text, content_tokens, digest};
use crate::script::Script;

/// The answer of `responses`.
///
/// # Errors
/// What OpenAI would refuse.
pub fn plan(wire: &Wire<'_>, model: &str, script: &Script) -> Checked<Planned> {
    let body = wire.json;
    responses_check::check(body)?;
    let wanted = wanted(body, model);
    let said = Said::new(&wanted, script).map_err(|e| Refused::new(400, e))?;
    let usage = told(said.usage);
    let whole = response(body, model, &said, (!script.no_usage).then_some(&usage), script);
    let planned = if wanted.stream {
        let frames = events(&whole, &said);
        let error = json!({"type": "error", "code": "server_error",
            "message": "The server had an error while processing your request.", "param": null,
            "sequence_number": frames.len()});
        Planned::stream(Flow {
            content_type: "text/event-stream; charset=utf-8",
            frames: frames.iter().map(named_sse).collect(),
            error: named_sse(&error),
            end: None,
        })
    } else {
        Planned::json(&whole)
    };
    Ok(planned.costs(said.usage, usage))
}

fn wanted(body: &Value, model: &str) -> Wanted {
    let items = body["input"].as_array().map(Vec::as_slice).unwrap_or_default();
    let (text, prompt) = match body["input"].as_str() {
        Some(text) => (text.to_owned(), 4 + content_tokens(&body["input"])),
        None => {
            let asked = items.iter().rev().find(|item| item["role"] == "user");
            let text = asked.map(|item| content_text(&item["content"])).unwrap_or_default();
            (text, items.iter().map(|item| 4 + content_tokens(item)).sum())
        }
    };
    let results: Vec<_> =
        items.iter().rev().take_while(|item| item["type"] == "function_call_output").collect();
    let results: Vec<_> = results.iter().rev().map(|item| content_text(&item["output"])).collect();
    let functions = body["tools"].as_array().into_iter().flatten().filter(|tool| tool["type"] == "function");
    let format = &body["text"]["format"];
    Wanted {
        model: model.to_owned(),
        stream: body["stream"].as_bool().unwrap_or(false),
        text,
        prompt_tokens: prompt + content_tokens(&body["instructions"]),
        limit: body["max_output_tokens"].as_u64(),
        tools: functions
            .map(|tool| Tool {
                name: tool["name"].as_str().unwrap_or_default().to_owned(),
                schema: tool["parameters"].clone(),
            })
            .collect(),
        choice: choice(&body["tool_choice"]),
        parallel: body["parallel_tool_calls"].as_bool().unwrap_or(true),
        result: (!results.is_empty()).then(|| results.join(" ")),
        schema: (format["type"] == "json_schema").then(|| format["schema"].clone()),
        json: format["type"] == "json_object",
        thinks: false,
    }
}

fn told(usage: Usage) -> Value {
    json!({"input_tokens": usage.prompt, "input_tokens_details": {"cached_tokens": usage.cached},
        "output_tokens": usage.completion, "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.total()})
}

/// The items that the answer is made of.
fn output(said: &Said, id: &str) -> Vec<Value> {
    let mut items = Vec::new();
    if let Some(thinking) = &said.thinking {
        items.push(json!({"id": format!("rs_{id}"), "type": "reasoning",
            "summary": [{"type": "summary_text", "text": thinking}]}));
    }
    for call in &said.calls {
        items.push(
            json!({"id": format!("fc_{id}{}", call.index), "type": "function_call", "status": "completed",
            "arguments": call.arguments.to_string(), "call_id": call_id(call), "name": call.name}),
        );
    }
    if said.calls.is_empty() {
        let part = if said.finish == Finish::Refused {
            json!({"type": "refusal", "refusal": said.text()})
        } else {
            json!({"type": "output_text", "annotations": [], "logprobs": [], "text": said.text()})
        };
        let status = if said.finish == Finish::Length { "incomplete" } else { "completed" };
        items.push(json!({"id": format!("msg_{id}"), "type": "message", "status": status, "content": [part],
            "role": "assistant"}));
    }
    items
}

fn response(body: &Value, model: &str, said: &Said, usage: Option<&Value>, script: &Script) -> Value {
    let id = digest(&format!("{model}/{}/{}", said.usage.prompt, said.pieces.len()));
    let cut = said.finish == Finish::Length;
    let or = |key: &str, default: Value| if body[key].is_null() { default } else { body[key].clone() };
    json!({
        "id": format!("resp_{id}"), "object": "response", "created_at": CREATED,
        "status": if cut { "incomplete" } else { "completed" }, "background": false, "error": null,
        "incomplete_details": if cut { json!({"reason": "max_output_tokens"}) } else { Value::Null },
        "instructions": body["instructions"], "max_output_tokens": body["max_output_tokens"],
        "max_tool_calls": null, "model": dated(model), "output": output(said, &id),
        "parallel_tool_calls": or("parallel_tool_calls", json!(true)),
        "previous_response_id": body["previous_response_id"],
        "prompt_cache_key": null, "reasoning": or("reasoning", json!({"effort": null, "summary": null})),
        "safety_identifier": null, "service_tier": script.tier.as_deref().unwrap_or("default"),
        "store": or("store", json!(true)), "temperature": or("temperature", json!(1.0)),
        "text": or("text", json!({"format": {"type": "text"}, "verbosity": "medium"})),
        "tool_choice": or("tool_choice", json!("auto")), "tools": or("tools", json!([])),
        "top_logprobs": 0, "top_p": or("top_p", json!(1.0)), "truncation": "disabled", "usage": usage,
        "user": null, "metadata": or("metadata", json!({})),
    })
}

/// The events of a stream, numbered.
fn events(whole: &Value, said: &Said) -> Vec<Value> {
    let mut started = whole.clone();
    started["status"] = json!("in_progress");
    started["output"] = json!([]);
    started["incomplete_details"] = Value::Null;
    started["usage"] = Value::Null;
    let mut events = vec![
        json!({"type": "response.created", "response": started}),
        json!({"type": "response.in_progress", "response": started}),
    ];
    for (at, item) in whole["output"].as_array().into_iter().flatten().enumerate() {
        match item["type"].as_str() {
            Some("reasoning") => reasoning(&mut events, at, item),
            Some("function_call") => function_call(&mut events, at, item),
            _ => message(&mut events, at, item, said),
        }
        events.push(json!({"type": "response.output_item.done", "output_index": at, "item": item}));
    }
    let last = if said.finish == Finish::Length { "response.incomplete" } else { "response.completed" };
    events.push(json!({"type": last, "response": whole}));
    for (number, event) in events.iter_mut().enumerate() {
        event["sequence_number"] = json!(number);
    }
    events
}

/// `output_item.added` of an item, with some of its members emptied.
fn added(at: usize, item: &Value, emptied: &[(&str, Value)]) -> Value {
    let mut item = item.clone();
    for (key, value) in emptied {
        item[*key] = value.clone();
    }
    json!({"type": "response.output_item.added", "output_index": at, "item": item})
}

fn reasoning(events: &mut Vec<Value>, at: usize, item: &Value) {
    let at_part = |kind: &str, member: &str, value: Value| json!({"type": kind, "item_id": item["id"], "output_index": at, "summary_index": 0, member: value});
    let text = item["summary"][0]["text"].as_str().unwrap_or_default();
    events.push(added(at, item, &[("summary", json!([]))]));
    let part = "response.reasoning_summary_part";
    events.push(at_part(&format!("{part}.added"), "part", json!({"type": "summary_text", "text": ""})));
    for word in text.split_inclusive(' ') {
        events.push(at_part("response.reasoning_summary_text.delta", "delta", json!(word)));
    }
    events.push(at_part("response.reasoning_summary_text.done", "text", json!(text)));
    events.push(at_part(&format!("{part}.done"), "part", item["summary"][0].clone()));
}

fn function_call(events: &mut Vec<Value>, at: usize, item: &Value) {
    let arguments = item["arguments"].as_str().unwrap_or_default();
    events.push(added(at, item, &[("arguments", json!("")), ("status", json!("in_progress"))]));
    let (one, two) = halves(arguments);
    for piece in [one, two] {
        events.push(json!({"type": "response.function_call_arguments.delta", "item_id": item["id"],
            "output_index": at, "delta": piece}));
    }
    events.push(json!({"type": "response.function_call_arguments.done", "item_id": item["id"],
        "output_index": at, "name": item["name"], "arguments": arguments}));
}

fn message(events: &mut Vec<Value>, at: usize, item: &Value, said: &Said) {
    let part = &item["content"][0];
    let refusal = part["type"] == "refusal";
    let (kind, member) =
        if refusal { ("response.refusal", "refusal") } else { ("response.output_text", "text") };
    let at_part = |kind: &str, member: &str, value: Value| json!({"type": kind, "item_id": item["id"], "output_index": at, "content_index": 0, member: value});
    let mut empty = part.clone();
    empty[member] = json!("");
    events.push(added(at, item, &[("content", json!([])), ("status", json!("in_progress"))]));
    events.push(at_part("response.content_part.added", "part", empty));
    for piece in &said.pieces {
        let mut delta = at_part(&format!("{kind}.delta"), "delta", json!(piece));
        if !refusal {
            delta["logprobs"] = json!([]);
        }
        events.push(delta);
    }
    let mut done = at_part(&format!("{kind}.done"), member, part[member].clone());
    if !refusal {
        done["logprobs"] = json!([]);
    }
    events.push(done);
    events.push(at_part("response.content_part.done", "part", part.clone()));
}

#[cfg(test)]
#[path = "responses_tests.rs"]
mod tests;
