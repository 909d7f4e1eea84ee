//! State of one VM, that is of one Envoy worker: gate and adapter run in the same VM (same vm_id, code and
//! configuration), so a thread-local is common to them.
//!
//! Only a VM's own thread touches it, and nothing here calls the host while it is borrowed in a way that could call
//! back. A borrow that fails all the same is treated as absence: a panic would take the worker's keys and unsent usage.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use attache_llm::contract::{DeploymentMeta, GateConfig};

use crate::host::{self, EnvoyMeter, VmCounter};
use crate::ids::{self, CallIds};
use crate::intake::Intake;
use crate::keys::KeyTable;
use crate::requests::Request;
use crate::stats::Stats;
use crate::usage::UsageQueue;

/// Parsed deployments kept per VM. Clusters come and go; past the bound the cache starts anew.
const MAX_DEPLOYMENTS: usize = 4_096;

pub struct Vm {
    /// Number of this VM among all of this Envoy.
    pub number: u64,
    pub ids: CallIds,
    pub config: Rc<GateConfig>,
    pub keys: KeyTable,
    pub usage: UsageQueue,
    pub stats: Stats<EnvoyMeter>,
    /// Requests that wait for their key or their body, by context.
    pub intakes: HashMap<u32, Intake>,
    /// Requests that went on, by call id.
    pub requests: HashMap<String, Request>,
    /// Deployments by cluster, with the text they were parsed from.
    deployments: HashMap<String, (Vec<u8>, Rc<DeploymentMeta>)>,
    /// Root contexts of the gate alive in this VM: more than one while a listener update drains the old one.
    pub gates: usize,
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
            intakes: HashMap::new(),
            requests: HashMap::new(),
            deployments: HashMap::new(),
            gates: 0,
            config: Rc::new(config),
        }
    }

    pub fn configure(&mut self, config: Rc<GateConfig>) {
        self.keys.configure(&config);
        self.usage.configure(config.max_pending_usage, config.usage_batch);
        self.config = config;
    }

    /// The deployment behind a cluster. Parsed once: the text is compared, because a cluster can change under its name.
    pub fn deployment(
        &mut self,
        cluster: &str,
        text: Vec<u8>,
    ) -> Result<Rc<DeploymentMeta>, serde_json::Error> {
        if let Some((known, meta)) = self.deployments.get(cluster)
            && *known == text
        {
            return Ok(Rc::clone(meta));
        }
        let meta = Rc::new(serde_json::from_slice::<DeploymentMeta>(&text)?);
        if self.deployments.len() >= MAX_DEPLOYMENTS {
            self.deployments.clear();
        }
        self.deployments.insert(cluster.to_owned(), (text, Rc::clone(&meta)));
        Ok(meta)
    }
}
