//! The double's reports, from its rows: slow, and obviously right.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;

use super::Entities;
use crate::store::{
    By, DAY_US, DailyKind, DailySums, Reports, RowFilter, RowQuery, RowSort, SpendRow, StoreError, SumFilter,
    SumGroup, SumQuery,
};

#[async_trait]
impl Reports for Entities {
    async fn sums(&self, query: &SumQuery) -> Result<Vec<SumGroup>, StoreError> {
        self.check()?;
        let mut groups: BTreeMap<(String, i64, [String; 5]), SumGroup> = BTreeMap::new();
        for row in self.rows.lock().values() {
            for id in ids(row, query.filter.kind) {
                let group = group(row, &id);
                if matches(&group, &query.filter) {
                    let shown = only(group, &query.by);
                    let key =
                        [&shown.key, &shown.model, &shown.model_group, &shown.provider, &shown.endpoint]
                            .map(Clone::clone);
                    let known = groups
                        .entry((shown.id.clone(), shown.day, key))
                        .or_insert_with(|| SumGroup { sums: DailySums::default(), ..shown.clone() });
                    known.sums.add(&shown.sums);
                }
            }
        }
        // One group of everything is there without rows, too.
        if groups.is_empty() && query.by.is_empty() {
            return Ok(vec![SumGroup::default()]);
        }
        let mut groups: Vec<SumGroup> = groups.into_values().collect();
        if let Some(limit) = query.limit {
            groups.sort_by_key(|group| std::cmp::Reverse((group.sums.nanos, group.sums.requests)));
            groups.truncate(limit as usize);
        }
        Ok(groups)
    }

    async fn page(&self, query: &RowQuery) -> Result<Vec<SpendRow>, StoreError> {
        self.check()?;
        let mut rows: Vec<SpendRow> =
            self.rows.lock().values().filter(|row| wanted(row, &query.filter)).cloned().collect();
        rows.sort_by(|a, b| {
            let order = match query.sort {
                RowSort::Start => std::cmp::Ordering::Equal,
                RowSort::Spend => a.cost_nanos.cmp(&b.cost_nanos),
                RowSort::Tokens => a.total_tokens.cmp(&b.total_tokens),
                RowSort::Duration => a.duration_us.cmp(&b.duration_us),
            };
            let order = order.then_with(|| (a.start_us, &a.call_id).cmp(&(b.start_us, &b.call_id)));
            if query.ascending { order } else { order.reverse() }
        });
        if let Some((start, call)) = &query.after {
            let beyond = |row: &SpendRow| {
                let (row, after) = ((row.start_us, &row.call_id), (*start, call));
                if query.ascending { row > after } else { row < after }
            };
            rows.retain(beyond);
        }
        let offset = usize::try_from(query.offset).unwrap_or(usize::MAX);
        Ok(rows.into_iter().skip(offset).take(query.limit as usize).collect())
    }

    async fn count(&self, filter: &RowFilter, most: u32) -> Result<u64, StoreError> {
        self.check()?;
        let rows = self.rows.lock();
        Ok(rows.values().filter(|row| wanted(row, filter)).take(most as usize).count() as u64)
    }
}

fn ids(row: &SpendRow, kind: DailyKind) -> BTreeSet<String> {
    let one = |id: &Option<String>| id.iter().cloned().collect();
    match kind {
        DailyKind::All => BTreeSet::from([String::new()]),
        DailyKind::User => one(&row.user_id),
        DailyKind::Team => one(&row.team_id),
        DailyKind::Organization => one(&row.organization_id),
        DailyKind::Customer => one(&row.user),
        DailyKind::Tag => row.tags.iter().cloned().collect(),
    }
}

fn group(row: &SpendRow, id: &str) -> SumGroup {
    let is = |outcome: &str| u64::from(row.outcome == outcome);
    SumGroup {
        id: id.to_owned(),
        day: i64::try_from(row.start_us / DAY_US).unwrap(),
        key: row.key.clone(),
        model: row.provider_model.clone(),
        model_group: row.group.clone(),
        provider: row.provider.clone(),
        endpoint: row.endpoint.clone(),
        sums: DailySums {
            requests: 1,
            successes: is("success"),
            failures: is("failure"),
            prompt_tokens: row.prompt_tokens,
            completion_tokens: row.completion_tokens,
            cached_tokens: row.cached_tokens,
            cache_write_tokens: row.cache_write_tokens,
            nanos: u64::try_from(row.cost_nanos.unwrap_or(0)).unwrap(),
            unpriced: u64::from(row.cost_nanos.is_none()),
            estimated: u64::from(row.estimated),
            duration_us: row.duration_us,
        },
    }
}

fn matches(group: &SumGroup, filter: &SumFilter) -> bool {
    let among =
        |list: &Option<Vec<String>>, value: &String| list.as_ref().is_none_or(|list| list.contains(value));
    let same = |wanted: &Option<String>, value: &String| wanted.as_ref().is_none_or(|wanted| wanted == value);
    among(&filter.ids, &group.id)
        && among(&filter.keys, &group.key)
        && (filter.days.first..=filter.days.last).contains(&group.day)
        && same(&filter.model, &group.model)
        && same(&filter.model_group, &group.model_group)
        && same(&filter.provider, &group.provider)
        && same(&filter.endpoint, &group.endpoint)
}

/// Without what it is not grouped by.
fn only(group: SumGroup, by: &[By]) -> SumGroup {
    let keep = |wanted: By, text: String| if by.contains(&wanted) { text } else { String::new() };
    SumGroup {
        id: keep(By::Id, group.id),
        day: if by.contains(&By::Day) { group.day } else { 0 },
        key: keep(By::Key, group.key),
        model: keep(By::Model, group.model),
        model_group: keep(By::ModelGroup, group.model_group),
        provider: keep(By::Provider, group.provider),
        endpoint: keep(By::Endpoint, group.endpoint),
        sums: group.sums,
    }
}

fn wanted(row: &SpendRow, filter: &RowFilter) -> bool {
    let among = |list: &Option<Vec<String>>, value: Option<&String>| {
        list.as_ref().is_none_or(|list| value.is_some_and(|value| list.contains(value)))
    };
    let same = |wanted: &Option<String>, value: Option<&String>| wanted.is_none() || wanted.as_ref() == value;
    let cost = |holds: &dyn Fn(i64) -> bool| row.cost_nanos.is_some_and(holds);
    row.start_us >= filter.from_us
        && filter.until_us.is_none_or(|until| row.start_us < until)
        && among(&filter.keys, Some(&row.key))
        && same(&filter.user_id, row.user_id.as_ref())
        && among(&filter.team_ids, row.team_id.as_ref())
        && among(&filter.organization_ids, row.organization_id.as_ref())
        && same(&filter.end_user, row.user.as_ref())
        && filter.tag.as_ref().is_none_or(|tag| row.tags.contains(tag))
        && same(&filter.model, Some(&row.provider_model))
        && same(&filter.model_group, Some(&row.group))
        && same(&filter.provider, Some(&row.provider))
        && filter.success.is_none_or(|success| success == (row.outcome == "success"))
        && filter.min_nanos.is_none_or(|least| cost(&|nanos| nanos >= least))
        && filter.max_nanos.is_none_or(|most| cost(&|nanos| nanos <= most))
}
