use serde_json::Value;

use crate::error::{envelope, kind_of_status, mask_secrets};
use crate::json::{self, Member};

use super::classify::is_refusal;
use super::said::{Said, error_body};

/// Longest message taken from an upstream, characters.
const MAX_MESSAGE: usize = 2_000;
/// Largest error body kept verbatim, bytes.
pub(super) const MAX_VERBATIM: usize = 64 * 1024;

/// An error that an upstream reported in its body.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UpstreamError {
    /// Masked and bounded.
    pub message: String,
    pub kind: Option<String>,
    pub code: Option<String>,
    /// HTTP status that fits the error (from its code or kind, 400 if its words refuse the prompt); 502 when nothing
    /// tells.
    pub status: u16,
    /// OpenAI-shaped JSON body for the client.
    pub body: Vec<u8>,
}

impl UpstreamError {
    /// An error in a provider's own words: its kind and code, where it says any.
    #[must_use]
    pub fn new(message: &str, kind: Option<&str>, code: Option<&str>) -> Self {
        Self::build(message, kind.map(bounded), code.map(bounded), None)
    }

    /// The same, with the status that the provider says.
    #[must_use]
    pub fn with_status(self, status: u16) -> Self {
        Self { status, ..self }
    }

    /// The error that a document or the data of an event is, if it is one.
    #[must_use]
    pub fn of_document(data: &[u8]) -> Option<Self> {
        Self::of_members(data, &json::members(data)?)
    }

    /// The error of a document, by its top-level members: an `error` that says something, or `object: "error"`
    /// (older vLLM).
    pub(super) fn of_members(data: &[u8], members: &[Member<'_>]) -> Option<Self> {
        let find = |name: &str| {
            let member = members.iter().rev().find(|member| member.key == name)?;
            data.get(member.value.clone())
        };
        let nothing = |raw: &[u8]| matches!(raw, b"null" | b"false" | b"\"\"" | b"{}");
        if let Some(raw) = find("error").filter(|raw| !nothing(raw)) {
            // An error that came in a chunk of completion goes on without the rest of the chunk.
            let verbatim = match find("choices") {
                None => openai_shaped(data),
                Some(_) => openai_shaped(&[b"{\"error\":", raw, b"}"].concat()),
            };
            // `{"error": "text", "code": 429}`: what the error itself does not say may stand beside it.
            let beside = |name| find(name).and_then(|raw| plain(&serde_json::from_slice(raw).ok()?));
            return Some(Self::of_json(raw, verbatim, beside("code")));
        }
        (find("object") == Some(b"\"error\"")).then(|| Self::of_json(data, None, None))
    }

    /// The data of an `event: error`, or what should have been JSON.
    #[must_use]
    pub fn of_text(text: &[u8]) -> Self {
        Self::of_json(text, None, None)
    }

    /// An error in a provider's own document (Anthropic's, Google's, AWS's, ...): `status` where the transport said one.
    #[must_use]
    pub fn of_provider(status: Option<u16>, document: &[u8]) -> Self {
        let said = Said::read(document);
        let status = status.unwrap_or_else(|| said.status());
        let body = error_body(status, document);
        Self { message: mask_secrets(&said.message), kind: said.kind, code: said.code, status, body }
    }

    /// `raw`: the error itself, JSON or text; `verbatim`: the body for the client if there is one already.
    fn of_json(raw: &[u8], verbatim: Option<Vec<u8>>, code: Option<String>) -> Self {
        let value = serde_json::from_slice::<Value>(raw).unwrap_or(Value::Null);
        let word = |name: &str| value.get(name).and_then(plain);
        let message = plain(&value).or_else(|| word("message")).or_else(|| word("detail"));
        let message = message.unwrap_or_else(|| String::from_utf8_lossy(raw).into_owned());
        Self::build(&message, word("type"), word("code").or(code), verbatim)
    }

    fn build(message: &str, kind: Option<String>, code: Option<String>, verbatim: Option<Vec<u8>>) -> Self {
        let message = mask_secrets(&bounded(message));
        let status = status_of(code.as_deref(), kind.as_deref())
            .unwrap_or_else(|| if is_refusal(&message) { 400 } else { 502 });
        let body = verbatim.unwrap_or_else(|| {
            let shown_code = code.clone().unwrap_or_else(|| status.to_string());
            envelope(
                &message,
                kind.as_deref().unwrap_or_else(|| kind_of_status(status)),
                None,
                Some(&shown_code),
            )
        });
        Self { message, kind, code, status, body }
    }
}

/// A string, or a number as one, of bounded length.
pub(super) fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(bounded(text)),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

pub(super) fn bounded(text: &str) -> String {
    let text = text.trim();
    let mut out: String = text.chars().take(MAX_MESSAGE).collect();
    if out.len() < text.len() {
        out.push_str("...");
    }
    out
}

/// HTTP status for an error that came inside HTTP 200.
pub(super) fn status_of(code: Option<&str>, kind: Option<&str>) -> Option<u16> {
    let number = code.and_then(|code| code.parse::<u16>().ok()).filter(|code| (400..600).contains(code));
    number.or_else(|| code.and_then(status_of_word)).or_else(|| kind.and_then(status_of_word))
}

fn status_of_word(word: &str) -> Option<u16> {
    let word = word.to_ascii_lowercase();
    let table: [(&[&str], u16); 12] = [
        // The filter itself failed, not the prompt.
        (&["content_filter_error"], 500),
        // Bedrock: its model failed.
        (&["modelstreamerror", "modelerror"], 502),
        (&["rate_limit", "ratelimit", "quota", "throttl", "too_many", "resource_exhausted"], 429),
        (&["overloaded", "unavailable", "capacity"], 503),
        (&["timeout", "deadline_exceeded"], 504),
        (&["authentication", "invalid_api_key", "unauthorized", "unauthenticated"], 401),
        (&["permission", "forbidden", "accessdenied", "unrecognizedclient", "expiredtoken"], 403),
        (&["not_found", "notfound"], 404),
        (&["context_length", "content_policy", "content_filter", "badrequest"], 400),
        (&["invalid_request", "invalid_value", "bad_request", "invalid_argument"], 400),
        (&["validationexception", "failed_precondition"], 400),
        (&["server_error", "internal", "api_error"], 500),
    ];
    table.iter().find(|(parts, _)| parts.iter().any(|part| word.contains(part))).map(|(_, status)| *status)
}

/// The document as it is (secrets masked) if it has OpenAI's shape: `error` is an object with a `message` string.
pub(super) fn openai_shaped(document: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(document).ok().filter(|text| text.len() <= MAX_VERBATIM)?;
    let members = json::members(document)?;
    let error = members.iter().rev().find(|member| member.key == "error")?;
    // A real parser has the last word: what goes out under `application/json` must be JSON.
    serde_json::from_str::<serde::de::IgnoredAny>(text).ok()?;
    let error = document.get(error.value.clone())?;
    let message = json::members(error)?.into_iter().rev().find(|member| member.key == "message")?;
    error.get(message.value)?.starts_with(b"\"").then(|| mask_secrets(text).into_bytes())
}
