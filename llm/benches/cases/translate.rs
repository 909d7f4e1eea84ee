//! Chat completions to Anthropic, Bedrock and Gemini, and their answers back.

use std::hint::black_box;

use attache_llm::contract::{DeploymentMeta, VERSION};
use attache_llm::dialect::attempt::{Back, Facts, Outward, Translation, outward};
use attache_llm::dialect::{Route, Translator, route};
use attache_llm::eventstream::Decoder;
use attache_llm::path::Endpoint;
use attache_llm::provider::Provider;
use attache_llm::scan::Scanned;
use serde_json::{Value, json};

use super::bodies::{chat, prose};
use super::scan::scan;
use super::stream::{CHUNKS, check_usage, word};
use crate::case::{Case, Size};

/// The names of the cases of one provider.
struct Names {
    request: &'static str,
    whole: &'static str,
    stream: &'static str,
}

/// A provider, and how it answers.
struct Upstream {
    names: Names,
    provider: Provider,
    model: &'static str,
    whole: Value,
    /// As the provider writes it, one write after the other.
    stream: Vec<Vec<u8>>,
}

fn upstreams() -> [Upstream; 3] {
    [
        Upstream {
            names: Names {
                request: "translate request/anthropic, 20 KB",
                whole: "translate answer/anthropic, 2 KB",
                stream: "translate stream/anthropic",
            },
            provider: Provider::Anthropic,
            model: "claude-sonnet-4-5",
            whole: anthropic_whole(),
            stream: anthropic_stream(),
        },
        Upstream {
            names: Names {
                request: "translate request/bedrock, 20 KB",
                whole: "translate answer/bedrock, 2 KB",
                stream: "translate stream/bedrock",
            },
            provider: Provider::Bedrock,
            model: "anthropic.claude-sonnet-4-5-20250929-v1:0",
            whole: bedrock_whole(),
            stream: bedrock_stream(),
        },
        Upstream {
            names: Names {
                request: "translate request/gemini, 20 KB",
                whole: "translate answer/gemini, 2 KB",
                stream: "translate stream/gemini",
            },
            provider: Provider::Gemini,
            model: "gemini-2.5-flash",
            whole: gemini_whole(),
            stream: gemini_stream(),
        },
    ]
}

fn anthropic_whole() -> Value {
    json!({"id": "msg_013Zva2CMHLNnXjNJJKqJ2EF", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5",
        "content": [{"type": "text", "text": prose(1_500)}], "stop_reason": "end_turn", "stop_sequence": null,
        "usage": {"input_tokens": 122, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 128,
            "output_tokens": 100, "service_tier": "standard"}})
}

fn anthropic_stream() -> Vec<Vec<u8>> {
    let event = |data: Value| {
        format!("event: {}\ndata: {data}\n\n", data["type"].as_str().expect("a type")).into_bytes()
    };
    let mut start = anthropic_whole();
    start["content"] = json!([]);
    start["stop_reason"] = Value::Null;
    start["usage"]["output_tokens"] = json!(1);
    let delta = |n| json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word(n)}});
    let mut all = vec![json!({"type": "message_start", "message": start})];
    all.push(
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
    );
    all.push(json!({"type": "ping"}));
    all.extend((0..CHUNKS).map(delta));
    all.push(json!({"type": "content_block_stop", "index": 0}));
    all.push(json!({"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": null},
        "usage": {"output_tokens": 100}}));
    all.push(json!({"type": "message_stop"}));
    all.into_iter().map(event).collect()
}

fn bedrock_usage() -> Value {
    json!({"inputTokens": 122, "outputTokens": 100, "totalTokens": 350, "cacheReadInputTokens": 128,
        "cacheWriteInputTokens": 0})
}

fn bedrock_whole() -> Value {
    json!({"output": {"message": {"role": "assistant", "content": [{"text": prose(1_500)}]}},
        "stopReason": "end_turn", "metrics": {"latencyMs": 812}, "usage": bedrock_usage()})
}

fn bedrock_stream() -> Vec<Vec<u8>> {
    // Bedrock pads its payloads, so that their length tells nothing.
    let padding = "abcdefghijklmnopqrstuvwxyz";
    let delta = |n: usize| {
        let p = &padding[..n % padding.len()];
        aws("contentBlockDelta", &json!({"delta": {"text": word(n)}, "contentBlockIndex": 0, "p": p}))
    };
    let mut all = vec![aws("messageStart", &json!({"role": "assistant", "p": padding}))];
    all.extend((0..CHUNKS).map(delta));
    all.push(aws("contentBlockStop", &json!({"contentBlockIndex": 0, "p": padding})));
    all.push(aws("messageStop", &json!({"stopReason": "end_turn", "p": padding})));
    all.push(aws(
        "metadata",
        &json!({"usage": bedrock_usage(), "metrics": {"latencyMs": 812}, "p": padding}),
    ));
    all
}

/// One message of an AWS event stream.
fn aws(event: &str, data: &Value) -> Vec<u8> {
    let mut headers = Vec::new();
    for (name, value) in
        [(":event-type", event), (":content-type", "application/json"), (":message-type", "event")]
    {
        headers.push(u8::try_from(name.len()).expect("short"));
        headers.extend_from_slice(name.as_bytes());
        headers.push(7);
        headers.extend_from_slice(&u16::try_from(value.len()).expect("short").to_be_bytes());
        headers.extend_from_slice(value.as_bytes());
    }
    let payload = data.to_string();
    let length = |bytes: usize| u32::try_from(bytes).expect("short").to_be_bytes();
    let mut out = length(16 + headers.len() + payload.len()).to_vec();
    out.extend(length(headers.len()));
    out.extend(crc32fast::hash(&out).to_be_bytes());
    out.extend(headers);
    out.extend(payload.as_bytes());
    out.extend(crc32fast::hash(&out).to_be_bytes());
    out
}

fn gemini_answer(text: &str, end: bool, written: usize) -> Value {
    let mut candidate = json!({"content": {"parts": [{"text": text}], "role": "model"}, "index": 0});
    if end {
        candidate["finishReason"] = json!("STOP");
    }
    json!({"candidates": [candidate], "modelVersion": "gemini-2.5-flash", "responseId": "o9zSaOa2HtfWz7IP",
        "usageMetadata": {"promptTokenCount": 250, "candidatesTokenCount": written, "totalTokenCount": 250 + written,
            "cachedContentTokenCount": 128, "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 250}]}})
}

fn gemini_whole() -> Value {
    gemini_answer(&prose(1_500), true, 100)
}

fn gemini_stream() -> Vec<Vec<u8>> {
    let event =
        |n: usize| format!("data: {}\r\n\r\n", gemini_answer(word(n - 1), n == CHUNKS, n)).into_bytes();
    (1..=CHUNKS).map(event).collect()
}

impl Upstream {
    fn meta(&self) -> DeploymentMeta {
        let mut meta = DeploymentMeta {
            contract: VERSION,
            provider: self.provider,
            model: self.model.to_owned(),
            ..DeploymentMeta::default()
        };
        meta.caps.max_output = Some(8_192);
        meta
    }

    fn request(&self) -> Case {
        let (body, meta) = (chat(20_000, true), self.meta());
        let (size, scanned) = (Size { bytes: body.len(), ..Size::ONE }, scan(&body));
        let turns =
            serde_json::from_slice::<Value>(&body).expect("JSON")["messages"].as_array().map_or(0, Vec::len);
        let way = self.way();
        let step = move || sent(way, &meta, black_box(&scanned), black_box(&body));
        Case::new(self.names.request, size, step, |sent| {
            let sent: Value = serde_json::from_slice(&sent.body).expect("what is sent is JSON");
            let list = ["messages", "contents"]
                .iter()
                .find_map(|name| sent[*name].as_array())
                .expect("a conversation");
            assert_eq!(list.len(), turns - 1, "all but the system's message");
        })
    }

    fn way(&self) -> Route {
        let way = route(&self.meta(), Endpoint::ChatCompletions).expect("a way there");
        assert!(matches!(way, Route::Translate(_)), "{:?} is translated", self.provider);
        way
    }

    /// How its answers are to be read.
    fn translation(&self, stream: bool) -> Translation {
        let body = chat(1_000, stream);
        let Back::Translate(translation) = sent(self.way(), &self.meta(), &scan(&body), &body).back else {
            panic!("{:?} is translated", self.provider);
        };
        let mut translation = *translation;
        translation.caller.want_usage = true;
        translation
    }

    fn whole(&self) -> Case {
        let (body, translation) = (self.whole.to_string().into_bytes(), self.translation(false));
        let size = Size { bytes: body.len(), ..Size::ONE };
        let step = move || {
            let mut translator = translator(&translation);
            let out = translator.document(black_box(&body)).expect("a good answer");
            (translator.usage(), out)
        };
        Case::new(self.names.whole, size, step, |(usage, out)| {
            check_usage(*usage);
            let out: Value = serde_json::from_slice(out).expect("JSON");
            assert_eq!(out["choices"][0]["message"]["content"], prose(1_500));
        })
    }

    fn stream(&self) -> Case {
        let (chunks, translation) = (self.stream.clone(), self.translation(true));
        let last = chunks.len() - 1;
        let step = move || {
            let (mut translator, mut all) = (translator(&translation), Vec::with_capacity(32 * 1024));
            for (number, chunk) in black_box(&chunks).iter().enumerate() {
                let mut out = Vec::with_capacity(chunk.len());
                translator.push(chunk, number == last, &mut out);
                all.append(&mut out);
            }
            (translator.usage(), all)
        };
        Case::new(self.names.stream, Size { each: CHUNKS, ..Size::ONE }, step, |(usage, out)| {
            check_usage(*usage);
            let text = std::str::from_utf8(out).expect("text");
            let parts: Vec<Value> = text
                .split("\n\n")
                .filter_map(|e| serde_json::from_str(e.strip_prefix("data: ")?).ok())
                .collect();
            let said: String =
                parts.iter().filter_map(|p| p["choices"][0]["delta"]["content"].as_str()).collect();
            assert_eq!(said, (0..CHUNKS).map(word).collect::<String>());
            assert!(text.ends_with("data: [DONE]\n\n"));
        })
    }
}

fn sent(way: Route, meta: &DeploymentMeta, scan: &Scanned, body: &[u8]) -> Outward {
    let facts = Facts {
        endpoint: Endpoint::ChatCompletions,
        client_model: "gpt-4o",
        call_id: "0199b2c4-5d6e-7f80-9a1b-000000000001",
        now_s: 1_764_374_400,
        scan,
    };
    outward(way, &facts, meta, body).expect("what the provider understands")
}

fn translator(translation: &Translation) -> Translator {
    let Translation { upstream, reading, caller } = black_box(translation).clone();
    Translator::new(upstream, reading, caller, 240).expect("both dialects are spoken")
}

/// Messages told apart, their checksums and headers read, nothing else.
fn decoding() -> Case {
    let chunks = bedrock_stream();
    let count = chunks.len();
    let step = move || {
        let (mut decoder, mut messages, mut bytes) = (Decoder::new(), 0, 0);
        for chunk in black_box(&chunks) {
            decoder.push(chunk, &mut |message| {
                bytes += message.expect("a good message").data.len();
                messages += 1;
            });
        }
        (messages, bytes, decoder.held())
    };
    Case::new("event stream/decode", Size { each: CHUNKS, ..Size::ONE }, step, |(messages, bytes, held)| {
        assert_eq!((*messages, *held), (count, 0));
        assert!(*bytes > CHUNKS * 40);
    })
}

pub(crate) fn cases() -> Vec<Case> {
    let upstreams = upstreams();
    let requests = upstreams.iter().map(Upstream::request);
    let answers = upstreams.iter().map(Upstream::whole);
    let streams = upstreams.iter().map(Upstream::stream);
    requests.chain(answers).chain(streams).chain([decoding()]).collect()
}
