use serde_json::json;

use super::*;
use crate::entity::EntityKind;

fn changed(settings: &mut Settings, body: Value) -> Result<Vec<String>, ApiError> {
    let Value::Object(map) = body else { panic!("an object") };
    let mut fields = Fields::of(map);
    read(&mut fields, settings)?;
    keep_rest(fields, settings)
}

fn shown(settings: Settings) -> Value {
    let mut shown = Shown::default();
    describe(&Entity { settings, ..Entity::new(EntityKind::Key, "id") }, &mut shown);
    serde_json::from_str(&serde_json::to_string(&shown).unwrap()).unwrap()
}

#[test]
fn every_field_is_read_and_shown_again() {
    let body = json!({
        "models": ["gpt-4o", "openai/*"], "allowed_routes": ["/key/info"], "tags": ["a"],
        "metadata": {"owner": "x"}, "max_budget": 20, "soft_budget": 0.1, "budget_duration": "30d",
        "temp_budget_increase": 2.5, "temp_budget_expiry": "2030-01-01T00:00:00Z", "budget_mode": "audit",
        "model_max_budget": {"gpt-4o": {"budget_limit": 1.25, "time_period": "1d"}},
        "budget_fallbacks": {"gpt-4o": ["gpt-4o-mini"]}, "budget_fallback_percent": 80,
        "rpm_limit": 1, "tpm_limit": 2, "input_tpm_limit": 3, "output_tpm_limit": 4, "rpd_limit": 5,
        "tpd_limit": 6, "max_parallel_requests": 7, "model_rpm_limit": {"gpt-4o": 8},
        "model_tpm_limit": {"gpt-4o": 9},
    });
    let mut settings = Settings::default();
    assert_eq!(changed(&mut settings, body.clone()).unwrap(), Vec::<String>::new());
    let seen = shown(settings);
    for (name, value) in body.as_object().unwrap() {
        let value = if name == "max_budget" { json!(20.0) } else { value.clone() };
        assert_eq!(seen[name], value, "{name}");
    }
}

#[test]
fn a_change_leaves_what_it_does_not_name_and_null_clears() {
    let mut settings = Settings::default();
    let first = json!({"max_budget": 20, "rpm_limit": 5, "models": ["a"], "guardrails": ["g"], "aliases": {"a": "b"}});
    let warnings = changed(&mut settings, first).unwrap();
    assert_eq!(warnings, ["kept, without effect yet: guardrails"]);
    changed(&mut settings, json!({"tpm_limit": 7})).unwrap();
    assert_eq!(settings.max_budget_nanos, Some(20_000_000_000));
    assert_eq!((settings.rpm_limit, settings.tpm_limit), (Some(5), Some(7)));
    assert_eq!(settings.rest["guardrails"], json!(["g"]));
    changed(
        &mut settings,
        json!({"max_budget": null, "rpm_limit": null, "models": null, "guardrails": null, "aliases": {}}),
    )
    .unwrap();
    assert_eq!(settings, Settings { tpm_limit: Some(7), ..Settings::default() });
}

#[test]
fn what_litellm_keeps_in_the_metadata_works_from_there() {
    let mut settings = Settings::default();
    changed(
        &mut settings,
        json!({"metadata": {"tags": ["t"], "model_rpm_limit": {"m": 3}}, "model_tpm_limit": {"m": 4}}),
    )
    .unwrap();
    assert_eq!(settings.tags, ["t"]);
    assert_eq!(settings.model_rpm_limit["m"], 3);
    assert_eq!(settings.metadata["model_rpm_limit"]["m"], 3);
    assert_eq!(settings.model_tpm_limit["m"], 4);
}

#[test]
fn errors_name_the_field() {
    let refused = |body: Value| {
        let error = changed(&mut Settings::default(), body.clone()).expect_err(&body.to_string());
        (error.status, error.param.unwrap_or_default().into_owned())
    };
    let at = |status, name: &str| (status, name.to_owned());
    assert_eq!(refused(json!({"max_budget": -1})), at(400, "max_budget"));
    assert_eq!(refused(json!({"max_budget": "a lot"})), at(422, "max_budget"));
    assert_eq!(refused(json!({"rpm_limit": -1})), at(400, "rpm_limit"));
    assert_eq!(refused(json!({"rpm_limit": 1.5})), at(422, "rpm_limit"));
    assert_eq!(refused(json!({"budget_duration": "soon"})), at(400, "budget_duration"));
    assert_eq!(refused(json!({"temp_budget_expiry": "soon"})), at(400, "temp_budget_expiry"));
    assert_eq!(refused(json!({"models": [""]})), at(400, "models"));
    assert_eq!(refused(json!({"models": ["a\u{1f}b"]})), at(400, "models"));
    assert_eq!(refused(json!({"model_max_budget": {"m": {}}})), at(400, "model_max_budget"));
    assert_eq!(refused(json!({"model_max_budget": {"m": []}})), at(422, "model_max_budget"));
    assert_eq!(refused(json!({"budget_mode": "maybe"})), at(400, "budget_mode"));
    assert_eq!(refused(json!({"budget_fallbacks": {"m": "x"}})), at(422, "budget_fallbacks"));
    assert_eq!(refused(json!({"aliases": {"a": 1}})), at(422, "aliases"));
    assert_eq!(refused(json!({"metadata": {"x": "y".repeat(LONGEST_REST)}})), at(400, "metadata"));
}

#[test]
fn a_field_of_nobody_is_told_and_cannot_reach_what_is_ours() {
    let mut settings = Settings::default();
    let warnings =
        changed(&mut settings, json!({"account": "other", "max_budget_nanos": 1, "role": "x", "budgett": 1}))
            .unwrap();
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].starts_with("unknown, ignored: "), "{warnings:?}");
    assert_eq!(settings, Settings::default());
}

#[test]
fn a_password_is_not_kept() {
    let mut settings = Settings::default();
    changed(&mut settings, json!({"password": "secret"})).unwrap();
    assert!(settings.rest.is_empty());
}
