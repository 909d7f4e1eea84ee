//! The headers of one map, as the host hands them over and without a copy of each: one buffer, looked through in place. The
//! SDK makes two allocations for each header, which for a request and its answer are some two hundred.

use std::str;

/// Headers in the ABI's form: their count, the lengths of all names and values, then all names and values, each with a zero
/// byte behind it. Names in lower case, values any bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<u8>);

/// Bytes of a length.
const LENGTH: usize = 4;

/// Where one header is.
#[derive(Debug, Clone, Copy)]
struct Place {
    at: usize,
    name: usize,
    value: usize,
}

impl Place {
    fn end(self) -> usize {
        self.at.saturating_add(self.name).saturating_add(self.value).saturating_add(2)
    }

    fn name(self, bytes: &[u8]) -> Option<&[u8]> {
        bytes.get(self.at..self.at.saturating_add(self.name))
    }

    fn value(self, bytes: &[u8]) -> Option<&[u8]> {
        let at = self.at.saturating_add(self.name).saturating_add(1);
        bytes.get(at..at.saturating_add(self.value))
    }

    /// Most names differ in length: those are not looked at.
    fn is(self, bytes: &[u8], name: &str) -> bool {
        self.name == name.len() && self.name(bytes) == Some(name.as_bytes())
    }
}

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

    /// Names, for those who look at all of them.
    pub fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.places().map_while(|place| place.name(&self.0))
    }

    /// All of them, to be changed.
    #[must_use]
    pub fn edit(&self) -> Edited<'_> {
        Edited(self.raw().collect())
    }

    fn raw(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.places().map_while(|place| Some((place.name(&self.0)?, place.value(&self.0)?)))
    }

    fn places(&self) -> impl Iterator<Item = Place> {
        let (count, rest) = self.0.split_first_chunk::<LENGTH>().unwrap_or((&[0; LENGTH], &[]));
        let count = usize::try_from(u32::from_le_bytes(*count)).unwrap_or(0);
        let lengths = count.saturating_mul(2 * LENGTH);
        let mut at = lengths.saturating_add(LENGTH);
        let (pairs, _) = rest.get(..lengths).unwrap_or_default().as_chunks::<{ 2 * LENGTH }>();
        pairs.iter().map(move |[a, b, c, d, e, f, g, h]| {
            let number = |bytes| usize::try_from(u32::from_le_bytes(bytes)).unwrap_or(usize::MAX);
            let place = Place { at, name: number([*a, *b, *c, *d]), value: number([*e, *f, *g, *h]) };
            at = place.end();
            place
        })
    }

    /// Values of a header, each that Envoy keeps apart.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.places().filter(|place| place.is(&self.0, name)).map_while(|place| place.value(&self.0))
    }

    /// The first value of a header.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&[u8]> {
        self.places().find(|place| place.is(&self.0, name)).and_then(|place| place.value(&self.0))
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

/// Headers of a map that are to be set all at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edited<'a>(Vec<(&'a [u8], &'a [u8])>);

impl<'a> Edited<'a> {
    /// Once, with this value, where the first of that name is, or at the end.
    pub fn set(&mut self, name: &'a str, value: &'a str) {
        let (name, value) = (name.as_bytes(), value.as_bytes());
        match self.0.iter().position(|(known, _)| *known == name) {
            Some(place) => {
                let mut at = 0_usize;
                self.0.retain(|(known, _)| {
                    let keep = at <= place || *known != name;
                    at = at.saturating_add(1);
                    keep
                });
                if let Some(header) = self.0.get_mut(place) {
                    header.1 = value;
                }
            }
            None => self.0.push((name, value)),
        }
    }

    pub fn retain(&mut self, mut keep: impl FnMut(&[u8]) -> bool) {
        self.0.retain(|(name, _)| keep(name));
    }

    #[must_use]
    pub fn as_slice(&self) -> &[(&'a [u8], &'a [u8])] {
        &self.0
    }
}

/// A map in the ABI's form.
#[must_use]
pub fn serialized<N: AsRef<[u8]>, V: AsRef<[u8]>>(map: &[(N, V)]) -> Vec<u8> {
    let length = |text: &[u8]| u32::try_from(text.len()).unwrap_or(0).to_le_bytes();
    // Of each text its length, itself and a zero.
    let bytes = map.iter().map(|(name, value)| {
        let texts = name.as_ref().len().saturating_add(value.as_ref().len());
        texts.saturating_add(2 * LENGTH + 2)
    });
    let mut out = Vec::with_capacity(bytes.fold(LENGTH, usize::saturating_add));
    out.extend_from_slice(&u32::try_from(map.len()).unwrap_or(0).to_le_bytes());
    for (name, value) in map {
        out.extend_from_slice(&length(name.as_ref()));
        out.extend_from_slice(&length(value.as_ref()));
    }
    for (name, value) in map {
        out.extend_from_slice(name.as_ref());
        out.push(0);
        out.extend_from_slice(value.as_ref());
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
