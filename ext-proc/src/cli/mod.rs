//! The command line: `serve`, `check`, `envoy`, `render`, `prices`, `route`, `key`, `team`, `user`, `spend`, `import`, `secrets`. Thin: each command parses its flags, calls one part
//! and prints.

mod check;
mod envoy;
mod gateway;
mod import;
mod key;
mod limit_flags;
mod prices;
mod providers;
mod render;
mod route;
mod secrets;
mod serve;
mod shown;
mod spend;
mod spend_verify;
mod target;
mod team;
mod user;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};

use crate::config::{self, Bucket, Env, Loaded, Origin};

/// Attaché: the sidecar of an LLM gateway that lives inside Envoy.
#[derive(Debug, Parser)]
#[command(name = "attache", version, about, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the sidecar: ext_proc, xDS, key and usage endpoints, admin API, health listener.
    Serve(serve::Serve),
    /// Validate a configuration file offline and show what it means.
    Check(check::Check),
    /// Print the Envoy bootstrap that this configuration needs.
    Envoy(envoy::Envoy),
    /// Print what a plain Envoy, Istio or Envoy Gateway needs to serve this configuration by itself, without xDS from here.
    #[command(subcommand)]
    Render(render::Render),
    /// Look at the price table, or import a newer one.
    #[command(subcommand)]
    Prices(prices::Prices),
    /// Print which providers there are, and what is shown to work with which of them.
    Providers(providers::Providers),
    /// Ask a running gateway about its routing.
    #[command(subcommand)]
    Route(route::Route),
    /// Make, look at and change virtual keys of a running gateway.
    #[command(subcommand)]
    Key(key::Key),
    /// Make, look at and change teams of a running gateway.
    #[command(subcommand)]
    Team(team::Team),
    /// Make, look at and delete users of a running gateway.
    #[command(subcommand)]
    User(user::User),
    /// Who spent what, why a request cost what it did, and whether the ledger balances.
    #[command(subcommand)]
    Spend(spend::Spend),
    /// Bring data over from another gateway.
    #[command(subcommand)]
    Import(import::Import),
    /// Look after the encrypted credentials of the database.
    #[command(subcommand)]
    Secrets(secrets::Secrets),
}

/// Flags that every command with a configuration shares.
#[derive(Debug, Args)]
struct ConfigFlag {
    /// LiteLLM-style YAML file; LITELLM_CONFIG_BUCKET_NAME names a bucket instead (docs/configuration.md).
    #[arg(long, short, env = "ATTACHE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

impl ConfigFlag {
    fn origin(&self) -> anyhow::Result<Origin> {
        origin(self.config.as_deref())?
            .context("give --config FILE, or LITELLM_CONFIG_BUCKET_NAME and LITELLM_CONFIG_BUCKET_OBJECT_KEY")
    }
}

/// The bucket of the environment, which wins as it does in LiteLLM, else the file.
fn origin(file: Option<&Path>) -> anyhow::Result<Option<Origin>> {
    match Bucket::from_env(&Env::process()).map_err(anyhow::Error::msg)? {
        Some(bucket) => Ok(Some(Origin::Bucket(Arc::new(bucket)))),
        None => Ok(file.map(Origin::from)),
    }
}

/// The master key of a configuration, for commands that ask a gateway.
fn master_key(file: Option<&Path>, missing: &'static str) -> anyhow::Result<String> {
    let origin = origin(file)?.context(missing)?;
    let key = config::load(&origin, &Env::process())?.config.general_settings.master_key;
    Ok(key.context("the configuration has no master key")?.expose().to_owned())
}

/// Where the sidecar keeps its files (SQLite, spool, socket).
#[derive(Debug, Args)]
struct DataDir {
    /// Folder for the embedded database, the usage spool, the price table and the socket.
    #[arg(long, env = "ATTACHE_DATA_DIR", default_value = ".attache/data", value_name = "DIR")]
    data_dir: PathBuf,
    /// Unix socket between Envoy and the sidecar [default: <data-dir>/attache.sock].
    #[arg(long, env = "ATTACHE_SOCKET", value_name = "PATH")]
    socket: Option<PathBuf>,
}

impl DataDir {
    /// Envoy may run in another folder: the path is made absolute.
    fn socket(&self) -> anyhow::Result<PathBuf> {
        let path = self.socket.clone().unwrap_or_else(|| self.data_dir.join("attache.sock"));
        Ok(std::path::absolute(path)?)
    }
}

/// Parses the arguments and runs the command.
#[must_use]
pub fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Serve(command) => report(command.run()),
        Command::Check(command) => command.run(),
        Command::Envoy(command) => report(command.run()),
        Command::Render(command) => report(command.run()),
        Command::Prices(command) => report(command.run()),
        Command::Providers(command) => report(command.run()),
        Command::Route(command) => report(command.run()),
        Command::Key(command) => report(command.run()),
        Command::Team(command) => report(command.run()),
        Command::User(command) => report(command.run()),
        Command::Spend(command) => command.run(),
        Command::Import(command) => command.run(),
        Command::Secrets(command) => report(command.run()),
    }
}

fn report(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("attache: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Loads a configuration with the process's environment, printing warnings to standard error.
fn load(config: &ConfigFlag) -> anyhow::Result<Loaded> {
    let loaded = config::load(&config.origin()?, &Env::process())?;
    for warning in &loaded.warnings {
        eprintln!("warning: {warning}");
    }
    Ok(loaded)
}
