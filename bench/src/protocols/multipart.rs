//! Multipart bodies, read by a library of their own.

use bytes::Bytes;
use http::HeaderMap;
use serde_json::{Value, json};

/// A part of a form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    pub name: String,
    pub file_name: Option<String>,
    pub content_type: Option<String>,
    pub data: Bytes,
}

/// The parts of a multipart body; `None` for a body of another type.
///
/// # Errors
/// The body is not what its header says.
pub async fn read(headers: &HeaderMap, body: &Bytes) -> Option<Result<Vec<Part>, String>> {
    let content_type = headers.get("content-type")?.to_str().ok()?;
    if !content_type.starts_with("multipart/form-data") {
        return None;
    }
    Some(parts(content_type, body).await.map_err(|error| error.to_string()))
}

async fn parts(content_type: &str, body: &Bytes) -> Result<Vec<Part>, multer::Error> {
    let boundary = multer::parse_boundary(content_type)?;
    let whole = body.clone();
    let stream = futures_util::stream::once(async move { Ok::<_, std::convert::Infallible>(whole) });
    let mut form = multer::Multipart::new(stream, boundary);
    let mut parts = Vec::new();
    while let Some(field) = form.next_field().await? {
        parts.push(Part {
            name: field.name().unwrap_or_default().to_owned(),
            file_name: field.file_name().map(str::to_owned),
            content_type: field.content_type().map(ToString::to_string),
            data: field.bytes().await?,
        });
    }
    Ok(parts)
}

/// As the journal shows them: texts in full, files by their length and digest.
#[must_use]
pub fn shown(parts: &[Part]) -> Value {
    let shown = parts.iter().map(|part| match &part.file_name {
        Some(file) => {
            json!({"name": part.name, "file": file, "type": part.content_type, "length": part.data.len(),
            "digest": crate::said::digest(&String::from_utf8_lossy(&part.data))})
        }
        None => json!({"name": part.name, "text": String::from_utf8_lossy(&part.data)}),
    });
    Value::Array(shown.collect())
}
