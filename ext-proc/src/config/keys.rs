//! The key table: every key of the file, once. The loader checks against it and `docs/configuration.md` is made
//! from it. The typed side is `types.rs`. `known` are names separated by white space.

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
            "The model group: what clients ask for. Entries of one name share its traffic.",
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
            "`<provider>/<model>`. Without a provider's prefix: OpenAI's, or whatever `api_base` serves.",
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
            "Requests per minute; the weight when no deployment of the group has one.",
        ),
        key(
            "tpm",
            Kind::Positive,
            "",
            "Tokens per minute; the weight when the group has neither weights nor rpm.",
        ),
        key("weight", Kind::Count, "", "Share of the group's traffic; 0 only when all others are gone."),
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
        litellm_credential_name itpm otpm tpd rpd daily_reset_time order max_parallel_requests
        max_retries num_retries tags tag_regex max_budget budget_duration default_api_key_tpm_limit
        default_api_key_rpm_limit drop_params additional_drop_params allowed_openai_params
        mock_response configurable_clientside_auth_params use_in_pass_through use_litellm_proxy
        use_chat_completions_api merge_reasoning_content_in_choices keepalive_seconds
        allow_client_keepalive_override extra_body tenant_id client_id client_secret azure_* vertex_*
        aws_* watsonx_* gcs_* s3_* region_name allowed_model_region auto_router_* complexity_router_*
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
        key("max_input_tokens", Kind::Positive, "the price table's", "Shown by `/v1/model/info`."),
        key("max_output_tokens", Kind::Positive, "the price table's", "Shown by `/v1/model/info`."),
        key("blocked", Kind::Bool, "false", "Takes the deployment out of service."),
        key("input_cost_per_token", Kind::Price, "", "As in `litellm_params`, which wins."),
        key("output_cost_per_token", Kind::Price, "", "As in `litellm_params`, which wins."),
        key("cache_read_input_token_cost", Kind::Price, "", "As in `litellm_params`, which wins."),
        key("cache_creation_input_token_cost", Kind::Price, "", "As in `litellm_params`, which wins."),
    ],
    known: "
        access_groups team_id team_public_model_name tier discoverable supported_environments
        access_windows disable_background_health_check health_check_* supports_* allowed_fails_policy
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
        use_spend_logs_partitioning accounting_* coordination_redis background_health_checks
        health_check_* use_shared_health_check enable_health_check_routing background_health_check_*
        allow_public_health_readiness_details alerting alerting_* alert_types alert_to_webhook_url
        spend_report_frequency infer_model_from_keys completion_model always_include_stream_usage
        include_call_id_in_error_body forward_client_headers_to_llm_api forward_openai_org_id
        model_list_healthy_only return_wildcard_routes missing_session_id key_management_system
        key_management_settings store_model_in_db supported_db_objects
        proxy_config_reload_interval_seconds custom_sso custom_ui_sso_sign_in_handler ui_access_mode
        proxy_base_url otel custom_key_generate default_team_disabled service_account_settings
        image_generation_model moderation_model embedding_model max_batch_* store_*
    ",
};

pub(super) static ROUTER: Section = Section {
    title: "`router_settings`",
    keys: &[
        key(
            "routing_strategy",
            Kind::Text,
            "simple-shuffle",
            "`simple-shuffle` is weighted random. The other strategies of LiteLLM are accepted with a warning and route like it.",
        ),
        key(
            "redis_url",
            Kind::Secret,
            "",
            "`redis://[user:password@]host:port/db`; before the three keys below.",
        ),
        key("redis_host", Kind::Text, "counters in process", "Shares limits and cooldowns between replicas."),
        key("redis_port", Kind::Port, "6379", ""),
        key("redis_password", Kind::Secret, "", ""),
        key("num_retries", Kind::Count, "2", "Further attempts in the group after the first."),
        key("max_fallbacks", Kind::Count, "5", "Groups tried after the first."),
        key("timeout", Kind::Seconds, "600", "One attempt. The next one of the plan follows."),
        key("stream_timeout", Kind::Seconds, "", "To the first event of a stream, per attempt."),
        key(
            "fallbacks",
            Kind::Fallbacks,
            "empty",
            "Groups to go on with when a group fails, in order; `*` stands for every group.",
        ),
        key("default_fallbacks", Kind::TextList, "empty", "After the fallbacks of the group itself."),
        key("model_group_alias", Kind::Aliases, "empty", "Other names for groups."),
        key("allowed_fails", Kind::Count, "3", "Failures of a deployment tolerated within `cooldown_time`."),
        key(
            "cooldown_time",
            Kind::SecondsOrZero,
            "5",
            "How long a failing deployment is left out; 0 switches cooldowns off.",
        ),
        key("disable_cooldowns", Kind::Bool, "false", ""),
    ],
    known: "
        routing_strategy_args routing_groups cache_kwargs cache_responses caching_groups client_ttl
        default_litellm_params default_max_parallel_requests context_window_fallbacks
        content_policy_fallbacks enable_pre_call_checks enable_tag_filtering tag_filtering_match_any
        tag_routing_prefix retry_after retry_policy model_group_retry_policy allowed_fails_policy
        fallback_on_unsupported_params optional_pre_call_checks provider_budget_config alerting_config
        deployment_affinity_ttl_seconds model_group_affinity_config ignore_invalid_deployments
        enable_weighted_failover enable_mid_stream_fallback_continuation polling_interval
        default_priority max_retries set_verbose debug_level redis_db redis_ssl redis_username
        assistants_config guardrail_list search_tools router_general_settings max_budget
    ",
};

pub(super) static LITELLM: Section = Section {
    title: "`litellm_settings`",
    keys: &[
        key("num_retries", Kind::Count, "", "As `router_settings.num_retries`, which wins."),
        key("request_timeout", Kind::Seconds, "", "As `router_settings.timeout`, which wins."),
        key(
            "fallbacks",
            Kind::Fallbacks,
            "empty",
            "As `router_settings.fallbacks`, which wins for a group that both name.",
        ),
        key(
            "default_fallbacks",
            Kind::TextList,
            "empty",
            "As `router_settings.default_fallbacks`, which wins.",
        ),
        key("allowed_fails", Kind::Count, "", "As `router_settings.allowed_fails`, which wins."),
    ],
    known: "
        drop_params modify_params set_verbose json_logs cache cache_params callbacks success_callback
        failure_callback service_callback audit_log_callbacks turn_off_message_logging
        redact_user_api_key_info store_audit_logs context_window_fallbacks content_policy_fallbacks
        max_budget budget_duration budget_exceeded_status_code budget_exceeded_throttle_percentage
        default_soft_budget max_internal_user_budget internal_user_budget_duration max_end_user_budget
        max_end_user_budget_id budget_rollover budget_reset_time timezone tag_budget_config
        default_team_settings default_team_params default_key_generate_params
        upperbound_key_generate_params key_generation_settings default_internal_user_params
        key_alias_pattern model_group_settings priority_reservation priority_reservation_settings
        cost_discount_config cost_margin_config block_requests_for_models_without_pricing
        include_cost_in_streaming_usage expose_router_debug_in_errors redact_messages_in_exceptions
        extra_spend_tag_headers disable_end_user_cost_tracking* custom_prometheus_* prometheus_*
        require_auth_for_metrics_endpoint ssl_verify ssl_* force_ipv4 disable_aiohttp_transport http2
        force_redis_hash_tag_grouping sse_keepalive_ping_interval_seconds
        anthropic_sse_ping_interval_seconds enable_caching_on_provider_specific_optional_params
        telemetry log_raw_request_response model_alias_map langfuse_* langsmith_* datadog_*
        s3_callback_params global_disable_no_log_param public_model_groups* post_call_rules
        pre_call_rules input_callback enable_json_schema_validation cooldown_time mcp_*
        check_provider_endpoint enable_preview_features return_response_headers guardrails
        custom_provider_map retry default_in_memory_ttl default_redis_ttl
        default_redis_batch_cache_expiry user_url_* forward_traceparent_to_llm_provider modify_*
        suppress_debug_info ui_theme_config
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
            "Accepted; a deployment that is cooling down or not yet live in Envoy is never planned.",
        ),
    ],
    known: "",
};

/// All sections, in the order of the reference.
pub(super) static SECTIONS: [&Section; 8] =
    [&ROOT, &MODEL, &PARAMS, &INFO, &GENERAL, &ROUTER, &LITELLM, &FEATURES];

/// Where else a key is known, for suggestions.
pub(super) fn elsewhere(name: &str, here: &Section) -> Option<&'static Section> {
    let has = |section: &Section| section.keys.iter().any(|key: &Key| key.name == name);
    SECTIONS.iter().copied().find(|section| section.title != here.title && has(section))
}
