//! The feed of changes.

use super::*;

fn team(id: impl ToString) -> EntityRef {
    EntityRef::new(EntityKind::Team, id.to_string())
}

fn named(changes: &Changes) -> Vec<EntityRef> {
    changes.changed.iter().map(|change| change.of.clone()).collect()
}

pub(super) async fn changes_are_fed_to_others(one: Arc<dyn Database>, two: Arc<dyn Database>) {
    put(&*one, Entity::new(EntityKind::Team, "early")).await;
    let begin = two.changes(0).await.unwrap();
    assert!(begin.changed.is_empty() && !begin.lost && begin.cursor > 0, "{begin:?}");
    assert_eq!(two.changes(begin.cursor).await.unwrap().changed, []);
    let made = put(&*one, Entity::new(EntityKind::Team, "t")).await;
    let first = two.changes(begin.cursor).await.unwrap();
    assert_eq!((named(&first), first.lost), (vec![team("t")], false));
    assert_eq!(two.changes(first.cursor).await.unwrap().changed, []);
    apply(&*two, &[replace(&made, |team| team.blocked = true)]).await.unwrap();
    apply(&*two, &[Write::Delete(team("early"))]).await.unwrap();
    apply(&*two, &[Write::Delete(team("nobody"))]).await.unwrap();
    let second = one.changes(first.cursor).await.unwrap();
    assert_eq!(named(&second), [team("early"), team("t")]);
    // The ledger is no change: a busy gateway does not make everyone read again.
    one.write(&[SpendRow { charged: vec![team("t")], ..spend("c", "", Some(1)) }]).await.unwrap();
    assert_eq!(one.changes(second.cursor).await.unwrap().changed, []);
    assert!(one.changes(u64::from(u32::MAX) * 1_000).await.unwrap().lost, "a cursor of another database");
}

/// Who has read an entity with the version of a change has read the change.
pub(super) async fn changes_have_the_version_of_the_entity(one: Arc<dyn Database>, two: Arc<dyn Database>) {
    let mut cursor = two.changes(0).await.unwrap().cursor;
    let mut last = async || {
        let changes = two.changes(cursor).await.unwrap();
        cursor = changes.cursor;
        let versions = changes.changed.into_iter().map(|change| (change.of, change.version));
        versions.collect::<std::collections::BTreeMap<_, _>>()
    };
    let made = put(&*one, new_key(1)).await;
    let of = made.reference();
    assert_eq!(last().await[&of], made.updated_ms);
    let twice = [
        Write::ResetSpend { of: of.clone(), to_nanos: 9 },
        Write::ResetSpend { of: of.clone(), to_nanos: 0 },
    ];
    let reset = apply(&*two, &twice).await.unwrap()[1].clone().unwrap();
    assert!(reset.updated_ms > made.updated_ms);
    assert_eq!(last().await[&of], reset.updated_ms);
    // Ahead of the clock, as one is that another machine wrote.
    let mut ahead = reset;
    for _ in 0..300 {
        let blocked = apply(&*one, &[replace(&ahead, |key| key.blocked = !key.blocked)]).await.unwrap();
        ahead = blocked[0].clone().unwrap();
    }
    assert_eq!(last().await[&of], ahead.updated_ms);
    apply(&*one, &[Write::Delete(of.clone())]).await.unwrap();
    assert!(last().await[&of] > ahead.updated_ms, "nobody has read that it is gone");
    let again = put(&*two, new_key(1)).await;
    assert!(last().await[&of] >= again.updated_ms);
    let to = Box::new(Entity { id: "hash2".into(), ..again.clone() });
    let rotate = Write::Rotate { from: again.id.clone(), to, grace_until_ms: Some(2_000_000_000_000) };
    let new = apply(&*one, &[rotate]).await.unwrap()[0].clone().unwrap();
    let rotated = last().await;
    assert!(rotated[&of] > again.updated_ms, "the old key");
    assert_eq!(rotated[&new.reference()], new.updated_ms);
}

/// Transactions end in another order than they begin. Readers poll meanwhile.
pub(super) async fn concurrent_writers_are_never_missed(one: Arc<dyn Database>, two: Arc<dyn Database>) {
    let mut readers = Vec::new();
    let (done, _) = tokio::sync::watch::channel(false);
    for reader in 0..3 {
        let database = Arc::clone(if reader % 2 == 0 { &one } else { &two });
        let done = done.subscribe();
        let mut cursor = database.changes(0).await.unwrap().cursor;
        readers.push(tokio::spawn(async move {
            let (mut seen, mut last) = (HashSet::new(), false);
            loop {
                let changes = database.changes(cursor).await.unwrap();
                assert!(!changes.lost && changes.cursor >= cursor);
                cursor = changes.cursor;
                seen.extend(named(&changes));
                if last {
                    return seen;
                }
                last = *done.borrow();
                tokio::time::sleep(Duration::from_millis(reader)).await;
            }
        }));
    }
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..12_u32 {
        let database = Arc::clone(if writer % 2 == 0 { &one } else { &two });
        writers.spawn(async move {
            for n in 0..15 {
                // Of different length.
                let new = (0..=(writer * 7 + n) % 40)
                    .map(|i| Write::Insert(Entity::new(EntityKind::Team, format!("{writer}/{n}/{i}"))));
                apply(&*database, &new.collect::<Vec<_>>()).await.unwrap();
            }
        });
    }
    writers.join_all().await;
    done.send_replace(true);
    let all = one.list(&Filter::default()).await.unwrap().total;
    for reader in readers {
        assert_eq!(reader.await.unwrap().len() as u64, all);
    }
}

pub(super) async fn a_feed_that_was_pruned_says_so(one: Arc<dyn Database>, two: Arc<dyn Database>) {
    let begin = one.changes(0).await.unwrap().cursor;
    for n in 0..10_050 / 50 {
        let new = (0..50).map(|i| Write::Insert(Entity::new(EntityKind::Team, format!("{n}/{i}"))));
        apply(&*one, &new.collect::<Vec<_>>()).await.unwrap();
    }
    let far = two.changes(begin).await.unwrap();
    assert!(far.lost, "too many to name");
    let now = two.changes(far.cursor).await.unwrap();
    assert!(!now.lost && now.changed.is_empty());
}

/// A change that began before others and ends after them.
pub(super) async fn a_transaction_that_takes_long_is_not_missed(server: &Postgres) {
    let database = opened(&postgres(server.database("slow").await)).await;
    let mut slow = server.connect("slow").await.unwrap();
    let mut slow = slow.begin().await.unwrap();
    sqlx::query("INSERT INTO attache_changes (at_ms, kind, id) VALUES (0, 'team', 'slow')")
        .execute(&mut *slow)
        .await
        .unwrap();
    let mut cursor = database.changes(0).await.unwrap().cursor;
    let mut seen = HashSet::new();
    for n in 0..3 {
        put(&*database, Entity::new(EntityKind::Team, format!("{n}"))).await;
        let changes = database.changes(cursor).await.unwrap();
        cursor = changes.cursor;
        seen.extend(named(&changes));
    }
    assert_eq!(seen, HashSet::from([team(0), team(1), team(2)]));
    slow.commit().await.unwrap();
    let changes = database.changes(cursor).await.unwrap();
    let slow = changes.changed.iter().find(|change| change.of == team("slow")).unwrap();
    assert_eq!(
        slow.version,
        i64::MAX as u64,
        "a sidecar that knows no versions: nothing that was read is as new"
    );
    assert_eq!(database.changes(changes.cursor).await.unwrap().changed, []);
}

/// A sidecar that starts prunes; one that slept too long hears of it.
pub(super) async fn old_changes_are_pruned(server: &Postgres) {
    let backend = postgres(server.database("pruned").await);
    let database = opened(&backend).await;
    let begin = database.changes(0).await.unwrap().cursor;
    put(&*database, Entity::new(EntityKind::Team, "old")).await;
    let mut old = Entity::new(EntityKind::RotatedKey, "over");
    old.expires_ms = Some(1);
    put(&*database, old).await;
    server.execute("pruned", "UPDATE attache_changes SET at_ms = 1 WHERE seq <> 0").await;
    put(&*database, Entity::new(EntityKind::Team, "young")).await;
    let awake = database.changes(begin).await.unwrap();
    assert_eq!((awake.changed.len(), awake.lost), (3, false));
    let starts = opened(&backend).await;
    starts.changes(0).await.unwrap();
    assert!(starts.changes(begin).await.unwrap().lost, "slept too long");
    let again = starts.changes(awake.cursor).await.unwrap();
    assert_eq!((again.changed.len(), again.lost), (0, false), "who was awake missed nothing");
    assert_eq!(key(&*starts, "over").await, None);
}

#[tokio::test]
async fn old_changes_are_pruned_in_sqlite() {
    let directory = TempDir::new();
    let backend = sqlite(&directory, "pruned");
    let database = opened(&backend).await;
    let begin = database.changes(0).await.unwrap().cursor;
    put(&*database, Entity::new(EntityKind::Team, "old")).await;
    let DatabaseBackend::Sqlite { path } = &backend else { unreachable!() };
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
    let mut raw = sqlx::ConnectOptions::connect(&options).await.unwrap();
    sqlx::query("UPDATE attache_changes SET at_ms = 1").execute(&mut raw).await.unwrap();
    put(&*database, Entity::new(EntityKind::Team, "young")).await;
    let awake = database.changes(begin).await.unwrap();
    assert_eq!((awake.changed.len(), awake.lost), (2, false));
    let starts = opened(&backend).await;
    starts.changes(0).await.unwrap();
    assert!(starts.changes(begin).await.unwrap().lost);
    let again = starts.changes(awake.cursor).await.unwrap();
    assert_eq!((again.changed.len(), again.lost), (0, false));
}
