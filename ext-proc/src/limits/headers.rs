//! What is left of the limits, for the client's answer.

use super::bill::{Bill, Line};
use super::order::{Dimension, Subject};
use crate::entity::EntityKind;

impl Line {
    /// LiteLLM's name of what is limited.
    #[must_use]
    pub fn descriptor(&self) -> &'static str {
        match self.subject {
            Subject::KeyTag => "tag_per_key",
            Subject::Of(kind) => match kind {
                EntityKind::Key => "api_key",
                EntityKind::KeyModel => "model_per_key",
                EntityKind::TeamModel => "model_per_team",
                EntityKind::UserModel => "model_per_user",
                EntityKind::Member => "team_member",
                EntityKind::Proxy => "global",
                other => other.name(),
            },
        }
    }
}

/// The limit of one kind that is nearest to its end.
struct Tightest<'a> {
    line: &'a Line,
    limit: u64,
    remaining: u64,
}

impl Bill {
    /// Headers for the answer, from the values of the required counters after the request was admitted: OpenAI's, of the
    /// tightest limit on requests and on tokens, LiteLLM's, of the tightest per entity, and what LiteLLM tells of the key.
    /// All of them with this request's own reservation.
    #[must_use]
    pub fn headers(&self, values: &[u64], now_ms: u64) -> Vec<(String, String)> {
        if self.lines.is_empty() {
            return Vec::new();
        }
        let mut out = Vec::with_capacity(16);
        for kind in ["requests", "tokens"] {
            let Some(found) = self.tightest(values, |line| line.dimension.limit_type() == kind) else {
                continue;
            };
            out.push((["x-ratelimit-limit-", kind].concat(), found.limit.to_string()));
            out.push((["x-ratelimit-remaining-", kind].concat(), found.remaining.to_string()));
            let resets = found.line.resets_ms.map_or(0, |at| at.saturating_sub(now_ms));
            out.push((["x-ratelimit-reset-", kind].concat(), duration(resets.div_ceil(1_000))));
        }
        self.per_entity(values, &mut out);
        self.of_key(values, &mut out);
        out
    }

    fn tightest(&self, values: &[u64], wanted: impl Fn(&Line) -> bool) -> Option<Tightest<'_>> {
        let lines = self.lines.iter().zip(values).filter(|(line, _)| wanted(line));
        let left = lines.filter_map(|(line, value)| {
            let limit = line.limit?;
            Some(Tightest { line, limit, remaining: limit.saturating_sub(*value) })
        });
        left.min_by_key(|found| found.remaining)
    }

    fn per_entity(&self, values: &[u64], out: &mut Vec<(String, String)>) {
        let mut done: Vec<(&str, &str)> = Vec::new();
        for line in &self.lines {
            let name = (line.descriptor(), line.dimension.limit_type());
            if line.dimension == Dimension::Budget || done.contains(&name) {
                continue;
            }
            done.push(name);
            let same = |other: &Line| (other.descriptor(), other.dimension.limit_type()) == name;
            let Some(found) = self.tightest(values, same) else { continue };
            let (descriptor, kind) = name;
            let named = |what: &str| ["x-ratelimit-", descriptor, what, kind].concat();
            out.push((named("-limit-"), found.limit.to_string()));
            out.push((named("-remaining-"), found.remaining.to_string()));
        }
    }

    fn of_key(&self, values: &[u64], out: &mut Vec<(String, String)>) {
        let of_key = |line: &&Line| line.subject == Subject::Of(EntityKind::Key);
        for (at, line) in self.lines.iter().enumerate().filter(|(_, line)| of_key(line)) {
            let name = match line.dimension {
                Dimension::Rpm => "x-litellm-key-rpm-limit",
                Dimension::Tpm => "x-litellm-key-tpm-limit",
                Dimension::Budget => "x-litellm-key-max-budget",
                _ => continue,
            };
            let money = line.dimension == Dimension::Budget;
            if let Some(limit) = line.limit {
                let limit = if money { dollars(limit) } else { limit.to_string() };
                out.push((name.to_owned(), limit));
            }
            if let Some(value) = values.get(at).filter(|_| money) {
                out.push(("x-litellm-key-spend".to_owned(), dollars(*value)));
            }
        }
    }
}

/// As OpenAI writes it: `17s`, `6m0s`, `23h59m0s`.
fn duration(seconds: u64) -> String {
    let (hours, minutes, rest) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{rest}s"),
        (0, _) => format!("{minutes}m{rest}s"),
        _ => format!("{hours}h{minutes}m{rest}s"),
    }
}

/// Nano-dollars as dollars, exact: `20.0`, `0.000000001`.
pub(super) fn dollars(nanos: u64) -> String {
    let (whole, rest) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
    let digits = format!("{rest:09}");
    let digits = digits.trim_end_matches('0');
    format!("{whole}.{}", if digits.is_empty() { "0" } else { digits })
}

#[cfg(test)]
#[path = "headers_tests.rs"]
mod tests;
