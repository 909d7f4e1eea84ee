//! Limits: the first step is admitted, what follows is free, and all full is told with the true wait.

use super::*;
use crate::entity::double::Entities;
use crate::keys::{KeyDirectory, hash};
use crate::limits::Rules;

fn limited(id: &str, group: &str, rpm: u64) -> Deployment {
    change(deployment(id, group), |d| d.rpm = Some(rpm))
}

fn usage(name: &str, deployments: Vec<Deployment>) -> Group {
    with_strategy(Strategy::UsageBased, name, deployments)
}

async fn first(world: &World, call: u32, model: &str) -> Result<String, attache_llm::error::ApiError> {
    let ask = Ask { call_id: format!("call-{call}"), ..ask(MASTER_KEY_HASH, model) };
    let decision = world.decide(&ask).await?;
    let first = decision.plan[0].deployment.clone();
    let _ = decision.reservation.hand_over();
    Ok(first)
}

#[tokio::test]
async fn exactly_rpm_requests_are_admitted_and_then_the_wait_is_that_of_the_minute() {
    let world =
        World::new(snapshot(vec![usage("gpt", vec![limited("a", "gpt", 3), limited("b", "gpt", 4)])]));
    let mut counts: HashMap<String, u32> = HashMap::new();
    for call in 0..7 {
        *counts.entry(first(&world, call, "gpt").await.unwrap()).or_default() += 1;
    }
    assert_eq!(counts, HashMap::from([("a".into(), 3), ("b".into(), 4)]));
    let error = first(&world, 8, "gpt").await.unwrap_err();
    assert_eq!((error.status, error.code.as_deref()), (429, Some("all_deployments_at_limit")));
    let left = 60 - now_ms() / 1_000 % 60;
    assert!(error.retry_after_s.unwrap().abs_diff(left) <= 1);
}

#[tokio::test]
async fn a_limited_plan_is_one_step_and_the_question_how_to_go_on() {
    let mut s = snapshot(vec![
        usage("gpt", vec![limited("a", "gpt", 3)]),
        group("claude", vec![deployment("c", "claude")]),
    ]);
    s.fallbacks.insert("gpt".into(), vec!["claude".into()]);
    let world = World::new(s);
    let decision = world.decide(&ask(MASTER_KEY_HASH, "gpt")).await.unwrap();
    assert_eq!(deployments(&decision), ["a", ">"]);
    let walk = decision.walk.as_ref().unwrap();
    assert_eq!(walk.steps.len(), 2);
    assert_eq!(walk.per_try_ms, 600_000);
    assert_eq!(decision.plan[1].cluster, attache_llm::contract::REPLAN_CLUSTER);
    let admission = world.fake.admitted.lock()[0].clone();
    assert!(admission.lease > decision.timeouts.total);
    assert_eq!(admission.candidates.len(), 2, "the fallback is where it goes when the group is full");
}

#[tokio::test]
async fn full_groups_lead_to_the_fallback_in_the_same_question() {
    let mut s = snapshot(vec![
        usage("gpt", vec![limited("a", "gpt", 1)]),
        group("claude", vec![deployment("c", "claude")]),
    ]);
    s.fallbacks.insert("gpt".into(), vec!["claude".into()]);
    let world = World::new(s);
    assert_eq!(first(&world, 0, "gpt").await.unwrap(), "a");
    for call in 1..4 {
        assert_eq!(first(&world, call, "gpt").await.unwrap(), "c");
    }
    assert_eq!(world.fake.admitted.lock().len(), 4, "one call per request");
}

#[tokio::test]
async fn the_lowest_use_wins_and_equal_ones_are_drawn() {
    let world =
        World::new(snapshot(vec![usage("gpt", vec![deployment("a", "gpt"), deployment("b", "gpt")])]));
    let mut counts: HashMap<String, u32> = HashMap::new();
    for call in 0..20 {
        *counts.entry(first(&world, call, "gpt").await.unwrap()).or_default() += 1;
    }
    assert_eq!(counts, HashMap::from([("a".into(), 10), ("b".into(), 10)]));
    let mut firsts = HashSet::new();
    for _ in 0..30 {
        let world =
            World::new(snapshot(vec![usage("gpt", vec![deployment("a", "gpt"), deployment("b", "gpt")])]));
        firsts.insert(first(&world, 0, "gpt").await.unwrap());
    }
    assert_eq!(firsts.len(), 2);
}

#[tokio::test]
async fn places_in_flight_are_limited_whatever_the_strategy_and_come_back() {
    let places = change(deployment("a", "gpt"), |d| d.max_parallel = Some(2));
    let world = World::new(snapshot(vec![group("gpt", vec![places])]));
    let one = Ask { call_id: "one".into(), ..ask(MASTER_KEY_HASH, "gpt") };
    let id = world.decide(&one).await.unwrap().reservation.hand_over();
    assert!(first(&world, 1, "gpt").await.is_ok());
    let error = first(&world, 2, "gpt").await.unwrap_err();
    assert_eq!((error.status, error.retry_after_s), (429, Some(1)));
    let record = UsageRecord { call_id: "one".into(), ..record(Some(id), vec![]) };
    assert_eq!(world.settle(&record).await, Settled::Done);
    assert!(first(&world, 3, "gpt").await.is_ok());
}

#[tokio::test]
async fn money_is_a_limit_of_deployments_and_providers() {
    use attache_llm::price::Price;
    let budget = Budget { limit: 1_000_000, period: Duration::from_secs(86_400) };
    let priced = change(deployment("a", "gpt"), |d| {
        d.meta.price = Some(Price::per_token(10_000_000_000, 10_000_000_000));
        d.budget = Some(budget);
    });
    // 100 tokens are estimated at 10,000 nano-dollars each: one request fills the day.
    let world = World::new(snapshot(vec![group("gpt", vec![priced])]));
    assert!(first(&world, 0, "gpt").await.is_ok());
    let error = first(&world, 1, "gpt").await.unwrap_err();
    assert_eq!((error.status, error.code.as_deref()), (429, Some("budget_exhausted")));
    assert!(error.retry_after_s.unwrap() <= 86_400);

    let mut s = snapshot(vec![group("gpt", vec![deployment("a", "gpt")])]);
    s.provider_budgets.insert("openai".into(), Budget { limit: 0, ..budget });
    let world = World::new(s);
    // Without a price nothing is spent, so that there is room for nothing.
    assert!(first(&world, 0, "gpt").await.is_ok());
    let names: Vec<String> = world.fake.admitted.lock()[0].candidates[0]
        .charges
        .iter()
        .map(|c| c.counter.base.to_string())
        .collect();
    assert_eq!(names, ["provider:openai:budget"]);
}

#[tokio::test]
async fn nothing_to_count_is_no_call() {
    let world = World::new(two_groups());
    world.decide(&ask(MASTER_KEY_HASH, "gpt")).await.unwrap();
    assert!(world.fake.admitted.lock().is_empty());
    let mut s = two_groups();
    s.enforce_limits = true;
    let world = World::new(s);
    world.decide(&ask(MASTER_KEY_HASH, "gpt")).await.unwrap();
    assert!(world.fake.admitted.lock().is_empty(), "there are no limits to enforce");
}

#[tokio::test]
async fn counters_away_still_decide() {
    let mut world = World::new(snapshot(vec![usage("gpt", vec![limited("a", "gpt", 1)])]));
    world.fake = Arc::new(FakeCounters { away: true, ..FakeCounters::default() });
    for _ in 0..3 {
        let decision = world.decide(&ask(MASTER_KEY_HASH, "gpt")).await.unwrap();
        assert_eq!(decision.reservation.hand_over(), "", "nothing to settle");
    }
}

#[tokio::test]
async fn one_request_probes_a_half_open_deployment_and_the_others_go_elsewhere() {
    let weighted = |id: &str, weight| change(deployment(id, "gpt"), |d| d.weight = Some(weight));
    let world = World::new(snapshot(vec![group("gpt", vec![weighted("a", 1), weighted("b", 0)])]));
    world.open("a", -1);
    let probing = Ask { call_id: "probing".into(), ..ask(MASTER_KEY_HASH, "gpt") };
    let decision = world.decide(&probing).await.unwrap();
    assert_eq!(deployments(&decision), ["a", "b", "b"], "a retry is not for the one on probation");
    assert!(decision.walk.as_ref().unwrap().probe);
    let _ = decision.reservation.hand_over();
    for call in 0..5 {
        assert_eq!(first(&world, call, "gpt").await.unwrap(), "b");
    }
}

#[tokio::test]
async fn a_lone_deployment_on_probation_lets_one_request_through() {
    let world = World::new(snapshot(vec![group("gpt", vec![deployment("a", "gpt")])]));
    world.open("a", -1);
    assert!(first(&world, 0, "gpt").await.is_ok());
    let error = first(&world, 1, "gpt").await.unwrap_err();
    assert_eq!(
        (error.status, &*error.kind, error.retry_after_s),
        (429, "all_deployments_in_cooldown", Some(1))
    );
}

#[tokio::test]
async fn an_ordered_group_keeps_its_order_beside_a_ranked_one() {
    let mut s = snapshot(vec![
        usage("gpt", vec![limited("a", "gpt", 1)]),
        group(
            "claude",
            (0..4)
                .map(|n| {
                    change(deployment(&format!("c{n}"), "claude"), |d| {
                        d.max_parallel = Some(9);
                        d.weight = Some(u64::from(n == 2));
                    })
                })
                .collect(),
        ),
    ]);
    s.fallbacks.insert("gpt".into(), vec!["claude".into()]);
    let world = World::new(s);
    assert_eq!(first(&world, 0, "gpt").await.unwrap(), "a");
    for call in 1..6 {
        assert_eq!(first(&world, call, "gpt").await.unwrap(), "c2", "weight decides, not who is least used");
    }
}

#[tokio::test]
async fn the_budget_for_end_users_limits_each_of_them_on_its_own() {
    let store = Arc::new(Entities::default());
    let key = store.put(Entity::new(EntityKind::Key, hash("sk-of-a-service"))).id;
    let mut budget = Entity::new(EntityKind::Budget, "free");
    budget.settings.max_parallel_requests = Some(1);
    store.put(budget);
    let rules = Rules { end_user_budget_id: Some("free".into()), ..Rules::default() };
    let world = World::new(Snapshot { limits: Arc::new(rules), ..two_groups() });
    let keys = KeyDirectory::new(store, None);
    let counters = world.counters();
    let context = Context { keys: &*keys, ..world.context(&counters) };
    let request = async |call: &str, user: Option<&str>| {
        let ask = Ask { call_id: call.into(), user: user.map(str::to_owned), ..ask(&key, "gpt") };
        let decision = decide(&context, &ask).await?;
        let _ = decision.reservation.hand_over();
        Ok::<_, attache_llm::error::ApiError>(())
    };
    request("1", Some("ann")).await.unwrap();
    let refused = request("2", Some("ann")).await.unwrap_err();
    assert_eq!(refused.status, 429);
    assert!(refused.message.contains("ann"), "{}", refused.message);
    request("3", Some("bob")).await.unwrap();
    request("4", None).await.unwrap();
}
