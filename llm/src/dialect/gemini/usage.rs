//! `usageMetadata`.

use serde_json::Value;

use crate::price::Class;
use crate::usage::Usage;

/// Tokens by kind of content.
#[derive(Debug, Default, Clone, Copy)]
struct Kinds {
    audio: u64,
    image: u64,
    video: u64,
}

/// What an answer used; `searches`: queries that were sent to a search engine for it, whose pages are not billed as prompt.
pub(super) fn usage(value: &Value, searches: u64) -> Option<Usage> {
    let count = |name: &str| value.get(name).and_then(Value::as_u64);
    if count("promptTokenCount").is_none() && count("totalTokenCount").is_none() {
        return None;
    }
    let number = |name: &str| count(name).unwrap_or(0);
    let tool = if searches == 0 { number("toolUsePromptTokenCount") } else { 0 };
    let prompt = number("promptTokenCount").saturating_add(tool);
    let (said, thoughts) = (number("candidatesTokenCount"), number("thoughtsTokenCount"));
    let total = number("totalTokenCount");
    // Thoughts are beside the answer, but for models whose total says that they are in it.
    let inside = thoughts > 0 && total > 0 && total == prompt.saturating_add(said);
    let completion = if inside { said } else { said.saturating_add(thoughts) };
    let mut read = kinds(value, "promptTokensDetails");
    if tool > 0 {
        let more = kinds(value, "toolUsePromptTokensDetails");
        read.audio = read.audio.saturating_add(more.audio);
        read.image = read.image.saturating_add(more.image);
        read.video = read.video.saturating_add(more.video);
    }
    let (cached, made) = (kinds(value, "cacheTokensDetails"), kinds(value, "candidatesTokensDetails"));
    let class = match value.get("trafficType").and_then(Value::as_str) {
        Some("ON_DEMAND_PRIORITY") => Class::of_tier("priority"),
        Some("ON_DEMAND_FLEX") => Class::of_tier("flex"),
        _ => value.get("serviceTier").and_then(Value::as_str).map_or(Class::Standard, Class::of_tier),
    };
    Some(Usage {
        prompt,
        completion,
        total: total.max(prompt.saturating_add(completion)),
        cached: number("cachedContentTokenCount"),
        reasoning: thoughts,
        audio_in: read.audio,
        image_in: read.image,
        video_in: read.video,
        audio_cached: cached.audio,
        image_cached: cached.image,
        audio_out: made.audio,
        image_out: made.image,
        video_out: made.video,
        searches,
        class,
        ..Usage::default()
    })
}

fn kinds(value: &Value, name: &str) -> Kinds {
    let mut kinds = Kinds::default();
    for detail in value.get(name).and_then(Value::as_array).into_iter().flatten() {
        let tokens = detail.get("tokenCount").and_then(Value::as_u64).unwrap_or(0);
        let kind = match detail.get("modality").and_then(Value::as_str) {
            Some("AUDIO") => &mut kinds.audio,
            Some("IMAGE") => &mut kinds.image,
            Some("VIDEO") => &mut kinds.video,
            _ => continue,
        };
        *kind = kind.saturating_add(tokens);
    }
    kinds
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn thoughts_cache_and_kinds() {
        let value = json!({
            "promptTokenCount": 100, "candidatesTokenCount": 20, "thoughtsTokenCount": 30, "totalTokenCount": 160,
            "cachedContentTokenCount": 40, "toolUsePromptTokenCount": 10,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 70}, {"modality": "IMAGE", "tokenCount": 30}],
            "toolUsePromptTokensDetails": [{"modality": "IMAGE", "tokenCount": 5}],
            "cacheTokensDetails": [{"modality": "AUDIO", "tokenCount": 4}],
            "candidatesTokensDetails": [{"modality": "AUDIO", "tokenCount": 9}, {"modality": "VIDEO"}],
            "trafficType": "ON_DEMAND_FLEX",
        });
        let expected = Usage {
            prompt: 110,
            completion: 50,
            total: 160,
            cached: 40,
            reasoning: 30,
            image_in: 35,
            audio_cached: 4,
            audio_out: 9,
            class: Class::of_tier("flex"),
            ..Usage::default()
        };
        assert_eq!(usage(&value, 0), Some(expected));
        let grounded = usage(&value, 2).unwrap();
        assert_eq!((grounded.prompt, grounded.searches, grounded.image_in), (100, 2, 30));
    }

    #[test]
    fn thoughts_inside_the_answer() {
        let value = json!({"promptTokenCount": 10, "candidatesTokenCount": 30, "thoughtsTokenCount": 20,
            "totalTokenCount": 40});
        let usage = usage(&value, 0).unwrap();
        assert_eq!((usage.completion, usage.reasoning, usage.total), (30, 20, 40));
    }

    #[test]
    fn what_counts_nothing() {
        assert_eq!(usage(&json!({}), 0), None);
        assert_eq!(usage(&json!(7), 0), None);
        let only_prompt = usage(&json!({"promptTokenCount": 3}), 0).unwrap();
        assert_eq!((only_prompt.prompt, only_prompt.completion, only_prompt.total), (3, 0, 3));
    }
}
