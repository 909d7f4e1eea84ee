use std::time::Duration;

use attache_llm::class::ErrorClass;
use attache_llm::contract::{After, MIRROR_HEADER, REPLAN_CLUSTER, Step, VERSION, Walk};
use envoy_types::pb::google::protobuf::{Struct, value::Kind};

use super::*;
use crate::routing::{PlanStep, Timeouts};
use crate::store::Reservation;

fn decision(walk: Option<Walk>, mirror: Option<&str>, per_try: Option<Duration>) -> Decision {
    let step = |deployment: &str, cluster: &str| PlanStep {
        deployment: deployment.into(),
        cluster: cluster.into(),
        group: "gpt".into(),
    };
    Decision {
        owner: None,
        alerts: Vec::new(),
        plan: vec![step("a", "gpt/openai/a"), step("", REPLAN_CLUSTER)],
        walk,
        mirror: mirror.map(str::to_owned),
        group: "gpt".into(),
        reservation: Reservation::none("r".into()),
        timeouts: Timeouts { total: Duration::from_micros(1_500), per_try },
        response_headers: Vec::new(),
        more: Vec::new(),
        generation: 1,
    }
}

fn parts(decision: Decision) -> (HeaderMutation, Struct) {
    let (message, _) = decided(decision);
    let Some(Response::RequestHeaders(headers)) = message.response else {
        panic!("not an answer to headers")
    };
    let mutation = headers.response.unwrap().header_mutation.unwrap();
    let own = message.dynamic_metadata.unwrap().fields.remove(contract::METADATA_NAMESPACE).unwrap();
    let Some(Kind::StructValue(own)) = own.kind else { panic!("no object") };
    (mutation, own)
}

fn value(mutation: &HeaderMutation, name: &str) -> Option<String> {
    let header = mutation.set_headers.iter().map(|h| h.header.as_ref().unwrap()).find(|h| h.key == name)?;
    Some(String::from_utf8(header.raw_value.clone()).unwrap())
}

#[test]
fn the_walk_travels_beside_the_plan_and_the_step_for_another_plan_counts() {
    let after = vec![(ErrorClass::RateLimit, After::Replan)];
    let first = Step { deployment: "a".into(), model: Some("gpt-4o".into()), after };
    let walk = Walk {
        contract: VERSION,
        per_try_ms: 7,
        min_wait_s: 2,
        steps: vec![first, Step::default()],
        probe: true,
    };
    let (mutation, own) = parts(decision(Some(walk.clone()), None, None));
    let Some(Kind::StringValue(json)) = &own.fields[contract::WALK_KEY].kind else { panic!("{own:?}") };
    assert_eq!(serde_json::from_str::<Walk>(json).unwrap(), walk);
    assert_eq!(value(&mutation, "x-envoy-max-retries").unwrap(), "1");
    assert_eq!(value(&mutation, "x-envoy-upstream-rq-timeout-ms").unwrap(), "2", "rounded up");
    let (_, own) = parts(decision(None, None, None));
    assert!(!own.fields.contains_key(contract::WALK_KEY), "a plain plan costs nothing more");
}

#[test]
fn what_an_earlier_pass_has_set_does_not_stay() {
    let (mutation, _) = parts(decision(None, Some("shadow/openai/s"), Some(Duration::from_secs(1))));
    assert_eq!(value(&mutation, MIRROR_HEADER).unwrap(), "shadow/openai/s");
    assert_eq!(value(&mutation, "x-envoy-upstream-rq-per-try-timeout-ms").unwrap(), "1000");
    assert_eq!(mutation.remove_headers, [contract::ASK_HEADER]);
    let (mutation, _) = parts(decision(None, None, None));
    for name in [MIRROR_HEADER, "x-envoy-upstream-rq-per-try-timeout-ms"] {
        assert_eq!(value(&mutation, name), None);
        assert!(mutation.remove_headers.iter().any(|removed| removed == name), "{name}");
    }
}

#[test]
fn where_clusters_are_fixed_each_step_has_a_header() {
    let (told, _) = going(decision(None, None, None), true);
    let steps: Vec<_> =
        told.set.iter().filter(|(name, _)| contract::STEP_HEADERS.contains(name)).cloned().collect();
    assert_eq!(
        steps,
        [
            (contract::STEP_HEADERS[0], "gpt/openai/a".to_owned()),
            (contract::STEP_HEADERS[1], REPLAN_CLUSTER.to_owned())
        ]
    );
    assert!(contract::STEP_HEADERS[2..].iter().all(|name| told.remove.contains(name)), "of a plan before");
    let (told, _) = going(decision(None, None, None), false);
    assert!(told.set.iter().all(|(name, _)| !contract::STEP_HEADERS.contains(name)));
}
