use envoy_types::pb::google::rpc::Status;

use super::*;

fn items(versions: &[(&str, &str)]) -> BTreeMap<String, Item> {
    let item = |version: &str| Item { version: version.to_owned(), body: Any::default(), retire_at: None };
    versions.iter().map(|(name, version)| ((*name).to_owned(), item(version))).collect()
}

fn subscribe(names: &[&str]) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        resource_names_subscribe: names.iter().map(|name| (*name).to_owned()).collect(),
        ..Default::default()
    }
}

fn reply(response: &DeltaDiscoveryResponse, refusal: Option<&str>) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        response_nonce: response.nonce.clone(),
        error_detail: refusal.map(|message| Status { message: message.to_owned(), ..Default::default() }),
        ..Default::default()
    }
}

/// One stream under test.
#[derive(Default)]
struct Stream(TypeState);

impl Stream {
    fn send(&mut self, request: &DeltaDiscoveryRequest) -> Vec<Nack> {
        self.0.request(request, Instant::now(), Instant::now())
    }

    fn receive(&mut self, items: &BTreeMap<String, Item>) -> Vec<DeltaDiscoveryResponse> {
        self.0.responses("type", items, true, Instant::now())
    }
}

fn names(response: &DeltaDiscoveryResponse) -> Vec<&str> {
    response.resources.iter().map(|resource| resource.name.as_str()).collect()
}

#[test]
fn nothing_is_sent_before_it_is_asked_for() {
    let mut stream = Stream::default();
    assert!(stream.receive(&items(&[("a", "1")])).is_empty());
}

#[test]
fn a_wildcard_gets_everything_once_and_then_only_what_changed() {
    let mut stream = Stream::default();
    stream.send(&subscribe(&[]));
    let first = stream.receive(&items(&[("a", "1"), ("b", "1")]));
    assert_eq!(names(&first[0]), ["a", "b"]);
    assert!(stream.receive(&items(&[("a", "1"), ("b", "1")])).is_empty());
    assert!(stream.0.acknowledged("a").is_none(), "sent is not acknowledged");
    stream.send(&reply(&first[0], None));
    assert!(stream.0.acknowledged("a").is_some() && stream.0.acknowledged("b").is_some());

    let second = stream.receive(&items(&[("a", "2"), ("b", "1")]));
    assert_eq!(names(&second[0]), ["a"]);
    assert!(stream.0.acknowledged("a").is_some(), "the old version serves until the new one does");
    let third = stream.receive(&items(&[("a", "2")]));
    assert_eq!(third[0].removed_resources, ["b"]);
    assert!(stream.0.acknowledged("b").is_none());
}

#[test]
fn an_empty_configuration_still_gets_an_answer() {
    let mut stream = Stream::default();
    stream.send(&subscribe(&["*"]));
    assert_eq!(stream.receive(&items(&[])).len(), 1);
    assert!(stream.receive(&items(&[])).is_empty());
}

#[test]
fn a_name_gets_its_resource_only_and_again_when_asked_again() {
    let mut stream = Stream::default();
    let all = items(&[("a", "1"), ("b", "1")]);
    stream.send(&subscribe(&["b"]));
    let first = stream.receive(&all);
    assert_eq!(names(&first[0]), ["b"]);
    stream.send(&reply(&first[0], None));
    stream.send(&subscribe(&["b"]));
    assert_eq!(names(&stream.receive(&all)[0]), ["b"]);
    let leave = DeltaDiscoveryRequest {
        resource_names_unsubscribe: vec!["b".into()],
        ..DeltaDiscoveryRequest::default()
    };
    stream.send(&leave);
    assert!(stream.0.acknowledged("b").is_none());
    assert!(stream.receive(&items(&[("b", "2")])).is_empty());
}

#[test]
fn a_reconnecting_envoy_keeps_what_it_has() {
    let mut stream = Stream::default();
    let mut hello = subscribe(&["*"]);
    hello.initial_resource_versions = [
        ("a".to_owned(), "1".to_owned()),
        ("b".to_owned(), "1".to_owned()),
        ("gone".to_owned(), "1".to_owned()),
    ]
    .into();
    stream.send(&hello);
    assert!(stream.0.acknowledged("a").is_some());
    let responses = stream.receive(&items(&[("a", "1"), ("b", "2")]));
    assert_eq!(responses.iter().flat_map(names).collect::<Vec<_>>(), ["b"]);
    assert_eq!(
        responses.iter().flat_map(|response| &response.removed_resources).collect::<Vec<_>>(),
        ["gone"]
    );
}

#[test]
fn a_refusal_of_several_is_narrowed_down_to_the_culprit() {
    let mut stream = Stream::default();
    let all = items(&[("a", "1"), ("bad", "1"), ("c", "1")]);
    stream.send(&subscribe(&["*"]));
    let batch = stream.receive(&all);
    assert_eq!(batch.len(), 1);
    assert!(stream.send(&reply(&batch[0], Some("no"))).is_empty(), "nobody knows yet which one");
    let singles = stream.receive(&all);
    assert_eq!(singles.iter().map(names).collect::<Vec<_>>(), [["a"], ["bad"], ["c"]]);
    stream.send(&reply(&singles[0], None));
    let nacks = stream.send(&reply(&singles[1], Some("bad header")));
    stream.send(&reply(&singles[2], None));
    assert_eq!(nacks, [Nack { name: "bad".into(), version: "1".into(), message: "bad header".into() }]);
    assert!(stream.0.is_rejected("bad") && stream.0.acknowledged("c").is_some());
    assert!(stream.receive(&all).is_empty(), "the same version is not sent again");
    assert!(stream.0.is_idle(&all));

    let repaired = items(&[("a", "1"), ("bad", "2"), ("c", "1")]);
    let again = stream.receive(&repaired);
    assert_eq!(names(&again[0]), ["bad"]);
    stream.send(&reply(&again[0], None));
    assert!(!stream.0.is_rejected("bad") && stream.0.acknowledged("bad").is_some());
}

#[test]
fn an_answer_to_something_superseded_refuses_nothing() {
    let mut stream = Stream::default();
    stream.send(&subscribe(&["*"]));
    let first = stream.receive(&items(&[("a", "1")]));
    let second = stream.receive(&items(&[("a", "2")]));
    assert!(stream.send(&reply(&first[0], Some("old"))).is_empty());
    stream.send(&reply(&second[0], None));
    assert!(!stream.0.is_rejected("a") && stream.0.acknowledged("a").is_some());
    assert!(stream.send(&reply(&second[0], Some("said twice"))).is_empty(), "a nonce is used once");
}

#[test]
fn large_configurations_go_in_parts() {
    let mut stream = Stream::default();
    let many: Vec<String> = (0..450).map(|number| format!("cluster-{number:03}")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|name| (name.as_str(), "1")).collect();
    stream.send(&subscribe(&["*"]));
    let sizes: Vec<_> =
        stream.receive(&items(&many)).iter().map(|response| response.resources.len()).collect();
    assert_eq!(sizes, [200, 200, 50]);
}
