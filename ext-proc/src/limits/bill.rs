//! Which limits a request meets, and what it is charged to.

use std::collections::BTreeMap;
use std::time::Duration;

use attache_llm::wildcard;

use super::order::{Check, Dimension, ORDER, Read, Subject};
use super::owner::{BudgetWindow, MAX_TAGS, Owner, PROXY, tokens};
use super::{DAY_TTL, MINUTE_TTL, Rules, Window};
use crate::entity::{EntityKind, EntityRef, Holder, ModelBudget, Principal, SEPARATOR, Settings, member_id};
use crate::store::{Counter, Limited, Seed, UsageSum};

const MINUTE_MS: u64 = 60_000;
const DAY_MS: u64 = 86_400_000;
/// Usage is known by quarters of an hour.
const QUARTER_S: u64 = 900;
/// A budget's counter outlives its window by this much, for late settlements.
const BUDGET_MARGIN_S: u64 = 3_600;
/// How long the counter of a budget for ever is kept after its last use; then it begins with the stored spend again.
const LIFETIME_TTL_S: u64 = 86_400;
/// A place in flight outlives the lease that takes it back by this much.
const PLACE_MARGIN: Duration = Duration::from_secs(60);

/// What a request will probably use.
#[derive(Debug, Clone, Copy)]
pub struct Demand<'a> {
    /// Model as asked, after [`super::rename`].
    pub model: &'a str,
    /// Model group behind it.
    pub group: &'a str,
    /// Estimate of the prompt, tokens.
    pub input: u64,
    /// Most completion tokens.
    pub completion: u64,
    /// Most that it can cost, nano-dollars.
    pub nanos: u64,
    /// Unix milliseconds.
    pub now_ms: u64,
    /// Of the reservation.
    pub lease: Duration,
}

/// Every limit that a request meets, in the order in which they are asked, and whom it is charged to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Bill {
    /// For [`crate::store::Admission::required`].
    pub required: Vec<Limited>,
    /// What each of them is.
    pub lines: Vec<Line>,
    pub owner: Owner,
}

/// One limit of a [`Bill`].
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    pub of: EntityRef,
    /// How it is called before clients: no hash, no key.
    pub shown: String,
    pub dimension: Dimension,
    /// Model, group or wildcard that the limit is for.
    pub model: Option<String>,
    /// Requests, tokens or nano-dollars; `None`: it is only counted, for the soft budget.
    pub limit: Option<u64>,
    /// When its window began, Unix milliseconds; 0 for what has none.
    pub starts_ms: u64,
    /// When its window ends, Unix milliseconds; `None`: never, or when a request in flight ends.
    pub resets_ms: Option<u64>,
    /// Counts what it would have refused, and refuses nothing.
    pub audit: bool,
    /// Passing this is worth an alert.
    pub soft_nanos: Option<u64>,
    pub(super) subject: Subject,
    pub(super) source: Source,
}

/// Who knows where a counter begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// It begins at 0.
    Nobody,
    /// The entity's `spend_nanos`.
    Spend,
    /// Use since this second.
    Usage(u64),
}

/// What the store must tell before a request can be admitted ([`crate::store::Admitted::Unseeded`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Index among [`Bill::required`].
    pub at: usize,
    pub of: EntityRef,
    /// `None`: the stored entity's `spend_nanos` as it is now ([`Bill::seed_spend`]). Else its use since this Unix
    /// second ([`crate::store::Directory::usage`], [`Bill::seed`]).
    pub since_s: Option<u64>,
}

/// Lists every limit that holds for a request, and reserves for each what it will probably use. The master key has only
/// those of the whole gateway.
#[must_use]
pub fn bill(rules: &Rules, principal: &Principal, demand: &Demand<'_>) -> Bill {
    let owner = Owner::of(principal, rules.tokens, demand.now_ms / MINUTE_MS);
    let member = implied_member(principal, &owner);
    let mut bill = Bill { owner, ..Bill::default() };
    let percent = fallback_percent(principal, demand);
    let case = Case { rules, principal, demand, member: member.as_deref(), percent };
    for check in ORDER {
        case.find(check, &mut |found| bill.add(&case, check, found));
    }
    bill
}

/// Id of a member whom nobody stored, but whom the team's limits for its members bind all the same.
fn implied_member(principal: &Principal, owner: &Owner) -> Option<String> {
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

fn fallback_percent(principal: &Principal, demand: &Demand<'_>) -> u64 {
    let found = fallbacks(principal, demand.model, demand.group);
    u64::from(found.and_then(|(_, settings)| settings.budget_fallback_percent).unwrap_or(100).min(100))
}

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
struct Found<'a> {
    /// Whole id, or the model or tag that it is about.
    id: &'a str,
    /// Who has the setting.
    holder: Option<&'a Holder>,
    limit: Option<u64>,
    soft: Option<u64>,
    duration: Option<&'a str>,
    /// The holder's own spend is what is counted, not that of a part of it.
    whole: bool,
}

impl<'a> Found<'a> {
    fn rate(id: &'a str, holder: Option<&'a Holder>, limit: u64) -> Self {
        Self { id, holder, limit: Some(limit), soft: None, duration: None, whole: true }
    }
}

struct Case<'a> {
    rules: &'a Rules,
    principal: &'a Principal,
    demand: &'a Demand<'a>,
    /// Of [`implied_member`].
    member: Option<&'a str>,
    /// How much of a budget may be used for this model.
    percent: u64,
}

impl<'a> Case<'a> {
    fn find(&self, check: &Check, found: &mut impl FnMut(Found<'a>)) {
        if self.principal.key.is_none() && check.subject != Subject::Of(EntityKind::Proxy) {
            return;
        }
        match (check.subject, check.read) {
            (Subject::Of(kind), Read::Setting(pick)) => {
                for (id, holder) in self.holders(kind) {
                    let limit = setting(holder, pick).or_else(|| self.default(kind, check.dimension));
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
        self.principal.team.is_some() && !self.rules.user_budget_for_team_keys
    }

    fn budget(&self, kind: EntityKind, id: &'a str, holder: Option<&'a Holder>) -> Option<Found<'a>> {
        let own = setting(holder, |s| s.max_budget_nanos);
        let (default, period) = if own.is_none() { self.default_budget(kind, id) } else { (None, None) };
        let soft = setting(holder, |s| s.soft_budget_nanos);
        let duration = setting(holder, |s| s.budget_duration.as_deref()).or(period);
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
                self.entry(legacy.keys().map(String::as_str), |model| legacy.get(model)?.as_u64())
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
        let Some(limits) = key.entity.settings.metadata.get(name).and_then(|limits| limits.as_object())
        else {
            return;
        };
        for (tag, _) in self.holders(EntityKind::Tag) {
            if let Some(limit) = limits.get(tag).and_then(serde_json::Value::as_u64) {
                found(Found { whole: false, ..Found::rate(tag, Some(key), limit) });
            }
        }
    }
}

impl Bill {
    fn add(&mut self, case: &Case<'_>, check: &Check, found: Found<'_>) {
        let (demand, rules) = (case.demand, case.rules);
        let dimension = check.dimension;
        let mut source = Source::Nobody;
        let (window, ttl) = match dimension {
            Dimension::Budget => {
                let reset_ms = found.holder.filter(|_| found.whole).map_or(0, |h| h.entity.spend_reset_ms);
                let window = Window::of(found.duration, rules, demand.now_ms, reset_ms);
                source = source_of(check.subject, &found, &window, reset_ms);
                let left = window.end_ms.map(|end| end.saturating_sub(demand.now_ms) / 1_000);
                let ttl = left.map_or(LIFETIME_TTL_S, |left| left.saturating_add(BUDGET_MARGIN_S));
                (window, Duration::from_secs(ttl))
            }
            Dimension::Rpd | Dimension::Tpd => {
                let window = aligned(demand.now_ms, DAY_MS);
                if found.whole {
                    source = Source::Usage(window.start_ms / 1_000);
                }
                (window, DAY_TTL)
            }
            Dimension::Parallel => {
                (Window { start_ms: 0, end_ms: None }, demand.lease.saturating_add(PLACE_MARGIN))
            }
            _ => (aligned(demand.now_ms, MINUTE_MS), MINUTE_TTL),
        };
        let number = match dimension {
            Dimension::Budget => window.number(),
            Dimension::Rpd | Dimension::Tpd => window.start_ms / DAY_MS,
            Dimension::Parallel => 0,
            _ => window.start_ms / MINUTE_MS,
        };
        let budget = BudgetWindow { number, ttl_s: ttl.as_secs() };
        let budget = (dimension == Dimension::Budget).then_some(budget);
        let base = self.owner.counts(check.subject, found.id, dimension, budget);
        let is_budget = budget.is_some();
        let audit = is_budget && (rules.budget_audit || setting(found.holder, audits).is_some());
        let effective =
            if is_budget { found.limit.map(|limit| part(limit, case.percent)) } else { found.limit };
        let limit = effective.filter(|_| !audit);
        self.required.push(Limited {
            counter: Counter { base, window: number },
            amount: amount(dimension, case),
            ttl,
            limit,
            shrink: is_budget && limit.is_some(),
            seed: if source == Source::Nobody { Seed::Zero } else { Seed::Ask },
        });
        self.lines.push(Line {
            of: self.reference(check.subject, found.id),
            shown: shown(check.subject, &found, case.principal),
            dimension,
            model: is_model(check.subject).then(|| found.id.to_owned()),
            limit: found.limit,
            starts_ms: window.start_ms,
            resets_ms: window.end_ms,
            audit: audit && found.limit.is_some(),
            soft_nanos: found.soft,
            subject: check.subject,
            source,
        });
    }

    fn reference(&self, of: Subject, id: &str) -> EntityRef {
        match of {
            Subject::KeyTag => EntityRef { kind: EntityKind::Tag, id: self.owner.full_id(of, id) },
            Subject::Of(kind) => EntityRef { kind, id: self.owner.full_id(of, id) },
        }
    }

    /// What to ask the store about these required limits, whose counters nobody has.
    #[must_use]
    pub fn seeds(&self, unseeded: &[usize]) -> Vec<Question> {
        let question = |&at: &usize| {
            let line = self.lines.get(at)?;
            let since_s = match line.source {
                Source::Nobody => return None,
                Source::Spend => None,
                Source::Usage(since) => Some(since),
            };
            let mut of = line.of.clone();
            if since_s.is_none() && of.kind == EntityKind::Key {
                // Use is counted under the account, the spend is the key's own.
                self.owner.key_id().clone_into(&mut of.id);
            }
            Some(Question { at, of, since_s })
        };
        unseeded.iter().filter_map(question).collect()
    }

    /// The counter of the required limit `at` begins with this use. With no use at all it begins at 0.
    pub fn seed(&mut self, at: usize, used: &UsageSum) {
        let Some((limited, line)) = self.required.get_mut(at).zip(self.lines.get(at)) else { return };
        let value = match line.dimension {
            Dimension::Budget => used.nanos,
            Dimension::Rpm | Dimension::Rpd => used.requests,
            Dimension::InputTpm => used.prompt_tokens,
            Dimension::OutputTpm => used.completion_tokens,
            Dimension::Tpm | Dimension::Tpd => {
                tokens(self.owner.token_kind(), used.prompt_tokens, used.completion_tokens)
            }
            Dimension::Parallel => 0,
        };
        limited.seed = Seed::Known(value);
    }

    /// The counter of the required limit `at` begins with this spend, nano-dollars.
    pub fn seed_spend(&mut self, at: usize, spend_nanos: i64) {
        if let Some(limited) = self.required.get_mut(at) {
            limited.seed = Seed::Known(u64::try_from(spend_nanos).unwrap_or(0));
        }
    }

    /// The ledger does not answer: the counter of the required limit `at` begins with nothing.
    pub fn seed_unknown(&mut self, at: usize) {
        if let Some(limited) = self.required.get_mut(at) {
            limited.seed = Seed::Known(0);
        }
    }

    /// Is the required limit `at` a budget, so that a cheaper model may help?
    #[must_use]
    pub fn is_budget(&self, at: usize) -> bool {
        self.lines.get(at).is_some_and(|line| line.dimension == Dimension::Budget)
    }

    /// Budgets in audit mode that would have refused the request, by their values after it was admitted.
    #[must_use]
    pub fn overrun(&self, values: &[u64]) -> Vec<&Line> {
        self.past(values, |line| line.limit.filter(|_| line.audit))
    }

    /// Soft budgets that are used up, by the values after the request was admitted.
    #[must_use]
    pub fn alerts(&self, values: &[u64]) -> Vec<&Line> {
        self.past(values, |line| line.soft_nanos)
    }

    /// Lines that were at this bound before the request.
    fn past(&self, values: &[u64], bound: impl Fn(&Line) -> Option<u64>) -> Vec<&Line> {
        let lines = self.lines.iter().zip(&self.required).zip(values);
        let past = lines.filter(|((line, limited), value)| {
            bound(line).is_some_and(|bound| value.saturating_sub(limited.amount) >= bound)
        });
        past.map(|((line, _), _)| line).collect()
    }
}

#[expect(clippy::unnecessary_wraps, reason = "as a setting")]
fn audits(settings: &Settings) -> Option<()> {
    settings.budget_audit.then_some(())
}

fn is_model(of: Subject) -> bool {
    matches!(of, Subject::Of(EntityKind::KeyModel | EntityKind::TeamModel | EntityKind::UserModel))
}

fn aligned(now_ms: u64, length_ms: u64) -> Window {
    let start_ms = now_ms - now_ms % length_ms;
    Window { start_ms, end_ms: Some(start_ms.saturating_add(length_ms)) }
}

fn part(limit: u64, percent: u64) -> u64 {
    let part = u128::from(limit) * u128::from(percent) / 100;
    u64::try_from(part).unwrap_or(limit)
}

/// Who knows what was spent in the window. Stored entities know their spend since the last reset; usage is known by the
/// quarter of an hour, so that shorter windows begin at 0 when their counter is lost.
fn source_of(of: Subject, found: &Found<'_>, window: &Window, reset_ms: u64) -> Source {
    let stored = found.whole && found.holder.is_some() && of != Subject::Of(EntityKind::Proxy);
    let since_reset = window.end_ms.is_none() || (reset_ms > 0 && window.start_ms == reset_ms);
    match window.start_ms / 1_000 {
        _ if stored && since_reset => Source::Spend,
        since if since % QUARTER_S == 0 => Source::Usage(since),
        _ => Source::Nobody,
    }
}

fn amount(dimension: Dimension, case: &Case<'_>) -> u64 {
    let Demand { input, completion, nanos, .. } = *case.demand;
    match dimension {
        Dimension::Budget if case.rules.no_budget_reservation => 0,
        Dimension::Budget => nanos,
        Dimension::Rpm | Dimension::Rpd | Dimension::Parallel => 1,
        Dimension::Tpm | Dimension::Tpd => tokens(case.rules.tokens, input, completion),
        Dimension::InputTpm => input,
        Dimension::OutputTpm => completion,
    }
}

/// How a client may see the holder of a limit.
fn shown(of: Subject, found: &Found<'_>, principal: &Principal) -> String {
    let holder = match of {
        Subject::Of(EntityKind::Proxy) => return "all requests".to_owned(),
        Subject::Of(EntityKind::Tag | EntityKind::EndUser) => return found.id.to_owned(),
        Subject::KeyTag => principal.key.as_ref(),
        Subject::Of(_) => found.holder,
    };
    let Some(entity) = holder.map(|holder| &holder.entity) else { return found.id.replace(SEPARATOR, ":") };
    let id = match entity.kind {
        EntityKind::Key => entity.name.clone(),
        _ => entity.id.replace(SEPARATOR, ":"),
    };
    match &entity.alias {
        Some(alias) => format!("{alias} ({id})"),
        None => id,
    }
}
