//! The events of a stream of chat completions are alike but for their text, which is all that most of them bring. One
//! that was read the long way becomes a template, and those that match it are not read again.

use std::ops::Range;

use crate::json;
use crate::json::words::strip_prefix;

/// Members whose text may differ from event to event: what is said, and the padding that OpenAI adds so that nobody
/// can tell the words from the length of the packets.
const TEXT: &[u8] = b"\"content\":\"";
const PADDING: &[u8] = b"\"obfuscation\":\"";

/// Templates longer than this are not kept, bytes: the part before the text and the one after it together.
const MAX: usize = 4 * 1024;

/// An event without the strings that differ.
#[derive(Debug, Default)]
pub(super) struct Template {
    /// Up to the opening quote of the text.
    head: Vec<u8>,
    /// The same with the client's model name.
    shown: Vec<u8>,
    /// From the closing quote of the text to the opening one of the padding, or to the end.
    middle: Vec<u8>,
    /// From the closing quote of the padding to the end.
    tail: Option<Vec<u8>>,
}

/// An event that matches.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Matched<'a> {
    /// The text, quotes included.
    pub(super) text: &'a [u8],
    /// From the text on.
    pub(super) rest: &'a [u8],
}

impl Template {
    /// Learns from an event whose only text has `text_bytes` bytes. `models` are the places of the model's name, which the
    /// client sees as `model`.
    pub(super) fn learn(&mut self, raw: &[u8], text_bytes: u64, models: &[Range<usize>], model: &[u8]) {
        *self = Self::of(raw, text_bytes, models, model).unwrap_or_default();
    }

    fn of(raw: &[u8], text_bytes: u64, models: &[Range<usize>], model: &[u8]) -> Option<Self> {
        let (start, end) = string_after(raw, TEXT, 0)?;
        let counted = json::text_len(raw.get(start..end)?);
        if counted != text_bytes || models.iter().any(|range| range.end > start) {
            return None;
        }
        let (middle, tail) = match string_after(raw, PADDING, end) {
            Some((from, to)) => (raw.get(end..from)?, Some(raw.get(to..)?.to_vec())),
            None => (raw.get(end..)?, None),
        };
        let head = raw.get(..start)?;
        let length = raw.len().saturating_sub(end.saturating_sub(start));
        if length > MAX {
            return None;
        }
        let mut shown = Vec::with_capacity(head.len());
        super::splice(head, models, model, &mut shown);
        Some(Self { head: head.to_vec(), shown, middle: middle.to_vec(), tail })
    }

    /// Is `raw` the event learnt but for its strings?
    pub(super) fn matches<'a>(&self, raw: &'a [u8]) -> Option<Matched<'a>> {
        // Nothing was learnt.
        if self.middle.is_empty() {
            return None;
        }
        let rest = strip_prefix(raw, &self.head)?;
        let end = json::skip_string(rest, 0)?;
        let (text, after) = rest.split_at_checked(end)?;
        let after = strip_prefix(after, &self.middle)?;
        let over = match &self.tail {
            None => after,
            Some(tail) => strip_prefix(after.get(json::skip_string(after, 0)?..)?, tail)?,
        };
        over.is_empty().then_some(Matched { text, rest })
    }

    /// What the client gets in place of the part before the text.
    pub(super) fn shown(&self) -> &[u8] {
        &self.shown
    }

    /// Does the client get anything else than what came?
    pub(super) fn changes(&self) -> bool {
        self.shown != self.head
    }
}

/// Place of the string that follows `name`, quotes included. The name cannot be part of a text: its quotes would be escaped
/// there.
fn string_after(raw: &[u8], name: &[u8], from: usize) -> Option<(usize, usize)> {
    let at = memchr::memmem::find(raw.get(from..)?, name)?;
    // The name ends with the string's opening quote.
    let start = from.checked_add(at)?.checked_add(name.len())?.checked_sub(1)?;
    Some((start, json::skip_string(raw, start)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: &str = "data: {\"id\":\"c\",\"model\":\"theirs\",\"choices\":[{\"delta\":{\"content\":\"a\"}}],\"obfuscation\":\"xyz\"}\n\n";

    fn learnt(raw: &str, text_bytes: u64) -> Template {
        let at = raw.find("\"theirs\"").unwrap();
        let mut template = Template::default();
        template.learn(raw.as_bytes(), text_bytes, std::slice::from_ref(&(at..at + 8)), b"\"ours\"");
        template
    }

    #[test]
    fn what_differs_in_its_strings_alone_matches() {
        let template = learnt(EVENT, 1);
        let other = EVENT.replace(":\"a\"", ":\" b \\\"c\\\" \"").replace("xyz", "");
        let matched = template.matches(other.as_bytes()).unwrap();
        assert_eq!(matched.text, br#"" b \"c\" ""#);
        let whole = [template.shown(), matched.rest].concat();
        assert_eq!(String::from_utf8(whole).unwrap(), other.replace("theirs", "ours"));
        assert!(template.changes());
        let without = EVENT.replace(",\"obfuscation\":\"xyz\"", "");
        assert!(learnt(&without, 1).matches(without.as_bytes()).is_some());
        assert!(template.matches(without.as_bytes()).is_none());
    }

    #[test]
    fn what_differs_elsewhere_does_not() {
        let template = learnt(EVENT, 1);
        for (old, new) in [
            ("\"c\"", "\"d\""),
            ("}}]", "},\"finish_reason\":\"stop\"}]"),
            ("theirs", "other"),
            (":\"a\"", ":null"),
            (":\"a\"", ":\"a\",\"refusal\":\"b\""),
            ("\n\n", "\n\n\n"),
            ("xyz\"", "xyz\",\"usage\":{}"),
            ("xyz\"}\n\n", "xyz"),
        ] {
            let other = EVENT.replacen(old, new, 1);
            assert_ne!(other, EVENT);
            assert_eq!(template.matches(other.as_bytes()), None, "{other}");
        }
        assert_eq!(Template::default().matches(EVENT.as_bytes()), None);
    }

    #[test]
    fn text_beside_the_content_makes_no_template() {
        // The text counted is more than the content's: a part of it is somewhere else.
        assert!(learnt(EVENT, 5).matches(EVENT.as_bytes()).is_none());
        assert!(learnt(&EVENT.replace("content", "text"), 1).matches(EVENT.as_bytes()).is_none());
    }
}
