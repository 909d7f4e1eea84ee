//! `/v1/models` and `/model/info`.

use std::collections::BTreeSet;

use attache_llm::error::ApiError;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::Serialize;
use serde_json::{Value, json as object};

use super::Admin;
use super::reply::{Failure, json};
use crate::keys::Caller;
use crate::routing::{Access, Deployment, Snapshot};

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
            .and_then(|group| group.deployments.iter().find_map(|d| d.mode.clone()));
        Self { id: id.to_owned(), object: "model", created: 1_677_610_602, owned_by: "openai", mode }
    }
}

/// Groups and aliases that the caller may name.
fn usable(caller: &Caller, snapshot: &Snapshot) -> BTreeSet<String> {
    let access = match caller {
        Caller::Master => Access::everything(),
        Caller::Key(row) => Access::of(&row.key.models),
    };
    let groups =
        snapshot.groups.iter().filter(|(name, group)| access.allows(name, Some(group))).map(|(name, _)| name);
    // A list may name the alias or the group behind it.
    let aliases = snapshot.aliases.iter().filter_map(|(alias, name)| {
        let group = snapshot.groups.get(name)?;
        (access.allows(name, Some(group)) || access.allows(alias, None)).then_some(alias)
    });
    groups.chain(aliases).cloned().collect()
}

pub(super) async fn list(State(admin): State<Admin>, headers: HeaderMap) -> Result<Response, Failure> {
    let caller = admin.caller(&headers).await?;
    let snapshot = admin.state.snapshot.load_full();
    let data: Vec<_> = usable(&caller, &snapshot).iter().map(|id| Model::new(id, &snapshot)).collect();
    Ok(json(StatusCode::OK, &object!({"data": data, "object": "list"})))
}

pub(super) async fn one(
    State(admin): State<Admin>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let caller = admin.caller(&headers).await?;
    let snapshot = admin.state.snapshot.load_full();
    if !usable(&caller, &snapshot).contains(&id) {
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

/// A deployment without its credential, and without header values, which may hold one.
fn describe(deployment: &Deployment) -> Value {
    let meta = &deployment.meta;
    let provider = serde_json::to_value(meta.provider).unwrap_or_default();
    let name = provider.as_str().unwrap_or_default();
    let scheme = if deployment.tls { "https" } else { "http" };
    // Femto-dollars are 1e-15 $.
    #[expect(clippy::cast_precision_loss, reason = "shown as LiteLLM shows prices, not calculated with")]
    let dollars = |femto: u64| femto as f64 / 1e15;
    let price = meta.price.as_ref();
    object!({
        "model_name": meta.group,
        "litellm_params": {
            "model": format!("{name}/{}", meta.model),
            "api_base": format!("{scheme}://{}{}", meta.authority, meta.base_path),
            "api_version": meta.api_version,
            "rpm": deployment.rpm,
            "tpm": deployment.tpm,
            "weight": deployment.weight,
            "timeout": deployment.timeout.map(|t| t.as_secs_f64()),
            "stream_timeout": deployment.stream_timeout.map(|t| t.as_secs_f64()),
        },
        "model_info": {
            "id": meta.id,
            "db_model": false,
            "key": meta.model,
            "mode": deployment.mode,
            "litellm_provider": name,
            "input_cost_per_token": price.map(|p| dollars(p.input)),
            "output_cost_per_token": price.map(|p| dollars(p.output)),
            "cache_read_input_token_cost": price.and_then(|p| p.cache_read).map(dollars),
            "cache_creation_input_token_cost": price.and_then(|p| p.cache_creation).map(dollars),
        },
    })
}
