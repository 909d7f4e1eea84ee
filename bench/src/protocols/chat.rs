//! OpenAI's chat completions and legacy completions; Azure's variant of them.

use serde_json::{Map, Value, json};

use super::{Checked, Flow, Planned, Refused, Wire, chat_check, sse};
use crate::said::{
    CREATED, Call, Choice, Finish, Said, Tool, Wanted, content_text, content_tokens, digest, openai_usage,
};
use crate::script::Script;

/// What the shapes depend on beside what is said.
#[derive(Debug)]
pub struct Shape {
    chat: bool,
    /// Azure's answers carry content filter results, and its streams begin with an event without choices.
    azure: bool,
    model: String,
    id: String,
    choices: u64,
    /// `stream_options.include_usage`.
    include_usage: bool,
    no_usage: bool,
    tier: String,
    usage: Value,
}

/// The answer of `chat/completions` or `completions`.
///
/// # Errors
/// What OpenAI would refuse.
pub fn plan(wire: &Wire<'_>, model: &str, chat: bool, azure: bool, script: &Script) -> Checked<Planned> {
    let body = wire.json;
    if chat {
        chat_check::check(body)?;
    }
    let wanted = wanted(body, model, chat);
    let said = Said::new(&wanted, script).map_err(|e| Refused::new(400, e))?;
    let choices = body["n"].as_u64().unwrap_or(1).clamp(1, 16);
    let mut usage = said.usage;
    if script.usage.is_none() {
        usage.completion *= choices;
    }
    let shape = Shape {
        chat,
        azure,
        model: dated(model),
        id: id(chat, model, &wanted, &said),
        choices,
        include_usage: body["stream_options"]["include_usage"].as_bool().unwrap_or(false),
        no_usage: script.no_usage,
        tier: script.tier.clone().unwrap_or_else(|| "default".to_owned()),
        usage: openai_usage(usage),
    };
    let planned = if wanted.stream {
        Planned::stream(Flow {
            content_type: "text/event-stream; charset=utf-8",
            frames: shape.events(&said).iter().map(sse).collect(),
            error: sse(&super::openai::error(500, None, None, azure)),
            end: Some("data: [DONE]\n\n".into()),
        })
    } else {
        Planned::json(&shape.whole(&said))
    };
    Ok(planned.costs(usage, shape.usage))
}

/// Reads a body.
fn wanted(body: &Value, model: &str, chat: bool) -> Wanted {
    let messages = body["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let prompt_tokens = if chat {
        messages.iter().map(|message| 4 + content_tokens(&message["content"])).sum()
    } else {
        content_tokens(&body["prompt"])
    };
    let results: Vec<_> = messages.iter().rev().take_while(|message| message["role"] == "tool").collect();
    let results: Vec<_> = results.iter().rev().map(|message| content_text(&message["content"])).collect();
    let asked = messages.iter().rev().find(|message| message["role"] == "user");
    let format = &body["response_format"];
    Wanted {
        model: model.to_owned(),
        stream: body["stream"].as_bool().unwrap_or(false),
        text: asked.map(|message| content_text(&message["content"])).unwrap_or_default(),
        prompt_tokens,
        limit: ["max_completion_tokens", "max_tokens"].iter().find_map(|k| body[k].as_u64()),
        tools: tools(&body["tools"]),
        choice: choice(&body["tool_choice"]),
        parallel: body["parallel_tool_calls"].as_bool().unwrap_or(true),
        result: (!results.is_empty()).then(|| results.join(" ")),
        schema: (format["type"] == "json_schema").then(|| format["json_schema"]["schema"].clone()),
        json: format["type"] == "json_object",
        thinks: false,
    }
}

fn tools(tools: &Value) -> Vec<Tool> {
    let functions = tools.as_array().into_iter().flatten().filter(|tool| tool["type"] == "function");
    functions
        .map(|tool| &tool["function"])
        .map(|function| Tool {
            name: function["name"].as_str().unwrap_or_default().to_owned(),
            schema: function["parameters"].clone(),
        })
        .collect()
}

/// `tool_choice` of chat and of responses.
pub(super) fn choice(choice: &Value) -> Choice {
    match choice {
        Value::String(word) if word == "none" => Choice::None,
        Value::String(word) if word == "required" => Choice::Any,
        Value::Object(_) => {
            let name = choice["function"]["name"].as_str().or_else(|| choice["name"].as_str());
            name.map_or(Choice::Auto, |name| Choice::Named(name.to_owned()))
        }
        _ => Choice::Auto,
    }
}

fn id(chat: bool, model: &str, wanted: &Wanted, said: &Said) -> String {
    let what = format!("{chat}/{model}/{}/{}", wanted.prompt_tokens, said.pieces.len());
    format!("{}-{}", if chat { "chatcmpl" } else { "cmpl" }, digest(&what))
}

/// OpenAI answers with the dated name of a model, not with the alias that was asked for.
pub(super) fn dated(model: &str) -> String {
    match model {
        "gpt-4o" => "gpt-4o-2024-08-06".into(),
        "gpt-4o-mini" => "gpt-4o-mini-2024-07-18".into(),
        other => other.into(),
    }
}

/// Id of a tool call.
pub(super) fn call_id(call: &Call) -> String {
    format!("call_{}", digest(&format!("{}/{}", call.index, call.name)))
}

fn finish_reason(said: &Said) -> &'static str {
    match said.finish {
        Finish::Length => "length",
        Finish::Tools => "tool_calls",
        Finish::Stop | Finish::Refused => "stop",
    }
}

impl Shape {
    fn whole(&self, said: &Said) -> Value {
        let choices: Vec<_> = (0..self.choices).map(|index| self.choice(index, said)).collect();
        let object = if self.chat { "chat.completion" } else { "text_completion" };
        let mut answer = json!({"id": self.id, "object": object, "created": CREATED, "model": self.model,
            "choices": choices});
        if self.chat {
            answer["service_tier"] = json!(self.tier);
            answer["system_fingerprint"] = json!("fp_a7ac4e5f10");
        }
        if self.azure && self.chat {
            answer["prompt_filter_results"] =
                json!([{"prompt_index": 0, "content_filter_results": filter_results()}]);
        }
        if !self.no_usage {
            answer["usage"] = self.usage.clone();
        }
        answer
    }

    fn choice(&self, index: u64, said: &Said) -> Value {
        let reason = finish_reason(said);
        if !self.chat {
            return json!({"text": said.text(), "index": index, "logprobs": null, "finish_reason": reason});
        }
        let mut choice =
            json!({"index": index, "message": message(said), "logprobs": null, "finish_reason": reason});
        if self.azure {
            choice["content_filter_results"] = filter_results();
        }
        choice
    }

    fn events(&self, said: &Said) -> Vec<Value> {
        let mut events = Vec::new();
        if self.azure {
            let mut first = self.chunk(Vec::new());
            (first["model"], first["id"], first["created"]) = (json!(""), json!(""), json!(0));
            first["prompt_filter_results"] =
                json!([{"prompt_index": 0, "content_filter_results": filter_results()}]);
            events.push(first);
        }
        for index in 0..self.choices {
            if self.chat {
                let deltas = deltas(said);
                events.extend(deltas.into_iter().map(|delta| self.delta(index, Some(delta), "", None)));
            } else {
                events.extend(said.pieces.iter().map(|piece| self.delta(index, None, piece, None)));
            }
            let last = self.chat.then(|| json!({}));
            events.push(self.delta(index, last, "", Some(finish_reason(said))));
        }
        if self.include_usage && !self.no_usage {
            for event in &mut events {
                event["usage"] = Value::Null;
            }
            let mut last = self.chunk(Vec::new());
            last["usage"] = self.usage.clone();
            events.push(last);
        }
        events
    }

    fn chunk(&self, choices: Vec<Value>) -> Value {
        let mut chunk = Map::new();
        let object = if self.chat { "chat.completion.chunk" } else { "text_completion" };
        chunk.insert("id".into(), json!(self.id));
        chunk.insert("object".into(), json!(object));
        chunk.insert("created".into(), json!(CREATED));
        chunk.insert("model".into(), json!(self.model));
        if self.chat {
            chunk.insert("service_tier".into(), json!(self.tier));
            chunk.insert("system_fingerprint".into(), json!("fp_a7ac4e5f10"));
        }
        chunk.insert("choices".into(), Value::Array(choices));
        Value::Object(chunk)
    }

    fn delta(&self, index: u64, delta: Option<Value>, text: &str, finish: Option<&str>) -> Value {
        let mut choice = match delta {
            Some(delta) => json!({"index": index, "delta": delta, "logprobs": null, "finish_reason": finish}),
            None => json!({"text": text, "index": index, "logprobs": null, "finish_reason": finish}),
        };
        if self.azure {
            choice["content_filter_results"] = if finish.is_some() { json!({}) } else { filter_results() };
        }
        self.chunk(vec![choice])
    }
}

fn message(said: &Said) -> Value {
    let text = said.text();
    let (content, refusal) = match said.finish {
        Finish::Refused => (Value::Null, json!(text)),
        _ if !said.calls.is_empty() => (Value::Null, Value::Null),
        _ => (json!(text), Value::Null),
    };
    let mut message = json!({"role": "assistant", "content": content, "refusal": refusal, "annotations": []});
    if let Some(thinking) = &said.thinking {
        message["reasoning_content"] = json!(thinking);
    }
    if !said.calls.is_empty() {
        let calls = said.calls.iter().map(|call| {
            json!({"id": call_id(call), "type": "function",
                "function": {"name": call.name, "arguments": call.arguments.to_string()}})
        });
        message["tool_calls"] = calls.collect();
    }
    message
}

/// The deltas of a choice: role, thinking, text or refusal, calls with their arguments in two pieces.
fn deltas(said: &Said) -> Vec<Value> {
    let first = if said.calls.is_empty() { json!("") } else { Value::Null };
    let mut deltas = vec![json!({"role": "assistant", "content": first, "refusal": null})];
    for word in said.thinking.iter().flat_map(|text| text.split_inclusive(' ')) {
        deltas.push(json!({"reasoning_content": word}));
    }
    let member = if said.finish == Finish::Refused { "refusal" } else { "content" };
    deltas.extend(said.pieces.iter().map(|piece| json!({member: piece})));
    for call in &said.calls {
        deltas.push(json!({"tool_calls": [{"index": call.index, "id": call_id(call), "type": "function",
            "function": {"name": call.name, "arguments": ""}}]}));
        let arguments = call.arguments.to_string();
        let (one, two) = halves(&arguments);
        for piece in [one, two] {
            deltas.push(json!({"tool_calls": [{"index": call.index, "function": {"arguments": piece}}]}));
        }
    }
    deltas
}

/// A text in two pieces.
pub(super) fn halves(text: &str) -> (&str, &str) {
    let middle = (0..=text.len() / 2).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text.split_at(middle)
}

pub(super) fn filter_results() -> Value {
    let safe = json!({"filtered": false, "severity": "safe"});
    json!({"hate": safe, "self_harm": safe, "sexual": safe, "violence": safe})
}

#[cfg(test)]
#[path = "chat_tests.rs"]
mod tests;
