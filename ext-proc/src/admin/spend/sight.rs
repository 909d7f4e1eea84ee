//! What of the ledger a caller may see: its own rows, those of a team or organisation that it is an admin of, or all.

use std::collections::BTreeSet;

use crate::admin::Admin;
use crate::admin::access::{Actor, Role};
use crate::admin::people::all;
use crate::admin::reply::Failure;
use crate::entity::{Entity, EntityKind};
use crate::store::{DailyKind, Filter, RowFilter, SpendRow, SumFilter};

/// Keys of one user that are looked at.
const MOST_KEYS: u32 = 1_000;

/// Somebody who may not see everything.
#[derive(Debug, Clone, Default)]
pub(super) struct Sight {
    /// The user whose requests are its own; `None`: those of its key are.
    user: Option<String>,
    /// Its key: the hash, and the one that it had first.
    keys: Vec<String>,
    /// Teams that it is in.
    in_teams: BTreeSet<String>,
    /// Teams of which it sees everything.
    teams: BTreeSet<String>,
    organizations: BTreeSet<String>,
}

impl Sight {
    /// `None`: everything.
    pub(super) async fn of(admin: &Admin, actor: &Actor) -> Result<Option<Self>, Failure> {
        if actor.all() {
            return Ok(None);
        }
        let mut sight = Self::default();
        if let Some(key) = &actor.key {
            sight.keys = hashes(key);
            sight.in_teams.extend(key.team_id.clone());
        }
        let Some(user) = actor.user.as_ref().filter(|_| actor.role != Role::Key) else {
            return Ok(Some(sight));
        };
        sight.user = Some(user.id.clone());
        let has = |member: &Entity, role: &str| member.settings.role.as_deref() == Some(role);
        for member in admin.memberships(actor, EntityKind::Member).await? {
            if has(&member, "admin") {
                sight.teams.extend(member.team_id.clone());
            }
            sight.in_teams.extend(member.team_id);
        }
        for member in admin.memberships(actor, EntityKind::OrganizationMember).await? {
            let Some(id) = member.organization_id.clone().filter(|_| has(&member, "org_admin")) else {
                continue;
            };
            let teams = Filter {
                kind: Some(EntityKind::Team),
                organization_id: Some(id.clone()),
                ..Filter::default()
            };
            sight.teams.extend(all(&*admin.state.database, teams).await?.into_iter().map(|team| team.id));
            sight.organizations.insert(id);
        }
        Ok(Some(sight))
    }

    fn sees_teams(&self, ids: &[String]) -> bool {
        ids.iter().all(|id| self.teams.contains(id))
    }

    fn is_in_teams(&self, ids: &[String]) -> bool {
        ids.iter().all(|id| self.teams.contains(id) || self.in_teams.contains(id))
    }

    /// May it see this row?
    pub(super) fn sees(&self, row: &SpendRow) -> bool {
        let among =
            |ids: &BTreeSet<String>, id: &Option<String>| id.as_ref().is_some_and(|id| ids.contains(id));
        self.keys.contains(&row.key)
            || (self.user.is_some() && self.user == row.user_id)
            || among(&self.teams, &row.team_id)
            || among(&self.organizations, &row.organization_id)
    }

    /// Narrows a question about rows to what may be seen. What is named and not the caller's is refused; when nothing is
    /// named that is, the caller's own rows are meant.
    ///
    /// # Errors
    /// 403.
    pub(super) async fn narrow_rows(
        &self,
        admin: &Admin,
        actor: &Actor,
        filter: &mut RowFilter,
    ) -> Result<(), Failure> {
        let mut whole = false;
        if let Some(teams) = &filter.team_ids {
            whole |= self.sees_teams(teams);
            self.require(actor, whole || self.is_in_teams(teams), "the team is not one of yours")?;
        }
        if let Some(ids) = &filter.organization_ids {
            let theirs = ids.iter().all(|id| self.organizations.contains(id));
            self.require(actor, theirs, "only an admin of the organization may see its rows")?;
            whole = true;
        }
        if let Some(user) = &filter.user_id {
            let own = self.user.as_ref() == Some(user);
            self.require(actor, own || whole, "the rows of other users are an admin's to see")?;
            whole |= own;
        }
        for key in filter.keys.clone().unwrap_or_default() {
            match self.whose_key(admin, &key).await? {
                Whose::Own => whole = true,
                Whose::User(user) if filter.user_id.is_none() => {
                    (filter.user_id, whole) = (Some(user), true);
                }
                Whose::Team(team) if filter.team_ids.is_none() => {
                    (filter.team_ids, whole) = (Some(vec![team]), true);
                }
                Whose::Other if !whole => {
                    return Err(actor.refusal("the rows of other keys are an admin's to see"));
                }
                _ => {}
            }
        }
        match (&self.user, whole) {
            (_, true) => {}
            (Some(user), false) => filter.user_id = Some(user.clone()),
            (None, false) => filter.keys = Some(self.keys.clone()),
        }
        Ok(())
    }

    /// As [`Self::narrow_rows`], of sums. Of tags, customers, and teams that the caller is only in, it sees what its own
    /// keys did.
    ///
    /// # Errors
    /// 403.
    pub(super) async fn narrow_sums(
        &self,
        admin: &Admin,
        actor: &Actor,
        filter: &mut SumFilter,
    ) -> Result<(), Failure> {
        let mut whole = false;
        match (filter.kind, &filter.ids) {
            (DailyKind::Team, None) if !self.teams.is_empty() => {
                (filter.ids, whole) = (Some(self.teams.iter().cloned().collect()), true);
            }
            (DailyKind::Team, None) => filter.ids = Some(self.in_teams.iter().cloned().collect()),
            (DailyKind::Team, Some(ids)) => {
                whole = self.sees_teams(ids);
                self.require(actor, whole || self.is_in_teams(ids), "the team is not one of yours")?;
            }
            (DailyKind::Organization, ids) => {
                let theirs = match ids {
                    Some(ids) => ids.iter().all(|id| self.organizations.contains(id)),
                    None => !self.organizations.is_empty(),
                };
                self.require(actor, theirs, "only an admin of the organization may see its sums")?;
                if ids.is_none() {
                    filter.ids = Some(self.organizations.iter().cloned().collect());
                }
                whole = true;
            }
            (DailyKind::User, ids) => {
                let own: Vec<String> = self.user.iter().cloned().collect();
                let theirs = ids.as_ref().is_none_or(|ids| *ids == own);
                self.require(actor, theirs, "the sums of other users are an admin's to see")?;
                if self.user.is_some() {
                    (filter.ids, whole) = (Some(own), true);
                } else {
                    filter.kind = DailyKind::All;
                    filter.ids = None;
                }
            }
            _ => {}
        }
        self.narrow_keys(admin, actor, filter, whole).await
    }

    async fn narrow_keys(
        &self,
        admin: &Admin,
        actor: &Actor,
        filter: &mut SumFilter,
        mut whole: bool,
    ) -> Result<(), Failure> {
        for key in filter.keys.clone().unwrap_or_default() {
            let whose = self.whose_key(admin, &key).await?;
            match (whose, filter.kind) {
                (Whose::Own, _) => whole = true,
                (Whose::User(user), DailyKind::All) => {
                    (filter.kind, filter.ids, whole) = (DailyKind::User, Some(vec![user]), true);
                }
                (Whose::Team(team), DailyKind::All) => {
                    (filter.kind, filter.ids, whole) = (DailyKind::Team, Some(vec![team]), true);
                }
                // Of tags and customers.
                (Whose::User(_) | Whose::Team(_), _) => whole = true,
                (Whose::Other, _) if whole => {}
                (Whose::Other, _) => {
                    return Err(actor.refusal("the sums of other keys are an admin's to see"));
                }
            }
        }
        if whole {
            return Ok(());
        }
        match (&self.user, filter.kind) {
            (Some(user), DailyKind::All) => {
                (filter.kind, filter.ids) = (DailyKind::User, Some(vec![user.clone()]));
            }
            _ => filter.keys = Some(self.own_keys(admin).await?),
        }
        Ok(())
    }

    fn require(&self, actor: &Actor, allowed: bool, why: &str) -> Result<(), Failure> {
        if allowed { Ok(()) } else { Err(actor.refusal(why)) }
    }

    async fn whose_key(&self, admin: &Admin, hash: &str) -> Result<Whose, Failure> {
        if self.keys.iter().any(|own| own == hash) {
            return Ok(Whose::Own);
        }
        let Some(key) = admin.find(EntityKind::Key, hash).await? else { return Ok(Whose::Other) };
        Ok(match (key.user_id, key.team_id) {
            (Some(user), _) if self.user.as_ref() == Some(&user) => Whose::User(user),
            (_, Some(team)) if self.teams.contains(&team) => Whose::Team(team),
            _ => Whose::Other,
        })
    }

    /// Hashes of its key, or of all its user's.
    async fn own_keys(&self, admin: &Admin) -> Result<Vec<String>, Failure> {
        let mut keys = self.keys.clone();
        if let Some(user) = &self.user {
            let theirs = Filter {
                kind: Some(EntityKind::Key),
                user_id: Some(user.clone()),
                limit: MOST_KEYS,
                ..Filter::default()
            };
            keys.extend(admin.state.database.list(&theirs).await?.entities.iter().flat_map(hashes));
        }
        keys.sort_unstable();
        keys.dedup();
        Ok(keys)
    }
}

/// Whose a key is that somebody asks about.
enum Whose {
    Own,
    /// Of the caller's user.
    User(String),
    /// Of a team that the caller is an admin of.
    Team(String),
    Other,
}

/// Rows of a key are under its hash; those from before it was rotated, under its first one.
fn hashes(key: &Entity) -> Vec<String> {
    let mut hashes = vec![key.id.clone()];
    if key.account() != key.id {
        hashes.push(key.account().to_owned());
    }
    hashes
}
