//! ext_proc with request headers only: one message, one answer, and the stream ends.
//!
//! It is the one method that every request waits for, so it is spoken without a gRPC stack: the message is read from the
//! body and the answer is written as bytes. Head, answer and trailers are there at once when the connection asks for
//! them, so that they leave in one write.

use std::convert::Infallible;
use std::fmt::Display;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use attache_llm::contract::{ASK_HEADER, Ask};
use attache_llm::error::{ApiError, Blame};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use envoy_types::pb::envoy::service::ext_proc::v3::processing_request::Request as Phase;
use envoy_types::pb::envoy::service::ext_proc::v3::{HttpHeaders, ProcessingRequest};
use http::{HeaderMap, HeaderValue, Response};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame};
use prost::Message;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tonic::Status;

use super::answer;
use super::app::App;
use super::metrics::Admission;
use crate::routing::Decision;

/// The method's path.
pub(super) const PATH: &str = "/envoy.service.ext_proc.v3.ExternalProcessor/Process";
/// Before each message: is it compressed (1 byte), and its length.
const PREFIX: usize = 5;
/// Longest message. The question is a header, which Envoy bounds far below.
const MAX_MESSAGE: usize = 4 * 1024 * 1024;

/// Answers one stream.
pub(super) async fn serve(
    app: Arc<App>,
    body: impl Body<Data = Bytes, Error: Display>,
) -> Response<Outgoing> {
    app.metrics.stream();
    let working = app.work.token();
    match exchange(&app, body).await {
        Ok(answer) => {
            let mut response = Response::new(Outgoing::new(app, answer, working));
            let head = response.headers_mut();
            head.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            response
        }
        Err(status) => status.into_http(),
    }
}

/// What the stream is answered with.
enum Answer {
    Decided(Box<Decision>),
    Message(Vec<u8>),
}

async fn exchange(app: &App, body: impl Body<Data = Bytes, Error: Display>) -> Result<Answer, Status> {
    let message = message(body).await?;
    app.metrics.received();
    let message = ProcessingRequest::decode(message).map_err(|error| Status::internal(error.to_string()))?;
    let Some(Phase::RequestHeaders(headers)) = message.request else {
        return Err(Status::invalid_argument("only request headers are processed: check processing_mode"));
    };
    let ask = match read_ask(&headers) {
        Ok(ask) => ask,
        Err(error) => {
            tracing::error!(%error, "ext_proc without a readable question");
            return Ok(Answer::Message(answer::refused(&error)));
        }
    };
    if ask.explain {
        return Ok(Answer::Message(match app.explain(&ask).await {
            Ok(explanation) => answer::explained(&explanation),
            Err(error) => answer::refused(&error),
        }));
    }
    Ok(match app.decide(&ask).await {
        Ok(decision) => Answer::Decided(Box::new(decision)),
        Err(error) => {
            log(&error, &ask);
            Answer::Message(answer::refused(&error))
        }
    })
}

/// The first message. It is in one piece, but nobody promises that.
async fn message(body: impl Body<Data = Bytes, Error: Display>) -> Result<Bytes, Status> {
    let mut body = pin!(body);
    let mut read = Bytes::new();
    loop {
        if let Some(mut prefix) = read.get(..PREFIX) {
            if prefix.get_u8() != 0 {
                return Err(Status::unimplemented("no compression was agreed on"));
            }
            let length = prefix.get_u32() as usize;
            if length > MAX_MESSAGE {
                return Err(Status::out_of_range(format!("a message of {length} bytes")));
            }
            if read.len() - PREFIX >= length {
                return Ok(read.slice(PREFIX..PREFIX + length));
            }
        }
        let frame = body.frame().await.ok_or_else(|| Status::invalid_argument("no message"))?;
        let frame = frame.map_err(|error| Status::unknown(error.to_string()))?;
        let Ok(data) = frame.into_data() else { continue };
        read = if read.is_empty() {
            data
        } else {
            let mut joined = BytesMut::from(&read[..]);
            joined.extend_from_slice(&data);
            joined.freeze()
        };
    }
}

/// The answer on its way. The reservation is handed over as the connection takes the answer; a stream that is gone before
/// drops the decision, and that refunds it.
pub(super) struct Outgoing {
    app: Option<Arc<App>>,
    state: State,
    /// A drain waits for it.
    _working: Option<TaskTrackerToken>,
}

enum State {
    Answer(Answer),
    Trailers,
    Over,
}

impl Outgoing {
    fn new(app: Arc<App>, answer: Answer, working: TaskTrackerToken) -> Self {
        Self { app: Some(app), state: State::Answer(answer), _working: Some(working) }
    }

    fn bytes(&self, answer: Answer) -> Bytes {
        let message = match answer {
            Answer::Message(message) => message,
            Answer::Decided(decision) => {
                let (message, reserved) = answer::decided(*decision);
                if let Some(app) = &self.app {
                    app.metrics.admission(if reserved { Admission::Admitted } else { Admission::None });
                }
                message
            }
        };
        if let Some(app) = &self.app {
            app.metrics.sent();
        }
        framed(&message)
    }
}

fn framed(message: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(PREFIX + message.len());
    out.put_u8(0);
    out.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    out.put_slice(message);
    out.freeze()
}

/// Nothing: of a stream that ends with its head.
impl Default for Outgoing {
    fn default() -> Self {
        Self { app: None, state: State::Over, _working: None }
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        let frame = match std::mem::replace(&mut this.state, State::Over) {
            State::Answer(answer) => {
                this.state = State::Trailers;
                Frame::data(this.bytes(answer))
            }
            State::Trailers => {
                let mut trailers = HeaderMap::with_capacity(1);
                trailers.insert("grpc-status", HeaderValue::from_static("0"));
                Frame::trailers(trailers)
            }
            State::Over => return Poll::Ready(None),
        };
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.state, State::Over)
    }
}

/// The gate's question.
///
/// # Errors
/// 500 when there is none, or none that can be read: the gate is missing, or of another version.
pub fn read_ask(headers: &HttpHeaders) -> Result<Ask, ApiError> {
    let headers = headers.headers.as_ref().map(|map| map.headers.as_slice()).unwrap_or_default();
    let value = headers.iter().find(|header| header.key.eq_ignore_ascii_case(ASK_HEADER));
    let value =
        value.ok_or_else(|| ApiError::internal(format!("no {ASK_HEADER}: is the gate before ext_proc?")))?;
    // Envoy sends raw_value; value is there for other hosts.
    let bytes = if value.raw_value.is_empty() { value.value.as_bytes() } else { &value.raw_value };
    let unreadable = |error: &dyn Display| ApiError::internal(format!("{ASK_HEADER}: {error}"));
    // Once for the whole, not for every text in it.
    let text = std::str::from_utf8(bytes).map_err(|error| unreadable(&error))?;
    serde_json::from_str(text).map_err(|error| unreadable(&error))
}

/// The one place that logs a refusal. The client's own mistakes are for debugging only.
fn log(error: &ApiError, ask: &Ask) {
    let Ask { call_id, model, .. } = ask;
    match error.blame {
        Blame::Client => tracing::debug!(call_id, model, %error, "refused"),
        Blame::Gateway | Blame::Upstream => tracing::warn!(call_id, model, %error, "refused"),
    }
}

#[cfg(test)]
#[path = "ext_proc_tests.rs"]
mod tests;
