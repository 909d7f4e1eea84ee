use super::*;
use crate::config::check;
use crate::prices::PriceTable;

#[test]
fn all_errors_come_at_once_with_line_and_path() {
    let found = errors(
        "model_list:
  - model_name: gpt-4o
    litellm_params:
      model: openai/gpt-4o
      api_kay: sk-upstream-secret
      rpm: sixty
  - litellm_params:
      model: openai/gpt-4o
router_setings: {}
general_settings:
  master_key: 12
",
    );
    assert_some(&found, &["5 model_list[0].litellm_params.api_kay", "did you mean `api_key`"]);
    assert_some(&found, &["6 model_list[0].litellm_params.rpm", "found text", "a whole number above 0"]);
    assert_some(&found, &["7 model_list[1]", "`model_name` is missing"]);
    assert_some(&found, &["9 router_setings", "did you mean `router_settings`"]);
    assert_some(&found, &["11 general_settings.master_key", "quotes"]);
    assert_eq!(found.len(), 5, "{found:#?}");
    assert!(found.iter().all(|text| !text.contains("secret") && !text.contains("sixty")), "{found:#?}");
}

#[test]
fn a_key_of_another_section_is_sent_there() {
    let found = errors(&format!("{MODEL}general_settings:\n  fallbacks: []\n"));
    assert_some(&found, &["8 general_settings.fallbacks", "belongs to `router_settings`"]);
}

#[test]
fn litellm_s_other_keys_are_warnings() {
    let found = warnings(&format!(
        "{MODEL}      azure_username: u\nlitellm_settings:\n  set_verbose: true\n  callbacks: [prometheus]\nguardrails: []\n"
    ));
    assert_some(&found, &["7 model_list[0].litellm_params.azure_username", "does not act"]);
    assert_some(&found, &["9 litellm_settings.set_verbose"]);
    assert_some(&found, &["10 litellm_settings.callbacks"]);
    assert_some(&found, &["11 guardrails"]);
    assert_eq!(found.len(), 4, "{found:#?}");
}

#[test]
fn wrong_types_say_what_was_found_and_expected() {
    let found = errors(
        "model_list:\n  model_name: x\nrouter_settings:\n  fallbacks: {a: [b]}\n  timeout: -1\n  num_retries: 1.5\n  disable_cooldowns: maybe\n  redis_port: 70000\n",
    );
    assert_some(&found, &["1 model_list", "found a map, expected a list of entries"]);
    assert_some(&found, &["4 router_settings.fallbacks", "found a map"]);
    assert_some(&found, &["5 router_settings.timeout", "expected seconds above 0"]);
    assert_some(&found, &["6 router_settings.num_retries", "found a number with a fraction"]);
    assert_some(&found, &["7 router_settings.disable_cooldowns", "expected true or false"]);
    assert_some(&found, &["8 router_settings.redis_port", "expected a port number"]);
}

#[test]
fn text_from_placeholders_stands_for_numbers_and_switches() {
    let text = format!(
        "{MODEL}      rpm: ${{RPM}}\nrouter_settings:\n  redis_host: h\n  redis_port: ${{PORT}}\n  cooldown_time: os.environ/COOL\n  disable_cooldowns: ${{OFF}}\n  redis_password: ${{EMPTY}}\n"
    );
    let env = env().with([("RPM", "60"), ("PORT", "6380"), ("COOL", "2.5"), ("OFF", "True"), ("EMPTY", "")]);
    let config = load_text(&text, &env).unwrap().config;
    let router = &config.router_settings;
    assert_eq!(config.model_list[0].litellm_params.rpm, Some(60));
    assert_eq!(
        (router.redis_port, router.cooldown_time, router.disable_cooldowns),
        (Some(6380), Some(2.5), true)
    );
    assert_eq!(router.redis_password, None, "set to nothing is not set");
}

#[test]
fn the_master_key_is_refused_when_weak() {
    let with = |key: &str| format!("{MODEL}general_settings:\n  master_key: {key}\n");
    assert_some(
        &errors(&with("my-long-secret-key-0123")),
        &["8 general_settings.master_key", "must start with `sk-`"],
    );
    assert_some(&errors(&with("sk-1234")), &["publicly known"]);
    assert_some(&errors(&with("sk-a")), &["too short"]);
    assert_some(&errors(&with("sk-5f3a9c07d1e8")), &["too short"]);
    assert!(errors_of(&with("sk-5f3a9c07d1e84")).is_empty());
    assert_some(&errors_with(MODEL, &Env::default()), &["general_settings.master_key", "not set"]);
    let permitted = format!("{}  dangerously_permit_weak_or_unset_master_key: true\n", with("sk-1234"));
    assert_some(&warnings(&permitted), &["publicly known"]);
    assert_eq!(
        config(MODEL).general_settings.master_key.unwrap().expose(),
        MASTER,
        "from LITELLM_MASTER_KEY"
    );
}

#[test]
fn names_of_groups_must_exist() {
    let found = errors(&format!(
        "{MODEL}router_settings:\n  fallbacks:\n    - gpt-4o: [gpt-4o-mini]\n    - gtp-4o: [gpt-4o]\n  default_fallbacks: [gpt4o]\n  model_group_alias: {{a: b, b: a, c: gpt-40}}\n"
    ));
    assert_some(&found, &["9 router_settings.fallbacks[0].gpt-4o[0]", "no model group `gpt-4o-mini`"]);
    assert_some(&found, &["10 router_settings.fallbacks[1].gtp-4o", "did you mean `gpt-4o`"]);
    assert_some(&found, &["11 router_settings.default_fallbacks[0]", "did you mean `gpt-4o`"]);
    assert_some(&found, &["12 router_settings.model_group_alias.a", "loop"]);
    assert_some(&found, &["12 router_settings.model_group_alias.c", "did you mean `gpt-4o`"]);
}

#[test]
fn deployments_must_be_reachable_and_unique() {
    let found = errors(
        "model_list:
  - {model_name: a, litellm_params: {model: openai/x, api_key: k, api_base: 'ftp://h'}, model_info: {id: one}}
  - {model_name: a, litellm_params: {model: openai/x, api_key: k}, model_info: {id: one}}
  - {model_name: a, litellm_params: {model: openai/x}}
  - {model_name: a, litellm_params: {model: azure/x, api_key: k}}
  - {model_name: a, litellm_params: {model: opneai/x, api_key: k}}
  - {model_name: a, litellm_params: {model: openai/x, api_key: 'k', api_base: 'https://user:hunter2@h/v1'}}
  - {model_name: a, litellm_params: {model: openai/x, api_key: 'k', extra_headers: {x-api-key: z}}}
",
    );
    assert_some(&found, &["2 model_list[0].litellm_params.api_base", "not an http(s)"]);
    assert_some(&found, &["3 model_list[1].model_info.id", "taken already, by model_list[0]"]);
    assert_some(&found, &["4 model_list[2]", "OPENAI_API_KEY is not set"]);
    assert_some(&found, &["5 model_list[3]", "needs `api_base`"]);
    assert_some(&found, &["6 model_list[4].litellm_params.model", "did you mean `openai`"]);
    assert_some(&found, &["7 model_list[5].litellm_params.api_base"]);
    assert_some(&found, &["8 model_list[6].litellm_params.extra_headers.x-api-key", "second credential"]);
    assert!(!found.concat().contains("hunter2"), "{found:#?}");
}

#[test]
fn other_providers_are_left_out_with_a_warning() {
    let text = format!(
        "{MODEL}  - model_name: claude\n    litellm_params: {{model: replicate/claude-sonnet-4, api_key: k}}\nrouter_settings:\n  fallbacks: [{{gpt-4o: [claude]}}]\n"
    );
    assert_some(
        &warnings(&text),
        &["8 model_list[1].litellm_params.model", "`replicate` is not implemented yet"],
    );
    let snapshot = crate::config::snapshot(&config(&text), &PriceTable::default(), 1, &env()).unwrap();
    assert_eq!(snapshot.groups.keys().collect::<Vec<_>>(), ["gpt-4o"]);
    assert!(snapshot.fallbacks.is_empty(), "a fallback that nobody serves is left out");
}

#[test]
fn redis_is_checked() {
    let found =
        errors(&format!("{MODEL}router_settings:\n  redis_password: hunter2\n  redis_url: hunter2\n"));
    assert_some(&found, &["redis_url", "must start with redis://"]);
    assert!(!found.concat().contains("hunter2"));
    let found = errors(&format!("{MODEL}router_settings:\n  redis_port: 6379\n"));
    assert_some(&found, &["8 router_settings.redis_port", "without `redis_host`"]);
}

#[test]
fn nothing_prints_a_secret() {
    let text = format!(
        "{MODEL}general_settings:\n  master_key: {MASTER}\n  database_url: postgres://u:hunter2@h/d\nrouter_settings:\n  redis_url: redis://:hunter2@h\nenvironment_variables:\n  TOKEN: hunter2\n"
    );
    let folder = Folder::new();
    let path = folder.write("config.yaml", &text);
    let report = check(&path, &env(), &PriceTable::embedded());
    assert!(report.passed(), "{report}");
    let shown = format!("{report}\n{report:?}\n{:?}", env().with([("X", "hunter2")]));
    for secret in ["hunter2", "sk-upstream", MASTER] {
        assert!(!shown.contains(secret), "{shown}");
    }
    assert!(report.to_string().contains("Postgres, up to 10 connections"));
}

#[test]
fn a_masked_secret_shows_its_end() {
    use crate::config::Secret;
    assert_eq!(Secret::new("sk-5f3a9c07d1e84b62").masked(), "sk-...4b62");
    assert_eq!(Secret::new("0123456789abcdef").masked(), "...cdef");
    assert_eq!(Secret::new("sk-12").masked(), "***");
}

#[test]
fn a_report_of_errors_says_failed() {
    let folder = Folder::new();
    let report = check(&folder.write("c.yaml", "model_list: 1\n"), &env(), &PriceTable::default());
    assert!(!report.passed());
    assert!(report.to_string().ends_with("failed: 1 error, 0 warnings"), "{report}");
    let missing = check(std::path::Path::new("/nowhere/c.yaml"), &env(), &PriceTable::default());
    assert!(missing.to_string().contains("/nowhere/c.yaml: cannot read it"), "{missing}");
}
