//! `/team/member_*`: who is in a team, as what, and with which limits.

use std::collections::{BTreeMap, BTreeSet};

use attache_llm::error::ApiError;
use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::post;
use serde_json::{Map, Value};

use super::Admin;
use super::access::{Actor, Reach};
use super::body::{Fields, refused};
use super::edit::{edit, insert};
use super::entity_fields::{describe_budgets, keep_rest, read};
use super::people::{Found, Named, all, id, lookup, missing, resolve};
use super::removal::Going;
use super::reply::{Failure, private_json};
use super::shown::Shown;
use super::teams;
use crate::entity::{Entity, EntityKind, EntityRef, member_id};
use crate::store::{Author, Directory, Filter, Write};

type Body = Result<Bytes, BytesRejection>;

/// What a member may be.
pub(super) const ROLES: [&str; 2] = ["user", "admin"];
/// Members that one answer shows.
const MOST_SHOWN: u32 = 10_000;

pub(super) fn routes() -> Router<Admin> {
    Router::new()
        .route("/team/member_add", post(add))
        .route("/team/bulk_member_add", post(bulk_add))
        .route("/team/member_update", post(update))
        .route("/team/member_delete", post(delete))
        .route("/team/{team_id}/member/{user_id}/reset_spend", post(reset_spend))
        .route("/team/{team_id}/member/{user_id}/reset_budget", post(reset_spend))
}

/// A new membership of a user in a team.
pub(super) fn membership(team: &str, user: &str, role: Option<&str>) -> Entity {
    let mut member = Entity::new(EntityKind::Member, member_id(team, user));
    member.team_id = Some(team.to_owned());
    member.user_id = Some(user.to_owned());
    member.settings.role = Some(role.unwrap_or(ROLES[0]).to_owned());
    member
}

/// Members of some teams, oldest first, with what is known of their users.
pub(super) struct Members {
    by_team: BTreeMap<String, Vec<Entity>>,
    emails: BTreeMap<String, String>,
}

impl Members {
    /// In two round trips, however many teams there are.
    pub(super) async fn of(directory: &dyn Directory, teams: &[String]) -> Result<Self, Failure> {
        let mut members = Self { by_team: BTreeMap::new(), emails: BTreeMap::new() };
        if teams.is_empty() {
            return Ok(members);
        }
        let wanted = Filter {
            kind: Some(EntityKind::Member),
            team_ids: Some(teams.to_vec()),
            ascending: true,
            limit: MOST_SHOWN,
            ..Filter::default()
        };
        let found = directory.list(&wanted).await?.entities;
        let users: BTreeSet<&str> = found.iter().filter_map(|member| member.user_id.as_deref()).collect();
        let users: Vec<EntityRef> =
            users.into_iter().map(|id| EntityRef::new(EntityKind::User, id)).collect();
        if !users.is_empty() {
            for user in directory.entities(&users).await? {
                if let Some(email) = user.settings.email {
                    members.emails.insert(user.id, email);
                }
            }
        }
        for member in found {
            let team = member.team_id.clone().unwrap_or_default();
            members.by_team.entry(team).or_default().push(member);
        }
        Ok(members)
    }

    pub(super) fn in_team(&self, team: &str) -> &[Entity] {
        self.by_team.get(team).map(Vec::as_slice).unwrap_or_default()
    }

    /// `{user_id, user_email, role}` of each.
    pub(super) fn with_roles(&self, team: &str) -> Vec<Shown> {
        let one = |member: &Entity| {
            let user = member.user_id.clone().unwrap_or_default();
            let mut shown = Shown::default();
            shown
                .put("user_id", &user)
                .put("user_email", &self.emails.get(&user))
                .put("role", member.settings.role.as_deref().unwrap_or(ROLES[0]));
            shown
        };
        self.in_team(team).iter().map(one).collect()
    }
}

/// LiteLLM's membership: the limits are a budget of its own.
pub(super) fn described(member: &Entity) -> Shown {
    let mut shown = Shown::default();
    shown
        .put("user_id", &member.user_id)
        .put("team_id", &member.team_id)
        .put("role", &member.settings.role)
        .put("spend", &super::money::Dollars(member.spend_nanos))
        .put("spend_nanos", &member.spend_nanos)
        .put("budget_id", &member.budget_id)
        .put("litellm_budget_table", &budget_table(member));
    shown
}

/// Own limits of somebody in the shape of LiteLLM's budget table.
pub(super) fn budget_table(entity: &Entity) -> Shown {
    let settings = &entity.settings;
    let mut shown = Shown::default();
    shown.put("budget_id", &entity.budget_id);
    describe_budgets(settings, &mut shown);
    shown
        .put("tpm_limit", &settings.tpm_limit)
        .put("rpm_limit", &settings.rpm_limit)
        .put("tpd_limit", &settings.tpd_limit)
        .put("max_parallel_requests", &settings.max_parallel_requests)
        .put("allowed_models", &settings.models);
    shown
}

/// Limits of a member under the names that calls about members give them.
pub(super) struct Limits(Map<String, Value>);

impl Limits {
    pub(super) fn take(fields: Fields) -> Self {
        let mut map: Map<String, Value> = fields.rest().collect();
        for (theirs, ours) in [
            ("max_budget_in_team", "max_budget"),
            ("max_budget_in_organization", "max_budget"),
            ("allowed_models", "models"),
        ] {
            if let Some(value) = map.remove(theirs) {
                map.insert(ours.to_owned(), value);
            }
        }
        Self(map)
    }

    /// Writes them into a membership; returns warnings.
    pub(super) fn put(&self, member: &mut Entity) -> Result<Vec<String>, ApiError> {
        let mut fields = Fields::of(self.0.clone());
        if fields.has("budget_id") {
            member.budget_id = super::entity_fields::name(&mut fields, "budget_id")?;
        }
        read(&mut fields, &mut member.settings)?;
        keep_rest(fields, &mut member.settings)
    }

    pub(super) fn budget_id(&self) -> Option<&str> {
        self.0.get("budget_id").and_then(Value::as_str)
    }
}

/// What a call adds to a team.
pub(super) struct Additions {
    pub writes: Vec<Write>,
    pub users: Vec<Entity>,
    pub members: Vec<Entity>,
    /// Who was in the team before.
    pub already: Vec<String>,
    pub warnings: Vec<String>,
}

async fn additions(
    admin: &Admin,
    team: &str,
    named: &[Named],
    limits: &Limits,
    author: &Author,
) -> Result<Additions, Failure> {
    let directory = &*admin.state.database;
    let found = resolve(directory, named).await?;
    let refs: Vec<EntityRef> = found
        .iter()
        .map(|found| EntityRef::new(EntityKind::Member, member_id(team, &found.user.id)))
        .collect();
    let there: BTreeSet<String> =
        directory.entities(&refs).await?.into_iter().map(|member| member.id).collect();
    let mut anchors = vec![Write::Expect(EntityRef::new(EntityKind::Team, team))];
    anchors.extend(limits.budget_id().map(|id| Write::Expect(EntityRef::new(EntityKind::Budget, id))));
    let mut added = Additions {
        writes: anchors,
        users: Vec::new(),
        members: Vec::new(),
        already: Vec::new(),
        warnings: Vec::new(),
    };
    for Found { user, new, role } in found {
        let mut member = membership(team, &user.id, role.as_deref());
        if there.contains(&member.id) {
            added.already.push(user.id);
            continue;
        }
        added.warnings = limits.put(&mut member)?;
        added.writes.push(match new {
            true => insert(user.clone(), author),
            false => Write::Expect(user.reference()),
        });
        added.writes.push(insert(member.clone(), author));
        added.users.push(user);
        added.members.push(member);
    }
    Ok(added)
}

/// Does the caller join a team that is open to everybody, and nothing else?
fn joins(admin: &Admin, actor: &Actor, team: &str, named: &[Named], limits: &Fields) -> bool {
    let [only] = named else { return false };
    let myself = actor.user.is_some() && actor.user_id() == only.user_id.as_deref() && only.email.is_none();
    actor.reach == Reach::Own
        && myself
        && only.role.as_deref().is_none_or(|role| role == ROLES[0])
        && limits.is_empty()
        && teams::list::joinable(admin).contains(&team)
}

async fn add(State(admin): State<Admin>, actor: Actor, body: Body) -> Result<Response, Failure> {
    let mut fields = Fields::parse(body)?;
    let team_id = id(&mut fields, "team_id")?;
    let team = admin.need(EntityKind::Team, &team_id, "team_id").await?;
    let named = Named::list(&mut fields, "member", &ROLES)?;
    if named.is_empty() {
        return Err(refused("member", "must name somebody").into());
    }
    if !joins(&admin, &actor, &team_id, &named, &fields) {
        admin.require_team_admin(&actor, &team_id).await?;
    }
    let limits = Limits::take(fields);
    admin.need_if(EntityKind::Budget, limits.budget_id(), "budget_id").await?;
    let author = actor.author();
    let added = additions(&admin, &team_id, &named, &limits, &author).await?;
    if let Some(user) = added.already.first() {
        let mut error = refused("member", &format!("`{user}` is in the team already"));
        error.kind = "team_member_already_in_team".into();
        return Err(error.into());
    }
    let done = admin.apply(&added.writes, &author).await?;
    let mut shown = teams::row(&admin, &team).await?;
    let done: Vec<Entity> = done.into_iter().flatten().collect();
    let of_kind = |kind| done.iter().filter(move |entity| entity.kind == kind);
    let users: Vec<Shown> = of_kind(EntityKind::User).map(super::users::described).collect();
    let members: Vec<Shown> = of_kind(EntityKind::Member).map(described).collect();
    shown.put("updated_users", &users).put("updated_team_memberships", &members);
    teams::warn(&mut shown, &added.warnings);
    Ok(private_json(&shown))
}

async fn bulk_add(State(admin): State<Admin>, actor: Actor, body: Body) -> Result<Response, Failure> {
    let mut fields = Fields::parse(body)?;
    let team_id = id(&mut fields, "team_id")?;
    let team = admin.need(EntityKind::Team, &team_id, "team_id").await?;
    admin.require_team_admin(&actor, &team_id).await?;
    let everybody = fields.flag("all_users")?.unwrap_or(false);
    let mut named = Named::list(&mut fields, "members", &ROLES)?;
    if everybody {
        if !actor.is_admin() {
            return Err(actor.refusal("only a proxy admin may add all users"));
        }
        let users = Filter { kind: Some(EntityKind::User), ..Filter::default() };
        let users = all(&*admin.state.database, users).await?;
        named = users.iter().map(|user| Named::user(&user.id)).collect();
    } else if named.is_empty() {
        return Err(refused("members", "must name somebody, or `all_users` be true").into());
    }
    let limits = Limits::take(fields);
    admin.need_if(EntityKind::Budget, limits.budget_id(), "budget_id").await?;
    let author = actor.author();
    let added = additions(&admin, &team_id, &named, &limits, &author).await?;
    if !added.members.is_empty() {
        admin.apply(&added.writes, &author).await?;
    }
    let mut results = Vec::with_capacity(named.len());
    for (user, member) in added.users.iter().zip(&added.members) {
        let mut result = Shown::default();
        result
            .put("user_id", &user.id)
            .put("user_email", &user.settings.email)
            .put("success", &true)
            .put("error", &Value::Null)
            .put("updated_team_membership", &described(member));
        results.push(result);
    }
    for user in &added.already {
        let mut result = Shown::default();
        result.put("user_id", user).put("success", &false).put("error", "is in the team already");
        results.push(result);
    }
    let mut shown = Shown::default();
    shown
        .put("team_id", &team_id)
        .put("results", &results)
        .put("total_requested", &results.len())
        .put("successful_additions", &added.members.len())
        .put("failed_additions", &added.already.len())
        .put("updated_team", &teams::row(&admin, &team).await?);
    teams::warn(&mut shown, &added.warnings);
    Ok(private_json(&shown))
}

/// The member of a team that a call names.
///
/// # Errors
/// 404 when there is no such user or the user is not in the team.
async fn member(admin: &Admin, team: &str, named: &Named) -> Result<Entity, Failure> {
    let user = match &named.user_id {
        Some(id) => id.clone(),
        None => {
            let found = lookup(&*admin.state.database, std::slice::from_ref(named)).await?;
            let found = found.into_iter().flatten().next();
            found.ok_or_else(|| missing(EntityKind::User, named.shown(), "user_email"))?.id
        }
    };
    let member = admin.find(EntityKind::Member, &member_id(team, &user)).await?;
    member.ok_or_else(|| {
        super::reply::not_found(format!("The user `{user}` is not in the team `{team}`."), "user_id")
    })
}

async fn update(State(admin): State<Admin>, actor: Actor, body: Body) -> Result<Response, Failure> {
    let mut fields = Fields::parse(body)?;
    let team_id = id(&mut fields, "team_id")?;
    admin.need(EntityKind::Team, &team_id, "team_id").await?;
    admin.require_team_admin(&actor, &team_id).await?;
    let named = Named::take(&mut fields, &ROLES)?;
    let known = member(&admin, &team_id, &named).await?;
    let limits = Limits::take(fields);
    admin.need_if(EntityKind::Budget, limits.budget_id(), "budget_id").await?;
    let mut warnings = Vec::new();
    let changed = edit(&admin, EntityKind::Member, &known.id, &actor.author(), |member| {
        if named.role.is_some() {
            member.settings.role.clone_from(&named.role);
        }
        warnings = limits.put(member)?;
        Ok(())
    })
    .await?;
    let changed = changed.ok_or_else(|| missing(EntityKind::Member, named.shown(), "user_id"))?;
    let mut shown = described(&changed);
    shown
        .put("user_email", &named.email)
        .money("max_budget_in_team", changed.settings.max_budget_nanos)
        .put("budget_duration", &changed.settings.budget_duration)
        .put("tpm_limit", &changed.settings.tpm_limit)
        .put("rpm_limit", &changed.settings.rpm_limit)
        .put("allowed_models", &changed.settings.models);
    teams::warn(&mut shown, &warnings);
    Ok(private_json(&shown))
}

async fn delete(State(admin): State<Admin>, actor: Actor, body: Body) -> Result<Response, Failure> {
    let mut fields = Fields::parse(body)?;
    let team_id = id(&mut fields, "team_id")?;
    let team = admin.need(EntityKind::Team, &team_id, "team_id").await?;
    admin.require_team_admin(&actor, &team_id).await?;
    let named = Named::take(&mut fields, &ROLES)?;
    let known = member(&admin, &team_id, &named).await?;
    let user = known.user_id.unwrap_or_default();
    let removal = admin.remove(&actor, Going::Member(&team_id, &user)).await?;
    let mut shown = teams::row(&admin, &team).await?;
    shown.put("deleted_keys", &removal.ids(EntityKind::Key).collect::<Vec<_>>());
    Ok(private_json(&shown))
}

async fn reset_spend(
    State(admin): State<Admin>,
    Path((team_id, user_id)): Path<(String, String)>,
    actor: Actor,
    body: Body,
) -> Result<Response, Failure> {
    let mut fields = Fields::parse(body)?;
    admin.need(EntityKind::Team, &team_id, "team_id").await?;
    // A team's admin who may reset spend has no budget to keep to.
    teams::require_above(&admin, &actor, &team_id).await?;
    let known = member(&admin, &team_id, &Named::user(&user_id)).await?;
    let to_nanos = fields.dollars("reset_to")?.unwrap_or(0);
    let write = Write::ResetSpend { of: known.reference(), to_nanos };
    let done = admin.apply(&[write], &actor.author()).await?.into_iter().flatten().next();
    let member = done.ok_or_else(|| missing(EntityKind::Member, &user_id, "user_id"))?;
    Ok(private_json(&described(&member)))
}
