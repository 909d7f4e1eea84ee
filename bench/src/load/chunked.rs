//! Reads `transfer-encoding: chunked`.

/// Largest size that is believed: 16 hexadecimal digits.
const SIZE_DIGITS: usize = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// In the digits of a size; so many have been read.
    Size(usize),
    /// Behind the digits, before the line's end.
    Extension,
    Data,
    /// Before the line's end that follows data.
    DataEnd,
    /// At the beginning of a line of the trailer, or inside one.
    Trailer {
        empty: bool,
    },
    Done,
}

/// Where the reading is; pieces may end anywhere.
#[derive(Debug)]
pub(super) struct Chunked {
    at: At,
    left: u64,
}

/// This is no chunked body.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl Chunked {
    pub(super) fn new() -> Self {
        Self { at: At::Size(0), left: 0 }
    }

    pub(super) fn done(&self) -> bool {
        self.at == At::Done
    }

    /// Hands the data on; returns how many bytes belonged to the body.
    pub(super) fn feed(&mut self, piece: &[u8], mut data: impl FnMut(&[u8])) -> Result<usize, Malformed> {
        let mut rest = piece;
        while let (Some(&byte), false) = (rest.first(), self.done()) {
            if self.at == At::Data {
                let length = usize::try_from(self.left).unwrap_or(usize::MAX).min(rest.len());
                data(&rest[..length]);
                rest = &rest[length..];
                self.left -= length as u64;
                if self.left == 0 {
                    self.at = At::DataEnd;
                }
                continue;
            }
            self.at = self.byte(byte)?;
            rest = &rest[1..];
        }
        Ok(piece.len() - rest.len())
    }

    fn byte(&mut self, byte: u8) -> Result<At, Malformed> {
        Ok(match (self.at, byte) {
            (At::Size(digits), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') if digits < SIZE_DIGITS => {
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                self.left = self.left << 4 | u64::from(digit);
                At::Size(digits + 1)
            }
            (At::Size(1..), b'\r' | b';' | b' ' | b'\t') => At::Extension,
            (At::Size(1..) | At::Extension, b'\n') if self.left == 0 => At::Trailer { empty: true },
            (At::Size(1..) | At::Extension, b'\n') => At::Data,
            (At::Extension, _) => At::Extension,
            (At::DataEnd, b'\r') => At::DataEnd,
            (At::DataEnd, b'\n') => At::Size(0),
            (At::Trailer { empty: true }, b'\n') => At::Done,
            (At::Trailer { .. }, b'\n') => At::Trailer { empty: true },
            (at @ At::Trailer { .. }, b'\r') => at,
            (At::Trailer { .. }, _) => At::Trailer { empty: false },
            _ => return Err(Malformed),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &[u8], size: usize) -> Result<(String, usize, bool), Malformed> {
        let (mut chunked, mut text, mut used) = (Chunked::new(), Vec::new(), 0);
        for piece in body.chunks(size) {
            used += chunked.feed(piece, |data| text.extend_from_slice(data))?;
        }
        Ok((String::from_utf8(text).unwrap(), used, chunked.done()))
    }

    #[test]
    fn a_body_is_read_however_it_is_cut() {
        let body = b"5\r\nhello\r\nB;ext=\"1\"\r\n, my world.\r\n1\n!\n0\r\nx-a: b\r\n\r\nHTTP/1.1";
        for size in 1..=body.len() {
            assert_eq!(
                read(body, size),
                Ok(("hello, my world.!".into(), body.len() - 8, true)),
                "pieces of {size}"
            );
        }
        assert!(!read(&body[..body.len() - 10], 7).unwrap().2);
    }

    #[test]
    fn what_is_not_chunked_is_refused() {
        for body in ["hello", "\r\n", "5\r\nhelloX", "11111111111111111\r\n"] {
            assert_eq!(read(body.as_bytes(), 100), Err(Malformed), "{body}");
        }
    }
}
