//! `*/spend/report`: LiteLLM's reports of teams, customers, keys, users and organisations, and one of Attaché's own by
//! whatever is asked for.

use std::collections::BTreeMap;

use attache_llm::error::ApiError;
use axum::extract::{RawQuery, State};
use axum::response::Response;

use super::figures::{Metrics, Names, dollars, entity_kind, tokens};
use super::range;
use super::totals::limit;
use crate::admin::Admin;
use crate::admin::access::Actor;
use crate::admin::body::refused;
use crate::admin::query::Query;
use crate::admin::reply::{Failure, private_json};
use crate::admin::shown::Shown;
use crate::entity::EntityKind;
use crate::store::{By, DailyKind, DailySums, SumFilter, SumGroup, SumQuery};

/// Groups of one report; beyond, the days or filters have to be narrower.
const MOST_GROUPS: u32 = 100_000;

/// Filters by whom sums are kept: one of them at a time.
fn whose(query: &mut Query, filter: &mut SumFilter) -> Result<(), ApiError> {
    let names: [(&'static str, DailyKind); 6] = [
        ("team_id", DailyKind::Team),
        ("user_id", DailyKind::User),
        ("internal_user_id", DailyKind::User),
        ("organization_id", DailyKind::Organization),
        ("customer_id", DailyKind::Customer),
        ("tag", DailyKind::Tag),
    ];
    for (name, kind) in names {
        let Some(id) = query.take(name) else { continue };
        if filter.ids.is_some() || (filter.kind != DailyKind::All && filter.kind != kind) {
            let why = "cannot be combined with another team, user, organization, customer or tag: sums are kept by \
                 one of them. /spend/logs/v2 has the rows";
            return Err(refused(name, why));
        }
        (filter.kind, filter.ids) = (kind, Some(vec![id]));
    }
    Ok(())
}

fn rest(admin: &Admin, query: &mut Query, filter: &mut SumFilter) {
    filter.keys = query.take("api_key").map(|key| vec![admin.key_of(&key)]);
    filter.model = query.take("model");
    filter.model_group = query.take("model_group");
    filter.provider = query.take("custom_llm_provider");
    filter.endpoint = query.take("endpoint");
}

async fn groups(admin: &Admin, filter: SumFilter, by: Vec<By>) -> Result<Vec<SumGroup>, Failure> {
    let mut groups =
        admin.sums(SumQuery { filter, by, limit: Some(MOST_GROUPS + 1), ..SumQuery::default() }).await?;
    if groups.len() > MOST_GROUPS as usize {
        let why = format!("has more than {MOST_GROUPS} parts: narrow the days or the filters");
        return Err(refused("start_date", &why).into());
    }
    groups.sort_by(|a, b| (a.day, &a.id).cmp(&(b.day, &b.id)));
    Ok(groups)
}

/// `/global/spend/report?group_by=team|customer|api_key`.
pub(super) async fn global(
    State(admin): State<Admin>,
    actor: Actor,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let mut query = Query::parse(query.as_deref());
    let days = range::days(&mut query)?;
    let group_by = query.take("group_by");
    let mut filter = SumFilter { days, ..SumFilter::default() };
    filter.keys = query.take("api_key").map(|key| vec![admin.key_of(&key)]);
    let by_key = filter.keys.is_some() && group_by.is_none();
    match group_by.as_deref() {
        None | Some("team") if !by_key => filter.kind = DailyKind::Team,
        Some("customer") => filter.kind = DailyKind::Customer,
        None | Some("api_key") => {}
        Some(_) => return Err(refused("group_by", "must be team, customer or api_key").into()),
    }
    let kind = filter.kind;
    if query.has("internal_user_id") && group_by.is_none() {
        filter.kind = DailyKind::All;
    }
    whose(&mut query, &mut filter)?;
    query.finish()?;
    admin.flush_soon().await;
    admin.may_see_sums(&actor, &mut filter).await?;
    match filter.kind {
        DailyKind::Team | DailyKind::Customer if filter.kind == kind => by_days(&admin, filter).await,
        _ => by_keys(&admin, filter).await,
    }
}

/// Day by day the teams (or customers), each with its keys and models.
async fn by_days(admin: &Admin, filter: SumFilter) -> Result<Response, Failure> {
    let team = filter.kind == DailyKind::Team;
    let by = vec![By::Day, By::Id, By::Key, By::Model];
    let groups = groups(admin, filter, by).await?;
    let wanted = groups.iter().filter(|_| team).map(|group| (EntityKind::Team, group.id.clone()));
    let names = Names::of(admin, wanted).await?;
    let mut days: BTreeMap<i64, BTreeMap<&str, Vec<&SumGroup>>> = BTreeMap::new();
    for group in &groups {
        days.entry(group.day).or_default().entry(&group.id).or_default().push(group);
    }
    let one = |(id, parts): (&&str, &Vec<&SumGroup>)| {
        let mut sums = DailySums::default();
        parts.iter().for_each(|part| sums.add(&part.sums));
        let mut shown = Shown::default();
        match team {
            true => {
                shown.put("team_name", &names.alias(EntityKind::Team, id).unwrap_or(id)).put("team_id", id)
            }
            false => shown.put("customer", id),
        };
        shown
            .put("total_spend", &dollars(sums.nanos))
            .put("total_spend_nanos", &sums.nanos)
            .put("metadata", &parts.iter().map(|part| key_and_model(part)).collect::<Vec<_>>());
        shown
    };
    let day = |(day, parts): (&i64, &BTreeMap<&str, Vec<&SumGroup>>)| {
        let mut shown = Shown::default();
        shown.put("group_by_day", &format!("{}T00:00:00+00:00", range::iso(*day)));
        shown.put(if team { "teams" } else { "customers" }, &parts.iter().map(one).collect::<Vec<_>>());
        shown
    };
    Ok(private_json(&days.iter().map(day).collect::<Vec<_>>()))
}

fn key_and_model(group: &SumGroup) -> Shown {
    let mut shown = Shown::default();
    shown
        .put("model", &group.model)
        .put("api_key", &group.key)
        .put("spend", &dollars(group.sums.nanos))
        .put("spend_nanos", &group.sums.nanos)
        .put("total_tokens", &tokens(&group.sums));
    shown
}

/// Keys, the largest spend first, each with its models.
async fn by_keys(admin: &Admin, filter: SumFilter) -> Result<Response, Failure> {
    let groups = groups(admin, filter, vec![By::Key, By::Model]).await?;
    let mut keys: BTreeMap<&str, (DailySums, Vec<Shown>)> = BTreeMap::new();
    for group in &groups {
        let (sums, models) = keys.entry(&group.key).or_default();
        sums.add(&group.sums);
        let mut model = Shown::default();
        model.put("model", &group.model);
        costs(&mut model, &group.sums);
        models.push(model);
    }
    let mut ordered: Vec<_> = keys.into_iter().collect();
    ordered.sort_by_key(|(_, (sums, _))| std::cmp::Reverse(sums.nanos));
    let row = |(key, (sums, models)): &(&str, (DailySums, Vec<Shown>))| {
        let mut shown = Shown::default();
        shown.put("api_key", key);
        costs(&mut shown, sums);
        shown.put("model_details", models);
        shown
    };
    Ok(private_json(&ordered.iter().map(row).collect::<Vec<_>>()))
}

fn costs(shown: &mut Shown, sums: &DailySums) {
    shown
        .put("total_cost", &dollars(sums.nanos))
        .put("total_cost_nanos", &sums.nanos)
        .put("total_input_tokens", &sums.prompt_tokens)
        .put("total_output_tokens", &sums.completion_tokens)
        .put("requests", &sums.requests)
        .put("unpriced_requests", &sums.unpriced);
}

pub(super) async fn of_keys(admin: State<Admin>, actor: Actor, query: RawQuery) -> Result<Response, Failure> {
    of(admin, actor, query, DailyKind::All).await
}

pub(super) async fn of_users(
    admin: State<Admin>,
    actor: Actor,
    query: RawQuery,
) -> Result<Response, Failure> {
    of(admin, actor, query, DailyKind::User).await
}

pub(super) async fn of_teams(
    admin: State<Admin>,
    actor: Actor,
    query: RawQuery,
) -> Result<Response, Failure> {
    of(admin, actor, query, DailyKind::Team).await
}

pub(super) async fn of_organizations(
    admin: State<Admin>,
    actor: Actor,
    query: RawQuery,
) -> Result<Response, Failure> {
    of(admin, actor, query, DailyKind::Organization).await
}

/// The keys of one team, user, ...; of the caller's without an id.
async fn of(
    State(admin): State<Admin>,
    actor: Actor,
    RawQuery(query): RawQuery,
    kind: DailyKind,
) -> Result<Response, Failure> {
    let mut query = Query::parse(query.as_deref());
    let mut filter = SumFilter { kind, days: range::days(&mut query)?, ..SumFilter::default() };
    whose(&mut query, &mut filter)?;
    rest(&admin, &mut query, &mut filter);
    query.finish()?;
    // Of keys without a name the one that asks is meant.
    if kind == DailyKind::All && filter.ids.is_none() && filter.keys.is_none() && !actor.all() {
        filter.keys = Some(actor.key_id().map(str::to_owned).into_iter().collect());
    }
    admin.flush_soon().await;
    admin.may_see_sums(&actor, &mut filter).await?;
    by_keys(&admin, filter).await
}

/// What `/spend/report` is grouped by.
fn grouped(by: Option<&str>) -> Result<(DailyKind, By), ApiError> {
    Ok(match by {
        Some("key") => (DailyKind::All, By::Key),
        Some("user") => (DailyKind::User, By::Id),
        Some("team") => (DailyKind::Team, By::Id),
        Some("organization") => (DailyKind::Organization, By::Id),
        Some("customer") => (DailyKind::Customer, By::Id),
        Some("tag") => (DailyKind::Tag, By::Id),
        Some("model") => (DailyKind::All, By::Model),
        Some("model_group") => (DailyKind::All, By::ModelGroup),
        Some("provider") => (DailyKind::All, By::Provider),
        Some("endpoint") => (DailyKind::All, By::Endpoint),
        _ => {
            let names =
                "key, user, team, organization, customer, tag, model, model_group, provider, endpoint";
            return Err(refused("by", &format!("must be one of: {names}")));
        }
    })
}

/// How days are put together.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Period {
    All,
    Day,
    Month,
}

/// `/spend/report?by=...&group_by=day|month`: who or what spent most.
pub(super) async fn own(
    State(admin): State<Admin>,
    actor: Actor,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let mut query = Query::parse(query.as_deref());
    let days = range::days(&mut query)?;
    let (kind, by) = grouped(query.take("by").as_deref())?;
    let period = match query.take("group_by").as_deref() {
        None => Period::All,
        Some("day") => Period::Day,
        Some("month") => Period::Month,
        Some(_) => return Err(refused("group_by", "must be day or month").into()),
    };
    let most = limit(&mut query, 100)?;
    let mut filter = SumFilter { kind, days, ..SumFilter::default() };
    whose(&mut query, &mut filter)?;
    rest(&admin, &mut query, &mut filter);
    query.finish()?;
    admin.flush_soon().await;
    admin.may_see_sums(&actor, &mut filter).await?;
    // Those with the largest spend over the whole time, then their days.
    let top = SumQuery { filter: filter.clone(), by: vec![by], limit: Some(most), ..SumQuery::default() };
    let total = SumQuery { filter: filter.clone(), ..SumQuery::default() };
    let (top, total) = tokio::try_join!(admin.sums(top), admin.sums(total))?;
    let entity =
        if by == By::Key { Some(EntityKind::Key) } else { entity_kind(kind).filter(|_| by == By::Id) };
    let wanted = top.iter().filter_map(|group| Some((entity?, name_of(group, by).to_owned())));
    let names = Names::of(&admin, wanted.collect::<Vec<_>>()).await?;
    let rows = match period {
        Period::All => top.iter().map(|group| row(group, by, entity, &names)).collect(),
        _ => over_time(&admin, filter, by, period, &top, &|group| row(group, by, entity, &names)).await?,
    };
    let total = total.first().map(|group| group.sums).unwrap_or_default();
    let mut answer = Shown::default();
    answer
        .put("start_date", &range::iso(days.first))
        .put("end_date", &range::iso(days.last))
        .put("results", &rows)
        .put("total", &Metrics::from(&total));
    if kind == DailyKind::Tag {
        answer.put("note", "A request counts once for each of its tags.");
    }
    Ok(private_json(&answer))
}

fn name_of(group: &SumGroup, by: By) -> &str {
    match by {
        By::Id | By::Day => &group.id,
        By::Key => &group.key,
        By::Model => &group.model,
        By::ModelGroup => &group.model_group,
        By::Provider => &group.provider,
        By::Endpoint => &group.endpoint,
    }
}

fn row(group: &SumGroup, by: By, entity: Option<EntityKind>, names: &Names) -> Shown {
    let id = name_of(group, by);
    let mut shown = Shown::default();
    shown
        .put("id", id)
        .put("name", &entity.and_then(|kind| names.alias(kind, id)))
        .put("metrics", &Metrics::from(&group.sums));
    shown
}

/// The days or months of those groups, in order.
async fn over_time(
    admin: &Admin,
    mut filter: SumFilter,
    by: By,
    period: Period,
    top: &[SumGroup],
    row: &(dyn Fn(&SumGroup) -> Shown + Sync),
) -> Result<Vec<Shown>, Failure> {
    let names: Vec<String> = top.iter().map(|group| name_of(group, by).to_owned()).collect();
    match by {
        By::Id => filter.ids = Some(names.clone()),
        By::Key => filter.keys = Some(names.clone()),
        _ => {}
    }
    let days = groups(admin, filter, vec![By::Day, by]).await?;
    let mut periods: BTreeMap<(String, usize), SumGroup> = BTreeMap::new();
    for group in days {
        let Some(at) = names.iter().position(|name| name == name_of(&group, by)) else { continue };
        let date = if period == Period::Day { range::iso(group.day) } else { range::month(group.day) };
        let known = periods
            .entry((date, at))
            .or_insert_with(|| SumGroup { sums: DailySums::default(), ..group.clone() });
        known.sums.add(&group.sums);
    }
    let shown = |((date, _), group): (&(String, usize), &SumGroup)| {
        let mut shown = Shown::default();
        shown.put("date", date).append(row(group));
        shown
    };
    Ok(periods.iter().map(shown).collect())
}
