//! `serve_until` whole: SQLite, in-process counters, a Unix socket, and no Envoy yet.

use std::future::pending;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use attache::config::{self, Config, Env, Secret};
use attache::entity::{Entity, EntityKind};
use attache::prices::PriceTable;
use attache::routing::Snapshot;
use attache::secrets::{self, SALT_KEY, Salt, SaltKey};
use attache::server::{Fresh, Reload, ServeOptions, serve_until};
use attache::store::{Author, Write, open_database};
use attache_llm::contract::{KEY_CHANGES_PATH, KEY_LOOKUP_PATH, USAGE_PATH, VERSION};
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

fn options(dir: &Path) -> ServeOptions {
    ServeOptions {
        config: Arc::new(config()),
        snapshot: Snapshot::default(),
        data_dir: dir.to_owned(),
        keys_dir: dir.join("aws"),
        socket: dir.join("attache.sock"),
        socket_mode: 0o600,
        tls: None,
        health_listen: std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap(),
        wasm: PathBuf::from("/nowhere/attache.wasm"),
        ca_file: PathBuf::from("/etc/ssl/certs/ca-certificates.crt"),
        fixed_clusters: false,
        prices: PriceTable::default(),
        salt: None,
        reload: None,
    }
}

struct Sidecar {
    socket: PathBuf,
    health: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Sidecar {
    async fn start(dir: &Path) -> Self {
        Self::start_with(dir, Snapshot::default(), None).await
    }

    async fn start_with(dir: &Path, snapshot: Snapshot, reload: Option<Reload>) -> Self {
        Self::serve(ServeOptions { snapshot, reload, ..options(dir) }).await
    }

    async fn serve(options: ServeOptions) -> Self {
        let (socket, health) = (options.socket.clone(), options.health_listen);
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
    let text = || Value::String(String::from_utf8_lossy(&bytes).into_owned());
    (status, serde_json::from_slice(&bytes).unwrap_or_else(|_| text()))
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

/// A configuration of one group with this many deployments.
fn model_list(deployments: usize) -> String {
    let entry = |n| {
        format!(
            "- model_name: chat\n  litellm_params: {{model: openai/gpt-4o, api_base: 'http://127.0.0.1:9/v1', api_key: sk-provider-secret-{n}}}\n  model_info: {{id: d{n}}}\n"
        )
    };
    format!("model_list:\n{}", (0..deployments).map(entry).collect::<String>())
}

/// Reads the configuration at `file`, and again whenever it changes.
fn watching(file: &Path) -> (Snapshot, Reload) {
    let read = |file: &Path, generation| -> anyhow::Result<Fresh> {
        let env = Env::default().with([("LITELLM_MASTER_KEY", MASTER)]);
        let loaded = config::load(file, &env)?;
        let snapshot = config::snapshot(&loaded.config, &PriceTable::default(), generation, &env)?;
        let identities = loaded.config.features.identities;
        Ok(Fresh { snapshot, identities, files: loaded.files })
    };
    let fresh = read(file, 1).unwrap();
    let owned = file.to_owned();
    let reload = Reload::new(move |generation| read(&owned, generation));
    (fresh.snapshot, reload.watching(file.into(), fresh.files, Duration::from_millis(20)))
}

impl Sidecar {
    /// `config` of readiness, once it is as wanted.
    async fn config(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut config = Value::Null;
        for _ in 0..500 {
            config = self.health("/health/readiness").await.1["config"].take();
            if wanted(&config) {
                return config;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{config}");
    }

    async fn failures(&self) -> u64 {
        let (_, text) = self.health("/metrics").await;
        let text = text.as_str().unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("attache_config_reload_failures_total "));
        line.unwrap().parse().unwrap()
    }

    async fn deployments(&self) -> usize {
        let stream = TokioIo::new(UnixStream::connect(&self.socket).await.unwrap());
        let (status, body) = exchange(stream, "GET", "/model/info", &Value::Null).await;
        assert_eq!(status, 200, "{body}");
        body["data"].as_array().unwrap().len()
    }
}

#[tokio::test]
async fn a_changed_file_becomes_the_configuration_and_a_bad_one_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let (root, part) = (dir.path().join("config.yaml"), dir.path().join("models.yaml"));
    std::fs::write(&root, "include: [models.yaml]\n").unwrap();
    std::fs::write(&part, model_list(1)).unwrap();
    let (snapshot, reload) = watching(&root);
    let sidecar = Sidecar::start_with(dir.path(), snapshot, Some(reload)).await;
    assert_eq!(sidecar.config(|_| true).await, json!({"generation": 1, "last_error": null}));
    assert_eq!(sidecar.deployments().await, 1);

    std::fs::write(&part, model_list(2)).unwrap();
    sidecar.config(|config| config["generation"] == 2).await;
    assert_eq!(sidecar.deployments().await, 2);

    std::fs::write(&part, model_list(3).replace("api_base", "api_bsae")).unwrap();
    let config = sidecar.config(|config| !config["last_error"].is_null()).await;
    assert_eq!(config["generation"], 2);
    let error = config["last_error"].as_str().unwrap();
    assert!(error.contains("api_bsae") && !error.contains("secret"), "{error}");
    assert_eq!(sidecar.deployments().await, 2, "the one in force stays");
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(sidecar.failures().await, 1, "content that failed is not tried again");

    std::fs::write(&part, "").unwrap();
    let config = sidecar.config(|c| c["last_error"].as_str().is_some_and(|e| e.contains("model"))).await;
    assert_eq!(config["generation"], 2, "an emptied file does not take every model away");

    // An include that is missing is watched for.
    std::fs::write(&root, "include: [models.yaml, more.yaml]\n").unwrap();
    std::fs::write(&part, model_list(3)).unwrap();
    let config = sidecar.config(|c| c["last_error"].as_str().is_some_and(|e| e.contains("more.yaml"))).await;
    assert_eq!(config["generation"], 2);
    std::fs::write(dir.path().join("more.yaml"), "router_settings: {num_retries: 1}\n").unwrap();
    let config = sidecar.config(|config| config["generation"] == 3).await;
    assert_eq!(config["last_error"], Value::Null);
    assert_eq!(sidecar.deployments().await, 3);
    sidecar.stop().await;
}

#[tokio::test]
async fn callers_without_a_key_follow_the_file_as_it_changes() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("config.yaml");
    std::fs::write(&root, model_list(1)).unwrap();
    let (snapshot, reload) = watching(&root);
    let sidecar = Sidecar::start_with(dir.path(), snapshot, Some(reload)).await;
    let ask = json!({"contract": VERSION, "hash": "spiffe:spiffe://corp.example/ns/batch"});
    let id = async || sidecar.post(KEY_LOOKUP_PATH, ask.clone()).await.1["key"]["id"].take();
    assert_eq!(id().await, Value::Null);
    let flush = json!({"contract": VERSION, "epoch": "", "generation": 0});
    let known = sidecar.post(KEY_CHANGES_PATH, flush).await.1;
    let seen = json!({"contract": VERSION, "epoch": known["epoch"], "generation": known["generation"]});

    let identities = |name: &str| {
        format!(
            "{}features:\n  identities:\n  - {{name: {name}, spiffe: 'spiffe://corp.example/ns/*', team_id: data}}\n",
            model_list(1)
        )
    };
    std::fs::write(&root, identities("batch")).unwrap();
    sidecar.config(|config| config["generation"] == 2).await;
    assert_eq!(id().await, "workload/batch");
    let (_, changes) = sidecar.post(KEY_CHANGES_PATH, seen).await;
    assert_eq!(changes["flush"], true, "gates forget whom they did not know");

    std::fs::write(&root, identities("nightly")).unwrap();
    sidecar.config(|config| config["generation"] == 3).await;
    assert_eq!(id().await, "workload/nightly");
    std::fs::write(&root, model_list(2)).unwrap();
    sidecar.config(|config| config["generation"] == 4).await;
    assert_eq!(id().await, Value::Null);
    sidecar.stop().await;
}

fn salt(text: &str) -> Salt {
    Salt { key: SaltKey::new(&Secret::new(text)), is_master_key: false }
}

#[tokio::test]
async fn another_salt_key_than_that_of_the_stored_credentials_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let sidecar = Sidecar::serve(ServeOptions { salt: Some(salt("first")), ..options(dir.path()) }).await;
    sidecar.stop().await;
    // Nothing is encrypted yet: any key will do, and none.
    Sidecar::start(dir.path()).await.stop().await;

    let database = open_database(&config().database(dir.path())).await.unwrap();
    let (mine, author) = (salt("salt-of-this-test"), Author::default());
    let key = secrets::prepare(&*database, Some(&mine), &author).await.unwrap();
    let mut credential = Entity::new(EntityKind::Credential, "openai");
    let values = json!({"api_key": "sk-provider-secret"});
    let sealed = secrets::seal(values.as_object().unwrap(), key);
    credential.settings.rest.insert("credential_values".to_owned(), sealed.into());
    database.apply(&[Write::Insert(credential)], &author).await.unwrap();
    drop(database);

    for wrong in [Some(salt("another")), None] {
        let refused = serve_until(ServeOptions { salt: wrong, ..options(dir.path()) }, pending()).await;
        let error = format!("{:#}", refused.unwrap_err());
        assert!(error.contains(SALT_KEY) && !error.contains("salt-of-this-test"), "{error}");
        assert!(!error.contains("sk-"), "{error}");
    }
    Sidecar::serve(ServeOptions { salt: Some(mine), ..options(dir.path()) }).await.stop().await;
}
