//! `generationConfig`.

use serde_json::{Map, Value, json};

use super::{Model, Size};
use crate::contract::DeploymentMeta;
use crate::dialect::request::{Effort, Reasoning, Request};

/// Members that clients set at the top level: as Google names them, and as LiteLLM's clients do.
const OWN: [(&str, &str); 11] = [
    ("mediaResolution", "media_resolution"),
    ("imageConfig", "image_config"),
    ("speechConfig", "speech_config"),
    ("responseModalities", "response_modalities"),
    ("responseMimeType", "response_mime_type"),
    ("responseSchema", "response_schema"),
    ("responseJsonSchema", "response_json_schema"),
    ("thinkingConfig", "thinking_config"),
    ("audioTimestamp", "audio_timestamp"),
    ("routingConfig", "routing_config"),
    ("enableEnhancedCivicAnswers", "enable_enhanced_civic_answers"),
];

/// Largest thinking budgets of Gemini 2.5 ("Thinking" of the Gemini API).
const MAX_PRO: u64 = 32_768;
const MAX_FLASH: u64 = 24_576;

/// Numbers and words of a request; its own members are taken out of `extra`.
pub(super) fn config(request: &mut Request, meta: &DeploymentMeta, model: Model) -> Map<String, Value> {
    let mut config = Map::new();
    let sampling = &request.sampling;
    let stop: Vec<&String> = request.stop.iter().filter(|stop| !stop.is_empty()).collect();
    let stop = (!stop.is_empty()).then(|| json!(stop));
    let bound = meta.caps.max_output.filter(|_| meta.params.modify).unwrap_or(u64::MAX);
    let logprobs = sampling.logprobs.filter(|on| *on);
    let members: [(&str, Option<Value>); 11] = [
        ("temperature", sampling.temperature.map(Value::from)),
        ("topP", sampling.top_p.map(Value::from)),
        ("topK", sampling.top_k.map(Value::from)),
        ("maxOutputTokens", request.max_tokens.map(|max| max.min(bound).into())),
        ("candidateCount", sampling.n.map(Value::from)),
        ("stopSequences", stop),
        ("seed", sampling.seed.map(Value::from)),
        ("frequencyPenalty", sampling.frequency_penalty.map(Value::from)),
        ("presencePenalty", sampling.presence_penalty.map(Value::from)),
        ("responseLogprobs", logprobs.map(Value::from)),
        ("logprobs", sampling.top_logprobs.filter(|_| logprobs.is_some()).map(Value::from)),
    ];
    for (name, value) in members {
        if let Some(value) = value {
            config.insert(name.into(), value);
        }
    }
    if let Some(thinking) = request.reasoning.as_ref().and_then(|reasoning| thinking(reasoning, meta, model))
    {
        config.insert("thinkingConfig".into(), thinking);
    }
    modalities(&mut request.extra, &mut config);
    for (name, other) in OWN {
        let value = request.extra.shift_remove(name).or_else(|| request.extra.shift_remove(other));
        if let Some(value) = value {
            config.insert(name.into(), value);
        }
    }
    for name in ["generationConfig", "generation_config"] {
        if let Some(Value::Object(members)) = request.extra.shift_remove(name) {
            config.extend(members);
        }
    }
    config
}

/// Chat's `modalities` and `audio`.
fn modalities(extra: &mut Map<String, Value>, config: &mut Map<String, Value>) {
    if let Some(Value::Array(names)) = extra.shift_remove("modalities") {
        let names: Vec<String> =
            names.iter().filter_map(Value::as_str).map(str::to_ascii_uppercase).collect();
        config.insert("responseModalities".into(), names.into());
    }
    let audio = extra.shift_remove("audio");
    if let Some(voice) = audio.as_ref().and_then(|audio| audio.get("voice")?.as_str()) {
        let voice = json!({ "voiceConfig": { "prebuiltVoiceConfig": { "voiceName": voice } } });
        config.insert("speechConfig".into(), voice);
    }
}

/// `thinkingConfig`: a level for Gemini 3, a budget for 2.5; the two do not go together.
fn thinking(reasoning: &Reasoning, meta: &DeploymentMeta, model: Model) -> Option<Value> {
    if model.generation < 25 || meta.caps.supports("reasoning") == Some(false) {
        return None;
    }
    let off = reasoning.tokens() == Some(0);
    let shown = !off && !matches!(reasoning.summary.as_deref(), Some("none" | "omitted"));
    let mut config = Map::new();
    config.insert("includeThoughts".into(), shown.into());
    if model.is_third() {
        match reasoning.budget {
            Some(budget) if budget > 0 => drop(config.insert("thinkingBudget".into(), budget.into())),
            _ => {
                if let Some(effort) = reasoning.level() {
                    config.insert("thinkingLevel".into(), level(effort, model).into());
                }
            }
        }
    } else if let Some(budget) = budget(reasoning, model) {
        config.insert("thinkingBudget".into(), budget);
    }
    Some(config.into())
}

/// Gemini 3 cannot be kept from thinking.
fn level(effort: Effort, model: Model) -> &'static str {
    match effort {
        Effort::None | Effort::Minimal if model.size == Size::Pro => "LOW",
        Effort::None | Effort::Minimal => "MINIMAL",
        Effort::Low => "LOW",
        // 3 Pro has two levels; 3.1 Pro has three.
        Effort::Medium if model.size == Size::Pro && model.generation < 31 => "HIGH",
        Effort::Medium => "MEDIUM",
        Effort::High | Effort::Xhigh | Effort::Max => "HIGH",
    }
}

/// Within what the model takes; 2.5 Pro cannot be kept from thinking. -1 lets the model decide.
fn budget(reasoning: &Reasoning, model: Model) -> Option<Value> {
    let Some(tokens) = reasoning.tokens() else {
        return reasoning.adaptive.then(|| json!(-1));
    };
    let (least, most) = match model.size {
        Size::Pro => (128, MAX_PRO),
        Size::Flash => (1, MAX_FLASH),
        Size::Lite => (512, MAX_FLASH),
    };
    if tokens == 0 && model.size != Size::Pro {
        return Some(json!(0));
    }
    let minimal = reasoning.budget.is_none() && reasoning.effort == Some(Effort::Minimal);
    let tokens = if minimal { least.max(128) } else { tokens };
    Some(tokens.clamp(least, most).into())
}
