//! The caller's limits, told instead of charged.

use std::fmt;

use serde::Serialize;

use super::Context;
use super::explain::{Explanation, refusal};
use super::request::Request;
use crate::limits::Bill;
use crate::store::{Counter, Seed};

/// One limit that the request meets.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExplainedLimit {
    /// `api_key`, `team`, `model_per_key`, ...
    pub entity_type: String,
    /// Name of the entity; of a key its alias or `sk-...` with four characters.
    pub entity_id: String,
    /// `rpm_limit`, `max_budget`, ...
    pub limit_type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Requests, tokens or nano-dollars; `None` while nobody knows.
    pub used: Option<u64>,
    /// What this request would reserve, in the same unit.
    pub reserves: u64,
    /// `None`: counted only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// `minute`, `day`, `in flight`, `lifetime`, or since when.
    pub window: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reset_at: Option<String>,
    /// Would it admit the request?
    pub room: bool,
}

/// Fills in what a request like this meets, in the order in which it is asked; the first without room is the refusal.
/// Is that a budget, so that a cheaper model may do?
pub(super) async fn fill(
    context: &Context<'_>,
    request: &Request<'_>,
    bill: &mut Bill,
    out: &mut Explanation,
) -> bool {
    let values = values(context, bill).await;
    let mut full = None;
    for (at, (line, limited)) in bill.lines.iter().zip(&bill.required).enumerate() {
        let used = values.as_ref().and_then(|values| values.get(at)).copied();
        let room = used.zip(limited.limit).is_none_or(|(used, limit)| limited.has_room(used, limit));
        if !room {
            full = full.or(used.map(|used| (at, used)));
        }
        let hit = line.hit(used.unwrap_or(0));
        out.limits.push(ExplainedLimit {
            entity_type: hit.entity_type.into_owned(),
            entity_id: hit.entity_id,
            limit_type: hit.limit_type.into_owned(),
            model: hit.model,
            used,
            reserves: limited.amount,
            limit: line.limit,
            window: hit.window.into_owned(),
            reset_at: hit.reset_at,
            room,
        });
    }
    let Some((at, used)) = full else { return false };
    let error = bill.refusal(&request.snapshot.limits, at, used, request.now_ms);
    out.refusal = Some(refusal(&error));
    bill.is_budget(at)
}

/// What the counters say; a budget whose counter nobody has begins with what the ledger says.
async fn values(context: &Context<'_>, bill: &mut Bill) -> Option<Vec<u64>> {
    let counters: Vec<Counter> = bill.required.iter().map(|limited| limited.counter.clone()).collect();
    let mut values = context.counters.values(&counters).await.ok()?;
    let zero = |(at, value): (usize, &u64)| (*value == 0).then_some(at);
    let unknown: Vec<usize> = values.iter().enumerate().filter_map(zero).collect();
    let questions = bill.seeds(&unknown);
    let sums = context.keys.used(&questions).await.ok()?;
    for (question, sum) in questions.iter().zip(&sums) {
        bill.seed(question.at, sum);
        let seed = bill.required.get(question.at).map(|limited| limited.seed);
        if let (Some(Seed::Known(begin)), Some(value)) = (seed, values.get_mut(question.at)) {
            *value = begin;
        }
    }
    Some(values)
}

impl fmt::Display for ExplainedLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let model = self.model.as_ref().map(|model| format!(" for {model}")).unwrap_or_default();
        let used = self.used.map_or_else(|| "?".to_owned(), |used| used.to_string());
        let limit = self.limit.map_or_else(String::new, |limit| format!(" of {limit}"));
        let full = if self.room { "" } else { "  FULL" };
        write!(
            f,
            "{} {}  {}{model}  {used}{limit} + {}  {}{full}",
            self.entity_type, self.entity_id, self.limit_type, self.reserves, self.window
        )
    }
}
