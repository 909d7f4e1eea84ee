//! The end of a plan: 307, whatever the body.

use std::convert::Infallible;

use attache_llm::contract::REPLAN_PATH;
use http_body_util::StreamBody;
use hyper::body::Frame;
use hyper_util::rt::TokioExecutor;

use super::*;

async fn h2(
    server: &Server,
) -> hyper::client::conn::http2::SendRequest<http_body_util::combinators::BoxBody<Bytes, Infallible>> {
    let stream = TokioIo::new(UnixStream::connect(&server.socket).await.unwrap());
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection);
    sender
}

#[tokio::test]
async fn a_large_body_neither_delays_nor_breaks_it() {
    let server = Server::start().await;
    let mut sender = h2(&server).await;
    let body = Bytes::from(vec![b'x'; 4 * 1024 * 1024]);
    // More often than the connection's flow control window has room for: nothing may leak.
    for method in ["POST", "POST", "PUT", "POST", "POST", "POST"] {
        let request = http::Request::builder().method(method).uri(format!("http://attache{REPLAN_PATH}"));
        let request = request.body(Full::new(body.clone()).boxed()).unwrap();
        let response = tokio::time::timeout(Duration::from_secs(10), sender.send_request(request)).await;
        let response = response.expect("an answer").unwrap();
        assert_eq!(response.status(), 307);
        assert!(response.into_body().collect().await.unwrap().to_bytes().is_empty());
    }
    let (status, _) = server.post(REPLAN_PATH, body).await;
    assert_eq!(status, 307, "over HTTP/1.1 too");
}

#[tokio::test]
async fn it_does_not_wait_for_a_body_that_never_ends() {
    let server = Server::start().await;
    let mut sender = h2(&server).await;
    let chunk = futures_util::stream::iter([Ok(Frame::data(Bytes::from_static(b"x")))]);
    let endless = futures_util::StreamExt::chain(chunk, futures_util::stream::pending());
    let request = http::Request::post(format!("http://attache{REPLAN_PATH}"));
    let request = request.body(StreamBody::new(endless).boxed()).unwrap();
    let response = tokio::time::timeout(Duration::from_secs(10), sender.send_request(request)).await;
    assert_eq!(response.expect("an answer").unwrap().status(), 307);
}
