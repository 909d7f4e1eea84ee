//! `/user|team|organization|customer|tag/daily/activity`: sums day by day, with what they are made of.

use std::collections::{BTreeMap, BTreeSet};

use axum::extract::{RawQuery, State};
use axum::response::Response;
use serde::Serialize;
use serde_json::Value;

use super::figures::{Metrics, Names, dollars, entity_kind, tokens};
use super::range;
use crate::admin::Admin;
use crate::admin::access::Actor;
use crate::admin::body::refused;
use crate::admin::edit::Paging;
use crate::admin::money::Dollars;
use crate::admin::query::Query;
use crate::admin::reply::{Failure, private_json};
use crate::entity::EntityKind;
use crate::store::{By, DailyKind, DailySums, Days, SumFilter, SumGroup, SumQuery};

/// Days of a page.
const PAGE: u32 = 7;
const LARGEST_PAGE: u32 = 1_000;
/// Keys, and teams (users, ...), that a page lists (`api_key_limit`): those with the largest spend. All sums count
/// everybody. Each is in every part of every day.
const LISTED: u32 = 50;
const MOST_LISTED: u32 = 1_000;
/// Keys are counted up to here.
const MOST_COUNTED: u32 = 10_000;

pub(super) async fn users(admin: State<Admin>, actor: Actor, query: RawQuery) -> Result<Response, Failure> {
    daily(admin, actor, query, DailyKind::User, "user_id").await
}

pub(super) async fn teams(admin: State<Admin>, actor: Actor, query: RawQuery) -> Result<Response, Failure> {
    daily(admin, actor, query, DailyKind::Team, "team_ids").await
}

pub(super) async fn organizations(
    admin: State<Admin>,
    actor: Actor,
    query: RawQuery,
) -> Result<Response, Failure> {
    daily(admin, actor, query, DailyKind::Organization, "organization_ids").await
}

pub(super) async fn customers(
    admin: State<Admin>,
    actor: Actor,
    query: RawQuery,
) -> Result<Response, Failure> {
    daily(admin, actor, query, DailyKind::Customer, "end_user_ids").await
}

pub(super) async fn tags(admin: State<Admin>, actor: Actor, query: RawQuery) -> Result<Response, Failure> {
    daily(admin, actor, query, DailyKind::Tag, "tags").await
}

async fn daily(
    State(admin): State<Admin>,
    actor: Actor,
    RawQuery(query): RawQuery,
    kind: DailyKind,
    ids: &'static str,
) -> Result<Response, Failure> {
    let mut query = Query::parse(query.as_deref());
    let paging = Paging::of(&mut query, PAGE, LARGEST_PAGE)?;
    let days = range::days(&mut query)?;
    let listed = match query.number("api_key_limit")? {
        None => LISTED,
        Some(keys) => u32::try_from(keys)
            .ok()
            .filter(|keys| (1..=MOST_LISTED).contains(keys))
            .ok_or_else(|| refused("api_key_limit", "must be 1 to 1000"))?,
    };
    // Days are those of UTC, as LiteLLM's are.
    let _ = query.take("timezone");
    let mut filter = SumFilter {
        kind,
        ids: list(&mut query, ids),
        days,
        keys: query.take("api_key").map(|key| vec![admin.key_of(&key)]),
        model: query.take("model"),
        model_group: query.take("model_group"),
        provider: query.take("custom_llm_provider"),
        endpoint: query.take("endpoint"),
    };
    query.finish()?;
    admin.flush_soon().await;
    // Requests without a user are somebody's, too.
    if kind == DailyKind::User && filter.ids.is_none() {
        filter.kind = DailyKind::All;
    }
    admin.may_see_sums(&actor, &mut filter).await?;
    Ok(private_json(&report(&admin, filter, paging, listed).await?))
}

/// A list with commas, or the parameter several times.
fn list(query: &mut Query, name: &str) -> Option<Vec<String>> {
    let given = query.take_all(name);
    let parts: Vec<String> = given
        .iter()
        .flat_map(|text| text.split(','))
        .map(str::trim)
        .filter(|id| !id.is_empty())
        .map(str::to_owned)
        .collect();
    (!parts.is_empty()).then_some(parts)
}

#[derive(Serialize)]
struct Report {
    results: Vec<Day>,
    metadata: Totals,
}

#[derive(Serialize)]
struct Totals {
    total_spend: Dollars,
    total_spend_nanos: u64,
    total_prompt_tokens: u64,
    total_completion_tokens: u64,
    total_tokens: u64,
    total_api_requests: u64,
    total_successful_requests: u64,
    total_failed_requests: u64,
    total_cache_read_input_tokens: u64,
    total_cache_creation_input_tokens: u64,
    total_unpriced_requests: u64,
    total_estimated_requests: u64,
    page: u64,
    total_pages: u64,
    has_more: bool,
    /// A page lists so many keys at most, those with the largest spend...
    api_key_limit: u32,
    /// ...of these; null: more than ten thousand.
    total_api_keys: Option<u64>,
}

#[derive(Serialize)]
struct Day {
    date: String,
    metrics: Metrics,
    breakdown: Breakdown,
}

#[derive(Serialize, Default)]
struct Breakdown {
    mcp_servers: BTreeMap<String, Part>,
    models: BTreeMap<String, Part>,
    model_groups: BTreeMap<String, Part>,
    providers: BTreeMap<String, Part>,
    endpoints: BTreeMap<String, Part>,
    api_keys: BTreeMap<String, KeyPart>,
    entities: BTreeMap<String, Part>,
}

#[derive(Serialize)]
struct Part {
    metrics: Metrics,
    metadata: Value,
    api_key_breakdown: BTreeMap<String, KeyPart>,
}

#[derive(Serialize)]
struct KeyPart {
    metrics: Metrics,
    metadata: Value,
}

/// Sums of something, and of its keys.
#[derive(Default)]
struct Sums {
    all: DailySums,
    keys: BTreeMap<String, DailySums>,
}

/// The same by what the breakdown is about.
#[derive(Default)]
struct Parts {
    all: DailySums,
    models: BTreeMap<String, Sums>,
    groups: BTreeMap<String, Sums>,
    providers: BTreeMap<String, Sums>,
    endpoints: BTreeMap<String, Sums>,
    entities: BTreeMap<String, Sums>,
    keys: BTreeMap<String, DailySums>,
}

impl Parts {
    fn named<'a>(&'a mut self, group: &SumGroup) -> [&'a mut Sums; 4] {
        let model = if group.model.is_empty() { &group.model_group } else { &group.model };
        [
            self.models.entry(model.clone()).or_default(),
            self.groups.entry(group.model_group.clone()).or_default(),
            self.providers.entry(group.provider.clone()).or_default(),
            self.endpoints.entry(group.endpoint.clone()).or_default(),
        ]
    }

    /// Sums over all keys.
    fn add(&mut self, group: &SumGroup) {
        self.all.add(&group.sums);
        for sums in self.named(group) {
            sums.all.add(&group.sums);
        }
    }

    /// Sums of one of the keys that are listed.
    fn add_key(&mut self, group: &SumGroup) {
        self.keys.entry(group.key.clone()).or_default().add(&group.sums);
        for sums in self.named(group) {
            sums.keys.entry(group.key.clone()).or_default().add(&group.sums);
        }
    }
}

async fn report(admin: &Admin, filter: SumFilter, paging: Paging, listed: u32) -> Result<Report, Failure> {
    let mut all = DailySums::default();
    let days = filter.days.last - filter.days.first + 1;
    let (total_pages, (results, keys));
    if paging.page == 1 && days <= i64::from(paging.size) {
        // Its days are all there are.
        let found = page(admin, filter, listed).await?;
        found.days.iter().for_each(|(sums, _)| all.add(sums));
        total_pages = paging.pages(found.days.len() as u64);
        (results, keys) = (found.days, found.keys);
    } else {
        let by_day = SumQuery { filter: filter.clone(), by: vec![By::Day], ..SumQuery::default() };
        let totals = admin.sums(by_day).await?;
        totals.iter().for_each(|group| all.add(&group.sums));
        total_pages = paging.pages(totals.len() as u64);
        let skipped = usize::try_from(paging.offset()).unwrap_or(usize::MAX);
        // The newest first, as in LiteLLM.
        let days: Vec<i64> =
            totals.iter().rev().skip(skipped).take(paging.size as usize).map(|group| group.day).collect();
        (results, keys) = match (days.last(), days.first()) {
            (Some(first), Some(last)) => {
                let filter = SumFilter { days: Days { first: *first, last: *last }, ..filter };
                let found = page(admin, filter, listed).await?;
                (found.days, found.keys)
            }
            _ => (Vec::new(), Some(0)),
        };
    }
    let results = results.into_iter().map(|(_, day)| day).collect();
    let failed = all.requests.saturating_sub(all.successes);
    let metadata = Totals {
        total_spend: dollars(all.nanos),
        total_spend_nanos: all.nanos,
        total_prompt_tokens: all.prompt_tokens,
        total_completion_tokens: all.completion_tokens,
        total_tokens: tokens(&all),
        total_api_requests: all.requests,
        total_successful_requests: all.successes,
        total_failed_requests: failed,
        total_cache_read_input_tokens: all.cached_tokens,
        total_cache_creation_input_tokens: all.cache_write_tokens,
        total_unpriced_requests: all.unpriced,
        total_estimated_requests: all.estimated,
        page: paging.page,
        total_pages,
        has_more: paging.page < total_pages,
        api_key_limit: listed,
        total_api_keys: keys,
    };
    Ok(Report { results, metadata })
}

/// The days of a page, the newest first, with their sums.
struct Page {
    days: Vec<(DailySums, Day)>,
    /// How many there were; `None`: more than are counted.
    keys: Option<u64>,
}

/// The days of a page. Several questions, side by side.
async fn page(admin: &Admin, filter: SumFilter, listed: u32) -> Result<Page, Failure> {
    const PARTS: [By; 5] = [By::Day, By::Model, By::ModelGroup, By::Provider, By::Endpoint];
    let ask =
        |filter: &SumFilter, by: Vec<By>| SumQuery { filter: filter.clone(), by, ..SumQuery::default() };
    let top = |by, limit| SumQuery { limit: Some(limit), rank_only: true, ..ask(&filter, vec![by]) };
    let entity = entity_kind(filter.kind);
    let (by_parts, by_key, by_id) = tokio::try_join!(
        admin.sums(ask(&filter, PARTS.to_vec())),
        admin.sums(top(By::Key, MOST_COUNTED + 1)),
        async {
            match entity {
                Some(_) => admin.sums(top(By::Id, listed)).await,
                None => Ok(Vec::new()),
            }
        },
    )?;
    let total_keys = Some(by_key.len() as u64).filter(|keys| *keys <= u64::from(MOST_COUNTED));
    let listed = by_key.into_iter().take(listed as usize);
    let of_keys = SumFilter { keys: Some(listed.map(|group| group.key).collect()), ..filter.clone() };
    let of_ids = SumFilter { ids: Some(by_id.into_iter().map(|group| group.id).collect()), ..filter };
    let key_parts: Vec<By> = PARTS.into_iter().chain([By::Key]).collect();
    let (keys, ids) = tokio::try_join!(admin.sums(ask(&of_keys, key_parts)), async {
        match entity {
            Some(_) => admin.sums(ask(&of_ids, vec![By::Day, By::Id, By::Key])).await,
            None => Ok(Vec::new()),
        }
    })?;
    let mut days: BTreeMap<i64, Parts> = BTreeMap::new();
    by_parts.iter().for_each(|group| days.entry(group.day).or_default().add(group));
    keys.iter().for_each(|group| days.entry(group.day).or_default().add_key(group));
    let known: BTreeSet<&String> = of_keys.keys.iter().flatten().collect();
    for group in &ids {
        let sums = days.entry(group.day).or_default().entities.entry(group.id.clone()).or_default();
        sums.all.add(&group.sums);
        if known.contains(&group.key) {
            sums.keys.entry(group.key.clone()).or_default().add(&group.sums);
        }
    }
    let wanted = known.iter().map(|key| (EntityKind::Key, (*key).clone()));
    let wanted = wanted.chain(ids.iter().filter_map(|group| Some((entity?, group.id.clone()))));
    let names = Names::of(admin, wanted).await?;
    let day = |(day, parts): (&i64, &Parts)| (parts.all, shown(*day, parts, entity, &names));
    Ok(Page { days: days.iter().rev().map(day).collect(), keys: total_keys })
}

fn shown(day: i64, parts: &Parts, entity: Option<EntityKind>, names: &Names) -> Day {
    let nothing = |_: &str| Value::Object(serde_json::Map::new());
    let alias = |id: &str| {
        let alias = entity.and_then(|kind| names.alias(kind, id));
        match entity {
            Some(EntityKind::Team) => serde_json::json!({"team_alias": alias}),
            Some(EntityKind::User) => serde_json::json!({"user_alias": alias}),
            _ => serde_json::json!({"alias": alias}),
        }
    };
    Day {
        date: range::iso(day),
        metrics: Metrics::from(&parts.all),
        breakdown: Breakdown {
            mcp_servers: BTreeMap::new(),
            models: each(&parts.models, names, &nothing),
            model_groups: each(&parts.groups, names, &nothing),
            providers: each(&parts.providers, names, &nothing),
            endpoints: each(&parts.endpoints, names, &nothing),
            api_keys: key_parts(&parts.keys, names),
            entities: each(&parts.entities, names, &alias),
        },
    }
}

/// What has no name (a request that reached no provider) is not listed, and in the sums of the day.
fn each(
    sums: &BTreeMap<String, Sums>,
    names: &Names,
    metadata: &dyn Fn(&str) -> Value,
) -> BTreeMap<String, Part> {
    let part = |(name, sums): (&String, &Sums)| {
        let part = Part {
            metrics: Metrics::from(&sums.all),
            metadata: metadata(name),
            api_key_breakdown: key_parts(&sums.keys, names),
        };
        (name.clone(), part)
    };
    sums.iter().filter(|(name, _)| !name.is_empty()).map(part).collect()
}

fn key_parts(keys: &BTreeMap<String, DailySums>, names: &Names) -> BTreeMap<String, KeyPart> {
    let part = |(key, sums): (&String, &DailySums)| {
        let part = KeyPart { metrics: Metrics::from(sums), metadata: names.key_metadata(key) };
        (key.clone(), part)
    };
    keys.iter().map(part).collect()
}
