//! Requests to providers that speak chat, from clients that do not.

use serde_json::{Map, Value, json};

use super::host::Host;
use super::write_messages::write_messages;
use crate::contract::DeploymentMeta;
use crate::dialect::Dialect;
use crate::dialect::names::Names;
use crate::dialect::request::{Effort, Format, Part, Request, Tool, ToolChoice};
use crate::dialect::support::unsupported;
use crate::dialect::translate::{Reading, Sent};
use crate::error::ApiError;

/// Longest name of an end user that OpenAI takes, characters.
const MAX_USER: usize = 64;

/// Writes the body of a chat completion for OpenAI, Azure, or a provider that speaks like them.
///
/// Marks for a prompt cache go to OpenRouter only: others cache by themselves. Hosted tools of other dialects are left
/// out.
///
/// # Errors
/// 400, naming the parameter, for what the provider has no words for.
pub fn write_request(mut request: Request, meta: &DeploymentMeta) -> Result<Sent, ApiError> {
    let host = Host::of(meta);
    let mut names = name_tools(&mut request);
    let mut body = Map::new();
    body.insert("model".to_owned(), meta.model.clone().into());
    write_format(&mut request, &host, meta, &mut body);
    let (system, turns) = (std::mem::take(&mut request.system), std::mem::take(&mut request.turns));
    let messages = write_messages(system, turns, &host, &mut names)?;
    body.insert("messages".to_owned(), messages.into());
    write_tools(&mut request, &host, &mut body);
    write_sampling(&request, &host, meta, &mut body)?;
    write_reasoning(&request, &host, &mut body);
    if request.stream {
        body.insert("stream".to_owned(), true.into());
        if meta.stream_options {
            body.insert("stream_options".to_owned(), json!({"include_usage": true}));
        }
    }
    write_labels(&mut request, &host, &mut body);
    for (name, value) in std::mem::take(&mut request.extra) {
        if host.takes(&name) {
            body.entry(name).or_insert(value);
        }
    }
    meta.params.apply(&mut body);
    let body = serde_json::to_vec(&body).map_err(|error| ApiError::internal(error.to_string()))?;
    let reading = Reading { tool_names: names.into_changed(), ..Reading::default() };
    Ok(Sent { body, headers: Vec::new(), reading })
}

/// OpenAI takes names of up to 64 of these. What goes out in place of others is noted for the reader of the answer.
fn name_tools(request: &mut Request) -> Names {
    let mut names = Names::new(64, |c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    for tool in &mut request.tools {
        if let Tool::Function { name, .. } = tool {
            *name = names.sent(name);
        }
    }
    match &mut request.tool_choice {
        Some(ToolChoice::Function(name)) => *name = names.sent(name),
        Some(ToolChoice::Allowed { names: allowed, .. }) => {
            for name in allowed {
                *name = names.sent(name);
            }
        }
        _ => {}
    }
    names
}

fn write_tools(request: &mut Request, host: &Host<'_>, body: &mut Map<String, Value>) {
    let mut choice = request.tool_choice.take();
    let mut tools = std::mem::take(&mut request.tools);
    // Only OpenAI knows lists of allowed tools; others are shown no more than those.
    if let Some(ToolChoice::Allowed { names, required }) = &choice
        && !host.openai
    {
        tools.retain(|tool| match tool {
            Tool::Function { name, .. } => names.contains(name),
            Tool::Hosted { .. } => true,
        });
        choice = Some(if *required { ToolChoice::Required } else { ToolChoice::Auto });
    }
    let written: Vec<Value> = tools.into_iter().filter_map(|tool| write_tool(tool, host)).collect();
    if written.is_empty() {
        return;
    }
    body.insert("tools".to_owned(), written.into());
    if let Some(choice) = choice {
        body.insert("tool_choice".to_owned(), write_choice(choice, host));
    }
    if let Some(parallel) = request.parallel_tool_calls {
        body.insert("parallel_tool_calls".to_owned(), parallel.into());
    }
}

fn write_tool(tool: Tool, host: &Host<'_>) -> Option<Value> {
    match tool {
        Tool::Function { name, description, parameters, strict, cache } => {
            let mut function = Map::new();
            function.insert("name".to_owned(), name.into());
            if let Some(description) = description {
                function.insert("description".to_owned(), description.into());
            }
            let parameters = parameters.unwrap_or_else(|| json!({"type": "object", "properties": {}}));
            function.insert("parameters".to_owned(), parameters);
            if let Some(strict) = strict {
                function.insert("strict".to_owned(), strict.into());
            }
            let mut tool = json!({"type": "function", "function": function});
            if let (Some(cache), true, Value::Object(members)) = (cache, host.openrouter, &mut tool) {
                members.insert("cache_control".to_owned(), super::write_parts::write_cache(cache));
            }
            Some(tool)
        }
        Tool::Hosted { dialect: Dialect::Chat, value } => Some(value),
        Tool::Hosted { .. } => None,
    }
}

fn write_choice(choice: ToolChoice, host: &Host<'_>) -> Value {
    let function = |name: String| json!({"type": "function", "function": {"name": name}});
    match choice {
        ToolChoice::Auto => "auto".into(),
        ToolChoice::None => "none".into(),
        ToolChoice::Required if host.mistral => "any".into(),
        ToolChoice::Required => "required".into(),
        ToolChoice::Function(name) => function(name),
        ToolChoice::Allowed { names, required } => {
            let tools: Vec<Value> = names.into_iter().map(function).collect();
            let mode = if required { "required" } else { "auto" };
            json!({"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}})
        }
    }
}

/// A model that is known to have no schemas is told the schema, and made to answer with an object.
fn write_format(
    request: &mut Request,
    host: &Host<'_>,
    meta: &DeploymentMeta,
    body: &mut Map<String, Value>,
) {
    let object = json!({"type": "json_object"});
    let format = match request.format.take() {
        None => return,
        Some(Format::Json) => object,
        Some(Format::Schema { schema, .. })
            if host.deepseek || meta.caps.supports("response_schema") == Some(false) =>
        {
            let told = format!("Answer with a JSON object that follows this JSON schema:\n{schema}");
            request.system.push(Part::text(told));
            object
        }
        Some(Format::Schema { name, description, schema, strict }) => {
            let mut members = Map::new();
            members.insert("name".to_owned(), name.into());
            if let Some(description) = description {
                members.insert("description".to_owned(), description.into());
            }
            members.insert("schema".to_owned(), schema);
            if let Some(strict) = strict {
                members.insert("strict".to_owned(), strict.into());
            }
            json!({"type": "json_schema", "json_schema": members})
        }
    };
    body.insert("response_format".to_owned(), format);
}

fn write_sampling(
    request: &Request,
    host: &Host<'_>,
    meta: &DeploymentMeta,
    body: &mut Map<String, Value>,
) -> Result<(), ApiError> {
    let sampling = &request.sampling;
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            body.insert(name.to_owned(), value);
        }
    };
    put(host.max_tokens(), request.max_tokens.map(Value::from));
    // OpenAI's reasoning models refuse these, but for what they do anyway.
    let fixed = meta.params.drop && host.reasoning;
    put("temperature", sampling.temperature.filter(|_| !fixed).map(Value::from));
    put("top_p", sampling.top_p.filter(|_| !fixed).map(Value::from));
    put("frequency_penalty", sampling.frequency_penalty.filter(|_| !fixed).map(Value::from));
    put("presence_penalty", sampling.presence_penalty.filter(|_| !fixed).map(Value::from));
    if let Some(top_k) = sampling.top_k {
        if host.takes_top_k() {
            put("top_k", Some(top_k.into()));
        } else if !meta.params.drop && !meta.params.also_drop.iter().any(|name| name == "top_k") {
            return Err(unsupported("top_k", &request.model));
        }
    }
    put(if host.mistral { "random_seed" } else { "seed" }, sampling.seed.map(Value::from));
    put("n", sampling.n.map(Value::from));
    put("logprobs", sampling.logprobs.map(Value::from));
    put("top_logprobs", sampling.top_logprobs.map(Value::from));
    put("logit_bias", sampling.logit_bias.clone());
    put("stop", (!request.stop.is_empty() && !fixed).then(|| request.stop.clone().into()));
    Ok(())
}

fn write_reasoning(request: &Request, host: &Host<'_>, body: &mut Map<String, Value>) {
    let Some(reasoning) = &request.reasoning else { return };
    if let Some(effort) = host.effort(reasoning) {
        body.insert("reasoning_effort".to_owned(), effort.into());
    }
    // DeepSeek has a switch of its own.
    if host.deepseek {
        let off = reasoning.level() == Some(Effort::None);
        let thinking = if off { "disabled" } else { "enabled" };
        body.insert("thinking".to_owned(), json!({"type": thinking}));
    }
}

fn write_labels(request: &mut Request, host: &Host<'_>, body: &mut Map<String, Value>) {
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            body.insert(name.to_owned(), value);
        }
    };
    // Mistral refuses members that it does not know.
    if !host.mistral {
        let user = request.user.take().map(|user| match host.openai {
            true => user.chars().take(MAX_USER).collect::<String>(),
            false => user,
        });
        put("user", user.map(Value::from));
        put("service_tier", request.service_tier.take().map(Value::from));
    }
    put("verbosity", request.verbosity.take().filter(|_| host.takes("verbosity")).map(Value::from));
    // OpenAI takes labels only for answers that it stores.
    let stored = request.extra.get("store") == Some(&Value::Bool(true));
    put("metadata", request.metadata.take().filter(|_| stored));
}

#[cfg(test)]
#[path = "write_tests.rs"]
mod tests;
