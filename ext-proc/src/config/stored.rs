//! Models of the database, beside those of the file (`general_settings.store_model_in_db`).

use std::collections::BTreeSet;

use serde_yaml_ng::{Mapping, Value};

use super::issue::{Findings, Place};
use super::{Env, keys, load, resolve, routes_rules, rules, walk};
use crate::prices::PriceTable;

const LIST: &str = "model_list";

/// One model of the database: an entry of `model_list`, decrypted.
#[derive(Clone, PartialEq)]
pub struct StoredModel {
    /// `model_id`, for messages.
    pub id: String,
    pub entry: serde_json::Value,
}

impl std::fmt::Debug for StoredModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoredModel").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Appends what can be served to the file's `model_list` and returns how many. The file's own models are expanded
/// already, and win when an id is there twice.
pub(super) fn add(map: &mut Mapping, models: &[StoredModel], env: &Env, findings: &mut Findings) -> usize {
    if models.is_empty() {
        return 0;
    }
    let list = match map.get_mut(LIST) {
        Some(Value::Sequence(list)) => list,
        // Wrong in the file: that is found later.
        Some(other) if !other.is_null() => return 0,
        _ => {
            map.insert(LIST.into(), Value::Sequence(Vec::new()));
            match map.get_mut(LIST) {
                Some(Value::Sequence(list)) => list,
                _ => return 0,
            }
        }
    };
    let before = list.len();
    let mut taken: BTreeSet<String> = list.iter().filter_map(id).collect();
    for model in models {
        match expanded(model, env).and_then(|entry| match id(&entry) {
            Some(id) if !taken.insert(id.clone()) => Err(format!("another model has the id {id:?}")),
            _ => Ok(entry),
        }) {
            Ok(entry) => list.push(entry),
            Err(why) => findings.warn(
                &Place::default(),
                format!("model {:?} of the database is not served: {why}", model.id),
            ),
        }
    }
    list.len() - before
}

fn id(entry: &Value) -> Option<String> {
    Some(entry.get("model_info")?.get("id")?.as_str()?.to_owned())
}

/// The entry without placeholders, if it would do as the only one of a file.
fn expanded(model: &StoredModel, env: &Env) -> Result<Value, String> {
    // Whoever may add a model may not read the sidecar's files for that.
    if model.entry.to_string().contains("${file:") {
        return Err("`${file:...}` is for configuration files only".to_owned());
    }
    let entry =
        serde_yaml_ng::to_value(&model.entry).map_err(|_| "it is no entry of model_list".to_owned())?;
    let mut alone = Mapping::new();
    alone.insert(LIST.into(), Value::Sequence(vec![entry]));
    let mut general = Mapping::new();
    // Other models may be named.
    general.insert("store_model_in_db".into(), true.into());
    alone.insert("general_settings".into(), general.into());
    let mut findings = Findings::default();
    load::expand(&mut alone, env, &mut findings);
    let entry = alone.get(LIST).and_then(|list| list.get(0)).cloned().unwrap_or_default();
    walk::section(&mut alone, &keys::ROOT, &Place::default(), &mut findings);
    if findings.errors.is_empty()
        && let Some(config) = load::typed(alone, env, &mut findings)
    {
        rules::model_names(&config, &mut findings);
        let deployments = resolve::deployments(&config, env, &PriceTable::default(), &mut findings);
        routes_rules::check(&config, &deployments, &mut findings);
    }
    match findings.errors.into_iter().next() {
        Some((place, why)) => {
            Err(format!("{}: {why}", place.to_string().trim_start_matches("model_list[0].")))
        }
        None => Ok(entry),
    }
}
