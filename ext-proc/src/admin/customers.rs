//! `/customer/*` (also `/end_user/*`): whom requests are made for (`user` of the body), with limits of their own.

use attache_llm::error::ApiError;
use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use axum::routing::{get, post};
use serde_json::{Map, Value};

use super::Admin;
use super::access::Actor;
use super::body::{Fields, refused};
use super::edit::{Paging, edit, insert, replace};
use super::entity_fields::{describe, keep_rest, name, read};
use super::members::budget_table;
use super::people::{every, id, ids, missing, sorting};
use super::query::Query;
use super::reply::{Failure, private_json};
use super::shown::Shown;
use super::teams::warn;
use crate::entity::{Entity, EntityKind, EntityRef};
use crate::store::{Filter, Write};

type Body = Result<Bytes, BytesRejection>;

/// Where a customer's requests may be answered.
const REGIONS: [&str; 2] = ["eu", "us"];
/// Customers of one list without pages.
const MOST_LISTED: u32 = 1_000;

pub(super) fn routes() -> Router<Admin> {
    ["/customer", "/end_user"].into_iter().fold(Router::new(), |router, prefix| {
        router
            .route(&format!("{prefix}/new"), post(new))
            .route(&format!("{prefix}/update"), post(update))
            .route(&format!("{prefix}/delete"), post(delete))
            .route(&format!("{prefix}/block"), post(block))
            .route(&format!("{prefix}/unblock"), post(unblock))
            .route(&format!("{prefix}/info"), get(info))
            .route(&format!("{prefix}/list"), get(list))
    })
}

/// A customer, with the limits that hold: its own, else those of the budget that it shares.
fn described(customer: &Entity, budget: Option<&Entity>) -> Shown {
    let mut shown = Shown::default();
    shown
        .put("user_id", &customer.id)
        .put("alias", &customer.alias)
        .put("allowed_model_region", &customer.settings.allowed_model_region)
        .put("default_model", &customer.settings.default_model);
    describe(customer, &mut shown);
    shown.put("litellm_budget_table", &budget_table(budget.unwrap_or(customer)));
    shown
}

async fn shown(admin: &Admin, customer: &Entity) -> Result<Shown, Failure> {
    let budget = match &customer.budget_id {
        Some(id) => admin.find(EntityKind::Budget, id).await?,
        None => None,
    };
    Ok(described(customer, budget.as_ref()))
}

/// Reads everything about a customer but its id; returns warnings.
fn change(customer: &mut Entity, mut fields: Fields) -> Result<Vec<String>, ApiError> {
    if fields.has("alias") {
        customer.alias = name(&mut fields, "alias")?;
    }
    if fields.has("budget_id") {
        customer.budget_id = name(&mut fields, "budget_id")?;
    }
    if let Some(blocked) = fields.flag("blocked")? {
        customer.blocked = blocked;
    }
    if fields.has("allowed_model_region") {
        let region = fields.text("allowed_model_region", 16)?;
        if region.as_ref().is_some_and(|region| !REGIONS.contains(&region.as_str())) {
            return Err(refused("allowed_model_region", "must be eu or us"));
        }
        customer.settings.allowed_model_region = region;
    }
    if fields.has("default_model") {
        customer.settings.default_model = name(&mut fields, "default_model")?;
    }
    read(&mut fields, &mut customer.settings)?;
    keep_rest(fields, &mut customer.settings)
}

async fn new(State(admin): State<Admin>, actor: Actor, body: Body) -> Result<Response, Failure> {
    let mut fields = Fields::parse(body)?;
    let user_id = id(&mut fields, "user_id")?;
    let spend = fields.dollars("spend")?;
    let mut customer = Entity::new(EntityKind::EndUser, user_id.as_str());
    let warnings = change(&mut customer, fields)?;
    admin.is_free(EntityKind::EndUser, &user_id, "user_id").await?;
    admin.need_if(EntityKind::Budget, customer.budget_id.as_deref(), "budget_id").await?;
    let author = actor.author();
    let of = customer.reference();
    let mut writes = vec![insert(customer, &author)];
    writes.extend(spend.map(|to_nanos| Write::ResetSpend { of, to_nanos }));
    let done = admin.apply(&writes, &author).await?.into_iter().flatten().next_back();
    let customer = done.ok_or_else(|| missing(EntityKind::EndUser, &user_id, "user_id"))?;
    let mut shown = shown(&admin, &customer).await?;
    warn(&mut shown, &warnings);
    Ok(private_json(&shown))
}

async fn update(State(admin): State<Admin>, actor: Actor, body: Body) -> Result<Response, Failure> {
    let mut fields = Fields::parse(body)?;
    let user_id = id(&mut fields, "user_id")?;
    let spend = fields.dollars("spend")?;
    let budget = fields.get("budget_id").and_then(Value::as_str);
    admin.need_if(EntityKind::Budget, budget, "budget_id").await?;
    let map: Map<String, Value> = fields.rest().collect();
    let mut warnings = Vec::new();
    let author = actor.author();
    let customer = edit(&admin, EntityKind::EndUser, &user_id, &author, |customer| {
        warnings = change(customer, Fields::of(map.clone()))?;
        Ok(())
    })
    .await?;
    let mut customer = customer.ok_or_else(|| missing(EntityKind::EndUser, &user_id, "user_id"))?;
    if let Some(to_nanos) = spend {
        let write = Write::ResetSpend { of: customer.reference(), to_nanos };
        let done = admin.apply(&[write], &author).await?.into_iter().flatten().next();
        customer = done.unwrap_or(customer);
    }
    let mut shown = shown(&admin, &customer).await?;
    warn(&mut shown, &warnings);
    Ok(private_json(&shown))
}

async fn delete(State(admin): State<Admin>, actor: Actor, body: Body) -> Result<Response, Failure> {
    let user_ids = ids(&mut Fields::parse(body)?, "user_ids")?;
    let known = every(&*admin.state.database, EntityKind::EndUser, &user_ids, "user_ids").await?;
    let writes: Vec<Write> = known.iter().map(|customer| Write::Delete(customer.reference())).collect();
    admin.apply(&writes, &actor.author()).await?;
    let mut shown = Shown::default();
    shown
        .put("deleted_customers", &user_ids.len())
        .put("message", &format!("Deleted customers: {}", user_ids.join(", ")));
    Ok(private_json(&shown))
}

async fn block(State(admin): State<Admin>, actor: Actor, body: Body) -> Result<Response, Failure> {
    set_blocked(&admin, &actor, body, true).await
}

async fn unblock(State(admin): State<Admin>, actor: Actor, body: Body) -> Result<Response, Failure> {
    set_blocked(&admin, &actor, body, false).await
}

/// Who is blocked need not be known: it is stored then.
async fn set_blocked(admin: &Admin, actor: &Actor, body: Body, blocked: bool) -> Result<Response, Failure> {
    let user_ids = ids(&mut Fields::parse(body)?, "user_ids")?;
    let refs: Vec<EntityRef> =
        user_ids.iter().map(|id| EntityRef::new(EntityKind::EndUser, id.as_str())).collect();
    let known = admin.state.database.entities(&refs).await?;
    let author = actor.author();
    let mut writes = Vec::with_capacity(user_ids.len());
    for id in &user_ids {
        match known.iter().find(|customer| customer.id == *id) {
            Some(customer) if customer.blocked != blocked => {
                writes.push(replace(customer.clone(), Entity { blocked, ..customer.clone() }, &author));
            }
            Some(_) => {}
            None if blocked => {
                let customer = Entity::new(EntityKind::EndUser, id.as_str());
                writes.push(insert(Entity { blocked, ..customer }, &author));
            }
            None => return Err(missing(EntityKind::EndUser, id, "user_ids")),
        }
    }
    if !writes.is_empty() {
        admin.apply(&writes, &author).await?;
    }
    let now = every(&*admin.state.database, EntityKind::EndUser, &user_ids, "user_ids").await?;
    let rows: Vec<Shown> = now.iter().map(|customer| described(customer, None)).collect();
    let mut shown = Shown::default();
    shown.put(if blocked { "blocked_users" } else { "unblocked_users" }, &rows);
    Ok(private_json(&shown))
}

async fn info(State(admin): State<Admin>, _: Actor, RawQuery(query): RawQuery) -> Result<Response, Failure> {
    let mut query = Query::parse(query.as_deref());
    let user_id = query.take("end_user_id").or_else(|| query.take("user_id"));
    let user_id = user_id.ok_or_else(|| refused("end_user_id", "is missing"))?;
    query.finish()?;
    admin.flush_soon().await;
    let customer = admin.need(EntityKind::EndUser, &user_id, "end_user_id").await?;
    Ok(private_json(&shown(&admin, &customer).await?))
}

/// LiteLLM's list has no pages; with `page` it has them here.
async fn list(State(admin): State<Admin>, _: Actor, RawQuery(query): RawQuery) -> Result<Response, Failure> {
    let mut query = Query::parse(query.as_deref());
    let paged = query.has("page") || query.has("page_size") || query.has("size");
    let paging = Paging::of(&mut query, if paged { 25 } else { MOST_LISTED }, MOST_LISTED)?;
    let (sort, ascending) = sorting(&mut query)?;
    let filter = Filter {
        kind: Some(EntityKind::EndUser),
        alias: query.take("search"),
        substring: true,
        blocked: query.has("blocked").then(|| query.flag("blocked")).transpose()?,
        sort,
        ascending,
        offset: paging.offset(),
        limit: paging.size,
        ..Filter::default()
    };
    query.finish()?;
    admin.flush_soon().await;
    let page = admin.state.database.list(&filter).await?;
    let refs: Vec<EntityRef> =
        page.entities.iter().filter_map(|customer| customer.budget_id.as_deref()).map(budget).collect();
    let budgets = if refs.is_empty() { Vec::new() } else { admin.state.database.entities(&refs).await? };
    let of = |customer: &Entity| {
        let shared = budgets.iter().find(|budget| Some(&budget.id) == customer.budget_id.as_ref());
        described(customer, shared)
    };
    let rows: Vec<Shown> = page.entities.iter().map(of).collect();
    if !paged {
        return Ok(private_json(&rows));
    }
    let mut shown = Shown::default();
    shown
        .put("customers", &rows)
        .put("total", &page.total)
        .put("page", &paging.page)
        .put("page_size", &paging.size)
        .put("total_pages", &paging.pages(page.total));
    Ok(private_json(&shown))
}

fn budget(id: &str) -> EntityRef {
    EntityRef::new(EntityKind::Budget, id)
}

#[cfg(test)]
#[path = "customers_tests.rs"]
mod tests;
