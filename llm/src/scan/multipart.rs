//! One pass over a multipart/form-data request body (RFC 7578), in slices of any size: the fields that gate and sidecar
//! must know, where they stand, and how large the files are. Of a file only the first bytes are looked at.

use memchr::memmem;

use super::{Form, ScanError, ScanLimits, Scanned, found};
use crate::wishes::CONTROL;

mod field;
mod header;
mod wav;

use field::Field;
pub use header::boundary;

/// Longest header of a part, bytes.
const MAX_HEADER: usize = 8 * 1024;
/// Most parts of a body.
const MAX_PARTS: usize = 512;
/// Bytes of a file that are looked at: enough for the header of a WAV file.
const MAX_FILE_HEAD: usize = 512;
/// The body begins as if a line had just ended, so that its first delimiter is like every other.
const BEFORE: &[u8] = b"\r\n";

/// What is known of a form beside [`Scanned`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Multipart {
    /// Between the parts, without dashes.
    pub boundary: String,
    /// Where the first delimiter begins.
    pub first: usize,
    /// `response_format`.
    pub response_format: Option<String>,
    /// Bytes of all files.
    pub file_bytes: u64,
    /// Length of the audio, milliseconds, where its file tells.
    pub audio_ms: Option<u64>,
}

/// Where in the form the scan stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// Before the first delimiter.
    Preamble,
    /// After a delimiter: `--` for the last one, else the end of the line.
    Delimiter,
    Header,
    Content,
    /// After the last delimiter. Whatever follows is of no consequence.
    Epilogue,
}

/// The part in progress.
#[derive(Debug, Default)]
struct Part {
    field: Field,
    /// Where its delimiter begins.
    start: usize,
    /// Where its content begins.
    content: usize,
    /// Its content, as far as it is wanted.
    text: Vec<u8>,
    length: u64,
}

/// The scan in progress.
#[derive(Debug)]
pub struct FormScan {
    limits: ScanLimits,
    /// CRLF, two dashes, boundary.
    delimiter: Vec<u8>,
    at: At,
    /// Bytes that could not be judged yet, and those that were added to them.
    work: Vec<u8>,
    /// Bytes before `work`, [`BEFORE`] included.
    passed: usize,
    parts: usize,
    part: Part,
    seen: Vec<Field>,
    scanned: Scanned,
    form: Multipart,
}

impl FormScan {
    /// A scan of a body with this boundary, see [`boundary`].
    #[must_use]
    pub fn new(boundary: &str, limits: ScanLimits) -> Self {
        Self {
            limits,
            delimiter: [BEFORE, b"--", boundary.as_bytes()].concat(),
            at: At::Preamble,
            work: BEFORE.to_vec(),
            passed: 0,
            parts: 0,
            part: Part::default(),
            seen: Vec::new(),
            scanned: Scanned::default(),
            form: Multipart { boundary: boundary.to_owned(), ..Multipart::default() },
        }
    }

    /// Reads the next slice.
    ///
    /// # Errors
    /// The body is no form, or a field of it is not what an LLM endpoint takes. The scan is over then.
    pub fn feed(&mut self, slice: &[u8]) -> Result<(), ScanError> {
        self.scanned.len = self.scanned.len.saturating_add(slice.len());
        let mut work = std::mem::take(&mut self.work);
        work.extend_from_slice(slice);
        let mut used = 0;
        while let Some(rest) = work.get(used..) {
            let taken = self.step(rest)?;
            if taken == 0 {
                break;
            }
            self.passed = self.passed.saturating_add(taken);
            used = used.saturating_add(taken);
        }
        work.drain(..used.min(work.len()));
        self.work = work;
        Ok(())
    }

    /// The body is whole.
    ///
    /// # Errors
    /// It is cut.
    pub fn finish(mut self) -> Result<Scanned, ScanError> {
        if self.at != At::Epilogue {
            let what = "is cut: its last boundary is missing";
            return Err(self.refused(0, what));
        }
        self.scanned.form = Form::Multipart(Box::new(self.form));
        Ok(self.scanned)
    }

    /// Takes as many of the first bytes as can be judged; 0 when more are needed.
    fn step(&mut self, rest: &[u8]) -> Result<usize, ScanError> {
        match self.at {
            At::Preamble | At::Content => self.content(rest),
            At::Delimiter => self.delimiter(rest),
            At::Header => self.header(rest),
            At::Epilogue => Ok(rest.len()),
        }
    }

    /// Offset in the body of the byte that many after those that passed.
    fn offset(&self, after: usize) -> usize {
        self.passed.saturating_add(after).saturating_sub(BEFORE.len())
    }

    fn content(&mut self, rest: &[u8]) -> Result<usize, ScanError> {
        let Some(end) = memmem::find(rest, &self.delimiter) else {
            let safe = rest.len().saturating_sub(self.delimiter.len().saturating_sub(1));
            self.add(rest.get(..safe).unwrap_or_default())?;
            return Ok(safe);
        };
        self.add(rest.get(..end).unwrap_or_default())?;
        let next = self.offset(end.saturating_add(BEFORE.len()));
        match self.at {
            At::Content => self.end_part(self.offset(end), next)?,
            _ => self.form.first = next,
        }
        self.part = Part { start: next, ..Part::default() };
        self.at = At::Delimiter;
        Ok(end.saturating_add(self.delimiter.len()))
    }

    fn delimiter(&mut self, rest: &[u8]) -> Result<usize, ScanError> {
        if rest.starts_with(b"--") {
            self.at = At::Epilogue;
            return Ok(2);
        }
        let padding = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        let line = rest.get(padding..).unwrap_or_default();
        if line.starts_with(b"\r\n") {
            self.parts = self.parts.saturating_add(1);
            if self.parts > MAX_PARTS {
                return Err(self.refused(0, &format!("has more than {MAX_PARTS} parts")));
            }
            self.at = At::Header;
            return Ok(padding.saturating_add(2));
        }
        let open = line.is_empty() || line == b"\r" || line == b"-";
        if open && padding <= MAX_HEADER {
            return Ok(0);
        }
        Err(self.refused(padding, "has a boundary that does not end its line"))
    }

    fn header(&mut self, rest: &[u8]) -> Result<usize, ScanError> {
        let (length, taken) = if rest.starts_with(b"\r\n") {
            (0, 2)
        } else {
            match memmem::find(rest, b"\r\n\r\n") {
                Some(end) => (end, end.saturating_add(4)),
                None => (rest.len(), 0),
            }
        };
        if length > MAX_HEADER {
            return Err(
                self.refused(0, &format!("has a part whose header is longer than {MAX_HEADER} bytes"))
            );
        }
        if taken == 0 {
            return Ok(0);
        }
        let Some(named) = header::named(rest.get(..length).unwrap_or_default()) else {
            return Err(self.refused(0, "has a part without a name"));
        };
        self.part.field = if named.file { Field::File } else { Field::of(named.name.as_bytes()) };
        self.part.content = self.offset(taken);
        if self.part.field.must_be_single() {
            if self.seen.contains(&self.part.field) {
                let name = self.part.field.name();
                let message = format!("Invalid body: '{name}' is there twice.");
                return Err(ScanError { param: Some(name), offset: self.part.start, message });
            }
            self.seen.push(self.part.field);
        }
        self.at = At::Content;
        Ok(taken)
    }

    /// More of the content of the part in progress.
    fn add(&mut self, bytes: &[u8]) -> Result<(), ScanError> {
        if self.at != At::Content {
            return Ok(());
        }
        let part = &mut self.part;
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        part.length = part.length.saturating_add(length);
        match part.field {
            Field::Other | Field::Gateway => {}
            Field::Text => self.scanned.text_bytes = self.scanned.text_bytes.saturating_add(length),
            Field::File => {
                self.form.file_bytes = self.form.file_bytes.saturating_add(length);
                let room = MAX_FILE_HEAD.saturating_sub(part.text.len());
                part.text.extend_from_slice(bytes.get(..room.min(bytes.len())).unwrap_or_default());
            }
            field => {
                let max = field.longest(&self.limits);
                if part.text.len().saturating_add(bytes.len()) > max {
                    return Err(invalid(field, part.content, &format!("longer than {max} bytes")));
                }
                part.text.extend_from_slice(bytes);
            }
        }
        Ok(())
    }

    /// The part in progress ends before `end`, the next delimiter begins at `next`.
    fn end_part(&mut self, end: usize, next: usize) -> Result<(), ScanError> {
        let part = std::mem::take(&mut self.part);
        let field = part.field;
        if field.is_for_gateway() || (field == Field::Model && self.limits.cut_model) {
            match self.scanned.cuts.last_mut().filter(|cut| cut.end == part.start) {
                Some(cut) => cut.end = next,
                None => self.scanned.cuts.push(part.start..next),
            }
        }
        match field {
            Field::Other | Field::Text | Field::Gateway => return Ok(()),
            Field::File => {
                self.form.audio_ms =
                    self.form.audio_ms.or_else(|| wav::milliseconds(&part.text, part.length));
                return Ok(());
            }
            _ => {}
        }
        let bad = |what: &str| invalid(field, part.content, what);
        let text = String::from_utf8(part.text).map_err(|_| bad("is not UTF-8"))?;
        if text.chars().any(char::is_control) {
            return Err(bad(CONTROL));
        }
        let scanned = &mut self.scanned;
        let named = || Some(text.clone()).filter(|text| !text.is_empty());
        match field {
            Field::Model => {
                scanned.model = named();
                scanned.model_range = Some(part.content..end);
            }
            Field::TargetModels => {
                // Files for several models go to the account of the first.
                let first = text.split(',').map(str::trim).find(|name| !name.is_empty());
                scanned.model = scanned.model.take().or_else(|| first.map(str::to_owned));
            }
            Field::Stream => match text.trim() {
                text if text.eq_ignore_ascii_case("true") || text == "1" => scanned.stream = true,
                text if text.is_empty() || text.eq_ignore_ascii_case("false") || text == "0" => {}
                _ => return Err(bad("must be true or false")),
            },
            Field::N => {
                scanned.n = Some(text.trim())
                    .filter(|text| !text.is_empty())
                    .map(found::integer)
                    .transpose()
                    .map_err(bad)?;
            }
            Field::User => scanned.user = named(),
            Field::ResponseFormat => self.form.response_format = named(),
            Field::Other | Field::Text | Field::File | Field::Gateway => {}
        }
        Ok(())
    }

    fn refused(&self, after: usize, what: &str) -> ScanError {
        let message = format!("Invalid body: the multipart form {what}.");
        ScanError { param: None, offset: self.offset(after), message }
    }
}

fn invalid(field: Field, offset: usize, what: &str) -> ScanError {
    let name = field.name();
    let message = format!("Invalid value for '{name}': {what}.");
    ScanError { param: Some(name), offset, message }
}

#[cfg(test)]
#[path = "multipart_tests.rs"]
mod tests;
