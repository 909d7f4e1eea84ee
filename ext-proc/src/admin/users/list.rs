//! Users shown: one, or pages of them.

use std::collections::BTreeSet;

use axum::extract::{RawQuery, State};
use axum::response::Response;

use super::super::Admin;
use super::super::access::{Actor, Role};
use super::super::edit::Paging;
use super::super::members::Members;
use super::super::people::{all, every, key_row, missing, sorting};
use super::super::query::Query;
use super::super::reply::{Failure, private_json};
use super::super::shown::Shown;
use super::super::teams;
use super::described;
use crate::entity::{Entity, EntityKind};
use crate::store::{Directory, Filter};

/// Keys of one user that its description shows.
const MOST_KEYS: u32 = 1_000;
/// Who the master key is, as LiteLLM names it.
const MASTER_USER: &str = "default_user_id";

/// The user that the caller asks about and may see.
async fn asked(admin: &Admin, actor: &Actor, query: Option<&str>) -> Result<Entity, Failure> {
    let mut query = Query::parse(query);
    let asked = query.take("user_id");
    query.finish()?;
    let id = asked.as_deref().or_else(|| actor.user_id()).unwrap_or(MASTER_USER);
    if !actor.all() && actor.user_id() != Some(id) {
        return Err(actor.refusal("it is another user"));
    }
    admin.flush_soon().await;
    match admin.find(EntityKind::User, id).await? {
        Some(user) => Ok(user),
        // The master key is nobody that is stored.
        None if id == MASTER_USER && actor.role == Role::Admin => {
            let mut user = Entity::new(EntityKind::User, MASTER_USER);
            user.settings.role = Some("proxy_admin".to_owned());
            Ok(user)
        }
        None => Err(missing(EntityKind::User, id, "user_id")),
    }
}

/// Ids of the teams of a user.
async fn teams_of(directory: &dyn Directory, user: &str) -> Result<Vec<String>, Failure> {
    let theirs =
        Filter { kind: Some(EntityKind::Member), user_id: Some(user.to_owned()), ..Filter::default() };
    Ok(all(directory, theirs).await?.into_iter().filter_map(|member| member.team_id).collect())
}

pub(super) async fn info(
    State(admin): State<Admin>,
    actor: Actor,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let user = asked(&admin, &actor, query.as_deref()).await?;
    let directory = &*admin.state.database;
    let team_ids = teams_of(directory, &user.id).await?;
    let refs: Vec<_> =
        team_ids.iter().map(|id| crate::entity::EntityRef::new(EntityKind::Team, id)).collect();
    let stored = if refs.is_empty() { Vec::new() } else { directory.entities(&refs).await? };
    let members = Members::of(directory, &team_ids).await?;
    let keys = Filter {
        kind: Some(EntityKind::Key),
        user_id: Some(user.id.clone()),
        limit: MOST_KEYS,
        ..Filter::default()
    };
    let keys = directory.list(&keys).await?;
    let mut info = described(&user);
    info.put("teams", &team_ids);
    let mut shown = Shown::default();
    shown
        .put("user_id", &user.id)
        .put("user_info", &info)
        .put("keys", &keys.entities.iter().map(key_row).collect::<Vec<_>>())
        .put("keys_total", &keys.total)
        .put("teams", &stored.iter().map(|team| teams::described(team, &members)).collect::<Vec<_>>());
    Ok(private_json(&shown))
}

pub(super) async fn flat_info(
    State(admin): State<Admin>,
    actor: Actor,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let user = asked(&admin, &actor, query.as_deref()).await?;
    let mut shown = described(&user);
    shown.put("teams", &teams_of(&*admin.state.database, &user.id).await?);
    Ok(private_json(&shown))
}

/// Users that the caller administers, by its organisations.
async fn administered(admin: &Admin, actor: &Actor) -> Result<BTreeSet<String>, Failure> {
    let mut users = BTreeSet::new();
    for own in admin.memberships(actor, EntityKind::OrganizationMember).await? {
        if own.settings.role.as_deref() == Some("org_admin") {
            let theirs = Filter {
                kind: Some(EntityKind::OrganizationMember),
                organization_id: own.organization_id,
                ..Filter::default()
            };
            let found = all(&*admin.state.database, theirs).await?;
            users.extend(found.into_iter().filter_map(|member| member.user_id));
        }
    }
    match users.is_empty() {
        true => Err(actor.refusal("only an admin of everything, or of an organization, may do it")),
        false => Ok(users),
    }
}

async fn wanted(admin: &Admin, actor: &Actor, query: &mut Query) -> Result<Filter, Failure> {
    let directory = &*admin.state.database;
    let mut ids: Option<BTreeSet<String>> = None;
    let narrow = |ids: &mut Option<BTreeSet<String>>, to: BTreeSet<String>| {
        *ids = Some(match ids.take() {
            None => to,
            Some(known) => known.intersection(&to).cloned().collect(),
        });
    };
    if !actor.all() {
        narrow(&mut ids, administered(admin, actor).await?);
    }
    for name in ["user_ids", "user_id"] {
        let named: BTreeSet<String> =
            query.take_all(name).iter().flat_map(|list| list.split(',')).map(str::to_owned).collect();
        if !named.is_empty() {
            narrow(&mut ids, named);
        }
    }
    for (name, kind) in [("team", EntityKind::Member), ("team_id", EntityKind::Member)] {
        if let Some(team) = query.take(name) {
            every(directory, EntityKind::Team, std::slice::from_ref(&team), "team").await?;
            let theirs = Filter { kind: Some(kind), team_id: Some(team), ..Filter::default() };
            let users = all(directory, theirs).await?.into_iter().filter_map(|member| member.user_id);
            narrow(&mut ids, users.collect());
        }
    }
    let (sort, ascending) = sorting(query)?;
    let role = query.take("role").or_else(|| query.take("user_role"));
    Ok(Filter {
        kind: Some(EntityKind::User),
        ids: ids.map(|ids| ids.into_iter().collect()),
        role,
        email: query.take("user_email").map(|email| email.to_lowercase()),
        alias: query.take("search").or_else(|| query.take("user_alias")),
        substring: true,
        sort,
        ascending,
        ..Filter::default()
    })
}

pub(super) async fn pages(
    State(admin): State<Admin>,
    actor: Actor,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let mut query = Query::parse(query.as_deref());
    let paging = Paging::of(&mut query, 25, 100)?;
    let filter = wanted(&admin, &actor, &mut query).await?;
    query.finish()?;
    admin.flush_soon().await;
    let directory = &*admin.state.database;
    let page = directory.list(&Filter { offset: paging.offset(), limit: paging.size, ..filter }).await?;
    let mut users = Vec::with_capacity(page.entities.len());
    for user in &page.entities {
        let keys = Filter {
            kind: Some(EntityKind::Key),
            user_id: Some(user.id.clone()),
            limit: 0,
            ..Filter::default()
        };
        let mut shown = described(user);
        shown
            .put("teams", &teams_of(directory, &user.id).await?)
            .put("key_count", &directory.list(&keys).await?.total);
        users.push(shown);
    }
    let mut shown = Shown::default();
    shown
        .put("users", &users)
        .put("total", &page.total)
        .put("page", &paging.page)
        .put("page_size", &paging.size)
        .put("total_pages", &paging.pages(page.total));
    Ok(private_json(&shown))
}
