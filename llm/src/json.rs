//! Walking over JSON bytes without building values: where the members of an object are, and how long their text is.
//!
//! Not a validator: it finds the right ranges in well-formed JSON, says "malformed" where it loses its way, and stays
//! within bounds on anything else.

use std::borrow::Cow;
use std::ops::Range;

use memchr::memchr2;

use self::words::Word;

pub(crate) mod words;

/// One member of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member<'a> {
    /// Decoded key.
    pub(crate) key: Cow<'a, str>,
    /// Range of the value.
    pub(crate) value: Range<usize>,
}

/// Members of the object that `data` is, in order; `None` when it is not a well-formed object.
pub(crate) fn members(data: &[u8]) -> Option<Vec<Member<'_>>> {
    let mut found = Vec::with_capacity(12);
    let mut at = expect(data, skip_space(data, 0), b'{')?;
    if let Some(end) = expect(data, skip_space(data, at), b'}') {
        return (skip_space(data, end) == data.len()).then_some(found);
    }
    loop {
        let key_start = skip_space(data, at);
        let (key_end, plain) = string(data, key_start)?;
        let key = decoded(data.get(key_start..key_end)?, plain)?;
        let start = skip_space(data, expect(data, skip_space(data, key_end), b':')?);
        let end = skip_value(data, start)?;
        found.push(Member { key, value: start..end });
        at = skip_space(data, end);
        match data.get(at) {
            Some(b',') => at = at.saturating_add(1),
            Some(b'}') => return (skip_space(data, at.saturating_add(1)) == data.len()).then_some(found),
            _ => return None,
        }
    }
}

/// Ranges of the elements of the array that `data` is; `None` when it is not a well-formed array.
pub(crate) fn elements(data: &[u8]) -> Option<Vec<Range<usize>>> {
    let mut found = Vec::with_capacity(2);
    let mut at = expect(data, skip_space(data, 0), b'[')?;
    if let Some(end) = expect(data, skip_space(data, at), b']') {
        return (skip_space(data, end) == data.len()).then_some(found);
    }
    loop {
        let start = skip_space(data, at);
        let end = skip_value(data, start)?;
        found.push(start..end);
        at = skip_space(data, end);
        match data.get(at) {
            Some(b',') => at = at.saturating_add(1),
            Some(b']') => return (skip_space(data, at.saturating_add(1)) == data.len()).then_some(found),
            _ => return None,
        }
    }
}

/// End of the value that begins at `at`. Does not recurse, so depth costs nothing.
pub(crate) fn skip_value(data: &[u8], at: usize) -> Option<usize> {
    match data.get(at)? {
        b'"' => skip_string(data, at),
        b'{' | b'[' => skip_container(data, at),
        b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => {
            let rest = data.get(at..)?;
            let delimiter = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r');
            let length = rest.iter().position(delimiter).unwrap_or(rest.len());
            at.checked_add(length)
        }
        _ => None,
    }
}

fn skip_container(data: &[u8], at: usize) -> Option<usize> {
    let mut depth: usize = 0;
    let mut at = at;
    loop {
        let rest = data.get(at..)?;
        let length = plain_len(rest)?;
        at = at.checked_add(length)?;
        match data.get(at)? {
            b'"' => {
                at = skip_string(data, at)?;
                continue;
            }
            b'{' | b'[' => depth = depth.checked_add(1)?,
            _ => depth = depth.checked_sub(1)?,
        }
        at = at.checked_add(1)?;
        if depth == 0 {
            return Some(at);
        }
    }
}

/// Bytes before the next quote, brace or bracket.
fn plain_len(data: &[u8]) -> Option<usize> {
    // Bit 5 tells `[` from `{` and `]` from `}`.
    let marks = |word: Word| word.equal(b'"') | word.folded().equal(b'{') | word.folded().equal(b'}');
    words::find(data, marks, |byte| byte == b'"' || matches!(byte | 0x20, b'{' | b'}')).0
}

/// End of the string whose opening quote is at `at`.
pub(crate) fn skip_string(data: &[u8], at: usize) -> Option<usize> {
    string(data, at).map(|(end, _)| end)
}

/// As [`skip_string`]; and is nothing in it escaped?
fn string(data: &[u8], at: usize) -> Option<(usize, bool)> {
    let mut at = expect(data, at, b'"')?;
    let mut plain = true;
    loop {
        let next = at.checked_add(memchr2(b'"', b'\\', data.get(at..)?)?)?;
        at = match data.get(next)? {
            b'"' => return Some((next.checked_add(1)?, plain)),
            _ => next.checked_add(2)?,
        };
        plain = false;
    }
}

fn skip_space(data: &[u8], at: usize) -> usize {
    let rest = data.get(at..).unwrap_or_default();
    let space = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
    at.saturating_add(rest.iter().take_while(|byte| space(byte)).count())
}

fn expect(data: &[u8], at: usize, byte: u8) -> Option<usize> {
    if data.get(at) == Some(&byte) { at.checked_add(1) } else { None }
}

/// The text of a JSON string, quotes included in `raw`; borrowed when nothing is escaped.
pub(crate) fn text(raw: &[u8]) -> Option<Cow<'_, str>> {
    decoded(raw, !raw.contains(&b'\\'))
}

/// As [`text`], where it is known whether nothing is escaped.
fn decoded(raw: &[u8], plain: bool) -> Option<Cow<'_, str>> {
    let inner = raw.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    if !plain {
        return serde_json::from_slice::<String>(raw).ok().map(Cow::Owned);
    }
    std::str::from_utf8(inner).ok().map(Cow::Borrowed)
}

/// Bytes of a JSON string's text, about: escapes count as what they stand for. 0 for what is no string.
pub(crate) fn text_len(raw: &[u8]) -> u64 {
    let Some(mut rest) = raw.strip_prefix(b"\"").and_then(|raw| raw.strip_suffix(b"\"")) else { return 0 };
    let mut length = rest.len();
    while let Some(at) = memchr::memchr(b'\\', rest) {
        let unicode = rest.get(at.saturating_add(1)) == Some(&b'u');
        let (written, meant) = match rest.get(at.saturating_add(2)..at.saturating_add(4)) {
            _ if !unicode => (2, 1),
            Some(b"00") => (6, 1),
            // Half of a surrogate pair: four bytes for two escapes.
            Some([b'd' | b'D', b'8' | b'9' | b'a'..=b'f' | b'A'..=b'F']) => (6, 2),
            _ => (6, 3),
        };
        length = length.saturating_sub(written).saturating_add(meant);
        rest = rest.get(at.saturating_add(written)..).unwrap_or_default();
    }
    u64::try_from(length).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;
