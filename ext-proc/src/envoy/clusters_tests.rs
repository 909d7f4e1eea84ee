use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::config::Secret as Plain;

fn deployment(host: &str, tls: bool, key: Option<&str>) -> Deployment {
    let meta: DeploymentMeta = serde_json::from_value(json!({
        "contract": 1, "id": "dep-1", "group": "gpt-4o", "provider": "azure", "model": "prod",
        "authority": host, "base_path": "",
    }))
    .unwrap();
    Deployment {
        cluster: "gpt-4o/azure/dep1".into(),
        host: host.into(),
        port: 443,
        tls,
        credential: key.map(|key| ("api-key".into(), Plain::new(key))),
        ..Deployment::new(meta)
    }
}

fn built(deployment: &Deployment) -> Cluster {
    let encoded = encode_one(deployment, &ClusterOptions::new("/f.wasm".into())).unwrap();
    assert_eq!(encoded.cluster.type_url, "type.googleapis.com/envoy.config.cluster.v3.Cluster");
    Cluster::decode(encoded.cluster.value.as_slice()).unwrap()
}

fn http(cluster: &Cluster) -> HttpProtocolOptions {
    HttpProtocolOptions::decode(cluster.typed_extension_protocol_options[HTTP_OPTIONS].value.as_slice())
        .unwrap()
}

fn tls_context(cluster: &Cluster) -> UpstreamTlsContext {
    let Some(SocketConfig::TypedConfig(any)) = &cluster.transport_socket.as_ref().unwrap().config_type else {
        panic!("no typed config");
    };
    UpstreamTlsContext::decode(any.value.as_slice()).unwrap()
}

fn san(context: &UpstreamTlsContext) -> (SanType, String) {
    let Some(ValidationContextType::ValidationContext(validation)) =
        &context.common_tls_context.as_ref().unwrap().validation_context_type
    else {
        panic!("nothing is validated");
    };
    assert!(validation.trusted_ca.is_some());
    let san = &validation.match_typed_subject_alt_names[0];
    let Some(MatchPattern::Exact(name)) = &san.matcher.as_ref().unwrap().match_pattern else {
        panic!("not exact")
    };
    (san.san_type(), name.clone())
}

#[test]
fn a_name_is_resolved_and_checked_in_the_certificate() {
    let cluster = built(&deployment("example.openai.azure.com", true, Some("k")));
    let strict = ClusterDiscoveryType::Type(DiscoveryType::StrictDns.into());
    assert_eq!(cluster.cluster_discovery_type, Some(strict));
    let context = tls_context(&cluster);
    assert_eq!(context.sni, "example.openai.azure.com");
    assert_eq!(san(&context), (SanType::Dns, "example.openai.azure.com".into()));
    assert!(matches!(http(&cluster).upstream_protocol_options, Some(UpstreamProtocolOptions::AutoConfig(_))));
    let priorities: Vec<_> =
        cluster.load_assignment.unwrap().endpoints.iter().map(|locality| locality.priority).collect();
    assert_eq!(priorities, [0, 1], "a backstop for the time without an address");
}

#[test]
fn an_address_needs_no_resolver_and_no_sni() {
    let cluster = built(&deployment("10.1.2.3", true, Some("k")));
    let fixed = ClusterDiscoveryType::Type(DiscoveryType::Static.into());
    assert_eq!(cluster.cluster_discovery_type, Some(fixed));
    let context = tls_context(&cluster);
    assert_eq!(context.sni, "");
    assert_eq!(san(&context), (SanType::IpAddress, "10.1.2.3".into()));
    assert_eq!(cluster.load_assignment.unwrap().endpoints.len(), 1);
}

#[test]
fn plain_http_has_no_tls() {
    let cluster = built(&deployment("localhost", false, None));
    assert!(cluster.transport_socket.is_none());
    let options = http(&cluster).upstream_protocol_options;
    assert!(matches!(options, Some(UpstreamProtocolOptions::ExplicitHttpConfig(_))));
}

#[test]
fn the_credential_follows_the_adapter_and_is_only_in_the_secret() {
    let with = deployment("h", true, Some("very-secret"));
    let encoded = encode_one(&with, &ClusterOptions::new("/f.wasm".into())).unwrap();
    let filters: Vec<_> = http(&built(&with)).http_filters.into_iter().map(|filter| filter.name).collect();
    let injector = "envoy.filters.http.credential_injector";
    assert_eq!(filters, ["attache.adapter", injector, "envoy.filters.http.upstream_codec"]);
    assert!(!encoded.cluster.value.windows(11).any(|bytes| bytes == b"very-secret"));
    let (name, secret) = encoded.secret.unwrap();
    assert_eq!(name, "credential/gpt-4o/azure/dep1");
    assert_eq!(Secret::decode(secret.value.as_slice()).unwrap().name, name);
    assert!(secret.value.windows(11).any(|bytes| bytes == b"very-secret"));

    let without = deployment("h", true, None);
    assert!(encode_one(&without, &ClusterOptions::new("/f.wasm".into())).unwrap().secret.is_none());
    assert_eq!(http(&built(&without)).http_filters.len(), 2, "no credential, no injector that would refuse");
}

#[test]
fn the_adapter_reads_its_deployment_from_the_metadata() {
    let deployment = deployment("h", true, None);
    let cluster = built(&deployment);
    let fields = &cluster.metadata.unwrap().filter_metadata["attache"].fields;
    let Some(Kind::StringValue(json)) = &fields["deployment"].kind else { panic!("not a string") };
    assert_eq!(serde_json::from_str::<DeploymentMeta>(json).unwrap(), deployment.meta);
}

#[test]
fn the_encoding_is_stable() {
    let snapshot = Snapshot {
        deployments: [("dep-1".to_owned(), Arc::new(deployment("h", true, Some("k"))))].into(),
        ..Snapshot::default()
    };
    let options = ClusterOptions::new("/f.wasm".into());
    let first = encode(&snapshot, &options).unwrap();
    for _ in 0..20 {
        assert_eq!(encode(&snapshot, &options).unwrap(), first);
    }
}
