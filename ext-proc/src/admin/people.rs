//! Users as calls of the admin API name them, and what calls that act on many entities share.

use std::collections::{BTreeMap, BTreeSet};

use attache_llm::error::ApiError;

use super::Admin;
use super::body::{Fields, refused};
use super::entity_fields::{describe, name};
use super::query::Query;
use super::reply::{Failure, not_found};
use super::shown::Shown;
use crate::entity::{Entity, EntityKind, EntityRef};
use crate::store::{Directory, Filter, Sort};

/// Most users, keys or members of one call.
pub(super) const MOST: usize = 500;
/// Most entities that one call may remove.
const MOST_AT_ONCE: u32 = 10_000;
/// Role of a user that a call made because it named somebody unknown: may look, nothing else.
const NEW_USER_ROLE: &str = "internal_user_viewer";
const LONGEST_ROLE: usize = 64;

/// A user as a call names one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    pub user_id: Option<String>,
    pub email: Option<String>,
    pub role: Option<String>,
}

impl Named {
    /// Takes `user_id`, `user_email` and `role` from a body, or from a part of one.
    ///
    /// # Errors
    /// 400 or 422 naming the field.
    pub(super) fn take(fields: &mut Fields, roles: &[&str]) -> Result<Self, ApiError> {
        let named = Self {
            user_id: name(fields, "user_id")?,
            email: name(fields, "user_email")?.map(|email| email.to_lowercase()),
            role: fields.text("role", LONGEST_ROLE)?,
        };
        if named.user_id.is_none() && named.email.is_none() {
            return Err(refused("user_id", "or `user_email` must name the user"));
        }
        match &named.role {
            Some(role) if !roles.contains(&role.as_str()) => {
                Err(refused("role", &format!("must be one of: {}", roles.join(", "))))
            }
            _ => Ok(named),
        }
    }

    /// Takes one of them, or a list.
    ///
    /// # Errors
    /// As [`Self::take`], and 400 for nobody.
    pub(super) fn list(
        fields: &mut Fields,
        field: &'static str,
        roles: &[&str],
    ) -> Result<Vec<Self>, ApiError> {
        let parts = fields.objects(field, MOST)?.unwrap_or_default();
        parts.into_iter().map(|mut part| Self::take(&mut part, roles)).collect()
    }

    /// Somebody named by id alone.
    pub(super) fn user(id: &str) -> Self {
        Self { user_id: Some(id.to_owned()), email: None, role: None }
    }

    pub(super) fn shown(&self) -> &str {
        self.user_id.as_deref().or(self.email.as_deref()).unwrap_or_default()
    }
}

/// A user that a call named: stored already, or to be inserted with the rest of the call.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub user: Entity,
    pub new: bool,
    /// As the call asks for.
    pub role: Option<String>,
}

/// Finds the users, by id or else by address; who is unknown is made. The same user named twice is one.
pub(super) async fn resolve(directory: &dyn Directory, named: &[Named]) -> Result<Vec<Found>, Failure> {
    let known = lookup(directory, named).await?;
    let mut found: BTreeMap<String, Found> = BTreeMap::new();
    let mut order = Vec::with_capacity(named.len());
    for (named, user) in named.iter().zip(known) {
        let (user, new) = match user {
            Some(user) => (user, false),
            None => (found_before(&found, named).unwrap_or_else(|| new_user(named)), true),
        };
        if !found.contains_key(&user.id) {
            order.push(user.id.clone());
            found.insert(user.id.clone(), Found { user, new, role: named.role.clone() });
        }
    }
    Ok(order.into_iter().filter_map(|id| found.remove(&id)).collect())
}

/// Somebody new who was named by the same address before in this call.
fn found_before(found: &BTreeMap<String, Found>, named: &Named) -> Option<Entity> {
    let same = |found: &&Found| {
        named.user_id.is_none() && named.email.is_some() && found.user.settings.email == named.email
    };
    found.values().find(same).map(|found| found.user.clone())
}

fn new_user(named: &Named) -> Entity {
    let mut user = Entity::new(EntityKind::User, named.user_id.clone().unwrap_or_else(fresh_id));
    user.settings.email.clone_from(&named.email);
    user.settings.role = Some(NEW_USER_ROLE.to_owned());
    user
}

/// The stored users behind the names, in order.
pub(super) async fn lookup(
    directory: &dyn Directory,
    named: &[Named],
) -> Result<Vec<Option<Entity>>, Failure> {
    let ids: BTreeSet<&str> = named.iter().filter_map(|named| named.user_id.as_deref()).collect();
    let refs: Vec<EntityRef> = ids.into_iter().map(|id| EntityRef::new(EntityKind::User, id)).collect();
    let stored = if refs.is_empty() { Vec::new() } else { directory.entities(&refs).await? };
    let by_id: BTreeMap<String, Entity> = stored.into_iter().map(|user| (user.id.clone(), user)).collect();
    let mut users = Vec::with_capacity(named.len());
    for named in named {
        users.push(match (&named.user_id, &named.email) {
            (Some(id), _) => by_id.get(id).cloned(),
            (None, Some(email)) => by_email(directory, email).await?,
            (None, None) => None,
        });
    }
    Ok(users)
}

/// The user with an address. Addresses are stored in lower case.
pub(super) async fn by_email(directory: &dyn Directory, email: &str) -> Result<Option<Entity>, Failure> {
    let wanted = Filter {
        kind: Some(EntityKind::User),
        email: Some(email.to_lowercase()),
        ascending: true,
        limit: 1,
        ..Filter::default()
    };
    Ok(directory.list(&wanted).await?.entities.pop())
}

/// 128 random bits, written as a UUID of version 4.
pub(super) fn fresh_id() -> String {
    let mut bytes = rand::random::<[u8; 16]>();
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let hex = hex::encode(bytes);
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

/// Everything that matches. For calls that act on all of it.
///
/// # Errors
/// 400 when it is more than one transaction may take.
pub(super) async fn all(directory: &dyn Directory, filter: Filter) -> Result<Vec<Entity>, Failure> {
    let page = directory.list(&Filter { ascending: true, limit: MOST_AT_ONCE, ..filter }).await?;
    if page.total > page.entities.len() as u64 {
        let message =
            format!("{} entries are touched by this call, {MOST_AT_ONCE} at most may be.", page.total);
        return Err(ApiError::invalid_request(message, None).into());
    }
    Ok(page.entities)
}

/// The stored entities with these ids, in the order of the ids.
///
/// # Errors
/// 404 naming the first id that nobody has.
pub(super) async fn every(
    directory: &dyn Directory,
    kind: EntityKind,
    ids: &[String],
    field: &'static str,
) -> Result<Vec<Entity>, Failure> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let refs: Vec<EntityRef> = ids.iter().map(|id| EntityRef::new(kind, id.as_str())).collect();
    let stored = directory.entities(&refs).await?;
    let mut stored: BTreeMap<String, Entity> =
        stored.into_iter().map(|entity| (entity.id.clone(), entity)).collect();
    ids.iter().map(|id| stored.remove(id).ok_or_else(|| missing(kind, id, field))).collect()
}

/// 404: nobody has this id.
pub(super) fn missing(kind: EntityKind, id: &str, field: &'static str) -> Failure {
    let id: String = id.chars().take(256).collect();
    not_found(format!("There is no {} `{id}`.", kind.name().replace('_', " ")), field)
}

impl Admin {
    /// The stored entity with this id.
    ///
    /// # Errors
    /// 404 naming the field.
    pub(super) async fn need(
        &self,
        kind: EntityKind,
        id: &str,
        field: &'static str,
    ) -> Result<Entity, Failure> {
        self.find(kind, id).await?.ok_or_else(|| missing(kind, id, field))
    }

    /// Refuses a reference to something that is not there.
    ///
    /// # Errors
    /// 404 naming the field.
    pub(super) async fn need_if(
        &self,
        kind: EntityKind,
        id: Option<&str>,
        field: &'static str,
    ) -> Result<(), Failure> {
        match id {
            Some(id) => self.need(kind, id, field).await.map(|_| ()),
            None => Ok(()),
        }
    }

    /// Refuses an id that is taken.
    ///
    /// # Errors
    /// 400 naming the field.
    pub(super) async fn is_free(
        &self,
        kind: EntityKind,
        id: &str,
        field: &'static str,
    ) -> Result<(), Failure> {
        match self.find(kind, id).await? {
            Some(_) => Err(refused(field, "exists already").into()),
            None => Ok(()),
        }
    }
}

/// Ids of a list that a call must have, each once.
///
/// # Errors
/// 400 or 422 naming the field.
pub(super) fn ids(fields: &mut Fields, field: &'static str) -> Result<Vec<String>, ApiError> {
    let mut ids = super::entity_fields::names(fields, field)?;
    let mut seen = BTreeSet::new();
    ids.retain(|id| seen.insert(id.clone()));
    match ids.len() {
        0 => Err(refused(field, "must name at least one")),
        1..=MOST => Ok(ids),
        _ => Err(refused(field, &format!("may have {MOST} entries at most"))),
    }
}

/// An id that a call must have.
///
/// # Errors
/// 400 or 422 naming the field.
pub(super) fn id(fields: &mut Fields, field: &'static str) -> Result<String, ApiError> {
    name(fields, field)?.ok_or_else(|| refused(field, "is missing"))
}

/// A key among what belongs to a team or a user.
pub(super) fn key_row(key: &Entity) -> Shown {
    let mut shown = Shown::default();
    shown
        .put("token", &key.id)
        .put("key_name", &key.name)
        .put("key_alias", &key.alias)
        .put("user_id", &key.user_id)
        .put("team_id", &key.team_id)
        .put("organization_id", &key.organization_id)
        .put("expires", &key.expires_ms.map(super::when::rfc3339_ms));
    describe(key, &mut shown);
    shown.put("aliases", &key.settings.aliases).put("allowed_routes", &key.settings.allowed_routes);
    shown
}

/// `sort_by` and `sort_order` of a list.
///
/// # Errors
/// 400 naming the parameter.
pub(super) fn sorting(query: &mut Query) -> Result<(Sort, bool), ApiError> {
    let sort = match query.take("sort_by").as_deref() {
        None | Some("created_at") => Sort::Created,
        Some("updated_at") => Sort::Updated,
        Some("team_alias" | "user_alias" | "alias") => Sort::Alias,
        Some("team_id" | "user_id" | "id") => Sort::Id,
        Some("spend") => Sort::Spend,
        Some(_) => {
            return Err(refused(
                "sort_by",
                "must be created_at, updated_at, team_alias, user_alias, id or spend",
            ));
        }
    };
    match query.take("sort_order").as_deref() {
        None | Some("desc") => Ok((sort, false)),
        Some("asc") => Ok((sort, true)),
        Some(_) => Err(refused("sort_order", "must be asc or desc")),
    }
}
