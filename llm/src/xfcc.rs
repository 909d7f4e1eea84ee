//! `x-forwarded-client-cert`: what a proxy in front says of its own client's certificate.
//!
//! ```text
//! By=spiffe://a/proxy;Hash=ab..;Subject="CN=x,O=\"y\"";URI=spiffe://a/client;DNS=x,By=...;URI=...
//! element  = pair *(";" pair)     one per hop, the nearest proxy's last
//! ```
//!
//! Envoy itself does not read the header, so this does; only where the operator says that it can be trusted.

use crate::identity::is_spiffe;

/// Longest header looked at, bytes.
pub const MAX_HEADER: usize = 16 * 1_024;
/// Most elements and most pairs of an element.
const MAX_PARTS: usize = 64;

/// The SPIFFE id of the client's certificate in the last element: the nearest proxy's client.
///
/// `None` when there is none, when there are several (the standard allows one, and choosing would be guessing), and
/// when the header is not well-formed: what cannot be read is not believed.
#[must_use]
pub fn spiffe_of(header: &str) -> Option<String> {
    if header.len() > MAX_HEADER {
        return None;
    }
    let last = split(header, ',')?.pop()?;
    let mut found = None;
    for pair in split(last, ';')? {
        let (name, value) = pair.split_once('=')?;
        if !name.trim().eq_ignore_ascii_case("uri") {
            continue;
        }
        let value = unquoted(value.trim())?;
        if value.is_empty() {
            continue;
        }
        if found.is_some() || !is_spiffe(&value) {
            return None;
        }
        found = Some(value);
    }
    found
}

/// Parts between separators that are outside quotes; `None` when a quote is not closed or there are too many parts.
fn split(text: &str, separator: char) -> Option<Vec<&str>> {
    let mut parts = Vec::new();
    let (mut start, mut quoted, mut escaped) = (0, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if c == separator && !quoted => {
                parts.push(text.get(start..at)?);
                start = at.checked_add(c.len_utf8())?;
            }
            _ => {}
        }
        if parts.len() > MAX_PARTS {
            return None;
        }
    }
    parts.push(text.get(start..)?);
    (!quoted).then_some(parts)
}

/// A value without its quotes; `None` when a quote stands where none may.
fn unquoted(value: &str) -> Option<String> {
    let Some(inner) = value.strip_prefix('"') else {
        return (!value.contains('"')).then(|| value.to_owned());
    };
    let inner = inner.strip_suffix('"')?;
    let mut out = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.push(chars.next()?),
            '"' => return None,
            _ => out.push(c),
        }
    }
    Some(out)
}

#[cfg(test)]
#[path = "xfcc_tests.rs"]
mod tests;
