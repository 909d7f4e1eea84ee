//! Which endpoint a request path means. `/v1/chat/completions`, the same without `/v1`,
//! `/openai/deployments/{model}/chat/completions` and `/engines/{model}/chat/completions` are one endpoint.

use serde::{Deserialize, Serialize};

/// An LLM endpoint that the gateway forwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Endpoint {
    ChatCompletions,
    Completions,
    Embeddings,
}

/// What a request path says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsedPath {
    pub endpoint: Endpoint,
    /// Model named by the path, percent-decoded. It wins over the body's.
    pub model: Option<String>,
}

impl Endpoint {
    /// Path below the provider's base path, e.g. `/chat/completions`.
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Self::ChatCompletions => "/chat/completions",
            Self::Completions => "/completions",
            Self::Embeddings => "/embeddings",
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
        let path = path.strip_prefix("/openai").unwrap_or(path);
        let path = path.strip_prefix("/v1").unwrap_or(path);
        let endpoint = Self::ALL.into_iter().find(|endpoint| endpoint.path() == path)?;
        Some(ParsedPath { endpoint, model: None })
    }

    /// `/chat/completions` before `/completions`: the longer suffix is looked for first.
    const ALL: [Self; 3] = [Self::ChatCompletions, Self::Completions, Self::Embeddings];
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
    Some(ParsedPath { endpoint, model: Some(model) })
}

/// Paths that belong to the sidecar's admin API, with everything below them: the gate passes them untouched, and the
/// bootstrap routes them to the sidecar.
pub const ADMIN_PREFIXES: [&str; 16] = [
    "/key",
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
    "/user",
    "/budget",
    "/customer",
    "/organization",
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
