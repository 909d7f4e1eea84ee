//! HTTP/1.1 and HTTP/2, with and without TLS.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::Version;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use super::{load, server};

/// `openssl req -x509` for localhost and 127.0.0.1.
const CERTIFICATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/load/testdata/server.pem");
const KEY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/load/testdata/server.key");

#[test]
fn many_requests_share_a_few_http2_connections() {
    let (active, peak) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let most = peak.clone();
    let address = server::start_async(move |request| {
        let (active, peak) = (active.clone(), peak.clone());
        async move {
            assert_eq!(request.version(), Version::HTTP_2);
            assert_eq!(request.headers()["authorization"], "Bearer sk-load");
            peak.fetch_max(active.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(20)).await;
            active.fetch_sub(1, Ordering::SeqCst);
            server::json(200)
        }
    });
    let options = ["--http", "2", "--concurrency", "20", "--connections", "2", "--seconds", "0.5"];
    let report = load(address, &options);
    assert_eq!((&report["connects"], &report["errors"]), (&2.into(), &0.into()), "{report}");
    assert!(report["requests"].as_u64() > Some(100), "{report}");
    assert_eq!(most.load(Ordering::SeqCst), 20, "not all were in progress at a time");
}

#[test]
fn large_bodies_go_through() {
    for http in ["1", "2"] {
        let address = server::start(|request| {
            let length: usize = request.headers()["content-length"].to_str().unwrap().parse().unwrap();
            server::json(if length == 3_000_000 { 200 } else { 400 })
        });
        let report = load(
            address,
            &["--http", http, "--body-bytes", "3000000", "--requests", "10", "--concurrency", "2"],
        );
        assert_eq!((&report["requests"], &report["errors"]), (&10.into(), &0.into()), "{report}");
    }
}

fn with_tls() -> SocketAddr {
    let certificates = CertificateDer::pem_file_iter(CERTIFICATE).unwrap().map(Result::unwrap).collect();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(certificates, PrivateKeyDer::from_pem_file(KEY).unwrap())
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    server::serve(Some(acceptor), |request| {
        let version = request.headers()["x-wanted"].to_str().unwrap().to_owned();
        assert_eq!(format!("{:?}", request.version()), version);
        std::future::ready(server::json(200))
    })
}

#[test]
fn tls_carries_both_versions() {
    let address = with_tls();
    for (http, version) in [("1", "x-wanted: HTTP/1.1"), ("2", "x-wanted: HTTP/2.0")] {
        let options =
            ["--tls", "--cacert", CERTIFICATE, "--http", http, "--header", version, "--requests", "50"];
        let report = load(address, &options);
        assert_eq!((&report["requests"], &report["errors"]), (&50.into(), &0.into()), "{report}");
    }
}

#[test]
fn a_certificate_that_nobody_trusts_is_no_connection() {
    let options = ["--tls", "--header", "x-wanted: HTTP/1.1", "--requests", "5", "--concurrency", "1"];
    // A machine without any certificates says so instead.
    let target = with_tls().to_string();
    let args = [&["load", "--target", &target, "--warm-up", "0"], &options[..]].concat();
    let Ok(plan) = <super::Args as clap::Parser>::try_parse_from(args).unwrap().plan() else { return };
    let report = super::run(plan).unwrap();
    assert_eq!((&report["requests"], &report["failures"]["connect"]), (&0.into(), &5.into()), "{report}");
}
