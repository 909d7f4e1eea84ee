//! From a snapshot to Envoy's resources: one cluster per deployment, one secret per credential.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use attache_llm::contract::{DEPLOYMENT_KEY, DeploymentMeta, METADATA_NAMESPACE};
use envoy_types::pb::envoy::config::cluster::v3::circuit_breakers::Thresholds;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, DiscoveryType, DnsLookupFamily,
};
use envoy_types::pb::envoy::config::cluster::v3::{CircuitBreakers, Cluster, UpstreamConnectionOptions};
use envoy_types::pb::envoy::config::core::v3::address::Address as AddressKind;
use envoy_types::pb::envoy::config::core::v3::config_source::ConfigSourceSpecifier;
use envoy_types::pb::envoy::config::core::v3::data_source::Specifier;
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::core::v3::transport_socket::ConfigType as SocketConfig;
use envoy_types::pb::envoy::config::core::v3::{
    Address, AggregatedConfigSource, ApiVersion, AsyncDataSource, BackoffStrategy, ConfigSource, DataSource,
    Http1ProtocolOptions, Http2ProtocolOptions, HttpProtocolOptions as CommonHttpOptions, KeepaliveSettings,
    Metadata, SocketAddress, TcpKeepalive, TransportSocket, TypedExtensionConfig, async_data_source,
};
use envoy_types::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use envoy_types::pb::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints,
};
use envoy_types::pb::envoy::extensions::filters::http::credential_injector::v3::CredentialInjector;
use envoy_types::pb::envoy::extensions::filters::http::upstream_codec::v3::UpstreamCodec;
use envoy_types::pb::envoy::extensions::filters::http::wasm::v3::Wasm;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_filter::ConfigType;
use envoy_types::pb::envoy::extensions::http::injected_credentials::generic::v3::Generic;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::common_tls_context::ValidationContextType;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::subject_alt_name_matcher::SanType;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, CommonTlsContext, GenericSecret, SdsSecretConfig, Secret,
    SubjectAltNameMatcher, TlsParameters, UpstreamTlsContext, secret, tls_parameters::TlsProtocol,
};
use envoy_types::pb::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::explicit_http_config::ProtocolConfig;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::{
    AutoHttpConfig, ExplicitHttpConfig, UpstreamProtocolOptions,
};
use envoy_types::pb::envoy::extensions::wasm::v3::{
    FailurePolicy, PluginConfig, ReloadConfig, VmConfig, plugin_config,
};
use envoy_types::pb::envoy::r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern};
use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{
    Any, BoolValue, Duration as ProtoDuration, Struct, UInt32Value, Value,
};
use prost::{Message, Name};

use super::signing;
use crate::credentials::Credential;
use crate::routing::{Deployment, Snapshot};

/// Key of the HTTP options in a cluster's extension options.
pub(super) const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// What clusters depend on beside the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterOptions {
    /// The filter; the same path as in the bootstrap, or gate and adapter get VMs of their own.
    pub wasm: PathBuf,
    /// CA bundle that providers' certificates are checked against.
    pub ca_file: PathBuf,
    pub connect_timeout: Duration,
    /// Leave connections idle for this long at most. Below what providers allow, so that Envoy closes first.
    pub idle_timeout: Duration,
    /// Folder of the files with AWS keys, the same for the sidecar and for Envoy.
    pub keys_dir: PathBuf,
    /// Mode of these files, e.g. `0o600`: Envoy must be able to read them.
    pub keys_mode: u32,
    /// Envoy has its clusters from `attache render`. It takes credentials from files in `keys_dir`.
    pub fixed: bool,
}

impl ClusterOptions {
    /// Options with the system's CA bundle and default timeouts.
    #[must_use]
    pub fn new(wasm: PathBuf) -> Self {
        Self {
            wasm,
            ca_file: PathBuf::from("/etc/ssl/certs/ca-certificates.crt"),
            connect_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(55),
            keys_dir: PathBuf::from("aws"),
            keys_mode: 0o600,
            fixed: false,
        }
    }
}

/// Clusters of all deployments, by name.
pub(super) fn encode(snapshot: &Snapshot, options: &ClusterOptions) -> Result<BTreeMap<String, Any>> {
    let of = |deployment: &Deployment| Ok((deployment.cluster.clone(), encode_one(deployment, options)?));
    snapshot.deployments.values().map(|deployment| of(deployment)).collect()
}

fn encode_one(deployment: &Deployment, options: &ClusterOptions) -> Result<Any> {
    Ok(any(&cluster(deployment, options)?))
}

/// The value of a cluster's credential as SDS has it, with its name.
pub(super) fn secret(cluster: &str, value: &str) -> (String, Any) {
    let name = secret_name(cluster);
    let secret = Secret {
        name: name.clone(),
        r#type: Some(secret::Type::GenericSecret(GenericSecret {
            secret: Some(DataSource {
                specifier: Some(Specifier::InlineString(value.to_owned())),
                ..Default::default()
            }),
            ..Default::default()
        })),
    };
    (name, any(&secret))
}

/// Name of the SDS secret of a cluster.
pub(super) fn secret_name(cluster: &str) -> String {
    format!("credential/{cluster}")
}

#[expect(deprecated, reason = "the replacement, a cluster extension, has no other effect")]
fn cluster(deployment: &Deployment, options: &ClusterOptions) -> Result<Cluster> {
    let address = deployment.host.parse::<IpAddr>().ok();
    let discovery = if address.is_some() { DiscoveryType::Static } else { DiscoveryType::StrictDns };
    Ok(Cluster {
        name: deployment.cluster.clone(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(discovery.into())),
        connect_timeout: Some(proto_duration(options.connect_timeout)),
        load_assignment: Some(endpoints(deployment, address.is_some())),
        dns_lookup_family: DnsLookupFamily::V4Preferred.into(),
        respect_dns_ttl: true,
        dns_refresh_rate: Some(proto_duration(Duration::from_secs(10))),
        // Envoy acknowledges a cluster before its name is resolved, and a plan that names a cluster which still
        // warms up ends the request. So it must not wait for DNS; until then the backstop refuses connections.
        wait_for_warm_on_init: Some(BoolValue { value: false }),
        circuit_breakers: Some(circuit_breakers()),
        typed_extension_protocol_options: [(
            HTTP_OPTIONS.to_owned(),
            any(&http_options(deployment, options)?),
        )]
        .into(),
        transport_socket: deployment.tls.then(|| tls(deployment, address.is_some(), options)).transpose()?,
        metadata: Some(metadata(&deployment.meta)?),
        upstream_connection_options: Some(UpstreamConnectionOptions {
            tcp_keepalive: Some(TcpKeepalive {
                keepalive_probes: Some(uint32(3)),
                keepalive_time: Some(uint32(30)),
                keepalive_interval: Some(uint32(10)),
            }),
            ..Default::default()
        }),
        ..Default::default()
    })
}

/// The provider, and behind it (next priority) an address that refuses every connection.
///
/// A cluster without any host, e.g. because its name does not resolve, answers "no healthy upstream", which Envoy
/// does not retry: the rest of the plan would be lost. A refused connection is retried like any other. The backstop
/// gets traffic only while the first priority is empty, and nothing can listen on its port.
fn endpoints(deployment: &Deployment, is_address: bool) -> ClusterLoadAssignment {
    let mut localities = vec![locality(0, &deployment.host, deployment.port.into())];
    if !is_address {
        localities.push(locality(1, "127.0.0.1", 0));
    }
    ClusterLoadAssignment {
        cluster_name: deployment.cluster.clone(),
        endpoints: localities,
        ..Default::default()
    }
}

fn locality(priority: u32, host: &str, port: u32) -> LocalityLbEndpoints {
    let address = Address {
        address: Some(AddressKind::SocketAddress(SocketAddress {
            address: host.to_owned(),
            port_specifier: Some(PortSpecifier::PortValue(port)),
            ..Default::default()
        })),
    };
    let endpoint = Endpoint { address: Some(address), ..Default::default() };
    LocalityLbEndpoints {
        lb_endpoints: vec![LbEndpoint {
            host_identifier: Some(HostIdentifier::Endpoint(endpoint)),
            ..Default::default()
        }],
        priority,
        ..Default::default()
    }
}

/// Envoy admits a retry by the breaker of the *first* cluster of a plan, three at a time by default; limits are the
/// sidecar's business.
fn circuit_breakers() -> CircuitBreakers {
    let high = Some(uint32(1_000_000));
    CircuitBreakers {
        thresholds: vec![Thresholds {
            max_connections: high,
            max_pending_requests: high,
            max_requests: high,
            max_retries: high,
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// Does it serve realtime sessions? Their WebSocket is one of HTTP/1.1: over HTTP/2 it would be another request, which
/// providers do not take.
pub(super) fn is_realtime(deployment: &Deployment) -> bool {
    deployment.mode.as_deref() == Some("realtime") || deployment.meta.model.contains("realtime")
}

/// Protocol and the upstream filter chain, which runs anew for every attempt.
fn http_options(deployment: &Deployment, options: &ClusterOptions) -> Result<HttpProtocolOptions> {
    let protocol = if deployment.tls && !is_realtime(deployment) {
        // By ALPN. A ping every 30 s finds connections that died in silence.
        UpstreamProtocolOptions::AutoConfig(AutoHttpConfig {
            http2_protocol_options: Some(Http2ProtocolOptions {
                connection_keepalive: Some(KeepaliveSettings {
                    interval: Some(proto_duration(Duration::from_secs(30))),
                    timeout: Some(proto_duration(Duration::from_secs(10))),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        })
    } else {
        UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig {
            protocol_config: Some(ProtocolConfig::HttpProtocolOptions(Http1ProtocolOptions::default())),
        })
    };
    let mut filters = vec![filter("attache.adapter", &adapter(options)?)];
    match &deployment.credential {
        Some(Credential::Signed { region, source }) => {
            let signing = signing::filter(&deployment.cluster, region, source.is_some(), options)?;
            filters.push(filter("envoy.filters.http.aws_request_signing", &signing));
        }
        Some(credential) => {
            let injector = injector(&deployment.cluster, credential.header().unwrap_or_default());
            filters.push(filter("envoy.filters.http.credential_injector", &injector));
        }
        None => {}
    }
    filters.push(filter("envoy.filters.http.upstream_codec", &UpstreamCodec::default()));
    Ok(HttpProtocolOptions {
        common_http_protocol_options: Some(CommonHttpOptions {
            idle_timeout: Some(proto_duration(options.idle_timeout)),
            ..Default::default()
        }),
        http_filters: filters,
        upstream_protocol_options: Some(protocol),
        ..Default::default()
    })
}

/// The adapter plugin. Its VM must be described exactly as the gate's in the bootstrap: then they share one.
fn adapter(options: &ClusterOptions) -> Result<Wasm> {
    let path = options.wasm.to_str().with_context(|| format!("{} is not UTF-8", options.wasm.display()))?;
    let code = AsyncDataSource {
        specifier: Some(async_data_source::Specifier::Local(DataSource {
            specifier: Some(Specifier::Filename(path.to_owned())),
            ..Default::default()
        })),
    };
    let config = PluginConfig {
        name: "adapter".to_owned(),
        root_id: "adapter".to_owned(),
        failure_policy: FailurePolicy::FailReload.into(),
        reload_config: Some(ReloadConfig {
            backoff: Some(BackoffStrategy {
                base_interval: Some(proto_duration(Duration::from_millis(100))),
                ..Default::default()
            }),
        }),
        allow_on_headers_stop_iteration: Some(BoolValue { value: true }),
        vm: Some(plugin_config::Vm::VmConfig(VmConfig {
            vm_id: "attache".to_owned(),
            runtime: "envoy.wasm.runtime.v8".to_owned(),
            code: Some(code),
            ..Default::default()
        })),
        ..Default::default()
    };
    Ok(Wasm { config: Some(config) })
}

/// Sets the credential from SDS after the adapter, over whatever a client sent. Without one the request fails.
fn injector(cluster: &str, header: &str) -> CredentialInjector {
    let credential = Generic {
        credential: Some(SdsSecretConfig { name: secret_name(cluster), sds_config: Some(ads_source()) }),
        header: header.to_owned(),
        ..Default::default()
    };
    CredentialInjector {
        overwrite: true,
        allow_request_without_credential: false,
        credential: Some(TypedExtensionConfig {
            name: "envoy.http.injected_credentials.generic".to_owned(),
            typed_config: Some(any(&credential)),
        }),
    }
}

fn ads_source() -> ConfigSource {
    ConfigSource {
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource::default())),
        resource_api_version: ApiVersion::V3.into(),
        ..Default::default()
    }
}

/// TLS with the server's name checked. For an address there is no SNI (RFC 6066) and the certificate must name it.
fn tls(deployment: &Deployment, is_address: bool, options: &ClusterOptions) -> Result<TransportSocket> {
    let host = &deployment.host;
    let ca =
        options.ca_file.to_str().with_context(|| format!("{} is not UTF-8", options.ca_file.display()))?;
    let san = SubjectAltNameMatcher {
        san_type: if is_address { SanType::IpAddress } else { SanType::Dns }.into(),
        matcher: Some(StringMatcher {
            match_pattern: Some(MatchPattern::Exact(host.clone())),
            ..Default::default()
        }),
        ..Default::default()
    };
    let mut protocols = vec!["h2".to_owned(), "http/1.1".to_owned()];
    if is_realtime(deployment) {
        protocols.remove(0);
    }
    let context = UpstreamTlsContext {
        sni: if is_address { String::new() } else { host.clone() },
        common_tls_context: Some(CommonTlsContext {
            alpn_protocols: protocols,
            // As a client Envoy offers nothing above TLS 1.2 unless told to.
            tls_params: Some(TlsParameters {
                tls_minimum_protocol_version: TlsProtocol::TlSv12.into(),
                tls_maximum_protocol_version: TlsProtocol::TlSv13.into(),
                ..Default::default()
            }),
            validation_context_type: Some(ValidationContextType::ValidationContext(
                CertificateValidationContext {
                    trusted_ca: Some(DataSource {
                        specifier: Some(Specifier::Filename(ca.to_owned())),
                        ..Default::default()
                    }),
                    match_typed_subject_alt_names: vec![san],
                    ..Default::default()
                },
            )),
            ..Default::default()
        }),
        ..Default::default()
    };
    Ok(TransportSocket {
        name: "envoy.transport_sockets.tls".to_owned(),
        config_type: Some(SocketConfig::TypedConfig(any(&context))),
    })
}

fn metadata(meta: &DeploymentMeta) -> Result<Metadata> {
    let json = serde_json::to_string(meta)?;
    let value = Value { kind: Some(Kind::StringValue(json)) };
    let fields = Struct { fields: [(DEPLOYMENT_KEY.to_owned(), value)].into() };
    Ok(Metadata { filter_metadata: [(METADATA_NAMESPACE.to_owned(), fields)].into(), ..Default::default() })
}

fn filter<M: Message + Name>(name: &str, config: &M) -> HttpFilter {
    HttpFilter {
        name: name.to_owned(),
        config_type: Some(ConfigType::TypedConfig(any(config))),
        ..Default::default()
    }
}

/// The maps in these messages have one entry each, so that the encoding (and the version made from it) is stable.
fn any<M: Message + Name>(message: &M) -> Any {
    Any { type_url: M::type_url(), value: message.encode_to_vec() }
}

fn proto_duration(duration: Duration) -> ProtoDuration {
    ProtoDuration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(0),
    }
}

fn uint32(value: u32) -> UInt32Value {
    UInt32Value { value }
}

#[cfg(test)]
#[path = "clusters_tests.rs"]
mod tests;
