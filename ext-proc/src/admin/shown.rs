//! JSON objects with exact money: `serde_json::Value` would turn it into floating point.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};

use super::money::Dollars;

/// A JSON object in the making, in order.
#[derive(Debug, Clone, Default)]
pub(super) struct Shown(Vec<(String, Box<RawValue>)>);

impl Shown {
    /// Adds a field, or replaces it where it stands.
    pub(super) fn put(&mut self, name: &str, value: &(impl Serialize + ?Sized)) -> &mut Self {
        // Only maps with keys other than text fail, and nothing here has any.
        let raw = to_raw_value(value).unwrap_or_else(|_| RawValue::NULL.to_owned());
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => *known = raw,
            None => self.0.push((name.to_owned(), raw)),
        }
        self
    }

    /// Nano-dollars as dollars, or null.
    pub(super) fn money(&mut self, name: &str, nanos: Option<u64>) -> &mut Self {
        self.put(name, &nanos.map(|nanos| Dollars(i64::try_from(nanos).unwrap_or(i64::MAX))))
    }

    /// Fields that are not there yet.
    pub(super) fn fill(&mut self, fields: &Map<String, Value>) -> &mut Self {
        for (name, value) in fields {
            if !self.has(name) {
                self.put(name, value);
            }
        }
        self
    }

    pub(super) fn get(&self, name: &str) -> Option<&RawValue> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, raw)| &**raw)
    }

    /// Adds the fields of another object.
    pub(super) fn append(&mut self, other: Self) -> &mut Self {
        for (name, value) in other.0 {
            self.put(&name, &value);
        }
        self
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| known == name)
    }
}

impl Serialize for Shown {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_stays_exact_however_deep() {
        let mut inner = Shown::default();
        inner.money("spend", Some(125)).put("name", "x").money("none", None);
        let mut outer = Shown::default();
        outer.put("info", &inner).put("list", &[inner.clone()]).put("info2", &1).put("info2", &2);
        assert_eq!(
            serde_json::to_string(&outer).unwrap(),
            r#"{"info":{"spend":0.000000125,"name":"x","none":null},"list":[{"spend":0.000000125,"name":"x","none":null}],"info2":2}"#
        );
    }
}
