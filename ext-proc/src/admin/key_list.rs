//! `/key/list` and `/key/aliases`.

use std::collections::BTreeMap;

use attache_llm::error::ApiError;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use serde_json::json as object;

use super::Admin;
use super::access::{Actor, Role};
use super::body::refused;
use super::edit::Paging;
use super::keys::hash_of;
use super::query::Query;
use super::reply::{Failure, private_json};
use super::shown::Shown;
use crate::entity::{Entity, EntityKind, EntityRef, member_parts};
use crate::routing::now_ms;
use crate::store::{Filter, Page, Sort};

/// LiteLLM's largest page.
const LARGEST_PAGE: u32 = 100;
const LARGEST_ALIAS_PAGE: u32 = 1_000;
/// Keys of a list that is put together from several (`include_team_keys`).
const MOST_JOINED: u32 = 5_000;

/// What `/key/list` is asked for.
struct Asked {
    filter: Filter,
    paging: Paging,
    full: bool,
    with_user: bool,
    team_keys: bool,
    created_keys: bool,
    /// `status=deleted`: none is kept.
    nothing: bool,
}

fn asked(query: Option<&str>) -> Result<Asked, ApiError> {
    let mut query = Query::parse(query);
    let paging = Paging::of(&mut query, 10, LARGEST_PAGE)?;
    let mut filter = Filter {
        kind: Some(EntityKind::Key),
        ids: query.take("key_hash").map(|hash| vec![hash_of(&hash)]),
        team_id: query.take("team_id"),
        user_id: query.take("user_id"),
        organization_id: query.take("organization_id"),
        budget_id: query.take("budget_id"),
        created_by: query.take("created_by"),
        offset: paging.offset(),
        limit: paging.size,
        ..Filter::default()
    };
    let search = query.take("search");
    filter.substring = query.flag("substring_matching")? || search.is_some();
    filter.alias = query.take("key_alias").or(search);
    (filter.sort, filter.ascending) = order(&mut query)?;
    let nothing = status(&mut query, &mut filter)?;
    let full = query.flag("return_full_object")?;
    let expand = query.take_all("expand");
    if expand.iter().any(|part| part != "user") {
        return Err(refused("expand", "may be user only"));
    }
    let asked = Asked {
        filter,
        paging,
        full: full || !expand.is_empty(),
        with_user: !expand.is_empty(),
        team_keys: query.flag("include_team_keys")?,
        created_keys: query.flag("include_created_by_keys")?,
        nothing,
    };
    query.finish()?;
    Ok(asked)
}

fn order(query: &mut Query) -> Result<(Sort, bool), ApiError> {
    let sort = match query.take("sort_by").as_deref() {
        None | Some("created_at") => Sort::Created,
        Some("updated_at") => Sort::Updated,
        Some("key_alias") => Sort::Alias,
        Some("spend") => Sort::Spend,
        Some("expires") => Sort::Expires,
        Some("token" | "key_name") => Sort::Id,
        Some(_) => {
            let why = "must be created_at, updated_at, key_alias, spend, expires or token";
            return Err(refused("sort_by", why));
        }
    };
    match query.take("sort_order").as_deref() {
        None | Some("desc") => Ok((sort, false)),
        Some("asc") => Ok((sort, true)),
        Some(_) => Err(refused("sort_order", "must be asc or desc")),
    }
}

/// Sets the filter for a `status`; true: nothing has it.
fn status(query: &mut Query, filter: &mut Filter) -> Result<bool, ApiError> {
    match query.take("status").as_deref() {
        None => {}
        Some("active") => (filter.blocked, filter.expired) = (Some(false), Some((now_ms(), false))),
        Some("expired") => filter.expired = Some((now_ms(), true)),
        Some("revoked" | "blocked") => filter.blocked = Some(true),
        Some("deleted") => return Ok(true),
        Some(_) => return Err(refused("status", "must be active, expired, revoked or deleted")),
    }
    Ok(false)
}

pub(super) async fn list(
    State(admin): State<Admin>,
    actor: Actor,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let asked = asked(query.as_deref())?;
    let page = match asked.nothing {
        true => Page::default(),
        false => page(&admin, &actor, &asked).await?,
    };
    let mut shown = Shown::default();
    match asked.full {
        true => shown.put("keys", &full(&admin, &page.entities, asked.with_user).await?),
        false => shown.put("keys", &page.entities.iter().map(|key| &key.id).collect::<Vec<_>>()),
    };
    shown
        .put("total_count", &page.total)
        .put("current_page", &asked.paging.page)
        .put("total_pages", &asked.paging.pages(page.total));
    Ok(private_json(&shown))
}

/// The page that is asked for, of what the caller may see.
async fn page(admin: &Admin, actor: &Actor, asked: &Asked) -> Result<Page, Failure> {
    let base = &asked.filter;
    let own = visible(admin, actor, base).await?;
    let mut filters = vec![own];
    let user = base.user_id.clone().or_else(|| actor.user_id().map(str::to_owned));
    if asked.team_keys
        && let Some(user) = &user
    {
        let team_ids = admin_teams(admin, user).await?;
        filters.push(Filter { user_id: None, team_ids: Some(team_ids), ..base.clone() });
    }
    if asked.created_keys {
        filters.push(Filter { user_id: None, created_by: user, ..base.clone() });
    }
    match <[Filter; 1]>::try_from(filters) {
        Ok([filter]) => Ok(admin.state.database.list(&filter).await?),
        Err(filters) => joined(admin, filters, asked).await,
    }
}

/// The filter, narrowed to what the caller may see.
async fn visible(admin: &Admin, actor: &Actor, filter: &Filter) -> Result<Filter, Failure> {
    if actor.all() {
        return Ok(filter.clone());
    }
    let team_admin = match (&filter.team_id, &filter.organization_id) {
        (Some(team), _) => admin.is_team_admin(actor, team).await? || admin.team_permits(actor, team).await?,
        (None, Some(organization)) => admin.is_organization_admin(actor, organization).await?,
        (None, None) => false,
    };
    if team_admin {
        return Ok(filter.clone());
    }
    let Some(mine) = actor.user_id().filter(|_| actor.role != Role::Key) else {
        return Err(actor.refusal("a key without a user has no list of keys"));
    };
    if filter.user_id.as_deref().is_some_and(|user| user != mine) {
        return Err(actor.refusal("keys of other users are an admin's to see"));
    }
    Ok(Filter { user_id: Some(mine.to_owned()), ..filter.clone() })
}

/// Teams of which this user is an admin.
async fn admin_teams(admin: &Admin, user: &str) -> Result<Vec<String>, Failure> {
    let filter = Filter {
        kind: Some(EntityKind::Member),
        user_id: Some(user.to_owned()),
        limit: 1_000,
        ..Filter::default()
    };
    let members = admin.state.database.list(&filter).await?.entities;
    let admins = members.into_iter().filter(|member| member.settings.role.as_deref() == Some("admin"));
    Ok(admins.filter_map(|member| member_parts(&member.id).map(|(team, _)| team.to_owned())).collect())
}

/// One page of several lists together, each key once.
async fn joined(admin: &Admin, filters: Vec<Filter>, asked: &Asked) -> Result<Page, Failure> {
    let mut all: BTreeMap<String, Entity> = BTreeMap::new();
    for filter in filters {
        let filter = Filter { offset: 0, limit: MOST_JOINED, ..filter };
        let found = admin.state.database.list(&filter).await?.entities;
        all.extend(found.into_iter().map(|key| (key.id.clone(), key)));
    }
    let mut all: Vec<Entity> = all.into_values().collect();
    match asked.filter.sort {
        Sort::Created => all.sort_by_key(|key| key.created_ms),
        Sort::Updated => all.sort_by_key(|key| key.updated_ms),
        Sort::Alias => all.sort_by(|a, b| a.alias.cmp(&b.alias)),
        Sort::Id => {}
        Sort::Spend => all.sort_by_key(|key| key.spend_nanos),
        Sort::Expires => all.sort_by_key(|key| key.expires_ms),
    }
    if !asked.filter.ascending {
        all.reverse();
    }
    let total = all.len() as u64;
    let skip = usize::try_from(asked.paging.offset()).unwrap_or(usize::MAX);
    let entities = all.into_iter().skip(skip).take(asked.paging.size as usize).collect();
    Ok(Page { entities, total })
}

async fn full(admin: &Admin, keys: &[Entity], with_user: bool) -> Result<Vec<Shown>, Failure> {
    let mut users = BTreeMap::new();
    if with_user {
        let wanted: Vec<EntityRef> = keys
            .iter()
            .filter_map(|key| key.user_id.as_ref().map(|id| EntityRef::new(EntityKind::User, id)))
            .collect();
        for user in admin.state.database.entities(&wanted).await? {
            users.insert(user.id.clone(), user);
        }
    }
    let described = admin.describe_keys(keys).await?;
    let each = keys.iter().zip(described).map(|(key, described)| {
        let mut shown = Shown::default();
        shown.put("token", &key.id).append(described);
        if let Some(user) = key.user_id.as_ref().and_then(|id| users.get(id)) {
            let email = &user.settings.email;
            shown.put("user", &object!({"user_id": user.id, "user_email": email, "user_alias": user.alias}));
        }
        shown
    });
    Ok(each.collect())
}

/// `/key/aliases`: the names of the keys that the caller may see.
pub(super) async fn aliases(
    State(admin): State<Admin>,
    actor: Actor,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let mut query = Query::parse(query.as_deref());
    let paging = Paging::of(&mut query, 50, LARGEST_ALIAS_PAGE)?;
    let filter = Filter {
        kind: Some(EntityKind::Key),
        // Every alias holds nothing; a key without one does not.
        alias: Some(query.take("search").unwrap_or_default()),
        substring: true,
        team_id: query.take("team_id"),
        sort: Sort::Alias,
        ascending: true,
        offset: paging.offset(),
        limit: paging.size,
        ..Filter::default()
    };
    query.finish()?;
    let filter = visible(&admin, &actor, &filter).await?;
    let Page { entities, total } = admin.state.database.list(&filter).await?;
    let aliases: Vec<&str> = entities.iter().filter_map(|key| key.alias.as_deref()).collect();
    Ok(private_json(&object!({
        "aliases": aliases, "total_count": total, "current_page": paging.page,
        "total_pages": paging.pages(total), "size": paging.size,
    })))
}
