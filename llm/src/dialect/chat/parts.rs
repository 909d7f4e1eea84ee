//! Parts of a message's content.

use serde_json::Value;

use crate::dialect::Dialect;
use crate::dialect::fields::{Fault, Object};
use crate::dialect::request::{Body, Cache, Part, Source};

/// A `content`: text, or an array of parts.
pub(super) fn read_content(value: Value) -> Result<Vec<Part>, Fault> {
    match value {
        Value::String(text) => Ok(vec![Part::text(text)]),
        Value::Array(items) => {
            let one = |(index, item)| read_part(item).map_err(|fault| fault.item(index));
            items.into_iter().enumerate().map(one).collect()
        }
        _ => Err(Fault::expected("a string or an array of parts")),
    }
}

fn read_part(value: Value) -> Result<Part, Fault> {
    let mut part = match value {
        Value::String(text) => return Ok(Part::text(text)),
        value => Object::of(value)?,
    };
    let cache = read_cache(&mut part)?;
    let kind = part.need_text("type")?;
    let body = match kind.as_str() {
        "text" => Body::Text(part.need_text("text")?),
        "refusal" => Body::Refusal(part.need_text("refusal")?),
        "image_url" => read_image(&mut part)?,
        "input_audio" => {
            let mut audio = part.need_object("input_audio")?;
            read_audio(&mut audio).map_err(|fault| fault.within("input_audio"))?
        }
        "file" => {
            let file = part.need_object("file")?;
            read_file(file).map_err(|fault| fault.within("file"))?
        }
        "video_url" => {
            let url = read_url(&mut part, "video_url")?.0;
            Body::Video { source: read_source(url, None).map_err(|fault| fault.within("video_url"))? }
        }
        "thinking" | "redacted_thinking" => read_thinking_block(part, &kind)?,
        // Words of other dialects are somebody's mistake; their meaning is not guessed.
        _ => {
            let fault = Fault::says(format!("'{}' is no part of a chat message", shown(&kind)));
            return Err(fault.within("type"));
        }
    };
    Ok(Part { body, cache })
}

/// A word of the client's in an error, cut.
pub(in crate::dialect) fn shown(word: &str) -> &str {
    word.get(..word.floor_char_boundary(64)).unwrap_or_default()
}

/// A block of `thinking_blocks`, whose type is this.
pub(super) fn read_thinking_block(mut block: Object, kind: &str) -> Result<Body, Fault> {
    let signed = |signature: Option<String>| signature.filter(|signature| !signature.is_empty());
    match kind {
        "thinking" => Ok(Body::Thinking {
            text: block.text("thinking")?.unwrap_or_default(),
            signature: signed(block.text("signature")?),
        }),
        "redacted_thinking" => Ok(Body::RedactedThinking { data: block.need_text("data")? }),
        _ => Err(Fault::expected("'thinking' or 'redacted_thinking'").within("type")),
    }
}

/// Anthropic's `cache_control`, which LiteLLM's clients set on parts, messages and tools.
pub(in crate::dialect) fn read_cache(object: &mut Object) -> Result<Option<Cache>, Fault> {
    let Some(mut control) = object.object("cache_control")? else { return Ok(None) };
    let hour = match control.text("ttl").map_err(|fault| fault.within("cache_control"))?.as_deref() {
        None | Some("5m") => false,
        Some("1h") => true,
        Some(_) => return Err(Fault::expected("'5m' or '1h'").within("ttl").within("cache_control")),
    };
    Ok(Some(Cache { hour }))
}

/// A member that is `{url, ...}`, or the URL itself.
fn read_url(part: &mut Object, name: &str) -> Result<(String, Object), Fault> {
    match part.take(name) {
        None => Err(Fault::missing(name)),
        Some(Value::String(url)) => Ok((url, Object::default())),
        Some(value) => {
            let mut object =
                Object::of(value).map_err(|_| Fault::expected("an object with a 'url'").within(name))?;
            let url = object.need_text("url").map_err(|fault| fault.within(name))?;
            Ok((url, object))
        }
    }
}

fn read_image(part: &mut Object) -> Result<Body, Fault> {
    let (url, mut object) = read_url(part, "image_url")?;
    let read = || {
        let detail = object.text("detail")?;
        // LiteLLM's word for the media type that a URL does not tell.
        let source = read_source(url, object.text("format")?).map_err(|fault| fault.within("url"))?;
        Ok(Body::Image { source, detail })
    };
    read().map_err(|fault: Fault| fault.within("image_url"))
}

pub(in crate::dialect) fn read_audio(audio: &mut Object) -> Result<Body, Fault> {
    let mut data = audio.need_text("data")?;
    let format = audio.need_text("format")?;
    if data.starts_with("data:")
        && let Some(comma) = data.find(',')
    {
        data.drain(..=comma);
    }
    Ok(Body::Audio { data, format })
}

/// `file`: `file_data` (a data URI, or bare base64), `file_id` (an id, or as LiteLLM has it a URL), `filename`.
fn read_file(mut file: Object) -> Result<Body, Fault> {
    let name = file.text("filename")?;
    let format = file.text("format")?;
    let source = match (file.text("file_data")?, file.text("file_id")?) {
        (Some(data), _) => {
            read_file_data(data, format, name.as_deref()).map_err(|fault| fault.within("file_data"))?
        }
        (None, Some(id)) if is_url(&id) || id.starts_with("data:") => {
            read_source(id, format).map_err(|fault| fault.within("file_id"))?
        }
        (None, Some(id)) => Source::File(id),
        (None, None) => return Err(Fault::missing("file_data")),
    };
    Ok(document(source, name))
}

/// A file, which may be an image.
pub(in crate::dialect) fn document(source: Source, name: Option<String>) -> Body {
    match source {
        Source::Base64 { media_type, data } if media_type.starts_with("image/") => {
            Body::Image { source: Source::Base64 { media_type, data }, detail: None }
        }
        source => Body::Document { source, name, citations: false, context: None },
    }
}

/// The bytes of a file: a data URI, or base64 without one, whose type its name tells.
pub(in crate::dialect) fn read_file_data(
    data: String,
    format: Option<String>,
    name: Option<&str>,
) -> Result<Source, Fault> {
    if data.starts_with("data:") || is_url(&data) {
        let named = format.or_else(|| generic(&data).then(|| media_type_of(name)).flatten());
        return read_source(data, named);
    }
    let media_type = format.or_else(|| media_type_of(name)).unwrap_or_else(|| "application/pdf".to_owned());
    Ok(Source::Base64 { media_type, data })
}

/// A data URI that says nothing about what it holds.
fn generic(uri: &str) -> bool {
    uri.starts_with("data:application/octet-stream") || uri.starts_with("data:;")
}

fn media_type_of(name: Option<&str>) -> Option<String> {
    let extension = name?.rsplit_once('.')?.1.to_ascii_lowercase();
    let media_type = match extension.as_str() {
        "pdf" => "application/pdf",
        "txt" | "text" | "log" => "text/plain",
        "md" | "markdown" => "text/markdown",
        "csv" => "text/csv",
        "html" | "htm" => "text/html",
        "json" => "application/json",
        "doc" => "application/msword",
        "docx" => "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        "xls" => "application/vnd.ms-excel",
        "xlsx" => "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        _ => return None,
    };
    Some(media_type.to_owned())
}

fn is_url(text: &str) -> bool {
    ["https://", "http://", "gs://", "s3://"].iter().any(|scheme| text.starts_with(scheme))
}

/// A URL, or what a data URI holds. `named`: the media type, where it is said apart.
pub(in crate::dialect) fn read_source(mut url: String, named: Option<String>) -> Result<Source, Fault> {
    let Some(rest) = url.strip_prefix("data:") else {
        return if url.is_empty() { Err(Fault::expected("a URL")) } else { Ok(Source::Url(url)) };
    };
    let head_len = rest.find(',').ok_or_else(|| Fault::expected("a data URI with base64 after a comma"))?;
    let head = rest.get(..head_len).unwrap_or_default();
    let mut words = head.split(';');
    let media_type = named.or_else(|| words.next().map(|word| word.trim().to_ascii_lowercase()));
    if !head.split(';').any(|word| word.trim().eq_ignore_ascii_case("base64")) {
        return Err(Fault::expected("a data URI with base64 after a comma"));
    }
    let media_type = match media_type.unwrap_or_default().as_str() {
        "" => return Err(Fault::expected("a data URI that names its media type")),
        // Not a registered type, and refused by most.
        "image/jpg" => "image/jpeg".to_owned(),
        media_type => media_type.to_owned(),
    };
    url.drain(..head_len.saturating_add("data:,".len()));
    Ok(Source::Base64 { media_type, data: url })
}

/// Members of an assistant's message that only OpenAI has.
pub(super) fn own(name: &str, value: Value) -> Part {
    Body::Other {
        dialect: Dialect::Chat,
        value: Value::Object([(name.to_owned(), value)].into_iter().collect()),
    }
    .into()
}
