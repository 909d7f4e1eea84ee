//! `/spend/keys` and `/spend/users`: who spent most, by what is charged to them.

use axum::extract::{RawQuery, State};
use axum::response::Response;

use crate::admin::Admin;
use crate::admin::access::Actor;
use crate::admin::body::refused;
use crate::admin::people::key_row;
use crate::admin::query::Query;
use crate::admin::reply::{Failure, private_json};
use crate::admin::users;
use crate::entity::EntityKind;
use crate::store::{Filter, Sort};

const DEFAULT: u32 = 100;
const MOST: u64 = 1_000;

/// `limit` of a list.
///
/// # Errors
/// 400 for one beyond 1 to a thousand.
pub(super) fn limit(query: &mut Query, default: u32) -> Result<u32, Failure> {
    match query.number("limit")? {
        None => Ok(default),
        Some(limit) if (1..=MOST).contains(&limit) => Ok(u32::try_from(limit).unwrap_or(default)),
        Some(_) => Err(refused("limit", "must be 1 to 1000").into()),
    }
}

/// Keys, the largest spend first: all, or the caller's own.
pub(super) async fn keys(
    State(admin): State<Admin>,
    actor: Actor,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let mut query = Query::parse(query.as_deref());
    let mut filter = Filter {
        kind: Some(EntityKind::Key),
        sort: Sort::Spend,
        limit: limit(&mut query, DEFAULT)?,
        ..Filter::default()
    };
    query.finish()?;
    admin.flush_soon().await;
    if !actor.all() {
        match &actor.user {
            Some(user) => filter.user_id = Some(user.id.clone()),
            None => filter.ids = Some(actor.key_id().map(str::to_owned).into_iter().collect()),
        }
    }
    let page = admin.state.database.list(&filter).await?;
    Ok(private_json(&page.entities.iter().map(key_row).collect::<Vec<_>>()))
}

/// Users, the largest spend first, or one.
pub(super) async fn users(
    State(admin): State<Admin>,
    _: Actor,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let mut query = Query::parse(query.as_deref());
    let filter = Filter {
        kind: Some(EntityKind::User),
        ids: query.take("user_id").map(|id| vec![id]),
        sort: Sort::Spend,
        limit: limit(&mut query, DEFAULT)?,
        ..Filter::default()
    };
    query.finish()?;
    admin.flush_soon().await;
    let page = admin.state.database.list(&filter).await?;
    Ok(private_json(&page.entities.iter().map(users::described).collect::<Vec<_>>()))
}
