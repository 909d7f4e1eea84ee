//! Capabilities by LiteLLM's names: `supports_reasoning: true` and its like.

/// What all of their names begin with.
pub(crate) const SUPPORTS: &str = "supports_";

/// Those that are kept, without the prefix, sorted: what decides how a request is written, or whether a model can take
/// it.
const KEPT: [&str; 31] = [
    "adaptive_thinking",
    "assistant_prefill",
    "audio_input",
    "audio_output",
    "bedrock_converse_tool_result_images",
    "bedrock_native_structured_output",
    "computer_use",
    "embedding_image_input",
    "forced_tool_use",
    "function_calling",
    "legacy_thinking",
    "max_reasoning_effort",
    "mid_conversation_system",
    "minimal_reasoning_effort",
    "native_streaming",
    "native_structured_output",
    "none_reasoning_effort",
    "output_config",
    "parallel_function_calling",
    "parallel_tool_use_config",
    "pdf_input",
    "prompt_caching",
    "reasoning",
    "response_schema",
    "sampling_params",
    "system_messages",
    "tool_choice",
    "video_input",
    "vision",
    "web_search",
    "xhigh_reasoning_effort",
];

/// The name as it is kept, if it is.
pub(crate) fn known(name: &str) -> Option<&'static str> {
    KEPT.iter().find(|kept| **kept == name).copied()
}
