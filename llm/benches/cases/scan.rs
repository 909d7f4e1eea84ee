//! The gate's look at a body, the adapter's edits of it, the question to the sidecar.

use std::hint::black_box;

use attache_llm::contract::{Ask, DeploymentMeta, VERSION};
use attache_llm::edit::BodyEdits;
use attache_llm::path::Endpoint;
use attache_llm::scan::{BodyScan, ScanLimits, Scanned};

use super::bodies;
use crate::case::{Case, Size};

/// As the filter reads bodies.
const SLICE: usize = 64 * 1024;

pub(crate) fn scan(body: &[u8]) -> Scanned {
    let mut scan = BodyScan::new(ScanLimits::default());
    for slice in body.chunks(SLICE) {
        scan.feed(slice).expect("a good body");
    }
    scan.finish().expect("a whole body")
}

fn scanning(name: &'static str, body: Vec<u8>, text: std::ops::Range<u64>, media: u64) -> Case {
    let length = body.len();
    Case::new(
        name,
        Size { bytes: length, ..Size::ONE },
        move || scan(black_box(&body)),
        |found| {
            assert_eq!(
                (found.model.as_deref(), found.max_tokens, found.len),
                (Some("gpt-4o"), Some(512), length)
            );
            assert!(text.contains(&found.text_bytes), "{name}: {} bytes of text", found.text_bytes);
            assert_eq!(found.media, media);
        },
    )
}

/// From the scan to the bytes that go out: another model's name, and usage asked for.
fn editing(name: &'static str, body: Vec<u8>) -> Case {
    let meta = DeploymentMeta {
        model: "gpt-4o-2024-08-06".into(),
        stream_options: true,
        ..DeploymentMeta::default()
    };
    let (scanned, size) = (scan(&body), Size { bytes: body.len(), ..Size::ONE });
    let step = move || {
        let edits = BodyEdits::plan(black_box(&scanned), &meta, &meta.model, Endpoint::ChatCompletions);
        let mut out = Vec::with_capacity(edits.new_len());
        for (number, slice) in black_box(&body).chunks(SLICE).enumerate() {
            edits.apply(number * SLICE, slice, &mut out);
        }
        out
    };
    Case::new(name, size, step, |out| {
        let sent: serde_json::Value = serde_json::from_slice(out).expect("what is sent is JSON");
        assert_eq!(sent["model"], "gpt-4o-2024-08-06");
        assert_eq!(sent["stream_options"]["include_usage"], true);
    })
}

/// The value of `x-attache-ask`.
fn asking() -> Case {
    let ask = Ask {
        contract: VERSION,
        call_id: "0199b2c4-5d6e-7f80-9a1b-000000000001".into(),
        key: "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9".into(),
        endpoint: Endpoint::ChatCompletions,
        model: "gpt-4o".into(),
        stream: true,
        input_tokens: 250,
        max_tokens: Some(512),
        n: None,
        needs: Vec::new(),
        user: Some("ann".into()),
        wishes: Default::default(),
        replan: None,
        explain: false,
        again: 0,
    };
    let before = ask.clone();
    let step = move || serde_json::to_string(black_box(&ask)).expect("a question has JSON");
    Case::new("ask/write", Size::ONE, step, |text| {
        assert_eq!(serde_json::from_str::<Ask>(text).expect("a question"), before);
    })
}

pub(crate) fn cases() -> Vec<Case> {
    vec![
        scanning("scan/1 KB", bodies::chat(1_000, false), 500..1_000, 0),
        scanning("scan/20 KB", bodies::chat(20_000, false), 15_000..20_000, 0),
        scanning("scan/200 KB", bodies::chat(200_000, false), 150_000..200_000, 0),
        scanning("scan/2 MB picture", bodies::picture(2_000_000), 0..100, 1),
        editing("edit/1 KB", bodies::chat(1_000, true)),
        editing("edit/200 KB", bodies::chat(200_000, true)),
        asking(),
    ]
}
