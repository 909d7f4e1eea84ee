use std::collections::BTreeMap;

use serde_json::json;

use super::*;
use crate::entity::{EntityKind, Settings};
use crate::limits::testing::{NOW, demand, everyone, of_key};
use crate::limits::{Rules, bill};

fn headers(bill: &Bill, values: &[u64]) -> BTreeMap<String, String> {
    let headers = bill.headers(values, NOW);
    let count = headers.len();
    let map: BTreeMap<_, _> = headers.into_iter().collect();
    assert_eq!(map.len(), count, "no header twice");
    map
}

fn settings(value: serde_json::Value) -> Settings {
    serde_json::from_value(value).unwrap()
}

#[test]
fn the_tightest_limit_is_told_in_openais_headers() {
    let key = settings(json!({"rpm_limit": 10, "tpm_limit": 1_000, "rpd_limit": 4}));
    let team = settings(json!({"rpm_limit": 100, "tpm_limit": 500}));
    let principal = everyone(|kind| match kind {
        EntityKind::Key => key.clone(),
        EntityKind::Team => team.clone(),
        _ => Settings::default(),
    });
    let bill = bill(&Rules::default(), &principal, &demand());
    // Key rpm, tpm, rpd; team rpm, tpm.
    let headers = headers(&bill, &[3, 150, 3, 40, 450]);
    let get = |name: &str| headers[name].as_str();
    assert_eq!((get("x-ratelimit-limit-requests"), get("x-ratelimit-remaining-requests")), ("4", "1"));
    assert_eq!((get("x-ratelimit-limit-tokens"), get("x-ratelimit-remaining-tokens")), ("500", "50"));
    assert_eq!(get("x-ratelimit-reset-requests"), "19h24m43s", "of the day");
    assert_eq!(get("x-ratelimit-reset-tokens"), "43s");
    assert_eq!(get("x-ratelimit-api_key-limit-requests"), "4");
    assert_eq!(get("x-ratelimit-api_key-remaining-requests"), "1");
    assert_eq!(get("x-ratelimit-api_key-remaining-tokens"), "850");
    assert_eq!(get("x-ratelimit-team-remaining-requests"), "60");
    assert_eq!(get("x-ratelimit-team-remaining-tokens"), "50");
    assert_eq!(get("x-litellm-key-rpm-limit"), "10");
    assert_eq!(get("x-litellm-key-tpm-limit"), "1000");
    assert!(!headers.contains_key("x-litellm-key-max-budget"));
}

#[test]
fn money_is_told_in_exact_dollars() {
    let key = settings(json!({"max_budget_nanos": 20_000_000_000_u64}));
    let bill = bill(&Rules::default(), &of_key(key), &demand());
    let headers = headers(&bill, &[1_234_567_891]);
    assert_eq!(headers["x-litellm-key-max-budget"], "20.0");
    assert_eq!(headers["x-litellm-key-spend"], "1.234567891");
    assert_eq!(headers.len(), 2, "{headers:?}");
}

#[test]
fn a_counter_above_its_limit_leaves_nothing() {
    let key = settings(json!({"rpm_limit": 2, "max_parallel_requests": 5}));
    let bill = bill(&Rules::default(), &of_key(key), &demand());
    let headers = headers(&bill, &[4, 7]);
    assert_eq!(headers["x-ratelimit-remaining-requests"], "0");
    assert_eq!(headers["x-ratelimit-api_key-limit-max_parallel_requests"], "5");
    assert_eq!(headers["x-ratelimit-api_key-remaining-max_parallel_requests"], "1");
}

#[test]
fn who_has_no_limits_hears_nothing() {
    let bill = bill(&Rules::default(), &of_key(Settings::default()), &demand());
    assert!(bill.headers(&[], NOW).is_empty());
    let limited =
        crate::limits::bill(&Rules::default(), &of_key(settings(json!({"rpm_limit": 2}))), &demand());
    let silent = limited.headers(&[], NOW);
    let names: Vec<_> = silent.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        ["x-litellm-key-rpm-limit"],
        "nothing is known of what is left when the counters are away"
    );
}

#[test]
fn there_is_a_bound_however_many_limits_there_are() {
    let all = settings(json!({
        "rpm_limit": 1, "tpm_limit": 2, "input_tpm_limit": 3, "output_tpm_limit": 4, "rpd_limit": 5, "tpd_limit": 6,
        "max_parallel_requests": 7, "max_budget_nanos": 8, "model_rpm_limit": {"*": 1}, "model_tpm_limit": {"*": 1},
        "model_max_budget": {"*": {"limit_nanos": 1}},
        "metadata": {"tag_rpm_limit": {"t0": 1}},
    }));
    let mut principal = everyone(|_| all.clone());
    let tag = principal.tags[0].1.clone();
    principal.tags = (0..40).map(|at| (format!("t{at}"), tag.clone())).collect();
    let rules = Rules { parallel: Some(1), user_budget_for_team_keys: true, ..Rules::default() };
    let bill = bill(&rules, &principal, &demand());
    let values = vec![1; bill.lines.len()];
    let headers = headers(&bill, &values);
    assert!((50..=70).contains(&headers.len()), "{}", headers.len());
}

#[test]
fn durations_are_openais() {
    assert_eq!(duration(0), "0s");
    assert_eq!(duration(17), "17s");
    assert_eq!(duration(360), "6m0s");
    assert_eq!(duration(86_399), "23h59m59s");
}

#[test]
fn dollars_are_exact() {
    assert_eq!(dollars(0), "0.0");
    assert_eq!(dollars(1), "0.000000001");
    assert_eq!(dollars(20_080_000), "0.02008");
    assert_eq!(dollars(u64::MAX), "18446744073.709551615");
}
