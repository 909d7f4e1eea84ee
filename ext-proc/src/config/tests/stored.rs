use serde_json::{Value, json};

use super::*;
use crate::config::{StoredModel, load_with};

const FILE: &str = "
model_list:
- {model_name: gpt-4o, litellm_params: {model: openai/gpt-4o, api_key: sk-1}, model_info: {id: of-the-file}}
general_settings: {store_model_in_db: true}
environment_variables: {KEY_OF_THE_DATABASE: sk-of-the-database}
router_settings: {fallbacks: [{gpt-4o: [stored]}]}
";

fn stored(id: &str, name: &str, params: Value) -> StoredModel {
    let entry =
        json!({"model_name": name, "litellm_params": params, "model_info": {"id": id}, "blocked": false});
    StoredModel { id: id.to_owned(), entry }
}

fn good(id: &str) -> StoredModel {
    stored(
        id,
        "stored",
        json!({"model": "openai/gpt-4o", "api_key": "os.environ/KEY_OF_THE_DATABASE", "rpm": "60"}),
    )
}

fn loaded(models: &[StoredModel]) -> Loaded {
    let folder = Folder::new();
    load_with(&folder.write("config.yaml", FILE), &env(), models).unwrap_or_else(|errors| panic!("{errors}"))
}

#[test]
fn models_of_the_database_stand_beside_those_of_the_file() {
    let loaded = loaded(&[good("m1"), good("m2")]);
    let list = &loaded.config.model_list;
    assert_eq!(
        list.iter().map(|entry| entry.model_name.as_str()).collect::<Vec<_>>(),
        ["gpt-4o", "stored", "stored"]
    );
    let params = &list[1].litellm_params;
    assert_eq!((params.api_key.as_ref().unwrap().expose(), params.rpm), ("sk-of-the-database", Some(60)));
    assert_eq!(loaded.files.len(), 1, "the database is no file to watch");
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let snapshot = crate::config::snapshot(&loaded.config, &PriceTable::default(), 1, &env()).unwrap();
    assert_eq!((snapshot.groups["stored"].deployments.len(), snapshot.fallbacks["gpt-4o"].len()), (2, 1));
}

#[test]
fn one_that_cannot_be_served_is_left_out_and_named() {
    let missing = stored("m2", "x", json!({"model": "openai/x", "api_key": "os.environ/NOWHERE"}));
    let long = stored("m6", &"x".repeat(300), json!({"model": "openai/x", "api_key": "sk-1"}));
    let bad = [
        stored("m1", "x", json!({"model": "openai/x", "api_kay": "sk-secret"})),
        missing,
        stored("of-the-file", "x", json!({"model": "openai/x", "api_key": "sk-1"})),
        stored("m4", "x", json!({"model": "openai/x", "api_key": "sk-1", "max_budget": 1})),
        StoredModel { id: "m5".to_owned(), entry: json!([1]) },
        long,
    ];
    let loaded = loaded(&[bad.as_slice(), &[good("m7")]].concat());
    assert_eq!(loaded.config.model_list.len(), 2);
    let warnings: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
    let all = warnings.join("\n");
    assert_eq!(warnings.len(), bad.len(), "{all}");
    for part in [
        "model \"m1\" of the database is not served: litellm_params.api_kay: unknown key `api_kay`",
        "NOWHERE is not set",
        "another model has the id \"of-the-file\"",
        "max_budget: needs `budget_duration`",
        "model \"m5\"",
        "at most 256 characters",
    ] {
        assert!(all.contains(part), "{part} in {all}");
    }
    assert!(!all.contains("sk-secret"), "{all}");
}

#[test]
fn a_warning_of_a_stored_model_says_where_it_comes_from() {
    let params = json!({"model": "openai/x", "api_key": "sk-1", "azure_username": "u"});
    let loaded = loaded(&[good("m1"), stored("m2", "x", params)]);
    let warnings: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].starts_with("(database): model_list[2].litellm_params.azure_username"),
        "{warnings:?}"
    );
}

#[test]
fn names_that_only_the_database_may_have_are_no_error() {
    let loaded = loaded(&[]);
    assert_eq!(loaded.warnings.len(), 1);
    assert!(loaded.warnings[0].message.contains("the database may have it"), "{:?}", loaded.warnings);
    let errors = errors(&FILE.replace("store_model_in_db: true", "store_model_in_db: false"));
    assert!(errors.iter().any(|error| error.contains("there is no model group `stored`")), "{errors:?}");
}
