//! One call for the questions of many requests, from the gate of one Envoy worker.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use attache_llm::contract::{
    self, Ask, DecideAnswer, DecideAsk, Decided, Go, Lease, LeaseAsk, LeaseUse, Leased, MAX_PLAN_HEADER,
    Refuse,
};
use attache_llm::error::ApiError;
use axum::body::{Bytes, HttpBody};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use envoy_types::pb::google::protobuf::Value;
use futures_util::FutureExt;
use futures_util::future::join_all;
use hyper::body::Frame;
use prost::Message;
use serde_json::value::RawValue;
use tokio::time::timeout;

use super::app::App;
use super::told::{Going, Judged, Reply, Told, going, groups, judge};
use crate::routing::{Decision, PlanStep};

/// Longest decision. The gate waits for a second, and who is asked and does not answer is left by Envoy.
const PATIENCE: Duration = Duration::from_millis(900);
/// Bytes of a step beside its name, more than enough.
const STEP_OVERHEAD: usize = 120;

/// Answers every question, side by side.
pub(super) async fn decide(app: Arc<App>, ask: DecideAsk) -> Answers {
    app.metrics.batch();
    // Calls that are made again ask for what is waited for.
    let leases = if ask.again == 0 { ask.leases.as_slice() } else { &[] };
    let judged = join_all(ask.asks.iter().map(|one_ask| one(&app, one_ask, ask.again)));
    let leases = join_all(leases.iter().map(|ask| ahead(&app, ask)));
    let answers = futures_util::future::join(judged, leases).await;
    Answers { app, answers: Some(answers) }
}

/// For how many milliseconds it holds.
type Ahead = Option<(Box<Decision>, u64)>;

/// Body of the answer. It is made when the connection takes it, and until then nothing is given away: a caller that went
/// away (or no longer waits) drops what is decided, and that refunds it.
pub(super) struct Answers {
    app: Arc<App>,
    answers: Option<(Vec<Option<Judged>>, Vec<Ahead>)>,
}

impl HttpBody for Answers {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some((judged, ahead)) = self.answers.take() else { return Poll::Ready(None) };
        let app = &self.app;
        let tell = |judged: Option<Judged>| judged.map_or(Decided::Late, |judged| wire(judged.tell(app)));
        let decisions = judged.into_iter().map(tell).collect();
        let leases = ahead.into_iter().map(|ahead| leased(app, ahead)).collect();
        // Texts and numbers: this does not fail.
        let body = serde_json::to_vec(&DecideAnswer { contract: contract::VERSION, decisions, leases });
        Poll::Ready(Some(Ok(Frame::data(body.unwrap_or_default().into()))))
    }

    fn is_end_stream(&self) -> bool {
        self.answers.is_none()
    }
}

/// One question. Whatever is wrong with it stays with it. `None`: it takes too long.
async fn one(app: &App, ask: &RawValue, again: u8) -> Option<Judged> {
    let ask = serde_json::from_str::<Ask>(ask.get())
        .map(|ask| Ask { again, ..ask })
        .map_err(|error| ApiError::internal(format!("ask: {error}")));
    let judging = timeout(PATIENCE, AssertUnwindSafe(judge(app, ask)).catch_unwind());
    let judged = judging.await.ok()?.unwrap_or_else(|_| {
        tracing::error!("a decision panicked");
        Judged::Refused(ApiError::internal("a decision panicked"))
    });
    Some(match judged {
        Judged::Decided(decision) if is_too_long(&decision.plan) => {
            let message = "the names of the plan's clusters are too long together: shorten those of model \
                           groups and models, or use `attache envoy --decisions ext-proc`";
            tracing::error!(group = decision.group, "{message}");
            Judged::Refused(ApiError::internal(message))
        }
        judged => judged,
    })
}

/// Decides ahead. Whatever is wrong with it costs no request anything: those ask for themselves.
async fn ahead(app: &App, ask: &LeaseAsk) -> Ahead {
    let calls = &ask.calls;
    let ask = serde_json::from_str::<Ask>(ask.ask.get()).ok()?;
    let deciding = timeout(PATIENCE, AssertUnwindSafe(app.lease(&ask, calls)).catch_unwind());
    let (decision, for_ms) = deciding.await.ok()?.ok()??;
    let named = |headers: &[(String, String)]| {
        decision.response_headers.iter().map(|(name, _)| name).eq(headers.iter().map(|(name, _)| name))
    };
    let fits = !is_too_long(&decision.plan) && decision.more.iter().all(|one| named(&one.response_headers));
    fits.then(|| (Box::new(decision), for_ms))
}

/// Gives a decision ahead away, and all its reservations.
fn leased(app: &App, ahead: Ahead) -> Leased {
    let Some((mut decision, for_ms)) = ahead else {
        app.metrics.leases.refused();
        return Leased::Refused;
    };
    let more = std::mem::take(&mut decision.more);
    let mut go = wire_go(going(*decision, app.envoy.is_fixed()).0);
    let reservation = go.note.reservation.take();
    let mut uses = vec![LeaseUse { reservation, headers: Vec::new() }];
    uses.extend(more.into_iter().map(|one| LeaseUse {
        reservation: Some(one.reservation.hand_over()).filter(|id| !id.is_empty()),
        headers: differing(&go.note.response_headers, one.response_headers),
    }));
    app.metrics.leases.granted(uses.len());
    Leased::Granted(Box::new(Lease { go, uses, for_ms }))
}

/// The values that are not those of `first`, by place: of fourteen headers three or four say what is left.
fn differing(first: &[(String, String)], own: Vec<(String, String)>) -> Vec<(usize, String)> {
    let pairs = first.iter().zip(own).enumerate();
    pairs.filter(|(_, (first, own))| first.1 != own.1).map(|(place, (_, own))| (place, own.1)).collect()
}

/// Would Envoy drop the plan in silence? Only looked into where the names are unusually long.
fn is_too_long(plan: &[PlanStep]) -> bool {
    let names: usize = plan.iter().map(|step| step.cluster.len() + STEP_OVERHEAD).sum();
    names >= MAX_PLAN_HEADER / 2 && encoded(&groups(plan)).len() >= MAX_PLAN_HEADER
}

fn encoded(plan: &Value) -> String {
    STANDARD.encode(plan.encode_to_vec())
}

fn wire(told: Told) -> Decided {
    match told {
        Told::Go(going) => Decided::Go(Box::new(wire_go(*going))),
        Told::Reply(Reply { status, headers, body, details }) => Decided::Refuse(Refuse {
            status,
            headers: headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            // All of it is our own JSON.
            body: String::from_utf8(body).unwrap_or_default(),
            details,
        }),
    }
}

fn wire_go(going: Going) -> Go {
    let own = |(name, value): (&str, String)| (name.to_owned(), value);
    Go {
        plan: encoded(&going.plan),
        headers: going.set.into_iter().map(own).collect(),
        remove: going.remove.into_iter().map(str::to_owned).collect(),
        note: going.note,
        walk: going.walk,
    }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
