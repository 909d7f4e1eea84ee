//! `attache check`: everything that can be known of a configuration without a network.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use attache_llm::wildcard;

use super::{Config, Env, Issue, Origin, describe, load, seconds, snapshot};
use crate::prices::PriceTable;
use crate::routing::{Deployment, Snapshot};
use crate::store::{CounterBackend, DatabaseBackend};

/// The outcome of [`check`]; print it.
#[derive(Debug)]
pub struct CheckReport {
    /// Files read, the root first.
    pub files: Vec<PathBuf>,
    pub errors: Vec<Issue>,
    pub warnings: Vec<Issue>,
    /// What it means; `None` when there are errors.
    pub meaning: Option<Meaning>,
}

/// What a configuration without errors comes to.
#[derive(Debug)]
pub struct Meaning {
    pub config: Config,
    pub snapshot: Snapshot,
    prices: String,
}

/// Validates offline (a configuration in a bucket is fetched). Never fails: what is wrong is in the report.
#[must_use]
pub fn check(origin: impl Into<Origin>, env: &Env, prices: &PriceTable) -> CheckReport {
    let origin = origin.into();
    let mut attempt = load::attempt(&origin, env, &[]);
    let mut meaning = None;
    if let Some(config) = attempt.config.take().filter(|_| attempt.errors.is_empty()) {
        match snapshot(&config, prices, 1, env) {
            Ok(snapshot) => meaning = Some(Meaning { config, snapshot, prices: prices.describe() }),
            Err(errors) => attempt.errors.extend(errors.0),
        }
    }
    CheckReport { files: attempt.files, errors: attempt.errors, warnings: attempt.warnings, meaning }
}

impl CheckReport {
    /// May it be served?
    #[must_use]
    pub fn passed(&self) -> bool {
        self.errors.is_empty()
    }
}

impl fmt::Display for CheckReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for file in &self.files {
            writeln!(f, "read {}", file.display())?;
        }
        for warning in &self.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        for error in &self.errors {
            writeln!(f, "error: {error}")?;
        }
        match &self.meaning {
            Some(meaning) => {
                meaning.groups(f)?;
                meaning.rest(f)?;
                write!(f, "ok: ")?;
            }
            None => write!(f, "failed: ")?,
        }
        write!(f, "{}, {}", count(self.errors.len(), "error"), count(self.warnings.len(), "warning"))
    }
}

fn count(n: usize, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}

impl Meaning {
    fn groups(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut groups: Vec<_> = self.snapshot.groups.values().collect();
        groups.sort_by(|a, b| a.name.cmp(&b.name));
        writeln!(f, "\nmodel groups ({}):", groups.len())?;
        for group in groups {
            describe::group(f, &self.snapshot, group)?;
        }
        for (alias, group) in &self.snapshot.aliases {
            let hidden = if self.snapshot.hidden.contains(alias) { ", hidden" } else { "" };
            writeln!(f, "  {alias} -> {group}{hidden}")?;
        }
        describe::fallbacks(f, &self.snapshot)
    }

    fn rest(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let snapshot = &self.snapshot;
        writeln!(f, "\nprices: {}", self.prices)?;
        let unpriced = |d: &&Arc<Deployment>| d.meta.price.is_none() && !wildcard::is_pattern(&d.meta.model);
        let mut unpriced: Vec<_> = snapshot.deployments.values().filter(unpriced).collect();
        unpriced.sort_by(|a, b| a.cluster.cmp(&b.cluster));
        if !unpriced.is_empty() {
            let names: Vec<_> =
                unpriced.iter().map(|d| format!("{} ({})", d.meta.group, d.meta.model)).collect();
            writeln!(
                f,
                "  no price for {}: their spend is recorded as unknown; set model_info.base_model or the costs",
                names.join(", ")
            )?;
        }
        writeln!(f, "keys and ledger: {}", database(&self.config.database(Path::new("<data-dir>"))))?;
        writeln!(f, "counters: {}", counters(&self.config))?;
        describe::router(f, snapshot)?;
        self.health(f)
    }

    fn health(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let general = &self.config.general_settings;
        let requires: Vec<_> = general.readiness_requires.iter().map(|what| what.name()).collect();
        let requires = if requires.is_empty() { "nothing".to_owned() } else { requires.join(", ") };
        write!(f, "ready with {requires}")?;
        if general.background_health_checks {
            write!(f, ", background probes every {:?}", seconds(general.health_check_interval))?;
            if self.snapshot.pre_call_health_checks {
                f.write_str(" (what fails one gets no requests)")?;
            }
        }
        match general.proxy_config_reload_interval_seconds {
            0.0 => writeln!(f, "; files are read again on SIGHUP"),
            interval => writeln!(f, "; files are looked at every {:?}", seconds(interval)),
        }
    }
}

/// Never the URL: it has a password in it.
fn database(backend: &DatabaseBackend) -> String {
    match backend {
        DatabaseBackend::Sqlite { path } => format!("SQLite, {}", path.display()),
        DatabaseBackend::Postgres { max_connections, .. } => {
            format!("Postgres, up to {max_connections} connections")
        }
    }
}

fn counters(config: &Config) -> String {
    match config.counters() {
        CounterBackend::Memory => "this process (replicas do not share limits and cooldowns)".to_owned(),
        CounterBackend::Redis { servers, .. } => servers.to_string(),
    }
}
