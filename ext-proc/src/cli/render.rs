use std::path::PathBuf;

use anyhow::bail;
use clap::{Args, Subcommand, ValueEnum};

use super::ConfigFlag;
use crate::config::{self, Env};
use crate::envoy::bootstrap::{self, BootstrapOptions, PlanBy, SidecarAddress};
use crate::envoy::mesh::gateway::{self, GatewayOptions};
use crate::envoy::mesh::istio::{self, IstioOptions};
use crate::envoy::mesh::{self, MeshOptions};
use crate::envoy::{ClusterOptions, inline};
use crate::prices::PriceTable;
use crate::routing::Snapshot;

/// `attache render`: everything that an operator applies, clusters and all.
#[derive(Debug, Subcommand)]
pub(super) enum Render {
    /// A whole bootstrap: a plain Envoy, no xDS.
    Envoy(Box<Plain>),
    /// Objects for Istio 1.31: an ingress gateway, a waypoint or sidecars.
    Istio(Istio),
    /// Objects for Envoy Gateway 1.9.
    EnvoyGateway(Gateway),
}

/// `attache render envoy`.
#[derive(Debug, Args)]
pub(super) struct Plain {
    #[command(flatten)]
    envoy: super::envoy::Envoy,
    #[command(flatten)]
    files: Files,
    /// Version of that Envoy. Before 1.40 a matcher finds the next step of a plan.
    #[arg(long, value_enum, default_value_t = Version::V140, value_name = "VERSION")]
    envoy_version: Version,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Version {
    #[value(name = "1.39")]
    V139,
    #[value(name = "1.40")]
    V140,
}

/// What Envoy reads; the same paths for `attache serve`.
#[derive(Debug, Args)]
struct Files {
    /// CA bundle with which Envoy verifies providers.
    #[arg(
        long,
        env = "ATTACHE_CA_FILE",
        default_value = "/etc/ssl/certs/ca-certificates.crt",
        value_name = "FILE"
    )]
    ca_file: PathBuf,
    /// Folder for the providers' credentials, which `attache serve --static-clusters` writes. By default `aws` in the data
    /// directory.
    #[arg(long, env = "ATTACHE_AWS_KEYS_DIR", value_name = "DIR")]
    aws_keys_dir: Option<PathBuf>,
}

impl Render {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Envoy(command) => command.run(),
            Self::Istio(command) => command.run(),
            Self::EnvoyGateway(command) => command.run(),
        }
    }
}

impl Plain {
    fn run(self) -> anyhow::Result<()> {
        let keys_dir = self.files.aws_keys_dir.unwrap_or_else(|| self.envoy.keys_dir());
        let (mut options, snapshot) = self.envoy.options()?;
        let clusters = ClusterOptions {
            ca_file: std::path::absolute(self.files.ca_file)?,
            keys_dir: std::path::absolute(keys_dir)?,
            fixed: true,
            ..ClusterOptions::new(options.wasm.clone())
        };
        options.clusters = Some(inline::clusters(&snapshot, &clusters)?);
        if self.envoy_version == Version::V139 {
            options.plan_by = PlanBy::Matcher(mesh::names(&snapshot, |one| one.cluster.clone()));
        }
        let text = bootstrap::render(&options)?;
        super::envoy::write_secrets(&options)?;
        print!("{PREFACE}{text}");
        Ok(())
    }
}

const PREFACE: &str = "\
# Made by `attache render envoy`: no xDS, all clusters are here. Run the sidecar as `attache serve --static-clusters`, and
# start it first: it writes the providers' credentials to the files that are named below.
#
";

/// What both meshes need to know. Paths are those in the pod.
#[derive(Debug, Args)]
struct Mesh {
    #[command(flatten)]
    config: ConfigFlag,
    /// Namespace of the proxies, and of what is made.
    #[arg(long, short, default_value = "attache", value_name = "NAME")]
    namespace: String,
    /// Name of what is made, and of the ConfigMap and the Secret that the sidecar reads.
    #[arg(long, default_value = "attache", value_name = "NAME")]
    name: String,
    /// Port for clients. It must be the gateway's own.
    #[arg(long, default_value_t = 4000)]
    port: u16,
    /// Serve TLS, with certificate and key of this Secret.
    #[arg(long, value_name = "SECRET")]
    tls_secret: Option<String>,
    /// The configuration file, as the sidecar finds it.
    #[arg(long, default_value = "/etc/attache/config.yaml", value_name = "FILE")]
    mounted_config: PathBuf,
    /// The filter, as Envoy finds it.
    #[arg(long, default_value = "/run/attache/attache_filter.wasm", value_name = "FILE")]
    wasm: PathBuf,
    /// Unix socket between Envoy and the sidecar.
    #[arg(long, default_value = "/run/attache/attache.sock", value_name = "PATH")]
    socket: PathBuf,
    /// Folder for the providers' credentials, which the sidecar writes and Envoy reads.
    #[arg(long, default_value = "/run/attache/aws", value_name = "DIR")]
    aws_keys_dir: PathBuf,
    /// CA bundle with which Envoy verifies providers.
    #[arg(long, default_value = "/etc/ssl/certs/ca-certificates.crt", value_name = "FILE")]
    ca_file: PathBuf,
    /// How decisions are asked for, as for `attache envoy`.
    #[arg(long, value_enum, default_value_t = super::envoy::Ask::Batched)]
    decisions: super::envoy::Ask,
    /// Believe `x-forwarded-client-cert`: only where nobody but proxies of the mesh can reach the port.
    #[arg(long)]
    trust_xfcc: bool,
}

impl Mesh {
    fn options(self) -> anyhow::Result<(MeshOptions, Snapshot, Option<String>)> {
        let config = super::load(&self.config)?.config;
        let snapshot = config::snapshot(&config, &PriceTable::embedded(), 1, &Env::process())?;
        let mut bootstrap = super::envoy::for_configuration(
            BootstrapOptions::new(SidecarAddress::Unix(self.socket), self.wasm.clone()),
            &config,
            &snapshot,
        );
        bootstrap.gate.decisions = self.decisions.into();
        bootstrap.gate.trust_xfcc = self.trust_xfcc;
        let clusters = ClusterOptions {
            ca_file: self.ca_file,
            keys_dir: self.aws_keys_dir,
            fixed: true,
            ..ClusterOptions::new(self.wasm)
        };
        let options = MeshOptions {
            name: self.name,
            namespace: self.namespace,
            port: self.port,
            bootstrap,
            clusters,
            config: self.mounted_config,
        };
        Ok((options, snapshot, self.tls_secret))
    }
}

/// `attache render istio`.
#[derive(Debug, Args)]
pub(super) struct Istio {
    #[command(flatten)]
    mesh: Mesh,
    /// Which proxies become the gateway.
    #[arg(long, value_enum, default_value_t = Target::Ingress)]
    target: Target,
    /// What to print: objects for the mesh, or the patch of the Deployment whose pods get the sidecar.
    #[arg(long, value_enum, default_value_t = Part::Mesh)]
    part: Part,
    /// Label of the proxies' pods; may be given several times [default for an ingress gateway: istio=ingressgateway].
    #[arg(long, value_name = "NAME=VALUE", value_parser = label)]
    selector: Vec<(String, String)>,
    /// Let only this peer in, by its certificate (`cluster.local/ns/apps/sa/chat`); may be given several times.
    #[arg(long, value_name = "PRINCIPAL")]
    allow: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Target {
    Ingress,
    Waypoint,
    Sidecar,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    Mesh,
    Pod,
}

impl Istio {
    fn run(self) -> anyhow::Result<()> {
        let selector = match (self.target, self.selector.is_empty()) {
            (Target::Ingress, true) => vec![("istio".to_owned(), "ingressgateway".to_owned())],
            (Target::Sidecar, true) => {
                bail!("--target sidecar needs --selector NAME=VALUE: the pods whose applications it is for")
            }
            (Target::Waypoint, false) => {
                bail!("--selector is not for --target waypoint: it has a Gateway of its own")
            }
            _ => self.selector,
        };
        if self.target == Target::Sidecar && !self.allow.is_empty() {
            bail!("--allow is not for --target sidecar: Istio asks no policy of what goes out of a pod");
        }
        if self.target != Target::Ingress && self.mesh.tls_secret.is_some() {
            bail!("--tls-secret is for --target ingress: in the mesh Istio encrypts");
        }
        let (mesh, snapshot, tls_secret) = self.mesh.options()?;
        let target = match self.target {
            Target::Ingress => istio::Target::Ingress,
            Target::Waypoint => istio::Target::Waypoint,
            Target::Sidecar => istio::Target::Sidecar,
        };
        let options = IstioOptions { mesh, target, selector, allow: self.allow, tls_secret };
        match self.part {
            Part::Mesh => print!("{}", istio::render(&options, &snapshot)?),
            Part::Pod => print!("{}", istio::render_pod(&options)),
        }
        Ok(())
    }
}

/// `attache render envoy-gateway`.
#[derive(Debug, Args)]
pub(super) struct Gateway {
    #[command(flatten)]
    mesh: Mesh,
    /// `GatewayClass` of Envoy Gateway.
    #[arg(long, default_value = "eg", value_name = "NAME")]
    class: String,
}

impl Gateway {
    fn run(self) -> anyhow::Result<()> {
        let (mesh, snapshot, tls_secret) = self.mesh.options()?;
        let options = GatewayOptions { mesh, class: self.class, tls_secret };
        print!("{}", gateway::render(&options, &snapshot)?);
        Ok(())
    }
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => {
            Ok((name.to_owned(), value.to_owned()))
        }
        _ => Err("not a label such as app=chat".to_owned()),
    }
}
