//! Aliases, ids, wildcards, default fallbacks, access.

use super::*;

fn wild(name: &str, model: &str, id: &str) -> Group {
    group(name, vec![change(deployment(id, name), |d| d.meta.model = model.into())])
}

fn wildcards() -> Snapshot {
    let mut s = snapshot(vec![
        wild("openai/*", "*", "any"),
        wild("openai/gpt-5*", "gpt-5*", "five"),
        wild("openai/gpt-5-exact", "gpt-5", "exact"),
        wild("claude-*", "anthropic-*", "claude"),
    ]);
    s.wildcards = ["openai/gpt-5*", "claude-*", "openai/*"].map(|name| Arc::clone(&s.groups[name])).to_vec();
    s
}

#[tokio::test]
async fn the_most_specific_wildcard_serves_and_the_star_becomes_the_model() {
    let world = World::new(wildcards());
    for (asked, id, model) in [
        ("openai/gpt-4o", "any", Some("gpt-4o")),
        ("openai/gpt-5-mini", "five", Some("gpt-5-mini")),
        ("openai/gpt-5-exact", "exact", None),
        ("claude-3", "claude", Some("anthropic-3")),
    ] {
        let decision = world.decide(&ask(MASTER_KEY_HASH, asked)).await.unwrap();
        assert_eq!(deployments(&decision)[0], id, "{asked}");
        let step = decision.walk.as_ref().map(|walk| walk.steps[0].model.clone());
        assert_eq!(step.flatten().as_deref(), model, "{asked}");
    }
    for pattern in ["openai/*", "openai/"] {
        assert_eq!(world.decide(&ask(MASTER_KEY_HASH, pattern)).await.unwrap_err().status, 404, "{pattern}");
    }
}

#[tokio::test]
async fn wildcard_grants_are_by_the_names_served() {
    let world = World::new(wildcards()).with_key("k", |k| k.settings.models = vec!["openai/*".into()]);
    assert!(world.decide(&ask("k", "openai/gpt-4o")).await.is_ok());
    assert_eq!(world.decide(&ask("k", "claude-3")).await.unwrap_err().status, 403);
}

#[tokio::test]
async fn a_wildcard_name_as_fallback_keeps_its_name() {
    let mut s = wildcards();
    s.fallbacks.insert("openai/gpt-5-exact".into(), vec!["openai/gpt-4o".into()]);
    s.num_retries = 0;
    let world = World::new(s);
    let decision = world.decide(&ask(MASTER_KEY_HASH, "openai/gpt-5-exact")).await.unwrap();
    assert_eq!(deployments(&decision), ["exact", "any"]);
    assert_eq!(decision.walk.unwrap().steps[1].model.as_deref(), Some("gpt-4o"));
    // On a later pass, the group's name alone would not tell.
    let mut retry = again(
        "openai/gpt-5-exact",
        &[
            ("exact", "openai/gpt-5-exact", ErrorClass::InternalServer),
            ("any", "openai/*", ErrorClass::RateLimit),
        ],
    );
    retry.wishes.num_retries = Some(1);
    let decision = world.decide(&retry).await.unwrap();
    assert_eq!(decision.walk.unwrap().steps[0].model.as_deref(), Some("gpt-4o"));
}

#[tokio::test]
async fn a_deployments_id_addresses_it_alone_and_needs_its_groups_right() {
    let world = World::new(two_groups())
        .with_key("gpt", |k| k.settings.models = vec!["gpt".into()])
        .with_key("claude", |k| k.settings.models = vec!["claude".into(), "a".into()]);
    let decision = world.decide(&ask(MASTER_KEY_HASH, "a")).await.unwrap();
    assert_eq!(
        deployments(&decision),
        ["a", "a", "a", "c", "c", "c"],
        "retries in place, fallbacks of its group"
    );
    assert_eq!(decision.group, "gpt");
    assert!(world.decide(&ask("gpt", "a")).await.is_ok());
    assert_eq!(
        world.decide(&ask("claude", "a")).await.unwrap_err().status,
        403,
        "an id is no name of a list"
    );
}

#[tokio::test]
async fn an_unknown_model_goes_to_the_first_default_fallback_that_the_key_may_use() {
    let mut s = two_groups();
    s.fallbacks.insert("*".into(), vec!["gpt".into(), "claude".into()]);
    let world = World::new(s)
        .with_key("star", |k| k.settings.models = vec!["cl*".into(), "unknown".into()])
        .with_key("other", |k| k.settings.models = vec!["unknown".into()]);
    assert_eq!(world.decide(&ask(MASTER_KEY_HASH, "unknown")).await.unwrap().group, "gpt");
    assert_eq!(world.decide(&ask("star", "unknown")).await.unwrap().group, "claude");
    assert_eq!(world.decide(&ask("other", "unknown")).await.unwrap_err().status, 404);
    let refusing = Wishes { disable_fallbacks: true, ..Wishes::default() };
    let refused = world.decide(&Ask { wishes: refusing, ..ask(MASTER_KEY_HASH, "unknown") }).await;
    assert_eq!(refused.unwrap_err().status, 404);
}

#[tokio::test]
async fn an_access_group_grants_its_deployments_and_no_others() {
    let beta = |id: &str| change(deployment(id, "gpt"), |d| d.access_groups = vec!["beta".into()]);
    let s = snapshot(vec![
        group("gpt", vec![beta("a"), beta("b"), deployment("c", "gpt")]),
        group("plain", vec![deployment("p", "plain")]),
    ]);
    let world = World::new(s).with_key("k", |k| k.settings.models = vec!["beta".into()]);
    for _ in 0..20 {
        let decision = world.decide(&ask("k", "gpt")).await.unwrap();
        assert!(!deployments(&decision).contains(&"c"));
    }
    assert_eq!(world.decide(&ask("k", "plain")).await.unwrap_err().status, 403);
}

/// Two accounts in one group, and a group to fall back to.
fn accounts() -> Snapshot {
    let mut s = two_groups();
    s.files_model = Some("gpt".into());
    s
}

#[tokio::test]
async fn what_is_stored_is_at_the_first_account_and_goes_nowhere_else() {
    let world = World::new(accounts());
    for endpoint in [Endpoint::Files, Endpoint::Batches] {
        for model in ["gpt", ""] {
            for _ in 0..20 {
                let asked = Ask { endpoint, ..ask(MASTER_KEY_HASH, model) };
                let decision = world.decide(&asked).await.unwrap();
                assert!(deployments(&decision).iter().all(|id| *id == "a"), "{:?}", deployments(&decision));
                assert_eq!((decision.group.as_str(), decision.mirror), ("gpt", None));
            }
        }
    }
    // Asked for by its id, another account has its own files.
    let asked = Ask { endpoint: Endpoint::Files, ..ask(MASTER_KEY_HASH, "c") };
    assert!(deployments(&world.decide(&asked).await.unwrap()).iter().all(|id| *id == "c"));
}

#[tokio::test]
async fn without_a_model_the_configuration_names_one_or_it_is_asked_for() {
    let world = World::new(accounts()).with_key("k", |k| k.settings.models = vec!["claude".into()]);
    let moderation = Ask { endpoint: Endpoint::Moderations, ..ask(MASTER_KEY_HASH, "") };
    let error = world.decide(&moderation).await.unwrap_err();
    assert_eq!((error.status, error.param.as_deref()), (400, Some("model")));
    assert!(error.message.contains("general_settings.moderation_model"), "{}", error.message);
    // The key's list holds for the default, too.
    let files = Ask { endpoint: Endpoint::Files, ..ask("k", "") };
    assert_eq!(world.decide(&files).await.unwrap_err().status, 403);
    let world = World::new(Snapshot { moderation_model: Some("claude".into()), ..accounts() });
    assert_eq!(world.decide(&moderation).await.unwrap().group, "claude");
}

#[tokio::test]
async fn a_session_is_not_planned_anew() {
    let world = World::new(accounts());
    let asked = Ask { endpoint: Endpoint::Realtime, ..ask(MASTER_KEY_HASH, "gpt") };
    let decision = world.decide(&asked).await.unwrap();
    assert!(!deployments(&decision).contains(&">"), "{:?}", deployments(&decision));
    assert!(decision.timeouts.total >= Duration::from_secs(3_600));
}
