use std::sync::Arc;
use std::time::Duration;

use attache_llm::error::ApiError;
use rand::Rng;

use super::order::order;
use super::{Access, Breaker, Breakers, Deployment, Group, LiveClusters, PlanStep, Snapshot, refusal};

/// Attempts in a plan at most, whatever the configuration says.
pub const MAX_STEPS: usize = 12;
/// Key of the default fallbacks in [`Snapshot::fallbacks`].
const DEFAULT_FALLBACKS: &str = "*";

/// What is known of the deployments' health at the moment of the decision.
pub(super) struct Health<'a> {
    pub(super) live: &'a dyn LiveClusters,
    pub(super) breakers: &'a Breakers,
    /// Unix milliseconds.
    pub(super) now_ms: u64,
}

/// The plan and what it was made from.
#[derive(Debug)]
pub(super) struct Planned {
    /// Group asked for, after aliases.
    pub(super) group: String,
    /// Attempts in order; never empty.
    pub(super) steps: Vec<Arc<Deployment>>,
}

impl Planned {
    pub(super) fn to_steps(&self) -> Vec<PlanStep> {
        let step = |d: &Arc<Deployment>| PlanStep {
            deployment: d.meta.id.clone(),
            cluster: d.cluster.clone(),
            group: d.meta.group.clone(),
        };
        self.steps.iter().map(step).collect()
    }
}

/// Plans the request for `model` (as the client named it).
///
/// Access comes before existence, so that a key cannot find out which models exist that it may not use.
pub(super) fn plan(
    snapshot: &Snapshot,
    access: &Access<'_>,
    health: &Health<'_>,
    model: &str,
    rng: &mut impl Rng,
) -> Result<Planned, ApiError> {
    let name = resolve(snapshot, model);
    let group = snapshot.groups.get(name);
    // The list may name the alias or the group behind it.
    if !access.allows(name, group.map(|g| &**g)) && !access.allows(model, None) {
        return Err(ApiError::model_access_denied(model));
    }
    let Some(group) = group else { return Err(ApiError::model_not_found(model)) };

    let mut cooling = Cooling::default();
    let mut ordered: Vec<Vec<&Arc<Deployment>>> = Vec::new();
    let mut hops = 0;
    for (index, group) in chain(snapshot, access, group).into_iter().enumerate() {
        let fallback = index > 0;
        if fallback && hops >= snapshot.max_fallbacks {
            break;
        }
        let candidates = candidates(group, health, &mut cooling);
        if candidates.is_empty() {
            continue;
        }
        hops += u32::from(fallback);
        ordered.push(order(&candidates, rng));
    }
    let steps = steps(&ordered, snapshot.num_retries);
    if steps.is_empty() {
        return Err(cooling.refusal(name, health.now_ms));
    }
    Ok(Planned { group: name.to_owned(), steps })
}

/// The group behind an alias, or the name itself.
fn resolve<'a>(snapshot: &'a Snapshot, model: &'a str) -> &'a str {
    snapshot.aliases.get(model).map_or(model, String::as_str)
}

/// The group, then its own fallbacks, then the default ones: those that exist and that the key may use, each once.
fn chain<'a>(snapshot: &'a Snapshot, access: &Access<'_>, first: &'a Arc<Group>) -> Vec<&'a Group> {
    let named = snapshot.fallbacks.get(&first.name).into_iter().flatten();
    let default = snapshot.fallbacks.get(DEFAULT_FALLBACKS).into_iter().flatten();
    let mut groups: Vec<&Group> = vec![first];
    for fallback in named.chain(default) {
        let Some(group) = snapshot.groups.get(resolve(snapshot, fallback)) else { continue };
        let known = groups.iter().any(|g| g.name == group.name);
        if !known && access.allows(&group.name, Some(group)) {
            groups.push(group);
        }
    }
    groups
}

/// Deployments that may be tried: live in Envoy and not cooling.
fn candidates<'a>(group: &'a Group, health: &Health<'_>, cooling: &mut Cooling) -> Vec<&'a Arc<Deployment>> {
    let live = group.deployments.iter().filter(|d| health.live.is_live(&d.cluster));
    live.filter(|d| match health.breakers.state(&d.meta.id, health.now_ms) {
        Breaker::Open { until_ms } => {
            cooling.note(until_ms);
            false
        }
        Breaker::Closed | Breaker::HalfOpen => true,
    })
    .collect()
}

/// Goes round each group's deployments `1 + retries` times. Where that exceeds [`MAX_STEPS`], earlier groups are
/// shortened first but one, so that every group keeps at least one attempt.
fn steps(groups: &[Vec<&Arc<Deployment>>], retries: u32) -> Vec<Arc<Deployment>> {
    let groups = groups.get(..MAX_STEPS.min(groups.len())).unwrap_or_default();
    let wanted = usize::try_from(retries).unwrap_or(MAX_STEPS).saturating_add(1);
    let mut steps = Vec::new();
    for (index, group) in groups.iter().enumerate() {
        let later = groups.len() - index - 1;
        let room = MAX_STEPS.saturating_sub(steps.len()).saturating_sub(later);
        steps.extend(group.iter().cycle().take(wanted.min(room)).map(|d| Arc::clone(d)));
    }
    steps
}

/// What was left out because it cools: it says when to come back.
#[derive(Default)]
struct Cooling {
    first_back_ms: Option<u64>,
}

impl Cooling {
    fn note(&mut self, until_ms: u64) {
        self.first_back_ms = Some(self.first_back_ms.map_or(until_ms, |first| first.min(until_ms)));
    }

    fn refusal(&self, group: &str, now_ms: u64) -> ApiError {
        match self.first_back_ms {
            Some(until) => {
                let wait = Duration::from_millis(until.saturating_sub(now_ms));
                refusal::all_cooling(group, wait.as_millis().div_ceil(1_000).try_into().unwrap_or(u64::MAX))
            }
            None => refusal::no_live_cluster(group),
        }
    }
}
