//! What was said in a request, where it is to be kept (`store_prompts_in_spend_logs`): bounded for each request and for
//! all that a worker holds, those included that wait for the sidecar. WASM memory never shrinks, so what has no room is
//! left out, and counted.

use std::cell::Cell;
use std::rc::Rc;

use attache_llm::words::{StreamWords, Words};

/// Bytes of words that a worker holds at once, requests in progress and records together.
pub const MAX_HELD: usize = 16 * 1024 * 1024;

/// How much more a worker may hold.
#[derive(Debug, Clone)]
pub struct Room(Rc<Cell<usize>>);

/// A part of the room, given back on drop.
#[derive(Debug)]
struct Taken {
    room: Rc<Cell<usize>>,
    bytes: usize,
}

impl Room {
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        Self(Rc::new(Cell::new(bytes)))
    }

    #[must_use]
    pub fn left(&self) -> usize {
        self.0.get()
    }

    fn nothing(&self) -> Taken {
        Taken { room: Rc::clone(&self.0), bytes: 0 }
    }
}

impl Taken {
    /// Takes more, if there is room.
    fn grow(&mut self, bytes: usize) -> bool {
        match self.room.get().checked_sub(bytes) {
            Some(left) => {
                self.room.set(left);
                self.bytes = self.bytes.saturating_add(bytes);
                true
            }
            None => false,
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.room.set(self.room.get().saturating_add(self.bytes));
    }
}

/// What is asked: messages as the body has them, JSON.
#[derive(Debug)]
pub struct Asked {
    words: Words,
    taken: Taken,
}

impl Asked {
    /// Of `length` bytes, of which `piece` is the beginning. Nothing is kept when there is no room.
    #[must_use]
    pub fn new(room: &Room, max: usize, piece: &[u8], length: usize) -> Option<Self> {
        let (mut words, mut taken) = (Words::new(max), room.nothing());
        if !taken.grow(words.wants(piece.len())) {
            return None;
        }
        words.push(piece, length > piece.len());
        Some(Self { words, taken })
    }
}

#[derive(Debug)]
enum Form {
    Whole(Words),
    Stream(Box<StreamWords>),
}

/// What is answered, as it passes.
#[derive(Debug)]
pub struct Answered {
    form: Form,
    taken: Taken,
}

impl Answered {
    /// Nothing is kept of an answer that is no text.
    #[must_use]
    pub fn new(room: &Room, max: usize, content_type: &str, encoded: bool) -> Option<Self> {
        let kind = content_type.trim_start().to_ascii_lowercase();
        let form = match kind {
            _ if encoded => return None,
            kind if kind.starts_with("text/event-stream") => Form::Stream(Box::new(StreamWords::new(max))),
            kind if kind.starts_with("application/json") || kind.starts_with("text/") => {
                Form::Whole(Words::new(max))
            }
            _ => return None,
        };
        Some(Self { form, taken: room.nothing() })
    }

    /// How many of the next bytes it wants to see.
    #[must_use]
    pub fn wants(&self, size: usize) -> usize {
        match &self.form {
            Form::Whole(words) => words.wants(size),
            Form::Stream(stream) => {
                if stream.words().is_cut() {
                    0
                } else {
                    size
                }
            }
        }
    }

    /// `piece` of the next `size` bytes.
    pub fn push(&mut self, piece: &[u8], size: usize) {
        let (before, after) = match &mut self.form {
            Form::Whole(words) => {
                let before = words.len();
                words.push(piece, size > piece.len());
                (before, words.len())
            }
            Form::Stream(stream) => {
                let before = stream.words().len();
                stream.push(piece);
                (before, stream.words().len())
            }
        };
        if !self.taken.grow(after.saturating_sub(before)) {
            match &mut self.form {
                Form::Whole(words) => words.cut(),
                Form::Stream(stream) => stream.cut(),
            }
        }
    }

    fn finish(self) -> (Option<String>, Taken) {
        let text = match self.form {
            Form::Whole(words) => words.finish(),
            Form::Stream(stream) => stream.finish(),
        };
        (text, self.taken)
    }
}

/// Both, as members of a usage record: `"prompt":"...","answer":"..."`.
#[derive(Debug)]
pub struct Said {
    members: String,
    taken: Taken,
}

impl Said {
    /// `None` when nothing was said, or there is no room for its JSON.
    #[must_use]
    pub fn new(asked: Asked, answered: Option<Answered>) -> Option<Self> {
        let Asked { words, mut taken } = asked;
        let (answer, held) = answered.map(Answered::finish).unzip();
        let mut members = String::new();
        for (name, text) in [("prompt", words.finish()), ("answer", answer.flatten())] {
            let Some(Ok(text)) = text.map(|text| serde_json::to_string(&text)) else { continue };
            let comma = if members.is_empty() { "" } else { "," };
            members.push_str(&format!("{comma}\"{name}\":{text}"));
        }
        drop(held);
        // Escaped it may be longer.
        let more = members.len().saturating_sub(taken.bytes);
        (!members.is_empty() && taken.grow(more)).then_some(Self { members, taken })
    }

    #[must_use]
    pub fn members(&self) -> &str {
        &self.members
    }

    /// Bytes of it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.taken.bytes.max(self.members.len())
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(room: &Room, text: &str, max: usize) -> Option<Asked> {
        Asked::new(room, max, text.as_bytes().get(..max.min(text.len())).unwrap(), text.len())
    }

    #[test]
    fn both_sides_become_members_of_a_record() {
        let room = Room::new(1_000);
        let asked = asked(&room, r#"[{"role":"user","content":"hi"}]"#, 100).unwrap();
        let mut answered = Answered::new(&room, 100, "text/event-stream; charset=utf-8", false).unwrap();
        let stream = b"data: {\"choices\":[{\"delta\":{\"content\":\"say \\\"a\\\"\"}}]}\n\n";
        assert_eq!(answered.wants(50), 50);
        answered.push(stream, stream.len());
        let said = Said::new(asked, Some(answered)).unwrap();
        let record: serde_json::Value = serde_json::from_str(&format!("{{{}}}", said.members())).unwrap();
        assert_eq!(record["prompt"], r#"[{"role":"user","content":"hi"}]"#);
        assert_eq!(record["answer"], "say \"a\"");
        assert_eq!(room.left(), 1_000 - said.len());
        drop(said);
        assert_eq!(room.left(), 1_000, "all is given back");
    }

    #[test]
    fn each_request_has_a_bound() {
        let room = Room::new(1_000);
        let asked = asked(&room, &"x".repeat(500), 10).unwrap();
        let mut answered = Answered::new(&room, 10, "application/json", false).unwrap();
        assert_eq!(answered.wants(8), 8);
        answered.push(b"12345678", 8);
        assert_eq!(answered.wants(8), 2);
        answered.push(b"90", 8);
        assert_eq!(answered.wants(8), 0);
        let said = Said::new(asked, Some(answered)).unwrap();
        assert_eq!(
            said.members(),
            r#""prompt":"xxxxxxxxxx ... (truncated)","answer":"1234567890 ... (truncated)""#
        );
    }

    #[test]
    fn a_worker_has_a_bound_and_gets_room_back() {
        let room = Room::new(100);
        let first = asked(&room, &"x".repeat(60), 64).unwrap();
        assert!(asked(&room, &"y".repeat(60), 64).is_none(), "no room");
        let mut answered = Answered::new(&room, 64, "application/json", false).unwrap();
        answered.push(&[b'z'; 50], 50);
        assert_eq!(answered.wants(10), 0, "nor for this, from now on");
        drop(answered);
        assert_eq!(room.left(), 40);
        drop(first);
        assert!(asked(&room, &"y".repeat(60), 64).is_some());
        assert_eq!(room.left(), 100);
        // What grows by escaping needs room as well.
        let quotes = asked(&room, &"\"".repeat(60), 64).unwrap();
        assert!(Said::new(quotes, None).is_none());
        assert_eq!(room.left(), 100);
    }

    #[test]
    fn what_is_no_text_is_not_kept() {
        let room = Room::new(100);
        assert!(Answered::new(&room, 10, "audio/mpeg", false).is_none());
        assert!(Answered::new(&room, 10, "application/json", true).is_none());
        assert!(Answered::new(&room, 10, "", false).is_none());
        let nothing = Asked::new(&room, 10, b"", 0).unwrap();
        assert!(Said::new(nothing, None).is_none());
    }
}
