//! `/v1/models` and `/model/info`.

use std::collections::BTreeSet;
use std::sync::Arc;

use attache_llm::error::ApiError;
use attache_llm::wildcard;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json as object};

use super::Admin;
use super::reply::{Failure, json};
use crate::keys::Caller;
use crate::routing::{Access, Deployment, Group, Snapshot};

/// One entry of OpenAI's list. `created` and `owned_by` are constants, as in LiteLLM: a gateway knows neither.
#[derive(Serialize)]
struct Model {
    id: String,
    object: &'static str,
    created: u64,
    owned_by: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<String>,
}

impl Model {
    fn new(id: &str, snapshot: &Snapshot) -> Self {
        let group = snapshot.aliases.get(id).map_or(id, String::as_str);
        let mode = snapshot
            .groups
            .get(group)
            .or_else(|| wildcard_of(group, snapshot))
            .and_then(|group| group.deployments.iter().find_map(|d| d.mode.clone()));
        Self { id: id.to_owned(), object: "model", created: 1_677_610_602, owned_by: "openai", mode }
    }
}

/// The group of a model that only a pattern serves.
fn wildcard_of<'a>(model: &str, snapshot: &'a Snapshot) -> Option<&'a Arc<Group>> {
    snapshot.wildcards.iter().find(|group| wildcard::matches(&group.name, model))
}

fn access(caller: &Caller) -> Access<'_> {
    match caller {
        Caller::Master => Access::everything(),
        Caller::Key(row) => Access::of(&row.key.models),
    }
}

/// Groups and aliases that the caller may name. Patterns are listed as they are: what they stand for is the provider's
/// to say.
fn usable(caller: &Caller, snapshot: &Snapshot) -> BTreeSet<String> {
    let access = access(caller);
    let groups =
        snapshot.groups.iter().filter(|(name, group)| access.allows(name, Some(group))).map(|(name, _)| name);
    // A list may name the alias or the group behind it.
    let aliases = snapshot.aliases.iter().filter_map(|(alias, name)| {
        let group = snapshot.groups.get(name)?;
        (access.allows(name, Some(group)) || access.allows(alias, None)).then_some(alias)
    });
    groups.chain(aliases).cloned().collect()
}

/// What `/v1/models` is asked for. Anything but `true` (in any case: Python writes `True`) and `1` is no.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Wanted {
    include_model_access_groups: String,
    only_model_access_groups: String,
}

pub(super) fn yes(text: &str) -> bool {
    text.eq_ignore_ascii_case("true") || text == "1"
}

/// Access groups that have a model which the caller may use.
fn access_groups(usable: &BTreeSet<String>, snapshot: &Snapshot) -> BTreeSet<String> {
    let groups = usable.iter().filter_map(|name| snapshot.groups.get(name));
    let deployments = groups.flat_map(|group| &group.deployments);
    deployments.flat_map(|deployment| deployment.access_groups.iter().cloned()).collect()
}

pub(super) async fn list(
    State(admin): State<Admin>,
    Query(wanted): Query<Wanted>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let caller = admin.caller(&headers).await?;
    let snapshot = admin.state.snapshot.load_full();
    let mut ids = usable(&caller, &snapshot);
    let groups = access_groups(&ids, &snapshot);
    let only = yes(&wanted.only_model_access_groups);
    ids.retain(|id| !snapshot.hidden.contains(id) && !only);
    if only || yes(&wanted.include_model_access_groups) {
        ids.extend(groups);
    }
    let data: Vec<_> = ids.iter().map(|id| Model::new(id, &snapshot)).collect();
    Ok(json(StatusCode::OK, &object!({"data": data, "object": "list"})))
}

pub(super) async fn one(
    State(admin): State<Admin>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let caller = admin.caller(&headers).await?;
    let snapshot = admin.state.snapshot.load_full();
    let behind_wildcard =
        || wildcard_of(&id, &snapshot).is_some_and(|group| access(&caller).allows(&id, Some(group)));
    if !usable(&caller, &snapshot).contains(&id) && !behind_wildcard() {
        return Err(ApiError::model_not_found(&id).into());
    }
    Ok(json(StatusCode::OK, &Model::new(&id, &snapshot)))
}

pub(super) async fn info(State(admin): State<Admin>, headers: HeaderMap) -> Result<Response, Failure> {
    admin.master(&headers, "/model/info").await?;
    let snapshot = admin.state.snapshot.load_full();
    let mut deployments: Vec<_> = snapshot.deployments.values().collect();
    deployments.sort_by(|a, b| (&a.meta.group, &a.meta.id).cmp(&(&b.meta.group, &b.meta.id)));
    let data: Vec<Value> = deployments.into_iter().map(|deployment| describe(deployment)).collect();
    Ok(json(StatusCode::OK, &object!({"data": data})))
}

/// The provider as its enum is written (`openai`, `azure`).
pub(super) fn provider_name(deployment: &Deployment) -> String {
    let provider = serde_json::to_value(deployment.meta.provider).unwrap_or_default();
    provider.as_str().unwrap_or_default().to_owned()
}

pub(super) fn api_base(deployment: &Deployment) -> String {
    let scheme = if deployment.tls { "https" } else { "http" };
    format!("{scheme}://{}{}", deployment.meta.authority, deployment.meta.base_path)
}

/// A deployment without its credential, and without header values, which may hold one.
fn describe(deployment: &Deployment) -> Value {
    let meta = &deployment.meta;
    let name = provider_name(deployment);
    // Femto-dollars are 1e-15 $.
    #[expect(clippy::cast_precision_loss, reason = "shown as LiteLLM shows prices, not calculated with")]
    let dollars = |femto: u64| femto as f64 / 1e15;
    let price = meta.price.as_ref();
    object!({
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
            "input_cost_per_token": price.map(|p| dollars(p.input)),
            "output_cost_per_token": price.map(|p| dollars(p.output)),
            "cache_read_input_token_cost": price.and_then(|p| p.cache_read).map(dollars),
            "cache_creation_input_token_cost": price.and_then(|p| p.cache_creation).map(dollars),
        },
    })
}
