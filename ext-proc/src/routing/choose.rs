//! The first step: straight away where nothing has to be asked, else by one atomic question to the counters.

use std::time::Duration;

use rand::Rng;

use super::admission::{Kind, Meter, Slot, is_limited, kinds};
use super::legs::{Leg, Line};
use super::request::Request;
use super::timeouts::{MAX_TOTAL, per_try, whole};
use super::{Deployment, MAX_STEPS};
use crate::store::{Admission, Candidate, Counter, Limited, Pick};

/// A reservation outlives its request by this much, so that the usage record always finds it.
pub(super) const LEASE_MARGIN: Duration = Duration::from_secs(30);
/// Candidates of one question at most. A counter that ranks more than this ranks a random part of them.
const MAX_CANDIDATES: usize = 512;
/// Counter that is always 0, so that in a question that ranks by a counter an ordered tier keeps its order.
const LEVEL: &str = "level";

/// What there is to choose from.
pub(super) struct Field<'a> {
    /// At least one leg with one member.
    pub(super) legs: Vec<Leg<'a>>,
    /// To ask before anything is chosen, and the member (leg, place) of each candidate; `None`: the first member of the
    /// first leg may be used as it is.
    pub(super) question: Option<(Admission, Vec<(usize, usize)>)>,
}

/// Looks as far along the line as it must.
pub(super) fn field<'a>(
    request: &Request<'a>,
    line: &mut Line<'_, 'a>,
    rng: &mut impl Rng,
) -> Option<Field<'a>> {
    let mut legs = vec![line.next(rng)?];
    let free = {
        let leg = &legs[0];
        !leg.ranked && is_sure(request, leg, 0)
    };
    if free {
        return Some(Field { legs, question: None });
    }
    // Until somebody is sure to have room.
    while !legs.last().is_some_and(|leg| (0..leg.members.len()).any(|at| is_sure(request, leg, at))) {
        let Some(leg) = line.next(rng) else { break };
        legs.push(leg);
    }
    let question = question(request, &legs);
    Some(Field { legs, question: Some(question) })
}

/// Will it take the request whatever the counters say?
fn is_sure(request: &Request<'_>, leg: &Leg<'_>, at: usize) -> bool {
    let Some(member) = leg.members.get(at) else { return false };
    !member.half_open && !is_limited(request.snapshot, &leg.target.group.strategy, member.deployment)
}

/// One candidate per member, tiers rising; those that have not failed first.
fn question(request: &Request<'_>, legs: &[Leg<'_>]) -> (Admission, Vec<(usize, usize)>) {
    let lease = lease(request, legs);
    let meter = Meter::new(request.snapshot, request.minute());
    let any_ranked = legs.iter().any(|leg| leg.ranked);
    let level = any_ranked.then(|| Counter::new(LEVEL, 0));
    let count = legs.iter().map(|leg| leg.members.len()).sum::<usize>().min(MAX_CANDIDATES);
    let (mut candidates, mut places) = (Vec::with_capacity(count), Vec::with_capacity(count));
    let mut tier = 0_u32;
    for (index, leg) in legs.iter().enumerate() {
        let mut failed = leg.members.first().map_or(0, |member| member.failed);
        for (place, member) in leg.members.iter().enumerate() {
            if candidates.len() >= MAX_CANDIDATES {
                break;
            }
            if member.failed != failed {
                failed = member.failed;
                tier = tier.saturating_add(1);
            }
            let deployment: &Deployment = member.deployment;
            let kinds = kinds(request.snapshot, &leg.target.group.strategy, deployment);
            let costs =
                kinds.iter().flatten().any(|(kind, _)| matches!(kind, Kind::Budget | Kind::ProviderBudget));
            let price = costs.then(|| {
                let model = leg.target.model(deployment);
                request.snapshot.price(deployment, model.as_deref())
            });
            let price = price.flatten();
            let mut charges = meter.reserve(deployment, &kinds, request.estimate, price.as_ref(), lease);
            if let Some(level) = level.as_ref().filter(|_| !leg.ranked && !charges.is_empty()) {
                let level = Limited::new(level.clone(), 0, Duration::from_secs(60), None);
                charges.insert(0, level);
            }
            let probe = member.half_open.then(|| deployment.meta.id.clone());
            candidates.push(Candidate { tier, charges, probe });
            places.push((index, place));
        }
        tier = tier.saturating_add(1);
    }
    let slot = Slot::of(request);
    let pick = if any_ranked { Pick::Lowest(0) } else { Pick::First };
    (Admission { id: slot.id(), lease, required: Vec::new(), candidates, pick, renew: None }, places)
}

/// As long as the plan may take, whoever is chosen: where everyone has limits there is one attempt per pass, else as many
/// as a plan may have. The request is held within it.
pub(super) fn lease(request: &Request<'_>, legs: &[Leg<'_>]) -> Duration {
    let (mut longest, mut limited) = (Duration::ZERO, true);
    for leg in legs {
        for (at, member) in leg.members.iter().enumerate() {
            let whole = whole(request, member.deployment);
            if whole.is_zero() {
                return MAX_TOTAL.saturating_add(LEASE_MARGIN);
            }
            longest = longest.max(whole).max(per_try(request, member.deployment));
            limited &= !is_sure(request, leg, at);
        }
    }
    let attempts = if limited { 1 } else { u32::try_from(MAX_STEPS).unwrap_or(1) };
    longest.saturating_mul(attempts).min(MAX_TOTAL.max(longest)).saturating_add(LEASE_MARGIN)
}

/// The chosen leg with its chosen member first, and the legs after it.
pub(super) fn chosen<'a>(mut legs: Vec<Leg<'a>>, (leg, place): (usize, usize)) -> Vec<Leg<'a>> {
    legs.drain(..leg.min(legs.len()));
    if let Some(first) = legs.first_mut().filter(|first| place < first.members.len()) {
        let member = first.members.remove(place);
        first.members.insert(0, member);
    }
    legs
}

/// Why nobody has room, from the answer of the counters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Fullness {
    /// Seconds until the first may have room.
    pub(super) wait_s: Option<u64>,
    /// All that have no room lack money.
    pub(super) only_budgets: bool,
    /// All that have no room are being probed.
    pub(super) only_probes: bool,
}

pub(super) fn fullness(
    request: &Request<'_>,
    legs: &[Leg<'_>],
    places: &[(usize, usize)],
    full: &[Option<usize>],
) -> Fullness {
    let meter = Meter::new(request.snapshot, request.minute());
    let any_ranked = legs.iter().any(|leg| leg.ranked);
    let mut out = Fullness { wait_s: None, only_budgets: true, only_probes: true };
    for (&(leg, place), charge) in places.iter().zip(full) {
        let Some(leg) = legs.get(leg) else { continue };
        let Some(member) = leg.members.get(place) else { continue };
        let kinds = kinds(request.snapshot, &leg.target.group.strategy, member.deployment);
        let levelled = usize::from(any_ranked && !leg.ranked);
        let kind = charge.and_then(|at| kinds.iter().flatten().nth(at.checked_sub(levelled)?));
        let wait = kind.map_or(1, |(kind, _)| meter.wait(member.deployment, *kind, request.now_ms));
        out.wait_s = Some(out.wait_s.map_or(wait, |first| first.min(wait)));
        out.only_probes &= kind.is_none();
        out.only_budgets &= matches!(kind, Some((Kind::Budget | Kind::ProviderBudget, _)));
    }
    out
}
