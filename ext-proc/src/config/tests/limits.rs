use super::*;
use crate::config::{alias_pattern, find_identity};
use crate::entity::ModelBudget;
use crate::limits::{Rules, TokenKind};

fn budget(dollars: u64, duration: Option<&str>) -> ModelBudget {
    ModelBudget { limit_nanos: dollars * 1_000_000_000, duration: duration.map(str::to_owned) }
}

#[test]
fn without_keys_nothing_is_limited() {
    assert_eq!(*snapshot(MODEL).limits, Rules::default());
}

#[test]
fn every_key_reaches_the_rules() {
    let s = snapshot(&format!(
        "{MODEL}
general_settings:
  token_rate_limit_type: output
  max_parallel_requests: 3
  global_max_parallel_requests: 500
  fail_closed_rate_limit_enforcement: true
  fail_closed_budget_enforcement: true
  disable_budget_reservation: true
  apply_user_budget_to_team_keys: true
  enforce_user_param: true
litellm_settings:
  max_budget: 100
  budget_duration: 30d
  budget_exceeded_status_code: 422
  timezone: Europe/Berlin
  budget_reset_time: 06:30
  max_end_user_budget: 0.5
  max_end_user_budget_id: free
  max_internal_user_budget: 7
  internal_user_budget_duration: 1mo
  tag_budget_config:
    batch: {{max_budget: 10, budget_duration: 1d}}
    old: {{budget_limit: 2, time_period: 12h}}
features:
  budget_mode: audit
"
    ));
    let wanted = Rules {
        timezone: "Europe/Berlin".into(),
        reset_minute: 390,
        budget_status: 422,
        tokens: TokenKind::Output,
        key_parallel: Some(3),
        parallel: Some(500),
        fail_closed_limits: true,
        fail_closed_budgets: true,
        no_budget_reservation: true,
        user_budget_for_team_keys: true,
        budget_audit: true,
        budget: Some(budget(100, Some("30d"))),
        end_user_budget_nanos: Some(500_000_000),
        end_user_budget_id: Some("free".into()),
        user_budget: Some(budget(7, Some("1mo"))),
        tag_budgets: [
            ("batch".to_owned(), budget(10, Some("1d"))),
            ("old".to_owned(), budget(2, Some("12h"))),
        ]
        .into(),
        require_user: true,
    };
    assert_eq!(*s.limits, wanted);
}

#[test]
fn a_budget_of_zero_for_the_gateway_is_none() {
    assert_eq!(snapshot(&format!("{MODEL}litellm_settings:\n  max_budget: 0\n")).limits.budget, None);
}

#[test]
fn values_out_of_range_are_refused() {
    let found = errors(&format!(
        "{MODEL}general_settings:
  token_rate_limit_type: all
  max_parallel_requests: 0
  user_header_name: 'no header'
  user_header_mappings: [{{header_name: x, litellm_user_role: boss}}, {{litellm_user_role: customer}}]
litellm_settings:
  budget_exceeded_status_code: 402
  budget_duration: 3mo
  internal_user_budget_duration: soon
  budget_reset_time: 24:00
  max_end_user_budget: -1
  default_key_generate_params: [a]
  tag_budget_config: {{a: {{}}, b: {{max_budget: 1, budget_limit: 1}}}}
  key_alias_pattern: '('
features:
  budget_mode: off
"
    ));
    assert_some(&found, &["8 general_settings.token_rate_limit_type", "total, input, output"]);
    assert_some(&found, &["9 general_settings.max_parallel_requests", "above 0"]);
    assert_some(&found, &["11 general_settings.user_header_mappings[0].litellm_user_role", "customer"]);
    assert_some(&found, &["11 general_settings.user_header_mappings[1]", "`header_name` is missing"]);
    assert_some(&found, &["13 litellm_settings.budget_exceeded_status_code", "400, 422, 429"]);
    assert_some(&found, &["14 litellm_settings.budget_duration", "several months"]);
    assert_some(&found, &["15 litellm_settings.internal_user_budget_duration", "a duration"]);
    assert_some(&found, &["16 litellm_settings.budget_reset_time", "a time of day"]);
    assert_some(&found, &["17 litellm_settings.max_end_user_budget", "a negative number"]);
    assert_some(&found, &["18 litellm_settings.default_key_generate_params", "expected a map"]);
    assert_some(&found, &["22 features.budget_mode", "enforce, audit"]);
    // What must agree is looked at when every value is of its type.
    let found = errors(&format!(
        "{MODEL}general_settings:
  user_header_name: 'no header'
litellm_settings:
  tag_budget_config: {{a: {{}}, b: {{max_budget: 1, budget_limit: 1}}}}
  key_alias_pattern: '('
  timezone: Europe/Bonn
"
    ));
    assert_some(&found, &["12 litellm_settings.timezone"]);
    assert_some(&found, &["8 general_settings.user_header_name", "not a header name"]);
    assert_some(&found, &["litellm_settings.tag_budget_config.a", "`max_budget` is missing"]);
    assert_some(&found, &["litellm_settings.tag_budget_config.b", "give one"]);
    assert_some(&found, &["litellm_settings.key_alias_pattern", "regular expression"]);
}

#[test]
fn what_has_no_effect_is_said() {
    let found = warnings(&format!(
        "{MODEL}general_settings:
  allow_requests_on_db_unavailable: true
litellm_settings:
  store_audit_logs: false
  budget_duration: 1d
  internal_user_budget_duration: 1d
"
    ));
    assert_some(&found, &["general_settings.allow_requests_on_db_unavailable", "never pass"]);
    assert_some(&found, &["litellm_settings.store_audit_logs", "all the same"]);
    assert_some(&found, &["litellm_settings.budget_duration", "no effect"]);
    assert_some(&found, &["litellm_settings.internal_user_budget_duration", "no effect"]);
    assert_eq!(found.len(), 4, "{found:#?}");
}

#[test]
fn parameters_of_the_admin_api_stay_as_they_are() {
    let config = config(&format!(
        "{MODEL}litellm_settings:
  default_key_generate_params: {{max_budget: 1.5, models: [a], metadata: {{4: four}}}}
  upperbound_key_generate_params: {{tpm_limit: 10}}
  key_generation_settings: {{personal_key_generation: {{allowed_user_roles: [proxy_admin]}}}}
  default_team_params: {{rpm_limit: 1}}
  default_internal_user_params: {{user_role: internal_user}}
  key_alias_pattern: '[a-z]+|[0-9]+'
"
    ));
    let settings = config.litellm_settings;
    assert_eq!(settings.default_key_generate_params["max_budget"], 1.5);
    assert_eq!(settings.default_key_generate_params["models"][0], "a");
    assert_eq!(settings.upperbound_key_generate_params["tpm_limit"], 10);
    assert_eq!(settings.default_team_params["rpm_limit"], 1);
    let pattern = alias_pattern(&settings).unwrap();
    assert!(pattern.is_match("abc") && pattern.is_match("12") && !pattern.is_match("abc1"));
}

const IDENTITIES: &str = "features:
  identities:
    - {name: indexer, spiffe: 'spiffe://corp.example/ns/search/sa/indexer', key_alias: search-prod}
    - {name: search, spiffe: 'spiffe://corp.example/ns/search/sa/*', team_id: search, models: [gpt-4o]}
    - {name: batch, jwt: {claim: azp, value: 'batch-*'}, team_id: data, user_id: robot}
";

#[test]
fn the_first_identity_that_matches_holds() {
    let rules = config(&format!("{MODEL}{IDENTITIES}")).features.identities;
    let find = |id: &str| find_identity(&rules, id).map(|rule| rule.name.as_str());
    assert_eq!(find("spiffe:spiffe://corp.example/ns/search/sa/indexer"), Some("indexer"));
    assert_eq!(find("spiffe:spiffe://corp.example/ns/search/sa/web"), Some("search"));
    assert_eq!(find("spiffe:spiffe://corp.example/ns/other/sa/web"), None);
    assert_eq!(find("jwt:azp=batch-7"), Some("batch"));
    assert_eq!(find("jwt:sub=batch-7"), None, "another claim");
    assert_eq!(find("jwt:azp=web"), None);
    assert_eq!(find(&"ab".repeat(32)), None, "a key's hash is no identity");
    let batch = find_identity(&rules, "jwt:azp=batch-7").unwrap();
    assert_eq!((batch.team_id.as_deref(), batch.user_id.as_deref()), (Some("data"), Some("robot")));
}

#[test]
fn identities_must_say_who_and_for_whom() {
    let found = errors(&format!(
        "{MODEL}features:
  identities:
    - {{name: a, key_alias: k}}
    - {{name: b, spiffe: 'spiffe://d/x'}}
    - {{name: b, spiffe: 'spiffe://d/x', key_alias: k}}
    - {{name: d, spiffe: 'spiffe://*/x', key_alias: k}}
    - {{name: e, spiffe: 'https://d/x', key_alias: k}}
    - {{name: f, spiffe: 'spiffe://d/x', key_alias: k, team_id: t}}
    - {{name: g, spiffe: 'spiffe://d/x', key_alias: k, models: [m]}}
    - {{name: h, jwt: {{claim: 'a=b', value: v}}, user_id: u}}
    - {{name: i, spiffe: 'spiffe://d/x', jwt: {{claim: a, value: v}}, user_id: u}}
    - {{name: j, spiffe: 'spiffe://d/a//b', user_id: u}}
"
    ));
    for (at, what) in [
        (0, "names nobody"),
        (1, "leads to nobody"),
        (2, "the same name"),
        (3, "trust domain"),
        (4, "must start with `spiffe://`"),
        (5, "its own team"),
        (6, "its own models"),
        (7, "not the name of a claim"),
        (8, "two entries"),
        (9, "not a SPIFFE id"),
    ] {
        assert_some(&found, &[&format!("{} features.identities[{at}]", 9 + at), what]);
    }
    assert_eq!(found.len(), 10, "{found:#?}");
}
