//! Bootstrap and xDS against a real Envoy.

mod rig;

use std::sync::Arc;
use std::time::{Duration, Instant};

use attache::config::Secret;
use attache::credentials::{AwsKeys, AwsSource, Credential, Keyring, Source};
use attache::envoy::{BootstrapOptions, Jwks, ListenerTls, SidecarAddress, Tokens};
use attache::routing::{Deployment, LiveClusters};
use rig::{PLAN, Rig, Upstream, deployment, request, snapshot, testdata, until, validate, write_filter};

const LOCAL: &str = "127.0.0.1";

#[tokio::test(flavor = "multi_thread")]
async fn clusters_become_live_and_each_attempt_has_its_own_credential() {
    let (bad, good) = (Upstream::start(500).await, Upstream::start(200).await);
    let rig = Rig::new();
    let deployments =
        vec![deployment("g/a", LOCAL, bad.port(), "key-a"), deployment("g/b", LOCAL, good.port(), "key-b")];
    rig.published.publish(&snapshot(1, deployments)).unwrap();
    assert!(!rig.published.ready(), "no Envoy yet");
    assert!(rig.published.view().is_live("g/a"), "nobody can say that it is not");
    let envoy = rig.envoy();
    rig.wait_ready().await;
    assert!(
        rig.published.view().is_live("g/a")
            && rig.published.view().is_live("g/b")
            && !rig.published.view().is_live("g/c")
    );

    let answer = envoy.chat("g/a,g/b").await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "upstream 200 2"));
    assert_eq!(bad.last_authorization().as_deref(), Some("Bearer key-a"));
    assert_eq!(good.last_authorization().as_deref(), Some("Bearer key-b"));
    assert_eq!(rig.ext_proc.messages(), 1);
    let seen = good.seen().remove(0);
    for name in
        ["x-forwarded-for", "x-envoy-max-retries", "x-envoy-expected-rq-timeout-ms", "x-envoy-internal"]
    {
        assert!(!seen.contains_key(name), "{name} reached the provider: {seen:?}");
    }
    assert_eq!(answer.header("server"), Some("attache"));
    assert!(
        answer.header("x-request-id").is_some() && answer.header("x-envoy-upstream-service-time").is_none()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_secret_reaches_the_wire_and_no_log_or_dump() {
    let good = Upstream::start(200).await;
    let rig = Rig::new();
    rig.published.publish(&snapshot(1, vec![deployment("g/a", LOCAL, good.port(), "first-token")])).unwrap();
    let envoy = rig.envoy();
    rig.wait_ready().await;
    envoy.chat("g/a").await;
    assert_eq!(good.last_authorization().as_deref(), Some("Bearer first-token"));

    rig.published.publish(&snapshot(2, vec![deployment("g/a", LOCAL, good.port(), "second-token")])).unwrap();
    assert!(rig.published.view().is_live("g/a"), "a rotation must not interrupt");
    let start = Instant::now();
    loop {
        envoy.chat("g/a").await;
        if good.last_authorization().as_deref() == Some("Bearer second-token") {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(5), "the new secret did not arrive");
    }
    let dump = envoy.admin("/config_dump?include_eds").await;
    assert!(dump.contains("credential/g/a") && dump.contains("g/a"));
    for place in [dump, envoy.log()] {
        assert!(!place.contains("first-token") && !place.contains("second-token"));
    }
}

/// Envoy signs, with keys that change under load, and nobody sees their secret.
#[tokio::test(flavor = "multi_thread")]
async fn rotated_aws_keys_sign_from_the_next_request_on_and_are_in_no_dump() {
    let good = Upstream::start(200).await;
    let keyring = Arc::new(Keyring::plain());
    let keys = tempfile::tempdir().unwrap();
    let dir = keys.path().join("aws");
    let rig =
        Rig::with_options(|options| options.keys_dir = dir, |published| published.keyring(keyring.clone()));
    let signed = |id: &str| {
        let keys = AwsKeys {
            id: id.into(),
            secret: Secret::new(format!("secret-of-{id}")),
            session: Some(Secret::new("session")),
        };
        let source = Arc::new(Source::Aws(AwsSource::Keys(keys)));
        let credential = Credential::Signed { region: "eu-west-1".into(), source: Some(source.clone()) };
        let deployment =
            Deployment { credential: Some(credential), ..deployment("g/aws", LOCAL, good.port(), "") };
        (source, snapshot(1, vec![deployment]))
    };
    let (source, first) = signed("AKIAFIRST");
    rig.published.publish(&first).unwrap();
    let envoy = rig.envoy();
    rig.wait_ready().await;
    assert!(!rig.published.view().is_live("g/aws"), "its keys are not there yet");
    keyring.prepare([source], Duration::from_secs(1)).await;
    rig.published.renew();
    until("the cluster is live", || rig.published.view().is_live("g/aws")).await;
    assert_eq!(envoy.chat("g/aws").await.status, 200);
    let authorization = good.last_authorization().unwrap();
    assert!(authorization.starts_with("AWS4-HMAC-SHA256 Credential=AKIAFIRST/"), "{authorization}");
    assert!(authorization.contains("/eu-west-1/bedrock/aws4_request"), "{authorization}");
    assert!(!authorization.contains("x-envoy") && !authorization.contains("x-request-id"), "{authorization}");

    let (source, second) = signed("AKIASECOND");
    keyring.prepare([source], Duration::from_secs(1)).await;
    rig.published.publish(&second).unwrap();
    let start = Instant::now();
    loop {
        assert_eq!(envoy.chat("g/aws").await.status, 200, "a rotation must not interrupt");
        if good.last_authorization().unwrap().contains("Credential=AKIASECOND/") {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(5), "the new keys did not arrive");
    }
    let dump = envoy.admin("/config_dump").await;
    assert!(dump.contains("g/aws"));
    for place in [dump, envoy.log()] {
        assert!(!place.contains("secret-of-") && !place.contains("AKIA"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_cluster_is_not_live_and_does_not_hold_up_the_others() {
    let good = Upstream::start(200).await;
    let rig = Rig::new();
    let mut broken = deployment("g/broken", LOCAL, 1, "key");
    broken.credential = Some(Credential::Header("no\nheader".into(), Secret::new("x")));
    let deployments = vec![deployment("g/a", LOCAL, good.port(), "key-a"), broken];
    rig.published.publish(&snapshot(1, deployments)).unwrap();
    let envoy = rig.envoy();
    rig.wait_ready().await;
    assert!(rig.published.view().is_live("g/a") && !rig.published.view().is_live("g/broken"));
    let status = rig.published.status();
    assert_eq!((status.streams, status.live), (1, 1));
    assert_eq!(status.rejected.keys().collect::<Vec<_>>(), ["g/broken"], "{status:?}");
    assert!(status.waiting.is_empty());
    assert_eq!(envoy.chat("g/a").await.status, 200);

    // Repaired, it becomes live.
    let deployments = vec![
        deployment("g/a", LOCAL, good.port(), "key-a"),
        deployment("g/broken", LOCAL, good.port(), "key"),
    ];
    rig.published.publish(&snapshot(2, deployments)).unwrap();
    until("the repaired cluster", || rig.published.view().is_live("g/broken")).await;
    assert!(rig.published.status().rejected.is_empty());
    assert_eq!(envoy.chat("g/broken").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_cluster_leaves_plans_at_once_and_envoy_later() {
    let good = Upstream::start(200).await;
    let rig = Rig::with(|published| published.retire_after(Duration::from_millis(500)));
    let both =
        || vec![deployment("g/a", LOCAL, good.port(), "a"), deployment("g/b", LOCAL, good.port(), "b")];
    rig.published.publish(&snapshot(1, both())).unwrap();
    let envoy = rig.envoy();
    rig.wait_ready().await;
    rig.published.publish(&snapshot(2, both().into_iter().take(1).collect())).unwrap();
    assert!(rig.published.view().is_live("g/a") && !rig.published.view().is_live("g/b"));
    assert!(rig.published.ready());
    assert_eq!(envoy.chat("g/b").await.status, 200, "a plan made before must still work");
    let start = Instant::now();
    while envoy.admin("/clusters").await.contains("g/b::") {
        assert!(start.elapsed() < Duration::from_secs(10), "the cluster stays");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(envoy.admin("/clusters").await.contains("g/a::"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_does_not_resolve_costs_one_attempt_only() {
    let good = Upstream::start(200).await;
    let rig = Rig::new();
    let deployments = vec![
        deployment("g/nowhere", "nowhere.invalid", 80, "n"),
        deployment("g/dead", LOCAL, 1, "d"),
        deployment("g/named", "localhost", good.port(), "l"),
    ];
    rig.published.publish(&snapshot(1, deployments)).unwrap();
    let envoy = rig.envoy();
    rig.wait_ready().await;
    let answer = envoy.chat("g/nowhere,g/dead,g/named").await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "upstream 200 2"));
    assert_eq!(good.last_authorization().as_deref(), Some("Bearer l"));
    let (code, _, message) = envoy.chat("g/nowhere,g/dead").await.error();
    assert_eq!(code, "503");
    assert!(message.contains("provider"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_live_when_all_envoys_have_it() {
    let good = Upstream::start(200).await;
    let rig = Rig::new();
    rig.published.publish(&snapshot(1, vec![deployment("g/a", LOCAL, good.port(), "a")])).unwrap();
    let first = rig.envoy();
    rig.wait_ready().await;
    let second = rig.envoy();
    until("two Envoys", || {
        assert!(rig.published.view().is_live("g/a"), "a new Envoy must not take the others' clusters away");
        rig.published.status().streams == 2
    })
    .await;
    second.wait_listening().await;
    rig.published
        .publish(&snapshot(
            2,
            vec![deployment("g/a", LOCAL, good.port(), "a"), deployment("g/b", LOCAL, good.port(), "b")],
        ))
        .unwrap();
    assert!(!rig.published.view().is_live("g/b"));
    until("the new cluster", || rig.published.view().is_live("g/b")).await;
    for envoy in [&first, &second] {
        assert_eq!(envoy.chat("g/b").await.status, 200);
    }
    drop(first);
    until("one Envoy", || rig.published.status().streams == 1).await;
    assert!(rig.published.view().is_live("g/b"));
    drop(second);
    until("no Envoy", || rig.published.status().streams == 0).await;
    assert!(!rig.published.view().is_live("g/b") && !rig.published.ready());
}

#[tokio::test(flavor = "multi_thread")]
async fn envoys_own_words_have_openais_shape_and_others_are_left_alone() {
    let good = Upstream::start(200).await;
    let rig = Rig::new();
    rig.published.publish(&snapshot(1, vec![deployment("g/a", LOCAL, good.port(), "a")])).unwrap();
    let envoy = rig.envoy_with(|options| options.gate.max_body_bytes = 3_000_000);
    rig.wait_ready().await;
    envoy.wait_listening().await;

    for (path, status) in
        [("/internal/v1/usage", 404), ("/v1/../internal/v1/usage", 404), ("//internal", 503)]
    {
        let answer = request(envoy.public, "POST", path, &[], b"{}").await;
        let (code, _, message) = answer.error();
        assert_eq!((answer.status, code), (status, status.to_string()), "{path}");
        assert!(message.contains(answer.header("x-request-id").unwrap()), "{message}");
    }
    let no_plan = envoy.chat("").await;
    assert_eq!((no_plan.status, no_plan.error().1.as_str()), (503, "internal_server_error"));
    assert_eq!(no_plan.header("retry-after"), Some("1"));
    let unknown = envoy.chat("g/unknown").await;
    assert_eq!((unknown.status, unknown.error().0.as_str()), (503, "503"));

    let refusal = request(envoy.public, "POST", "/v1/chat/completions", &[(PLAN, "refuse:429")], b"{}").await;
    assert_eq!((refusal.status, refusal.text().as_str()), (429, r#"{"error":"the sidecar's own words"}"#));
    assert_eq!(refusal.header("content-type"), Some("application/json"));
    let marked = request(envoy.public, "GET", "/internal", &[("x-attache-reply", "1")], b"").await;
    assert_eq!((marked.status, marked.text().as_str()), (404, ""), "a marked reply stays as it is");
    assert_eq!(good.seen().len(), 0);

    let whole = vec![b'x'; 3_000_000];
    let answer = request(envoy.public, "POST", "/v1/chat/completions", &[(PLAN, "g/a")], &whole).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "upstream 200 3000000"));
    let beyond = vec![b'x'; 3_000_001];
    let answer = request(envoy.public, "POST", "/v1/chat/completions", &[(PLAN, "g/a")], &beyond).await;
    assert_eq!((answer.status, answer.error().1.as_str()), (413, "invalid_request_error"));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_sidecar_the_answer_is_503_and_its_return_is_noticed() {
    let good = Upstream::start(200).await;
    let mut rig = Rig::new();
    rig.published.publish(&snapshot(1, vec![deployment("g/a", LOCAL, good.port(), "a")])).unwrap();
    let envoy = rig.envoy();
    rig.wait_ready().await;
    assert_eq!(envoy.chat("g/a").await.status, 200);
    rig.crash();
    until("the stream's end", || rig.published.status().streams == 0).await;
    let answer = envoy.chat("g/a").await;
    assert_eq!((answer.status, answer.error().0.as_str()), (503, "503"));
    assert_eq!(answer.header("retry-after"), Some("1"));
    tokio::time::sleep(Duration::from_secs(2)).await;

    rig.serve();
    let start = Instant::now();
    rig.wait_ready().await;
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    while envoy.chat("g/a").await.status != 200 {
        assert!(start.elapsed() < Duration::from_secs(2));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_starts_before_the_sidecar_has_a_configuration() {
    let good = Upstream::start(200).await;
    let rig = Rig::new();
    let envoy = rig.envoy();
    until("an Envoy", || rig.published.status().streams == 1).await;
    envoy.wait_listening().await;
    assert!(!rig.published.ready());
    assert_eq!(envoy.chat("g/a").await.status, 503);
    rig.published.publish(&snapshot(1, vec![deployment("g/a", LOCAL, good.port(), "a")])).unwrap();
    rig.wait_ready().await;
    assert_eq!(envoy.chat("g/a").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn access_log_is_one_json_line_without_secrets() {
    let good = Upstream::start(200).await;
    let rig = Rig::new();
    rig.published.publish(&snapshot(1, vec![deployment("g/a", LOCAL, good.port(), "a")])).unwrap();
    let envoy = rig.envoy();
    rig.wait_ready().await;
    let headers = [(PLAN, "g/a"), ("authorization", "Bearer sk-very-secret")];
    let path = "/v1/chat/completions?key=sk-very-secret";
    assert_eq!(request(envoy.public, "POST", path, &headers, b"{}").await.status, 200);
    request(envoy.public, "POST", "/key/sk-very-secret/regenerate?key=sk-very-secret", &headers, b"{}").await;
    let lines = || -> Vec<serde_json::Value> {
        envoy.log().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    };
    // Envoy flushes access logs every second at the latest.
    until("two lines", || lines().len() == 2).await;
    assert!(!envoy.log().contains("very-secret"));
    let line = &lines()[0];
    assert_eq!((&line["path"], &line["status"]), (&"/v1/chat/completions".into(), &200.into()), "{line}");
    assert_eq!((&line["cluster"], &line["attempts"]), (&"g/a".into(), &1.into()), "{line}");
    assert_eq!(lines()[1]["route"], "admin");
}

#[tokio::test(flavor = "multi_thread")]
async fn providers_are_reached_with_http2_over_tls_and_their_names_are_checked() {
    let good = Upstream::start_tls(200).await;
    let rig = Rig::with_options(|options| options.ca_file = testdata("ca.pem"), |published| published);
    let tls = |id, host| {
        let mut deployment = deployment(id, host, good.port(), "t");
        deployment.tls = true;
        deployment
    };
    // The certificate is for localhost.
    rig.published.publish(&snapshot(1, vec![tls("g/right", "localhost"), tls("g/wrong", LOCAL)])).unwrap();
    let envoy = rig.envoy();
    rig.wait_ready().await;
    let answer = envoy.chat("g/wrong,g/right").await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "upstream 200 2"));
    assert_eq!(good.seen().len(), 1, "no request with a credential before the name is checked");
    assert_eq!(good.seen()[0]["test-http-version"], "HTTP/2.0");
}

#[test]
fn every_variant_of_the_bootstrap_is_valid_to_envoy() {
    let dir = tempfile::tempdir().unwrap();
    let (ca, cert, key) = (testdata("ca.pem"), testdata("server.pem"), testdata("server.key"));
    let unix = SidecarAddress::Unix(dir.path().join("attache.sock"));
    let tcp = |host: &str| SidecarAddress::Tcp {
        host: host.into(),
        port: 4443,
        ca: ca.clone(),
        cert: testdata("client.pem"),
        key: testdata("client.key"),
    };
    // The public key of RFC 7517's example.
    let keys = dir.path().join("jwks.json");
    let jwk = r#"{"keys":[{"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
        "y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM","use":"sig","kid":"1"}]}"#;
    std::fs::write(&keys, jwk).unwrap();
    for (number, sidecar) in [unix, tcp("sidecar.internal"), tcp("10.0.0.1")].into_iter().enumerate() {
        let mut options = BootstrapOptions::new(sidecar, write_filter(dir.path()));
        options.access_log = number == 0;
        let client_ca = (number == 2).then(|| ca.clone());
        options.tls = (number > 0).then(|| ListenerTls {
            cert: cert.clone(),
            key: key.clone(),
            client_ca,
            client_optional: false,
            http3: (number == 2).then_some(443),
        });
        options.gate.trust_xfcc = number == 1;
        let url = |url: &str| Jwks::Url { url: url.into(), ca: ca.clone() };
        let jwks = match number {
            0 => Jwks::File(keys.clone()),
            1 => url("https://id.example/keys"),
            _ => url("http://127.0.0.1:81/keys"),
        };
        let audiences = vec!["attache".to_owned(); number];
        options.tokens = Some(Tokens { issuer: "https://id.example".into(), audiences, jwks });
        validate(dir.path(), &options);
    }
}
