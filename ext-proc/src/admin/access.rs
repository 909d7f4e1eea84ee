//! Who may call what. [`RULES`] is the one table of it; `docs/admin-api.md` shows the same.
//!
//! A handler that takes an [`Actor`] cannot be reached past the table: extracting it authenticates the caller and
//! looks the route up. What the table allows only for some objects (`Own`, admins of a team) the handler checks with
//! the methods here.

use attache_llm::contract::MASTER_KEY_HASH;
use attache_llm::error::ApiError;
use axum::extract::{FromRequestParts, MatchedPath};
use axum::http::HeaderMap;
use axum::http::request::Parts;

use super::Admin;
use super::reply::Failure;
use crate::entity::{Entity, EntityKind, EntityRef, member_id};
use crate::keys::{Caller, RouteGroup, route_allowed};
use crate::store::{Author, Filter, Page};

/// Longest `litellm-changed-by` that is kept, bytes.
const LONGEST_AUTHOR: usize = 256;
/// Memberships of one user that are looked at.
const MOST_MEMBERSHIPS: u32 = 1_000;
/// Rotations that are followed from an old hash.
const ROTATIONS: usize = 8;

/// What somebody is, from the master key or the user behind the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// The master key, or a user with `proxy_admin`.
    Admin,
    /// `proxy_admin_viewer`.
    Viewer,
    /// `internal_user`, and `org_admin` outside of its organisations.
    Internal,
    /// `internal_user_viewer`, and a user without a role.
    InternalViewer,
    /// A key without a (stored) user, and users with `team` or `customer`.
    Key,
}

impl Role {
    fn of(user: Option<&Entity>) -> Self {
        let Some(user) = user else { return Self::Key };
        match user.settings.role.as_deref() {
            Some("proxy_admin") => Self::Admin,
            Some("proxy_admin_viewer" | "proxy_admin_view_only") => Self::Viewer,
            Some("internal_user" | "org_admin") => Self::Internal,
            Some("internal_user_viewer" | "internal_user_view_only") | None => Self::InternalViewer,
            Some(_) => Self::Key,
        }
    }
}

/// How far a role reaches on a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reach {
    No,
    /// What belongs to the caller: its key, its user's keys, its user, the teams it is a member of.
    Own,
    All,
}

/// Who else may use a route, on what is theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admins {
    Nobody,
    /// Members with the role `admin`, in their team; organisation admins, in the teams of their organisation.
    Team,
    /// Members of an organisation with the role `org_admin`, in their organisation.
    Organization,
}

/// Some routes that the same people may call.
pub(super) struct Rule {
    pub routes: &'static [&'static str],
    pub viewer: Reach,
    pub internal: Reach,
    pub internal_viewer: Reach,
    pub key: Reach,
    pub admins: Admins,
}

const fn rule(routes: &'static [&'static str], reach: [Reach; 4], admins: Admins) -> Rule {
    let [viewer, internal, internal_viewer, key] = reach;
    Rule { routes, viewer, internal, internal_viewer, key, admins }
}

use Admins::{Nobody, Organization, Team};
use Reach::{All, No, Own};

/// Who may call which route. `proxy_admin` and the master key may call all of them.
pub(super) const RULES: &[Rule] = &[
    // viewer, internal user, internal viewer, key without a user
    rule(&["/v1/models", "/v1/models/{*id}", "/models", "/models/{*id}"], [All, All, All, All], Nobody),
    rule(
        &["/model/info", "/v1/model/info", "/v2/model/info", "/model_group/info"],
        [All, Own, Own, Own],
        Nobody,
    ),
    rule(&["/key/info", "/v2/key/info", "/key/health"], [All, Own, Own, Own], Team),
    rule(&["/key/list", "/key/aliases"], [All, Own, Own, No], Team),
    rule(
        &["/key/generate", "/key/update", "/key/delete", "/key/regenerate", "/key/{key}/regenerate"],
        [No, Own, No, No],
        Team,
    ),
    rule(
        &[
            "/key/service-account/generate",
            "/key/bulk_update",
            "/key/block",
            "/key/unblock",
            "/key/{key}/reset_spend",
        ],
        [No, No, No, No],
        Team,
    ),
    rule(&["/team/new"], [No, No, No, No], Organization),
    rule(
        &[
            "/team/update",
            "/team/{team_id}",
            "/team/bulk_member_add",
            "/team/member_update",
            "/team/member_delete",
            "/team/permissions_update",
        ],
        [No, No, No, No],
        Team,
    ),
    // Own: oneself, into a team that is open to everybody.
    rule(&["/team/member_add"], [No, Own, Own, No], Team),
    rule(
        &[
            "/team/delete",
            "/team/block",
            "/team/unblock",
            "/team/model/add",
            "/team/model/delete",
            "/team/{team_id}/reset_spend",
            "/team/{team_id}/member/{user_id}/reset_spend",
            "/team/{team_id}/member/{user_id}/reset_budget",
        ],
        [No, No, No, No],
        Organization,
    ),
    rule(
        &["/team/info", "/team/list", "/v2/team/list", "/team/available", "/team/permissions_list"],
        [All, Own, Own, No],
        Team,
    ),
    rule(&["/user/new"], [No, No, No, No], Organization),
    rule(&["/user/list", "/user/get_users"], [All, No, No, No], Organization),
    rule(&["/user/bulk_update", "/user/delete", "/user/{user_id}/reset_spend"], [No, No, No, No], Nobody),
    rule(&["/user/update"], [No, Own, No, No], Nobody),
    rule(&["/user/info", "/v2/user/info"], [All, Own, Own, No], Nobody),
    rule(
        &[
            "/customer/new",
            "/customer/update",
            "/customer/delete",
            "/customer/block",
            "/customer/unblock",
            "/end_user/new",
            "/end_user/update",
            "/end_user/delete",
            "/end_user/block",
            "/end_user/unblock",
        ],
        [No, No, No, No],
        Nobody,
    ),
    rule(
        &["/customer/info", "/customer/list", "/end_user/info", "/end_user/list"],
        [All, No, No, No],
        Nobody,
    ),
    rule(&["/organization/new", "/organization/delete"], [No, No, No, No], Nobody),
    rule(
        &[
            "/organization/update",
            "/organization/member_add",
            "/organization/member_update",
            "/organization/member_delete",
        ],
        [No, No, No, No],
        Organization,
    ),
    rule(&["/organization/info", "/organization/list"], [All, Own, Own, No], Organization),
    rule(&["/budget/new", "/budget/update", "/budget/delete"], [No, No, No, No], Nobody),
    rule(&["/budget/info", "/budget/list", "/budget/settings"], [All, No, No, No], Nobody),
    rule(&["/tag/new", "/tag/update", "/tag/delete"], [No, No, No, No], Nobody),
    rule(&["/tag/info", "/tag/list"], [All, No, No, No], Nobody),
    rule(&["/audit", "/audit/{id}"], [All, No, No, No], Nobody),
    // Admins of a team or an organization see its rows and sums, everybody else its own.
    rule(
        &[
            "/spend/logs",
            "/spend/logs/v2",
            "/spend/logs/ui",
            "/spend/logs/ui/{request_id}",
            "/spend/export",
            "/spend/report",
            "/key/spend/report",
            "/team/spend/report",
            "/team/daily/activity",
        ],
        [All, Own, Own, Own],
        Team,
    ),
    rule(
        &[
            "/spend/keys",
            "/user/spend/report",
            "/user/daily/activity",
            "/tag/daily/activity",
            "/global/spend/logs",
            "/global/spend/keys",
            "/global/spend/models",
            "/global/spend/provider",
            "/global/activity",
            "/global/activity/model",
        ],
        [All, Own, Own, Own],
        Nobody,
    ),
    rule(&["/organization/spend/report", "/organization/daily/activity"], [All, No, No, No], Organization),
    rule(&["/spend/calculate"], [All, All, All, All], Nobody),
    rule(
        &[
            "/spend/users",
            "/spend/tags",
            "/tag/summary",
            "/customer/daily/activity",
            "/global/spend",
            "/global/spend/teams",
            "/global/spend/report",
            "/global/spend/tags",
            "/global/spend/all_tag_names",
            "/global/spend/end_users",
        ],
        [All, No, No, No],
        Nobody,
    ),
    rule(&["/router/explain", "/health", "/provider/budgets"], [All, No, No, No], Nobody),
];

/// The rule of a route, as the router writes it.
pub(super) fn rule_of(route: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.routes.contains(&route))
}

/// Who calls an admin route, and how far it may go there.
#[derive(Debug, Clone)]
pub(super) struct Actor {
    /// `None`: the master key.
    pub key: Option<Box<Entity>>,
    /// The user behind the key, if it is stored.
    pub user: Option<Box<Entity>>,
    pub role: Role,
    /// On the route that was called.
    pub reach: Reach,
    pub admins: Admins,
    route: String,
    changed_by: Option<String>,
}

impl FromRequestParts<Admin> for Actor {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, admin: &Admin) -> Result<Self, Failure> {
        let route = parts.extensions.get::<MatchedPath>().map(|path| path.as_str().to_owned());
        admin.enter(&parts.headers, &route.unwrap_or_default(), parts.uri.path()).await
    }
}

impl Actor {
    /// May it do everything there is to do?
    pub(super) fn is_admin(&self) -> bool {
        self.role == Role::Admin
    }

    /// Does the route only show things?
    pub(super) fn reads(&self) -> bool {
        RouteGroup::of(&self.route) == RouteGroup::Info
    }

    /// The route that was called, as the router writes it.
    pub(super) fn route(&self) -> &str {
        &self.route
    }

    /// May it use this route on every object?
    pub(super) fn all(&self) -> bool {
        self.reach == Reach::All
    }

    /// Id of the key (its hash); `None`: the master key.
    pub(super) fn key_id(&self) -> Option<&str> {
        self.key.as_ref().map(|key| key.id.as_str())
    }

    /// Id of the user behind the key, stored or not.
    pub(super) fn user_id(&self) -> Option<&str> {
        let of_key = self.key.as_ref().and_then(|key| key.user_id.as_deref());
        self.user.as_ref().map(|user| user.id.as_str()).or(of_key)
    }

    /// Whom a change is attributed to.
    pub(super) fn author(&self) -> Author {
        let key = self.key_id().unwrap_or(MASTER_KEY_HASH).to_owned();
        let user = match (&self.changed_by, self.user_id()) {
            (Some(by), _) => by.clone(),
            (None, Some(user)) => user.to_owned(),
            (None, None) if self.key.is_none() => "default_user_id".to_owned(),
            (None, None) => String::new(),
        };
        Author { user, key, action: self.route.clone() }
    }

    /// 403: the route is right, but not for this caller, or not for this object.
    pub(super) fn refusal(&self, why: &str) -> Failure {
        forbidden(&format!("{} is not allowed: {why}.", self.route)).into()
    }
}

impl Admin {
    /// The caller of a route, if the route is any of its business.
    ///
    /// # Errors
    /// 401 as [`crate::keys::KeyDirectory::authenticate_with`], 403 by the table, 503 while the database is away.
    async fn enter(&self, headers: &HeaderMap, route: &str, path: &str) -> Result<Actor, Failure> {
        let caller = self.caller(headers).await?;
        let rule = rule_of(route)
            .ok_or_else(|| ApiError::internal(format!("no rule of access for the route {route:?}")))?;
        let changed_by = headers.get("litellm-changed-by").and_then(|value| value.to_str().ok());
        let mut actor = Actor {
            key: None,
            user: None,
            role: Role::Admin,
            reach: Reach::All,
            admins: rule.admins,
            route: route.to_owned(),
            changed_by: None,
        };
        if !matches!(caller, Caller::Master) {
            let key = self.known_key(caller.id()).await?;
            actor.user = self.user_of(&key).await?;
            actor.role = Role::of(actor.user.as_deref());
            if !route_allowed(&key.settings.allowed_routes, path, RouteGroup::of(route)) {
                return Err(forbidden(&format!("This key may not call {route} (`allowed_routes`).")).into());
            }
            actor.key = Some(key);
        }
        // Only an admin may say that somebody else did it.
        if actor.is_admin() {
            let text = changed_by.filter(|by| !by.is_empty() && by.len() <= LONGEST_AUTHOR);
            actor.changed_by = text.map(str::to_owned);
        }
        actor.reach = match actor.role {
            Role::Admin => Reach::All,
            Role::Viewer => rule.viewer,
            Role::Internal => rule.internal,
            Role::InternalViewer => rule.internal_viewer,
            Role::Key => rule.key,
        };
        // A viewer of everything changes nothing, whatever else it is.
        let as_some_admin =
            rule.admins != Admins::Nobody && actor.user.is_some() && actor.role != Role::Viewer;
        match actor.reach == Reach::No && !as_some_admin {
            true => Err(ApiError::admin_only(route).into()),
            false => Ok(actor),
        }
    }

    /// The stored key, read afresh: rights are not taken from a cache.
    async fn known_key(&self, id: &str) -> Result<Box<Entity>, Failure> {
        self.resolve(id).await?.map(Box::new).ok_or_else(|| ApiError::unknown_key().into())
    }

    /// The key with this hash, or the one that it was rotated to.
    pub(super) async fn resolve(&self, hash: &str) -> Result<Option<Entity>, Failure> {
        let mut hash = hash.to_owned();
        for _ in 0..ROTATIONS {
            let Some(key) = self.state.database.key(&hash).await? else { return Ok(None) };
            if key.kind == EntityKind::Key {
                return Ok(Some(key));
            }
            hash = key.settings.successor.unwrap_or_default();
        }
        Ok(None)
    }

    async fn user_of(&self, key: &Entity) -> Result<Option<Box<Entity>>, Failure> {
        let Some(id) = &key.user_id else { return Ok(None) };
        let user = self.find(EntityKind::User, id).await?.map(Box::new);
        match user.as_ref().is_some_and(|user| user.blocked) {
            true => Err(forbidden("The user of this key is blocked.").into()),
            false => Ok(user),
        }
    }

    /// One stored entity.
    pub(super) async fn find(&self, kind: EntityKind, id: &str) -> Result<Option<Entity>, Failure> {
        Ok(self.state.database.entities(&[EntityRef::new(kind, id)]).await?.into_iter().next())
    }

    /// The caller's membership in a team.
    pub(super) async fn membership(&self, actor: &Actor, team_id: &str) -> Result<Option<Entity>, Failure> {
        match actor.user_id() {
            None => Ok(None),
            Some(user) => self.find(EntityKind::Member, &member_id(team_id, user)).await,
        }
    }

    /// Is the caller an admin of everything, of this team, or of the team's organisation?
    pub(super) async fn is_team_admin(&self, actor: &Actor, team_id: &str) -> Result<bool, Failure> {
        if actor.is_admin() {
            return Ok(true);
        }
        if actor.user.is_none() {
            return Ok(false);
        }
        let is_admin = |member: &Entity| member.settings.role.as_deref() == Some("admin");
        if self.membership(actor, team_id).await?.as_ref().is_some_and(is_admin) {
            return Ok(true);
        }
        let team = self.find(EntityKind::Team, team_id).await?;
        match team.and_then(|team| team.organization_id) {
            Some(organization) => self.is_organization_admin(actor, &organization).await,
            None => Ok(false),
        }
    }

    /// Is the caller an admin of everything, or of this organisation?
    pub(super) async fn is_organization_admin(&self, actor: &Actor, id: &str) -> Result<bool, Failure> {
        if actor.is_admin() {
            return Ok(true);
        }
        let Some(user) = &actor.user else { return Ok(false) };
        let member = self.find(EntityKind::OrganizationMember, &member_id(id, &user.id)).await?;
        Ok(member.is_some_and(|member| member.settings.role.as_deref() == Some("org_admin")))
    }

    /// 403 unless [`Self::is_team_admin`].
    pub(super) async fn require_team_admin(&self, actor: &Actor, team_id: &str) -> Result<(), Failure> {
        match self.is_team_admin(actor, team_id).await? {
            true => Ok(()),
            false => Err(actor.refusal("only an admin of the team, or of everything, may do it")),
        }
    }

    /// 403 unless [`Self::is_organization_admin`].
    pub(super) async fn require_organization_admin(&self, actor: &Actor, id: &str) -> Result<(), Failure> {
        match self.is_organization_admin(actor, id).await? {
            true => Ok(()),
            false => Err(actor.refusal("only an admin of the organization, or of everything, may do it")),
        }
    }

    /// The caller's memberships in teams (or organisations), at most a thousand.
    pub(super) async fn memberships(&self, actor: &Actor, kind: EntityKind) -> Result<Vec<Entity>, Failure> {
        let Some(user) = actor.user_id() else { return Ok(Vec::new()) };
        let filter = Filter {
            kind: Some(kind),
            user_id: Some(user.to_owned()),
            limit: MOST_MEMBERSHIPS,
            ..Filter::default()
        };
        let Page { entities, .. } = self.state.database.list(&filter).await?;
        Ok(entities)
    }
}

/// 403 with this message.
pub(super) fn forbidden(message: &str) -> ApiError {
    let mut error = ApiError::admin_only("");
    message.clone_into(&mut error.message);
    error
}

#[cfg(test)]
#[path = "access_tests.rs"]
mod tests;
