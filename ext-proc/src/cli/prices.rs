use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand};

use crate::prices::{self, PriceTable};

/// `attache prices`: the table that requests are priced with.
#[derive(Debug, Subcommand)]
pub(super) enum Prices {
    /// Prices and limits of one model, as `gpt-4o` or `azure/gpt-4o`.
    Show(Show),
    /// What the table holds, and how old it is.
    Info(Folder),
    /// Turn LiteLLM's published model_prices_and_context_window.json into `<data-dir>/model_prices.json`.
    Import(Import),
    /// What LiteLLM's file, or another table, has otherwise than the table in use.
    Diff(Diff),
}

#[derive(Debug, Args)]
pub(super) struct Folder {
    /// Folder that may hold a newer table than the built-in one.
    #[arg(long, env = "ATTACHE_DATA_DIR", default_value = ".attache/data", value_name = "DIR")]
    data_dir: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct Show {
    model: String,
    #[command(flatten)]
    folder: Folder,
}

#[derive(Debug, Args)]
pub(super) struct Import {
    /// The downloaded file.
    file: PathBuf,
    /// Day of the download, as `2026-01-31`; today without it.
    #[arg(long)]
    date: Option<String>,
    #[command(flatten)]
    folder: Folder,
}

#[derive(Debug, Args)]
pub(super) struct Diff {
    /// The downloaded file, or a table.
    file: PathBuf,
    #[command(flatten)]
    folder: Folder,
}

impl Prices {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Show(show) => show.run(),
            Self::Info(folder) => {
                println!("{}", PriceTable::for_data_dir(&folder.data_dir)?.describe());
                Ok(())
            }
            Self::Import(import) => import.run(),
            Self::Diff(diff) => diff.run(),
        }
    }
}

impl Show {
    fn run(self) -> anyhow::Result<()> {
        let table = PriceTable::for_data_dir(&self.folder.data_dir)?;
        if let Some(text) = table.describe_model(&self.model) {
            println!("{text}");
            return Ok(());
        }
        let near = table.search(&self.model);
        if near.is_empty() {
            anyhow::bail!("no price for {:?}; its requests are recorded without a cost", self.model);
        }
        anyhow::bail!("no price for {:?}; did you mean {}?", self.model, near.join(", "));
    }
}

impl Import {
    fn run(self) -> anyhow::Result<()> {
        let text = read(&self.file)?;
        let today = || time::OffsetDateTime::now_utc().date().to_string();
        let imported = prices::import(&text, &self.date.unwrap_or_else(today))?;
        std::fs::create_dir_all(&self.folder.data_dir)?;
        let target = self.folder.data_dir.join("model_prices.json");
        // A reader must never see half a table.
        let partial = target.with_extension("json.partial");
        std::fs::write(&partial, imported.table.render())
            .with_context(|| format!("cannot write {}", partial.display()))?;
        std::fs::rename(&partial, &target)?;
        println!(
            "{} models written to {}; restart the sidecar to use them",
            imported.table.len(),
            target.display()
        );
        if !imported.unread.is_empty() {
            println!("not readable, left out: {}", imported.unread.join(", "));
        }
        if !imported.left_out.is_empty() {
            println!("nothing is charged for these fields (number of models):");
            imported.left_out.iter().for_each(|(field, models)| println!("  {models:>5} {field}"));
        }
        Ok(())
    }
}

impl Diff {
    fn run(self) -> anyhow::Result<()> {
        let used = PriceTable::for_data_dir(&self.folder.data_dir)?;
        let other = match PriceTable::read(&self.file) {
            Ok(table) => table,
            Err(error) => prices::import(&read(&self.file)?, "").map_err(|_| error)?.table,
        };
        let differences = used.differences(&other);
        differences.iter().for_each(|line| println!("{line}"));
        println!("{} models differ", differences.len());
        Ok(())
    }
}

fn read(file: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}
