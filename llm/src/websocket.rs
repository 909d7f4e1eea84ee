//! What the frames of a realtime session (RFC 6455, server to client) say of its use. Frames pass as they are; only the
//! text of events that may count is looked into, and of that no more than a bound.

use crate::json::{self, Member};
use crate::usage::Usage;

/// Largest event that is read, bytes. Those that count hold words, no sound.
const MAX_EVENT: usize = 1024 * 1024;
/// After so many bytes of an event it is decided whether it may count.
const LOOK_AT: usize = 256;
/// Longest header of a frame: two bytes, a length of eight, a mask of four.
const MAX_HEADER: usize = 14;

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;

/// Reads the frames of one direction.
#[derive(Debug, Default)]
pub struct Frames {
    /// Of the header in progress.
    header: Vec<u8>,
    /// Bytes that the frame in progress still has.
    left: u64,
    /// The frame in progress.
    frame: Frame,
    /// Of the message in progress, which control frames may interrupt.
    event: Vec<u8>,
    state: Message,
    usage: Option<Usage>,
    /// Answers that were too large to be read.
    unread: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Frame {
    /// It belongs to a text message.
    text: bool,
    /// The message ends with it.
    last: bool,
    mask: Option<[u8; 4]>,
    /// Bytes of it that passed.
    at: usize,
}

/// What becomes of the text message in progress.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Message {
    #[default]
    None,
    Reading,
    Skipped,
}

impl Frames {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads the next bytes of the connection.
    pub fn push(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.left == 0 {
                rest = self.read_header(rest);
                continue;
            }
            let length = usize::try_from(self.left).unwrap_or(usize::MAX).min(rest.len());
            let (payload, after) = rest.split_at_checked(length).unwrap_or((rest, &[]));
            self.left = self.left.saturating_sub(u64::try_from(length).unwrap_or(u64::MAX));
            self.payload(payload);
            if self.left == 0 {
                self.end_frame();
            }
            rest = after;
        }
    }

    /// What all answers so far used together; a session without one used nothing. Marked as an estimate when an answer was
    /// too large to be read.
    #[must_use]
    pub fn usage(&self) -> Usage {
        Usage { estimated: self.unread > 0, ..self.usage.unwrap_or_default() }
    }

    /// Takes a byte of the header, and begins the frame when it was the last.
    fn read_header<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let Some((first, rest)) = bytes.split_first() else { return bytes };
        if self.header.len() < MAX_HEADER {
            self.header.push(*first);
        }
        let at = |place: usize| self.header.get(place).copied();
        let (Some(kind), Some(size)) = (at(0), at(1)) else { return rest };
        let extended = match size & 0x7f {
            126 => 2_usize,
            127 => 8,
            _ => 0,
        };
        let masked = size & 0x80 != 0;
        let length_end = extended.saturating_add(2);
        let end = length_end.saturating_add(if masked { 4 } else { 0 });
        if self.header.len() < end {
            return rest;
        }
        let long = self.header.get(2..length_end).unwrap_or_default();
        let long = long.iter().fold(0_u64, |sum, byte| sum.wrapping_shl(8) | u64::from(*byte));
        self.left = if extended == 0 { u64::from(size & 0x7f) } else { long };
        let mask = self.header.get(length_end..end).and_then(|mask| mask.try_into().ok());
        self.header.clear();
        self.begin_frame(kind, mask);
        if self.left == 0 {
            self.end_frame();
        }
        rest
    }

    fn begin_frame(&mut self, kind: u8, mask: Option<[u8; 4]>) {
        let opcode = kind & 0x0f;
        if opcode == TEXT {
            self.state = Message::Reading;
            self.event.clear();
        }
        let text = opcode == TEXT || (opcode == CONTINUATION && self.state != Message::None);
        self.frame = Frame { text, last: kind & 0x80 != 0, mask, at: 0 };
    }

    fn payload(&mut self, bytes: &[u8]) {
        if self.frame.text && self.state == Message::Reading {
            let start = self.event.len();
            self.event.extend_from_slice(bytes);
            if let Some(mask) = self.frame.mask {
                let masks = mask.iter().cycle().skip(self.frame.at & 3);
                self.event.iter_mut().skip(start).zip(masks).for_each(|(byte, mask)| *byte ^= mask);
            }
            self.judge();
        }
        self.frame.at = self.frame.at.saturating_add(bytes.len());
    }

    /// Is the message worth going on with?
    fn judge(&mut self) {
        let looked = self.event.get(..LOOK_AT.min(self.event.len())).unwrap_or_default();
        let piece = self.event.len() >= LOOK_AT && memchr::memmem::find(looked, b".delta\"").is_some();
        let large = self.event.len() > MAX_EVENT;
        if large && memchr::memmem::find(looked, b"response.done").is_some() {
            self.unread = self.unread.saturating_add(1);
        }
        if piece || large {
            self.state = Message::Skipped;
            self.event = Vec::new();
        }
    }

    fn end_frame(&mut self) {
        if !self.frame.text || !self.frame.last {
            return;
        }
        if self.state == Message::Reading
            && let Some(usage) = usage_of(&self.event)
        {
            self.usage = Some(self.usage.unwrap_or_default().plus(&usage));
        }
        self.state = Message::None;
        self.event.clear();
    }
}

/// Use that an event tells of: `response.done`, whatever became of the response.
fn usage_of(event: &[u8]) -> Option<Usage> {
    let members = json::members(event)?;
    let find = |members: &[Member<'_>], name: &str| {
        members.iter().find(|member| member.key == name).map(|member| member.value.clone())
    };
    let kind = json::text(event.get(find(&members, "type")?)?)?;
    if kind != "response.done" {
        return None;
    }
    let response = event.get(find(&members, "response")?)?;
    let members = json::members(response)?;
    Usage::parse(response.get(find(&members, "usage")?)?)
}

#[cfg(test)]
#[path = "websocket_tests.rs"]
mod tests;
