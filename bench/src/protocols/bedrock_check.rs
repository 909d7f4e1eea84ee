//! What Bedrock refuses in a conversation.

use serde_json::Value;

use super::chat_check::is_name;
use super::{Checked, Refused, is_base64, only, sole};
use crate::said::is_signature;

const MEMBERS: &[&str] = &[
    "messages",
    "system",
    "inferenceConfig",
    "toolConfig",
    "guardrailConfig",
    "additionalModelRequestFields",
    "additionalModelResponseFieldPaths",
    "promptVariables",
    "requestMetadata",
    "performanceConfig",
    "serviceTier",
    "outputConfig",
];
const BLOCKS: &[&str] = &[
    "text",
    "image",
    "document",
    "video",
    "audio",
    "toolUse",
    "toolResult",
    "guardContent",
    "cachePoint",
    "reasoningContent",
    "citationsContent",
    "searchResult",
];

fn extra(at: &str) -> impl Fn(&str) -> Refused + '_ {
    let dot = if at.is_empty() { "" } else { "." };
    move |key| Refused::field(&format!("{at}{dot}{key}"), "extraneous key is not permitted")
}

/// The schema of `outputConfig.textFormat`.
pub(super) fn format_schema(body: &Value) -> Option<Value> {
    let text = body.pointer("/outputConfig/textFormat/structure/jsonSchema/schema")?;
    text.as_str().and_then(|text| serde_json::from_str(text).ok())
}

/// Checks the whole body.
pub(super) fn check(body: &Value) -> Checked {
    only(body, MEMBERS, extra(""))?;
    let Some(messages) = body["messages"].as_array().filter(|messages| !messages.is_empty()) else {
        return Err(Refused::field("messages", "A conversation must have at least one message."));
    };
    let mut open: Vec<&str> = Vec::new();
    let mut tools_used = false;
    for (at, message) in messages.iter().enumerate() {
        let field = format!("messages.{at}");
        only(message, &["role", "content"], extra(&field))?;
        let role = if at % 2 == 0 { "user" } else { "assistant" };
        if message["role"] != role {
            let text = match at {
                0 => "A conversation must start with a user message.",
                _ => "A conversation must alternate between user and assistant roles.",
            };
            return Err(Refused::field(&format!("{field}.role"), text));
        }
        open = content(&message["content"], role, &open, &field)?;
        tools_used |= message["content"].to_string().contains("\"toolUseId\"");
    }
    if tools_used && body["toolConfig"].is_null() {
        let text = "The toolConfig field must be defined when using toolUse and toolResult content blocks.";
        return Err(Refused::field("toolConfig", text));
    }
    system(&body["system"])?;
    inference(&body["inferenceConfig"])?;
    tool_config(&body["toolConfig"])?;
    format(body)
}

/// A message's blocks; the tool calls it leaves open.
fn content<'a>(content: &'a Value, role: &str, open: &[&str], field: &str) -> Checked<Vec<&'a str>> {
    let Some(blocks) = content.as_array().filter(|blocks| !blocks.is_empty()) else {
        return Err(Refused::field(&format!("{field}.content"), "The content field is empty."));
    };
    let (mut calls, mut answered) = (Vec::new(), Vec::new());
    for (at, block) in blocks.iter().enumerate() {
        let place = format!("{field}.content.{at}");
        let Some((kind, inner)) = sole(block).filter(|(kind, _)| BLOCKS.contains(kind)) else {
            return Err(Refused::field(&place, "a ContentBlock has exactly one of its members set"));
        };
        check_block(kind, inner, role, &place)?;
        let id = inner["toolUseId"].as_str().unwrap_or_default();
        match kind {
            "toolUse" => calls.push(id),
            "toolResult" => answered.push(id),
            _ => {}
        }
    }
    let (mut wanted, mut got) = (open.to_vec(), answered);
    wanted.sort_unstable();
    got.sort_unstable();
    if wanted != got {
        let text = format!(
            "The number of toolResult blocks does not match the toolUse blocks of the previous turn: \
            expected toolResult for {wanted:?}, got {got:?}"
        );
        return Err(Refused::field(&format!("{field}.content"), text));
    }
    Ok(calls)
}

fn check_block(kind: &str, inner: &Value, role: &str, place: &str) -> Checked {
    let place = format!("{place}.{kind}");
    let wrong = |what: &str| Err(Refused::field(&place, what));
    match kind {
        "text" if inner.as_str().is_none_or(str::is_empty) => {
            wrong("The text field in the ContentBlock is blank.")
        }
        "image" => media(inner, &["png", "jpeg", "gif", "webp"], &place),
        "video" => {
            media(inner, &["mkv", "mov", "mp4", "webm", "flv", "mpeg", "mpg", "wmv", "three_gp"], &place)
        }
        "document" => document(inner, &place),
        "toolUse" => {
            only(inner, &["toolUseId", "name", "input", "type"], extra(&place))?;
            if role != "assistant" || !is_id(&inner["toolUseId"]) || !is_name(&inner["name"]) {
                return wrong("a toolUse of the assistant has toolUseId and name");
            }
            if inner["input"].is_object() {
                Ok(())
            } else {
                wrong("input: The format of the value is invalid.")
            }
        }
        "toolResult" => {
            only(inner, &["toolUseId", "content", "status", "type"], extra(&place))?;
            let status = inner["status"].as_str().unwrap_or("success");
            if role != "user" || !is_id(&inner["toolUseId"]) || !["success", "error"].contains(&status) {
                return wrong("a toolResult of the user has toolUseId and a status of success or error");
            }
            result(&inner["content"], &place)
        }
        "cachePoint" => {
            only(inner, &["type", "ttl"], extra(&place))?;
            if inner["type"] == "default" { Ok(()) } else { wrong("type: must be 'default'") }
        }
        "reasoningContent" => reasoning(inner, role, &place),
        _ => Ok(()),
    }
}

fn is_id(id: &Value) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':');
    id.as_str().is_some_and(|id| (1..=64).contains(&id.len()) && id.chars().all(good))
}

fn media(inner: &Value, formats: &[&str], place: &str) -> Checked {
    only(inner, &["format", "source"], extra(place))?;
    if !inner["format"].as_str().is_some_and(|format| formats.contains(&format)) {
        return Err(Refused::field(&format!("{place}.format"), format!("must be one of {formats:?}")));
    }
    source(&inner["source"], place)
}

fn source(source: &Value, place: &str) -> Checked {
    let good = match sole(source) {
        Some(("bytes", data)) => is_base64(data),
        Some(("s3Location", at)) => at["uri"].as_str().is_some_and(|uri| uri.starts_with("s3://")),
        Some(("text", text)) => text.is_string(),
        Some(("content", blocks)) => blocks.is_array(),
        _ => false,
    };
    if good {
        Ok(())
    } else {
        Err(Refused::field(&format!("{place}.source"), "exactly one of bytes, s3Location"))
    }
}

fn document(inner: &Value, place: &str) -> Checked {
    only(inner, &["format", "name", "source", "context", "citations"], extra(place))?;
    let formats = ["pdf", "csv", "doc", "docx", "xls", "xlsx", "html", "txt", "md"];
    if !inner["format"].as_str().is_none_or(|format| formats.contains(&format)) {
        return Err(Refused::field(&format!("{place}.format"), format!("must be one of {formats:?}")));
    }
    // Letters, digits, single spaces, hyphens, parentheses and square brackets.
    let good = |c: char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '(' | ')' | '[' | ']');
    let name = inner["name"].as_str().unwrap_or_default();
    if name.is_empty() || name.contains("  ") || !name.chars().all(good) {
        let text = "The document file name can only contain alphanumeric characters, whitespace characters, hyphens, \
            parentheses, and square brackets.";
        return Err(Refused::field(&format!("{place}.name"), text));
    }
    source(&inner["source"], place)
}

fn result(content: &Value, place: &str) -> Checked {
    let Some(blocks) = content.as_array().filter(|blocks| !blocks.is_empty()) else {
        return Err(Refused::field(&format!("{place}.content"), "must not be empty"));
    };
    for (at, block) in blocks.iter().enumerate() {
        let field = format!("{place}.content.{at}");
        match sole(block) {
            Some(("text", text)) if text.is_string() => {}
            Some(("json", json)) if json.is_object() => {}
            Some((kind @ ("image" | "document" | "video"), inner)) => {
                check_block(kind, inner, "user", &field)?
            }
            _ => {
                return Err(Refused::field(
                    &field,
                    "exactly one of text, json (an object), image, document, video",
                ));
            }
        }
    }
    Ok(())
}

fn reasoning(inner: &Value, role: &str, place: &str) -> Checked {
    let good = match sole(inner) {
        Some(("reasoningText", text)) => {
            text["text"].is_string() && text["signature"].as_str().is_some_and(is_signature)
        }
        Some(("redactedContent", data)) => is_base64(data),
        _ => false,
    };
    if good && role == "assistant" {
        return Ok(());
    }
    Err(Refused::field(
        place,
        "reasoningText with text and its valid signature, or redactedContent, of the assistant",
    ))
}

fn system(system: &Value) -> Checked {
    if system.is_null() {
        return Ok(());
    }
    let Some(blocks) = system.as_array() else {
        return Err(Refused::field("system", "must be a list of SystemContentBlock"));
    };
    for (at, block) in blocks.iter().enumerate() {
        let field = format!("system.{at}");
        match sole(block) {
            Some(("text" | "cachePoint", inner)) => {
                let kind = if inner.is_string() { "text" } else { "cachePoint" };
                check_block(kind, inner, "user", &field)?;
            }
            Some(("guardContent", _)) => {}
            _ => return Err(Refused::field(&field, "exactly one of text, guardContent, cachePoint")),
        }
    }
    Ok(())
}

fn inference(config: &Value) -> Checked {
    only(config, &["maxTokens", "temperature", "topP", "stopSequences"], extra("inferenceConfig"))?;
    if config["maxTokens"].as_u64() == Some(0) || config["maxTokens"].is_string() {
        return Err(Refused::field("inferenceConfig.maxTokens", "must be an integer from 1"));
    }
    for field in ["temperature", "topP"] {
        if config[field].as_f64().is_some_and(|value| !(0.0..=1.0).contains(&value)) {
            return Err(Refused::field(&format!("inferenceConfig.{field}"), "must be from 0 to 1"));
        }
    }
    if !config["stopSequences"].is_null() && !config["stopSequences"].is_array() {
        return Err(Refused::field("inferenceConfig.stopSequences", "must be a list"));
    }
    Ok(())
}

fn tool_config(config: &Value) -> Checked {
    if config.is_null() {
        return Ok(());
    }
    only(config, &["tools", "toolChoice"], extra("toolConfig"))?;
    let Some(tools) = config["tools"].as_array().filter(|tools| !tools.is_empty()) else {
        return Err(Refused::field("toolConfig.tools", "must have length greater than or equal to 1"));
    };
    for (at, tool) in tools.iter().enumerate() {
        let field = format!("toolConfig.tools.{at}");
        match sole(tool) {
            Some(("toolSpec", spec)) => {
                only(spec, &["name", "description", "inputSchema", "strict"], extra(&field))?;
                let schema = &spec["inputSchema"]["json"];
                if !is_name(&spec["name"]) || schema["type"] != "object" {
                    return Err(Refused::field(
                        &field,
                        "name and inputSchema.json with type object are required",
                    ));
                }
                if spec["description"].as_str() == Some("") {
                    return Err(Refused::field(&field, "description must have length of at least 1"));
                }
            }
            Some(("cachePoint", inner)) => check_block("cachePoint", inner, "user", &field)?,
            Some(("systemTool", _)) => {}
            _ => return Err(Refused::field(&field, "exactly one of toolSpec, systemTool, cachePoint")),
        }
    }
    let choice = &config["toolChoice"];
    let good = match sole(choice) {
        None => choice.is_null(),
        Some(("auto" | "any", inner)) => inner.as_object().is_some_and(serde_json::Map::is_empty),
        Some(("tool", inner)) => tools.iter().any(|tool| tool["toolSpec"]["name"] == inner["name"]),
        Some(_) => false,
    };
    if good { Ok(()) } else { Err(Refused::field("toolConfig.toolChoice", "exactly one of auto, any, tool")) }
}

fn format(body: &Value) -> Checked {
    let config = &body["outputConfig"];
    if config.is_null() {
        return Ok(());
    }
    only(config, &["textFormat"], extra("outputConfig"))?;
    let format = &config["textFormat"];
    if format["type"] != "json_schema" || format_schema(body).is_none() {
        let text = "type json_schema and structure.jsonSchema.schema as JSON text are required";
        return Err(Refused::field("outputConfig.textFormat", text));
    }
    Ok(())
}
