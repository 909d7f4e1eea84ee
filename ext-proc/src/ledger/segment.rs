//! The spool's files: one row per line, each with a checksum, in segments.
//!
//! ```text
//! spool/0001764012345678-1f3a9c02.jsonl     16 hex digits of sha256(json), a space, the row as JSON, a newline
//! ```
//!
//! A process appends to one segment of its own and holds an exclusive lock on it; everything else in the directory
//! is complete, whoever wrote it. So a restart may overlap with the old process, and what a dead process left is
//! picked up by any other.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::store::SpendRow;

const EXTENSION: &str = "jsonl";
const CHECKSUM: usize = 16;

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

/// One line of a segment.
pub(super) fn encode(row: &SpendRow, out: &mut Vec<u8>) -> serde_json::Result<()> {
    let json = serde_json::to_vec(row)?;
    out.extend_from_slice(checksum(&json).as_bytes());
    out.push(b' ');
    out.extend_from_slice(&json);
    out.push(b'\n');
    Ok(())
}

fn checksum(json: &[u8]) -> String {
    let mut text = hex::encode(Sha256::digest(json));
    text.truncate(CHECKSUM);
    text
}

/// What a segment holds.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub rows: Vec<SpendRow>,
    /// Lines that fail their checksum before a line that passes it (only the end can be torn), and lines that
    /// another version wrote. Their segment is kept.
    pub damaged: usize,
    /// The end is torn: a write that was never acknowledged.
    pub torn: bool,
}

enum Line {
    Row(Box<SpendRow>),
    /// The checksum is right, the row is not one that this version reads.
    Foreign,
    Bad,
}

/// Parses a segment's bytes; tolerates a torn end.
pub(super) fn decode(bytes: &[u8]) -> Contents {
    let mut contents = Contents::default();
    let mut suspects = 0;
    for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        match decode_line(line) {
            Line::Row(row) => {
                contents.damaged += std::mem::take(&mut suspects);
                contents.rows.push(*row);
            }
            Line::Foreign => contents.damaged += 1 + std::mem::take(&mut suspects),
            Line::Bad => suspects += 1,
        }
    }
    contents.torn = suspects > 0;
    contents
}

fn decode_line(line: &[u8]) -> Line {
    let Some((sum, rest)) = line.split_at_checked(CHECKSUM) else { return Line::Bad };
    match rest.strip_prefix(b" ") {
        Some(json) if sum == checksum(json).as_bytes() => {
            serde_json::from_slice(json).map_or(Line::Foreign, |row| Line::Row(Box::new(row)))
        }
        _ => Line::Bad,
    }
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

/// Several lines.
pub(super) fn encode_all(rows: &[SpendRow], out: &mut Vec<u8>) -> serde_json::Result<()> {
    rows.iter().try_for_each(|row| encode(row, out))
}

/// Writes rows that the database refuses into a file beside the spool. Renaming it to `.jsonl` tries it again.
pub(super) fn put_aside(path: &Path, lines: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().append(true).create(true).open(path)?;
    file.write_all(lines)?;
    file.sync_all()
}
