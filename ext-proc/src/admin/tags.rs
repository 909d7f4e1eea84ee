//! `/tag/*`: tags of requests with limits of their own.

use std::collections::BTreeMap;

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
use super::body::Fields;
use super::edit::{Paging, edit, insert};
use super::entity_fields::{describe, keep_rest, name, read};
use super::members::budget_table;
use super::people::{every, id, ids, missing, sorting};
use super::query::Query;
use super::reply::{Failure, private_json};
use super::shown::Shown;
use super::teams::warn;
use crate::entity::{Entity, EntityKind};
use crate::store::{Filter, Write};

type Body = Result<Bytes, BytesRejection>;

/// Tags of one list.
const MOST_LISTED: u32 = 1_000;
const LONGEST_DESCRIPTION: usize = 4_096;

pub(super) fn routes() -> Router<Admin> {
    Router::new()
        .route("/tag/new", post(new))
        .route("/tag/update", post(update))
        .route("/tag/delete", post(delete))
        .route("/tag/info", post(info))
        .route("/tag/list", get(list))
}

fn described(tag: &Entity) -> Shown {
    let mut shown = Shown::default();
    shown.put("name", &tag.id).put("description", &tag.settings.rest.get("description"));
    describe(tag, &mut shown);
    shown.put("litellm_budget_table", &budget_table(tag));
    shown
}

/// Reads everything about a tag but its name; returns warnings.
fn change(tag: &mut Entity, mut fields: Fields) -> Result<Vec<String>, ApiError> {
    if fields.has("description") {
        match fields.text("description", LONGEST_DESCRIPTION)? {
            Some(text) => tag.settings.rest.insert("description".to_owned(), text.into()),
            None => tag.settings.rest.remove("description"),
        };
    }
    if fields.has("budget_id") {
        tag.budget_id = name(&mut fields, "budget_id")?;
    }
    read(&mut fields, &mut tag.settings)?;
    keep_rest(fields, &mut tag.settings)
}

fn answer(tag: &Entity, what: &str, warnings: &[String]) -> Response {
    let mut shown = Shown::default();
    shown.put("message", &format!("Tag {} {what}", tag.id)).put("tag", &described(tag));
    warn(&mut shown, warnings);
    private_json(&shown)
}

async fn new(State(admin): State<Admin>, actor: Actor, body: Body) -> Result<Response, Failure> {
    let mut fields = Fields::parse(body)?;
    let tag_name = id(&mut fields, "name")?;
    let mut tag = Entity::new(EntityKind::Tag, tag_name.as_str());
    let warnings = change(&mut tag, fields)?;
    admin.is_free(EntityKind::Tag, &tag_name, "name").await?;
    admin.need_if(EntityKind::Budget, tag.budget_id.as_deref(), "budget_id").await?;
    let author = actor.author();
    let done = admin.apply(&[insert(tag, &author)], &author).await?.into_iter().flatten().next();
    let tag = done.ok_or_else(|| missing(EntityKind::Tag, &tag_name, "name"))?;
    Ok(answer(&tag, "created", &warnings))
}

async fn update(State(admin): State<Admin>, actor: Actor, body: Body) -> Result<Response, Failure> {
    let mut fields = Fields::parse(body)?;
    let tag_name = id(&mut fields, "name")?;
    let budget = fields.get("budget_id").and_then(Value::as_str);
    admin.need_if(EntityKind::Budget, budget, "budget_id").await?;
    let map: Map<String, Value> = fields.rest().collect();
    let mut warnings = Vec::new();
    let tag = edit(&admin, EntityKind::Tag, &tag_name, &actor.author(), |tag| {
        warnings = change(tag, Fields::of(map.clone()))?;
        Ok(())
    })
    .await?;
    let tag = tag.ok_or_else(|| missing(EntityKind::Tag, &tag_name, "name"))?;
    Ok(answer(&tag, "updated", &warnings))
}

async fn delete(State(admin): State<Admin>, actor: Actor, body: Body) -> Result<Response, Failure> {
    let tag_name = id(&mut Fields::parse(body)?, "name")?;
    let tag = admin.need(EntityKind::Tag, &tag_name, "name").await?;
    admin.apply(&[Write::Delete(tag.reference())], &actor.author()).await?;
    let mut shown = Shown::default();
    shown.put("message", &format!("Tag {tag_name} deleted"));
    Ok(private_json(&shown))
}

/// By name, as LiteLLM answers.
async fn info(State(admin): State<Admin>, _: Actor, body: Body) -> Result<Response, Failure> {
    let names = ids(&mut Fields::parse(body)?, "names")?;
    admin.flush_soon().await;
    let tags = every(&*admin.state.database, EntityKind::Tag, &names, "names").await?;
    let tags: BTreeMap<&str, Shown> = tags.iter().map(|tag| (tag.id.as_str(), described(tag))).collect();
    Ok(private_json(&tags))
}

/// LiteLLM's list has no pages; `page` and `page_size` choose a part of it here.
async fn list(State(admin): State<Admin>, _: Actor, RawQuery(query): RawQuery) -> Result<Response, Failure> {
    let mut query = Query::parse(query.as_deref());
    let paging = Paging::of(&mut query, MOST_LISTED, MOST_LISTED)?;
    let (sort, ascending) = sorting(&mut query)?;
    query.finish()?;
    admin.flush_soon().await;
    let filter = Filter {
        kind: Some(EntityKind::Tag),
        sort,
        ascending,
        offset: paging.offset(),
        limit: paging.size,
        ..Filter::default()
    };
    let page = admin.state.database.list(&filter).await?;
    Ok(private_json(&page.entities.iter().map(described).collect::<Vec<_>>()))
}

#[cfg(test)]
#[path = "tags_tests.rs"]
mod tests;
