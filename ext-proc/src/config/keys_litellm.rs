//! The key table of `litellm_settings`.

use super::choices;
use super::keys_router::REDIS;
use super::schema::{Kind, Section, key};

pub(super) static LITELLM: Section = Section {
    title: "`litellm_settings`",
    keys: &[
        key(
            "drop_params",
            Kind::Bool,
            "false",
            "Leave out parameters that a provider does not take, instead of refusing them.",
        ),
        key("modify_params", Kind::Bool, "false", "Mend requests that a provider would refuse."),
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
        key(
            "store_audit_logs",
            Kind::Bool,
            "true",
            "Accepted: every change of the admin API is recorded in any case.",
        ),
        key(
            "turn_off_message_logging",
            Kind::Bool,
            "false",
            "Keeps no messages and answers, whatever `store_prompts_in_spend_logs` says.",
        ),
        key("max_budget", Kind::Price, "0", "Dollars that the whole gateway may spend; 0: no limit."),
        key(
            "budget_duration",
            Kind::Duration,
            "for ever",
            "Window of `max_budget`, such as `1d` or `30d` (docs/limits.md).",
        ),
        key(
            "budget_exceeded_status_code",
            Kind::Status(choices::BUDGET_STATUS),
            "429",
            "Status of a request that a budget refuses: 400, 422 or 429. (LiteLLM's default is 422.)",
        ),
        key(
            "timezone",
            Kind::Text,
            "UTC",
            "IANA name, such as `Europe/Berlin`: windows of days begin at its midnight.",
        ),
        key(
            "budget_reset_time",
            Kind::TimeOfDay,
            "00:00",
            "Time of day, `HH:MM`, at which windows of days begin instead.",
        ),
        key(
            "max_end_user_budget",
            Kind::Amount,
            "",
            "Dollars of every end user without a budget of its own.",
        ),
        key(
            "max_end_user_budget_id",
            Kind::Text,
            "",
            "Budget (`/budget/new`) of every end user without one: each has all of it. Before `max_end_user_budget`.",
        ),
        key(
            "max_internal_user_budget",
            Kind::Amount,
            "",
            "Dollars of every user without a budget of its own.",
        ),
        key(
            "internal_user_budget_duration",
            Kind::Duration,
            "for ever",
            "Window of `max_internal_user_budget`.",
        ),
        key(
            "tag_budget_config",
            Kind::SectionMap(&TAG_BUDGET),
            "empty",
            "Tag to budget, for tags without one of their own.",
        ),
        key(
            "cache_params",
            Kind::Section(&REDIS),
            "`REDIS_*`",
            "Nothing is cached yet; its Redis has the counters when none is named elsewhere.",
        ),
        key("default_soft_budget", Kind::Amount, "", "`soft_budget`, dollars, of new keys that name none."),
        key(
            "default_key_generate_params",
            Kind::Json,
            "empty",
            "Parameters of `/key/generate` that a call does not give.",
        ),
        key(
            "upperbound_key_generate_params",
            Kind::Json,
            "empty",
            "Largest values of parameters of `/key/generate`; what is not given gets them, what is larger is refused.",
        ),
        key(
            "key_generation_settings",
            Kind::Json,
            "empty",
            "Who may make keys: `team_key_generation`, `personal_key_generation`.",
        ),
        key(
            "default_internal_user_params",
            Kind::Json,
            "empty",
            "Parameters of `/user/new` that a call does not give.",
        ),
        key(
            "default_team_params",
            Kind::Json,
            "empty",
            "Parameters of `/team/new` that a call does not give.",
        ),
        key(
            "key_alias_pattern",
            Kind::Text,
            "",
            "Regular expression that the whole of every new `key_alias` must match.",
        ),
        key(
            "cost_discount_config",
            Kind::Discounts,
            "empty",
            "Share taken off what a provider's answers cost, such as `{openai: 0.05}`.",
        ),
        key(
            "cost_margin_config",
            Kind::Margins,
            "empty",
            "Added to what a provider's answers cost, after the discount: a share of it, and dollars per answer. `global` is for providers without one.",
        ),
        key(
            "block_requests_for_models_without_pricing",
            Kind::Bool,
            "false",
            "Deployments without a price serve nobody; a model group without any price is refused with 400.",
        ),
    ],
    known: "
        set_verbose json_logs cache callbacks success_callback
        failure_callback service_callback audit_log_callbacks
        redact_user_api_key_info 
           budget_exceeded_throttle_percentage
           
         budget_rollover   
        default_team_settings  
          
         model_group_settings priority_reservation priority_reservation_settings
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

pub(super) static TAG_BUDGET: Section = Section {
    title: "`litellm_settings.tag_budget_config.<tag>`",
    keys: &[
        key("max_budget", Kind::Amount, "", "Dollars per window. This or `budget_limit` is required."),
        key("budget_limit", Kind::Amount, "", "LiteLLM's other name for `max_budget`."),
        key("budget_duration", Kind::Duration, "for ever", "Window, such as `1d` or `30d`."),
        key("time_period", Kind::Duration, "", "LiteLLM's other name for `budget_duration`."),
    ],
    known: "soft_budget",
};
