//! The thread that makes rows durable: concurrent batches share one write and one fsync.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::segment::{self, Segment};
use super::{BooksError, SpoolLimits};
use crate::store::SpendRow;

/// Batches that wait for one fsync at most.
const GROUP: usize = 256;

/// What is in the spool, for status and bounds. Kept by the thread and by the writer.
#[derive(Debug, Default)]
pub(super) struct Inventory {
    segments: BTreeMap<PathBuf, Held>,
}

#[derive(Debug, Clone, Copy)]
struct Held {
    rows: u64,
    bytes: u64,
    since: SystemTime,
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
            segments.insert(path, Held { rows, bytes: bytes.len() as u64, since });
        }
        Ok(Self { segments })
    }

    fn add(&mut self, path: &Path, rows: u64, bytes: u64) {
        let empty = Held { rows: 0, bytes: 0, since: SystemTime::now() };
        let held = self.segments.entry(path.to_owned()).or_insert(empty);
        held.rows += rows;
        held.bytes += bytes;
    }

    pub(super) fn forget(&mut self, path: &Path) {
        self.segments.remove(path);
    }

    pub(super) fn rows(&self) -> u64 {
        self.segments.values().map(|held| held.rows).sum()
    }

    fn bytes(&self) -> u64 {
        self.segments.values().map(|held| held.bytes).sum()
    }

    pub(super) fn oldest(&self) -> Option<SystemTime> {
        self.segments.values().filter(|held| held.rows > 0).map(|held| held.since).min()
    }
}

enum Command {
    Append {
        lines: Vec<u8>,
        rows: u64,
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

    /// Returns when the rows are on disk.
    pub(super) async fn append(&self, rows: &[SpendRow]) -> Result<(), BooksError> {
        let mut lines = Vec::with_capacity(rows.len() * 640);
        for row in rows {
            segment::encode(row, &mut lines).map_err(|error| BooksError::Spool(error.to_string()))?;
        }
        let (done, outcome) = oneshot::channel();
        self.send(Command::Append { lines, rows: rows.len() as u64, done }).await?;
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
        let (mut lines, mut rows) = (Vec::new(), 0);
        let (mut appends, mut seals) = (Vec::new(), Vec::new());
        for command in group {
            match command {
                Command::Append { lines: more, rows: count, done } => {
                    lines.extend_from_slice(&more);
                    rows += count;
                    appends.push(done);
                }
                Command::Seal { done } => seals.push(done),
            }
        }
        if !appends.is_empty() {
            let outcome = self.append(&lines, rows);
            for done in appends {
                // A caller that went away resends; the ledger counts it once.
                let _ = done.send(outcome.clone());
            }
        }
        if !seals.is_empty() {
            self.current = None;
        }
        for done in seals {
            let _ = done.send(());
        }
    }

    fn append(&mut self, lines: &[u8], rows: u64) -> Result<(), BooksError> {
        let held = self.inventory.lock().bytes();
        if held.saturating_add(lines.len() as u64) > self.limits.max_bytes {
            return Err(BooksError::Full { bytes: held, limit: self.limits.max_bytes });
        }
        let mut segment = match self.current.take() {
            Some(segment) => segment,
            None => Segment::create(&self.dir).map_err(|error| BooksError::Spool(error.to_string()))?,
        };
        // On an error the segment is closed: nothing may follow a torn line.
        segment.append(lines).map_err(|error| BooksError::Spool(error.to_string()))?;
        self.inventory.lock().add(segment.path(), rows, lines.len() as u64);
        if segment.length() < self.limits.segment_bytes {
            self.current = Some(segment);
        }
        Ok(())
    }
}
