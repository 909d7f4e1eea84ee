use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn rendered(error: &ApiError) -> Value {
    serde_json::from_slice(&error.to_json()).unwrap()
}

#[test]
fn envelope_is_openais() {
    assert_eq!(
        rendered(&ApiError::missing_key()),
        json!({"error": {"message": "Authentication Error, No api key passed in.", "type": "auth_error",
            "param": null, "code": "invalid_api_key"}})
    );
    assert_eq!(
        rendered(&ApiError::invalid_request("no", Some("stream"))),
        json!({"error": {"message": "no", "type": "invalid_request_error", "param": "stream", "code": "400"}})
    );
}

#[test]
fn statuses_and_retry_after() {
    let limited = ApiError::rate_limited("Rate limit exceeded.", 7);
    assert_eq!((limited.status, limited.retriable), (429, true));
    assert!(limited.headers().contains(&("retry-after", "7".to_owned())));
    assert_eq!(ApiError::model_access_denied("m").kind, "key_model_access_denied");
    assert_eq!(ApiError::model_access_denied("m").status, 403);
    assert_eq!(ApiError::unknown_key().status, 401);
    assert_eq!(ApiError::body_too_large(10).status, 413);
    assert_eq!(ApiError::sidecar_unavailable().status, 503);
    assert!(!ApiError::unknown_key().headers().iter().any(|(name, _)| *name == "retry-after"));
}

/// The router's own refusals, in LiteLLM's statuses and types.
#[test]
fn routing_errors() {
    let tags = ["eu".to_owned(), "sk-abcdefghijklmnop1234".to_owned()];
    for (error, status, kind, code, param, retry_after, words) in [
        (
            ApiError::context_window_exceeded("m", 130_001, 128_000),
            (400, "invalid_request_error", "context_length_exceeded", Some("messages"), None),
            ["128000", "130001"],
        ),
        (
            ApiError::no_room("m", 42),
            (429, "throttling_error", "all_deployments_at_limit", None, Some(42)),
            ["No deployments available", "42 seconds"],
        ),
        (
            ApiError::budget_exhausted("m", 3_600).with_internal("provider openai"),
            (429, "rate_limit_error", "budget_exhausted", None, Some(3_600)),
            ["No deployments available", "rossed budget"],
        ),
        (
            ApiError::no_tag_match("m", &tags),
            (401, "authentication_error", "no_tag_match", Some("tags"), None),
            ["Not allowed to access model due to tags configuration", "eu, sk-...1234"],
        ),
        (
            ApiError::explain_forbidden(),
            (403, "permission_error", "403", Some("x-attache-route"), None),
            ["master key", "explanation"],
        ),
        (
            ApiError::too_many_passes("m", 8),
            (503, "internal_server_error", "503", None, Some(1)),
            ["No healthy deployment available", "'m'"],
        ),
    ]
    .map(|(error, (status, kind, code, param, after), words)| {
        (error, status, kind, code, param, after, words)
    }) {
        let body = rendered(&error);
        assert_eq!((error.status, error.retry_after_s), (status, retry_after), "{error}");
        assert_eq!(body["error"]["type"], kind);
        assert_eq!(body["error"]["code"], code);
        assert_eq!(body["error"]["param"].as_str(), param);
        let message = body["error"]["message"].as_str().unwrap();
        assert!(words.iter().all(|part| message.contains(part)), "{message}");
        assert!(!message.contains("openai") && !message.contains("8 plans"), "{message}");
        assert_eq!(error.retriable, error.retry_after_s.is_some());
        assert_eq!(error.headers().iter().any(|(name, _)| *name == "retry-after"), retry_after.is_some());
    }
}

#[test]
fn internal_text_never_reaches_the_client() {
    let error = ApiError::internal("connection to 10.0.0.3 refused");
    assert!(!String::from_utf8(error.to_json()).unwrap().contains("10.0.0.3"));
    assert!(error.to_string().contains("10.0.0.3"));
}

#[test]
fn keys_are_masked() {
    let key = "sk-abcdefghijklmnop1234";
    for error in [
        ApiError::model_not_found(key),
        ApiError::unknown_route("POST", &format!("/x/{key}")),
        ApiError::expired_key(key),
        ApiError::no_room(key, 1),
        ApiError::budget_exhausted(key, 1),
        ApiError::context_window_exceeded(key, 2, 1),
        ApiError::invalid_request(format!("got {key}!"), None),
        ApiError::invalid_request("Bearer abcdefghijklmnop1234", None),
    ] {
        let text = String::from_utf8(error.to_json()).unwrap();
        assert!(!text.contains("abcdefghijklmnop"), "{text}");
        assert!(text.contains("...1234"), "{text}");
    }
    for prose in ["ask-me, sk-...abcd", "a task-scheduling service", "Bearer authentication required", "sk-"]
    {
        assert_eq!(mask_secrets(prose), prose);
    }
    assert_eq!(mask_secrets(r"\nsk-abcdefgh12345678"), r"\nsk-...5678");
}

#[test]
fn long_names_are_cut() {
    assert!(ApiError::model_not_found(&"é".repeat(5_000)).message.len() < 1_000);
}

proptest! {
    #[test]
    fn masking_any_text_hides_every_key(before in "\\PC*", key in "[a-zA-Z0-9]{20,40}", after in "\\PC*") {
        let masked = mask_secrets(&format!("{before} sk-{key} {after}"));
        let whole = format!("sk-{key}");
        prop_assert!(!masked.contains(&whole));
    }
}
