//! Who may serve a request at all: tags, sizes, regions, tiers, probes, sessions.

use super::*;

fn tagged(id: &str, tags: &[&str]) -> Deployment {
    change(deployment(id, "gpt"), |d| d.tags = tags.iter().map(|t| (*t).to_owned()).collect())
}

fn tag_world(deployments: Vec<Deployment>, match_all: bool) -> World {
    let mut s = snapshot(vec![group("gpt", deployments)]);
    s.tags = TagRules { enabled: true, match_all };
    s.num_retries = 5;
    World::new(s)
}

async fn serving(world: &World, tags: &[&str]) -> Result<Vec<String>, u16> {
    let wishes = Wishes { tags: tags.iter().map(|t| (*t).to_owned()).collect(), ..Wishes::default() };
    let decision =
        world.decide(&Ask { wishes, ..ask(MASTER_KEY_HASH, "gpt") }).await.map_err(|e| e.status)?;
    let mut ids: Vec<String> = deployments(&decision).into_iter().map(str::to_owned).collect();
    ids.sort();
    ids.dedup();
    Ok(ids)
}

#[tokio::test]
async fn tags_choose_and_the_default_serves_the_rest() {
    let all =
        || vec![tagged("free", &["free", "cheap"]), tagged("paid", &["paid"]), tagged("rest", &["default"])];
    let world = tag_world(all(), false);
    assert_eq!(serving(&world, &["free"]).await.unwrap(), ["free"]);
    assert_eq!(serving(&world, &["paid", "free"]).await.unwrap(), ["free", "paid"]);
    assert_eq!(serving(&world, &["unheard-of"]).await.unwrap(), ["rest"]);
    assert_eq!(serving(&world, &[]).await.unwrap(), ["rest"]);
    let strict = tag_world(all(), true);
    assert_eq!(serving(&strict, &["free", "cheap"]).await.unwrap(), ["free"]);
    assert_eq!(serving(&strict, &["paid", "free"]).await.unwrap(), ["rest"]);
}

#[tokio::test]
async fn without_a_default_untagged_requests_go_to_the_untagged_and_strangers_nowhere() {
    let world = tag_world(vec![tagged("free", &["free"]), tagged("none", &[])], false);
    assert_eq!(serving(&world, &[]).await.unwrap(), ["none"]);
    assert_eq!(serving(&world, &["gold"]).await, Err(401));
    let world = tag_world(vec![tagged("free", &["free"])], false);
    assert_eq!(serving(&world, &[]).await, Err(401));
    // Tags choose among what is configured: a request does not end elsewhere because its own are down.
    let mut world = tag_world(vec![tagged("free", &["free"]), tagged("rest", &["default"])], false);
    world.live.dead.insert("gpt/openai/free".into());
    assert!(serving(&world, &["free"]).await.is_err());
}

fn sized() -> Snapshot {
    let limited =
        |id: &str, group: &str, limit| change(deployment(id, group), |d| d.max_input_tokens = Some(limit));
    let mut s = snapshot(vec![
        group("gpt", vec![limited("small", "gpt", 100), limited("large", "gpt", 10_000)]),
        group("long", vec![deployment("l", "long")]),
    ]);
    s.pre_call_checks = true;
    s
}

#[tokio::test]
async fn a_long_prompt_goes_where_it_fits_or_is_refused_without_a_call() {
    let long = |tokens| Ask { input_tokens: tokens, ..ask(MASTER_KEY_HASH, "gpt") };
    let world = World::new(sized());
    assert_eq!(deployments(&world.decide(&long(5_000)).await.unwrap()), ["large"; 3]);
    let error = world.decide(&long(50_000)).await.unwrap_err();
    assert_eq!((error.status, error.code.as_deref()), (400, Some("context_length_exceeded")));
    assert!(error.message.contains("10000"), "{}", error.message);

    let mut s = sized();
    s.context_window_fallbacks = Some([("gpt".to_owned(), vec!["long".to_owned()])].into());
    assert_eq!(deployments(&World::new(s).decide(&long(50_000)).await.unwrap())[0], "l");
    // A list that says nothing of the group: the error. One that is not there: the general way.
    let mut s = sized();
    s.fallbacks.insert("gpt".into(), vec!["long".into()]);
    s.context_window_fallbacks = Some([("x".to_owned(), vec!["long".to_owned()])].into());
    assert_eq!(World::new(s).decide(&long(50_000)).await.unwrap_err().status, 400);
    let mut s = sized();
    s.fallbacks.insert("gpt".into(), vec!["long".into()]);
    assert_eq!(deployments(&World::new(s).decide(&long(50_000)).await.unwrap())[0], "l");
    let mut s = sized();
    s.pre_call_checks = false;
    assert!(World::new(s).decide(&long(50_000)).await.is_ok(), "not checked");
}

#[tokio::test]
async fn a_region_is_kept() {
    let region = |id: &str, region: &str| change(deployment(id, "gpt"), |d| d.region = Some(region.into()));
    let world = World::new(snapshot(vec![group(
        "gpt",
        vec![region("eu", "eu"), region("us", "us"), deployment("x", "gpt")],
    )]));
    let from = |region: &str| {
        let wishes = Wishes { region: Some(region.into()), ..Wishes::default() };
        Ask { wishes, ..ask(MASTER_KEY_HASH, "gpt") }
    };
    assert_eq!(deployments(&world.decide(&from("eu")).await.unwrap()), ["eu"; 3]);
    assert_eq!(world.decide(&from("mars")).await.unwrap_err().status, 400);
}

#[tokio::test]
async fn tiers_are_gone_through_in_order_each_with_its_own_retries() {
    let tier = |id: &str, order| change(deployment(id, "gpt"), |d| d.order = order);
    let mut s = snapshot(vec![
        group("gpt", vec![tier("last", None), tier("2", Some(2)), tier("1a", Some(1)), tier("1b", Some(1))]),
        group("claude", vec![deployment("c", "claude")]),
    ]);
    s.fallbacks.insert("gpt".into(), vec!["claude".into()]);
    s.num_retries = 1;
    let decision = World::new(s).decide(&ask(MASTER_KEY_HASH, "gpt")).await.unwrap();
    let plan = deployments(&decision);
    let mut first = plan[..2].to_vec();
    first.sort_unstable();
    assert_eq!(first, ["1a", "1b"]);
    assert_eq!(plan[2..], ["2", "2", "last", "last", "c", "c"]);
}

#[tokio::test]
async fn a_failed_health_probe_excludes_where_the_operator_says_so() {
    let health = Health { healthy: false, checked_ms: 1, detail: "status 500".into() };
    let world = World::new(two_groups());
    world.probes.set("a", health.clone());
    let plans = async |world: &World| {
        deployments(&world.decide(&ask(MASTER_KEY_HASH, "gpt")).await.unwrap()).contains(&"a")
    };
    assert!(plans(&world).await);
    let mut s = two_groups();
    s.pre_call_health_checks = true;
    let world = World::new(s);
    world.probes.set("a", health);
    assert!(!plans(&world).await);
}

#[tokio::test]
async fn a_session_stays_and_moves_on_only_when_it_must() {
    let ids = ["a", "b", "c", "d"];
    let mut s = snapshot(vec![group("gpt", ids.iter().map(|id| deployment(id, "gpt")).collect())]);
    s.affinity = Some(Affinity::Session);
    let world = World::new(s);
    let of = |session: String| Ask {
        wishes: Wishes { session: Some(session), ..Wishes::default() },
        ..ask(MASTER_KEY_HASH, "gpt")
    };
    let mut seen = HashSet::new();
    for session in 0..40 {
        let session = of(format!("s{session}"));
        let first = world.decide(&session).await.unwrap().plan;
        for _ in 0..3 {
            assert_eq!(world.decide(&session).await.unwrap().plan, first);
        }
        seen.insert(first[0].deployment.clone());
        // Its deployment is away: the next one in its own order, and all others stay where they are.
        world.open(&first[0].deployment, 60_000);
        assert_eq!(world.decide(&session).await.unwrap().plan[0], first[1]);
        world.breakers.apply(&[Transition::Closed(first[0].deployment.clone())]);
    }
    assert_eq!(seen.len(), 4);
    let mut firsts = HashSet::new();
    for _ in 0..60 {
        firsts.insert(world.decide(&ask(MASTER_KEY_HASH, "gpt")).await.unwrap().plan[0].deployment.clone());
    }
    assert_eq!(firsts.len(), 4, "without a session, all serve");
}

#[tokio::test]
async fn the_mirror_is_a_live_deployment_of_its_group_and_only_on_the_first_pass() {
    let shadowed = change(deployment("a", "gpt"), |d| d.mirror = Some("shadow".into()));
    let mut world = World::new(snapshot(vec![
        group("gpt", vec![shadowed]),
        group("shadow", vec![deployment("s", "shadow"), deployment("dead", "shadow")]),
    ]));
    world.live.dead.insert("shadow/openai/dead".into());
    let mirror = async |ask: &Ask| world.decide(ask).await.unwrap().mirror;
    assert_eq!(mirror(&ask(MASTER_KEY_HASH, "gpt")).await.as_deref(), Some("shadow/openai/s"));
    assert_eq!(mirror(&again("gpt", &[("a", "gpt", ErrorClass::InternalServer)])).await, None);
}
