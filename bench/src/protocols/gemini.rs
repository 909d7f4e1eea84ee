//! Google's generateContent: the Gemini API and Vertex.

use http::Method;
use serde_json::{Value, json};

use super::{Checked, Flow, Planned, Refused, Wire, gemini_check, sse, vector};
use crate::said::{
    Call, Choice, Finish, Said, Tool, Usage, Wanted, content_text, content_tokens, digest, signature,
    text_tokens,
};
use crate::script::{Refusal, Script};

/// A key of the Gemini API, and nothing else.
pub(super) fn authenticate(wire: &Wire<'_>) -> Checked {
    if wire.header("authorization").is_some() {
        return Err(Refused::new(
            401,
            "Request had invalid authentication credentials: authorization was sent, too",
        ));
    }
    if wire.header("x-goog-api-key").is_none() {
        let text = "Method doesn't allow unregistered callers. Please use API Key or other form of API consumer \
            identity to call this API.";
        return Err(Refused::new(403, text));
    }
    Ok(())
}

/// Vertex wants a token of [`super::tokens`] (or any that does not look like one of those).
pub(super) fn authenticate_vertex(wire: &Wire<'_>) -> Checked {
    for foreign in ["x-goog-api-key", "x-api-key"] {
        if wire.header(foreign).is_some() {
            return Err(Refused::new(401, format!("{foreign} is no credential for Vertex")));
        }
    }
    match wire.bearer() {
        Some(token) => super::tokens::alive(token),
        None => Err(Refused::new(
            401,
            "Request is missing required authentication credential. Expected OAuth 2 access token.",
        )),
    }
}

pub(super) fn plan(wire: &Wire<'_>, model: &str, script: &Script, vertex: bool) -> Checked<Planned> {
    if wire.rest == "v1beta/models" && wire.method == Method::GET {
        let model = json!({"name": "models/gemini-2.5-flash", "inputTokenLimit": 1_048_576});
        return Ok(Planned::json(&json!({"models": [model]})));
    }
    if wire.method != Method::POST {
        return Err(Refused::new(404, "Not Found"));
    }
    if vertex && !is_vertex_path(wire.rest) {
        return Err(Refused::new(404, format!("no such resource: {}", wire.rest)));
    }
    let body = wire.json;
    if !body.is_object() {
        return Err(Refused::new(400, "Invalid JSON payload received."));
    }
    let action = wire.rest.rsplit_once(':').map_or("", |(_, action)| action);
    match action {
        "generateContent" | "streamGenerateContent" => generate(wire, model, script, vertex),
        "countTokens" => {
            gemini_check::contents(&body["contents"])?;
            Ok(Planned::json(&json!({"totalTokens": prompt_tokens(body)})))
        }
        "embedContent" if !vertex => embed(&[body], model, script, false),
        "batchEmbedContents" if !vertex => {
            let Some(requests) = body["requests"].as_array().filter(|requests| !requests.is_empty()) else {
                return Err(Refused::field("requests", "at least one request is required"));
            };
            gemini_check::members(body, &["requests"], "")?;
            embed(&requests.iter().collect::<Vec<_>>(), model, script, true)
        }
        "predict" if vertex => predict(body, script),
        _ => Err(Refused::new(404, format!("Method not found: {action}"))),
    }
}

fn is_vertex_path(rest: &str) -> bool {
    let parts: Vec<_> = rest.split('/').collect();
    matches!(parts.as_slice(), [
        "v1" | "v1beta1", "projects", project, "locations", location, "publishers", "google", "models", model
    ] if !project.is_empty() && !location.is_empty() && model.contains(':'))
}

fn generate(wire: &Wire<'_>, model: &str, script: &Script, vertex: bool) -> Checked<Planned> {
    let body = wire.json;
    gemini_check::check(body, vertex)?;
    let stream = wire.rest.ends_with(":streamGenerateContent");
    if stream && wire.param("alt") != Some("sse") {
        return Err(Refused::new(400, "this provider streams with alt=sse only"));
    }
    let wanted = wanted(body, model, stream);
    let said = Said::new(&wanted, script).map_err(|e| Refused::new(400, e))?;
    let shape = Shape { model, said: &said, no_usage: script.no_usage, vertex };
    let planned = if stream {
        Planned::stream(Flow {
            content_type: "text/event-stream",
            frames: shape.chunks().iter().map(sse).collect(),
            error: sse(&error(503, None, None)),
            end: None,
        })
    } else {
        Planned::json(&shape.chunk(shape.parts(), true))
    };
    Ok(planned.costs(said.usage, told(said.usage)))
}

fn prompt_tokens(body: &Value) -> u64 {
    let contents = body["contents"].as_array().into_iter().flatten();
    contents.map(|content| 4 + content_tokens(&content["parts"])).sum::<u64>()
        + content_tokens(&body["systemInstruction"]["parts"])
}

fn wanted(body: &Value, model: &str, stream: bool) -> Wanted {
    let contents = body["contents"].as_array().map(Vec::as_slice).unwrap_or_default();
    let last = contents.last().and_then(|content| content["parts"].as_array());
    let results = last.into_iter().flatten().filter_map(|part| part.get("functionResponse"));
    let results: Vec<_> = results.map(|response| quoted(&response["response"])).collect();
    let asked = contents
        .iter()
        .rev()
        .find(|content| content["role"] != "model" && !content_text(&content["parts"]).is_empty());
    let tools = body["tools"].as_array().into_iter().flatten();
    let functions = tools.flat_map(|tool| tool["functionDeclarations"].as_array().into_iter().flatten());
    let calling = &body["toolConfig"]["functionCallingConfig"];
    let config = &body["generationConfig"];
    let schema = ["responseJsonSchema", "responseSchema"].iter().find_map(|key| config.get(*key)).cloned();
    Wanted {
        model: model.to_owned(),
        stream,
        text: asked.map(|content| content_text(&content["parts"])).unwrap_or_default(),
        prompt_tokens: prompt_tokens(body),
        limit: config["maxOutputTokens"].as_u64(),
        tools: functions
            .map(|function| Tool {
                name: function["name"].as_str().unwrap_or_default().to_owned(),
                schema: ["parametersJsonSchema", "parameters"]
                    .iter()
                    .find_map(|key| function.get(*key))
                    .cloned()
                    .unwrap_or_else(super::nothing),
            })
            .collect(),
        choice: match (calling["mode"].as_str(), calling["allowedFunctionNames"][0].as_str()) {
            (Some("NONE"), _) => Choice::None,
            (Some("ANY"), Some(name)) => Choice::Named(name.to_owned()),
            (Some("ANY"), None) => Choice::Any,
            _ => Choice::Auto,
        },
        parallel: true,
        result: (!results.is_empty()).then(|| results.join(" ")),
        json: schema.is_none() && config["responseMimeType"] == "application/json",
        schema,
        thinks: config["thinkingConfig"]["includeThoughts"] == true,
    }
}

/// A function's response as a sentence quotes it: the text of its only member, or all of it.
fn quoted(response: &Value) -> String {
    match super::sole(response) {
        Some((_, Value::String(text))) => text.clone(),
        _ => response.to_string(),
    }
}

fn told(usage: Usage) -> Value {
    let answer = usage.completion.saturating_sub(usage.reasoning);
    let mut told = json!({"promptTokenCount": usage.prompt, "candidatesTokenCount": answer,
        "totalTokenCount": usage.prompt + answer + usage.reasoning,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": usage.prompt}]});
    if usage.reasoning > 0 {
        told["thoughtsTokenCount"] = json!(usage.reasoning);
    }
    if usage.cached > 0 {
        told["cachedContentTokenCount"] = json!(usage.cached);
        told["cacheTokensDetails"] = json!([{"modality": "TEXT", "tokenCount": usage.cached}]);
    }
    told
}

struct Shape<'a> {
    model: &'a str,
    said: &'a Said,
    no_usage: bool,
    vertex: bool,
}

impl Shape<'_> {
    fn finish(&self) -> &'static str {
        match self.said.finish {
            // Google says STOP for tool calls, too.
            Finish::Stop | Finish::Tools => "STOP",
            Finish::Length => "MAX_TOKENS",
            Finish::Refused => "SAFETY",
        }
    }

    fn call(&self, call: &Call) -> Value {
        let mut part = json!({"functionCall": {"name": call.name, "args": call.arguments}});
        if !self.vertex {
            part["functionCall"]["id"] = json!(digest(&format!("{}/{}", call.index, call.name)));
        }
        // The first call of a turn carries the proof of the thought before it.
        if call.index == 0 && self.said.thinking.is_some() {
            part["thoughtSignature"] = json!(signature(&call.name));
        }
        part
    }

    fn parts(&self) -> Vec<Value> {
        if self.said.finish == Finish::Refused {
            return Vec::new();
        }
        let mut parts: Vec<_> =
            self.said.thinking.iter().map(|text| json!({"text": text, "thought": true})).collect();
        if !self.said.pieces.is_empty() {
            parts.push(json!({"text": self.said.text()}));
        }
        parts.extend(self.said.calls.iter().map(|call| self.call(call)));
        parts
    }

    fn chunk(&self, parts: Vec<Value>, last: bool) -> Value {
        let mut candidate = json!({"content": {"parts": parts, "role": "model"}, "index": 0});
        if self.said.finish == Finish::Refused {
            candidate = json!({"index": 0});
        }
        if last {
            candidate["finishReason"] = json!(self.finish());
        }
        let id = digest(&format!("{}/{}", self.model, self.said.usage.prompt));
        let mut chunk = json!({"candidates": [candidate], "modelVersion": self.model, "responseId": id});
        // The Gemini API tells usage with every chunk, Vertex with the last.
        if !self.no_usage && (last || !self.vertex) {
            chunk["usageMetadata"] = told(self.said.usage);
        }
        chunk
    }

    fn chunks(&self) -> Vec<Value> {
        let mut parts = Vec::new();
        if self.said.finish != Finish::Refused {
            let words = self.said.thinking.iter().flat_map(|text| text.split_inclusive(' '));
            parts.extend(words.map(|word| json!({"text": word, "thought": true})));
            parts.extend(self.said.pieces.iter().map(|piece| json!({"text": piece})));
            parts.extend(self.said.calls.iter().map(|call| self.call(call)));
        }
        let count = parts.len();
        let mut chunks: Vec<_> = parts
            .into_iter()
            .enumerate()
            .map(|(at, part)| self.chunk(vec![part], at + 1 == count && self.said.finish == Finish::Tools))
            .collect();
        if chunks.is_empty() || self.said.finish != Finish::Tools {
            chunks.push(self.chunk(vec![json!({"text": ""})], true));
        }
        chunks
    }
}

/// The Gemini API's embeddings: one request or several.
fn embed(requests: &[&Value], model: &str, script: &Script, batch: bool) -> Checked<Planned> {
    let known = ["model", "content", "taskType", "title", "outputDimensionality"];
    let mut vectors = Vec::new();
    for (at, request) in requests.iter().enumerate() {
        let place = if batch { format!("requests[{at}]") } else { String::new() };
        gemini_check::members(request, &known, &place)?;
        let named = request["model"].as_str();
        if (batch || named.is_some()) && named != Some(&format!("models/{model}")) {
            let text = format!("must be models/{model}, as in the path");
            return Err(Refused::field(&format!("{place}.model"), text));
        }
        if content_text(&request["content"]["parts"]).is_empty() {
            return Err(Refused::field(&format!("{place}.content"), "content contains no text"));
        }
        let size =
            usize::try_from(request["outputDimensionality"].as_u64().unwrap_or(8)).unwrap_or(8).min(3072);
        vectors.push(json!({"values": vector(size)}));
    }
    let counted = requests.iter().map(|request| content_tokens(&request["content"]["parts"])).sum();
    let prompt = script.usage.map_or(counted, |(prompt, _)| prompt);
    let answer = if batch { json!({"embeddings": vectors}) } else { json!({"embedding": vectors[0]}) };
    // The Gemini API does not tell the usage of embeddings.
    Ok(Planned::json(&answer).costs(Usage { prompt, ..Usage::default() }, super::nothing()))
}

/// Vertex's text embeddings.
fn predict(body: &Value, script: &Script) -> Checked<Planned> {
    gemini_check::members(body, &["instances", "parameters"], "")?;
    let Some(instances) = body["instances"].as_array().filter(|instances| !instances.is_empty()) else {
        return Err(Refused::field("instances", "must not be empty"));
    };
    let parameters = &body["parameters"];
    gemini_check::members(parameters, &["autoTruncate", "outputDimensionality"], "parameters")?;
    let size =
        usize::try_from(parameters["outputDimensionality"].as_u64().unwrap_or(8)).unwrap_or(8).min(3072);
    let mut predictions = Vec::new();
    let mut counted = 0;
    for (at, instance) in instances.iter().enumerate() {
        let place = format!("instances[{at}]");
        gemini_check::members(instance, &["content", "task_type", "taskType", "title"], &place)?;
        let Some(text) = instance["content"].as_str().filter(|text| !text.is_empty()) else {
            return Err(Refused::field(&format!("{place}.content"), "The text content is empty."));
        };
        counted += text_tokens(text);
        let tokens = script.usage.map_or_else(|| text_tokens(text), |(prompt, _)| prompt);
        predictions.push(json!({"embeddings": {"values": vector(size),
            "statistics": {"truncated": false, "token_count": tokens}}}));
    }
    let prompt = script.usage.map_or(counted, |(prompt, _)| prompt * instances.len() as u64);
    let answer = json!({"predictions": predictions, "metadata": {"billableCharacterCount": counted * 4}});
    let usage = json!({"token_count": prompt});
    Ok(Planned::json(&answer).costs(Usage { prompt, ..Usage::default() }, usage))
}

/// An error's body.
pub(super) fn error(status: u16, kind: Option<Refusal>, refused: Option<&Refused>) -> Value {
    let name = match status {
        400 => "INVALID_ARGUMENT",
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        429 => "RESOURCE_EXHAUSTED",
        499 => "CANCELLED",
        503 => "UNAVAILABLE",
        504 => "DEADLINE_EXCEEDED",
        _ => "INTERNAL",
    };
    let scripted = match kind {
        Some(Refusal::Context) => {
            "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."
        }
        Some(Refusal::Content) => "The prompt was blocked: PROHIBITED_CONTENT",
        Some(Refusal::BadRequest) => {
            "* GenerateContentRequest.generation_config.temperature: must be in [0, 2]."
        }
        Some(Refusal::Quota) => {
            "You exceeded your current quota, please check your plan and billing details."
        }
        None if status == 429 => "Resource has been exhausted (e.g. check quota).",
        None if status == 503 => "The model is overloaded. Please try again later.",
        None if status == 403 => "Permission denied on resource.",
        None => "The request was answered by its script.",
    };
    let message = refused.map_or(scripted, |refused| refused.message.as_str());
    json!({"error": {"code": status, "message": message, "status": name}})
}

#[cfg(test)]
#[path = "gemini_tests.rs"]
mod tests;
