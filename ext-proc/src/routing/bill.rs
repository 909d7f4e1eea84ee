//! The caller's limits beside those of deployments: one admission charges both, or neither.

use std::time::Duration;

use attache_llm::error::ApiError;

use super::admission::Slot;
use super::choose::lease;
use super::decision::Alert;
use super::legs::{Leg, Line};
use super::request::Request;
use super::{Context, refusal};
use crate::entity::Principal;
use crate::limits::{Bill, Demand, Owner, bill};
use crate::store::{Admission, Admitted, Candidate, Pick, Place, UsageSum};

/// An admission, and the member (leg, place) of each of its candidates.
type Question = (Admission, Vec<(usize, usize)>);

/// Why there is no decision.
pub(super) enum Unplaced {
    Refused(ApiError),
    /// A budget is used up; a cheaper model than that of this group may do.
    Budget(ApiError, String),
}

impl From<ApiError> for Unplaced {
    fn from(error: ApiError) -> Self {
        Self::Refused(error)
    }
}

/// Why nothing was reserved.
pub(super) enum NoPlace {
    /// No deployment has room; why, per candidate.
    Full(Vec<Option<usize>>),
    Over(Unplaced),
}

/// What a decision tells of the caller's limits.
pub(super) struct Told {
    pub(super) owner: Option<String>,
    pub(super) headers: Vec<(String, String)>,
    pub(super) alerts: Vec<Alert>,
}

/// The caller's limits in one pass. They are asked in the first pass alone: what is reserved then is held until the
/// request is over, so that a fallback is never refused by a limit that the request itself has used up.
pub(super) enum Bills<'a> {
    First { bill: Box<Bill>, group: String, values: Vec<u64> },
    Later { owner: Option<&'a str>, reservation: Option<String> },
}

impl<'a> Bills<'a> {
    pub(super) fn of(
        request: &Request<'a>,
        principal: &Principal,
        line: &Line<'_, 'a>,
        legs: &[Leg<'a>],
    ) -> Self {
        if let Some(replan) = &request.ask.replan {
            let owner = replan.owner.as_deref();
            let known = owner.and_then(|owner| Owner::decode(owner, &request.ask.key));
            let held = known.filter(Owner::counts_something);
            let reservation = held.map(|owner| owner.reservation(&request.ask.call_id));
            return Self::Later { owner, reservation };
        }
        let group = line.asked.group.name.clone();
        let demand = Demand {
            model: &request.ask.model,
            group: &group,
            input: request.estimate.input,
            completion: request.estimate.completion,
            nanos: dearest(request, legs),
            now_ms: request.now_ms,
            again: request.ask.again,
            lease: lease(request, legs),
        };
        let bill = bill(&request.snapshot.limits, principal, &demand);
        Self::First { bill: Box::new(bill), group, values: Vec::new() }
    }

    /// What the counters are to be asked: for deployments with limits, for the caller's limits, or for more time.
    pub(super) fn question(
        &mut self,
        request: &Request<'_>,
        deployments: Option<Question>,
        legs: &[Leg<'_>],
    ) -> Option<Question> {
        let (wanted, renew) = match self {
            Self::First { bill, .. } => (!bill.required.is_empty(), None),
            Self::Later { reservation, .. } => (reservation.is_some(), reservation.take()),
        };
        if !wanted {
            return deployments;
        }
        let (admission, places) = deployments.unwrap_or_else(|| (unlimited(request, legs), vec![(0, 0)]));
        Some((Admission { renew, ..admission }, places))
    }

    /// Asks, for reservations of these other ids, too. The index of the candidate; `None` when the counters are away.
    pub(super) async fn place(
        &mut self,
        context: &Context<'_>,
        request: &Request<'_>,
        mut admission: Admission,
        more: &[String],
    ) -> Result<Option<usize>, NoPlace> {
        let rules = &request.snapshot.limits;
        for _ in 0..2 {
            if let Self::First { bill, .. } = self {
                admission.required = std::mem::take(&mut bill.required);
            }
            let place = context.counters.place_all(&admission, more).await;
            if let Self::First { bill, values, .. } = self {
                bill.required = std::mem::take(&mut admission.required);
                *values = place.as_ref().map(|place| place.values.clone()).unwrap_or_default();
            }
            match place.map(|place: Place| place.admitted) {
                Ok(Admitted::Candidate(at)) => return Ok(Some(at)),
                Ok(Admitted::Full(full)) => return Err(NoPlace::Full(full)),
                Ok(Admitted::Refused { required, value }) => {
                    return Err(NoPlace::Over(self.refusal(request, required, value)));
                }
                Ok(Admitted::Unseeded(at)) => self.seed(context, request, &at).await?,
                Err(error) if rules.fail_closed_limits => {
                    return Err(NoPlace::Over(refusal::counters_away(&error).into()));
                }
                Err(error) => {
                    // The counters themselves log once per outage; a line per request would drown it.
                    tracing::debug!(reservation = admission.id, %error, "no reservation");
                    break;
                }
            }
        }
        self.uncounted();
        Ok(None)
    }

    fn refusal(&self, request: &Request<'_>, at: usize, value: u64) -> Unplaced {
        let Self::First { bill, group, .. } = self else {
            return ApiError::internal("a limit that was not asked for").into();
        };
        let error = bill.refusal(&request.snapshot.limits, at, value, request.now_ms);
        if bill.is_budget(at) { Unplaced::Budget(error, group.clone()) } else { error.into() }
    }

    /// Looks into the ledger for counters that the backend does not have.
    async fn seed(
        &mut self,
        context: &Context<'_>,
        request: &Request<'_>,
        unseeded: &[usize],
    ) -> Result<(), NoPlace> {
        let Self::First { bill, .. } = self else { return Ok(()) };
        let questions = bill.seeds(unseeded);
        match context.keys.used(&questions).await {
            Ok(sums) => {
                for (question, sum) in questions.iter().zip(&sums) {
                    bill.seed(question.at, sum);
                }
            }
            Err(error) if request.snapshot.limits.fail_closed_budgets => {
                return Err(NoPlace::Over(refusal::spend_unknown(&error).into()));
            }
            Err(error) => {
                tracing::warn!(%error, "the ledger is away and so are counters: budgets begin with nothing");
                for question in &questions {
                    bill.seed(question.at, &UsageSum::default());
                }
            }
        }
        Ok(())
    }

    /// Nothing is reserved: there is nothing to settle, only somebody to name in the ledger.
    fn uncounted(&mut self) {
        if let Self::First { bill, values, .. } = self {
            let owner = std::mem::take(&mut bill.owner).uncounted();
            (**bill, *values) = (Bill { owner, ..Bill::default() }, Vec::new());
        }
    }

    /// Headers for the answers of those whose reservation was made before the last one's, in order: `count` of them.
    pub(super) fn headers_before(&self, request: &Request<'_>, count: usize) -> Vec<Vec<(String, String)>> {
        let Self::First { bill, values, .. } = self else { return Vec::new() };
        let after = |later: usize| {
            let later = u64::try_from(later).unwrap_or(u64::MAX);
            let pairs = values.iter().zip(&bill.required);
            let values: Vec<u64> =
                pairs.map(|(value, l)| value.saturating_sub(l.amount.saturating_mul(later))).collect();
            bill.headers(&values, request.now_ms)
        };
        (1..=count).rev().map(after).collect()
    }

    pub(super) fn told(self, request: &Request<'_>) -> Told {
        match self {
            Self::Later { owner, .. } => {
                Told { owner: owner.map(str::to_owned), headers: Vec::new(), alerts: Vec::new() }
            }
            Self::First { bill, values, .. } => {
                let audited = bill.overrun(&values).into_iter().map(|line| Alert::of(line, true));
                let soft = bill.alerts(&values).into_iter().map(|line| Alert::of(line, false));
                let alerts = audited.chain(soft).collect();
                let headers = bill.headers(&values, request.now_ms);
                Told { owner: bill.owner.encode(), headers, alerts }
            }
        }
    }
}

/// Room for everyone.
fn unlimited(request: &Request<'_>, legs: &[Leg<'_>]) -> Admission {
    let slot = Slot::of(request);
    let lease: Duration = lease(request, legs);
    let candidates = vec![Candidate { tier: 0, charges: Vec::new(), probe: None }];
    Admission { id: slot.id(), lease, required: Vec::new(), candidates, pick: Pick::First, renew: None }
}

/// Most that the request can cost where it may go first: nobody knows yet who will have room.
fn dearest(request: &Request<'_>, legs: &[Leg<'_>]) -> u64 {
    let Some(leg) = legs.first() else { return 0 };
    let cost = |member: &super::candidates::Member<'_>| {
        let model = leg.target.model(member.deployment);
        request.estimate.cost(request.snapshot.price(member.deployment, model.as_deref()).as_ref())
    };
    leg.members.iter().map(cost).max().unwrap_or(0)
}
