//! What was made of the sources in use, and when it must be made anew.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use parking_lot::Mutex;
use tokio::time::{Instant, timeout};

use super::source::{AwsKeys, Source};
use crate::config::Secret;
use crate::server::Client;

/// Sources that are asked at the same time.
const AT_ONCE: usize = 8;
/// First wait after a failure; it doubles up to the longest.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// A token is renewed this long before it expires, or when a fifth of its life is left, whichever comes first.
const EARLY: Duration = Duration::from_secs(300);

/// Something to call a provider with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Issued {
    /// Without `Bearer`.
    Token(Secret),
    Keys(AwsKeys),
}

/// A fresh [`Issued`].
#[derive(Debug, Clone)]
pub(super) struct Made {
    pub(super) issued: Issued,
    /// How long it is good for; `None`: until the configuration changes.
    pub(super) life: Option<Duration>,
}

/// How a source does, for metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// `entra`, `google` or `aws`.
    pub kind: &'static str,
    /// Application, account or role. Not secret.
    pub name: String,
    pub successes: u64,
    pub failures: u64,
    /// Seconds until what is held expires; 0 when nothing is held.
    pub expires_in: Option<u64>,
}

/// The credentials of all sources in use.
pub struct Keyring {
    client: Client,
    entries: Mutex<HashMap<Arc<Source>, Entry>>,
}

#[derive(Debug)]
struct Entry {
    made: Option<Made>,
    since: Instant,
    /// When to ask (again).
    due: Option<Instant>,
    wait: Duration,
    error: Option<String>,
    successes: u64,
    failures: u64,
}

impl Entry {
    fn new(now: Instant) -> Self {
        Self {
            made: None,
            since: now,
            due: Some(now),
            wait: FIRST_WAIT,
            error: None,
            successes: 0,
            failures: 0,
        }
    }

    fn left(&self, now: Instant) -> Option<Duration> {
        let life = self.made.as_ref()?.life?;
        Some(life.saturating_sub(now.saturating_duration_since(self.since)))
    }

    fn is_good(&self, now: Instant) -> bool {
        self.made.is_some() && self.left(now).is_none_or(|left| !left.is_zero())
    }
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keyring")
    }
}

impl Keyring {
    /// Empty; asks with this client.
    pub(crate) fn new(client: Client) -> Self {
        Self { client, entries: Mutex::default() }
    }

    /// Empty; asks servers without TLS only. Keys of the configuration need no server.
    #[must_use]
    pub fn plain() -> Self {
        Self::new(Client::without_tls())
    }

    /// What a source has made, as long as it is good.
    #[must_use]
    pub fn current(&self, source: &Source) -> Option<Issued> {
        let entries = self.entries.lock();
        let entry = entries.get(source).filter(|entry| entry.is_good(Instant::now()))?;
        entry.made.as_ref().map(|made| made.issued.clone())
    }

    /// Why there is nothing of a source.
    #[must_use]
    pub fn problem(&self, source: &Source) -> String {
        let entries = self.entries.lock();
        let error = entries.get(source).and_then(|entry| entry.error.clone());
        error.unwrap_or_else(|| "not asked for yet".to_owned())
    }

    /// Asks those sources that were never asked, for `patience` at most.
    pub async fn prepare(&self, sources: impl IntoIterator<Item = Arc<Source>>, patience: Duration) {
        let now = Instant::now();
        let sources: HashSet<Arc<Source>> = sources.into_iter().collect();
        let new: Vec<_> = {
            let mut entries = self.entries.lock();
            let of = |source: &Arc<Source>| !entries.contains_key(source);
            let new: Vec<_> = sources.into_iter().filter(of).collect();
            entries.extend(new.iter().map(|source| (Arc::clone(source), Entry::new(now))));
            new
        };
        // Whoever does not answer in time is asked again in the background.
        let _ = timeout(patience, self.ask_all(new)).await;
    }

    /// Drops what no source of the configuration makes, and asks those that are due. True when something changed.
    pub async fn tend(&self, sources: &HashSet<Arc<Source>>) -> bool {
        let now = Instant::now();
        let due: Vec<_> = {
            let mut entries = self.entries.lock();
            entries.retain(|source, _| sources.contains(source));
            for source in sources {
                if !entries.contains_key(source) {
                    entries.insert(Arc::clone(source), Entry::new(now));
                }
            }
            let due = entries.iter().filter(|(_, entry)| entry.due.is_some_and(|at| at <= now));
            due.map(|(source, _)| Arc::clone(source)).collect()
        };
        // What has expired meanwhile must be noticed, too.
        let asked = !due.is_empty();
        self.ask_all(due).await;
        asked
    }

    async fn ask_all(&self, sources: Vec<Arc<Source>>) {
        let asked = sources.into_iter().map(|source| async move {
            let outcome = super::make::make(&self.client, &source).await;
            self.enter(&source, outcome);
        });
        let asked: Vec<_> = asked.collect();
        stream::iter(asked).buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
    }

    fn enter(&self, source: &Arc<Source>, outcome: Result<Made, String>) {
        let now = Instant::now();
        let mut entries = self.entries.lock();
        let entry = entries.entry(Arc::clone(source)).or_insert_with(|| Entry::new(now));
        let (kind, name) = source.named();
        match outcome {
            Ok(made) => {
                tracing::info!(
                    kind,
                    name,
                    life_s = made.life.map(|life| life.as_secs()),
                    "credential renewed"
                );
                entry.due = made.life.map(|life| now + renewal(life));
                entry.made = Some(made);
                (entry.since, entry.wait, entry.error) = (now, FIRST_WAIT, None);
                entry.successes += 1;
            }
            Err(error) => {
                tracing::warn!(kind, name, error, "credential not renewed");
                entry.failures += 1;
                entry.error = Some(error);
                let wait = entry.wait.mul_f64(0.75 + 0.5 * rand::random::<f64>());
                // In time for the end of what is held, so that its loss is noticed.
                let left = entry.left(now).filter(|left| !left.is_zero()).unwrap_or(wait);
                entry.due = Some(now + wait.min(left));
                entry.wait = (entry.wait * 2).min(LONGEST_WAIT);
            }
        }
    }

    /// Every source, sorted.
    #[must_use]
    pub fn standings(&self) -> Vec<Standing> {
        let now = Instant::now();
        let entries = self.entries.lock();
        let standing = |(source, entry): (&Arc<Source>, &Entry)| {
            let (kind, name) = source.named();
            let left = if entry.is_good(now) { entry.left(now) } else { Some(Duration::ZERO) };
            Standing {
                kind,
                name,
                successes: entry.successes,
                failures: entry.failures,
                expires_in: left.map(|left| left.as_secs()),
            }
        };
        let mut standings: Vec<_> = entries.iter().map(standing).collect();
        standings.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
        standings
    }
}

/// When something of this life is made anew: replicas must not all ask at once.
fn renewal(life: Duration) -> Duration {
    let early = (life / 5).max(EARLY.min(life / 2));
    life.saturating_sub(early).mul_f64(0.95 + 0.05 * rand::random::<f64>()).max(Duration::from_millis(100))
}

#[cfg(test)]
#[path = "keyring_tests.rs"]
mod tests;
