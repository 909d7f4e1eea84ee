//! Content blocks as clients send them.

use serde_json::Value;

use crate::dialect::Dialect;
use crate::dialect::fields::{Fault, Object};
use crate::dialect::request::{Body, Cache, Part, Source, ToolCall};
use crate::dialect::thought;

/// `system`: a string, or text blocks.
pub(super) fn system(value: Value) -> Result<Vec<Part>, Fault> {
    let parts = content(value)?;
    match parts.iter().position(|part| !matches!(part.body, Body::Text(_))) {
        Some(index) => Err(Fault::expected("a text block").item(index)),
        None => Ok(parts),
    }
}

/// `content`: a string, or blocks.
pub(super) fn content(value: Value) -> Result<Vec<Part>, Fault> {
    match value {
        Value::String(text) => Ok(vec![Part::text(text)]),
        Value::Array(blocks) => {
            let one = |(index, value)| block(value).map_err(|fault: Fault| fault.item(index));
            blocks.into_iter().enumerate().map(one).collect()
        }
        _ => Err(Fault::expected("a string or an array of blocks")),
    }
}

pub(super) fn cache(object: &mut Object) -> Result<Option<Cache>, Fault> {
    let Some(mut control) = object.object("cache_control")? else { return Ok(None) };
    let hour = control.text("ttl").map_err(|fault| fault.within("cache_control"))?;
    Ok(Some(Cache { hour: hour.as_deref() == Some("1h") }))
}

fn block(value: Value) -> Result<Part, Fault> {
    let mut block = Object::of(value)?;
    if !block.has("type") {
        return Err(Fault::missing("type"));
    }
    let body = match block.peek("type") {
        "text" => Body::Text(block.need_text("text")?),
        "image" => Body::Image { source: source(&mut block)?, detail: None },
        "document" => document(&mut block)?,
        "thinking" => {
            let signature = block.text("signature")?.filter(|signature| !signature.is_empty());
            Body::Thinking { text: block.text("thinking")?.unwrap_or_default(), signature }
        }
        "redacted_thinking" => Body::RedactedThinking { data: block.need_text("data")? },
        "tool_use" => call(&mut block)?,
        "tool_result" => result(&mut block)?,
        _ => {
            let cache = cache(&mut block)?;
            let mut value = block.into_value();
            if let (Some(members), Some(cache)) = (value.as_object_mut(), cache) {
                // The mark stays in the block too: it is sent on as it is.
                let ttl = if cache.hour { "1h" } else { "5m" };
                members
                    .insert("cache_control".to_owned(), serde_json::json!({"type": "ephemeral", "ttl": ttl}));
            }
            return Ok(Body::Other { dialect: Dialect::Messages, value }.into());
        }
    };
    Ok(Part { body, cache: cache(&mut block)? })
}

fn source(block: &mut Object) -> Result<Source, Fault> {
    let mut source = block.need_object("source")?;
    let within = |fault: Fault| fault.within("source");
    Ok(match source.need_text("type").map_err(within)?.as_str() {
        "base64" => Source::Base64 {
            media_type: source.need_text("media_type").map_err(within)?,
            data: source.need_text("data").map_err(within)?,
        },
        "url" => Source::Url(source.need_text("url").map_err(within)?),
        "file" => Source::File(source.need_text("file_id").map_err(within)?),
        "text" => Source::Text(source.need_text("data").map_err(within)?),
        "content" => Source::Text(blocks_text(&source.take("content").unwrap_or_default())),
        _ => {
            return Err(within(
                Fault::expected("`base64`, `url`, `file`, `text` or `content`").within("type"),
            ));
        }
    })
}

/// Text of the blocks that a document is made of.
fn blocks_text(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(blocks) => {
            let texts = blocks.iter().filter_map(|block| block.get("text").and_then(Value::as_str));
            texts.collect::<Vec<_>>().join("\n")
        }
        _ => String::new(),
    }
}

fn document(block: &mut Object) -> Result<Body, Fault> {
    let citations = match block.object("citations")? {
        Some(mut citations) => {
            citations.flag("enabled").map_err(|fault| fault.within("citations"))?.unwrap_or(false)
        }
        None => false,
    };
    Ok(Body::Document {
        source: source(block)?,
        name: block.text("title")?,
        citations,
        context: block.text("context")?,
    })
}

fn call(block: &mut Object) -> Result<Body, Fault> {
    let id = block.need_text("id")?;
    let (id, signature) = thought::split(&id);
    let input = match block.object("input")? {
        Some(input) => input.into_value().to_string(),
        None => "{}".to_owned(),
    };
    let (id, name) = (id.to_owned(), block.need_text("name")?);
    Ok(Body::ToolCall(ToolCall { id, name, arguments: input, signature }))
}

fn result(block: &mut Object) -> Result<Body, Fault> {
    let id = block.need_text("tool_use_id")?;
    let content = match block.take("content") {
        Some(value) => content(value).map_err(|fault| fault.within("content"))?,
        None => Vec::new(),
    };
    let is_error = block.flag("is_error")?.unwrap_or(false);
    Ok(Body::ToolResult { id: thought::split(&id).0.to_owned(), content, is_error })
}
