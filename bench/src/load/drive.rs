//! One thread of the generator: its workers, each with one request at a time.

use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::args::Plan;
use super::http1::Connection;
use super::http2;
use super::pace::{Clock, Schedule, Turns};
use super::seen::Seen;
use super::watch::{Failure, Watch};

/// After a connection could not be made.
const PAUSE: Duration = Duration::from_millis(10);
/// Longest time that a run waits for its first connections.
const FIRST_CONNECTION: Duration = Duration::from_secs(5);

/// How far the run is, for whoever looks on.
#[derive(Debug, Default)]
pub(super) struct Live {
    pub sent: AtomicU64,
    pub ended: AtomicU64,
    pub errors: AtomicU64,
    /// Connections made.
    pub connects: AtomicU64,
}

/// What a thread is given.
pub(super) struct Thread {
    pub plan: Arc<Plan>,
    pub number: usize,
    pub live: Arc<Live>,
    /// Closed loop: number of the next request of all threads.
    pub next: Arc<AtomicUsize>,
    /// Told when connections are there.
    pub ready: Sender<()>,
    /// Tells when to begin.
    pub clock: Receiver<Clock>,
}

/// What the workers of a thread share.
struct Shared {
    plan: Arc<Plan>,
    live: Arc<Live>,
    clock: Clock,
    turns: Turns,
    seen: Mutex<Seen>,
}

/// This thread's part of what is split among all.
fn share(all: usize, plan: &Plan, thread: usize) -> usize {
    all / plan.threads + usize::from(thread < all % plan.threads)
}

impl Thread {
    /// Runs to the end.
    pub(super) fn run(self) -> io::Result<Seen> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(self.drive())
    }

    async fn drive(self) -> io::Result<Seen> {
        let lines = self.lines().await;
        let _ = self.ready.send(());
        // Nothing runs in this thread yet that a wait could hold up.
        let Ok(clock) = self.clock.recv() else { return Ok(Seen::default()) };
        let (workers, plan) = (lines.len(), &self.plan);
        let turns = match plan.rate {
            Some(rate) => Turns::Open(Schedule::new(clock, rate, plan.limit, self.number, plan.threads)),
            None => Turns::Closed { next: self.next, limit: plan.limit, end: clock.end },
        };
        let seen = Mutex::default();
        let shared = Arc::new(Shared { plan: self.plan.clone(), live: self.live, clock, turns, seen });
        let tasks: Vec<_> = lines.into_iter().map(|line| tokio::spawn(work(shared.clone(), line))).collect();
        let finish = async {
            for task in tasks {
                task.await?;
            }
            Ok::<(), io::Error>(())
        };
        if let Turns::Open(schedule) = &shared.turns {
            let mut finish = std::pin::pin!(finish);
            tokio::select! {
                // Everything was sent before the window ended.
                done = &mut finish => done?,
                paced = schedule.run(workers) => { paced?; finish.await? }
            }
        } else {
            finish.await?;
        }
        let mut seen = std::mem::take(&mut *shared.seen.lock().unwrap_or_else(PoisonError::into_inner));
        if let Turns::Open(schedule) = &shared.turns {
            schedule.account(&mut seen);
        }
        Ok(seen)
    }

    /// A line for each worker, connected as far as the server answers: the first requests measure no handshakes.
    async fn lines(&self) -> Vec<Line> {
        let plan = &self.plan;
        let workers = share(plan.concurrency, plan, self.number);
        let mut lines: Vec<Line> = if plan.http == 1 {
            (0..workers).map(|_| Line::One(None)).collect()
        } else {
            let count = share(plan.connections, plan, self.number).max(1);
            let shared: Vec<_> = (0..count).map(|_| Arc::<http2::Shared>::default()).collect();
            (0..workers).map(|at| Line::Two(http2::Sender::new(shared[at % count].clone()))).collect()
        };
        let connect = lines.iter_mut().map(|line| line.prepare(plan, &self.live));
        let _ = tokio::time::timeout(FIRST_CONNECTION, futures_util::future::join_all(connect)).await;
        lines
    }
}

/// One worker's way to the server.
enum Line {
    One(Option<Box<Connection>>),
    Two(http2::Sender),
}

impl Line {
    /// Connects, if the server lets it.
    async fn prepare(&mut self, plan: &Plan, live: &Live) {
        match self {
            Self::One(connection) => *connection = open(plan, live).await.ok(),
            Self::Two(sender) => sender.prepare(plan, live).await,
        }
    }

    async fn exchange(
        &mut self,
        plan: &Plan,
        live: &Live,
        key: &[u8],
        watch: &mut Watch,
    ) -> Result<(), Failure> {
        match self {
            Self::One(kept) => {
                // Taken out: a request that is given up leaves no connection behind.
                let mut connection = match kept.take() {
                    Some(connection) => connection,
                    None => open(plan, live).await?,
                };
                if !connection.usable().await {
                    connection = open(plan, live).await?;
                }
                if connection.exchange(&plan.template, key, watch).await? {
                    *kept = Some(connection);
                }
                Ok(())
            }
            Self::Two(sender) => sender.exchange(plan, live, key, watch).await,
        }
    }
}

async fn open(plan: &Plan, live: &Live) -> Result<Box<Connection>, Failure> {
    let connection = Connection::open(&plan.connector).await?;
    live.connects.fetch_add(1, Ordering::Relaxed);
    Ok(Box::new(connection))
}

async fn work(shared: Arc<Shared>, mut line: Line) {
    let (plan, live) = (&*shared.plan, &*shared.live);
    let mut watch = Watch::new(plan.expect, plan.end_mark.as_deref());
    let mut key = Vec::new();
    while let Some(turn) = shared.turns.next().await {
        plan.keys.write(turn.number, &mut key);
        watch.start(turn.due, Instant::now());
        live.sent.fetch_add(1, Ordering::Relaxed);
        let exchange = tokio::time::timeout(plan.timeout, line.exchange(plan, live, &key, &mut watch)).await;
        let result = match exchange {
            Ok(Ok(())) => watch.judge(),
            Ok(Err(failure)) => Err(failure),
            Err(_elapsed) => Err(Failure::Timeout),
        };
        live.ended.fetch_add(1, Ordering::Relaxed);
        live.errors.fetch_add(u64::from(result.is_err()), Ordering::Relaxed);
        shared.seen.lock().unwrap_or_else(PoisonError::into_inner).record(&watch, result, &shared.clock);
        if result == Err(Failure::Connect) {
            tokio::time::sleep(PAUSE).await;
        }
    }
}
