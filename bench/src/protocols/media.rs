//! OpenAI's images, audio and moderations, and rerank as Cohere and Jina have it.

use base64::Engine as _;
use bytes::Bytes;
use serde_json::{Value, json};

use super::{Answer, Checked, Flow, Planned, Refused, Wire, named_sse, sse};
use crate::said::{CREATED, Usage, content_tokens, digest, text_tokens};
use crate::script::Script;

/// A picture of one pixel.
const PNG: &[u8] = &[
    0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a, 0, 0, 0, 0x0d, b'I', b'H', b'D', b'R', 0, 0, 0, 1, 0, 0,
    0, 1, 8, 6, 0, 0, 0, 0x1f, 0x15, 0xc4, 0x89, 0, 0, 0, 0x0d, b'I', b'D', b'A', b'T', 0x78, 0x9c, 0x63,
    0xf8, 0xcf, 0xc0, 0xf0, 0x1f, 0, 5, 0, 1, 0xff, 0x89, 0x99, 0x3d, 0x1d, 0, 0, 0, 0, b'I', b'E', b'N',
    b'D', 0xae, 0x42, 0x60, 0x82,
];

/// What the audio model heard.
const TRANSCRIPT: &str = "The envoy carries letters.";

/// `images/generations`.
pub(super) fn images(wire: &Wire<'_>, model: &str, script: &Script) -> Checked<Planned> {
    let body = wire.json;
    let Some(prompt) = body["prompt"].as_str().filter(|prompt| !prompt.is_empty()) else {
        return Err(Refused::field("prompt", "Missing required parameter."));
    };
    let count = body["n"].as_u64().unwrap_or(1);
    if !(1..=10).contains(&count) {
        return Err(Refused::field("n", "must be from 1 to 10"));
    }
    let url = body["response_format"] == "url";
    Ok(pictures(model, text_tokens(prompt), 0, count, url, script))
}

fn pictures(model: &str, text: u64, image: u64, count: u64, url: bool, script: &Script) -> Planned {
    let picture = if url {
        json!({"url": "https://example.com/letter.png"})
    } else {
        json!({"b64_json": base64::engine::general_purpose::STANDARD.encode(PNG)})
    };
    let (prompt, completion) = script.usage.unwrap_or((text + image, 100 * count));
    let usage = json!({"input_tokens": prompt, "output_tokens": completion, "total_tokens": prompt + completion,
        "input_tokens_details": {"text_tokens": prompt.saturating_sub(image), "image_tokens": image.min(prompt)}});
    let mut answer = json!({"created": CREATED, "data": vec![picture; usize::try_from(count).unwrap_or(1)]});
    // Models of the DALL·E kind are paid by the picture and have no usage.
    if !script.no_usage && !model.starts_with("dall-e") {
        answer["usage"] = usage.clone();
    }
    Planned::json(&answer).costs(Usage { prompt, completion, ..Usage::default() }, usage)
}

/// `audio/speech`: bytes, or events with base64.
pub(super) fn speech(wire: &Wire<'_>, model: &str, script: &Script) -> Checked<Planned> {
    let body = wire.json;
    for field in ["input", "voice"] {
        if body[field].as_str().is_none_or(str::is_empty) {
            return Err(Refused::field(field, "Missing required parameter."));
        }
    }
    let text = body["input"].as_str().unwrap_or_default();
    let format = body["response_format"].as_str().unwrap_or("mp3");
    let content_type = match format {
        "mp3" => "audio/mpeg",
        "opus" => "audio/ogg",
        "aac" => "audio/aac",
        "flac" => "audio/flac",
        "wav" => "audio/wav",
        "pcm" => "audio/pcm",
        _ => return Err(Refused::field("response_format", format!("Invalid value: {format:?}"))),
    };
    // Bytes that are no text, so that whoever treats them as one breaks them.
    let sound = |text: &str| -> Vec<u8> {
        [0xff, 0xf3, 0x00].into_iter().chain(text.bytes().flat_map(|byte| [byte, !byte])).collect()
    };
    let (prompt, completion) = script.usage.unwrap_or((text_tokens(text), 2 * text_tokens(text)));
    let usage =
        json!({"input_tokens": prompt, "output_tokens": completion, "total_tokens": prompt + completion});
    let cost = Usage { prompt, completion, ..Usage::default() };
    if body["stream_format"] == "sse" && !model.starts_with("tts-1") {
        let encode = |bytes: Vec<u8>| base64::engine::general_purpose::STANDARD.encode(bytes);
        let mut frames: Vec<_> = text
            .split_inclusive(' ')
            .map(|word| named_sse(&json!({"type": "speech.audio.delta", "audio": encode(sound(word))})))
            .collect();
        frames.push(named_sse(&json!({"type": "speech.audio.done", "usage": usage})));
        let error = sse(&super::openai::error(500, None, None, false));
        let flow = Flow { content_type: "text/event-stream; charset=utf-8", frames, error, end: None };
        return Ok(Planned::stream(flow).costs(cost, usage));
    }
    let answer = Answer::Whole { content_type, body: Bytes::from(sound(text)) };
    Ok(Planned { answer, usage: None, prompt: 0, completion: 0 }.costs(cost, usage))
}

/// Endpoints whose body is a form.
pub(super) fn form(wire: &Wire<'_>, endpoint: &str, model: &str, script: &Script) -> Checked<Planned> {
    let Some(parts) = wire.parts else {
        return Err(Refused::new(400, "the body must be multipart/form-data"));
    };
    if model.is_empty() {
        return Err(Refused::field("model", "you must provide a model parameter"));
    }
    let names: &[&str] = if endpoint == "images/edits" { &["image", "image[]"] } else { &["file"] };
    let files: Vec<_> = parts.iter().filter(|part| names.contains(&part.name.as_str())).collect();
    if files.is_empty() || files.iter().any(|file| file.data.is_empty() || file.file_name.is_none()) {
        return Err(Refused::field(names[0], "Missing required parameter: a file that is not empty"));
    }
    if endpoint == "images/edits" {
        let Some(prompt) = wire.field("prompt") else {
            return Err(Refused::field("prompt", "Missing required parameter."));
        };
        let count = wire.field("n").and_then(|n| n.parse().ok()).unwrap_or(1);
        let url = wire.field("response_format") == Some("url");
        return Ok(pictures(model, text_tokens(prompt), 100 * files.len() as u64, count, url, script));
    }
    transcript(wire, endpoint, model, script)
}

fn transcript(wire: &Wire<'_>, endpoint: &str, model: &str, script: &Script) -> Checked<Planned> {
    let (prompt, completion) = script.usage.unwrap_or((12, text_tokens(TRANSCRIPT)));
    let by_time = model.starts_with("whisper");
    let usage = if by_time {
        json!({"type": "duration", "seconds": 3})
    } else {
        json!({"type": "tokens", "input_tokens": prompt, "output_tokens": completion,
            "total_tokens": prompt + completion,
            "input_token_details": {"text_tokens": 0, "audio_tokens": prompt}})
    };
    let cost = if by_time { Usage::default() } else { Usage { prompt, completion, ..Usage::default() } };
    let text = script.text.as_deref().unwrap_or(TRANSCRIPT);
    if wire.field("stream") == Some("true") {
        let mut frames: Vec<_> = text
            .split_inclusive(' ')
            .map(|word| named_sse(&json!({"type": "transcript.text.delta", "delta": word})))
            .collect();
        frames.push(named_sse(&json!({"type": "transcript.text.done", "text": text, "usage": usage})));
        let error = sse(&super::openai::error(500, None, None, false));
        let end = Some(Bytes::from_static(b"data: [DONE]\n\n"));
        let flow = Flow { content_type: "text/event-stream; charset=utf-8", frames, error, end };
        return Ok(Planned::stream(flow).costs(cost, usage));
    }
    let plain = |body: String| Answer::Whole { content_type: "text/plain; charset=utf-8", body: body.into() };
    let told = |mut body: Value| {
        if !script.no_usage {
            body["usage"] = usage.clone();
        }
        Planned::json(&body).answer
    };
    let answer = match wire.field("response_format").unwrap_or("json") {
        "json" => told(json!({"text": text})),
        "verbose_json" => {
            let task = if endpoint == "audio/translations" { "translate" } else { "transcribe" };
            told(json!({"task": task, "language": "english", "duration": 2.5, "text": text, "segments": []}))
        }
        "text" => plain(format!("{text}\n")),
        "srt" => plain(format!("1\n00:00:00,000 --> 00:00:02,500\n{text}\n\n")),
        "vtt" => plain(format!("WEBVTT\n\n00:00:00.000 --> 00:00:02.500\n{text}\n\n")),
        other => return Err(Refused::field("response_format", format!("Invalid value: {other:?}"))),
    };
    Ok(Planned { answer, usage: None, prompt: 0, completion: 0 }.costs(cost, usage))
}

/// `moderations`.
pub(super) fn moderations(wire: &Wire<'_>, model: &str) -> Checked<Planned> {
    let input = &wire.json["input"];
    let count = match input {
        Value::String(_) => 1,
        Value::Array(inputs) if inputs.iter().all(Value::is_object) && !inputs.is_empty() => 1,
        Value::Array(inputs) if !inputs.is_empty() => inputs.len(),
        _ => return Err(Refused::field("input", "Missing required parameter.")),
    };
    let flagged = input.to_string().contains("violence");
    let score = if flagged { 0.9 } else { 0.01 };
    let result = json!({"flagged": flagged, "categories": {"violence": flagged, "hate": false},
        "category_scores": {"violence": score, "hate": 0.01},
        "category_applied_input_types": {"violence": ["text"], "hate": ["text"]}});
    let id = format!("modr-{}", digest(&input.to_string()));
    let model = if model.is_empty() { "omni-moderation-latest" } else { model };
    Ok(Planned::json(&json!({"id": id, "model": model, "results": vec![result; count]})))
}

/// `rerank`: Cohere's shape with `meta.billed_units`; Jina's `usage` beside it.
pub(super) fn rerank(wire: &Wire<'_>, model: &str, script: &Script) -> Checked<Planned> {
    let body = wire.json;
    if body["query"].as_str().is_none_or(str::is_empty) {
        return Err(Refused::field("query", "query is required"));
    }
    let Some(documents) = body["documents"].as_array().filter(|documents| !documents.is_empty()) else {
        return Err(Refused::field("documents", "documents must be a list that is not empty"));
    };
    let top = body["top_n"].as_u64().and_then(|n| usize::try_from(n).ok()).unwrap_or(documents.len());
    let results: Vec<_> = (0..documents.len())
        .rev()
        .take(top)
        .enumerate()
        .map(|(rank, index)| {
            let score = 1.0 / f64::from(u32::try_from(rank + 1).unwrap_or(u32::MAX));
            let mut result = json!({"index": index, "relevance_score": score});
            if body["return_documents"] == true {
                let document = &documents[index];
                result["document"] =
                    if document.is_string() { json!({"text": document}) } else { document.clone() };
            }
            result
        })
        .collect();
    let tokens = content_tokens(&body["query"]) + content_tokens(&body["documents"]);
    let prompt = script.usage.map_or(tokens, |(prompt, _)| prompt);
    let usage = json!({"total_tokens": prompt});
    let mut answer = json!({"id": format!("rr-{}", digest(&body["query"].to_string())), "model": model,
        "results": results});
    if !script.no_usage {
        if wire.rest.starts_with("v2/") {
            answer["meta"] = json!({"api_version": {"version": "2"}, "billed_units": {"search_units": 1}});
        } else {
            answer["meta"] = json!({"billed_units": {"search_units": 1}, "tokens": {"input_tokens": prompt}});
            answer["usage"] = usage.clone();
        }
    }
    Ok(Planned::json(&answer).costs(Usage { prompt, ..Usage::default() }, usage))
}
