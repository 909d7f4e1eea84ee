//! Attaché's own database and salt key, for commands that work on them without a running gateway.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;

use super::{ConfigFlag, DataDir};
use crate::config::{Config, Env, Secret};
use crate::secrets::{Salt, SaltKey};
use crate::store::{Database, DatabaseBackend, open_database};

/// What the configuration says of the database.
pub(super) struct Target {
    config: Config,
    data_dir: PathBuf,
}

impl Target {
    pub(super) fn load(config: &ConfigFlag, data: &DataDir) -> anyhow::Result<Self> {
        let loaded = super::load(config)?;
        Ok(Self { config: loaded.config, data_dir: data.data_dir.clone() })
    }

    pub(super) fn backend(&self) -> DatabaseBackend {
        self.config.database(&self.data_dir)
    }

    /// Are models of the database served?
    pub(super) fn serves_stored_models(&self) -> bool {
        self.config.general_settings.store_model_in_db
    }

    /// `LITELLM_SALT_KEY`, of the environment or the configuration's `environment_variables`, else the master key.
    pub(super) fn salt(&self) -> Option<Salt> {
        Salt::of(&self.config, &Env::process())
    }

    pub(super) async fn open(&self) -> anyhow::Result<Arc<dyn Database>> {
        std::fs::create_dir_all(&self.data_dir)
            .with_context(|| format!("cannot create {}", self.data_dir.display()))?;
        open_database(&self.backend()).await.context("Attaché's database")
    }
}

/// A salt key in a file, without the line's end.
pub(super) fn salt_of_file(path: &Path) -> anyhow::Result<SaltKey> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let text = text.trim_end_matches(['\n', '\r']);
    anyhow::ensure!(!text.is_empty(), "{} is empty", path.display());
    Ok(SaltKey::new(&Secret::new(text)))
}
