//! What goes when a team, a user or an organisation goes: its keys and memberships, as in LiteLLM. Everything in one
//! transaction, so that no key outlives what limited it.

use std::collections::BTreeSet;

use super::people::all;
use super::reply::Failure;
use crate::entity::{EntityKind, EntityRef};
use crate::store::{Directory, Filter, Write};

/// Entities to delete, in the order in which they were found: what depends on others comes first.
#[derive(Debug, Default)]
pub(super) struct Removal {
    order: Vec<EntityRef>,
    known: BTreeSet<EntityRef>,
}

impl Removal {
    /// Teams with their keys and members.
    pub(super) async fn of_teams(directory: &dyn Directory, ids: &[String]) -> Result<Self, Failure> {
        let mut removal = Self::default();
        removal.teams(directory, ids).await?;
        Ok(removal)
    }

    /// Users with their keys and memberships.
    pub(super) async fn of_users(directory: &dyn Directory, ids: &[String]) -> Result<Self, Failure> {
        let mut removal = Self::default();
        for id in ids {
            let theirs = Filter { user_id: Some(id.clone()), ..Filter::default() };
            for kind in
                [EntityKind::RotatedKey, EntityKind::Key, EntityKind::Member, EntityKind::OrganizationMember]
            {
                removal.found(directory, kind, theirs.clone()).await?;
            }
            removal.add(EntityRef::new(EntityKind::User, id.as_str()));
        }
        Ok(removal)
    }

    /// A user's keys and membership in one team.
    pub(super) async fn of_member(
        directory: &dyn Directory,
        team: &str,
        user: &str,
    ) -> Result<Self, Failure> {
        let mut removal = Self::default();
        let theirs =
            Filter { team_id: Some(team.to_owned()), user_id: Some(user.to_owned()), ..Filter::default() };
        for kind in [EntityKind::RotatedKey, EntityKind::Key, EntityKind::Member] {
            removal.found(directory, kind, theirs.clone()).await?;
        }
        Ok(removal)
    }

    /// Organisations with their teams, keys and members.
    pub(super) async fn of_organizations(directory: &dyn Directory, ids: &[String]) -> Result<Self, Failure> {
        let mut removal = Self::default();
        for id in ids {
            let its = Filter { organization_id: Some(id.clone()), ..Filter::default() };
            let teams = all(directory, Filter { kind: Some(EntityKind::Team), ..its.clone() }).await?;
            let teams: Vec<String> = teams.into_iter().map(|team| team.id).collect();
            removal.teams(directory, &teams).await?;
            for kind in [EntityKind::RotatedKey, EntityKind::Key, EntityKind::OrganizationMember] {
                removal.found(directory, kind, its.clone()).await?;
            }
            removal.add(EntityRef::new(EntityKind::Organization, id.as_str()));
        }
        Ok(removal)
    }

    async fn teams(&mut self, directory: &dyn Directory, ids: &[String]) -> Result<(), Failure> {
        if ids.is_empty() {
            return Ok(());
        }
        let theirs = Filter { team_ids: Some(ids.to_vec()), ..Filter::default() };
        for kind in [EntityKind::RotatedKey, EntityKind::Key, EntityKind::Member] {
            self.found(directory, kind, theirs.clone()).await?;
        }
        for id in ids {
            self.add(EntityRef::new(EntityKind::Team, id.as_str()));
        }
        Ok(())
    }

    async fn found(
        &mut self,
        directory: &dyn Directory,
        kind: EntityKind,
        filter: Filter,
    ) -> Result<(), Failure> {
        for entity in all(directory, Filter { kind: Some(kind), ..filter }).await? {
            self.add(entity.reference());
        }
        Ok(())
    }

    fn add(&mut self, of: EntityRef) {
        if self.known.insert(of.clone()) {
            self.order.push(of);
        }
    }

    /// Names of what goes of one kind.
    pub(super) fn ids(&self, kind: EntityKind) -> impl Iterator<Item = &str> {
        self.order.iter().filter(move |of| of.kind == kind).map(|of| of.id.as_str())
    }

    pub(super) fn writes(&self) -> Vec<Write> {
        self.order.iter().cloned().map(Write::Delete).collect()
    }
}
