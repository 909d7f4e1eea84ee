//! The body of a request.

use serde_json::{Map, Value};

use super::Model;
use super::config::config;
use super::content::Content;
use super::tools::{Tools, names};
use crate::contract::DeploymentMeta;
use crate::dialect::request::{Part, Request, Role, Turn};
use crate::dialect::translate::{Reading, Sent};
use crate::error::ApiError;
use crate::provider::Provider;

/// Members of a request that Google has and no client dialect: their names there, and as LiteLLM's clients write them.
const OWN: [(&str, &str); 4] = [
    ("safetySettings", "safety_settings"),
    ("cachedContent", "cached_content"),
    ("labels", "labels"),
    ("modelArmorConfig", "model_armor_config"),
];

/// Writes a request for generateContent or streamGenerateContent.
///
/// # Errors
/// 400: content or a tool that the provider has no words for.
pub fn write_request(mut request: Request, meta: &DeploymentMeta) -> Result<Sent, ApiError> {
    meta.params.also_drop.iter().for_each(|name| request.leave_out(name));
    let model = Model::of(&meta.model);
    hoist_system(&mut request, meta);
    let search = request.extra.shift_remove("web_search_options").is_some();
    let tools = Tools {
        tools: std::mem::take(&mut request.tools),
        choice: request.tool_choice.take(),
        format: request.format.take(),
        search,
    };
    let mut names = names();
    let tools = tools.write(meta, model, &mut names)?;
    let contents = Content::new(meta, model, &mut names).contents(std::mem::take(&mut request.turns))?;

    let mut body = Map::new();
    body.insert("contents".into(), contents.into());
    let system = Content::system(&request.system);
    if !system.is_empty() {
        let mut instruction = Map::new();
        instruction.insert("parts".into(), system.into());
        body.insert("systemInstruction".into(), instruction.into());
    }
    if !tools.tools.is_empty() {
        body.insert("tools".into(), tools.tools.into());
    }
    let mut tool_config = tools.config;
    for name in ["toolConfig", "tool_config"] {
        if let Some(Value::Object(members)) = request.extra.shift_remove(name) {
            tool_config.extend(members);
        }
    }
    if !tool_config.is_empty() {
        body.insert("toolConfig".into(), tool_config.into());
    }
    let mut generation = tools.format;
    generation.extend(config(&mut request, meta, model));
    if !generation.is_empty() {
        body.insert("generationConfig".into(), generation.into());
    }
    let tier = match request.service_tier.as_deref() {
        Some(tier @ ("flex" | "priority")) => Some(tier),
        Some("default") => Some("standard"),
        _ => None,
    };
    if let Some(tier) = tier {
        body.insert("serviceTier".into(), tier.into());
    }
    for (name, other) in OWN {
        let value = request.extra.shift_remove(name).or_else(|| request.extra.shift_remove(other));
        // Labels are Vertex's.
        if let Some(value) = value.filter(|_| name != "labels" || meta.provider == Provider::Vertex) {
            body.insert(name.into(), value);
        }
    }
    meta.params.apply(&mut body);
    let reading = Reading { json_tool: tools.json_tool, tool_names: names.into_changed() };
    Ok(Sent { body: Value::Object(body).to_string().into_bytes(), headers: Vec::new(), reading })
}

/// Google has no instructions in the middle: they go to those at the beginning. A model that takes none at all is told
/// by the user.
fn hoist_system(request: &mut Request, meta: &DeploymentMeta) {
    let (system, turns): (Vec<Turn>, Vec<Turn>) =
        std::mem::take(&mut request.turns).into_iter().partition(|turn| turn.role == Role::System);
    let parts: Vec<Part> = system.into_iter().flat_map(|turn| turn.parts).collect();
    request.system.extend(parts);
    request.turns = turns;
    if meta.caps.supports("system_messages") == Some(false) && !request.system.is_empty() {
        request.turns.insert(0, Turn::new(Role::User, std::mem::take(&mut request.system)));
    }
}

#[cfg(test)]
#[path = "write_tests.rs"]
mod tests;
