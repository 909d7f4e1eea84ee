//! A row on its way: one line, with a checksum that tells a torn or damaged one.
//!
//! ```text
//! 8 hex digits of crc32(rest), a space, the row as JSON, a newline
//! 8 hex digits of crc32(rest), a space, P and what was said as JSON, a newline
//! ```
//!
//! Versions before wrote 16 hex digits of sha256(json) in their place: such lines are read, too.

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::store::{PromptRow, SpendRow};

const CHECKSUM: usize = 8;
const OLD_CHECKSUM: usize = 16;
const HEX: &[u8; 16] = b"0123456789abcdef";

/// First byte of what is not a row.
const PROMPT: u8 = b'P';

/// What a line is.
pub(super) enum Line {
    Row(Box<SpendRow>),
    Prompt(Box<PromptRow>),
    /// The checksum is right, the row is not one that this version reads.
    Foreign,
    Bad,
}

/// Appends a row as a line.
pub(super) fn encode(row: &SpendRow, out: &mut Vec<u8>) -> serde_json::Result<()> {
    sealed(&[], row, out)
}

/// Appends what was said as a line.
pub(super) fn encode_prompt(prompt: &PromptRow, out: &mut Vec<u8>) -> serde_json::Result<()> {
    sealed(&[PROMPT], prompt, out)
}

fn sealed(mark: &[u8], value: &impl Serialize, out: &mut Vec<u8>) -> serde_json::Result<()> {
    let start = out.len();
    out.extend_from_slice(b"00000000 ");
    let rest = out.len();
    out.extend_from_slice(mark);
    if let Err(error) = serde_json::to_writer(&mut *out, value) {
        out.truncate(start);
        return Err(error);
    }
    let sum = crc32fast::hash(&out[rest..]);
    for (digit, place) in out[start..start + CHECKSUM].iter_mut().enumerate() {
        *place = HEX[(sum >> (28 - 4 * digit)) as usize & 15];
    }
    out.push(b'\n');
    Ok(())
}

/// Several lines.
pub(super) fn encode_all(rows: &[SpendRow], out: &mut Vec<u8>) -> serde_json::Result<()> {
    rows.iter().try_for_each(|row| encode(row, out))
}

/// Reads a line, without its newline.
pub(super) fn decode(line: &[u8]) -> Line {
    let whole = match (line.get(CHECKSUM), line.get(OLD_CHECKSUM)) {
        (Some(b' '), _) => {
            let (sum, json) = (&line[..CHECKSUM], &line[CHECKSUM + 1..]);
            (is_sum(sum, crc32fast::hash(json))).then_some(json)
        }
        (_, Some(b' ')) => {
            let (sum, json) = (&line[..OLD_CHECKSUM], &line[OLD_CHECKSUM + 1..]);
            (hex::encode(&Sha256::digest(json)[..OLD_CHECKSUM / 2]).as_bytes() == sum).then_some(json)
        }
        _ => None,
    };
    match whole {
        Some([PROMPT, json @ ..]) => {
            serde_json::from_slice(json).map_or(Line::Foreign, |prompt| Line::Prompt(Box::new(prompt)))
        }
        Some(json) => serde_json::from_slice(json).map_or(Line::Foreign, |row| Line::Row(Box::new(row))),
        None => Line::Bad,
    }
}

fn is_sum(text: &[u8], sum: u32) -> bool {
    std::str::from_utf8(text).is_ok_and(|text| u32::from_str_radix(text, 16) == Ok(sum))
}

/// Lines of one batch, one after the other.
#[derive(Debug, Default, Clone)]
pub(super) struct Lines {
    pub bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Lines {
    /// Rows, then what was said in them.
    pub(super) fn of(rows: &[SpendRow], prompts: &[PromptRow]) -> serde_json::Result<Self> {
        let mut lines = Self { bytes: Vec::with_capacity(rows.len() * 900), ends: Vec::new() };
        lines.ends.reserve_exact(rows.len());
        for row in rows {
            encode(row, &mut lines.bytes)?;
            lines.ends.push(lines.bytes.len());
        }
        for prompt in prompts {
            encode_prompt(prompt, &mut lines.bytes)?;
            lines.ends.push(lines.bytes.len());
        }
        Ok(lines)
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Each without its newline.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.bytes[start..*end - 1])
    }
}
