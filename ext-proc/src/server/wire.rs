//! Writes protobuf, where a message of the generated types would cost more than what it says: a struct of metadata is a
//! hash map per level, a box per value and a walk over all of it for each length.

/// Fields of the messages that are written, by number.
pub(super) mod field {
    pub(in crate::server) const RESPONSE_HEADERS: u32 = 1;
    pub(in crate::server) const RESPONSE_METADATA: u32 = 8;
    pub(in crate::server) const HEADERS_COMMON: u32 = 1;
    pub(in crate::server) const COMMON_MUTATION: u32 = 2;
    pub(in crate::server) const COMMON_CLEAR_ROUTE: u32 = 5;
    pub(in crate::server) const MUTATION_SET: u32 = 1;
    pub(in crate::server) const MUTATION_REMOVE: u32 = 2;
    pub(in crate::server) const OPTION_HEADER: u32 = 1;
    pub(in crate::server) const OPTION_APPEND: u32 = 3;
    pub(in crate::server) const HEADER_KEY: u32 = 1;
    pub(in crate::server) const HEADER_RAW: u32 = 3;
    pub(in crate::server) const ENTRY_KEY: u32 = 1;
    pub(in crate::server) const ENTRY_VALUE: u32 = 2;
    pub(in crate::server) const STRUCT_FIELDS: u32 = 1;
    pub(in crate::server) const VALUE_NUMBER: u32 = 2;
    pub(in crate::server) const VALUE_STRING: u32 = 3;
    pub(in crate::server) const VALUE_STRUCT: u32 = 5;
    pub(in crate::server) const VALUE_LIST: u32 = 6;
    pub(in crate::server) const LIST_VALUES: u32 = 1;
}

const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const DELIMITED: u32 = 2;

/// A message, as it grows.
pub(super) struct Wire {
    out: Vec<u8>,
}

impl Wire {
    pub(super) fn with_capacity(capacity: usize) -> Self {
        Self { out: Vec::with_capacity(capacity) }
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.out
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.out.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.out.push(value as u8);
    }

    fn tag(&mut self, field: u32, kind: u32) {
        self.varint(u64::from(field << 3 | kind));
    }

    pub(super) fn bytes(&mut self, field: u32, bytes: &[u8]) {
        self.tag(field, DELIMITED);
        self.varint(bytes.len() as u64);
        self.out.extend_from_slice(bytes);
    }

    pub(super) fn text(&mut self, field: u32, text: &str) {
        self.bytes(field, text.as_bytes());
    }

    pub(super) fn number(&mut self, field: u32, value: u64) {
        self.tag(field, VARINT);
        self.varint(value);
    }

    pub(super) fn double(&mut self, field: u32, value: f64) {
        self.tag(field, FIXED64);
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    /// A field whose content `write` appends.
    pub(super) fn nested(&mut self, field: u32, write: impl FnOnce(&mut Self)) {
        self.tag(field, DELIMITED);
        let at = self.out.len();
        // Most contents are short: then one byte has their length, and nothing is moved.
        self.out.push(0);
        write(self);
        let mut length = self.out.len() - at - 1;
        if length < 0x80 {
            self.out[at] = length as u8;
            return;
        }
        let mut prefix = [0; 10];
        let mut count = 0;
        while length >= 0x80 {
            prefix[count] = (length & 0x7f) as u8 | 0x80;
            length >>= 7;
            count += 1;
        }
        prefix[count] = length as u8;
        self.out.splice(at..=at, prefix[..=count].iter().copied());
    }

    /// Content of a field, as JSON. What is written so always serialises; else the field ends early, and is unreadable.
    pub(super) fn json(&mut self, value: &impl serde::Serialize) {
        if let Err(error) = serde_json::to_writer(&mut self.out, value) {
            tracing::error!(%error, "not serialised");
        }
    }

    /// An entry of a `google.protobuf.Struct`.
    pub(super) fn entry(&mut self, name: &str, value: impl FnOnce(&mut Self)) {
        self.nested(field::STRUCT_FIELDS, |entry| {
            entry.text(field::ENTRY_KEY, name);
            entry.nested(field::ENTRY_VALUE, value);
        });
    }

    /// A `google.protobuf.Value` of text.
    pub(super) fn entry_text(&mut self, name: &str, text: &str) {
        self.entry(name, |value| value.text(field::VALUE_STRING, text));
    }

    /// A `google.protobuf.Value` of text, which is JSON.
    pub(super) fn entry_json(&mut self, name: &str, json: &impl serde::Serialize) {
        self.entry(name, |value| value.nested(field::VALUE_STRING, |text| text.json(json)));
    }
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::google::protobuf::{Struct, value::Kind};
    use prost::Message;

    use super::*;

    #[test]
    fn lengths_of_one_two_and_three_bytes_are_read_back() {
        for length in [0, 1, 126, 127, 128, 16_383, 16_384, 70_000] {
            let text = "x".repeat(length);
            let mut wire = Wire::with_capacity(16);
            wire.entry_text("a", &text);
            wire.entry_json("b", &text);
            wire.entry("c", |value| value.double(field::VALUE_NUMBER, 1.5));
            let read = Struct::decode(&*wire.into_bytes()).unwrap();
            let kind = |name: &str| read.fields[name].kind.clone().unwrap();
            assert_eq!(kind("a"), Kind::StringValue(text.clone()));
            assert_eq!(kind("b"), Kind::StringValue(format!("\"{text}\"")));
            assert_eq!(kind("c"), Kind::NumberValue(1.5));
        }
    }
}
