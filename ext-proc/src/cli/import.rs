use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::gateway::Gateway;
use super::target::{Target, salt_of_file};
use super::{ConfigFlag, DataDir};
use crate::config::Secret;
use crate::import::{self, Options, Report};
use crate::routing::now_ms;
use crate::store::Directory;

/// `attache import`.
#[derive(Debug, Subcommand)]
pub(super) enum Import {
    /// Copy keys, teams, users, budgets, spend, models and credentials of a LiteLLM Postgres. Nothing is changed there, and
    /// it may be run as often as one likes.
    Litellm(Litellm),
}

#[derive(Debug, Args)]
pub(super) struct Litellm {
    /// LiteLLM's database, `postgres://user:password@host/name`.
    #[arg(long, env = "LITELLM_DATABASE_URL", hide_env_values = true, value_name = "URL")]
    database_url: String,
    #[command(flatten)]
    config: ConfigFlag,
    #[command(flatten)]
    data: DataDir,
    /// LiteLLM's LITELLM_SALT_KEY (or its master key, if it had no salt key), in a file; without it that of Attaché.
    #[arg(long, value_name = "FILE")]
    litellm_salt_key_file: Option<PathBuf>,
    /// Show what would be done, and write nothing.
    #[arg(long)]
    dry_run: bool,
    /// Take LiteLLM's settings and spend even where they were changed here since.
    #[arg(long)]
    overwrite: bool,
    /// Leave models and credentials out.
    #[arg(long)]
    without_models: bool,
    /// Write LiteLLM's models into a configuration file, and nothing else.
    #[arg(long, conflicts_with_all = ["dry_run", "overwrite", "without_models"], value_name = "FILE")]
    models_to: Option<PathBuf>,
    /// The file holds the secrets themselves instead of placeholders.
    #[arg(long, requires = "models_to")]
    with_secrets: bool,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

impl Import {
    pub(super) fn run(self) -> ExitCode {
        let Self::Litellm(command) = self;
        match command.run() {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => {
                eprintln!("attache: {error:#}");
                ExitCode::FAILURE
            }
        }
    }
}

impl Litellm {
    /// Was everything taken over?
    fn run(self) -> anyhow::Result<bool> {
        let target = Target::load(&self.config, &self.data)?;
        let to_salt = target.salt();
        let from_salt = match &self.litellm_salt_key_file {
            Some(file) => Some(salt_of_file(file)?),
            None => to_salt.as_ref().map(|salt| salt.key.clone()),
        };
        if let Some(warning) = to_salt.as_ref().and_then(|salt| salt.warning()) {
            eprintln!("warning: {warning}");
        }
        let options = Options {
            database_url: Secret::new(self.database_url.clone()),
            from_salt,
            to_salt,
            dry_run: self.dry_run,
            overwrite: self.overwrite,
            without_models: self.without_models,
            now_ms: now_ms(),
        };
        Gateway::block_on(async {
            match &self.models_to {
                Some(file) => self.models(&options, file).await,
                None => self.copy(&options, &target).await,
            }
        })
    }

    async fn copy(&self, options: &Options, target: &Target) -> anyhow::Result<bool> {
        // Opening the database makes its tables.
        let report = if self.dry_run && !import::tables_exist(&target.backend()).await? {
            import::litellm(options, None).await?
        } else {
            let database = target.open().await?;
            let directory: &dyn Directory = &*database;
            import::litellm(options, Some(directory)).await?
        };
        self.print(&report)?;
        if report.stored_models() > 0 && !target.serves_stored_models() {
            eprintln!(
                "warning: the models are in the database, and not served: set general_settings.store_model_in_db to true"
            );
        }
        Ok(report.complete())
    }

    fn print(&self, report: &Report) -> anyhow::Result<()> {
        if self.json {
            println!("{}", serde_json::to_string_pretty(report)?);
        } else {
            println!("{report}");
        }
        Ok(())
    }

    async fn models(&self, options: &Options, file: &std::path::Path) -> anyhow::Result<bool> {
        let written = import::write_models(options, file, self.with_secrets).await?;
        if self.json {
            println!("{}", serde_json::to_string_pretty(&written.report)?);
        } else {
            println!("{} models written to {}", written.models(), file.display());
            for name in &written.variables {
                println!("  set the variable {name}");
            }
            for reason in &written.report.reasons {
                println!("  left out: {}: {}", reason.row, reason.why);
            }
        }
        Ok(written.report.failed == 0)
    }
}
