//! `tools` and `toolConfig`, and the two ways to an answer in a schema.

use serde_json::{Map, Value, json};

use super::Model;
use crate::contract::DeploymentMeta;
use crate::dialect::fields::set;
use crate::dialect::names::Names;
use crate::dialect::request::{Format, Tool, ToolChoice};
use crate::error::ApiError;
use crate::provider::Provider;

/// Tool that stands for a schema where a model does not take one beside functions (LiteLLM's name).
const JSON_TOOL: &str = "json_tool_call";
/// Longest name of a function.
const MAX_NAME: usize = 64;
/// Google's own tools: as Google names them, and as clients do.
const HOSTED: [(&str, &str); 9] = [
    ("googleSearch", "google_search"),
    ("googleSearchRetrieval", "google_search_retrieval"),
    ("codeExecution", "code_execution"),
    ("urlContext", "url_context"),
    ("googleMaps", "google_maps"),
    ("enterpriseWebSearch", "enterprise_web_search"),
    ("computerUse", "computer_use"),
    ("fileSearch", "file_search"),
    ("retrieval", "retrieval"),
];
/// The beginning of the `type` of other providers' tools, and Google's tool that does the same.
const ALIKE: [(&str, &str); 5] = [
    ("web_search", "googleSearch"),
    ("google_search", "googleSearch"),
    ("web_fetch", "urlContext"),
    ("code_execution", "codeExecution"),
    ("code_interpreter", "codeExecution"),
];

/// Names that Google takes.
pub(super) fn names() -> Names {
    Names::new(MAX_NAME, |c| c.is_ascii_alphanumeric() || "_.:-".contains(c)).letter_first()
}

/// What of a request is about tools.
#[derive(Debug)]
pub(super) struct Tools {
    pub(super) tools: Vec<Tool>,
    pub(super) choice: Option<ToolChoice>,
    pub(super) format: Option<Format>,
    /// `web_search_options` of chat.
    pub(super) search: bool,
}

/// Tools as Google takes them.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub(super) tools: Vec<Value>,
    /// `toolConfig`.
    pub(super) config: Map<String, Value>,
    /// `responseMimeType` and `responseJsonSchema` of `generationConfig`.
    pub(super) format: Map<String, Value>,
    /// The schema went out as a function of this name.
    pub(super) json_tool: Option<String>,
}

impl Tools {
    pub(super) fn write(
        mut self,
        meta: &DeploymentMeta,
        model: Model,
        names: &mut Names,
    ) -> Result<Written, ApiError> {
        let mut out = Written::default();
        self.narrow();
        let (mut functions, mut hosted) = (Vec::new(), Vec::new());
        for tool in &self.tools {
            match tool {
                Tool::Function { name, description, parameters, .. } => {
                    functions.push(declaration(
                        names.sent(name),
                        description.as_deref(),
                        parameters.as_ref(),
                    ));
                }
                Tool::Hosted { value, .. } => match own_tool(value) {
                    Some(tool) => hosted.push(tool),
                    None if meta.params.drop => {}
                    None => {
                        let kind = value.get("type").and_then(Value::as_str).unwrap_or_default();
                        let message = format!("The model has no tool of type '{kind}'.");
                        return Err(ApiError::invalid_request(message, Some("tools")));
                    }
                },
            }
        }
        let searches = |tool: &Value| tool.get("googleSearch").is_some();
        if self.search && !hosted.iter().any(searches) {
            hosted.push(json!({ "googleSearch": {} }));
        }
        self.write_format(model, names, &mut functions, &mut out);
        let mixed = !functions.is_empty() && !hosted.is_empty();
        if mixed && !model.is_third() && (meta.params.drop || meta.params.modify) {
            // Older models take either.
            hosted.clear();
        } else if mixed && model.is_third() && meta.provider == Provider::Gemini {
            out.config.insert("includeServerSideToolInvocations".into(), true.into());
        }
        if !functions.is_empty() {
            out.tools.push(json!({ "functionDeclarations": functions }));
            if let Some(mode) = self.choice.as_ref().map(|choice| mode(choice, names)) {
                out.config.insert("functionCallingConfig".into(), mode);
            }
        }
        out.tools.append(&mut hosted);
        Ok(out)
    }

    /// Only the tools that `allowed_tools` names.
    fn narrow(&mut self) {
        if let Some(ToolChoice::Allowed { names, required }) = &self.choice {
            self.tools.retain(|tool| match tool {
                Tool::Function { name, .. } => names.contains(name),
                Tool::Hosted { .. } => true,
            });
            self.choice = Some(if *required { ToolChoice::Required } else { ToolChoice::Auto });
        }
    }

    fn write_format(
        &mut self,
        model: Model,
        names: &mut Names,
        functions: &mut Vec<Value>,
        out: &mut Written,
    ) {
        // "Function calling with a response mime type: 'application/json' is unsupported", before Gemini 3.
        let beside = functions.is_empty() || model.is_third();
        match self.format.take() {
            Some(Format::Json) if beside => {
                out.format.insert("responseMimeType".into(), "application/json".into());
            }
            None | Some(Format::Json) => {}
            Some(Format::Schema { schema, .. }) if beside => {
                out.format.insert("responseMimeType".into(), "application/json".into());
                out.format.insert("responseJsonSchema".into(), cleaned(&schema));
            }
            Some(Format::Schema { description, schema, .. }) => {
                let words = "Give the answer by calling this function: its arguments are the answer.";
                let sent = names.sent(JSON_TOOL);
                let words = description.as_deref().unwrap_or(words);
                functions.push(declaration(sent.clone(), Some(words), Some(&schema)));
                if self.choice != Some(ToolChoice::None) {
                    self.choice = Some(ToolChoice::Required);
                }
                out.json_tool = Some(sent);
            }
        }
    }
}

/// Both APIs take the schema as JSON schema, references included (`parametersJsonSchema`, `responseJsonSchema`).
fn declaration(name: String, description: Option<&str>, parameters: Option<&Value>) -> Value {
    let mut function = json!({ "name": name });
    if let Some(description) = description {
        set(&mut function, "description", description);
    }
    // An object without properties says nothing.
    let says = |schema: &&Value| {
        let empty =
            |name: &str| schema.get(name).is_none_or(|value| value.as_object().is_some_and(Map::is_empty));
        !(empty("properties") && empty("$ref") && empty("anyOf") && empty("oneOf") && empty("allOf"))
    };
    if let Some(schema) = parameters.filter(says) {
        set(&mut function, "parametersJsonSchema", cleaned(schema));
    }
    function
}

/// Without what is about the schema as a document, and OpenAI's mark in it.
fn cleaned(schema: &Value) -> Value {
    let mut schema = schema.clone();
    if let Some(members) = schema.as_object_mut() {
        members.shift_remove("$schema");
        members.shift_remove("strict");
    }
    schema
}

/// `functionCallingConfig`.
fn mode(choice: &ToolChoice, names: &mut Names) -> Value {
    match choice {
        ToolChoice::None => json!({ "mode": "NONE" }),
        ToolChoice::Required => json!({ "mode": "ANY" }),
        ToolChoice::Function(name) => json!({ "mode": "ANY", "allowedFunctionNames": [names.sent(name)] }),
        ToolChoice::Auto | ToolChoice::Allowed { .. } => json!({ "mode": "AUTO" }),
    }
}

/// A tool that runs at Google's.
fn own_tool(value: &Value) -> Option<Value> {
    for (own, other) in HOSTED {
        if let Some(settings) = value.get(own).or_else(|| value.get(other)) {
            return Some(json!({ own: settings }));
        }
    }
    let kind = value.get("type").and_then(Value::as_str)?;
    let (_, own) = ALIKE.iter().find(|(start, _)| kind.starts_with(start))?;
    Some(json!({ *own: {} }))
}
