//! Whoever has rights, limits or a budget: virtual keys, teams, users, members, organisations, end users, tags, and the
//! budgets that several of them may share. One shape for all of them, since LiteLLM gives them the same settings.

mod settings;

#[cfg(test)]
pub(crate) mod double;

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use settings::{ModelBudget, Settings};

/// What an [`Entity`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntityKind {
    /// Virtual key; its id is the hash.
    Key,
    /// Hash of a key that was rotated and is good until `expires_ms`; `settings.successor` is the hash that it stands for.
    RotatedKey,
    Team,
    User,
    /// User in a team; id by [`member_id`].
    Member,
    Organization,
    /// User in an organisation; id by [`member_id`].
    OrganizationMember,
    /// Whom the request is made for (`user` of the body): LiteLLM's customer.
    EndUser,
    Tag,
    /// Limits that several entities share by `budget_id`.
    Budget,
    /// A key's use of one model; id by [`member_id`] of account and model. Counted, never stored as an entity.
    KeyModel,
    /// As `KeyModel`, of a team.
    TeamModel,
    /// As `KeyModel`, of a user.
    UserModel,
    /// The whole gateway (`litellm_settings.max_budget`); its id is `proxy`. Counted, never stored as an entity.
    Proxy,
    /// A model of LiteLLM's database: `settings.rest` holds its `litellm_params` and `model_info`.
    Model,
    /// A named credential of LiteLLM's database; its values are encrypted.
    Credential,
}

impl EntityKind {
    /// Every kind.
    pub const ALL: [Self; 16] = [
        Self::Key,
        Self::RotatedKey,
        Self::Team,
        Self::User,
        Self::Member,
        Self::Organization,
        Self::OrganizationMember,
        Self::EndUser,
        Self::Tag,
        Self::Budget,
        Self::KeyModel,
        Self::TeamModel,
        Self::UserModel,
        Self::Proxy,
        Self::Model,
        Self::Credential,
    ];

    /// As tables and counters write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::RotatedKey => "rotated_key",
            Self::Team => "team",
            Self::User => "user",
            Self::Member => "member",
            Self::Organization => "organization",
            Self::OrganizationMember => "organization_member",
            Self::EndUser => "end_user",
            Self::Tag => "tag",
            Self::Budget => "budget",
            Self::KeyModel => "key_model",
            Self::TeamModel => "team_model",
            Self::UserModel => "user_model",
            Self::Proxy => "proxy",
            Self::Model => "model",
            Self::Credential => "credential",
        }
    }

    /// Reads [`Self::name`] back.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

impl fmt::Display for EntityKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Names one entity.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EntityRef {
    pub kind: EntityKind,
    pub id: String,
}

impl EntityRef {
    #[must_use]
    pub fn new(kind: EntityKind, id: impl Into<String>) -> Self {
        Self { kind, id: id.into() }
    }
}

/// Between the two parts of a member's id. No name may contain it.
pub const SEPARATOR: char = '\u{1f}';

/// Id of a user's membership in a team or an organisation, and of somebody's use of a model.
#[must_use]
pub fn member_id(of: &str, who: &str) -> String {
    format!("{of}{SEPARATOR}{who}")
}

/// Both parts of a [`member_id`].
#[must_use]
pub fn member_parts(id: &str) -> Option<(&str, &str)> {
    id.split_once(SEPARATOR)
}

/// A stored entity.
#[derive(Debug, Clone, PartialEq)]
pub struct Entity {
    pub kind: EntityKind,
    /// Unique within its kind. A key's: lower-case hex SHA-256 of the plain key.
    pub id: String,
    /// Of a key, `sk-...last4`; else empty.
    pub name: String,
    /// `key_alias` (unique among keys), `team_alias`, `user_alias`, `organization_alias`, ...
    pub alias: Option<String>,
    pub team_id: Option<String>,
    pub user_id: Option<String>,
    pub organization_id: Option<String>,
    /// [`EntityKind::Budget`] whose settings hold where the entity has none of its own.
    pub budget_id: Option<String>,
    pub blocked: bool,
    /// Unix milliseconds from which it is refused.
    pub expires_ms: Option<u64>,
    pub settings: Settings,
    /// Sum of the ledger's rows since `spend_reset_ms`, on top of what the reset left, nano-dollars. The store's to write.
    pub spend_nanos: i64,
    /// When an admin last set the spend (Unix milliseconds; 0: never). The store's to write.
    pub spend_reset_ms: u64,
    /// Unix milliseconds. The store's to write.
    pub created_ms: u64,
    pub updated_ms: u64,
    pub created_by: Option<String>,
    pub updated_by: Option<String>,
}

impl Entity {
    /// An entity without settings, as it is before it is stored.
    #[must_use]
    pub fn new(kind: EntityKind, id: impl Into<String>) -> Self {
        Self {
            kind,
            id: id.into(),
            name: String::new(),
            alias: None,
            team_id: None,
            user_id: None,
            organization_id: None,
            budget_id: None,
            blocked: false,
            expires_ms: None,
            settings: Settings::default(),
            spend_nanos: 0,
            spend_reset_ms: 0,
            created_ms: 0,
            updated_ms: 0,
            created_by: None,
            updated_by: None,
        }
    }

    #[must_use]
    pub fn reference(&self) -> EntityRef {
        EntityRef::new(self.kind, self.id.clone())
    }

    /// Id under which use is counted: a rotated key goes on with the counters of the first one.
    #[must_use]
    pub fn account(&self) -> &str {
        self.settings.account.as_deref().unwrap_or(&self.id)
    }
}

/// An entity with the budget that it shares: the entity's own settings win, one by one.
#[derive(Debug, Clone, PartialEq)]
pub struct Holder {
    pub entity: Arc<Entity>,
    pub budget: Option<Arc<Entity>>,
}

impl Holder {
    /// Without a shared budget.
    #[must_use]
    pub fn own(entity: Arc<Entity>) -> Self {
        Self { entity, budget: None }
    }

    /// A setting, from the entity or else from its shared budget.
    pub fn setting<T>(&self, pick: impl Fn(&Settings) -> Option<T>) -> Option<T> {
        pick(&self.entity.settings).or_else(|| self.budget.as_ref().and_then(|budget| pick(&budget.settings)))
    }
}

/// Everyone in whose name a request is made, as far as they are known. Made once per decision, from the cache.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Principal {
    /// `None`: the master key, which has no limits.
    pub key: Option<Holder>,
    pub team: Option<Holder>,
    /// Owner of the key.
    pub user: Option<Holder>,
    /// The owner in the key's team.
    pub member: Option<Holder>,
    /// Of the key, else of its team.
    pub organization: Option<Holder>,
    /// Whom the request is made for, with the name as asked: an end user that nobody stored has limits by default only.
    pub end_user: Option<(String, Option<Holder>)>,
    /// [`EntityKind::Budget`] that holds for the end user, who has no budget of its own.
    pub end_user_budget: Option<Arc<Entity>>,
    /// Tags of the request, the key and the team, each with its entity if it has one.
    pub tags: Vec<(String, Option<Holder>)>,
}
