//! Teams shown: one, all that a caller may see, in pages.

use std::collections::BTreeSet;

use attache_llm::error::ApiError;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use serde_json::Value;

use super::super::Admin;
use super::super::access::Actor;
use super::super::body::refused;
use super::super::edit::Paging;
use super::super::members::{self, Members};
use super::super::people::{all, key_row, missing, sorting};
use super::super::query::Query;
use super::super::reply::{Failure, private_json};
use super::super::shown::Shown;
use super::described;
use crate::entity::{Entity, EntityKind, EntityRef};
use crate::store::Filter;

/// Field of a team that lists what its members may do with its keys.
pub(in super::super) const PERMISSIONS: &str = "team_member_permissions";
/// What that field may hold, as LiteLLM names it.
pub(in super::super) const AVAILABLE_PERMISSIONS: [&str; 10] = [
    "/key/generate",
    "/key/service-account/generate",
    "/key/update",
    "/key/delete",
    "/key/regenerate",
    "/key/info",
    "/key/list",
    "/key/aliases",
    "/key/block",
    "/key/unblock",
];
/// Keys of one team that its description shows.
const MOST_KEYS: u32 = 1_000;
/// Teams of one unpaginated list.
const MOST_TEAMS: u32 = 1_000;

/// Refuses what members of a team cannot be permitted.
///
/// # Errors
/// 400 naming the first one.
pub(super) fn check_permissions(routes: &[String]) -> Result<(), ApiError> {
    match routes.iter().find(|route| !AVAILABLE_PERMISSIONS.contains(&key_route(route))) {
        None => Ok(()),
        Some(route) => {
            let why = format!("may not hold {route:?}: it is one of {}", AVAILABLE_PERMISSIONS.join(", "));
            Err(refused(PERMISSIONS, &why))
        }
    }
}

/// A route about keys under the name that permissions have for it.
pub(in super::super) fn key_route(route: &str) -> &str {
    match route {
        "/v2/key/info" | "/key/health" => "/key/info",
        "/key/{key}/regenerate" | "/key/{key_id}/regenerate" => "/key/regenerate",
        route => route,
    }
}

/// A team that the caller may see.
async fn visible(admin: &Admin, actor: &Actor, team_id: &str) -> Result<Entity, Failure> {
    let of_key = actor.key.as_ref().and_then(|key| key.team_id.as_deref());
    let may = actor.all()
        || of_key == Some(team_id)
        || admin.membership(actor, team_id).await?.is_some()
        || admin.is_team_admin(actor, team_id).await?;
    // Who may not see it does not learn whether it exists.
    match admin.find(EntityKind::Team, team_id).await? {
        Some(team) if may => Ok(team),
        None if actor.all() => Err(missing(EntityKind::Team, team_id, "team_id")),
        _ => Err(actor.refusal("the team is not one of yours")),
    }
}

pub(super) async fn info(
    State(admin): State<Admin>,
    actor: Actor,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let mut query = Query::parse(query.as_deref());
    let team_id = query.take("team_id").ok_or_else(|| refused("team_id", "is missing"))?;
    query.finish()?;
    let team = visible(&admin, &actor, &team_id).await?;
    admin.flush_soon().await;
    let directory = &*admin.state.database;
    let members = Members::of(directory, std::slice::from_ref(&team_id)).await?;
    let keys = Filter {
        kind: Some(EntityKind::Key),
        team_id: Some(team_id.clone()),
        limit: MOST_KEYS,
        ..Filter::default()
    };
    let keys = directory.list(&keys).await?;
    let memberships: Vec<Shown> = members.in_team(&team_id).iter().map(members::described).collect();
    let mut shown = Shown::default();
    shown
        .put("team_id", &team_id)
        .put("team_info", &described(&team, &members))
        .put("keys", &keys.entities.iter().map(key_row).collect::<Vec<_>>())
        .put("keys_total", &keys.total)
        .put("team_memberships", &memberships);
    Ok(private_json(&shown))
}

/// Ids of the teams that the caller may see; `None`: all.
async fn seen(admin: &Admin, actor: &Actor, user: Option<&str>) -> Result<Option<BTreeSet<String>>, Failure> {
    let team_of = |member: Entity| member.team_id;
    let directory = &*admin.state.database;
    let mut own: Option<BTreeSet<String>> = None;
    if !actor.all() {
        let mut ids: BTreeSet<String> =
            admin.memberships(actor, EntityKind::Member).await?.into_iter().filter_map(team_of).collect();
        ids.extend(actor.key.as_ref().and_then(|key| key.team_id.clone()));
        for member in admin.memberships(actor, EntityKind::OrganizationMember).await? {
            if member.settings.role.as_deref() == Some("org_admin") {
                let teams = Filter {
                    kind: Some(EntityKind::Team),
                    organization_id: member.organization_id,
                    ..Filter::default()
                };
                ids.extend(all(directory, teams).await?.into_iter().map(|team| team.id));
            }
        }
        own = Some(ids);
    }
    let Some(user) = user else { return Ok(own) };
    let theirs =
        Filter { kind: Some(EntityKind::Member), user_id: Some(user.to_owned()), ..Filter::default() };
    let theirs: BTreeSet<String> = all(directory, theirs).await?.into_iter().filter_map(team_of).collect();
    Ok(Some(match own {
        None => theirs,
        Some(own) => own.intersection(&theirs).cloned().collect(),
    }))
}

/// The filters that both lists have.
async fn wanted(admin: &Admin, actor: &Actor, query: &mut Query) -> Result<Filter, Failure> {
    let user = query.take("user_id");
    let ids = seen(admin, actor, user.as_deref()).await?;
    let (sort, ascending) = sorting(query)?;
    let mut ids = ids.map(|ids| ids.into_iter().collect::<Vec<_>>());
    if let Some(team) = query.take("team_id") {
        let may = ids.as_ref().is_none_or(|ids| ids.contains(&team));
        ids = Some(if may { vec![team] } else { Vec::new() });
    }
    Ok(Filter {
        kind: Some(EntityKind::Team),
        ids,
        organization_id: query.take("organization_id"),
        alias: query.take("team_alias").or_else(|| query.take("search")),
        substring: true,
        blocked: query.has("blocked").then(|| query.flag("blocked")).transpose()?,
        sort,
        ascending,
        ..Filter::default()
    })
}

async fn rows(admin: &Admin, teams: &[Entity]) -> Result<Vec<Shown>, Failure> {
    let ids: Vec<String> = teams.iter().map(|team| team.id.clone()).collect();
    let members = Members::of(&*admin.state.database, &ids).await?;
    let row = |team: &Entity| {
        let memberships: Vec<Shown> = members.in_team(&team.id).iter().map(members::described).collect();
        let mut shown = described(team, &members);
        shown.put("team_memberships", &memberships).put("members_count", &memberships.len());
        shown
    };
    Ok(teams.iter().map(row).collect())
}

/// LiteLLM's list without pages, the newest thousand.
pub(super) async fn all_teams(
    State(admin): State<Admin>,
    actor: Actor,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let mut query = Query::parse(query.as_deref());
    let filter = wanted(&admin, &actor, &mut query).await?;
    query.finish()?;
    admin.flush_soon().await;
    let teams = admin.state.database.list(&Filter { limit: MOST_TEAMS, ..filter }).await?.entities;
    Ok(private_json(&rows(&admin, &teams).await?))
}

pub(super) async fn pages(
    State(admin): State<Admin>,
    actor: Actor,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let mut query = Query::parse(query.as_deref());
    let paging = Paging::of(&mut query, 10, 100)?;
    let filter = wanted(&admin, &actor, &mut query).await?;
    query.finish()?;
    admin.flush_soon().await;
    let filter = Filter { offset: paging.offset(), limit: paging.size, ..filter };
    let page = admin.state.database.list(&filter).await?;
    let mut shown = Shown::default();
    shown
        .put("teams", &rows(&admin, &page.entities).await?)
        .put("total", &page.total)
        .put("page", &paging.page)
        .put("page_size", &paging.size)
        .put("total_pages", &paging.pages(page.total));
    Ok(private_json(&shown))
}

/// Teams that anybody may join (`default_internal_user_params.available_teams`).
pub(in super::super) fn joinable(admin: &Admin) -> Vec<&str> {
    let params = &admin.state.config.litellm_settings.default_internal_user_params;
    let list = params.get("available_teams").and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).collect()
}

/// Teams that the caller may join and is not in. Strangers are not told who is in them, or what limits they have.
pub(super) async fn available(State(admin): State<Admin>, actor: Actor) -> Result<Response, Failure> {
    let mine = admin.memberships(&actor, EntityKind::Member).await?;
    let is_in = |team: &str| mine.iter().any(|member| member.team_id.as_deref() == Some(team));
    let ids = joinable(&admin).into_iter().filter(|team| !is_in(team));
    let refs: Vec<EntityRef> = ids.map(|id| EntityRef::new(EntityKind::Team, id)).collect();
    let mut teams = match refs.is_empty() {
        true => Vec::new(),
        false => admin.state.database.entities(&refs).await?,
    };
    teams.sort_by(|a, b| a.id.cmp(&b.id));
    let row = |team: &Entity| {
        let mut shown = Shown::default();
        shown
            .put("team_id", &team.id)
            .put("team_alias", &team.alias)
            .put("description", &team.settings.rest.get("description"))
            .put("models", &team.settings.models);
        shown
    };
    Ok(private_json(&teams.iter().map(row).collect::<Vec<_>>()))
}

pub(super) async fn permissions(
    State(admin): State<Admin>,
    actor: Actor,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let mut query = Query::parse(query.as_deref());
    let team_id = query.take("team_id").ok_or_else(|| refused("team_id", "is missing"))?;
    query.finish()?;
    let team = visible(&admin, &actor, &team_id).await?;
    let mut shown = Shown::default();
    shown
        .put("team_id", &team_id)
        .put(PERMISSIONS, &team.settings.rest.get(PERMISSIONS).cloned().unwrap_or_default())
        .put("all_available_permissions", &AVAILABLE_PERMISSIONS);
    Ok(private_json(&shown))
}
