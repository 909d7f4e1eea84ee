//! `/v1/models`.

use std::collections::BTreeSet;
use std::sync::Arc;

use attache_llm::error::ApiError;
use attache_llm::wildcard;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json as object};

use super::Admin;
use super::access::forbidden;
use super::reply::{Failure, json, not_found};
use crate::entity::{EntityKind, EntityRef, Holder};
use crate::keys::{Caller, RouteGroup, route_allowed};
use crate::limits::lists;
use crate::routing::{Access, Deployment, Group, Snapshot};

/// When every model was created, as Anthropic's shape wants it: the same constant as in OpenAI's.
const CREATED_AT: &str = "2023-02-28T18:56:42Z";

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

/// Every list of models that binds the caller, and the team's if one is asked for.
pub(super) fn access<'a>(caller: &'a Caller, team: Option<&'a Holder>) -> Access<'a> {
    let own = match caller {
        Caller::Master => Vec::new(),
        Caller::Key(principal) => lists(principal),
    };
    let team = team.map(|team| team.entity.settings.models.as_slice());
    Access::of_all(own.into_iter().map(|list| list.models).chain(team))
}

/// Groups and aliases that the caller may name. Patterns are listed as they are: what they stand for is the provider's
/// to say.
pub(super) fn usable(access: &Access<'_>, snapshot: &Snapshot) -> BTreeSet<String> {
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
    /// Only the models of this team.
    team_id: String,
}

/// The caller of a route that works on while the database is away: from the cache, with the key's `allowed_routes`.
pub(super) async fn known_caller(
    admin: &Admin,
    headers: &HeaderMap,
    route: &str,
    path: &str,
) -> Result<Caller, Failure> {
    let caller = admin.caller(headers).await?;
    let allowed = caller.key().map_or(&[][..], |key| &key.settings.allowed_routes);
    match route_allowed(allowed, path, RouteGroup::of(route)) {
        true => Ok(caller),
        false => Err(forbidden(&format!("This key may not call {route} (`allowed_routes`).")).into()),
    }
}

/// The team that is asked for, if the caller may ask.
async fn team(admin: &Admin, caller: &Caller, id: &str) -> Result<Option<Holder>, Failure> {
    if id.is_empty() {
        return Ok(None);
    }
    let team = admin.state.keys.holder(&EntityRef::new(EntityKind::Team, id)).await?;
    let admin_role = matches!(caller.role(), Some("proxy_admin" | "proxy_admin_viewer"));
    let member =
        admin_role || caller.team_id() == Some(id) || admin.state.keys.team_role(caller, id).await?.is_some();
    match team {
        Some(team) if member => Ok(Some(team)),
        None if admin_role => Err(not_found(format!("There is no team {id:?}."), "team_id")),
        _ => Err(forbidden("You are no member of this team.").into()),
    }
}

/// Anthropic's list of models.
fn anthropic(ids: &BTreeSet<String>) -> Value {
    let model =
        |id: &String| object!({"type": "model", "id": id, "display_name": id, "created_at": CREATED_AT});
    object!({
        "data": ids.iter().map(model).collect::<Vec<_>>(),
        "has_more": false,
        "first_id": ids.first(),
        "last_id": ids.last(),
    })
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
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let caller = known_caller(&admin, &headers, "/v1/models", uri.path()).await?;
    let team = team(&admin, &caller, &wanted.team_id).await?;
    let snapshot = admin.state.snapshot.load_full();
    let mut ids = usable(&access(&caller, team.as_ref()), &snapshot);
    let groups = access_groups(&ids, &snapshot);
    let only = yes(&wanted.only_model_access_groups);
    ids.retain(|id| !snapshot.hidden.contains(id) && !only);
    if only || yes(&wanted.include_model_access_groups) {
        ids.extend(groups);
    }
    if headers.contains_key("anthropic-version") {
        return Ok(json(StatusCode::OK, &anthropic(&ids)));
    }
    let data: Vec<_> = ids.iter().map(|id| Model::new(id, &snapshot)).collect();
    Ok(json(StatusCode::OK, &object!({"data": data, "object": "list"})))
}

pub(super) async fn one(
    State(admin): State<Admin>,
    uri: Uri,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let caller = known_caller(&admin, &headers, "/v1/models/{*id}", uri.path()).await?;
    let snapshot = admin.state.snapshot.load_full();
    let access = access(&caller, None);
    let behind_wildcard = || wildcard_of(&id, &snapshot).is_some_and(|group| access.allows(&id, Some(group)));
    if !usable(&access, &snapshot).contains(&id) && !behind_wildcard() {
        return Err(ApiError::model_not_found(&id).into());
    }
    if headers.contains_key("anthropic-version") {
        let model = object!({"type": "model", "id": id, "display_name": id, "created_at": CREATED_AT});
        return Ok(json(StatusCode::OK, &model));
    }
    Ok(json(StatusCode::OK, &Model::new(&id, &snapshot)))
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
