//! Where the limits of one request are found: own settings, shared budgets, defaults, entries by model and by tag.

use std::borrow::Cow;
use std::collections::BTreeMap;

use attache_llm::wildcard;
use serde_json::Value;

use super::Rules;
use super::bill::Demand;
use super::order::{Check, Dimension, Read, Subject};
use super::owner::{MAX_TAGS, Owner, PROXY, tokens};
use crate::entity::{Entity, EntityKind, Holder, ModelBudget, Principal, SEPARATOR, Settings, member_id};

/// Own settings, then those of the shared budget.
fn settings(holder: &Holder) -> impl Iterator<Item = &Settings> {
    let budget = holder.budget.as_ref().map(|budget| &budget.settings);
    std::iter::once(&holder.entity.settings).chain(budget)
}

/// As [`Holder::setting`], of what is borrowed.
fn setting<'a, T>(holder: Option<&'a Holder>, pick: impl Fn(&'a Settings) -> Option<T>) -> Option<T> {
    holder.into_iter().flat_map(settings).find_map(pick)
}

/// A limit that was found for a [`Check`].
pub(super) struct Found<'a> {
    /// Whole id, or the model or tag that it is about.
    pub(super) id: &'a str,
    /// Who has the setting.
    pub(super) holder: Option<&'a Holder>,
    pub(super) limit: Option<u64>,
    pub(super) soft: Option<u64>,
    pub(super) duration: Option<&'a str>,
    /// The holder's own spend is what is counted, not that of a part of it.
    pub(super) whole: bool,
}

impl<'a> Found<'a> {
    fn rate(id: &'a str, holder: Option<&'a Holder>, limit: u64) -> Self {
        Self { id, holder, limit: Some(limit), soft: None, duration: None, whole: true }
    }

    /// The entity whose own spend and use is counted.
    pub(super) fn stored(&self) -> Option<&'a Entity> {
        self.holder.filter(|_| self.whole).map(|holder| &*holder.entity)
    }
}

/// One request, to be looked at for every [`Check`].
pub(super) struct Case<'a> {
    pub(super) rules: &'a Rules,
    principal: &'a Principal,
    pub(super) demand: &'a Demand<'a>,
    /// Of [`implied_member`].
    member: Option<&'a str>,
    /// How much of a budget may be used for this model.
    percent: u64,
}

impl<'a> Case<'a> {
    pub(super) fn new(
        rules: &'a Rules,
        principal: &'a Principal,
        demand: &'a Demand<'a>,
        member: Option<&'a str>,
    ) -> Self {
        let fallbacks = fallbacks(principal, demand.model, demand.group);
        let percent = fallbacks.and_then(|(_, settings)| settings.budget_fallback_percent).unwrap_or(100);
        Self { rules, principal, demand, member, percent: u64::from(percent.min(100)) }
    }

    /// Reports every limit of this kind that holds for the request.
    pub(super) fn find(&self, check: &Check, found: &mut impl FnMut(Found<'a>)) {
        if self.principal.key.is_none() && check.subject != Subject::Of(EntityKind::Proxy) {
            return;
        }
        match (check.subject, check.read) {
            (Subject::Of(kind), Read::Setting(pick)) => {
                for (id, holder) in self.holders(kind) {
                    let limit = self.setting(kind, holder, pick);
                    let limit = limit.or_else(|| self.default(kind, check.dimension));
                    limit.into_iter().for_each(|limit| found(Found::rate(id, holder, limit)));
                }
            }
            (Subject::Of(kind), Read::Budget) => {
                if kind == EntityKind::User && self.spares_user() {
                    return;
                }
                for (id, holder) in self.holders(kind) {
                    self.budget(kind, id, holder).into_iter().for_each(&mut *found);
                }
            }
            (Subject::Of(kind), Read::PerModel(map, name)) => {
                let Some(holder) = self.model_holder(kind) else { return };
                let shadowed = kind == EntityKind::TeamModel
                    && self
                        .principal
                        .key
                        .as_ref()
                        .is_some_and(|key| self.per_model(key, map, name).is_some());
                if let Some((id, limit)) = self.per_model(holder, map, name).filter(|_| !shadowed) {
                    found(Found { whole: false, ..Found::rate(id, Some(holder), limit) });
                }
            }
            (Subject::Of(kind), Read::ModelBudget(map)) => {
                if kind == EntityKind::UserModel && self.spares_user() {
                    return;
                }
                let holder = self.model_holder(kind);
                let budget = holder.and_then(|holder| {
                    let mut maps = settings(holder).map(map);
                    maps.find_map(|map| self.entry(map.keys().map(String::as_str), |name| map.get(name)))
                });
                if let Some((id, ModelBudget { limit_nanos, duration })) = budget {
                    let rate = Found::rate(id, holder, *limit_nanos);
                    found(Found { duration: duration.as_deref(), whole: false, ..rate });
                }
            }
            (_, Read::PerTag(name)) => self.per_tag(name, found),
            (Subject::KeyTag, _) => {}
        }
    }

    /// Those of a kind for whom the request is made, by the id of their counters.
    fn holders(&self, kind: EntityKind) -> impl Iterator<Item = (&'a str, Option<&'a Holder>)> {
        let principal = self.principal;
        let stored = |holder: &'a Option<Holder>| {
            holder.as_ref().map(|holder| (holder.entity.account(), Some(holder)))
        };
        let one = match kind {
            EntityKind::Key => stored(&principal.key),
            EntityKind::Team => stored(&principal.team),
            EntityKind::User => stored(&principal.user),
            EntityKind::Member => stored(&principal.member).or_else(|| self.member.map(|id| (id, None))),
            EntityKind::Organization => stored(&principal.organization),
            EntityKind::EndUser => principal.end_user.as_ref().map(|(name, it)| (name.as_str(), it.as_ref())),
            EntityKind::Proxy => Some((PROXY, None)),
            _ => None,
        };
        let tags = if kind == EntityKind::Tag { self.tags() } else { &[] };
        let first = move |at: &usize| !tags[..*at].iter().any(|(other, _)| *other == tags[*at].0);
        let tags = (0..tags.len()).filter(first).map(move |at| (tags[at].0.as_str(), tags[at].1.as_ref()));
        one.into_iter().chain(tags)
    }

    fn tags(&self) -> &'a [(String, Option<Holder>)] {
        let tags = &self.principal.tags;
        &tags[..tags.len().min(MAX_TAGS)]
    }

    /// A setting of the holder, of the budget that it shares, or of the one for end users without any.
    fn setting<T>(
        &self,
        kind: EntityKind,
        holder: Option<&'a Holder>,
        pick: impl Fn(&'a Settings) -> Option<T>,
    ) -> Option<T> {
        setting(holder, &pick).or_else(|| pick(self.end_user_budget(kind)?))
    }

    fn end_user_budget(&self, kind: EntityKind) -> Option<&'a Settings> {
        let budget = self.principal.end_user_budget.as_ref().filter(|_| kind == EntityKind::EndUser);
        budget.map(|budget| &budget.settings)
    }

    /// Limit of those who have none of their own.
    fn default(&self, kind: EntityKind, dimension: Dimension) -> Option<u64> {
        let team = |pick: fn(&Settings) -> Option<u64>| setting(self.principal.team.as_ref(), pick);
        match (kind, dimension) {
            (EntityKind::Member, Dimension::Rpm) => team(|s| s.team_member_rpm_limit),
            (EntityKind::Member, Dimension::Tpm) => team(|s| s.team_member_tpm_limit),
            (EntityKind::Key, Dimension::Parallel) => self.rules.key_parallel,
            (EntityKind::Proxy, Dimension::Parallel) => self.rules.parallel,
            _ => None,
        }
    }

    /// The owner's personal budgets are not for keys of a team.
    fn spares_user(&self) -> bool {
        let of_team = |key: &Holder| key.entity.team_id.is_some();
        self.principal.key.as_ref().is_some_and(of_team) && !self.rules.user_budget_for_team_keys
    }

    fn budget(&self, kind: EntityKind, id: &'a str, holder: Option<&'a Holder>) -> Option<Found<'a>> {
        let own = self.setting(kind, holder, |s| s.max_budget_nanos);
        let (default, period) = if own.is_none() { self.default_budget(kind, id) } else { (None, None) };
        let soft = self.setting(kind, holder, |s| s.soft_budget_nanos);
        let duration = self.setting(kind, holder, |s| s.budget_duration.as_deref()).or(period);
        let member = || setting(self.principal.team.as_ref(), |s| s.team_member_budget_duration.as_deref());
        let duration = duration.or_else(|| member().filter(|_| kind == EntityKind::Member));
        let more = |s: &Settings| {
            let valid = s.temp_budget_expiry_ms.is_some_and(|until| until > self.demand.now_ms);
            s.temp_budget_increase_nanos.filter(|_| valid)
        };
        let limit = own.or(default).map(|limit| limit.saturating_add(setting(holder, more).unwrap_or(0)));
        let any = limit.is_some() || soft.is_some();
        any.then_some(Found { id, holder, limit, soft, duration, whole: true })
    }

    fn default_budget(&self, kind: EntityKind, id: &str) -> (Option<u64>, Option<&'a str>) {
        let rules = self.rules;
        let of = |budget: Option<&'a ModelBudget>| {
            (budget.map(|budget| budget.limit_nanos), budget.and_then(|budget| budget.duration.as_deref()))
        };
        match kind {
            EntityKind::Proxy => of(rules.budget.as_ref()),
            EntityKind::User => of(rules.user_budget.as_ref()),
            EntityKind::Tag => of(rules.tag_budgets.get(id)),
            EntityKind::EndUser => (rules.end_user_budget_nanos, None),
            EntityKind::Member => {
                (setting(self.principal.team.as_ref(), |s| s.team_member_budget_nanos), None)
            }
            _ => (None, None),
        }
    }

    fn model_holder(&self, kind: EntityKind) -> Option<&'a Holder> {
        match kind {
            EntityKind::KeyModel => self.principal.key.as_ref(),
            EntityKind::TeamModel => self.principal.team.as_ref(),
            EntityKind::UserModel => self.principal.user.as_ref(),
            _ => None,
        }
    }

    fn per_model(
        &self,
        holder: &'a Holder,
        map: fn(&Settings) -> &BTreeMap<String, u64>,
        name: &str,
    ) -> Option<(&'a str, u64)> {
        settings(holder).find_map(|settings| {
            let own = map(settings);
            let found = self.entry(own.keys().map(String::as_str), |model| own.get(model).copied());
            found.or_else(|| {
                let legacy = settings.metadata.get(name)?.as_object()?;
                self.entry(legacy.keys().map(String::as_str), |model| number(legacy.get(model)?))
            })
        })
    }

    /// The entry of a map by model that is for this request: that of the group, else of the model as asked, else of the
    /// wildcard that says most.
    fn entry<T>(
        &self,
        names: impl Iterator<Item = &'a str>,
        get: impl Fn(&'a str) -> Option<T>,
    ) -> Option<(&'a str, T)> {
        let rank = |name: &str| {
            let pattern = || {
                wildcard::is_pattern(name)
                    && (wildcard::matches(name, self.demand.group)
                        || wildcard::matches(name, self.demand.model))
            };
            match name {
                _ if name == self.demand.group => Some((2, Default::default())),
                _ if name == self.demand.model => Some((1, Default::default())),
                _ => pattern().then(|| (0, Some(wildcard::specificity(name)))),
            }
        };
        let best = names.filter_map(|name| Some((rank(name)?, name))).max()?;
        Some((best.1, get(best.1)?))
    }

    fn per_tag(&self, name: &str, found: &mut impl FnMut(Found<'a>)) {
        let Some(key) = &self.principal.key else { return };
        let Settings { rest, metadata, .. } = &key.entity.settings;
        // As a field of its own, or where LiteLLM's clients write it.
        let maps = [rest, metadata].map(|map| map.get(name).and_then(Value::as_object));
        for (tag, _) in self.holders(EntityKind::Tag) {
            let mut limits = maps.iter().flatten().filter_map(|map| number(map.get(tag)?));
            if let Some(limit) = limits.next() {
                found(Found { whole: false, ..Found::rate(tag, Some(key), limit) });
            }
        }
    }

    /// What is reserved.
    pub(super) fn amount(&self, dimension: Dimension) -> u64 {
        let Demand { input, completion, nanos, .. } = *self.demand;
        match dimension {
            Dimension::Budget if self.rules.no_budget_reservation => 0,
            Dimension::Budget => nanos,
            Dimension::Rpm | Dimension::Rpd | Dimension::Parallel => 1,
            Dimension::Tpm | Dimension::Tpd => tokens(self.rules.tokens, input, completion),
            Dimension::InputTpm => input,
            Dimension::OutputTpm => completion,
        }
    }

    /// Does the budget of this holder only count?
    pub(super) fn audits(&self, of: Subject, holder: Option<&'a Holder>) -> bool {
        let own = holder.into_iter().flat_map(settings);
        let default = match of {
            Subject::Of(kind) => self.end_user_budget(kind),
            Subject::KeyTag => None,
        };
        self.rules.budget_audit || own.chain(default).any(|settings| settings.budget_audit)
    }

    /// How much of a budget this model may use.
    pub(super) fn share(&self, limit: u64) -> u64 {
        let share = u128::from(limit) * u128::from(self.percent) / 100;
        u64::try_from(share).unwrap_or(limit)
    }

    /// How a client may see the holder of a limit.
    pub(super) fn shown(&self, of: Subject, found: &Found<'_>) -> String {
        let holder = match of {
            Subject::Of(EntityKind::Proxy) => return "all requests".to_owned(),
            Subject::Of(EntityKind::Tag | EntityKind::EndUser) => return found.id.to_owned(),
            Subject::KeyTag => self.principal.key.as_ref(),
            Subject::Of(_) => found.holder,
        };
        let Some(entity) = holder.map(|holder| &holder.entity) else {
            return found.id.replace(SEPARATOR, ":");
        };
        let id = match entity.kind {
            EntityKind::Key => Cow::Borrowed(&*entity.name),
            _ => Cow::Owned(entity.id.replace(SEPARATOR, ":")),
        };
        match &entity.alias {
            Some(alias) => [alias, " (", &*id, ")"].concat(),
            None => id.into_owned(),
        }
    }
}

/// Id of a member whom nobody stored, but whom the team's limits for its members bind all the same.
pub(super) fn implied_member(principal: &Principal, owner: &Owner) -> Option<String> {
    if principal.member.is_some() {
        return None;
    }
    let team = principal.team.as_ref()?;
    setting(Some(team), |s| {
        s.team_member_budget_nanos.or(s.team_member_rpm_limit).or(s.team_member_tpm_limit)
    })?;
    Some(member_id(&team.entity.id, owner.user_id()?))
}

/// Cheaper models to use when a budget of `model` (or of the group behind it) is used up: `budget_fallbacks` of the key,
/// else of its team.
#[must_use]
pub fn cheaper<'a>(principal: &'a Principal, model: &str, group: &str) -> &'a [String] {
    fallbacks(principal, model, group).map_or(&[], |(models, _)| models)
}

fn fallbacks<'a>(principal: &'a Principal, model: &str, group: &str) -> Option<(&'a [String], &'a Settings)> {
    principal.key.iter().chain(&principal.team).flat_map(settings).find_map(|settings| {
        let map = &settings.budget_fallbacks;
        let models = map.get(model).or_else(|| map.get(group)).filter(|models| !models.is_empty())?;
        Some((models.as_slice(), settings))
    })
}

/// A limit in metadata; LiteLLM's clients may write `10.0`.
fn number(value: &Value) -> Option<u64> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "casts of floats saturate")]
    value.as_u64().or_else(|| value.as_f64().filter(|number| *number >= 0.0).map(|number| number as u64))
}
