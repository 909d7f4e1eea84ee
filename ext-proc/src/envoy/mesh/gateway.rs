//! Envoy Gateway: its own objects, and patches of the xDS that it makes of them.

use anyhow::Result;
use serde_json::{Value, json};

use super::{MeshOptions, Parts, deployments, documents, names, object, pod};
use crate::envoy::inline;
use crate::routing::Snapshot;

/// What this is made for, and what its proxy is made of.
pub const VERSION: &str = "1.9";
pub const ENVOY: &str = "1.39";

/// Envoy Gateway's proxies run as this user.
const USER: u32 = 65532;
const GATEWAY: &str = "gateway.networking.k8s.io/v1";
const OWN: &str = "gateway.envoyproxy.io/v1alpha1";
/// Name of the listener of the `Gateway`.
const LISTENER: &str = "attache";

#[derive(Debug, Clone)]
pub struct GatewayOptions {
    pub mesh: MeshOptions,
    /// `GatewayClass` of Envoy Gateway.
    pub class: String,
    /// Secret with certificate and key.
    pub tls_secret: Option<String>,
}

/// Everything to apply.
///
/// # Errors
/// A path that is not UTF-8, or what [`crate::envoy::bootstrap::render`] refuses.
pub fn render(options: &GatewayOptions, snapshot: &Snapshot) -> Result<String> {
    let mut objects = vec![options.proxy(), options.gateway(), options.route()];
    objects.push(options.patches(snapshot)?);
    Ok(documents(&preface(), &objects))
}

impl GatewayOptions {
    fn object(&self, version: &str, kind: &str, spec: &Value) -> Value {
        object(version, kind, &self.mesh.name, &self.mesh.namespace, spec)
    }

    /// The pods of this gateway: Envoy with the sidecar of Attaché beside it.
    fn proxy(&self) -> Value {
        let patch = json!({"type": "StrategicMerge", "value": pod(&self.mesh, Some("envoy"), USER)});
        let spec =
            json!({"provider": {"type": "Kubernetes", "kubernetes": {"envoyDeployment": {"patch": patch}}}});
        self.object(OWN, "EnvoyProxy", &spec)
    }

    fn gateway(&self) -> Value {
        let mut listener = json!({
            "name": LISTENER, "port": self.mesh.port, "protocol": "HTTP", "allowedRoutes": {"namespaces": {"from": "Same"}},
        });
        if let Some(secret) = &self.tls_secret {
            listener["protocol"] = "HTTPS".into();
            listener["tls"] = json!({"mode": "Terminate", "certificateRefs": [{"name": secret}]});
        }
        let parameters =
            json!({"group": "gateway.envoyproxy.io", "kind": "EnvoyProxy", "name": self.mesh.name});
        let spec = json!({
            "gatewayClassName": self.class,
            "listeners": [listener],
            "infrastructure": {"parametersRef": parameters},
        });
        self.object(GATEWAY, "Gateway", &spec)
    }

    /// So that there is a route to be patched. By itself it has no backend: nobody is served while the patch is not there.
    fn route(&self) -> Value {
        let spec = json!({
            "parentRefs": [{"name": self.mesh.name, "sectionName": LISTENER}],
            "rules": [{"matches": [{"path": {"type": "PathPrefix", "value": "/"}}]}],
        });
        self.object(GATEWAY, "HTTPRoute", &spec)
    }

    fn patches(&self, snapshot: &Snapshot) -> Result<Value> {
        let names = names(snapshot, |deployment| deployment.cluster.clone());
        let Parts { mut manager, filters, clusters } = Parts::of(&self.mesh.bootstrap, names)?;
        let mut patches = Vec::new();
        let own = deployments(snapshot).into_iter().map(|one| inline::cluster(one, &self.mesh.clusters));
        for cluster in clusters.into_iter().map(Ok).chain(own) {
            let cluster: Value = cluster?;
            patches.push(json!({
                "type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
                "name": cluster["name"],
                "operation": {"op": "add", "path": "", "value": cluster},
            }));
        }
        let MeshOptions { name, namespace, .. } = &self.mesh;
        let listener = format!("{namespace}/{name}/{LISTENER}");
        let chain = if self.tls_secret.is_some() { "/filter_chains/0" } else { "/default_filter_chain" };
        let listeners = |path: &str, value: Value| {
            json!({
                "type": "type.googleapis.com/envoy.config.listener.v3.Listener",
                "name": listener,
                "operation":
                    {"op": "add", "path": format!("{chain}/filters/0/typed_config/{path}"), "value": value},
            })
        };
        let routes = manager.shift_remove("route_config").unwrap_or_default();
        manager.shift_remove("@type");
        for (setting, value) in manager {
            patches.push(listeners(&setting, value));
        }
        for (index, filter) in filters.into_iter().enumerate() {
            patches.push(listeners(&format!("http_filters/{index}"), filter));
        }
        patches.push(json!({
            "type": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
            "name": listener,
            "operation": {"op": "add", "path": "/virtual_hosts", "value": routes["virtual_hosts"]},
        }));
        let target = json!({"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": name});
        let spec = json!({"type": "JSONPatch", "targetRef": target, "jsonPatches": patches});
        Ok(self.object(OWN, "EnvoyPatchPolicy", &spec))
    }
}

fn preface() -> String {
    format!(
        "Made by `attache render envoy-gateway` for Envoy Gateway {VERSION}, whose proxy is Envoy {ENVOY}; docs/mesh.md tells \
         what to do with it.\nIt must allow patches: `extensionApis: {{enableEnvoyPatchPolicy: true}}` in its configuration.\n\n\
         No EnvoyExtensionPolicy: its Wasm cannot hold headers while the body comes and gives every filter a VM of its own,\n\
         its extProc drops the x-envoy-* headers that say how often to try again. No Backend: a deployment needs filters of its\n\
         own for each attempt, which only a patch gives. This Envoy has no `priority_group`: a matcher finds the cluster of each\n\
         attempt. A deployment that is added needs this again."
    )
}
