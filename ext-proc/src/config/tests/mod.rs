mod docs;
mod errors;
mod files;
mod limits;
mod placeholders;
mod prices;
mod providers;
mod redis;
mod routing;
mod routing_errors;
mod snapshot;
mod stored;

use std::path::PathBuf;

use super::{Config, ConfigErrors, Env, Loaded, load};
use crate::prices::PriceTable;
use crate::routing::Snapshot;

/// A master key that is nobody's.
const MASTER: &str = "sk-5f3a9c07d1e84b62";

const MODEL: &str = "
model_list:
  - model_name: gpt-4o
    litellm_params:
      model: openai/gpt-4o
      api_key: sk-upstream-secret
";

fn env() -> Env {
    Env::from([("LITELLM_MASTER_KEY", MASTER)])
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }
}

fn load_text(text: &str, env: &Env) -> Result<Loaded, ConfigErrors> {
    let folder = Folder::new();
    load(&folder.write("config.yaml", text), env)
}

/// One configuration that loads.
fn config(text: &str) -> Config {
    load_text(text, &env()).unwrap_or_else(|errors| panic!("{errors}")).config
}

/// `line path: message` of every error.
fn errors(text: &str) -> Vec<String> {
    errors_with(text, &env())
}

fn errors_with(text: &str, env: &Env) -> Vec<String> {
    let Err(ConfigErrors(issues)) = load_text(text, env) else { panic!("it loads:\n{text}") };
    issues.iter().map(short).collect()
}

/// The same of one that may load.
fn errors_of(text: &str) -> Vec<String> {
    load_text(text, &env())
        .err()
        .map(|ConfigErrors(issues)| issues.iter().map(short).collect())
        .unwrap_or_default()
}

/// The snapshot of one that loads, with the built-in prices.
fn snapshot(text: &str) -> Snapshot {
    super::snapshot(&config(text), &PriceTable::embedded(), 1, &env()).unwrap()
}

fn warnings(text: &str) -> Vec<String> {
    let loaded = load_text(text, &env()).unwrap_or_else(|errors| panic!("{errors}"));
    loaded.warnings.iter().map(short).collect()
}

fn short(issue: &super::Issue) -> String {
    let line = issue.line.map_or_else(|| "?".to_owned(), |line| line.to_string());
    format!("{line} {}: {}", issue.path, issue.message)
}

/// One of them contains all of these.
#[track_caller]
fn assert_some(issues: &[String], parts: &[&str]) {
    let found = issues.iter().any(|issue| parts.iter().all(|part| issue.contains(part)));
    assert!(found, "nothing with {parts:?} in {issues:#?}");
}
