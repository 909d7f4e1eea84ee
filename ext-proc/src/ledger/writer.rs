//! The background writer: complete segments go into the database and are deleted after the commit.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot};

use super::segment::{self, Contents};
use super::spool::Spool;
use super::{BATCH, BooksError};
use crate::store::{Database, SpendRow, StoreError};

/// Back-off while the database is away.
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// Times that the database may call a batch broken before its bad rows are looked for and put aside.
const BROKEN_TRIES: u32 = 4;

pub(super) type Flush = oneshot::Sender<Result<(), BooksError>>;

pub(super) struct Writer {
    pub dir: PathBuf,
    pub spool: Spool,
    pub database: Arc<dyn Database>,
    pub interval: Duration,
    /// Rung when a thousand rows wait.
    pub bell: Arc<Notify>,
    pub last_error: Arc<Mutex<Option<String>>>,
    /// Consecutive times that the oldest segment was called broken.
    pub broken: u32,
}

impl Writer {
    pub(super) async fn run(mut self, mut flushes: mpsc::Receiver<Flush>) {
        // At once: what a former process left.
        let mut wait = Duration::ZERO;
        let mut backoff = FIRST_WAIT;
        loop {
            let mut asked = Vec::new();
            let failing = self.last_error.lock().is_some();
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.bell.notified(), if !failing => {}
                flush = flushes.recv() => match flush {
                    Some(flush) => asked.push(flush),
                    None => return,
                },
            }
            while let Ok(flush) = flushes.try_recv() {
                asked.push(flush);
            }
            let outcome = self.pass().await;
            if outcome.is_ok() {
                (wait, backoff) = (self.interval, FIRST_WAIT);
            } else {
                wait = backoff.mul_f64(rand::random_range(0.75..1.25));
                backoff = (backoff * 2).min(LONGEST_WAIT);
            }
            self.note(&outcome);
            for flush in asked {
                let _ = flush.send(outcome.clone());
            }
        }
    }

    /// One line in the log per change of state.
    fn note(&self, outcome: &Result<(), BooksError>) {
        let mut last = self.last_error.lock();
        match (outcome, last.take()) {
            (Ok(()), None) => {}
            (Ok(()), Some(_)) => tracing::info!("ledger: the database takes rows again"),
            (Err(error), before) => {
                let error = error.to_string();
                if before.is_none() {
                    tracing::warn!(error, "ledger: rows stay in the spool until the database takes them");
                }
                *last = Some(error);
            }
        }
    }

    /// Commits everything that was accepted before the call.
    async fn pass(&mut self) -> Result<(), BooksError> {
        // Complete segments first: while the database is away the current one goes on filling, instead of
        // leaving a small file per try.
        self.commit_complete().await?;
        if self.spool.inventory().lock().rows() > 0 {
            self.spool.seal().await?;
            self.commit_complete().await?;
        }
        Ok(())
    }

    async fn commit_complete(&mut self) -> Result<(), BooksError> {
        let dir = self.dir.clone();
        for path in blocking(move || segment::list(&dir)).await? {
            let reading = path.clone();
            let Some(contents) = blocking(move || segment::read(&reading)).await? else { continue };
            self.commit(&path, contents).await?;
        }
        Ok(())
    }

    async fn commit(&mut self, path: &Path, contents: Contents) -> Result<(), BooksError> {
        if contents.damaged > 0 {
            tracing::error!(segment = %path.display(), lines = contents.damaged, "damaged lines in the spool");
        }
        if contents.torn {
            tracing::warn!(segment = %path.display(), "torn end in the spool: a write that was never acknowledged");
        }
        for batch in contents.rows.chunks(BATCH) {
            match self.database.write(batch).await {
                Ok(_) => self.broken = 0,
                Err(error @ StoreError::Unavailable { .. }) => {
                    return Err(BooksError::Database(error.to_string()));
                }
                Err(error) => self.isolate(path, batch, &error).await?,
            }
        }
        let (retiring, damaged) = (path.to_owned(), contents.damaged > 0);
        blocking(move || segment::retire(&retiring, damaged)).await?;
        self.spool.inventory().lock().forget(path);
        Ok(())
    }

    /// The database refuses a batch. After a few tries the rows that it refuses are put aside in a file of their
    /// own, so that one bad row does not hold up the rest.
    async fn isolate(
        &mut self,
        path: &Path,
        batch: &[SpendRow],
        error: &StoreError,
    ) -> Result<(), BooksError> {
        self.broken += 1;
        if self.broken < BROKEN_TRIES {
            return Err(BooksError::Database(error.to_string()));
        }
        let mut refused = Vec::new();
        let mut todo = vec![batch];
        while let Some(part) = todo.pop() {
            match self.database.write(part).await {
                Ok(_) => {}
                Err(error @ StoreError::Unavailable { .. }) => {
                    return Err(BooksError::Database(error.to_string()));
                }
                Err(_) if part.len() > 1 => {
                    let (left, right) = part.split_at(part.len() / 2);
                    todo.extend([right, left]);
                }
                Err(error) => {
                    let call_id = part.first().map(|row| row.call_id.as_str());
                    tracing::error!(call_id, %error, "the database refuses a row; it is put aside in the spool");
                    segment::encode_all(part, &mut refused)
                        .map_err(|error| BooksError::Spool(error.to_string()))?;
                }
            }
        }
        let aside = path.with_extension("refused");
        blocking(move || segment::put_aside(&aside, &refused)).await?;
        self.broken = 0;
        Ok(())
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, BooksError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome.map_err(|error| BooksError::Spool(error.to_string())),
        Err(error) => Err(BooksError::Spool(error.to_string())),
    }
}
