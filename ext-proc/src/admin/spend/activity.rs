//! `/global/activity`: requests and tokens day by day.

use std::collections::BTreeMap;

use axum::extract::{RawQuery, State};
use axum::response::Response;
use serde::Serialize;

use super::figures::{dollars, tokens};
use super::range;
use crate::admin::Admin;
use crate::admin::access::Actor;
use crate::admin::money::Dollars;
use crate::admin::query::Query;
use crate::admin::reply::{Failure, private_json};
use crate::store::{By, DailySums, SumFilter, SumGroup, SumQuery};

/// Models that are listed: those with most requests, as in LiteLLM.
const MOST_MODELS: usize = 10;

#[derive(Serialize)]
struct Activity {
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    daily_data: Vec<Day>,
    sum_api_requests: u64,
    sum_total_tokens: u64,
    sum_spend: Dollars,
    sum_spend_nanos: u64,
}

#[derive(Serialize)]
struct Day {
    /// `Jan 31`, for charts.
    date: String,
    day: String,
    api_requests: u64,
    total_tokens: u64,
    spend: Dollars,
    spend_nanos: u64,
}

fn activity(model: Option<String>, groups: &[SumGroup]) -> Activity {
    let mut all = DailySums::default();
    groups.iter().for_each(|group| all.add(&group.sums));
    let day = |group: &SumGroup| Day {
        date: range::short(group.day),
        day: range::iso(group.day),
        api_requests: group.sums.requests,
        total_tokens: tokens(&group.sums),
        spend: dollars(group.sums.nanos),
        spend_nanos: group.sums.nanos,
    };
    Activity {
        model,
        daily_data: groups.iter().map(day).collect(),
        sum_api_requests: all.requests,
        sum_total_tokens: tokens(&all),
        sum_spend: dollars(all.nanos),
        sum_spend_nanos: all.nanos,
    }
}

async fn groups(
    admin: &Admin,
    actor: &Actor,
    query: RawQuery,
    by: Vec<By>,
) -> Result<Vec<SumGroup>, Failure> {
    let mut query = Query::parse(query.0.as_deref());
    let mut filter = SumFilter { days: range::days(&mut query)?, ..SumFilter::default() };
    query.finish()?;
    admin.flush_soon().await;
    admin.may_see_sums(actor, &mut filter).await?;
    admin.sums(SumQuery { filter, by, ..SumQuery::default() }).await
}

pub(super) async fn all(
    State(admin): State<Admin>,
    actor: Actor,
    query: RawQuery,
) -> Result<Response, Failure> {
    Ok(private_json(&activity(None, &groups(&admin, &actor, query, vec![By::Day]).await?)))
}

/// By model group, as in LiteLLM.
pub(super) async fn models(
    State(admin): State<Admin>,
    actor: Actor,
    query: RawQuery,
) -> Result<Response, Failure> {
    let groups = groups(&admin, &actor, query, vec![By::Day, By::ModelGroup]).await?;
    let mut models: BTreeMap<String, Vec<SumGroup>> = BTreeMap::new();
    for group in groups {
        models.entry(group.model_group.clone()).or_default().push(group);
    }
    let mut shown: Vec<Activity> =
        models.into_iter().map(|(model, groups)| activity(Some(model), &groups)).collect();
    shown.sort_by_key(|activity| std::cmp::Reverse(activity.sum_api_requests));
    shown.truncate(MOST_MODELS);
    Ok(private_json(&shown))
}
