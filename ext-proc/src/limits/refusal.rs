//! What a client hears when there is no room.

use attache_llm::error::{ApiError, LimitHit};
use jiff::Timestamp;

use super::Rules;
use super::bill::{Bill, Line};
use super::headers::dollars;
use super::order::{Dimension, Subject};
use crate::entity::EntityKind;

impl Bill {
    /// The error for a request that the required limit `at` refused; `value` is its counter.
    #[must_use]
    pub fn refusal(&self, rules: &Rules, at: usize, value: u64, now_ms: u64) -> ApiError {
        let Some(line) = self.lines.get(at) else {
            return ApiError::internal(format!("limit {at} of {} refused", self.lines.len()));
        };
        let wait = wait_s(line, now_ms);
        let hit = line.hit(value);
        match line.dimension {
            Dimension::Budget => {
                ApiError::budget_exceeded(rules.budget_status, budget_message(line, &hit), wait, hit)
            }
            _ => {
                let mut hit = hit;
                let daily = matches!(line.dimension, Dimension::Rpd | Dimension::Tpd);
                hit.no_retry = daily;
                ApiError::limit_reached(rate_message(line, &hit), wait.unwrap_or(1), hit)
            }
        }
    }
}

/// Seconds until the window ends; a place in flight may be free the next second. `None`: never.
fn wait_s(line: &Line, now_ms: u64) -> Option<u64> {
    match (line.resets_ms, line.dimension) {
        (Some(at), _) => Some(at.saturating_sub(now_ms).div_ceil(1_000).max(1)),
        (None, Dimension::Parallel) => Some(1),
        (None, _) => None,
    }
}

impl Line {
    /// The limit and what is used of it, for whoever is told.
    #[must_use]
    pub fn hit(&self, value: u64) -> LimitHit {
        LimitHit {
            entity_type: self.descriptor().into(),
            entity_id: self.shown.clone(),
            model: self.model.clone(),
            limit_type: setting(self.dimension).into(),
            window: window(self).into(),
            limit: self.limit.unwrap_or(0),
            used: value,
            money: self.dimension == Dimension::Budget,
            reset_at: self.resets_ms.map(utc),
            no_retry: self.dimension == Dimension::Budget,
        }
    }
}

/// The setting that says so.
fn setting(dimension: Dimension) -> &'static str {
    match dimension {
        Dimension::Budget => "max_budget",
        Dimension::Rpm => "rpm_limit",
        Dimension::Tpm => "tpm_limit",
        Dimension::InputTpm => "input_tpm_limit",
        Dimension::OutputTpm => "output_tpm_limit",
        Dimension::Rpd => "rpd_limit",
        Dimension::Tpd => "tpd_limit",
        Dimension::Parallel => "max_parallel_requests",
    }
}

fn window(line: &Line) -> String {
    match (line.dimension, line.resets_ms) {
        (Dimension::Budget, Some(_)) => format!("since {}", utc(line.starts_ms)),
        (Dimension::Budget, None) => "lifetime".to_owned(),
        (Dimension::Rpd | Dimension::Tpd, _) => "day".to_owned(),
        (Dimension::Parallel, _) => "in flight".to_owned(),
        _ => "minute".to_owned(),
    }
}

fn rate_message(line: &Line, hit: &LimitHit) -> String {
    let model = line.model.as_ref().map_or_else(String::new, |model| format!(" (model {model})"));
    let resets = hit.reset_at.as_deref().unwrap_or("when a request in flight ends");
    format!(
        "Rate limit exceeded for {}: {}{model}. Limit type: {}. Current limit: {} ({}), Remaining: {}. Limit resets at: {resets}",
        hit.entity_type,
        line.shown,
        line.dimension.limit_type(),
        hit.limit,
        hit.limit_type,
        hit.limit.saturating_sub(hit.used),
    )
}

fn budget_message(line: &Line, hit: &LimitHit) -> String {
    let who = match line.subject {
        Subject::KeyTag => "Tag",
        Subject::Of(kind) => match kind {
            EntityKind::Key | EntityKind::KeyModel => "Key",
            EntityKind::Team | EntityKind::TeamModel => "Team",
            EntityKind::User | EntityKind::UserModel => "User",
            EntityKind::Member => "TeamMember",
            EntityKind::Organization => "Organization",
            EntityKind::EndUser => "End User",
            EntityKind::Tag => "Tag",
            _ => "Gateway",
        },
    };
    let model = line.model.as_ref().map_or_else(String::new, |model| format!(" Model={model}"));
    let resets = match &hit.reset_at {
        Some(at) => format!("Budget resets at: {at}"),
        None => "It does not reset by itself".to_owned(),
    };
    format!(
        "Budget has been exceeded! {who}={}{model} Current cost: {}, Max budget: {}. {resets}",
        line.shown,
        dollars(hit.used),
        dollars(hit.limit),
    )
}

/// `2026-11-25 04:35:00 UTC`.
fn utc(ms: u64) -> String {
    let at = i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    at.map_or_else(|| "never".to_owned(), |at| at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string())
}

#[cfg(test)]
#[path = "refusal_tests.rs"]
mod tests;
