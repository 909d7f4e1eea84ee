//! What arrived, for assertions: `GET /_fake/requests`, `GET /_fake/active`, `GET /_fake/counts`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use http::HeaderMap;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::protocols::{Wire, multipart, percent_decode};
use crate::served::{End, Log, Served};

/// Requests remembered; older ones are forgotten.
const CAPACITY: usize = 5_000;
/// Largest body kept as parsed JSON, bytes.
const SMALL_BODY: usize = 64 * 1024;

/// One request as it arrived.
#[derive(Debug, Clone, Serialize)]
pub struct Entry {
    /// Counts from 1.
    pub id: u64,
    /// The upstream: first segment of the path.
    pub name: String,
    pub method: String,
    /// Path and query as received.
    pub path: String,
    /// `HTTP/1.1` or `HTTP/2.0`.
    pub version: String,
    /// Header by lower-case name; repeated ones joined by `, `. Credentials are cut to their last four characters.
    pub headers: Map<String, Value>,
    pub body_length: usize,
    /// Parsed body, if it is small: JSON, the fields of a form, or the parts of a multipart body (files by length and
    /// digest). Credentials are cut.
    pub body: Option<Value>,
    /// Status answered; `null` when the connection was cut instead.
    pub status: Option<u16>,
    /// Why the protocol refused it.
    pub refused: Option<String>,
    /// Usage of the answer as planned, whether or not the caller was told.
    pub usage: Option<Value>,
}

/// Counts of [`Journal`].
#[derive(Debug, Clone, Copy, Serialize, PartialEq, Eq)]
pub struct Active {
    /// Answers in progress.
    pub active: u64,
    /// Answers that the peer left before their end.
    pub cancelled: u64,
    /// Answers that were sent whole (or cut by their script).
    pub finished: u64,
}

/// Upstreams counted; further names are not.
const UPSTREAMS: usize = 10_000;
/// Minutes counted per upstream; older ones are forgotten.
const MINUTES: usize = 30;

/// Counts of one upstream.
#[derive(Debug, Clone, Default, Serialize, PartialEq, Eq)]
pub struct Upstream {
    /// By Unix minute of arrival.
    pub minutes: BTreeMap<u64, Minute>,
    /// Answers in progress.
    pub active: u64,
    /// The most that `active` has been.
    pub peak: u64,
}

/// What arrived in one minute.
#[derive(Debug, Clone, Copy, Default, Serialize, PartialEq, Eq)]
pub struct Minute {
    pub requests: u64,
    /// Tokens of the planned answers that have usage, prompt and completion.
    pub tokens: u64,
}

/// Memory of the fake provider.
#[derive(Debug, Default)]
pub struct Journal {
    entries: Mutex<VecDeque<Entry>>,
    upstreams: Mutex<BTreeMap<String, Upstream>>,
    next: AtomicU64,
    active: AtomicU64,
    cancelled: AtomicU64,
    finished: AtomicU64,
}

impl Journal {
    /// Remembers a request; its `id` is set here. `tokens` are those of a good answer.
    pub fn record(&self, mut entry: Entry, tokens: u64) {
        self.count(&entry.name, tokens);
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entry.id = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        if entries.len() == CAPACITY {
            entries.pop_front();
        }
        entries.push_back(entry);
    }

    /// What is remembered, oldest first; of one upstream if a name is given, of one test (`x-test-id`) if its mark is.
    #[must_use]
    pub fn entries(&self, name: Option<&str>, test: Option<&str>) -> Vec<Entry> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = |entry: &&Entry| {
            let mark = entry.headers.get("x-test-id").and_then(Value::as_str);
            name.is_none_or(|name| entry.name == name) && test.is_none_or(|test| mark == Some(test))
        };
        entries.iter().filter(wanted).cloned().collect()
    }

    fn upstreams(&self) -> MutexGuard<'_, BTreeMap<String, Upstream>> {
        self.upstreams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, name: &str, tokens: u64) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let mut upstreams = self.upstreams();
        let Some(upstream) = upstreams.get_mut(name) else { return };
        let minute = upstream.minutes.entry(now / 60).or_default();
        minute.requests += 1;
        minute.tokens += tokens;
        while upstream.minutes.len() > MINUTES {
            upstream.minutes.pop_first();
        }
    }

    /// Counts by upstream.
    #[must_use]
    pub fn by_upstream(&self) -> BTreeMap<String, Upstream> {
        self.upstreams().clone()
    }

    /// Forgets requests and counts; answers in progress stay counted.
    pub fn clear(&self) {
        self.upstreams().retain(|_, upstream| {
            upstream.minutes.clear();
            upstream.peak = upstream.active;
            upstream.active > 0
        });
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.cancelled.store(0, Ordering::Relaxed);
        self.finished.store(0, Ordering::Relaxed);
    }

    /// The counts.
    #[must_use]
    pub fn counts(&self) -> Active {
        Active {
            active: self.active.load(Ordering::Relaxed),
            cancelled: self.cancelled.load(Ordering::Relaxed),
            finished: self.finished.load(Ordering::Relaxed),
        }
    }
}

/// Lives as long as an answer is in progress. Dropped before [`Guard::finish`], it counts as cancelled by the peer.
#[derive(Debug)]
pub struct Guard {
    journal: Arc<Journal>,
    name: String,
    finished: bool,
    books: Option<Box<(Arc<Log>, Served)>>,
}

impl Guard {
    /// Counts an answer of upstream `name` as in progress.
    #[must_use]
    pub fn new(journal: Arc<Journal>, name: &str) -> Self {
        journal.active.fetch_add(1, Ordering::Relaxed);
        let mut upstreams = journal.upstreams();
        if upstreams.len() < UPSTREAMS || upstreams.contains_key(name) {
            let upstream = upstreams.entry(name.to_owned()).or_default();
            upstream.active += 1;
            upstream.peak = upstream.peak.max(upstream.active);
        }
        drop(upstreams);
        Self { journal, name: name.to_owned(), finished: false, books: None }
    }

    /// The attempt gets a line in the log when it is over.
    pub fn keep_books(&mut self, log: Arc<Log>, served: Served) {
        self.books = Some(Box::new((log, served)));
    }

    /// A piece of the answer goes out.
    pub fn sent(&mut self, piece: &[u8]) {
        if let Some(books) = &mut self.books {
            books.1.sent(piece);
        }
    }

    /// The answer is out (or ended by its own script).
    pub fn finish(&mut self) {
        self.finished = true;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.journal.active.fetch_sub(1, Ordering::Relaxed);
        if let Some(upstream) = self.journal.upstreams().get_mut(&self.name) {
            upstream.active = upstream.active.saturating_sub(1);
        }
        let count = if self.finished { &self.journal.finished } else { &self.journal.cancelled };
        count.fetch_add(1, Ordering::Relaxed);
        if let Some((log, mut served)) = self.books.take().map(|books| *books) {
            if !self.finished {
                served.end = End::Left;
            }
            log.write(served);
        }
    }
}

/// Headers as JSON, credentials masked.
#[must_use]
pub fn headers_json(headers: &HeaderMap) -> Map<String, Value> {
    let mut out = Map::new();
    for name in headers.keys() {
        let values: Vec<_> =
            headers.get_all(name).iter().map(|v| String::from_utf8_lossy(v.as_bytes())).collect();
        let joined = values.join(", ");
        let shown = match name.as_str() {
            "authorization" if joined.starts_with("AWS4-") => {
                let (scope, signature) = joined.rsplit_once('=').unwrap_or((&joined, ""));
                format!("{scope}={}", mask(signature))
            }
            "x-amz-security-token"
            | "authorization"
            | "api-key"
            | "x-api-key"
            | "x-goog-api-key"
            | "x-litellm-api-key" => mask(&joined),
            _ => joined,
        };
        out.insert(name.as_str().to_owned(), Value::String(shown));
    }
    out
}

/// A credential as `...last4`.
#[must_use]
pub fn mask(credential: &str) -> String {
    let tail: Vec<char> = credential.chars().rev().take(4).collect();
    format!("...{}", tail.iter().rev().collect::<String>())
}

/// The body as the journal shows it.
#[must_use]
pub fn shown_body(wire: &Wire<'_>) -> Option<Value> {
    if let Some(parts) = wire.parts {
        return Some(multipart::shown(parts));
    }
    if wire.body.len() > SMALL_BODY {
        return None;
    }
    if !wire.json.is_null() {
        return Some(wire.json.clone());
    }
    let form =
        wire.header("content-type").is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded"));
    form.then(|| form_json(&String::from_utf8_lossy(wire.body)))
}

fn form_json(text: &str) -> Value {
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    let shown = pairs.map(|(name, value)| {
        let value = percent_decode(&value.replace('+', " "));
        let secret = matches!(name, "client_secret" | "client_assertion" | "assertion" | "WebIdentityToken");
        (name.to_owned(), Value::String(if secret { mask(&value) } else { value }))
    });
    Value::Object(shown.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_masked() {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", "Bearer sk-secret-1234".parse().unwrap());
        headers.append("x-two", "a".parse().unwrap());
        headers.append("x-two", "b".parse().unwrap());
        let json = headers_json(&headers);
        assert_eq!(json["authorization"], "...1234");
        assert_eq!(json["x-two"], "a, b");
    }

    #[test]
    fn a_dropped_guard_is_a_cancelled_answer() {
        let journal = Arc::new(Journal::default());
        let mut whole = Guard::new(journal.clone(), "one");
        let cut = Guard::new(journal.clone(), "one");
        assert_eq!(journal.counts().active, 2);
        whole.finish();
        drop(whole);
        drop(cut);
        assert_eq!(journal.counts(), Active { active: 0, cancelled: 1, finished: 1 });
        let one = &journal.by_upstream()["one"];
        assert_eq!((one.active, one.peak), (0, 2));
    }
}
