use serde_json::json;

use super::*;
use ErrorClass::*;

/// What providers say to a prompt that is too long.
#[test]
fn too_long_prompts() {
    for (provider, status, body) in [
        (
            "openai",
            400,
            json!({"error": {"message": "Your input exceeds the context window of this model. Please adjust your input and try again.", "type": "invalid_request_error", "param": "input", "code": "context_length_exceeded"}}),
        ),
        (
            "openai, by text",
            400,
            json!({"error": {"message": "This model's maximum context length is 128000 tokens. However, your messages resulted in 130001 tokens.", "type": "invalid_request_error", "param": "messages", "code": null}}),
        ),
        (
            "openai, one long string",
            400,
            json!({"error": {"message": "Invalid 'messages[1].content': string too long. Expected a string with maximum length 10485760, but got a string with length 10485761 instead.", "type": "invalid_request_error", "param": "messages[1].content", "code": "string_above_max_length"}}),
        ),
        (
            "azure",
            400,
            json!({"error": {"message": "Input tokens exceed the configured limit of 272000 tokens. Your messages resulted in 300000 tokens.", "type": "invalid_request_error", "param": "messages", "code": "context_length_exceeded"}}),
        ),
        (
            "anthropic",
            400,
            json!({"type": "error", "error": {"type": "invalid_request_error", "message": "prompt is too long: 210000 tokens > 200000 maximum"}, "request_id": "r"}),
        ),
        (
            "anthropic, with the answer",
            400,
            json!({"type": "error", "error": {"type": "invalid_request_error", "message": "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000, decrease input length or `max_tokens` and try again"}}),
        ),
        (
            "vllm",
            400,
            json!({"object": "error", "message": "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens.", "type": "BadRequestError", "param": null, "code": 400}),
        ),
        (
            "vllm, decoder",
            400,
            json!({"error": {"message": "The decoder prompt (length 9000) is longer than the maximum model length of 8192.", "type": "BadRequestError", "param": null, "code": 400}}),
        ),
        ("bedrock", 400, json!({"message": "Input is too long for requested model."})),
        (
            "bedrock, old",
            400,
            json!({"Message": "Malformed input request: expected maxLength: 2048, actual: 4000, please reformat your input and try again."}),
        ),
        (
            "gemini",
            400,
            json!([{"error": {"code": 400, "message": "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).", "status": "INVALID_ARGUMENT"}}]),
        ),
        (
            "vertex",
            400,
            json!({"error": {"code": 400, "message": "Unable to submit request because the input token count is 40000 but model only supports up to 32768.", "status": "INVALID_ARGUMENT"}}),
        ),
        (
            "mistral",
            400,
            json!({"object": "error", "message": "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context length", "type": "invalid_request_invalid_args", "param": null, "code": "3051"}),
        ),
        (
            "groq",
            400,
            json!({"error": {"message": "Please reduce the length of the messages or completion.", "type": "invalid_request_error", "param": "messages", "code": "context_length_exceeded"}}),
        ),
        (
            "groq, by text",
            413,
            json!({"error": {"message": "Please reduce the length of the messages or completion."}}),
        ),
        (
            "together",
            400,
            json!({"id": "x", "error": {"message": "The input (9000 tokens) is longer than the model's context length (8192 tokens).", "type": "invalid_request_error", "param": null, "code": null}}),
        ),
        (
            "tgi",
            422,
            json!({"error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4097. Given: 5000 `inputs` tokens and 100 `max_new_tokens`", "error_type": "validation"}),
        ),
        (
            "cohere",
            400,
            json!({"message": "too many tokens: total number of tokens in the request cannot exceed 4081 - received 4292."}),
        ),
        (
            "deepseek",
            400,
            json!({"error": {"message": "This model's maximum context length is 65536 tokens. However, you requested 70000 tokens.", "type": "invalid_request_error", "param": null, "code": "invalid_request_error"}}),
        ),
        (
            "xai",
            400,
            json!({"code": "Client specified an invalid argument", "error": "This model's maximum prompt length is 131072 but the request contains 537812 tokens."}),
        ),
        (
            "openrouter",
            400,
            json!({"error": {"message": "Provider returned error", "code": 400, "metadata": {"raw": "{\"error\":{\"message\":\"This endpoint's maximum context length is 4096 tokens.\"}}", "provider_name": "P"}}}),
        ),
        (
            "llama.cpp",
            400,
            json!({"error": {"code": 400, "message": "the request exceeds the available context size", "type": "exceed_context_size_error", "n_ctx": 4096}}),
        ),
        (
            "cloudflare",
            400,
            json!({"success": false, "errors": [{"code": 5021, "message": "AiError: The estimated number of input and maximum output tokens (9000) exceeded this model context window limit (8192)."}]}),
        ),
        (
            "litellm",
            400,
            json!({"error": {"message": "litellm.ContextWindowExceededError: litellm.BadRequestError: too long", "type": "invalid_request_error", "param": null, "code": "400"}}),
        ),
        (
            "a code in 500",
            500,
            json!({"error": {"message": "upstream failed", "code": "context_length_exceeded"}}),
        ),
    ] {
        assert_eq!(classify(status, body.to_string().as_bytes()), ContextWindow, "{provider}");
    }
}

/// What providers say to a prompt that they do not want.
#[test]
fn refused_content() {
    for (provider, status, body) in [
        (
            "openai",
            400,
            json!({"error": {"message": "Your request was rejected as a result of our safety system.", "type": "image_generation_user_error", "param": null, "code": "moderation_blocked"}}),
        ),
        (
            "openai, old",
            400,
            json!({"error": {"code": "content_policy_violation", "message": "no", "type": "invalid_request_error"}}),
        ),
        (
            "openai, reasoning",
            400,
            json!({"error": {"message": "Invalid prompt: your prompt was flagged as potentially violating our usage policy. Please try again with a different prompt.", "type": "invalid_request_error", "code": "invalid_prompt"}}),
        ),
        (
            "azure",
            400,
            json!({"error": {"message": "The response was filtered due to the prompt triggering Azure OpenAI's content management policy. Please modify your prompt and retry.", "type": null, "param": "prompt", "code": "content_filter", "status": 400, "innererror": {"code": "ResponsibleAIPolicyViolation", "content_filter_result": {"violence": {"filtered": true, "severity": "high"}}}}}),
        ),
        (
            "azure, inner code only",
            400,
            json!({"error": {"message": "no", "code": null, "innererror": {"code": "ResponsibleAIPolicyViolation"}}}),
        ),
        (
            "anthropic",
            400,
            json!({"type": "error", "error": {"type": "invalid_request_error", "message": "Output blocked by content filtering policy"}}),
        ),
        (
            "bedrock",
            400,
            json!({"message": "This request has been blocked by our content filters. Our filters automatically flagged this prompt because it may conflict with our AUP or AWS Responsible AI Policy."}),
        ),
        (
            "vertex",
            400,
            json!({"error": {"code": 400, "message": "The prompt could not be submitted. This prompt contains sensitive words that violate Google's [Responsible AI practices](https://example.com).", "status": "INVALID_ARGUMENT"}}),
        ),
        (
            "alibaba",
            400,
            json!({"error": {"message": "Input data may contain inappropriate content.", "type": "data_inspection_failed", "param": null, "code": "data_inspection_failed"}}),
        ),
        (
            "deepseek",
            400,
            json!({"error": {"message": "Content Exists Risk", "type": "invalid_request_error", "param": null, "code": "invalid_request_error"}}),
        ),
        (
            "xai",
            403,
            json!({"code": "The caller does not have permission to execute the specified operation", "error": "Content violates usage guidelines. Failed check: SAFETY_CHECK_TYPE"}),
        ),
        (
            "openrouter",
            403,
            json!({"error": {"code": 403, "message": "Model requires moderation and your input was flagged.", "metadata": {"reasons": ["violence"], "flagged_input": "..."}}}),
        ),
        (
            "litellm",
            400,
            json!({"error": {"message": "litellm.ContentPolicyViolationError: no", "type": "invalid_request_error", "code": "400"}}),
        ),
        (
            "a code in 500",
            500,
            json!({"error": {"message": "failed", "type": "ContentPolicyViolationError"}}),
        ),
    ] {
        assert_eq!(classify(status, body.to_string().as_bytes()), ContentPolicy, "{provider}");
    }
}

#[test]
fn everything_else_is_of_its_status() {
    let long = "This model's maximum context length is 4096 tokens.";
    for (what, status, body, class) in [
        (
            "quota",
            429,
            json!({"error": {"message": "You exceeded your current quota.", "type": "insufficient_quota", "code": "insufficient_quota"}}),
            RateLimit,
        ),
        ("words in a 429", 429, json!({"error": {"message": long}}), RateLimit),
        ("words in a 500", 500, json!({"error": {"message": long}}), InternalServer),
        (
            "words in a 503",
            503,
            json!({"error": {"message": long, "code": "context_length_exceeded"}}),
            ServiceUnavailable,
        ),
        ("words in a 401", 401, json!({"error": {"message": long}}), Authentication),
        ("context in a 403", 403, json!({"error": {"message": long}}), Authentication),
        (
            "key without access",
            403,
            json!({"error": {"message": "Project does not have access to model", "code": "model_not_found"}}),
            Authentication,
        ),
        (
            "a validator quoting the prompt",
            422,
            json!({"detail": [{"type": "missing", "loc": ["body", "model"], "msg": "Field required", "input": {"messages": [{"content": long}]}}]}),
            BadRequest,
        ),
        ("a validator's own words", 422, json!({"detail": [{"msg": long}]}), ContextWindow),
        (
            "another long string",
            400,
            json!({"error": {"message": "Invalid 'user': string too long. Expected a string with maximum length 64.", "param": "user", "code": "string_above_max_length"}}),
            BadRequest,
        ),
        (
            "the filter's own failure",
            500,
            json!({"error": {"code": "content_filter_error", "message": "The contents are not filtered"}}),
            InternalServer,
        ),
        (
            "too many bytes",
            413,
            json!({"type": "error", "error": {"type": "request_too_large", "message": "Request exceeds the maximum size"}}),
            BadRequest,
        ),
        (
            "google's key",
            400,
            json!({"error": {"code": 400, "message": "no", "status": "INVALID_ARGUMENT", "details": [{"reason": "API_KEY_INVALID"}]}}),
            Authentication,
        ),
        (
            "anthropic's credit",
            400,
            json!({"error": {"message": "Your credit balance is too low"}}),
            Authentication,
        ),
        ("bedrock's model", 400, json!({"message": "The provided model identifier is invalid."}), NotFound),
        (
            "bedrock's quota",
            400,
            json!({"__type": "com.amazon#ServiceQuotaExceededException", "message": "no"}),
            RateLimit,
        ),
        ("bedrock's model failed", 424, json!({"message": "no"}), InternalServer),
        (
            "overloaded",
            529,
            json!({"type": "error", "error": {"type": "overloaded_error"}}),
            ServiceUnavailable,
        ),
        (
            "max_tokens",
            400,
            json!({"error": {"message": "max_tokens is too large: 100000. This model supports at most 4096 completion tokens", "param": "max_tokens", "code": null}}),
            BadRequest,
        ),
        ("no object", 400, json!(7), BadRequest),
    ] {
        assert_eq!(classify(status, body.to_string().as_bytes()), class, "{what}");
    }
    assert_eq!(classify(400, b""), BadRequest);
    assert_eq!(classify(400, b"<html>prompt is too long</html>"), ContextWindow);
    assert_eq!(classify(400, b"{\"error\":{\"message\":\"prompt is too long: 9 tokens > 8"), ContextWindow);
    assert_eq!(classify(400, &b"[".repeat(200_000)), BadRequest);
    let late = format!("{}prompt is too long", "é".repeat(100_000));
    assert_eq!(classify(400, late.as_bytes()), BadRequest);
}

/// The tables are compared with lower-case text.
#[test]
fn tables_are_in_lower_case() {
    for (words, _) in CODES.iter().chain(&WORDS) {
        assert_eq!(*words, words.to_ascii_lowercase());
    }
}

/// An error event has a status of its own, and its class is found from that and its body.
#[test]
fn events_are_classified_by_their_body() {
    for (data, class) in [
        (json!({"error": {"message": "prompt is too long: 9 tokens > 8 maximum"}}), ContextWindow),
        (json!({"error": "This model's maximum context length is 4096 tokens."}), ContextWindow),
        (json!({"error": {"message": "x", "code": "content_filter"}}), ContentPolicy),
        (json!({"error": {"message": "x", "type": "overloaded_error"}}), ServiceUnavailable),
        (json!({"error": {"message": "x"}}), ServiceUnavailable),
    ] {
        let data = data.to_string();
        let members = crate::json::members(data.as_bytes()).unwrap();
        let error = super::super::UpstreamError::of_members(data.as_bytes(), &members).unwrap();
        assert_eq!(classify(error.status, &error.body), class, "{data}");
    }
}
