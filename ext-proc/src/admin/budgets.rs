//! `/budget/*`: limits that keys, users, customers and others share by `budget_id`. Every holder counts for itself.

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
use super::people::{all, every, fresh_id, id, ids, missing, sorting};
use super::query::Query;
use super::reply::{Failure, private_json};
use super::shown::Shown;
use super::teams::warn;
use crate::entity::{Entity, EntityKind};
use crate::store::{Author, Filter, Write};

type Body = Result<Bytes, BytesRejection>;

/// Budgets of one list.
const MOST_LISTED: u32 = 1_000;

pub(super) fn routes() -> Router<Admin> {
    Router::new()
        .route("/budget/new", post(new))
        .route("/budget/update", post(update))
        .route("/budget/delete", post(delete))
        .route("/budget/info", post(info))
        .route("/budget/list", get(list))
        .route("/budget/settings", get(settings))
}

fn described(budget: &Entity) -> Shown {
    let mut shown = Shown::default();
    describe(budget, &mut shown);
    shown.put("budget_id", &budget.id).put("allowed_models", &budget.settings.models);
    shown
}

/// Reads everything about a budget but its id; returns warnings.
fn change(budget: &mut Entity, mut fields: Fields) -> Result<Vec<String>, ApiError> {
    if let Some(models) = fields.take("allowed_models") {
        fields.default("models", &models);
    }
    // Windows follow from the clock: there is no moment of reset to set.
    fields.take("budget_reset_at");
    read(&mut fields, &mut budget.settings)?;
    keep_rest(fields, &mut budget.settings)
}

async fn new(State(admin): State<Admin>, actor: Actor, body: Body) -> Result<Response, Failure> {
    let mut fields = Fields::parse(body)?;
    let budget_id = name(&mut fields, "budget_id")?.unwrap_or_else(fresh_id);
    let mut budget = Entity::new(EntityKind::Budget, budget_id.as_str());
    let warnings = change(&mut budget, fields)?;
    admin.is_free(EntityKind::Budget, &budget_id, "budget_id").await?;
    let author = actor.author();
    let done = admin.apply(&[insert(budget, &author)], &author).await?.into_iter().flatten().next();
    let budget = done.ok_or_else(|| missing(EntityKind::Budget, &budget_id, "budget_id"))?;
    let mut shown = described(&budget);
    warn(&mut shown, &warnings);
    Ok(private_json(&shown))
}

async fn update(State(admin): State<Admin>, actor: Actor, body: Body) -> Result<Response, Failure> {
    let mut fields = Fields::parse(body)?;
    let budget_id = id(&mut fields, "budget_id")?;
    let map: Map<String, Value> = fields.rest().collect();
    let mut warnings = Vec::new();
    let budget = edit(&admin, EntityKind::Budget, &budget_id, &actor.author(), |budget| {
        warnings = change(budget, Fields::of(map.clone()))?;
        Ok(())
    })
    .await?;
    let budget = budget.ok_or_else(|| missing(EntityKind::Budget, &budget_id, "budget_id"))?;
    let mut shown = described(&budget);
    warn(&mut shown, &warnings);
    Ok(private_json(&shown))
}

/// Who holds the budget loses it, as in LiteLLM: the limits that it gave are gone.
async fn delete(State(admin): State<Admin>, actor: Actor, body: Body) -> Result<Response, Failure> {
    let budget_id = id(&mut Fields::parse(body)?, "id")?;
    let budget = admin.need(EntityKind::Budget, &budget_id, "id").await?;
    let author = actor.author();
    let mut writes = detachments(&admin, &budget_id, &author).await?;
    let mut detached = writes.len();
    writes.push(Write::Delete(budget.reference()));
    admin.apply(&writes, &author).await?;
    // Who took it up since it was read; from now on nobody can.
    let late = detachments(&admin, &budget_id, &author).await?;
    if !late.is_empty() {
        detached += late.len();
        admin.apply(&late, &author).await?;
    }
    tracing::info!(budget = budget_id, detached, "budget deleted");
    let mut shown = described(&budget);
    shown.put("detached", &detached);
    Ok(private_json(&shown))
}

/// Takes a budget from all who hold it.
async fn detachments(admin: &Admin, budget_id: &str, author: &Author) -> Result<Vec<Write>, Failure> {
    let holders = Filter { budget_id: Some(budget_id.to_owned()), ..Filter::default() };
    let holders = all(&*admin.state.database, holders).await?;
    let free = |holder: Entity| {
        let free = Entity { budget_id: None, ..holder.clone() };
        replace(holder, free, author)
    };
    Ok(holders.into_iter().map(free).collect())
}

async fn info(State(admin): State<Admin>, _: Actor, body: Body) -> Result<Response, Failure> {
    let budgets = ids(&mut Fields::parse(body)?, "budgets")?;
    let budgets = every(&*admin.state.database, EntityKind::Budget, &budgets, "budgets").await?;
    Ok(private_json(&budgets.iter().map(described).collect::<Vec<_>>()))
}

/// LiteLLM's list has no pages; `page` and `page_size` choose a part of it here.
async fn list(State(admin): State<Admin>, _: Actor, RawQuery(query): RawQuery) -> Result<Response, Failure> {
    let mut query = Query::parse(query.as_deref());
    let paging = Paging::of(&mut query, MOST_LISTED, MOST_LISTED)?;
    let (sort, ascending) = sorting(&mut query)?;
    query.finish()?;
    let filter = Filter {
        kind: Some(EntityKind::Budget),
        sort,
        ascending,
        offset: paging.offset(),
        limit: paging.size,
        ..Filter::default()
    };
    let page = admin.state.database.list(&filter).await?;
    Ok(private_json(&page.entities.iter().map(described).collect::<Vec<_>>()))
}

/// Which fields a budget has, with their values.
async fn settings(
    State(admin): State<Admin>,
    _: Actor,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let mut query = Query::parse(query.as_deref());
    let budget_id = query.take("budget_id").ok_or_else(|| refused("budget_id", "is missing"))?;
    query.finish()?;
    let budget = admin.need(EntityKind::Budget, &budget_id, "budget_id").await?;
    let values = described(&budget);
    let field = |(name, kind, description): &(&str, &str, &str)| {
        let mut field = Shown::default();
        field
            .put("field_name", name)
            .put("field_type", kind)
            .put("field_description", description)
            .put("field_value", &values.get(name))
            .put("stored_in_db", &true)
            .put("field_default_value", &Value::Null);
        field
    };
    Ok(private_json(&FIELDS.iter().map(field).collect::<Vec<_>>()))
}

const FIELDS: [(&str, &str, &str); 11] = [
    ("max_budget", "Float", "Dollars that may be spent per window"),
    ("soft_budget", "Float", "Dollars from which a warning is given"),
    ("budget_duration", "String", "Length of the window, like 1d or 1mo; none: for ever"),
    ("model_max_budget", "Object", "Budgets of single models"),
    ("max_parallel_requests", "Integer", "Requests in flight at once"),
    ("rpm_limit", "Integer", "Requests per minute"),
    ("tpm_limit", "Integer", "Tokens per minute"),
    ("input_tpm_limit", "Integer", "Prompt tokens per minute"),
    ("output_tpm_limit", "Integer", "Completion tokens per minute"),
    ("rpd_limit", "Integer", "Requests per day"),
    ("tpd_limit", "Integer", "Tokens per day"),
];

#[cfg(test)]
#[path = "budgets_tests.rs"]
mod tests;
