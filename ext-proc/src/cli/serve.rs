use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

use super::{ConfigFlag, DataDir};
use crate::config::{self, Config, Env, Origin};
use crate::prices::PriceTable;
use crate::secrets::Salt;
use crate::server::{self, Fresh, Reload, ServeOptions, TlsOptions};

/// `attache serve`: the sidecar itself.
#[derive(Debug, Args)]
pub(super) struct Serve {
    #[command(flatten)]
    config: ConfigFlag,
    #[command(flatten)]
    data: DataDir,
    /// Permissions of the socket, octal. Whoever can open it can read keys' records and write usage.
    #[arg(long, default_value = "600", value_parser = octal, value_name = "MODE")]
    socket_mode: u32,
    /// Health and metrics listener, apart from traffic.
    #[arg(long, env = "ATTACHE_HEALTH_LISTEN", default_value = "127.0.0.1:4001", value_name = "ADDR")]
    health_listen: SocketAddr,
    /// The filter, as Envoy will find it: upstream clusters name it.
    #[arg(long, env = "ATTACHE_WASM", default_value = ".attache/attache_filter.wasm", value_name = "FILE")]
    wasm: PathBuf,
    /// CA bundle with which Envoy verifies providers, as Envoy will find it.
    #[arg(
        long,
        env = "ATTACHE_CA_FILE",
        default_value = "/etc/ssl/certs/ca-certificates.crt",
        value_name = "FILE"
    )]
    ca_file: PathBuf,
    /// Folder for the AWS keys that Envoy signs with, which Envoy finds by the same path. By default `aws` in the data
    /// directory.
    #[arg(long, env = "ATTACHE_AWS_KEYS_DIR", value_name = "DIR")]
    aws_keys_dir: Option<PathBuf>,
    /// Envoy has its clusters from `attache render`, not from here: those of the configuration at the start are in use,
    /// and credentials are written to the folder of the AWS keys.
    #[arg(long, env = "ATTACHE_STATIC_CLUSTERS")]
    static_clusters: bool,
    #[command(flatten)]
    tls: Tls,
    /// Log lines as text or as JSON. What is logged is set by RUST_LOG.
    #[arg(long, env = "ATTACHE_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

/// A second listener over TCP, for an Envoy on another host. Mutual TLS only.
#[derive(Debug, Args)]
struct Tls {
    /// Serve over TCP with mutual TLS too.
    #[arg(long, value_name = "ADDR", requires_all = ["tls_cert", "tls_key", "tls_client_ca"])]
    listen_tls: Option<SocketAddr>,
    /// Certificate chain, PEM.
    #[arg(long, value_name = "FILE", requires = "listen_tls")]
    tls_cert: Option<PathBuf>,
    /// Private key, PEM.
    #[arg(long, value_name = "FILE", requires = "listen_tls")]
    tls_key: Option<PathBuf>,
    /// CA that signed Envoy's client certificate, PEM.
    #[arg(long, value_name = "FILE", requires = "listen_tls")]
    tls_client_ca: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

impl Serve {
    pub(super) fn run(self) -> anyhow::Result<()> {
        log_to_stderr(self.log_format)?;
        let prices = PriceTable::for_data_dir(&self.data.data_dir)?;
        std::fs::create_dir_all(&self.data.data_dir)
            .with_context(|| format!("cannot create {}", self.data.data_dir.display()))?;
        let files = Files {
            root: self.config.origin()?,
            data_dir: self.data.data_dir.clone(),
            prices: prices.clone(),
        };
        let (config, fresh, cursor) = files.read(1, true)?;
        let every = config::seconds(config.general_settings.proxy_config_reload_interval_seconds);
        let root = files.root.clone();
        let reload = Reload::new(move |generation| files.read(generation, false).map(|(_, fresh, _)| fresh))
            .watching(root, fresh.files, every);
        let reload = match config.general_settings.store_model_in_db {
            true => reload.following(cursor, every),
            false => reload,
        };
        let options = ServeOptions {
            salt: Salt::of(&config, &Env::process()),
            config: Arc::new(config),
            snapshot: fresh.snapshot,
            socket: self.data.socket()?,
            keys_dir: std::path::absolute(
                self.aws_keys_dir.unwrap_or_else(|| self.data.data_dir.join("aws")),
            )?,
            data_dir: self.data.data_dir,
            socket_mode: self.socket_mode,
            tls: self.tls.options()?,
            health_listen: self.health_listen,
            wasm: std::path::absolute(&self.wasm)?,
            ca_file: std::path::absolute(&self.ca_file)?,
            fixed_clusters: self.static_clusters,
            prices,
            reload: Some(reload),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(server::serve(options))
    }
}

/// Where the configuration comes from.
struct Files {
    root: Origin,
    data_dir: PathBuf,
    prices: PriceTable,
}

impl Files {
    /// Reads and checks the file and the models of the database, with the warnings in the log. Only at the start may the
    /// database be away. Returns the place in its feed too.
    fn read(&self, generation: u64, start: bool) -> anyhow::Result<(Config, Fresh, Option<u64>)> {
        let env = Env::process();
        let mut loaded = config::load(&self.root, &env)?;
        let stored = server::stored_models(&loaded.config, &self.data_dir, &env, start)?;
        if !stored.models.is_empty() {
            loaded = config::load_with(&self.root, &env, &stored.models)?;
        }
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        let snapshot = config::snapshot(&loaded.config, &self.prices, generation, &env)?;
        let identities = loaded.config.features.identities.clone();
        Ok((loaded.config, Fresh { snapshot, identities, files: loaded.files }, stored.cursor))
    }
}

impl Tls {
    fn options(self) -> anyhow::Result<Option<TlsOptions>> {
        let Some(listen) = self.listen_tls else { return Ok(None) };
        let missing = "--listen-tls needs --tls-cert, --tls-key and --tls-client-ca";
        Ok(Some(TlsOptions {
            listen,
            cert: self.tls_cert.context(missing)?,
            key: self.tls_key.context(missing)?,
            client_ca: self.tls_client_ca.context(missing)?,
        }))
    }
}

/// Standard output stays free for what a command prints.
fn log_to_stderr(format: LogFormat) -> anyhow::Result<()> {
    let filter = EnvFilter::try_from_default_env().or_else(|_| EnvFilter::try_new("info"))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => builder.with_target(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    }
    .map_err(|error| anyhow::anyhow!("cannot set up logging: {error}"))
}

fn octal(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 => Ok(mode),
        _ => Err("not file permissions in octal, such as 600 or 660".to_owned()),
    }
}
