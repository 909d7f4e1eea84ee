//! The clusters of [`super::clusters`] as text, for an Envoy that takes none over xDS: `attache render`.
//!
//! They differ in one thing: the credential comes from a file that the sidecar writes, not from ADS. That they differ in
//! nothing else is compared in the real Envoy (`tests/e2e/deploy/test_render.py`): Envoy's JSON is not made from the
//! messages here, since these have no reflection.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use attache_llm::contract::{DEPLOYMENT_KEY, METADATA_NAMESPACE};
use serde_json::{Value, json};

use super::clusters::{ClusterOptions, HTTP_OPTIONS, is_realtime, secret_name};
use super::signing;
use crate::credentials::Credential;
use crate::routing::{Deployment, Snapshot};

/// Type of a message inside another.
pub(super) fn typed(name: &str, mut message: Value) -> Value {
    let mut fields = serde_json::Map::new();
    fields.insert("@type".to_owned(), format!("type.googleapis.com/{name}").into());
    if let Value::Object(own) = &mut message {
        fields.append(own);
    }
    Value::Object(fields)
}

/// Clusters of all deployments, by name.
///
/// # Errors
/// A path that is not UTF-8.
pub fn clusters(snapshot: &Snapshot, options: &ClusterOptions) -> Result<Vec<Value>> {
    let mut found: Vec<_> = snapshot.deployments.values().collect();
    found.sort_by(|a, b| a.cluster.cmp(&b.cluster));
    found.into_iter().map(|deployment| cluster(deployment, options)).collect()
}

/// The cluster of a deployment.
///
/// # Errors
/// A path that is not UTF-8.
pub fn cluster(deployment: &Deployment, options: &ClusterOptions) -> Result<Value> {
    let is_address = deployment.host.parse::<IpAddr>().is_ok();
    let mut endpoints = vec![locality(0, &deployment.host, deployment.port)];
    if !is_address {
        endpoints.push(locality(1, "127.0.0.1", 0));
    }
    let mut made = json!({
        "name": deployment.cluster,
        "type": if is_address { "STATIC" } else { "STRICT_DNS" },
        "connect_timeout": duration(options.connect_timeout),
        "load_assignment": {"cluster_name": deployment.cluster, "endpoints": endpoints},
        "dns_lookup_family": "V4_PREFERRED",
        "respect_dns_ttl": true,
        "dns_refresh_rate": "10s",
        "wait_for_warm_on_init": false,
        "circuit_breakers": {"thresholds": [{
            "max_connections": 1_000_000, "max_pending_requests": 1_000_000,
            "max_requests": 1_000_000, "max_retries": 1_000_000,
        }]},
        "upstream_connection_options":
            {"tcp_keepalive": {"keepalive_probes": 3, "keepalive_time": 30, "keepalive_interval": 10}},
    });
    if let Value::Object(fields) = &mut made {
        if deployment.tls {
            fields.insert("transport_socket".to_owned(), tls(deployment, is_address, options)?);
        }
        fields.extend(adapted(deployment, options)?);
    }
    Ok(made)
}

/// What makes any cluster one of ours: who it is, and the filters of an attempt.
///
/// # Errors
/// A path that is not UTF-8.
pub fn adapted(deployment: &Deployment, options: &ClusterOptions) -> Result<serde_json::Map<String, Value>> {
    let meta = serde_json::to_string(&deployment.meta)?;
    let mut fields = serde_json::Map::new();
    fields.insert(
        "metadata".to_owned(),
        json!({"filter_metadata": {METADATA_NAMESPACE: {DEPLOYMENT_KEY: meta}}}),
    );
    let http = http_options(deployment, options)?;
    fields.insert("typed_extension_protocol_options".to_owned(), json!({HTTP_OPTIONS: http}));
    Ok(fields)
}

fn locality(priority: u32, host: &str, port: u16) -> Value {
    let address = json!({"socket_address": {"address": host, "port_value": port}});
    let mut made = json!({"lb_endpoints": [{"endpoint": {"address": address}}]});
    if let (Value::Object(fields), true) = (&mut made, priority > 0) {
        fields.insert("priority".to_owned(), priority.into());
    }
    made
}

fn http_options(deployment: &Deployment, options: &ClusterOptions) -> Result<Value> {
    let protocol = if deployment.tls && !is_realtime(deployment) {
        let keepalive = json!({"connection_keepalive": {"interval": "30s", "timeout": "10s"}});
        ("auto_config", json!({"http2_protocol_options": keepalive}))
    } else {
        ("explicit_http_config", json!({"http_protocol_options": {}}))
    };
    let mut filters = vec![adapter(options)?];
    match &deployment.credential {
        Some(Credential::Signed { region, source }) => {
            filters.push(signer(&deployment.cluster, region, source.is_some(), options)?);
        }
        Some(credential) => {
            let header = credential.header().unwrap_or_default();
            filters.push(injector(&deployment.cluster, header, options)?);
        }
        None => {}
    }
    let codec = typed("envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec", json!({}));
    filters.push(json!({"name": "envoy.filters.http.upstream_codec", "typed_config": codec}));
    let message = json!({
        "common_http_protocol_options": {"idle_timeout": duration(options.idle_timeout)},
        protocol.0: protocol.1,
        "http_filters": filters,
    });
    Ok(typed(HTTP_OPTIONS, message))
}

/// The adapter. Its VM is described as the gate's: then they share one.
fn adapter(options: &ClusterOptions) -> Result<Value> {
    let config = json!({
        "name": "adapter",
        "root_id": "adapter",
        "failure_policy": "FAIL_RELOAD",
        "reload_config": {"backoff": {"base_interval": "0.100s"}},
        "allow_on_headers_stop_iteration": true,
        "vm_config": {
            "vm_id": "attache",
            "runtime": "envoy.wasm.runtime.v8",
            "code": {"local": {"filename": text(&options.wasm)?}},
        },
    });
    let wasm = typed("envoy.extensions.filters.http.wasm.v3.Wasm", json!({"config": config}));
    Ok(json!({"name": "attache.adapter", "typed_config": wasm}))
}

/// Sets the credential from the sidecar's file. A new one is used as soon as it is moved to its place.
fn injector(cluster: &str, header: &str, options: &ClusterOptions) -> Result<Value> {
    let path = text(&signing::secret_file(cluster, options))?.to_owned();
    let source = json!({
        "path_config_source": {"path": path, "watched_directory": {"path": text(&options.keys_dir)?}},
        "resource_api_version": "V3",
    });
    let generic = typed(
        "envoy.extensions.http.injected_credentials.generic.v3.Generic",
        json!({"credential": {"name": secret_name(cluster), "sds_config": source}, "header": header}),
    );
    let injector = typed(
        "envoy.extensions.filters.http.credential_injector.v3.CredentialInjector",
        json!({
            "overwrite": true,
            "credential": {"name": "envoy.http.injected_credentials.generic", "typed_config": generic},
        }),
    );
    Ok(json!({"name": "envoy.filters.http.credential_injector", "typed_config": injector}))
}

fn signer(cluster: &str, region: &str, own_keys: bool, options: &ClusterOptions) -> Result<Value> {
    let mut message = json!({
        "service_name": signing::SERVICE,
        "region": region,
        "match_included_headers": [{"exact": "content-type"}],
    });
    if let (Value::Object(fields), true) = (&mut message, own_keys) {
        let file = signing::file(cluster, options);
        let source = json!({
            "filename": text(&file)?, "watched_directory": {"path": text(&options.keys_dir)?},
        });
        let provider = json!({
            "credentials_file_provider": {"credentials_data_source": source},
            "custom_credential_provider_chain": true,
        });
        fields.insert("credential_provider".to_owned(), provider);
    }
    let name = "envoy.extensions.filters.http.aws_request_signing.v3.AwsRequestSigning";
    Ok(json!({"name": "envoy.filters.http.aws_request_signing", "typed_config": typed(name, message)}))
}

fn tls(deployment: &Deployment, is_address: bool, options: &ClusterOptions) -> Result<Value> {
    let host = &deployment.host;
    let protocols: &[&str] = if is_realtime(deployment) { &["http/1.1"] } else { &["h2", "http/1.1"] };
    let san = json!({
        "san_type": if is_address { "IP_ADDRESS" } else { "DNS" }, "matcher": {"exact": host},
    });
    let mut message = json!({
        "common_tls_context": {
            "alpn_protocols": protocols,
            "tls_params":
                {"tls_minimum_protocol_version": "TLSv1_2", "tls_maximum_protocol_version": "TLSv1_3"},
            "validation_context": {
                "trusted_ca": {"filename": text(&options.ca_file)?},
                "match_typed_subject_alt_names": [san],
            },
        },
    });
    if let (Value::Object(fields), false) = (&mut message, is_address) {
        fields.insert("sni".to_owned(), host.as_str().into());
    }
    let context = typed("envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext", message);
    Ok(json!({"name": "envoy.transport_sockets.tls", "typed_config": context}))
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
}

/// Protobuf's JSON form of a duration.
fn duration(value: Duration) -> String {
    format!("{}.{:03}s", value.as_secs(), value.subsec_millis())
}
