//! State of one VM, that is of one Envoy worker: gate and adapter run in the same VM (same vm_id, code and
//! configuration), so a thread-local is common to them.
//!
//! Only a VM's own thread touches it, and nothing here calls the host while it is borrowed in a way that could call
//! back. A borrow that fails all the same is treated as absence: a panic would take the worker's keys and unsent usage.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use attache_llm::contract::{DeploymentMeta, GateConfig};
use foldhash::fast::FixedState;
use serde::Deserialize;

use crate::due::Dues;
use crate::host::{self, EnvoyMeter, VmCounter};
use crate::ids::{self, CallIds};
use crate::intake::Intake;
use crate::keys::KeyTable;
use crate::questions::Questions;
use crate::requests::Request;
use crate::said::{MAX_HELD, Room};
use crate::stats::Stats;
use crate::stock::Stocks;
use crate::usage::UsageQueue;

/// Parsed deployments kept per VM. Clusters come and go; past the bound the cache starts anew.
const MAX_DEPLOYMENTS: usize = 4_096;

/// What is behind a cluster, by its metadata.
#[derive(Debug, Clone)]
pub enum Upstream {
    Deployment(Rc<DeploymentMeta>),
    /// The sidecar, asked for another plan.
    Replan,
}

/// Metadata of the cluster that is no deployment.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Marker {
    replan: bool,
}

/// The keys are Envoy's and our own, nobody can choose them.
pub type Map<K, V> = HashMap<K, V, FixedState>;

pub struct Vm {
    /// Number of this VM among all of this Envoy.
    pub number: u64,
    pub ids: CallIds,
    pub config: Rc<GateConfig>,
    pub keys: KeyTable,
    pub usage: UsageQueue,
    pub stats: Stats<EnvoyMeter>,
    /// For what requests say, where it is kept.
    pub room: Room,
    /// Requests that wait for their key or their body, by context.
    pub intakes: Map<u32, Intake>,
    /// What waits for a decision.
    pub questions: Questions,
    /// What is decided before it comes.
    pub stocks: Stocks,
    /// What waits no longer.
    pub due: Dues,
    /// Requests that went on, by call id.
    pub requests: Map<String, Request>,
    /// Deployments by cluster, with the text they were parsed from.
    deployments: Map<String, (Vec<u8>, Upstream)>,
    /// Requests whose pass ended in a redirect and whose next one has not begun, by call id. There is nothing between
    /// the two but Envoy's own work, so this is empty unless that fails.
    pub between: Vec<String>,
    /// Root contexts of the gate alive in this VM: more than one while a listener update drains the old one.
    pub gates: usize,
    /// The root ticks rarely: usage must wake it.
    pub resting: bool,
}

thread_local! {
    static VM: RefCell<Option<Vm>> = const { RefCell::new(None) };
}

/// Runs `act` on the VM's state; creates it on first use.
pub fn with<R>(act: impl FnOnce(&mut Vm) -> R) -> Option<R> {
    VM.with(|cell| {
        let mut vm = cell.try_borrow_mut().ok()?;
        Some(act(vm.get_or_insert_with(Vm::start)))
    })
}

impl Vm {
    fn start() -> Self {
        let number = ids::claim(&VmCounter).unwrap_or_else(host::now_ns);
        let config = GateConfig::default();
        Self {
            number,
            ids: CallIds::new(number, host::now_ns()),
            keys: KeyTable::new(&config),
            usage: UsageQueue::new(config.max_pending_usage, config.usage_batch),
            stats: Stats::new(EnvoyMeter),
            room: Room::new(MAX_HELD),
            intakes: Map::default(),
            questions: Questions::default(),
            stocks: Stocks::default(),
            due: Dues::default(),
            requests: Map::default(),
            deployments: Map::default(),
            between: Vec::new(),
            gates: 0,
            resting: false,
            config: Rc::new(config),
        }
    }

    pub fn configure(&mut self, config: Rc<GateConfig>) {
        self.keys.configure(&config);
        self.usage.configure(config.max_pending_usage, config.usage_batch);
        self.config = config;
    }

    /// What is behind a cluster. Parsed once: the text is compared, because a cluster can change under its name.
    pub fn upstream(&mut self, cluster: &str, text: Vec<u8>) -> Result<Upstream, serde_json::Error> {
        if let Some((known, upstream)) = self.deployments.get(cluster)
            && *known == text
        {
            return Ok(upstream.clone());
        }
        let upstream = if serde_json::from_slice::<Marker>(&text)?.replan {
            Upstream::Replan
        } else {
            Upstream::Deployment(Rc::new(serde_json::from_slice(&text)?))
        };
        if self.deployments.len() >= MAX_DEPLOYMENTS {
            self.deployments.clear();
        }
        self.deployments.insert(cluster.to_owned(), (text, upstream.clone()));
        Ok(upstream)
    }

    /// Is there something that the root must look after?
    #[must_use]
    pub fn is_busy(&self) -> bool {
        !self.usage.is_empty() || !self.between.is_empty() || !self.stocks.is_empty()
    }

    /// Takes out the requests that Envoy was asked to redirect before `before_us` and did not bring back.
    pub fn lost(&mut self, before_us: u64) -> Vec<Request> {
        if self.between.is_empty() {
            return Vec::new();
        }
        let mut lost = Vec::new();
        for call_id in std::mem::take(&mut self.between) {
            match self.requests.get(&call_id).and_then(|request| request.passes.asked_us) {
                Some(asked_us) if asked_us < before_us => lost.extend(self.requests.remove(&call_id)),
                Some(_) => self.between.push(call_id),
                None => {}
            }
        }
        lost
    }
}
