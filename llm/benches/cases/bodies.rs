//! Requests and answers as they are in life, made here so that their sizes are known.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

const PROSE: [&str; 6] = [
    "The ambassador asked for a summary of the \"second\" dispatch before noon. ",
    "It mentions three harbours, two of which are closed until spring;\nthe third is open to small ships only. ",
    "Please answer in Swiss style: »Grüezi« at the top, numbers with apostrophes (1'000'000). ",
    "```python\ndef total(rows):\n\treturn sum(row['amount'] for row in rows)\n```\n",
    "What follows is quoted from the archive, with its own line breaks.\r\n",
    "Nothing in it is secret, but some of the names are misspelt, so check them against the list. ",
];

/// About so many bytes of what people write.
pub(crate) fn prose(bytes: usize) -> String {
    let mut text = String::with_capacity(bytes + 128);
    for sentence in PROSE.iter().cycle() {
        if text.len() >= bytes {
            break;
        }
        text.push_str(sentence);
    }
    text
}

fn tools() -> Value {
    let tool = |name: &str, about: &str| {
        let text = |about: &str| json!({"type": "string", "description": about});
        json!({"type": "function", "function": {"name": name, "description": about, "parameters": {
            "type": "object", "required": ["place"], "additionalProperties": false,
            "properties": {"place": text("Name of the place"), "unit": {"type": "string", "enum": ["metric", "other"]}},
        }}})
    };
    json!([tool("weather", "Weather of a place"), tool("tides", "High and low water of a harbour")])
}

/// A conversation whose body has about so many bytes: turns of 2 KB at most, and tools where there is room.
pub(crate) fn chat(bytes: usize, stream: bool) -> Vec<u8> {
    let mut messages = vec![json!({"role": "system", "content": "You are terse, and never guess a name."})];
    let mut body =
        json!({"model": "gpt-4o", "stream": stream, "max_tokens": 512, "temperature": 0.2, "user": "ann"});
    if bytes > 4_096 {
        body["tools"] = tools();
    }
    let mut left = bytes.saturating_sub(body.to_string().len() + 128);
    for turn in 0.. {
        let size = left.min(2_048);
        // Escapes make it longer in the body.
        let message = json!({"role": if turn % 2 == 0 { "user" } else { "assistant" }, "content": prose(size * 9 / 10)});
        left = left.saturating_sub(message.to_string().len());
        messages.push(message);
        // The last word is the user's.
        if left < 256 && turn % 2 == 0 {
            break;
        }
    }
    body["messages"] = json!(messages);
    body.to_string().into_bytes()
}

/// A question about a picture of so many bytes of base64.
pub(crate) fn picture(bytes: usize) -> Vec<u8> {
    let pixels: Vec<u8> = (0..bytes / 4 * 3).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let url = format!("data:image/png;base64,{}", STANDARD.encode(pixels));
    let content = json!([
        {"type": "text", "text": "What is in this picture?"},
        {"type": "image_url", "image_url": {"url": url, "detail": "high"}},
    ]);
    json!({"model": "gpt-4o", "messages": [{"role": "user", "content": content}], "max_tokens": 512})
        .to_string()
        .into_bytes()
}
