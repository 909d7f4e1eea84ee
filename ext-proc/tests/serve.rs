//! `serve_until` whole: SQLite, in-process counters, a Unix socket, and no Envoy yet.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use attache::config::{Config, Secret};
use attache::routing::Snapshot;
use attache::server::{ServeOptions, serve_until};
use attache::store::open_database;
use attache_llm::contract::{KEY_LOOKUP_PATH, USAGE_PATH, VERSION};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

const MASTER: &str = "sk-master-key-for-tests";

fn config() -> Config {
    let mut config = Config::default();
    config.general_settings.master_key = Some(Secret::new(MASTER));
    // Longer than the test: only the flush at shutdown can write.
    config.general_settings.proxy_batch_write_at = 3_600;
    config
}

struct Sidecar {
    socket: PathBuf,
    health: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Sidecar {
    async fn start(dir: &Path) -> Self {
        let health = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let socket = dir.join("attache.sock");
        let options = ServeOptions {
            config: Arc::new(config()),
            snapshot: Snapshot::default(),
            data_dir: dir.to_owned(),
            socket: socket.clone(),
            socket_mode: 0o600,
            tls: None,
            health_listen: health,
            wasm: PathBuf::from("/nowhere/attache.wasm"),
            ca_file: PathBuf::from("/etc/ssl/certs/ca-certificates.crt"),
            reload: None,
        };
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            let shutdown = async {
                let _ = stopped.await;
            };
            Box::pin(serve_until(options, shutdown)).await
        });
        for _ in 0..500 {
            if socket.exists() {
                return Self { socket, health, stop, task };
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the sidecar did not start: {:?}", task.await);
    }

    async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        exchange(TokioIo::new(UnixStream::connect(&self.socket).await.unwrap()), "POST", path, &body).await
    }

    async fn health(&self, path: &str) -> (u16, Value) {
        let stream = TokioIo::new(TcpStream::connect(self.health).await.unwrap());
        exchange(stream, "GET", path, &Value::Null).await
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap().unwrap();
    }
}

async fn exchange<S>(stream: TokioIo<S>, method: &str, path: &str, body: &Value) -> (u16, Value)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::builder().method(method).uri(path).header("host", "attache");
    let request = request.header("authorization", format!("Bearer {MASTER}"));
    let body = Full::new(bytes::Bytes::from(body.to_string()));
    let request = request.header("content-type", "application/json").body(body).unwrap();
    let response = sender.send_request(request).await.unwrap();
    let status = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

fn usage(call_ids: &[&str]) -> Value {
    let record = |call_id: &&str| {
        json!({
            "call_id": call_id, "key": "litellm_proxy_master_key", "endpoint": "chat_completions",
            "model": "gpt-4o", "start_us": 1_700_000_000_000_000_u64, "duration_us": 5, "status": 200,
        })
    };
    json!({"contract": VERSION, "records": call_ids.iter().map(record).collect::<Vec<_>>()})
}

#[tokio::test]
async fn usage_survives_restarts_and_is_never_written_twice() {
    let dir = tempfile::tempdir().unwrap();
    let sidecar = Sidecar::start(dir.path()).await;
    let (status, ack) = sidecar.post(USAGE_PATH, usage(&["one", "two"])).await;
    assert_eq!((status, &ack["accepted"]), (200, &json!(2)));
    sidecar.stop().await;

    // Envoy did not see the acknowledgement: it sends the batch again to the next process.
    let sidecar = Sidecar::start(dir.path()).await;
    assert_eq!(sidecar.post(USAGE_PATH, usage(&["one", "two", "three"])).await.0, 200);
    sidecar.stop().await;

    let database = open_database(&config().database(dir.path())).await.unwrap();
    assert_eq!(database.totals().await.unwrap().rows, 3);
}

#[tokio::test]
async fn without_an_envoy_it_is_alive_and_not_ready() {
    let dir = tempfile::tempdir().unwrap();
    let sidecar = Sidecar::start(dir.path()).await;
    assert_eq!(sidecar.health("/health/liveliness").await.0, 200);
    let (status, body) = sidecar.health("/health/readiness").await;
    assert_eq!((status, &body["envoy"]["connected"]), (503, &json!(0)));
    assert_eq!(sidecar.health("/key/info").await.0, 404, "the health listener serves health only");
    sidecar.stop().await;
}

#[tokio::test]
async fn a_key_made_over_the_admin_api_is_known_to_the_gate() {
    let dir = tempfile::tempdir().unwrap();
    let sidecar = Sidecar::start(dir.path()).await;
    let (status, made) = sidecar.post("/key/generate", json!({"models": ["gpt-4o"]})).await;
    assert_eq!(status, 200, "{made}");
    let key = made["key"].as_str().unwrap();
    let hash = attache::keys::hash(key);
    let (status, answer) =
        sidecar.post(KEY_LOOKUP_PATH, json!({"contract": VERSION, "hash": hash.clone()})).await;
    assert_eq!((status, &answer["key"]["id"]), (200, &json!(hash)));
    assert_eq!(sidecar.post("/nothing/here", json!({})).await.0, 404);
    sidecar.stop().await;
}
