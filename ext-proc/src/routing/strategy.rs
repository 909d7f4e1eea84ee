//! In which order the deployments of a tier are preferred.

use attache_llm::price::{Item, Price};
use rand::Rng;
use rand::seq::SliceRandom;

use super::candidates::Member;
use super::names::Target;
use super::request::Request;
use super::{Affinity, Deployment, LatencyArgs, Strategy};
use crate::store::Speed;

/// Orders members by the strategy of their group, or by the session's preference where affinity is on. Strategies that
/// rank by a counter only shuffle here: the counters choose.
pub(super) fn order(
    request: &Request<'_>,
    target: &Target<'_>,
    members: &mut Vec<Member<'_>>,
    rng: &mut impl Rng,
) {
    if let Some(session) = session(request) {
        return by_weight(members, |deployment| preference(session, &deployment.meta.id));
    }
    match &target.group.strategy {
        Strategy::SimpleShuffle => by_weight(members, |_| rng.random()),
        Strategy::UsageBased | Strategy::LeastBusy => members.shuffle(rng),
        Strategy::Latency(args) => by_latency(request, args, members, rng),
        Strategy::Cost => {
            let price = |member: &Member<'_>| {
                let model = target.model(member.deployment);
                let price = request.snapshot.price(member.deployment, model.as_deref());
                let rate = |price: &Price, item| price.base(item).unwrap_or(0);
                price.map_or(u64::MAX, |price| {
                    rate(&price, Item::Input).saturating_add(rate(&price, Item::Output))
                })
            };
            members.shuffle(rng);
            members.sort_by_cached_key(price);
        }
    }
}

/// Does the strategy leave the choice to a counter?
pub(super) fn is_ranked(request: &Request<'_>, target: &Target<'_>) -> bool {
    matches!(target.group.strategy, Strategy::UsageBased | Strategy::LeastBusy) && session(request).is_none()
}

/// Weighted random without replacement: by `weight`, else by `rpm`, else by `tpm`, else evenly. Those without a weight
/// beside weighted ones come last. `uniform` is in `0..1`.
fn by_weight(members: &mut Vec<Member<'_>>, mut uniform: impl FnMut(&Deployment) -> f64) {
    if members.len() < 2 {
        return;
    }
    let weight = dimension(members);
    let key = |member: &Member<'_>| {
        let weight = weight(member.deployment);
        let uniform = uniform(member.deployment);
        // Without a weight: after all others, in random order.
        (weight == 0, if weight == 0 { uniform } else { arrival(weight, uniform) })
    };
    let mut keyed: Vec<((bool, f64), Member<'_>)> = Vec::with_capacity(members.len());
    let mut key = key;
    keyed.extend(members.iter().map(|member| (key(member), *member)));
    keyed.sort_unstable_by(|(a, _), (b, _)| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
    members.clear();
    members.extend(keyed.into_iter().map(|(_, member)| member));
}

type Weight = fn(&Deployment) -> u64;

/// The first dimension in which anyone has a weight.
fn dimension(members: &[Member<'_>]) -> Weight {
    const DIMENSIONS: [Weight; 3] =
        [|d| d.weight.unwrap_or(0), |d| d.rpm.unwrap_or(0), |d| d.tpm.unwrap_or(0)];
    DIMENSIONS.into_iter().find(|weight| members.iter().any(|m| weight(m.deployment) > 0)).unwrap_or(|_| 1)
}

/// Exponential arrival time with rate `weight`: the order of arrival is weighted sampling without replacement.
fn arrival(weight: u64, uniform: f64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a weight beyond 2^53 need not be exact")]
    let rate = weight as f64;
    -(1.0 - uniform).ln() / rate
}

/// Those within the buffer of the lowest mean, in random order; then the others by their mean. One without samples takes
/// part as if it were the fastest: it is tried soon, but not by everyone at once.
fn by_latency(request: &Request<'_>, args: &LatencyArgs, members: &mut Vec<Member<'_>>, rng: &mut impl Rng) {
    let speed = if request.ask.stream { Speed::FirstEvent } else { Speed::PerToken };
    let mean = |member: &Member<'_>| request.speeds.of(&member.deployment.meta.id, speed);
    let mut keyed: Vec<(Option<u64>, Member<'_>)> = members.iter().map(|m| (mean(m), *m)).collect();
    let Some(lowest) = keyed.iter().filter_map(|(mean, _)| *mean).min() else {
        return members.shuffle(rng);
    };
    #[expect(clippy::cast_precision_loss, reason = "microseconds of a request")]
    let within = |mean: u64| mean as f64 <= lowest as f64 * (1.0 + args.buffer.max(0.0));
    keyed.shuffle(rng);
    keyed.sort_by_key(|(mean, _)| mean.filter(|&mean| !within(mean)).unwrap_or(lowest));
    members.clear();
    members.extend(keyed.into_iter().map(|(_, member)| member));
}

/// What keeps the request on one deployment, if anything does.
fn session<'r>(request: &'r Request<'_>) -> Option<[&'r str; 2]> {
    let ask = request.ask;
    let own = || ask.wishes.session.as_deref().map(|session| [session, ""]);
    match request.snapshot.affinity? {
        Affinity::Session => own(),
        Affinity::Caller => Some(own().unwrap_or([&ask.key, ask.user.as_deref().unwrap_or_default()])),
    }
}

/// Rendezvous hashing: a number in `0..1`, the same on every replica and in every version. When a deployment goes, only
/// its own sessions move.
fn preference(session: [&str; 2], deployment: &str) -> f64 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    let parts = [session[0], session[1], deployment];
    let bytes = parts.iter().flat_map(|part| part.bytes().chain([0xff]));
    let mut hash = bytes.fold(OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME));
    // FNV alone spreads names that differ in their last letter badly.
    for multiplier in [0xff51_afd7_ed55_8ccd, 0xc4ce_b9fe_1a85_ec53] {
        hash = (hash ^ (hash >> 33)).wrapping_mul(multiplier);
    }
    hash ^= hash >> 33;
    #[expect(clippy::cast_precision_loss, reason = "53 bits are enough")]
    let unit = (hash >> 11) as f64;
    unit / 9_007_199_254_740_992.0
}

#[cfg(test)]
#[path = "strategy_tests.rs"]
mod tests;
