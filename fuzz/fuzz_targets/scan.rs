//! The scan of a body must not panic, must say the same however the body is cut, and its edits must leave JSON.
#![no_main]

use attache_llm::contract::DeploymentMeta;
use attache_llm::edit::BodyEdits;
use attache_llm::path::Endpoint;
use attache_llm::scan::{BodyScan, ScanLimits};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&cut, body)) = data.split_first() else { return };
    let cut = usize::from(cut).min(body.len());
    let scan = |pieces: [&[u8]; 2]| {
        let mut scan = BodyScan::new(ScanLimits::default());
        for piece in pieces {
            scan.feed(piece)?;
        }
        scan.finish()
    };
    let whole = scan([body, b""]);
    let (first, rest) = body.split_at(cut);
    let parts = scan([first, rest]);
    assert_eq!(whole.is_ok(), parts.is_ok());
    let (Ok(scanned), Ok(parts)) = (whole, parts) else { return };
    assert_eq!(scanned, parts);
    let meta = DeploymentMeta { model: "gpt-5".into(), responses: true, stream_options: true, ..DeploymentMeta::default() };
    for endpoint in [Endpoint::ChatCompletions, Endpoint::Messages] {
        let edits = BodyEdits::plan(&scanned, &meta, "gpt-5", endpoint);
        let mut out = Vec::new();
        edits.apply(0, body, &mut out);
        assert_eq!(out.len(), edits.new_len());
        assert!(serde_json::from_slice::<serde::de::IgnoredAny>(&out).is_ok(), "no JSON after the edits");
    }
});
