use std::path::PathBuf;

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
        let text = std::fs::read_to_string(&self.file)
            .with_context(|| format!("cannot read {}", self.file.display()))?;
        let date = time::OffsetDateTime::now_utc().date().to_string();
        let table = prices::import(&text, &date)?;
        std::fs::create_dir_all(&self.folder.data_dir)?;
        let target = self.folder.data_dir.join("model_prices.json");
        // A reader must never see half a table.
        let partial = target.with_extension("json.partial");
        std::fs::write(&partial, table.render())
            .with_context(|| format!("cannot write {}", partial.display()))?;
        std::fs::rename(&partial, &target)?;
        println!("{} models written to {}; restart the sidecar to use them", table.len(), target.display());
        Ok(())
    }
}
