//! A request without a connection.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::Value;

use super::{Answer, Checked, Planned, Protocol, Wire, state::State};
use crate::script::Script;

/// What a test sends.
pub(crate) struct Sent {
    pub(crate) uri: String,
    pub(crate) method: Method,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) state: State,
}

impl Sent {
    /// A POST of JSON; the path has the upstream's name before it.
    pub(crate) fn json(uri: &str, body: &Value) -> Self {
        Self::new(uri, body.to_string(), "application/json")
    }

    pub(crate) fn new(uri: &str, body: String, content_type: &'static str) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_static(content_type));
        headers.insert("host", HeaderValue::from_static("fake.test"));
        Self { uri: uri.into(), method: Method::POST, headers, body: body.into(), state: State::default() }
    }

    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.insert(HeaderName::from_static(name), value.parse().unwrap());
        self
    }

    fn with<T>(&self, then: impl FnOnce(Protocol, &Wire<'_>) -> T) -> T {
        let json = serde_json::from_slice(&self.body).unwrap_or(Value::Null);
        let (path, query) = self.uri.split_once('?').unwrap_or((&self.uri, ""));
        let (name, rest) = path.trim_start_matches('/').split_once('/').unwrap();
        let wire = Wire {
            name,
            rest,
            uri: &self.uri,
            query,
            method: &self.method,
            headers: &self.headers,
            body: &self.body,
            json: &json,
            parts: None,
            state: &self.state,
        };
        then(Protocol::of(rest, &self.headers), &wire)
    }

    pub(crate) fn authenticate(&self) -> Checked {
        self.with(Protocol::authenticate)
    }

    pub(crate) fn plan(&self, directives: &str) -> Checked<Planned> {
        let script = Script::default().with(directives).unwrap();
        self.with(|protocol, wire| {
            let in_body = wire.json["model"].as_str().map(str::to_owned);
            let model = protocol.model_in_path(wire.rest).or(in_body).unwrap_or_default();
            protocol.plan(wire, &model, &script)
        })
    }

    /// The answer's JSON.
    pub(crate) fn answer(&self, directives: &str) -> Value {
        match self.plan(directives).unwrap().answer {
            Answer::Whole { body, .. } => serde_json::from_slice(&body).unwrap(),
            other => panic!("not a whole answer: {other:?}"),
        }
    }

    /// The frames of the stream.
    pub(crate) fn frames(&self, directives: &str) -> Vec<Bytes> {
        match self.plan(directives).unwrap().answer {
            Answer::Stream(flow) => flow.frames,
            other => panic!("not a stream: {other:?}"),
        }
    }

    /// The data of the stream's server-sent events.
    pub(crate) fn events(&self, directives: &str) -> Vec<Value> {
        let frames = self.frames(directives);
        let data = frames.iter().map(|frame| {
            let text = std::str::from_utf8(frame).unwrap();
            let data = text.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
            serde_json::from_str(data).unwrap()
        });
        data.collect()
    }

    /// Why it is refused.
    pub(crate) fn refusal(&self) -> String {
        let refused = self.plan("").expect_err("it is not refused");
        assert_eq!(refused.status, 400, "{refused:?}");
        refused.message
    }
}

/// `base` with members set (null removes one).
pub(crate) fn changed(base: &Value, changes: Value) -> Value {
    let mut body = base.clone();
    for (key, value) in changes.as_object().unwrap() {
        if value.is_null() {
            body.as_object_mut().unwrap().remove(key);
        } else {
            body[key] = value.clone();
        }
    }
    body
}

/// A weather tool's schema.
pub(crate) fn city() -> Value {
    serde_json::json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]})
}
