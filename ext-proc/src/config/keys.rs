//! The key table: every key of the file, once. The loader checks against it and `docs/configuration.md` is made
//! from it. The typed side is `types.rs`. `known` are names separated by white space.

pub(super) use super::keys_general::{FEATURES, GENERAL, IDENTITY, IDENTITY_JWT, USER_HEADER};
pub(super) use super::keys_litellm::{LITELLM, TAG_BUDGET};
pub(super) use super::keys_router::{
    ALIAS, ALLOWED_FAILS, PROVIDER_BUDGET, REDIS, RETRIES, ROUTER, ROUTING_GROUP, STRATEGY_ARGS,
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
            "credential_list",
            Kind::Sections(&CREDENTIAL),
            "empty",
            "Credentials by name, for `litellm_credential_name`.",
        ),
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
        search_tools sandbox_tools default_vertex_config mcp_servers mcp_tools
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

pub(super) static CREDENTIAL: Section = Section {
    title: "`credential_list[]`",
    keys: &[
        required("credential_name", Kind::Text, "Its name."),
        required(
            "credential_values",
            Kind::Json,
            "Parameters of `litellm_params`: `api_key`, `api_base`, `vertex_credentials`, `aws_role_name`, ...",
        ),
        key("credential_info", Kind::Json, "", "Notes for people."),
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
        key(
            "litellm_credential_name",
            Kind::Text,
            "",
            "Entry of `credential_list` whose values stand in for parameters that are not given here.",
        ),
        key(
            "drop_params",
            Kind::Bool,
            "`litellm_settings.drop_params`",
            "Leave out parameters that the provider does not take, instead of refusing them.",
        ),
        key(
            "additional_drop_params",
            Kind::TextList,
            "empty",
            "Parameters that are left out whatever the provider takes.",
        ),
        key(
            "allowed_openai_params",
            Kind::TextList,
            "empty",
            "Parameters that are sent whatever is known of the provider.",
        ),
        key(
            "modify_params",
            Kind::Bool,
            "`litellm_settings.modify_params`",
            "Mend requests that the provider would refuse (`max_tokens` above its limit, tools that are missing).",
        ),
        key("extra_body", Kind::Json, "empty", "Members added to the provider's body, over the client's."),
        key("project", Kind::Text, "", "Sent as `OpenAI-Project`."),
        key("azure_ad_token", Kind::Secret, "`AZURE_AD_TOKEN`", "An Entra token, sent as it is."),
        key("tenant_id", Kind::Text, "`AZURE_TENANT_ID`", "Entra tenant of the application that calls Azure."),
        key("client_id", Kind::Text, "`AZURE_CLIENT_ID`", "Entra application."),
        key(
            "client_secret",
            Kind::Secret,
            "`AZURE_CLIENT_SECRET`",
            "Its secret; without one the token in `AZURE_FEDERATED_TOKEN_FILE` (workload identity).",
        ),
        key(
            "azure_scope",
            Kind::Text,
            "`AZURE_SCOPE`, else https://cognitiveservices.azure.com/.default",
            "What the Entra token is for. The authority is `AZURE_AUTHORITY_HOST`.",
        ),
        key("vertex_project", Kind::Text, "`VERTEXAI_PROJECT`, else the credentials'", "Google Cloud project."),
        key(
            "vertex_location",
            Kind::Text,
            "`VERTEXAI_LOCATION`, else us-central1",
            "Google Cloud location: a region, `global`, `us` or `eu`. A region for `enable_pre_call_checks`, too.",
        ),
        key(
            "vertex_credentials",
            Kind::SecretJson,
            "`GOOGLE_APPLICATION_CREDENTIALS`, else the metadata server",
            "Service account or authorized user: a path, JSON as text, or a map. Tokens are made and renewed by the sidecar.",
        ),
        key("vertex_ai_project", Kind::Text, "", "As `vertex_project`."),
        key("vertex_ai_location", Kind::Text, "", "As `vertex_location`."),
        key("vertex_ai_credentials", Kind::SecretJson, "", "As `vertex_credentials`."),
        key(
            "aws_region_name",
            Kind::Text,
            "the model's, `AWS_REGION_NAME`, `AWS_REGION`, else us-west-2",
            "AWS region. A region for `enable_pre_call_checks`, too.",
        ),
        key(
            "aws_access_key_id",
            Kind::Secret,
            "`AWS_ACCESS_KEY_ID`, else what Envoy finds",
            "Envoy signs with it. Without keys, role or profile Envoy's own environment counts (EC2, ECS, EKS).",
        ),
        key("aws_secret_access_key", Kind::Secret, "`AWS_SECRET_ACCESS_KEY`", "Belongs to it."),
        key("aws_session_token", Kind::Secret, "`AWS_SESSION_TOKEN`", "Belongs to it."),
        key("aws_profile_name", Kind::Text, "`AWS_PROFILE`", "Profile of the shared credentials file."),
        key(
            "aws_role_name",
            Kind::Text,
            "",
            "ARN of a role (of another account, too) that the sidecar assumes and renews.",
        ),
        key("aws_session_name", Kind::Text, "attache", "Name of the role's session."),
        key("aws_external_id", Kind::Text, "", "External id that the role asks for."),
        key(
            "aws_web_identity_token",
            Kind::Secret,
            "",
            "A token of an identity provider, or the absolute path of a file with one, to assume the role with.",
        ),
        key("aws_sts_endpoint", Kind::Text, "`AWS_ENDPOINT_URL_STS`, else the region's", "STS."),
        key(
            "aws_bedrock_runtime_endpoint",
            Kind::Text,
            "`AWS_BEDROCK_RUNTIME_ENDPOINT`, else the region's",
            "As `api_base`, which wins.",
        ),
        key(
            "*_cost_*",
            Kind::Rates,
            "the price table's",
            "Any price of LiteLLM's: `input_cost_per_token`, `cache_read_input_token_cost`, `output_cost_per_token_above_200k_tokens`, `input_cost_per_token_priority`, `search_context_cost_per_query`, `tiered_pricing`, ... The table's other prices stay (docs/spend.md).",
        ),
    ],
    known: "
        itpm otpm tpd rpd daily_reset_time tag_regex default_api_key_tpm_limit
        default_api_key_rpm_limit
        mock_response configurable_clientside_auth_params use_in_pass_through use_litellm_proxy
        use_chat_completions_api merge_reasoning_content_in_choices keepalive_seconds
        allow_client_keepalive_override azure_* vertex_*
        aws_* watsonx_* gcs_* s3_* allowed_model_region auto_router_* complexity_router_*
        adaptive_router_* quality_router_* request_timeout *_by_service_tier *_cost_per_pixel *_cost_per_page* *_above_12hr* *_decisions code_interpreter_cost_per_session
        google_maps_grounding_cost_per_query ocr_cost_per_credit guardrail_cost_per_unit
        input_cost_per_text_message *_dbu_cost_per_token cost_per_second *_interval
        explicit_cache_read_input_token_cost cache_creation_input_audio_token_cost
        output_cost_per_image_* output_cost_per_second_* file_search_cost_* vector_store_cost_*
        computer_use_* cache_control_*
        off_peak_pricing model_info ssl_verify headers
        user stream temperature top_p top_k max_tokens max_completion_tokens n stop seed
        presence_penalty frequency_penalty reasoning_effort thinking response_format tools tool_choice
        parallel_tool_calls service_tier store metadata dimensions encoding_format input_type cache
        caching hf_model_name prompt_id roles initial_prompt_value final_prompt_value bos_token
        eos_token use_xai_oauth guardrails litellm_trace_id merge_message_content
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
        key("*_cost_*", Kind::Rates, "", "Prices, as in `litellm_params`, which wins."),
        key(
            "supports_*",
            Kind::Supports,
            "the price table's",
            "What the model can do: `supports_reasoning`, `supports_vision`, ... (docs/providers.md).",
        ),
    ],
    known: "
        team_id team_public_model_name tier discoverable supported_environments
        access_windows disable_background_health_check health_check_*
        enable_tag_filtering allow_fail_open max_embedding_batch_size ptu_* pricing_provider db_model
        created_* updated_* description version max_tokens rpm tpm litellm_provider *_cost_per_pixel *_cost_per_page* *_above_12hr* *_decisions code_interpreter_cost_per_session
        google_maps_grounding_cost_per_query ocr_cost_per_credit guardrail_cost_per_unit
        input_cost_per_text_message *_dbu_cost_per_token cost_per_second *_interval
        explicit_cache_read_input_token_cost cache_creation_input_audio_token_cost
        output_cost_per_image_* output_cost_per_second_* file_search_cost_* vector_store_cost_*
        computer_use_* 
        off_peak_pricing output_vector_size provider metadata
    ",
};

/// All sections, in the order of the reference.
pub(super) static SECTIONS: [&Section; 20] = [
    &ROOT,
    &MODEL,
    &CREDENTIAL,
    &PARAMS,
    &INFO,
    &GENERAL,
    &USER_HEADER,
    &ROUTER,
    &REDIS,
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
