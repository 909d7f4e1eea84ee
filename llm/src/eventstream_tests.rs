use super::*;

/// A header with a text.
pub(crate) fn text(name: &str, value: &str) -> Vec<u8> {
    let mut out = vec![u8::try_from(name.len()).unwrap()];
    out.extend(name.as_bytes());
    out.push(7);
    out.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
    out.extend(value.as_bytes());
    out
}

pub(crate) fn encode(headers: &[u8], payload: &[u8]) -> Vec<u8> {
    let total = u32::try_from(headers.len() + payload.len() + 16).unwrap();
    let mut out = total.to_be_bytes().to_vec();
    out.extend(u32::try_from(headers.len()).unwrap().to_be_bytes());
    out.extend(crc32fast::hash(&out).to_be_bytes());
    out.extend(headers);
    out.extend(payload);
    out.extend(crc32fast::hash(&out).to_be_bytes());
    out
}

/// An event as Bedrock sends it.
pub(crate) fn event(name: &str, payload: &str) -> Vec<u8> {
    let headers = [
        text(":event-type", name),
        text(":content-type", "application/json"),
        text(":message-type", "event"),
    ];
    encode(&headers.concat(), payload.as_bytes())
}

pub(crate) fn exception(name: &str, payload: &str) -> Vec<u8> {
    let headers = [text(":exception-type", name), text(":message-type", "exception")];
    encode(&headers.concat(), payload.as_bytes())
}

type Seen = (String, bool, String);

fn note(seen: &mut Vec<Result<Seen, Malformed>>, message: Result<Message<'_>, Malformed>) {
    seen.push(message.map(|message| {
        (message.name.to_owned(), message.exception, String::from_utf8(message.data.into_owned()).unwrap())
    }));
}

fn read<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<Result<Seen, Malformed>> {
    let mut decoder = Decoder::new();
    let mut seen = Vec::new();
    for chunk in chunks {
        decoder.push(chunk, &mut |message| note(&mut seen, message));
    }
    decoder.finish(&mut |message| note(&mut seen, message));
    assert_eq!(decoder.held(), 0);
    seen
}

fn ok(name: &str, exception: bool, data: &str) -> Result<Seen, Malformed> {
    Ok((name.to_owned(), exception, data.to_owned()))
}

#[test]
fn the_example_of_the_documentation() {
    // Smithy's test case "all headers"' smallest kin: an empty message.
    let bytes = [0, 0, 0, 0x10, 0, 0, 0, 0, 0x05, 0xc2, 0x48, 0xeb, 0x7d, 0x98, 0xc8, 0xff];
    assert_eq!(read([&bytes[..]]), [ok("", false, "")]);
    assert_eq!(encode(&[], &[]), bytes);
}

#[test]
fn every_split_gives_the_same() {
    let stream = [
        event("messageStart", "{\"role\":\"assistant\"}"),
        event("contentBlockDelta", "{\"delta\":{\"text\":\"h\u{e9}\"}}"),
        event("messageStop", ""),
        exception("throttlingException", "{\"message\":\"slow down\"}"),
    ]
    .concat();
    let expected = [
        ok("messageStart", false, "{\"role\":\"assistant\"}"),
        ok("contentBlockDelta", false, "{\"delta\":{\"text\":\"h\u{e9}\"}}"),
        ok("messageStop", false, ""),
        ok("throttlingException", true, "{\"message\":\"slow down\"}"),
    ];
    assert_eq!(read([&stream[..]]), expected);
    assert_eq!(read(stream.chunks(1)), expected);
    for at in 0..stream.len() {
        assert_eq!(read([&stream[..at], &stream[at..]]), expected, "{at}");
        let end = (at + 7).min(stream.len());
        assert_eq!(read([&stream[..at], &stream[at..end], &stream[end..]]), expected, "{at}");
    }
}

#[test]
fn headers_of_every_type_are_passed_over() {
    let mut headers = Vec::new();
    for (kind, length) in [(0, 0), (1, 0), (2, 1), (3, 2), (4, 4), (5, 8), (8, 8), (9, 16)] {
        headers.extend([1, b'x', kind]);
        headers.extend(vec![7; length]);
    }
    headers.extend([1, b'b', 6, 0, 3, 1, 2, 3]);
    headers.extend(text(":event-type", "chunk"));
    assert_eq!(read([&encode(&headers, b"{}")[..]]), [ok("chunk", false, "{}")]);
}

#[test]
fn errors_without_payload_say_their_message() {
    let headers = [
        text(":message-type", "error"),
        text(":error-code", "InternalError"),
        text(":error-message", "it \"broke\""),
    ];
    let seen = read([&encode(&headers.concat(), b"")[..]]);
    assert_eq!(seen, [ok("InternalError", true, "{\"message\":\"it \\\"broke\\\"\"}")]);
}

#[test]
fn malformed_streams_end_at_the_fault() {
    let good = event("a", "{}");
    let mut flipped = good.clone();
    flipped[30] ^= 1;
    let mut prelude = good.clone();
    prelude[9] ^= 1;
    let mut long = good.clone();
    long[0] = 0x7f;
    let short = [0, 0, 0, 15, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let wrong_headers = encode(&[200, b'x'], b"{}");
    let unknown_type = encode(&[1, b'x', 10], b"{}");
    for (bytes, fault) in [
        (flipped, Malformed::Checksum),
        (prelude, Malformed::Checksum),
        (long, Malformed::Length),
        (short.to_vec(), Malformed::Length),
        (wrong_headers, Malformed::Headers),
        (unknown_type, Malformed::Headers),
        (b"data: {\"a\":1}\n\n".to_vec(), Malformed::Length),
        (good[..good.len() - 1].to_vec(), Malformed::Truncated),
        (good[..5].to_vec(), Malformed::Truncated),
    ] {
        let stream = [good.clone(), bytes].concat();
        let expected = [ok("a", false, "{}"), Err(fault)];
        assert_eq!(read([&stream[..]]), expected);
        assert_eq!(read(stream.chunks(1)), expected);
    }
}

#[test]
fn what_is_held_is_bounded() {
    let mut decoder = Decoder::new();
    let mut bytes = u32::try_from(MAX_MESSAGE_BYTES + 1).unwrap().to_be_bytes().to_vec();
    bytes.extend(0_u32.to_be_bytes());
    bytes.extend(crc32fast::hash(&bytes).to_be_bytes());
    let mut seen = Vec::new();
    decoder.push(&bytes, &mut |message| note(&mut seen, message));
    assert_eq!(seen, [Err(Malformed::Length)]);
    decoder.push(&[0; 4096], &mut |_| panic!("nothing more"));
    assert_eq!(decoder.held(), 0);
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_taken(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200), size in 1_usize..20) {
        let _ = read(bytes.chunks(size));
    }
}
