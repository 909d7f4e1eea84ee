use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::price::Class;

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
        ..Usage::default()
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

fn read(value: serde_json::Value) -> Usage {
    Usage::from_value(&value).unwrap()
}

#[test]
fn anthropics_input_excludes_the_cache() {
    let expected = Usage {
        prompt: 10 + 200 + 3_000,
        completion: 7,
        total: 3_217,
        cached: 3_000,
        cache_creation: 200,
        cache_creation_1h: 150,
        searches: 2,
        class: Class::Priority,
        ..Usage::default()
    };
    let whole = json!({"input_tokens": 10, "cache_creation_input_tokens": 200, "cache_read_input_tokens": 3000,
        "cache_creation": {"ephemeral_5m_input_tokens": 50, "ephemeral_1h_input_tokens": 150},
        "output_tokens": 7, "server_tool_use": {"web_search_requests": 2}, "service_tier": "priority"});
    assert_eq!(read(whole.clone()), expected);
    let mut without_sum = whole;
    without_sum.as_object_mut().unwrap().remove("cache_creation_input_tokens");
    assert_eq!(read(without_sum), expected);
    // With OpenAI's details beside it, the cached tokens are still apart.
    let both = json!({"input_tokens": 3, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 30,
        "output_tokens": 4, "prompt_tokens_details": {"cached_tokens": 30}});
    assert_eq!((read(both.clone()).prompt, read(both).cached), (33, 30));
}

#[test]
fn openais_input_includes_the_cache() {
    let responses = read(json!({"input_tokens": 100, "input_tokens_details": {"cached_tokens": 40},
        "output_tokens": 9, "output_tokens_details": {"reasoning_tokens": 5}, "total_tokens": 109}));
    assert_eq!((responses.prompt, responses.cached, responses.reasoning), (100, 40, 5));
    // Servers that translate Anthropic's names into OpenAI's count.
    let mixed = read(json!({"prompt_tokens": 100, "completion_tokens": 1, "cache_read_input_tokens": 60,
        "cache_creation_input_tokens": 30}));
    assert_eq!((mixed.prompt, mixed.cached, mixed.cache_creation), (100, 60, 30));
}

#[test]
fn modalities_and_their_cached_parts() {
    let usage = read(json!({"input_tokens": 120, "output_tokens": 50, "total_tokens": 170,
        "input_token_details": {"text_tokens": 20, "audio_tokens": 60, "image_tokens": 40, "cached_tokens": 32,
            "cached_tokens_details": {"text_tokens": 2, "audio_tokens": 20, "image_tokens": 10}},
        "output_token_details": {"text_tokens": 10, "audio_tokens": 40}}));
    let expected = Usage {
        prompt: 120,
        completion: 50,
        total: 170,
        cached: 32,
        audio_in: 60,
        image_in: 40,
        audio_cached: 20,
        image_cached: 10,
        audio_out: 40,
        ..Usage::default()
    };
    assert_eq!(usage, expected);
    let image =
        read(json!({"input_tokens": 12, "input_tokens_details": {"image_tokens": 0, "text_tokens": 12},
        "output_tokens": 4493, "output_tokens_details": {"image_tokens": 4160, "text_tokens": 333}}));
    assert_eq!((image.prompt, image.completion, image.image_out), (12, 4_493, 4_160));
}

#[test]
fn durations_are_counted_without_tokens() {
    let usage = read(json!({"type": "duration", "seconds": 12.34}));
    assert_eq!((usage.audio_ms, usage.prompt, usage.total), (12_340, 0, 0));
    assert_eq!(read(json!({"type": "duration", "seconds": 3})).audio_ms, 3_000);
    assert_eq!(
        read(json!({"prompt_audio_seconds": 5, "prompt_tokens": 4, "total_tokens": 9})).audio_ms,
        5_000
    );
}

#[test]
fn perplexitys_searches_and_reasoning_are_beside_the_rest() {
    let usage = read(json!({"prompt_tokens": 33, "completion_tokens": 70, "total_tokens": 103,
        "search_context_size": "high", "citation_tokens": 200, "num_search_queries": 18, "reasoning_tokens": 900}));
    assert_eq!((usage.completion, usage.reasoning, usage.citations), (970, 900, 200));
    assert_eq!((usage.searches, usage.search_size), (18, SearchSize::High));
    let one = read(json!({"prompt_tokens": 1, "completion_tokens": 1, "search_context_size": "low"}));
    assert_eq!((one.searches, one.search_size), (1, SearchSize::Low));
}

#[test]
fn xais_reasoning_is_beside_the_completion_as_its_total_tells() {
    let of = |total: u64| {
        let usage = read(json!({"prompt_tokens": 32, "completion_tokens": 9, "total_tokens": total,
            "completion_tokens_details": {"reasoning_tokens": 94}}));
        (usage.completion, usage.reasoning, usage.total)
    };
    assert_eq!(of(32 + 9 + 94), (103, 94, 135));
    assert_eq!(of(32 + 9), (9, 94, 41), "a part of it, cut when it is priced");
}

#[test]
fn geminis_reasoning_is_what_its_total_has_more() {
    let usage = read(json!({"prompt_tokens": 7, "completion_tokens": 12, "total_tokens": 402}));
    assert_eq!((usage.prompt, usage.completion, usage.reasoning, usage.total), (7, 395, 383, 402));
    let odd = read(json!({"prompt_tokens": 7, "completion_tokens": 12, "total_tokens": 9}));
    assert_eq!((odd.prompt, odd.completion, odd.reasoning), (7, 12, 0));
    let cached = json!({"prompt_tokens": 7, "completion_tokens": 12, "total_tokens": 402, "prompt_cache_hit_tokens": 5});
    assert_eq!(read(cached).completion, 12, "who knows what the total has");
}

#[test]
fn a_count_of_0_is_a_count() {
    let usage = read(json!({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}));
    assert_eq!(usage, Usage::default());
    assert!(!usage.estimated);
}

#[test]
fn what_is_0_is_not_written_and_what_is_unknown_is_read() {
    let written = serde_json::to_value(Usage::default()).unwrap();
    let mut names: Vec<_> = written.as_object().unwrap().keys().cloned().collect();
    names.sort();
    let expected = [
        "audio_in",
        "audio_out",
        "cache_creation",
        "cached",
        "completion",
        "estimated",
        "prompt",
        "reasoning",
        "total",
    ];
    assert_eq!(names, expected);
    let newer = json!({"prompt": 1, "completion": 2, "total": 3, "class": "express", "more": 4});
    let usage: Usage = serde_json::from_value(newer).unwrap();
    assert_eq!((usage.prompt, usage.class), (1, Class::Standard));
    let flex = Usage { class: Class::Flex, searches: 3, ..Usage::default() };
    assert_eq!(serde_json::from_value::<Usage>(serde_json::to_value(flex).unwrap()).unwrap(), flex);
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
