//! `systemInstruction` and `contents`.

use serde_json::{Map, Value, json};

use super::Model;
use crate::contract::DeploymentMeta;
use crate::dialect::Dialect;
use crate::dialect::fields::set;
use crate::dialect::names::{Names, fit_id};
use crate::dialect::request::{Body, Part, Role, Source, ToolCall, Turn};
use crate::dialect::thought;
use crate::error::{ApiError, mask_secrets};

/// Longest id of a call that is sent.
const MAX_ID: usize = 64;
/// Stands for a signature where a call came from another model ("Thought signatures" of the Gemini API, FAQ): Gemini 3
/// refuses a call without one.
const NO_SIGNATURE: &str = "skip_thought_signature_validator";
/// Text of a conversation that has none.
const FILLER: &str = ".";

/// Media types by the ending of a URL, which is all that tells: Vertex wants one.
const ENDINGS: [(&str, &str); 22] = [
    ("png", "image/png"),
    ("jpg", "image/jpeg"),
    ("jpeg", "image/jpeg"),
    ("webp", "image/webp"),
    ("gif", "image/gif"),
    ("heic", "image/heic"),
    ("heif", "image/heif"),
    ("pdf", "application/pdf"),
    ("txt", "text/plain"),
    ("md", "text/markdown"),
    ("html", "text/html"),
    ("csv", "text/csv"),
    ("json", "application/json"),
    ("mp4", "video/mp4"),
    ("mov", "video/quicktime"),
    ("mpeg", "video/mpeg"),
    ("webm", "video/webm"),
    ("mp3", "audio/mp3"),
    ("wav", "audio/wav"),
    ("flac", "audio/flac"),
    ("ogg", "audio/ogg"),
    ("aac", "audio/aac"),
];

fn refused(message: impl AsRef<str>) -> ApiError {
    ApiError::invalid_request(mask_secrets(message.as_ref()), Some("messages"))
}

/// Writes the parts of a conversation.
#[derive(Debug)]
pub(super) struct Content<'a> {
    meta: &'a DeploymentMeta,
    model: Model,
    names: &'a mut Names,
    /// Names of the calls so far, by their ids: a result says the id only.
    calls: Vec<(String, String)>,
}

/// A turn on its way, and its neighbours of the same role.
#[derive(Debug, Default)]
struct Parts {
    /// Results of calls are a content of their own, right after the calls.
    results: Vec<Value>,
    rest: Vec<Value>,
    /// A signature of a thought: it belongs to the part that follows.
    signature: Option<String>,
    /// A call with a signature, or with what stands for one.
    signed_call: bool,
}

impl<'a> Content<'a> {
    pub(super) fn new(meta: &'a DeploymentMeta, model: Model, names: &'a mut Names) -> Self {
        Self { meta, model, names, calls: Vec::new() }
    }

    /// Parts of `systemInstruction`: text only.
    pub(super) fn system(parts: &[Part]) -> Vec<Value> {
        let text = |part: &Part| match &part.body {
            Body::Text(text) if !text.is_empty() => Some(json!({ "text": text })),
            _ => None,
        };
        parts.iter().filter_map(text).collect()
    }

    /// `contents`.
    pub(super) fn contents(&mut self, turns: Vec<Turn>) -> Result<Vec<Value>, ApiError> {
        let mut contents: Vec<(&'static str, Parts)> = Vec::with_capacity(turns.len());
        for turn in turns {
            let role = if turn.role == Role::Assistant { "model" } else { "user" };
            if contents.last().is_none_or(|(last, _)| *last != role) {
                contents.push((role, Parts::default()));
            }
            let Some((_, parts)) = contents.last_mut() else { continue };
            for part in turn.parts {
                self.part(part, parts)?;
            }
        }
        let mut contents: Vec<Value> = contents.into_iter().flat_map(written).collect();
        if contents.is_empty() {
            if !self.meta.params.modify {
                return Err(refused("The conversation must have a message that is not empty."));
            }
            contents.push(json!({ "role": "user", "parts": [{ "text": FILLER }] }));
        }
        Ok(contents)
    }

    fn part(&mut self, part: Part, out: &mut Parts) -> Result<(), ApiError> {
        match part.body {
            Body::Text(text) | Body::Refusal(text) if !text.is_empty() => {
                out.push(json!({ "text": text }));
            }
            Body::Text(_) | Body::Refusal(_) | Body::RedactedThinking { .. } => {}
            Body::Image { source, detail } => {
                let mut part = self.blob("image", "image/jpeg", source)?;
                let level = match detail.as_deref() {
                    Some("low") => Some("MEDIA_RESOLUTION_LOW"),
                    Some("high") => Some("MEDIA_RESOLUTION_HIGH"),
                    _ => None,
                };
                if let Some(level) = level.filter(|_| self.model.is_third()) {
                    set(&mut part, "mediaResolution", json!({ "level": level }));
                }
                out.push(part);
            }
            Body::Document { source, .. } => {
                let part = self.blob("document", "application/pdf", source)?;
                out.push(part);
            }
            Body::Audio { data, format } => {
                let media_type = if format.contains('/') { format } else { format!("audio/{format}") };
                out.push(json!({ "inlineData": { "mimeType": media_type, "data": data } }));
            }
            Body::Video { source } => {
                let part = self.blob("video", "video/mp4", source)?;
                out.push(part);
            }
            // The thought itself need not come back; its proof must.
            Body::Thinking { signature, .. } => {
                let own = signature.as_deref().and_then(thought::own).map(str::to_owned);
                out.signature = own.or(out.signature.take());
            }
            Body::ToolCall(call) => self.call(call, out),
            Body::ToolResult { id, content, is_error } => self.result(&id, content, is_error, out)?,
            Body::Other { dialect: Dialect::Gemini, value } => out.push(value),
            Body::Other { .. } => {}
        }
        Ok(())
    }

    fn call(&mut self, call: ToolCall, out: &mut Parts) {
        let (_, carried) = thought::split(&call.id);
        let args = match serde_json::from_str(&call.arguments) {
            Ok(Value::Object(members)) => Value::Object(members),
            _ if call.arguments.trim().is_empty() => json!({}),
            Ok(value) => json!({ "input": value }),
            Err(_) => json!({ "input": call.arguments }),
        };
        let name = self.names.sent(&call.name);
        let mut function = json!({ "name": name, "args": args });
        let id = call_id(&call.id);
        if self.model.is_third() {
            set(&mut function, "id", id.clone());
        }
        self.calls.push((id, name));
        let signature = call.signature.or(carried).or_else(|| out.signature.take());
        // Parallel calls have one between them, on the first.
        let missing = (self.model.is_third() && !out.signed_call).then(|| NO_SIGNATURE.to_owned());
        let mut part = json!({ "functionCall": function });
        if let Some(signature) = signature.or(missing) {
            out.signed_call = true;
            set(&mut part, "thoughtSignature", signature);
        }
        out.signature = None;
        out.rest.push(part);
    }

    fn result(
        &mut self,
        id: &str,
        content: Vec<Part>,
        is_error: bool,
        out: &mut Parts,
    ) -> Result<(), ApiError> {
        let (mut text, mut media) = (String::new(), Vec::new());
        for part in content {
            match part.body {
                Body::Text(more) | Body::Refusal(more) => text.push_str(&more),
                Body::Image { source, .. } => media.push(self.blob("image", "image/jpeg", source)?),
                Body::Document { source, .. } => {
                    media.push(self.blob("document", "application/pdf", source)?)
                }
                Body::Video { source } => media.push(self.blob("video", "video/mp4", source)?),
                _ => {}
            }
        }
        let response = match serde_json::from_str::<Value>(&text) {
            Ok(Value::Object(members)) if !is_error => Value::Object(members),
            _ if is_error => json!({ "error": text }),
            _ => json!({ "output": text }),
        };
        let id = call_id(id);
        let known = self.calls.iter().rev().find(|(known, _)| *known == id);
        // A result whose call is not there any more: the id is all that is known of it.
        let name = match known {
            Some((_, name)) => name.clone(),
            None => self.names.sent(&id),
        };
        let mut function = json!({ "name": name, "response": response });
        if self.model.is_third() {
            set(&mut function, "id", id);
            if !media.is_empty() {
                set(&mut function, "parts", std::mem::take(&mut media));
            }
        }
        out.results.push(json!({ "functionResponse": function }));
        // Older models take no media in a response: it comes after.
        out.rest.append(&mut media);
        Ok(())
    }

    /// Data or a place as a part; `usual` is the type of what does not say it.
    fn blob(&self, what: &str, usual: &str, source: Source) -> Result<Value, ApiError> {
        let place = match source {
            Source::Base64 { media_type, data } => {
                let media_type = if media_type.is_empty() { usual.to_owned() } else { media_type };
                return Ok(json!({ "inlineData": { "mimeType": media_type, "data": data } }));
            }
            Source::Text(text) => return Ok(json!({ "text": text })),
            Source::Url(url) => url,
            Source::File(id) if id.contains("://") => id,
            Source::File(_) => {
                return Err(refused(format!(
                    "The model takes {what} content by data or URI, not by file id."
                )));
            }
        };
        let mut file = Map::new();
        let video = place.contains("youtube.com/") || place.contains("youtu.be/");
        let usual = if video { "video/mp4" } else { usual };
        // Files of the Gemini API know their own type.
        if !place.contains("generativelanguage.googleapis.com/") {
            file.insert("mimeType".into(), media_type_of(&place).unwrap_or(usual).into());
        }
        file.insert("fileUri".into(), place.into());
        Ok(json!({ "fileData": file }))
    }
}

impl Parts {
    /// A part that may carry the signature of the thought before it.
    fn push(&mut self, mut part: Value) {
        if let Some(signature) = self.signature.take() {
            set(&mut part, "thoughtSignature", signature);
        }
        self.rest.push(part);
    }
}

/// The contents that a turn is: results right after their calls, and what the user says to them after that.
fn written((role, parts): (&'static str, Parts)) -> impl Iterator<Item = Value> {
    let Parts { results, mut rest, signature, .. } = parts;
    // What was signed last had nothing after it.
    if let Some(signature) = signature {
        rest.push(json!({ "text": "", "thoughtSignature": signature }));
    }
    let some = [results, rest].into_iter().filter(|parts| !parts.is_empty());
    some.map(move |parts| json!({ "role": role, "parts": parts }))
}

/// The id of a call without what it carries.
fn call_id(id: &str) -> String {
    fit_id(id, MAX_ID, |c| c.is_ascii_graphic())
}

fn media_type_of(url: &str) -> Option<&'static str> {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let ending = path.rsplit_once('.')?.1.to_ascii_lowercase();
    ENDINGS.iter().find(|(known, _)| *known == ending).map(|(_, media_type)| *media_type)
}
