//! Mutual TLS over TCP.

use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;

use crate::server::{connections::Connections, serve::TlsOptions, tls};

fn testdata(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/server/testdata").join(name)
}

/// TLS client that trusts the test CA, with or without a certificate of its own.
fn connector(certificate: bool) -> tokio_rustls::TlsConnector {
    let read = |name: &str| std::io::BufReader::new(std::fs::File::open(testdata(name)).unwrap());
    let certs = |name: &str| rustls_pemfile::certs(&mut read(name)).collect::<Result<Vec<_>, _>>().unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certs("ca.pem").remove(0)).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match certificate {
        true => {
            let key = rustls_pemfile::private_key(&mut read("client.key")).unwrap().unwrap();
            builder.with_client_auth_cert(certs("client.pem"), key).unwrap()
        }
        false => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    tokio_rustls::TlsConnector::from(Arc::new(config))
}

#[tokio::test]
async fn tcp_asks_for_a_client_certificate() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    let options = TlsOptions {
        listen: ([127, 0, 0, 1], 0).into(),
        cert: testdata("server.pem"),
        key: testdata("server.key"),
        client_ca: testdata("ca.pem"),
    };
    let listener = TcpListener::bind(options.listen).await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().route("/", axum::routing::get(async || "in"));
    let connections = Connections::new();
    let acceptor = tls::Acceptor::new(&options).unwrap();
    let serving = tokio::spawn(connections.clone().serve_tcp(listener, Some(acceptor), router));
    let get = async |certificate: bool| -> std::io::Result<String> {
        let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
        let mut tls = connector(certificate).connect(name, TcpStream::connect(address).await?).await?;
        tls.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await?;
        let mut text = String::new();
        tls.read_to_string(&mut text).await?;
        Ok(text)
    };
    assert!(get(true).await.unwrap().ends_with("in"));
    assert!(get(false).await.is_err(), "a client without a certificate was let in");
    connections.stop.cancel();
    serving.await.unwrap();
}

#[tokio::test]
async fn new_files_are_taken_when_they_fit_together() {
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, from: &str| std::fs::copy(testdata(from), dir.path().join(name)).unwrap();
    put("tls.crt", "server.pem");
    put("tls.key", "server.key");
    let options = TlsOptions {
        listen: ([127, 0, 0, 1], 0).into(),
        cert: dir.path().join("tls.crt"),
        key: dir.path().join("tls.key"),
        client_ca: testdata("ca.pem"),
    };
    let acceptor = tls::Acceptor::new(&options).unwrap();
    let first = Arc::clone(acceptor.current().config());
    let is_first = || Arc::ptr_eq(&first, acceptor.current().config());
    let following = tokio::spawn(acceptor.clone().follow());
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    put("tls.crt", "client.pem");
    tokio::time::sleep(std::time::Duration::from_millis(1_500)).await;
    assert!(is_first(), "another's key is not taken");
    put("tls.key", "client.key");
    for _ in 0..100 {
        if !is_first() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert!(!is_first(), "certificate and key are new");
    following.abort();
}
