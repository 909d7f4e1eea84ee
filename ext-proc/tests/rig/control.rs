//! A scripted ext_proc, and upstreams that remember what they were sent.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use envoy_types::pb::envoy::config::core::v3::{HeaderValue, HeaderValueOption};
use envoy_types::pb::envoy::service::ext_proc::v3::external_processor_server::{
    ExternalProcessor, ExternalProcessorServer,
};
use envoy_types::pb::envoy::service::ext_proc::v3::processing_request::Request as Ask;
use envoy_types::pb::envoy::service::ext_proc::v3::processing_response::Response as Reply;
use envoy_types::pb::envoy::service::ext_proc::v3::{
    CommonResponse, HeaderMutation, HeadersResponse, HttpHeaders, ImmediateResponse, ProcessingRequest,
    ProcessingResponse,
};
use envoy_types::pb::envoy::r#type::v3::HttpStatus;
use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{ListValue, Struct, Value};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// Request header with cluster names to plan, comma separated, or `refuse:<status>`. It has the name of the gate's
/// question, because Envoy forwards no other header.
pub const PLAN: &str = attache_llm::contract::ASK_HEADER;

/// Does what the request's headers say, and counts.
#[derive(Debug, Clone, Default)]
pub struct ExtProc {
    messages: Arc<AtomicUsize>,
}

impl ExtProc {
    pub fn into_server(self) -> ExternalProcessorServer<Self> {
        ExternalProcessorServer::new(self)
    }

    /// Messages received so far.
    pub fn messages(&self) -> usize {
        self.messages.load(Ordering::Relaxed)
    }
}

#[tonic::async_trait]
impl ExternalProcessor for ExtProc {
    type ProcessStream = ReceiverStream<Result<ProcessingResponse, Status>>;

    async fn process(
        &self,
        request: Request<Streaming<ProcessingRequest>>,
    ) -> Result<Response<Self::ProcessStream>, Status> {
        let (sender, receiver) = mpsc::channel(4);
        let mut requests = request.into_inner();
        let messages = Arc::clone(&self.messages);
        tokio::spawn(async move {
            while let Ok(Some(message)) = requests.message().await {
                messages.fetch_add(1, Ordering::Relaxed);
                if let Some(Ask::RequestHeaders(headers)) = message.request {
                    let _ = sender.send(answer(&headers)).await;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

/// Does what the plan says. A header that is none of the sidecar's business fails the request.
fn answer(headers: &HttpHeaders) -> Result<ProcessingResponse, Status> {
    let headers = headers.headers.as_ref().map(|map| map.headers.as_slice()).unwrap_or_default();
    if let Some(other) = headers.iter().find(|header| header.key != PLAN) {
        return Err(Status::invalid_argument(format!("{} was forwarded", other.key)));
    }
    let plan = headers.first().map(|header| String::from_utf8_lossy(&header.raw_value).into_owned());
    let plan = plan.unwrap_or_default();
    if let Some(status) = plan.strip_prefix("refuse:") {
        let refusal = ImmediateResponse {
            status: Some(HttpStatus { code: status.parse().unwrap() }),
            headers: Some(set_headers(&[("content-type", "application/json".into())])),
            body: br#"{"error":"the sidecar's own words"}"#.to_vec(),
            details: "attache_refused".into(),
            ..Default::default()
        };
        return Ok(ProcessingResponse {
            response: Some(Reply::ImmediateResponse(refusal)),
            ..Default::default()
        });
    }
    let mut response = ProcessingResponse::default();
    let mut common = CommonResponse::default();
    if !plan.is_empty() {
        let clusters: Vec<_> = plan.split(',').collect();
        common.header_mutation =
            Some(set_headers(&[("x-envoy-max-retries", (clusters.len() - 1).to_string())]));
        let groups = clusters.into_iter().map(group).collect();
        response.dynamic_metadata =
            Some(object(vec![("attache", structure(vec![("priority_groups", list(groups))]))]));
    }
    response.response = Some(Reply::RequestHeaders(HeadersResponse { response: Some(common) }));
    Ok(response)
}

fn group(cluster: &str) -> Value {
    let entry = structure(vec![
        ("cluster_name", text(cluster)),
        ("weight", Value { kind: Some(Kind::NumberValue(1.0)) }),
    ]);
    structure(vec![("name", text(cluster)), ("clusters", list(vec![entry]))])
}

fn object(fields: Vec<(&str, Value)>) -> Struct {
    Struct { fields: fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect() }
}

fn structure(fields: Vec<(&str, Value)>) -> Value {
    Value { kind: Some(Kind::StructValue(object(fields))) }
}

fn list(values: Vec<Value>) -> Value {
    Value { kind: Some(Kind::ListValue(ListValue { values })) }
}

fn text(value: &str) -> Value {
    Value { kind: Some(Kind::StringValue(value.to_owned())) }
}

fn set_headers(headers: &[(&str, String)]) -> HeaderMutation {
    let set_headers = headers
        .iter()
        .map(|(name, value)| HeaderValueOption {
            header: Some(HeaderValue {
                key: (*name).to_owned(),
                raw_value: value.clone().into_bytes(),
                ..Default::default()
            }),
            ..Default::default()
        })
        .collect();
    HeaderMutation { set_headers, ..Default::default() }
}

/// An upstream that answers every request with one status.
#[derive(Debug, Clone)]
pub struct Upstream {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<HashMap<String, String>>>>,
}

impl Upstream {
    pub async fn start(status: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = Self { address: listener.local_addr().unwrap(), seen: Arc::default() };
        let router = upstream.router(status);
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        upstream
    }

    /// The same behind TLS, HTTP/2 by ALPN, with a certificate for `localhost`.
    pub async fn start_tls(status: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = Self { address: listener.local_addr().unwrap(), seen: Arc::default() };
        let read = |name| std::fs::read(super::testdata(name)).unwrap();
        let certs = rustls_pemfile::certs(&mut read("server.pem").as_slice()).map(Result::unwrap).collect();
        let key = rustls_pemfile::private_key(&mut read("server.key").as_slice()).unwrap().unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(certs, key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let router = upstream.router(status);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // A peer that does not like the certificate ends the handshake.
                let Ok(stream) = acceptor.accept(stream).await else { continue };
                let service = TowerToHyperService::new(router.clone());
                tokio::spawn(async move {
                    let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                    let _ = server.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        upstream
    }

    fn router(&self, status: u16) -> axum::Router {
        let log = Arc::clone(&self.seen);
        axum::Router::new().fallback(async move |request: axum::extract::Request| {
            let headers = request.headers().iter();
            let mut headers: HashMap<_, _> = headers
                .map(|(name, value)| (name.to_string(), value.to_str().unwrap_or("").to_owned()))
                .collect();
            headers.insert("test-http-version".into(), format!("{:?}", request.version()));
            log.lock().push(headers);
            let body = axum::body::to_bytes(request.into_body(), usize::MAX).await.unwrap();
            (axum::http::StatusCode::from_u16(status).unwrap(), format!("upstream {status} {}", body.len()))
        })
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Headers of the requests so far.
    pub fn seen(&self) -> Vec<HashMap<String, String>> {
        self.seen.lock().clone()
    }

    pub fn last_authorization(&self) -> Option<String> {
        self.seen.lock().last()?.get("authorization").cloned()
    }
}
