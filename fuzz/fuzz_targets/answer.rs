//! Every provider's answer into every client's dialect: no panic, and the same however a stream is cut.
#![no_main]

use attache_llm::dialect::translate::{Caller, Reading};
use attache_llm::dialect::{Dialect, Translator};
use libfuzzer_sys::fuzz_target;

const UPSTREAMS: [Dialect; 4] = [Dialect::Chat, Dialect::Messages, Dialect::Converse, Dialect::Gemini];
const CLIENTS: [Dialect; 4] = [Dialect::Chat, Dialect::Completions, Dialect::Responses, Dialect::Messages];

fuzz_target!(|data: &[u8]| {
    let Some((&[pair, cut, flags], body)) = data.split_first_chunk::<3>() else { return };
    let upstream = UPSTREAMS[usize::from(pair) % 4];
    let reading = Reading { json_tool: (flags & 1 != 0).then(|| "json_tool_call".into()), ..Reading::default() };
    let translator = || {
        let caller = Caller {
            dialect: CLIENTS[usize::from(pair >> 2) % 4],
            model: "asked".into(),
            stream: true,
            want_usage: flags & 2 != 0,
            call_id: "call".into(),
            now_s: 1,
            echo: serde_json::Map::new(),
        };
        Translator::new(upstream, reading.clone(), caller, 9).expect("both are spoken")
    };
    if let Ok(document) = translator().document(body) {
        assert!(serde_json::from_slice::<serde::de::IgnoredAny>(&document).is_ok(), "no JSON for the client");
    }
    let framed = if upstream == Dialect::Converse { frames(body) } else { body.to_vec() };
    let run = |cut: usize| {
        let mut translator = translator();
        let (first, rest) = framed.split_at(cut.min(framed.len()));
        let mut out = Vec::new();
        translator.push(first, false, &mut out);
        translator.push(rest, true, &mut out);
        (out, translator.usage(), translator.error().cloned())
    };
    assert_eq!(run(0), run(usize::from(cut)));
});

/// Lines `name payload` as AWS messages.
fn frames(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for line in body.split(|byte| *byte == b'\n') {
        let at = line.iter().position(|byte| *byte == b' ').unwrap_or(line.len());
        let (name, payload) = line.split_at(at.min(255));
        let mut headers = vec![11];
        headers.extend_from_slice(b":event-type\x07");
        headers.extend_from_slice(&u16::try_from(name.len()).unwrap_or(0).to_be_bytes());
        headers.extend_from_slice(name);
        let start = out.len();
        let length = u32::try_from(16 + headers.len() + payload.len()).unwrap_or(0);
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&u32::try_from(headers.len()).unwrap_or(0).to_be_bytes());
        let crc = crc32fast::hash(&out[start..]);
        out.extend_from_slice(&crc.to_be_bytes());
        out.extend_from_slice(&headers);
        out.extend_from_slice(payload);
        let crc = crc32fast::hash(&out[start..]);
        out.extend_from_slice(&crc.to_be_bytes());
    }
    out
}
