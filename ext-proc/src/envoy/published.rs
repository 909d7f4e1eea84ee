//! What is published to Envoy, and which of it every connected Envoy has.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use arc_swap::ArcSwap;
use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::Secret;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use envoy_types::pb::google::protobuf::Any;
use parking_lot::{Mutex, MutexGuard};
use prost::Name;
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use self::verdict::ClusterVerdict;
use super::clusters::{self, ClusterOptions};
use super::session::{Item, Nack, TypeState};
use super::signing;
use crate::credentials::{Credential, Keyring};
use crate::routing::{Deployment, LiveClusters, LiveView, Snapshot};

/// An acknowledgement means that Envoy's main thread has accepted a resource. Its workers follow a moment later.
const SETTLE: Duration = Duration::from_millis(50);

/// An Envoy that has not answered for this long no longer holds up what the others have.
const LAG: Duration = Duration::from_secs(10);

/// A withdrawn cluster leaves plans at once and Envoy only after this: requests under way may still try it.
const RETIRE_AFTER: Duration = Duration::from_secs(60);

/// Between two looks at what time has changed.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Bound of the remembered refusals.
const MAX_LOGGED: usize = 10_000;

/// The state of xDS, shared by publisher, streams and the request path. The last one only reads a set.
#[derive(Debug)]
pub struct Published {
    options: ClusterOptions,
    retire_after: Duration,
    /// Versions of secrets are seen in Envoy's admin interface: they must not be plain hashes of them.
    salt: [u8; 16],
    keyring: Arc<Keyring>,
    state: Mutex<State>,
    live: ArcSwap<Live>,
    changes: watch::Sender<Change>,
}

/// What streams are woken for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) revision: u64,
    pub(super) closed: bool,
}

#[derive(Debug, Default)]
struct Live {
    /// A decision asks for every candidate: the hash is a fast one.
    clusters: HashSet<String, foldhash::fast::RandomState>,
    ready: bool,
    /// Generation of which all clusters are live.
    complete: Option<u64>,
    /// Cluster -> why its credential is not there.
    lacking: BTreeMap<String, String>,
}

#[derive(Debug, Default)]
struct State {
    generation: Option<u64>,
    clusters: BTreeMap<String, Item>,
    /// Clusters whose file of AWS keys is not there yet: Envoy looks for it once, when it gets the cluster.
    held: BTreeMap<String, Item>,
    /// Cluster -> what it is called with.
    credentials: BTreeMap<String, Credential>,
    /// Cluster -> name of its secret.
    secret_of: HashMap<String, String>,
    /// Cluster -> why its credential is not there. Plans do without it.
    lacking: BTreeMap<String, String>,
    secrets: BTreeMap<String, Item>,
    sessions: HashMap<u64, Session>,
    next_session: u64,
    /// Cluster -> from when on it is taken for known where no Envoy could say. Those not here are at once.
    assumed_at: HashMap<String, Instant>,
    /// Clusters that the last Envoy here had refused when it left.
    refused: BTreeSet<String>,
    /// Refusals that the log has seen.
    logged: HashSet<(String, String)>,
    /// What was published first, where Envoy has its clusters from `attache render`.
    fixed: Option<BTreeMap<String, Any>>,
    /// No cluster waits for an Envoy.
    decided: bool,
    /// Rises with everything that anybody says.
    revision: u64,
    /// Revision from which on time alone changes nothing: thousands of clusters are not looked through each second for it.
    calm: Option<u64>,
}

/// One connected Envoy.
#[derive(Debug)]
struct Session {
    node: String,
    clusters: TypeState,
    secrets: TypeState,
    since: Instant,
    /// Counts for liveness. A new Envoy does not until it has everything: it takes no requests before either.
    joined: bool,
    /// Revision at which there was nothing to send.
    told: Option<u64>,
}

/// What a person or a readiness probe wants to know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EnvoyStatus {
    /// Connected Envoys.
    pub streams: usize,
    /// Clusters that plans may name.
    pub live: usize,
    /// Clusters that not every Envoy has yet.
    pub waiting: Vec<String>,
    /// Clusters that an Envoy has refused, with its words.
    pub rejected: BTreeMap<String, String>,
    /// Clusters whose credential could not be had, and why.
    pub lacking: BTreeMap<String, String>,
}

impl Published {
    /// Nothing published yet.
    #[must_use]
    pub fn new(options: ClusterOptions) -> Self {
        Self {
            options,
            retire_after: RETIRE_AFTER,
            salt: rand::random(),
            keyring: Arc::new(Keyring::plain()),
            state: Mutex::default(),
            live: ArcSwap::default(),
            changes: watch::Sender::default(),
        }
    }

    /// Takes tokens and keys from here.
    #[must_use]
    pub fn keyring(mut self, keyring: Arc<Keyring>) -> Self {
        self.keyring = keyring;
        self
    }

    /// How long Envoy keeps a cluster after it left the configuration (60 s by default).
    #[must_use]
    pub fn retire_after(mut self, duration: Duration) -> Self {
        self.retire_after = duration;
        self
    }

    /// Makes this snapshot's deployments what Envoy has. Clusters that are gone leave [`LiveClusters`] before this
    /// returns, and Envoy some time later.
    ///
    /// # Errors
    ///
    /// A resource that cannot be encoded; nothing changes then.
    pub fn publish(&self, snapshot: &Snapshot) -> Result<()> {
        let encoded = clusters::encode(snapshot, &self.options)?;
        let retire_at = Instant::now() + self.retire_after;
        let mut state = self.changed();
        if self.options.fixed {
            state.fix(&encoded);
        }
        let of =
            |deployment: &Arc<Deployment>| Some((deployment.cluster.clone(), deployment.credential.clone()?));
        state.credentials = snapshot.deployments.values().filter_map(of).collect();
        let names: BTreeSet<String> = encoded.keys().cloned().collect();
        state.expect(&names, Instant::now());
        retire(&mut state.clusters, &names, retire_at);
        let item = |body: Any| Item { version: self.version(&body, false), body, retire_at: None };
        state.held = encoded.into_iter().map(|(name, body)| (name, item(body))).collect();
        self.fill(&mut state);
        let names: BTreeSet<String> = state.secret_of.values().cloned().collect();
        retire(&mut state.secrets, &names, retire_at);
        state.generation = Some(snapshot.generation);
        self.refresh(&mut state, Instant::now());
        drop(state);
        self.changes.send_modify(|change| change.revision += 1);
        Ok(())
    }

    /// Sends what the keyring has made since to every Envoy. Clusters stay as they are.
    pub fn renew(&self) {
        let mut state = self.changed();
        self.fill(&mut state);
        self.refresh(&mut state, Instant::now());
        drop(state);
        self.changes.send_modify(|change| change.revision += 1);
    }

    /// Has Envoy its clusters from `attache render`?
    #[must_use]
    pub fn is_fixed(&self) -> bool {
        self.options.fixed
    }

    /// Ends all streams, so that the server can stop.
    pub fn close(&self) {
        self.changes.send_modify(|change| change.closed = true);
    }

    /// Who is connected, and what they lack.
    #[must_use]
    pub fn status(&self) -> EnvoyStatus {
        let live = self.live.load();
        let state = self.state.lock();
        let rejected: BTreeMap<_, _> = state
            .sessions
            .values()
            .flat_map(|session| session.clusters.rejected())
            .map(|(name, message)| (name.clone(), message.clone()))
            .collect();
        let waiting = state
            .clusters
            .iter()
            .filter(|(name, item)| {
                item.retire_at.is_none()
                    && !live.clusters.contains(*name)
                    && !rejected.contains_key(*name)
                    && !state.lacking.contains_key(*name)
            })
            .map(|(name, _)| name.clone())
            .collect();
        EnvoyStatus {
            streams: state.sessions.len(),
            live: live.clusters.len(),
            waiting,
            rejected,
            lacking: state.lacking.clone(),
        }
    }

    /// The state, for somebody who has something to say.
    fn changed(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock();
        state.revision += 1;
        state
    }

    pub(super) fn changes(&self) -> watch::Receiver<Change> {
        self.changes.subscribe()
    }

    pub(super) fn connect(&self) -> u64 {
        let mut state = self.changed();
        state.next_session += 1;
        let id = state.next_session;
        let session = Session {
            node: String::new(),
            clusters: TypeState::default(),
            secrets: TypeState::default(),
            since: Instant::now(),
            joined: false,
            told: None,
        };
        state.sessions.insert(id, session);
        id
    }

    pub(super) fn disconnect(&self, id: u64) {
        let mut state = self.changed();
        if let Some(session) = state.sessions.remove(&id) {
            tracing::info!(node = session.node, "Envoy disconnected");
            state.refused.extend(session.clusters.rejected().map(|(name, _)| name.clone()));
        }
        self.refresh(&mut state, Instant::now());
    }

    /// Takes a request of a stream.
    pub(super) fn request(&self, id: u64, request: &DeltaDiscoveryRequest) {
        let now = Instant::now();
        let settled = now.checked_sub(SETTLE).unwrap_or(now);
        let mut state = self.changed();
        let Some(session) = state.sessions.get_mut(&id) else { return };
        if let Some(node) = &request.node
            && session.node.is_empty()
        {
            session.node.clone_from(&node.id);
            tracing::info!(node = session.node, "Envoy connected");
        }
        let nacks = if request.type_url == Cluster::type_url() {
            session.clusters.request(request, now, settled)
        } else if request.type_url == Secret::type_url() {
            session.secrets.request(request, now, settled)
        } else {
            tracing::debug!(type_url = request.type_url, "Envoy asks for a type that is not served");
            Vec::new()
        };
        let node = session.node.clone();
        state.log_nacks(&node, nacks);
        self.refresh(&mut state, now);
    }

    /// What to send on a stream now. Clusters go before the secrets they ask for.
    pub(super) fn responses(&self, id: u64) -> Vec<DeltaDiscoveryResponse> {
        let now = Instant::now();
        let state = &mut *self.state.lock();
        let Some(session) = state.sessions.get_mut(&id) else { return Vec::new() };
        if session.told == Some(state.revision) {
            return Vec::new();
        }
        let mut responses = session.clusters.responses(&Cluster::type_url(), &state.clusters, true, now);
        responses.extend(session.secrets.responses(&Secret::type_url(), &state.secrets, false, now));
        session.told = responses.is_empty().then_some(state.revision);
        let version = state.generation.map(|generation| generation.to_string()).unwrap_or_default();
        for response in &mut responses {
            response.system_version_info.clone_from(&version);
        }
        responses
    }

    /// Passing of time: acknowledgements settle, retired clusters go, an Envoy that lags stops counting. Returns when
    /// to call again.
    pub(super) fn tick(&self) -> Duration {
        let now = Instant::now();
        let mut state = self.state.lock();
        if state.calm == Some(state.revision) {
            return LOOK_EVERY;
        }
        let before = state.clusters.len();
        state.clusters.retain(|_, item| item.retire_at.is_none_or(|at| at > now));
        state.secrets.retain(|_, item| item.retire_at.is_none_or(|at| at > now));
        let withdrawn = state.clusters.len() != before;
        // An Envoy that has its clusters from a file starts only with all their files.
        if withdrawn && !self.options.fixed {
            signing::sweep(state.clusters.keys(), &self.options);
        }
        if withdrawn {
            state.revision += 1;
        }
        let pending = self.refresh(&mut state, now);
        let retiring = state.clusters.values().filter_map(|item| item.retire_at).min();
        let secrets_retire = state.secrets.values().any(|item| item.retire_at.is_some());
        let calm = !pending && state.decided && retiring.is_none() && !secrets_retire;
        state.calm = calm.then_some(state.revision);
        drop(state);
        if withdrawn {
            self.changes.send_modify(|change| change.revision += 1);
        }
        let retiring = retiring.map(|at| at.saturating_duration_since(now) + Duration::from_millis(1));
        let most = if pending { SETTLE } else { LOOK_EVERY };
        retiring.map_or(most, |wait| wait.min(most))
    }

    /// Computes the live set anew. True if something still has to settle.
    fn refresh(&self, state: &mut State, now: Instant) -> bool {
        state.join(now);
        let joined = state.sessions.values().any(|session| session.joined);
        if joined {
            state.refused.clear();
        }
        let fixed = state.fixed.is_some();
        let known = fixed || joined;
        let mut live = Live { lacking: state.lacking.clone(), ..Live::default() };
        let mut decided = true;
        let mut pending = false;
        let mut all = state.held.is_empty();
        for (name, item) in &state.clusters {
            if item.retire_at.is_some() {
                continue;
            }
            if state.lacking.contains_key(name) {
                all = false;
                continue;
            }
            let verdict = if known { state.verdict(name, now) } else { state.assumed(name, now) };
            match verdict {
                ClusterVerdict::Live => {
                    live.clusters.insert(name.clone());
                }
                ClusterVerdict::Rejected => all = false,
                ClusterVerdict::Settling => (decided, pending) = (false, true),
                // It waits for a restart, and nothing else waits for it.
                ClusterVerdict::Waiting if fixed => all = false,
                ClusterVerdict::Waiting => decided = false,
            }
        }
        state.decided = decided;
        let any =
            !live.clusters.is_empty() || state.clusters.keys().all(|name| state.lacking.contains_key(name));
        live.ready = state.generation.is_some() && known && decided && any;
        live.complete = state.generation.filter(|_| decided && any && all);
        let waits_to_join = state.sessions.values().any(|session| !session.joined);
        self.live.store(live.into());
        pending || waits_to_join
    }

    /// Version of a resource: a hash of its content.
    fn version(&self, body: &Any, secret: bool) -> String {
        let mut hash = Sha256::new();
        if secret {
            hash.update(self.salt);
        }
        hash.update(&body.value);
        hex::encode(hash.finalize().iter().take(8).copied().collect::<Vec<u8>>())
    }
}

impl LiveView for Live {
    fn is_live(&self, cluster: &str) -> bool {
        self.clusters.contains(cluster)
    }

    fn all_live(&self, generation: u64) -> bool {
        self.complete == Some(generation)
    }

    fn lacks(&self, cluster: &str) -> Option<&str> {
        self.lacking.get(cluster).map(String::as_str)
    }
}

impl LiveClusters for Published {
    fn view(&self) -> Arc<dyn LiveView> {
        self.live.load_full()
    }

    fn ready(&self) -> bool {
        self.live.load().ready
    }
}

/// Marks what is not among `kept` as leaving.
fn retire(items: &mut BTreeMap<String, Item>, kept: &BTreeSet<String>, at: Instant) {
    for (name, item) in items.iter_mut() {
        if !kept.contains(name) {
            item.retire_at.get_or_insert(at);
        }
    }
}

impl State {
    /// One log line per refusal, however many Envoys say it and however often.
    fn log_nacks(&mut self, node: &str, nacks: Vec<Nack>) {
        for nack in nacks {
            if self.logged.len() >= MAX_LOGGED {
                self.logged.clear();
            }
            if self.logged.insert((nack.name.clone(), nack.version)) {
                tracing::error!(
                    node,
                    resource = nack.name,
                    message = nack.message,
                    "Envoy refused a resource"
                );
            }
        }
    }
}

impl Session {
    fn lags(&self, cluster: &str, now: Instant) -> bool {
        self.clusters.sent_at(cluster).is_some_and(|at| now.saturating_duration_since(at) >= LAG)
    }
}

#[path = "assumed.rs"]
mod assumed;
#[path = "filled.rs"]
mod filled;
#[path = "fixed.rs"]
mod fixed;
#[path = "verdict.rs"]
mod verdict;

#[cfg(test)]
#[path = "published_tests.rs"]
mod tests;
