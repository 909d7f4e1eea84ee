//! How long a WAV file plays, by its header.

/// Milliseconds of audio in a file of `length` bytes that begins with `head`. `None` when it is no WAV file, or its
/// header is longer than what is there.
pub(super) fn milliseconds(head: &[u8], length: u64) -> Option<u64> {
    if head.get(..4)? != b"RIFF" || head.get(8..12)? != b"WAVE" {
        return None;
    }
    let (mut at, mut rate) = (12_usize, None);
    loop {
        let name = head.get(at..at.checked_add(4)?)?;
        let size = number(head, at.checked_add(4)?)?;
        let content = at.checked_add(8)?;
        match name {
            b"fmt " => rate = Some(number(head, content.checked_add(8)?)?),
            b"data" => {
                // What is made while it is recorded has no true size yet.
                let rest = length.saturating_sub(u64::try_from(content).ok()?);
                let bytes = u64::from(size).min(rest);
                return bytes.checked_mul(1_000)?.checked_div(u64::from(rate?));
            }
            _ => {}
        }
        let size = usize::try_from(size).ok()?;
        at = content.checked_add(size)?.checked_add(size & 1)?;
    }
}

fn number(head: &[u8], at: usize) -> Option<u32> {
    head.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_le_bytes)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A file of 16-bit samples, 8,000 per second.
    pub(crate) fn file(seconds: u32) -> Vec<u8> {
        let data = seconds * 16_000;
        let mut file = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0".to_vec();
        file.extend_from_slice(&8_000_u32.to_le_bytes());
        file.extend_from_slice(&16_000_u32.to_le_bytes());
        file.extend_from_slice(b"\x02\0\x10\0LIST\x03\0\0\0abc\0data");
        file.extend_from_slice(&data.to_le_bytes());
        file.resize(file.len() + data as usize, 0);
        file
    }

    #[test]
    fn the_header_tells() {
        let whole = file(3);
        let length = whole.len() as u64;
        assert_eq!(milliseconds(&whole[..100], length), Some(3_000));
        assert_eq!(milliseconds(&whole[..100], length - 16_000), Some(2_000));
        let mut endless = whole.clone();
        let at = whole.windows(4).position(|w| w == b"data").unwrap() + 4;
        endless[at..at + 4].copy_from_slice(&[255; 4]);
        assert_eq!(milliseconds(&endless[..100], length), Some(3_000));
        for cut in 0..at + 4 {
            assert_eq!(milliseconds(&whole[..cut], length), None);
        }
        assert_eq!(milliseconds(b"ID3\x04", 4), None);
        let zero = [&whole[..28], &[0; 4], &whole[32..]].concat();
        assert_eq!(milliseconds(&zero, length), None);
    }
}
