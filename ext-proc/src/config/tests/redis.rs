//! Every way in which LiteLLM's users name their Redis.

use super::*;
use crate::store::{CounterBackend, RedisNodes, RedisServers};

fn servers_with(text: &str, variables: &[(&str, &str)]) -> Option<RedisServers> {
    let env = env().with(variables.iter().copied());
    let loaded = load_text(&format!("{MODEL}{text}"), &env).unwrap_or_else(|errors| panic!("{errors}"));
    match loaded.config.counters() {
        CounterBackend::Redis { servers, .. } => Some(servers),
        CounterBackend::Memory => None,
    }
}

fn servers(text: &str) -> RedisServers {
    servers_with(text, &[]).unwrap()
}

fn node(host: &str, port: u16) -> (String, u16) {
    (host.to_owned(), port)
}

#[test]
fn a_cluster_is_named_by_its_nodes_in_every_form() {
    let nodes = RedisNodes::Cluster(vec![node("a", 7001), node("::1", 7002)]);
    for list in [
        "[a:7001, '[::1]:7002']",
        "[{host: a, port: 7001}, {host: '::1', port: '7002'}]",
        "[[a, 7001], ['::1', '7002']]",
        "'[{\"host\": \"a\", \"port\": \"7001\"}, {\"host\": \"::1\", \"port\": 7002}]'",
    ] {
        let found = servers(&format!(
            "router_settings:\n  redis_startup_nodes: {list}\n  redis_password: p/w\n  redis_ssl: true\n"
        ));
        assert_eq!(found.nodes, nodes, "{list}");
        assert_eq!(found.url.expose(), "rediss://:p%2Fw@a:6379/");
    }
    let found = servers("litellm_settings:\n  cache_params: {type: redis, redis_startup_nodes: [a:1]}\n");
    assert_eq!(found.nodes, RedisNodes::Cluster(vec![node("a", 1)]));
    assert_eq!(found.to_string(), "Redis Cluster, by a:1");
    let variable = [("REDIS_CLUSTER_NODES", "[{\"host\": \"a\", \"port\": \"1\"}]"), ("REDIS_PASSWORD", "x")];
    let found = servers_with("", &variable).unwrap();
    assert_eq!(
        (found.nodes, found.url.expose()),
        (RedisNodes::Cluster(vec![node("a", 1)]), "redis://:x@a:6379/")
    );
}

#[test]
fn sentinels_have_a_service_and_a_password_of_their_own() {
    let found = servers(
        "router_settings:\n  redis_sentinel_nodes: [[s1, 26379], [s2, 26379]]\n  redis_service_name: mymaster\n  redis_sentinel_password: hunter2\n  redis_ssl: true\n  redis_ssl_ca_certs: /ca.pem\n",
    );
    let RedisNodes::Sentinels { nodes, service, password } = &found.nodes else { panic!("{found:?}") };
    assert_eq!((nodes.len(), service.as_str()), (2, "mymaster"));
    assert_eq!(password.as_ref().unwrap().expose(), "hunter2");
    assert_eq!(found.ca_certs.as_deref(), Some(std::path::Path::new("/ca.pem")));
    assert_eq!(found.to_string(), "Redis, primary of mymaster, by sentinels s1:26379, s2:26379, TLS");
    let variables = [("REDIS_SENTINEL_NODES", "[[\"s1\", 26379]]"), ("REDIS_SERVICE_NAME", "m")];
    let found = servers_with("", &variables).unwrap();
    assert!(matches!(found.nodes, RedisNodes::Sentinels { service, .. } if service == "m"));
}

#[test]
fn the_first_source_counts_and_variables_say_what_it_leaves_out() {
    let cache = "litellm_settings:\n  cache_params: {type: redis, host: cache, db: 2}\n";
    let router = "router_settings:\n  redis_host: router\n";
    let general = "general_settings:\n  coordination_redis: {host: coordination, ssl: true}\n";
    let variables =
        [("REDIS_HOST", "variable"), ("REDIS_PORT", "6380"), ("REDIS_PASSWORD", "x"), ("REDIS_SSL", "False")];
    for (text, url) in [
        (format!("{general}{router}{cache}"), "rediss://:x@coordination:6380/"),
        (format!("{router}{cache}"), "redis://:x@router:6380/"),
        (cache.to_owned(), "redis://:x@cache:6380/2"),
        (String::new(), "redis://:x@variable:6380/"),
        ("router_settings:\n  redis_password: own\n".to_owned(), "redis://:own@variable:6380/"),
        ("router_settings:\n  redis_url: redis://whole\n".to_owned(), "redis://whole"),
        (
            "litellm_settings:\n  cache_params: {type: s3, host: cache}\n".to_owned(),
            "redis://:x@variable:6380/",
        ),
    ] {
        assert_eq!(servers_with(&text, &variables).unwrap().url.expose(), url, "{text}");
    }
    assert!(servers_with("", &[]).is_none());
    assert!(servers_with("", &[("REDIS_PORT", "6380"), ("REDIS_PASSWORD", "x")]).is_none());
    // What does not matter to these servers is left alone.
    let more = [("REDIS_SERVICE_NAME", "m"), ("REDIS_DB", "3"), ("REDIS_SSL_CA_CERTS", "/ca.pem")];
    let found = servers_with("router_settings: {redis_startup_nodes: [a:1]}\n", &more).unwrap();
    assert_eq!((found.url.expose(), found.ca_certs), ("redis://a:6379/", None));
    // Kubernetes, for a service of this name.
    let found = servers_with("", &[("REDIS_HOST", "h"), ("REDIS_PORT", "tcp://10.0.0.1:6379")]).unwrap();
    assert_eq!(found.url.expose(), "redis://h:6379/");
    let found = servers_with("", &[("REDIS_URL", "redis://u:p@h:1/2"), ("REDIS_SSL", "true")]).unwrap();
    assert_eq!(found.url.expose(), "redis://u:p@h:1/2");
    assert_eq!(found.to_string(), "Redis, h:1/2", "no login");
    let found = servers("router_settings: {redis_url: 'redis://h', redis_ssl: true}\n");
    assert_eq!(found.url.expose(), "rediss://h");
}

#[test]
fn what_does_not_fit_together_is_an_error() {
    for (lines, expected) in [
        ("redis_host: redis://h", ["redis_host", "a URL goes to `redis_url`"]),
        ("redis_url: http://hunter2@h", ["redis_url", "must start with redis://"]),
        ("redis_url: 'redis://:hunter2@h:port'", ["redis_url", "not a URL"]),
        ("redis_startup_nodes: [a]", ["redis_startup_nodes", "expected a list of `host:port`"]),
        ("redis_startup_nodes: [a:0]", ["redis_startup_nodes", "expected a list of `host:port`"]),
        ("redis_startup_nodes: [a:1]\n  redis_db: 3", ["redis_db", "database 0 alone"]),
        ("redis_sentinel_nodes: [a:1]", ["redis_sentinel_nodes", "`redis_service_name` is missing"]),
        ("redis_host: h\n  redis_service_name: m", ["redis_service_name", "without `redis_sentinel_nodes`"]),
        ("redis_service_name: m", ["redis_service_name", "set without `redis_host`"]),
        (
            "redis_startup_nodes: [a:1]\n  redis_sentinel_nodes: [b:1]\n  redis_service_name: m",
            ["redis_sentinel_nodes", "a cluster has no sentinels"],
        ),
        ("redis_host: h\n  redis_ssl_ca_certs: /ca.pem", ["redis_ssl_ca_certs", "set `redis_ssl`"]),
        ("redis_url: 'unix:///s'\n  redis_ssl: true", ["redis_ssl", "has no TLS"]),
        ("redis_url: 'unix:///s'\n  redis_startup_nodes: [a:1]", ["redis_url", "have no Unix sockets"]),
    ] {
        let found = errors(&format!("{MODEL}router_settings:\n  {lines}\n"));
        assert_some(&found, &expected);
        assert!(!found.concat().contains("hunter2"), "{found:?}");
    }
    let found = errors(&format!("{MODEL}litellm_settings:\n  cache_params: {{sentinel_nodes: [a:1]}}\n"));
    assert_some(&found, &["litellm_settings.cache_params.sentinel_nodes", "`service_name` is missing"]);
    let found = errors_with(MODEL, &env().with([("REDIS_CLUSTER_NODES", "hunter2")]));
    assert_some(&found, &["environment variable REDIS_CLUSTER_NODES: expected a JSON list"]);
    assert!(!found.concat().contains("hunter2"), "{found:?}");
}
