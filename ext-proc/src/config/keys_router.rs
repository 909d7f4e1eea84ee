//! The key table of `router_settings` and what it has within, and of `litellm_settings`.

use super::choices;
use super::schema::{Kind, Section, key, required};

pub(super) static ROUTER: Section = Section {
    title: "`router_settings`",
    keys: &[
        key(
            "routing_strategy",
            Kind::Choice(choices::STRATEGIES),
            "simple-shuffle",
            "How a deployment of the group is chosen: `simple-shuffle` (weighted random), `usage-based-routing-v2` (fewest tokens this minute), `least-busy` (fewest requests in flight), `latency-based-routing`, `cost-based-routing`. `usage-based-routing` is the second, `provider-budget-routing` the first.",
        ),
        key(
            "routing_strategy_args",
            Kind::Section(&STRATEGY_ARGS),
            "",
            "Arguments of `latency-based-routing`.",
        ),
        key(
            "routing_groups",
            Kind::Sections(&ROUTING_GROUP),
            "empty",
            "Model groups with a strategy of their own.",
        ),
        key("redis_url", Kind::Secret, "", "`redis://[user:password@]host:port/db`; before the keys below."),
        key("redis_host", Kind::Text, "counters in process", "Shares limits and cooldowns between replicas."),
        key("redis_port", Kind::Port, "6379", ""),
        key("redis_username", Kind::Text, "", ""),
        key("redis_password", Kind::Secret, "", ""),
        key("redis_db", Kind::Count, "0", "Number of the database."),
        key(
            "redis_deadline_ms",
            Kind::Positive,
            "20",
            "Attaché's own: milliseconds that a request waits for Redis before this process decides alone.",
        ),
        key("num_retries", Kind::Count, "2", "Further attempts in the group after the first."),
        key(
            "retry_policy",
            Kind::Section(&RETRIES),
            "",
            "Further attempts in the group per error class, over `num_retries`.",
        ),
        key(
            "model_group_retry_policy",
            Kind::SectionMap(&RETRIES),
            "empty",
            "The same per model group, over `retry_policy`.",
        ),
        key(
            "retry_after",
            Kind::SecondsOrZero,
            "0",
            "Shortest wait, seconds, before the same deployment is asked again.",
        ),
        key("max_fallbacks", Kind::Count, "5", "Groups tried after the first."),
        key("timeout", Kind::Seconds, "600", "One attempt. The next one of the plan follows."),
        key("stream_timeout", Kind::Seconds, "", "To the first event of a stream, per attempt."),
        key(
            "fallbacks",
            Kind::Fallbacks,
            "empty",
            "Groups to go on with when a group fails, in order; `*` stands for every group. A target may also be an alias, a name that a pattern serves, or a deployment's id.",
        ),
        key("default_fallbacks", Kind::TextList, "empty", "After the fallbacks of the group itself."),
        key(
            "context_window_fallbacks",
            Kind::Fallbacks,
            "`fallbacks` serve",
            "The same for prompts that are too long. If there is such a list, `fallbacks` are not used for them.",
        ),
        key(
            "content_policy_fallbacks",
            Kind::Fallbacks,
            "`fallbacks` serve",
            "The same for what the provider's content policy refuses.",
        ),
        key("model_group_alias", Kind::Aliases, "empty", "Other names for groups."),
        key(
            "allowed_fails",
            Kind::Count,
            "the default rules",
            "Failures of a deployment tolerated within `cooldown_time`. When it is not set: docs/routing.md, Cooldowns.",
        ),
        key(
            "allowed_fails_policy",
            Kind::Section(&ALLOWED_FAILS),
            "",
            "The same per error class, over `allowed_fails`.",
        ),
        key(
            "cooldown_time",
            Kind::SecondsOrZero,
            "5",
            "How long a failing deployment is left out; 0 switches cooldowns off.",
        ),
        key("disable_cooldowns", Kind::Bool, "false", ""),
        key(
            "enable_pre_call_checks",
            Kind::Bool,
            "false",
            "Leaves out deployments whose `max_input_tokens` the prompt exceeds, or of another region than asked for.",
        ),
        key(
            "optional_pre_call_checks",
            Kind::Choices(choices::PRE_CALL_CHECKS, choices::OTHER_CHECKS),
            "empty",
            "`enforce_model_rate_limits`: rpm and tpm are limits under `simple-shuffle` too. `session_affinity`, `prompt_caching`: a session stays on its deployment. `deployment_affinity`: so does a caller without a session. `router_budget_limiting`: no effect, budgets always hold.",
        ),
        key(
            "enable_tag_filtering",
            Kind::Bool,
            "false",
            "Only deployments with the tags of the request serve it.",
        ),
        key(
            "tag_filtering_match_any",
            Kind::Bool,
            "true",
            "One of the request's tags is enough; false: all of them.",
        ),
        key(
            "provider_budget_config",
            Kind::SectionMap(&PROVIDER_BUDGET),
            "empty",
            "Provider (prefix of `litellm_params.model`) to budget.",
        ),
        key(
            "default_max_parallel_requests",
            Kind::Positive,
            "",
            "`max_parallel_requests` of deployments that have none.",
        ),
    ],
    known: "
        cache_kwargs cache_responses caching_groups client_ttl default_litellm_params
        tag_routing_prefix fallback_on_unsupported_params alerting_config
        deployment_affinity_ttl_seconds model_group_affinity_config ignore_invalid_deployments
        enable_weighted_failover enable_mid_stream_fallback_continuation polling_interval
        default_priority max_retries set_verbose debug_level redis_ssl
        assistants_config guardrail_list search_tools router_general_settings max_budget
    ",
};

pub(super) static STRATEGY_ARGS: Section = Section {
    title: "`router_settings.routing_strategy_args`",
    keys: &[
        key("ttl", Kind::Seconds, "3600", "How long samples count after the last one."),
        key(
            "lowest_latency_buffer",
            Kind::Fraction,
            "0",
            "Deployments within `lowest * (1 + buffer)` share the traffic.",
        ),
        key("max_latency_list_size", Kind::Positive, "10", "Samples kept per deployment."),
    ],
    known: "ttft_percentile rpm tpm",
};

pub(super) static ROUTING_GROUP: Section = Section {
    title: "`router_settings.routing_groups[]`",
    keys: &[
        required("group_name", Kind::Text, "For people; clients cannot ask for it."),
        required("models", Kind::TextList, "Names of model groups; each in one entry at most."),
        required("routing_strategy", Kind::Choice(choices::STRATEGIES), "Theirs instead of the router's."),
        key("routing_strategy_args", Kind::Section(&STRATEGY_ARGS), "the defaults", "Of this strategy."),
    ],
    known: "",
};

pub(super) static RETRIES: Section = Section {
    title: "`router_settings.retry_policy`, `model_group_retry_policy.<group>`",
    keys: &[
        key("BadRequestErrorRetries", Kind::Count, "0", "400, 413, 422."),
        key("AuthenticationErrorRetries", Kind::Count, "`DefaultRetries`", "401, 403."),
        key("NotFoundErrorRetries", Kind::Count, "`DefaultRetries`", "404."),
        key("TimeoutErrorRetries", Kind::Count, "`DefaultRetries`", "408, 504, and no answer in time."),
        key("RateLimitErrorRetries", Kind::Count, "`DefaultRetries`", "425, 429."),
        key(
            "ContentPolicyViolationErrorRetries",
            Kind::Count,
            "0",
            "Refused by the provider's content policy.",
        ),
        key(
            "InternalServerErrorRetries",
            Kind::Count,
            "`DefaultRetries`",
            "500 and what other 5xx do not say.",
        ),
        key(
            "ServiceUnavailableErrorRetries",
            Kind::Count,
            "`DefaultRetries`",
            "502, 503, 529, refused and reset connections.",
        ),
        key("DefaultRetries", Kind::Count, "`num_retries`", "Classes that are not named."),
    ],
    known: "",
};

pub(super) static ALLOWED_FAILS: Section = Section {
    title: "`router_settings.allowed_fails_policy`, `model_info.allowed_fails_policy`",
    keys: &[
        key("AuthenticationErrorAllowedFails", Kind::Count, "`allowed_fails`", "401, 403."),
        key("NotFoundErrorAllowedFails", Kind::Count, "`allowed_fails`", "404."),
        key("TimeoutErrorAllowedFails", Kind::Count, "`allowed_fails`", "408, 504, and no answer in time."),
        key("RateLimitErrorAllowedFails", Kind::Count, "`allowed_fails`", "425, 429."),
        key("InternalServerErrorAllowedFails", Kind::Count, "`allowed_fails`", "500 and other 5xx."),
        key(
            "ServiceUnavailableErrorAllowedFails",
            Kind::Count,
            "`allowed_fails`",
            "502, 503, 529, refused and reset connections.",
        ),
    ],
    // Failures that are the request's own fault take no deployment out of service.
    known: "BadRequestErrorAllowedFails ContentPolicyViolationErrorAllowedFails",
};

pub(super) static PROVIDER_BUDGET: Section = Section {
    title: "`router_settings.provider_budget_config.<provider>`",
    keys: &[
        key("budget_limit", Kind::Amount, "", "Dollars per window. This or `max_budget` is required."),
        key("max_budget", Kind::Amount, "", "LiteLLM's other name for `budget_limit`."),
        key(
            "time_period",
            Kind::Period,
            "",
            "Window: `30s`, `15m`, `1h`, `1d`, `1w`, `1mo` (30 days). This or `budget_duration` is required.",
        ),
        key("budget_duration", Kind::Period, "", "LiteLLM's other name for `time_period`."),
    ],
    known: "tpm_limit rpm_limit",
};

pub(super) static ALIAS: Section = Section {
    title: "`router_settings.model_group_alias.<alias>`",
    keys: &[
        required("model", Kind::Text, "The group."),
        key("hidden", Kind::Bool, "false", "`/v1/models` does not list the alias."),
    ],
    known: "",
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
        key("context_window_fallbacks", Kind::Fallbacks, "", "As in `router_settings`, which wins."),
        key("content_policy_fallbacks", Kind::Fallbacks, "", "As in `router_settings`, which wins."),
        key("allowed_fails", Kind::Count, "", "As `router_settings.allowed_fails`, which wins."),
    ],
    known: "
        drop_params modify_params set_verbose json_logs cache cache_params callbacks success_callback
        failure_callback service_callback audit_log_callbacks turn_off_message_logging
        redact_user_api_key_info store_audit_logs
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
