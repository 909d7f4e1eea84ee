//! The key table of `router_settings` and what it has within.

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
        key("redis_db", Kind::Count, "0", "Number of the database; a cluster has 0 alone."),
        key("redis_ssl", Kind::Bool, "false", "TLS, as with `rediss://`."),
        key(
            "redis_ssl_ca_certs",
            Kind::Text,
            "the system's",
            "File (PEM) of the authorities that certificates are checked by.",
        ),
        key(
            "redis_startup_nodes",
            Kind::Nodes,
            "empty",
            "A Redis Cluster, by any of its nodes. LiteLLM's forms `{host, port}` and JSON text are taken too.",
        ),
        key(
            "redis_sentinel_nodes",
            Kind::Nodes,
            "empty",
            "Sentinels, of which one names the primary. LiteLLM's forms `[host, port]` and JSON text are taken too.",
        ),
        key("redis_service_name", Kind::Text, "", "What the sentinels call the primary, e.g. `mymaster`."),
        key("redis_sentinel_password", Kind::Secret, "", "Of the sentinels themselves."),
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
        default_priority max_retries set_verbose debug_level
        assistants_config guardrail_list search_tools router_general_settings max_budget
    ",
};

pub(super) static REDIS: Section = Section {
    title: "`general_settings.coordination_redis`, `litellm_settings.cache_params`",
    keys: &[
        key("type", Kind::Text, "redis", "Of `cache_params`. Other caches name no Redis."),
        key("url", Kind::Secret, "", "As `router_settings.redis_url`."),
        key("host", Kind::Text, "", "As `router_settings.redis_host`, and so on."),
        key("port", Kind::Port, "6379", ""),
        key("username", Kind::Text, "", ""),
        key("password", Kind::Secret, "", ""),
        key("db", Kind::Count, "0", ""),
        key("ssl", Kind::Bool, "false", ""),
        key("ssl_ca_certs", Kind::Text, "the system's", ""),
        key("startup_nodes", Kind::Nodes, "empty", ""),
        key("redis_startup_nodes", Kind::Nodes, "empty", "LiteLLM's name for `startup_nodes`."),
        key("sentinel_nodes", Kind::Nodes, "empty", ""),
        key("service_name", Kind::Text, "", ""),
        key("sentinel_password", Kind::Secret, "", ""),
    ],
    // Caching is not there yet.
    known: "
        namespace ttl default_in_memory_ttl default_in_redis_ttl supported_call_types mode
        max_connections redis_flush_size similarity_threshold redis_semantic_* qdrant_* valkey_*
        s3_* gcs_* azure_* gcp_* disk_cache_dir ssl_* socket_* retry_on_timeout decode_responses
        health_check_interval
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
