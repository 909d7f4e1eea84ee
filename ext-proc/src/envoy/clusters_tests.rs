use std::sync::Arc;

use serde_json::json;

use super::*;
use envoy_types::pb::envoy::extensions::filters::http::aws_request_signing::v3::AwsRequestSigning;

use crate::config::Secret as Plain;
use crate::credentials::{AwsSource, Source};

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
        credential: key.map(|key| Credential::Header("api-key".into(), Plain::new(key))),
        ..Deployment::new(meta)
    }
}

fn built(deployment: &Deployment) -> Cluster {
    let encoded = encode_one(deployment, &ClusterOptions::new("/f.wasm".into())).unwrap();
    assert_eq!(encoded.type_url, "type.googleapis.com/envoy.config.cluster.v3.Cluster");
    Cluster::decode(encoded.value.as_slice()).unwrap()
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
    assert!(!encoded.value.windows(11).any(|bytes| bytes == b"very-secret"));
    let (name, secret) = secret(&with.cluster, "very-secret");
    assert_eq!(name, "credential/gpt-4o/azure/dep1");
    assert_eq!(Secret::decode(secret.value.as_slice()).unwrap().name, name);
    assert!(secret.value.windows(11).any(|bytes| bytes == b"very-secret"));

    let without = deployment("h", true, None);
    assert_eq!(http(&built(&without)).http_filters.len(), 2, "no credential, no injector that would refuse");
}

#[test]
fn a_signature_follows_the_adapter_and_its_keys_are_in_a_file() {
    let keys =
        crate::credentials::AwsKeys { id: "AKIA1".into(), secret: Plain::new("very-secret"), session: None };
    let source = Source::Aws(AwsSource::Keys(keys)).into();
    let signed = |source| Deployment {
        credential: Some(Credential::Signed { region: "eu-central-1".into(), source }),
        ..deployment("h", true, None)
    };
    let cluster = built(&signed(Some(source)));
    let filters = http(&cluster).http_filters;
    let names: Vec<_> = filters.iter().map(|filter| filter.name.as_str()).collect();
    let signing = "envoy.filters.http.aws_request_signing";
    assert_eq!(names, ["attache.adapter", signing, "envoy.filters.http.upstream_codec"]);
    let config = |filter: &HttpFilter| {
        let Some(ConfigType::TypedConfig(any)) = &filter.config_type else { panic!("no config") };
        AwsRequestSigning::decode(any.value.as_slice()).unwrap()
    };
    let filter = config(&filters[1]);
    assert_eq!((filter.service_name.as_str(), filter.region.as_str()), ("bedrock", "eu-central-1"));
    let provider = filter.credential_provider.unwrap();
    assert!(provider.custom_credential_provider_chain && provider.inline_credential.is_none());
    let file = provider.credentials_file_provider.unwrap().credentials_data_source.unwrap();
    assert_eq!(file.watched_directory.unwrap().path, "aws");
    assert!(!cluster.encode_to_vec().windows(11).any(|bytes| bytes == b"very-secret"));

    let own = config(&http(&built(&signed(None))).http_filters[1]);
    assert!(own.credential_provider.is_none(), "Envoy's own environment");
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

#[test]
fn realtime_deployments_are_spoken_to_in_http_1() {
    let plain = deployment("api.openai.com", true, Some("k"));
    let by_mode =
        Deployment { mode: Some("realtime".into()), ..deployment("api.openai.com", true, Some("k")) };
    let mut by_name = deployment("api.openai.com", true, Some("k"));
    by_name.meta.model = "gpt-realtime-mini".into();
    for (deployment, http_1) in [(&plain, false), (&by_mode, true), (&by_name, true)] {
        let cluster = built(deployment);
        let alpn = tls_context(&cluster).common_tls_context.unwrap().alpn_protocols;
        assert_eq!(alpn.contains(&"h2".to_owned()), !http_1);
        let options = http(&cluster).upstream_protocol_options;
        assert_eq!(matches!(options, Some(UpstreamProtocolOptions::ExplicitHttpConfig(_))), http_1);
    }
}
