//! The load generator: sends chat completions and measures what a client would see. The binary `load` is its command line.
//!
//! - [`args`] is the command line, checked into a [`Plan`],
//! - [`target`], [`request`] are what is asked, and of whom; all but the key is made once,
//! - [`pace`] says when: at once after the last (closed loop) or at a constant rate whatever the server does (open loop),
//! - [`drive`] is one thread: workers with one request at a time over [`http1`] or [`http2`] on [`connect`],
//! - [`watch`] sees one answer arrive, [`chunked`] and [`sse`] read it, [`seen`] adds answers up,
//! - [`procs`] is what processes used meanwhile, [`report`] the JSON.
//!
//! **No coordinated omission.** A generator that waits for a slow answer before it sends the next request asks seldom while
//! the server is slow, and the percentiles hide it. In the open loop every request has a due time that depends on nothing
//! but the rate, and its latency begins there. If all workers are busy it is sent later and the wait counts; if the run
//! ends before, it is reported as dropped.
//!
//! **Threads share nothing** but counters for the progress line: each has a runtime, workers, connections and histograms of
//! its own, and its own part of the rate.

mod args;
mod chunked;
mod connect;
mod drive;
mod http1;
mod http2;
mod pace;
mod procs;
mod report;
mod request;
mod seen;
mod sse;
mod target;
mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

pub use self::args::{Args, Plan};
use self::drive::{Live, Thread};
use self::pace::Clock;
use self::procs::{Process, Sample};
use self::report::{Outcome, Used};
use self::seen::Seen;

/// Between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(1);

/// Runs to the end and returns the report.
///
/// # Errors
/// A message for a person: a process that is not there, a system without threads. A server that does not answer is no
/// error, but a result.
pub fn run(plan: Plan) -> Result<Value, String> {
    let plan = Arc::new(plan);
    let own = Process { name: "load".into(), pid: std::process::id() };
    let watched: Vec<&Process> = plan.processes.iter().chain([&own]).collect();
    samples(&watched)?;
    let mut crew = Crew::start(&plan)?;
    let clock = crew.begin(&plan);
    crew.wait_until(clock.begin, clock);
    let (begin, before) = (Instant::now().max(clock.begin), samples(&watched)?);
    crew.wait_until(clock.end, clock);
    let after: Vec<_> = watched.iter().map(|process| process.sample().ok()).collect();
    let window = Instant::now().min(clock.end).saturating_duration_since(begin).max(Duration::from_micros(1));
    crew.wait_all(clock);
    let seen = crew.seen()?;
    let mut processes: Vec<_> = watched
        .iter()
        .zip(before.into_iter().zip(after))
        .map(|(process, (before, after))| Used {
            name: process.name.clone(),
            pid: process.pid,
            before,
            after,
        })
        .collect();
    let own = processes.pop().ok_or("no sample of the generator")?;
    let connects = crew.live.connects.load(Ordering::Relaxed);
    Ok(report::json(&plan, &Outcome { seen, window, connects, processes, own }))
}

fn samples(processes: &[&Process]) -> Result<Vec<Sample>, String> {
    processes.iter().map(|process| process.sample()).collect()
}

/// The threads of a run.
struct Crew {
    threads: Vec<JoinHandle<std::io::Result<Seen>>>,
    clocks: Vec<Sender<Clock>>,
    /// Nothing is sent; disconnected when all threads have ended.
    alive: Receiver<()>,
    ready: Receiver<()>,
    live: Arc<Live>,
    progress: Option<Progress>,
}

impl Crew {
    fn start(plan: &Arc<Plan>) -> Result<Self, String> {
        let (live, next) = (Arc::<Live>::default(), Arc::<AtomicUsize>::default());
        let ((ready_in, ready), (alive_in, alive)) = (channel(), channel::<()>());
        let (mut threads, mut clocks) = (Vec::new(), Vec::new());
        for number in 0..plan.threads {
            let (clock_in, clock) = channel();
            clocks.push(clock_in);
            let thread = Thread {
                plan: plan.clone(),
                number,
                live: live.clone(),
                next: next.clone(),
                ready: ready_in.clone(),
                clock,
            };
            let alive = alive_in.clone();
            let run = move || {
                let seen = thread.run();
                drop(alive);
                seen
            };
            let builder = std::thread::Builder::new().name(format!("load-{number}"));
            threads.push(builder.spawn(run).map_err(|error| format!("no thread: {error}"))?);
        }
        let progress = plan.progress.then(Progress::default);
        Ok(Self { threads, clocks, alive, ready, live, progress })
    }

    /// Waits for the connections and lets all begin at once.
    fn begin(&self, plan: &Plan) -> Clock {
        for _ in &self.threads {
            // A thread that ended says why at the end.
            let _ = self.ready.recv();
        }
        let start = Instant::now();
        let begin = start + plan.warm_up;
        let clock = Clock { start, begin, end: begin + plan.window };
        for sender in &self.clocks {
            let _ = sender.send(clock);
        }
        clock
    }

    /// Waits until a moment, or until all threads have ended.
    fn wait_until(&mut self, moment: Instant, clock: Clock) {
        loop {
            let now = Instant::now();
            let line = self.progress.as_ref().map(|progress| progress.next(clock));
            let wake = line.map_or(moment, |line| line.min(moment));
            match self.alive.recv_timeout(wake.saturating_duration_since(now)) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
            }
            if Instant::now() >= moment {
                return;
            }
            if let Some(progress) = &mut self.progress {
                progress.show(&self.live);
            }
        }
    }

    fn wait_all(&mut self, clock: Clock) {
        self.wait_until(clock.end + Duration::from_secs(366 * 24 * 3600), clock);
    }

    fn seen(&mut self) -> Result<Seen, String> {
        let mut all = Seen::default();
        for thread in self.threads.drain(..) {
            let seen = thread.join().map_err(|_| "a thread of the generator panicked")?;
            all.add(&seen.map_err(|error| error.to_string())?);
        }
        Ok(all)
    }
}

/// A line on standard error every second.
#[derive(Debug, Default)]
struct Progress {
    shown: u32,
    ended: u64,
}

impl Progress {
    fn next(&self, clock: Clock) -> Instant {
        clock.start + PROGRESS * (self.shown + 1)
    }

    fn show(&mut self, live: &Live) {
        self.shown += 1;
        let [sent, ended, errors] =
            [&live.sent, &live.ended, &live.errors].map(|count| count.load(Ordering::Relaxed));
        eprintln!(
            "load: {:>4} s {:>8}/s {ended:>10} done {errors:>6} errors {:>6} in flight",
            self.shown,
            ended - self.ended,
            sent.saturating_sub(ended)
        );
        self.ended = ended;
    }
}

#[cfg(test)]
mod tests;
