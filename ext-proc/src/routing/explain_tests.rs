use std::sync::Arc;

use attache_llm::contract::MASTER_KEY_HASH;

use super::*;
use crate::routing::tests::{FakeCounters, World, ask, change, deployment, group, snapshot};
use crate::routing::{Group, Snapshot};

fn configured() -> Snapshot {
    let mut first = deployment("ex-1", "ex");
    (first.rpm, first.order) = (Some(2), Some(1));
    let mut second = deployment("ex-2", "ex");
    (second.rpm, second.order) = (Some(50), Some(2));
    let ranked = Group {
        strategy: Strategy::UsageBased,
        ..group("ex", vec![first, second, deployment("ex-3", "ex")])
    };
    let mut s = snapshot(vec![ranked, group("other", vec![deployment("o", "other")])]);
    s.fallbacks.insert("ex".into(), vec!["other".into()]);
    s
}

#[tokio::test]
async fn it_tells_who_serves_who_does_not_and_the_plan_and_charges_nothing() {
    let world = World::new(configured());
    world.open("ex-3", 40_000);
    for _ in 0..5 {
        let told = world.explain(&ask(MASTER_KEY_HASH, "ex")).await.unwrap();
        let plan: Vec<&str> = told.plan.iter().map(|step| step.deployment.as_str()).collect();
        assert_eq!(plan, ["ex-1", ""]);
        assert_eq!((told.strategy, told.generation, told.counters), ("usage-based-routing-v2", 3, true));
        let own = &told.groups[0].deployments;
        assert_eq!((own[0].rank, own[1].rank, own[2].rank), (Some(1), Some(2), None));
        let rpm = own[0].usage.iter().find(|gauge| gauge.what == "rpm").unwrap();
        assert_eq!((rpm.used, rpm.limit, rpm.enforced), (Some(0), Some(2), true));
        assert!(own[2].excluded.as_ref().unwrap().contains("cooling down"), "{own:?}");
        assert_eq!((own[2].breaker.state, own[2].breaker.seconds_left), ("open", Some(40)));
        assert_eq!(told.groups[1].group, "other");
    }
    assert!(world.fake.admitted.lock().is_empty(), "an explanation admits nothing");
}

#[tokio::test]
async fn it_follows_the_counters_and_tells_a_refusal() {
    let mut s = configured();
    s.fallbacks.clear();
    s.groups.insert(
        "ex".into(),
        Arc::new(Group {
            strategy: Strategy::UsageBased,
            ..group("ex", vec![change(deployment("ex-1", "ex"), |d| d.rpm = Some(1))])
        }),
    );
    let world = World::new(s);
    let _ = world.decide(&ask(MASTER_KEY_HASH, "ex")).await.unwrap().reservation.hand_over();
    let told = world.explain(&ask(MASTER_KEY_HASH, "ex")).await.unwrap();
    assert_eq!(told.refusal.as_ref().map(|refusal| refusal.status), Some(429));
    assert!(told.plan.is_empty());
    assert_eq!(told.groups[0].deployments[0].usage[0].used, Some(1));
    let text = told.to_string();
    assert!(text.contains("rpm 1/1") && text.contains("refused     429"), "{text}");
    assert_eq!(world.explain(&ask(MASTER_KEY_HASH, "nonsense")).await.unwrap_err().status, 404);
}

#[tokio::test]
async fn json_and_table_have_no_secret_and_every_name() {
    let world = World::new(configured());
    let told = world.explain(&ask(MASTER_KEY_HASH, "ex")).await.unwrap();
    let json = serde_json::to_string(&told).unwrap();
    for name in ["ex-1", "ex-2", "\"o\"", "usage-based-routing-v2"] {
        assert!(json.contains(name), "{name} in {json}");
    }
    let table = told.to_string();
    assert!(table.contains("  1. ex-1 (ex)") && table.contains("another plan"), "{table}");
    assert!(
        table.lines().any(|line| line.trim_start().starts_with("2 ") && line.contains("ex-2")),
        "{table}"
    );
}

#[tokio::test]
async fn counters_away_are_told() {
    let mut world = World::new(configured());
    world.fake = Arc::new(FakeCounters { away: true, ..FakeCounters::default() });
    let told = world.explain(&ask(MASTER_KEY_HASH, "ex")).await.unwrap();
    assert!(!told.counters && told.groups[0].deployments[0].usage[0].used.is_none());
    assert_eq!(told.plan[0].deployment, "ex-1");
}
