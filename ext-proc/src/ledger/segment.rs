//! The spool's files: one row per line ([`super::line`]), in segments, such as
//! `spool/0001764012345678-1f3a9c02.jsonl`.
//!
//! A process appends to one segment of its own and holds an exclusive lock on it; everything else in the directory
//! is complete, whoever wrote it. So a restart may overlap with the old process, and what a dead process left is
//! picked up by any other.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::line::{self, Line};
use crate::store::{PromptRow, SpendRow};

const EXTENSION: &str = "jsonl";

/// A segment being written.
pub(super) struct Segment {
    path: PathBuf,
    file: File,
    /// Bytes that are whole lines and on disk.
    length: u64,
}

impl Drop for Segment {
    fn drop(&mut self) {
        // Closing alone would leave the lock to a child process that is between fork and exec.
        let _ = self.file.unlock();
    }
}

impl Segment {
    /// Makes a new segment, locked, its directory entry on disk.
    ///
    /// It is locked before it gets the name that readers look for: a reader that found it unlocked would take it
    /// for a dead process's, and delete it under our feet.
    pub(super) fn create(dir: &Path) -> io::Result<Self> {
        let millis = crate::routing::now_ms();
        let path = dir.join(format!("{millis:016}-{:08x}.{EXTENSION}", rand::random::<u32>()));
        let unborn = path.with_extension("new");
        let file = OpenOptions::new().append(true).create_new(true).open(&unborn)?;
        file.lock()?;
        std::fs::rename(&unborn, &path)?;
        File::open(dir)?.sync_all()?;
        Ok(Self { path, file, length: 0 })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Appends whole lines and returns when they are on disk. After an error the segment must not be written
    /// again: what the failed write left is cut off here, or is a torn end that readers skip.
    pub(super) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let written = self.file.write_all(lines).and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            if self.file.set_len(self.length).and_then(|()| self.file.sync_data()).is_err() {
                tracing::warn!(segment = %self.path.display(), "a torn end stays in the spool; readers skip it");
            }
            return Err(error);
        }
        self.length += lines.len() as u64;
        Ok(())
    }
}

/// What a segment holds.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub rows: Vec<SpendRow>,
    pub prompts: Vec<PromptRow>,
    /// Lines that fail their checksum before a line that passes it (only the end can be torn), and lines that
    /// another version wrote. Their segment is kept.
    pub damaged: usize,
    /// The end is torn: a write that was never acknowledged.
    pub torn: bool,
}

/// Parses a segment's bytes; tolerates a torn end.
pub(super) fn decode(bytes: &[u8]) -> Contents {
    let mut contents = Contents::default();
    let mut suspects = 0;
    for text in bytes.split(|byte| *byte == b'\n').filter(|text| !text.is_empty()) {
        match line::decode(text) {
            Line::Row(row) => {
                contents.damaged += std::mem::take(&mut suspects);
                contents.rows.push(*row);
            }
            Line::Prompt(prompt) => {
                contents.damaged += std::mem::take(&mut suspects);
                contents.prompts.push(*prompt);
            }
            Line::Foreign => contents.damaged += 1 + std::mem::take(&mut suspects),
            Line::Bad => suspects += 1,
        }
    }
    contents.torn = suspects > 0;
    contents
}

/// Segments in the directory, oldest first.
pub(super) fn list(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == EXTENSION) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// Reads a complete segment; `None` when another process still writes it, or took it away.
pub(super) fn read(path: &Path) -> io::Result<Option<Contents>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    match file.try_lock_shared() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut &file, &mut bytes)?;
    Ok(Some(decode(&bytes)))
}

/// Takes a committed segment away; one with damage stays beside the spool for whoever looks into it.
pub(super) fn retire(path: &Path, damaged: bool) -> io::Result<()> {
    let gone = if damaged {
        std::fs::rename(path, path.with_extension("damaged"))
    } else {
        std::fs::remove_file(path)
    };
    match gone {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Writes rows that the database refuses into a file beside the spool. Renaming it to `.jsonl` tries it again.
pub(super) fn put_aside(path: &Path, lines: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().append(true).create(true).open(path)?;
    file.write_all(lines)?;
    file.sync_all()
}
