//! Tools, and members that only Anthropic has, with the betas that they need.

use serde_json::{Map, Value, json};

use super::JSON_TOOL;
use super::content::Content;
use super::write::choice;
use crate::dialect::Dialect;
use crate::dialect::fields::set;
use crate::dialect::request::{Format, Tool, ToolChoice};

/// Features of the API that a request uses.
pub(super) const BETA_HEADER: &str = "anthropic-beta";

/// Members of Anthropic's that clients of other dialects may send under their own name, and the beta that each needs.
const OWN: [(&str, Option<&str>); 5] = [
    ("container", None),
    ("mcp_servers", None),
    ("context_management", Some("context-management-2025-06-27")),
    ("inference_geo", None),
    ("speed", Some("fast-mode-2026-02-01")),
];
/// Tools that need a beta, by the beginning of their type.
const TOOL_BETAS: [(&str, &str); 5] = [
    ("computer_20241022", "computer-use-2024-10-22"),
    ("computer_20250124", "computer-use-2025-01-24"),
    ("computer_20251124", "computer-use-2025-11-24"),
    ("code_execution_", "code-execution-2025-08-25"),
    ("web_fetch_", "web-fetch-2025-09-10"),
];
/// For servers whose tools are a `mcp_toolset` among the tools; those of the elder form say it all themselves.
const MCP_BETAS: [&str; 2] = ["mcp-client-2025-11-20", "mcp-client-2025-04-04"];
/// What OpenAI's `web_search_options` and `web_search` tools become.
const WEB_SEARCH: &str = "web_search_20250305";

/// Betas in use, each once.
#[derive(Debug, Default)]
pub(super) struct Betas(Vec<String>);

impl Betas {
    pub(super) fn add(&mut self, beta: &str) {
        if !beta.is_empty() && !self.0.iter().any(|known| known == beta) {
            self.0.push(beta.to_owned());
        }
    }

    pub(super) fn header(self) -> Option<String> {
        (!self.0.is_empty()).then(|| self.0.join(","))
    }
}

/// What of a request is about tools.
pub(super) struct Tools<'a> {
    pub(super) tools: Vec<Tool>,
    pub(super) choice: Option<ToolChoice>,
    pub(super) parallel: Option<bool>,
    /// The schema of the answer, which must go out as a tool.
    pub(super) schema: Option<&'a Format>,
    /// A thinking model cannot be made to call a tool.
    pub(super) thinking: bool,
}

impl Tools<'_> {
    /// `tools`, `tool_choice`, and whether the schema went out as a tool.
    pub(super) fn write(
        mut self,
        content: &mut Content<'_>,
        betas: &mut Betas,
    ) -> (Vec<Value>, Option<Value>, bool) {
        if let Some(ToolChoice::Allowed { names, .. }) = &self.choice {
            let names = names.clone();
            self.tools.retain(|tool| match tool {
                Tool::Function { name, .. } => names.contains(name),
                Tool::Hosted { .. } => true,
            });
        }
        let mut written: Vec<Value> = std::mem::take(&mut self.tools)
            .into_iter()
            .filter_map(|tool| one(tool, content, betas))
            .collect();
        let mut wanted = self.choice.take();
        let json_tool = self.add_schema(&mut written, &mut wanted, content);
        if self.thinking && !matches!(wanted, None | Some(ToolChoice::None)) {
            wanted = Some(ToolChoice::Auto);
        }
        let mut said = choice(wanted.as_ref(), content.names);
        if let Some(parallel) = self.parallel {
            let single = !parallel;
            // It says something in its own right, so there must be a choice to say it in.
            let mut with = said.unwrap_or_else(|| json!({"type": "auto"}));
            if with.get("type").and_then(Value::as_str) != Some("none") {
                set(&mut with, "disable_parallel_tool_use", single);
            }
            said = Some(with);
        }
        (written, said, json_tool)
    }

    fn add_schema(
        &self,
        written: &mut Vec<Value>,
        wanted: &mut Option<ToolChoice>,
        content: &mut Content<'_>,
    ) -> bool {
        let Some(Format::Schema { description, schema, .. }) = self.schema else { return false };
        let words = "Give the answer by calling this tool: its input is the answer.";
        *wanted = Some(match wanted.take() {
            // The tool that the client wants comes first; the answer follows in a later turn.
            Some(ToolChoice::Function(name)) => ToolChoice::Function(name),
            // With tools of its own the model may call those first.
            choice if !written.is_empty() && choice != Some(ToolChoice::None) => ToolChoice::Required,
            _ => ToolChoice::Function(JSON_TOOL.to_owned()),
        });
        written.push(json!({
            "name": content.names.sent(JSON_TOOL), "description": description.as_deref().unwrap_or(words),
            "input_schema": schema,
        }));
        true
    }
}

fn one(tool: Tool, content: &mut Content<'_>, betas: &mut Betas) -> Option<Value> {
    match tool {
        Tool::Function { name, description, parameters, strict, cache } => {
            let schema = parameters.unwrap_or_else(|| json!({"type": "object", "properties": {}}));
            let mut written =
                json!({"name": content.names.sent(&name), "input_schema": object_schema(schema)});
            if let Some(description) = description {
                set(&mut written, "description", description);
            }
            if strict == Some(true) && content.meta.caps.has("native_structured_output") {
                set(&mut written, "strict", true);
            }
            content.mark(&mut written, cache);
            Some(written)
        }
        Tool::Hosted { dialect: Dialect::Messages, mut value } => {
            content.count_mark(&mut value);
            let kind = value.get("type").and_then(Value::as_str).unwrap_or_default();
            for (beginning, beta) in TOOL_BETAS {
                if kind.starts_with(beginning) {
                    betas.add(beta);
                }
            }
            Some(value)
        }
        Tool::Hosted { value, .. } => {
            let kind = value.get("type").and_then(Value::as_str).unwrap_or_default();
            kind.starts_with("web_search").then(|| web_search(&value))
        }
    }
}

/// Anthropic takes objects only; a schema without a type means one.
fn object_schema(mut schema: Value) -> Value {
    if schema.is_object() && schema.get("type").is_none() {
        set(&mut schema, "type", "object");
    }
    schema
}

/// OpenAI's web search as Anthropic's.
fn web_search(options: &Value) -> Value {
    let mut tool = json!({"type": WEB_SEARCH, "name": "web_search"});
    let place = options.get("user_location");
    let place = place.and_then(|place| place.get("approximate")).or(place);
    if let Some(Value::Object(place)) = place {
        let mut place = place.clone();
        place.insert("type".to_owned(), "approximate".into());
        set(&mut tool, "user_location", place);
    }
    if let Some(domains) = options.pointer("/filters/allowed_domains") {
        set(&mut tool, "allowed_domains", domains.clone());
    }
    tool
}

/// Moves what the client said in Anthropic's own words to where it belongs.
pub(super) fn own_members(mut extra: Map<String, Value>, body: &mut Map<String, Value>, betas: &mut Betas) {
    match extra.shift_remove("anthropic_beta") {
        Some(Value::String(list)) => list.split(',').for_each(|beta| betas.add(beta.trim())),
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).for_each(|beta| betas.add(beta)),
        _ => {}
    }
    for (name, beta) in OWN {
        if let Some(value) = extra.shift_remove(name) {
            body.insert(name.to_owned(), value);
            if let Some(beta) = beta {
                betas.add(beta);
            }
        }
    }
    if body.contains_key("mcp_servers") {
        let tools = body.get("tools").and_then(Value::as_array).into_iter().flatten();
        let toolset = tools.filter_map(|tool| tool.get("type")).any(|kind| kind == "mcp_toolset");
        let [new, old] = MCP_BETAS;
        betas.add(if toolset { new } else { old });
    }
    if let Some(options) = extra.shift_remove("web_search_options") {
        let tools = body.entry("tools").or_insert_with(|| json!([]));
        if let Some(tools) = tools.as_array_mut() {
            tools.push(web_search(&options));
        }
    }
}
