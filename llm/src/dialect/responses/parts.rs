//! Parts of a message, and of what a tool gave back.

use serde_json::Value;

use crate::dialect::chat::parts::{document, read_audio, read_cache, read_file_data, read_source, shown};
use crate::dialect::fields::{Fault, Object};
use crate::dialect::request::{Body, Part, Source};

/// A `content` or `output`: text, or an array of parts.
pub(super) fn read_content(value: Value) -> Result<Vec<Part>, Fault> {
    match value {
        Value::String(text) => Ok(vec![Part::text(text)]),
        Value::Array(items) => {
            let one = |(index, item)| read_part(item).map_err(|fault: Fault| fault.item(index));
            items.into_iter().enumerate().map(one).collect()
        }
        _ => Err(Fault::expected("a string or an array of parts")),
    }
}

fn read_part(value: Value) -> Result<Part, Fault> {
    let mut part = Object::of(value)?;
    let cache = read_cache(&mut part)?;
    let kind = part.need_text("type")?;
    let body = match kind.as_str() {
        "input_text" | "output_text" | "text" | "summary_text" => Body::Text(part.need_text("text")?),
        "refusal" => {
            let refusal = part.text("refusal")?;
            Body::Refusal(refusal.or(part.text("text")?).ok_or_else(|| Fault::missing("refusal"))?)
        }
        "input_image" => read_image(&mut part)?,
        "input_file" => read_file(&mut part)?,
        "input_audio" => {
            let mut audio = part.need_object("input_audio")?;
            read_audio(&mut audio).map_err(|fault| fault.within("input_audio"))?
        }
        _ => {
            let fault = Fault::says(format!("'{}' is no part of a message", shown(&kind)));
            return Err(fault.within("type"));
        }
    };
    Ok(Part { body, cache })
}

fn read_image(part: &mut Object) -> Result<Body, Fault> {
    let detail = part.text("detail")?;
    let source = match (part.text("image_url")?, part.text("file_id")?) {
        (Some(url), _) => read_source(url, None).map_err(|fault| fault.within("image_url"))?,
        (None, Some(id)) => Source::File(id),
        (None, None) => return Err(Fault::missing("image_url")),
    };
    Ok(Body::Image { source, detail })
}

fn read_file(part: &mut Object) -> Result<Body, Fault> {
    let name = part.text("filename")?;
    let (data, url) = (part.text("file_data")?, part.text("file_url")?);
    let source = match (data, url, part.text("file_id")?) {
        (Some(data), ..) => {
            read_file_data(data, None, name.as_deref()).map_err(|fault| fault.within("file_data"))?
        }
        (None, Some(url), _) => read_source(url, None).map_err(|fault| fault.within("file_url"))?,
        (None, None, Some(id)) => Source::File(id),
        (None, None, None) => return Err(Fault::missing("file_data")),
    };
    Ok(document(source, name))
}
