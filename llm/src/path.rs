//! Which endpoint a request path means. `/v1/chat/completions`, the same without `/v1`,
//! `/openai/deployments/{model}/chat/completions` and `/engines/{model}/chat/completions` are one endpoint.

use serde::{Deserialize, Serialize};

use crate::dialect::Dialect;
use crate::error::ErrorShape;

/// An LLM endpoint that the gateway forwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Endpoint {
    ChatCompletions,
    Completions,
    Embeddings,
    /// OpenAI's responses.
    Responses,
    /// Anthropic's messages.
    Messages,
    /// Anthropic's `messages/count_tokens`.
    CountTokens,
    /// A response that the provider keeps, by its id.
    StoredResponses,
    ImagesGenerations,
    ImagesEdits,
    ImagesVariations,
    AudioSpeech,
    AudioTranscriptions,
    AudioTranslations,
    Moderations,
    /// Cohere's and Jina's reranking.
    Rerank,
    Files,
    Batches,
    /// OpenAI's realtime sessions over a WebSocket.
    Realtime,
}

/// What a request path says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsedPath {
    pub endpoint: Endpoint,
    /// Model named by the path, percent-decoded. It wins over the body's.
    pub model: Option<String>,
    /// What the path says below the endpoint's own: `/file-1/content`. Empty for most.
    pub rest: String,
}

impl ParsedPath {
    /// Methods that it may be called with.
    #[must_use]
    pub fn methods(&self) -> &'static [&'static str] {
        let below = self.rest.strip_prefix('/').map(|rest| rest.split_once('/').map_or("", |(_, verb)| verb));
        match (self.endpoint, below) {
            (Endpoint::Files | Endpoint::Batches, None) => &["GET", "POST"],
            (Endpoint::Batches, Some(""))
            | (Endpoint::Realtime, _)
            | (_, Some("content" | "input_items")) => &["GET"],
            (_, Some("")) => &["GET", "DELETE"],
            _ => &["POST"],
        }
    }
}

impl Endpoint {
    /// Path below the provider's base path, e.g. `/chat/completions`.
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Self::ChatCompletions => "/chat/completions",
            Self::Completions => "/completions",
            Self::Embeddings => "/embeddings",
            Self::Responses | Self::StoredResponses => "/responses",
            Self::Messages => "/messages",
            Self::CountTokens => "/messages/count_tokens",
            Self::ImagesGenerations => "/images/generations",
            Self::ImagesEdits => "/images/edits",
            Self::ImagesVariations => "/images/variations",
            Self::AudioSpeech => "/audio/speech",
            Self::AudioTranscriptions => "/audio/transcriptions",
            Self::AudioTranslations => "/audio/translations",
            Self::Moderations => "/moderations",
            Self::Rerank => "/rerank",
            Self::Files => "/files",
            Self::Batches => "/batches",
            Self::Realtime => "/realtime",
        }
    }

    /// Is it about things that a provider keeps, whose ids mean something to one account only? Then requests do not go
    /// on elsewhere, and the model is the gateway's to know, not the provider's.
    #[must_use]
    pub fn is_stored(self) -> bool {
        matches!(self, Self::Files | Self::Batches | Self::StoredResponses)
    }

    /// Costs nothing, whatever the model costs.
    #[must_use]
    pub fn is_free(self) -> bool {
        self.is_stored() || self == Self::Moderations
    }

    /// May a request name no model? The sidecar knows the one that is meant then.
    #[must_use]
    pub fn may_omit_model(self) -> bool {
        self.is_free()
    }

    /// What the client speaks, where there is more than one way to say it.
    #[must_use]
    pub fn dialect(self) -> Option<Dialect> {
        match self {
            Self::ChatCompletions => Some(Dialect::Chat),
            Self::Completions => Some(Dialect::Completions),
            Self::Responses => Some(Dialect::Responses),
            Self::Messages => Some(Dialect::Messages),
            _ => None,
        }
    }

    /// Whose shape errors have.
    #[must_use]
    pub fn errors(self) -> ErrorShape {
        match self {
            Self::Messages | Self::CountTokens => ErrorShape::Anthropic,
            _ => ErrorShape::Openai,
        }
    }

    /// The endpoint of a path with or without a query string; `None` for every path that is not one.
    #[must_use]
    pub fn parse(path_with_query: &str) -> Option<ParsedPath> {
        let path = without_query(path_with_query);
        let path = path.strip_suffix('/').unwrap_or(path);
        for base in [path, path.strip_prefix("/v1").unwrap_or(path)] {
            if let Some(rest) =
                base.strip_prefix("/openai/deployments/").or_else(|| base.strip_prefix("/engines/"))
            {
                return with_model(rest);
            }
        }
        let path = path.strip_prefix("/openai").or_else(|| path.strip_prefix("/anthropic")).unwrap_or(path);
        if path == "/v2/rerank" {
            return Some(ParsedPath { endpoint: Self::Rerank, model: None, rest: String::new() });
        }
        let path = path.strip_prefix("/v1").unwrap_or(path);
        match Self::ALL.into_iter().find(|endpoint| endpoint.path() == path) {
            Some(endpoint) => Some(ParsedPath { endpoint, model: None, rest: String::new() }),
            None => stored(path),
        }
    }

    /// `/chat/completions` before `/completions`: the longer suffix is looked for first.
    const ALL: [Self; 17] = [
        Self::ChatCompletions,
        Self::Completions,
        Self::Embeddings,
        Self::Responses,
        Self::CountTokens,
        Self::Messages,
        Self::ImagesGenerations,
        Self::ImagesEdits,
        Self::ImagesVariations,
        Self::AudioSpeech,
        Self::AudioTranscriptions,
        Self::AudioTranslations,
        Self::Moderations,
        Self::Rerank,
        Self::Files,
        Self::Batches,
        Self::Realtime,
    ];
}

/// Things by their id, and what can be done with them.
fn stored(path: &str) -> Option<ParsedPath> {
    const VERBS: [(&str, Endpoint, &[&str]); 3] = [
        ("/files", Endpoint::Files, &["content"]),
        ("/batches", Endpoint::Batches, &["cancel"]),
        ("/responses", Endpoint::StoredResponses, &["cancel", "input_items"]),
    ];
    let (rest, endpoint, verbs) = VERBS.iter().find_map(|(base, endpoint, verbs)| {
        Some((path.strip_prefix(base).filter(|rest| rest.starts_with('/'))?, *endpoint, *verbs))
    })?;
    let (id, verb) = rest.strip_prefix('/').map(|rest| rest.split_once('/').unwrap_or((rest, "")))?;
    // What no id has, a path that means something else elsewhere might: escapes, dots that lead upwards.
    let plain =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'=' | b':' | b'~');
    let named = !id.is_empty() && id.bytes().all(plain) && id.bytes().any(|byte| byte != b'.');
    let known = verb.is_empty() && !rest.ends_with('/') || verbs.contains(&verb);
    (named && known).then(|| ParsedPath { endpoint, model: None, rest: rest.to_owned() })
}

/// `{model}/chat/completions`; the model may hold slashes, written plainly or percent-encoded.
fn with_model(rest: &str) -> Option<ParsedPath> {
    let (endpoint, model) = Endpoint::ALL
        .into_iter()
        .find_map(|endpoint| rest.strip_suffix(endpoint.path()).map(|model| (endpoint, model)))?;
    let model = percent_decode(model)?;
    if model.is_empty() || model.chars().any(char::is_control) {
        return None;
    }
    Some(ParsedPath { endpoint, model: Some(model), rest: String::new() })
}

/// Whose shape errors have on this path, whether it is an endpoint or not.
#[must_use]
pub fn error_shape(path_with_query: &str) -> ErrorShape {
    let path = without_query(path_with_query);
    let anthropic = ["/v1/messages", "/messages", "/anthropic"];
    let of =
        |prefix: &str| path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    if anthropic.into_iter().any(of) { ErrorShape::Anthropic } else { ErrorShape::Openai }
}

/// Paths that belong to the sidecar's admin API, with everything below them: the gate passes them untouched, and the
/// bootstrap routes them to the sidecar.
pub const ADMIN_PREFIXES: [&str; 23] = [
    "/key",
    "/v2/key",
    "/v1/models",
    "/models",
    "/model/info",
    "/v1/model/info",
    "/v2/model/info",
    "/model_group/info",
    "/spend",
    "/global",
    "/health",
    "/team",
    "/v2/team",
    "/user",
    "/v2/user",
    "/budget",
    "/customer",
    "/end_user",
    "/organization",
    "/tag",
    "/provider",
    "/audit",
    "/router",
];

/// Is this a path of the admin API? Whole segments count: `/keys` is not `/key/...`.
#[must_use]
pub fn is_admin(path_with_query: &str) -> bool {
    let path = without_query(path_with_query);
    ADMIN_PREFIXES
        .iter()
        .any(|prefix| path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
}

fn without_query(path: &str) -> &str {
    path.split(['?', '#']).next().unwrap_or_default()
}

/// Values of a query parameter that stand for the model, and the query without them. The model is `None` when it is not
/// named, or not readable.
#[must_use]
pub fn model_of_query(path_with_query: &str) -> (Option<String>, String) {
    let query = path_with_query.split_once('?').map_or("", |(_, query)| query);
    let query = query.split('#').next().unwrap_or_default();
    let (mut model, mut rest) = (None, String::with_capacity(query.len()));
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        match name {
            "model" | "deployment" => {
                let text = percent_decode(&value.replace('+', " "));
                let good = |text: &String| !text.is_empty() && !text.chars().any(char::is_control);
                model = model.or(text.filter(good));
            }
            // The client's word for Azure's version is none for this provider.
            "api-version" => {}
            _ => {
                if !rest.is_empty() {
                    rest.push('&');
                }
                rest.push_str(pair);
            }
        }
    }
    (model, rest)
}

/// Percent-decodes; `None` for a broken escape or a result that is not UTF-8.
#[must_use]
pub fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let high = char::from(bytes.next()?).to_digit(16)?;
            let low = char::from(bytes.next()?).to_digit(16)?;
            out.push(u8::try_from(high.checked_mul(16)?.checked_add(low)?).ok()?);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).ok()
}

/// Percent-encodes everything but RFC 3986's unreserved characters: fit for one path segment.
#[must_use]
pub fn percent_encode(text: &str) -> String {
    const HEX: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.extend(HEX.get(usize::from(byte >> 4)));
            out.extend(HEX.get(usize::from(byte & 15)));
        }
    }
    out
}

#[cfg(test)]
#[path = "path_tests.rs"]
mod tests;
