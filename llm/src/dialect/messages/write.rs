//! The body of a request.

use serde_json::{Map, Value, json};

use super::content::{Content, name_char};
use super::settings::{BETA_HEADER, Betas, Tools, own_members};
use super::thinking::{Thinking, output_config};
use super::{JSON_TOOL, MAX_TOKENS};
use crate::contract::DeploymentMeta;
use crate::dialect::names::Names;
use crate::dialect::request::{Format, Request, Role, ToolChoice};
use crate::dialect::translate::{Reading, Sent};
use crate::error::ApiError;
use crate::provider::Provider;

/// Longest name of a tool.
const MAX_NAME: usize = 128;
/// What Vertex AI wants in the body in place of the header.
const VERTEX_VERSION: &str = "vertex-2023-10-16";

/// Writes a request for Anthropic, or for Claude on Vertex AI.
///
/// # Errors
/// 400: content that Claude does not take.
pub fn write_request(mut request: Request, meta: &DeploymentMeta) -> Result<Sent, ApiError> {
    let mut names = Names::new(MAX_NAME, name_char);
    hoist_system(&mut request);
    let thinking = Thinking::of(&request, meta);
    let mut betas = Betas::default();
    let mut body = Map::new();
    match meta.provider {
        Provider::VertexAnthropic => body.insert("anthropic_version".into(), VERTEX_VERSION.into()),
        _ => body.insert("model".into(), meta.model.clone().into()),
    };
    let asked = request.max_tokens.or(meta.caps.max_output).unwrap_or(MAX_TOKENS);
    body.insert("max_tokens".into(), thinking.max_tokens(asked, meta).into());

    // Marks are counted in the order in which the provider reads: tools, system, messages.
    let mut content = Content { meta, names: &mut names, marks: 0 };
    let format = request.format.take();
    let native = meta.caps.has("native_structured_output");
    let forced = match &format {
        Some(Format::Schema { .. }) if !native => format.as_ref(),
        _ => None,
    };
    let tools = Tools {
        tools: std::mem::take(&mut request.tools),
        choice: request.tool_choice.take(),
        parallel: request.parallel_tool_calls,
        schema: forced,
        thinking: thinking.on,
    };
    let (tools, choice, json_tool) = tools.write(&mut content, &mut betas);
    if let Some(system) = content.system(&request.system) {
        body.insert("system".into(), system);
    }
    let messages = content.messages(std::mem::take(&mut request.turns))?;
    body.insert("messages".into(), messages.into());
    if !tools.is_empty() {
        body.insert("tools".into(), tools.into());
        if let Some(choice) = choice {
            body.insert("tool_choice".into(), choice);
        }
    }
    sampling(&request, meta, &thinking, &mut body);
    let effort = thinking.effort;
    if let Some(member) = thinking.member {
        body.insert("thinking".into(), member);
    }
    let schema = match format {
        Some(Format::Schema { schema, .. }) if native => {
            Some(json!({"type": "json_schema", "schema": schema}))
        }
        _ => None,
    };
    let asked = request.extra.shift_remove("output_config");
    if let Some(config) = merged(asked, output_config(effort, schema)) {
        body.insert("output_config".into(), config);
    }
    if request.stream {
        body.insert("stream".into(), true.into());
    }
    if let Some(tier) = tier(request.service_tier.as_deref()) {
        body.insert("service_tier".into(), tier.into());
    }
    // An e-mail address is refused there, and should not leave the house.
    if let Some(user) = request.user.filter(|user| !user.contains('@')) {
        body.insert("metadata".into(), json!({"user_id": user}));
    }
    own_members(request.extra, &mut body, &mut betas);
    meta.params.apply(&mut body);
    let headers = betas.header().map(|list| (BETA_HEADER.to_owned(), list)).into_iter().collect();
    let reading =
        Reading { json_tool: json_tool.then(|| JSON_TOOL.to_owned()), tool_names: names.into_changed() };
    Ok(Sent { body: Value::Object(body).to_string().into_bytes(), headers, reading })
}

/// Instructions in the middle join those at the beginning, as LiteLLM does: not every Claude takes them where they are.
fn hoist_system(request: &mut Request) {
    let (system, turns): (Vec<_>, Vec<_>) =
        std::mem::take(&mut request.turns).into_iter().partition(|turn| turn.role == Role::System);
    request.system.extend(system.into_iter().flat_map(|turn| turn.parts));
    request.turns = turns;
}

fn sampling(request: &Request, meta: &DeploymentMeta, thinking: &Thinking, body: &mut Map<String, Value>) {
    let mend = meta.params.drop || meta.params.modify;
    if !(mend && meta.caps.supports("sampling_params") == Some(false)) {
        let (temperature, top_p) = if mend {
            thinking.sampling(request.sampling.temperature, request.sampling.top_p)
        } else {
            (request.sampling.temperature, request.sampling.top_p)
        };
        let temperature =
            if meta.params.modify { temperature.map(|value| value.min(1.0)) } else { temperature };
        for (name, value) in [("temperature", temperature), ("top_p", top_p)] {
            if let Some(value) = value {
                body.insert(name.to_owned(), value.into());
            }
        }
        if let Some(top_k) = request.sampling.top_k.filter(|_| !(mend && thinking.on)) {
            body.insert("top_k".to_owned(), top_k.into());
        }
    }
    let stop: Vec<&String> = request.stop.iter().filter(|stop| !stop.trim().is_empty()).collect();
    if !stop.is_empty() {
        body.insert("stop_sequences".to_owned(), json!(stop));
    }
}

/// Anthropic's word for OpenAI's `service_tier`.
fn tier(asked: Option<&str>) -> Option<&'static str> {
    match asked? {
        "auto" | "priority" => Some("auto"),
        "default" | "standard" | "standard_only" => Some("standard_only"),
        _ => None,
    }
}

/// What was made of the request for `output_config`, under the client's own.
fn merged(asked: Option<Value>, made: Option<Value>) -> Option<Value> {
    match (asked, made) {
        (Some(Value::Object(asked)), Some(Value::Object(mut made))) => {
            made.extend(asked);
            Some(Value::Object(made))
        }
        (asked, made) => made.or(asked),
    }
}

/// The choice as Anthropic says it.
pub(super) fn choice(choice: Option<&ToolChoice>, names: &mut Names) -> Option<Value> {
    Some(match choice? {
        ToolChoice::Auto => json!({"type": "auto"}),
        ToolChoice::None => json!({"type": "none"}),
        ToolChoice::Required => json!({"type": "any"}),
        ToolChoice::Function(name) => json!({"type": "tool", "name": names.sent(name)}),
        ToolChoice::Allowed { required, .. } => json!({"type": if *required { "any" } else { "auto" }}),
    })
}

#[cfg(test)]
#[path = "write_tests.rs"]
mod tests;
