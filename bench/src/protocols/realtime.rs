//! OpenAI's realtime WebSocket: a session, and an answer with usage for every `response.create`.

use futures_util::{SinkExt, StreamExt};
use http::HeaderMap;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::journal::Guard;
use crate::said::{Said, Wanted, digest};
use crate::script::Script;

/// `sec-websocket-accept` for a request's `sec-websocket-key`.
#[must_use]
pub fn accept_key(headers: &HeaderMap) -> String {
    derive_accept_key(headers.get("sec-websocket-key").map_or(&[], |key| key.as_bytes()))
}

/// Talks until the peer leaves, or the script cuts.
pub async fn talk(upgrade: OnUpgrade, model: String, script: Script, mut guard: Guard) {
    let Ok(upgraded) = upgrade.await else { return };
    let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
    let session = json!({"type": "session.created", "event_id": "event_1", "session": {"id": "sess_fake",
        "object": "realtime.session", "type": "realtime", "model": model, "output_modalities": ["text"]}});
    if socket.send(Message::text(session.to_string())).await.is_err() {
        return;
    }
    let mut items = Vec::new();
    while let Some(Ok(message)) = socket.next().await {
        let Message::Text(text) = message else { continue };
        let event: Value = serde_json::from_str(&text).unwrap_or_default();
        let replies = replies(&event, &mut items, &model, &script);
        for reply in replies {
            let text = reply.to_string();
            guard.sent(text.as_bytes());
            tokio::time::sleep(script.chunk_delay).await;
            if socket.send(Message::text(text)).await.is_err() {
                return;
            }
        }
        if script.cut_at.is_some() {
            break;
        }
    }
    guard.finish();
    // The peer may be gone already.
    let _ = socket.close(None).await;
}

fn replies(event: &Value, items: &mut Vec<String>, model: &str, script: &Script) -> Vec<Value> {
    match event["type"].as_str() {
        Some("session.update") => vec![json!({"type": "session.updated", "session": event["session"]})],
        Some("conversation.item.create") => {
            let text = crate::said::content_text(&event["item"]["content"]);
            items.push(text);
            vec![json!({"type": "conversation.item.created", "item": event["item"]})]
        }
        Some("response.create") => response(items, model, script),
        other => {
            vec![json!({"type": "error", "error": {"type": "invalid_request_error", "code": "invalid_value",
            "message": format!("Invalid value: {other:?}"), "param": "type", "event_id": event["event_id"]}})]
        }
    }
}

fn response(items: &[String], model: &str, script: &Script) -> Vec<Value> {
    let prompt = items.iter().map(|text| 4 + crate::said::text_tokens(text)).sum();
    let text = items.last().cloned().unwrap_or_default();
    let wanted = Wanted { model: model.to_owned(), text, prompt_tokens: prompt, ..Wanted::default() };
    let said = match Said::new(&wanted, script) {
        Ok(said) => said,
        Err(error) => return vec![json!({"type": "error", "error": {"message": error}})],
    };
    let id = format!("resp_{}", digest(&said.text()));
    let usage = json!({"total_tokens": said.usage.total(), "input_tokens": said.usage.prompt,
        "output_tokens": said.usage.completion,
        "input_token_details": {"text_tokens": said.usage.prompt, "audio_tokens": 0, "image_tokens": 0,
            "cached_tokens": said.usage.cached},
        "output_token_details": {"text_tokens": said.usage.completion, "audio_tokens": 0}});
    let created = json!({"id": id, "object": "realtime.response", "status": "in_progress", "output": []});
    let mut events = vec![json!({"type": "response.created", "response": created})];
    let piece =
        |piece: &String| json!({"type": "response.output_text.delta", "response_id": id, "delta": piece});
    events.extend(said.pieces.iter().map(piece));
    let item = json!({"id": "item_fake", "type": "message", "role": "assistant",
        "content": [{"type": "output_text", "text": said.text()}]});
    events.push(json!({"type": "response.done", "response": {"id": id, "object": "realtime.response",
        "status": "completed", "output": [item], "usage": usage}}));
    events
}

#[cfg(test)]
#[path = "realtime_tests.rs"]
mod tests;
