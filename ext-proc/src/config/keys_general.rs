//! The key table of `general_settings` and `features`.

use super::choices;
use super::keys_router::REDIS;
use super::schema::{Kind, Section, key, required};

pub(super) static GENERAL: Section = Section {
    title: "`general_settings`",
    keys: &[
        key(
            "master_key",
            Kind::Secret,
            "`LITELLM_MASTER_KEY`",
            "The key of the admin. Starts with `sk-`; fewer than 16 characters and publicly known values are refused.",
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
        key(
            "coordination_redis",
            Kind::Section(&REDIS),
            "`router_settings.redis_*`",
            "Shares limits and cooldowns between replicas; before every other Redis that is named.",
        ),
        key("database_connection_pool_limit", Kind::Positive, "10", "Connections to Postgres."),
        key("database_connection_timeout", Kind::Positive, "60", "Seconds to wait for one."),
        key(
            "proxy_batch_write_at",
            Kind::Positive,
            "10",
            "Seconds between two writes of the ledger; sooner when many rows wait. Spend is on disk before that.",
        ),
        key(
            "use_redis_transaction_buffer",
            Kind::Bool,
            "false",
            "Rows wait for the database in a stream in Redis, from which every replica writes, instead of in a file of the replica. Needs Redis 6.2 with `appendonly yes` (docs/spend.md).",
        ),
        key(
            "maximum_spend_logs_retention_period",
            Kind::PeriodOrOff,
            "`90d`",
            "Rows of the ledger are deleted when their whole day (UTC) is older; `off` keeps them for ever. Sums per day stay, and so does what budgets need.",
        ),
        key("maximum_spend_logs_retention_interval", Kind::Period, "`1d`", "How often that is looked at."),
        key(
            "store_prompts_in_spend_logs",
            Kind::Bool,
            "false",
            "Keeps messages and answers, the first 64 KiB of each, beside the ledger; `/spend/logs` shows them. A request with `no-log: true` is left out. Part of Envoy's bootstrap (docs/spend.md).",
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
        key(
            "token_rate_limit_type",
            Kind::Choice(choices::TOKENS),
            "total",
            "Which tokens `tpm_limit` and `tpd_limit` of keys, teams and users count: `total`, `input` or `output`.",
        ),
        key(
            "max_parallel_requests",
            Kind::Positive,
            "",
            "Requests in flight of every key that has no `max_parallel_requests` of its own.",
        ),
        key(
            "global_max_parallel_requests",
            Kind::Positive,
            "",
            "Requests in flight in the whole gateway, over all replicas that share counters.",
        ),
        key(
            "fail_closed_rate_limit_enforcement",
            Kind::Bool,
            "false",
            "503 while the counters in Redis cannot be reached; else every replica counts alone meanwhile.",
        ),
        key(
            "fail_closed_budget_enforcement",
            Kind::Bool,
            "false",
            "503 while the spend behind a budget cannot be read.",
        ),
        key(
            "disable_budget_reservation",
            Kind::Bool,
            "false",
            "Reserves nothing for budgets: they are checked against what is settled, and requests in flight may go over them.",
        ),
        key(
            "apply_user_budget_to_team_keys",
            Kind::Bool,
            "false",
            "The budget of a key's owner holds for team keys too.",
        ),
        key("enforce_user_param", Kind::Bool, "false", "400 for a request that names no end user."),
        key(
            "user_header_name",
            Kind::Text,
            "",
            "One more header to read the end user from, before the body's `user`.",
        ),
        key(
            "user_header_mappings",
            Kind::Sections(&USER_HEADER),
            "empty",
            "LiteLLM's other form of `user_header_name`.",
        ),
        key(
            "moderation_model",
            Kind::Text,
            "",
            "Model group for moderations that name no model. (In LiteLLM it replaces the model of all of them.)",
        ),
        key(
            "files_model",
            Kind::Text,
            "",
            "Attaché's own: model group whose account serves files, batches and stored responses that name no model (docs/endpoints.md).",
        ),
        key(
            "decision_leases",
            Kind::Bool,
            "true",
            "Attaché's own: requests of a busy key may be decided a few at a time, ahead (docs/limits.md).",
        ),
        key(
            "disable_custom_api_keys",
            Kind::Bool,
            "false",
            "`/key/generate` makes every key itself and refuses one that the caller chose.",
        ),
        key(
            "disable_auto_add_proxy_admin_to_teams",
            Kind::Bool,
            "false",
            "A proxy admin who makes a team does not become its admin.",
        ),
        key(
            "store_model_in_db",
            Kind::Bool,
            "false",
            "Models of the database, copied there by `attache import litellm`, are served beside those of the file. STORE_MODEL_IN_DB=true does the same.",
        ),
        key(
            "store_audit_logs",
            Kind::Bool,
            "true",
            "Accepted as in `litellm_settings`: every change of the admin API is recorded in any case.",
        ),
        key(
            "allow_requests_on_db_unavailable",
            Kind::Bool,
            "false",
            "Accepted, with a warning for `true`: keys known to a gate or sidecar go on without the database in any case, unknown ones get 503, and nothing makes them pass.",
        ),
    ],
    known: "
        allowed_routes public_routes admin_only_routes allowed_ips use_x_forwarded_for
        trusted_proxy_ranges custom_auth custom_auth_* enable_jwt_auth litellm_jwtauth enable_oauth2_*
        enforce_rbac role_permissions  enforced_params 
         reject_clientside_metadata_tags disable_key_generate_for_org_admin
         disable_master_key_return self_serve_budget_policy
        allow_client_side_credentials pass_through_endpoints user_url_*
        dangerously_allow_mock_testing_request_params 
         max_in_flight_requests_per_worker max_queued_requests_per_worker
        admission_queue_timeout_seconds max_response_size_mb max_file_size_mb max_batch_file_*
          
          
        cancel_on_disconnect enforce_fallback_model_access disable_fallbacks_on_per_model_rate_limits
        expose_fallback_errors_to_caller user_api_key_cache_ttl user_api_key_cache_max_size
        database_socket_timeout database_connect_timeout database_max_idle_connection_lifetime
        database_disable_prepared_statements database_extra_connection_params database_type
        database_args disable_prisma_schema_update proxy_budget_rescheduler_*
        disable_spend_logs disable_spend_updates disable_reset_budget
        disable_error_logs disable_adding_master_key_hash_to_db
        spend_logs_metadata_fields disable_requester_ip_address_logging maximum_spend_logs_cleanup_cron
        maximum_spend_logs_size*
        use_spend_logs_partitioning accounting_*
        health_check_* use_shared_health_check enable_health_check_routing background_health_check_*
        allow_public_health_readiness_details alerting alerting_* alert_types alert_to_webhook_url
        spend_report_frequency infer_model_from_keys completion_model always_include_stream_usage
        include_call_id_in_error_body forward_client_headers_to_llm_api forward_openai_org_id
        model_list_healthy_only return_wildcard_routes missing_session_id key_management_system
        key_management_settings  supported_db_objects
        custom_sso custom_ui_sso_sign_in_handler ui_access_mode
        proxy_base_url otel custom_key_generate default_team_disabled service_account_settings
        image_generation_model embedding_model max_batch_* store_*
    ",
};

/// `general_settings.user_header_mappings[]`.
pub(super) static USER_HEADER: Section = Section {
    title: "`general_settings.user_header_mappings[]`",
    keys: &[
        required("header_name", Kind::Text, "Name of the header."),
        required(
            "litellm_user_role",
            Kind::Choice(choices::USER_HEADER_ROLES),
            "`customer`: it names the end user. `internal_user` is accepted without effect: the key says who its owner is.",
        ),
    ],
    known: "",
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
        key(
            "budget_mode",
            Kind::Choice(choices::BUDGET_MODES),
            "enforce",
            "Attaché's own: with `audit` budgets refuse nothing; what they would have refused is counted. Rate limits hold.",
        ),
        key(
            "identities",
            Kind::Sections(&IDENTITY),
            "empty",
            "Attaché's own: workloads that need no key, because Envoy has verified who they are. The first entry that matches holds.",
        ),
    ],
    known: "",
};

pub(super) static IDENTITY: Section = Section {
    title: "`features.identities[]`",
    keys: &[
        required("name", Kind::Text, "Shown in logs and errors in place of a key's name. Unique."),
        key(
            "spiffe",
            Kind::Text,
            "",
            "`spiffe://` id, `*` for any text within one segment and `**` at the end for several: of the client's certificate that Envoy verified, or of `x-forwarded-client-cert` under `attache envoy --trust-xfcc`. This or `jwt`.",
        ),
        key(
            "jwt",
            Kind::Section(&IDENTITY_JWT),
            "",
            "A claim of a token that Envoy verified (`attache envoy --jwt-issuer ...`).",
        ),
        key(
            "key_alias",
            Kind::Text,
            "",
            "The key whose rights, limits and budget hold. This, or `team_id` and/or `user_id`.",
        ),
        key("team_id", Kind::Text, "", "Requests are made in the name of this team."),
        key("user_id", Kind::Text, "", "Requests are made in the name of this user."),
        key(
            "models",
            Kind::TextList,
            "all of the team or user",
            "Model groups, patterns or access groups. Only without `key_alias`.",
        ),
    ],
    known: "",
};

pub(super) static IDENTITY_JWT: Section = Section {
    title: "`features.identities[].jwt`",
    keys: &[
        required("claim", Kind::Text, "A top-level claim whose value is text, such as `sub` or `azp`."),
        required("value", Kind::Text, "Its value, `*` for any text."),
    ],
    known: "",
};
