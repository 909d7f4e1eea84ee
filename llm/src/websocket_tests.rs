use proptest::prelude::*;

use super::*;

const DONE: &str = r#"{"type":"response.done","event_id":"e","response":{"object":"realtime.response","output":[],
"usage":{"total_tokens":253,"input_tokens":132,"output_tokens":121,
"input_token_details":{"cached_tokens":64,"text_tokens":119,"audio_tokens":13,
"cached_tokens_details":{"text_tokens":60,"audio_tokens":4}},
"output_token_details":{"text_tokens":30,"audio_tokens":91}}}}"#;

fn frame(kind: u8, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let mut out = vec![kind];
    let bit = if mask.is_some() { 0x80 } else { 0 };
    match payload.len() {
        length @ 0..126 => out.push(bit | length as u8),
        length @ 126..65_536 => {
            out.push(bit | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(bit | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend(mask.iter().flatten());
    let masks = mask.unwrap_or_default();
    out.extend(payload.iter().zip(masks.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    out
}

fn read(bytes: &[u8], piece: usize) -> Frames {
    let mut frames = Frames::new();
    bytes.chunks(piece.max(1)).for_each(|piece| frames.push(piece));
    frames
}

/// A session: small and large frames, a message in pieces with a ping between them, a mask, the end.
fn session() -> Vec<u8> {
    let delta = format!(r#"{{"type":"response.output_audio.delta","delta":"{}"}}"#, "A".repeat(70_000));
    let (one, two) = DONE.split_at(100);
    [
        frame(0x81, br#"{"type":"session.created"}"#, None),
        frame(0x81, delta.as_bytes(), None),
        frame(0x81, DONE.as_bytes(), None),
        frame(0x01, one.as_bytes(), None),
        frame(0x89, b"ping", None),
        frame(0x80, two.as_bytes(), None),
        frame(0x82, DONE.as_bytes(), None),
        frame(0x81, b"", None),
        frame(0x81, DONE.as_bytes(), Some([1, 2, 3, 4])),
        frame(0x88, b"\x03\xe8", None),
    ]
    .concat()
}

#[test]
fn answers_are_summed_wherever_the_bytes_are_cut() {
    let session = session();
    let whole = read(&session, session.len()).usage();
    assert_eq!((whole.prompt, whole.completion, whole.total), (3 * 132, 3 * 121, 3 * 253));
    assert_eq!((whole.cached, whole.audio_cached), (3 * 64, 3 * 4));
    assert_eq!((whole.audio_in, whole.audio_out), (3 * 13, 3 * 91));
    for piece in [1, 2, 3, 7, 1_000, 65_536] {
        assert_eq!(read(&session, piece).usage(), whole, "{piece}");
    }
    let short: Vec<u8> = [frame(0x01, DONE.as_bytes(), None), frame(0x80, b"", None)].concat();
    let whole = read(&short, short.len()).usage();
    for cut in 0..short.len() {
        let mut frames = Frames::new();
        frames.push(&short[..cut]);
        frames.push(&short[cut..]);
        assert_eq!(frames.usage(), whole, "{cut}");
    }
}

#[test]
fn a_session_without_answers_used_nothing() {
    assert_eq!(read(&frame(0x81, br#"{"type":"session.created"}"#, None), 9).usage(), Usage::default());
    assert_eq!(read(b"", 1).usage(), Usage::default());
}

#[test]
fn what_is_too_large_is_passed_over_and_counted() {
    let text = " ".repeat(MAX_EVENT);
    let large = DONE.replacen("\"output\":[]", &format!("\"output\":[{text}]"), 1);
    let bytes = [frame(0x81, large.as_bytes(), None), frame(0x81, DONE.as_bytes(), None)].concat();
    let frames = read(&bytes, 60_000);
    assert_eq!((frames.usage().estimated, frames.usage().total), (true, 253));
    assert!(frames.event.capacity() < MAX_EVENT);
}

proptest! {
    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..300), piece in 1_usize..20) {
        let whole = read(&bytes, bytes.len());
        prop_assert_eq!(read(&bytes, piece).usage(), whole.usage());
    }
}
