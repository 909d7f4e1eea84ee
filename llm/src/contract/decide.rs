use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Note, Walk};

/// How the gate asks for decisions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decisions {
    /// Envoy's ext_proc asks, one stream per request.
    #[default]
    ExtProc,
    /// The gate asks, one call for all requests that are ready at that moment ([`DecideAsk`]).
    Batched,
}

impl Decisions {
    /// Not written into a configuration: filters from before the choice refuse members that they do not know.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_zero(number: &u8) -> bool {
    *number == 0
}

/// Questions of one Envoy worker.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DecideAsk {
    pub contract: u32,
    /// How often these were asked before ([`super::Ask::again`]).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub again: u8,
    /// Each an [`super::Ask`]. Read one by one: one that cannot be read must not cost the others their answer.
    pub asks: Vec<Box<RawValue>>,
    /// Decisions wanted ahead, for requests that will probably come.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leases: Vec<LeaseAsk>,
}

/// Requests that one lease is for, at most.
pub const MAX_LEASE_CALLS: usize = 16;

/// Asks for decisions ahead: this worker sees many requests that differ in nothing that a decision depends on, and those that
/// find one here need not ask and wait.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LeaseAsk {
    /// An [`super::Ask`] without a call id. Its prompt is as long as the longest that may use the lease.
    pub ask: Box<RawValue>,
    /// Call ids of those requests: two at least, [`MAX_LEASE_CALLS`] at most.
    pub calls: Vec<String>,
}

/// The answers, in the order of the questions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecideAnswer {
    pub contract: u32,
    pub decisions: Vec<Decided>,
    /// In the order of [`DecideAsk::leases`]. A sidecar that does not know leases has none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leases: Vec<Leased>,
}

/// What became of a [`LeaseAsk`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Leased {
    Granted(Box<Lease>),
    /// Not now: these requests ask for themselves.
    Refused,
}

/// Decisions ahead: one plan for a few requests, and for each of them a reservation of its own. What is not used in time is given
/// back ([`super::UsageBatch::returned`]); what is, is settled by its usage record as every reservation is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// As for a single request, the first one. Its note has no reservation: [`LeaseUse`] has.
    pub go: Go,
    /// Per call, in order.
    pub uses: Vec<LeaseUse>,
    /// Milliseconds since it was asked for, after which it must not be used. Never beyond the minute in which it was
    /// made: rates are counted by the minute.
    pub for_ms: u64,
}

/// One request's part of a [`Lease`]: what its [`Note`] would say of it alone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseUse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reservation: Option<String>,
    /// Values of [`Note::response_headers`] that differ from those in [`Lease::go`], by place. Names are the same for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(usize, String)>,
}

/// What became of one question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decided {
    Go(Box<Go>),
    Refuse(Refuse),
    /// It took too long: a 504 of the gateway, and nothing is reserved. The others of the call are not to suffer.
    Late,
}

/// The request goes on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Go {
    /// Value of [`super::PLAN_HEADER`]: base64 of the `google.protobuf.Value` that [`super::PLAN_KEY`] holds.
    pub plan: String,
    /// Request headers to set: retries, timeouts, mirror.
    pub headers: Vec<(String, String)>,
    /// Request headers that an earlier pass may have left.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<String>,
    pub note: Note,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub walk: Option<Walk>,
}

/// The client gets this answer. (Not always an error: an explanation is one too.)
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refuse {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    /// JSON, errors in OpenAI's shape.
    pub body: String,
    /// Envoy's response code details. They begin with `attache_`.
    pub details: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_travel() {
        let go = Go {
            plan: "AAAA".into(),
            headers: vec![("x-envoy-max-retries".into(), "1".into())],
            note: Note { contract: 1, group: "gpt".into(), ..Note::default() },
            ..Go::default()
        };
        let refuse = Refuse { status: 429, details: "attache_x".into(), ..Refuse::default() };
        let answer = DecideAnswer {
            contract: 1,
            decisions: vec![Decided::Go(Box::new(go.clone())), Decided::Refuse(refuse), Decided::Late],
            leases: vec![
                Leased::Refused,
                Leased::Granted(Box::new(Lease { go, uses: vec![LeaseUse::default()], for_ms: 5 })),
            ],
        };
        let text = serde_json::to_string(&answer).unwrap();
        assert!(text.contains(r#"{"go":{"plan":"AAAA""#) && !text.contains("walk"), "{text}");
        assert_eq!(serde_json::from_str::<DecideAnswer>(&text).unwrap(), answer);
    }

    #[test]
    fn one_question_that_cannot_be_read_leaves_the_others() {
        let text = r#"{"contract":1,"asks":[{"no":"ask"}, 7]}"#;
        let asks = serde_json::from_str::<DecideAsk>(text).unwrap().asks;
        let texts: Vec<_> = asks.iter().map(|ask| ask.get()).collect();
        assert_eq!(texts, [r#"{"no":"ask"}"#, "7"]);
    }
}
