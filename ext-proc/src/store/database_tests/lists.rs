//! Lists of entities.

use super::*;

async fn ids(database: &dyn Database, filter: Filter) -> Vec<String> {
    let page = database.list(&Filter { limit: 100, ..filter.clone() }).await.unwrap();
    let count = database.list(&Filter { limit: 0, ..filter }).await.unwrap();
    assert_eq!((page.total, count.entities.len()), (count.total, 0));
    assert_eq!(page.total, page.entities.len() as u64);
    page.entities.into_iter().map(|entity| entity.id).collect()
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

pub(super) async fn filters_choose(one: Arc<dyn Database>, two: Arc<dyn Database>) {
    let mut writes = Vec::new();
    for n in 0..8 {
        let mut key = Entity::new(EntityKind::Key, format!("k{n}"));
        key.alias = (n % 2 == 0).then(|| format!("Alias {n}"));
        key.team_id = (n < 3).then(|| format!("t{n}"));
        key.user_id = (n > 4).then(|| "u".into());
        key.organization_id = (n == 5).then(|| "o".into());
        key.budget_id = (n == 6).then(|| "b".into());
        key.created_by = (n == 7).then(|| "root".into());
        key.blocked = n == 1;
        key.expires_ms = (n > 3).then_some(u64::try_from(n).unwrap() * 1_000);
        writes.push(Write::Insert(key));
    }
    for (id, role, email) in [("u1", "proxy_admin", None), ("u2", "internal_user", Some("x@y"))] {
        let mut user = Entity::new(EntityKind::User, id);
        user.settings.role = some(role);
        user.settings.email = email.map(str::to_owned);
        writes.push(Write::Insert(user));
    }
    apply(&*one, &writes).await.unwrap();
    let sorted = Filter { sort: Sort::Id, ascending: true, ..Filter::default() };
    let keys = Filter { kind: Some(EntityKind::Key), ..sorted.clone() };
    let expect = async |filter: Filter, expected: &[&str]| {
        assert_eq!(ids(&*two, filter.clone()).await, expected, "{filter:?}");
    };
    expect(sorted.clone(), &["k0", "k1", "k2", "k3", "k4", "k5", "k6", "k7", "u1", "u2"]).await;
    expect(Filter { kind: Some(EntityKind::User), ..sorted.clone() }, &["u1", "u2"]).await;
    expect(Filter { kind: Some(EntityKind::Tag), ..sorted.clone() }, &[]).await;
    let names = |names: &[&str]| Some(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>());
    expect(Filter { ids: names(&["k3", "nobody", "k1", "u1"]), ..keys.clone() }, &["k1", "k3"]).await;
    expect(Filter { ids: names(&[]), ..keys.clone() }, &[]).await;
    expect(Filter { team_ids: names(&["t2", "t0"]), ..keys.clone() }, &["k0", "k2"]).await;
    expect(Filter { team_ids: names(&[]), ..keys.clone() }, &[]).await;
    expect(Filter { alias: some("Alias 2"), ..keys.clone() }, &["k2"]).await;
    expect(Filter { alias: some("lias"), ..keys.clone() }, &[]).await;
    let part = Filter { alias: some("LIAS"), substring: true, ..keys.clone() };
    expect(part, &["k0", "k2", "k4", "k6"]).await;
    expect(Filter { team_id: some("t1"), ..keys.clone() }, &["k1"]).await;
    expect(Filter { user_id: some("u"), ..keys.clone() }, &["k5", "k6", "k7"]).await;
    expect(Filter { user_id: some("u"), organization_id: some("o"), ..keys.clone() }, &["k5"]).await;
    expect(Filter { budget_id: some("b"), ..keys.clone() }, &["k6"]).await;
    expect(Filter { created_by: some("root"), ..keys.clone() }, &["k7"]).await;
    expect(Filter { role: some("proxy_admin"), ..sorted.clone() }, &["u1"]).await;
    expect(Filter { email: some("x@y"), ..sorted.clone() }, &["u2"]).await;
    expect(Filter { blocked: Some(true), ..keys.clone() }, &["k1"]).await;
    expect(Filter { blocked: Some(false), user_id: some("u"), ..keys.clone() }, &["k5", "k6", "k7"]).await;
    expect(Filter { expired: Some((5_000, true)), ..keys.clone() }, &["k4", "k5"]).await;
    expect(Filter { expired: Some((5_000, false)), ..keys }, &["k0", "k1", "k2", "k3", "k6", "k7"]).await;
}

pub(super) async fn lists_are_sorted_and_paged(one: Arc<dyn Database>, two: Arc<dyn Database>) {
    for n in 0..25_u64 {
        let mut team = Entity::new(EntityKind::Team, format!("t{n:02}"));
        team.alias = (n % 5 != 0).then(|| format!("{}", n % 7));
        team.expires_ms = (n % 4 != 0).then_some(n % 3);
        team.spend_nanos = i64::try_from(n * 7 % 10).unwrap();
        put(&*one, team).await;
    }
    let first = two.entities(&[EntityRef::new(EntityKind::Team, "t00")]).await.unwrap();
    apply(&*one, &[replace(&first[0], |team| team.blocked = true)]).await.unwrap();
    let all = two.list(&Filter { limit: 100, ..Filter::default() }).await.unwrap().entities;
    for sort in [Sort::Created, Sort::Updated, Sort::Alias, Sort::Id, Sort::Spend, Sort::Expires] {
        let mut expected = all.clone();
        match sort {
            Sort::Created => expected.sort_by_key(|e| (e.created_ms, e.id.clone())),
            Sort::Updated => expected.sort_by_key(|e| (e.updated_ms, e.id.clone())),
            Sort::Alias => expected.sort_by_key(|e| (e.alias.clone(), e.id.clone())),
            Sort::Id => expected.sort_by_key(|e| e.id.clone()),
            Sort::Spend => expected.sort_by_key(|e| (e.spend_nanos, e.id.clone())),
            Sort::Expires => expected.sort_by_key(|e| (e.expires_ms, e.id.clone())),
        }
        for ascending in [true, false] {
            let mut paged = Vec::new();
            for offset in (0..30).step_by(4) {
                let filter = Filter { sort, ascending, offset, limit: 4, ..Filter::default() };
                let page = two.list(&filter).await.unwrap();
                assert_eq!(page.total, 25, "{filter:?}");
                paged.extend(page.entities);
            }
            assert_eq!(paged, expected, "{sort:?} ascending: {ascending}");
            expected.reverse();
        }
    }
}

pub(super) async fn awkward_names_are_found(one: Arc<dyn Database>, two: Arc<dyn Database>) {
    let aliases = ["100%", "a_b", "a!b", "a\\b", "it's", "\"q\"", "{\"x\":[1]}", "ünï", "a\u{1f}b"];
    for alias in aliases {
        put(&*one, Entity { alias: some(alias), ..Entity::new(EntityKind::Team, alias) }).await;
    }
    for alias in aliases {
        for substring in [true, false] {
            let filter = Filter { alias: some(alias), substring, ..Filter::default() };
            assert_eq!(ids(&*two, filter).await, [alias], "{substring}");
        }
        let filter = Filter { ids: Some(vec![alias.to_owned()]), ..Filter::default() };
        assert_eq!(ids(&*two, filter).await, [alias]);
        assert_eq!(two.entities(&[EntityRef::new(EntityKind::Team, alias)]).await.unwrap().len(), 1);
    }
    let part = Filter { alias: some("%"), substring: true, ..Filter::default() };
    assert_eq!(ids(&*two, part).await, ["100%"]);
}
