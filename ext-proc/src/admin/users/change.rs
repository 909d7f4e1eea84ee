//! `/user/update` and `/user/bulk_update`.

use std::collections::BTreeSet;

use attache_llm::error::ApiError;
use axum::extract::State;
use axum::response::Response;
use serde_json::{Map, Value};

use super::super::Admin;
use super::super::access::{Actor, forbidden};
use super::super::body::{Fields, refused};
use super::super::edit::{edit, replace};
use super::super::entity_fields::name;
use super::super::people::{MOST, Named, all, lookup, missing};
use super::super::reply::{Failure, private_json};
use super::super::shown::Shown;
use super::super::teams::warn;
use super::{Body, address_is_free, change, described};
use crate::entity::{Entity, EntityKind};
use crate::store::{Filter, Write};

/// Takes the user that a call names: by id, or else by address (which then is no change).
async fn named(admin: &Admin, fields: &mut Fields) -> Result<Entity, Failure> {
    let directory = &*admin.state.database;
    if let Some(id) = name(fields, "user_id")? {
        return admin.need(EntityKind::User, &id, "user_id").await;
    }
    let email = fields.get("user_email").and_then(Value::as_str).map(str::to_lowercase);
    let email = email.ok_or_else(|| refused("user_id", "or `user_email` must name the user"))?;
    fields.take("user_email");
    let wanted = Named { user_id: None, email: Some(email.clone()), role: None };
    let found = lookup(directory, &[wanted]).await?.into_iter().flatten().next();
    found.ok_or_else(|| missing(EntityKind::User, &email, "user_email"))
}

/// What users may change about themselves: how they are called. Anything else could widen their rights, also the
/// metadata, since limits are read from there.
fn is_harmless(before: &Entity, after: &Entity) -> bool {
    Entity { alias: before.alias.clone(), ..after.clone() } == *before
}

pub(super) async fn update(
    State(admin): State<Admin>,
    actor: Actor,
    body: Body,
) -> Result<Response, Failure> {
    let mut fields = Fields::parse(body)?;
    let user = named(&admin, &mut fields).await?;
    let own = actor.user_id() == Some(user.id.as_str());
    if !actor.all() && !own {
        return Err(actor.refusal("it is another user"));
    }
    let spend = spend(&mut fields)?;
    if spend.is_some() && !actor.is_admin() {
        return Err(actor.refusal("only an admin may set the spend"));
    }
    let text = |name: &str| fields.get(name).and_then(Value::as_str);
    address_is_free(&admin, text("user_email"), &user.id).await?;
    admin.need_if(EntityKind::Budget, text("budget_id"), "budget_id").await?;
    let map: Map<String, Value> = fields.rest().collect();
    let mut warnings = Vec::new();
    let author = actor.author();
    let changed = edit(&admin, EntityKind::User, &user.id, &author, |user| {
        let before = user.clone();
        warnings = change(user, Fields::of(map.clone()))?;
        match actor.is_admin() || is_harmless(&before, user) {
            true => Ok(()),
            false => Err(forbidden("Of oneself only the `user_alias` may be changed.")),
        }
    })
    .await?;
    let mut changed = changed.ok_or_else(|| missing(EntityKind::User, &user.id, "user_id"))?;
    if let Some(to_nanos) = spend {
        let write = Write::ResetSpend { of: changed.reference(), to_nanos };
        let done = admin.apply(&[write], &author).await?.into_iter().flatten().next();
        changed = done.unwrap_or(changed);
    }
    let mut shown = Shown::default();
    shown.put("user_id", &changed.id).put("data", &described(&changed));
    warn(&mut shown, &warnings);
    Ok(private_json(&shown))
}

/// `spend`: sets it.
fn spend(fields: &mut Fields) -> Result<Option<i64>, ApiError> {
    fields.dollars("spend")
}

/// One of many changes: done, or why not.
struct Outcome {
    shown: Shown,
    done: bool,
}

pub(super) async fn bulk(State(admin): State<Admin>, actor: Actor, body: Body) -> Result<Response, Failure> {
    let mut fields = Fields::parse(body)?;
    let everybody = fields.flag("all_users")?.unwrap_or(false);
    let changes: Vec<(Result<Entity, Failure>, Map<String, Value>)> = if everybody {
        let updates = fields.object("user_updates")?.unwrap_or_default();
        if updates.is_empty() {
            return Err(refused("user_updates", "is missing").into());
        }
        let users = Filter { kind: Some(EntityKind::User), ..Filter::default() };
        let users = all(&*admin.state.database, users).await?;
        users.into_iter().map(|user| (Ok(user), updates.clone())).collect()
    } else {
        let mut changes = Vec::new();
        for mut part in fields.objects("users", MOST)?.unwrap_or_default() {
            let user = named(&admin, &mut part).await;
            changes.push((user, part.rest().collect()));
        }
        changes
    };
    if changes.is_empty() {
        return Err(refused("users", "must name somebody, or `all_users` be true").into());
    }
    let outcomes = apply(&admin, &actor, changes).await?;
    let done = outcomes.iter().filter(|outcome| outcome.done).count();
    let mut shown = Shown::default();
    shown
        .put("total_requested", &outcomes.len())
        .put("successful_updates", &done)
        .put("failed_updates", &(outcomes.len() - done))
        .put("results", &outcomes.into_iter().map(|outcome| outcome.shown).collect::<Vec<_>>());
    Ok(private_json(&shown))
}

/// Makes all changes that make sense, in one transaction.
async fn apply(
    admin: &Admin,
    actor: &Actor,
    changes: Vec<(Result<Entity, Failure>, Map<String, Value>)>,
) -> Result<Vec<Outcome>, Failure> {
    let author = actor.author();
    let (mut writes, mut outcomes, mut seen) = (Vec::new(), Vec::new(), BTreeSet::new());
    for (user, map) in changes {
        let (user, error) = match user {
            Ok(user) if !seen.insert(user.id.clone()) => (Some(user), Some("is named twice".to_owned())),
            Ok(user) => match changed(admin, &user, map).await {
                Ok(after) => {
                    writes.push(replace(user, after.clone(), &author));
                    (Some(after), None)
                }
                Err(error) => (Some(user), Some(error.message())),
            },
            Err(error) => (None, Some(error.message())),
        };
        let mut shown = Shown::default();
        shown
            .put("user_id", &user.as_ref().map(|user| &user.id))
            .put("user_email", &user.as_ref().and_then(|user| user.settings.email.as_ref()))
            .put("success", &error.is_none())
            .put("error", &error)
            .put("updated_user", &user.as_ref().filter(|_| error.is_none()).map(described));
        outcomes.push(Outcome { shown, done: error.is_none() });
    }
    if !writes.is_empty() {
        admin.apply(&writes, &author).await?;
    }
    Ok(outcomes)
}

async fn changed(admin: &Admin, user: &Entity, map: Map<String, Value>) -> Result<Entity, Failure> {
    let fields = Fields::of(map);
    let text = |name: &str| fields.get(name).and_then(Value::as_str);
    address_is_free(admin, text("user_email"), &user.id).await?;
    admin.need_if(EntityKind::Budget, text("budget_id"), "budget_id").await?;
    let mut after = user.clone();
    change(&mut after, fields)?;
    Ok(after)
}
