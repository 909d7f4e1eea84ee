use std::pin::Pin;
use std::sync::Arc;

use attache_llm::contract::{ASK_HEADER, Ask};
use attache_llm::error::ApiError;
use envoy_types::pb::envoy::service::ext_proc::v3::external_processor_server::ExternalProcessor;
use envoy_types::pb::envoy::service::ext_proc::v3::processing_request::Request as Phase;
use envoy_types::pb::envoy::service::ext_proc::v3::{HttpHeaders, ProcessingRequest, ProcessingResponse};
use futures_util::{Stream, stream};
use tonic::{Request, Response, Status, Streaming};

use super::answer;
use super::app::App;
use super::told::judge;

/// ext_proc with request headers only: one message, one answer, and the stream ends.
pub(super) struct ExtProc {
    pub(super) app: Arc<App>,
}

type Answers = Pin<Box<dyn Stream<Item = Result<ProcessingResponse, Status>> + Send>>;

#[tonic::async_trait]
impl ExternalProcessor for ExtProc {
    type ProcessStream = Answers;

    async fn process(
        &self,
        request: Request<Streaming<ProcessingRequest>>,
    ) -> Result<Response<Answers>, Status> {
        let app = Arc::clone(&self.app);
        app.metrics.stream();
        let working = app.work.token();
        // The reservation is handed over as the answer is taken by the connection; a stream that is gone before
        // drops the decision, and that refunds it.
        let answer = async move {
            let answer = exchange(&app, request.into_inner()).await;
            app.metrics.sent();
            drop(working);
            answer
        };
        Ok(Response::new(Box::pin(stream::once(answer))))
    }
}

async fn exchange(
    app: &App,
    mut messages: Streaming<ProcessingRequest>,
) -> Result<ProcessingResponse, Status> {
    let message = messages.message().await?.ok_or_else(|| Status::invalid_argument("no message"))?;
    app.metrics.received();
    let Some(Phase::RequestHeaders(headers)) = message.request else {
        return Err(Status::invalid_argument("only request headers are processed: check processing_mode"));
    };
    Ok(answer::message(judge(app, read_ask(&headers)).await.tell(app)))
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
    serde_json::from_slice(bytes).map_err(|error| ApiError::internal(format!("{ASK_HEADER}: {error}")))
}
