//! OpenAI and Azure: which endpoint, the credential, errors.

use http::Method;
use serde_json::{Value, json};

use super::{Answer, Checked, Planned, Refused, Wire, chat, embeddings, files, media, responses};
use crate::script::{Refusal, Script};

/// A bearer key, or Azure's `api-key`; a token of [`super::tokens`] must not have expired.
pub(super) fn authenticate(wire: &Wire<'_>, azure: bool) -> Checked {
    let key = wire.header("api-key");
    match (wire.bearer(), key) {
        (Some(_), Some(_)) if azure => Err(Refused::new(401, "Give either `api-key` or a token, not both.")),
        (Some(token), _) => super::tokens::alive(token),
        (None, Some(_)) => Ok(()),
        (None, None) => Err(Refused::new(401, "You didn't provide an API key.")),
    }
}

/// The endpoint: what stands behind version or deployment.
fn endpoint(rest: &str) -> &str {
    let rest = match rest.strip_prefix("openai/deployments/") {
        Some(rest) => rest.split_once('/').map_or("", |(_, rest)| rest),
        None => rest.strip_prefix("openai/").unwrap_or(rest),
    };
    let known = rest.split('/').position(|part| ENDPOINTS.contains(&part));
    match known {
        Some(0) => rest,
        Some(at) => rest.splitn(at + 1, '/').last().unwrap_or(rest),
        None => rest,
    }
}

const ENDPOINTS: &[&str] = &[
    "chat",
    "completions",
    "embeddings",
    "responses",
    "images",
    "audio",
    "moderations",
    "rerank",
    "files",
    "batches",
    "realtime",
    "models",
];

/// Is this the list of models?
#[must_use]
pub fn is_models(rest: &str, method: &Method) -> bool {
    (endpoint(rest) == "models" || rest == "v1beta/models") && method == Method::GET
}

pub(super) fn plan(wire: &Wire<'_>, model: &str, azure: bool, script: &Script) -> Checked<Planned> {
    let endpoint = endpoint(wire.rest);
    if azure && wire.rest.starts_with("openai/deployments/") && wire.param("api-version").is_none() {
        return Err(Refused::new(404, "Resource not found: the api-version query parameter is missing."));
    }
    let (family, _) = endpoint.split_once('/').unwrap_or((endpoint, ""));
    match family {
        "models" if wire.method == Method::GET => return Ok(Planned::json(&models())),
        "files" => return files::files(wire, endpoint),
        "batches" => return files::batches(wire, endpoint),
        "realtime" => return realtime(wire),
        _ => {}
    }
    if !ENDPOINTS.contains(&family) {
        return Err(Refused::new(404, format!("Invalid URL ({} /{})", wire.method, wire.rest)));
    }
    if wire.method != Method::POST {
        return Err(Refused::new(405, "Not allowed to do that on this URL."));
    }
    match endpoint {
        "images/edits" | "audio/transcriptions" | "audio/translations" => {
            return media::form(wire, endpoint, model, script);
        }
        _ if !wire.json.is_object() => {
            return Err(Refused::new(400, "We could not parse the JSON body of your request."));
        }
        _ => {}
    }
    if model.is_empty() && endpoint != "moderations" {
        return Err(Refused {
            param: Some("model".into()),
            ..Refused::new(400, "you must provide a model parameter")
        });
    }
    match endpoint {
        "chat/completions" => chat::plan(wire, model, true, azure, script),
        "completions" => chat::plan(wire, model, false, azure, script),
        "embeddings" => embeddings::plan(wire, model, script),
        "responses" => responses::plan(wire, model, script),
        "images/generations" => media::images(wire, model, script),
        "audio/speech" => media::speech(wire, model, script),
        "moderations" => media::moderations(wire, model),
        "rerank" => media::rerank(wire, model, script),
        _ => Err(Refused::new(404, format!("Invalid URL (POST /{})", wire.rest))),
    }
}

fn realtime(wire: &Wire<'_>) -> Checked<Planned> {
    let upgrade = wire.header("upgrade").is_some_and(|value| value.eq_ignore_ascii_case("websocket"));
    if !upgrade || wire.header("sec-websocket-key").is_none() {
        return Err(Refused::new(400, "realtime wants a WebSocket"));
    }
    if wire.param("model").or_else(|| wire.param("deployment")).is_none_or(str::is_empty) {
        return Err(Refused::new(400, "realtime wants ?model= in its URL"));
    }
    Ok(Planned { answer: Answer::Upgrade, usage: None, prompt: 0, completion: 0 })
}

fn models() -> Value {
    let model =
        |id: &str| json!({"id": id, "object": "model", "created": 1_715_367_049, "owned_by": "system"});
    json!({"object": "list", "data": [model("gpt-4o"), model("gpt-4o-mini")]})
}

/// An error's body.
#[must_use]
pub fn error(status: u16, kind: Option<Refusal>, refused: Option<&Refused>, azure: bool) -> Value {
    let (message, sort, code, param) = match kind {
        Some(kind) => refusal(kind, azure),
        None => plain(status),
    };
    let message = refused.map_or(message, |refused| refused.message.as_str());
    let param = refused.map_or_else(|| json!(param), |refused| json!(refused.param));
    json!({"error": {"message": message, "type": sort, "param": param, "code": code}})
}

type Words = (&'static str, &'static str, Option<&'static str>, Option<&'static str>);

fn plain(status: u16) -> Words {
    match status {
        400 => ("The request was refused by its script.", "invalid_request_error", None, None),
        401 => ("Incorrect API key provided.", "invalid_request_error", Some("invalid_api_key"), None),
        403 => ("You are not allowed to sample from this model.", "invalid_request_error", None, None),
        404 => ("The model does not exist.", "invalid_request_error", Some("model_not_found"), None),
        429 => ("Rate limit reached for requests.", "requests", Some("rate_limit_exceeded"), None),
        503 => ("The engine is currently overloaded.", "service_unavailable", None, None),
        500.. => ("The server had an error while processing your request.", "server_error", None, None),
        _ => ("The request was answered by its script.", "scripted", None, None),
    }
}

/// Errors of a kind that the status does not tell, as OpenAI (for content: also Azure) sends them.
fn refusal(kind: Refusal, azure: bool) -> Words {
    const INVALID: &str = "invalid_request_error";
    match kind {
        Refusal::Context => (
            "This model's maximum context length is 128000 tokens. However, your messages resulted in 200000 tokens. \
             Please reduce the length of the messages.",
            INVALID,
            Some("context_length_exceeded"),
            Some("messages"),
        ),
        Refusal::Content if azure => (
            "The response was filtered due to the prompt triggering Azure OpenAI's content management policy.",
            INVALID,
            Some("content_filter"),
            Some("prompt"),
        ),
        Refusal::Content => (
            "Your request was rejected as a result of our safety system.",
            INVALID,
            Some("content_policy_violation"),
            None,
        ),
        Refusal::BadRequest => (
            "Invalid value for 'temperature': too high.",
            INVALID,
            Some("decimal_above_max_value"),
            Some("temperature"),
        ),
        Refusal::Quota => (
            "You exceeded your current quota, please check your plan and billing details.",
            "insufficient_quota",
            Some("insufficient_quota"),
            None,
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_found_behind_versions_and_deployments() {
        for (rest, want) in [
            ("v1/chat/completions", "chat/completions"),
            ("chat/completions", "chat/completions"),
            ("openai/deployments/gpt-4o/chat/completions", "chat/completions"),
            ("openai/v1/responses", "responses"),
            ("v1/files/file-1/content", "files/file-1/content"),
            ("v2/rerank", "rerank"),
            ("v1/nonsense", "v1/nonsense"),
        ] {
            assert_eq!(endpoint(rest), want, "{rest}");
        }
    }
}
