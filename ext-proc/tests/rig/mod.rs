#![expect(unreachable_pub, reason = "a test has no public interface")]
//! A real Envoy with the rendered bootstrap, a control plane over [`Published`], a scripted ext_proc and upstreams.

mod client;
mod control;

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use attache::config::Secret;
use attache::credentials::Credential;
use attache::envoy::{AdsService, BootstrapOptions, ClusterOptions, Published, SidecarAddress, render};
use attache::routing::{Deployment, LiveClusters, Snapshot};
use attache_llm::contract::DeploymentMeta;
use serde_json::json;
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio::runtime::Runtime;
use tokio_stream::wrappers::UnixListenerStream;

pub use client::{Answer, request};
pub use control::{ExtProc, PLAN, Upstream};

/// A module that satisfies Envoy and does one thing: it holds headers and body until the body's end, as the gate does.
/// So these tests do not depend on the filter's build. (Headers that go on before their body make Envoy refuse bodies far
/// below the limit now and then: the sidecar's answer clears the route, and the limit with it, while data arrives.)
const WASM: &[u8] = &[
    0, b'a', b's', b'm', 1, 0, 0, 0, // types: () -> (), (i32) -> i32, (i32, i32, i32) -> i32
    1, 16, 3, 0x60, 0, 0, 0x60, 1, 0x7f, 1, 0x7f, 0x60, 3, 0x7f, 0x7f, 0x7f, 1, 0x7f, // functions
    3, 4, 3, 0, 1, 2, // memory: two pages
    5, 3, 1, 0, 2, // exports
    7, 114, 5, 6, b'm', b'e', b'm', b'o', b'r', b'y', 2, 0, 23, b'p', b'r', b'o', b'x', b'y', b'_', b'a',
    b'b', b'i', b'_', b'v', b'e', b'r', b's', b'i', b'o', b'n', b'_', b'0', b'_', b'2', b'_', b'1', 0, 0, 24,
    b'p', b'r', b'o', b'x', b'y', b'_', b'o', b'n', b'_', b'm', b'e', b'm', b'o', b'r', b'y', b'_', b'a',
    b'l', b'l', b'o', b'c', b'a', b't', b'e', 0, 1, 21, b'p', b'r', b'o', b'x', b'y', b'_', b'o', b'n', b'_',
    b'r', b'e', b'q', b'u', b'e', b's', b't', b'_', b'b', b'o', b'd', b'y', 0, 2, 24, b'p', b'r', b'o', b'x',
    b'y', b'_', b'o', b'n', b'_', b'r', b'e', b'q', b'u', b'e', b's', b't', b'_', b'h', b'e', b'a', b'd',
    b'e', b'r', b's', 0, 2, // code: nothing; address 1024; pause (1) until end of stream
    10, 16, 3, 2, 0, 0x0b, 5, 0, 0x41, 0x80, 8, 0x0b, 5, 0, 0x20, 2, 0x45, 0x0b,
];

/// How long to wait for what must happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// Sidecar double on a Unix socket, and a folder for everything.
pub struct Rig {
    pub dir: TempDir,
    pub published: Arc<Published>,
    pub ext_proc: ExtProc,
    /// A runtime of its own, so that a crash takes the connections with it.
    server: Option<Runtime>,
}

impl Rig {
    pub fn new() -> Self {
        Self::with(|published| published)
    }

    pub fn with(adjust: impl FnOnce(Published) -> Published) -> Self {
        Self::with_options(|_| {}, adjust)
    }

    pub fn with_options(
        adjust_options: impl FnOnce(&mut ClusterOptions),
        adjust: impl FnOnce(Published) -> Published,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut options = ClusterOptions::new(write_filter(dir.path()));
        adjust_options(&mut options);
        let published = Arc::new(adjust(Published::new(options)));
        let mut rig = Self { dir, published, ext_proc: ExtProc::default(), server: None };
        rig.serve();
        rig
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("attache.sock")
    }

    /// Starts the control plane (again).
    pub fn serve(&mut self) {
        let _ = std::fs::remove_file(self.socket());
        let runtime = Runtime::new().unwrap();
        let guard = runtime.enter();
        let incoming = UnixListenerStream::new(UnixListener::bind(self.socket()).unwrap());
        drop(guard);
        let server = tonic::transport::Server::builder()
            .add_service(AdsService::new(Arc::clone(&self.published)).into_server())
            .add_service(self.ext_proc.clone().into_server());
        runtime.spawn(async move { server.serve_with_incoming(incoming).await.unwrap() });
        self.server = Some(runtime);
    }

    /// Stops the control plane as a crash would.
    pub fn crash(&mut self) {
        self.server.take().unwrap().shutdown_background();
    }

    pub fn envoy(&self) -> Envoy {
        self.envoy_with(|_| {})
    }

    pub fn envoy_with(&self, adjust: impl FnOnce(&mut BootstrapOptions)) -> Envoy {
        Envoy::start(self.dir.path(), &self.socket(), adjust)
    }

    pub async fn wait_ready(&self) {
        until("the clusters to become live", || self.published.ready()).await;
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.shutdown_background();
        }
    }
}

/// Waits for a condition, or fails the test.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A running Envoy; killed on drop.
pub struct Envoy {
    pub public: SocketAddr,
    pub admin: SocketAddr,
    process: Child,
    log: PathBuf,
}

impl Envoy {
    fn start(dir: &Path, socket: &Path, adjust: impl FnOnce(&mut BootstrapOptions)) -> Self {
        let mut options = BootstrapOptions::new(SidecarAddress::Unix(socket.into()), dir.join("filter.wasm"));
        (options.listen, options.admin) = (free_address(), free_address());
        options.node_id = format!("test-{}", options.listen.port());
        adjust(&mut options);
        let name = format!("envoy-{}", options.listen.port());
        let (config, log) = (dir.join(format!("{name}.yaml")), dir.join(format!("{name}.log")));
        std::fs::write(&config, render(&options).unwrap()).unwrap();
        let process = Command::new(binary())
            .args(["--concurrency", "1", "--use-dynamic-base-id", "-l", "info", "-c"])
            .arg(config)
            .stdout(Stdio::from(File::create(&log).unwrap()))
            .stderr(Stdio::from(File::options().append(true).open(&log).unwrap()))
            .spawn()
            .expect("ATTACHE_ENVOY must be an executable");
        Self { public: options.listen, admin: options.admin, process, log }
    }

    /// What it has said so far: its log and its access log.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Waits until the public listener answers.
    pub async fn wait_listening(&self) {
        until("Envoy to listen", || std::net::TcpStream::connect(self.public).is_ok()).await;
    }

    /// POST with a plan: the clusters to try, in order.
    pub async fn chat(&self, plan: &str) -> Answer {
        request(self.public, "POST", "/v1/chat/completions", &[(PLAN, plan)], b"{}").await
    }

    pub async fn admin(&self, path: &str) -> String {
        request(self.admin, "GET", path, &[], b"").await.text()
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!("--- Envoy's log\n{}", self.log());
        }
    }
}

/// The Envoy under test: `ATTACHE_ENVOY`, else the one that `make setup` put into the checkout.
fn binary() -> OsString {
    std::env::var_os("ATTACHE_ENVOY").or_else(local_binary).expect(
        "no Envoy to test with: run `make setup`, or set ATTACHE_ENVOY to the binary of an Envoy 1.40",
    )
}

fn local_binary() -> Option<OsString> {
    let libraries = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.attache/venv/lib");
    let mut pythons = std::fs::read_dir(libraries).ok()?.flatten();
    pythons
        .find_map(|python| python.path().join("site-packages/envoy/_bin/envoy").canonicalize().ok())
        .map(PathBuf::into_os_string)
}

/// Writes the filter of these tests into a folder.
pub fn write_filter(dir: &Path) -> PathBuf {
    let path = dir.join("filter.wasm");
    std::fs::write(&path, WASM).unwrap();
    path
}

/// A file of the certificates for tests.
pub fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/server/testdata").join(name)
}

/// Fails unless Envoy finds the rendered bootstrap valid.
pub fn validate(dir: &Path, options: &BootstrapOptions) {
    let config = dir.join("validate.yaml");
    std::fs::write(&config, render(options).unwrap()).unwrap();
    let output = Command::new(binary())
        .args(["--mode", "validate", "-l", "error", "-c"])
        .arg(config)
        .output()
        .unwrap();
    assert!(output.status.success(), "{options:?}\n{}", String::from_utf8_lossy(&output.stderr));
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A snapshot of these deployments.
pub fn snapshot(generation: u64, deployments: Vec<Deployment>) -> Snapshot {
    let deployments: HashMap<_, _> = deployments
        .into_iter()
        .map(|deployment| (deployment.meta.id.clone(), Arc::new(deployment)))
        .collect();
    Snapshot { generation, deployments, ..Snapshot::default() }
}

/// A plain deployment at an address, in a cluster called as its id, with a bearer token.
pub fn deployment(id: &str, host: &str, port: u16, token: &str) -> Deployment {
    let meta: DeploymentMeta = serde_json::from_value(json!({
        "contract": 1, "id": id, "group": "g", "provider": "openai", "model": "m",
        "authority": format!("{host}:{port}"), "base_path": "/v1",
    }))
    .unwrap();
    Deployment {
        cluster: id.to_owned(),
        host: host.to_owned(),
        port,
        tls: false,
        credential: Some(Credential::Header("authorization".into(), Secret::new(format!("Bearer {token}")))),
        ..Deployment::new(meta)
    }
}
