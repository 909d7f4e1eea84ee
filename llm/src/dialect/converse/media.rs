//! Images, documents, sound and video: Converse takes bytes or a place in S3, and names formats in its own words.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::dialect::fields::set;
use crate::dialect::request::Source;
use crate::error::{ApiError, mask_secrets};

/// Longest name of a document, bytes (`DocumentBlock.name`).
const MAX_NAME: usize = 200;

const IMAGES: [(&str, &str); 5] = [
    ("image/png", "png"),
    ("image/jpeg", "jpeg"),
    ("image/jpg", "jpeg"),
    ("image/gif", "gif"),
    ("image/webp", "webp"),
];
const DOCUMENTS: [(&str, &str); 10] = [
    ("application/pdf", "pdf"),
    ("text/csv", "csv"),
    ("application/msword", "doc"),
    ("application/vnd.openxmlformats-officedocument.wordprocessingml.document", "docx"),
    ("application/vnd.ms-excel", "xls"),
    ("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", "xlsx"),
    ("text/html", "html"),
    ("text/plain", "txt"),
    ("text/markdown", "md"),
    ("text/x-markdown", "md"),
];
const VIDEOS: [(&str, &str); 9] = [
    ("video/mp4", "mp4"),
    ("video/quicktime", "mov"),
    ("video/x-matroska", "mkv"),
    ("video/webm", "webm"),
    ("video/x-flv", "flv"),
    ("video/mpeg", "mpeg"),
    ("video/mpg", "mpg"),
    ("video/x-ms-wmv", "wmv"),
    ("video/3gpp", "three_gp"),
];

/// 400: content that Converse has no words for.
pub(super) fn refused(message: impl AsRef<str>) -> ApiError {
    ApiError::invalid_request(mask_secrets(message.as_ref()), Some("messages"))
}

pub(super) fn image(source: Source) -> Result<Value, ApiError> {
    let (format, source) = located("image", &IMAGES, source)?;
    Ok(json!({ "image": { "format": format, "source": source } }))
}

pub(super) fn video(source: Source) -> Result<Value, ApiError> {
    let (format, source) = located("video", &VIDEOS, source)?;
    Ok(json!({ "video": { "format": format, "source": source } }))
}

pub(super) fn audio(format: &str, data: &str) -> Value {
    json!({ "audio": { "format": format, "source": { "bytes": data } } })
}

/// Names of the documents of a request: each is another.
#[derive(Debug, Default)]
pub(super) struct Documents {
    names: BTreeSet<String>,
}

impl Documents {
    pub(super) fn block(
        &mut self,
        source: Source,
        name: Option<&str>,
        citations: bool,
        context: Option<String>,
    ) -> Result<Value, ApiError> {
        let (format, source) = match source {
            // Bytes are what every model takes; `source.text` is not.
            Source::Text(text) => ("txt", json!({ "bytes": STANDARD.encode(text) })),
            source => located("document", &DOCUMENTS, source)?,
        };
        let mut document = json!({ "format": format, "name": self.name(name), "source": source });
        if citations {
            set(&mut document, "citations", json!({ "enabled": true }));
        }
        if let Some(context) = context {
            set(&mut document, "context", context);
        }
        Ok(json!({ "document": document }))
    }

    /// A name of letters, digits, single spaces, hyphens, parentheses and brackets, without its ending, used once.
    fn name(&mut self, name: Option<&str>) -> String {
        let name = name.unwrap_or_default();
        let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
        let plain = |c: char| if c.is_ascii_alphanumeric() || "-()[]".contains(c) { c } else { ' ' };
        let plain: String = stem.chars().map(plain).collect();
        let mut words = plain.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
        words.truncate(MAX_NAME.saturating_sub(16));
        let base = match words.trim_end() {
            "" => "document",
            words => words,
        };
        let mut unique = base.to_owned();
        let mut count: u64 = 1;
        while !self.names.insert(unique.clone()) {
            count = count.saturating_add(1);
            unique = format!("{base} {count}");
        }
        unique
    }
}

/// Format and source of a block.
fn located(
    what: &str,
    formats: &'static [(&'static str, &'static str)],
    source: Source,
) -> Result<(&'static str, Value), ApiError> {
    match source {
        Source::Base64 { media_type, data } => {
            let essence = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
            let known = formats.iter().find(|(name, _)| *name == essence);
            let format = known.map(|(_, format)| *format).ok_or_else(|| {
                let known: BTreeSet<&str> = formats.iter().map(|(name, _)| *name).collect();
                let known = known.into_iter().collect::<Vec<_>>().join(", ");
                refused(format!("The model does not take {what} content of type '{essence}', only {known}."))
            })?;
            Ok((format, json!({ "bytes": data })))
        }
        Source::Url(url) if url.starts_with("s3://") => {
            let ending = url.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
            let known = formats
                .iter()
                .find(|(name, format)| *format == ending || name.rsplit('/').next() == Some(ending.as_str()));
            let format = known.map(|(_, format)| *format).ok_or_else(|| {
                refused(format!(
                    "The name of the {what} at '{url}' must end in its format, such as '.{}'.",
                    { formats.first().map_or("", |(_, format)| *format) }
                ))
            })?;
            Ok((format, json!({ "s3Location": { "uri": url } })))
        }
        Source::Url(_) => Err(refused(format!(
            "The model takes {what} content as data or from S3 (`s3://...`) only, not by URL."
        ))),
        Source::File(_) => Err(refused(format!(
            "The model takes {what} content as data or from S3 (`s3://...`) only, not by file id."
        ))),
        Source::Text(_) => Err(refused(format!("The model does not take {what} content as text."))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(media_type: &str) -> Source {
        Source::Base64 { media_type: media_type.into(), data: "AAAA".into() }
    }

    #[test]
    fn formats_are_named() {
        let expected = json!({"image": {"format": "jpeg", "source": {"bytes": "AAAA"}}});
        assert_eq!(image(data("image/JPG; x=1")).unwrap(), expected);
        let expected = json!({"video": {"format": "three_gp", "source": {"bytes": "AAAA"}}});
        assert_eq!(video(data("video/3gpp")).unwrap(), expected);
        let expected =
            json!({"image": {"format": "png", "source": {"s3Location": {"uri": "s3://bucket/a.PNG"}}}});
        assert_eq!(image(Source::Url("s3://bucket/a.PNG".into())).unwrap(), expected);
    }

    #[test]
    fn what_cannot_be_sent_is_refused_by_name() {
        for source in [
            data("image/tiff"),
            Source::Url("https://example.com/a.png".into()),
            Source::Url("s3://bucket/a".into()),
            Source::File("file-1".into()),
            Source::Text("x".into()),
        ] {
            let error = image(source).unwrap_err();
            assert_eq!((error.status, error.param.as_deref()), (400, Some("messages")));
            assert!(error.message.contains("image"), "{}", error.message);
        }
    }

    #[test]
    fn documents_have_fit_names_used_once() {
        let mut documents = Documents::default();
        for (name, expected) in [
            (Some("Q1 report_(final).pdf"), "Q1 report (final)"),
            (Some("Q1  report (final)"), "Q1 report (final) 2"),
            (None, "document"),
            (Some("\u{e9}.pdf"), "document 2"),
            (Some(".pdf"), "document 3"),
        ] {
            let block = documents.block(data("application/pdf"), name, false, None).unwrap();
            assert_eq!(block["document"]["name"], expected);
        }
        let long = "x".repeat(300);
        let block = documents.block(Source::Text("h\u{e9}".into()), Some(&long), true, Some("c".into()));
        let document = &block.unwrap()["document"];
        assert!(document["name"].as_str().unwrap().len() <= MAX_NAME);
        assert_eq!(document["source"], json!({"bytes": "aMOp"}));
        assert_eq!(document["citations"], json!({"enabled": true}));
        assert_eq!((&document["context"], &document["format"]), (&json!("c"), &json!("txt")));
    }
}
