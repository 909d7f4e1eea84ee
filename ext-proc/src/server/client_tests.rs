use std::io::Write;

use axum::Router;
use axum::extract::Request;
use axum::routing::get;
use tokio::net::TcpListener;

use super::*;

const PATIENCE: Duration = Duration::from_secs(5);

async fn serve(router: Router) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(super::super::connections::Connections::new().serve_tcp(listener, None, router));
    port
}

fn testdata(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/server/testdata").join(name)
}

#[tokio::test]
async fn it_asks_with_its_headers_and_reads_no_more_than_the_limit() {
    let echo = |request: Request| async move {
        let header = |name: &str| request.headers()[name].to_str().unwrap().to_owned();
        format!("{} {} {}", request.uri(), header("host"), header("x-key"))
    };
    let port = serve(Router::new().route("/base/models", get(echo))).await;
    let target = Target::below(&format!("http://127.0.0.1:{port}/base/"), "/models?a=b").unwrap();
    let mut headers = HeaderMap::new();
    headers.insert("x-key", "secret".parse().unwrap());
    let client = Client::without_tls();
    let (status, body) = client.get(&target, headers.clone(), 1_000, PATIENCE).await.unwrap();
    let expected = format!("/base/models?a=b 127.0.0.1:{port} secret");
    assert_eq!((status.as_u16(), body.unwrap()), (200, Bytes::from(expected)));
    let (status, body) = client.get(&target, headers, 10, PATIENCE).await.unwrap();
    assert_eq!((status.as_u16(), body), (200, None));
}

#[tokio::test]
async fn failures_are_told_apart() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let client = Client::without_tls();
    let ask = async |url: String| {
        let target = Target::below(&url, "/").unwrap();
        client.get(&target, HeaderMap::new(), 10, Duration::from_millis(300)).await.unwrap_err()
    };
    assert!(matches!(ask(format!("http://127.0.0.1:{free}")).await, ClientError::Connect(_)));
    // Accepts and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    assert!(matches!(ask(format!("http://127.0.0.1:{port}")).await, ClientError::Timeout(_)));
    assert!(matches!(ask(format!("https://127.0.0.1:{port}")).await, ClientError::Tls(_)));
    std::thread::spawn(move || {
        for stream in silent.incoming().flatten() {
            let _ = { stream }.write_all(b"nonsense\r\n\r\n");
        }
    });
    assert!(matches!(ask(format!("http://127.0.0.1:{port}")).await, ClientError::Http(_)));
}

#[test]
fn a_bundle_is_read_or_refused() {
    assert!(Client::new(&testdata("ca.pem")).is_ok());
    assert!(Client::new(&testdata("server.key")).is_err());
    assert!(Client::new(Path::new("/nowhere")).is_err());
    let tls = Target::below("https://a.test", "").unwrap();
    assert!(!Client::without_tls().reaches(&tls) && Client::new(&testdata("ca.pem")).unwrap().reaches(&tls));
}
