//! What an Envoy needs whose configuration somebody else writes: Istio, Envoy Gateway.
//!
//! Both have an API for patches of what they make, and both have their own Envoy (1.39). What is patched in is taken from
//! the bootstrap of a plain Envoy, so that there is one place that says it and why.

pub mod gateway;
pub mod istio;

use std::path::PathBuf;

use anyhow::{Context, Result};
use attache_llm::contract::REPLAN_CLUSTER;
use serde_json::{Map, Value, json};

use super::bootstrap::{self, BootstrapOptions, PlanBy};
use super::{ClusterOptions, Named, yaml};
use crate::routing::{Deployment, Snapshot};

/// Folder that Envoy and sidecar share in their pod.
pub const SHARED: &str = "/run/attache";
/// Settings of the connection manager that are ours to say. The rest is the mesh's: tracing, access logs, identities.
const OWN_SETTINGS: [&str; 8] = [
    "delayed_close_timeout",
    "request_headers_timeout",
    "request_timeout",
    "stream_idle_timeout",
    "normalize_path",
    "path_with_escaped_slashes_action",
    "local_reply_config",
    "route_config",
];

/// What both kinds of mesh are told.
#[derive(Debug, Clone)]
pub struct MeshOptions {
    /// Of what is made, in this namespace.
    pub name: String,
    pub namespace: String,
    /// Where clients come in.
    pub port: u16,
    pub bootstrap: BootstrapOptions,
    pub clusters: ClusterOptions,
    /// The sidecar's configuration file, as it finds it in the pod.
    pub config: PathBuf,
}

/// Deployments in the order of their names.
fn deployments(snapshot: &Snapshot) -> Vec<&Deployment> {
    let mut found: Vec<&Deployment> = snapshot.deployments.values().map(AsRef::as_ref).collect();
    found.sort_by(|a, b| a.cluster.cmp(&b.cluster));
    found
}

/// Clusters that a plan may name. `envoy`: what Envoy calls the cluster of a deployment.
#[must_use]
pub fn names(snapshot: &Snapshot, envoy: impl Fn(&Deployment) -> String) -> Vec<Named> {
    let of = |deployment: &Deployment| Named { plan: deployment.cluster.clone(), envoy: envoy(deployment) };
    let replan = Named { plan: REPLAN_CLUSTER.to_owned(), envoy: REPLAN_CLUSTER.to_owned() };
    deployments(snapshot).into_iter().map(of).chain([replan]).collect()
}

/// Parts of a plain Envoy's bootstrap.
struct Parts {
    /// Settings of the connection manager, routes and all.
    manager: Map<String, Value>,
    /// Filters before the router.
    filters: Vec<Value>,
    /// Clusters that are not a deployment's.
    clusters: Vec<Value>,
}

impl Parts {
    fn of(options: &BootstrapOptions, names: Vec<Named>) -> Result<Self> {
        let options = BootstrapOptions {
            plan_by: PlanBy::Matcher(names),
            clusters: Some(Vec::new()),
            access_log: false,
            tls: None,
            ..options.clone()
        };
        let bootstrap: Value = serde_yaml_ng::from_str(&bootstrap::render(&options)?)?;
        let of = |path: &str| bootstrap.pointer(path).with_context(|| format!("no {path} in the bootstrap"));
        let manager = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
        let mut filters: Vec<Value> = list(of(&format!("{manager}/http_filters"))?);
        // The router, which the mesh has already.
        filters.pop();
        let all = of(manager)?;
        let own = ["@type"].into_iter().chain(OWN_SETTINGS);
        let manager = own.filter_map(|name| Some((name.to_owned(), all.get(name)?.clone()))).collect();
        Ok(Self { manager, filters, clusters: list(of("/static_resources/clusters")?) })
    }
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

/// A name as Kubernetes takes it. Names of clusters end with what tells them apart.
fn object_name(cluster: &str) -> String {
    let letter = |c: char| {
        let c = c.to_ascii_lowercase();
        if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' }
    };
    let mut name: String = cluster.chars().map(letter).collect();
    name = name.split_off(name.len().saturating_sub(48));
    name.trim_matches('-').to_owned()
}

fn object(version: &str, kind: &str, name: &str, namespace: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": version, "kind": kind,
        "metadata": {"name": name, "namespace": namespace, "labels": {"app.kubernetes.io/part-of": "attache"}},
        "spec": spec,
    })
}

/// Documents of YAML, with comments before the first.
fn documents(preface: &str, objects: &[Value]) -> String {
    let mut text: String =
        preface.lines().map(|line| format!("# {line}").trim_end().to_owned() + "\n").collect();
    for object in objects {
        text.push_str("---\n");
        text.push_str(&yaml::emit(object, 0));
    }
    text
}

/// The sidecar beside Envoy in its pod, as a patch of a Deployment: containers, volumes, and what Envoy's container
/// mounts. `user`: whom Envoy runs as; the socket and the credentials are for that user alone.
fn pod(options: &MeshOptions, envoy: Option<&str>, user: u32) -> Value {
    let version = env!("CARGO_PKG_VERSION");
    let locked = json!({
        "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": true, "runAsUser": user, "runAsGroup": user, "seccompProfile": {"type": "RuntimeDefault"},
    });
    let shared = json!({"name": "attache-run", "mountPath": SHARED});
    let probe =
        |path: &str, period: u32| json!({"httpGet": {"path": path, "port": 4001}, "periodSeconds": period});
    let mut startup = probe("/health/liveliness", 1);
    startup["failureThreshold"] = 60.into();
    let wasm = &options.clusters.wasm;
    let filter = json!({
        "name": "attache-filter",
        "image": format!("attache/envoy:{version}"),
        "command": ["cp", "/opt/attache/attache_filter.wasm", wasm],
        "securityContext": locked,
        "volumeMounts": [shared],
    });
    let flag = |name: &str, value: &std::path::Path| format!("--{name}={}", value.display());
    let socket = match &options.bootstrap.sidecar {
        super::SidecarAddress::Unix(path) => path.clone(),
        super::SidecarAddress::Tcp { .. } => PathBuf::from(SHARED).join("attache.sock"),
    };
    let sidecar = json!({
        "name": "attache",
        "image": format!("attache/sidecar:{version}"),
        // Up, and the credentials written, before Envoy starts: it does not take a cluster whose file is not there.
        "restartPolicy": "Always",
        "args": [
            "serve", "--static-clusters", flag("config", &options.config), "--data-dir=/var/lib/attache",
            flag("socket", &socket), flag("aws-keys-dir", &options.clusters.keys_dir), flag("wasm", wasm),
            "--health-listen=0.0.0.0:4001", "--log-format=json",
        ],
        "envFrom": [{"secretRef": {"name": options.name}}],
        "startupProbe": startup,
        "livenessProbe": probe("/health/liveliness", 10),
        "securityContext": locked,
        "resources": {"requests": {"cpu": "500m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}},
        "volumeMounts": [
            shared,
            {"name": "attache-config", "mountPath": "/etc/attache", "readOnly": true},
            {"name": "attache-data", "mountPath": "/var/lib/attache"},
            {"name": "attache-tmp", "mountPath": "/tmp"},
        ],
    });
    let mut spec = json!({
        "initContainers": [filter, sidecar],
        "volumes": [
            {"name": "attache-run", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}},
            {"name": "attache-config", "configMap": {"name": options.name}},
            {"name": "attache-data", "emptyDir": {"sizeLimit": "3Gi"}},
            {"name": "attache-tmp", "emptyDir": {"sizeLimit": "64Mi"}},
        ],
    });
    if let Some(envoy) = envoy {
        spec["containers"] = json!([{"name": envoy, "volumeMounts": [shared]}]);
    }
    json!({"spec": {"template": {"spec": spec}}})
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
