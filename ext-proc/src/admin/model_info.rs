//! `/model/info`, `/v2/model/info` and `/model_group/info`: deployments and groups as LiteLLM describes them.

use std::sync::Arc;

use attache_llm::price::{Item, Price, field_name};
use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use axum::routing::get;
use serde_json::{Map, Value, json as object};

use super::Admin;
use super::edit::Paging;
use super::models::{access, api_base, known_caller, provider_name, usable};
use super::query::Query;
use super::reply::{Failure, json, not_found};
use crate::routing::{Deployment, Snapshot};

const LARGEST_PAGE: u32 = 100;

pub(super) fn routes() -> Router<Admin> {
    Router::new()
        .route("/model/info", get(info))
        .route("/v1/model/info", get(info))
        .route("/v2/model/info", get(pages))
        .route("/model_group/info", get(groups))
}

/// Deployments that the caller may use, sorted by group, and whether it may see their addresses.
struct Visible {
    deployments: Vec<Arc<Deployment>>,
    inside: bool,
    snapshot: Arc<Snapshot>,
}

async fn visible(admin: &Admin, headers: &HeaderMap, uri: &Uri) -> Result<Visible, Failure> {
    let caller = known_caller(admin, headers, "/model/info", uri.path()).await?;
    let snapshot = admin.state.snapshot.load_full();
    let inside = matches!(caller.role(), Some("proxy_admin" | "proxy_admin_viewer"));
    let names = usable(&access(&caller, None), &snapshot);
    // Whoever may use an alias may use what is behind it.
    let groups: Vec<&str> =
        names.iter().map(|name| snapshot.aliases.get(name).unwrap_or(name).as_str()).collect();
    let mut deployments: Vec<_> = snapshot.deployments.values().cloned().collect();
    deployments.retain(|deployment| inside || groups.contains(&deployment.meta.group.as_str()));
    deployments.sort_by(|a, b| (&a.meta.group, &a.meta.id).cmp(&(&b.meta.group, &b.meta.id)));
    Ok(Visible { deployments, inside, snapshot })
}

/// `/model/info`, of one deployment with `litellm_model_id`.
async fn info(
    State(admin): State<Admin>,
    uri: Uri,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let mut seen = visible(&admin, &headers, &uri).await?;
    if let Some(id) = Query::parse(query.as_deref()).take("litellm_model_id") {
        seen.deployments.retain(|deployment| deployment.meta.id == id);
        if seen.deployments.is_empty() {
            return Err(not_found(format!("There is no model with the id {id:?}."), "litellm_model_id"));
        }
    }
    let data: Vec<Value> = seen.deployments.iter().map(|one| describe(one, seen.inside)).collect();
    Ok(json(StatusCode::OK, &object!({"data": data})))
}

/// `/v2/model/info`, by pages.
async fn pages(
    State(admin): State<Admin>,
    uri: Uri,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let mut seen = visible(&admin, &headers, &uri).await?;
    let mut query = Query::parse(query.as_deref());
    let paging = Paging::of(&mut query, 50, LARGEST_PAGE)?;
    let (model, id, search) = (query.take("model"), query.take("modelId"), query.take("search"));
    query.finish()?;
    let search = search.map(|text| text.to_lowercase());
    seen.deployments.retain(|deployment| {
        let meta = &deployment.meta;
        model.as_ref().is_none_or(|model| *model == meta.group)
            && id.as_ref().is_none_or(|id| *id == meta.id)
            && search.as_ref().is_none_or(|text| meta.group.to_lowercase().contains(text))
    });
    let total = seen.deployments.len() as u64;
    let skip = usize::try_from(paging.offset()).unwrap_or(usize::MAX);
    let page = seen.deployments.iter().skip(skip).take(paging.size as usize);
    let data: Vec<Value> = page.map(|deployment| describe(deployment, seen.inside)).collect();
    Ok(json(
        StatusCode::OK,
        &object!({"data": data, "total_count": total, "current_page": paging.page,
            "total_pages": paging.pages(total), "size": paging.size}),
    ))
}

/// `/model_group/info`: what the deployments of a group have together.
async fn groups(
    State(admin): State<Admin>,
    uri: Uri,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let seen = visible(&admin, &headers, &uri).await?;
    let wanted = Query::parse(query.as_deref()).take("model_group");
    let mut names: Vec<&str> = seen.deployments.iter().map(|one| one.meta.group.as_str()).collect();
    names.dedup();
    names.retain(|name| {
        let hidden = seen.snapshot.hidden.iter().any(|hidden| hidden == name);
        wanted.as_ref().map_or(!hidden, |wanted| wanted == name)
    });
    let of = |name: &&str| {
        let members: Vec<&Deployment> =
            seen.deployments.iter().map(|one| &**one).filter(|one| one.meta.group == *name).collect();
        group(name, &members)
    };
    Ok(json(StatusCode::OK, &object!({"data": names.iter().map(of).collect::<Vec<_>>()})))
}

fn group(name: &str, members: &[&Deployment]) -> Value {
    let mut providers: Vec<String> = members.iter().map(|one| provider_name(one)).collect();
    providers.sort();
    providers.dedup();
    // A group has a limit if each of its deployments has.
    let sum = |pick: fn(&Deployment) -> Option<u64>| members.iter().map(|one| pick(one)).sum::<Option<u64>>();
    let prices = || members.iter().filter_map(|one| one.meta.price.as_ref());
    object!({
        "model_group": name,
        "providers": providers,
        "mode": members.iter().find_map(|one| one.mode.clone()),
        "max_input_tokens": members.iter().filter_map(|one| one.max_input_tokens).max(),
        "input_cost_per_token": prices().filter_map(|price| price.base(Item::Input)).max().map(dollars),
        "output_cost_per_token": prices().filter_map(|price| price.base(Item::Output)).max().map(dollars),
        "rpm": sum(|one| one.rpm),
        "tpm": sum(|one| one.tpm),
    })
}

/// Femto-dollars are 1e-15 $.
#[expect(clippy::cast_precision_loss, reason = "shown as LiteLLM shows prices, not calculated with")]
fn dollars(femto: u64) -> f64 {
    femto as f64 / 1e15
}

/// Every rate by LiteLLM's name; those of searches as the map that they are there.
fn prices(price: &Price) -> Map<String, Value> {
    let (mut shown, mut searches) = (Map::new(), Map::new());
    for (place, rate) in price.rates() {
        let is_search = matches!(place.item, Item::SearchLow | Item::SearchMedium | Item::SearchHigh);
        let map = if is_search { &mut searches } else { &mut shown };
        map.insert(field_name(*place), object!(dollars(*rate)));
    }
    if !searches.is_empty() {
        shown.insert("search_context_cost_per_query".to_owned(), Value::Object(searches));
    }
    shown
}

/// A deployment without its credential, and without header values, which may hold one.
fn describe(deployment: &Deployment, inside: bool) -> Value {
    let meta = &deployment.meta;
    let name = provider_name(deployment);
    let rate = |item| meta.price.as_ref()?.base(item).map(dollars);
    let mut shown = object!({
        "model_name": meta.group,
        "litellm_params": {
            "model": format!("{name}/{}", meta.model),
            "api_base": api_base(deployment),
            "api_version": meta.api_version,
            "rpm": deployment.rpm,
            "tpm": deployment.tpm,
            "weight": deployment.weight,
            "order": deployment.order,
            "tags": deployment.tags,
            "max_parallel_requests": deployment.max_parallel,
            "region_name": deployment.region,
            "num_retries": deployment.num_retries,
            "cooldown_time": deployment.cooldown.map(|t| t.as_secs_f64()),
            "timeout": deployment.timeout.map(|t| t.as_secs_f64()),
            "stream_timeout": deployment.stream_timeout.map(|t| t.as_secs_f64()),
        },
        "model_info": {
            "id": meta.id,
            "db_model": false,
            "key": meta.model,
            "mode": deployment.mode,
            "access_groups": deployment.access_groups,
            "max_input_tokens": deployment.max_input_tokens,
            "litellm_provider": name,
            "input_cost_per_token": rate(Item::Input),
            "output_cost_per_token": rate(Item::Output),
            "cache_read_input_token_cost": rate(Item::Cached),
            "cache_creation_input_token_cost": rate(Item::Write),
        },
    });
    if let Some(info) = shown.get_mut("model_info").and_then(Value::as_object_mut) {
        info.extend(meta.price.iter().flat_map(prices));
    }
    // Where a provider is reached is nobody's business but an admin's.
    if !inside && let Some(params) = shown.get_mut("litellm_params").and_then(Value::as_object_mut) {
        params.remove("api_base");
        params.remove("api_version");
    }
    shown
}
