//! Routing keys that are right, and what they come to.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use attache_llm::class::ErrorClass;
use attache_llm::price::Item;

use super::*;
use crate::config::{Requirement, check};
use crate::routing::{Affinity, Budget, Deployment, LatencyArgs, RetryPolicy, Strategy, TagRules};
use crate::store::CounterBackend;

/// `MODEL` with these sections after it; `b` and `c` are further groups.
fn with(more: &str) -> String {
    let group =
        |name| format!("  - {{model_name: {name}, litellm_params: {{model: openai/{name}, api_key: k}}}}\n");
    format!("{MODEL}{}{}{more}", group("b"), group("c"))
}

fn router(lines: &str) -> Snapshot {
    snapshot(&with(&format!("router_settings:\n{lines}")))
}

/// The only deployment, with these `litellm_params` and `model_info`.
fn deployment(params: &str, info: &str) -> Deployment {
    let s = snapshot(&format!(
        "model_list:\n  - {{model_name: a, litellm_params: {{model: openai/gpt-4o, api_key: k, {params}}}, model_info: {{{info}}}}}\n  - {{model_name: shadow, litellm_params: {{model: openai/gpt-4o, api_key: k}}}}\nrouter_settings:\n  model_group_alias: {{dark: shadow}}\n  default_max_parallel_requests: 9\n"
    ));
    let shared = s.groups["a"].deployments[0].meta.id.clone();
    drop(s.groups);
    std::sync::Arc::into_inner(s.deployments.into_iter().find(|(id, _)| *id == shared).unwrap().1).unwrap()
}

#[test]
fn every_strategy_has_its_name() {
    let of = |name: &str| {
        let s = router(&format!("  routing_strategy: {name}\n"));
        assert!(s.groups.values().all(|group| group.strategy == s.groups["b"].strategy));
        s.groups["b"].strategy.clone()
    };
    assert_eq!(of("simple-shuffle"), Strategy::SimpleShuffle);
    assert_eq!(of("usage-based-routing-v2"), Strategy::UsageBased);
    assert_eq!(of("usage-based-routing"), Strategy::UsageBased);
    assert_eq!(of("least-busy"), Strategy::LeastBusy);
    assert_eq!(of("latency-based-routing"), Strategy::Latency(LatencyArgs::default()));
    assert_eq!(of("cost-based-routing"), Strategy::Cost);
    assert_eq!(of("provider-budget-routing"), Strategy::SimpleShuffle);
    assert_eq!(snapshot(MODEL).groups["gpt-4o"].strategy, Strategy::SimpleShuffle);
}

#[test]
fn routing_groups_override_the_strategy_of_the_router() {
    let s = router(
        "  routing_strategy: least-busy
  model_group_alias: {sea: c}
  routing_groups:
    - group_name: fast
      models: [b, sea]
      routing_strategy: latency-based-routing
      routing_strategy_args: {ttl: 60, lowest_latency_buffer: 0.25, max_latency_list_size: 3}
",
    );
    let fast = Strategy::Latency(LatencyArgs { ttl: Duration::from_secs(60), buffer: 0.25, samples: 3 });
    assert_eq!(s.groups["gpt-4o"].strategy, Strategy::LeastBusy);
    assert_eq!((&s.groups["b"].strategy, &s.groups["c"].strategy), (&fast, &fast), "aliases are followed");
    let whole = "  routing_strategy: latency-based-routing\n  routing_strategy_args: {ttl: 60, lowest_latency_buffer: 0.25, max_latency_list_size: 3}\n";
    assert_eq!(router(whole).groups["gpt-4o"].strategy, fast);
}

#[test]
fn fallback_lists_by_error_are_none_unless_configured() {
    let s = snapshot(MODEL);
    assert_eq!((s.context_window_fallbacks, s.content_policy_fallbacks), (None, None));
    let empty = router("  context_window_fallbacks: []\n");
    assert_eq!(empty.context_window_fallbacks, None, "as in LiteLLM, an empty list is none");
    let s = snapshot(&with(
        "router_settings:
  context_window_fallbacks: [{gpt-4o: [b]}]
litellm_settings:
  context_window_fallbacks: [{gpt-4o: [c]}, {b: [c]}]
  content_policy_fallbacks: [{'*': [c]}]
",
    ));
    let lists = |pairs: &[(&str, &str)]| -> BTreeMap<String, Vec<String>> {
        pairs.iter().map(|(group, target)| ((*group).to_owned(), vec![(*target).to_owned()])).collect()
    };
    assert_eq!(s.context_window_fallbacks, Some(lists(&[("gpt-4o", "b"), ("b", "c")])));
    assert_eq!(s.content_policy_fallbacks, Some(lists(&[("*", "c")])));
    assert!(s.fallbacks.is_empty());
}

#[test]
fn a_list_whose_targets_are_all_left_out_is_still_a_list() {
    let s = snapshot(&with(
        "  - {model_name: claude, litellm_params: {model: replicate/claude, api_key: k}}
router_settings:
  context_window_fallbacks: [{gpt-4o: [claude]}]
",
    ));
    assert_eq!(s.context_window_fallbacks, Some(BTreeMap::new()), "else `fallbacks` would be used");
}

#[test]
fn policies_speak_of_error_classes() {
    let s = router(
        "  retry_policy: {TimeoutErrorRetries: 0, RateLimitErrorRetries: 4, DefaultRetries: 1}
  model_group_retry_policy:
    b: {BadRequestErrorRetries: 1, AuthenticationErrorRetries: 2, NotFoundErrorRetries: 3, ContentPolicyViolationErrorRetries: 4, InternalServerErrorRetries: 5, ServiceUnavailableErrorRetries: 6}
  retry_after: 1.5
  allowed_fails: 0
  allowed_fails_policy: {RateLimitErrorAllowedFails: 7, AuthenticationErrorAllowedFails: 0}
",
    );
    let classes = [(ErrorClass::Timeout, 0), (ErrorClass::RateLimit, 4)];
    assert_eq!(s.retry_policy, RetryPolicy { classes: classes.into(), default: Some(1) });
    let classes = [
        (ErrorClass::BadRequest, 1),
        (ErrorClass::Authentication, 2),
        (ErrorClass::NotFound, 3),
        (ErrorClass::ContentPolicy, 4),
        (ErrorClass::InternalServer, 5),
        (ErrorClass::ServiceUnavailable, 6),
    ];
    assert_eq!(s.group_retry_policy["b"], RetryPolicy { classes: classes.into(), default: None });
    assert_eq!(s.retry_after, Duration::from_millis(1_500));
    assert_eq!(s.breaker_allowed_fails, Some(0), "0 is not the same as not set");
    let classes = [(ErrorClass::RateLimit, 7), (ErrorClass::Authentication, 0)];
    assert_eq!(s.allowed_fails_policy, classes.into());
    assert_eq!(snapshot(MODEL).breaker_allowed_fails, None);
}

#[test]
fn switches_reach_the_snapshot() {
    let off = snapshot(MODEL);
    assert!(!off.enforce_limits && !off.pre_call_checks && !off.pre_call_health_checks);
    assert_eq!((off.tags, off.affinity), (TagRules::default(), None));
    let s = snapshot(&with(
        "router_settings:
  enable_pre_call_checks: true
  enable_tag_filtering: true
  tag_filtering_match_any: false
  optional_pre_call_checks: [enforce_model_rate_limits, session_affinity, router_budget_limiting]
general_settings: {background_health_checks: true}
features: {pre_call_health_checks: true}
",
    ));
    assert!(s.enforce_limits && s.pre_call_checks && s.pre_call_health_checks);
    assert_eq!(s.tags, TagRules { enabled: true, match_all: true });
    assert_eq!(s.affinity, Some(Affinity::Session));
    let affinity = |names: &str| router(&format!("  optional_pre_call_checks: [{names}]\n")).affinity;
    assert_eq!(affinity("prompt_caching"), Some(Affinity::Session));
    assert_eq!(affinity("session_affinity, deployment_affinity"), Some(Affinity::Caller));
}

#[test]
fn budgets_are_nano_dollars_per_window() {
    let s = router(
        "  provider_budget_config:
    openai: {budget_limit: 0.000000001, time_period: 30s}
    azure: {max_budget: 1234.56, budget_duration: 1mo}
    groq: {budget_limit: '2', budget_duration: 2w}
",
    );
    let budget = |limit, seconds| Budget { limit, period: Duration::from_secs(seconds) };
    assert_eq!(s.provider_budgets["openai"], budget(1, 30));
    assert_eq!(s.provider_budgets["azure"], budget(1_234_560_000_000, 30 * 86_400));
    assert_eq!(s.provider_budgets["groq"], budget(2_000_000_000, 14 * 86_400));
    let own = deployment("max_budget: 0.1, budget_duration: 15m", "");
    assert_eq!(own.budget, Some(budget(100_000_000, 900)));
}

#[test]
fn what_the_file_says_of_a_deployment() {
    let d = deployment(
        "order: 2, max_parallel_requests: 4, tags: [paid, default], region_name: eu, num_retries: 0, max_retries: 5, mirror: dark",
        "access_groups: [beta], max_input_tokens: 1000, allowed_fails: 1, allowed_fails_policy: {TimeoutErrorAllowedFails: 2}, region: us",
    );
    assert_eq!((d.order, d.max_parallel, d.num_retries), (Some(2), Some(4), Some(0)));
    assert_eq!(
        (d.tags, d.access_groups),
        (vec!["paid".to_owned(), "default".to_owned()], vec!["beta".to_owned()])
    );
    assert_eq!((d.region.as_deref(), d.mirror.as_deref()), (Some("eu"), Some("shadow")));
    assert_eq!((d.max_input_tokens, d.allowed_fails), (Some(1_000), Some(1)));
    assert_eq!(d.allowed_fails_policy, BTreeMap::from([(ErrorClass::Timeout, 2)]));
    let plain = deployment("max_retries: 5", "region: us");
    assert_eq!(
        (plain.max_parallel, plain.num_retries, plain.region.as_deref()),
        (Some(9), Some(5), Some("us"))
    );
    assert_eq!(plain.max_input_tokens, Some(128_000), "the price table's");
    assert_eq!((plain.order, plain.budget, plain.mirror), (None, None, None));
}

#[test]
fn patterns_are_groups_and_the_most_specific_comes_first() {
    let pattern = |name: &str, model: &str| {
        format!("  - {{model_name: '{name}', litellm_params: {{model: '{model}', api_key: k}}}}\n")
    };
    let text = with(&format!(
        "{}{}{}router_settings:\n  fallbacks: [{{gpt-4o: [openai/gpt-4o-mini, nano]}}, {{'openai/*': [b]}}, {{openai/o3: [c]}}]\n  default_fallbacks: [openai/o3]\n  model_group_alias: {{nano: openai/gpt-4.1-nano, any: '*'}}\n",
        pattern("*", "openai/*"),
        pattern("openai/*", "openai/*"),
        pattern("openai/gpt-*", "openai/gpt-*"),
    ));
    assert_eq!(warnings(&text), [""; 0]);
    let s = snapshot(&text);
    let names: Vec<_> = s.wildcards.iter().map(|group| group.name.as_str()).collect();
    assert_eq!(names, ["openai/gpt-*", "openai/*", "*"]);
    let models: Vec<_> = s.wildcards.iter().map(|group| group.deployments[0].meta.model.as_str()).collect();
    assert_eq!(models, ["gpt-*", "*", "*"], "stars are kept");
    assert!(s.groups.contains_key("openai/*"));
    assert_eq!(s.fallbacks["gpt-4o"], ["openai/gpt-4o-mini", "openai/gpt-4.1-nano"], "as written");
    assert_eq!(
        (&s.fallbacks["openai/*"][..], &s.fallbacks["openai/o3"][..]),
        (&["b".into()][..], &["c".into()][..])
    );
    assert_eq!(s.fallbacks["*"], ["openai/o3"]);
    assert_eq!((s.aliases["nano"].as_str(), s.aliases["any"].as_str()), ("openai/gpt-4.1-nano", "*"));
}

#[test]
fn a_pattern_is_priced_by_the_name_asked_for() {
    let text = "model_list:\n  - {model_name: 'openai/*', litellm_params: {model: 'openai/*', api_key: k}}\n";
    let s = snapshot(text);
    let d = &s.groups["openai/*"].deployments[0];
    assert_eq!(d.meta.price, None);
    assert_eq!(s.price(d, Some("gpt-4o")).and_then(|price| price.base(Item::Input)), Some(2_500_000_000));
    assert_eq!(s.max_input_tokens(d, Some("gpt-4o")), Some(128_000));
    assert_eq!((s.price(d, Some("nobody's")), s.price(d, None)), (None, None));
    let own = text.replace("api_key: k", "api_key: k, input_cost_per_token: 1e-6");
    let s = snapshot(&own);
    let d = &s.groups["openai/*"].deployments[0];
    assert_eq!(
        s.price(d, Some("gpt-4o")).and_then(|price| price.base(Item::Input)),
        Some(1_000_000_000),
        "the file's wins"
    );
    assert!(snapshot(MODEL).prices.is_none(), "nobody needs the table then");
}

#[test]
fn a_deployment_s_id_may_be_a_fallback() {
    let text = with("router_settings:\n  fallbacks: [{b: [one]}]\n").replace(
        "    litellm_params:\n      model: openai/gpt-4o\n",
        "    model_info: {id: one}\n    litellm_params:\n      model: openai/gpt-4o\n",
    );
    assert_eq!(snapshot(&text).fallbacks["b"], ["one"]);
    let hashed = snapshot(MODEL).groups["gpt-4o"].deployments[0].meta.id.clone();
    let s = router(&format!("  fallbacks: [{{b: ['{hashed}']}}]\n"));
    assert_eq!(s.fallbacks["b"], [hashed], "made ids too");
}

#[test]
fn an_alias_may_be_hidden() {
    let s = router("  model_group_alias: {x: {model: b, hidden: true}, y: {model: c}, z: x}\n");
    assert_eq!(s.hidden, ["x"]);
    assert_eq!((s.aliases["x"].as_str(), s.aliases["y"].as_str(), s.aliases["z"].as_str()), ("b", "c", "b"));
}

#[test]
fn the_redis_of_four_keys_is_one_url() {
    let url = |lines: &str| match config(&with(&format!("router_settings:\n  redis_host: h\n{lines}")))
        .counters()
    {
        CounterBackend::Redis { servers, .. } => servers.url.expose().to_owned(),
        CounterBackend::Memory => panic!("Redis is configured"),
    };
    assert_eq!(url(""), "redis://h:6379/");
    assert_eq!(
        url("  redis_db: 3\n  redis_username: me@x\n  redis_password: p/w\n"),
        "redis://me%40x:p%2Fw@h:6379/3"
    );
    assert_eq!(url("  redis_username: me\n"), "redis://me@h:6379/");
}

#[test]
fn health_keys_have_defaults() {
    let general = config(MODEL).general_settings;
    assert!(!general.background_health_checks);
    assert_eq!((general.health_check_interval, general.proxy_config_reload_interval_seconds), (300.0, 2.0));
    assert_eq!(general.readiness_requires, [Requirement::Envoy]);
    let general = config(&with(
        "general_settings: {background_health_checks: true, health_check_interval: 60, readiness_requires: [database, redis, deployments], proxy_config_reload_interval_seconds: 0}\nrouter_settings: {redis_host: h}\n",
    ))
    .general_settings;
    assert!(general.background_health_checks);
    assert_eq!((general.health_check_interval, general.proxy_config_reload_interval_seconds), (60.0, 0.0));
    assert_eq!(
        general.readiness_requires,
        [Requirement::Database, Requirement::Redis, Requirement::Deployments]
    );
    assert_eq!(
        config(&with("general_settings: {readiness_requires: []}\n")).general_settings.readiness_requires,
        []
    );
}

#[test]
fn check_tells_what_the_example_does() {
    let env = env().with(
        ["OPENAI_API_KEY", "GROQ_API_KEY", "AZURE_EAST_KEY", "AZURE_WEST_KEY"]
            .map(|name| (name, "sk-x".to_owned())),
    );
    let env = env.with(["AZURE_EAST_BASE", "AZURE_WEST_BASE"].map(|name| (name, "https://h.example")));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/routing.yaml");
    let report = check(&path, &env, &PriceTable::embedded()).to_string();
    for line in [
        "  gpt-4o  usage-based-routing-v2",
        "      order 1, rpm 600, tpm 200000, in flight at most 64, prompt at most 128000, retries 3, allowed fails by class: timeout 10, region us, tags default paid, access groups production",
        "    prompt too long: then gpt-4.1",
        "    refused by content policy: then gpt-oss",
        "  gpt-oss  latency-based-routing (buffer 0.2, 20 samples, kept 10m)",
        "    retries: internal_server 2, others 1",
        "  gpt-4 -> gpt-4o, hidden",
        "  every group, at last: openai/gpt-4o-mini",
        "budget of groq: $20.00 per 1d",
        "retries 2, fallbacks 3, timeout 120s, cooldown 30s after more than 3 failures (authentication 0, rate_limit 0)",
    ] {
        assert!(report.lines().any(|have| have == line), "no line {line:?} in\n{report}");
    }
    let tiers: Vec<_> = ["azure-east", "azure-west", "openai-last"].map(|id| report.find(id).unwrap()).into();
    assert!(tiers.is_sorted(), "{report}");
}

#[test]
fn defaults_for_requests_without_a_model_must_be_served() {
    let text =
        |name: &str| format!("{MODEL}general_settings:\n  files_model: {name}\n  moderation_model: gpt-4o\n");
    let made = snapshot(&text("gpt-4o"));
    assert_eq!(
        (made.files_model.as_deref(), made.moderation_model.as_deref()),
        (Some("gpt-4o"), Some("gpt-4o"))
    );
    assert_some(&errors(&text("gpt-4")), &["general_settings.files_model"]);
}
