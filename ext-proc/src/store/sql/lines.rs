//! What each attempt of a request cost, as column `lines` has it: a JSON array, of which an attempt's entry leaves out
//! whatever is as in the row itself. The usual row has one line, which is little more than its factors:
//!
//! ```text
//! [{"f":"in 1200*2500000000;out 50*10000000000"}]
//! ```

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::store::SpendLine;

/// How most attempts end that cost money.
const COMPLETE: &str = "complete";

/// Columns of the row that a line may share.
#[derive(Debug, Clone, Copy)]
pub(super) struct Own<'a> {
    pub(super) attempts: i64,
    pub(super) deployment: &'a str,
    pub(super) group: &'a str,
    pub(super) provider: &'a str,
    pub(super) model: &'a str,
    pub(super) status: i64,
    pub(super) prompt: i64,
    pub(super) completion: i64,
    pub(super) cached: i64,
    pub(super) cache_write: i64,
    pub(super) reasoning: i64,
    pub(super) estimated: bool,
    pub(super) cost_nanos: Option<i64>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Line<'a> {
    /// Left out: the last attempt.
    #[serde(rename = "n", skip_serializing_if = "Option::is_none")]
    attempt: Option<u32>,
    #[serde(rename = "d", borrow, skip_serializing_if = "Option::is_none")]
    deployment: Option<Cow<'a, str>>,
    #[serde(rename = "g", borrow, skip_serializing_if = "Option::is_none")]
    group: Option<Cow<'a, str>>,
    #[serde(rename = "p", borrow, skip_serializing_if = "Option::is_none")]
    provider: Option<Cow<'a, str>>,
    #[serde(rename = "m", borrow, skip_serializing_if = "Option::is_none")]
    model: Option<Cow<'a, str>>,
    /// Left out: `complete`.
    #[serde(rename = "o", borrow, skip_serializing_if = "Option::is_none")]
    outcome: Option<Cow<'a, str>>,
    #[serde(rename = "s", skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(rename = "in", skip_serializing_if = "Option::is_none")]
    prompt: Option<u64>,
    #[serde(rename = "out", skip_serializing_if = "Option::is_none")]
    completion: Option<u64>,
    #[serde(rename = "cr", skip_serializing_if = "Option::is_none")]
    cached: Option<u64>,
    #[serde(rename = "cw", skip_serializing_if = "Option::is_none")]
    cache_write: Option<u64>,
    #[serde(rename = "r", skip_serializing_if = "Option::is_none")]
    reasoning: Option<u64>,
    #[serde(rename = "e", skip_serializing_if = "Option::is_none")]
    estimated: Option<bool>,
    /// Nano-dollars; -1: not known.
    #[serde(rename = "c", skip_serializing_if = "Option::is_none")]
    cost: Option<i64>,
    #[serde(rename = "f", borrow, skip_serializing_if = "str::is_empty")]
    factors: Cow<'a, str>,
}

const UNKNOWN: i64 = -1;

/// The text of column `lines`; `None` when there are none.
pub(super) fn encode(own: &Own<'_>, lines: &[SpendLine]) -> Option<String> {
    if lines.is_empty() {
        return None;
    }
    let lines: Vec<Line<'_>> = lines.iter().map(|line| Line::new(own, line)).collect();
    serde_json::to_string(&lines).ok()
}

/// Reads [`encode`] back. `None` for what it did not write.
pub(super) fn decode(own: &Own<'_>, text: &str) -> Option<Vec<SpendLine>> {
    let lines: Vec<Line<'_>> = serde_json::from_str(text).ok()?;
    Some(lines.into_iter().map(|line| line.whole(own)).collect())
}

impl<'a> Line<'a> {
    fn new(own: &Own<'_>, line: &'a SpendLine) -> Self {
        let text = |text: &'a str, own: &str| (text != own).then_some(Cow::Borrowed(text));
        let number = |value: u64, own: i64| (i64::try_from(value) != Ok(own)).then_some(value);
        let cost = line.cost_nanos.map(|nanos| nanos.max(0));
        Self {
            attempt: (i64::from(line.attempt) != own.attempts - 1).then_some(line.attempt),
            deployment: text(&line.deployment, own.deployment),
            group: text(&line.group, own.group),
            provider: text(&line.provider, own.provider),
            model: text(&line.model, own.model),
            outcome: text(&line.outcome, COMPLETE),
            status: (i64::from(line.status) != own.status).then_some(line.status),
            prompt: number(line.prompt, own.prompt),
            completion: number(line.completion, own.completion),
            cached: number(line.cached, own.cached),
            cache_write: number(line.cache_write, own.cache_write),
            reasoning: number(line.reasoning, own.reasoning),
            estimated: (line.estimated != own.estimated).then_some(line.estimated),
            cost: (cost != own.cost_nanos).then_some(cost.unwrap_or(UNKNOWN)),
            factors: Cow::Borrowed(&line.factors),
        }
    }

    fn whole(self, own: &Own<'_>) -> SpendLine {
        let text = |text: Option<Cow<'_, str>>, own: &str| text.map_or(own.to_owned(), Cow::into_owned);
        let number = |value: Option<u64>, own: i64| value.unwrap_or(u64::try_from(own).unwrap_or_default());
        SpendLine {
            attempt: self.attempt.unwrap_or_else(|| u32::try_from(own.attempts - 1).unwrap_or_default()),
            deployment: text(self.deployment, own.deployment),
            group: text(self.group, own.group),
            provider: text(self.provider, own.provider),
            model: text(self.model, own.model),
            outcome: text(self.outcome, COMPLETE),
            status: self.status.unwrap_or_else(|| u16::try_from(own.status).unwrap_or_default()),
            prompt: number(self.prompt, own.prompt),
            completion: number(self.completion, own.completion),
            cached: number(self.cached, own.cached),
            cache_write: number(self.cache_write, own.cache_write),
            reasoning: number(self.reasoning, own.reasoning),
            estimated: self.estimated.unwrap_or(own.estimated),
            cost_nanos: match self.cost {
                None => own.cost_nanos,
                Some(UNKNOWN) => None,
                Some(nanos) => Some(nanos),
            },
            factors: self.factors.into_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Own<'_> = Own {
        attempts: 2,
        deployment: "d",
        group: "g",
        provider: "openai",
        model: "gpt-4o",
        status: 200,
        prompt: 10,
        completion: 5,
        cached: 0,
        cache_write: 0,
        reasoning: 0,
        estimated: false,
        cost_nanos: Some(7),
    };

    fn own_line() -> SpendLine {
        SpendLine {
            attempt: 1,
            deployment: "d".into(),
            group: "g".into(),
            provider: "openai".into(),
            model: "gpt-4o".into(),
            outcome: "complete".into(),
            status: 200,
            prompt: 10,
            completion: 5,
            cost_nanos: Some(7),
            factors: "in 10*1000000".into(),
            ..SpendLine::default()
        }
    }

    #[test]
    fn the_usual_line_is_its_factors() {
        let text = encode(&OWN, &[own_line()]).unwrap();
        assert_eq!(text, r#"[{"f":"in 10*1000000"}]"#);
        assert_eq!(decode(&OWN, &text).unwrap(), [own_line()]);
        assert_eq!(encode(&OWN, &[]), None);
    }

    #[test]
    fn every_other_line_is_kept_whole() {
        let other = SpendLine {
            attempt: 0,
            deployment: "d\"2".into(),
            group: "fallback".into(),
            provider: String::new(),
            model: "ü".into(),
            outcome: "error_in_stream".into(),
            status: 0,
            prompt: u64::MAX,
            completion: 1,
            cached: 2,
            cache_write: 3,
            reasoning: 4,
            estimated: true,
            cost_nanos: None,
            factors: String::new(),
        };
        let lines = [other.clone(), own_line(), SpendLine { cost_nanos: Some(0), ..other.clone() }];
        assert_eq!(decode(&OWN, &encode(&OWN, &lines).unwrap()).unwrap(), lines);
        let unpriced = Own { cost_nanos: None, ..OWN };
        assert_eq!(decode(&unpriced, &encode(&unpriced, &lines).unwrap()).unwrap(), lines);
        assert_eq!(decode(&OWN, "[{\"x\":1}]"), None);
    }
}
