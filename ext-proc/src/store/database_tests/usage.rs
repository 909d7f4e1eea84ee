//! What the ledger adds to entities.

use super::*;

const QUARTER_US: u64 = 900_000_000;

fn of(kind: EntityKind, id: &str) -> EntityRef {
    EntityRef::new(kind, id)
}

fn sum(requests: u64, nanos: u64) -> UsageSum {
    UsageSum { requests, prompt_tokens: 11 * requests, completion_tokens: 22 * requests, nanos }
}

pub(super) async fn usage_is_the_sum_of_the_ledger(one: Arc<dyn Database>, two: Arc<dyn Database>) {
    let (team, proxy) = (of(EntityKind::Team, "t"), of(EntityKind::Proxy, "proxy"));
    let (key1, customer) = (of(EntityKind::Key, "hash1"), of(EntityKind::EndUser, "nobody stored"));
    put(&*one, new_key(1)).await;
    put(&*one, Entity::new(EntityKind::Team, "t")).await;
    let charged = vec![proxy.clone(), team.clone(), key1.clone(), customer.clone(), team.clone()];
    let rows: Vec<SpendRow> = (0..6_u64)
        .map(|n| SpendRow {
            charged: charged.clone(),
            start_us: (1_000 + n / 2) * QUARTER_US + n,
            ..spend(&format!("c{n}"), "hash1", (n != 5).then_some(10))
        })
        .collect();
    one.write(&rows).await.unwrap();
    // Sent again, whole and in part: nothing is added.
    two.write(&rows).await.unwrap();
    two.write(&rows[2..4]).await.unwrap();
    one.write(&[spend("alone", "hash1", Some(3))]).await.unwrap();
    assert_eq!((spent(&*two, team.clone()).await, spent(&*two, key1.clone()).await), (50, 53));
    let from = |of: &EntityRef, quarter: u64| (of.clone(), quarter * 900 + 899);
    let found = two
        .usage(&[
            from(&customer, 0),
            from(&team, 1_001),
            from(&key1, 0),
            from(&proxy, 1_002),
            from(&of(EntityKind::Team, "nobody"), 0),
            from(&team, 1_003),
            from(&team, 1_001),
        ])
        .await
        .unwrap();
    assert_eq!(
        found,
        [
            sum(6, 50),
            sum(4, 30),
            sum(7, 53),
            sum(2, 10),
            UsageSum::default(),
            UsageSum::default(),
            sum(4, 30)
        ]
    );
    assert!(two.usage(&[]).await.unwrap().is_empty());
}

pub(super) async fn a_rotated_keys_use_goes_on(one: Arc<dyn Database>, two: Arc<dyn Database>) {
    let first = put(&*one, new_key(1)).await;
    let account = first.reference();
    one.write(&[spend("a", "hash1", Some(1))]).await.unwrap();
    let to = Entity { id: "second".into(), ..first };
    let rotate = Write::Rotate { from: "hash1".into(), to: Box::new(to), grace_until_ms: Some(u64::MAX / 4) };
    apply(&*one, &[rotate]).await.unwrap();
    two.write(&[
        spend("old hash, without accounts", "hash1", Some(10)),
        spend("new hash, without accounts", "second", Some(100)),
        SpendRow { charged: vec![account.clone()], ..spend("charged", "second", Some(1_000)) },
    ])
    .await
    .unwrap();
    assert_eq!(key(&*one, "second").await.unwrap().spend_nanos, 1_111);
    assert_eq!(key(&*one, "hash1").await.unwrap().spend_nanos, 0);
    assert_eq!(one.usage(&[(account, 0)]).await.unwrap(), [sum(4, 1_111)]);
    assert_eq!(one.usage(&[(of(EntityKind::Key, "second"), 0)]).await.unwrap(), [UsageSum::default()]);
}

pub(super) async fn overlapping_writers_do_not_deadlock(one: Arc<dyn Database>, two: Arc<dyn Database>) {
    let all: Vec<EntityRef> = (0..10).map(|n| of(EntityKind::Team, &format!("t{n}"))).collect();
    for team in &all {
        put(&*one, Entity::new(team.kind, &*team.id)).await;
    }
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..10_usize {
        let database = Arc::clone(if writer % 2 == 0 { &one } else { &two });
        let mut charged = all.clone();
        charged.rotate_left(writer);
        tasks.spawn(async move {
            for batch in 0..8 {
                let row = |n: usize| SpendRow {
                    charged: charged.iter().skip(n % 3).cloned().collect(),
                    start_us: (n as u64 % 4) * QUARTER_US,
                    // Every call is written by two of them.
                    ..spend(&format!("{}/{batch}/{n}", writer / 2), "", Some(1))
                };
                database.write(&(0..30).map(row).collect::<Vec<_>>()).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    let mut rows = two.rows(None, 10_000).await.unwrap();
    assert_eq!(rows.len(), 5 * 8 * 30);
    rows.retain(|row| row.cost_nanos == Some(1));
    let sums = one.usage(&all.iter().map(|team| (team.clone(), 0)).collect::<Vec<_>>()).await.unwrap();
    let mut total = 0;
    for (team, sum) in all.iter().zip(&sums) {
        assert_eq!(u64::try_from(spent(&*two, team.clone()).await).unwrap(), sum.nanos);
        total += sum.nanos;
    }
    assert_eq!(total, 1_200 / 3 * (10 + 9 + 8));
}

pub(super) async fn usage_stays_within_bounds(one: Arc<dyn Database>, two: Arc<dyn Database>) {
    put(&*one, new_key(1)).await;
    for batch in 0..3 {
        let rows: Vec<SpendRow> = (0..5_000)
            .map(|n| SpendRow {
                prompt_tokens: u64::MAX,
                start_us: u64::MAX,
                ..spend(&format!("{batch}/{n}"), "hash1", Some(i64::MAX))
            })
            .collect();
        one.write(&rows).await.unwrap();
    }
    let found = two.usage(&[(of(EntityKind::Key, "hash1"), 0)]).await.unwrap();
    assert_eq!((found[0].requests, found[0].nanos), (15_000, 10_000_000_000_000_000));
    assert_eq!(found[0].prompt_tokens, 10_000_000_000_000_000);
    assert!(key(&*two, "hash1").await.unwrap().spend_nanos > 0);
}
