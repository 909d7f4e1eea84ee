//! Who a caller without a key is, in the one string that gate and sidecar ask and answer with: `spiffe:<uri>` or
//! `jwt:<claim>=<value>`. Only Envoy's own word makes one: a certificate or token that it verified, or the header of a
//! proxy that the operator trusts.

use std::fmt;

/// Longest SPIFFE id, bytes (the standard's bound).
pub const MAX_SPIFFE: usize = 2_048;
/// Longest trust domain, bytes (the standard's bound).
const MAX_DOMAIN: usize = 255;
/// Longest name of a claim, bytes.
pub const MAX_CLAIM: usize = 128;
/// Longest value of a claim, bytes.
pub const MAX_VALUE: usize = 512;

const SPIFFE: &str = "spiffe:";
const JWT: &str = "jwt:";
const SCHEME: &str = "spiffe://";

/// An identity that Envoy has verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Identity<'a> {
    /// `spiffe://trust.domain/path`.
    Spiffe(&'a str),
    /// A claim of a token.
    Jwt { claim: &'a str, value: &'a str },
}

impl<'a> Identity<'a> {
    /// An identity of a SPIFFE id; `None` when it is none.
    #[must_use]
    pub fn spiffe(uri: &'a str) -> Option<Self> {
        is_spiffe(uri).then_some(Self::Spiffe(uri))
    }

    /// An identity of a claim; `None` when it is out of bounds.
    #[must_use]
    pub fn jwt(claim: &'a str, value: &'a str) -> Option<Self> {
        let fits = !value.is_empty() && value.len() <= MAX_VALUE && !value.chars().any(char::is_control);
        (is_claim(claim) && fits).then_some(Self::Jwt { claim, value })
    }

    /// Reads what [`fmt::Display`] wrote. `None` for anything else, a key's hash among it.
    #[must_use]
    pub fn parse(text: &'a str) -> Option<Self> {
        if let Some(uri) = text.strip_prefix(SPIFFE) {
            return Self::spiffe(uri);
        }
        let (claim, value) = text.strip_prefix(JWT)?.split_once('=')?;
        Self::jwt(claim, value)
    }

    /// Does the pattern, made for this kind of identity, match? In a SPIFFE id `*` stands for text within one segment of
    /// the path and `**` at the end for one segment or more, in a claim's value `*` for any text.
    #[must_use]
    pub fn matches(&self, pattern: &str) -> bool {
        match self {
            Self::Spiffe(uri) => segments_match(pattern, uri),
            Self::Jwt { value, .. } => crate::wildcard::matches(pattern, value),
        }
    }
}

impl fmt::Display for Identity<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spiffe(uri) => write!(f, "{SPIFFE}{uri}"),
            Self::Jwt { claim, value } => write!(f, "{JWT}{claim}={value}"),
        }
    }
}

fn segments_match(pattern: &str, uri: &str) -> bool {
    let (mut wanted, mut found) = (pattern.split('/'), uri.split('/'));
    loop {
        match (wanted.next(), found.next()) {
            (None, None) => return true,
            (Some("**"), Some(_)) => return wanted.next().is_none(),
            (Some(wanted), Some(found)) if crate::wildcard::matches(wanted, found) => {}
            _ => return false,
        }
    }
}

/// Is this a SPIFFE id, by the letter of the standard?
#[must_use]
pub fn is_spiffe(uri: &str) -> bool {
    spiffe(uri, false)
}

/// The same with `*` in the path.
#[must_use]
pub fn is_spiffe_pattern(pattern: &str) -> bool {
    spiffe(pattern, true)
}

fn spiffe(uri: &str, pattern: bool) -> bool {
    let Some(rest) = uri.strip_prefix(SCHEME).filter(|_| uri.len() <= MAX_SPIFFE) else { return false };
    let mut segments = rest.split('/');
    let domain = segments.next().unwrap_or_default();
    let of_domain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte);
    let of_path =
        |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte) || (pattern && byte == b'*');
    !domain.is_empty()
        && domain.len() <= MAX_DOMAIN
        && domain.bytes().all(of_domain)
        && segments.all(|part| !matches!(part, "" | "." | "..") && part.bytes().all(of_path))
}

/// Can this be the name of a claim here: visible ASCII without `=`?
#[must_use]
pub fn is_claim(name: &str) -> bool {
    let visible = |byte: u8| byte.is_ascii_graphic() && byte != b'=';
    !name.is_empty() && name.len() <= MAX_CLAIM && name.bytes().all(visible)
}

#[cfg(test)]
#[path = "identity_tests.rs"]
mod tests;
