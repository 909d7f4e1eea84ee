//! Changes of entities.

use super::*;

pub(super) async fn entities_are_kept_whole(one: Arc<dyn Database>, two: Arc<dyn Database>) {
    one.ping().await.unwrap();
    let inserted = put(&*one, new_key(1)).await;
    let (created_ms, updated_ms) = (inserted.created_ms, inserted.updated_ms);
    assert!(created_ms.abs_diff(memory::wall_ms()) < 60_000 && created_ms == updated_ms);
    assert_eq!(inserted, Entity { created_ms, updated_ms, ..new_key(1) });
    assert_eq!(key(&*two, "hash1").await, Some(inserted.clone()));
    assert_eq!(key(&*two, "hash2").await, None);

    let mut member = Entity::new(EntityKind::Member, member_id("team", "user"));
    member.team_id = Some("team".into());
    member.organization_id = Some("org".into());
    member.budget_id = Some("budget".into());
    member.blocked = true;
    member.spend_nanos = 17;
    member.settings.role = Some("admin".into());
    member.settings.email = Some("a@b".into());
    let member = put(&*one, member).await;
    let mut found = two
        .entities(&[
            member.reference(),
            EntityRef::new(EntityKind::Team, "nobody"),
            inserted.reference(),
            inserted.reference(),
        ])
        .await
        .unwrap();
    found.sort_by_key(|entity| entity.kind);
    assert_eq!(found, [inserted, member.clone()]);
    assert!(member.blocked && member.spend_nanos == 17, "an import brings its spend");
    put(&*one, Entity::new(EntityKind::Key, "plain")).await;
    put(&*one, Entity::new(EntityKind::Key, "another: keys without an alias are not in each other's way"))
        .await;
    put(&*one, Entity::new(EntityKind::Team, "plain")).await;
    assert!(two.entities(&[]).await.unwrap().is_empty());
    assert!(apply(&*two, &[]).await.unwrap().is_empty());
}

pub(super) async fn changes_are_all_or_nothing(one: Arc<dyn Database>, two: Arc<dyn Database>) {
    let known = put(&*one, new_key(1)).await;
    let cursor = one.changes(0).await.unwrap().cursor;
    let team = Entity::new(EntityKind::Team, "t");
    let writes = [
        Write::Insert(team.clone()),
        replace(&known, |key| key.blocked = true),
        Write::ResetSpend { of: known.reference(), to_nanos: 9 },
        Write::Insert(Entity { alias: Some("alias1".into()), ..Entity::new(EntityKind::Key, "hash2") }),
    ];
    let refused = apply(&*one, &writes).await;
    assert!(matches!(refused, Err(StoreError::Conflict("key_alias"))), "{refused:?}");
    assert_eq!(key(&*two, "hash1").await, Some(known.clone()));
    assert!(two.entities(&[team.reference()]).await.unwrap().is_empty());
    assert!(one.changes(cursor).await.unwrap().changed.iter().all(|change| change.of == known.reference()));
    assert_eq!(one.audit(&AuditFilter::default()).await.unwrap().1, 1, "of the first insert");

    let done = apply(&*one, &writes[..3]).await.unwrap();
    let now = key(&*two, "hash1").await.unwrap();
    assert!(now.blocked && now.spend_nanos == 9);
    assert!(done[1].as_ref().unwrap().blocked && done[1].as_ref().unwrap().spend_nanos == 0);
    assert_eq!(done[2], Some(now.clone()));
    assert!(now.updated_ms > done[1].as_ref().unwrap().updated_ms, "every change has a version of its own");
    // Of one kind and name, in one go: gone and new.
    let again = [Write::Delete(now.reference()), Write::Insert(new_key(1))];
    let done = apply(&*two, &again).await.unwrap();
    assert_eq!(done[0], Some(now));
    assert_eq!(key(&*one, "hash1").await, done[1]);
}

pub(super) async fn hash_alias_and_account_are_unique(one: Arc<dyn Database>, two: Arc<dyn Database>) {
    put(&*one, new_key(1)).await;
    let same_hash = Entity { alias: None, ..new_key(1) };
    let refused = apply(&*two, &[Write::Insert(same_hash)]).await;
    assert!(matches!(refused, Err(StoreError::Conflict("id"))), "{refused:?}");
    let twice = [Write::Insert(new_key(8)), Write::Insert(new_key(8))];
    assert!(matches!(apply(&*two, &twice).await, Err(StoreError::Conflict("id"))));
    let second = put(&*two, new_key(2)).await;
    let refused = apply(&*two, &[replace(&second, |key| key.alias = Some("alias1".into()))]).await;
    assert!(matches!(refused, Err(StoreError::Conflict("key_alias"))), "{refused:?}");
    let mut claims = new_key(3);
    claims.settings.account = Some("hash2".into());
    let refused = apply(&*two, &[Write::Insert(claims)]).await;
    assert!(matches!(refused, Err(StoreError::Conflict("id"))), "two keys on one account: {refused:?}");
    assert_eq!(key(&*one, "hash3").await, None);
    // Aliases of others may be alike.
    for id in ["a", "b"] {
        put(&*one, Entity { alias: Some("alias1".into()), ..Entity::new(EntityKind::Team, id) }).await;
    }
    // Many at once: one of them is first.
    let tries = (0..8).map(|n| {
        let database = Arc::clone(if n % 2 == 0 { &one } else { &two });
        let new =
            Entity { alias: Some("wanted".into()), ..Entity::new(EntityKind::Key, format!("racer{n}")) };
        async move { apply(&*database, &[Write::Insert(new)]).await }
    });
    let answers = futures_util::future::join_all(tries).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    let lost = answers.iter().filter(|answer| matches!(answer, Err(StoreError::Conflict("key_alias"))));
    assert_eq!(lost.count(), 7);
}

pub(super) async fn a_stale_change_is_refused(one: Arc<dyn Database>, two: Arc<dyn Database>) {
    let read = put(&*one, new_key(1)).await;
    let changed = apply(&*two, &[replace(&read, |key| key.blocked = true)]).await.unwrap();
    let changed = changed[0].clone().unwrap();
    assert_eq!((changed.created_ms, changed.created_by.as_deref()), (read.created_ms, Some("admin")));
    assert!(changed.updated_ms > read.updated_ms);
    let stale = apply(&*one, &[replace(&read, |key| key.alias = None)]).await;
    assert!(matches!(stale, Err(StoreError::Conflict("version"))), "{stale:?}");
    assert_eq!(key(&*one, "hash1").await, Some(changed.clone()));
    let gone = Entity::new(EntityKind::Team, "gone");
    let missing = apply(&*one, &[replace(&gone, |team| team.blocked = true)]).await;
    assert!(matches!(missing, Err(StoreError::Conflict("version"))), "{missing:?}");
    let renamed = apply(&*one, &[replace(&changed, |key| key.id = "other".into())]).await;
    assert!(matches!(renamed, Err(StoreError::Broken { .. })), "{renamed:?}");
    // Spend is no change.
    one.write(&[spend("c", "hash1", Some(5))]).await.unwrap();
    let after = apply(&*one, &[replace(&changed, |key| key.spend_nanos = 77)]).await.unwrap();
    assert_eq!(after[0].as_ref().unwrap().spend_nanos, 5);
    assert_eq!(key(&*two, "hash1").await.unwrap().spend_nanos, 5);
}

pub(super) async fn nothing_joins_what_is_gone(one: Arc<dyn Database>, two: Arc<dyn Database>) {
    let team = put(&*one, Entity::new(EntityKind::Team, "team")).await;
    let cursor = one.changes(0).await.unwrap().cursor;
    let join = |n: u32| [Write::Expect(team.reference()), Write::Insert(new_key(n))];
    let done = apply(&*two, &join(1)).await.unwrap();
    assert_eq!(done[0], Some(team.clone()), "as it is");
    assert_eq!(one.audit(&AuditFilter::default()).await.unwrap().1, 2, "of the team and the key");
    let fed = two.changes(cursor).await.unwrap().changed;
    assert!(fed.iter().all(|change| change.of != team.reference()));
    let joining = (2..10).map(|n| {
        let (database, writes) = (Arc::clone(if n % 2 == 0 { &one } else { &two }), join(n));
        async move { apply(&*database, &writes).await }
    });
    let deleting = [Write::Delete(team.reference())];
    let (joined, gone) = tokio::join!(futures_util::future::join_all(joining), apply(&*one, &deleting));
    assert_eq!(gone.unwrap().len(), 1);
    for (n, joined) in (2..10).zip(joined) {
        let there = key(&*one, &format!("hash{n}")).await.is_some();
        match joined {
            Ok(_) => assert!(there),
            Err(error) => assert!(matches!(error, StoreError::Conflict("missing")) && !there, "{error:?}"),
        }
    }
    let late = apply(&*two, &join(10)).await;
    assert!(matches!(late, Err(StoreError::Conflict("missing"))), "{late:?}");
    assert_eq!(key(&*one, "hash10").await, None);
}

/// Tries again with what is there now, as the admin API does.
async fn edit(database: &dyn Database, hash: &str, change: impl Fn(&mut Entity)) {
    loop {
        let read = key(database, hash).await.unwrap();
        match apply(database, &[replace(&read, &change)]).await {
            Err(StoreError::Conflict("version")) => {}
            done => return assert_eq!(done.unwrap().len(), 1),
        }
    }
}

pub(super) async fn concurrent_edits_lose_nothing(one: Arc<dyn Database>, two: Arc<dyn Database>) {
    put(&*one, new_key(1)).await;
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..8_u64 {
        let database = Arc::clone(if task % 2 == 0 { &one } else { &two });
        tasks.spawn(async move {
            for n in 0..10 {
                edit(&*database, "hash1", |key| {
                    *key.settings.rpm_limit.as_mut().unwrap() += 1;
                    key.settings.models.push(format!("{task}/{n}"));
                })
                .await;
                let row = spend(&format!("{task}/{n}"), "hash1", Some(1));
                database.write(&[row]).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    let key = key(&*one, "hash1").await.unwrap();
    assert_eq!((key.settings.rpm_limit, key.settings.models.len()), (Some(80), 82));
    assert_eq!(key.spend_nanos, 80, "no edit put back an older spend");
    assert_eq!(one.audit(&AuditFilter::default()).await.unwrap().1, 81);
}

pub(super) async fn spend_is_reset_and_goes_on(one: Arc<dyn Database>, two: Arc<dyn Database>) {
    let key1 = put(&*one, new_key(1)).await;
    one.write(&[spend("a", "hash1", Some(100))]).await.unwrap();
    let reset = Write::ResetSpend { of: key1.reference(), to_nanos: 30 };
    let done = apply(&*two, &[reset]).await.unwrap();
    let now = done[0].clone().unwrap();
    assert_eq!((now.spend_nanos, now.spend_reset_ms), (30, now.updated_ms));
    assert!(now.updated_ms > key1.updated_ms);
    assert_eq!(key(&*one, "hash1").await, Some(now));
    one.write(&[spend("a", "hash1", Some(100)), spend("b", "hash1", Some(4))]).await.unwrap();
    assert_eq!(key(&*one, "hash1").await.unwrap().spend_nanos, 34);
    let nobody = Write::ResetSpend { of: EntityRef::new(EntityKind::User, "x"), to_nanos: 0 };
    assert_eq!(apply(&*one, &[nobody]).await.unwrap(), [None]);
}

fn rotate(from: &str, to: Entity, grace_until_ms: Option<u64>) -> Write {
    Write::Rotate { from: from.into(), to: Box::new(to), grace_until_ms }
}

fn renamed(key: &Entity, hash: &str) -> Entity {
    Entity { id: hash.into(), name: format!("sk-...{hash}"), ..key.clone() }
}

pub(super) async fn a_key_is_rotated(one: Arc<dyn Database>, two: Arc<dyn Database>) {
    let old = put(&*one, new_key(1)).await;
    one.write(&[spend("a", "hash1", Some(100))]).await.unwrap();
    let done = apply(&*two, &[rotate("hash1", renamed(&old, "new"), None)]).await.unwrap();
    let new = done[0].clone().unwrap();
    assert_eq!(key(&*one, "hash1").await, None);
    assert_eq!(key(&*one, "new").await, Some(new.clone()));
    assert_eq!((new.spend_nanos, new.account(), new.alias.as_deref()), (100, "hash1", Some("alias1")));
    assert_eq!(
        (new.created_ms, new.settings.metadata.clone()),
        (old.created_ms, old.settings.metadata.clone())
    );
    assert!(new.updated_ms > old.updated_ms);
    // The first hash is the account for ever; nobody takes it.
    let replayed = apply(&*one, &[Write::Insert(Entity::new(EntityKind::Key, "hash1"))]).await;
    assert!(matches!(replayed, Err(StoreError::Conflict("id"))), "{replayed:?}");
    let third = apply(&*one, &[rotate("new", renamed(&new, "third"), None)]).await.unwrap();
    assert_eq!(third[0].as_ref().unwrap().account(), "hash1");
    assert_eq!(apply(&*one, &[rotate("nobody", renamed(&new, "x"), None)]).await.unwrap(), [None]);
    let other = put(&*one, new_key(2)).await;
    let taken = apply(&*one, &[rotate("third", renamed(&new, &other.id), None)]).await;
    assert!(matches!(taken, Err(StoreError::Conflict("id"))), "{taken:?}");
    assert!(key(&*two, "third").await.is_some());
}

pub(super) async fn a_rotated_key_is_good_for_a_while(one: Arc<dyn Database>, two: Arc<dyn Database>) {
    let first = put(&*one, new_key(1)).await;
    let done =
        apply(&*one, &[rotate("hash1", renamed(&first, "second"), Some(2_000_000_000_000))]).await.unwrap();
    let second = done[0].clone().unwrap();
    let old = key(&*two, "hash1").await.unwrap();
    assert_eq!((old.kind, old.expires_ms), (EntityKind::RotatedKey, Some(2_000_000_000_000)));
    assert_eq!((old.settings.successor.as_deref(), old.spend_nanos), (Some("second"), 0));
    let replayed = apply(&*one, &[Write::Insert(Entity::new(EntityKind::Key, "hash1"))]).await;
    assert!(matches!(replayed, Err(StoreError::Conflict("id"))), "{replayed:?}");

    let cursor = two.changes(0).await.unwrap().cursor;
    let second_on = rotate("second", renamed(&second, "third"), Some(2_000_000_000_001));
    apply(&*one, &[second_on]).await.unwrap();
    for (hash, until) in [("hash1", 2_000_000_000_000), ("second", 2_000_000_000_001)] {
        let old = key(&*two, hash).await.unwrap();
        let found = (old.settings.successor.as_deref(), old.expires_ms);
        assert_eq!(found, (Some("third"), Some(until)), "both stand for the newest");
    }
    let fed = two.changes(cursor).await.unwrap().changed;
    for (kind, id) in [
        (EntityKind::Key, "second"),
        (EntityKind::RotatedKey, "second"),
        (EntityKind::RotatedKey, "hash1"),
        (EntityKind::Key, "third"),
    ] {
        assert!(fed.iter().any(|change| change.of == EntityRef::new(kind, id)), "{kind} {id} in {fed:?}");
    }
    apply(&*two, &[Write::Delete(EntityRef::new(EntityKind::Key, "third"))]).await.unwrap();
    for hash in ["hash1", "second", "third"] {
        assert_eq!(key(&*one, hash).await, None, "{hash}");
    }
}

pub(super) async fn deleted_keys_leave_their_spend(one: Arc<dyn Database>, two: Arc<dyn Database>) {
    let kept = put(&*one, new_key(1)).await;
    one.write(&[spend("c", "hash1", Some(5))]).await.unwrap();
    let done = apply(
        &*two,
        &[
            Write::Delete(kept.reference()),
            Write::Delete(kept.reference()),
            Write::Delete(EntityRef::new(EntityKind::Key, "nobody")),
        ],
    )
    .await
    .unwrap();
    assert_eq!(done, [Some(Entity { spend_nanos: 5, ..kept }), None, None]);
    assert_eq!(key(&*one, "hash1").await, None);
    assert!(one.row("c").await.unwrap().is_some(), "spend outlives its key");
    one.write(&[spend("d", "hash1", Some(5))]).await.expect("so do calls that were under way");
}

pub(super) async fn the_audit_log_tells_before_and_after(one: Arc<dyn Database>, two: Arc<dyn Database>) {
    let made = put(&*one, new_key(1)).await;
    let by_bob = Author { user: "bob".into(), key: "k".into(), action: "attache key block".into() };
    one.apply(&[replace(&made, |key| key.blocked = true)], &by_bob).await.unwrap();
    let mut model = Entity::new(EntityKind::Model, "m");
    model.settings.rest =
        serde_json::from_value(json!({"litellm_params": {"model": "x/y", "api_key": "v2:gcm:abc"}})).unwrap();
    put(&*one, model).await;
    apply(&*one, &[Write::ResetSpend { of: made.reference(), to_nanos: 3 }]).await.unwrap();
    apply(&*one, &[rotate("hash1", renamed(&made, "new"), None)]).await.unwrap();
    apply(&*one, &[Write::Delete(EntityRef::new(EntityKind::Key, "new"))]).await.unwrap();

    let all = AuditFilter { limit: 100, ..AuditFilter::default() };
    let (rows, total) = two.audit(&all).await.unwrap();
    let whats: Vec<&str> = rows.iter().map(|row| row.what.as_str()).collect();
    assert_eq!(whats, ["deleted", "rotated", "spend_reset", "created", "updated", "created"], "newest first");
    assert_eq!(total, 6);
    assert!(rows[0].at_ms.abs_diff(memory::wall_ms()) < 60_000);
    let [deleted, rotated, reset, model, blocked, created] = &rows[..] else { panic!() };
    assert_eq!((&created.before, &created.after["settings"]["rpm_limit"]), (&json!(null), &json!(0)));
    assert_eq!(created.after["settings"]["metadata"]["a"][1]["b"], "\u{0}c");
    assert_eq!((created.author.clone(), created.of.clone()), (author(), made.reference()));
    assert_eq!((&blocked.before["blocked"], &blocked.after["blocked"]), (&json!(false), &json!(true)));
    assert_eq!(blocked.author, by_bob);
    assert_eq!(model.after["settings"]["litellm_params"], json!({"model": "x/y", "api_key": "***"}));
    assert_eq!((&reset.before["spend_nanos"], &reset.after["spend_nanos"]), (&json!(0), &json!(3)));
    assert_eq!((&rotated.before["id"], &rotated.after["id"]), (&json!("hash1"), &json!("new")));
    assert_eq!((&deleted.before["id"], &deleted.after), (&json!("new"), &json!(null)));

    let count = async |filter: AuditFilter| two.audit(&filter).await.unwrap();
    let (rows, total) = count(AuditFilter { of: Some(made.reference()), limit: 2, ..all.clone() }).await;
    assert_eq!((rows.len(), total), (2, 3));
    let (rows, _) = count(AuditFilter { of: Some(made.reference()), offset: 2, ..all.clone() }).await;
    assert_eq!(rows.iter().map(|row| row.what.as_str()).collect::<Vec<_>>(), ["created"]);
    assert_eq!(count(AuditFilter { changed_by: Some("bob".into()), ..all.clone() }).await.1, 1);
    let none = AuditFilter { action: Some("/key/update".into()), limit: 0, ..AuditFilter::default() };
    assert_eq!(count(none).await, (Vec::new(), 5));
}

pub(super) async fn many_are_inserted_at_once(one: Arc<dyn Database>, two: Arc<dyn Database>) {
    let writes: Vec<Write> = (0..3_000).map(|n| Write::Insert(new_key(n))).collect();
    let done = apply(&*one, &writes).await.unwrap();
    assert_eq!(done.len(), 3_000);
    assert_eq!(key(&*two, "hash2999").await, done[2_999]);
    let all: Vec<EntityRef> = done.iter().flatten().map(Entity::reference).collect();
    assert_eq!(two.entities(&all).await.unwrap().len(), 3_000);
    assert_eq!(two.audit(&AuditFilter::default()).await.unwrap().1, 3_000);
}

/// Changes of several entities, in any order, beside writers of the ledger that charge the same ones.
pub(super) async fn changes_and_the_ledger_do_not_block_each_other(
    one: Arc<dyn Database>,
    two: Arc<dyn Database>,
) {
    let teams: Vec<EntityRef> = (0..6).map(|n| EntityRef::new(EntityKind::Team, format!("t{n}"))).collect();
    for team in &teams {
        put(&*one, Entity::new(team.kind, &*team.id)).await;
    }
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..6_usize {
        let database = Arc::clone(if task % 2 == 0 { &one } else { &two });
        let mut teams = teams.clone();
        teams.rotate_left(task);
        tasks.spawn(async move {
            for n in 0..15 {
                let row = SpendRow { charged: teams.clone(), ..spend(&format!("{task}/{n}"), "", Some(1)) };
                database.write(&[row]).await.unwrap();
                let mut known = database.entities(&teams).await.unwrap();
                known.rotate_left(task);
                let edits: Vec<Write> =
                    known.iter().map(|team| replace(team, |team| team.blocked = !team.blocked)).collect();
                match apply(&*database, &edits).await {
                    Ok(_) | Err(StoreError::Conflict("version")) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        });
    }
    tasks.join_all().await;
    for team in teams {
        assert_eq!(spent(&*one, team).await, 90);
    }
}
