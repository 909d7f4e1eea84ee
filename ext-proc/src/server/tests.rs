//! The server over a real Unix socket, with doubles for the stores and for xDS.

mod decide;
mod doubles;
mod operator;
mod replan;
mod tls;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use attache_llm::contract::{
    ASK_HEADER, Ask, AttemptOutcome, AttemptRecord, DECIDE_PATH, KEY_CHANGES_PATH, KEY_LOOKUP_PATH,
    MASTER_KEY_HASH, Note, USAGE_PATH, UsageBatch, UsageRecord, VERSION, Wishes,
};
use attache_llm::path::Endpoint;
use axum::Router;
use bytes::Bytes;
use envoy_types::pb::envoy::config::core::v3::{HeaderMap, HeaderValue};
use envoy_types::pb::envoy::service::ext_proc::v3::external_processor_client::ExternalProcessorClient;
use envoy_types::pb::envoy::service::ext_proc::v3::processing_request::Request as Phase;
use envoy_types::pb::envoy::service::ext_proc::v3::processing_response::Response as Answer;
use envoy_types::pb::envoy::service::ext_proc::v3::{
    HttpHeaders, ImmediateResponse, ProcessingRequest, ProcessingResponse,
};
use envoy_types::pb::google::protobuf::{Struct, Value, value::Kind};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::{Value as Json, json};
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint as Target};
use tower::service_fn;

use doubles::{FakeCounters, FakeEnvoy};

use super::serve::{Parts, ServeOptions, run};
use crate::config::{Config, Secret};
use crate::credentials::Keyring;
use crate::entity::double::Entities;
use crate::entity::{Entity, EntityKind, Settings};
use crate::keys::KeyDirectory;
use crate::prices::PriceTable;
use crate::routing::tests::{deployment, group, snapshot};
use crate::routing::{Group, Strategy};
use crate::store::Ledger;

struct Server {
    dir: tempfile::TempDir,
    socket: PathBuf,
    health: String,
    database: Arc<Entities>,
    counters: Arc<FakeCounters>,
    envoy: Arc<FakeEnvoy>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Server {
    async fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap()).await
    }

    async fn start_in(dir: tempfile::TempDir) -> Self {
        Self::start_with(dir, |_| {}).await
    }

    async fn start_with(dir: tempfile::TempDir, adjust: impl FnOnce(&mut Config)) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut config = Config::default();
        config.general_settings.master_key = Some(Secret::new("sk-master-key-0001"));
        adjust(&mut config);
        let mut s = snapshot(vec![
            // Counted, so that its requests have a reservation.
            Group { strategy: Strategy::UsageBased, ..group("gpt", vec![deployment("a", "gpt")]) },
            group("claude", vec![deployment("c", "claude")]),
            group("pair", vec![deployment("p", "pair"), deployment("q", "pair")]),
        ]);
        s.num_retries = 1;
        s.leases = true;
        s.fallbacks.insert("gpt".into(), vec!["claude".into()]);
        let socket = dir.path().join("run/attache.sock");
        let options = ServeOptions {
            config: Arc::new(config),
            snapshot: Default::default(),
            data_dir: dir.path().to_owned(),
            socket: socket.clone(),
            socket_mode: 0o600,
            tls: None,
            health_listen: ([127, 0, 0, 1], port).into(),
            wasm: PathBuf::new(),
            ca_file: PathBuf::new(),
            fixed_clusters: false,
            keys_dir: PathBuf::new(),
            prices: PriceTable::default(),
            salt: None,
            reload: None,
        };
        let (database, counters) = (Arc::<Entities>::default(), Arc::<FakeCounters>::default());
        let envoy = Arc::new(FakeEnvoy(AtomicBool::new(true)));
        let master_key = options.config.general_settings.master_key.clone();
        let parts = Parts {
            database: database.clone(),
            keys: KeyDirectory::new(database.clone(), master_key),
            counters: counters.clone(),
            snapshot: Arc::new(ArcSwap::from_pointee(s)),
            envoy: envoy.clone(),
            xds: Router::new(),
            keyring: Arc::new(Keyring::plain()),
            reloads: Arc::default(),
        };
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(run(options, parts, async {
            let _ = stopped.await;
        }));
        let mut server = Self {
            dir,
            socket,
            health: format!("127.0.0.1:{port}"),
            database,
            counters,
            envoy,
            stop: Some(stop),
            task,
        };
        server.wait_until_up().await;
        server
    }

    async fn wait_until_up(&mut self) {
        for _ in 0..200 {
            if self.socket.exists() {
                return;
            }
            if self.task.is_finished() {
                panic!("{:?}", (&mut self.task).await);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the socket did not appear");
    }

    async fn stop(mut self) -> (Arc<Entities>, tempfile::TempDir) {
        self.stop.take().unwrap().send(()).unwrap();
        self.task.await.unwrap().unwrap();
        (self.database, self.dir)
    }

    async fn channel(&self) -> Channel {
        let socket = self.socket.clone();
        let connect = service_fn(move |_| {
            let socket = socket.clone();
            async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(socket).await?)) }
        });
        Target::from_static("http://attache").connect_with_connector(connect).await.unwrap()
    }

    /// One ext_proc stream with one message; every message of the answer.
    async fn process(&self, message: ProcessingRequest) -> Result<Vec<ProcessingResponse>, tonic::Status> {
        let mut client = ExternalProcessorClient::new(self.channel().await);
        // Envoy keeps its side open until it is done: the server must not wait for its end.
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        sender.send(message).await.unwrap();
        let requests = tokio_stream::wrappers::ReceiverStream::new(receiver);
        let mut answers = client.process(requests).await?.into_inner();
        let mut all = Vec::new();
        while let Some(answer) = answers.message().await? {
            all.push(answer);
        }
        Ok(all)
    }

    async fn post(&self, path: &str, body: impl Into<Bytes>) -> (u16, Json) {
        let stream = TokioIo::new(UnixStream::connect(&self.socket).await.unwrap());
        request(stream, "POST", path, body.into()).await
    }

    async fn health(&self, path: &str) -> (u16, Json) {
        let stream = TokioIo::new(tokio::net::TcpStream::connect(&self.health).await.unwrap());
        request(stream, "GET", path, Bytes::new()).await
    }
}

async fn request<S>(stream: TokioIo<S>, method: &str, path: &str, body: Bytes) -> (u16, Json)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::builder().method(method).uri(path).header("host", "attache");
    // Only the admin API asks for it.
    let request = request.header("authorization", "Bearer sk-master-key-0001");
    let request = request.header("content-type", "application/json").body(Full::new(body)).unwrap();
    let response = sender.send_request(request).await.unwrap();
    let status = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let text = || Json::String(String::from_utf8_lossy(&bytes).into_owned());
    (status, serde_json::from_slice(&bytes).unwrap_or_else(|_| text()))
}

fn ask(key: &str, model: &str) -> Ask {
    Ask {
        contract: VERSION,
        call_id: format!("call-{model}"),
        key: key.into(),
        endpoint: Endpoint::ChatCompletions,
        model: model.into(),
        stream: false,
        input_tokens: 10,
        max_tokens: None,
        n: None,
        needs: Vec::new(),
        user: None,
        wishes: Wishes::default(),
        replan: None,
        explain: false,
        again: 0,
    }
}

fn headers(ask: &str) -> ProcessingRequest {
    let header = |key: &str, value: &str| HeaderValue {
        key: key.into(),
        raw_value: value.as_bytes().to_vec(),
        ..HeaderValue::default()
    };
    let headers = vec![header(":path", "/v1/chat/completions"), header(ASK_HEADER, ask)];
    let headers = HttpHeaders { headers: Some(HeaderMap { headers }), ..HttpHeaders::default() };
    ProcessingRequest { request: Some(Phase::RequestHeaders(headers)), ..ProcessingRequest::default() }
}

fn question(ask: &Ask) -> ProcessingRequest {
    headers(&serde_json::to_string(ask).unwrap())
}

fn plain(value: &Value) -> Json {
    match value.kind.as_ref().unwrap() {
        Kind::NullValue(_) => Json::Null,
        Kind::NumberValue(number) => json!(*number as u64),
        Kind::StringValue(text) => json!(text),
        Kind::BoolValue(flag) => json!(flag),
        Kind::StructValue(fields) => object(fields),
        Kind::ListValue(list) => list.values.iter().map(plain).collect(),
    }
}

fn object(fields: &Struct) -> Json {
    fields.fields.iter().map(|(name, value)| (name.clone(), plain(value))).collect()
}

fn immediate(answers: Vec<ProcessingResponse>) -> ImmediateResponse {
    assert_eq!(answers.len(), 1);
    match answers.into_iter().next().unwrap().response.unwrap() {
        Answer::ImmediateResponse(immediate) => immediate,
        other => panic!("{other:?}"),
    }
}

fn record(call_id: &str, reservation: Option<String>) -> UsageRecord {
    let attempt = AttemptRecord {
        deployment: "a".into(),
        cluster: "gpt/openai/a".into(),
        group: "gpt".into(),
        outcome: AttemptOutcome::ErrorStatus,
        status: 500,
        retry_after_s: None,
        usage: None,
        ..AttemptRecord::default()
    };
    UsageRecord {
        call_id: call_id.into(),
        key: MASTER_KEY_HASH.into(),
        endpoint: Endpoint::ChatCompletions,
        model: "gpt".into(),
        group: "gpt".into(),
        reservation,
        owner: None,
        replans: 0,
        stream: false,
        user: None,
        start_us: 1,
        duration_us: 1,
        first_event_us: None,
        status: 500,
        details: String::new(),
        aborted: false,
        input_estimate: 1,
        request_id: String::new(),
        attempts: vec![attempt],
        prompt: None,
        answer: None,
    }
}

fn batch(records: Vec<UsageRecord>) -> Bytes {
    serde_json::to_vec(&UsageBatch { contract: VERSION, records, attempts: Vec::new(), returned: Vec::new() })
        .unwrap()
        .into()
}

#[tokio::test]
async fn a_budget_whose_counter_is_lost_begins_with_what_waits_in_the_spool() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start_with(dir, |config| config.general_settings.proxy_batch_write_at = 3_600).await;
    let hash = "ab".repeat(32);
    let settings = Settings { max_budget_nanos: Some(5), ..Settings::default() };
    server.database.put(Entity { settings, ..Entity::new(EntityKind::Key, hash.as_str()) });
    let (status, _) = server.post(USAGE_PATH, batch(vec![record("before", None)])).await;
    assert_eq!((status, server.database.rows.lock().len()), (200, 0), "it waits");
    server.process(question(&ask(&hash, "claude"))).await.unwrap();
    assert!(server.database.rows.lock().contains_key("before"), "the ledger was asked with the row in it");
}

#[tokio::test]
async fn one_message_each_way_carries_the_plan() {
    let server = Server::start().await;
    let answers = server.process(question(&ask(MASTER_KEY_HASH, "gpt"))).await.unwrap();
    assert_eq!(answers.len(), 1);
    let Some(Answer::RequestHeaders(response)) = &answers[0].response else { panic!("{answers:?}") };
    let common = response.response.as_ref().unwrap();
    assert!(common.clear_route_cache, "else attempt 1 goes to the default cluster");
    let mutation = common.header_mutation.as_ref().unwrap();
    assert_eq!(mutation.remove_headers, [ASK_HEADER, "x-attache-mirror"]);
    let set: HashMap<&str, &str> = mutation
        .set_headers
        .iter()
        .map(|h| h.header.as_ref().unwrap())
        .map(|h| (h.key.as_str(), std::str::from_utf8(&h.raw_value).unwrap()))
        .collect();
    assert_eq!(set["x-envoy-max-retries"], "3");
    assert_eq!(set["x-envoy-upstream-rq-per-try-timeout-ms"], "600000");
    assert_eq!(set["x-envoy-upstream-rq-timeout-ms"], "2520000", "waits included");

    let metadata = object(answers[0].dynamic_metadata.as_ref().unwrap());
    let groups = metadata["attache"]["priority_groups"].as_array().unwrap();
    let clusters: Vec<&str> =
        groups.iter().map(|g| g["clusters"][0]["cluster_name"].as_str().unwrap()).collect();
    assert_eq!(clusters, ["gpt/openai/a", "gpt/openai/a", "claude/openai/c", "claude/openai/c"]);
    let mut names: Vec<&str> = groups.iter().map(|g| g["name"].as_str().unwrap()).collect();
    names.dedup();
    assert_eq!(names.len(), 4, "each step is a group of its own");
    assert!(
        groups
            .iter()
            .all(|g| g["clusters"].as_array().unwrap().len() == 1 && g["clusters"][0]["weight"] == 1)
    );
    let note: Note = serde_json::from_str(metadata["attache"]["note"].as_str().unwrap()).unwrap();
    assert_eq!((note.contract, note.group.as_str(), note.generation), (VERSION, "gpt", 3));
    assert!(server.counters.admitted.lock().contains(&note.reservation.unwrap()));

    let (_, text) = server.health("/metrics").await;
    for line in [
        "attache_ext_proc_streams_total 1",
        "attache_ext_proc_messages_received_total 1",
        "attache_ext_proc_messages_sent_total 1",
        "attache_decisions_total{result=\"allowed\"} 1",
        "attache_deployment_cooling{deployment=\"a\"} 0",
        "attache_deployment_state{deployment=\"a\",model_group=\"gpt\"} 0",
        "attache_decision_seconds_count 1",
    ] {
        assert!(text.as_str().unwrap().lines().any(|l| l == line), "{line} in {text}");
    }
}

#[tokio::test]
async fn a_refusal_is_an_immediate_response_in_openais_shape() {
    let server = Server::start().await;
    let refused = immediate(server.process(question(&ask(MASTER_KEY_HASH, "nonsense"))).await.unwrap());
    assert_eq!(refused.status.unwrap().code, 404);
    assert_eq!(refused.details, "attache_model_not_found");
    let body: Json = serde_json::from_slice(&refused.body).unwrap();
    assert_eq!(body["error"]["code"], "model_not_found");
    let names: Vec<String> =
        refused.headers.unwrap().set_headers.into_iter().map(|h| h.header.unwrap().key).collect();
    assert!(names.contains(&"content-type".to_owned()));

    server.envoy.0.store(false, Ordering::Relaxed);
    let refused = immediate(server.process(question(&ask(MASTER_KEY_HASH, "gpt"))).await.unwrap());
    assert_eq!(refused.status.unwrap().code, 503);
    let set = refused.headers.unwrap().set_headers;
    assert!(set.iter().any(|h| h.header.as_ref().unwrap().key == "retry-after"));

    let refused = immediate(server.process(headers("not json")).await.unwrap());
    assert_eq!(refused.status.unwrap().code, 500);
    let future = r#"{"contract":99,"call_id":"c","key":"k","endpoint":"embeddings","model":"m"}"#;
    let refused = immediate(server.process(headers(future)).await.unwrap());
    assert_eq!(refused.status.unwrap().code, 503);
}

#[tokio::test]
async fn another_phase_is_an_error_of_the_configuration() {
    let server = Server::start().await;
    let error = server.process(ProcessingRequest::default()).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::InvalidArgument);
}

#[tokio::test]
async fn usage_is_taken_once_and_is_in_the_ledger_after_a_shutdown() {
    let server = Server::start().await;
    let answers = server.process(question(&ask(MASTER_KEY_HASH, "gpt"))).await.unwrap();
    let metadata = object(answers[0].dynamic_metadata.as_ref().unwrap());
    let note: Note = serde_json::from_str(metadata["attache"]["note"].as_str().unwrap()).unwrap();

    let records = vec![record("call-gpt", note.reservation), record("call-other", None)];
    for _ in 0..2 {
        let (status, ack) = server.post(USAGE_PATH, batch(records.clone())).await;
        assert_eq!((status, ack["accepted"].as_u64()), (200, Some(2)));
    }
    assert_eq!(server.counters.settled.load(Ordering::Relaxed), 1);
    assert_eq!(server.counters.failed.lock().len(), 2, "a duplicate is no second failure");
    let (_, text) = server.health("/metrics").await;
    assert!(text.as_str().unwrap().contains("attache_usage_duplicates_total 2\n"));
    let socket = server.socket.clone();
    let (database, dir) = server.stop().await;
    assert_eq!(database.totals().await.unwrap().rows, 2);
    assert!(!socket.exists(), "the socket goes with its listener");

    let again = Server::start_in(dir).await;
    assert_eq!(
        again.post(USAGE_PATH, batch(records)).await.0,
        200,
        "a restarted sidecar takes a repeated batch"
    );
}

#[tokio::test]
async fn internal_endpoints_check_the_contract_and_the_json() {
    let server = Server::start().await;
    for path in [KEY_LOOKUP_PATH, KEY_CHANGES_PATH, DECIDE_PATH, USAGE_PATH] {
        let (status, body) = server.post(path, r#"{"contract": 99, "new_field": []}"#).await;
        assert_eq!(status, 409, "{path} {body}");
        let (status, body) = server.post(path, "{").await;
        assert_eq!((status, body["error"]["type"].as_str()), (400, Some("invalid_request_error")), "{path}");
    }
}

#[tokio::test]
async fn keys_are_looked_up_and_an_outage_is_not_an_unknown_key() {
    let server = Server::start().await;
    let lookup = |key: &str| json!({"contract": VERSION, "hash": crate::keys::hash(key)}).to_string();
    let (status, answer) = server.post(KEY_LOOKUP_PATH, lookup("sk-master-key-0001")).await;
    assert_eq!((status, answer["key"]["id"].as_str()), (200, Some(MASTER_KEY_HASH)));
    let (status, answer) = server.post(KEY_LOOKUP_PATH, lookup("sk-nobody")).await;
    assert_eq!((status, &answer["key"]), (200, &Json::Null));
    server.database.away.store(true, Ordering::Relaxed);
    let (status, body) = server.post(KEY_LOOKUP_PATH, lookup("sk-someone-else")).await;
    assert_eq!(status, 503);
    assert!(!body.to_string().contains("double"));
    assert_eq!(server.post(KEY_LOOKUP_PATH, lookup("sk-master-key-0001")).await.0, 200);
}

#[tokio::test]
async fn readiness_waits_for_envoy_and_shows_the_stores() {
    let server = Server::start().await;
    server.envoy.0.store(false, Ordering::Relaxed);
    assert_eq!(server.health("/health/liveliness").await, (200, json!("I'm alive!")));
    let (status, body) = server.health("/health/readiness").await;
    assert_eq!(status, 503);
    assert!(body["reasons"][0].as_str().unwrap().contains("Envoy"));
    server.envoy.0.store(true, Ordering::Relaxed);
    let (status, body) = server.health("/health/readiness").await;
    assert_eq!(body["envoy"]["connected"], 1);
    assert_eq!((status, &body["db"], &body["status"]), (200, &json!("connected"), &json!("healthy")));
}

#[tokio::test]
async fn unknown_paths_are_404_and_the_socket_is_its_owners() {
    use std::os::unix::fs::PermissionsExt;
    let server = Server::start().await;
    assert_eq!(server.post("/internal/v1/nothing", "{}").await.0, 404);
    let mode = std::fs::metadata(&server.socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
    use super::listen::UnixSocket;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("deep/er/a.sock");
    let first = UnixSocket::bind(&path, 0o600).await.unwrap();
    let error = UnixSocket::bind(&path, 0o600).await.err().unwrap().to_string();
    assert!(error.contains("another process"), "{error}");
    drop(first);
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "std leaves a stale socket");
    let second = UnixSocket::bind(&path, 0o660).await.unwrap();
    drop(second);
    std::fs::write(&path, "a file").unwrap();
    assert!(UnixSocket::bind(&path, 0o600).await.is_err(), "a file of someone's is not removed");
    assert!(path.exists());
}
