//! An ext_proc server that wants nothing: what the pattern of two ext_proc phases costs when nobody does any work in it.
//!
//! It is the yardstick of `make bench` for gateways that process requests in a gRPC server beside Envoy. The phases and
//! modes are those of Envoy AI Gateway (`scripts/benchmark/envoys.py` has Envoy's side): the first phase, in the listener's
//! chain, gets headers and body of the request and of the answer, the second one, per attempt, the request headers.

use std::path::PathBuf;
use std::pin::Pin;

use clap::Parser;
use envoy_types::pb::envoy::extensions::filters::http::ext_proc::v3::ProcessingMode;
use envoy_types::pb::envoy::extensions::filters::http::ext_proc::v3::processing_mode::{
    BodySendMode, HeaderSendMode,
};
use envoy_types::pb::envoy::service::ext_proc::v3::external_processor_server::{
    ExternalProcessor, ExternalProcessorServer,
};
use envoy_types::pb::envoy::service::ext_proc::v3::processing_request::Request as Phase;
use envoy_types::pb::envoy::service::ext_proc::v3::processing_response::Response as Answer;
use envoy_types::pb::envoy::service::ext_proc::v3::{
    BodyResponse, HeadersResponse, HttpHeaders, ProcessingRequest, ProcessingResponse, TrailersResponse,
};
use futures_util::{Stream, StreamExt};
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

/// Room for a long prompt in flight: with HTTP/2's own 64 KiB Envoy would wait in the middle of each.
const WINDOW: u32 = 1024 * 1024;

/// Answers every message of Envoy's ext_proc filters with "go on".
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Unix socket to listen on; one that is left over is replaced.
    #[arg(long)]
    socket: PathBuf,
}

#[derive(Debug)]
struct Noop;

type Answers = Pin<Box<dyn Stream<Item = Result<ProcessingResponse, Status>> + Send>>;

#[tonic::async_trait]
impl ExternalProcessor for Noop {
    type ProcessStream = Answers;

    async fn process(
        &self,
        request: Request<Streaming<ProcessingRequest>>,
    ) -> Result<Response<Answers>, Status> {
        let answers = request.into_inner().map(|message| message.and_then(answer));
        Ok(Response::new(Box::pin(answers)))
    }
}

fn answer(message: ProcessingRequest) -> Result<ProcessingResponse, Status> {
    let phase = message.request.ok_or_else(|| Status::invalid_argument("a message without a phase"))?;
    let mut mode_override = None;
    let response = match phase {
        Phase::RequestHeaders(_) => Answer::RequestHeaders(HeadersResponse::default()),
        Phase::RequestBody(_) => Answer::RequestBody(BodyResponse::default()),
        Phase::RequestTrailers(_) => Answer::RequestTrailers(TrailersResponse::default()),
        Phase::ResponseHeaders(headers) => {
            mode_override = is_stream(&headers).then(piece_by_piece);
            Answer::ResponseHeaders(HeadersResponse::default())
        }
        Phase::ResponseBody(_) => Answer::ResponseBody(BodyResponse::default()),
        Phase::ResponseTrailers(_) => Answer::ResponseTrailers(TrailersResponse::default()),
    };
    Ok(ProcessingResponse { response: Some(response), mode_override, ..ProcessingResponse::default() })
}

fn is_stream(headers: &HttpHeaders) -> bool {
    let headers = headers.headers.as_ref().map(|map| map.headers.as_slice()).unwrap_or_default();
    headers.iter().filter(|header| header.key.eq_ignore_ascii_case("content-type")).any(|header| {
        // Envoy sends raw_value; value is there for other hosts.
        header.raw_value.starts_with(b"text/event-stream") || header.value.starts_with("text/event-stream")
    })
}

/// Answers are buffered, but a stream must reach the client as it comes.
fn piece_by_piece() -> ProcessingMode {
    ProcessingMode {
        response_header_mode: HeaderSendMode::Send.into(),
        response_body_mode: BodySendMode::Streamed.into(),
        ..ProcessingMode::default()
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = Args::parse();
    let _ = std::fs::remove_file(&args.socket);
    let listener = UnixListener::bind(&args.socket)
        .map_err(|error| format!("cannot listen on {}: {error}", args.socket.display()))?;
    println!("noop-processor listens on {}", args.socket.display());
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    Server::builder()
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .add_service(ExternalProcessorServer::new(Noop))
        .serve_with_incoming_shutdown(UnixListenerStream::new(listener), async move {
            terminate.recv().await;
        })
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::config::core::v3::{HeaderMap, HeaderValue};

    use super::*;

    fn said(phase: Phase) -> ProcessingResponse {
        answer(ProcessingRequest { request: Some(phase), ..ProcessingRequest::default() }).unwrap()
    }

    fn response_headers(kind: &str) -> Phase {
        let header = HeaderValue {
            key: "content-type".into(),
            raw_value: kind.as_bytes().to_vec(),
            ..Default::default()
        };
        Phase::ResponseHeaders(HttpHeaders {
            headers: Some(HeaderMap { headers: vec![header] }),
            ..HttpHeaders::default()
        })
    }

    #[test]
    fn each_phase_is_answered_in_kind_and_nothing_changes() {
        let untouched = HeadersResponse::default();
        let found = said(Phase::RequestHeaders(HttpHeaders::default()));
        assert_eq!((found.response, found.mode_override), (Some(Answer::RequestHeaders(untouched)), None));
        let body = said(Phase::RequestBody(Default::default()));
        assert_eq!(body.response, Some(Answer::RequestBody(BodyResponse::default())));
        let body = said(Phase::ResponseBody(Default::default()));
        assert_eq!(body.response, Some(Answer::ResponseBody(BodyResponse::default())));
        assert!(answer(ProcessingRequest::default()).is_err(), "Envoy never sends this");
    }

    #[test]
    fn only_an_event_stream_is_not_buffered() {
        assert_eq!(said(response_headers("application/json")).mode_override, None);
        let mode = said(response_headers("text/event-stream; charset=utf-8")).mode_override.unwrap();
        assert_eq!(mode.response_body_mode(), BodySendMode::Streamed);
    }
}
