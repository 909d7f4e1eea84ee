//! Names and ids that a provider would not take, made fit and found again.

use std::collections::BTreeSet;

use super::thought;

/// Names of tools as one provider takes them, and as the client knows them.
#[derive(Debug, Clone)]
pub struct Names {
    /// Longest name, bytes.
    max: usize,
    /// May this stand in a name? All are ASCII.
    allowed: fn(char) -> bool,
    /// Must a name begin with a letter or an underscore?
    letter_first: bool,
    /// What was sent, and the client's own.
    changed: Vec<(String, String)>,
    used: BTreeSet<String>,
}

impl Names {
    #[must_use]
    pub fn new(max: usize, allowed: fn(char) -> bool) -> Self {
        Self { max, allowed, letter_first: false, changed: Vec::new(), used: BTreeSet::new() }
    }

    /// Names begin with a letter or an underscore.
    #[must_use]
    pub fn letter_first(self) -> Self {
        Self { letter_first: true, ..self }
    }

    fn begins_well(&self, name: &str) -> bool {
        !self.letter_first || name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
    }

    /// The name to send for this one: the same for the same one, and another for every other.
    pub fn sent(&mut self, own: &str) -> String {
        if let Some((sent, _)) = self.changed.iter().find(|(_, known)| known == own) {
            return sent.clone();
        }
        let fit = !own.is_empty()
            && own.len() <= self.max
            && own.chars().all(self.allowed)
            && self.begins_well(own);
        if fit && (self.used.contains(own) || !self.changed.iter().any(|(sent, _)| sent == own)) {
            self.used.insert(own.to_owned());
            return own.to_owned();
        }
        let mut plain: String = own.chars().map(|c| if (self.allowed)(c) { c } else { '_' }).collect();
        if !self.begins_well(&plain) {
            plain.insert(0, '_');
        }
        let mut sent = shorten(if plain.is_empty() { "tool" } else { &plain }, own, self.max);
        if self.is_taken(&sent) {
            let mark = format!("_{:08x}", hash(own) & 0xffff_ffff);
            let keep = self.max.saturating_sub(mark.len());
            sent.truncate(sent.floor_char_boundary(keep));
            sent.push_str(&mark);
        }
        self.changed.push((sent.clone(), own.to_owned()));
        sent
    }

    fn is_taken(&self, name: &str) -> bool {
        self.used.contains(name) || self.changed.iter().any(|(sent, _)| sent == name)
    }

    /// [`super::translate::Reading::tool_names`].
    #[must_use]
    pub fn into_changed(self) -> Vec<(String, String)> {
        self.changed
    }
}

/// An id of a tool call, fit for a provider that takes these characters and so many bytes; the same for the same one. What
/// it carries of Gemini's ([`thought`]) is left out.
#[must_use]
pub fn fit_id(id: &str, max: usize, allowed: fn(char) -> bool) -> String {
    let (plain, _) = thought::split(id);
    let fit: String = plain.chars().map(|c| if allowed(c) { c } else { '_' }).collect();
    shorten(if fit.is_empty() { "call" } else { &fit }, plain, max)
}

/// A name of ASCII that fits, told apart from others with the same beginning by a hash of `whole`.
fn shorten(name: &str, whole: &str, max: usize) -> String {
    if name.len() <= max {
        return name.to_owned();
    }
    let mark = format!("_{:016x}", hash(whole));
    let keep = name.floor_char_boundary(max.saturating_sub(mark.len()));
    format!("{}{mark}", name.get(..keep).unwrap_or_default())
}

/// FNV-1a: the same in every build, for names only.
#[must_use]
pub(super) fn hash(text: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    text.bytes().fold(0xcbf2_9ce4_8422_2325, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(c: char) -> bool {
        c.is_ascii_alphanumeric() || c == '_' || c == '-'
    }

    #[test]
    fn names_that_fit_stay() {
        let mut names = Names::new(64, allowed);
        assert_eq!(names.sent("get_weather-2"), "get_weather-2");
        assert_eq!(names.sent("get_weather-2"), "get_weather-2");
        assert!(names.into_changed().is_empty());
    }

    #[test]
    fn others_are_changed_and_stay_apart() {
        let mut names = Names::new(24, allowed);
        let long = "a".repeat(40);
        let own = ["a.b", "a_b", "a/b", "", "tool", &long, &long[1..], "h\u{e9}"];
        let sent: Vec<String> = own.iter().map(|name| names.sent(name)).collect();
        assert_eq!(sent.iter().collect::<BTreeSet<_>>().len(), own.len(), "{sent:?}");
        assert!(sent.iter().all(|name| !name.is_empty() && name.len() <= 24 && name.chars().all(allowed)));
        assert_eq!(own.iter().map(|name| names.sent(name)).collect::<Vec<_>>(), sent);
        for (sent, own) in names.into_changed() {
            assert_ne!(sent, own);
        }
    }

    #[test]
    fn names_that_must_begin_with_a_letter() {
        let mut names = Names::new(24, allowed).letter_first();
        assert_eq!(names.sent("_a"), "_a");
        assert_eq!(names.sent("2fa"), "_2fa");
        assert_eq!(names.sent("-"), "_-");
        assert_eq!(names.sent("2fa"), "_2fa");
        assert_eq!(names.sent("123456789012345678901234").len(), 24);
    }

    #[test]
    fn ids_are_cut_and_stay_apart() {
        let long = |last: &str| format!("call_{}{last}", "x".repeat(80));
        let (one, two) = (fit_id(&long("1"), 64, allowed), fit_id(&long("2"), 64, allowed));
        assert_ne!(one, two);
        assert_eq!((one.len(), two.len()), (64, 64));
        assert_eq!(fit_id("call_1__thought__Cg", 64, allowed), "call_1");
        assert_eq!(fit_id("a|b", 64, allowed), "a_b");
        assert_eq!(fit_id("", 64, allowed), "call");
    }
}
