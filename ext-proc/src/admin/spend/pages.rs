//! Rows page by page, out of any number of them: the sums of the days tell how many rows there are and in which days a
//! page lies, so that nobody counts rows or skips millions of them.

use attache_llm::error::ApiError;

use super::range::{self, Span};
use crate::admin::Admin;
use crate::admin::body::refused;
use crate::admin::reply::Failure;
use crate::routing::now_ms;
use crate::store::{
    By, DailyKind, DailySums, Days, Reports, RowFilter, RowQuery, RowSort, SpendRow, SumFilter, SumQuery,
};

/// Rows are counted one by one up to here.
const MOST_COUNTED: u32 = 10_000;
/// Rows that are sorted by something without an index.
const MOST_SORTED: u64 = 100_000;
/// Keys by which rows of somebody are found who is in no index.
const FEW_KEYS: u32 = 16;

/// Which rows, in which order.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub filter: RowFilter,
    pub sort: RowSort,
    pub ascending: bool,
    pub offset: u64,
    pub limit: u32,
}

/// A page, and how many rows there are.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub rows: Vec<SpendRow>,
    pub total: u64,
    /// There may be more than `total` (rows were counted up to a limit), or, after old rows were dropped, fewer.
    pub capped: bool,
}

/// A day with rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Day {
    day: i64,
    rows: u64,
}

/// Finds a page.
pub(super) async fn find(admin: &Admin, mut wanted: Wanted) -> Result<Found, Failure> {
    let database = &*admin.state.database;
    let (sums, exact) = sums_of(&wanted.filter);
    let mut days = days(admin, &sums, wanted.filter.success).await?;
    let possible: u64 = days.iter().map(|day| day.rows).sum();
    if wanted.sort != RowSort::Start && possible > MOST_SORTED {
        let why = format!(
            "sorts {MOST_SORTED} rows at most, these are {possible}: narrow the dates or the filters"
        );
        return Err(refused("sort_by", &why).into());
    }
    let (Some(first), Some(last)) = (days.first().copied(), days.last().copied()) else {
        return Ok(Found::default());
    };
    wanted.filter.from_us = wanted.filter.from_us.max(range::start_of(first.day));
    let end = range::start_of(last.day + 1);
    wanted.filter.until_us = Some(wanted.filter.until_us.map_or(end, |until| until.min(end)));
    few_keys(admin, &sums, &mut wanted.filter).await?;
    if !exact || wanted.sort != RowSort::Start {
        return counted(database, wanted, exact.then_some(possible)).await;
    }
    let capped = recount_edges(database, &wanted.filter, &mut days).await?;
    let total = days.iter().map(|day| day.rows).sum();
    let rows =
        if capped { database.page(&wanted.query()).await? } else { within(database, &wanted, &days).await? };
    Ok(Found { rows, total, capped })
}

impl Wanted {
    fn query(&self) -> RowQuery {
        RowQuery {
            filter: self.filter.clone(),
            sort: self.sort,
            ascending: self.ascending,
            after: None,
            offset: self.offset,
            limit: self.limit,
        }
    }
}

/// The sums whose requests are these rows; false: the rows are some of them.
fn sums_of(filter: &RowFilter) -> (SumFilter, bool) {
    let one = |id: &Option<String>| id.as_ref().map(|id| vec![id.clone()]);
    let named = [
        (DailyKind::User, one(&filter.user_id)),
        (DailyKind::Customer, one(&filter.end_user)),
        (DailyKind::Tag, one(&filter.tag)),
        (DailyKind::Team, filter.team_ids.clone()),
        (DailyKind::Organization, filter.organization_ids.clone()),
    ];
    let mut named = named.into_iter().filter_map(|(kind, ids)| Some((kind, Some(ids?))));
    let (kind, ids) = named.next().unwrap_or((DailyKind::All, None));
    let exact = named.next().is_none() && filter.min_nanos.is_none() && filter.max_nanos.is_none();
    let span = Span { from_us: filter.from_us, until_us: filter.until_us.unwrap_or(u64::MAX) };
    let sums = SumFilter {
        kind,
        ids,
        days: span.days(),
        keys: filter.keys.clone(),
        model: filter.model.clone(),
        model_group: filter.model_group.clone(),
        provider: filter.provider.clone(),
        endpoint: None,
    };
    (sums, exact)
}

/// Days with rows, in order. Of those whose rows were dropped nothing is left but the sums.
async fn days(admin: &Admin, sums: &SumFilter, success: Option<bool>) -> Result<Vec<Day>, Failure> {
    let query = SumQuery { filter: sums.clone(), by: vec![By::Day], ..SumQuery::default() };
    let oldest = RowQuery {
        filter: RowFilter { from_us: range::start_of(sums.days.first), ..RowFilter::default() },
        ascending: true,
        limit: 1,
        ..RowQuery::default()
    };
    let database = &*admin.state.database;
    let (found, oldest) = tokio::try_join!(database.sums(&query), database.page(&oldest))?;
    let oldest = oldest.first().map_or(i64::MAX, |row| range::day_of_us(row.start_us));
    let rows = |sums: &DailySums| match success {
        None => sums.requests,
        Some(true) => sums.successes,
        Some(false) => sums.requests.saturating_sub(sums.successes),
    };
    let days = found.iter().map(|group| Day { day: group.day, rows: rows(&group.sums) });
    Ok(days.filter(|day| day.rows > 0 && day.day >= oldest).collect())
}

/// Rows are in order of time by key, team and user. Those of others are found by the keys that they used, if these are
/// few.
async fn few_keys(admin: &Admin, sums: &SumFilter, filter: &mut RowFilter) -> Result<(), Failure> {
    let unindexed = matches!(sums.kind, DailyKind::Organization | DailyKind::Customer | DailyKind::Tag);
    if !unindexed || filter.keys.is_some() {
        return Ok(());
    }
    let query =
        SumQuery { filter: sums.clone(), by: vec![By::Key], limit: Some(FEW_KEYS + 1), rank_only: true };
    let keys = admin.state.database.sums(&query).await?;
    if keys.len() <= FEW_KEYS as usize {
        filter.keys = Some(keys.into_iter().map(|group| group.key).collect());
    }
    Ok(())
}

/// Rows that have to be looked at to be counted.
async fn counted(
    database: &(impl Reports + ?Sized),
    wanted: Wanted,
    known: Option<u64>,
) -> Result<Found, Failure> {
    let rows = database.page(&wanted.query()).await?;
    let here = rows.len() as u64;
    if let Some(total) = known.filter(|_| whole_days(&wanted.filter)) {
        return Ok(Found { rows, total, capped: false });
    }
    // The last page knows how many there are.
    if here < u64::from(wanted.limit) && (here > 0 || wanted.offset == 0) {
        return Ok(Found { rows, total: wanted.offset + here, capped: false });
    }
    let total = database.count(&wanted.filter, MOST_COUNTED + 1).await?;
    let capped = total > u64::from(MOST_COUNTED);
    let total = if capped { total.max(wanted.offset + here) } else { total };
    Ok(Found { rows, total, capped })
}

fn whole_days(filter: &RowFilter) -> bool {
    let whole = |us: u64| us == range::start_of(range::day_of_us(us));
    whole(filter.from_us) && filter.until_us.is_none_or(whole)
}

/// The first and the last day may be wanted in part: their rows are counted. True: one has too many for that.
async fn recount_edges(
    database: &(impl Reports + ?Sized),
    filter: &RowFilter,
    days: &mut [Day],
) -> Result<bool, Failure> {
    let now = now_ms().saturating_mul(1_000);
    let until = filter.until_us.unwrap_or(u64::MAX);
    let mut capped = false;
    let last = days.len().saturating_sub(1);
    for (at, day) in days.iter_mut().enumerate().filter(|(at, _)| *at == 0 || *at == last) {
        let (begin, end) = (range::start_of(day.day), range::start_of(day.day + 1));
        let starts_late = at == 0 && filter.from_us > begin;
        // Nothing is there yet that began after now.
        let ends_early = at == last && until < end && until < now;
        if !starts_late && !ends_early {
            continue;
        }
        let part = RowFilter {
            from_us: filter.from_us.max(begin),
            until_us: Some(until.min(end)),
            ..filter.clone()
        };
        let rows = database.count(&part, MOST_COUNTED + 1).await?;
        capped |= rows > u64::from(MOST_COUNTED);
        day.rows = if rows > u64::from(MOST_COUNTED) { day.rows } else { rows };
    }
    Ok(capped)
}

/// The page within the days that it lies in.
async fn within(
    database: &(impl Reports + ?Sized),
    wanted: &Wanted,
    days: &[Day],
) -> Result<Vec<SpendRow>, Failure> {
    let ordered: Vec<Day> =
        if wanted.ascending { days.to_vec() } else { days.iter().rev().copied().collect() };
    let Some((part, offset)) = part(&ordered, wanted.offset, wanted.limit) else { return Ok(Vec::new()) };
    let mut query = wanted.query();
    query.offset = offset;
    query.filter.from_us = query.filter.from_us.max(range::start_of(part.first));
    let end = range::start_of(part.last + 1);
    query.filter.until_us = Some(query.filter.until_us.map_or(end, |until| until.min(end)));
    Ok(database.page(&query).await?)
}

/// The days in which a page lies, and where it begins in them. `None`: behind the last row.
fn part(ordered: &[Day], mut offset: u64, limit: u32) -> Option<(Days, u64)> {
    let mut rest = ordered;
    while let Some((day, others)) = rest.split_first().filter(|(day, _)| offset >= day.rows) {
        offset -= day.rows;
        rest = others;
    }
    let from = rest.first()?.day;
    let mut rows = 0_u64;
    let mut to = from;
    for day in rest {
        to = day.day;
        rows = rows.saturating_add(day.rows);
        if rows >= offset.saturating_add(u64::from(limit)) {
            break;
        }
    }
    Some((Days { first: from.min(to), last: from.max(to) }, offset))
}

/// Takes LiteLLM's `sort_by` and `sort_order`.
///
/// # Errors
/// 400 naming the parameter.
pub(super) fn order(query: &mut crate::admin::query::Query) -> Result<(RowSort, bool), ApiError> {
    let sort = match query.take("sort_by").as_deref() {
        None | Some("startTime" | "endTime" | "start_time") => RowSort::Start,
        Some("spend") => RowSort::Spend,
        Some("total_tokens") => RowSort::Tokens,
        Some("request_duration_ms") => RowSort::Duration,
        Some(_) => {
            return Err(refused("sort_by", "must be startTime, spend, total_tokens or request_duration_ms"));
        }
    };
    match query.take("sort_order").as_deref() {
        None | Some("desc") => Ok((sort, false)),
        Some("asc") => Ok((sort, true)),
        Some(_) => Err(refused("sort_order", "must be asc or desc")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_lies_in_few_days() {
        let days = [(9, 5), (7, 1), (6, 0), (3, 10)].map(|(day, rows)| Day { day, rows });
        let found = |offset, limit| part(&days, offset, limit).map(|(days, at)| (days.first, days.last, at));
        assert_eq!(found(0, 5), Some((9, 9, 0)));
        assert_eq!(found(0, 6), Some((7, 9, 0)));
        assert_eq!(found(5, 1), Some((7, 7, 0)));
        assert_eq!(found(4, 3), Some((3, 9, 4)));
        assert_eq!(found(6, 3), Some((3, 3, 0)));
        assert_eq!(found(15, 100), Some((3, 3, 9)));
        assert_eq!(found(16, 1), None);
        assert_eq!(part(&[], 0, 1), None);
    }

    #[test]
    fn some_filters_are_sums_and_some_are_not() {
        let team = RowFilter { team_ids: Some(vec!["t".into()]), ..RowFilter::default() };
        let (sums, exact) = sums_of(&team);
        assert_eq!((sums.kind, sums.ids, exact), (DailyKind::Team, Some(vec!["t".into()]), true));
        let (sums, exact) = sums_of(&RowFilter { user_id: Some("u".into()), ..team.clone() });
        assert_eq!((sums.kind, exact), (DailyKind::User, false));
        assert!(!sums_of(&RowFilter { min_nanos: Some(1), ..team }).1);
        assert!(sums_of(&RowFilter { keys: Some(Vec::new()), ..RowFilter::default() }).1);
    }
}
