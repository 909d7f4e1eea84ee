//! Redis Cluster, Sentinel and TLS: private servers on free ports, gone with the test process however it ends.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};

use tokio::sync::{Mutex, MutexGuard};

use super::super::testing::{TempDir, find, run, signal};
use super::*;
use crate::config::Secret;

const PASSWORD: &str = "p@ss/word";
const SENTINEL_PASSWORD: &str = "of the sentinel";
const SERVICE: &str = "attache";
/// Kills the server when nobody holds its input any more: a static outlives every drop, and a test may be killed.
const GUARD: &str =
    r#"dir=$1; shift; "$@" >"$dir/log" 2>&1 & pid=$!; read -r _; kill -9 $pid; wait; rm -rf "$dir""#;

/// A port that nobody listens on, below those of outgoing connections.
fn free_port() -> u16 {
    loop {
        let port = 10_000 + rand::random::<u16>() % 20_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Of the server on this port. It goes with its server.
fn directory(port: u16) -> PathBuf {
    std::env::temp_dir().join(format!("attache-{}-{port}", std::process::id()))
}

/// A server on a port of its own.
struct Server {
    port: u16,
    url: String,
    directory: PathBuf,
    bus: Option<String>,
    /// The guard and its input.
    running: Option<(Child, ChildStdin)>,
}

impl Server {
    fn start(port: u16, tls: Option<&Certificates>, more: &[String]) -> Self {
        let directory = directory(port);
        std::fs::create_dir_all(&directory).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", GUARD, "sh"]).arg(&directory);
        command.arg(find("ATTACHE_REDIS_SERVER", "redis-server", &["/usr/bin", "/usr/local/bin"]));
        command.args(more).args(["--bind", "127.0.0.1", "--dir"]).arg(&directory);
        let port_argument = if tls.is_some() { "--tls-port" } else { "--port" };
        command.args([port_argument, &port.to_string()]);
        if let Some(tls) = tls {
            command.args(["--port", "0", "--tls-auth-clients", "no", "--tls-replication", "yes"]);
            command.arg("--tls-ca-cert-file").arg(tls.authority());
            command.arg("--tls-cert-file").arg(tls.file("cert.pem"));
            command.arg("--tls-key-file").arg(tls.file("key.pem"));
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let input = child.stdin.take().unwrap();
        let scheme = if tls.is_some() { "rediss" } else { "redis" };
        let url = format!("{scheme}://:p%40ss%2Fword@127.0.0.1:{port}/");
        let bus = more.iter().skip_while(|argument| *argument != "--cluster-port").nth(1).cloned();
        Self { port, url, directory, bus, running: Some((child, input)) }
    }

    /// One that has counters.
    fn data(tls: Option<&Certificates>, more: &[&str]) -> Self {
        let mut arguments: Vec<String> = ["--save", "", "--appendonly", "no"].map(str::to_owned).into();
        arguments.extend(["--repl-diskless-sync-delay", "0", "--requirepass", PASSWORD].map(str::to_owned));
        arguments.extend(["--masterauth", PASSWORD].map(str::to_owned));
        arguments.extend(more.iter().map(|argument| (*argument).to_owned()));
        Self::start(free_port(), tls, &arguments)
    }

    /// Port of the cluster's bus, as the arguments say.
    fn bus(&self) -> String {
        self.bus.clone().unwrap()
    }

    fn kill(&mut self) {
        let Some((mut child, input)) = self.running.take() else { return };
        drop(input);
        let _ = child.wait();
    }

    async fn connection(
        &self,
        tls: Option<&Certificates>,
    ) -> ::redis::RedisResult<::redis::aio::MultiplexedConnection> {
        let client = match tls {
            Some(tls) => {
                let root_cert = Some(std::fs::read(tls.authority()).unwrap());
                let certificates = ::redis::TlsCertificates { client_tls: None, root_cert };
                ::redis::Client::build_with_tls(self.url.as_str(), certificates)?
            }
            None => ::redis::Client::open(self.url.as_str())?,
        };
        let config = ::redis::AsyncConnectionConfig::new().set_response_timeout(Some(PATIENT));
        client.get_multiplexed_async_connection_with_config(&config).await
    }

    /// Waits until it answers.
    async fn ready(&self, tls: Option<&Certificates>) -> ::redis::aio::MultiplexedConnection {
        let started = Instant::now();
        loop {
            match self.connection(tls).await {
                Ok(connection) => return connection,
                Err(error) if started.elapsed() > Duration::from_secs(20) => {
                    let log = std::fs::read_to_string(self.directory.join("log")).unwrap_or_default();
                    panic!("redis-server did not start: {error}: {log}");
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }
}

/// Until the replica has heard of all that was written.
async fn replicated(primary: &mut ::redis::aio::MultiplexedConnection) {
    let mut last = ::redis::cmd("SET");
    let () = last.arg("attache:{counters}:last").arg(1).query_async(primary).await.unwrap();
    let heard: u64 = ::redis::cmd("WAIT").arg(1).arg(15_000).query_async(primary).await.unwrap();
    assert_eq!(heard, 1);
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// An authority of its own, and what it signed for 127.0.0.1.
pub(super) struct Certificates(TempDir);

impl Certificates {
    pub(super) fn new() -> Self {
        let made = Self(TempDir::new());
        let openssl = |name: &str, more: &[&str]| {
            let mut command = Command::new("openssl");
            command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]);
            command.args(["-nodes", "-days", "2", "-subj", &format!("/CN={name}")]).args(more);
            run(command.current_dir(made.0.path()).stderr(Stdio::null()));
        };
        openssl("authority", &["-keyout", "ca.key", "-out", "ca.pem"]);
        let signed = ["-CA", "ca.pem", "-CAkey", "ca.key", "-keyout", "key.pem", "-out", "cert.pem"];
        let names = ["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=CA:FALSE"];
        openssl("server", &[&signed[..], &names[..]].concat());
        made
    }

    pub(super) fn authority(&self) -> PathBuf {
        self.file("ca.pem")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

/// One server that speaks TLS only.
pub(super) struct Tls {
    server: Server,
    pub(super) certificates: Certificates,
}

impl Tls {
    /// `cluster`: that is a cluster of one.
    pub(super) async fn start(cluster: bool) -> Self {
        let certificates = Certificates::new();
        let more: &[&str] = if cluster { &["--cluster-enabled", "yes", "--tls-cluster", "yes"] } else { &[] };
        let server = Server::data(Some(&certificates), more);
        let mut connection = server.ready(Some(&certificates)).await;
        if cluster {
            let mut slots = ::redis::cmd("CLUSTER");
            slots.arg("ADDSLOTSRANGE").arg(0).arg(16_383);
            let () = slots.query_async(&mut connection).await.unwrap();
            until_ok(&mut connection).await;
        }
        Self { server, certificates }
    }

    pub(super) fn servers(&self, cluster: bool) -> RedisServers {
        let nodes = match cluster {
            true => RedisNodes::Cluster(vec![("127.0.0.1".into(), self.server.port)]),
            false => RedisNodes::One,
        };
        let url = Secret::new(self.server.url.clone());
        RedisServers { url, nodes, ca_certs: Some(self.certificates.authority()) }
    }
}

async fn until_ok(connection: &mut ::redis::aio::MultiplexedConnection) {
    eventually("the cluster is up", async || {
        let info: String = ::redis::cmd("CLUSTER").arg("INFO").query_async(connection).await.unwrap();
        info.contains("cluster_state:ok")
    })
    .await;
}

/// Three masters.
pub(super) struct Cluster(Vec<Server>);

impl Cluster {
    pub(super) async fn start() -> Self {
        let servers = vec![Self::node(), Self::node(), Self::node()];
        for server in &servers {
            server.ready(None).await;
        }
        let mut create =
            Command::new(find("ATTACHE_REDIS_CLI", "redis-cli", &["/usr/bin", "/usr/local/bin"]));
        create.args(["-a", PASSWORD, "--no-auth-warning", "--cluster", "create"]);
        create.args(servers.iter().map(|server| format!("127.0.0.1:{}", server.port)));
        run(create.arg("--cluster-yes").stdout(Stdio::null()));
        for server in &servers {
            until_ok(&mut server.ready(None).await).await;
        }
        Self(servers)
    }

    fn node() -> Server {
        let bus = free_port().to_string();
        let timeout = ["--cluster-node-timeout", "1500", "--cluster-replica-validity-factor", "0"];
        let enabled = ["--cluster-enabled", "yes", "--cluster-port", &bus];
        Server::data(None, &[enabled, timeout].concat())
    }

    /// By three of its nodes, of which one is away.
    pub(super) fn servers(&self) -> RedisServers {
        let ports = [1, self.0[0].port, self.0[1].port];
        let nodes = ports.map(|port| ("127.0.0.1".to_owned(), port)).into();
        let url = Secret::new(self.0[0].url.clone());
        RedisServers { url, nodes: RedisNodes::Cluster(nodes), ca_certs: None }
    }

    /// A node that has no counters, as if it were the only one.
    pub(super) async fn stranger(&self) -> RedisServers {
        let other = (self.counters().await + 1) % self.0.len();
        RedisServers::one(Secret::new(self.0[other].url.clone()))
    }

    /// The node that has the counters, or will have them.
    async fn counters(&self) -> usize {
        let mut connection = self.0[0].ready(None).await;
        let slot: u64 = cluster_command(&mut connection, &["KEYSLOT", "attache:{counters}:epoch"]).await;
        for (index, server) in self.0.iter().enumerate() {
            let mut connection = server.ready(None).await;
            let nodes: String = cluster_command(&mut connection, &["NODES"]).await;
            let own = nodes.lines().find(|line| line.contains("myself")).unwrap();
            let has = |range: &str| {
                let (from, to) = range.split_once('-').unwrap_or((range, range));
                from.parse().is_ok_and(|from: u64| from <= slot) && to.parse().is_ok_and(|to: u64| slot <= to)
            };
            if own.split(' ').skip(8).any(has) {
                return index;
            }
        }
        panic!("nobody has slot {slot}");
    }

    /// Of the node that has the counters.
    pub(super) async fn add_replica(&mut self) {
        let primary = self.counters().await;
        let (replica, bus) = (Self::node(), self.0[primary].bus());
        let mut connection = replica.ready(None).await;
        let port = self.0[primary].port.to_string();
        let () = cluster_command(&mut connection, &["MEET", "127.0.0.1", &port, &bus]).await;
        let id: String = cluster_command(&mut self.0[primary].ready(None).await, &["MYID"]).await;
        eventually("it knows its primary", async || {
            let replicate =
                ::redis::cmd("CLUSTER").arg(&["REPLICATE", &id]).exec_async(&mut connection).await;
            replicate.is_ok()
        })
        .await;
        eventually("it follows, and the others know", async || {
            let mut follows = true;
            for server in self.0.iter().chain([&replica]) {
                let mut connection = server.ready(None).await;
                let nodes: String = cluster_command(&mut connection, &["NODES"]).await;
                let is_replica =
                    |line: &str| line.contains("slave") && line.contains(&id) && line.contains(" connected");
                follows &= nodes.lines().filter(|line| is_replica(line)).count() == 1;
            }
            let info: String =
                ::redis::cmd("INFO").arg("replication").query_async(&mut connection).await.unwrap();
            follows && info.contains("master_link_status:up")
        })
        .await;
        self.0.push(replica);
    }

    pub(super) async fn replicated(&self) {
        replicated(&mut self.0[self.counters().await].ready(None).await).await;
    }

    pub(super) async fn kill_counters(&mut self) {
        let primary = self.counters().await;
        self.0[primary].kill();
    }

    /// How many keys each node has.
    pub(super) async fn sizes(&self) -> Vec<u64> {
        let mut sizes = Vec::new();
        for server in &self.0 {
            let mut connection = server.ready(None).await;
            sizes.push(::redis::cmd("DBSIZE").query_async(&mut connection).await.unwrap());
        }
        sizes
    }

    /// Moves the slot of the counters, with all that is in it, to the next node.
    pub(super) async fn move_counters(&self) {
        let from = self.counters().await;
        let (source, target) = (&self.0[from], &self.0[(from + 1) % 3]);
        let (mut a, mut b) = (source.ready(None).await, target.ready(None).await);
        let keys: Vec<String> = ::redis::cmd("KEYS").arg("*").query_async(&mut a).await.unwrap();
        let slot: u16 = cluster_command(&mut a, &["KEYSLOT", &keys[0]]).await;
        let slot = slot.to_string();
        let ids: [String; 2] =
            [cluster_command(&mut a, &["MYID"]).await, cluster_command(&mut b, &["MYID"]).await];
        let () = cluster_command(&mut b, &["SETSLOT", &slot, "IMPORTING", &ids[0]]).await;
        let () = cluster_command(&mut a, &["SETSLOT", &slot, "MIGRATING", &ids[1]]).await;
        let mut migrate = ::redis::cmd("MIGRATE");
        migrate.arg("127.0.0.1").arg(target.port).arg("").arg(0).arg(5_000).arg("REPLACE");
        migrate.arg("AUTH").arg(PASSWORD).arg("KEYS").arg(&keys);
        let () = migrate.query_async(&mut a).await.unwrap();
        for connection in [&mut b, &mut a] {
            let () = cluster_command(connection, &["SETSLOT", &slot, "NODE", &ids[1]]).await;
        }
    }
}

async fn cluster_command<T: ::redis::FromRedisValue>(
    connection: &mut ::redis::aio::MultiplexedConnection,
    arguments: &[&str],
) -> T {
    ::redis::cmd("CLUSTER").arg(arguments).query_async(connection).await.unwrap()
}

/// One cluster serves the whole suite, one test at a time, each with an empty one: to make it takes a second or two.
pub(super) async fn cluster() -> MutexGuard<'static, Option<Cluster>> {
    static SHARED: Mutex<Option<Cluster>> = Mutex::const_new(None);
    let mut shared = SHARED.lock().await;
    if shared.is_none() {
        *shared = Some(Cluster::start().await);
    }
    for server in &shared.as_ref().unwrap().0 {
        let mut connection = server.ready(None).await;
        let () = ::redis::cmd("FLUSHALL").query_async(&mut connection).await.unwrap();
    }
    shared
}

/// A primary, its replica, and a sentinel that watches them.
pub(super) struct Watched {
    pair: Vec<Server>,
    sentinel: Server,
    certificates: Option<Certificates>,
}

impl Watched {
    pub(super) async fn start(tls: bool) -> Self {
        let certificates = tls.then(Certificates::new);
        let tls = certificates.as_ref();
        let primary = Server::data(tls, &[]);
        primary.ready(tls).await;
        let port = primary.port.to_string();
        let pair = vec![primary, Server::data(tls, &["--replicaof", "127.0.0.1", &port])];
        let mut replica = pair[1].ready(tls).await;
        eventually("the replica follows", async || {
            let info: String =
                ::redis::cmd("INFO").arg("replication").query_async(&mut replica).await.unwrap();
            info.contains("master_link_status:up")
        })
        .await;
        let sentinel = Self::sentinel(pair[0].port, tls).await;
        Self { pair, sentinel, certificates }
    }

    async fn sentinel(primary: u16, tls: Option<&Certificates>) -> Server {
        let port = free_port();
        std::fs::create_dir_all(directory(port)).unwrap();
        let file = directory(port).join("sentinel.conf");
        let text = format!(
            "requirepass \"{SENTINEL_PASSWORD}\"\n\
             sentinel monitor {SERVICE} 127.0.0.1 {primary} 1\n\
             sentinel auth-pass {SERVICE} {PASSWORD}\n\
             sentinel down-after-milliseconds {SERVICE} 400\n\
             sentinel failover-timeout {SERVICE} 2000\n"
        );
        // It writes down there what it learns.
        std::fs::write(&file, text).unwrap();
        let more = [file.display().to_string(), "--sentinel".into()];
        let mut sentinel = Server::start(port, tls, &more);
        sentinel.url = sentinel.url.replace("p%40ss%2Fword", &SENTINEL_PASSWORD.replace(' ', "%20"));
        let mut connection = sentinel.ready(tls).await;
        eventually("the sentinel knows both", async || {
            let masters: Vec<std::collections::HashMap<String, String>> =
                ::redis::cmd("SENTINEL").arg("MASTERS").query_async(&mut connection).await.unwrap();
            masters[0]["num-slaves"] == "1" && masters[0]["flags"] == "master"
        })
        .await;
        sentinel
    }

    /// By two sentinels, of which one is away.
    pub(super) fn servers(&self) -> RedisServers {
        let nodes = vec![("127.0.0.1".into(), 1), ("127.0.0.1".into(), self.sentinel.port)];
        let password = Some(Secret::new(SENTINEL_PASSWORD));
        let nodes = RedisNodes::Sentinels { nodes, service: SERVICE.into(), password };
        let ca_certs = self.certificates.as_ref().map(Certificates::authority);
        RedisServers { url: Secret::new(self.pair[0].url.clone()), nodes, ca_certs }
    }

    pub(super) async fn replicated(&self) {
        replicated(&mut self.pair[0].ready(self.certificates.as_ref()).await).await;
    }

    pub(super) fn kill_primary(&mut self) {
        self.pair[0].kill();
    }

    /// It answers no more, and its connections stay open.
    pub(super) async fn freeze_primary(&self) {
        let mut primary = self.pair[0].ready(self.certificates.as_ref()).await;
        let info: String = ::redis::cmd("INFO").arg("server").query_async(&mut primary).await.unwrap();
        let id = info.lines().find_map(|line| line.strip_prefix("process_id:")).unwrap();
        signal(id.trim().parse().unwrap(), "STOP");
    }

    /// Lets the sentinel make the replica the primary, while the primary lives.
    pub(super) async fn switch(&self) {
        let mut sentinel = self.sentinel.ready(self.certificates.as_ref()).await;
        let mut failover = ::redis::cmd("SENTINEL");
        let () = failover.arg("FAILOVER").arg(SERVICE).query_async(&mut sentinel).await.unwrap();
    }
}
