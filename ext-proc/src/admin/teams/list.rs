//! Teams shown: one, all that a caller may see, in pages.

use std::collections::BTreeSet;

use axum::extract::{RawQuery, State};
use axum::response::Response;

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
use crate::entity::{Entity, EntityKind};
use crate::store::Filter;

/// Field of a team that lists what its members may do with its keys.
pub(super) const PERMISSIONS: &str = "team_member_permissions";
/// What that field may hold, as LiteLLM names it.
const AVAILABLE_PERMISSIONS: [&str; 9] = [
    "/key/generate",
    "/key/update",
    "/key/delete",
    "/key/info",
    "/key/list",
    "/key/regenerate",
    "/key/service-account/generate",
    "/key/block",
    "/key/unblock",
];
/// Keys of one team that its description shows.
const MOST_KEYS: u32 = 1_000;
/// Teams of one unpaginated list.
const MOST_TEAMS: u32 = 1_000;

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
    let directory = &*admin.state.directory;
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
    let directory = &*admin.state.directory;
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
    let members = Members::of(&*admin.state.directory, &ids).await?;
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
    let teams = admin.state.directory.list(&Filter { limit: MOST_TEAMS, ..filter }).await?.entities;
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
    let page = admin.state.directory.list(&filter).await?;
    let mut shown = Shown::default();
    shown
        .put("teams", &rows(&admin, &page.entities).await?)
        .put("total", &page.total)
        .put("page", &paging.page)
        .put("page_size", &paging.size)
        .put("total_pages", &paging.pages(page.total));
    Ok(private_json(&shown))
}

/// Teams that the caller is in: none can be joined without being added.
pub(super) async fn available(State(_): State<Admin>, _: Actor) -> Result<Response, Failure> {
    Ok(private_json(&Vec::<Shown>::new()))
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
