//! Everyone behind a key.

use super::*;

#[tokio::test]
async fn a_caller_has_the_roles_of_its_owner() {
    let (store, keys) = directory(Limits::default());
    let owner = Entity { user_id: Some("u".to_owned()), team_id: Some("t".to_owned()), ..key_entity(PLAIN) };
    store.put(owner);
    let with_role = |kind, id: &str, role: &str| {
        let mut entity = Entity::new(kind, id);
        entity.settings.role = Some(role.to_owned());
        store.put(entity);
    };
    with_role(EntityKind::User, "u", "internal_user");
    with_role(EntityKind::Member, &member_id("t", "u"), "admin");
    with_role(EntityKind::Member, &member_id("other", "u"), "user");
    let caller = keys.authenticate(&headers(&[("x-api-key", PLAIN)])).await.unwrap();
    assert_eq!((caller.user_id(), caller.team_id()), (Some("u"), Some("t")));
    assert_eq!(caller.role(), Some("internal_user"));
    assert_eq!((caller.team_role("t"), caller.team_role("other")), (Some("admin"), None));
    assert_eq!(keys.team_role(&caller, "other").await.unwrap().as_deref(), Some("user"));
    assert_eq!(keys.team_role(&caller, "nowhere").await.unwrap(), None);
    assert_eq!((Caller::Master.role(), Caller::Master.user_id()), (Some("proxy_admin"), None));
}

#[tokio::test]
async fn everyone_behind_a_key_is_found_in_few_round_trips_and_then_in_none() {
    let (store, keys) = directory(Limits::default());
    let key = family(&store);
    let tags = ["r".to_owned(), "k".to_owned()];
    let who = Who { end_user: Some("ann"), tags: &tags, ..Who::default() };
    let principal = keys.principal(&key, &who).await.unwrap().unwrap();
    let rpm = |holder: &Option<crate::entity::Holder>| holder.as_ref().unwrap().setting(|s| s.rpm_limit);
    assert_eq!(rpm(&principal.key), Some(1));
    assert_eq!(rpm(&principal.team), Some(2));
    assert_eq!(rpm(&principal.member), Some(3));
    assert_eq!(rpm(&principal.organization), Some(4), "the team's");
    assert_eq!(rpm(&principal.user), None);
    let (name, end_user) = principal.end_user.clone().unwrap();
    assert_eq!((name.as_str(), rpm(&end_user)), ("ann", Some(5)));
    let tags: Vec<_> = principal.tags.iter().map(|(tag, holder)| (tag.as_str(), holder.is_some())).collect();
    assert_eq!(tags, [("r", true), ("k", false), ("both", false), ("t", false)]);
    assert_eq!(
        store.key_reads.load(SeqCst),
        4,
        "the key and the request's; theirs; the organization's; its budget"
    );
    assert_eq!(keys.principal(&key, &who).await.unwrap().unwrap(), principal);
    assert_eq!(store.key_reads.load(SeqCst), 4);
    // Another key of the same family: itself, nothing more.
    let other = Entity {
        team_id: Some("t".to_owned()),
        user_id: Some("u".to_owned()),
        ..key_entity("sk-other-key-0000")
    };
    let other = store.put(other).id;
    assert!(known(&keys, &other).await);
    assert_eq!(store.key_reads.load(SeqCst), 5);
}

#[tokio::test]
async fn a_plain_key_with_a_team_takes_two_round_trips() {
    let (store, keys) = directory(Limits::default());
    let key = Entity { team_id: Some("t".to_owned()), user_id: Some("u".to_owned()), ..key_entity(PLAIN) };
    let key = store.put(key).id;
    store.put(Entity::new(EntityKind::Team, "t"));
    assert!(known(&keys, &key).await);
    assert_eq!(store.key_reads.load(SeqCst), 2);
}

#[tokio::test]
async fn a_changed_budget_or_team_holds_at_once() {
    let (store, keys) = directory(Limits::default());
    let key = family(&store);
    let team_rpm = async || {
        let principal = keys.principal(&key, &Who::default()).await.unwrap().unwrap();
        principal.team.unwrap().setting(|settings| settings.rpm_limit)
    };
    assert_eq!(team_rpm().await, Some(2));
    let mut budget = Entity::new(EntityKind::Budget, "tb");
    budget.settings.rpm_limit = Some(20);
    keys.changed(&[store.put(budget).reference()]);
    assert_eq!(team_rpm().await, Some(20));
    let mut team = Entity::new(EntityKind::Team, "t");
    team.settings.rpm_limit = Some(200);
    keys.changed(&[store.put(team).reference()]);
    assert_eq!(team_rpm().await, Some(200));
    let holder = keys.holder(&EntityRef::new(EntityKind::Team, "t")).await.unwrap().unwrap();
    assert_eq!(holder.setting(|settings| settings.rpm_limit), Some(200));
    assert_eq!(keys.holder(&EntityRef::new(EntityKind::Team, "none")).await.unwrap(), None);
}

#[tokio::test]
async fn a_rotated_key_is_its_successor_until_its_grace_ends() {
    let (store, keys) = directory(Limits::default());
    let old = put(&store, PLAIN);
    let ask = gate(&keys);
    assert!(known(&keys, &old).await);
    let rotate = async |from: &str, plain: &str, until: u64| {
        let to = Box::new(key_entity(plain));
        let write = Write::Rotate { from: from.to_owned(), to: to.clone(), grace_until_ms: Some(until) };
        store.apply(&[write], &Author::default()).await.unwrap();
        keys.changed(&[key_ref(from), to.reference()]);
        to.id
    };
    let far = crate::routing::now_ms() + 3_600_000;
    let new = rotate(&old, "sk-second-key-00000", far).await;
    let record = keys.record(&old).await.unwrap().unwrap();
    assert_eq!((record.id.as_str(), record.expires_ms), (new.as_str(), Some(far)));
    let record = keys.record(&new).await.unwrap().unwrap();
    assert_eq!((record.id.as_str(), record.expires_ms), (new.as_str(), None));
    let newest = rotate(&new, "sk-third-key-000000", 5).await;
    let record = keys.record(&old).await.unwrap().unwrap();
    assert_eq!((record.id.as_str(), record.expires_ms), (newest.as_str(), Some(5)), "the shorter grace");
    // A gate that still says the old id.
    let principal = keys.principal(&new, &Who::default()).await.unwrap().unwrap();
    let key = principal.key.unwrap().entity;
    assert_eq!((key.id.as_str(), key.expires_ms), (newest.as_str(), Some(5)));
    let caller = keys.authenticate(&headers(&[("x-api-key", PLAIN)])).await.unwrap_err();
    assert_eq!(caller.kind, "expired_key");
    assert_eq!(keys.changes(&ask).hashes.len(), 3);
}

#[tokio::test]
async fn an_identity_leads_to_a_key_or_makes_one_up() {
    let (store, keys) = directory(Limits::default());
    let ask = gate(&keys);
    let rule = |name: &str, spiffe: &str| IdentityRule {
        name: name.to_owned(),
        spiffe: Some(spiffe.to_owned()),
        ..IdentityRule::default()
    };
    let by_alias = IdentityRule { key_alias: Some("ci".to_owned()), ..rule("runner", "spiffe://a.b/ci/*") };
    let mut by_team = rule("batch", "spiffe://a.b/batch");
    (by_team.team_id, by_team.models) = (Some("t".to_owned()), vec!["m".to_owned()]);
    keys.identify(&[by_alias.clone(), by_team.clone()]);
    assert!(keys.changes(&ask).flush, "gates ask again");
    assert_eq!(keys.record("spiffe:spiffe://a.b/ci/1").await.unwrap(), None, "nobody has the alias");
    let key = store.put(Entity { alias: Some("ci".to_owned()), ..key_entity(PLAIN) });
    keys.changed(&[key.reference()]);
    for who in ["spiffe:spiffe://a.b/ci/1", "spiffe:spiffe://a.b/ci/2"] {
        assert_eq!(keys.record(who).await.unwrap().unwrap().id, key.id);
    }
    store.put(Entity::new(EntityKind::Team, "t"));
    let record = keys.record("spiffe:spiffe://a.b/batch").await.unwrap().unwrap();
    assert_eq!((record.id.as_str(), record.name.as_str()), ("workload/batch", "batch"));
    let principal = keys.principal(&record.id, &Who::default()).await.unwrap().unwrap();
    assert!(principal.team.is_some());
    assert_eq!(principal.key.unwrap().entity.settings.models, ["m"]);
    assert_eq!(keys.record("spiffe:spiffe://a.b/else").await.unwrap(), None);
    assert_eq!(keys.record("workload/batch").await.unwrap(), None, "its name is no way in");
    assert_eq!(keys.principal("workload/runner", &Who::default()).await.unwrap(), None);
    let ask = gate(&keys);
    keys.identify(&[by_alias.clone(), by_team]);
    assert!(!keys.changes(&ask).flush, "nothing new");
    keys.identify(&[by_alias]);
    assert_eq!(keys.principal("workload/batch", &Who::default()).await.unwrap(), None);
}

/// `cargo test --release -p attache --lib keys::tests::principals::speed -- --ignored --nocapture`
#[tokio::test]
#[ignore = "a measurement"]
async fn speed() {
    let (store, keys) = directory(Limits::default());
    let key = family(&store);
    let plain = put(&store, "sk-plain-key-000000");
    let tags = ["r".to_owned()];
    let cases = [
        ("plain key", &plain, Who::default()),
        ("key, team, user, member, organization, 4 budgets, 3 tags", &key, Who::default()),
        ("and an end user and a tag", &key, Who { end_user: Some("ann"), tags: &tags, ..Who::default() }),
    ];
    for (what, key, who) in cases {
        let rounds = 200_000;
        let mut begun = Instant::now();
        for round in 0..rounds + 1_000 {
            if round == 1_000 {
                begun = Instant::now();
            }
            std::hint::black_box(keys.principal(key, &who).await.unwrap());
        }
        println!("{what}: {} ns", begun.elapsed().as_nanos() / rounds);
    }
}

#[tokio::test]
async fn the_budget_for_end_users_holds_for_those_without_one() {
    let (store, keys) = directory(Limits::default());
    let key = put(&store, PLAIN);
    let budget = |id: &str, rpm: u64| {
        let mut budget = Entity::new(EntityKind::Budget, id);
        budget.settings.rpm_limit = Some(rpm);
        budget
    };
    store.put(budget("free", 1));
    store.put(budget("paid", 9));
    store.put(Entity::new(EntityKind::EndUser, "plain"));
    store.put(Entity { budget_id: Some("paid".to_owned()), ..Entity::new(EntityKind::EndUser, "shares") });
    let mut own = Entity::new(EntityKind::EndUser, "own");
    own.settings.max_budget_nanos = Some(0);
    store.put(own);
    let holds = async |end_user: Option<&str>, id: Option<&str>| {
        let who = Who { end_user, end_user_budget: id, ..Who::default() };
        let principal = keys.principal(&key, &who).await.unwrap().unwrap();
        principal.end_user_budget.map(|budget| budget.settings.rpm_limit.unwrap())
    };
    let free = Some("free");
    assert_eq!(holds(Some("nobody stored this one"), free).await, Some(1));
    assert_eq!(holds(Some("plain"), free).await, Some(1));
    assert_eq!(holds(Some("shares"), free).await, None);
    assert_eq!(holds(Some("own"), free).await, None);
    assert_eq!(holds(None, free).await, None, "the request names nobody");
    assert_eq!(holds(Some("plain"), None).await, None);
    assert_eq!(holds(Some("plain"), Some("no such budget")).await, None);

    store.put(budget("free", 2));
    keys.changed(&[EntityRef::new(EntityKind::Budget, "free")]);
    assert_eq!(holds(Some("plain"), free).await, Some(2), "a change holds at once");
    store.remove(&EntityRef::new(EntityKind::EndUser, "shares"));
    keys.changed(&[EntityRef::new(EntityKind::EndUser, "shares")]);
    assert_eq!(holds(Some("shares"), free).await, Some(2));
}
