//! Searching bytes eight at a time. Prompts and answers are long and mostly plain, and this runs in WASM, where looking
//! at each byte took five times as long. Vector instructions were tried there on loops that the compiler vectorised: no faster.

const LOW: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// Eight bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Word(u64);

impl Word {
    /// Marks the bytes that are `byte`. Bytes after the first marked one may be marked wrongly.
    pub(crate) const fn equal(self, byte: u8) -> u64 {
        let differing = self.0 ^ (LOW.wrapping_mul(byte as u64));
        differing.wrapping_sub(LOW) & !differing & HIGH
    }

    /// Marks the bytes below 0x20, under the same condition.
    pub(crate) const fn control(self) -> u64 {
        self.0.wrapping_sub(LOW.wrapping_mul(0x20)) & !self.0 & HIGH
    }

    /// The same bytes with the bit that tells capital letters from small ones, `[` from `{` and `]` from `}`, set.
    pub(crate) const fn folded(self) -> Self {
        Self(self.0 | LOW.wrapping_mul(0x20))
    }
}

/// Place of the first byte that `marks` and `is` find, which must find the same; and whether all bytes looked at
/// (a few more than before that place) are ASCII.
pub(crate) fn find(
    data: &[u8],
    marks: impl Fn(Word) -> u64,
    is: impl Fn(u8) -> bool,
) -> (Option<usize>, bool) {
    let (words, rest) = data.as_chunks::<8>();
    let mut seen = 0_u64;
    for (number, bytes) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*bytes);
        seen |= word;
        let marked = marks(Word(word));
        if marked != 0 {
            let byte = (marked.trailing_zeros() / 8) as usize;
            return (Some(number.saturating_mul(8).saturating_add(byte)), seen & HIGH == 0);
        }
    }
    let place = rest.iter().position(|byte| is(*byte));
    let ascii = seen & HIGH == 0 && rest.is_ascii();
    (place.map(|at| words.len().saturating_mul(8).saturating_add(at)), ascii)
}

/// `data` without `prefix`. As the standard library's, which in WASM compares a byte at a time.
pub(crate) fn strip_prefix<'a>(data: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    let (begin, rest) = data.split_at_checked(prefix.len())?;
    let ((ours, our_end), (theirs, their_end)) = (begin.as_chunks::<8>(), prefix.as_chunks::<8>());
    let word = |bytes: &[u8; 8]| u64::from_le_bytes(*bytes);
    let same = ours.iter().zip(theirs).all(|(ours, theirs)| word(ours) == word(theirs));
    (same && our_end.iter().eq(their_end)).then_some(rest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(byte: u8) -> bool {
        byte < 0x20 || byte == b'"' || byte == b'\\'
    }

    fn marks(word: Word) -> u64 {
        word.control() | word.equal(b'"') | word.equal(b'\\')
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// Neighbours of the bytes that are looked for, where borrows could lead astray, come up often.
        #[test]
        fn finds_what_a_byte_at_a_time_finds(
            data in prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(&b"\x1f\x20\x21\"#[\\]\0\xff\x80\x7f\xa2"[..])], 0..80)
        ) {
            let (found, ascii) = find(&data, marks, text);
            let place = data.iter().position(|byte| text(*byte));
            prop_assert_eq!(found, place);
            let before = &data[..place.unwrap_or(data.len())];
            // It may see a few bytes more, never fewer.
            prop_assert!(!ascii || before.is_ascii());
            prop_assert!(ascii || !data.is_ascii());
        }

        #[test]
        fn prefixes_are_the_standard_librarys(data in prop::collection::vec(0u8..3, 0..40), at in 0usize..40, flip in prop::option::of(0usize..40)) {
            let mut prefix = data[..at.min(data.len())].to_vec();
            if let Some(byte) = flip.and_then(|at| prefix.get_mut(at)) {
                *byte ^= 1;
            }
            prop_assert_eq!(strip_prefix(&data, &prefix), data.strip_prefix(prefix.as_slice()));
            prop_assert_eq!(strip_prefix(&prefix, &data), prefix.strip_prefix(data.as_slice()));
        }

        #[test]
        fn braces_are_found_as_brackets_are(data in prop::collection::vec(prop::sample::select(&b"a[{]}\"Z:;\\<>@`\x80\xdb"[..]), 0..40)) {
            let is = |byte: u8| byte == b'"' || matches!(byte | 0x20, b'{' | b'}');
            let marks = |word: Word| word.equal(b'"') | word.folded().equal(b'{') | word.folded().equal(b'}');
            prop_assert_eq!(find(&data, marks, is).0, data.iter().position(|byte| is(*byte)));
        }
    }
}
