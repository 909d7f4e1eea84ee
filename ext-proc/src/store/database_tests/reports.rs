//! Reports: both databases say what the double says, which adds up the rows themselves.

use super::*;
use crate::entity::double::Entities;

fn text(prefix: &str, n: u64) -> String {
    format!("{prefix}{n}")
}

/// Rows of several keys, teams, users, tags, models and days, some without a price, some failed.
fn rows() -> Vec<SpendRow> {
    let row = |n: u64| SpendRow {
        start_us: 1_700_000_000_000_000 + n % 5 * DAY_US + n % 3 * 1_000,
        duration_us: 100 + n % 11,
        prompt_tokens: n,
        completion_tokens: n % 7,
        total_tokens: n + n % 7,
        user_id: (!n.is_multiple_of(4)).then(|| text("u", n % 3)),
        team_id: (!n.is_multiple_of(6)).then(|| text("t", n % 2)),
        organization_id: n.is_multiple_of(2).then(|| "o".to_owned()),
        user: n.is_multiple_of(5).then(|| text("customer", n % 10)),
        tags: (0..n % 3).map(|tag| text("tag", tag)).collect(),
        provider_model: text("model", n % 2),
        group: text("group", n % 3),
        provider: if n.is_multiple_of(2) { "openai".into() } else { "azure".into() },
        outcome: ["success", "success", "failure", "aborted"][usize::try_from(n % 4).unwrap()].into(),
        estimated: n.is_multiple_of(9),
        ..spend(
            &format!("call{n:03}"),
            &text("key", n % 4),
            (!n.is_multiple_of(8)).then(|| i64::try_from(n * n).unwrap()),
        )
    };
    (0..120).map(row).collect()
}

async fn both(one: &dyn Database) -> Entities {
    let (double, rows) = (Entities::default(), rows());
    assert_eq!(one.write(&rows).await.unwrap(), 120);
    double.write(&rows).await.unwrap();
    double
}

fn days(first: i64, last: i64) -> Days {
    let day = i64::try_from(1_700_000_000_000_000 / DAY_US).unwrap();
    Days { first: day + first, last: day + last }
}

pub(super) async fn sums_are_those_of_the_rows(one: Arc<dyn Database>, two: Arc<dyn Database>) {
    let double = both(&*one).await;
    let some = |list: &[&str]| Some(list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
    let all = SumFilter { days: days(0, 4), ..SumFilter::default() };
    let filters = [
        SumFilter::default(),
        all.clone(),
        SumFilter { days: days(1, 2), keys: some(&["key1", "key2", "nobody"]), ..SumFilter::default() },
        SumFilter { days: days(9, 99), ..SumFilter::default() },
        SumFilter { ids: some(&["t1"]), kind: DailyKind::Team, ..all.clone() },
        SumFilter {
            ids: Some((0..40).map(|n| text("u", n)).collect()),
            kind: DailyKind::User,
            ..all.clone()
        },
        SumFilter { kind: DailyKind::Organization, model: Some("model0".into()), ..all.clone() },
        SumFilter { kind: DailyKind::Customer, provider: Some("azure".into()), ..all.clone() },
        SumFilter { kind: DailyKind::Tag, model_group: Some("group1".into()), ..all.clone() },
        SumFilter { endpoint: Some("chat".into()), ..all.clone() },
        SumFilter { ids: Some(Vec::new()), kind: DailyKind::Team, ..all },
    ];
    let groupings: [&[By]; 6] = [
        &[],
        &[By::Day],
        &[By::Id],
        &[By::Day, By::Key],
        &[By::Model, By::Provider, By::Endpoint],
        &[By::Id, By::Day, By::Key, By::Model, By::ModelGroup, By::Provider, By::Endpoint],
    ];
    for filter in &filters {
        for by in groupings {
            let query = SumQuery { filter: filter.clone(), by: by.to_vec(), ..SumQuery::default() };
            let (mut found, mut wanted) =
                (two.sums(&query).await.unwrap(), double.sums(&query).await.unwrap());
            if filter.ids.as_ref().is_some_and(Vec::is_empty) {
                wanted.clear();
            }
            let order = |group: &SumGroup| format!("{group:?}");
            found.sort_by_key(order);
            wanted.sort_by_key(order);
            assert_eq!(found, wanted, "{query:?}");
        }
    }
    let top = SumQuery { by: vec![By::Key], limit: Some(2), ..SumQuery::default() };
    let found = two.sums(&top).await.unwrap();
    assert_eq!(found, double.sums(&top).await.unwrap());
    let rank_only = |group: &SumGroup| {
        let sums =
            DailySums { requests: group.sums.requests, nanos: group.sums.nanos, ..DailySums::default() };
        SumGroup { sums, ..group.clone() }
    };
    let ranked = two.sums(&SumQuery { rank_only: true, ..top }).await.unwrap();
    assert_eq!(ranked, found.iter().map(rank_only).collect::<Vec<_>>());
    let in_order = SumQuery { by: vec![By::Day], ..SumQuery::default() };
    let found: Vec<i64> = two.sums(&in_order).await.unwrap().iter().map(|group| group.day).collect();
    assert!(found.is_sorted() && found.len() == 5, "{found:?}");
}

pub(super) async fn rows_are_filtered_sorted_and_paged(one: Arc<dyn Database>, two: Arc<dyn Database>) {
    let double = both(&*one).await;
    let some = |list: &[&str]| Some(list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
    let none = RowFilter::default;
    let from = 1_700_000_000_000_000;
    let filters = [
        none(),
        RowFilter { from_us: from + DAY_US, until_us: Some(from + 2 * DAY_US + 1), ..none() },
        RowFilter { keys: some(&["key1", "key3"]), ..none() },
        RowFilter { keys: Some((0..40).map(|n| text("key", n * 2)).collect()), ..none() },
        RowFilter { user_id: Some("u1".into()), success: Some(true), ..none() },
        RowFilter { team_ids: some(&["t0"]), success: Some(false), ..none() },
        RowFilter { organization_ids: some(&["o"]), model: Some("model0".into()), ..none() },
        RowFilter { end_user: Some("customer5".into()), provider: Some("azure".into()), ..none() },
        RowFilter { tag: Some("tag1".into()), model_group: Some("group2".into()), ..none() },
        RowFilter { tag: Some("tag".into()), ..none() },
        RowFilter { min_nanos: Some(100), max_nanos: Some(2_500), ..none() },
        RowFilter { keys: Some(Vec::new()), ..none() },
    ];
    for filter in filters {
        for most in [7, 1_000] {
            let (found, wanted) = (two.count(&filter, most).await, double.count(&filter, most).await);
            assert_eq!(found.unwrap(), wanted.unwrap(), "{filter:?}");
        }
        for sort in [RowSort::Start, RowSort::Spend, RowSort::Tokens, RowSort::Duration] {
            for (ascending, offset, limit) in [(false, 0, 1_000), (true, 3, 10), (false, 7, 5)] {
                let query = RowQuery { filter: filter.clone(), sort, ascending, after: None, offset, limit };
                let found: Vec<_> = ids(two.page(&query).await.unwrap());
                assert_eq!(found, ids(double.page(&query).await.unwrap()), "{query:?}");
            }
        }
    }
}

fn ids(rows: Vec<SpendRow>) -> Vec<String> {
    rows.into_iter().map(|row| row.call_id).collect()
}

pub(super) async fn batches_go_on_where_the_last_one_ended(one: Arc<dyn Database>, two: Arc<dyn Database>) {
    both(&*one).await;
    for ascending in [true, false] {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let filter = RowFilter { keys: Some(vec!["key1".into(), "key2".into()]), ..RowFilter::default() };
            let query = RowQuery { filter, ascending, after, limit: 7, ..RowQuery::default() };
            let rows = two.page(&query).await.unwrap();
            let Some(last) = rows.last() else { break };
            after = Some((last.start_us, last.call_id.clone()));
            seen.extend(rows.into_iter().map(|row| (row.start_us, row.call_id)));
        }
        assert_eq!(seen.len(), 60, "many rows have the same start");
        if !ascending {
            seen.reverse();
        }
        assert!(seen.is_sorted());
        seen.dedup();
        assert_eq!(seen.len(), 60);
    }
}
