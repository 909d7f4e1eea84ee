//! The body of a request.

use serde_json::{Map, Value, json};

use super::Family;
use super::content::Content;
use super::extras::{Thinking, top_k};
use super::tools::{Tools, in_history, names, push};
use crate::contract::DeploymentMeta;
use crate::dialect::request::{Part, Request, Role, Sampling, Turn};
use crate::dialect::translate::{Reading, Sent};
use crate::error::ApiError;

/// Members of a request that Converse has and no client dialect: their names there, and LiteLLM's.
const OWN: [(&str, &str); 7] = [
    ("guardrailConfig", "guardrail_config"),
    ("performanceConfig", "performance_config"),
    ("requestMetadata", "request_metadata"),
    ("promptVariables", "prompt_variables"),
    ("additionalModelResponseFieldPaths", "additional_model_response_field_paths"),
    ("projectIdentifier", "project_identifier"),
    ("serviceTier", ""),
];
/// Fields of Claude's that clients set at the top level.
const CLAUDE: [&str; 4] = ["anthropic_beta", "context_management", "container", "mcp_servers"];

/// Writes a request for Converse or ConverseStream.
///
/// # Errors
/// 400: content or a tool that the provider has no words for.
pub fn write_request(mut request: Request, meta: &DeploymentMeta) -> Result<Sent, ApiError> {
    meta.params.also_drop.iter().for_each(|name| request.leave_out(name));
    let family = Family::of(meta);
    let thinking = Thinking::of(request.reasoning.as_ref(), meta, family);
    if !meta.caps.has("mid_conversation_system") {
        hoist_system(&mut request);
    }
    let mut tools = Tools {
        tools: std::mem::take(&mut request.tools),
        choice: request.tool_choice.take(),
        parallel: request.parallel_tool_calls,
        format: request.format.take(),
        thinking: thinking.on,
    };
    tools.narrow();
    let mut names = names();
    let tools = tools.write(meta, family, &mut names)?;
    let as_text = tools.config.is_none() && in_history(&request.turns);
    let mut content = Content::new(meta, family, &mut names, as_text);
    let system = content.system(&request.system);
    let messages = content.messages(std::mem::take(&mut request.turns))?;

    let mut body = Map::new();
    body.insert("messages".into(), messages.into());
    if !system.is_empty() {
        body.insert("system".into(), system.into());
    }
    let inference = inference(&request, meta, &thinking);
    if !inference.is_empty() {
        body.insert("inferenceConfig".into(), inference.into());
    }
    for (name, value) in [("toolConfig", tools.config), ("outputConfig", tools.output)] {
        if let Some(value) = value {
            body.insert(name.into(), value);
        }
    }
    if let Some(tier @ ("priority" | "flex" | "default")) = request.service_tier.as_deref() {
        body.insert("serviceTier".into(), json!({ "type": tier }));
    }
    let mut fields = thinking.fields;
    fields.extend(tools.fields);
    if let Some(number) = request.sampling.top_k.filter(|_| !thinking.on && samples(meta)) {
        top_k(number, family, &mut fields);
    }
    own_members(&mut request.extra, family, &mut body, &mut fields);
    if family == Family::Claude && !request.stop.is_empty() {
        // Which one was met is told here only.
        body.entry("additionalModelResponseFieldPaths").or_insert_with(|| json!(["/stop_sequence"]));
    }
    if !fields.is_empty() {
        body.insert("additionalModelRequestFields".into(), fields.into());
    }
    meta.params.apply(&mut body);
    let reading = Reading { json_tool: tools.json_tool, tool_names: names.into_changed() };
    Ok(Sent { body: Value::Object(body).to_string().into_bytes(), headers: Vec::new(), reading })
}

/// Instructions in the middle go to those at the beginning: few models take them where they are.
fn hoist_system(request: &mut Request) {
    let (system, turns): (Vec<Turn>, Vec<Turn>) =
        std::mem::take(&mut request.turns).into_iter().partition(|turn| turn.role == Role::System);
    let parts: Vec<Part> = system.into_iter().flat_map(|turn| turn.parts).collect();
    request.system.extend(parts);
    request.turns = turns;
}

/// Does the model take the client's sampling? Some new ones refuse any.
fn samples(meta: &DeploymentMeta) -> bool {
    let mend = meta.params.drop || meta.params.modify;
    !(mend && meta.caps.supports("sampling_params") == Some(false))
}

fn inference(request: &Request, meta: &DeploymentMeta, thinking: &Thinking) -> Map<String, Value> {
    let mut config = Map::new();
    if let Some(max) = request.max_tokens {
        // What is thought counts as answer: the client's bound is for what it is to read.
        let max = if max <= thinking.budget { max.saturating_add(thinking.budget) } else { max };
        let bound = meta.caps.max_output.filter(|_| meta.params.modify).unwrap_or(u64::MAX);
        config.insert("maxTokens".into(), max.min(bound).into());
    }
    if samples(meta) {
        let Sampling { mut temperature, mut top_p, .. } = request.sampling;
        if thinking.on && (meta.params.drop || meta.params.modify) {
            // A thinking Claude takes these values only.
            temperature = temperature.filter(|value| (value - 1.0).abs() < f64::EPSILON);
            top_p = top_p.filter(|value| (0.95..=1.0).contains(value));
        }
        if meta.params.modify {
            temperature = temperature.map(|value| value.min(1.0));
        }
        for (name, value) in [("temperature", temperature), ("topP", top_p)] {
            if let Some(value) = value {
                config.insert(name.into(), value.into());
            }
        }
    }
    let stop: Vec<&String> = request.stop.iter().filter(|stop| !stop.is_empty()).collect();
    if !stop.is_empty() {
        config.insert("stopSequences".into(), json!(stop));
    }
    config
}

/// Moves what the client said in Converse's own words to where it belongs.
fn own_members(
    extra: &mut Map<String, Value>,
    family: Family,
    body: &mut Map<String, Value>,
    fields: &mut Map<String, Value>,
) {
    for (name, other) in OWN {
        if let Some(value) = extra.shift_remove(name).or_else(|| extra.shift_remove(other)) {
            body.insert(name.into(), value);
        }
    }
    if family == Family::Claude {
        for name in CLAUDE {
            match extra.shift_remove(name) {
                Some(Value::Array(items)) => items.into_iter().for_each(|item| push(fields, name, item)),
                Some(value) => drop(fields.insert(name.into(), value)),
                None => {}
            }
        }
    }
    for name in ["additionalModelRequestFields", "additional_model_request_fields"] {
        if let Some(Value::Object(members)) = extra.shift_remove(name) {
            fields.extend(members);
        }
    }
}

#[cfg(test)]
#[path = "write_tests.rs"]
mod tests;
