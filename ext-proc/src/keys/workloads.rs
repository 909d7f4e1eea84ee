//! Callers without a key: what Envoy verified of them leads, by `features.identities`, to a key that exists, or to a
//! team or user for which a key is made up that is counted like any other.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::config::{IdentityRule, find_identity};
use crate::entity::{Entity, EntityKind};
use crate::store::{Directory, Filter, StoreError};

/// Before the name of a rule: id of the key that it makes up. No hash looks like it.
const PREFIX: &str = "workload/";
/// How long an alias is taken for a key's without asking again, though no key changed.
const ALIAS_TTL: Duration = Duration::from_secs(5);
const DEADLINE: Duration = Duration::from_millis(800);

/// Rules of the configuration, with the keys that they make up by id.
#[derive(Default)]
pub(super) struct Workloads {
    rules: Vec<IdentityRule>,
    keys: HashMap<String, Arc<Entity>>,
}

/// Whom an identity stands for.
pub(super) enum Stand {
    MadeUp(Arc<Entity>),
    Alias(String),
}

impl Workloads {
    pub(super) fn new(rules: &[IdentityRule]) -> Self {
        let without_key = rules.iter().filter(|rule| rule.key_alias.is_none());
        let keys = without_key.map(made_up).map(|key| (key.id.clone(), Arc::new(key))).collect();
        Self { rules: rules.to_vec(), keys }
    }

    /// The key that a rule makes up.
    pub(super) fn key(&self, id: &str) -> Option<&Arc<Entity>> {
        if id.starts_with(PREFIX) { self.keys.get(id) } else { None }
    }

    /// By the first rule that holds; `None`: nobody, or no identity.
    pub(super) fn find(&self, lookup: &str) -> Option<Stand> {
        let rule = find_identity(&self.rules, lookup)?;
        match &rule.key_alias {
            Some(alias) => Some(Stand::Alias(alias.clone())),
            None => self.keys.get(&format!("{PREFIX}{}", rule.name)).cloned().map(Stand::MadeUp),
        }
    }

    pub(super) fn same(&self, rules: &[IdentityRule]) -> bool {
        self.rules == rules
    }
}

fn made_up(rule: &IdentityRule) -> Entity {
    let mut key = Entity::new(EntityKind::Key, format!("{PREFIX}{}", rule.name));
    key.name.clone_from(&rule.name);
    key.alias = Some(rule.name.clone());
    key.team_id.clone_from(&rule.team_id);
    key.user_id.clone_from(&rule.user_id);
    key.settings.models.clone_from(&rule.models);
    key
}

/// Hashes of the aliases that rules name. As many as there are rules.
#[derive(Default)]
pub(super) struct Aliases(Mutex<HashMap<String, Known>>);

#[derive(Clone)]
struct Known {
    hash: Option<String>,
    at: Instant,
    /// Changes of keys before it was asked.
    changes: u64,
}

impl Aliases {
    /// The hash of the key with this alias; what was known before while the database is away. `changes` rises with each
    /// change of a key: any may take or leave the alias.
    pub(super) async fn hash(
        &self,
        store: &dyn Directory,
        alias: &str,
        changes: u64,
    ) -> Result<Option<String>, StoreError> {
        let known = self.0.lock().get(alias).cloned();
        if let Some(known) = &known
            && known.changes == changes
            && known.at.elapsed() < ALIAS_TTL
        {
            return Ok(known.hash.clone());
        }
        let kind = Some(EntityKind::Key);
        let filter = Filter { kind, alias: Some(alias.to_owned()), limit: 1, ..Filter::default() };
        let page = match (tokio::time::timeout(DEADLINE, store.list(&filter)).await, known) {
            (Ok(Ok(page)), _) => page,
            (_, Some(known)) => return Ok(known.hash),
            (Ok(Err(error)), None) => return Err(error),
            (Err(_), None) => {
                let reason = "no answer in time".to_owned();
                return Err(StoreError::Unavailable { backend: "key store", reason });
            }
        };
        let hash = page.entities.into_iter().next().map(|key| key.id);
        let known = Known { hash: hash.clone(), at: Instant::now(), changes };
        self.0.lock().insert(alias.to_owned(), known);
        Ok(hash)
    }

    pub(super) fn clear(&self) {
        self.0.lock().clear();
    }
}
