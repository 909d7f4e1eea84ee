//! A strict JSON lexer (RFC 8259) that may be stopped and resumed at any byte. It keeps one bit per open container, a
//! partial UTF-8 sequence and nothing else.

use super::ScanError;
use crate::json::words::{self, Word};

/// Kind of a JSON value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Object,
    Array,
    String,
    Number,
    True,
    False,
    Null,
}

/// Receiver of what the lexer sees. Offsets are bytes of the body.
pub(super) trait Sink {
    /// A member's key begins (its quote at `start`); its text follows.
    fn key(&mut self, start: usize);
    /// The key is whole.
    fn key_end(&mut self) -> Result<(), ScanError>;
    /// A value begins at `start`. Text follows for strings and numbers, members for containers.
    fn value(&mut self, kind: Kind, start: usize) -> Result<(), ScanError>;
    /// A piece of the key, string (decoded) or number in progress.
    fn text(&mut self, bytes: &[u8]) -> Result<(), ScanError>;
    /// The innermost open value ends before `end`.
    fn value_end(&mut self, kind: Kind, end: usize) -> Result<(), ScanError>;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// A value must come; in a fresh array also its end.
    Value {
        or_close: bool,
    },
    /// A key must come; in a fresh object also its end.
    Key {
        or_close: bool,
    },
    Colon,
    AfterValue,
    Text,
    Escape,
    /// Hex digits of `\u` still to come, and those read.
    Hex {
        left: u8,
        code: u16,
    },
    /// After a high surrogate: `\`, then `u`, must follow.
    LowBackslash,
    LowU,
    Number(Number),
    /// Rest of `true`, `false` or `null`.
    Word {
        rest: &'static [u8],
        kind: Kind,
    },
}

/// Where in a number the lexer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Number {
    Minus,
    Zero,
    Whole,
    Point,
    Fraction,
    Exponent,
    ExponentSign,
    ExponentDigits,
}

impl Number {
    /// State after one more byte, `None` when the byte is not part of the number.
    fn step(self, byte: u8) -> Option<Self> {
        Some(match (self, byte) {
            (Self::Minus, b'0') => Self::Zero,
            (Self::Minus, b'1'..=b'9') | (Self::Whole, b'0'..=b'9') => Self::Whole,
            (Self::Zero | Self::Whole, b'.') => Self::Point,
            (Self::Zero | Self::Whole | Self::Fraction, b'e' | b'E') => Self::Exponent,
            (Self::Point | Self::Fraction, b'0'..=b'9') => Self::Fraction,
            (Self::Exponent, b'+' | b'-') => Self::ExponentSign,
            (Self::Exponent | Self::ExponentSign | Self::ExponentDigits, b'0'..=b'9') => Self::ExponentDigits,
            _ => return None,
        })
    }

    fn is_whole(self) -> bool {
        matches!(self, Self::Zero | Self::Whole | Self::Fraction | Self::ExponentDigits)
    }
}

#[derive(Debug)]
pub(super) struct Lexer {
    state: State,
    /// Is the string in progress a key?
    in_key: bool,
    /// Open containers, outermost first; true for objects.
    open: Vec<bool>,
    max_depth: usize,
    /// First half of a surrogate pair.
    high: Option<u16>,
    /// A UTF-8 sequence cut by the end of a slice.
    partial: Vec<u8>,
    /// Where that sequence begins.
    partial_at: usize,
    /// Bytes before the current slice.
    base: usize,
    done: bool,
}

impl Lexer {
    pub(super) fn new(max_depth: usize) -> Self {
        Self {
            state: State::Value { or_close: false },
            in_key: false,
            open: Vec::with_capacity(16),
            max_depth,
            high: None,
            partial: Vec::with_capacity(4),
            partial_at: 0,
            base: 0,
            done: false,
        }
    }

    pub(super) fn feed(&mut self, slice: &[u8], sink: &mut impl Sink) -> Result<(), ScanError> {
        let mut rest = slice;
        while let Some((&byte, tail)) = rest.split_first() {
            let at = self.base.saturating_add(slice.len().saturating_sub(rest.len()));
            rest = match self.state {
                State::Text => self.text(rest, at, sink)?,
                State::Number(number) => match number.step(byte) {
                    Some(next) => {
                        self.state = State::Number(next);
                        sink.text(&[byte])?;
                        tail
                    }
                    // The byte after a number belongs to what follows it.
                    None if number.is_whole() => {
                        self.end_value(Kind::Number, at, sink)?;
                        rest
                    }
                    None => return Err(malformed(at, "invalid number")),
                },
                _ => {
                    self.byte(byte, at, sink)?;
                    tail
                }
            };
        }
        self.base = self.base.saturating_add(slice.len());
        Ok(())
    }

    pub(super) fn finish(&self) -> Result<(), ScanError> {
        if self.done && self.state == State::AfterValue {
            return Ok(());
        }
        let what = if self.base == 0 { "the body is empty" } else { "unexpected end of the body" };
        Err(malformed(self.base, what))
    }

    /// One byte outside plain text and numbers.
    fn byte(&mut self, byte: u8, at: usize, sink: &mut impl Sink) -> Result<(), ScanError> {
        match self.state {
            State::Escape => self.escape(byte, at, sink),
            State::Hex { left, code } => self.hex(left, code, byte, at, sink),
            State::LowBackslash if byte == b'\\' => {
                self.state = State::LowU;
                Ok(())
            }
            State::LowU if byte == b'u' => {
                self.state = State::Hex { left: 4, code: 0 };
                Ok(())
            }
            State::LowBackslash | State::LowU => Err(malformed(at, "unpaired surrogate in a string")),
            State::Word { rest, kind } => self.word(rest, kind, byte, at, sink),
            _ if matches!(byte, b' ' | b'\t' | b'\n' | b'\r') => Ok(()),
            State::Value { or_close } => {
                if byte == b']' && or_close {
                    self.close(false, at, sink)
                } else {
                    self.begin(byte, at, sink)
                }
            }
            State::Key { or_close } => match byte {
                b'"' => {
                    self.in_key = true;
                    self.state = State::Text;
                    sink.key(at);
                    Ok(())
                }
                b'}' if or_close => self.close(true, at, sink),
                _ => Err(malformed(at, "expected a member name in double quotes")),
            },
            State::Colon if byte == b':' => {
                self.state = State::Value { or_close: false };
                Ok(())
            }
            State::Colon => Err(malformed(at, "expected ':'")),
            State::AfterValue => self.after_value(byte, at, sink),
            State::Text | State::Number(_) => Ok(()),
        }
    }

    fn begin(&mut self, byte: u8, at: usize, sink: &mut impl Sink) -> Result<(), ScanError> {
        let (kind, state) = match byte {
            b'{' => (Kind::Object, State::Key { or_close: true }),
            b'[' => (Kind::Array, State::Value { or_close: true }),
            b'"' => (Kind::String, State::Text),
            b'-' => (Kind::Number, State::Number(Number::Minus)),
            b'0' => (Kind::Number, State::Number(Number::Zero)),
            b'1'..=b'9' => (Kind::Number, State::Number(Number::Whole)),
            b't' => (Kind::True, State::Word { rest: b"rue", kind: Kind::True }),
            b'f' => (Kind::False, State::Word { rest: b"alse", kind: Kind::False }),
            b'n' => (Kind::Null, State::Word { rest: b"ull", kind: Kind::Null }),
            _ => return Err(malformed(at, "expected a value")),
        };
        if matches!(kind, Kind::Object | Kind::Array) {
            if self.open.len() >= self.max_depth {
                return Err(malformed(at, "nested too deeply"));
            }
            self.open.push(kind == Kind::Object);
        }
        self.in_key = false;
        self.state = state;
        sink.value(kind, at)?;
        if kind == Kind::Number { sink.text(&[byte]) } else { Ok(()) }
    }

    fn after_value(&mut self, byte: u8, at: usize, sink: &mut impl Sink) -> Result<(), ScanError> {
        match (self.open.last(), byte) {
            (None, _) => Err(malformed(at, "unexpected data after the JSON document")),
            (Some(true), b',') => {
                self.state = State::Key { or_close: false };
                Ok(())
            }
            (Some(false), b',') => {
                self.state = State::Value { or_close: false };
                Ok(())
            }
            (Some(true), b'}') => self.close(true, at, sink),
            (Some(false), b']') => self.close(false, at, sink),
            (Some(true), _) => Err(malformed(at, "expected ',' or '}'")),
            (Some(false), _) => Err(malformed(at, "expected ',' or ']'")),
        }
    }

    fn close(&mut self, object: bool, at: usize, sink: &mut impl Sink) -> Result<(), ScanError> {
        self.open.pop();
        let kind = if object { Kind::Object } else { Kind::Array };
        self.end_value(kind, at.saturating_add(1), sink)
    }

    fn end_value(&mut self, kind: Kind, end: usize, sink: &mut impl Sink) -> Result<(), ScanError> {
        self.state = State::AfterValue;
        self.done = self.open.is_empty();
        sink.value_end(kind, end)
    }

    fn word(
        &mut self,
        rest: &'static [u8],
        kind: Kind,
        byte: u8,
        at: usize,
        sink: &mut impl Sink,
    ) -> Result<(), ScanError> {
        match rest.split_first() {
            Some((expected, [])) if *expected == byte => self.end_value(kind, at.saturating_add(1), sink),
            Some((expected, rest)) if *expected == byte => {
                self.state = State::Word { rest, kind };
                Ok(())
            }
            _ => Err(malformed(at, "expected true, false or null")),
        }
    }

    /// Reads string text up to a quote, an escape or the end of the slice; returns what is left of the slice.
    fn text<'a>(&mut self, rest: &'a [u8], at: usize, sink: &mut impl Sink) -> Result<&'a [u8], ScanError> {
        let marks = |word: Word| word.control() | word.equal(b'"') | word.equal(b'\\');
        let (found, ascii) = words::find(rest, marks, |byte| byte < 0x20 || byte == b'"' || byte == b'\\');
        let length = found.unwrap_or(rest.len());
        let (plain, tail) = rest.split_at_checked(length).unwrap_or((rest, &[]));
        if ascii && self.partial.is_empty() {
            sink.text(plain)?;
        } else {
            self.utf8(plain, tail.is_empty(), at, sink)?;
        }
        let Some((byte, after)) = tail.split_first() else { return Ok(tail) };
        let at = at.saturating_add(length);
        match byte {
            b'\\' => self.state = State::Escape,
            b'"' if self.in_key => {
                self.state = State::Colon;
                sink.key_end()?;
            }
            b'"' => self.end_value(Kind::String, at.saturating_add(1), sink)?,
            _ => return Err(malformed(at, "control character in a string")),
        }
        Ok(after)
    }

    /// Checks and passes on text; `open_end`: the slice ends with it, so that a sequence may go on in the next.
    fn utf8(
        &mut self,
        plain: &[u8],
        open_end: bool,
        at: usize,
        sink: &mut impl Sink,
    ) -> Result<(), ScanError> {
        let invalid = |at| Err(malformed(at, "invalid UTF-8 in a string"));
        let (mut plain, mut at) = (plain, at);
        while !self.partial.is_empty() {
            let Some((byte, tail)) = plain.split_first() else {
                return if open_end { Ok(()) } else { invalid(self.partial_at) };
            };
            self.partial.push(*byte);
            plain = tail;
            at = at.saturating_add(1);
            match std::str::from_utf8(&self.partial) {
                Ok(_) => {
                    sink.text(&self.partial)?;
                    self.partial.clear();
                }
                Err(error) if error.error_len().is_some() => return invalid(self.partial_at),
                Err(_) => {}
            }
        }
        if plain.is_ascii() {
            return sink.text(plain);
        }
        match std::str::from_utf8(plain) {
            Ok(_) => sink.text(plain),
            Err(error) if error.error_len().is_none() && open_end => {
                let (whole, cut) = plain.split_at_checked(error.valid_up_to()).unwrap_or((plain, &[]));
                self.partial.extend_from_slice(cut);
                self.partial_at = at.saturating_add(error.valid_up_to());
                sink.text(whole)
            }
            Err(error) => invalid(at.saturating_add(error.valid_up_to())),
        }
    }

    fn escape(&mut self, byte: u8, at: usize, sink: &mut impl Sink) -> Result<(), ScanError> {
        let decoded = match byte {
            b'"' | b'\\' | b'/' => byte,
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                self.state = State::Hex { left: 4, code: 0 };
                return Ok(());
            }
            _ => return Err(malformed(at, "invalid escape in a string")),
        };
        self.state = State::Text;
        sink.text(&[decoded])
    }

    fn hex(
        &mut self,
        left: u8,
        code: u16,
        byte: u8,
        at: usize,
        sink: &mut impl Sink,
    ) -> Result<(), ScanError> {
        let digit = char::from(byte).to_digit(16).and_then(|digit| u16::try_from(digit).ok());
        let Some(digit) = digit else { return Err(malformed(at, "invalid \\u escape in a string")) };
        let code = (code << 4) | digit;
        if left > 1 {
            self.state = State::Hex { left: left.saturating_sub(1), code };
            return Ok(());
        }
        let units = match (self.high.take(), code) {
            (None, 0xd800..=0xdbff) => {
                self.high = Some(code);
                self.state = State::LowBackslash;
                return Ok(());
            }
            (Some(high), 0xdc00..=0xdfff) => [Some(high), Some(code)],
            (None, _) => [Some(code), None],
            (Some(_), _) => [None, None],
        };
        let decoded = char::decode_utf16(units.into_iter().flatten()).next();
        let Some(Ok(decoded)) = decoded else { return Err(malformed(at, "unpaired surrogate in a string")) };
        self.state = State::Text;
        sink.text(decoded.encode_utf8(&mut [0; 4]).as_bytes())
    }
}

/// The body is not JSON (LiteLLM's words and `param`).
fn malformed(offset: usize, what: &str) -> ScanError {
    ScanError {
        param: Some("request_body"),
        offset,
        message: format!("Invalid JSON payload: {what} at byte {offset}"),
    }
}
