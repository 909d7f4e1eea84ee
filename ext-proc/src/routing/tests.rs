//! Decisions and settlements over doubles; the builders here serve the unit tests beside the code too.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use attache_llm::contract::{
    Ask, AttemptOutcome, AttemptRecord, DeploymentMeta, MASTER_KEY_HASH, UsageRecord, VERSION,
};
use attache_llm::path::Endpoint;
use attache_llm::provider::Provider;
use attache_llm::usage::Usage;
use parking_lot::Mutex;
use proptest::prelude::*;

use super::plan::{Health, plan};
use super::settle::failures;
use super::*;
use crate::store::{Charge, Cooldown, Counters, KeyRow, NewKey, StoreError};

pub(crate) fn deployment(id: &str, group: &str) -> Deployment {
    let meta = serde_json::json!({
        "contract": VERSION, "id": id, "group": group, "provider": "openai", "model": "gpt-4o",
        "authority": "localhost", "base_path": "/v1",
    });
    let meta: DeploymentMeta = serde_json::from_value(meta).unwrap();
    assert_eq!(meta.provider, Provider::Openai);
    Deployment {
        cluster: format!("{group}/openai/{id}"),
        meta,
        host: "localhost".into(),
        port: 80,
        tls: false,
        credential: None,
        weight: None,
        rpm: None,
        tpm: None,
        timeout: None,
        stream_timeout: None,
        allowed_fails: None,
        cooldown: None,
        mode: None,
    }
}

pub(crate) fn group(name: &str, deployments: Vec<Deployment>) -> Group {
    Group { name: name.into(), deployments: deployments.into_iter().map(Arc::new).collect() }
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
        allowed_fails: 3,
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
#[derive(Default)]
struct Live {
    dead: HashSet<String>,
}

impl LiveClusters for Live {
    fn is_live(&self, cluster: &str) -> bool {
        !self.dead.contains(cluster)
    }

    fn ready(&self) -> bool {
        true
    }
}

#[derive(Default)]
struct FakeKeys {
    rows: HashMap<String, Arc<KeyRow>>,
    away: bool,
}

#[async_trait]
impl Keys for FakeKeys {
    async fn row(&self, id: &str) -> Result<Option<Arc<KeyRow>>, StoreError> {
        match self.away {
            true => Err(StoreError::Unavailable { backend: "postgres", reason: "gone".into() }),
            false => Ok(self.rows.get(id).cloned()),
        }
    }
}

/// Counters that note what they were told.
#[derive(Default)]
struct FakeCounters {
    away: bool,
    reserved: Mutex<Vec<(String, Vec<Charge>, Duration)>>,
    settled: Mutex<Vec<(String, Vec<Charge>)>>,
    failures: Mutex<Vec<Cooldown>>,
    cool_until: Option<u64>,
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
    async fn reserve(&self, id: &str, charges: &[Charge], lease: Duration) -> Result<(), StoreError> {
        self.check()?;
        self.reserved.lock().push((id.into(), charges.to_vec(), lease));
        Ok(())
    }

    async fn settle(&self, id: &str, actual: &[Charge]) -> Result<bool, StoreError> {
        self.check()?;
        let mut settled = self.settled.lock();
        let known = self.reserved.lock().iter().any(|r| r.0 == id);
        let first = known && settled.iter().all(|s| s.0 != id);
        if first {
            settled.push((id.into(), actual.to_vec()));
        }
        Ok(first)
    }

    async fn read(&self, counters: &[String]) -> Result<Vec<u64>, StoreError> {
        Ok(vec![0; counters.len()])
    }

    async fn record_failure(&self, failure: &Cooldown) -> Result<Option<u64>, StoreError> {
        self.check()?;
        self.failures.lock().push(failure.clone());
        Ok(self.cool_until)
    }

    async fn cooling(&self) -> Result<Vec<(String, u64)>, StoreError> {
        self.check()?;
        Ok(Vec::new())
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.check()
    }
}

struct World {
    snapshot: Arc<Snapshot>,
    keys: FakeKeys,
    fake: Arc<FakeCounters>,
    live: Live,
    cooldowns: Arc<Cooldowns>,
}

impl World {
    fn new(snapshot: Snapshot) -> Self {
        Self {
            snapshot: Arc::new(snapshot),
            keys: FakeKeys::default(),
            fake: Arc::default(),
            live: Live::default(),
            cooldowns: Cooldowns::new(),
        }
    }

    fn with_key(mut self, id: &str, change: impl FnOnce(&mut KeyRow)) -> Self {
        let key = NewKey { hash: id.into(), name: "sk-...abcd".into(), ..NewKey::default() };
        let mut row = KeyRow { key, blocked: false, spend_nanos: 0, created_ms: 0, updated_ms: 0 };
        change(&mut row);
        self.keys.rows.insert(id.into(), Arc::new(row));
        self
    }

    fn counters(&self) -> Arc<dyn Counters> {
        Arc::clone(&self.fake) as Arc<dyn Counters>
    }

    async fn decide(&self, ask: &Ask) -> Verdict {
        let counters = self.counters();
        let context = Context {
            snapshot: Arc::clone(&self.snapshot),
            keys: &self.keys,
            counters: &counters,
            live: &self.live,
            cooldowns: &self.cooldowns,
        };
        decide(&context, ask).await
    }

    async fn settle(&self, record: &UsageRecord) -> Settled {
        settle(&self.snapshot, &self.counters(), &self.cooldowns, record).await
    }
}

fn ask(key: &str, model: &str) -> Ask {
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
        user: None,
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
    }
}

fn deployments(decision: &Decision) -> Vec<&str> {
    decision.plan.iter().map(|s| s.deployment.as_str()).collect()
}

#[tokio::test]
async fn the_plan_goes_round_the_group_then_to_the_fallback() {
    let world = World::new(two_groups());
    let decision = world.decide(&ask(MASTER_KEY_HASH, "gpt")).await.unwrap();
    let plan = deployments(&decision);
    assert_eq!(plan.len(), 6);
    assert_eq!(plan[0], plan[2], "three attempts go round two deployments");
    assert_ne!(plan[0], plan[1]);
    assert_eq!(plan[3..], ["c", "c", "c"]);
    assert_eq!(decision.group, "gpt");
    assert_eq!(decision.generation, 3);
    assert_eq!(decision.plan[3].cluster, "claude/openai/c");
    assert_eq!(decision.plan[3].group, "claude");
}

#[tokio::test]
async fn keys_are_refused_with_their_reason() {
    let world = World::new(two_groups())
        .with_key("blocked", |k| k.blocked = true)
        .with_key("expired", |k| k.key.expires_ms = Some(1_000))
        .with_key("fine", |k| k.key.expires_ms = Some(u64::MAX));
    for (key, status, kind) in [
        ("nobody", 401, "token_not_found_in_db"),
        ("blocked", 401, "auth_error"),
        ("expired", 401, "expired_key"),
    ] {
        let error = world.decide(&ask(key, "gpt")).await.unwrap_err();
        assert_eq!((error.status, &*error.kind), (status, kind), "{key}");
    }
    assert!(world.decide(&ask("fine", "gpt")).await.is_ok());
}

#[tokio::test]
async fn another_contract_is_refused_by_name() {
    let world = World::new(two_groups());
    let error =
        world.decide(&Ask { contract: VERSION + 1, ..ask(MASTER_KEY_HASH, "gpt") }).await.unwrap_err();
    assert_eq!(error.status, 503);
    assert!(error.internal.unwrap().contains("contract version 2"));
}

#[tokio::test]
async fn an_unknown_key_while_the_store_is_away_is_503_and_the_master_key_works() {
    let mut world = World::new(two_groups());
    world.keys.away = true;
    let error = world.decide(&ask("k", "gpt")).await.unwrap_err();
    assert_eq!(error.status, 503);
    assert!(!error.message.contains("gone"), "the client is not told what broke");
    assert!(world.decide(&ask(MASTER_KEY_HASH, "gpt")).await.is_ok());
}

#[tokio::test]
async fn a_denied_model_and_an_unknown_one_look_the_same_to_a_limited_key() {
    let world = World::new(two_groups()).with_key("k", |k| k.key.models = vec!["claude".into()]);
    let denied = world.decide(&ask("k", "gpt")).await.unwrap_err();
    let unknown = world.decide(&ask("k", "nonsense")).await.unwrap_err();
    assert_eq!((denied.status, &*denied.kind), (403, "key_model_access_denied"));
    assert_eq!(denied.message.replace("gpt", "X"), unknown.message.replace("nonsense", "X"));
    assert_eq!(denied.status, unknown.status);
    let unknown = world.decide(&ask(MASTER_KEY_HASH, "nonsense")).await.unwrap_err();
    assert_eq!((unknown.status, unknown.code.as_deref()), (404, Some("model_not_found")));
}

#[tokio::test]
async fn a_fallback_that_the_key_may_not_use_is_left_out() {
    let world = World::new(two_groups()).with_key("k", |k| k.key.models = vec!["gpt".into()]);
    let decision = world.decide(&ask("k", "gpt")).await.unwrap();
    assert!(!deployments(&decision).contains(&"c"));
}

#[tokio::test]
async fn an_alias_leads_to_its_group_and_may_be_what_the_list_names() {
    let mut s = two_groups();
    s.aliases.insert("smart".into(), "gpt".into());
    let world = World::new(s)
        .with_key("alias", |k| k.key.models = vec!["smart".into()])
        .with_key("group", |k| k.key.models = vec!["gpt".into()]);
    for key in ["alias", "group"] {
        assert_eq!(world.decide(&ask(key, "smart")).await.unwrap().group, "gpt");
    }
    assert_eq!(world.decide(&ask("alias", "gpt")).await.unwrap_err().status, 403);
}

#[tokio::test]
async fn named_fallbacks_come_before_the_default_ones_and_hops_are_bounded() {
    let mut s = snapshot(
        ["a", "b", "c", "d"].into_iter().map(|g| group(g, vec![deployment(&format!("{g}1"), g)])).collect(),
    );
    s.num_retries = 0;
    s.fallbacks = BTreeMap::from([
        ("a".into(), vec!["c".into(), "a".into()]),
        ("*".into(), vec!["b".into(), "c".into(), "missing".into(), "d".into()]),
    ]);
    let decision = World::new(s).decide(&ask(MASTER_KEY_HASH, "a")).await.unwrap();
    assert_eq!(deployments(&decision), ["a1", "c1", "b1", "d1"], "no group twice");
    let mut s = two_groups();
    s.max_fallbacks = 0;
    let decision = World::new(s).decide(&ask(MASTER_KEY_HASH, "gpt")).await.unwrap();
    assert!(!deployments(&decision).contains(&"c"));
}

#[tokio::test]
async fn a_group_that_cools_is_passed_over_and_all_cooling_is_a_429_with_the_true_wait() {
    let world = World::new(two_groups());
    let now = now_ms();
    world.cooldowns.enter(&[("a".into(), now + 60_000), ("b".into(), now + 30_000)]);
    let decision = world.decide(&ask(MASTER_KEY_HASH, "gpt")).await.unwrap();
    assert_eq!(deployments(&decision), ["c", "c", "c"]);
    world.cooldowns.enter(&[("c".into(), now + 9_500)]);
    let error = world.decide(&ask(MASTER_KEY_HASH, "gpt")).await.unwrap_err();
    assert_eq!((error.status, &*error.kind), (429, "all_deployments_in_cooldown"));
    let wait = error.retry_after_s.unwrap();
    assert!((9..=10).contains(&wait), "{wait}");
    assert!(!error.message.contains("openai"), "no cluster or deployment is shown");
}

#[tokio::test]
async fn a_cooldown_of_a_fallback_that_the_key_may_not_use_does_not_set_the_wait() {
    let world = World::new(two_groups()).with_key("k", |k| k.key.models = vec!["gpt".into()]);
    let now = now_ms();
    world.cooldowns.enter(&[
        ("a".into(), now + 60_000),
        ("b".into(), now + 60_000),
        ("c".into(), now + 2_000),
    ]);
    assert!(world.decide(&ask("k", "gpt")).await.unwrap_err().retry_after_s.unwrap() >= 59);
}

#[tokio::test]
async fn a_cluster_that_envoy_has_not_acknowledged_is_never_named() {
    let mut world = World::new(two_groups());
    world.live.dead.insert("gpt/openai/a".into());
    let decision = world.decide(&ask(MASTER_KEY_HASH, "gpt")).await.unwrap();
    assert_eq!(deployments(&decision)[..3], ["b", "b", "b"]);
    world.live.dead.extend(["gpt/openai/b".to_owned(), "claude/openai/c".to_owned()]);
    let error = world.decide(&ask(MASTER_KEY_HASH, "gpt")).await.unwrap_err();
    assert_eq!((error.status, error.retry_after_s, error.retriable), (503, Some(1), true));
}

#[tokio::test]
async fn the_first_deployment_is_reserved_and_settled_with_true_tokens() {
    let world = World::new(snapshot(vec![group("gpt", vec![deployment("a", "gpt")])]));
    let decision = world.decide(&ask(MASTER_KEY_HASH, "gpt")).await.unwrap();
    let lease = decision.timeouts.total;
    let id = decision.reservation.hand_over();
    let reserved = world.fake.reserved.lock().clone();
    assert_eq!(reserved[0].0, id);
    assert_eq!(reserved[0].1.iter().map(|c| c.amount).collect::<Vec<_>>(), [1, 100]);
    assert!(reserved[0].2 > lease);

    let mut good = attempt("a", AttemptOutcome::Complete, 200);
    good.usage = Some(Usage { prompt: 11, completion: 22, total: 33, ..Usage::default() });
    let record = record(Some(id.clone()), vec![good]);
    assert_eq!(world.settle(&record).await, Settled::Done);
    assert_eq!(world.settle(&record).await, Settled::Before);
    let settled = world.fake.settled.lock().clone();
    assert_eq!(settled.len(), 1);
    let counters: Vec<&str> = settled[0].1.iter().map(|c| c.counter.as_str()).collect();
    assert_eq!(counters, reserved[0].1.iter().map(|c| c.counter.as_str()).collect::<Vec<_>>());
    assert_eq!(settled[0].1.iter().map(|c| c.amount).collect::<Vec<_>>(), [1, 33]);
}

#[tokio::test]
async fn a_fallback_is_charged_and_the_first_deployment_gets_its_tokens_back() {
    let world =
        World::new(snapshot(vec![group("gpt", vec![deployment("a", "gpt"), deployment("b", "gpt")])]));
    let decision = world.decide(&ask(MASTER_KEY_HASH, "gpt")).await.unwrap();
    let (first, second) = (decision.plan[0].deployment.clone(), decision.plan[1].deployment.clone());
    let mut good = attempt(&second, AttemptOutcome::Complete, 200);
    good.usage = Some(Usage { prompt: 5, completion: 5, ..Usage::default() });
    let attempts = vec![attempt(&first, AttemptOutcome::ErrorStatus, 500), good];
    let record = record(Some(decision.reservation.hand_over()), attempts);
    assert_eq!(world.settle(&record).await, Settled::Done);
    let settled = world.fake.settled.lock().clone();
    assert_eq!(settled[0].1.iter().map(|c| c.amount).collect::<Vec<_>>(), [1, 0]);
    assert!(settled[1].1[0].counter.contains(&format!(":{second}:")));
    assert_eq!(settled[1].1.iter().map(|c| c.amount).collect::<Vec<_>>(), [1, 10]);
    assert_eq!(world.fake.failures.lock().len(), 1);
}

#[tokio::test]
async fn a_decision_that_is_dropped_refunds_and_counters_away_still_decide() {
    let mut world = World::new(two_groups());
    drop(world.decide(&ask(MASTER_KEY_HASH, "gpt")).await.unwrap());
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(world.fake.settled.lock()[0].1.iter().map(|c| c.amount).collect::<Vec<_>>(), [0, 0]);
    world.fake = Arc::new(FakeCounters { away: true, ..FakeCounters::default() });
    let decision = world.decide(&ask(MASTER_KEY_HASH, "gpt")).await.unwrap();
    assert_eq!(decision.reservation.hand_over(), "", "nothing to settle");
}

#[tokio::test]
async fn a_failure_that_cools_is_seen_by_the_next_decision() {
    let mut world =
        World::new(snapshot(vec![group("gpt", vec![deployment("a", "gpt"), deployment("b", "gpt")])]));
    world.fake = Arc::new(FakeCounters { cool_until: Some(now_ms() + 5_000), ..FakeCounters::default() });
    world.settle(&record(None, vec![attempt("a", AttemptOutcome::ErrorStatus, 503)])).await;
    let decision = world.decide(&ask(MASTER_KEY_HASH, "gpt")).await.unwrap();
    assert_eq!(deployments(&decision), ["b", "b", "b"]);
}

#[tokio::test]
async fn timeouts_follow_the_deployment_and_streams_have_their_own() {
    let mut s = snapshot(vec![group("gpt", vec![deployment("a", "gpt")])]);
    s.num_retries = 1;
    s.timeout = Duration::from_secs(100);
    s.stream_timeout = Some(Duration::from_secs(10));
    let world = World::new(s);
    let plain = world.decide(&ask(MASTER_KEY_HASH, "gpt")).await.unwrap().timeouts;
    assert_eq!((plain.per_try, plain.total), (Some(Duration::from_secs(100)), Duration::from_secs(200)));
    let stream = Ask { stream: true, ..ask(MASTER_KEY_HASH, "gpt") };
    let stream = world.decide(&stream).await.unwrap().timeouts;
    assert_eq!((stream.per_try, stream.total), (Some(Duration::from_secs(10)), Duration::from_secs(110)));

    let mut own = deployment("a", "gpt");
    own.timeout = Some(Duration::from_secs(7));
    own.stream_timeout = Some(Duration::from_secs(3));
    let world = World::new(snapshot(vec![group("gpt", vec![own])]));
    let plain = world.decide(&ask(MASTER_KEY_HASH, "gpt")).await.unwrap().timeouts;
    assert_eq!(plain.per_try, Some(Duration::from_secs(7)));
}

#[test]
fn what_counts_as_a_failure() {
    use AttemptOutcome::*;
    let s = two_groups();
    let count = |attempts: Vec<AttemptRecord>, aborted| {
        failures(&s, &UsageRecord { aborted, ..record(None, attempts) }).len()
    };
    for status in [401, 404, 408, 429, 500, 503, 529] {
        assert_eq!(count(vec![attempt("a", ErrorStatus, status)], false), 1, "{status}");
    }
    for status in [400, 403, 409, 413, 422] {
        assert_eq!(count(vec![attempt("a", ErrorStatus, status)], false), 0, "{status}");
    }
    assert_eq!(count(vec![attempt("a", FailedFirstEvent, 200)], false), 1);
    assert_eq!(count(vec![attempt("a", Complete, 200), attempt("a", Answered, 200)], false), 0);
    assert_eq!(count(vec![attempt("a", NoAnswer, 0)], false), 1);
    assert_eq!(count(vec![attempt("a", NoAnswer, 0)], true), 0, "the client hung up");
    assert_eq!(
        count(vec![attempt("a", NoAnswer, 0), attempt("b", NoAnswer, 0)], true),
        1,
        "only the last was left"
    );
    assert_eq!(count(vec![attempt("gone", ErrorStatus, 500)], false), 0, "left the configuration");
}

#[test]
fn retry_after_counts_only_for_429_and_only_beside_others() {
    let s = two_groups();
    let retry_after = |deployment: &str, status, seconds| {
        let failed = AttemptRecord {
            retry_after_s: Some(seconds),
            ..attempt(deployment, AttemptOutcome::ErrorStatus, status)
        };
        failures(&s, &record(None, vec![failed]))[0].retry_after
    };
    assert_eq!(retry_after("a", 429, 7), Some(Duration::from_secs(7)));
    assert_eq!(retry_after("a", 503, 7), None);
    assert_eq!(retry_after("c", 429, 7), None, "alone in its group");
    assert_eq!(retry_after("a", 429, u64::MAX), Some(Duration::from_secs(3_600)));
}

#[test]
fn deployments_may_have_their_own_rule() {
    let mut own = deployment("a", "gpt");
    (own.allowed_fails, own.cooldown) = (Some(0), Some(Duration::from_secs(60)));
    let mut never = deployment("b", "gpt");
    never.cooldown = Some(Duration::ZERO);
    let mut s = snapshot(vec![group("gpt", vec![own, never])]);
    let failed = record(
        None,
        vec![attempt("a", AttemptOutcome::ErrorStatus, 500), attempt("b", AttemptOutcome::ErrorStatus, 500)],
    );
    let rules = failures(&s, &failed);
    assert_eq!(rules.len(), 1);
    assert_eq!((rules[0].allowed_fails, rules[0].cooldown), (0, Duration::from_secs(60)));
    s.disable_cooldowns = true;
    assert!(failures(&s, &failed).is_empty());
}

prop_compose! {
    /// Groups `g0..`, deployments `g{i}d{j}`, any fallbacks among them, any retries.
    fn worlds()(
        sizes in prop::collection::vec(1_usize..4, 1..6),
        weights in prop::collection::vec(prop::option::of(0_u64..5), 20),
        fallbacks in prop::collection::vec((0_usize..6, 0_usize..6), 0..12),
        defaults in prop::collection::vec(0_usize..6, 0..4),
        (retries, max_fallbacks) in (0_u32..40, 0_u32..8),
    ) -> Snapshot {
        let mut weights = weights.into_iter().cycle();
        let groups = sizes.iter().enumerate().map(|(i, &size)| {
            let name = format!("g{i}");
            let deployments = (0..size).map(|j| {
                let mut d = deployment(&format!("g{i}d{j}"), &name);
                d.weight = weights.next().flatten();
                d
            }).collect();
            group(&name, deployments)
        }).collect();
        let mut s = snapshot(groups);
        for (from, to) in fallbacks {
            s.fallbacks.entry(format!("g{from}")).or_default().push(format!("g{to}"));
        }
        s.fallbacks.insert("*".into(), defaults.iter().map(|d| format!("g{d}")).collect());
        (s.num_retries, s.max_fallbacks) = (retries, max_fallbacks);
        s
    }
}

proptest! {
    #[test]
    fn plans_keep_their_promises(
        s in worlds(),
        dead in prop::collection::hash_set((0_usize..5, 0_usize..3), 0..6),
        cooling in prop::collection::hash_set((0_usize..5, 0_usize..3), 0..6),
        allowed in prop::collection::vec(0_usize..6, 0..5),
    ) {
        let now = 1_000_000_000_000_000;
        let live = Live { dead: dead.iter().map(|(i, j)| format!("g{i}/openai/g{i}d{j}")).collect() };
        let cooldowns = Cooldowns::default();
        cooldowns.enter(&cooling.iter().map(|(i, j)| (format!("g{i}d{j}"), now + 5_000)).collect::<Vec<_>>());
        let models: Vec<String> = allowed.iter().map(|g| format!("g{g}")).collect();
        let health = Health { live: &live, cooldowns: &cooldowns, now_ms: now };
        let access = Access::of(&models);
        let Ok(planned) = plan(&s, &access, &health, "g0", &mut rand::rng()) else {
            let usable = s.groups["g0"].deployments.iter().any(|d| {
                live.is_live(&d.cluster) && cooldowns.until(&d.meta.id, now).is_none()
            });
            prop_assert!(!usable || !access.allows("g0", None), "refused although a deployment was usable");
            return Ok(());
        };
        let steps = planned.to_steps();
        prop_assert!(!steps.is_empty() && steps.len() <= MAX_STEPS);
        let mut order: Vec<&str> = steps.iter().map(|p| p.group.as_str()).collect();
        order.dedup();
        prop_assert_eq!(order.len(), order.iter().collect::<HashSet<_>>().len(), "a group comes twice");
        let hops = order.iter().filter(|g| **g != "g0").count();
        prop_assert!(hops <= s.max_fallbacks as usize);
        for step in &steps {
            prop_assert!(access.allows(&step.group, None), "denied model");
            prop_assert!(live.is_live(&step.cluster), "not live");
            prop_assert!(cooldowns.until(&step.deployment, now).is_none(), "cooling");
        }
        for pair in steps.windows(2).filter(|p| p[0] == p[1]) {
            let usable = s.groups[&pair[0].group].deployments.iter().filter(|d| {
                live.is_live(&d.cluster) && cooldowns.until(&d.meta.id, now).is_none()
            });
            prop_assert_eq!(usable.count(), 1, "the same deployment twice running beside another");
        }
    }
}
