//! `/global/spend/*` and `/spend/tags`: sums of the last thirty days, or of the days that are asked for.

use std::collections::{BTreeMap, BTreeSet};

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{RawQuery, State};
use axum::response::Response;

use super::figures::{Metrics, Names, dollars, tokens};
use super::range;
use super::totals::limit;
use crate::admin::access::Actor;
use crate::admin::body::{Fields, refused};
use crate::admin::query::Query;
use crate::admin::reply::{Failure, private_json};
use crate::admin::shown::Shown;
use crate::admin::{Admin, when};
use crate::entity::EntityKind;
use crate::store::{By, DailyKind, DailySums, Days, SumFilter, SumGroup, SumQuery};

/// Teams and tags of a list, those with the largest spend.
const MOST: u32 = 10_000;
/// LiteLLM's numbers of models, end users and teams that are listed.
const MODELS: u32 = 10;
const END_USERS: u32 = 100;
const TEAMS: usize = 10;
const LONGEST_TIME: usize = 64;

/// Sums over the whole ledger.
pub(super) async fn total(State(admin): State<Admin>, _: Actor) -> Result<Response, Failure> {
    admin.flush_soon().await;
    let groups = admin.sums(SumQuery::default()).await?;
    let sums = groups.first().map(|group| group.sums).unwrap_or_default();
    let budget = admin.state.snapshot.load().limits.budget.as_ref().map(|budget| budget.limit_nanos);
    let mut shown = Shown::default();
    shown
        .put("spend", &dollars(sums.nanos))
        .put("max_budget", &dollars(budget.unwrap_or(0)))
        .put("spend_nanos", &sums.nanos)
        .put("requests", &sums.requests)
        .put("prompt_tokens", &sums.prompt_tokens)
        .put("completion_tokens", &sums.completion_tokens)
        // Their cost is missing from `spend`.
        .put("unpriced_requests", &sums.unpriced);
    Ok(private_json(&shown))
}

/// What the caller may see of these days, grouped; the last thirty days when none are named.
async fn seen(
    admin: &Admin,
    actor: &Actor,
    query: &mut Query,
    by: Vec<By>,
    most: Option<u32>,
) -> Result<Vec<SumGroup>, Failure> {
    let mut filter = SumFilter { days: range::days(query)?, ..SumFilter::default() };
    filter.keys = query.take("api_key").map(|key| vec![admin.key_of(&key)]);
    std::mem::replace(query, Query::parse(None)).finish()?;
    admin.flush_soon().await;
    admin.may_see_sums(actor, &mut filter).await?;
    admin.sums(SumQuery { filter, by, limit: most, ..SumQuery::default() }).await
}

/// Spend day by day.
pub(super) async fn logs(
    State(admin): State<Admin>,
    actor: Actor,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let mut query = Query::parse(query.as_deref());
    let groups = seen(&admin, &actor, &mut query, vec![By::Day], None).await?;
    let row = |group: &SumGroup| {
        let mut shown = Shown::default();
        shown
            .put("date", &range::iso(group.day))
            .put("spend", &dollars(group.sums.nanos))
            .put("spend_nanos", &group.sums.nanos)
            .put("api_requests", &group.sums.requests)
            .put("total_tokens", &tokens(&group.sums));
        shown
    };
    Ok(private_json(&groups.iter().map(row).collect::<Vec<_>>()))
}

fn spent(shown: &mut Shown, sums: &DailySums) {
    shown
        .put("total_spend", &dollars(sums.nanos))
        .put("total_spend_nanos", &sums.nanos)
        .put("total_tokens", &tokens(sums))
        .put("api_requests", &sums.requests)
        .put("unpriced_requests", &sums.unpriced);
}

/// Keys, the largest spend first.
pub(super) async fn keys(
    State(admin): State<Admin>,
    actor: Actor,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let mut query = Query::parse(query.as_deref());
    let most = limit(&mut query, 100)?;
    let groups = seen(&admin, &actor, &mut query, vec![By::Key], Some(most)).await?;
    let names = Names::of(&admin, groups.iter().map(|group| (EntityKind::Key, group.key.clone()))).await?;
    let row = |group: &SumGroup| {
        let key = names.get(EntityKind::Key, &group.key);
        let mut shown = Shown::default();
        shown
            .put("api_key", &group.key)
            .put("key_alias", &key.and_then(|key| key.alias.as_deref()))
            .put("key_name", &key.map(|key| key.name.as_str()));
        spent(&mut shown, &group.sums);
        shown
    };
    Ok(private_json(&groups.iter().map(row).collect::<Vec<_>>()))
}

/// Models at the provider, the largest spend first.
pub(super) async fn models(
    State(admin): State<Admin>,
    actor: Actor,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let mut query = Query::parse(query.as_deref());
    let most = limit(&mut query, MODELS)?;
    let groups = seen(&admin, &actor, &mut query, vec![By::Model], Some(most)).await?;
    Ok(private_json(&named(&groups, "model", |group| &group.model)))
}

/// Providers, the largest spend first.
pub(super) async fn providers(
    State(admin): State<Admin>,
    actor: Actor,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let mut query = Query::parse(query.as_deref());
    let groups = seen(&admin, &actor, &mut query, vec![By::Provider], Some(MOST)).await?;
    let row = |group: &SumGroup| {
        let mut shown = Shown::default();
        shown.put("provider", &group.provider).put("spend", &dollars(group.sums.nanos));
        shown.put("spend_nanos", &group.sums.nanos);
        shown
    };
    let groups = groups.iter().filter(|group| !group.provider.is_empty());
    Ok(private_json(&groups.map(row).collect::<Vec<_>>()))
}

fn named<'a>(groups: &'a [SumGroup], field: &str, name: impl Fn(&'a SumGroup) -> &'a String) -> Vec<Shown> {
    let row = |group| {
        let mut shown = Shown::default();
        shown.put(field, name(group));
        spent(&mut shown, &group.sums);
        shown
    };
    groups.iter().filter(|group| !name(group).is_empty()).map(row).collect()
}

/// Teams day by day.
pub(super) async fn teams(
    State(admin): State<Admin>,
    _: Actor,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let mut query = Query::parse(query.as_deref());
    let days = range::days(&mut query)?;
    query.finish()?;
    admin.flush_soon().await;
    let filter = SumFilter { kind: DailyKind::Team, days, ..SumFilter::default() };
    let groups = admin.sums(SumQuery { filter, by: vec![By::Id, By::Day], ..SumQuery::default() }).await?;
    let names = Names::of(&admin, groups.iter().map(|group| (EntityKind::Team, group.id.clone()))).await?;
    let mut by_day: BTreeMap<i64, BTreeMap<String, u64>> = BTreeMap::new();
    let mut totals: BTreeMap<String, u64> = BTreeMap::new();
    for group in &groups {
        // Two teams of one alias stay two.
        let alias = names.alias(EntityKind::Team, &group.id);
        let name = alias.map_or_else(|| group.id.clone(), str::to_owned);
        *by_day.entry(group.day).or_default().entry(name.clone()).or_default() += group.sums.nanos;
        *totals.entry(name).or_default() += group.sums.nanos;
    }
    let day = |(day, teams): (&i64, &BTreeMap<String, u64>)| {
        let mut shown = Shown::default();
        shown.put("date", &range::iso(*day));
        for (team, nanos) in teams {
            shown.put(team, &dollars(*nanos));
        }
        shown
    };
    let mut ordered: Vec<(&String, &u64)> = totals.iter().collect();
    ordered.sort_by_key(|(_, nanos)| std::cmp::Reverse(**nanos));
    let total = |(team, nanos): &(&String, &u64)| {
        let mut shown = Shown::default();
        shown.put("team_id", team).put("total_spend", &dollars(**nanos)).put("total_spend_nanos", nanos);
        shown
    };
    let mut answer = Shown::default();
    answer
        .put("daily_spend", &by_day.iter().map(day).collect::<Vec<_>>())
        .put("teams", &totals.keys().collect::<Vec<_>>())
        .put("total_spend_per_team", &ordered.iter().take(TEAMS).map(total).collect::<Vec<_>>());
    Ok(private_json(&answer))
}

async fn tag_groups(admin: &Admin, query: Option<&str>) -> Result<Vec<SumGroup>, Failure> {
    let mut query = Query::parse(query);
    let days = range::days(&mut query)?;
    let tags = query.take("tags").filter(|tags| tags != "all-tags");
    let ids = tags.map(|tags| tags.split(',').map(|tag| tag.trim().to_owned()).collect());
    query.finish()?;
    admin.flush_soon().await;
    let filter = SumFilter { kind: DailyKind::Tag, ids, days, ..SumFilter::default() };
    admin.sums(SumQuery { filter, by: vec![By::Id], limit: Some(MOST), ..SumQuery::default() }).await
}

/// Tags, the largest spend first.
pub(super) async fn tags(
    State(admin): State<Admin>,
    _: Actor,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let row = |group: &SumGroup| {
        let mut shown = Shown::default();
        shown
            .put("name", &group.id)
            .put("spend", &dollars(group.sums.nanos))
            .put("spend_nanos", &group.sums.nanos)
            .put("log_count", &group.sums.requests);
        shown
    };
    let groups = tag_groups(&admin, query.as_deref()).await?;
    let mut answer = Shown::default();
    answer.put("spend_per_tag", &groups.iter().map(row).collect::<Vec<_>>());
    Ok(private_json(&answer))
}

/// The same in the older shape.
pub(super) async fn log_tags(
    State(admin): State<Admin>,
    _: Actor,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let row = |group: &SumGroup| {
        let mut shown = Shown::default();
        shown
            .put("individual_request_tag", &group.id)
            .put("log_count", &group.sums.requests)
            .put("total_spend", &dollars(group.sums.nanos))
            .put("total_spend_nanos", &group.sums.nanos);
        shown
    };
    let groups = tag_groups(&admin, query.as_deref()).await?;
    Ok(private_json(&groups.iter().map(row).collect::<Vec<_>>()))
}

/// Tags with what they were used for.
pub(super) async fn tag_summary(
    State(admin): State<Admin>,
    _: Actor,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let row = |group: &SumGroup| {
        let mut shown = Shown::default();
        shown
            .put("tag", &group.id)
            .put("total_requests", &group.sums.requests)
            .put("successful_requests", &group.sums.successes)
            .put("failed_requests", &group.sums.requests.saturating_sub(group.sums.successes))
            .put("total_tokens", &tokens(&group.sums))
            .put("total_spend", &dollars(group.sums.nanos))
            .put("metrics", &Metrics::from(&group.sums));
        shown
    };
    let groups = tag_groups(&admin, query.as_deref()).await?;
    let mut answer = Shown::default();
    answer.put("results", &groups.iter().map(row).collect::<Vec<_>>());
    Ok(private_json(&answer))
}

/// Every tag that requests ever had, ten thousand at most.
pub(super) async fn tag_names(State(admin): State<Admin>, _: Actor) -> Result<Response, Failure> {
    admin.flush_soon().await;
    let filter = SumFilter { kind: DailyKind::Tag, ..SumFilter::default() };
    let groups =
        admin.sums(SumQuery { filter, by: vec![By::Id], limit: Some(MOST), ..SumQuery::default() }).await?;
    let names: BTreeSet<&String> = groups.iter().map(|group| &group.id).collect();
    let mut answer = Shown::default();
    answer.put("tag_names", &names);
    Ok(private_json(&answer))
}

/// End users, the largest spend first; `startTime` and `endTime` are rounded to days.
pub(super) async fn end_users(
    State(admin): State<Admin>,
    _: Actor,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Failure> {
    let mut fields = Fields::parse(body)?;
    let day = |fields: &mut Fields, name: &'static str| -> Result<Option<i64>, Failure> {
        let Some(text) = fields.text(name, LONGEST_TIME)? else { return Ok(None) };
        let ms = when::moment(&text).ok_or_else(|| refused(name, "must be a day or a time"))?;
        Ok(Some(range::day_of_us(ms.saturating_mul(1_000))))
    };
    let default = range::last_days();
    let days = Days {
        first: day(&mut fields, "startTime")?.unwrap_or(default.first),
        last: day(&mut fields, "endTime")?.unwrap_or(default.last),
    };
    let keys = fields.text("api_key", LONGEST_TIME * 8)?.map(|key| vec![admin.key_of(&key)]);
    admin.flush_soon().await;
    let filter = SumFilter { kind: DailyKind::Customer, days, keys, ..SumFilter::default() };
    let groups = admin
        .sums(SumQuery { filter, by: vec![By::Id], limit: Some(END_USERS), ..SumQuery::default() })
        .await?;
    let row = |group: &SumGroup| {
        let mut shown = Shown::default();
        shown
            .put("end_user", &group.id)
            .put("total_count", &group.sums.requests)
            .put("total_spend", &dollars(group.sums.nanos))
            .put("total_spend_nanos", &group.sums.nanos);
        shown
    };
    Ok(private_json(&groups.iter().map(row).collect::<Vec<_>>()))
}
