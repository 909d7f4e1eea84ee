//! The provider's own books: one line of JSON per attempt that it served, written when the attempt is over.
//!
//! ```text
//! {"name":"one","request":"b0c1","test":null,"status":200,"stream":true,"prompt":8,"completion":12,"told":true,"end":"whole",
//!  "ended_ms":1764376800123}
//! ```
//!
//! They are the truth that a ledger is held against: what was asked of the provider, what it charges, and whether it
//! came to say so.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use http::HeaderMap;
use serde::Serialize;

use crate::protocols::Planned;
use crate::script::Script;

/// How an answer ended.
#[derive(Debug, Clone, Copy, Serialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum End {
    /// As it should.
    Whole,
    /// With an error status.
    Refused,
    /// With an error inside HTTP 200.
    Error,
    /// The connection was cut by the script.
    Cut,
    /// The peer left before the end.
    Left,
}

/// One attempt.
#[derive(Debug, Clone, Serialize)]
pub struct Served {
    /// The upstream: first segment of the path.
    pub name: String,
    /// `x-request-id`.
    pub request: Option<String>,
    /// `x-test-id`.
    pub test: Option<String>,
    /// `None`: cut before the headers.
    pub status: Option<u16>,
    pub stream: bool,
    /// Tokens of the whole answer as planned; 0 where there is no good answer.
    pub prompt: u64,
    pub completion: u64,
    /// These tokens were sent to the peer.
    pub told: bool,
    pub end: End,
    /// When the attempt was over, Unix milliseconds.
    pub ended_ms: u64,
}

impl Served {
    /// As it is planned.
    #[must_use]
    pub fn new(
        name: &str,
        headers: &HeaderMap,
        status: Option<u16>,
        plan: Option<(&Script, &Planned)>,
    ) -> Self {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let good = status == Some(200);
        let (prompt, completion) =
            plan.filter(|_| good).map_or((0, 0), |(_, planned)| (planned.prompt, planned.completion));
        let end = match (status, plan) {
            (None, _) => End::Cut,
            (Some(200), Some((script, _))) if script.error_at.is_some() => End::Error,
            (Some(200), Some((script, _))) if script.cut_at.is_some() => End::Cut,
            (Some(200), _) => End::Whole,
            (Some(_), _) => End::Refused,
        };
        Self {
            name: name.to_owned(),
            request: text("x-request-id"),
            test: text("x-test-id"),
            status,
            stream: plan.is_some_and(|(_, planned)| planned.is_stream()),
            prompt,
            completion,
            told: false,
            end,
            ended_ms: 0,
        }
    }

    /// A piece of the body goes out.
    pub fn sent(&mut self, piece: &[u8]) {
        const USAGES: [&[u8]; 2] = [b"\"usage\":{", b"\"usageMetadata\":{"];
        self.told |= USAGES.iter().any(|usage| piece.windows(usage.len()).any(|window| window == *usage));
    }
}

/// The file.
#[derive(Debug)]
pub struct Log(Mutex<File>);

impl Log {
    /// Begins an empty one.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn create(path: &Path) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self(Mutex::new(File::create(path)?))))
    }

    /// Adds a line at once: whoever reads the file after an answer has its line.
    pub fn write(&self, mut served: Served) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        served.ended_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let Ok(mut line) = serde_json::to_vec(&served) else { return };
        line.push(b'\n');
        let outcome = self.0.lock().unwrap_or_else(PoisonError::into_inner).write_all(&line);
        if let Err(error) = outcome {
            eprintln!("the log of served attempts cannot be written: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocols::Flow;

    fn served(directives: &str, status: Option<u16>) -> Served {
        let script = Script::default().with(directives).unwrap();
        let flow = Flow { content_type: "text/event-stream", frames: vec![], error: "".into(), end: None };
        let (prompt, completion) = script.usage.unwrap_or((8, 12));
        let planned = Planned { prompt, completion, ..Planned::stream(flow) };
        let mut headers = HeaderMap::new();
        headers.insert("x-request-id", "r".parse().unwrap());
        Served::new("one", &headers, status, Some((&script, &planned)))
    }

    #[test]
    fn an_attempt_is_known_by_its_script_and_by_what_was_sent() {
        let mut whole = served("usage:7/9", Some(200));
        assert_eq!((whole.prompt, whole.completion, whole.told, whole.end), (7, 9, false, End::Whole));
        whole.sent(b"data: {\"usage\":null}\n\n");
        assert!(!whole.told);
        whole.sent(b"data: {\"usage\":{\"prompt_tokens\":7}}\n\n");
        assert!(whole.told);
        assert_eq!((whole.request.as_deref(), whole.test), (Some("r"), None));
        assert_eq!(served("error-at:3", Some(200)).end, End::Error);
        assert_eq!(served("cut-at:3", Some(200)).end, End::Cut);
        assert_eq!(served("cut", None).end, End::Cut);
        let refused = served("usage:7/9,status:500", Some(500));
        assert_eq!((refused.end, refused.prompt), (End::Refused, 0));
    }

    #[test]
    fn lines_are_in_the_file_at_once() {
        let path = std::env::temp_dir().join(format!("attache-served-{}", std::process::id()));
        let log = Log::create(&path).unwrap();
        log.write(served("usage:1/2", Some(200)));
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let line: serde_json::Value = serde_json::from_str(text.trim_end()).unwrap();
        assert_eq!(
            (&line["prompt"], &line["end"], &line["test"]),
            (&1.into(), &"whole".into(), &serde_json::Value::Null)
        );
    }
}
