use super::*;

fn plan(steps: usize, name: usize) -> Vec<PlanStep> {
    let step = |index: usize| PlanStep {
        deployment: String::new(),
        cluster: format!("{index}{}", "x".repeat(name)),
        group: String::new(),
    };
    (0..steps).map(step).collect()
}

#[test]
fn a_plan_travels_as_a_protobuf_value() {
    let plan = plan(2, 3);
    let text = encoded(&groups(&plan));
    let value = Value::decode(STANDARD.decode(text).unwrap().as_slice()).unwrap();
    assert_eq!(value, groups(&plan));
}

#[test]
fn a_plan_that_envoy_would_drop_is_known_and_no_other() {
    assert!(!is_too_long(&plan(12, 100)), "twelve steps with long names");
    // Around the limit: exactly those whose text is too long.
    for name in 300..700 {
        let plan = plan(12, name);
        assert_eq!(is_too_long(&plan), encoded(&groups(&plan)).len() >= MAX_PLAN_HEADER, "{name}");
    }
}

#[test]
fn a_use_of_a_lease_tells_the_values_that_are_its_own() {
    let headers = |left: &str| -> Vec<(String, String)> {
        [("limit", "9"), ("left", left), ("reset", "5s")]
            .map(|(name, value)| (name.into(), value.into()))
            .into()
    };
    assert_eq!(differing(&headers("8"), headers("7")), [(1, "7".to_owned())]);
    assert!(differing(&headers("8"), headers("8")).is_empty());
}
