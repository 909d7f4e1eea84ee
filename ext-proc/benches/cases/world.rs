//! A sidecar without its listeners: configuration, keys in SQLite, counters in process, everything that a decision asks.

use std::cell::Cell;
use std::collections::HashSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use attache::entity::{Entity, EntityKind, Principal, member_id};
use attache::keys::{KeyDirectory, Who, hash};
use attache::limits::Question;
use attache::routing::{
    Breakers, Context, Decision, Deployment, Group, Keys, LiveClusters, LiveView, Probes, Settled, Snapshot,
    Speeds, Strategy, decide, settle,
};
use attache::store::testing::TempDir;
use attache::store::{
    Author, Counters, DatabaseBackend, Memory, SpendRow, StoreError, UsageSum, Write, open_database,
};
use attache_llm::contract::{Ask, DeploymentMeta, UsageRecord, VERSION, Wishes};
use attache_llm::path::Endpoint;
use attache_llm::price::{Item, Place, Price};
use serde_json::json;
use tokio::runtime::Runtime;

/// Deployments of the group that is asked for, and groups.
const SIZE: usize = 10;
const GROUPS: usize = 20;
const KEY: &str = "sk-micro-benchmark-0001";

pub(crate) struct World {
    runtime: Runtime,
    pub(crate) snapshot: Arc<Snapshot>,
    keys: Cached,
    pub(crate) counters: Arc<dyn Counters>,
    live: Live,
    breakers: Arc<Breakers>,
    speeds: Arc<Speeds>,
    probes: Arc<Probes>,
    /// What the gate knows of the key: its hash.
    key: String,
    calls: Cell<u64>,
    /// Of the database.
    _dir: TempDir,
}

/// The directory of keys as the server has it, over a ledger without rows.
struct Cached(Arc<KeyDirectory>);

#[async_trait]
impl Keys for Cached {
    async fn principal(&self, id: &str, who: &Who<'_>) -> Result<Option<Principal>, StoreError> {
        self.0.principal(id, who).await
    }

    async fn used(&self, questions: &[Question]) -> Result<Vec<UsageSum>, StoreError> {
        self.0.used(questions).await
    }
}

/// Envoy has acknowledged everything.
struct Live(Arc<Clusters>);

struct Clusters(HashSet<String>);

impl LiveView for Clusters {
    fn is_live(&self, cluster: &str) -> bool {
        self.0.contains(cluster)
    }

    fn all_live(&self, _: u64) -> bool {
        true
    }
}

impl LiveClusters for Live {
    fn view(&self) -> Arc<dyn LiveView> {
        Arc::clone(&self.0) as Arc<dyn LiveView>
    }

    fn ready(&self) -> bool {
        true
    }
}

fn deployment(group: &str, number: usize) -> Deployment {
    let meta = json!({
        "contract": VERSION, "id": format!("{group}-{number:02}"), "group": group, "provider": "openai",
        "model": "gpt-4o", "authority": "api.openai.com", "base_path": "/v1",
    });
    let mut meta: DeploymentMeta = serde_json::from_value(meta).expect("a deployment");
    let base = |item, rate| (Place::base(item), rate);
    meta.price = Some(Price::new([
        base(Item::Input, 2_500_000_000),
        base(Item::Cached, 1_250_000_000),
        base(Item::Output, 10_000_000_000),
    ]));
    Deployment { rpm: Some(1_000_000_000), tpm: Some(1_000_000_000_000), ..Deployment::new(meta) }
}

/// Groups of ten deployments each, by use, with a fallback for the one that is asked.
fn snapshot() -> Snapshot {
    let mut snapshot = Snapshot {
        generation: 1,
        num_retries: 2,
        max_fallbacks: 5,
        cooldown: Duration::from_secs(5),
        timeout: Duration::from_secs(600),
        ..Snapshot::default()
    };
    for number in 0..GROUPS {
        let name = format!("gpt-4o-{number}");
        let deployments: Vec<_> = (0..SIZE).map(|index| Arc::new(deployment(&name, index))).collect();
        for deployment in &deployments {
            snapshot.deployments.insert(deployment.meta.id.clone(), Arc::clone(deployment));
        }
        let group = Group { name: name.clone(), deployments, strategy: Strategy::UsageBased };
        snapshot.groups.insert(name, Arc::new(group));
    }
    snapshot.fallbacks.insert("gpt-4o-0".into(), vec!["gpt-4o-1".into()]);
    snapshot
}

/// A key with its team, its owner and the owner's membership: limits and budgets for each of them, none of them near.
fn family() -> Vec<Entity> {
    let some = |text: &str| Some(text.to_owned());
    let mut key =
        Entity { team_id: some("search"), user_id: some("ann"), ..Entity::new(EntityKind::Key, hash(KEY)) };
    let mut team = Entity::new(EntityKind::Team, "search");
    let mut user = Entity::new(EntityKind::User, "ann");
    for entity in [&mut key, &mut team, &mut user] {
        let settings = &mut entity.settings;
        settings.rpm_limit = Some(1_000_000_000);
        settings.tpm_limit = Some(1_000_000_000_000);
        settings.max_budget_nanos = Some(900_000_000_000_000);
        settings.budget_duration = some("30d");
    }
    key.settings.max_parallel_requests = Some(1_000_000);
    vec![key, team, user, Entity::new(EntityKind::Member, member_id("search", "ann"))]
}

impl World {
    pub(crate) fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let dir = TempDir::new();
        let keys = runtime.block_on(async {
            let backend = DatabaseBackend::Sqlite { path: dir.path().join("attache.db") };
            let database = open_database(&backend).await.expect("a database");
            let writes: Vec<Write> = family().into_iter().map(Write::Insert).collect();
            database.apply(&writes, &Author::default()).await.expect("entities");
            Cached(KeyDirectory::new(database, None))
        });
        let snapshot = Arc::new(snapshot());
        let clusters = snapshot.deployments.values().map(|deployment| deployment.cluster.clone()).collect();
        Self {
            runtime,
            snapshot,
            keys,
            counters: Arc::new(Memory::default()),
            live: Live(Arc::new(Clusters(clusters))),
            breakers: Breakers::new(),
            speeds: Speeds::new(),
            probes: Probes::new(),
            key: hash(KEY),
            calls: Cell::new(0),
            _dir: dir,
        }
    }

    pub(crate) fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    fn context(&self) -> Context<'_> {
        Context {
            snapshot: Arc::clone(&self.snapshot),
            keys: &self.keys,
            counters: &self.counters,
            live: &self.live,
            breakers: &self.breakers,
            speeds: &self.speeds,
            probes: &self.probes,
        }
    }

    /// An id that no request has had.
    pub(crate) fn call_id(&self) -> String {
        self.calls.set(self.calls.get() + 1);
        format!("0199b2c4-5d6e-7f80-9a1b-{:012x}", self.calls.get())
    }

    /// The next question of the key for `gpt-4o-0`.
    pub(crate) fn ask(&self) -> Ask {
        Ask {
            contract: VERSION,
            call_id: self.call_id(),
            key: self.key.clone(),
            endpoint: Endpoint::ChatCompletions,
            model: "gpt-4o-0".into(),
            stream: true,
            input_tokens: 250,
            max_tokens: Some(512),
            n: None,
            needs: Vec::new(),
            user: None,
            wishes: Wishes::default(),
            replan: None,
            explain: false,
            again: 0,
        }
    }

    pub(crate) fn decide(&self, ask: &Ask) -> Decision {
        self.wait(decide(&self.context(), ask)).expect("a decision")
    }

    /// Everyone behind the key.
    pub(crate) fn principal(&self) -> Principal {
        let found = self.wait(self.keys.principal(&self.key, &Who::default())).expect("keys are there");
        found.expect("the key is known")
    }

    /// As the server settles a batch.
    pub(crate) fn settle(&self, records: &[UsageRecord], rows: &[SpendRow]) -> Vec<Settled> {
        self.wait(settle(&self.snapshot, &self.counters, &self.breakers, &self.speeds, records, rows))
    }
}

/// What is known of a request when it is over, beside its question.
pub(crate) struct Planned {
    pub(crate) deployment: String,
    pub(crate) reservation: String,
    pub(crate) owner: Option<String>,
}

impl Planned {
    pub(crate) fn of(decision: Decision) -> Self {
        let deployment = decision.plan[0].deployment.clone();
        Self { deployment, owner: decision.owner, reservation: decision.reservation.hand_over() }
    }
}

/// The record of a request that went well at its first deployment. It settles what the decision reserved.
pub(crate) fn record(ask: &Ask, planned: Planned) -> UsageRecord {
    let record = json!({
        "call_id": ask.call_id, "key": ask.key, "endpoint": "chat_completions", "model": ask.model,
        "group": ask.model, "owner": planned.owner, "reservation": planned.reservation, "stream": true,
        "start_us": 1_769_860_800_000_000_u64, "duration_us": 812_345, "first_event_us": 212_345, "status": 200,
        "details": "via_upstream", "input_estimate": 250, "request_id": "5f0c9a52-7a1e-4c38-8d1b-000000000001",
        "attempts": [{
            "deployment": planned.deployment, "cluster": format!("{}/openai/{}", ask.model, planned.deployment),
            "group": ask.model, "outcome": "complete", "status": 200, "first_event_us": 212_345,
            "duration_us": 812_300, "usage": {"prompt": 260, "completion": 100, "total": 360, "cached": 128},
        }],
    });
    serde_json::from_value(record).expect("a record")
}
