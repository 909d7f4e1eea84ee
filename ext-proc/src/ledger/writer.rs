//! The background writer: complete segments and entries of the stream go into the database, and are deleted after the
//! commit.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot};

use super::figures::Figures;
use super::line::{self, Line};
use super::segment::{self, Contents};
use super::spool::{Source, Spool};
use super::stream::Stream;
use super::{BATCH, BATCH_BYTES, BooksError};
use crate::store::{Ledger, PromptRow, SpendRow, StoreError, StreamEntry};

/// Back-off while the database is away.
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// Times that the database may call a batch broken before its bad rows are looked for and put aside.
const BROKEN_TRIES: u32 = 4;
/// Entries read from the stream per round trip: with the longest rows still far below the bound of a batch.
const READ: usize = 100;

/// Between two looks for prompts that are too old.
const FORGET: Duration = Duration::from_secs(3_600);

pub(super) type Flush = oneshot::Sender<Result<(), BooksError>>;

pub(super) struct Writer {
    pub dir: PathBuf,
    pub spool: Spool,
    pub stream: Option<Arc<Stream>>,
    pub database: Arc<dyn Ledger>,
    pub interval: Duration,
    /// How long prompts and answers are kept, and when the older ones were last deleted.
    pub keep_prompts: Duration,
    pub forgot: Option<Instant>,
    /// What another replica has not finished for so long is taken over.
    pub take_over: Duration,
    /// Rung when a batch waits.
    pub bell: Arc<Notify>,
    pub last_error: Arc<Mutex<Option<String>>>,
    pub figures: Arc<Figures>,
    /// Consecutive times that the oldest batch was called broken.
    pub broken: u32,
    /// This replica may have read entries of the stream that it has not finished.
    pub unfinished: bool,
    /// When it last looked for entries that others do not finish.
    pub looked: Option<Instant>,
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
            if outcome.is_ok() && self.forgot.is_none_or(|last| last.elapsed() >= FORGET) {
                self.forgot = Some(Instant::now());
                self.forget_prompts().await;
            }
        }
    }

    /// Deletes prompts that are too old, some at once: rows that come meanwhile wait for one such step at most.
    async fn forget_prompts(&mut self) {
        let keep = u64::try_from(self.keep_prompts.as_micros()).unwrap_or(u64::MAX);
        let before_us = (crate::routing::now_ms() * 1_000).saturating_sub(keep);
        match self.database.forget_prompts(before_us).await {
            Ok(0) => {}
            Ok(gone) => {
                tracing::debug!(gone, "old prompts are deleted");
                // There may be more: after the next pass.
                self.forgot = None;
            }
            Err(error) => tracing::warn!(%error, "old prompts could not be deleted"),
        }
    }

    /// One line in the log per change of state.
    fn note(&self, outcome: &Result<(), BooksError>) {
        let mut last = self.last_error.lock();
        match (outcome, last.take()) {
            // The stream speaks for itself.
            (Err(BooksError::Stream(_)), before) => *last = before,
            (Ok(()), None) => {}
            (Ok(()), Some(_)) => tracing::info!("ledger: the database takes rows again"),
            (Err(error), before) => {
                let error = error.to_string();
                if before.is_none() {
                    tracing::warn!(error, "ledger: rows stay in the buffer until the database takes them");
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
        match self.stream.clone() {
            Some(stream) => self.drain(&stream).await,
            None => Ok(()),
        }
    }

    async fn commit_complete(&mut self) -> Result<(), BooksError> {
        let dir = self.dir.clone();
        for path in blocking(move || segment::list(&dir)).await? {
            let source = self.spool.inventory().lock().take(&path);
            let contents = match source {
                Source::Open => continue,
                Source::Kept(rows) => Contents { rows, ..Contents::default() },
                Source::File => {
                    let reading = path.clone();
                    let Some(contents) = blocking(move || segment::read(&reading)).await? else { continue };
                    contents
                }
            };
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
        // Before the rows: whoever sees a row sees what was said.
        self.write_prompts(path, &contents.prompts).await?;
        self.write_all(path, &contents.rows).await?;
        let (retiring, damaged) = (path.to_owned(), contents.damaged > 0);
        blocking(move || segment::retire(&retiring, damaged)).await?;
        self.figures.set_aside(contents.damaged as u64);
        self.spool.inventory().lock().forget(path);
        Ok(())
    }

    /// Writes what waits in the stream: first what this replica could not finish, then what others did not, then the
    /// rest.
    async fn drain(&mut self, stream: &Stream) -> Result<(), BooksError> {
        while self.unfinished {
            let entries = stream.redis.unfinished(READ).await.map_err(|error| stream.lost(&error))?;
            self.unfinished = !entries.is_empty();
            self.finish(stream, entries).await?;
        }
        // Whatever is read is this replica's to finish, even if the answer is lost.
        self.unfinished = true;
        if self.looked.is_none_or(|last| last.elapsed() >= self.take_over / 2) {
            self.take_over(stream).await?;
            self.looked = Some(Instant::now());
        }
        loop {
            let entries = self.next(stream).await?;
            if entries.is_empty() {
                self.unfinished = false;
                return Ok(());
            }
            self.finish(stream, entries).await?;
        }
    }

    async fn take_over(&mut self, stream: &Stream) -> Result<(), BooksError> {
        loop {
            let taken = stream.redis.take_over(self.take_over, READ).await;
            let entries = taken.map_err(|error| stream.lost(&error))?;
            if entries.is_empty() {
                return Ok(());
            }
            tracing::info!(rows = entries.len(), "ledger: took over rows that another replica left");
            self.finish(stream, entries).await?;
        }
    }

    /// New entries for one transaction.
    async fn next(&self, stream: &Stream) -> Result<Vec<StreamEntry>, BooksError> {
        let (mut all, mut bytes) = (Vec::new(), 0);
        while all.len() < BATCH && bytes < BATCH_BYTES {
            let entries = stream.redis.read(READ).await.map_err(|error| stream.lost(&error))?;
            let last = entries.len() < READ;
            bytes += entries.iter().filter_map(|entry| entry.line.as_ref()).map(Vec::len).sum::<usize>();
            all.extend(entries);
            if last {
                break;
            }
        }
        Ok(all)
    }

    /// Writes the rows of entries that this replica has read, and takes them out of the stream.
    async fn finish(&mut self, stream: &Stream, entries: Vec<StreamEntry>) -> Result<(), BooksError> {
        if entries.is_empty() {
            return Ok(());
        }
        let aside = self.dir.join(format!("redis-{}", entries[0].id));
        let (mut ids, mut rows) = (Vec::with_capacity(entries.len()), Vec::with_capacity(entries.len()));
        let (mut prompts, mut damaged, mut gone) = (Vec::new(), Vec::new(), 0);
        for StreamEntry { id, line } in entries {
            ids.push(id);
            let Some(line) = line else {
                gone += 1;
                continue;
            };
            match line::decode(&line) {
                Line::Row(row) => rows.push(*row),
                Line::Prompt(prompt) => prompts.push(*prompt),
                Line::Foreign | Line::Bad => damaged.push(line),
            }
        }
        self.write_prompts(&aside, &prompts).await?;
        self.write_all(&aside, &rows).await?;
        self.put_aside_damaged(&aside, damaged).await?;
        stream.done(&ids).await?;
        if gone > 0 {
            tracing::error!(
                rows = gone,
                "ledger: rows were deleted from the stream in Redis before they were written"
            );
            self.figures.lost(gone);
        }
        Ok(())
    }

    async fn put_aside_damaged(&self, aside: &Path, lines: Vec<Vec<u8>>) -> Result<(), BooksError> {
        if lines.is_empty() {
            return Ok(());
        }
        let (path, count) = (aside.with_extension("damaged"), lines.len());
        tracing::error!(file = %path.display(), lines = count, "damaged lines in the stream are put aside");
        let bytes: Vec<u8> = lines.into_iter().flat_map(|line| [line, b"\n".to_vec()].concat()).collect();
        blocking(move || segment::put_aside(&path, &bytes)).await?;
        self.figures.set_aside(count as u64);
        Ok(())
    }

    /// Writes rows in transactions of bounded size. Rows that the database refuses go to a file named after `source`.
    async fn write_all(&mut self, source: &Path, rows: &[SpendRow]) -> Result<(), BooksError> {
        for batch in bounded(rows, weight) {
            match self.write(batch).await {
                Ok(()) => self.broken = 0,
                Err(error @ StoreError::Unavailable { .. }) => {
                    return Err(BooksError::Database(error.to_string()));
                }
                Err(error) => self.isolate(source, batch, &error).await?,
            }
        }
        Ok(())
    }

    /// Writes what was said, some MiB at once. What the database refuses of it goes to a file, and holds up no row.
    async fn write_prompts(&self, source: &Path, prompts: &[PromptRow]) -> Result<(), BooksError> {
        let mut refused = Vec::new();
        let mut count = 0;
        for batch in bounded(prompts, said_weight) {
            let error = match self.database.write_prompts(batch).await {
                Ok(()) => continue,
                Err(error @ StoreError::Unavailable { .. }) => {
                    return Err(BooksError::Database(error.to_string()));
                }
                Err(error) => error,
            };
            tracing::error!(prompts = batch.len(), %error, "the database refuses prompts; they are put aside in the spool");
            count += batch.len() as u64;
            for prompt in batch {
                line::encode_prompt(prompt, &mut refused)
                    .map_err(|error| BooksError::Spool(error.to_string()))?;
            }
        }
        if count > 0 {
            let aside = source.with_extension("refused");
            blocking(move || segment::put_aside(&aside, &refused)).await?;
            self.figures.set_aside(count);
        }
        Ok(())
    }

    async fn write(&self, rows: &[SpendRow]) -> Result<(), StoreError> {
        let begun = Instant::now();
        let new = self.database.write(rows).await?;
        self.figures.wrote(rows.len() as u64, new, begun.elapsed());
        Ok(())
    }

    /// The database refuses a batch. After a few tries the rows that it refuses are put aside in a file of their
    /// own, so that one bad row does not hold up the rest.
    async fn isolate(
        &mut self,
        source: &Path,
        batch: &[SpendRow],
        error: &StoreError,
    ) -> Result<(), BooksError> {
        self.broken += 1;
        if self.broken < BROKEN_TRIES {
            return Err(BooksError::Database(error.to_string()));
        }
        let mut refused = Vec::new();
        let mut count = 0;
        let mut todo = vec![batch];
        while let Some(part) = todo.pop() {
            match self.write(part).await {
                Ok(()) => {}
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
                    line::encode_all(part, &mut refused)
                        .map_err(|error| BooksError::Spool(error.to_string()))?;
                    count += 1;
                }
            }
        }
        self.broken = 0;
        if refused.is_empty() {
            return Ok(());
        }
        let aside = source.with_extension("refused");
        blocking(move || segment::put_aside(&aside, &refused)).await?;
        self.figures.set_aside(count);
        Ok(())
    }
}

/// Cuts into batches of at most [`BATCH`] and about [`BATCH_BYTES`].
fn bounded<T>(all: &[T], weight: fn(&T) -> usize) -> impl Iterator<Item = &[T]> {
    let mut rest = all;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = rest.iter().take(BATCH).take_while(|one| {
            let first = bytes == 0;
            bytes += weight(one);
            first || bytes <= BATCH_BYTES
        });
        let (batch, later) = rest.split_at(fits.count());
        rest = later;
        (!batch.is_empty()).then_some(batch)
    })
}

/// About as many bytes as the database gets: what may be long, and the rest.
fn weight(row: &SpendRow) -> usize {
    const REST: usize = 300;
    let tags: usize = row.tags.iter().map(String::len).sum();
    let charged: usize = row.charged.iter().map(|of| of.id.len() + 8).sum();
    let names = [&row.call_id, &row.request_id, &row.key, &row.model, &row.group, &row.provider_model];
    REST + tags + charged + names.iter().map(|name| name.len()).sum::<usize>()
}

fn said_weight(prompt: &PromptRow) -> usize {
    const REST: usize = 100;
    let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    REST + length(&prompt.request) + length(&prompt.response)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, BooksError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome.map_err(|error| BooksError::Spool(error.to_string())),
        Err(error) => Err(BooksError::Spool(error.to_string())),
    }
}
