//! Ways to a Redis: one server, the primary that sentinels name, or a cluster.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ::redis::aio::{ConnectionLike, ConnectionManager, ConnectionManagerConfig, MultiplexedConnection};
use ::redis::cluster::{ClusterClient, ClusterClientBuilder};
use ::redis::cluster_async::ClusterConnection;
use ::redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use ::redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo,
    Pipeline, RedisError, RedisFuture, RedisResult, ServerErrorKind, TlsCertificates, TlsMode, Value,
};
use arc_swap::ArcSwapOption;
use tokio::sync::Mutex;

use super::super::{RedisNodes, RedisServers, StoreError};
use super::{BACKEND, CONNECT, PREFIX, broken};
use crate::config::Secret;

/// Limit of finding the way: a sentinel that does not answer is waited for (it may be the first of the list) before
/// the next one's word counts, and then the server that it names.
const FIND: Duration = Duration::from_secs(4);
/// Times that a command follows a slot to where it moved, and milliseconds between those at most: longer than a
/// request waits.
const REDIRECTS: u32 = 4;
const REDIRECT_WAIT: u64 = 20;

/// The way to the counters, and the connection that all calls share.
pub(super) struct Link {
    target: Target,
    current: ArcSwapOption<Connection>,
    /// The way is being found anew.
    finding: AtomicBool,
}

/// Where to connect to.
enum Target {
    One(Client),
    /// Asked anew for every connection.
    Sentinels(Mutex<SentinelClient>),
    Cluster(ClusterClient),
}

/// Shared by all calls.
#[derive(Clone)]
pub(super) enum Connection {
    /// Connects again by itself, by the same name.
    One(ConnectionManager),
    /// A primary that sentinels named. When it goes they are asked again: at its address there may soon be a server
    /// that is no primary any more, and has not heard of it.
    Primary(MultiplexedConnection),
    /// Follows the cluster by itself.
    Cluster(ClusterConnection),
}

impl Link {
    /// Does not connect. Reads the certificates of authorities.
    pub(super) fn new(servers: &RedisServers) -> Result<Self, StoreError> {
        let target = Target::new(servers)?;
        let current = match &target {
            Target::One(client) => Some(Connection::One(manager(client).map_err(|error| broken(&error))?)),
            Target::Sentinels(_) | Target::Cluster(_) => None,
        };
        let current = ArcSwapOption::from(current.map(Arc::new));
        Ok(Self { target, current, finding: AtomicBool::new(false) })
    }

    /// The connection of now. One that fails is replaced by itself, or by [`Self::replace`].
    pub(super) fn connection(&self) -> RedisResult<Connection> {
        match self.current.load().as_deref() {
            Some(connection) => Ok(connection.clone()),
            None => Err((ErrorKind::Client, "not connected yet").into()),
        }
    }

    /// Finds the way, and waits for the connection.
    pub(super) async fn connect(&self) -> RedisResult<()> {
        let limit = match self.target {
            Target::One(_) => CONNECT,
            Target::Sentinels(_) | Target::Cluster(_) => FIND,
        };
        let attempt = async {
            let mut connection = self.target.connect().await?;
            connection.ping().await?;
            self.current.store(Some(Arc::new(connection)));
            Ok(())
        };
        match tokio::time::timeout(limit, attempt).await {
            Ok(outcome) => outcome,
            Err(_) => Err(late(limit)),
        }
    }

    /// Finds the way anew, beside the calls, which wait for none: a connection whose peer vanished without a word
    /// never fails by itself, and the primary may be another server now.
    pub(super) fn replace(self: &Arc<Self>) {
        if self.finding.swap(true, Ordering::AcqRel) {
            return;
        }
        let link = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(error) = link.connect().await {
                tracing::debug!(%error, "no way to the shared counters");
            }
            link.finding.store(false, Ordering::Release);
        });
    }

    /// Is it no use to go on with this connection, after such an answer?
    pub(super) fn leads_nowhere(&self, error: &RedisError) -> bool {
        match &self.target {
            // Its name stands for another server now, or will do so soon.
            Target::One(_) => is_replica(error),
            Target::Sentinels(_) => is_replica(error) || error.is_connection_dropped(),
            Target::Cluster(_) => false,
        }
    }
}

/// It was a primary. Within scripts, old versions tell it in the text.
fn is_replica(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly) || error.to_string().contains("READONLY")
}

fn late(limit: Duration) -> RedisError {
    let reason = format!("no connection within {} ms", limit.as_millis());
    std::io::Error::new(std::io::ErrorKind::TimedOut, reason).into()
}

impl Target {
    fn new(servers: &RedisServers) -> Result<Self, StoreError> {
        let root_cert = servers.ca_certs.as_deref().map(certificates_of).transpose()?;
        let info = servers.url.expose().into_connection_info().map_err(|error| broken(&error))?;
        let target = match &servers.nodes {
            RedisNodes::One => one(info, root_cert),
            RedisNodes::Sentinels { nodes, service, password } => {
                sentinels(&info, root_cert, nodes, service, password.as_ref())
            }
            RedisNodes::Cluster(nodes) => cluster(&info, root_cert, nodes),
        };
        target.map_err(|error| broken(&error))
    }

    async fn connect(&self) -> RedisResult<Connection> {
        Ok(match self {
            Self::One(client) => Connection::One(manager(client)?),
            Self::Sentinels(client) => {
                let config = AsyncConnectionConfig::new()
                    .set_connection_timeout(Some(CONNECT))
                    .set_response_timeout(None);
                let mut client = client.lock().await;
                Connection::Primary(client.get_async_connection_with_config(&config).await?)
            }
            Self::Cluster(client) => Connection::Cluster(client.get_async_connection().await?),
        })
    }
}

fn certificates_of(path: &Path) -> Result<Vec<u8>, StoreError> {
    std::fs::read(path).map_err(|error| StoreError::Broken {
        backend: BACKEND,
        reason: format!("certificates of authorities, {}: {error}", path.display()),
    })
}

impl Connection {
    /// Does the server that has the keys answer?
    pub(super) async fn ping(&mut self) -> RedisResult<()> {
        let mut command = match self {
            Self::One(_) | Self::Primary(_) => ::redis::cmd("PING"),
            Self::Cluster(_) => ::redis::cmd("EXISTS"),
        };
        if matches!(self, Self::Cluster(_)) {
            command.arg(format!("{PREFIX}epoch"));
        }
        command.exec_async(self).await
    }
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::One(connection) => connection.req_packed_command(command),
            Self::Primary(connection) => connection.req_packed_command(command),
            Self::Cluster(connection) => connection.req_packed_command(command),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::One(connection) => connection.req_packed_commands(pipeline, offset, count),
            Self::Primary(connection) => connection.req_packed_commands(pipeline, offset, count),
            Self::Cluster(connection) => connection.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::One(connection) => connection.get_db(),
            Self::Primary(connection) => connection.get_db(),
            Self::Cluster(connection) => connection.get_db(),
        }
    }
}

fn certificates(root_cert: Vec<u8>) -> TlsCertificates {
    TlsCertificates { client_tls: None, root_cert: Some(root_cert) }
}

fn one(info: ConnectionInfo, root_cert: Option<Vec<u8>>) -> RedisResult<Target> {
    Ok(Target::One(match root_cert {
        Some(root_cert) => Client::build_with_tls(info, certificates(root_cert))?,
        None => Client::open(info)?,
    }))
}

fn is_tls(info: &ConnectionInfo) -> bool {
    matches!(info.addr(), ConnectionAddr::TcpTls { .. })
}

fn sentinels(
    info: &ConnectionInfo,
    root_cert: Option<Vec<u8>>,
    nodes: &[(String, u16)],
    service: &str,
    password: Option<&Secret>,
) -> RedisResult<Target> {
    let tls = is_tls(info);
    let address = |(host, port): &(String, u16)| match tls {
        true => ConnectionAddr::TcpTls { host: host.clone(), port: *port, insecure: false, tls_params: None },
        false => ConnectionAddr::Tcp(host.clone(), *port),
    };
    let nodes: Vec<ConnectionAddr> = nodes.iter().map(address).collect();
    let login = info.redis_settings();
    let mut builder = SentinelClientBuilder::new(nodes, service, SentinelServerType::Master)?
        .set_client_to_redis_db(login.db());
    if let Some(user) = login.username() {
        builder = builder.set_client_to_redis_username(user);
    }
    if let Some(own) = login.password() {
        builder = builder.set_client_to_redis_password(own);
    }
    if let Some(password) = password {
        builder = builder.set_client_to_sentinel_password(password.expose());
    }
    if tls {
        builder = builder
            .set_client_to_redis_tls_mode(TlsMode::Secure)
            .set_client_to_sentinel_tls_mode(TlsMode::Secure);
        if let Some(root_cert) = root_cert {
            builder = builder
                .set_client_to_redis_certificates(certificates(root_cert.clone()))
                .set_client_to_sentinel_certificates(certificates(root_cert));
        }
    }
    Ok(Target::Sentinels(Mutex::new(builder.build()?)))
}

fn cluster(
    info: &ConnectionInfo,
    root_cert: Option<Vec<u8>>,
    nodes: &[(String, u16)],
) -> RedisResult<Target> {
    let tls = is_tls(info);
    let scheme = if tls { "rediss" } else { "redis" };
    let address = |(host, port): &(String, u16)| format!("{scheme}://{}:{port}/", bracketed(host));
    let nodes: Vec<String> = nodes.iter().map(address).collect();
    let mut builder = ClusterClientBuilder::new(nodes)
        .connection_timeout(CONNECT)
        .response_timeout(CONNECT)
        .retries(REDIRECTS)
        .min_retry_wait(1)
        .max_retry_wait(REDIRECT_WAIT);
    let login = info.redis_settings();
    if let Some(user) = login.username() {
        builder = builder.username(user);
    }
    if let Some(password) = login.password() {
        builder = builder.password(password);
    }
    if tls {
        builder = builder.tls(TlsMode::Secure);
        if let Some(root_cert) = root_cert {
            builder = builder.certs(certificates(root_cert));
        }
    }
    Ok(Target::Cluster(builder.build()?))
}

/// An IPv6 address needs brackets in a URL.
fn bracketed(host: &str) -> String {
    if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() }
}

fn manager(client: &Client) -> RedisResult<ConnectionManager> {
    let config = ConnectionManagerConfig::new()
        // The next call tries again; waiting callers are not held up by a backoff.
        .set_number_of_retries(0)
        .set_connection_timeout(Some(CONNECT))
        // Every call has a shorter deadline of its own: a second timer for each would never go off.
        .set_response_timeout(None);
    ConnectionManager::new_lazy_with_config(client.clone(), config)
}
