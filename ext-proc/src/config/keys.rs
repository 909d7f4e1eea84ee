//! The key table: every key of the file, once. The loader checks against it and `docs/configuration.md` is made
//! from it. The typed side is `types.rs`. `known` are names separated by white space.

pub(super) use super::keys_general::{FEATURES, GENERAL, IDENTITY, IDENTITY_JWT, USER_HEADER};
pub(super) use super::keys_litellm::{LITELLM, TAG_BUDGET};
pub(super) use super::keys_router::{
    ALIAS, ALLOWED_FAILS, PROVIDER_BUDGET, RETRIES, ROUTER, ROUTING_GROUP, STRATEGY_ARGS,
};
use super::schema::{Key, Kind, Section, key, required};

pub(super) static ROOT: Section = Section {
    title: "Top level",
    keys: &[
        key("model_list", Kind::Sections(&MODEL), "empty", "The deployments."),
        key("general_settings", Kind::Section(&GENERAL), "", "Master key, database, limits of the gateway."),
        key("router_settings", Kind::Section(&ROUTER), "", "Fallbacks, retries, cooldowns, Redis."),
        key(
            "litellm_settings",
            Kind::Section(&LITELLM),
            "",
            "LiteLLM's module settings; `router_settings` wins.",
        ),
        key("features", Kind::Section(&FEATURES), "", "Switches of the container image."),
        key(
            "environment_variables",
            Kind::SecretMap,
            "empty",
            "Variables for placeholders and provider keys, over the process's own.",
        ),
        key(
            "include",
            Kind::TextList,
            "empty",
            "More files, relative to this one. Lists are joined, any other section is replaced whole.",
        ),
    ],
    known: "
        guardrails prompts callback_settings files_settings finetune_settings assistant_settings
        search_tools sandbox_tools default_vertex_config credential_list mcp_servers mcp_tools
        mcp_aliases vector_store_registry worker_registry
    ",
};

pub(super) static MODEL: Section = Section {
    title: "`model_list[]`",
    keys: &[
        required(
            "model_name",
            Kind::Text,
            "The model group: what clients ask for. Entries of one name share its traffic. `openai/*` is a pattern; the most specific one that matches serves names without a group of their own.",
        ),
        required("litellm_params", Kind::Section(&PARAMS), "How the provider is called."),
        key("model_info", Kind::Section(&INFO), "", "Metadata, never sent to the provider."),
        key("rpm", Kind::Positive, "", "As `litellm_params.rpm`, and before it."),
        key("tpm", Kind::Positive, "", "As `litellm_params.tpm`, and before it."),
        key("blocked", Kind::Bool, "false", "Takes the deployment out of service."),
    ],
    known: "",
};

pub(super) static PARAMS: Section = Section {
    title: "`model_list[].litellm_params`",
    keys: &[
        required(
            "model",
            Kind::Text,
            "`<provider>/<model>`. Without a provider's prefix: OpenAI's, or whatever `api_base` serves. `*` takes what the `*` of `model_name` stood for.",
        ),
        key(
            "custom_llm_provider",
            Kind::Text,
            "",
            "The provider when `model` has no prefix; `model` is then sent whole.",
        ),
        key(
            "api_key",
            Kind::Secret,
            "the provider's variable",
            "Reaches Envoy over SDS only, never metadata, logs or stats.",
        ),
        key(
            "api_base",
            Kind::Text,
            "the provider's",
            "`http(s)://host[:port][/path]`, usually ending in `/v1`.",
        ),
        key(
            "api_version",
            Kind::Text,
            "`AZURE_API_VERSION`, else 2025-02-01-preview",
            "Azure's `api-version`.",
        ),
        key("organization", Kind::Text, "", "Sent as `OpenAI-Organization`."),
        key("base_model", Kind::Text, "", "As `model_info.base_model`."),
        key(
            "rpm",
            Kind::Positive,
            "",
            "Requests per minute. Under `simple-shuffle` the weight when no deployment of the group has one, and no limit unless `enforce_model_rate_limits`.",
        ),
        key(
            "tpm",
            Kind::Positive,
            "",
            "Tokens per minute. Under `simple-shuffle` the weight when the group has neither weights nor rpm, and no limit unless `enforce_model_rate_limits`.",
        ),
        key("weight", Kind::Count, "", "Share of the group's traffic; 0 only when all others are gone."),
        key(
            "order",
            Kind::Count,
            "last",
            "Tier: the lowest order is tried first, the next ones before any fallback.",
        ),
        key(
            "max_parallel_requests",
            Kind::Positive,
            "`default_max_parallel_requests`",
            "Requests in flight at this deployment, over all replicas. Always enforced.",
        ),
        key(
            "max_budget",
            Kind::Amount,
            "",
            "Dollars per `budget_duration`; then it is left out until the window ends.",
        ),
        key(
            "budget_duration",
            Kind::Period,
            "",
            "Window of `max_budget`: `30s`, `15m`, `1h`, `1d`, `1w`, `1mo`.",
        ),
        key(
            "tags",
            Kind::TextList,
            "empty",
            "For `enable_tag_filtering`; `default` serves requests without tags.",
        ),
        key("region_name", Kind::Text, "", "For the region check of `enable_pre_call_checks`."),
        key(
            "num_retries",
            Kind::Count,
            "the group's",
            "Further attempts in the group when this deployment was tried first.",
        ),
        key("max_retries", Kind::Count, "", "As `num_retries`, which wins."),
        key(
            "mirror",
            Kind::Text,
            "",
            "Attaché's own: a model group that gets a copy of the traffic; its answers are thrown away, its cost is not.",
        ),
        key("timeout", Kind::Seconds, "the router's", "One attempt. The next one of the plan follows."),
        key("stream_timeout", Kind::Seconds, "the router's", "To the first event of a stream."),
        key("cooldown_time", Kind::SecondsOrZero, "the router's", "0: this deployment never cools down."),
        key(
            "extra_headers",
            Kind::TextMap,
            "empty",
            "Set on every request. One that carries a credential travels as one.",
        ),
        key("input_cost_per_token", Kind::Price, "the price table's", "Dollars per prompt token."),
        key("output_cost_per_token", Kind::Price, "the price table's", "Dollars per completion token."),
        key(
            "cache_read_input_token_cost",
            Kind::Price,
            "the price table's",
            "Dollars per prompt token read from the provider's cache.",
        ),
        key(
            "cache_creation_input_token_cost",
            Kind::Price,
            "the price table's",
            "Dollars per prompt token written to the provider's cache.",
        ),
    ],
    known: "
        litellm_credential_name itpm otpm tpd rpd daily_reset_time tag_regex default_api_key_tpm_limit
        default_api_key_rpm_limit drop_params additional_drop_params allowed_openai_params
        mock_response configurable_clientside_auth_params use_in_pass_through use_litellm_proxy
        use_chat_completions_api merge_reasoning_content_in_choices keepalive_seconds
        allow_client_keepalive_override extra_body tenant_id client_id client_secret azure_* vertex_*
        aws_* watsonx_* gcs_* s3_* allowed_model_region auto_router_* complexity_router_*
        adaptive_router_* quality_router_* request_timeout *_by_service_tier *cost_per* cache_*
        tiered_pricing off_peak_pricing search_context_cost_per_query model_info ssl_verify headers
        user stream temperature top_p top_k max_tokens max_completion_tokens n stop seed
        presence_penalty frequency_penalty reasoning_effort thinking response_format tools tool_choice
        parallel_tool_calls service_tier store metadata dimensions encoding_format input_type cache
        caching hf_model_name prompt_id roles initial_prompt_value final_prompt_value bos_token
        eos_token use_xai_oauth guardrails litellm_trace_id modify_params merge_message_content
        supports_system_message stream_options
    ",
};

pub(super) static INFO: Section = Section {
    title: "`model_list[].model_info`",
    keys: &[
        key(
            "id",
            Kind::Text,
            "hash of group and provider parameters",
            "Deployment id, `x-litellm-model-id`. Unique in the file.",
        ),
        key("mode", Kind::Text, "the price table's", "`chat`, `embedding`, `completion`, ..."),
        key("base_model", Kind::Text, "", "Name in the price table, for Azure deployments of any name."),
        key(
            "allowed_fails",
            Kind::Count,
            "the router's",
            "Failures tolerated before this deployment cools down.",
        ),
        key(
            "cooldown_time",
            Kind::SecondsOrZero,
            "the router's",
            "As `litellm_params.cooldown_time`, which wins.",
        ),
        key(
            "allowed_fails_policy",
            Kind::Section(&ALLOWED_FAILS),
            "the router's",
            "Failures tolerated, per error class.",
        ),
        key(
            "access_groups",
            Kind::TextList,
            "empty",
            "Names that a key's `models` may list to grant this group.",
        ),
        key("region", Kind::Text, "", "As `litellm_params.region_name`, which wins."),
        key(
            "max_input_tokens",
            Kind::Positive,
            "the price table's",
            "Longest prompt, for `enable_pre_call_checks`; shown by `/v1/model/info`.",
        ),
        key("max_output_tokens", Kind::Positive, "the price table's", "Shown by `/v1/model/info`."),
        key("blocked", Kind::Bool, "false", "Takes the deployment out of service."),
        key("input_cost_per_token", Kind::Price, "", "As in `litellm_params`, which wins."),
        key("output_cost_per_token", Kind::Price, "", "As in `litellm_params`, which wins."),
        key("cache_read_input_token_cost", Kind::Price, "", "As in `litellm_params`, which wins."),
        key("cache_creation_input_token_cost", Kind::Price, "", "As in `litellm_params`, which wins."),
    ],
    known: "
        team_id team_public_model_name tier discoverable supported_environments
        access_windows disable_background_health_check health_check_* supports_*
        enable_tag_filtering allow_fail_open max_embedding_batch_size ptu_* pricing_provider db_model
        created_* updated_* description version max_tokens rpm tpm litellm_provider *cost_per* cache_*
        tiered_pricing output_vector_size provider metadata
    ",
};

/// All sections, in the order of the reference.
pub(super) static SECTIONS: [&Section; 18] = [
    &ROOT,
    &MODEL,
    &PARAMS,
    &INFO,
    &GENERAL,
    &USER_HEADER,
    &ROUTER,
    &STRATEGY_ARGS,
    &ROUTING_GROUP,
    &RETRIES,
    &ALLOWED_FAILS,
    &PROVIDER_BUDGET,
    &ALIAS,
    &LITELLM,
    &TAG_BUDGET,
    &FEATURES,
    &IDENTITY,
    &IDENTITY_JWT,
];

/// Where else a key is known, for suggestions.
pub(super) fn elsewhere(name: &str, here: &Section) -> Option<&'static Section> {
    let has = |section: &Section| section.keys.iter().any(|key: &Key| key.name == name);
    SECTIONS.iter().copied().find(|section| section.title != here.title && has(section))
}
