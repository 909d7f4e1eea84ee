//! What a provider is sent for each request of each client.

use attache_llm::dialect::Route;
use attache_llm::dialect::attempt::{Back, Facts, Outward, outward};
use attache_llm::error::ApiError;
use attache_llm::path::Endpoint;
use attache_llm::provider::request_path;
use attache_llm::scan::{BodyScan, ScanLimits};
use serde_json::{Value, json};

use crate::fixture;
use crate::pairs::{CLIENTS, UPSTREAMS, Upstream, client_name};

pub(crate) const CASES: [&str; 9] = [
    "plain",
    "tools",
    "parallel-tools",
    "tool-results",
    "json-schema",
    "vision",
    "document",
    "reasoning",
    "prompt-cache",
];

/// The request of a case in a client's words; `None` when its dialect has none for it.
pub(crate) fn body(client: Endpoint, case: &str, stream: bool) -> Option<Vec<u8>> {
    let body = fixture(&format!("requests/{}/{case}.json", client_name(client)))?;
    if !stream {
        return Some(body);
    }
    let mut value: Value = serde_json::from_slice(&body).expect("fixtures are JSON");
    value["stream"] = json!(true);
    Some(value.to_string().into_bytes())
}

pub(crate) fn sent(client: Endpoint, upstream: &Upstream, body: &[u8]) -> Result<Outward, ApiError> {
    let mut scan = BodyScan::new(ScanLimits::default());
    scan.feed(body)?;
    let scan = scan.finish()?;
    let facts = Facts {
        endpoint: client,
        client_model: "asked",
        call_id: "0192-call",
        now_s: 1_764_374_400,
        scan: &scan,
    };
    outward(upstream.way(client).0, &facts, &upstream.meta(), body)
}

fn shown(client: Endpoint, upstream: &Upstream, case: &str, stream: bool) -> Option<Value> {
    let body = body(client, case, stream)?;
    let sent = match sent(client, upstream, &body) {
        Ok(sent) => sent,
        Err(error) => {
            return Some(json!({"refused": error.status, "message": error.message, "param": error.param}));
        }
    };
    let json: Value = serde_json::from_slice(&sent.body).expect("what is sent is JSON");
    let path = request_path(&upstream.meta(), client, stream);
    Some(json!({"path": path, "headers": sent.headers, "body": json}))
}

#[test]
fn providers_are_sent_what_was_asked() {
    for client in CLIENTS {
        for upstream in UPSTREAMS {
            let mut all = serde_json::Map::new();
            for case in CASES {
                if let Some(shown) = shown(client, &upstream, case, false) {
                    all.insert(case.to_owned(), shown);
                }
            }
            let stream = shown(client, &upstream, "plain", true).expect("every client has a plain request");
            all.insert("plain, stream".to_owned(), stream);
            insta::assert_json_snapshot!(format!("request-{}-{}", client_name(client), upstream.name), all);
        }
    }
}

#[test]
fn what_is_not_translated_differs_in_the_model_alone() {
    for client in CLIENTS {
        for upstream in UPSTREAMS.iter().filter(|upstream| upstream.way(client).0 == Route::Same) {
            for case in CASES {
                let Some(body) = body(client, case, false) else { continue };
                let sent = sent(client, upstream, &body).expect("nothing is refused");
                let text = String::from_utf8(body).expect("fixtures are UTF-8");
                let wanted = text.replacen("\"asked\"", &format!("\"{}\"", upstream.model), 1);
                let own = serde_json::from_str::<Value>(&wanted).expect("JSON");
                assert_eq!(
                    serde_json::from_slice::<Value>(&sent.body).expect("JSON"),
                    own,
                    "{client:?} {case}"
                );
                assert!(matches!(sent.back, Back::Same));
            }
        }
    }
}
