use attache_llm::contract::STEP_HEADERS;
use serde_json::Value;

use super::*;

fn options() -> BootstrapOptions {
    BootstrapOptions::new(
        SidecarAddress::Unix("/run/attache/attache.sock".into()),
        "/usr/lib/attache/attache_filter.wasm".into(),
    )
}

fn parsed(options: &BootstrapOptions) -> Value {
    let text = render(options).unwrap();
    serde_yaml_ng::from_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn hcm(bootstrap: &Value) -> &Value {
    &bootstrap["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
}

fn routes(bootstrap: &Value) -> &Vec<Value> {
    hcm(bootstrap)["route_config"]["virtual_hosts"][0]["routes"].as_array().unwrap()
}

fn cluster<'a>(bootstrap: &'a Value, name: &str) -> &'a Value {
    let clusters = bootstrap["static_resources"]["clusters"].as_array().unwrap();
    clusters.iter().find(|cluster| cluster["name"] == name).unwrap()
}

#[test]
fn values_reach_their_places() {
    let mut options = options();
    options.listen = "[::1]:4010".parse().unwrap();
    options.gate.max_body_bytes = 20_000_000;
    options.stall_timeout = Duration::from_millis(90_500);
    let bootstrap = parsed(&options);
    let address = &bootstrap["static_resources"]["listeners"][0]["address"]["socket_address"];
    assert_eq!(address["address"], "::1");
    assert_eq!(address["port_value"], 4010);
    let llm = routes(&bootstrap).last().unwrap();
    assert_eq!(llm["name"], "llm");
    assert_eq!(llm["request_body_buffer_limit"], 20_000_000);
    assert_eq!(llm["route"]["retry_policy"]["per_try_idle_timeout"], "90.500s");
    assert_eq!(hcm(&bootstrap)["stream_idle_timeout"], "100.500s");
    let gate = &hcm(&bootstrap)["http_filters"][0]["typed_config"]["config"];
    let config: GateConfig = serde_json::from_str(gate["configuration"]["value"].as_str().unwrap()).unwrap();
    assert_eq!(config, options.gate);
    assert_eq!(gate["vm_config"]["code"]["local"]["filename"], "/usr/lib/attache/attache_filter.wasm");
}

#[test]
fn a_request_without_a_plan_goes_nowhere() {
    let bootstrap = parsed(&options());
    let llm = routes(&bootstrap).last().unwrap();
    let plugin = &llm["route"]["inline_cluster_specifier_plugin"]["extension"]["typed_config"];
    let name = plugin["priority_groups"][0]["clusters"][0]["cluster_name"].as_str().unwrap();
    assert_eq!(cluster(&bootstrap, name)["load_assignment"]["endpoints"].as_array().unwrap().len(), 0);
}

#[test]
fn internal_paths_end_at_envoy_before_any_other_route() {
    let bootstrap = parsed(&options());
    let first = &routes(&bootstrap)[0];
    assert_eq!(first["match"]["prefix"], "/internal");
    assert_eq!(first["direct_response"]["status"], 404);
}

#[test]
fn admin_paths_reach_the_sidecar_without_a_decision() {
    let bootstrap = parsed(&options());
    let admin: Vec<_> = routes(&bootstrap).iter().filter(|route| route["name"] == "admin").collect();
    assert_eq!(admin.len(), ADMIN_PREFIXES.len());
    for (route, prefix) in admin.into_iter().zip(ADMIN_PREFIXES) {
        assert_eq!(route["match"]["path_separated_prefix"], prefix);
        assert!(attache_llm::path::is_admin(prefix), "the gate must let {prefix} pass");
        assert_eq!(route["route"]["cluster"], "attache_sidecar");
        assert_eq!(route["typed_per_filter_config"]["envoy.filters.http.ext_proc"]["disabled"], true);
    }
}

#[test]
fn sidecar_on_another_host_is_reached_with_mutual_tls() {
    let mut options = options();
    options.sidecar = SidecarAddress::Tcp {
        host: "attache.svc".into(),
        port: 4443,
        ca: "/tls/ca.pem".into(),
        cert: "/tls/cert.pem".into(),
        key: "/tls/key.pem".into(),
    };
    let bootstrap = parsed(&options);
    let sidecar = cluster(&bootstrap, "attache_sidecar");
    assert_eq!(sidecar["type"], "STRICT_DNS");
    let tls = &sidecar["transport_socket"]["typed_config"];
    assert_eq!(tls["sni"], "attache.svc");
    let context = &tls["common_tls_context"];
    assert_eq!(context["validation_context"]["trusted_ca"]["filename"], "/tls/ca.pem");
    assert_eq!(
        context["validation_context"]["match_typed_subject_alt_names"][0]["matcher"]["exact"],
        "attache.svc"
    );
    assert_eq!(context["tls_certificates"][0]["private_key"]["filename"], "/tls/key.pem");
}

#[test]
fn public_listener_has_tls_only_when_asked() {
    let mut options = options();
    let plain = parsed(&options);
    assert!(plain["static_resources"]["listeners"][0]["filter_chains"][0].get("transport_socket").is_none());
    options.tls = Some(ListenerTls {
        cert: "c.pem".into(),
        key: "k.pem".into(),
        client_ca: None,
        client_optional: false,
        http3: None,
    });
    let server = parsed(&options);
    let tls =
        &server["static_resources"]["listeners"][0]["filter_chains"][0]["transport_socket"]["typed_config"];
    assert_eq!(tls["common_tls_context"]["tls_certificates"][0]["certificate_chain"]["filename"], "c.pem");
    assert!(tls.get("require_client_certificate").is_none());
    options.tls.as_mut().unwrap().client_ca = Some("ca.pem".into());
    let mutual = parsed(&options);
    let tls =
        &mutual["static_resources"]["listeners"][0]["filter_chains"][0]["transport_socket"]["typed_config"];
    assert_eq!(tls["require_client_certificate"], true);
    assert_eq!(tls["common_tls_context"]["validation_context"]["trusted_ca"]["filename"], "ca.pem");
}

#[test]
fn odd_values_are_quoted() {
    let mut options = options();
    options.wasm = "/odd \"dir\": {x}/# f.wasm".into();
    options.node_id = "yes".into();
    let bootstrap = parsed(&options);
    assert_eq!(bootstrap["node"]["id"], "yes");
    let gate = &hcm(&bootstrap)["http_filters"][0]["typed_config"]["config"];
    assert_eq!(gate["vm_config"]["code"]["local"]["filename"], "/odd \"dir\": {x}/# f.wasm");
}

#[test]
fn access_log_names_no_credential_and_no_query() {
    let bootstrap = parsed(&options());
    let text = hcm(&bootstrap)["access_log"].to_string().to_lowercase();
    for word in ["authorization", "api-key", "%req(:path)%", "cookie", "x-attache-ask"] {
        assert!(!text.contains(word), "{word}");
    }
    let mut quiet = options();
    quiet.access_log = false;
    assert!(hcm(&parsed(&quiet)).get("access_log").is_none());
}

#[test]
fn nothing_of_the_template_is_left() {
    let text = render(&options()).unwrap();
    for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
        assert!(!line.contains("{{") && !line.contains("#[["), "{line}");
    }
}

#[test]
fn impossible_limits_are_errors() {
    let mut zero = options();
    zero.stall_timeout = Duration::ZERO;
    assert!(render(&zero).is_err());
    let mut huge = options();
    huge.gate.max_body_bytes = 5 << 30;
    assert!(render(&huge).is_err());
}

#[test]
fn planning_anew_reaches_the_same_sidecar_through_the_adapter() {
    for tcp in [false, true] {
        let mut options = options();
        if tcp {
            options.sidecar = SidecarAddress::Tcp {
                host: "attache.svc".into(),
                port: 4443,
                ca: "/tls/ca.pem".into(),
                cert: "/tls/cert.pem".into(),
                key: "/tls/key.pem".into(),
            };
        }
        let bootstrap = parsed(&options);
        let (sidecar, replan) = (cluster(&bootstrap, "attache_sidecar"), cluster(&bootstrap, REPLAN_CLUSTER));
        for same in ["type", "connect_timeout", "dns_lookup_family", "transport_socket", "health_checks"] {
            assert_eq!(replan[same], sidecar[same], "{same}");
        }
        // Behind a socket is one sidecar: there is no other to go to.
        for only in ["health_checks", "outlier_detection"] {
            assert_eq!(sidecar.get(only).is_some(), tcp, "{only}");
        }
        assert_eq!(replan["load_assignment"]["endpoints"], sidecar["load_assignment"]["endpoints"]);
        let marker = replan["metadata"]["filter_metadata"]["attache"]["deployment"].as_str().unwrap();
        assert_eq!(marker, r#"{"replan":true}"#);
        let protocol = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
        let adapter = &replan["typed_extension_protocol_options"][protocol]["http_filters"][0];
        let gate = &hcm(&bootstrap)["http_filters"][0]["typed_config"]["config"];
        assert_eq!(adapter["typed_config"]["config"]["vm_config"], gate["vm_config"], "one VM for all");
        assert_eq!(adapter["typed_config"]["config"]["root_id"], "adapter");
    }
}

#[test]
fn only_the_gateways_own_redirect_is_followed_and_no_more_often_than_passes() {
    let bootstrap = parsed(&options());
    let policy = &routes(&bootstrap).last().unwrap()["route"]["internal_redirect_policy"];
    assert_eq!(policy["max_internal_redirects"], MAX_PASSES - 1);
    assert_eq!(policy["redirect_response_codes"], serde_json::json!([307]));
    for route in routes(&bootstrap).iter().filter(|route| route["name"] != "llm") {
        assert!(route["route"].get("internal_redirect_policy").is_none());
    }
}

#[test]
fn only_realtime_sessions_are_web_sockets() {
    let bootstrap = parsed(&options());
    let routes = routes(&bootstrap);
    let upgrades: Vec<_> = routes.iter().filter(|r| r["route"].get("upgrade_configs").is_some()).collect();
    let [realtime] = upgrades.as_slice() else { panic!("{upgrades:?}") };
    assert_eq!(realtime["route"]["upgrade_configs"][0]["upgrade_type"], "websocket");
    assert_eq!(realtime["match"]["headers"][0]["string_match"]["exact"], "websocket");
    // Plan, retries and what providers may not see are those of every other request.
    let llm = routes.last().unwrap();
    for part in ["inline_cluster_specifier_plugin", "retry_policy", "timeout"] {
        assert_eq!(realtime["route"][part], llm["route"][part], "{part}");
    }
    assert_eq!(realtime["request_headers_to_remove"], llm["request_headers_to_remove"]);
    let regex = regex::Regex::new(realtime["match"]["safe_regex"]["regex"].as_str().unwrap()).unwrap();
    for path in ["/v1/realtime", "/realtime", "/openai/realtime", "/openai/v1/realtime/"] {
        assert!(regex.find(path).is_some_and(|found| found.len() == path.len()), "{path}");
        let endpoint = attache_llm::path::Endpoint::parse(path).map(|parsed| parsed.endpoint);
        assert_eq!(endpoint, Some(attache_llm::path::Endpoint::Realtime), "{path}");
    }
}

#[test]
fn the_log_has_one_line_for_a_request_of_several_passes() {
    let bootstrap = parsed(&options());
    for log in hcm(&bootstrap)["access_log"].as_array().unwrap() {
        let filter = &log["filter"]["and_filter"]["filters"][0]["status_code_filter"]["comparison"];
        assert_eq!((&filter["op"], &filter["value"]["default_value"]), (&"NE".into(), &307.into()));
    }
}

#[test]
fn certificates_of_clients_may_be_optional_but_are_verified() {
    let mut options = options();
    let ca = Some("ca.pem".into());
    let (cert, key) = ("c.pem".into(), "k.pem".into());
    options.tls = Some(ListenerTls { cert, key, client_ca: ca, client_optional: true, http3: None });
    let bootstrap = parsed(&options);
    let tls = &bootstrap["static_resources"]["listeners"][0]["filter_chains"][0]["transport_socket"]["typed_config"];
    assert!(tls.get("require_client_certificate").is_none());
    assert_eq!(tls["common_tls_context"]["validation_context"]["trusted_ca"]["filename"], "ca.pem");
}

#[test]
fn xfcc_is_let_in_only_when_the_gate_reads_it() {
    let mut options = options();
    assert_eq!(hcm(&parsed(&options))["forward_client_cert_details"], "SANITIZE");
    options.gate.trust_xfcc = true;
    assert_eq!(hcm(&parsed(&options))["forward_client_cert_details"], "ALWAYS_FORWARD_ONLY");
}

#[test]
fn tokens_are_verified_before_the_gate() {
    let mut options = options();
    assert_eq!(hcm(&parsed(&options))["http_filters"][0]["name"], "attache.gate");
    options.gate.jwt_metadata = "claims".into();
    options.tokens = Some(Tokens {
        issuer: "https://id.example".into(),
        audiences: vec!["attache".into(), "llm".into()],
        jwks: Jwks::File("/etc/jwks.json".into()),
    });
    let bootstrap = parsed(&options);
    let filters = hcm(&bootstrap)["http_filters"].as_array().unwrap();
    assert_eq!(filters[0]["name"], "envoy.filters.http.jwt_authn");
    assert_eq!(filters[1]["name"], "attache.gate");
    let config = &filters[0]["typed_config"];
    let provider = &config["providers"]["attache"];
    assert_eq!(provider["issuer"], "https://id.example");
    assert_eq!(provider["audiences"][1], "llm");
    assert_eq!(provider["payload_in_metadata"], "claims");
    assert_eq!(provider["local_jwks"]["filename"], "/etc/jwks.json");
    assert_eq!(provider["require_expiration"], true);
    assert!(provider.get("remote_jwks").is_none() && provider.get("forward").is_none());
    assert_eq!(config["rules"][0]["match"]["headers"][0]["string_match"]["prefix"], "Bearer ey");
}

#[test]
fn keys_of_the_issuer_may_come_from_its_server() {
    let mut options = options();
    let url = |url: &str| Jwks::Url { url: url.into(), ca: "/ca.pem".into() };
    let tokens = |jwks| Some(Tokens { issuer: "https://id.example".into(), audiences: Vec::new(), jwks });
    options.tokens = tokens(url("https://id.example/keys"));
    let bootstrap = parsed(&options);
    let jwks = cluster(&bootstrap, "attache_jwks");
    let socket =
        &jwks["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]["socket_address"];
    assert_eq!((socket["address"].as_str(), socket["port_value"].as_u64()), (Some("id.example"), Some(443)));
    assert_eq!(jwks["transport_socket"]["typed_config"]["sni"], "id.example");
    let filter = &hcm(&bootstrap)["http_filters"][0]["typed_config"]["providers"]["attache"];
    assert_eq!(filter["remote_jwks"]["http_uri"]["uri"], "https://id.example/keys");
    options.tokens = tokens(url("http://127.0.0.1:81/keys"));
    assert!(cluster(&parsed(&options), "attache_jwks").get("transport_socket").is_none());
    options.tokens = tokens(url("ftp://id.example"));
    assert!(render(&options).is_err());
}

fn filters(bootstrap: &Value) -> Vec<&str> {
    let filters = hcm(bootstrap)["http_filters"].as_array().unwrap();
    filters.iter().map(|filter| filter["name"].as_str().unwrap()).collect()
}

#[test]
fn the_filters_are_those_of_the_way_in_which_decisions_are_asked_for() {
    let mut options = options();
    let bootstrap = parsed(&options);
    assert_eq!(
        filters(&bootstrap),
        ["attache.gate", "envoy.filters.http.ext_proc", "envoy.filters.http.router"]
    );
    options.gate.decisions = Decisions::Batched;
    let bootstrap = parsed(&options);
    let [gate, plan, clear, router] = filters(&bootstrap)[..] else { panic!("{:?}", filters(&bootstrap)) };
    assert_eq!((gate, router), ("attache.gate", "envoy.filters.http.router"));
    assert_eq!(plan, "envoy.filters.http.header_to_metadata");
    assert_eq!(clear, "envoy.filters.http.set_filter_state", "behind the metadata, or attempt 1 has no plan");
    let filters = &hcm(&bootstrap)["http_filters"];
    let rule = &filters[1]["typed_config"]["request_rules"][0];
    assert_eq!((&rule["header"], &rule["remove"]), (&PLAN_HEADER.into(), &true.into()));
    let there = &rule["on_header_present"];
    let plugin = &routes(&bootstrap).last().unwrap()["route"]["inline_cluster_specifier_plugin"]["extension"];
    assert_eq!(there["metadata_namespace"], plugin["typed_config"]["override_metadata_namespace"]);
    assert_eq!((&there["key"], &there["encode"]), (&PLAN_KEY.into(), &"BASE64".into()));
    assert_eq!(filters[2]["typed_config"]["clear_route_cache"], true);
    for route in routes(&bootstrap) {
        assert!(route.get("typed_per_filter_config").is_none(), "{route}");
    }
    // The gate knows, too.
    let text = filters[0]["typed_config"]["config"]["configuration"]["value"].as_str().unwrap();
    assert_eq!(serde_json::from_str::<GateConfig>(text).unwrap().decisions, Decisions::Batched);
}

/// What the matcher answers, as the router asks: `before` is the number of the attempt before.
fn matched<'a>(plugin: &'a Value, before: Option<&str>, steps: &[(&str, &str)]) -> &'a str {
    let matcher = &plugin["typed_config"]["cluster_matcher"];
    let later = &matcher["matcher_tree"]["exact_match_map"]["map"];
    let inner = before.and_then(|number| later.get(number)).unwrap_or(&matcher["on_no_match"]);
    let inner = &inner["matcher"];
    let key = inner["matcher_tree"]["input"]["typed_config"]["key"].as_str().unwrap();
    let step = steps.iter().find(|(header, _)| *header == key);
    let found = step.and_then(|(_, plan)| inner["matcher_tree"]["exact_match_map"]["map"].get(*plan));
    found.unwrap_or(&inner["on_no_match"])["action"]["typed_config"]["cluster"].as_str().unwrap()
}

#[test]
fn before_1_40_a_matcher_finds_each_step() {
    let mut options = options();
    let named = |plan: &str, envoy: &str| Named { plan: plan.into(), envoy: envoy.into() };
    options.plan_by = PlanBy::Matcher(vec![named("a", "outbound|443||a"), named("b", "b")]);
    for (decisions, others) in
        [(Decisions::Batched, vec![]), (Decisions::ExtProc, vec!["envoy.filters.http.ext_proc"])]
    {
        options.gate.decisions = decisions;
        let bootstrap = parsed(&options);
        let wanted = [vec!["attache.gate"], others];
        let wanted: Vec<_> = wanted.concat();
        let all = filters(&bootstrap);
        let (last, rest) = all.split_last().unwrap();
        let (kept, first) = rest.split_last().unwrap();
        assert_eq!((first, *kept), (&wanted[..], "envoy.filters.http.set_filter_state"));
        assert_eq!(*last, "envoy.filters.http.router");
        let state = &hcm(&bootstrap)["http_filters"][rest.len() - 1]["typed_config"];
        assert_eq!(state["clear_route_cache"], true);
        let keys: Vec<_> = list_of(&state["on_request_headers"], "object_key");
        assert_eq!(keys, STEP_HEADERS);
        assert_eq!(
            hcm(&bootstrap)["route_config"]["virtual_hosts"][0]["include_request_attempt_count"],
            true
        );
        for route in routes(&bootstrap).iter().filter(|route| route["name"] != "admin").skip(1) {
            let plugin = &route["route"]["inline_cluster_specifier_plugin"]["extension"];
            let plan = [(STEP_HEADERS[0], "a"), (STEP_HEADERS[1], "b"), (STEP_HEADERS[11], "a")];
            assert_eq!(matched(plugin, None, &plan), "outbound|443||a");
            assert_eq!(matched(plugin, Some("1"), &plan), "b");
            assert_eq!(matched(plugin, Some("11"), &plan), "outbound|443||a");
            for (before, plan) in [(None, &[][..]), (Some("2"), &plan), (None, &[(STEP_HEADERS[0], "c")])] {
                assert_eq!(matched(plugin, before, plan), "attache_no_plan");
            }
            assert_eq!(route["route"]["retry_policy"]["refresh_cluster_on_retry"], true);
        }
    }
}

fn list_of<'a>(items: &'a Value, name: &str) -> Vec<&'a str> {
    items.as_array().unwrap().iter().map(|item| item[name].as_str().unwrap()).collect()
}

#[test]
fn without_xds_all_clusters_are_there() {
    let mut options = options();
    assert!(parsed(&options).get("dynamic_resources").is_some());
    options.clusters = Some(vec![serde_json::json!({"name": "g/openai/1", "type": "STRICT_DNS"})]);
    let bootstrap = parsed(&options);
    assert!(bootstrap.get("dynamic_resources").is_none());
    assert_eq!(cluster(&bootstrap, "g/openai/1")["type"], "STRICT_DNS");
    assert_eq!(cluster(&bootstrap, "attache_sidecar")["name"], "attache_sidecar");
}
