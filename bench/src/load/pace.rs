//! When each request is due, and who takes it.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::unix::AsyncFd;
use tokio::sync::Semaphore;

use super::seen::Seen;

/// The run's moments, the same for all threads.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    pub start: Instant,
    /// Of the measured window.
    pub begin: Instant,
    pub end: Instant,
}

/// A request that somebody takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Turn {
    /// Counts over all threads from 0.
    pub number: usize,
    pub due: Instant,
}

/// Hands out the requests of one thread.
#[derive(Debug)]
pub(super) enum Turns {
    /// The next request is due when somebody asks for it.
    Closed { next: Arc<AtomicUsize>, limit: usize, end: Instant },
    /// Each is due at its time, whatever became of those before it.
    Open(Schedule),
}

impl Turns {
    /// The next request, at its time; `None` when there is no more.
    pub(super) async fn next(&self) -> Option<Turn> {
        match self {
            Self::Closed { next, limit, end } => {
                let due = Instant::now();
                let number = (due < *end).then(|| next.fetch_add(1, Ordering::Relaxed))?;
                (number < *limit).then_some(Turn { number, due })
            }
            Self::Open(schedule) => schedule.next().await,
        }
    }
}

/// A constant rate over the threads of a run: thread k of n has every n-th request.
#[derive(Debug)]
pub(super) struct Schedule {
    clock: Clock,
    /// Requests per second, of all threads.
    rate: f64,
    /// Requests of all threads.
    limit: usize,
    thread: usize,
    threads: usize,
    /// Requests that are due and that nobody has taken yet.
    waiting: Semaphore,
    taken: AtomicUsize,
    /// Requests of the warm-up that were not sent before its end, and are not sent any more.
    left_behind: AtomicU64,
}

impl Schedule {
    pub(super) fn new(clock: Clock, rate: f64, limit: usize, thread: usize, threads: usize) -> Self {
        let (waiting, taken, left_behind) = (Semaphore::new(0), AtomicUsize::new(0), AtomicU64::new(0));
        Self { clock, rate, limit, thread, threads, waiting, taken, left_behind }
    }

    async fn next(&self) -> Option<Turn> {
        loop {
            self.waiting.acquire().await.ok()?.forget();
            let number = self.number(self.taken.fetch_add(1, Ordering::Relaxed));
            if number >= self.limit {
                return None;
            }
            let due = self.due(number);
            // What a warm-up beyond the server's means left behind would be all that a window could send.
            if due >= self.clock.begin || Instant::now() < self.clock.begin {
                return Some(Turn { number, due });
            }
            self.left_behind.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Over all threads, of this one's so many-th request.
    fn number(&self, own: usize) -> usize {
        own.saturating_mul(self.threads).saturating_add(self.thread)
    }

    #[expect(clippy::cast_precision_loss, reason = "numbers of requests are small")]
    fn due(&self, number: usize) -> Instant {
        self.clock.start + Duration::from_secs_f64(number as f64 / self.rate)
    }

    /// How many of this thread's requests are due before a moment.
    fn due_before(&self, moment: Instant) -> usize {
        let all = whole(moment.saturating_duration_since(self.clock.start).as_secs_f64() * self.rate);
        all.min(self.limit).saturating_sub(self.thread).div_ceil(self.threads)
    }

    /// Lets requests go at their times, until the window ends or all have been taken.
    ///
    /// # Errors
    /// When the system gives no timer.
    pub(super) async fn run(&self, workers: usize) -> std::io::Result<()> {
        let timer = Timer::new()?;
        let (mut released, last) = (0, self.due_before(self.clock.end));
        while released < last {
            timer.until(self.due(self.number(released))).await?;
            // Everything that is due by now: the machine may have let us wait.
            let due = self.due_before(Instant::now()).clamp(released + 1, last);
            self.waiting.add_permits(due - released);
            released = due;
        }
        if self.number(last) >= self.limit {
            // Nothing follows: who finds a number beyond the limit goes home, after the last has been taken.
            self.waiting.add_permits(workers);
        }
        timer.until(self.clock.end).await?;
        self.waiting.close();
        Ok(())
    }

    /// Tells how many requests of the window were due, and how many of them nobody took before its end.
    pub(super) fn account(&self, seen: &mut Seen) {
        let (before, all) = (self.due_before(self.clock.begin), self.due_before(self.clock.end));
        let taken = self.taken.load(Ordering::Relaxed).clamp(before, all.max(before));
        seen.due = (all - before) as u64;
        seen.dropped = (all - taken) as u64;
        seen.warm_up.dropped = self.left_behind.load(Ordering::Relaxed);
    }
}

/// How many numbers, from 0, are below an amount.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it is positive, and the cast saturates"
)]
fn whole(amount: f64) -> usize {
    amount.ceil() as usize
}

/// A timer of the kernel. The runtime's own counts whole milliseconds, which is as long as a whole request.
struct Timer(AsyncFd<OwnedFd>);

impl Timer {
    fn new() -> std::io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        #[expect(
            deprecated,
            reason = "its successor is unsafe for descriptors that may change; an owned one cannot"
        )]
        Ok(Self(AsyncFd::new(timerfd_create(TimerfdClockId::Monotonic, flags)?)?))
    }

    async fn until(&self, moment: Instant) -> std::io::Result<()> {
        let left = moment.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        let once = Itimerspec {
            it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: Timespec {
                tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            },
        };
        timerfd_settime(self.0.get_ref().as_fd(), TimerfdTimerFlags::empty(), &once)?;
        let mut expirations = [0; 8];
        loop {
            let mut guard = self.0.readable().await?;
            match guard.try_io(|timer| Ok(rustix::io::read(timer.get_ref(), &mut expirations)?)) {
                Ok(read) => return read.map(drop),
                Err(_would_block) => {}
            }
        }
    }
}
