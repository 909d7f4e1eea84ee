//! The thread that makes rows durable: concurrent batches share one write and one fsync.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::line::Lines;
use super::segment::{self, Segment};
use super::{BooksError, SpoolLimits};
use crate::store::SpendRow;

/// Batches that wait for one fsync at most.
const GROUP: usize = 256;

/// What is in the spool, for status and bounds, and the rows themselves as far as memory is spared for them. Kept by
/// the thread and by the writer.
#[derive(Debug, Default)]
pub(super) struct Inventory {
    segments: BTreeMap<PathBuf, Held>,
}

#[derive(Debug)]
struct Held {
    rows: u64,
    bytes: u64,
    since: SystemTime,
    /// More may come.
    open: bool,
    /// All its rows: what this process wrote it need not read again. `None` when there was no room for all of them.
    kept: Option<Vec<Arc<Vec<SpendRow>>>>,
}

/// How the rows of a segment are had.
#[derive(Debug)]
pub(super) enum Source {
    /// This process still appends to it.
    Open,
    Kept(Vec<SpendRow>),
    File,
}

impl Inventory {
    /// What a former process left.
    fn scan(dir: &Path) -> io::Result<Self> {
        let mut segments = BTreeMap::new();
        for path in segment::list(dir)? {
            // Another process may take a segment away meanwhile.
            let (Ok(bytes), Ok(about)) = (std::fs::read(&path), std::fs::metadata(&path)) else { continue };
            let rows = bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
            let since = about.modified().unwrap_or_else(|_| SystemTime::now());
            let held = Held { rows, bytes: bytes.len() as u64, since, open: false, kept: None };
            segments.insert(path, held);
        }
        Ok(Self { segments })
    }

    /// `rows` have been written to a segment, as so many lines.
    fn add(
        &mut self,
        path: &Path,
        rows: Vec<Arc<Vec<SpendRow>>>,
        (lines, bytes): (u64, u64),
        limits: &SpoolLimits,
    ) {
        let kept = self.segments.values().filter(|held| held.kept.is_some()).map(|held| held.bytes);
        let count: u64 = rows.iter().map(|rows| rows.len() as u64).sum();
        // What was said is large, and rarely kept at all: it is read again.
        let fits = count == lines && kept.sum::<u64>().saturating_add(bytes) <= limits.kept_bytes;
        let empty = Held { rows: 0, bytes: 0, since: SystemTime::now(), open: true, kept: Some(Vec::new()) };
        let held = self.segments.entry(path.to_owned()).or_insert(empty);
        held.rows += count;
        held.bytes += bytes;
        match &mut held.kept {
            Some(kept) if fits => kept.extend(rows),
            kept => *kept = None,
        }
    }

    fn close(&mut self, path: &Path) {
        if let Some(held) = self.segments.get_mut(path) {
            held.open = false;
        }
    }

    /// Where the rows of a segment are. They are given once; then they are in its file only.
    pub(super) fn take(&mut self, path: &Path) -> Source {
        match self.segments.get_mut(path) {
            Some(held) if held.open => Source::Open,
            Some(held) => held.kept.take().map_or(Source::File, |kept| Source::Kept(joined(kept))),
            None => Source::File,
        }
    }

    pub(super) fn forget(&mut self, path: &Path) {
        self.segments.remove(path);
    }

    pub(super) fn rows(&self) -> u64 {
        self.segments.values().map(|held| held.rows).sum()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.segments.values().map(|held| held.bytes).sum()
    }

    pub(super) fn oldest(&self) -> Option<SystemTime> {
        self.segments.values().filter(|held| held.rows > 0).map(|held| held.since).min()
    }
}

enum Command {
    Append {
        lines: Lines,
        rows: Arc<Vec<SpendRow>>,
        done: oneshot::Sender<Result<(), BooksError>>,
    },
    /// Closes the current segment, so that the writer may commit and delete it.
    Seal {
        done: oneshot::Sender<()>,
    },
}

/// Handle to the thread; the thread ends when the last handle is gone.
#[derive(Clone)]
pub(super) struct Spool {
    commands: mpsc::Sender<Command>,
    inventory: Arc<Mutex<Inventory>>,
}

impl Spool {
    /// Opens the directory (made if missing) and starts the thread. Blocks on file I/O.
    pub(super) fn open(dir: &Path, limits: SpoolLimits) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let inventory = Arc::new(Mutex::new(Inventory::scan(dir)?));
        let (commands, receiver) = mpsc::channel(1024);
        let appender = Appender { dir: dir.to_owned(), limits, inventory: inventory.clone(), current: None };
        std::thread::Builder::new().name("attache-spool".to_owned()).spawn(move || appender.run(receiver))?;
        Ok(Self { commands, inventory })
    }

    /// Returns when the rows, of which `lines` has the text, are on disk.
    pub(super) async fn append(&self, lines: Lines, rows: Arc<Vec<SpendRow>>) -> Result<(), BooksError> {
        let (done, outcome) = oneshot::channel();
        self.send(Command::Append { lines, rows, done }).await?;
        outcome.await.map_err(|_| BooksError::Closed)?
    }

    pub(super) async fn seal(&self) -> Result<(), BooksError> {
        let (done, outcome) = oneshot::channel();
        self.send(Command::Seal { done }).await?;
        outcome.await.map_err(|_| BooksError::Closed)
    }

    async fn send(&self, command: Command) -> Result<(), BooksError> {
        self.commands.send(command).await.map_err(|_| BooksError::Closed)
    }

    pub(super) fn inventory(&self) -> &Mutex<Inventory> {
        &self.inventory
    }
}

struct Appender {
    dir: PathBuf,
    limits: SpoolLimits,
    inventory: Arc<Mutex<Inventory>>,
    current: Option<Segment>,
}

impl Appender {
    fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        while let Some(first) = commands.blocking_recv() {
            let mut group = vec![first];
            while group.len() < GROUP
                && let Ok(next) = commands.try_recv()
            {
                group.push(next);
            }
            self.serve(group);
        }
    }

    fn serve(&mut self, group: Vec<Command>) {
        let (mut bytes, mut count, mut all) = (Vec::<u8>::new(), 0, Vec::new());
        let (mut appends, mut seals) = (Vec::new(), Vec::new());
        for command in group {
            match command {
                Command::Append { lines, rows, done } => {
                    count += lines.len() as u64;
                    match bytes.is_empty() {
                        true => bytes = lines.bytes,
                        false => bytes.extend_from_slice(&lines.bytes),
                    }
                    all.push(rows);
                    appends.push(done);
                }
                Command::Seal { done } => seals.push(done),
            }
        }
        if !appends.is_empty() {
            let outcome = self.append(&bytes, count, all);
            for done in appends {
                // A caller that went away resends; the ledger counts it once.
                let _ = done.send(outcome.clone());
            }
        }
        if !seals.is_empty() {
            self.close();
        }
        for done in seals {
            let _ = done.send(());
        }
    }

    /// What was written so far is complete.
    fn close(&mut self) {
        if let Some(segment) = self.current.take() {
            self.inventory.lock().close(segment.path());
        }
    }

    fn append(&mut self, bytes: &[u8], lines: u64, rows: Vec<Arc<Vec<SpendRow>>>) -> Result<(), BooksError> {
        let held = self.inventory.lock().bytes();
        if held.saturating_add(bytes.len() as u64) > self.limits.max_bytes {
            return Err(BooksError::Full { bytes: held, limit: self.limits.max_bytes });
        }
        let mut segment = match self.current.take() {
            Some(segment) => segment,
            None => Segment::create(&self.dir).map_err(|error| BooksError::Spool(error.to_string()))?,
        };
        if let Err(error) = segment.append(bytes) {
            // Nothing may follow a torn line.
            self.inventory.lock().close(segment.path());
            return Err(BooksError::Spool(error.to_string()));
        }
        self.inventory.lock().add(segment.path(), rows, (lines, bytes.len() as u64), &self.limits);
        let full = segment.length() >= self.limits.segment_bytes;
        self.current = Some(segment);
        if full {
            self.close();
        }
        Ok(())
    }
}

/// The rows of batches. Whoever counts them besides has done so long since; then they need not be copied.
fn joined(batches: Vec<Arc<Vec<SpendRow>>>) -> Vec<SpendRow> {
    let mut all = Vec::with_capacity(batches.iter().map(|rows| rows.len()).sum());
    for rows in batches {
        all.extend(Arc::try_unwrap(rows).unwrap_or_else(|shared| Vec::clone(&shared)));
    }
    all
}
