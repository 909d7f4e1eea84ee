use serde_json::{Value, json};

use super::*;
use crate::entity::{Principal, Settings};
use crate::limits::testing::{NOW, demand, everyone, of_key};
use crate::limits::{Rules, bill};

fn settings(value: Value) -> Settings {
    serde_json::from_value(value).unwrap()
}

fn refused(rules: &Rules, principal: &Principal, value: u64) -> ApiError {
    bill(rules, principal, &demand()).refusal(rules, 0, value, NOW)
}

fn object(error: &ApiError) -> Value {
    let mut body: Value = serde_json::from_slice(&error.to_json()).unwrap();
    body["error"].take()
}

fn header(error: &ApiError, name: &str) -> Option<String> {
    error.headers().into_iter().find(|(known, _)| *known == name).map(|(_, value)| value)
}

#[test]
fn a_rate_limit_names_everything() {
    let error = refused(&Rules::default(), &of_key(settings(json!({"rpm_limit": 3}))), 3);
    let message = "Rate limit exceeded for api_key: sk-...last. Limit type: requests. Current limit: 3 (rpm_limit), \
                   Remaining: 0. Limit resets at: 2026-11-25 04:36:00 UTC";
    assert_eq!(
        object(&error),
        json!({
            "message": message, "type": "throttling_error", "param": null, "code": "429", "entity_type": "api_key",
            "entity_id": "sk-...last", "model": null, "limit_type": "rpm_limit", "window": "minute", "limit": 3,
            "used": 3, "remaining": 0, "reset_at": "2026-11-25 04:36:00 UTC",
        })
    );
    assert_eq!(header(&error, "retry-after").as_deref(), Some("43"), "until the window really ends");
    assert_eq!(header(&error, "x-should-retry"), None);
    assert!(error.retriable);
}

#[test]
fn a_place_is_free_when_somebody_leaves() {
    let error = refused(&Rules::default(), &of_key(settings(json!({"max_parallel_requests": 2}))), 2);
    assert_eq!((error.status, error.retry_after_s), (429, Some(1)));
    assert!(error.message.contains("max_parallel_requests"), "{}", error.message);
    assert_eq!(object(&error)["reset_at"], Value::Null);
}

#[test]
fn a_day_is_too_long_for_retries() {
    let error = refused(&Rules::default(), &of_key(settings(json!({"tpd_limit": 200}))), 100);
    assert_eq!(error.retry_after_s, Some(19 * 3_600 + 24 * 60 + 43));
    assert_eq!(header(&error, "x-should-retry").as_deref(), Some("false"));
    assert!(!error.retriable);
    assert_eq!((&object(&error)["remaining"], &object(&error)["used"]), (&json!(100), &json!(100)));
}

#[test]
fn a_budget_names_its_window() {
    let set = json!({"max_budget_nanos": 40_160_000, "budget_duration": "1mo"});
    let principal =
        everyone(|kind| if kind == EntityKind::Team { settings(set.clone()) } else { Settings::default() });
    let error = refused(&Rules::default(), &principal, 40_170_000);
    let message = "Budget has been exceeded! Team=search Current cost: 0.04017, Max budget: 0.04016. Budget resets at: \
                   2026-12-01 00:00:00 UTC";
    let object = object(&error);
    assert_eq!(
        (error.status, &object["type"], &object["message"]),
        (429, &json!("budget_exceeded"), &json!(message))
    );
    assert_eq!(
        (&object["limit"], &object["spend"], &object["remaining"]),
        (&json!(0.04016), &json!(0.04017), &json!(0.0))
    );
    assert_eq!(object["window"], "since 2026-11-01 00:00:00 UTC");
    assert_eq!(object["entity_id"], "search");
    assert_eq!(header(&error, "x-should-retry").as_deref(), Some("false"));
    assert_eq!(error.retry_after_s, Some(5 * 86_400 + 19 * 3_600 + 24 * 60 + 43));
}

#[test]
fn a_budget_for_ever_has_no_reset_and_the_status_is_a_setting() {
    let rules = Rules { budget_status: 422, ..Rules::default() };
    let error = refused(&rules, &of_key(settings(json!({"max_budget_nanos": 5}))), 5);
    assert_eq!((error.status, error.retry_after_s, error.retriable), (422, None, false));
    assert_eq!((&object(&error)["reset_at"], &object(&error)["window"]), (&Value::Null, &json!("lifetime")));
    assert_eq!(object(&error)["code"], "422");
    assert_eq!(header(&error, "retry-after"), None);
}

#[test]
fn a_budget_of_a_model_names_the_model() {
    let set = json!({"model_max_budget": {"gpt-*": {"limit_nanos": 5, "duration": "12h"}}});
    let error = refused(&Rules::default(), &of_key(settings(set)), 5);
    let object = object(&error);
    assert_eq!((&object["entity_type"], &object["model"]), (&json!("model_per_key"), &json!("gpt-*")));
    assert!(error.message.contains("Key=sk-...last Model=gpt-*"), "{}", error.message);
    assert_eq!(object["reset_at"], "2026-11-25 12:00:00 UTC");
}

#[test]
fn nothing_breaks_on_a_limit_that_is_not_there() {
    let error = bill(&Rules::default(), &of_key(Settings::default()), &demand()).refusal(
        &Rules::default(),
        3,
        1,
        NOW,
    );
    assert_eq!(error.status, 500);
}
