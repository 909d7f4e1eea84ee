use std::net::SocketAddr;
use std::path::PathBuf;

use attache_llm::contract::GateConfig;
use clap::Args;

use super::{ConfigFlag, DataDir};
use crate::config::Config;
use crate::envoy::bootstrap::{self, BootstrapOptions, SidecarAddress};

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
}

impl Envoy {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let loaded = super::load(&self.config.config)?;
        let sidecar = SidecarAddress::Unix(self.data.socket()?);
        let options = BootstrapOptions {
            listen: self.listen,
            admin: self.admin,
            gate: gate(&loaded.config),
            ..BootstrapOptions::new(sidecar, std::path::absolute(&self.wasm)?)
        };
        print!("{}", bootstrap::render(&options)?);
        Ok(())
    }
}

/// What of the configuration the gate must know before it can ask the sidecar.
fn gate(config: &Config) -> GateConfig {
    let defaults = GateConfig::default();
    let settings = &config.general_settings;
    GateConfig {
        max_body_bytes: settings.max_request_size_mb.map_or(defaults.max_body_bytes, bytes),
        key_header: settings.litellm_key_header_name.as_ref().map(|name| name.to_ascii_lowercase()),
        ..defaults
    }
}

/// Mebibytes of the file as bytes; the loader has refused what is not positive, and the cast saturates.
fn bytes(mebibytes: f64) -> u64 {
    (mebibytes * 1_048_576.0) as u64
}
