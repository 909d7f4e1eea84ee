use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand};

use super::gateway::Gateway;
use super::target::{Target, salt_of_file};
use super::{ConfigFlag, DataDir};
use crate::secrets::{self, SALT_KEY};
use crate::store::Author;

/// `attache secrets`.
#[derive(Debug, Subcommand)]
pub(super) enum Secrets {
    /// Does the salt key read the stored credentials?
    Check(Check),
    /// Encrypt every stored credential with the salt key of the environment.
    Rotate(Rotate),
}

#[derive(Debug, Args)]
pub(super) struct Check {
    #[command(flatten)]
    config: ConfigFlag,
    #[command(flatten)]
    data: DataDir,
}

#[derive(Debug, Args)]
pub(super) struct Rotate {
    #[command(flatten)]
    config: ConfigFlag,
    #[command(flatten)]
    data: DataDir,
    /// The salt key (or master key) that encrypted them, in a file.
    #[arg(long, value_name = "FILE")]
    old_salt_key_file: PathBuf,
}

impl Secrets {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let text = Gateway::block_on(async {
            match self {
                Self::Check(check) => check.run().await,
                Self::Rotate(rotate) => rotate.run().await,
            }
        })?;
        println!("{text}");
        Ok(())
    }
}

impl Check {
    async fn run(self) -> anyhow::Result<String> {
        let target = Target::load(&self.config, &self.data)?;
        let salt = target.salt();
        if let Some(warning) = salt.as_ref().and_then(|salt| salt.warning()) {
            eprintln!("warning: {warning}");
        }
        let database = target.open().await?;
        secrets::check(&*database, salt.as_ref()).await?;
        let unreadable = match &salt {
            Some(salt) => secrets::unreadable(&*database, &salt.key).await?,
            None => Vec::new(),
        };
        anyhow::ensure!(unreadable.is_empty(), "unreadable: {}", unreadable.join(", "));
        Ok("the salt key reads every stored credential".to_owned())
    }
}

impl Rotate {
    async fn run(self) -> anyhow::Result<String> {
        let target = Target::load(&self.config, &self.data)?;
        let new = target.salt().with_context(|| format!("set {SALT_KEY} to the new salt key"))?;
        if let Some(warning) = new.warning() {
            eprintln!("warning: {warning}");
        }
        let old = salt_of_file(&self.old_salt_key_file)?;
        let database = target.open().await?;
        let name = "attache secrets rotate".to_owned();
        let author = Author { user: name.clone(), key: String::new(), action: name };
        let done = secrets::rotate(&*database, &old, &new.key, &author).await?;
        Ok(format!("{} encrypted anew, {} were already", done.changed, done.already))
    }
}
