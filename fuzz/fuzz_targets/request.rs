//! Every client's request into every provider's dialect: no panic, and what goes out is JSON.
#![no_main]

use attache_llm::contract::DeploymentMeta;
use attache_llm::dialect::attempt::{Facts, outward};
use attache_llm::dialect::route;
use attache_llm::path::Endpoint;
use attache_llm::provider::Provider;
use attache_llm::scan::{BodyScan, ScanLimits};
use libfuzzer_sys::fuzz_target;

const CLIENTS: [Endpoint; 4] =
    [Endpoint::ChatCompletions, Endpoint::Completions, Endpoint::Responses, Endpoint::Messages];
const PROVIDERS: [Provider; 6] = [
    Provider::Openai,
    Provider::Anthropic,
    Provider::VertexAnthropic,
    Provider::Bedrock,
    Provider::Gemini,
    Provider::Vertex,
];

fuzz_target!(|data: &[u8]| {
    let Some((&[client, flags], body)) = data.split_first_chunk::<2>() else { return };
    let endpoint = CLIENTS[usize::from(client) % CLIENTS.len()];
    let mut scan = BodyScan::new(ScanLimits::default());
    if scan.feed(body).is_err() {
        return;
    }
    let Ok(scan) = scan.finish() else { return };
    for provider in PROVIDERS {
        let mut meta = DeploymentMeta { provider, model: "claude-gpt-gemini-3".into(), ..DeploymentMeta::default() };
        meta.params.drop = flags & 1 != 0;
        meta.params.modify = flags & 2 != 0;
        meta.caps.max_output = (flags & 4 != 0).then_some(4_096);
        for (bit, name) in ["reasoning", "adaptive_thinking", "native_structured_output"].into_iter().enumerate() {
            meta.caps.supports.insert(name.to_owned(), flags & (8 << bit) != 0);
        }
        let facts = Facts { endpoint, client_model: "m", call_id: "c", now_s: 1, scan: &scan };
        let Some(way) = route(&meta, endpoint) else { continue };
        if let Ok(sent) = outward(way, &facts, &meta, body) {
            assert!(serde_json::from_slice::<serde::de::IgnoredAny>(&sent.body).is_ok(), "no JSON is sent");
        }
    }
});
