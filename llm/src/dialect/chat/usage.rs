//! Usage as OpenAI counts it.

use serde_json::{Map, Value, json};

use crate::usage::Usage;

/// `usage` of chat and completions. Beside OpenAI's members stand LiteLLM's, where a provider wrote to a cache of its
/// own.
pub(in crate::dialect) fn write_usage(usage: &Usage) -> Value {
    let mut prompt = Map::new();
    prompt.insert("cached_tokens".to_owned(), usage.cached.into());
    prompt.insert("audio_tokens".to_owned(), usage.audio_in.into());
    add(&mut prompt, "image_tokens", usage.image_in);
    add(&mut prompt, "video_tokens", usage.video_in);
    add(&mut prompt, "cache_write_tokens", usage.cache_creation);
    add(&mut prompt, "cache_creation_tokens", usage.cache_creation);
    let mut completion = Map::new();
    completion.insert("reasoning_tokens".to_owned(), usage.reasoning.into());
    completion.insert("audio_tokens".to_owned(), usage.audio_out.into());
    add(&mut completion, "image_tokens", usage.image_out);
    add(&mut completion, "video_tokens", usage.video_out);
    completion.insert("accepted_prediction_tokens".to_owned(), 0.into());
    completion.insert("rejected_prediction_tokens".to_owned(), 0.into());
    let mut members = Map::new();
    members.insert("prompt_tokens".to_owned(), usage.prompt.into());
    members.insert("completion_tokens".to_owned(), usage.completion.into());
    members.insert("total_tokens".to_owned(), total(usage).into());
    members.insert("prompt_tokens_details".to_owned(), prompt.into());
    members.insert("completion_tokens_details".to_owned(), completion.into());
    add(&mut members, "cache_creation_input_tokens", usage.cache_creation);
    if usage.cache_creation > 0 {
        members.insert("cache_read_input_tokens".to_owned(), usage.cached.into());
    }
    if usage.cache_creation_1h > 0 {
        let short = usage.cache_creation.saturating_sub(usage.cache_creation_1h);
        members.insert(
            "cache_creation".to_owned(),
            json!({"ephemeral_5m_input_tokens": short, "ephemeral_1h_input_tokens": usage.cache_creation_1h}),
        );
    }
    if usage.searches > 0 {
        members.insert("server_tool_use".to_owned(), json!({"web_search_requests": usage.searches}));
    }
    members.into()
}

fn add(members: &mut Map<String, Value>, name: &str, count: u64) {
    if count > 0 {
        members.insert(name.to_owned(), count.into());
    }
}

/// The provider's total, or the sum.
pub(in crate::dialect) fn total(usage: &Usage) -> u64 {
    match usage.total {
        0 => usage.prompt.saturating_add(usage.completion),
        total => total,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let usage = Usage {
            prompt: 100,
            completion: 50,
            total: 150,
            cached: 30,
            cache_creation: 20,
            cache_creation_1h: 5,
            reasoning: 10,
            audio_in: 1,
            audio_out: 2,
            image_in: 3,
            image_out: 4,
            searches: 2,
            ..Usage::default()
        };
        assert_eq!(Usage::from_value(&write_usage(&usage)), Some(usage));
        let plain = Usage { prompt: 7, completion: 3, total: 10, ..Usage::default() };
        assert_eq!(Usage::from_value(&write_usage(&plain)), Some(plain));
    }
}
