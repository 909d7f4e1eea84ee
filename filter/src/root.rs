//! The gate's root context: everything that does not belong to one request. It asks the sidecar for keys (on behalf
//! of all that wait), polls for changed keys, and sends usage.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use attache_llm::contract::{
    DECIDE_PATH, DecideAnswer, GateConfig, KEY_CHANGES_PATH, KEY_LOOKUP_PATH, KeyAnswer, KeyChanges,
    KeyChangesAsk, KeyLookup, KeyRecord, USAGE_PATH, UsageAck, VERSION,
};
use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{BufferType, ContextType};

use crate::adapter::Adapter;
use crate::deciding;
use crate::due::{AT_ONCE, Due};
use crate::finish;
use crate::gate::{self, Gate};
use crate::host;
use crate::intake::Looked;
use crate::keys::{Caller, Hash, Known};
use crate::requests::Ending;
use crate::vm;

/// Usage waits so long for company. It settles what is reserved: a place in flight is not free before.
const TICK: Duration = Duration::from_millis(50);
/// Where nothing was to be done for `RESTLESS_MS`. (Envoy's main thread has a VM, too, that never sees a request.)
const RESTING_TICK: Duration = Duration::from_millis(250);
const RESTLESS_MS: u64 = 1_000;
const CHANGES_EVERY_MS: u64 = 500;
/// A poll that takes longer is not worth waiting for: the next one says the same.
const CHANGES_TIMEOUT_MS: u64 = 1_000;
/// The sidecar acknowledges a batch when it is on disk.
const USAGE_TIMEOUT_MS: u64 = 5_000;
/// A sidecar that comes and goes is not logged more often than this.
const QUIET_MS: u64 = 5_000;
/// Between two passes there is nothing but Envoy's own work: a request that is there for so long is lost.
const LOST_AFTER_US: u64 = 5_000_000;
/// How much longer than the lookup timeout a request waits before it is refused even without an answer.
const OVERDUE_GRACE_MS: u64 = 500;
/// How often a call is made again that reached nobody. The next one goes to another sidecar, if there is one.
const MAX_AGAIN: u8 = 2;

/// A call-out to the sidecar that has not been answered.
#[derive(Debug)]
enum Call {
    Lookup(Hash),
    Changes,
    /// Questions, by the number of their call in [`vm::Vm::questions`].
    Decide(u64),
    Usage,
}

/// A call that can be made again: whoever was asked before and did not get to answer has given nothing away.
#[derive(Debug)]
struct Again {
    path: &'static str,
    body: Vec<u8>,
    timeout_ms: u64,
    left: u8,
    /// It took too long once: that is what the client hears.
    late: bool,
}

impl Again {
    const fn new(path: &'static str, body: Vec<u8>, timeout_ms: u64) -> Self {
        Self { path, body, timeout_ms, left: MAX_AGAIN, late: false }
    }

    fn post(&self) -> Option<u32> {
        let again = MAX_AGAIN.saturating_sub(self.left);
        if again == 0 || self.path != DECIDE_PATH {
            return host::post(self.path, &self.body, self.timeout_ms);
        }
        // `{...}` with one member more ([`DecideAsk::again`]).
        let rest = self.body.get(1..).unwrap_or_default();
        let body = [format!("{{\"again\":{again},").as_bytes(), rest].concat();
        host::post(self.path, &body, self.timeout_ms)
    }
}

/// Root context of the gate.
pub struct GateRoot {
    context: u32,
    config: Rc<GateConfig>,
    /// Queue that wakes this root at once; its name is unique per VM and root.
    queue: u32,
    calls: HashMap<u32, (Call, Option<Again>)>,
    epoch: String,
    generation: u64,
    changes_at_ms: u64,
    polling: bool,
    /// When there was last something to be done.
    busy_ms: u64,
    /// What the log says of the sidecar, and since when.
    away: bool,
    said_ms: u64,
}

impl GateRoot {
    #[must_use]
    pub fn new(context: u32) -> Self {
        Self {
            context,
            config: Rc::default(),
            queue: 0,
            calls: HashMap::new(),
            epoch: String::new(),
            generation: 0,
            changes_at_ms: 0,
            polling: false,
            busy_ms: 0,
            away: false,
            said_ms: 0,
        }
    }

    /// Ticks often while there is something to send or to wait for.
    fn pace(&mut self, now_ms: u64) {
        let waits = self.calls.values().any(|(call, _)| !matches!(call, Call::Changes));
        let Some((busy, resting)) = vm::with(|vm| (waits || vm.is_busy(), vm.resting)) else {
            return;
        };
        if busy {
            self.busy_ms = now_ms;
        }
        let rest = !busy && now_ms.saturating_sub(self.busy_ms) > RESTLESS_MS;
        if rest == resting {
            return;
        }
        vm::with(|vm| vm.resting = rest);
        // A timer that runs takes over another period only when it fires.
        let _ = hostcalls::set_tick_period(Duration::ZERO);
        let _ = hostcalls::set_tick_period(if rest { RESTING_TICK } else { TICK });
    }

    fn send_lookups(&mut self) {
        let timeout_ms = self.config.lookup_timeout_ms;
        while let Some(Some(caller)) = vm::with(|vm| vm.keys.next_lookup()) {
            let ask = KeyLookup { contract: VERSION, hash: caller.wire() };
            let hash = caller.hash;
            // Texts and numbers: this does not fail.
            let body = serde_json::to_vec(&ask).unwrap_or_default();
            vm::with(|vm| vm.stats.count("key_lookups", 1));
            let again = Again::new(KEY_LOOKUP_PATH, body, timeout_ms);
            match again.post() {
                Some(token) => {
                    self.calls.insert(token, (Call::Lookup(hash), Some(again)));
                }
                None => self.lookup_done(&hash, Err("no call to the sidecar was possible".into())),
            }
        }
    }

    fn send_questions(&mut self) {
        while let Some((flight, body)) = deciding::next() {
            let again = Again::new(DECIDE_PATH, body, deciding::TIMEOUT_MS);
            match again.post() {
                Some(token) => {
                    self.calls.insert(token, (Call::Decide(flight), Some(again)));
                }
                None => deciding::answered(flight, Err(503)),
            }
        }
    }

    /// What is there to do for requests that wait: tells some of those that need not, and asks for the others.
    fn serve(&mut self) {
        self.send_lookups();
        let mut resumed = 0_usize;
        while resumed < AT_ONCE
            && let Some(Some(due)) = vm::with(|vm| vm.due.take())
        {
            resumed = resumed.saturating_add(usize::from(self.tell(due)));
        }
        self.send_questions();
        // Also of calls that could not be made.
        if vm::with(|vm| !vm.due.is_empty()) == Some(true) {
            let _ = hostcalls::enqueue_shared_queue(self.queue, Some(b"1"));
        }
    }

    /// Tells one request. Is it resumed, or answered?
    fn tell(&self, due: Due) -> bool {
        match due {
            Due::Key { context, looked } => {
                let mut resumed = false;
                host::on_behalf_of(context, self.context, || resumed = gate::key_decided(context, &looked));
                resumed
            }
            Due::Decision { waiter, answer } => deciding::conclude(self.context, &waiter, answer),
        }
    }

    /// Makes a call again that reached nobody: a connection to the sidecar broke, there was none, or nothing came back in
    /// time (once only: that took long enough). Hands back a call that ended, and its status.
    fn ask_again(
        &mut self,
        status: u16,
        body: &[u8],
        call: Call,
        again: Option<Again>,
    ) -> Option<(Call, u16)> {
        let Some(mut again) = again else { return Some((call, status)) };
        // The sidecar has words of its own for its 503, and means it.
        let nobody = matches!(status, 0 | 504) || (status == 503 && !body.starts_with(b"{"));
        let may = nobody && again.left > 0;
        let late = again.late;
        again.late |= status == 504;
        again.left = if status == 504 { 0 } else { again.left.saturating_sub(1) };
        let token = if may { again.post() } else { None };
        let Some(token) = token else {
            return Some((call, if nobody && late { 504 } else { status }));
        };
        vm::with(|vm| vm.stats.count("asked_again", 1));
        self.calls.insert(token, (call, Some(again)));
        None
    }

    fn decided(&mut self, flight: u64, status: u16, body: &[u8]) {
        let answer = parse::<DecideAnswer>(status, body, |answer| answer.contract);
        self.reached(answer.as_ref().err());
        // Envoy says 504 for a sidecar that takes too long, as it does for ext_proc.
        let refused = if status == 504 { 504 } else { 503 };
        deciding::answered(flight, answer.map_err(|_| refused));
    }

    fn lookup_done(&mut self, hash: &Hash, answer: Result<Option<KeyRecord>, String>) {
        let now_ms = host::now_ms();
        self.reached(answer.as_ref().err());
        vm::with(|vm| {
            let (waiters, looked) = match answer {
                Ok(answer) => {
                    let looked = answer.clone().map_or(Looked::Nobody, |record| Looked::Up(Rc::new(record)));
                    (vm.keys.answered(hash, answer, now_ms), looked)
                }
                Err(why) => {
                    let waiters = vm.keys.failed(hash, now_ms);
                    // A key known from before goes on while nobody can be asked.
                    let looked = match vm.keys.find(hash, now_ms) {
                        Known::Record(record) => Looked::Up(record),
                        Known::Nobody | Known::Ask => Looked::Failed(why),
                    };
                    (waiters, looked)
                }
            };
            vm.due.looked_up(waiters, looked);
        });
    }

    fn changes_done(&mut self, status: u16, body: &[u8]) {
        self.polling = false;
        let changes = match parse::<KeyChanges>(status, body, |changes| changes.contract) {
            Ok(changes) => changes,
            Err(why) => return self.reached(Some(&why)),
        };
        self.reached(None);
        vm::with(|vm| {
            if changes.flush {
                vm.keys.doubt_all();
            }
            let changed: Vec<_> = changes.hashes.iter().filter_map(|text| Caller::of_wire(text)).collect();
            vm.keys.forget(&changed);
        });
        self.epoch = changes.epoch;
        self.generation = changes.generation;
    }

    fn poll_changes(&mut self, now_ms: u64) {
        let due = !self.polling && now_ms.saturating_sub(self.changes_at_ms) >= CHANGES_EVERY_MS;
        // An empty table has nothing to forget. Envoy's main thread has a VM, too, that never sees a request.
        if !due || vm::with(|vm| vm.keys.is_empty()).unwrap_or(true) {
            return;
        }
        self.changes_at_ms = now_ms;
        let ask = KeyChangesAsk { contract: VERSION, epoch: self.epoch.clone(), generation: self.generation };
        let Ok(body) = serde_json::to_vec(&ask) else { return };
        if let Some(token) = host::post(KEY_CHANGES_PATH, &body, CHANGES_TIMEOUT_MS) {
            self.polling = true;
            self.calls.insert(token, (Call::Changes, None));
        }
    }

    fn send_usage(&mut self, now_ms: u64) {
        let Some(Some(batch)) = vm::with(|vm| vm.usage.next_batch(now_ms)) else { return };
        match host::post(USAGE_PATH, batch.as_bytes(), USAGE_TIMEOUT_MS) {
            Some(token) => {
                self.calls.insert(token, (Call::Usage, None));
            }
            None => self.usage_done(0, &[]),
        }
    }

    /// Records requests that Envoy was asked to redirect and did not bring back. The client saw whatever Envoy said.
    fn close_lost(&self) {
        let now_us = host::now_us();
        let lost = vm::with(|vm| vm.lost(now_us.saturating_sub(LOST_AFTER_US))).unwrap_or_default();
        for request in lost {
            host::warn(&format!("attache: request {} was lost between two passes", request.call_id));
            let ending = Ending { details: "attache_lost".into(), now_us, ..Ending::default() };
            let note = request.passes.note.clone();
            finish::close(request, note.as_ref(), &ending, None);
        }
    }

    fn usage_done(&mut self, status: u16, body: &[u8]) {
        // A dead sidecar is a 503 from Envoy, a slow one a 504. Only a 200 means that the records are durable.
        let answer = parse::<UsageAck>(status, body, |ack| ack.contract);
        self.reached(answer.as_ref().err());
        vm::with(|vm| match answer {
            Ok(_) => {
                let sent = vm.usage.acknowledged();
                vm.stats.count("usage_sent", sent as u64);
            }
            Err(_) => {
                let again = vm.usage.failed(host::now_ms());
                vm.stats.count("usage_retried", again as u64);
            }
        });
    }

    /// Notes whether the sidecar could be reached. Changes are logged, but not each of many.
    fn reached(&mut self, failure: Option<&String>) {
        let away = failure.is_some();
        let now_ms = host::now_ms();
        if away == self.away || now_ms.saturating_sub(self.said_ms) < QUIET_MS {
            return;
        }
        (self.away, self.said_ms) = (away, now_ms);
        match failure {
            Some(why) => {
                host::error(&format!(
                    "attache: sidecar not reached ({why}); known keys go on, usage is kept"
                ));
            }
            None => host::warn("attache: sidecar reached again"),
        }
    }
}

/// Body of a 200 of our own contract version, or why it is none.
fn parse<T: serde::de::DeserializeOwned>(
    status: u16,
    body: &[u8],
    contract: impl FnOnce(&T) -> u32,
) -> Result<T, String> {
    match status {
        200 => {}
        409 => return Err(format!("it does not speak contract version {VERSION} of this filter")),
        0 => return Err("no answer".into()),
        other => return Err(format!("status {other}")),
    }
    let parsed: T = serde_json::from_slice(body).map_err(|error| format!("unreadable answer: {error}"))?;
    match contract(&parsed) {
        VERSION => Ok(parsed),
        other => Err(format!("it speaks contract version {other}, this filter {VERSION}")),
    }
}

impl Context for GateRoot {
    fn on_http_call_response(&mut self, token: u32, headers: usize, body_size: usize, _trailers: usize) {
        let Some((call, again)) = self.calls.remove(&token) else { return };
        let (status, body) = host::answer(headers, body_size);
        let Some((call, status)) = self.ask_again(status, &body, call, again) else { return };
        match call {
            Call::Lookup(hash) => {
                let answer =
                    parse::<KeyAnswer>(status, &body, |answer| answer.contract).map(|answer| answer.key);
                self.lookup_done(&hash, answer);
                self.serve();
            }
            Call::Decide(flight) => {
                self.decided(flight, status, &body);
                self.serve();
            }
            Call::Changes => self.changes_done(status, &body),
            Call::Usage => {
                self.usage_done(status, &body);
                self.send_usage(host::now_ms());
            }
        }
    }

    /// The plugin goes away: with an update of the listener (another root of this VM goes on), or with Envoy. Then the
    /// event loops have stopped already and nothing can be sent: what was not acknowledged goes to the log.
    fn on_done(&mut self) -> bool {
        let sending = self.calls.values().any(|call| matches!(call, (Call::Usage, _)));
        let left = vm::with(|vm| {
            vm.gates = vm.gates.saturating_sub(1);
            if sending {
                vm.usage.failed(host::now_ms());
            }
            if vm.gates > 0 {
                return Vec::new();
            }
            let left = vm.usage.drain();
            vm.stats.count("usage_dumped", left.len() as u64);
            left
        });
        for record in left.unwrap_or_default() {
            finish::dump(&record);
        }
        true
    }
}

impl RootContext for GateRoot {
    fn on_configure(&mut self, size: usize) -> bool {
        let text = host::body(BufferType::PluginConfiguration, 0, size);
        let config = if text.is_empty() { Ok(GateConfig::default()) } else { serde_json::from_slice(&text) };
        let config: GateConfig = match config {
            Ok(config) => config,
            Err(error) => {
                host::error(&format!("attache: the gate's configuration is not valid: {error}"));
                return false;
            }
        };
        if config.contract != VERSION {
            let theirs = config.contract;
            host::error(&format!(
                "attache: configuration has contract version {theirs}, this filter {VERSION}"
            ));
            return false;
        }
        self.config = Rc::new(config);
        let config = Rc::clone(&self.config);
        let number = vm::with(|vm| {
            vm.configure(config);
            vm.gates = vm.gates.saturating_add(1);
            vm.number
        });
        let name = format!("attache.wake.{}.{}", number.unwrap_or(0), self.context);
        self.queue = hostcalls::register_shared_queue(&name).unwrap_or(0);
        let _ = hostcalls::set_tick_period(TICK);
        true
    }

    fn on_tick(&mut self) {
        let now_ms = host::now_ms();
        vm::with(|vm| {
            let unused = vm.stocks.expire(now_ms);
            vm.stats.count("lease_unused", unused.len() as u64);
            vm.usage.give_back(unused);
        });
        self.send_usage(now_ms);
        self.poll_changes(now_ms);
        let limit_ms = self.config.lookup_timeout_ms.saturating_add(OVERDUE_GRACE_MS);
        vm::with(|vm| {
            let pending = vm.usage.len() as u64;
            vm.stats.usage_pending(pending);
            let overdue = vm.keys.overdue(limit_ms, now_ms);
            vm.due.looked_up(overdue, Looked::Failed("the lookup was lost".into()));
        });
        self.close_lost();
        deciding::give_up();
        self.serve();
        self.pace(now_ms);
    }

    /// A request waits for a key or a decision, or a whole usage batch does, or the first usage after a rest.
    fn on_queue_ready(&mut self, queue: u32) {
        while let Ok(Some(_)) = hostcalls::dequeue_shared_queue(queue) {}
        self.serve();
        // Only a whole one: requests wake this root all the time, and a batch is for many.
        if vm::with(|vm| vm.usage.is_full_batch()) == Some(true) {
            self.send_usage(host::now_ms());
        }
        if vm::with(|vm| vm.resting) == Some(true) {
            self.pace(host::now_ms());
        }
    }

    fn create_http_context(&self, context: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Gate::new(context, self.queue, Rc::clone(&self.config))))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

/// Root context of the adapter: it only makes contexts.
pub struct AdapterRoot;

impl Context for AdapterRoot {}

impl RootContext for AdapterRoot {
    fn create_http_context(&self, _context: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Adapter::default()))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}
