//! Decisions and settlements over doubles; the builders here serve the unit tests beside the code too.

mod admitting;
mod callers;
mod decisions;
mod leases;
mod names;
mod passes;
mod plans;
mod selecting;
mod settling;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use attache_llm::class::ErrorClass;
use attache_llm::contract::{
    After, Ask, AttemptOutcome, AttemptRecord, DeploymentMeta, MASTER_KEY_HASH, Replan, Tried, UsageRecord,
    VERSION, Wishes,
};
use attache_llm::path::Endpoint;
use attache_llm::provider::Provider;
use parking_lot::Mutex;

use super::*;
use crate::entity::{Entity, EntityKind, EntityRef, Holder, Principal};
use crate::keys::Who;
use crate::limits::Question;
use crate::store::{
    Admission, Admitted, Circuit, Correction, Counter, Counters, Memory, Observation, Place, Sample,
    Settlement, Standing, StoreError, Transition, UsageSum,
};

pub(crate) fn deployment(id: &str, group: &str) -> Deployment {
    let meta = serde_json::json!({
        "contract": VERSION, "id": id, "group": group, "provider": "openai", "model": "gpt-4o",
        "authority": "localhost", "base_path": "/v1",
    });
    let meta: DeploymentMeta = serde_json::from_value(meta).unwrap();
    assert_eq!(meta.provider, Provider::Openai);
    Deployment {
        cluster: format!("{group}/openai/{id}"),
        host: "localhost".into(),
        port: 80,
        tls: false,
        credential: None,
        ..Deployment::new(meta)
    }
}

pub(crate) fn group(name: &str, deployments: Vec<Deployment>) -> Group {
    Group {
        name: name.into(),
        deployments: deployments.into_iter().map(Arc::new).collect(),
        ..Group::default()
    }
}

pub(crate) fn snapshot(groups: Vec<Group>) -> Snapshot {
    let all = groups.iter().flat_map(|g| &g.deployments);
    let deployments = all.map(|d| (d.meta.id.clone(), Arc::clone(d))).collect();
    Snapshot {
        generation: 3,
        deployments,
        groups: groups.into_iter().map(|g| (g.name.clone(), Arc::new(g))).collect(),
        num_retries: 2,
        max_fallbacks: 5,
        cooldown: Duration::from_secs(5),
        timeout: Duration::from_secs(600),
        ..Snapshot::default()
    }
}

/// Two groups: `gpt` (a, b) falling back to `claude` (c).
fn two_groups() -> Snapshot {
    let mut s = snapshot(vec![
        group("gpt", vec![deployment("a", "gpt"), deployment("b", "gpt")]),
        group("claude", vec![deployment("c", "claude")]),
    ]);
    s.fallbacks.insert("gpt".into(), vec!["claude".into()]);
    s
}

/// Every cluster is live but those named.
#[derive(Default, Clone)]
pub(super) struct Live {
    dead: HashSet<String>,
}

impl LiveView for Live {
    fn is_live(&self, cluster: &str) -> bool {
        !self.dead.contains(cluster)
    }
}

impl LiveClusters for Live {
    fn view(&self) -> Arc<dyn LiveView> {
        Arc::new(self.clone())
    }

    fn ready(&self) -> bool {
        true
    }
}

#[derive(Default)]
pub(super) struct FakeKeys {
    rows: HashMap<String, Principal>,
    used: HashMap<EntityRef, UsageSum>,
    away: bool,
    /// The ledger does not answer.
    no_usage: bool,
}

#[async_trait]
impl Keys for FakeKeys {
    async fn principal(&self, id: &str, who: &Who<'_>) -> Result<Option<Principal>, StoreError> {
        if id != MASTER_KEY_HASH && self.away {
            return Err(StoreError::Unavailable { backend: "postgres", reason: "gone".into() });
        }
        let master = (id == MASTER_KEY_HASH).then(Principal::default);
        let mut found = self.rows.get(id).cloned().or(master);
        if let Some(principal) = &mut found {
            principal.end_user =
                who.end_user.map(|user| (user.to_owned(), None)).or(principal.end_user.take());
            principal.tags.extend(who.tags.iter().map(|tag| (tag.clone(), None)));
        }
        Ok(found)
    }

    async fn used(&self, questions: &[Question]) -> Result<Vec<UsageSum>, StoreError> {
        match self.away || self.no_usage {
            true => Err(StoreError::Unavailable { backend: "postgres", reason: "gone".into() }),
            false => {
                Ok(questions.iter().map(|q| self.used.get(&q.of).copied().unwrap_or_default()).collect())
            }
        }
    }
}

/// Counters that count, and note what they were told; away when told to be.
#[derive(Default)]
pub(crate) struct FakeCounters {
    pub(crate) away: bool,
    pub(crate) inner: Memory,
    pub(crate) admitted: Mutex<Vec<Admission>>,
    pub(crate) settled: Mutex<Vec<Settlement>>,
    pub(crate) observed: Mutex<Vec<Observation>>,
    pub(crate) circuits: Mutex<Vec<Circuit>>,
    pub(crate) samples: Mutex<Vec<(Vec<Sample>, usize, Duration)>>,
}

impl FakeCounters {
    fn check(&self) -> Result<(), StoreError> {
        match self.away {
            true => Err(StoreError::Unavailable { backend: "redis", reason: "gone".into() }),
            false => Ok(()),
        }
    }
}

#[async_trait]
impl Counters for FakeCounters {
    async fn place(&self, admission: &Admission) -> Result<Place, StoreError> {
        self.check()?;
        self.admitted.lock().push(admission.clone());
        self.inner.place(admission).await
    }

    async fn place_all(&self, admission: &Admission, more: &[String]) -> Result<Place, StoreError> {
        self.check()?;
        self.admitted.lock().push(admission.clone());
        self.inner.place_all(admission, more).await
    }

    async fn settle_all(&self, settlements: &[Settlement]) -> Result<Vec<bool>, StoreError> {
        self.check()?;
        self.settled.lock().extend_from_slice(settlements);
        self.inner.settle_all(settlements).await
    }

    async fn observe(&self, outcomes: &[Observation]) -> Result<Vec<Transition>, StoreError> {
        self.check()?;
        self.observed.lock().extend_from_slice(outcomes);
        Counters::observe(&self.inner, outcomes).await
    }

    async fn circuits(&self) -> Result<Vec<Circuit>, StoreError> {
        self.check()?;
        Ok(self.circuits.lock().clone())
    }

    async fn values(&self, counters: &[Counter]) -> Result<Vec<u64>, StoreError> {
        self.check()?;
        self.inner.values(counters).await
    }

    async fn add_samples(&self, samples: &[Sample], keep: usize, ttl: Duration) -> Result<(), StoreError> {
        self.check()?;
        self.samples.lock().push((samples.to_vec(), keep, ttl));
        self.inner.add_samples(samples, keep, ttl).await
    }

    async fn samples(&self) -> Result<Vec<Sample>, StoreError> {
        self.check()?;
        self.inner.samples().await
    }

    async fn standing(
        &self,
        counters: &[Counter],
        turn: Duration,
    ) -> Result<Option<Vec<Option<Standing>>>, StoreError> {
        self.check()?;
        self.inner.standing(counters, turn).await
    }

    async fn correct(&self, corrections: &[Correction]) -> Result<bool, StoreError> {
        self.check()?;
        self.inner.correct(corrections).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.check()
    }
}

pub(super) struct World {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) keys: FakeKeys,
    pub(super) fake: Arc<FakeCounters>,
    pub(super) live: Live,
    pub(super) breakers: Arc<Breakers>,
    pub(super) speeds: Arc<Speeds>,
    pub(super) probes: Arc<Probes>,
}

impl World {
    pub(super) fn new(snapshot: Snapshot) -> Self {
        Self {
            snapshot: Arc::new(snapshot),
            keys: FakeKeys::default(),
            fake: Arc::default(),
            live: Live::default(),
            breakers: Breakers::new(),
            speeds: Speeds::new(),
            probes: Probes::new(),
        }
    }

    fn with_key(self, id: &str, change: impl FnOnce(&mut Entity)) -> Self {
        self.with_team_key(id, change, None)
    }

    fn with_team_key(mut self, id: &str, change: impl FnOnce(&mut Entity), team: Option<Entity>) -> Self {
        let mut key = Entity { name: "sk-...abcd".into(), ..Entity::new(EntityKind::Key, id) };
        key.team_id = team.as_ref().map(|team| team.id.clone());
        change(&mut key);
        let holder = |entity| Holder::own(Arc::new(entity));
        let principal = Principal { key: Some(holder(key)), team: team.map(holder), ..Principal::default() };
        self.keys.rows.insert(id.into(), principal);
        self
    }

    fn counters(&self) -> Arc<dyn Counters> {
        Arc::clone(&self.fake) as Arc<dyn Counters>
    }

    fn context<'a>(&'a self, counters: &'a Arc<dyn Counters>) -> Context<'a> {
        Context {
            snapshot: Arc::clone(&self.snapshot),
            keys: &self.keys,
            counters,
            live: &self.live,
            breakers: &self.breakers,
            speeds: &self.speeds,
            probes: &self.probes,
        }
    }

    pub(super) async fn decide(&self, ask: &Ask) -> Verdict {
        decide(&self.context(&self.counters()), ask).await
    }

    pub(super) async fn lease(&self, ask: &Ask, calls: &[&str]) -> Option<(Decision, u64)> {
        let calls: Vec<String> = calls.iter().map(|call| (*call).to_owned()).collect();
        lease(&self.context(&self.counters()), ask, &calls).await
    }

    pub(super) async fn explain(&self, ask: &Ask) -> Result<Explanation, attache_llm::error::ApiError> {
        explain(&self.context(&self.counters()), ask).await
    }

    /// Opens a breaker until `now + ms`; a negative time makes it half-open.
    pub(super) fn open(&self, deployment: &str, ms: i64) {
        let until_ms = now_ms().saturating_add_signed(ms);
        let circuit = Circuit { deployment: deployment.into(), until_ms, reason: "rate_limit 429".into() };
        self.breakers.apply(&[Transition::Opened(circuit)]);
    }

    async fn settle(&self, record: &UsageRecord) -> Settled {
        let records = std::slice::from_ref(record);
        self.settle_all(records).await[0]
    }

    async fn settle_all(&self, records: &[UsageRecord]) -> Vec<Settled> {
        let rows: Vec<_> = records.iter().map(|record| crate::ledger::row(record, &self.snapshot)).collect();
        settle(&self.snapshot, &self.counters(), &self.breakers, &self.speeds, records, &rows).await
    }
}

pub(super) fn ask(key: &str, model: &str) -> Ask {
    Ask {
        contract: VERSION,
        call_id: "call-1".into(),
        key: key.into(),
        endpoint: Endpoint::ChatCompletions,
        model: model.into(),
        stream: false,
        input_tokens: 40,
        max_tokens: Some(60),
        n: None,
        needs: Vec::new(),
        user: None,
        wishes: Wishes::default(),
        replan: None,
        explain: false,
        again: 0,
    }
}

fn attempt(deployment: &str, outcome: AttemptOutcome, status: u16) -> AttemptRecord {
    AttemptRecord {
        deployment: deployment.into(),
        cluster: format!("gpt/openai/{deployment}"),
        group: "gpt".into(),
        outcome,
        status,
        retry_after_s: None,
        usage: None,
        ..AttemptRecord::default()
    }
}

fn record(reservation: Option<String>, attempts: Vec<AttemptRecord>) -> UsageRecord {
    UsageRecord {
        call_id: "call-1".into(),
        key: MASTER_KEY_HASH.into(),
        endpoint: Endpoint::ChatCompletions,
        model: "gpt".into(),
        group: "gpt".into(),
        reservation,
        owner: None,
        replans: 0,
        stream: false,
        user: None,
        start_us: 0,
        duration_us: 0,
        first_event_us: None,
        status: 200,
        details: String::new(),
        aborted: false,
        input_estimate: 40,
        request_id: String::new(),
        attempts,
        prompt: None,
        answer: None,
    }
}

/// Deployments of the plan; `>` is the step that asks for another.
fn deployments(decision: &Decision) -> Vec<&str> {
    let name = |step: &'_ PlanStep| step.deployment.is_empty();
    decision.plan.iter().map(|s| if name(s) { ">" } else { s.deployment.as_str() }).collect()
}

pub(super) fn change(deployment: Deployment, change: impl FnOnce(&mut Deployment)) -> Deployment {
    let mut deployment = deployment;
    change(&mut deployment);
    deployment
}

/// A group under a strategy.
fn with_strategy(strategy: Strategy, name: &str, deployments: Vec<Deployment>) -> Group {
    Group { strategy, ..group(name, deployments) }
}

/// The question of a later pass after these failures, given as (deployment, group, class).
fn again(model: &str, tried: &[(&str, &str, ErrorClass)]) -> Ask {
    let tried = tried.iter().enumerate().map(|(pass, (deployment, group, class))| Tried {
        deployment: (*deployment).into(),
        group: (*group).into(),
        class: *class,
        pass: u32::try_from(pass).unwrap(),
    });
    let tried: Vec<Tried> = tried.collect();
    let pass = u32::try_from(tried.len()).unwrap();
    Ask {
        replan: Some(Replan { pass, reservation: None, owner: None, tried }),
        ..ask(MASTER_KEY_HASH, model)
    }
}

/// Where the step of this index sends a class.
fn after(decision: &Decision, step: usize, class: ErrorClass) -> After {
    decision.walk.as_ref().map_or(After::default_for(class), |walk| walk.steps[step].after(class))
}
