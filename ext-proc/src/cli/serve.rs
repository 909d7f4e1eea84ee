use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

use super::{ConfigFlag, DataDir};
use crate::config::{self, Config, Env};
use crate::prices::PriceTable;
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
        let file = self.config.config;
        let (config, fresh) = read(&file, &prices, 1)?;
        let every = config::seconds(config.general_settings.proxy_config_reload_interval_seconds);
        let reload = reload(file.clone(), prices.clone()).watching(file, fresh.files, every);
        let options = ServeOptions {
            config: Arc::new(config),
            snapshot: fresh.snapshot,
            socket: self.data.socket()?,
            data_dir: self.data.data_dir,
            socket_mode: self.socket_mode,
            tls: self.tls.options()?,
            health_listen: self.health_listen,
            wasm: std::path::absolute(&self.wasm)?,
            ca_file: std::path::absolute(&self.ca_file)?,
            prices,
            reload: Some(reload),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(server::serve(options))
    }
}

fn reload(file: PathBuf, prices: PriceTable) -> Reload {
    Reload::new(move |generation| read(&file, &prices, generation).map(|(_, fresh)| fresh))
}

/// Reads and checks the file, with the warnings in the log.
fn read(file: &Path, prices: &PriceTable, generation: u64) -> anyhow::Result<(Config, Fresh)> {
    let env = Env::process();
    let loaded = config::load(file, &env)?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let snapshot = config::snapshot(&loaded.config, prices, generation, &env)?;
    Ok((loaded.config, Fresh { snapshot, files: loaded.files }))
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
