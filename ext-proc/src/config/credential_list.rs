//! `credential_list`: named credentials, put into the parameters of the deployments that name them.

use std::collections::BTreeMap;

use serde_yaml_ng::{Mapping, Value};

use super::issue::{Findings, Place, did_you_mean};

const LIST: &str = "credential_list";
const NAME: &str = "credential_name";
const VALUES: &str = "credential_values";
const NAMED: &str = "litellm_credential_name";

/// Puts the values of each named credential below the deployment's own parameters. What a parameter is called wrongly
/// in there is found where the deployment is.
pub(super) fn put(map: &mut Mapping, findings: &mut Findings) {
    let credentials = credentials(map, findings);
    let Some(Value::Sequence(models)) = map.get_mut("model_list") else { return };
    for (at, model) in models.iter_mut().enumerate() {
        let Some(Value::Mapping(params)) = model.get_mut("litellm_params") else { continue };
        let Some(Value::String(name)) = params.get(NAMED) else { continue };
        let Some(values) = credentials.get(name) else {
            let near = did_you_mean(name, credentials.keys().map(String::as_str));
            let place = Place::at("model_list").index(at).key("litellm_params").key(NAMED);
            findings.error(&place, format!("`{LIST}` has no credential of this name{near}"));
            continue;
        };
        for (key, value) in values {
            if params.get(key).is_none_or(Value::is_null) {
                params.insert(key.clone(), value.clone());
            }
        }
    }
}

/// By name. Entries that are no entries are found by the key table.
fn credentials(map: &Mapping, findings: &mut Findings) -> BTreeMap<String, Mapping> {
    let mut found = BTreeMap::new();
    let Some(Value::Sequence(entries)) = map.get(LIST) else { return found };
    for (at, entry) in entries.iter().enumerate() {
        let (Some(Value::String(name)), Some(Value::Mapping(values))) = (entry.get(NAME), entry.get(VALUES))
        else {
            continue;
        };
        if found.insert(name.clone(), values.clone()).is_some() {
            findings.error(&Place::at(LIST).index(at).key(NAME), "this name is taken already");
        }
    }
    found
}
