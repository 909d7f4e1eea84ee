//! Answers in the client's own dialect: OpenAI's stream of a hundred chunks, and a whole answer.

use std::hint::black_box;

use attache_llm::response::{JsonRewriter, RewriteOptions, StreamRewriter};
use attache_llm::sse::{Event, Piece, Splitter};
use attache_llm::usage::Usage;
use serde_json::{Value, json};

use super::bodies::prose;
use crate::case::{Case, Size};

/// Chunks with text in a stream.
pub(crate) const CHUNKS: usize = 100;
/// Words of the answer, each in a chunk of its own.
const WORDS: [&str; 5] = ["The ", "harbour ", "is \"closed\"", ",\n", "Grüezi "];

/// The text of chunk `number`.
pub(crate) fn word(number: usize) -> &'static str {
    WORDS[number % WORDS.len()]
}

pub(crate) fn usage() -> Value {
    json!({"prompt_tokens": 250, "completion_tokens": 100, "total_tokens": 350,
        "prompt_tokens_details": {"cached_tokens": 128, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0, "accepted_prediction_tokens": 0}})
}

/// What OpenAI sends, one write of the provider after the other: text, its end, its usage, `[DONE]`.
fn openai() -> Vec<Vec<u8>> {
    let chunk = |choices: Value, usage: Value| {
        let chunk = json!({"id": "chatcmpl-Bx0123456789abcdefghijklmnopq", "object": "chat.completion.chunk",
            "created": 1_764_374_400, "model": "gpt-4o-2024-08-06", "service_tier": "default",
            "system_fingerprint": "fp_0123456789", "choices": choices, "usage": usage});
        format!("data: {chunk}\n\n").into_bytes()
    };
    let choice = |delta: Value, finish: Value| json!([{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish}]);
    let mut all = vec![chunk(
        choice(json!({"role": "assistant", "content": "", "refusal": null}), Value::Null),
        Value::Null,
    )];
    all.extend((0..CHUNKS).map(|n| chunk(choice(json!({"content": word(n)}), Value::Null), Value::Null)));
    all.push(chunk(choice(json!({}), json!("stop")), Value::Null));
    all.push(chunk(json!([]), usage()));
    all.push(b"data: [DONE]\n\n".to_vec());
    all
}

fn options() -> RewriteOptions {
    // The client did not ask for usage: the gateway did.
    RewriteOptions {
        client_model: "gpt-4o".into(),
        injected_usage: true,
        input_estimate: 240,
        done_mark: true,
        ..RewriteOptions::default()
    }
}

pub(crate) fn check_usage(usage: Option<Usage>) {
    let usage = usage.expect("usage");
    assert_eq!((usage.prompt, usage.completion, usage.estimated), (250, 100, false));
}

/// Events told apart and their fields read, nothing else.
fn splitting() -> Case {
    let chunks = openai();
    let step = move || {
        let (mut splitter, mut events, mut bytes) = (Splitter::new(), 0, 0);
        for chunk in black_box(&chunks) {
            splitter.push(chunk, &mut |piece| {
                if let Piece::Event(raw) = piece {
                    events += 1;
                    bytes += Event::parse(raw).data.map_or(0, |data| data.len());
                }
            });
        }
        (events, bytes)
    };
    Case::new("sse/split", Size { each: CHUNKS, ..Size::ONE }, step, |(events, bytes)| {
        assert_eq!(*events, CHUNKS + 4);
        assert!(*bytes > CHUNKS * 200);
    })
}

/// All that the adapter does with a stream that is not translated. `pieces` cuts it otherwise than the provider did.
fn rewriting(name: &'static str, pieces: Option<usize>) -> Case {
    let chunks = match pieces {
        None => openai(),
        Some(size) => openai().concat().chunks(size).map(<[u8]>::to_vec).collect(),
    };
    let step = move || {
        let (mut rewriter, mut sent) = (StreamRewriter::new(options()), 0);
        let last = chunks.len() - 1;
        for (number, chunk) in black_box(&chunks).iter().enumerate() {
            let mut out = Vec::with_capacity(chunk.len());
            rewriter.push(chunk, number == last, &mut out);
            sent += black_box(out).len();
        }
        (rewriter.usage(), rewriter.done(), rewriter.events(), sent)
    };
    Case::new(name, Size { each: CHUNKS, ..Size::ONE }, step, |(usage, done, events, sent)| {
        check_usage(*usage);
        assert!(*done && *events == CHUNKS as u64 + 3, "{events} events");
        let (all, last) = (openai().concat().len(), openai()[CHUNKS + 2].len());
        let shorter = (CHUNKS + 2) * "-2024-08-06".len();
        assert_eq!(*sent, all - last - shorter, "its own name of the model, and no usage event");
    })
}

/// A whole answer of 2 KB.
fn whole() -> Case {
    let body = json!({"id": "chatcmpl-Bx0123456789abcdefghijklmnopq", "object": "chat.completion",
        "created": 1_764_374_400, "model": "gpt-4o-2024-08-06", "choices": [{"index": 0, "logprobs": null,
        "finish_reason": "stop", "message": {"role": "assistant", "content": prose(1_500), "refusal": null}}],
        "usage": usage(), "service_tier": "default", "system_fingerprint": "fp_0123456789"});
    let body = body.to_string().into_bytes();
    let size = Size { bytes: body.len(), ..Size::ONE };
    let step = move || {
        let mut rewriter = JsonRewriter::new(options());
        let mut out = Vec::with_capacity(body.len());
        rewriter.push(black_box(&body), true, &mut out);
        (rewriter.usage(), out)
    };
    Case::new("answer/whole", size, step, |(usage, out)| {
        check_usage(*usage);
        assert_eq!(serde_json::from_slice::<Value>(out).expect("JSON")["model"], "gpt-4o");
    })
}

pub(crate) fn cases() -> Vec<Case> {
    vec![
        splitting(),
        rewriting("sse/pass", None),
        // Where TCP cuts, if nobody waits.
        rewriting("sse/pass, cut anywhere", Some(1_000)),
        whole(),
    ]
}
