//! Ways to a Redis: one server, the primary that sentinels name, or a cluster.

use std::path::PathBuf;

use ::redis::aio::{ConnectionLike, ConnectionManager, ConnectionManagerConfig};
use ::redis::cluster::{ClusterClient, ClusterClientBuilder};
use ::redis::cluster_async::ClusterConnection;
use ::redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use ::redis::{
    Client, Cmd, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, Pipeline, RedisFuture, RedisResult,
    TlsCertificates, TlsMode, Value,
};
use tokio::sync::Mutex;

use super::super::{RedisNodes, StoreError};
use super::{BACKEND, CONNECT, PREFIX, broken};
use crate::config::Secret;

/// Times that a command follows a slot to where it moved.
const REDIRECTS: u32 = 4;
/// Milliseconds between those, at most.
const REDIRECT_WAIT: u64 = 20;

/// Where to connect to.
pub(super) enum Target {
    One(Client),
    /// Asked anew for every connection.
    Sentinels(Mutex<SentinelClient>),
    Cluster(ClusterClient),
}

/// Shared by all calls.
#[derive(Clone)]
pub(super) enum Connection {
    One(ConnectionManager),
    Cluster(ClusterConnection),
}

impl Target {
    /// `url` tells scheme, login and database of all nodes, and the host if it is one. Reads `ca_certs` (PEM), by which
    /// a server's certificate is checked instead of the system's authorities.
    pub(super) fn new(url: &Secret, nodes: &RedisNodes, ca_certs: Option<&PathBuf>) -> Result<Self, StoreError> {
        let root_cert = ca_certs.map(std::fs::read).transpose().map_err(|error| StoreError::Broken {
            backend: BACKEND,
            reason: format!("certificates of authorities: {error}"),
        })?;
        let info = url.expose().into_connection_info().map_err(|error| broken(&error))?;
        let target = match nodes {
            RedisNodes::One => one(info, root_cert),
            RedisNodes::Sentinels { nodes, service, password } => {
                sentinels(&info, root_cert, nodes, service, password.as_ref())
            }
            RedisNodes::Cluster(nodes) => cluster(&info, root_cert, nodes),
        };
        target.map_err(|error| broken(&error))
    }

    /// A connection that connects when it is used first, where there is such a thing.
    pub(super) fn lazy(&self) -> RedisResult<Option<Connection>> {
        match self {
            Self::One(client) => Ok(Some(Connection::One(manager(client)?))),
            Self::Sentinels(_) | Self::Cluster(_) => Ok(None),
        }
    }

    /// Finds the way anew, and connects.
    pub(super) async fn connect(&self) -> RedisResult<Connection> {
        let mut connection = match self {
            Self::One(client) => Connection::One(manager(client)?),
            Self::Sentinels(client) => Connection::One(manager(&client.lock().await.async_get_client().await?)?),
            Self::Cluster(client) => Connection::Cluster(client.get_async_connection().await?),
        };
        connection.ping().await?;
        Ok(connection)
    }
}

impl Connection {
    /// Does the server that has the keys answer?
    pub(super) async fn ping(&mut self) -> RedisResult<()> {
        match self {
            Self::One(connection) => ::redis::cmd("PING").query_async(connection).await,
            Self::Cluster(connection) => {
                let _: i64 =
                    ::redis::cmd("EXISTS").arg(format!("{PREFIX}epoch")).query_async(connection).await?;
                Ok(())
            }
        }
    }
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::One(connection) => connection.req_packed_command(command),
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
            Self::Cluster(connection) => connection.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::One(connection) => connection.get_db(),
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
        .set_response_timeout(Some(CONNECT));
    ConnectionManager::new_lazy_with_config(client.clone(), config)
}
