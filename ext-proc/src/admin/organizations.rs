//! `/organization/*`: organisations, which have teams, and people who administer them.

mod members;

use std::collections::BTreeSet;

use attache_llm::error::ApiError;
use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use axum::routing::{delete, get, patch, post};
use serde_json::{Map, Value};

use super::Admin;
use super::access::Actor;
use super::body::{Fields, refused};
use super::edit::{Paging, edit, insert};
use super::entity_fields::{describe, keep_rest, name, read};
use super::members::{Members, budget_table};
use super::people::{all, every, fresh_id, id, ids, missing, sorting};
use super::query::Query;
use super::removal::Going;
use super::reply::{Failure, private_json};
use super::shown::Shown;
use super::teams;
use crate::entity::{Entity, EntityKind};
use crate::store::{Directory, Filter};

pub(super) use members::membership;

type Body = Result<Bytes, BytesRejection>;

/// Organisations of one list.
const MOST_LISTED: u32 = 1_000;
/// Members and teams that a description shows.
const MOST_SHOWN: u32 = 1_000;

pub(super) fn routes() -> Router<Admin> {
    Router::new()
        .route("/organization/new", post(new))
        .route("/organization/update", patch(update))
        .route("/organization/delete", delete(remove))
        .route("/organization/info", get(info))
        .route("/organization/list", get(list))
        .route("/organization/member_add", post(members::add))
        .route("/organization/member_update", patch(members::update))
        .route("/organization/member_delete", delete(members::remove))
}

fn described(organization: &Entity) -> Shown {
    let mut shown = Shown::default();
    shown.put("organization_id", &organization.id).put("organization_alias", &organization.alias);
    describe(organization, &mut shown);
    shown.put("litellm_budget_table", &budget_table(organization));
    shown
}

/// Reads everything about an organisation but its id; returns warnings.
fn change(organization: &mut Entity, mut fields: Fields) -> Result<Vec<String>, ApiError> {
    if fields.has("organization_alias") {
        organization.alias = Some(id(&mut fields, "organization_alias")?);
    }
    if fields.has("budget_id") {
        organization.budget_id = name(&mut fields, "budget_id")?;
    }
    if let Some(blocked) = fields.flag("blocked")? {
        organization.blocked = blocked;
    }
    read(&mut fields, &mut organization.settings)?;
    keep_rest(fields, &mut organization.settings)
}

async fn new(State(admin): State<Admin>, actor: Actor, body: Body) -> Result<Response, Failure> {
    let mut fields = Fields::parse(body)?;
    if !fields.has("organization_alias") {
        return Err(refused("organization_alias", "is missing").into());
    }
    let organization_id = name(&mut fields, "organization_id")?.unwrap_or_else(fresh_id);
    let mut organization = Entity::new(EntityKind::Organization, organization_id.as_str());
    let warnings = change(&mut organization, fields)?;
    admin.is_free(EntityKind::Organization, &organization_id, "organization_id").await?;
    admin.need_if(EntityKind::Budget, organization.budget_id.as_deref(), "budget_id").await?;
    let author = actor.author();
    let done = admin.apply(&[insert(organization, &author)], &author).await?;
    let organization = done.into_iter().flatten().next();
    let organization =
        organization.ok_or_else(|| missing(EntityKind::Organization, &organization_id, "organization_id"))?;
    let mut shown = described(&organization);
    teams::warn(&mut shown, &warnings);
    Ok(private_json(&shown))
}

async fn update(State(admin): State<Admin>, actor: Actor, body: Body) -> Result<Response, Failure> {
    let mut fields = Fields::parse(body)?;
    let organization_id = id(&mut fields, "organization_id")?;
    admin.need(EntityKind::Organization, &organization_id, "organization_id").await?;
    admin.require_organization_admin(&actor, &organization_id).await?;
    let budget = fields.get("budget_id").and_then(Value::as_str);
    admin.need_if(EntityKind::Budget, budget, "budget_id").await?;
    let map: Map<String, Value> = fields.rest().collect();
    let mut warnings = Vec::new();
    let changed = edit(&admin, EntityKind::Organization, &organization_id, &actor.author(), |organization| {
        let before = organization.clone();
        warnings = change(organization, Fields::of(map.clone()))?;
        // What limits the organisation is not its own admins' to lift.
        let named = Entity { alias: before.alias.clone(), ..organization.clone() };
        match actor.is_admin() || named == before {
            true => Ok(()),
            false => Err(super::access::forbidden(
                "Admins of an organization may change its `organization_alias` only.",
            )),
        }
    })
    .await?;
    let changed =
        changed.ok_or_else(|| missing(EntityKind::Organization, &organization_id, "organization_id"))?;
    let mut shown = described(&changed);
    teams::warn(&mut shown, &warnings);
    Ok(private_json(&shown))
}

async fn remove(State(admin): State<Admin>, actor: Actor, body: Body) -> Result<Response, Failure> {
    let organization_ids = ids(&mut Fields::parse(body)?, "organization_ids")?;
    let directory = &*admin.state.database;
    let known = every(directory, EntityKind::Organization, &organization_ids, "organization_ids").await?;
    admin.remove(&actor, Going::Organizations(&organization_ids)).await?;
    tracing::info!(organizations = organization_ids.len(), "organizations deleted");
    Ok(private_json(&known.iter().map(described).collect::<Vec<_>>()))
}

/// Members of an organisation, oldest first.
async fn people(directory: &dyn Directory, organization: &str) -> Result<Vec<Shown>, Failure> {
    let wanted = Filter {
        kind: Some(EntityKind::OrganizationMember),
        organization_id: Some(organization.to_owned()),
        ascending: true,
        limit: MOST_SHOWN,
        ..Filter::default()
    };
    Ok(directory.list(&wanted).await?.entities.iter().map(members::described).collect())
}

async fn info(
    State(admin): State<Admin>,
    actor: Actor,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let mut query = Query::parse(query.as_deref());
    let organization_id =
        query.take("organization_id").ok_or_else(|| refused("organization_id", "is missing"))?;
    query.finish()?;
    if !actor.all() && !seen(&admin, &actor).await?.contains(&organization_id) {
        return Err(actor.refusal("the organization is not one of yours"));
    }
    admin.flush_soon().await;
    let directory = &*admin.state.database;
    let organization = admin.need(EntityKind::Organization, &organization_id, "organization_id").await?;
    let its_teams = Filter {
        kind: Some(EntityKind::Team),
        organization_id: Some(organization_id.clone()),
        limit: MOST_SHOWN,
        ..Filter::default()
    };
    let its_teams = directory.list(&its_teams).await?.entities;
    let team_ids: Vec<String> = its_teams.iter().map(|team| team.id.clone()).collect();
    let team_members = Members::of(directory, &team_ids).await?;
    let rows: Vec<Shown> = its_teams.iter().map(|team| teams::described(team, &team_members)).collect();
    let mut shown = described(&organization);
    shown.put("members", &people(directory, &organization_id).await?).put("teams", &rows);
    Ok(private_json(&shown))
}

/// Organisations that the caller is in.
async fn seen(admin: &Admin, actor: &Actor) -> Result<BTreeSet<String>, Failure> {
    let own = admin.memberships(actor, EntityKind::OrganizationMember).await?;
    Ok(own.into_iter().filter_map(|member| member.organization_id).collect())
}

/// LiteLLM's list has no pages; `page` and `page_size` choose a part of it here.
async fn list(
    State(admin): State<Admin>,
    actor: Actor,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let mut query = Query::parse(query.as_deref());
    let paging = Paging::of(&mut query, MOST_LISTED, MOST_LISTED)?;
    let (sort, ascending) = sorting(&mut query)?;
    let ids = match actor.all() {
        true => None,
        false => Some(seen(&admin, &actor).await?.into_iter().collect()),
    };
    let filter = Filter {
        kind: Some(EntityKind::Organization),
        ids,
        alias: query.take("org_alias").or_else(|| query.take("organization_alias")),
        substring: true,
        sort,
        ascending,
        offset: paging.offset(),
        limit: paging.size,
        ..Filter::default()
    };
    query.finish()?;
    admin.flush_soon().await;
    let directory = &*admin.state.database;
    let page = directory.list(&filter).await?.entities;
    let mut rows = Vec::with_capacity(page.len());
    for organization in &page {
        let its_teams = Filter {
            kind: Some(EntityKind::Team),
            organization_id: Some(organization.id.clone()),
            ..Filter::default()
        };
        let its_teams = all(directory, its_teams).await?;
        let team_ids: Vec<&str> = its_teams.iter().map(|team| team.id.as_str()).collect();
        let mut shown = described(organization);
        shown.put("members", &people(directory, &organization.id).await?).put("team_ids", &team_ids);
        rows.push(shown);
    }
    Ok(private_json(&rows))
}

#[cfg(test)]
#[path = "organizations_tests.rs"]
mod tests;
