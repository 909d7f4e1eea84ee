use super::*;
use crate::provider::Provider;

fn meta(provider: Provider) -> DeploymentMeta {
    DeploymentMeta { provider, ..DeploymentMeta::default() }
}

fn missing_of(meta: &DeploymentMeta, endpoint: Endpoint, needs: &[&str]) -> Option<String> {
    let needs: Vec<String> = needs.iter().map(|need| (*need).to_owned()).collect();
    missing(meta, endpoint, &needs).map(str::to_owned)
}

#[test]
fn what_a_provider_lacks_is_named() {
    let chat = Endpoint::ChatCompletions;
    for (provider, needs, expected) in [
        (Provider::Openai, &["n", "logprobs"][..], None),
        (Provider::Anthropic, &["tools", "seed"], Some("seed")),
        (Provider::Bedrock, &["tools", "content.url"], Some("content.url")),
        (Provider::Gemini, &["n", "seed", "logprobs"], None),
        (Provider::Vertex, &["logit_bias"], Some("logit_bias")),
    ] {
        assert_eq!(missing_of(&meta(provider), chat, needs).as_deref(), expected, "{provider:?}");
    }
}

#[test]
fn parameters_may_be_dropped_and_content_may_not() {
    let mut anthropic = meta(Provider::Anthropic);
    anthropic.params.drop = true;
    assert_eq!(missing_of(&anthropic, Endpoint::ChatCompletions, &["n", "seed"]), None);
    let audio = missing_of(&anthropic, Endpoint::ChatCompletions, &["n", "content.input_audio"]);
    assert_eq!(audio.as_deref(), Some("content.input_audio"));
    anthropic.params = ParamRules { also_drop: vec!["n".into()], ..ParamRules::default() };
    assert_eq!(missing_of(&anthropic, Endpoint::ChatCompletions, &["n", "seed"]).as_deref(), Some("seed"));
}

#[test]
fn file_ids_stay_with_their_provider() {
    let needs = ["content.file_id"];
    assert_eq!(missing_of(&meta(Provider::Anthropic), Endpoint::Messages, &needs), None);
    assert!(missing_of(&meta(Provider::Anthropic), Endpoint::ChatCompletions, &needs).is_some());
    assert!(missing_of(&meta(Provider::Openai), Endpoint::Messages, &needs).is_some());
}

#[test]
fn top_k_is_known_to_some_and_echo_is_done_here() {
    let at = |authority: &str| DeploymentMeta { authority: authority.into(), ..meta(Provider::Openai) };
    let lacks = |meta: &DeploymentMeta| missing_of(meta, Endpoint::Messages, &["top_k"]).is_some();
    assert!(lacks(&at("api.openai.com")) && lacks(&at("api.mistral.ai")) && lacks(&meta(Provider::Azure)));
    assert!(
        !lacks(&at("vllm.test:8000"))
            && !lacks(&meta(Provider::Gemini))
            && !lacks(&meta(Provider::Anthropic))
    );
    // What passes untranslated is the provider's to refuse.
    assert_eq!(missing_of(&at("api.openai.com"), Endpoint::ChatCompletions, &["top_k"]), None);
    assert_eq!(missing_of(&meta(Provider::Anthropic), Endpoint::Completions, &["echo"]), None);
}

#[test]
fn models_that_cannot_think_or_call_tools() {
    let mut gemini = meta(Provider::Gemini);
    assert_eq!(missing_of(&gemini, Endpoint::ChatCompletions, &["reasoning_effort", "tools"]), None);
    gemini.caps.supports.insert("reasoning".into(), false);
    let lacks = missing_of(&gemini, Endpoint::ChatCompletions, &["tools", "reasoning_effort"]);
    assert_eq!(lacks.as_deref(), Some("reasoning_effort"));
}

#[test]
fn the_error_names_parameter_and_model() {
    let error = unsupported("n", "claude");
    assert_eq!((error.status, error.param.as_deref()), (400, Some("n")));
    assert!(error.message.contains("'claude'") && error.message.contains("'n'"));
}

#[test]
fn what_only_some_models_of_bedrock_have() {
    let mut bedrock = meta(Provider::Bedrock);
    let needs = ["parallel_tool_calls", "content.input_audio"];
    let chat = Endpoint::ChatCompletions;
    assert_eq!(missing_of(&bedrock, chat, &needs).as_deref(), Some("parallel_tool_calls"));
    bedrock.caps.supports.insert("parallel_tool_use_config".into(), true);
    assert_eq!(missing_of(&bedrock, chat, &needs).as_deref(), Some("content.input_audio"));
    bedrock.caps.supports.insert("audio_input".into(), true);
    assert_eq!(missing_of(&bedrock, chat, &needs), None);
}
