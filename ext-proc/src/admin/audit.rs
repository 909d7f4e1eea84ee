//! `/audit`: who changed what, and how it was before.

use axum::Router;
use axum::extract::{Path, RawQuery, State};
use axum::response::Response;
use axum::routing::get;
use serde_json::{Value, json as object};

use super::Admin;
use super::access::Actor;
use super::body::refused;
use super::edit::Paging;
use super::keys::hash_of;
use super::query::Query;
use super::reply::{Failure, not_found, private_json};
use super::when;
use crate::entity::{EntityKind, EntityRef, SEPARATOR};
use crate::store::{AuditFilter, AuditRow};

const LARGEST_PAGE: u32 = 100;
/// LiteLLM's tables by kind.
const TABLES: [(EntityKind, &str); 12] = [
    (EntityKind::Key, "LiteLLM_VerificationToken"),
    (EntityKind::RotatedKey, "LiteLLM_DeprecatedVerificationToken"),
    (EntityKind::Team, "LiteLLM_TeamTable"),
    (EntityKind::User, "LiteLLM_UserTable"),
    (EntityKind::Member, "LiteLLM_TeamMembership"),
    (EntityKind::Organization, "LiteLLM_OrganizationTable"),
    (EntityKind::OrganizationMember, "LiteLLM_OrganizationMembership"),
    (EntityKind::EndUser, "LiteLLM_EndUserTable"),
    (EntityKind::Tag, "LiteLLM_TagTable"),
    (EntityKind::Budget, "LiteLLM_BudgetTable"),
    (EntityKind::Model, "LiteLLM_ProxyModelTable"),
    (EntityKind::Credential, "LiteLLM_CredentialsTable"),
];

pub(super) fn routes() -> Router<Admin> {
    Router::new().route("/audit", get(list)).route("/audit/{id}", get(one))
}

/// A table of LiteLLM's, or one of our kinds.
fn kind_of(name: &str) -> Option<EntityKind> {
    let table = TABLES.iter().find(|(_, table)| *table == name);
    table.map(|(kind, _)| *kind).or_else(|| EntityKind::of_name(name))
}

fn describe(row: &AuditRow) -> Value {
    let table = TABLES.iter().find(|(kind, _)| *kind == row.of.kind).map(|(_, table)| *table);
    object!({
        "id": row.id,
        "updated_at": when::rfc3339_ms(row.at_ms),
        "changed_by": row.author.user,
        "changed_by_api_key": row.author.key,
        "action": row.what,
        "route": row.author.action,
        "table_name": table.unwrap_or(row.of.kind.name()),
        "object_id": row.of.id.replace(SEPARATOR, ":"),
        "before_value": row.before,
        "updated_values": row.after,
    })
}

/// Newest first.
async fn list(State(admin): State<Admin>, _: Actor, RawQuery(query): RawQuery) -> Result<Response, Failure> {
    let mut query = Query::parse(query.as_deref());
    let paging = Paging::of(&mut query, 10, LARGEST_PAGE)?;
    let kind = match query.take("table_name") {
        None => None,
        Some(name) => {
            Some(kind_of(&name).ok_or_else(|| refused("table_name", "names no table that is audited"))?)
        }
    };
    let object = match (query.take("object_id"), kind) {
        (None, _) => None,
        (Some(_), None) => return Err(refused("object_id", "needs a `table_name` beside it").into()),
        (Some(id), Some(kind)) => Some(EntityRef::new(kind, stored_id(kind, &id))),
    };
    let action = query.take("action");
    // Either what happened, or the call that did it.
    let (call, what) = match action {
        Some(action) if action.starts_with('/') => (Some(action), None),
        other => (None, other),
    };
    let filter = AuditFilter {
        of: object,
        kind,
        what,
        action: call,
        key: query.take("changed_by_api_key").map(|key| hash_of(&key)),
        changed_by: query.take("changed_by"),
        offset: paging.offset(),
        limit: paging.size,
        ..AuditFilter::default()
    };
    query.finish()?;
    let (rows, total) = admin.state.database.audit(&filter).await?;
    Ok(private_json(&object!({
        "audit_logs": rows.iter().map(describe).collect::<Vec<_>>(),
        "total": total, "page": paging.page, "page_size": paging.size, "total_pages": paging.pages(total),
    })))
}

fn stored_id(kind: EntityKind, id: &str) -> String {
    match kind {
        EntityKind::Key | EntityKind::RotatedKey => hash_of(id),
        EntityKind::Member | EntityKind::OrganizationMember => {
            id.replacen(':', SEPARATOR.encode_utf8(&mut [0; 4]), 1)
        }
        _ => id.to_owned(),
    }
}

async fn one(State(admin): State<Admin>, _: Actor, Path(id): Path<String>) -> Result<Response, Failure> {
    let filter = AuditFilter { row: Some(id), limit: 1, ..AuditFilter::default() };
    let (rows, _) = admin.state.database.audit(&filter).await?;
    match rows.first() {
        Some(row) => Ok(private_json(&describe(row))),
        None => Err(not_found("There is no such entry in the audit log.".to_owned(), "id")),
    }
}
