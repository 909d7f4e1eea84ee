//! How long a decision takes, with counters in process. Its cost must follow the size of the group asked for, not that of
//! the configuration: the same group of 10 among 10, 1,000 and 10,000 deployments, and a group of 100.
//!
//! `cargo bench -p attache --bench decide`

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use attache::entity::Principal;
use attache::keys::Who;
use attache::limits::Question;
use attache::routing::{
    Breakers, Context, Deployment, Group, Keys, LiveClusters, LiveView, Probes, Snapshot, Speeds, Strategy,
    decide,
};
use attache::store::{Charge, Counter, Counters, Memory, Settlement, StoreError, UsageSum};
use attache_llm::contract::{Ask, DeploymentMeta, MASTER_KEY_HASH, VERSION, Wishes};
use attache_llm::path::Endpoint;
use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};

/// Envoy has acknowledged everything.
struct Acknowledged(Arc<Clusters>);

struct Clusters(HashSet<String, foldhash::fast::RandomState>);

impl LiveView for Clusters {
    fn is_live(&self, cluster: &str) -> bool {
        self.0.contains(cluster)
    }

    fn all_live(&self, _: u64) -> bool {
        true
    }
}

impl LiveClusters for Acknowledged {
    fn view(&self) -> Arc<dyn LiveView> {
        Arc::clone(&self.0) as Arc<dyn LiveView>
    }

    fn ready(&self) -> bool {
        true
    }
}

struct NoKeys;

#[async_trait]
impl Keys for NoKeys {
    async fn principal(&self, id: &str, _: &Who<'_>) -> Result<Option<Principal>, StoreError> {
        Ok((id == MASTER_KEY_HASH).then(Principal::default))
    }

    async fn used(&self, questions: &[Question]) -> Result<Vec<UsageSum>, StoreError> {
        Ok(vec![UsageSum::default(); questions.len()])
    }
}

fn deployment(group: &str, number: usize) -> Arc<Deployment> {
    let meta = serde_json::json!({
        "contract": VERSION, "id": format!("{group}-deployment-{number:05}"), "group": group, "provider": "openai",
        "model": "gpt-4o", "authority": "api.openai.com", "base_path": "/v1",
    });
    let meta: DeploymentMeta = serde_json::from_value(meta).expect("a deployment");
    Arc::new(Deployment { rpm: Some(1_000_000_000), tpm: Some(1_000_000_000_000), ..Deployment::new(meta) })
}

/// `groups` groups of `size` deployments; the one asked for is `group-0`.
fn snapshot(groups: usize, size: usize, strategy: &Strategy) -> Snapshot {
    let mut snapshot = Snapshot {
        generation: 1,
        num_retries: 2,
        max_fallbacks: 5,
        cooldown: Duration::from_secs(5),
        timeout: Duration::from_secs(600),
        ..Snapshot::default()
    };
    for number in 0..groups {
        let name = format!("group-{number}");
        let deployments: Vec<_> = (0..size).map(|index| deployment(&name, index)).collect();
        for deployment in &deployments {
            snapshot.deployments.insert(deployment.meta.id.clone(), Arc::clone(deployment));
        }
        let group = Group { name: name.clone(), deployments, strategy: strategy.clone() };
        snapshot.groups.insert(name, Arc::new(group));
    }
    snapshot
}

fn ask(number: u64) -> Ask {
    Ask {
        contract: VERSION,
        call_id: format!("0192f0c4-{number:016x}"),
        key: MASTER_KEY_HASH.into(),
        endpoint: Endpoint::ChatCompletions,
        model: "group-0".into(),
        stream: true,
        input_tokens: 250,
        max_tokens: Some(100),
        n: None,
        needs: Vec::new(),
        user: None,
        wishes: Wishes::default(),
        replan: None,
        explain: false,
        again: 0,
    }
}

/// Tokens that differ from request to request, so that the deployments' use does.
fn settlement(id: String, deployment: &str, tokens: u64) -> Settlement {
    let minute = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() / 60;
    let counter = Counter::new(format!("dep:{deployment}:tpm"), minute);
    Settlement::end(id, vec![Charge { counter, amount: tokens, ttl: Duration::from_secs(120) }])
}

fn benches(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut group = criterion.benchmark_group("decide");
    for strategy in [Strategy::SimpleShuffle, Strategy::UsageBased, Strategy::LeastBusy] {
        for (groups, size) in [(1, 10), (100, 10), (1_000, 10), (1, 100)] {
            let snapshot = Arc::new(snapshot(groups, size, &strategy));
            let clusters = snapshot.deployments.values().map(|d| d.cluster.clone()).collect();
            let live = Acknowledged(Arc::new(Clusters(clusters)));
            let counters: Arc<dyn Counters> = Arc::new(Memory::default());
            let (breakers, speeds, probes) = (Breakers::new(), Speeds::new(), Probes::new());
            let mut calls = 0_u64;
            let open: RefCell<Option<(String, String)>> = RefCell::new(None);
            let id = BenchmarkId::new(strategy.name(), format!("group of {size} among {}", groups * size));
            group.bench_function(id, |bencher| {
                // Outside the measurement, as the server does: the usage record settles what was reserved.
                let next = || {
                    calls += 1;
                    if let Some((id, deployment)) = open.take() {
                        let settlement = settlement(id, &deployment, 50 + calls * 37 % 900);
                        let _ = runtime.block_on(counters.settle_all(&[settlement]));
                    }
                    ask(calls)
                };
                let decision = |ask: Ask| {
                    runtime.block_on(async {
                        let context = Context {
                            snapshot: Arc::clone(&snapshot),
                            keys: &NoKeys,
                            counters: &counters,
                            live: &live,
                            breakers: &breakers,
                            speeds: &speeds,
                            probes: &probes,
                        };
                        let decision = decide(&context, &ask).await.expect("a decision");
                        let first = decision.plan[0].deployment.clone();
                        open.replace(Some((decision.reservation.hand_over(), first)));
                        (decision.plan, decision.walk)
                    })
                };
                bencher.iter_batched(next, decision, BatchSize::PerIteration);
            });
        }
    }
    group.finish();
}

criterion_group!(decide_benches, benches);
criterion_main!(decide_benches);
