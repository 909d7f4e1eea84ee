//! Keys, access, candidates, order of groups, timeouts.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

#[tokio::test]
async fn the_plan_goes_round_the_group_then_to_the_fallback() {
    let world = World::new(two_groups());
    let decision = world.decide(&ask(MASTER_KEY_HASH, "gpt")).await.unwrap();
    let plan = deployments(&decision);
    assert_eq!(plan.len(), 6);
    assert_eq!(plan[0], plan[2], "three attempts go round two deployments");
    assert_ne!(plan[0], plan[1]);
    assert_eq!(plan[3..], ["c", "c", "c"]);
    assert_eq!(decision.group, "gpt");
    assert_eq!(decision.generation, 3);
    assert_eq!(decision.plan[3].cluster, "claude/openai/c");
    assert_eq!(decision.plan[3].group, "claude");
}

#[tokio::test]
async fn keys_are_refused_with_their_reason() {
    let world = World::new(two_groups())
        .with_key("blocked", |k| k.blocked = true)
        .with_key("expired", |k| k.expires_ms = Some(1_000))
        .with_key("fine", |k| k.expires_ms = Some(u64::MAX));
    for (key, status, kind) in [
        ("nobody", 401, "token_not_found_in_db"),
        ("blocked", 401, "auth_error"),
        ("expired", 401, "expired_key"),
    ] {
        let error = world.decide(&ask(key, "gpt")).await.unwrap_err();
        assert_eq!((error.status, &*error.kind), (status, kind), "{key}");
    }
    assert!(world.decide(&ask("fine", "gpt")).await.is_ok());
}

#[tokio::test]
async fn another_contract_is_refused_by_name() {
    let world = World::new(two_groups());
    let error =
        world.decide(&Ask { contract: VERSION + 1, ..ask(MASTER_KEY_HASH, "gpt") }).await.unwrap_err();
    assert_eq!(error.status, 503);
    assert!(error.internal.unwrap().contains("contract version 2"));
}

#[tokio::test]
async fn an_unknown_key_while_the_store_is_away_is_503_and_the_master_key_works() {
    let mut world = World::new(two_groups());
    world.keys.away = true;
    let error = world.decide(&ask("k", "gpt")).await.unwrap_err();
    assert_eq!(error.status, 503);
    assert!(!error.message.contains("gone"), "the client is not told what broke");
    assert!(world.decide(&ask(MASTER_KEY_HASH, "gpt")).await.is_ok());
}

#[tokio::test]
async fn a_denied_model_and_an_unknown_one_look_the_same_to_a_limited_key() {
    let world = World::new(two_groups()).with_key("k", |k| k.settings.models = vec!["claude".into()]);
    let denied = world.decide(&ask("k", "gpt")).await.unwrap_err();
    let unknown = world.decide(&ask("k", "nonsense")).await.unwrap_err();
    assert_eq!((denied.status, &*denied.kind), (403, "key_model_access_denied"));
    assert_eq!(denied.message.replace("gpt", "X"), unknown.message.replace("nonsense", "X"));
    assert_eq!(denied.status, unknown.status);
    let unknown = world.decide(&ask(MASTER_KEY_HASH, "nonsense")).await.unwrap_err();
    assert_eq!((unknown.status, unknown.code.as_deref()), (404, Some("model_not_found")));
}

#[tokio::test]
async fn a_fallback_that_the_key_may_not_use_is_left_out() {
    let world = World::new(two_groups()).with_key("k", |k| k.settings.models = vec!["gpt".into()]);
    let decision = world.decide(&ask("k", "gpt")).await.unwrap();
    assert!(!deployments(&decision).contains(&"c"));
}

#[tokio::test]
async fn an_alias_leads_to_its_group_and_may_be_what_the_list_names() {
    let mut s = two_groups();
    s.aliases.insert("smart".into(), "gpt".into());
    let world = World::new(s)
        .with_key("alias", |k| k.settings.models = vec!["smart".into()])
        .with_key("group", |k| k.settings.models = vec!["gpt".into()]);
    for key in ["alias", "group"] {
        assert_eq!(world.decide(&ask(key, "smart")).await.unwrap().group, "gpt");
    }
    assert_eq!(world.decide(&ask("alias", "gpt")).await.unwrap_err().status, 403);
}

#[tokio::test]
async fn named_fallbacks_come_before_the_default_ones_and_hops_are_bounded() {
    let mut s = snapshot(
        ["a", "b", "c", "d"].into_iter().map(|g| group(g, vec![deployment(&format!("{g}1"), g)])).collect(),
    );
    s.num_retries = 0;
    s.fallbacks = BTreeMap::from([
        ("a".into(), vec!["c".into(), "a".into()]),
        ("*".into(), vec!["b".into(), "c".into(), "missing".into(), "d".into()]),
    ]);
    let decision = World::new(s).decide(&ask(MASTER_KEY_HASH, "a")).await.unwrap();
    assert_eq!(deployments(&decision), ["a1", "c1", "b1", "d1"], "no group twice");
    let mut s = two_groups();
    s.max_fallbacks = 0;
    let decision = World::new(s).decide(&ask(MASTER_KEY_HASH, "gpt")).await.unwrap();
    assert!(!deployments(&decision).contains(&"c"));
}

#[tokio::test]
async fn a_group_that_cools_is_passed_over_and_all_cooling_is_a_429_with_the_true_wait() {
    let world = World::new(two_groups());
    world.open("a", 60_000);
    world.open("b", 30_000);
    let decision = world.decide(&ask(MASTER_KEY_HASH, "gpt")).await.unwrap();
    assert_eq!(deployments(&decision), ["c", "c", "c"]);
    world.open("c", 9_500);
    let error = world.decide(&ask(MASTER_KEY_HASH, "gpt")).await.unwrap_err();
    assert_eq!((error.status, &*error.kind), (429, "all_deployments_in_cooldown"));
    let wait = error.retry_after_s.unwrap();
    assert!((9..=10).contains(&wait), "{wait}");
    assert!(!error.message.contains("openai"), "no cluster or deployment is shown");
}

#[tokio::test]
async fn a_cooldown_of_a_fallback_that_the_key_may_not_use_does_not_set_the_wait() {
    let world = World::new(two_groups()).with_key("k", |k| k.settings.models = vec!["gpt".into()]);
    world.open("a", 60_000);
    world.open("b", 60_000);
    world.open("c", 2_000);
    assert!(world.decide(&ask("k", "gpt")).await.unwrap_err().retry_after_s.unwrap() >= 59);
}

#[tokio::test]
async fn a_cluster_that_envoy_has_not_acknowledged_is_never_named() {
    let mut world = World::new(two_groups());
    world.live.dead.insert("gpt/openai/a".into());
    let decision = world.decide(&ask(MASTER_KEY_HASH, "gpt")).await.unwrap();
    assert_eq!(deployments(&decision)[..3], ["b", "b", "b"]);
    world.live.dead.extend(["gpt/openai/b".to_owned(), "claude/openai/c".to_owned()]);
    let error = world.decide(&ask(MASTER_KEY_HASH, "gpt")).await.unwrap_err();
    assert_eq!((error.status, error.retry_after_s, error.retriable), (503, Some(1), true));
}

/// Envoy's clusters go live with the first look at them.
#[derive(Default)]
struct Joining(AtomicBool);

impl LiveClusters for Joining {
    fn view(&self) -> Arc<dyn LiveView> {
        let dead = match self.0.swap(true, Ordering::Relaxed) {
            true => HashSet::new(),
            false => ["gpt/openai/a", "gpt/openai/b", "claude/openai/c"].map(str::to_owned).into(),
        };
        Arc::new(Live { dead })
    }

    fn ready(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

#[tokio::test]
async fn an_envoy_that_joins_during_a_decision_does_not_make_the_fallback_its_first_choice() {
    let (world, joining) = (World::new(two_groups()), Joining::default());
    let counters = world.counters();
    let context = Context { live: &joining, ..world.context(&counters) };
    let asked = ask(MASTER_KEY_HASH, "gpt");
    assert_eq!(decide(&context, &asked).await.unwrap_err().status, 503, "as of its begin");
    assert_eq!(decide(&context, &asked).await.unwrap().plan[0].group, "gpt");
}

#[tokio::test]
async fn timeouts_follow_the_deployment_and_streams_have_their_own() {
    let mut s = snapshot(vec![group("gpt", vec![deployment("a", "gpt")])]);
    s.num_retries = 1;
    s.timeout = Duration::from_secs(100);
    s.stream_timeout = Some(Duration::from_secs(10));
    let world = World::new(s);
    let plain = world.decide(&ask(MASTER_KEY_HASH, "gpt")).await.unwrap().timeouts;
    assert_eq!(
        (plain.per_try, plain.total),
        (Some(Duration::from_secs(100)), Duration::from_secs(260)),
        "with a wait"
    );
    let stream = Ask { stream: true, ..ask(MASTER_KEY_HASH, "gpt") };
    let stream = world.decide(&stream).await.unwrap().timeouts;
    assert_eq!((stream.per_try, stream.total), (Some(Duration::from_secs(10)), Duration::from_secs(170)));

    let mut own = deployment("a", "gpt");
    own.timeout = Some(Duration::from_secs(7));
    own.stream_timeout = Some(Duration::from_secs(3));
    let world = World::new(snapshot(vec![group("gpt", vec![own])]));
    let plain = world.decide(&ask(MASTER_KEY_HASH, "gpt")).await.unwrap().timeouts;
    assert_eq!(plain.per_try, Some(Duration::from_secs(7)));
}

#[tokio::test]
async fn what_has_no_price_serves_nobody_where_only_priced_models_may_be_used() {
    let priced = |name: &str, group: &str| {
        change(deployment(name, group), |d| d.meta.price = Some(attache_llm::price::Price::per_token(1, 1)))
    };
    let snapshot = |block| {
        let groups = vec![
            group("free", vec![deployment("f", "free")]),
            group("gpt", vec![deployment("a", "gpt"), priced("b", "gpt")]),
        ];
        let mut snapshot = snapshot(groups);
        snapshot.block_unpriced = block;
        // Also where a fallback has a price: the model that was asked for has none.
        snapshot.fallbacks.insert("free".into(), vec!["gpt".into()]);
        snapshot.fallbacks.insert("gpt".into(), vec!["free".into()]);
        snapshot
    };
    let world = World::new(snapshot(true));
    let error = world.decide(&ask(MASTER_KEY_HASH, "free")).await.unwrap_err();
    assert_eq!((error.status, error.code.as_deref()), (400, Some("model_without_pricing")));
    let decision = world.decide(&ask(MASTER_KEY_HASH, "gpt")).await.unwrap();
    assert_eq!(deployments(&decision), ["b", "b", "b"], "neither the other one nor the fallback");
    let world = World::new(snapshot(false));
    assert!(world.decide(&ask(MASTER_KEY_HASH, "free")).await.is_ok());
}
