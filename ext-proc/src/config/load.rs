//! From files to the typed configuration.

use std::path::PathBuf;

use serde_yaml_ng::{Mapping, Value};

use super::files::Files;
use super::issue::{Findings, Issue, Place};
use super::{
    Config, ConfigErrors, Env, Origin, Secret, StoredModel, credential_list, identity_rules, keys, limits,
    placeholders, redis, resolve, routes_rules, rules, stored, walk,
};
use crate::prices::PriceTable;

/// A configuration that may be used.
#[derive(Debug)]
pub struct Loaded {
    pub config: Config,
    /// Keys that Attaché does not act on, and what else the operator should know. Not errors.
    pub warnings: Vec<Issue>,
    /// The files read, the root first; behind them those that placeholders name.
    pub files: Vec<PathBuf>,
}

/// Reads, expands and checks a configuration.
///
/// # Errors
/// Everything that is wrong with it, collected.
pub fn load(origin: impl Into<Origin>, env: &Env) -> Result<Loaded, ConfigErrors> {
    load_with(origin, env, &[])
}

/// As [`load`], with models of the database beside those of the file. One that cannot be served is left out, with a
/// warning.
///
/// # Errors
/// As [`load`].
pub fn load_with(
    origin: impl Into<Origin>,
    env: &Env,
    models: &[StoredModel],
) -> Result<Loaded, ConfigErrors> {
    let attempt = attempt(&origin.into(), env, models);
    match attempt.config {
        Some(config) if attempt.errors.is_empty() => {
            Ok(Loaded { config, warnings: attempt.warnings, files: attempt.files })
        }
        _ => Err(ConfigErrors(attempt.errors)),
    }
}

/// What loading came to; the report of `check` shows warnings beside errors.
pub(super) struct Attempt {
    pub(super) config: Option<Config>,
    pub(super) errors: Vec<Issue>,
    pub(super) warnings: Vec<Issue>,
    pub(super) files: Vec<PathBuf>,
}

pub(super) fn attempt(origin: &Origin, env: &Env, models: &[StoredModel]) -> Attempt {
    let mut findings = Findings::default();
    let mut files = match Files::read(origin, env, &mut findings) {
        Ok(files) => files,
        Err(issue) => {
            return Attempt { config: None, errors: vec![issue], warnings: Vec::new(), files: Vec::new() };
        }
    };
    let mut map = std::mem::take(&mut files.merged);
    let env = expand(&mut map, env, &mut findings);
    let added = stored::add(&mut map, models, &env, &mut findings);
    if added > 0 {
        files.stored(added);
    }
    credential_list::put(&mut map, &mut findings);
    walk::section(&mut map, &keys::ROOT, &Place::default(), &mut findings);
    let config = if findings.errors.is_empty() { typed(map, &env, &mut findings) } else { None };
    if let Some(config) = &config {
        rules::check(config, &mut findings);
        limits::check(config, &mut findings);
        identity_rules::check(config, &mut findings);
        // Prices do not matter to whether it can be resolved.
        let deployments = resolve::deployments(config, &env, &PriceTable::default(), &mut findings);
        routes_rules::check(config, &deployments, &mut findings);
    }
    let references = std::mem::take(&mut findings.references);
    let issues = |found: Vec<(Place, String)>| -> Vec<Issue> {
        found.into_iter().map(|(place, message)| files.issue(&place, message)).collect()
    };
    Attempt {
        config,
        errors: issues(findings.errors),
        warnings: issues(findings.warnings),
        files: files.paths().into_iter().chain(references).collect(),
    }
}

/// Expands all placeholders, those of `environment_variables` first: the others may use what it sets.
pub(super) fn expand(map: &mut Mapping, env: &Env, findings: &mut Findings) -> Env {
    let mut env = env.clone();
    const BUCKET: &str = "environment_variables";
    if let Some(bucket) = map.get_mut(BUCKET) {
        placeholders::expand_all(bucket, &Place::at(BUCKET), &env, findings);
        let pairs = bucket.as_mapping().into_iter().flatten().filter_map(|(key, value)| {
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Number(number) => number.to_string(),
                Value::Bool(flag) => flag.to_string(),
                _ => return None,
            };
            Some((key.as_str()?.to_owned(), text))
        });
        let pairs: Vec<_> = pairs.collect();
        env = env.with(pairs);
    }
    for (key, value) in map.iter_mut() {
        let name = super::files::key_text(key);
        if name != BUCKET {
            placeholders::expand_all(value, &Place::at(&name), &env, findings);
        }
    }
    env
}

/// Deserialises what the walk left, and adds what LiteLLM takes from the environment.
pub(super) fn typed(map: Mapping, env: &Env, findings: &mut Findings) -> Option<Config> {
    let parsed: Result<Config, _> = serde_path_to_error::deserialize(Value::Mapping(map));
    let mut config = match parsed {
        Ok(config) => config,
        Err(error) => {
            // The message could quote a value: the path has to do.
            findings.error(&Place::at(&error.path().to_string()), "the value is out of range");
            return None;
        }
    };
    let general = &mut config.general_settings;
    let from = |name: &str| env.first(&[name]).map(|(_, value)| Secret::new(value));
    general.master_key = general.master_key.take().or_else(|| from("LITELLM_MASTER_KEY"));
    general.database_url = general.database_url.take().or_else(|| from("DATABASE_URL"));
    let stored = env.get("STORE_MODEL_IN_DB").is_some_and(|text| text.eq_ignore_ascii_case("true"));
    general.store_model_in_db |= stored;
    config.redis = redis::servers(&config, env, findings);
    Some(config)
}

/// The environment with `environment_variables` over it.
pub(super) fn overlay(config: &Config, env: &Env) -> Env {
    env.with(config.environment_variables.iter().map(|(name, value)| (name.as_str(), value.expose())))
}
