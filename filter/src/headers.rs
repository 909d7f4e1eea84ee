//! The headers of one map, as the host hands them over and without a copy of each: one buffer, looked through in place. The
//! SDK makes two allocations for each header, which for a request and its answer are some two hundred.

use std::str;

/// Headers in the ABI's form: their count, the lengths of all names and values, then all names and values, each with a zero
/// byte behind it. Names in lower case, values any bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<u8>);

/// Bytes of a length.
const LENGTH: usize = 4;

impl Headers {
    /// `serialized` is what the host says; of one that does not keep to the form, those headers are there that do.
    #[must_use]
    pub const fn new(serialized: Vec<u8>) -> Self {
        Self(serialized)
    }

    /// Names and values, in the order of the map. A name that is no text is left out (Envoy takes none).
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.raw().filter_map(|(name, value)| Some((str::from_utf8(name).ok()?, value)))
    }

    fn raw(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let count = self.number(0).unwrap_or(0);
        let lengths = count.saturating_mul(LENGTH).saturating_mul(2);
        let (mut at, mut place) = (LENGTH, lengths.saturating_add(LENGTH));
        (0..count).map_while(move |_| {
            let name = self.text(place, self.number(at)?)?;
            place = place.saturating_add(name.len()).saturating_add(1);
            let value = self.text(place, self.number(at.saturating_add(LENGTH))?)?;
            place = place.saturating_add(value.len()).saturating_add(1);
            at = at.saturating_add(2_usize.saturating_mul(LENGTH));
            Some((name, value))
        })
    }

    fn number(&self, at: usize) -> Option<usize> {
        let bytes = self.0.get(at..at.saturating_add(LENGTH))?;
        usize::try_from(u32::from_le_bytes(bytes.try_into().ok()?)).ok()
    }

    fn text(&self, at: usize, length: usize) -> Option<&[u8]> {
        self.0.get(at..at.saturating_add(length))
    }

    /// Values of a header, each that Envoy keeps apart.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.raw().filter(move |(header, _)| *header == name.as_bytes()).map(|(_, value)| value)
    }

    /// The first value of a header.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&[u8]> {
        self.raw().find(|(header, _)| *header == name.as_bytes()).map(|(_, value)| value)
    }

    /// The first value of a header as text; `None` when absent or not UTF-8.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&str> {
        self.value(name).and_then(|value| str::from_utf8(value).ok())
    }

    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    /// Is this header there once, with this value? (Envoy joins a second value to the first for the names it knows only;
    /// for the others it stays one that a client could slip past.)
    #[must_use]
    pub fn is_only(&self, name: &str, value: &str) -> bool {
        let mut values = self.values(name);
        values.next() == Some(value.as_bytes()) && values.next().is_none()
    }
}

/// A map in the ABI's form.
#[must_use]
pub fn serialized<N: AsRef<[u8]>, V: AsRef<[u8]>>(map: &[(N, V)]) -> Vec<u8> {
    let length = |text: &[u8]| u32::try_from(text.len()).unwrap_or(0).to_le_bytes();
    let mut out = Vec::new();
    out.extend(u32::try_from(map.len()).unwrap_or(0).to_le_bytes());
    for (name, value) in map {
        out.extend(length(name.as_ref()));
        out.extend(length(value.as_ref()));
    }
    for text in map.iter().flat_map(|(name, value)| [name.as_ref(), value.as_ref()]) {
        out.extend(text);
        out.push(0);
    }
    out
}

impl<N: AsRef<[u8]>, V: AsRef<[u8]>> From<&[(N, V)]> for Headers {
    fn from(map: &[(N, V)]) -> Self {
        Self(serialized(map))
    }
}

#[cfg(test)]
#[path = "headers_tests.rs"]
mod tests;
