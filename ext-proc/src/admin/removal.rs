//! What goes when a team, a user or an organisation goes: its keys and memberships, as in LiteLLM. Everything in one
//! transaction, so that no key outlives what limited it. What joined between reading and deleting goes in another one:
//! after the first nothing can join any more ([`Write::Expect`]).

use std::collections::BTreeSet;

use super::Admin;
use super::access::Actor;
use super::people::all;
use super::reply::Failure;
use crate::entity::{EntityKind, EntityRef};
use crate::store::{Directory, Filter, Write};

/// What is deleted with everything that belongs to it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Going<'a> {
    /// Ids of teams: their keys and members go too.
    Teams(&'a [String]),
    /// Ids of users: their keys and memberships go too.
    Users(&'a [String]),
    /// Ids of organisations: their teams, keys and members go too.
    Organizations(&'a [String]),
    /// A team and a user: the membership, and the user's keys in the team.
    Member(&'a str, &'a str),
}

impl Admin {
    /// Deletes it all; tells what was deleted.
    ///
    /// # Errors
    /// As [`Admin::apply`].
    pub(super) async fn remove(&self, actor: &Actor, going: Going<'_>) -> Result<Removal, Failure> {
        let directory = &*self.state.database;
        let mut removal = Removal::of(directory, going).await?;
        self.apply(&removal.writes(), &actor.author()).await?;
        let mut late = Removal::of(directory, going).await?;
        late.order.retain(|of| !removal.known.contains(of));
        if !late.order.is_empty() {
            self.apply(&late.writes(), &actor.author()).await?;
            late.order.into_iter().for_each(|of| removal.add(of));
        }
        Ok(removal)
    }
}

/// Entities to delete, in the order in which they were found: what depends on others comes first.
#[derive(Debug, Default)]
pub(super) struct Removal {
    order: Vec<EntityRef>,
    known: BTreeSet<EntityRef>,
}

impl Removal {
    async fn of(directory: &dyn Directory, going: Going<'_>) -> Result<Self, Failure> {
        let mut removal = Self::default();
        match going {
            Going::Teams(ids) => removal.teams(directory, ids).await?,
            Going::Users(ids) => removal.users(directory, ids).await?,
            Going::Organizations(ids) => removal.organizations(directory, ids).await?,
            Going::Member(team, user) => removal.member(directory, team, user).await?,
        }
        Ok(removal)
    }

    async fn users(&mut self, directory: &dyn Directory, ids: &[String]) -> Result<(), Failure> {
        for id in ids {
            let theirs = Filter { user_id: Some(id.clone()), ..Filter::default() };
            for kind in
                [EntityKind::RotatedKey, EntityKind::Key, EntityKind::Member, EntityKind::OrganizationMember]
            {
                self.found(directory, kind, theirs.clone()).await?;
            }
            self.add(EntityRef::new(EntityKind::User, id.as_str()));
        }
        Ok(())
    }

    async fn member(&mut self, directory: &dyn Directory, team: &str, user: &str) -> Result<(), Failure> {
        let theirs =
            Filter { team_id: Some(team.to_owned()), user_id: Some(user.to_owned()), ..Filter::default() };
        for kind in [EntityKind::RotatedKey, EntityKind::Key, EntityKind::Member] {
            self.found(directory, kind, theirs.clone()).await?;
        }
        Ok(())
    }

    async fn organizations(&mut self, directory: &dyn Directory, ids: &[String]) -> Result<(), Failure> {
        for id in ids {
            let its = Filter { organization_id: Some(id.clone()), ..Filter::default() };
            let teams = all(directory, Filter { kind: Some(EntityKind::Team), ..its.clone() }).await?;
            let teams: Vec<String> = teams.into_iter().map(|team| team.id).collect();
            self.teams(directory, &teams).await?;
            for kind in [EntityKind::RotatedKey, EntityKind::Key, EntityKind::OrganizationMember] {
                self.found(directory, kind, its.clone()).await?;
            }
            self.add(EntityRef::new(EntityKind::Organization, id.as_str()));
        }
        Ok(())
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
