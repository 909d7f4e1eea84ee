//! Tools, the choice among them, and the form of the answer.

use serde_json::{Value, json};

use super::parts::read_cache;
use crate::dialect::Dialect;
use crate::dialect::fields::{Fault, Object, each};
use crate::dialect::request::{Cache, Format, Tool, ToolChoice};

/// Members of Google's own tools, which have no `type`.
const GOOGLE: [&str; 8] = [
    "googleSearch",
    "google_search",
    "googleSearchRetrieval",
    "codeExecution",
    "code_execution",
    "urlContext",
    "url_context",
    "googleMaps",
];

/// An element of `tools`. The names of custom ones are added to `custom`.
pub(super) fn read_tool(value: Value, custom: &mut Vec<String>) -> Result<Tool, Fault> {
    let mut tool = Object::of(value)?;
    let cache = read_cache(&mut tool)?;
    match tool.peek("type") {
        "function" | "" if tool.has("function") => {
            let mut function = tool.need_object("function")?;
            let inner = read_cache(&mut function)?;
            read_function(function, cache.or(inner)).map_err(|fault| fault.within("function"))
        }
        "function" => Err(Fault::missing("function")),
        "custom" if tool.has("custom") => {
            let tool = tool.need_object("custom")?;
            read_custom(tool, cache, custom).map_err(|fault| fault.within("custom"))
        }
        // Anthropic's form of a function.
        "" | "custom" if tool.has("input_schema") => {
            let parameters = tool.take("input_schema");
            Ok(Tool::Function {
                name: tool.need_text("name")?,
                description: tool.text("description")?,
                parameters,
                strict: tool.flag("strict")?,
                cache,
            })
        }
        "custom" => Err(Fault::missing("custom")),
        "" if GOOGLE.iter().any(|name| tool.has(name)) => {
            Ok(Tool::Hosted { dialect: Dialect::Gemini, value: tool.into_value() })
        }
        "" => Err(Fault::missing("type")),
        kind if is_anthropic(kind) => {
            Ok(Tool::Hosted { dialect: Dialect::Messages, value: tool.into_value() })
        }
        _ => Ok(Tool::Hosted { dialect: Dialect::Chat, value: tool.into_value() }),
    }
}

/// Anthropic's server tools have a date at their end: `web_search_20250305`.
fn is_anthropic(kind: &str) -> bool {
    let date = kind.rsplit('_').next().unwrap_or_default();
    date.len() == 8 && date.starts_with("20") && date.bytes().all(|byte| byte.is_ascii_digit())
}

/// A function: `name`, `description`, `parameters`, `strict`.
pub(in crate::dialect) fn read_function(mut function: Object, cache: Option<Cache>) -> Result<Tool, Fault> {
    Ok(Tool::Function {
        name: function.need_text("name")?,
        description: function.text("description")?,
        parameters: function.object("parameters")?.map(Object::into_value),
        strict: function.flag("strict")?,
        cache,
    })
}

/// A custom tool takes any text. Only OpenAI has them, so it becomes a function of one string, `input`; a grammar is
/// told in its description.
pub(in crate::dialect) fn read_custom(
    mut tool: Object,
    cache: Option<Cache>,
    custom: &mut Vec<String>,
) -> Result<Tool, Fault> {
    let name = tool.need_text("name")?;
    let mut description = tool.text("description")?;
    if let Some(format) = tool.take("format")
        && let Some(grammar) = format.get("grammar").or(Some(&format))
        && let Some(definition) = grammar.get("definition").and_then(Value::as_str)
    {
        let syntax = grammar.get("syntax").and_then(Value::as_str).unwrap_or("lark");
        let told = description.unwrap_or_default();
        description = Some(format!("{told}\n\n`input` follows this {syntax} grammar:\n{definition}"));
    }
    custom.push(name.clone());
    let parameters = json!({
        "type": "object",
        "properties": {"input": {"type": "string"}},
        "required": ["input"],
        "additionalProperties": false
    });
    Ok(Tool::Function { name, description, parameters: Some(parameters), strict: None, cache })
}

/// Arguments of the function that stands for a custom tool.
pub(in crate::dialect) fn custom_arguments(input: String) -> String {
    json!({"input": input}).to_string()
}

/// The text for a custom tool, from the arguments of the function that stands for it; whole when they are something
/// else.
pub(in crate::dialect) fn custom_input(arguments: &str) -> String {
    match serde_json::from_str(arguments) {
        Ok(Value::Object(mut members)) => match members.remove("input") {
            Some(Value::String(input)) => input,
            _ => arguments.to_owned(),
        },
        _ => arguments.to_owned(),
    }
}

/// A `tool_choice` in any of its forms.
pub(super) fn read_choice(value: Value) -> Result<Option<ToolChoice>, Fault> {
    let mut object = match value {
        Value::String(word) => return word_choice(&word),
        value => Object::of(value).map_err(|_| Fault::expected("a string or an object"))?,
    };
    match object.peek("type") {
        kind @ ("function" | "custom") => {
            let kind = kind.to_owned();
            let mut tool = object.need_object(&kind)?;
            let name = tool.need_text("name").map_err(|fault| fault.within(&kind))?;
            Ok(Some(ToolChoice::Function(name)))
        }
        "allowed_tools" => {
            let allowed = object.need_object("allowed_tools")?;
            read_allowed(allowed).map(Some).map_err(|fault| fault.within("allowed_tools"))
        }
        // Anthropic's form.
        "tool" => Ok(Some(ToolChoice::Function(object.need_text("name")?))),
        "" => Err(Fault::missing("type")),
        word => word_choice(word).map_err(|fault| fault.within("type")),
    }
}

/// `allowed_tools`, of chat and of responses: tools by their name, which may stand one level down.
pub(in crate::dialect) fn read_allowed(mut allowed: Object) -> Result<ToolChoice, Fault> {
    let required = match allowed.text("mode")?.as_deref() {
        None | Some("auto") => false,
        Some("required") => true,
        Some(_) => return Err(Fault::expected("'auto' or 'required'").within("mode")),
    };
    let name = |item: Value| {
        let mut tool = Object::of(item)?;
        let kind = tool.text("type")?.unwrap_or_default();
        match tool.object(&kind)? {
            Some(mut inner) => inner.need_text("name").map_err(|fault| fault.within(&kind)),
            None => tool.need_text("name"),
        }
    };
    Ok(ToolChoice::Allowed { names: each("tools", allowed.need_list("tools")?, name)?, required })
}

pub(in crate::dialect) fn word_choice(word: &str) -> Result<Option<ToolChoice>, Fault> {
    Ok(Some(match word {
        "auto" => ToolChoice::Auto,
        "none" => ToolChoice::None,
        // `any`: Mistral and Anthropic.
        "required" | "any" => ToolChoice::Required,
        _ => return Err(Fault::expected("'auto', 'none', 'required' or a tool")),
    }))
}

/// The first form of `tool_choice`.
pub(super) fn read_function_choice(value: Value) -> Result<Option<ToolChoice>, Fault> {
    match value {
        Value::String(word) => word_choice(&word),
        value => Ok(Some(ToolChoice::Function(Object::of(value)?.need_text("name")?))),
    }
}

/// A `response_format`. A `json_schema` without a schema is any object.
pub(super) fn read_format(mut format: Object) -> Result<Option<Format>, Fault> {
    match format.need_text("type")?.as_str() {
        "text" => Ok(None),
        "json_object" => Ok(Some(Format::Json)),
        "json_schema" => {
            let schema = format.need_object("json_schema")?;
            read_schema(schema).map(Some).map_err(|fault| fault.within("json_schema"))
        }
        _ => Err(Fault::expected("'text', 'json_object' or 'json_schema'").within("type")),
    }
}

pub(in crate::dialect) fn read_schema(mut members: Object) -> Result<Format, Fault> {
    let name = members.text("name")?.unwrap_or_else(|| "response".to_owned());
    let (description, strict) = (members.text("description")?, members.flag("strict")?);
    Ok(match members.object("schema")? {
        Some(schema) => Format::Schema { name, description, schema: schema.into_value(), strict },
        None => Format::Json,
    })
}
