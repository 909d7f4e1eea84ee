//! `toolConfig`, and the two ways to an answer in a schema.

use serde_json::{Map, Value, json};

use super::Family;
use super::content::{cache_point, caches};
use crate::contract::DeploymentMeta;
use crate::dialect::Dialect;
use crate::dialect::fields::set;
use crate::dialect::names::Names;
use crate::dialect::request::{Body, Format, Tool, ToolChoice, Turn};
use crate::error::ApiError;

/// Tool that stands for a schema where the model has no other way (LiteLLM's name).
const JSON_TOOL: &str = "json_tool_call";
/// Longest `ToolName`.
const MAX_NAME: usize = 64;
/// Tools that Claude knows by type, and the beta that brings them (Anthropic, "Computer use").
const CLAUDE_TOOLS: [(&str, Option<&str>); 6] = [
    ("computer_20241022", Some("computer-use-2024-10-22")),
    ("computer_20250124", Some("computer-use-2025-01-24")),
    ("computer_20251124", Some("computer-use-2025-11-24")),
    ("bash_", None),
    ("text_editor_", None),
    ("memory_", Some("context-management-2025-06-27")),
];

/// Names that Converse takes.
pub(super) fn names() -> Names {
    Names::new(MAX_NAME, |c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

/// Do messages call tools?
pub(super) fn in_history(turns: &[Turn]) -> bool {
    let is_tool = |body: &Body| matches!(body, Body::ToolCall(_) | Body::ToolResult { .. });
    turns.iter().flat_map(|turn| &turn.parts).any(|part| is_tool(&part.body))
}

/// What of a request is about tools.
#[derive(Debug)]
pub(super) struct Tools {
    pub(super) tools: Vec<Tool>,
    pub(super) choice: Option<ToolChoice>,
    pub(super) parallel: Option<bool>,
    pub(super) format: Option<Format>,
    /// Claude thinks before it answers: it cannot be made to call a tool then.
    pub(super) thinking: bool,
}

/// Tools as Converse takes them.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// `toolConfig`.
    pub(super) config: Option<Value>,
    /// `outputConfig`.
    pub(super) output: Option<Value>,
    /// The schema went out as a tool of this name.
    pub(super) json_tool: Option<String>,
    /// Members of `additionalModelRequestFields`.
    pub(super) fields: Map<String, Value>,
}

impl Tools {
    /// `none`: they are left out, and so are those that `allowed_tools` does not name.
    pub(super) fn narrow(&mut self) {
        match self.choice.take() {
            Some(ToolChoice::None) => self.tools.clear(),
            Some(ToolChoice::Allowed { names, required }) => {
                self.tools.retain(|tool| match tool {
                    Tool::Function { name, .. } => names.contains(name),
                    Tool::Hosted { .. } => true,
                });
                self.choice = Some(if required { ToolChoice::Required } else { ToolChoice::Auto });
            }
            other => self.choice = other,
        }
    }

    pub(super) fn write(
        self,
        meta: &DeploymentMeta,
        family: Family,
        names: &mut Names,
    ) -> Result<Written, ApiError> {
        let mut out = Written::default();
        let mut specs = Vec::with_capacity(self.tools.len());
        let native = meta.caps.has("bedrock_native_structured_output");
        for tool in &self.tools {
            match tool {
                Tool::Function { name, description, parameters, strict, cache } => {
                    let strict = strict.filter(|strict| *strict && native);
                    specs.push(spec(names.sent(name), description.as_deref(), parameters.as_ref(), strict));
                    if let Some(cache) = cache.filter(|_| caches(meta, family)) {
                        specs.push(cache_point(cache));
                    }
                }
                Tool::Hosted { dialect, value } => {
                    hosted(*dialect, value, meta, family, &mut specs, &mut out.fields)?;
                }
            }
        }
        let mut choice = self.choice;
        if let Some(Format::Schema { name, description, schema, .. }) = &self.format {
            if native {
                out.output = Some(text_format(name, description.as_deref(), schema));
            } else {
                let words = "Give the answer by calling this tool: its input is the answer.";
                let words = description.as_deref().unwrap_or(words);
                // With tools of its own the model may call those first.
                choice = Some(match specs.is_empty() {
                    true => ToolChoice::Function(JSON_TOOL.to_owned()),
                    false => ToolChoice::Required,
                });
                let sent = names.sent(JSON_TOOL);
                specs.push(spec(sent.clone(), Some(words), Some(schema), None));
                out.json_tool = Some(sent);
            }
        }
        if specs.is_empty() {
            return Ok(out);
        }
        let mut config = json!({ "tools": specs });
        if self.thinking && choice != Some(ToolChoice::Auto) {
            choice = choice.map(|_| ToolChoice::Auto);
        }
        let single = self.parallel == Some(false) && meta.caps.has("parallel_tool_use_config");
        if single {
            out.fields.insert("tool_choice".into(), one_at_a_time(choice.as_ref(), names));
        } else if let Some(choice) = choice.filter(|_| meta.caps.supports("tool_choice") != Some(false)) {
            let choice = match choice {
                ToolChoice::Function(name) => json!({ "tool": { "name": names.sent(&name) } }),
                ToolChoice::Required => json!({ "any": {} }),
                _ => json!({ "auto": {} }),
            };
            set(&mut config, "toolChoice", choice);
        }
        out.config = Some(config);
        Ok(out)
    }
}

/// Anthropic's own words, which Claude on Bedrock takes beside `toolConfig`.
fn one_at_a_time(choice: Option<&ToolChoice>, names: &mut Names) -> Value {
    match choice {
        Some(ToolChoice::Function(name)) => {
            json!({ "type": "tool", "name": names.sent(name), "disable_parallel_tool_use": true })
        }
        Some(ToolChoice::Required) => json!({ "type": "any", "disable_parallel_tool_use": true }),
        _ => json!({ "type": "auto", "disable_parallel_tool_use": true }),
    }
}

fn spec(name: String, description: Option<&str>, parameters: Option<&Value>, strict: Option<bool>) -> Value {
    let mut schema = parameters.cloned().unwrap_or_else(|| json!({}));
    if let Some(members) = schema.as_object_mut() {
        members.entry("type").or_insert_with(|| "object".into());
        members.shift_remove("$schema");
    }
    let mut spec = json!({ "name": name, "inputSchema": { "json": schema } });
    if let Some(description) = description.filter(|text| !text.is_empty()) {
        set(&mut spec, "description", description);
    }
    if let Some(strict) = strict {
        set(&mut spec, "strict", strict);
    }
    json!({ "toolSpec": spec })
}

/// A tool that is known by its type: Claude's are fields of the model, Amazon's are system tools.
fn hosted(
    dialect: Dialect,
    value: &Value,
    meta: &DeploymentMeta,
    family: Family,
    specs: &mut Vec<Value>,
    fields: &mut Map<String, Value>,
) -> Result<(), ApiError> {
    let kind = value.get("type").and_then(Value::as_str).unwrap_or_default();
    let known = CLAUDE_TOOLS.iter().find(|(start, _)| kind.starts_with(start));
    match (dialect, family, known) {
        (Dialect::Converse, _, _) => specs.push(value.clone()),
        (Dialect::Messages, Family::Claude, Some((_, beta))) => {
            push(fields, "tools", value.clone());
            if let Some(beta) = beta {
                push(fields, "anthropic_beta", (*beta).into());
            }
        }
        _ if meta.params.drop => {}
        _ => {
            let message = format!("The model has no tool of type '{kind}'.");
            return Err(ApiError::invalid_request(message, Some("tools")));
        }
    }
    Ok(())
}

/// Appends to an array of `fields`, once.
pub(super) fn push(fields: &mut Map<String, Value>, name: &str, item: Value) {
    let list = fields.entry(name).or_insert_with(|| Value::Array(Vec::new()));
    if let Some(list) = list.as_array_mut().filter(|list| !list.contains(&item)) {
        list.push(item);
    }
}

/// `outputConfig`: the schema is text in it, and closed everywhere, or Bedrock refuses it ("Structured outputs" of the
/// Bedrock user guide).
fn text_format(name: &str, description: Option<&str>, schema: &Value) -> Value {
    let mut schema = schema.clone();
    close(&mut schema);
    let mut definition = json!({ "schema": schema.to_string(), "name": name });
    if let Some(description) = description {
        set(&mut definition, "description", description);
    }
    json!({ "textFormat": { "type": "json_schema", "structure": { "jsonSchema": definition } } })
}

/// `additionalProperties: false` on every object that says nothing about it. Parsed JSON is not deeper than the stack.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            if members.contains_key("properties") {
                members.entry("additionalProperties").or_insert(Value::Bool(false));
            }
            members.values_mut().for_each(close);
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}
