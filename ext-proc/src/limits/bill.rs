//! Which limits a request meets, and what it is charged to.

use std::time::Duration;

use super::case::{Case, Found, implied_member};
use super::order::{Check, Dimension, ORDER, Subject};
use super::owner::{BudgetWindow, Owner, tokens};
use super::{DAY_TTL, MINUTE_TTL, Rules, Window};
use crate::entity::{EntityKind, EntityRef, Principal};
use crate::store::{Counter, Limited, Seed, UsageSum};

const MINUTE_MS: u64 = 60_000;
const DAY_MS: u64 = 86_400_000;
/// Usage is known by quarters of an hour.
pub(super) const QUARTER_S: u64 = 900;
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
    /// [`attache_llm::contract::Ask::again`].
    pub again: u8,
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
    /// `None`: the stored entity's `spend_nanos` as it is now. Else its use since this Unix second
    /// ([`crate::store::Directory::usage`]). [`Bill::seed`] takes either.
    pub since_s: Option<u64>,
    /// The counter that begins with it.
    pub counter: Counter,
}

/// Lists every limit that holds for a request, and reserves for each what it will probably use. The master key has only
/// those of the whole gateway.
#[must_use]
pub fn bill(rules: &Rules, principal: &Principal, demand: &Demand<'_>) -> Bill {
    let mut owner = Owner::of(principal, rules.tokens, demand.now_ms / MINUTE_MS);
    owner.again = demand.again;
    let member = implied_member(principal, &owner);
    let case = Case::new(rules, principal, demand, member.as_deref());
    let mut bill = Bill { owner, ..Bill::default() };
    for check in ORDER {
        case.find(check, &mut |found| bill.add(&case, check, &found));
    }
    bill
}

impl Bill {
    fn add(&mut self, case: &Case<'_>, check: &Check, found: &Found<'_>) {
        let Check { subject, dimension, .. } = *check;
        let is_budget = dimension == Dimension::Budget;
        let reset_ms = found.stored().map_or(0, |entity| entity.spend_reset_ms);
        let Span { window, number, ttl } = Span::of(case, dimension, found.duration, reset_ms);
        let source = match dimension {
            Dimension::Budget => source_of_budget(found, &window, reset_ms),
            Dimension::Rpd | Dimension::Tpd if found.whole => Source::Usage(window.start_ms / 1_000),
            _ => Source::Nobody,
        };
        let budget = is_budget.then_some(BudgetWindow { number, ttl_s: ttl.as_secs() });
        let base = self.owner.counts(subject, found.id, dimension, budget);
        let audit = is_budget && case.audits(subject, found.holder);
        let effective = if is_budget { found.limit.map(|limit| case.share(limit)) } else { found.limit };
        let limit = effective.filter(|_| !audit);
        self.required.push(Limited {
            counter: Counter { base, window: number },
            amount: case.amount(dimension),
            ttl,
            limit,
            shrink: is_budget && limit.is_some(),
            seed: if source == Source::Nobody { Seed::Zero } else { Seed::Ask },
        });
        let stored = found.stored().map(|entity| entity.reference());
        self.lines.push(Line {
            of: stored.unwrap_or_else(|| self.owner.reference(subject, found.id)),
            shown: case.shown(subject, found),
            dimension,
            model: subject.is_model().then(|| found.id.to_owned()),
            limit: found.limit,
            starts_ms: window.start_ms,
            resets_ms: window.end_ms,
            audit: audit && found.limit.is_some(),
            soft_nanos: found.soft,
            subject,
            source,
        });
    }

    /// What to ask the store about these required limits, whose counters nobody has.
    #[must_use]
    pub fn seeds(&self, unseeded: &[usize]) -> Vec<Question> {
        let question = |&at: &usize| {
            let line = self.lines.get(at)?;
            let (of, counter) = (line.of.clone(), self.required.get(at)?.counter.clone());
            Some(match line.source {
                Source::Nobody => return None,
                Source::Spend => Question { at, of, since_s: None, counter },
                // A key that was rotated has its use under another id.
                Source::Usage(since) if of.kind == EntityKind::Key => {
                    let of = EntityRef::new(EntityKind::Key, self.owner.account());
                    Question { at, of, since_s: Some(since), counter }
                }
                Source::Usage(since) => Question { at, of, since_s: Some(since), counter },
            })
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

/// The window in which something is counted, its number among those of the counter, and how long that is kept.
struct Span {
    window: Window,
    number: u64,
    ttl: Duration,
}

impl Span {
    fn of(case: &Case<'_>, dimension: Dimension, duration: Option<&str>, reset_ms: u64) -> Self {
        let now_ms = case.demand.now_ms;
        match dimension {
            Dimension::Budget => {
                let window = Window::of(duration, case.rules, now_ms, reset_ms);
                let left = window.end_ms.map(|end| end.saturating_sub(now_ms) / 1_000);
                let ttl = left.map_or(LIFETIME_TTL_S, |left| left.saturating_add(BUDGET_MARGIN_S));
                Self { window, number: window.number(), ttl: Duration::from_secs(ttl) }
            }
            Dimension::Rpd | Dimension::Tpd => Self::aligned(now_ms, DAY_MS, DAY_TTL),
            Dimension::Parallel => {
                let ttl = case.demand.lease.saturating_add(PLACE_MARGIN);
                Self { window: Window { start_ms: 0, end_ms: None }, number: 0, ttl }
            }
            Dimension::Rpm | Dimension::Tpm | Dimension::InputTpm | Dimension::OutputTpm => {
                Self::aligned(now_ms, MINUTE_MS, MINUTE_TTL)
            }
        }
    }

    fn aligned(now_ms: u64, length_ms: u64, ttl: Duration) -> Self {
        let number = now_ms / length_ms;
        let start_ms = number * length_ms;
        let end_ms = Some(start_ms.saturating_add(length_ms));
        Self { window: Window { start_ms, end_ms }, number, ttl }
    }
}

/// Who knows what was spent in the window. Stored entities know their spend since the last reset; usage is known by the
/// quarter of an hour, so that a window that begins within one begins at 0 when its counter is lost.
fn source_of_budget(found: &Found<'_>, window: &Window, reset_ms: u64) -> Source {
    let since_reset = window.end_ms.is_none() || (reset_ms > 0 && window.start_ms == reset_ms);
    match window.start_ms / 1_000 {
        _ if since_reset && found.stored().is_some() => Source::Spend,
        since if since % QUARTER_S == 0 => Source::Usage(since),
        _ => Source::Nobody,
    }
}

#[cfg(test)]
#[path = "bill_tests.rs"]
mod tests;
