//! A request on its way in: it may go on when its key is known *and* its body is whole, in whichever order the two
//! come. No host calls here; the gate and its root context drive it.

use std::rc::Rc;

use attache_llm::contract::{Ask, KeyRecord};
use attache_llm::error::ApiError;
use attache_llm::path::Endpoint;
use attache_llm::scan::Scanned;
use attache_llm::wishes;

use crate::keys::Hash;
use crate::requests::{Origin, Passes, Request};

/// State of the key.
#[derive(Debug, Clone)]
pub enum Key {
    Asked(Hash),
    Known(Rc<KeyRecord>),
    /// Refused, for this or another reason. The reply waits for the end of the body: a client that is still sending
    /// would see a reset connection in its place.
    Refused(ApiError),
}

/// What to do next.
#[derive(Debug)]
pub enum Step {
    Wait,
    Refuse(ApiError),
    /// Ask the sidecar, and keep the facts for the adapter.
    Forward(Box<Request>, Box<Ask>),
}

/// A request before it goes on.
#[derive(Debug)]
pub struct Intake {
    pub call_id: String,
    pub request_id: String,
    pub endpoint: Endpoint,
    /// Model named by the path; it wins over the body's (Azure's SDK sends both).
    pub path_model: Option<String>,
    pub origin: Origin,
    /// Headers that speak to the gateway ([`wishes::HEADERS`]).
    pub wishes: Vec<(String, String)>,
    /// The caller asks for the decision, not for an answer.
    pub explain: bool,
    pub start_us: u64,
    pub key: Key,
    /// Body bytes held.
    pub buffered: usize,
    /// Body bytes of a refused request thrown away.
    pub dropped: u64,
    pub body: Option<Result<Scanned, ApiError>>,
}

impl Intake {
    /// Goes on as far as possible. After anything but [`Step::Wait`] the intake is spent.
    pub fn step(&mut self) -> Step {
        if self.body.is_none() {
            return Step::Wait;
        }
        let key = match &self.key {
            Key::Asked(_) => return Step::Wait,
            Key::Refused(error) => return Step::Refuse(error.clone()),
            Key::Known(key) => key,
        };
        let Some(body) = self.body.take() else { return Step::Wait };
        let wished = |name: &str| {
            let found = self.wishes.iter().find(|(header, _)| header == name);
            found.map(|(_, value)| value.as_str())
        };
        let judged = body.and_then(|mut scan| {
            wishes::from_headers(wished, &mut scan.wishes)?;
            Ok((scan.model_or(self.path_model.as_deref())?, scan))
        });
        let (model, scan) = match judged {
            Ok(judged) => judged,
            Err(error) => return Step::Refuse(error),
        };
        let request = Request {
            call_id: std::mem::take(&mut self.call_id),
            key: Rc::clone(key),
            endpoint: self.endpoint,
            model,
            scan,
            origin: std::mem::take(&mut self.origin),
            explain: self.explain,
            start_us: self.start_us,
            request_id: std::mem::take(&mut self.request_id),
            first_event_us: None,
            attempts: Vec::new(),
            headers_set: Vec::new(),
            passes: Passes::default(),
            kept: None,
        };
        let ask = Box::new(request.ask(None));
        Step::Forward(Box::new(request), ask)
    }
}

/// May a request with this key go on? The error comes with its label for `attache.auth`.
pub fn admit(record: &KeyRecord, now_ms: u64) -> Result<(), (ApiError, &'static str)> {
    if record.blocked {
        return Err((ApiError::blocked_key(), "blocked"));
    }
    if record.expires_ms.is_some_and(|expires| expires <= now_ms) {
        return Err((ApiError::expired_key(&record.name), "expired"));
    }
    Ok(())
}

/// The question as a header value: JSON on one line, every character outside printable ASCII as `\uXXXX`.
#[must_use]
pub fn ask_header(ask: &Ask) -> Option<String> {
    let json = serde_json::to_string(ask).ok()?;
    if json.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
        return Some(json);
    }
    let mut escaped = String::with_capacity(json.len().saturating_mul(2));
    let mut units = [0; 2];
    for c in json.chars() {
        if matches!(c, ' '..='~') {
            escaped.push(c);
        } else {
            for unit in c.encode_utf16(&mut units) {
                escaped.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    Some(escaped)
}

#[cfg(test)]
#[path = "intake_tests.rs"]
mod tests;
