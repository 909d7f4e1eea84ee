//! Changes of entities: read, change, write, again when somebody else was faster.

use attache_llm::error::ApiError;

use super::Admin;
use super::body::refused;
use super::query::Query;
use super::reply::Failure;
use crate::entity::{Entity, EntityKind, EntityRef, member_id};
use crate::store::{Author, StoreError, Write};

/// Tries of one change against others of the same entity.
pub(super) const TRIES: usize = 5;

/// Changes one entity: reads it, lets `change` work on it, and writes it, five times at most if it is changed
/// meanwhile. `change` must not care how often it is called. `None`: there is no such entity.
///
/// # Errors
/// What `change` says; 409 when others keep changing it; 503 while the database is away.
pub(super) async fn edit<F>(
    admin: &Admin,
    kind: EntityKind,
    id: &str,
    author: &Author,
    mut change: F,
) -> Result<Option<Entity>, Failure>
where
    F: FnMut(&mut Entity) -> Result<(), ApiError> + Send,
{
    for _ in 0..TRIES {
        let Some(before) = admin.find(kind, id).await? else { return Ok(None) };
        let mut after = before.clone();
        change(&mut after)?;
        let write = replace(before, after, author);
        if let Some(done) = admin.try_apply(&[write], author).await? {
            return Ok(done.into_iter().next().flatten());
        }
    }
    Err(busy())
}

/// `after` in place of `before`, signed.
pub(super) fn replace(before: Entity, mut after: Entity, author: &Author) -> Write {
    after.updated_by = Some(author_name(author));
    Write::Replace { before: Box::new(before), after: Box::new(after) }
}

/// A new entity, signed.
pub(super) fn insert(mut entity: Entity, author: &Author) -> Write {
    entity.created_by = Some(author_name(author));
    entity.updated_by.clone_from(&entity.created_by);
    Write::Insert(entity)
}

fn author_name(author: &Author) -> String {
    if author.user.is_empty() { author.key.clone() } else { author.user.clone() }
}

impl Admin {
    /// What must still be there when this entity is stored: its team, organisation and budget, and of its user what
    /// exists (a key's user need not).
    ///
    /// # Errors
    /// 503 while the database is away.
    pub(super) async fn anchors(&self, of: &Entity) -> Result<Vec<Write>, Failure> {
        let named = [
            (EntityKind::Team, &of.team_id),
            (EntityKind::Organization, &of.organization_id),
            (EntityKind::Budget, &of.budget_id),
        ];
        let mut anchors: Vec<EntityRef> =
            named.into_iter().filter_map(|(kind, id)| Some(EntityRef::new(kind, id.as_ref()?))).collect();
        if let Some(user) = &of.user_id {
            let mut optional = vec![EntityRef::new(EntityKind::User, user)];
            if let (EntityKind::Key, Some(team)) = (of.kind, &of.team_id) {
                optional.push(EntityRef::new(EntityKind::Member, member_id(team, user)));
            }
            let found = self.state.database.entities(&optional).await?;
            anchors.extend(found.iter().map(Entity::reference));
        }
        Ok(anchors.into_iter().map(Write::Expect).collect())
    }

    /// Makes these changes, all or none, and tells caches and gates.
    ///
    /// # Errors
    /// 400 naming the field that exists already, 409 when something was changed meanwhile, 503 while the database is
    /// away.
    pub(super) async fn apply(
        &self,
        writes: &[Write],
        author: &Author,
    ) -> Result<Vec<Option<Entity>>, Failure> {
        self.apply_raw(writes, author).await.map_err(conflict)
    }

    /// As [`Self::apply`]; `None`: something was changed since it was read, so read it again.
    pub(super) async fn try_apply(
        &self,
        writes: &[Write],
        author: &Author,
    ) -> Result<Option<Vec<Option<Entity>>>, Failure> {
        match self.apply_raw(writes, author).await {
            Err(StoreError::Conflict("version" | "missing")) => Ok(None),
            Err(error) => Err(conflict(error)),
            Ok(done) => Ok(Some(done)),
        }
    }

    async fn apply_raw(&self, writes: &[Write], author: &Author) -> Result<Vec<Option<Entity>>, StoreError> {
        let done = self.state.database.apply(writes, author).await;
        // Also when it is unsure whether the changes were made.
        let changed: Vec<EntityRef> = writes.iter().flat_map(touched).collect();
        self.changed(&changed);
        done
    }
}

fn touched(write: &Write) -> Vec<EntityRef> {
    match write {
        Write::Insert(entity) => vec![entity.reference()],
        Write::Replace { before, .. } => vec![before.reference()],
        Write::Delete(of) | Write::ResetSpend { of, .. } => vec![of.clone()],
        Write::Expect(_) => Vec::new(),
        Write::Rotate { from, to, .. } => vec![EntityRef::new(EntityKind::Key, from), to.reference()],
    }
}

/// A conflict as its caller should read it.
fn conflict(error: StoreError) -> Failure {
    match error {
        // What it belongs to was deleted meanwhile: asked again, the call says what is missing.
        StoreError::Conflict("version" | "missing") => busy(),
        StoreError::Conflict("id") => refused("id", "exists already").into(),
        StoreError::Conflict("key_alias") => {
            refused("key_alias", "exists already: aliases are unique across all keys").into()
        }
        other => other.into(),
    }
}

/// 409: others keep changing it.
pub(super) fn busy() -> Failure {
    let mut error = ApiError::invalid_request("It is being changed by somebody else. Try again.", None);
    error.status = 409;
    error.retriable = true;
    error.into()
}

/// Which part of a list is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Paging {
    /// From 1.
    pub page: u64,
    pub size: u32,
}

impl Paging {
    /// `page` and `size` (or `page_size`) of a query string.
    ///
    /// # Errors
    /// 400 for a page below 1 and a size beyond 1 to `most`.
    pub(super) fn of(query: &mut Query, size: u32, most: u32) -> Result<Self, ApiError> {
        let page = match query.number("page")? {
            None => 1,
            Some(page) if (1..=1_000_000_000).contains(&page) => page,
            Some(_) => return Err(refused("page", "must be 1 or more")),
        };
        let name = if query.has("page_size") { "page_size" } else { "size" };
        let size = match query.number(name)? {
            None => size,
            Some(size) => u32::try_from(size)
                .ok()
                .filter(|size| (1..=most).contains(size))
                .ok_or_else(|| refused(name, &format!("must be between 1 and {most}")))?,
        };
        Ok(Self { page, size })
    }

    pub(super) fn offset(self) -> u64 {
        (self.page - 1).saturating_mul(u64::from(self.size))
    }

    pub(super) fn pages(self, total: u64) -> u64 {
        total.div_ceil(u64::from(self.size))
    }
}
