//! What is sent: everything but the key is made once.

use std::hash::BuildHasher;
use std::io::Write;
use std::path::Path;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Request, Version};
use serde_json::json;

use super::target::Target;

/// Headers that the generator sets itself.
const OWN: [&str; 6] =
    ["authorization", "connection", "content-length", "content-type", "host", "transfer-encoding"];

/// A request without its key.
#[derive(Debug)]
pub(super) struct Template {
    /// HTTP/1.1: request line and headers, without the blank line.
    head: Vec<u8>,
    /// HTTP/2: the same.
    request: Request<()>,
    pub body: Bytes,
}

impl Template {
    pub(super) fn new(
        target: &Target,
        headers: &[(HeaderName, HeaderValue)],
        body: Bytes,
    ) -> Result<Self, String> {
        let mut head = Vec::new();
        let mut line = |parts: &[&[u8]]| {
            parts.iter().for_each(|part| head.extend_from_slice(part));
            head.extend_from_slice(b"\r\n");
        };
        line(&[b"POST ", target.path.as_bytes(), b" HTTP/1.1"]);
        line(&[b"host: ", target.authority.as_bytes()]);
        line(&[b"content-type: application/json"]);
        line(&[b"content-length: ", body.len().to_string().as_bytes()]);
        let mut request = Request::post(target.url())
            .version(Version::HTTP_2)
            .header(CONTENT_TYPE, "application/json")
            .header(CONTENT_LENGTH, body.len());
        for (name, value) in headers {
            line(&[name.as_str().as_bytes(), b": ", value.as_bytes()]);
            request = request.header(name, value);
        }
        let request = request.body(()).map_err(|error| format!("{}: {error}", target.url()))?;
        Ok(Self { head, request, body })
    }

    /// Writes the head of an HTTP/1.1 request over what is in `out`.
    pub(super) fn head(&self, key: &[u8], out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(&self.head);
        if !key.is_empty() {
            out.extend_from_slice(b"authorization: Bearer ");
            out.extend_from_slice(key);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"\r\n");
    }

    /// The head of an HTTP/2 request.
    pub(super) fn request(&self, key: &[u8]) -> Request<()> {
        let mut request = self.request.clone();
        // Keys were checked when they were read.
        if !key.is_empty()
            && let Ok(value) = HeaderValue::from_bytes(&[b"Bearer ", key].concat())
        {
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        request
    }
}

/// A header from the command line, `name: value`.
pub(super) fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("want `name: value`")?;
    let name = HeaderName::try_from(name.trim()).map_err(|error| error.to_string())?;
    if OWN.contains(&name.as_str()) {
        return Err(format!("the generator sets `{name}` itself"));
    }
    Ok((name, HeaderValue::try_from(value.trim()).map_err(|error| error.to_string())?))
}

/// A chat completion of about so many bytes.
pub(super) fn chat(model: &str, bytes: usize, stream: bool) -> Bytes {
    let mut body = json!({"model": model, "messages": [{"role": "user", "content": ""}]});
    if stream {
        body["stream"] = json!(true);
    }
    let padding = bytes.saturating_sub(body.to_string().len());
    body["messages"][0]["content"] = json!("lorem ipsum ".chars().cycle().take(padding).collect::<String>());
    Bytes::from(body.to_string())
}

/// Who asks.
#[derive(Debug)]
pub(super) enum Keys {
    One(String),
    /// One per request, in order.
    Listed(Vec<String>),
    /// One per request, made up: the number of the request with this salt.
    Random(u64),
}

impl Keys {
    pub(super) fn one(key: &str) -> Result<Self, String> {
        check(key).map_err(|why| format!("--key: {why}"))?;
        Ok(Self::One(key.to_owned()))
    }

    pub(super) fn file(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        let text = std::fs::read_to_string(path).map_err(|error| format!("--keys {shown}: {error}"))?;
        let keys: Vec<String> = text.lines().map(str::to_owned).collect();
        if keys.is_empty() {
            return Err(format!("--keys {shown}: no key in it"));
        }
        for (at, key) in keys.iter().enumerate() {
            check(key).map_err(|why| format!("--keys {shown}, line {}: {why}", at + 1))?;
        }
        Ok(Self::Listed(keys))
    }

    pub(super) fn random() -> Self {
        Self::Random(std::hash::RandomState::new().hash_one(0))
    }

    /// How many requests there are keys for.
    pub(super) fn count(&self) -> Option<usize> {
        match self {
            Self::Listed(keys) => Some(keys.len()),
            Self::One(_) | Self::Random(_) => None,
        }
    }

    /// Writes the key of a request over what is in `out`.
    pub(super) fn write(&self, number: usize, out: &mut Vec<u8>) {
        out.clear();
        match self {
            Self::One(key) => out.extend_from_slice(key.as_bytes()),
            Self::Listed(keys) => out.extend_from_slice(keys.get(number).map_or(b"", |key| key.as_bytes())),
            // A vector takes whatever is written.
            Self::Random(salt) => drop(write!(out, "sk-{salt:016x}{number:016x}")),
        }
    }
}

fn check(key: &str) -> Result<(), &'static str> {
    HeaderValue::from_str(key).map(drop).map_err(|_| "characters that a header cannot have")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_say_the_same() {
        let target = Target::of_url("http://127.0.0.1:4000/v1", None).unwrap();
        let headers = [header("X-Fake-Script: openai=chunks:3").unwrap()];
        let template = Template::new(&target, &headers, chat("m", 100, true)).unwrap();
        let mut head = b"old".to_vec();
        template.head(b"sk-1", &mut head);
        let text = String::from_utf8(head).unwrap();
        assert!(text.starts_with("POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:4000\r\n"), "{text}");
        assert!(
            text.ends_with("\r\nx-fake-script: openai=chunks:3\r\nauthorization: Bearer sk-1\r\n\r\n"),
            "{text}"
        );
        assert!(text.contains("\r\ncontent-length: 100\r\n"), "{text}");
        let request = template.request(b"sk-1");
        assert_eq!(request.uri(), "http://127.0.0.1:4000/v1/chat/completions");
        assert_eq!(request.headers()["authorization"], "Bearer sk-1");
        assert_eq!(request.headers()["content-length"], "100");
        assert_eq!(request.headers()["x-fake-script"], "openai=chunks:3");
        assert!(!template.request(b"").headers().contains_key("authorization"));
    }

    #[test]
    fn every_request_has_its_key() {
        let keys = Keys::Listed(vec!["a".into(), "b".into()]);
        let mut key = Vec::new();
        keys.write(1, &mut key);
        assert_eq!((key.as_slice(), keys.count()), (b"b".as_slice(), Some(2)));
        Keys::Random(5).write(255, &mut key);
        assert_eq!(key, b"sk-000000000000000500000000000000ff");
    }

    #[test]
    fn headers_are_checked() {
        assert!(header("x-a").unwrap_err().contains("name: value"));
        assert!(header("Host: other").unwrap_err().contains("sets `host` itself"));
        assert!(Keys::one("a\nb").unwrap_err().contains("--key"));
    }
}
