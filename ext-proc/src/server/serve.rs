use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context;
use arc_swap::ArcSwap;
use axum::Router;
use envoy_types::pb::envoy::service::ext_proc::v3::external_processor_server::ExternalProcessorServer;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tonic::service::Routes;

use super::app::App;
use super::connections::Connections;
use super::ext_proc::ExtProc;
use super::listen::UnixSocket;
use super::reload::{self, Reach, Reload, ReloadState};
use super::{credentials, health, internal, probe, reconcile, stores, tls, upkeep};
use crate::admin::{self, AdminState};
use crate::config::{self, Config};
use crate::credentials::Keyring;
use crate::envoy::{AdsService, ClusterOptions, Published};
use crate::keys::KeyDirectory;
use crate::ledger::{Books, BooksOptions};
use crate::prices::PriceTable;
use crate::routing::{LiveClusters, Snapshot, SnapshotHandle};
use crate::secrets::Salt;
use crate::store::{Counters, Database, Directory, open_counters, open_database};

/// Longest wait for requests in progress at shutdown; a decision takes milliseconds, a usage batch an fsync.
const DRAIN_PATIENCE: Duration = Duration::from_secs(10);
/// After that, connections may send what they still hold.
const CLOSE_PATIENCE: Duration = Duration::from_millis(250);
/// Providers are not asked more often, whatever the file says.
const SHORTEST_PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// Longest wait for the ledger at shutdown; what it does not take stays in the spool.
const FLUSH_PATIENCE: Duration = Duration::from_secs(10);

/// How `attache serve` runs.
#[derive(Debug)]
pub struct ServeOptions {
    pub config: Arc<Config>,
    pub snapshot: Snapshot,
    /// Spool, embedded database and, by default, the socket.
    pub data_dir: PathBuf,
    /// Unix socket for Envoy and the admin API.
    pub socket: PathBuf,
    /// Its mode, e.g. `0o600`. Whoever may open it is taken for Envoy.
    pub socket_mode: u32,
    /// The same over TCP, with mutual TLS.
    pub tls: Option<TlsOptions>,
    /// Health and metrics.
    pub health_listen: SocketAddr,
    /// The filter, as Envoy's machine sees it.
    pub wasm: PathBuf,
    /// Folder of the files with AWS keys, the same path for the sidecar and for Envoy.
    pub keys_dir: PathBuf,
    /// CA bundle for upstream TLS, as Envoy's machine sees it.
    pub ca_file: PathBuf,
    /// Envoy's clusters are those of `attache render`, not of xDS.
    pub fixed_clusters: bool,
    /// Prices of models behind wildcards, which no deployment has.
    pub prices: PriceTable,
    /// What stored credentials are encrypted with.
    pub salt: Option<Salt>,
    /// What SIGHUP and a changed file do; without it the signal ends the process.
    pub reload: Option<Reload>,
}

/// TCP listener for an Envoy elsewhere. Clients must show a certificate of `client_ca`.
#[derive(Debug, Clone)]
pub struct TlsOptions {
    pub listen: SocketAddr,
    pub cert: PathBuf,
    pub key: PathBuf,
    pub client_ca: PathBuf,
}

/// Serves until SIGTERM or SIGINT, then drains.
///
/// # Errors
/// A store that refuses us, a salt key that is not the one of the stored credentials, a socket that is taken, TLS
/// files that cannot be read.
pub async fn serve(options: ServeOptions) -> anyhow::Result<()> {
    let (mut term, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    serve_until(options, async move {
        let name = tokio::select! {
            _ = term.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        tracing::info!("{name}: draining");
    })
    .await
}

/// Serves until `shutdown` resolves, then drains.
///
/// # Errors
/// As [`serve`].
pub async fn serve_until(
    mut options: ServeOptions,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    std::fs::create_dir_all(&options.data_dir)
        .with_context(|| format!("cannot create {}", options.data_dir.display()))?;
    let config = Arc::clone(&options.config);
    let database = open_database(&config.database(&options.data_dir)).await.context("database")?;
    // Dropped, and with it aborted, when the server has ended.
    let mut beside = JoinSet::new();
    if let Some(later) = stores::check_salt(Arc::clone(&database), options.salt.take()).await? {
        beside.spawn(later);
    }
    let keys = KeyDirectory::new(database.clone(), config.general_settings.master_key.clone());
    keys.identify(&config.features.identities);
    let counters = open_counters(&config.counters()).await.context("counters")?;
    let snapshot = std::mem::take(&mut options.snapshot);
    let keyring = Arc::new(Keyring::new(probe::client(&options.ca_file)));
    credentials::prepare(&keyring, &snapshot).await;
    let published = Arc::new(Published::new(clusters(&options)).keyring(Arc::clone(&keyring)));
    published.publish(&snapshot).context("clusters for Envoy")?;
    let ads = AdsService::new(Arc::clone(&published)).into_server();
    beside.spawn(Arc::clone(&published).assume());
    let snapshot = Arc::new(ArcSwap::from_pointee(snapshot));
    beside.spawn(credentials::tend(Arc::clone(&keyring), Arc::clone(&snapshot), Arc::clone(&published)));
    let reloads = Arc::<ReloadState>::default();
    if let Some(reload) = options.reload.take() {
        let (published, snapshot) = (Arc::clone(&published), Arc::clone(&snapshot));
        let directory: Arc<dyn Directory> = database.clone();
        let keys = Arc::clone(&keys);
        let reach = Reach { published, keyring: Arc::clone(&keyring) };
        beside.spawn(reload::run(reload, directory, reach, snapshot, keys, Arc::clone(&reloads)));
    }
    let parts = Parts {
        database,
        keys,
        counters,
        snapshot,
        xds: Routes::from(Router::new()).add_service(ads).into_axum_router(),
        envoy: published,
        keyring,
        reloads,
    };
    run(options, parts, shutdown).await
}

/// What clusters depend on beside the configuration.
fn clusters(options: &ServeOptions) -> ClusterOptions {
    ClusterOptions {
        ca_file: options.ca_file.clone(),
        keys_dir: options.keys_dir.clone(),
        fixed: options.fixed_clusters,
        // Whoever may open the socket is taken for Envoy, and may read what Envoy signs with.
        keys_mode: options.socket_mode & 0o644 | 0o600,
        ..ClusterOptions::new(options.wasm.clone())
    }
}

/// Envoy as the server sees it: [`Published`], or a double.
pub(super) trait Envoy: LiveClusters {
    /// For readiness: who is connected, and which clusters they lack or refuse.
    fn status(&self) -> serde_json::Value;
    /// Ends the xDS streams.
    fn close(&self);
    /// Are its clusters those of `attache render`? Then it may be one that needs the plan in headers.
    fn is_fixed(&self) -> bool {
        false
    }
}

impl Envoy for Published {
    fn status(&self) -> serde_json::Value {
        let status = Self::status(self);
        serde_json::json!({
            "connected": status.streams,
            "live_clusters": status.live,
            "waiting": status.waiting,
            "rejected": status.rejected,
            "without_credential": status.lacking,
        })
    }

    fn close(&self) {
        Self::close(self);
    }

    fn is_fixed(&self) -> bool {
        Self::is_fixed(self)
    }
}

/// What the server is put together from: stores, configuration in force, xDS.
pub(super) struct Parts {
    pub(super) database: Arc<dyn Database>,
    /// Over that database; knows the identities of the configuration.
    pub(super) keys: Arc<KeyDirectory>,
    pub(super) counters: Arc<dyn Counters>,
    pub(super) snapshot: SnapshotHandle,
    pub(super) envoy: Arc<dyn Envoy>,
    /// xDS services; without a fallback of their own.
    pub(super) xds: Router,
    pub(super) keyring: Arc<Keyring>,
    pub(super) reloads: Arc<ReloadState>,
}

/// Serves the parts until `shutdown` resolves, then drains.
pub(super) async fn run(
    options: ServeOptions,
    parts: Parts,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let Parts { database, keys, counters, snapshot, envoy, xds, keyring, reloads } = parts;
    let config = Arc::clone(&options.config);
    let books = Books::open(BooksOptions {
        dir: options.data_dir.join("spool"),
        database: database.clone(),
        snapshot: Arc::clone(&snapshot),
        interval: Duration::from_secs(config.general_settings.proxy_batch_write_at.max(1)),
        redis: config.ledger_buffer(),
        keep_prompts: config.prompts_kept(),
    })?;
    let app = App::new(
        Arc::clone(&keys),
        counters,
        Arc::clone(&books),
        Arc::clone(&snapshot),
        envoy,
        (keyring, reloads),
        Arc::clone(&config),
    );
    let mut background = background(&app, &database, &options.ca_file);
    let state = AdminState {
        keys,
        database,
        snapshot,
        books,
        config,
        routing: app.routing.clone(),
        version: env!("CARGO_PKG_VERSION"),
    };
    let router = control_router(&app, xds, admin::router(state));
    let listeners = listen(&options, &app, router, &mut background).await?;
    tracing::info!(socket = %options.socket.display(), health = %options.health_listen, "serving");
    shutdown.await;
    drain(&app, &listeners).await;
    Ok(())
}

/// What runs beside requests for as long as the process does.
fn background(app: &Arc<App>, database: &Arc<dyn Database>, ca_file: &Path) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    tasks.spawn(Arc::clone(&app.keys).follow());
    tasks.spawn(stores::watch_breakers(Arc::clone(app)));
    tasks.spawn(stores::watch_speeds(Arc::clone(app)));
    tasks.spawn(reconcile::watch(Arc::clone(app)));
    tasks.spawn(stores::watch_database(Arc::clone(app), Arc::clone(database)));
    tasks.spawn(upkeep::tend(Arc::clone(&app.config), Arc::clone(database)));
    let general = &app.config.general_settings;
    if general.background_health_checks {
        let every = config::seconds(general.health_check_interval).max(SHORTEST_PROBE_INTERVAL);
        let (snapshot, probes) = (Arc::clone(&app.snapshot), Arc::clone(&app.routing.probes));
        tasks.spawn(probe::watch(probe::client(ca_file), snapshot, probes, every));
    }
    tasks
}

/// Everything that Envoy and admins reach. Whatever is not listed is the admin API's 404.
fn control_router(app: &Arc<App>, xds: Router, admin: Router) -> Router {
    let ext_proc = ExternalProcessorServer::new(ExtProc { app: Arc::clone(app) });
    let grpc = Routes::from(Router::new()).add_service(ext_proc).into_axum_router();
    grpc.merge(xds).merge(internal::router(Arc::clone(app))).merge(admin)
}

/// Opens every listener before the first one serves. The health listener is left to `background`, so that it
/// answers "draining" until the process ends.
async fn listen(
    options: &ServeOptions,
    app: &Arc<App>,
    router: Router,
    background: &mut JoinSet<()>,
) -> anyhow::Result<Connections> {
    let tcp =
        async |at: SocketAddr| TcpListener::bind(at).await.with_context(|| format!("cannot listen at {at}"));
    let health = tcp(options.health_listen).await?;
    let mutual = match &options.tls {
        Some(tls) => Some((tcp(tls.listen).await?, tls::Acceptor::new(tls).context("TLS")?)),
        None => None,
    };
    let socket = UnixSocket::bind(&options.socket, options.socket_mode).await?;

    background.spawn(Connections::new().serve_tcp(health, None, health::router(Arc::clone(app))));
    let connections = Connections::new();
    if let Some((listener, acceptor)) = mutual {
        background.spawn(acceptor.clone().follow());
        let serving = connections.clone().serve_tcp(listener, Some(acceptor), router.clone());
        connections.open.spawn(serving);
    }
    let serving = connections.clone().serve_unix(socket, router);
    connections.open.spawn(serving);
    Ok(connections)
}

/// Unready, no new connections, requests in progress to their end, then the ledger.
async fn drain(app: &App, connections: &Connections) {
    app.draining.store(true, Ordering::Relaxed);
    connections.stop.cancel();
    app.work.close();
    if timeout(DRAIN_PATIENCE, app.work.wait()).await.is_err() {
        tracing::warn!("requests in progress cut after {} s", DRAIN_PATIENCE.as_secs());
    }
    // Only now: without its stream Envoy counts as gone, and the last decisions would name no cluster.
    app.envoy.close();
    tracing::debug!("requests in progress are done");
    connections.open.close();
    let _ = timeout(CLOSE_PATIENCE, connections.open.wait()).await;
    tracing::debug!("connections are closed");
    match timeout(FLUSH_PATIENCE, app.books.close()).await {
        Ok(Ok(())) => tracing::info!("ledger flushed, stopping"),
        Ok(Err(error)) => tracing::error!(%error, "ledger not flushed"),
        Err(_) => tracing::error!("ledger not flushed in time: its rows are safe in the buffer"),
    }
}
