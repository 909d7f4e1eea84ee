//! From a question to what Envoy is told: the same for both ways of asking, one ext_proc stream per request
//! ([`super::ext_proc`]) and one call for many ([`super::decide`]).

use std::time::Duration;

use attache_llm::contract::{self, Ask, MIRROR_HEADER, Note, PER_TRY_HEADER, PLAN_KEY, STEP_HEADERS, Walk};
use attache_llm::error::{ApiError, Blame};
use envoy_types::pb::google::protobuf::{ListValue, Struct, Value, value::Kind};

use super::app::App;
use super::metrics::Admission;
use crate::routing::{Decision, Explanation, MAX_STEPS, PlanStep, Timeouts};

const _: () = assert!(MAX_STEPS == STEP_HEADERS.len(), "every step of a plan has its header");

/// A question that was answered, and the answer not yet given away: dropping it refunds what is reserved.
pub(super) enum Judged {
    Decided(Box<Decision>),
    Explained(Box<Explanation>),
    Refused(ApiError),
}

/// What Envoy is told.
pub(super) enum Told {
    Go(Box<Going>),
    Reply(Reply),
}

/// The request goes on.
pub(super) struct Going {
    /// Value of [`PLAN_KEY`], in the schema of Envoy's `priority_group`.
    pub(super) plan: Value,
    pub(super) set: Vec<(&'static str, String)>,
    /// What is not set is removed: the headers of an earlier pass come back with Envoy's internal redirect.
    pub(super) remove: Vec<&'static str>,
    pub(super) note: Note,
    pub(super) walk: Option<Walk>,
}

/// Envoy's own reply in place of a provider's.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Vec<u8>,
    /// Response code details. They begin with `attache_`, so that local_reply_config leaves the body alone.
    pub(super) details: String,
}

/// Answers a question.
pub(super) async fn judge(app: &App, ask: Result<Ask, ApiError>) -> Judged {
    app.metrics.question();
    let ask = match ask {
        Ok(ask) => ask,
        Err(error) => {
            tracing::error!(%error, "no readable question");
            return Judged::Refused(error);
        }
    };
    if ask.explain {
        return match app.explain(&ask).await {
            Ok(explanation) => Judged::Explained(Box::new(explanation)),
            Err(error) => Judged::Refused(error),
        };
    }
    match app.decide(&ask).await {
        Ok(decision) => Judged::Decided(Box::new(decision)),
        Err(error) => {
            log(&error, &ask);
            Judged::Refused(error)
        }
    }
}

/// The one place that logs a refusal. The client's own mistakes are for debugging only.
fn log(error: &ApiError, ask: &Ask) {
    let Ask { call_id, model, .. } = ask;
    match error.blame {
        Blame::Client => tracing::debug!(call_id, model, %error, "refused"),
        Blame::Gateway | Blame::Upstream => tracing::warn!(call_id, model, %error, "refused"),
    }
}

impl Judged {
    /// Gives the answer away, and with it the reservation: from here the usage record settles it.
    pub(super) fn tell(self, app: &App) -> Told {
        app.metrics.answer();
        match self {
            Self::Decided(decision) => {
                let (going, reserved) = going(*decision, app.envoy.is_fixed());
                app.metrics.admission(if reserved { Admission::Admitted } else { Admission::None });
                Told::Go(Box::new(going))
            }
            Self::Explained(explanation) => Told::Reply(explained(&explanation)),
            Self::Refused(error) => Told::Reply(refused(&error)),
        }
    }
}

/// The decision in Envoy's terms, and whether something is reserved. With `steps` the plan is in headers too.
pub(super) fn going(decision: Decision, steps: bool) -> (Going, bool) {
    let reservation = Some(decision.reservation.hand_over()).filter(|id| !id.is_empty());
    let reserved = reservation.is_some();
    let note = Note {
        contract: contract::VERSION,
        generation: decision.generation,
        reservation,
        owner: decision.owner,
        group: decision.group,
        response_headers: decision.response_headers,
    };
    let (mut set, mut remove) = headers(decision.plan.len(), decision.timeouts, decision.mirror);
    if steps {
        let taken = STEP_HEADERS.into_iter().zip(&decision.plan);
        set.extend(taken.map(|(name, step)| (name, step.cluster.clone())));
        remove.extend(STEP_HEADERS.iter().skip(decision.plan.len()));
    }
    (Going { plan: groups(&decision.plan), set, remove, note, walk: decision.walk }, reserved)
}

/// The decision told instead of made.
fn explained(explanation: &Explanation) -> Reply {
    match serde_json::to_vec_pretty(explanation) {
        Ok(body) => {
            let headers = vec![("content-type", "application/json".to_owned())];
            Reply { status: 200, headers, body, details: "attache_explain".to_owned() }
        }
        Err(error) => refused(&ApiError::internal(error.to_string())),
    }
}

pub(super) fn refused(error: &ApiError) -> Reply {
    let details = format!("attache_{}", error.code.as_ref().unwrap_or(&error.kind));
    Reply { status: error.status, headers: error.headers(), body: error.to_json(), details }
}

type Headers = (Vec<(&'static str, String)>, Vec<&'static str>);

fn headers(steps: usize, timeouts: Timeouts, mirror: Option<String>) -> Headers {
    let mut remove = Vec::new();
    // Envoy's plan wraps around: only this stops it at the end.
    let mut set = vec![("x-envoy-max-retries", steps.saturating_sub(1).to_string())];
    set.push(("x-envoy-upstream-rq-timeout-ms", millis(timeouts.total)));
    for (name, value) in [(PER_TRY_HEADER, timeouts.per_try.map(millis)), (MIRROR_HEADER, mirror)] {
        match value {
            Some(value) => set.push((name, value)),
            None => remove.push(name),
        }
    }
    (set, remove)
}

/// Rounded up, since 0 means "no limit" to Envoy.
fn millis(duration: Duration) -> String {
    duration.as_micros().div_ceil(1_000).to_string()
}

/// The plan as [`PLAN_KEY`] holds it.
pub(super) fn groups(plan: &[PlanStep]) -> Value {
    // One cluster per group: Envoy picks by one random number per request, the same position in every group.
    let groups = plan.iter().enumerate().map(|(index, step)| {
        let cluster = object([("cluster_name", text(step.cluster.clone())), ("weight", number(1))]);
        object([("name", text(format!("step-{index}"))), ("clusters", list(vec![cluster]))])
    });
    list(groups.collect())
}

/// Namespace [`contract::METADATA_NAMESPACE`]: plan, note and walk.
pub(super) fn metadata(going: &Going) -> Struct {
    // Notes and walks of plain strings and numbers always serialise.
    let note = serde_json::to_string(&going.note).unwrap_or_default();
    let walk = going.walk.as_ref();
    let walk = walk.map(|walk| (contract::WALK_KEY, text(serde_json::to_string(walk).unwrap_or_default())));
    let own = [(PLAN_KEY, going.plan.clone()), (contract::NOTE_KEY, text(note))];
    let own = object(own.into_iter().chain(walk));
    Struct { fields: [(contract::METADATA_NAMESPACE.to_owned(), own)].into() }
}

fn object<'a>(fields: impl IntoIterator<Item = (&'a str, Value)>) -> Value {
    let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    Value { kind: Some(Kind::StructValue(Struct { fields })) }
}

fn list(values: Vec<Value>) -> Value {
    Value { kind: Some(Kind::ListValue(ListValue { values })) }
}

fn text(value: String) -> Value {
    Value { kind: Some(Kind::StringValue(value)) }
}

fn number(value: u32) -> Value {
    Value { kind: Some(Kind::NumberValue(f64::from(value))) }
}
