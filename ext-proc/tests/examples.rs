//! Every file in `examples/` loads with the variables that it names.

use std::path::{Path, PathBuf};
use std::time::Duration;

use attache::config::{self, Env};
use attache::prices::PriceTable;
use attache::routing::Strategy;
use attache::store::{CounterBackend, DatabaseBackend};
use attache_llm::price::Item;
use attache_llm::provider::Provider;

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples")
}

fn env() -> Env {
    Env::from([
        ("LITELLM_MASTER_KEY", "sk-5f3a9c07d1e84b62"),
        ("OPENAI_API_KEY", "sk-openai-0123456789"),
        ("GROQ_API_KEY", "gsk-0123456789"),
        ("AZURE_DEPLOYMENT_NAME", "gpt-4o"),
        ("AZURE_API_BASE", "https://example.openai.azure.com/"),
        ("AZURE_API_KEY", "azure-0123456789"),
        ("AZURE_EAST_BASE", "https://east.openai.azure.com"),
        ("AZURE_EAST_KEY", "east-0123456789"),
        ("AZURE_WEST_BASE", "https://west.openai.azure.com"),
        ("AZURE_WEST_KEY", "west-0123456789"),
        ("DATABASE_URL", "postgres://attache:secret@db.example:5432/attache"),
        ("REDIS_HOST", "redis.example"),
        ("REDIS_PORT", "6380"),
        ("REDIS_PASSWORD", "p@ss/word"),
        ("ANTHROPIC_API_KEY", "sk-ant-0123456789"),
        ("AWS_ACCESS_KEY_ID", "AKIA0123456789"),
        ("AWS_SECRET_ACCESS_KEY", "aws-0123456789"),
        ("AWS_BEARER_TOKEN_BEDROCK", "bedrock-0123456789"),
        ("GEMINI_API_KEY", "gemini-0123456789"),
        ("AZURE_TENANT_ID", "tenant"),
        ("AZURE_CLIENT_ID", "client"),
        ("AZURE_CLIENT_SECRET", "entra-0123456789"),
        ("COHERE_API_KEY", "cohere-0123456789"),
        ("FAKE_PROVIDER_URL", "http://127.0.0.1:4010"),
    ])
}

#[test]
fn every_example_passes_the_check() {
    let mut seen = 0;
    for entry in std::fs::read_dir(examples()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let report = config::check(&path, &env(), &PriceTable::embedded());
        assert!(report.passed(), "{report}");
        let meaning = report.meaning.as_ref().unwrap();
        assert!(!meaning.snapshot.groups.is_empty(), "{report}");
        let text = report.to_string();
        for secret in ["0123456789", "p@ss", "5f3a9c07", ":secret@"] {
            assert!(!text.contains(secret), "{} shows a secret: {text}", path.display());
        }
        seen += 1;
    }
    assert!(seen >= 5, "only {seen} examples in {}", examples().display());
}

#[test]
fn the_seed_means_what_it_says() {
    let loaded = config::load(&examples().join("seed.yaml"), &env()).unwrap();
    let warnings: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].contains("features.pre_call_health_checks") && warnings[0].contains("seed.yaml:"),
        "{warnings:?}"
    );

    let config = &loaded.config;
    let CounterBackend::Redis { servers, .. } = config.counters() else { panic!("Redis is configured") };
    assert_eq!(servers.url.expose(), "redis://:p%40ss%2Fword@redis.example:6380/");
    let DatabaseBackend::Postgres { url, max_connections, .. } = config.database(Path::new("/data")) else {
        panic!("Postgres is configured")
    };
    assert_eq!((url.expose(), max_connections), ("postgres://attache:secret@db.example:5432/attache", 10));
    assert_eq!(config.general_settings.proxy_batch_write_at, 60);
    assert!(config.features.separate_health_app && config.features.pre_call_health_checks);

    let snapshot = config::snapshot(config, &PriceTable::embedded(), 7, &env()).unwrap();
    assert_eq!((snapshot.generation, snapshot.num_retries, snapshot.max_fallbacks), (7, 2, 5));
    assert_eq!((snapshot.breaker_allowed_fails, snapshot.cooldown), (None, Duration::from_secs(5)));
    assert_eq!(snapshot.groups["gpt-4o"].strategy, Strategy::UsageBased);
    let deployment = &snapshot.groups["gpt-4o"].deployments[0];
    assert_eq!(deployment.meta.provider, Provider::Azure);
    assert_eq!(deployment.meta.model, "gpt-4o");
    assert_eq!(
        (deployment.host.as_str(), deployment.port, deployment.tls),
        ("example.openai.azure.com", 443, true)
    );
    assert_eq!(deployment.meta.api_version.as_deref(), Some("2025-02-01-preview"));
    assert_eq!((deployment.rpm, deployment.tpm), (Some(60), Some(100_000)));
    let (header, value) = deployment.credential.as_ref().unwrap().configured().unwrap();
    assert_eq!((header, value), ("api-key", "azure-0123456789"));
    assert_eq!(
        deployment.meta.price.as_ref().and_then(|price| price.base(Item::Input)),
        Some(2_500_000_000),
        "azure/gpt-4o is in the price table"
    );
    let id = &deployment.meta.id;
    assert_eq!(deployment.cluster, format!("gpt-4o/azure/{}", &id[..8]));
    assert!(std::sync::Arc::ptr_eq(deployment, &snapshot.deployments[id]));
}

#[test]
fn fallbacks_and_aliases_reach_the_snapshot() {
    let loaded = config::load(&examples().join("fallbacks.yaml"), &env()).unwrap();
    let snapshot = config::snapshot(&loaded.config, &PriceTable::embedded(), 1, &env()).unwrap();
    assert_eq!(snapshot.fallbacks["gpt-4o"], ["gpt-4o-mini", "gpt-oss"]);
    assert_eq!(snapshot.fallbacks["*"], ["local"]);
    assert_eq!(snapshot.context_window_fallbacks.as_ref().unwrap()["gpt-4o-mini"], ["gpt-4.1"]);
    assert_eq!(snapshot.content_policy_fallbacks.as_ref().unwrap()["gpt-4o"], ["gpt-oss"]);
    assert_eq!(snapshot.aliases["smart"], "gpt-4o");
    assert_eq!(snapshot.groups["gpt-4o"].deployments.len(), 2);
    let local = &snapshot.groups["local"].deployments[0];
    assert_eq!((local.host.as_str(), local.port, local.tls), ("127.0.0.1", 8000, false));
    assert!(local.credential.is_none(), "a local server needs no key");
    assert_eq!((snapshot.num_retries, snapshot.cooldown), (1, Duration::from_secs(30)));
}

/// It is the place to copy from: no routing key is missing, and none gives a warning.
#[test]
fn the_routing_example_has_every_key() {
    let path = examples().join("routing.yaml");
    let loaded = config::load(&path, &env()).unwrap();
    let warnings: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warnings, [""; 0]);

    let text = std::fs::read_to_string(&path).unwrap();
    let keys = [
        "order max_parallel_requests tags max_budget budget_duration region_name num_retries mirror rpm tpm",
        "stream_timeout timeout cooldown_time access_groups max_input_tokens allowed_fails_policy id",
        "routing_strategy routing_strategy_args routing_groups retry_policy model_group_retry_policy retry_after",
        "fallbacks default_fallbacks context_window_fallbacks content_policy_fallbacks max_fallbacks",
        "model_group_alias hidden allowed_fails enable_pre_call_checks enable_tag_filtering",
        "tag_filtering_match_any optional_pre_call_checks default_max_parallel_requests provider_budget_config",
        "redis_url background_health_checks health_check_interval readiness_requires",
        "proxy_config_reload_interval_seconds pre_call_health_checks",
    ];
    for key in keys.iter().flat_map(|line| line.split(' ')) {
        let wanted = format!("{key}:");
        let has = |line: &str| line.trim_start_matches([' ', '-', '#']).starts_with(&wanted);
        assert!(text.lines().any(has), "{key} is not in the example");
    }

    let snapshot = config::snapshot(&loaded.config, &PriceTable::embedded(), 1, &env()).unwrap();
    assert_eq!(snapshot.wildcards.len(), 1);
    assert_eq!(snapshot.deployments["azure-west"].mirror.as_deref(), Some("gpt-4o-candidate"));
    assert_eq!(snapshot.provider_budgets["groq"].limit, 20_000_000_000);
    assert_eq!(snapshot.groups["gpt-4o-candidate"].strategy, Strategy::Cost);
}

#[test]
fn the_teams_example_has_limits_budgets_and_identities() {
    let loaded = config::load(&examples().join("teams.yaml"), &env()).unwrap();
    let warnings: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warnings, [""; 0]);
    let snapshot = config::snapshot(&loaded.config, &PriceTable::embedded(), 1, &env()).unwrap();
    let rules = &snapshot.limits;
    assert_eq!((rules.key_parallel, rules.parallel, rules.budget_status), (Some(50), Some(2000), 429));
    assert_eq!((rules.timezone.as_str(), rules.reset_minute), ("Europe/Berlin", 360));
    assert_eq!(rules.budget.as_ref().unwrap().limit_nanos, 10_000_000_000_000);
    assert_eq!(rules.tag_budgets["nightly"].duration.as_deref(), Some("1d"));
    assert_eq!(rules.end_user_budget_nanos, Some(2_000_000_000));
    assert!(rules.fail_closed_budgets && !rules.budget_audit);
    let identities = &loaded.config.features.identities;
    let name = |id: &str| config::find_identity(identities, id).map(|rule| rule.name.as_str());
    assert_eq!(name("spiffe:spiffe://corp.example/ns/search/sa/indexer"), Some("search-indexer"));
    assert_eq!(name("spiffe:spiffe://corp.example/ns/search/sa/web"), Some("search"));
    assert_eq!(name("jwt:azp=batch-1"), Some("batch"));
}
