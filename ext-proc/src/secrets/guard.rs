use serde_json::{Map, Value, json};

use super::cipher::SaltKey;
use super::sealed::{OpenError, reseal};
use super::{CREDENTIAL_VALUES, LITELLM_PARAMS, SALT_KEY, Salt};
use crate::entity::{Entity, EntityKind, EntityRef};
use crate::store::{Author, Directory, Filter, Sort, StoreError, Write};

/// Id of the credential that tells whether the salt key is still the same.
pub const CANARY: &str = "attache-salt-canary";
const CANARY_TEXT: &str = "the salt key is the same";
/// Parts of an entity's settings that are encrypted value by value.
const SEALED: [&str; 2] = [CREDENTIAL_VALUES, LITELLM_PARAMS];
const KINDS: [EntityKind; 2] = [EntityKind::Credential, EntityKind::Model];
/// Entities per write.
const BATCH: u32 = 200;

/// Why stored credentials must not be used, or cannot be stored.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    #[error(
        "the salt key differs from the one that encrypted the stored credentials; set {SALT_KEY} to that one, or run `attache secrets rotate`"
    )]
    Changed,
    #[error(
        "the database holds encrypted credentials, but there is no salt key; set {SALT_KEY} to the one that encrypted them"
    )]
    Missing,
    #[error(
        "a credential can only be stored with a salt key: set {SALT_KEY} (a long random text), or at least LITELLM_MASTER_KEY"
    )]
    Needed,
    #[error("{kind} {id}: {error}")]
    Unreadable { kind: EntityKind, id: String, error: OpenError },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Refuses a salt key that is not the one of the stored credentials, and none at all when there are some. To be called
/// at start and before credentials are read.
///
/// # Errors
/// [`CheckError::Changed`], [`CheckError::Missing`], or the store's.
pub async fn check(directory: &dyn Directory, salt: Option<&Salt>) -> Result<(), CheckError> {
    let canary = canary(directory).await?;
    match (canary, salt) {
        (Some(canary), Some(salt)) if sings(&canary, salt) => Ok(()),
        (canary, _) if !holds_secrets(directory, canary.is_some()).await? => Ok(()),
        (_, None) => Err(CheckError::Missing),
        (Some(_), Some(_)) => Err(CheckError::Changed),
        // Nobody noted the key: a look at the first of each kind must do.
        (None, Some(salt)) => first_opens(directory, &salt.key).await,
    }
}

async fn first_opens(directory: &dyn Directory, salt: &SaltKey) -> Result<(), CheckError> {
    for kind in KINDS {
        let first = directory.list(&Filter { limit: 1, ..page(kind, 0) }).await?.entities.pop();
        if first.is_some_and(|first| sealed_parts(&first).any(|(_, map)| super::open(map, salt).is_err())) {
            return Err(CheckError::Changed);
        }
    }
    Ok(())
}

/// As [`check`], and remembers the salt key: to be called before a credential is stored.
///
/// # Errors
/// [`CheckError::Needed`] without any key, else as [`check`].
pub async fn prepare<'a>(
    directory: &dyn Directory,
    salt: Option<&'a Salt>,
    author: &Author,
) -> Result<&'a SaltKey, CheckError> {
    let salt = salt.ok_or(CheckError::Needed)?;
    check(directory, Some(salt)).await?;
    let before = canary(directory).await?;
    if before.as_ref().is_some_and(|canary| sings(canary, salt)) {
        return Ok(&salt.key);
    }
    match directory.apply(&[write_canary(before, &salt.key)], author).await {
        Ok(_) => Ok(&salt.key),
        // Another process was faster: what counts is that its key is ours.
        Err(StoreError::Conflict(_)) => match canary(directory).await? {
            Some(canary) if sings(&canary, salt) => Ok(&salt.key),
            _ => Err(CheckError::Changed),
        },
        Err(error) => Err(error.into()),
    }
}

fn write_canary(before: Option<Entity>, salt: &SaltKey) -> Write {
    let text = json!({"canary": salt.encrypt(CANARY_TEXT)});
    let mut after = before.clone().unwrap_or_else(|| Entity::new(EntityKind::Credential, CANARY));
    after.settings.rest.insert(SEALED[0].to_owned(), text);
    match before {
        Some(before) => Write::Replace { before: Box::new(before), after: Box::new(after) },
        None => Write::Insert(after),
    }
}

async fn canary(directory: &dyn Directory) -> Result<Option<Entity>, StoreError> {
    Ok(directory.entities(&[EntityRef::new(EntityKind::Credential, CANARY)]).await?.pop())
}

fn sings(canary: &Entity, salt: &Salt) -> bool {
    let text = canary.settings.rest.get(SEALED[0]).and_then(|values| values.get("canary"));
    let text = text.and_then(Value::as_str).unwrap_or_default();
    salt.key.decrypt(text).is_ok_and(|plain| plain.expose() == CANARY_TEXT)
}

/// Is anything encrypted, apart from the canary?
async fn holds_secrets(directory: &dyn Directory, canary: bool) -> Result<bool, StoreError> {
    let count = |kind| Filter { kind: Some(kind), ..Filter::default() };
    let credentials = directory.list(&count(EntityKind::Credential)).await?.total;
    Ok(credentials > u64::from(canary) || directory.list(&count(EntityKind::Model)).await?.total > 0)
}

/// The maps of an entity that are encrypted value by value.
fn sealed_parts(entity: &Entity) -> impl Iterator<Item = (&'static str, &Map<String, Value>)> {
    SEALED.into_iter().filter_map(|name| Some((name, entity.settings.rest.get(name)?.as_object()?)))
}

/// Names of the stored entities that the key does not read.
///
/// # Errors
/// The store's.
pub async fn unreadable(directory: &dyn Directory, salt: &SaltKey) -> Result<Vec<String>, CheckError> {
    let mut names = Vec::new();
    for kind in KINDS {
        let mut offset = 0;
        loop {
            let entities = directory.list(&page(kind, offset)).await?.entities;
            if entities.is_empty() {
                break;
            }
            offset += entities.len() as u64;
            let bad = |entity: &Entity| sealed_parts(entity).any(|(_, map)| super::open(map, salt).is_err());
            names.extend(entities.into_iter().filter(bad).map(|entity| format!("{kind} {}", entity.id)));
        }
    }
    Ok(names)
}

/// What [`rotate`] did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rotated {
    pub changed: u64,
    /// Encrypted with the new key already: an earlier rotation was interrupted.
    pub already: u64,
}

/// Encrypts every stored credential with another salt key. May be run again after an interruption. The canary comes
/// last: until then a process with the new key refuses to start.
///
/// # Errors
/// [`CheckError::Unreadable`] names the first entity that neither key reads.
pub async fn rotate(
    directory: &dyn Directory,
    old: &SaltKey,
    new: &SaltKey,
    author: &Author,
) -> Result<Rotated, CheckError> {
    let mut rotated = Rotated::default();
    for kind in KINDS {
        let mut offset = 0;
        loop {
            let page = directory.list(&page(kind, offset)).await?;
            if page.entities.is_empty() {
                break;
            }
            offset += page.entities.len() as u64;
            let mut writes = Vec::new();
            for before in page.entities {
                if kind == EntityKind::Credential && before.id == CANARY {
                    continue;
                }
                match resealed(&before, old, new)? {
                    Some(after) => {
                        writes.push(Write::Replace { before: Box::new(before), after: Box::new(after) });
                    }
                    None => rotated.already += 1,
                }
            }
            rotated.changed += writes.len() as u64;
            if !writes.is_empty() {
                directory.apply(&writes, author).await?;
            }
        }
    }
    let before = canary(directory).await?;
    if rotated != Rotated::default() || before.is_some() {
        directory.apply(&[write_canary(before, new)], author).await?;
    }
    Ok(rotated)
}

fn page(kind: EntityKind, offset: u64) -> Filter {
    let sort = Sort::Id;
    Filter { kind: Some(kind), sort, ascending: true, offset, limit: BATCH, ..Filter::default() }
}

/// `None` when the new key reads it already.
fn resealed(entity: &Entity, old: &SaltKey, new: &SaltKey) -> Result<Option<Entity>, CheckError> {
    if sealed_parts(entity).all(|(_, map)| super::open(map, new).is_ok()) {
        return Ok(None);
    }
    let mut after = entity.clone();
    for (name, map) in sealed_parts(entity) {
        let sealed = reseal(map, old, new).map_err(|error| CheckError::Unreadable {
            kind: entity.kind,
            id: entity.id.clone(),
            error,
        })?;
        after.settings.rest.insert(name.to_owned(), Value::Object(sealed));
    }
    Ok(Some(after))
}
