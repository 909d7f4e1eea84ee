//! `/organization/member_*`.

use std::collections::BTreeSet;

use axum::extract::State;
use axum::response::Response;

use super::super::Admin;
use super::super::access::Actor;
use super::super::body::{Fields, refused};
use super::super::edit::{edit, insert};
use super::super::members::{Limits, budget_table};
use super::super::money::Dollars;
use super::super::people::{Named, id, lookup, missing, resolve};
use super::super::reply::{Failure, not_found, private_json};
use super::super::shown::Shown;
use super::super::teams::warn;
use super::super::{users, when};
use super::Body;
use crate::entity::{Entity, EntityKind, EntityRef, member_id};
use crate::store::Write;

/// What somebody may be in an organisation.
const ROLES: [&str; 4] = ["internal_user", "internal_user_viewer", "org_admin", "user"];

/// A new membership of a user in an organisation.
pub(in super::super) fn membership(organization: &str, user: &str, role: Option<&str>) -> Entity {
    let mut member = Entity::new(EntityKind::OrganizationMember, member_id(organization, user));
    member.organization_id = Some(organization.to_owned());
    member.user_id = Some(user.to_owned());
    member.settings.role = Some(role.unwrap_or(ROLES[0]).to_owned());
    member
}

pub(super) fn described(member: &Entity) -> Shown {
    let mut shown = Shown::default();
    shown
        .put("user_id", &member.user_id)
        .put("organization_id", &member.organization_id)
        .put("user_role", &member.settings.role)
        .put("spend", &Dollars(member.spend_nanos))
        .put("spend_nanos", &member.spend_nanos)
        .put("budget_id", &member.budget_id)
        .put("created_at", &when::rfc3339_ms(member.created_ms))
        .put("updated_at", &when::rfc3339_ms(member.updated_ms))
        .put("litellm_budget_table", &budget_table(member));
    shown
}

/// The organisation that a call names, if the caller may change its members.
async fn organization(admin: &Admin, actor: &Actor, fields: &mut Fields) -> Result<String, Failure> {
    let organization = id(fields, "organization_id")?;
    admin.need(EntityKind::Organization, &organization, "organization_id").await?;
    admin.require_organization_admin(actor, &organization).await?;
    Ok(organization)
}

pub(super) async fn add(State(admin): State<Admin>, actor: Actor, body: Body) -> Result<Response, Failure> {
    let mut fields = Fields::parse(body)?;
    let organization = organization(&admin, &actor, &mut fields).await?;
    let named = Named::list(&mut fields, "member", &ROLES)?;
    if named.is_empty() {
        return Err(refused("member", "must name somebody").into());
    }
    let limits = Limits::take(fields);
    admin.need_if(EntityKind::Budget, limits.budget_id(), "budget_id").await?;
    let directory = &*admin.state.database;
    let found = resolve(directory, &named).await?;
    let of = |user: &str| EntityRef::new(EntityKind::OrganizationMember, member_id(&organization, user));
    let refs: Vec<EntityRef> = found.iter().map(|found| of(&found.user.id)).collect();
    let there: BTreeSet<String> =
        directory.entities(&refs).await?.into_iter().filter_map(|member| member.user_id).collect();
    let author = actor.author();
    let anchor = EntityRef::new(EntityKind::Organization, organization.as_str());
    let (mut writes, mut people, mut warnings) = (vec![Write::Expect(anchor)], Vec::new(), Vec::new());
    writes.extend(limits.budget_id().map(|id| Write::Expect(EntityRef::new(EntityKind::Budget, id))));
    for found in found {
        if there.contains(&found.user.id) {
            let why = format!("`{}` is in the organization already", found.user.id);
            return Err(refused("member", &why).into());
        }
        let mut member = membership(&organization, &found.user.id, found.role.as_deref());
        warnings = limits.put(&mut member)?;
        writes.push(match found.new {
            true => insert(found.user.clone(), &author),
            false => Write::Expect(found.user.reference()),
        });
        writes.push(insert(member, &author));
        people.push(users::described(&found.user));
    }
    let done = admin.apply(&writes, &author).await?.into_iter().flatten();
    let members = done.filter(|entity| entity.kind == EntityKind::OrganizationMember);
    let mut shown = Shown::default();
    shown
        .put("organization_id", &organization)
        .put("updated_users", &people)
        .put("updated_organization_memberships", &members.map(|m| described(&m)).collect::<Vec<_>>());
    warn(&mut shown, &warnings);
    Ok(private_json(&shown))
}

/// The member that a call names.
async fn member(admin: &Admin, organization: &str, named: &Named) -> Result<Entity, Failure> {
    let user = match &named.user_id {
        Some(id) => id.clone(),
        None => {
            let found = lookup(&*admin.state.database, std::slice::from_ref(named)).await?;
            let found = found.into_iter().flatten().next();
            found.ok_or_else(|| missing(EntityKind::User, named.shown(), "user_email"))?.id
        }
    };
    let member = admin.find(EntityKind::OrganizationMember, &member_id(organization, &user)).await?;
    member.ok_or_else(|| {
        not_found(format!("The user `{user}` is not in the organization `{organization}`."), "user_id")
    })
}

pub(super) async fn update(
    State(admin): State<Admin>,
    actor: Actor,
    body: Body,
) -> Result<Response, Failure> {
    let mut fields = Fields::parse(body)?;
    let organization = organization(&admin, &actor, &mut fields).await?;
    let named = Named::take(&mut fields, &ROLES)?;
    let known = member(&admin, &organization, &named).await?;
    let limits = Limits::take(fields);
    admin.need_if(EntityKind::Budget, limits.budget_id(), "budget_id").await?;
    let mut warnings = Vec::new();
    let changed = edit(&admin, EntityKind::OrganizationMember, &known.id, &actor.author(), |member| {
        if named.role.is_some() {
            member.settings.role.clone_from(&named.role);
        }
        warnings = limits.put(member)?;
        Ok(())
    })
    .await?;
    let changed = changed.ok_or_else(|| missing(EntityKind::OrganizationMember, named.shown(), "user_id"))?;
    let mut shown = described(&changed);
    warn(&mut shown, &warnings);
    Ok(private_json(&shown))
}

pub(super) async fn remove(
    State(admin): State<Admin>,
    actor: Actor,
    body: Body,
) -> Result<Response, Failure> {
    let mut fields = Fields::parse(body)?;
    let organization = organization(&admin, &actor, &mut fields).await?;
    let named = Named::take(&mut fields, &ROLES)?;
    let known = member(&admin, &organization, &named).await?;
    admin.apply(&[Write::Delete(known.reference())], &actor.author()).await?;
    Ok(private_json(&described(&known)))
}
