//! The models of LiteLLM's database as a configuration file, for those who would rather have them there.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::models::{Keys, opened};
use super::report::TableReport;
use super::row::{Found, Row, error};
use super::source::Source;
use super::{CREDENTIALS, ImportError, MODELS, Options, PAGE};
use crate::secrets;

/// Models that one file takes.
const MOST: usize = 10_000;

/// A `model_list`, ready to be written.
#[derive(Debug, Default, Serialize)]
pub struct ModelsFile {
    model_list: Vec<Value>,
    /// Variables that the file's placeholders name.
    #[serde(skip)]
    pub variables: BTreeSet<String>,
    #[serde(skip)]
    pub report: TableReport,
}

impl ModelsFile {
    #[must_use]
    pub fn models(&self) -> usize {
        self.model_list.len()
    }
}

/// Reads the models and writes them to `path`, readable by its owner only. Without `with_secrets` every secret becomes
/// an `os.environ/...` placeholder.
///
/// # Errors
/// LiteLLM's database, or the file.
pub async fn write_models(options: &Options, path: &Path, with_secrets: bool) -> anyhow::Result<ModelsFile> {
    let mut source = Source::open(&options.database_url).await?;
    let file = read(&mut source, options, with_secrets).await?;
    source.close().await;
    let mut text =
        String::from("# Models of LiteLLM's database, written by `attache import litellm --models-to`.\n");
    for name in &file.variables {
        text.push_str(&format!("# needs the variable {name}\n"));
    }
    text.push_str(&serde_yaml_ng::to_string(&file)?);
    let mut out = std::fs::OpenOptions::new();
    // Never over something that is there: it may be the configuration in use.
    let mut out = out.write(true).create_new(true).mode(0o600).open(path)?;
    out.write_all(text.as_bytes())?;
    Ok(file)
}

async fn read(source: &mut Source, options: &Options, with_secrets: bool) -> Result<ModelsFile, ImportError> {
    let keys = Keys { from: options.from_salt.clone(), to: None };
    let mut credentials = BTreeMap::new();
    for row in all(source, CREDENTIALS).await?.iter().flatten() {
        if let (Ok(name), Ok(values)) = (row.id("credential_name"), opened(row, "credential_values", &keys)) {
            credentials.insert(name, values);
        }
    }
    let mut file = ModelsFile::default();
    file.report.table = MODELS.name;
    for row in all(source, MODELS).await? {
        file.report.read += 1;
        let made = row.and_then(|row| {
            let name = row.id("model_id").unwrap_or_default();
            model(&row, &keys, &credentials).map_err(|why| (name, why)).map_or_else(
                |(name, why)| {
                    file.report.fail(&name, why.to_string());
                    Ok(None)
                },
                |model| Ok(Some(model)),
            )
        });
        if let Ok(Some(mut model)) = made {
            if !with_secrets {
                hide(&mut model, &mut file.variables);
            }
            file.report.created += 1;
            file.model_list.push(model);
        }
    }
    Ok(file)
}

async fn all(source: &mut Source, table: super::Table) -> Result<Vec<Found<Row>>, ImportError> {
    let (mut rows, mut after) = (Vec::new(), None);
    while source.has(table.name).await? && rows.len() < MOST {
        let page = source.page(table, after.as_deref(), PAGE).await?;
        let full = page.rows.len() == PAGE as usize;
        rows.extend(page.rows);
        after = page.last;
        if !full {
            break;
        }
    }
    Ok(rows)
}

fn model(row: &Row, keys: &Keys, credentials: &BTreeMap<String, Map<String, Value>>) -> Found<Value> {
    let mut params = opened(row, "litellm_params", keys)?;
    if secrets::put_credential(&mut params, credentials).is_some() {
        return Err(error(
            "litellm_params.litellm_credential_name",
            "there is no readable credential of this name",
        ));
    }
    params.retain(|_, value| !value.is_null());
    let mut model = json!({"model_name": row.id("model_name")?, "litellm_params": params});
    let mut info = row.object("model_info")?;
    info.retain(|name, value| !value.is_null() && name != "db_model");
    info.entry("id").or_insert(Value::String(row.id("model_id")?));
    model["model_info"] = Value::Object(info);
    if row.flag("blocked")? {
        model["blocked"] = Value::Bool(true);
    }
    Ok(model)
}

/// Puts placeholders for what is secret by its name.
fn hide(model: &mut Value, variables: &mut BTreeSet<String>) {
    let group = model["model_name"].as_str().unwrap_or_default().to_owned();
    let Some(params) = model["litellm_params"].as_object_mut() else { return };
    for (name, value) in params {
        let Some(text) = value.as_str() else { continue };
        if !is_secret(name) || text.starts_with("os.environ/") {
            continue;
        }
        let variable = variable(&group, name, variables);
        *value = Value::String(format!("os.environ/{variable}"));
        variables.insert(variable);
    }
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["key", "key_id", "secret", "token", "password", "credentials"].iter().any(|end| name.ends_with(end))
}

/// A variable of its own for every deployment: two of a group may have different keys.
fn variable(group: &str, name: &str, taken: &BTreeSet<String>) -> String {
    let plain: String = format!("{group}_{name}")
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' })
        .collect();
    let first = if plain.starts_with(|c: char| c.is_ascii_digit()) { format!("M_{plain}") } else { plain };
    let mut free = first.clone();
    let mut count = 1;
    while taken.contains(&free) {
        count += 1;
        free = format!("{first}_{count}");
    }
    free
}
