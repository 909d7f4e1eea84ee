use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use super::{ConfigFlag, DataDir};
use crate::envoy::bootstrap::{self, BootstrapOptions};

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
        let options = BootstrapOptions {
            listen: self.listen,
            admin: self.admin,
            ..BootstrapOptions::new(&loaded.config, self.data.socket()?, std::path::absolute(&self.wasm)?)
        };
        print!("{}", bootstrap::render(&options)?);
        Ok(())
    }
}
