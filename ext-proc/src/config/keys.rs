//! The key table: every key of the file, once. The loader checks against it and `docs/configuration.md` is made
//! from it. The typed side is `types.rs`. `known` are names separated by white space.

use super::choices;
pub(super) use super::keys_router::{
    ALIAS, ALLOWED_FAILS, LITELLM, PROVIDER_BUDGET, RETRIES, ROUTER, ROUTING_GROUP, STRATEGY_ARGS,
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

pub(super) static GENERAL: Section = Section {
    title: "`general_settings`",
    keys: &[
        key(
            "master_key",
            Kind::Secret,
            "`LITELLM_MASTER_KEY`",
            "The key of the admin. Starts with `sk-`; publicly known values are refused.",
        ),
        key(
            "dangerously_permit_weak_or_unset_master_key",
            Kind::Bool,
            "false",
            "For local development only: accept a publicly known master key, or none.",
        ),
        key(
            "database_url",
            Kind::Secret,
            "`DATABASE_URL`, else SQLite in the data folder",
            "`postgres://user:password@host:port/name`.",
        ),
        key("database_connection_pool_limit", Kind::Positive, "10", "Connections to Postgres."),
        key("database_connection_timeout", Kind::Positive, "60", "Seconds to wait for one."),
        key(
            "proxy_batch_write_at",
            Kind::Positive,
            "10",
            "Seconds between two writes of the ledger. Spend is on disk before that.",
        ),
        key("litellm_key_header_name", Kind::Text, "", "One more header to read keys from."),
        key("max_request_size_mb", Kind::Amount, "32", "Largest request body, MiB. One byte more is a 413."),
        key(
            "background_health_checks",
            Kind::Bool,
            "false",
            "Probes every deployment each `health_check_interval` with a call that costs nothing (the list of models); `/health` shows the results.",
        ),
        key(
            "health_check_interval",
            Kind::Seconds,
            "300",
            "Seconds between two rounds of background probes.",
        ),
        key(
            "readiness_requires",
            Kind::Choices(choices::READINESS, &[]),
            "`[envoy]`",
            "Attaché's own: what `/health/readiness` waits for: `envoy` (it has taken the configuration), `database`, `redis`, `deployments` (at least one is usable).",
        ),
        key(
            "proxy_config_reload_interval_seconds",
            Kind::SecondsOrZero,
            "2",
            "How often the configuration's files are looked at for changes; 0: only on SIGHUP.",
        ),
    ],
    known: "
        allowed_routes public_routes admin_only_routes allowed_ips use_x_forwarded_for
        trusted_proxy_ranges custom_auth custom_auth_* enable_jwt_auth litellm_jwtauth enable_oauth2_*
        enforce_rbac role_permissions enforce_user_param enforced_params user_header_name
        user_header_mappings reject_clientside_metadata_tags disable_key_generate_for_org_admin
        disable_custom_api_keys disable_master_key_return self_serve_budget_policy
        allow_client_side_credentials pass_through_endpoints user_url_*
        dangerously_allow_mock_testing_request_params max_parallel_requests
        global_max_parallel_requests max_in_flight_requests_per_worker max_queued_requests_per_worker
        admission_queue_timeout_seconds max_response_size_mb max_file_size_mb max_batch_file_*
        fail_closed_rate_limit_enforcement fail_closed_budget_enforcement disable_budget_reservation
        apply_user_budget_to_team_keys token_rate_limit_type allow_requests_on_db_unavailable
        cancel_on_disconnect enforce_fallback_model_access disable_fallbacks_on_per_model_rate_limits
        expose_fallback_errors_to_caller user_api_key_cache_ttl user_api_key_cache_max_size
        database_socket_timeout database_connect_timeout database_max_idle_connection_lifetime
        database_disable_prepared_statements database_extra_connection_params database_type
        database_args disable_prisma_schema_update proxy_budget_rescheduler_*
        use_redis_transaction_buffer disable_spend_logs disable_spend_updates disable_reset_budget
        disable_error_logs disable_adding_master_key_hash_to_db store_prompts_in_spend_logs
        spend_logs_metadata_fields disable_requester_ip_address_logging maximum_spend_logs_*
        use_spend_logs_partitioning accounting_* coordination_redis
        health_check_* use_shared_health_check enable_health_check_routing background_health_check_*
        allow_public_health_readiness_details alerting alerting_* alert_types alert_to_webhook_url
        spend_report_frequency infer_model_from_keys completion_model always_include_stream_usage
        include_call_id_in_error_body forward_client_headers_to_llm_api forward_openai_org_id
        model_list_healthy_only return_wildcard_routes missing_session_id key_management_system
        key_management_settings store_model_in_db supported_db_objects
        custom_sso custom_ui_sso_sign_in_handler ui_access_mode
        proxy_base_url otel custom_key_generate default_team_disabled service_account_settings
        image_generation_model moderation_model embedding_model max_batch_* store_*
    ",
};

pub(super) static FEATURES: Section = Section {
    title: "`features`",
    keys: &[
        key("separate_health_app", Kind::Bool, "", "Accepted; health always has a listener of its own."),
        key(
            "pre_call_health_checks",
            Kind::Bool,
            "",
            "Leaves out deployments whose last background probe failed. What is cooling down or not yet live in Envoy is left out in any case.",
        ),
    ],
    known: "",
};

/// All sections, in the order of the reference.
pub(super) static SECTIONS: [&Section; 14] = [
    &ROOT,
    &MODEL,
    &PARAMS,
    &INFO,
    &GENERAL,
    &ROUTER,
    &STRATEGY_ARGS,
    &ROUTING_GROUP,
    &RETRIES,
    &ALLOWED_FAILS,
    &PROVIDER_BUDGET,
    &ALIAS,
    &LITELLM,
    &FEATURES,
];

/// Where else a key is known, for suggestions.
pub(super) fn elsewhere(name: &str, here: &Section) -> Option<&'static Section> {
    let has = |section: &Section| section.keys.iter().any(|key: &Key| key.name == name);
    SECTIONS.iter().copied().find(|section| section.title != here.title && has(section))
}
