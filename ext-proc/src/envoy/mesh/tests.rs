//! What is printed for a small configuration, as it is. That an Envoy takes it is seen in `tests/e2e/deploy`.

use std::sync::Arc;

use attache_llm::contract::Decisions;

use super::gateway::GatewayOptions;
use super::istio::{IstioOptions, Target};
use super::*;
use crate::config::Secret;
use crate::credentials::{AwsKeys, AwsSource, Credential, Source};
use crate::envoy::SidecarAddress;

const KEY: &str = "sk-never-to-be-seen";

fn deployment(cluster: &str, host: &str, credential: Option<Credential>) -> Deployment {
    let meta = serde_json::from_value(json!({
        "contract": 1, "id": cluster, "group": "gpt-4o", "provider": "openai", "model": "gpt-4o",
        "authority": host, "base_path": "/v1",
    }))
    .unwrap();
    Deployment {
        cluster: cluster.into(),
        host: host.into(),
        port: 443,
        tls: true,
        credential,
        ..Deployment::new(meta)
    }
}

fn snapshot() -> Snapshot {
    let header = Credential::Header("authorization".into(), Secret::new(format!("Bearer {KEY}")));
    let keys = AwsSource::Keys(AwsKeys { id: "AKIA".into(), secret: Secret::new(KEY), session: None });
    let signed = Credential::Signed { region: "eu-west-1".into(), source: Some(Arc::new(Source::Aws(keys))) };
    let open = Deployment { tls: false, port: 8000, ..deployment("own/vllm/33333333", "10.0.0.7", None) };
    let all = [
        deployment("gpt-4o/openai/11111111", "api.openai.com", Some(header)),
        deployment("claude/bedrock/22222222", "bedrock-runtime.eu-west-1.amazonaws.com", Some(signed)),
        open,
    ];
    let deployments = all.into_iter().map(|one| (one.meta.id.clone(), Arc::new(one))).collect();
    Snapshot { deployments, ..Snapshot::default() }
}

fn mesh() -> MeshOptions {
    let wasm = PathBuf::from("/run/attache/attache_filter.wasm");
    let mut bootstrap =
        BootstrapOptions::new(SidecarAddress::Unix("/run/attache/attache.sock".into()), wasm.clone());
    bootstrap.gate.decisions = Decisions::Batched;
    MeshOptions {
        name: "attache".into(),
        namespace: "llm".into(),
        port: 4000,
        bootstrap,
        clusters: ClusterOptions {
            keys_dir: "/run/attache/aws".into(),
            fixed: true,
            ..ClusterOptions::new(wasm)
        },
        config: "/etc/attache/config.yaml".into(),
    }
}

fn istio(target: Target) -> IstioOptions {
    let selector = vec![("istio".into(), "ingressgateway".into())];
    IstioOptions { mesh: mesh(), target, selector, allow: Vec::new(), tls_secret: None }
}

#[test]
fn istio_as_it_is_printed() {
    let ingress = IstioOptions {
        allow: vec!["cluster.local/ns/apps/sa/chat".into()],
        tls_secret: Some("attache-tls".into()),
        ..istio(Target::Ingress)
    };
    for (name, options) in
        [("ingress", ingress), ("waypoint", istio(Target::Waypoint)), ("sidecar", istio(Target::Sidecar))]
    {
        let text = istio::render(&options, &snapshot()).unwrap();
        assert!(!text.contains(KEY), "{text}");
        insta::assert_snapshot!(format!("istio-{name}"), text);
        insta::assert_snapshot!(format!("istio-{name}-pod"), istio::render_pod(&options));
    }
}

#[test]
fn envoy_gateway_as_it_is_printed() {
    for (name, tls_secret) in [("plain", None), ("tls", Some("attache-tls".into()))] {
        let options = GatewayOptions { mesh: mesh(), class: "eg".into(), tls_secret };
        let text = gateway::render(&options, &snapshot()).unwrap();
        assert!(!text.contains(KEY), "{text}");
        insta::assert_snapshot!(format!("envoy-gateway-{name}"), text);
    }
}

#[test]
fn names_are_what_kubernetes_takes_and_stay_apart() {
    assert_eq!(object_name("gpt-4o/openai/11111111"), "gpt-4o-openai-11111111");
    assert_eq!(object_name("*/openai/11111111"), "openai-11111111");
    let long = object_name(&format!("{}/Ä.b_c/11111111", "g".repeat(200)));
    assert!(long.len() <= 48 && long.ends_with("-11111111"), "{long}");
}

#[test]
fn no_settings_of_a_listener_of_our_own_are_left() {
    let parts = Parts::of(&mesh().bootstrap, Vec::new()).unwrap();
    let own: Vec<_> = parts.manager.keys().map(String::as_str).skip(1).collect();
    assert_eq!(own, OWN_SETTINGS, "each is in the bootstrap");
    let filters: Vec<_> = parts.filters.iter().map(|filter| filter["name"].as_str().unwrap()).collect();
    assert_eq!(filters, ["attache.gate", "envoy.filters.http.set_filter_state"]);
    let clusters: Vec<_> = parts.clusters.iter().map(|cluster| cluster["name"].as_str().unwrap()).collect();
    assert_eq!(clusters, ["attache_sidecar", REPLAN_CLUSTER, "attache_no_plan"]);
}
