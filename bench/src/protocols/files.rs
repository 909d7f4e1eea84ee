//! OpenAI's files and batches: what one upstream was given, another does not have.

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};

use super::state::{State, Stored};
use super::{Answer, Checked, Planned, Refused, Wire};
use crate::said::CREATED;

const PURPOSES: &[&str] = &["assistants", "batch", "fine-tune", "vision", "user_data", "evals"];

/// `files`: create, list, get, delete, content.
pub(super) fn files(wire: &Wire<'_>, endpoint: &str) -> Checked<Planned> {
    let mut path = endpoint.split('/').skip(1);
    match (wire.method, path.next(), path.next()) {
        (&Method::POST, None, _) => create(wire),
        (&Method::GET, None, _) => Ok(Planned::json(&list(wire, "file-"))),
        (&Method::GET, Some(id), None) => Ok(Planned::json(&found(wire, id)?.shown)),
        (&Method::GET, Some(id), Some("content")) => {
            let body = found(wire, id)?.content;
            let answer = Answer::Whole { content_type: "application/octet-stream", body };
            Ok(Planned { answer, usage: None, prompt: 0, completion: 0 })
        }
        (&Method::DELETE, Some(id), None) => {
            found(wire, id)?;
            wire.state.stored().retain(|stored| stored.id != id);
            Ok(Planned::json(&json!({"id": id, "object": "file", "deleted": true})))
        }
        _ => Err(Refused::new(405, "Not allowed to do that on this URL.")),
    }
}

fn create(wire: &Wire<'_>) -> Checked<Planned> {
    let parts = wire.parts.ok_or_else(|| Refused::new(400, "the body must be multipart/form-data"))?;
    let Some(purpose) = wire.field("purpose").filter(|purpose| PURPOSES.contains(purpose)) else {
        return Err(Refused::field("purpose", "is missing or unknown"));
    };
    let Some(file) = parts.iter().find(|part| part.name == "file" && part.file_name.is_some()) else {
        return Err(Refused::field("file", "is a required property"));
    };
    let id = id(wire.state, "file-");
    let shown = json!({"id": id, "object": "file", "bytes": file.data.len(), "created_at": CREATED,
        "filename": file.file_name, "purpose": purpose, "status": "processed", "expires_at": null});
    keep(wire, id, shown.clone(), file.data.clone());
    Ok(Planned::json(&shown))
}

fn id(state: &State, prefix: &str) -> String {
    format!("{prefix}fake{:016}", state.number())
}

fn keep(wire: &Wire<'_>, id: String, shown: Value, content: Bytes) {
    wire.state.store(Stored { upstream: wire.name.to_owned(), id, shown, content });
}

fn found(wire: &Wire<'_>, id: &str) -> Checked<Stored> {
    let all = wire.state.stored();
    let stored = all.iter().find(|stored| stored.id == id && stored.upstream == wire.name).cloned();
    stored.ok_or_else(|| Refused::new(404, format!("No such object: {id}")))
}

fn list(wire: &Wire<'_>, prefix: &str) -> Value {
    let all = wire.state.stored();
    let mine = all.iter().filter(|stored| stored.upstream == wire.name && stored.id.starts_with(prefix));
    let data: Vec<_> = mine.map(|stored| stored.shown.clone()).collect();
    json!({"object": "list", "data": data, "has_more": false,
        "first_id": data.first().map(|shown| &shown["id"]), "last_id": data.last().map(|shown| &shown["id"])})
}

/// `batches`: create, list, get, cancel. A batch is done at once: its lines come back as its output file.
pub(super) fn batches(wire: &Wire<'_>, endpoint: &str) -> Checked<Planned> {
    let mut path = endpoint.split('/').skip(1);
    match (wire.method, path.next(), path.next()) {
        (&Method::POST, None, _) => batch(wire),
        (&Method::GET, None, _) => Ok(Planned::json(&list(wire, "batch_"))),
        (&Method::GET, Some(id), None) => Ok(Planned::json(&found(wire, id)?.shown)),
        (&Method::POST, Some(id), Some("cancel")) => {
            found(wire, id)?;
            let mut all = wire.state.stored();
            let mut shown = Value::Null;
            if let Some(stored) = all.iter_mut().find(|stored| stored.id == id) {
                stored.shown["status"] = json!("cancelling");
                stored.shown["cancelling_at"] = json!(CREATED + 5);
                shown = stored.shown.clone();
            }
            Ok(Planned::json(&shown))
        }
        _ => Err(Refused::new(405, "Not allowed to do that on this URL.")),
    }
}

fn batch(wire: &Wire<'_>) -> Checked<Planned> {
    let body = wire.json;
    for field in ["input_file_id", "endpoint", "completion_window"] {
        if body[field].as_str().is_none_or(str::is_empty) {
            return Err(Refused::field(field, "Missing required parameter."));
        }
    }
    let input = found(wire, body["input_file_id"].as_str().unwrap_or_default())?;
    if input.shown["purpose"] != "batch" {
        return Err(Refused::field("input_file_id", "the file's purpose is not batch"));
    }
    let lines = String::from_utf8_lossy(&input.content).into_owned();
    let count = lines.lines().filter(|line| !line.trim().is_empty()).count();
    let output = id(wire.state, "file-");
    let shown = json!({"id": output, "object": "file", "bytes": lines.len(), "created_at": CREATED,
        "filename": "output.jsonl", "purpose": "batch_output", "status": "processed", "expires_at": null});
    keep(wire, output.clone(), shown, Bytes::from(lines));
    let id = id(wire.state, "batch_");
    let shown = json!({"id": id, "object": "batch", "endpoint": body["endpoint"], "errors": null,
        "input_file_id": body["input_file_id"], "completion_window": body["completion_window"], "status": "completed",
        "output_file_id": output, "error_file_id": null, "created_at": CREATED, "in_progress_at": CREATED + 1,
        "expires_at": CREATED + 86_400, "completed_at": CREATED + 2, "failed_at": null, "expired_at": null,
        "cancelling_at": null, "cancelled_at": null, "finalizing_at": null,
        "request_counts": {"total": count, "completed": count, "failed": 0}, "metadata": body["metadata"]});
    keep(wire, id, shown.clone(), Bytes::new());
    Ok(Planned::json(&shown))
}
