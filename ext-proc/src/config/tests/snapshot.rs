use std::collections::HashSet;
use std::time::Duration;

use attache_llm::price::Price;

use super::*;
use crate::credentials::Credential;

#[test]
fn ids_are_stable_and_tell_equal_entries_apart() {
    let text = "
model_list:
  - {model_name: a, litellm_params: {model: openai/gpt-4o, api_key: one}}
  - {model_name: a, litellm_params: {model: openai/gpt-4o, api_key: two}}
  - {model_name: b, litellm_params: {model: openai/gpt-4o, api_key: one}}
";
    let ids = |text: &str| -> Vec<String> {
        let s = snapshot(text);
        let of =
            |name: &str| s.groups[name].deployments.iter().map(|d| d.meta.id.clone()).collect::<Vec<_>>();
        [of("a"), of("b")].concat()
    };
    let first = ids(text);
    assert_eq!(first.iter().collect::<HashSet<_>>().len(), 3);
    assert!(first.iter().all(|id| id.len() == 16 && id.bytes().all(|b| b.is_ascii_hexdigit())), "{first:?}");
    let rotated = text.replace("api_key: one", "api_key: three, rpm: 5, timeout: 3");
    assert_eq!(first, ids(&rotated), "keys and limits may change");
    let moved = text.replace("openai/gpt-4o,", "openai/gpt-4o-mini,");
    assert!(ids(&moved).iter().all(|id| !first.contains(id)));
}

#[test]
fn clusters_are_unique_and_plain() {
    let s = snapshot(
        "
model_list:
  - {model_name: 'gpt 4.1', litellm_params: {model: openai/x, api_key: k}, model_info: {id: region-east-1}}
  - {model_name: 'gpt 4.1', litellm_params: {model: openai/x, api_key: k}, model_info: {id: region-east-2}}
",
    );
    let clusters: HashSet<_> = s.deployments.values().map(|d| d.cluster.clone()).collect();
    assert_eq!(clusters.len(), 2, "{clusters:?}");
    let plain = |c: char| c.is_ascii_alphanumeric() || "_/-".contains(c);
    assert!(clusters.iter().all(|name| name.starts_with("gpt_4_1/openai/") && name.chars().all(plain)));
}

#[test]
fn where_a_deployment_is() {
    let s = snapshot(
        "
model_list:
  - {model_name: openai, litellm_params: {model: gpt-4o, api_key: k, organization: org-1, extra_headers: {X-Team: blue}}}
  - {model_name: own, litellm_params: {model: openai/meta-llama/Llama-3, api_key: k, api_base: 'http://10.0.0.7:8080/base/v1/'}}
  - {model_name: forced, litellm_params: {model: some/model, custom_llm_provider: openai, api_base: 'https://x.example', api_key: k}}
  - {model_name: azure, litellm_params: {model: azure/chat, api_base: 'https://r.openai.azure.com/?api-version=2024-10-21', api_key: k}}
  - {model_name: header, litellm_params: {model: hosted_vllm/m, api_base: 'http://h/v1', extra_headers: {Ocp-Apim-Subscription-Token: t0p}}}
",
    );
    let of = |name: &str| &s.groups[name].deployments[0];
    let openai = of("openai");
    assert_eq!((openai.host.as_str(), openai.port, openai.tls), ("api.openai.com", 443, true));
    assert_eq!((openai.meta.authority.as_str(), openai.meta.base_path.as_str()), ("api.openai.com", "/v1"));
    let headers =
        [("openai-organization", "org-1"), ("x-team", "blue")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    assert_eq!(openai.meta.headers, headers);
    assert_eq!(
        openai.credential.as_ref().and_then(Credential::configured),
        Some(("authorization", "Bearer k"))
    );
    let own = of("own");
    assert_eq!((own.host.as_str(), own.port, own.tls), ("10.0.0.7", 8080, false));
    assert_eq!((own.meta.authority.as_str(), own.meta.base_path.as_str()), ("10.0.0.7:8080", "/base/v1"));
    assert_eq!(own.meta.model, "meta-llama/Llama-3");
    assert_eq!((of("forced").meta.model.as_str(), of("forced").meta.base_path.as_str()), ("some/model", ""));
    assert_eq!(of("azure").meta.api_version.as_deref(), Some("2024-10-21"));
    let header = of("header");
    assert!(header.meta.headers.is_empty(), "a credential never travels in metadata");
    let credential = header.credential.as_ref().and_then(Credential::configured);
    assert_eq!(credential, Some(("ocp-apim-subscription-token", "t0p")));
}

#[test]
fn prices_come_from_the_file_then_base_model_then_the_model() {
    let s = snapshot(
        "
model_list:
  - {model_name: table, litellm_params: {model: openai/gpt-4o, api_key: k}}
  - {model_name: base, litellm_params: {model: azure/mine, api_base: 'https://h', api_key: k}, model_info: {base_model: gpt-4o}}
  - {model_name: over, litellm_params: {model: openai/gpt-4o, api_key: k, input_cost_per_token: 0.0000031, output_cost_per_token: 1.2e-05}}
  - {model_name: info, litellm_params: {model: openai/none, api_base: 'http://h', api_key: k}, model_info: {input_cost_per_token: 1e-7}}
  - {model_name: unknown, litellm_params: {model: openai/none, api_base: 'http://h', api_key: k}}
  - {model_name: embed, litellm_params: {model: openai/text-embedding-3-small, api_key: k}}
",
    );
    let price = |name: &str| s.groups[name].deployments[0].meta.price.clone();
    let listed = PriceTable::embedded().lookup("gpt-4o").unwrap().price.clone().unwrap();
    assert_eq!(price("table"), Some(listed.clone()));
    assert_eq!(price("base"), Some(listed.clone()));
    let own = Price::per_token(3_100_000_000, 12_000_000_000);
    assert_eq!(price("over"), Some(listed.with(own.rates().iter().copied())));
    assert_eq!(price("info"), "in 100000000".parse().ok());
    assert_eq!(price("unknown"), None);
    assert_eq!(s.groups["embed"].deployments[0].mode.as_deref(), Some("embedding"));
}

#[test]
fn router_settings_win_over_litellm_settings() {
    let s = snapshot(&format!(
        "{MODEL}
  - {{model_name: b, litellm_params: {{model: openai/gpt-4o, api_key: k}}}}
  - {{model_name: c, litellm_params: {{model: openai/gpt-4o, api_key: k}}}}
router_settings:
  num_retries: 0
  fallbacks: [{{gpt-4o: [cc, gpt-4o]}}, {{'*': [b]}}]
  model_group_alias: {{cc: {{model: d}}, d: c}}
  cooldown_time: 0
litellm_settings:
  num_retries: 5
  request_timeout: 30
  allowed_fails: 9
  fallbacks: [{{gpt-4o: [b]}}, {{b: [c]}}]
  default_fallbacks: [c]
"
    ));
    assert_eq!((s.num_retries, s.breaker_allowed_fails, s.timeout), (0, Some(9), Duration::from_secs(30)));
    assert_eq!(s.fallbacks["gpt-4o"], ["c"], "aliases are followed, the group itself is left out");
    assert_eq!(s.fallbacks["b"], ["c"]);
    assert_eq!(s.fallbacks["*"], ["b", "c"]);
    assert_eq!(s.aliases["cc"], "c");
    assert!(s.disable_cooldowns);
}

#[test]
fn defaults_are_litellm_s_but_for_the_timeout() {
    let s = snapshot(MODEL);
    assert_eq!((s.num_retries, s.max_fallbacks, s.breaker_allowed_fails), (2, 5, None));
    assert_eq!(
        (s.cooldown, s.timeout, s.stream_timeout),
        (Duration::from_secs(5), Duration::from_secs(600), None)
    );
    assert!(!s.disable_cooldowns && s.fallbacks.is_empty());
}

#[test]
fn blocked_entries_are_left_out() {
    let text = format!(
        "{MODEL}  - {{model_name: b, blocked: true, litellm_params: {{model: openai/gpt-4o, api_key: k}}}}\n"
    );
    assert_eq!(snapshot(&text).groups.len(), 1);
    assert_some(&warnings(&text), &["model_list[1]", "blocked"]);
}

#[test]
fn a_config_made_in_code_reports_what_cannot_be_resolved() {
    let mut config = config(MODEL);
    config.model_list[0].litellm_params.api_base = Some("nonsense".into());
    let errors = crate::config::snapshot(&config, &PriceTable::default(), 1, &env()).unwrap_err();
    assert_eq!(errors.0[0].path, "model_list[0].litellm_params.api_base");
}
