//! What rows of the ledger add up to, and where the tables disagree.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use attache_llm::price::Bill;
use jiff::{Span, civil};

use super::records::SpendRecord;
use super::stored::MAX_NUMBER;
use crate::entity::{EntityKind, SEPARATOR};
use crate::store::{Difference, Scope, SpendLine, Verified};

pub(super) const DAY_US: i64 = 86_400_000_000;
pub(super) const QUARTERS_PER_DAY: i64 = 96;
/// Bound of a sum in the tables (of ten million dollars), so that the sum of many fits. Nothing is negative: the order of
/// additions does not matter.
pub(super) const MAX_SUM: i64 = 10_000_000_000_000_000;

/// A row of `attache_usage`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Use {
    pub(super) kind: EntityKind,
    pub(super) id: String,
    pub(super) quarter: i64,
}

impl Use {
    pub(super) fn of(kind: &str, id: String, quarter: i64) -> Result<Self, String> {
        Ok(Self { kind: super::entities::kind(kind)?, id, quarter })
    }
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let minutes = self.quarter.rem_euclid(QUARTERS_PER_DAY) * 15;
        let day = name_of_day(self.quarter.div_euclid(QUARTERS_PER_DAY));
        let id = self.id.replace(SEPARATOR, " / ");
        write!(f, "{} {id}, {day} {:02}:{:02}", self.kind, minutes / 60, minutes % 60)
    }
}

/// What is summed up there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) requests: i64,
    pub(super) prompt_tokens: i64,
    pub(super) completion_tokens: i64,
    pub(super) nanos: i64,
}

impl Sums {
    pub(super) fn add(&mut self, more: &Self) {
        self.requests += more.requests;
        let add = |sum: &mut i64, more: i64| *sum = sum.saturating_add(more).min(MAX_SUM);
        add(&mut self.prompt_tokens, more.prompt_tokens);
        add(&mut self.completion_tokens, more.completion_tokens);
        add(&mut self.nanos, more.nanos);
    }
}

impl fmt::Display for Sums {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { requests, prompt_tokens, completion_tokens, nanos } = self;
        write!(f, "requests {requests}, tokens {prompt_tokens} + {completion_tokens}, nanos {nanos}")
    }
}

/// Use by rows.
#[derive(Debug, Default)]
pub(super) struct Checked {
    pub(super) used: HashMap<Use, Sums>,
    /// Quarters with rows that do not say whom they are charged to.
    pub(super) unknown: BTreeSet<i64>,
    pub(super) rows: u64,
    pub(super) without_charge: u64,
}

impl Checked {
    /// Adds a row. False when whom it is charged to cannot be read.
    pub(super) fn add_use(&mut self, row: &SpendRecord) -> bool {
        self.rows += 1;
        let (quarter, sums) = row.use_of();
        let Some(charged) = row.charged() else {
            self.unknown.insert(quarter);
            let is_old = row.charged_text().is_none();
            self.without_charge += u64::from(is_old);
            return is_old;
        };
        for of in charged {
            let of = Use { kind: of.kind, id: of.id.into_owned(), quarter };
            self.used.entry(of).or_default().add(&sums);
        }
        true
    }
}

/// Costs of a row by its lines, and of the lines by their factors.
pub(super) fn check_cost(
    scope: &Scope,
    verified: &mut Verified,
    call_id: &str,
    cost_nanos: Option<i64>,
    lines: &[SpendLine],
) {
    let mut sum = Some(0_i64);
    for line in lines {
        verified.lines += 1;
        sum = sum.zip(line.cost_nanos).map(|(sum, nanos)| sum.saturating_add(nanos).min(MAX_NUMBER));
        let Some(nanos) = line.cost_nanos else { continue };
        let computed = Bill::decode(&line.factors).map(|bill| bill.recompute());
        let computed = computed.map(|nanos| i64::try_from(nanos).unwrap_or(i64::MAX));
        if computed != Ok(nanos) {
            let computed = computed.map_or_else(|error| error.to_string(), |nanos| nanos.to_string());
            let at = || format!("call {call_id}, attempt {}: {}", line.attempt, line.factors);
            // An only line has no cost of its own beside the row's.
            let of = if lines.len() == 1 { "attache_spend.cost_nanos" } else { "attache_spend.lines" };
            difference(scope, verified, of, || (at(), nanos.to_string(), computed));
        }
    }
    if sum != cost_nanos {
        let shown = |nanos: Option<i64>| nanos.map_or("unknown".to_owned(), |nanos| nanos.to_string());
        difference(scope, verified, "attache_spend.cost_nanos", || {
            (format!("call {call_id}"), shown(cost_nanos), shown(sum))
        });
    }
}

/// Counts a difference (where, what is stored, what was computed), and tells it if there is room.
pub(super) fn difference(
    scope: &Scope,
    verified: &mut Verified,
    of: &'static str,
    tell: impl FnOnce() -> (String, String, String),
) {
    verified.differences += 1;
    if verified.shown.len() < scope.shown {
        let (at, stored, computed) = tell();
        verified.shown.push(Difference { of, at, stored, computed });
    }
}

/// `2026-11-29` of a Unix day.
pub(super) fn name_of_day(day: i64) -> String {
    let date = Span::new().try_days(day).and_then(|days| civil::date(1970, 1, 1).checked_add(days));
    date.map_or_else(|_| format!("day {day}"), |date| date.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_quarters_have_names() {
        assert_eq!(name_of_day(0), "1970-01-01");
        assert_eq!(name_of_day(20_786), "2026-11-29");
        assert_eq!(name_of_day(i64::MAX / DAY_US), "day 106751991");
        let of = Use { kind: EntityKind::Member, id: "t\u{1f}u".into(), quarter: 20_786 * 96 + 5 };
        assert_eq!(of.to_string(), "member t / u, 2026-11-29 01:15");
    }
}
