//! How a request is to be read: what its body is, and which model it names where no body does.

use attache_llm::error::ApiError;
use attache_llm::path::{self, Endpoint, ParsedPath};
use attache_llm::scan::{BodyScan, FormScan, ScanLimits, Scanned, multipart};
use attache_llm::wishes;
use proxy_wasm::types::BufferType;

use crate::headers::Headers;
use crate::host;

/// LiteLLM's header for the model of a request about files and batches.
const MODEL_HEADER: &str = "x-litellm-model";
/// Bytes of a body looked at at once. WASM memory never shrinks, so a body is never copied whole.
const SLICE: usize = 64 * 1024;

/// What the body of a request is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Reading {
    #[default]
    Json,
    /// JSON whose model is for the gateway alone.
    Unnamed,
    /// A form with this boundary; `unnamed` as above.
    Form { boundary: String, unnamed: bool },
    /// Nothing that is looked into, or none at all.
    Opaque,
    /// A WebSocket: what follows the headers is no body.
    Session,
}

impl Reading {
    /// By path and headers.
    ///
    /// # Errors
    /// 400 for a form that does not say where its parts end, and for a session that is no WebSocket.
    pub(super) fn of(headers: &Headers, parsed: &ParsedPath) -> Result<Self, ApiError> {
        use Endpoint::{AudioTranscriptions, AudioTranslations, Files, ImagesEdits, ImagesVariations};
        let endpoint = parsed.endpoint;
        if endpoint == Endpoint::Realtime {
            let upgrade = headers.find("upgrade").unwrap_or_default();
            if upgrade.eq_ignore_ascii_case("websocket") {
                return Ok(Self::Session);
            }
            let message = "This endpoint is a WebSocket: the request must ask for that upgrade (HTTP/1.1).";
            return Err(ApiError::invalid_request(message, Some("upgrade")));
        }
        if headers.find(":method") != Some("POST") || !parsed.rest.is_empty() {
            return Ok(Self::Opaque);
        }
        let unnamed = endpoint.is_stored();
        let takes_forms = [AudioTranscriptions, AudioTranslations, Files, ImagesEdits, ImagesVariations]
            .contains(&endpoint);
        let kind = headers.find("content-type").unwrap_or_default();
        match multipart::boundary(kind).filter(|_| takes_forms) {
            Some(Some(boundary)) => Ok(Self::Form { boundary, unnamed }),
            Some(None) => {
                let message = "Invalid header 'content-type': the multipart form has no usable boundary.";
                Err(ApiError::invalid_request(message, Some("content-type")))
            }
            None if unnamed => Ok(Self::Unnamed),
            None => Ok(Self::Json),
        }
    }

    /// Reads the body of `len` bytes that Envoy holds.
    ///
    /// # Errors
    /// 400: it is not what it should be.
    pub(super) fn scan(&self, len: usize) -> Result<Scanned, ApiError> {
        let limits = |cut_model| ScanLimits { cut_model, ..ScanLimits::default() };
        match self {
            Self::Opaque | Self::Session => Ok(Scanned::opaque(len)),
            Self::Json | Self::Unnamed => {
                let mut scan = BodyScan::new(limits(*self == Self::Unnamed));
                slices(len, |slice| Ok(scan.feed(slice)?))?;
                Ok(scan.finish()?)
            }
            Self::Form { boundary, unnamed } => {
                let mut scan = FormScan::new(boundary, limits(*unnamed));
                slices(len, |slice| Ok(scan.feed(slice)?))?;
                Ok(scan.finish()?)
            }
        }
    }
}

fn slices(len: usize, mut read: impl FnMut(&[u8]) -> Result<(), ApiError>) -> Result<(), ApiError> {
    let mut start = 0_usize;
    while start < len {
        let slice = host::body(BufferType::HttpRequestBody, start, SLICE.min(len.saturating_sub(start)));
        if slice.is_empty() {
            break;
        }
        start = start.saturating_add(slice.len());
        read(&slice)?;
    }
    Ok(())
}

/// The model that path, query or a header name: it wins over the body's.
pub(super) fn model_beside_body(headers: &Headers, path: &str, parsed: &ParsedPath) -> Option<String> {
    if parsed.model.is_some() {
        return parsed.model.clone();
    }
    if !parsed.endpoint.is_stored() && parsed.endpoint != Endpoint::Realtime {
        return None;
    }
    let header = headers.find(MODEL_HEADER).map(str::trim).filter(|name| !name.is_empty());
    header.map(str::to_owned).or_else(|| path::model_of_query(path).0)
}

/// `content-length`; 0 when the body is chunked.
pub(super) fn declared_length(headers: &Headers) -> u64 {
    headers.find("content-length").and_then(|value| value.parse().ok()).unwrap_or(0)
}

/// Values of the headers that speak to the gateway.
pub(super) fn wished(headers: &Headers) -> Vec<(String, String)> {
    let found = wishes::HEADERS.iter().filter_map(|name| Some((*name, headers.find(name)?)));
    found.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// The header that names the end user.
pub(super) fn end_user(headers: &Headers, more: &[String]) -> Option<(String, String)> {
    let names = wishes::END_USER_HEADERS.into_iter().chain(more.iter().map(String::as_str));
    let said = |name: &str| headers.find(name).map(str::trim).filter(|value| !value.is_empty());
    names.into_iter().find_map(|name| Some((name.to_owned(), said(name)?.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(list: &[(&str, &str)]) -> Headers {
        Headers::from(list)
    }

    fn reading(method: &str, path: &str, more: &[(&str, &str)]) -> Result<Reading, ApiError> {
        let sent = headers(&[&[(":method", method)], more].concat());
        Reading::of(&sent, &Endpoint::parse(path).unwrap())
    }

    #[test]
    fn bodies_by_path_and_type() {
        const FORM: (&str, &str) = ("content-type", "multipart/form-data; boundary=x");
        let form = |unnamed| Reading::Form { boundary: "x".into(), unnamed };
        let sent = |method, path, more: &[_]| reading(method, path, more).unwrap();
        assert_eq!(sent("POST", "/v1/audio/transcriptions", &[FORM]), form(false));
        assert_eq!(sent("POST", "/v1/files", &[FORM]), form(true));
        assert_eq!(sent("POST", "/v1/images/edits", &[]), Reading::Json);
        // Nobody expects a form there: it is no JSON.
        assert_eq!(sent("POST", "/v1/chat/completions", &[FORM]), Reading::Json);
        assert_eq!(sent("POST", "/v1/batches", &[]), Reading::Unnamed);
        assert_eq!(sent("POST", "/v1/batches/b/cancel", &[]), Reading::Opaque);
        assert_eq!(sent("GET", "/v1/files", &[]), Reading::Opaque);
        assert_eq!(sent("DELETE", "/v1/responses/r", &[]), Reading::Opaque);
        let broken = reading("POST", "/v1/files", &[("content-type", "multipart/form-data")]).unwrap_err();
        assert_eq!((broken.status, broken.param.as_deref()), (400, Some("content-type")));
        assert_eq!(sent("GET", "/v1/realtime", &[("upgrade", "WebSocket")]), Reading::Session);
        assert_eq!(reading("GET", "/v1/realtime", &[]).unwrap_err().param.as_deref(), Some("upgrade"));
    }

    #[test]
    fn models_beside_the_body() {
        let model =
            |path: &str, more: &[_]| model_beside_body(&headers(more), path, &Endpoint::parse(path).unwrap());
        let header = [(MODEL_HEADER, " h ")];
        assert_eq!(model("/v1/files/f?model=q", &[]).as_deref(), Some("q"));
        assert_eq!(model("/v1/files/f?model=q", &header).as_deref(), Some("h"));
        assert_eq!(model("/v1/realtime?model=q", &[]).as_deref(), Some("q"));
        assert_eq!(model("/v1/files", &[]), None);
        assert_eq!(model("/openai/deployments/d/audio/speech?model=q", &header).as_deref(), Some("d"));
        // Elsewhere the body says it.
        assert_eq!(model("/v1/chat/completions?model=q", &header), None);
    }
}
