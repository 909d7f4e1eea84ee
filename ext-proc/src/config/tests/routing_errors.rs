//! Routing keys that are wrong: path, line, and what to write instead.

use super::*;

fn router(lines: &str) -> String {
    format!("{MODEL}router_settings:\n{lines}")
}

/// One deployment of group `a` with these parameters.
fn params(lines: &str) -> String {
    format!("model_list:\n  - {{model_name: a, litellm_params: {{model: openai/x, api_key: k, {lines}}}}}\n")
}

#[test]
fn names_of_strategies_and_checks() {
    let found = errors(&router(
        "  routing_strategy: least-buzy
  routing_strategy_args: {lowest_latency_bufer: 1, ttl: 0, max_latency_list_size: 0, ttft_percentile: 5}
  routing_groups:
    - {group_name: x, models: gpt-4o, routing_strategy: latency}
    - {models: [gpt-4o]}
  optional_pre_call_checks: [session_afinity, 3]
",
    ));
    assert_some(&found, &["8 router_settings.routing_strategy", "did you mean `least-busy`"]);
    assert_some(
        &found,
        &[
            "9 router_settings.routing_strategy_args.lowest_latency_bufer",
            "did you mean `lowest_latency_buffer`",
        ],
    );
    assert_some(&found, &["routing_strategy_args.ttl", "seconds above 0"]);
    assert_some(&found, &["routing_strategy_args.max_latency_list_size", "above 0"]);
    assert_some(&found, &["11 router_settings.routing_groups[0].models", "a list of text"]);
    assert_some(&found, &["routing_groups[0].routing_strategy", "expected one of simple-shuffle"]);
    assert_some(&found, &["12 router_settings.routing_groups[1]", "`group_name` is missing"]);
    assert_some(&found, &["routing_groups[1]", "`routing_strategy` is missing"]);
    assert_some(&found, &["optional_pre_call_checks[0]", "did you mean `session_affinity`"]);
    assert_some(&found, &["optional_pre_call_checks[1]", "found a number"]);
    assert_eq!(found.len(), 10, "{found:#?}");
}

#[test]
fn other_checks_of_litellm_s_are_warnings() {
    let text = router("  optional_pre_call_checks: [responses_api_deployment_check, session_affinity]\n");
    let found = warnings(&text);
    assert_some(&found, &["optional_pre_call_checks[0]", "does not act on it"]);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!(config(&text).router_settings.optional_pre_call_checks, ["session_affinity"]);
}

#[test]
fn arguments_of_a_strategy_that_takes_none_are_warnings() {
    let found = warnings(&router("  routing_strategy_args: {ttl: 60}\n"));
    assert_some(&found, &["8 router_settings.routing_strategy_args", "`simple-shuffle` takes no arguments"]);
}

#[test]
fn a_model_group_has_one_strategy() {
    let found = errors(&router(
        "  model_group_alias: {smart: gpt-4o}
  routing_groups:
    - {group_name: default, models: [gpt-4o], routing_strategy: least-busy}
    - {group_name: x, models: [smart, gpt4o], routing_strategy: least-busy}
    - {group_name: x, models: [], routing_strategy: least-busy}
",
    ));
    assert_some(&found, &["10 router_settings.routing_groups[0].group_name", "reserved"]);
    assert_some(
        &found,
        &[
            "routing_groups[1].models[0]",
            "has a strategy already, by router_settings.routing_groups[0].models[0]",
        ],
    );
    assert_some(&found, &["routing_groups[1].models[1]", "no model group `gpt4o`", "did you mean `gpt-4o`"]);
    assert_some(&found, &["routing_groups[2].group_name", "same name"]);
    assert_eq!(found.len(), 4, "{found:#?}");
}

#[test]
fn fallbacks_of_every_kind_lead_somewhere() {
    let found = errors(&format!(
        "{}litellm_settings:\n  context_window_fallbacks: [{{gpt-4o: [gpt-5]}}]\n  default_fallbacks: [gpt-40]\n",
        router(
            "  context_window_fallbacks: [{gtp-4o: [gpt-4o]}]
  content_policy_fallbacks: [{gpt-4o: [gpt-4-o]}]
  model_group_retry_policy: {gpt-4: {DefaultRetries: 1}}
"
        )
    ));
    assert_some(&found, &["8 router_settings.context_window_fallbacks[0].gtp-4o", "did you mean `gpt-4o`"]);
    assert_some(
        &found,
        &["9 router_settings.content_policy_fallbacks[0].gpt-4o[0]", "did you mean `gpt-4o`"],
    );
    assert_some(&found, &["10 router_settings.model_group_retry_policy.gpt-4", "did you mean `gpt-4o`"]);
    assert_some(
        &found,
        &["12 litellm_settings.context_window_fallbacks[0].gpt-4o[0]", "no model group `gpt-5`"],
    );
    assert_some(&found, &["13 litellm_settings.default_fallbacks[0]", "did you mean `gpt-4o`"]);
    assert_eq!(found.len(), 5, "{found:#?}");
}

#[test]
fn keys_of_policies() {
    let found = errors(&router(
        "  retry_policy: {RateLimitRetries: 1, TimeoutErrorRetries: -1}
  model_group_retry_policy: {gpt-4o: 3}
  allowed_fails_policy: {TimeoutErrorRetries: 1}
  retry_after: soon
",
    ));
    assert_some(
        &found,
        &["8 router_settings.retry_policy.RateLimitRetries", "did you mean `RateLimitErrorRetries`"],
    );
    assert_some(&found, &["8 router_settings.retry_policy.TimeoutErrorRetries", "found a negative number"]);
    assert_some(&found, &["9 router_settings.model_group_retry_policy.gpt-4o", "expected a section of keys"]);
    assert_some(&found, &["10 router_settings.allowed_fails_policy.TimeoutErrorRetries", "unknown key"]);
    assert_some(&found, &["11 router_settings.retry_after", "seconds, 0 or more"]);
    assert_eq!(found.len(), 5, "{found:#?}");
    let found = warnings(&router("  allowed_fails_policy: {BadRequestErrorAllowedFails: 1}\n"));
    assert_some(&found, &["allowed_fails_policy.BadRequestErrorAllowedFails", "does not act"]);
}

#[test]
fn budgets_have_an_amount_and_a_window() {
    let found = errors(&router(
        "  provider_budget_config:
    opneai: {budget_limit: 1, time_period: 1d}
    openai: {budget_limit: 1}
    azure: {time_period: 1d}
    groq: {budget_limit: 1, max_budget: 2, time_period: 1d, budget_duration: 1h}
",
    ));
    assert_some(&found, &["9 router_settings.provider_budget_config.opneai", "did you mean `openai`"]);
    assert_some(&found, &["10 router_settings.provider_budget_config.openai", "`time_period` is missing"]);
    assert_some(&found, &["provider_budget_config.azure", "`budget_limit` is missing"]);
    assert_some(&found, &["provider_budget_config.groq", "`budget_limit` and `max_budget` are the same"]);
    assert_some(&found, &["provider_budget_config.groq", "`time_period` and `budget_duration` are the same"]);
    assert_eq!(found.len(), 5, "{found:#?}");
    let later = router("  provider_budget_config: {replicate: {budget_limit: 1, time_period: 1d}}\n");
    assert_some(&warnings(&later), &["provider_budget_config.replicate", "not implemented yet"]);
    assert_some(
        &errors(&params("max_budget: 5")),
        &["2 model_list[0].litellm_params.max_budget", "needs `budget_duration`"],
    );
    assert_some(&warnings(&params("budget_duration: 1d")), &["litellm_params.budget_duration", "no effect"]);
    assert_some(&errors(&params("max_budget: 0, budget_duration: 1d")), &["max_budget", "above 0"]);
}

#[test]
fn durations_have_a_unit() {
    for wrong in ["30", "'30'", "1y", "d", "0s", "-1d", "1.5h", "99999999w", "1 d", "1M"] {
        let found = errors(&params(&format!("max_budget: 1, budget_duration: {wrong}")));
        assert_some(&found, &["litellm_params.budget_duration", "expected a duration such as `30s`"]);
    }
}

#[test]
fn deployments_settings_have_their_types() {
    let found =
        errors(&params("order: first, max_parallel_requests: 0, tags: paid, num_retries: -1, mirror: [a]"));
    for key in ["order", "max_parallel_requests", "tags", "num_retries", "mirror"] {
        assert_some(&found, &["2 model_list[0].litellm_params.", key, "expected"]);
    }
    assert_eq!(found.len(), 5, "{found:#?}");
    let near = errors(&params("max_paralel_requests: 3"));
    assert_some(&near, &["max_paralel_requests", "did you mean `max_parallel_requests`"]);
}

#[test]
fn a_mirror_is_another_group_that_exists() {
    assert_some(
        &errors(&params("mirror: b")),
        &["2 model_list[0].litellm_params.mirror", "no model group `b`"],
    );
    assert_some(&errors(&params("mirror: a")), &["litellm_params.mirror", "its own mirror"]);
}

#[test]
fn a_pattern_in_the_model_needs_one_in_the_name() {
    let entry = |name: &str, model: &str| {
        format!(
            "model_list:\n  - {{model_name: '{name}', litellm_params: {{model: '{model}', api_key: k}}}}\n"
        )
    };
    assert_some(
        &errors(&entry("mine", "openai/*")),
        &["2 model_list[0].litellm_params.model", "`model_name` has none"],
    );
    assert_eq!(warnings(&entry("mine-*", "openai/gpt-4o")), [""; 0], "many names, one model");
    assert_some(&errors(&entry("*/x", "*/x")), &["no provider is called `*`"]);
    let found = errors(&format!(
        "{}router_settings:\n  default_fallbacks: [azure/gpt-4o]\n",
        entry("openai/*", "openai/*")
    ));
    assert_some(&found, &["4 router_settings.default_fallbacks[0]", "no model group `azure/gpt-4o`"]);
}

#[test]
fn health_keys() {
    let general = |text: &str| format!("{MODEL}general_settings: {{{text}}}\n");
    assert_some(
        &errors(&general("readiness_requires: [postgres]")),
        &["readiness_requires[0]", "expected one of envoy"],
    );
    assert_some(
        &errors(&general("readiness_requires: [redis]")),
        &["7 general_settings.readiness_requires", "names no Redis"],
    );
    assert_some(
        &errors(&general("health_check_interval: 0.5")),
        &["health_check_interval", "at least 1 second"],
    );
    assert_some(
        &errors(&general("background_health_checks: perhaps")),
        &["background_health_checks", "true or false"],
    );
    let text = format!("{MODEL}features: {{pre_call_health_checks: true}}\n");
    assert_some(&warnings(&text), &["features.pre_call_health_checks", "background_health_checks"]);
}

#[test]
fn an_alias_of_two_keys_is_checked_too() {
    let found = errors(&router(
        "  model_group_alias: {x: {modell: gpt-4o}, y: [gpt-4o], z: {model: gpt-4o, hidden: 3}}\n",
    ));
    assert_some(&found, &["model_group_alias.x.modell", "did you mean `model`"]);
    assert_some(&found, &["model_group_alias.x", "`model` is missing"]);
    assert_some(&found, &["model_group_alias.y", "found a list"]);
    assert_some(&found, &["model_group_alias.z.hidden", "true or false"]);
    assert_eq!(found.len(), 4, "{found:#?}");
}
