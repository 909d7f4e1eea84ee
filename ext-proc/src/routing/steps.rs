//! From the first step to the whole plan: what may follow without asking again, and where each class of error goes.

use std::collections::VecDeque;
use std::sync::Arc;

use attache_llm::class::ErrorClass;
use attache_llm::contract::{self, After, REPLAN_CLUSTER, Step, Walk};
use rand::Rng;

use super::admission::is_limited;
use super::budget::retries;
use super::chain::{Way, are_one, leads_on};
use super::legs::{Leg, Line, groups_tried};
use super::names::Target;
use super::request::Request;
use super::timeouts::{per_try, timeouts};
use super::{Deployment, PlanStep, Timeouts};

/// Attempts in a plan at most, whatever the configuration says.
pub const MAX_STEPS: usize = 12;

/// A plan before it is written down.
pub(super) struct Planned<'a> {
    pub(super) attempts: Vec<Attempt<'a>>,
    /// It ends by asking for another plan.
    pub(super) replan: bool,
    pub(super) timeouts: Timeouts,
    pub(super) walk: Option<Walk>,
}

/// One attempt.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attempt<'a> {
    pub(super) target: Target<'a>,
    pub(super) deployment: &'a Arc<Deployment>,
    /// Its number within its leg over all passes, from 1.
    number: u32,
    leg: usize,
    /// The next attempt in the leg would be on the same deployment.
    again: bool,
}

impl Planned<'_> {
    pub(super) fn to_steps(&self) -> Vec<PlanStep> {
        let attempts = self.attempts.iter().map(|attempt| PlanStep {
            deployment: attempt.deployment.meta.id.clone(),
            cluster: attempt.deployment.cluster.clone(),
            group: attempt.deployment.meta.group.clone(),
        });
        let replan = self.replan.then(|| PlanStep {
            deployment: String::new(),
            cluster: REPLAN_CLUSTER.to_owned(),
            group: String::new(),
        });
        attempts.chain(replan).collect()
    }
}

/// Plans from the chosen member, the first of the first leg.
pub(super) fn plan<'a>(
    request: &Request<'a>,
    line: &mut Line<'_, 'a>,
    legs: Vec<Leg<'a>>,
    rng: &mut impl Rng,
) -> Planned<'a> {
    let probe = legs.first().and_then(|leg| leg.members.first()).is_some_and(|member| member.half_open);
    let mut draft = Draft { request, legs: legs.into(), attempts: Vec::new(), replan: false, more: false };
    draft.fill(line, rng);
    let Draft { attempts, replan, more, .. } = draft;
    let deployments: Vec<&Deployment> = attempts.iter().map(|attempt| &**attempt.deployment).collect();
    let timeouts = timeouts(request, &deployments, replan);
    let ends = Ends { asked: line.asked, replan, more, probe };
    let walk = walk(request, &attempts, ends, timeouts);
    Planned { attempts, replan, timeouts, walk }
}

/// The plan as it grows.
struct Draft<'r, 'a> {
    request: &'r Request<'a>,
    legs: VecDeque<Leg<'a>>,
    attempts: Vec<Attempt<'a>>,
    replan: bool,
    /// Another leg follows the last one.
    more: bool,
}

/// What an attempt without an answer wants next. Nothing can be told of it to Envoy but the plan itself.
enum Silent {
    SameLeg,
    NextLeg,
    /// It depends on whether it was a timeout.
    Undecided,
}

impl<'a> Draft<'_, 'a> {
    fn fill(&mut self, line: &mut Line<'_, 'a>, rng: &mut impl Rng) {
        let mut number = 0;
        while let Some(leg) = self.legs.pop_front().or_else(|| line.next(rng)) {
            if self.leg(&leg, number) {
                break;
            }
            number += 1;
        }
        let more = !self.legs.is_empty() || line.has_next(rng);
        self.more = more;
        if self.attempts.len() > MAX_STEPS {
            // The last place is for asking how to go on; on the last pass there is nobody to ask.
            let replan = self.request.may_replan();
            self.attempts.truncate(if replan { MAX_STEPS - 1 } else { MAX_STEPS });
            (self.replan, self.more) = (replan, true);
        } else if self.replan && self.attempts.len() == MAX_STEPS {
            self.attempts.truncate(MAX_STEPS - 1);
        }
    }

    /// Adds the attempts of a leg; true when the plan ends with it.
    fn leg(&mut self, leg: &Leg<'a>, index: usize) -> bool {
        let mut number = leg.done;
        let mut at = 0;
        if index > 0 {
            match self.first_free(leg, 0) {
                Some(0) => {}
                _ if self.request.may_replan() => {
                    self.replan = true;
                    return true;
                }
                Some(free) => at = free,
                None => return false,
            }
        }
        loop {
            let Some(member) = leg.members.get(at) else { return false };
            let next = rotate(leg, at);
            number += 1;
            let again = next == at;
            let attempt =
                Attempt { target: leg.target, deployment: member.deployment, number, leg: index, again };
            self.attempts.push(attempt);
            if self.attempts.len() > MAX_STEPS {
                return true;
            }
            match self.silent(&attempt) {
                Silent::NextLeg => return false,
                Silent::Undecided if self.request.may_replan() => {
                    self.replan = true;
                    return true;
                }
                Silent::Undecided => return false,
                Silent::SameLeg => {}
            }
            if self.is_free(leg, next) {
                at = next;
            } else if self.request.may_replan() {
                self.replan = true;
                return true;
            } else {
                match self.first_free(leg, next) {
                    Some(free) => at = free,
                    None => return false,
                }
            }
        }
    }

    fn silent(&self, attempt: &Attempt<'a>) -> Silent {
        let again =
            |class| attempt.number <= retries(self.request, &attempt.target, attempt.deployment, class);
        match (again(ErrorClass::ServiceUnavailable), again(ErrorClass::Timeout)) {
            (true, true) => Silent::SameLeg,
            (false, false) => Silent::NextLeg,
            _ => Silent::Undecided,
        }
    }

    /// May the member follow without asking? It has no limits, nobody probes it, and Envoy's limit of an attempt, read
    /// once, is right for it.
    fn is_free(&self, leg: &Leg<'a>, at: usize) -> bool {
        let Some(member) = leg.members.get(at) else { return false };
        let deployment = member.deployment;
        let same_limit = self
            .attempts
            .first()
            .is_none_or(|first| per_try(self.request, first.deployment) == per_try(self.request, deployment));
        same_limit
            && !member.half_open
            && !is_limited(self.request.snapshot, &leg.target.group.strategy, deployment)
    }

    fn first_free(&self, leg: &Leg<'a>, from: usize) -> Option<usize> {
        let count = leg.members.len();
        (0..count).map(|step| (from + step) % count).find(|&at| self.is_free(leg, at))
    }
}

/// Round the leg; a half-open deployment is not for retries where there is another.
fn rotate(leg: &Leg<'_>, at: usize) -> usize {
    let count = leg.members.len();
    let others = (1..count).map(|step| (at + step) % count);
    others.into_iter().find(|&next| !leg.members[next].half_open).unwrap_or(at)
}

/// What stands after an attempt in the plan.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stands {
    SameLeg,
    NextLeg,
    Replan,
    Nothing,
}

/// What a plan is beside its attempts.
#[derive(Clone, Copy)]
struct Ends<'a> {
    asked: Target<'a>,
    replan: bool,
    more: bool,
    probe: bool,
}

/// `None` when Envoy's own walk and the adapter's defaults say the same.
fn walk<'a>(
    request: &Request<'a>,
    attempts: &[Attempt<'a>],
    ends: Ends<'a>,
    timeouts: Timeouts,
) -> Option<Walk> {
    let Ends { asked, replan, more, probe } = ends;
    let mut steps: Vec<Step> = Vec::with_capacity(attempts.len() + 1);
    let mut plain = !replan && !probe;
    let mut special = (usize::MAX, [false; 2]);
    for (index, attempt) in attempts.iter().enumerate() {
        let next = attempts.get(index + 1);
        let stands = match next {
            Some(next) if next.leg == attempt.leg => Stands::SameLeg,
            Some(_) => Stands::NextLeg,
            None if replan => Stands::Replan,
            None => Stands::Nothing,
        };
        if special.0 != attempt.leg {
            special = (attempt.leg, special_ways(request, asked, attempts, attempt));
        }
        let onward = more || attempts.last().is_some_and(|last| last.leg > attempt.leg);
        let after = after(request, attempt, stands, onward, special.1);
        let model = attempt.target.model(attempt.deployment);
        let again = next.is_some_and(|next| next.deployment.meta.id == attempt.deployment.meta.id);
        plain &= after.is_empty() && model.is_none() && !again;
        steps.push(Step { deployment: attempt.deployment.meta.id.clone(), model, after });
    }
    if plain {
        return None;
    }
    if replan {
        steps.push(Step::default());
    }
    let per_try_ms = timeouts.per_try.map_or(0, |limit| u64::try_from(limit.as_millis()).unwrap_or(u64::MAX));
    let min_wait_s = request.snapshot.retry_after.as_millis().div_ceil(1_000);
    let min_wait_s = u64::try_from(min_wait_s).unwrap_or(u64::MAX);
    Some(Walk { contract: contract::VERSION, per_try_ms, min_wait_s, steps, probe })
}

/// Is there a group for context windows, and for content policies, after this attempt's leg?
fn special_ways<'a>(
    request: &Request<'a>,
    asked: Target<'a>,
    attempts: &[Attempt<'a>],
    attempt: &Attempt<'a>,
) -> [bool; 2] {
    let mut seen = groups_tried(request);
    seen.extend(attempts.iter().filter(|a| a.leg <= attempt.leg).map(|a| a.target.identity()));
    let mut groups: Vec<&str> = seen.iter().copied().filter(|group| *group != asked.identity()).collect();
    groups.sort_unstable();
    groups.dedup();
    let hops = u32::try_from(groups.len()).unwrap_or(u32::MAX);
    if hops >= request.snapshot.max_fallbacks {
        return [false; 2];
    }
    let has = |way| leads_on(request, way, &[attempt.target, asked], seen.iter().copied());
    let context = has(Way::ContextWindow);
    let content = match are_one(request, Way::ContextWindow, Way::ContentPolicy) {
        true => context,
        false => has(Way::ContentPolicy),
    };
    [context, content]
}

/// Where each class goes after an attempt, as far as that is not what it would do by itself.
fn after(
    request: &Request<'_>,
    attempt: &Attempt<'_>,
    stands: Stands,
    onward: bool,
    special: [bool; 2],
) -> Vec<(ErrorClass, After)> {
    let replan = if request.may_replan() { After::Replan } else { After::Stop };
    let rule = |class: ErrorClass| {
        let again = attempt.number <= retries(request, &attempt.target, attempt.deployment, class);
        // Where it would have to wait for the deployment that is overloaded, the next group is better.
        let again = again && !(class == ErrorClass::RateLimit && attempt.again && onward);
        let special = match class {
            ErrorClass::ContextWindow => special[0],
            ErrorClass::ContentPolicy => special[1],
            _ => false,
        };
        match stands {
            Stands::SameLeg | Stands::Replan if again => After::Next,
            _ if again => replan,
            _ if special => replan,
            _ if !class.is_retriable() => After::Stop,
            Stands::NextLeg => After::Next,
            Stands::Replan if onward => After::Next,
            _ if onward => replan,
            Stands::Nothing => After::default_for(class),
            Stands::SameLeg | Stands::Replan => After::Stop,
        }
    };
    let rules = ErrorClass::ALL.into_iter().map(|class| (class, rule(class)));
    rules.filter(|(class, rule)| *rule != After::default_for(*class)).collect()
}
