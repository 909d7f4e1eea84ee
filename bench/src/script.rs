//! What a caller may ask the fake provider to do.
//!
//! ```text
//! x-fake-script: first=status:429,retry-after:3;second=chunk-delay:20,cut-at:4;*=delay:5
//! "model": "gpt-4o@status:500"
//! ```
//!
//! The header may name several upstreams (the first path segment), so that one request can make the first fail and
//! the second answer. `*` is for every upstream that the header does not name. Directives in the model name go to
//! whichever upstream sees them, and win over those of the header. Requests whose header does not speak of their upstream
//! (health probes, SDKs) follow the upstream's standing script, if `POST /_fake/script` gave it one.

use std::time::Duration;

/// What to do with one request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Script {
    /// Answer with this status and an error body, if it is not 200.
    pub status: Option<u16>,
    /// Wait before the headers.
    pub delay: Duration,
    /// Wait between the events of a stream.
    pub chunk_delay: Duration,
    /// Content events of a stream; completion tokens of any answer.
    pub chunks: Option<u64>,
    /// Send the body in pieces of so many bytes.
    pub split: Option<usize>,
    /// An error event inside the stream before event N (0 is the first); a JSON answer becomes an error in HTTP 200.
    pub error_at: Option<usize>,
    /// Close the connection inside the body before event N.
    pub cut_at: Option<usize>,
    /// Close the connection before the headers.
    pub cut: bool,
    /// Say nothing more from event N on, and keep the connection.
    pub stall_at: Option<usize>,
    /// HTTP 200 with an empty body.
    pub empty: bool,
    /// Leave the usage out, even when asked for it.
    pub no_usage: bool,
    /// Seconds of the `retry-after` header.
    pub retry_after: Option<u64>,
    /// Prompt and completion tokens to report, in place of the counted ones.
    pub usage: Option<(u64, u64)>,
    /// Prompt tokens to report as read from a cache, and completion tokens as reasoning.
    pub cached: u64,
    pub reasoning: u64,
    /// Prompt tokens to report as written to a cache.
    pub written: u64,
    /// Tools to call: 1 for `tools`, 2 for `parallel`, N for `tools:N`.
    pub tools: usize,
    /// Think visibly first.
    pub thinking: bool,
    /// The model refuses, in its own words.
    pub refuse: bool,
    /// The answer ends for its length.
    pub stop_length: bool,
    /// A schema must have been sent; the answer conforms to it (it does so without this, too).
    pub json: bool,
    /// Seconds that a token or temporary credential lives.
    pub expires: Option<u64>,
    /// `service_tier` of a chat answer, in place of `default`.
    pub tier: Option<String>,
    /// An error with the body of its kind, in place of the plain one of its status.
    pub refusal: Option<Refusal>,
    /// Content of the answer; one token per word.
    pub text: Option<String>,
}

/// Errors whose kind only the body tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The prompt is longer than the model's context.
    Context,
    /// The content policy refuses the prompt.
    Content,
    /// A parameter is wrong.
    BadRequest,
    /// The account has no money left; a 429 that no waiting helps.
    Quota,
}

impl Refusal {
    fn of(name: &str) -> Option<Self> {
        match name {
            "context" => Some(Self::Context),
            "content" => Some(Self::Content),
            "badrequest" => Some(Self::BadRequest),
            "quota" => Some(Self::Quota),
            _ => None,
        }
    }

    /// HTTP status that goes with it.
    #[must_use]
    pub fn status(self) -> u16 {
        if self == Self::Quota { 429 } else { 400 }
    }
}

impl Script {
    /// The script of upstream `name` in a header value, or `None` if the value does not speak of it.
    ///
    /// # Errors
    /// Names the directive that cannot be read.
    pub fn from_header(value: &str, name: &str) -> Result<Option<Self>, String> {
        let mut fallback = None;
        for entry in value.split(';') {
            let Some((target, directives)) = entry.trim().split_once('=') else {
                if entry.trim().is_empty() {
                    continue;
                }
                return Err(format!("`{entry}`: want NAME=directive,directive"));
            };
            if target == name {
                return Self::default().with(directives).map(Some);
            }
            if target == "*" {
                fallback = Some(directives);
            }
        }
        fallback.map(|directives| Self::default().with(directives)).transpose()
    }

    /// This script, changed by more directives.
    ///
    /// # Errors
    /// Names the directive that cannot be read.
    pub fn with(mut self, directives: &str) -> Result<Self, String> {
        let mut rest = directives.trim();
        while !rest.is_empty() {
            // A text may contain commas, so it takes what is left.
            if let Some(text) = rest.strip_prefix("text:") {
                self.text = Some(text.to_owned());
                break;
            }
            let (directive, tail) = rest.split_once(',').unwrap_or((rest, ""));
            self.set(directive.trim())?;
            rest = tail.trim();
        }
        Ok(self)
    }

    fn set(&mut self, directive: &str) -> Result<(), String> {
        let (name, value) = directive.split_once(':').unwrap_or((directive, ""));
        let number = || value.parse::<u64>().map_err(|_| format!("`{directive}`: want {name}:NUMBER"));
        let index = || number().map(|n| usize::try_from(n).unwrap_or(usize::MAX));
        match name {
            "" | "ok" => {}
            "status" => {
                let status = number()?;
                self.status =
                    Some(u16::try_from(status).map_err(|_| format!("`{directive}`: no such status"))?);
            }
            "delay" => self.delay = Duration::from_millis(number()?),
            "chunk-delay" => self.chunk_delay = Duration::from_millis(number()?),
            "chunks" => self.chunks = Some(number()?),
            "split" => self.split = Some(index()?.max(1)),
            "error-at" => self.error_at = Some(index()?),
            "cut-at" => self.cut_at = Some(index()?),
            "cut" => self.cut = true,
            "stall-at" => self.stall_at = Some(index()?),
            "empty" => self.empty = true,
            "no-usage" => self.no_usage = true,
            "retry-after" => self.retry_after = Some(number()?),
            "error" => {
                let refusal = Refusal::of(value).ok_or_else(|| format!("`{directive}`: no such error"))?;
                self.refusal = Some(refusal);
                self.status = Some(refusal.status());
            }
            "cached" => self.cached = number()?,
            "reasoning" => self.reasoning = number()?,
            "written" => self.written = number()?,
            "tools" => self.tools = if value.is_empty() { 1 } else { index()? },
            "parallel" => self.tools = 2,
            "thinking" => self.thinking = true,
            "refuse" => self.refuse = true,
            "stop" if value == "length" => self.stop_length = true,
            "json" => self.json = true,
            "expires" => self.expires = Some(number()?),
            "tier" => self.tier = Some(value.to_owned()),
            "usage" => {
                let pair = value.split_once('/').and_then(|(p, c)| Some((p.parse().ok()?, c.parse().ok()?)));
                self.usage =
                    Some(pair.ok_or_else(|| format!("`{directive}`: want usage:PROMPT/COMPLETION"))?);
            }
            _ => return Err(format!("`{directive}`: no such directive")),
        }
        Ok(())
    }
}

/// Takes the directives off a model name: `gpt-4o@status:500` is the model `gpt-4o`. What Google writes behind an `@` is
/// a version of the model: `claude-sonnet-4@20250514`.
#[must_use]
pub fn split_model(model: &str) -> (&str, Option<&str>) {
    match model.rsplit_once('@') {
        Some((_, version)) if version == "default" || version.starts_with(|c: char| c.is_ascii_digit()) => {
            (model, None)
        }
        Some((name, directives)) => (name, Some(directives)),
        None => (model, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_names_several_upstreams() {
        let header = "a=status:429,retry-after:3; b=chunk-delay:20,cut-at:4 ;*=delay:5";
        let a = Script::from_header(header, "a").unwrap().unwrap();
        assert_eq!((a.status, a.retry_after), (Some(429), Some(3)));
        let b = Script::from_header(header, "b").unwrap().unwrap();
        assert_eq!((b.chunk_delay, b.cut_at), (Duration::from_millis(20), Some(4)));
        let c = Script::from_header(header, "c").unwrap().unwrap();
        assert_eq!(c.delay, Duration::from_millis(5));
        assert_eq!(Script::from_header("a=cut", "b").unwrap(), None);
    }

    #[test]
    fn text_takes_the_rest() {
        let script = Script::default().with("no-usage,text:one, two: three").unwrap();
        assert!(script.no_usage);
        assert_eq!(script.text.as_deref(), Some("one, two: three"));
    }

    #[test]
    fn every_directive_is_understood() {
        let all = "ok,status:500,delay:1,chunk-delay:2,chunks:3,split:4,error-at:5,cut-at:6,cut,stall-at:7,empty,\
                   no-usage,retry-after:8,usage:9/10,cached:11,reasoning:12,tier:flex,\
                   written:13,parallel,thinking,refuse,stop:length,json,expires:14,text:x";
        let script = Script::default().with(all).unwrap();
        let want = Script {
            status: Some(500),
            delay: Duration::from_millis(1),
            chunk_delay: Duration::from_millis(2),
            chunks: Some(3),
            split: Some(4),
            error_at: Some(5),
            cut_at: Some(6),
            cut: true,
            stall_at: Some(7),
            empty: true,
            no_usage: true,
            retry_after: Some(8),
            usage: Some((9, 10)),
            cached: 11,
            reasoning: 12,
            written: 13,
            tools: 2,
            thinking: true,
            refuse: true,
            stop_length: true,
            json: true,
            expires: Some(14),
            tier: Some("flex".into()),
            refusal: None,
            text: Some("x".into()),
        };
        assert_eq!(script, want);
    }

    #[test]
    fn an_error_brings_its_status() {
        let script = Script::default().with("error:quota").unwrap();
        assert_eq!((script.status, script.refusal), (Some(429), Some(Refusal::Quota)));
        let script = Script::default().with("error:context").unwrap();
        assert_eq!((script.status, script.refusal), (Some(400), Some(Refusal::Context)));
        assert!(Script::default().with("error:other").unwrap_err().contains("error:other"));
    }

    #[test]
    fn mistakes_are_named() {
        assert!(Script::default().with("statsu:500").unwrap_err().contains("statsu:500"));
        assert!(Script::default().with("delay:soon").unwrap_err().contains("delay:NUMBER"));
        assert!(Script::from_header("status:500", "a").unwrap_err().contains("NAME="));
    }

    #[test]
    fn model_carries_directives() {
        assert_eq!(split_model("gpt-4o@status:500,delay:3"), ("gpt-4o", Some("status:500,delay:3")));
        assert_eq!(split_model("gpt-4o"), ("gpt-4o", None));
        assert_eq!(split_model("claude-sonnet-4@20250514"), ("claude-sonnet-4@20250514", None));
        assert_eq!(split_model("claude@20250514@cut"), ("claude@20250514", Some("cut")));
    }
}
