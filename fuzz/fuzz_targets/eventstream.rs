//! The decoder of AWS event streams must not panic, and must say the same however the stream is cut. Checksums are mended
//! first, or nothing would get past them.
#![no_main]

use attache_llm::eventstream::Decoder;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&cut, body)) = data.split_first() else { return };
    let mended = mend(body);
    for body in [body, &mended] {
        let run = |cut: usize| {
            let mut decoder = Decoder::new();
            let mut seen = Vec::new();
            let (first, rest) = body.split_at(cut.min(body.len()));
            for piece in [first, rest] {
                decoder.push(piece, &mut |message| seen.push(format!("{message:?}")));
            }
            seen
        };
        assert_eq!(run(0), run(usize::from(cut)));
    }
});

/// Messages whose lengths are those of the input, with right checksums.
fn mend(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = body;
    while let Some((&[headers, payload], more)) = rest.split_first_chunk::<2>() {
        let length = (usize::from(headers) + usize::from(payload)).min(more.len());
        let (content, more) = more.split_at(length);
        let headers = usize::from(headers).min(length);
        let start = out.len();
        out.extend_from_slice(&(u32::try_from(length).unwrap_or(0) + 16).to_be_bytes());
        out.extend_from_slice(&u32::try_from(headers).unwrap_or(0).to_be_bytes());
        let crc = crc32fast::hash(&out[start..]);
        out.extend_from_slice(&crc.to_be_bytes());
        out.extend_from_slice(content);
        let crc = crc32fast::hash(&out[start..]);
        out.extend_from_slice(&crc.to_be_bytes());
        rest = more;
    }
    out
}
