//! What each provider speaks, strictly: what it would refuse is refused, in its own words.
//!
//! | path behind the upstream's name | protocol |
//! |---|---|
//! | `v1/messages`, `v1/messages/count_tokens` | Anthropic |
//! | `model/{id}/converse`, `converse-stream`, `invoke` | Bedrock |
//! | `v1beta/models/{m}:generateContent`, ... | Gemini |
//! | `v1/projects/{p}/locations/{l}/publishers/google/models/{m}:...` | Vertex |
//! | `v1/projects/{p}/locations/{l}/publishers/anthropic/models/{m}:rawPredict`, `:streamRawPredict` | Claude on Vertex |
//! | `{tenant}/oauth2/v2.0/token`, `token`, nothing | Entra, Google, AWS STS: credentials |
//! | `realtime` with an upgrade | OpenAI's WebSocket |
//! | anything else | OpenAI, Azure under `openai/` |

pub mod anthropic;
mod anthropic_check;
pub mod bedrock;
mod bedrock_check;
pub mod chat;
mod chat_check;
pub mod embeddings;
pub mod files;
pub mod gemini;
mod gemini_check;
mod media;
pub mod multipart;
pub mod openai;
pub mod realtime;
pub mod responses;
mod responses_check;
pub mod sigv4;
pub mod state;
pub mod tokens;

use bytes::Bytes;
use http::{HeaderMap, Method};
use serde_json::{Value, json};

use crate::said::Usage;
use crate::script::{Refusal, Script};
use multipart::Part;
use state::State;

/// A request as it arrived.
#[derive(Debug)]
pub struct Wire<'a> {
    /// The upstream: first segment of the path.
    pub name: &'a str,
    /// The path behind it, without a slash before.
    pub rest: &'a str,
    /// Path and query as received.
    pub uri: &'a str,
    pub query: &'a str,
    pub method: &'a Method,
    pub headers: &'a HeaderMap,
    pub body: &'a Bytes,
    /// The body, if it is JSON; else null.
    pub json: &'a Value,
    /// The body's parts, if it is multipart.
    pub parts: Option<&'a [Part]>,
    pub state: &'a State,
}

impl Wire<'_> {
    /// A header's text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok()).filter(|value| !value.is_empty())
    }

    /// A query parameter as it stands there.
    #[must_use]
    pub fn param(&self, name: &str) -> Option<&str> {
        self.query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    }

    /// The key behind `Bearer `.
    #[must_use]
    pub fn bearer(&self) -> Option<&str> {
        self.header("authorization")
            .and_then(|value| value.strip_prefix("Bearer "))
            .filter(|key| !key.is_empty())
    }

    /// The text field of a multipart body.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        let part = self.parts?.iter().find(|part| part.name == name && part.file_name.is_none())?;
        std::str::from_utf8(&part.data).ok()
    }
}

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    pub status: u16,
    pub message: String,
    pub param: Option<String>,
}

impl Refused {
    #[must_use]
    pub fn new(status: u16, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), param: None }
    }

    /// A 400 that names the field, as `field: what is wrong`.
    #[must_use]
    pub fn field(field: &str, message: impl AsRef<str>) -> Self {
        let message = format!("{field}: {}", message.as_ref());
        Self { status: 400, message, param: Some(field.to_owned()) }
    }
}

pub type Checked<T = ()> = Result<T, Refused>;

/// The pieces of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flow {
    pub content_type: &'static str,
    pub frames: Vec<Bytes>,
    /// What an error inside the stream looks like.
    pub error: Bytes,
    /// What comes after the last event of a good stream.
    pub end: Option<Bytes>,
}

/// A body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Whole {
        content_type: &'static str,
        body: Bytes,
    },
    Stream(Flow),
    /// A WebSocket; [`realtime`] goes on.
    Upgrade,
}

/// What to answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    pub answer: Answer,
    /// The usage object as the provider writes it.
    pub usage: Option<Value>,
    pub prompt: u64,
    pub completion: u64,
}

impl Planned {
    /// A JSON answer that costs nothing.
    #[must_use]
    pub fn json(body: &Value) -> Self {
        let answer = Answer::Whole { content_type: "application/json", body: body.to_string().into() };
        Self { answer, usage: None, prompt: 0, completion: 0 }
    }

    #[must_use]
    pub fn costs(mut self, usage: Usage, told: Value) -> Self {
        (self.prompt, self.completion, self.usage) = (usage.prompt, usage.completion, Some(told));
        self
    }

    /// A stream.
    #[must_use]
    pub fn stream(flow: Flow) -> Self {
        Self { answer: Answer::Stream(flow), usage: None, prompt: 0, completion: 0 }
    }

    #[must_use]
    pub fn is_stream(&self) -> bool {
        matches!(self.answer, Answer::Stream(_))
    }
}

/// Who is played.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Openai,
    Azure,
    Anthropic,
    Bedrock,
    Gemini,
    Vertex,
    VertexAnthropic,
    Entra,
    GoogleTokens,
    Sts,
}

impl Protocol {
    /// The one that a path belongs to. OpenAI and Anthropic list their models at the same one: the latter's clients send
    /// a version.
    #[must_use]
    pub fn of(rest: &str, headers: &HeaderMap) -> Self {
        match rest {
            "v1/models" if headers.contains_key("anthropic-version") => Self::Anthropic,
            "" => Self::Sts,
            "token" => Self::GoogleTokens,
            _ if rest.ends_with("/oauth2/v2.0/token") => Self::Entra,
            "v1/messages" | "v1/messages/count_tokens" => Self::Anthropic,
            _ if rest.starts_with("model/") => Self::Bedrock,
            "v1beta/models" => Self::Gemini,
            _ if rest.starts_with("v1beta/models/") && rest.contains(':') => Self::Gemini,
            _ if rest.contains("/publishers/anthropic/") => Self::VertexAnthropic,
            _ if rest.contains("/publishers/google/") => Self::Vertex,
            _ if rest.starts_with("openai/") => Self::Azure,
            _ => Self::Openai,
        }
    }

    /// The model that the path names.
    #[must_use]
    pub fn model_in_path(self, rest: &str) -> Option<String> {
        let found = match self {
            Self::Azure => rest.strip_prefix("openai/deployments/")?.split('/').next()?,
            Self::Bedrock => rest.strip_prefix("model/")?.split('/').next()?,
            Self::Gemini | Self::Vertex | Self::VertexAnthropic => {
                rest.rsplit_once("/models/")?.1.rsplit_once(':')?.0
            }
            _ => return None,
        };
        Some(percent_decode(found))
    }

    /// The credential.
    ///
    /// # Errors
    /// It is missing, of a wrong scheme, or expired; or there is one too many.
    pub fn authenticate(self, wire: &Wire<'_>) -> Checked {
        match self {
            Self::Openai | Self::Azure => openai::authenticate(wire, self == Self::Azure),
            Self::Anthropic => anthropic::authenticate(wire),
            Self::Bedrock => bedrock::authenticate(wire),
            Self::Gemini => gemini::authenticate(wire),
            Self::Vertex | Self::VertexAnthropic => gemini::authenticate_vertex(wire),
            Self::Entra | Self::GoogleTokens | Self::Sts => Ok(()),
        }
    }

    /// The answer of a good request.
    ///
    /// # Errors
    /// What the provider would refuse.
    pub fn plan(self, wire: &Wire<'_>, model: &str, script: &Script) -> Checked<Planned> {
        match self {
            Self::Openai | Self::Azure => openai::plan(wire, model, self == Self::Azure, script),
            Self::Anthropic => anthropic::plan(wire, model, script, false),
            Self::VertexAnthropic => anthropic::plan(wire, model, script, true),
            Self::Bedrock => bedrock::plan(wire, model, script),
            Self::Gemini => gemini::plan(wire, model, script, false),
            Self::Vertex => gemini::plan(wire, model, script, true),
            Self::Entra => tokens::entra(wire, script),
            Self::GoogleTokens => tokens::google(wire, script),
            Self::Sts => tokens::sts(wire, script),
        }
    }

    /// The body of an error: that of a refusal, or of a script.
    #[must_use]
    pub fn error(self, status: u16, kind: Option<Refusal>, refused: Option<&Refused>) -> Bytes {
        let body = match self {
            Self::Openai | Self::Azure => openai::error(status, kind, refused, self == Self::Azure),
            Self::Anthropic | Self::VertexAnthropic => anthropic::error(status, kind, refused),
            Self::Bedrock => bedrock::error(status, kind, refused),
            Self::Gemini | Self::Vertex => gemini::error(status, kind, refused),
            Self::Entra => tokens::entra_error(status, refused),
            Self::GoogleTokens => tokens::google_error(status, refused),
            Self::Sts => return tokens::sts_error(status, refused).into(),
        };
        body.to_string().into()
    }

    /// Headers that go with an answer of this status.
    #[must_use]
    pub fn headers(self, status: u16, kind: Option<Refusal>) -> Vec<(&'static str, String)> {
        match self {
            Self::Openai | Self::Azure => vec![
                ("openai-version", "2020-10-01".to_owned()),
                ("x-ratelimit-limit-requests", "10000".to_owned()),
                ("x-ratelimit-remaining-requests", "9999".to_owned()),
            ],
            Self::Anthropic => vec![
                ("request-id", "req_011CTfakeProvider".to_owned()),
                ("anthropic-ratelimit-requests-limit", "4000".to_owned()),
                ("anthropic-ratelimit-requests-remaining", "3999".to_owned()),
            ],
            Self::Bedrock => {
                let mut headers =
                    vec![("x-amzn-requestid", "6f2d8c0e-0000-4000-8000-00000fa4e000".to_owned())];
                if status >= 300 {
                    headers.push(("x-amzn-errortype", bedrock::exception(status, kind).to_owned()));
                }
                headers
            }
            _ => Vec::new(),
        }
    }

    /// Media type of an error's body.
    #[must_use]
    pub fn error_type(self) -> &'static str {
        if self == Self::Sts { "text/xml" } else { "application/json" }
    }
}

/// An event with data alone.
#[must_use]
pub fn sse(data: &Value) -> Bytes {
    format!("data: {data}\n\n").into()
}

/// An event that says its type beside the data, too.
#[must_use]
pub fn named_sse(data: &Value) -> Bytes {
    format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap_or_default()).into()
}

/// Percent-decoded; what is no escape stays.
#[must_use]
pub fn percent_decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let escape = tail.get(..2).and_then(|pair| std::str::from_utf8(pair).ok());
        if let Some(byte) =
            escape.filter(|_| first == b'%').and_then(|pair| u8::from_str_radix(pair, 16).ok())
        {
            out.push(byte);
            rest = &tail[2..];
        } else {
            out.push(first);
            rest = tail;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Refuses a member that is not among `known`; `at` says where.
pub(crate) fn only(value: &Value, known: &[&str], refuse: impl Fn(&str) -> Refused) -> Checked {
    let unknown = value.as_object().and_then(|map| map.keys().find(|key| !known.contains(&key.as_str())));
    unknown.map_or(Ok(()), |key| Err(refuse(key)))
}

/// The one member of a union; `None` if there are none or several.
pub(crate) fn sole(value: &Value) -> Option<(&str, &Value)> {
    let map = value.as_object().filter(|map| map.len() == 1)?;
    map.iter().next().map(|(key, inner)| (key.as_str(), inner))
}

/// Is it base64 of something?
pub(crate) fn is_base64(value: &Value) -> bool {
    use base64::Engine as _;
    let decode = |text| base64::engine::general_purpose::STANDARD.decode(text).is_ok();
    value.as_str().is_some_and(|text| !text.is_empty() && decode(text))
}

/// A vector for an embedding, of so many numbers.
pub(crate) fn vector(dimensions: usize) -> Vec<f32> {
    (0..dimensions).map(|i| f32::from(u8::try_from(i % 97).unwrap_or(0)) / 97.0).collect()
}

/// An empty object where a provider wants one.
pub(crate) fn nothing() -> Value {
    json!({})
}

#[cfg(test)]
#[path = "testing.rs"]
pub(crate) mod testing;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_say_who_is_played() {
        let vertex = "v1/projects/p/locations/l/publishers/";
        for (rest, want, model) in [
            ("v1/chat/completions", Protocol::Openai, None),
            ("openai/deployments/gpt-4o/chat/completions", Protocol::Azure, Some("gpt-4o")),
            ("v1/messages", Protocol::Anthropic, None),
            ("model/anthropic.claude-v1%3A0/converse", Protocol::Bedrock, Some("anthropic.claude-v1:0")),
            ("v1beta/models/gemini-2.5-flash:generateContent", Protocol::Gemini, Some("gemini-2.5-flash")),
            (&format!("{vertex}google/models/m:predict"), Protocol::Vertex, Some("m")),
            (&format!("{vertex}anthropic/models/c@1:rawPredict"), Protocol::VertexAnthropic, Some("c@1")),
            ("tenant/oauth2/v2.0/token", Protocol::Entra, None),
            ("token", Protocol::GoogleTokens, None),
            ("", Protocol::Sts, None),
        ] {
            let protocol = Protocol::of(rest, &HeaderMap::new());
            assert_eq!(protocol, want, "{rest}");
            assert_eq!(protocol.model_in_path(rest).as_deref(), model, "{rest}");
        }
    }
}
