//! Everyone who may have a limit, for tests.

use std::sync::Arc;
use std::time::Duration;

use crate::entity::{Entity, EntityKind, Holder, Principal, Settings, member_id};

use super::Demand;

/// A Wednesday: 2026-11-25 04:35:17 UTC.
pub(super) const NOW: u64 = 1_795_581_317_000;

pub(super) fn holder(kind: EntityKind, id: &str, settings: Settings) -> Holder {
    let mut entity = Entity::new(kind, id);
    entity.settings = settings;
    Holder::own(Arc::new(entity))
}

pub(super) fn key(settings: Settings) -> Holder {
    let mut entity = Entity::new(EntityKind::Key, "ab12");
    entity.name = "sk-...last".into();
    entity.settings = settings;
    Holder::own(Arc::new(entity))
}

/// A key that belongs to nobody.
pub(super) fn of_key(settings: Settings) -> Principal {
    Principal { key: Some(key(settings)), ..Principal::default() }
}

/// The key of user `ann` in team `search` of organisation `acme`, asking for end user `eve` with tag `batch`; nobody has
/// limits but those that `change` gives.
pub(super) fn everyone(change: impl Fn(EntityKind) -> Settings) -> Principal {
    let of = |kind, id: &str| Some(holder(kind, id, change(kind)));
    let mut key = (*key(change(EntityKind::Key)).entity).clone();
    key.team_id = Some("search".into());
    key.user_id = Some("ann".into());
    Principal {
        key: Some(Holder::own(Arc::new(key))),
        team: of(EntityKind::Team, "search"),
        user: of(EntityKind::User, "ann"),
        member: of(EntityKind::Member, &member_id("search", "ann")),
        organization: of(EntityKind::Organization, "acme"),
        end_user: Some(("eve".into(), of(EntityKind::EndUser, "eve"))),
        end_user_budget: None,
        tags: vec![("batch".into(), of(EntityKind::Tag, "batch"))],
    }
}

/// 100 tokens in, 50 out, 7,000 nano-dollars.
pub(super) fn demand() -> Demand<'static> {
    Demand {
        model: "gpt",
        group: "gpt-4o",
        input: 100,
        completion: 50,
        nanos: 7_000,
        now_ms: NOW,
        again: 0,
        lease: Duration::from_secs(600),
    }
}
