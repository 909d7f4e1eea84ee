//! The rewriter of streams must not panic, and must say the same however the stream is cut.
#![no_main]

use attache_llm::response::{RewriteOptions, StreamRewriter};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&cut, body)) = data.split_first() else { return };
    let _ = StreamRewriter::first_event(body, true);
    let run = |cut: usize| {
        let mut rewriter = StreamRewriter::new(RewriteOptions {
            client_model: "asked".into(),
            injected_usage: cut % 2 == 0,
            done_mark: true,
            ..RewriteOptions::default()
        });
        let (first, rest) = body.split_at(cut.min(body.len()));
        let mut out = Vec::new();
        rewriter.push(first, false, &mut out);
        rewriter.push(rest, true, &mut out);
        (out, rewriter.usage())
    };
    let cut = usize::from(cut) & !1;
    assert_eq!(run(0), run(cut));
});
