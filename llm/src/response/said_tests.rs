use serde_json::json;

use super::*;
use crate::response::UpstreamError;

fn body_of(status: u16, document: &Value) -> Value {
    serde_json::from_slice(&error_body(status, document.to_string().as_bytes())).unwrap()
}

fn openai(message: &str, kind: &str, param: Value, code: &str) -> Value {
    json!({"error": {"message": message, "type": kind, "param": param, "code": code}})
}

#[test]
fn anthropics_documents() {
    let said = |kind: &str, message: &str| json!({"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"});
    for (status, kind, message, code) in [
        (400, "invalid_request_error", "prompt is too long: 9 tokens > 8 maximum", "context_length_exceeded"),
        (
            400,
            "invalid_request_error",
            "Output blocked by content filtering policy",
            "content_policy_violation",
        ),
        (400, "invalid_request_error", "max_tokens: Field required", "400"),
        (401, "authentication_error", "invalid x-api-key", "401"),
        (404, "not_found_error", "model: claude-x", "404"),
        (429, "rate_limit_error", "This request would exceed your rate limit", "429"),
        (529, "overloaded_error", "Overloaded", "529"),
    ] {
        assert_eq!(body_of(status, &said(kind, message)), openai(message, kind, Value::Null, code));
    }
}

#[test]
fn googles_documents() {
    let said = |code: u16, status: &str, message: &str, details: Value| json!({"error": {"code": code, "message": message, "status": status, "details": details}});
    let field = json!([{"@type": "type.googleapis.com/google.rpc.BadRequest",
        "fieldViolations": [{"field": "generation_config.top_k", "description": "no"}]}]);
    let invalid = said(400, "INVALID_ARGUMENT", "Invalid value", field);
    let kind = kind_of_status(400);
    let expected = openai("Invalid value", kind, "generation_config.top_k".into(), "INVALID_ARGUMENT");
    assert_eq!(body_of(400, &invalid), expected);
    assert_eq!(body_of(400, &json!([invalid])), expected);
    let quota = said(429, "RESOURCE_EXHAUSTED", "Quota exceeded", json!([]));
    let expected = openai("Quota exceeded", kind_of_status(429), Value::Null, "RESOURCE_EXHAUSTED");
    assert_eq!(body_of(429, &quota), expected);
    let long = "The input token count (9) exceeds the maximum number of tokens allowed (8).";
    let expected = openai(long, kind, Value::Null, "context_length_exceeded");
    assert_eq!(body_of(400, &said(400, "INVALID_ARGUMENT", long, Value::Null)), expected);
}

#[test]
fn awss_documents() {
    let message = "Too many requests, please wait before trying again.";
    let body = with_error_type(
        json!({ "message": message }).to_string().as_bytes(),
        "ThrottlingException:http://internal.amazon.com/coral/com.amazon.bedrock/",
    );
    let expected = openai(message, kind_of_status(429), Value::Null, "ThrottlingException");
    assert_eq!(serde_json::from_slice::<Value>(&error_body(429, &body)).unwrap(), expected);
    let long = "Input is too long for requested model.";
    let expected = openai(long, kind_of_status(400), Value::Null, "context_length_exceeded");
    assert_eq!(body_of(400, &json!({ "message": long })), expected);
    let empty: Value = serde_json::from_slice(&with_error_type(b"", "InternalServerException")).unwrap();
    assert_eq!(empty["message"], "The upstream failed with InternalServerException.");
    for other in [&b"[]"[..], b"<html>", b"{\"__type\":\"a#B\",\"message\":\"m\"}"] {
        assert_eq!(with_error_type(other, "X"), other);
    }
}

#[test]
fn openais_documents_pass() {
    for document in [
        openai("m", "t", "p".into(), "c"),
        json!({"error": {"message": "m", "type": "t", "status": 400}}),
        json!({"error": {"message": "m", "status": "incomplete"}}),
    ] {
        assert_eq!(body_of(400, &document), document);
    }
}

#[test]
fn errors_inside_200_have_the_status_of_their_words() {
    for (document, status, class) in [
        (
            json!({"error": {"code": 503, "message": "overloaded", "status": "UNAVAILABLE"}}),
            503,
            "service_unavailable",
        ),
        (json!([{"error": {"message": "q", "status": "RESOURCE_EXHAUSTED"}}]), 429, "rate_limit"),
        (json!({"__type": "a#ThrottlingException", "message": "slow"}), 429, "rate_limit"),
        (json!({"__type": "throttlingException", "message": "slow"}), 429, "rate_limit"),
        (json!({"__type": "modelStreamErrorException", "message": "m"}), 502, "service_unavailable"),
        (json!({"__type": "internalServerException", "message": "m"}), 500, "internal_server"),
        (json!({"__type": "serviceUnavailableException", "message": "m"}), 503, "service_unavailable"),
        (
            json!({"__type": "validationException", "message": "Input is too long for requested model"}),
            400,
            "context_window",
        ),
        (
            json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}),
            503,
            "service_unavailable",
        ),
        (json!({"message": "prompt is too long"}), 400, "context_window"),
        (json!({"message": "what"}), 502, "service_unavailable"),
    ] {
        let error = UpstreamError::of_provider(None, document.to_string().as_bytes());
        assert_eq!(error.status, status, "{document}");
        assert_eq!(classify(error.status, &error.body).name(), class, "{document}");
    }
}

#[test]
fn any_document_makes_an_error() {
    for document in [&b""[..], b"[", b"[]", b"[[]]", b"7", b"null", b"{}", b"{\"error\":[]}", b"\xff"] {
        let value: Value = serde_json::from_slice(&error_body(500, document)).unwrap();
        assert!(value["error"]["message"].is_string());
    }
}
