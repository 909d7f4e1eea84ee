//! `/spend/logs`, `/spend/logs/v2`, `/spend/logs/ui`: rows, newest first, a page of them, one.

use std::collections::BTreeMap;

use attache_llm::error::ApiError;
use axum::extract::{Path, RawQuery, State};
use axum::response::Response;
use serde::Serialize;

use super::figures::dollars;
use super::pages::{self, Wanted};
use super::range::{self, Span};
use super::shown;
use super::sight::Sight;
use crate::admin::Admin;
use crate::admin::access::Actor;
use crate::admin::body::refused;
use crate::admin::edit::Paging;
use crate::admin::money::{self, Dollars};
use crate::admin::query::Query;
use crate::admin::reply::{Failure, not_found, private_json};
use crate::admin::shown::Shown;
use crate::store::{By, DailyKind, Days, RowFilter, RowSort, SumFilter, SumQuery};

const DEFAULT_ROWS: u32 = 100;
/// LiteLLM's own cap.
const MOST_ROWS: u32 = 10_000;
const PAGE: u32 = 50;
const LARGEST_PAGE: u32 = 100;
/// Keys that an alias may mean.
const MOST_ALIASES: u32 = 100;

/// Rows, newest first: all, those of a key, user or team, or one. With both dates the sums of the days, as in LiteLLM,
/// unless `summarize=false`.
pub(super) async fn logs(
    State(admin): State<Admin>,
    actor: Actor,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let mut query = Query::parse(query.as_deref());
    let limit = limit(query.take("limit"))?;
    let call_id = query.take("request_id");
    let dated = query.has("start_date") && query.has("end_date");
    let wish = query.has("summarize").then(|| query.flag("summarize")).transpose()?;
    let summary = call_id.is_none() && wish.unwrap_or(dated);
    let some = query.has("start_date") || query.has("end_date");
    let span = match summary {
        true => range::days(&mut query).map(Some)?,
        false => None,
    };
    let exact = if some && !summary { Some(Span::take(&mut query, None)?) } else { None };
    let mut filter = whose(&admin, &mut query);
    query.finish()?;
    admin.flush_soon().await;
    if let Some(call_id) = call_id {
        return detail(&admin, &actor, &call_id, &filter).await;
    }
    if let Some(days) = span {
        return summarized(&admin, &actor, filter, days).await;
    }
    if let Some(span) = exact {
        (filter.from_us, filter.until_us) = (span.from_us, Some(span.until_us));
    }
    admin.may_see_rows(&actor, &mut filter).await?;
    let wanted = Wanted { filter, sort: RowSort::Start, ascending: false, offset: 0, limit };
    let found = pages::find(&admin, wanted).await?;
    let names = shown::names(&admin, &found.rows).await?;
    Ok(private_json(&shown::rows(&found.rows, &names)))
}

/// The filters that all of these have.
fn whose(admin: &Admin, query: &mut Query) -> RowFilter {
    RowFilter {
        keys: query.take("api_key").map(|key| vec![admin.key_of(&key)]),
        user_id: query.take("user_id"),
        team_ids: query.take("team_id").map(|id| vec![id]),
        organization_ids: query.take("organization_id").map(|id| vec![id]),
        end_user: query.take("end_user"),
        ..RowFilter::default()
    }
}

/// One row with all about it, in a list as LiteLLM has it; nothing when there is none that the caller may see.
async fn detail(
    admin: &Admin,
    actor: &Actor,
    call_id: &str,
    filter: &RowFilter,
) -> Result<Response, Failure> {
    let sight = Sight::of(admin, actor).await?;
    let row = admin.state.database.row(call_id).await?;
    let row = row.filter(|row| sight.is_none_or(|sight| sight.sees(row)));
    let row = row.filter(|row| filter.keys.as_ref().is_none_or(|keys| keys.contains(&row.key)));
    let rows: Vec<_> = row.into_iter().collect();
    let names = shown::names(admin, &rows).await?;
    let mut details = Vec::with_capacity(rows.len());
    for row in &rows {
        details.push(shown::detail(admin, row, &names).await?);
    }
    Ok(private_json(&details))
}

/// One row, for LiteLLM's page of logs.
pub(super) async fn one(
    State(admin): State<Admin>,
    actor: Actor,
    Path(call_id): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let mut query = Query::parse(query.as_deref());
    // The id alone says which row it is.
    let _ = (query.take("start_date"), query.take("end_date"));
    query.finish()?;
    admin.flush_soon().await;
    let sight = Sight::of(&admin, &actor).await?;
    let row = admin.state.database.row(&call_id).await?;
    let Some(row) = row.filter(|row| sight.is_none_or(|sight| sight.sees(row))) else {
        return Err(not_found(
            "There is no such request among those that you may see.".to_owned(),
            "request_id",
        ));
    };
    let rows = [row];
    let names = shown::names(&admin, &rows).await?;
    let [row] = &rows;
    Ok(private_json(&shown::detail(&admin, row, &names).await?))
}

/// A page of rows and how many there are.
pub(super) async fn pages(
    State(admin): State<Admin>,
    actor: Actor,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let mut query = Query::parse(query.as_deref());
    let paging = Paging::of(&mut query, PAGE, LARGEST_PAGE)?;
    let (sort, ascending) = pages::order(&mut query)?;
    let span = Span::take(&mut query, None)?;
    let call_id = query.take("request_id");
    let alias = query.take("key_alias");
    let mut filter = filtered(&admin, &mut query)?;
    query.finish()?;
    (filter.from_us, filter.until_us) = (span.from_us, Some(span.until_us));
    admin.flush_soon().await;
    if let Some(alias) = alias {
        filter.keys = Some(keys_called(&admin, &alias, filter.keys.take()).await?);
    }
    admin.may_see_rows(&actor, &mut filter).await?;
    let found = match call_id {
        Some(id) => by_id(&admin, &actor, &id, &filter).await?,
        None => {
            let (offset, limit) = (paging.offset(), paging.size);
            pages::find(&admin, Wanted { filter, sort, ascending, offset, limit }).await?
        }
    };
    let names = shown::names(&admin, &found.rows).await?;
    let mut answer = Shown::default();
    answer
        .put("data", &shown::rows(&found.rows, &names))
        .put("total", &found.total)
        .put("page", &paging.page)
        .put("page_size", &paging.size)
        .put("total_pages", &paging.pages(found.total))
        .put("total_is_capped", &found.capped);
    Ok(private_json(&answer))
}

/// The filters of pages and exports.
pub(super) fn filtered(admin: &Admin, query: &mut Query) -> Result<RowFilter, ApiError> {
    let spend = |query: &mut Query, name: &'static str| -> Result<Option<i64>, ApiError> {
        let Some(text) = query.take(name) else { return Ok(None) };
        let number = text.parse::<serde_json::Number>().ok();
        let nanos = number.as_ref().and_then(money::nanos).filter(|nanos| *nanos >= 0);
        nanos.map(Some).ok_or_else(|| refused(name, "must be dollars, such as 0.05"))
    };
    let mut filter = whose(admin, query);
    filter.model = query.take("model");
    filter.model_group = query.take("model_group");
    filter.provider = query.take("custom_llm_provider");
    filter.tag = query.take("tag");
    filter.min_nanos = spend(query, "min_spend")?;
    filter.max_nanos = spend(query, "max_spend")?;
    filter.success = match query.take("status_filter").or_else(|| query.take("status")).as_deref() {
        None => None,
        Some("success") => Some(true),
        Some("failure") => Some(false),
        Some(_) => return Err(refused("status_filter", "must be success or failure")),
    };
    Ok(filter)
}

/// The keys of an alias, or of a part of one, among those that are asked for.
async fn keys_called(admin: &Admin, alias: &str, among: Option<Vec<String>>) -> Result<Vec<String>, Failure> {
    let filter = crate::store::Filter {
        kind: Some(crate::entity::EntityKind::Key),
        alias: Some(alias.to_owned()),
        substring: true,
        limit: MOST_ALIASES,
        ..crate::store::Filter::default()
    };
    let found = admin.state.database.list(&filter).await?;
    if found.total > u64::from(MOST_ALIASES) {
        return Err(refused("key_alias", &format!("fits more than {MOST_ALIASES} keys")).into());
    }
    let keys = found.entities.into_iter().map(|key| key.id);
    Ok(keys.filter(|key| among.as_ref().is_none_or(|among| among.contains(key))).collect())
}

async fn by_id(admin: &Admin, actor: &Actor, id: &str, filter: &RowFilter) -> Result<pages::Found, Failure> {
    let sight = Sight::of(admin, actor).await?;
    let row = admin.state.database.row(id).await?;
    let rows: Vec<_> = row
        .into_iter()
        .filter(|row| sight.as_ref().is_none_or(|sight| sight.sees(row)))
        .filter(|row| (filter.from_us..filter.until_us.unwrap_or(u64::MAX)).contains(&row.start_us))
        .collect();
    Ok(pages::Found { total: rows.len() as u64, rows, capped: false })
}

/// The sums of the days, one object a day with the spend of each key, user and model.
async fn summarized(
    admin: &Admin,
    actor: &Actor,
    filter: RowFilter,
    days: Days,
) -> Result<Response, Failure> {
    let mut sums = SumFilter { days, keys: filter.keys.clone(), ..SumFilter::default() };
    let named = [
        (DailyKind::User, filter.user_id.clone().map(|id| vec![id])),
        (DailyKind::Team, filter.team_ids.clone()),
        (DailyKind::Organization, filter.organization_ids.clone()),
        (DailyKind::Customer, filter.end_user.clone().map(|id| vec![id])),
    ];
    let mut named = named.into_iter().filter(|(_, ids)| ids.is_some());
    (sums.kind, sums.ids) = named.next().unwrap_or_default();
    if named.next().is_some() {
        let why = "adds up by one of user_id, team_id, organization_id and end_user: leave the others out";
        return Err(refused("summarize", why).into());
    }
    admin.may_see_sums(actor, &mut sums).await?;
    let by_key =
        SumQuery { filter: sums.clone(), by: vec![By::Day, By::Key, By::Model], ..SumQuery::default() };
    // Users are known where the sums are theirs, or everybody's.
    let users = matches!(sums.kind, DailyKind::All | DailyKind::User);
    let of_users = SumFilter { kind: DailyKind::User, ..sums };
    let by_user = SumQuery { filter: of_users, by: vec![By::Day, By::Id], ..SumQuery::default() };
    let groups = admin.sums(by_key).await?;
    let user_groups = if users { admin.sums(by_user).await? } else { Vec::new() };
    let mut by_day: BTreeMap<i64, DaySpend> = BTreeMap::new();
    for group in groups {
        let day = by_day.entry(group.day).or_default();
        day.spend += group.sums.nanos;
        *day.keys.entry(group.key).or_default() += group.sums.nanos;
        *day.models.entry(group.model).or_default() += group.sums.nanos;
    }
    for group in user_groups {
        *by_day.entry(group.day).or_default().users.entry(group.id).or_default() += group.sums.nanos;
    }
    // As in LiteLLM, days behind the last one with requests are there, empty.
    if let Some(last) = by_day.keys().next_back().copied() {
        for day in last + 1..=days.last.min(range::today()) {
            by_day.entry(day).or_default();
        }
    }
    Ok(private_json(&by_day.iter().map(|(day, sums)| sums.shown(*day)).collect::<Vec<_>>()))
}

/// Spend of a day, nano-dollars.
#[derive(Default)]
struct DaySpend {
    spend: u64,
    keys: BTreeMap<String, u64>,
    users: BTreeMap<String, u64>,
    models: BTreeMap<String, u64>,
}

/// A day as LiteLLM has it: keys beside the fields.
#[derive(Serialize)]
struct ShownDay<'a> {
    #[serde(flatten)]
    keys: BTreeMap<&'a str, Dollars>,
    #[serde(rename = "startTime")]
    start_time: String,
    spend: Dollars,
    spend_nanos: u64,
    users: BTreeMap<&'a str, Dollars>,
    models: BTreeMap<&'a str, Dollars>,
}

impl DaySpend {
    fn shown(&self, day: i64) -> ShownDay<'_> {
        fn of(sums: &BTreeMap<String, u64>) -> BTreeMap<&str, Dollars> {
            sums.iter().map(|(name, nanos)| (name.as_str(), dollars(*nanos))).collect()
        }
        ShownDay {
            keys: of(&self.keys),
            start_time: range::iso(day),
            spend: dollars(self.spend),
            spend_nanos: self.spend,
            users: of(&self.users),
            models: of(&self.models),
        }
    }
}

fn limit(text: Option<String>) -> Result<u32, ApiError> {
    let Some(text) = text else { return Ok(DEFAULT_ROWS) };
    let limit = text.parse().ok().filter(|limit| (1..=MOST_ROWS).contains(limit));
    limit.ok_or_else(|| refused("limit", "must be 1 to 10000"))
}
