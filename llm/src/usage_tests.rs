use proptest::prelude::*;
use serde_json::json;

use super::*;

#[test]
fn openais_own() {
    let value = json!({"prompt_tokens": 12, "completion_tokens": 100, "total_tokens": 112,
        "prompt_tokens_details": {"cached_tokens": 5, "audio_tokens": 1, "cache_write_tokens": 2},
        "completion_tokens_details": {"reasoning_tokens": 60, "audio_tokens": 3}});
    let expected = Usage {
        prompt: 12,
        completion: 100,
        total: 112,
        cached: 5,
        cache_creation: 2,
        reasoning: 60,
        audio_in: 1,
        audio_out: 3,
        estimated: false,
    };
    assert_eq!(Usage::from_value(&value), Some(expected));
}

#[test]
fn embeddings_have_no_completion() {
    let usage = Usage::parse(br#"{"prompt_tokens": 8, "total_tokens": 8}"#).unwrap();
    assert_eq!((usage.prompt, usage.completion, usage.total), (8, 0, 8));
}

#[test]
fn odd_numbers_are_taken_for_what_they_mean() {
    let usage = Usage::parse(
        br#"{"prompt_tokens": "12", "completion_tokens": 3.0, "total_tokens": null,
            "prompt_tokens_details": null, "completion_tokens_details": {"reasoning_tokens": -4}}"#,
    )
    .unwrap();
    assert_eq!((usage.prompt, usage.completion, usage.total, usage.reasoning), (12, 3, 15, 0));
    let huge = Usage::parse(br#"{"prompt_tokens": 1e300, "completion_tokens": -1e300}"#).unwrap();
    assert_eq!((huge.prompt, huge.completion, huge.total), (u64::MAX, 0, u64::MAX));
    let total_only = Usage::parse(br#"{"total_tokens": 9, "completion_tokens": 4}"#).unwrap();
    assert_eq!((total_only.prompt, total_only.total), (5, 9));
}

#[test]
fn nothing_said_is_none() {
    for text in ["null", "{}", "[]", "7", r#"{"prompt_tokens": null}"#, "{", ""] {
        assert_eq!(Usage::parse(text.as_bytes()), None, "{text}");
    }
}

proptest! {
    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Usage::parse(&bytes);
    }

    #[test]
    fn any_numbers(prompt in any::<f64>(), completion in any::<i64>(), total in "\\PC*") {
        let value = json!({"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total});
        let _ = Usage::from_value(&value);
    }
}
