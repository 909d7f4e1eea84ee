//! Istio: objects for an ingress gateway, a waypoint, or the sidecars of applications.

use std::fmt::Write as _;

use anyhow::Result;
use serde_json::{Map, Value, json};

use super::{MeshOptions, Parts, deployments, documents, names, object, object_name, pod};
use crate::envoy::inline;
use crate::routing::{Deployment, Snapshot};

/// What this is made for, and what its proxy is made of.
pub const VERSION: &str = "1.31";
pub const ENVOY: &str = "1.39";

/// Istio's proxies run as this user.
const USER: u32 = 1337;
const NETWORKING: &str = "networking.istio.io/v1";
const MANAGER: &str = "envoy.filters.network.http_connection_manager";

/// Which Envoy becomes the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// That of an ingress gateway, on a port of its own.
    Ingress,
    /// A waypoint of ambient mode, for a Service of its own.
    Waypoint,
    /// Those beside applications: each is a gateway for its own.
    Sidecar,
}

#[derive(Debug, Clone)]
pub struct IstioOptions {
    pub mesh: MeshOptions,
    pub target: Target,
    /// Labels of the pods, for ingress and sidecar.
    pub selector: Vec<(String, String)>,
    /// Only these peers may come, by their certificates; empty: whoever has a key.
    pub allow: Vec<String>,
    /// Secret with certificate and key of the ingress gateway's port.
    pub tls_secret: Option<String>,
}

/// Everything to apply.
///
/// # Errors
/// A path that is not UTF-8, or what [`crate::envoy::bootstrap::render`] refuses.
pub fn render(options: &IstioOptions, snapshot: &Snapshot) -> Result<String> {
    let mut objects = Vec::new();
    if options.has_registry() {
        for deployment in deployments(snapshot) {
            objects.push(options.entry(deployment));
            objects.push(options.rule(deployment));
        }
    }
    objects.extend(options.front());
    objects.push(options.filter(snapshot)?);
    // Of what goes out of a pod no policy is asked.
    if options.target != Target::Sidecar {
        objects.push(options.policy());
    }
    Ok(documents(&options.preface(), &objects))
}

/// The patch of the Deployment whose Envoy becomes the gateway.
#[must_use]
pub fn render_pod(options: &IstioOptions) -> String {
    let preface = "Made by `attache render istio --part pod`: the sidecar of Attaché beside Envoy. For\n\
                   `kubectl patch deployment NAME --patch-file FILE`, or as a patch of Kustomize.";
    documents(preface, &[options.pod()])
}

impl IstioOptions {
    /// Does the proxy have Istio's clusters of service entries? A waypoint has those of its own services only.
    fn has_registry(&self) -> bool {
        self.target != Target::Waypoint
    }

    fn context(&self) -> &'static str {
        match self.target {
            Target::Ingress => "GATEWAY",
            // A waypoint's listeners are inbound ones to Istio, its clusters too.
            Target::Waypoint => "SIDECAR_INBOUND",
            Target::Sidecar => "SIDECAR_OUTBOUND",
        }
    }

    fn object(&self, version: &str, kind: &str, name: &str, spec: &Value) -> Value {
        object(version, kind, name, &self.mesh.namespace, spec)
    }

    /// A host of its own for each deployment, so that each has a cluster of its own: two of the same provider differ in
    /// their credentials.
    fn host(deployment: &Deployment) -> String {
        format!("{}.attache.internal", object_name(&deployment.cluster))
    }

    fn cluster(&self, deployment: &Deployment) -> String {
        match self.has_registry() {
            true => format!("outbound|{}||{}", deployment.port, Self::host(deployment)),
            false => deployment.cluster.clone(),
        }
    }

    fn entry(&self, deployment: &Deployment) -> Value {
        let is_address = deployment.host.parse::<std::net::IpAddr>().is_ok();
        let spec = json!({
            "hosts": [Self::host(deployment)],
            "exportTo": ["."],
            "location": "MESH_EXTERNAL",
            "resolution": if is_address { "STATIC" } else { "DNS" },
            // TLS begins in Envoy, by the DestinationRule.
            "ports": [{"number": deployment.port, "name": "http", "protocol": "HTTP"}],
            "endpoints": [{"address": deployment.host}],
        });
        self.object(NETWORKING, "ServiceEntry", &object_name(&deployment.cluster), &spec)
    }

    fn rule(&self, deployment: &Deployment) -> Value {
        let tls = match (deployment.tls, deployment.host.parse::<std::net::IpAddr>().is_ok()) {
            (true, false) => json!({
                "mode": "SIMPLE", "sni": deployment.host, "subjectAltNames": [deployment.host],
            }),
            (true, true) => json!({"mode": "SIMPLE", "subjectAltNames": [deployment.host]}),
            (false, _) => json!({"mode": "DISABLE"}),
        };
        // The sidecar limits what there is to limit. Envoy admits a retry by the breaker of a plan's first cluster.
        let spec = json!({
            "host": Self::host(deployment),
            "exportTo": ["."],
            "trafficPolicy": {
                "connectionPool": {
                    "tcp": {
                        "maxConnections": 1_000_000, "connectTimeout": "5s",
                        "tcpKeepalive": {"probes": 3, "time": "30s", "interval": "10s"},
                    },
                    "http": {
                        "http1MaxPendingRequests": 1_000_000, "http2MaxRequests": 1_000_000,
                        "maxRetries": 1_000_000, "idleTimeout": "55s",
                    },
                },
                "tls": tls,
            },
        });
        self.object(NETWORKING, "DestinationRule", &object_name(&deployment.cluster), &spec)
    }

    /// Where clients come in.
    fn front(&self) -> Vec<Value> {
        let MeshOptions { name, port, .. } = &self.mesh;
        match self.target {
            Target::Ingress => {
                let mut server = json!({"port": {"number": port, "name": "http-attache", "protocol": "HTTP"}, "hosts": ["*"]});
                if let Some(secret) = &self.tls_secret {
                    server["port"]["name"] = "https-attache".into();
                    server["port"]["protocol"] = "HTTPS".into();
                    server["tls"] =
                        json!({"mode": "SIMPLE", "credentialName": secret, "minProtocolVersion": "TLSV1_2"});
                }
                let spec = json!({"selector": self.labels(), "servers": [server]});
                vec![self.object(NETWORKING, "Gateway", name, &spec)]
            }
            Target::Sidecar => vec![self.service(None)],
            Target::Waypoint => self.waypoint(),
        }
    }

    /// Its own Service has no pods: an Envoy answers before anybody would be looked for.
    fn service(&self, waypoint: Option<&str>) -> Value {
        let port = json!({"name": "http", "port": self.mesh.port, "appProtocol": "http"});
        let mut made = self.object("v1", "Service", &self.mesh.name, &json!({"ports": [port]}));
        if let Some(waypoint) = waypoint {
            made["metadata"]["labels"]["istio.io/use-waypoint"] = waypoint.into();
        }
        made
    }

    fn waypoint(&self) -> Vec<Value> {
        let name = self.gateway();
        let parameters = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": self.mesh.namespace, "labels": {"app.kubernetes.io/part-of": "attache"}},
            // What Istio lays over the waypoint's Deployment.
            "data": {"deployment": crate::envoy::emit(&self.pod(), 0)},
        });
        let mut gateway = self.object(
            "gateway.networking.k8s.io/v1",
            "Gateway",
            &name,
            &json!({
                "gatewayClassName": "istio-waypoint",
                "listeners": [{"name": "mesh", "port": 15008, "protocol": "HBONE"}],
                "infrastructure": {"parametersRef": {"group": "", "kind": "ConfigMap", "name": name}},
            }),
        );
        gateway["metadata"]["labels"]["istio.io/waypoint-for"] = "service".into();
        vec![parameters, gateway, self.service(Some(&name))]
    }

    fn gateway(&self) -> String {
        format!("{}-waypoint", self.mesh.name)
    }

    fn labels(&self) -> Map<String, Value> {
        self.selector.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect()
    }

    /// Which proxies an object is for.
    fn aim(&self, spec: &mut Value, selector: &str, labels: &str) {
        if self.target == Target::Waypoint {
            spec["targetRefs"] = json!([{
                "group": "gateway.networking.k8s.io", "kind": "Gateway", "name": self.gateway(),
            }]);
        } else {
            spec[selector] = json!({labels: self.labels()});
        }
    }

    fn filter(&self, snapshot: &Snapshot) -> Result<Value> {
        let parts = Parts::of(&self.mesh.bootstrap, names(snapshot, |deployment| self.cluster(deployment)))?;
        let context = self.context();
        let add = |value: Value| {
            json!({
                "applyTo": "CLUSTER", "match": {"context": context},
                "patch": {"operation": "ADD", "value": value},
            })
        };
        let mut patches: Vec<Value> = parts.clusters.into_iter().map(add).collect();
        for deployment in deployments(snapshot) {
            patches.push(match self.has_registry() {
                true => self.merge(deployment)?,
                false => add(inline::cluster(deployment, &self.mesh.clusters)?),
            });
        }
        let mut manager = parts.manager;
        if self.target != Target::Waypoint {
            // x-envoy-* headers of clients are removed. (A waypoint's peer is a tunnel.)
            manager.insert("use_remote_address".to_owned(), true.into());
        }
        let value = json!({"name": MANAGER, "typed_config": manager});
        patches.push(json!({
            "applyTo": "NETWORK_FILTER", "match": self.listener(None),
            "patch": {"operation": "MERGE", "value": value},
        }));
        // Before the router, and so behind what Istio decides on: who may come.
        patches.extend(parts.filters.into_iter().map(|filter| {
            json!({
                "applyTo": "HTTP_FILTER", "match": self.listener(Some("envoy.filters.http.router")),
                "patch": {"operation": "INSERT_BEFORE", "value": filter},
            })
        }));
        let mut spec = json!({});
        self.aim(&mut spec, "workloadSelector", "labels");
        spec["configPatches"] = patches.into();
        Ok(self.object("networking.istio.io/v1alpha3", "EnvoyFilter", &self.mesh.name, &spec))
    }

    /// Makes Istio's cluster one of ours: maps are replaced by name, lists get longer.
    fn merge(&self, deployment: &Deployment) -> Result<Value> {
        let mut value = json!({"wait_for_warm_on_init": false});
        if deployment.host.parse::<std::net::IpAddr>().is_err() {
            // Behind the provider an address that refuses: while its name is not resolved a step must fail, not the plan.
            let address = json!({"socket_address": {"address": "127.0.0.1", "port_value": 0}});
            let backstop = json!({"priority": 1, "lb_endpoints": [{"endpoint": {"address": address}}]});
            value["load_assignment"] = json!({"endpoints": [backstop]});
        }
        if let Value::Object(fields) = &mut value {
            fields.extend(inline::adapted(deployment, &self.mesh.clusters)?);
        }
        Ok(json!({
            "applyTo": "CLUSTER",
            "match": {"context": self.context(), "cluster": {"name": self.cluster(deployment)}},
            "patch": {"operation": "MERGE", "value": value},
        }))
    }

    /// The listener of our port, and nothing else of the proxy.
    fn listener(&self, before: Option<&str>) -> Value {
        let mut filter = json!({"name": MANAGER});
        if let Some(before) = before {
            filter["subFilter"] = json!({"name": before});
        }
        let MeshOptions { name, namespace, port, .. } = &self.mesh;
        let listener = match self.target {
            Target::Waypoint => json!({
                "name": "main_internal",
                "filterChain": {
                    "name": format!("inbound-vip|{port}|http|{name}.{namespace}.svc.cluster.local"), "filter": filter,
                },
            }),
            Target::Ingress | Target::Sidecar => {
                json!({"portNumber": port, "filterChain": {"filter": filter}})
            }
        };
        json!({"context": self.context(), "listener": listener})
    }

    /// Denials only: a proxy that has a rule to allow something refuses everything else, other people's ports too.
    fn policy(&self) -> Value {
        let port = self.mesh.port.to_string();
        let ours = |operation: Value| {
            let mut operation = operation;
            if self.target != Target::Waypoint {
                operation["ports"] = json!([port]);
            }
            json!([{"operation": operation}])
        };
        let mut rules = vec![json!({"to": ours(json!({"paths": ["/internal", "/internal/*"]}))})];
        if !self.allow.is_empty() {
            rules.push(json!({
                "from": [{"source": {"notPrincipals": self.allow}}], "to": ours(json!({"paths": ["/*"]})),
            }));
        }
        let mut spec = json!({});
        self.aim(&mut spec, "selector", "matchLabels");
        spec["action"] = "DENY".into();
        spec["rules"] = rules.into();
        self.object("security.istio.io/v1", "AuthorizationPolicy", &self.mesh.name, &spec)
    }

    fn pod(&self) -> Value {
        let injected = self.target == Target::Sidecar;
        let mut made = pod(&self.mesh, (!injected).then_some("istio-proxy"), USER);
        if injected {
            let mounts = json!([{"name": "attache-run", "mountPath": super::SHARED}]).to_string();
            made["spec"]["template"]["metadata"] = json!({"annotations": {
                "sidecar.istio.io/userVolumeMount": mounts,
                // Its Envoy must start after the sidecar of Attaché, not before.
                "sidecar.istio.io/nativeSidecar": "false",
            }});
        }
        made
    }

    fn preface(&self) -> String {
        let mut text = format!(
            "Made by `attache render istio` for Istio {VERSION}, whose proxy is Envoy {ENVOY}; docs/mesh.md tells what to do \
             with it.\n\nThe pods need the sidecar of Attaché, started before their Envoy: `attache render istio --part pod`.\n"
        );
        if self.target == Target::Waypoint {
            text.push_str("Here it is in the ConfigMap that Istio lays over the waypoint's Deployment.\n");
        }
        let _ = write!(
            text,
            "\nGate and adapter are an EnvoyFilter, no WasmPlugin: they share one VM, by its name, and the gate holds headers \
             while\nthe body comes, which a WasmPlugin cannot ask for. This Envoy has no `priority_group`: a matcher finds the \
             cluster of\neach attempt. So copies (`mirror`) do not work here, and a deployment that is added needs this again.\n"
        );
        if self.target == Target::Sidecar {
            text.push_str(
                "\nNo AuthorizationPolicy: Istio asks none of what goes out of a pod. The key is what counts there.\n",
            );
        }
        text
    }
}
