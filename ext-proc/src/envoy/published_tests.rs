use std::sync::Arc;
use std::thread::sleep;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::google::rpc::Status;

use super::assumed::ASSUME_AFTER;
use super::*;
use crate::config::Secret as Plain;
use crate::credentials::{AwsSource, Source};
use crate::routing::Deployment;

fn deployment(cluster: &str, key: Option<&str>) -> Deployment {
    let meta = serde_json::from_value(serde_json::json!({
        "contract": 1, "id": cluster, "group": "g", "provider": "openai", "model": "m",
        "authority": "h", "base_path": "/v1",
    }))
    .unwrap();
    Deployment {
        cluster: cluster.into(),
        host: "h".into(),
        port: 443,
        tls: true,
        credential: key.map(|key| Credential::Header("authorization".into(), Plain::new(key))),
        ..Deployment::new(meta)
    }
}

fn snapshot(deployments: Vec<Deployment>) -> Snapshot {
    let deployments = deployments
        .into_iter()
        .map(|deployment| (deployment.meta.id.clone(), Arc::new(deployment)))
        .collect();
    Snapshot { generation: 7, deployments, ..Snapshot::default() }
}

fn published() -> Published {
    Published::new(ClusterOptions::new("/f.wasm".into()))
}

fn ask(published: &Published, id: u64, type_url: String, names: &[String]) {
    let request = DeltaDiscoveryRequest {
        node: Some(Node { id: "e".into(), ..Node::default() }),
        type_url,
        resource_names_subscribe: names.to_vec(),
        ..Default::default()
    };
    published.request(id, &request);
}

/// Acknowledges everything there is, of one type.
fn acknowledge(published: &Published, id: u64, responses: &[DeltaDiscoveryResponse]) {
    for response in responses {
        let request = DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            ..Default::default()
        };
        published.request(id, &request);
    }
}

fn settle(published: &Published) {
    sleep(SETTLE + Duration::from_millis(5));
    published.tick();
}

/// An Envoy that has all of an empty configuration.
fn joined(published: &Published) -> u64 {
    published.publish(&snapshot(Vec::new())).unwrap();
    let id = published.connect();
    ask(published, id, Cluster::type_url(), &[]);
    acknowledge(published, id, &published.responses(id));
    settle(published);
    id
}

#[test]
fn where_no_envoy_can_say_clusters_are_taken_for_known() {
    let published = published();
    published.publish(&snapshot(vec![deployment("g/a", None)])).unwrap();
    assert!(published.view().is_live("g/a") && published.view().all_live(7), "from the start");
    assert!(!published.ready(), "but nobody is ready by it");
    published.publish(&snapshot(vec![deployment("g/a", None), deployment("g/b", None)])).unwrap();
    assert!(published.view().is_live("g/a") && !published.view().is_live("g/b"), "what is new later");
    assert!(!published.view().all_live(7));
    let later = Instant::now() + ASSUME_AFTER + Duration::from_millis(1);
    published.refresh(&mut published.state.lock(), later);
    assert!(published.view().is_live("g/b") && published.view().all_live(7));
    // One that has its stream here knows better, from the moment that it has everything.
    let id = published.connect();
    ask(&published, id, Cluster::type_url(), &[]);
    assert!(published.view().is_live("g/a"));
    let responses = published.responses(id);
    acknowledge(&published, id, &responses);
    settle(&published);
    assert!(published.ready());
    published.publish(&snapshot(vec![deployment("g/a", None), deployment("g/c", None)])).unwrap();
    assert!(!published.view().is_live("g/c"), "not acknowledged");
}

#[test]
fn what_the_last_envoy_refused_is_not_taken_for_known() {
    let published = published();
    published.publish(&snapshot(vec![deployment("g/b", None)])).unwrap();
    let id = published.connect();
    ask(&published, id, Cluster::type_url(), &[]);
    for response in published.responses(id) {
        let error = Status { code: 13, message: "no".to_owned(), ..Default::default() };
        let refusal = DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            error_detail: Some(error),
            ..Default::default()
        };
        published.request(id, &refusal);
    }
    settle(&published);
    assert_eq!(published.status().rejected.into_keys().collect::<Vec<_>>(), ["g/b"]);
    published.disconnect(id);
    assert!(!published.view().is_live("g/b"));
    published.publish(&snapshot(vec![deployment("g/b", None)])).unwrap();
    assert!(published.view().is_live("g/b"), "a new configuration is a new chance");
}

#[test]
fn a_cluster_is_live_only_with_its_secret() {
    let published = published();
    let id = joined(&published);
    published.publish(&snapshot(vec![deployment("g/a", Some("k"))])).unwrap();
    acknowledge(&published, id, &published.responses(id));
    settle(&published);
    assert!(!published.view().is_live("g/a"), "without its secret the cluster still warms up");
    assert_eq!(published.status().waiting, ["g/a"]);
    ask(&published, id, Secret::type_url(), &["credential/g/a".into()]);
    let secrets = published.responses(id);
    assert_eq!(secrets[0].system_version_info, "7");
    acknowledge(&published, id, &secrets);
    assert!(!published.view().is_live("g/a"), "the workers follow a moment later");
    let before = published.view();
    assert!(!before.all_live(7));
    settle(&published);
    assert!(published.view().is_live("g/a") && published.ready());
    assert!(
        published.view().all_live(7) && !published.view().all_live(6),
        "only the generation that was published"
    );
    assert!(!before.is_live("g/a"), "a view is of its moment");
}

#[test]
fn nothing_is_ready_before_the_first_configuration() {
    let published = published();
    let id = published.connect();
    ask(&published, id, Cluster::type_url(), &[]);
    acknowledge(&published, id, &published.responses(id));
    settle(&published);
    assert!(!published.ready());
}

/// Ten thousand clusters are not compared each second with what every Envoy has.
#[test]
fn nobody_looks_again_where_nobody_says_anything() {
    let published = published();
    let calm = || {
        let state = published.state.lock();
        state.calm == Some(state.revision)
    };
    published.publish(&snapshot(vec![deployment("g/a", None)])).unwrap();
    let id = published.connect();
    ask(&published, id, Cluster::type_url(), &[]);
    published.tick();
    assert!(!calm(), "an Envoy lacks a cluster");
    let responses = published.responses(id);
    acknowledge(&published, id, &responses);
    published.tick();
    assert!(!calm(), "its workers follow in a moment");
    settle(&published);
    assert!(published.ready());
    settle(&published);
    assert!(published.responses(id).is_empty() && calm());
    assert_eq!(published.tick(), LOOK_EVERY);
    // Whoever says something is heard.
    let other = published.connect();
    assert!(!calm());
    ask(&published, other, Cluster::type_url(), &[]);
    assert_eq!(published.responses(other).len(), 1);
    published.publish(&snapshot(vec![deployment("g/b", None)])).unwrap();
    assert_eq!(published.responses(id).len(), 1);
    published.tick();
    assert!(!calm(), "g/a has to leave some time");
}

#[test]
fn versions_of_secrets_tell_nothing_about_them() {
    let version = |published: &Published| {
        published.publish(&snapshot(vec![deployment("g/a", Some("k"))])).unwrap();
        let state = published.state.lock();
        (state.clusters["g/a"].version.clone(), state.secrets["credential/g/a"].version.clone())
    };
    let (one, other) = (published(), published());
    let (first, second) = (version(&one), version(&other));
    assert_eq!(first.0, second.0, "a restart must not make Envoy replace its clusters");
    assert_ne!(first.1, second.1);
    assert_eq!(version(&one), first);
}

#[test]
fn refusals_are_logged_once() {
    let mut state = State::default();
    let nack = || Nack { name: "a".into(), version: "1".into(), message: "no".into() };
    state.log_nacks("one", vec![nack()]);
    state.log_nacks("two", vec![nack()]);
    assert_eq!(state.logged.len(), 1);
}

#[test]
fn closing_wakes_the_streams() {
    let published = published();
    let mut changes = published.changes();
    published.close();
    assert!(changes.has_changed().unwrap() && changes.borrow_and_update().closed);
}

#[tokio::test]
async fn a_cluster_without_its_token_is_not_planned_until_it_comes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("credentials");
    let profile = |name: &str| {
        let source = AwsSource::Profile { file: path.clone(), name: name.to_owned() };
        let source = Some(Arc::new(Source::Aws(source)));
        Deployment {
            credential: Some(Credential::Signed { region: "eu-west-1".into(), source }),
            ..deployment("g/aws", None)
        }
    };
    let keyring = Arc::new(Keyring::plain());
    let options =
        ClusterOptions { keys_dir: dir.path().join("aws"), ..ClusterOptions::new("/f.wasm".into()) };
    let published = Published::new(options).keyring(Arc::clone(&keyring));
    let aws = profile("default");
    let source = aws.credential.as_ref().and_then(Credential::source).cloned().unwrap();
    published.publish(&snapshot(vec![aws, deployment("g/plain", None)])).unwrap();
    let id = published.connect();
    ask(&published, id, Cluster::type_url(), &[]);
    acknowledge(&published, id, &published.responses(id));
    settle(&published);
    assert!(published.view().is_live("g/plain") && !published.view().is_live("g/aws"));
    assert!(published.ready() && !published.view().all_live(7), "the others go on");
    assert_eq!(published.status().lacking["g/aws"], "not asked for yet");

    std::fs::write(&path, "[default]\naws_access_key_id=A\naws_secret_access_key=s\n").unwrap();
    assert!(keyring.tend(&[source].into()).await);
    published.renew();
    acknowledge(&published, id, &published.responses(id));
    settle(&published);
    assert!(published.view().is_live("g/aws") && published.view().lacks("g/aws").is_none());
    assert!(published.view().all_live(7));
    published.renew();
    assert!(published.responses(id).is_empty(), "other keys are no other cluster");
    assert_eq!(std::fs::read_dir(dir.path().join("aws")).unwrap().count(), 1);
}

#[test]
fn where_clusters_are_fixed_those_of_the_start_are_live_without_an_envoy() {
    let dir = tempfile::tempdir().unwrap();
    let options = ClusterOptions {
        keys_dir: dir.path().join("aws"),
        fixed: true,
        ..ClusterOptions::new("/f.wasm".into())
    };
    let published = Published::new(options.clone()).retire_after(Duration::ZERO);
    assert!(!published.ready() && published.is_fixed());
    let keyed = |name, key| deployment(name, Some(key));
    published.publish(&snapshot(vec![keyed("g/a", "sk-1"), keyed("g/b", "sk-b")])).unwrap();
    assert!(published.ready() && published.view().all_live(7));
    let read = || std::fs::read_to_string(signing::secret_file("g/a", &options)).unwrap();
    assert!(read().contains("sk-1"));

    // One comes, one goes, one changes.
    let changed = Deployment { port: 444, ..deployment("g/a", Some("sk-2")) };
    published.publish(&snapshot(vec![changed, deployment("g/c", None)])).unwrap();
    let view = published.view();
    assert!(view.is_live("g/a"), "Envoy has it, as it was");
    assert!(!view.is_live("g/b") && !view.is_live("g/c") && !view.all_live(7));
    assert!(published.ready(), "it does not hold up the others");
    assert_eq!(published.status().waiting, ["g/c"]);
    assert!(read().contains("sk-2"));
    published.tick();
    assert!(signing::secret_file("g/b", &options).exists(), "Envoy would not start again without it");

    std::fs::remove_dir_all(dir.path().join("aws")).unwrap();
    std::fs::write(dir.path().join("aws"), "no folder").unwrap();
    published.renew();
    assert!(!published.view().is_live("g/a"), "nobody is asked without a credential");
    assert!(published.view().lacks("g/a").is_some());
}
