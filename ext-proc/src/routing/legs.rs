//! The way of a request: tiers of groups, one after the other, as far as it is looked at.

use std::collections::{BTreeMap, VecDeque};

use attache_llm::class::ErrorClass;
use rand::Rng;

use super::Deployment;
use super::budget::retries;
use super::candidates::{Filter, Member, Tally};
use super::chain::{Way, chain};
use super::names::Target;
use super::request::Request;
use super::strategy::{is_ranked, order};

/// One order tier of one group: what is tried before the next one.
#[derive(Debug, Clone)]
pub(super) struct Leg<'a> {
    pub(super) target: Target<'a>,
    pub(super) tier: u32,
    /// In order of preference; never empty.
    pub(super) members: Vec<Member<'a>>,
    /// A counter ranks them, not their order.
    pub(super) ranked: bool,
    /// Attempts made here in earlier passes.
    pub(super) done: u32,
}

/// The legs of a request, made as they are asked for: a group that is never looked at costs nothing.
pub(super) struct Line<'r, 'a> {
    request: &'r Request<'a>,
    pub(super) asked: Target<'a>,
    /// The name by which it was asked for.
    name: &'a str,
    ready: VecDeque<Leg<'a>>,
    upcoming: VecDeque<Target<'a>>,
    /// Fallback groups that may still be entered.
    hops: u32,
    pub(super) tally: Tally,
}

impl<'r, 'a> Line<'r, 'a> {
    /// Where the request may go, in order; from where it stands on a later pass.
    pub(super) fn new(
        request: &'r Request<'a>,
        (name, asked): (&'a str, Target<'a>),
        rng: &mut impl Rng,
    ) -> Self {
        let mut line = Self {
            request,
            asked,
            name,
            ready: VecDeque::new(),
            upcoming: VecDeque::new(),
            hops: request.snapshot.max_fallbacks,
            tally: Tally::default(),
        };
        match request.tried().last() {
            None => line.begin(rng),
            Some(last) => line.resume(&last.group, &last.deployment, last.class, rng),
        }
        line
    }

    fn begin(&mut self, rng: &mut impl Rng) {
        let legs = self.legs(self.asked, rng);
        self.ready.extend(legs);
        // Too long for all of them: only a larger context window helps.
        let way =
            if self.ready.is_empty() && self.tally.is_size() { Way::ContextWindow } else { Way::General };
        self.upcoming.extend(chain(self.request, way, &[self.asked], []));
    }

    /// On from a failure: the rest of its tier as its class allows, later tiers, then the groups of the class's list
    /// that were not tried.
    fn resume(&mut self, group: &str, deployment: &str, class: ErrorClass, rng: &mut impl Rng) {
        let request = self.request;
        let seen: Vec<&str> = groups_tried(request);
        let beyond = seen.iter().filter(|seen| **seen != self.asked.group.name);
        self.hops = self.hops.saturating_sub(u32::try_from(beyond.count()).unwrap_or(u32::MAX));
        let current = self.target_of(group);
        if let Some(way) = Way::of(class) {
            let starts = [current.unwrap_or(self.asked), self.asked];
            self.upcoming.extend(chain(request, way, &starts, seen));
        }
        let Some(current) = current else { return };
        let failed = request.snapshot.deployments.get(deployment);
        let tier = failed.map_or(u32::MAX, |d| d.order.unwrap_or(u32::MAX));
        let legs = self.legs(current, rng);
        let later = legs.iter().any(|leg| leg.tier > tier) || (self.hops > 0 && !self.upcoming.is_empty());
        for mut leg in legs {
            leg.done = done(request, &leg);
            if leg.tier == tier {
                let allowed = failed.map_or(0, |d| retries(request, &current, d, class));
                if leg.done > allowed {
                    continue;
                }
                if class == ErrorClass::RateLimit && later {
                    leg.members.retain(|member| member.deployment.meta.id != deployment);
                }
            } else if leg.tier < tier || Way::of(class) != Some(Way::General) {
                continue;
            }
            if !leg.members.is_empty() {
                self.ready.push_back(leg);
            }
        }
    }

    /// The target by which a group was tried. Its name matters for wildcard groups: the stars stand for it.
    fn target_of(&self, group: &str) -> Option<Target<'a>> {
        if self.asked.group.name == group {
            return Some(self.asked);
        }
        let ways = [Way::General, Way::ContextWindow, Way::ContentPolicy];
        let known = ways.into_iter().find_map(|way| {
            let chain = chain(self.request, way, &[self.asked], []);
            chain.into_iter().find(|target| target.group.name == group)
        });
        known.or_else(|| self.request.snapshot.groups.get(group).map(Target::group))
    }

    /// The next leg that has members.
    pub(super) fn next(&mut self, rng: &mut impl Rng) -> Option<Leg<'a>> {
        self.fill(rng);
        self.ready.pop_front()
    }

    /// Is there another leg?
    pub(super) fn has_next(&mut self, rng: &mut impl Rng) -> bool {
        self.fill(rng);
        !self.ready.is_empty()
    }

    /// A group without members is passed over and costs no hop.
    fn fill(&mut self, rng: &mut impl Rng) {
        while self.ready.is_empty() && self.hops > 0 {
            let Some(target) = self.upcoming.pop_front() else { return };
            let legs = self.legs(target, rng);
            if !legs.is_empty() {
                self.hops -= 1;
            }
            self.ready.extend(legs);
        }
    }

    /// The tiers of a group with those who may serve.
    fn legs(&mut self, target: Target<'a>, rng: &mut impl Rng) -> Vec<Leg<'a>> {
        let own = target.identity() == self.asked.identity();
        let filter = Filter::new(self.request, target, if own { self.name } else { target.name });
        let mut members = Vec::with_capacity(target.group.deployments.len());
        for deployment in &target.group.deployments {
            match filter.check(deployment) {
                Ok(member) => members.push(member),
                Err(excluded) => self.tally.note(excluded),
            }
        }
        let request = self.request;
        let mut leg = |tier: u32, mut members: Vec<Member<'a>>| {
            order(request, &target, &mut members, rng);
            if !request.tried().is_empty() {
                members.sort_by_key(|member| member.failed);
            }
            Leg { target, tier, members, ranked: is_ranked(request, &target), done: 0 }
        };
        split(members).into_iter().map(|(tier, members)| leg(tier, members)).collect()
    }
}

/// Members by tier, the lowest first.
fn split(members: Vec<Member<'_>>) -> Vec<(u32, Vec<Member<'_>>)> {
    let Some(first) = members.first().map(Member::tier) else { return Vec::new() };
    if members.iter().all(|member| member.tier() == first) {
        return vec![(first, members)];
    }
    let mut tiers: BTreeMap<u32, Vec<Member<'_>>> = BTreeMap::new();
    for member in members {
        tiers.entry(member.tier()).or_default().push(member);
    }
    tiers.into_iter().collect()
}

/// Groups that were tried, each once.
pub(super) fn groups_tried<'a>(request: &Request<'a>) -> Vec<&'a str> {
    let mut groups: Vec<&str> = Vec::new();
    for tried in request.tried() {
        if !groups.contains(&tried.group.as_str()) {
            groups.push(&tried.group);
        }
    }
    groups
}

/// Attempts made in a leg so far.
fn done(request: &Request<'_>, leg: &Leg<'_>) -> u32 {
    let tier = |d: &Deployment| d.order.unwrap_or(u32::MAX);
    let of_leg = request.tried().iter().filter(|tried| {
        let deployment = request.snapshot.deployments.get(&tried.deployment);
        tried.group == leg.target.group.name && deployment.is_some_and(|d| tier(d) == leg.tier)
    });
    u32::try_from(of_leg.count()).unwrap_or(u32::MAX)
}
