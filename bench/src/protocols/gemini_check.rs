//! What Google refuses in a request for content.

use serde_json::Value;

use super::{Checked, Refused, is_base64, only};
use crate::said::is_signature;

const MEMBERS: &[&str] = &[
    "contents",
    "tools",
    "toolConfig",
    "safetySettings",
    "systemInstruction",
    "generationConfig",
    "cachedContent",
    "serviceTier",
    "store",
];
const CONFIG: &[&str] = &[
    "stopSequences",
    "responseMimeType",
    "responseSchema",
    "responseJsonSchema",
    "responseModalities",
    "candidateCount",
    "maxOutputTokens",
    "temperature",
    "topP",
    "topK",
    "seed",
    "presencePenalty",
    "frequencyPenalty",
    "responseLogprobs",
    "logprobs",
    "enableEnhancedCivicAnswers",
    "speechConfig",
    "thinkingConfig",
    "imageConfig",
    "mediaResolution",
    "routingConfig",
    "audioTimestamp",
];
/// What a part may be, and what may stand beside it.
const DATA: &[&str] = &[
    "text",
    "inlineData",
    "fileData",
    "functionCall",
    "functionResponse",
    "executableCode",
    "codeExecutionResult",
];
const BESIDE: &[&str] = &["thought", "thoughtSignature", "videoMetadata", "mediaResolution"];
/// Google's schemas are a part of OpenAPI's.
const SCHEMA: &[&str] = &[
    "type",
    "format",
    "title",
    "description",
    "nullable",
    "enum",
    "maxItems",
    "minItems",
    "properties",
    "required",
    "minProperties",
    "maxProperties",
    "minLength",
    "maxLength",
    "pattern",
    "example",
    "anyOf",
    "propertyOrdering",
    "default",
    "items",
    "minimum",
    "maximum",
];
/// Stands for a signature where there is none (documented for histories of other models).
const SKIP: &str = "skip_thought_signature_validator";

/// Refuses members that are not known.
pub(super) fn members(value: &Value, known: &[&str], at: &str) -> Checked {
    only(value, known, |key| {
        let place = if at.is_empty() { String::new() } else { format!(" at '{at}'") };
        Refused {
            param: Some(key.to_owned()),
            ..Refused::new(
                400,
                format!("Invalid JSON payload received. Unknown name \"{key}\"{place}: Cannot find field."),
            )
        }
    })
}

/// Checks the whole body.
pub(super) fn check(body: &Value, vertex: bool) -> Checked {
    let more: &[&str] = if vertex { &["labels", "modelArmorConfig"] } else { &[] };
    members(body, &MEMBERS.iter().chain(more).copied().collect::<Vec<_>>(), "")?;
    contents(&body["contents"])?;
    let system = &body["systemInstruction"];
    if !system.is_null() {
        members(system, &["role", "parts"], "system_instruction")?;
        parts(&system["parts"], "system_instruction")?;
    }
    tools(body)?;
    config(&body["generationConfig"])
}

/// Checks the conversation.
pub(super) fn contents(contents: &Value) -> Checked {
    let Some(contents) = contents.as_array().filter(|contents| !contents.is_empty()) else {
        return Err(Refused::field(
            "contents",
            "* GenerateContentRequest.contents: contents is not specified",
        ));
    };
    let mut calls: Vec<&Value> = Vec::new();
    for (at, content) in contents.iter().enumerate() {
        let place = format!("contents[{at}]");
        members(content, &["role", "parts"], &place)?;
        let role = content["role"].as_str().unwrap_or_default();
        if role != "user" && role != "model" {
            return Err(Refused::field(&place, "Please use a valid role: user, model."));
        }
        parts(&content["parts"], &place)?;
        let of = |key: &str| -> Vec<&Value> {
            content["parts"].as_array().into_iter().flatten().filter_map(|part| part.get(key)).collect()
        };
        let responses = of("functionResponse");
        if calls.len() != responses.len() {
            let text = "Please ensure that the number of function response parts is equal to the number of function \
                call parts of the function call turn.";
            return Err(Refused::field(&place, text));
        }
        answers(&calls, &responses, &place)?;
        calls = of("functionCall");
        if !calls.is_empty() && role != "model" {
            return Err(Refused::field(&place, "a function call is in a turn of the model"));
        }
        if !calls.is_empty() && (at == 0 || contents[at - 1]["role"] != "user") {
            let text = "Please ensure that function call turn comes immediately after a user turn or after a \
                function response turn.";
            return Err(Refused::field(&place, text));
        }
    }
    Ok(())
}

fn answers(calls: &[&Value], responses: &[&Value], place: &str) -> Checked {
    for call in calls {
        let known = |response: &&&Value| response["name"] == call["name"] && response["id"] == call["id"];
        if !responses.iter().any(|response| known(&response)) {
            let text = format!("no function response has the name {} and id {}", call["name"], call["id"]);
            return Err(Refused::field(place, text));
        }
    }
    Ok(())
}

fn parts(parts: &Value, place: &str) -> Checked {
    let Some(parts) = parts.as_array().filter(|parts| !parts.is_empty()) else {
        return Err(Refused::field(place, "parts: must include at least one parts field"));
    };
    for (at, part) in parts.iter().enumerate() {
        let place = format!("{place}.parts[{at}]");
        members(part, &DATA.iter().chain(BESIDE).copied().collect::<Vec<_>>(), &place)?;
        let data: Vec<_> = DATA.iter().filter(|key| part.get(**key).is_some()).collect();
        let [kind] = data.as_slice() else {
            return Err(Refused::field(
                &place,
                "required oneof field 'data' must have one initialized field",
            ));
        };
        check_part(kind, &part[**kind], &place)?;
        let signature = &part["thoughtSignature"];
        if signature.as_str().is_some_and(|text| text != SKIP && !is_signature(text)) {
            return Err(Refused::field(&place, "Thought signature is not valid"));
        }
    }
    Ok(())
}

fn check_part(kind: &str, inner: &Value, place: &str) -> Checked {
    let place = format!("{place}.{kind}");
    let good = match kind {
        "text" => inner.is_string(),
        "inlineData" => {
            members(inner, &["mimeType", "data", "displayName"], &place)?;
            inner["mimeType"].is_string() && is_base64(&inner["data"])
        }
        "fileData" => {
            members(inner, &["mimeType", "fileUri", "displayName"], &place)?;
            inner["fileUri"].is_string()
        }
        "functionCall" => {
            members(inner, &["id", "name", "args"], &place)?;
            inner["name"].is_string() && (inner["args"].is_null() || inner["args"].is_object())
        }
        "functionResponse" => {
            members(inner, &["id", "name", "response", "parts", "willContinue", "scheduling"], &place)?;
            inner["name"].is_string() && inner["response"].is_object()
        }
        _ => true,
    };
    if good { Ok(()) } else { Err(Refused::field(&place, "Invalid value")) }
}

fn tools(body: &Value) -> Checked {
    let kinds = [
        "functionDeclarations",
        "googleSearch",
        "googleSearchRetrieval",
        "codeExecution",
        "urlContext",
        "computerUse",
        "fileSearch",
        "googleMaps",
        "enterpriseWebSearch",
        "retrieval",
    ];
    for (at, tool) in body["tools"].as_array().into_iter().flatten().enumerate() {
        let place = format!("tools[{at}]");
        members(tool, &kinds, &place)?;
        for (number, function) in tool["functionDeclarations"].as_array().into_iter().flatten().enumerate() {
            let place = format!("{place}.function_declarations[{number}]");
            let known = [
                "name",
                "description",
                "parameters",
                "parametersJsonSchema",
                "response",
                "responseJsonSchema",
                "behavior",
            ];
            members(function, &known, &place)?;
            if !is_name(&function["name"]) {
                let text = "Invalid function name. Must start with a letter or an underscore.";
                return Err(Refused::field(&format!("{place}.name"), text));
            }
            schema(&function["parameters"], &format!("{place}.parameters"))?;
        }
    }
    let known = ["functionCallingConfig", "retrievalConfig", "includeServerSideToolInvocations"];
    members(&body["toolConfig"], &known, "tool_config")?;
    let calling = &body["toolConfig"]["functionCallingConfig"];
    members(
        calling,
        &["mode", "allowedFunctionNames", "streamFunctionCallArguments"],
        "function_calling_config",
    )?;
    let mode = calling["mode"].as_str().unwrap_or("AUTO");
    if !["AUTO", "ANY", "NONE", "VALIDATED"].contains(&mode) {
        return Err(Refused::field("tool_config.function_calling_config.mode", "Invalid value"));
    }
    if calling["allowedFunctionNames"].is_array() && mode != "ANY" && mode != "VALIDATED" {
        let text = "allowed_function_names should only be set when the mode is ANY or VALIDATED.";
        return Err(Refused::field("tool_config.function_calling_config", text));
    }
    Ok(())
}

fn is_name(name: &Value) -> bool {
    let Some(name) = name.as_str().filter(|name| (1..=64).contains(&name.len())) else { return false };
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':');
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && name.chars().all(good)
}

fn schema(schema: &Value, place: &str) -> Checked {
    if schema.is_null() {
        return Ok(());
    }
    members(schema, SCHEMA, place)?;
    if schema["type"].is_array() {
        return Err(Refused::field(
            &format!("{place}.type"),
            "Proto field is not repeating, cannot start list.",
        ));
    }
    let kind = schema["type"].as_str().unwrap_or_default().to_ascii_lowercase();
    if kind == "object" && schema["properties"].as_object().is_some_and(serde_json::Map::is_empty) {
        return Err(Refused::field(&format!("{place}.properties"), "should be non-empty for OBJECT type"));
    }
    if kind == "array" && !schema["items"].is_object() {
        return Err(Refused::field(&format!("{place}.items"), "missing field."));
    }
    if schema["enum"].is_array() && kind != "string" {
        return Err(Refused::field(&format!("{place}.enum"), "only allowed for STRING type"));
    }
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        self::schema(inner, &format!("{place}.properties.{name}"))?;
    }
    for (at, inner) in schema["anyOf"].as_array().into_iter().flatten().enumerate() {
        self::schema(inner, &format!("{place}.any_of[{at}]"))?;
    }
    self::schema(&schema["items"], &format!("{place}.items"))
}

fn config(config: &Value) -> Checked {
    members(config, CONFIG, "generation_config")?;
    let wrong = |field: &str, text: &str| Err(Refused::field(&format!("generation_config.{field}"), text));
    if config["temperature"].as_f64().is_some_and(|value| !(0.0..=2.0).contains(&value)) {
        return wrong("temperature", "must be in the range [0.0, 2.0]");
    }
    if config["maxOutputTokens"].as_i64().is_some_and(|value| value < 1) {
        return wrong("max_output_tokens", "max_output_tokens must be positive.");
    }
    if config["stopSequences"].as_array().is_some_and(|stops| stops.len() > 5) {
        return wrong("stop_sequences", "at most 5");
    }
    let thinking = &config["thinkingConfig"];
    members(thinking, &["includeThoughts", "thinkingBudget", "thinkingLevel"], "thinking_config")?;
    if !thinking["thinkingBudget"].is_null() && !thinking["thinkingLevel"].is_null() {
        return wrong("thinking_config", "You can only set only one of thinking budget and thinking level.");
    }
    let json =
        config["responseMimeType"] == "application/json" || config["responseMimeType"] == "text/x.enum";
    let schemas =
        ["responseSchema", "responseJsonSchema"].iter().filter(|key| config.get(**key).is_some()).count();
    if schemas > 0 && !json {
        return wrong("response_mime_type", "must be application/json when a response schema is set");
    }
    if schemas > 1 {
        return wrong("response_schema", "must not be set together with response_json_schema");
    }
    schema(&config["responseSchema"], "generation_config.response_schema")
}
