use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use attache_llm::contract::{Decisions, GateConfig};
use clap::{Args, ValueEnum};

use super::{ConfigFlag, DataDir};
use crate::config::{self, Config, Env};
use crate::envoy::bootstrap::{self, BootstrapOptions, Jwks, ListenerTls, SidecarAddress, Tokens};
use crate::envoy::secret_files;
use crate::prices::PriceTable;
use crate::routing::Snapshot;

/// `attache envoy`: the bootstrap, on standard output.
#[derive(Debug, Args)]
pub(super) struct Envoy {
    #[command(flatten)]
    config: ConfigFlag,
    #[command(flatten)]
    data: DataDir,
    /// The filter, as Envoy will find it.
    #[arg(long, env = "ATTACHE_WASM", default_value = ".attache/attache_filter.wasm", value_name = "FILE")]
    wasm: PathBuf,
    /// Public listener.
    #[arg(long, default_value = "0.0.0.0:4000", value_name = "ADDR")]
    listen: SocketAddr,
    /// Envoy's admin listener. Keep it private: it can stop Envoy.
    #[arg(long, default_value = "127.0.0.1:9901", value_name = "ADDR")]
    admin: SocketAddr,
    #[command(flatten)]
    tls: PublicTls,
    /// Folder for the files by which Envoy finds its certificates and notices new ones, made if there are any; Envoy must
    /// find it by the same path [default: <data-dir>/sds].
    #[arg(long, env = "ATTACHE_SDS_DIR", value_name = "DIR")]
    sds_dir: Option<PathBuf>,
    #[command(flatten)]
    sidecar: RemoteSidecar,
    #[command(flatten)]
    tokens: TokenFlags,
    /// How decisions are asked for: `batched`, one call of a worker for all requests that are ready at that moment;
    /// `ext-proc`, one gRPC stream per request, for Envoys whose filters somebody else chooses.
    #[arg(long, value_enum, default_value_t = Ask::Batched)]
    decisions: Ask,
    /// Access log on standard output: a line of `json` per request, or `off`. The ledger has every request in either case.
    #[arg(long, value_enum, default_value_t = AccessLog::Json)]
    access_log: AccessLog,
    /// Believe `x-forwarded-client-cert`. Only where nobody but a proxy that checks certificates can reach the listener:
    /// whoever can, may call himself anything.
    #[arg(long)]
    trust_xfcc: bool,
}

/// [`Decisions`] on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Ask {
    Batched,
    ExtProc,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum AccessLog {
    Json,
    Off,
}

/// TLS of the public listener.
#[derive(Debug, Args)]
struct PublicTls {
    /// Serve TLS: certificate chain, PEM.
    #[arg(long, requires = "tls_key", value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// Private key, PEM.
    #[arg(long, requires = "tls_cert", value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// Mutual TLS: clients must show a certificate of this CA, PEM.
    #[arg(long, requires = "tls_cert", value_name = "FILE")]
    tls_client_ca: Option<PathBuf>,
    /// Clients may come without a certificate. One that they show is verified all the same.
    #[arg(long, requires = "tls_client_ca")]
    tls_client_optional: bool,
    /// Serve HTTP/3 too, at the UDP port of the same number, and tell clients of it. PORT: the one that they reach, where it
    /// is another than that of --listen.
    #[arg(long, requires = "tls_cert", value_name = "PORT", num_args = 0..=1)]
    http3: Option<Option<u16>>,
}

/// Tokens of callers without a key (`features.identities[].jwt`).
#[derive(Debug, Args)]
struct TokenFlags {
    /// Verify JSON Web Tokens of this issuer.
    #[arg(long, requires = "jwt_jwks", value_name = "ISSUER")]
    jwt_issuer: Option<String>,
    /// Its public keys: a file, or a URL that Envoy fetches.
    #[arg(long, requires = "jwt_issuer", value_name = "FILE|URL")]
    jwt_jwks: Option<String>,
    /// CA of the URL's host, PEM.
    #[arg(
        long,
        requires = "jwt_issuer",
        default_value = "/etc/ssl/certs/ca-certificates.crt",
        value_name = "FILE"
    )]
    jwt_jwks_ca: PathBuf,
    /// Take only tokens for this audience; may be given several times.
    #[arg(long, requires = "jwt_issuer", value_name = "AUDIENCE")]
    jwt_audience: Vec<String>,
}

/// A sidecar on another host, in place of the Unix socket.
#[derive(Debug, Args)]
struct RemoteSidecar {
    /// Where `attache serve --listen-tls` listens. Its certificate must be valid for this host.
    #[arg(long, requires_all = ["sidecar_ca", "sidecar_cert", "sidecar_key"], value_name = "HOST:PORT")]
    sidecar: Option<String>,
    /// CA of the sidecar's certificate, PEM.
    #[arg(long, requires = "sidecar", value_name = "FILE")]
    sidecar_ca: Option<PathBuf>,
    /// Envoy's client certificate, PEM.
    #[arg(long, requires = "sidecar", value_name = "FILE")]
    sidecar_cert: Option<PathBuf>,
    /// Its private key, PEM.
    #[arg(long, requires = "sidecar", value_name = "FILE")]
    sidecar_key: Option<PathBuf>,
}

impl Envoy {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let (options, _) = self.options()?;
        let text = bootstrap::render(&options)?;
        write_secrets(&options)?;
        print!("{text}");
        Ok(())
    }

    /// Where `attache serve` keeps the keys that Envoy reads, unless it is told otherwise.
    pub(super) fn keys_dir(&self) -> PathBuf {
        self.data.data_dir.join("aws")
    }

    /// What the bootstrap depends on, and the deployments.
    pub(super) fn options(self) -> anyhow::Result<(BootstrapOptions, Snapshot)> {
        let config = super::load(&self.config)?.config;
        let snapshot = config::snapshot(&config, &PriceTable::embedded(), 1, &Env::process())?;
        let sidecar = match self.sidecar.address()? {
            Some(address) => address,
            None => SidecarAddress::Unix(self.data.socket()?),
        };
        if self.tokens.jwt_issuer.is_none()
            && config.features.identities.iter().any(|rule| rule.jwt.is_some())
        {
            eprintln!(
                "warning: features.identities names claims, and without --jwt-issuer no token is verified"
            );
        }
        let defaults = BootstrapOptions::new(sidecar, std::path::absolute(&self.wasm)?);
        let defaults = for_configuration(defaults, &config, &snapshot);
        let options = BootstrapOptions {
            listen: self.listen,
            admin: self.admin,
            gate: GateConfig {
                trust_xfcc: self.trust_xfcc,
                decisions: self.decisions.into(),
                ..defaults.gate
            },
            sds_dir: Some(std::path::absolute(
                self.sds_dir.unwrap_or_else(|| self.data.data_dir.join("sds")),
            )?),
            tls: self.tls.options(self.listen)?,
            tokens: self.tokens.options()?,
            access_log: self.access_log == AccessLog::Json,
            ..defaults
        };
        Ok((options, snapshot))
    }
}

/// Makes the files by which Envoy finds its certificates.
pub(super) fn write_secrets(options: &BootstrapOptions) -> anyhow::Result<()> {
    secret_files(options)?.iter().try_for_each(|(path, secret)| write(path, secret))
}

/// Whole or not at all: an Envoy that runs reads it again.
fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let failed = || format!("cannot write {} (--sds-dir)", path.display());
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).with_context(failed)?;
    }
    let partial = path.with_extension("partial");
    std::fs::write(&partial, text).with_context(failed)?;
    std::fs::rename(&partial, path).with_context(failed)
}

impl From<Ask> for Decisions {
    fn from(ask: Ask) -> Self {
        match ask {
            Ask::Batched => Self::Batched,
            Ask::ExtProc => Self::ExtProc,
        }
    }
}

impl PublicTls {
    fn options(self, listen: SocketAddr) -> anyhow::Result<Option<ListenerTls>> {
        let http3 = self.http3.map(|port| port.unwrap_or(listen.port()));
        let (Some(cert), Some(key)) = (self.tls_cert, self.tls_key) else { return Ok(None) };
        let client_ca = self.tls_client_ca.map(std::path::absolute).transpose()?;
        let client_optional = self.tls_client_optional;
        let (cert, key) = (std::path::absolute(cert)?, std::path::absolute(key)?);
        Ok(Some(ListenerTls { cert, key, client_ca, client_optional, http3 }))
    }
}

impl TokenFlags {
    fn options(self) -> anyhow::Result<Option<Tokens>> {
        let (Some(issuer), Some(jwks)) = (self.jwt_issuer, self.jwt_jwks) else { return Ok(None) };
        let jwks = if jwks.contains("://") {
            Jwks::Url { url: jwks, ca: std::path::absolute(self.jwt_jwks_ca)? }
        } else {
            Jwks::File(std::path::absolute(jwks)?)
        };
        Ok(Some(Tokens { issuer, audiences: self.jwt_audience, jwks }))
    }
}

impl RemoteSidecar {
    fn address(self) -> anyhow::Result<Option<SidecarAddress>> {
        let Some(address) = self.sidecar else { return Ok(None) };
        let (host, port) = address
            .rsplit_once(':')
            .and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)))
            .with_context(|| format!("--sidecar {address:?} is not HOST:PORT"))?;
        let file = |path: Option<PathBuf>| -> anyhow::Result<PathBuf> {
            let path = path.context("--sidecar needs --sidecar-ca, --sidecar-cert and --sidecar-key")?;
            Ok(std::path::absolute(path)?)
        };
        Ok(Some(SidecarAddress::Tcp {
            host: host.trim_matches(['[', ']']).to_owned(),
            port,
            ca: file(self.sidecar_ca)?,
            cert: file(self.sidecar_cert)?,
            key: file(self.sidecar_key)?,
        }))
    }
}

/// What of the bootstrap the configuration says.
pub(super) fn for_configuration(
    defaults: BootstrapOptions,
    config: &Config,
    snapshot: &Snapshot,
) -> BootstrapOptions {
    let longest = longest_timeout(snapshot);
    BootstrapOptions {
        gate: gate(config),
        // Envoy's own bounds must not be shorter than what the sidecar may set per request.
        stall_timeout: defaults.stall_timeout.max(longest),
        request_timeout: defaults.request_timeout.max(longest),
        ..defaults
    }
}

/// Longest wait that the sidecar may ask Envoy for.
fn longest_timeout(snapshot: &Snapshot) -> Duration {
    let own = snapshot.deployments.values().flat_map(|d| [d.timeout, d.stream_timeout]).flatten();
    own.chain(snapshot.stream_timeout).chain([snapshot.timeout]).max().unwrap_or_default()
}

/// Kept of a prompt, and of an answer.
const PROMPT_BYTES: usize = 64 * 1024;

/// What of the configuration the gate must know before it can ask the sidecar.
fn gate(config: &Config) -> GateConfig {
    let defaults = GateConfig::default();
    let settings = &config.general_settings;
    GateConfig {
        max_body_bytes: settings.max_request_size_mb.map_or(defaults.max_body_bytes, bytes),
        key_header: settings.litellm_key_header_name.as_ref().map(|name| name.to_ascii_lowercase()),
        user_headers: settings.end_user_headers().map(str::to_ascii_lowercase).collect(),
        jwt_claims: claims(config),
        prompt_bytes: if config.stores_prompts() { PROMPT_BYTES } else { 0 },
        ..defaults
    }
}

/// Mebibytes of the file as bytes; the loader has refused what is not positive, and the cast saturates.
fn bytes(mebibytes: f64) -> u64 {
    (mebibytes * 1_048_576.0) as u64
}

/// Claims by which identities are known, each once, in the order of the file.
fn claims(config: &Config) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for jwt in config.features.identities.iter().filter_map(|rule| rule.jwt.as_ref()) {
        if !found.contains(&jwt.claim) {
            found.push(jwt.claim.clone());
        }
    }
    found
}
