//! The response object, and what of its items is the same in streams and whole answers.

use serde_json::{Map, Value, json};

use crate::dialect::answer::{Citation, Finish};
use crate::dialect::chat::total;
use crate::response::UpstreamError;
use crate::usage::Usage;

/// How an answer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    InProgress,
    Completed,
    /// It was cut, for this reason.
    Incomplete(&'static str),
    Failed,
}

impl Status {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Incomplete(_) => "incomplete",
            Self::Failed => "failed",
        }
    }

    /// `refused`: the refusal's words are in the answer, which is complete with them.
    pub(super) fn of(finish: Option<Finish>, refused: bool) -> Self {
        match finish {
            Some(Finish::Length) => Self::Incomplete("max_output_tokens"),
            Some(Finish::ContentFilter) => Self::Incomplete("content_filter"),
            Some(Finish::Refusal) if !refused => Self::Incomplete("content_filter"),
            _ => Self::Completed,
        }
    }
}

/// Usage as this dialect counts it.
pub(super) fn write_usage(usage: &Usage) -> Value {
    let mut input = Map::new();
    input.insert("cached_tokens".to_owned(), usage.cached.into());
    input.insert("cache_write_tokens".to_owned(), usage.cache_creation.into());
    let mut output = Map::new();
    output.insert("reasoning_tokens".to_owned(), usage.reasoning.into());
    for (details, audio, image) in
        [(&mut input, usage.audio_in, usage.image_in), (&mut output, usage.audio_out, usage.image_out)]
    {
        for (name, count) in [("audio_tokens", audio), ("image_tokens", image)] {
            if count > 0 {
                details.insert(name.to_owned(), count.into());
            }
        }
    }
    json!({
        "input_tokens": usage.prompt,
        "input_tokens_details": input,
        "output_tokens": usage.completion,
        "output_tokens_details": output,
        "total_tokens": total(usage),
    })
}

/// A source on the web; other sources need file ids, which other providers do not have.
pub(super) fn annotation(citation: Citation) -> Option<Value> {
    Some(json!({
        "type": "url_citation",
        "start_index": citation.start.unwrap_or(0),
        "end_index": citation.end.unwrap_or(0),
        "url": citation.url?,
        "title": citation.title.unwrap_or_default(),
    }))
}

/// The `error` of a failed answer, whose codes are a list of OpenAI's.
pub(super) fn write_error(error: &UpstreamError) -> Value {
    let code = match error.status {
        429 => "rate_limit_exceeded",
        400..=499 => "invalid_prompt",
        _ => "server_error",
    };
    json!({"code": code, "message": error.message})
}

/// Entries of chat, which may lack what this dialect always has.
pub(super) fn logprob(mut entry: Value) -> Value {
    if let Value::Object(members) = &mut entry {
        for list in ["bytes", "top_logprobs"] {
            if members.get(list).is_none_or(Value::is_null) {
                members.insert(list.to_owned(), json!([]));
            }
        }
    }
    entry
}
