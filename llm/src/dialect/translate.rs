//! One attempt: the request on its way out, the answer on its way back.

use serde_json::{Map, Value};

use super::answer::Event;
use super::request::Request;
use super::{Dialect, chat, completions, converse, gemini, messages, responses};
use crate::contract::DeploymentMeta;
use crate::error::ApiError;

/// A request in a provider's words.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sent {
    /// JSON.
    pub body: Vec<u8>,
    /// Headers that this body needs (`anthropic-beta`), beside the deployment's own.
    pub headers: Vec<(String, String)>,
    pub reading: Reading,
}

/// What the reader of the answer must know of the request that was sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reading {
    /// The schema of the answer went out as a tool of this name, which the model is made to call: its arguments are the answer's text.
    pub json_tool: Option<String>,
    /// Tools whose names the provider would not take: the name that was sent, and the client's.
    pub tool_names: Vec<(String, String)>,
}

impl Reading {
    /// The client's name of a tool.
    #[must_use]
    pub fn tool_name<'a>(&'a self, sent: &'a str) -> &'a str {
        self.tool_names.iter().find(|(name, _)| name == sent).map_or(sent, |(_, own)| own)
    }
}

/// What the writer of the answer must know of the client.
#[derive(Debug, Clone, PartialEq)]
pub struct Caller {
    pub dialect: Dialect,
    /// Model as the client named it.
    pub model: String,
    pub stream: bool,
    pub want_usage: bool,
    /// Unique id of the request, for answers whose provider gave none.
    pub call_id: String,
    /// Unix seconds.
    pub now_s: u64,
    /// [`Request::echo`].
    pub echo: Map<String, Value>,
}

/// One event of a stream: server-sent, or a message of an AWS event stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// `event:`, or `:event-type` (for an exception `:exception-type`); empty for none.
    pub name: &'a [u8],
    pub data: &'a [u8],
    /// An AWS exception.
    pub exception: bool,
}

/// Reads a provider's answer.
pub trait Read: std::fmt::Debug {
    /// A whole answer. One that cannot be read, or that is an error, ends in [`Event::Error`].
    fn document(&mut self, body: &[u8], out: &mut Vec<Event>);
    /// The next event of a stream.
    fn frame(&mut self, frame: Frame<'_>, out: &mut Vec<Event>);
    /// The stream is over. Adds what is missing: [`Event::End`], and before it [`Event::Error`] when the provider did not finish.
    fn end(&mut self, out: &mut Vec<Event>);
}

/// Writes a client's answer.
pub trait Write: std::fmt::Debug {
    /// A whole answer. The events hold no error.
    fn document(&mut self, events: Vec<Event>) -> Vec<u8>;
    /// Appends what the client shall see of the next event of a stream. [`Event::Error`] becomes an error event of the
    /// dialect, and [`Event::End`] the dialect's end; nothing follows that.
    fn event(&mut self, event: Event, out: &mut Vec<u8>);
}

/// Reads a client's request.
///
/// # Errors
/// 400, naming the field, for what the dialect does not allow.
pub fn read_request(dialect: Dialect, body: &[u8]) -> Result<Request, ApiError> {
    match dialect {
        Dialect::Chat => chat::read_request(body),
        Dialect::Messages => messages::read_request(body),
        Dialect::Completions => completions::read_request(body),
        Dialect::Responses => responses::read_request(body),
        _ => Err(unspoken(dialect)),
    }
}

/// Writes a request for a deployment.
///
/// # Errors
/// 400, naming the field, for what the provider has no words for.
pub fn write_request(dialect: Dialect, request: Request, meta: &DeploymentMeta) -> Result<Sent, ApiError> {
    match dialect {
        Dialect::Converse => converse::write_request(request, meta),
        Dialect::Gemini => gemini::write_request(request, meta),
        Dialect::Chat => chat::write_request(request, meta),
        Dialect::Messages => messages::write_request(request, meta),
        _ => Err(unspoken(dialect)),
    }
}

/// The reader of a provider's answers.
///
/// # Errors
/// No provider speaks this dialect.
pub fn reader(dialect: Dialect, reading: Reading) -> Result<Box<dyn Read>, ApiError> {
    Ok(match dialect {
        Dialect::Chat => Box::new(chat::Reader::new(reading)),
        Dialect::Messages => Box::new(messages::Reader::new(reading)),
        Dialect::Converse => Box::new(converse::Reader::new(reading)),
        Dialect::Gemini => Box::new(gemini::Reader::new(reading)),
        _ => return Err(unspoken(dialect)),
    })
}

/// The writer of a client's answers.
///
/// # Errors
/// No client speaks this dialect.
pub fn writer(caller: Caller) -> Result<Box<dyn Write>, ApiError> {
    Ok(match caller.dialect {
        Dialect::Chat => Box::new(chat::Writer::new(caller)),
        Dialect::Messages => Box::new(messages::Writer::new(caller)),
        Dialect::Completions => Box::new(completions::Writer::new(caller)),
        Dialect::Responses => Box::new(responses::Writer::new(caller)),
        _ => return Err(unspoken(caller.dialect)),
    })
}

fn unspoken(dialect: Dialect) -> ApiError {
    ApiError::internal(format!("nothing here translates {}", dialect.name()))
}
