//! A request on its way in: it may go on when its key is known *and* its body is whole, in whichever order the two
//! come. No host calls here; the gate and its root context drive it.

use std::rc::Rc;

use attache_llm::contract::{Ask, KeyRecord};
use attache_llm::error::ApiError;
use attache_llm::path::Endpoint;
use attache_llm::scan::Scanned;
use attache_llm::wishes;
use serde_json::value::{RawValue, to_raw_value};

use crate::identity;
use crate::keys::{Caller, Hash, Joined, KeyTable, Known};
use crate::requests::{Origin, Passes, Request};
use crate::said;

/// State of the key.
#[derive(Debug, Clone)]
pub enum Key {
    Asked(Asked),
    Known(Rc<KeyRecord>),
    /// Refused, for this or another reason. The reply waits for the end of the body: a client that is still sending
    /// would see a reset connection in its place.
    Refused(ApiError),
}

/// A caller that is being asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    pub caller: Caller,
    /// Identities to ask for when nobody knows this one, the next one last.
    rest: Vec<String>,
    /// How the first identity is shown; `None` for a key.
    shown: Option<String>,
}

impl Asked {
    /// The caller with this key.
    #[must_use]
    pub const fn key(hash: Hash) -> Self {
        Self { caller: Caller::key(hash), rest: Vec::new(), shown: None }
    }

    /// A caller without a key, by its identities in order. `None` when there are none.
    #[must_use]
    pub fn identities(mut all: Vec<String>) -> Option<Self> {
        all.reverse();
        let first = all.pop()?;
        Some(Self { shown: Some(identity::shown(&first)), caller: Caller::identity(first), rest: all })
    }

    /// Goes on to the next identity, if there is one.
    fn next(&mut self) -> bool {
        let Some(next) = self.rest.pop() else { return false };
        self.caller = Caller::identity(next);
        true
    }

    fn unknown(&self) -> (ApiError, &'static str) {
        match &self.shown {
            None => (ApiError::unknown_key(), "unknown"),
            Some(shown) => (ApiError::unknown_identity(shown), "unknown_identity"),
        }
    }

    /// Who it is, from the tables; what they do not say makes `context` wait for a lookup. The error comes with its label
    /// for `attache.auth`.
    pub fn look(
        mut self,
        keys: &mut KeyTable,
        context: u32,
        now_ms: u64,
    ) -> Result<Key, (ApiError, &'static str)> {
        loop {
            match keys.find(&self.caller.hash, now_ms) {
                Known::Record(record) => return admit(&record, now_ms).map(|()| Key::Known(record)),
                Known::Nobody if self.next() => {}
                Known::Nobody => return Err(self.unknown()),
                Known::Ask => {
                    return match keys.join(&self.caller, context, now_ms) {
                        Joined::Full => Err((away("too many lookups wait"), "unavailable")),
                        Joined::First | Joined::Shared => Ok(Key::Asked(self)),
                    };
                }
            }
        }
    }

    /// The sidecar was asked.
    pub fn looked(
        mut self,
        looked: &Looked,
        keys: &mut KeyTable,
        context: u32,
        now_ms: u64,
    ) -> Result<Key, (ApiError, &'static str)> {
        match looked {
            Looked::Up(record) => admit(record, now_ms).map(|()| Key::Known(Rc::clone(record))),
            Looked::Nobody if self.next() => self.look(keys, context, now_ms),
            Looked::Nobody => Err(self.unknown()),
            Looked::Failed(why) => Err((away(why), "unavailable")),
        }
    }
}

/// What became of a lookup.
#[derive(Debug, Clone)]
pub enum Looked {
    Up(Rc<KeyRecord>),
    Nobody,
    Failed(String),
}

/// 503: who it is cannot be found out now.
#[must_use]
pub fn away(why: &str) -> ApiError {
    ApiError::auth_unavailable().with_internal(why)
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
    /// Header that names the end user, and what it says.
    pub end_user: Option<(String, String)>,
    /// The caller asks for the decision, not for an answer.
    pub explain: bool,
    pub start_us: u64,
    pub key: Key,
    /// Body bytes held.
    pub buffered: usize,
    /// Body bytes of a refused request thrown away.
    pub dropped: u64,
    pub body: Option<Result<Scanned, ApiError>>,
    /// What is asked, where it is to be kept.
    pub said: Option<said::Asked>,
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
            if let Some((header, value)) = &self.end_user {
                scan.user = Some(wishes::end_user(header, value)?);
            }
            let model = match scan.model_or(self.path_model.as_deref()) {
                Err(_) if self.endpoint.may_omit_model() => String::new(),
                model => model?,
            };
            Ok((model, scan))
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
            asked: self.said.take(),
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

/// Longest question, bytes: what its names may come to when every character is escaped, and twelve attempts.
const MAX_ASK: usize = 64 * 1024;

/// The question as a header value: JSON on one line, every character outside printable ASCII as `\uXXXX`.
///
/// # Errors
/// 400 when the names in it are too long together, 500 when it has no JSON.
pub fn ask_header(ask: &Ask) -> Result<String, ApiError> {
    let json = serde_json::to_string(ask).map_err(|error| ApiError::internal(error.to_string()))?;
    let text = if json.bytes().all(|byte| (0x20..0x7f).contains(&byte)) { json } else { escaped(&json) };
    if text.len() > MAX_ASK { Err(too_long()) } else { Ok(text) }
}

/// The question as one of many in a call.
///
/// # Errors
/// As [`ask_header`].
pub fn question(ask: &Ask) -> Result<Box<RawValue>, ApiError> {
    let json = to_raw_value(ask).map_err(|error| ApiError::internal(error.to_string()))?;
    if json.get().len() > MAX_ASK { Err(too_long()) } else { Ok(json) }
}

fn too_long() -> ApiError {
    let message = "The request's model, user, tags and fallbacks are too long together.";
    ApiError::invalid_request(message, None)
}

fn escaped(json: &str) -> String {
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
    escaped
}

#[cfg(test)]
#[path = "intake_tests.rs"]
mod tests;
