//! Parts of a message's content, for a provider.

use serde_json::{Map, Value, json};

use crate::dialect::fields::file_text;
use crate::dialect::request::{Body, Cache, Part, Source};
use crate::error::ApiError;

/// A part; `None` for what cannot be said in chat and means nothing there (parts of other dialects). `openrouter` knows
/// marks for a cache, and files by URL.
pub(super) fn write_part(part: Part, openrouter: bool) -> Result<Option<Value>, ApiError> {
    let mut value = match part.body {
        Body::Text(text) => json!({"type": "text", "text": text}),
        Body::Image { source, detail } => write_image(source, detail),
        Body::Document { source, name, context, .. } => write_document(source, name, context, openrouter)?,
        Body::Audio { data, format } => {
            json!({"type": "input_audio", "input_audio": {"data": data, "format": format}})
        }
        Body::Video { source } => json!({"type": "video_url", "video_url": {"url": url_of(source)}}),
        Body::Refusal(text) => json!({"type": "text", "text": text}),
        Body::Thinking { .. }
        | Body::RedactedThinking { .. }
        | Body::ToolCall(_)
        | Body::ToolResult { .. }
        | Body::Other { .. } => return Ok(None),
    };
    if let (Some(cache), true, Value::Object(members)) = (part.cache, openrouter, &mut value) {
        members.insert("cache_control".to_owned(), write_cache(cache));
    }
    Ok(Some(value))
}

pub(super) fn write_cache(cache: Cache) -> Value {
    if cache.hour { json!({"type": "ephemeral", "ttl": "1h"}) } else { json!({"type": "ephemeral"}) }
}

fn url_of(source: Source) -> String {
    match source {
        Source::Base64 { media_type, data } => format!("data:{media_type};base64,{data}"),
        Source::Url(url) | Source::Text(url) | Source::File(url) => url,
    }
}

fn write_image(source: Source, detail: Option<String>) -> Value {
    if let Source::File(id) = source {
        return json!({"type": "file", "file": {"file_id": id}});
    }
    let mut image = Map::new();
    image.insert("url".to_owned(), url_of(source).into());
    if let Some(detail) = detail {
        image.insert("detail".to_owned(), detail.into());
    }
    json!({"type": "image_url", "image_url": image})
}

/// Text is written as text, for every model reads that; the rest as a file, which needs a name.
fn write_document(
    source: Source,
    name: Option<String>,
    context: Option<String>,
    openrouter: bool,
) -> Result<Value, ApiError> {
    let (media_type, data) = match source {
        Source::Text(text) => return Ok(text_document(&text, name, context)),
        Source::File(id) => return Ok(json!({"type": "file", "file": {"file_id": id}})),
        Source::Url(url) if openrouter => {
            let name = name.unwrap_or_else(|| "document.pdf".to_owned());
            return Ok(json!({"type": "file", "file": {"filename": name, "file_data": url}}));
        }
        Source::Url(_) => {
            let message = "This model takes files as data only, not by URL.";
            return Err(ApiError::invalid_request(message, Some("messages")));
        }
        Source::Base64 { media_type, data } => (media_type, data),
    };
    if let Some(text) = file_text(&media_type, &data)? {
        return Ok(text_document(&text, name, context));
    }
    let name = name.unwrap_or_else(|| "document.pdf".to_owned());
    Ok(
        json!({"type": "file", "file": {"filename": name, "file_data": format!("data:{media_type};base64,{data}")}}),
    )
}

fn text_document(text: &str, name: Option<String>, context: Option<String>) -> Value {
    let title = name.unwrap_or_else(|| "document".to_owned());
    let context = context.map(|context| format!("{context}\n")).unwrap_or_default();
    json!({"type": "text", "text": format!("{context}<document title=\"{title}\">\n{text}\n</document>")})
}
