//! Amazon Bedrock: Converse, ConverseStream in AWS's event stream, and embeddings by InvokeModel.

use aws_smithy_eventstream::frame::write_message_to;
use aws_smithy_types::event_stream::{Header, HeaderValue, Message};
use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};

use super::chat::halves;
use super::{Checked, Flow, Planned, Refused, Wire, bedrock_check, nothing, vector};
use crate::said::{
    Choice, Finish, Said, Tool, Usage, Wanted, content_text, content_tokens, digest, signature, text_tokens,
};
use crate::script::{Refusal, Script};

pub(super) fn authenticate(wire: &Wire<'_>) -> Checked {
    if wire.bearer().is_some() {
        return Ok(());
    }
    if wire.header("authorization").is_none() {
        return Err(Refused::new(403, "Missing Authentication Token"));
    }
    super::sigv4::verify(wire, "bedrock")
}

pub(super) fn plan(wire: &Wire<'_>, model: &str, script: &Script) -> Checked<Planned> {
    let action = wire.rest.rsplit('/').next().unwrap_or_default();
    if wire.method != Method::POST || !["converse", "converse-stream", "invoke"].contains(&action) {
        return Err(Refused::new(404, "UnknownOperationException"));
    }
    if !wire.header("content-type").is_some_and(|kind| kind.starts_with("application/json")) {
        return Err(Refused::new(400, "the content-type is not application/json"));
    }
    let body = wire.json;
    if !body.is_object() {
        return Err(Refused::new(400, "The body is not valid JSON"));
    }
    if action == "invoke" {
        return invoke(body, model, script);
    }
    bedrock_check::check(body)?;
    let wanted = wanted(body, model, action == "converse-stream");
    let said = Said::new(&wanted, script).map_err(|e| Refused::new(400, e))?;
    let usage = told(said.usage);
    let shown = (!script.no_usage).then_some(&usage);
    let planned = if wanted.stream {
        let text = json!({"message": "The system encountered an unexpected error during processing."});
        Planned::stream(Flow {
            content_type: "application/vnd.amazon.eventstream",
            frames: events(&said, shown),
            error: frame("exception", "modelStreamErrorException", &text),
            end: None,
        })
    } else {
        Planned::json(&whole(&said, shown, body))
    };
    Ok(planned.costs(said.usage, usage))
}

fn wanted(body: &Value, model: &str, stream: bool) -> Wanted {
    let messages = body["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let last = messages.last().and_then(|message| message["content"].as_array());
    let results = last.into_iter().flatten().filter(|block| block["toolResult"].is_object());
    let results: Vec<_> = results.map(|block| content_text(&block["toolResult"]["content"])).collect();
    let asked =
        messages.iter().rev().find(|m| m["role"] == "user" && !content_text(&m["content"]).is_empty());
    let specs = body["toolConfig"]["tools"].as_array().into_iter().flatten();
    let choice = &body["toolConfig"]["toolChoice"];
    let more = &body["additionalModelRequestFields"];
    let thinking = more["thinking"]["type"].as_str().or_else(|| more["reasoning_config"]["type"].as_str());
    Wanted {
        model: model.to_owned(),
        stream,
        text: asked.map(|message| content_text(&message["content"])).unwrap_or_default(),
        prompt_tokens: messages.iter().map(|message| 4 + content_tokens(&message["content"])).sum::<u64>()
            + content_tokens(&body["system"]),
        limit: body["inferenceConfig"]["maxTokens"].as_u64(),
        tools: specs
            .map(|tool| &tool["toolSpec"])
            .filter(|spec| spec.is_object())
            .map(|spec| Tool {
                name: spec["name"].as_str().unwrap_or_default().to_owned(),
                schema: spec["inputSchema"]["json"].clone(),
            })
            .collect(),
        choice: match choice.as_object().and_then(|choice| choice.keys().next()).map(String::as_str) {
            Some("any") => Choice::Any,
            Some("tool") => Choice::Named(choice["tool"]["name"].as_str().unwrap_or_default().to_owned()),
            _ => Choice::Auto,
        },
        parallel: more["tool_choice"]["disable_parallel_tool_use"] != true,
        result: (!results.is_empty()).then(|| results.join(" ")),
        schema: bedrock_check::format_schema(body),
        json: false,
        thinks: matches!(thinking, Some("enabled" | "adaptive")),
    }
}

fn told(usage: Usage) -> Value {
    json!({"inputTokens": usage.fresh(), "outputTokens": usage.completion, "totalTokens": usage.total(),
        "cacheReadInputTokens": usage.cached, "cacheWriteInputTokens": usage.written})
}

fn stop_reason(said: &Said) -> &'static str {
    match said.finish {
        Finish::Stop => "end_turn",
        Finish::Length => "max_tokens",
        Finish::Tools => "tool_use",
        Finish::Refused => "content_filtered",
    }
}

fn call_id(index: usize, name: &str) -> String {
    format!("tooluse_{}", digest(&format!("{index}/{name}")))
}

fn blocks(said: &Said) -> Vec<Value> {
    let mut blocks = Vec::new();
    if let Some(text) = &said.thinking {
        blocks.push(
            json!({"reasoningContent": {"reasoningText": {"text": text, "signature": signature(text)}}}),
        );
    }
    if !said.pieces.is_empty() {
        blocks.push(json!({"text": said.text()}));
    }
    for call in &said.calls {
        blocks.push(json!({"toolUse": {"toolUseId": call_id(call.index, &call.name), "name": call.name,
            "input": call.arguments}}));
    }
    blocks
}

fn whole(said: &Said, usage: Option<&Value>, body: &Value) -> Value {
    let mut answer = json!({"metrics": {"latencyMs": 42},
        "output": {"message": {"content": blocks(said), "role": "assistant"}},
        "stopReason": stop_reason(said)});
    if let Some(usage) = usage {
        answer["usage"] = usage.clone();
    }
    if body["serviceTier"].is_object() {
        answer["serviceTier"] = body["serviceTier"].clone();
    }
    answer
}

fn events(said: &Said, usage: Option<&Value>) -> Vec<Bytes> {
    let mut events = vec![("messageStart", json!({"role": "assistant"}))];
    for (index, block) in blocks(said).iter().enumerate() {
        if let Some(call) = block.get("toolUse") {
            let start = json!({"toolUse": {"toolUseId": call["toolUseId"], "name": call["name"]}});
            events.push(("contentBlockStart", json!({"contentBlockIndex": index, "start": start})));
        }
        for delta in deltas(block, &said.pieces) {
            events.push(("contentBlockDelta", json!({"contentBlockIndex": index, "delta": delta})));
        }
        events.push(("contentBlockStop", json!({"contentBlockIndex": index})));
    }
    events.push(("messageStop", json!({"stopReason": stop_reason(said)})));
    let mut last = json!({"metrics": {"latencyMs": 42}});
    if let Some(usage) = usage {
        last["usage"] = usage.clone();
    }
    events.push(("metadata", last));
    events
        .into_iter()
        .map(|(kind, mut event)| {
            // Bedrock pads its events with letters, so that their length does not tell what is in them.
            event["p"] = json!("abcdefghij");
            frame("event", kind, &event)
        })
        .collect()
}

fn deltas(block: &Value, pieces: &[String]) -> Vec<Value> {
    if let Some(thought) = block.pointer("/reasoningContent/reasoningText") {
        let words = thought["text"].as_str().unwrap_or_default().split_inclusive(' ');
        let mut deltas: Vec<_> = words.map(|word| json!({"reasoningContent": {"text": word}})).collect();
        deltas.push(json!({"reasoningContent": {"signature": thought["signature"]}}));
        return deltas;
    }
    if let Some(call) = block.get("toolUse") {
        let input = call["input"].to_string();
        let (one, two) = halves(&input);
        return [one, two].map(|piece| json!({"toolUse": {"input": piece}})).to_vec();
    }
    pieces.iter().map(|piece| json!({"text": piece})).collect()
}

/// One message of AWS's event stream, with its checksums.
fn frame(sort: &'static str, kind: &'static str, payload: &Value) -> Bytes {
    let text = |name: &'static str, value: &'static str| Header::new(name, HeaderValue::String(value.into()));
    let type_name = if sort == "event" { ":event-type" } else { ":exception-type" };
    let message = Message::new(payload.to_string())
        .add_header(text(type_name, kind))
        .add_header(text(":content-type", "application/json"))
        .add_header(text(":message-type", sort));
    let mut bytes = Vec::new();
    // Fails for headers or payloads of megabytes only.
    if let Err(error) = write_message_to(&message, &mut bytes) {
        eprintln!("an event could not be framed: {error}");
    }
    bytes.into()
}

/// Embeddings: Titan takes one text, Cohere several.
fn invoke(body: &Value, model: &str, script: &Script) -> Checked<Planned> {
    if model.contains("cohere") {
        return cohere(body, script);
    }
    if !model.contains("titan-embed") {
        return Err(Refused::new(400, format!("The provided model identifier is invalid: {model}")));
    }
    super::only(body, &["inputText", "dimensions", "normalize", "embeddingTypes"], |key| {
        Refused::new(400, format!("Malformed input request: #: extraneous key [{key}] is not permitted"))
    })?;
    let Some(text) = body["inputText"].as_str().filter(|text| !text.is_empty()) else {
        let text = "Malformed input request: #: required key [inputText] not found";
        return Err(Refused::new(400, text));
    };
    let size = usize::try_from(body["dimensions"].as_u64().unwrap_or(1024)).unwrap_or(1024);
    if ![256, 512, 1024].contains(&size) {
        return Err(Refused::new(400, "Malformed input request: dimensions: not one of 256, 512, 1024"));
    }
    let prompt = script.usage.map_or_else(|| text_tokens(text), |(prompt, _)| prompt);
    let numbers = vector(size);
    let answer = json!({"embedding": numbers, "embeddingsByType": {"float": numbers},
        "inputTextTokenCount": prompt});
    let usage = json!({"inputTextTokenCount": prompt});
    Ok(Planned::json(&answer).costs(Usage { prompt, ..Usage::default() }, usage))
}

fn cohere(body: &Value, script: &Script) -> Checked<Planned> {
    let Some(texts) = body["texts"].as_array().filter(|texts| (1..=96).contains(&texts.len())) else {
        return Err(Refused::new(400, "Malformed input request: texts: 1 to 96 texts are needed"));
    };
    let kinds = ["search_document", "search_query", "classification", "clustering"];
    if !body["input_type"].as_str().is_some_and(|kind| kinds.contains(&kind)) {
        return Err(Refused::new(400, "Malformed input request: #: required key [input_type] not found"));
    }
    let numbers = vector(8);
    let vectors = json!(vec![numbers; texts.len()]);
    let typed = body["embedding_types"].is_array();
    let embeddings = if typed { json!({"float": vectors}) } else { vectors };
    let prompt = script.usage.map_or_else(|| content_tokens(&body["texts"]), |(prompt, _)| prompt);
    let answer = json!({"id": "6f2d8c0e", "embeddings": embeddings, "texts": texts,
        "response_type": if typed { "embeddings_by_type" } else { "embeddings_floats" }});
    Ok(Planned::json(&answer).costs(Usage { prompt, ..Usage::default() }, nothing()))
}

/// Name of the exception that goes with a status.
pub(super) fn exception(status: u16, kind: Option<Refusal>) -> &'static str {
    match (status, kind) {
        (_, Some(Refusal::Quota)) => "ServiceQuotaExceededException",
        (403 | 401, _) => "AccessDeniedException",
        (404, _) => "ResourceNotFoundException",
        (408, _) => "ModelTimeoutException",
        (424, _) => "ModelErrorException",
        (429, _) => "ThrottlingException",
        (503, _) => "ServiceUnavailableException",
        (500.., _) => "InternalServerException",
        _ => "ValidationException",
    }
}

/// An error's body.
pub(super) fn error(status: u16, kind: Option<Refusal>, refused: Option<&Refused>) -> Value {
    let scripted = match kind {
        Some(Refusal::Context) => "Input is too long for requested model.",
        Some(Refusal::Content) => "The provided request was blocked by content filtering.",
        Some(Refusal::BadRequest) => {
            "1 validation error detected: temperature must be less than or equal to 1"
        }
        Some(Refusal::Quota) => "Too many tokens per day, please wait before trying again.",
        None if status == 429 => "Too many requests, please wait before trying again.",
        None if status == 403 => "You don't have access to the model with the specified model ID.",
        None if status == 503 => "Bedrock is unable to process your request.",
        None => "The request was answered by its script.",
    };
    let message = refused.map_or(scripted, |refused| refused.message.as_str());
    json!({"message": message})
}

#[cfg(test)]
#[path = "bedrock_tests.rs"]
mod tests;
