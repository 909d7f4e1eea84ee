//! Where a request carries its virtual key.
//!
//! The SDKs differ: OpenAI's sends `authorization: Bearer`, Anthropic's `x-api-key`, Azure's `api-key`, Google's
//! `x-goog-api-key`, and LiteLLM's users `x-litellm-api-key`. All are read, and all are removed before the request
//! goes on: a gateway key is no business of a provider's.

use sha2::{Digest, Sha256};

use crate::headers::Headers;
use crate::keys::Hash;

/// Longest key worth hashing, bytes.
const MAX_KEY: usize = 1_024;
/// Every virtual key begins with this.
const KEY_PREFIX: &str = "sk-";

/// Headers that may carry the key, in order of preference (LiteLLM's), after the configured one.
pub const KEY_HEADERS: [&str; 5] =
    ["authorization", "x-litellm-api-key", "x-api-key", "api-key", "x-goog-api-key"];

const SUBPROTOCOLS: &str = "sec-websocket-protocol";
/// OpenAI's way for browsers to send a key.
const KEY_SUBPROTOCOL: &str = "openai-insecure-api-key.";
/// Names that speak of the caller's account, as they begin.
const PRIVATE_SUBPROTOCOLS: [&str; 3] = [KEY_SUBPROTOCOL, "openai-organization.", "openai-project."];

/// What a request presents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Presented {
    /// SHA-256 of a virtual key.
    Key(Hash),
    Missing,
    /// `authorization` without `Bearer`, or something that is no virtual key.
    Malformed,
}

/// Reads the key out of a request's headers (names in lower case).
#[must_use]
pub fn presented(headers: &Headers, extra: Option<&str>) -> Presented {
    let mut fallback = Presented::Missing;
    for name in extra.into_iter().chain(KEY_HEADERS) {
        let Some(value) = headers.value(name) else { continue };
        let Ok(value) = std::str::from_utf8(value) else {
            fallback = Presented::Malformed;
            continue;
        };
        let value = value.trim();
        if value.eq_ignore_ascii_case("bearer") {
            continue;
        }
        let bearer = value.get(..7).filter(|scheme| scheme.eq_ignore_ascii_case("bearer "));
        let key = match bearer {
            Some(_) => value.get(7..).unwrap_or_default().trim(),
            None if name == "authorization" && !value.is_empty() => {
                fallback = Presented::Malformed;
                continue;
            }
            None => value,
        };
        if !key.is_empty() {
            return judge(key);
        }
    }
    match subprotocols(headers).find_map(|name| name.strip_prefix(KEY_SUBPROTOCOL)) {
        Some(key) if fallback == Presented::Missing => judge(key),
        _ => fallback,
    }
}

/// Names in `sec-websocket-protocol`.
fn subprotocols(headers: &Headers) -> impl Iterator<Item = &str> {
    let texts = headers.values(SUBPROTOCOLS).filter_map(|value| std::str::from_utf8(value).ok());
    texts.flat_map(|text| text.split(',')).map(str::trim).filter(|name| !name.is_empty())
}

/// Takes off a WebSocket's headers what is for the gateway (`set` gets names with their new values): browsers can set no
/// header but the list of protocols, and OpenAI lets them put the key there. Extensions are not asked for: compressed
/// frames could not be read.
pub fn strip_subprotocols(headers: &Headers, mut set: impl FnMut(&str, Option<&str>)) {
    if !headers.iter().any(|(name, _)| name.starts_with("sec-websocket-")) {
        return;
    }
    set("sec-websocket-extensions", None);
    let private =
        |name: &str| PRIVATE_SUBPROTOCOLS.iter().any(|prefix| name.to_ascii_lowercase().starts_with(prefix));
    if subprotocols(headers).any(private) {
        let rest: Vec<_> = subprotocols(headers).filter(|name| !private(name)).collect();
        set(SUBPROTOCOLS, Some(rest.join(", ").as_str()).filter(|rest| !rest.is_empty()));
    }
}

fn judge(key: &str) -> Presented {
    if !key.starts_with(KEY_PREFIX) || key.len() > MAX_KEY {
        return Presented::Malformed;
    }
    Presented::Key(Sha256::digest(key.as_bytes()).into())
}

/// Headers to take off a request before it goes on.
pub fn key_headers(extra: Option<&str>) -> impl Iterator<Item = &str> {
    extra.into_iter().chain(KEY_HEADERS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(list: &[(&str, &str)]) -> Headers {
        Headers::from(list)
    }

    fn hash_of(key: &str) -> Hash {
        Sha256::digest(key.as_bytes()).into()
    }

    #[test]
    fn every_sdk_finds_its_header() {
        for (name, value) in [
            ("authorization", "Bearer sk-1234567890abcd"),
            ("authorization", "bearer  sk-1234567890abcd "),
            ("x-api-key", "sk-1234567890abcd"),
            ("api-key", "sk-1234567890abcd"),
            ("x-goog-api-key", "sk-1234567890abcd"),
            ("x-litellm-api-key", "Bearer sk-1234567890abcd"),
        ] {
            let found = presented(&headers(&[(name, value)]), None);
            assert_eq!(found, Presented::Key(hash_of("sk-1234567890abcd")), "{name}: {value}");
        }
    }

    #[test]
    fn the_configured_header_wins_and_authorization_comes_next() {
        let both = headers(&[
            ("x-api-key", "sk-third-third"),
            ("authorization", "Bearer sk-second-second"),
            ("x-mine", "sk-first-first"),
        ]);
        assert_eq!(presented(&both, Some("x-mine")), Presented::Key(hash_of("sk-first-first")));
        assert_eq!(presented(&both, None), Presented::Key(hash_of("sk-second-second")));
    }

    #[test]
    fn browsers_put_the_key_among_the_protocols() {
        const OFFER: &str =
            "realtime, openai-insecure-api-key.sk-1234567890abcd,openai-project.p, openai-beta.realtime-v1";
        let sent = headers(&[(SUBPROTOCOLS, OFFER)]);
        assert_eq!(presented(&sent, None), Presented::Key(hash_of("sk-1234567890abcd")));
        let both = headers(&[(SUBPROTOCOLS, OFFER), ("authorization", "Bearer sk-second-second")]);
        assert_eq!(presented(&both, None), Presented::Key(hash_of("sk-second-second")));
        let bad = headers(&[(SUBPROTOCOLS, "realtime, openai-insecure-api-key.nokey")]);
        assert_eq!(presented(&bad, None), Presented::Malformed);

        let stripped = |sent: &Headers| {
            let mut set = Vec::new();
            strip_subprotocols(sent, |name, value| set.push((name.to_owned(), value.map(str::to_owned))));
            set
        };
        let extensions = ("sec-websocket-extensions".to_owned(), None);
        let rest = Some("realtime, openai-beta.realtime-v1".to_owned());
        assert_eq!(stripped(&sent), [extensions.clone(), (SUBPROTOCOLS.to_owned(), rest)]);
        let only = headers(&[(SUBPROTOCOLS, "openai-insecure-api-key.sk-1")]);
        assert_eq!(stripped(&only), [extensions.clone(), (SUBPROTOCOLS.to_owned(), None)]);
        assert_eq!(stripped(&headers(&[("sec-websocket-key", "x")])), [extensions]);
        assert_eq!(stripped(&headers(&[("accept", "x")])), []);
    }

    #[test]
    fn faults_are_told_apart() {
        for (sent, expected) in [
            (&[][..], Presented::Missing),
            (&[("authorization", "Bearer ")], Presented::Missing),
            (&[("authorization", "sk-1234")], Presented::Malformed),
            (&[("authorization", "Basic eA==")], Presented::Malformed),
            (&[("api-key", "0123456789abcdef")], Presented::Malformed),
        ] {
            assert_eq!(presented(&headers(sent), None), expected, "{sent:?}");
        }
        let long = format!("sk-{}", "a".repeat(MAX_KEY));
        assert_eq!(presented(&headers(&[("api-key", &long)]), None), Presented::Malformed);
    }

    #[test]
    fn a_foreign_authorization_does_not_hide_a_good_key() {
        let both = headers(&[("authorization", "Basic eA=="), ("x-api-key", "sk-1234567890abcd")]);
        assert_eq!(presented(&both, None), Presented::Key(hash_of("sk-1234567890abcd")));
    }

    #[test]
    fn bytes_that_are_no_text_are_refused_and_do_not_panic() {
        let odd = Headers::from(&[("authorization", [0xff, 0xfe])][..]);
        assert_eq!(presented(&odd, None), Presented::Malformed);
        assert_eq!(presented(&headers(&[("authorization", "ключключключ")]), None), Presented::Malformed);
    }
}
