//! Classes of error: marks of the walk, retry budgets, and later passes.

use super::*;

use ErrorClass::*;

fn lists() -> Snapshot {
    let groups = ["small", "general", "big", "bigger", "other"];
    let mut s =
        snapshot(groups.into_iter().map(|g| group(g, vec![deployment(&format!("{g}1"), g)])).collect());
    s.num_retries = 0;
    s.fallbacks.insert("small".into(), vec!["general".into()]);
    s.context_window_fallbacks =
        Some([("small".into(), vec!["big".into()]), ("big".into(), vec!["bigger".into()])].into());
    s
}

#[tokio::test]
async fn a_class_with_a_list_of_its_own_asks_for_another_plan() {
    let world = World::new(lists());
    let decision = world.decide(&ask(MASTER_KEY_HASH, "small")).await.unwrap();
    assert_eq!(deployments(&decision), ["small1", "general1"]);
    assert_eq!(after(&decision, 0, ContextWindow), After::Replan);
    // Content policies have no list, so that the general one serves them.
    assert_eq!(after(&decision, 0, ContentPolicy), After::Replan);
    assert_eq!(after(&decision, 0, InternalServer), After::Next);
    assert_eq!(after(&decision, 0, BadRequest), After::Stop);

    let second = world.decide(&again("small", &[("small1", "small", ContextWindow)])).await.unwrap();
    assert_eq!(deployments(&second), ["big1", "bigger1"]);
    assert_eq!(second.group, "small", "the answer is told from the group asked for");
    let third = again("small", &[("small1", "small", ContextWindow), ("big1", "big", ContextWindow)]);
    let third = world.decide(&third).await.unwrap();
    assert_eq!(deployments(&third), ["bigger1"]);
    assert_eq!(after(&third, 0, ContextWindow), After::Stop, "the end of the list");
    let policy = world.decide(&again("small", &[("small1", "small", ContentPolicy)])).await.unwrap();
    assert_eq!(deployments(&policy), ["general1"]);
}

#[tokio::test]
async fn the_list_is_that_of_the_failing_group_else_that_of_the_group_asked_for() {
    let world = World::new(lists());
    let tried = [("small1", "small", InternalServer), ("general1", "general", ContextWindow)];
    assert_eq!(deployments(&world.decide(&again("small", &tried)).await.unwrap())[0], "big1");
    let alone = world.decide(&ask(MASTER_KEY_HASH, "other")).await.unwrap();
    assert_eq!(after(&alone, 0, ContextWindow), After::Stop);
    assert!(alone.walk.is_none(), "a plain plan");
}

#[tokio::test]
async fn the_requests_own_list_stands_in_for_all_and_none_is_none() {
    let world = World::new(lists());
    let own = |wishes| Ask { wishes, ..ask(MASTER_KEY_HASH, "small") };
    let wishes = Wishes {
        fallbacks: Some(vec!["other".into(), "nonsense".into(), "bigger".into()]),
        ..Wishes::default()
    };
    let decision = world.decide(&own(wishes.clone())).await.unwrap();
    assert_eq!(deployments(&decision), ["small1", "other1", "bigger1"]);
    assert_eq!(after(&decision, 0, ContextWindow), After::Replan);
    let second = Ask { wishes, ..again("small", &[("small1", "small", ContextWindow)]) };
    assert_eq!(deployments(&world.decide(&second).await.unwrap()), ["other1", "bigger1"]);
    let none = Wishes { disable_fallbacks: true, ..Wishes::default() };
    let decision = world.decide(&own(none)).await.unwrap();
    assert_eq!(deployments(&decision), ["small1"]);
    assert_eq!(after(&decision, 0, ContextWindow), After::Stop);
}

#[tokio::test]
async fn a_key_is_not_carried_to_a_model_it_may_not_use_on_any_pass() {
    let world =
        World::new(lists()).with_key("k", |k| k.settings.models = vec!["small".into(), "bigger".into()]);
    let decision = world.decide(&ask("k", "small")).await.unwrap();
    assert_eq!(deployments(&decision), ["small1"]);
    assert_eq!(after(&decision, 0, ContextWindow), After::Stop, "what would follow a denied group is denied");
    let second = Ask { key: "k".into(), ..again("small", &[("small1", "small", ContextWindow)]) };
    assert_eq!(world.decide(&second).await.unwrap_err().status, 503);
}

fn policy(name: &str, deployments: Vec<Deployment>, fallback: bool) -> Snapshot {
    let mut s = snapshot(vec![group(name, deployments), group("ok", vec![deployment("ok1", "ok")])]);
    if fallback {
        s.fallbacks.insert(name.into(), vec!["ok".into()]);
    }
    let classes = [(RateLimit, 0), (InternalServer, 3), (BadRequest, 1), (Authentication, 0)];
    s.group_retry_policy
        .insert(name.into(), RetryPolicy { classes: classes.into_iter().collect(), default: Some(2) });
    s
}

/// What Envoy and the adapter make of a plan when every attempt fails so: the deployments tried, over all passes.
async fn tried(world: &World, model: &str, class: ErrorClass, silent: bool) -> Vec<String> {
    let mut names = Vec::new();
    let mut asked = ask(MASTER_KEY_HASH, model);
    for pass in 0..attache_llm::contract::MAX_PASSES {
        let Ok(decision) = world.decide(&asked).await else { break };
        let mut replan = false;
        for (index, step) in decision.plan.iter().enumerate() {
            if step.deployment.is_empty() {
                replan = true;
                break;
            }
            names.push(step.deployment.clone());
            let failed =
                Tried { deployment: step.deployment.clone(), group: step.group.clone(), class, pass };
            asked
                .replan
                .get_or_insert_with(|| Replan { pass: 0, reservation: None, owner: None, tried: vec![] })
                .tried
                .push(failed);
            if silent {
                continue;
            }
            match after(&decision, index, class) {
                After::Next => {}
                After::Replan => replan = true,
                After::Stop => return names,
            }
            if replan {
                break;
            }
        }
        if !replan {
            break;
        }
        asked.replan.as_mut().unwrap().pass = pass + 1;
    }
    names
}

#[tokio::test]
async fn each_class_is_retried_as_often_as_its_policy_says() {
    let weighted = |id: &str, weight| change(deployment(id, "p"), |d| d.weight = Some(weight));
    let pair = || vec![weighted("a", 1), weighted("b", 0)];
    for fallback in [false, true] {
        let world = World::new(policy("p", pair(), fallback));
        for (class, retries, goes_on) in [
            (RateLimit, 0, true),
            (Authentication, 0, true),
            (NotFound, 2, true),
            (Timeout, 2, true),
            (ServiceUnavailable, 2, true),
            (InternalServer, 3, true),
            (BadRequest, 1, false),
            (ContentPolicy, 0, true),
        ] {
            let names = tried(&world, "p", class, false).await;
            let mut want = ["a", "b", "a", "b"][..=retries].to_vec();
            if fallback && goes_on {
                // The policy is the group's; the fallback has the router's number.
                let own = if class == ContentPolicy { 1 } else { 3 };
                want.extend(std::iter::repeat_n("ok1", own));
            }
            assert_eq!(names, want, "{class:?} {fallback}");
        }
    }
}

#[tokio::test]
async fn silent_failures_walk_the_plan_itself() {
    let mut s = policy("p", vec![deployment("a", "p")], true);
    s.num_retries = 0;
    s.group_retry_policy.get_mut("p").unwrap().classes.insert(Timeout, 0);
    let world = World::new(s);
    let decision = world.decide(&ask(MASTER_KEY_HASH, "p")).await.unwrap();
    assert_eq!(deployments(&decision), ["a", ">"], "only the class tells whether it is retried");
    assert_eq!(tried(&world, "p", Timeout, true).await, ["a", "ok1"]);
    assert_eq!(tried(&world, "p", ServiceUnavailable, true).await, ["a", "a", "a", "ok1"]);
}

#[tokio::test]
async fn an_overloaded_lone_deployment_is_not_waited_for_where_there_is_a_fallback() {
    let mut s =
        snapshot(vec![group("p", vec![deployment("a", "p")]), group("ok", vec![deployment("ok1", "ok")])]);
    s.num_retries = 1;
    let lone = World::new(snapshot(vec![group("p", vec![deployment("a", "p")])]));
    let decision = lone.decide(&ask(MASTER_KEY_HASH, "p")).await.unwrap();
    assert_eq!(after(&decision, 0, RateLimit), After::Next);
    assert!(decision.walk.is_some(), "the adapter must see that the same deployment comes next");
    s.fallbacks.insert("p".into(), vec!["ok".into()]);
    let world = World::new(s);
    assert_eq!(tried(&world, "p", RateLimit, false).await, ["a", "ok1", "ok1"]);
    assert_eq!(tried(&world, "p", InternalServer, false).await, ["a", "a", "ok1", "ok1"]);
}

#[tokio::test]
async fn a_limited_group_goes_on_pass_by_pass_the_failed_ones_last() {
    let limited = |id: &str| change(deployment(id, "p"), |d| d.rpm = Some(100));
    let mut s = snapshot(vec![
        with_strategy(Strategy::UsageBased, "p", ["a", "b", "c"].map(limited).into()),
        group("ok", vec![deployment("ok1", "ok")]),
    ]);
    s.fallbacks.insert("p".into(), vec!["ok".into()]);
    s.num_retries = 2;
    let world = World::new(s);
    let names = tried(&world, "p", InternalServer, false).await;
    let mut own = names[..3].to_vec();
    own.sort();
    assert_eq!(own, ["a", "b", "c"], "each once before any twice");
    assert_eq!(names[3..], ["ok1", "ok1", "ok1"]);
    assert_eq!(tried(&world, "p", RateLimit, true).await.len(), 6);
}

#[tokio::test]
async fn hops_count_over_all_passes() {
    let names = ["a", "b", "c", "d", "e"];
    let mut s =
        snapshot(names.into_iter().map(|g| group(g, vec![deployment(&format!("{g}1"), g)])).collect());
    (s.num_retries, s.max_fallbacks) = (0, 3);
    for pair in names.windows(2) {
        s.fallbacks.insert(pair[0].into(), vec![pair[1].into()]);
    }
    let world = World::new(s);
    for class in [ContextWindow, InternalServer] {
        assert_eq!(tried(&world, "a", class, false).await, ["a1", "b1", "c1", "d1"], "{class:?}");
    }
}

#[tokio::test]
async fn passes_end() {
    let limited = change(deployment("a", "p"), |d| d.max_parallel = Some(100));
    let mut s = snapshot(vec![group("p", vec![limited])]);
    s.num_retries = 30;
    let world = World::new(s);
    assert_eq!(
        tried(&world, "p", InternalServer, false).await.len(),
        attache_llm::contract::MAX_PASSES as usize
    );
    let mut over = again("p", &[("a", "p", InternalServer)]);
    over.replan.as_mut().unwrap().pass = attache_llm::contract::MAX_PASSES;
    assert_eq!(world.decide(&over).await.unwrap_err().status, 503);
}

#[tokio::test]
async fn the_pass_before_is_settled_with_what_it_tried() {
    let limited = change(deployment("a", "p"), |d| (d.rpm, d.max_parallel) = (Some(9), Some(9)));
    let world = World::new(snapshot(vec![with_strategy(Strategy::UsageBased, "p", vec![limited])]));
    let id = world.decide(&ask(MASTER_KEY_HASH, "p")).await.unwrap().reservation.hand_over();
    let mut second = again("p", &[("a", "p", ServiceUnavailable)]);
    second.replan.as_mut().unwrap().reservation = Some(id.clone());
    let next = world.decide(&second).await.unwrap().reservation.hand_over();
    assert_ne!(id, next);
    tokio::time::sleep(Duration::from_millis(20)).await;
    let settled = world.fake.settled.lock()[0].clone();
    assert_eq!(settled.id, id);
    let actual: Vec<_> = settled.actual.iter().map(|c| (c.counter.base.to_string(), c.amount)).collect();
    assert_eq!(actual, [("dep:a:tpm".to_owned(), 0), ("dep:a:rpm".to_owned(), 1)], "the place is given back");
}

#[tokio::test]
async fn another_limit_of_an_attempt_needs_another_pass() {
    let slow = change(deployment("s", "slow"), |d| d.stream_timeout = Some(Duration::from_secs(1)));
    let mut s = snapshot(vec![group("slow", vec![slow]), group("ok", vec![deployment("ok1", "ok")])]);
    s.fallbacks.insert("slow".into(), vec!["ok".into()]);
    s.num_retries = 0;
    let world = World::new(s);
    let stream = |wishes| Ask { stream: true, wishes, ..ask(MASTER_KEY_HASH, "slow") };
    let decision = world.decide(&stream(Wishes::default())).await.unwrap();
    assert_eq!(deployments(&decision), ["s", ">"]);
    assert_eq!(decision.walk.as_ref().unwrap().per_try_ms, 1_000);
    // The request's own limit is the same for all.
    let own = Wishes { stream_timeout_ms: Some(200), ..Wishes::default() };
    let decision = world.decide(&stream(own)).await.unwrap();
    assert_eq!(deployments(&decision), ["s", "ok1"]);
    assert_eq!(decision.timeouts.per_try, Some(Duration::from_millis(200)));
    let whole = Wishes { timeout_ms: Some(400), num_retries: Some(1), ..Wishes::default() };
    let timeouts = world.decide(&Ask { wishes: whole, ..ask(MASTER_KEY_HASH, "ok") }).await.unwrap().timeouts;
    assert_eq!(timeouts.per_try, Some(Duration::from_millis(400)));
    assert!(timeouts.total >= Duration::from_millis(800));
}

#[tokio::test]
async fn the_last_silent_timeout_is_a_504() {
    let mut s = snapshot(vec![group("p", vec![deployment("a", "p")])]);
    s.num_retries = 0;
    let world = World::new(s);
    assert_eq!(world.decide(&again("p", &[("a", "p", Timeout)])).await.unwrap_err().status, 504);
    assert_eq!(world.decide(&again("p", &[("a", "p", ServiceUnavailable)])).await.unwrap_err().status, 503);
}
