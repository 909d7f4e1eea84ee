//! `groundingMetadata`, `citationMetadata` and `logprobsResult` of a candidate.

use serde_json::{Value, json};

use crate::dialect::answer::{Citation, Event};

/// Queries that were sent to a search engine, as Google bills them: each of Gemini 3's, one for an answer of its elders.
pub(super) fn searches(grounding: &Value, third: bool) -> u64 {
    let queries = grounding.get("webSearchQueries").and_then(Value::as_array).map_or(0, Vec::len);
    let queries = u64::try_from(queries).unwrap_or(0);
    if third { queries } else { queries.min(1) }
}

/// One citation for each source of each passage; `text` is the answer's text so far, for Google counts its bytes.
pub(super) fn grounding(choice: u32, grounding: &Value, text: &str, out: &mut Vec<Event>) {
    let list = |name: &str| grounding.get(name).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let (chunks, supports) = (list("groundingChunks"), list("groundingSupports"));
    for support in supports {
        let segment = support.get("segment").unwrap_or(&Value::Null);
        let place = |name: &str| segment.get(name).and_then(Value::as_u64);
        let start = place("startIndex").unwrap_or(0);
        let indices = support.get("groundingChunkIndices").and_then(Value::as_array).into_iter().flatten();
        for index in indices.filter_map(Value::as_u64) {
            let chunk = usize::try_from(index).ok().and_then(|index| chunks.get(index));
            let Some(chunk) = chunk else { continue };
            let citation = Citation {
                start: Some(characters(text, start)),
                end: place("endIndex").map(|end| characters(text, end)),
                raw: json!({ "groundingChunk": chunk, "groundingSupport": support }),
                ..source(chunk)
            };
            out.push(Event::Citation { choice, citation });
        }
    }
    if supports.is_empty() {
        for chunk in chunks {
            let citation = Citation { raw: json!({ "groundingChunk": chunk }), ..source(chunk) };
            out.push(Event::Citation { choice, citation });
        }
    }
}

/// Where a passage is from: the web, a map, a store of documents.
fn source(chunk: &Value) -> Citation {
    let inner = ["web", "maps", "retrievedContext", "image"].iter().find_map(|name| chunk.get(name));
    let word = |names: [&str; 2]| {
        let inner = inner?;
        names.iter().find_map(|name| inner.get(name)?.as_str()).map(str::to_owned)
    };
    Citation {
        url: word(["uri", "sourceUri"]),
        title: word(["title", "domain"]),
        cited: word(["text", "snippet"]),
        ..Citation::default()
    }
}

/// Passages that the model repeats.
pub(super) fn recitation(choice: u32, metadata: &Value, text: &str, out: &mut Vec<Event>) {
    let list = ["citations", "citationSources"].iter().find_map(|name| metadata.get(name)?.as_array());
    for raw in list.into_iter().flatten() {
        let word = |name: &str| raw.get(name).and_then(Value::as_str).map(str::to_owned);
        let place = |name: &str| raw.get(name).and_then(Value::as_u64).map(|at| characters(text, at));
        let citation = Citation {
            url: word("uri"),
            title: word("title"),
            cited: None,
            start: place("startIndex"),
            end: place("endIndex"),
            raw: raw.clone(),
        };
        out.push(Event::Citation { choice, citation });
    }
}

/// Characters in the first so many bytes.
fn characters(text: &str, bytes: u64) -> u64 {
    let end = text.floor_char_boundary(usize::try_from(bytes).unwrap_or(usize::MAX));
    let before = text.get(..end).unwrap_or_default().chars().count();
    u64::try_from(before).unwrap_or(u64::MAX)
}

/// OpenAI's `logprobs.content` of Google's `logprobsResult`.
pub(super) fn logprobs(result: &Value) -> Vec<Value> {
    let list = |name: &str| result.get(name).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let top = list("topCandidates");
    let entry = |(index, chosen): (usize, &Value)| {
        let others = top.get(index).and_then(|top| top.get("candidates")?.as_array());
        let others: Vec<Value> = others.into_iter().flatten().map(token).collect();
        let mut entry = token(chosen);
        crate::dialect::fields::set(&mut entry, "top_logprobs", others);
        entry
    };
    list("chosenCandidates").iter().enumerate().map(entry).collect()
}

fn token(value: &Value) -> Value {
    let token = value.get("token").and_then(Value::as_str).unwrap_or_default();
    let logprob = value.get("logProbability").cloned().unwrap_or_else(|| json!(0.0));
    json!({ "token": token, "logprob": logprob, "bytes": token.as_bytes() })
}
