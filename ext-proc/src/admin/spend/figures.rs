//! Sums as reports show them, and what the ids in them are called.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

use crate::admin::Admin;
use crate::admin::money::Dollars;
use crate::admin::reply::Failure;
use crate::entity::{Entity, EntityKind, EntityRef};
use crate::store::{DailyKind, DailySums};

/// Ids of one report that are looked up; those beyond are shown without a name.
const MOST_NAMES: usize = 2_000;

/// Nano-dollars of a sum as dollars.
pub(super) fn dollars(nanos: u64) -> Dollars {
    Dollars(i64::try_from(nanos).unwrap_or(i64::MAX))
}

/// Sums in LiteLLM's names, and what Attaché counts beyond.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Metrics {
    /// Dollars, exact, of the requests with a known price.
    spend: Dollars,
    spend_nanos: u64,
    prompt_tokens: u64,
    completion_tokens: u64,
    cache_read_input_tokens: u64,
    cache_creation_input_tokens: u64,
    total_tokens: u64,
    successful_requests: u64,
    /// All others, those that the client aborted included, as in the rows.
    failed_requests: u64,
    aborted_requests: u64,
    api_requests: u64,
    /// Requests whose cost is missing from `spend`, because nobody knows the price.
    unpriced_requests: u64,
    /// Requests whose tokens are an estimate.
    estimated_requests: u64,
    total_response_time_ms: u64,
}

impl From<&DailySums> for Metrics {
    fn from(sums: &DailySums) -> Self {
        let failed = sums.requests.saturating_sub(sums.successes);
        Self {
            spend: dollars(sums.nanos),
            spend_nanos: sums.nanos,
            prompt_tokens: sums.prompt_tokens,
            completion_tokens: sums.completion_tokens,
            cache_read_input_tokens: sums.cached_tokens,
            cache_creation_input_tokens: sums.cache_write_tokens,
            total_tokens: tokens(sums),
            successful_requests: sums.successes,
            failed_requests: failed,
            aborted_requests: failed.saturating_sub(sums.failures),
            api_requests: sums.requests,
            unpriced_requests: sums.unpriced,
            estimated_requests: sums.estimated,
            total_response_time_ms: sums.duration_us / 1_000,
        }
    }
}

/// Prompt and completion.
pub(super) fn tokens(sums: &DailySums) -> u64 {
    sums.prompt_tokens.saturating_add(sums.completion_tokens)
}

/// The entity behind an id of sums; `None` for those that are about everything.
pub(super) fn entity_kind(kind: DailyKind) -> Option<EntityKind> {
    Some(match kind {
        DailyKind::All => return None,
        DailyKind::User => EntityKind::User,
        DailyKind::Team => EntityKind::Team,
        DailyKind::Organization => EntityKind::Organization,
        DailyKind::Customer => EntityKind::EndUser,
        DailyKind::Tag => EntityKind::Tag,
    })
}

/// The stored entities behind ids.
#[derive(Debug, Default)]
pub(super) struct Names(BTreeMap<EntityRef, Entity>);

impl Names {
    /// Looks them up in one read, each once, a few thousand at most.
    pub(super) async fn of(
        admin: &Admin,
        wanted: impl IntoIterator<Item = (EntityKind, String)>,
    ) -> Result<Self, Failure> {
        let wanted: BTreeSet<EntityRef> = wanted
            .into_iter()
            .filter(|(_, id)| !id.is_empty())
            .map(|(kind, id)| EntityRef::new(kind, &id))
            .collect();
        let wanted: Vec<EntityRef> = wanted.into_iter().take(MOST_NAMES).collect();
        if wanted.is_empty() {
            return Ok(Self::default());
        }
        let found = admin.state.database.entities(&wanted).await?;
        Ok(Self(found.into_iter().map(|entity| (entity.reference(), entity)).collect()))
    }

    pub(super) fn get(&self, kind: EntityKind, id: &str) -> Option<&Entity> {
        self.0.get(&EntityRef::new(kind, id))
    }

    /// What people call it: its alias; a user without one by the address.
    pub(super) fn alias(&self, kind: EntityKind, id: &str) -> Option<&str> {
        let entity = self.get(kind, id)?;
        entity.alias.as_deref().or(entity.settings.email.as_deref())
    }

    /// `metadata` of a key in a breakdown.
    pub(super) fn key_metadata(&self, hash: &str) -> Value {
        let key = self.get(EntityKind::Key, hash);
        serde_json::json!({
            "key_alias": key.and_then(|key| key.alias.as_deref()),
            "team_id": key.and_then(|key| key.team_id.as_deref()),
            "user_id": key.and_then(|key| key.user_id.as_deref()),
            "key_exists": key.is_some(),
        })
    }
}
